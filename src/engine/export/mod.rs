//! The lineage of a run in standard formats: OpenLineage events, W3C PROV-JSON, a Process Run Crate, and the bundle itself.
//! Every document is a pure function of a [`Bundle`] and of what is known of its tables, so equal runs give equal bytes;
//! each carries the bundle, so that `logweir lineage FILE --bundle DOCUMENT` answers from any of them.

pub mod live;
pub mod openlineage;
pub mod prov;
pub mod rocrate;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value};

use crate::bundle::Bundle;
use crate::digest::Digest;
use crate::fast::FastMap;
use crate::history::OutputRecord;
use crate::manifest::Manifest;
use crate::runlog::ActionEntry;
use crate::store::Store;

/// Who made the documents, as a URI.
pub const PRODUCER: &str = "https://github.com/logweir/logweir";

/// What is known of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableFacts {
    /// Rows.
    pub rows: u64,
    /// Columns in their order.
    pub columns: Vec<ColumnFacts>,
}

/// What is known of a column.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColumnFacts {
    /// Its name.
    pub name: String,
    /// Its type, in the words of the format.
    pub kind: String,
    /// Values that are missing.
    pub nulls: Option<u64>,
    /// Different values.
    pub distinct: Option<u64>,
    /// Least value of a numeric column.
    pub min: Option<f64>,
    /// Greatest value of a numeric column.
    pub max: Option<f64>,
}

/// Knows tables. The engine knows none: it hands over files by their logical path.
pub trait Describe {
    /// Returns what is known of a file, if it is a table.
    fn table(&self, path: &str, file: &Path) -> Option<TableFacts>;

    /// Returns from which columns of which of the action's inputs each column of an output is made, where that is known;
    /// `tables` has what is known of inputs and outputs by path.
    fn columns(
        &self,
        action: &ActionEntry,
        slot: &str,
        tables: &BTreeMap<String, TableFacts>,
    ) -> BTreeMap<String, Vec<(String, String, bool)>>;
}

/// Knows no table.
pub struct NoTables;

impl Describe for NoTables {
    fn table(&self, _path: &str, _file: &Path) -> Option<TableFacts> {
        None
    }

    fn columns(
        &self,
        _action: &ActionEntry,
        _slot: &str,
        _tables: &BTreeMap<String, TableFacts>,
    ) -> BTreeMap<String, Vec<(String, String, bool)>> {
        BTreeMap::new()
    }
}

/// A run to export.
pub struct Export<'a> {
    /// Everything recorded of it.
    pub bundle: &'a Bundle,
    /// The name of the project, the namespace of its jobs and artifacts.
    pub project: &'a str,
    /// What is known of tables, by content.
    pub tables: BTreeMap<Digest, TableFacts>,
    describe: &'a dyn Describe,
    index: Index<'a>,
}

/// What is looked up for every artifact of a bundle.
#[derive(Default)]
struct Index<'a> {
    /// Content that an action made → bytes.
    sizes: FastMap<Digest, u64>,
    /// Directories whose files are known.
    directories: FastMap<Digest, Manifest>,
    /// Output directory, with its slash → every content it was given, numbered in the order of the actions.
    folders: FastMap<&'a str, Vec<(usize, &'a OutputRecord)>>,
    /// Path → what its latest action made.
    latest: FastMap<&'a str, &'a OutputRecord>,
}

impl<'a> Index<'a> {
    fn of(bundle: &'a Bundle) -> Self {
        let parsed = |(digest, text): (&Digest, &String)| Some((*digest, Manifest::parse(text)?));
        let directories = bundle.directories.iter().filter_map(parsed).collect();
        let mut index = Self { directories, ..Self::default() };
        for (number, output) in bundle.actions.iter().flat_map(|action| action.outputs.values()).enumerate() {
            index.sizes.entry(output.digest).or_insert(output.size);
            index.latest.insert(&output.path, output);
            if output.is_directory() {
                index.folders.entry(&output.path).or_default().push((number, output));
            }
        }
        index
    }

    /// Returns the output directories that hold this content at this path, in the order of the actions.
    fn around(&self, path: &str, digest: &Digest) -> Vec<&'a OutputRecord> {
        let mut found = Vec::new();
        for (at, _) in path.trim_end_matches('/').match_indices('/') {
            let (folder, inside) = path.split_at(at + 1);
            let holds = |output: &OutputRecord| {
                let files = self.directories.get(&output.digest);
                files.and_then(|files| files.files.get(inside)).is_some_and(|fact| fact.digest == *digest)
            };
            found.extend(self.folders.get(folder).into_iter().flatten().filter(|(_, output)| holds(output)));
        }
        found.sort_by_key(|(number, _)| *number);
        found.into_iter().map(|(_, output)| output).collect()
    }

    /// Returns the size of an artifact that some action made or that is a known directory.
    fn size_of(&self, path: &str, digest: &Digest) -> Option<u64> {
        let read = || path.ends_with('/').then(|| self.directories.get(digest).map(Manifest::size)).flatten();
        self.sizes.get(digest).copied().or_else(read)
    }
}

impl<'a> Export<'a> {
    /// Looks at every table of a bundle whose content the store still has.
    pub fn new(bundle: &'a Bundle, project: &'a str, store: &Store, describe: &'a dyn Describe) -> Self {
        let mut files: BTreeSet<(Digest, String)> = BTreeSet::new();
        for action in &bundle.actions {
            let read = action.record.inputs.values().flatten().flatten().map(|(path, digest)| (*digest, path.clone()));
            let made = action.outputs.values().map(|output| (output.digest, output.path.clone()));
            files.extend(read.chain(made).filter(|(_, path)| !path.ends_with('/')));
        }
        let mut tables = BTreeMap::new();
        for (digest, path) in files {
            if !tables.contains_key(&digest)
                && let Some(facts) = describe.table(&path, &store.path(&digest))
            {
                tables.insert(digest, facts);
            }
        }
        Self::with(bundle, project, tables, describe)
    }

    /// Takes what is known of tables as it is.
    fn with(
        bundle: &'a Bundle,
        project: &'a str,
        tables: BTreeMap<Digest, TableFacts>,
        describe: &'a dyn Describe,
    ) -> Self {
        Self { bundle, project, tables, describe, index: Index::of(bundle) }
    }

    /// Returns from which input columns the columns of an output are made, where that is known.
    fn columns(&self, action: &ActionEntry, slot: &str) -> BTreeMap<String, Vec<(String, String, bool)>> {
        let read = action.record.inputs.values().flatten().flatten().map(|(path, digest)| (path.clone(), *digest));
        let made = action.outputs.values().map(|output| (output.path.clone(), output.digest));
        let known = read.chain(made).filter_map(|(path, digest)| Some((path, self.tables.get(&digest)?.clone())));
        self.describe.columns(action, slot, &known.collect())
    }

    /// Returns the bundle as one line of JSON.
    pub fn document(&self) -> String {
        serde_json::to_string(self.bundle).expect("a bundle has string keys and finite numbers only")
    }

    /// Returns when an action ended (RFC 3339, UTC).
    fn ended(action: &ActionEntry) -> String {
        later(&action.started, action.seconds)
    }
}

/// Returns a time some seconds later, in milliseconds; the time itself where it is none.
pub(crate) fn later(start: &str, seconds: f64) -> String {
    let Ok(start) = DateTime::parse_from_rfc3339(start) else { return start.to_owned() };
    let later = start.with_timezone(&Utc) + chrono::TimeDelta::milliseconds((seconds * 1000.0).round() as i64);
    later.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Returns a UUID (version 8: of our own making) that is the same for the same names.
pub(crate) fn uuid(names: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("logweir uuid v1");
    for name in names {
        hasher.update(name.as_bytes());
        hasher.update(&[0]);
    }
    let mut bytes: [u8; 16] = *hasher.finalize().as_bytes().first_chunk().expect("32 bytes have 16");
    bytes[6] = 0x80 | (bytes[6] & 0x0f);
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    let hex = hex::encode(bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Returns parameters as (dotted name, value as text).
pub(crate) fn flat(params: &Value) -> Vec<(String, String)> {
    fn walk(value: &Value, at: String, all: &mut Vec<(String, String)>) {
        let join = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
        match value {
            Value::Object(map) if !map.is_empty() => map.iter().for_each(|(name, item)| walk(item, join(name), all)),
            Value::Object(_) | Value::Null if at.is_empty() => {}
            Value::String(text) => all.push((at, text.clone())),
            other => all.push((at, other.to_string())),
        }
    }
    let mut all = Vec::new();
    walk(params, String::new(), &mut all);
    all
}

/// Returns a path with everything but letters, digits and `-._/` escaped as in a URI.
pub(crate) fn escaped(path: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._/".contains(byte);
    path.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Makes a JSON object.
pub(crate) fn object<const N: usize>(members: [(&str, Value); N]) -> Map<String, Value> {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Finds the bundle that a document of this program carries.
pub(crate) fn embedded(text: &str) -> Option<Bundle> {
    openlineage::embedded(text).or_else(|| prov::embedded(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_one_and_depends_on_where_names_end() {
        let id = uuid(&["run", "stage"]);
        assert_eq!(id.len(), 36);
        assert_eq!((&id[14..15], &id[8..9]), ("8", "-"));
        assert!("89ab".contains(&id[19..20]));
        assert_eq!(id, uuid(&["run", "stage"]));
        assert_ne!(id, uuid(&["runs", "tage"]));
    }

    #[test]
    fn an_end_is_a_beginning_and_some_seconds() {
        assert_eq!(later("2026-01-02T03:04:59.500Z", 1.25), "2026-01-02T03:05:00.750Z");
        assert_eq!(later("no time", 1.0), "no time");
    }

    #[test]
    fn parameters_are_flat_and_paths_escaped() {
        let params = serde_json::json!({"a": {"b": 1, "c": ["x"]}, "d": "text", "e": {}});
        let names: Vec<(String, String)> = flat(&params);
        let names: Vec<(&str, &str)> = names.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(names, [("a.b", "1"), ("a.c", "[\"x\"]"), ("d", "text"), ("e", "{}")]);
        assert_eq!(escaped("raw:a b/ü.log"), "raw%3Aa%20b/%C3%BC.log");
    }
}
