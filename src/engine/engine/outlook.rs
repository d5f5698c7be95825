//! What a project expects and rests on: forecasts, sources, critical paths, the decision about one stage.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Engine, PlanOptions};
use crate::critical::CriticalPath;
use crate::error::EngineError;
use crate::event::{Decision, Reason, ReasonKind};
use crate::forecast::{self, Forecast, Left};
use crate::history::{Why, WhyRun};
use crate::index::Index;
use crate::lockfile::LockFile;
use crate::map::{is_collector, label_in};
use crate::plan::PlanRow;
use crate::reads::{self, Source};
use crate::runlog::{ActionEntry, action_at};
use crate::suggest::did_you_mean;
use crate::targets;

impl Engine {
    /// Returns what the selected stages (options as of a run) are expected to take by what they took before. Stages
    /// that turn out to be up to date are to be settled as a run tells of them.
    ///
    /// # Errors
    /// Unknown targets; the index cannot be read.
    pub fn forecast(&self, targets: &[String], jobs: usize) -> Result<Forecast, EngineError> {
        let selected = self.choose(targets, &[])?.selected;
        let (index, _) = Index::open(&self.cache())?;
        let pipeline = self.pipeline();
        let seconds = |stage: &crate::spec::StageSpec| index.last_seconds(&pipeline, &stage.name);
        let expected = self.spec.stages.iter().map(seconds).collect();
        Ok(Forecast::new(&self.spec, &self.wiring, self.budget(jobs), selected, expected))
    }

    /// Returns where the source inputs of the selected stages and all they need lie, and the pipeline file.
    ///
    /// # Errors
    /// Unknown targets.
    pub fn sources(&self, targets: &[String]) -> Result<Vec<Source>, EngineError> {
        let mut sources = reads::of(&self.spec, &self.wiring, &self.places, &self.choose(targets, &[])?.selected);
        sources.push(Source::File(self.project.file.clone()));
        Ok(sources)
    }

    /// Returns whether a file (by its absolute path) is the engine's own or an output of a stage, rather than a source.
    pub fn makes(&self, file: &Path) -> bool {
        let Ok(relative) = file.strip_prefix(&self.project.root) else { return false };
        // The lock file, and it under the name it has while it is written.
        let lock = LockFile::path_for(&self.project.file);
        let is_lock = || file.to_str().zip(lock.to_str()).is_some_and(|(file, lock)| file.starts_with(lock));
        file.starts_with(self.project.cache())
            || is_lock()
            || relative.to_str().is_some_and(|path| self.wiring.producer(&self.spec, path).is_some())
    }

    /// Returns the critical path of a run: `took` has the seconds of each stage it executed or restored.
    pub fn critical_path(&self, took: &BTreeMap<String, f64>) -> CriticalPath {
        forecast::critical_path(&self.spec, &self.wiring, took)
    }

    /// Returns the last decision about a stage (full name) and what would be decided now.
    ///
    /// # Errors
    /// Unknown stage; as [`Engine::plan`].
    pub fn why(&self, stage: &str) -> Result<Why, EngineError> {
        if !self.spec.stages.iter().any(|s| s.name == stage) && targets::item_of(&self.spec, stage).is_none() {
            let names: Vec<&str> = self.spec.stages.iter().map(|s| s.name.as_str()).collect();
            let help = did_you_mean(stage, &names);
            return Err(EngineError::UnknownTarget { target: stage.to_owned(), help });
        }
        let history = self.history()?;
        let mut last = None;
        let mut record = None;
        if let Some(run) = history.last_of(&self.pipeline())?
            && let Some(entry) = history.map(&run)?.remove(stage)
        {
            let action = entry.at.map(|at| action_at(&history.cache, at)).transpose()?;
            last = Some(WhyRun {
                run: run.info.run,
                started: run.info.started,
                decision: entry.decision,
                key: entry.key,
                reasons: entry.reasons,
                seconds: action.as_ref().map(|action| action.seconds),
            });
            record = action.map(|action| action.record);
        }
        let executed = history.index.last_action(&self.pipeline(), stage);
        let executed = executed.map(|at| action_at(&history.cache, at)).transpose()?;
        let leaves = record.or_else(|| executed.as_ref().map(|action| action.record.clone()));
        let plan = self.plan(&PlanOptions { targets: vec![stage.to_owned()], ..PlanOptions::default() })?;
        let now = self
            .row_of(stage, plan.stages)
            .ok_or_else(|| EngineError::Internal(format!("`{stage}` is missing from its own plan")))?;
        let since = now.key.and_then(|key| history.index.action_of(&self.pipeline(), stage, &key));
        let since = since.map(|at| action_at(&history.cache, at)).transpose()?;
        let told = |action: ActionEntry| WhyRun {
            run: action.run,
            started: action.started,
            decision: Decision::Run,
            key: Some(action.key),
            reasons: action.reasons,
            seconds: Some(action.seconds),
        };
        Ok(Why {
            stage: stage.to_owned(),
            last,
            executed: executed.map(told),
            since: since.map(told),
            leaves: leaves.map(|record| record.leaves()).unwrap_or_default(),
            now,
        })
    }

    /// Returns the row of a stage; for a mapped stage, what its items come to.
    fn row_of(&self, stage: &str, mut rows: Vec<PlanRow>) -> Option<PlanRow> {
        if let Some(row) = rows.iter().position(|row| row.name == stage) {
            return Some(rows.swap_remove(row));
        }
        let mapped = self.spec.stages.iter().find(|s| s.name == stage).filter(|s| is_collector(s))?;
        rows.retain(|row| label_in(&mapped.name, &row.name).is_some());
        let has = |decision| rows.iter().any(|row| row.decision == decision);
        let decision = [Decision::Run, Decision::Restore].into_iter().find(|d| has(*d)).unwrap_or(Decision::Fresh);
        let differing = rows.iter().filter(|row| row.decision != Decision::Fresh);
        let reasons = differing.map(|row| Reason::plain(ReasonKind::Upstream, &*row.name)).collect();
        Some(PlanRow { name: stage.to_owned(), decision, reasons, key: None, seconds: None })
    }

    /// What is left of a plan. A mapped stage whose items are known stands for all of them: together they take what
    /// they take, spread over the threads.
    pub(super) fn foresee(&self, rows: &[PlanRow], jobs: usize) -> Left {
        let rows: BTreeMap<&str, &PlanRow> = rows.iter().map(|row| (row.name.as_str(), row)).collect();
        let tokens = super::threads(jobs) as f64;
        let of = |stage: &crate::spec::StageSpec| -> (bool, Option<f64>) {
            if let Some(row) = rows.get(stage.name.as_str()) {
                return (row.may_run(), row.seconds);
            }
            if !is_collector(stage) {
                return (false, None);
            }
            let prefix = format!("{}[", stage.name);
            let items = rows.range(&*prefix..).take_while(|(name, _)| name.starts_with(&prefix));
            let left: Vec<&PlanRow> = items.map(|(_, row)| *row).filter(|row| row.may_run()).collect();
            let seconds: Option<f64> = left.iter().map(|row| row.seconds).sum();
            (!left.is_empty(), seconds.map(|seconds| seconds / tokens.min(left.len().max(1) as f64)))
        };
        let (left, expected) = self.spec.stages.iter().map(of).unzip();
        Forecast::new(&self.spec, &self.wiring, self.budget(jobs), left, expected).left(&BTreeMap::new())
    }
}
