//! What can go wrong with a command as a whole, its exit code and its hint. A failing stage is no error here: it is an
//! event and a count in the run's summary.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;

/// A declared source file that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingInput {
    /// The stage that declares it.
    pub stage: String,
    /// The input slot.
    pub slot: String,
    /// The path as written in the pipeline file.
    pub path: String,
    /// Where it was looked for.
    pub file: PathBuf,
    /// What to do about it.
    pub help: String,
}

/// Why a command could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The pipeline has errors that only the graph shows; already rendered with positions.
    #[error("{0}")]
    Pipeline(String),
    /// There is no pipeline file here or in any folder above.
    #[error("no pipeline.yaml in `{}` or any folder above it", .0.display())]
    NoProject(PathBuf),
    /// No stage or artifact has this name.
    #[error("unknown target `{target}`")]
    UnknownTarget {
        /// As given.
        target: String,
        /// What it may have meant.
        help: String,
    },
    /// No run has this id.
    #[error("unknown run `{run}`")]
    UnknownRun {
        /// As given.
        run: String,
        /// What it may have meant.
        help: String,
    },
    /// A lineage question about something no recorded action produced or read.
    #[error("no record of `{target}`")]
    NoRecord {
        /// As given.
        target: String,
        /// What to do about it.
        help: String,
    },
    /// Source files are missing.
    #[error("{}", missing(.0))]
    MissingInputs(Vec<MissingInput>),
    /// A slot of one file is given several.
    #[error("stage `{stage}`: input `{slot}` takes one file, {} match: {}", .files.len(), few(.files))]
    TooManyInputs {
        /// The stage.
        stage: String,
        /// The slot.
        slot: String,
        /// What matches.
        files: Vec<String>,
    },
    /// Two items of a mapped stage get in each other's way.
    #[error("stage `{stage}`: items `{}` and `{}` {what}", .items[0], .items[1])]
    ItemClash {
        /// The mapped stage.
        stage: String,
        /// The files of the two items.
        items: [String; 2],
        /// What they both do.
        what: String,
    },
    /// Another run holds the project's lock.
    #[error("another run holds `{}`{}", .lock.display(), .pid.map(|p| format!(", pid {p}")).unwrap_or_default())]
    Locked {
        /// The lock file.
        lock: PathBuf,
        /// The process that holds it, if it said so.
        pid: Option<u32>,
    },
    /// Two stages of two pipelines write one path.
    #[error("`{path}` of stage `{stage}` is written by stage `{other_stage}` of `{other_pipeline}` already")]
    Owned {
        /// The path.
        path: String,
        /// The stage of this pipeline.
        stage: String,
        /// The stage that owns it.
        other_stage: String,
        /// The pipeline file that owns it.
        other_pipeline: String,
    },
    /// A frozen stage's outputs are not what pipeline.lock says.
    #[error("stage `{stage}` is frozen, but {why}")]
    Frozen {
        /// The stage.
        stage: String,
        /// What does not hold.
        why: String,
    },
    /// The plan that was to be executed is no longer what would happen.
    #[error("the saved plan no longer holds: {}", .differences.join("; "))]
    PlanChanged {
        /// One line per difference.
        differences: Vec<String>,
    },
    /// A saved plan cannot be read.
    #[error("`{}` is no saved plan: {message}", .path.display())]
    PlanFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The lock file cannot be understood.
    #[error("`{}` is not a lock file: {why}", .path.display())]
    LockFile {
        /// The file.
        path: PathBuf,
        /// Which line, and what is on it.
        why: String,
    },
    /// An object needed is neither in the store nor anywhere else.
    #[error("object {} is not in the store", .0.short())]
    MissingObject(Digest),
    /// An object was removed by `gc`.
    #[error("{}", removed(.digest, .when, .run.as_deref(), .path.as_deref()))]
    Collected {
        /// The object.
        digest: Digest,
        /// When (RFC 3339, UTC).
        when: String,
        /// The run that was to be restored.
        run: Option<String>,
        /// The output that was to be restored.
        path: Option<String>,
    },
    /// The disk, a permission or another part of the system.
    #[error("cannot {what} `{}`: {source}", .path.display())]
    Io {
        /// What was attempted: a verb.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file is written to while it is read.
    #[error("`{}` keeps changing while it is read", .0.display())]
    Changing(PathBuf),
    /// A tool whose output is part of a key failed.
    #[error("tool `{tool}` of stage `{stage}`: {why}")]
    Tool {
        /// The command.
        tool: String,
        /// The stage that declares it.
        stage: String,
        /// What it did.
        why: String,
    },
    /// An effect's target is configured wrongly.
    #[error("effect of stage `{stage}`: {why}")]
    Effect {
        /// The stage.
        stage: String,
        /// What is wrong.
        why: String,
    },
    /// A file that should hold a key holds none.
    #[error("`{}` does not hold {wanted}", .path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// A bug in the program.
    #[error("internal error: {0}")]
    Internal(String),
}

impl EngineError {
    /// Returns a function that wraps an [`io::Error`] of `what` on `path`, for `map_err`.
    pub fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { what, path, source }
    }

    /// Returns the program's exit code: 2 command line or pipeline file, 3 environment, 70 a bug.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Pipeline(_)
            | Self::NoProject(_)
            | Self::UnknownTarget { .. }
            | Self::UnknownRun { .. }
            | Self::NoRecord { .. }
            | Self::Owned { .. }
            | Self::ItemClash { .. }
            | Self::PlanFile { .. }
            | Self::LockFile { .. }
            | Self::KeyFile { .. }
            | Self::Effect { .. } => 2,
            Self::MissingInputs(_)
            | Self::TooManyInputs { .. }
            | Self::Locked { .. }
            | Self::Frozen { .. }
            | Self::PlanChanged { .. }
            | Self::MissingObject(_)
            | Self::Collected { .. }
            | Self::Changing(_)
            | Self::Io { .. }
            | Self::Tool { .. } => 3,
            Self::Internal(_) => 70,
        }
    }

    /// Returns one hint that can be acted on.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::UnknownTarget { help, .. } | Self::UnknownRun { help, .. } | Self::NoRecord { help, .. } => {
                help.clone()
            }
            Self::MissingInputs(missing) => missing.first()?.help.clone(),
            Self::TooManyInputs { .. } => "name the one file, or make the pattern narrower".into(),
            Self::NoProject(_) => "make one with `logweir init`, or name the project with `-C DIR`".into(),
            Self::Locked { .. } => {
                "wait for it, or stop it with `logweir cancel`; the lock goes with its process, there is nothing to unlock".into()
            }
            Self::Owned { .. } => "give one of the two another path".into(),
            Self::ItemClash { .. } => "put `${item}`, which has the extension, into the name of the output".into(),
            Self::Frozen { .. } => "restore the outputs, or set `frozen: false` to let the stage run".into(),
            Self::PlanChanged { .. } => "make a new plan with `logweir plan --out FILE`".into(),
            Self::MissingObject(_) => "run the stage again: its inputs and parameters are recorded".into(),
            Self::Collected { run, .. } => {
                let run = run.as_deref().unwrap_or("RUN");
                format!(
                    "`logweir show {run}` says with which parameters and inputs it was made: with those the next run makes \
                     it again; `logweir gc --keep-runs N` keeps more runs"
                )
            }
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => "check the owner and mode of the folder".into(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FREE_SPACE.into(),
                io::ErrorKind::ReadOnlyFilesystem => "the project must lie on a writable disk".into(),
                io::ErrorKind::NotFound => "check that the path is right and all of its folders are there".into(),
                io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                    "something else is in its place: move that away".into()
                }
                _ => "check the disk and the folder's permissions; the next run goes on from here".into(),
            },
            Self::LockFile { .. } => {
                "settle the conflict by taking either side, or delete it; the next run writes it anew".into()
            }
            Self::Changing(_) => "wait until it is complete, or point the input at a rotated file or a copy".into(),
            Self::Tool { .. } => "install the tool, or take it from `tools:`".into(),
            Self::Internal(_) => "this is a bug in the program; please report it".into(),
            Self::Pipeline(_) => "correct the pipeline file; `logweir plan` checks it and runs nothing".into(),
            Self::KeyFile { .. } => {
                "`openssl genpkey -algorithm ed25519 -out key.pem` makes one, `openssl pkey -in key.pem -pubout` its public part".into()
            }
            Self::PlanFile { .. } => "make one with `logweir plan --out FILE`".into(),
            Self::Effect { .. } => {
                "check the stage's parameters and the environment variables that name its target".into()
            }
        })
    }
}

/// What to do about a full disk.
const FREE_SPACE: &str = "free some space (`logweir gc` may); what was finished is kept, the rest runs again";

/// Returns a hint for a stage's own error, if its cause asks for one.
pub(crate) fn help_for_cause(error: &anyhow::Error) -> Option<String> {
    let full = |e: &io::Error| matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let plain = || error.chain().any(|e| e.downcast_ref::<io::Error>().is_some_and(full)).then(|| FREE_SPACE.into());
    error.downcast_ref::<EngineError>().map_or_else(plain, EngineError::help)
}

/// Marks a stage's failure as one of the environment (a database that cannot be reached, a full disk): the program's
/// exit code is then 3. Put it anywhere in the error's chain: `Err(Environment::new("...").into())`, or
/// `.context(Environment::new("..."))` on another error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Environment(String);

impl Environment {
    /// Makes a marker with its message: lower case, no full stop.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// Returns whether an error is one of the environment: marked, or a full or read-only disk.
    pub fn is_cause_of(error: &anyhow::Error) -> bool {
        let disk = |e: &io::Error| {
            matches!(
                e.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem
            )
        };
        error.downcast_ref::<Self>().is_some()
            || error.chain().any(|e| {
                e.is::<Self>()
                    || e.downcast_ref::<io::Error>().is_some_and(disk)
                    || e.downcast_ref::<EngineError>().is_some_and(|e| e.exit_code() == 3)
            })
    }
}

fn few(files: &[String]) -> String {
    let mut text = files.iter().take(4).cloned().collect::<Vec<_>>().join(", ");
    if files.len() > 4 {
        text.push_str(", …");
    }
    text
}

fn removed(digest: &Digest, when: &str, run: Option<&str>, path: Option<&str>) -> String {
    let what = match (run, path) {
        (Some(run), Some(path)) => format!("`{path}` of run {run}"),
        _ => format!("object {}", digest.short()),
    };
    format!("{what} is no longer in the store: `logweir gc` removed it at {when}")
}

fn missing(inputs: &[MissingInput]) -> String {
    let lines: Vec<String> = inputs
        .iter()
        .map(|m| format!("stage `{}`: input `{}`: no file at `{}` ({})", m.stage, m.slot, m.path, m.file.display()))
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each variant.
    fn all() -> Vec<EngineError> {
        let text = || "x".to_owned();
        let path = || PathBuf::from("x");
        let missing =
            MissingInput { stage: text(), slot: text(), path: text(), file: path(), help: "put it there".to_owned() };
        let mut all = vec![
            EngineError::Pipeline(text()),
            EngineError::NoProject(path()),
            EngineError::UnknownTarget { target: text(), help: text() },
            EngineError::UnknownRun { run: text(), help: text() },
            EngineError::NoRecord { target: text(), help: text() },
            EngineError::MissingInputs(vec![missing]),
            EngineError::TooManyInputs { stage: text(), slot: text(), files: vec![text()] },
            EngineError::Locked { lock: path(), pid: Some(1) },
            EngineError::Owned { path: text(), stage: text(), other_stage: text(), other_pipeline: text() },
            EngineError::Frozen { stage: text(), why: text() },
            EngineError::PlanChanged { differences: vec![text()] },
            EngineError::PlanFile { path: path(), message: text() },
            EngineError::LockFile { path: path(), why: text() },
            EngineError::MissingObject(Digest::of_bytes(b"x")),
            EngineError::Collected {
                digest: Digest::of_bytes(b"x"),
                when: String::new(),
                run: Some(String::new()),
                path: None,
            },
            EngineError::Changing(path()),
            EngineError::Tool { tool: text(), stage: text(), why: text() },
            EngineError::Effect { stage: text(), why: text() },
            EngineError::Internal(text()),
            EngineError::KeyFile { path: path(), wanted: "x" },
            EngineError::ItemClash { stage: text(), items: [text(), text()], what: text() },
        ];
        use io::ErrorKind::{NotADirectory, NotFound, Other, PermissionDenied, ReadOnlyFilesystem, StorageFull};
        for kind in [NotADirectory, NotFound, Other, PermissionDenied, ReadOnlyFilesystem, StorageFull] {
            all.push(EngineError::io("read", Path::new("x"))(kind.into()));
        }
        all
    }

    /// Fails to compile when a variant is added: it belongs into [`all`] then.
    fn number(error: &EngineError) -> usize {
        match error {
            EngineError::Pipeline(_) => 0,
            EngineError::NoProject(_) => 1,
            EngineError::UnknownTarget { .. } => 2,
            EngineError::UnknownRun { .. } => 3,
            EngineError::NoRecord { .. } => 4,
            EngineError::MissingInputs(_) => 5,
            EngineError::TooManyInputs { .. } => 6,
            EngineError::Locked { .. } => 7,
            EngineError::Owned { .. } => 8,
            EngineError::Frozen { .. } => 9,
            EngineError::PlanChanged { .. } => 10,
            EngineError::PlanFile { .. } => 11,
            EngineError::LockFile { .. } => 12,
            EngineError::MissingObject(_) => 13,
            EngineError::Changing(_) => 14,
            EngineError::Tool { .. } => 15,
            EngineError::Effect { .. } => 16,
            EngineError::Internal(_) => 17,
            EngineError::Io { .. } => 18,
            EngineError::Collected { .. } => 19,
            EngineError::ItemClash { .. } => 20,
            EngineError::KeyFile { .. } => 21,
        }
    }

    #[test]
    fn every_error_says_what_to_do_next() {
        let all = all();
        let numbers: std::collections::BTreeSet<usize> = all.iter().map(number).collect();
        assert_eq!(numbers, (0..=21).collect(), "every variant is here");
        for error in all {
            let help = error.help().unwrap_or_default();
            assert!(!help.is_empty(), "{error:?} has no help");
            assert!(!help.ends_with('.') && help != error.to_string(), "{error:?}: {help}");
            assert!([2, 3, 70].contains(&error.exit_code()), "{error:?}");
        }
    }
}
