//! Some sessions of `sessions.parquet`, with the places of their lines. The table is read in slices, so that memory is
//! that of the sessions chosen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, ensure};
use polars::prelude::{DataFrame, DataType, ParquetReader, SerReader as _, UInt32Type, UInt64Type};
use serde::{Deserialize, Serialize};

use crate::sessionize::FileStart;
use crate::support::parquet::Table;
use crate::support::table::{lists, present, read_parquet};
use crate::support::traces::{Traces, Wanted, strings};

/// Sessions read at a time.
const SLICE: usize = 1 << 16;

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LineRef {
    /// Logical path of its file.
    pub file: String,
    /// 1-based number in the file.
    pub line: u64,
}

/// From line numbers over all files to those of each.
#[derive(Clone, Debug, Default)]
pub struct Files(Vec<FileStart>);

impl Files {
    /// Takes the files in reading order, as `sessions.json` has them.
    pub fn new(files: Vec<FileStart>) -> Self {
        Self(files)
    }

    /// Returns the place of a line; without files they are all one, without a name.
    pub fn place(&self, line: u64) -> LineRef {
        let at = self.0.partition_point(|file| file.first_line <= line);
        match at.checked_sub(1).and_then(|at| self.0.get(at)) {
            Some(start) => LineRef { file: start.path.clone(), line: line - start.first_line + 1 },
            None => LineRef { file: String::new(), line },
        }
    }
}

/// Sessions with the line of each event.
#[derive(Clone, Debug, Default)]
pub struct Chosen {
    /// The sessions; each is looked at when the log ends (or as the table says).
    pub traces: Traces,
    /// Line number over all files of each event; empty where the table has no lines.
    pub lines: Vec<u64>,
}

impl Chosen {
    /// Reads the sessions that `wanted` picks by row; rows are named in the order of the table.
    ///
    /// # Errors
    /// The file is missing or malformed.
    pub fn read(path: &Path, mut wanted: impl FnMut(usize) -> bool) -> anyhow::Result<Self> {
        let mut chosen = Self::default();
        chosen.traces.offsets.push(0);
        let mut horizon = None;
        let place = || format!("{} is not a sessions table", path.display());
        let mut take = |first: usize, traces: &Traces, lines: &[u64]| {
            horizon = horizon.max(traces.horizon());
            for row in (0..traces.len()).filter(|row| wanted(first + row)) {
                chosen.push(traces, row, lines);
            }
        };
        let table = Table::open(path)?;
        if table.is_own() {
            let mut first = 0;
            for group in 0..table.groups() {
                let traces = Traces::of_group(&table, group, Some(Wanted::Gaps)).with_context(place)?;
                let (_, lines) = table.read(group, table.column("lines")?)?.long_lists()?;
                ensure!(lines.len() == traces.events.len(), "{}: lines and events differ in length", path.display());
                take(first, &traces, &lines.iter().map(|&line| line as u64).collect::<Vec<_>>());
                first += traces.len();
            }
        } else {
            slices(path, &Self::columns(path)?, |first, frame| {
                take(first, &Traces::from_frame(frame).with_context(place)?, &lines(path, frame)?);
                Ok(())
            })?;
        }
        if chosen.traces.until.is_empty() {
            chosen.traces.until = vec![horizon.unwrap_or(0); chosen.traces.len()];
        }
        Ok(chosen)
    }

    /// Reads the session of an id; `None` where there is none.
    ///
    /// # Errors
    /// The file is missing or malformed.
    pub fn find(path: &Path, id: &str) -> anyhow::Result<Option<Self>> {
        let ends = read_parquet(path, Some(&["session_id", "end"]))?;
        let Some(row) = ends.column("session_id")?.str()?.iter().position(|other| other == Some(id)) else {
            return Ok(None);
        };
        let horizon = ends.column("end")?.cast(&DataType::Int64)?.i64()?.iter().flatten().max().unwrap_or(0);
        let frame = slice(path, &Self::columns(path)?, row, 1)?;
        let lines = lines(path, &frame)?;
        let mut found = Self::default();
        found.traces.offsets.push(0);
        found.push(&Traces::from_frame(&frame)?, 0, &lines);
        if found.traces.until.is_empty() {
            found.traces.until.push(horizon);
        }
        Ok(Some(found))
    }

    /// The columns to read of a table.
    fn columns(path: &Path) -> anyhow::Result<Vec<&'static str>> {
        let mut columns = Traces::COLUMNS.to_vec();
        columns.extend(present(path, &["until", "lines"])?);
        Ok(columns)
    }

    fn push(&mut self, from: &Traces, row: usize, lines: &[u64]) {
        let to = &mut self.traces;
        let events = from.offsets[row]..from.offsets[row + 1];
        to.ids.push(from.ids[row].clone());
        to.starts.push(from.starts[row]);
        to.ends.push(from.ends[row]);
        to.censored.push(from.censored[row]);
        to.until.extend(from.until.get(row));
        to.events.extend_from_slice(&from.events[events.clone()]);
        to.gaps.extend_from_slice(&from.gaps[events.clone()]);
        to.offsets.push(to.events.len());
        if !from.values.is_empty() {
            to.values.push(from.values.of(row));
        }
        if !lines.is_empty() {
            self.lines.extend_from_slice(&lines[events]);
        }
    }

    /// Number of sessions.
    pub fn len(&self) -> usize {
        self.traces.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.traces.is_empty()
    }

    /// The sessions of some rows.
    pub(super) fn range(&self, rows: Range<usize>) -> Self {
        let mut some = Self::default();
        some.traces.offsets.push(0);
        for row in rows {
            some.push(&self.traces, row, &self.lines);
        }
        some
    }

    /// Line numbers of a session, over all files; empty where the table has none.
    pub(super) fn lines_of(&self, row: usize) -> &[u64] {
        self.lines.get(self.traces.offsets[row]..self.traces.offsets[row + 1]).unwrap_or_default()
    }
}

/// Reads the events of the sessions of these ids, by id.
///
/// # Errors
/// The file is missing or malformed.
pub(super) fn events_of(path: &Path, ids: &BTreeSet<String>) -> anyhow::Result<BTreeMap<String, Vec<u32>>> {
    let mut found = BTreeMap::new();
    if ids.is_empty() {
        return Ok(found);
    }
    let table = Table::open(path)?;
    if table.is_own() {
        for group in 0..table.groups() {
            let (mut rows, mut row) = (Vec::new(), 0);
            table.read(group, table.column("session_id")?)?.texts(|text| {
                if let Some(id) = std::str::from_utf8(text).ok().and_then(|id| ids.get(id)) {
                    rows.push((row, id));
                }
                row += 1;
            })?;
            if rows.is_empty() {
                continue;
            }
            let (ends, events, dictionary) = table.read(group, table.column("events")?)?.lists()?;
            for (row, id) in rows {
                let span = if row == 0 { 0 } else { ends[row - 1] as usize }..ends[row] as usize;
                found.insert(id.clone(), events[span].iter().map(|&event| dictionary[event as usize]).collect());
            }
        }
        return Ok(found);
    }
    slices(path, &["session_id", "events"], |_, frame| {
        let (offsets, events) = lists::<UInt32Type>(frame, "events")?;
        for (row, id) in strings(frame, "session_id")?.into_iter().enumerate() {
            if ids.contains(&id) {
                found.insert(id, events[offsets[row]..offsets[row + 1]].to_vec());
            }
        }
        Ok(())
    })?;
    Ok(found)
}

/// Calls `take` with the rows of a table, some at a time, and the number of the first.
fn slices(
    path: &Path,
    columns: &[&str],
    mut take: impl FnMut(usize, &DataFrame) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut first = 0;
    loop {
        let frame = slice(path, columns, first, SLICE)?;
        if frame.height() > 0 {
            take(first, &frame)?;
        }
        first += frame.height();
        if frame.height() < SLICE {
            return Ok(());
        }
    }
}

/// Reads some rows of a table, or as many as there are.
fn slice(path: &Path, columns: &[&str], first: usize, rows: usize) -> anyhow::Result<DataFrame> {
    let columns: Vec<String> = columns.iter().map(|c| (*c).to_owned()).collect();
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let reader = ParquetReader::new(file).with_columns(Some(columns)).with_slice(Some((first, rows)));
    let mut frame = reader.finish().with_context(|| format!("cannot read {}", path.display()))?;
    frame.rechunk_mut();
    Ok(frame)
}

/// The line numbers of rows of a table; none where it has no such column.
fn lines(path: &Path, frame: &DataFrame) -> anyhow::Result<Vec<u64>> {
    if frame.column("lines").is_err() {
        return Ok(Vec::new());
    }
    let place = || format!("{} is not a sessions table", path.display());
    let (offsets, lines) = lists::<UInt64Type>(frame, "lines").with_context(place)?;
    let events = lists::<UInt32Type>(frame, "events").with_context(place)?.0;
    ensure!(offsets == events, "{}: lines and events differ in length", path.display());
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_numbered_in_their_files() {
        let start = |path: &str, first_line| FileStart { path: path.to_owned(), first_line };
        let files = Files::new(vec![start("a.log.1", 1), start("a.log", 11)]);
        let place = |line| {
            let found = files.place(line);
            (found.file, found.line)
        };
        assert_eq!(place(1), ("a.log.1".to_owned(), 1));
        assert_eq!(place(10), ("a.log.1".to_owned(), 10));
        assert_eq!(place(11), ("a.log".to_owned(), 1));
        assert_eq!(Files::default().place(7), LineRef { file: String::new(), line: 7 });
    }

    #[test]
    fn only_the_sessions_wanted_are_kept_and_the_end_of_the_log_is_that_of_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.parquet");
        let n = SLICE + 3;
        let sessions = crate::sessionize::Sessions {
            ids: (0..n).map(|i| format!("s{i}")).collect(),
            start: vec![0; n],
            end: (0..n as i64).collect(),
            censored: vec![false; n],
            offsets: (0..=n).map(|i| 2 * i).collect(),
            events: (0..2 * n as u32).map(|i| i % 5).collect(),
            gaps: vec![0; 2 * n],
            lines: (1..=2 * n as u64).collect(),
        };
        sessions.write(&path).unwrap();
        let wanted = [1, SLICE - 1, SLICE, SLICE + 1];
        let chosen = Chosen::read(&path, |row| wanted.contains(&row)).unwrap();
        assert_eq!(chosen.traces.ids, wanted.map(|row| format!("s{row}")));
        for (i, &row) in wanted.iter().enumerate() {
            let events: Vec<u32> = [2 * row, 2 * row + 1].map(|e| e as u32 % 5).to_vec();
            assert_eq!(chosen.traces.trace(i, 0).events, events);
            assert_eq!(chosen.lines_of(i), [2 * row as u64 + 1, 2 * row as u64 + 2]);
            assert_eq!(chosen.traces.until[i], n as i64 - 1);
        }
        let part = chosen.range(1..3);
        assert_eq!(
            (part.traces.ids, part.lines),
            (vec![chosen.traces.ids[1].clone(), chosen.traces.ids[2].clone()], chosen.lines[2..6].to_vec())
        );
        let found = Chosen::find(&path, &format!("s{SLICE}")).unwrap().unwrap();
        let alone = chosen.range(2..3);
        assert_eq!((found.traces, found.lines), (alone.traces, alone.lines));
        assert!(Chosen::find(&path, "none").unwrap().is_none());
        let ids = BTreeSet::from(["s0".to_owned(), "none".to_owned()]);
        assert_eq!(events_of(&path, &ids).unwrap(), BTreeMap::from([("s0".to_owned(), vec![0, 1])]));
    }
}
