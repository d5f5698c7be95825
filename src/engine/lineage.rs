//! Questions over records: everything that produced an artifact, everything derived from one. Pure.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;

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
}
