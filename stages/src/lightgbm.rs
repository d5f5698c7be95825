//! The `lightgbm` kind: supervised gradient boosting over sparse features.
//!
//! Equal rows are trained on once, weighted by how often they occur, and the classes are balanced. The number of rounds
//! is chosen by average precision on validation with a floor, because average precision saturates after a few trees.
//! Isotonic calibration uses out-of-fold margins of train sessions, which neither the rounds nor a model saw. The
//! stored model is then fitted on train and validation together, as a log drifts; what is reported on validation, and
//! what thresholds are chosen on (`raw_oof`), comes from the model that saw train only.
//! Without both classes in train nothing is fitted: the card says why, scores are null, the pipeline goes on.

mod contributions;
mod mislabelled;
pub mod sys;
mod train;

use std::path::Path;

use logweir_engine::stage::{ParamError, Params, Slot, Stage, StageContext, StageKind, make, schema_of};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::featurize::{Features, Group};
use crate::support::isotonic::Isotonic;
use crate::support::learning::{Rows, nulls, numbers, read_json, read_to_copy, write_json, write_scores};
use crate::support::matrix::Matrix;
use crate::support::metrics::{Confusion, average_precision, roc_auc, steps};
use crate::support::provenance::Provenance;
use crate::support::sparse::{Csr, Repeated};
use crate::support::traces::{Fold, read_types};
pub use contributions::Contributions;
pub use mislabelled::forget_mislabelled;
use train::Trained;

/// The `lightgbm` kind.
pub fn kind() -> StageKind {
    StageKind {
        name: "lightgbm",
        about: "supervised gradient boosting: class-balanced, early stopping on average precision, calibrated",
        version: 1,
        code: crate::code("lightgbm"),
        inputs: const {
            &[
                Slot::directory("features", "the features directory"),
                Slot::file("labels", "sessions.csv"),
                Slot::file("split", "split.parquet"),
                Slot::file("types", "types.csv: adds margins of train anomalies from models that never saw their type")
                    .optional(),
                Slot::file("sessions", "sessions.parquet: adds censored copies of benign train sessions").optional(),
                Slot::file("templates", "templates.csv, needed with `sessions`").optional(),
            ]
        },
        outputs: const {
            &[
                Slot::directory("model", "model.txt, calibration.json, card.json, scores.parquet"),
                Slot::file("report", "metrics on validation, JSON"),
            ]
        },
        schema: schema_of::<LightgbmParams>,
        make: make::<LightgbmParams, Lightgbm>,
    }
}

/// How the multiplicity of equal train rows enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Multiplicity {
    /// A row weighs as often as it occurs.
    Linear,
    /// A row that occurs n times weighs `1 + ln(n)`.
    Log,
    /// Each distinct row weighs 1.
    None,
}

/// Parameters of `lightgbm`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LightgbmParams {
    /// Seed of everything random.
    pub seed: u64,
    /// Groups of feature columns to learn from.
    pub groups: Vec<Group>,
    /// Most boosting rounds.
    pub rounds: u32,
    /// Fewest boosting rounds: average precision on validation saturates much earlier.
    pub min_rounds: u32,
    /// Stop this many rounds after the best average precision.
    pub patience: u32,
    /// Shrinkage of each tree.
    pub learning_rate: f64,
    /// Most leaves of a tree.
    pub leaves: u32,
    /// Fewest distinct rows in a leaf.
    pub min_leaf: u32,
    /// L2 regularisation of leaf values.
    pub lambda: f64,
    /// Share of columns that a tree may use.
    pub feature_fraction: f64,
    /// Share of those columns that each split of a tree may choose from. With few, a tree must rely on all columns that say
    /// the same, so that a session with only some of the signs of an anomaly scores lower than one with all.
    pub node_fraction: f64,
    /// Most bins of a column.
    pub max_bin: u32,
    /// Give both classes the same total weight.
    pub balanced: bool,
    /// Weight of equal train rows: linear, log or none.
    pub multiplicity: Multiplicity,
    /// Censored copies of each distinct benign train session, cut at even shares of its duration; 0 for none. Needs
    /// the inputs `sessions` and `templates`.
    pub censored_copies: u32,
    /// Train the stored model on train and validation, once validation has chosen the rounds. Validation sessions keep
    /// a margin of the model that saw train only (`raw_oof`).
    pub refit: bool,
    /// Fewest train anomalies of a type for a model that leaves the type out.
    pub min_type: u32,
}

impl Default for LightgbmParams {
    fn default() -> Self {
        Self {
            seed: 42,
            groups: vec![Group::Count, Group::First, Group::Last],
            rounds: 300,
            min_rounds: 120,
            patience: 50,
            learning_rate: 0.1,
            leaves: 31,
            min_leaf: 2,
            lambda: 1.0,
            feature_fraction: 1.0,
            node_fraction: 0.2,
            max_bin: 255,
            balanced: true,
            multiplicity: Multiplicity::Linear,
            censored_copies: 2,
            refit: true,
            min_type: 3,
        }
    }
}

impl LightgbmParams {
    /// Parameters of the library: one thread, as results must not depend on how many there are.
    pub fn library(&self) -> String {
        format!(
            "objective=binary metric=average_precision learning_rate={} num_leaves={} min_data_in_leaf={} lambda_l2={} \
             feature_fraction={} feature_fraction_bynode={} max_bin={} seed={} deterministic=true force_row_wise=true num_threads=1 verbosity=-1 \
             min_data_in_bin=1 feature_pre_filter=false boost_from_average=true",
            self.learning_rate,
            self.leaves,
            self.min_leaf,
            self.lambda,
            self.feature_fraction,
            self.node_fraction,
            self.max_bin,
            self.seed % (1 << 31),
        )
    }
}

impl Params for LightgbmParams {
    fn check(&self) -> Vec<ParamError> {
        let mut errors = Vec::new();
        let mut require = |ok: bool, path: &str, message: &str| {
            if !ok {
                errors.push(ParamError::new(path, message));
            }
        };
        require(!self.groups.is_empty(), "groups", "name at least one group of features");
        require(self.rounds > 0, "rounds", "must be at least 1");
        require(self.min_rounds <= self.rounds, "min_rounds", "must be at most `rounds`");
        require(self.patience > 0, "patience", "must be at least 1");
        require(self.learning_rate > 0.0 && self.learning_rate <= 1.0, "learning_rate", "must be in (0, 1]");
        require((2..=4096).contains(&self.leaves), "leaves", "must be between 2 and 4096");
        require(self.min_leaf > 0, "min_leaf", "must be at least 1");
        require(self.lambda >= 0.0 && self.lambda.is_finite(), "lambda", "must be at least 0");
        require(self.feature_fraction > 0.0 && self.feature_fraction <= 1.0, "feature_fraction", "must be in (0, 1]");
        require(self.node_fraction > 0.0 && self.node_fraction <= 1.0, "node_fraction", "must be in (0, 1]");
        require((2..=4096).contains(&self.max_bin), "max_bin", "must be between 2 and 4096");
        require(self.censored_copies <= 16, "censored_copies", "must be at most 16");
        errors
    }
}

/// The stage.
pub struct Lightgbm(LightgbmParams);

impl From<LightgbmParams> for Lightgbm {
    fn from(params: LightgbmParams) -> Self {
        Self(params)
    }
}

impl Stage for Lightgbm {
    fn run(&self, cx: &StageContext<'_>) -> anyhow::Result<()> {
        let features = cx.input("features")?;
        let rows = cx.in_pool(|| Rows::read(features, cx.input("labels")?, cx.input("split")?, &self.0.groups))??;
        let model = cx.output("model")?;
        let report = cx.output("report")?;
        let provenance = Provenance::of(cx, "lightgbm");
        if let Some(why) = untrainable(&rows) {
            cx.warn(format!("LightGBM is not trained: {why}"));
            return write_untrained(&self.0, &rows, &why, model, report, &provenance);
        }
        let types = cx.optional("types").map(read_types).transpose()?.unwrap_or_default();
        let traces = match (cx.optional("sessions"), cx.optional("templates")) {
            (Some(sessions), Some(templates)) if self.0.censored_copies > 0 => {
                Some(cx.in_pool(|| read_to_copy(features, sessions, templates))??)
            }
            _ => None,
        };
        let trained = train::train(cx, &self.0, features, &rows, &types, traces)?;
        write_trained(&self.0, &rows, &trained, model, report, &provenance)
    }
}

fn untrainable(rows: &Rows) -> Option<String> {
    let train = rows.of(Fold::Train);
    let count = |label: bool| train.iter().filter(|&&row| rows.label(row) == Some(label)).count();
    match (count(true), count(false)) {
        (0, 0) => Some("no train session has a label".to_owned()),
        (0, n) => Some(format!("no anomaly among {n} labelled train rows")),
        (n, 0) => Some(format!("no normal session among {n} labelled train rows")),
        _ => None,
    }
}

fn training_card(rows: &Rows) -> serde_json::Value {
    let train: Vec<usize> = (0..rows.ids().len()).filter(|&s| rows.split.folds[s] == Fold::Train).collect();
    json!({
        "rows": rows.of(Fold::Train).len(),
        "sessions": train.len(),
        "anomalies": train.iter().filter(|&&s| rows.labels[s] == Some(true)).count(),
        "unlabelled": train.iter().filter(|&&s| rows.labels[s].is_none()).count(),
    })
}

fn write_untrained(
    params: &LightgbmParams,
    rows: &Rows,
    why: &str,
    model: &Path,
    report: &Path,
    provenance: &Provenance,
) -> anyhow::Result<()> {
    let n = rows.rows.len();
    let columns = ["raw", "p", "raw_oof", "raw_lto"].map(|name| nulls(name, n));
    write_scores(&model.join("scores.parquet"), &rows.origins, columns.to_vec())?;
    let card = json!({"trained": false, "why_not": why, "parameters": params, "training": training_card(rows)});
    write_json(&model.join("card.json"), &card)?;
    write_json(report, &json!({"trained": false, "why_not": why, "provenance": provenance}))
}

fn write_trained(
    params: &LightgbmParams,
    rows: &Rows,
    trained: &Trained,
    model: &Path,
    report: &Path,
    provenance: &Provenance,
) -> anyhow::Result<()> {
    let path = model.join("model.txt");
    std::fs::write(&path, &trained.text)?;
    write_json(&model.join("calibration.json"), &trained.calibration)?;
    let p: Vec<f64> = trained.raw.iter().map(|&r| trained.calibration.at(r)).collect();
    let columns = vec![
        numbers("raw", &trained.raw),
        numbers("p", &p),
        numbers("raw_oof", &trained.raw_oof),
        numbers("raw_lto", &trained.raw_lto),
    ];
    write_scores(&model.join("scores.parquet"), &rows.origins, columns)?;
    let mut importance: Vec<(usize, f64)> = trained.gains.iter().copied().enumerate().filter(|g| g.1 > 0.0).collect();
    importance.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let importance: serde_json::Map<String, serde_json::Value> =
        importance.iter().take(50).map(|&(i, gain)| (rows.names[i].clone(), json!(gain))).collect();
    let p_oof: Vec<f64> = trained.raw_oof.iter().map(|&r| trained.calibration.at(r)).collect();
    let validation = validation_metrics(rows, &trained.raw_oof, &p_oof);
    let card = json!({
        "trained": true,
        "parameters": params,
        "training": training_card(rows),
        "distinct_rows": trained.distinct,
        "censored_copies": trained.copies,
        "rounds": trained.rounds,
        "average_precision_by_round": trained.curve,
        "threshold": validation["threshold"],
        "left_out_types": trained.types,
        "columns": rows.names.len(),
        "importance_gain": importance,
    });
    write_json(&model.join("card.json"), &card)?;
    let about = json!({"trained": true, "rounds": trained.rounds, "validation": validation, "provenance": provenance});
    write_json(report, &about)
}

/// Metrics of session scores on validation: ranking by the raw margin, the quality of `p` as a probability.
fn validation_metrics(rows: &Rows, raw: &[f64], p: &[f64]) -> serde_json::Value {
    let (raw, p) = (rows.session_max(raw), rows.session_max(p));
    let known: Vec<(usize, bool)> = (0..rows.ids().len())
        .filter(|&s| rows.split.folds[s] == Fold::Validation)
        .filter_map(|s| Some((s, rows.labels[s]?)))
        .collect();
    let scores: Vec<f64> = known.iter().map(|&(s, _)| raw[s]).collect();
    let labels: Vec<bool> = known.iter().map(|k| k.1).collect();
    let brier = known.iter().map(|&(s, y)| (p[s] - f64::from(u8::from(y))).powi(2)).sum::<f64>();
    let positives = labels.iter().filter(|&&y| y).count() as f64;
    let f1 = |tp: f64, fp: f64| if tp > 0.0 { 2.0 * tp / (tp + fp + positives) } else { 0.0 };
    let best = steps(&scores, &labels, &[]).into_iter().fold(None, |best: Option<(f64, f64)>, step| {
        let f1 = f1(step.tp, step.fp);
        if best.is_none_or(|b| f1 > b.1) { Some((step.threshold, f1)) } else { best }
    });
    let threshold = best.filter(|_| positives > 0.0).map(|b| b.0);
    let confusion = threshold.map(|t| Confusion::at(&scores, &labels, t));
    json!({
        "sessions": known.len(),
        "anomalies": positives,
        "average_precision": average_precision(&scores, &labels),
        "roc_auc": roc_auc(&scores, &labels),
        "brier": if known.is_empty() { None } else { Some(brier / known.len() as f64) },
        "threshold": threshold,
        "f1": confusion.map(|c| c.f_beta(1.0)),
        "precision": confusion.map(|c| c.precision()),
        "recall": confusion.map(|c| c.recall()),
    })
}

/// A trained model as `score` uses it.
pub struct Model {
    booster: sys::Booster,
    /// What the booster was made of: one for each thread.
    text: String,
    calibration: Isotonic,
    keep: Vec<Option<u32>>,
    /// Names of the columns that the model knows.
    names: Vec<String>,
}

impl Model {
    /// Loads a model directory; `None` if it was not trained.
    ///
    /// # Errors
    /// A file is missing or malformed.
    pub fn load(directory: &Path, features: &Features) -> anyhow::Result<Option<Self>> {
        let card: serde_json::Value = read_json(&directory.join("card.json"))?;
        if card["trained"] != true {
            return Ok(None);
        }
        let params: LightgbmParams = serde_json::from_value(card["parameters"].clone())?;
        let (keep, chosen) = features.choose(&params.groups)?;
        let path = directory.join("model.txt");
        let text =
            std::fs::read_to_string(&path).map_err(|e| anyhow::anyhow!("cannot open {}: {e}", path.display()))?;
        Ok(Some(Self {
            booster: sys::Booster::from_text(&text)?,
            text,
            calibration: read_json(&directory.join("calibration.json"))?,
            keep,
            names: chosen.iter().map(|&column| features.names[column].clone()).collect(),
        }))
    }

    /// Returns the raw margin and the calibrated probability of each feature row (all columns of the features).
    ///
    /// # Errors
    /// The library fails.
    pub fn score(&self, rows: &Csr) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
        self.scored(&Repeated::of_rows(&rows.project(&self.keep, self.names.len())))
    }

    /// As [`Model::score`], for a matrix. On the current rayon pool.
    ///
    /// # Errors
    /// The library fails.
    pub fn score_matrix(&self, matrix: &Matrix) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
        self.scored(&matrix.project(&self.keep, self.names.len()))
    }

    fn scored(&self, rows: &Repeated) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
        let raw = self.booster.margins(&rows.distinct)?;
        let p: Vec<f64> = raw.iter().map(|&r| self.calibration.at(r)).collect();
        Ok((rows.spread(&raw), rows.spread(&p)))
    }

    /// Names of the columns that the model knows, as contributions number them.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns what each column adds to the margin of some rows of a matrix, on the current rayon pool: of distinct rows, and which
    /// of these each is. See [`Contributions`].
    ///
    /// # Errors
    /// The library fails.
    pub fn contributions(&self, matrix: &Matrix, rows: &[usize]) -> anyhow::Result<(Contributions, Vec<u32>)> {
        let some = matrix.project(&self.keep, self.names.len()).select(rows.iter().copied());
        Ok((Contributions::of(&self.text, &some.distinct)?, some.of))
    }
}

#[cfg(test)]
mod tests;
