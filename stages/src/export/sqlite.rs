//! Loading into a SQLite file. Times are text, `2008-11-09 20:35:30`, which its date functions and Grafana's plug-in read.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use chrono::DateTime;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::rollup::Bucket;
use super::rows::Load;
use super::schema::{COUNTER, Dialect, TABLES_OF_A_RUN, pending};
use super::target::{Outcome, Target};

const DIALECT: Dialect =
    Dialect { int: "INTEGER", real: "REAL", flag: "INTEGER", time: "TEXT", now: "CURRENT_TIMESTAMP" };

/// An open SQLite file.
pub(crate) struct Sqlite {
    connection: Connection,
    place: String,
}

impl Sqlite {
    /// Opens the file, which is created where missing, in write-ahead mode, so that readers never wait for a load.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let place = path.display().to_string();
        let hint =
            || format!("cannot open the SQLite database {place}: is the folder writable, and the file a database?");
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).with_context(hint)?;
        }
        let connection = Connection::open(path).with_context(hint)?;
        connection.busy_timeout(Duration::from_secs(10)).with_context(hint)?;
        connection.pragma_update(None, "journal_mode", "WAL").with_context(hint)?;
        connection.pragma_update(None, "synchronous", "NORMAL").with_context(hint)?;
        Ok(Self { connection, place })
    }
}

impl Target for Sqlite {
    fn is_current(&mut self, key: &str) -> anyhow::Result<bool> {
        let transaction = self.connection.transaction()?;
        Ok(has_table(&transaction, "runs")? && complete(&transaction, key)? == Some(true))
    }

    fn load(&mut self, load: &Load, keep: u32) -> anyhow::Result<Outcome> {
        let place = self.place.clone();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = transaction
            .with_context(|| format!("cannot write to {place}: another program holds it; close that and run again"))?;
        let outcome = load_in(&transaction, load, keep).with_context(|| format!("cannot load into {place}"))?;
        transaction.commit().with_context(|| format!("cannot commit to {place}"))?;
        Ok(outcome)
    }
}

fn has_table(transaction: &Transaction<'_>, name: &str) -> anyhow::Result<bool> {
    let sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1";
    Ok(transaction.query_row(sql, [name], |_| Ok(())).optional()?.is_some())
}

/// Whether the export of `key` is the current one, if it is there with all its rows.
fn complete(transaction: &Transaction<'_>, key: &str) -> anyhow::Result<Option<bool>> {
    let sql = "SELECT is_current = 1 FROM runs WHERE action_key = ?1 AND sessions = \
               (SELECT count(*) FROM session_scores WHERE action_key = ?1)";
    Ok(transaction.query_row(sql, [key], |row| row.get(0)).optional()?)
}

fn load_in(transaction: &Transaction<'_>, load: &Load, keep: u32) -> anyhow::Result<Outcome> {
    transaction.execute(COUNTER, [])?;
    let applied = transaction.query_row("SELECT coalesce(max(number), 0) FROM schema_migrations", [], |r| r.get(0))?;
    for migration in pending(applied)? {
        transaction
            .execute_batch(&DIALECT.write(migration.sql))
            .with_context(|| format!("migration {} ({})", migration.number, migration.name))?;
        transaction
            .execute("INSERT INTO schema_migrations VALUES (?1, ?2)", params![migration.number, migration.name])?;
    }
    match complete(transaction, &load.key)? {
        Some(true) => return Ok(Outcome::Present),
        Some(false) => {
            transaction.execute("UPDATE runs SET is_current = 0 WHERE is_current = 1", [])?;
            transaction.execute("UPDATE runs SET is_current = 1 WHERE action_key = ?1", [&load.key])?;
            return Ok(Outcome::Present);
        }
        None => {}
    }
    for table in TABLES_OF_A_RUN {
        transaction.execute(&format!("DELETE FROM {table} WHERE action_key = ?1"), [&load.key])?;
    }
    transaction.execute("UPDATE runs SET is_current = 0 WHERE is_current = 1", [])?;
    insert_run(transaction, load)?;
    insert_rows(transaction, load)?;
    if keep > 0 {
        let old = "SELECT action_key FROM runs ORDER BY number DESC LIMIT -1 OFFSET ?1";
        let old: Vec<String> = transaction.prepare(old)?.query_map([keep], |r| r.get(0))?.collect::<Result<_, _>>()?;
        for key in old {
            for table in TABLES_OF_A_RUN {
                transaction.execute(&format!("DELETE FROM {table} WHERE action_key = ?1"), [&key])?;
            }
        }
    }
    Ok(Outcome::Loaded)
}

fn time(micros: Option<i64>) -> Option<String> {
    DateTime::from_timestamp_micros(micros?).map(|t| t.format("%Y-%m-%d %H:%M:%S%.f").to_string())
}

fn insert_run(transaction: &Transaction<'_>, load: &Load) -> anyhow::Result<()> {
    let times = || load.sessions.iter().filter_map(|s| s.timestamp);
    let (m, count) = (&load.metrics, |n: u64| i64::try_from(n).unwrap_or(i64::MAX));
    transaction.execute(
        "INSERT INTO runs (action_key, number, is_current, dataset, source, split, lines, sessions, alerts, anomalies, \
         objective, threshold, first_start, last_start, metrics_key) \
         VALUES (?1, (SELECT coalesce(max(number), 0) + 1 FROM runs), 1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        params![
            load.key,
            m.dataset.name,
            m.dataset.source.name(),
            m.split.method,
            m.dataset.lines.map(count),
            count(load.sessions.len() as u64),
            count(load.alerts().count() as u64),
            count(m.dataset.anomalies),
            super::objective_name(m.threshold.objective),
            m.threshold.value,
            time(times().min()),
            time(times().max()),
            m.key,
        ],
    )?;
    Ok(())
}

fn insert_rows(transaction: &Transaction<'_>, load: &Load) -> anyhow::Result<()> {
    let key = &load.key;
    let mut insert = transaction.prepare("INSERT INTO session_scores VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?;
    for s in &load.sessions {
        insert
            .execute(params![
                key,
                s.session_id,
                time(s.timestamp),
                s.p_lgbm,
                s.z_ae,
                s.fusion_score,
                s.is_alert,
                s.label,
                s.fold
            ])
            .with_context(|| format!("session {}", s.session_id))?;
    }
    let mut insert = transaction.prepare("INSERT INTO alerts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?;
    for s in load.alerts() {
        insert.execute(params![
            key,
            s.session_id,
            time(s.timestamp),
            s.p_lgbm,
            s.z_ae,
            s.fusion_score,
            s.label,
            s.fold,
            s.reason
        ])?;
    }
    let mut insert = transaction.prepare("INSERT INTO metrics VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    for n in &load.numbers {
        insert.execute(params![key, n.model, n.metric, n.value, n.interval.map(|i| i[0]), n.interval.map(|i| i[1])])?;
    }
    for (table, buckets) in [("score_minutes", &load.minutes), ("score_hours", &load.hours)] {
        let sql = format!("INSERT INTO {table} VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)");
        let mut insert = transaction.prepare(&sql)?;
        for Bucket { start, count, p50, p90, p99, max, alerts, tp, fp, fn_, tn } in buckets {
            insert.execute(params![key, time(Some(*start)), count, p50, p90, p99, max, alerts, tp, fp, fn_, tn])?;
        }
    }
    let mut insert = transaction.prepare("INSERT INTO lineage VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for o in &load.origins {
        insert.execute(params![key, o.path, o.digest, o.stage, o.stage_key])?;
    }
    let mut insert = transaction.prepare("INSERT INTO templates VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?;
    for t in &load.templates {
        let times = (time(t.first_seen), time(t.last_seen));
        insert.execute(params![key, t.event_id, t.text, t.events, t.sessions, times.0, times.1, t.in_training])?;
    }
    Ok(())
}
