//! The `explain` kind: why each alert is one, and where in the log to look.
//!
//! Owns: the table of alerts and the summary of alike ones. What the models say comes from themselves: contributions of
//! features to the supervised margin (TreeSHAP), parts of the autoencoder's error, the difference to the nearest benign
//! session; each model is optional. Lines stand out that are of templates which that session does not have or has fewer
//! of; after which something is missing that it has there; or which make the features that speak loudest. Every alert
//! has a reason and, where sessions have lines, at least one of them.
//!
//! Sessions are read in slices and explained some at a time: memory is that of the alerts. Features are made anew for
//! alerts, by the vectoriser that made those of the models; scores that then differ from the table's mean that model and
//! table are of different runs, an error.
//!
//! Does not own: which sessions are alerts (`evaluate`), what models say (`lightgbm`, `autoencoder`, `profile`).

mod alert;
mod align;
mod chosen;
mod columns;
mod decision;
mod ensemble;
mod explainer;
mod odd;
mod summary;
mod wording;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use logweir_engine::stage::{ParamError, Params, Slot, Stage, StageContext, StageKind, make, schema_of};
use polars::prelude::DataFrame;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::profile::Differences;
use crate::sessionize::SessionSummary;
use crate::support::learning::write_json;
use crate::support::provenance::Provenance;
use crate::support::scoretable::ScoreTable;
use crate::support::table::write_parquet;
use crate::support::traces::{Templates, read_types};
pub use alert::{Alert, Contribution, Deviant, Explanation, Odd, OddLine, Residual, Shares, read_alerts};
use chosen::events_of;
pub use chosen::{Chosen, Files, LineRef};
pub use ensemble::Decision;
use ensemble::alerts_of;
pub use explainer::{Directories, Explainer, Raw};
pub use summary::{Example, Signature, Summary};

/// Alerts explained at a time.
const SOME: usize = 4096;

/// Scores of a model on the same session differ by no more, relative to 1 or to the score where that is larger.
const ALIKE: f64 = 1e-9;

/// Returns the kind.
pub fn kind() -> StageKind {
    StageKind {
        name: "explain",
        about: "why each alert is one: reason, lines that stand out, contributions, a signature that alike alerts share",
        version: 1,
        code: crate::code("explain"),
        inputs: const {
            &[
                Slot::file("scores", "the table of scores (fusion)"),
                Slot::file("ensemble", "decision of every session (evaluate)"),
                Slot::file("sessions", "sessions.parquet"),
                Slot::file("templates", "templates.csv"),
                Slot::file("summary", "sessions.json: the files that lines are numbered in").optional(),
                Slot::directory("features", "features directory, needed with `lgbm` and `ae`").optional(),
                Slot::directory("lgbm", "model directory of `lightgbm`: contributions").optional(),
                Slot::directory("ae", "model directory of `autoencoder`: residuals").optional(),
                Slot::directory("profile", "model directory of `profile`: nearest benign sessions").optional(),
                Slot::directory("fusion", "model directory of `fusion`: each model's part in the decision").optional(),
                Slot::file("types", "types of anomalous sessions (label)").optional(),
            ]
        },
        outputs: const {
            &[
                Slot::file("alerts", "alerts.parquet: one row per alert"),
                Slot::file("summary", "alerts.json: alike alerts together"),
            ]
        },
        schema: schema_of::<ExplainParams>,
        make: make::<ExplainParams, Explain>,
    }
}

/// Parameters of `explain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExplainParams {
    /// Most contributions of features to the supervised margin that an alert lists, largest first.
    pub contributions: usize,
    /// Most parts of the autoencoder's error that an alert lists, largest first.
    pub residuals: usize,
    /// Most lines that stand out that an alert lists; at least 1.
    pub lines: usize,
    /// Most sessions that the summary names for each signature.
    pub examples: usize,
}

impl Default for ExplainParams {
    fn default() -> Self {
        Self { contributions: 8, residuals: 5, lines: 20, examples: 3 }
    }
}

impl Params for ExplainParams {
    fn check(&self) -> Vec<ParamError> {
        if self.lines == 0 { vec![ParamError::new("lines", "must be at least 1")] } else { Vec::new() }
    }
}

/// The stage.
pub struct Explain(ExplainParams);

impl From<ExplainParams> for Explain {
    fn from(params: ExplainParams) -> Self {
        Self(params)
    }
}

impl Stage for Explain {
    fn run(&self, cx: &StageContext<'_>) -> anyhow::Result<()> {
        let (alert, scores) = alerts_of(cx.input("ensemble")?, cx.input("scores")?)?;
        let mut rows = 0;
        let chosen = Chosen::read(cx.input("sessions")?, |row| {
            rows = rows.max(row + 1);
            alert.get(row).copied().unwrap_or(false)
        })?;
        ensure!(
            rows == alert.len() && chosen.traces.ids == scores.ids,
            "the sessions table and the table of scores hold different sessions"
        );
        if chosen.lines.is_empty() && !chosen.is_empty() {
            cx.warn("the sessions have no line numbers: alerts name no lines");
        }
        let templates = Templates::read(cx.input("templates")?)?;
        let types = cx.optional("types").map(read_types).transpose()?.unwrap_or_default();
        let about = cx.optional("summary").map(read_summary).transpose()?;
        let (simulated, files) = about.map(|a| (a.simulated, a.files)).unzip();
        let directory = |slot: &str| cx.optional(slot).map(Path::to_path_buf);
        let directories = Directories {
            features: directory("features"),
            lgbm: directory("lgbm"),
            ae: directory("ae"),
            profile: directory("profile"),
            fusion: directory("fusion"),
        };
        if directories.features.is_none() && (directories.lgbm.is_some() || directories.ae.is_some()) {
            bail!("slots `lgbm` and `ae` need the slot `features`: what a model says is said of features");
        }
        let files = Files::new(files.unwrap_or_default());
        let judged = Judged { alert, scores, chosen, templates, types };
        let mut gathered = summary::Gatherer::default();
        // A booster stays on one thread, so models are loaded where they are used.
        let mut table = cx.in_pool(|| {
            let explainer = Explainer::load(&directories, &judged.templates, files, &self.0)?;
            judged.explained(cx, &self.0, &explainer, &mut gathered)
        })??;
        write_parquet(cx.output("alerts")?, &mut table)?;
        let sessions = judged.alert.len() as u64;
        let summary = gathered.summary(simulated, sessions, Provenance::of(cx, "explain"));
        cx.info(format!("{} alerts, {} signatures", summary.alerts, summary.signatures.len()));
        write_json(cx.output("summary")?, &summary)
    }
}

/// What is known of alerts without the models.
struct Judged {
    /// Which sessions are alerts.
    alert: Vec<bool>,
    /// Scores of the alerts.
    scores: ScoreTable,
    /// The alerts.
    chosen: Chosen,
    templates: Templates,
    types: BTreeMap<String, String>,
}

impl Judged {
    /// Explains the alerts, some at a time; returns the table of them.
    fn explained(
        &self,
        cx: &StageContext<'_>,
        params: &ExplainParams,
        explainer: &Explainer<'_>,
        gathered: &mut summary::Gatherer,
    ) -> anyhow::Result<DataFrame> {
        let (chosen, templates) = (&self.chosen, &self.templates);
        let differences = explainer.differences(chosen);
        let heard = explainer.hear(chosen)?;
        let nearest = differences.as_ref().map(Differences::nearest).unwrap_or_default();
        cx.check_cancelled()?;
        let benign = events_of(cx.input("sessions")?, &nearest)?;
        let texts: BTreeMap<&str, &str> =
            templates.event_ids.iter().zip(&templates.texts).map(|(id, text)| (id.as_str(), text.as_str())).collect();
        let mut table = alert::frame(&[])?;
        for first in (0..chosen.len()).step_by(SOME) {
            cx.check_cancelled()?;
            cx.progress(first as u64, chosen.len() as u64, "alerts");
            let rows = first..(first + SOME).min(chosen.len());
            let some = chosen.range(rows.clone());
            let explained = explainer.tell(&some, first, &heard, differences.as_ref(), &benign);
            let mut alerts = Vec::with_capacity(explained.len());
            for (row, (raw, explanation)) in rows.zip(explained) {
                let alert = self.alert_of(row, explanation);
                same_scores(&alert, &raw)?;
                gathered.add(&alert, params.examples, |id| texts.get(id).copied());
                alerts.push(alert);
            }
            table.vstack_mut(&alert::frame(&alerts)?)?;
        }
        cx.progress(chosen.len() as u64, chosen.len() as u64, "alerts");
        table.rechunk_mut();
        Ok(table)
    }

    /// An alert with its scores.
    fn alert_of(&self, row: usize, explanation: Explanation) -> Alert {
        let scores = &self.scores;
        let of = |name: &str| scores.model(name).and_then(|model| model.scores.as_ref()).map(|scores| scores[row]);
        Alert {
            session_id: scores.ids[row].clone(),
            start: scores.start[row],
            end: Some(self.chosen.traces.ends[row]),
            fold: scores.fold[row].name().to_owned(),
            label: scores.label[row],
            kind: self.types.get(&scores.ids[row]).cloned(),
            score: of("fusion").unwrap_or_default(),
            lgbm: of("lgbm"),
            p_lgbm: scores.p_lgbm[row],
            ae: of("ae"),
            z_ae: scores.z_ae[row],
            profile: of("profile"),
            explanation,
        }
    }
}

fn read_summary(path: &Path) -> anyhow::Result<SessionSummary> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    serde_json::from_reader(BufReader::new(file)).with_context(|| format!("{} is no session summary", path.display()))
}

/// Checks that models say of a session what the table says they did.
fn same_scores(alert: &Alert, raw: &Raw) -> anyhow::Result<()> {
    for (name, table, model) in
        [("lgbm", alert.lgbm, raw.lgbm), ("ae", alert.ae, raw.ae), ("profile", alert.profile, raw.profile)]
    {
        let (Some(table), Some(model)) = (table, model) else { continue };
        ensure!(
            (table - model).abs() <= ALIKE * table.abs().max(1.0),
            "the model `{name}` gives session `{}` the score {model}, the table of scores says {table}: they are of \
             different runs",
            alert.session_id
        );
    }
    Ok(())
}

/// Writes a table of alerts, for tests of what reads one.
#[cfg(test)]
pub(crate) fn write_alerts(path: &Path, alerts: &[Alert]) {
    write_parquet(path, &mut alert::frame(alerts).unwrap()).unwrap();
}

#[cfg(test)]
mod tests;
