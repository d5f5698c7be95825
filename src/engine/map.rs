//! The items of a mapped stage: each is a stage of its own, made when the files of the mapped slot are known, so that
//! keys, quoting, retries, reasons, lineage and the lock work as for any stage. The mapped stage itself *collects* them:
//! its output is the directory with exactly what its items made. It is no action: it is decided, recorded and locked,
//! but neither counted nor planned, unless its directory holds something no item makes.
//!
//! Pure: files are listed by `survey`.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::error::EngineError;
use crate::key::{KeyRecord, SCHEMA};
use crate::shell::quoted;
use crate::spec::{Action, Input, InputRef, MapSpec, Output, ProjectPath, Spec, StageSpec, fill, item_command};
use crate::stage::Arity;
use crate::survey::{Gathered, declared};
use crate::wiring::Link;

/// The kind that records of collectors name.
pub const COLLECTOR: &str = "map";

/// A file of the mapped slot, or a piece of one.
#[derive(Clone, Debug)]
pub struct ItemFile {
    /// The file.
    pub path: ProjectPath,
    /// Its path relative to what the slot names.
    pub relative: String,
    /// How it is met.
    pub link: Link,
    /// Which part of it, if files are cut.
    pub piece: Option<Piece>,
}

/// Part of a file: whole lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The first byte.
    pub start: u64,
    /// The byte after the last.
    pub end: u64,
    /// Content.
    pub digest: Digest,
}

/// One item: a stage made at run time.
pub struct Item {
    /// The mapped stage, and all that waits for the item.
    pub parent: [usize; 1],
    /// The stage as it is decided and run.
    pub spec: StageSpec,
    /// Its file.
    pub file: ItemFile,
}

/// All items of a mapped stage.
pub struct Expansion {
    /// In the order of their paths.
    pub items: Vec<Item>,
    /// Inputs that all items have in common: everything but the mapped slot.
    pub shared: Gathered,
    /// Folders, patterns and absent files that were looked for to find the items.
    pub listed: crate::snapshot::Rests,
    /// Full name → number of the item.
    pub names: BTreeMap<String, usize>,
    /// Output path (directories without slash) → number of the item that makes it.
    pub makers: BTreeMap<String, usize>,
}

/// The items of every mapped stage of a pipeline, once they are known. Lives longer than the survey that fills it.
pub struct Expansions(BTreeMap<usize, OnceCell<Expansion>>);

impl Expansions {
    /// Makes room for the mapped stages of a pipeline.
    pub fn of(spec: &Spec) -> Self {
        let mapped = spec.stages.iter().enumerate().filter(|(_, stage)| is_collector(stage));
        Self(mapped.map(|(index, _)| (index, OnceCell::new())).collect())
    }

    /// Returns the mapped stages, ascending.
    pub fn stages(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.keys().copied()
    }

    /// Returns the items of a mapped stage, if they are known.
    pub fn get(&self, stage: usize) -> Option<&Expansion> {
        self.0.get(&stage)?.get()
    }

    /// Keeps the items of a mapped stage.
    pub fn keep(&self, stage: usize, expansion: Expansion) -> &Expansion {
        self.0[&stage].get_or_init(|| expansion)
    }
}

/// Returns whether a stage is mapped. A frozen one is left as it is: its outputs are locked whole.
pub fn is_collector(stage: &StageSpec) -> bool {
    stage.map.is_some() && !stage.policy.frozen
}

/// Returns the name of an item.
pub fn item_name(stage: &str, label: &str) -> String {
    format!("{stage}[{label}]")
}

/// Returns which item of a mapped stage a full name speaks of.
pub fn label_in<'n>(stage: &str, name: &'n str) -> Option<&'n str> {
    name.strip_prefix(stage)?.strip_prefix('[')?.strip_suffix(']')
}

/// Returns the folder that paths of items are relative to: the longest one that all references of the slot lie in. It
/// depends on what is written alone, so that an item keeps its name whatever files come and go.
pub fn base(refs: &[InputRef]) -> Option<ProjectPath> {
    let folder = |reference: &InputRef| -> ProjectPath {
        match reference {
            InputRef::Directory(path) => path.clone(),
            InputRef::File(path) | InputRef::Lineage(path) | InputRef::Glob(path) => {
                let literal = match reference {
                    InputRef::Glob(_) => crate::wiring::literal_prefix(&path.path),
                    _ => &path.path,
                };
                let end = literal.rfind('/').unwrap_or(0);
                ProjectPath { root: path.root.clone(), path: literal[..end].to_owned() }
            }
        }
    };
    let mut folders = refs.iter().map(folder);
    let mut common = folders.next()?;
    for other in folders {
        if other.root != common.root {
            return None;
        }
        let parts = common.path.split('/').zip(other.path.split('/')).take_while(|(a, b)| a == b);
        common.path = parts.map(|(part, _)| part).collect::<Vec<_>>().join("/");
    }
    Some(common)
}

/// Returns a path relative to the base of a slot.
pub fn relative(path: &ProjectPath, base: Option<&ProjectPath>) -> String {
    let inside = base.filter(|base| base.root == path.root && !base.path.is_empty());
    let inside = inside.and_then(|base| path.path.strip_prefix(&base.path)?.strip_prefix('/'));
    inside.unwrap_or(&path.path).to_owned()
}

impl ItemFile {
    /// Returns what the item is called in the name of its action.
    pub fn label(&self) -> String {
        match &self.piece {
            Some(piece) => format!("{}:{}-{}", self.relative, piece.start, piece.end),
            None => self.relative.clone(),
        }
    }

    /// Returns the path that names of outputs are made of: a piece has its first byte before the extension, so that
    /// pieces sort in order and an appended file gives the pieces it had their old names.
    fn item(&self) -> String {
        let Some(piece) = &self.piece else { return self.relative.clone() };
        let stem = crate::spec::stem(&self.relative);
        format!("{stem}.{:012}{}", piece.start, &self.relative[stem.len()..])
    }

    /// Returns the path that enters the key.
    pub fn logical(&self) -> String {
        match &self.piece {
            Some(piece) => format!("{}:{}-{}", self.path, piece.start, piece.end),
            None => self.path.to_string(),
        }
    }
}

/// Returns the file that a logical path is a piece of.
pub fn whole_of(logical: &str) -> Option<&str> {
    let (file, range) = logical.rsplit_once(':')?;
    let (start, end) = range.split_once('-')?;
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (number(start) && number(end)).then_some(file)
}

/// The items of a mapped stage, and where they are found.
pub struct Made {
    /// See [`Expansion`].
    pub items: Vec<Item>,
    /// See [`Expansion`].
    pub names: BTreeMap<String, usize>,
    /// See [`Expansion`].
    pub makers: BTreeMap<String, usize>,
}

/// Makes the items of a mapped stage.
///
/// # Errors
/// Two items would write one path, or one inside the other's.
pub fn expand(index: usize, stage: &StageSpec, map: &MapSpec, files: Vec<ItemFile>) -> Result<Made, EngineError> {
    let command = match &stage.action {
        Action::Shell { command } => Some(item_command(command, map)),
        Action::Builtin { .. } => None,
    };
    let mut items: Vec<Item> = Vec::with_capacity(files.len());
    let mut makers: BTreeMap<String, usize> = BTreeMap::new();
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for file in files {
        let item = item(index, stage, map, command.as_deref(), file);
        let number = items.len();
        let clash = |other: usize, what: &str| EngineError::ItemClash {
            stage: stage.name.clone(),
            items: [items[other].file.path.to_string(), item.file.path.to_string()],
            what: what.to_owned(),
        };
        if let Some(other) = names.insert(item.spec.name.clone(), number) {
            return Err(clash(other, &format!("are both `{}`", item.spec.name)));
        }
        for output in item.spec.outputs.values() {
            if let Some(other) = makers.insert(output.path.path.clone(), number).filter(|other| *other != number) {
                return Err(clash(other, &format!("both write `{}`", declared(&output.path, output.directory))));
            }
        }
        items.push(item);
    }
    for (path, number) in &makers {
        let outer = path.match_indices('/').find_map(|(at, _)| makers.get(&path[..at]));
        if let Some(outer) = outer {
            return Err(EngineError::ItemClash {
                stage: stage.name.clone(),
                items: [items[*outer].file.path.to_string(), items[*number].file.path.to_string()],
                what: format!("write `{path}` and a file that would be a folder around it"),
            });
        }
    }
    Ok(Made { items, names, makers })
}

fn item(index: usize, stage: &StageSpec, map: &MapSpec, command: Option<&str>, file: ItemFile) -> Item {
    let item = file.item();
    let inputs = stage.inputs.iter().map(|(slot, input)| {
        let input = if *slot == map.slot {
            Input { refs: vec![InputRef::File(file.path.clone())], optional: false, arity: Arity::File }
        } else {
            input.clone()
        };
        (slot.clone(), input)
    });
    let outputs = stage.outputs.iter().map(|(slot, output)| {
        let name = fill(&map.names[slot], &item, str::to_owned);
        let path = format!("{}/{}", output.path.path, name.trim_end_matches('/'));
        (slot.clone(), Output { path: ProjectPath { root: None, path }, directory: name.ends_with('/') })
    });
    let outputs: indexmap::IndexMap<String, Output> = outputs.collect();
    let action = match (&stage.action, command) {
        (Action::Shell { .. }, Some(command)) => Action::Shell { command: fill(command, &item, quoted) },
        (action, _) => action.clone(),
    };
    let spec = StageSpec {
        name: item_name(&stage.name, &file.label()),
        base: stage.base.clone(),
        about: stage.about.clone(),
        action,
        inputs: inputs.collect(),
        outputs,
        params: stage.params.clone(),
        env: stage.env.clone(),
        secrets: stage.secrets.clone(),
        tools: stage.tools.clone(),
        needs: Vec::new(),
        map: None,
        policy: stage.policy.clone(),
        metrics: stage.metrics.clone(),
    };
    Item { parent: [index], spec, file }
}

/// Returns the record of a collector: by output slot, the digest of everything its items made.
pub fn collected(outputs: &BTreeMap<String, (String, Digest)>) -> KeyRecord {
    let input = |(slot, (folder, digest)): (&String, &(String, Digest))| {
        (slot.clone(), Some(BTreeMap::from([(format!("{folder}/*"), *digest)])))
    };
    KeyRecord {
        code: None,
        command: None,
        effect: None,
        env: BTreeMap::new(),
        inputs: outputs.iter().map(input).collect(),
        kind: Some(COLLECTOR.to_owned()),
        outputs: outputs.iter().map(|(slot, (folder, _))| (slot.clone(), Some(format!("{folder}/")))).collect(),
        params: serde_json::Value::Null,
        schema: SCHEMA,
        tools: BTreeMap::new(),
        version: Some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> ProjectPath {
        let Ok(path) = ProjectPath::try_from(text.to_owned());
        path
    }

    #[test]
    fn items_are_named_by_what_is_written_in_the_slot() {
        let file = |text| InputRef::File(path(text));
        let glob = |text| InputRef::Glob(path(text));
        let shown = |refs: &[InputRef], of: &str| relative(&path(of), base(refs).as_ref());
        assert_eq!(shown(&[InputRef::Directory(path("data/raw"))], "data/raw/s/a.log"), "s/a.log");
        assert_eq!(shown(&[glob("raw:2026/**/a*.log")], "raw:2026/01/a.log"), "01/a.log");
        assert_eq!(shown(&[glob("*.log")], "a.log"), "a.log");
        assert_eq!(shown(&[file("x/a/1"), file("x/b/1")], "x/b/1"), "b/1");
        assert_eq!(shown(&[file("x/ab/1"), file("x/a/1")], "x/a/1"), "a/1");
        assert_eq!(shown(&[file("a/1"), file("raw:b/1")], "raw:b/1"), "b/1");
        assert_eq!(label_in("m", "m[s/a.log]"), Some("s/a.log"));
        assert_eq!(label_in("m[n=1]", "m[n=1][a]"), Some("a"));
        assert_eq!(label_in("m", "mm[a]"), None);
    }

    #[test]
    fn a_piece_is_named_by_its_first_byte_and_knows_its_file() {
        let piece = Some(Piece { start: 70, end: 150, digest: Digest::of_bytes(b"") });
        let link = Link::SourceFile;
        let file = ItemFile { path: path("raw:l/a.log"), relative: "a.log".to_owned(), link, piece };
        assert_eq!((file.label().as_str(), file.item().as_str()), ("a.log:70-150", "a.000000000070.log"));
        assert_eq!(file.logical(), "raw:l/a.log:70-150");
        assert_eq!(whole_of(&file.logical()), Some("raw:l/a.log"));
        assert_eq!((whole_of("raw:l/a.log"), whole_of("x:1-"), whole_of("l/a:b-1")), (None, None, None));
    }
}
