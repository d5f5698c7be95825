//! Sessions of small logs against values computed by hand, and of the real sample where it is there.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;
use crate::parse::ParseParams;
use crate::support::table::read_parquet;
use crate::templates::{Source, TemplatesParams};
use crate::testing::{Run, real_data, run};

mod cuts;

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

/// Ids, lines and whether each is censored.
fn outline(sessions: &Sessions) -> Vec<(&str, Vec<u64>, bool)> {
    (0..sessions.len())
        .map(|row| {
            let lines = sessions.lines[sessions.offsets[row]..sessions.offsets[row + 1]].to_vec();
            (sessions.ids[row].as_str(), lines, sessions.censored[row])
        })
        .collect()
}

#[test]
fn sessions_are_cut_by_time_as_by_hand_and_when_logs_are_read_directly() {
    let files: [(&str, &[u8]); 2] = [("a.log.1", FIRST.as_bytes()), ("a.log", SECOND.as_bytes())];
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = files.iter().map(|(name, _)| dir.path().join(name)).collect();
    for (path, (_, bytes)) in paths.iter().zip(&files) {
        std::fs::write(path, bytes).unwrap();
    }
    let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    let cut = |with: Value| {
        let [made, merged, _] = sessions(&files, &with, 2).unwrap();
        let known = read_templates(&merged.path("templates")).unwrap();
        let params: SessionizeParams = logweir_engine::stage::read_params(&with).unwrap();
        let direct =
            sessions_from_logs(&paths, &ParseParams::default(), &known, &TemplatesParams::default(), &params).unwrap();
        let read = read(&made.path("sessions"));
        assert_eq!(direct.sessions, read);
        let about = summary(&made);
        assert_eq!((about.sessions, about.events), (read.len() as u64, read.events.len() as u64));
        assert_eq!(about.censored, read.censored.iter().filter(|c| **c).count() as u64);
        (read, about)
    };
    let (got, _) = cut(json!({"gap": "8s"}));
    assert_eq!(
        outline(&got),
        [
            ("blk_1@20081109T203530Z", vec![1, 3], false),
            ("blk_2@20081109T203531Z", vec![3, 2], false),
            ("blk_1@20081109T203540Z", vec![6], false),
            ("blk_0@20081109T204000Z", vec![7], true),
            ("blk_2@20081109T204000Z", vec![8], true),
        ]
    );
    assert_eq!((&got.gaps[..4], got.end[1] - got.start[1]), (&[0, 1000, 0, 1000][..], 1_000_000));
    // All lines, also that without a block; the clock goes back for one of them.
    let (got, _) = cut(json!({"within": "log", "window": "10s", "step": "5s", "min_events": 2}));
    assert_eq!(
        outline(&got),
        [
            ("@20081109T203525Z", vec![1, 3, 4, 2], false),
            ("@20081109T203530Z", vec![1, 3, 4, 2], false),
            ("@20081109T203955Z", vec![7, 8], true),
            ("@20081109T204000Z", vec![7, 8], true),
        ]
    );
    let (got, about) = cut(json!({"window": "1d"}));
    assert_eq!(got.ids, ["blk_1@20081109T000000Z", "blk_2@20081109T000000Z", "blk_0@20081109T000000Z"]);
    assert_eq!((got.censored, about.short_sessions), (vec![false, true, true], 0));
    let (got, about) = cut(json!({"within": "log", "gap": "1m", "min_events": 3}));
    assert_eq!(outline(&got), [("@20081109T203530Z", vec![1, 3, 4, 2, 6], false)]);
    assert_eq!(about.short_sessions, 1);
    assert_eq!(cut(json!({"within": "log"})).0.ids, ["all"]);
    // A block's end is not that of the log.
    assert_eq!(cut(json!({"within": "log", "gap": "1h"})).0.censored, [true]);
}

#[test]
fn cuts_that_make_no_sense_are_refused() {
    let error = |with: Value| format!("{:?}", (kind().make)(&with).err().unwrap());
    assert!(error(json!({"gap": "5 parsecs"})).contains("no span of time"));
    assert!(error(json!({"gap": "5s", "window": "1m"})).contains("not by both"));
    assert!(error(json!({"step": "5s"})).contains("is not given"));
    assert!(error(json!({"window": "5s", "step": "6s"})).contains("would be lost"));
    assert!(error(json!({"window": "1d", "step": "1ms"})).contains("more than 1000 windows"));
}

#[test]
fn a_session_for_each_line_or_for_all_is_warned_of() {
    let warnings = |sessions: u64, events: u64| {
        let about = SessionSummary { sessions, events, last: Some(String::new()), ..SessionSummary::default() };
        about.warnings(&SessionizeParams::default(), &[true])
    };
    assert_eq!(warnings(1000, 1100), [""; 0]);
    assert_eq!(warnings(999, 999), [""; 0]);
    assert!(warnings(1000, 1099)[0].starts_with("1000 sessions have 1099 events in all, so nearly every line"));
    assert!(warnings(1, 1000)[0].starts_with("all 1000 events are of one session; unless that is meant, `session`"));
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
        sessions_from_logs(
            paths,
            &ParseParams::default(),
            known,
            &TemplatesParams::default(),
            &SessionizeParams::default(),
        )
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

/// Lines of a log with many sessions, some of them in two lines at once, times that go back, and lines without sessions.
fn busy_log(lines: usize) -> Vec<u8> {
    let mut state = 7u64;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % below
    };
    let mut text = String::new();
    for i in 0..lines {
        let second = (i / 40) as u64 + next(3);
        let time = format!("{:02}{:02}{:02}", second / 3600 % 24, second / 60 % 60, second % 60);
        let around = (i / 30) as u64;
        let block = |n: u64| if n.is_multiple_of(3) { format!("blk_-{n}") } else { format!("blk_{n}") };
        let message = match next(20) {
            0 => "Verification started".to_owned(),
            1 => {
                format!("BLOCK* ask 10.0.0.{}:5 to delete {} {}", next(99), block(around + next(50)), block(around + 9))
            }
            2 => format!("Deleting block {} file /x/y", block(around + next(200))),
            3 => "???".to_owned(),
            _ => format!("Receiving block {} src: /10.0.0.1:{}", block(around + next(200)), next(60_000)),
        };
        text += &if next(50) == 0 {
            "rubbish\n".to_owned()
        } else {
            format!("081109 {time} {} INFO a.B: {message}\n", next(99))
        };
    }
    text.into_bytes()
}

/// Parses each of `files` on its own, as items of a mapped stage, into one events directory.
fn mapped(files: &[(String, &[u8])], with: &Value, threads: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (logical, bytes) in files {
        let log = dir.path().join("in.log");
        std::fs::write(&log, bytes).unwrap();
        let parsed = run(&crate::parse::kind(), with, &[("log", logical, &log)], &["events/"], threads).unwrap();
        let item = dir.path().join("events").join(logical.replace(':', "_"));
        std::fs::create_dir_all(&item).unwrap();
        for entry in std::fs::read_dir(parsed.path("events")).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, item.join(path.file_name().unwrap())).unwrap();
        }
    }
    dir
}

/// Makes the sessions of an events directory: `sessions.parquet`, `templates.csv`, counts.
fn made_of(events: &Path, threads: usize) -> (Vec<u8>, String, SessionSummary) {
    let inputs = [("events", "events", events)];
    let merged = run(&crate::templates::kind(), &json!({}), &inputs, &["templates", "map"], threads).unwrap();
    let (templates, map) = (merged.path("templates"), merged.path("map"));
    let inputs = [inputs[0], ("templates", "templates", &templates), ("map", "map", &map)];
    let made = run(&kind(), &json!({}), &inputs, &["sessions", "summary"], threads).unwrap();
    (std::fs::read(made.path("sessions")).unwrap(), merged.text("templates"), summary(&made))
}

#[test]
fn it_does_not_matter_how_a_log_is_cut_or_by_how_many_it_is_read() {
    let log = busy_log(20_000);
    let ends: Vec<usize> = log.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i + 1).collect();
    let cuts = [0, ends[7000], ends[7001], ends[15_000], log.len()];
    let slices: Vec<&[u8]> = cuts.windows(2).map(|c| &log[c[0]..c[1]]).collect();
    let rotated: Vec<(String, &[u8])> = ["raw:a.log.3", "raw:a.log.2", "raw:a.log.1", "raw:a.log"]
        .map(str::to_owned)
        .into_iter()
        .zip(slices.clone())
        .collect();
    let pieces: Vec<(String, &[u8])> =
        cuts.windows(2).zip(slices).map(|(c, slice)| (format!("raw:a.log:{}-{}", c[0], c[1]), slice)).collect();
    let whole = mapped(&[("raw:a.log".to_owned(), &log[..])], &json!({}), 1);
    let events = |dir: &tempfile::TempDir| dir.path().join("events");
    let (sessions, templates, about) = made_of(&events(&whole), 1);
    assert!(about.sessions > 500 && about.censored > 0 && about.steps_back > 0 && about.rejected > 0);
    for threads in [1, 2] {
        let cut = mapped(&pieces, &json!({}), threads);
        assert!((sessions.clone(), templates.clone(), about.clone()) == made_of(&events(&cut), threads));
        let mapped = mapped(&rotated, &json!({}), threads);
        let of_mapped = made_of(&events(&mapped), threads);
        assert!((&sessions, &templates) == (&of_mapped.0, &of_mapped.1));
        assert_eq!(of_mapped.2.files.len(), 4);

        // Not mapped: the same folders but for their names.
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = rotated.iter().map(|(name, _)| dir.path().join(name.replace(':', "_"))).collect();
        for (path, (_, bytes)) in paths.iter().zip(&rotated) {
            std::fs::write(path, bytes).unwrap();
        }
        let inputs: Vec<_> = rotated.iter().zip(&paths).map(|((l, _), p)| ("log", l.as_str(), p.as_path())).collect();
        let at_once = run(&crate::parse::kind(), &json!({}), &inputs, &["events/"], threads).unwrap();
        assert!(of_mapped == made_of(&at_once.path("events"), threads));
    }

    // From a session's line numbers to the lines, whatever the cut.
    let frame = read_parquet(
        {
            let path = whole.path().join("s.parquet");
            std::fs::write(&path, &sessions).unwrap();
            path
        }
        .as_path(),
        None,
    )
    .unwrap();
    let (offsets, lines) = crate::support::table::lists::<polars::prelude::UInt64Type>(&frame, "lines").unwrap();
    let ids = frame.column("session_id").unwrap().str().unwrap();
    let cut = mapped(&pieces, &json!({}), 1);
    let rotated = mapped(&rotated, &json!({}), 1);
    let places = [&whole, &cut, &rotated].map(|dir| crate::parse::places::Places::open(&events(dir)).unwrap());
    for row in (0..ids.len()).step_by(97) {
        let lines = &lines[offsets[row]..offsets[row + 1]];
        let id = ids.get(row).unwrap();
        let [whole, cut, rotated] = places.each_ref().map(|places| places.find(lines).unwrap());
        assert_eq!(whole, cut);
        for (place, line) in whole.iter().zip(lines) {
            let text = log[place.offset as usize..].split(|&b| b == b'\n').next().unwrap();
            assert_eq!(place.line, *line);
            assert!(std::str::from_utf8(text).unwrap().contains(id));
            assert_eq!(place.offset, if *line == 1 { 0 } else { ends[*line as usize - 2] as u64 });
        }
        for (place, whole) in rotated.iter().zip(&whole) {
            let file =
                3 - place.file.strip_prefix("raw:a.log").unwrap().trim_start_matches('.').parse::<usize>().unwrap_or(0);
            assert_eq!(place.offset + cuts[file] as u64, whole.offset);
        }
    }
    assert!(places[0].find(&[0]).is_err() && places[0].find(&[30_000]).is_err());
}

#[test]
fn spilling_to_files_changes_no_byte() {
    use super::build::{ROW_GROUP, group};
    let lines = 5 * ROW_GROUP;
    let text: String = (0..lines)
        .map(|i| {
            let (a, b) = (i % (3 * ROW_GROUP + 50), i / 7);
            format!(
                "081109 {:02}{:02}{:02} 1 INFO a: open blk_{a} and blk_{b} at {i}\n",
                i / 30_000,
                i / 500 % 60,
                (i * 7) % 60
            )
        })
        .collect();
    let parsed = mapped(&[("a.log".to_owned(), text.as_bytes())], &json!({}), 2);
    let parts = read_parts(&parsed.path().join("events")).unwrap();
    let templates =
        [Template { event_id: "T1".to_owned(), number: 0, count: 0, text: "x".to_owned(), source: Source::Mined }];
    let check = || Ok(());
    let (events, sources) = input::Events::open(&parts, vec![vec![0; 5]], &templates, &check).unwrap();
    let made = |events_in_memory: usize, threads: usize| {
        let dir = tempfile::tempdir().unwrap();
        let rules = Rules { events: events_in_memory, ..SessionizeParams::default().rules(&templates).unwrap() };
        let path = dir.path().join("sessions.parquet");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let about = pool.install(|| {
            let mut out = SessionWriter::create(&path).unwrap();
            let encode = |sessions: Sessions| sessions.encoded(1);
            let about = group(&events, &sources, &rules, dir.path(), encode, |group| out.write(group)).unwrap();
            out.finish().unwrap();
            about
        });
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "scratch is left behind");
        (std::fs::read(&path).unwrap(), about)
    };
    let whole = made(usize::MAX, 1);
    assert!(whole.1.sessions > 3 * ROW_GROUP as u64);
    for (budget, threads) in [(1, 1), (100_000, 2), (250_000, 1)] {
        assert!(whole == made(budget, threads), "{budget} {threads}");
    }
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
            &TemplatesParams::default(),
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
