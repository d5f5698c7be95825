//! What of a line depends on the lines before it, and so on the order of the file: its year, and the entry it belongs to.
//!
//! An *entry* is a line, and in logs of several lines an entry what follows it: a stack trace, a message with line ends.
//! Which lines start an entry must show on the line itself, so that a chunk can be cut before one and be parsed without
//! its neighbours. An entry holds at most [`MOST`] bytes; what lies beyond belongs to none, so that no file, however
//! wrong its settings, is held in memory as one entry.
//!
//! A log can be cut anywhere, into rotated files or pieces of one. The lines before the first that starts an entry are
//! *leading*: they continue the entry that the file before ends with, if that is still open ([`Ends`]), and are malformed
//! if not. A file alone cannot tell, so it counts them as malformed and keeps apart what is needed to think better of it.

use regex::bytes::Regex;
use serde::{Deserialize, Serialize};

use super::format::time::Years;
use super::format::{Clock, LineFormat, NO_TIME};
use super::parser::LineParser;

/// Bytes of the longest line, and of the longest entry.
pub const MOST: usize = 1 << 20;

/// Why a line is rejected that is longer than [`MOST`].
pub const TOO_LONG: &str = "longer than 1 MiB";

/// Why a line that continues an entry is rejected where there is none.
pub const NO_ENTRY: &str = "continues no entry: there is none before, or it is malformed or longer than 1 MiB";

/// A byte order mark, as some editors write it before the first line.
pub const MARK: &[u8] = b"\xef\xbb\xbf";

/// How lines belong together.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    /// The year that the file starts in, where dates lack it.
    pub years: Option<Years>,
    /// Which lines continue the entry before.
    pub multiline: Multiline,
}

/// Which lines continue the entry before.
#[derive(Clone, Debug, Default)]
pub enum Multiline {
    /// None: every line is an entry, or malformed.
    #[default]
    Off,
    /// Those that are not of the line format.
    Unmatched,
    /// Those that do not match.
    Start(Regex),
}

impl Multiline {
    /// Returns whether a line continues the entry before, whatever its format.
    pub fn continues(&self, line: &[u8]) -> bool {
        match self {
            Self::Start(regex) => !regex.is_match(line),
            Self::Off | Self::Unmatched => false,
        }
    }
}

/// A line before the first that starts an entry, near enough to the start of its file to continue an entry of the file
/// before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leading {
    /// 1-based line number in its file.
    pub line: u64,
    /// Bytes of the file up to the end of the line, without the line end.
    pub end: u64,
    /// The session keys in it.
    pub sessions: Vec<Vec<u8>>,
}

/// What of a file may belong to entries of the files before and behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// Bytes of the file, decompressed.
    pub bytes: u64,
    /// Leading lines, counted as malformed.
    pub leading: u64,
    /// Whether a line starts an entry, be it malformed.
    pub starts: bool,
    /// Byte at which the last entry starts, which the next file may continue; none if it is malformed.
    pub last: Option<u64>,
}

impl Ends {
    /// Goes on with the file's next chunk, which begins at the byte `start`.
    pub fn add(&mut self, start: u64, chunk: &Self) {
        self.bytes = start + chunk.bytes;
        self.leading += chunk.leading;
        if chunk.starts {
            self.starts = true;
            self.last = chunk.last.map(|at| start + at);
        }
    }
}

/// Where a file may be cut: before a line that starts an entry.
pub struct Cuts {
    format: LineFormat,
    multiline: Multiline,
    clock: Clock,
}

impl Cuts {
    /// Returns where files of this sort may be cut, or `None` if before any line.
    pub fn new(parser: &LineParser) -> Option<Self> {
        let multiline = parser.entries.multiline.clone();
        let every = matches!(multiline, Multiline::Off);
        (!every).then(|| Self { format: parser.format.clone(), multiline, clock: Clock::default() })
    }

    fn starts(&mut self, line: &[u8]) -> bool {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > MOST || line.iter().all(u8::is_ascii_whitespace) {
            return false;
        }
        match &self.multiline {
            Multiline::Start(regex) => regex.is_match(line),
            Multiline::Off | Multiline::Unmatched => self.format.parts(line, &mut self.clock).is_ok(),
        }
    }

    /// Returns where to cut bytes that begin at a place to cut (at the `start` of the file or not), the last such place;
    /// `None` if more must be read to tell.
    pub fn place(&mut self, bytes: &[u8], start: bool) -> Option<usize> {
        let last = memchr::memrchr(b'\n', bytes)? + 1;
        // What cannot be part of an entry before `last`: a line or a place too far from where that begins.
        let free = bytes.len() - last > MOST + 1;
        let mut end = last;
        while end > 0 && last - end <= MOST {
            let from = memchr::memrchr(b'\n', &bytes[..end - 1]).map_or(0, |at| at + 1);
            let line = &bytes[from..end];
            let line = if start && from == 0 { line.strip_prefix(MARK).unwrap_or(line) } else { line };
            // What the file begins with may continue an entry of another file, and stays together as if it began one.
            if start && from == 0 || self.starts(line) {
                let whole = free || last - from > MOST;
                return if whole { Some(last) } else { (from > 0).then_some(from) };
            }
            end = from;
        }
        Some(last)
    }
}

/// What was seen of a file so far.
#[derive(Clone, Debug, Default)]
pub struct Order {
    start: Option<Years>,
    /// The year, where dates lack it.
    pub years: Option<Years>,
    /// Lines whose time is before that of the line before.
    pub steps_back: u64,
    before: Option<i64>,
}

impl Order {
    /// Starts a file.
    pub fn new(entries: &Entries) -> Self {
        Self { start: entries.years, years: entries.years, ..Self::default() }
    }

    /// Returns the year that the file was said to start in, if a date of it lacks the year.
    pub fn start_year(&self) -> Option<i32> {
        self.start.filter(|_| self.years.is_some_and(|years| years.is_used())).map(|years| years.year())
    }

    /// Settles the times of the file's next lines.
    pub fn settle(&mut self, times: &mut [i64]) {
        if let Some(years) = &mut self.years {
            years.settle(times);
        }
        let mut before = self.before.unwrap_or(NO_TIME);
        for &time in times.iter().filter(|t| **t != NO_TIME) {
            self.steps_back += u64::from(time < before);
            before = time;
        }
        self.before = Some(before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::byte_regex;
    use crate::logs::format::header::Header;
    use crate::logs::format::json::{Json, Keys};
    use crate::logs::format::syslog::Syslog;
    use crate::logs::format::{Pattern, TimeFormat};
    use crate::logs::mask::Masks;
    use crate::logs::read::LogReader;
    use crate::logs::rows::{Rejected, Rows, text};
    use crate::logs::scan::scan;
    use crate::logs::session::{Field, SessionFinder};
    use proptest::prelude::*;

    /// Line, offset, time, level, component, form, sessions.
    type Row = (u64, u64, i64, String, String, String, Vec<String>);

    /// All that a scan gives, whatever the chunks.
    #[derive(Debug, Default, PartialEq)]
    struct Outcome {
        counts: [u64; 6],
        ends: (Option<Ends>, Vec<Leading>),
        rows: Vec<Row>,
        sessions: Vec<String>,
        samples: Vec<Rejected>,
    }

    fn outcome(parser: &LineParser, bytes: &[u8], size: usize, threads: usize) -> Outcome {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), bytes).unwrap();
        let mut parts: Vec<Rows> = Vec::new();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let reader = LogReader::with_chunk(&path, size).unwrap();
        let (tables, _) = pool
            .install(|| {
                scan(
                    reader,
                    parser,
                    |_| Ok(()),
                    |rows, (), _| {
                        parts.push(std::mem::take(rows));
                        Ok(())
                    },
                )
            })
            .unwrap();
        let name = |names: &crate::logs::intern::Interner, n: u32| text(names.get(n)).into_owned();
        let names = &tables.names;
        let session = |n: u32| text(&names.sessions.get(n)).into_owned();
        let rows = parts.iter().flat_map(|rows| {
            (0..rows.len()).map(|i| {
                (
                    rows.lines_before + u64::from(rows.line[i]),
                    rows.start + u64::from(rows.offset[i]),
                    rows.time[i],
                    name(&rows.names.levels, rows.level[i]),
                    name(&rows.names.components, rows.component[i]),
                    name(&names.forms, rows.numbers.form[rows.form[i] as usize]),
                    rows.sessions_of(i).iter().map(|&s| session(rows.numbers.session[s as usize])).collect(),
                )
            })
        });
        Outcome {
            counts: [
                tables.lines,
                tables.parsed,
                tables.rejected,
                tables.continued,
                tables.blank,
                tables.order.steps_back,
            ],
            ends: (tables.ends, tables.leading.clone()),
            rows: rows.collect(),
            sessions: (0..names.sessions.len() as u32).map(session).collect(),
            samples: tables.samples.clone(),
        }
    }

    fn parser(format: LineFormat, sessions: SessionFinder, multiline: Multiline) -> LineParser {
        let entries = Entries { years: Some(Years::new(2008)), multiline };
        LineParser { format, sessions, masks: Masks::default(), parameters: true, entries }
    }

    fn header() -> LineFormat {
        let time = TimeFormat::new("%m-%d %H:%M:%S").ok();
        LineFormat::Header(Box::new(Header::new("<Date> <Time> <Level> <Component>: <Content>", time).unwrap()))
    }

    /// A parser of each format, with sessions and entries of every sort.
    fn parsers() -> Vec<LineParser> {
        let keys = || SessionFinder::new(r"blk_-?\d+").unwrap();
        let start = || Multiline::Start(byte_regex(r"^(\d\d|<13>|\{)").unwrap());
        let json = || LineFormat::Json(Box::new(Json::new(&Keys::default(), None)));
        let pattern = Pattern::new(r"^(?P<timestamp>[\d-]+ [\d:]+) (?P<content>.*)", TimeFormat::new("%m-%d %T").ok());
        let pattern = || LineFormat::Pattern(Box::new(pattern.clone().unwrap()));
        vec![
            parser(LineFormat::Hdfs, keys(), Multiline::Off),
            parser(LineFormat::Hdfs, keys(), Multiline::Unmatched),
            parser(LineFormat::Plain, SessionFinder::all(), start()),
            parser(header(), keys(), Multiline::Unmatched),
            parser(header(), SessionFinder::of_field(Field::Component), start()),
            parser(pattern(), keys(), Multiline::Unmatched),
            parser(json(), SessionFinder::new(r"id=(\w+)").unwrap(), Multiline::Unmatched),
            parser(LineFormat::Syslog(Box::new(Syslog::new(true))), keys(), start()),
            parser(LineFormat::Hdfs, keys(), start()),
            parser(LineFormat::Hdfs, SessionFinder::of_field(Field::Level), Multiline::Off),
            parser(LineFormat::Hdfs, SessionFinder::all(), Multiline::Unmatched),
        ]
    }

    #[test]
    fn what_does_not_start_an_entry_belongs_to_the_one_before() {
        let log = b"no entry yet\n\
            11-09 20:35:30 INFO a: failed blk_1\r\n\
            java.io.IOException: blk_2\r\n\
            \r\n\
            \tat x(y.java:3) blk_1\r\n\
            11-09 20:35:29 WARN b: next\n\
            and its rest";
        let found = outcome(&parsers()[3], log, 1 << 20, 1);
        assert_eq!(found.counts, [7, 2, 1, 3, 1, 1]);
        let (first, second) = (&found.rows[0], &found.rows[1]);
        assert_eq!(
            (first.0, first.5.as_str(), first.6.as_slice()),
            (2, "failed <id>", &["blk_1".to_owned(), "blk_2".to_owned()][..])
        );
        assert_eq!((second.0, second.5.as_str(), second.6.len()), (6, "next", 0));
        assert_eq!((found.samples[0].line, found.samples[0].text.as_slice()), (1, &b"no entry yet"[..]));
        let last = log.len() - b"11-09 20:35:29 WARN b: next\nand its rest".len();
        let ends = Ends { bytes: log.len() as u64, leading: 1, starts: true, last: Some(last as u64) };
        assert_eq!(found.ends, (Some(ends), vec![Leading { line: 1, end: 12, sessions: Vec::new() }]));
        let first = outcome(&parsers()[3], b"\xef\xbb\xbf blk_1\r\n\n", 1, 2);
        let keys = vec![b"blk_1".to_vec()];
        let ends = Ends { bytes: 12, leading: 1, starts: false, last: None };
        assert_eq!(first.ends, (Some(ends), vec![Leading { line: 1, end: 6, sessions: keys }]));
        // The expression says that this line starts an entry, which is malformed, and so is what continues it.
        let found = outcome(&parsers()[4], b"11-09 20:35:30 INFO a: x\n11-09 y\nz\n", 1 << 20, 1);
        assert_eq!((found.counts, found.samples[1].why), ([3, 1, 2, 0, 0, 0], NO_ENTRY));
        assert_eq!(found.ends, (Some(Ends { bytes: 35, leading: 0, starts: true, last: None }), Vec::new()));
    }

    #[test]
    fn an_entry_ends_after_a_mebibyte_wherever_the_file_is_cut() {
        let mut log = b"\xef\xbb\xbf11-09 20:35:30 INFO a: blk_1\n".to_vec();
        for i in 0..40_000 {
            log.extend(format!("  at line {i} of a very long stack trace\n").bytes());
        }
        log.extend(b"11-09 20:35:30 INFO a: blk_2\nmore\n");
        log.extend(std::iter::repeat_n(b'x', 2 * MOST));
        log.extend(b"\nafter a line without end\n11-09 20:35:30 INFO a: blk_3");
        let whole = outcome(&parsers()[3], &log, 1 << 25, 1);
        let [lines, parsed, rejected, continued, blank, _] = whole.counts;
        assert_eq!((lines, parsed, blank), (40_006, 3, 0));
        assert_eq!(parsed + rejected + continued, lines);
        assert!((24_000..26_000).contains(&continued), "{continued}");
        for (size, threads) in [(4096, 1), (100_000, 2), (1 << 20, 1), (1 << 23, 2)] {
            assert_eq!(outcome(&parsers()[3], &log, size, threads), whole, "size {size}");
        }
        // What leads belongs together up to the same size.
        let led = whole.ends.1.len();
        let leading = &log[log.iter().position(|b| *b == b'\n').unwrap() + 1..];
        let whole = outcome(&parsers()[3], leading, 1 << 25, 1);
        assert!(led == 0 && (24_000..26_000).contains(&whole.ends.1.len()), "{}", whole.ends.1.len());
        for (size, threads) in [(100_000, 1), (1 << 20, 2), (1 << 23, 1)] {
            assert_eq!(outcome(&parsers()[3], leading, size, threads), whole, "leading, size {size}");
        }
        let off = outcome(&parsers()[0], &log, 4096, 1);
        assert_eq!(off.counts, [lines, 0, lines, 0, 0, 0]);
        assert_eq!(off, outcome(&parsers()[0], &log, 1 << 25, 2));
    }

    #[test]
    fn keys_that_are_no_utf8_stay_apart() {
        let found = outcome(
            &parser(LineFormat::Plain, SessionFinder::new("id=(.)").unwrap(), Multiline::Off),
            b"id=\xff\0 a\nid=\xfe\0 a\n\0\n",
            64,
            1,
        );
        assert_eq!(found.sessions, ["\\xff", "\\xfe"]);
        assert_eq!(found.counts, [3, 3, 0, 0, 0, 0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_line_counts_once_and_cuts_change_nothing(
            noise: Vec<u8>,
            lines in prop::collection::vec(
                r#"((081109|0[1-3]-1[0-9]) [0-2][0-9]:?35:?[0-3][0-9]( 7)? (INFO a|WARN b|INFO blk_1): |<13>Nov  9 20:3[0-9]:00 h s: |\{"ts":[0-9]{1,4},"msg":"x\\n[a-c]"\}?|[ \t]?)(at |blk_[0-3] |id=[a-c] |[ -~]{0,5}){0,3}\r?"#,
                0..30,
            ),
            size in 1usize..300,
            mark: bool,
        ) {
            let mut log = if mark { MARK.to_vec() } else { Vec::new() };
            log.extend(lines.join("\n").bytes());
            log.extend(&noise);
            for (i, parser) in parsers().iter().enumerate() {
                let whole = outcome(parser, &log, 1 << 20, 1);
                let [lines, parsed, rejected, continued, blank, _] = whole.counts;
                prop_assert_eq!(parsed + rejected + continued + blank, lines);
                prop_assert_eq!(parsed as usize, whole.rows.len());
                for threads in [1, 2] {
                    prop_assert_eq!(&outcome(parser, &log, size, threads), &whole, "parser {}", i);
                }
            }
        }
    }
}
