//! Lines of a chunk to columns: a line is read by its format, or by what is remembered of lines before it.

use super::entries::{Ends, Entries, Leading, MARK, MOST, Multiline, NO_ENTRY, TOO_LONG};
use super::format::{Clock, LineFormat};
use super::head::{Head, Heads};
use super::lanes::places;
use super::mask::{Form, Masks};
use super::read::Chunk;
use super::rows::{FormUse, Rows};
use super::session::SessionFinder;
use super::shape::{Found, Shapes, Value};

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
        for end in places(bytes, b'\n').chain((!bytes.ends_with(b"\n")).then_some(bytes.len())) {
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
                    texts.odd |= found.values.iter().any(|v| !bytes[v.start..v.end].is_ascii());
                }
                for &Value { start, end, block } in &found.values {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::rows::{FileTables, Rejected, text};
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
