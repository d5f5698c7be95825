//! W3C PROV-JSON (member submission of 2013): artifacts are entities, actions are activities, the program and the machine
//! are agents, and what an action was to do (kind or command, parameters) is its plan.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Export, PRODUCER, escaped, flat, object};
use crate::bundle::Bundle;
use crate::digest::Digest;
use crate::map::whole_of;
use crate::runlog::ActionEntry;

/// The document in the making: sections of records by id.
#[derive(Default)]
struct Document {
    sections: BTreeMap<&'static str, Map<String, Value>>,
}

impl Document {
    fn add(&mut self, section: &'static str, id: String, record: Map<String, Value>) {
        self.sections.entry(section).or_default().entry(id).or_insert(Value::Object(record));
    }

    /// Adds a relation; one without a name of its own, so it is numbered.
    fn relate(&mut self, section: &'static str, record: Map<String, Value>) {
        let number = self.sections.get(section).map_or(0, Map::len);
        self.add(section, format!("_:{section}{number}"), record);
    }
}

/// A typed value.
fn typed(value: &(impl ToString + ?Sized), kind: &str) -> Value {
    json!({ "$": value.to_string(), "type": kind })
}

/// A name of the vocabulary as a type.
fn name(name: &str) -> Value {
    typed(name, "prov:QUALIFIED_NAME")
}

impl Export<'_> {
    /// Returns the run and all that led to it as PROV-JSON.
    pub fn prov(&self) -> String {
        let mut document = Document::default();
        let (run, info) = (&self.bundle.run, &self.bundle.run.info);
        let program = format!("logweir:program/{}", escaped(env!("CARGO_PKG_VERSION")));
        let software = object([
            ("prov:type", name("prov:SoftwareAgent")),
            ("prov:label", "logweir".into()),
            ("logweir:version", env!("CARGO_PKG_VERSION").into()),
        ]);
        document.add("agent", program.clone(), software);
        let this = format!("logweir:run/{}", escaped(&info.run));
        let about = object([
            ("prov:startTime", info.started.clone().into()),
            ("prov:endTime", info.finished.clone().into()),
            ("prov:label", format!("run {} of {}", info.run, info.pipeline).into()),
            ("logweir:pipeline", info.pipeline.clone().into()),
            ("logweir:host", run.host.clone().into()),
            ("logweir:executed", typed(&info.executed, "xsd:int")),
            ("logweir:restored", typed(&info.restored, "xsd:int")),
            ("logweir:fresh", typed(&info.fresh, "xsd:int")),
            ("logweir:failed", typed(&info.failed, "xsd:int")),
            ("logweir:overrides", info.overrides.join(" ").into()),
        ]);
        document.add("activity", this.clone(), about);
        let associated = object([("prov:activity", this.clone().into()), ("prov:agent", program.clone().into())]);
        document.relate("wasAssociatedWith", associated);
        for action in &self.bundle.actions {
            self.action(action, &program, &mut document);
        }
        for (stage, entry) in &self.bundle.stages {
            let Some(action) = entry.action.and_then(|number| self.bundle.actions.get(number)) else {
                let activity = format!("{this}/{}", escaped(stage));
                let mut record = object([
                    ("prov:startTime", info.started.clone().into()),
                    ("prov:endTime", info.finished.clone().into()),
                    ("prov:label", stage.clone().into()),
                    ("logweir:decision", entry.decision.name().into()),
                ]);
                if let Some(error) = &entry.error {
                    record.insert("logweir:error".to_owned(), error.clone().into());
                }
                document.add("activity", activity.clone(), record);
                let informed = object([("prov:informed", activity.into()), ("prov:informant", this.clone().into())]);
                document.relate("wasInformedBy", informed);
                continue;
            };
            // The run relied on the action, whichever run executed it: fresh and restored results are no new activities.
            let relied = object([
                ("prov:informed", this.clone().into()),
                ("prov:informant", activity_of(action).into()),
                ("logweir:stage", stage.clone().into()),
                ("logweir:decision", entry.decision.name().into()),
            ]);
            document.relate("wasInformedBy", relied);
        }
        let whole = object([
            ("prov:type", name("prov:Bundle")),
            ("prov:label", "everything recorded of the run".into()),
            ("logweir:document", self.document().into()),
        ]);
        document.add("entity", "logweir:bundle".to_owned(), whole);
        let generated = object([("prov:entity", "logweir:bundle".into()), ("prov:activity", this.into())]);
        document.relate("wasGeneratedBy", generated);
        let prefix = json!({
            "logweir": format!("{PRODUCER}/ns#"),
            "artifact": format!("{PRODUCER}/artifact/{}/", escaped(self.project)),
        });
        let mut all = object([("prefix", prefix)]);
        all.extend(document.sections.into_iter().map(|(section, records)| (section.to_owned(), records.into())));
        serde_json::to_string_pretty(&all).expect("a document has string keys") + "\n"
    }

    fn action(&self, action: &ActionEntry, program: &str, document: &mut Document) {
        let (activity, record) = (activity_of(action), &action.record);
        let times = object([
            ("prov:startTime", action.started.clone().into()),
            ("prov:endTime", Self::ended(action).into()),
            ("prov:label", action.stage.clone().into()),
            ("logweir:key", action.key.to_string().into()),
            ("logweir:run", action.run.clone().into()),
            ("logweir:host", action.host.clone().into()),
            ("logweir:platform", action.platform.clone().into()),
            ("logweir:threads", typed(&action.threads, "xsd:int")),
        ]);
        document.add("activity", activity.clone(), times);
        let plan = format!("logweir:plan/{}", action.key);
        let mut what = object([("prov:type", name("prov:Plan"))]);
        let texts = [("logweir:kind", record.kind.clone()), ("logweir:command", record.command.clone())];
        let digests = [("logweir:code", record.code.map(|code| code.to_string()))];
        for (member, value) in texts.into_iter().chain(digests) {
            what.extend(value.map(|value| (member.to_owned(), Value::from(value))));
        }
        for (parameter, value) in flat(&record.params) {
            what.insert(format!("logweir:param/{}", escaped(&parameter)), value.into());
        }
        for (variable, value) in &record.env {
            let value = value.clone().unwrap_or_else(|| "(unset)".to_owned());
            what.insert(format!("logweir:env/{}", escaped(variable)), value.into());
        }
        for (tool, output) in &record.tools {
            what.insert(format!("logweir:tool/{}", escaped(tool)), output.clone().into());
        }
        document.add("entity", plan.clone(), what);
        let associated = object([
            ("prov:activity", activity.clone().into()),
            ("prov:agent", program.into()),
            ("prov:plan", plan.into()),
        ]);
        document.relate("wasAssociatedWith", associated);
        let mut read = Vec::new();
        for (slot, files) in &record.inputs {
            for (path, digest) in files.iter().flatten() {
                let entity = self.entity(path, digest, &action.roots, document);
                let used = object([
                    ("prov:activity", activity.clone().into()),
                    ("prov:entity", entity.clone().into()),
                    ("prov:role", slot.clone().into()),
                ]);
                document.relate("used", used);
                read.push(entity);
            }
        }
        for (slot, output) in &action.outputs {
            let entity = self.entity(&output.path, &output.digest, &action.roots, document);
            let generated = object([
                ("prov:entity", entity.clone().into()),
                ("prov:activity", activity.clone().into()),
                ("prov:time", Self::ended(action).into()),
                ("prov:role", slot.clone().into()),
            ]);
            document.relate("wasGeneratedBy", generated);
            for source in &read {
                let derived = object([
                    ("prov:generatedEntity", entity.clone().into()),
                    ("prov:usedEntity", source.clone().into()),
                    ("prov:activity", activity.clone().into()),
                ]);
                document.relate("wasDerivedFrom", derived);
            }
        }
    }

    /// Adds an artifact, and the directory some action made that it lies in; returns its id.
    fn entity(&self, path: &str, digest: &Digest, roots: &BTreeMap<String, String>, document: &mut Document) -> String {
        let id = entity_id(path, digest);
        let known = document.sections.get("entity").is_some_and(|entities| entities.contains_key(&id));
        if known {
            return id;
        }
        let mut about = object([("prov:label", path.into()), ("logweir:blake3", digest.to_string().into())]);
        if path.ends_with('/') {
            about.insert("prov:type".to_owned(), name("prov:Collection"));
        }
        let bare = whole_of(path).unwrap_or(path);
        if let Some((root, rest)) = bare.split_once(':')
            && let Some(place) = roots.get(root)
        {
            about.insert("prov:location".to_owned(), format!("{}/{rest}", place.trim_end_matches('/')).into());
        }
        if let Some(table) = self.tables.get(digest) {
            about.insert("logweir:rows".to_owned(), typed(&table.rows, "xsd:long"));
        }
        document.add("entity", id.clone(), about);
        for folder in self.index.around(path, digest) {
            let collection = self.entity(&folder.path, &folder.digest, roots, document);
            let member = object([("prov:collection", collection.into()), ("prov:entity", id.clone().into())]);
            document.relate("hadMember", member);
        }
        // A lineage document was made of the records of the artifact it speaks of.
        if let Some(output) = path.strip_prefix("lineage:").and_then(|of| self.index.latest.get(of)) {
            let source = self.entity(&output.path, &output.digest, roots, document);
            let derived = object([("prov:generatedEntity", id.clone().into()), ("prov:usedEntity", source.into())]);
            document.relate("wasDerivedFrom", derived);
        }
        id
    }
}

/// The id of an artifact: its path and content.
fn entity_id(path: &str, digest: &Digest) -> String {
    format!("artifact:{}@{}", escaped(path), digest.short())
}

/// The id of an action: the run that executed it, and the stage.
fn activity_of(action: &ActionEntry) -> String {
    format!("logweir:run/{}/{}", escaped(&action.run), escaped(&action.stage))
}

/// Finds the bundle in a document made by [`Export::prov`].
pub(super) fn embedded(text: &str) -> Option<Bundle> {
    let document: Value = serde_json::from_str(text).ok()?;
    serde_json::from_str(document.pointer("/entity/logweir:bundle/logweir:document")?.as_str()?).ok()
}
