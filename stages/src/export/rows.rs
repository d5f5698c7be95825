//! What is loaded: every row of one export, made from the artifacts. The scores of sessions come first; the rest is read while a
//! database takes them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use logweir_engine::stage::StageContext;
use polars::prelude::{DataType, StringChunked};

use super::drifted::{self, DriftRow};
use super::ensemble::{self, SessionRow};
use super::explained::{self, AlertRow, SignatureRow};
use super::origins::{self, Origins};
use super::rollup::{Bucket, rollup};
use super::seen::{self, Files, Seen, Sessions, TemplateRow};
use crate::evaluate::Objective;
use crate::evaluate::document::{Metrics, ModelMetrics};
use crate::support::scoretable::Fold;
use crate::support::table;

/// A number of the report.
#[derive(Clone, Debug)]
pub(super) struct MetricRow {
    pub model: String,
    pub metric: String,
    pub value: f64,
    pub interval: Option<[f64; 2]>,
}

/// What is said of the export as a whole.
#[derive(Clone, Debug, Default)]
pub(super) struct RunRow {
    pub dataset: String,
    pub source: String,
    pub split: String,
    pub lines: Option<i64>,
    pub anomalies: i64,
    pub objective: String,
    pub threshold: f64,
    /// Alerts a day that people mean to look at.
    pub budget: Option<f64>,
    pub metrics_key: String,
}

/// What is loaded first: the export as a whole, and the scores of all sessions.
#[derive(Clone, Default)]
pub(super) struct Load {
    pub key: String,
    pub run: RunRow,
    pub sessions: Vec<SessionRow>,
}

/// Everything else that one export loads.
#[derive(Clone, Default)]
pub(super) struct Rest {
    pub alerts: Vec<AlertRow>,
    pub signatures: Vec<SignatureRow>,
    pub numbers: Vec<MetricRow>,
    pub minutes: Vec<Bucket>,
    pub hours: Vec<Bucket>,
    pub origins: Origins,
    pub templates: Vec<TemplateRow>,
    pub drift: Option<DriftRow>,
}

/// Where the rest is read from, while a database already takes the sessions.
pub(super) struct Inputs<'a> {
    cx: &'a StageContext<'a>,
    scores: Option<Scores>,
    numbers: Vec<MetricRow>,
}

impl Load {
    /// Reads what is loaded first, on all threads of the stage.
    ///
    /// # Errors
    /// An input cannot be read, or does not belong to the others.
    pub(super) fn read<'a>(cx: &'a StageContext<'a>, budget: Option<f64>) -> anyhow::Result<(Self, Inputs<'a>)> {
        let path = cx.input("metrics")?;
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let metrics: Metrics = serde_json::from_reader(BufReader::new(file))
            .with_context(|| format!("{} is no metrics.json", path.display()))?;
        let (ensemble, scores) = (cx.input("ensemble")?, cx.optional("scores"));
        let (sessions, scores) =
            cx.in_pool(|| rayon::join(|| ensemble::read(ensemble), || scores.map(Scores::read).transpose()))?;
        let (mut sessions, scores) = (sessions?, scores?);
        if let Some(scores) = &scores {
            let same = scores.ids.len() == sessions.len()
                && scores.ids.iter().zip(&sessions).all(|(id, row)| id == Some(&row.session_id));
            ensure!(same, "the table of scores and the ensemble list different sessions: both must come from one run");
            for (row, fold) in sessions.iter_mut().zip(&scores.fold) {
                row.fold = Some(fold.name());
            }
        }
        let load = Self { key: cx.key.to_string(), run: run(&metrics, budget), sessions };
        Ok((load, Inputs { cx, scores, numbers: numbers(&metrics) }))
    }
}

impl Inputs<'_> {
    /// Reads the rest.
    ///
    /// # Errors
    /// As [`Load::read`].
    pub(super) fn rest(self, load: &Load) -> anyhow::Result<Rest> {
        let slot = |name: &str| self.cx.optional(name);
        let mut rest = Rest {
            numbers: self.numbers,
            origins: slot("origin").map(origins::read).transpose()?.unwrap_or_default(),
            signatures: slot("signatures").map(explained::signatures).transpose()?.unwrap_or_default(),
            drift: slot("drift").map(drifted::read).transpose()?,
            ..Rest::default()
        };
        rest.roll_up(&load.sessions);
        let scores = self.scores.as_ref();
        let told = slot("alerts").map(explained::alerts).transpose()?;
        let with_lines = told.is_some();
        rest.alerts = told_of(&load.sessions, scores, told)?;
        if let (Some(names), Some(events)) = (slot("templates"), slot("sessions")) {
            let (names, mut seen) = (seen::names(names)?, None);
            let files = slot("summary").map(Files::read).transpose()?.unwrap_or_default();
            let training = |session: usize| scores.is_some_and(|s| s.fold.get(session) == Some(&Fold::Train));
            let mut next = 0;
            let total = Sessions::each(events, with_lines, |some| {
                self.cx.check_cancelled()?;
                seen.get_or_insert_with(|| Seen::new(&names)).add(some, training)?;
                // Alerts are in the order of sessions.
                while let Some(alert) =
                    rest.alerts.get_mut(next).filter(|a| with_lines && a.session < some.first + some.len())
                {
                    let odd = alert.odd.iter().map(|(event, why)| (*event, why.as_str())).collect();
                    alert.lines = some.lines_of(alert.session, &names, &files, &odd);
                    next += 1;
                }
                Ok(())
            })?;
            rest.templates = seen.map_or_else(Vec::new, Seen::rows);
            if total != load.sessions.len() {
                // The table is another one: the rows of sessions are not the same.
                rest.alerts.iter_mut().for_each(|alert| alert.lines.clear());
            }
        }
        Ok(rest)
    }
}

impl Rest {
    /// Makes the rollups of sessions.
    pub(super) fn roll_up(&mut self, sessions: &[SessionRow]) {
        (self.minutes, self.hours) = (rollup(sessions, 60), rollup(sessions, 3600));
    }
}

/// The rest, which another thread reads.
#[derive(Default)]
pub(super) struct Later {
    read: Mutex<Option<Arc<Rest>>>,
    ready: Condvar,
    failed: AtomicBool,
}

impl Later {
    /// Reads with `read` and hands the result to those who wait.
    ///
    /// # Errors
    /// Those of `read`.
    pub(super) fn fill(&self, read: impl FnOnce() -> anyhow::Result<Rest>) -> anyhow::Result<()> {
        /// Whoever waits must not wait for ever when reading fails or panics.
        struct Told<'a>(&'a Later);
        impl Drop for Told<'_> {
            fn drop(&mut self) {
                let filled = self.0.read.lock().is_ok_and(|rest| rest.is_some());
                self.0.failed.store(!filled, Ordering::SeqCst);
                self.0.ready.notify_all();
            }
        }
        let _told = Told(self);
        let rest = Arc::new(read()?);
        *self.read.lock().map_err(|_| anyhow!("reading broke off"))? = Some(rest);
        Ok(())
    }

    /// Waits for the rest; `waiting` is called now and then, and ends the wait by an error.
    ///
    /// # Errors
    /// That of `waiting`, or the rest cannot be read: whoever reads it says why.
    pub(super) fn wait(&self, mut waiting: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Arc<Rest>> {
        let mut read = self.read.lock().map_err(|_| anyhow!("reading broke off"))?;
        loop {
            if let Some(rest) = read.as_ref() {
                return Ok(Arc::clone(rest));
            }
            ensure!(!self.failed.load(Ordering::SeqCst), "the rest cannot be read");
            waiting()?;
            let waited = self.ready.wait_timeout(read, Duration::from_millis(20));
            read = waited.map_err(|_| anyhow!("reading broke off"))?.0;
        }
    }
}

impl Load {
    /// The same with sessions of an export before it that this one does not have.
    pub(super) fn with_kept(&self, before: &[SessionRow]) -> Self {
        let mut own: Vec<&str> = self.sessions.iter().map(|s| s.session_id.as_str()).collect();
        own.sort_unstable();
        let kept = before.iter().filter(|s| own.binary_search(&s.session_id.as_str()).is_err()).cloned();
        let mut whole = self.clone();
        whole.sessions.extend(kept);
        whole.run.anomalies = whole.count(|s| s.label == Some(true));
        whole
    }

    /// How many sessions are so.
    pub(super) fn count(&self, so: impl Fn(&SessionRow) -> bool) -> i64 {
        self.sessions.iter().filter(|s| so(s)).count() as i64
    }

    /// First and last start of a session.
    pub(super) fn extent(&self) -> (Option<i64>, Option<i64>) {
        let times = || self.sessions.iter().filter_map(|s| s.timestamp);
        (times().min(), times().max())
    }
}

/// The fold of a name that stands in a database.
pub(super) fn fold_name(name: &str) -> Option<&'static str> {
    Fold::parse(name).map(Fold::name)
}

/// What is needed of `scores.parquet`, in its order.
struct Scores {
    ids: StringChunked,
    fold: Vec<Fold>,
    reason: StringChunked,
}

impl Scores {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let place = || format!("{} is no table of scores", path.display());
        let frame = table::read_parquet(path, Some(&["session_id", "fold", "reason"]))?;
        let text = |name: &str| -> anyhow::Result<StringChunked> {
            Ok(frame.column(name)?.cast(&DataType::String).with_context(place)?.str()?.clone())
        };
        let fold = text("fold")?;
        let fold = fold.iter().map(|name| Fold::parse(name.unwrap_or_default()).context("unknown fold"));
        let fold = fold.collect::<anyhow::Result<_>>().with_context(place)?;
        Ok(Self { ids: text("session_id")?, fold, reason: text("reason")? })
    }
}

/// Joins alerts with what is told of them.
fn told_of(
    rows: &[SessionRow],
    scores: Option<&Scores>,
    told: Option<BTreeMap<String, AlertRow>>,
) -> anyhow::Result<Vec<AlertRow>> {
    let explained = told.is_some();
    let mut told = told.unwrap_or_default();
    let mut alerts = Vec::new();
    for (session, row) in rows.iter().enumerate().filter(|(_, row)| row.is_alert) {
        let found = told.remove(&row.session_id);
        ensure!(
            found.is_some() || !explained,
            "session {} is an alert, but alerts.parquet does not have it: both must come from one run",
            row.session_id
        );
        let mut alert = AlertRow { session, ..found.unwrap_or_default() };
        if alert.reason.is_empty() {
            alert.reason = scores.and_then(|scores| scores.reason.get(session)).unwrap_or_default().to_owned();
        }
        alerts.push(alert);
    }
    if let Some(other) = told.keys().next() {
        anyhow::bail!("alerts.parquet has session {other}, which is no alert: both must come from one run");
    }
    Ok(alerts)
}

fn run(metrics: &Metrics, budget: Option<f64>) -> RunRow {
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    RunRow {
        dataset: metrics.dataset.name.clone(),
        source: metrics.dataset.source.name().to_owned(),
        split: metrics.split.method.clone(),
        lines: metrics.dataset.lines.map(count),
        anomalies: count(metrics.dataset.anomalies),
        objective: objective_name(metrics.threshold.objective).to_owned(),
        threshold: metrics.threshold.value,
        budget: budget.or_else(|| budget_of(metrics)),
        metrics_key: metrics.key.clone(),
    }
}

/// Alerts a day that the threshold was chosen for, where it was chosen by a budget: those that the validation fold was
/// allowed over the time it spans.
fn budget_of(metrics: &Metrics) -> Option<f64> {
    let allowed = metrics.threshold.alerts_allowed?;
    let fold = &metrics.split.validation;
    let at = |text: &Option<String>| ensemble::time(text.as_deref().unwrap_or_default()).ok().flatten();
    let days = (at(&fold.last)? - at(&fold.first)?) as f64 / 86_400e6;
    (days > 0.0).then(|| allowed / days)
}

/// The name of an objective in tables.
fn objective_name(objective: Objective) -> &'static str {
    match objective {
        Objective::FBeta => "f_beta",
        Objective::FprAtTpr => "fpr_at_tpr",
        Objective::AlertBudget => "alert_budget",
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_gets_the_rest_or_hears_that_there_is_none() {
        let later = Later::default();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| later.wait(|| Ok(())).unwrap().hours.len());
            later.fill(|| Ok(Rest::default())).unwrap();
            assert_eq!(waiting.join().unwrap(), 0);
        });
        let later = Later::default();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| later.wait(|| Ok(())).is_err());
            assert!(later.fill(|| anyhow::bail!("no such file")).unwrap_err().to_string().contains("no such file"));
            assert!(waiting.join().unwrap());
        });
        assert!(Later::default().wait(|| anyhow::bail!("interrupted")).is_err());
    }
}
