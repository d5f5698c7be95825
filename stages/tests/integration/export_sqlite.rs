use std::collections::BTreeMap;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::fixture::{Fixture, SESSIONS, is_current};

fn params(fixture: &Fixture) -> Value {
    json!({"url": format!("sqlite:{}", fixture.dir.path().join("sub/scores.sqlite").display())})
}

fn count(connection: &Connection, sql: &str) -> i64 {
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn loads_everything_once_and_going_back_only_changes_what_is_current() {
    let (fixture, none) = (Fixture::new(), BTreeMap::new());
    let params = params(&fixture);
    assert!(!is_current(&params, "one", &none).unwrap(), "asking must not need the file");
    fixture.export(&params, "one", &none).unwrap();
    assert!(is_current(&params, "one", &none).unwrap());

    let database = Connection::open(fixture.dir.path().join("sub/scores.sqlite")).unwrap();
    assert_eq!(count(&database, "SELECT count(*) FROM sessions"), SESSIONS as i64);
    let columns: Vec<String> =
        database.prepare("SELECT * FROM sessions").unwrap().column_names().map(str::to_owned).collect();
    assert_eq!(columns.join(","), "session_id,timestamp,p_lgbm,z_ae,fusion_score,is_alert,label");
    assert_eq!(count(&database, "SELECT sum(sessions) FROM score_minutes"), SESSIONS as i64);
    assert_eq!(count(&database, "SELECT count(*) FROM score_hours"), 5);
    assert_eq!(
        count(&database, "SELECT count(*) FROM alerts"),
        count(&database, "SELECT count(*) FROM sessions WHERE is_alert = 1")
    );
    assert_eq!(
        count(&database, "SELECT sum(tp) + 1000000 * sum(fn) FROM score_hours"),
        count(&database, "SELECT sum(is_alert * label) + 1000000 * sum((1 - is_alert) * label) FROM sessions")
    );
    assert_eq!(count(&database, "SELECT count(*) FROM current_templates WHERE in_training = 0"), 1);
    assert_eq!(
        count(&database, "SELECT count(*) FROM current_lineage WHERE stage = 'evaluate' AND stage_key = 'k1'"),
        1
    );

    assert_eq!(
        count(&database, "SELECT count(*) FROM alert_events WHERE text IS NOT NULL AND file LIKE 'raw:%' AND line > 0"),
        count(&database, "SELECT sum(events) FROM alerts")
    );
    let times = "SELECT count(*) FROM alert_events e JOIN alerts a USING (action_key, session_id)
      WHERE e.position = 2 AND julianday(e.\"timestamp\") - julianday(a.\"timestamp\") NOT BETWEEN 1.499 / 86400 AND 1.501 / 86400";
    assert_eq!(count(&database, times), 0);
    assert_eq!(count(&database, "SELECT count(*) FROM current_drift"), 1);
    assert_eq!(
        count(&database, "SELECT sum(alerts) FROM current_signatures"),
        count(&database, "SELECT count(*) FROM alerts")
    );

    // The same again: nothing changes, not even the file's change counter.
    let changes = |c: &Connection| count(c, "SELECT count(*) + 1000 * max(number) FROM runs");
    let before = changes(&database);
    let text = format!("{:?}", fixture.export(&params, "one", &none).unwrap());
    assert!(text.contains("already"), "{text}");
    assert_eq!(changes(&database), before);

    // Another run, then the first one again.
    let other = Fixture::with_shift(0.03);
    other.export(&params, "two", &none).unwrap();
    assert!(is_current(&params, "two", &none).unwrap() && !is_current(&params, "one", &none).unwrap());
    assert_eq!(count(&database, "SELECT count(*) FROM session_scores"), 2 * SESSIONS as i64);
    assert_eq!(count(&database, "SELECT count(*) FROM sessions"), SESSIONS as i64);
    fixture.export(&params, "one", &none).unwrap();
    assert!(is_current(&params, "one", &none).unwrap());
    assert_eq!(count(&database, "SELECT count(*) FROM session_scores"), 2 * SESSIONS as i64);
}

#[test]
fn rows_that_someone_deleted_make_an_export_stale_and_come_back() {
    let (fixture, none) = (Fixture::new(), BTreeMap::new());
    let params = params(&fixture);
    fixture.export(&params, "one", &none).unwrap();
    let database = Connection::open(fixture.dir.path().join("sub/scores.sqlite")).unwrap();
    database.execute("DELETE FROM session_scores WHERE session_id = 'blk_7'", []).unwrap();
    assert!(!is_current(&params, "one", &none).unwrap());
    fixture.export(&params, "one", &none).unwrap();
    assert_eq!(count(&database, "SELECT count(*) FROM sessions"), SESSIONS as i64);
    assert!(is_current(&params, "one", &none).unwrap());
}

#[test]
fn only_the_newest_exports_are_kept() {
    let (fixture, none) = (Fixture::new(), BTreeMap::new());
    let mut params = params(&fixture);
    params["keep"] = json!(2);
    for name in ["one", "two", "three"] {
        fixture.export(&params, name, &none).unwrap();
    }
    let database = Connection::open(fixture.dir.path().join("sub/scores.sqlite")).unwrap();
    assert_eq!(count(&database, "SELECT count(*) FROM runs"), 2);
    assert_eq!(count(&database, "SELECT count(DISTINCT action_key) FROM session_scores"), 2);
    assert!(is_current(&params, "three", &none).unwrap());
}

#[test]
fn a_failed_load_leaves_the_export_before_it() {
    let (fixture, none) = (Fixture::new(), BTreeMap::new());
    let params = params(&fixture);
    fixture.export(&params, "one", &none).unwrap();
    // A session twice: the primary key refuses it in the middle of the load.
    let path = fixture.dir.path().join("ensemble.csv");
    let text = std::fs::read_to_string(&path).unwrap().replace("blk_2000,", "blk_1999,");
    std::fs::write(&path, text).unwrap();
    let error = fixture.export_scores(&params, "two", &none).unwrap_err();
    assert!(format!("{error:#}").contains("blk_1999"), "{error:#}");
    assert!(is_current(&params, "one", &none).unwrap());
    let database = Connection::open(fixture.dir.path().join("sub/scores.sqlite")).unwrap();
    assert_eq!(count(&database, "SELECT count(*) FROM session_scores"), SESSIONS as i64);
}

#[test]
fn scores_of_another_run_are_refused() {
    let (fixture, none) = (Fixture::new(), BTreeMap::new());
    let path = fixture.dir.path().join("ensemble.csv");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.lines().take(100).map(|l| format!("{l}\n")).collect::<String>()).unwrap();
    let error = fixture.export(&params(&fixture), "one", &none).unwrap_err();
    assert!(format!("{error:#}").contains("different sessions"), "{error:#}");
}

#[test]
fn a_file_that_is_no_database_is_a_clear_error() {
    let (fixture, none) = (Fixture::new(), BTreeMap::new());
    let error =
        fixture.export(&json!({"url": format!("sqlite:{}/types.csv", fixture.dir.path().display())}), "one", &none);
    let text = format!("{:#}", error.unwrap_err());
    assert!(text.contains("types.csv") && text.contains("is the folder writable, and the file a database?"), "{text}");
}
