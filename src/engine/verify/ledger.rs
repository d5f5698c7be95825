//! What one reading of the run log gives: everything that a check compares with it.

use std::collections::{BTreeMap, BTreeSet};

use super::NotReproducible;
use crate::digest::Digest;
use crate::event::{Reason, ReasonKind};
use crate::fast::FastMap;
use crate::history::OutputRecord;
use crate::runlog::{ActionEntry, Checked, Entry, RunEntry};

/// A run that wrote the lock file of the pipeline.
pub(super) struct Writing {
    /// The line of its entry: which, and its digest.
    pub(super) line: u64,
    pub(super) digest: Digest,
    pub(super) run: String,
    /// Root object of its stage map.
    pub(super) map: Digest,
}

/// What an action gave, and where its entry begins.
pub(super) struct Made {
    pub(super) at: u64,
    pub(super) outputs: BTreeMap<String, OutputRecord>,
}

/// The log, gathered line by line.
#[derive(Default)]
pub(super) struct Ledger {
    pipeline: String,
    /// How many lines there are.
    pub(super) entries: u64,
    /// Digest of the first line that is an entry.
    pub(super) first: Option<Digest>,
    /// Number of each line by its digest.
    pub(super) lines: FastMap<Digest, u64>,
    /// What runs found damaged.
    pub(super) noted: Vec<String>,
    /// Actions of the pipeline by stage and key.
    pub(super) actions: BTreeMap<(String, Digest), Vec<Made>>,
    /// Lines whose record has another key than they say, with their stage.
    pub(super) other_keys: Vec<(u64, String)>,
    /// The stage map of every run, with the first run that has it.
    pub(super) maps: BTreeMap<Digest, String>,
    /// Runs that wrote the lock file, oldest first.
    pub(super) writings: Vec<Writing>,
    contents: Contents,
}

impl Ledger {
    pub(super) fn of(pipeline: &str) -> Self {
        Self { pipeline: pipeline.to_owned(), ..Self::default() }
    }

    /// Takes the next line.
    pub(super) fn take(&mut self, Checked { number, line, digest, entry }: Checked) {
        self.entries = number;
        let Some(entry) = entry else { return };
        self.first.get_or_insert(digest);
        self.lines.entry(digest).or_insert(number);
        match entry {
            Entry::Run(run) => {
                let RunEntry { info, map, damage, .. } = *run;
                self.noted.extend(damage.iter().map(|what| format!("run {} found: {what}", info.run)));
                self.maps.entry(map).or_insert_with(|| info.run.clone());
                // As `execute` and `quick` decide it.
                if info.pipeline == self.pipeline && info.profile.is_none() && info.overrides.is_empty() {
                    self.writings.push(Writing { line: number, digest, run: info.run, map });
                }
            }
            Entry::Action(action) => {
                self.contents.add(&action);
                if action.record.key() != action.key {
                    self.other_keys.push((number, action.stage.clone()));
                }
                if action.pipeline == self.pipeline {
                    let made = Made { at: line.offset, outputs: action.outputs };
                    self.actions.entry((action.stage, action.key)).or_default().push(made);
                }
            }
        }
    }

    /// Returns the outputs that one key gave with different bytes.
    pub(super) fn not_reproducible(&mut self) -> Vec<NotReproducible> {
        std::mem::take(&mut self.contents).different()
    }
}

/// What each key gave, by stage and output path.
#[derive(Default)]
struct Contents(BTreeMap<(Digest, String, String), BTreeSet<Digest>>);

impl Contents {
    fn add(&mut self, action: &ActionEntry) {
        let always = |reason: &Reason| reason.kind == ReasonKind::Forced && reason.subject.starts_with("always");
        if action.reused_by.is_some() || action.reasons.iter().any(always) {
            return;
        }
        for output in action.outputs.values() {
            let name = (action.key, action.stage.clone(), output.path.clone());
            self.0.entry(name).or_default().insert(output.digest);
        }
    }

    fn different(self) -> Vec<NotReproducible> {
        let different = self.0.into_iter().filter(|(_, contents)| contents.len() > 1);
        let mut all: Vec<NotReproducible> =
            different.map(|((key, stage, path), contents)| NotReproducible { stage, path, key, contents }).collect();
        all.sort();
        all
    }
}
