//! Encrypted connections: a real server with certificates of an authority made here.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use logweir_engine::error::Environment;
use serde_json::json;

use crate::fixture::{Fixture, SESSIONS, is_current};
use crate::server::{Own, connect, run};

/// Variables of a run.
type Env = BTreeMap<String, String>;

fn openssl(dir: &Path, arguments: &str) {
    run(Command::new("openssl").current_dir(dir).args(arguments.split_whitespace()));
}

/// An authority `NAME.pem`, and a certificate of it for each of some names.
fn authority(dir: &Path, name: &str, signs: &[(&str, &str)]) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(dir, &format!("req -x509 {key} -keyout {name}.key -out {name}.pem -subj /CN={name} -days 2"));
    for (subject, names) in signs {
        std::fs::write(dir.join("names.cnf"), format!("subjectAltName={names}\n")).unwrap();
        openssl(dir, &format!("req {key} -keyout {subject}.key -out {subject}.csr -subj /CN={subject}"));
        openssl(
            dir,
            &format!(
                "x509 -req -in {subject}.csr -CA {name}.pem -CAkey {name}.key -CAcreateserial -days 2 -extfile names.cnf -out {subject}.pem"
            ),
        );
    }
}

struct Secured {
    server: Own,
    certificates: tempfile::TempDir,
}

const PASSWORD: &str = "quite ' secret";

/// A server that lets in whom it knows by password or certificate, over TLS alone.
fn secured() -> Option<Secured> {
    let server = Own::start()?;
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("SKIPPED: no openssl on this machine to make certificates with");
        return None;
    }
    let certificates = tempfile::tempdir().unwrap();
    let dir = certificates.path();
    authority(dir, "ca", &[("localhost", "DNS:localhost"), ("certified", "DNS:client")]);
    authority(dir, "other", &[]);
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    server.put("server.crt", &read("localhost.pem"));
    server.put("server.key", &read("localhost.key"));
    server.put("ca.crt", &read("ca.pem"));
    let configuration = server.dir.join("data/postgresql.conf");
    let mut text = std::fs::read_to_string(&configuration).unwrap();
    text += "\nssl = on\nssl_ca_file = 'ca.crt'\npassword_encryption = 'scram-sha-256'\n";
    server.put("postgresql.conf", text.as_bytes());
    let mut client = connect(&server.dsn);
    for (role, database) in [("ann", "logs"), ("certified", "certified")] {
        client.batch_execute(&format!("CREATE ROLE {role} LOGIN")).unwrap();
        client.batch_execute(&format!("CREATE DATABASE {database} OWNER {role}")).unwrap();
    }
    let password = PASSWORD.replace('\'', "''");
    client
        .batch_execute(&format!("SET password_encryption = 'scram-sha-256'; ALTER ROLE ann PASSWORD '{password}'"))
        .unwrap();
    // It is stopped as by a crash, and does not wait for its disk before it says that something is committed.
    client.batch_execute("CHECKPOINT").unwrap();
    drop(client);
    server.stop();
    server.put(
        "pg_hba.conf",
        b"local all all trust\nhostssl all certified 127.0.0.1/32 cert\nhostssl all all 127.0.0.1/32 scram-sha-256\n",
    );
    server.again();
    Some(Secured { server, certificates })
}

impl Secured {
    /// Variables for a host and mode; the password is in a file.
    fn env(&self, host: &str, options: &str) -> Env {
        let file = self.certificates.path().join("password");
        std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let address = format!("postgresql://ann@{host}:{}/logs?{options}", self.server.port);
        Env::from([
            ("LOGWEIR_POSTGRES".to_owned(), address),
            ("LOGWEIR_POSTGRES_PASSWORD_FILE".to_owned(), file.display().to_string()),
        ])
    }

    fn file(&self, name: &str) -> String {
        self.certificates.path().join(name).display().to_string()
    }

    /// Why the server cannot be asked.
    fn refusal(&self, host: &str, options: &str) -> String {
        let error = is_current(&json!({}), "one", &self.env(host, options)).unwrap_err();
        assert!(Environment::is_cause_of(&error), "{error:#}");
        let text = format!("{error:#}");
        assert!(!text.contains(PASSWORD), "{text}");
        text
    }
}

#[test]
fn modes_of_encryption_let_in_and_keep_out_as_they_promise() {
    let Some(secured) = secured() else { return };
    let (fixture, none) = (Fixture::new(), json!({}));
    let ca = secured.file("ca.pem");

    // The right host and authority; the password is tied to the connection by the certificate (channel binding).
    let full = secured.env("localhost", &format!("sslmode=verify-full&sslrootcert={ca}&channel_binding=require"));
    fixture.export(&none, "one", &full).unwrap();
    assert!(is_current(&none, "one", &full).unwrap());
    let mut client = connect(&secured.server.dsn.replace("dbname=postgres", "dbname=logs"));
    let count: i64 = client.query_one("SELECT count(*) FROM sessions", &[]).unwrap().get(0);
    assert_eq!(count, SESSIONS as i64);

    // By an address that the certificate does not name.
    let text = secured.refusal("127.0.0.1", &format!("sslmode=verify-full&sslrootcert={ca}"));
    assert!(text.contains("that of another host"), "{text}");
    let ca_only = secured.env("127.0.0.1", &format!("sslmode=verify-ca&sslrootcert={ca}"));
    assert!(is_current(&none, "one", &ca_only).unwrap());

    // Another authority. Whoever only asks for encryption does not care, unless an authority is named, as in libpq.
    let other = secured.file("other.pem");
    for mode in ["verify-full", "verify-ca", "require"] {
        let text = secured.refusal("localhost", &format!("sslmode={mode}&sslrootcert={other}"));
        assert!(text.contains("not of the authority"), "{mode}: {text}");
    }
    for mode in ["prefer", "require"] {
        assert!(is_current(&none, "one", &secured.env("127.0.0.1", &format!("sslmode={mode}"))).unwrap(), "{mode}");
    }

    // Unencrypted: this server refuses.
    let text = secured.refusal("127.0.0.1", "sslmode=disable");
    assert!(text.contains("no encryption"), "{text}");

    // Options by variables, as for psql.
    let mut by_variables = secured.env("localhost", "");
    by_variables.insert("PGSSLMODE".to_owned(), "verify-full".to_owned());
    by_variables.insert("PGSSLROOTCERT".to_owned(), ca);
    assert!(is_current(&none, "one", &by_variables).unwrap());
}

#[test]
fn a_certificate_of_the_client_takes_the_place_of_a_password() {
    let Some(secured) = secured() else { return };
    let [ca, certificate, key] = ["ca.pem", "certified.pem", "certified.key"].map(|name| secured.file(name));
    let env = |more: &str| {
        let address = format!(
            "host=localhost port={} user=certified dbname=certified sslmode=verify-full sslrootcert='{ca}' {more}",
            secured.server.port
        );
        Env::from([("LOGWEIR_POSTGRES".to_owned(), address)])
    };
    let with = env(&format!("sslcert='{certificate}' sslkey='{key}'"));
    Fixture::new().export_scores(&json!({}), "one", &with).unwrap();
    assert!(is_current(&json!({}), "one", &with).unwrap());
    let error = is_current(&json!({}), "one", &env("")).unwrap_err();
    assert!(Environment::is_cause_of(&error), "{error:#}");
}

#[test]
fn a_wrong_or_missing_password_is_told_without_any() {
    let Some(secured) = secured() else { return };
    let mut env = secured.env("127.0.0.1", "sslmode=require");
    env.remove("LOGWEIR_POSTGRES_PASSWORD_FILE");
    let text = |env: &Env| format!("{:#}", is_current(&json!({}), "one", env).unwrap_err());
    assert!(text(&env).contains("LOGWEIR_POSTGRES_PASSWORD"), "{}", text(&env));
    env.insert("PGPASSWORD".to_owned(), "not the right one".to_owned());
    let wrong = text(&env);
    assert!(wrong.contains("password authentication failed") && !wrong.contains("not the right one"), "{wrong}");

    // A password file that others may read is not used, and the message says so.
    let file = secured.certificates.path().join("passes");
    std::fs::write(&file, format!("*:*:*:*:{PASSWORD}\n")).unwrap();
    env.remove("PGPASSWORD");
    env.insert("PGPASSFILE".to_owned(), file.display().to_string());
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(text(&env).contains("chmod 600"), "{}", text(&env));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(!is_current(&json!({}), "one", &env).unwrap());

    // A variable of one's own, which the parameters name.
    env.remove("PGPASSFILE");
    env.insert("OWN_SECRET".to_owned(), PASSWORD.to_owned());
    assert!(!is_current(&json!({"password_from": "OWN_SECRET"}), "one", &env).unwrap());
}

#[test]
fn a_server_without_encryption_is_used_only_by_whom_does_not_ask_for_it() {
    let Some(server) = Own::start() else { return };
    let env = |mode: &str| {
        let address = format!("postgresql://postgres@127.0.0.1:{}/postgres?sslmode={mode}", server.port);
        Env::from([("LOGWEIR_POSTGRES".to_owned(), address)])
    };
    assert!(!is_current(&json!({}), "one", &env("prefer")).unwrap());
    let text = format!("{:#}", is_current(&json!({}), "one", &env("require")).unwrap_err());
    assert!(text.contains("offers no encryption"), "{text}");
}
