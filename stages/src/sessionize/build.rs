//! Lines of all files, and the sessions they make.

use std::fs::File;
use std::path::Path;

use anyhow::Context as _;
use polars::io::parquet::write::BatchedWriter;
use polars::prelude::{
    BooleanChunked, Column, DataFrame, Int64Chunked, Int64Type, IntoColumn, NewChunkedArray, ParquetCompression,
    ParquetWriter, TimeUnit, UInt32Type, UInt64Type,
};

use super::{FileStart, SessionSummary};
use crate::logs::format::NO_TIME;
use crate::logs::intern::Interner;
use crate::support::table::list_column;
use crate::support::time::rfc3339;

/// Sessions a row group holds.
const ROW_GROUP: usize = 1 << 16;

/// The lines that name sessions, of all files in order.
#[derive(Default)]
pub struct Lines {
    /// Session keys of all files.
    keys: Interner,
    /// Of each line that names a session: its time, global template and global 1-based number.
    time: Vec<i64>,
    template: Vec<u32>,
    line: Vec<u64>,
    /// (session, index of the line) in log order.
    session: Vec<u32>,
    at: Vec<u32>,
    without_session: u64,
    steps_back: u64,
    before: Option<i64>,
    span: Option<(i64, i64)>,
    files: Vec<FileStart>,
    /// Lines of the files before the current one.
    base: u64,
    /// Global session number by number in the current file.
    of_file: Vec<u32>,
}

impl Lines {
    /// Starts the next file, or the next piece of one; its session keys follow with [`Lines::add_keys`].
    pub fn start_file(&mut self, path: &str) {
        self.of_file.clear();
        if self.files.last().is_some_and(|file| file.path == path) {
            return;
        }
        self.files.push(FileStart { path: path.to_owned(), first_line: self.base + 1 });
    }

    /// Adds session keys of the current file, in order of their numbers there.
    pub fn add_keys<'a>(&mut self, keys: impl IntoIterator<Item = &'a [u8]>) {
        for key in keys {
            let number = self.keys.number(key);
            self.of_file.push(number);
        }
    }

    /// Ends the current file, which has `lines` lines of every sort.
    pub fn end_file(&mut self, lines: u64) {
        self.base += lines;
    }

    /// Adds a line of the current file: 1-based number, time, global template, and numbers of its sessions in the file.
    ///
    /// # Errors
    /// A session number is none of the current file, or there are more than 4 billion events.
    pub fn add(&mut self, line: u64, time: i64, template: u32, sessions: &[u32]) -> anyhow::Result<()> {
        let time = if time == NO_TIME {
            self.before.unwrap_or(NO_TIME)
        } else {
            self.steps_back += u64::from(self.before.is_some_and(|before| time < before));
            self.before = Some(time);
            let (first, last) = self.span.unwrap_or((time, time));
            self.span = Some((first.min(time), last.max(time)));
            time
        };
        if sessions.is_empty() {
            self.without_session += 1;
            return Ok(());
        }
        let at = u32::try_from(self.time.len()).context("more than 4 billion lines name sessions")?;
        self.time.push(time);
        self.template.push(template);
        self.line.push(self.base + line);
        for &session in sessions {
            let number = self.of_file.get(session as usize);
            self.session
                .push(*number.with_context(|| format!("line {line} names session {session}, which is not there"))?);
            self.at.push(at);
        }
        Ok(())
    }

    /// Makes the sessions; see the module for what closes one. `idle` in microseconds.
    pub fn group(mut self, closing: &[bool], idle: i64, min_events: usize) -> (Sessions, SessionSummary) {
        // Lines before the first time have the first; a log without times starts in 1970.
        let start = self.span.map_or(0, |(first, _)| first);
        for time in self.time.iter_mut().take_while(|t| **t == NO_TIME) {
            *time = start;
        }
        let mut count = vec![0usize; self.keys.len()];
        let mut first = vec![i64::MAX; self.keys.len()];
        for (&session, &at) in self.session.iter().zip(&self.at) {
            count[session as usize] += 1;
            first[session as usize] = first[session as usize].min(self.time[at as usize]);
        }
        let all = count.iter().filter(|&&c| c > 0).count();
        let mut order: Vec<u32> =
            (0..self.keys.len() as u32).filter(|&s| count[s as usize] >= min_events.max(1)).collect();
        order.sort_unstable_by(|&a, &b| {
            first[a as usize].cmp(&first[b as usize]).then_with(|| self.keys.get(a).cmp(self.keys.get(b)))
        });

        let mut offsets = vec![0];
        let mut next = vec![usize::MAX; self.keys.len()];
        let mut total = 0;
        for &session in &order {
            next[session as usize] = total;
            total += count[session as usize];
            offsets.push(total);
        }
        drop((count, first));
        let mut placed = vec![0u32; total];
        for (&session, &at) in self.session.iter().zip(&self.at) {
            let place = &mut next[session as usize];
            if *place != usize::MAX {
                placed[*place] = at;
                *place += 1;
            }
        }
        (self.session, self.at) = (Vec::new(), Vec::new());

        let log_end = self.span.map_or(0, |(_, last)| last);
        let mut sessions = Sessions { offsets, ..Sessions::default() };
        sessions.events.reserve(total);
        sessions.gaps.reserve(total);
        sessions.lines.reserve(total);
        for (row, &session) in order.iter().enumerate() {
            let events = &mut placed[sessions.offsets[row]..sessions.offsets[row + 1]];
            // Log order already; stable, so that ties keep it.
            if !events.is_sorted_by_key(|&at| self.time[at as usize]) {
                events.sort_by_key(|&at| self.time[at as usize]);
            }
            let mut before = self.time[events[0] as usize];
            sessions.start.push(before);
            let mut closed = false;
            for &at in events.iter() {
                let at = at as usize;
                let template = self.template[at];
                sessions.events.push(template);
                sessions.gaps.push((self.time[at] - before) / 1000);
                sessions.lines.push(self.line[at]);
                before = self.time[at];
                closed |= closing.get(template as usize).copied().unwrap_or(false);
            }
            sessions.end.push(before);
            sessions.censored.push(!closed && log_end - before < idle);
            sessions.ids.push(String::from_utf8_lossy(self.keys.get(session)).into_owned());
        }
        let about = SessionSummary {
            lines: self.base,
            lines_without_session: self.without_session,
            sessions: sessions.ids.len() as u64,
            short_sessions: (all - order.len()) as u64,
            events: total as u64,
            censored: sessions.censored.iter().filter(|c| **c).count() as u64,
            steps_back: self.steps_back,
            first: self.span.map(|(first, _)| rfc3339(first)),
            last: self.span.map(|(_, last)| rfc3339(last)),
            files: self.files,
            ..SessionSummary::default()
        };
        (sessions, about)
    }
}

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

    /// Returns rows `from..to` as a table, in the columns of `sessions.parquet`.
    ///
    /// # Errors
    /// The columns do not fit together (a bug).
    pub fn frame(&self, from: usize, to: usize) -> anyhow::Result<DataFrame> {
        let base = self.offsets[from];
        let offsets: Vec<usize> = self.offsets[from..=to].iter().map(|o| o - base).collect();
        let span = base..self.offsets[to];
        let time = |name: &str, values: &[i64]| {
            Int64Chunked::from_slice(name.into(), values).into_datetime(TimeUnit::Microseconds, None).into_column()
        };
        Ok(DataFrame::new_infer_height(vec![
            Column::new("session_id".into(), &self.ids[from..to]),
            time("start", &self.start[from..to]),
            time("end", &self.end[from..to]),
            list_column::<UInt32Type>("events", &offsets, &self.events[span.clone()]),
            list_column::<Int64Type>("gaps", &offsets, &self.gaps[span.clone()]),
            list_column::<UInt64Type>("lines", &offsets, &self.lines[span]),
            BooleanChunked::from_slice("censored".into(), &self.censored[from..to]).into_column(),
        ])?)
    }

    /// Writes `sessions.parquet`, row group by row group, so that no second copy of everything is made.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let context = || format!("cannot write {}", path.display());
        let file = File::create(path).with_context(context)?;
        let schema = self.frame(0, 0)?.schema().clone();
        let writer = ParquetWriter::new(file).with_compression(ParquetCompression::Zstd(None)).set_parallel(false);
        let mut writer: BatchedWriter<File> = anyhow::Context::with_context(writer.batched(&schema), context)?;
        for from in (0..self.len()).step_by(ROW_GROUP) {
            let frame = self.frame(from, (from + ROW_GROUP).min(self.len()))?;
            anyhow::Context::with_context(writer.write_batch(&frame), context)?;
        }
        anyhow::Context::with_context(writer.finish(), context)?;
        Ok(())
    }
}
