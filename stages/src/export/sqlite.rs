//! Loading into a SQLite file. Times are text, `2008-11-09 20:35:30`, which its date functions and Grafana's plug-in read.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, NaiveDateTime};
use logweir_engine::error::Environment;
use logweir_engine::stage::StageContext;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{
    Connection, ErrorCode, OptionalExtension as _, Transaction, TransactionBehavior, params, params_from_iter,
};

use super::ensemble::SessionRow;
use super::rows::{Later, Load, Rest};
use super::schema::{COUNTER, Dialect, pending};
use super::table::{Cell, TABLES_OF_A_RUN, tables};
use super::target::{CARRY, How, Mode, Outcome, Target};

pub(super) const DIALECT: Dialect = Dialect {
    partitions: false,
    int: "INTEGER",
    real: "REAL",
    flag: "INTEGER",
    time: "TEXT",
    now: "CURRENT_TIMESTAMP",
};

/// An open SQLite file.
pub(super) struct Sqlite {
    connection: Connection,
    place: String,
}

impl Sqlite {
    /// Opens the file, which is created where missing, in write-ahead mode, so that readers never wait for a load.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
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

    fn load(
        &mut self,
        load: &Arc<Load>,
        later: &Arc<Later>,
        how: How,
        cx: &StageContext<'_>,
    ) -> anyhow::Result<Outcome> {
        let place = self.place.clone();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = transaction
            .with_context(|| format!("cannot write to {place}: another program holds it; close that and run again"))
            .map_err(of_environment)?;
        let outcome = load_in(&transaction, load, how, || later.wait(|| cx.check_cancelled()))
            .with_context(|| format!("cannot load into {place}; nothing was changed there"))
            .map_err(of_environment)?;
        transaction.commit().with_context(|| format!("cannot commit to {place}")).map_err(of_environment)?;
        Ok(outcome)
    }
}

/// Marks a full disk, a locked, read-only or damaged file as what they are: no fault of the pipeline.
fn of_environment(error: anyhow::Error) -> anyhow::Error {
    let code = error.chain().find_map(|e| match e.downcast_ref::<rusqlite::Error>()? {
        rusqlite::Error::SqliteFailure(failure, _) => Some(failure.code),
        _ => None,
    });
    let advice = match code {
        Some(ErrorCode::DiskFull) => "the disk is full: make room, then run again",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another program holds the file: close that and run again"
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            "is the file, and its folder, writable?"
        }
        Some(ErrorCode::SystemIoFailure) => "the disk failed, or is full: see its free space, then run again",
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            "the file is no database, or damaged: move it away, and it is made anew"
        }
        _ => return error,
    };
    let told = format!("{error}: {advice}");
    error.context(Environment::new(told))
}

fn has_table(transaction: &Transaction<'_>, name: &str) -> anyhow::Result<bool> {
    let sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1";
    Ok(transaction.query_row(sql, [name], |_| Ok(())).optional()?.is_some())
}

/// Whether the export of `key` is the current one, if it is there with all its rows.
fn complete(transaction: &Transaction<'_>, key: &str) -> anyhow::Result<Option<bool>> {
    let sql = "SELECT is_current = 1 FROM runs WHERE action_key = ?1 \
               AND sessions = (SELECT count(*) FROM session_scores WHERE action_key = ?1) \
               AND alerts = (SELECT count(*) FROM alerts WHERE action_key = ?1)";
    Ok(transaction.query_row(sql, [key], |row| row.get(0)).optional()?)
}

fn load_in(
    transaction: &Transaction<'_>,
    load: &Load,
    how: How,
    rest: impl FnOnce() -> anyhow::Result<Arc<Rest>>,
) -> anyhow::Result<Outcome> {
    transaction.execute(COUNTER, [])?;
    let applied = transaction.query_row("SELECT coalesce(max(number), 0) FROM schema_migrations", [], |r| r.get(0))?;
    for migration in pending(applied)? {
        transaction
            .execute_batch(&migration.statements(&DIALECT))
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
    let before = match how.mode {
        Mode::Upsert => current_sessions(transaction, &load.key)?,
        Mode::Beside | Mode::Replace => None,
    };
    delete(transaction, &load.key)?;
    let merged = before.as_ref().map(|(_, rows)| load.with_kept(rows));
    let whole = merged.as_ref().unwrap_or(load);
    transaction.execute("UPDATE runs SET is_current = 0 WHERE is_current = 1", [])?;
    insert_run(transaction, whole)?;
    insert_sessions(transaction, whole)?;
    let mut rest = rest()?;
    if merged.is_some() {
        Arc::make_mut(&mut rest).roll_up(&whole.sessions);
    }
    for table in tables(whole, &rest) {
        let marks: String = (2..table.columns.len() + 2).map(|n| format!(", ?{n}")).collect();
        let sql = format!("INSERT INTO {} ({}) VALUES (?1{marks})", table.name, table.column_list());
        let mut insert = transaction.prepare(&sql)?;
        for cells in table.rows {
            let key = std::iter::once(Cell::Text(Some(&load.key)));
            insert.execute(params_from_iter(key.chain(cells))).with_context(|| format!("table {}", table.name))?;
        }
    }
    if let Some((old, _)) = &before {
        for statement in CARRY {
            let sql = statement.replace("{NEW}", "?1").replace("{OLD}", "?2");
            transaction.execute(&sql, params![load.key, old]).context("rows kept from the export before")?;
        }
    }
    if how.keep > 0 {
        let old = "SELECT action_key FROM runs ORDER BY number DESC LIMIT -1 OFFSET ?1";
        let old: Vec<String> =
            transaction.prepare(old)?.query_map([how.keep], |r| r.get(0))?.collect::<Result<_, _>>()?;
        for key in old {
            delete(transaction, &key)?;
        }
    }
    Ok(Outcome::Loaded)
}

fn delete(transaction: &Transaction<'_>, key: &str) -> anyhow::Result<()> {
    for table in ["session_scores"].iter().chain(TABLES_OF_A_RUN) {
        transaction.execute(&format!("DELETE FROM {table} WHERE action_key = ?1"), [key])?;
    }
    Ok(())
}

/// The current export and its sessions, if it is another one than `key`.
fn current_sessions(transaction: &Transaction<'_>, key: &str) -> anyhow::Result<Option<(String, Vec<SessionRow>)>> {
    let sql = "SELECT action_key FROM runs WHERE is_current = 1 AND action_key <> ?1";
    let Some(old) = transaction.query_row(sql, [key], |row| row.get::<_, String>(0)).optional()? else {
        return Ok(None);
    };
    let sql = "SELECT session_id, \"timestamp\", p_lgbm, z_ae, fusion_score, is_alert, label, fold \
               FROM session_scores WHERE action_key = ?1 ORDER BY session_id";
    let mut select = transaction.prepare(sql)?;
    let session = |row: &rusqlite::Row<'_>| -> rusqlite::Result<SessionRow> {
        Ok(SessionRow {
            session_id: row.get(0)?,
            timestamp: row.get::<_, Option<String>>(1)?.and_then(|text| micros(&text)),
            p_lgbm: row.get(2)?,
            z_ae: row.get(3)?,
            fusion_score: row.get(4)?,
            is_alert: row.get(5)?,
            label: row.get(6)?,
            fold: row.get::<_, Option<String>>(7)?.as_deref().and_then(super::rows::fold_name),
        })
    };
    let rows = select.query_map([&old], session)?.collect::<Result<_, _>>()?;
    drop(select);
    Ok(Some((old, rows)))
}

fn time(micros: Option<i64>) -> Option<String> {
    DateTime::from_timestamp_micros(micros?).map(|t| t.format("%Y-%m-%d %H:%M:%S%.f").to_string())
}

fn micros(text: &str) -> Option<i64> {
    Some(NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok()?.and_utc().timestamp_micros())
}

impl rusqlite::ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Cell::Text(Some(text)) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Cell::Int(Some(value)) => ToSqlOutput::Owned(Value::Integer(*value)),
            Cell::Real(Some(value)) => ToSqlOutput::Owned(Value::Real(*value)),
            Cell::Flag(Some(value)) => ToSqlOutput::Owned(Value::Integer(i64::from(*value))),
            Cell::Time(at) => ToSqlOutput::Owned(time(*at).map_or(Value::Null, Value::Text)),
            Cell::Text(None) | Cell::Int(None) | Cell::Real(None) | Cell::Flag(None) => ToSqlOutput::Owned(Value::Null),
        })
    }
}

fn insert_run(transaction: &Transaction<'_>, load: &Load) -> anyhow::Result<()> {
    let run = &load.run;
    let (first, last) = load.extent();
    transaction.execute(
        "INSERT INTO runs (action_key, number, is_current, dataset, source, split, lines, sessions, alerts, anomalies, \
         objective, threshold, first_start, last_start, metrics_key, alert_budget) \
         VALUES (?1, (SELECT coalesce(max(number), 0) + 1 FROM runs), 1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        params![
            load.key,
            run.dataset,
            run.source,
            run.split,
            run.lines,
            load.count(|_| true),
            load.count(|s| s.is_alert),
            run.anomalies,
            run.objective,
            run.threshold,
            time(first),
            time(last),
            run.metrics_key,
            run.budget,
        ],
    )?;
    Ok(())
}

fn insert_sessions(transaction: &Transaction<'_>, load: &Load) -> anyhow::Result<()> {
    let mut insert = transaction.prepare("INSERT INTO session_scores VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?;
    for s in &load.sessions {
        let values = params![
            load.key,
            s.session_id,
            time(s.timestamp),
            s.p_lgbm,
            s.z_ae,
            s.fusion_score,
            s.is_alert,
            s.label,
            s.fold
        ];
        insert.execute(values).with_context(|| format!("session {}", s.session_id))?;
    }
    Ok(())
}
