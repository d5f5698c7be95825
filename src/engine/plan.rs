//! Decides what a run would do with each stage, and why. Values in, values out: no file is touched here.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::event::{Decision, Reason};

/// What would happen to one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanRow {
    /// The stage's full name.
    pub name: String,
    /// `fresh`, `restore`, `run` or `waits`.
    pub decision: Decision,
    /// Why; empty for `fresh`.
    pub reasons: Vec<Reason>,
    /// The action key; unknown while an upstream stage has to execute first.
    pub key: Option<Digest>,
    /// Seconds the last execution took; unknown for a stage never executed.
    pub seconds: Option<f64>,
}

/// What a run would do, in an order it could be done in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The pipeline file, relative to the project root.
    pub pipeline: String,
    /// `--profile` and `--set` as given.
    pub overrides: Vec<String>,
    /// One row per selected stage.
    pub stages: Vec<PlanRow>,
    /// Predicted wall-clock seconds with the given thread tokens, should every waiting stage run; `None` when a stage
    /// that may run has no history.
    pub seconds: Option<f64>,
}

impl Plan {
    /// Returns how many stages have this decision.
    pub fn count(&self, decision: Decision) -> usize {
        self.stages.iter().filter(|row| row.decision == decision).count()
    }
}
