//! Throwaway PostgreSQL servers of this machine's packages, by `scripts/pg-up.sh`: one for all tests, and own ones for tests that stop,
//! configure or fill theirs.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
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
    let server = SERVER.get_or_init(|| Some(Server { dsn: start(&folder(), None)? }));
    if server.is_none() {
        eprintln!("SKIPPED: no PostgreSQL on this machine (Debian: apt-get install postgresql)");
    }
    server.as_ref()
}

/// A folder for a server, directly below that of temporary files: the user of the server must get there.
fn folder() -> PathBuf {
    tempfile::tempdir().unwrap().keep()
}

/// Starts a server; `None` where there is none. It stops, and its folder goes, when this process ends.
fn start(dir: &Path, port: Option<u16>) -> Option<String> {
    let out = Command::new("bash").arg(script()).arg(dir).args(port.map(|p| p.to_string())).output().unwrap();
    if out.status.code() == Some(77) {
        return None;
    }
    assert!(out.status.success(), "pg-up.sh: {}", String::from_utf8_lossy(&out.stderr));
    after_this_process(&format!(
        "bash '{}' --stop '{}'; rm -rf '{}'",
        script().display(),
        dir.display(),
        dir.display()
    ));
    Some(String::from_utf8(out.stdout).unwrap().trim().to_owned())
}

/// Has a shell do something when this process has ended: statics are not dropped.
pub(crate) fn after_this_process(what: &str) {
    let watch = format!("while kill -0 {} 2>/dev/null; do sleep 0.3; done; {what}", std::process::id());
    let quiet = || Stdio::null();
    let child = Command::new("bash").args(["-c", &watch]).stdin(quiet()).stdout(quiet()).stderr(quiet()).spawn();
    // It outlives this process on purpose.
    std::mem::forget(child.unwrap());
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

/// A server that belongs to one test, with a port on 127.0.0.1.
pub(crate) struct Own {
    pub(crate) dir: PathBuf,
    pub(crate) port: u16,
    /// By its socket, as the administrator.
    pub(crate) dsn: String,
}

impl Own {
    /// Starts one; `None` where this machine has no PostgreSQL.
    pub(crate) fn start() -> Option<Self> {
        server()?;
        let (dir, port) = (folder(), free_port());
        let dsn = start(&dir, Some(port)).unwrap();
        Some(Self { dir, port, dsn })
    }

    fn script(&self, arguments: &[&str]) -> Output {
        Command::new("bash").arg(script()).args(arguments).output().unwrap()
    }

    /// Stops it at once, as a crash would.
    pub(crate) fn stop(&self) {
        let out = self.script(&["--stop", self.dir.to_str().unwrap()]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }

    /// Starts it again.
    pub(crate) fn again(&self) {
        let out = self.script(&[self.dir.to_str().unwrap(), &self.port.to_string()]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }

    /// Writes a file into its data folder, which only it can read then.
    pub(crate) fn put(&self, name: &str, content: &[u8]) {
        let (path, like) = (self.dir.join("data").join(name), self.dir.join("data/PG_VERSION"));
        std::fs::write(&path, content).unwrap();
        run(Command::new("chown").arg("--reference").arg(like).arg(&path));
        run(Command::new("chmod").arg("600").arg(&path));
    }

    /// Process ids of it and its children.
    pub(crate) fn processes(&self) -> Vec<String> {
        let pid = std::fs::read_to_string(self.dir.join("data/postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap().to_owned();
        let children = Command::new("ps").args(["-o", "pid=", "--ppid", &pid]).output().unwrap().stdout;
        let children = String::from_utf8(children).unwrap();
        std::iter::once(pid).chain(children.split_whitespace().map(str::to_owned)).collect()
    }
}

/// Runs a command that must succeed.
pub(crate) fn run(command: &mut Command) {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// A port that nothing listens on.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Connects to a libpq string.
pub(crate) fn connect(dsn: &str) -> Client {
    Client::connect(dsn, NoTls).unwrap()
}
