//! Mapped stages while a run goes on: as soon as everything a map waits for is settled its items are made and decided
//! like stages, and when all of them are settled their directory is put in order and recorded.

use std::fs;
use std::sync::Arc;

use super::{Coordinator, State, UNKNOWN_SECONDS};
use crate::digest::Digest;
use crate::error::EngineError;
use crate::event::{Decision, Event};
use crate::runlog::ActionEntry;
use crate::runmap::MapEntry;

/// So many failures without a success, and the items of a map that have not begun are not tried either: the fault is
/// the stage's, not that of single files.
const HOPELESS: usize = 10;

/// How the items of a map have fared.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    succeeded: usize,
    failed: usize,
}

impl Coordinator<'_, '_> {
    /// Makes the items of a mapped stage, or, when they are all settled, collects them.
    pub(super) fn consider_map(&mut self, stage: usize) {
        if self.expanded.contains(&stage) {
            if let Err(error) = self.collect(stage) {
                self.give_up(error);
            }
            return;
        }
        let begun = self.survey.expand(stage).map_err(EngineError::from).and_then(|_| self.begin_items(stage));
        if let Err(error) = begun {
            self.make_room();
            self.failed(stage, error.into(), None, None);
        }
    }

    fn begin_items(&mut self, stage: usize) -> Result<(), EngineError> {
        self.make_room();
        let wanted = self.survey.wanted(stage)?;
        let partial = self.survey.is_partial(stage);
        if !partial {
            // First, since a file may be in the way of a folder that an item needs.
            self.clear(stage)?;
        }
        let expansion = self.survey.mapped.expansions.get(stage).expect("expanded a moment ago");
        for manifest in &expansion.shared.manifests {
            let (_, object) = self.survey.store.put(manifest.text().as_bytes())?;
            self.committer.add(object);
        }
        self.expanded.insert(stage);
        self.sink.event(&Event::StageExpanded { stage: self.name(stage).to_owned(), actions: wanted.len() });
        // A map of which only some items are wanted is never collected.
        self.left[stage] = wanted.len() + usize::from(partial);
        if partial {
            self.state[stage] = State::Settled;
        }
        for item in &wanted {
            self.state[*item] = State::Waiting;
            self.ready.push_back(*item);
        }
        if wanted.is_empty() {
            self.collect(stage)?;
        }
        Ok(())
    }

    /// Items are numbered with the stages: what is noted by number has a place for all of them.
    fn make_room(&mut self) {
        let count = self.survey.count();
        self.state.resize(count, State::Skipped);
        self.left.resize(count, 0);
        self.rests.resize(count, None);
    }

    /// Removes from the directories of a mapped stage what no item makes.
    fn clear(&self, stage: usize) -> Result<(), EngineError> {
        for stray in self.survey.strays(stage)? {
            let path = self.survey.places.root().join(stray);
            let is_folder = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir());
            let removed = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(EngineError::io("remove", &path))?;
        }
        Ok(())
    }

    /// Records what the items of a mapped stage made together.
    fn collect(&mut self, stage: usize) -> Result<(), EngineError> {
        let broken = || EngineError::Internal(format!("an item of `{}` is settled and not known", self.name(stage)));
        let (key, known) = self.survey.collect(stage).ok_or_else(broken)?;
        for output in self.survey.spec.stages[stage].outputs.values() {
            let folder = self.survey.places.place(&output.path);
            fs::create_dir_all(&folder).map_err(EngineError::io("make", &folder))?;
        }
        let name = self.name(stage);
        let before = self.survey.index.action_of(&self.survey.pipeline, name, &key);
        for (slot, manifest) in &known.manifests {
            if before.is_none() || !self.survey.store.holds_directory(&known.outputs[slot].fact.digest) {
                let (_, object) = self.survey.store.put(manifest.text().as_bytes())?;
                self.committer.add(object);
            }
        }
        let record = Arc::clone(&known.record);
        let outputs = self.records(stage, &known.outputs);
        self.survey.settle(stage, key, known.record, known.outputs, known.manifests);
        let decision = if before.is_some() { Decision::Fresh } else { Decision::Run };
        let at = match before {
            Some(at) => at,
            None => {
                let items = self.survey.mapped.ranges.get(&stage).cloned().unwrap_or_default();
                let seconds = |item| self.survey.index.last_seconds(&self.survey.pipeline, self.name(item));
                let action = ActionEntry {
                    key,
                    record: (*record).clone(),
                    outputs,
                    stage: name.to_owned(),
                    run: self.ended.info.run.clone(),
                    pipeline: self.survey.pipeline.clone(),
                    reasons: Vec::new(),
                    started: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
                    // What all items take together: the weight of the map while its items are not known.
                    seconds: items.filter_map(seconds).sum(),
                    threads: 1,
                    peak_memory: None,
                    warnings: Vec::new(),
                    undeclared: Default::default(),
                    roots: Default::default(),
                    secrets: Vec::new(),
                    reused_by: None,
                    host: self.orders.host.0.clone(),
                    platform: self.orders.host.1.clone(),
                    program: env!("CARGO_PKG_VERSION").to_owned(),
                };
                self.append_action(action)?
            }
        };
        self.rests[stage] = Some(self.survey.rests_of_map(stage)?);
        self.settled(stage, MapEntry { at: Some(at), ..MapEntry::new(decision, Some(key), Vec::new()) });
        Ok(())
    }

    /// Settles the items of a mapped stage that nothing has touched since the last run; the stage itself is no action.
    pub(super) fn fresh_items_by_snapshot(&mut self, stage: usize) {
        let items = self.survey.fresh_items(stage);
        self.sink.event(&Event::StageExpanded { stage: self.name(stage).to_owned(), actions: items.len() });
        for unit in items {
            let key = Digest::from(unit.key);
            self.ended.info.fresh += 1;
            self.sink.event(&Event::fresh(unit.name, key));
            let entry = MapEntry::fresh(key, unit.at);
            self.map.insert(unit.name.to_owned(), entry);
        }
    }

    /// Returns the longest path from the start of an item: its own time, then what waits for its map.
    pub(super) fn item_priority(&mut self, item: usize, parent: usize) -> f64 {
        let seconds = |name: &str| self.survey.index.last_seconds(&self.survey.pipeline, name);
        let own = seconds(self.name(item)).unwrap_or(UNKNOWN_SECONDS);
        let all = seconds(self.name(parent)).unwrap_or(UNKNOWN_SECONDS);
        own + (self.priority(parent) - all).max(0.0)
    }

    /// Notes that an item succeeded.
    pub(super) fn tally(&mut self, item: usize) {
        if let Some(parent) = self.survey.parent(item) {
            self.tallies.entry(parent).or_default().succeeded += 1;
        }
    }

    /// After a failure nothing new is started; but the items beside a failed one have nothing to do with its fault.
    pub(super) fn stop_after(&mut self, index: usize) {
        let Some(parent) = self.survey.parent(index) else {
            self.stopping |= !self.orders.keep_going;
            return;
        };
        let tally = self.tallies.entry(parent).or_default();
        tally.failed += 1;
        let hopeless = tally.succeeded == 0 && tally.failed >= HOPELESS;
        if self.orders.keep_going {
            return;
        }
        if hopeless {
            self.stopping = true;
            return;
        }
        self.finishing.insert(parent);
        let survey = &*self.survey;
        let finishing = &self.finishing;
        self.schedule.retain(|stage| survey.parent(stage).is_some_and(|parent| finishing.contains(&parent)));
    }

    /// Whether a stage or item may be started: after a failed item only those beside one.
    pub(super) fn may_start(&self, index: usize) -> bool {
        self.finishing.is_empty() || self.survey.parent(index).is_some_and(|parent| self.finishing.contains(&parent))
    }

    /// Whether a stage is a map whose items were made: they are counted, not it.
    pub(super) fn stands_for_items(&self, index: usize) -> bool {
        self.expanded.contains(&index)
    }
}
