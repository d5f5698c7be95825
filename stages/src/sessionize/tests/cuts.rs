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

/// A log of entries of several lines, with keys that only lines behind the first name.
const TRACES: &str = "\
\tat lost.beginning(of.trace) blk_90
 blk_91

2008-11-09 20:35:30 INFO a: open blk_1
2008-11-09 20:35:31 WARN a: failed
java.io.IOException: blk_2 and blk_3

\tat x.y(Z.java:3) blk_1
\tat x.y(Z.java:4) blk_2 of blk_4
 \t
Caused by: blk_5
2008-11-09 20:35:32 INFO a: look at blk_1
2008-11-09 20:35:33 INFO a: nobody

";

fn header(multiline: &Value) -> Value {
    json!({
        "format": "<Date> <Time> <Level> <Component>: <Content>",
        "timestamp_format": "%Y-%m-%d %H:%M:%S",
        "multiline": multiline,
    })
}

#[test]
fn an_entry_goes_on_behind_a_cut() {
    let with = header(&Value::Null);
    let cuts = each_and_all(&line_ends(TRACES));
    let (sessions, about) = cut_changes_nothing(TRACES, &with, &cuts);
    assert_eq!(sessions.ids, ["blk_1", "blk_2", "blk_3", "blk_4", "blk_5"]);
    assert_eq!(sessions.lines, [4, 5, 12, 5, 5, 5, 5]);
    assert_eq!((about.lines, about.rejected, about.lines_without_session), (14, 2, 1));

    // Every line for itself: what the folders say, and what is made of it.
    let pieces = pieces(TRACES, &line_ends(TRACES));
    let dir = mapped(&pieces, &with, 1);
    let parts = read_parts(&dir.path().join("events")).unwrap();
    let continued: Vec<u64> = parts.iter().map(|part| part.about.continued).collect();
    assert_eq!(continued, [0, 0, 0, 0, 0, 1, 0, 1, 1, 0, 1, 0, 0, 0]);
    for part in &parts {
        let about = &part.about;
        assert_eq!(about.parsed + about.rejected + about.continued + about.blank, about.lines);
        assert_eq!(about.rejected_samples.len() as u64, about.rejected);
    }
    assert_eq!(summary_of(&parts).rejected, 2);
}

#[test]
fn nothing_goes_on_behind_a_malformed_start_or_in_another_log() {
    // The third line starts an entry, but is none.
    let log = "2008-11-09 20:35:30 INFO a: open blk_1\n more of blk_2\n2008-11-09 blk_3\n more of blk_4\n\n blk_5\n";
    let (sessions, about) = cut_changes_nothing(log, &header(&json!({"start": "^2"})), &each_and_all(&line_ends(log)));
    assert_eq!((sessions.ids, about.rejected), (["blk_1", "blk_2"].map(str::to_owned).to_vec(), 3));

    let (first, second) = log.split_at(line_ends(log)[0]);
    let files = ["raw:a.log", "raw:b.log"].map(str::to_owned).into_iter().zip([first.as_bytes(), second.as_bytes()]);
    let files: Vec<(String, &[u8])> = files.collect();
    let with = header(&Value::Null);
    let dir = mapped(&files, &with, 1);
    let (_, _, about) = made_of(&dir.path().join("events"), 1);
    assert_eq!((about.sessions, about.rejected), (1, 4));
    assert_eq!(direct(&files, &with, 1).summary.rejected, 4);
}

#[test]
fn an_entry_is_full_after_a_mebibyte_however_many_cuts_it_goes_over() {
    let mut log = "2008-11-09 20:35:30 INFO a: open blk_0\n".to_owned();
    for i in 1..=30_000 {
        log += &format!("  blk_{i} at line {i} of a very long stack trace\n");
    }
    log += "2008-11-09 20:35:31 INFO a: look at blk_0\n";
    let ends = line_ends(&log);
    // Also where the last line that is of the entry ends, and behind the one after.
    let full = ends.iter().position(|end| *end > (1 << 20)).unwrap();
    let cuts: Vec<Vec<usize>> = [
        vec![ends[1], ends[9_000]],
        vec![ends[20_000], ends[full - 1], ends[full]],
        vec![ends[full]],
        (0..ends.len()).step_by(3_001).map(|i| ends[i]).collect(),
    ]
    .into();
    let (sessions, about) = cut_changes_nothing(&log, &header(&Value::Null), &cuts);
    assert_eq!((sessions.ids.len() as u64 + about.rejected, about.lines), (30_001, 30_002));
    assert!((15_000..25_000).contains(&sessions.ids.len()), "{}", sessions.ids.len());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
    #[test]
    fn any_log_is_one_log_wherever_it_is_cut(
        lines in proptest::collection::vec(
            "(11-0[1-9] 20:35:30 INFO a: |12-31 20:35:30 INFO a: |01-01 20:35:30 INFO a: |11-99 | |)(blk_[0-9] ?){0,2}\r?",
            2..14,
        ),
        cuts: [bool; 14],
        start: bool,
    ) {
        let log = format!("11-01 00:00:00 INFO a: blk_0\n{}\n", lines.join("\n"));
        let ends = line_ends(&log);
        let cuts: Vec<usize> = ends.iter().zip(cuts).filter(|(_, cut)| *cut).map(|(end, _)| *end).collect();
        let with = json!({
            "format": "<Date> <Time> <Level> <Component>: <Content>",
            "timestamp_format": "%m-%d %H:%M:%S",
            "year": 2008,
            "multiline": if start { json!({"start": "^[01]"}) } else { json!(true) },
        });
        let whole = direct(&[("a.log".to_owned(), log.as_bytes())], &with, 1);
        let cut = direct(&rotated(&pieces(&log, &cuts)), &with, 2);
        proptest::prop_assert_eq!(&whole.sessions, &cut.sessions);
        let counts = |s: &SessionSummary| SessionSummary { files: Vec::new(), ..s.clone() };
        proptest::prop_assert_eq!(counts(&whole.summary), counts(&cut.summary));
        let law = |p: &crate::parse::ParseSummary| {
            let blank: u64 = p.files.iter().map(|f| f.blank).sum();
            (p.parsed + p.rejected + p.continued + blank, p.lines, p.rejected)
        };
        proptest::prop_assert_eq!(law(&whole.parse), law(&cut.parse));
        proptest::prop_assert_eq!(law(&cut.parse).0, law(&cut.parse).1);
    }
}
