//! Sessions of small logs against values computed by hand, and of the real sample where it is there.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;
use crate::drain::Limits;
use crate::parse::ParseParams;
use crate::support::table::read_parquet;
use crate::templates::Source;
use crate::testing::{Run, real_data, run};

const FIRST: &str = "\
081109 203530 1 INFO a: open blk_1
081109 203532 1 INFO a: open blk_2
081109 203531 1 INFO a: look at blk_1 and blk_2 and blk_1
081109 203531 1 INFO a: nobody here
bad line
081109 203540 1 INFO a: Deleting block blk_1 file /x
";
const SECOND: &str = "\
081109 204000 1 INFO a: open blk_0
081109 204000 1 INFO a: look at blk_2
";

/// Runs parse, templates and sessionize; returns the runs, last first.
fn sessions(files: &[(&str, &[u8])], with: &Value, threads: usize) -> anyhow::Result<[Run; 3]> {
    let dir = tempfile::tempdir()?;
    let paths: Vec<(&str, PathBuf)> = files.iter().map(|(name, _)| (*name, dir.path().join(name))).collect();
    for ((_, path), (_, bytes)) in paths.iter().zip(files) {
        std::fs::write(path, bytes)?;
    }
    let inputs: Vec<_> = paths.iter().map(|(name, path)| ("log", *name, path.as_path())).collect();
    let parsed = run(&crate::parse::kind(), &json!({}), &inputs, &["events/"], threads)?;
    let events = parsed.path("events");
    let at = |slot, path| (slot, slot, path);
    let merged =
        run(&crate::templates::kind(), &json!({}), &[at("events", events.as_path())], &["templates", "map"], threads)?;
    let (templates, map) = (merged.path("templates"), merged.path("map"));
    let inputs = [at("events", events.as_path()), at("templates", &templates), at("map", &map)];
    let made = run(&kind(), with, &inputs, &["sessions", "summary"], threads)?;
    Ok([made, merged, parsed])
}

fn summary(run: &Run) -> SessionSummary {
    serde_json::from_str(&run.text("summary")).unwrap()
}

/// Reads sessions.parquet back through the same type.
fn read(path: &Path) -> Sessions {
    use crate::support::table::lists;
    use polars::prelude::{DataType, Int64Type, UInt32Type, UInt64Type};
    let frame = read_parquet(path, None).unwrap();
    let time = |name: &str| -> Vec<i64> {
        frame.column(name).unwrap().cast(&DataType::Int64).unwrap().i64().unwrap().into_no_null_iter().collect()
    };
    let (offsets, events) = lists::<UInt32Type>(&frame, "events").unwrap();
    Sessions {
        ids: frame.column("session_id").unwrap().str().unwrap().iter().flatten().map(str::to_owned).collect(),
        start: time("start"),
        end: time("end"),
        censored: frame.column("censored").unwrap().bool().unwrap().iter().flatten().collect(),
        offsets,
        events,
        gaps: lists::<Int64Type>(&frame, "gaps").unwrap().1,
        lines: lists::<UInt64Type>(&frame, "lines").unwrap().1,
    }
}

#[test]
fn sessions_over_two_files_are_as_by_hand() {
    let [made, merged, _] =
        sessions(&[("a.log.1", FIRST.as_bytes()), ("a.log", SECOND.as_bytes())], &json!({}), 1).unwrap();
    let templates = read_templates(&merged.path("templates")).unwrap();
    let texts: Vec<&str> = templates.iter().map(|t| t.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "open <id>",
            "look at <id> and <id> and <id>",
            "nobody here",
            "Deleting block <id> file <path>",
            "look at <id>"
        ]
    );
    assert_eq!(templates.iter().map(|t| t.count).collect::<Vec<_>>(), [3, 1, 1, 1, 1]);

    let second = 1_000_000;
    let start = 1_226_262_930 * second;
    let got = read(&made.path("sessions"));
    assert_eq!(got.ids, ["blk_1", "blk_2", "blk_0"]);
    // blk_2: the clock goes back from :32 to :31, so the look comes first.
    assert_eq!(got.start, [start, start + second, start + 270 * second]);
    assert_eq!(got.end, [start + 10 * second, start + 270 * second, start + 270 * second]);
    assert_eq!(got.offsets, [0, 3, 6, 7]);
    assert_eq!(got.events, [0, 1, 3, 1, 0, 4, 0]);
    assert_eq!(got.gaps, [0, 1000, 9000, 0, 1000, 268_000, 0]);
    assert_eq!(got.lines, [1, 3, 6, 3, 2, 8, 7]);
    assert_eq!(got.censored, [false, true, true]);

    let about = summary(&made);
    assert_eq!((about.lines, about.rejected, about.lines_without_session), (8, 1, 1));
    assert_eq!((about.sessions, about.events, about.censored, about.steps_back), (3, 7, 2, 1));
    assert_eq!(about.files[1], FileStart { path: "a.log".to_owned(), first_line: 7 });
    assert_eq!(about.last.as_deref(), Some("2008-11-09T20:40:00Z"));
    assert!(made.warnings[0].contains("the clock goes back at 1 lines"), "{:?}", made.warnings);
}

#[test]
fn a_session_silent_for_longer_than_idle_is_over() {
    let files: [(&str, &[u8]); 2] = [("a.log.1", FIRST.as_bytes()), ("a.log", SECOND.as_bytes())];
    // 268 s are .0744 hours; blk_2 and blk_0 act at the very end, blk_1 is closed.
    let censored = |with: Value| read(&sessions(&files, &with, 1).unwrap()[0].path("sessions")).censored;
    assert_eq!(censored(json!({"closes": []})), [true, true, true]);
    assert_eq!(censored(json!({"closes": [], "idle": 0.05})), [false, true, true]);
    assert_eq!(censored(json!({"closes": ["look"]})), [false, false, true]);
}

#[test]
fn short_sessions_are_left_out_and_none_at_all_is_an_error() {
    let files: [(&str, &[u8]); 1] = [("a.log", FIRST.as_bytes())];
    let [made, ..] = sessions(&files, &json!({"min_events": 3}), 1).unwrap();
    assert_eq!(read(&made.path("sessions")).ids, ["blk_1"]);
    assert_eq!(summary(&made).short_sessions, 1);
    let error = |files: &[(&str, &[u8])], with: Value| format!("{:#}", sessions(files, &with, 1).err().unwrap());
    assert!(error(&files, json!({"min_events": 9})).contains("hint: lower `min_events`"));
    let none: [(&str, &[u8]); 1] = [("a.log", b"081109 203530 1 INFO a: nothing\n")];
    assert!(error(&none, json!({})).contains("no line of the log has a session key (hint: set `session`"));
}

#[test]
fn logs_read_directly_give_the_same_sessions() {
    let files: [(&str, &[u8]); 2] = [("a.log.1", FIRST.as_bytes()), ("a.log", SECOND.as_bytes())];
    let [made, merged, _] = sessions(&files, &json!({}), 2).unwrap();
    let known = read_templates(&merged.path("templates")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = files.iter().map(|(name, _)| dir.path().join(name)).collect();
    for (path, (_, bytes)) in paths.iter().zip(&files) {
        std::fs::write(path, bytes).unwrap();
    }
    let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    let direct = |paths: &[&Path], known: &[Template]| {
        sessions_from_logs(paths, &ParseParams::default(), known, Limits::default(), &SessionizeParams::default())
            .unwrap()
    };
    for known in [&known[..], &[]] {
        let got = direct(&paths, known);
        assert_eq!(got.sessions, read(&made.path("sessions")));
        assert_eq!(got.summary.steps_back, 1);
        assert_eq!(got.templates.iter().map(|t| t.count).collect::<Vec<_>>(), [3, 1, 1, 1, 1]);
    }
    // The second file alone, against the templates of both.
    let got = direct(&paths[1..], &known);
    assert_eq!(got.sessions.ids, ["blk_0", "blk_2"]);
    assert_eq!(got.sessions.events, [0, 4]);
    let given =
        Template { event_id: "E1".to_owned(), number: 0, count: 0, text: "open<*>".to_owned(), source: Source::Given };
    let got = direct(&paths[1..], &[given]);
    assert_eq!(got.templates[0].count, 1);
    assert_eq!(got.templates[1].event_id, "T2");
}

#[test]
fn the_real_sample_becomes_its_sessions() {
    let Some(data) = real_data() else { return };
    let log = data.join("hdfs/HDFS_sample.log.zst");
    let given = data.join("hdfs/HDFS.log_templates.csv");
    let given = crate::templates::known_from_given(&crate::logs::given::GivenTemplates::read(&given).unwrap());
    for known in [&[][..], &given] {
        let got = sessions_from_logs(
            &[log.as_path()],
            &ParseParams::default(),
            known,
            Limits::default(),
            &SessionizeParams::default(),
        )
        .unwrap();
        assert_eq!((got.parse.lines, got.parse.rejected), (156_711, 0));
        assert_eq!((got.summary.sessions, got.summary.steps_back), (8_104, 0));
        assert_eq!(got.summary.lines_without_session, 0);
        let count =
            |text: &str| -> u64 { got.templates.iter().filter(|t| t.text.contains(text)).map(|t| t.count).sum() };
        // By `grep -c`.
        assert_eq!(count("blockMap updated"), 24_161);
        assert_eq!(count("PacketResponder"), 24_021);
        assert_eq!(count("is added to invalidSet of"), 19_497);
        assert_eq!(count("Starting thread to transfer"), 75);
        let used = got.templates.iter().filter(|t| t.count > 0).count();
        assert_eq!(used, 19, "{:#?}", got.templates);
    }
}
