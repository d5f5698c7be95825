//! Timestamps: `strftime` fields compiled once, ISO 8601, seconds since 1970, dates without a year.
//!
//! The common fields are read by code of this module, byte by byte; a format with others (`%j`, `%U`, `%+`) is left to
//! chrono. Here `%f` is any number of digits after the point, as in Python, a day's name need not fit the date, and a
//! format without a time of day means midnight.
//!
//! A date without a year is first read in the leap year 0; [`Years`] then gives it a year, line after line in the
//! order of the file, since only neighbours tell where a new year began.

use chrono::{DateTime, NaiveDateTime};
use serde::{Deserialize, Serialize};

use super::NO_TIME;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
/// 1 January of the year 0, a leap year in which no log was written, in days since 1970.
const DAYS_TO_0: i64 = -719_528;

/// How a timestamp is written (chrono's `strftime` fields).
#[derive(Clone, Debug)]
pub struct TimeFormat {
    /// What this module reads itself; else chrono reads `format`.
    items: Option<Vec<Item>>,
    /// With the year put before, where it lacks.
    format: String,
    yearless: bool,
    zone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    Year,
    /// Two digits; below 70 in the 21st century.
    ShortYear,
    Month,
    MonthName,
    Day,
    DayName,
    Hour,
    Minute,
    Second,
    /// `AM` or `PM`.
    Half,
    /// Digits of a fraction, so many or any number.
    Fraction(Option<usize>),
    /// A point and digits, or nothing.
    PointFraction,
    /// `+0200`, `+02:00`, `+02`, `Z`.
    Zone,
    /// A zone's name; it says nothing.
    ZoneName,
    Epoch,
    Space,
    Literal(u8),
}

impl TimeFormat {
    /// Makes a format.
    ///
    /// # Errors
    /// A field is unknown, or no day can be told.
    pub fn new(format: &str) -> Result<Self, String> {
        let items = compile(format);
        if items.is_none() && chrono::format::StrftimeItems::new(format).any(|i| i == chrono::format::Item::Error) {
            return Err(format!("`{format}` has a field that is unknown"));
        }
        let (dated, day) = match &items {
            Some(items) => {
                let has = |wanted: &[Item]| items.iter().any(|i| wanted.contains(i));
                let epoch = has(&[Item::Epoch]);
                let day = epoch || has(&[Item::Day]) && has(&[Item::Month, Item::MonthName]);
                (epoch || has(&[Item::Year, Item::ShortYear]), day)
            }
            None => (["%Y", "%y", "%s", "%+", "%G", "%C"].iter().any(|f| format.contains(f)), true),
        };
        if !day {
            return Err(format!("`{format}` has no day and month"));
        }
        let zone = ["%z", "%:z", "%#z", "%+"].iter().any(|f| format.contains(f));
        let format = if dated { format.to_owned() } else { format!("%Y {format}") };
        Ok(Self { items, format, yearless: !dated, zone })
    }

    /// Returns whether times lack the year: they are then in the year 0, until [`Years`] settles them.
    pub fn lacks_year(&self) -> bool {
        self.yearless
    }

    /// Returns microseconds since 1970.
    pub fn read(&self, text: &[u8]) -> Option<i64> {
        if let Some(items) = &self.items {
            return read(items, text);
        }
        let text = std::str::from_utf8(text).ok()?;
        let dated;
        let text = if self.yearless {
            dated = format!("0000 {text}");
            &dated
        } else {
            text
        };
        if self.zone {
            return DateTime::parse_from_str(text, &self.format).ok().map(|t| t.timestamp_micros());
        }
        NaiveDateTime::parse_from_str(text, &self.format).ok().map(|t| t.and_utc().timestamp_micros())
    }
}

/// Fields of more than a letter.
const LONG_FIELDS: [(&str, Item); 9] = [
    (".f", Item::PointFraction),
    (".3f", Item::PointFraction),
    (".6f", Item::PointFraction),
    (".9f", Item::PointFraction),
    ("3f", Item::Fraction(Some(3))),
    ("6f", Item::Fraction(Some(6))),
    ("9f", Item::Fraction(Some(9))),
    (":z", Item::Zone),
    ("#z", Item::Zone),
];

/// Returns the items of a format, or `None` if it has fields that are left to chrono.
fn compile(format: &str) -> Option<Vec<Item>> {
    let mut items = Vec::new();
    let mut rest = format;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c.is_whitespace() {
            items.push(Item::Space);
            continue;
        }
        if c != '%' {
            let mut bytes = [0; 4];
            items.extend(c.encode_utf8(&mut bytes).bytes().map(Item::Literal));
            continue;
        }
        if let Some((field, item)) = LONG_FIELDS.iter().find(|(field, _)| rest.starts_with(field)) {
            items.push(*item);
            rest = &rest[field.len()..];
            continue;
        }
        rest = rest.strip_prefix(['-', '_', '0']).unwrap_or(rest);
        let field = rest.chars().next()?;
        rest = &rest[field.len_utf8()..];
        items.push(match field {
            'Y' => Item::Year,
            'y' => Item::ShortYear,
            'm' => Item::Month,
            'b' | 'h' | 'B' => Item::MonthName,
            'd' | 'e' => Item::Day,
            'a' | 'A' => Item::DayName,
            'H' | 'k' | 'I' | 'l' => Item::Hour,
            'M' => Item::Minute,
            'S' => Item::Second,
            'p' | 'P' => Item::Half,
            'f' => Item::Fraction(None),
            'z' => Item::Zone,
            'Z' => Item::ZoneName,
            's' => Item::Epoch,
            '%' => Item::Literal(b'%'),
            'n' | 't' => Item::Space,
            'T' | 'X' | 'R' | 'F' | 'D' | 'x' | 'c' | 'v' | 'r' => {
                let long = match field {
                    'T' | 'X' => "%H:%M:%S",
                    'R' => "%H:%M",
                    'F' => "%Y-%m-%d",
                    'D' | 'x' => "%m/%d/%y",
                    'c' => "%a %b %e %H:%M:%S %Y",
                    'v' => "%e-%b-%Y",
                    _ => "%I:%M:%S %p",
                };
                items.extend(compile(long)?);
                continue;
            }
            _ => return None,
        });
    }
    Some(items)
}

/// Reads a text as the items say, all of it.
fn read(items: &[Item], text: &[u8]) -> Option<i64> {
    let mut at = Cursor { text, at: 0 };
    let (mut year, mut month, mut day) = (0, 1, 1);
    let (mut hour, mut minute, mut second, mut fraction) = (0, 0, 0, 0);
    let (mut half, mut zone, mut epoch) = (None, 0, None);
    for item in items {
        match item {
            Item::Year => year = at.number(4, 4)?,
            Item::ShortYear => {
                let y = at.number(2, 2)?;
                year = if y < 70 { 2000 + y } else { 1900 + y };
            }
            Item::Month => month = at.number(1, 2)?,
            Item::MonthName => month = at.month()?,
            Item::Day => day = at.number(1, 2)?,
            Item::DayName => at.day_name()?,
            Item::Hour => hour = at.number(1, 2)?,
            Item::Minute => minute = at.number(1, 2)?,
            Item::Second => second = at.number(1, 2)?,
            Item::Half => half = Some(at.half()?),
            Item::Fraction(digits) => fraction = at.fraction(*digits)?,
            Item::PointFraction => {
                if at.peek() == Some(b'.') {
                    at.at += 1;
                    fraction = at.fraction(None)?;
                }
            }
            Item::Zone => zone = at.zone()?,
            Item::ZoneName => at.skip_while(|b| !b.is_ascii_whitespace()),
            Item::Epoch => epoch = Some(at.number(1, 12)?),
            Item::Space => at.skip_while(|b| b.is_ascii_whitespace()),
            Item::Literal(b) => at.expect(*b)?,
        }
    }
    if at.at != text.len() {
        return None;
    }
    if let Some(seconds) = epoch {
        return Some(seconds * SECOND + fraction);
    }
    if let Some(afternoon) = half {
        if !(1..=12).contains(&hour) {
            return None;
        }
        hour = hour % 12 + if afternoon { 12 } else { 0 };
    }
    Some(moment([year, month, day], [hour, minute, second])? + fraction - zone)
}

/// Returns microseconds since 1970 of a date and time of day, if there is such a one; 60 is a leap second.
fn moment([year, month, day]: [i64; 3], [hour, minute, second]: [i64; 3]) -> Option<i64> {
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(days_from_civil(year, month, day) * DAY + ((hour * 60 + minute) * 60 + second) * SECOND)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970 of a date (Howard Hinnant, *chrono-compatible low-level date algorithms*).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_while(&mut self, wanted: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&wanted) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek() == Some(byte)).then(|| self.at += 1)
    }

    /// A number of at least and at most so many digits; white space may stand before it.
    fn number(&mut self, least: usize, most: usize) -> Option<i64> {
        self.skip_while(|b| b == b' ');
        let start = self.at;
        let mut value = 0i64;
        while self.at - start < most
            && let Some(b @ b'0'..=b'9') = self.peek()
        {
            value = value.saturating_mul(10).saturating_add(i64::from(b - b'0'));
            self.at += 1;
        }
        (self.at - start >= least).then_some(value)
    }

    /// Digits after the point in microseconds; what is finer is dropped.
    fn fraction(&mut self, digits: Option<usize>) -> Option<i64> {
        let start = self.at;
        let mut value = 0;
        let mut unit = SECOND;
        while digits.is_none_or(|n| self.at - start < n)
            && let Some(b @ b'0'..=b'9') = self.peek()
        {
            unit /= 10;
            value += unit * i64::from(b - b'0');
            self.at += 1;
        }
        let read = self.at - start;
        (read > 0 && digits.is_none_or(|n| n == read)).then_some(value)
    }

    /// One of the names, cut after three letters or whole.
    fn name(&mut self, names: &[&str]) -> Option<usize> {
        let word = self.text.get(self.at..self.at + 3)?;
        let found = names.iter().position(|n| n.as_bytes()[..3].eq_ignore_ascii_case(word))?;
        let whole = names[found].len();
        let long = self.text.get(self.at..self.at + whole);
        let long = long.is_some_and(|word| word.eq_ignore_ascii_case(names[found].as_bytes()));
        self.at += if long { whole } else { 3 };
        Some(found)
    }

    fn month(&mut self) -> Option<i64> {
        let names = [
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ];
        self.name(&names).map(|m| m as i64 + 1)
    }

    fn day_name(&mut self) -> Option<()> {
        self.name(&["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]).map(|_| ())
    }

    /// Whether it is the afternoon.
    fn half(&mut self) -> Option<bool> {
        let afternoon = match self.peek()?.to_ascii_lowercase() {
            b'a' => false,
            b'p' => true,
            _ => return None,
        };
        self.at += 1;
        (self.peek()?.eq_ignore_ascii_case(&b'm')).then(|| self.at += 1)?;
        Some(afternoon)
    }

    /// The distance to UTC in microseconds.
    fn zone(&mut self) -> Option<i64> {
        self.skip_while(|b| b == b' ');
        let sign = match self.peek()? {
            b'Z' | b'z' => {
                self.at += 1;
                return Some(0);
            }
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        self.at += 1;
        let hours = self.number(2, 2)?;
        if self.peek() == Some(b':') {
            self.at += 1;
        }
        let minutes = if self.peek().is_some_and(|b| b.is_ascii_digit()) { self.number(2, 2)? } else { 0 };
        Some(sign * (hours * 60 + minutes) * 60 * SECOND)
    }
}

/// Reads ISO 8601 and what looks like it: `2008-11-09T20:36:15.250Z`, `2008-11-09 20:36:15,250`, `2008/11/09 20:36:15
/// +0100`. Without a zone it is taken as UTC.
pub fn iso(text: &[u8]) -> Option<i64> {
    let mut at = Cursor { text, at: 0 };
    let year = at.number(4, 4)?;
    let mark = at.peek().filter(|b| matches!(b, b'-' | b'/'))?;
    at.at += 1;
    let month = at.number(2, 2)?;
    at.expect(mark)?;
    let day = at.number(2, 2)?;
    at.peek().filter(|b| matches!(b, b'T' | b't' | b' '))?;
    at.at += 1;
    let hour = at.number(2, 2)?;
    at.expect(b':')?;
    let minute = at.number(2, 2)?;
    let (mut second, mut fraction, mut zone) = (0, 0, 0);
    if at.peek() == Some(b':') {
        at.at += 1;
        second = at.number(2, 2)?;
    }
    if let Some(b'.' | b',') = at.peek() {
        at.at += 1;
        fraction = at.fraction(None)?;
    }
    if at.at < text.len() {
        zone = at.zone()?;
    }
    if at.at != text.len() {
        return None;
    }
    Some(moment([year, month, day], [hour, minute, second])? + fraction - zone)
}

/// Reads seconds since 1970, also with a fraction; so large numbers that they would lie after the year 5000 are
/// milliseconds, microseconds or nanoseconds.
pub fn epoch(text: &[u8]) -> Option<i64> {
    let mut at = Cursor { text, at: 0 };
    let negative = at.peek() == Some(b'-');
    at.at += usize::from(negative);
    let value = at.number(1, 19)?;
    let mut fraction = 0;
    if at.peek() == Some(b'.') {
        at.at += 1;
        fraction = at.fraction(None)?;
    }
    if at.at != text.len() {
        return None;
    }
    let micros = match value {
        0..100_000_000_000 => value * SECOND + fraction,
        100_000_000_000..100_000_000_000_000 => value * 1000 + fraction / 1000,
        100_000_000_000_000..100_000_000_000_000_000 => value,
        _ => value / 1000,
    };
    Some(if negative { -micros } else { micros })
}

/// Which year it is, in a log that does not say: the next one begins where the date goes back by more than half a year.
///
/// Known hole: a clock that was reset to a date long ago looks like a new year.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Years {
    year: i32,
    /// The date before, in the year 0.
    last: Option<i64>,
}

impl Years {
    /// Starts with the year of the first line.
    pub fn new(year: i32) -> Self {
        Self { year, last: None }
    }

    /// Returns the year of the next time, unless that begins another.
    pub fn year(&self) -> i32 {
        self.year
    }

    /// Returns whether a time was settled.
    pub fn is_used(&self) -> bool {
        self.last.is_some()
    }

    /// Gives times of the year 0 their year; call it with all times of a log in their order.
    pub fn settle(&mut self, times: &mut [i64]) {
        for time in times.iter_mut() {
            let Some(date) = undated(*time) else { continue };
            let year = self.year_of(date);
            let (mut day, rest) = (date.div_euclid(DAY), date.rem_euclid(DAY));
            if !is_leap(year) && day >= 59 {
                if day == 59 {
                    *time = NO_TIME;
                    continue;
                }
                day -= 1;
            }
            *time = (days_from_civil(year, 1, 1) + day) * DAY + rest;
        }
    }

    /// Passes over times as [`Years::settle`] does, for the sake of those behind them.
    pub fn pass(&mut self, times: &[i64]) {
        for date in times.iter().copied().filter_map(undated) {
            self.year_of(date);
        }
    }

    /// Returns the year of the log's next date, which is given in the year 0.
    fn year_of(&mut self, date: i64) -> i64 {
        match self.last {
            Some(last) if last - date > 183 * DAY => self.year = self.year.saturating_add(1),
            // A late line of December after the first of January.
            Some(last) if date - last > 330 * DAY => return i64::from(self.year) - 1,
            _ => {}
        }
        self.last = Some(date);
        i64::from(self.year)
    }
}

/// Returns microseconds since the year 0 began, of a time that lacks the year.
fn undated(time: i64) -> Option<i64> {
    // A zone west of UTC puts the evening of 31 December into the year 1.
    (time != NO_TIME && time < (DAYS_TO_0 + 367) * DAY).then(|| time - DAYS_TO_0 * DAY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: i64 = 1_226_262_975_000_000; // 2008-11-09T20:36:15Z

    fn time(format: &str, text: &str) -> Option<i64> {
        TimeFormat::new(format).unwrap().read(text.as_bytes())
    }

    #[test]
    fn reads_timestamps_of_many_logs() {
        for (format, text, after) in [
            ("%Y-%m-%d %H:%M:%S,%3f", "2008-11-09 20:36:15,250", 250_000),
            ("%Y-%m-%d %H:%M:%S%.f", "2008-11-09 20:36:15.000250", 250),
            ("%Y-%m-%d %H:%M:%S%.f", "2008-11-09 20:36:15", 0),
            ("%Y-%m-%dT%H:%M:%S%z", "2008-11-09T22:36:15+0200", 0),
            ("%FT%T%.3f%:z", "2008-11-09T22:36:15.5+02:00", 500_000),
            ("%s", "1226262975", 0),
            ("%s.%f", "1226262975.25", 250_000),
            ("%y%m%d %H%M%S", "081109 203615", 0),
            ("%y/%m/%d %H:%M:%S", "08/11/09 20:36:15", 0),
            ("%Y-%m-%d-%H.%M.%S.%6f", "2008-11-09-20.36.15.000007", 7),
            ("%a %b %d %H:%M:%S %Y", "Sun Nov 09 20:36:15 2008", 0),
            ("%c", "Sun Nov  9 20:36:15 2008", 0),
            ("%d/%b/%Y:%H:%M:%S %z", "09/Nov/2008:20:36:15 +0000", 0),
            ("%Y%m%d-%H:%M:%S:%f", "20081109-20:36:15:606", 606_000),
            ("%m/%d/%Y %I:%M:%S %p", "11/9/2008 8:36:15 PM", 0),
            ("%d %B %Y %T", "9 November 2008 20:36:15", 0),
            ("%Y-%j %H:%M:%S", "2008-314 20:36:15", 0),
            ("%+", "2008-11-09T20:36:15Z", 0),
        ] {
            assert_eq!(time(format, text), Some(START + after), "{format}: {text}");
        }
        for (format, text) in [
            ("%Y-%m-%d", "2008-02-30"),
            ("%Y-%m-%d", "2008-02-03x"),
            ("%Y-%m-%d", ""),
            ("%H:%M %d/%m/%Y", "24:00 1/1/2008"),
            ("%b %d", "Foo 3"),
        ] {
            assert_eq!(time(format, text), None, "{format}: {text}");
        }
        assert!(TimeFormat::new("%b %d %T").unwrap().lacks_year());
        assert!(TimeFormat::new("%Q").unwrap_err().contains("unknown"));
        assert!(TimeFormat::new("%H:%M:%S").unwrap_err().contains("no day and month"));
    }

    #[test]
    fn iso_and_numbers_are_told_by_their_look() {
        for text in [
            "2008-11-09T20:36:15Z",
            "2008-11-09 20:36:15",
            "2008/11/09 20:36:15",
            "2008-11-09t21:36:15+01:00",
            "2008-11-09 19:36:15 -0100",
            "2008-11-09T20:36:15.000Z",
            "2008-11-09 20:36:15,000000000",
        ] {
            assert_eq!(iso(text.as_bytes()), Some(START), "{text}");
        }
        for text in ["", "2008-11-09", "2008-11-09T20:36:15X", "2008-11/09T20:36:15", "2008-11-09T20:36:15."] {
            assert_eq!(iso(text.as_bytes()), None, "{text}");
        }
        for text in ["1226262975", "1226262975.0", "1226262975000", "1226262975000000", "1226262975000000000"] {
            assert_eq!(epoch(text.as_bytes()), Some(START), "{text}");
        }
        assert_eq!(epoch(b"-1.5"), Some(-1_500_000));
        assert!([&b""[..], b"1x", b"1.", b"-"].iter().all(|t| epoch(t).is_none()));
    }

    #[test]
    fn a_new_year_begins_where_the_date_goes_far_back() {
        let date = |text: &str| time("%b %d %H:%M", text).unwrap();
        let dated = |year: i64, month: i64, day: i64| moment([year, month, day], [0, 0, 0]).unwrap();
        let mut times = [
            "Nov 30 00:00",
            "Dec 31 00:00",
            "Jan 01 00:00",
            "Dec 31 00:00",
            "Feb 28 00:00",
            "Feb 29 00:00",
            "Mar 01 00:00",
        ]
        .map(date);
        let (mut settled, mut passed) = (Years::new(2005), Years::new(2005));
        passed.pass(&times);
        settled.settle(&mut times);
        assert_eq!(passed, settled);
        let expected = [
            dated(2005, 11, 30),
            dated(2005, 12, 31),
            dated(2006, 1, 1),
            dated(2005, 12, 31),
            dated(2006, 2, 28),
            NO_TIME,
            dated(2006, 3, 1),
        ];
        assert_eq!(times, expected);
        let mut leap = [date("Feb 29 00:00"), date("Mar 01 00:00"), NO_TIME, START];
        Years::new(2008).settle(&mut leap);
        assert_eq!(leap, [dated(2008, 2, 29), dated(2008, 3, 1), NO_TIME, START]);
        // Whatever UTC makes of the last and the first hours of a year.
        for (year, zone) in [(2007, "+0800"), (2007, "-0800"), (2008, "+0800"), (2008, "-0800")] {
            let texts = [format!("{year} Dec 31 20:00 {zone}"), format!("{} Jan 01 02:00 {zone}", year + 1)];
            let mut times = texts.each_ref().map(|text| time("%b %d %H:%M %z", &text[5..]).unwrap());
            Years::new(year).settle(&mut times);
            assert_eq!(times, texts.each_ref().map(|text| time("%Y %b %d %H:%M %z", text).unwrap()), "{texts:?}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_chrono(seconds in 0i64..4_102_444_800, micros in 0i64..SECOND, format in prop::sample::select(vec![
            "%Y-%m-%d %H:%M:%S%.6f", "%d.%m.%Y %H:%M:%S,%6f", "%y%m%d %H%M%S %6f", "%a %b %e %T %Y %6f", "%d/%b/%Y:%I:%M:%S.%6f %p",
        ])) {
            // Two-digit years are of 1970 to 2069.
            let seconds = if format.contains("%y") { seconds % 3_000_000_000 } else { seconds };
            let time = DateTime::from_timestamp_micros(seconds * SECOND + micros).unwrap();
            let text = time.naive_utc().format(format).to_string();
            prop_assert_eq!(TimeFormat::new(format).unwrap().read(text.as_bytes()), Some(seconds * SECOND + micros), "{}", text);
        }

        #[test]
        fn any_bytes_are_a_time_or_none(text: Vec<u8>, digits in "[0-9T:., +-]{0,30}") {
            for text in [&text[..], digits.as_bytes()] {
                let _ = (iso(text), epoch(text), TimeFormat::new("%Y%m%d%H%M%S%f%z").unwrap().read(text));
            }
        }
    }
}
