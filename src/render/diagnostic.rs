//! Everything that ends a command early: what it is, which exit code it has, how it is shown.

use std::fmt::Write as _;
use std::io;

use logweir_engine::engine::OpenError;
use logweir_engine::error::EngineError;
use logweir_engine::graph::UnknownTarget;
use logweir_engine::spec::SpecErrors;
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, ThemeCharacters, ThemeStyles};
use serde_json::{Value, json};

use crate::render::{self, Screen, to_stderr};

/// Widest lines of a report.
const WIDEST: usize = 110;

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Errors of the pipeline file or the overrides, with their places.
    Spec(SpecErrors),
    /// What the engine cannot do.
    Engine(EngineError),
    /// Anything else: exit code, error with its causes, what to do about it.
    Other {
        /// The exit code.
        code: u8,
        /// The error.
        error: anyhow::Error,
        /// What to do about it.
        help: String,
    },
    /// Nobody reads stdout any more.
    BrokenPipe,
}

impl Failure {
    /// The user typed something that means nothing: exit code 2.
    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::Other { code: 2, error: error.into(), help: "`logweir COMMAND --help` shows what it takes".into() }
    }

    /// The machine, the disk or the data is not as needed: exit code 3.
    pub(crate) fn environment(error: impl Into<anyhow::Error>) -> Self {
        let help = "check the path, its permissions and the space left on the disk";
        Self::Other { code: 3, error: error.into(), help: help.into() }
    }

    /// The work itself failed: exit code 1.
    pub(crate) fn work(error: impl Into<anyhow::Error>) -> Self {
        let help = "correct what the message names, then try again: nothing was left half done";
        Self::Other { code: 1, error: error.into(), help: help.into() }
    }

    /// A broken promise of logweir: exit code 70.
    pub(crate) fn bug(message: impl Into<String>) -> Self {
        let help = "this is a bug in logweir; please report it with the command that shows it";
        Self::Other { code: 70, error: anyhow::Error::msg(message.into()), help: help.into() }
    }

    /// The same with a hint that fits better.
    pub(crate) fn help(self, hint: impl Into<String>) -> Self {
        match self {
            Self::Other { code, error, .. } => Self::Other { code, error, help: hint.into() },
            other => other,
        }
    }

    /// What went wrong while writing to stdout.
    pub(crate) fn from_stdout(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::BrokenPipe;
        }
        Self::environment(anyhow::Error::new(error).context("cannot write to stdout"))
    }

    /// Returns the program's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Spec(_) => 2,
            Self::Engine(error) => error.exit_code(),
            Self::Other { code, .. } => *code,
            Self::BrokenPipe => 0,
        }
    }

    /// Shows it on stderr; with `--json` as one line of JSON there, so that stdout stays data.
    pub(crate) fn show(&self, screen: &Screen) {
        if screen.json {
            if let Some(value) = self.to_json() {
                to_stderr(&format!("{value}\n"));
            }
            return;
        }
        match self {
            Self::Spec(errors) => {
                for error in &errors.errors {
                    to_stderr(&report(error, screen));
                }
                to_stderr(&format!("{} {errors}; nothing was run\n", screen.err.red("error:")));
            }
            Self::Engine(error) => {
                to_stderr(&plain(&error.to_string(), &[], error.help().as_deref(), screen));
            }
            Self::Other { error, help, .. } => {
                let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
                to_stderr(&plain(&error.to_string(), &causes, Some(help), screen));
            }
            Self::BrokenPipe => {}
        }
    }

    /// Returns the message, the exit code and what helps.
    pub(crate) fn to_json(&self) -> Option<Value> {
        let exit = self.exit_code();
        Some(match self {
            Self::Spec(errors) => {
                json!({"event": "error", "message": errors.to_string(), "exit": exit, "errors": errors.to_json()})
            }
            Self::Engine(error) => {
                json!({"event": "error", "message": error.to_string(), "exit": exit, "help": error.help()})
            }
            Self::Other { error, help, .. } => {
                json!({"event": "error", "message": format!("{error:#}"), "exit": exit, "help": help})
            }
            Self::BrokenPipe => return None,
        })
    }
}

impl From<SpecErrors> for Failure {
    fn from(errors: SpecErrors) -> Self {
        Self::Spec(errors)
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Spec(errors) => errors.into(),
            OpenError::Engine(error) => error.into(),
        }
    }
}

impl From<UnknownTarget> for Failure {
    fn from(error: UnknownTarget) -> Self {
        let help = error.help.clone();
        Self::usage(error).help(help)
    }
}

/// Renders a positioned error: `file:line:column`, the line, a caret, the hint.
fn report(error: &dyn Diagnostic, screen: &Screen) -> String {
    let columns = if screen.bars { render::size().1.clamp(40, WIDEST) } else { WIDEST };
    let styles = if screen.err.0 { ThemeStyles::ansi() } else { ThemeStyles::none() };
    let theme = GraphicalTheme { characters: ThemeCharacters::unicode(), styles };
    let mut out = String::new();
    let handler = GraphicalReportHandler::new_themed(theme).with_width(columns).with_links(false);
    // Rendering into a string fails only when the source text cannot be read, and it is in memory.
    let _ = handler.render_report(&mut out, error);
    out
}

fn plain(message: &str, causes: &[String], help: Option<&str>, screen: &Screen) -> String {
    let paint = screen.err;
    let mut out = format!("{} {message}\n", paint.red("error:"));
    for cause in causes {
        let _ = writeln!(out, "  {} {cause}", paint.dim("because:"));
    }
    if let Some(help) = help {
        let _ = writeln!(out, "  {} {help}", paint.cyan("help:"));
    }
    out
}
