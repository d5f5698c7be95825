//! The `export` kind: loads the scores of all sessions into SQLite or PostgreSQL for dashboards.
//!
//! An effect: nothing is stored in the project but the database, and only the database can say whether it is up to
//! date. Rows are kept under the key of the action, in one transaction with the rollups and the mark that makes them
//! the current export: a failed load changes nothing, and loading the same again changes nothing either. The view
//! `sessions` shows the current export. Does not own: dashboards (`provisioning/`).
//!
//! The file format of the tables is `schema`; `address` decides where they are.

mod address;
mod postgresql;
mod rollup;
mod rows;
mod schema;
mod sqlite;
mod target;

use std::collections::BTreeMap;

use anyhow::Context as _;
use logweir_engine::digest::Digest;
use logweir_engine::stage::{Effect, ParamError, Params, Slot, Stage, StageContext, StageKind, make, schema_of};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::evaluate::Objective;
pub(crate) use address::{Address, VARIABLE};
use rows::Load;
use target::Outcome;

/// Returns the kind.
pub fn kind() -> StageKind {
    const INPUTS: &[Slot] = &[
        Slot::file("ensemble", "score and decision of every session (evaluate)"),
        Slot::file("metrics", "metrics.json (evaluate)"),
        Slot::file("scores", "the table of scores: folds and reasons (fusion)").optional(),
        Slot::file("templates", "template texts, for the table `templates` (templates)").optional(),
        Slot::file("sessions", "event sequences, for the table `templates` (sessionize)").optional(),
        Slot::file("origin", "`lineage:` of the metrics, for the table `lineage`").optional(),
    ];
    StageKind {
        name: "export",
        about: "loads scores, alerts, metrics and rollups into SQLite or PostgreSQL, in one transaction",
        version: 1,
        code: crate::code("export"),
        inputs: INPUTS,
        outputs: &[],
        schema: schema_of::<ExportParams>,
        make: make::<ExportParams, Export>,
    }
}

/// Parameters of `export`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExportParams {
    /// `sqlite:PATH` (relative to the project) or `postgresql://USER@HOST:PORT/DATABASE`, without a password. The
    /// environment variable LOGWEIR_POSTGRES (a URL or a libpq string, which may hold one) wins over it; PGHOST, PGPORT,
    /// PGUSER, PGPASSWORD and PGDATABASE fill in what a PostgreSQL address leaves out.
    pub url: String,
    /// PostgreSQL schema of the tables; created where missing.
    pub schema: String,
    /// How many exports the database keeps, the newest ones; 0 = all.
    pub keep: u32,
}

impl Default for ExportParams {
    fn default() -> Self {
        Self { url: "sqlite:data/logweir.sqlite".to_owned(), schema: "public".to_owned(), keep: 10 }
    }
}

impl Params for ExportParams {
    fn check(&self) -> Vec<ParamError> {
        let mut errors = Vec::new();
        if let Err(error) = address::check_parameter(&self.url) {
            let help = if error.to_string().contains("password") {
                "put the whole address into LOGWEIR_POSTGRES, or the password into PGPASSWORD"
            } else {
                "for instance `sqlite:data/logweir.sqlite` or `postgresql://logweir@127.0.0.1:5432/logweir`"
            };
            errors.push(ParamError::new("url", error.to_string()).help(help));
        }
        if self.schema.is_empty() {
            errors.push(ParamError::new("schema", "must not be empty"));
        }
        errors
    }
}

/// The stage.
pub struct Export(ExportParams);

impl From<ExportParams> for Export {
    fn from(params: ExportParams) -> Self {
        Self(params)
    }
}

impl Stage for Export {
    fn run(&self, cx: &StageContext<'_>) -> anyhow::Result<()> {
        let address = Address::resolve(&self.0.url, &self.0.schema, &cx.env)?;
        let mut target = target::open(&address)?;
        let load = Load::read(cx).context("cannot read what is to be exported")?;
        cx.check_cancelled()?;
        let place = address.identity();
        match target.load(&load, self.0.keep)? {
            Outcome::Loaded => {
                cx.info(format!(
                    "{} sessions, {} alerts loaded into {place}",
                    load.sessions.len(),
                    load.alerts().count()
                ));
            }
            Outcome::Present => cx.info(format!("{place} has this export already; it is the current one")),
        }
        Ok(())
    }

    fn effect(&self) -> Option<&dyn Effect> {
        Some(self)
    }
}

impl Effect for Export {
    fn target(&self, env: &BTreeMap<String, String>) -> anyhow::Result<String> {
        Ok(Address::resolve(&self.0.url, &self.0.schema, env)?.identity())
    }

    fn is_current(&self, key: &Digest, env: &BTreeMap<String, String>) -> anyhow::Result<bool> {
        target::holds(&self.0.url, &self.0.schema, &key.to_string(), env)
    }
}

/// The name of an objective in tables.
fn objective_name(objective: Objective) -> &'static str {
    match objective {
        Objective::FBeta => "f_beta",
        Objective::FprAtTpr => "fpr_at_tpr",
        Objective::AlertBudget => "alert_budget",
    }
}
