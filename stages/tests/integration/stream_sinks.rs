//! Rows of streams in SQLite and PostgreSQL: what comes again after a kill is there once.

use std::collections::BTreeMap;

use logweir_stages::stream::Why;
use logweir_stages::stream::judge::ScoreRow;
use logweir_stages::stream::sink::{About, Begin, Target, open};

use crate::server::{connect, server};

fn rows(from: usize, to: usize) -> Vec<ScoreRow> {
    let row = |n: usize| ScoreRow {
        session_id: format!("s{n}"),
        start: 1_226_262_930_250_000 + n as i64,
        p_lgbm: n.is_multiple_of(2).then_some(0.1 + n as f64),
        z_ae: Some(1.0 / 3.0),
        fusion_score: 1.0 / (1.0 + n as f64),
        is_alert: n == 0,
        events: n,
        censored: n == 1,
        reason: if n == 2 { "it's \0 \"odd\"".to_owned() } else { String::new() },
        state: if n == 3 { Why::Early } else { Why::Closed },
    };
    (from..to).map(row).collect()
}

fn about(stream: &str) -> About {
    About { stream: stream.to_owned(), run: "r1".to_owned(), threshold: 0.5 }
}

/// Writes as a stream does that is killed after a commit that its state does not know of; and once more as another.
fn write(target: &Target) {
    let mut sink = open(target, Begin::Append, &about("one")).unwrap();
    sink.write(0, &rows(0, 5)).unwrap();
    sink.commit().unwrap();
    sink.write(5, &rows(5, 7)).unwrap();
    drop(sink);
    let mut sink = open(target, Begin::At(0), &about("one")).unwrap();
    // More are written at once than before.
    sink.write(3, &rows(3, 6000)).unwrap();
    sink.finish().unwrap();
    let mut sink = open(target, Begin::Append, &about("two")).unwrap();
    sink.write(0, &rows(0, 2)).unwrap();
    sink.finish().unwrap();
}

#[test]
fn sqlite_has_every_row_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sqlite");
    let target = Target::parse(&format!("sqlite:{}", path.display()), &BTreeMap::new()).unwrap();
    write(&target);
    let base = rusqlite::Connection::open(&path).unwrap();
    let count = |sql: &str| base.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM stream_scores WHERE stream = 'one'"), 6000);
    assert_eq!(count("SELECT count(*) FROM stream_scores WHERE session_id = 's' || number AND events = number"), 6002);
    assert_eq!(count("SELECT count(*) FROM streams WHERE run = 'r1' AND threshold = 0.5"), 2);
    assert_eq!(count("SELECT count(*) FROM stream_scores WHERE state <> 'closed' AND number <> 3"), 0);
    let score = |n: i64| -> f64 {
        base.query_row("SELECT fusion_score FROM stream_scores WHERE number = ?1 AND stream = 'one'", [n], |r| r.get(0))
            .unwrap()
    };
    assert_eq!(score(6).to_bits(), (1.0f64 / 7.0).to_bits());
    let time: String =
        base.query_row("SELECT \"timestamp\" FROM stream_scores WHERE number = 0 LIMIT 1", [], |r| r.get(0)).unwrap();
    assert_eq!(time, "2008-11-09 20:35:30.250");
}

#[test]
fn postgresql_has_every_row_once() {
    let Some(server) = server() else { return };
    let dsn = server.database();
    let env = BTreeMap::from([("LOGWEIR_POSTGRES".to_owned(), dsn.clone())]);
    write(&Target::parse("postgres:", &env).unwrap());
    let mut client = connect(&dsn);
    let mut count = |sql: &str| client.query_one(sql, &[]).unwrap().get::<_, i64>(0);
    assert_eq!(count("SELECT count(*) FROM stream_scores WHERE stream = 'one'"), 6000);
    assert_eq!(count("SELECT count(*) FROM stream_scores WHERE session_id = 's' || number AND events = number"), 6002);
    assert_eq!(count("SELECT count(*) FROM streams WHERE run = 'r1' AND threshold = 0.5"), 2);
    let row = client.query_one("SELECT fusion_score, reason FROM stream_scores WHERE number = 2", &[]).unwrap();
    assert_eq!(row.get::<_, f64>(0).to_bits(), (1.0f64 / 3.0).to_bits());
    assert_eq!(row.get::<_, String>(1), "it's \\0 \"odd\"");
}

#[test]
fn a_server_that_goes_away_is_waited_for() {
    let Some(server) = server() else { return };
    let dsn = server.database();
    let env = BTreeMap::from([("LOGWEIR_POSTGRES".to_owned(), dsn.clone())]);
    let mut sink = open(&Target::parse("postgres:", &env).unwrap(), Begin::Append, &about("one")).unwrap();
    sink.write(0, &rows(0, 2)).unwrap();
    sink.commit().unwrap();
    let mut client = connect(&dsn);
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    assert_eq!(client.query_one(cut, &[]).unwrap().get::<_, i64>(0), 1);
    sink.write(2, &rows(2, 9)).unwrap();
    sink.commit().unwrap();
    assert_eq!(client.query_one("SELECT count(*) FROM stream_scores", &[]).unwrap().get::<_, i64>(0), 9);
}
