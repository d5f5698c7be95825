//! Actions done outside of the pipeline, by a command that uses what a run made: they are recorded so that lineage knows
//! what came of it, and are never planned, restored or verified by content. What they make is not stored.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::digest::{Digest, canonical_json};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::history::OutputRecord;
use crate::index::{Covered, Index};
use crate::key::{KeyRecord, SCHEMA};
use crate::project::{ProjectLock, host, run_id};
use crate::runlog::{ActionEntry, Entry, Writer};
use crate::sandbox::Undeclared;

/// How long is waited between looks at a lock that somebody has.
const LOOK: Duration = Duration::from_millis(50);

/// Something that was done.
#[derive(Clone, Debug, Default)]
pub struct Outside {
    /// What did it: the name of the command.
    pub name: String,
    /// Digest of its code.
    pub code: Option<Digest>,
    /// Its parameters.
    pub params: Value,
    /// What it read, by slot: paths as lineage has them, and content.
    pub inputs: BTreeMap<String, BTreeMap<String, Digest>>,
    /// What it wrote, by slot.
    pub outputs: BTreeMap<String, OutputRecord>,
    /// What it acted on, such as a database; never credentials.
    pub effect: Option<String>,
    /// When it began (RFC 3339, UTC).
    pub started: String,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Threads it had.
    pub threads: usize,
    /// What it warned of.
    pub warnings: Vec<String>,
}

impl Engine {
    /// Records an action that was done outside of the pipeline; returns its key. Waits for a run that is under way for
    /// at most `patience`.
    ///
    /// # Errors
    /// A run holds the lock for longer; the run log is not writable.
    pub fn record_outside(&self, done: Outside, patience: Duration) -> Result<Digest, EngineError> {
        let cache = self.project().cache();
        let asked = Instant::now();
        let _lock = loop {
            match ProjectLock::take(&cache) {
                Err(EngineError::Locked { .. }) if asked.elapsed() < patience => std::thread::sleep(LOOK),
                taken => break taken?,
            }
        };
        let (mut index, _) = Index::open(&cache)?;
        let (mut writer, _) = Writer::open(&cache, index.covered().head, index.covered().len)?;
        let inputs = done.inputs.into_iter().map(|(slot, files)| (slot, Some(files))).collect();
        let params = serde_json::from_str(&canonical_json(&done.params));
        let record = KeyRecord {
            code: done.code,
            command: None,
            effect: done.effect,
            env: BTreeMap::new(),
            inputs,
            kind: Some(done.name.clone()),
            outputs: done.outputs.keys().map(|slot| (slot.clone(), None)).collect(),
            params: params.map_err(|e| EngineError::Internal(format!("parameters are no JSON: {e}")))?,
            schema: SCHEMA,
            tools: BTreeMap::new(),
            version: None,
        };
        let (machine, platform) = host();
        let key = record.key();
        let action = ActionEntry {
            key,
            record,
            outputs: done.outputs,
            stage: done.name,
            run: run_id(&writer.head()),
            pipeline: self.pipeline(),
            reasons: Vec::new(),
            started: done.started,
            seconds: done.seconds,
            threads: done.threads,
            peak_memory: None,
            warnings: done.warnings,
            undeclared: Undeclared::default(),
            roots: BTreeMap::new(),
            secrets: Vec::new(),
            reused_by: None,
            host: machine,
            platform,
            program: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let entry = Entry::Action(Box::new(action));
        let at = writer.append(&entry)?;
        if let Entry::Action(action) = &entry {
            index.add_action(at, action);
        }
        let lines = index.covered().lines + 1;
        index.cover(Covered { len: writer.len(), lines, last: at, head: writer.head() });
        writer.sync()?;
        index.save()?;
        Ok(key)
    }
}
