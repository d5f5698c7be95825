//! A Process Run Crate (profile 0.5 on RO-Crate 1.1): a folder that describes the run, with copies of its reports and the
//! bundle. What is not copied is described by name and digest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Export, PRODUCER, escaped, flat, object, uuid};
use crate::digest::Digest;
use crate::error::EngineError;
use crate::map::whole_of;
use crate::runlog::ActionEntry;
use crate::store::Store;

/// Artifacts up to this size are copied into the crate, if nothing else says so.
pub const COPY_UP_TO: u64 = 4 << 20;

/// The description in the making: entities by id, in the order they came.
struct Graph {
    entities: Vec<Value>,
    known: BTreeSet<String>,
}

impl Graph {
    fn add(&mut self, entity: Value) {
        if let Some(id) = entity.get("@id").and_then(Value::as_str)
            && self.known.insert(id.to_owned())
        {
            self.entities.push(entity);
        }
    }
}

fn reference(id: &str) -> Value {
    json!({ "@id": id })
}

/// One value as it is, several as a list: single values must not be lists.
fn one_or_many(mut ids: Vec<Value>) -> Value {
    if ids.len() == 1 { ids.remove(0) } else { Value::Array(ids) }
}

impl Export<'_> {
    /// Writes the crate into a folder, which must not exist or be empty. Copies artifacts nothing else was made of (the
    /// reports) up to `limit` bytes each, whose content the store still has.
    ///
    /// # Errors
    /// The folder is in use or cannot be written.
    pub fn ro_crate(&self, folder: &Path, store: &Store, limit: u64) -> Result<(), EngineError> {
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).map_err(EngineError::io("write", &path))
        };
        fs::create_dir_all(folder).map_err(EngineError::io("make", folder))?;
        write("lineage.json", &(self.document() + "\n"))?;
        let copied = self.copies(folder, store, limit)?;
        write("ro-crate-metadata.json", &self.metadata(&copied))
    }

    /// Copies artifacts of the run's state that no action of it read; returns what was copied.
    fn copies(&self, folder: &Path, store: &Store, limit: u64) -> Result<BTreeSet<(String, Digest)>, EngineError> {
        let here = self.bundle.stages.values().filter_map(|stage| self.bundle.actions.get(stage.action?));
        let mut copied = BTreeSet::new();
        for output in here.flat_map(|action| action.outputs.values()) {
            if output.is_directory() || output.size > limit || !output.path.starts_with("reports/") {
                continue;
            }
            let (object, place) = (store.path(&output.digest), folder.join(&output.path));
            if !store.holds(&output.digest, output.size) {
                continue;
            }
            let parent = place.parent().unwrap_or(folder);
            fs::create_dir_all(parent).map_err(EngineError::io("make", parent))?;
            let bytes = fs::read(&object).map_err(EngineError::io("read", &object))?;
            fs::write(&place, bytes).map_err(EngineError::io("write", &place))?;
            copied.insert((output.path.clone(), output.digest));
        }
        Ok(copied)
    }

    fn metadata(&self, copied: &BTreeSet<(String, Digest)>) -> String {
        let info = &self.bundle.run.info;
        let mut graph = Graph { entities: Vec::new(), known: BTreeSet::new() };
        graph.add(json!({
            "@id": "ro-crate-metadata.json",
            "@type": "CreativeWork",
            "conformsTo": { "@id": "https://w3id.org/ro/crate/1.1" },
            "about": { "@id": "./" },
        }));
        let profile = "https://w3id.org/ro/wfrun/process/0.5";
        let mut parts: Vec<Value> = copied.iter().map(|(path, _)| reference(&escaped(path))).collect();
        parts.push(reference("lineage.json"));
        let mentions: Vec<Value> = self.bundle.actions.iter().map(|action| reference(&action_id(action))).collect();
        let mut root = object([
            ("@id", "./".into()),
            ("@type", "Dataset".into()),
            ("name", format!("Run {} of {} ({})", info.run, info.pipeline, self.project).into()),
            (
                "description",
                format!(
                    "What led to the artifacts of run {}: {} stages executed, {} restored, {} up to date.",
                    info.run, info.executed, info.restored, info.fresh
                )
                .into(),
            ),
            ("datePublished", info.finished.clone().into()),
            ("license", reference("#license")),
            ("author", reference(&host_id(&self.bundle.run.host))),
            ("publisher", reference(&host_id(&self.bundle.run.host))),
            ("conformsTo", reference(profile)),
            ("hasPart", one_or_many(parts)),
        ]);
        if !mentions.is_empty() {
            root.insert("mentions".to_owned(), one_or_many(mentions));
        }
        graph.add(root.into());
        graph.add(json!({
            "@id": profile, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5",
        }));
        graph.add(json!({
            "@id": "#license", "@type": "CreativeWork", "name": "Not stated",
            "description": "The terms of the logs and reports are their owner's to state.",
        }));
        machine(&self.bundle.run.host, &mut graph);
        let program = self.program(&mut graph);
        graph.add(json!({
            "@id": "lineage.json", "@type": "File", "name": "Everything recorded of the run",
            "description": "Answers `logweir lineage FILE --bundle` without the project.",
            "encodingFormat": "application/json", "contentSize": (self.document().len() + 1).to_string(),
        }));
        for action in &self.bundle.actions {
            self.describe_action(action, &program, copied, &mut graph);
        }
        let document = json!({ "@context": "https://w3id.org/ro/crate/1.1/context", "@graph": graph.entities });
        serde_json::to_string_pretty(&document).expect("a document has string keys") + "\n"
    }

    fn program(&self, graph: &mut Graph) -> String {
        let id = format!("{PRODUCER}#logweir");
        graph.add(json!({
            "@id": id, "@type": "SoftwareApplication", "name": "logweir", "url": PRODUCER,
            "softwareVersion": env!("CARGO_PKG_VERSION"),
        }));
        id
    }

    fn describe_action(
        &self,
        action: &ActionEntry,
        program: &str,
        copied: &BTreeSet<(String, Digest)>,
        graph: &mut Graph,
    ) {
        let record = &action.record;
        let instrument = match (&record.kind, &record.command) {
            (Some(kind), _) => {
                let code = record.code.map(|code| code.to_string()).unwrap_or_default();
                let id = format!("{PRODUCER}#kind-{}-{}", escaped(kind), code.chars().take(12).collect::<String>());
                let version = format!("{}+{code}", action.program);
                graph.add(json!({
                    "@id": id, "@type": "SoftwareApplication", "name": format!("logweir stage kind `{kind}`"),
                    "url": PRODUCER, "softwareVersion": version, "softwareRequirements": { "@id": program },
                }));
                id
            }
            (None, command) => {
                let command = command.as_deref().unwrap_or_default();
                let id = format!("{PRODUCER}#command-{}", Digest::of_bytes(command.as_bytes()).short());
                graph.add(json!({
                    "@id": id, "@type": "SoftwareApplication", "name": format!("command of stage `{}`", action.stage),
                    "description": command, "url": PRODUCER, "softwareVersion": Digest::of_bytes(command.as_bytes()).short(),
                    "softwareRequirements": { "@id": program },
                }));
                id
            }
        };
        let agent = machine(&action.host, graph);
        let (mut objects, mut named) = (Vec::new(), BTreeSet::new());
        for (path, digest) in record.inputs.values().flatten().flatten() {
            let id = self.artifact(path, digest, &action.roots, copied, graph);
            let entity = reference(&id);
            if named.insert(id) {
                objects.push(entity);
            }
        }
        for (parameter, value) in flat(&record.params) {
            let id = format!("#param-{}-{}", action.key.short(), escaped(&parameter));
            graph.add(json!({ "@id": id, "@type": "PropertyValue", "name": parameter, "value": value }));
            objects.push(reference(&id));
        }
        let mut results: Vec<Value> = action
            .outputs
            .values()
            .map(|output| reference(&self.artifact(&output.path, &output.digest, &action.roots, copied, graph)))
            .collect();
        if let Some(target) = &record.effect {
            let id = format!("#effect-{}", action.key.short());
            let about = "What the stage wrote outside the project; it holds the action key.";
            graph.add(json!({ "@id": id, "@type": "CreativeWork", "name": target, "description": about }));
            results.push(reference(&id));
        }
        let mut entity = object([
            ("@id", action_id(action).into()),
            ("@type", "CreateAction".into()),
            ("name", format!("Stage `{}` in run {}", action.stage, action.run).into()),
            ("description", format!("Action key {}, executed on {}.", action.key, action.platform).into()),
            ("instrument", reference(&instrument)),
            ("agent", reference(&agent)),
            ("startTime", offset(&action.started).into()),
            ("endTime", offset(&Self::ended(action)).into()),
            ("actionStatus", "http://schema.org/CompletedActionStatus".into()),
        ]);
        for (member, ids) in [("object", objects), ("result", results)] {
            if !ids.is_empty() {
                entity.insert(member.to_owned(), one_or_many(ids));
            }
        }
        graph.add(entity.into());
    }

    /// Describes an artifact; returns its id: its path where it was copied, else a name made of its content.
    fn artifact(
        &self,
        path: &str,
        digest: &Digest,
        roots: &BTreeMap<String, String>,
        copied: &BTreeSet<(String, Digest)>,
        graph: &mut Graph,
    ) -> String {
        let here = copied.contains(&(path.to_owned(), *digest));
        let id = if here { escaped(path) } else { format!("#artifact-{}", uuid(&[path, &digest.to_string()])) };
        if graph.known.contains(&id) {
            return id;
        }
        let bare = whole_of(path).unwrap_or(path);
        let mut about: Map<String, Value> = object([("@id", id.clone().into())]);
        // Only what lies in the crate is a data entity of it.
        about.insert("@type".to_owned(), if here { "File".into() } else { "CreativeWork".into() });
        about.insert("name".to_owned(), path.into());
        about.insert("identifier".to_owned(), format!("blake3:{digest}").into());
        if here {
            let size = self.index.sizes.get(digest);
            about.extend(size.map(|size| ("contentSize".to_owned(), size.to_string().into())));
            about.insert("encodingFormat".to_owned(), encoding(path).into());
        } else if let Some((root, rest)) = bare.split_once(':')
            && let Some(place) = roots.get(root)
        {
            let place = format!("Read from {}/{rest}; not part of the crate.", place.trim_end_matches('/'));
            about.insert("description".to_owned(), place.into());
        } else {
            about.insert("description".to_owned(), "Described by its digest; not part of the crate.".into());
        }
        graph.add(about.into());
        id
    }
}

/// Describes a machine; returns its id. The profile knows people and organizations as agents: whose machine it is, is not
/// recorded.
fn machine(host: &str, graph: &mut Graph) -> String {
    let id = host_id(host);
    graph.add(json!({
        "@id": id, "@type": "Organization", "name": host, "url": PRODUCER,
        "description": "Whoever ran the pipeline on this machine.",
    }));
    id
}

fn host_id(host: &str) -> String {
    format!("{PRODUCER}#host-{}", escaped(host))
}

/// A time in UTC with its offset in digits, as the profile wants it.
fn offset(time: &str) -> String {
    time.strip_suffix('Z').map_or_else(|| time.to_owned(), |time| format!("{time}+00:00"))
}

fn action_id(action: &ActionEntry) -> String {
    format!("#action-{}", uuid(&[&action.run, &action.stage]))
}

/// The media type of a file by its ending.
fn encoding(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "json" => "application/json",
        "html" => "text/html",
        "png" => "image/png",
        "svg" => "image/svg+xml",
        "csv" => "text/csv",
        "parquet" => "application/vnd.apache.parquet",
        "txt" | "log" | "md" => "text/plain",
        _ => "application/octet-stream",
    }
}
