//! `study`: the metrics of many cells in one table, and what was aimed at beside what was reached.
//!
//! A cell is one `metrics.json` (kind `evaluate`): one way to split or degrade the data. Its name is the folder it lies in,
//! as seen from `folder` (`sample/rolling/0`). A target takes one number of each cell whose name
//! matches, and says how they become one.

mod target;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, ensure};
use logweir_engine::stage::{InputFile, ParamError, Params, Slot, Stage, StageContext, StageKind, make, schema_of};
use minijinja::{Environment, UndefinedBehavior};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::evaluate::document::{Metrics, ModelMetrics, Source};
use crate::report::value;
use crate::support::learning::{read_json, write_json};
use crate::support::provenance::Provenance;
use target::Outcome;
pub use target::{Take, Target};

/// Returns the kind.
pub fn kind() -> StageKind {
    StageKind {
        name: "study",
        about: "many metrics.json in one table, with targets: CSV, JSON and a page",
        version: 1,
        code: crate::code("study"),
        inputs: const { &[Slot::files("cells", "metrics.json of every cell (evaluate)")] },
        outputs: const {
            &[
                Slot::file("table", "a row for each cell and model, CSV"),
                Slot::file("study", "the same and the targets, JSON"),
                Slot::file("page", "the same for people, HTML").optional(),
            ]
        },
        schema: schema_of::<StudyParams>,
        make: make::<StudyParams, Study>,
    }
}

/// Parameters of `study`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StudyParams {
    /// Title of the page.
    pub title: String,
    /// The folder that names of cells leave out.
    pub folder: String,
    /// What is aimed at.
    pub targets: Vec<Target>,
}

impl Default for StudyParams {
    fn default() -> Self {
        Self { title: "Detection study".to_owned(), folder: "reports".to_owned(), targets: Vec::new() }
    }
}

impl Params for StudyParams {
    fn check(&self) -> Vec<ParamError> {
        self.targets.iter().enumerate().flat_map(|(i, target)| target.check(&format!("targets.{i}"))).collect()
    }
}

/// The stage.
struct Study(StudyParams);

impl From<StudyParams> for Study {
    fn from(params: StudyParams) -> Self {
        Self(params)
    }
}

/// One cell.
struct Cell {
    name: String,
    metrics: Metrics,
    json: Value,
}

/// One row of the table: a model in a cell.
#[derive(Serialize)]
struct Row {
    cell: String,
    model: &'static str,
    source: &'static str,
    train: u64,
    test: u64,
    test_anomalies: u64,
    average_precision: Option<f64>,
    average_precision_low: Option<f64>,
    average_precision_high: Option<f64>,
    f1: Option<f64>,
    f1_low: Option<f64>,
    f1_high: Option<f64>,
    precision: Option<f64>,
    recall: Option<f64>,
    fpr: Option<f64>,
    /// Of the fusion only: false positives and false negatives.
    errors: Option<u64>,
    /// At the lowest nominal rate of false positives.
    intended_fpr: Option<f64>,
    realised_fpr: Option<f64>,
    recall_at_fpr: Option<f64>,
}

impl Stage for Study {
    fn run(&self, cx: &StageContext<'_>) -> anyhow::Result<()> {
        let cells = read(cx, self.0.folder.trim_end_matches('/'))?;
        let rows: Vec<Row> = cells.iter().flat_map(rows).collect();
        let path = cx.output("table")?;
        let mut table = csv::Writer::from_path(path).with_context(|| format!("cannot write {}", path.display()))?;
        for row in &rows {
            table.serialize(row)?;
        }
        table.flush()?;
        let outcomes: Vec<Outcome> = self.0.targets.iter().map(|t| t.outcome(&cells)).collect::<Result<_, _>>()?;
        for outcome in outcomes.iter().filter(|o| o.cells.is_empty()) {
            cx.warn(format!("target `{}`: no cell is named so", outcome.name));
        }
        let types: BTreeMap<&str, Value> =
            cells.iter().map(|c| (c.name.as_str(), json!(c.metrics.by_anomaly_type))).collect();
        let simulated = cells.iter().any(|cell| cell.metrics.dataset.source == Source::Simulated);
        let study = json!({
            "title": self.0.title, "simulated": simulated, "targets": outcomes, "cells": rows, "by_anomaly_type": types,
            "provenance": Provenance::of(cx, "study"),
        });
        write_json(cx.output("study")?, &study)?;
        match cx.optional_output("page") {
            Some(path) => write_page(path, &study, &cx.key.to_string()),
            None => Ok(()),
        }
    }
}

/// Reads the cells, in order of their names.
fn read(cx: &StageContext<'_>, common: &str) -> anyhow::Result<Vec<Cell>> {
    let files = cx.inputs("cells");
    ensure!(!files.is_empty(), "no cell was evaluated: there is no metrics.json");
    let cell = |file: &InputFile| {
        let folder = file.logical.rsplit_once('/').map_or("", |(folder, _)| folder);
        let name = folder.strip_prefix(common).map_or(folder, |name| name.trim_start_matches('/'));
        let json: Value = read_json(&file.path)?;
        let metrics =
            serde_json::from_value(json.clone()).with_context(|| format!("{} is no metrics.json", file.logical))?;
        Ok(Cell { name: name.to_owned(), metrics, json })
    };
    files.iter().map(cell).collect()
}

fn rows(cell: &Cell) -> Vec<Row> {
    let m = &cell.metrics;
    let row = |(model, of, errors): (&'static str, &ModelMetrics, Option<u64>)| {
        let strict = of.fpr_calibration.iter().min_by(|a, b| a.intended.total_cmp(&b.intended));
        let (low, high) = of.ci95.average_precision.map(|[l, h]| (l, h)).unzip();
        let (f1_low, f1_high) = of.ci95.f1.map(|[l, h]| (l, h)).unzip();
        Row {
            cell: cell.name.clone(),
            model,
            source: m.dataset.source.name(),
            train: m.split.train.sessions,
            test: m.split.test.sessions,
            test_anomalies: m.split.test.anomalies,
            average_precision: of.average_precision,
            average_precision_low: low,
            average_precision_high: high,
            f1: of.f1,
            f1_low,
            f1_high,
            precision: of.precision,
            recall: of.recall,
            fpr: of.fpr,
            errors,
            intended_fpr: strict.map(|c| c.intended),
            realised_fpr: strict.and_then(|c| c.realised),
            recall_at_fpr: strict.and_then(|c| c.recall),
        }
    };
    let errors = m.confusion.map(|c| c.fp + c.fn_);
    let models =
        [("lgbm", &m.lgbm, None), ("ae", &m.ae, None), ("profile", &m.profile, None), ("fusion", &m.fusion, errors)];
    models.into_iter().filter(|(_, of, _)| of.trained).map(row).collect()
}

fn write_page(path: &Path, study: &Value, key: &str) -> anyhow::Result<()> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_filter("number", |value: Option<f64>| value.map_or_else(|| "–".to_owned(), number));
    environment.add_template("study.html", include_str!("study/page.html"))?;
    let page = environment.get_template("study.html")?.render(value(json!({"study": study, "key": key})))?;
    std::fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))
}

/// Four digits behind the point; whole numbers without.
fn number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() > 1.0 { format!("{value}") } else { format!("{value:.4}") }
}

#[cfg(test)]
mod tests;
