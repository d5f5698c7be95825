//! Decisions as `ensemble_sessions.csv` has them.

use std::path::Path;

use anyhow::{Context as _, ensure};
use polars::prelude::{BooleanChunked, NewChunkedArray as _};
use serde::Deserialize;

use crate::support::scoretable::ScoreTable;
use crate::support::table::read_parquet;

/// Columns of the table of scores that are read.
const COLUMNS: [&str; 12] = [
    "session_id",
    "timestamp",
    "fold",
    "label",
    "censored",
    "lgbm",
    "p_lgbm",
    "ae",
    "z_ae",
    "profile",
    "fusion",
    "reason",
];

/// What was decided about a session.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Decision {
    /// The session.
    pub session_id: String,
    /// When it began, RFC 3339; empty where no line of it has a time.
    pub timestamp: String,
    /// Calibrated probability of the supervised model.
    pub p_lgbm: Option<f64>,
    /// Error of the autoencoder as a z-score.
    pub z_ae: Option<f64>,
    /// The fused score.
    pub fusion_score: f64,
    /// 1 for an alert.
    pub is_alert: u8,
    /// 1 anomalous, 0 normal.
    pub label: Option<u8>,
}

impl Decision {
    /// Finds what was decided about a session; `None` where there is no such session.
    ///
    /// # Errors
    /// The file is missing or malformed.
    pub fn find(ensemble: &Path, id: &str) -> anyhow::Result<Option<Self>> {
        let place = || format!("in {}", ensemble.display());
        let mut reader = csv::Reader::from_path(ensemble).with_context(place)?;
        let header = reader.headers().with_context(place)?.clone();
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record).with_context(place)? {
            // `session_id` is the first of the seven columns.
            if record.get(0) == Some(id) {
                return record.deserialize(Some(&header)).map(Some).with_context(place);
            }
        }
        Ok(None)
    }
}

/// Returns which sessions are alerts, in the order of both files, and the rows of alerts in the table of scores.
///
/// # Errors
/// A file is missing or malformed, or they hold different sessions.
pub(super) fn alerts_of(ensemble: &Path, scores: &Path) -> anyhow::Result<(Vec<bool>, ScoreTable)> {
    let frame = read_parquet(scores, Some(&COLUMNS))?;
    let ids = frame.column("session_id")?.str()?;
    let place = || format!("in {}", ensemble.display());
    let mut reader = csv::Reader::from_path(ensemble).with_context(place)?;
    let header = reader.headers().with_context(place)?.clone();
    let column = |name: &str| {
        header.iter().position(|h| h == name).with_context(|| format!("{}: no column `{name}`", ensemble.display()))
    };
    let (id, flag) = (column("session_id")?, column("is_alert")?);
    let mut alert = Vec::with_capacity(frame.height());
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).with_context(place)? {
        let row = alert.len();
        ensure!(
            row < ids.len() && ids.get(row) == Some(&record[id]),
            "row {} of {} is session {}, the table of scores has another one there",
            row + 1,
            ensemble.display(),
            &record[id]
        );
        alert.push(&record[flag] == "1");
    }
    let (n, rows) = (alert.len(), frame.height());
    ensure!(n == rows, "{} has {n} sessions, the table of scores {rows}", ensemble.display());
    let frame = frame.filter(&BooleanChunked::from_slice("alert".into(), &alert))?;
    Ok((alert, ScoreTable::from_frame(&frame).with_context(|| format!("in {}", scores.display()))?))
}
