//! From pipeline.yaml to a checked [`Spec`]: `raw` (serde shapes) → `spans` (YAML path → position) → `check`.
//!
//! A `Spec` is complete: profile merged, `--set` applied, `${}` interpolated (but `${in.*}` and `${out.*}` of shell
//! commands), matrix expanded, parameters checked with every default filled in. Nothing here looks at source files.

mod check;
mod error;
mod interpolate;
mod links;
mod load;
mod map;
mod merge;
pub(crate) mod paths;
pub(crate) mod raw;
mod secret;
mod source;
mod spans;
mod units;

#[cfg(test)]
mod diagnostics;
#[cfg(test)]
mod map_diagnostics;
#[cfg(test)]
pub(crate) mod tests;

pub use error::{Place, Problem, SpecError, SpecErrors, Text};
pub use load::{LoadOptions, SourceText, load, load_with_dag};
pub use map::{ITEM, MapSpec, STEM, fill, item_command, stem};
pub use raw::{Link, Sandbox};

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::stage::{Arity, StageKind};

/// A path below the project root, or below a named root: relative, `/`-separated, without `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ProjectPath {
    /// The root's name; `None` for the project itself.
    pub root: Option<String>,
    /// Relative path or glob pattern, without a trailing slash.
    pub path: String,
}

impl fmt::Display for ProjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.root {
            Some(root) => write!(f, "{root}:{}", self.path),
            None => f.write_str(&self.path),
        }
    }
}

impl From<ProjectPath> for String {
    fn from(path: ProjectPath) -> Self {
        path.to_string()
    }
}

#[expect(clippy::infallible_try_from, reason = "callers treat a text from a record as one that could be refused")]
impl TryFrom<String> for ProjectPath {
    type Error = std::convert::Infallible;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Ok(match text.split_once(':') {
            // A `/` before the colon: the colon is part of a file's name.
            Some((root, path)) if !root.contains('/') => Self { root: Some(root.to_owned()), path: path.to_owned() },
            _ => Self { root: None, path: text },
        })
    }
}

/// One entry of an input slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputRef {
    /// A file.
    File(ProjectPath),
    /// A directory (written with a trailing slash).
    Directory(ProjectPath),
    /// All files a pattern matches, sorted.
    Glob(ProjectPath),
    /// The canonical lineage document of an artifact (`lineage:PATH`).
    Lineage(ProjectPath),
}

/// An input slot of a stage.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Input {
    /// What it takes, in the order written.
    pub refs: Vec<InputRef>,
    /// `slot?:` in YAML: absence is no error but a leaf of the key.
    pub optional: bool,
    /// What the kind expects; `Files` for shell stages.
    pub arity: Arity,
}

/// An output slot of a stage.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Output {
    /// Where it is placed; never below a named root.
    pub path: ProjectPath,
    /// Whether it is a directory (trailing slash in YAML).
    pub directory: bool,
}

/// What a stage does.
#[derive(Clone)]
pub enum Action {
    /// `uses:` a built-in kind, with checked parameters (defaults filled in).
    Builtin {
        /// The kind.
        kind: StageKind,
    },
    /// `run:` a shell command; `${in.*}`, `${out.*}` still symbolic, all else interpolated.
    Shell {
        /// The command template.
        command: String,
    },
}

/// A receiver of OpenLineage events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenLineage {
    /// Where events are posted to.
    pub url: String,
    /// How long one event may take.
    pub timeout: Duration,
    /// The variable that holds the key sent as `Authorization: Bearer`; its value is recorded nowhere.
    pub api_key_env: Option<String>,
}

/// A resource limit or policy of a stage and its shell process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Policy {
    /// Thread tokens it takes; 0 = all that are granted to the run.
    pub threads: usize,
    /// Bytes of memory it reserves, if declared.
    pub memory: Option<u64>,
    /// A named pool it takes one place of.
    pub pool: Option<String>,
    /// How often a failed attempt is repeated.
    pub retries: u32,
    /// When the whole process group of a shell stage is ended.
    pub timeout: Option<Duration>,
    /// Never rerun; outputs must exist and match pipeline.lock.
    pub frozen: bool,
    /// Run at every run.
    pub always: bool,
    /// What a shell stage may touch beyond what it declares; changes no bytes, so it is not in the key.
    pub sandbox: Sandbox,
}

impl Default for Action {
    fn default() -> Self {
        Self::Shell { command: String::new() }
    }
}

/// A stage, ready for the graph. Kept between starts by `compiled`, field by field.
#[derive(Clone, Serialize, Deserialize)]
pub struct StageSpec {
    /// Unique name, with the matrix combination: `custom[n=3]`.
    pub name: String,
    /// Name as written in YAML.
    pub base: String,
    /// One line for people.
    pub about: String,
    /// What it does; kept apart, because kinds belong to the program.
    #[serde(skip)]
    pub action: Action,
    /// Input slots by name.
    pub inputs: IndexMap<String, Input>,
    /// Output slots by name.
    pub outputs: IndexMap<String, Output>,
    /// Parameters with defaults filled in.
    #[serde(with = "crate::compiled::json_text")]
    pub params: Value,
    /// Environment variables passed and keyed.
    pub env: Vec<String>,
    /// Environment variables passed, never keyed, logged or recorded but by name.
    pub secrets: Vec<String>,
    /// Commands whose output is part of the key.
    pub tools: Vec<String>,
    /// Stages (by full name) that must have finished before: order only.
    pub needs: Vec<String>,
    /// One action per file of an input slot.
    pub map: Option<MapSpec>,
    /// Resources and policy.
    pub policy: Policy,
    /// Output slots whose numbers `metrics`, `diff` and lineage pointers speak of.
    pub metrics: Vec<String>,
}

/// A checked pipeline.
#[derive(Clone, Serialize, Deserialize)]
pub struct Spec {
    /// The pipeline's name.
    pub name: String,
    /// Places outside the project, by name; absolute or relative to the project root.
    pub roots: IndexMap<String, PathBuf>,
    /// Named pools and their sizes.
    pub pools: IndexMap<String, usize>,
    /// How a stored object becomes the file at its path (`store: {link: …}`).
    pub link: Link,
    /// The key file that runs are signed with (`lineage: {sign: …}`): absolute or relative to the project root.
    pub sign: Option<String>,
    /// Where runs are told to while they go on (`lineage: {openlineage: …}`).
    pub openlineage: Option<OpenLineage>,
    /// Stages in the order written (matrix combinations in order).
    pub stages: Vec<StageSpec>,
    /// Overrides given by `--set`, as given, and the profile: recorded in the run.
    pub overrides: Vec<String>,
    /// The profile used, if any.
    pub profile: Option<String>,
}
