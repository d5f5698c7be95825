//! The `export` kind: loads the scores of all sessions into SQLite or PostgreSQL for dashboards.
//!
//! An effect: nothing is stored in the project but the database, and only the database can say whether it is up to
//! date. Rows are kept under the key of the action, in one transaction with the rollups and the mark that makes them
//! the current export: a failed load changes nothing, and loading the same again changes nothing either. The view
//! `sessions` shows the current export. Does not own: dashboards (`provisioning/`).
//!
//! The file format of the tables is `schema`; `address` decides where they are, `tls` and `password` how one gets in there,
//! `fault` says what went wrong, `watch` notices that nothing goes on.

mod address;
mod binary;
mod drifted;
mod dsn;
mod ensemble;
mod explained;
mod fault;
mod origins;
mod password;
mod postgresql;
mod rollup;
mod rows;
mod schema;
mod seen;
mod sqlite;
mod table;
mod target;
mod tls;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use logweir_engine::digest::Digest;
use logweir_engine::stage::{Effect, ParamError, Params, Slot, Stage, StageContext, StageKind, make, schema_of};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use address::{Address, Place, Server, VARIABLE};
pub(crate) use postgresql::connect;
use rows::{Later, Load};
pub use target::Mode;
use target::{How, Outcome};

/// Returns the kind.
pub fn kind() -> StageKind {
    const INPUTS: &[Slot] = &[
        Slot::file("ensemble", "score and decision of every session (evaluate)"),
        Slot::file("metrics", "metrics.json (evaluate)"),
        Slot::file("scores", "the table of scores: folds and reasons (fusion)").optional(),
        Slot::file("templates", "template texts, for the table `templates` (templates)").optional(),
        Slot::file("sessions", "event sequences, for the table `templates` (sessionize)").optional(),
        Slot::file("summary", "sessions.json: the files that lines of alerts are in (sessionize)").optional(),
        Slot::file("alerts", "why each alert is one, and its lines (explain)").optional(),
        Slot::file("signatures", "alike alerts, for the table `signatures` (explain)").optional(),
        Slot::file("drift", "whether new sessions are like the old ones, for the tables `drift*` (drift)").optional(),
        Slot::file("origin", "`lineage:` of the metrics, for the tables `lineage*`").optional(),
    ];
    StageKind {
        name: "export",
        about: "loads scores, alerts, metrics and rollups into SQLite or PostgreSQL, in one transaction",
        // 2: more tables, the scores of an export in a partition.
        version: 2,
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
    /// `sqlite:PATH` (relative to the project) or `postgresql://USER@HOST:PORT/DATABASE`, without a password; `?sslmode=verify-full`
    /// and the like as in libpq. The environment variable LOGWEIR_POSTGRES (a URL or a libpq string, which may hold one) wins
    /// over it; PGHOST, PGPORT, PGUSER, PGPASSWORD, PGPASSFILE, PGDATABASE and PGSSL… fill in what a PostgreSQL address leaves out.
    pub url: String,
    /// PostgreSQL schema of the tables; created where missing.
    pub schema: String,
    /// `beside`: exports before this one stay, as many as `keep`; `replace`: they go; `upsert`: sessions of the current one that
    /// this one does not have are taken over.
    pub mode: Mode,
    /// How many exports the database keeps, the newest ones; 0 = all.
    pub keep: u32,
    /// Name of the environment variable that holds the password, where it is none of the usual ones; with `_FILE` behind the name,
    /// the variable that names a file with it. To be listed in `secrets`.
    pub password_from: Option<String>,
    /// Alerts a day that people mean to look at, drawn beside the alerts; unset: the budget that the threshold was chosen for, if any.
    pub alerts_per_day: Option<f64>,
}

impl Default for ExportParams {
    fn default() -> Self {
        Self {
            url: "sqlite:data/logweir.sqlite".to_owned(),
            schema: "public".to_owned(),
            mode: Mode::default(),
            keep: 10,
            password_from: None,
            alerts_per_day: None,
        }
    }
}

impl ExportParams {
    fn place(&self) -> Place<'_> {
        Place { url: &self.url, schema: &self.schema, password_from: self.password_from.as_deref() }
    }
}

impl Params for ExportParams {
    fn check(&self) -> Vec<ParamError> {
        let mut errors = Vec::new();
        if let Err(error) = address::check_parameter(&self.url) {
            let help = if error.to_string().contains("password") {
                "put the whole address into LOGWEIR_POSTGRES, or the password into PGPASSWORD, LOGWEIR_POSTGRES_PASSWORD or a file that LOGWEIR_POSTGRES_PASSWORD_FILE names"
            } else {
                "for instance `sqlite:data/logweir.sqlite` or `postgresql://logweir@127.0.0.1:5432/logweir`"
            };
            errors.push(ParamError::new("url", error.to_string()).help(help));
        }
        if self.schema.is_empty() {
            errors.push(ParamError::new("schema", "must not be empty"));
        }
        let name = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        if self.password_from.as_deref().is_some_and(|text| !name(text)) {
            let help = "it is the name of a variable, not the password itself";
            errors.push(ParamError::new("password_from", "is no name of an environment variable").help(help));
        }
        if self.alerts_per_day.is_some_and(|n| n <= 0.0 || !n.is_finite()) {
            errors.push(ParamError::new("alerts_per_day", "must be above 0"));
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
        let params = &self.0;
        let address = Address::resolve(params.place(), &cx.env)?;
        // A database that is not there is told before everything is read.
        let mut target = target::open(&address, || cx.check_cancelled().is_err())?;
        let unreadable = "cannot read what is to be exported";
        let (load, inputs) = Load::read(cx, params.alerts_per_day).context(unreadable)?;
        cx.check_cancelled()?;
        let (load, later) = (Arc::new(load), Arc::new(Later::default()));
        let place = address.identity();
        let keep = if params.mode == Mode::Replace { 1 } else { params.keep };
        let how = How { mode: params.mode, keep };
        // While the database takes the sessions, the rest is read.
        let (loaded, read) = std::thread::scope(|scope| {
            let reading = scope.spawn(|| later.fill(|| inputs.rest(&load)));
            let loaded = target.load(&load, &later, how, cx);
            (loaded, reading.join())
        });
        read.map_err(|_| anyhow::anyhow!("reading broke off (a bug)"))?.context(unreadable)?;
        match loaded? {
            Outcome::Loaded => {
                let (sessions, alerts) = (load.sessions.len(), load.count(|s| s.is_alert));
                cx.info(format!("{sessions} sessions, {alerts} alerts loaded into {place}"));
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
        Ok(Address::resolve(self.0.place(), env)?.identity())
    }

    fn is_current(&self, key: &Digest, env: &BTreeMap<String, String>) -> anyhow::Result<bool> {
        target::holds(self.0.place(), &key.to_string(), env)
    }
}

/// Returns the steps that make the tables of a database, in order: number, name and SQL of each. An export applies those that are
/// missing by itself; this is for whoever wants to read them, or to apply them by hand.
pub fn migrations(postgresql: bool) -> Vec<(i32, &'static str, String)> {
    let dialect = if postgresql { &postgresql::DIALECT } else { &sqlite::DIALECT };
    schema::MIGRATIONS.iter().map(|m| (m.number, m.name, m.statements(dialect))).collect()
}
