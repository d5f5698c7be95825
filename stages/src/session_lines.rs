//! The raw lines of a session: from `sessions.parquet` to line numbers, from there to places in logs, from there to bytes.
//!
//! Of the tables only the columns and row groups that are needed are read, of a plain log only the lines themselves. A
//! compressed log has to be unpacked up to the last of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde::Serialize;

use crate::logs::read::LogReader;
use crate::logs::rows::text;
use crate::parse::places::{LinePlace, Places};
use crate::support::parquet::Table;
use crate::support::time::rfc3339;

/// Most bytes of an entry that are read.
const MOST: usize = 1 << 20;

/// A session as `sessions.parquet` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// Its key.
    pub session_id: String,
    /// Time of its first event, microseconds since 1970.
    pub start: i64,
    /// Global template numbers of its events, in order of time.
    pub events: Vec<u32>,
    /// Milliseconds between events, 0 for the first.
    pub gaps: Vec<i64>,
    /// 1-based line numbers of its events over all files.
    pub lines: Vec<u64>,
}

/// A line of a session, or the first of an entry of several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RawLine {
    /// Logical path of its file.
    pub file: String,
    /// 1-based number in its file.
    pub line: u64,
    /// Byte offset in the decompressed file.
    pub offset: u64,
    /// When (RFC 3339): its own time, or that of the line before it where it has none.
    pub time: String,
    /// Global number of its template.
    pub template: u32,
    /// What stands there, with the lines that continue it; bytes that are no UTF-8 as `\\xNN`.
    pub text: String,
}

/// Finds a session.
///
/// # Errors
/// The table cannot be read.
pub fn find_session(sessions: &Path, id: &str) -> anyhow::Result<Option<SessionRow>> {
    let table = Table::open(sessions)?;
    let (ids, events) = (table.column("session_id")?, table.column("events")?);
    let (start, gaps, lines) = (table.column("start")?, table.column("gaps")?, table.column("lines")?);
    for group in 0..table.groups() {
        let (mut row, mut at) = (None, 0);
        table.read(group, ids)?.texts(|text| {
            row = row.or((text == id.as_bytes()).then_some(at));
            at += 1;
        })?;
        let Some(row) = row else { continue };
        let mut starts = Vec::with_capacity(at);
        table.read(group, start)?.numbers(|time| starts.push(time))?;
        let (ends, events, templates) = table.read(group, events)?.lists()?;
        let (_, gaps) = table.read(group, gaps)?.long_lists()?;
        let (_, lines) = table.read(group, lines)?.long_lists()?;
        let span = row.checked_sub(1).map_or(0, |before| ends[before] as usize)..ends[row] as usize;
        ensure!(lines.len() == events.len() && gaps.len() == events.len(), "{} is damaged", sessions.display());
        return Ok(Some(SessionRow {
            session_id: id.to_owned(),
            start: starts[row],
            events: events[span.clone()].iter().map(|&event| templates[event as usize]).collect(),
            gaps: gaps[span.clone()].to_vec(),
            lines: lines[span].iter().map(|&line| line as u64).collect(),
        }));
    }
    Ok(None)
}

/// Returns the sessions whose ids are most like one that is not there, most alike first.
///
/// # Errors
/// The table cannot be read.
pub fn similar_sessions(sessions: &Path, id: &str, most: usize) -> anyhow::Result<Vec<String>> {
    let table = Table::open(sessions)?;
    let column = table.column("session_id")?;
    let mut best: Vec<(usize, String)> = Vec::new();
    for group in 0..table.groups() {
        table.read(group, column)?.texts(|other| {
            let other = String::from_utf8_lossy(other);
            let bound = if best.len() < most { usize::MAX } else { best[most - 1].0 };
            let contains = !id.is_empty() && other.contains(id);
            let distance = if contains { 0 } else { distance(id.as_bytes(), other.as_bytes(), bound) };
            if distance < bound {
                best.insert(best.partition_point(|(d, _)| *d <= distance), (distance, other.into_owned()));
                best.truncate(most);
            }
        })?;
    }
    // What shares less than half of its characters is no help.
    best.retain(|(distance, other)| 2 * distance <= other.len());
    Ok(best.into_iter().map(|(_, other)| other).collect())
}

/// Edit distance (Levenshtein), or some number at or above `bound`.
fn distance(a: &[u8], b: &[u8], bound: usize) -> usize {
    if a.len().abs_diff(b.len()) >= bound {
        return bound;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        let mut least = row[0];
        for (j, y) in b.iter().enumerate() {
            let value = (corner + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            corner = std::mem::replace(&mut row[j + 1], value);
            least = least.min(value);
        }
        if least >= bound {
            return bound;
        }
    }
    row[b.len()]
}

/// Reads the lines of a session, in its order. `logs` has the place of each log by its logical path.
///
/// # Errors
/// A log is missing, is shorter than when it was parsed, or has no line where one was.
pub fn raw_lines(
    session: &SessionRow,
    places: &Places,
    logs: &BTreeMap<String, PathBuf>,
) -> anyhow::Result<Vec<RawLine>> {
    let found = places.find(&session.lines)?;
    // An entry may go on in other files.
    let mut pieces: Vec<(usize, LinePlace)> = Vec::with_capacity(found.len());
    for (at, place) in found.iter().enumerate() {
        pieces.push((at, place.clone()));
        let more = place.more.iter().cloned();
        pieces.extend(more.map(|(file, lines)| (at, LinePlace { file, line: 1, lines, ..LinePlace::default() })));
    }
    let mut by_file: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (number, (_, place)) in pieces.iter().enumerate() {
        by_file.entry(&place.file).or_default().push(number);
    }
    let mut read: Vec<Vec<u8>> = vec![Vec::new(); pieces.len()];
    for (file, mut wanted) in by_file {
        let path = logs.get(file).with_context(|| format!("the place of the log `{file}` is not known"))?;
        wanted.sort_by_key(|&number| pieces[number].1.offset);
        let wanted: Vec<(usize, &LinePlace)> = wanted.into_iter().map(|number| (number, &pieces[number].1)).collect();
        let some = if is_compressed(path) { from_compressed(path, &wanted) } else { from_plain(path, &wanted) };
        for (number, bytes) in some.with_context(|| format!("cannot read the lines of {file}"))? {
            read[number] = bytes;
        }
    }
    let mut texts: Vec<Vec<u8>> = vec![Vec::new(); found.len()];
    for ((at, _), bytes) in pieces.iter().zip(read) {
        let text = &mut texts[*at];
        text.extend_from_slice(&bytes[..bytes.len().min(MOST - text.len().min(MOST))]);
    }
    let mut time = session.start;
    let mut lines = Vec::with_capacity(found.len());
    for (at, (place, text)) in found.into_iter().zip(texts).enumerate() {
        time += session.gaps[at] * 1000;
        let (LinePlace { file, line, offset, .. }, text) = (place, shown(&text));
        lines.push(RawLine { file, line, offset, time: rfc3339(time), template: session.events[at], text });
    }
    Ok(lines)
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "gz" || e == "zst" || e == "zstd")
}

/// The lines of an entry without the last line end, and without blank lines behind.
fn shown(bytes: &[u8]) -> String {
    let text = text(bytes);
    text.trim_end_matches(['\n', '\r']).to_owned()
}

type Found = Vec<(usize, Vec<u8>)>;

/// Seeks each line.
fn from_plain(path: &Path, wanted: &[(usize, &LinePlace)]) -> anyhow::Result<Found> {
    let context = || format!("cannot read {}", path.display());
    let mut file = BufReader::with_capacity(1 << 13, File::open(path).with_context(context)?);
    let mut found = Vec::with_capacity(wanted.len());
    for &(at, place) in wanted {
        // The line end before it says whether the log is still what was parsed.
        file.seek(SeekFrom::Start(place.offset.saturating_sub(1))).with_context(context)?;
        if place.offset > 0 {
            let before = file.fill_buf().with_context(context)?.first().copied();
            if before != Some(b'\n') {
                return Err(changed(place));
            }
            file.consume(1);
        }
        let mut bytes = Vec::new();
        let mut lines = place.lines;
        while lines > 0 && bytes.len() < MOST {
            let mut rest = std::io::Read::take(&mut file, (MOST - bytes.len()) as u64);
            if rest.read_until(b'\n', &mut bytes).with_context(context)? == 0 {
                break;
            }
            lines -= 1;
        }
        if bytes.is_empty() {
            return Err(changed(place));
        }
        found.push((at, bytes));
    }
    Ok(found)
}

/// Unpacks up to the last line.
fn from_compressed(path: &Path, wanted: &[(usize, &LinePlace)]) -> anyhow::Result<Found> {
    let mut reader = LogReader::open(path)?;
    let mut found: Found = Vec::with_capacity(wanted.len());
    let mut next = 0;
    // The entry that goes on in the next chunk, and how many of its lines are missing.
    let mut open: Option<u64> = None;
    let mut buffer = Vec::new();
    while next < wanted.len() || open.is_some() {
        let Some(chunk) = reader.next_chunk(buffer)? else { break };
        let mut from = 0;
        while next < wanted.len() || open.is_some() {
            let mut lines = match open.take() {
                Some(lines) => lines,
                None => {
                    let (at, place) = wanted[next];
                    let Some(start) = place.offset.checked_sub(chunk.offset).map(|s| s as usize) else {
                        return Err(changed(place));
                    };
                    if start >= chunk.bytes.len() {
                        break;
                    }
                    if start > 0 && chunk.bytes[start - 1] != b'\n' {
                        return Err(changed(place));
                    }
                    from = start;
                    next += 1;
                    found.push((at, Vec::new()));
                    place.lines
                }
            };
            let Some((_, bytes)) = found.last_mut() else { break };
            while lines > 0 && from < chunk.bytes.len() && bytes.len() < MOST {
                let end = memchr::memchr(b'\n', &chunk.bytes[from..]).map_or(chunk.bytes.len(), |at| from + at + 1);
                bytes.extend_from_slice(&chunk.bytes[from..end]);
                from = end;
                lines -= 1;
            }
            if lines > 0 && from == chunk.bytes.len() && bytes.len() < MOST {
                open = Some(lines);
                break;
            }
        }
        buffer = chunk.bytes;
    }
    if let Some((_, place)) = wanted.get(next) {
        return Err(changed(place));
    }
    Ok(found)
}

fn changed(place: &LinePlace) -> anyhow::Error {
    anyhow::anyhow!(
        "line {} is no longer at byte {}: the log was changed after it was parsed",
        place.line,
        place.offset
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use serde_json::json;

    use super::*;
    use crate::testing::run;

    const LOG: &str = "\
081109 203530 1 INFO a: open blk_1
081109 203532 1 INFO a: open blk_2
damaged
081109 203531 1 INFO a: look at blk_1 and blk_2
  continued

081109 203540 1 INFO a: b\u{fc}ro of blk_1\r
";

    /// Runs the stages over a log and returns the lines of a session of it, then of one of another place of the log.
    fn lines_of(name: &str, bytes: &[u8], with: &serde_json::Value, id: &str) -> anyhow::Result<Vec<RawLine>> {
        let dir = tempfile::tempdir()?;
        let log = dir.path().join(name);
        std::fs::write(&log, bytes)?;
        let parsed = run(&crate::parse::kind(), with, &[("log", "raw:x/a.log", &log)], &["events/"], 1)?;
        let events = parsed.path("events");
        let at = |slot, path| (slot, slot, path);
        let merged =
            run(&crate::templates::kind(), &json!({}), &[at("events", events.as_path())], &["templates", "map"], 1)?;
        let (templates, map) = (merged.path("templates"), merged.path("map"));
        let inputs = [at("events", events.as_path()), at("templates", &templates), at("map", &map)];
        let made = run(&crate::sessionize::kind(), &json!({}), &inputs, &["sessions", "summary"], 1)?;
        let session = find_session(&made.path("sessions"), id)?.context("no such session")?;
        let files = ["parse.json", "rows.parquet"].map(|file| (file.to_owned(), events.join(file)));
        let logs = BTreeMap::from([("raw:x/a.log".to_owned(), log)]);
        let (one, other) = (Places::open(&events)?, Places::of_files(&BTreeMap::from(files))?);
        let lines = raw_lines(&session, &one, &logs)?;
        assert_eq!(lines, raw_lines(&session, &other, &logs)?);
        Ok(lines)
    }

    fn short(lines: &[RawLine]) -> Vec<(u64, u64, &str, &str)> {
        lines.iter().map(|l| (l.line, l.offset, &l.time[11..19], l.text.as_str())).collect()
    }

    #[test]
    fn lines_of_a_session_are_read_from_their_places() {
        let zst = zstd::encode_all(LOG.as_bytes(), 1).unwrap();
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(LOG.as_bytes()).unwrap();
        for (name, bytes) in [("a.log", LOG.as_bytes()), ("a.log.zst", &zst), ("a.log.gz", &gz.finish().unwrap())] {
            let lines = lines_of(name, bytes, &json!({}), "blk_1").unwrap();
            assert_eq!(
                short(&lines),
                [
                    (1, 0, "20:35:30", "081109 203530 1 INFO a: open blk_1"),
                    (4, 78, "20:35:31", "081109 203531 1 INFO a: look at blk_1 and blk_2"),
                    (7, 139, "20:35:40", "081109 203540 1 INFO a: b\u{fc}ro of blk_1"),
                ],
                "{name}"
            );
            assert_eq!(lines[0].file, "raw:x/a.log");
            // In order of time; of several lines where the log has such entries.
            let lines = lines_of(name, bytes, &json!({"multiline": true}), "blk_2").unwrap();
            assert_eq!(
                short(&lines),
                [
                    (4, 78, "20:35:31", "081109 203531 1 INFO a: look at blk_1 and blk_2\n  continued"),
                    (2, 35, "20:35:32", "081109 203532 1 INFO a: open blk_2\ndamaged"),
                ],
                "{name}"
            );
        }
    }

    #[test]
    fn an_entry_is_read_on_in_the_files_behind() {
        let log = "2008-11-09 20:35:30 a: fine\n2008-11-09 20:35:31 a: failed\n at x\n\n at y\n at blk_1\n\n\n2008-11-09 20:35:32 a: blk_1\n rest";
        let with = json!({"format": "<Date> <Time> <Component>: <Content>", "timestamp_format": "%Y-%m-%d %H:%M:%S"});
        let ends: Vec<usize> = log.match_indices('\n').map(|(at, _)| at + 1).collect();
        let packed = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
        for cuts in [vec![], vec![2], vec![3, 4], vec![2, 5], vec![6, 7], (0..ends.len()).collect()] {
            let places: Vec<usize> = [0].into_iter().chain(cuts.iter().map(|&c| ends[c])).chain([log.len()]).collect();
            let dir = tempfile::tempdir().unwrap();
            for (rotated, zst) in [(true, false), (true, true), (false, false)] {
                // Each parsed alone, into one events directory; pieces are all of one file.
                let events = dir.path().join(format!("{rotated}{zst}"));
                let mut logs = BTreeMap::new();
                for (number, place) in places.windows(2).enumerate() {
                    let name = match rotated {
                        true => format!("raw:a.log.{}", places.len() - number),
                        false => format!("raw:a.log:{}-{}", place[0], place[1]),
                    };
                    let bytes = &log.as_bytes()[place[0]..place[1]];
                    let (path, bytes) = match zst {
                        true => (dir.path().join("in.zst"), packed(bytes)),
                        false => (dir.path().join("in"), bytes.to_vec()),
                    };
                    std::fs::write(&path, &bytes).unwrap();
                    let parsed = run(&crate::parse::kind(), &with, &[("log", &name, &path)], &["events/"], 1).unwrap();
                    std::fs::create_dir_all(&events).unwrap();
                    std::fs::rename(parsed.path("events"), events.join(number.to_string())).unwrap();
                    let kept = dir.path().join(format!("{number}{}", path.extension().map_or("", |_| ".zst")));
                    std::fs::rename(path, &kept).unwrap();
                    logs.insert(name, kept);
                }
                if !rotated {
                    let whole = dir.path().join("whole");
                    std::fs::write(&whole, log).unwrap();
                    logs.insert("raw:a.log".to_owned(), whole);
                }
                let session = SessionRow {
                    session_id: "blk_1".to_owned(),
                    start: 0,
                    events: vec![0; 3],
                    gaps: vec![0; 3],
                    lines: vec![1, 2, 9],
                };
                let lines = raw_lines(&session, &Places::open(&events).unwrap(), &logs).unwrap();
                let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
                assert_eq!(
                    texts,
                    [
                        "2008-11-09 20:35:30 a: fine",
                        "2008-11-09 20:35:31 a: failed\n at x\n\n at y\n at blk_1",
                        "2008-11-09 20:35:32 a: blk_1\n rest"
                    ],
                    "{cuts:?} {rotated} {zst}"
                );
            }
        }
    }

    #[test]
    fn a_log_that_was_changed_is_told() {
        let place = |offset| LinePlace { file: "a.log".to_owned(), line: 2, offset, lines: 1, more: Vec::new() };
        let dir = tempfile::tempdir().unwrap();
        let read = |name: &str, bytes: &[u8], offset: u64| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            let places = [(0, &place(offset))].map(|(at, place)| (at, place.clone()));
            let wanted: Vec<(usize, &LinePlace)> = places.iter().map(|(at, place)| (*at, place)).collect();
            if is_compressed(&path) { from_compressed(&path, &wanted) } else { from_plain(&path, &wanted) }
        };
        let zst = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
        for (name, bytes) in [("a.log", b"one\ntwo\n".to_vec()), ("a.log.zst", zst(b"one\ntwo\n"))] {
            assert_eq!(read(name, &bytes, 4).unwrap(), [(0, b"two\n".to_vec())]);
            for offset in [3, 8, 99] {
                let error = read(name, &bytes, offset).unwrap_err().to_string();
                assert!(error.contains("the log was changed after it was parsed"), "{name} {offset}: {error}");
            }
        }
    }

    #[test]
    fn sessions_with_like_names_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.parquet");
        let ids = ["blk_12", "blk_-1299", "zzz", "blk_13"].map(str::to_owned).to_vec();
        let four = vec![0; 4];
        let sessions = crate::sessionize::Sessions {
            ids,
            start: four.clone(),
            end: four.clone(),
            censored: vec![false; 4],
            offsets: vec![0, 1, 2, 3, 4],
            events: vec![0; 4],
            gaps: four,
            lines: vec![1, 2, 3, 4],
        };
        sessions.write(&path).unwrap();
        assert_eq!(similar_sessions(&path, "blk_14", 2).unwrap(), ["blk_12", "blk_13"]);
        assert_eq!(similar_sessions(&path, "1299", 3).unwrap(), ["blk_-1299"]);
        assert_eq!(similar_sessions(&path, "unlike", 3).unwrap(), [""; 0]);
        assert_eq!(find_session(&path, "zzz").unwrap().unwrap().lines, [3]);
        assert_eq!(find_session(&path, "zz").unwrap(), None);
        assert_eq!((distance(b"abc", b"abd", 9), distance(b"abc", b"", 2)), (1, 2));
    }
}
