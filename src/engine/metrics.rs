//! Numbers of artifacts: what `metrics:` declares, read from the store by digest, each content once.
//!
//! A number is named `path#pointer`. JSON: every number by its JSON pointer; of lists those with at most
//! [`LONGEST_LIST`] items are looked into (longer ones are curves, not metrics). CSV: every cell that is a number, as
//! `/ROW/COLUMN`, where a row is called by its first cell if those differ and are no numbers, else by its place from 0.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use crate::digest::Digest;
use crate::error::EngineError;
use crate::history::{OutputRecord, RunInfo};
use crate::records::History;
use crate::runlog::{self, ActionEntry, RunEntry};
use crate::runmap;
use crate::spec::Spec;
use crate::survey::declared;

/// Lists with more items are not looked into.
pub const LONGEST_LIST: usize = 16;

/// Tables with more cells are not read as metrics.
pub const MOST_CELLS: usize = 100_000;

/// Which artifacts hold metrics: the output slots that pipelines name under `metrics:`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    paths: BTreeSet<String>,
    /// Stages of the pipelines: whether they hold metrics.
    stages: BTreeMap<String, bool>,
}

impl Declared {
    /// Adds what a pipeline declares.
    pub fn add(&mut self, spec: &Spec) {
        for stage in &spec.stages {
            *self.stages.entry(stage.name.clone()).or_default() |= !stage.metrics.is_empty();
            for slot in &stage.metrics {
                if let Some(output) = stage.outputs.get(slot) {
                    self.paths.insert(declared(&output.path, output.directory));
                }
            }
        }
    }

    /// Returns whether nothing is declared.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Returns whether an artifact holds metrics: it is declared, or lies in a declared folder.
    fn holds(&self, path: &str) -> bool {
        self.paths.contains(path)
            || path.match_indices('/').any(|(at, _)| at + 1 < path.len() && self.paths.contains(&path[..=at]))
    }

    /// Returns whether a stage may make such an artifact; of one that no pipeline has it is not known.
    fn may_make(&self, stage: &str) -> bool {
        let names = std::iter::once(stage).chain(stage.match_indices('[').map(|(at, _)| &stage[..at]));
        names.filter_map(|name| self.stages.get(name)).copied().reduce(|a, b| a || b).unwrap_or(true)
    }
}

/// The numbers of one artifact, or why there are none.
pub type Numbers = Rc<Result<Vec<(String, Number)>, String>>;

/// Reads numbers, each content once.
pub struct Values<'h> {
    history: &'h History,
    read: BTreeMap<(bool, Digest), Numbers>,
}

fn is_table(path: &str) -> bool {
    path.ends_with(".csv")
}

impl<'h> Values<'h> {
    /// Begins with nothing read.
    pub fn new(history: &'h History) -> Self {
        Self { history, read: BTreeMap::new() }
    }

    /// Returns the files with metrics of an output: itself, or the JSON and CSV files in a directory.
    pub fn files_of(&self, output: &OutputRecord, declared: &Declared) -> Vec<(String, Digest)> {
        if !declared.holds(&output.path) {
            return Vec::new();
        }
        if !output.is_directory() {
            return vec![(output.path.clone(), output.digest)];
        }
        let Ok(manifest) = self.history.store.manifest(&output.digest) else { return Vec::new() };
        let files = manifest.files.into_iter().filter(|(name, _)| is_table(name) || name.ends_with(".json"));
        files.map(|(name, fact)| (format!("{}{name}", output.path), fact.digest)).collect()
    }

    /// Returns the numbers of an artifact.
    pub fn numbers(&mut self, path: &str, digest: &Digest) -> Numbers {
        let table = is_table(path);
        let entry = self.read.entry((table, *digest));
        Rc::clone(entry.or_insert_with(|| {
            let bytes = self.history.store.read(digest).map_err(|_| "its content is no longer stored".to_owned());
            Rc::new(bytes.and_then(|bytes| if table { table_numbers(&bytes) } else { json_numbers(&bytes) }))
        }))
    }
}

fn json_numbers(bytes: &[u8]) -> Result<Vec<(String, Number)>, String> {
    let document: Value = serde_json::from_slice(bytes).map_err(|e| format!("it is no JSON document: {e}"))?;
    let mut numbers = Vec::new();
    let mut open = vec![(String::new(), &document)];
    while let Some((pointer, value)) = open.pop() {
        match value {
            Value::Number(number) => numbers.push((pointer, number.clone())),
            Value::Object(map) => {
                open.extend(map.iter().rev().map(|(name, value)| (format!("{pointer}/{}", escaped(name)), value)));
            }
            Value::Array(items) if items.len() <= LONGEST_LIST => {
                open.extend(items.iter().enumerate().rev().map(|(at, value)| (format!("{pointer}/{at}"), value)));
            }
            _ => {}
        }
    }
    Ok(numbers)
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn table_numbers(bytes: &[u8]) -> Result<Vec<(String, Number)>, String> {
    let mut table = csv::ReaderBuilder::new().flexible(true).from_reader(bytes);
    let reason = |e: csv::Error| format!("it is no CSV table: {e}");
    let head = table.headers().map_err(reason)?.clone();
    if head.is_empty() {
        return Err("it has no header line".to_owned());
    }
    let rows: Vec<csv::StringRecord> = table.records().collect::<Result<_, _>>().map_err(reason)?;
    if rows.len().saturating_mul(head.len()) > MOST_CELLS {
        return Err(format!("a table of more than {MOST_CELLS} cells is not read as metrics"));
    }
    let number = |cell: &str| cell.trim().parse::<f64>().ok().and_then(Number::from_f64);
    let names: BTreeSet<&str> = rows.iter().filter_map(|row| row.get(0)).collect();
    let named = names.len() == rows.len() && names.iter().all(|name| !name.is_empty() && number(name).is_none());
    let mut numbers = Vec::new();
    for (place, row) in rows.iter().enumerate() {
        let name = if named { escaped(&row[0]) } else { place.to_string() };
        for (column, cell) in head.iter().zip(row) {
            if let Some(value) = number(cell) {
                numbers.push((format!("/{name}/{}", escaped(column)), value));
            }
        }
    }
    Ok(numbers)
}

/// The numbers a run left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunMetrics {
    /// The run.
    pub run: RunInfo,
    /// Whether it executed and restored nothing.
    pub idle: bool,
    /// Number by `path#pointer`.
    pub values: Rc<BTreeMap<String, Number>>,
    /// Artifacts whose numbers cannot be read, and why.
    pub missing: Rc<BTreeMap<String, String>>,
}

/// Numbers by name, and what could not be read.
type State = (Rc<BTreeMap<String, Number>>, Rc<BTreeMap<String, String>>);

/// Reads the numbers of many runs; runs share what they have in common.
pub struct Series<'h> {
    history: &'h History,
    declared: &'h Declared,
    values: Values<'h>,
    chunks: BTreeMap<Digest, Rc<Vec<u64>>>,
    actions: BTreeMap<u64, Rc<Vec<(String, Digest)>>>,
    states: BTreeMap<Vec<(String, Digest)>, State>,
    maps: BTreeMap<Digest, Vec<(String, Digest)>>,
}

impl<'h> Series<'h> {
    /// Begins with nothing read.
    pub fn new(history: &'h History, declared: &'h Declared) -> Self {
        Self {
            history,
            declared,
            values: Values::new(history),
            chunks: BTreeMap::new(),
            actions: BTreeMap::new(),
            states: BTreeMap::new(),
            maps: BTreeMap::new(),
        }
    }

    /// Returns the numbers a run left.
    ///
    /// # Errors
    /// Records cannot be read.
    pub fn of(&mut self, run: &RunEntry) -> Result<RunMetrics, EngineError> {
        let files = match self.maps.get(&run.map) {
            Some(files) => files.clone(),
            None => {
                let files = self.files(run)?;
                self.maps.insert(run.map, files.clone());
                files
            }
        };
        let (values, missing) = match self.states.get(&files) {
            Some(state) => state.clone(),
            None => {
                let (mut values, mut missing) = (BTreeMap::new(), BTreeMap::new());
                for (path, digest) in &files {
                    match &*self.values.numbers(path, digest) {
                        Ok(numbers) => {
                            let named = numbers.iter().map(|(at, number)| (format!("{path}#{at}"), number.clone()));
                            values.extend(named);
                        }
                        Err(why) => {
                            missing.insert(path.clone(), why.clone());
                        }
                    }
                }
                let state = (Rc::new(values), Rc::new(missing));
                self.states.insert(files, state.clone());
                state
            }
        };
        let idle = run.info.executed == 0 && run.info.restored == 0;
        Ok(RunMetrics { run: run.info.clone(), idle, values, missing })
    }

    /// Returns the artifacts with metrics that a run left.
    fn files(&mut self, run: &RunEntry) -> Result<Vec<(String, Digest)>, EngineError> {
        let mut files = Vec::new();
        for chunk in runmap::objects(&run.map, &self.history.store)?.into_iter().skip(1) {
            let ats = match self.chunks.get(&chunk) {
                Some(ats) => Rc::clone(ats),
                None => {
                    let entries = runmap::chunk(&chunk, &self.history.store)?;
                    let wanted = entries.into_iter().filter(|(stage, _)| self.declared.may_make(stage));
                    let ats = Rc::new(wanted.filter_map(|(_, entry)| entry.at).collect::<Vec<u64>>());
                    self.chunks.insert(chunk, Rc::clone(&ats));
                    ats
                }
            };
            for at in ats.iter() {
                let made = match self.actions.get(at) {
                    Some(made) => Rc::clone(made),
                    None => {
                        let action: ActionEntry = runlog::action_at(&self.history.cache, *at)?;
                        let outputs = action.outputs.values();
                        let made = outputs.flat_map(|output| self.values.files_of(output, self.declared)).collect();
                        let made: Rc<Vec<(String, Digest)>> = Rc::new(made);
                        self.actions.insert(*at, Rc::clone(&made));
                        made
                    }
                };
                files.extend(made.iter().cloned());
            }
        }
        files.sort();
        // A collector and its items hold the same files.
        files.dedup();
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(numbers: Result<Vec<(String, Number)>, String>) -> Vec<String> {
        numbers.unwrap().into_iter().map(|(pointer, number)| format!("{pointer} {number}")).collect()
    }

    #[test]
    fn numbers_of_json_are_named_by_their_pointer_in_the_order_of_the_document() {
        let long: Vec<usize> = (0..=LONGEST_LIST).collect();
        let text = serde_json::json!({"a/b": {"x": 1, "t": "2", "n": null}, "ci": [0.5, 0.75], "curve": long});
        assert_eq!(shown(json_numbers(text.to_string().as_bytes())), ["/a~1b/x 1", "/ci/0 0.5", "/ci/1 0.75"]);
        assert!(json_numbers(b"{").unwrap_err().contains("no JSON"));
    }

    #[test]
    fn numbers_of_tables_are_named_by_row_and_column() {
        let table = "model,ap,note\r\n\"lg,bm\",0.5,x\r\nae,1,\"say \"\"2\"\"\"\r\n";
        assert_eq!(shown(table_numbers(table.as_bytes())), ["/lg,bm/ap 0.5", "/ae/ap 1.0"]);
        assert_eq!(shown(table_numbers(b"n,v\n3,4\n5,\n")), ["/0/n 3.0", "/0/v 4.0", "/1/n 5.0"]);
        assert_eq!(shown(table_numbers(b"n,v\na,4\na,5\n")), ["/0/v 4.0", "/1/v 5.0"], "names that are not unique");
        assert!(table_numbers(b"").is_err());
    }
}
