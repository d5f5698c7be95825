//! Takes out of the store what nothing reaches any more.
//!
//! Kept are the objects that are reached from: the lock files of the project, whatever lies at the path of a recorded
//! output now, and the last runs of each pipeline that executed or restored something (runs that did nothing in between
//! do not count). The run log is never touched, and the stage maps of all runs and the manifests of all directories stay:
//! history, lineage and the digests of every artifact ever made can still be asked for, only old contents are gone.
//!
//! What goes is written to `cache/collected` first (a line with time and settings, then a digest a line), so that a
//! later restore can say that it was removed here, and when. Then the action index is rewritten without the results
//! that need what goes, then objects and logs are removed. A kill anywhere in between leaves objects that the next `gc`
//! removes, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::failpoint;
use crate::history::OutputRecord;
use crate::index::{ActionResult, Index};
use crate::leftovers;
use crate::lockfile::LockFile;
use crate::manifest::FileFact;
use crate::project::ProjectLock;
use crate::publish::files_below;
use crate::records::History;
use crate::runlog::{self, ActionEntry, Entry, RunEntry};
use crate::runmap;
use crate::snapshot::Snapshot;
use crate::statcache::StatCache;

/// What to collect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GcOptions {
    /// How many runs of each pipeline stay restorable.
    pub keep_runs: usize,
    /// Removes; otherwise only says what would go.
    pub delete: bool,
}

impl Default for GcOptions {
    fn default() -> Self {
        Self { keep_runs: 10, delete: false }
    }
}

/// What went, or would go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcReport {
    /// Nothing was removed: this is what would be.
    pub dry_run: bool,
    /// Objects that go.
    pub objects: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that stay.
    pub kept: usize,
    /// Their bytes.
    pub kept_bytes: u64,
    /// Results that leave the action index.
    pub results: usize,
    /// Runs whose command logs go.
    pub logs: usize,
    /// Scratch and temporary files of killed processes that go.
    pub leftovers: usize,
    /// Runs that could be restored before and cannot any more, oldest first.
    pub runs: Vec<String>,
}

/// Returns when an object was removed here, if it was.
pub(crate) fn collected(cache: &Path, digest: &Digest) -> Option<String> {
    let text = fs::read_to_string(list(cache)).ok()?;
    let wanted = digest.to_string();
    let mut when = None;
    let mut found = None;
    for line in text.lines() {
        match line.strip_prefix("# ") {
            Some(head) => when = head.split(' ').next(),
            None if line == wanted => found = when,
            None => {}
        }
    }
    found.map(str::to_owned)
}

fn list(cache: &Path) -> PathBuf {
    cache.join("collected")
}

impl Engine {
    /// Removes from the store what nothing reaches; without `delete` only says what would go, and takes no lock.
    ///
    /// # Errors
    /// Another run holds the lock; a lock file cannot be understood; something cannot be read or removed.
    pub fn gc(&self, options: &GcOptions) -> Result<GcReport, EngineError> {
        let (root, cache) = (self.project().root(), self.project().cache());
        let _lock = if options.delete { Some(ProjectLock::take(&cache)?) } else { None };
        let history = History::open(root, &cache)?;
        let log = Log::read(&history)?;
        let reach = Reach::of(&history, &log, options.keep_runs)?;
        let gone = reach.gone(&history)?;
        let mut report = GcReport {
            dry_run: !options.delete,
            objects: gone.objects.len(),
            bytes: gone.objects.values().sum(),
            kept: gone.kept,
            kept_bytes: gone.kept_bytes,
            ..GcReport::default()
        };
        let where_any = |is: &dyn Fn(&Digest) -> bool| -> BTreeSet<u64> {
            log.actions.iter().filter(|action| action.needs.iter().any(is)).map(|action| action.at).collect()
        };
        report.runs = affected(&history, &log, &where_any(&|digest| gone.objects.contains_key(digest)));
        // An earlier `gc` may have removed what a lost index has brought back from the log.
        let lost_at = where_any(&|digest| !reach.objects.contains(digest));
        let (results, dropped) = compacted(&history.index, &log, &lost_at);
        report.results = dropped;
        let logs = reach.old_logs(&cache);
        report.logs = logs.len();
        let torn = reach.torn(&cache);
        report.leftovers = leftovers::scratch(&cache).len() + leftovers::temporary_files(&cache).len() + torn.len();
        if !options.delete {
            return Ok(report);
        }
        if !gone.objects.is_empty() {
            note(&cache, options, gone.objects.keys())?;
        }
        if dropped > 0 {
            let forgotten = log.actions.iter().filter(|action| lost_at.contains(&action.at));
            let kept = log.actions.iter().filter(|action| !lost_at.contains(&action.at));
            let mut index = history.index;
            index.compact(results, forgotten.map(Made::names), kept.map(Made::names))?;
        }
        for digest in gone.objects.keys() {
            let path = history.store.path(digest);
            fs::remove_file(&path).map_err(EngineError::io("remove", &path))?;
            failpoint::hit("gc_object_removed");
            if let Some(folder) = path.parent() {
                // Only an empty one goes.
                let _ = fs::remove_dir(folder);
            }
        }
        for path in logs.iter().chain(&torn) {
            leftovers::remove(path);
        }
        failpoint::hit("gc_logs_removed");
        leftovers::clear(&cache);
        Ok(report)
    }
}

/// Writes down what goes.
fn note<'d>(cache: &Path, options: &GcOptions, digests: impl Iterator<Item = &'d Digest>) -> Result<(), EngineError> {
    let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    // A list that was torn ends in the middle of a line.
    let mut text = format!("\n# {now} --keep-runs {}\n", options.keep_runs);
    digests.for_each(|digest| text.push_str(&format!("{digest}\n")));
    let path = list(cache);
    let write = || {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&path)?;
        failpoint::torn("gc_list_half", text.as_bytes(), |half| file.write_all(half));
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(EngineError::io("write", &path))?;
    failpoint::hit("gc_listed");
    Ok(())
}

/// A recorded action, as far as it matters here.
struct Made {
    at: u64,
    pipeline: String,
    stage: String,
    key: Digest,
    run: String,
    outputs: Vec<OutputRecord>,
    result: ActionResult,
    /// Every object its outputs are made of.
    needs: Vec<Digest>,
}

impl Made {
    fn names(&self) -> (&str, &str, &Digest) {
        (&self.pipeline, &self.stage, &self.key)
    }
}

/// What the run log says.
struct Log {
    actions: Vec<Made>,
    runs: Vec<RunEntry>,
    /// Manifests of directories that stages read or wrote.
    manifests: BTreeSet<Digest>,
}

impl Log {
    fn read(history: &History) -> Result<Self, EngineError> {
        let mut log = Self { actions: Vec::new(), runs: Vec::new(), manifests: BTreeSet::new() };
        // Damage is what `verify` names; what it hides is kept by the other roots.
        runlog::check(&history.cache, |checked| match checked.entry {
            Some(Entry::Action(action)) => log.take(history, checked.line.offset, *action),
            Some(Entry::Run(run)) => log.runs.push(*run),
            None => {}
        })?;
        Ok(log)
    }

    fn take(&mut self, history: &History, at: u64, action: ActionEntry) {
        let inputs = action.record.inputs.values().flatten().flatten();
        self.manifests.extend(inputs.filter(|(path, _)| path.ends_with('/')).map(|(_, digest)| *digest));
        let slots = action.outputs.iter().map(|(slot, output)| (slot.clone(), output.into()));
        let result = ActionResult { at, seconds: action.seconds, outputs: slots.collect() };
        let outputs: Vec<OutputRecord> = action.outputs.into_values().collect();
        let mut needs = Vec::new();
        for output in &outputs {
            needs.push(output.digest);
            if output.is_directory() {
                self.manifests.insert(output.digest);
                needs.extend(files_of(history, &output.digest));
            }
        }
        let ActionEntry { pipeline, stage, key, run, .. } = action;
        self.actions.push(Made { at, pipeline, stage, key, run, outputs, result, needs });
    }
}

fn files_of(history: &History, manifest: &Digest) -> Vec<Digest> {
    history.store.manifest(manifest).map(|m| m.files.values().map(|fact| fact.digest).collect()).unwrap_or_default()
}

/// What is reached.
#[derive(Default)]
struct Reach {
    objects: BTreeSet<Digest>,
    /// Runs whose command logs stay.
    runs: BTreeSet<String>,
}

/// What is not.
#[derive(Default)]
struct Gone {
    objects: BTreeMap<Digest, u64>,
    kept: usize,
    kept_bytes: u64,
}

impl Reach {
    fn of(history: &History, log: &Log, keep_runs: usize) -> Result<Self, EngineError> {
        let mut reach = Self::default();
        reach.objects.extend(&log.manifests);
        for run in &log.runs {
            // A map that is lost is lost; `verify` names it.
            reach.objects.extend(runmap::objects(&run.map, &history.store).unwrap_or_default());
        }
        reach.last_runs(history, log, keep_runs);
        reach.locked(history, log)?;
        reach.in_place(history, log)?;
        for (_, file) in below(&history.cache.join("pipelines"))? {
            let bytes = fs::read(&file).unwrap_or_default();
            if let Some(map) = Snapshot::parse(&bytes).and_then(|snapshot| snapshot.map) {
                let objects = runmap::objects(&Digest::from(map), &history.store);
                reach.objects.extend(objects.unwrap_or_default());
            }
        }
        Ok(reach)
    }

    /// The last run of each pipeline and, of those that did something, as many as are to be kept.
    fn last_runs(&mut self, history: &History, log: &Log, keep_runs: usize) {
        let mut left: BTreeMap<&str, usize> = BTreeMap::new();
        let mut places = BTreeSet::new();
        for run in log.runs.iter().rev() {
            let first = !left.contains_key(run.info.pipeline.as_str());
            let left = left.entry(&run.info.pipeline).or_insert(keep_runs);
            if !first && *left == 0 {
                continue;
            }
            if run.info.executed + run.info.restored > 0 {
                *left = left.saturating_sub(1);
            }
            self.runs.insert(run.info.run.clone());
            places.extend(history.map(run).into_iter().flatten().filter_map(|(_, entry)| entry.at));
        }
        for action in log.actions.iter().filter(|action| places.contains(&action.at)) {
            self.objects.extend(&action.needs);
            self.runs.insert(action.run.clone());
        }
    }

    /// Outputs in the lock files of pipelines that were run here, or lie beside one.
    fn locked(&mut self, history: &History, log: &Log) -> Result<(), EngineError> {
        let mut files: BTreeSet<PathBuf> =
            log.runs.iter().map(|run| LockFile::path_for(&history.root.join(&run.info.pipeline))).collect();
        for folder in [history.root.clone(), history.root.join("pipelines")] {
            let pipelines = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
            files.extend(
                pipelines.filter(|p| p.extension().is_some_and(|e| e == "yaml")).map(|p| LockFile::path_for(&p)),
            );
        }
        for file in files {
            for output in LockFile::read(&file)?.stages.values().flat_map(|stage| stage.outputs.values()) {
                self.objects.insert(output.digest);
                if output.is_directory() {
                    self.objects.extend(files_of(history, &output.digest));
                }
            }
        }
        Ok(())
    }

    /// Whatever lies where an output was once recorded.
    fn in_place(&mut self, history: &History, log: &Log) -> Result<(), EngineError> {
        let mut memo = StatCache::open(&history.cache, false);
        let paths: BTreeSet<&str> = log.actions.iter().flat_map(|a| &a.outputs).map(|o| o.path.as_str()).collect();
        let mut files = Vec::new();
        for path in paths {
            let place = history.root.join(path.trim_end_matches('/'));
            if !path.ends_with('/') {
                files.push((path.to_owned(), place));
            } else if place.is_dir() {
                files.extend(below(&place)?.into_iter().map(|(relative, file)| (format!("{path}{relative}"), file)));
            }
        }
        let looked: Vec<(&str, PathBuf)> = files.iter().map(|(name, file)| (name.as_str(), file.clone())).collect();
        memo.look_at_all(&looked)?;
        for (name, file) in &files {
            let fact: Option<FileFact> = memo.fact(name, file)?;
            self.objects.extend(fact.map(|fact| fact.digest));
        }
        Ok(())
    }

    fn gone(&self, history: &History) -> Result<Gone, EngineError> {
        let mut gone = Gone::default();
        for (name, path) in below(history.store.folder())? {
            // What has no digest for a name was not put there by the store.
            let Ok(digest) = name.replace('/', "").parse::<Digest>() else { continue };
            let size = fs::metadata(&path).map_or(0, |meta| meta.len());
            if self.objects.contains(&digest) {
                gone.kept += 1;
                gone.kept_bytes += size;
            } else {
                gone.objects.insert(digest, size);
            }
        }
        Ok(gone)
    }

    /// Folders with what commands printed in runs that are not kept.
    fn old_logs(&self, cache: &Path) -> Vec<PathBuf> {
        let folders = fs::read_dir(cache.join("logs")).into_iter().flatten().flatten();
        let old = |path: &PathBuf| path.file_name().is_some_and(|name| !self.runs.contains(&*name.to_string_lossy()));
        folders.map(|entry| entry.path()).filter(old).collect()
    }

    /// Ends of the log that were torn by a kill and kept aside; a later run has been recorded since.
    fn torn(&self, cache: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(cache).into_iter().flatten().flatten().map(|entry| entry.path());
        let torn = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("torn-"));
        entries.filter(torn).collect()
    }
}

fn below(folder: &Path) -> Result<Vec<(String, PathBuf)>, EngineError> {
    if folder.is_dir() { files_below(folder).map_err(EngineError::io("read", folder)) } else { Ok(Vec::new()) }
}

/// Returns the runs that need what goes, oldest first.
fn affected(history: &History, log: &Log, lost_at: &BTreeSet<u64>) -> Vec<String> {
    // Runs share most of the chunks of their maps.
    let mut chunks: BTreeMap<Digest, bool> = BTreeMap::new();
    let mut runs = Vec::new();
    for run in log.runs.iter().filter(|_| !lost_at.is_empty()) {
        let mut needs = false;
        for chunk in runmap::objects(&run.map, &history.store).unwrap_or_default().into_iter().skip(1) {
            let lost = || {
                let places = runmap::chunk(&chunk, &history.store).unwrap_or_default();
                places.into_values().filter_map(|entry| entry.at).any(|at| lost_at.contains(&at))
            };
            needs |= *chunks.entry(chunk).or_insert_with(lost);
        }
        if needs {
            runs.push(run.info.run.clone());
        }
    }
    runs
}

/// Returns the results of the index without those that need what goes, and how many go. A key whose latest result goes
/// but an earlier one stays (it is not reproducible) has that one.
fn compacted(index: &Index, log: &Log, lost_at: &BTreeSet<u64>) -> (BTreeMap<Digest, ActionResult>, usize) {
    let mut kept: BTreeMap<Digest, ActionResult> = BTreeMap::new();
    let all = index.results();
    let before = all.len();
    let mut lost = BTreeSet::new();
    for (key, result) in all {
        if lost_at.contains(&result.at) {
            lost.insert(key);
        } else {
            kept.insert(key, result);
        }
    }
    for action in log.actions.iter().filter(|a| lost.contains(&a.key) && !lost_at.contains(&a.at)) {
        kept.insert(action.key, action.result.clone());
    }
    let dropped = before - kept.len();
    (kept, dropped)
}
