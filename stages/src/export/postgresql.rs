//! Loading into PostgreSQL: one transaction, rows by binary COPY.

use std::error::Error as _;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use logweir_engine::error::Environment;
use postgres::binary_copy::BinaryCopyInWriter;
use postgres::types::{ToSql, Type};
use postgres::{Client, NoTls, Transaction};

use super::address::Address;
use super::rollup::Bucket;
use super::rows::Load;
use super::schema::{COUNTER, Dialect, TABLES_OF_A_RUN, pending};
use super::target::{Outcome, Target};

const DIALECT: Dialect =
    Dialect { int: "BIGINT", real: "DOUBLE PRECISION", flag: "SMALLINT", time: "TIMESTAMPTZ", now: "now()" };

/// Only one export loads into a database at a time.
const LOCK: i64 = 0x6c6f_6777_6569_7201;

/// A connection, and the schema that the tables are in.
pub(crate) struct Postgresql {
    client: Client,
    schema: String,
    place: String,
}

impl Postgresql {
    /// Connects.
    pub(crate) fn open(config: &postgres::Config, schema: &str) -> anyhow::Result<Self> {
        let place = Address::Postgres { config: Box::new(config.clone()), schema: schema.to_owned() }.identity();
        let client = config.connect(NoTls).map_err(|error| {
            let hint = "is the server running, and may this user connect? LOGWEIR_POSTGRES names the database; unset, \
                        scores go to the SQLite file of pipeline.yaml (connections are not encrypted: use sslmode=disable \
                        or a local server)";
            anyhow::Error::new(Environment::new(format!("cannot reach {place}: {}; {hint}", cause(&error))))
        })?;
        Ok(Self { client, schema: schema.to_owned(), place })
    }
}

/// The innermost cause, which says most.
fn cause(error: &postgres::Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(db), _) => db.message().to_owned(),
        (None, Some(source)) => source.to_string(),
        (None, None) => error.to_string(),
    }
}

impl Target for Postgresql {
    fn is_current(&mut self, key: &str) -> anyhow::Result<bool> {
        let mut transaction = self.client.build_transaction().read_only(true).start()?;
        let found = transaction
            .query_one("SELECT to_regclass($1) IS NOT NULL", &[&format!("{}.runs", quoted(&self.schema))])?;
        if !found.get::<_, bool>(0) {
            return Ok(false);
        }
        use_schema(&mut transaction, &self.schema)?;
        Ok(complete(&mut transaction, key)? == Some(true))
    }

    fn load(&mut self, load: &Load, keep: u32) -> anyhow::Result<Outcome> {
        let place = &self.place;
        let failed = |error: anyhow::Error| {
            let text = error.downcast_ref::<postgres::Error>().map(cause);
            let error = match text {
                Some(text) => error.context(text),
                None => error,
            };
            error.context(format!("cannot load into {place}; nothing was changed there"))
        };
        let mut transaction = self.client.transaction().map_err(|e| failed(e.into()))?;
        let outcome = load_in(&mut transaction, &self.schema, load, keep).map_err(failed)?;
        transaction.commit().map_err(|e| failed(e.into()))?;
        Ok(outcome)
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn use_schema(transaction: &mut Transaction<'_>, schema: &str) -> anyhow::Result<()> {
    transaction.batch_execute(&format!("SET LOCAL search_path TO {}", quoted(schema)))?;
    Ok(())
}

/// Whether the export of `key` is the current one, if it is there with all its rows.
fn complete(transaction: &mut Transaction<'_>, key: &str) -> anyhow::Result<Option<bool>> {
    let sql = "SELECT is_current = 1 FROM runs WHERE action_key = $1 AND sessions = \
               (SELECT count(*) FROM session_scores WHERE action_key = $1)";
    Ok(transaction.query_opt(sql, &[&key])?.map(|row| row.get(0)))
}

fn load_in(transaction: &mut Transaction<'_>, schema: &str, load: &Load, keep: u32) -> anyhow::Result<Outcome> {
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK])?;
    let known = transaction.query_one("SELECT to_regnamespace($1) IS NOT NULL", &[&quoted(schema)])?;
    if !known.get::<_, bool>(0) {
        transaction.batch_execute(&format!("CREATE SCHEMA {}", quoted(schema)))?;
    }
    use_schema(transaction, schema)?;
    transaction.batch_execute(COUNTER)?;
    let applied = transaction.query_one("SELECT coalesce(max(number), 0) FROM schema_migrations", &[])?.get(0);
    for migration in pending(applied)? {
        transaction
            .batch_execute(&DIALECT.write(migration.sql))
            .with_context(|| format!("migration {} ({})", migration.number, migration.name))?;
        transaction.execute("INSERT INTO schema_migrations VALUES ($1, $2)", &[&migration.number, &migration.name])?;
    }
    match complete(transaction, &load.key)? {
        Some(true) => return Ok(Outcome::Present),
        Some(false) => {
            transaction.execute("UPDATE runs SET is_current = 0 WHERE is_current = 1", &[])?;
            transaction.execute("UPDATE runs SET is_current = 1 WHERE action_key = $1", &[&load.key])?;
            return Ok(Outcome::Present);
        }
        None => {}
    }
    for table in TABLES_OF_A_RUN {
        transaction.execute(&format!("DELETE FROM {table} WHERE action_key = $1"), &[&load.key])?;
    }
    transaction.execute("UPDATE runs SET is_current = 0 WHERE is_current = 1", &[])?;
    insert_run(transaction, load)?;
    copy_rows(transaction, load)?;
    if keep > 0 {
        let old = "SELECT action_key FROM runs ORDER BY number DESC OFFSET $1";
        for row in transaction.query(old, &[&i64::from(keep)])? {
            let key: String = row.get(0);
            for table in TABLES_OF_A_RUN {
                transaction.execute(&format!("DELETE FROM {table} WHERE action_key = $1"), &[&key])?;
            }
        }
    }
    Ok(Outcome::Loaded)
}

fn time(micros: Option<i64>) -> Option<SystemTime> {
    let micros = micros?;
    let distance = Duration::from_micros(micros.unsigned_abs());
    if micros < 0 { SystemTime::UNIX_EPOCH.checked_sub(distance) } else { SystemTime::UNIX_EPOCH.checked_add(distance) }
}

fn flag(value: bool) -> i16 {
    i16::from(value)
}

fn insert_run(transaction: &mut Transaction<'_>, load: &Load) -> anyhow::Result<()> {
    let times = || load.sessions.iter().filter_map(|s| s.timestamp);
    let m = &load.metrics;
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let lines = m.dataset.lines.map(count);
    transaction.execute(
        "INSERT INTO runs (action_key, number, is_current, dataset, source, split, lines, sessions, alerts, anomalies, \
         objective, threshold, first_start, last_start, metrics_key) \
         VALUES ($1, (SELECT coalesce(max(number), 0) + 1 FROM runs), 1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        &[
            &load.key,
            &m.dataset.name,
            &m.dataset.source.name(),
            &m.split.method,
            &lines,
            &count(load.sessions.len() as u64),
            &count(load.alerts().count() as u64),
            &count(m.dataset.anomalies),
            &super::objective_name(m.threshold.objective),
            &m.threshold.value,
            &time(times().min()),
            &time(times().max()),
            &m.key,
        ],
    )?;
    Ok(())
}

/// Copies rows into a table, all its columns in order.
fn copy<T>(
    transaction: &mut Transaction<'_>,
    table: &str,
    types: &[Type],
    rows: impl Iterator<Item = T>,
    mut write: impl FnMut(
        T,
        &mut dyn FnMut(&[&(dyn ToSql + Sync)]) -> Result<(), postgres::Error>,
    ) -> Result<(), postgres::Error>,
) -> anyhow::Result<()> {
    let sink = transaction.copy_in(&format!("COPY {table} FROM STDIN BINARY"))?;
    let mut writer = BinaryCopyInWriter::new(sink, types);
    for row in rows {
        write(row, &mut |values| writer.write(values)).with_context(|| format!("table {table}"))?;
    }
    writer.finish().with_context(|| format!("table {table}"))?;
    Ok(())
}

fn copy_rows(transaction: &mut Transaction<'_>, load: &Load) -> anyhow::Result<()> {
    const T: Type = Type::TEXT;
    const F: Type = Type::FLOAT8;
    const I: Type = Type::INT8;
    const B: Type = Type::INT2;
    const AT: Type = Type::TIMESTAMPTZ;
    let key = load.key.as_str();
    copy(transaction, "session_scores", &[T, T, AT, F, F, F, B, B, T], load.sessions.iter(), |s, put| {
        let (alert, label) = (flag(s.is_alert), s.label.map(flag));
        put(&[&key, &s.session_id, &time(s.timestamp), &s.p_lgbm, &s.z_ae, &s.fusion_score, &alert, &label, &s.fold])
    })?;
    copy(transaction, "alerts", &[T, T, AT, F, F, F, B, T, T], load.alerts(), |s, put| {
        let label = s.label.map(flag);
        put(&[&key, &s.session_id, &time(s.timestamp), &s.p_lgbm, &s.z_ae, &s.fusion_score, &label, &s.fold, &s.reason])
    })?;
    copy(transaction, "metrics", &[T, T, T, F, F, F], load.numbers.iter(), |n, put| {
        put(&[&key, &n.model, &n.metric, &n.value, &n.interval.map(|i| i[0]), &n.interval.map(|i| i[1])])
    })?;
    for (table, buckets) in [("score_minutes", &load.minutes), ("score_hours", &load.hours)] {
        copy(transaction, table, &[T, AT, I, F, F, F, F, I, I, I, I, I], buckets.iter(), |bucket, put| {
            let Bucket { start, count, p50, p90, p99, max, alerts, tp, fp, fn_, tn } = bucket;
            put(&[&key, &time(Some(*start)), count, p50, p90, p99, max, alerts, tp, fp, fn_, tn])
        })?;
    }
    copy(transaction, "lineage", &[T, T, T, T, T], load.origins.iter(), |o, put| {
        put(&[&key, &o.path, &o.digest, &o.stage, &o.stage_key])
    })?;
    copy(transaction, "templates", &[T, T, T, I, I, AT, AT, B], load.templates.iter(), |t, put| {
        let seen = (time(t.first_seen), time(t.last_seen));
        put(&[&key, &t.event_id, &t.text, &t.events, &t.sessions, &seen.0, &seen.1, &flag(t.in_training)])
    })
}
