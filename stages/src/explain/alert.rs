//! An alert with its reason, and the table of them (`data/processed/alerts.parquet`).
//!
//! Lists of a row that belong together are columns of equal length: any reader of Parquet takes them, and a database
//! unnests them side by side.

use std::path::Path;

use anyhow::{Context as _, ensure};
use polars::prelude::{
    Column, DataFrame, DataType, Float64Type, IntoSeries as _, ListBuilderTrait as _, ListStringChunkedBuilder,
    PolarsNumericType, TimeUnit, UInt32Type, UInt64Type,
};
use serde::Serialize;

use super::chosen::LineRef;
use crate::support::table::{list_column, lists, read_parquet};
use crate::support::traces::strings;

/// How often a session has a template, and how often its nearest benign session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Deviant {
    /// Id of the template.
    pub event_id: String,
    /// Events of the session.
    pub count: u32,
    /// Events of the benign one.
    pub benign: u32,
}

/// What a feature adds to the margin of the supervised model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Contribution {
    /// Name of the feature.
    pub feature: String,
    /// Its value.
    pub value: f64,
    /// What it adds, in log-odds; negative: it speaks for a normal session.
    pub contribution: f64,
}

/// What a feature adds to the error of the autoencoder.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Residual {
    /// Name of the feature.
    pub feature: String,
    /// What it adds to the mean squared error.
    pub residual: f64,
}

/// Why a line stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Odd {
    /// No benign session has its template.
    Unseen,
    /// The nearest benign session has fewer lines of its template.
    Extra,
    /// After it something is missing that the nearest benign session has there.
    Missing,
    /// Before it, the first of the session, something is missing.
    MissingBefore,
    /// A feature that it makes speaks for an anomaly to the supervised model.
    Contribution,
    /// The autoencoder does not expect a feature that it makes.
    Residual,
    /// Here the order first departs from that of the nearest benign session.
    Order,
    /// The last line: nothing else is known to stand out.
    Last,
}

impl Odd {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Unseen, "unseen"),
        (Self::Extra, "extra"),
        (Self::Missing, "missing"),
        (Self::MissingBefore, "missing_before"),
        (Self::Contribution, "contribution"),
        (Self::Residual, "residual"),
        (Self::Order, "order"),
        (Self::Last, "last"),
    ];

    /// The name used in tables.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(odd, _)| *odd == self).map_or("", |(_, name)| name)
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, other)| *other == name).map(|(odd, _)| *odd)
    }
}

/// A line that stands out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OddLine {
    /// Number of its event in the session, from 0.
    pub event: u32,
    /// Id of its template.
    pub event_id: String,
    /// Why it stands out.
    pub why: Odd,
    /// Where it is; `None` where the sessions have no lines.
    pub place: Option<LineRef>,
}

/// Each model's part in the decision: shares of what the models together add to the score; `None` for a model that the
/// fusion does not use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Shares {
    /// Of the supervised model.
    pub lgbm: Option<f64>,
    /// Of the autoencoder.
    pub ae: Option<f64>,
    /// Of the benign profile.
    pub profile: Option<f64>,
}

/// Why a session scores as it does.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Explanation {
    /// A sentence; never empty.
    pub reason: String,
    /// What alike sessions share, for people.
    pub signature: String,
    /// The same by texts of templates: equal in every run.
    pub signature_id: String,
    /// Id of the nearest benign session.
    pub nearest: Option<String>,
    /// Templates that no benign session has; heaviest first, as the next two.
    pub unseen: Vec<Deviant>,
    /// Templates that occur more often than in the nearest benign session.
    pub extra: Vec<Deviant>,
    /// Templates that occur less often.
    pub missing: Vec<Deviant>,
    /// The largest contributions to the supervised margin, by size.
    pub contributions: Vec<Contribution>,
    /// The largest parts of the autoencoder's error.
    pub residuals: Vec<Residual>,
    /// Each model's part in the decision.
    pub shares: Shares,
    /// Lines that stand out, in order of the session.
    pub odd: Vec<OddLine>,
    /// How many lines stand out, also those not listed.
    pub odd_total: u32,
    /// Events of the session.
    pub events: u32,
    /// First line of the session.
    pub first: Option<LineRef>,
    /// Last line of the session.
    pub last: Option<LineRef>,
}

/// A row of the table.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Alert {
    /// The session.
    pub session_id: String,
    /// Its first event, microseconds since 1970.
    pub start: Option<i64>,
    /// Its last event, microseconds since 1970.
    pub end: Option<i64>,
    /// `train`, `validation`, `test` or `unused`.
    pub fold: String,
    /// Anomalous or normal, if known.
    pub label: Option<bool>,
    /// Type of the anomaly, if it is labelled one.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The fused score.
    pub score: f64,
    /// Margin of the supervised model, log-odds.
    pub lgbm: Option<f64>,
    /// Its calibrated probability.
    pub p_lgbm: Option<f64>,
    /// Error of the autoencoder.
    pub ae: Option<f64>,
    /// The same as a z-score.
    pub z_ae: Option<f64>,
    /// Distance to the nearest benign session.
    pub profile: Option<f64>,
    /// Why.
    #[serde(flatten)]
    pub explanation: Explanation,
}

/// Returns rows of the table.
///
/// # Errors
/// Columns do not fit together (a bug).
pub(super) fn frame(alerts: &[Alert]) -> anyhow::Result<DataFrame> {
    fn text<'a>(alerts: &'a [Alert], name: &str, of: impl Fn(&'a Alert) -> Option<&'a str>) -> Column {
        Column::new(name.into(), alerts.iter().map(of).collect::<Vec<_>>())
    }
    let number = |name: &str, of: &dyn Fn(&Alert) -> Option<f64>| {
        Column::new(name.into(), alerts.iter().map(of).collect::<Vec<_>>())
    };
    let count =
        |name: &str, of: &dyn Fn(&Alert) -> u32| Column::new(name.into(), alerts.iter().map(of).collect::<Vec<_>>());
    let line = |name: &str, of: &dyn Fn(&Explanation) -> Option<u64>| {
        Column::new(name.into(), alerts.iter().map(|a| of(&a.explanation)).collect::<Vec<_>>())
    };
    let time = |name: &str, of: &dyn Fn(&Alert) -> Option<i64>| -> anyhow::Result<Column> {
        let column = Column::new(name.into(), alerts.iter().map(of).collect::<Vec<_>>());
        Ok(column.cast(&DataType::Datetime(TimeUnit::Microseconds, None))?)
    };
    let mut columns = vec![
        text(alerts, "session_id", |a| Some(&a.session_id)),
        time("timestamp", &|a| a.start)?,
        time("end", &|a| a.end)?,
        text(alerts, "fold", |a| Some(&a.fold)),
        Column::new("label".into(), alerts.iter().map(|a| a.label.map(i32::from)).collect::<Vec<_>>()),
        text(alerts, "type", |a| a.kind.as_deref()),
        number("fusion_score", &|a| Some(a.score)),
        number("lgbm", &|a| a.lgbm),
        number("p_lgbm", &|a| a.p_lgbm),
        number("ae", &|a| a.ae),
        number("z_ae", &|a| a.z_ae),
        number("profile", &|a| a.profile),
        number("share_lgbm", &|a| a.explanation.shares.lgbm),
        number("share_ae", &|a| a.explanation.shares.ae),
        number("share_profile", &|a| a.explanation.shares.profile),
        text(alerts, "reason", |a| Some(&a.explanation.reason)),
        text(alerts, "signature", |a| Some(&a.explanation.signature)),
        text(alerts, "signature_id", |a| Some(&a.explanation.signature_id)),
        text(alerts, "nearest", |a| a.explanation.nearest.as_deref()),
    ];
    type Of = fn(&Explanation) -> &[Deviant];
    let kinds: [(&str, Of); 3] = [("unseen", |e| &e.unseen), ("extra", |e| &e.extra), ("missing", |e| &e.missing)];
    for (name, of) in kinds {
        columns.push(texts_of(name, alerts, |e| of(e).iter().map(|d| d.event_id.as_str())));
        columns.push(values_of::<UInt32Type, _>(&format!("{name}_counts"), alerts, |e| of(e).iter().map(|d| d.count)));
        columns.push(values_of::<UInt32Type, _>(&format!("{name}_benign"), alerts, |e| of(e).iter().map(|d| d.benign)));
    }
    columns.extend([
        texts_of("contribution_features", alerts, |e| e.contributions.iter().map(|c| c.feature.as_str())),
        values_of::<Float64Type, _>("contribution_values", alerts, |e| e.contributions.iter().map(|c| c.value)),
        values_of::<Float64Type, _>("contributions", alerts, |e| e.contributions.iter().map(|c| c.contribution)),
        texts_of("residual_features", alerts, |e| e.residuals.iter().map(|r| r.feature.as_str())),
        values_of::<Float64Type, _>("residuals", alerts, |e| e.residuals.iter().map(|r| r.residual)),
        values_of::<UInt32Type, _>("odd_events", alerts, |e| e.odd.iter().map(|o| o.event)),
        texts_of("odd_event_ids", alerts, |e| e.odd.iter().map(|o| o.event_id.as_str())),
        texts_of("odd_why", alerts, |e| e.odd.iter().map(|o| o.why.name())),
        texts_of("odd_files", alerts, |e| e.odd.iter().filter_map(|o| Some(o.place.as_ref()?.file.as_str()))),
        values_of::<UInt64Type, _>("odd_lines", alerts, |e| e.odd.iter().filter_map(|o| Some(o.place.as_ref()?.line))),
        count("odd_total", &|a| a.explanation.odd_total),
        count("events", &|a| a.explanation.events),
        text(alerts, "first_file", |a| Some(a.explanation.first.as_ref()?.file.as_str())),
        line("first_line", &|e| Some(e.first.as_ref()?.line)),
        text(alerts, "last_file", |a| Some(a.explanation.last.as_ref()?.file.as_str())),
        line("last_line", &|e| Some(e.last.as_ref()?.line)),
    ]);
    Ok(DataFrame::new_infer_height(columns)?)
}

/// A column of lists of texts.
fn texts_of<'a, I: Iterator<Item = &'a str>>(
    name: &str,
    alerts: &'a [Alert],
    of: impl Fn(&'a Explanation) -> I,
) -> Column {
    let mut builder = ListStringChunkedBuilder::new(name.into(), alerts.len(), alerts.len());
    for alert in alerts {
        builder.append_values_iter(of(&alert.explanation));
    }
    builder.finish().into_series().into()
}

/// A column of lists of numbers.
fn values_of<'a, T: PolarsNumericType, I: Iterator<Item = T::Native>>(
    name: &str,
    alerts: &'a [Alert],
    of: impl Fn(&'a Explanation) -> I,
) -> Column {
    let (mut offsets, mut values) = (vec![0], Vec::new());
    for alert in alerts {
        values.extend(of(&alert.explanation));
        offsets.push(values.len());
    }
    list_column::<T>(name, &offsets, &values)
}

/// Reads the table.
///
/// # Errors
/// The file is missing, or is no table of alerts.
pub fn read_alerts(path: &Path) -> anyhow::Result<Vec<Alert>> {
    of_frame(&read_parquet(path, None)?).with_context(|| format!("{} is no table of alerts", path.display()))
}

fn of_frame(frame: &DataFrame) -> anyhow::Result<Vec<Alert>> {
    let n = frame.height();
    let optional = |name: &str| -> anyhow::Result<Vec<Option<String>>> {
        Ok(frame.column(name)?.str()?.iter().map(|text| text.map(str::to_owned)).collect())
    };
    let numbers = |name: &str| -> anyhow::Result<Vec<Option<f64>>> { Ok(frame.column(name)?.f64()?.iter().collect()) };
    let counts = |name: &str| -> anyhow::Result<Vec<u32>> {
        Ok(frame.column(name)?.u32()?.iter().map(|count| count.unwrap_or(0)).collect())
    };
    let times = |name: &str| -> anyhow::Result<Vec<Option<i64>>> {
        let column = frame.column(name)?.cast(&DataType::Datetime(TimeUnit::Microseconds, None))?;
        Ok(column.cast(&DataType::Int64)?.i64()?.iter().collect())
    };
    let place = |file: &str, line: &str| -> anyhow::Result<Vec<Option<LineRef>>> {
        let lines: Vec<Option<u64>> = frame.column(line)?.u64()?.iter().collect();
        let files = optional(file)?.into_iter().zip(lines);
        Ok(files.map(|(file, line)| Some(LineRef { file: file?, line: line? })).collect())
    };
    let mut alerts = vec![Alert::default(); n];
    let each = |alerts: &mut [Alert], set: &mut dyn FnMut(usize, &mut Alert)| {
        for (row, alert) in alerts.iter_mut().enumerate() {
            set(row, alert);
        }
    };
    let (ids, folds) = (strings(frame, "session_id")?, strings(frame, "fold")?);
    let (reasons, signatures) = (strings(frame, "reason")?, strings(frame, "signature")?);
    let (signature_ids, nearest, kinds) = (strings(frame, "signature_id")?, optional("nearest")?, optional("type")?);
    let (starts, ends) = (times("timestamp")?, times("end")?);
    let labels: Vec<Option<i32>> = frame.column("label")?.i32()?.iter().collect();
    let score = numbers("fusion_score")?;
    let (lgbm, p_lgbm, ae) = (numbers("lgbm")?, numbers("p_lgbm")?, numbers("ae")?);
    let (z_ae, profile) = (numbers("z_ae")?, numbers("profile")?);
    let shares = (numbers("share_lgbm")?, numbers("share_ae")?, numbers("share_profile")?);
    let (odd_total, events) = (counts("odd_total")?, counts("events")?);
    let (first, last) = (place("first_file", "first_line")?, place("last_file", "last_line")?);
    for (row, alert) in alerts.iter_mut().enumerate() {
        *alert = Alert {
            session_id: ids[row].clone(),
            start: starts[row],
            end: ends[row],
            fold: folds[row].clone(),
            label: labels[row].map(|label| label == 1),
            kind: kinds[row].clone(),
            score: score[row].context("an alert without a score")?,
            lgbm: lgbm[row],
            p_lgbm: p_lgbm[row],
            ae: ae[row],
            z_ae: z_ae[row],
            profile: profile[row],
            explanation: Explanation {
                reason: reasons[row].clone(),
                signature: signatures[row].clone(),
                signature_id: signature_ids[row].clone(),
                nearest: nearest[row].clone(),
                shares: Shares { lgbm: shares.0[row], ae: shares.1[row], profile: shares.2[row] },
                odd_total: odd_total[row],
                events: events[row],
                first: first[row].clone(),
                last: last[row].clone(),
                ..Explanation::default()
            },
        };
    }
    type Of = fn(&mut Explanation) -> &mut Vec<Deviant>;
    let deviants: [(&str, Of); 3] =
        [("unseen", |e| &mut e.unseen), ("extra", |e| &mut e.extra), ("missing", |e| &mut e.missing)];
    for (name, of) in deviants {
        let ids = text_lists(frame, name)?;
        let counts = rows_of::<UInt32Type>(frame, &format!("{name}_counts"))?;
        let benign = rows_of::<UInt32Type>(frame, &format!("{name}_benign"))?;
        for (row, ids) in ids.into_iter().enumerate() {
            let all = ids.into_iter().zip(&counts[row]).zip(&benign[row]);
            *of(&mut alerts[row].explanation) =
                all.map(|((event_id, &count), &benign)| Deviant { event_id, count, benign }).collect();
        }
    }
    let values = rows_of::<Float64Type>(frame, "contribution_values")?;
    let added = rows_of::<Float64Type>(frame, "contributions")?;
    let mut features = text_lists(frame, "contribution_features")?;
    each(&mut alerts, &mut |row, alert| {
        let all = std::mem::take(&mut features[row]).into_iter().zip(&values[row]).zip(&added[row]);
        alert.explanation.contributions =
            all.map(|((feature, &value), &contribution)| Contribution { feature, value, contribution }).collect();
    });
    let parts = rows_of::<Float64Type>(frame, "residuals")?;
    let mut features = text_lists(frame, "residual_features")?;
    each(&mut alerts, &mut |row, alert| {
        let all = std::mem::take(&mut features[row]).into_iter().zip(&parts[row]);
        alert.explanation.residuals = all.map(|(feature, &residual)| Residual { feature, residual }).collect();
    });
    let events = rows_of::<UInt32Type>(frame, "odd_events")?;
    let (ids, why) = (text_lists(frame, "odd_event_ids")?, text_lists(frame, "odd_why")?);
    let (files, lines) = (text_lists(frame, "odd_files")?, rows_of::<UInt64Type>(frame, "odd_lines")?);
    for (row, alert) in alerts.iter_mut().enumerate() {
        for (i, &event) in events[row].iter().enumerate() {
            let name = why[row].get(i).map_or("", String::as_str);
            let place = files[row].get(i).zip(lines[row].get(i));
            alert.explanation.odd.push(OddLine {
                event,
                event_id: ids[row].get(i).cloned().unwrap_or_default(),
                why: Odd::parse(name).with_context(|| format!("unknown reason `{name}` of a line"))?,
                place: place.map(|(file, &line)| LineRef { file: file.clone(), line }),
            });
        }
    }
    Ok(alerts)
}

/// The values of a column of lists of numbers, by row.
fn rows_of<T: PolarsNumericType>(frame: &DataFrame, name: &str) -> anyhow::Result<Vec<Vec<T::Native>>> {
    let (offsets, values) = lists::<T>(frame, name)?;
    ensure!(offsets.len() == frame.height() + 1, "column `{name}` is damaged");
    Ok(offsets.windows(2).map(|pair| values[pair[0]..pair[1]].to_vec()).collect())
}

/// The values of a column of lists of texts, by row.
fn text_lists(frame: &DataFrame, name: &str) -> anyhow::Result<Vec<Vec<String>>> {
    let list = frame.column(name)?.list()?;
    (0..list.len())
        .map(|row| {
            let Some(series) = list.get_as_series(row) else { return Ok(Vec::new()) };
            Ok(series.str()?.iter().flatten().map(str::to_owned).collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_survive_their_table() {
        let deviant = |id: &str, count, benign| Deviant { event_id: id.to_owned(), count, benign };
        let place = |line| Some(LineRef { file: "raw:a.log".to_owned(), line });
        let odd = |event, why, line| OddLine { event, event_id: "T3".to_owned(), why, place: place(line) };
        let full = Alert {
            session_id: "blk_1".to_owned(),
            start: Some(1_000_000),
            end: Some(2_500_000),
            fold: "test".to_owned(),
            label: Some(true),
            kind: Some("other".to_owned()),
            score: 0.99,
            lgbm: Some(4.5),
            p_lgbm: Some(0.9),
            ae: Some(2.0),
            z_ae: Some(7.0),
            profile: Some(3.5),
            explanation: Explanation {
                reason: "extra: T3".to_owned(),
                signature: "extra T3".to_owned(),
                signature_id: "0123456789ab".to_owned(),
                nearest: Some("blk_2".to_owned()),
                unseen: vec![deviant("T9", 1, 0)],
                extra: vec![deviant("T3", 4, 2), deviant("T4", 2, 1)],
                missing: vec![],
                contributions: vec![Contribution { feature: "last T3".to_owned(), value: 7.0, contribution: -0.5 }],
                residuals: vec![
                    Residual { feature: "logcount T3".to_owned(), residual: 1.5 },
                    Residual { feature: "logcount T4".to_owned(), residual: 0.5 },
                ],
                shares: Shares { lgbm: Some(0.5), ae: Some(0.3), profile: Some(0.2) },
                odd: vec![odd(3, Odd::Extra, 8), odd(5, Odd::MissingBefore, 11)],
                odd_total: 4,
                events: 9,
                first: place(2),
                last: place(99),
            },
        };
        let sparse = Alert {
            session_id: "blk_3".to_owned(),
            fold: "train".to_owned(),
            explanation: Explanation {
                odd: vec![OddLine { event: 0, event_id: "T1".to_owned(), why: Odd::Last, place: None }],
                odd_total: 1,
                events: 1,
                ..Explanation::default()
            },
            ..Alert::default()
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alerts.parquet");
        for alerts in [vec![full.clone(), sparse.clone(), full], vec![sparse], vec![]] {
            crate::explain::write_alerts(&path, &alerts);
            assert_eq!(read_alerts(&path).unwrap(), alerts);
        }
    }
}
