//! The end of a run: what was not started is skipped, the run is recorded, lock file and index are brought up to date.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use super::{Coordinator, Ended, Keep, State};
use crate::compiled::write_sealed;
use crate::digest::Digest;
use crate::error::EngineError;
use crate::event::{Decision, Event};
use crate::failpoint;
use crate::history::RunInfo;
use crate::lockfile::{self, LockFile, LockedStage};
use crate::runlog::{self, Entry, RunEntry};
use crate::runmap::{self, MapEntry};
use crate::snapshot::{self, Frame, NewUnit, UnitRests};

impl Coordinator<'_, '_> {
    /// Skips what was not started, records the run, brings the lock file and the index up to date.
    pub(super) fn conclude(mut self) -> Result<Ended, EngineError> {
        let left: Vec<usize> = (0..self.state.len())
            .filter(|index| *self.orders.selected.get(*index).unwrap_or(&true))
            .filter(|index| matches!(self.state[*index], State::Waiting | State::Ready))
            .collect();
        for index in left {
            self.skip(index, None);
        }
        if let Some(error) = self.fatal.take() {
            // What was finished is in the log; without this the index would only have to be replayed.
            let _ = self.survey.memo.save();
            let _ = self.committer.finish();
            return Err(error);
        }
        self.carry_over()?;
        self.ended.info.seconds = self.began.elapsed().as_secs_f64();
        self.ended.info.finished = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        let mut objects = Vec::new();
        let map = self.save_map(None, |index| !self.orders.selected[index], &mut objects)?;
        failpoint::hit("map_saved");
        self.committer.add(objects);
        let roots = self.survey.places.all_named();
        let entry = RunEntry {
            info: self.ended.info.clone(),
            map,
            roots: roots.iter().map(|(name, place)| (name.clone(), place.to_string_lossy().into_owned())).collect(),
            host: format!("{} ({})", self.orders.host.0, self.orders.host.1),
            damage: self.orders.damage.clone(),
            signature: None,
        };
        let entry = Entry::Run(Box::new(entry));
        let at = self.append(&entry)?;
        if let Entry::Run(run) = &entry {
            self.survey.index.add_run(at, run);
        }
        // While the disk works, what is written next is made ready.
        self.committer.hand_over();
        let whole = self.survey.spec.overrides.is_empty() && self.survey.spec.profile.is_none();
        let locked = std::mem::take(&mut self.locked);
        let lock = if whole { Some(self.lock_text(locked)?) } else { None };
        let snapshot = self.orders.keep.and_then(|keep| self.snapshot(keep, lock.as_deref()));
        self.committer.finish()?;
        if let Some(text) = &lock {
            lockfile::write_text(text, &self.orders.lock_path)?;
        }
        let saved = self.survey.memo.save();
        saved.map_err(EngineError::io("write", &self.survey.cache.join("stat")))?;
        self.survey.index.save()?;
        if let (Some(keep), Some(snapshot)) = (self.orders.keep, snapshot) {
            // Without it the next start decides everything anew.
            let _ = write_sealed(&keep.file, snapshot);
        }
        let RunInfo { run, executed, restored, fresh, failed, skipped, seconds, .. } = self.ended.info.clone();
        self.sink.event(&Event::RunFinished { run, executed, restored, fresh, failed, skipped, seconds });
        Ok(self.ended)
    }

    /// Returns what the freshness of every settled stage rests on, encoded. `lock` is the lock file as it is about to be
    /// written; `None` where it is left as it is.
    fn snapshot(&self, keep: &Keep, lock: Option<&str>) -> Option<Vec<u8>> {
        let survey = &*self.survey;
        let (spec, before) = (survey.spec, survey.before.as_ref());
        let settled = |index: usize| {
            let entry = self.map.get(&survey.stage(index).name)?;
            let key = entry.key?;
            match (&self.rests[index], before) {
                (Some(rests), _) => Some((key, entry.at, UnitRests::New(rests))),
                // Not selected, or untouched.
                (None, Some(before)) if index < spec.stages.len() && before.fresh[index] => {
                    Some((key, entry.at, UnitRests::Old(before.snapshot, index)))
                }
                _ => None,
            }
        };
        let stages = spec.stages.len();
        let mut units: Vec<NewUnit<'_>> = (0..survey.count())
            .map(|index| NewUnit {
                name: &survey.stage(index).name,
                collects: survey.is_collector(index),
                item_of: survey.parent(index).map(|parent| parent as u32),
                settled: settled(index),
            })
            .collect();
        units.extend(self.untouched_items());
        let decided_elsewhere = |index: usize| {
            if index >= stages {
                return false;
            }
            let effect = survey.prepared[index].made.as_ref().is_some_and(|made| made.stage.effect().is_some());
            effect || spec.stages[index].policy.always
        };
        let complete = (0..units.len()).all(|index| units[index].settled.is_some() && !decided_elsewhere(index));
        let map = if complete { Some(self.fresh_map().ok()?) } else { None };
        let mut lookups: BTreeMap<&str, Option<[u8; 32]>> = BTreeMap::new();
        lookups.extend(keep.lookups.iter().map(|(name, value)| (name.as_str(), value.map(|v| *v.as_bytes()))));
        for name in spec.stages.iter().flat_map(|stage| &stage.env) {
            let value = survey.env.get(name).map(|value| *Digest::of_bytes(value.as_bytes()).as_bytes());
            lookups.insert(name, value);
        }
        let named = survey.places.all_named();
        let roots: Option<Vec<(&str, &str)>> = named.iter().map(|(name, at)| Some((&**name, at.to_str()?))).collect();
        let openlineage = spec.openlineage.as_ref().and_then(|told| serde_json::to_string(told).ok());
        let frame = Frame {
            identity: keep.identity,
            lookups: lookups.into_iter().collect(),
            tools: survey.tools.iter().map(|(tool, output)| (&**tool, &**output)).collect(),
            covered: *survey.index.covered(),
            map,
            blocks: lock.map_or_else(|| lockfile::blocks_on_disk(&self.orders.lock_path), lockfile::blocks_of),
            roots: roots?,
            sign: survey.spec.sign.as_deref(),
            openlineage: openlineage.as_deref(),
        };
        snapshot::encode(frame, &units).ok()
    }

    /// Stores the map, with `all` as of a run that decided so about every stage; what the map of the last run has too is not written again. `other` says of a stage that is fresh by
    /// the snapshot whether it has another entry all the same.
    fn save_map(
        &self,
        all: Option<Decision>,
        other: impl Fn(usize) -> bool,
        objects: &mut Vec<PathBuf>,
    ) -> Result<Digest, EngineError> {
        let survey = &*self.survey;
        // Items come and go, so the map of a pipeline that has some is written whole.
        let mapped = survey.mapped.expansions.stages().next().is_some();
        let before = survey.before.as_ref().filter(|_| !mapped);
        let root = before.and_then(|before| before.snapshot.map).map(Digest::from);
        let stages = survey.spec.stages.iter().enumerate();
        let changed: Vec<&str> = stages
            .filter(|(index, _)| root.is_some() && (!survey.is_fresh(*index) || other(*index)))
            .map(|(_, stage)| stage.name.as_str())
            .collect();
        runmap::save(&self.map, root.as_ref().map(|root| (root, &*changed)), all, &survey.store, objects)
    }

    /// Returns the items of mapped stages that are as the snapshot found them.
    fn untouched_items(&self) -> Vec<NewUnit<'_>> {
        let survey = &*self.survey;
        let (Some(before), stages) = (survey.before.as_ref(), survey.spec.stages.len()) else { return Vec::new() };
        let numbered = before.snapshot.units.iter().enumerate().skip(stages);
        let untouched = numbered.filter_map(|(number, unit)| {
            let settled = before.fresh[unit.item_of? as usize].then(|| {
                let entry = self.map.get(unit.name)?;
                Some((entry.key?, entry.at, UnitRests::Old(before.snapshot, number)))
            })?;
            Some(NewUnit { name: unit.name, collects: false, item_of: unit.item_of, settled })
        });
        untouched.collect()
    }

    /// Stores the map that a run has in which everything is fresh.
    fn fresh_map(&self) -> Result<Digest, EngineError> {
        // Not synced: until a run names it, it can be made again.
        self.save_map(Some(Decision::Fresh), |_| false, &mut Vec::new())
    }

    /// Returns the lock file with the stages whose outputs are final.
    fn lock_text(&self, locked: BTreeMap<String, LockedStage>) -> Result<String, EngineError> {
        let (survey, path) = (&*self.survey, &self.orders.lock_path);
        let first = runlog::line_at(&survey.cache, 0)?.digest();
        let mut lock = LockFile { log: Some((first, self.writer.head())), stages: locked };
        let mut stages = survey.lock.stages.clone();
        if survey.before.is_some() {
            // It was seen to be as the last run of this very pipeline left it: its other blocks stay as they are.
            let mapped = survey.mapped.expansions.stages().next().is_some();
            let old = if mapped { None } else { fs::read_to_string(path).ok() };
            let spliced = old.and_then(|old| lock.spliced(&old));
            if let Some(text) = spliced {
                return Ok(text);
            }
            stages = LockFile::read(path).map(|lock| lock.stages).unwrap_or_default();
        }
        let names: BTreeSet<&str> = survey.spec.stages.iter().map(|stage| stage.name.as_str()).collect();
        stages.retain(|name, _| names.contains(name.as_str()) || (name.ends_with(']') && survey.keeps_item(name)));
        stages.append(&mut lock.stages);
        lock.stages = stages;
        Ok(lock.text())
    }

    /// Stages that were not selected keep what the last run of the pipeline knew of them; so do failed and skipped ones
    /// keep their place in the log, where the outputs on disk come from.
    fn carry_over(&mut self) -> Result<(), EngineError> {
        let spec = self.survey.spec;
        let complete = |index: usize| {
            let entry = self.map.get(&self.survey.stage(index).name);
            entry.is_some_and(|entry| entry.at.is_some())
        };
        if (0..self.survey.count()).all(complete)
            && spec.stages.iter().all(|stage| stage.map.is_none() || !stage.policy.frozen)
        {
            return Ok(());
        }
        let Some(last) = self.survey.index.last_run(&self.survey.pipeline) else { return Ok(()) };
        // A lost map loses history, not results.
        let Ok(before) = runmap::load(&last.map, &self.survey.store) else { return Ok(()) };
        let names: Vec<String> = (0..self.survey.count()).map(|index| self.survey.stage(index).name.clone()).collect();
        let items = before.keys().filter(|name| name.ends_with(']') && self.survey.keeps_item(name));
        let names: BTreeSet<String> = names.into_iter().chain(items.cloned()).collect();
        for name in names {
            let Some(old) = before.get(&name) else { continue };
            match self.map.get_mut(&name) {
                Some(entry) if entry.at.is_none() && matches!(entry.decision, Decision::Failed | Decision::Skipped) => {
                    entry.at = old.at;
                    entry.key = entry.key.filter(|_| old.at.is_none()).or(old.key);
                }
                Some(_) => {}
                None => {
                    let kept = MapEntry { decision: Decision::Kept, reasons: Vec::new(), ..old.clone() };
                    self.map.insert(name, kept);
                }
            }
        }
        Ok(())
    }
}
