//! `parse`: raw logs to rows, one Parquet part per file, with local templates and session keys.
//!
//! A *local template* is the form of a message ([`crate::logs::mask`]), numbered by first appearance in its file. Which
//! forms belong together is decided later and for all files at once (`templates`), so that neither the cut of a log
//! into files nor their order of arrival matters, and another similarity threshold never parses again.
//!
//! Templates that the user brings (slot `templates`) are matched here, against the first message of each form, since
//! later stages see no messages; words they spell out are kept by the masks.
//!
//! Malformed lines are counted and sampled, never fatal, unless nothing at all can be parsed.

mod lines;
mod part;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use logweir_engine::stage::{ParamError, Params, Slot, Stage, StageContext, StageKind, make, schema_of};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::logs::entries::Entries;
use crate::logs::format::time::Years;
use crate::logs::given::GivenTemplates;
use crate::logs::mask::Masks;
use crate::logs::read::End;
use crate::logs::rows::{FileTables, LineParser, text};
use crate::logs::scan::scan_log;
use crate::support::time::rfc3339;
pub use lines::{JsonKeys, LogFormat, MultilineKey, SessionKey};
use part::PartWriter;

/// Share of rejected lines from which on a file is suspicious.
const SUSPICIOUS: f64 = 0.05;

/// Returns the kind.
pub fn kind() -> StageKind {
    StageKind {
        name: "parse",
        about: "raw logs (plain, .gz, .zst) to rows: time, level, component, local template, session keys, parameters",
        version: 1,
        code: crate::code("parse"),
        inputs: const {
            &[
                Slot::files("log", "log files, plain, .gz or .zst; rotated ones (`.1`, `.2`) are read oldest first"),
                Slot::file("templates", "templates with names of your own: EventId,EventTemplate with <*> or [*]")
                    .optional(),
                Slot::file(
                    "simulation",
                    "simulation.json beside a simulated log, so that results say what they come from",
                )
                .optional(),
            ]
        },
        outputs: const { &[Slot::directory("events", "part-NNNNN.* per file and parse.json")] },
        schema: schema_of::<ParseParams>,
        make: make::<ParseParams, Parse>,
    }
}

/// Parameters of `parse`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ParseParams {
    /// How lines are written: a header pattern such as `<Date> <Time> <Level> <Component>: <Content>`, or `hdfs`, `json`, `syslog`, `regex`, `plain`.
    pub format: LogFormat,
    /// For `format: regex`: an expression with the named groups `timestamp`, `level`, `component` and `content` (only the last is required).
    pub regex: Option<String>,
    /// How times are written, in strftime fields (`%Y-%m-%d %H:%M:%S,%3f`; `%f` for any number of digits, `%s` for seconds since 1970): for patterns, `regex`, and `json` with other times than ISO 8601 and seconds since 1970.
    pub timestamp_format: Option<String>,
    /// The year in which the log starts, where its timestamps have none; the next one begins where the date goes back by more than half a year.
    pub year: Option<i32>,
    /// For `format: json`: which keys hold what. Keys that are not given are guessed.
    pub json: JsonKeys,
    /// What tells sessions apart: a regular expression whose every distinct match in a line counts (its first group if it has one); `{field: NAME}` for a field of the format, a named group, a key of JSON, `component` or `level`; `none` for one session of all lines.
    pub session: SessionKey,
    /// Lines that start no entry, such as stack traces: `true` adds those that `format` does not match to the entry before, `false` counts them as malformed, `{start: REGEX}` adds those that do not match. Without it: `true` for a pattern or `regex` with times, `false` for other formats.
    pub multiline: Option<MultilineKey>,
    /// What is variable in a message.
    pub masks: MaskParams,
    /// Whether the values of wildcards are kept, column `parameters`.
    pub parameters: bool,
}

impl Default for ParseParams {
    fn default() -> Self {
        Self {
            format: LogFormat::Hdfs,
            regex: None,
            timestamp_format: None,
            year: None,
            json: JsonKeys::default(),
            session: SessionKey::Pattern(r"blk_-?\d+".to_owned()),
            multiline: None,
            masks: MaskParams::default(),
            parameters: true,
        }
    }
}

/// Which typed wildcards replace the variable parts of a message.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MaskParams {
    /// `<ip>`: IPv4 addresses, with their port.
    pub ip: bool,
    /// `<id>`: `blk_…`, UUIDs, words that mix letters and digits.
    pub id: bool,
    /// `<hex>`: `0x…` and eight or more hexadecimal digits.
    pub hex: bool,
    /// `<path>`: absolute paths and URLs.
    pub path: bool,
    /// `<time>`: dates such as `Thu Jun 9 06:07:05 2005`.
    pub time: bool,
    /// `<num>`: numbers, also inside words.
    pub number: bool,
    /// Masks of your own; they come first, in this order.
    pub custom: Vec<CustomMask>,
}

impl Default for MaskParams {
    fn default() -> Self {
        Self { ip: true, id: true, hex: true, path: true, time: true, number: true, custom: Vec::new() }
    }
}

/// A mask of the user's.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CustomMask {
    /// Name of the wildcard, lower-case letters: `user` gives `<user>`.
    pub name: String,
    /// Regular expression of what is masked; its first group if it has one.
    pub regex: String,
}

impl Params for ParseParams {
    fn check(&self) -> Vec<ParamError> {
        let mut errors = self.lines().err().unwrap_or_default();
        let mut masks = Masks::default();
        for (i, mask) in self.masks.custom.iter().enumerate() {
            if let Err(error) = masks.add(&mask.name, &mask.regex) {
                errors.push(ParamError::new(format!("masks.custom.{i}"), error));
            }
        }
        errors
    }
}

impl ParseParams {
    /// Makes what parses lines; words that `given` templates spell out are not masked.
    ///
    /// # Errors
    /// The parameters are wrong; checked ones are not.
    pub fn parser(&self, given: &GivenTemplates) -> anyhow::Result<LineParser> {
        let wrong = |errors: Vec<ParamError>| {
            let texts: Vec<String> = errors.into_iter().map(|e| format!("`{}`: {}", e.path, e.message)).collect();
            anyhow::anyhow!("{}", texts.join("; "))
        };
        let (format, sessions, multiline) = self.lines().map_err(wrong)?;
        let entries = Entries { years: self.year.map(Years::new), multiline };
        let m = &self.masks;
        let mut masks = Masks {
            ip: m.ip,
            id: m.id,
            hex: m.hex,
            path: m.path,
            time: m.time,
            number: m.number,
            keep: given.spelt_out(),
            ..Masks::default()
        };
        for mask in &m.custom {
            masks.add(&mask.name, &mask.regex).map_err(|e| anyhow::anyhow!("mask `{}`: {e}", mask.name))?;
        }
        Ok(LineParser { format, sessions, masks, parameters: self.parameters, entries })
    }
}

/// `parse.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ParseSummary {
    /// Whether the log is simulated.
    pub simulated: bool,
    /// Per file, in reading order.
    pub files: Vec<FileSummary>,
    /// Lines of all files.
    pub lines: u64,
    /// Parsed lines of all files.
    pub parsed: u64,
    /// Malformed lines of all files.
    pub rejected: u64,
    /// Lines of all files that continue an entry.
    #[serde(default)]
    pub continued: u64,
    /// What the user was warned of.
    pub warnings: Vec<String>,
}

/// What became of one file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FileSummary {
    /// Logical path.
    pub path: String,
    /// Number of its part files.
    pub part: usize,
    /// Lines: parsed + rejected + continued + blank.
    pub lines: u64,
    /// Parsed lines.
    pub parsed: u64,
    /// Malformed lines.
    pub rejected: u64,
    /// Lines that continue the entry before.
    #[serde(default)]
    pub continued: u64,
    /// Lines of white space.
    pub blank: u64,
    /// Different session keys.
    pub sessions: u64,
    /// Different local templates.
    pub templates: u64,
    /// Earliest time, RFC 3339.
    pub first: Option<String>,
    /// Latest time, RFC 3339.
    pub last: Option<String>,
    /// Lines whose time is before that of the line before.
    #[serde(default)]
    pub steps_back: u64,
    /// Whether the file ends early (a compressed file that was cut, a log that shrank).
    pub truncated: bool,
    /// Whether the file grew while it was read; the rest is not in here.
    pub grew: bool,
    /// The first malformed lines.
    pub rejected_samples: Vec<RejectedSample>,
}

/// A malformed line.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RejectedSample {
    /// 1-based line number in its file.
    pub line: u64,
    /// Its first 200 bytes; bytes that are no UTF-8 as `\xNN`.
    pub text: String,
    /// What is wrong.
    pub why: String,
}

impl FileSummary {
    /// Describes a scanned file.
    pub fn new(path: &str, part: usize, tables: &FileTables, end: &End) -> Self {
        Self {
            path: path.to_owned(),
            part,
            lines: tables.lines,
            parsed: tables.parsed,
            rejected: tables.rejected,
            continued: tables.continued,
            blank: tables.blank,
            sessions: tables.names.sessions.len() as u64,
            templates: tables.names.forms.len() as u64,
            first: tables.span.map(|(first, _)| rfc3339(first)),
            last: tables.span.map(|(_, last)| rfc3339(last)),
            steps_back: tables.order.steps_back,
            truncated: end.truncated.is_some(),
            grew: end.grew,
            rejected_samples: tables
                .samples
                .iter()
                .map(|s| RejectedSample { line: s.line, text: text(&s.text).into_owned(), why: s.why.to_owned() })
                .collect(),
        }
    }

    /// Returns what is suspicious about the file.
    pub fn warnings(&self, end: &End) -> Vec<String> {
        let mut warnings = Vec::new();
        let path = &self.path;
        if let Some(why) = &end.truncated {
            warnings.push(format!("{path} is truncated: {why}; the {} lines before are used", self.lines));
        }
        if end.grew {
            warnings.push(format!("{path} grew while it was read; it was read up to the size it had at first"));
        }
        if self.lines == 0 && end.truncated.is_none() {
            warnings.push(format!("{path} is empty"));
        }
        let share = self.rejected as f64 / (self.parsed + self.rejected).max(1) as f64;
        if share > SUSPICIOUS {
            let first = self.rejected_samples.first();
            let first = first.map(|s| format!(", the first in line {} ({})", s.line, s.why)).unwrap_or_default();
            warnings.push(format!(
                "{path}: {} of {} lines ({:.1} %) are malformed{first}; is `format` right?",
                self.rejected,
                self.lines,
                100.0 * share
            ));
        }
        if self.continued > 9 * self.parsed {
            warnings.push(format!(
                "{path}: {} of {} lines start no entry and count as parts of the {} that do; are `format` and `multiline` right?",
                self.continued, self.lines, self.parsed
            ));
        }
        if self.parsed > 0 && self.sessions == 0 {
            warnings.push(format!("{path}: no line has a session key; is `session` right?"));
        }
        if self.parsed > 0 && self.first.is_none() {
            warnings.push(format!("{path}: no line has a time that can be read; is `timestamp_format` right?"));
        }
        warnings
    }
}

/// The stage.
struct Parse {
    params: ParseParams,
}

impl From<ParseParams> for Parse {
    fn from(params: ParseParams) -> Self {
        Self { params }
    }
}

impl Stage for Parse {
    fn run(&self, cx: &StageContext<'_>) -> anyhow::Result<()> {
        cx.in_pool(|| self.parse(cx))?
    }
}

impl Parse {
    fn parse(&self, cx: &StageContext<'_>) -> anyhow::Result<()> {
        let out = cx.output("events")?;
        let given = cx.optional("templates").map(GivenTemplates::read).transpose()?.unwrap_or_default();
        let mut parser = self.params.parser(&given)?;
        let mut years = YearsOfLogs::default();
        let mut files: Vec<(&str, &Path)> =
            cx.inputs("log").iter().map(|f| (f.logical.as_str(), f.path.as_path())).collect();
        files.sort_by_cached_key(|(logical, _)| reading_order(logical));
        let mut summary =
            ParseSummary { simulated: is_simulated(cx.optional("simulation"))?, ..ParseSummary::default() };
        summary.warnings.extend(same_log_twice(&files));

        let total: u64 = files.iter().map(|(_, path)| path.metadata().map_or(0, |m| m.len())).sum();
        let mut done = 0;
        for (number, (logical, path)) in files.iter().enumerate() {
            let mut writer = PartWriter::start(out, number, self.params.parameters)?;
            years.start(logical, &mut parser.entries);
            let compressed = path.extension().is_some_and(|e| e == "gz" || e == "zst" || e == "zstd");
            let (tables, end) = scan_log(path, &parser, |rows, tables| {
                cx.check_cancelled()?;
                if !compressed && let Some(&offset) = rows.offset.last() {
                    cx.progress(done + offset, total, "bytes");
                }
                writer.write(rows, tables)
            })
            .with_context(|| format!("cannot parse {logical}"))?;
            writer.finish(&tables, &given)?;
            years.end(logical, &tables);
            done += path.metadata().map_or(0, |m| m.len());
            cx.progress(done, total, "bytes");

            let file = FileSummary::new(logical, number, &tables, &end);
            summary.warnings.extend(file.warnings(&end));
            summary.lines += file.lines;
            summary.parsed += file.parsed;
            summary.rejected += file.rejected;
            summary.continued += file.continued;
            summary.files.push(file);
        }
        for warning in &summary.warnings {
            cx.warn(warning);
        }
        refuse_nothing(&summary)?;
        if !given.all.is_empty() {
            part::write_given(&out.join("given.csv"), &given)?;
        }
        let json = serde_json::to_string_pretty(&summary)?;
        let path = out.join("parse.json");
        std::fs::write(&path, json + "\n").with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Carries the year, where dates lack it, from one file of a rotated log to the next.
#[derive(Debug, Default)]
pub struct YearsOfLogs {
    first: Option<Option<Years>>,
    by_log: BTreeMap<String, Years>,
}

impl YearsOfLogs {
    /// Sets the year in which a file starts.
    pub fn start(&mut self, logical: &str, entries: &mut Entries) {
        let first = *self.first.get_or_insert(entries.years);
        entries.years = self.by_log.get(&reading_order(logical).0).copied().or(first);
    }

    /// Keeps the year in which it ends.
    pub fn end(&mut self, logical: &str, tables: &FileTables) {
        if let Some(years) = tables.order.years {
            self.by_log.insert(reading_order(logical).0, years);
        }
    }
}

/// Fails when there is nothing to go on with.
///
/// # Errors
/// All files are empty, or no line could be parsed.
pub fn refuse_nothing(summary: &ParseSummary) -> anyhow::Result<()> {
    if summary.parsed > 0 {
        return Ok(());
    }
    let names: Vec<&str> = summary.files.iter().map(|f| f.path.as_str()).collect();
    let names = names.join(", ");
    if summary.rejected == 0 {
        bail!("the log is empty: {names} (hint: check the path of the slot `log`)");
    }
    let sample = summary.files.iter().find_map(|f| f.rejected_samples.first());
    let sample = sample.map(|s| format!("; line {} `{}`: {}", s.line, s.text, s.why)).unwrap_or_default();
    bail!(
        "none of the {} lines of {names} could be parsed{sample} (hint: set `format` and `timestamp_format`; `logweir init --from LOG` proposes both)",
        summary.lines
    );
}

fn is_simulated(path: Option<&Path>) -> anyhow::Result<bool> {
    let Some(path) = path else { return Ok(false) };
    let context = || format!("cannot read {}", path.display());
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(path).with_context(context)?).with_context(context)?;
    Ok(json.get("simulated").and_then(serde_json::Value::as_bool).unwrap_or(true))
}

/// Sorts rotated logs from old to new: `x.log.2`, `x.log.1`, `x.log`, and `x.log-20081109` before `x.log`.
pub fn reading_order(logical: &str) -> (String, u8, i64, String) {
    let name = uncompressed(logical);
    let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let (head, number) = name.split_at(name.len() - digits);
    match (head.strip_suffix('.').or_else(|| head.strip_suffix('-')), number.parse::<i64>()) {
        // Dates ascend, counts of rotations descend; the log itself comes last.
        (Some(base), Ok(date)) if digits >= 6 => (base.to_owned(), 0, date, logical.to_owned()),
        (Some(base), Ok(count)) if !base.is_empty() => (base.to_owned(), 0, -count, logical.to_owned()),
        _ => (name.to_owned(), 1, 0, logical.to_owned()),
    }
}

fn uncompressed(path: &str) -> &str {
    [".gz", ".zst", ".zstd"].iter().find_map(|e| path.strip_suffix(e)).unwrap_or(path)
}

/// Warns of a log that is there both plain and compressed: its lines would count twice.
fn same_log_twice(files: &[(&str, &Path)]) -> Vec<String> {
    let mut by_name: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (logical, _) in files {
        by_name.entry(uncompressed(logical)).or_default().push(logical);
    }
    let twice = by_name.values().filter(|same| same.len() > 1);
    twice
        .map(|same| format!("{} look like one log; its lines count {} times", same.join(" and "), same.len()))
        .collect()
}

/// Returns the path of a file of part `number`.
pub fn part_path(events: &Path, number: usize, what: &str) -> PathBuf {
    events.join(format!("part-{number:05}{what}"))
}

/// Reads `parse.json` of an events directory.
///
/// # Errors
/// It is missing or malformed.
pub fn read_summary(events: &Path) -> anyhow::Result<ParseSummary> {
    let path = events.join("parse.json");
    let context = || format!("cannot read {}", path.display());
    serde_json::from_slice(&std::fs::read(&path).with_context(context)?).with_context(context)
}

#[cfg(test)]
mod tests;
