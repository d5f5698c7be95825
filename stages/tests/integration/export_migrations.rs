//! Databases of older versions: brought up to date in the transaction of the next export, nothing lost.

use postgres::Client;
use rusqlite::Connection;
use serde_json::json;

use crate::export_postgresql::env;
use crate::fixture::{Fixture, SESSIONS, is_current};
use crate::server::{connect, server};
use logweir_stages::export::migrations;

/// Rows of a version that had the first migration only: two exports, the second one current.
const ROWS: &str = "
INSERT INTO runs (action_key, number, is_current, dataset, source, split, sessions, alerts, anomalies, objective, threshold, metrics_key)
  VALUES ('a', 1, 0, 'logs', 'real', 'random', 2, 1, 1, 'f_beta', 0.5, 'm'), ('b', 4, 1, 'logs', 'real', 'random', 1, 0, 0, 'f_beta', 0.5, 'm');
INSERT INTO session_scores VALUES ('a', 's1', NULL, NULL, NULL, 0.9, 1, 1, 'test'), ('a', 's2', NULL, 0.1, 1.5, 0.1, 0, 0, 'test'),
  ('b', 's1', NULL, NULL, NULL, 0.2, 0, NULL, 'train');
INSERT INTO alerts VALUES ('a', 's1', NULL, NULL, NULL, 0.9, 1, 'test', 'odd');
";

fn first(postgresql: bool) -> String {
    let all = migrations(postgresql);
    let (number, name, sql) = &all[0];
    format!(
        "CREATE TABLE schema_migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL);\n{sql}\n\
         INSERT INTO schema_migrations VALUES ({number}, '{name}');\n{ROWS}"
    )
}

/// Columns of all tables and views but partitions, and the indexes of base tables.
fn shape(client: &mut Client) -> Vec<String> {
    let sql = "SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' ' || coalesce(collation_name, '')
        FROM information_schema.columns WHERE table_schema = 'public' AND table_name !~ '^session_scores_[0-9]+$'
      UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename !~ '^session_scores_[0-9]+$'
      UNION ALL SELECT viewname || ': ' || definition FROM pg_views WHERE schemaname = 'public' ORDER BY 1";
    client.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

#[test]
fn a_postgresql_database_of_the_first_version_keeps_its_exports() {
    let Some(server) = server() else { return };
    let (old, new) = (env(&server.database()), env(&server.database()));
    let mut client = connect(&old["LOGWEIR_POSTGRES"]);
    client.batch_execute(&first(true)).unwrap();
    assert!(!is_current(&json!({}), "one", &old).unwrap());
    Fixture::new().export(&json!({}), "one", &old).unwrap();
    Fixture::new().export(&json!({}), "one", &new).unwrap();
    assert!(is_current(&json!({}), "one", &old).unwrap());
    let count = |client: &mut Client, sql: &str| -> i64 { client.query_one(sql, &[]).unwrap().get(0) };
    assert_eq!(count(&mut client, "SELECT count(*) FROM session_scores WHERE action_key = 'a'"), 2);
    assert_eq!(
        count(&mut client, "SELECT count(*) FROM session_scores_4 WHERE session_id = 's1' AND fold = 'train'"),
        1
    );
    assert_eq!(count(&mut client, "SELECT number FROM runs WHERE is_current = 1"), 5);
    assert_eq!(count(&mut client, "SELECT count(*) FROM sessions"), SESSIONS as i64);
    client
        .batch_execute("UPDATE runs SET is_current = 0; UPDATE runs SET is_current = 1 WHERE action_key = 'a'")
        .unwrap();
    assert_eq!(count(&mut client, "SELECT count(*) FROM sessions"), 2);
    assert_eq!(shape(&mut client), shape(&mut connect(&new["LOGWEIR_POSTGRES"])));
}

#[test]
fn a_migration_that_fails_changes_nothing() {
    let Some(server) = server() else { return };
    let env = env(&server.database());
    let mut client = connect(&env["LOGWEIR_POSTGRES"]);
    client.batch_execute(&first(true)).unwrap();
    // Somebody's own view on one that has to be made anew.
    client.batch_execute("CREATE VIEW mine AS SELECT session_id FROM sessions").unwrap();
    let before = shape(&mut client);
    let text = format!("{:#}", Fixture::new().export(&json!({}), "one", &env).unwrap_err());
    assert!(text.contains("migration 2") && text.contains("depend"), "{text}");
    assert_eq!(shape(&mut client), before);
    client.batch_execute("DROP VIEW mine").unwrap();
    Fixture::new().export(&json!({}), "one", &env).unwrap();
}

#[test]
fn a_sqlite_database_of_the_first_version_keeps_its_exports() {
    let fixture = Fixture::new();
    let file = fixture.dir.path().join("old.sqlite");
    let params = json!({"url": format!("sqlite:{}", file.display())});
    let database = Connection::open(&file).unwrap();
    database.execute_batch(&first(false)).unwrap();
    fixture.export(&params, "one", &std::collections::BTreeMap::new()).unwrap();
    let count = |sql: &str| -> i64 { database.query_row(sql, [], |row| row.get(0)).unwrap() };
    assert_eq!(count("SELECT count(*) FROM session_scores WHERE action_key = 'a'"), 2);
    assert_eq!(count("SELECT count(*) FROM alerts WHERE action_key = 'a' AND signature IS NULL"), 1);
    assert_eq!(count("SELECT count(*) FROM sessions"), SESSIONS as i64);
    assert_eq!(count("SELECT max(number) FROM schema_migrations"), i64::from(migrations(false).last().unwrap().0));
}

#[test]
fn a_database_of_a_newer_version_is_left_alone() {
    let Some(server) = server() else { return };
    let env = env(&server.database());
    Fixture::new().export(&json!({}), "one", &env).unwrap();
    let mut client = connect(&env["LOGWEIR_POSTGRES"]);
    client.batch_execute("INSERT INTO schema_migrations VALUES (99, 'of the future')").unwrap();
    let text = format!("{:#}", Fixture::with_shift(0.03).export(&json!({}), "two", &env).unwrap_err());
    assert!(text.contains("version 99") && text.contains("newer logweir"), "{text}");
}
