//! The data of the page: every number as the text that is shown, with its place.

use serde::Serialize;

use super::alerts::{Alert, Group, grouped};
use super::drifted::Drifted;
use super::explained::{SignatureRow, signatures};
use super::origin::{Action, Artifact, Origin};
use super::pictures::Picture;
use super::shown::{Document, Form, Piece, plain, step};
use crate::evaluate::Objective;
use crate::evaluate::document::{Metrics, ModelMetrics, Source};

/// What the template is filled with.
#[derive(Serialize)]
pub(super) struct View {
    title: String,
    simulated: bool,
    dataset: Vec<(String, Vec<Piece>)>,
    summary: Vec<Piece>,
    warning: Option<String>,
    tiles: Vec<Tile>,
    metric_names: Vec<String>,
    models: Vec<Model>,
    gain: Vec<Piece>,
    /// Pictures of the models and their decisions.
    pictures: Vec<Picture>,
    learning: Vec<Picture>,
    of_types: Vec<Picture>,
    of_calibration: Vec<Picture>,
    of_drift: Vec<Picture>,
    drift: Option<Drifted>,
    threshold: Vec<Piece>,
    confusion: Vec<(String, Vec<Piece>)>,
    folds: Vec<FoldRow>,
    split: Piece,
    types: Vec<TypeRow>,
    subsets: Vec<SubsetRow>,
    calibration: Vec<CalibrationRow>,
    groups: Vec<Group>,
    /// How many alerts are listed.
    listed: usize,
    /// How many are not.
    left_out: u64,
    /// Where all alerts are.
    alerts_path: String,
    /// Whether the alerts have signatures and lines.
    explained: bool,
    signatures: Vec<SignatureRow>,
    /// How many signatures there are.
    all_signatures: usize,
    signatures_path: String,
    alert_count: Piece,
    alert_fold: String,
    svg: Option<String>,
    artifacts: Vec<Artifact>,
    actions: Vec<Action>,
    numbers: Vec<Number>,
    metrics_path: String,
    metrics_key: String,
    metrics_digest: String,
    resamples: Piece,
    seed: Piece,
    key: String,
    lineage: Vec<Embedded>,
    provenance: String,
    too_large: Option<usize>,
    script: &'static str,
    script_hash: String,
}

/// What the page shows beside the metrics.
pub(super) struct Extra<'a> {
    pub alerts: Vec<Alert>,
    /// The file that has all alerts.
    pub alerts_path: &'a str,
    pub signatures: Option<Document<'a>>,
    pub drift: Option<Document<'a>>,
    pub pictures: &'a [Picture],
}

#[derive(Serialize)]
struct Tile {
    name: String,
    value: Piece,
    note: Vec<Piece>,
}

#[derive(Serialize)]
struct Model {
    title: String,
    name: String,
    trained: bool,
    threshold: Piece,
    cells: Vec<Cell>,
}

#[derive(Serialize)]
struct Cell {
    value: Piece,
    interval: Vec<Piece>,
    best: bool,
}

#[derive(Serialize)]
struct FoldRow {
    name: String,
    cells: Vec<Piece>,
    times: Vec<Piece>,
}

#[derive(Serialize)]
struct TypeRow {
    name: String,
    flagged: Piece,
    count: Piece,
    recall: Piece,
    percent: f64,
    interval: Vec<Piece>,
    models: Vec<(String, Piece)>,
}

#[derive(Serialize)]
struct SubsetRow {
    name: String,
    cells: Vec<Piece>,
}

#[derive(Serialize)]
struct CalibrationRow {
    model: String,
    intended: Piece,
    realised: Piece,
    ratio: Piece,
    /// Within a factor of two of what was intended.
    good: bool,
}

#[derive(Serialize)]
struct Number {
    name: String,
    value: Piece,
}

/// A lineage document inside the page.
#[derive(Clone, Serialize)]
pub(super) struct Embedded {
    /// Path of the artifact it speaks of.
    pub target: String,
    /// Digest of the document.
    pub digest: String,
    /// Its text, with `<` written so that it cannot end the element it lies in.
    pub text: String,
}

/// What the page says of itself and of the files it shows.
pub(super) struct Frame<'a> {
    pub title: &'a str,
    pub key: String,
    /// The page's own provenance, JSON.
    pub provenance: String,
    pub metrics_digest: String,
    pub script: &'static str,
    pub script_hash: String,
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

impl View {
    /// Makes the data of the page.
    pub(super) fn new(
        frame: Frame<'_>,
        metrics: &Metrics,
        document: Document<'_>,
        extra: Extra<'_>,
        origin: Option<&Origin>,
    ) -> Self {
        let has_test = metrics.split.test.sessions > 0;
        let d = document;
        let Extra { alerts, alerts_path, signatures: alike, drift, pictures } = extra;
        let (signatures, all_signatures) = alike.map(signatures).unwrap_or_default();
        let of_slots = |slots: &[&str]| -> Vec<Picture> {
            pictures.iter().filter(|picture| slots.contains(&picture.slot)).cloned().collect()
        };
        let all_alerts = if has_test { metrics.alerts.test } else { metrics.alerts.all };
        let explained = alerts.iter().any(|alert| alert.why.signature().is_some());
        Self {
            title: frame.title.to_owned(),
            simulated: metrics.dataset.source == Source::Simulated,
            dataset: dataset(metrics, d),
            summary: summary(metrics, d),
            warning: metrics.threshold.why.clone(),
            tiles: tiles(d),
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
            models: models(metrics, d),
            gain: gain(metrics, d),
            pictures: of_slots(&["roc", "pr", "cm", "histogram"]),
            learning: of_slots(&["lgbm_learning", "ae_learning"]),
            of_types: of_slots(&["recall_by_type"]),
            of_calibration: of_slots(&["calibration"]),
            of_drift: of_slots(&["drift_plot"]),
            drift: drift.map(Drifted::of),
            threshold: threshold(metrics, d),
            confusion: confusion(d),
            folds: folds(d),
            split: d.at("/split/method", Form::Plain),
            types: types(metrics, d),
            subsets: subsets(d),
            calibration: calibration(metrics, d),
            alert_count: d.at(if has_test { "/alerts/test" } else { "/alerts/all" }, Form::Count),
            alert_fold: if has_test { "test fold" } else { "log" }.to_owned(),
            explained,
            listed: alerts.len(),
            left_out: all_alerts.saturating_sub(alerts.len() as u64),
            alerts_path: alerts_path.to_owned(),
            groups: grouped(alerts),
            signatures,
            all_signatures,
            signatures_path: alike.map_or("", |d| d.path).to_owned(),
            svg: origin.map(Origin::svg),
            artifacts: origin.map(Origin::artifacts).unwrap_or_default(),
            actions: origin.map(Origin::actions).unwrap_or_default(),
            numbers: numbers(d),
            metrics_digest: frame.metrics_digest,
            metrics_path: d.path.to_owned(),
            metrics_key: metrics.key.clone(),
            resamples: d.at("/method/resamples", Form::Plain),
            seed: d.at("/method/seed", Form::Plain),
            key: frame.key,
            lineage: origin.map(Origin::embedded).unwrap_or_default(),
            provenance: frame.provenance,
            too_large: origin.and_then(Origin::too_large),
            script: frame.script,
            script_hash: frame.script_hash,
        }
    }
}

const SHARE: Form = Form::Decimals(4);
const PERCENT: Form = Form::Percent(3);

/// Text with a value in it: `before`, the value, `after`.
fn around(before: &str, value: Piece, after: &str) -> [Piece; 3] {
    [plain(before), value, plain(after)]
}

fn dataset(metrics: &Metrics, d: Document<'_>) -> Vec<(String, Vec<Piece>)> {
    let s = &metrics.dataset;
    let mut name = vec![d.at("/dataset/name", Form::Plain)];
    if !s.name.contains(s.source.name()) {
        name.extend(around(" (", d.at("/dataset/source", Form::Plain), ")"));
    }
    let count = |pointer: &str| d.at(pointer, Form::Count);
    let two = |a: &str, between: &str, b: &str, after: &str| {
        let mut all = vec![count(a)];
        all.extend(around(between, count(b), after));
        all
    };
    let rows = [
        ("data", name),
        ("lines", two("/dataset/lines", ", ", "/dataset/rejected", " rejected")),
        ("sessions", two("/dataset/sessions", ", ", "/dataset/censored", " still open when the log ended")),
        ("labelled anomalous", two("/dataset/anomalies", " (", "/dataset/unlabelled", " sessions without a label)")),
        ("time (UTC)", vec![d.at("/dataset/first", Form::Time), plain(" to "), d.at("/dataset/last", Form::Time)]),
        ("split", vec![d.at("/split/method", Form::Plain)]),
    ];
    rows.into_iter().map(|(name, pieces)| (name.to_owned(), pieces)).collect()
}

fn summary(metrics: &Metrics, d: Document<'_>) -> Vec<Piece> {
    let mut say: Vec<Piece> = Vec::new();
    let one = |n: u64, one: &str, many: &str| if n == 1 { one.to_owned() } else { many.to_owned() };
    let days = |say: &mut Vec<Piece>| {
        if d.has("/alerts/alerts_per_day") {
            say.extend(around(", ", d.at("/alerts/alerts_per_day", Form::Decimals(1)), " alerts a day"));
        }
    };
    let sessions = d.at("/split/test/sessions", Form::Count);
    let single = d.is_one("/split/test/sessions");
    if let Some(c) = &metrics.confusion {
        let after = if single { " session), the fusion flagged " } else { " sessions), the fusion flagged " };
        say.extend(around("In the test fold (", sessions, after));
        say.push(d.at("/confusion/tp", Form::Count));
        let after = one(c.tp + c.fn_, " anomaly and raised ", " anomalies and raised ");
        say.extend(around(" of ", d.sum("/confusion/tp", "/confusion/fn"), &after));
        say.push(d.at("/confusion/fp", Form::Count));
        say.push(plain(one(c.fp, " false alert among ", " false alerts among ")));
        say.push(d.sum("/confusion/fp", "/confusion/tn"));
        say.push(plain(one(c.fp + c.tn, " normal session", " normal sessions")));
        days(&mut say);
        say.push(plain("."));
        if d.has("/fusion/average_precision") {
            let value = d.at("/fusion/average_precision", SHARE);
            say.extend(around(" Ranked by score alone, its average precision is ", value, "."));
        }
    } else {
        let after = if single { " session was scored" } else { " sessions were scored" };
        say.extend(around("No labels: ", sessions, after));
        say.extend(around(", and the fusion flagged ", d.at("/alerts/test", Form::Count), " in the test fold"));
        days(&mut say);
        say.push(plain(". How many of them are right cannot be said."));
    }
    say
}

fn gain(metrics: &Metrics, d: Document<'_>) -> Vec<Piece> {
    let Some(gain) = &metrics.fusion_gain else { return Vec::new() };
    let before =
        format!("Average precision of the fusion minus that of the best single model, {}: ", title(&gain.best_member));
    let mut say = vec![plain(before), d.at("/fusion_gain/average_precision", Form::Signed(4))];
    if gain.ci95.is_some() {
        say.extend(around(" (95 % interval ", d.at("/fusion_gain/ci95/0", Form::Signed(4)), " to "));
        say.extend(around("", d.at("/fusion_gain/ci95/1", Form::Signed(4)), ", paired by session)"));
    }
    say.push(plain("."));
    say
}

fn tiles(d: Document<'_>) -> Vec<Tile> {
    let note = |pointer: &str, form: Form, after: &str| {
        if d.has(pointer) { vec![d.at(pointer, form), plain(after)] } else { Vec::new() }
    };
    let tile = |name: &str, value: Piece, note: Vec<Piece>| Tile { name: name.to_owned(), value, note };
    let of = |name: &str, member: &str| {
        let value = d.at(&format!("/fusion/{member}"), SHARE);
        tile(name, value, d.interval(&format!("/fusion/ci95/{member}"), SHARE))
    };
    vec![
        of("average precision", "average_precision"),
        of("F1", "f1"),
        of("precision", "precision"),
        of("recall", "recall"),
        tile(
            "false-positive rate",
            d.at("/fusion/fpr", PERCENT),
            note("/false_positive_rate/intended", PERCENT, " intended"),
        ),
        tile(
            "alerts a day",
            d.at("/alerts/alerts_per_day", Form::Decimals(1)),
            note("/alerts/false_alerts_per_day", Form::Decimals(1), " of them false"),
        ),
    ]
}

fn models(metrics: &Metrics, d: Document<'_>) -> Vec<Model> {
    // Highest is best, but for the last.
    const MEMBERS: [&str; 7] = ["average_precision", "roc_auc", "f1", "f_beta", "precision", "recall", "fpr"];
    let value = |model: &str, member: &str| d.json.pointer(&format!("/{model}/{member}"))?.as_f64();
    let best = MEMBERS.map(|member| {
        let values = MODELS.iter().filter_map(|model| value(model, member));
        if member == "fpr" { values.min_by(f64::total_cmp) } else { values.max_by(f64::total_cmp) }
    });
    let row = |name: &&str| {
        let cell = |(i, member): (usize, &&str)| {
            let form = if *member == "fpr" { PERCENT } else { SHARE };
            let this = value(name, member);
            Cell {
                value: d.at(&format!("/{name}/{member}"), form),
                interval: d.interval(&format!("/{name}/ci95/{member}"), form),
                best: this.is_some() && this == best[i],
            }
        };
        Model {
            title: title(name).to_owned(),
            name: (*name).to_owned(),
            trained: of(metrics, name).trained,
            threshold: d.at(&format!("/{name}/threshold/value"), Form::Short),
            cells: MEMBERS.iter().enumerate().map(cell).collect(),
        }
    };
    MODELS.iter().map(row).collect()
}

fn threshold(metrics: &Metrics, d: Document<'_>) -> Vec<Piece> {
    let value = d.at("/threshold/value", Form::Short);
    let mut say = around("A session is an alert when its fused score is at least ", value, ", chosen for ").to_vec();
    say.extend(match metrics.threshold.objective {
        Objective::FBeta => {
            around("the highest F", d.at("/threshold/beta", Form::Plain), " on the validation fold").to_vec()
        }
        Objective::FprAtTpr => around(
            "the lowest false-positive rate on the validation fold at a recall of at least ",
            d.at("/threshold/tpr", Form::Plain),
            "",
        )
        .to_vec(),
        Objective::AlertBudget => {
            let allowed = d.at("/threshold/alerts_allowed", Form::Decimals(1));
            around("at most ", allowed, " alerts in the validation fold").to_vec()
        }
    });
    say.push(plain("."));
    if d.has("/threshold/below") && d.has("/threshold/above") {
        let below = d.at("/threshold/below", Form::Short);
        say.extend(around(" On validation any value above ", below, " and up to "));
        say.extend(around("", d.at("/threshold/above", Form::Short), " decides alike."));
    }
    say
}

/// Decisions against labels, a row per label.
fn confusion(d: Document<'_>) -> Vec<(String, Vec<Piece>)> {
    if !d.has("/confusion") {
        return Vec::new();
    }
    let row = |(label, members): (&str, [&str; 2])| {
        let cells = members.map(|member| d.at(&format!("/confusion/{member}"), Form::Count));
        (label.to_owned(), cells.to_vec())
    };
    [("anomalous", ["tp", "fn"]), ("normal", ["fp", "tn"])].map(row).into()
}

fn folds(d: Document<'_>) -> Vec<FoldRow> {
    let row = |name: &str| FoldRow {
        name: name.to_owned(),
        cells: ["sessions", "anomalies", "normal", "unlabelled", "censored"]
            .map(|member| d.at(&format!("/split/{name}/{member}"), Form::Count))
            .to_vec(),
        times: ["first", "last"].map(|member| d.at(&format!("/split/{name}/{member}"), Form::Time)).to_vec(),
    };
    ["train", "validation", "test"].map(row).into()
}

fn types(metrics: &Metrics, d: Document<'_>) -> Vec<TypeRow> {
    let mut types: Vec<_> = metrics.by_anomaly_type.iter().collect();
    types.sort_by(|a, b| b.1.count.cmp(&a.1.count).then_with(|| a.0.cmp(b.0)));
    let row = |(name, t): (&String, &crate::evaluate::document::TypeRecall)| {
        let at = |member: &str| format!("/by_anomaly_type/{}/{member}", step(name));
        TypeRow {
            name: name.clone(),
            flagged: d.at(&at("flagged"), Form::Count),
            count: d.at(&at("count"), Form::Count),
            recall: d.at(&at("recall"), Form::Decimals(3)),
            percent: (t.recall * 1000.0).round() / 10.0,
            interval: d.interval(&at("ci95"), Form::Decimals(3)),
            models: ["lgbm", "profile", "ae"]
                .map(|model| (title(model).to_owned(), d.at(&at(&format!("models/{model}")), Form::Decimals(3))))
                .to_vec(),
        }
    };
    types.into_iter().map(row).collect()
}

fn subsets(d: Document<'_>) -> Vec<SubsetRow> {
    let row = |(member, name): (&str, &str)| {
        let at = |inner: &str, form: Form| d.at(&format!("/{member}/{inner}"), form);
        d.has(&format!("/{member}")).then(|| SubsetRow {
            name: name.to_owned(),
            cells: vec![
                at("count", Form::Count),
                at("anomalies", Form::Count),
                at("average_precision", SHARE),
                at("f1", SHARE),
                at("recall", SHARE),
                at("fpr", PERCENT),
            ],
        })
    };
    [
        ("unseen_sequences", "event sequence not in the training fold"),
        ("deduplicated", "each distinct event sequence once"),
        ("censored", "still open when the log ended"),
    ]
    .into_iter()
    .filter_map(row)
    .collect()
}

fn calibration(metrics: &Metrics, d: Document<'_>) -> Vec<CalibrationRow> {
    let rows =
        MODELS.iter().flat_map(|name| of(metrics, name).fpr_calibration.iter().enumerate().map(move |c| (*name, c)));
    rows.map(|(name, (i, c))| {
        let at = |member: &str, form: Form| d.at(&format!("/{name}/fpr_calibration/{i}/{member}"), form);
        CalibrationRow {
            model: title(name).to_owned(),
            intended: at("intended", Form::PlainPercent),
            realised: at("realised", PERCENT),
            ratio: at("ratio", Form::Decimals(2)),
            good: c.ratio.is_some_and(|r| (0.5..=2.0).contains(&r)),
        }
    })
    .collect()
}

/// The headline numbers.
fn numbers(d: Document<'_>) -> Vec<Number> {
    [
        ("average precision", "/fusion/average_precision", SHARE),
        ("ROC AUC", "/fusion/roc_auc", SHARE),
        ("F1", "/fusion/f1", SHARE),
        ("precision", "/fusion/precision", SHARE),
        ("recall", "/fusion/recall", SHARE),
        ("threshold", "/threshold/value", Form::Short),
        ("true positives", "/confusion/tp", Form::Count),
        ("false alerts", "/confusion/fp", Form::Count),
        ("missed anomalies", "/confusion/fn", Form::Count),
        ("true negatives", "/confusion/tn", Form::Count),
    ]
    .into_iter()
    .map(|(name, pointer, form)| Number { name: name.to_owned(), value: d.at(pointer, form) })
    .collect()
}
