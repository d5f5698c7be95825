//! The lock file against the run log.

use std::collections::BTreeMap;

use super::ledger::Ledger;
use super::{Check, Finding, FindingKind, VerifyReport};
use crate::history::OutputRecord;
use crate::lockfile::LockedStage;

impl Check<'_> {
    pub(super) fn lock_file(&self, ledger: &Ledger, report: &mut VerifyReport) {
        let lock = |detail: String| Finding {
            kind: FindingKind::LockMismatch,
            path: self.lock_name.clone(),
            stage: None,
            detail,
        };
        if let Some(error) = &self.lock_error {
            report.findings.push(lock(error.clone()));
        }
        let Some((lock_first, head)) = self.lock.log else { return };
        // A lock file that came with a checkout speaks of another log.
        if ledger.first != Some(lock_first) {
            if ledger.lines.contains_key(&head) {
                report.findings.push(lock("names another run log, but its head is in this one".to_owned()));
            }
            return;
        }
        if !ledger.lines.contains_key(&head) {
            let detail = format!("the lock file ends the log with {}, which is not in it", head.short());
            let path = self.lock_name.clone();
            report.findings.push(Finding { kind: FindingKind::LogCut, path, stage: None, detail });
        }
        for (stage, locked) in &self.lock.stages {
            let entry = ledger.actions.get(&(stage.clone(), locked.key));
            let same = entry.is_some_and(|made| self.gave(locked, made));
            let unrecorded_effect = locked.outputs.is_empty() && entry.is_none();
            if !same && !unrecorded_effect {
                let detail = match entry {
                    Some(_) => "its outputs are not those of the run log".to_owned(),
                    None => format!("the run log has no action with its key {}", locked.key.short()),
                };
                let stage = Some(stage.clone());
                report.findings.push(Finding { stage, ..lock(detail) });
            }
        }
    }

    fn gave(&self, locked: &LockedStage, outputs: &BTreeMap<String, OutputRecord>) -> bool {
        let same = |(slot, o): (&String, &OutputRecord)| outputs.get(slot).is_some_and(|made| self.is_locked(o, made));
        locked.outputs.len() == outputs.len() && locked.outputs.iter().all(same)
    }

    /// Whether a locked output is the recorded one; a built-in stage may have been given another path since.
    fn is_locked(&self, locked: &OutputRecord, made: &OutputRecord) -> bool {
        let path = locked.path == made.path || self.declared.contains(&locked.path);
        path && OutputRecord { path: made.path.clone(), ..locked.clone() } == *made
    }
}
