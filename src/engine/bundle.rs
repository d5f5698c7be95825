//! Everything recorded of one run in one document: it answers lineage questions where the project is not, and is what
//! the standard exports are written from.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::EngineError;
use crate::event::{Decision, Reason};
use crate::export;
use crate::lineage::{Lineage, Loaded};
use crate::map::whole_of;
use crate::offline::Offline;
use crate::questions::{self, Question};
use crate::records::{History, RunRecords};
use crate::runlog::{ActionEntry, RunEntry};

/// The version of the document's shape.
pub const VERSION: u32 = 1;

/// One run and every action that led to what it left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bundle {
    /// [`VERSION`]; under this name a reader knows the document.
    pub logweir_bundle: u32,
    /// The run.
    pub run: RunEntry,
    /// What became of every stage, by full name.
    pub stages: BTreeMap<String, BundleStage>,
    /// The actions whose outputs the run left, and those that made what they read; each after what it depends on.
    pub actions: Vec<ActionEntry>,
    /// Text of the manifest of every directory among outputs and inputs that is still known.
    pub directories: BTreeMap<Digest, String>,
}

/// What became of one stage in the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BundleStage {
    /// What was done.
    pub decision: Decision,
    /// The action key, if it came that far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Digest>,
    /// Why it was executed or restored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// Which of the actions made its outputs: a place in `actions`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<usize>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Bundle {
    /// Collects everything about a run.
    ///
    /// # Errors
    /// Records cannot be read.
    pub fn of(history: &History, run: RunEntry) -> Result<Self, EngineError> {
        let records = RunRecords::of(history, Some(&run))?;
        let map = history.map(&run)?;
        let mut entries: BTreeMap<u64, ActionEntry> = BTreeMap::new();
        let mut pending: VecDeque<u64> = map.values().filter_map(|entry| entry.at).collect();
        let mut asked = BTreeSet::new();
        while let Some(at) = pending.pop_front() {
            if entries.contains_key(&at) {
                continue;
            }
            let action = history.log.action(at)?;
            for (path, digest) in action.record.inputs.values().flatten().flatten() {
                let path = path.strip_prefix("lineage:").or_else(|| whole_of(path)).unwrap_or(path);
                if asked.insert((path.to_owned(), *digest)) {
                    pending.extend(records.made_at(path, digest)?);
                }
            }
            entries.insert(at, action);
        }
        // An action is logged after those it depends on.
        let places: BTreeMap<u64, usize> = entries.keys().enumerate().map(|(place, at)| (*at, place)).collect();
        let actions: Vec<ActionEntry> = entries.into_values().collect();
        let mut directories = BTreeMap::new();
        let made = actions.iter().flat_map(|a| a.outputs.values()).filter(|o| o.is_directory()).map(|o| o.digest);
        let read = actions.iter().flat_map(|a| a.record.inputs.values().flatten().flatten());
        let read = read.filter(|(path, _)| path.ends_with('/')).map(|(_, digest)| *digest);
        for digest in made.chain(read) {
            if let Ok(manifest) = history.store.manifest(&digest) {
                directories.insert(digest, manifest.text());
            }
        }
        let stage = |entry: crate::runmap::MapEntry| BundleStage {
            decision: entry.decision,
            key: entry.key,
            reasons: entry.reasons,
            action: entry.at.and_then(|at| places.get(&at).copied()),
            error: entry.error,
        };
        let stages = map.into_iter().map(|(name, entry)| (name, stage(entry))).collect();
        Ok(Self { logweir_bundle: VERSION, run, stages, actions, directories })
    }

    /// Reads a bundle: the document itself, a folder with it as `lineage.json`, or an exported document that carries it.
    ///
    /// # Errors
    /// It cannot be read or is no bundle of a known version.
    pub fn read(path: &Path) -> Result<Self, EngineError> {
        let file = if path.is_dir() { path.join("lineage.json") } else { path.to_path_buf() };
        let bytes = std::fs::read(&file).map_err(EngineError::io("read", &file))?;
        let wrong = |why: String| EngineError::io("read", &file)(io::Error::new(io::ErrorKind::InvalidData, why));
        let bundle: Self = match serde_json::from_slice(&bytes) {
            Ok(bundle) => bundle,
            // An exported document carries its bundle.
            Err(e) => export::embedded(&String::from_utf8_lossy(&bytes))
                .ok_or_else(|| wrong(format!("it is no lineage bundle, nor a document that carries one: {e}")))?,
        };
        if bundle.logweir_bundle != VERSION {
            let (theirs, version) = (bundle.logweir_bundle, VERSION);
            return Err(wrong(format!("it is a bundle of version {theirs}; this program reads version {version}")));
        }
        Ok(bundle)
    }

    /// Returns whether something at a path may be a bundle, by its beginning.
    pub fn at(path: &Path) -> bool {
        let file = if path.is_dir() { path.join("lineage.json") } else { path.to_path_buf() };
        let mut head = vec![0; 256];
        let read = std::fs::File::open(file).and_then(|mut file| io::Read::read(&mut file, &mut head));
        read.is_ok_and(|read| String::from_utf8_lossy(&head[..read]).contains("\"logweir_bundle\""))
    }

    /// Answers [`crate::engine::Engine::lineage`] from this bundle; files are looked for relative to `here`.
    ///
    /// # Errors
    /// Nothing in the bundle made or read it.
    pub fn lineage(&self, target: &str, here: &Path) -> Result<Lineage, EngineError> {
        let offline = Offline::new(self);
        let mut document = Question { state: &offline, root: here, past: false }.lineage(target)?;
        document.as_of = Some(self.run.info.run.clone());
        Ok(document)
    }

    /// Answers [`crate::engine::Engine::impact`] from this bundle; files are looked for relative to `here`.
    ///
    /// # Errors
    /// Nothing in the bundle made or read it.
    pub fn impact(&self, target: &str, here: &Path) -> Result<Lineage, EngineError> {
        let offline = Offline::new(self);
        let found = Question { state: &offline, root: here, past: false }.find(target)?;
        let actions = offline.actions();
        let mut document = questions::impact(&Loaded::new(&actions), target, &found.path)?;
        document.notes = found.notes;
        document.as_of = Some(self.run.info.run.clone());
        Ok(document)
    }
}
