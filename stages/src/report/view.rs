//! The data of the page: every number as the text that is shown.

use serde::Serialize;

use super::origin::{Action, Artifact, Origin};
use crate::evaluate::Objective;
use crate::evaluate::document::{FoldCounts, Metrics, ModelMetrics, Source, Subset};
use crate::plots::grouped;

/// What the template is filled with.
#[derive(Serialize)]
pub(super) struct View {
    title: String,
    simulated: bool,
    dataset: Vec<(String, String)>,
    summary: String,
    warning: Option<String>,
    tiles: Vec<Tile>,
    metric_names: Vec<String>,
    models: Vec<Model>,
    gain: Option<String>,
    pictures: Vec<Picture>,
    threshold: String,
    folds: Vec<FoldRow>,
    split: String,
    types: Vec<TypeRow>,
    subsets: Vec<SubsetRow>,
    calibration: Vec<CalibrationRow>,
    alerts: Vec<Alert>,
    alert_count: String,
    alert_fold: String,
    svg: Option<String>,
    artifacts: Vec<Artifact>,
    actions: Vec<Action>,
    numbers: Vec<Number>,
    metrics_path: String,
    metrics_key: String,
    metrics_digest: String,
    resamples: u32,
    seed: u64,
    key: String,
}

/// A picture inside the page.
#[derive(Serialize)]
pub(super) struct Picture {
    pub about: String,
    pub data: String,
}

/// A row of the table of alerts.
#[derive(Serialize)]
pub(super) struct Alert {
    pub session: String,
    pub time: String,
    pub fold: String,
    pub score: String,
    pub p_lgbm: String,
    pub z_ae: String,
    pub label: String,
    pub reason: String,
}

#[derive(Serialize)]
struct Tile {
    name: String,
    value: String,
    note: String,
}

#[derive(Serialize)]
struct Model {
    title: String,
    name: String,
    trained: bool,
    threshold: String,
    cells: Vec<Cell>,
}

#[derive(Serialize)]
struct Cell {
    value: String,
    interval: String,
    best: bool,
}

#[derive(Serialize)]
struct FoldRow {
    name: String,
    counts: FoldCounts,
}

#[derive(Serialize)]
struct TypeRow {
    name: String,
    flagged: u64,
    count: u64,
    recall: String,
    percent: f64,
    interval: String,
    models: Vec<(String, String)>,
}

#[derive(Serialize)]
struct SubsetRow {
    name: String,
    count: u64,
    anomalies: u64,
    cells: Vec<String>,
}

#[derive(Serialize)]
struct CalibrationRow {
    model: String,
    intended: String,
    realised: String,
    ratio: String,
    /// Within a factor of two of what was intended.
    good: bool,
}

#[derive(Serialize)]
struct Number {
    name: String,
    value: String,
    pointer: String,
}

const MODELS: [&str; 4] = ["fusion", "lgbm", "profile", "ae"];

fn of<'m>(metrics: &'m Metrics, name: &str) -> &'m ModelMetrics {
    match name {
        "lgbm" => &metrics.lgbm,
        "ae" => &metrics.ae,
        "profile" => &metrics.profile,
        _ => &metrics.fusion,
    }
}

fn title(name: &str) -> &'static str {
    match name {
        "lgbm" => "LightGBM",
        "ae" => "Autoencoder",
        "profile" => "Benign profile",
        _ => "Fusion",
    }
}

fn share(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |v| format!("{v:.4}"))
}

fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |v| format!("{:.3} %", v * 100.0))
}

fn number(value: f64) -> String {
    if value == 0.0 || (0.001..1e6).contains(&value.abs()) { format!("{value:.4}") } else { format!("{value:.3e}") }
}

fn plural(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(n), if n == 1 { one } else { many })
}

impl View {
    /// Makes the data of the page.
    pub(super) fn new(
        title_text: &str,
        metrics: &Metrics,
        alerts: Vec<Alert>,
        pictures: Vec<Picture>,
        origin: Option<&Origin>,
        key: String,
    ) -> Self {
        let target = origin.and_then(Origin::target);
        let metrics_path = target.as_ref().map_or_else(|| "reports/metrics.json".to_owned(), |t| t.path.clone());
        Self {
            title: title_text.to_owned(),
            simulated: metrics.dataset.source == Source::Simulated,
            dataset: dataset(metrics),
            summary: summary(metrics),
            warning: metrics.threshold.why.clone(),
            tiles: tiles(metrics),
            metric_names: [
                "average precision",
                "ROC AUC",
                "F1",
                &format!("F{}", metrics.threshold.beta),
                "precision",
                "recall",
                "false-positive rate",
            ]
            .map(str::to_owned)
            .to_vec(),
            models: models(metrics),
            gain: metrics.fusion_gain.as_ref().map(|g| {
                let interval = g.ci95.map_or_else(String::new, |[low, high]| {
                    format!(" (95 % interval {low:+.4} to {high:+.4}, paired by session)")
                });
                format!(
                    "Average precision of the fusion minus that of the best single model, {}: {:+.4}{interval}.",
                    title(&g.best_member),
                    g.average_precision
                )
            }),
            pictures,
            threshold: threshold(metrics),
            folds: folds(metrics),
            split: metrics.split.method.clone(),
            types: types(metrics),
            subsets: subsets(metrics),
            calibration: calibration(metrics),
            alert_count: grouped(if metrics.split.test.sessions > 0 {
                metrics.alerts.test
            } else {
                metrics.alerts.all
            }),
            alert_fold: if metrics.split.test.sessions > 0 { "test fold" } else { "log" }.to_owned(),
            alerts,
            svg: origin.map(Origin::svg),
            artifacts: origin.map(Origin::artifacts).unwrap_or_default(),
            actions: origin.map(Origin::actions).unwrap_or_default(),
            numbers: numbers(metrics),
            metrics_digest: target.map(|t| t.digest).unwrap_or_default(),
            metrics_path,
            metrics_key: metrics.key.clone(),
            resamples: metrics.method.resamples,
            seed: metrics.method.seed,
            key,
        }
    }
}

fn dataset(metrics: &Metrics) -> Vec<(String, String)> {
    let d = &metrics.dataset;
    let count = |n: Option<u64>| n.map_or_else(|| "unknown".to_owned(), grouped);
    let time = |t: &Option<String>| t.as_deref().unwrap_or("unknown").replace('T', " ").replace('Z', "");
    let rows = [
        (
            "data",
            if d.name.contains(d.source.name()) { d.name.clone() } else { format!("{} ({})", d.name, d.source.name()) },
        ),
        ("lines", format!("{}, {} rejected", count(d.lines), count(d.rejected))),
        ("sessions", format!("{}, {} still open when the log ended", grouped(d.sessions), grouped(d.censored))),
        (
            "labelled anomalous",
            format!("{} ({} sessions without a label)", grouped(d.anomalies), grouped(d.unlabelled)),
        ),
        ("time (UTC)", format!("{} to {}", time(&d.first), time(&d.last))),
        ("split", metrics.split.method.clone()),
    ];
    rows.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
}

fn summary(metrics: &Metrics) -> String {
    let days = metrics.alerts.alerts_per_day.map_or_else(String::new, |a| format!(", {a:.1} alerts a day"));
    match &metrics.confusion {
        Some(c) => {
            let ranking = metrics
                .fusion
                .average_precision
                .map_or_else(String::new, |ap| format!(" Ranked by score alone, its average precision is {ap:.4}."));
            format!(
                "In the test fold ({}), the fusion flagged {} of {} and raised {} among {}{days}.{ranking}",
                plural(metrics.split.test.sessions, "session", "sessions"),
                grouped(c.tp),
                plural(c.tp + c.fn_, "anomaly", "anomalies"),
                plural(c.fp, "false alert", "false alerts"),
                plural(c.fp + c.tn, "normal session", "normal sessions"),
            )
        }
        None => format!(
            "No labels: {} flagged {} in the test fold{days}. How many of them are right cannot be said.",
            plural(
                metrics.split.test.sessions,
                "session was scored, and the fusion",
                "sessions were scored, and the fusion"
            ),
            grouped(metrics.alerts.test),
        ),
    }
}

fn tiles(metrics: &Metrics) -> Vec<Tile> {
    let f = &metrics.fusion;
    let range = |ci: Option<[f64; 2]>| ci.map_or_else(String::new, |[low, high]| format!("{low:.4} – {high:.4}"));
    let tile = |name: &str, value: String, note: String| Tile { name: name.to_owned(), value, note };
    let ratio = metrics.false_positive_rate.as_ref().map(|c| format!("{} intended", percent(Some(c.intended))));
    vec![
        tile("average precision", share(f.average_precision), range(f.ci95.average_precision)),
        tile("F1", share(f.f1), range(f.ci95.f1)),
        tile("precision", share(f.precision), range(f.ci95.precision)),
        tile("recall", share(f.recall), range(f.ci95.recall)),
        tile("false-positive rate", percent(f.fpr), ratio.unwrap_or_default()),
        tile(
            "alerts a day",
            metrics.alerts.alerts_per_day.map_or_else(|| "–".to_owned(), |a| format!("{a:.1}")),
            metrics.alerts.false_alerts_per_day.map_or_else(String::new, |a| format!("{a:.1} of them false")),
        ),
    ]
}

fn models(metrics: &Metrics) -> Vec<Model> {
    type Pick = fn(&ModelMetrics) -> (Option<f64>, Option<[f64; 2]>);
    // Highest is best, but for the last.
    let picks: [Pick; 7] = [
        |m| (m.average_precision, m.ci95.average_precision),
        |m| (m.roc_auc, m.ci95.roc_auc),
        |m| (m.f1, m.ci95.f1),
        |m| (m.f_beta, m.ci95.f_beta),
        |m| (m.precision, m.ci95.precision),
        |m| (m.recall, m.ci95.recall),
        |m| (m.fpr, m.ci95.fpr),
    ];
    let best: Vec<Option<f64>> = picks
        .iter()
        .enumerate()
        .map(|(i, pick)| {
            let values = MODELS.iter().filter_map(|name| pick(of(metrics, name)).0);
            if i == 6 { values.min_by(f64::total_cmp) } else { values.max_by(f64::total_cmp) }
        })
        .collect();
    let row = |name: &&str| {
        let model = of(metrics, name);
        let cell = |(i, pick): (usize, &Pick)| {
            let (value, interval) = pick(model);
            let show = |v: f64| if i == 6 { format!("{:.3} %", v * 100.0) } else { format!("{v:.4}") };
            Cell {
                value: value.map_or_else(|| "–".to_owned(), show),
                interval: interval.map_or_else(String::new, |[low, high]| format!("{} – {}", show(low), show(high))),
                best: value.is_some() && value == best[i],
            }
        };
        Model {
            title: title(name).to_owned(),
            name: (*name).to_owned(),
            trained: model.trained,
            threshold: model.threshold.as_ref().map_or_else(|| "–".to_owned(), |t| number(t.value)),
            cells: picks.iter().enumerate().map(cell).collect(),
        }
    };
    MODELS.iter().map(row).collect()
}

fn threshold(metrics: &Metrics) -> String {
    let t = &metrics.threshold;
    let goal = match t.objective {
        Objective::FBeta => format!("the highest F{} on the validation fold", t.beta),
        Objective::FprAtTpr => {
            format!("the lowest false-positive rate on the validation fold at a recall of at least {}", t.tpr)
        }
        Objective::AlertBudget => format!(
            "at most {} alerts in the validation fold",
            t.alerts_allowed.map_or_else(|| "the allowed".to_owned(), |a| format!("{a:.1}"))
        ),
    };
    let gap = match (t.below, t.above) {
        (Some(below), Some(above)) => {
            format!(" On validation any value above {} and up to {} decides alike.", number(below), number(above))
        }
        _ => String::new(),
    };
    format!("A session is an alert when its fused score is at least {}, chosen for {goal}.{gap}", number(t.value))
}

fn folds(metrics: &Metrics) -> Vec<FoldRow> {
    let s = &metrics.split;
    [("train", &s.train), ("validation", &s.validation), ("test", &s.test)]
        .map(|(name, counts)| {
            let mut counts = counts.clone();
            for time in [&mut counts.first, &mut counts.last].into_iter().flatten() {
                *time = time.replace('T', " ").replace('Z', "");
            }
            FoldRow { name: name.to_owned(), counts }
        })
        .into()
}

fn types(metrics: &Metrics) -> Vec<TypeRow> {
    let mut rows: Vec<TypeRow> = metrics
        .by_anomaly_type
        .iter()
        .map(|(name, t)| TypeRow {
            name: name.clone(),
            flagged: t.flagged,
            count: t.count,
            recall: format!("{:.3}", t.recall),
            percent: (t.recall * 1000.0).round() / 10.0,
            interval: t.ci95.map_or_else(String::new, |[low, high]| format!("{low:.3} – {high:.3}")),
            models: ["lgbm", "profile", "ae"]
                .iter()
                .map(|m| (title(m).to_owned(), t.models.get(*m).map_or_else(|| "–".to_owned(), |r| format!("{r:.3}"))))
                .collect(),
        })
        .collect();
    rows.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(&b.name)));
    rows
}

fn subsets(metrics: &Metrics) -> Vec<SubsetRow> {
    let row = |name: &str, s: &Subset| SubsetRow {
        name: name.to_owned(),
        count: s.count,
        anomalies: s.anomalies,
        cells: vec![share(s.average_precision), share(s.f1), share(s.recall), percent(s.fpr)],
    };
    [
        metrics.unseen_sequences.as_ref().map(|s| row("event sequence not in the training fold", s)),
        metrics.deduplicated.as_ref().map(|s| row("each distinct event sequence once", s)),
        Some(row("still open when the log ended", &metrics.censored)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn calibration(metrics: &Metrics) -> Vec<CalibrationRow> {
    MODELS
        .iter()
        .flat_map(|name| of(metrics, name).fpr_calibration.iter().map(move |c| (*name, c)))
        .map(|(name, c)| CalibrationRow {
            model: title(name).to_owned(),
            intended: format!("{} %", c.intended * 100.0),
            realised: percent(c.realised),
            ratio: c.ratio.map_or_else(|| "–".to_owned(), |r| format!("{r:.2}")),
            good: c.ratio.is_some_and(|r| (0.5..=2.0).contains(&r)),
        })
        .collect()
}

/// The headline numbers with the place of each in the metrics.
fn numbers(metrics: &Metrics) -> Vec<Number> {
    let f = &metrics.fusion;
    let count = |n: Option<u64>| n.map_or_else(|| "–".to_owned(), grouped);
    let c = metrics.confusion.as_ref();
    [
        ("average precision", share(f.average_precision), "/fusion/average_precision"),
        ("ROC AUC", share(f.roc_auc), "/fusion/roc_auc"),
        ("F1", share(f.f1), "/fusion/f1"),
        ("precision", share(f.precision), "/fusion/precision"),
        ("recall", share(f.recall), "/fusion/recall"),
        ("threshold", number(metrics.threshold.value), "/threshold/value"),
        ("true positives", count(c.map(|c| c.tp)), "/confusion/tp"),
        ("false alerts", count(c.map(|c| c.fp)), "/confusion/fp"),
        ("missed anomalies", count(c.map(|c| c.fn_)), "/confusion/fn"),
    ]
    .into_iter()
    .map(|(name, value, pointer)| Number { name: name.to_owned(), value, pointer: pointer.to_owned() })
    .collect()
}
