//! All printing: progress bars, plain lines, JSON, tables, summaries and diagnostics. Nothing else in the workspace prints.
//!
//! Asked-for data goes to stdout, progress and diagnostics to stderr. A reader that closes stdout early (`| head`) ends
//! the command quietly.

pub(crate) mod board;
pub(crate) mod diagnostic;
pub(crate) mod json;
pub(crate) mod line;
pub(crate) mod live;
pub(crate) mod progress;
pub(crate) mod summary;
pub(crate) mod table;
pub(crate) mod text;

use std::io::{self, IsTerminal, Write};

use crate::cli::{ColorChoice, Global};
use crate::render::diagnostic::Failure;

/// What the user asked to see, and what the two streams can show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    /// JSON on stdout.
    pub(crate) json: bool,
    /// No progress, no notes.
    pub(crate) quiet: bool,
    /// More detail.
    pub(crate) verbose: bool,
    /// Colours on stdout.
    pub(crate) out: Paint,
    /// Colours on stderr.
    pub(crate) err: Paint,
    /// stderr is a terminal that can show bars.
    pub(crate) bars: bool,
    /// stdout is a terminal: long tables are shortened.
    pub(crate) out_is_terminal: bool,
}

impl Screen {
    /// Looks at the flags, the streams and the `NO_COLOR` and `TERM` conventions.
    pub(crate) fn new(global: &Global) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let paint = |terminal: bool| match global.color {
            ColorChoice::Always => Paint(true),
            ColorChoice::Never => Paint(false),
            ColorChoice::Auto => Paint(terminal && !dumb && !no_color),
        };
        let terminal = io::stderr().is_terminal();
        let out_is_terminal = io::stdout().is_terminal();
        Self {
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose,
            out: paint(out_is_terminal),
            err: paint(terminal),
            bars: terminal && !dumb && !global.json && !global.quiet && global.color != ColorChoice::Never,
            out_is_terminal,
        }
    }

    /// Writes asked-for data to stdout.
    pub(crate) fn data(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::from_stdout)
    }

    /// Writes a value to stdout, indented, with a line end.
    pub(crate) fn json<T: serde::Serialize>(&self, value: &T) -> Result<(), Failure> {
        let mut out = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
        serde_json::to_writer_pretty(&mut out, value).map_err(|error| match error.is_io() {
            true => Failure::from_stdout(error.into()),
            false => Failure::bug(error.to_string()),
        })?;
        out.write_all(b"\n").and_then(|()| out.flush()).map_err(Failure::from_stdout)
    }

    /// Tells the user something on stderr, unless `-q` or `--json`.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet && !self.json {
            to_stderr(&format!("{text}\n"));
        }
    }
}

/// Columns a text takes on a terminal: escape sequences take none.
pub(crate) fn width(text: &str) -> usize {
    console::measure_text_width(text)
}

/// The text, or as much of it as fits into so many columns.
pub(crate) fn fit(text: &str, columns: usize) -> String {
    console::truncate_str(text, columns, "…").into_owned()
}

/// Rows and columns of the terminal that stderr is, or of a usual one.
pub(crate) fn size() -> (usize, usize) {
    let (rows, columns) = console::Term::stderr().size();
    (rows.into(), columns.into())
}

#[cfg(test)]
impl Screen {
    /// A terminal without colours.
    pub(crate) const PLAIN: Self = Self {
        json: false,
        quiet: true,
        verbose: false,
        out: Paint(false),
        err: Paint(false),
        bars: false,
        out_is_terminal: true,
    };
}

/// Writes to stderr; there is nobody to tell when that fails.
pub(crate) fn to_stderr(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Whether a stream shows colours, and the few that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paint(pub(crate) bool);

impl Paint {
    fn code(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.code("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.code("2", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.code("31;1", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.code("32", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.code("33", text)
    }

    pub(crate) fn cyan(self, text: &str) -> String {
        self.code("36", text)
    }
}
