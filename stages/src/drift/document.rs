//! The shape of `reports/drift.json`; `docs/drift.schema.json` is generated from these types.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::support::provenance::Provenance;

/// Whether new sessions are still like those that models were fitted on.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "logweir drift")]
pub struct Drift {
    /// What to do. Null where there is nothing to compare.
    pub verdict: Option<Verdict>,
    /// Why, in one sentence.
    pub reason: String,
    /// What new sessions are held against.
    pub reference: Group,
    /// The new sessions.
    pub new: Group,
    /// Templates and lengths are those of so many seconds after the start of each session; null: of whole sessions.
    pub followed_seconds: Option<f64>,
    /// What was compared: `templates`, `length` (events of a session), and scores by model.
    pub measures: Vec<Measure>,
    /// Templates that only new sessions have, those with most events first.
    pub new_templates: Vec<TemplateShift>,
    /// Templates that only the reference has, those with most events first.
    pub vanished_templates: Vec<TemplateShift>,
    /// Templates whose share of events moved most.
    pub shifts: Vec<TemplateShift>,
    /// How the numbers were made.
    pub method: MethodUsed,
    /// Key of the action that wrote this file.
    pub key: String,
    /// Where this file comes from.
    pub provenance: Provenance,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing: chance alone explains the differences.
    Stable,
    /// Keep an eye on it: something moved, but no further than it did within the reference.
    Watch,
    /// Fit models anew, with sessions of now.
    Refit,
}

impl Verdict {
    /// Returns the word for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Watch => "watch",
            Self::Refit => "refit",
        }
    }
}

/// A group of sessions.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Group {
    /// Where it comes from: folds, or the slot.
    pub of: String,
    /// Sessions compared.
    pub sessions: u64,
    /// Their events.
    pub events: u64,
    /// Sessions with scores that are compared: those that models were not fitted on and that were over.
    pub scored: u64,
    /// Sessions left out: the log ended too soon after their start, or there are more than enough.
    pub left_out: u64,
    /// Of those compared, still open when the log ended.
    pub censored: u64,
    /// Start of the first, RFC 3339.
    pub first: Option<String>,
    /// Start of the last, RFC 3339.
    pub last: Option<String>,
}

/// One comparison. Divergences are Jensen-Shannon divergences in bits: 0 equal, 1 nothing in common.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Measure {
    /// `templates`, `length`, `fusion`, `lgbm`, `ae` or `profile`.
    pub name: String,
    /// Name for people.
    pub title: String,
    /// What this measure alone would say.
    pub verdict: Verdict,
    /// How far new sessions are from the reference.
    pub divergence: f64,
    /// What permuted sessions exceed with a probability of `method.level`.
    pub chance: f64,
    /// How often permuted sessions are at least as far apart.
    pub p: f64,
    /// The same for all measures together (Holm).
    pub p_adjusted: f64,
    /// The largest divergence between a stretch of the reference and the rest of it.
    pub history: f64,
    /// Population stability index, for comparison with other tools.
    pub psi: f64,
}

/// A template in both groups.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TemplateShift {
    /// Its id; of a template that only the new table has, the id there.
    pub event_id: String,
    /// Its text.
    pub text: String,
    /// Share of the events of the reference.
    pub reference: f64,
    /// Share of the events of new sessions.
    pub new: f64,
    /// Share of the sessions of the reference that have it.
    pub reference_sessions: f64,
    /// Share of new sessions that have it.
    pub new_sessions: f64,
    /// What it adds to the divergence of `templates`, bits.
    pub bits: f64,
    /// How often its share moves at least as far when sessions are permuted; not adjusted for the number of templates.
    pub p: f64,
}

/// How the numbers were made.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MethodUsed {
    /// Permutations of sessions.
    pub permutations: u32,
    /// Probability of a verdict other than `stable` where only chance is at work.
    pub level: f64,
    /// How many times what chance and history reach a divergence must be for `refit`.
    pub tolerance: f64,
    /// Seed of the permutations.
    pub seed: u64,
    /// The rule in words.
    pub rule: String,
}

/// Returns the JSON Schema of `drift.json`.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Drift).to_value()
}
