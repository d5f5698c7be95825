//! The `autoencoder` kind: a dense autoencoder of benign feature rows; what it reconstructs badly is unusual.
//!
//! What the network sees is the columns themselves or, with `input: svd`, how far a row reaches along the singular vectors of benign
//! rows. Its output is then turned back into columns, so that the error is always one of columns: also what lies outside of all
//! singular vectors counts, and each column has its part.
//!
//! Trained with burn on distinct benign train rows; inference is a plain kernel over the stored weights, so that a
//! session scores the same alone, in a batch and at any thread count. Scores are referred to benign validation
//! sessions: `z` for display, a conformal rank for fusion, the threshold as a quantile.

mod network;
mod subspace;
pub mod train;

use std::path::Path;

use logweir_engine::stage::{ParamError, Params, Slot, Stage, StageContext, StageKind, make, schema_of};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::featurize::{Features, Group};
use crate::lightgbm::forget_mislabelled;
use crate::support::conformal::{Conformal, quantile};
use crate::support::learning::{Rows, nulls, numbers, read_json, read_to_copy, write_json, write_scores};
use crate::support::matrix::Matrix;
use crate::support::metrics::{average_precision, roc_auc};
use crate::support::provenance::Provenance;
use crate::support::sparse::{Csr, Repeated};
use crate::support::traces::Fold;
use network::Weights;
use subspace::Subspace;

/// The `autoencoder` kind.
pub fn kind() -> StageKind {
    StageKind {
        name: "autoencoder",
        about: "dense autoencoder of benign sessions; threshold from benign validation error",
        version: 1,
        code: crate::code("autoencoder"),
        inputs: const {
            &[
                Slot::directory("features", "the features directory"),
                Slot::file("labels", "sessions.csv; without any label all train sessions count as benign"),
                Slot::file("split", "split.parquet"),
                Slot::file("sessions", "sessions.parquet: adds censored copies of benign train sessions").optional(),
                Slot::file("templates", "templates.csv, needed with `sessions`").optional(),
                Slot::directory(
                    "lgbm",
                    "model directory of `lightgbm`: normal sessions that it takes for mislabelled are left out",
                )
                .optional(),
            ]
        },
        outputs: const {
            &[
                Slot::directory("model", "model.safetensors, scaler.json, card.json, scores.parquet"),
                Slot::file("report", "metrics on validation, JSON"),
            ]
        },
        schema: schema_of::<AutoencoderParams>,
        make: make::<AutoencoderParams, Autoencoder>,
    }
}

/// What the network sees of the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// The columns themselves, scaled and clipped.
    Columns,
    /// How far a row reaches along the first singular vectors of benign train rows.
    Svd,
}

/// Parameters of `autoencoder`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AutoencoderParams {
    /// Seed of weights, order and noise.
    pub seed: u64,
    /// What the network sees: `columns` themselves, or their projection onto the first singular vectors of benign train rows (`svd`).
    pub input: Input,
    /// Groups of feature columns to reconstruct; none: `logcount`, with `input: svd` `tfidf`.
    pub groups: Vec<Group>,
    /// With `input: svd`: how many singular vectors; fewer where the rows have no more.
    pub components: u32,
    /// Sizes of the hidden layers before the bottleneck; mirrored after it.
    pub hidden: Vec<u32>,
    /// Size of the bottleneck.
    pub bottleneck: u32,
    /// Most epochs over the distinct benign train rows.
    pub epochs: u32,
    /// Stop this many epochs after the best error on benign validation.
    pub patience: u32,
    /// Rows in a batch.
    pub batch: u32,
    /// An epoch has at least this many batches; few distinct rows are passed over several times.
    pub min_batches: u32,
    /// Step size of Adam.
    pub learning_rate: f64,
    /// Share of values set to 0 in a training row (denoising); 0 for none.
    pub noise: f64,
    /// Values are divided by their benign standard deviation, but by no less than this.
    pub scale_floor: f64,
    /// Scaled values are clipped to this distance from the centre.
    pub clip: f64,
    /// Threshold: this quantile of benign validation errors.
    pub threshold: f64,
    /// Censored copies of each distinct benign train session, cut at even shares of its duration; 0 for none. Needs
    /// the inputs `sessions` and `templates`.
    pub censored_copies: u32,
}

impl Default for AutoencoderParams {
    fn default() -> Self {
        Self {
            seed: 42,
            input: Input::Columns,
            groups: Vec::new(),
            components: 32,
            hidden: vec![64],
            bottleneck: 12,
            epochs: 80,
            patience: 12,
            batch: 64,
            min_batches: 32,
            learning_rate: 0.002,
            noise: 0.0,
            scale_floor: 0.1,
            clip: 20.0,
            threshold: 0.995,
            censored_copies: 2,
        }
    }
}

impl Params for AutoencoderParams {
    fn check(&self) -> Vec<ParamError> {
        let mut errors = Vec::new();
        let mut require = |ok: bool, path: &str, message: &str| {
            if !ok {
                errors.push(ParamError::new(path, message));
            }
        };
        require((1..=256).contains(&self.components), "components", "must be between 1 and 256");
        require(self.hidden.iter().all(|&h| (1..=4096).contains(&h)), "hidden", "sizes must be between 1 and 4096");
        require((1..=1024).contains(&self.bottleneck), "bottleneck", "must be between 1 and 1024");
        require(self.epochs > 0, "epochs", "must be at least 1");
        require(self.patience > 0, "patience", "must be at least 1");
        require(self.batch > 0, "batch", "must be at least 1");
        require(self.min_batches > 0, "min_batches", "must be at least 1");
        require(self.learning_rate > 0.0 && self.learning_rate <= 1.0, "learning_rate", "must be in (0, 1]");
        require((0.0..1.0).contains(&self.noise), "noise", "must be in [0, 1)");
        require(self.scale_floor > 0.0 && self.scale_floor.is_finite(), "scale_floor", "must be above 0");
        require(self.clip > 0.0 && self.clip.is_finite(), "clip", "must be above 0");
        require(self.threshold > 0.5 && self.threshold < 1.0, "threshold", "must be a quantile in (0.5, 1)");
        require(self.censored_copies <= 16, "censored_copies", "must be at most 16");
        errors
    }
}

impl AutoencoderParams {
    /// Groups of the columns that are reconstructed.
    pub fn columns(&self) -> &[Group] {
        match self.input {
            _ if !self.groups.is_empty() => &self.groups,
            Input::Columns => &[Group::Logcount],
            Input::Svd => &[Group::Tfidf],
        }
    }
}

/// The stage.
pub struct Autoencoder(AutoencoderParams);

impl From<AutoencoderParams> for Autoencoder {
    fn from(params: AutoencoderParams) -> Self {
        Self(params)
    }
}

impl Stage for Autoencoder {
    fn run(&self, cx: &StageContext<'_>) -> anyhow::Result<()> {
        let features = cx.input("features")?;
        let read = || Rows::read(features, cx.input("labels")?, cx.input("split")?, self.0.columns());
        let mut rows = cx.in_pool(read)??;
        let doubted = forget_mislabelled(cx.optional("lgbm"), &rows.origins.ids, &mut rows.labels, &rows.split)?;
        let (model, report) = (cx.output("model")?, cx.output("report")?);
        let provenance = Provenance::of(cx, "autoencoder");
        let Some(benign) = benign_label(&rows) else {
            let why = "no train session is labelled normal, and none is unlabelled";
            cx.warn(format!("the autoencoder is not trained: {why}"));
            let n = rows.rows.len();
            let columns = ["error", "z", "bounded"].map(|name| nulls(name, n));
            write_scores(&model.join("scores.parquet"), &rows.origins, columns.to_vec())?;
            write_json(&model.join("card.json"), &json!({"trained": false, "why_not": why, "parameters": self.0}))?;
            return write_json(report, &json!({"trained": false, "why_not": why, "provenance": provenance}));
        };
        let traces = match (cx.optional("sessions"), cx.optional("templates")) {
            (Some(sessions), Some(templates)) if self.0.censored_copies > 0 => {
                Some(cx.in_pool(|| read_to_copy(features, sessions, templates))??)
            }
            _ => None,
        };
        let trained = train::train(cx, &self.0, features, &rows, benign, traces)?;
        trained.weights.write(&model.join("model.safetensors"))?;
        if let Some(svd) = &trained.svd {
            svd.subspace.write(&model.join(SVD))?;
        }
        // What is scored is what was stored: the files hold all there is to know.
        let judge = Judge::read(model, self.0.input, trained.scaler)?;
        let error = cx.in_pool(|| judge.errors(&rows.rows))?;
        let session_error = rows.session_max(&error);
        let reference_fold = if sessions_of(&rows, Fold::Validation, benign).is_empty() {
            cx.warn("validation holds no benign session: the error is referred to benign train sessions");
            Fold::Train
        } else {
            Fold::Validation
        };
        let mut reference: Vec<f64> =
            sessions_of(&rows, reference_fold, benign).iter().map(|&s| session_error[s]).collect();
        reference.sort_unstable_by(f64::total_cmp);
        let conformal = Conformal::fit(&reference)
            .ok_or_else(|| anyhow::anyhow!("the error of a benign session is not finite: training diverged"))?;
        let threshold = quantile(&reference, self.0.threshold);
        let columns = vec![
            numbers("error", &error),
            numbers("z", &error.iter().map(|&e| conformal.z(e)).collect::<Vec<_>>()),
            numbers("bounded", &error.iter().map(|&e| conformal.rank(e)).collect::<Vec<_>>()),
        ];
        write_scores(&model.join("scores.parquet"), &rows.origins, columns)?;
        let layers = judge.weights.shape();
        let scaler = Scaler { names: rows.names.clone(), reference: conformal, ..judge.scaler };
        write_json(&model.join("scaler.json"), &scaler)?;
        let train = sessions_of(&rows, Fold::Train, benign);
        let mut card = json!({
            "trained": true,
            "parameters": self.0,
            "training": {
                "rows": rows.of(Fold::Train).len(), "sessions": train.len(), "anomalies": 0,
                "distinct_rows": trained.distinct, "censored_copies": trained.copies,
                "labels": if benign.is_some() { "only sessions labelled normal" } else { "none: all train sessions" },
            },
            "layers": layers,
            "epochs": trained.curve.len(),
            "best_epoch": trained.best,
            "validation_error_by_epoch": trained.curve,
            "threshold": threshold,
            "reference_fold": reference_fold.name(),
            "left_out_as_mislabelled": doubted,
        });
        if let Some(svd) = &trained.svd {
            card["svd"] = json!({
                "components": svd.subspace.components(), "columns": svd.subspace.columns(), "singular_values": svd.singular,
                "share_of_squared_length": svd.share,
            });
        }
        write_json(&model.join("card.json"), &card)?;
        let mut about = validation_report(&rows, &session_error, threshold, self.0.threshold, &reference);
        about["provenance"] = json!(provenance);
        write_json(report, &about)
    }
}

/// The label that means benign: `Some(false)`, or `None` where no train session is labelled normal but some are
/// unlabelled. Outer `None`: there is nothing benign to learn from.
fn benign_label(rows: &Rows) -> Option<Option<bool>> {
    [Some(false), None].into_iter().find(|&label| !sessions_of(rows, Fold::Train, label).is_empty())
}

fn sessions_of(rows: &Rows, fold: Fold, label: Option<bool>) -> Vec<usize> {
    (0..rows.ids().len()).filter(|&s| rows.split.folds[s] == fold && rows.labels[s] == label).collect()
}

fn validation_report(
    rows: &Rows,
    error: &[f64],
    threshold: f64,
    intended: f64,
    reference: &[f64],
) -> serde_json::Value {
    let known: Vec<(f64, bool)> = (0..rows.ids().len())
        .filter(|&s| rows.split.folds[s] == Fold::Validation)
        .filter_map(|s| Some((error[s], rows.labels[s]?)))
        .collect();
    let (scores, labels): (Vec<f64>, Vec<bool>) = known.into_iter().unzip();
    let flagged = |label: bool| {
        let of: Vec<f64> = scores.iter().zip(&labels).filter(|(_, l)| **l == label).map(|(s, _)| *s).collect();
        let above = of.iter().filter(|&&s| s >= threshold).count();
        if of.is_empty() { None } else { Some(above as f64 / of.len() as f64) }
    };
    json!({
        "trained": true,
        "validation": {
            "sessions": scores.len(),
            "average_precision": average_precision(&scores, &labels),
            "roc_auc": roc_auc(&scores, &labels),
            "threshold": threshold,
            "intended_fpr": 1.0 - intended,
            "fpr": flagged(false),
            "recall": flagged(true),
            "benign_error": {
                "p50": quantile(reference, 0.5), "p90": quantile(reference, 0.9), "p99": quantile(reference, 0.99),
                "max": quantile(reference, 1.0),
            },
        },
    })
}

/// How inputs of the network are centred and scaled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    /// Benign mean of each.
    pub centre: Vec<f32>,
    /// Divisor of each.
    pub scale: Vec<f32>,
}

/// What turns features into inputs of the network, and errors into ranks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaler {
    /// Names of the columns.
    pub names: Vec<String>,
    /// Benign mean of each column.
    pub centre: Vec<f32>,
    /// Divisor of each column.
    pub scale: Vec<f32>,
    /// Largest distance from the centre after scaling.
    pub clip: f32,
    /// With `input: svd`: the same of what the network sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub components: Option<Moments>,
    /// Errors of benign validation sessions.
    pub reference: Conformal,
}

impl Scaler {
    /// Writes a sparse row as a dense, scaled and clipped input.
    fn input(&self, pairs: impl Iterator<Item = (u32, f32)>, out: &mut [f32]) {
        out.fill(0.0);
        for (index, value) in pairs {
            out[index as usize] = value;
        }
        for ((x, centre), scale) in out.iter_mut().zip(&self.centre).zip(&self.scale) {
            *x = ((*x - centre) / scale).clamp(-self.clip, self.clip);
        }
    }
}

/// The file of singular vectors in a model directory.
const SVD: &str = "svd.safetensors";

/// The network with what turns columns into its inputs, and its outputs into columns.
struct Judge {
    weights: Weights,
    scaler: Scaler,
    /// With `input: svd`, beside [`Scaler::components`].
    subspace: Option<Subspace>,
}

/// Reused from row to row.
#[derive(Default)]
struct Buffers {
    dense: Vec<f32>,
    along: Vec<f32>,
    parts: Vec<f64>,
    network: network::Buffers,
}

impl Judge {
    fn read(directory: &Path, input: Input, scaler: Scaler) -> anyhow::Result<Self> {
        let weights = Weights::read(&directory.join("model.safetensors"))?;
        let subspace = match input {
            Input::Columns => None,
            Input::Svd => Some(Subspace::read(&directory.join(SVD))?),
        };
        let columns = scaler.centre.len();
        let (inputs, fits) = match (&subspace, &scaler.components) {
            (None, _) => (columns, true),
            (Some(subspace), Some(moments)) => {
                let inputs = subspace.components();
                (
                    inputs,
                    subspace.columns() == columns && moments.centre.len() == inputs && moments.scale.len() == inputs,
                )
            }
            (Some(_), None) => (columns, false),
        };
        anyhow::ensure!(
            fits && scaler.scale.len() == columns && weights.columns() == inputs,
            "the files of {} do not fit each other",
            directory.display()
        );
        Ok(Self { weights, scaler, subspace })
    }

    /// Mean squared error of a row.
    fn error(&self, pairs: impl Iterator<Item = (u32, f32)> + Clone, buffers: &mut Buffers) -> f64 {
        if self.subspace.is_some() {
            self.parts_by_svd(pairs, buffers);
            return buffers.parts.iter().sum();
        }
        buffers.dense.resize(self.scaler.centre.len(), 0.0);
        self.scaler.input(pairs, &mut buffers.dense);
        self.weights.error(&buffers.dense, &mut buffers.network)
    }

    /// What each column adds to [`Judge::error`]; their sum is that up to rounding.
    fn residuals(&self, pairs: impl Iterator<Item = (u32, f32)> + Clone, buffers: &mut Buffers) -> Vec<f64> {
        if self.subspace.is_some() {
            self.parts_by_svd(pairs, buffers);
            return buffers.parts.clone();
        }
        buffers.dense.resize(self.scaler.centre.len(), 0.0);
        self.scaler.input(pairs, &mut buffers.dense);
        self.weights.residuals(&buffers.dense, &mut buffers.network)
    }

    /// Leaves the parts of the columns in `buffers.parts`: along the singular vectors, through the network, and back to columns,
    /// where the difference is scaled and clipped as columns are.
    fn parts_by_svd(&self, pairs: impl Iterator<Item = (u32, f32)> + Clone, buffers: &mut Buffers) {
        let Buffers { dense, along, parts, network } = buffers;
        let (subspace, moments) =
            self.subspace.as_ref().zip(self.scaler.components.as_ref()).expect("checked when read");
        let Scaler { scale, clip, .. } = &self.scaler;
        subspace.along(pairs.clone(), along);
        for ((x, centre), scale) in along.iter_mut().zip(&moments.centre).zip(&moments.scale) {
            *x = ((*x - centre) / scale).clamp(-clip, *clip);
        }
        let output = self.weights.output(along, network);
        along.clear();
        along.extend(
            output.iter().zip(&moments.centre).zip(&moments.scale).map(|((x, centre), scale)| x * scale + centre),
        );
        dense.clear();
        dense.resize(scale.len(), 0.0);
        pairs.for_each(|(index, value)| dense[index as usize] = value);
        parts.clear();
        parts.extend(dense.iter().zip(scale).enumerate().map(|(column, (&value, &scale))| {
            let difference = (f64::from(value) - subspace.column(column, along)) / f64::from(scale);
            difference.clamp(-f64::from(*clip), f64::from(*clip)).powi(2) / dense.len() as f64
        }));
    }

    /// Mean squared error of each row, on the current rayon pool; equal rows are computed once, each by itself.
    fn errors(&self, rows: &Repeated) -> Vec<f64> {
        let of_row = |buffers: &mut Buffers, row: usize| self.error(rows.distinct.pairs(row), buffers);
        let of_distinct: Vec<f64> =
            (0..rows.distinct.len()).into_par_iter().map_init(Buffers::default, of_row).collect();
        rows.spread(&of_distinct)
    }
}

/// Scores of the autoencoder, by row.
pub struct Scores {
    /// Mean squared error.
    pub error: Vec<f64>,
    /// Standard deviations above the benign mean.
    pub z: Vec<f64>,
    /// Conformal rank in [0, 1].
    pub bounded: Vec<f64>,
}

/// A trained model as `score` uses it.
pub struct Model {
    judge: Judge,
    keep: Vec<Option<u32>>,
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
        let params: AutoencoderParams = serde_json::from_value(card["parameters"].clone())?;
        let (keep, chosen) = features.choose(params.columns())?;
        let judge = Judge::read(directory, params.input, read_json(&directory.join("scaler.json"))?)?;
        let columns = judge.scaler.centre.len();
        anyhow::ensure!(
            columns == chosen.len(),
            "{} was trained on {columns} columns, the features have {}",
            directory.display(),
            chosen.len()
        );
        Ok(Some(Self { judge, keep }))
    }

    /// Number of columns that the model knows.
    fn columns(&self) -> usize {
        self.judge.scaler.centre.len()
    }

    /// Scores feature rows (all columns of the features) on the current rayon pool.
    pub fn score(&self, rows: &Csr) -> Scores {
        self.scored(&Repeated::of_rows(&rows.project(&self.keep, self.columns())))
    }

    /// As [`Model::score`], for a matrix.
    pub fn score_matrix(&self, matrix: &Matrix) -> Scores {
        self.scored(&matrix.project(&self.keep, self.columns()))
    }

    fn scored(&self, rows: &Repeated) -> Scores {
        let error = self.judge.errors(rows);
        let reference = &self.judge.scaler.reference;
        let z = error.iter().map(|&e| reference.z(e)).collect();
        let bounded = error.iter().map(|&e| reference.rank(e)).collect();
        Scores { error, z, bounded }
    }

    /// Names of the columns that the model knows, as residuals number them.
    pub fn names(&self) -> &[String] {
        &self.judge.scaler.names
    }

    /// Returns what each column adds to the error of each feature row (all columns of the features), on the current rayon
    /// pool: `[rows][columns]`, not negative, the sum of a row is its error up to rounding.
    pub fn residuals(&self, rows: &Csr) -> Vec<Vec<f64>> {
        self.residuals_of(&rows.project(&self.keep, self.columns()))
    }

    /// As [`Model::residuals`] for some rows of a matrix: of distinct rows, and which of these each is.
    pub fn residuals_of_matrix(&self, matrix: &Matrix, rows: &[usize]) -> (Vec<Vec<f64>>, Vec<u32>) {
        let some = matrix.project(&self.keep, self.columns()).select(rows.iter().copied());
        (self.residuals_of(&some.distinct), some.of)
    }

    fn residuals_of(&self, rows: &Csr) -> Vec<Vec<f64>> {
        let of_row = |buffers: &mut Buffers, row: usize| self.judge.residuals(rows.pairs(row), buffers);
        (0..rows.len()).into_par_iter().map_init(Buffers::default, of_row).collect()
    }
}

#[cfg(test)]
mod tests;
