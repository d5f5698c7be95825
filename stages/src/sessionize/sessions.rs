//! Sessions as columns, and the table of them.

use std::path::Path;

use anyhow::Context as _;
use polars::prelude::{
    BooleanChunked, Column, DataFrame, Int64Chunked, Int64Type, IntoColumn, NewChunkedArray, TimeUnit, UInt32Type,
    UInt64Type,
};

use crate::support::parquet::{Field, Kind, Lists, Page, TableWriter};
use crate::support::table::list_column;

/// Sessions, column by column, ordered by start and key; row i has `offsets[i]..offsets[i + 1]` of the event columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sessions {
    /// Session keys.
    pub ids: Vec<String>,
    /// Time of the first event, microseconds since 1970.
    pub start: Vec<i64>,
    /// Time of the last event, microseconds since 1970.
    pub end: Vec<i64>,
    /// Whether the session was still open at the end of the log.
    pub censored: Vec<bool>,
    /// One more than there are sessions.
    pub offsets: Vec<usize>,
    /// Global template numbers.
    pub events: Vec<u32>,
    /// Milliseconds since the session's previous event, 0 for the first; never negative.
    pub gaps: Vec<i64>,
    /// 1-based line numbers over all files.
    pub lines: Vec<u64>,
}

impl Sessions {
    /// Returns how many sessions there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Returns the template numbers of a session.
    pub fn events_of(&self, row: usize) -> &[u32] {
        &self.events[self.offsets[row]..self.offsets[row + 1]]
    }

    /// Adds the sessions that follow.
    pub fn append(&mut self, mut other: Self) {
        let base = self.offsets.pop().unwrap_or(0);
        self.offsets.extend(other.offsets.iter().map(|o| o + base));
        self.ids.append(&mut other.ids);
        self.start.append(&mut other.start);
        self.end.append(&mut other.end);
        self.censored.append(&mut other.censored);
        self.events.append(&mut other.events);
        self.gaps.append(&mut other.gaps);
        self.lines.append(&mut other.lines);
    }

    /// Returns them as a table, in the columns of `sessions.parquet`.
    ///
    /// # Errors
    /// The columns do not fit together (a bug).
    pub fn frame(&self) -> anyhow::Result<DataFrame> {
        let time = |name: &str, values: &[i64]| {
            Int64Chunked::from_slice(name.into(), values).into_datetime(TimeUnit::Microseconds, None).into_column()
        };
        Ok(DataFrame::new_infer_height(vec![
            Column::new("session_id".into(), &self.ids),
            time("start", &self.start),
            time("end", &self.end),
            list_column::<UInt32Type>("events", &self.offsets, &self.events),
            list_column::<Int64Type>("gaps", &self.offsets, &self.gaps),
            list_column::<UInt64Type>("lines", &self.offsets, &self.lines),
            BooleanChunked::from_slice("censored".into(), &self.censored).into_column(),
        ])?)
    }

    /// Writes them as `sessions.parquet`.
    #[cfg(test)]
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let templates = self.events.iter().max().map_or(0, |most| most + 1);
        let mut out = SessionWriter::create(path)?;
        out.write(self.encoded(templates as usize)?)?;
        out.finish()
    }

    /// Encodes them as a row group of `sessions.parquet`; `templates` is the number of global templates.
    ///
    /// # Errors
    /// The keys are too long.
    pub(super) fn encoded(&self, templates: usize) -> anyhow::Result<Encoded> {
        let mut lists = Lists::default();
        self.offsets.windows(2).for_each(|pair| lists.push(pair[1] - pair[0]));
        let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(self.len()));
        for id in &self.ids {
            bytes.extend_from_slice(id.as_bytes());
            ends.push(u32::try_from(bytes.len()).context("session keys of more than 4 GB")?);
        }
        let numbers: Vec<u32> = (0..templates as u32).collect();
        let pages = vec![
            Page::of_texts(None, &ends, &bytes),
            Page::of_numbers(None, self.start.iter().copied()),
            Page::of_numbers(None, self.end.iter().copied()),
            Page::of_dictionary(Some(&lists), &self.events, templates).with_numbers(&numbers),
            Page::of_numbers(Some(&lists), self.gaps.iter().copied()),
            Page::of_numbers(Some(&lists), self.lines.iter().map(|&l| l as i64)),
            Page::of_flags(&self.censored),
        ];
        Ok(Encoded { rows: self.len(), pages })
    }
}

/// A row group of `sessions.parquet`, encoded.
pub(super) struct Encoded {
    rows: usize,
    pages: Vec<Page>,
}

/// Writes `sessions.parquet`.
pub(super) struct SessionWriter {
    out: TableWriter,
}

impl SessionWriter {
    /// Creates the file.
    ///
    /// # Errors
    /// The file cannot be created.
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let fields = [
            Field::one("session_id", Kind::Text),
            Field::one("start", Kind::Micros),
            Field::one("end", Kind::Micros),
            Field::list("events", Kind::U32),
            Field::list("gaps", Kind::I64),
            Field::list("lines", Kind::U64),
            Field::one("censored", Kind::Flag),
        ];
        Ok(Self { out: TableWriter::create(path, &fields)? })
    }

    /// Writes a row group.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn write(&mut self, group: Encoded) -> anyhow::Result<()> {
        self.out.write(group.rows, group.pages)
    }

    /// Completes the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        self.out.finish()
    }
}
