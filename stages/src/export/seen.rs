//! Sessions event by event: when templates were seen, and the lines of alerts.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, ensure};
use polars::prelude::{
    DataFrame, DataType, Int64Type, ParquetReader, SerReader as _, TimeUnit, UInt32Type, UInt64Type,
};
use serde::Deserialize;

use crate::support::table;

/// Most lines kept of an alert: those that stand out, and its first ones.
const MOST_LINES: usize = 200;

/// A template and when it was seen.
#[derive(Clone, Debug)]
pub(super) struct TemplateRow {
    pub event_id: String,
    pub text: String,
    pub events: i64,
    pub sessions: i64,
    pub first_seen: Option<i64>,
    pub last_seen: Option<i64>,
    /// Whether a training session has it.
    pub in_training: bool,
}

/// Sessions read at a time: memory is that of so many, not of all.
const SLICE: usize = 1 << 16;

/// Some sessions of `sessions.parquet` with all their events.
pub(super) struct Sessions {
    /// Number of the first one in the table.
    pub first: usize,
    start: Vec<Option<i64>>,
    offsets: Vec<usize>,
    events: Vec<u32>,
    /// Milliseconds since the event before.
    gaps: Vec<i64>,
    /// Line numbers over all files; empty where the table has none.
    lines: Vec<u64>,
}

impl Sessions {
    /// Reads the table, some sessions at a time; returns how many there are.
    ///
    /// # Errors
    /// The file cannot be read or is none, or `take` fails.
    pub(super) fn each(
        path: &Path,
        with_lines: bool,
        mut take: impl FnMut(&Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<usize> {
        let mut columns = vec!["start".to_owned(), "events".to_owned(), "gaps".to_owned()];
        if with_lines {
            columns.extend(table::present(path, &["lines"])?.into_iter().map(str::to_owned));
        }
        let mut first = 0;
        loop {
            let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
            let reader = ParquetReader::new(file).with_columns(Some(columns.clone())).with_slice(Some((first, SLICE)));
            let mut frame = reader.finish().with_context(|| format!("cannot read {}", path.display()))?;
            frame.rechunk_mut();
            let some = Self::of_frame(&frame, first).with_context(|| path.display().to_string())?;
            if some.len() > 0 {
                take(&some)?;
            }
            first += some.len();
            if some.len() < SLICE {
                return Ok(first);
            }
        }
    }

    fn of_frame(frame: &DataFrame, first: usize) -> anyhow::Result<Self> {
        let (offsets, events) = table::lists::<UInt32Type>(frame, "events")?;
        let (_, gaps) = table::lists::<Int64Type>(frame, "gaps")?;
        ensure!(gaps.len() == events.len(), "events and gaps differ in length");
        let lines = match frame.column("lines") {
            Ok(_) => table::lists::<UInt64Type>(frame, "lines")?.1,
            Err(_) => Vec::new(),
        };
        ensure!(lines.is_empty() || lines.len() == events.len(), "events and lines differ in length");
        let start = frame.column("start")?.cast(&DataType::Datetime(TimeUnit::Microseconds, None))?;
        let start = start.cast(&DataType::Int64)?.i64()?.iter().collect();
        Ok(Self { first, start, offsets, events, gaps, lines })
    }

    /// How many these are.
    pub(super) fn len(&self) -> usize {
        self.start.len()
    }

    /// The lines of a session as JSON, in order: `[[milliseconds since its start, template, file, line, why it stands out],…]`.
    /// `session` is its number in the table, `odd` are numbers of events that stand out.
    pub(super) fn lines_of(
        &self,
        session: usize,
        names: &[(String, String)],
        files: &Files,
        odd: &BTreeMap<u32, &str>,
    ) -> String {
        let session = session - self.first;
        let events = self.offsets[session]..self.offsets[session + 1];
        let mut spare = MOST_LINES.saturating_sub(odd.len());
        let (mut at, mut out) = (0, String::from("["));
        for (number, i) in events.enumerate() {
            at += self.gaps[i];
            let why = u32::try_from(number).ok().and_then(|number| odd.get(&number));
            if why.is_none() {
                if spare == 0 {
                    continue;
                }
                spare -= 1;
            }
            let template = names.get(self.events[i] as usize).map(|(id, _)| id.as_str());
            let (file, line) = self.lines.get(i).map_or((None, None), |line| {
                let (file, line) = files.place(*line);
                (Some(file), Some(line))
            });
            let entry = serde_json::json!([at, template, file, line, why]);
            if out.len() > 1 {
                out.push(',');
            }
            out.push_str(&entry.to_string());
        }
        out.push(']');
        out
    }
}

/// Templates with what was seen of them so far.
pub(super) struct Seen {
    rows: Vec<TemplateRow>,
    last_session: Vec<usize>,
}

impl Seen {
    /// Begins with ids and texts, by number.
    pub(super) fn new(names: &[(String, String)]) -> Self {
        let fresh = |(event_id, text): &(String, String)| TemplateRow {
            event_id: event_id.clone(),
            text: text.clone(),
            events: 0,
            sessions: 0,
            first_seen: None,
            last_seen: None,
            in_training: false,
        };
        Self { rows: names.iter().map(fresh).collect(), last_session: vec![usize::MAX; names.len()] }
    }

    /// Counts the events of some sessions; `training` says on which ones models were fitted.
    ///
    /// # Errors
    /// A session has a template that the table lacks.
    pub(super) fn add(&mut self, some: &Sessions, training: impl Fn(usize) -> bool) -> anyhow::Result<()> {
        for (i, start) in some.start.iter().enumerate() {
            let session = some.first + i;
            let training = training(session);
            let mut at = *start;
            for k in some.offsets[i]..some.offsets[i + 1] {
                at = at.map(|t| t + some.gaps[k] * 1000);
                let number = some.events[k] as usize;
                let row = self.rows.get_mut(number);
                let row =
                    row.with_context(|| format!("session {session} has template {number}, which templates.csv lacks"))?;
                row.events += 1;
                row.in_training |= training;
                if at.is_some() && (row.first_seen.is_none() || at < row.first_seen) {
                    row.first_seen = at;
                }
                row.last_seen = row.last_seen.max(at);
                if self.last_session[number] != session {
                    self.last_session[number] = session;
                    row.sessions += 1;
                }
            }
        }
        Ok(())
    }

    /// Those that were seen.
    pub(super) fn rows(mut self) -> Vec<TemplateRow> {
        self.rows.retain(|row| row.events > 0);
        self.rows
    }
}

/// Reads ids and texts of templates, by number.
///
/// # Errors
/// The file cannot be read or is none.
pub(super) fn names(path: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let place = || format!("in {}", path.display());
    let mut reader = csv::Reader::from_path(path).with_context(place)?;
    let header = reader.headers().with_context(place)?.clone();
    let column = |name: &str| {
        header.iter().position(|h| h == name).with_context(|| format!("{}: no column `{name}`", path.display()))
    };
    let (id, text) = (column("event_id")?, column("text")?);
    reader
        .records()
        .map(|record| {
            let record = record.with_context(place)?;
            Ok((record[id].to_owned(), record[text].to_owned()))
        })
        .collect()
}

/// Where the lines of each file start in the numbering over all.
#[derive(Clone, Debug, Default)]
pub(super) struct Files(Vec<FileStart>);

#[derive(Clone, Debug, Deserialize)]
struct FileStart {
    path: String,
    first_line: u64,
}

impl Files {
    /// Reads `sessions.json`.
    ///
    /// # Errors
    /// The file cannot be read or is none.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Summary {
            #[serde(default)]
            files: Vec<FileStart>,
        }
        let text = std::fs::read(path).with_context(|| format!("cannot open {}", path.display()))?;
        let summary: Summary =
            serde_json::from_slice(&text).with_context(|| format!("{} is no sessions.json", path.display()))?;
        Ok(Self(summary.files))
    }

    /// File and number in it of a line; without files they are all one, without a name.
    fn place(&self, line: u64) -> (&str, u64) {
        let at = self.0.partition_point(|file| file.first_line <= line);
        match at.checked_sub(1).and_then(|at| self.0.get(at)) {
            Some(start) => (&start.path, line - start.first_line + 1),
            None => ("", line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> (Sessions, Vec<(String, String)>, Files) {
        let sessions = Sessions {
            first: 7,
            start: vec![Some(1_000_000), None],
            offsets: vec![0, 3, 4],
            events: vec![0, 1, 1, 0],
            gaps: vec![0, 500, 250, 0],
            lines: vec![1, 2, 11, 12],
        };
        let name = |id: &str| (id.to_owned(), format!("text of {id}"));
        let start = |path: &str, first_line| FileStart { path: path.to_owned(), first_line };
        (sessions, vec![name("T1"), name("T\"2"), name("T3")], Files(vec![start("a.log", 1), start("b.log", 11)]))
    }

    #[test]
    fn templates_by_hand() {
        let (sessions, names, _) = two();
        let mut seen = Seen::new(&names);
        seen.add(&sessions, |session| session == 8).unwrap();
        let rows = seen.rows();
        let of = |row: &TemplateRow| (row.events, row.sessions, row.first_seen, row.last_seen, row.in_training);
        assert_eq!(rows.len(), 2);
        assert_eq!(of(&rows[0]), (2, 2, Some(1_000_000), Some(1_000_000), true));
        assert_eq!(of(&rows[1]), (2, 1, Some(1_500_000), Some(1_750_000), false));
        let error = Seen::new(&names[..1]).add(&sessions, |_| false).unwrap_err();
        assert!(error.to_string().contains("session 7 has template 1"), "{error}");
    }

    #[test]
    fn lines_by_hand_and_never_too_many() {
        let (sessions, names, files) = two();
        let odd = BTreeMap::from([(2, "extra")]);
        let text = sessions.lines_of(7, &names, &files, &odd);
        assert_eq!(text, r#"[[0,"T1","a.log",1,null],[500,"T\"2","a.log",2,null],[750,"T\"2","b.log",1,"extra"]]"#);
        let n = 1000;
        let long = Sessions {
            first: 0,
            start: vec![Some(0)],
            offsets: vec![0, n],
            events: vec![0; n],
            gaps: vec![1; n],
            lines: Vec::new(),
        };
        let lines: serde_json::Value =
            serde_json::from_str(&long.lines_of(0, &names, &files, &BTreeMap::from([(999, "last")]))).unwrap();
        let lines = lines.as_array().unwrap();
        assert_eq!(lines.len(), MOST_LINES);
        assert_eq!(lines[MOST_LINES - 1], serde_json::json!([1000, "T1", null, null, "last"]));
    }
}
