//! Questions over records: everything that produced an artifact, everything derived from one. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;
use crate::draw;
use crate::error::EngineError;
use crate::event::Decision;
use crate::history::OutputRecord;
use crate::key::KeyRecord;
use crate::manifest::Manifest;
use crate::map::{COLLECTOR, whole_of};
use crate::runlog::ActionEntry;
use crate::sandbox::Undeclared;
use crate::survey::{Survey, declared};
use crate::wiring::Link;

/// Whether a node is a thing or the making of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeType {
    /// A file or directory with a certain content.
    Artifact,
    /// One execution of a stage.
    Action,
}

/// A node of a lineage document. Artifacts have `path` and `digest`; actions have `stage`, `key`, `run`, `params`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Unique in the document: `artifact:PATH@DIGEST` or `action:KEY`, digests shortened.
    pub id: String,
    /// Artifact or action.
    #[serde(rename = "type")]
    pub kind: NodeType,
    /// The logical path: relative to the project, or `root:path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Where a source file in a root was when it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Content digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The stage's full name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// The action key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Digest>,
    /// The run that executed the action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The kind (`uses`) or the command template (`run`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The parameters, defaults filled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Value>,
    /// Of an action, everything else recorded; not in canonical documents, which speak of no time and place.
    #[serde(flatten)]
    pub details: Option<Box<Details>>,
}

/// Everything recorded of an action beside its parameters and files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Details {
    /// What the run asked about did with the stage: `run`, `restore` or `fresh` (`kept`: it was not selected); absent
    /// where the action is none of that run's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// Digest of a built-in kind's code: its modules and the locked libraries it computes with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Digest>,
    /// Version of a built-in kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// The name of a built-in kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The command template of a shell stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// What an effect acts on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
    /// Declared variables; null when unset.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Option<String>>,
    /// Declared tools and what they printed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tools: BTreeMap<String, String>,
    /// Names (never values) of the secrets it was given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// The pipeline file.
    pub pipeline: String,
    /// When it started (RFC 3339, UTC).
    pub started: String,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Thread tokens it had.
    pub threads: usize,
    /// Most memory, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<u64>,
    /// The machine.
    pub host: String,
    /// Operating system and architecture.
    pub platform: String,
    /// Version of the program.
    pub program: String,
    /// How often the stage warned.
    pub warnings: usize,
    /// What it touched without declaring it, where that was watched.
    #[serde(default, skip_serializing_if = "Undeclared::is_empty")]
    pub undeclared: Undeclared,
    /// The run that found these outputs to be what another stage or pipeline needs, if it was not executed for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reused_by: Option<String>,
}

/// A lineage document: a graph from sources to the target (or from the target to all that is derived from it).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lineage {
    /// What was asked for, as given.
    pub target: String,
    /// The value a `#/json/pointer` names; null without one.
    pub value: Value,
    /// Nodes, sources first.
    pub nodes: Vec<Node>,
    /// Edges in the direction of the data, by node id.
    pub edges: Vec<(String, String)>,
    /// The node the target was found to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// The run in whose state it was looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<String>,
    /// What the reader must know: content that is not as recorded, a value that is no longer stored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Lineage {
    /// Returns the document as a picture: sources, artifacts and actions told apart, the target marked.
    pub fn picture(&self) -> draw::Picture {
        let made: BTreeSet<&str> = self.edges.iter().map(|(_, to)| to.as_str()).collect();
        let node = |node: &Node| {
            let target = self.found.as_ref() == Some(&node.id);
            let (label, class) = match node.kind {
                NodeType::Action => {
                    let stage = node.stage.clone().unwrap_or_default();
                    let kind = node.details.as_ref().and_then(|details| details.kind.clone());
                    let kind = kind.filter(|kind| *kind != stage).map(|kind| format!("\n{kind}")).unwrap_or_default();
                    (format!("{stage}{kind}"), "stage")
                }
                NodeType::Artifact => {
                    let path = node.path.as_deref().unwrap_or(&node.id);
                    let digest = node.digest.map(|digest| format!("\n{}", digest.short())).unwrap_or_default();
                    let value = match (target, self.target.split_once('#')) {
                        (true, Some((_, pointer))) if !self.value.is_null() => format!("\n{pointer} = {}", self.value),
                        _ => String::new(),
                    };
                    let class = match made.contains(node.id.as_str()) {
                        _ if target => "target",
                        true => "artifact",
                        false => "source",
                    };
                    (format!("{path}{digest}{value}"), class)
                }
            };
            draw::Node { id: node.id.clone(), label, class: class.to_owned() }
        };
        let edge = |(from, to): &(String, String)| draw::Edge { from: from.clone(), to: to.clone(), order_only: false };
        draw::Picture { nodes: self.nodes.iter().map(node).collect(), edges: self.edges.iter().map(edge).collect() }
    }
}

/// What lineage knows of an action.
#[derive(Clone, Debug, PartialEq)]
pub struct ActionView {
    /// The stage's full name.
    pub stage: String,
    /// The action key.
    pub key: Digest,
    /// The run that executed it; `None` in canonical documents.
    pub run: Option<String>,
    /// What the key is made of.
    pub record: Rc<KeyRecord>,
    /// Outputs by slot.
    pub outputs: BTreeMap<String, OutputRecord>,
    /// Named roots its inputs lay in; empty in canonical documents.
    pub roots: BTreeMap<String, String>,
    /// Everything else; `None` in canonical documents.
    pub details: Option<Rc<Details>>,
}

impl ActionView {
    /// Adds what the run asked about did with the stage.
    pub(crate) fn decided(self, decision: Decision) -> Self {
        let details = self.details.map(Rc::unwrap_or_clone);
        let details = details.map(|details| Rc::new(Details { decision: Some(decision), ..details }));
        Self { details, ..self }
    }
}

impl From<ActionEntry> for ActionView {
    fn from(entry: ActionEntry) -> Self {
        let record = entry.record;
        let details = Details {
            decision: None,
            code: record.code,
            version: record.version,
            kind: record.kind.clone(),
            command: record.command.clone(),
            effect: record.effect.clone(),
            env: record.env.clone(),
            tools: record.tools.clone(),
            secrets: entry.secrets,
            pipeline: entry.pipeline,
            started: entry.started,
            seconds: entry.seconds,
            threads: entry.threads,
            peak_memory: entry.peak_memory,
            host: entry.host,
            platform: entry.platform,
            program: entry.program,
            warnings: entry.warnings.len(),
            undeclared: entry.undeclared,
            reused_by: entry.reused_by,
        };
        Self {
            stage: entry.stage,
            key: entry.key,
            run: Some(entry.run),
            record: Rc::new(record),
            outputs: entry.outputs,
            roots: entry.roots,
            details: Some(Rc::new(details)),
        }
    }
}

/// Answers which action made what.
pub trait Records {
    /// Returns the action that gave the artifact at `path` (a file, a directory with a slash at the end, or something
    /// in an output directory) this content; `None` for a source.
    ///
    /// # Errors
    /// Records cannot be read.
    fn maker(&self, path: &str, digest: &Digest) -> Result<Option<Rc<ActionView>>, EngineError>;

    /// Returns the content the artifact at `path` had in the state asked about.
    ///
    /// # Errors
    /// Records cannot be read.
    fn digest_of(&self, path: &str) -> Result<Option<Digest>, EngineError>;

    /// Returns the files of the output directory at `path` with this content; `None` if they are no longer known.
    ///
    /// # Errors
    /// Records cannot be read.
    fn files(&self, path: &str, digest: &Digest) -> Result<Option<Arc<Manifest>>, EngineError>;
}

/// Returns the id of an artifact's node.
pub(crate) fn artifact_id(path: &str, digest: &Digest) -> String {
    format!("artifact:{path}@{}", digest.short())
}

/// Collects nodes and edges, each once.
#[derive(Default)]
struct Collector {
    nodes: BTreeMap<String, Node>,
    edges: BTreeSet<(String, String)>,
}

impl Collector {
    fn artifact(&mut self, path: &str, digest: &Digest, roots: &BTreeMap<String, String>) -> String {
        let id = artifact_id(path, digest);
        let node = self.nodes.entry(id.clone()).or_insert_with(|| Node {
            id: id.clone(),
            kind: NodeType::Artifact,
            path: Some(path.to_owned()),
            file: None,
            digest: Some(*digest),
            stage: None,
            key: None,
            run: None,
            action: None,
            params: None,
            details: None,
        });
        if node.file.is_none()
            && let Some((root, relative)) = path.split_once(':')
            && let Some(place) = roots.get(root)
        {
            let relative = whole_of(relative).unwrap_or(relative);
            node.file = Some(format!("{}/{relative}", place.trim_end_matches('/')));
        }
        id
    }

    /// Adds an action; says whether it is new.
    fn action(&mut self, action: &ActionView) -> (String, bool) {
        let id = format!("action:{}@{}", action.stage, action.key.short());
        let new = !self.nodes.contains_key(&id);
        if new {
            let node = Node {
                id: id.clone(),
                kind: NodeType::Action,
                path: None,
                file: None,
                digest: None,
                stage: Some(action.stage.clone()),
                key: Some(action.key),
                run: action.run.clone(),
                action: action.record.action(),
                params: Some(action.record.params.clone()),
                details: action.details.as_ref().map(|details| Box::new(Details::clone(details))),
            };
            self.nodes.insert(id.clone(), node);
        }
        (id, new)
    }

    /// Returns nodes in the order of the data flow, ties by id.
    fn finish(self, target: &str) -> Lineage {
        let mut left: BTreeMap<&str, usize> = self.nodes.keys().map(|id| (id.as_str(), 0)).collect();
        let mut after: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (from, to) in &self.edges {
            *left.entry(to).or_default() += 1;
            after.entry(from).or_default().push(to);
        }
        let mut ready: BTreeSet<&str> = left.iter().filter(|(_, n)| **n == 0).map(|(id, _)| *id).collect();
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some(id) = ready.pop_first() {
            order.push(id);
            for next in after.get(id).into_iter().flatten() {
                let count = left.get_mut(next).expect("edges join nodes");
                *count -= 1;
                if *count == 0 {
                    ready.insert(next);
                }
            }
        }
        let order: Vec<String> = order.into_iter().map(str::to_owned).collect();
        let (mut nodes, edges) = (self.nodes, self.edges);
        Lineage {
            target: target.to_owned(),
            value: Value::Null,
            nodes: order.iter().filter_map(|id| nodes.remove(id)).collect(),
            edges: edges.into_iter().collect(),
            found: None,
            as_of: None,
            notes: Vec::new(),
        }
    }
}

/// Returns everything that led to an artifact.
///
/// # Errors
/// Records cannot be read.
pub fn upstream(records: &dyn Records, target: &str, path: &str, digest: &Digest) -> Result<Lineage, EngineError> {
    let mut found = Collector::default();
    let nowhere = BTreeMap::new();
    let id = found.artifact(path, digest, &nowhere);
    let mut pending = VecDeque::from([(path.to_owned(), *digest, id)]);
    let mut seen = BTreeSet::new();
    while let Some((path, digest, id)) = pending.pop_front() {
        if !seen.insert(id.clone()) {
            continue;
        }
        // A lineage document is made by the engine itself, from the artifact it speaks of; so is a piece of a file.
        if let Some(of) = path.strip_prefix("lineage:").or_else(|| whole_of(&path)) {
            if let Some(digest) = records.digest_of(of)? {
                let source = found.artifact(of, &digest, &nowhere);
                found.edges.insert((source.clone(), id));
                pending.push_back((of.to_owned(), digest, source));
            }
            continue;
        }
        let Some(action) = records.maker(&path, &digest)? else { continue };
        let (made_by, new) = found.action(&action);
        found.edges.insert((made_by.clone(), id));
        if new && action.record.kind.as_deref() == Some(COLLECTOR) {
            // What a mapped stage gives is what its items made.
            for output in action.outputs.values() {
                let Some(files) = records.files(&output.path, &output.digest)? else { continue };
                for (relative, fact) in &files.files {
                    let file = format!("{}{relative}", output.path);
                    let file_id = found.artifact(&file, &fact.digest, &nowhere);
                    found.edges.insert((file_id.clone(), made_by.clone()));
                    pending.push_back((file, fact.digest, file_id));
                }
            }
        } else if new {
            for (input, digest) in action.record.inputs.values().flatten().flatten() {
                let input_id = found.artifact(input, digest, &action.roots);
                found.edges.insert((input_id.clone(), made_by.clone()));
                pending.push_back((input.clone(), *digest, input_id));
            }
        }
    }
    Ok(found.finish(target))
}

/// Returns whether two logical paths are the same artifact, or one holds the other.
pub fn overlaps(a: &str, b: &str) -> bool {
    let (a, b) = (whole_of(a).unwrap_or(a), whole_of(b).unwrap_or(b));
    a == b || (a.ends_with('/') && b.starts_with(a)) || (b.ends_with('/') && a.starts_with(b))
}

/// Returns everything derived from an artifact, given all actions of a state; `None` if none read or made it.
pub fn downstream(actions: &[ActionView], target: &str) -> Option<Lineage> {
    let mut found = Collector::default();
    let mut readers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (number, action) in actions.iter().enumerate() {
        for input in action.record.inputs.values().flatten().flat_map(BTreeMap::keys) {
            readers.entry(input.trim_start_matches("lineage:")).or_default().push(number);
        }
    }
    let reading = |path: &str| -> Vec<(String, usize)> {
        let mut all = Vec::new();
        // Inputs that are the path or lie in it, then inputs that are a folder around it.
        for (input, numbers) in readers.range(path..).take_while(|(input, _)| input.starts_with(path)) {
            all.extend(numbers.iter().filter(|_| overlaps(input, path)).map(|n| ((*input).to_owned(), *n)));
        }
        for (at, _) in path.trim_end_matches('/').match_indices('/') {
            let folder = &path[..=at];
            all.extend(readers.get(folder).into_iter().flatten().map(|n| (folder.to_owned(), *n)));
        }
        all
    };
    let path = if actions.iter().flat_map(|a| a.outputs.values()).any(|o| o.path == format!("{target}/")) {
        format!("{target}/")
    } else {
        target.to_owned()
    };
    let made = actions.iter().flat_map(|a| a.outputs.values()).find(|o| overlaps(&o.path, &path));
    if made.is_none() && reading(&path).is_empty() {
        return None;
    }
    let mut placed: BTreeMap<String, String> = BTreeMap::new();
    let mut pending = VecDeque::from([path.clone()]);
    let mut seen = BTreeSet::from([path]);
    while let Some(path) = pending.pop_front() {
        for (_, number) in reading(&path) {
            let action = &actions[number];
            let (id, _) = found.action(action);
            for (input, digest) in action.record.inputs.values().flatten().flatten() {
                if overlaps(input.trim_start_matches("lineage:"), &path) {
                    let node = found.artifact(input, digest, &action.roots);
                    // Part of a folder, or the folder around a part.
                    if let (true, Some(whole)) = (*input != path, placed.get(&path)) {
                        found.edges.insert((whole.clone(), node.clone()));
                    }
                    found.edges.insert((node, id.clone()));
                }
            }
            for output in action.outputs.values() {
                let made = found.artifact(&output.path, &output.digest, &action.roots);
                placed.insert(output.path.clone(), made.clone());
                found.edges.insert((id.clone(), made));
                if seen.insert(output.path.clone()) {
                    pending.push_back(output.path.clone());
                }
            }
        }
    }
    if let (true, Some(made)) = (found.nodes.is_empty(), made) {
        found.artifact(&made.path, &made.digest, &BTreeMap::new());
    }
    Some(found.finish(target))
}

/// The state of a survey as records.
struct Current<'s, 'a>(&'s Survey<'a>);

impl Records for Current<'_, '_> {
    fn maker(&self, path: &str, _digest: &Digest) -> Result<Option<Rc<ActionView>>, EngineError> {
        let Some((output, inside)) = self.0.wiring.producer(self.0.spec, path) else { return Ok(None) };
        let made = &self.0.spec.stages[output.stage].outputs[output.slot].path.path;
        let item = inside.and_then(|inside| self.0.maker_in(output.stage, &format!("{made}/{inside}")));
        let index = item.unwrap_or(output.stage);
        let stage = self.0.stage(index);
        let known = self.0.known[index].as_ref();
        Ok(known.map(|known| {
            let record = |(slot, o): (&String, &crate::spec::Output)| {
                let made = known.outputs.get(slot)?;
                let fact = made.fact;
                let path = declared(&o.path, o.directory);
                let record = OutputRecord { path, digest: fact.digest, size: fact.size, executable: fact.executable };
                Some((slot.clone(), record))
            };
            Rc::new(ActionView {
                stage: stage.name.clone(),
                key: known.key,
                run: None,
                record: Rc::new(KeyRecord::clone(&known.record)),
                outputs: stage.outputs.iter().filter_map(record).collect(),
                roots: BTreeMap::new(),
                details: None,
            })
        }))
    }

    fn digest_of(&self, path: &str) -> Result<Option<Digest>, EngineError> {
        let Some((output, inside)) = self.0.wiring.producer(self.0.spec, path) else { return Ok(None) };
        let (slot, _) = self.0.spec.stages[output.stage].outputs.get_index(output.slot).expect("made from the spec");
        let Some(known) = self.0.known[output.stage].as_ref() else { return Ok(None) };
        Ok(match inside {
            None => known.outputs.get(slot).map(|made| made.fact.digest),
            Some(inside) => known.manifests.get(slot).and_then(|m| m.files.get(&inside)).map(|fact| fact.digest),
        })
    }

    fn files(&self, path: &str, _digest: &Digest) -> Result<Option<Arc<Manifest>>, EngineError> {
        let Some((output, None)) = self.0.wiring.producer(self.0.spec, path) else { return Ok(None) };
        let (slot, _) = self.0.spec.stages[output.stage].outputs.get_index(output.slot).expect("made from the spec");
        Ok(self.0.known[output.stage].as_ref().and_then(|known| known.manifests.get(slot)).cloned())
    }
}

/// Returns the canonical lineage document of an artifact: keys, parameters and digests; no run, no time, no place.
///
/// # Errors
/// Records cannot be read.
pub(crate) fn canonical(survey: &Survey<'_>, path: &str, digest: Digest, link: &Link) -> Result<String, EngineError> {
    let directory = match link {
        Link::Output(output) => survey.spec.stages[output.stage].outputs[output.slot].directory,
        _ => false,
    };
    let at = if directory { format!("{path}/") } else { path.to_owned() };
    let document = upstream(&Current(survey), path, &at, &digest)?;
    let mut text = serde_json::to_string_pretty(&document).map_err(|e| EngineError::Internal(e.to_string()))?;
    text.push('\n');
    Ok(text)
}
