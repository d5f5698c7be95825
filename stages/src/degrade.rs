//! `degrade`: the same sessions with less to go by: few labels, wrong labels, only the beginnings of sessions.
//!
//! For studies of how detection holds up; a pipeline that is used has no such stage. It lies between `split` and
//! `featurize`. Test labels are never touched, so that results are judged by the truth.
//!
//! - `anomalies: n` keeps the labels of n anomalies of train and validation together, drawn by `seed` with each fold in its
//!   share. All others there become unlabelled, and are nobody's example, neither anomalous nor normal. Normal sessions
//!   keep their labels.
//! - `flipped: x` turns that share of the labels of train and validation around, of each class alike.
//! - `seen: x` leaves the first part of the events of each session (rounded up, at least one) in the folds `cut`. Such a
//!   session counts as still open, looked at in the moment of its last event (column `until`): whoever scores it does not
//!   know whether it goes on.

use std::path::Path;

use anyhow::Context as _;
use logweir_engine::stage::{ParamError, Params, Slot, Stage, StageContext, StageKind, make, schema_of};
use polars::prelude::{Column, DataFrame, DataType, Int64Type, UInt32Type, UInt64Type};
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::support::table::{list_column, lists, read_parquet, write_parquet};
use crate::support::traces::{Fold, read_labels, read_split, strings};

/// Returns the kind.
pub fn kind() -> StageKind {
    StageKind {
        name: "degrade",
        about: "few labels, wrong labels or only beginnings of sessions, for studies",
        version: 1,
        code: crate::code("degrade"),
        inputs: const {
            &[
                Slot::file("sessions", "sessions.parquet"),
                Slot::file("labels", "sessions.csv"),
                Slot::file("split", "split.parquet"),
            ]
        },
        outputs: const {
            &[
                Slot::file("sessions", "sessions.parquet with `until` where `seen` is below 1"),
                Slot::file("labels", "sessions.csv"),
                Slot::file("split", "split.parquet as it came in: all that a cell of a study needs in one folder")
                    .optional(),
            ]
        },
        schema: schema_of::<DegradeParams>,
        make: make::<DegradeParams, Degrade>,
    }
}

/// A fold whose sessions are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CutFold {
    /// What models are fitted on.
    Train,
    /// What thresholds are chosen on.
    Validation,
    /// What is reported on.
    Test,
}

/// Parameters of `degrade`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DegradeParams {
    /// How many anomalies of train and validation stay labelled; unset: all.
    pub anomalies: Option<u32>,
    /// Share of train and validation labels that are turned around.
    pub flipped: f64,
    /// Share of the events of a session that is seen.
    pub seen: f64,
    /// Folds in which sessions are cut to `seen`.
    pub cut: Vec<CutFold>,
    /// Seed of what is drawn.
    pub seed: u64,
}

impl Default for DegradeParams {
    fn default() -> Self {
        let cut = vec![CutFold::Train, CutFold::Validation, CutFold::Test];
        Self { anomalies: None, flipped: 0.0, seen: 1.0, cut, seed: 42 }
    }
}

impl Params for DegradeParams {
    fn check(&self) -> Vec<ParamError> {
        let mut errors = Vec::new();
        if !(0.0..1.0).contains(&self.flipped) {
            errors.push(ParamError::new("flipped", "must be at least 0 and below 1"));
        }
        if !(self.seen > 0.0 && self.seen <= 1.0) {
            errors.push(ParamError::new("seen", "must be above 0 and at most 1"));
        }
        errors
    }
}

/// The stage.
struct Degrade(DegradeParams);

impl From<DegradeParams> for Degrade {
    fn from(params: DegradeParams) -> Self {
        Self(params)
    }
}

impl Stage for Degrade {
    fn run(&self, cx: &StageContext<'_>) -> anyhow::Result<()> {
        let mut frame = read_parquet(cx.input("sessions")?, None)?;
        let ids = strings(&frame, "session_id")?;
        let path = cx.input("labels")?;
        let labels = read_labels(path, &ids)?;
        let folds = read_split(cx.input("split")?, &ids)?.folds;
        if self.0.seen < 1.0 {
            let cut = |fold| {
                let named = match fold {
                    Fold::Train => CutFold::Train,
                    Fold::Validation => CutFold::Validation,
                    Fold::Test => CutFold::Test,
                    Fold::Unused => return false,
                };
                self.0.cut.contains(&named)
            };
            shorten(&mut frame, self.0.seen, &folds.iter().map(|&fold| cut(fold)).collect::<Vec<_>>())?;
        }
        write_parquet(cx.output("sessions")?, &mut frame)?;
        if let Some(path) = cx.optional_output("split") {
            std::fs::copy(cx.input("split")?, path).with_context(|| format!("cannot write {}", path.display()))?;
        }
        let labels = self.0.labels(&labels, &folds);
        relabel(path, cx.output("labels")?, &labels)
    }
}

impl DegradeParams {
    /// Returns the labels as models get to see them.
    fn labels(&self, labels: &[Option<bool>], folds: &[Fold]) -> Vec<Option<bool>> {
        let mut out = labels.to_vec();
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        let mut drawn = |fold: Fold, class: bool| {
            let mut rows: Vec<usize> =
                (0..labels.len()).filter(|&row| folds[row] == fold && labels[row] == Some(class)).collect();
            rows.shuffle(&mut random);
            rows
        };
        if let Some(kept) = self.anomalies {
            let (train, validation) = (drawn(Fold::Train, true), drawn(Fold::Validation, true));
            let share = train.len() as f64 / (train.len() + validation.len()).max(1) as f64;
            let of_train = ((f64::from(kept) * share).round() as usize).min(train.len());
            let of_validation = (kept as usize).saturating_sub(of_train);
            for &row in train.iter().skip(of_train).chain(validation.iter().skip(of_validation)) {
                out[row] = None;
            }
        }
        if self.flipped > 0.0 {
            for (fold, class) in [Fold::Train, Fold::Validation].into_iter().flat_map(|f| [(f, false), (f, true)]) {
                let rows = drawn(fold, class);
                let n = (rows.len() as f64 * self.flipped).round() as usize;
                for &row in rows.iter().take(n).filter(|&&row| labels[row].is_some()) {
                    out[row] = out[row].map(|label| !label);
                }
            }
        }
        out
    }
}

/// Cuts the sessions that `cut` names to the first `seen` of their events.
fn shorten(frame: &mut DataFrame, seen: f64, cut: &[bool]) -> anyhow::Result<()> {
    let (offsets, events) = lists::<UInt32Type>(frame, "events")?;
    let (_, gaps) = lists::<Int64Type>(frame, "gaps")?;
    let (_, lines) = lists::<UInt64Type>(frame, "lines")?;
    let micros = |name: &str| -> anyhow::Result<Vec<i64>> {
        let column = frame.column(name)?.cast(&DataType::Int64)?;
        column.i64()?.iter().map(|t| t.with_context(|| format!("null in column `{name}`"))).collect()
    };
    let (start, mut end) = (micros("start")?, micros("end")?);
    let horizon = end.iter().copied().max().unwrap_or(0);
    let mut until = if frame.column("until").is_ok() { micros("until")? } else { vec![horizon; end.len()] };
    let mut censored: Vec<bool> = frame.column("censored")?.bool()?.iter().map(|c| c == Some(true)).collect();
    let mut kept = vec![0];
    let (mut e, mut g, mut l) = (Vec::new(), Vec::new(), Vec::new());
    for row in 0..cut.len() {
        let from = offsets[row];
        let mut to = offsets[row + 1];
        if cut[row] {
            let n = ((to - from) as f64 * seen - 1e-9).ceil().max(1.0) as usize;
            to = to.min(from + n);
            end[row] = start[row] + gaps[from..to].iter().sum::<i64>() * 1000;
            until[row] = end[row];
            censored[row] = true;
        }
        e.extend_from_slice(&events[from..to]);
        g.extend_from_slice(&gaps[from..to]);
        l.extend_from_slice(&lines[from..to]);
        kept.push(e.len());
    }
    for column in [
        crate::fusion::time_column("end", &end)?,
        list_column::<UInt32Type>("events", &kept, &e),
        list_column::<Int64Type>("gaps", &kept, &g),
        list_column::<UInt64Type>("lines", &kept, &l),
        Column::new("censored".into(), censored),
        crate::fusion::time_column("until", &until)?,
    ] {
        frame.with_column(column)?;
    }
    Ok(())
}

/// Copies `sessions.csv` with other labels.
fn relabel(from: &Path, to: &Path, labels: &[Option<bool>]) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", to.display());
    let mut reader = csv::Reader::from_path(from).with_context(|| format!("cannot read {}", from.display()))?;
    let mut out = csv::Writer::from_path(to).with_context(context)?;
    out.write_record(reader.headers()?).with_context(context)?;
    for (record, label) in reader.records().zip(labels) {
        let record = record.with_context(|| format!("cannot read {}", from.display()))?;
        let label = label.map_or("", |anomalous| if anomalous { "1" } else { "0" });
        out.write_record(record.iter().enumerate().map(|(i, field)| if i == 1 { label } else { field }))
            .with_context(context)?;
    }
    out.flush().with_context(context)
}

#[cfg(test)]
mod tests;
