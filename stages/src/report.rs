//! The `report` kind: one self-contained page for people.
//!
//! Owns: which numbers a reader sees, and where each comes from. The page holds everything it shows (style, pictures,
//! the graph), needs no network, follows the reader's light or dark setting, prints, and carries the key of the action
//! that made it; it holds no time. A click on a number shows where it came from: `audit.js`, the only script that the
//! page lets run; without it every number still says its place in its tooltip, and all that is known is in the page.
//! `shown` ties each value to its place, `view` makes the data of the page, `explained` what is said of alerts,
//! `origin` reads the lineage document, `page.html` is the template.

mod base64;
mod explained;
mod origin;
mod shown;
mod view;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, ensure};
use logweir_engine::digest::Digest;
use logweir_engine::stage::{ParamError, Params, Slot, Stage, StageContext, StageKind, make, schema_of};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::evaluate::document::Metrics;
use crate::plots;
use crate::support::learning::read_json;
use crate::support::provenance::Provenance;
use crate::support::scoretable::{Fold, ScoreTable};
use explained::{Explained, Why};
use shown::{Document, Form, Piece};
use view::{Alert, Frame, Picture, View};

/// Largest page, bytes: one that mail programs and browsers still open at once.
const LARGEST: usize = 2_000_000;

/// The script of the page; its hash is the only one that the page lets run.
const SCRIPT: &str = include_str!("report/audit.js");

/// Returns the kind.
pub fn kind() -> StageKind {
    const INPUTS: &[Slot] = &[
        Slot::file("metrics", "metrics.json (evaluate)"),
        Slot::file("scores", "the table of scores: reasons and folds (fusion)"),
        Slot::file("ensemble", "decision of every session (evaluate)"),
        Slot::file("roc", "ROC curves (evaluate)"),
        Slot::file("pr", "precision-recall curves (evaluate)"),
        Slot::file("cm", "confusion matrix (evaluate)"),
        Slot::file("histogram", "distribution of the fused score (evaluate)").optional(),
        Slot::file("alerts", "alerts.parquet: reasons, lines and signatures (explain)").optional(),
        Slot::file("signatures", "alerts.json: alike alerts together (explain)").optional(),
        Slot::files("origin", "`lineage:` of metrics and ensemble: where each number comes from").optional(),
    ];
    StageKind {
        name: "report",
        about: "one self-contained HTML page: numbers, plots, the graph, where each number comes from, alerts",
        version: 2,
        code: crate::code("report"),
        inputs: INPUTS,
        outputs: const { &[Slot::file("page", "the page, HTML")] },
        schema: schema_of::<ReportParams>,
        make: make::<ReportParams, Report>,
    }
}

/// Parameters of `report`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReportParams {
    /// Title of the page.
    pub title: String,
    /// How many alerts are listed, the highest scores first.
    pub alerts: usize,
}

impl Default for ReportParams {
    fn default() -> Self {
        Self { title: "Log anomaly report".to_owned(), alerts: 50 }
    }
}

impl Params for ReportParams {
    fn check(&self) -> Vec<ParamError> {
        if self.alerts > 2000 {
            vec![ParamError::new("alerts", "must be at most 2000: the page would be too large")]
        } else {
            Vec::new()
        }
    }
}

/// The stage.
pub struct Report(ReportParams);

impl From<ReportParams> for Report {
    fn from(params: ReportParams) -> Self {
        Self(params)
    }
}

impl Stage for Report {
    fn run(&self, cx: &StageContext<'_>) -> anyhow::Result<()> {
        let path = cx.input("metrics")?;
        let bytes = std::fs::read(path).with_context(|| format!("cannot open {}", path.display()))?;
        let malformed = || format!("{} is no metrics.json", path.display());
        let json: Value = serde_json::from_slice(&bytes).with_context(malformed)?;
        let metrics: Metrics = serde_json::from_slice(&bytes).with_context(malformed)?;
        let metrics_path = logical(cx, "metrics");
        let scores = ScoreTable::read(cx.input("scores")?)?;
        let ensemble = (cx.input("ensemble")?, logical(cx, "ensemble"));
        let why = cx.optional("alerts").map(|path| Explained::read(path, logical(cx, "alerts"))).transpose()?;
        let alerts = top_alerts(ensemble, (&scores, logical(cx, "scores")), why.as_ref(), self.0.alerts)?;
        let signatures: Option<Value> = cx.optional("signatures").map(read_json).transpose()?;
        let origin = origin::Origin::read(cx.inputs("origin"), metrics_path)?;
        let pictures = ["roc", "pr", "cm", "histogram"]
            .iter()
            .filter_map(|slot| cx.optional(slot).map(|path| picture(slot, path, logical(cx, slot))))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let provenance = serde_json::to_string_pretty(&Provenance::of(cx, "report"))?;
        let frame = Frame {
            title: &self.0.title,
            key: cx.key.to_string(),
            provenance: origin::harmless(&provenance),
            metrics_digest: Digest::of_bytes(&bytes).to_string(),
            script: SCRIPT,
            script_hash: base64::encode(&Sha256::digest(SCRIPT.as_bytes())),
        };
        let document = Document { path: metrics_path, json: &json };
        let alike = signatures.as_ref().map(|json| Document { path: logical(cx, "signatures"), json });
        let view = View::new(frame, &metrics, document, (alerts, alike), pictures, origin.as_ref());
        let page = render(&view)?;
        ensure!(
            page.len() < LARGEST,
            "the page would have {} bytes, more than {LARGEST}: list fewer alerts (parameter `alerts`)",
            page.len()
        );
        let path = cx.output("page")?;
        std::fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))
    }
}

fn render(view: &View) -> anyhow::Result<String> {
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
    let mut environment = Environment::new();
    environment.set_syntax(syntax);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // The name ends in .html: everything is escaped unless the template says otherwise.
    environment.add_template("page.html", include_str!("report/page.html"))?;
    Ok(environment.get_template("page.html")?.render(value(serde_json::to_value(view)?))?)
}

/// A JSON value as a value of the template engine.
pub(crate) fn value(json: serde_json::Value) -> minijinja::Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => minijinja::Value::from(()),
        Json::Bool(flag) => flag.into(),
        Json::Number(n) => match (n.as_u64(), n.as_i64()) {
            (Some(n), _) => n.into(),
            (None, Some(n)) => n.into(),
            (None, None) => n.as_f64().unwrap_or(f64::NAN).into(),
        },
        Json::String(text) => text.into(),
        Json::Array(items) => items.into_iter().map(value).collect(),
        Json::Object(members) => {
            let members: BTreeMap<String, minijinja::Value> =
                members.into_iter().map(|(name, item)| (name, value(item))).collect();
            members.into()
        }
    }
}

/// The path of an input as written in pipeline.yaml.
fn logical<'a>(cx: &'a StageContext<'_>, slot: &str) -> &'a str {
    cx.inputs(slot).first().map_or("", |file| &file.logical)
}

fn picture(slot: &str, path: &Path, logical: &str) -> anyhow::Result<Picture> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot open {}", path.display()))?;
    let about = match slot {
        "roc" => "ROC curves of all models with their operating points",
        "pr" => "precision-recall curves of all models with their operating points",
        "cm" => "confusion matrix of the fused decision",
        _ => "distribution of the fused score by label",
    };
    Ok(Picture {
        about: about.to_owned(),
        data: format!("data:image/png;base64,{}", base64::encode(&bytes)),
        path: logical.to_owned(),
        key: plots::key_of_png(&bytes).with_context(|| format!("{} is no PNG", path.display()))?.unwrap_or_default(),
        digest: Digest::of_bytes(&bytes).to_string(),
    })
}

/// Reads the decisions and returns the alerts of the test fold (where there is none: all) with the highest scores, ties
/// by session id.
fn top_alerts(
    (path, ensemble): (&Path, &str),
    (scores, table): (&ScoreTable, &str),
    why: Option<&Explained>,
    count: usize,
) -> anyhow::Result<Vec<Alert>> {
    let place = || format!("in {}", path.display());
    let mut reader = csv::Reader::from_path(path).with_context(place)?;
    let header = reader.headers().with_context(place)?.clone();
    let column = |name: &str| {
        header.iter().position(|h| h == name).with_context(|| format!("{}: no column `{name}`", path.display()))
    };
    let (id, alert, score) = (column("session_id")?, column("is_alert")?, column("fusion_score")?);
    let (time, p_lgbm, z_ae, label) = (column("timestamp")?, column("p_lgbm")?, column("z_ae")?, column("label")?);
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
            let value: f64 =
                record[score].parse().with_context(|| format!("fusion_score of session {}", &record[id]))?;
            found.push((value, row, record));
        }
    }
    ensure!(rows == scores.len(), "{} has {rows} sessions, the table of scores {}", path.display(), scores.len());
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.2[id].cmp(&b.2[id])));
    let alerts = found.into_iter().take(count).map(|(_, row, record)| {
        // The header is row 1.
        let at = |column: usize, form: Form| shown::cell(ensemble, row + 2, column + 1, &record[column], form);
        let word = match &record[label] {
            "1" => "anomalous",
            "0" => "normal",
            _ => "unknown",
        };
        let of_table = |column: &str, text: &str| shown::of_row(table, row, column, text, text);
        let why = match why {
            Some(why) => why.of(&record[id])?,
            None => Why::only(match scores.reason[row].as_str() {
                "" => shown::plain("–"),
                reason => of_table("reason", reason),
            }),
        };
        Ok(Alert {
            session: at(id, Form::Plain),
            time: at(time, Form::Time),
            fold: of_table("fold", scores.fold[row].name()),
            score: at(score, Form::Decimals(4)),
            p_lgbm: at(p_lgbm, Form::Decimals(4)),
            z_ae: at(z_ae, Form::Decimals(1)),
            label: Piece { text: word.to_owned(), ..at(label, Form::Plain) },
            why,
        })
    });
    alerts.collect()
}

#[cfg(test)]
mod tests;
