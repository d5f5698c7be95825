//! `split`: which sessions train, validate and test.
//!
//! | method | folds |
//! |---|---|
//! | `chronological` | by start: the first `train`, then `validation`, the rest is test |
//! | `random` | each class (anomalous, normal, unlabelled) shuffled by `seed` and cut in these shares |
//! | `rolling` | by start: the first `first` of all sessions, and `origins` + 1 windows of equal size after them; origin k (from 0) trains on everything before window k, validates on window k, tests on window k + 1; what is later is `unused` |
//!
//! With `without_type` the anomalies of one type leave train and validation (`unused`) and stay in test: how a detector
//! meets what it was never shown.
//!
//! Cuts count sessions. A session that spans a cut belongs where it starts; sessions are in order of start and key.
//!
//! A train session's `block` (0 to 4) follows from its sequence of events alone, so that equal sequences share a block
//! and a model scored out of its block has not seen them.

use std::path::Path;

use anyhow::{Context as _, bail};
use logweir_engine::stage::{ParamError, Params, Slot, Stage, StageContext, StageKind, make, schema_of};
use polars::prelude::{Column, DataFrame, NamedFrom, Series};
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::support::repeats::Distinct;
use crate::support::table::write_parquet;
use crate::support::traces::{Events, read_types};

/// How many cross-fitting blocks the train sessions have.
pub const BLOCKS: u32 = 5;

/// Returns the kind.
pub fn kind() -> StageKind {
    StageKind {
        name: "split",
        about: "train, validation and test: chronological, random stratified or rolling origin",
        version: 1,
        code: crate::code("split"),
        inputs: const {
            &[
                Slot::file("sessions", "sessions.parquet"),
                Slot::file("labels", "session_id,label: for strata and warnings").optional(),
                Slot::file("types", "types.csv, for `without_type`").optional(),
            ]
        },
        outputs: const { &[Slot::file("split", "session_id, fold, block")] },
        schema: schema_of::<SplitParams>,
        make: make::<SplitParams, Split>,
    }
}

/// How sessions are split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// By start.
    #[default]
    Chronological,
    /// Shuffled within each class.
    Random,
    /// By start, with an expanding train window.
    Rolling,
}

/// Parameters of `split`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SplitParams {
    /// `chronological`, `random` or `rolling`.
    pub method: Method,
    /// Share of the train fold (not `rolling`).
    pub train: f64,
    /// Share of the validation fold (not `rolling`); the rest is test.
    pub validation: f64,
    /// For `random`: the seed of the shuffle.
    pub seed: u64,
    /// For `rolling`: share of sessions before the first window.
    pub first: f64,
    /// For `rolling`: how many origins there are.
    pub origins: u32,
    /// For `rolling`: which of them this is, from 0.
    pub origin: u32,
    /// A type of anomaly that train and validation must not have; unset: none. Needs the input `types`.
    pub without_type: Option<String>,
}

impl Default for SplitParams {
    fn default() -> Self {
        Self {
            method: Method::Chronological,
            train: 0.6,
            validation: 0.2,
            seed: 42,
            first: 0.4,
            origins: 3,
            origin: 0,
            without_type: None,
        }
    }
}

impl Params for SplitParams {
    fn check(&self) -> Vec<ParamError> {
        let mut errors = Vec::new();
        for (name, share) in [("train", self.train), ("validation", self.validation), ("first", self.first)] {
            if !(share > 0.0 && share < 1.0) {
                errors.push(ParamError::new(name, "must be above 0 and below 1"));
            }
        }
        if self.train + self.validation >= 1.0 {
            errors.push(
                ParamError::new("validation", "leaves nothing for test").help("train + validation must be below 1"),
            );
        }
        if self.origins == 0 {
            errors.push(ParamError::new("origins", "must be at least 1"));
        } else if self.origin >= self.origins {
            let help = format!("0 to {}", self.origins - 1);
            errors.push(ParamError::new("origin", "is not among the origins, which count from 0").help(help));
        }
        errors
    }
}

/// Where a session belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fold {
    /// Models are fitted on these.
    Train,
    /// Thresholds, early stopping and calibration use these.
    Validation,
    /// Reported on.
    Test,
    /// Later than this origin's test window.
    Unused,
}

impl Fold {
    /// Returns the name in `split.parquet`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
            Self::Unused => "unused",
        }
    }
}

impl SplitParams {
    /// Returns the fold of each session, given in order of start; `labels` as long, `None` for unknown.
    pub fn folds(&self, labels: &[Option<bool>]) -> Vec<Fold> {
        let n = labels.len();
        let by_cuts = |cuts: [usize; 3]| {
            let fold = |i| match i {
                i if i < cuts[0] => Fold::Train,
                i if i < cuts[1] => Fold::Validation,
                i if i < cuts[2] => Fold::Test,
                _ => Fold::Unused,
            };
            (0..n).map(fold).collect::<Vec<_>>()
        };
        match self.method {
            Method::Chronological => by_cuts([cut(n, self.train), cut(n, self.train + self.validation), n]),
            Method::Rolling => {
                let window = (1.0 - self.first) / f64::from(self.origins + 1);
                let at = |windows: u32| cut(n, self.first + f64::from(windows) * window);
                by_cuts([at(self.origin), at(self.origin + 1), at(self.origin + 2)])
            }
            Method::Random => {
                let mut folds = vec![Fold::Test; n];
                let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
                for class in [Some(true), Some(false), None] {
                    let mut rows: Vec<usize> = (0..n).filter(|&i| labels[i] == class).collect();
                    rows.shuffle(&mut rng);
                    let (a, b) = (cut(rows.len(), self.train), cut(rows.len(), self.train + self.validation));
                    for (place, row) in rows.into_iter().enumerate() {
                        folds[row] = if place < a {
                            Fold::Train
                        } else if place < b {
                            Fold::Validation
                        } else {
                            Fold::Test
                        };
                    }
                }
                folds
            }
        }
    }
}

/// Returns how many of `n` a share is, rounded; a whisker absorbs the error of sums such as .6 + .2.
fn cut(n: usize, share: f64) -> usize {
    ((n as f64 * share + 1e-9).round() as usize).min(n)
}

/// Returns the cross-fitting block of a sequence of template numbers.
pub fn block(events: &[u32]) -> u32 {
    let mut hasher = blake3::Hasher::new_derive_key("logweir cross-fitting block v1");
    for event in events {
        hasher.update(&event.to_le_bytes());
    }
    let bytes = hasher.finalize();
    let head: [u8; 4] = bytes.as_bytes()[..4].try_into().expect("a digest has 32 bytes");
    u32::from_le_bytes(head) % BLOCKS
}

/// The stage.
struct Split {
    params: SplitParams,
}

impl From<SplitParams> for Split {
    fn from(params: SplitParams) -> Self {
        Self { params }
    }
}

impl Stage for Split {
    fn run(&self, cx: &StageContext<'_>) -> anyhow::Result<()> {
        let sessions = cx.in_pool(|| Events::read(cx.input("sessions")?))??;
        let ids: Vec<&str> = sessions.ids.iter().map(String::as_str).collect();
        let labels = match cx.optional("labels") {
            Some(path) => read_labels(path, &ids)?,
            None => vec![None; ids.len()],
        };
        let mut folds = self.params.folds(&labels);
        if let Some(kind) = &self.params.without_type {
            let types = read_types(cx.optional("types").context("`without_type` needs the input slot `types`")?)?;
            let rows: Vec<usize> = (0..ids.len()).filter(|&row| types.get(ids[row]) == Some(kind)).collect();
            if rows.is_empty() {
                cx.warn(format!("no session is of type `{kind}`: nothing is left out"));
            }
            for row in rows {
                if folds[row] != Fold::Test {
                    folds[row] = Fold::Unused;
                }
            }
        }
        let empty = |fold| !folds.contains(&fold);
        for fold in [Fold::Train, Fold::Validation, Fold::Test] {
            if empty(fold) {
                bail!(
                    "the {} fold of {} sessions is empty (hint: more sessions, or other shares in `with`)",
                    fold.name(),
                    ids.len()
                );
            }
        }
        for warning in warnings(&folds, &labels) {
            cx.warn(warning);
        }
        let sequences = Distinct::of_slices(&sessions.offsets, &sessions.events);
        let of_sequences: Vec<u32> = sequences.first.iter().map(|&row| block(sessions.of(row))).collect();
        let blocks = folds.iter().zip(&sequences.groups).map(|(fold, &sequence)| match fold {
            Fold::Train => of_sequences[sequence as usize],
            _ => 0,
        });
        let blocks: Vec<u32> = blocks.collect();
        let names: Vec<&str> = folds.iter().map(|f| f.name()).collect();
        let mut out = DataFrame::new_infer_height(vec![
            Column::from(Series::new("session_id".into(), ids)),
            Column::from(Series::new("fold".into(), names)),
            Column::from(Series::new("block".into(), blocks)),
        ])?;
        write_parquet(cx.output("split")?, &mut out)
    }
}

/// Returns what later stages will stumble over.
fn warnings(folds: &[Fold], labels: &[Option<bool>]) -> Vec<String> {
    if labels.iter().all(Option::is_none) {
        return Vec::new();
    }
    let mut warnings = Vec::new();
    for fold in [Fold::Train, Fold::Validation, Fold::Test] {
        let count = |class| folds.iter().zip(labels).filter(|(f, l)| **f == fold && **l == Some(class)).count();
        let (anomalous, normal) = (count(true), count(false));
        if anomalous == 0 || normal == 0 {
            let which = if anomalous == 0 { "anomalous" } else { "normal" };
            warnings.push(format!("the {} fold has no {which} session", fold.name()));
        }
    }
    warnings
}

/// Reads `session_id,label,…`, which must have the sessions in the given order.
fn read_labels(path: &Path, ids: &[&str]) -> anyhow::Result<Vec<Option<bool>>> {
    let context = || format!("cannot read labels {}", path.display());
    let mut labels = Vec::with_capacity(ids.len());
    let mut reader = csv::Reader::from_path(path).with_context(context)?;
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).with_context(context)? {
        let row = labels.len();
        if ids.get(row).copied() != record.get(0) {
            bail!("{} row {}: session `{}` does not follow sessions.parquet", path.display(), row + 1, &record[0]);
        }
        labels.push(match record.get(1) {
            Some("1") => Some(true),
            Some("0") => Some(false),
            _ => None,
        });
    }
    if labels.len() != ids.len() {
        bail!("{} has {} rows for {} sessions", path.display(), labels.len(), ids.len());
    }
    Ok(labels)
}

#[cfg(test)]
mod tests;
