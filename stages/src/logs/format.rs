//! Line formats: what of a line is its timestamp, level, component and message.
//!
//! | format | line |
//! |---|---|
//! | `hdfs` | `YYMMDD HHMMSS pid LEVEL component: message`, resolution one second |
//! | `regex` | named groups `timestamp`, `level`, `component`, `content` of a regular expression; `content` alone is required |
//! | `plain` | the whole line is the message, without a time |
//!
//! Times are microseconds since 1970 in UTC; a log's local clock is taken as UTC. A two-digit year below 70 is in the
//! 21st century.

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use regex::bytes::Regex;

/// Stands for "no time": the line has none, or one that cannot be read.
pub const NO_TIME: i64 = i64::MIN;

/// The parts of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<'a> {
    /// Microseconds since 1970, or [`NO_TIME`].
    pub time: i64,
    /// Severity as written; empty if the line has none.
    pub level: &'a [u8],
    /// Who wrote it; empty if the line does not say.
    pub component: &'a [u8],
    /// The message.
    pub message: &'a [u8],
}

/// How lines are written.
#[derive(Clone, Debug)]
pub enum LineFormat {
    /// See the module.
    Hdfs,
    /// See the module.
    Pattern(Box<Pattern>),
    /// See the module.
    Plain,
}

/// A line format given as a regular expression.
#[derive(Clone, Debug)]
pub struct Pattern {
    regex: Regex,
    time: Option<TimeFormat>,
    groups: [Option<usize>; 4],
}

/// How a timestamp is written (chrono's `strftime` fields).
#[derive(Clone, Debug)]
pub struct TimeFormat {
    format: String,
    /// Put before the text of formats without a year.
    year: Option<i32>,
    zone: bool,
}

/// Remembers the last timestamp: lines of one second share it.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    text: Vec<u8>,
    time: i64,
}

impl TimeFormat {
    /// Makes a format.
    ///
    /// # Errors
    /// A field is unknown, or neither the format nor `year` says which year it is.
    pub fn new(format: &str, year: Option<i32>) -> Result<Self, String> {
        if chrono::format::StrftimeItems::new(format).any(|i| matches!(i, chrono::format::Item::Error)) {
            return Err(format!("`{format}` has a field that is unknown"));
        }
        let dated = ["%Y", "%y", "%s", "%D", "%F", "%c", "%x", "%+", "%v"].iter().any(|f| format.contains(f));
        if !dated && year.is_none() {
            return Err("has no year".to_owned());
        }
        let zone = ["%z", "%:z", "%#z", "%+"].iter().any(|f| format.contains(f));
        let year = if dated { None } else { year };
        let format = if dated { format.to_owned() } else { format!("%Y {format}") };
        Ok(Self { format, year, zone })
    }

    /// Returns microseconds since 1970.
    fn read(&self, text: &str) -> Option<i64> {
        let dated;
        let text = match self.year {
            Some(year) => {
                dated = format!("{year} {text}");
                &dated
            }
            None => text,
        };
        if self.zone {
            return DateTime::parse_from_str(text, &self.format).ok().map(|t| t.timestamp_micros());
        }
        NaiveDateTime::parse_from_str(text, &self.format).ok().map(|t| t.and_utc().timestamp_micros())
    }
}

impl Pattern {
    /// Makes a format from a regular expression with named groups.
    ///
    /// # Errors
    /// It is no regular expression, or has no group `content`.
    pub fn new(regex: &str, time: Option<TimeFormat>) -> Result<Self, String> {
        let regex = super::byte_regex(regex)?;
        let groups = ["timestamp", "level", "component", "content"]
            .map(|name| regex.capture_names().position(|n| n == Some(name)));
        if groups[3].is_none() {
            return Err("has no group `(?P<content>…)` for the message".to_owned());
        }
        Ok(Self { regex, time, groups })
    }

    /// Returns whether the format has a group `timestamp`.
    pub fn has_time(&self) -> bool {
        self.groups[0].is_some()
    }
}

impl LineFormat {
    /// Returns the parts of a line, or why it is none of this format.
    ///
    /// # Errors
    /// The line is malformed.
    pub fn parts<'a>(&self, line: &'a [u8], clock: &mut Clock) -> Result<Parts<'a>, &'static str> {
        match self {
            Self::Hdfs => hdfs(line, clock),
            Self::Plain => Ok(Parts { time: NO_TIME, level: b"", component: b"", message: line }),
            Self::Pattern(pattern) => {
                let found = pattern.regex.captures(line).ok_or("does not match `regex`")?;
                let [time, level, component, message] =
                    pattern.groups.map(|g| g.and_then(|g| found.get(g)).map_or(&b""[..], |m| m.as_bytes()));
                let time = match &pattern.time {
                    Some(format) if clock.text != time => {
                        let read = std::str::from_utf8(time).ok().and_then(|t| format.read(t)).unwrap_or(NO_TIME);
                        clock.text.clear();
                        clock.text.extend_from_slice(time);
                        clock.time = read;
                        read
                    }
                    Some(_) if !time.is_empty() => clock.time,
                    _ => NO_TIME,
                };
                Ok(Parts { time, level, component, message })
            }
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
    Ok(Parts { time, level, component, message: message.strip_prefix(b" ").unwrap_or(message) })
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

    const START: i64 = 1_226_262_975_000_000; // 2008-11-09T20:36:15Z

    fn parts(line: &str) -> Result<Parts<'_>, &'static str> {
        LineFormat::Hdfs.parts(line.as_bytes(), &mut Clock::default())
    }

    #[test]
    fn reads_an_hdfs_line() {
        let line = "081109 203615 148 INFO dfs.DataNode$PacketResponder: PacketResponder 1 for block blk_3 terminating";
        let expected = Parts {
            time: START,
            level: b"INFO",
            component: b"dfs.DataNode$PacketResponder",
            message: b"PacketResponder 1 for block blk_3 terminating",
        };
        assert_eq!(parts(line), Ok(expected));
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
            let error = parts(line).unwrap_err();
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
    fn a_regex_format_reads_fractions_zones_and_dates_without_a_year() {
        let time = |format: &str, year, text: &str| TimeFormat::new(format, year).unwrap().read(text);
        assert_eq!(time("%Y-%m-%d %H:%M:%S,%3f", None, "2008-11-09 20:36:15,250"), Some(START + 250_000));
        assert_eq!(time("%Y-%m-%d %H:%M:%S%.f", None, "2008-11-09 20:36:15.000250"), Some(START + 250));
        assert_eq!(time("%Y-%m-%dT%H:%M:%S%z", None, "2008-11-09T22:36:15+0200"), Some(START));
        assert_eq!(time("%b %d %H:%M:%S", Some(2008), "Nov  9 20:36:15"), Some(START));
        assert_eq!(time("%s", None, "1226262975"), Some(START));
        assert_eq!(TimeFormat::new("%b %d", None).unwrap_err(), "has no year");
        assert!(TimeFormat::new("%Q", None).is_err());
    }

    #[test]
    fn a_regex_format_takes_its_groups_and_tolerates_an_unreadable_time() {
        let time = TimeFormat::new("%H:%M:%S", Some(2008)).ok();
        let pattern = Pattern::new(r"^(?P<timestamp>\S+) \[(?P<level>\w+)\] (?P<content>.*)$", time).unwrap();
        assert!(pattern.has_time());
        let format = LineFormat::Pattern(Box::new(pattern));
        let got = format.parts(b"noon [warn] \xff up", &mut Clock::default()).unwrap();
        assert_eq!(got, Parts { time: NO_TIME, level: b"warn", component: b"", message: b"\xff up" });
        assert!(format.parts(b"nothing", &mut Clock::default()).is_err());
        assert!(Pattern::new("(?P<level>x)", None).unwrap_err().contains("content"));
    }
}
