//! What may tell sessions apart: identifiers that several lines share, and not all.

use std::collections::BTreeMap;

use regex::bytes::Regex;
use serde::Serialize;
use serde_json::Value;

use crate::logs::byte_regex;
use crate::logs::format::header::Header;
use crate::logs::format::json::{CONTENTS, LEVELS, TIMES};
use crate::logs::format::syslog::{FIELDS, Syslog};
use crate::logs::format::{Clock, LineFormat};
use crate::parse::{LogFormat, ParseParams, SessionKey};

/// Most lines looked at.
const LINES: usize = 20_000;

/// Share of lines that must share their key, where a key may be anything, and where it is a process or a machine.
const MUST_REPEAT: f64 = 0.3;
const MAY_REPEAT: f64 = 0.05;

/// Identifiers by their look: what they are, the expression, and how much they are worth as session keys.
const PATTERNS: &[(&str, &str, f64)] = &[
    ("block ids", r"blk_-?\d+", 1.0),
    ("request ids", r"req-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", 1.0),
    ("container ids", r"container_\d+_\d+_\d+_\d+", 1.0),
    ("task attempts", r"attempt_\d+_\d+_[mr]_\d+", 0.95),
    ("task attempts of Spark", r"\bTID (\d+)", 0.9),
    ("application or job ids", r"(?:application|job)_\d+_\d+", 0.8),
    ("sessions", r#"(?i)\bsession[ _-]?(?:id)?["']?\s?[=:]\s?["']?([\w.-]+)"#, 1.0),
    ("requests", r#"(?i)\breq(?:uest)?[ _-]?(?:id)?["']?\s?[=:]\s?["']?([\w.-]+)"#, 1.0),
    ("traces", r#"(?i)\b(?:trace|correlation|transaction|txn|tx)[ _-]?(?:id)?["']?\s?[=:]\s?["']?([\w.-]+)"#, 1.0),
    ("jobs, tasks or orders", r#"(?i)\b(?:job|task|order)[ _-]?(?:id)?["']?\s?[=:]\s?["']?([\w.-]+)"#, 0.9),
    ("UUIDs", r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b", 0.85),
    ("long hexadecimal numbers", r"\b0x[0-9a-f]{12,}\b", 0.7),
    ("users", r#"(?i)\buser(?:name|[ _-]?id)?["']?\s?[=:]\s?["']?([\w.@-]+)"#, 0.5),
    ("IP addresses", r"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b", 0.4),
];

/// Something that may tell sessions apart.
#[derive(Clone, Debug, Serialize)]
pub struct Key {
    /// What it is, for people.
    pub what: String,
    /// How it is given.
    pub session: SessionKey,
    /// Lines looked at.
    pub of: usize,
    /// Lines that have one.
    pub lines: usize,
    /// Different ones.
    pub different: usize,
    /// An example.
    pub example: String,
    #[serde(skip)]
    score: f64,
}

impl Key {
    /// Says what it is, how common, and gives an example.
    pub fn about(&self) -> String {
        let share = 100.0 * self.lines as f64 / self.of.max(1) as f64;
        let example = self.example.replace(['\n', '\r'], " ");
        format!("{}: in {share:.0} % of lines, {} different ones, such as {example}", self.what, self.different)
    }
}

/// Lines by key.
#[derive(Default)]
struct Seen {
    lines: usize,
    by_key: BTreeMap<Vec<u8>, usize>,
}

impl Seen {
    fn add<'a>(&mut self, keys: impl IntoIterator<Item = &'a [u8]>) {
        let mut keys: Vec<&[u8]> = keys.into_iter().filter(|k| !k.is_empty()).collect();
        keys.sort_unstable();
        keys.dedup();
        self.lines += usize::from(!keys.is_empty());
        for key in keys {
            match self.by_key.get_mut(key) {
                Some(count) => *count += 1,
                None => drop(self.by_key.insert(key.to_vec(), 1)),
            }
        }
    }

    /// `worth` is that of the kind of key, `least` the share of lines, of those with a key, that must share theirs: none
    /// for identifiers that are known to be ones, since a log's beginning may show few lines of each.
    fn judge(&self, what: &str, session: SessionKey, of: usize, worth: f64, least: f64) -> Option<Key> {
        let different = self.by_key.len();
        let share = self.lines as f64 / of.max(1) as f64;
        let total: usize = self.by_key.values().sum();
        let shared: usize = self.by_key.values().filter(|&&c| c > 1).sum();
        let shared = shared as f64 / total.max(1) as f64;
        // One key for all lines tells nothing apart, unless few lines were seen of a thing that is known.
        let constant = different < 2 && (least > 0.0 || of >= 20);
        if constant || share < 0.02 || shared < least {
            return None;
        }
        let base = if least < MUST_REPEAT { 0.7 } else { 0.3 };
        let repeats = base + (1.0 - base) * shared;
        let score = worth * share.sqrt() * repeats * (different as f64 / 8.0).min(1.0);
        // The most frequent one is an example that can be looked up.
        let example = self.by_key.iter().max_by_key(|(_, count)| **count).map(|(key, _)| key.clone());
        let example = String::from_utf8_lossy(&example.unwrap_or_default()).chars().take(60).collect();
        Some(Key { what: what.to_owned(), session, of, lines: self.lines, different, example, score })
    }
}

/// Returns what may tell the sessions of these lines apart, the best first.
pub(super) fn guess(lines: &[&[u8]], params: &ParseParams) -> Vec<Key> {
    let lines = &lines[..lines.len().min(LINES)];
    let mut keys = Vec::new();
    for (what, pattern, worth) in PATTERNS {
        let Ok(regex) = byte_regex(pattern) else { continue };
        let mut seen = Seen::default();
        for line in lines {
            seen.add(matches(&regex, line));
        }
        // Addresses and users are shared by unrelated lines: sure are those that name one thing.
        let least = if *worth > 0.75 { 0.0 } else { MUST_REPEAT };
        keys.extend(seen.judge(what, SessionKey::Pattern((*pattern).to_owned()), lines.len(), *worth, least));
    }
    keys.extend(fields(lines, params));
    keys.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut said: Vec<(usize, usize)> = Vec::new();
    keys.retain(|key| {
        // Two expressions that find the same keys are one.
        let same = said.contains(&(key.lines, key.different));
        said.push((key.lines, key.different));
        !same
    });
    keys
}

fn matches<'a>(regex: &Regex, line: &'a [u8]) -> Vec<&'a [u8]> {
    let found = regex.captures_iter(line).filter_map(|c| c.get(1).or_else(|| c.get(0)));
    found.map(|m| m.as_bytes()).collect()
}

/// Fields of the format.
fn fields(lines: &[&[u8]], params: &ParseParams) -> Vec<Key> {
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    let mut of = 0;
    match &params.format {
        LogFormat::Header(pattern) => {
            let Ok(header) = Header::new(pattern, None) else { return Vec::new() };
            for fields in lines.iter().filter_map(|line| header.fields(line)) {
                of += 1;
                for (name, value) in fields {
                    seen.entry(name.to_owned()).or_default().add([value]);
                }
            }
        }
        LogFormat::Json => {
            for value in lines.iter().filter_map(|line| serde_json::from_slice::<Value>(line).ok()) {
                of += 1;
                add_members(&value, "", &mut seen);
            }
        }
        LogFormat::Syslog => {
            for name in FIELDS.iter().copied().chain(["component"]) {
                of = lines.len();
                let mut format = Syslog::new(true);
                let _ = format.session_field(name);
                let format = LineFormat::Syslog(Box::new(format));
                let of_name = seen.entry(name.to_owned()).or_default();
                for line in lines {
                    let mut clock = Clock::default();
                    if let Ok(parts) = format.parts(line, &mut clock) {
                        of_name.add([if name == "component" { parts.component } else { parts.session }]);
                    }
                }
            }
        }
        LogFormat::Hdfs | LogFormat::Regex | LogFormat::Plain => {}
    }
    let judge = |(name, seen): (&String, &Seen)| {
        let worth = worth_of(name);
        let what = format!("`{name}`");
        let least = if matches!(worth, 0.5..0.7) { MAY_REPEAT } else { MUST_REPEAT };
        (worth > 0.0).then(|| seen.judge(&what, SessionKey::Field(name.clone()), of, worth, least)).flatten()
    };
    seen.iter().filter_map(judge).collect()
}

/// Adds texts and whole numbers in an object, by their keys joined with dots.
fn add_members(value: &Value, before: &str, seen: &mut BTreeMap<String, Seen>) {
    let Value::Object(members) = value else { return };
    for (name, member) in members {
        let name = if before.is_empty() { name.clone() } else { format!("{before}.{name}") };
        if [TIMES, LEVELS, CONTENTS].iter().any(|known| known.contains(&name.as_str())) {
            continue;
        }
        match member {
            Value::Object(_) => add_members(member, &name, seen),
            Value::String(text) if text.len() <= 200 => seen.entry(name).or_default().add([text.as_bytes()]),
            Value::Number(number) if !number.is_f64() => {
                seen.entry(name).or_default().add([number.to_string().as_bytes()]);
            }
            _ => {}
        }
    }
}

/// How much a field is worth as a session key, by its name.
fn worth_of(name: &str) -> f64 {
    let name = name.to_ascii_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|p| name.contains(p));
    match name.as_str() {
        "content" | "message" | "level" | "severity" | "time" | "timestamp" | "date" | "year" | "month" | "day"
        | "epoch" | "day_of_log" | "mon" | "mday" | "clock" | "logid" | "flag" | "status" | "bytes" | "agent"
        | "referer" | "ident" => 0.0,
        "pid" => 0.6,
        "tid" | "thread" => 0.55,
        "host" | "node" => 0.5,
        "user" => 0.4,
        "component" | "program" | "msgid" => 0.15,
        "file" | "label" | "location" | "type" | "state" => 0.05,
        _ if has(&["request", "session", "trace", "correlation", "transaction", "job", "task", "order"]) => 1.0,
        _ if name.ends_with("id") => 0.8,
        _ if has(&["duration", "elapsed", "size", "count", "latency", "port", "version"]) => 0.0,
        _ => 0.3,
    }
}
