//! What the model stages share: feature rows with label, fold and block; censored copies; score tables and cards.

use std::path::Path;

use anyhow::Context;
use polars::prelude::{Column, DataFrame};
use serde::Serialize;

use super::matrix::{Origins, read_columns};
use super::sparse::Repeated;
use super::table::{read_parquet, write_parquet};
use super::traces::{Fold, Split, Templates, Traces, read_labels, read_split};
use crate::featurize::parameters::read_stored;
use crate::featurize::vectorizer::Vectorizer;
use crate::featurize::{Features, Group};

/// The chosen columns of every feature row, with what is known of the row's session.
pub struct Rows {
    /// The chosen columns, each distinct row once.
    pub rows: Repeated,
    /// Session and window of each row.
    pub origins: Origins,
    /// Names of the chosen columns.
    pub names: Vec<String>,
    /// Which columns of the feature matrix were chosen, and their new numbers.
    pub keep: Vec<Option<u32>>,
    /// Label of each session.
    pub labels: Vec<Option<bool>>,
    /// Fold and block of each session.
    pub split: Split,
}

impl Rows {
    /// Reads the columns of `groups` from a features directory, with labels and split. Works on the rayon pool it is called
    /// from.
    ///
    /// # Errors
    /// A file is missing or malformed, or they do not describe the same sessions.
    pub fn read(features: &Path, labels: &Path, split: &Path, groups: &[Group]) -> anyhow::Result<Self> {
        let columns = Features::read(features)?;
        let (keep, chosen) = columns.choose(groups)?;
        let (origins, rows) = read_columns(&features.join("matrix.parquet"), &keep, chosen.len())?;
        let labels = read_labels(labels, &origins.ids)?;
        let split = read_split(split, &origins.ids)?;
        let names = chosen.iter().map(|&c| columns.names[c].clone()).collect();
        Ok(Self { rows, origins, names, keep, labels, split })
    }

    /// Session ids in order.
    pub fn ids(&self) -> &[String] {
        &self.origins.ids
    }

    /// Number of the session of a row.
    pub fn session(&self, row: usize) -> usize {
        self.origins.session[row] as usize
    }

    /// Label of a row's session.
    pub fn label(&self, row: usize) -> Option<bool> {
        self.labels[self.session(row)]
    }

    /// Fold of a row's session.
    pub fn fold(&self, row: usize) -> Fold {
        self.split.folds[self.session(row)]
    }

    /// Rows of a fold, in order.
    pub fn of(&self, fold: Fold) -> Vec<usize> {
        (0..self.origins.len()).filter(|&row| self.fold(row) == fold).collect()
    }

    /// Returns the largest value of each session over its windows.
    pub fn session_max(&self, values: &[f64]) -> Vec<f64> {
        self.origins.session_max(values)
    }
}

/// Reads sessions to make copies of, with the values of wildcards that the features were made of, and templates. Works on the rayon
/// pool it is called from.
///
/// # Errors
/// A file is missing or malformed.
pub fn read_to_copy(features: &Path, sessions: &Path, templates: &Path) -> anyhow::Result<(Traces, Templates)> {
    let mut traces = Traces::read(sessions)?;
    if let Some(values) = read_stored(features, &traces.ids)? {
        traces.values = values;
    }
    Ok((traces, Templates::read(templates)?))
}

/// Feature rows of sessions as they would have looked had the log ended `shares` of their duration after their start,
/// with the session each came from. The chosen columns only.
///
/// # Errors
/// The vectorizer is missing, or sessions and templates do not fit.
pub fn censored_rows(
    features: &Path,
    keep: &[Option<u32>],
    columns: usize,
    traces: &Traces,
    templates: &Templates,
    sessions: &[usize],
    shares: &[f64],
) -> anyhow::Result<(Repeated, Vec<usize>)> {
    let (copies, origin) = traces.censored_copies(sessions, shares);
    let matrix = Vectorizer::read(features)?.transform(&copies, templates)?;
    let origin = matrix.origins.session.iter().map(|&copy| origin[copy as usize]).collect();
    Ok((matrix.project(keep, columns), origin))
}

/// Points at which censored copies are cut: `copies` shares, evenly spread over a session's duration.
pub fn cut_shares(copies: u32) -> Vec<f64> {
    (1..=copies).map(|i| f64::from(i) / f64::from(copies + 1)).collect()
}

/// Writes `scores.parquet` of a model directory.
///
/// # Errors
/// The file cannot be written.
pub fn write_scores(path: &Path, origins: &Origins, columns: Vec<Column>) -> anyhow::Result<()> {
    let ids: Vec<&str> = origins.row_ids().collect();
    let mut all = vec![Column::new("session_id".into(), ids), Column::new("window".into(), &origins.windows)];
    all.extend(columns);
    write_parquet(path, &mut DataFrame::new_infer_height(all)?)
}

/// A table of scores by row, with the session each row belongs to.
pub struct ScoreTable {
    /// Session ids in order.
    pub ids: Vec<String>,
    /// Number of the session of each row.
    session: Vec<u32>,
    frame: DataFrame,
}

impl ScoreTable {
    /// Reads some columns of `scores.parquet`.
    ///
    /// # Errors
    /// The file is missing or malformed.
    pub fn read(path: &Path, columns: &[&str]) -> anyhow::Result<Self> {
        let all: Vec<&str> = ["session_id", "window"].into_iter().chain(columns.iter().copied()).collect();
        let frame = read_parquet(path, Some(&all))?;
        let place = || format!("{} is not a table of scores", path.display());
        let mut origins = Origins::default();
        let ids = frame.column("session_id")?.str()?;
        for (id, window) in ids.iter().zip(frame.column("window")?.u32()?.iter()) {
            origins.push(id.with_context(place)?, window.unwrap_or(0));
        }
        Ok(Self { ids: origins.ids, session: origins.session, frame })
    }

    /// Returns the largest value of a column in each session; null where the session has none.
    ///
    /// # Errors
    /// The column is missing or holds NaN.
    pub fn session_max(&self, column: &str) -> anyhow::Result<Vec<Option<f64>>> {
        let values = self.frame.column(column)?.f64()?;
        let mut out = vec![None; self.ids.len()];
        for (row, value) in values.iter().enumerate() {
            let Some(value) = value else { continue };
            anyhow::ensure!(
                !value.is_nan(),
                "column `{column}` of session `{}` is NaN",
                self.ids[self.session[row] as usize]
            );
            let slot: &mut Option<f64> = &mut out[self.session[row] as usize];
            *slot = Some(slot.map_or(value, |s| s.max(value)));
        }
        Ok(out)
    }

    /// Returns, for each session, the text of the row where `column` is largest.
    ///
    /// # Errors
    /// A column is missing.
    pub fn text_at_max(&self, column: &str, text: &str) -> anyhow::Result<Vec<String>> {
        let (values, texts) = (self.frame.column(column)?.f64()?, self.frame.column(text)?.str()?);
        let mut out = vec![(f64::NEG_INFINITY, ""); self.ids.len()];
        for (row, (value, text)) in values.iter().zip(texts.iter()).enumerate() {
            let (value, slot) = (value.unwrap_or(f64::NEG_INFINITY), &mut out[self.session[row] as usize]);
            if value > slot.0 {
                *slot = (value, text.unwrap_or(""));
            }
        }
        Ok(out.into_iter().map(|(_, text)| text.to_owned()).collect())
    }
}

/// Makes a column of numbers, none of them null.
pub fn numbers(name: &str, values: &[f64]) -> Column {
    Column::new(name.into(), values)
}

/// Makes a column of numbers of which all are null.
pub fn nulls(name: &str, rows: usize) -> Column {
    Column::new(name.into(), vec![None::<f64>; rows])
}

/// Writes indented JSON with a last newline.
///
/// # Errors
/// The file cannot be written, or a number is not finite.
pub fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Reads JSON.
///
/// # Errors
/// The file is missing or of another shape.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot open {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is malformed", path.display()))
}
