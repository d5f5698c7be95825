//! `${vars.x}`, `${env.X:-default}`, `${with.x}`, `${matrix.x}`: typed interpolation.
//!
//! A text that is one reference and nothing else takes the type of what it names; a list item that is a reference to a
//! list is spliced in. `$${` stands for `${`. `${in.*}` and `${out.*}` stay as they are in commands.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::error::Problem;
use super::source::{Part, Sources};
use super::spans::join;
use crate::suggest::did_you_mean;

/// What a field wants to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Any value: a lone reference keeps its type, and text from the environment that reads as a number is one.
    Typed,
    /// Text (paths, names).
    Text,
    /// A shell command: text, with lists as words, and `${in.*}` and `${out.*}` left to the executor.
    Command,
}

/// What references can name.
pub(super) struct Scope<'a> {
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    /// Variables, as far as they are known.
    pub(super) vars: &'a Map<String, Value>,
    /// The combination of a matrix stage.
    pub(super) matrix: Option<&'a Map<String, Value>>,
    /// Parameters, once they are known.
    pub(super) with: Option<&'a Value>,
    /// Slots of a command: inputs and outputs.
    pub(super) slots: Option<[Vec<&'a str>; 2]>,
    /// Whether `${item}` and `${item.stem}` are left as they are, for each item of a map.
    pub(super) item: bool,
}

/// A problem with one reference of a text.
type Fault = Box<Trouble>;

struct Trouble {
    problem: Problem,
    help: Option<String>,
    /// The reference as written.
    needle: String,
}

/// Whether anything in a value needs interpolation.
pub(super) fn wanted(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("${"),
        Value::Array(items) => items.iter().any(wanted),
        Value::Object(map) => map.values().any(wanted),
        _ => false,
    }
}

/// Interpolates a value in place; faults go to `sources`. Returns whether all went well.
pub(super) fn expand(value: &mut Value, scope: &Scope<'_>, mode: Mode, pointer: &str, sources: &mut Sources) -> bool {
    let before = sources.count();
    walk(value, scope, mode, pointer, sources);
    sources.count() == before
}

fn walk(value: &mut Value, scope: &Scope<'_>, mode: Mode, pointer: &str, sources: &mut Sources) {
    match value {
        Value::String(text) if text.contains("${") => match expand_text(text, scope, mode) {
            Ok(expanded) => *value = expanded,
            Err(faults) => {
                for fault in faults {
                    let Trouble { problem, help, needle } = *fault;
                    let error = sources.fail(pointer, Part::Value, &needle, problem);
                    error.help = error.help.take().or(help);
                }
            }
        },
        Value::Array(items) if items.iter().any(wanted) => {
            let mut out = Vec::with_capacity(items.len());
            for (index, mut item) in std::mem::take(items).into_iter().enumerate() {
                let reference = item.is_string();
                walk(&mut item, scope, mode, &format!("{pointer}/{index}"), sources);
                match item {
                    Value::Array(spliced) if reference => out.extend(spliced),
                    item => out.push(item),
                }
            }
            *items = out;
        }
        Value::Object(map) => {
            for (key, item) in map.iter_mut().filter(|(_, item)| wanted(item)) {
                walk(item, scope, mode, &join(pointer, key), sources);
            }
        }
        _ => {}
    }
}

enum Piece<'t> {
    Text(String),
    /// The inside of `${...}`.
    Reference(&'t str),
}

/// Cuts a text into plain pieces and references.
fn pieces(text: &str) -> Result<Vec<Piece<'_>>, Fault> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            plain.push_str(&rest[..at]);
            plain.push('{');
            rest = &rest[at + 2..];
            continue;
        }
        plain.push_str(&rest[..at]);
        let inside = &rest[at + 2..];
        let mut depth = 1;
        let close = inside.char_indices().find(|(_, c)| {
            depth += match c {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
            depth == 0
        });
        let Some((close, _)) = close else {
            return Err(Box::new(Trouble {
                problem: Problem::BadInterpolation("`${` without its `}`".to_owned()),
                help: Some("`$${` stands for a plain `${`".to_owned()),
                needle: rest[at..].lines().next().unwrap_or_default().to_owned(),
            }));
        };
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
        }
        pieces.push(Piece::Reference(&inside[..close]));
        rest = &inside[close + 1..];
    }
    plain.push_str(rest);
    if !plain.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Ok(pieces)
}

fn expand_text(text: &str, scope: &Scope<'_>, mode: Mode) -> Result<Value, Vec<Fault>> {
    let pieces = pieces(text).map_err(|fault| vec![fault])?;
    if let [Piece::Reference(inside)] = pieces.as_slice()
        && mode != Mode::Command
    {
        let value = look_up(inside, scope, mode).map_err(|fault| vec![fault])?;
        return Ok(if mode == Mode::Text { textual(value) } else { value });
    }
    let mut out = String::with_capacity(text.len());
    let mut faults = Vec::new();
    for piece in pieces {
        let inside = match piece {
            Piece::Text(text) => {
                out.push_str(&text);
                continue;
            }
            Piece::Reference(inside) => inside,
        };
        // In the middle of a text nothing is typed.
        let mode = if mode == Mode::Command { mode } else { Mode::Text };
        match look_up(inside, scope, mode).map(|value| in_text(&value, mode)) {
            Ok(Some(text)) => out.push_str(&text),
            Ok(None) => faults.push(Box::new(Trouble {
                problem: Problem::BadInterpolation(format!(
                    "`${{{inside}}}` is no plain value, so it cannot be part of a text"
                )),
                help: None,
                needle: format!("${{{inside}}}"),
            })),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(Value::String(out)) } else { Err(faults) }
}

/// Numbers and truth values as text; lists item by item.
fn textual(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(textual).collect()),
        Value::Number(_) | Value::Bool(_) => Value::String(value.to_string()),
        other => other,
    }
}

fn in_text(value: &Value, mode: Mode) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Array(items) if mode == Mode::Command => {
            let words: Option<Vec<String>> =
                items.iter().map(|item| in_text(item, Mode::Text).map(|word| shell_word(&word))).collect();
            words.map(|words| words.join(" "))
        }
        _ => None,
    }
}

fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

const NAMESPACES: [&str; 6] = ["vars", "env", "with", "matrix", "in", "out"];

/// Resolves the inside of one `${...}`.
fn look_up(inside: &str, scope: &Scope<'_>, mode: Mode) -> Result<Value, Fault> {
    let fault = |problem, help: Option<String>| Box::new(Trouble { problem, help, needle: format!("${{{inside}}}") });
    if inside == "item" || inside.starts_with("item.") {
        return item_reference(inside, scope);
    }
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let well_formed = name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    let Some((space, path)) = name.split_once('.').filter(|(_, path)| well_formed && !path.is_empty()) else {
        let problem = Problem::BadInterpolation(format!("`${{{inside}}}` is no reference such as `${{vars.seed}}`"));
        return Err(fault(
            problem,
            Some(format!("for a plain text, or a variable of the shell, write `$${{{inside}}}`")),
        ));
    };
    let found = match space {
        "vars" => dig(scope.vars, path),
        "matrix" => scope.matrix.and_then(|matrix| dig(matrix, path)),
        "with" => match scope.with {
            Some(Value::Object(with)) => dig(with, path),
            _ => None,
        },
        "env" => (scope.env)(path).filter(|text| default.is_none() || !text.is_empty()).map(|text| typed(text, mode)),
        "in" | "out" => return slot_reference(inside, space, path, scope, mode),
        _ => {
            let problem = Problem::UnknownReference { what: "namespace", name: space.to_owned() };
            return Err(fault(problem, Some(did_you_mean(space, &NAMESPACES))));
        }
    };
    if let Some(value) = found {
        return Ok(value);
    }
    if let Some(default) = default {
        return match expand_text(default, scope, Mode::Text) {
            Ok(Value::String(text)) => Ok(typed(text, mode)),
            Ok(value) => Ok(value),
            Err(mut faults) => Err(faults.remove(0)),
        };
    }
    let (what, known): (_, Vec<&str>) = match space {
        "env" => {
            let help = format!("set it, or give a default: `${{env.{path}:-...}}`");
            return Err(fault(Problem::MissingEnv(path.to_owned()), Some(help)));
        }
        "vars" => ("variable", scope.vars.keys().map(String::as_str).collect()),
        "matrix" => ("matrix axis", scope.matrix.into_iter().flat_map(|m| m.keys()).map(String::as_str).collect()),
        _ => (
            "parameter",
            scope.with.and_then(Value::as_object).into_iter().flat_map(|m| m.keys()).map(String::as_str).collect(),
        ),
    };
    let help = match space {
        "matrix" if known.is_empty() => "this stage has no `matrix`".to_owned(),
        _ => did_you_mean(path, &known),
    };
    Err(fault(Problem::UnknownReference { what, name: path.to_owned() }, Some(help)))
}

/// The item of a map is known only when the files of its slot are.
fn item_reference(inside: &str, scope: &Scope<'_>) -> Result<Value, Fault> {
    let fault = |problem, help: &str| {
        Box::new(Trouble { problem, help: Some(help.to_owned()), needle: format!("${{{inside}}}") })
    };
    if !scope.item {
        let what = format!("`${{{inside}}}` has a meaning only in `run` and `out` of a stage with `map`");
        let help = "add `map: SLOT`; for a plain text write `$${item}`";
        return Err(fault(Problem::BadInterpolation(what), help));
    }
    match inside {
        "item" | "item.stem" => Ok(Value::String(format!("${{{inside}}}"))),
        _ => {
            let name = inside["item.".len()..].to_owned();
            let problem = Problem::UnknownReference { what: "part of an item", name };
            Err(fault(problem, "`${item}` is its relative path, `${item.stem}` that without its last extension"))
        }
    }
}

fn slot_reference(inside: &str, side: &str, slot: &str, scope: &Scope<'_>, mode: Mode) -> Result<Value, Fault> {
    let fault = |problem, help: Option<String>| Box::new(Trouble { problem, help, needle: format!("${{{inside}}}") });
    let Some([inputs, outputs]) = scope.slots.as_ref().filter(|_| mode == Mode::Command) else {
        let problem = Problem::BadInterpolation(format!("`${{{inside}}}` is a path that only a command can use"));
        return Err(fault(problem, Some("`${in.*}` and `${out.*}` belong in `run`".to_owned())));
    };
    let known = if side == "in" { inputs } else { outputs };
    if known.contains(&slot) {
        return Ok(Value::String(format!("${{{inside}}}")));
    }
    let side = if side == "in" { "input" } else { "output" };
    let problem = Problem::UnknownSlot { side, slot: slot.to_owned(), owner: "this stage".to_owned() };
    Err(fault(problem, Some(did_you_mean(slot, known))))
}

fn dig(map: &Map<String, Value>, path: &str) -> Option<Value> {
    if let Some(value) = map.get(path) {
        return Some(value.clone());
    }
    let (first, rest) = path.split_once('.')?;
    match map.get(first)? {
        Value::Object(inner) => dig(inner, rest),
        Value::Array(items) => items.get(rest.parse::<usize>().ok()?).cloned(),
        _ => None,
    }
}

/// Text as a number or truth value where nothing is lost by it: `3`, not `007` or `1e3`.
fn typed(text: String, mode: Mode) -> Value {
    if mode != Mode::Typed {
        return Value::String(text);
    }
    match serde_json::from_str::<Value>(&text) {
        Ok(value @ Value::Bool(_)) => value,
        // `007` and `1e3` are numbers too, but other ones than they look.
        Ok(Value::Number(number)) if number.to_string() == text => Value::Number(number),
        _ => Value::String(text),
    }
}

/// Resolves a mapping whose values may refer to each other (`vars`, `with`), in any order.
///
/// `space` is its namespace; other references come from `scope`. A circle is an error.
pub(super) fn expand_mapping(
    map: &Map<String, Value>,
    space: &'static str,
    scope: &Scope<'_>,
    pointer: &str,
    sources: &mut Sources,
) -> Map<String, Value> {
    if !map.values().any(wanted) {
        return map.clone();
    }
    // Entries wait for those they name; each round resolves all that wait for nothing.
    let waits: BTreeMap<&str, Vec<&str>> = map
        .iter()
        .map(|(key, value)| {
            let mut named = Vec::new();
            references(value, space, &mut named);
            named.retain(|name| map.contains_key(*name));
            (key.as_str(), named)
        })
        .collect();
    let mut done: Map<String, Value> = Map::new();
    let mut open: Vec<&str> = map.keys().map(String::as_str).collect();
    while !open.is_empty() {
        let (ready, later): (Vec<&str>, Vec<&str>) =
            open.iter().copied().partition(|key| waits[key].iter().all(|name| done.contains_key(*name)));
        if ready.is_empty() {
            let problem = Problem::BadInterpolation(format!("these refer to each other: {}", later.join(", ")));
            sources.fail(&join(pointer, later[0]), Part::Value, "", problem);
            break;
        }
        for key in ready {
            let mut value = map[key].clone();
            let with = Value::Object(done);
            let scope = Scope {
                env: scope.env,
                vars: if space == "vars" { with.as_object().unwrap_or(scope.vars) } else { scope.vars },
                matrix: scope.matrix,
                with: if space == "with" { Some(&with) } else { scope.with },
                slots: None,
                item: false,
            };
            walk(&mut value, &scope, Mode::Typed, &join(pointer, key), sources);
            done = match with {
                Value::Object(done) => done,
                _ => Map::new(),
            };
            done.insert(key.to_owned(), value);
        }
        open = later;
    }
    // In the order written, not the order resolved.
    map.keys().filter_map(|key| done.shift_remove_entry(key)).collect()
}

/// Collects the first segments of all `${space.NAME...}` in a value.
fn references<'v>(value: &'v Value, space: &str, found: &mut Vec<&'v str>) {
    match value {
        Value::String(text) => {
            for (at, _) in text.match_indices("${") {
                let inside = &text[at + 2..];
                if let Some(path) = inside.strip_prefix(space).and_then(|rest| rest.strip_prefix('.')) {
                    let end =
                        path.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-'))).unwrap_or(path.len());
                    found.push(&path[..end]);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, space, found)),
        Value::Object(map) => map.values().for_each(|item| references(item, space, found)),
        _ => {}
    }
}
