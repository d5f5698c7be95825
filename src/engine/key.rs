//! The action key: one canonical record of everything that decides an action's output bytes.
//!
//! The same record is hashed into the key, compared leaf by leaf to give reasons, and stored for lineage, so what is
//! hashed and what is explained cannot drift apart.
//!
//! | in the record | not in the record |
//! |---|---|
//! | kind, code digest and version; or the command template with input and output slots symbolic | thread budget, host, platform |
//! | all parameters after defaults | the stage's name: equal work shares one result |
//! | each input slot: logical path → content digest; an absent optional slot is a leaf | file times, absolute paths, scratch paths |
//! | values of declared variables, outputs of declared tools, an effect's target | values of secrets |
//! | output slot names; for shell stages also the declared paths | output paths of built-in kinds |
//!
//! File times are left out because they say when, not what: a checkout or a touch would rerun everything. Absolute
//! paths are left out so that a moved project keeps its results.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;
use crate::event::{Reason, ReasonKind};
use crate::history::Leaf;

/// Raised when the shape of the record changes; a leaf of every key.
pub const SCHEMA: u32 = 1;

const CONTEXT: &str = "logweir action-key v1";

/// Logical paths and content digests of an input slot; `None` for an absent optional slot.
pub type SlotRecord = Option<BTreeMap<String, Digest>>;

/// Everything an action's output bytes depend on. Fields are in alphabetical order, maps are sorted and parameters are
/// canonical, so that plain serialization is the canonical encoding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// Digest of a built-in kind's code and libraries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Digest>,
    /// Command template of a shell stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// What an effect acts on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
    /// Declared variables; null when unset.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Option<String>>,
    /// Input slots.
    #[serde(default)]
    pub inputs: BTreeMap<String, SlotRecord>,
    /// Name of a built-in kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Output slots; with the declared path for shell stages.
    #[serde(default)]
    pub outputs: BTreeMap<String, Option<String>>,
    /// Parameters, keys sorted at every depth.
    #[serde(default)]
    pub params: Value,
    /// [`SCHEMA`] at the time.
    pub schema: u32,
    /// Declared tools and what they print.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tools: BTreeMap<String, String>,
    /// Version of a built-in kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
}

impl KeyRecord {
    /// Returns the key.
    pub fn key(&self) -> Digest {
        let text = serde_json::to_string(self).expect("a record has string keys and finite numbers only");
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(text.as_bytes());
        Digest::from(*hasher.finalize().as_bytes())
    }

    /// Returns what people call the action: the kind, or the command template.
    pub fn action(&self) -> Option<String> {
        self.kind.clone().or_else(|| self.command.clone())
    }

    /// Returns every leaf, sorted by kind and subject.
    pub fn leaves(&self) -> Vec<Leaf> {
        let mut leaves: Vec<Leaf> =
            self.leaf_map().into_iter().map(|((kind, subject), value)| Leaf { kind, subject, value }).collect();
        leaves.sort_by(|a, b| (a.kind, &a.subject).cmp(&(b.kind, &b.subject)));
        leaves
    }

    fn leaf_map(&self) -> BTreeMap<(ReasonKind, String), Value> {
        let mut leaves = BTreeMap::new();
        if let Some(kind) = &self.kind {
            leaves.insert((ReasonKind::Code, "kind".to_owned()), Value::from(kind.as_str()));
        }
        if let Some(version) = self.version {
            leaves.insert((ReasonKind::Code, "version".to_owned()), Value::from(version));
        }
        if let Some(code) = self.code {
            leaves.insert((ReasonKind::Code, "code".to_owned()), Value::from(code.to_string()));
        }
        leaves.insert((ReasonKind::Code, "record schema".to_owned()), Value::from(self.schema));
        if let Some(command) = &self.command {
            leaves.insert((ReasonKind::Command, "run".to_owned()), Value::from(command.as_str()));
        }
        if let Some(target) = &self.effect {
            leaves.insert((ReasonKind::Effect, "target".to_owned()), Value::from(target.as_str()));
        }
        flatten(&self.params, String::new(), &mut leaves);
        for (slot, files) in &self.inputs {
            match files {
                None => {
                    leaves.insert((ReasonKind::Input, format!("{slot} (absent)")), Value::Bool(true));
                }
                Some(files) => {
                    for (path, digest) in files {
                        leaves.insert((ReasonKind::Input, format!("{slot}: {path}")), Value::from(digest.to_string()));
                    }
                }
            }
        }
        for (name, value) in &self.env {
            leaves.insert((ReasonKind::Env, name.clone()), Value::from(value.clone()));
        }
        for (tool, output) in &self.tools {
            leaves.insert((ReasonKind::Tool, tool.clone()), Value::from(output.as_str()));
        }
        for (slot, path) in &self.outputs {
            let value = path.as_deref().map_or(Value::Bool(true), Value::from);
            leaves.insert((ReasonKind::Output, slot.clone()), value);
        }
        leaves
    }
}

fn flatten(value: &Value, path: String, leaves: &mut BTreeMap<(ReasonKind, String), Value>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (name, item) in map {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(item, path, leaves);
            }
        }
        Value::Null if path.is_empty() => {}
        Value::Object(_) if path.is_empty() => {}
        scalar => {
            leaves.insert((ReasonKind::Param, path), scalar.clone());
        }
    }
}

/// Returns every leaf that differs, sorted by kind and subject; empty for equal records.
pub fn reasons(old: &KeyRecord, new: &KeyRecord) -> Vec<Reason> {
    let (before, mut after) = (old.leaf_map(), new.leaf_map());
    let mut reasons = Vec::new();
    for ((kind, subject), value) in before {
        let now = after.remove(&(kind, subject.clone()));
        if now.as_ref() != Some(&value) {
            reasons.push(Reason { kind, subject, old: value, new: now.unwrap_or(Value::Null) });
        }
    }
    for ((kind, subject), value) in after {
        reasons.push(Reason { kind, subject, old: Value::Null, new: value });
    }
    reasons.sort_by(|a, b| (a.kind, &a.subject).cmp(&(b.kind, &b.subject)));
    reasons
}

/// Returns `value` with object keys sorted at every depth.
pub fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            entries.sort_unstable_by_key(|(name, _)| *name);
            Value::Object(entries.into_iter().map(|(name, item)| (name.clone(), sorted(item))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        scalar => scalar.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::canonical_json;
    use serde_json::json;

    fn record() -> KeyRecord {
        KeyRecord {
            code: None,
            command: Some("cp ${in.a} ${out.b}".to_owned()),
            effect: None,
            env: BTreeMap::from([("FLAG".to_owned(), None)]),
            inputs: BTreeMap::from([
                ("a".to_owned(), Some(BTreeMap::from([("src/a".to_owned(), Digest::of_bytes(b"a"))]))),
                ("maybe".to_owned(), None),
            ]),
            kind: None,
            outputs: BTreeMap::from([("b".to_owned(), Some("out/b".to_owned()))]),
            params: sorted(&json!({"z": 1, "a": {"y": [1, {"q": 1, "b": 2.5}], "x": "é"}})),
            schema: SCHEMA,
            tools: BTreeMap::new(),
            version: None,
        }
    }

    #[test]
    fn plain_serialization_is_the_canonical_encoding() {
        let record = record();
        let value = serde_json::to_value(&record).unwrap();
        assert_eq!(serde_json::to_string(&record).unwrap(), canonical_json(&value));
        assert_eq!(record.key(), Digest::of_json(CONTEXT, &value));
        assert_eq!(serde_json::from_value::<KeyRecord>(value).unwrap(), record);
    }

    #[test]
    fn each_changed_leaf_is_one_reason_with_both_values() {
        let old = record();
        let mut new = old.clone();
        new.params["a"]["x"] = json!("e");
        new.env.insert("FLAG".to_owned(), Some("1".to_owned()));
        new.inputs.insert("maybe".to_owned(), Some(BTreeMap::from([("t.csv".to_owned(), Digest::of_bytes(b"t"))])));
        let found = reasons(&old, &new);
        let short: Vec<(ReasonKind, &str)> = found.iter().map(|r| (r.kind, r.subject.as_str())).collect();
        assert_eq!(
            short,
            [
                (ReasonKind::Param, "a.x"),
                (ReasonKind::Input, "maybe (absent)"),
                (ReasonKind::Input, "maybe: t.csv"),
                (ReasonKind::Env, "FLAG"),
            ]
        );
        assert_eq!((&found[0].old, &found[0].new), (&json!("é"), &json!("e")));
        assert!(reasons(&old, &old).is_empty());
        assert_ne!(old.key(), new.key());
    }
}
