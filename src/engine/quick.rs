//! A run with nothing to do, found out from the snapshot of the last one: no pipeline is read, no key is made. Every place
//! that any stage rests on is looked at, so what it says is as true as what a whole run says; it is only said sooner.
//! Anything out of the ordinary (a change, a damaged log, leftovers of a killed run) is left to the whole run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use crate::compiled::{Reading, write_sealed};
use crate::digest::Digest;
use crate::engine::{RunOptions, RunSummary};
use crate::error::EngineError;
use crate::event::{Event, Sink};
use crate::failpoint;
use crate::history::RunInfo;
use crate::index::{self, Covered};
use crate::lockfile::{LockFile, Top};
use crate::project::{ProjectLock, host, run_id};
use crate::runlog::{self, Entry, RunEntry, Writer};
use crate::runmap;
use crate::shell;
use crate::sign;
use crate::snapshot::Snapshot;
use crate::sources::Places;
use crate::spec::{Link, OpenLineage};
use crate::statcache::clock;
use crate::store::Store;

/// When the log has grown by more than this since the snapshot, a whole run makes a new one.
const MOST_BEHIND: u64 = 256 << 10;

/// What came of the attempt.
pub enum Quick<'b> {
    /// Everything is fresh, and the run is recorded.
    Done(Box<RunSummary>),
    /// A whole run must follow; what was looked at already is handed to it.
    Whole(Option<Box<Glance<'b>>>),
}

/// The snapshot and which of its places are as they were.
pub struct Glance<'b> {
    /// The snapshot.
    pub(crate) snapshot: Snapshot<'b>,
    /// By place.
    pub(crate) same: Vec<bool>,
    /// The lock under which they were looked at: what another run changed in between would not be seen.
    pub(crate) lock: Option<ProjectLock>,
}

/// Reads the snapshot of the last run, for [`run`]; nothing if there is none.
pub fn snapshot_of(reading: &Reading<'_>) -> Vec<u8> {
    reading.kept(&reading.project.cache(), "fresh").and_then(|file| fs::read(file).ok()).unwrap_or_default()
}

/// Returns where the run of a snapshot is told to.
pub fn told_to(snapshot: &[u8]) -> Option<OpenLineage> {
    serde_json::from_str(Snapshot::parse(snapshot)?.openlineage?).ok()
}

/// Does a run in which everything is fresh by the snapshot, if that is so.
///
/// # Errors
/// Another run holds the lock; the log or the lock file is not writable.
pub fn run<'b>(
    snapshot: &'b [u8],
    reading: &Reading<'_>,
    options: &RunOptions,
    sink: &dyn Sink,
) -> Result<Quick<'b>, EngineError> {
    let plain = RunOptions { jobs: options.jobs, keep_going: options.keep_going, ..RunOptions::default() };
    if *options != plain {
        return Ok(Quick::Whole(None));
    }
    let began = Instant::now();
    let started = now();
    let Some(mut snapshot) = Snapshot::parse(snapshot) else { return Ok(Quick::Whole(None)) };
    let Some(map) = snapshot.map.map(Digest::from) else { return Ok(Quick::Whole(None)) };
    let variables =
        || snapshot.lookups.iter().all(|(name, value)| reading.variable(name).map(|v| *v.as_bytes()) == *value);
    if snapshot.identity != *reading.identity().as_bytes() || !variables() {
        return Ok(Quick::Whole(None));
    }
    let (root, cache) = (reading.project.root(), reading.project.cache());
    let lock = ProjectLock::take(&cache)?;
    let Some(covered) = at_the_end_of_the_log(&cache, snapshot.covered()) else { return Ok(Quick::Whole(None)) };
    let lock_path = LockFile::path_for(reading.project.file());
    let Some(top) = Top::read(&lock_path) else { return Ok(Quick::Whole(None)) };
    // Without a profile the lock file knows the last line of the log.
    let owns_lock = reading.profile.is_none();
    if *top.blocks.as_bytes() != snapshot.blocks
        || (owns_lock && top.log.is_none_or(|(_, head)| head != covered.head))
        || leftovers(&cache)
    {
        return Ok(Quick::Whole(None));
    }
    // A run must not name a map that is not there.
    let store = Store::new(&cache, &cache.join("tmp"), Link::Auto);
    if !runmap::objects(&map, &store).is_ok_and(|all| all.iter().all(|object| store.path(object).is_file())) {
        return Ok(Quick::Whole(None));
    }
    let places = Places::new_in(root, snapshot.roots().collect());
    let same = snapshot.look(&places, clock(&cache).unwrap_or(0));
    if same.contains(&false) {
        return Ok(Quick::Whole(Some(Box::new(Glance { snapshot, same, lock: Some(lock) }))));
    }
    if !same_tools(&snapshot, reading, root) {
        return Ok(Quick::Whole(None));
    }
    let signer = sign::configured(root, reading.env, snapshot.sign)?;
    let (mut writer, torn) = Writer::open(&cache, covered.head, covered.len)?;
    if torn.is_some() {
        return Ok(Quick::Whole(None));
    }
    let (signer, warning) = signer.map_or((None, None), |(signer, warning)| (Some(signer), warning));
    writer.sign_with(signer);
    let run = run_id(&covered.head);
    let count = snapshot.actions().count();
    let jobs = crate::engine::threads(options.jobs);
    let pipeline = reading.project.file_name();
    sink.event(&Event::RunStarted { run: run.clone(), pipeline: pipeline.clone(), stages: count, jobs });
    warning.into_iter().for_each(|text| sink.event(&Event::Warning { text }));
    for unit in snapshot.actions() {
        sink.event(&Event::fresh(unit.name, Digest::from(unit.key)));
    }
    let info = RunInfo {
        run,
        started,
        finished: now(),
        seconds: began.elapsed().as_secs_f64(),
        pipeline,
        profile: reading.profile.map(str::to_owned),
        fresh: count,
        ..RunInfo::default()
    };
    let (host, platform) = host();
    let roots = snapshot.roots().map(|(name, place)| (name, place.to_string_lossy().into_owned()));
    let entry = RunEntry {
        info: info.clone(),
        map,
        roots: roots.collect::<BTreeMap<_, _>>(),
        host: format!("{host} ({platform})"),
        damage: Vec::new(),
        signature: None,
    };
    writer.append(&Entry::Run(Box::new(entry)))?;
    // The lock file must not know a line that a power cut could take.
    writer.sync()?;
    failpoint::hit("quick_synced");
    let Covered { len: last, lines, .. } = covered;
    let reached = Covered { len: writer.len(), lines: lines + 1, last, head: writer.head() };
    index::note_head(&cache, &reached)?;
    failpoint::hit("quick_noted");
    if owns_lock {
        top.set_head(&lock_path, &writer.head())?;
    }
    failpoint::hit("quick_done");
    if snapshot.renewed()
        && let (Some(file), Ok(bytes)) = (reading.kept(&cache, "fresh"), snapshot.encoded())
    {
        // Without it the next start reads those files once more.
        let _ = write_sealed(&file, bytes);
    }
    let RunInfo { run, executed, restored, fresh, failed, skipped, seconds, .. } = info.clone();
    sink.event(&Event::RunFinished { run, executed, restored, fresh, failed, skipped, seconds });
    Ok(Quick::Done(Box::new(RunSummary { info, internal: false, environment: false })))
}

fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// Follows the chain from where the snapshot saw the log to its end; `None` if it does not fit or is long.
fn at_the_end_of_the_log(cache: &Path, covered: Covered) -> Option<Covered> {
    let len = fs::metadata(runlog::path_in(cache)).ok()?.len();
    if len < covered.len || len - covered.len > MOST_BEHIND || !runlog::ends_with(cache, &covered) {
        return None;
    }
    let mut at = covered;
    for line in runlog::lines(cache, covered.len).ok()? {
        let line = line.ok()?;
        if runlog::prev_of(&line.bytes)? != at.head {
            return None;
        }
        let len = line.offset + line.bytes.len() as u64 + 1;
        at = Covered { len, lines: at.lines + 1, last: line.offset, head: line.digest() };
    }
    (at.len == len).then_some(at)
}

/// Whether a killed run left something to be removed.
fn leftovers(cache: &Path) -> bool {
    fs::read_dir(cache.join("tmp")).is_ok_and(|mut entries| entries.next().is_some())
}

fn same_tools(snapshot: &Snapshot<'_>, reading: &Reading<'_>, root: &Path) -> bool {
    let path = reading.env.get("PATH").map(String::as_str);
    snapshot.tools.iter().all(|(tool, then)| shell::output_of(tool, root, root, path).is_ok_and(|now| now == *then))
}
