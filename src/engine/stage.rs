//! The plug-in layer: what a built-in stage kind is, and what a running stage may see.
//!
//! A kind checks its parameters before anything runs ([`StageKind::make`]) and yields a [`Stage`]. A running stage is
//! handed a [`StageContext`]: declared inputs, scratch output paths, a thread budget and an event sink. It is given no
//! cache path, no final path, no other stage, no clock and no undeclared environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, bail};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;

/// Work that turns declared inputs into declared outputs.
pub trait Stage: Send + Sync {
    /// Does the work: reads the context's inputs, writes every declared output.
    ///
    /// # Errors
    /// Anything that keeps the outputs from being complete; the engine publishes nothing then.
    fn run(&self, cx: &StageContext<'_>) -> anyhow::Result<()>;

    /// Returns the external effect of this stage, if it has one instead of stored outputs.
    fn effect(&self) -> Option<&dyn Effect> {
        None
    }
}

/// An effect outside the project (a database load) whose freshness only the target can tell.
pub trait Effect {
    /// Returns what the effect acts on (scheme, host, port, database, schema), never credentials. It enters the key.
    ///
    /// # Errors
    /// The target is configured wrongly (for instance a password in a parameter).
    fn target(&self, env: &BTreeMap<String, String>) -> anyhow::Result<String>;

    /// Asks the target whether `key` is what it holds now.
    ///
    /// # Errors
    /// The target cannot be reached; the stage is then planned to run with reason `effect`.
    fn is_current(&self, key: &Digest, env: &BTreeMap<String, String>) -> anyhow::Result<bool>;
}

/// How many files a slot takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arity {
    /// Exactly one file.
    File,
    /// Exactly one directory.
    Directory,
    /// One or more files: a path, a glob or a list of them.
    Files,
}

/// A named input or output of a kind.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Slot {
    /// The name used in pipeline.yaml.
    pub name: &'static str,
    /// How many files it takes.
    pub arity: Arity,
    /// Whether a pipeline may leave the slot out.
    pub optional: bool,
    /// What a map adds to the name of each item's output file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extension: Option<&'static str>,
    /// One line for people.
    pub about: &'static str,
}

impl Slot {
    /// A required slot of one file.
    pub const fn file(name: &'static str, about: &'static str) -> Self {
        Self { name, arity: Arity::File, optional: false, extension: None, about }
    }

    /// A required slot of one directory.
    pub const fn directory(name: &'static str, about: &'static str) -> Self {
        Self { name, arity: Arity::Directory, optional: false, extension: None, about }
    }

    /// A required slot of one or more files.
    pub const fn files(name: &'static str, about: &'static str) -> Self {
        Self { name, arity: Arity::Files, optional: false, extension: None, about }
    }

    /// The same slot, which a pipeline may leave out.
    pub const fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    /// The same output slot, whose files end in `.EXTENSION` where a stage is mapped.
    pub const fn extension(self, extension: &'static str) -> Self {
        Self { extension: Some(extension), ..self }
    }
}

/// A wrong parameter: where in `with`, what, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamError {
    /// Dotted path below `with`, for instance `threshold.beta`; empty for `with` itself.
    pub path: String,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What to do, if there is a good guess.
    pub help: Option<String>,
}

impl ParamError {
    /// Makes an error without a hint.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), help: None }
    }

    /// The same error with a hint.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// A checked stage and its parameters with every default filled in (these enter the key).
pub struct Made {
    /// The parameters, all defaults filled in.
    pub params: Value,
    /// The stage, ready to run.
    pub stage: Box<dyn Stage>,
}

/// Makes a stage from the parameters of pipeline.yaml, or returns all that is wrong with them.
pub type Make = fn(&Value) -> Result<Made, Vec<ParamError>>;

/// A built-in kind of stage (`uses: NAME`).
#[derive(Clone, Copy)]
pub struct StageKind {
    /// The name used in pipeline.yaml.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// Raised when output bytes change though code digest and parameters do not say so.
    pub version: u32,
    /// Digest of the modules and locked libraries the kind computes with.
    pub code: [u8; 32],
    /// Input slots.
    pub inputs: &'static [Slot],
    /// Output slots.
    pub outputs: &'static [Slot],
    /// The JSON Schema of the parameters, with docs and defaults.
    pub schema: fn() -> Value,
    /// Checks parameters and makes the stage.
    pub make: Make,
}

/// Parameters of a kind: a plain struct with `#[serde(default, deny_unknown_fields)]` and a doc comment on each field
/// (with its unit), which `logweir stages KIND` and the schema show.
pub trait Params: Serialize + DeserializeOwned + Default + JsonSchema {
    /// Returns everything that is wrong beyond the types.
    fn check(&self) -> Vec<ParamError> {
        Vec::new()
    }
}

/// Returns the JSON Schema of a parameter struct.
pub fn schema_of<P: Params>() -> Value {
    schemars::schema_for!(P).to_value()
}

/// Reads parameters, reports unknown names with a suggestion, wrong types with their path, and failed checks.
///
/// # Errors
/// All that is wrong, at least one entry.
pub fn read_params<P: Params>(value: &Value) -> Result<P, Vec<ParamError>> {
    let value = if value.is_null() { Value::Object(serde_json::Map::new()) } else { value.clone() };
    let mut errors = Vec::new();
    let schema = schema_of::<P>();
    unknown_names(&schema, &schema, &value, "", &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    match serde_path_to_error::deserialize::<_, P>(&value) {
        Ok(params) => {
            let errors = params.check();
            if errors.is_empty() { Ok(params) } else { Err(errors) }
        }
        Err(error) => {
            let path = error.path().to_string();
            let path = if path == "." { String::new() } else { path };
            Err(vec![ParamError::new(path, error.into_inner().to_string())])
        }
    }
}

/// Makes a stage of type `S` from checked parameters; the usual body of [`StageKind::make`].
///
/// # Errors
/// As [`read_params`].
pub fn make<P: Params, S: Stage + From<P> + 'static>(value: &Value) -> Result<Made, Vec<ParamError>> {
    let params = read_params::<P>(value)?;
    let filled = serde_json::to_value(&params).map_err(|e| vec![ParamError::new("", e.to_string())])?;
    Ok(Made { params: filled, stage: Box::new(S::from(params)) })
}

fn unknown_names(root: &Value, schema: &Value, value: &Value, at: &str, errors: &mut Vec<ParamError>) {
    let schema = resolve(root, schema);
    let join = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    match value {
        Value::Object(map) => {
            let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
            for (name, item) in map {
                if let Some(inner) = properties.get(name) {
                    unknown_names(root, inner, item, &join(name), errors);
                } else if schema.get("additionalProperties") == Some(&Value::Bool(false)) {
                    let known: Vec<&str> = properties.keys().map(String::as_str).collect();
                    let mut error = ParamError::new(join(name), format!("unknown parameter `{name}`"));
                    error.help = Some(crate::suggest::did_you_mean(name, &known));
                    errors.push(error);
                }
            }
        }
        Value::Array(items) => {
            if let Some(inner) = schema.get("items") {
                for (i, item) in items.iter().enumerate() {
                    unknown_names(root, inner, item, &join(&i.to_string()), errors);
                }
            }
        }
        _ => {}
    }
}

fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let target = schema.get("$ref").and_then(Value::as_str).or_else(|| {
        // An optional struct field is `anyOf: [{$ref}, {type: null}]`.
        let any = schema.get("anyOf")?.as_array()?;
        match any.as_slice() {
            [inner, null] if null.get("type").and_then(Value::as_str) == Some("null") => inner.get("$ref")?.as_str(),
            _ => None,
        }
    });
    target.and_then(|r| root.pointer(r.trim_start_matches('#'))).unwrap_or(schema)
}

/// All kinds a pipeline may use, by name.
#[derive(Default)]
pub struct Registry {
    kinds: IndexMap<&'static str, StageKind>,
}

impl Registry {
    /// Adds a kind; the last of two with one name wins.
    pub fn add(&mut self, kind: StageKind) {
        self.kinds.insert(kind.name, kind);
    }

    /// Returns the kind of this name.
    pub fn get(&self, name: &str) -> Option<&StageKind> {
        self.kinds.get(name)
    }

    /// Returns all kinds in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = &StageKind> {
        self.kinds.values()
    }
}

/// One input artifact as a stage sees it.
#[derive(Clone, Debug)]
pub struct InputFile {
    /// The path as written in pipeline.yaml (matched files of a glob: with the glob filled in).
    pub logical: String,
    /// Where it is now; a directory for a directory input.
    pub path: PathBuf,
}

/// What a stage may tell the user while it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StageMessage {
    /// `done` of `total` (0 = unknown) `unit`s are finished.
    Progress { done: u64, total: u64, unit: String },
    /// Worth knowing, not wrong.
    Info { text: String },
    /// Suspicious; kept in the run record.
    Warning { text: String },
}

/// Everything a running stage may see.
pub struct StageContext<'a> {
    /// Files by input slot; a slot whose optional file is absent has an empty list.
    pub inputs: BTreeMap<String, Vec<InputFile>>,
    /// Scratch path by output slot. Directories exist already; files do not.
    pub outputs: BTreeMap<String, PathBuf>,
    /// A private directory for temporary files, removed afterwards.
    pub scratch: PathBuf,
    /// Declared environment: `env` and `secrets` of the stage, and what its effect needs.
    pub env: BTreeMap<String, String>,
    /// How many threads the stage may keep busy. Must not change the bytes of any output.
    pub threads: usize,
    /// The key of this action. A file that embeds it gives up early cutoff.
    pub key: Digest,
    /// Takes progress and messages.
    pub messages: &'a (dyn Fn(StageMessage) + Send + Sync),
    /// Set when the user wants to stop.
    pub cancelled: &'a AtomicBool,
}

impl StageContext<'_> {
    /// Returns the one file or directory of an input slot.
    ///
    /// # Errors
    /// The slot is not declared, or holds no or several files.
    pub fn input(&self, slot: &str) -> anyhow::Result<&Path> {
        match self.inputs(slot) {
            [one] => Ok(&one.path),
            [] => bail!("input slot `{slot}` is not declared in pipeline.yaml"),
            many => bail!("input slot `{slot}` takes one file, {} given", many.len()),
        }
    }

    /// Returns the one file of an input slot, or `None` where it is undeclared or absent.
    pub fn optional(&self, slot: &str) -> Option<&Path> {
        self.inputs(slot).first().map(|file| file.path.as_path())
    }

    /// Returns all files of an input slot, sorted by logical path; none where it is undeclared or absent.
    pub fn inputs(&self, slot: &str) -> &[InputFile] {
        self.inputs.get(slot).map_or(&[], Vec::as_slice)
    }

    /// Returns the scratch path of an output slot.
    ///
    /// # Errors
    /// The slot is not declared.
    pub fn output(&self, slot: &str) -> anyhow::Result<&Path> {
        self.outputs.get(slot).map(PathBuf::as_path).with_context(|| format!("output slot `{slot}` is not declared"))
    }

    /// Returns the scratch path of an output slot the pipeline may leave out.
    pub fn optional_output(&self, slot: &str) -> Option<&Path> {
        self.outputs.get(slot).map(PathBuf::as_path)
    }

    /// Reports that `done` of `total` (0 = unknown) `unit`s are finished.
    pub fn progress(&self, done: u64, total: u64, unit: &str) {
        (self.messages)(StageMessage::Progress { done, total, unit: unit.to_owned() });
    }

    /// Tells the user something worth knowing.
    pub fn info(&self, text: impl Into<String>) {
        (self.messages)(StageMessage::Info { text: text.into() });
    }

    /// Warns the user; the text is kept in the run record.
    pub fn warn(&self, text: impl Into<String>) {
        (self.messages)(StageMessage::Warning { text: text.into() });
    }

    /// Stops the stage if the user asked for it; call it in long loops.
    ///
    /// # Errors
    /// The run was interrupted.
    pub fn check_cancelled(&self) -> anyhow::Result<()> {
        if self.cancelled.load(Ordering::Relaxed) { bail!("interrupted") } else { Ok(()) }
    }

    /// Runs `work` on a rayon pool of the granted size, so that stages never steal each other's tasks.
    ///
    /// # Errors
    /// The pool's threads cannot be started.
    pub fn in_pool<T: Send>(&self, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads.max(1)).build()?;
        Ok(pool.install(work))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    struct Inner {
        /// How steep.
        beta: f64,
    }
    impl Default for Inner {
        fn default() -> Self {
            Self { beta: 1.5 }
        }
    }

    #[derive(Default, Serialize, Deserialize, JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    struct Toy {
        rows: u32,
        inner: Inner,
        maybe: Option<Inner>,
        list: Vec<Inner>,
    }
    impl Params for Toy {
        fn check(&self) -> Vec<ParamError> {
            if self.inner.beta > 0.0 { vec![] } else { vec![ParamError::new("inner.beta", "must be above 0")] }
        }
    }

    #[test]
    fn all_unknown_names_are_reported_with_a_suggestion_at_every_depth() {
        let errors = read_params::<Toy>(&json!({
            "row": 1, "inner": {"bta": 2}, "maybe": {"x": 1}, "list": [{"beta": 1.0}, {"bet": 1}]
        }));
        let paths: Vec<String> = errors.err().unwrap().into_iter().map(|e| e.path).collect();
        assert_eq!(paths, ["row", "inner.bta", "maybe.x", "list.1.bet"]);
    }

    #[test]
    fn a_wrong_type_names_its_path_and_a_failed_check_its_value() {
        let path = |v| read_params::<Toy>(&v).err().unwrap()[0].path.clone();
        assert_eq!(path(json!({"inner": {"beta": "x"}})), "inner.beta");
        assert_eq!(path(json!({"inner": {"beta": -1.0}})), "inner.beta");
    }

    #[test]
    fn defaults_are_filled_in() {
        let params = read_params::<Toy>(&Value::Null).ok().unwrap();
        assert_eq!(serde_json::to_value(params).unwrap()["inner"]["beta"], 1.5);
    }
}
