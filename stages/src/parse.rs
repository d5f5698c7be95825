//! `parse`: raw logs to rows, one folder per file, with local templates and session keys.
//!
//! | in the folder of a file | |
//! |---|---|
//! | `rows.parquet` | its parsed lines |
//! | `sessions.parquet` | its session keys by number |
//! | `templates.csv` | its local templates by number |
//! | `parse.json` | counts and faults |
//! | `given.csv` | the templates that the user brought |
//! | `leading.csv` | lines before the first entry, which may continue that of the file before |
//!
//! The folder depends on the file alone, and nothing speaks of all files: a stage that is mapped over files, or over
//! pieces of them, writes what one that takes them all does. Those who read it put the folders in order ([`read_parts`])
//! and settle what only the parts before tell ([`Carry`]): dates without a year are in the year 0 in `rows.parquet`, and
//! lines that may continue an entry of the file before are counted as malformed. What `parse.json` says of both is as if
//! the log began with the file. A single file has no folder of its own: it fills the
//! directory, which is what an item of a mapped stage does.
//!
//! A *local template* is the form of a message ([`crate::logs::mask`]), numbered by first appearance in its file. Which
//! forms belong together is decided later and for all files at once (`templates`), so that neither the cut of a log
//! into files nor their order of arrival matters, and another similarity threshold never parses again.
//!
//! Templates that the user brings (slot `templates`) are matched here, against the first message of each form, since
//! later stages see no messages; words they spell out are kept by the masks.
//!
//! Malformed lines are counted and sampled, never fatal. That nothing at all could be parsed is for those to say who see
//! all files.

mod carry;
mod lines;
mod part;
pub mod places;
mod suspicions;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use logweir_engine::stage::{ParamError, Params, Slot, Stage, StageContext, StageKind, make, schema_of};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::logs::entries::{Ends, Entries, Leading};
use crate::logs::format::time::Years;
use crate::logs::given::GivenTemplates;
use crate::logs::mask::Masks;
use crate::logs::parser::LineParser;
use crate::logs::read::{End, LogReader};
use crate::logs::rows::{FileTables, Rows, text};
use crate::logs::scan::scan;
use crate::support::time::rfc3339;
pub use carry::Carry;
pub use lines::{JsonKeys, LogFormat, MultilineKey, SessionKey};
use part::{Draft, PartWriter};

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
        outputs: const {
            &[Slot::directory("events", "a folder per log file: rows, session keys, local templates, parse.json")]
        },
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
    /// `<hex>`: `0x…` and seven or more hexadecimal digits.
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

/// What became of all files.
#[derive(Clone, Debug, Default)]
pub struct ParseSummary {
    /// Whether one of the logs is simulated.
    pub simulated: bool,
    /// Per file or piece of a file, in reading order.
    pub files: Vec<FileSummary>,
    /// Lines of all files.
    pub lines: u64,
    /// Parsed lines of all files.
    pub parsed: u64,
    /// Malformed lines of all files.
    pub rejected: u64,
    /// Lines of all files that continue an entry.
    pub continued: u64,
}

impl ParseSummary {
    /// Adds the next file.
    pub fn add(&mut self, file: FileSummary) {
        self.simulated |= file.simulated;
        self.lines += file.lines;
        self.parsed += file.parsed;
        self.rejected += file.rejected;
        self.continued += file.continued;
        self.files.push(file);
    }
}

/// `parse.json`: what became of one file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FileSummary {
    /// Whether the log is simulated.
    pub simulated: bool,
    /// Logical path; of a piece `PATH:START-END`.
    pub path: String,
    /// Lines: parsed + rejected + continued + blank.
    pub lines: u64,
    /// Parsed lines.
    pub parsed: u64,
    /// Malformed lines.
    pub rejected: u64,
    /// Lines that continue the entry before.
    pub continued: u64,
    /// Where entries have several lines: what of the file may belong to those of the files before and behind it.
    pub ends: Option<Ends>,
    /// Lines of white space.
    pub blank: u64,
    /// Different session keys.
    pub sessions: u64,
    /// Different local templates.
    pub templates: u64,
    /// The year that the log starts in, if dates of this file lack the year; what follows is then as if it started with
    /// this file.
    pub year: Option<i32>,
    /// Earliest time, RFC 3339.
    pub first: Option<String>,
    /// Latest time, RFC 3339.
    pub last: Option<String>,
    /// Lines whose time is before that of the line before.
    pub steps_back: u64,
    /// Whether the file ends early (a compressed file that was cut, a log that shrank).
    pub truncated: bool,
    /// Whether the file grew while it was read; the rest is not in here.
    pub grew: bool,
    /// The first malformed lines.
    pub rejected_samples: Vec<RejectedSample>,
    /// What the user was warned of.
    pub warnings: Vec<String>,
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
    pub fn new(path: &str, simulated: bool, tables: &FileTables, end: &End) -> Self {
        let mut about = Self {
            simulated,
            path: path.to_owned(),
            lines: tables.lines,
            parsed: tables.parsed,
            rejected: tables.rejected,
            continued: tables.continued,
            ends: tables.ends,
            blank: tables.blank,
            sessions: tables.names.sessions.len() as u64,
            templates: tables.names.forms.len() as u64,
            year: tables.order.start_year(),
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
            warnings: Vec::new(),
        };
        about.warnings = about.suspicions(end, &tables.leading);
        about
    }

    /// Counts leading lines as what they are once the file before is known: lines that continue its last entry.
    pub fn continue_with(&mut self, leading: &[Leading]) {
        self.rejected -= (leading.len() as u64).min(self.rejected);
        self.continued += leading.len() as u64;
        self.rejected_samples.retain(|sample| leading.iter().all(|l| l.line != sample.line));
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
        let parser = self.params.parser(&given)?;
        let mut files: Vec<(&str, &Path)> =
            cx.inputs("log").iter().map(|f| (f.logical.as_str(), f.path.as_path())).collect();
        files.sort_by_cached_key(|(logical, _)| reading_order(logical));
        let simulated = is_simulated(cx.optional("simulation"))?;
        for warning in same_log_twice(&files) {
            cx.warn(warning);
        }
        let folders = folders(&files)?;

        let total: u64 = files.iter().map(|(_, path)| path.metadata().map_or(0, |m| m.len())).sum();
        let mut done = 0;
        for ((logical, path), folder) in files.iter().zip(folders) {
            let folder = out.join(folder);
            std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
            let mut writer = PartWriter::start(&folder, self.params.parameters)?;
            let compressed = path.extension().is_some_and(|e| e == "gz" || e == "zst" || e == "zstd");
            let hand_on = |rows: &mut Rows, draft: Draft, _: &FileTables| {
                cx.check_cancelled()?;
                if !compressed {
                    cx.progress(done + rows.start, total, "bytes");
                }
                writer.write(rows, draft)
            };
            let parameters = self.params.parameters;
            let (tables, end) = LogReader::open(path)
                .and_then(|log| scan(log, &parser, |rows| Draft::of(rows, parameters), hand_on))
                .with_context(|| format!("cannot parse {logical}"))?;
            writer.finish(&tables, &given)?;
            if !given.all.is_empty() {
                part::write_given(&folder.join(GIVEN), &given)?;
            }
            done += path.metadata().map_or(0, |m| m.len());
            cx.progress(done, total, "bytes");

            let mut file = FileSummary::new(logical, simulated, &tables, &end);
            file.suspect_masks(&self.params.masks, &tables);
            for warning in &file.warnings {
                cx.warn(warning);
            }
            let json = serde_json::to_string_pretty(&file)?;
            let path = folder.join(ABOUT);
            std::fs::write(&path, json + "\n").with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

/// Returns the folder of each file: its path relative to the folder that all lie in; none for a single file.
fn folders(files: &[(&str, &Path)]) -> anyhow::Result<Vec<PathBuf>> {
    let [(first, _), others @ ..] = files else { return Ok(Vec::new()) };
    if others.is_empty() {
        return Ok(vec![PathBuf::new()]);
    }
    let split = |logical: &str| -> (String, String) {
        let (root, path) = logical.split_once(':').unwrap_or(("", logical));
        (root.to_owned(), path.to_owned())
    };
    let (root, path) = split(first);
    let mut common: Vec<&str> = path.split('/').collect();
    common.pop();
    let mut one_root = true;
    for (logical, _) in others {
        let (other, path) = split(logical);
        one_root &= other == root;
        let parents = path.split('/').count() - 1;
        let same = common.iter().zip(path.split('/').take(parents)).take_while(|(a, b)| **a == *b).count();
        common.truncate(same);
    }
    let skip = if one_root { common.len() } else { 0 };
    let mut seen = BTreeSet::new();
    let folder = |(logical, _): &(&str, &Path)| {
        let (root, path) = split(logical);
        let inside: PathBuf = path.split('/').skip(skip).collect();
        let folder = if one_root { inside } else { Path::new(&root).join(inside) };
        if !seen.insert(folder.clone()) {
            bail!("two logs would be written to {}: {logical} and another", folder.display());
        }
        Ok(folder)
    };
    files.iter().map(folder).collect()
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
        bail!("the log is empty: {names} (hint: check the path of the slot `log` of the stage that parses)");
    }
    let sample = summary.files.iter().find_map(|f| f.rejected_samples.first());
    let sample = sample.map(|s| format!("; line {} `{}`: {}", s.line, s.text, s.why)).unwrap_or_default();
    bail!(
        "none of the {} lines of {names} could be parsed{sample} (hint: set `format` and `timestamp_format` of the stage that parses; `logweir init --from LOG` proposes both)",
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

/// The folder of one log file, or of a piece of one, in an events directory.
#[derive(Clone, Debug)]
pub struct Part {
    folder: PathBuf,
    /// Logical path of the whole file.
    pub file: String,
    /// Byte of the file that the part begins with.
    pub start: u64,
    /// What became of it, and of the lines of `continued`.
    pub about: FileSummary,
    /// Its first lines, if they continue the last entry of the parts before.
    pub continued: Vec<Leading>,
}

impl Part {
    /// Returns the path of its rows.
    pub fn rows(&self) -> PathBuf {
        self.folder.join(ROWS)
    }

    /// Returns the path of its session keys.
    pub fn sessions(&self) -> PathBuf {
        self.folder.join(SESSIONS)
    }

    /// Returns the path of its local templates.
    pub fn templates(&self) -> PathBuf {
        self.folder.join(TEMPLATES)
    }

    /// Returns the path of the templates that the user brought; there need be none.
    pub fn given(&self) -> PathBuf {
        self.folder.join(GIVEN)
    }
}

const ROWS: &str = "rows.parquet";
const SESSIONS: &str = "sessions.parquet";
const TEMPLATES: &str = "templates.csv";
const GIVEN: &str = "given.csv";
const LEADING: &str = "leading.csv";
const ABOUT: &str = "parse.json";

/// Finds the folders of an events directory and returns them in reading order, pieces of a file by their first byte. Of
/// each is known which of its first lines continue an entry of those before.
///
/// # Errors
/// There is none, or a `parse.json` or `leading.csv` is malformed.
pub fn read_parts(events: &Path) -> anyhow::Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut pending = vec![events.to_owned()];
    while let Some(folder) = pending.pop() {
        let context = || format!("cannot read {}", folder.display());
        for entry in std::fs::read_dir(&folder).with_context(context)? {
            let entry = entry.with_context(context)?;
            if entry.path().is_dir() {
                pending.push(entry.path());
            } else if entry.file_name() == ABOUT {
                parts.push(read_part(&folder, &entry.path())?);
            }
        }
    }
    if parts.is_empty() {
        bail!("{} holds no parsed log", events.display());
    }
    sort_parts(&mut parts);
    let mut carry = Carry::default();
    for part in &mut parts {
        carry.enter(&part.file);
        let leading = if part.about.ends.is_some_and(|ends| ends.leading > 0) {
            part::read_leading(&part.folder.join(LEADING))?
        } else {
            Vec::new()
        };
        part.continued = carry.join(part.about.ends, leading);
        part.about.continue_with(&part.continued);
    }
    Ok(parts)
}

fn read_part(folder: &Path, about: &Path) -> anyhow::Result<Part> {
    let context = || format!("cannot read {}", about.display());
    let about: FileSummary =
        serde_json::from_slice(&std::fs::read(about).with_context(context)?).with_context(context)?;
    let (file, start) = whole_of(&about.path);
    Ok(Part { folder: folder.to_owned(), file: file.to_owned(), start, about, continued: Vec::new() })
}

fn sort_parts(parts: &mut [Part]) {
    parts.sort_by_cached_key(|part| (reading_order(&part.file), part.start));
}

/// Sums up the parts of an events directory.
pub fn summary_of(parts: &[Part]) -> ParseSummary {
    let mut summary = ParseSummary::default();
    for part in parts {
        summary.add(part.about.clone());
    }
    summary
}

/// Returns the file that a logical path is a piece of, and its first byte there: `x.log:70-150`.
pub fn whole_of(logical: &str) -> (&str, u64) {
    let piece = logical.rsplit_once(':').and_then(|(file, range)| {
        let (start, end) = range.split_once('-')?;
        end.parse::<u64>().ok()?;
        Some((file, start.parse::<u64>().ok()?))
    });
    piece.unwrap_or((logical, 0))
}

#[cfg(test)]
mod tests;
