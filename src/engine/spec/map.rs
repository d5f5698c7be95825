//! `map:`: one action per file of an input slot. What is checked about it, and the names of what its items write.
//!
//! A stage with `map` stands for its *items*. Each item is a stage of its own, made when the files of the mapped slot are
//! known: that slot holds the one file, each output is one entry of the declared directory. The stage itself only
//! collects them.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::check::{Checker, join_item};
use super::error::Problem;
use super::source::{Part, Sources};
use super::spans::join;
use super::{Action, Input, InputRef, Output, raw};
use crate::stage::{Arity, StageKind};
use crate::suggest::did_you_mean;

/// The reference to an item's relative path.
pub const ITEM: &str = "${item}";
/// The reference to an item's relative path without its last extension.
pub const STEM: &str = "${item.stem}";

/// How a stage is mapped over the files of an input slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapSpec {
    /// The input slot.
    pub slot: String,
    /// Bytes at which files are cut, at line ends; `None` to take them whole.
    pub split: Option<u64>,
    /// By output slot: what an item writes in the directory, with [`ITEM`] and [`STEM`] symbolic; with a slash at the
    /// end where it is a directory.
    pub names: IndexMap<String, String>,
}

/// Returns an item's relative path without its last extension: `a/b.tar` of `a/b.tar.gz`.
pub fn stem(item: &str) -> &str {
    let file = item.rfind('/').map_or(0, |at| at + 1);
    match item[file..].rfind('.') {
        Some(at) if at > 0 => &item[..file + at],
        _ => item,
    }
}

/// Replaces the references to an item in a text.
pub fn fill(text: &str, item: &str, word: impl Fn(&str) -> String) -> String {
    // In one pass: an item's name may itself look like a reference.
    let mut filled = String::with_capacity(text.len() + item.len());
    let mut rest = text;
    while let Some(at) = rest.find("${item") {
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix(ITEM) {
            filled.push_str(&word(item));
            rest = after;
        } else if let Some(after) = rest.strip_prefix(STEM) {
            filled.push_str(&word(stem(item)));
            rest = after;
        } else {
            filled.push_str("${item");
            rest = &rest["${item".len()..];
        }
    }
    filled + rest
}

/// Cuts an output path with references to the item into its directory (with a slash) and the name in it.
pub(super) fn cut(path: &str) -> Option<(&str, &str)> {
    let reference = path.find("${item")?;
    Some(path.split_at(path[..reference].rfind('/').map_or(0, |at| at + 1)))
}

/// A place in a command where an item's output is named: `${out.SLOT}`, and what follows it directly as a path in it.
struct Named<'c> {
    /// Where it begins in the command.
    at: usize,
    /// All of it, as written.
    text: &'c str,
    /// What follows `${out.SLOT}/`.
    name: Option<&'c str>,
}

/// Finds `${out.SLOT}` in a command, each with the path that follows.
fn mentions<'c>(command: &'c str, slot: &str) -> Vec<Named<'c>> {
    let symbol = format!("${{out.{slot}}}");
    command
        .match_indices(&symbol)
        .map(|(at, _)| {
            let after = &command[at + symbol.len()..];
            let Some(path) = after.strip_prefix('/') else {
                return Named { at, text: &command[at..][..symbol.len()], name: None };
            };
            let mut end = 0;
            while let Some(next) = path[end..].chars().next() {
                let reference = [ITEM, STEM].into_iter().find(|reference| path[end..].starts_with(reference));
                match reference {
                    Some(reference) => end += reference.len(),
                    None if next.is_whitespace() || ";|&<>()\"'`\\".contains(next) => break,
                    None => end += next.len_utf8(),
                }
            }
            Named { at, text: &command[at..][..symbol.len() + 1 + end], name: Some(&path[..end]) }
        })
        .collect()
}

/// Returns the command of an item, its outputs symbolic: `${out.SLOT}/NAME` becomes `${out.SLOT}`.
pub fn item_command(command: &str, map: &MapSpec) -> String {
    let mut changes: Vec<(usize, usize, String)> = Vec::new();
    for slot in map.names.keys() {
        for named in mentions(command, slot).into_iter().filter(|named| named.name.is_some()) {
            changes.push((named.at, named.text.len(), format!("${{out.{slot}}}")));
        }
    }
    changes.sort_unstable();
    let mut text = String::with_capacity(command.len());
    let mut done = 0;
    for (at, length, symbol) in changes {
        text.push_str(&command[done..at]);
        text.push_str(&symbol);
        done = at + length;
    }
    text + &command[done..]
}

impl Checker<'_> {
    /// Checks `map`. `written` holds the names given in `out`.
    pub(super) fn map(
        &self,
        raw: &raw::RawStage,
        action: &Action,
        inputs: &IndexMap<String, Input>,
        outputs: &IndexMap<String, Output>,
        written: &IndexMap<String, String>,
        sources: &mut Sources,
    ) -> Option<MapSpec> {
        let (slot, split) = match raw.map.as_ref()? {
            raw::RawMap::Slot(slot) => (slot, None),
            raw::RawMap::Split { slot, split } => (slot, split.map(|split| split.0)),
        };
        let pointer = join(self.pointer, "map");
        let whole = matches!(raw.map, Some(raw::RawMap::Slot(_)));
        let at_slot = if whole { pointer.clone() } else { join(&pointer, "slot") };
        let kind = match action {
            Action::Builtin { kind } => Some(kind),
            Action::Shell { .. } => None,
        };
        let given = raw.inputs.keys().any(|key| key.strip_suffix('?').unwrap_or(key) == slot);
        match inputs.get(slot) {
            Some(input) => self.mapped(slot, input, kind, split.is_some(), &at_slot, sources),
            // A slot that is written but wrong is reported already.
            None if given => {}
            None => {
                let known: Vec<&str> = inputs.keys().map(String::as_str).collect();
                let owner = "this stage".to_owned();
                let problem = Problem::UnknownSlot { side: "input", slot: slot.clone(), owner };
                let help =
                    if known.is_empty() { "it has no input slots".to_owned() } else { did_you_mean(slot, &known) };
                sources.fail(&at_slot, Part::Value, "", problem).help = Some(help);
            }
        }
        if raw.outputs.is_empty() {
            let problem = Problem::BadValue("a stage with `map` needs an output directory".to_owned());
            sources.fail(&pointer, Part::Key, "", problem).help =
                Some("add `out: { SLOT: DIRECTORY/ }`: each item writes one file in it".to_owned());
        }
        let mut names = IndexMap::with_capacity(outputs.len());
        for slot in outputs.keys() {
            let name = match (written.get(slot), kind, action) {
                (Some(name), _, _) => name.clone(),
                (None, Some(kind), _) => {
                    let slot = kind.outputs.iter().find(|known| known.name == slot);
                    match slot.map(|slot| (slot.arity, slot.extension)) {
                        Some((Arity::Directory, _)) => format!("{ITEM}/"),
                        Some((_, Some(extension))) => format!("{ITEM}.{extension}"),
                        _ => ITEM.to_owned(),
                    }
                }
                (None, None, Action::Shell { command }) => self.named(command, slot, sources),
                (None, None, Action::Builtin { .. }) => unreachable!("a built-in stage has a kind"),
            };
            names.insert(slot.clone(), name);
        }
        Some(MapSpec { slot: slot.clone(), split, names })
    }

    /// Checks the slot that is mapped over.
    fn mapped(
        &self,
        slot: &str,
        input: &Input,
        kind: Option<&StageKind>,
        split: bool,
        at: &str,
        sources: &mut Sources,
    ) {
        let known = kind.and_then(|kind| kind.inputs.iter().find(|known| known.name == slot));
        if known.is_some_and(|known| known.arity == Arity::Directory) {
            let problem =
                Problem::BadValue(format!("`map` gives input slot `{slot}` one file, but it takes a directory"));
            sources.fail(at, Part::Value, "", problem).help = Some("map over a slot that takes files".to_owned());
        }
        for (index, reference) in input.refs.iter().enumerate() {
            let list = input.refs.len() > 1;
            let place = join_item(&join(&join(self.pointer, "in"), &self.key_of(slot, sources)), index, list);
            let (problem, help) = match reference {
                InputRef::Lineage(_) => (
                    format!("`map` goes over files, but input slot `{slot}` takes a lineage document"),
                    "read it in a slot of its own".to_owned(),
                ),
                InputRef::Directory(path) if split => (
                    format!("`split` cuts files, but input slot `{slot}` takes a directory"),
                    format!("write `{path}/*` to cut each file in it, or leave `split` out to map over its files"),
                ),
                _ => continue,
            };
            sources.fail(&place, Part::Value, "", Problem::BadValue(problem)).help = Some(help);
        }
    }

    /// Returns the key of an input slot as it is written, with its `?`.
    fn key_of(&self, slot: &str, sources: &Sources) -> String {
        let optional = format!("{slot}?");
        let written = sources.spans().get(&join(&join(self.pointer, "in"), &optional)).is_some();
        if written { optional } else { slot.to_owned() }
    }

    /// Returns the name a command gives an item's output.
    fn named(&self, command: &str, slot: &str, sources: &mut Sources) -> String {
        let pointer = join(self.pointer, "run");
        let mentions = mentions(command, slot);
        let Some(first) = mentions.iter().find(|named| named.name.is_some()) else { return ITEM.to_owned() };
        let name = first.name.unwrap_or_default();
        let mut wrong = |needle: &str, problem: String, help: &str| {
            sources.fail(&pointer, Part::Value, needle, Problem::BadValue(problem)).help = Some(help.to_owned());
        };
        let plain = fill(name, "x", str::to_owned);
        if plain.contains('$') || plain.split('/').any(|part| matches!(part, "" | "." | "..")) {
            let problem = format!("`{}` does not name the file that an item writes", first.text);
            wrong(first.text, problem, "the name is made of plain characters, `${item}` and `${item.stem}`");
        } else if !name.contains("${item") {
            let problem = format!("`{}` is the same file for every item", first.text);
            wrong(first.text, problem, "put `${item}` or `${item.stem}` into the name");
        } else if let Some(other) = mentions.iter().find(|named| named.name != first.name) {
            let problem = format!(
                "an item writes one file in `${{out.{slot}}}`, but here are `{}` and `{}`",
                first.text, other.text
            );
            wrong(other.text, problem, "give each file an output slot of its own");
        }
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stem_loses_its_last_extension_alone() {
        for (item, expected) in [
            ("a.log", "a"),
            ("s.d/a.tar.gz", "s.d/a.tar"),
            ("s.d/a", "s.d/a"),
            (".hidden", ".hidden"),
            ("d/.h", "d/.h"),
        ] {
            assert_eq!(stem(item), expected);
        }
    }

    #[test]
    fn references_are_filled_once_and_names_follow_the_output() {
        let quoted = |word: &str| format!("<{word}>");
        assert_eq!(fill("x ${item} ${item.stem}.csv ${items}", "a.${item}", quoted), "x <a.${item}> <a>.csv ${items}");
        assert_eq!(cut("data/${item.stem}.csv"), Some(("data/", "${item.stem}.csv")));
        assert_eq!(cut("data/x/a-${item}/b"), Some(("data/x/", "a-${item}/b")));
        assert_eq!(cut("data/x"), None);
        let names = IndexMap::from([("o".to_owned(), String::new()), ("p".to_owned(), String::new())]);
        let map = MapSpec { slot: "in".to_owned(), split: None, names };
        let command = "cut <${in.x} >${out.o}/sub/${item.stem}.csv;tee ${out.p} '${out.o}/sub/${item.stem}.csv'";
        assert_eq!(item_command(command, &map), "cut <${in.x} >${out.o};tee ${out.p} '${out.o}'");
    }
}
