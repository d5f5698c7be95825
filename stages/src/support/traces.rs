//! Sessions as the models see them: event numbers in order with gaps, and what belongs to each session by id.
//!
//! Reads `sessions.parquet`, `templates.csv`, `split.parquet` and `sessions.csv` (formats in `docs/artifacts.md`). Row i
//! is the same session in all of them; an order that differs is an error, never a silent join.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use polars::prelude::{DataFrame, DataType, Int64Type, StringChunked, TimeUnit, UInt32Type, UInt64Type};

use super::parquet::Table;
use super::table::{lists, present, read_parquet};
use super::turns::in_order;

/// All sessions of a table, in its order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traces {
    /// Session ids.
    pub ids: Vec<String>,
    /// First event, microseconds since 1970, UTC.
    pub starts: Vec<i64>,
    /// Last event, microseconds since 1970, UTC.
    pub ends: Vec<i64>,
    /// Session i has the events `offsets[i]..offsets[i + 1]`.
    pub offsets: Vec<usize>,
    /// Template numbers, all sessions one after the other.
    pub events: Vec<u32>,
    /// Milliseconds since the session's previous event; 0 at the first.
    pub gaps: Vec<i64>,
    /// Still open at the end of the input.
    pub censored: Vec<bool>,
    /// When each session is looked at, microseconds since 1970, UTC; empty: all at the end of the input.
    pub until: Vec<i64>,
    /// How many sessions each stands for; empty: one.
    pub weights: Vec<f64>,
    /// Values of wildcards in the lines of events, where features are made of them; no table of sessions has them.
    pub values: Values,
}

/// The value of a wildcard in the line of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// Number of the event in its session.
    pub event: u32,
    /// Which wildcard of which template; see [`crate::featurize::parameters`].
    pub source: u32,
    /// A number as bits of f32, or a hash.
    pub bits: u32,
}

/// Values of sessions, in order of their events; of no session where none are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// Where those of each session end.
    ends: Vec<usize>,
    all: Vec<Value>,
}

impl Values {
    /// Adds those of the next session.
    pub fn push(&mut self, values: &[Value]) {
        self.all.extend_from_slice(values);
        self.ends.push(self.all.len());
    }

    /// Those of a session.
    pub fn of(&self, session: usize) -> &[Value] {
        let Some(&end) = self.ends.get(session) else { return &[] };
        let start = if session == 0 { 0 } else { self.ends[session - 1] };
        &self.all[start..end]
    }

    /// Whether none are known of any session.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

/// The ids of sessions and their events: session i has `events[offsets[i]..offsets[i + 1]]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Events {
    /// Session ids.
    pub ids: Vec<String>,
    /// Where the events of each begin, and where those of the last end.
    pub offsets: Vec<usize>,
    /// Template numbers, all sessions one after the other.
    pub events: Vec<u32>,
}

impl Events {
    /// Reads ids and events of a sessions table, which needs no other columns. Works on the rayon pool it is called from.
    ///
    /// # Errors
    /// The file is missing or has other columns or types.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let place = || format!("{} is not a sessions table", path.display());
        if Table::open(path)?.is_own() {
            let Traces { ids, offsets, events, .. } = Traces::read_some(path, Some(Wanted::Events))?;
            return Ok(Self { ids, offsets, events });
        }
        let frame = read_parquet(path, Some(&["session_id", "events"]))?;
        let (offsets, events) = lists::<UInt32Type>(&frame, "events").with_context(place)?;
        Ok(Self { ids: strings(&frame, "session_id").with_context(place)?, offsets, events })
    }

    /// The events of a session.
    pub fn of(&self, row: usize) -> &[u32] {
        &self.events[self.offsets[row]..self.offsets[row + 1]]
    }
}

/// What of a session is read beside its id, times and whether it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Events.
    Events,
    /// Events and the gaps between them.
    Gaps,
}

/// One session: its events in order and the gap in milliseconds before each.
#[derive(Clone, Copy, Debug)]
pub struct Trace<'a> {
    /// Template numbers.
    pub events: &'a [u32],
    /// Milliseconds since the previous event; 0 at the first.
    pub gaps: &'a [i64],
    /// Still open at the end of the input.
    pub censored: bool,
    /// Milliseconds between the last event of the session and the last event of the input (or when it is looked at).
    pub silence: i64,
    /// Values of wildcards, numbered by the events of the whole session.
    pub values: &'a [Value],
}

impl Traces {
    /// Columns that [`Traces::from_frame`] needs.
    pub const COLUMNS: [&'static str; 6] = ["session_id", "start", "end", "events", "gaps", "censored"];

    /// Columns that a table may have.
    pub const OPTIONAL: [&'static str; 2] = ["until", "weight"];

    /// Reads a sessions table. Works on the rayon pool it is called from.
    ///
    /// # Errors
    /// The file is missing or has other columns or types.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        Self::read_some(path, Some(Wanted::Gaps))
    }

    /// Reads a sessions table without events and gaps (`offsets` stay empty), or with events alone. Works on the rayon pool it is
    /// called from.
    ///
    /// # Errors
    /// As [`Traces::read`].
    pub fn read_some(path: &Path, wanted: Option<Wanted>) -> anyhow::Result<Self> {
        let place = || format!("{} is not a sessions table", path.display());
        let table = Table::open(path)?;
        // Tables with further columns are written by other means.
        if table.is_own() {
            return Self::from_table(&table, wanted).with_context(place);
        }
        let mut columns = Self::COLUMNS.to_vec();
        columns.extend(present(path, &Self::OPTIONAL)?);
        let frame = read_parquet(path, Some(&columns))?;
        let mut traces = Self::from_frame(&frame).with_context(place)?;
        if wanted.is_none() {
            (traces.offsets, traces.events) = (Vec::new(), Vec::new());
        }
        if wanted != Some(Wanted::Gaps) {
            traces.gaps = Vec::new();
        }
        Ok(traces)
    }

    fn from_table(table: &Table, wanted: Option<Wanted>) -> anyhow::Result<Self> {
        let mut all = Self::default();
        if wanted.is_some() {
            all.offsets.push(0);
        }
        let read = |group: usize| Self::of_group(table, group, wanted);
        in_order(table.groups(), read, |_, mut part: Self| {
            let base = all.events.len();
            all.offsets.extend(part.offsets.iter().skip(1).map(|end| base + end));
            all.ids.append(&mut part.ids);
            all.starts.append(&mut part.starts);
            all.ends.append(&mut part.ends);
            all.censored.append(&mut part.censored);
            all.events.append(&mut part.events);
            all.gaps.append(&mut part.gaps);
            Ok(())
        })?;
        Ok(all)
    }

    /// Reads a row group of a table of [`crate::support::parquet`].
    ///
    /// # Errors
    /// A column is missing or damaged.
    pub fn of_group(table: &Table, group: usize, wanted: Option<Wanted>) -> anyhow::Result<Self> {
        let read = |name: &str| table.read(group, table.column(name)?);
        let mut part = Self::default();
        read("session_id")?.texts(|text| part.ids.push(String::from_utf8_lossy(text).into_owned()))?;
        read("start")?.numbers(|time| part.starts.push(time))?;
        read("end")?.numbers(|time| part.ends.push(time))?;
        read("censored")?.flags(|open| part.censored.push(open))?;
        let n = part.ids.len();
        ensure!([part.starts.len(), part.ends.len(), part.censored.len()] == [n; 3], "columns differ in length");
        let Some(wanted) = wanted else { return Ok(part) };
        let (ends, mut events, dictionary) = read("events")?.lists()?;
        events.iter_mut().for_each(|event| *event = dictionary[*event as usize]);
        ensure!(ends.len() == n, "columns differ in length");
        if wanted == Wanted::Gaps {
            let (of_gaps, gaps) = read("gaps")?.long_lists()?;
            ensure!(ends == of_gaps, "columns `events` and `gaps` differ in length");
            part.gaps = gaps;
        }
        part.offsets = std::iter::once(0).chain(ends.into_iter().map(|end| end as usize)).collect();
        part.events = events;
        Ok(part)
    }

    /// Takes a frame in the format of `sessions.parquet`; further columns are ignored.
    ///
    /// # Errors
    /// A column is missing, has another type or holds nulls.
    pub fn from_frame(frame: &DataFrame) -> anyhow::Result<Self> {
        let (offsets, events) = lists::<UInt32Type>(frame, "events")?;
        let (gap_offsets, gaps) = lists::<Int64Type>(frame, "gaps")?;
        ensure!(offsets == gap_offsets, "columns `events` and `gaps` differ in length");
        Ok(Self {
            ids: strings(frame, "session_id")?,
            starts: times(frame, "start")?,
            ends: times(frame, "end")?,
            censored: frame
                .column("censored")?
                .bool()?
                .iter()
                .map(|v| v.context("null in column `censored`"))
                .collect::<anyhow::Result<_>>()?,
            until: if frame.column("until").is_ok() { times(frame, "until")? } else { Vec::new() },
            weights: match frame.column("weight") {
                Ok(column) => column
                    .f64()?
                    .iter()
                    .map(|w| w.filter(|w| w.is_finite() && *w > 0.0).context("a `weight` is not above 0"))
                    .collect::<anyhow::Result<_>>()?,
                Err(_) => Vec::new(),
            },
            offsets,
            events,
            gaps,
            values: Values::default(),
        })
    }

    /// Number of sessions.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are no sessions.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Returns the time of the last event of all sessions, microseconds; `None` without sessions.
    pub fn horizon(&self) -> Option<i64> {
        self.ends.iter().copied().max()
    }

    /// Copies of the given sessions as they would have looked had the log ended `shares` of their duration after their
    /// start (see [`Trace::censored_at`]), and the session each came from. Equal copies of a session are left out.
    pub fn censored_copies(&self, sessions: &[usize], shares: &[f64]) -> (Self, Vec<usize>) {
        let mut copies = Self { offsets: vec![0], ..Self::default() };
        let mut origin = Vec::new();
        for &row in sessions {
            let mut length = 0;
            for &share in shares {
                let Some(cut) = self.trace(row, 0).censored_at(share).filter(|c| c.events.len() > length) else {
                    continue;
                };
                length = cut.events.len();
                copies.ids.push(self.ids[row].clone());
                copies.starts.push(self.starts[row]);
                copies.ends.push(self.starts[row] + cut.gaps.iter().sum::<i64>() * 1000);
                copies.events.extend_from_slice(cut.events);
                copies.gaps.extend_from_slice(cut.gaps);
                copies.offsets.push(copies.events.len());
                copies.censored.push(true);
                if !self.values.is_empty() {
                    copies.values.push(cut.values);
                }
                origin.push(row);
            }
        }
        (copies, origin)
    }

    /// Returns session `row`; `horizon` is [`Traces::horizon`].
    ///
    /// # Panics
    /// There is no such row.
    pub fn trace(&self, row: usize, horizon: i64) -> Trace<'_> {
        let range = self.offsets[row]..self.offsets[row + 1];
        let horizon = self.until.get(row).copied().unwrap_or(horizon);
        Trace {
            events: &self.events[range.clone()],
            gaps: &self.gaps[range],
            censored: self.censored[row],
            silence: (horizon - self.ends[row]).max(0) / 1000,
            values: self.values.of(row),
        }
    }
}

impl<'a> Trace<'a> {
    /// The session as it would have looked had the log ended `share` of its duration after its start (at least one
    /// event stays); `None` if that cuts nothing off.
    pub fn censored_at(&self, share: f64) -> Option<Trace<'a>> {
        let total: i64 = self.gaps.iter().sum();
        let horizon = total as f64 * share;
        let mut at = 0.0;
        for (i, &gap) in self.gaps.iter().enumerate() {
            at += gap as f64;
            if at > horizon && i > 0 {
                let silence = (horizon - (at - gap as f64)).max(0.0) as i64;
                let values = self.values_of(0, i);
                return Some(Trace {
                    events: &self.events[..i],
                    gaps: &self.gaps[..i],
                    censored: true,
                    silence,
                    values,
                });
            }
        }
        None
    }

    /// Part of the session: events `from..to`. Only the last part is censored.
    pub fn part(&self, from: usize, to: usize) -> Trace<'a> {
        let last = to == self.events.len();
        Trace {
            events: &self.events[from..to],
            gaps: &self.gaps[from..to],
            censored: self.censored && last,
            silence: if last { self.silence } else { 0 },
            values: self.values_of(from, to),
        }
    }

    /// Values in the events `from..to`.
    fn values_of(&self, from: usize, to: usize) -> &'a [Value] {
        let at = |event: usize| self.values.partition_point(|value| (value.event as usize) < event);
        &self.values[at(from)..at(to)]
    }
}

/// Reads the line number over all files of each event of a sessions table, all sessions one after the other.
///
/// # Errors
/// The file is missing, or has no lines.
pub fn read_lines(path: &Path) -> anyhow::Result<Vec<u64>> {
    let frame = read_parquet(path, Some(&["lines"]))?;
    Ok(lists::<UInt64Type>(&frame, "lines").with_context(|| format!("{} has no lines", path.display()))?.1)
}

/// Where a session belongs when models are fitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// Models are fitted on it.
    Train,
    /// Rounds, references and thresholds are chosen on it.
    Validation,
    /// Only reported on.
    Test,
    /// Left out.
    Unused,
}

impl Fold {
    /// The name used in `split.parquet`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
            Self::Unused => "unused",
        }
    }
}

/// The split: fold and cross-fitting block of each session.
#[derive(Clone, Debug, Default)]
pub struct Split {
    /// Fold by row.
    pub folds: Vec<Fold>,
    /// Cross-fitting block by row; only means something in train.
    pub blocks: Vec<u32>,
}

/// Reads `split.parquet` for the given sessions, in their order.
///
/// # Errors
/// The file is missing, names other sessions or an unknown fold.
pub fn read_split(path: &Path, ids: &[String]) -> anyhow::Result<Split> {
    let frame = read_parquet(path, Some(&["session_id", "fold", "block"]))?;
    same_sessions(ids, frame.column("session_id")?.str()?, path)?;
    let folds = frame.column("fold")?.str()?.iter().enumerate().map(|(row, name)| match name {
        Some("train") => Ok(Fold::Train),
        Some("validation") => Ok(Fold::Validation),
        Some("test") => Ok(Fold::Test),
        Some("unused") => Ok(Fold::Unused),
        other => bail!("{}: row {row}: unknown fold {other:?}", path.display()),
    });
    let blocks = frame.column("block")?.cast(&DataType::UInt32)?;
    Ok(Split {
        folds: folds.collect::<anyhow::Result<_>>()?,
        blocks: blocks.u32()?.iter().map(|b| b.unwrap_or(0)).collect(),
    })
}

/// Reads the labels of `sessions.csv` for the given sessions, in their order; `None` is unknown.
///
/// # Errors
/// The file is missing, names other sessions or holds a label other than `0`, `1` and nothing.
pub fn read_labels(path: &Path, ids: &[String]) -> anyhow::Result<Vec<Option<bool>>> {
    let mut reader = csv::Reader::from_path(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut labels = Vec::with_capacity(ids.len());
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).with_context(|| format!("cannot read {}", path.display()))? {
        let row = labels.len();
        ensure!(
            record.get(0) == ids.get(row).map(String::as_str),
            "{}, line {}: session `{}`, but the sessions table has `{}` there (both must be in one order)",
            path.display(),
            row + 2,
            record.get(0).unwrap_or_default(),
            ids.get(row).map_or("no more sessions", String::as_str)
        );
        labels.push(match record.get(1).unwrap_or_default() {
            "0" => Some(false),
            "1" => Some(true),
            "" => None,
            other => bail!("{}, line {}: label `{other}` is none of 0, 1 and empty", path.display(), row + 2),
        });
    }
    ensure!(
        labels.len() == ids.len(),
        "{} has {} sessions, the sessions table {}",
        path.display(),
        labels.len(),
        ids.len()
    );
    Ok(labels)
}

/// Reads `types.csv`: anomaly type by session id. Order and completeness do not matter.
///
/// # Errors
/// The file is missing or no CSV.
pub fn read_types(path: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut types = BTreeMap::new();
    for record in reader.records() {
        let record = record.with_context(|| format!("cannot read {}", path.display()))?;
        if let (Some(id), Some(kind)) = (record.get(0), record.get(1)) {
            types.insert(id.to_owned(), kind.to_owned());
        }
    }
    Ok(types)
}

/// The templates: row n is template number n.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Templates {
    /// Event ids for people (`T1`, `E5`), by number.
    pub event_ids: Vec<String>,
    /// Texts by number: what identifies a template across runs.
    pub texts: Vec<String>,
}

impl Templates {
    /// Reads `templates.csv`.
    ///
    /// # Errors
    /// The file is missing, lacks a column or is not numbered from 0 in order.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let mut reader = csv::Reader::from_path(path).with_context(|| format!("cannot open {}", path.display()))?;
        let header = reader.headers().with_context(|| format!("cannot read {}", path.display()))?.clone();
        let column = |name: &str| {
            let found = header.iter().position(|h| h == name);
            found.with_context(|| format!("{} has no column `{name}`", path.display()))
        };
        let (id, number, text) = (column("event_id")?, column("number")?, column("text")?);
        let mut templates = Self::default();
        for record in reader.records() {
            let record = record.with_context(|| format!("cannot read {}", path.display()))?;
            let expected = templates.texts.len();
            ensure!(
                record[number].parse() == Ok(expected),
                "{}, line {}: template number `{}` where {expected} is expected",
                path.display(),
                expected + 2,
                &record[number]
            );
            templates.event_ids.push(record[id].to_owned());
            templates.texts.push(record[text].to_owned());
        }
        Ok(templates)
    }

    /// Number of templates.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there are no templates.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }
}

/// Checks that a table's session column is exactly the given sessions in their order.
///
/// # Errors
/// It is not; the first difference is named.
pub fn same_sessions(ids: &[String], column: &StringChunked, path: &Path) -> anyhow::Result<()> {
    ensure!(column.len() == ids.len(), "{} has {} sessions, not {}", path.display(), column.len(), ids.len());
    for (row, (a, b)) in ids.iter().zip(column.iter()).enumerate() {
        ensure!(
            b == Some(a.as_str()),
            "{}, row {row}: session `{}`, but the sessions table has `{a}` there (both must be in one order)",
            path.display(),
            b.unwrap_or("null")
        );
    }
    Ok(())
}

/// Returns a string column without nulls.
///
/// # Errors
/// The column is missing, no string column or holds a null.
pub fn strings(frame: &DataFrame, column: &str) -> anyhow::Result<Vec<String>> {
    let values = frame.column(column)?.str()?;
    values.iter().map(|v| v.map(str::to_owned).with_context(|| format!("null in column `{column}`"))).collect()
}

/// Returns a time column in microseconds since 1970.
fn times(frame: &DataFrame, column: &str) -> anyhow::Result<Vec<i64>> {
    let series = frame.column(column)?.cast(&DataType::Datetime(TimeUnit::Microseconds, None))?;
    let series = series.cast(&DataType::Int64)?;
    series.i64()?.iter().map(|v| v.with_context(|| format!("null in column `{column}`"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_alike_by_both_ways_and_in_part() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sessions.parquet");
        let n = 5usize;
        let sessions = crate::sessionize::Sessions {
            ids: (0..n).map(|i| format!("s{i}")).collect(),
            start: (0..n as i64).map(|i| 1_000_000 * i).collect(),
            end: (0..n as i64).map(|i| 1_000_000 * i + 7000).collect(),
            censored: (0..n).map(|i| i % 3 == 1).collect(),
            offsets: vec![0, 2, 3, 3, 7, 8],
            events: vec![4, 0, 4, 1, 1, 2, 4, 0],
            gaps: vec![0, 5, 0, 0, 1, 2, 3, 0],
            lines: (1..=8).collect(),
        };
        sessions.write(&path).unwrap();
        let traces = Traces::read(&path).unwrap();
        assert_eq!(traces, Traces::from_frame(&read_parquet(&path, None).unwrap()).unwrap());
        assert_eq!((traces.trace(3, 0).events, traces.trace(3, 0).gaps), (&[1, 1, 2, 4][..], &[0, 1, 2, 3][..]));
        let alone = Events::read(&path).unwrap();
        assert_eq!((alone.of(3), alone.ids.len()), (&[1, 1, 2, 4][..], n));
        let events = Traces::read_some(&path, Some(Wanted::Events)).unwrap();
        assert_eq!(events, Traces { gaps: Vec::new(), ..traces.clone() });
        let heads = Traces::read_some(&path, None).unwrap();
        assert_eq!(heads, Traces { offsets: Vec::new(), events: Vec::new(), ..events.clone() });
        // A table by other means, with when sessions are looked at.
        let mut frame = read_parquet(&path, None).unwrap();
        frame.with_column(crate::fusion::time_column("until", &[9; 5]).unwrap()).unwrap();
        crate::support::table::write_parquet(&path, &mut frame).unwrap();
        let until = Traces { until: vec![9; 5], ..traces };
        assert_eq!(Traces::read(&path).unwrap(), until);
        assert_eq!(Events::read(&path).unwrap(), alone);
        let heads = Traces { offsets: Vec::new(), events: Vec::new(), gaps: Vec::new(), ..until };
        assert_eq!(Traces::read_some(&path, None).unwrap(), heads);
    }

    fn trace<'a>(events: &'a [u32], gaps: &'a [i64]) -> Trace<'a> {
        Trace { events, gaps, censored: false, silence: 9, values: &[] }
    }

    #[test]
    fn a_censored_copy_ends_where_the_log_would_have() {
        // Events at 0, 1, 3 and 10 seconds; half of the duration is 5 seconds.
        let (events, gaps) = ([4, 5, 6, 7], [0, 1000, 2000, 7000]);
        let cut = trace(&events, &gaps).censored_at(0.5).unwrap();
        assert_eq!((cut.events, cut.censored, cut.silence), (&[4, 5, 6][..], true, 2000));
        let first = trace(&events, &gaps).censored_at(0.0).unwrap();
        assert_eq!(first.events, &[4]);
        assert!(trace(&events, &gaps).censored_at(1.0).is_none());
        assert!(trace(&[1], &[0]).censored_at(0.5).is_none());
    }

    #[test]
    fn labels_must_follow_the_sessions() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sessions.csv");
        std::fs::write(&path, "session_id,label,timestamp\na,1,\nb,0,\nc,,\n").unwrap();
        let ids = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(read_labels(&path, &ids(&["a", "b", "c"])).unwrap(), [Some(true), Some(false), None]);
        let error = read_labels(&path, &ids(&["a", "c", "b"])).unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains("`b`"), "{error}");
        let error = read_labels(&path, &ids(&["a", "b", "c", "d"])).unwrap_err().to_string();
        assert!(error.contains("3 sessions"), "{error}");
        std::fs::write(&path, "session_id,label,timestamp\na,Normal,\n").unwrap();
        let error = read_labels(&path, &ids(&["a"])).unwrap_err().to_string();
        assert!(error.contains("`Normal`"), "{error}");
    }
}
