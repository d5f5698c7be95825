//! A project in a temporary folder, and the binary run in it with a clean environment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// Three shell stages in a row: `copy` → `head` → `count`; `count` also writes a number into JSON.
pub(crate) const TOY: &str = r#"version: 1
name: toy
vars: { n: 3 }
stages:
  copy:
    run: "cat ${in.text} > ${out.copy}"
    in: { text: src/text.txt }
    out: { copy: out/copy.txt }
  head:
    run: "head -n ${with.n} ${in.copy} > ${out.head}"
    in: { copy: out/copy.txt }
    out: { head: out/head.txt }
    with: { n: "${vars.n}" }
  count:
    run: "printf '{\"lines\": %d}' $(wc -l < ${in.head}) > ${out.count}"
    in: { head: out/head.txt }
    out: { count: out/count.json }
    metrics: [count]
"#;

/// A project folder.
pub(crate) struct Project {
    dir: TempDir,
}

/// What the program said.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// The program's answer, which must have succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.exits(0)
    }

    /// The same, which must have ended with this code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// stdout as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }

    /// stdout as lines of JSON.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }

    /// The counts of the last line of `run --json`.
    #[track_caller]
    pub(crate) fn counts(&self) -> Counts {
        let lines = self.lines();
        let last = lines.last().expect("run --json says something");
        assert_eq!(last["event"], "run_finished", "{last}");
        let count = |name: &str| last[name].as_u64().unwrap_or_else(|| panic!("no count `{name}` in {last}"));
        Counts {
            executed: count("executed"),
            restored: count("restored"),
            fresh: count("fresh"),
            failed: count("failed"),
            skipped: count("skipped"),
        }
    }

    /// Names of the stages that executed, in the order they ended.
    #[track_caller]
    pub(crate) fn executed(&self) -> Vec<String> {
        let ran = |e: &&Value| e["event"] == "stage_finished" && e["decision"] == "run";
        self.lines().iter().filter(ran).map(|e| e["stage"].as_str().unwrap().to_owned()).collect()
    }
}

/// The counts of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) executed: u64,
    pub(crate) restored: u64,
    pub(crate) fresh: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Project {
    /// A project with this pipeline.
    pub(crate) fn new(pipeline: &str) -> Self {
        let project = Self { dir: tempfile::tempdir().unwrap() };
        project.write("pipeline.yaml", pipeline);
        project
    }

    /// The toy pipeline with its source of ten lines.
    pub(crate) fn toy() -> Self {
        let project = Self::new(TOY);
        project.write("src/text.txt", &(1..=10).map(|i| format!("{i}\n")).collect::<String>());
        project
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// The program, to be run in this project, knowing nothing of the machine but where programs are.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_logweir"));
        command.args(arguments).current_dir(self.root()).env_clear().env("HOME", self.root());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    /// Runs the program.
    pub(crate) fn logweir(&self, arguments: &[&str]) -> Said {
        said(&self.command(arguments).output().unwrap())
    }

    /// Runs `run --json` and more arguments.
    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        self.logweir(&[&["run", "--json"], arguments].concat())
    }
}

/// What a finished program said.
pub(crate) fn said(output: &Output) -> Said {
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The folder of real logs, if there is one: `$LOGWEIR_SHARED`, else `../shared` beside the workspace.
pub(crate) fn real_logs() -> Option<PathBuf> {
    let shared = std::env::var_os("LOGWEIR_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let folder = shared.join("data/hdfs");
    folder.is_dir().then(|| folder.canonicalize().unwrap())
}
