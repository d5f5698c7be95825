//! Columns of parsed lines: of a chunk, with numbers of its own; and, in file order, what those are in the file.

use super::entries::{Ends, Leading, Order};
use super::intern::Interner;
use super::keys::Keys;
use super::texts::Texts;

/// Most rejected lines that a file reports in full.
pub const SAMPLES: usize = 20;

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

impl Names {
    pub(super) fn clear(&mut self) {
        self.levels.clear();
        self.components.clear();
        self.forms.clear();
        self.sessions.clear();
        self.uses.clear();
    }
}

impl Rows {
    /// Forgets all and keeps the memory.
    pub(super) fn clear(&mut self) {
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

    /// Counts a malformed line.
    pub(super) fn reject(&mut self, line: &[u8], why: &'static str) {
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

    #[test]
    fn text_that_is_no_utf8_is_escaped() {
        assert_eq!(text(b"a\xffb\xc3\xa4\xc3"), "a\\xffb\u{e4}\\xc3");
        assert_eq!(text("ü".as_bytes()), "ü");
    }
}
