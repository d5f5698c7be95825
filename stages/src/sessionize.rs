//! `sessionize`: rows of all files to sessions, one row per session key.
//!
//! A line belongs to every session whose key it names; a session gathers its lines over all files. Events are ordered by
//! time, ties in log order, so that a clock that goes back for a moment never makes a gap negative (such steps are
//! counted). A line without a time has that of the line before it.
//!
//! **Censored** sessions are those that may go on after the log ends. A session is *closed* by an event whose template
//! matches one of `closes` (on HDFS: the block is deleted). Without such an event it is censored if it was still active
//! less than `idle` before the log's end; one that was silent for longer is taken as over. The default of twelve hours is
//! the 99th percentile of the silence before a block's deletion on HDFS_v1. A window is censored if it ends after the log
//! does, a session between silences if the log ends within `gap` of its last event; neither if an event closes it.
//!
//! Sessions of keys, or all lines of the log, can be cut by time (module `windows`).

mod build;
mod input;
mod packed;
mod sessions;
mod windows;

use std::path::Path;

use anyhow::{Context as _, bail};
use logweir_engine::stage::{ParamError, Params, Slot, Stage, StageContext, StageKind, make, schema_of};
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use build::{EVENTS, Lines, Rules, group};
use input::WholeLog;
pub use input::{LogSessions, sessions_from_logs};
use sessions::SessionWriter;
pub use sessions::Sessions;
pub(crate) use windows::{Cut, micros};

use crate::parse::{read_parts, summary_of};
use crate::templates::{Template, read_map, read_templates};

/// Returns the kind.
pub fn kind() -> StageKind {
    StageKind {
        name: "sessionize",
        about: "rows to sessions: events in order, gaps, line numbers, whether the session was still open",
        version: 1,
        code: crate::code("sessionize"),
        inputs: const {
            &[
                Slot::directory("events", "what `parse` wrote"),
                Slot::file("templates", "global templates"),
                Slot::file("map", "local to global templates"),
            ]
        },
        outputs: const {
            &[
                Slot::file("sessions", "one row per session, by start and key"),
                Slot::file("summary", "sessions.json: counts, time span, files"),
            ]
        },
        schema: schema_of::<SessionizeParams>,
        make: make::<SessionizeParams, Sessionize>,
    }
}

/// Parameters of `sessionize`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SessionizeParams {
    /// Regular expressions over template texts; an event of such a template closes its session.
    pub closes: Vec<String>,
    /// Hours of silence before the log's end after which an unclosed session counts as over, not as censored.
    pub idle: f64,
    /// Sessions with fewer events are left out (and counted).
    pub min_events: usize,
    /// What sessions are cut of: the lines of each `key` that `parse` found, or all lines of the `log`, also those without a key.
    pub within: Within,
    /// Cuts into windows of so much time (`500ms`, `30s`, `5m`, `1h`, `1d`), aligned to 1970 in UTC; a session is `KEY@START`, or `@START` within the log.
    pub window: Option<String>,
    /// How much later each window starts than the one before; shorter than `window`, it lets windows overlap (default: `window`).
    pub step: Option<String>,
    /// Cuts where there is no event for longer than this; a session is `KEY@START`, START that of its first event.
    pub gap: Option<String>,
}

/// What sessions are cut of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Within {
    /// The lines of each session key.
    #[default]
    Key,
    /// All lines.
    Log,
}

impl Default for SessionizeParams {
    fn default() -> Self {
        let closes = ["Deleting block", "is added to invalidSet of"].map(str::to_owned).to_vec();
        Self { closes, idle: 12.0, min_events: 1, within: Within::Key, window: None, step: None, gap: None }
    }
}

impl Params for SessionizeParams {
    fn check(&self) -> Vec<ParamError> {
        let mut errors: Vec<ParamError> = self
            .closes
            .iter()
            .enumerate()
            .filter_map(|(i, r)| Regex::new(r).err().map(|e| ParamError::new(format!("closes.{i}"), e.to_string())))
            .collect();
        if !(self.idle >= 0.0 && self.idle.is_finite()) {
            errors.push(ParamError::new("idle", "must be 0 or more hours"));
        }
        errors.extend(self.cut().err());
        errors
    }
}

impl SessionizeParams {
    /// Returns by template number whether it closes its session.
    ///
    /// # Errors
    /// A pattern is no regular expression; checked ones are.
    pub fn closing(&self, templates: &[Template]) -> anyhow::Result<Vec<bool>> {
        let patterns: Vec<Regex> = self.closes.iter().map(|r| Regex::new(r)).collect::<Result<_, _>>()?;
        Ok(templates.iter().map(|t| patterns.iter().any(|p| p.is_match(&t.text))).collect())
    }

    /// Returns how sessions are cut by time.
    pub(crate) fn cut(&self) -> Result<Option<Cut>, ParamError> {
        let span = |name: &str, text: &Option<String>| {
            text.as_deref().map(micros).transpose().map_err(|e| ParamError::new(name, e))
        };
        let (window, step, gap) = (span("window", &self.window)?, span("step", &self.step)?, span("gap", &self.gap)?);
        match (window, step, gap) {
            (Some(_), _, Some(_)) => {
                Err(ParamError::new("gap", "sessions are cut by `gap` or by `window`, not by both"))
            }
            (None, Some(_), _) => Err(ParamError::new("step", "is the step of a `window`, which is not given")),
            (Some(length), step, None) => {
                let step = step.unwrap_or(length);
                if step > length {
                    return Err(ParamError::new("step", "is longer than `window`: events between would be lost"));
                }
                if length / step > MOST_WINDOWS {
                    let why = format!("an event would be in more than {MOST_WINDOWS} windows");
                    return Err(ParamError::new("step", why));
                }
                Ok(Some(Cut::Window { length, step }))
            }
            (None, None, gap) => Ok(gap.map(Cut::Gap)),
        }
    }

    /// Returns what makes sessions of events.
    fn rules(&self, templates: &[Template]) -> anyhow::Result<Rules> {
        let closing = self.closing(templates)?;
        let cut = self.cut().map_err(|e| anyhow::anyhow!("`{}`: {}", e.path, e.message))?;
        let keyless = self.within == Within::Log;
        let idle = (self.idle * 3.6e9) as i64;
        Ok(Rules { closing, idle, min_events: self.min_events, events: EVENTS, cut, keyless })
    }
}

/// Sessions or events from which on their numbers tell something.
const MANY: u64 = 1_000;

/// Most windows that share an event.
const MOST_WINDOWS: i64 = 1_000;

/// `sessions.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionSummary {
    /// Whether the log is simulated.
    pub simulated: bool,
    /// Lines of all files.
    pub lines: u64,
    /// Malformed lines of all files.
    pub rejected: u64,
    /// Parsed lines that name no session.
    pub lines_without_session: u64,
    /// Sessions written.
    pub sessions: u64,
    /// Sessions left out for having fewer than `min_events` events.
    pub short_sessions: u64,
    /// Events of the sessions written.
    pub events: u64,
    /// Sessions still open at the end of the log.
    pub censored: u64,
    /// Lines whose time is before that of the line before.
    pub steps_back: u64,
    /// Earliest time, RFC 3339.
    pub first: Option<String>,
    /// Latest time, RFC 3339.
    pub last: Option<String>,
    /// The files, and the global number of the first line of each.
    pub files: Vec<FileStart>,
}

/// Where a file's lines start in the numbering over all files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStart {
    /// Logical path.
    pub path: String,
    /// Global number of its line 1.
    pub first_line: u64,
}

impl SessionSummary {
    /// Returns what the user should know.
    pub fn warnings(&self, params: &SessionizeParams, closing: &[bool]) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.steps_back > 0 {
            warnings.push(format!("the clock goes back at {} lines; sessions are ordered by time", self.steps_back));
        }
        if !params.closes.is_empty() && !closing.contains(&true) {
            warnings
                .push("no template matches `closes`: every session active near the end counts as censored".to_owned());
        }
        if self.last.is_none() {
            warnings.push("no line has a time: all sessions start at 1970-01-01 and gaps are 0".to_owned());
        }
        if self.sessions >= MANY && self.events * 10 < self.sessions * 11 {
            warnings.push(format!(
                "{} sessions have {} events in all, so nearly every line is a session of its own; is `session` of the stage that parses right? It should match what lines of one session share",
                self.sessions, self.events
            ));
        }
        if self.sessions == 1 && self.events >= MANY {
            warnings.push(format!(
                "all {} events are of one session; unless that is meant, `session` of the stage that parses should match what tells sessions apart",
                self.events
            ));
        }
        warnings
    }

    /// Fails when there is no session.
    ///
    /// # Errors
    /// No line has a session key, or all sessions are too short.
    pub fn refuse_nothing(&self) -> anyhow::Result<()> {
        if self.sessions > 0 {
            return Ok(());
        }
        if self.short_sessions > 0 {
            bail!(
                "all {} sessions have fewer than `min_events` events (hint: lower `min_events`)",
                self.short_sessions
            );
        }
        bail!(
            "no line of the log has a session key (hint: set `session` of the parse stage to a pattern that lines contain)"
        );
    }
}

/// The stage.
struct Sessionize {
    params: SessionizeParams,
}

impl From<SessionizeParams> for Sessionize {
    fn from(params: SessionizeParams) -> Self {
        Self { params }
    }
}

impl Stage for Sessionize {
    fn run(&self, cx: &StageContext<'_>) -> anyhow::Result<()> {
        let templates = read_templates(cx.input("templates")?)?;
        let rules = self.params.rules(&templates)?;
        cx.in_pool(|| sessionize(cx, &self.params, &templates, &rules))?
    }
}

fn sessionize(
    cx: &StageContext<'_>,
    params: &SessionizeParams,
    templates: &[Template],
    rules: &Rules,
) -> anyhow::Result<()> {
    let parts = read_parts(cx.input("events")?)?;
    let summary = summary_of(&parts);
    let map = read_map(cx.input("map")?)?;
    let check = || cx.check_cancelled();
    let (events, sources) = input::Events::open(&parts, map, templates, &check)?;
    let whole = WholeLog(&events);
    let (lines, sources): (&dyn Lines, _) =
        if rules.keyless { (&whole, WholeLog::sources(sources)) } else { (&events, sources) };
    let mut out = SessionWriter::create(cx.output("sessions")?)?;
    let encode = |sessions: Sessions| sessions.encoded(templates.len());
    let mut about = group(lines, &sources, rules, &cx.scratch, encode, |encoded| {
        check()?;
        out.write(encoded)
    })?;
    out.finish()?;
    about.simulated = summary.simulated;
    about.rejected = summary.rejected;
    about.refuse_nothing()?;
    for warning in about.warnings(params, &rules.closing) {
        cx.warn(warning);
    }
    write_summary(&about, cx.output("summary")?)
}

fn write_summary(about: &SessionSummary, path: &Path) -> anyhow::Result<()> {
    let json = serde_json::to_string_pretty(about)?;
    std::fs::write(path, json + "\n").with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests;
