//! The files of one log: rows as Parquet, one row group a chunk, and the strings their numbers stand for.
//!
//! The pages of a chunk are encoded on the thread that parsed it, with the numbers that the chunk gave; what these are in
//! the file is written as the dictionary before them, in file order. Row groups follow the chunks of the reader, which are
//! cut at fixed sizes: bytes do not depend on threads.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::logs::entries::Leading;
use crate::logs::format::NO_TIME;
use crate::logs::given::GivenTemplates;
use crate::logs::intern::Interner;
use crate::logs::rows::{FileTables, Rows, text};
use crate::support::parquet::encoding::deltas;
use crate::support::parquet::{Field, Kind, Lists, Page, Shape, TableWriter};

use super::{LEADING, ROWS, SESSIONS, TEMPLATES};

/// The columns of `rows.parquet`; `parameters` only where they are kept.
const COLUMNS: [Field; 8] = [
    Field::one("line", Kind::U64),
    Field::one("offset", Kind::U64),
    Field { name: "timestamp", kind: Kind::Micros, shape: Shape::Optional },
    Field::one("level", Kind::Text),
    Field::one("component", Kind::Text),
    Field::one("template", Kind::U32),
    Field::list("sessions", Kind::U32),
    Field::list("parameters", Kind::Text),
];

/// Session keys a row group holds.
const KEYS: usize = 1 << 17;

/// The pages of a chunk, as far as they do not depend on the chunks before.
pub(super) struct Draft {
    line: Vec<u8>,
    offset: Vec<u8>,
    time: Page,
    level: Page,
    component: Page,
    template: Page,
    sessions: Page,
    parameters: Option<Page>,
}

impl Draft {
    /// Encodes the rows of a chunk, with times as lines have them: in the year 0 where they lack the year.
    pub(super) fn of(rows: &Rows, parameters: bool) -> anyhow::Result<Self> {
        let numbers = |values: &[u32]| {
            let mut out = Vec::new();
            deltas(values.iter().map(|&v| i64::from(v)), &mut out);
            out
        };
        let texts = |values: &[u32], names: &Interner| {
            let names: Vec<_> = names.iter().map(text).collect();
            Page::of_dictionary(None, values, names.len()).with_texts(names.iter().map(AsRef::as_ref))
        };
        let names = &rows.names;
        let lists = Lists::of_ends(&rows.session_ends);
        Ok(Self {
            line: numbers(&rows.line),
            offset: numbers(&rows.offset),
            time: Page::of_optional(&rows.time, NO_TIME),
            level: texts(&rows.level, &names.levels),
            component: texts(&rows.component, &names.components),
            template: Page::of_dictionary(None, &rows.form, names.forms.len()),
            sessions: Page::of_dictionary(Some(&lists), &rows.sessions, names.sessions.len()),
            parameters: parameters.then(|| values(rows)).transpose()?,
        })
    }
}

fn values(rows: &Rows) -> anyhow::Result<Page> {
    let lists = Lists::of_ends(&rows.value_ends);
    let texts = &rows.texts;
    let page = Page::of_dictionary(Some(&lists), &rows.values, texts.count as usize);
    if !texts.odd {
        return page.compressed_with(texts.count as usize, &texts.bytes);
    }
    let mut readable = Vec::with_capacity(texts.count as usize);
    texts.each(|bytes| readable.push(text(bytes)));
    page.with_texts(readable.iter().map(AsRef::as_ref)).compressed()
}

/// Writes the files of one log.
pub(super) struct PartWriter {
    folder: PathBuf,
    rows: TableWriter,
}

impl PartWriter {
    /// Starts the files of a log in its folder.
    pub(super) fn start(folder: &Path, parameters: bool) -> anyhow::Result<Self> {
        let columns = &COLUMNS[..COLUMNS.len() - usize::from(!parameters)];
        Ok(Self { folder: folder.to_owned(), rows: TableWriter::create(&folder.join(ROWS), columns)? })
    }

    /// Takes the rows of the next chunk.
    pub(super) fn write(&mut self, rows: &Rows, draft: Draft) -> anyhow::Result<()> {
        let count = rows.len();
        if count == 0 {
            return Ok(());
        }
        let places = |values: &[u32], base: u64, deltas: &[u8]| {
            let at = |i: usize| (base + u64::from(values[i])) as i64;
            Page::of_deltas(count, at(0), at(count - 1), deltas)
        };
        let pages = [
            places(&rows.line, rows.lines_before, &draft.line),
            places(&rows.offset, rows.start, &draft.offset),
            draft.time,
            draft.level,
            draft.component,
            draft.template.with_numbers(&rows.numbers.form),
            draft.sessions.with_numbers(&rows.numbers.session),
        ];
        let pages: Vec<Page> = pages.into_iter().chain(draft.parameters).collect();
        self.rows.write(count, pages)
    }

    /// Completes the rows and writes the strings behind their numbers.
    pub(super) fn finish(self, tables: &FileTables, given: &GivenTemplates) -> anyhow::Result<()> {
        self.rows.finish()?;
        let mut out = TableWriter::create(&self.folder.join(SESSIONS), &[Field::one("session_id", Kind::Text)])?;
        let keys = &tables.names.sessions;
        let mut key = Vec::new();
        for from in (0..keys.len()).step_by(KEYS) {
            let to = keys.len().min(from + KEYS);
            let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(to - from));
            for number in from..to {
                key.clear();
                keys.write(number as u32, &mut key);
                bytes.extend_from_slice(text(&key).as_bytes());
                ends.push(u32::try_from(bytes.len()).context("session keys of more than 4 GB")?);
            }
            out.write(to - from, vec![Page::of_texts(None, &ends, &bytes)])?;
        }
        out.finish()?;
        if !tables.leading.is_empty() {
            write_leading(&self.folder.join(LEADING), &tables.leading)?;
        }
        write_templates(&self.folder.join(TEMPLATES), tables, given)
    }
}

/// A row for each session key of a line, and one for a line without.
fn write_leading(path: &Path, leading: &[Leading]) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", path.display());
    let mut out = csv::Writer::from_path(path).with_context(context)?;
    out.write_record(["line", "end", "session_id"]).with_context(context)?;
    for Leading { line, end, sessions } in leading {
        let (line, end) = (line.to_string(), end.to_string());
        // A key is never empty.
        let none = sessions.is_empty().then_some("".into());
        for key in sessions.iter().map(|key| text(key)).chain(none) {
            out.write_record([&*line, &*end, &*key]).with_context(context)?;
        }
    }
    out.flush().with_context(context)
}

/// Reads what [`write_leading`] wrote; there need be no such file.
pub(super) fn read_leading(path: &Path) -> anyhow::Result<Vec<Leading>> {
    let mut leading: Vec<Leading> = Vec::new();
    if !path.is_file() {
        return Ok(leading);
    }
    let context = || format!("cannot read {}", path.display());
    let mut rows = csv::Reader::from_path(path).with_context(context)?;
    for row in rows.deserialize() {
        let (line, end, key): (u64, u64, String) = row.with_context(context)?;
        if leading.last().is_none_or(|last| last.line != line) {
            leading.push(Leading { line, end, sessions: Vec::new() });
        }
        if let Some(last) = leading.last_mut().filter(|_| !key.is_empty()) {
            last.sessions.push(key.into_bytes());
        }
    }
    Ok(leading)
}

fn write_templates(path: &Path, tables: &FileTables, given: &GivenTemplates) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", path.display());
    let mut out = csv::Writer::from_path(path).with_context(context)?;
    out.write_record(["template", "count", "first_line", "text", "name"]).with_context(context)?;
    for (number, (form, used)) in tables.names.forms.iter().zip(&tables.names.uses).enumerate() {
        let name = given.find(&used.message).map_or("", |i| given.all[i].id.as_str());
        let row = [&number.to_string(), &used.count.to_string(), &used.first_line.to_string(), &*text(form), name];
        out.write_record(row).with_context(context)?;
    }
    out.flush().with_context(context)
}

/// Writes the user's templates beside the rows, for the stage that gives global numbers.
pub(super) fn write_given(path: &Path, given: &GivenTemplates) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", path.display());
    let mut out = csv::Writer::from_path(path).with_context(context)?;
    out.write_record(["EventId", "EventTemplate"]).with_context(context)?;
    for template in &given.all {
        out.write_record([&template.id, &template.text]).with_context(context)?;
    }
    out.flush().with_context(context)
}
