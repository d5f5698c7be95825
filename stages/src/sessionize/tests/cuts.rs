//! What goes on from one part of a log to the next: the same sessions wherever the log is cut.

use super::*;
use crate::support::time::rfc3339;

/// Cuts a log at these bytes, as a stage that is mapped over pieces of it does.
fn pieces<'a>(log: &'a str, cuts: &[usize]) -> Vec<(String, &'a [u8])> {
    let places: Vec<usize> = [0].iter().chain(cuts).chain([&log.len()]).copied().collect();
    let piece = |c: &[usize]| (format!("raw:a.log:{}-{}", c[0], c[1]), &log.as_bytes()[c[0]..c[1]]);
    places.windows(2).map(piece).collect()
}

/// The same as files of a rotated log.
fn rotated<'a>(pieces: &[(String, &'a [u8])]) -> Vec<(String, &'a [u8])> {
    let name = |i: usize| if i == 0 { "raw:a.log".to_owned() } else { format!("raw:a.log.{i}") };
    pieces.iter().rev().enumerate().rev().map(|(i, (_, bytes))| (name(i), *bytes)).collect()
}

/// The sessions of logs that are read directly.
fn direct(files: &[(String, &[u8])], with: &Value, threads: usize) -> LogSessions {
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = files.iter().map(|(name, _)| dir.path().join(name.replace(':', "_"))).collect();
    for (path, (_, bytes)) in paths.iter().zip(files) {
        std::fs::write(path, bytes).unwrap();
    }
    let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    let params: ParseParams = serde_json::from_value(with.clone()).unwrap();
    let (templates, sessions) = (TemplatesParams::default(), SessionizeParams::default());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| sessions_from_logs(&paths, &params, &[], &templates, &sessions)).unwrap()
}

/// Makes the same of a log wherever it is cut, and returns its sessions.
fn cut_changes_nothing(log: &str, with: &Value, all_cuts: &[Vec<usize>]) -> (Sessions, SessionSummary) {
    let made = |files: &[(String, &[u8])], threads: usize| {
        let dir = mapped(files, with, threads);
        made_of(&dir.path().join("events"), threads)
    };
    let whole = [("raw:a.log".to_owned(), log.as_bytes())];
    let expected = made(&whole, 1);
    let path = tempfile::tempdir().unwrap();
    let path = path.path().join("sessions.parquet");
    std::fs::write(&path, &expected.0).unwrap();
    let sessions = read(&path);
    let counts = |about: &SessionSummary| SessionSummary { files: Vec::new(), ..about.clone() };
    for (cuts, threads) in all_cuts.iter().zip([1, 2].into_iter().cycle()) {
        let pieces = pieces(log, cuts);
        assert!(expected == made(&pieces, threads), "pieces {cuts:?}");
        let rotated = rotated(&pieces);
        let (bytes, templates, about) = made(&rotated, threads);
        assert!((&expected.0, &expected.1) == (&bytes, &templates), "rotated {cuts:?}");
        assert_eq!(counts(&about), counts(&expected.2), "rotated {cuts:?}");
        let direct = direct(&rotated, with, threads);
        assert_eq!(direct.sessions, sessions, "direct {cuts:?}");
        assert_eq!(counts(&direct.summary), counts(&expected.2), "direct {cuts:?}");
    }
    (sessions, expected.2)
}

/// Where lines end, but for the last one.
fn line_ends(log: &str) -> Vec<usize> {
    let ends = log.match_indices('\n').map(|(at, _)| at + 1);
    ends.filter(|end| *end < log.len()).collect()
}

/// Each place to cut alone, and all of them at once.
fn each_and_all(ends: &[usize]) -> Vec<Vec<usize>> {
    ends.iter().map(|end| vec![*end]).chain([ends.to_vec()]).collect()
}

#[test]
fn dates_without_a_year_get_that_of_the_log() {
    let dates = [
        ("Dec 30", "2023"),
        ("Dec 31", "2023"),
        ("Jan  1", "2024"),
        // Late.
        ("Dec 31", "2023"),
        ("Jan  2", "2024"),
        ("Feb 28", "2024"),
        ("Feb 29", "2024"),
        ("Mar  1", "2024"),
        ("Feb 29", "2024"),
        ("Jul  4", "2024"),
        ("Dec 31", "2024"),
        ("Jan  1", "2025"),
        ("Feb 28", "2025"),
        // There is no such day.
        ("Feb 29", ""),
        ("Mar  1", "2025"),
    ];
    let line = |(i, (date, _)): (usize, &(&str, &str))| format!("{date} 10:00:00 host a: got blk_{i}\n");
    let log: String = dates.iter().enumerate().map(line).collect();
    let with = json!({"format": "syslog", "year": 2023});
    let (sessions, about) = cut_changes_nothing(&log, &with, &each_and_all(&line_ends(&log)));
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut got: Vec<(u64, String)> =
        sessions.lines.iter().zip(&sessions.start).map(|(line, start)| (*line, rfc3339(*start))).collect();
    got.sort();
    for ((line, start), (date, year)) in got.into_iter().zip(dates) {
        let month = months.iter().position(|month| date.starts_with(month)).unwrap() + 1;
        // A line without a time has that of the line before.
        let expected = match year {
            "" => "2025-02-28T10:00:00Z".to_owned(),
            year => format!("{year}-{month:02}-{:02}T10:00:00Z", date[4..].trim().parse::<u32>().unwrap()),
        };
        assert_eq!(start, expected, "line {line}");
    }
    assert_eq!((about.steps_back, about.lines), (2, 15));
}
