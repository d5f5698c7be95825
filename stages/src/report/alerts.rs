//! The alerts that the page lists: those with the highest scores, alike ones together.

use std::path::Path;

use anyhow::{Context as _, ensure};
use csv::StringRecord;
use serde::Serialize;

use super::explained::{Explained, Why};
use super::shown::{self, Form, Piece};
use crate::support::scoretable::{Fold, ScoreTable};

/// Of so many alerts all is said; of the others the reason.
const DETAILED: usize = 50;

/// A row of the table of alerts.
#[derive(Clone, Serialize)]
pub(super) struct Alert {
    session: Piece,
    time: Piece,
    score: Piece,
    p_lgbm: Piece,
    z_ae: Piece,
    fold: Piece,
    label: Piece,
    pub why: Why,
}

/// All alerts of the test fold (where there is none: of all folds), the highest scores first, ties by session id.
pub(super) struct Found<'a> {
    rows: Vec<(f64, usize, StringRecord)>,
    columns: Columns,
    ensemble: &'a str,
    scores: &'a ScoreTable,
    table: &'a str,
    why: Option<&'a Explained>,
}

/// Where columns of the decisions lie.
struct Columns {
    id: usize,
    time: usize,
    score: usize,
    p_lgbm: usize,
    z_ae: usize,
    label: usize,
}

impl<'a> Found<'a> {
    /// Reads the decisions, which pipeline.yaml calls `ensemble`, beside the table of scores.
    ///
    /// # Errors
    /// The file cannot be read, or has other sessions than the table.
    pub(super) fn read(
        (path, ensemble): (&Path, &'a str),
        (scores, table): (&'a ScoreTable, &'a str),
        why: Option<&'a Explained>,
    ) -> anyhow::Result<Self> {
        let place = || format!("in {}", path.display());
        let mut reader = csv::Reader::from_path(path).with_context(place)?;
        let header = reader.headers().with_context(place)?.clone();
        let column = |name: &str| {
            header.iter().position(|h| h == name).with_context(|| format!("{}: no column `{name}`", path.display()))
        };
        let columns = Columns {
            id: column("session_id")?,
            time: column("timestamp")?,
            score: column("fusion_score")?,
            p_lgbm: column("p_lgbm")?,
            z_ae: column("z_ae")?,
            label: column("label")?,
        };
        let (alert, id) = (column("is_alert")?, columns.id);
        let has_test = scores.fold.contains(&Fold::Test);
        let mut found = Vec::new();
        let mut rows = 0;
        for (row, record) in reader.records().enumerate() {
            let record = record.with_context(place)?;
            rows = row + 1;
            ensure!(
                scores.ids.get(row).map(String::as_str) == Some(&record[id]),
                "row {rows} of {} is session {}, the table of scores has another one there",
                path.display(),
                &record[id]
            );
            if &record[alert] == "1" && (!has_test || scores.fold[row] == Fold::Test) {
                let value: f64 = record[columns.score]
                    .parse()
                    .with_context(|| format!("fusion_score of session {}", &record[id]))?;
                found.push((value, row, record));
            }
        }
        ensure!(rows == scores.len(), "{} has {rows} sessions, the table of scores {}", path.display(), scores.len());
        found.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.2[id].cmp(&b.2[id])));
        Ok(Self { rows: found, columns, ensemble, scores, table, why })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The first `count` of them.
    ///
    /// # Errors
    /// The table of alerts has not all of them.
    pub(super) fn listed(&self, count: usize) -> anyhow::Result<Vec<Alert>> {
        self.rows.iter().take(count).enumerate().map(|(i, row)| self.alert(row, i < DETAILED)).collect()
    }

    fn alert(&self, (_, row, record): &(f64, usize, StringRecord), detailed: bool) -> anyhow::Result<Alert> {
        let (row, columns) = (*row, &self.columns);
        // The header is row 1.
        let at = |column: usize, form: Form| shown::cell(self.ensemble, row + 2, column + 1, &record[column], form);
        let word = match &record[columns.label] {
            "1" => "anomalous",
            "0" => "normal",
            _ => "unknown",
        };
        let of_table = |column: &str, text: &str| shown::of_row(self.table, row, column, text, text);
        let why = match self.why {
            Some(why) => why.of(&record[columns.id], detailed)?,
            None => Why::only(match self.scores.reason[row].as_str() {
                "" => shown::plain("–"),
                reason => of_table("reason", reason),
            }),
        };
        Ok(Alert {
            session: at(columns.id, Form::Plain),
            time: at(columns.time, Form::Time),
            fold: of_table("fold", self.scores.fold[row].name()),
            score: at(columns.score, Form::Decimals(4)),
            p_lgbm: at(columns.p_lgbm, Form::Decimals(4)),
            z_ae: at(columns.z_ae, Form::Decimals(1)),
            label: Piece { text: word.to_owned(), ..at(columns.label, Form::Plain) },
            why,
        })
    }
}

/// Listed alerts of one signature, in the order of their scores.
#[derive(Serialize)]
pub(super) struct Group {
    /// `None` where alerts have no signatures.
    signature: Option<String>,
    alerts: Vec<Alert>,
}

/// Puts alike alerts together, the group with the highest score first.
pub(super) fn grouped(alerts: Vec<Alert>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for alert in alerts {
        let signature = alert.why.signature().map(str::to_owned);
        match groups.iter_mut().find(|group| group.signature == signature) {
            Some(group) => group.alerts.push(alert),
            None => groups.push(Group { signature, alerts: vec![alert] }),
        }
    }
    groups
}
