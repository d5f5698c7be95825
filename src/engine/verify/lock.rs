//! The lock file against the run log.
//!
//! A run without `--set` and `--profile` writes the lock file whole, so the log says what it must look like: the head is
//! the line of such a run, and every stage that this run settled has a block with the key that it settled it at. What is
//! otherwise was done by somebody else and is a finding. But people check out older commits, and then the lock file is,
//! as a whole, what an older run wrote, or speaks of the log of another machine. Nobody can tell that from somebody who put
//! an old file back to hide something: it is told as a note, and changes no exit code.

use std::collections::BTreeMap;

use super::ledger::{Ledger, Made, Writing};
use super::{Check, Finding, FindingKind, VerifyReport};
use crate::digest::Digest;
use crate::event::Decision;
use crate::history::OutputRecord;
use crate::lockfile::LockedStage;
use crate::runmap::{self, MapEntry, RunMap};

impl Check<'_> {
    pub(super) fn lock_file(&self, ledger: &Ledger, report: &mut VerifyReport) {
        let lock = |kind, detail: String| Finding { kind, path: self.lock_name.clone(), stage: None, detail };
        let mismatch = |detail: String| lock(FindingKind::LockMismatch, detail);
        if let Some(error) = &self.lock_error {
            report.findings.push(mismatch(error.clone()));
        }
        let last = ledger.writings.last();
        let Some((log, head)) = self.lock.log else {
            match last {
                Some(last) if !self.lock_exists => {
                    let detail = format!("is not there, though run {} wrote it; the next run does so again", last.run);
                    report.notes.push(lock(FindingKind::LockMissing, detail));
                }
                _ if self.lock_exists && self.lock_error.is_none() => {
                    let detail = "does not say where the run log ends, as every run writes it".to_owned();
                    report.findings.push(mismatch(detail));
                }
                _ => {}
            }
            return;
        };
        let line = ledger.lines.get(&head);
        if ledger.first != Some(log) {
            if line.is_some() {
                report.findings.push(mismatch("names another run log, but its head is in this one".to_owned()));
            } else if let Some(last) = last {
                let detail = format!(
                    "speaks of another run log, as one from another machine does, so it is not compared with this one; \
                     run {} wrote one of this log",
                    last.run
                );
                report.notes.push(lock(FindingKind::LockForeign, detail));
            }
            return;
        }
        let writing = ledger.writings.iter().rfind(|writing| writing.digest == head);
        match (line, writing, last) {
            (None, ..) => {
                let detail = format!("the lock file ends the log with {}, which is not in it", head.short());
                report.findings.push(lock(FindingKind::LogCut, detail));
            }
            (Some(line), None, _) => {
                let detail = format!("its head is line {line} of the run log, with which no run ends that wrote it");
                report.findings.push(mismatch(detail));
            }
            (_, Some(writing), Some(last)) if writing.line != last.line => {
                let detail = format!(
                    "is as run {} wrote it, {} before the log ends, though later runs wrote it too, the last of \
                     them {}: an older one was checked out or put back",
                    writing.run,
                    match ledger.entries - writing.line {
                        1 => "an entry".to_owned(),
                        n => format!("{n} entries"),
                    },
                    last.run
                );
                report.notes.push(lock(FindingKind::LockBehind, detail));
            }
            _ => {}
        }
        self.blocks(ledger, writing, report);
    }

    /// Compares each block with what the run of the head settled the stage at, and with the action of its key.
    fn blocks(&self, ledger: &Ledger, writing: Option<&Writing>, report: &mut VerifyReport) {
        // A lost map is a finding of its own.
        let map = writing.and_then(|writing| runmap::load(&writing.map, &self.history.store).ok()).unwrap_or_default();
        let run = writing.map_or("", |writing| &writing.run);
        let mut find = |kind, stage: &str, detail: String| {
            let (path, detail) = (self.lock_name.clone(), format!("stage `{stage}`: {detail}"));
            report.findings.push(Finding { kind, path, stage: Some(stage.to_owned()), detail });
        };
        let mut unrecorded = Vec::new();
        for (stage, key, _) in settled(&map).filter(|(stage, ..)| !self.lock.stages.contains_key(*stage)) {
            let detail = format!("run {run} wrote a block of it with key {}, which is gone", key.short());
            find(FindingKind::LockStageMissing, stage, detail);
        }
        let settled: BTreeMap<&str, (Digest, Option<u64>)> =
            settled(&map).map(|(stage, key, at)| (stage, (key, at))).collect();
        for (stage, locked) in &self.lock.stages {
            let by_run = settled.get(stage.as_str());
            if let Some((key, _)) = by_run.filter(|(key, _)| *key != locked.key) {
                let (now, then) = (locked.key.short(), key.short());
                let detail = format!(
                    "has key {now}, but run {run}, with which the lock file says the log ends, wrote {then}; so it is \
                     after a merge, until the next run"
                );
                find(FindingKind::LockMismatch, stage, detail);
                continue;
            }
            match ledger.actions.get(&(stage.clone(), locked.key)) {
                Some(made) if !self.gave(locked, made, by_run.and_then(|(_, at)| *at)) => {
                    let detail = "its outputs are not those of the run log".to_owned();
                    find(FindingKind::LockMismatch, stage, detail);
                }
                Some(_) => {}
                // An effect has no outputs; what a frozen stage gave was made elsewhere, its block is all that is known.
                None if locked.outputs.is_empty() => {}
                None if by_run.is_some() => unrecorded.push((stage, locked)),
                None => {
                    let key = locked.key.short();
                    let detail = format!(
                        "the run log has no action with its key {key}; nor has it if the block came with a checkout"
                    );
                    find(FindingKind::LockMismatch, stage, detail);
                }
            }
        }
        for (stage, locked) in unrecorded {
            for output in locked.outputs.values() {
                report.findings.extend(self.output(stage, output, &Default::default()).1);
            }
        }
    }

    /// Whether an action gave what is locked: that which begins at `at`, if it is one of them, else any.
    fn gave(&self, locked: &LockedStage, made: &[Made], at: Option<u64>) -> bool {
        let same = |outputs: &BTreeMap<String, OutputRecord>| {
            let same =
                |(slot, o): (&String, &OutputRecord)| outputs.get(slot).is_some_and(|made| self.is_locked(o, made));
            locked.outputs.len() == outputs.len() && locked.outputs.iter().all(same)
        };
        match made.iter().find(|made| Some(made.at) == at) {
            Some(made) => same(&made.outputs),
            None => made.iter().any(|made| same(&made.outputs)),
        }
    }

    /// Whether a locked output is the recorded one; a built-in stage may have been given another path since.
    fn is_locked(&self, locked: &OutputRecord, made: &OutputRecord) -> bool {
        let path = locked.path == made.path || self.declared.contains(&locked.path);
        path && OutputRecord { path: made.path.clone(), ..locked.clone() } == *made
    }
}

/// The stages that a run itself brought up to date, with the key and the place of the action: their blocks it wrote. Of the
/// others it left what the lock file had.
fn settled(map: &RunMap) -> impl Iterator<Item = (&str, Digest, Option<u64>)> {
    map.iter().filter_map(|(stage, MapEntry { decision, key, at, .. })| match decision {
        Decision::Run | Decision::Restore | Decision::Fresh => Some((stage.as_str(), (*key)?, *at)),
        _ => None,
    })
}
