//! What is loaded: every row of one export, made from the artifacts before a database is touched.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context as _, ensure};
use chrono::DateTime;
use logweir_engine::stage::StageContext;
use polars::prelude::{DataType, Int64Type, TimeUnit, UInt32Type};
use serde_json::Value;

use super::rollup::{Bucket, rollup};
use crate::evaluate::document::{Metrics, ModelMetrics};
use crate::support::scoretable::{Fold, ScoreTable};
use crate::support::table;

/// One session: the seven columns, and what the table of scores adds.
#[derive(Clone, Debug, Default)]
pub(crate) struct SessionRow {
    pub session_id: String,
    /// Microseconds since 1970 UTC.
    pub timestamp: Option<i64>,
    pub p_lgbm: Option<f64>,
    pub z_ae: Option<f64>,
    pub fusion_score: f64,
    pub is_alert: bool,
    pub label: Option<bool>,
    pub fold: Option<&'static str>,
    pub reason: String,
}

/// A number of the report.
#[derive(Clone, Debug)]
pub(crate) struct MetricRow {
    pub model: String,
    pub metric: String,
    pub value: f64,
    pub interval: Option<[f64; 2]>,
}

/// An artifact that the scores were made from.
#[derive(Clone, Debug, Default)]
pub(crate) struct OriginRow {
    pub path: String,
    pub digest: String,
    /// The stage that made it; empty for a source file.
    pub stage: String,
    pub stage_key: String,
}

/// A template and when it was seen.
#[derive(Clone, Debug)]
pub(crate) struct TemplateRow {
    pub event_id: String,
    pub text: String,
    pub events: i64,
    pub sessions: i64,
    pub first_seen: Option<i64>,
    pub last_seen: Option<i64>,
    /// Whether a training session has it.
    pub in_training: bool,
}

/// Everything one export loads.
pub(crate) struct Load {
    pub key: String,
    pub metrics: Metrics,
    pub sessions: Vec<SessionRow>,
    pub numbers: Vec<MetricRow>,
    pub minutes: Vec<Bucket>,
    pub hours: Vec<Bucket>,
    pub origins: Vec<OriginRow>,
    pub templates: Vec<TemplateRow>,
}

impl Load {
    /// Reads the artifacts of a stage.
    ///
    /// # Errors
    /// An input cannot be read, or does not belong to the others.
    pub(crate) fn read(cx: &StageContext<'_>) -> anyhow::Result<Self> {
        let mut sessions = read_ensemble(cx.input("ensemble")?)?;
        let path = cx.input("metrics")?;
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let metrics: Metrics = serde_json::from_reader(BufReader::new(file))
            .with_context(|| format!("{} is no metrics.json", path.display()))?;
        let mut scores = None;
        if let Some(path) = cx.optional("scores") {
            let table = ScoreTable::read(path)?;
            let same =
                table.len() == sessions.len() && table.ids.iter().zip(&sessions).all(|(a, b)| *a == b.session_id);
            ensure!(same, "the table of scores and the ensemble list different sessions: both must come from one run");
            for (row, session) in sessions.iter_mut().enumerate() {
                session.fold = Some(table.fold[row].name());
                session.reason.clone_from(&table.reason[row]);
            }
            scores = Some(table);
        }
        let templates = match (cx.optional("templates"), cx.optional("sessions")) {
            (Some(templates), Some(sessions)) => read_templates(templates, sessions, scores.as_ref())?,
            _ => Vec::new(),
        };
        let (minutes, hours) = (rollup(&sessions, 60), rollup(&sessions, 3600));
        let origins = cx.optional("origin").map(read_origins).transpose()?.unwrap_or_default();
        let numbers = numbers(&metrics);
        Ok(Self { key: cx.key.to_string(), metrics, sessions, numbers, minutes, hours, origins, templates })
    }

    /// The sessions that are alerts.
    pub(crate) fn alerts(&self) -> impl Iterator<Item = &SessionRow> {
        self.sessions.iter().filter(|s| s.is_alert)
    }
}

/// Reads the seven columns.
fn read_ensemble(path: &Path) -> anyhow::Result<Vec<SessionRow>> {
    const COLUMNS: [&str; 7] = ["session_id", "timestamp", "p_lgbm", "z_ae", "fusion_score", "is_alert", "label"];
    let mut reader = csv::Reader::from_path(path).with_context(|| format!("cannot open {}", path.display()))?;
    let header = reader.headers()?;
    ensure!(header.iter().eq(COLUMNS), "{}: the columns must be {COLUMNS:?}, found {header:?}", path.display());
    let mut rows = Vec::new();
    for (number, record) in reader.records().enumerate() {
        let place = || format!("{}, row {}", path.display(), number + 1);
        let record = record.with_context(place)?;
        let float = |i: usize| -> anyhow::Result<Option<f64>> {
            let text = &record[i];
            if text.is_empty() {
                return Ok(None);
            }
            Ok(Some(text.parse().with_context(|| format!("{} is `{text}`, not a number", COLUMNS[i]))?))
        };
        let flag = |i: usize| match &record[i] {
            "0" => Ok(Some(false)),
            "1" => Ok(Some(true)),
            "" => Ok(None),
            other => anyhow::bail!("{} is `{other}`, neither 0 nor 1", COLUMNS[i]),
        };
        let row = || -> anyhow::Result<SessionRow> {
            let timestamp = match &record[1] {
                "" => None,
                text => {
                    let time = DateTime::parse_from_rfc3339(text);
                    Some(time.with_context(|| format!("timestamp is `{text}`, not a time"))?.timestamp_micros())
                }
            };
            Ok(SessionRow {
                session_id: record[0].to_owned(),
                timestamp,
                p_lgbm: float(2)?,
                z_ae: float(3)?,
                fusion_score: float(4)?.context("fusion_score is empty")?,
                is_alert: flag(5)?.context("is_alert is empty")?,
                label: flag(6)?,
                fold: None,
                reason: String::new(),
            })
        };
        rows.push(row().with_context(place)?);
    }
    Ok(rows)
}

/// The numbers of the report, model by model; what is null is left out.
fn numbers(metrics: &Metrics) -> Vec<MetricRow> {
    let mut rows = Vec::new();
    let models =
        [("lgbm", &metrics.lgbm), ("ae", &metrics.ae), ("profile", &metrics.profile), ("fusion", &metrics.fusion)];
    for (name, model) in models {
        let ModelMetrics { ci95, .. } = model;
        let all = [
            ("roc_auc", model.roc_auc, ci95.roc_auc),
            ("average_precision", model.average_precision, ci95.average_precision),
            ("f1", model.f1, ci95.f1),
            ("f_beta", model.f_beta, ci95.f_beta),
            ("precision", model.precision, ci95.precision),
            ("recall", model.recall, ci95.recall),
            ("fpr", model.fpr, ci95.fpr),
            ("threshold", model.threshold.as_ref().map(|t| t.value), None),
        ];
        rows.extend(all.into_iter().filter_map(|(metric, value, interval)| {
            Some(MetricRow { model: name.to_owned(), metric: metric.to_owned(), value: value?, interval })
        }));
    }
    let run = |metric: &str, value: Option<f64>| {
        Some(MetricRow { model: "run".to_owned(), metric: metric.to_owned(), value: value?, interval: None })
    };
    let unseen = metrics.unseen_sequences.as_ref();
    rows.extend(
        [
            run("alerts_per_day", metrics.alerts.alerts_per_day),
            run("false_alerts_per_day", metrics.alerts.false_alerts_per_day),
            run("unseen_sequences_recall", unseen.and_then(|s| s.recall)),
            run("unseen_sequences_average_precision", unseen.and_then(|s| s.average_precision)),
            run("intended_fpr", metrics.false_positive_rate.as_ref().map(|c| c.intended)),
            run("realised_fpr", metrics.false_positive_rate.as_ref().and_then(|c| c.realised)),
        ]
        .into_iter()
        .flatten(),
    );
    if let Some(c) = &metrics.confusion {
        let counts = [("test_tp", c.tp), ("test_fp", c.fp), ("test_fn", c.fn_), ("test_tn", c.tn)];
        rows.extend(counts.into_iter().filter_map(|(metric, count)| run(metric, Some(count as f64))));
    }
    for (kind, recall) in &metrics.by_anomaly_type {
        rows.push(MetricRow {
            model: "fusion".to_owned(),
            metric: format!("recall of {kind}"),
            value: recall.recall,
            interval: recall.ci95,
        });
    }
    rows
}

/// The artifacts of a lineage document.
fn read_origins(path: &Path) -> anyhow::Result<Vec<OriginRow>> {
    let text = std::fs::read(path).with_context(|| format!("cannot open {}", path.display()))?;
    let document: Value =
        serde_json::from_slice(&text).with_context(|| format!("{} is no lineage document", path.display()))?;
    let field = |node: &Value, name: &str| node[name].as_str().unwrap_or_default().to_owned();
    let nodes = document["nodes"].as_array().map_or(&[][..], Vec::as_slice);
    let by_id: BTreeMap<&str, &Value> = nodes.iter().filter_map(|node| Some((node["id"].as_str()?, node))).collect();
    let mut maker: BTreeMap<&str, &Value> = BTreeMap::new();
    for edge in document["edges"].as_array().map_or(&[][..], Vec::as_slice) {
        if let (Some(from), Some(to)) = (edge[0].as_str(), edge[1].as_str())
            && let Some(action) = by_id.get(from).filter(|node| node["type"] == "action")
        {
            maker.insert(to, action);
        }
    }
    let mut rows: BTreeMap<String, OriginRow> = BTreeMap::new();
    for node in nodes.iter().filter(|node| node["type"] == "artifact") {
        let made_by = node["id"].as_str().and_then(|id| maker.get(id)).copied();
        let of = |name: &str| {
            let own = field(node, name);
            if own.is_empty() { made_by.map_or_else(String::new, |action| field(action, name)) } else { own }
        };
        let row = OriginRow {
            path: field(node, "path"),
            digest: field(node, "digest"),
            stage: of("stage"),
            stage_key: of("key"),
        };
        rows.insert(row.path.clone(), row);
    }
    Ok(rows.into_values().collect())
}

/// Counts and times of each template.
fn read_templates(templates: &Path, sessions: &Path, scores: Option<&ScoreTable>) -> anyhow::Result<Vec<TemplateRow>> {
    let place = || format!("in {}", templates.display());
    let mut reader = csv::Reader::from_path(templates).with_context(place)?;
    let header = reader.headers().with_context(place)?.clone();
    let column = |name: &str| {
        header.iter().position(|h| h == name).with_context(|| format!("{}: no column `{name}`", templates.display()))
    };
    let (id, text) = (column("event_id")?, column("text")?);
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.with_context(place)?;
        rows.push(TemplateRow {
            event_id: record[id].to_owned(),
            text: record[text].to_owned(),
            events: 0,
            sessions: 0,
            first_seen: None,
            last_seen: None,
            in_training: false,
        });
    }
    let frame = table::read_parquet(sessions, Some(&["session_id", "start", "events", "gaps"]))?;
    let (offsets, events) = table::lists::<UInt32Type>(&frame, "events")?;
    let (_, gaps) = table::lists::<Int64Type>(&frame, "gaps")?;
    ensure!(gaps.len() == events.len(), "{}: events and gaps differ in length", sessions.display());
    let start =
        frame.column("start")?.cast(&DataType::Datetime(TimeUnit::Microseconds, None))?.cast(&DataType::Int64)?;
    let mut last_session = vec![usize::MAX; rows.len()];
    for (session, start) in start.i64()?.iter().enumerate() {
        let training = scores.is_some_and(|s| s.fold.get(session) == Some(&Fold::Train));
        let mut at = start;
        for i in offsets[session]..offsets[session + 1] {
            at = at.map(|t| t + gaps[i] * 1000);
            let number = events[i] as usize;
            let row = rows.get_mut(number).with_context(|| {
                format!("session {session} has template {number}, which {} lacks", templates.display())
            })?;
            row.events += 1;
            row.in_training |= training;
            row.first_seen = [row.first_seen, at].into_iter().flatten().min();
            row.last_seen = row.last_seen.max(at);
            if last_session[number] != session {
                last_session[number] = session;
                row.sessions += 1;
            }
        }
    }
    rows.retain(|row| row.events > 0);
    Ok(rows)
}
