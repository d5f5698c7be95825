//! Executes recorded actions again, in scratch, and compares what they give with what was recorded.
//!
//! A stage is executed in a project of its own that holds nothing but its inputs, with a store of its own, so nothing of the
//! real project, store or log is touched. Inputs are taken from their places where they have the recorded content, else
//! from the store.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::difference::{Compare, first_difference};
use crate::digest::Digest;
use crate::engine::threads;
use crate::error::EngineError;
use crate::history::OutputRecord;
use crate::index::ResultOutput;
use crate::manifest::{FileFact, Manifest};
use crate::publish::{hash_directory, hash_file};
use crate::sources::Places;
use crate::spec::{Action, Link, StageSpec};
use crate::stage::{InputFile, Made};
use crate::store::{Store, Take};
use crate::survey::{Survey, Verdict, declared};
use crate::work::{self, Job, Note, Outcome, Task};

/// What is executed again.
#[derive(Clone, Debug, Default)]
pub struct RerunOptions {
    /// Stage names (with or without matrix combination or item) or output paths; empty for all.
    pub targets: Vec<String>,
    /// Thread tokens; 0 for the number of cores.
    pub jobs: usize,
}

/// How executing a stage again went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RerunOutcome {
    /// It gave the recorded bytes.
    Same,
    /// It gave other bytes.
    Different,
    /// It failed.
    Failed,
    /// It was not executed again, or not to its end.
    Skipped,
}

/// What is told while stages are executed again.
#[derive(Clone, Copy, Debug)]
pub enum RerunEvent<'a> {
    /// It is known what will be executed: so many stages.
    Planned(usize),
    /// A stage begins.
    Started(&'a str),
    /// A stage is over, or was skipped.
    Ended(&'a RerunStage),
}

/// An artifact that is not what was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The artifact: a file, also of an output directory.
    pub path: String,
    /// Where it differs first, and how.
    pub first: String,
}

/// What became of one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RerunStage {
    /// Its full name.
    pub stage: String,
    /// How it went.
    pub outcome: RerunOutcome,
    /// Why it was skipped or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Artifacts that differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
    /// Inputs that are not in place as recorded and were taken from the store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from_store: Vec<String>,
    /// Wall-clock seconds; 0 if it was skipped.
    pub seconds: f64,
}

/// What became of all stages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RerunReport {
    /// In the order of the pipeline.
    pub stages: Vec<RerunStage>,
    /// The user stopped it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
}

impl RerunReport {
    /// Returns how many stages went like this.
    pub fn count(&self, outcome: RerunOutcome) -> usize {
        self.stages.iter().filter(|stage| stage.outcome == outcome).count()
    }

    /// Returns the program's exit code: 0, 1 when a stage differs or failed, 130 when it was stopped.
    pub fn exit_code(&self) -> u8 {
        if self.interrupted {
            return 130;
        }
        u8::from(self.count(RerunOutcome::Different) + self.count(RerunOutcome::Failed) > 0)
    }
}

impl RerunStage {
    fn new(stage: &str, outcome: RerunOutcome, why: Option<String>) -> Self {
        let (differences, from_store) = (Vec::new(), Vec::new());
        Self { stage: stage.to_owned(), outcome, why, differences, from_store, seconds: 0.0 }
    }

    fn interrupted(stage: &str) -> Self {
        Self::new(stage, RerunOutcome::Skipped, Some("interrupted".to_owned()))
    }
}

/// Thread tokens.
struct Tokens {
    left: Mutex<usize>,
    given_back: Condvar,
}

impl Tokens {
    fn take(&self, count: usize) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        while *left < count {
            left = self.given_back.wait(left).unwrap_or_else(PoisonError::into_inner);
        }
        *left -= count;
    }

    fn give_back(&self, count: usize) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) += count;
        self.given_back.notify_all();
    }
}

/// A stage to be executed again.
struct Again<'s> {
    index: usize,
    stage: &'s StageSpec,
    made: Option<&'s Made>,
    verdict: Verdict,
}

/// What all workers share.
struct Bench<'a> {
    places: &'a Places,
    env: &'a BTreeMap<String, String>,
    store: &'a Store,
    compare: &'a dyn Compare,
    temp: &'a Path,
    jobs: usize,
    cancel: &'a AtomicBool,
}

/// Executes the chosen stages of a planned survey again. `told` is handed what happens. Once `cancel` is set nothing more
/// is started, and what runs is stopped.
///
/// # Errors
/// Nothing recorded can be read.
pub(crate) fn run(
    survey: &mut Survey<'_>,
    options: &RerunOptions,
    selected: &[bool],
    temp: &Path,
    compare: &dyn Compare,
    told: &(dyn Fn(RerunEvent<'_>) + Sync),
    cancel: &AtomicBool,
) -> Result<RerunReport, EngineError> {
    survey.plan(selected)?;
    let (mut report, mut todo) = (RerunReport::default(), Vec::new());
    let stages = survey.spec.stages.len();
    let order: Vec<usize> = survey.wiring.order.iter().copied().chain(stages..survey.count()).collect();
    for index in order {
        let parent = survey.parent(index).unwrap_or(index);
        if !selected[parent] || survey.is_collector(index) || !is_meant(survey, index, &options.targets) {
            continue;
        }
        match prepare(survey, index, parent) {
            Ok(again) => todo.push(again),
            Err(why) => {
                let row = RerunStage::new(&survey.stage(index).name, RerunOutcome::Skipped, Some(why));
                told(RerunEvent::Ended(&row));
                report.stages.push(row);
            }
        }
    }
    told(RerunEvent::Planned(todo.len()));
    let jobs = threads(options.jobs);
    let tokens = Tokens { left: Mutex::new(jobs), given_back: Condvar::new() };
    let store = survey.store.clone();
    let bench = Bench { places: survey.places, env: survey.env, store: &store, compare, temp, jobs, cancel };
    let (next, rows) = (Mutex::new(todo.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for worker in 0..jobs.min(todo.len()) {
            let (bench, tokens, next, rows) = (&bench, &tokens, &next, &rows);
            scope.spawn(move || {
                loop {
                    let again = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(again) = again else { return };
                    let name = &*again.stage.name;
                    let wanted = again.stage.policy.threads;
                    let count = if wanted == 0 { bench.jobs } else { wanted.min(bench.jobs) };
                    tokens.take(count);
                    let row = if bench.is_cancelled() {
                        RerunStage::interrupted(name)
                    } else {
                        told(RerunEvent::Started(name));
                        bench.execute(again, count, worker)
                    };
                    tokens.give_back(count);
                    told(RerunEvent::Ended(&row));
                    rows.lock().unwrap_or_else(PoisonError::into_inner).push(row);
                }
            });
        }
    });
    report.stages.extend(rows.into_inner().unwrap_or_else(PoisonError::into_inner));
    report.interrupted = cancel.load(Ordering::Relaxed);
    let place: BTreeMap<&str, usize> = (0..survey.count()).map(|n| (&*survey.stage(n).name, n)).collect();
    report.stages.sort_by_key(|row| place.get(row.stage.as_str()).copied());
    Ok(report)
}

fn is_meant(survey: &Survey<'_>, index: usize, targets: &[String]) -> bool {
    let stage = survey.stage(index);
    let base = stage.name.split('[').next().unwrap_or(&stage.name);
    let makes = |target: &str| {
        stage.outputs.values().any(|o| o.path.to_string().trim_end_matches('/') == target.trim_end_matches('/'))
    };
    targets.is_empty() || targets.iter().any(|target| *target == stage.name || target == base || makes(target))
}

/// Decides whether a stage can be executed again; otherwise says why not.
fn prepare<'s>(survey: &mut Survey<'s>, index: usize, parent: usize) -> Result<Again<'s>, String> {
    let policy = &survey.stage(index).policy;
    if policy.always {
        return Err("runs at every run: nothing is expected of its bytes".to_owned());
    }
    if policy.frozen {
        return Err("is frozen".to_owned());
    }
    if survey.made(index).is_some_and(|made| made.stage.effect().is_some()) {
        return Err("has an effect outside the project".to_owned());
    }
    let unknown = survey.wiring.data[parent].iter().find(|upstream| survey.known[**upstream].is_none());
    if let Some(upstream) = unknown {
        return Err(format!("takes what `{}` makes, which is not up to date", survey.spec.stages[*upstream].name));
    }
    let verdict = survey.decide(index).map_err(|lack| EngineError::from(lack).to_string())?;
    if verdict.result.is_none() {
        let subject = verdict.reasons.first().map(|reason| format!(" ({} {})", reason.kind.name(), reason.subject));
        return Err(format!("was never executed with what it has now{}", subject.unwrap_or_default()));
    }
    Ok(Again { index, stage: survey.stage(index), made: survey.made(index), verdict })
}

impl Bench<'_> {
    fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    fn execute(&self, again: &Again<'_>, count: usize, worker: usize) -> RerunStage {
        let began = Instant::now();
        let mut row = RerunStage::new(&again.stage.name, RerunOutcome::Same, None);
        let root = self.temp.join(worker.to_string());
        match self.attempt(again, count, &root, &mut row.from_store) {
            Ok(differences) if differences.is_empty() => {}
            Ok(differences) => {
                row.outcome = RerunOutcome::Different;
                row.differences = differences;
            }
            // Whatever it says of its end: it was stopped.
            Err(_) if self.is_cancelled() => row = RerunStage::interrupted(&row.stage),
            Err(why) => {
                row.outcome = RerunOutcome::Failed;
                row.why = Some(why);
            }
        }
        let _ = fs::remove_dir_all(&root);
        row.from_store.sort();
        row.seconds = began.elapsed().as_secs_f64();
        row
    }

    fn attempt(
        &self,
        again: &Again<'_>,
        count: usize,
        root: &Path,
        from_store: &mut Vec<String>,
    ) -> Result<Vec<Difference>, String> {
        let (stage, verdict) = (again.stage, &again.verdict);
        let text = |error: EngineError| error.to_string();
        let (cache, scratch) = (root.join("cache"), root.join("cache/tmp/rerun/0"));
        let made = |folder: &Path| fs::create_dir_all(folder).map_err(EngineError::io("make", folder)).map_err(text);
        let temp = cache.join("tmp/rerun");
        made(&temp)?;
        let store = Store::new(&cache, &temp, Link::Auto);
        let mut inputs = BTreeMap::new();
        for (slot, files) in &verdict.inputs.slots {
            let mut here = Vec::new();
            for (logical, digest) in files.iter().flatten() {
                let piece = verdict.inputs.piece.as_ref().is_some_and(|piece| piece.logical == *logical);
                if logical.starts_with("lineage:") || piece {
                    continue;
                }
                let path = self.input(logical, digest, root, from_store).map_err(text)?;
                here.push(InputFile { logical: logical.clone(), path });
            }
            inputs.insert(slot.clone(), here);
        }
        let task = match (&stage.action, again.made) {
            (Action::Shell { command }, _) => Task::Shell(command),
            (Action::Builtin { .. }, Some(made)) => Task::Builtin(&*made.stage),
            (Action::Builtin { .. }, None) => return Err("its kind is not made".to_owned()),
        };
        let passed = |name: &String| self.env.get(name).map(|value| (name.clone(), value.clone()));
        let job = Job {
            stage: again.index,
            task,
            key: verdict.key,
            inputs,
            documents: verdict.inputs.documents.clone(),
            piece: verdict.inputs.piece.clone(),
            watched: Vec::new(),
            manifests: Vec::new(),
            outputs: stage.outputs.iter().map(|(slot, o)| (slot.clone(), declared(&o.path, o.directory))).collect(),
            env: stage.env.iter().chain(&stage.secrets).filter_map(passed).collect(),
            path: self.env.get("PATH").map(String::as_str),
            masked: stage.secrets.iter().filter_map(|name| self.env.get(name).cloned()).collect(),
            threads: count,
            retries: 0,
            timeout: stage.policy.timeout,
            sandbox: stage.policy.sandbox,
            user_home: self.env.get("HOME").map(String::as_str),
            root,
            scratch,
            log: temp.join("log"),
            store: &store,
            temp: &temp,
            cancelled: self.cancel,
        };
        let success = match work::perform(&job, &|_: Note| {}) {
            Outcome::Done(success) => success,
            Outcome::NotStored(digest) => return Err(format!("object {} is not stored", digest.short())),
            Outcome::Failed(failure) => {
                let lines = [failure.error].into_iter().chain(failure.tail);
                return Err(lines.collect::<Vec<_>>().join("\n"));
            }
        };
        let recorded = verdict.result.as_ref().map(|result| &result.outputs);
        let mut differences = Vec::new();
        for (slot, then) in recorded.into_iter().flatten() {
            let Some(now) = success.outputs.get(slot) else { continue };
            self.compare(then, now, &store, root, &mut differences);
        }
        Ok(differences)
    }

    /// Puts an input with the recorded content at its path below `root`: a link to where it is, or a copy of what the store
    /// has.
    fn input(
        &self,
        logical: &str,
        digest: &Digest,
        root: &Path,
        from_store: &mut Vec<String>,
    ) -> Result<PathBuf, EngineError> {
        let folder = logical.ends_with('/');
        let bare = logical.trim_end_matches('/');
        let place = self.places.place_of(bare);
        let now = match folder {
            true => hash_directory(&place).map(|manifest| manifest.digest()),
            false => hash_file(&place).map(|fact| fact.digest),
        };
        let in_root = bare.contains(':');
        let to = if in_root { root.join("cache/roots").join(bare) } else { root.join(bare) };
        let make = |path: &Path| fs::create_dir_all(path).map_err(EngineError::io("make", path));
        make(to.parent().unwrap_or(root))?;
        let same = now.is_ok_and(|now| now == *digest);
        if same && in_root {
            return Ok(place);
        }
        if same {
            if folder && to.is_dir() {
                return Ok(to);
            }
            if to.symlink_metadata().is_err() {
                symlink(&place, &to).map_err(EngineError::io("link", &to))?;
            }
            return Ok(to);
        }
        from_store.push(logical.to_owned());
        let store = self.store;
        if folder {
            store.take_out_directory(&store.manifest(digest)?, &to, Take::Copy)?;
        } else {
            let size = fs::metadata(store.path(digest)).map_or(0, |meta| meta.len());
            store.take_out(&FileFact { digest: *digest, size, executable: false }, &to, Take::Copy)?;
        }
        Ok(to)
    }

    fn compare(
        &self,
        then: &ResultOutput,
        now: &OutputRecord,
        store: &Store,
        root: &Path,
        found: &mut Vec<Difference>,
    ) {
        if then.fact.digest == now.digest && then.fact.executable == now.executable {
            return;
        }
        if !then.directory {
            let fact = FileFact { digest: now.digest, size: now.size, executable: now.executable };
            found.push(self.file(&now.path, &then.fact, &fact, &root.join(&now.path)));
            return;
        }
        let (Ok(before), Ok(after)) = (self.store.manifest(&then.fact.digest), store.manifest(&now.digest)) else {
            let first = format!("has content {}, recorded is {}", now.digest.short(), then.fact.digest.short());
            found.push(Difference { path: now.path.clone(), first });
            return;
        };
        self.files(&now.path, &before, &after, root, found);
    }

    fn files(&self, folder: &str, before: &Manifest, after: &Manifest, root: &Path, found: &mut Vec<Difference>) {
        for (relative, then) in &before.files {
            let path = format!("{folder}{relative}");
            match after.files.get(relative) {
                Some(now) if now == then => {}
                Some(now) => found.push(self.file(&path, then, now, &root.join(&path))),
                None => found.push(Difference { path, first: "was not made again".to_owned() }),
            }
        }
        for relative in after.files.keys().filter(|relative| !before.files.contains_key(*relative)) {
            found.push(Difference { path: format!("{folder}{relative}"), first: "was not made before".to_owned() });
        }
    }

    fn file(&self, path: &str, then: &FileFact, now: &FileFact, at: &Path) -> Difference {
        let first = if then.digest == now.digest {
            let word = |executable| if executable { "executable" } else { "not executable" };
            format!("is {}, recorded is {}", word(now.executable), word(then.executable))
        } else {
            let in_place = self.places.place_of(path);
            let stored = self.store.path(&then.digest);
            let before = [in_place, stored].into_iter().find(|p| hash_file(p).is_ok_and(|f| f.digest == then.digest));
            match before {
                Some(before) => first_difference(self.compare, path, &before, at),
                None => format!("has content {}, recorded is {}", now.digest.short(), then.digest.short()),
            }
        };
        Difference { path: path.to_owned(), first }
    }
}
