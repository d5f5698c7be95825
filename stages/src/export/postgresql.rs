//! Loading into PostgreSQL: one transaction, rows by binary COPY.
//!
//! Scores of sessions go into a table of their own, which becomes a partition of `session_scores`: made in this transaction, so its
//! rows are written frozen and nothing has to clean up behind them; indexed when it is full; attached without looking at the other
//! exports; dropped as a whole when it is no longer kept.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use logweir_engine::stage::StageContext;
use postgres::{Client, NoTls, Row, Transaction};

use super::address::Server;
use super::binary::Rows;
use super::ensemble::SessionRow;
use super::fault;
use super::rows::{Later, Load};
use super::schema::{COUNTER, Dialect, pending};
use super::table::{Cell, TABLES_OF_A_RUN, Table, tables};
use super::target::{CARRY, How, Mode, Outcome, Target};
use super::tls::Connector;
use super::watch::{Pulse, watched};

pub(super) const DIALECT: Dialect = Dialect {
    partitions: true,
    int: "BIGINT",
    real: "DOUBLE PRECISION",
    flag: "SMALLINT",
    time: "TIMESTAMPTZ",
    now: "now()",
};

/// Only one export loads into a schema at a time; this and a hash of the schema name the lock.
const LOCK: i32 = 0x6c6f_6777;

/// How long to wait for readers when what is no longer kept is dropped; the next export tries again.
const SWEEP: &str = "2s";

/// A connection, and what is needed for another one.
pub(super) struct Postgresql {
    client: Option<Client>,
    server: Arc<Server>,
    connector: Option<Connector>,
}

impl Postgresql {
    /// Connects.
    pub(super) fn open(server: &Server, cancelled: impl Fn() -> bool) -> anyhow::Result<Self> {
        let connector = if server.tls.is_off() { None } else { Some(server.tls.connector()?) };
        let server = Arc::new(server.clone());
        let (for_thread, shake) = (Arc::clone(&server), connector.clone());
        let dialled = watched(server.patience, cancelled, move |_| dial(&for_thread, shake));
        let client = dialled.map_err(|why| fault::given_up(why, &server, "connect to"))?;
        let client = client.map_err(|error| fault::connecting(&error, &server))?;
        Ok(Self { client: Some(client), server, connector })
    }

    /// Runs work with the connection, and gives up when the server falls silent.
    fn with_client<T: Send + 'static>(
        &mut self,
        patience: Duration,
        doing: &str,
        cancelled: impl Fn() -> bool,
        work: impl FnOnce(&mut Client, &Pulse) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let mut client = self.client.take().ok_or_else(|| anyhow!("the connection is gone"))?;
        let done = watched(patience, cancelled, move |pulse| {
            let result = work(&mut client, pulse);
            (client, result)
        });
        let (client, result) = done.map_err(|why| fault::given_up(why, &self.server, doing))?;
        self.client = Some(client);
        result
    }
}

/// What is to be loaded, and how.
struct What {
    load: Arc<Load>,
    later: Arc<Later>,
    how: How,
}

/// Connects, encrypted as the options say.
fn dial(server: &Server, connector: Option<Connector>) -> Result<Client, postgres::Error> {
    match connector {
        None => server.config.connect(NoTls),
        Some(connector) => server.config.connect(connector),
    }
}

/// Connects to a server, encrypted as its options say.
///
/// # Errors
/// It cannot be reached, or refuses (a `postgres::Error`); a certificate cannot be read.
pub(crate) fn connect(server: &Server) -> anyhow::Result<Client> {
    let connector = if server.tls.is_off() { None } else { Some(server.tls.connector()?) };
    Ok(dial(server, connector)?)
}

/// Connects again after the connection broke, as soon as the server is back; `None`: it does not come back.
fn redial(server: &Server, connector: Option<&Connector>, pulse: &Pulse) -> anyhow::Result<Option<Client>> {
    const PAUSE: Duration = Duration::from_millis(250);
    let tries = server.patience.as_millis() / PAUSE.as_millis();
    for _ in 0..tries {
        std::thread::sleep(PAUSE);
        pulse.beat()?;
        match dial(server, connector.cloned()) {
            Ok(client) => return Ok(Some(client)),
            Err(error) if fault::is_starting(&error) => {}
            Err(_) => return Ok(None),
        }
    }
    Ok(None)
}

impl Target for Postgresql {
    fn is_current(&mut self, key: &str) -> anyhow::Result<bool> {
        let (key, schema) = (key.to_owned(), self.server.schema.clone());
        let patience = self.server.patience.min(Duration::from_secs(10));
        self.with_client(
            patience,
            "ask",
            || false,
            move |client, _| {
                let mut transaction = client.build_transaction().read_only(true).start()?;
                let runs = format!("{}.runs", quoted(&schema));
                if !transaction.query_one("SELECT to_regclass($1) IS NOT NULL", &[&runs])?.get::<_, bool>(0) {
                    return Ok(false);
                }
                use_schema(&mut transaction, &schema)?;
                Ok(complete(&mut transaction, &key)? == Some(true))
            },
        )
    }

    fn load(
        &mut self,
        load: &Arc<Load>,
        later: &Arc<Later>,
        how: How,
        cx: &StageContext<'_>,
    ) -> anyhow::Result<Outcome> {
        let what = What { load: Arc::clone(load), later: Arc::clone(later), how };
        let (server, connector) = (Arc::clone(&self.server), self.connector.clone());
        let cancelled = || cx.check_cancelled().is_err();
        let done = self.with_client(self.server.patience, "load into", cancelled, move |client, pulse| {
            let first = once(client, &server, &what, pulse);
            match first {
                // A server that restarts, or a connection that breaks: the transaction is gone, or nobody knows whether it was
                // committed. Loading again is right in both cases.
                Err(error) if fault::is_lost(&error) => match redial(&server, connector.as_ref(), pulse)? {
                    Some(again) => {
                        *client = again;
                        let outcome = once(client, &server, &what, pulse).map_err(|e| fault::loading(e, &server))?;
                        Ok((outcome, Some(format!("{error:#}"))))
                    }
                    None => Err(fault::loading(error, &server)),
                },
                other => Ok((other.map_err(|error| fault::loading(error, &server))?, None)),
            }
        });
        let (outcome, lost) = done?;
        if let Some(lost) = lost {
            cx.warn(format!(
                "the connection to {} was lost ({lost}); loaded at the second attempt",
                self.server.identity()
            ));
        }
        Ok(outcome)
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn use_schema(transaction: &mut Transaction<'_>, schema: &str) -> anyhow::Result<()> {
    transaction.batch_execute(&format!("SET LOCAL search_path TO {}", quoted(schema)))?;
    Ok(())
}

/// Whether the export of `key` is the current one, if it is there with all its rows.
fn complete(transaction: &mut Transaction<'_>, key: &str) -> anyhow::Result<Option<bool>> {
    let sql = "SELECT is_current = 1, sessions, alerts FROM runs WHERE action_key = $1";
    let Some(run) = transaction.query_opt(sql, &[&key])? else { return Ok(None) };
    let (sessions, alerts): (i64, i64) = (run.get(1), run.get(2));
    // The key stands in the statement: a plan for any key would look into every partition.
    let key = literal(key);
    let counted = format!(
        "SELECT (SELECT count(*) FROM session_scores WHERE action_key = {key}), (SELECT count(*) FROM alerts WHERE action_key = {key})"
    );
    let counted = transaction.query_one(&counted, &[])?;
    let all = counted.get::<_, i64>(0) == sessions && counted.get::<_, i64>(1) == alerts;
    Ok(all.then(|| run.get(0)))
}

/// One attempt: everything in one transaction.
fn once(client: &mut Client, server: &Server, what: &What, pulse: &Pulse) -> anyhow::Result<Outcome> {
    let mut transaction = client.transaction()?;
    let outcome = load_in(&mut transaction, server, what, pulse)?;
    // From here on the server decides; whoever gave up before has seen nothing committed.
    pulse.beat()?;
    transaction.commit()?;
    Ok(outcome)
}

fn load_in(transaction: &mut Transaction<'_>, server: &Server, what: &What, pulse: &Pulse) -> anyhow::Result<Outcome> {
    let What { load, later, how } = what;
    let schema = &server.schema;
    // A lock of someone else is told as such before silence is.
    let locks = (server.patience / 2).as_millis().max(500);
    transaction.batch_execute(&format!(
        "SET LOCAL lock_timeout = {locks}; SET LOCAL statement_timeout = 0; SET LOCAL client_min_messages = warning"
    ))?;
    wait_for_others(transaction, schema, pulse)?;
    if !transaction.query_one("SELECT to_regnamespace($1) IS NOT NULL", &[&quoted(schema)])?.get::<_, bool>(0) {
        transaction.batch_execute(&format!("CREATE SCHEMA {}", quoted(schema)))?;
    }
    use_schema(transaction, schema)?;
    migrate(transaction, pulse)?;
    match complete(transaction, &load.key)? {
        Some(true) => return Ok(Outcome::Present),
        Some(false) => {
            transaction.execute("UPDATE runs SET is_current = 0 WHERE is_current = 1", &[])?;
            transaction.execute("UPDATE runs SET is_current = 1 WHERE action_key = $1", &[&load.key])?;
            return Ok(Outcome::Present);
        }
        None => {}
    }
    let before = match how.mode {
        Mode::Upsert => current_sessions(transaction, &load.key)?,
        Mode::Beside | Mode::Replace => None,
    };
    remove(transaction, &load.key)?;
    let merged = before.as_ref().map(|(_, rows)| load.with_kept(rows));
    let whole = merged.as_ref().unwrap_or(load);
    let number = next_number(transaction)?;
    transaction.execute("UPDATE runs SET is_current = 0 WHERE is_current = 1", &[])?;
    insert_run(transaction, whole, number)?;
    copy_sessions(transaction, whole, number, pulse)?;
    let mut rest = later.wait(|| Ok(pulse.beat()?))?;
    if merged.is_some() {
        Arc::make_mut(&mut rest).roll_up(&whole.sessions);
    }
    for table in tables(whole, &rest) {
        copy_table(transaction, &load.key, table, pulse)?;
    }
    if let Some((old, _)) = &before {
        for statement in CARRY {
            let sql = statement.replace("{NEW}", "$1").replace("{OLD}", "$2");
            transaction.execute(&sql, &[&load.key, old]).context("rows kept from the export before")?;
        }
    }
    // What plans of dashboards rest on; long texts are left out.
    transaction.batch_execute(
        "ANALYZE alerts (action_key, session_id, \"timestamp\", fusion_score, signature_id), score_minutes, score_hours, runs",
    )?;
    pulse.beat()?;
    if how.keep > 0 {
        let old = "SELECT action_key FROM runs ORDER BY number DESC OFFSET $1";
        for row in transaction.query(old, &[&i64::from(how.keep)])? {
            delete(transaction, row.get(0))?;
        }
    }
    sweep(transaction)?;
    Ok(Outcome::Loaded)
}

/// Waits until no other export loads into the schema. It asks again and again, so that silence of the server shows.
fn wait_for_others(transaction: &mut Transaction<'_>, schema: &str, pulse: &Pulse) -> anyhow::Result<()> {
    let statement = transaction.prepare("SELECT pg_try_advisory_xact_lock($1, hashtext($2))")?;
    while !transaction.query_one(&statement, &[&LOCK, &schema])?.get::<_, bool>(0) {
        std::thread::sleep(Duration::from_millis(100));
        pulse.beat()?;
    }
    Ok(())
}

fn migrate(transaction: &mut Transaction<'_>, pulse: &Pulse) -> anyhow::Result<()> {
    if !transaction.query_one("SELECT to_regclass('schema_migrations') IS NOT NULL", &[])?.get::<_, bool>(0) {
        transaction.batch_execute(COUNTER)?;
    }
    let applied = transaction.query_one("SELECT coalesce(max(number), 0) FROM schema_migrations", &[])?.get(0);
    for migration in pending(applied)? {
        transaction
            .batch_execute(&migration.statements(&DIALECT))
            .with_context(|| format!("migration {} ({})", migration.number, migration.name))?;
        transaction.execute("INSERT INTO schema_migrations VALUES ($1, $2)", &[&migration.number, &migration.name])?;
        pulse.beat()?;
    }
    Ok(())
}

/// Numbers of exports whose scores have a partition.
fn partitions(transaction: &mut Transaction<'_>) -> anyhow::Result<Vec<(i64, String)>> {
    let sql = "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
               WHERE i.inhparent = 'session_scores'::regclass";
    let name = |row: Row| -> Option<(i64, String)> {
        let name: String = row.get(0);
        Some((name.strip_prefix("session_scores_")?.parse().ok()?, name))
    };
    Ok(transaction.query(sql, &[])?.into_iter().filter_map(name).collect())
}

fn next_number(transaction: &mut Transaction<'_>) -> anyhow::Result<i64> {
    let last: i64 = transaction.query_one("SELECT coalesce(max(number), 0) FROM runs", &[])?.get(0);
    Ok(partitions(transaction)?.into_iter().map(|(number, _)| number).fold(last, i64::max) + 1)
}

/// Deletes what an export has in all tables but its partition, which [`sweep`] drops.
fn delete(transaction: &mut Transaction<'_>, key: &str) -> anyhow::Result<()> {
    for table in TABLES_OF_A_RUN {
        transaction.execute(&format!("DELETE FROM {table} WHERE action_key = $1"), &[&key])?;
    }
    Ok(())
}

/// Removes an export that is not complete, to load it anew.
fn remove(transaction: &mut Transaction<'_>, key: &str) -> anyhow::Result<()> {
    let sql = "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
               WHERE i.inhparent = 'session_scores'::regclass AND pg_get_expr(c.relpartbound, c.oid) = $1";
    let bound = format!("FOR VALUES IN ({})", literal(key));
    for row in transaction.query(sql, &[&bound])? {
        transaction.batch_execute(&format!("DROP TABLE {}", quoted(row.get(0))))?;
    }
    delete(transaction, key)
}

/// Drops partitions of exports that are no longer kept. A reader that holds one for long is not waited for: the rows can no
/// longer be seen, and the next export drops them.
fn sweep(transaction: &mut Transaction<'_>) -> anyhow::Result<()> {
    let kept: Vec<i64> = transaction.query("SELECT number FROM runs", &[])?.iter().map(|row| row.get(0)).collect();
    for (number, name) in partitions(transaction)? {
        if kept.contains(&number) {
            continue;
        }
        let mut inner = transaction.transaction()?;
        let drop = format!("SET LOCAL lock_timeout = '{SWEEP}'; DROP TABLE {}", quoted(&name));
        match inner.batch_execute(&drop) {
            Ok(()) => inner.commit()?,
            Err(error) if error.code() == Some(&postgres::error::SqlState::LOCK_NOT_AVAILABLE) => inner.rollback()?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The current export and its sessions, if it is another one than `key`.
fn current_sessions(transaction: &mut Transaction<'_>, key: &str) -> anyhow::Result<Option<(String, Vec<SessionRow>)>> {
    let sql = "SELECT action_key FROM runs WHERE is_current = 1 AND action_key <> $1";
    let Some(row) = transaction.query_opt(sql, &[&key])? else { return Ok(None) };
    let old: String = row.get(0);
    let sql = format!(
        "SELECT session_id, (extract(epoch FROM \"timestamp\") * 1000000)::bigint, p_lgbm, z_ae, fusion_score, is_alert, label, fold \
         FROM session_scores WHERE action_key = {} ORDER BY session_id",
        literal(&old)
    );
    let session = |row: &Row| SessionRow {
        session_id: row.get(0),
        timestamp: row.get(1),
        p_lgbm: row.get(2),
        z_ae: row.get(3),
        fusion_score: row.get(4),
        is_alert: row.get::<_, i16>(5) == 1,
        label: row.get::<_, Option<i16>>(6).map(|label| label == 1),
        fold: row.get::<_, Option<&str>>(7).and_then(super::rows::fold_name),
    };
    let rows = transaction.query(&sql, &[])?.iter().map(session).collect();
    Ok(Some((old, rows)))
}

fn insert_run(transaction: &mut Transaction<'_>, load: &Load, number: i64) -> anyhow::Result<()> {
    let run = &load.run;
    let (first, last) = load.extent();
    let at = |micros: Option<i64>| micros.map(|micros| micros as f64 / 1e6);
    transaction.execute(
        "INSERT INTO runs (action_key, number, is_current, dataset, source, split, lines, sessions, alerts, anomalies, \
         objective, threshold, first_start, last_start, metrics_key, alert_budget) \
         VALUES ($1, $2, 1, $3, $4, $5, $6, $7, $8, $9, $10, $11, to_timestamp($12), to_timestamp($13), $14, $15)",
        &[
            &load.key,
            &number,
            &run.dataset,
            &run.source,
            &run.split,
            &run.lines,
            &load.count(|_| true),
            &load.count(|s| s.is_alert),
            &run.anomalies,
            &run.objective,
            &run.threshold,
            &at(first),
            &at(last),
            &run.metrics_key,
            &run.budget,
        ],
    )?;
    Ok(())
}

/// Copies the scores of all sessions into a partition of their own.
fn copy_sessions(transaction: &mut Transaction<'_>, load: &Load, number: i64, pulse: &Pulse) -> anyhow::Result<()> {
    let (table, key) = (quoted(&format!("session_scores_{number}")), literal(&load.key));
    transaction.batch_execute(&format!("CREATE TABLE {table} (LIKE session_scores)"))?;
    let mut writer = transaction.copy_in(&format!("COPY {table} FROM STDIN (FORMAT binary, FREEZE)"))?;
    let mut rows = Rows::new();
    for s in &load.sessions {
        rows.row(9);
        rows.text(&load.key);
        rows.text(&s.session_id);
        rows.cell(Cell::Time(s.timestamp));
        rows.cell(Cell::Real(s.p_lgbm));
        rows.cell(Cell::Real(s.z_ae));
        rows.real(s.fusion_score);
        rows.flag(s.is_alert);
        rows.cell(Cell::Flag(s.label));
        rows.cell(Cell::Text(s.fold));
        if let Some(bytes) = rows.full() {
            writer.write_all(bytes)?;
            rows.sent();
            pulse.beat()?;
        }
    }
    writer.write_all(&rows.end())?;
    let written = writer.finish().context("table session_scores")?;
    ensure!(written == load.sessions.len() as u64, "the server took {written} of {} sessions", load.sessions.len());
    pulse.beat()?;
    transaction
        .batch_execute(&format!("ALTER TABLE {table} ADD PRIMARY KEY (session_id)"))
        .context("sessions, each of which must be there once")?;
    pulse.beat()?;
    transaction.batch_execute(&format!("ALTER TABLE session_scores ATTACH PARTITION {table} FOR VALUES IN ({key})"))?;
    pulse.beat()?;
    Ok(())
}

/// Copies one of the small tables.
fn copy_table(transaction: &mut Transaction<'_>, key: &str, table: Table<'_>, pulse: &Pulse) -> anyhow::Result<()> {
    let (name, columns) = (table.name, table.column_list());
    let mut all = table.rows.peekable();
    if all.peek().is_none() {
        return Ok(());
    }
    let mut writer = transaction.copy_in(&format!("COPY {name} ({columns}) FROM STDIN (FORMAT binary)"))?;
    let mut rows = Rows::new();
    for cells in all {
        rows.row(i16::try_from(cells.len() + 1).context("too many columns")?);
        rows.text(key);
        for cell in cells {
            rows.cell(cell);
        }
        if let Some(bytes) = rows.full() {
            writer.write_all(bytes)?;
            rows.sent();
            pulse.beat()?;
        }
    }
    writer.write_all(&rows.end())?;
    writer.finish().with_context(|| format!("table {name}"))?;
    pulse.beat()?;
    Ok(())
}
