//! The `report` kind: one self-contained page for people.
//!
//! Owns: which numbers a reader sees, and where each comes from. The page holds everything it shows (style, pictures,
//! the graph), needs no network, follows the reader's light or dark setting, prints, and carries the key of the action
//! that made it; it holds no time. A click on a number shows where it came from: `audit.js`, the only script that the
//! page lets run; without it every number still says its place in its tooltip, and all that is known is in the page.
//! `shown` ties each value to its place, `view` makes the data of the page, `explained` what is said of alerts,
//! `origin` reads the lineage document, `page.html` is the template.

mod alerts;
mod base64;
mod drifted;
mod explained;
mod origin;
mod pictures;
mod shown;
mod view;

use std::collections::BTreeMap;

use anyhow::Context as _;
use logweir_engine::digest::Digest;
use logweir_engine::stage::{ParamError, Params, Slot, Stage, StageContext, StageKind, make, schema_of};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::evaluate::document::Metrics;
use crate::support::learning::read_json;
use crate::support::provenance::Provenance;
use crate::support::scoretable::ScoreTable;
use explained::Explained;
use shown::Document;
use view::{Extra, Frame, View};

/// Largest page, bytes: one that mail programs and browsers still open at once.
const LARGEST: usize = 2_000_000;

/// The script of the page; its hash is the only one that the page lets run.
const SCRIPT: &str = concat!(include_str!("report/audit.js"), include_str!("report/alerts.js"));

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
        Slot::file("calibration", "reliability of the supervised probability (evaluate)").optional(),
        Slot::file("recall_by_type", "recall of each type of anomaly (evaluate)").optional(),
        Slot::file("lgbm_learning", "learning curve of LightGBM (learning_curves)").optional(),
        Slot::file("ae_learning", "learning curve of the autoencoder (learning_curves)").optional(),
        Slot::file("drift", "drift.json: verdict and reason (drift)").optional(),
        Slot::file("drift_plot", "picture of the drift (drift)").optional(),
        Slot::file("alerts", "alerts.parquet: reasons, lines and signatures (explain)").optional(),
        Slot::file("signatures", "alerts.json: alike alerts together (explain)").optional(),
        Slot::files("origin", "`lineage:` of metrics and ensemble: where each number comes from").optional(),
    ];
    StageKind {
        name: "report",
        about: "one self-contained HTML page: numbers, plots, the graph, where each number comes from, alerts",
        version: 3,
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
    /// How many alerts are listed, the highest scores first; fewer where the page would be larger than 2 MB.
    pub alerts: usize,
}

impl Default for ReportParams {
    fn default() -> Self {
        Self { title: "Log anomaly report".to_owned(), alerts: 200 }
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
        let table = (&scores, logical(cx, "scores"));
        let found = alerts::Found::read(ensemble, table, why.as_ref())?;
        let signatures: Option<Value> = cx.optional("signatures").map(read_json).transpose()?;
        let drift: Option<Value> = cx.optional("drift").map(read_json).transpose()?;
        let origin = origin::Origin::read(cx.inputs("origin"), metrics_path)?;
        let pictures = pictures::read(cx)?;
        let provenance = serde_json::to_string_pretty(&Provenance::of(cx, "report"))?;
        let provenance = origin::harmless(&provenance);
        let metrics_digest = Digest::of_bytes(&bytes).to_string();
        let mut count = self.0.alerts;
        let page = loop {
            let frame = Frame {
                title: &self.0.title,
                key: cx.key.to_string(),
                provenance: provenance.clone(),
                metrics_digest: metrics_digest.clone(),
                script: SCRIPT,
                script_hash: base64::encode(&Sha256::digest(SCRIPT.as_bytes())),
            };
            let view = View::new(
                frame,
                &metrics,
                Document { path: metrics_path, json: &json },
                Extra {
                    alerts: found.listed(count)?,
                    alerts_path: if why.is_some() { logical(cx, "alerts") } else { ensemble.1 },
                    signatures: signatures.as_ref().map(|json| Document { path: logical(cx, "signatures"), json }),
                    drift: drift.as_ref().map(|json| Document { path: logical(cx, "drift"), json }),
                    pictures: &pictures,
                },
                origin.as_ref(),
            );
            let page = render(&view)?;
            if page.len() < LARGEST || count == 0 {
                break page;
            }
            count = (count.min(found.len()) * 2) / 3;
        };
        if count < self.0.alerts.min(found.len()) {
            cx.warn(format!("the page lists {count} alerts: with {} it would be larger than 2 MB", self.0.alerts));
        }
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

#[cfg(test)]
mod tests;
