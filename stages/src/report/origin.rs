//! The lineage document as a reader sees it: a graph of stages, and a table of artifacts with their makers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;
use logweir_engine::draw;
use logweir_engine::lineage::{Lineage, Node, NodeType};
use serde::Serialize;

/// Where the numbers come from.
pub(super) struct Origin {
    lineage: Lineage,
}

/// A row of the table of artifacts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Artifact {
    pub path: String,
    pub digest: String,
    /// The stage that made it; empty for a source.
    pub stage: String,
    pub key: String,
}

/// A stage with its parameters.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Action {
    pub stage: String,
    pub kind: String,
    pub key: String,
    pub params: String,
}

impl Origin {
    /// Reads a lineage document.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("cannot open {}", path.display()))?;
        let lineage =
            serde_json::from_slice(&text).with_context(|| format!("{} is no lineage document", path.display()))?;
        Ok(Self { lineage })
    }

    /// The action that made each artifact, by node id.
    fn makers(&self) -> BTreeMap<&str, &Node> {
        let actions: BTreeMap<&str, &Node> =
            self.lineage.nodes.iter().filter(|n| n.kind == NodeType::Action).map(|n| (n.id.as_str(), n)).collect();
        self.lineage.edges.iter().filter_map(|(from, to)| Some((to.as_str(), *actions.get(from.as_str())?))).collect()
    }

    /// All artifacts, sources first.
    pub(super) fn artifacts(&self) -> Vec<Artifact> {
        let makers = self.makers();
        let row = |node: &Node| {
            let maker = makers.get(node.id.as_str());
            Artifact {
                path: node.path.clone().unwrap_or_default(),
                digest: node.digest.map(|d| d.to_string()).unwrap_or_default(),
                stage: maker.and_then(|m| m.stage.clone()).unwrap_or_default(),
                key: maker.and_then(|m| m.key).map(|k| k.to_string()).unwrap_or_default(),
            }
        };
        self.lineage.nodes.iter().filter(|n| n.kind == NodeType::Artifact).map(row).collect()
    }

    /// All actions, sources first.
    pub(super) fn actions(&self) -> Vec<Action> {
        let row = |node: &Node| Action {
            stage: node.stage.clone().unwrap_or_default(),
            kind: node.action.clone().unwrap_or_default(),
            key: node.key.map(|k| k.to_string()).unwrap_or_default(),
            params: node
                .params
                .as_ref()
                .map(|p| serde_json::to_string_pretty(p).unwrap_or_default())
                .unwrap_or_default(),
        };
        self.lineage.nodes.iter().filter(|n| n.kind == NodeType::Action).map(row).collect()
    }

    /// The artifact the document is about.
    pub(super) fn target(&self) -> Option<Artifact> {
        self.artifacts().into_iter().rev().find(|a| a.path == self.lineage.target.split('#').next().unwrap_or_default())
    }

    /// Draws stages and sources; artifacts between stages are left to the table.
    pub(super) fn svg(&self) -> String {
        let makers = self.makers();
        let mut picture = draw::Picture::default();
        let mut add = |id: &str, label: String, class: &str| {
            picture.nodes.push(draw::Node { id: id.to_owned(), label, class: class.to_owned() });
        };
        for node in &self.lineage.nodes {
            match node.kind {
                NodeType::Action => {
                    let stage = node.stage.clone().unwrap_or_default();
                    let kind = node.action.clone().filter(|kind| *kind != stage && !kind.contains(' '));
                    add(&node.id, kind.map_or(stage.clone(), |kind| format!("{stage}\n{kind}")), "stage");
                }
                NodeType::Artifact if !makers.contains_key(node.id.as_str()) => {
                    add(&node.id, node.path.clone().unwrap_or_default(), "source");
                }
                NodeType::Artifact if node.path.as_deref() == self.lineage.target.split('#').next() => {
                    add(&node.id, node.path.clone().unwrap_or_default(), "artifact");
                }
                NodeType::Artifact => {}
            }
        }
        let drawn: BTreeSet<&str> = picture.nodes.iter().map(|n| n.id.as_str()).collect();
        let mut edges = Vec::new();
        for (from, to) in &self.lineage.edges {
            // An artifact that is not drawn stands for the stage that made it.
            let from =
                if drawn.contains(from.as_str()) { from } else { makers.get(from.as_str()).map_or(from, |m| &m.id) };
            if drawn.contains(from.as_str()) && drawn.contains(to.as_str()) {
                edges.push(draw::Edge { from: from.clone(), to: to.clone(), order_only: false });
            }
        }
        picture.edges = edges;
        picture.svg()
    }
}
