//! Carries out a plan: one coordinator (the caller's thread) decides, starts one thread per running stage, takes their
//! messages, records what they did, and tells the sink. Stages are never tasks of a shared pool, where one could be
//! stolen into another while it waits.
//!
//! A stage is decided when everything it takes is final: its key then exists, and if an upstream stage ran and gave the
//! same bytes as before, the key is an old one and the stage is fresh (early cutoff needs no code of its own).

mod conclude;
mod map;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::Scope;
use std::time::{Duration, Instant};

use crate::commit::Committer;
use crate::compiled::Lookups;
use crate::digest::Digest;
use crate::error::EngineError;
use crate::event::{Decision, Event, Level, Reason, ReasonKind, Sink};
use crate::history::{OutputRecord, RunInfo};
use crate::index::{Covered, ResultOutput};
use crate::lockfile::LockedStage;
use crate::manifest::FileFact;
use crate::runlog::{self, ActionEntry, Entry, Writer};
use crate::runmap::{MapEntry, RunMap};
use crate::schedule::{Budget, Demand, Grant, Schedule, remaining};
use crate::snapshot::{Rests, Unit};
use crate::spec::Action;
use crate::stage::{InputFile, StageMessage};
use crate::store::Store;
use crate::survey::{Survey, Verdict, declared};
use crate::work::{self, Failure, Job, Note, Outcome, Success, Task};

/// How often the coordinator looks whether the user wants to stop.
const LOOK: Duration = Duration::from_millis(50);
/// What a stage without history is taken to last, in seconds, when paths are compared.
const UNKNOWN_SECONDS: f64 = 1.0;
/// Characters of a stage's name that its log file is named by; file systems take 255 bytes.
const MOST_NAME: usize = 160;

/// What a run needs beyond its survey.
pub struct Orders<'a> {
    /// The selected stages.
    pub selected: Vec<bool>,
    /// What there is to take.
    pub budget: Budget,
    /// After a failure run what does not depend on it.
    pub keep_going: bool,
    /// As recorded: id, start, targets and so on; counts are filled in.
    pub info: RunInfo,
    /// The run's folder in `cache/tmp`, there already.
    pub temp: PathBuf,
    /// The lock file of the pipeline.
    pub lock_path: PathBuf,
    /// What was wrong with the run log at the start.
    pub damage: Vec<String>,
    /// Where and as what the snapshot of this run is kept.
    pub keep: Option<&'a Keep>,
    /// The machine and its platform.
    pub host: (String, String),
    /// Set when the user wants to stop.
    pub cancel: &'a AtomicBool,
}

/// What the snapshot of a run is kept as.
pub struct Keep {
    /// Its file.
    pub file: PathBuf,
    /// The identity of the pipeline.
    pub identity: Digest,
    /// Variables that its text looked up.
    pub lookups: Lookups,
}

/// How a run ended.
pub struct Ended {
    /// The run in short.
    pub info: RunInfo,
    /// A stage panicked or broke an invariant.
    pub internal: bool,
    /// A stage failed through the environment.
    pub environment: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Ready,
    Running,
    Settled,
    Failed,
    Skipped,
}

enum Message {
    Note(usize, Note),
    Ended(usize, Outcome, f64),
}

struct Running {
    grant: Grant,
    /// Number of its scratch folder.
    worker: usize,
    verdict: Verdict,
    started: String,
    attempt: u32,
    warnings: Vec<String>,
    log: Option<String>,
}

/// Runs the selected stages.
///
/// # Errors
/// The run log, the index or the lock file cannot be written; what was finished before is recorded.
pub fn run(
    survey: &mut Survey<'_>,
    orders: &Orders<'_>,
    writer: Writer,
    sink: &dyn Sink,
) -> Result<Ended, EngineError> {
    let count = survey.count();
    let store = survey.store.clone();
    let root = survey.places.root().to_path_buf();
    let mut coordinator = Coordinator {
        committer: Committer::start(writer.handle()?, &runlog::path_in(&survey.cache), survey.cache.clone()),
        state: vec![State::Waiting; count],
        left: vec![0; count],
        priority: None,
        verdicts: BTreeMap::new(),
        running: BTreeMap::new(),
        schedule: Schedule::new(orders.budget.clone()),
        ready: VecDeque::new(),
        map: RunMap::new(),
        locked: BTreeMap::new(),
        rests: vec![None; count],
        expanded: BTreeSet::new(),
        tallies: BTreeMap::new(),
        finishing: BTreeSet::new(),
        stopping: false,
        fatal: None,
        ended: Ended { info: orders.info.clone(), internal: false, environment: false },
        began: Instant::now(),
        survey,
        orders,
        writer,
        sink,
    };
    coordinator.prepare();
    let temp = orders.temp.clone();
    coordinator.carry_out(Shared { store: &store, root: &root, temp: &temp, cancel: orders.cancel });
    coordinator.conclude()
}

/// What all workers share.
#[derive(Clone, Copy)]
struct Shared<'env> {
    store: &'env Store,
    root: &'env Path,
    temp: &'env Path,
    cancel: &'env AtomicBool,
}

struct Coordinator<'c, 's> {
    survey: &'c mut Survey<'s>,
    orders: &'c Orders<'c>,
    writer: Writer,
    sink: &'c dyn Sink,
    committer: Committer,
    state: Vec<State>,
    /// Predecessors not done yet.
    left: Vec<usize>,
    /// Longest remaining path of each stage; computed when first needed.
    priority: Option<Vec<f64>>,
    verdicts: BTreeMap<usize, Verdict>,
    running: BTreeMap<usize, Running>,
    schedule: Schedule,
    /// Stages all of whose predecessors are done, to be decided.
    ready: VecDeque<usize>,
    map: RunMap,
    /// Stages whose outputs are final, for the lock file.
    locked: BTreeMap<String, LockedStage>,
    /// By stage decided in this run and settled: what its freshness rests on.
    rests: Vec<Option<Rests>>,
    /// Mapped stages whose items were made.
    expanded: BTreeSet<usize>,
    /// By mapped stage: how its items have fared.
    tallies: BTreeMap<usize, map::Tally>,
    /// Mapped stages with a failed item whose other items are still tried.
    finishing: BTreeSet<usize>,
    stopping: bool,
    fatal: Option<EngineError>,
    ended: Ended,
    began: Instant,
}

impl<'s> Coordinator<'_, 's> {
    fn prepare(&mut self) {
        let wiring = self.survey.wiring;
        for &index in wiring.order.iter().filter(|index| self.orders.selected[**index]) {
            if let Some(unit) = self.survey.fresh_unit(index) {
                self.fresh_by_snapshot(index, unit);
                continue;
            }
            self.left[index] = wiring.before[index].iter().filter(|before| !self.survey.is_fresh(**before)).count();
            if self.left[index] == 0 {
                self.ready.push_back(index);
            }
        }
    }

    /// Settles a stage that nothing has touched since the last run.
    fn fresh_by_snapshot(&mut self, index: usize, unit: Unit<'_>) {
        let key = Digest::from(unit.key);
        self.state[index] = State::Settled;
        if unit.collects {
            self.fresh_items_by_snapshot(index);
        } else {
            self.ended.info.fresh += 1;
            self.sink.event(&Event::fresh(self.name(index), key));
        }
        let entry = MapEntry::fresh(key, unit.at);
        self.map.insert(self.name(index).to_owned(), entry);
    }

    fn carry_out(&mut self, shared: Shared<'_>) {
        let (sender, inbox) = mpsc::channel();
        std::thread::scope(|scope| {
            loop {
                while let Some(index) = self.ready.pop_front() {
                    self.consider(index);
                }
                if shared.cancel.load(Ordering::Relaxed) && !self.stopping {
                    self.stopping = true;
                    self.ended.info.interrupted = true;
                }
                while !self.stopping
                    && let Some(grant) = self.schedule.start()
                {
                    self.launch(scope, grant, &sender, shared);
                }
                if self.running.is_empty() {
                    break;
                }
                let wait = self.committer.tick().unwrap_or(LOOK).min(LOOK);
                if let Ok(message) = inbox.recv_timeout(wait) {
                    self.take(message);
                    // Whatever else has arrived is taken too before new decisions.
                    while let Ok(message) = inbox.try_recv() {
                        self.take(message);
                    }
                }
            }
        });
    }

    fn name(&self, index: usize) -> &'s str {
        &self.survey.stage(index).name
    }

    /// Decides about a stage all of whose predecessors are done.
    fn consider(&mut self, index: usize) {
        if self.state[index] != State::Waiting {
            return;
        }
        if self.survey.is_collector(index) {
            return self.consider_map(index);
        }
        match self.survey.decide(index) {
            Err(lack) => self.failed(index, EngineError::from(lack).into(), None, None),
            Ok(verdict) if verdict.decision == Decision::Fresh => {
                if let Err(error) = self.fresh(index, verdict) {
                    self.give_up(error);
                }
            }
            Ok(verdict) => {
                self.state[index] = State::Ready;
                let demand = match verdict.decision {
                    Decision::Restore => Demand { threads: 1, ..Demand::default() },
                    _ => Demand::from(&self.survey.stage(index).policy),
                };
                self.verdicts.insert(index, verdict);
                if self.may_start(index) {
                    let priority = self.priority(index);
                    self.schedule.add(index, priority, demand);
                }
            }
        }
    }

    fn priority(&mut self, index: usize) -> f64 {
        if let Some(parent) = self.survey.parent(index) {
            return self.item_priority(index, parent);
        }
        let survey = &*self.survey;
        let priority = self.priority.get_or_insert_with(|| {
            let seconds = |name: &str| survey.index.last_seconds(&survey.pipeline, name).unwrap_or(UNKNOWN_SECONDS);
            let weight = |(index, stage): (usize, &crate::spec::StageSpec)| match survey.is_fresh(index) {
                true => 0.0,
                false => seconds(&stage.name),
            };
            let weights: Vec<f64> = survey.spec.stages.iter().enumerate().map(weight).collect();
            remaining(&survey.wiring.order, &survey.wiring.after, &weights)
        });
        priority[index]
    }

    fn fresh(&mut self, index: usize, verdict: Verdict) -> Result<(), EngineError> {
        let at = self.place_in_log(index, &verdict)?;
        self.ended.info.fresh += 1;
        self.rests[index] = Some(self.survey.rests(index, &verdict.inputs, &verdict.manifests));
        let (key, outputs) = (verdict.key, verdict.result.map(|result| result.outputs).unwrap_or_default());
        self.survey.settle(index, key, verdict.record, outputs, verdict.manifests);
        self.sink.event(&Event::fresh(self.name(index), key));
        self.settled(index, MapEntry::fresh(key, at));
        Ok(())
    }

    /// Returns where the action is whose outputs a fresh or restored stage has. A result of another stage or pipeline
    /// (equal work) is entered again under this stage's name and paths, so that lineage finds it.
    fn place_in_log(&mut self, index: usize, verdict: &Verdict) -> Result<Option<u64>, EngineError> {
        let Some(result) = &verdict.result else { return Ok(None) };
        let (pipeline, stage) = (&self.survey.pipeline, self.name(index));
        if let Some(at) = self.survey.index.action_of(pipeline, stage, &verdict.key) {
            return Ok(Some(at));
        }
        let Ok(action) = runlog::action_at(&self.survey.cache, result.at) else { return Ok(None) };
        let action = ActionEntry {
            stage: stage.to_owned(),
            pipeline: pipeline.clone(),
            outputs: self.records(index, &result.outputs),
            reasons: Vec::new(),
            reused_by: Some(self.ended.info.run.clone()),
            ..action
        };
        self.append_action(action).map(Some)
    }

    fn records(&self, index: usize, outputs: &BTreeMap<String, ResultOutput>) -> BTreeMap<String, OutputRecord> {
        let record = |(slot, o): (&String, &crate::spec::Output)| {
            let FileFact { digest, size, executable } = outputs.get(slot)?.fact;
            Some((slot.clone(), OutputRecord { path: declared(&o.path, o.directory), digest, size, executable }))
        };
        self.survey.stage(index).outputs.iter().filter_map(record).collect()
    }

    fn append_action(&mut self, action: ActionEntry) -> Result<u64, EngineError> {
        let action = Box::new(action);
        let entry = Entry::Action(action);
        let at = self.append(&entry)?;
        if let Entry::Action(action) = &entry {
            self.survey.index.add_action(at, action);
        }
        Ok(at)
    }

    fn append(&mut self, entry: &Entry) -> Result<u64, EngineError> {
        let at = self.writer.append(entry)?;
        let lines = self.survey.index.covered().lines + 1;
        self.survey.index.cover(Covered { len: self.writer.len(), lines, last: at, head: self.writer.head() });
        self.committer.add([]);
        Ok(at)
    }

    /// Starts a stage on a thread of its own.
    fn launch<'scope, 'env>(
        &mut self,
        scope: &'scope Scope<'scope, 'env>,
        grant: Grant,
        sender: &mpsc::Sender<Message>,
        shared: Shared<'env>,
    ) where
        's: 'env,
    {
        let index = grant.stage;
        let verdict = self.verdicts.remove(&index).expect("a stage is decided before it is ready");
        let taken: BTreeSet<usize> = self.running.values().map(|running| running.worker).collect();
        let worker = (0..).find(|number| !taken.contains(number)).expect("there are more numbers than stages");
        let job = self.job(&grant, worker, &verdict, shared);
        let log = matches!(job.task, Task::Shell(_)).then(|| {
            let path = job.log.strip_prefix(shared.root).unwrap_or(&job.log);
            path.to_string_lossy().into_owned()
        });
        let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        if verdict.decision == Decision::Run {
            self.sink.event(&Event::StageStarted {
                stage: self.name(index).to_owned(),
                key: verdict.key,
                threads: grant.threads,
                attempt: 1,
                expected: self.survey.index.last_seconds(&self.survey.pipeline, self.name(index)),
                reasons: verdict.reasons.clone(),
            });
        }
        self.state[index] = State::Running;
        let running = Running { grant, worker, verdict, started: now, attempt: 1, warnings: Vec::new(), log };
        self.running.insert(index, running);
        let sender = sender.clone();
        scope.spawn(move || {
            let began = Instant::now();
            // The coordinator outlives every worker, so it takes every message.
            let outcome = work::perform(&job, &|note| {
                let _ = sender.send(Message::Note(index, note));
            });
            let _ = sender.send(Message::Ended(index, outcome, began.elapsed().as_secs_f64()));
        });
    }

    fn job<'env>(&self, grant: &Grant, worker: usize, verdict: &Verdict, shared: Shared<'env>) -> Job<'env>
    where
        's: 'env,
    {
        let index = grant.stage;
        let (places, env) = (self.survey.places, self.survey.env);
        let (stage, made) = (self.survey.stage(index), self.survey.made(index));
        let task = match (verdict.decision, &stage.action, made) {
            (Decision::Restore, _, _) => {
                let outputs = verdict.result.as_ref().map(|result| self.records(index, &result.outputs));
                Task::Restore(outputs.unwrap_or_default())
            }
            (_, Action::Shell { command }, _) => Task::Shell(command),
            (_, Action::Builtin { .. }, Some(made)) => Task::Builtin(&*made.stage),
            (_, Action::Builtin { .. }, None) => unreachable!("built-in stages are made when the pipeline is opened"),
        };
        let effect = made.is_some_and(|made| made.stage.effect().is_some());
        let passed = |name: &String| env.get(name).map(|value| (name.clone(), value.clone()));
        let file = |logical: &String| InputFile {
            logical: logical.clone(),
            path: places.place_of(logical.trim_end_matches('/')),
        };
        let files = |slot: &crate::key::SlotRecord| -> Vec<InputFile> {
            let piece = |path: &&String| verdict.inputs.piece.as_ref().is_some_and(|piece| piece.logical == **path);
            let made = |path: &&String| path.starts_with("lineage:") || piece(path);
            slot.iter().flat_map(BTreeMap::keys).filter(|path| !made(path)).map(file).collect()
        };
        let watched = |logical: &String| {
            let stat = self.survey.memo.stat(&places.memo_name(logical))?;
            Some((logical.clone(), places.place_of(logical), stat))
        };
        Job {
            stage: index,
            task,
            key: verdict.key,
            inputs: verdict.inputs.slots.iter().map(|(slot, record)| (slot.clone(), files(record))).collect(),
            documents: verdict.inputs.documents.clone(),
            piece: verdict.inputs.piece.clone(),
            watched: verdict.inputs.watched.iter().filter_map(watched).collect(),
            manifests: verdict.inputs.manifests.clone(),
            outputs: stage.outputs.iter().map(|(slot, o)| (slot.clone(), declared(&o.path, o.directory))).collect(),
            // An effect finds its target and credentials in the environment; what of them matters is in its key.
            env: if effect { env.clone() } else { stage.env.iter().chain(&stage.secrets).filter_map(passed).collect() },
            path: env.get("PATH").map(String::as_str),
            masked: stage.secrets.iter().filter_map(|name| env.get(name).cloned()).collect(),
            threads: grant.threads,
            retries: stage.policy.retries,
            timeout: stage.policy.timeout,
            sandbox: stage.policy.sandbox,
            user_home: env.get("HOME").map(String::as_str),
            root: shared.root,
            scratch: self.orders.temp.join(worker.to_string()),
            log: self
                .survey
                .cache
                .join("logs")
                .join(&self.ended.info.run)
                .join(format!("{}.log", file_name(&stage.name))),
            store: shared.store,
            temp: shared.temp,
            cancelled: shared.cancel,
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Note(index, Note::Message(message)) => self.tell(index, message),
            Message::Note(index, Note::Retry(failure)) => {
                let stage = self.name(index).to_owned();
                let Some(running) = self.running.get_mut(&index) else { return };
                running.attempt += 1;
                let Failure { error, tail, internal, .. } = failure;
                let log_file = running.log.clone();
                let again = Event::StageStarted {
                    stage: stage.clone(),
                    key: running.verdict.key,
                    threads: running.grant.threads,
                    attempt: running.attempt,
                    expected: None,
                    reasons: Vec::new(),
                };
                self.sink.event(&Event::StageFailed { stage, error, log: tail, log_file, retry: true, internal });
                self.sink.event(&again);
            }
            Message::Ended(index, outcome, seconds) => {
                let Some(running) = self.running.remove(&index) else { return };
                self.schedule.finish(&running.grant);
                match outcome {
                    Outcome::Done(success) => {
                        if let Err(error) = self.succeeded(index, running, success, seconds) {
                            self.give_up(error);
                        }
                    }
                    Outcome::NotStored(digest) => self.run_instead(index, running, &digest),
                    Outcome::Failed(failure) => {
                        self.failed(index, failure, running.log, Some((running.verdict.key, running.verdict.reasons)));
                    }
                }
            }
        }
    }

    fn tell(&mut self, index: usize, message: StageMessage) {
        let stage = self.name(index).to_owned();
        match message {
            StageMessage::Progress { done, total, unit } => {
                self.sink.event(&Event::StageProgress { stage, done, total, unit });
            }
            StageMessage::Info { text } => self.sink.event(&Event::StageMessage { stage, level: Level::Info, text }),
            StageMessage::Warning { text } => {
                if let Some(running) = self.running.get_mut(&index) {
                    running.warnings.push(text.clone());
                }
                self.sink.event(&Event::StageMessage { stage, level: Level::Warning, text });
            }
        }
    }

    /// The store could not give back what the index promised: the stage runs.
    fn run_instead(&mut self, index: usize, running: Running, digest: &Digest) {
        let mut verdict = running.verdict;
        verdict.decision = Decision::Run;
        verdict.reasons = vec![Reason::plain(
            ReasonKind::Output,
            format!("object {} is missing from the store or corrupt", digest.short()),
        )];
        if self.survey.stage(index).policy.frozen {
            let why = format!("object {} is missing from the store or corrupt", digest.short());
            let error = EngineError::Frozen { stage: self.name(index).to_owned(), why };
            return self.failed(index, error.into(), None, Some((verdict.key, verdict.reasons)));
        }
        self.state[index] = State::Ready;
        let demand = Demand::from(&self.survey.stage(index).policy);
        self.verdicts.insert(index, verdict);
        let priority = self.priority(index);
        self.schedule.add(index, priority, demand);
    }

    fn succeeded(&mut self, index: usize, running: Running, success: Success, seconds: f64) -> Result<(), EngineError> {
        let Running { grant, verdict, started, mut warnings, .. } = running;
        self.committer.add(success.objects);
        let manifests: BTreeMap<_, _> = success.manifests.into_iter().map(|(slot, m)| (slot, Arc::new(m))).collect();
        for (slot, record) in &success.outputs {
            let fact = FileFact { digest: record.digest, size: record.size, executable: record.executable };
            self.survey.note_placed(&record.path, &fact, manifests.get(slot).map(|m| &**m));
        }
        let digests: BTreeMap<&String, Digest> = success.outputs.iter().map(|(slot, o)| (slot, o.digest)).collect();
        let before = verdict.before.as_ref();
        let same = before.is_some_and(|before| !before.is_empty() && before.iter().map(|(s, d)| (s, *d)).eq(digests));
        let cutoff = verdict.decision == Decision::Run && same;
        let promised = verdict.result.as_ref().filter(|_| !self.survey.stage(index).policy.always);
        if let Some(slot) = promised.and_then(|result| other_bytes(&result.outputs, &success.outputs)) {
            let text = format!(
                "output `{slot}` has other bytes than an earlier execution with the same key: it is not reproducible"
            );
            warnings.push(text.clone());
            let stage = self.name(index).to_owned();
            self.sink.event(&Event::StageMessage { stage, level: Level::Warning, text });
        }
        let at = if verdict.decision == Decision::Run {
            let survey = &*self.survey;
            let used: BTreeSet<&str> = verdict
                .record
                .inputs
                .values()
                .flatten()
                .flat_map(BTreeMap::keys)
                .filter_map(|p| Some(p.split_once(':')?.0))
                .collect();
            let root = |name: &str| Some((name.to_owned(), survey.places.named(name)?.to_string_lossy().into_owned()));
            let action = ActionEntry {
                key: verdict.key,
                record: (*verdict.record).clone(),
                outputs: success.outputs.clone(),
                stage: self.name(index).to_owned(),
                run: self.ended.info.run.clone(),
                pipeline: survey.pipeline.clone(),
                reasons: verdict.reasons.clone(),
                started,
                seconds,
                threads: grant.threads,
                peak_memory: success.peak_memory,
                warnings,
                undeclared: success.undeclared,
                roots: used.into_iter().filter_map(root).collect(),
                secrets: survey.stage(index).secrets.clone(),
                reused_by: None,
                host: self.orders.host.0.clone(),
                platform: self.orders.host.1.clone(),
                program: env!("CARGO_PKG_VERSION").to_owned(),
            };
            self.ended.info.executed += 1;
            Some(self.append_action(action)?)
        } else {
            self.ended.info.restored += 1;
            self.place_in_log(index, &verdict)?
        };
        let output = |record: &OutputRecord| ResultOutput {
            fact: FileFact { digest: record.digest, size: record.size, executable: record.executable },
            directory: record.is_directory(),
        };
        let outputs = success.outputs.iter().map(|(slot, record)| (slot.clone(), output(record))).collect();
        self.rests[index] = Some(self.survey.rests(index, &verdict.inputs, &manifests));
        self.survey.settle(index, verdict.key, verdict.record, outputs, manifests);
        self.sink.event(&Event::StageFinished {
            stage: self.name(index).to_owned(),
            decision: verdict.decision,
            key: verdict.key,
            seconds,
            reasons: verdict.reasons.clone(),
            cutoff,
        });
        let entry = MapEntry { at, ..MapEntry::new(verdict.decision, Some(verdict.key), verdict.reasons) };
        self.settled(index, entry);
        Ok(())
    }

    /// A stage's outputs are final: those that wait for it come nearer.
    fn settled(&mut self, index: usize, entry: MapEntry) {
        self.state[index] = State::Settled;
        let name = self.name(index);
        if let (Some(key), Some(known)) = (entry.key, &self.survey.known[index]) {
            let outputs = self.records(index, &known.outputs);
            self.locked.insert(name.to_owned(), LockedStage { key, outputs });
        }
        self.map.insert(name.to_owned(), entry);
        self.tally(index);
        for &next in self.survey.after(index) {
            if self.orders.selected[next] {
                self.left[next] -= 1;
                if self.left[next] == 0 {
                    self.ready.push_back(next);
                }
            }
        }
    }

    fn failed(&mut self, index: usize, failure: Failure, log: Option<String>, decided: Option<(Digest, Vec<Reason>)>) {
        let stage = self.name(index).to_owned();
        self.state[index] = State::Failed;
        let (key, reasons) = decided.map_or((None, Vec::new()), |(key, reasons)| (Some(key), reasons));
        if failure.interrupted {
            self.state[index] = State::Skipped;
            self.ended.info.interrupted = true;
            self.ended.info.skipped += 1;
            self.map.insert(stage.clone(), MapEntry::new(Decision::Skipped, key, reasons));
            self.sink.event(&Event::StageSkipped { stage, needs: None });
            return self.skip_dependents(index);
        }
        self.ended.info.failed += 1;
        self.ended.internal |= failure.internal;
        self.ended.environment |= failure.environment;
        self.stop_after(index);
        let Failure { error, tail, internal, .. } = failure;
        self.map.insert(stage.clone(), MapEntry::failed(key, reasons, &error));
        self.sink.event(&Event::StageFailed { stage, error, log: tail, log_file: log, retry: false, internal });
        self.skip_dependents(index);
    }

    fn skip_dependents(&mut self, index: usize) {
        let mut pending = VecDeque::from([index]);
        while let Some(cause) = pending.pop_front() {
            for &next in self.survey.after(cause) {
                if self.orders.selected[next] && self.state[next] == State::Waiting {
                    self.skip(next, Some(self.name(cause).to_owned()));
                    pending.push_back(next);
                }
            }
        }
    }

    fn skip(&mut self, index: usize, needs: Option<String>) {
        self.state[index] = State::Skipped;
        let stage = self.name(index).to_owned();
        self.map.insert(stage.clone(), MapEntry::new(Decision::Skipped, None, Vec::new()));
        if self.stands_for_items(index) {
            return;
        }
        self.ended.info.skipped += 1;
        self.sink.event(&Event::StageSkipped { stage, needs });
    }

    /// Something of the engine's own cannot be written: nothing new is started.
    fn give_up(&mut self, error: EngineError) {
        self.stopping = true;
        self.fatal.get_or_insert(error);
    }
}

/// Returns an output slot whose bytes are not those of an earlier execution.
fn other_bytes<'o>(
    before: &BTreeMap<String, ResultOutput>,
    now: &'o BTreeMap<String, OutputRecord>,
) -> Option<&'o String> {
    now.iter()
        .find(|(slot, record)| before.get(*slot).is_some_and(|o| o.fact.digest != record.digest))
        .map(|(slot, _)| slot)
}

/// Returns a stage's name as a file name: letters, digits and `-_[]=,.` stay. A name that is changed by that, or long,
/// ends in a digest, for two items may differ in just what is lost.
fn file_name(stage: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_[]=,.".contains(c);
    if stage.chars().all(plain) && stage.len() <= MOST_NAME {
        return stage.to_owned();
    }
    let name: String = stage.chars().map(|c| if plain(c) { c } else { '_' }).take(MOST_NAME).collect();
    format!("{name}.{}", Digest::of_bytes(stage.as_bytes()).short())
}
