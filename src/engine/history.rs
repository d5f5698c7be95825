//! What was done before, as commands show it: runs, one run in detail, the last decision of a stage.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;
use crate::event::{Decision, Reason};
use crate::plan::PlanRow;
use crate::sandbox::Undeclared;

/// One run, in short.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    /// The run's id.
    pub run: String,
    /// When it started (RFC 3339, UTC).
    pub started: String,
    /// When it ended.
    pub finished: String,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// The pipeline file, relative to the project root.
    pub pipeline: String,
    /// `--profile`, if given.
    pub profile: Option<String>,
    /// `--set` as given.
    pub overrides: Vec<String>,
    /// `--force` stages as given.
    pub forced: Vec<String>,
    /// Targets as given; empty for all.
    pub targets: Vec<String>,
    /// Stages executed with success.
    pub executed: usize,
    /// Stages restored.
    pub restored: usize,
    /// Stages up to date.
    pub fresh: usize,
    /// Stages failed.
    pub failed: usize,
    /// Stages not started.
    pub skipped: usize,
    /// The user stopped it.
    pub interrupted: bool,
}

/// An output as recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputRecord {
    /// Where it was placed, relative to the project root; a directory ends with `/`.
    pub path: String,
    /// Content digest; of a directory: of its manifest.
    pub digest: Digest,
    /// Bytes, of all files of a directory together.
    pub size: u64,
    /// A file somebody may execute.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

impl OutputRecord {
    /// Returns whether the output is a directory.
    pub fn is_directory(&self) -> bool {
        self.path.ends_with('/')
    }
}

/// What became of one stage in one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageOutcome {
    /// The stage's full name.
    pub stage: String,
    /// What was done.
    pub decision: Decision,
    /// The action key, if it came that far.
    pub key: Option<Digest>,
    /// Why it was executed or restored.
    pub reasons: Vec<Reason>,
    /// The run that executed the action whose outputs these are.
    pub executed_in: Option<String>,
    /// Wall-clock seconds of that execution.
    pub seconds: Option<f64>,
    /// Most memory, in bytes: of a shell stage's processes together; of the whole program while a built-in stage ran.
    pub peak_memory: Option<u64>,
    /// Thread tokens it had.
    pub threads: Option<usize>,
    /// The kind (`uses`) or command template (`run`).
    pub action: Option<String>,
    /// Parameters, defaults filled in.
    pub params: Value,
    /// Files by input slot: logical path → digest.
    pub inputs: BTreeMap<String, BTreeMap<String, Digest>>,
    /// Outputs by slot.
    pub outputs: BTreeMap<String, OutputRecord>,
    /// Warnings of that execution.
    pub warnings: Vec<String>,
    /// What it touched without declaring it, where that was watched.
    #[serde(default, skip_serializing_if = "Undeclared::is_empty")]
    pub undeclared: Undeclared,
}

/// One run in detail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunDetail {
    /// The run in short.
    #[serde(flatten)]
    pub info: RunInfo,
    /// Named roots: where each was.
    pub roots: BTreeMap<String, String>,
    /// Host and platform.
    pub host: String,
    /// Every stage of the pipeline at that time.
    pub stages: Vec<StageOutcome>,
}

/// The last decision about a stage, leaf by leaf, and what would be decided now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// The stage's full name.
    pub stage: String,
    /// What the last run that had the stage did with it; `None` when there was none.
    pub last: Option<WhyRun>,
    /// The last execution before or in that run; `None` when it never executed.
    pub executed: Option<WhyRun>,
    /// The execution that made the outputs the stage would have now, when its key is known and was executed; its run is
    /// the one a fresh stage is fresh since.
    #[serde(default)]
    pub since: Option<WhyRun>,
    /// Every leaf of the last key: (kind, subject, value).
    pub leaves: Vec<Leaf>,
    /// What would happen now.
    pub now: PlanRow,
}

/// A decision made in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WhyRun {
    /// The run.
    pub run: String,
    /// When it started (RFC 3339, UTC).
    pub started: String,
    /// What was done.
    pub decision: Decision,
    /// The key.
    pub key: Option<Digest>,
    /// Why.
    pub reasons: Vec<Reason>,
    /// Wall-clock seconds of the execution.
    pub seconds: Option<f64>,
}

/// One leaf of a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leaf {
    /// Which kind of leaf.
    pub kind: crate::event::ReasonKind,
    /// Which leaf.
    pub subject: String,
    /// Its value.
    pub value: Value,
}
