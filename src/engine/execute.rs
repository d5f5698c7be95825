//! Carries out a plan: one coordinator (the caller's thread) decides, starts one thread per running stage, takes their
//! messages, records what they did, and tells the sink. Stages are never tasks of a shared pool, where one could be
//! stolen into another while it waits.
//!
//! A stage is decided when everything it takes is final: its key then exists, and if an upstream stage ran and gave the
//! same bytes as before, the key is an old one and the stage is fresh (early cutoff needs no code of its own).

mod conclude;
mod launch;
mod map;
mod outcome;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::commit::Committer;
use crate::compiled::Lookups;
use crate::digest::Digest;
use crate::error::EngineError;
use crate::event::{Decision, Event, Sink};
use crate::history::{OutputRecord, RunInfo};
use crate::index::{Covered, ResultOutput};
use crate::lockfile::LockedStage;
use crate::manifest::FileFact;
use crate::runlog::{self, ActionEntry, Entry, Writer};
use crate::runmap::{MapEntry, RunMap};
use crate::schedule::{Budget, Demand, Grant, Schedule, remaining};
use crate::snapshot::{Rests, Unit};
use crate::store::Store;
use crate::survey::{Survey, Verdict, declared};
use crate::work::{Note, Outcome};

/// How often the coordinator looks whether the user wants to stop.
const LOOK: Duration = Duration::from_millis(50);
/// What a stage without history is taken to last, in seconds, when paths are compared.
const UNKNOWN_SECONDS: f64 = 1.0;
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

    /// Something of the engine's own cannot be written: nothing new is started.
    fn give_up(&mut self, error: EngineError) {
        self.stopping = true;
        self.fatal.get_or_insert(error);
    }
}
