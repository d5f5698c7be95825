//! The lineage document as a reader sees it: a graph of stages, and a table of artifacts with their makers.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use logweir_engine::digest::Digest;
use logweir_engine::draw;
use logweir_engine::lineage::{Lineage, Node, NodeType};
use logweir_engine::stage::InputFile;
use serde::Serialize;

use super::view::Embedded;

/// Writes JSON so that it cannot end the element of a page it lies in; it stays the same JSON.
pub(super) fn harmless(json: &str) -> String {
    json.replace('<', "\\u003c")
}

/// Largest lineage documents that the page carries, bytes together.
const LARGEST: usize = 500_000;

/// Where the numbers come from.
pub(super) struct Origin {
    /// All documents in one graph, about the artifact of the first.
    lineage: Lineage,
    documents: Vec<Embedded>,
    /// How many nodes there are, where they are too many to show.
    too_large: Option<usize>,
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
    /// Reads lineage documents; the picture is of the one about `target`. `None` where there are none.
    ///
    /// # Errors
    /// A file cannot be read, or is no lineage document.
    pub(super) fn read(files: &[InputFile], target: &str) -> anyhow::Result<Option<Self>> {
        let mut documents: Vec<(Lineage, Embedded)> = Vec::new();
        for InputFile { path, .. } in files {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot open {}", path.display()))?;
            let lineage: Lineage =
                serde_json::from_str(&text).with_context(|| format!("{} is no lineage document", path.display()))?;
            let embedded = Embedded {
                target: lineage.target.clone(),
                digest: Digest::of_bytes(text.as_bytes()).to_string(),
                text: harmless(&text),
            };
            documents.push((lineage, embedded));
        }
        documents.sort_by_key(|(lineage, _)| lineage.target != target);
        let size: usize = documents.iter().map(|(_, embedded)| embedded.text.len()).sum();
        let (lineages, mut documents): (Vec<Lineage>, Vec<Embedded>) = documents.into_iter().unzip();
        let mut lineages = lineages.into_iter();
        let Some(mut lineage) = lineages.next() else { return Ok(None) };
        for other in lineages {
            for node in other.nodes {
                if !lineage.nodes.iter().any(|known| known.id == node.id) {
                    lineage.nodes.push(node);
                }
            }
            for edge in other.edges {
                if !lineage.edges.contains(&edge) {
                    lineage.edges.push(edge);
                }
            }
        }
        let mut too_large = None;
        if size > LARGEST {
            too_large = Some(lineage.nodes.len());
            documents.clear();
            (lineage.nodes, lineage.edges) = (Vec::new(), Vec::new());
        }
        Ok(Some(Self { lineage, documents, too_large }))
    }

    /// The documents to put into the page.
    pub(super) fn embedded(&self) -> Vec<Embedded> {
        self.documents.clone()
    }

    /// How many nodes there are, where they are too many to show.
    pub(super) fn too_large(&self) -> Option<usize> {
        self.too_large
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
