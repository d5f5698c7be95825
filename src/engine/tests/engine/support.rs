//! A project in a temporary folder, fake kinds of stages, and a run that remembers what happened.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use logweir_engine::compiled::Reading;
use logweir_engine::digest::Digest;
use logweir_engine::engine::{Engine, OpenError, PlanOptions, Project, RunOptions, RunSummary};
use logweir_engine::error::EngineError;
use logweir_engine::event::{Decision, Event};
use logweir_engine::plan::Plan;
use logweir_engine::quick::{self, Quick};
use logweir_engine::stage::{Effect, Params, Registry, Slot, Stage, StageContext, StageKind, make, schema_of};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Glues its inputs together.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Concat {
    /// Goes at the end.
    suffix: String,
    /// Milliseconds it takes.
    sleep: u64,
}
impl Params for Concat {}
impl Stage for Concat {
    fn run(&self, cx: &StageContext<'_>) -> anyhow::Result<()> {
        let mut text = String::new();
        for file in cx.inputs("in").iter().chain(cx.inputs("more")) {
            if file.path.is_dir() {
                let mut names: Vec<PathBuf> = walk(&file.path);
                names.sort();
                for name in names {
                    text.push_str(&fs::read_to_string(name)?);
                }
            } else {
                text.push_str(&fs::read_to_string(&file.path)?);
            }
        }
        for _ in 0..self.sleep / 10 {
            cx.check_cancelled()?;
            std::thread::sleep(Duration::from_millis(10));
        }
        cx.progress(1, 1, "files");
        fs::write(cx.output("out")?, text + &self.suffix)?;
        Ok(())
    }
}

pub(crate) fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}

/// Writes each line of its input to a file of its own.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Spread {}
impl Params for Spread {}
impl Stage for Spread {
    fn run(&self, cx: &StageContext<'_>) -> anyhow::Result<()> {
        for (number, line) in fs::read_to_string(cx.input("in")?)?.lines().enumerate() {
            fs::create_dir_all(cx.output("out")?.join("sub"))?;
            let name = if number == 0 { "first.txt".to_owned() } else { format!("sub/{number}.txt") };
            fs::write(cx.output("out")?.join(name), format!("{line}\n"))?;
        }
        Ok(())
    }
}

/// Fails in a chosen way.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Fail {
    /// Panics instead.
    panic: bool,
    /// Writes nothing and says all is well.
    silent: bool,
    /// Fails through the environment.
    environment: bool,
    /// Fails so often, then works.
    times: u64,
}
impl Params for Fail {}
static FAILED: AtomicU64 = AtomicU64::new(0);
impl Stage for Fail {
    fn run(&self, cx: &StageContext<'_>) -> anyhow::Result<()> {
        fs::write(cx.scratch.join("junk"), "junk")?;
        if self.silent {
            return Ok(());
        }
        if self.times > 0 && FAILED.fetch_add(1, Ordering::SeqCst) >= self.times {
            fs::write(cx.output("out")?, "at last")?;
            return Ok(());
        }
        fs::write(cx.output("out")?, "half")?;
        assert!(!self.panic, "told to panic");
        if self.environment {
            return Err(logweir_engine::error::Environment::new("the database is away").into());
        }
        anyhow::bail!("told to fail")
    }
}

/// Never gives the same bytes twice.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Nondet {}
impl Params for Nondet {}
static CALLS: AtomicU64 = AtomicU64::new(0);
impl Stage for Nondet {
    fn run(&self, cx: &StageContext<'_>) -> anyhow::Result<()> {
        Ok(fs::write(cx.output("out")?, CALLS.fetch_add(1, Ordering::SeqCst).to_string())?)
    }
}

/// Writes its key to a file outside the project.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Export {
    /// The file.
    target: String,
}
impl Params for Export {}
impl Stage for Export {
    fn run(&self, cx: &StageContext<'_>) -> anyhow::Result<()> {
        Ok(fs::write(&self.target, cx.key.to_string())?)
    }
    fn effect(&self) -> Option<&dyn Effect> {
        Some(self)
    }
}
impl Effect for Export {
    fn target(&self, _env: &BTreeMap<String, String>) -> anyhow::Result<String> {
        Ok(format!("file:{}", self.target.len()))
    }
    fn is_current(&self, key: &Digest, _env: &BTreeMap<String, String>) -> anyhow::Result<bool> {
        anyhow::ensure!(Path::new(&self.target).parent().is_some_and(Path::exists), "no such folder");
        Ok(fs::read_to_string(&self.target).is_ok_and(|text| text == key.to_string()))
    }
}

/// All fake kinds, with `version` as the version of `concat`.
pub(crate) fn registry(version: u32) -> Registry {
    let kind = |name, version, inputs, outputs, make, schema| StageKind {
        name,
        about: "a fake",
        version,
        code: [7; 32],
        inputs,
        outputs,
        schema,
        make,
    };
    const FILES: &[Slot] = &[Slot::files("in", "files"), Slot::files("more", "more").optional()];
    const FILE: &[Slot] = &[Slot::file("in", "a file")];
    const MAYBE: &[Slot] = &[Slot::files("in", "files").optional()];
    const OUT: &[Slot] = &[Slot::file("out", "a file")];
    const DIR: &[Slot] = &[Slot::directory("out", "a directory")];
    let mut registry = Registry::default();
    registry.add(kind("concat", version, FILES, OUT, make::<Concat, Concat>, schema_of::<Concat>));
    registry.add(kind("spread", 1, FILE, DIR, make::<Spread, Spread>, schema_of::<Spread>));
    registry.add(kind("fail", 1, MAYBE, OUT, make::<Fail, Fail>, schema_of::<Fail>));
    registry.add(kind("nondet", 1, MAYBE, OUT, make::<Nondet, Nondet>, schema_of::<Nondet>));
    registry.add(kind("export", 1, MAYBE, &[], make::<Export, Export>, schema_of::<Export>));
    registry
}

/// What happened in a run.
pub(crate) struct Ran {
    pub(crate) summary: RunSummary,
    pub(crate) events: Vec<Event>,
}

impl Ran {
    /// Names of stages that finished with a decision, sorted.
    pub(crate) fn with(&self, wanted: Decision) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .events
            .iter()
            .filter_map(|event| match event {
                Event::StageFinished { stage, decision, .. } if *decision == wanted => Some(stage.as_str()),
                _ => None,
            })
            .collect();
        names.sort_unstable();
        names
    }

    pub(crate) fn executed(&self) -> Vec<&str> {
        self.with(Decision::Run)
    }

    pub(crate) fn counts(&self) -> [usize; 5] {
        let i = &self.summary.info;
        [i.executed, i.restored, i.fresh, i.failed, i.skipped]
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        let text = |event: &Event| match event {
            Event::Warning { text } | Event::StageMessage { text, .. } => Some(text.clone()),
            _ => None,
        };
        self.events.iter().filter_map(text).collect()
    }

    pub(crate) fn errors(&self) -> String {
        let text = |event: &Event| match event {
            Event::StageFailed { error, log, .. } => Some(format!("{error}\n{}\n", log.join("\n"))),
            _ => None,
        };
        self.events.iter().filter_map(text).collect()
    }
}

/// A project in a temporary folder.
pub(crate) struct Lab {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) sets: Vec<String>,
    pub(crate) version: u32,
    pub(crate) file: String,
}

impl Lab {
    pub(crate) fn new(yaml: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("lab ").tempdir().unwrap();
        let path = std::env::vars().find(|(name, _)| name == "PATH").map(|(_, value)| value).unwrap_or_default();
        let lab = Self {
            dir,
            env: BTreeMap::from([("PATH".to_owned(), path)]),
            sets: Vec::new(),
            version: 1,
            file: "pipeline.yaml".to_owned(),
        };
        lab.pipeline(yaml);
        lab
    }

    pub(crate) fn pipeline(&self, yaml: &str) {
        self.write(&self.file, &format!("version: 1\nname: lab\n{yaml}"));
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// Reads the pipeline file and hands it over, as the program does.
    pub(crate) fn read_with<T>(&self, act: impl FnOnce(&Reading<'_>) -> T) -> T {
        let project = Project::find(self.dir.path(), Some(Path::new(".")), Some(Path::new(&self.file))).unwrap();
        let (text, registry) = (project.text().unwrap(), registry(self.version));
        let (project, text, sets, env) = (&project, &*text, &*self.sets, &self.env);
        act(&Reading { project, text, profile: None, sets, registry: &registry, env })
    }

    pub(crate) fn engine(&self) -> Engine {
        self.read_with(Engine::open).unwrap_or_else(|e| panic!("{e:?}"))
    }

    pub(crate) fn try_run(&self, options: &RunOptions) -> Result<Ran, EngineError> {
        self.run_until(options, &AtomicBool::new(false), |_| {})
    }

    pub(crate) fn run_until(
        &self,
        options: &RunOptions,
        cancel: &AtomicBool,
        look: impl Fn(&Event),
    ) -> Result<Ran, EngineError> {
        let events = RefCell::new(Vec::new());
        let sink = |event: &Event| {
            look(event);
            events.borrow_mut().push(event.clone());
        };
        let summary =
            self.read_with(|reading| match quick::run(&quick::snapshot_of(reading), reading, options, &sink)? {
                Quick::Done(summary) => Ok(*summary),
                Quick::Whole(glance) => Ok(Engine::open(reading)?.run_after(glance, options, &sink, cancel)?),
            });
        let summary = summary.map_err(|error| match error {
            OpenError::Engine(error) => error,
            OpenError::Spec(errors) => panic!("{errors:?}"),
        })?;
        Ok(Ran { summary, events: events.into_inner() })
    }

    pub(crate) fn run_with(&self, options: &RunOptions) -> Ran {
        self.try_run(options).unwrap()
    }

    pub(crate) fn run(&self) -> Ran {
        let ran = self.run_with(&RunOptions { jobs: 2, ..RunOptions::default() });
        assert_eq!(ran.summary.exit_code(), 0, "{}", ran.errors());
        ran
    }

    /// Runs again and asserts that nothing happened.
    pub(crate) fn settled(&self) {
        let ran = self.run();
        assert_eq!(ran.with(Decision::Run), [""; 0]);
        assert_eq!(ran.with(Decision::Restore), [""; 0]);
        let left: Vec<_> = fs::read_dir(self.path("cache/tmp")).unwrap().collect();
        assert!(left.is_empty(), "scratch is dropped: {left:?}");
    }

    pub(crate) fn plan(&self) -> Plan {
        self.engine().plan(&PlanOptions::default()).unwrap()
    }

    /// Decision and reason kinds of each planned stage: `name: decision kind subject, …`.
    pub(crate) fn planned(&self) -> Vec<String> {
        let row = |row: &logweir_engine::plan::PlanRow| {
            let reasons: Vec<String> = row.reasons.iter().map(|r| format!("{} {}", r.kind.name(), r.subject)).collect();
            format!("{}: {} {}", row.name, row.decision.name(), reasons.join(", ")).trim_end().to_owned()
        };
        self.plan().stages.iter().map(row).collect()
    }
}
