//! Scores and decisions of all sessions: the seven columns of `ensemble_sessions.csv`, read in pieces on all threads.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use chrono::{DateTime, NaiveDate};
use csv::ByteRecord;
use memchr::{memchr, memchr_iter};
use rayon::prelude::*;

/// One session: the seven columns, and its fold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SessionRow {
    pub session_id: String,
    /// Microseconds since 1970 UTC.
    pub timestamp: Option<i64>,
    pub p_lgbm: Option<f64>,
    pub z_ae: Option<f64>,
    pub fusion_score: f64,
    pub is_alert: bool,
    pub label: Option<bool>,
    pub fold: Option<&'static str>,
}

const COLUMNS: [&str; 7] = ["session_id", "timestamp", "p_lgbm", "z_ae", "fusion_score", "is_alert", "label"];

/// Reads the table.
///
/// # Errors
/// The file cannot be read, or a row is not as it should be; the row is named.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<SessionRow>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot open {}", path.display()))?;
    of_bytes(&bytes).with_context(|| path.display().to_string())
}

fn of_bytes(bytes: &[u8]) -> anyhow::Result<Vec<SessionRow>> {
    let start = memchr(b'\n', bytes).map_or(bytes.len(), |end| end + 1);
    let header: Vec<&[u8]> = bytes[..start].trim_ascii_end().split(|b| *b == b',').collect();
    ensure!(
        header.iter().eq(COLUMNS.map(str::as_bytes).iter()),
        "the columns must be {COLUMNS:?}, found `{}`",
        String::from_utf8_lossy(bytes[..start].trim_ascii_end())
    );
    let pieces = pieces(&bytes[start..]);
    // The number of the first row of each piece, for messages.
    let read: Vec<Vec<SessionRow>> =
        pieces.par_iter().map(|piece| of_piece(piece)).collect::<Result<_, (usize, anyhow::Error)>>().or_else(
            |_| {
                // Rare, so read again for the first bad row in order, which is the same at any number of threads.
                let mut before = 0;
                let mut good = Vec::new();
                for piece in &pieces {
                    match of_piece(piece) {
                        Ok(rows) => {
                            before += rows.len();
                            good.push(rows);
                        }
                        Err((row, error)) => return Err(error.context(format!("row {}", before + row + 1))),
                    }
                }
                Ok(good)
            },
        )?;
    let mut all = Vec::with_capacity(read.iter().map(Vec::len).sum());
    read.into_iter().for_each(|mut rows| all.append(&mut rows));
    Ok(all)
}

/// Cuts a table at line ends; one with quotes, where a line end may be part of a value, stays whole.
fn pieces(bytes: &[u8]) -> Vec<&[u8]> {
    const SIZE: usize = 1 << 22;
    if memchr(b'"', bytes).is_some() {
        return vec![bytes];
    }
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    while rest.len() > SIZE {
        let end = memchr(b'\n', &rest[SIZE..]).map_or(rest.len(), |end| SIZE + end + 1);
        let (piece, after) = rest.split_at(end);
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}

/// Reads some rows; an error comes with the number of its row in the piece.
fn of_piece(bytes: &[u8]) -> Result<Vec<SessionRow>, (usize, anyhow::Error)> {
    let mut rows = Vec::with_capacity(memchr_iter(b'\n', bytes).count() + 1);
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(bytes);
    let mut record = ByteRecord::new();
    loop {
        match reader.read_byte_record(&mut record) {
            Ok(false) => return Ok(rows),
            Ok(true) => rows.push(row(&record).map_err(|error| (rows.len(), error))?),
            Err(error) => return Err((rows.len(), error.into())),
        }
    }
}

fn row(record: &ByteRecord) -> anyhow::Result<SessionRow> {
    ensure!(record.len() == COLUMNS.len(), "{} columns instead of {}", record.len(), COLUMNS.len());
    let text = |i: usize| std::str::from_utf8(&record[i]).with_context(|| format!("{} is no UTF-8", COLUMNS[i]));
    let float = |i: usize| -> anyhow::Result<Option<f64>> {
        let text = text(i)?;
        if text.is_empty() {
            return Ok(None);
        }
        Ok(Some(text.parse().with_context(|| format!("{} is `{text}`, not a number", COLUMNS[i]))?))
    };
    let flag = |i: usize| match &record[i] {
        b"0" => Ok(Some(false)),
        b"1" => Ok(Some(true)),
        b"" => Ok(None),
        other => bail!("{} is `{}`, neither 0 nor 1", COLUMNS[i], String::from_utf8_lossy(other)),
    };
    Ok(SessionRow {
        session_id: text(0)?.to_owned(),
        timestamp: time(text(1)?)
            .with_context(|| format!("timestamp is `{}`, not a time", text(1).unwrap_or_default()))?,
        p_lgbm: float(2)?,
        z_ae: float(3)?,
        fusion_score: float(4)?.context("fusion_score is empty")?,
        is_alert: flag(5)?.context("is_alert is empty")?,
        label: flag(6)?,
        fold: None,
    })
}

/// Microseconds of a time as RFC 3339 has it; `None` where there is none.
pub(super) fn time(text: &str) -> anyhow::Result<Option<i64>> {
    if text.is_empty() {
        return Ok(None);
    }
    if let Some(micros) = plain(text.as_bytes()) {
        return Ok(Some(micros));
    }
    Ok(Some(DateTime::parse_from_rfc3339(text)?.timestamp_micros()))
}

/// The quick way for `2008-11-09T20:35:30Z`, which is how times of whole seconds are written.
fn plain(text: &[u8]) -> Option<i64> {
    if text.len() != 20 || text[19] != b'Z' || [text[4], text[7], text[10], text[13], text[16]] != *b"--T::" {
        return None;
    }
    let number = |from: usize, to: usize| {
        text[from..to].iter().try_fold(0, |n: u32, b| b.is_ascii_digit().then(|| n * 10 + u32::from(b - b'0')))
    };
    let date = NaiveDate::from_ymd_opt(i32::try_from(number(0, 4)?).ok()?, number(5, 7)?, number(8, 10)?)?;
    let time = date.and_hms_opt(number(11, 13)?, number(14, 16)?, number(17, 19)?)?;
    Some(time.and_utc().timestamp_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "session_id,timestamp,p_lgbm,z_ae,fusion_score,is_alert,label\n";

    #[test]
    fn rows_by_hand_and_in_pieces() {
        let text = format!("{HEADER}a,2008-11-09T20:35:30Z,0.5,-1.25,0.75,1,0\n\"b,\"\"c\"\"\",,,,0.1,0,\n");
        let rows = of_bytes(text.as_bytes()).unwrap();
        assert_eq!(rows[0].timestamp, Some(1_226_262_930_000_000));
        assert_eq!(
            (rows[0].p_lgbm, rows[0].z_ae, rows[0].is_alert, rows[0].label),
            (Some(0.5), Some(-1.25), true, Some(false))
        );
        assert_eq!(
            rows[1],
            SessionRow { session_id: "b,\"c\"".to_owned(), fusion_score: 0.1, ..SessionRow::default() }
        );
        let many: String = (0..200_000).map(|i| format!("blk_{i},,,,0.25,0,\n")).collect();
        let bytes = many.as_bytes();
        assert!(!pieces(bytes).is_empty() && pieces(bytes).concat() == bytes);
        let all = of_bytes(format!("{HEADER}{many}{many}").as_bytes()).unwrap();
        assert_eq!((all.len(), all[399_999].session_id.as_str()), (400_000, "blk_199999"));
    }

    #[test]
    fn the_first_bad_row_is_named() {
        let many: String = (0..300_000).map(|i| format!("blk_{i},,,,0.25,0,\n")).collect();
        let of =
            |bad: &str| format!("{:#}", of_bytes(format!("{HEADER}{many}{bad}\nx,,,,?,0,\n").as_bytes()).unwrap_err());
        assert!(of("a,,,,1e,0,").contains("row 300001: fusion_score is `1e`, not a number"), "{}", of("a,,,,1e,0,"));
        assert!(of("a,yesterday,,,1,0,").contains("timestamp is `yesterday`"));
        assert!(of("a,,,,1,2,").contains("is_alert is `2`, neither 0 nor 1"));
        assert!(of("a,,,,1,").contains("row 300001"));
        assert!(of_bytes(b"id,label\n").unwrap_err().to_string().contains("id,label"));
    }

    #[test]
    fn times_by_both_ways() {
        for text in
            ["2008-11-09T20:35:30Z", "2008-11-09T20:35:30.250Z", "2008-11-09T22:35:30+02:00", "1969-12-31T23:59:59Z"]
        {
            let slow = DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros();
            assert_eq!(time(text).unwrap(), Some(slow), "{text}");
        }
        for text in ["2008-13-09T20:35:30Z", "2008-11-09T24:35:30Z", "2008-11-09T20:35:3xZ", "2008-11-09 20:35:30"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
