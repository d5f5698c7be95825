//! Recognises how a log is written and what may tell its sessions apart, from its first lines: what `init --from` writes
//! into a pipeline, for people to correct.
//!
//! A guess is made of candidates that users could write themselves ([`ParseParams`]): each is tried on the lines, and the
//! one that fits most of them wins, the more telling one of two that fit about the same. It is a guess at one moment;
//! no stage depends on it, so that a better one never parses a log again.

mod keys;
mod shapes;

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use crate::logs::entries::MARK;
use crate::logs::format::NO_TIME;
use crate::logs::given::GivenTemplates;
use crate::logs::read::{Chunk, LogReader};
use crate::logs::rows::{Rows, text};
use crate::parse::{LogFormat, ParseParams, SessionKey};
use crate::support::time::rfc3339;
pub use keys::Key;

/// How much of a log is looked at.
const HEAD: usize = 4 << 20;

/// How a log seems to be written.
#[derive(Clone, Debug, Serialize)]
pub struct Guess {
    /// What it looks like, for people.
    pub what: String,
    /// The parameters of `parse` for it.
    #[serde(skip)]
    pub params: ParseParams,
    /// Lines looked at.
    pub lines: u64,
    /// Those of the format.
    pub parsed: u64,
    /// Those that continue the one before.
    pub continued: u64,
    /// Malformed ones.
    pub rejected: u64,
    /// What may tell sessions apart, the best first.
    pub keys: Vec<Key>,
    /// The first parsed lines.
    pub rows: Vec<Row>,
}

/// A line as it is parsed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// RFC 3339.
    pub time: Option<String>,
    /// Severity.
    pub level: String,
    /// Who wrote it.
    pub component: String,
    /// Keys of its sessions.
    pub sessions: Vec<String>,
    /// The message, what varies as typed wildcards.
    pub template: String,
}

/// Reads the first lines of a log, also a compressed one.
///
/// # Errors
/// The file cannot be read.
pub fn read_head(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut reader = LogReader::with_chunk(path, HEAD)?;
    let chunk =
        reader.next_chunk(Vec::new()).with_context(|| format!("cannot read the beginning of {}", path.display()))?;
    Ok(chunk.map(|c| c.bytes).unwrap_or_default())
}

/// Guesses how the lines of a log are written. `year` is that of its first line, for formats without one.
///
/// # Panics
/// Never: what is proposed was checked.
pub fn detect(head: &[u8], year: i32) -> Guess {
    let head = head.strip_prefix(MARK).unwrap_or(head);
    let lines: Vec<&[u8]> = head
        .split(|b| *b == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.iter().all(u8::is_ascii_whitespace))
        .collect();
    let (what, mut params) = shapes::guess(&lines, year);
    let keys = keys::guess(&lines, &params);
    params.session = keys.first().map_or(SessionKey::All, |key| key.session.clone());
    let parser = params.parser(&GivenTemplates::default()).expect("what is proposed was checked");
    let mut rows = parser.parse(&Chunk { offset: 0, bytes: head.to_vec() });
    let mut order = crate::logs::entries::Order::new(&parser.entries);
    order.settle(&mut rows.time);
    let (parsed, continued, rejected) = (rows.len() as u64, rows.continued, rows.rejected);
    let shown = (0..rows.len().min(10)).map(|i| row(&rows, i)).collect();
    Guess { what, params, lines: rows.lines, parsed, continued, rejected, keys, rows: shown }
}

fn row(rows: &Rows, i: usize) -> Row {
    let names = &rows.names;
    let name = |bytes: &[u8]| text(bytes).into_owned();
    Row {
        time: (rows.time[i] != NO_TIME).then(|| rfc3339(rows.time[i])),
        level: name(names.levels.get(rows.level[i])),
        component: name(names.components.get(rows.component[i])),
        sessions: rows.sessions_of(i).iter().map(|&s| name(&names.sessions.get(s))).collect(),
        template: name(names.forms.get(rows.form[i])),
    }
}

impl Guess {
    /// Returns the parameters as lines of YAML with comments, without indentation.
    pub fn yaml(&self) -> String {
        let mut out = Vec::new();
        self.write_yaml(&mut out).expect("a buffer takes all");
        String::from_utf8(out).expect("YAML is text")
    }

    fn write_yaml(&self, out: &mut Vec<u8>) -> std::io::Result<()> {
        let params = &self.params;
        writeln!(out, "# Guessed: {}; {} of {} lines at its beginning fit.", self.what, self.parsed, self.lines)?;
        if self.continued > 0 {
            writeln!(out, "# {} lines continue the one before, as stack traces do: see `multiline`.", self.continued)?;
        }
        writeln!(out, "format: {}", quoted(&params.format.to_string()))?;
        if let Some(format) = &params.timestamp_format {
            writeln!(out, "timestamp_format: {}", quoted(format))?;
        }
        if let Some(year) = params.year {
            writeln!(out, "year: {year}   # of its first line: the log does not say; correct it if it is another")?;
        }
        if params.format == LogFormat::Json {
            writeln!(out, "# Time, level, component and message are guessed from usual keys; to name them:")?;
            writeln!(out, "# json: {{ timestamp: ts, level: level, component: logger, content: msg }}")?;
        }
        match self.keys.as_slice() {
            [] => {
                writeln!(
                    out,
                    "# Nothing was found that tells sessions apart: a regular expression ('request=(\\w+)') or"
                )?;
                writeln!(out, "# {{field: NAME}} of the format would.")?;
            }
            [best, others @ ..] => {
                writeln!(out, "# {}", best.about())?;
                for other in others.iter().take(4) {
                    writeln!(out, "# or {}: {}", inline(&other.session), other.about())?;
                }
            }
        }
        writeln!(out, "session: {}", inline(&params.session))
    }
}

/// A session key in one line of YAML.
fn inline(key: &SessionKey) -> String {
    match key {
        SessionKey::Pattern(pattern) => quoted(pattern),
        SessionKey::Field(field) => format!("{{ field: {} }}", quoted(field)),
        SessionKey::All => "none".to_owned(),
    }
}

/// A YAML string in single quotes, where a backslash is one, and not read as an interpolation.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''").replace("${", "$${"))
}

#[cfg(test)]
mod tests;
