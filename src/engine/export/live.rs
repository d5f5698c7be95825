//! OpenLineage events while a run goes on, made from the engine's own events and the run log. The same jobs, runs and
//! facets as an export of the run has, but for what is only known of tables.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::openlineage::{
    counts_facet, engine_facet, error_facet, event, job, job_name, outcome, own_job, parent_facet, run_id,
};
use super::{Export, NoTables, object};
use crate::bundle::{Bundle, BundleStage, VERSION};
use crate::digest::Digest;
use crate::event::{Decision, Event};
use crate::history::RunInfo;
use crate::index::Index;
use crate::runlog::{self, ActionEntry, Entry, RunEntry};
use crate::spec::Link;
use crate::store::Store;

/// What a run has told so far.
pub struct Live {
    project: String,
    cache: PathBuf,
    store: Store,
    /// How far the run log was read.
    read: u64,
    /// Actions of this run, by key.
    actions: BTreeMap<Digest, ActionEntry>,
    info: RunInfo,
    failed: Vec<String>,
}

/// Whether events are made of an event of the engine; others need not be handed over.
pub fn concerns(event: &Event) -> bool {
    match event {
        Event::RunStarted { .. }
        | Event::StageStarted { attempt: 1, .. }
        | Event::StageFailed { retry: false, .. }
        | Event::StageSkipped { .. }
        | Event::RunFinished { .. } => true,
        Event::StageFinished { decision, .. } => *decision != Decision::Fresh,
        _ => false,
    }
}

impl Live {
    /// Begins; before the run does, so that its records are told from earlier ones.
    pub fn new(root: &Path) -> Self {
        let cache = root.join("cache");
        let project = root.file_name().map_or_else(|| "/".to_owned(), |name| name.to_string_lossy().into_owned());
        let read = std::fs::metadata(runlog::path_in(&cache)).map_or(0, |meta| meta.len());
        let store = Store::new(&cache, &cache.join("tmp"), Link::Auto);
        Self { project, cache, store, read, actions: BTreeMap::new(), info: RunInfo::default(), failed: Vec::new() }
    }

    /// Returns the events (JSON) that an event of the engine, which happened at `time` (RFC 3339), is in OpenLineage.
    pub fn events(&mut self, told: &Event, time: &str) -> Vec<Value> {
        match told {
            Event::RunStarted { run, pipeline, .. } => {
                (self.info.run, self.info.pipeline, self.info.started) =
                    (run.clone(), pipeline.clone(), time.to_owned());
                let facets = object([("processing_engine", engine_facet(env!("CARGO_PKG_VERSION")))]);
                vec![json!(event("START", time, (&run_id(run, None), &facets), &own_job(&self.project, pipeline)))]
            }
            Event::StageStarted { stage, .. } => vec![self.stage("START", stage, time, None)],
            Event::StageFailed { stage, error, .. } => {
                self.failed.push(format!("`{stage}`"));
                vec![self.stage("FAIL", stage, time, Some(error))]
            }
            Event::StageSkipped { stage, .. } => {
                vec![self.stage("START", stage, time, None), self.stage("ABORT", stage, time, None)]
            }
            Event::StageFinished { stage, decision, key, .. } => self.finished(stage, *decision, key, time),
            Event::RunFinished { executed, restored, fresh, failed, skipped, seconds, .. } => {
                let info = RunInfo {
                    finished: time.to_owned(),
                    seconds: *seconds,
                    executed: *executed,
                    restored: *restored,
                    fresh: *fresh,
                    failed: *failed,
                    skipped: *skipped,
                    interrupted: *failed == 0 && *skipped > 0,
                    ..self.info.clone()
                };
                let mut facets = object([
                    ("processing_engine", engine_facet(env!("CARGO_PKG_VERSION"))),
                    ("logweir_run", counts_facet(&info)),
                ]);
                let state = outcome(&info, &self.failed.join(", "), &mut facets);
                let job = own_job(&self.project, &info.pipeline);
                vec![json!(event(state, time, (&run_id(&info.run, None), &facets), &job))]
            }
            _ => Vec::new(),
        }
    }

    /// An event of a stage without its files.
    fn stage(&self, state: &str, stage: &str, time: &str, error: Option<&str>) -> Value {
        let RunInfo { run, pipeline, .. } = &self.info;
        let mut facets = object([("parent", parent_facet(&self.project, run, pipeline))]);
        facets.extend(error.map(|error| ("errorMessage".to_owned(), error_facet(error))));
        let job = job(&self.project, &format!("{}.{stage}", job_name(pipeline)), "TASK", None);
        json!(event(state, time, (&run_id(run, Some(stage)), &facets), &job))
    }

    /// The end of a stage, with its files; of a restored one also the beginning, which the engine does not tell.
    fn finished(&mut self, stage: &str, decision: Decision, key: &Digest, time: &str) -> Vec<Value> {
        let start = (decision == Decision::Restore).then(|| self.stage("START", stage, time, None));
        let Some(action) = self.action(key, decision) else {
            return start.into_iter().chain([self.stage("COMPLETE", stage, time, None)]).collect();
        };
        let mut directories = BTreeMap::new();
        let read = action.record.inputs.values().flatten().flatten();
        let made = action.outputs.values().map(|output| (&output.path, &output.digest));
        for (_, digest) in read.chain(made).filter(|(path, _)| path.ends_with('/')) {
            if let Ok(manifest) = self.store.manifest(digest) {
                directories.insert(*digest, manifest.text());
            }
        }
        let (run, key) = (self.info.clone(), Some(*key));
        let entry = BundleStage { decision, key, reasons: Vec::new(), action: Some(0), error: None };
        let bundle = Bundle {
            logweir_bundle: VERSION,
            run: RunEntry {
                info: run,
                map: Digest::of_bytes(b""),
                roots: BTreeMap::new(),
                host: String::new(),
                damage: Vec::new(),
                signature: None,
            },
            stages: BTreeMap::from([(stage.to_owned(), entry)]),
            actions: vec![action],
            directories,
        };
        let export = Export::with(&bundle, &self.project, BTreeMap::new(), &NoTables);
        let mut end = export.stage_events(stage, bundle.stages.get(stage), bundle.actions.first()).pop();
        if let Some(end) = &mut end {
            end.insert("eventTime".to_owned(), time.into());
        }
        start.into_iter().chain(end.map(Value::Object)).collect()
    }

    /// Returns an action: of this run from what was appended to the log, an earlier one from the index.
    fn action(&mut self, key: &Digest, decision: Decision) -> Option<ActionEntry> {
        for line in runlog::lines(&self.cache, self.read).ok()? {
            let line = line.ok()?;
            self.read = line.offset + line.bytes.len() as u64 + 1;
            if let Ok((_, Entry::Action(action))) = Entry::parse(&line.bytes) {
                self.actions.insert(action.key, *action);
            }
        }
        // Equal work shares one action: it may be asked for again.
        if let Some(action) = self.actions.get(key) {
            return Some(action.clone());
        }
        if decision != Decision::Restore {
            return None;
        }
        let (index, _) = Index::open(&self.cache).ok()?;
        runlog::action_at(&self.cache, index.get(key)?.at).ok()
    }
}
