//! Sessions as the models see them: event numbers in order with gaps, and what belongs to each session by id.
//!
//! Reads `sessions.parquet`, `templates.csv`, `split.parquet` and `sessions.csv` (formats in `docs/artifacts.md`). Row i
//! is the same session in all of them; an order that differs is an error, never a silent join.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use polars::prelude::{DataFrame, DataType, Int64Type, StringChunked, TimeUnit, UInt32Type};

use super::table::{lists, present, read_parquet};

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
}

impl Traces {
    /// Columns that [`Traces::from_frame`] needs.
    pub const COLUMNS: [&'static str; 6] = ["session_id", "start", "end", "events", "gaps", "censored"];

    /// Columns that a table may have.
    pub const OPTIONAL: [&'static str; 2] = ["until", "weight"];

    /// Reads a sessions table.
    ///
    /// # Errors
    /// The file is missing or has other columns or types.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let mut columns = Self::COLUMNS.to_vec();
        columns.extend(present(path, &Self::OPTIONAL)?);
        let frame = read_parquet(path, Some(&columns))?;
        Self::from_frame(&frame).with_context(|| format!("{} is not a sessions table", path.display()))
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
                return Some(Trace { events: &self.events[..i], gaps: &self.gaps[..i], censored: true, silence });
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
        }
    }
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

    fn trace<'a>(events: &'a [u32], gaps: &'a [i64]) -> Trace<'a> {
        Trace { events, gaps, censored: false, silence: 9 }
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
