use std::collections::BTreeMap;

use postgres::Client;
use serde_json::json;

use crate::fixture::{Fixture, SESSIONS, is_current};
use crate::server::{connect, server};

pub(crate) fn env(dsn: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("LOGWEIR_POSTGRES".to_owned(), dsn.to_owned())])
}

fn count(client: &mut Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).unwrap().get(0)
}

#[test]
fn exporting_twice_changes_nothing_and_going_back_moves_the_view() {
    let Some(server) = server() else { return };
    let (fixture, env) = (Fixture::new(), env(&server.database()));
    let mut client = connect(&env["LOGWEIR_POSTGRES"]);
    let none = json!({});
    assert!(!is_current(&none, "one", &env).unwrap());
    fixture.export(&none, "one", &env).unwrap();
    assert!(is_current(&none, "one", &env).unwrap());

    let statement = client.prepare("SELECT * FROM sessions").unwrap();
    let columns: Vec<&str> = statement.columns().iter().map(postgres::Column::name).collect();
    assert_eq!(columns.join(","), "session_id,timestamp,p_lgbm,z_ae,fusion_score,is_alert,label");
    assert_eq!(count(&mut client, "SELECT count(*) FROM sessions"), SESSIONS as i64);
    let tables = [
        "session_scores",
        "alerts",
        "alert_lines",
        "metrics",
        "score_minutes",
        "score_hours",
        "lineage",
        "lineage_actions",
        "lineage_edges",
        "templates",
        "signatures",
        "drift",
        "drift_measures",
        "drift_templates",
        "runs",
    ];
    // Row versions show whether anything was written again.
    let state = |client: &mut Client| -> Vec<(i64, String)> {
        let of = |table: &&str| {
            let sql = format!("SELECT count(*), coalesce(max(xmin::text::bigint), 0)::text FROM {table}");
            let row = client.query_one(&sql, &[]).unwrap();
            (row.get(0), row.get(1))
        };
        tables.iter().map(of).collect()
    };
    let before = state(&mut client);
    assert!(before.iter().all(|(rows, _)| *rows > 0), "{before:?}");
    fixture.export(&none, "one", &env).unwrap();
    assert_eq!(state(&mut client), before);

    let other = Fixture::with_shift(0.03);
    other.export(&none, "two", &env).unwrap();
    assert!(is_current(&none, "two", &env).unwrap() && !is_current(&none, "one", &env).unwrap());
    assert_eq!(count(&mut client, "SELECT count(*) FROM session_scores"), 2 * SESSIONS as i64);
    assert_eq!(count(&mut client, "SELECT count(*) FROM sessions"), SESSIONS as i64);
    fixture.export(&none, "one", &env).unwrap();
    assert!(is_current(&none, "one", &env).unwrap());
    assert_eq!(count(&mut client, "SELECT max(number) FROM runs"), 2);
}

#[test]
fn rows_equal_the_ensemble_and_rollups_equal_the_rows() {
    let Some(server) = server() else { return };
    let (fixture, env) = (Fixture::new(), env(&server.database()));
    fixture.export(&json!({}), "one", &env).unwrap();
    let mut client = connect(&env["LOGWEIR_POSTGRES"]);
    let mut reader = csv::Reader::from_path(fixture.dir.path().join("ensemble.csv")).unwrap();
    let sql = "SELECT to_char(\"timestamp\" AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), p_lgbm, z_ae, fusion_score, \
               is_alert::text, label::text FROM sessions WHERE session_id = $1";
    let statement = client.prepare(sql).unwrap();
    for record in reader.records() {
        let record = record.unwrap();
        let row = client.query_one(&statement, &[&&record[0]]).unwrap();
        assert_eq!(row.get::<_, String>(0), &record[1]);
        for i in 1..=3 {
            assert_eq!(row.get::<_, f64>(i).to_string(), &record[i + 1]);
        }
        assert_eq!((row.get::<_, String>(4), row.get::<_, String>(5)), (record[5].to_owned(), record[6].to_owned()));
    }
    let wrong = "SELECT count(*) FROM score_minutes m LEFT JOIN (
        SELECT date_trunc('minute', \"timestamp\") AS at, count(*) AS n, sum(is_alert) AS alerts, max(fusion_score) AS top,
          percentile_disc(0.9) WITHIN GROUP (ORDER BY fusion_score) AS p90,
          count(*) FILTER (WHERE is_alert = 1 AND label = 0) AS fp
        FROM sessions GROUP BY 1) s ON s.at = m.\"timestamp\"
      WHERE s.n IS DISTINCT FROM m.sessions OR s.alerts IS DISTINCT FROM m.alerts OR s.top IS DISTINCT FROM m.max
         OR s.p90 IS DISTINCT FROM m.p90 OR s.fp IS DISTINCT FROM m.fp";
    assert_eq!(count(&mut client, wrong), 0);
}

#[test]
fn alerts_come_with_reasons_lines_signatures_drift_and_lineage() {
    let Some(server) = server() else { return };
    let (fixture, env) = (Fixture::new(), env(&server.database()));
    fixture.export(&json!({"alerts_per_day": 48.0}), "one", &env).unwrap();
    let mut client = connect(&env["LOGWEIR_POSTGRES"]);
    let alerts = count(&mut client, "SELECT count(*) FROM alerts");
    let told = "SELECT count(*) FROM alerts WHERE reason <> '' AND signature_id <> '' AND events > 0 AND ended > \"timestamp\" - interval '1 s'";
    assert_eq!(count(&mut client, told), alerts);
    assert_eq!(count(&mut client, "SELECT sum(alerts)::bigint FROM signatures"), alerts);
    assert_eq!(
        count(&mut client, "SELECT count(*) FROM alerts WHERE type IN ('odd', 'even') AND label = 1 OR label = 0"),
        alerts
    );
    // Lines: the numbering over both files, times by the gaps, the text of the template, and what stands out.
    let wrong = "SELECT count(*) FROM alert_events e JOIN alerts a USING (action_key, session_id)
      WHERE e.text IS NULL OR e.file NOT IN ('raw:a.log', 'raw:b.log') OR e.line < 1
         OR e.\"timestamp\" <> a.\"timestamp\" + (e.position - 1) * interval '1500 ms'
         OR (e.position = 1 AND (e.file, e.line) <> (a.first_file, a.first_line))
         OR (e.position = a.events AND (e.file, e.line) <> (a.last_file, a.last_line))";
    assert_eq!(count(&mut client, wrong), 0);
    assert_eq!(
        count(&mut client, "SELECT count(*) FROM alert_events"),
        count(&mut client, "SELECT sum(events)::bigint FROM alerts")
    );
    assert!(count(&mut client, "SELECT count(*) FROM alert_events WHERE why IS NOT NULL") > 0);
    assert_eq!(
        count(
            &mut client,
            "SELECT count(*) FROM current_drift WHERE verdict IN ('stable', 'watch', 'refit') AND new_sessions > 0"
        ),
        1
    );
    assert!(count(&mut client, "SELECT count(*) FROM current_drift_measures") > 2);
    assert_eq!(
        count(&mut client, "SELECT count(*) FROM current_drift_templates WHERE change = 'new' AND event_id = 'T4'"),
        1
    );
    let edges = "SELECT count(*) FROM lineage_edges e JOIN lineage l ON l.path = e.source JOIN lineage_actions a ON a.stage_key = e.target
      WHERE a.kind = 'evaluate' AND (a.parameters::json->>'seed')::int = 42";
    assert_eq!(count(&mut client, edges), 1);
    assert_eq!(count(&mut client, "SELECT alert_budget::bigint FROM runs"), 48);
}

#[test]
fn alerts_of_another_run_are_refused() {
    let Some(server) = server() else { return };
    let (fixture, env) = (Fixture::new(), env(&server.database()));
    for decision in ["0", "1"] {
        // One alert less, then one more than were explained.
        let at = fixture.first_session(|fields| fields[5] != decision);
        fixture.change_ensemble(|i, fields| {
            if i == at {
                decision.clone_into(&mut fields[5]);
            }
            true
        });
        let text = format!("{:#}", fixture.export(&json!({}), "one", &env).unwrap_err());
        assert!(text.contains("both must come from one run"), "{text}");
        fixture.explain();
        fixture.export(&json!({}), decision, &env).unwrap();
    }
}

#[test]
fn a_failed_load_leaves_nothing_behind_not_even_tables() {
    let Some(server) = server() else { return };
    let (fixture, env) = (Fixture::new(), env(&server.database()));
    let path = fixture.dir.path().join("ensemble.csv");
    let text = std::fs::read_to_string(&path).unwrap().replace("blk_2000,", "blk_1999,");
    std::fs::write(&path, text).unwrap();
    let error = fixture.export_scores(&json!({}), "one", &env).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("nothing was changed") && text.contains("(session_id)=(blk_1999) is duplicated"), "{text}");
    assert!(!logweir_engine::error::Environment::is_cause_of(&error), "{text}");
    let mut client = connect(&env["LOGWEIR_POSTGRES"]);
    assert_eq!(count(&mut client, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), 0);
    assert!(!is_current(&json!({}), "one", &env).unwrap());
}

#[test]
fn two_loads_at_once_wait_for_each_other() {
    let Some(server) = server() else { return };
    let env = env(&server.database());
    std::thread::scope(|scope| {
        for name in ["one", "two", "three"] {
            let env = &env;
            scope.spawn(move || Fixture::new().export(&json!({}), name, env).unwrap());
        }
    });
    let mut client = connect(&env["LOGWEIR_POSTGRES"]);
    assert_eq!(count(&mut client, "SELECT count(*) FROM session_scores"), 3 * SESSIONS as i64);
    assert_eq!(count(&mut client, "SELECT count(*) FROM runs WHERE is_current = 1"), 1);
}

#[test]
fn a_schema_of_its_own_is_made() {
    let Some(server) = server() else { return };
    let (fixture, env) = (Fixture::new(), env(&server.database()));
    fixture.export(&json!({"schema": "Log Weir"}), "one", &env).unwrap();
    assert!(is_current(&json!({"schema": "Log Weir"}), "one", &env).unwrap());
    assert!(!is_current(&json!({}), "one", &env).unwrap());
    let mut client = connect(&env["LOGWEIR_POSTGRES"]);
    assert_eq!(count(&mut client, "SELECT count(*) FROM \"Log Weir\".sessions"), SESSIONS as i64);
}

#[test]
fn an_unreachable_server_is_an_error_with_a_hint_and_no_password() {
    let fixture = Fixture::new();
    let env = env("postgresql://ann:very-secret@127.0.0.1:1/logs");
    let text = format!("{:#}", fixture.export(&json!({}), "one", &env).unwrap_err());
    assert!(text.contains("cannot reach postgresql://127.0.0.1:1/logs"), "{text}");
    assert!(text.contains("LOGWEIR_POSTGRES") && !text.contains("very-secret"), "{text}");
    assert!(is_current(&json!({}), "one", &env).is_err());
}
