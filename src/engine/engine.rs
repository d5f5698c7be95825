//! The façade: a project and its pipeline, and everything a command can ask of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use crate::digest::Digest;
use crate::error::EngineError;
use crate::event::Sink;
use crate::history::{RunDetail, RunInfo, Why};
use crate::lineage::Lineage;
use crate::plan::Plan;
use crate::spec::Spec;
use crate::verify::VerifyReport;

/// A project folder and one of its pipeline files.
#[derive(Clone, Debug)]
pub struct Project {
    root: PathBuf,
    file: PathBuf,
}

impl Project {
    /// Finds the project: `dir` (`-C`), else the nearest folder at or above `cwd` that holds pipeline.yaml; `file`
    /// (`-f`, relative to `cwd` or the project) is the pipeline file, pipeline.yaml by default.
    ///
    /// # Errors
    /// There is none.
    pub fn find(cwd: &Path, dir: Option<&Path>, file: Option<&Path>) -> Result<Self, EngineError> {
        let start = dir.map_or_else(|| cwd.to_path_buf(), |dir| cwd.join(dir));
        let start = start.canonicalize().map_err(EngineError::io("open", &start))?;
        let holds = |folder: &&Path| folder.join("pipeline.yaml").is_file();
        let root = match (dir, file) {
            (Some(_), _) => Some(start.clone()),
            (None, None) => start.ancestors().find(holds).map(Path::to_path_buf),
            (None, Some(_)) => Some(start.ancestors().find(holds).map_or_else(|| start.clone(), Path::to_path_buf)),
        };
        let root = root.ok_or_else(|| EngineError::NoProject(start.clone()))?;
        let file = match file {
            None => root.join("pipeline.yaml"),
            Some(file) if dir.is_none() && cwd.join(file).is_file() => cwd.join(file),
            Some(file) => root.join(file),
        };
        if !file.is_file() {
            return Err(if dir.is_none() { EngineError::NoProject(start) } else { EngineError::NoProject(root) });
        }
        Ok(Self { root, file })
    }

    /// Returns the project root, absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the pipeline file, absolute.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Returns the pipeline file's name as messages and records show it: relative to the root where it lies below it.
    pub fn file_name(&self) -> String {
        self.file.strip_prefix(&self.root).unwrap_or(&self.file).to_string_lossy().into_owned()
    }

    /// Reads the pipeline file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn text(&self) -> Result<String, EngineError> {
        std::fs::read_to_string(&self.file).map_err(EngineError::io("read", &self.file))
    }
}

/// What to plan.
#[derive(Clone, Debug, Default)]
pub struct PlanOptions {
    /// Stage names (with or without the matrix combination) or artifact paths; empty for all.
    pub targets: Vec<String>,
    /// Stages to run whatever their key says.
    pub force: Vec<String>,
    /// Do not trust the stat memo: hash every file again.
    pub rehash: bool,
    /// Thread tokens for the predicted time; 0 for the number of cores.
    pub jobs: usize,
}

/// How to run.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Stage names or artifact paths; empty for all.
    pub targets: Vec<String>,
    /// Stages to run whatever their key says.
    pub force: Vec<String>,
    /// Do not trust the stat memo: hash every file again.
    pub rehash: bool,
    /// Thread tokens; 0 for the number of cores.
    pub jobs: usize,
    /// After a failure run what does not depend on it.
    pub keep_going: bool,
    /// Execute exactly this saved plan (JSON of [`Plan`]) or refuse.
    pub plan_file: Option<PathBuf>,
}

/// What a run did.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSummary {
    /// The run in short; recorded in the run log.
    pub info: RunInfo,
    /// A stage panicked or broke an invariant.
    pub internal: bool,
}

impl RunSummary {
    /// Returns the program's exit code: 0, 1 a stage failed, 70 a bug, 130 interrupted.
    pub fn exit_code(&self) -> u8 {
        match &self.info {
            _ if self.internal => 70,
            info if info.interrupted => 130,
            info if info.failed > 0 => 1,
            _ => 0,
        }
    }
}

/// What to verify.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// Stage names or artifact paths whose outputs are compared; empty for all, and then store and run log too.
    pub targets: Vec<String>,
    /// Put right what the store or the disk allows.
    pub repair: bool,
}

/// A project with a checked pipeline, ready for every command.
pub struct Engine {
    project: Project,
    spec: Spec,
    env: BTreeMap<String, String>,
}

impl Engine {
    /// Makes an engine. `env` is the whole environment of the process; a stage sees of it only what it declares.
    ///
    /// # Errors
    /// The graph has errors.
    pub fn new(project: Project, spec: Spec, env: BTreeMap<String, String>) -> Result<Self, EngineError> {
        Ok(Self { project, spec, env })
    }

    /// Returns the project.
    pub fn project(&self) -> &Project {
        &self.project
    }

    /// Returns the pipeline.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Says what a run would do, without doing it; takes no lock.
    ///
    /// # Errors
    /// Unknown targets, missing source files, unreadable files.
    pub fn plan(&self, options: &PlanOptions) -> Result<Plan, EngineError> {
        let _ = (options, &self.env);
        Err(not_yet())
    }

    /// Brings the selected stages up to date. A failed stage is no error: see [`RunSummary::exit_code`].
    /// `cancel` may be set from a signal handler: running stages are stopped and their scratch is dropped.
    ///
    /// # Errors
    /// As [`Engine::plan`]; the lock is held; the disk is full or not writable.
    pub fn run(&self, options: &RunOptions, sink: &dyn Sink, cancel: &AtomicBool) -> Result<RunSummary, EngineError> {
        let _ = (options, sink, cancel);
        Err(not_yet())
    }

    /// Returns the last decision about a stage (full name) and what would be decided now.
    ///
    /// # Errors
    /// Unknown stage; as [`Engine::plan`].
    pub fn why(&self, stage: &str) -> Result<Why, EngineError> {
        let _ = stage;
        Err(not_yet())
    }

    /// Returns everything that produced `target`: a path, `path#/json/pointer`, a digest, or a copy of a produced file
    /// anywhere (relative to the project or absolute). With `run`, as of that run.
    ///
    /// # Errors
    /// Nothing recorded produced it; unknown run.
    pub fn lineage(&self, target: &str, run: Option<&str>) -> Result<Lineage, EngineError> {
        let _ = (target, run);
        Err(not_yet())
    }

    /// Returns everything derived from `target`: a source or produced path.
    ///
    /// # Errors
    /// Nothing recorded read or produced it.
    pub fn impact(&self, target: &str) -> Result<Lineage, EngineError> {
        let _ = target;
        Err(not_yet())
    }

    /// Returns all runs recorded in this project (of every pipeline file), oldest first.
    ///
    /// # Errors
    /// The run log cannot be read.
    pub fn runs(&self) -> Result<Vec<RunInfo>, EngineError> {
        Err(not_yet())
    }

    /// Returns one run in detail: its id, a unique beginning of it, `last`, or `last~N`.
    ///
    /// # Errors
    /// Unknown run.
    pub fn show(&self, run: &str) -> Result<RunDetail, EngineError> {
        let _ = run;
        Err(not_yet())
    }

    /// Re-hashes outputs, store and run log and names each difference.
    ///
    /// # Errors
    /// Unknown targets; unreadable files.
    pub fn verify(&self, options: &VerifyOptions, sink: &dyn Sink) -> Result<VerifyReport, EngineError> {
        let _ = (options, sink);
        Err(not_yet())
    }

    /// Places the outputs of every stage of a run (same forms as [`Engine::show`]) as they were then; takes the lock.
    /// Returns the paths that were written.
    ///
    /// # Errors
    /// Unknown run; an object is missing from the store.
    pub fn restore_run(&self, run: &str) -> Result<Vec<String>, EngineError> {
        let _ = run;
        Err(not_yet())
    }

    /// Writes the content of an object (a file, or a directory by the digest of its manifest) to `to`, which must not
    /// exist. For commands that use artifacts of a past run without touching the project's files.
    ///
    /// # Errors
    /// The object is missing or corrupt.
    pub fn materialise(&self, digest: &Digest, directory: bool, to: &Path) -> Result<(), EngineError> {
        let _ = (digest, directory, to);
        Err(not_yet())
    }
}

fn not_yet() -> EngineError {
    EngineError::Internal("this part of the engine is not built yet".to_owned())
}
