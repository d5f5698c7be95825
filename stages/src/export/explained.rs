//! Why alerts are alerts: the reasons of `scores.parquet`, or all that `explain` found (`alerts.parquet`, `alerts.json`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::Context as _;
use polars::prelude::{DataFrame, DataType, TimeUnit, UInt32Type};
use serde::Deserialize;

use super::ensemble::time;
use crate::support::table;

/// What is told of an alert beside its scores.
#[derive(Clone, Debug, Default)]
pub(super) struct AlertRow {
    /// Its place among the sessions.
    pub session: usize,
    pub reason: String,
    /// Its last event, microseconds since 1970 UTC.
    pub ended: Option<i64>,
    /// Type of a labelled anomaly.
    pub kind: Option<String>,
    pub signature: Option<String>,
    pub signature_id: Option<String>,
    /// The nearest benign session.
    pub nearest: Option<String>,
    /// Parts of LightGBM, the autoencoder and the profile in the decision.
    pub shares: [Option<f64>; 3],
    pub events: Option<i64>,
    /// How many lines stand out.
    pub odd_lines: Option<i64>,
    /// File and line of the first event, and of the last.
    pub first: (Option<String>, Option<i64>),
    pub last: (Option<String>, Option<i64>),
    /// Its lines as JSON; empty: not known.
    pub lines: String,
    /// Why events stand out, by number.
    pub odd: BTreeMap<u32, String>,
}

/// Alike alerts.
#[derive(Clone, Debug)]
pub(super) struct SignatureRow {
    pub id: String,
    pub signature: String,
    pub reason: String,
    pub alerts: i64,
    pub anomalous: i64,
    pub normal: i64,
    pub unknown: i64,
    pub first: Option<i64>,
    pub last: Option<i64>,
    pub highest_score: f64,
    /// A session that has it.
    pub example: Option<String>,
}

/// Reads `alerts.parquet`: what is told of each alert, by session.
///
/// # Errors
/// The file cannot be read or is none.
pub(super) fn alerts(path: &Path) -> anyhow::Result<BTreeMap<String, AlertRow>> {
    let columns = [
        "session_id",
        "end",
        "type",
        "reason",
        "signature",
        "signature_id",
        "nearest",
        "share_lgbm",
        "share_ae",
        "share_profile",
        "events",
        "odd_total",
        "odd_events",
        "odd_why",
        "first_file",
        "first_line",
        "last_file",
        "last_line",
    ];
    let frame = table::read_parquet(path, Some(&columns))?;
    of_frame(&frame).with_context(|| format!("{} is no table of alerts", path.display()))
}

fn of_frame(frame: &DataFrame) -> anyhow::Result<BTreeMap<String, AlertRow>> {
    let texts = |name: &str| -> anyhow::Result<Vec<Option<String>>> {
        Ok(frame.column(name)?.cast(&DataType::String)?.str()?.iter().map(|text| text.map(str::to_owned)).collect())
    };
    let counts = |name: &str| -> anyhow::Result<Vec<Option<i64>>> {
        Ok(frame.column(name)?.cast(&DataType::Int64)?.i64()?.iter().collect())
    };
    let numbers = |name: &str| -> anyhow::Result<Vec<Option<f64>>> { Ok(frame.column(name)?.f64()?.iter().collect()) };
    let ended = frame.column("end")?.cast(&DataType::Datetime(TimeUnit::Microseconds, None))?;
    let ended: Vec<Option<i64>> = ended.cast(&DataType::Int64)?.i64()?.iter().collect();
    let (offsets, odd_events) = table::lists::<UInt32Type>(frame, "odd_events")?;
    let mut whys = Vec::with_capacity(odd_events.len());
    let list = frame.column("odd_why")?.list()?;
    for row in 0..list.len() {
        if let Some(series) = list.get_as_series(row) {
            whys.extend(series.str()?.iter().map(|why| why.unwrap_or_default().to_owned()));
        }
    }
    anyhow::ensure!(whys.len() == odd_events.len(), "columns `odd_events` and `odd_why` differ in length");
    let (ids, kinds, reasons) = (texts("session_id")?, texts("type")?, texts("reason")?);
    let (signatures, signature_ids, nearest) = (texts("signature")?, texts("signature_id")?, texts("nearest")?);
    let shares = [numbers("share_lgbm")?, numbers("share_ae")?, numbers("share_profile")?];
    let (events, odd_total) = (counts("events")?, counts("odd_total")?);
    let (first, last) = ((texts("first_file")?, counts("first_line")?), (texts("last_file")?, counts("last_line")?));
    let mut all = BTreeMap::new();
    for row in 0..frame.height() {
        let odd = (offsets[row]..offsets[row + 1]).map(|i| (odd_events[i], whys[i].clone()));
        let alert = AlertRow {
            session: 0,
            reason: reasons[row].clone().unwrap_or_default(),
            ended: ended[row],
            kind: kinds[row].clone(),
            signature: signatures[row].clone(),
            signature_id: signature_ids[row].clone(),
            nearest: nearest[row].clone(),
            shares: [shares[0][row], shares[1][row], shares[2][row]],
            events: events[row],
            odd_lines: odd_total[row],
            first: (first.0[row].clone(), first.1[row]),
            last: (last.0[row].clone(), last.1[row]),
            lines: String::new(),
            odd: odd.collect(),
        };
        all.insert(ids[row].clone().context("session_id is missing")?, alert);
    }
    Ok(all)
}

/// Reads the signatures of `alerts.json`.
///
/// # Errors
/// The file cannot be read or is none.
pub(super) fn signatures(path: &Path) -> anyhow::Result<Vec<SignatureRow>> {
    #[derive(Deserialize)]
    struct Summary {
        signatures: Vec<Signature>,
    }
    #[derive(Deserialize)]
    struct Signature {
        signature: String,
        id: String,
        alerts: i64,
        #[serde(default)]
        labels: BTreeMap<String, i64>,
        first: Option<String>,
        last: Option<String>,
        highest_score: f64,
        reason: String,
        #[serde(default)]
        examples: Vec<Example>,
    }
    #[derive(Deserialize)]
    struct Example {
        session_id: String,
    }
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let summary: Summary = serde_json::from_reader(BufReader::new(file))
        .with_context(|| format!("{} is no summary of alerts", path.display()))?;
    let at = |text: Option<String>| text.map_or(Ok(None), |text| time(&text));
    let row = |s: Signature| -> anyhow::Result<SignatureRow> {
        let label = |name: &str| s.labels.get(name).copied().unwrap_or(0);
        Ok(SignatureRow {
            anomalous: label("anomalous"),
            normal: label("normal"),
            unknown: label("unknown"),
            id: s.id,
            signature: s.signature,
            reason: s.reason,
            alerts: s.alerts,
            first: at(s.first)?,
            last: at(s.last)?,
            highest_score: s.highest_score,
            example: s.examples.into_iter().next().map(|example| example.session_id),
        })
    };
    summary.signatures.into_iter().map(row).collect()
}
