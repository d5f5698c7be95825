//! Columns of parsed lines: of a chunk, with numbers of its own; and, in file order, what those are in the file.

use super::entries::{Ends, Entries, Leading, MARK, MOST, Multiline, NO_ENTRY, Order, TOO_LONG};
use super::format::{Clock, LineFormat};
use super::head::{Head, Heads};
use super::intern::Interner;
use super::keys::Keys;
use super::mask::{Form, Masks};
use super::read::Chunk;
use super::session::SessionFinder;
use super::shape::{Found, Shapes, load};

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
    pub sessions: Keys,
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

/// What the numbers of a chunk are in its file.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    /// Of forms.
    pub form: Vec<u32>,
    /// Of sessions.
    pub session: Vec<u32>,
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
    /// Malformed lines that may continue an entry of the file before.
    pub leading: Vec<Leading>,
    /// The ends of the chunk, where entries have several lines.
    pub ends: Option<Ends>,
    /// Lines of the file before the chunk, once [`FileTables::adopt`] knows.
    pub lines_before: u64,
    /// Offset of the chunk in the decompressed file.
    pub start: u64,
    /// 1-based line numbers in the chunk.
    pub line: Vec<u32>,
    /// Byte offsets of line starts in the chunk.
    pub offset: Vec<u32>,
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
    /// Values of wildcards: numbers in `texts`.
    pub values: Vec<u32>,
    /// Where each row's values end in `values`; empty if values are not kept.
    pub value_ends: Vec<u32>,
    /// What the values are.
    pub texts: Texts,
    /// The strings behind the numbers.
    pub names: Names,
    /// What the numbers are in the file, from then on.
    pub numbers: Numbers,
}

/// Strings one after the other, each with its length before it: as a dictionary of Parquet has them. Most are in there
/// once: those seen not long ago are found again.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// Length (four bytes, the lowest first) and bytes of each.
    pub bytes: Vec<u8>,
    /// How many there are.
    pub count: u32,
    /// Whether some may be other than ASCII.
    pub odd: bool,
    /// Number and place of the last text with this hash.
    recent: Vec<(u32, u32)>,
    /// By session number: which text its key is, if it is one.
    of_session: Vec<u32>,
}

/// Texts that are remembered to be found again; a power of two.
const RECENT: usize = 4096;

impl Texts {
    /// Adds `bytes[start..end]` without looking whether it is there.
    #[inline]
    fn push(&mut self, bytes: &[u8], start: usize, end: usize) -> u32 {
        let length = end - start;
        let before = (length as u32).to_le_bytes();
        // Short ones by one copy of a fixed size.
        match bytes.get(start..).and_then(<[u8]>::first_chunk::<32>) {
            Some(block) if length <= 32 => {
                let mut item = [0; 36];
                item[..4].copy_from_slice(&before);
                item[4..].copy_from_slice(block);
                let end = self.bytes.len() + 4 + length;
                self.bytes.extend_from_slice(&item);
                self.bytes.truncate(end);
            }
            _ => {
                self.bytes.extend_from_slice(&before);
                self.bytes.extend_from_slice(&bytes[start..end]);
            }
        }
        self.count += 1;
        self.count - 1
    }

    /// Adds `bytes[start..end]`, the key of a session, or finds it.
    #[inline]
    fn number_of_session(&mut self, session: u32, bytes: &[u8], start: usize, end: usize) -> u32 {
        let session = session as usize;
        if self.of_session.len() <= session {
            self.of_session.resize(session + 1, u32::MAX);
        }
        if self.of_session[session] == u32::MAX {
            self.of_session[session] = self.push(bytes, start, end);
        }
        self.of_session[session]
    }

    /// Adds `bytes[start..end]`, or finds it if it was there not long ago.
    #[inline]
    fn number(&mut self, bytes: &[u8], start: usize, end: usize) -> u32 {
        if self.recent.is_empty() {
            self.recent = vec![(u32::MAX, 0); RECENT];
        }
        let length = end - start;
        let (first, last) = if length < 8 {
            (load(bytes, start) & !(u64::MAX << (8 * length)), 0)
        } else {
            (load(bytes, start), load(bytes, end - 8))
        };
        let hash = (first ^ last.rotate_left(23) ^ length as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52;
        let (number, at) = self.recent[hash as usize];
        if number != u32::MAX {
            let at = at as usize + 4;
            let known = self.bytes.get(at - 4..).and_then(<[u8]>::first_chunk::<4>);
            let same = known == Some(&(length as u32).to_le_bytes())
                && match length {
                    0..8 => load(&self.bytes, at) & !(u64::MAX << (8 * length)) == first,
                    8..=16 => load(&self.bytes, at) == first && load(&self.bytes, at + length - 8) == last,
                    _ => self.bytes[at..at + length] == bytes[start..end],
                };
            if same {
                return number;
            }
        }
        let at = self.bytes.len() as u32;
        let number = self.push(bytes, start, end);
        self.recent[hash as usize] = (number, at);
        number
    }

    fn clear(&mut self) {
        self.bytes.clear();
        (self.count, self.odd) = (0, false);
        self.recent.fill((u32::MAX, 0));
        self.of_session.clear();
    }

    /// Calls `each` with every text.
    pub fn each<'a>(&'a self, mut each: impl FnMut(&'a [u8])) {
        let mut rest = &self.bytes[..];
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let (text, after) = after.split_at(u32::from_le_bytes(*length) as usize);
            each(text);
            rest = after;
        }
    }
}

/// What is remembered from line to line of a chunk.
struct Memory {
    clock: Clock,
    heads: Heads,
    shapes: Shapes,
    found: Found,
    form: Form,
    /// A message that is no piece of its line.
    apart: Vec<u8>,
    /// Session numbers of the blocks of a message.
    blocks: Vec<u32>,
    /// Where the entry starts that the next line may continue: the last row.
    entry: Option<usize>,
    /// Whether a malformed line started an entry.
    malformed: bool,
}

/// Places of a line in its chunk.
#[derive(Clone, Copy)]
struct Line {
    start: usize,
    /// Where its text starts, behind a byte order mark, and where it ends.
    from: usize,
    stop: usize,
}

impl LineParser {
    /// Parses the lines of a chunk; numbers are the chunk's own.
    pub fn parse(&self, chunk: &Chunk) -> Rows {
        let mut rows = Rows::default();
        self.parse_into(chunk, &mut rows);
        rows
    }

    /// As [`LineParser::parse`], into rows whose memory is used again.
    pub fn parse_into(&self, chunk: &Chunk, rows: &mut Rows) {
        let bytes = &chunk.bytes;
        rows.clear();
        rows.start = chunk.offset;
        let guess = bytes.len() / 100 + 1;
        rows.time.reserve(guess);
        for column in [
            &mut rows.line,
            &mut rows.offset,
            &mut rows.level,
            &mut rows.component,
            &mut rows.form,
            &mut rows.sessions,
            &mut rows.session_ends,
        ] {
            column.reserve(guess);
        }
        if self.parameters {
            rows.texts.bytes.reserve(bytes.len() / 3);
            rows.values.reserve(4 * guess);
            rows.value_ends.reserve(guess);
        }
        let mut memory = Memory {
            clock: Clock::default(),
            heads: Heads::default(),
            shapes: Shapes::new(&self.masks, &self.sessions),
            found: Found::default(),
            form: Form::default(),
            apart: Vec::new(),
            entry: None,
            malformed: false,
            blocks: Vec::new(),
        };
        // Where an expression says what continues an entry, every line is asked first.
        let quick = matches!(self.format, LineFormat::Hdfs) && !matches!(self.entries.multiline, Multiline::Start(_));
        let mut start = 0;
        let mut from = if chunk.offset == 0 && bytes.starts_with(MARK) { MARK.len() } else { 0 };
        for end in memchr::memchr_iter(b'\n', bytes).chain((!bytes.ends_with(b"\n")).then_some(bytes.len())) {
            if start == bytes.len() {
                break;
            }
            rows.lines += 1;
            let stop = end - usize::from(end > from && bytes[end - 1] == b'\r');
            let line = Line { start, from, stop };
            let known = if quick && stop - from <= MOST { memory.heads.find(bytes, from, stop) } else { None };
            let found = match known {
                Some(head) => Some((head, Some(stop))),
                None => self.head(bytes, line, rows, &mut memory),
            };
            if let Some((head, end)) = found {
                memory.entry = Some(start);
                self.message(bytes, line, (head, end), rows, &mut memory);
            }
            (start, from) = (end + 1, end + 1);
        }
        rows.ends = (!matches!(self.entries.multiline, Multiline::Off)).then(|| Ends {
            bytes: bytes.len() as u64,
            leading: rows.leading.len() as u64,
            starts: memory.malformed || !rows.is_empty(),
            last: memory.entry.map(|at| at as u64),
        });
    }

    /// Reads what stands before the message, and where the message ends; if it is no piece of the line, it is put apart.
    fn head(
        &self,
        bytes: &[u8],
        Line { start, from, stop }: Line,
        rows: &mut Rows,
        memory: &mut Memory,
    ) -> Option<(Head, Option<usize>)> {
        let line = &bytes[from..stop];
        if line.len() > MOST {
            rows.reject(line, TOO_LONG);
            return None;
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            rows.blank += 1;
            return None;
        }
        if self.entries.multiline.continues(line) {
            self.continuation(line, start, rows, memory, NO_ENTRY);
            return None;
        }
        let parts = match self.format.parts(line, &mut memory.clock) {
            Ok(parts) => parts,
            Err(why) => {
                match self.entries.multiline {
                    Multiline::Unmatched => self.continuation(line, start, rows, memory, why),
                    Multiline::Off | Multiline::Start(_) => {
                        (memory.entry, memory.malformed) = (None, true);
                        rows.reject(line, why);
                    }
                }
                return None;
            }
        };
        let mut head = Head {
            time: parts.time,
            level: rows.names.levels.number(parts.level),
            component: rows.names.components.number(parts.component),
            session: self.sessions.of_parts(&parts).map(|key| rows.names.sessions.number(key)),
            message: 0,
            blocks: true,
        };
        let before = parts.message.as_ptr().addr().wrapping_sub(line.as_ptr().addr());
        let Some(end) = before.checked_add(parts.message.len()).filter(|end| *end <= line.len()) else {
            memory.apart.clear();
            memory.apart.extend_from_slice(parts.message);
            return Some((head, None));
        };
        head.message = before;
        head.blocks = memchr::memmem::find(&line[..before], b"blk_").is_some();
        if matches!(self.format, LineFormat::Hdfs) {
            memory.heads.learn(line, head);
        }
        Some((Head { message: from + before, ..head }, Some(from + end)))
    }

    /// Reads a message: its form, its session keys, its values.
    fn message(
        &self,
        bytes: &[u8],
        Line { start, from, stop }: Line,
        (head, end): (Head, Option<usize>),
        rows: &mut Rows,
        memory: &mut Memory,
    ) {
        rows.line.push(rows.lines as u32);
        rows.offset.push(start as u32);
        rows.time.push(head.time);
        rows.level.push(head.level);
        rows.component.push(head.component);

        let line = &bytes[from..stop];
        let Memory { shapes, found, form, apart, blocks, .. } = memory;
        let (bytes, place) = match end {
            Some(end) => (bytes, (head.message, end)),
            None => (&apart[..], (0, apart.len())),
        };
        let first = rows.sessions.len();
        let (sessions, names) = (&mut rows.sessions, &mut rows.names.sessions);
        let mut add = |number: u32| {
            if !sessions[first..].contains(&number) {
                sessions.push(number);
            }
        };
        if let Some(number) = head.session {
            add(number);
        }
        if let Some(number) = shapes.find(bytes, place, head.component, found) {
            rows.names.uses[number as usize].count += 1;
            rows.form.push(number);
            blocks.clear();
            if shapes.blocks_are_keys && end == Some(stop) && !head.blocks {
                for block in &found.blocks {
                    let number = names.number_of_block(&bytes[block.start..block.end], block.number);
                    blocks.push(number);
                    add(number);
                }
            } else {
                self.sessions.each(line, |key| add(names.number(key)));
            }
            if self.parameters {
                let Rows { values, texts, .. } = rows;
                if found.odd {
                    texts.odd |= found.values.iter().any(|&(start, end)| !bytes[start..end].is_ascii());
                }
                for (&(start, end), &block) in found.values.iter().zip(&found.of_block) {
                    let Some(&session) = blocks.get(block as usize) else {
                        values.push(texts.number(bytes, start, end));
                        continue;
                    };
                    // A block that is a session key is known by its number.
                    values.push(texts.number_of_session(session, bytes, start, end));
                }
            }
        } else {
            let message = &bytes[place.0..place.1];
            self.masks.apply(message, form);
            let number = rows.names.forms.number(&form.text);
            match rows.names.uses.get_mut(number as usize) {
                Some(form_use) => form_use.count += 1,
                None => {
                    let message = message.to_vec();
                    rows.names.uses.push(FormUse { count: 1, first_line: rows.lines, message });
                }
            }
            rows.form.push(number);
            self.sessions.each(line, |key| add(names.number(key)));
            if self.parameters {
                rows.texts.odd |= !message.is_ascii();
                for &(start, end) in &form.values {
                    rows.values.push(rows.texts.number(message, start as usize, end as usize));
                }
            }
            shapes.learn(bytes, place, head.component, number, &self.masks, &self.sessions);
        }
        rows.session_ends.push(rows.sessions.len() as u32);
        if self.parameters {
            rows.value_ends.push(rows.values.len() as u32);
        }
    }

    /// Adds a line to the entry that is open, the last row, or rejects it.
    fn continuation(&self, line: &[u8], start: usize, rows: &mut Rows, memory: &Memory, why: &'static str) {
        let Some(entry) = memory.entry.filter(|entry| start - entry + line.len() <= MOST) else {
            if rows.start == 0 && rows.is_empty() && !memory.malformed {
                self.lead(line, start + line.len(), rows);
            }
            return rows.reject(line, why);
        };
        debug_assert_eq!(rows.offset.last(), Some(&(entry as u32)));
        rows.continued += 1;
        let first = rows.session_ends.iter().rev().nth(1).map_or(0, |&end| end as usize);
        let (sessions, names) = (&mut rows.sessions, &mut rows.names.sessions);
        self.sessions.each(line, |key| {
            let number = names.number(key);
            if !sessions[first..].contains(&number) {
                sessions.push(number);
            }
        });
        if let Some(end) = rows.session_ends.last_mut() {
            *end = rows.sessions.len() as u32;
        }
    }

    /// Keeps a line that may continue an entry of the file before.
    #[cold]
    fn lead(&self, line: &[u8], end: usize, rows: &mut Rows) {
        if end > MOST {
            return;
        }
        let mut leading = Leading { line: rows.lines, end: end as u64, sessions: Vec::new() };
        self.sessions.each(line, |key| leading.sessions.push(key.to_vec()));
        rows.leading.push(leading);
    }
}

impl Names {
    fn clear(&mut self) {
        self.levels.clear();
        self.components.clear();
        self.forms.clear();
        self.sessions.clear();
        self.uses.clear();
    }
}

impl Rows {
    /// Forgets all and keeps the memory.
    fn clear(&mut self) {
        let before = std::mem::take(self);
        let emptied = |mut column: Vec<u32>| {
            column.clear();
            column
        };
        let (mut time, mut texts, mut names) = (before.time, before.texts, before.names);
        time.clear();
        texts.clear();
        names.clear();
        *self = Self {
            line: emptied(before.line),
            offset: emptied(before.offset),
            time,
            level: emptied(before.level),
            component: emptied(before.component),
            form: emptied(before.form),
            sessions: emptied(before.sessions),
            session_ends: emptied(before.session_ends),
            values: emptied(before.values),
            value_ends: emptied(before.value_ends),
            texts,
            names,
            ..Self::default()
        };
    }

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
    /// Malformed lines that may continue an entry of the file before.
    pub leading: Vec<Leading>,
    /// The ends of the file, where entries have several lines.
    pub ends: Option<Ends>,
    /// Earliest and latest time of a parsed line, microseconds since 1970.
    pub span: Option<(i64, i64)>,
    /// The strings behind the numbers.
    pub names: Names,
    /// What the next line depends on.
    pub order: Order,
}

impl FileTables {
    /// Takes over the strings of the file's next chunk and tells its rows what their numbers are in the file. Levels and
    /// components stay with the rows. Times get the year that they lack.
    pub fn adopt(&mut self, rows: &mut Rows) {
        let form = merge(&mut self.names.forms, &rows.names.forms);
        let session = self.names.sessions.merge(&rows.names.sessions);
        for (local, mut form_use) in std::mem::take(&mut rows.names.uses).into_iter().enumerate() {
            form_use.first_line += self.lines;
            match self.names.uses.get_mut(form[local] as usize) {
                Some(known) => known.count += form_use.count,
                None => self.names.uses.push(form_use),
            }
        }
        rows.numbers = Numbers { form, session };
        rows.lines_before = self.lines;
        for mut sample in std::mem::take(&mut rows.samples) {
            if self.samples.len() < SAMPLES {
                sample.line += self.lines;
                self.samples.push(sample);
            }
        }
        self.leading.append(&mut rows.leading);
        if let Some(ends) = &rows.ends {
            self.ends.get_or_insert_default().add(rows.start, ends);
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
        let sessions: Vec<_> = (0..3).map(|n| rows.names.sessions.get(n)).collect();
        assert_eq!(sessions, [&b"blk_7"[..], b"blk_-8", b"blk_9"]);
        assert_eq!(rows.value_ends, [2, 4, 7]);
        assert_eq!(rows.values, [0, 1, 2, 3, 4, 0, 5]);
        let mut texts = Vec::new();
        rows.texts.each(|t| texts.push(text(t)));
        assert_eq!(texts, ["blk_7", "10.0.0.1:5", "blk_-8", "10.0.0.2:6", "/x/blk_7", "blk_9"]);
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
                (|r: &Rows| r.line.iter().map(|&l| r.lines_before + u64::from(l)).collect()) as fn(&Rows) -> Vec<u64>,
                |r| r.offset.iter().map(|&o| r.start + u64::from(o)).collect(),
                |r| r.form.iter().map(|&f| u64::from(r.numbers.form[f as usize])).collect(),
                |r| r.sessions.iter().map(|&s| u64::from(r.numbers.session[s as usize])).collect(),
            ] {
                prop_assert_eq!(join(column), column(&whole));
            }
            prop_assert_eq!(tables.names.uses[0].count, 2);
            prop_assert_eq!(tables.lines, 5);
            prop_assert_eq!(tables.samples[0].line, 3);
        }
    }
}
