//! The shape of `reports/metrics.json`; `docs/metrics.schema.json` is generated from these types.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bootstrap::Sample;
use super::threshold::Objective;
use crate::support::provenance::Provenance;

/// Metrics of the anomaly scores of one run. Rates and metrics are shares in 0..1, reported on the test fold at
/// thresholds chosen on the validation fold; null where the labels (or the model) they need are missing.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "logweir metrics")]
pub struct Metrics {
    /// What was scored.
    pub dataset: Dataset,
    /// How it was divided.
    pub split: Split,
    /// Supervised gradient-boosted trees.
    pub lgbm: ModelMetrics,
    /// Autoencoder of benign sessions.
    pub ae: ModelMetrics,
    /// Distance to the nearest benign session.
    pub profile: ModelMetrics,
    /// The fused score; alerts are decided by it.
    pub fusion: ModelMetrics,
    /// Fusion against the best single model. Null without labels.
    pub fusion_gain: Option<Gain>,
    /// The decision rule for alerts.
    pub threshold: ThresholdChoice,
    /// Alerts of the test fold against its labels. Null without labels.
    pub confusion: Option<Confusion>,
    /// False-positive rate at the threshold: what validation promised, what test showed. Null without labels.
    pub false_positive_rate: Option<Calibration>,
    /// Conformal p-values of the fused score. Null where no validation session may be benign.
    #[serde(default)]
    pub conformal: Option<Conformal>,
    /// How many alerts.
    pub alerts: Alerts,
    /// Test sessions whose event sequence no training session has. Null without sequences.
    pub unseen_sequences: Option<Subset>,
    /// Test sessions, each distinct event sequence and label counted once. Null without sequences.
    pub deduplicated: Option<Subset>,
    /// Test sessions that were still open when the log ended.
    pub censored: Subset,
    /// Recall of the alerts per type of anomaly in the test fold; `untyped` = no type known.
    pub by_anomaly_type: BTreeMap<String, TypeRecall>,
    /// How the numbers were made.
    pub method: Method,
    /// Key of the action that wrote this file.
    pub key: String,
    /// Where this file comes from.
    pub provenance: Provenance,
}

/// What was scored.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Dataset {
    /// Name for people.
    pub name: String,
    /// Where the lines come from.
    pub source: Source,
    /// Lines read. Null when unknown.
    pub lines: Option<u64>,
    /// Lines that could not be parsed. Null when unknown.
    pub rejected: Option<u64>,
    /// Sessions scored.
    pub sessions: u64,
    /// Sessions still open when the log ended.
    pub censored: u64,
    /// Sessions labelled anomalous.
    pub anomalies: u64,
    /// Sessions without a label.
    pub unlabelled: u64,
    /// Start of the first session, RFC 3339.
    pub first: Option<String>,
    /// Start of the last session, RFC 3339.
    pub last: Option<String>,
    /// How many sessions those scored stand for: rates and metrics count each as often. Null where each is one.
    #[serde(default)]
    pub population: Option<f64>,
}

/// Where log lines come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A simulated system.
    Simulated,
    /// A real one.
    Real,
}

impl Source {
    /// Returns the word for pages and pictures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Simulated => "simulated",
            Self::Real => "real",
        }
    }
}

/// How the sessions were divided.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Split {
    /// As seen in the table: `chronological`, `rolling origin` (chronological, with unused later sessions) or `random`.
    pub method: String,
    /// Models were fitted on these.
    pub train: FoldCounts,
    /// Thresholds were chosen on these.
    pub validation: FoldCounts,
    /// Reported on.
    pub test: FoldCounts,
    /// Sessions in no fold.
    pub unused: u64,
}

/// A fold in numbers.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct FoldCounts {
    /// All sessions.
    pub sessions: u64,
    /// Labelled anomalous.
    pub anomalies: u64,
    /// Labelled normal.
    pub normal: u64,
    /// Without a label.
    pub unlabelled: u64,
    /// Still open when the log ended.
    pub censored: u64,
    /// Start of the first session, RFC 3339.
    pub first: Option<String>,
    /// Start of the last session, RFC 3339.
    pub last: Option<String>,
}

/// One model on the test fold.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ModelMetrics {
    /// False when the model has no scores (for instance no labels to learn from).
    pub trained: bool,
    /// Area under the ROC curve of the raw score.
    pub roc_auc: Option<f64>,
    /// Average precision of the raw score.
    pub average_precision: Option<f64>,
    /// F1 at the model's own threshold.
    pub f1: Option<f64>,
    /// F-beta at the model's own threshold.
    pub f_beta: Option<f64>,
    /// Precision at the model's own threshold; 0 when nothing is flagged.
    pub precision: Option<f64>,
    /// Recall at the model's own threshold.
    pub recall: Option<f64>,
    /// False-positive rate at the model's own threshold.
    pub fpr: Option<f64>,
    /// Bootstrap 95 % intervals by session.
    pub ci95: Intervals,
    /// The model's own threshold, chosen like that of the fusion.
    pub threshold: Option<Cut>,
    /// The same metrics on the validation fold (optimistic: the threshold was chosen there).
    pub validation: Rates,
    /// Realised false-positive rates at thresholds set for nominal ones on benign validation sessions.
    pub fpr_calibration: Vec<Calibration>,
}

/// Metrics of one set of sessions.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Rates {
    /// Area under the ROC curve.
    pub roc_auc: Option<f64>,
    /// Average precision.
    pub average_precision: Option<f64>,
    /// F1.
    pub f1: Option<f64>,
    /// F-beta.
    pub f_beta: Option<f64>,
    /// Precision.
    pub precision: Option<f64>,
    /// Recall.
    pub recall: Option<f64>,
    /// False-positive rate.
    pub fpr: Option<f64>,
}

impl From<Sample> for Rates {
    fn from(s: Sample) -> Self {
        Self {
            roc_auc: s.roc_auc,
            average_precision: s.average_precision,
            f1: s.f1,
            f_beta: s.f_beta,
            precision: s.precision,
            recall: s.recall,
            fpr: s.fpr,
        }
    }
}

/// `[low, high]` of the 95 % interval of each metric.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Intervals {
    /// Area under the ROC curve.
    pub roc_auc: Option<[f64; 2]>,
    /// Average precision.
    pub average_precision: Option<[f64; 2]>,
    /// F1.
    pub f1: Option<[f64; 2]>,
    /// F-beta.
    pub f_beta: Option<[f64; 2]>,
    /// Precision.
    pub precision: Option<[f64; 2]>,
    /// Recall.
    pub recall: Option<[f64; 2]>,
    /// False-positive rate.
    pub fpr: Option<[f64; 2]>,
}

/// Fusion against the best single model, paired by session.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Gain {
    /// The single model with the highest average precision on test.
    pub best_member: String,
    /// Average precision of the fusion minus that of the best member.
    pub average_precision: f64,
    /// Its bootstrap 95 % interval.
    pub ci95: Option<[f64; 2]>,
}

/// A threshold and the gap it lies in: flagged when the score is at least `value`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Cut {
    /// Flag at and above this score.
    pub value: f64,
    /// Highest validation score that is not flagged.
    pub below: Option<f64>,
    /// Lowest validation score that is flagged.
    pub above: Option<f64>,
}

/// The decision rule.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ThresholdChoice {
    /// What the threshold was chosen for.
    pub objective: Objective,
    /// Flagged when the fused score is at least this.
    pub value: f64,
    /// Highest validation score that is not flagged.
    pub below: Option<f64>,
    /// Lowest validation score that is flagged.
    pub above: Option<f64>,
    /// The objective asked for.
    pub requested: Objective,
    /// Why another objective was used than the one asked for.
    pub why: Option<String>,
    /// Weight of recall in F-beta.
    pub beta: f64,
    /// Recall to reach with `fpr_at_tpr`.
    pub tpr: f64,
    /// Alerts the validation fold was allowed. Null unless the objective is `alert_budget`.
    pub alerts_allowed: Option<f64>,
    /// The fold it was chosen on.
    pub chosen_on: String,
    /// Which of several equally good thresholds.
    pub ties: String,
}

/// Decisions against labels, in sessions scored (whatever they stand for).
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Confusion {
    /// Anomalous, flagged.
    pub tp: u64,
    /// Normal, flagged.
    pub fp: u64,
    /// Anomalous, not flagged.
    #[serde(rename = "fn")]
    pub fn_: u64,
    /// Normal, not flagged.
    pub tn: u64,
}

/// An intended false-positive rate and what became of it on test.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Calibration {
    /// Share of benign validation sessions at or above the threshold that was aimed at.
    pub intended: f64,
    /// The threshold.
    pub threshold: f64,
    /// Share of benign test sessions at or above the threshold. Null without benign test sessions.
    pub realised: Option<f64>,
    /// `realised / intended`. Null when nothing was intended.
    pub ratio: Option<f64>,
    /// Share of anomalous test sessions at or above the threshold. Null without any.
    #[serde(default)]
    pub recall: Option<f64>,
    /// The same by type of anomaly; only for nominal rates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub recall_by_type: BTreeMap<String, f64>,
}

/// Conformal p-values: how often a benign session would have a fused score at least as high.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Conformal {
    /// Validation sessions that are the reference.
    pub reference: u64,
    /// Of these, without a label: then p-values are too large rather than too small.
    pub unlabelled: u64,
    /// The smallest p-value there can be, that of a score above the whole reference.
    pub smallest: f64,
    /// Benign test sessions whose p-value is at most a nominal rate.
    pub at: Vec<RealisedRate>,
}

/// A nominal rate and what became of it on test.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RealisedRate {
    /// The rate that the p-values promise not to exceed.
    pub nominal: f64,
    /// Share of benign test sessions with a p-value of at most that. Null without benign test sessions.
    pub realised: Option<f64>,
}

/// How many alerts there are.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Alerts {
    /// In all folds.
    pub all: u64,
    /// In the test fold.
    pub test: u64,
    /// Days between the first and the last session of the test fold.
    pub test_days: Option<f64>,
    /// Alerts of the test fold a day.
    pub alerts_per_day: Option<f64>,
    /// False alerts of the test fold a day.
    pub false_alerts_per_day: Option<f64>,
}

/// The fused score on part of the test fold, at the threshold for alerts.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Subset {
    /// Sessions (or distinct sequences).
    pub count: u64,
    /// Labelled anomalous.
    pub anomalies: u64,
    /// Flagged.
    pub alerts: u64,
    /// Recall; null without anomalies.
    pub recall: Option<f64>,
    /// False-positive rate; null without normal sessions.
    pub fpr: Option<f64>,
    /// Average precision.
    pub average_precision: Option<f64>,
    /// Area under the ROC curve.
    pub roc_auc: Option<f64>,
    /// F1.
    pub f1: Option<f64>,
    /// The same metrics of each single model at its own threshold.
    pub models: BTreeMap<String, Rates>,
}

/// Recall of one type of anomaly.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TypeRecall {
    /// Anomalous test sessions of this type.
    pub count: u64,
    /// Of these, flagged.
    pub flagged: u64,
    /// Share flagged.
    pub recall: f64,
    /// Its 95 % interval (Wilson).
    pub ci95: Option<[f64; 2]>,
    /// Recall of each single model at its own threshold.
    pub models: BTreeMap<String, f64>,
}

/// How the numbers were made.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Method {
    /// Number of bootstrap resamples.
    pub resamples: u32,
    /// Seed of the bootstrap.
    pub seed: u64,
    /// What rankings are made on.
    pub ranking: String,
}

/// Returns the JSON Schema of `metrics.json`.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Metrics).to_value()
}
