//! What goes wrong at a server: each time the export survives, or says what happened, and nothing is half loaded.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;

use logweir_engine::error::Environment;
use postgres::Client;
use serde_json::{Value, json};

use crate::export_postgresql::env;
use crate::fixture::{Fixture, SESSIONS, is_current};
use crate::panels::provisioning;
use crate::proxy::{Then, proxy};
use crate::server::{Own, connect, run, server};

type Env = BTreeMap<String, String>;

/// Bytes of a load of the fixture after which it is in the middle of the sessions.
const MIDDLE: u64 = 150_000;

fn none() -> Value {
    json!({})
}

/// The database by a port, with little patience.
fn by_port(port: u16, patience: u32) -> Env {
    let mut env = env(&format!("host=127.0.0.1 port={port} user=postgres dbname=postgres sslmode=disable"));
    env.insert("LOGWEIR_POSTGRES_TIMEOUT".to_owned(), patience.to_string());
    env
}

fn tables(dsn: &str) -> i64 {
    count(&mut connect(dsn), "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
}

fn count(client: &mut Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).unwrap().get(0)
}

/// What an export that fails through the environment says.
fn failure(fixture: &Fixture, env: &Env) -> String {
    let error = fixture.export(&none(), "one", env).unwrap_err();
    assert!(Environment::is_cause_of(&error), "{error:#}");
    format!("{error:#}")
}

#[test]
fn a_server_that_restarts_in_the_middle_of_a_load_gets_it_again() {
    let Some(server) = Own::start() else { return };
    let server = Arc::new(server);
    let restarted = Arc::clone(&server);
    let restart = move || {
        restarted.stop();
        restarted.again();
    };
    let port = proxy(server.port, MIDDLE, Then::Do(Box::new(restart)));
    let said = format!("{:?}", Fixture::new().export(&none(), "one", &by_port(port, 60)).unwrap());
    assert!(said.contains("was lost") && said.contains("second attempt"), "{said}");
    let mut client = connect(&server.dsn);
    assert_eq!(count(&mut client, "SELECT count(*) FROM sessions"), SESSIONS as i64);
    assert_eq!(count(&mut client, "SELECT count(*) FROM runs"), 1);
    assert!(is_current(&none(), "one", &by_port(server.port, 60)).unwrap());
}

#[test]
fn a_server_that_stays_away_is_told_and_has_nothing_of_the_load() {
    let Some(server) = Own::start() else { return };
    let server = Arc::new(server);
    let stopped = Arc::clone(&server);
    let port = proxy(server.port, MIDDLE, Then::Do(Box::new(move || stopped.stop())));
    let (fixture, env) = (Fixture::new(), by_port(port, 2));
    let text = failure(&fixture, &env);
    assert!(text.contains("nothing was changed there") && text.contains("connection was lost"), "{text}");
    server.again();
    assert_eq!(tables(&server.dsn), 0);
    fixture.export(&none(), "one", &env).unwrap();
    assert!(is_current(&none(), "one", &env).unwrap());
}

#[test]
fn a_network_that_swallows_everything_is_noticed() {
    let Some(server) = Own::start() else { return };
    let port = proxy(server.port, MIDDLE, Then::Silence);
    let fixture = Fixture::new();
    let text = failure(&fixture, &by_port(port, 1));
    assert!(text.contains("has not answered for 1 s") && text.contains("LOGWEIR_POSTGRES_TIMEOUT"), "{text}");
    assert_eq!(tables(&server.dsn), 0);
    // The session of the first attempt still waits for bytes; its lock is waited for, and told when it stays.
    connect(&server.dsn)
        .batch_execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'logweir'")
        .unwrap();
    fixture.export(&none(), "one", &by_port(server.port, 60)).unwrap();
}

#[test]
fn a_stopped_server_is_noticed_when_asked_and_when_loaded_by_port_and_by_socket() {
    let Some(server) = Own::start() else { return };
    let processes = server.processes();
    let signal = |name: &str| run(Command::new("kill").arg(name).args(&processes));
    let mut by_socket = env(&server.dsn);
    by_socket.insert("LOGWEIR_POSTGRES_TIMEOUT".to_owned(), "1".to_owned());
    let fixture = Fixture::new();
    signal("-STOP");
    let answers: Vec<(anyhow::Error, String)> = [by_socket, by_port(server.port, 1)]
        .iter()
        .map(|env| (is_current(&none(), "one", env).unwrap_err(), failure(&fixture, env)))
        .collect();
    signal("-CONT");
    for (asked, loaded) in answers {
        assert!(Environment::is_cause_of(&asked), "{asked:#}");
        assert!(loaded.contains("has not answered for 1 s"), "{loaded}");
    }
    assert_eq!(tables(&server.dsn), 0);
}

#[test]
fn removed_tables_are_told_or_made_again() {
    let Some(server) = server() else { return };
    let (fixture, env) = (Fixture::new(), env(&server.database()));
    let mut client = connect(&env["LOGWEIR_POSTGRES"]);
    fixture.export(&none(), "one", &env).unwrap();

    // The partition of an export: its sessions are loaded again.
    client.batch_execute("DROP TABLE session_scores_1").unwrap();
    assert!(!is_current(&none(), "one", &env).unwrap());
    fixture.export(&none(), "one", &env).unwrap();
    assert_eq!(count(&mut client, "SELECT count(*) FROM sessions"), SESSIONS as i64);

    // A table with rows of other exports: not made again behind anybody's back.
    client.batch_execute("DROP TABLE templates CASCADE").unwrap();
    let text = {
        let other = Fixture::with_shift(0.03);
        let error = other.export(&none(), "two", &env).unwrap_err();
        assert!(Environment::is_cause_of(&error), "{error:#}");
        format!("{error:#}")
    };
    assert!(text.contains("\"templates\" does not exist") && text.contains("drop the whole schema"), "{text}");
    assert_eq!(count(&mut client, "SELECT count(*) FROM session_scores"), SESSIONS as i64);
    assert_eq!(count(&mut client, "SELECT count(*) FROM runs WHERE is_current = 1"), 1);

    // Everything: as in a new database.
    client.batch_execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public").unwrap();
    assert!(!is_current(&none(), "one", &env).unwrap());
    fixture.export(&none(), "one", &env).unwrap();
    assert_eq!(count(&mut client, "SELECT count(*) FROM sessions"), SESSIONS as i64);
}

#[test]
fn a_full_disk_of_the_server_is_told_and_room_helps() {
    let Some(server) = Own::start() else { return };
    let disk = server.dir.join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(&disk).output();
    if !mounted.is_ok_and(|out| out.status.success()) {
        eprintln!("SKIPPED: this user may not mount a small disk");
        return;
    }
    struct Unmount<'a>(&'a std::path::Path);
    impl Drop for Unmount<'_> {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(self.0).status();
        }
    }
    let _unmount = Unmount(&disk);
    run(Command::new("chown").arg("--reference").arg(server.dir.join("data")).arg(&disk));
    let mut client = connect(&server.dsn);
    client.batch_execute(&format!("CREATE TABLESPACE small LOCATION '{}'", disk.display())).unwrap();
    client.batch_execute("ALTER DATABASE postgres SET default_tablespace = small").unwrap();
    drop(client);
    let filler = disk.join("filler");
    std::fs::write(&filler, vec![0; 1_400_000]).unwrap();
    let (fixture, env) = (Fixture::new(), by_port(server.port, 60));
    let text = failure(&fixture, &env);
    assert!(text.contains("the disk of the server is full") && text.contains("53100"), "{text}");
    assert_eq!(tables(&server.dsn), 0);
    std::fs::remove_file(filler).unwrap();
    run(Command::new("mount").args(["-o", "remount,size=64m"]).arg(&disk));
    fixture.export(&none(), "one", &env).unwrap();
    assert!(is_current(&none(), "one", &env).unwrap());
    server.stop();
}

#[test]
fn who_may_not_make_tables_is_told_what_is_needed() {
    let Some(server) = server() else { return };
    let dsn = server.database();
    let mut client = connect(&dsn);
    let role = dsn.rsplit_once("dbname=").unwrap().1.to_owned();
    client.batch_execute(&format!("CREATE ROLE {role} LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC")).unwrap();
    let env = env(&dsn.replace("user=postgres", &format!("user={role}")));
    let text = failure(&Fixture::new(), &env);
    assert!(text.contains("permission denied for schema public") && text.contains("writer_role.sql"), "{text}");
}

#[test]
fn the_role_for_loading_can_load_and_migrate_and_nothing_else() {
    let Some(server) = server() else { return };
    let dsn = server.database();
    let psql = |file: &str, variables: &[&str]| {
        let mut command = Command::new("psql");
        command.arg(&dsn).arg("-q");
        for variable in variables {
            command.args(["-v", variable]);
        }
        command.arg("-f").arg(provisioning(file)).output()
    };
    // Tables that the administrator loaded before are handed over.
    Fixture::with_shift(0.03).export(&none(), "older", &env(&dsn)).unwrap();
    let Ok(out) = psql("postgres/writer_role.sql", &["password=w"]) else {
        eprintln!("SKIPPED: no psql on this machine");
        return;
    };
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let out = psql("postgres/grafana_role.sql", &["password=r", "writer=logweir_writer"]).unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let own = dsn.replace("user=postgres", "user=logweir_writer");
    let mut params = json!({"keep": 1});
    Fixture::new().export(&params, "newer", &env(&own)).unwrap();
    assert!(is_current(&params, "newer", &env(&own)).unwrap());
    let mut client = connect(&own);
    assert_eq!(count(&mut client, "SELECT count(*) FROM session_scores"), SESSIONS as i64);
    for refused in ["CREATE ROLE x", "CREATE DATABASE x", "COPY runs TO '/tmp/x'", "CREATE SCHEMA other"] {
        let error = client.batch_execute(refused).unwrap_err();
        assert_eq!(error.code(), Some(&postgres::error::SqlState::INSUFFICIENT_PRIVILEGE), "{refused}: {error:?}");
    }
    params["schema"] = json!("other");
    let error = Fixture::new().export_scores(&params, "x", &env(&own)).unwrap_err();
    assert!(Environment::is_cause_of(&error), "{error:#}");
    // The reader sees what the writer made, partitions too.
    let mut reader = connect(&dsn.replace("user=postgres", "user=grafana"));
    assert_eq!(count(&mut reader, "SELECT count(*) FROM sessions"), SESSIONS as i64);
    assert!(count(&mut reader, "SELECT count(*) FROM alert_events") > 0);
}

#[test]
fn a_reader_that_stays_does_not_hold_up_an_export() {
    let Some(server) = server() else { return };
    let env = env(&server.database());
    let params = json!({"keep": 1});
    Fixture::new().export(&params, "one", &env).unwrap();
    let mut client = connect(&env["LOGWEIR_POSTGRES"]);
    let partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'session_scores'::regclass";
    let mut reading = connect(&env["LOGWEIR_POSTGRES"]);
    let mut reader = reading.transaction().unwrap();
    reader.query("SELECT count(*) FROM session_scores", &[]).unwrap();
    Fixture::with_shift(0.03).export(&params, "two", &env).unwrap();
    assert_eq!((count(&mut client, "SELECT count(*) FROM runs"), count(&mut client, partitions)), (1, 2));
    assert_eq!(count(&mut client, "SELECT count(*) FROM sessions"), SESSIONS as i64);
    reader.commit().unwrap();
    Fixture::with_shift(0.05).export(&params, "three", &env).unwrap();
    assert_eq!(count(&mut client, partitions), 1);
}

#[test]
fn texts_with_bytes_that_the_database_cannot_hold_are_loaded() {
    let Some(server) = server() else { return };
    let (fixture, env) = (Fixture::new(), env(&server.database()));
    let path = fixture.dir.path().join("templates.csv");
    let text = std::fs::read_to_string(&path).unwrap().replace("exception", "exc\0eption");
    std::fs::write(&path, text).unwrap();
    fixture.export(&none(), "one", &env).unwrap();
    let mut client = connect(&env["LOGWEIR_POSTGRES"]);
    assert_eq!(count(&mut client, "SELECT count(*) FROM templates WHERE text = U&'exc\\FFFDeption'"), 1);
}
