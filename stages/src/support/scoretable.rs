//! The table of scores (`data/processed/scores.parquet`) as the stages after fusion read it.
//!
//! Owns: reading and checking it. Every number is finite or absent when it leaves here: a NaN or an infinite score is an
//! error that names the row, its session and the column.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use polars::prelude::{Column, DataFrame, DataType, TimeUnit};

use crate::support::table;

/// What a session was used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fold {
    /// Models were fitted on it.
    Train,
    /// Thresholds were chosen on it.
    Validation,
    /// Reported on.
    Test,
    /// None of these (later than the test window of a rolling origin).
    Unused,
}

impl Fold {
    /// Returns the fold of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "train" => Self::Train,
            "validation" => Self::Validation,
            "test" => Self::Test,
            "unused" => Self::Unused,
            _ => return None,
        })
    }

    /// Returns the name used in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
            Self::Unused => "unused",
        }
    }
}

/// The models of the table in the order of reports: name, column of the raw score, what people read.
pub const MODELS: [(&str, &str, &str); 4] = [
    ("lgbm", "lgbm", "LightGBM"),
    ("ae", "ae", "Autoencoder"),
    ("profile", "profile", "Benign profile"),
    ("fusion", "fusion", "Fusion"),
];

/// The raw scores of one model, higher = more anomalous.
#[derive(Clone, Debug)]
pub struct Model {
    /// Short name: `lgbm`, `ae`, `profile` or `fusion`.
    pub name: &'static str,
    /// Name for people.
    pub title: &'static str,
    /// One score per session; `None` for a model that could not be trained.
    pub scores: Option<Vec<f64>>,
    /// Scores of models that had not seen the session, where the table has them.
    unseen: Option<Vec<f64>>,
}

/// The table, one entry per session in the order of the file.
#[derive(Clone, Debug)]
pub struct ScoreTable {
    /// Session ids, unique.
    pub ids: Vec<String>,
    /// Start of the session: microseconds since 1970 UTC; `None` when no line of it had a time.
    pub start: Vec<Option<i64>>,
    /// What the session was used for.
    pub fold: Vec<Fold>,
    /// Anomalous or normal; `None` = unknown.
    pub label: Vec<Option<bool>>,
    /// Still open when the log ended.
    pub censored: Vec<bool>,
    /// Calibrated probability of the supervised model.
    pub p_lgbm: Vec<Option<f64>>,
    /// Reconstruction error as a z-score against benign validation sessions.
    pub z_ae: Vec<Option<f64>>,
    /// Why a session stands out; empty when it does not.
    pub reason: Vec<String>,
    /// How many sessions each stands for; empty: one.
    pub weight: Vec<f64>,
    /// Raw scores, in the order of [`MODELS`].
    pub models: Vec<Model>,
}

impl ScoreTable {
    /// Reads and checks the table.
    ///
    /// # Errors
    /// The file cannot be read, lacks a column, or holds a value no later stage can use.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let frame = table::read_parquet(path, None)?;
        Self::from_frame(&frame).with_context(|| format!("in {}", path.display()))
    }

    /// As [`Self::read`], from a frame.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn from_frame(frame: &DataFrame) -> anyhow::Result<Self> {
        let ids = strings(frame, "session_id")?;
        if let Some(row) =
            column(frame, "session_id")?.cast(&DataType::String)?.str()?.iter().position(|id| id.is_none())
        {
            bail!("row {}: session_id is missing", row + 1);
        }
        let folds = column(frame, "fold")?.cast(&DataType::String).context("column `fold` is no text")?;
        let folds = folds.str()?.iter().enumerate().map(|(row, name)| {
            let name = name.unwrap_or_default();
            Fold::parse(name).with_context(|| format!("row {} (session {}): unknown fold `{name}`", row + 1, ids[row]))
        });
        let fold = folds.collect::<anyhow::Result<_>>()?;
        let label = integers(frame, "label", &DataType::Int64)?
            .into_iter()
            .enumerate()
            .map(|(row, label)| match label {
                None => Ok(None),
                Some(0) => Ok(Some(false)),
                Some(1) => Ok(Some(true)),
                Some(other) => bail!("row {} (session {}): label {other} is neither 0 nor 1", row + 1, ids[row]),
            })
            .collect::<anyhow::Result<_>>()?;
        let models = MODELS
            .iter()
            .map(|&(name, column, title)| {
                let scores = complete(&floats(frame, column, &ids)?, column, &ids)?;
                let held = format!("{column}_oof");
                let unseen = match frame.column(&held) {
                    Ok(_) => complete(&floats(frame, &held, &ids)?, &held, &ids)?,
                    Err(_) => None,
                };
                Ok(Model { name, title, scores, unseen })
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let read = Self {
            start: integers(frame, "timestamp", &DataType::Datetime(TimeUnit::Microseconds, None))?,
            censored: integers(frame, "censored", &DataType::Int64)?.into_iter().map(|c| c == Some(1)).collect(),
            p_lgbm: floats(frame, "p_lgbm", &ids)?,
            z_ae: floats(frame, "z_ae", &ids)?,
            reason: strings(frame, "reason")?,
            weight: match frame.column("weight") {
                Ok(_) => complete(&floats(frame, "weight", &ids)?, "weight", &ids)?.unwrap_or_default(),
                Err(_) => Vec::new(),
            },
            fold,
            label,
            models,
            ids,
        };
        ensure!(
            read.is_empty() || read.fusion().is_some(),
            "column `fusion` has no scores: at least one model must have been trained"
        );
        Ok(read)
    }

    /// Turns it into the table to judge by: stored models are fitted on train and validation, so sessions of these folds get
    /// the scores of models that had not seen them, where the table has those (columns `*_oof`).
    #[must_use]
    pub fn unseen(mut self) -> Self {
        for model in &mut self.models {
            if let (Some(scores), Some(unseen)) = (&mut model.scores, &model.unseen) {
                for (row, fold) in self.fold.iter().enumerate() {
                    if matches!(fold, Fold::Train | Fold::Validation) {
                        scores[row] = unseen[row];
                    }
                }
            }
        }
        self
    }

    /// Returns the number of sessions.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Returns whether there is no session.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Returns the fused score of every session.
    pub fn fusion(&self) -> Option<&[f64]> {
        self.model("fusion").and_then(|model| model.scores.as_deref())
    }

    /// Returns the model of this short name.
    pub fn model(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.name == name)
    }

    /// Returns the rows of a fold, ascending.
    pub fn rows_of(&self, fold: Fold) -> Vec<usize> {
        (0..self.len()).filter(|&row| self.fold[row] == fold).collect()
    }
}

/// A model's column is complete or wholly absent.
fn complete(values: &[Option<f64>], column: &str, ids: &[String]) -> anyhow::Result<Option<Vec<f64>>> {
    if values.iter().all(Option::is_none) {
        return Ok(None);
    }
    let all = values.iter().enumerate().map(|(row, value)| {
        value.with_context(|| {
            format!("row {} (session {}): `{column}` is missing though other sessions have it", row + 1, ids[row])
        })
    });
    Ok(Some(all.collect::<anyhow::Result<_>>()?))
}

/// A column of finite numbers, nulls allowed.
fn floats(frame: &DataFrame, name: &str, ids: &[String]) -> anyhow::Result<Vec<Option<f64>>> {
    let column =
        column(frame, name)?.cast(&DataType::Float64).with_context(|| format!("column `{name}` is no number"))?;
    let values: Vec<Option<f64>> = column.f64()?.iter().collect();
    for (row, value) in values.iter().enumerate() {
        if let Some(value) = value.filter(|v| !v.is_finite()) {
            bail!("row {} (session {}): `{name}` is {value}, not a finite number", row + 1, ids[row]);
        }
    }
    Ok(values)
}

/// A column of whole numbers, reached through `via` (a datetime becomes microseconds).
fn integers(frame: &DataFrame, name: &str, via: &DataType) -> anyhow::Result<Vec<Option<i64>>> {
    let cast = || anyhow::Ok(column(frame, name)?.cast(via)?.cast(&DataType::Int64)?);
    let column = cast().with_context(|| format!("column `{name}` holds another type"))?;
    Ok(column.i64()?.iter().collect())
}

/// A column of texts; none is empty.
fn strings(frame: &DataFrame, name: &str) -> anyhow::Result<Vec<String>> {
    let column = column(frame, name)?.cast(&DataType::String).with_context(|| format!("column `{name}` is no text"))?;
    Ok(column.str()?.iter().map(|text| text.unwrap_or_default().to_owned()).collect())
}

fn column<'a>(frame: &'a DataFrame, name: &str) -> anyhow::Result<&'a Column> {
    frame.column(name).with_context(|| format!("column `{name}` is missing: the fusion stage writes it"))
}

#[cfg(test)]
pub(crate) mod tests {
    use polars::prelude::{NamedFrom as _, Series};

    use super::*;

    /// A table of sessions `s0`, `s1`, …, one second apart; each row is (fold, label, fusion score). The other models
    /// have the same ranking on scales of their own.
    pub(crate) fn frame(rows: &[(&str, Option<i8>, f64)]) -> DataFrame {
        let n = rows.len();
        let ids: Vec<String> = (0..n).map(|i| format!("s{i}")).collect();
        let start: Vec<i64> = (0..n as i64).map(|i| 1_226_262_918_000_000 + i * 1_000_000).collect();
        let time = |name: &str| {
            let times = Series::new(name.into(), &start);
            Column::from(times.cast(&DataType::Datetime(TimeUnit::Microseconds, None)).unwrap())
        };
        let fusion: Vec<f64> = rows.iter().map(|r| r.2).collect();
        let scaled = |by: f64| fusion.iter().map(|f| f * by).collect::<Vec<f64>>();
        DataFrame::new_infer_height(vec![
            Column::new("session_id".into(), &ids),
            time("timestamp"),
            time("end"),
            Column::new("fold".into(), rows.iter().map(|r| r.0).collect::<Vec<_>>()),
            Column::new("label".into(), rows.iter().map(|r| r.1.map(i32::from)).collect::<Vec<_>>()),
            Column::new("censored".into(), vec![false; n]),
            Column::new("lgbm".into(), scaled(10.0)),
            Column::new("p_lgbm".into(), &fusion),
            Column::new("ae".into(), scaled(0.1)),
            Column::new("z_ae".into(), scaled(5.0)),
            Column::new("ae_bounded".into(), &fusion),
            Column::new("profile".into(), scaled(3.0)),
            Column::new("profile_bounded".into(), &fusion),
            Column::new("fusion".into(), &fusion),
            Column::new("reason".into(), vec![""; n]),
        ])
        .unwrap()
    }

    #[test]
    fn reads_what_fusion_writes() {
        let read = ScoreTable::from_frame(&frame(&[("train", Some(0), 0.1), ("test", None, 0.9)])).unwrap();
        assert_eq!(read.ids, ["s0", "s1"]);
        assert_eq!(read.fold, [Fold::Train, Fold::Test]);
        assert_eq!(read.label, [Some(false), None]);
        assert_eq!(read.start[1], Some(1_226_262_919_000_000));
        assert_eq!(read.fusion().unwrap(), [0.1, 0.9]);
        assert_eq!(read.rows_of(Fold::Test), [1]);
    }

    #[test]
    fn a_nan_score_names_row_session_and_column() {
        let error =
            ScoreTable::from_frame(&frame(&[("train", Some(0), 0.1), ("test", Some(1), f64::NAN)])).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("row 2 (session s1)") && text.contains("NaN"), "{text}");
    }

    #[test]
    fn a_model_that_was_not_trained_has_no_scores() {
        let mut frame = frame(&[("train", None, 0.1)]);
        frame.with_column(Column::full_null("lgbm".into(), 1, &DataType::Float64)).unwrap();
        let read = ScoreTable::from_frame(&frame).unwrap();
        assert!(read.model("lgbm").unwrap().scores.is_none());
        assert!(read.model("ae").unwrap().scores.is_some());
    }

    #[test]
    fn a_missing_column_is_named() {
        let error = ScoreTable::from_frame(&frame(&[("train", None, 0.1)]).drop("reason").unwrap()).unwrap_err();
        assert!(format!("{error:#}").contains("`reason`"));
    }
}
