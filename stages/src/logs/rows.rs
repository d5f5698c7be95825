//! Columns of parsed lines: of a chunk with numbers of its own, then, in file order, with the numbers of the file.

use super::entries::{Entries, MARK, MOST, Multiline, NO_ENTRY, Order, TOO_LONG};
use super::format::{Clock, LineFormat};
use super::intern::Interner;
use super::mask::{Form, Masks};
use super::read::Chunk;
use super::session::SessionFinder;

/// Most rejected lines that a file reports in full.
pub const SAMPLES: usize = 20;

/// Everything needed to parse a line; shared by all threads.
#[derive(Clone, Debug)]
pub struct LineParser {
    /// How lines are written.
    pub format: LineFormat,
    /// What names a line's sessions.
    pub sessions: SessionFinder,
    /// What is variable in a message.
    pub masks: Masks,
    /// Whether values of wildcards are kept.
    pub parameters: bool,
    /// How lines belong together.
    pub entries: Entries,
}

/// A line that could not be parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// 1-based line number: in its chunk, after [`FileTables::adopt`] in its file.
    pub line: u64,
    /// The line, cut after 200 bytes.
    pub text: Vec<u8>,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Strings of a chunk or a file by number.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Severities.
    pub levels: Interner,
    /// Components.
    pub components: Interner,
    /// Forms of messages: the local templates.
    pub forms: Interner,
    /// Session keys.
    pub sessions: Interner,
    /// Of each form: how many lines have it, the first such line, and its message.
    pub uses: Vec<FormUse>,
}

/// Where a form occurs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormUse {
    /// Lines of this form.
    pub count: u64,
    /// The first of them, 1-based.
    pub first_line: u64,
    /// Its message as it stands in the log.
    pub message: Vec<u8>,
}

/// The parsed lines of a chunk, column by column.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Lines seen, of every sort.
    pub lines: u64,
    /// Lines of white space.
    pub blank: u64,
    /// Malformed lines.
    pub rejected: u64,
    /// Lines that continue a parsed one.
    pub continued: u64,
    /// The first malformed lines.
    pub samples: Vec<Rejected>,
    /// 1-based line numbers.
    pub line: Vec<u64>,
    /// Byte offsets of line starts in the decompressed file.
    pub offset: Vec<u64>,
    /// Microseconds since 1970 or [`super::format::NO_TIME`].
    pub time: Vec<i64>,
    /// Numbers in [`Names::levels`].
    pub level: Vec<u32>,
    /// Numbers in [`Names::components`].
    pub component: Vec<u32>,
    /// Numbers in [`Names::forms`].
    pub form: Vec<u32>,
    /// Numbers in [`Names::sessions`]; row i has `sessions[session_ends[i - 1]..session_ends[i]]`.
    pub sessions: Vec<u32>,
    /// See `sessions`.
    pub session_ends: Vec<u32>,
    /// Bytes of all wildcard values.
    pub values: Vec<u8>,
    /// Where each value ends in `values`.
    pub value_ends: Vec<u32>,
    /// Where each row's values end in `value_ends`; empty if values are not kept.
    pub row_values: Vec<u32>,
    /// The strings behind the numbers, until [`FileTables::adopt`] takes them.
    pub names: Names,
}

impl LineParser {
    /// Parses the lines of a chunk; numbers and line numbers are the chunk's own.
    pub fn parse(&self, chunk: &Chunk) -> Rows {
        let bytes = &chunk.bytes;
        let mut rows = Rows::default();
        let guess = bytes.len() / 100 + 1;
        for column in [&mut rows.line, &mut rows.offset] {
            column.reserve(guess);
        }
        rows.time.reserve(guess);
        for column in [&mut rows.level, &mut rows.component, &mut rows.form, &mut rows.sessions, &mut rows.session_ends]
        {
            column.reserve(guess);
        }
        let (mut clock, mut form) = (Clock::default(), Form::default());
        let mut entry = None;
        let mut start = 0;
        while start < bytes.len() {
            let stop = memchr::memchr(b'\n', &bytes[start..]).map_or(bytes.len(), |at| start + at);
            let mut line = &bytes[start..stop];
            if chunk.offset == 0 && start == 0 {
                line = line.strip_prefix(MARK).unwrap_or(line);
            }
            rows.lines += 1;
            self.line(line, chunk.offset + start as u64, &mut rows, (&mut clock, &mut form), &mut entry);
            start = stop + 1;
        }
        rows
    }

    fn line(
        &self,
        line: &[u8],
        offset: u64,
        rows: &mut Rows,
        (clock, form): (&mut Clock, &mut Form),
        entry: &mut Option<u64>,
    ) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > MOST {
            return rows.reject(line, TOO_LONG);
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            rows.blank += 1;
            return;
        }
        if self.entries.multiline.continues(line) {
            return self.continuation(line, offset, rows, *entry, NO_ENTRY);
        }
        let parts = match self.format.parts(line, clock) {
            Ok(parts) => parts,
            Err(why) => {
                match self.entries.multiline {
                    Multiline::Unmatched => self.continuation(line, offset, rows, *entry, why),
                    Multiline::Off | Multiline::Start(_) => {
                        *entry = None;
                        rows.reject(line, why);
                    }
                }
                return;
            }
        };
        *entry = Some(offset);
        rows.line.push(rows.lines);
        rows.offset.push(offset);
        rows.time.push(parts.time);
        rows.level.push(rows.names.levels.number(parts.level));
        rows.component.push(rows.names.components.number(parts.component));

        self.masks.apply(parts.message, form);
        let number = rows.names.forms.number(&form.text);
        match rows.names.uses.get_mut(number as usize) {
            Some(form_use) => form_use.count += 1,
            None => {
                rows.names.uses.push(FormUse { count: 1, first_line: rows.lines, message: parts.message.to_vec() });
            }
        }
        rows.form.push(number);

        let from = rows.sessions.len();
        let (sessions, names) = (&mut rows.sessions, &mut rows.names.sessions);
        self.sessions.each_of(line, &parts, |key| {
            let number = names.number(key);
            if !sessions[from..].contains(&number) {
                sessions.push(number);
            }
        });
        rows.session_ends.push(rows.sessions.len() as u32);

        if self.parameters {
            for &(start, end) in &form.values {
                rows.values.extend_from_slice(&parts.message[start as usize..end as usize]);
                rows.value_ends.push(rows.values.len() as u32);
            }
            rows.row_values.push(rows.value_ends.len() as u32);
        }
    }
}

impl LineParser {
    /// Adds a line to the entry that starts at `entry`, the last row, or rejects it.
    fn continuation(&self, line: &[u8], offset: u64, rows: &mut Rows, entry: Option<u64>, why: &'static str) {
        let Some(start) = entry.filter(|start| offset - start + line.len() as u64 <= MOST as u64) else {
            return rows.reject(line, why);
        };
        debug_assert_eq!(rows.offset.last(), Some(&start));
        rows.continued += 1;
        let from = rows.session_ends.iter().rev().nth(1).map_or(0, |&end| end as usize);
        let (sessions, names) = (&mut rows.sessions, &mut rows.names.sessions);
        self.sessions.each(line, |key| {
            let number = names.number(key);
            if !sessions[from..].contains(&number) {
                sessions.push(number);
            }
        });
        if let Some(end) = rows.session_ends.last_mut() {
            *end = rows.sessions.len() as u32;
        }
    }
}

impl Rows {
    fn reject(&mut self, line: &[u8], why: &'static str) {
        self.rejected += 1;
        if self.samples.len() < SAMPLES {
            let text = line[..line.len().min(200)].to_vec();
            self.samples.push(Rejected { line: self.lines, text, why });
        }
    }

    /// Returns how many lines were parsed.
    pub fn len(&self) -> usize {
        self.line.len()
    }

    /// Returns whether no line was parsed.
    pub fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// Returns the session numbers of a row.
    pub fn sessions_of(&self, row: usize) -> &[u32] {
        let start = if row == 0 { 0 } else { self.session_ends[row - 1] as usize };
        &self.sessions[start..self.session_ends[row] as usize]
    }
}

/// The strings and counts of a file, filled chunk by chunk in file order.
#[derive(Clone, Debug, Default)]
pub struct FileTables {
    /// Lines seen, of every sort.
    pub lines: u64,
    /// Lines of white space.
    pub blank: u64,
    /// Malformed lines.
    pub rejected: u64,
    /// Lines that continue a parsed one.
    pub continued: u64,
    /// Parsed lines.
    pub parsed: u64,
    /// The first malformed lines.
    pub samples: Vec<Rejected>,
    /// Earliest and latest time of a parsed line, microseconds since 1970.
    pub span: Option<(i64, i64)>,
    /// The strings behind the numbers.
    pub names: Names,
    /// What the next line depends on.
    pub order: Order,
}

impl FileTables {
    /// Takes over the strings of the file's next chunk and gives its rows the numbers of the file.
    pub fn adopt(&mut self, rows: &mut Rows) {
        let names = std::mem::take(&mut rows.names);
        let level = merge(&mut self.names.levels, &names.levels);
        let component = merge(&mut self.names.components, &names.components);
        let form = merge(&mut self.names.forms, &names.forms);
        let session = merge(&mut self.names.sessions, &names.sessions);
        for (local, mut form_use) in names.uses.into_iter().enumerate() {
            form_use.first_line += self.lines;
            match self.names.uses.get_mut(form[local] as usize) {
                Some(known) => known.count += form_use.count,
                None => self.names.uses.push(form_use),
            }
        }
        renumber(&mut rows.level, &level);
        renumber(&mut rows.component, &component);
        renumber(&mut rows.form, &form);
        renumber(&mut rows.sessions, &session);
        for line in &mut rows.line {
            *line += self.lines;
        }
        for mut sample in std::mem::take(&mut rows.samples) {
            if self.samples.len() < SAMPLES {
                sample.line += self.lines;
                self.samples.push(sample);
            }
        }
        self.order.settle(&mut rows.time);
        for &time in rows.time.iter().filter(|&&t| t != super::format::NO_TIME) {
            let (first, last) = self.span.unwrap_or((time, time));
            self.span = Some((first.min(time), last.max(time)));
        }
        self.lines += rows.lines;
        self.blank += rows.blank;
        self.rejected += rows.rejected;
        self.continued += rows.continued;
        self.parsed += rows.len() as u64;
    }
}

fn merge(into: &mut Interner, from: &Interner) -> Vec<u32> {
    (0..from.len() as u32).map(|n| into.number_hashed(from.get(n), from.hash_of(n))).collect()
}

fn renumber(column: &mut [u32], numbers: &[u32]) {
    for value in column {
        *value = numbers[*value as usize];
    }
}

/// Returns bytes as text; what is no UTF-8 is written `\xNN`, so that nothing is lost.
pub fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.into();
    }
    let mut out = String::with_capacity(bytes.len() + 8);
    for piece in bytes.utf8_chunks() {
        out.push_str(piece.valid());
        for byte in piece.invalid() {
            use std::fmt::Write as _;
            write!(out, "\\x{byte:02x}").expect("a string takes all");
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parser() -> LineParser {
        LineParser {
            format: LineFormat::Hdfs,
            sessions: SessionFinder::new(r"blk_-?\d+").unwrap(),
            masks: Masks::default(),
            parameters: true,
            entries: Entries::default(),
        }
    }

    fn chunk(bytes: &[u8]) -> Chunk {
        Chunk { offset: 0, bytes: bytes.to_vec() }
    }

    const LOG: &str = "081109 203530 1 INFO a.B: got blk_7 from /10.0.0.1:5\r\n\
        \n\
        rubbish\n\
        081109 203531 2 WARN a.B: got blk_-8 from /10.0.0.2:6\n\
        081109 203531 2 INFO c: file /x/blk_7 of blk_7 and blk_9";

    #[test]
    fn columns_are_as_computed_by_hand() {
        let rows = parser().parse(&chunk(LOG.as_bytes()));
        assert_eq!((rows.lines, rows.blank, rows.rejected, rows.len()), (5, 1, 1, 3));
        assert_eq!(rows.samples, [Rejected { line: 3, text: b"rubbish".to_vec(), why: "shorter than a timestamp" }]);
        assert_eq!(rows.line, [1, 4, 5]);
        assert_eq!(rows.offset, [0, 63, 117]);
        assert_eq!(rows.level, [0, 1, 0]);
        assert_eq!(rows.component, [0, 0, 1]);
        assert_eq!(rows.form, [0, 0, 1]);
        let forms: Vec<_> = rows.names.forms.iter().map(text).collect();
        assert_eq!(forms, ["got <id> from /<ip>", "file <path> of <id> and <id>"]);
        assert_eq!(rows.names.uses[0].count, 2);
        assert_eq!((rows.sessions_of(0), rows.sessions_of(1), rows.sessions_of(2)), (&[0][..], &[1][..], &[0, 2][..]));
        let sessions: Vec<_> = rows.names.sessions.iter().map(text).collect();
        assert_eq!(sessions, ["blk_7", "blk_-8", "blk_9"]);
        assert_eq!(rows.row_values, [2, 4, 7]);
        let first = &rows.values[..rows.value_ends[1] as usize];
        assert_eq!(text(first), "blk_710.0.0.1:5");
    }

    #[test]
    fn text_that_is_no_utf8_is_escaped() {
        assert_eq!(text(b"a\xffb\xc3\xa4\xc3"), "a\\xffb\u{e4}\\xc3");
        assert_eq!(text("ü".as_bytes()), "ü");
    }

    proptest! {
        #[test]
        fn every_line_is_parsed_rejected_or_blank(bytes: Vec<u8>, lines in prop::collection::vec("(081109 203530 1 INFO a: )?[ -~\\r]{0,30}", 0..20)) {
            let mut all = bytes;
            all.extend(lines.join("\n").as_bytes());
            let rows = parser().parse(&chunk(&all));
            prop_assert_eq!(rows.len() as u64 + rows.rejected + rows.blank, rows.lines);
            let ends = all.iter().filter(|&&b| b == b'\n').count() as u64;
            prop_assert_eq!(rows.lines, ends + u64::from(!all.is_empty() && !all.ends_with(b"\n")));
        }

        #[test]
        fn cutting_a_file_elsewhere_changes_nothing(cut in 0usize..5) {
            let whole = {
                let mut rows = parser().parse(&chunk(LOG.as_bytes()));
                FileTables::default().adopt(&mut rows);
                rows
            };
            let ends: Vec<usize> = LOG.match_indices('\n').map(|(i, _)| i + 1).chain([LOG.len()]).collect();
            let (a, b) = LOG.split_at(ends[cut]);
            let mut tables = FileTables::default();
            let mut parts = [parser().parse(&chunk(a.as_bytes())), parser().parse(&Chunk { offset: a.len() as u64, bytes: b.into() })];
            for part in &mut parts {
                tables.adopt(part);
            }
            let join = |f: fn(&Rows) -> Vec<u64>| parts.iter().flat_map(f).collect::<Vec<_>>();
            for column in [
                (|r: &Rows| r.line.clone()) as fn(&Rows) -> Vec<u64>,
                |r| r.offset.clone(),
                |r| r.form.iter().map(|&f| u64::from(f)).collect(),
                |r| r.level.iter().map(|&f| u64::from(f)).collect(),
                |r| r.sessions.iter().map(|&f| u64::from(f)).collect(),
            ] {
                prop_assert_eq!(join(column), column(&whole));
            }
            prop_assert_eq!(tables.names.uses[0].count, 2);
            prop_assert_eq!(tables.lines, 5);
            prop_assert_eq!(tables.samples[0].line, 3);
        }
    }
}
