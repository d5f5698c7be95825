//! Questions over records: everything that produced an artifact, everything derived from one. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;
use crate::draw;
use crate::error::EngineError;
use crate::event::Decision;
use crate::fast::FastMap;
use crate::history::OutputRecord;
use crate::key::KeyRecord;
use crate::manifest::Manifest;
use crate::map::{COLLECTOR, whole_of};
use crate::origins::folders;
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
    pub details: Option<Shared>,
}

/// Details of an action, which a document and the records it was made from have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Shared(pub Arc<Details>);

impl Deref for Shared {
    type Target = Details;

    fn deref(&self) -> &Details {
        &self.0
    }
}

impl Serialize for Shared {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Shared {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Arc::new(Details::deserialize(deserializer)?)))
    }
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
    /// Returns every edge as places in `nodes`.
    pub fn places(&self) -> Vec<(usize, usize)> {
        let places = self.nodes.iter().enumerate().map(|(place, node)| (node.id.as_str(), place));
        let places: FastMap<&str, usize> = places.collect();
        let place = |id: &String| places.get(id.as_str()).copied();
        self.edges.iter().filter_map(|(from, to)| Some((place(from)?, place(to)?))).collect()
    }

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
    pub details: Option<Shared>,
}

impl ActionView {
    /// Makes a view of a recorded action, and of what the run asked about did with the stage, if it is of that run.
    pub(crate) fn new(entry: ActionEntry, decision: Option<Decision>) -> Self {
        let record = entry.record;
        let details = Details {
            decision,
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
            details: Some(Shared(Arc::new(details))),
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
    /// Id → place in `nodes`.
    places: FastMap<String, usize>,
    nodes: Vec<Node>,
    /// By place; the same may be here again.
    edges: Vec<(usize, usize)>,
}

impl Collector {
    /// Adds an artifact; says whether it is new.
    fn artifact(&mut self, path: &str, digest: &Digest, roots: &BTreeMap<String, String>) -> (usize, bool) {
        let (place, new) = self.node(artifact_id(path, digest), |id| Node {
            id,
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
        let node = &mut self.nodes[place];
        if node.file.is_none()
            && let Some((root, relative)) = path.split_once(':')
            && let Some(root) = roots.get(root)
        {
            let relative = whole_of(relative).unwrap_or(relative);
            node.file = Some(format!("{}/{relative}", root.trim_end_matches('/')));
        }
        (place, new)
    }

    /// Adds an action; says whether it is new.
    fn action(&mut self, action: &ActionView) -> (usize, bool) {
        self.node(format!("action:{}@{}", action.stage, action.key.short()), |id| Node {
            id,
            kind: NodeType::Action,
            path: None,
            file: None,
            digest: None,
            stage: Some(action.stage.clone()),
            key: Some(action.key),
            run: action.run.clone(),
            action: action.record.action(),
            params: Some(action.record.params.clone()),
            details: action.details.clone(),
        })
    }

    fn node(&mut self, id: String, make: impl FnOnce(String) -> Node) -> (usize, bool) {
        if let Some(place) = self.places.get(&id) {
            return (*place, false);
        }
        let place = self.nodes.len();
        self.places.insert(id.clone(), place);
        self.nodes.push(make(id));
        (place, true)
    }

    /// Returns nodes in the order of the data flow, ties by id.
    fn finish(self, target: &str) -> Lineage {
        // From here on a node is its rank among the ids.
        let id = |place: usize| self.nodes[place].id.as_str();
        let mut by_id: Vec<(u128, usize)> = (0..self.nodes.len()).map(|place| (beginning(id(place)), place)).collect();
        by_id.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| id(a.1).cmp(id(b.1))));
        let by_id: Vec<usize> = by_id.into_iter().map(|(_, place)| place).collect();
        let mut ranks = vec![0; by_id.len()];
        by_id.iter().enumerate().for_each(|(rank, place)| ranks[*place] = rank);
        let mut edges: Vec<(usize, usize)> = self.edges.iter().map(|(from, to)| (ranks[*from], ranks[*to])).collect();
        edges.sort_unstable();
        edges.dedup();
        let mut left = vec![0_usize; by_id.len()];
        edges.iter().for_each(|(_, to)| left[*to] += 1);
        let mut ready: BinaryHeap<Reverse<usize>> = (0..left.len()).filter(|n| left[*n] == 0).map(Reverse).collect();
        let mut order = Vec::with_capacity(left.len());
        while let Some(Reverse(rank)) = ready.pop() {
            order.push(rank);
            let first = edges.partition_point(|(from, _)| *from < rank);
            for (_, next) in edges[first..].iter().take_while(|(from, _)| *from == rank) {
                left[*next] -= 1;
                if left[*next] == 0 {
                    ready.push(Reverse(*next));
                }
            }
        }
        let edges =
            edges.into_iter().map(|(from, to)| (id(by_id[from]).to_owned(), id(by_id[to]).to_owned())).collect();
        let mut nodes: Vec<Option<Node>> = self.nodes.into_iter().map(Some).collect();
        Lineage {
            target: target.to_owned(),
            value: Value::Null,
            nodes: order.into_iter().filter_map(|rank| nodes[by_id[rank]].take()).collect(),
            edges,
            found: None,
            as_of: None,
            notes: Vec::new(),
        }
    }
}

/// What decides between most ids: the letter that tells artifacts from actions, and the first bytes after `artifact:` or
/// `action:`. Of two ids the one whose beginning is less is less.
fn beginning(id: &str) -> u128 {
    let (kind, rest) = id.as_bytes().split_at(id.find(':').map_or(0, |colon| colon + 1));
    let mut word = [0; 16];
    word[0] = kind.get(1).copied().unwrap_or_default();
    word[1..].iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    u128::from_be_bytes(word)
}

/// Returns everything that led to an artifact.
///
/// # Errors
/// Records cannot be read.
pub fn upstream(records: &dyn Records, target: &str, path: &str, digest: &Digest) -> Result<Lineage, EngineError> {
    let mut found = Collector::default();
    let nowhere = BTreeMap::new();
    let (id, _) = found.artifact(path, digest, &nowhere);
    let mut pending = VecDeque::from([(path.to_owned(), *digest, id)]);
    while let Some((path, digest, id)) = pending.pop_front() {
        // A lineage document is made by the engine itself, from the artifact it speaks of; so is a piece of a file.
        if let Some(of) = path.strip_prefix("lineage:").or_else(|| whole_of(&path)) {
            if let Some(digest) = records.digest_of(of)? {
                let (source, new) = found.artifact(of, &digest, &nowhere);
                found.edges.push((source, id));
                pending.extend(new.then(|| (of.to_owned(), digest, source)));
            }
            continue;
        }
        let Some(action) = records.maker(&path, &digest)? else { continue };
        let (made_by, new) = found.action(&action);
        found.edges.push((made_by, id));
        if new && action.record.kind.as_deref() == Some(COLLECTOR) {
            // What a mapped stage gives is what its items made.
            for output in action.outputs.values() {
                let Some(files) = records.files(&output.path, &output.digest)? else { continue };
                for (relative, fact) in &files.files {
                    let file = format!("{}{relative}", output.path);
                    let (made, new) = found.artifact(&file, &fact.digest, &nowhere);
                    found.edges.push((made, made_by));
                    pending.extend(new.then_some((file, fact.digest, made)));
                }
            }
        } else if new {
            for (input, digest) in action.record.inputs.values().flatten().flatten() {
                let (read, new) = found.artifact(input, digest, &action.roots);
                found.edges.push((read, made_by));
                pending.extend(new.then(|| (input.clone(), *digest, read)));
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

/// Returns whether an action reads an artifact, part of it, its lineage, or a folder around it.
pub(crate) fn reads(action: &ActionView, path: &str) -> bool {
    let mut read = action.record.inputs.values().flatten().flat_map(BTreeMap::keys);
    read.any(|input| overlaps(input.trim_start_matches("lineage:"), path))
}

/// A state, as what follows from its artifacts is asked.
pub(crate) trait Followers {
    /// Returns the actions that read an artifact, part of it, its lineage, or a folder around it.
    fn readers(&self, path: &str) -> Result<Vec<Rc<ActionView>>, EngineError>;

    /// Returns the first output that is an artifact, lies in it, or is a folder around it.
    fn made(&self, path: &str) -> Result<Option<(String, Digest)>, EngineError>;

    /// Returns whether an action writes exactly this path.
    fn writes(&self, path: &str) -> Result<bool, EngineError>;
}

/// A state whose actions are all at hand.
pub(crate) struct Loaded<'a> {
    actions: &'a [Rc<ActionView>],
    /// Input → actions that read it.
    readers: BTreeMap<&'a str, Vec<usize>>,
}

impl<'a> Loaded<'a> {
    pub(crate) fn new(actions: &'a [Rc<ActionView>]) -> Self {
        let mut readers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (number, action) in actions.iter().enumerate() {
            for input in action.record.inputs.values().flatten().flat_map(BTreeMap::keys) {
                readers.entry(input.trim_start_matches("lineage:")).or_default().push(number);
            }
        }
        Self { actions, readers }
    }

    fn outputs(&self) -> impl Iterator<Item = &OutputRecord> {
        self.actions.iter().flat_map(|action| action.outputs.values())
    }
}

impl Followers for Loaded<'_> {
    fn readers(&self, path: &str) -> Result<Vec<Rc<ActionView>>, EngineError> {
        // Inputs that are the path or lie in it, then inputs that are a folder around it.
        let inside = self.readers.range(path..).take_while(|(input, _)| input.starts_with(path));
        let inside = inside.filter(|(input, _)| overlaps(input, path)).flat_map(|(_, numbers)| numbers);
        let around = folders(path).filter_map(|folder| self.readers.get(folder)).flatten();
        let numbers: BTreeSet<usize> = inside.chain(around).copied().collect();
        Ok(numbers.into_iter().map(|number| Rc::clone(&self.actions[number])).collect())
    }

    fn made(&self, path: &str) -> Result<Option<(String, Digest)>, EngineError> {
        let made = self.outputs().find(|output| overlaps(&output.path, path));
        Ok(made.map(|output| (output.path.clone(), output.digest)))
    }

    fn writes(&self, path: &str) -> Result<bool, EngineError> {
        Ok(self.outputs().any(|output| output.path == path))
    }
}

/// Returns everything derived from an artifact of a state; `None` if no action read or made it.
///
/// # Errors
/// Records cannot be read.
pub(crate) fn downstream(state: &dyn Followers, target: &str) -> Result<Option<Lineage>, EngineError> {
    let mut found = Collector::default();
    let folder = format!("{target}/");
    let path = if state.writes(&folder)? { folder } else { target.to_owned() };
    let mut placed: BTreeMap<String, usize> = BTreeMap::new();
    let mut pending = VecDeque::from([path.clone()]);
    let mut seen = BTreeSet::from([path.clone()]);
    while let Some(path) = pending.pop_front() {
        for action in state.readers(&path)? {
            let (id, _) = found.action(&action);
            for (input, digest) in action.record.inputs.values().flatten().flatten() {
                if overlaps(input.trim_start_matches("lineage:"), &path) {
                    let (node, _) = found.artifact(input, digest, &action.roots);
                    // Part of a folder, or the folder around a part.
                    if let (true, Some(whole)) = (*input != path, placed.get(&path)) {
                        found.edges.push((*whole, node));
                    }
                    found.edges.push((node, id));
                }
            }
            for output in action.outputs.values() {
                let (made, _) = found.artifact(&output.path, &output.digest, &action.roots);
                placed.insert(output.path.clone(), made);
                found.edges.push((id, made));
                if seen.insert(output.path.clone()) {
                    pending.push_back(output.path.clone());
                }
            }
        }
    }
    if found.nodes.is_empty() {
        let Some((made, digest)) = state.made(&path)? else { return Ok(None) };
        found.artifact(&made, &digest, &BTreeMap::new());
    }
    Ok(Some(found.finish(target)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_ordered_by_their_beginnings_are_in_the_order_of_their_text() {
        let digests = ["artifact:a@1", "artifact:a/b@1", "artifact:a", "artifact:out/long name 1.txt@1"];
        let others = ["artifact:out/long name 1.txt@0", "action:s@1", "action:é@1", "action:", "artifact:a\0"];
        let mut ids: Vec<&str> = digests.into_iter().chain(others).collect();
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        ids.sort_unstable_by(|a, b| beginning(a).cmp(&beginning(b)).then_with(|| a.cmp(b)));
        assert_eq!(ids, sorted);
    }
}
