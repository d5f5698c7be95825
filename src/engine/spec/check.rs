//! The stages: matrix, interpolation, kinds, slots, parameters.

use std::path::PathBuf;

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::error::Problem;
use super::interpolate::{self, Mode, Scope};
use super::load::{refuse_passwords, typed};
use super::source::{Part, Sources};
use super::spans::join;
use super::units::OneOrMany;
use super::{Action, Input, InputRef, Output, Policy, StageSpec, links, map, paths, raw, secret};
use crate::stage::{Arity, Registry, Slot, StageKind};
use crate::suggest::did_you_mean;

/// Everything above the stages.
pub(super) struct Head {
    pub(super) name: String,
    pub(super) roots: IndexMap<String, PathBuf>,
    pub(super) pools: IndexMap<String, usize>,
    pub(super) link: super::Link,
    pub(super) sign: Option<String>,
    pub(super) openlineage: Option<super::OpenLineage>,
    pub(super) sandbox: raw::Sandbox,
}

pub(super) const NAME_HELP: &str = "letters, digits, `_` and `-`, beginning with a letter or `_`";

/// Whether a text can name a stage, slot, root or axis.
pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'))
}

/// Checks all stages and returns those that are sound.
pub(super) fn stages(
    stages: &Map<String, Value>,
    head: &Head,
    scope: &Scope<'_>,
    registry: &Registry,
    sources: &mut Sources,
) -> Vec<StageSpec> {
    let mut checked = Vec::with_capacity(stages.len());
    for (base, raw) in stages {
        let pointer = join("/stages", base);
        if !is_name(base) {
            let problem = Problem::BadName { name: base.clone(), what: "a stage" };
            sources.fail(&pointer, Part::Key, "", problem).help = Some(NAME_HELP.to_owned());
        }
        let Value::Object(raw) = raw else {
            let problem = Problem::BadValue(format!("stage `{base}` must be a mapping with `uses` or `run`"));
            sources.fail(&pointer, Part::Key, "", problem);
            continue;
        };
        let checker = Checker { base, pointer: &pointer, head, scope, registry, stages };
        for combination in checker.matrix(raw.get("matrix"), sources) {
            checked.extend(checker.stage(raw, combination.as_ref(), sources));
        }
    }
    links::resolve_needs(&mut checked, sources);
    checked
}

/// What all combinations of one stage share.
pub(super) struct Checker<'a> {
    base: &'a str,
    pub(super) pointer: &'a str,
    head: &'a Head,
    scope: &'a Scope<'a>,
    registry: &'a Registry,
    /// All stages, sound or not.
    stages: &'a Map<String, Value>,
}

impl Checker<'_> {
    /// Returns the combinations of a matrix in order, the last axis fastest; one `None` where there is no matrix.
    fn matrix(&self, matrix: Option<&Value>, sources: &mut Sources) -> Vec<Option<Map<String, Value>>> {
        let Some(matrix) = matrix.filter(|matrix| !matrix.is_null()) else { return vec![None] };
        let pointer = join(self.pointer, "matrix");
        let mut matrix = matrix.clone();
        if interpolate::wanted(&matrix) && !interpolate::expand(&mut matrix, self.scope, Mode::Typed, &pointer, sources)
        {
            return Vec::new();
        }
        let Value::Object(axes) = matrix else {
            let problem = Problem::BadValue("`matrix` must map axes to lists of values".to_owned());
            sources.fail(&pointer, Part::Value, "", problem);
            return Vec::new();
        };
        let mut combinations = vec![Map::new()];
        for (axis, values) in axes {
            let at = join(&pointer, &axis);
            if !is_name(&axis) {
                let problem = Problem::BadName { name: axis.clone(), what: "a matrix axis" };
                sources.fail(&at, Part::Key, "", problem).help = Some(NAME_HELP.to_owned());
            }
            let values = match values {
                Value::Array(values) if !values.is_empty() => values,
                _ => {
                    let problem = Problem::BadValue(format!("axis `{axis}` must be a list of at least one value"));
                    sources.fail(&at, Part::Value, "", problem);
                    return Vec::new();
                }
            };
            for (index, value) in values.iter().enumerate() {
                let text = axis_text(value);
                if values[..index].iter().any(|earlier| axis_text(earlier) == text) {
                    let problem = Problem::BadValue(format!("axis `{axis}` has {text} twice"));
                    sources.fail(&join(&at, &index.to_string()), Part::Value, "", problem);
                    return Vec::new();
                }
            }
            combinations = combinations
                .iter()
                .flat_map(|combination| {
                    values.iter().map(|value| {
                        let mut combination = combination.clone();
                        combination.insert(axis.clone(), value.clone());
                        combination
                    })
                })
                .collect();
        }
        if combinations == [Map::new()] {
            return vec![None];
        }
        combinations.into_iter().map(Some).collect()
    }

    /// Checks one combination; `None` if anything is wrong with it.
    fn stage(
        &self,
        written: &Map<String, Value>,
        combination: Option<&Map<String, Value>>,
        sources: &mut Sources,
    ) -> Option<StageSpec> {
        let before = sources.count();
        let mut value: Map<String, Value> =
            written.iter().filter(|(key, value)| !value.is_null() && *key != "matrix").map(clone_entry).collect();
        let scope = Scope { matrix: combination, slots: None, ..*self.scope };

        let with = value.shift_remove("with").unwrap_or_else(|| Value::Object(Map::new()));
        let Value::Object(with) = with else {
            let problem = Problem::BadValue("`with` must map parameters to values".to_owned());
            sources.fail(&join(self.pointer, "with"), Part::Value, "", problem);
            return None;
        };
        let with_pointer = join(self.pointer, "with");
        let interpolated = with.values().any(interpolate::wanted);
        let with = Value::Object(interpolate::expand_mapping(&with, "with", &scope, &with_pointer, sources));
        if interpolated {
            refuse_passwords(&with, &with_pointer, "a parameter", sources);
        }
        let sound = sources.count() == before;
        let action = self.action(&mut value, sources);
        // Parameters are checked now: paths may speak of them, defaults included.
        let params = match &action {
            Some(Action::Builtin { kind }) if sound => self.parameters(kind, &with, sources).unwrap_or(with),
            _ => with,
        };
        let scope = Scope { with: Some(&params), ..scope };
        self.interpolate(&mut value, &scope, sources);
        // What is in a broken text now would only be complained of a second time.
        if sources.count() > before {
            for side in ["in", "out"] {
                let slots =
                    value.get_mut(side).and_then(Value::as_object_mut).into_iter().flat_map(|map| map.values_mut());
                slots.filter(|slot| interpolate::wanted(slot)).for_each(|slot| *slot = Value::Null);
            }
            value.retain(|key, value| key == "run" || !interpolate::wanted(value));
        }
        let mut value = Value::Object(value);
        let raw: Option<raw::RawStage> = typed(&mut value, self.pointer, &format!("stage `{}`", self.base), sources);
        let raw = raw?;
        let action = match action {
            Some(Action::Shell { .. }) => {
                let command = self.command(raw.run.as_deref().unwrap_or_default(), &raw, &scope, sources);
                Action::Shell { command }
            }
            action => action?,
        };
        let kind = match &action {
            Action::Builtin { kind } => Some(kind),
            Action::Shell { .. } => None,
        };
        let inputs = self.inputs(&raw, kind, sources);
        let (outputs, names) = self.outputs(&raw, kind, sources);
        let map = self.map(&raw, &action, &inputs, &outputs, &names, sources);
        self.metrics(&raw, sources);
        self.needs(&raw, sources);
        self.environment(&raw, sources);
        let policy = self.policy(&raw, sources);
        if sources.count() > before {
            return None;
        }
        let name = match combination {
            Some(axes) => {
                let axes: Vec<String> =
                    axes.iter().map(|(axis, value)| format!("{axis}={}", axis_text(value))).collect();
                format!("{}[{}]", self.base, axes.join(","))
            }
            None => self.base.to_owned(),
        };
        Some(StageSpec {
            name,
            base: self.base.to_owned(),
            about: raw.about,
            action,
            inputs,
            outputs,
            params,
            env: raw.env.items,
            secrets: raw.secrets.items,
            tools: raw.tools.items,
            needs: raw.needs.items,
            map,
            policy,
            metrics: raw.metrics.items,
        })
    }

    /// Returns what the stage does; the command is still as written.
    fn action(&self, value: &mut Map<String, Value>, sources: &mut Sources) -> Option<Action> {
        let stage = || self.base.to_owned();
        match (value.get("uses"), value.get("run")) {
            (Some(_), Some(_)) => {
                let problem = Problem::BadAction { stage: stage(), what: "has both `uses` and `run`" };
                sources.fail(&join(self.pointer, "run"), Part::Key, "", problem);
                value.shift_remove("run");
                None
            }
            (None, None) => {
                let problem = Problem::BadAction { stage: stage(), what: "has neither `uses` nor `run`" };
                sources.fail(self.pointer, Part::Key, "", problem).help =
                    Some("give a built-in kind (`uses: NAME`) or a shell command (`run: \"...\"`)".to_owned());
                None
            }
            (Some(Value::String(name)), None) => {
                // A kind is part of the document's shape, so it is looked up before anything is interpolated.
                let found = self.registry.get(name);
                if found.is_none() {
                    let known: Vec<&str> = self.registry.iter().map(|kind| kind.name).collect();
                    let help = match known.is_empty() {
                        true => "this program has no built-in kinds".to_owned(),
                        false => did_you_mean(name, &known),
                    };
                    let problem = Problem::UnknownKind(name.clone());
                    sources.fail(&join(self.pointer, "uses"), Part::Value, "", problem).help = Some(help);
                }
                found.map(|kind| Action::Builtin { kind: *kind })
            }
            (None, Some(_)) => Some(Action::Shell { command: String::new() }),
            // A wrong type, which the shape reports.
            (Some(_), None) => None,
        }
    }

    fn parameters(&self, kind: &StageKind, with: &Value, sources: &mut Sources) -> Option<Value> {
        match (kind.make)(with) {
            Ok(made) => Some(made.params),
            Err(mut errors) => {
                // A kind may look at values only once it knows all names: without the unknown ones it says more.
                let mut rest = with.clone();
                let unknown = errors.iter().filter(|error| error.message.starts_with("unknown "));
                let removed =
                    unknown.filter(|error| raw::remove(&mut rest, &format!("/{}", error.path.replace('.', "/"))));
                if removed.count() > 0
                    && let Err(more) = (kind.make)(&rest)
                {
                    errors.extend(more.into_iter().filter(|error| !error.message.starts_with("unknown ")));
                }
                for error in errors {
                    // `list[1].beta` and `list.1.beta` are the same place.
                    let path = error.path.replace('[', ".").replace(']', "");
                    let mut pointer = join(self.pointer, "with");
                    for segment in path.split('.').filter(|segment| !segment.is_empty()) {
                        pointer = join(&pointer, segment);
                    }
                    let part = if error.message.starts_with("unknown ") { Part::Key } else { Part::Value };
                    let parameter = if error.path.is_empty() { "with".to_owned() } else { format!("with.{path}") };
                    let message = secret::masked(&error.message);
                    let problem = Problem::BadParameter { parameter, message };
                    let help = error.help.unwrap_or_else(|| {
                        format!("`logweir stages {}` shows every parameter and its default", kind.name)
                    });
                    sources.fail(&pointer, part, "", problem).help = Some(help);
                }
                None
            }
        }
    }

    /// Interpolates everything but the parameters and the command.
    fn interpolate(&self, value: &mut Map<String, Value>, scope: &Scope<'_>, sources: &mut Sources) {
        let mapped = value.contains_key("map");
        for (key, item) in value.iter_mut().filter(|(key, item)| *key != "run" && interpolate::wanted(item)) {
            let text =
                matches!(key.as_str(), "in" | "out" | "env" | "secrets" | "tools" | "needs" | "about" | "metrics");
            let mode = if text { Mode::Text } else { Mode::Typed };
            let scope = Scope { item: mapped && key == "out", slots: None, ..*scope };
            interpolate::expand(item, &scope, mode, &join(self.pointer, key), sources);
        }
    }

    fn command(&self, written: &str, raw: &raw::RawStage, scope: &Scope<'_>, sources: &mut Sources) -> String {
        let pointer = join(self.pointer, "run");
        if written.trim().is_empty() {
            let problem = Problem::BadValue("`run` holds no command".to_owned());
            sources.fail(&pointer, Part::Value, "", problem);
        }
        if !written.contains("${") {
            return written.to_owned();
        }
        let inputs = raw.inputs.keys().map(|name| name.strip_suffix('?').unwrap_or(name)).collect();
        let outputs = raw.outputs.keys().map(String::as_str).collect();
        let scope = Scope { slots: Some([inputs, outputs]), item: raw.map.is_some(), ..*scope };
        let mut value = Value::String(written.to_owned());
        interpolate::expand(&mut value, &scope, Mode::Command, &pointer, sources);
        match value {
            Value::String(command) => command,
            other => other.to_string(),
        }
    }

    fn inputs(&self, raw: &raw::RawStage, kind: Option<&StageKind>, sources: &mut Sources) -> IndexMap<String, Input> {
        let side = join(self.pointer, "in");
        let mut inputs = IndexMap::with_capacity(raw.inputs.len());
        for (key, written) in &raw.inputs {
            let pointer = join(&side, key);
            let (name, optional) = match key.strip_suffix('?') {
                Some(name) => (name, true),
                None => (key.as_str(), false),
            };
            let Some(OneOrMany { items, list }) = written else { continue };
            let Ok(slot) = self.slot(name, "input", kind, kind.map(|kind| kind.inputs), &pointer, sources) else {
                continue;
            };
            if optional && slot.is_some_and(|slot| !slot.optional) {
                let problem = Problem::BadValue(format!("input slot `{name}` cannot be absent"));
                sources.fail(&pointer, Part::Key, "", problem).help = Some(format!("write `{name}` without `?`"));
            }
            if items.is_empty() {
                let problem = Problem::BadValue(format!("input slot `{name}` is an empty list"));
                sources.fail(&pointer, Part::Value, "", problem);
            }
            let mut refs = Vec::with_capacity(items.len());
            for (index, text) in items.iter().enumerate() {
                match paths::input(text, &self.head.roots) {
                    Ok(reference) => refs.push(reference),
                    Err((problem, help)) => {
                        let at = if *list { join(&pointer, &index.to_string()) } else { pointer.clone() };
                        sources.fail(&at, Part::Value, "", problem).help = help;
                    }
                }
            }
            // The slot of a map may name any number of files: each item is given one.
            let mapped = raw.map.as_ref().is_some_and(|map| map.slot() == name);
            let arity = slot.filter(|_| !mapped).map_or(Arity::Files, |slot| slot.arity);
            if let Some((given, takes, help)) = mismatch(arity, &refs, slot.is_some() && !mapped) {
                let problem = Problem::SlotArity { side: "input", slot: name.to_owned(), takes, given };
                sources.fail(&pointer, Part::Value, "", problem).help = help.map(str::to_owned);
            }
            if inputs.insert(name.to_owned(), Input { refs, optional, arity }).is_some() {
                let problem = Problem::DuplicateKey(name.to_owned());
                sources.fail(&pointer, Part::Key, "", problem).help =
                    Some(format!("`{name}` and `{name}?` are one slot"));
            }
        }
        if let Some(kind) = kind {
            // A slot without a value is missing, unless it lost its value to an error that is reported.
            let broken = sources.count() > 0;
            let given = |slot: Option<bool>| slot.is_some_and(|has_value| has_value || broken);
            self.missing(kind, kind.inputs, "input", |name| given(raw.inputs.get(name).map(Option::is_some)), sources);
        }
        inputs
    }

    fn outputs(
        &self,
        raw: &raw::RawStage,
        kind: Option<&StageKind>,
        sources: &mut Sources,
    ) -> (IndexMap<String, Output>, IndexMap<String, String>) {
        let side = join(self.pointer, "out");
        let mut outputs = IndexMap::with_capacity(raw.outputs.len());
        let mut names = IndexMap::new();
        for (name, written) in &raw.outputs {
            let pointer = join(&side, name);
            let Some(text) = written else { continue };
            let Ok(slot) = self.slot(name, "output", kind, kind.map(|kind| kind.outputs), &pointer, sources) else {
                continue;
            };
            let (text, named) = match map::cut(text).filter(|_| raw.map.is_some()) {
                Some((folder, name)) => (folder, Some(name)),
                None => (text.as_str(), None),
            };
            match paths::output(text, &self.head.roots) {
                Ok(output) => {
                    names.extend(named.map(|item| (name.clone(), item.to_owned())));
                    let wrong = match slot.map(|slot| slot.arity).filter(|_| raw.map.is_none()) {
                        None if raw.map.is_some() && !output.directory => Some((
                            "the files of all items",
                            "one file",
                            "write a directory with a trailing slash: each item writes one file in it",
                        )),
                        Some(Arity::File) if output.directory => {
                            Some(("one file", "a directory", "write it without the trailing slash"))
                        }
                        Some(Arity::Directory) if !output.directory => {
                            Some(("a directory", "a file", "write it with a trailing slash"))
                        }
                        _ => None,
                    };
                    if let Some((takes, given, help)) = wrong {
                        let problem = Problem::SlotArity { side: "output", slot: name.clone(), takes, given };
                        sources.fail(&pointer, Part::Value, "", problem).help = Some(help.to_owned());
                    }
                    outputs.insert(name.clone(), output);
                }
                Err((problem, help)) => sources.fail(&pointer, Part::Value, "", problem).help = help,
            }
        }
        if let Some(kind) = kind {
            let broken = sources.count() > 0;
            let given = |slot: Option<bool>| slot.is_some_and(|has_value| has_value || broken);
            self.missing(
                kind,
                kind.outputs,
                "output",
                |name| given(raw.outputs.get(name).map(Option::is_some)),
                sources,
            );
        }
        (outputs, names)
    }

    /// Looks a slot up in its kind; shell stages name their own.
    fn slot<'k>(
        &self,
        name: &str,
        side: &'static str,
        kind: Option<&StageKind>,
        slots: Option<&'k [Slot]>,
        pointer: &str,
        sources: &mut Sources,
    ) -> Result<Option<&'k Slot>, ()> {
        if let (Some(slots), Some(kind)) = (slots, kind) {
            if let Some(slot) = slots.iter().find(|slot| slot.name == name) {
                return Ok(Some(slot));
            }
            let known: Vec<&str> = slots.iter().map(|slot| slot.name).collect();
            let owner = format!("kind `{}`", kind.name);
            let problem = Problem::UnknownSlot { side, slot: name.to_owned(), owner };
            let help = if known.is_empty() { format!("it has no {side} slots") } else { did_you_mean(name, &known) };
            sources.fail(pointer, Part::Key, "", problem).help = Some(help);
            return Err(());
        }
        if !is_name(name) {
            let problem = Problem::BadName { name: name.to_owned(), what: "a slot" };
            sources.fail(pointer, Part::Key, "", problem).help = Some(NAME_HELP.to_owned());
            return Err(());
        }
        Ok(None)
    }

    fn missing(
        &self,
        kind: &StageKind,
        slots: &[Slot],
        side: &'static str,
        given: impl Fn(&str) -> bool,
        sources: &mut Sources,
    ) {
        for slot in slots.iter().filter(|slot| !slot.optional && !given(slot.name)) {
            // A needless `?` is reported where it stands.
            if given(&format!("{}?", slot.name)) {
                continue;
            }
            let problem = Problem::MissingSlot {
                stage: self.base.to_owned(),
                side,
                slot: slot.name.to_owned(),
                kind: kind.name.to_owned(),
            };
            let example = match slot.arity {
                Arity::Directory => "DIRECTORY/",
                _ => "PATH",
            };
            let key = if side == "input" { "in" } else { "out" };
            sources.fail(&join(self.pointer, key), Part::Key, "", problem).help =
                Some(format!("add `{key}: {{ {}: {example} }}` ({})", slot.name, slot.about));
        }
    }

    fn metrics(&self, raw: &raw::RawStage, sources: &mut Sources) {
        for (index, name) in raw.metrics.items.iter().enumerate() {
            if !raw.outputs.contains_key(name) {
                let known: Vec<&str> = raw.outputs.keys().map(String::as_str).collect();
                let owner = "this stage".to_owned();
                let problem = Problem::UnknownSlot { side: "output", slot: name.clone(), owner };
                let at = item(&join(self.pointer, "metrics"), index, &raw.metrics);
                sources.fail(&at, Part::Value, "", problem).help = Some(did_you_mean(name, &known));
            }
        }
    }

    fn needs(&self, raw: &raw::RawStage, sources: &mut Sources) {
        for (index, name) in raw.needs.items.iter().enumerate() {
            let base = name.split('[').next().unwrap_or(name);
            if !self.stages.contains_key(base) {
                let known: Vec<&str> =
                    self.stages.keys().map(String::as_str).filter(|known| *known != self.base).collect();
                let at = item(&join(self.pointer, "needs"), index, &raw.needs);
                sources.fail(&at, Part::Value, "", Problem::UnknownStage(name.clone())).help =
                    Some(did_you_mean(name, &known));
            }
        }
    }

    fn environment(&self, raw: &raw::RawStage, sources: &mut Sources) {
        for (key, list) in [("env", &raw.env), ("secrets", &raw.secrets)] {
            for (index, name) in list.items.iter().enumerate() {
                let at = item(&join(self.pointer, key), index, list);
                let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
                if !first || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                    let shown = match name.split_once('=') {
                        // What follows may be the secret itself.
                        Some((name, _)) => format!("{name}=..."),
                        None => name.clone(),
                    };
                    let problem = Problem::BadName { name: shown, what: "an environment variable" };
                    sources.fail(&at, Part::Value, "", problem).help =
                        Some("give the name alone; its value is taken from the environment".to_owned());
                } else if key == "secrets" && raw.env.items.contains(name) {
                    let problem = Problem::BadValue(format!("`{name}` is in both `env` and `secrets`"));
                    sources.fail(&at, Part::Value, "", problem).help =
                        Some("`env` is part of the key and of the record, `secrets` of neither".to_owned());
                }
            }
        }
    }

    fn policy(&self, raw: &raw::RawStage, sources: &mut Sources) -> Policy {
        if let Some(pool) = raw.pool.as_ref().filter(|pool| !self.head.pools.contains_key(*pool)) {
            let known: Vec<&str> = self.head.pools.keys().map(String::as_str).collect();
            let help = match known.is_empty() {
                true => format!("declare it at the top: `pools: {{ {pool}: 1 }}`"),
                false => did_you_mean(pool, &known),
            };
            let problem = Problem::UnknownPool(pool.clone());
            sources.fail(&join(self.pointer, "pool"), Part::Value, "", problem).help = Some(help);
        }
        Policy {
            threads: raw.threads.map_or(1, |threads| threads.0),
            memory: raw.memory.map(|memory| memory.0),
            pool: raw.pool.clone(),
            retries: raw.retries,
            timeout: raw.timeout.map(|timeout| timeout.0),
            frozen: raw.frozen,
            always: raw.always,
            sandbox: raw.sandbox.unwrap_or(self.head.sandbox),
        }
    }
}

fn clone_entry((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

fn item(pointer: &str, index: usize, list: &OneOrMany) -> String {
    join_item(pointer, index, list.list)
}

/// Returns the pointer of an entry of what may be a list or a single text.
pub(super) fn join_item(pointer: &str, index: usize, list: bool) -> String {
    if list { join(pointer, &index.to_string()) } else { pointer.to_owned() }
}

fn axis_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What a slot was given that it does not take: given, taken, hint.
fn mismatch(
    arity: Arity,
    refs: &[InputRef],
    builtin: bool,
) -> Option<(&'static str, &'static str, Option<&'static str>)> {
    let directory = |reference: &InputRef| matches!(reference, InputRef::Directory(_));
    match arity {
        // A pattern may stand for the one file; that it matches exactly one shows when files are looked at.
        Arity::File if refs.len() > 1 => Some(("a list", "one file", None)),
        Arity::File if refs.iter().any(directory) => {
            Some(("a directory", "one file", Some("write it without the trailing slash")))
        }
        Arity::Directory if refs.len() > 1 => Some(("a list", "one directory", None)),
        Arity::Directory => match refs.first() {
            Some(InputRef::File(_)) => Some(("a file", "one directory", Some("write it with a trailing slash"))),
            Some(InputRef::Glob(_)) => {
                Some(("a pattern", "one directory", Some("name the directory, with a trailing slash")))
            }
            Some(InputRef::Lineage(_)) => Some(("a lineage document", "one directory", None)),
            _ => None,
        },
        Arity::Files if builtin && refs.iter().any(directory) => {
            Some(("a directory", "files", Some("to take the files in it write `directory/*`")))
        }
        _ => None,
    }
}
