//! What a running stage says and how it ends: recorded, told to the sink, and passed on to those that wait for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::{Coordinator, Message, Running, State};
use crate::digest::Digest;
use crate::error::EngineError;
use crate::event::{Decision, Event, Level, Reason, ReasonKind};
use crate::history::OutputRecord;
use crate::index::ResultOutput;
use crate::lockfile::LockedStage;
use crate::manifest::FileFact;
use crate::runlog::ActionEntry;
use crate::runmap::MapEntry;
use crate::schedule::Demand;
use crate::stage::StageMessage;
use crate::work::{Failure, Note, Outcome, Success};

impl Coordinator<'_, '_> {
    pub(super) fn take(&mut self, message: Message) {
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
        let storing = success.storing;
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
            storing,
            reasons: verdict.reasons.clone(),
            cutoff,
        });
        let entry = MapEntry { at, ..MapEntry::new(verdict.decision, Some(verdict.key), verdict.reasons) };
        self.settled(index, entry);
        Ok(())
    }

    /// A stage's outputs are final: those that wait for it come nearer.
    pub(super) fn settled(&mut self, index: usize, entry: MapEntry) {
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

    pub(super) fn failed(
        &mut self,
        index: usize,
        failure: Failure,
        log: Option<String>,
        decided: Option<(Digest, Vec<Reason>)>,
    ) {
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

    pub(super) fn skip(&mut self, index: usize, needs: Option<String>) {
        self.state[index] = State::Skipped;
        let stage = self.name(index).to_owned();
        self.map.insert(stage.clone(), MapEntry::new(Decision::Skipped, None, Vec::new()));
        if self.stands_for_items(index) {
            return;
        }
        self.ended.info.skipped += 1;
        self.sink.event(&Event::StageSkipped { stage, needs });
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
