//! What the engine tells while it runs. It prints nothing: the binary renders these as bars, plain lines or JSON.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;

/// What was or will be done with a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Outputs on disk are what the current key produced: nothing to do.
    Fresh,
    /// The current key was executed before; outputs come from the store.
    Restore,
    /// Executes.
    Run,
    /// An upstream stage executes first and may yet cut off (plans only).
    Waits,
    /// Executed and failed (runs only).
    Failed,
    /// Not started, because a stage it needs failed or the run was interrupted (runs only).
    Skipped,
    /// Not selected by the run's targets; carried over from an earlier run (run maps only).
    Kept,
}

impl Decision {
    /// Returns the name used in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Restore => "restore",
            Self::Run => "run",
            Self::Waits => "waits",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Kept => "kept",
        }
    }
}

/// Which leaf of the key, or what else, made a stage run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonKind {
    /// A parameter (`with`).
    Param,
    /// The content or the set of files of an input slot.
    Input,
    /// The kind's code or version.
    Code,
    /// The command template of a shell stage.
    Command,
    /// A declared environment variable.
    Env,
    /// The output of a declared tool.
    Tool,
    /// An output is missing, was changed, or is declared differently.
    Output,
    /// The stage was never executed.
    New,
    /// `--force` or `always: true`.
    Forced,
    /// A stage it needs executes first.
    Upstream,
    /// The target of an effect does not hold the key, or cannot be asked.
    Effect,
}

impl ReasonKind {
    /// Returns the name used in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Param => "param",
            Self::Input => "input",
            Self::Code => "code",
            Self::Command => "command",
            Self::Env => "env",
            Self::Tool => "tool",
            Self::Output => "output",
            Self::New => "new",
            Self::Forced => "forced",
            Self::Upstream => "upstream",
            Self::Effect => "effect",
        }
    }
}

/// One reason of a decision: what changed, from what to what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// Which kind of leaf.
    pub kind: ReasonKind,
    /// Which leaf: a dotted parameter, an input path, a variable, a tool, an output path, a stage.
    pub subject: String,
    /// The value before; null where there was none.
    pub old: Value,
    /// The value now; null where there is none.
    pub new: Value,
}

impl Reason {
    /// Makes a reason without values.
    pub fn plain(kind: ReasonKind, subject: impl Into<String>) -> Self {
        Self { kind, subject: subject.into(), old: Value::Null, new: Value::Null }
    }
}

/// How serious a message of a stage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Worth knowing, not wrong.
    Info,
    /// Suspicious; kept in the run record.
    Warning,
}

/// One thing that happened. Serializes to one line of `run --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The lock is held and the plan is about to be carried out. Always first.
    RunStarted {
        /// The run's id.
        run: String,
        /// The pipeline file, relative to the project root.
        pipeline: String,
        /// How many stages are selected.
        stages: usize,
        /// How many thread tokens the run has.
        jobs: usize,
    },
    /// A stage begins to execute (or to be executed again after a failed attempt).
    StageStarted {
        /// The stage's full name.
        stage: String,
        /// Its action key.
        key: Digest,
        /// Thread tokens granted.
        threads: usize,
        /// 1 for the first attempt.
        attempt: u32,
        /// Seconds it took last time, if known.
        expected: Option<f64>,
        /// Why it executes.
        reasons: Vec<Reason>,
    },
    /// The items of a mapped stage are known: it stands for so many actions.
    StageExpanded {
        /// The mapped stage's full name.
        stage: String,
        /// How many actions it stands for.
        actions: usize,
    },
    /// A running stage got further.
    StageProgress {
        /// The stage's full name.
        stage: String,
        /// Units finished.
        done: u64,
        /// Units in all; 0 when unknown.
        total: u64,
        /// What is counted, plural.
        unit: String,
    },
    /// A running stage says something.
    StageMessage {
        /// The stage's full name.
        stage: String,
        /// How serious it is.
        level: Level,
        /// The message, one line.
        text: String,
    },
    /// A stage is up to date: executed, restored or fresh.
    StageFinished {
        /// The stage's full name.
        stage: String,
        /// `run`, `restore` or `fresh`.
        decision: Decision,
        /// Its action key.
        key: Digest,
        /// Wall-clock seconds of the execution or restore; 0 for fresh.
        seconds: f64,
        /// Those of them in which outputs were hashed, stored and placed.
        storing: f64,
        /// Why it was executed or restored; empty for fresh.
        reasons: Vec<Reason>,
        /// It executed and gave the same bytes as before, so its dependents need not.
        cutoff: bool,
    },
    /// A stage failed; its outputs are as they were before.
    StageFailed {
        /// The stage's full name.
        stage: String,
        /// The error and its causes, one per line.
        error: String,
        /// The last lines a shell stage printed, secrets masked.
        log: Vec<String>,
        /// Where all of it is, relative to the project root.
        log_file: Option<String>,
        /// Whether another attempt follows.
        retry: bool,
        /// A panic or broken invariant: a bug in the program, not in the pipeline.
        internal: bool,
    },
    /// A stage is not started.
    StageSkipped {
        /// The stage's full name.
        stage: String,
        /// The failed (or itself skipped) stage it needs; `None` when the run stopped.
        needs: Option<String>,
    },
    /// Something suspicious about the run as a whole.
    Warning {
        /// The message, one line.
        text: String,
    },
    /// The run is over and recorded. Always last.
    RunFinished {
        /// The run's id.
        run: String,
        /// Stages executed with success.
        executed: usize,
        /// Stages restored from the store.
        restored: usize,
        /// Stages that were up to date.
        fresh: usize,
        /// Stages that failed.
        failed: usize,
        /// Stages not started.
        skipped: usize,
        /// Wall-clock seconds of the run.
        seconds: f64,
    },
}

impl Event {
    /// Tells that nothing has to be done for a stage.
    pub fn fresh(stage: &str, key: Digest) -> Self {
        let (stage, decision) = (stage.to_owned(), Decision::Fresh);
        let reasons = Vec::new();
        Self::StageFinished { stage, decision, key, seconds: 0.0, storing: 0.0, reasons, cutoff: false }
    }
}

/// Takes events, in order, all from one thread.
pub trait Sink {
    /// Takes one event.
    fn event(&self, event: &Event);
}

impl<F: Fn(&Event)> Sink for F {
    fn event(&self, event: &Event) {
        self(event);
    }
}

/// Forgets every event.
pub struct Quiet;

impl Sink for Quiet {
    fn event(&self, _event: &Event) {}
}
