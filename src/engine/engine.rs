//! The façade: a project and its pipeline, and everything a command can ask of them.

mod outlook;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use crate::bundle::Bundle;
use crate::compare::{self, Comparison};
use crate::compiled::Reading;
use crate::difference::Compare;
use crate::digest::Digest;
use crate::error::EngineError;
use crate::event::{Event, Sink};
use crate::execute::{self, Ended, Keep, Orders};
use crate::history::{RunDetail, RunInfo};
use crate::index::Index;
use crate::lineage::Lineage;
use crate::lockfile::{self, LockFile};
use crate::map::Expansions;
use crate::metrics::{Declared, RunMetrics, Series};
use crate::plan::{self, Plan};
use crate::project::{ProjectLock, host, new_temp, run_id, total_memory};
use crate::quick::Glance;
use crate::records::History;
use crate::rerun::{self, RerunEvent, RerunOptions, RerunReport};
use crate::runlog::Writer;
use crate::schedule::Budget;
use crate::sign::{self, PublicKey};
use crate::snapshot::Snapshot;
use crate::sources::Places;
use crate::spec::{Spec, SpecErrors};
use crate::statcache::{StatCache, clock};
use crate::store::Store;
use crate::survey::{Asked, Mapped, Prepared, Survey, declared};
use crate::targets::{self, Chosen};
use crate::verify::{Check, VerifyReport};
use crate::wiring::Wiring;

pub use crate::project::Project;

/// What to plan.
#[derive(Clone, Debug, Default)]
pub struct PlanOptions {
    /// Stage names (with or without the matrix combination) or artifact paths; empty for all.
    pub targets: Vec<String>,
    /// Stages to run whatever their key says.
    pub force: Vec<String>,
    /// Do not trust the stat memo: hash every file again.
    pub rehash: bool,
    /// Thread tokens for the predicted time; 0 for the number of cores.
    pub jobs: usize,
}

/// How to run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunOptions {
    /// Stage names or artifact paths; empty for all.
    pub targets: Vec<String>,
    /// Stages to run whatever their key says.
    pub force: Vec<String>,
    /// Do not trust the stat memo: hash every file again.
    pub rehash: bool,
    /// Thread tokens; 0 for the number of cores.
    pub jobs: usize,
    /// After a failure run what does not depend on it.
    pub keep_going: bool,
    /// Execute exactly this saved plan (JSON of [`Plan`]) or refuse.
    pub plan_file: Option<PathBuf>,
}

/// What a run did.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSummary {
    /// The run in short; recorded in the run log.
    pub info: RunInfo,
    /// A stage panicked or broke an invariant.
    pub internal: bool,
    /// A stage failed through the environment (a full disk, an unreachable database).
    pub environment: bool,
}

impl RunSummary {
    /// Returns the program's exit code: 0, 1 a stage failed, 3 through the environment, 70 a bug, 130 interrupted.
    pub fn exit_code(&self) -> u8 {
        match &self.info {
            _ if self.internal => 70,
            info if info.interrupted => 130,
            _ if self.environment => 3,
            info if info.failed > 0 => 1,
            _ => 0,
        }
    }
}

/// What to verify.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// Stage names or artifact paths whose outputs are compared; empty for all, and then store and run log too.
    pub targets: Vec<String>,
    /// Put right what the store or the disk allows.
    pub repair: bool,
    /// Check the signatures of all runs with the key in this file.
    pub key: Option<PathBuf>,
}

/// Why a pipeline cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// Its text has errors.
    Spec(SpecErrors),
    /// Something else.
    Engine(EngineError),
}

impl From<SpecErrors> for OpenError {
    fn from(errors: SpecErrors) -> Self {
        Self::Spec(errors)
    }
}

impl From<EngineError> for OpenError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

/// Returns how many thread tokens a run with this many jobs has; 0 = as many as there are cores.
pub(crate) fn threads(jobs: usize) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if jobs == 0 { cores() } else { jobs }
}

/// A project with a checked pipeline, ready for every command.
pub struct Engine {
    project: Project,
    spec: Spec,
    env: BTreeMap<String, String>,
    prepared: Vec<Prepared>,
    wiring: Wiring,
    places: Places,
    keep: Option<Keep>,
}

impl Engine {
    /// Reads the pipeline (as it was kept by an earlier start, if nothing has changed) and makes an engine of it.
    ///
    /// # Errors
    /// Everything that is wrong with the pipeline's text, at once.
    pub fn open(reading: &Reading<'_>) -> Result<Self, OpenError> {
        let identity = reading.identity();
        let (spec, lookups) = reading.spec(&identity)?;
        let keep = reading.kept(&reading.project.cache(), "fresh").map(|file| Keep { file, identity, lookups });
        let engine = Self::new(reading.project.clone(), spec, reading.env.clone())?;
        Ok(Self { keep, ..engine })
    }

    /// Makes an engine. `env` is the whole environment of the process; a stage sees of it only what it declares.
    ///
    /// # Errors
    /// The graph has errors.
    pub fn new(project: Project, spec: Spec, env: BTreeMap<String, String>) -> Result<Self, EngineError> {
        let prepared = Prepared::all(&spec)?;
        let wiring = Wiring::new(&spec)?;
        let places = Places::new(&project.root, &spec);
        Ok(Self { project, spec, env, prepared, wiring, places, keep: None })
    }

    /// Returns the project.
    pub fn project(&self) -> &Project {
        &self.project
    }

    /// Returns the pipeline.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Says what a run would do, without doing it; takes no lock.
    ///
    /// # Errors
    /// Unknown targets, missing source files, unreadable files.
    pub fn plan(&self, options: &PlanOptions) -> Result<Plan, EngineError> {
        let Chosen { selected, forced, asked } = self.choose(&options.targets, &options.force)?;
        let expansions = Expansions::of(&self.spec);
        let (index, damage) = Index::open(&self.cache())?;
        let bytes = self.snapshot_bytes(options.rehash || !damage.is_empty());
        let glance = self.glance(&bytes);
        let mapped = self.mapped(&expansions, asked);
        let temp = self.cache().join("tmp");
        let mut survey = self.survey(index, forced, mapped, options.rehash, &temp, glance.as_deref())?;
        self.plan_in(&mut survey, &selected, options.jobs)
    }

    fn plan_in(&self, survey: &mut Survey<'_>, selected: &[bool], jobs: usize) -> Result<Plan, EngineError> {
        survey.look_ahead(selected)?;
        let missing = survey.missing_sources(selected)?;
        if !missing.is_empty() {
            return Err(EngineError::MissingInputs(missing));
        }
        let stages = survey.plan(selected)?;
        // A plan only reads; that it hashed something is worth remembering, but not worth failing for.
        let _ = survey.memo.save();
        let left = self.foresee(&stages, jobs);
        let may_run = stages.iter().filter(|row| row.may_run()).count();
        Ok(Plan {
            pipeline: self.pipeline(),
            overrides: self.overrides(),
            stages,
            seconds: (left.unknown == 0 || left.unknown < may_run).then_some(left.seconds),
            unknown: left.unknown,
            critical_path: left.path,
            critical_seconds: left.path_seconds,
        })
    }

    /// Brings the selected stages up to date. A failed stage is no error: see [`RunSummary::exit_code`].
    /// `cancel` may be set from a signal handler: running stages are stopped and their scratch is dropped.
    ///
    /// # Errors
    /// As [`Engine::plan`]; the lock is held; the disk is full or not writable.
    pub fn run(&self, options: &RunOptions, sink: &dyn Sink, cancel: &AtomicBool) -> Result<RunSummary, EngineError> {
        self.run_after(None, options, sink, cancel)
    }

    /// As [`Engine::run`], after [`crate::quick::run`] has looked at the files.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub fn run_after(
        &self,
        mut glance: Option<Box<Glance<'_>>>,
        options: &RunOptions,
        sink: &dyn Sink,
        cancel: &AtomicBool,
    ) -> Result<RunSummary, EngineError> {
        let Chosen { selected, forced, asked } = self.choose(&options.targets, &options.force)?;
        let expansions = Expansions::of(&self.spec);
        let cache = self.cache();
        let handed_over = glance.as_mut().and_then(|glance| glance.lock.take());
        // Under a lock that was never given back no run has written the lock file since it was looked at.
        let watched = handed_over.is_some();
        let _lock = handed_over.map_or_else(|| ProjectLock::take(&cache), Ok)?;
        let signer = sign::configured(&self.project.root, &self.env, self.spec.sign.as_deref())?;
        let (signer, warning) = signer.map_or((None, None), |(signer, warning)| (Some(signer), warning));
        let (index, mut damage) = Index::open(&cache)?;
        let (mut writer, torn) = Writer::open(&cache, index.covered().head, index.covered().len)?;
        writer.sign_with(signer);
        let run = run_id(&writer.head());
        let temp = new_temp(&cache, &run)?;
        let bytes = self.snapshot_bytes(glance.is_some() || options.rehash || !damage.is_empty());
        let glance = glance.filter(|glance| damage.is_empty() && self.fits(&glance.snapshot, watched));
        let glance = glance.or_else(|| self.glance(&bytes));
        let mapped = self.mapped(&expansions, asked);
        let mut survey = self.survey(index, forced, mapped, options.rehash, &temp, glance.as_deref())?;
        self.check_owners(&survey.index)?;
        survey.look_ahead(&selected)?;
        let missing = survey.missing_sources(&selected)?;
        if !missing.is_empty() {
            let _ = survey.memo.save();
            return Err(EngineError::MissingInputs(missing));
        }
        if let Some(file) = &options.plan_file {
            self.hold_to(file, &mut survey, &selected, options.jobs)?;
        }
        let budget = self.budget(options.jobs);
        let stages = selected.iter().filter(|selected| **selected).count();
        sink.event(&Event::RunStarted { run: run.clone(), pipeline: self.pipeline(), stages, jobs: budget.threads });
        warning.into_iter().for_each(|text| sink.event(&Event::Warning { text }));
        if let Some(torn) = torn {
            let text = format!("the last entry of the run log was incomplete; it is kept in `{}`", torn.display());
            sink.event(&Event::Warning { text });
        }
        if let Err(error) = &survey.lock_error {
            let text = format!("{error}; it is written anew");
            sink.event(&Event::Warning { text });
        }
        damage.dedup();
        for text in &damage {
            sink.event(&Event::Warning { text: format!("{text}; see `logweir verify`") });
        }
        let orders = Orders {
            selected,
            budget,
            keep_going: options.keep_going,
            info: self.new_info(run, options),
            temp: temp.clone(),
            lock_path: LockFile::path_for(&self.project.file),
            damage,
            keep: self.keep.as_ref(),
            host: host(),
            cancel,
        };
        let ended = execute::run(&mut survey, &orders, writer, sink);
        // What is left of it is removed at the start of the next run.
        let _ = fs::remove_dir_all(&temp);
        let Ended { info, internal, environment } = ended?;
        Ok(RunSummary { info, internal, environment })
    }

    /// Refuses unless a saved plan is what would happen now.
    fn hold_to(&self, file: &Path, survey: &mut Survey<'_>, selected: &[bool], jobs: usize) -> Result<(), EngineError> {
        let text = fs::read_to_string(file).map_err(EngineError::io("read", file))?;
        let saved: Plan = serde_json::from_str(&text)
            .map_err(|e| EngineError::PlanFile { path: file.to_path_buf(), message: e.to_string() })?;
        let now = self.plan_in(survey, selected, jobs)?;
        survey.known.fill(None);
        let differences = plan::differences(&saved, &now);
        if differences.is_empty() { Ok(()) } else { Err(EngineError::PlanChanged { differences }) }
    }

    /// Returns everything that produced `target`: a path, `path#/json/pointer`, a digest, or a copy of a produced file
    /// anywhere (relative to the project or absolute). With `run`, as of that run.
    ///
    /// # Errors
    /// Nothing recorded produced it; unknown run.
    pub fn lineage(&self, target: &str, run: Option<&str>) -> Result<Lineage, EngineError> {
        self.project.lineage(target, run)
    }

    /// Returns everything recorded of a run in one document: its id, a unique beginning of it, `last`, or `last~N`.
    ///
    /// # Errors
    /// Unknown run; records cannot be read.
    pub fn bundle(&self, run: &str) -> Result<Bundle, EngineError> {
        let history = self.history()?;
        let run = history.find(run)?;
        Bundle::of(&history, run)
    }

    /// Returns everything derived from `target`: whatever [`Engine::lineage`] takes. With `run`, as of that run; else in
    /// the state the last runs of all pipelines left.
    ///
    /// # Errors
    /// Nothing recorded read or produced it; unknown run.
    pub fn impact(&self, target: &str, run: Option<&str>) -> Result<Lineage, EngineError> {
        self.project.impact(target, run)
    }

    /// Returns all runs recorded in this project (of every pipeline file), oldest first.
    ///
    /// # Errors
    /// The run log cannot be read.
    pub fn runs(&self) -> Result<Vec<RunInfo>, EngineError> {
        self.history()?.summaries()
    }

    /// Returns one run in detail: its id, a unique beginning of it, `last`, or `last~N`.
    ///
    /// # Errors
    /// Unknown run.
    pub fn show(&self, run: &str) -> Result<RunDetail, EngineError> {
        let history = self.history()?;
        let run = history.find(run)?;
        history.detail(run)
    }

    /// Compares two runs (each as for [`Engine::show`]); `declared` says which artifacts hold metrics.
    ///
    /// # Errors
    /// Unknown runs; records cannot be read.
    pub fn compare(&self, from: &str, to: &str, declared: &Declared) -> Result<Comparison, EngineError> {
        let history = self.history()?;
        compare::compare(&history, &history.find(from)?, &history.find(to)?, declared)
    }

    /// Returns the numbers that the runs of this pipeline left, oldest first: of the run `until` (`None`: the last) and
    /// all runs before it, as far as `enough` (asked with the newest first) wants more.
    ///
    /// # Errors
    /// Unknown run; records cannot be read.
    pub fn metrics(
        &self,
        until: Option<&str>,
        declared: &Declared,
        mut enough: impl FnMut(&RunMetrics) -> bool,
    ) -> Result<Vec<RunMetrics>, EngineError> {
        let history = self.history()?;
        let until = until.map(|run| history.find(run)).transpose()?;
        let pipeline = until.as_ref().map_or_else(|| self.pipeline(), |run| run.info.pipeline.clone());
        let mut series = Series::new(&history, declared);
        let mut found = Vec::new();
        let mut begun = until.is_none();
        for at in history.index.runs().iter().rev() {
            let run = crate::runlog::run_at(&history.cache, *at)?;
            begun |= until.as_ref().is_some_and(|until| until.info.run == run.info.run);
            if !begun || run.info.pipeline != pipeline {
                continue;
            }
            found.push(series.of(&run)?);
            if found.last().is_some_and(&mut enough) {
                break;
            }
        }
        found.reverse();
        Ok(found)
    }

    /// Re-hashes outputs, store and run log and names each difference.
    ///
    /// # Errors
    /// Unknown targets; unreadable files.
    pub fn verify(&self, options: &VerifyOptions, _sink: &dyn Sink) -> Result<VerifyReport, EngineError> {
        let selected = self.choose(&options.targets, &[])?.selected;
        let _lock = if options.repair { Some(ProjectLock::take(&self.cache())?) } else { None };
        let history = self.history()?;
        let (lock, lock_error) = match LockFile::read(&LockFile::path_for(&self.project.file)) {
            Ok(lock) => {
                let odd = !lock.is_as_written(&LockFile::path_for(&self.project.file));
                (lock, odd.then(|| "has lines that no run writes so".to_owned()))
            }
            Err(error @ EngineError::LockFile { .. }) => (LockFile::default(), Some(error.to_string())),
            Err(error) => return Err(error),
        };
        let check = Check {
            history: &history,
            lock,
            lock_exists: LockFile::path_for(&self.project.file).exists(),
            lock_error,
            declared: self
                .spec
                .stages
                .iter()
                .flat_map(|stage| stage.outputs.values().map(|o| declared(&o.path, o.directory)))
                .collect(),
            key: options.key.as_deref().map(PublicKey::read).transpose()?,
            lock_name: LockFile::path_for(Path::new(&self.pipeline())).to_string_lossy().into_owned(),
            pipeline: self.pipeline(),
            stages: self
                .spec
                .stages
                .iter()
                .zip(&selected)
                .filter(|(_, on)| **on)
                .map(|(s, _)| s.name.clone())
                .collect(),
            everything: options.targets.is_empty(),
        };
        let mut report = check.run()?;
        if options.repair {
            let temp = new_temp(&self.cache(), "repair")?;
            check.repair(&mut report, &temp)?;
            let _ = fs::remove_dir_all(&temp);
        }
        Ok(report)
    }

    /// Executes stages again, in scratch, and compares their outputs with the recorded ones; nothing of the project is
    /// changed. `told` is handed what happens. `cancel` may be set from a signal handler: running stages are stopped and
    /// their scratch is dropped.
    ///
    /// # Errors
    /// Unknown targets; another run holds the lock; missing source files; the disk is not writable.
    pub fn rerun(
        &self,
        options: &RerunOptions,
        compare: &dyn Compare,
        told: &(dyn Fn(RerunEvent<'_>) + Sync),
        cancel: &AtomicBool,
    ) -> Result<RerunReport, EngineError> {
        let Chosen { selected, forced, asked } = self.choose(&options.targets, &[])?;
        let expansions = Expansions::of(&self.spec);
        let _lock = ProjectLock::take(&self.cache())?;
        let (index, _) = Index::open(&self.cache())?;
        let temp = new_temp(&self.cache(), "rerun")?;
        let mut survey = self.survey(index, forced, self.mapped(&expansions, asked), true, &temp, None)?;
        let report = rerun::run(&mut survey, options, &selected, &temp, compare, told, cancel);
        let _ = fs::remove_dir_all(&temp);
        report
    }

    fn cache(&self) -> PathBuf {
        self.project.root.join("cache")
    }

    pub(crate) fn pipeline(&self) -> String {
        self.project.file_name()
    }

    fn history(&self) -> Result<History, EngineError> {
        History::open(&self.project.root, &self.cache())
    }

    fn overrides(&self) -> Vec<String> {
        let profile = self.spec.profile.iter().map(|profile| format!("--profile {profile}"));
        profile.chain(self.spec.overrides.iter().cloned()).collect()
    }

    fn choose(&self, targets: &[String], force: &[String]) -> Result<Chosen, EngineError> {
        targets::choose(&self.spec, &self.wiring, targets, force)
    }

    fn mapped<'s>(&self, expansions: &'s Expansions, asked: Asked) -> Mapped<'s> {
        Mapped { expansions, items: Vec::new(), ranges: BTreeMap::new(), asked }
    }

    fn survey<'s>(
        &'s self,
        index: Index,
        forced: Vec<Option<&'static str>>,
        mapped: Mapped<'s>,
        rehash: bool,
        temp: &Path,
        glance: Option<&'s Glance<'s>>,
    ) -> Result<Survey<'s>, EngineError> {
        let cache = self.cache();
        let frozen = self.spec.stages.iter().any(|stage| stage.policy.frozen);
        // A lock file that is as the snapshot knows it is only read where it is written again, block by block.
        let lock = match glance {
            Some(_) if !frozen => Ok(LockFile::default()),
            _ => LockFile::read(&LockFile::path_for(&self.project.file)),
        };
        let (lock, lock_error) = match lock {
            Ok(lock) => (lock, Ok(())),
            // Only frozen stages need it; all others get a new one.
            Err(error) if frozen => return Err(error),
            Err(error) => (LockFile::default(), Err(error)),
        };
        let mut survey = Survey {
            spec: &self.spec,
            wiring: &self.wiring,
            prepared: &self.prepared,
            places: &self.places,
            env: &self.env,
            store: Store::new(&cache, temp, self.spec.link),
            memo: StatCache::open(&cache, rehash),
            pipeline: self.pipeline(),
            known: vec![None; self.spec.stages.len()],
            tools: BTreeMap::new(),
            cache,
            index,
            lock,
            lock_error,
            forced,
            mapped,
            before: None,
        };
        if let Some(Glance { snapshot, same, .. }) = glance {
            survey.begin_from(snapshot, same);
        }
        Ok(survey)
    }

    /// Reads the snapshot of the last run, unless it is of no use.
    fn snapshot_bytes(&self, useless: bool) -> Vec<u8> {
        let keep = self.keep.as_ref().filter(|_| !useless);
        keep.and_then(|keep| fs::read(&keep.file).ok()).unwrap_or_default()
    }

    /// Looks at the places of a snapshot, if it is of this pipeline as it is now.
    fn glance<'b>(&self, bytes: &'b [u8]) -> Option<Box<Glance<'b>>> {
        let mut snapshot = Snapshot::parse(bytes).filter(|snapshot| self.fits(snapshot, false))?;
        let same = snapshot.look(&self.places, clock(&self.cache()).unwrap_or(0));
        Some(Box::new(Glance { snapshot, same, lock: None }))
    }

    /// Whether a snapshot is of this pipeline as it is now, and of the lock file unless that is known.
    fn fits(&self, snapshot: &Snapshot<'_>, lock_file_known: bool) -> bool {
        let blocks = || lockfile::blocks_on_disk(&LockFile::path_for(&self.project.file));
        let value = |name: &str| self.env.get(name).map(|value| *Digest::of_bytes(value.as_bytes()).as_bytes());
        let named = || self.places.all_named().iter().map(|(name, place)| (name.clone(), place.clone()));
        self.keep.as_ref().is_some_and(|keep| snapshot.identity == *keep.identity.as_bytes())
            && snapshot.lookups.iter().all(|(name, then)| value(name) == *then)
            && snapshot.roots().eq(named())
            && (lock_file_known || snapshot.blocks == *blocks().as_bytes())
    }

    fn budget(&self, jobs: usize) -> Budget {
        let threads = threads(jobs);
        let pools = self.spec.pools.iter().map(|(name, size)| (name.clone(), *size)).collect();
        Budget { threads, memory: total_memory(), pools }
    }

    fn new_info(&self, run: String, options: &RunOptions) -> RunInfo {
        let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        RunInfo {
            run,
            started: now.clone(),
            finished: now,
            pipeline: self.pipeline(),
            profile: self.spec.profile.clone(),
            overrides: self.spec.overrides.clone(),
            forced: options.force.clone(),
            targets: options.targets.clone(),
            ..RunInfo::default()
        }
    }

    /// A path is written by one stage of one pipeline: looks into the lock files of the other pipelines of the project.
    fn check_owners(&self, index: &Index) -> Result<(), EngineError> {
        let here = self.pipeline();
        for other in index.last_runs().keys().filter(|other| **other != here) {
            let file = self.project.root.join(other);
            let Ok(lock) = LockFile::read(&LockFile::path_for(&file)) else { continue };
            if !file.is_file() {
                continue;
            }
            for (other_stage, locked) in &lock.stages {
                for output in locked.outputs.values() {
                    if let Some((own, _)) = self.wiring.producer(&self.spec, &output.path) {
                        return Err(EngineError::Owned {
                            path: output.path.clone(),
                            stage: self.spec.stages[own.stage].name.clone(),
                            other_stage: other_stage.clone(),
                            other_pipeline: other.clone(),
                        });
                    }
                }
            }
        }
        Ok(())
    }
}
