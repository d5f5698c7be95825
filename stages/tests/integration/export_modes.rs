//! Exports beside each other, in place of each other, and added to each other; the same in both databases.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::export_postgresql::env;
use crate::fixture::{Fixture, SESSIONS, is_current};
use crate::server::{connect, server};

/// Asks one of the databases for a number.
type Ask<'a> = Box<dyn Fn(&str) -> i64 + 'a>;

/// Does the same with SQLite, and with PostgreSQL where there is one.
fn everywhere(test: impl Fn(&dyn Fn(Value) -> Value, &BTreeMap<String, String>, &Ask<'_>)) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("scores.sqlite");
    let url = json!(format!("sqlite:{}", file.display()));
    let with = |mut params: Value| {
        params["url"] = url.clone();
        params
    };
    let ask = |sql: &str| -> i64 {
        let sql = sql.replace("::bigint", "");
        rusqlite::Connection::open(&file).unwrap().query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    test(&with, &BTreeMap::new(), &(Box::new(ask) as Ask<'_>));
    if let Some(server) = server() {
        let env = env(&server.database());
        let ask = |sql: &str| -> i64 { connect(&env["LOGWEIR_POSTGRES"]).query_one(sql, &[]).unwrap().get(0) };
        test(&|params| params, &env, &(Box::new(ask) as Ask<'_>));
    }
}

#[test]
fn replacing_leaves_one_export() {
    everywhere(|with, env, ask| {
        Fixture::new().export(&with(json!({})), "one", env).unwrap();
        Fixture::with_shift(0.03).export(&with(json!({})), "two", env).unwrap();
        assert_eq!(
            (ask("SELECT count(*) FROM runs"), ask("SELECT count(DISTINCT action_key) FROM session_scores")),
            (2, 2)
        );
        let replace = with(json!({"mode": "replace"}));
        Fixture::with_shift(0.05).export(&replace, "three", env).unwrap();
        assert!(is_current(&replace, "three", env).unwrap());
        for table in ["runs", "session_scores", "alerts", "metrics", "score_hours", "alert_lines", "signatures"] {
            assert_eq!(ask(&format!("SELECT count(DISTINCT action_key) FROM {table}")), 1, "{table}");
        }
    });
}

#[test]
fn adding_takes_over_what_is_not_loaded_anew_and_rolls_up_all() {
    everywhere(|with, env, ask| {
        // Yesterday: all sessions. Today: every second one, with other scores.
        Fixture::new().export(&with(json!({})), "yesterday", env).unwrap();
        let alerts_before = ask("SELECT count(*) FROM sessions WHERE is_alert = 1");
        let today = Fixture::with_shift(0.1);
        today.change_ensemble(|i, fields| {
            if i % 40 == 0 {
                fields[5] = if fields[5] == "1" { "0" } else { "1" }.to_owned();
            }
            i % 2 == 0
        });
        let upsert = with(json!({"mode": "upsert"}));
        today.export_scores(&upsert, "today", env).unwrap();
        assert!(is_current(&upsert, "today", env).unwrap());
        assert_eq!(ask("SELECT count(*) FROM sessions"), SESSIONS as i64);
        assert_eq!(ask("SELECT sessions FROM runs WHERE is_current = 1"), SESSIONS as i64);
        assert_eq!(ask("SELECT sum(sessions)::bigint FROM current_score_minutes"), SESSIONS as i64);
        // Those of today have today's scores, the others yesterday's.
        let moved = |parity: i32| {
            ask(&format!(
                "SELECT count(*) FROM session_scores n JOIN session_scores o ON o.session_id = n.session_id AND o.action_key <> n.action_key
                 JOIN runs r ON r.action_key = n.action_key AND r.is_current = 1
                 WHERE n.fusion_score > o.fusion_score AND CAST(substr(n.session_id, 5) AS INTEGER) % 2 = {parity}"
            ))
        };
        assert_eq!((moved(0), moved(1)), (SESSIONS as i64 / 2, 0));
        // Every alert is in the table of alerts, once; those taken over with their reasons and lines.
        let alerts = ask("SELECT count(*) FROM sessions WHERE is_alert = 1");
        assert_ne!(alerts, alerts_before);
        assert_eq!(ask("SELECT count(*) FROM current_alerts"), alerts);
        assert_eq!(ask("SELECT alerts FROM runs WHERE is_current = 1"), alerts);
        let carried = "FROM current_alerts WHERE CAST(substr(session_id, 5) AS INTEGER) % 2 = 1";
        assert!(ask(&format!("SELECT count(*) {carried}")) > 0);
        assert_eq!(ask(&format!("SELECT count(*) {carried} AND (reason = '' OR signature_id IS NULL)")), 0);
        assert_eq!(
            ask(
                "SELECT count(DISTINCT e.session_id) FROM alert_events e JOIN runs r ON r.action_key = e.action_key AND r.is_current = 1"
            ),
            ask(&format!("SELECT count(*) {carried}"))
        );
        assert_eq!(
            ask("SELECT coalesce(sum(alerts), 0)::bigint FROM current_signatures"),
            ask("SELECT count(*) FROM current_alerts WHERE signature_id IS NOT NULL")
        );
        // The same again changes nothing; yesterday is still there as it was.
        today.export_scores(&upsert, "today", env).unwrap();
        assert_eq!(ask("SELECT count(*) FROM session_scores"), 2 * SESSIONS as i64);
        Fixture::new().export(&with(json!({})), "yesterday", env).unwrap();
        assert_eq!(ask("SELECT count(*) FROM sessions WHERE is_alert = 1"), alerts_before);
    });
}

#[test]
fn adding_to_an_empty_database_is_loading() {
    everywhere(|with, env, ask| {
        Fixture::new().export(&with(json!({"mode": "upsert"})), "one", env).unwrap();
        assert_eq!(ask("SELECT count(*) FROM sessions"), SESSIONS as i64);
    });
}
