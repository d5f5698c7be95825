//! One stage at work, on a thread of its own: scratch folders, the stage itself, its outputs into the store and to their
//! places. Knows nothing of the graph, the run log or other stages.

use std::any::Any;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::digest::Digest;
use crate::error::{EngineError, Environment, help_for_cause};
use crate::failpoint;
use crate::history::OutputRecord;
use crate::manifest::Manifest;
use crate::memory::Watch;
use crate::pieces;
use crate::publish::{Made, Placer, store_output};
use crate::sandbox::{Rules, Undeclared, slot_for};
use crate::shell::{self, Fence, Ran, ShellFailure, ShellJob};
use crate::spec::Sandbox;
use crate::stage::{InputFile, Stage, StageContext, StageMessage};
use crate::statcache::Stat;
use crate::store::{Store, Take, TakeError};
use crate::survey::PieceOf;

/// Progress closer together than this is dropped, but for the last.
const PROGRESS_EVERY: Duration = Duration::from_millis(50);

/// How long the second attempt is waited for; each further one twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait for another attempt.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How often a wait looks whether the run is interrupted.
const LOOK: Duration = Duration::from_millis(50);
/// How many undeclared paths of a stage are warned of one by one.
const NAMED: usize = 20;

/// What a worker does.
pub enum Task<'a> {
    /// Runs a built-in stage.
    Builtin(&'a dyn Stage),
    /// Runs a shell command (a template with symbolic slots).
    Shell(&'a str),
    /// Brings recorded outputs back from the store.
    Restore(BTreeMap<String, OutputRecord>),
}

/// A stage ready to work: everything a worker needs, by value.
pub struct Job<'a> {
    /// Index of the stage.
    pub stage: usize,
    /// What is done.
    pub task: Task<'a>,
    /// The action key.
    pub key: Digest,
    /// Files by input slot.
    pub inputs: BTreeMap<String, Vec<InputFile>>,
    /// Lineage documents to be written first: slot, logical path, text.
    pub documents: Vec<(String, String, String)>,
    /// The piece of a file to be written first.
    pub piece: Option<PieceOf>,
    /// Source files with the identity they had when they were hashed.
    pub watched: Vec<(String, PathBuf, Stat)>,
    /// Manifests of source directories, stored with the action.
    pub manifests: Vec<Manifest>,
    /// Declared path by output slot; directories with a slash at the end.
    pub outputs: BTreeMap<String, String>,
    /// What the stage sees of the environment.
    pub env: BTreeMap<String, String>,
    /// PATH for shell stages.
    pub path: Option<&'a str>,
    /// Values to mask in logs.
    pub masked: Vec<String>,
    /// Thread tokens granted.
    pub threads: usize,
    /// How often a failed attempt is repeated.
    pub retries: u32,
    /// Time limit of a shell stage.
    pub timeout: Option<Duration>,
    /// What a shell stage may touch beyond what it declares.
    pub sandbox: Sandbox,
    /// The user's home, which is no folder of tools.
    pub user_home: Option<&'a str>,
    /// The project root.
    pub root: &'a Path,
    /// A private folder of this job: empty, or not there yet.
    pub scratch: PathBuf,
    /// The log file of a shell stage.
    pub log: PathBuf,
    /// The store, with a temporary folder on the same disk.
    pub store: &'a Store,
    /// Folder for files about to be placed.
    pub temp: &'a Path,
    /// Set when the run is interrupted.
    pub cancelled: &'a AtomicBool,
}

impl Job<'_> {
    /// Folder of an output slot in scratch.
    fn folder_of(&self, slot: &str) -> PathBuf {
        self.scratch.join(format!("out.{slot}"))
    }

    /// Empties scratch for the next job of this worker. Its folders stay where they can: a file system that is asked for
    /// new folders all the time looks through all it gave back a moment ago.
    fn clear_scratch(&self) {
        if let Err(e) = emptied(&self.scratch)
            && e.kind() != std::io::ErrorKind::NotFound
        {
            // What is left of it is removed at the start of the next run.
            let _ = fs::remove_dir_all(&self.scratch);
        }
    }
}

/// Removes all in a scratch folder but `tmp` and the folders of output slots, which are emptied.
fn emptied(scratch: &Path) -> std::io::Result<()> {
    let remove = |entry: &fs::DirEntry| match entry.file_type()?.is_dir() {
        true => fs::remove_dir_all(entry.path()),
        false => fs::remove_file(entry.path()),
    };
    for entry in fs::read_dir(scratch)? {
        let entry = entry?;
        let name = entry.file_name();
        let ours = name == "tmp" || name.as_encoded_bytes().starts_with(b"out.");
        // A folder that a stage made something else of, or took the rights of, is made anew.
        if !ours || !entry.file_type()?.is_dir() || entry.metadata()?.mode() & 0o700 != 0o700 {
            remove(&entry)?;
            continue;
        }
        for left in fs::read_dir(entry.path())? {
            remove(&left?)?;
        }
    }
    Ok(())
}

/// What a worker says on the way.
pub enum Note {
    /// Progress or a message of the stage.
    Message(StageMessage),
    /// An attempt failed; another follows.
    Retry(Failure),
}

/// What a finished stage leaves.
#[derive(Default)]
pub struct Success {
    /// Outputs by slot.
    pub outputs: BTreeMap<String, OutputRecord>,
    /// Manifests of output directories.
    pub manifests: BTreeMap<String, Manifest>,
    /// New objects in the store.
    pub objects: Vec<PathBuf>,
    /// Seconds in which outputs were hashed, stored and placed.
    pub storing: f64,
    /// Most memory it was seen to have, in bytes.
    pub peak_memory: Option<u64>,
    /// What it touched without declaring it.
    pub undeclared: Undeclared,
}

/// How a stage failed.
#[derive(Clone, Debug, Default)]
pub struct Failure {
    /// The error and its causes, one per line.
    pub error: String,
    /// The last lines a shell stage printed.
    pub tail: Vec<String>,
    /// A panic or broken invariant.
    pub internal: bool,
    /// The environment's fault.
    pub environment: bool,
    /// The run was interrupted.
    pub interrupted: bool,
}

impl Failure {
    /// Makes a failure of an error.
    pub fn of(error: &anyhow::Error) -> Self {
        let mut text = error.to_string();
        for cause in error.chain().skip(1) {
            let cause = cause.to_string();
            if !text.ends_with(&cause) {
                text.push_str(&format!("\n{cause}"));
            }
        }
        if let Some(help) = help_for_cause(error) {
            text.push_str(&format!("\nhint: {help}"));
        }
        let internal = error.downcast_ref::<EngineError>().is_some_and(|e| e.exit_code() == 70);
        let tail = error.downcast_ref::<ShellFailure>().map(|failure| failure.tail.clone()).unwrap_or_default();
        Self { error: text, tail, internal, environment: Environment::is_cause_of(error), interrupted: false }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::of(&anyhow::Error::new(error))
    }
}

/// How a job ended.
pub enum Outcome {
    /// Outputs are stored and in place.
    Done(Success),
    /// A restore found an object missing or corrupt.
    NotStored(Digest),
    /// It failed; outputs are as they were.
    Failed(Failure),
}

/// Does a job to its end. Panics of the stage are failures.
pub fn perform(job: &Job<'_>, tell: &(dyn Fn(Note) + Send + Sync)) -> Outcome {
    let outcome = match &job.task {
        Task::Restore(outputs) => restore(job, outputs),
        _ => attempts(job, tell),
    };
    job.clear_scratch();
    outcome
}

fn restore(job: &Job<'_>, outputs: &BTreeMap<String, OutputRecord>) -> Outcome {
    let placer = Placer { store: job.store, root: job.root, temp: job.temp, take: Take::Shared };
    let mut manifests = BTreeMap::new();
    for (slot, record) in outputs {
        let placed = (|| {
            if record.is_directory() {
                let manifest = job.store.manifest(&record.digest)?;
                placer.place(record, Some(&manifest))?;
                manifests.insert(slot.clone(), manifest);
            } else {
                placer.place(record, None)?;
            }
            Ok(())
        })();
        match placed {
            Ok(()) => {}
            Err(TakeError::Missing(digest) | TakeError::Corrupt(digest)) => return Outcome::NotStored(digest),
            Err(TakeError::Other(error)) => return Outcome::Failed(error.into()),
        }
    }
    Outcome::Done(Success { outputs: outputs.clone(), manifests, objects: Vec::new(), ..Success::default() })
}

fn attempts(job: &Job<'_>, tell: &(dyn Fn(Note) + Send + Sync)) -> Outcome {
    let mut left = job.retries;
    let mut wait = FIRST_WAIT;
    loop {
        let result = catch_unwind(AssertUnwindSafe(|| attempt(job, tell)));
        let failure = match result {
            Ok(Ok(success)) => return Outcome::Done(success),
            Ok(Err(error)) => Failure::of(&error),
            Err(panic) => {
                Failure { error: format!("panicked: {}", message_of(&*panic)), internal: true, ..Failure::default() }
            }
        };
        let failure = Failure { interrupted: job.cancelled.load(Ordering::Relaxed), ..failure };
        if left == 0 || failure.interrupted || failure.internal {
            return Outcome::Failed(failure);
        }
        left -= 1;
        job.clear_scratch();
        tell(Note::Retry(failure.clone()));
        if !pause(wait, job.cancelled) {
            return Outcome::Failed(Failure { interrupted: true, ..failure });
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Waits before another attempt; returns whether the time passed without an interruption.
fn pause(wait: Duration, cancelled: &AtomicBool) -> bool {
    let began = Instant::now();
    while began.elapsed() < wait {
        if cancelled.load(Ordering::Relaxed) {
            return false;
        }
        std::thread::sleep(LOOK.min(wait));
    }
    !cancelled.load(Ordering::Relaxed)
}

fn message_of(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

fn attempt(job: &Job<'_>, tell: &(dyn Fn(Note) + Send + Sync)) -> anyhow::Result<Success> {
    let home = job.scratch.join("tmp");
    make(&home)?;
    let mut scratch = BTreeMap::new();
    for (slot, declared) in &job.outputs {
        let folder = job.folder_of(slot);
        let name = declared.trim_end_matches('/').rsplit('/').next().unwrap_or(slot);
        let path = folder.join(name);
        make(if declared.ends_with('/') { &path } else { &folder })?;
        scratch.insert(slot.clone(), path);
    }
    let inputs = with_documents(job)?;
    failpoint::hit("scratch_made");

    let mut own = OwnWrites::default();
    let ran = match &job.task {
        Task::Builtin(stage) => {
            let watch = Watch::begin();
            run_builtin(job, *stage, inputs, &scratch, home, tell)
                .map(|()| Ran { peak: watch.peak(), ..Ran::default() })
        }
        Task::Shell(template) => {
            own = OwnWrites::expect(job, template)?;
            run_shell(job, template, &inputs, &scratch, &own, tell)
        }
        Task::Restore(_) => unreachable!("restores do not come here"),
    };
    failpoint::hit("stage_ran");
    let stored = ran.and_then(|ran| Ok((store(job, &scratch, &own)?, ran)));
    match stored {
        Ok((success, ran)) => Ok(Success { peak_memory: ran.peak, undeclared: ran.undeclared, ..success }),
        Err(error) => {
            own.undo(job);
            Err(error)
        }
    }
}

fn make(folder: &Path) -> Result<(), EngineError> {
    fs::create_dir_all(folder).map_err(EngineError::io("make", folder))
}

/// Writes lineage documents and the piece of a file, and adds them to the inputs.
fn with_documents(job: &Job<'_>) -> Result<BTreeMap<String, Vec<InputFile>>, EngineError> {
    let mut inputs = job.inputs.clone();
    for (number, (slot, logical, text)) in job.documents.iter().enumerate() {
        let folder = job.scratch.join("in").join(number.to_string());
        make(&folder)?;
        let path = folder.join("lineage.json");
        let write = |path: &Path| std::io::Write::write_all(&mut fs::File::create(path)?, text.as_bytes());
        write(&path).map_err(EngineError::io("write", &path))?;
        let files = inputs.entry(slot.clone()).or_default();
        files.push(InputFile { logical: logical.clone(), path });
        files.sort_by(|a, b| a.logical.cmp(&b.logical));
    }
    if let Some(of) = &job.piece {
        let folder = job.scratch.join("in").join("piece");
        make(&folder)?;
        let path = folder.join(of.file.0.file_name().unwrap_or_default());
        if !pieces::copy(&of.file.0, &of.piece, &path).map_err(EngineError::io("read", &of.file.0))? {
            return Err(EngineError::Changing(of.file.0.clone()));
        }
        inputs.entry(of.slot.clone()).or_default().push(InputFile { logical: of.logical.clone(), path });
    }
    Ok(inputs)
}

fn run_builtin(
    job: &Job<'_>,
    stage: &dyn Stage,
    inputs: BTreeMap<String, Vec<InputFile>>,
    outputs: &BTreeMap<String, PathBuf>,
    scratch: PathBuf,
    tell: &(dyn Fn(Note) + Send + Sync),
) -> anyhow::Result<()> {
    let last: Mutex<Option<Instant>> = Mutex::new(None);
    let messages = |message: StageMessage| {
        if let StageMessage::Progress { done, total, .. } = &message {
            let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if (*done != *total || *total == 0) && last.is_some_and(|last| last.elapsed() < PROGRESS_EVERY) {
                return;
            }
            *last = Some(Instant::now());
        }
        tell(Note::Message(message));
    };
    let context = StageContext {
        inputs,
        outputs: outputs.clone(),
        scratch,
        env: job.env.clone(),
        threads: job.threads,
        key: job.key,
        messages: &messages,
        cancelled: job.cancelled,
    };
    stage.run(&context)
}

fn run_shell(
    job: &Job<'_>,
    template: &str,
    inputs: &BTreeMap<String, Vec<InputFile>>,
    outputs: &BTreeMap<String, PathBuf>,
    own: &OwnWrites,
    tell: &(dyn Fn(Note) + Send + Sync),
) -> anyhow::Result<Ran> {
    let word = |path: &Path| path.strip_prefix(job.root).unwrap_or(path).to_string_lossy().into_owned();
    let words =
        inputs.iter().map(|(slot, files)| (slot.clone(), files.iter().map(|f| word(&f.path)).collect())).collect();
    let outputs: BTreeMap<String, String> = outputs.iter().map(|(slot, path)| (slot.clone(), word(path))).collect();
    let warn = |text| tell(Note::Message(StageMessage::Warning { text }));
    let fence = match job.sandbox {
        Sandbox::Off => {
            undeclared(job, template, inputs).into_iter().for_each(warn);
            None
        }
        mode => Some(Fence { rules: rules(job, inputs, own), strict: mode == Sandbox::Strict }),
    };
    let home = job.scratch.join("tmp");
    let command = shell::expand(template, &words, &outputs);
    let ran = shell::run(&ShellJob {
        command: &command,
        root: job.root,
        home: &home,
        path: job.path,
        env: job.env.clone(),
        masked: job.masked.clone(),
        log: job.log.clone(),
        timeout: job.timeout,
        cancelled: job.cancelled,
        fence,
    })?;
    let sentences = ran.undeclared.sentences();
    let more = sentences.len().saturating_sub(NAMED);
    sentences.into_iter().take(NAMED).for_each(warn);
    if more > 0 {
        warn(format!("the command touches {more} more paths that it does not declare; `logweir show` lists all"));
    }
    ran.untraced.iter().cloned().for_each(warn);
    Ok(ran)
}

/// Returns what a sandboxed command may touch.
fn rules(job: &Job<'_>, inputs: &BTreeMap<String, Vec<InputFile>>, own: &OwnWrites) -> Rules {
    let place = |declared: &String| job.root.join(declared.trim_end_matches('/'));
    let inputs = inputs.values().flatten().map(|file| file.path.clone());
    let outputs = own.slots.keys().filter_map(|slot| job.outputs.get(slot)).map(place);
    let outputs = outputs.chain([job.scratch.clone()]);
    Rules::new(job.root, inputs, outputs, job.path.unwrap_or_default(), job.user_home)
}

/// Returns a warning for each project file that the command names and the stage does not declare.
fn undeclared(job: &Job<'_>, template: &str, inputs: &BTreeMap<String, Vec<InputFile>>) -> Vec<String> {
    let declared: Vec<PathBuf> = inputs.values().flatten().map(|file| file.path.clone()).collect();
    let mut warnings = Vec::new();
    for word in shell::path_words(template) {
        let word = word.trim_start_matches("./").trim_end_matches('/');
        let path = job.root.join(word);
        let is_output = job.outputs.values().any(|o| {
            let folder = o.strip_suffix('/');
            o == word || folder == Some(word) || (folder.is_some() && word.starts_with(o.as_str()))
        });
        if is_output
            || word.is_empty()
            || declared.iter().any(|d| path.starts_with(d) || d.starts_with(&path))
            || !path.is_file()
        {
            continue;
        }
        let slot = slot_for(word);
        warnings.push(format!(
            "the command names `{word}`, which is no input: a change of it will not be seen; add `{slot}: {word}` under `in`"
        ));
    }
    warnings
}

/// Outputs that a shell command writes at their declared paths itself.
#[derive(Default)]
struct OwnWrites {
    /// Slot → where the old file was moved to, if there was one.
    slots: BTreeMap<String, Option<PathBuf>>,
}

impl OwnWrites {
    /// Moves the old outputs of such slots aside, so that what is there afterwards was written by the command.
    fn expect(job: &Job<'_>, template: &str) -> Result<Self, EngineError> {
        let mut own = Self::default();
        for (slot, declared) in job.outputs.iter().filter(|(slot, _)| !shell::names_output(template, slot)) {
            let place = job.root.join(declared.trim_end_matches('/'));
            let parent = place.parent().expect("an output lies below the project root");
            make(parent)?;
            let mut aside = None;
            if place.symlink_metadata().is_ok() {
                let folder = job.scratch.join("old");
                make(&folder)?;
                let path = folder.join(slot);
                fs::rename(&place, &path).map_err(EngineError::io("move aside", &place))?;
                failpoint::hit("old_moved_aside");
                aside = Some(path);
            }
            own.slots.insert(slot.clone(), aside);
        }
        Ok(own)
    }

    /// Removes partial results and puts the old files back.
    fn undo(&self, job: &Job<'_>) {
        for (slot, aside) in &self.slots {
            let place = job.root.join(job.outputs[slot].trim_end_matches('/'));
            // Whatever cannot be put right here is noticed by its digest in the next run.
            let _ = if place.is_dir() { fs::remove_dir_all(&place) } else { fs::remove_file(&place) };
            if let Some(aside) = aside {
                let _ = fs::rename(aside, &place);
            }
        }
    }
}

/// Checks that every output is there, stores them all, and only then places them.
fn store(job: &Job<'_>, scratch: &BTreeMap<String, PathBuf>, own: &OwnWrites) -> anyhow::Result<Success> {
    if job.cancelled.load(Ordering::Relaxed) {
        anyhow::bail!("interrupted");
    }
    for (logical, place, before) in &job.watched {
        if Stat::of(place).map_err(EngineError::io("look at", place))?.as_ref() != Some(before) {
            let hint = "hint: wait until it is complete, or point the input at a rotated file or a copy";
            anyhow::bail!("input `{logical}` changed while the stage was reading it; nothing was kept\n{hint}");
        }
    }
    let is_there = |path: &Path, declared: &str| if declared.ends_with('/') { path.is_dir() } else { path.is_file() };
    let mut made = BTreeMap::new();
    let mut missing = Vec::new();
    for (slot, declared) in &job.outputs {
        let place = job.root.join(declared.trim_end_matches('/'));
        let in_place = own.slots.contains_key(slot) && is_there(&place, declared);
        let path = if in_place { place } else { scratch[slot].clone() };
        // An empty scratch folder of a command that was to write the declared folder itself is no result.
        if is_there(&path, declared) && (in_place || !own.slots.contains_key(slot) || !declared.ends_with('/')) {
            made.insert(slot, (path, in_place));
        } else {
            missing.push(format!("`{slot}` ({declared})"));
        }
    }
    if !missing.is_empty() {
        anyhow::bail!("it ended without writing its output {}", missing.join(", "));
    }
    let (mut success, began) = (Success::default(), Instant::now());
    for (slot, (path, in_place)) in &made {
        let output = if *in_place { Made::InPlace(path) } else { Made::Scratch(path) };
        let (record, manifest) = store_output(job.store, &output, &job.outputs[*slot], &mut success.objects)?;
        success.outputs.insert((*slot).clone(), record);
        success.manifests.extend(manifest.map(|manifest| ((*slot).clone(), manifest)));
    }
    for manifest in &job.manifests {
        success.objects.extend(job.store.put(manifest.text().as_bytes())?.1);
    }
    failpoint::hit("outputs_stored");
    // A command may have left a process that goes on writing; what a built-in stage wrote is closed.
    let take = if matches!(job.task, Task::Builtin(_)) { Take::Made } else { Take::Shared };
    let placer = Placer { store: job.store, root: job.root, temp: job.temp, take };
    for (slot, record) in success.outputs.iter().filter(|(slot, _)| !made[*slot].1) {
        placer.place(record, success.manifests.get(slot)).map_err(EngineError::from)?;
    }
    failpoint::hit("outputs_placed");
    success.storing = began.elapsed().as_secs_f64();
    Ok(success)
}
