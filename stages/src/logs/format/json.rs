//! JSON lines: an object a line, whose members are found by key, nested ones by dots.
//!
//! A key such as `log.level` is a member of that name, or the member `level` of an object `log`. Keys that are not given
//! are guessed from [`TIMES`] and so on, the first that a line has. Times are texts in ISO 8601 (or as
//! `timestamp_format` says) or numbers: seconds since 1970, or milli-, micro- or nanoseconds, by their size. A line
//! without a message is its own message. Bytes that are no UTF-8 become `\xNN`, as wherever text is shown.

use std::fmt;
use std::io::Write as _;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::time::{TimeFormat, epoch, iso};
use super::{Clock, NO_TIME, Parts};

/// Usual keys of the time.
pub const TIMES: &[&str] = &["@timestamp", "timestamp", "time", "ts", "datetime", "date", "asctime", "eventTime", "t"];
/// Usual keys of the severity.
pub const LEVELS: &[&str] = &["level", "severity", "log.level", "levelname", "lvl", "loglevel", "log_level"];
/// Usual keys of who wrote the line.
pub const COMPONENTS: &[&str] = &[
    "logger",
    "log.logger",
    "logger_name",
    "component",
    "name",
    "module",
    "service",
    "service.name",
    "caller",
    "source",
];
/// Usual keys of the message.
pub const CONTENTS: &[&str] = &["message", "msg", "log", "event", "text", "body"];

const TIME: usize = 0;
const LEVEL: usize = 1;
const COMPONENT: usize = 2;
const CONTENT: usize = 3;
const SESSION: usize = 4;
const SLOTS: usize = 5;

/// A line format of JSON objects.
#[derive(Clone, Debug)]
pub struct Json {
    wanted: Vec<Wanted>,
    format: Option<TimeFormat>,
}

/// A key to look for, and what it is; of several for one slot the lowest rank counts.
#[derive(Clone, Debug)]
struct Wanted {
    slot: usize,
    rank: usize,
    key: String,
}

/// Keys that the user gave.
#[derive(Clone, Debug, Default)]
pub struct Keys<'a> {
    /// Of the time.
    pub timestamp: Option<&'a str>,
    /// Of the severity.
    pub level: Option<&'a str>,
    /// Of who wrote the line.
    pub component: Option<&'a str>,
    /// Of the message.
    pub content: Option<&'a str>,
}

impl Json {
    /// Makes a format; `format` says how times are written that are no ISO 8601.
    pub fn new(keys: &Keys<'_>, format: Option<TimeFormat>) -> Self {
        let mut json = Self { wanted: Vec::new(), format };
        for (slot, key, guesses) in [
            (TIME, keys.timestamp, TIMES),
            (LEVEL, keys.level, LEVELS),
            (COMPONENT, keys.component, COMPONENTS),
            (CONTENT, keys.content, CONTENTS),
        ] {
            match key {
                Some(key) => json.want(slot, 0, key),
                None => guesses.iter().enumerate().for_each(|(rank, key)| json.want(slot, rank, key)),
            }
        }
        json
    }

    fn want(&mut self, slot: usize, rank: usize, key: &str) {
        self.wanted.push(Wanted { slot, rank, key: key.to_owned() });
    }

    /// Takes the session of a line from a key.
    pub fn session_key(&mut self, key: &str) {
        self.wanted.retain(|w| w.slot != SESSION);
        self.want(SESSION, 0, key);
    }

    /// How the time is written, if the user said so.
    pub fn time_format(&self) -> Option<&TimeFormat> {
        self.format.as_ref()
    }

    pub(super) fn parts<'a>(&self, line: &'a [u8], clock: &'a mut Clock) -> Result<Parts<'a>, &'static str> {
        if line.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
            return Err("is no JSON object");
        }
        let escaped;
        let text = match std::str::from_utf8(line) {
            Ok(text) => text,
            Err(_) => {
                escaped = escape_bytes(line);
                &escaped
            }
        };
        let mut buffer = std::mem::take(&mut clock.scratch);
        buffer.clear();
        let mut found = Found { rank: [usize::MAX; SLOTS], span: [(0, 0); SLOTS], buffer };
        let mut json = serde_json::Deserializer::from_str(text);
        let here: Vec<(usize, &str)> = self.wanted.iter().enumerate().map(|(i, w)| (i, w.key.as_str())).collect();
        let read = Object { wanted: &here, all: &self.wanted, found: &mut found }.deserialize(&mut json);
        let read = read.and_then(|()| json.end());
        clock.scratch = found.buffer;
        if read.is_err() {
            return Err("is no JSON object, or not all of one");
        }
        let (start, end) = found.span[TIME];
        let time = if start == end {
            NO_TIME
        } else {
            let text = std::mem::take(&mut clock.scratch);
            let time = match &self.format {
                Some(format) => clock.read(format, &text[start..end]),
                None => {
                    let text = &text[start..end];
                    clock.read_by(text, |t| iso(t).or_else(|| epoch(t)))
                }
            };
            clock.scratch = text;
            time
        };
        let scratch: &'a [u8] = &clock.scratch;
        let part = |slot: usize| &scratch[found.span[slot].0..found.span[slot].1];
        let message = if found.rank[CONTENT] == usize::MAX { line } else { part(CONTENT) };
        Ok(Parts { time, level: part(LEVEL), component: part(COMPONENT), message, session: part(SESSION) })
    }
}

/// Writes bytes that are no UTF-8 so that they come out of a JSON text as `\xNN`.
fn escape_bytes(line: &[u8]) -> String {
    let mut out = String::with_capacity(line.len() + 16);
    for piece in line.utf8_chunks() {
        out.push_str(piece.valid());
        for byte in piece.invalid() {
            out.push_str(&format!("\\\\x{byte:02x}"));
        }
    }
    out
}

/// Values of a line, one after another in `buffer`.
struct Found {
    rank: [usize; SLOTS],
    span: [(usize, usize); SLOTS],
    buffer: Vec<u8>,
}

impl Found {
    fn take(&mut self, wanted: &Wanted, write: impl FnOnce(&mut Vec<u8>)) {
        // Of two members with one name the first counts.
        if wanted.rank < self.rank[wanted.slot] {
            let start = self.buffer.len();
            write(&mut self.buffer);
            self.rank[wanted.slot] = wanted.rank;
            self.span[wanted.slot] = (start, self.buffer.len());
        }
    }
}

/// Reads an object: `wanted` are numbers of keys with what of them is left.
struct Object<'w, 'f> {
    wanted: &'w [(usize, &'w str)],
    all: &'w [Wanted],
    found: &'f mut Found,
}

impl<'de> DeserializeSeed<'de> for Object<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut here = Vec::new();
        let mut deeper = Vec::new();
        loop {
            here.clear();
            deeper.clear();
            let key = Key { wanted: self.wanted, here: &mut here, deeper: &mut deeper };
            if map.next_key_seed(key)?.is_none() {
                return Ok(());
            }
            if here.is_empty() && deeper.is_empty() {
                map.next_value::<IgnoredAny>()?;
            } else {
                map.next_value_seed(Member { here: &here, deeper: &deeper, all: self.all, found: &mut *self.found })?;
            }
        }
    }
}

/// Reads a key and finds out who wants its value.
struct Key<'w, 'k> {
    wanted: &'w [(usize, &'w str)],
    here: &'k mut Vec<usize>,
    deeper: &'k mut Vec<(usize, &'w str)>,
}

impl<'de> DeserializeSeed<'de> for Key<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<(), E> {
        for &(number, wanted) in self.wanted {
            if let Some(rest) = wanted.strip_prefix(key) {
                match rest.strip_prefix('.') {
                    Some(rest) => self.deeper.push((number, rest)),
                    None if rest.is_empty() => self.here.push(number),
                    None => {}
                }
            }
        }
        Ok(())
    }
}

/// Reads the value of a member.
struct Member<'w, 'f> {
    here: &'w [usize],
    deeper: &'w [(usize, &'w str)],
    all: &'w [Wanted],
    found: &'f mut Found,
}

impl Member<'_, '_> {
    fn take(self, write: impl Fn(&mut Vec<u8>)) {
        for &number in self.here {
            self.found.take(&self.all[number], &write);
        }
    }

    fn show(self, value: impl fmt::Display) {
        self.take(|buffer| write!(buffer, "{value}").expect("a buffer takes all"));
    }
}

impl<'de> DeserializeSeed<'de> for Member<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Member<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.take(|buffer| buffer.extend_from_slice(value.as_bytes()));
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.show(value);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.show(value);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.show(value);
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.show(value);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        Object { wanted: self.deeper, all: self.all, found: self.found }.visit_map(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::rows::text;

    const START: i64 = 1_226_262_975_000_000; // 2008-11-09T20:36:15Z

    fn read(json: &Json, line: &[u8]) -> Result<(i64, [String; 4]), &'static str> {
        let mut clock = Clock::default();
        let parts = json.parts(line, &mut clock)?;
        Ok((parts.time, [parts.level, parts.component, parts.message, parts.session].map(|p| text(p).into_owned())))
    }

    fn strings(parts: [&str; 4]) -> [String; 4] {
        parts.map(str::to_owned)
    }

    #[test]
    fn usual_keys_are_guessed_in_order_also_nested_and_dotted() {
        let json = Json::new(&Keys::default(), None);
        for (line, expected) in [
            (
                r#"{"msg":"later","ts":1226262975.0,"level":"info","logger":"a.B","message":"got \"x\"\n\tü","n":[1,{"msg":2}]}"#,
                ["info", "a.B", "got \"x\"\n\tü", ""],
            ),
            (
                r#"{"@timestamp":"2008-11-09T21:36:15+01:00","log.level":"WARN","log":{"logger":"c"},"message":"m"}"#,
                ["WARN", "c", "m", ""],
            ),
            (
                r#" {"time":1226262975000,"level":30,"name":null,"msg":"m","msg":"again","log":{"level":"x"}} "#,
                ["30", "", "m", ""],
            ),
        ] {
            assert_eq!(read(&json, line.as_bytes()), Ok((START, strings(expected))), "{line}");
        }
        let line = r#"{"time":"noon","status":200}"#;
        assert_eq!(read(&json, line.as_bytes()), Ok((NO_TIME, strings(["", "", line, ""]))));
        for line in ["[1]", "", "x", r#"{"msg":"#, r#"{"msg":1} x"#, r#"{"msg":01}"#] {
            assert!(read(&json, line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn given_keys_and_a_session_by_key() {
        let keys = Keys { timestamp: Some("at"), level: Some("a.b.c"), component: Some("who"), content: Some("what") };
        let mut json = Json::new(&keys, Some(TimeFormat::new("%d.%m.%Y %T").unwrap()));
        json.session_key("request.id");
        let line =
            br#"{"message":"no","at":"09.11.2008 20:36:15","a":{"b":{"c":"E","d":1}},"what":"yes","request":{"id":17}}"#;
        assert_eq!(read(&json, line), Ok((START, strings(["E", "", "yes", "17"]))));
    }

    #[test]
    fn bytes_that_are_no_utf8_are_kept_apart() {
        let mut json = Json::new(&Keys::default(), None);
        json.session_key("id");
        let of = |line: &[u8]| read(&json, line).unwrap().1;
        assert_eq!(of(b"{\"msg\":\"a\xff\",\"id\":\"\xfe\"}"), strings(["", "", "a\\xff", "\\xfe"]));
    }
}
