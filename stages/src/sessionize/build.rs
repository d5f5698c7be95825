//! Lines of all files, and the sessions they make.
//!
//! The lines are read twice. The first time counts the events of each session and finds its first time, which gives the
//! order of sessions, and so the place of each event in the table. The second time puts every event there. If there are
//! more events than fit in memory, the table is cut into ranges of sessions: events are written to a file for each range
//! as they come, and the ranges finished one after the other. Bytes do not depend on it, as row groups are never cut.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::path::Path;

use anyhow::Context as _;
use polars::prelude::{
    BooleanChunked, Column, DataFrame, Int64Chunked, Int64Type, IntoColumn, NewChunkedArray, TimeUnit, UInt32Type,
    UInt64Type,
};
use rayon::prelude::*;

use super::{FileStart, SessionSummary};
use crate::logs::format::NO_TIME;
use crate::logs::keys::Keys;
use crate::logs::rows::text;
use crate::support::parquet::{Field, Kind, Lists, Page, TableWriter};
use crate::support::table::list_column;
use crate::support::time::rfc3339;

/// Sessions a row group holds.
pub(super) const ROW_GROUP: usize = 1 << 15;

/// Events that are kept in memory: 20 bytes each, some 350 MB.
pub(super) const EVENTS: usize = 16 << 20;

/// Bytes of an event in a file: session, template, time, line.
const RECORD: usize = 24;

/// Some lines in order: 1-based numbers over all files, times, global templates, and global numbers of their sessions.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    /// Line numbers.
    pub(super) line: Vec<u64>,
    /// Microseconds since 1970 or [`NO_TIME`].
    pub(super) time: Vec<i64>,
    /// Template numbers.
    pub(super) template: Vec<u32>,
    /// Line i has `sessions[ends[i - 1]..ends[i]]`.
    pub(super) sessions: Vec<u32>,
    /// See `sessions`.
    pub(super) ends: Vec<u32>,
}

/// Where lines come from; read twice.
pub(super) trait Lines {
    /// Calls `take` with all lines in order. The first time neither line numbers nor templates are needed.
    ///
    /// # Errors
    /// The lines cannot be read, or `take` fails.
    fn each(&self, first: bool, take: &mut dyn FnMut(&Batch) -> anyhow::Result<()>) -> anyhow::Result<()>;
}

/// The files that lines come from, and the session keys in them.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// Session keys of all files.
    pub(super) keys: Keys,
    /// The files.
    pub(super) files: Vec<FileStart>,
    /// Lines of all files.
    pub(super) lines: u64,
}

impl Sources {
    /// Adds a file, or the next piece of one, with `lines` lines of every sort; returns how many lines come before it.
    pub(super) fn add(&mut self, path: &str, lines: u64) -> u64 {
        let before = self.lines;
        if self.files.last().is_none_or(|file| file.path != path) {
            self.files.push(FileStart { path: path.to_owned(), first_line: before + 1 });
        }
        self.lines += lines;
        before
    }
}

/// What makes sessions of events.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// By template number: whether it closes its session.
    pub(super) closing: Vec<bool>,
    /// Microseconds of silence after which a session counts as over.
    pub(super) idle: i64,
    /// Sessions with fewer events are left out.
    pub(super) min_events: usize,
    /// Events that are kept in memory.
    pub(super) events: usize,
}

/// What the first reading finds.
#[derive(Default)]
struct Count {
    events: Vec<u32>,
    /// Time of the first event; [`NO_TIME`] stands for the log's first time.
    first: Vec<i64>,
    without_session: u64,
    steps_back: u64,
    before: Option<i64>,
    span: Option<(i64, i64)>,
}

impl Count {
    fn take(&mut self, batch: &Batch) -> anyhow::Result<()> {
        let mut start = 0;
        for (&time, &end) in batch.time.iter().zip(&batch.ends) {
            let time = if time == NO_TIME {
                self.before.unwrap_or(NO_TIME)
            } else {
                self.steps_back += u64::from(self.before.is_some_and(|before| time < before));
                self.before = Some(time);
                let (first, last) = self.span.unwrap_or((time, time));
                self.span = Some((first.min(time), last.max(time)));
                time
            };
            let end = end as usize;
            self.without_session += u64::from(start == end);
            for &session in &batch.sessions[start..end] {
                let session = session as usize;
                self.events[session] = self.events[session].checked_add(1).context("a session has 4 billion events")?;
                self.first[session] = self.first[session].min(time);
            }
            start = end;
        }
        Ok(())
    }
}

/// The order of sessions.
struct Order {
    /// Session numbers in the order of the table.
    sessions: Vec<u32>,
    /// Rows by session number; `u32::MAX` for those that are left out.
    row: Vec<u32>,
    /// Where the events of each row start in the table, and where the last ends.
    offsets: Vec<usize>,
    start: i64,
    log_end: i64,
}

impl Order {
    fn of(count: &Count, keys: &Keys, min_events: usize) -> Self {
        // Lines before the first time have the first; a log without times starts in 1970.
        let start = count.span.map_or(0, |(first, _)| first);
        let first = |s: u32| Some(count.first[s as usize]).filter(|t| *t != NO_TIME).unwrap_or(start);
        let kept = |s: &u32| count.events[*s as usize] as usize >= min_events.max(1);
        let mut sessions: Vec<u32> = (0..keys.len() as u32).filter(kept).collect();
        sessions.sort_by_key(|&s| first(s));
        for same in sessions.chunk_by_mut(|&a, &b| first(a) == first(b)) {
            same.sort_by_cached_key(|&s| keys.get(s));
        }
        let mut row = vec![u32::MAX; keys.len()];
        let mut offsets = Vec::with_capacity(sessions.len() + 1);
        let mut total = 0;
        for (at, &session) in sessions.iter().enumerate() {
            row[session as usize] = at as u32;
            offsets.push(total);
            total += count.events[session as usize] as usize;
        }
        offsets.push(total);
        Self { sessions, row, offsets, start, log_end: count.span.map_or(0, |(_, last)| last) }
    }

    /// Cuts the rows into ranges of whole row groups with at most `most` events, if a row group has no more.
    fn ranges(&self, most: usize) -> Vec<(usize, usize)> {
        let rows = self.sessions.len();
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for from in (0..rows).step_by(ROW_GROUP) {
            let to = (from + ROW_GROUP).min(rows);
            match ranges.last_mut() {
                Some(range) if self.offsets[to] - self.offsets[range.0] <= most => range.1 = to,
                _ => ranges.push((from, to)),
            }
        }
        ranges
    }
}

/// The events of a range of rows, each at its place.
struct Placed {
    /// The first row, and where its events start in the table.
    from: usize,
    base: usize,
    next: Vec<u32>,
    time: Vec<i64>,
    line: Vec<u64>,
    template: Vec<u32>,
}

impl Placed {
    fn new(order: &Order, (from, to): (usize, usize)) -> anyhow::Result<Self> {
        let (base, events) = (order.offsets[from], order.offsets[to] - order.offsets[from]);
        u32::try_from(events).context("more than 4 billion events in a range of sessions")?;
        let next = order.offsets[from..to].iter().map(|o| (o - base) as u32).collect();
        Ok(Self { from, base, next, time: vec![0; events], line: vec![0; events], template: vec![0; events] })
    }

    #[inline]
    fn put(&mut self, row: usize, time: i64, line: u64, template: u32) {
        let next = &mut self.next[row - self.from];
        let at = *next as usize;
        *next += 1;
        (self.time[at], self.line[at], self.template[at]) = (time, line, template);
    }

    /// Makes sessions of rows `from..to`, which are in the range.
    fn sessions(&self, order: &Order, keys: &Keys, rules: &Rules, (from, to): (usize, usize)) -> Sessions {
        let events = order.offsets[from] - self.base..order.offsets[to] - self.base;
        let mut sessions = Sessions {
            offsets: order.offsets[from..=to].iter().map(|o| o - order.offsets[from]).collect(),
            events: self.template[events.clone()].to_vec(),
            lines: self.line[events.clone()].to_vec(),
            gaps: Vec::with_capacity(events.len()),
            ..Sessions::default()
        };
        let mut times = self.time[events].to_vec();
        let mut key = Vec::new();
        for row in from..to {
            let span = sessions.offsets[row - from]..sessions.offsets[row - from + 1];
            let times = &mut times[span.clone()];
            // Log order already; stable, so that ties keep it.
            if !times.is_sorted() {
                let mut all: Vec<(i64, u32, u64)> =
                    span.clone().zip(&*times).map(|(at, &t)| (t, sessions.events[at], sessions.lines[at])).collect();
                all.sort_by_key(|(time, ..)| *time);
                for ((at, time), event) in span.clone().zip(times.iter_mut()).zip(all) {
                    (*time, sessions.events[at], sessions.lines[at]) = event;
                }
            }
            let mut before = times[0];
            sessions.start.push(before);
            for &mut time in times {
                sessions.gaps.push((time - before) / 1000);
                before = time;
            }
            sessions.end.push(before);
            let closes = |template: &u32| rules.closing.get(*template as usize).copied().unwrap_or(false);
            let open = order.log_end - before < rules.idle;
            sessions.censored.push(open && !sessions.events[span].iter().any(closes));
            key.clear();
            keys.write(order.sessions[row], &mut key);
            sessions.ids.push(text(&key).into_owned());
        }
        sessions
    }
}

/// Row of the session, time, line and template of an event.
type Event = (u32, i64, u64, u32);

/// Calls `put` with the events of sessions that are kept, some at a time.
fn events(lines: &dyn Lines, order: &Order, put: &mut dyn FnMut(&[Event]) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut before = order.start;
    let mut some = Vec::new();
    lines.each(false, &mut |batch| {
        some.clear();
        let mut start = 0;
        for (i, &time) in batch.time.iter().enumerate() {
            if time != NO_TIME {
                before = time;
            }
            let end = batch.ends[i] as usize;
            for &session in &batch.sessions[start..end] {
                let row = order.row[session as usize];
                if row != u32::MAX {
                    some.push((row, before, batch.line[i], batch.template[i]));
                }
            }
            start = end;
        }
        put(&some)
    })
}

/// Makes the sessions and hands them on, in order: `take` gets those of whole row groups. `scratch` is a folder for files.
///
/// # Errors
/// The lines cannot be read, or `take` fails.
pub(super) fn group(
    lines: &dyn Lines,
    sources: &Sources,
    rules: &Rules,
    scratch: &Path,
    take: &mut dyn FnMut(Vec<Sessions>) -> anyhow::Result<()>,
) -> anyhow::Result<SessionSummary> {
    let keys = &sources.keys;
    let mut count = Count { events: vec![0; keys.len()], first: vec![i64::MAX; keys.len()], ..Count::default() };
    lines.each(true, &mut |batch| count.take(batch))?;
    let order = Order::of(&count, keys, rules.min_events);
    let rows = order.sessions.len();
    let all = count.events.iter().filter(|&&c| c > 0).count();
    (count.events, count.first) = (Vec::new(), Vec::new());

    let mut censored = 0;
    let mut finish = |placed: &Placed, (from, to): (usize, usize)| -> anyhow::Result<()> {
        let groups: Vec<usize> = (from..to).step_by(ROW_GROUP).collect();
        // As many at a time as there are threads: what is held stays small.
        for groups in groups.chunks(rayon::current_num_threads()) {
            let one = |&from: &usize| placed.sessions(&order, keys, rules, (from, (from + ROW_GROUP).min(to)));
            let made: Vec<Sessions> =
                if groups.len() == 1 { groups.iter().map(one).collect() } else { groups.par_iter().map(one).collect() };
            censored += made.iter().flat_map(|s| &s.censored).filter(|c| **c).count() as u64;
            take(made)?;
        }
        Ok(())
    };
    let ranges = order.ranges(rules.events);
    if let [range] = ranges[..] {
        let mut placed = Placed::new(&order, range)?;
        events(lines, &order, &mut |some| {
            some.iter().for_each(|&(row, time, line, template)| placed.put(row as usize, time, line, template));
            Ok(())
        })?;
        finish(&placed, range)?;
    } else if !ranges.is_empty() {
        let mut spill = Spill::create(scratch, &ranges)?;
        events(lines, &order, &mut |some| spill.put(some))?;
        for (number, range) in spill.finish()?.into_iter().enumerate() {
            let mut placed = Placed::new(&order, range)?;
            Spill::read(scratch, number, |row, time, line, template| placed.put(row, time, line, template))?;
            finish(&placed, range)?;
        }
    }
    Ok(SessionSummary {
        lines: sources.lines,
        lines_without_session: count.without_session,
        sessions: rows as u64,
        short_sessions: (all - rows) as u64,
        events: order.offsets[rows] as u64,
        censored,
        steps_back: count.steps_back,
        first: count.span.map(|(first, _)| rfc3339(first)),
        last: count.span.map(|(_, last)| rfc3339(last)),
        files: sources.files.clone(),
        ..SessionSummary::default()
    })
}

/// Events in files, one for each range of rows.
struct Spill {
    ranges: Vec<(usize, usize)>,
    files: Vec<BufWriter<File>>,
}

impl Spill {
    fn path(scratch: &Path, number: usize) -> std::path::PathBuf {
        scratch.join(format!("events.{number}"))
    }

    fn create(scratch: &Path, ranges: &[(usize, usize)]) -> anyhow::Result<Self> {
        let create = |number: usize| -> anyhow::Result<BufWriter<File>> {
            let path = Self::path(scratch, number);
            let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
            Ok(BufWriter::with_capacity(1 << 18, file))
        };
        let files = (0..ranges.len()).map(create).collect::<anyhow::Result<_>>()?;
        Ok(Self { ranges: ranges.to_vec(), files })
    }

    fn put(&mut self, some: &[Event]) -> anyhow::Result<()> {
        for &(row, time, line, template) in some {
            let number = self.ranges.partition_point(|(_, to)| *to <= row as usize);
            let mut record = [0; RECORD];
            record[..4].copy_from_slice(&row.to_le_bytes());
            record[4..8].copy_from_slice(&template.to_le_bytes());
            record[8..16].copy_from_slice(&time.to_le_bytes());
            record[16..].copy_from_slice(&line.to_le_bytes());
            self.files[number].write_all(&record).context("cannot write events to scratch")?;
        }
        Ok(())
    }

    fn finish(self) -> anyhow::Result<Vec<(usize, usize)>> {
        for mut file in self.files {
            file.flush().context("cannot write events to scratch")?;
        }
        Ok(self.ranges)
    }

    /// Reads the events of a range back and removes their file.
    fn read(scratch: &Path, number: usize, mut put: impl FnMut(usize, i64, u64, u32)) -> anyhow::Result<()> {
        let path = Self::path(scratch, number);
        let context = || format!("cannot read {}", path.display());
        let file = File::open(&path).with_context(context)?;
        let records = file.metadata().with_context(context)?.len() / RECORD as u64;
        let mut file = BufReader::with_capacity(1 << 18, file);
        let mut record = [0; RECORD];
        for _ in 0..records {
            file.read_exact(&mut record).with_context(context)?;
            let four = |at: usize| u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]]);
            let eight = |at: usize| u64::from(four(at)) | u64::from(four(at + 4)) << 32;
            put(four(0) as usize, eight(8) as i64, eight(16), four(4));
        }
        std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
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
        let mut out = SessionWriter::create(path, templates as usize)?;
        out.write(std::slice::from_ref(self))?;
        out.finish()
    }

    /// Encodes them as a row group of `sessions.parquet`; `templates` is the number of global templates.
    fn pages(&self, templates: usize) -> anyhow::Result<Vec<Page>> {
        let mut lists = Lists::default();
        self.offsets.windows(2).for_each(|pair| lists.push(pair[1] - pair[0]));
        let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(self.len()));
        for id in &self.ids {
            bytes.extend_from_slice(id.as_bytes());
            ends.push(u32::try_from(bytes.len()).context("session keys of more than 4 GB")?);
        }
        let numbers: Vec<u32> = (0..templates as u32).collect();
        Ok(vec![
            Page::of_texts(None, &ends, &bytes),
            Page::of_numbers(None, self.start.iter().copied()),
            Page::of_numbers(None, self.end.iter().copied()),
            Page::of_dictionary(Some(&lists), &self.events, templates).with_numbers(&numbers),
            Page::of_numbers(Some(&lists), self.gaps.iter().copied()),
            Page::of_numbers(Some(&lists), self.lines.iter().map(|&l| l as i64)),
            Page::of_flags(&self.censored),
        ])
    }
}

/// Writes `sessions.parquet`.
pub(super) struct SessionWriter {
    out: TableWriter,
    templates: usize,
}

impl SessionWriter {
    /// Creates the file; `templates` is the number of global templates.
    ///
    /// # Errors
    /// The file cannot be created.
    pub(super) fn create(path: &Path, templates: usize) -> anyhow::Result<Self> {
        let fields = [
            Field::one("session_id", Kind::Text),
            Field::one("start", Kind::Micros),
            Field::one("end", Kind::Micros),
            Field::list("events", Kind::U32),
            Field::list("gaps", Kind::I64),
            Field::list("lines", Kind::U64),
            Field::one("censored", Kind::Flag),
        ];
        Ok(Self { out: TableWriter::create(path, &fields)?, templates })
    }

    /// Writes row groups.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn write(&mut self, groups: &[Sessions]) -> anyhow::Result<()> {
        let encode = |sessions: &Sessions| sessions.pages(self.templates);
        let encoded: Vec<anyhow::Result<Vec<Page>>> = if groups.len() == 1 {
            groups.iter().map(encode).collect()
        } else {
            groups.par_iter().map(encode).collect()
        };
        for (sessions, pages) in groups.iter().zip(encoded) {
            self.out.write(sessions.len(), &pages?)?;
        }
        Ok(())
    }

    /// Completes the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        self.out.finish()
    }
}
