//! Everything that the scores were made from, out of a canonical lineage document.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

/// An artifact.
#[derive(Clone, Debug, Default)]
pub(super) struct ArtifactRow {
    pub path: String,
    pub digest: String,
    /// The stage that made it; empty for a source file.
    pub stage: String,
    pub stage_key: String,
}

/// An action: a stage with its parameters.
#[derive(Clone, Debug, Default)]
pub(super) struct ActionRow {
    pub key: String,
    pub stage: String,
    /// The kind, or the command.
    pub kind: String,
    /// Its parameters as JSON, defaults filled in.
    pub parameters: String,
}

/// A lineage: artifacts by path, actions by key, edges between paths and keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Origins {
    pub artifacts: Vec<ArtifactRow>,
    pub actions: Vec<ActionRow>,
    /// From a path to the key of an action that read it, or from a key to a path that it wrote.
    pub edges: Vec<(String, String)>,
}

/// Reads a lineage document.
///
/// # Errors
/// The file cannot be read or is none.
pub(super) fn read(path: &Path) -> anyhow::Result<Origins> {
    let text = std::fs::read(path).with_context(|| format!("cannot open {}", path.display()))?;
    let document =
        serde_json::from_slice(&text).with_context(|| format!("{} is no lineage document", path.display()))?;
    Ok(of_document(&document))
}

fn of_document(document: &Value) -> Origins {
    let field = |node: &Value, name: &str| node[name].as_str().unwrap_or_default().to_owned();
    let nodes = document["nodes"].as_array().map_or(&[][..], Vec::as_slice);
    let by_id: BTreeMap<&str, &Value> = nodes.iter().filter_map(|node| Some((node["id"].as_str()?, node))).collect();
    let mut maker: BTreeMap<&str, &Value> = BTreeMap::new();
    let mut edges = std::collections::BTreeSet::new();
    let name = |node: &Value| field(node, if node["type"] == "action" { "key" } else { "path" });
    for edge in document["edges"].as_array().map_or(&[][..], Vec::as_slice) {
        let (Some(from), Some(to)) = (edge[0].as_str(), edge[1].as_str()) else { continue };
        if let (Some(source), Some(target)) = (by_id.get(from), by_id.get(to)) {
            edges.insert((name(source), name(target)));
            if source["type"] == "action" {
                maker.insert(to, source);
            }
        }
    }
    let mut artifacts = BTreeMap::new();
    for node in nodes.iter().filter(|node| node["type"] == "artifact") {
        let made_by = node["id"].as_str().and_then(|id| maker.get(id)).copied();
        let of = |name: &str| {
            let own = field(node, name);
            if own.is_empty() { made_by.map_or_else(String::new, |action| field(action, name)) } else { own }
        };
        let (path, digest) = (field(node, "path"), field(node, "digest"));
        artifacts.insert(path.clone(), ArtifactRow { path, digest, stage: of("stage"), stage_key: of("key") });
    }
    let mut actions = BTreeMap::new();
    for node in nodes.iter().filter(|node| node["type"] == "action") {
        let parameters = if node["params"].is_null() { "{}".to_owned() } else { node["params"].to_string() };
        let (key, stage, kind) = (field(node, "key"), field(node, "stage"), field(node, "action"));
        actions.insert(key.clone(), ActionRow { key, stage, kind, parameters });
    }
    Origins {
        artifacts: artifacts.into_values().collect(),
        actions: actions.into_values().collect(),
        edges: edges.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn artifacts_know_their_makers_and_edges_speak_of_paths_and_keys() {
        let document = json!({"nodes": [
            {"id": "a", "type": "artifact", "path": "raw:x.log", "digest": "d0"},
            {"id": "b", "type": "action", "stage": "parse", "key": "k1", "action": "parse", "params": {"n": 1}},
            {"id": "c", "type": "artifact", "path": "data/y", "digest": "d1"}
        ], "edges": [["a", "b"], ["b", "c"]]});
        let origins = of_document(&document);
        assert_eq!(origins.artifacts[0].stage, "parse");
        assert_eq!((origins.artifacts[0].path.as_str(), origins.artifacts[1].stage_key.as_str()), ("data/y", ""));
        assert_eq!((origins.actions[0].kind.as_str(), origins.actions[0].parameters.as_str()), ("parse", r#"{"n":1}"#));
        let edge = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(origins.edges, [edge("k1", "data/y"), edge("raw:x.log", "k1")]);
    }
}
