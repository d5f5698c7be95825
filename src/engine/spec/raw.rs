//! The shapes of pipeline.yaml as serde and the JSON Schema see them, and YAML text → [`Value`].
//!
//! The only module that knows serde_yaml. A document is first read into a plain [`Value`]; profile, `--set` and `${}`
//! work on that, and only the result is read into the typed shapes here.

use std::cell::Cell;
use std::fmt;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::de::{DeserializeOwned, DeserializeSeed, EnumAccess, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

use super::units::{Memory, OneOrMany, Span, Threads};

/// A declarative pipeline: stages, their input and output artifacts, and their parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "logweir pipeline")]
pub(crate) struct RawSpec {
    /// The version of this format.
    #[schemars(with = "u64", range(min = 1, max = 1))]
    #[expect(dead_code, reason = "checked before the document is typed, so that a newer format is named as such")]
    version: Value,
    /// The pipeline's name.
    pub(crate) name: Option<String>,
    /// Places outside the project that inputs may lie in; the name enters keys, the place does not.
    #[serde(default)]
    pub(crate) roots: IndexMap<String, String>,
    /// Values for `${vars.NAME}`.
    #[serde(default)]
    #[expect(dead_code, reason = "read before the document is typed; here for the schema")]
    vars: IndexMap<String, Value>,
    /// Partial documents that `--profile NAME` merges over this one.
    #[serde(default)]
    #[expect(dead_code, reason = "merged before the document is typed; here for the schema")]
    profiles: IndexMap<String, RawProfile>,
    /// Whether undeclared files can be read by shell stages.
    pub(crate) sandbox: Option<Sandbox>,
    /// Named pools and how many stages each admits at a time.
    #[serde(default)]
    pub(crate) pools: IndexMap<String, Pool>,
    /// How artifacts are kept.
    pub(crate) store: Option<RawStore>,
    /// Where stages run.
    pub(crate) executor: Option<RawExecutor>,
    /// How lineage is signed and exported.
    pub(crate) lineage: Option<RawLineage>,
    /// What is to be done: a name for each stage.
    #[serde(default)]
    #[expect(dead_code, reason = "each stage is typed after interpolation; here for the schema")]
    stages: IndexMap<String, RawStage>,
}

/// What a profile may hold: all of a document but its version and further profiles.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Profile")]
#[expect(dead_code, reason = "profiles are merged as plain values; here for the schema")]
pub(crate) struct RawProfile {
    /// The pipeline's name under this profile.
    name: Option<String>,
    /// Roots to add or replace.
    roots: Option<IndexMap<String, String>>,
    /// Variables to add or replace.
    vars: Option<IndexMap<String, Value>>,
    /// Whether undeclared files can be read by shell stages.
    sandbox: Option<Sandbox>,
    /// Pools to add or replace.
    pools: Option<IndexMap<String, Pool>>,
    /// How artifacts are kept.
    store: Option<RawStore>,
    /// Where stages run.
    executor: Option<RawExecutor>,
    /// How lineage is signed and exported.
    lineage: Option<RawLineage>,
    /// Stages to change or add; `name: null` removes one.
    stages: Option<IndexMap<String, Option<RawStage>>>,
}

/// One stage: `uses` a built-in kind, or `run` a shell command.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Stage")]
pub(crate) struct RawStage {
    /// One line for people.
    #[serde(default)]
    pub(crate) about: String,
    /// A built-in kind.
    #[expect(dead_code, reason = "looked up before the stage is typed; here for the schema")]
    uses: Option<String>,
    /// A shell command (bash -euo pipefail); `${in.SLOT}` and `${out.SLOT}` are quoted paths.
    pub(crate) run: Option<String>,
    /// Input slots: a path, a glob, a directory/ or a list of those. `slot?` may be absent; `root:path` lies in a root.
    #[serde(default, rename = "in")]
    pub(crate) inputs: IndexMap<String, Option<OneOrMany>>,
    /// Output slots: a path or a directory/.
    #[serde(default, rename = "out")]
    pub(crate) outputs: IndexMap<String, Option<String>>,
    /// Parameters; part of the key.
    #[serde(default)]
    #[expect(dead_code, reason = "checked before the stage is typed; here for the schema")]
    #[schemars(with = "Option<Map<String, Value>>")]
    with: Value,
    /// Axes and their values: one action per combination.
    #[serde(default)]
    #[expect(dead_code, reason = "expanded before the stage is typed; here for the schema")]
    matrix: Option<IndexMap<String, Vec<Value>>>,
    /// Environment variables that are passed and keyed.
    #[serde(default)]
    pub(crate) env: OneOrMany,
    /// Environment variables that are passed, but never keyed, logged or recorded.
    #[serde(default)]
    pub(crate) secrets: OneOrMany,
    /// Commands whose output is part of the key.
    #[serde(default)]
    pub(crate) tools: OneOrMany,
    /// Stages that must have finished before: order only.
    #[serde(default)]
    pub(crate) needs: OneOrMany,
    /// Thread tokens it takes (1).
    pub(crate) threads: Option<Threads>,
    /// Memory it reserves.
    pub(crate) memory: Option<Memory>,
    /// A named pool it takes a place of.
    pub(crate) pool: Option<String>,
    /// How often a failed attempt is repeated.
    #[serde(default)]
    pub(crate) retries: u32,
    /// When a shell command is ended.
    pub(crate) timeout: Option<Span>,
    /// Never rerun; outputs must exist and match pipeline.lock.
    #[serde(default)]
    pub(crate) frozen: bool,
    /// Run at every run.
    #[serde(default)]
    pub(crate) always: bool,
    /// One cached action per file of this input slot, named `stage[path]`. Each output slot is a directory in which
    /// every item writes one entry: its path in the slot, or what the command (`${out.SLOT}/NAME`) or `out` names with
    /// `${item}` and `${item.stem}`.
    pub(crate) map: Option<RawMap>,
    /// Output slots whose numbers `metrics`, `diff` and lineage pointers speak of.
    #[serde(default)]
    pub(crate) metrics: OneOrMany,
    /// Whether undeclared files can be read by this stage.
    pub(crate) sandbox: Option<Sandbox>,
}

/// `map: SLOT`, or with a size at which large files are cut: `map: {slot: SLOT, split: 256MiB}`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "must be an input slot, or `{ slot: SLOT, split: 256MiB }` with at least one byte")]
#[schemars(rename = "MapOver")]
pub(crate) enum RawMap {
    /// The input slot.
    Slot(String),
    /// The input slot and the size of a piece.
    Split {
        /// The input slot.
        slot: String,
        /// Bytes of a piece: a file is cut at the first line end after so many. Appending to it reruns its last piece.
        split: Option<Memory>,
    },
}

impl RawMap {
    /// Returns the input slot.
    pub(crate) fn slot(&self) -> &str {
        match self {
            Self::Slot(slot) | Self::Split { slot, .. } => slot,
        }
    }
}

/// What shell stages may touch beyond what they declare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sandbox {
    /// Anything.
    #[default]
    Off,
    /// Anything, with a warning.
    Warn,
    /// Nothing.
    Strict,
}

/// How many stages a pool admits at a time: at least 1.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct Pool(#[schemars(range(min = 1))] pub(crate) std::num::NonZeroUsize);

/// How artifacts are kept.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Store")]
pub(crate) struct RawStore {
    /// How a stored object becomes the file at its path.
    #[serde(default)]
    pub(crate) link: Link,
}

/// How a stored object becomes the file at its path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// Reflink where the file system can, else copy.
    #[default]
    Auto,
    /// Always a full copy.
    Copy,
    /// A hard link: no space, but the file must not be edited in place.
    Hard,
}

/// `executor: local`, or with settings.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Executor")]
pub(crate) enum RawExecutor {
    /// Its name.
    Name(String),
    /// Its name and settings.
    Settings {
        /// Its name.
        name: String,
        /// What else it reads.
        #[serde(flatten)]
        #[expect(dead_code, reason = "belongs to the executor, none of which takes settings yet")]
        settings: Map<String, Value>,
    },
}

impl RawExecutor {
    /// Returns its name.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Name(name) | Self::Settings { name, .. } => name,
        }
    }
}

/// How lineage is signed and exported.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Lineage")]
pub(crate) struct RawLineage {
    /// A file with an ed25519 private key (PKCS#8 PEM) that every run is signed with; `LOGWEIR_SIGNING_KEY` wins.
    pub(crate) sign: Option<String>,
    /// A receiver of OpenLineage events, told of every run while it goes on. It never slows or fails a run.
    pub(crate) openlineage: Option<RawOpenLineage>,
}

/// A receiver of OpenLineage events over HTTP.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "OpenLineage")]
pub(crate) struct RawOpenLineage {
    /// Where events are posted to, e.g. http://127.0.0.1:5000/api/v1/lineage
    pub(crate) url: String,
    /// How long one event may take (5s).
    pub(crate) timeout: Option<Span>,
    /// The environment variable that holds the key sent as `Authorization: Bearer`.
    pub(crate) api_key_env: Option<String>,
}

/// A YAML text that cannot be read.
#[derive(Debug)]
pub(super) struct YamlError {
    /// What is wrong.
    pub(super) message: String,
    /// Line and column, from 1.
    pub(super) place: Option<(usize, usize)>,
}

/// What was read, and whether some mapping had a key twice (the last one is in the value).
#[derive(Debug)]
pub(super) struct Document {
    pub(super) value: Value,
    pub(super) duplicates: bool,
}

/// Reads a YAML text with string keys.
pub(super) fn parse(text: &str) -> Result<Document, YamlError> {
    let duplicates = Cell::new(false);
    let read = Tree { duplicates: &duplicates }.deserialize(serde_yaml::Deserializer::from_str(text));
    match read {
        Ok(value) => Ok(Document { value, duplicates: duplicates.get() }),
        Err(error) => Err(YamlError {
            place: error.location().map(|at| (at.line(), at.column())),
            message: without_positions(&error.to_string()),
        }),
    }
}

/// Drops ` at line 3 column 5`, which the rendered place says better.
fn without_positions(message: &str) -> String {
    let mut out = String::new();
    let mut rest = message;
    while let Some(at) = rest.find(" at line ") {
        out.push_str(&rest[..at]);
        let tail = &rest[at + " at line ".len()..];
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let tail = &tail[digits(tail)..];
        rest = tail.strip_prefix(" column ").map_or(tail, |tail| &tail[digits(tail)..]);
    }
    out + rest
}

#[derive(Clone, Copy)]
struct Tree<'a> {
    duplicates: &'a Cell<bool>,
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plain YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("`.nan` and `.inf` have no meaning here"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        Err(A::Error::custom("tags such as `!name` have no meaning here"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(Key(key)) = access.next_key()? {
            let value = access.next_value_seed(self)?;
            if map.insert(key, value).is_some() {
                self.duplicates.set(true);
            }
        }
        Ok(Value::Object(map))
    }
}

/// A mapping key: numbers and truth values are taken as the text they are written as.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let none = Cell::new(false);
        match (Tree { duplicates: &none }).deserialize(deserializer)? {
            Value::String(key) => Ok(Self(key)),
            Value::Array(_) | Value::Object(_) => Err(D::Error::custom("a key must be a plain text")),
            other => Ok(Self(other.to_string())),
        }
    }
}

/// Something that does not fit its shape.
#[derive(Debug)]
pub(super) struct Misfit {
    /// JSON pointer below the value that was read.
    pub(super) pointer: String,
    /// What is wrong.
    pub(super) message: String,
}

/// Reads a value into a shape, or returns everything that does not fit: after each misfit the offending value is left
/// out and the rest read again.
pub(super) fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Vec<Misfit>> {
    if let Ok(read) = T::deserialize(value) {
        return Ok(read);
    }
    let mut misfits: Vec<Misfit> = Vec::new();
    let mut rest = value.clone();
    // Each round removes a value, so this ends; a document with more misfits than this needs no longer list.
    for _ in 0..100 {
        let Err(error) = serde_path_to_error::deserialize::<_, T>(&rest) else { break };
        let mut pointer = String::new();
        for segment in error.path() {
            match segment {
                serde_path_to_error::Segment::Seq { index } => {
                    pointer = super::spans::join(&pointer, &index.to_string());
                }
                serde_path_to_error::Segment::Map { key } => pointer = super::spans::join(&pointer, key),
                _ => break,
            }
        }
        let message = error.into_inner().to_string();
        let removed = remove(&mut rest, &pointer);
        misfits.push(Misfit { pointer, message });
        if !removed {
            break;
        }
    }
    Err(misfits)
}

/// Takes an entry out of a value; `false` where it is not there.
pub(super) fn remove(value: &mut Value, pointer: &str) -> bool {
    let Some((parent, last)) = pointer.rsplit_once('/') else { return false };
    let last = last.replace("~1", "/").replace("~0", "~");
    match value.pointer_mut(parent) {
        Some(Value::Object(map)) => map.shift_remove(&last).is_some(),
        Some(Value::Array(items)) => match last.parse::<usize>() {
            Ok(index) if index < items.len() => {
                items.remove(index);
                true
            }
            _ => false,
        },
        _ => false,
    }
}

/// Calls `found(pointer, key, place, known keys)` for every key of `value` that `schema` does not know.
pub(super) fn unknown_keys(
    root: &Value,
    schema: &Value,
    value: &Value,
    pointer: &str,
    found: &mut dyn FnMut(&str, &str, &[&str]),
) {
    let target = schema.get("$ref").or_else(|| schema.pointer("/anyOf/0/$ref")).and_then(Value::as_str);
    let schema = target.and_then(|r| root.pointer(r.trim_start_matches('#'))).unwrap_or(schema);
    let Value::Object(map) = value else { return };
    let properties = schema.get("properties").and_then(Value::as_object);
    let further = schema.get("additionalProperties");
    for (key, item) in map {
        let inner = super::spans::join(pointer, key);
        match (properties.and_then(|known| known.get(key)), further) {
            (Some(schema), _) => unknown_keys(root, schema, item, &inner, found),
            (None, Some(Value::Bool(false))) => {
                let known: Vec<&str> = properties.into_iter().flat_map(|p| p.keys()).map(String::as_str).collect();
                found(&inner, key, &known);
            }
            (None, Some(schema @ Value::Object(_))) => unknown_keys(root, schema, item, &inner, found),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scalars_keep_their_types_and_keys_become_text() {
        let read = parse("a: 1\nb: 1.5\nc: yes\nd: ~\ne: [true, 'x']\n7: seven\n").ok().unwrap();
        assert_eq!(read.value, json!({"a": 1, "b": 1.5, "c": "yes", "d": null, "e": [true, "x"], "7": "seven"}));
        assert!(!read.duplicates);
    }

    #[test]
    fn a_repeated_key_is_noticed_at_any_depth() {
        assert!(parse("a: {b: 1, b: 2}\n").ok().unwrap().duplicates);
    }

    #[test]
    fn positions_are_cut_from_messages() {
        assert_eq!(
            without_positions("did not find x at line 3 column 5, while y at line 2"),
            "did not find x, while y"
        );
    }

    #[test]
    fn every_misfit_is_found() {
        let value = json!({"run": 5, "retries": "x", "threads": 0, "frozen": true, "in": {"a": 3}});
        let mut found: Vec<String> = read::<RawStage>(&value).err().unwrap().into_iter().map(|m| m.pointer).collect();
        found.sort();
        assert_eq!(found, ["/in/a", "/retries", "/run", "/threads"]);
    }
}
