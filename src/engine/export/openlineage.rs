//! OpenLineage events (specification 2-0-2): a START and an end for the run and for each stage, every facet with the
//! schema it follows. One JSON object a line.
//!
//! Namespaces: jobs and artifacts of the project are in `logweir://PROJECT`; a file of a named root is in `file` under
//! the place it had. A stage that was fresh or restored has its own run too: its dataset versions are those in place.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{Export, PRODUCER, TableFacts, flat, object, uuid};
use crate::bundle::{Bundle, BundleStage};
use crate::digest::Digest;
use crate::event::Decision;
use crate::history::{OutputRecord, RunInfo};
use crate::map::whole_of;
use crate::runlog::ActionEntry;

/// The specification every event follows.
const SPEC: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent";
/// The schema of our own facets, a definition for each.
const OWN: &str = "https://raw.githubusercontent.com/logweir/logweir/main/docs/openlineage-facets.schema.json#/$defs/";

/// A standard facet.
pub(crate) fn facet(name: &str, version: &str, mut members: Map<String, Value>) -> Value {
    let mut all = object([
        ("_producer", PRODUCER.into()),
        ("_schemaURL", format!("https://openlineage.io/spec/facets/{version}/{name}.json#/$defs/{name}").into()),
    ]);
    all.append(&mut members);
    Value::Object(all)
}

/// A facet of our own, by the name of its definition.
fn own(name: &str, mut members: Map<String, Value>) -> Value {
    let mut all = object([("_producer", PRODUCER.into()), ("_schemaURL", format!("{OWN}{name}").into())]);
    all.append(&mut members);
    Value::Object(all)
}

/// The namespace of a project's jobs and artifacts.
pub(crate) fn namespace(project: &str) -> String {
    format!("logweir://{}", super::escaped(project))
}

/// The id of a run, or of one stage in it.
pub(crate) fn run_id(run: &str, stage: Option<&str>) -> String {
    stage.map_or_else(|| uuid(&[run]), |stage| uuid(&[run, stage]))
}

/// The name of a pipeline's job: its file without the ending.
pub(crate) fn job_name(pipeline: &str) -> String {
    pipeline.rsplit_once('.').map_or(pipeline, |(stem, _)| stem).to_owned()
}

/// An event without datasets.
pub(crate) fn event(
    state: &str,
    time: &str,
    (id, facets): (&str, &Map<String, Value>),
    job: &Value,
) -> Map<String, Value> {
    object([
        ("eventType", state.into()),
        ("eventTime", time.into()),
        ("producer", PRODUCER.into()),
        ("schemaURL", SPEC.into()),
        ("run", json!({ "runId": id, "facets": facets })),
        ("job", job.clone()),
    ])
}

/// The facet that names the program.
pub(crate) fn engine_facet(program: &str) -> Value {
    let members = object([
        ("name", "logweir".into()),
        ("version", program.into()),
        ("openlineageAdapterVersion", env!("CARGO_PKG_VERSION").into()),
    ]);
    facet("ProcessingEngineRunFacet", "1-1-1", members)
}

/// The facet that names the run a stage is part of.
pub(crate) fn parent_facet(project: &str, run: &str, pipeline: &str) -> Value {
    let members = object([
        ("run", json!({ "runId": run_id(run, None) })),
        ("job", json!({ "namespace": namespace(project), "name": job_name(pipeline) })),
    ]);
    facet("ParentRunFacet", "1-2-0", members)
}

/// The facet of an error.
pub(crate) fn error_facet(message: &str) -> Value {
    let members = object([("message", message.into()), ("programmingLanguage", "Rust".into())]);
    facet("ErrorMessageRunFacet", "1-0-1", members)
}

/// A job: a pipeline (`DAG`) or a stage (`TASK`).
pub(crate) fn job(project: &str, name: &str, kind: &str, command: Option<&str>) -> Value {
    let members =
        object([("processingType", "BATCH".into()), ("integration", "LOGWEIR".into()), ("jobType", kind.into())]);
    let mut facets = object([("jobType", facet("JobTypeJobFacet", "2-0-4", members))]);
    if let Some(command) = command {
        let members = object([("language", "bash".into()), ("sourceCode", command.into())]);
        facets.insert("sourceCode".to_owned(), facet("SourceCodeJobFacet", "1-0-1", members));
    }
    json!({ "namespace": namespace(project), "name": name, "facets": facets })
}

/// The job of a pipeline.
pub(crate) fn own_job(project: &str, pipeline: &str) -> Value {
    job(project, &job_name(pipeline), "DAG", None)
}

/// How a run ended; adds the error to its facets.
pub(crate) fn outcome(info: &RunInfo, failed: &str, facets: &mut Map<String, Value>) -> &'static str {
    if info.interrupted {
        "ABORT"
    } else if info.failed > 0 {
        facets.insert("errorMessage".to_owned(), error_facet(&format!("{failed} failed")));
        "FAIL"
    } else {
        "COMPLETE"
    }
}

/// The counts of a run.
pub(crate) fn counts_facet(info: &RunInfo) -> Value {
    own(
        "LogweirRunFacet",
        object([
            ("run", info.run.clone().into()),
            ("executed", info.executed.into()),
            ("restored", info.restored.into()),
            ("fresh", info.fresh.into()),
            ("failed", info.failed.into()),
            ("skipped", info.skipped.into()),
            ("overrides", info.overrides.clone().into()),
            ("profile", info.profile.clone().into()),
        ]),
    )
}

/// The facets of the parameters, variables and tools of an action.
pub(crate) fn action_facets(action: &ActionEntry, decision: Option<Decision>) -> Map<String, Value> {
    let record = &action.record;
    let parameters: Vec<Value> =
        flat(&record.params).into_iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
    let mut facets = object([
        ("processing_engine", engine_facet(&action.program)),
        (
            "logweir_action",
            own(
                "LogweirActionRunFacet",
                object([
                    ("key", action.key.to_string().into()),
                    ("kind", record.kind.clone().into()),
                    ("code", record.code.map(|code| code.to_string()).into()),
                    ("decision", decision.map(Decision::name).into()),
                    ("executedIn", action.run.clone().into()),
                    ("host", action.host.clone().into()),
                    ("platform", action.platform.clone().into()),
                    ("seconds", action.seconds.into()),
                    ("tools", json!(record.tools)),
                    ("secrets", action.secrets.clone().into()),
                    ("undeclared", json!(action.undeclared)),
                ]),
            ),
        ),
    ]);
    if !parameters.is_empty() {
        let members = object([("parameters", parameters.into())]);
        facets.insert("executionParameters".to_owned(), facet("ExecutionParametersRunFacet", "1-0-0", members));
    }
    let set = record.env.iter().filter_map(|(name, value)| Some(json!({ "name": name, "value": value.as_ref()? })));
    let variables: Vec<Value> = set.collect();
    if !variables.is_empty() {
        let members = object([("environmentVariables", variables.into())]);
        facets.insert("environmentVariables".to_owned(), facet("EnvironmentVariablesRunFacet", "1-0-0", members));
    }
    facets
}

impl Export<'_> {
    /// Returns OpenLineage events, one a line: the run begins, each stage begins and ends, the run ends.
    pub fn openlineage(&self) -> String {
        let info = &self.bundle.run.info;
        let mut text = String::new();
        let mut tell = |event: Map<String, Value>| {
            text += &serde_json::to_string(&event).expect("an event has string keys");
            text.push('\n');
        };
        let own_job = own_job(self.project, &info.pipeline);
        let id = run_id(&info.run, None);
        let mut facets = object([("processing_engine", engine_facet(env!("CARGO_PKG_VERSION")))]);
        tell(event("START", &info.started, (&id, &facets), &own_job));
        // Actions that made what the run's stages read, in other runs or pipelines.
        let here: BTreeSet<usize> = self.bundle.stages.values().filter_map(|stage| stage.action).collect();
        for (number, action) in self.bundle.actions.iter().enumerate() {
            if !here.contains(&number) {
                self.stage_events(&action.stage, None, Some(action)).into_iter().for_each(&mut tell);
            }
        }
        let mut stages: Vec<(&String, &BundleStage)> = self.bundle.stages.iter().collect();
        stages.sort_by_key(|(name, stage)| (stage.action, (*name).clone()));
        for (name, stage) in stages {
            let action = stage.action.and_then(|number| self.bundle.actions.get(number));
            self.stage_events(name, Some(stage), action).into_iter().for_each(&mut tell);
        }
        facets.insert("logweir_run".to_owned(), counts_facet(info));
        facets.insert(
            "logweir_bundle".to_owned(),
            own("LogweirBundleRunFacet", object([("document", self.document().into())])),
        );
        let state = outcome(info, &failed_stages(self.bundle), &mut facets);
        tell(event(state, &info.finished, (&id, &facets), &own_job));
        text
    }

    /// The beginning and the end of one stage.
    pub(super) fn stage_events(
        &self,
        name: &str,
        stage: Option<&BundleStage>,
        action: Option<&ActionEntry>,
    ) -> Vec<Map<String, Value>> {
        let info = &self.bundle.run.info;
        let decision = stage.map(|stage| stage.decision);
        let (run, pipeline) = match (stage, action) {
            (None, Some(action)) => (&action.run, &action.pipeline),
            _ => (&info.run, &info.pipeline),
        };
        let mut facets = action.map(|action| action_facets(action, decision)).unwrap_or_default();
        facets.insert("parent".to_owned(), parent_facet(self.project, run, pipeline));
        let command = action.and_then(|action| action.record.command.as_deref());
        let job = job(self.project, &format!("{}.{name}", job_name(pipeline)), "TASK", command);
        // Only what was executed has a time of its own; nothing was begun before the run was.
        let (started, ended) = match (decision, action) {
            (Some(Decision::Run) | None, Some(action)) => (action.started.clone(), Self::ended(action)),
            (Some(Decision::Failed), _) => (info.started.clone(), info.finished.clone()),
            _ => (info.started.clone(), info.started.clone()),
        };
        let id = run_id(run, Some(name));
        let inputs: Vec<Value> = action.map(|action| self.inputs(action)).unwrap_or_default();
        let mut start = event("START", &started, (&id, &facets), &job);
        start.insert("inputs".to_owned(), inputs.clone().into());
        start.insert("outputs".to_owned(), json!([]));
        let state = match decision {
            Some(Decision::Failed) => {
                let error = stage.and_then(|stage| stage.error.as_deref()).unwrap_or("it failed");
                facets.insert("errorMessage".to_owned(), error_facet(error));
                "FAIL"
            }
            Some(Decision::Skipped) => "ABORT",
            _ => "COMPLETE",
        };
        let outputs: Vec<Value> = action.map(|action| self.outputs(action)).unwrap_or_default();
        let mut end = event(state, &ended, (&id, &facets), &job);
        end.insert("inputs".to_owned(), inputs.into());
        end.insert("outputs".to_owned(), outputs.into());
        vec![start, end]
    }

    /// Namespace and name of an artifact.
    fn name_of(&self, path: &str, roots: &BTreeMap<String, String>) -> (String, String) {
        let path = whole_of(path).unwrap_or(path);
        match path.split_once(':').and_then(|(root, rest)| Some((roots.get(root)?, rest))) {
            Some((place, rest)) => ("file".to_owned(), format!("{}/{rest}", place.trim_end_matches('/'))),
            None => (namespace(self.project), path.to_owned()),
        }
    }

    fn inputs(&self, action: &ActionEntry) -> Vec<Value> {
        let files = action.record.inputs.values().flatten().flatten();
        let unique: BTreeMap<&String, &Digest> = files.collect();
        let input = |(path, digest): (&String, &Digest)| {
            let (namespace, name) = self.name_of(path, &action.roots);
            let table = self.tables.get(digest);
            let mut input_facets = Map::new();
            let size = self.index.size_of(path, digest);
            let mut statistics = Map::new();
            if let Some(table) = table {
                statistics.insert("rowCount".to_owned(), table.rows.into());
                let quality = facet("DataQualityMetricsInputDatasetFacet", "1-0-3", metrics(table, size));
                input_facets.insert("dataQualityMetrics".to_owned(), quality);
            }
            if let Some(size) = size {
                statistics.insert("size".to_owned(), size.into());
            }
            if let Some(count) = self.index.directories.get(digest).map(|files| files.files.len()) {
                statistics.insert("fileCount".to_owned(), count.into());
            } else if !path.ends_with('/') {
                statistics.insert("fileCount".to_owned(), 1.into());
            }
            if !statistics.is_empty() {
                let statistics = facet("InputStatisticsInputDatasetFacet", "1-0-0", statistics);
                input_facets.insert("inputStatistics".to_owned(), statistics);
            }
            json!({ "namespace": namespace, "name": name, "facets": dataset(digest, table), "inputFacets": input_facets })
        };
        unique.into_iter().map(input).collect()
    }

    fn outputs(&self, action: &ActionEntry) -> Vec<Value> {
        let output = |(slot, output): (&String, &OutputRecord)| {
            let table = self.tables.get(&output.digest);
            let mut facets = dataset(&output.digest, table);
            if let Some(table) = table {
                let quality = facet("DataQualityMetricsDatasetFacet", "1-0-0", metrics(table, Some(output.size)));
                facets.insert("dataQualityMetrics".to_owned(), quality);
            }
            let columns = self.columns(action, slot);
            if !columns.is_empty() {
                let field = |(path, column, same): &(String, String, bool)| {
                    let (namespace, name) = self.name_of(path, &action.roots);
                    let subtype = if *same { "IDENTITY" } else { "TRANSFORMATION" };
                    let transformation = json!([{ "type": "DIRECT", "subtype": subtype }]);
                    json!({ "namespace": namespace, "name": name, "field": column, "transformations": transformation })
                };
                let fields: Map<String, Value> = columns
                    .iter()
                    .map(|(column, from)| {
                        (column.clone(), json!({ "inputFields": from.iter().map(field).collect::<Vec<_>>() }))
                    })
                    .collect();
                let lineage = facet("ColumnLineageDatasetFacet", "1-2-0", object([("fields", fields.into())]));
                facets.insert("columnLineage".to_owned(), lineage);
            }
            let files = self.index.directories.get(&output.digest).map_or(1, |files| files.files.len());
            let mut statistics = object([("size", output.size.into()), ("fileCount", files.into())]);
            if let Some(table) = table {
                statistics.insert("rowCount".to_owned(), table.rows.into());
            }
            let statistics = facet("OutputStatisticsOutputDatasetFacet", "1-0-2", statistics);
            json!({
                "namespace": namespace(self.project),
                "name": output.path,
                "facets": facets,
                "outputFacets": { "outputStatistics": statistics },
            })
        };
        action.outputs.iter().map(output).collect()
    }
}

/// The names of the stages that failed.
fn failed_stages(bundle: &Bundle) -> String {
    let failed = bundle.stages.iter().filter(|(_, stage)| stage.decision == Decision::Failed);
    failed.map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Facets every dataset has.
fn dataset(digest: &Digest, table: Option<&TableFacts>) -> Map<String, Value> {
    let version = object([("datasetVersion", format!("blake3:{digest}").into())]);
    let mut facets = object([("version", facet("DatasetVersionDatasetFacet", "1-0-1", version))]);
    if let Some(table) = table {
        let field = |(number, column): (usize, &super::ColumnFacts)| json!({ "name": column.name, "type": column.kind, "ordinal_position": number + 1 });
        let fields: Vec<Value> = table.columns.iter().enumerate().map(field).collect();
        let schema = facet("SchemaDatasetFacet", "1-2-0", object([("fields", fields.into())]));
        facets.insert("schema".to_owned(), schema);
    }
    facets
}

/// The members of a data quality facet.
fn metrics(table: &TableFacts, bytes: Option<u64>) -> Map<String, Value> {
    let column = |column: &super::ColumnFacts| {
        let members = [
            ("nullCount", column.nulls.map(Value::from)),
            ("distinctCount", column.distinct.map(Value::from)),
            ("min", column.min.filter(|min| min.is_finite()).map(Value::from)),
            ("max", column.max.filter(|max| max.is_finite()).map(Value::from)),
        ];
        let known = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        (column.name.clone(), Value::Object(known.collect()))
    };
    let columns: Map<String, Value> = table.columns.iter().map(column).collect();
    let mut members = object([("rowCount", table.rows.into()), ("columnMetrics", columns.into())]);
    if let Some(bytes) = bytes {
        members.insert("bytes".to_owned(), bytes.into());
    }
    members
}

/// Finds the bundle in events made by [`Export::openlineage`].
pub(super) fn embedded(text: &str) -> Option<Bundle> {
    let last: Value = serde_json::from_str(text.lines().last()?).ok()?;
    serde_json::from_str(last.pointer("/run/facets/logweir_bundle/document")?.as_str()?).ok()
}
