//! A throwaway PostgreSQL of this machine's packages, one per test run, by `scripts/pg-up.sh`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use postgres::{Client, NoTls};

/// A running server; it stops when the test program ends.
pub(crate) struct Server {
    dsn: String,
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/pg-up.sh")
}

/// Returns the server, or `None` where this machine has no PostgreSQL (the test then says that it is skipped).
pub(crate) fn server() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    let server = SERVER.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap().keep();
        let out = Command::new("bash").arg(script()).arg(&dir).output().unwrap();
        if out.status.code() == Some(77) {
            return None;
        }
        assert!(out.status.success(), "pg-up.sh: {}", String::from_utf8_lossy(&out.stderr));
        // A child that waits for the end of this process and then stops the server and removes its folder.
        let watch = format!(
            "while kill -0 {} 2>/dev/null; do sleep 0.3; done; bash '{}' --stop '{}'; rm -rf '{}'",
            std::process::id(),
            script().display(),
            dir.display(),
            dir.display()
        );
        let quiet = || Stdio::null();
        let child = Command::new("bash").args(["-c", &watch]).stdin(quiet()).stdout(quiet()).stderr(quiet()).spawn();
        // It outlives this process on purpose.
        std::mem::forget(child.unwrap());
        Some(Server { dsn: String::from_utf8(out.stdout).unwrap().trim().to_owned() })
    });
    if server.is_none() {
        eprintln!("SKIPPED: no PostgreSQL on this machine (Debian: apt-get install postgresql)");
    }
    server.as_ref()
}

impl Server {
    /// Makes a database of its own for a test; returns the libpq string of it.
    pub(crate) fn database(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        connect(&self.dsn).batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
        self.dsn.replace("dbname=postgres", &format!("dbname={name}"))
    }
}

/// Connects to a libpq string.
pub(crate) fn connect(dsn: &str) -> Client {
    Client::connect(dsn, NoTls).unwrap()
}
