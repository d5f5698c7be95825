//! Line formats: what of a line is its timestamp, level, component and message.
//!
//! | format | line |
//! |---|---|
//! | `hdfs` | `YYMMDD HHMMSS pid LEVEL component: message`, resolution one second |
//! | a pattern | `<Date> <Time> <Level> <Component>: <Content>`: see [`header`] |
//! | `regex` | named groups `timestamp`, `level`, `component`, `content` of a regular expression; `content` alone is required |
//! | `json` | an object a line: see [`json`] |
//! | `syslog` | RFC 3164 and RFC 5424: see [`syslog`] |
//! | `plain` | the whole line is the message, without a time |
//!
//! Times are microseconds since 1970 in UTC; a log's local clock is taken as UTC. A two-digit year below 70 is in the
//! 21st century. Dates without a year: [`time::Years`].

pub mod header;
pub mod json;
pub mod syslog;
pub mod time;

use chrono::NaiveDate;
use regex::bytes::Regex;

use header::Header;
use json::Json;
use syslog::Syslog;
pub use time::TimeFormat;

/// Stands for "no time": the line has none, or one that cannot be read.
pub const NO_TIME: i64 = i64::MIN;

/// The parts of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<'a> {
    /// Microseconds since 1970, or [`NO_TIME`]; in the year 0 if the line lacks the year.
    pub time: i64,
    /// Severity as written; empty if the line has none.
    pub level: &'a [u8],
    /// Who wrote it; empty if the line does not say.
    pub component: &'a [u8],
    /// The message.
    pub message: &'a [u8],
    /// The field that names the session, where the format was told of one.
    pub session: &'a [u8],
}

/// How lines are written.
#[derive(Clone, Debug)]
pub enum LineFormat {
    /// See the module.
    Hdfs,
    /// See the module.
    Header(Box<Header>),
    /// See the module.
    Pattern(Box<Pattern>),
    /// See the module.
    Json(Box<Json>),
    /// See the module.
    Syslog(Box<Syslog>),
    /// See the module.
    Plain,
}

/// A line format given as a regular expression.
#[derive(Clone, Debug)]
pub struct Pattern {
    regex: Regex,
    time: Option<TimeFormat>,
    groups: [Option<usize>; 5],
}

/// Remembers the last timestamp: lines of one second share it. Also holds texts that do not stand in the line as such.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    text: Vec<u8>,
    time: i64,
    scratch: Vec<u8>,
}

impl Clock {
    /// Returns the time that a text says, or [`NO_TIME`].
    fn read(&mut self, format: &TimeFormat, text: &[u8]) -> i64 {
        self.read_by(text, |t| format.read(t))
    }

    fn read_by(&mut self, text: &[u8], read: impl FnOnce(&[u8]) -> Option<i64>) -> i64 {
        if text.is_empty() {
            return NO_TIME;
        }
        if self.text != text {
            self.time = read(text).unwrap_or(NO_TIME);
            self.text.clear();
            self.text.extend_from_slice(text);
        }
        self.time
    }
}

impl Pattern {
    /// Makes a format from a regular expression with named groups.
    ///
    /// # Errors
    /// It is no regular expression, or has no group `content`.
    pub fn new(regex: &str, time: Option<TimeFormat>) -> Result<Self, String> {
        let regex = super::byte_regex(regex)?;
        let group = |name: &str| regex.capture_names().position(|n| n == Some(name));
        let [time_group, level, component, content] = ["timestamp", "level", "component", "content"].map(group);
        if content.is_none() {
            return Err("has no group `(?P<content>…)` for the message".to_owned());
        }
        Ok(Self { regex, time, groups: [time_group, level, component, content, None] })
    }

    /// Returns whether the format has a group `timestamp`.
    pub fn has_time(&self) -> bool {
        self.groups[0].is_some()
    }

    fn session_group(&mut self, name: &str) -> Result<(), Vec<String>> {
        self.groups[4] = self.regex.capture_names().position(|n| n == Some(name));
        let names = || self.regex.capture_names().flatten().map(str::to_owned).collect();
        if self.groups[4].is_some() { Ok(()) } else { Err(names()) }
    }
}

impl LineFormat {
    /// Returns the parts of a line, or why it is none of this format.
    ///
    /// # Errors
    /// The line is malformed.
    pub fn parts<'a>(&self, line: &'a [u8], clock: &'a mut Clock) -> Result<Parts<'a>, &'static str> {
        match self {
            Self::Hdfs => hdfs(line, clock),
            Self::Plain => Ok(Parts { time: NO_TIME, level: b"", component: b"", message: line, session: b"" }),
            Self::Header(header) => header.parts(line, clock),
            Self::Json(json) => json.parts(line, clock),
            Self::Syslog(syslog) => syslog.parts(line, clock),
            Self::Pattern(pattern) => {
                let found = pattern.regex.captures(line).ok_or("does not match `regex`")?;
                let [time, level, component, message, session] =
                    pattern.groups.map(|g| g.and_then(|g| found.get(g)).map_or(&b""[..], |m| m.as_bytes()));
                let time = pattern.time.as_ref().map_or(NO_TIME, |format| clock.read(format, time));
                Ok(Parts { time, level, component, message, session })
            }
        }
    }

    /// Takes [`Parts::session`] from a field: of a header pattern, a named group, a key of JSON, a part of syslog lines.
    ///
    /// # Errors
    /// There is no such field; the names of those there are, besides `component` and `level`.
    pub fn session_field(&mut self, name: &str) -> Result<(), Vec<String>> {
        match self {
            Self::Hdfs | Self::Plain => Err(Vec::new()),
            Self::Header(header) => header.session_field(name),
            Self::Pattern(pattern) => pattern.session_group(name),
            Self::Syslog(syslog) => syslog.session_field(name),
            Self::Json(json) => {
                json.session_key(name);
                Ok(())
            }
        }
    }

    /// Returns whether times may lack the year, so that [`time::Years`] must settle them.
    pub fn lacks_year(&self) -> bool {
        let format = match self {
            Self::Header(header) => header.time_format(),
            Self::Pattern(pattern) => pattern.time.as_ref(),
            Self::Json(json) => json.time_format(),
            Self::Syslog(_) | Self::Hdfs | Self::Plain => None,
        };
        format.is_some_and(TimeFormat::lacks_year)
    }

    /// Returns whether a line of this format tells by its time that it starts an entry.
    pub fn is_timed(&self) -> bool {
        match self {
            Self::Header(header) => header.time_format().is_some(),
            Self::Pattern(pattern) => pattern.time.is_some(),
            _ => false,
        }
    }
}

/// `081109 203615 148 INFO dfs.DataNode$PacketResponder: PacketResponder 1 for block blk_3 terminating`
fn hdfs<'a>(line: &'a [u8], clock: &mut Clock) -> Result<Parts<'a>, &'static str> {
    let time = line.get(..14).ok_or("shorter than a timestamp")?;
    if time[6] != b' ' || time[13] != b' ' {
        return Err("does not start with `YYMMDD HHMMSS `");
    }
    let (date, second) = (&time[..6], &time[7..13]);
    if clock.text != date {
        let [y, m, d] = pairs(date).ok_or("the date is not six digits")?;
        let year = if y < 70 { 2000 + y } else { 1900 + y };
        let day = NaiveDate::from_ymd_opt(year as i32, m, d).ok_or("no such date")?;
        clock.text.clear();
        clock.text.extend_from_slice(date);
        clock.time = day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros();
    }
    let [h, m, s] = pairs(second).ok_or("the time is not six digits")?;
    // 60 is a leap second; it counts as the next minute's first.
    if h > 23 || m > 59 || s > 60 {
        return Err("no such time of day");
    }
    let time = clock.time + i64::from(h * 3600 + m * 60 + s) * 1_000_000;

    let rest = &line[14..];
    let (process, rest) = split_at(rest, b' ').ok_or("no process id")?;
    if process.is_empty() || !process.iter().all(u8::is_ascii_digit) {
        return Err("the process id is no number");
    }
    let (level, rest) = split_at(rest, b' ').ok_or("no level")?;
    if level.is_empty() || !level.iter().all(u8::is_ascii_uppercase) {
        return Err("the level is not in capitals");
    }
    let (component, message) = split_at(rest, b':').ok_or("no component")?;
    if component.is_empty() || component.contains(&b' ') {
        return Err("no `component: ` before the message");
    }
    Ok(Parts { time, level, component, message: message.strip_prefix(b" ").unwrap_or(message), session: b"" })
}

fn split_at(text: &[u8], mark: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(mark, text)?;
    Some((&text[..at], &text[at + 1..]))
}

/// Reads six digits as three numbers of two.
fn pairs(digits: &[u8]) -> Option<[u32; 3]> {
    let digit = |i: usize| {
        let value = digits[i].wrapping_sub(b'0');
        (value < 10).then_some(u32::from(value))
    };
    Some([digit(0)? * 10 + digit(1)?, digit(2)? * 10 + digit(3)?, digit(4)? * 10 + digit(5)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: i64 = 1_226_262_975_000_000; // 2008-11-09T20:36:15Z

    fn parts<'a>(line: &'a str, clock: &'a mut Clock) -> Result<Parts<'a>, &'static str> {
        LineFormat::Hdfs.parts(line.as_bytes(), clock)
    }

    #[test]
    fn reads_an_hdfs_line() {
        let line = "081109 203615 148 INFO dfs.DataNode$PacketResponder: PacketResponder 1 for block blk_3 terminating";
        let expected = Parts {
            time: START,
            level: b"INFO",
            component: b"dfs.DataNode$PacketResponder",
            message: b"PacketResponder 1 for block blk_3 terminating",
            session: b"",
        };
        assert_eq!(parts(line, &mut Clock::default()), Ok(expected));
    }

    #[test]
    fn malformed_lines_say_why() {
        for (line, why) in [
            ("", "shorter"),
            ("081109-203615 148 INFO a: b", "start"),
            ("08110x 203615 148 INFO a: b", "date is not"),
            ("081309 203615 148 INFO a: b", "no such date"),
            ("081109 243615 148 INFO a: b", "time of day"),
            ("081109 203615 x INFO a: b", "process id is no"),
            ("081109 203615 148 info a: b", "capitals"),
            ("081109 203615 148 INFO no component", "component"),
            ("081109 203615 148 INFO a b: c", "component"),
        ] {
            let error = parts(line, &mut Clock::default()).map(|_| ()).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
    }

    #[test]
    fn the_clock_follows_the_day() {
        let mut clock = Clock::default();
        let mut time = |line: &str| LineFormat::Hdfs.parts(line.as_bytes(), &mut clock).map(|p| p.time).ok();
        assert_eq!(time("081109 203615 1 INFO a: b"), Some(START));
        assert_eq!(time("081110 203615 1 INFO a: b"), Some(START + 86_400_000_000));
        assert_eq!(time("08111x 203615 1 INFO a: b"), None);
        assert_eq!(time("081109 203616 1 INFO a: b"), Some(START + 1_000_000));
        assert_eq!(time("700101 000000 1 INFO a: b"), Some(0));
    }

    #[test]
    fn a_regex_format_takes_its_groups_and_tolerates_an_unreadable_time() {
        let time = TimeFormat::new("%d %H:%M").err();
        assert!(time.is_some(), "no month");
        let time = TimeFormat::new("%m-%d %H:%M:%S").ok();
        let pattern = Pattern::new(r"^(?P<timestamp>\S+) \[(?P<level>\w+)\] (?P<content>.*)$", time).unwrap();
        assert!(pattern.has_time());
        let mut format = LineFormat::Pattern(Box::new(pattern));
        assert!(format.lacks_year() && format.is_timed());
        assert_eq!(format.session_field("level"), Ok(()));
        assert_eq!(format.session_field("x").unwrap_err(), ["timestamp", "level", "content"]);
        assert_eq!(format.session_field("level"), Ok(()));
        let mut clock = Clock::default();
        let got = format.parts(b"noon [warn] \xff up", &mut clock).unwrap();
        let expected = Parts { time: NO_TIME, level: b"warn", component: b"", message: b"\xff up", session: b"warn" };
        assert_eq!(got, expected);
        assert!(format.parts(b"nothing", &mut Clock::default()).is_err());
        assert!(Pattern::new("(?P<level>x)", None).unwrap_err().contains("content"));
    }

    proptest! {
        #[test]
        fn any_bytes_have_parts_or_a_reason_in_every_format(
            noise: Vec<u8>,
            line in r#"[<{]?(\{"|[0-9]{1,4}|[-/:.,T ]|Jan|<13>1|[a-z]+|\[|\]|"|:|\}|\xff|"msg"){0,25}"#,
        ) {
            let time = || TimeFormat::new("%Y-%m-%d %T").ok();
            let header = Header::new(r"<Date> <Time> [<A>]( \(<B>\))? <Component>(\[<Pid>\])?: <Content>", time()).unwrap();
            let open = Header::new(r"<A>( x)? <Component>|<Content>", None).unwrap();
            for format in [
                LineFormat::Hdfs,
                LineFormat::Plain,
                LineFormat::Header(Box::new(header)),
                LineFormat::Header(Box::new(open)),
                LineFormat::Json(Box::new(Json::new(&json::Keys::default(), None))),
                LineFormat::Syslog(Box::new(Syslog::new(true))),
            ] {
                for line in [&noise[..], line.as_bytes()] {
                    // A clock that has seen something else gives the same.
                    let mut used = Clock::default();
                    let _ = format.parts(b"2008-11-09 20:36:15 [x] a: b", &mut used).map(|_| ());
                    let mut fresh = Clock::default();
                    prop_assert_eq!(format.parts(line, &mut used), format.parts(line, &mut fresh));
                }
            }
        }
    }
}
