//! Rows of streams in SQLite or PostgreSQL: the table `stream_scores`, one row for each of a stream, and `streams`.
//!
//! A row has the key (stream, number): one that comes again after a kill is there already and is left as it is.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow};
use chrono::DateTime;
use postgres::Client;
use rusqlite::{Connection, params};

use super::judge::ScoreRow;
use super::sink::{About, Sink};
use crate::export::{self, Address};

/// The tables; `{…}` are types of the dialect.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS streams (
    stream TEXT PRIMARY KEY, run TEXT NOT NULL, threshold {real} NOT NULL);
CREATE TABLE IF NOT EXISTS stream_scores (
    stream TEXT NOT NULL, number {int} NOT NULL, session_id TEXT NOT NULL, \"timestamp\" {time}, p_lgbm {real},
    z_ae {real}, fusion_score {real} NOT NULL, is_alert {flag} NOT NULL, events {int} NOT NULL, censored {flag} NOT NULL,
    reason TEXT NOT NULL, state TEXT NOT NULL, PRIMARY KEY (stream, number));
CREATE INDEX IF NOT EXISTS stream_scores_by_time ON stream_scores (\"timestamp\");
CREATE INDEX IF NOT EXISTS stream_scores_by_session ON stream_scores (session_id);
";

fn tables(int: &str, real: &str, flag: &str, time: &str) -> String {
    TABLES.replace("{int}", int).replace("{real}", real).replace("{flag}", flag).replace("{time}", time)
}

/// Rows that are loaded in one transaction.
const ROWS: usize = 4096;

/// How long is waited for a database that went away, at first and at most.
const WAITS: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(30)];

/// Opens a database and makes its tables.
///
/// # Errors
/// It cannot be reached.
pub(super) fn open(address: &Address, about: &About) -> anyhow::Result<Box<dyn Sink>> {
    let place = address.identity();
    Ok(match address {
        Address::Sqlite(path) => {
            let lite = Lite::open(path, about).with_context(|| format!("cannot open {place}"))?;
            Box::new(Loader { base: lite, place, waiting: Vec::new(), first: 0 })
        }
        Address::Postgres(server) => {
            let mut server = Server { client: None, place: server.clone(), about: about.clone() };
            // That it cannot be reached at all is said at once.
            server.connected().with_context(|| format!("cannot reach {place}"))?;
            Box::new(Loader { base: server, place, waiting: Vec::new(), first: 0 })
        }
    })
}

/// What loads rows.
trait Base: Send {
    /// Loads rows in one transaction; those that are there stay.
    fn load(&mut self, first: u64, rows: &[ScoreRow]) -> anyhow::Result<()>;

    /// Whether it may be tried again: the database went away, or somebody else writes.
    fn may_come_back(&self, error: &anyhow::Error) -> bool;
}

struct Loader<B> {
    base: B,
    place: String,
    waiting: Vec<ScoreRow>,
    /// Number of the first that waits.
    first: u64,
}

impl<B: Base> Sink for Loader<B> {
    fn write(&mut self, first: u64, rows: &[ScoreRow]) -> anyhow::Result<()> {
        if self.waiting.is_empty() {
            self.first = first;
        }
        self.waiting.extend_from_slice(rows);
        if self.waiting.len() >= ROWS { self.commit().map(drop) } else { Ok(()) }
    }

    /// Waits for a database that went away: the log is not lost meanwhile, only read later.
    fn commit(&mut self) -> anyhow::Result<u64> {
        let mut wait = WAITS[0];
        while !self.waiting.is_empty() {
            match self.base.load(self.first, &self.waiting) {
                Ok(()) => self.waiting.clear(),
                Err(error) if self.base.may_come_back(&error) => {
                    tracing::warn!(place = self.place, error = format!("{error:#}"), "scores wait for the database");
                    std::thread::sleep(wait);
                    wait = (wait * 2).min(WAITS[1]);
                }
                Err(error) => return Err(error.context(format!("cannot load scores into {}", self.place))),
            }
        }
        Ok(0)
    }
}

fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

struct Lite {
    connection: Connection,
    stream: String,
}

impl Lite {
    fn open(path: &std::path::Path, about: &About) -> anyhow::Result<Self> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.execute_batch(&tables("INTEGER", "REAL", "INTEGER", "TEXT"))?;
        let row = params![about.stream, about.run, about.threshold];
        connection.execute("INSERT OR IGNORE INTO streams VALUES (?1, ?2, ?3)", row)?;
        Ok(Self { connection, stream: about.stream.clone() })
    }
}

impl Base for Lite {
    fn load(&mut self, first: u64, rows: &[ScoreRow]) -> anyhow::Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let sql = "INSERT OR IGNORE INTO stream_scores VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
            let mut insert = transaction.prepare_cached(sql)?;
            for (number, r) in (first..).zip(rows) {
                let time =
                    DateTime::from_timestamp_micros(r.start).map(|t| t.format("%Y-%m-%d %H:%M:%S%.f").to_string());
                insert.execute(params![
                    self.stream,
                    int(number),
                    r.session_id,
                    time,
                    r.p_lgbm,
                    r.z_ae,
                    r.fusion_score,
                    r.is_alert,
                    int(r.events as u64),
                    r.censored,
                    r.reason,
                    r.state.name()
                ])?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn may_come_back(&self, error: &anyhow::Error) -> bool {
        let code = error.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code);
        matches!(code, Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked))
    }
}

struct Server {
    client: Option<Client>,
    place: Box<export::Server>,
    about: About,
}

impl Server {
    fn connected(&mut self) -> anyhow::Result<&mut Client> {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            let mut client = export::connect(&self.place)?;
            let schema = format!("\"{}\"", self.place.schema.replace('"', "\"\""));
            client.batch_execute(&format!("SET search_path TO {schema}"))?;
            client.batch_execute(&tables("BIGINT", "DOUBLE PRECISION", "SMALLINT", "TIMESTAMPTZ"))?;
            let About { stream, run, threshold } = &self.about;
            let sql = "INSERT INTO streams VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
            client.execute(sql, &[stream, run, threshold])?;
            self.client = Some(client);
        }
        self.client.as_mut().ok_or_else(|| anyhow!("not connected"))
    }

    fn load_in(&mut self, first: u64, rows: &[ScoreRow]) -> anyhow::Result<()> {
        let stream = self.about.stream.clone();
        let mut transaction = self.connected()?.transaction()?;
        // One statement for all rows: a round trip for each would be slow.
        let numbers: Vec<i64> = (first..).take(rows.len()).map(int).collect();
        // A text of PostgreSQL holds no NUL.
        let clean = |text: &str| text.replace('\0', "\\0");
        let ids: Vec<String> = rows.iter().map(|r| clean(&r.session_id)).collect();
        let times: Vec<Option<SystemTime>> = rows.iter().map(|r| time(r.start)).collect();
        let p: Vec<Option<f64>> = rows.iter().map(|r| r.p_lgbm).collect();
        let z: Vec<Option<f64>> = rows.iter().map(|r| r.z_ae).collect();
        let scores: Vec<f64> = rows.iter().map(|r| r.fusion_score).collect();
        let alerts: Vec<i16> = rows.iter().map(|r| i16::from(r.is_alert)).collect();
        let events: Vec<i64> = rows.iter().map(|r| int(r.events as u64)).collect();
        let censored: Vec<i16> = rows.iter().map(|r| i16::from(r.censored)).collect();
        let reasons: Vec<String> = rows.iter().map(|r| clean(&r.reason)).collect();
        let states: Vec<&str> = rows.iter().map(|r| r.state.name()).collect();
        transaction.execute(
            "INSERT INTO stream_scores SELECT $1, * FROM unnest($2::bigint[], $3::text[], $4::timestamptz[], $5::float8[], \
             $6::float8[], $7::float8[], $8::smallint[], $9::bigint[], $10::smallint[], $11::text[], $12::text[]) \
             ON CONFLICT DO NOTHING",
            &[&stream, &numbers, &ids, &times, &p, &z, &scores, &alerts, &events, &censored, &reasons, &states],
        )?;
        Ok(transaction.commit()?)
    }
}

impl Base for Server {
    fn load(&mut self, first: u64, rows: &[ScoreRow]) -> anyhow::Result<()> {
        let loaded = self.load_in(first, rows);
        if loaded.is_err() {
            self.client = None;
        }
        loaded
    }

    /// Whatever the server itself does not refuse is a matter of the connection, or of its shutting down.
    fn may_come_back(&self, error: &anyhow::Error) -> bool {
        let Some(error) = error.downcast_ref::<postgres::Error>() else { return false };
        let going = |code: &str| ["57P01", "57P02", "57P03", "53300"].contains(&code);
        error.code().is_none_or(|state| going(state.code()))
    }
}

fn time(micros: i64) -> Option<SystemTime> {
    let distance = Duration::from_micros(micros.unsigned_abs());
    if micros < 0 { SystemTime::UNIX_EPOCH.checked_sub(distance) } else { SystemTime::UNIX_EPOCH.checked_add(distance) }
}
