//! The stages from raw log to sessions on small logs, against values computed by hand.

use std::path::{Path, PathBuf};

use polars::prelude::DataType;
use serde_json::json;

use super::*;
use crate::support::table::{lists, read_parquet};
use crate::testing::{Run, run};

const LOG: &str = "\
081109 203530 1 INFO dfs.DataNode$DataXceiver: Receiving block blk_1 src: /10.0.0.1:5 dest: /10.0.0.2:6
081109 203531 2 WARN dfs.DataNode$DataXceiver: writeBlock blk_-2 received exception java.io.IOException: x\r

not a line of this log
081109 203532 3 INFO dfs.FSNamesystem: BLOCK* ask 10.0.0.1:5 to delete blk_1 blk_-2 blk_1
081109 203532 3 INFO dfs.FSDataset: Verification started";

fn write(dir: &Path, name: &str, text: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn parse(files: &[(&str, &[u8])], with: &serde_json::Value, threads: usize) -> anyhow::Result<Run> {
    let dir = tempfile::tempdir()?;
    let paths: Vec<(&str, PathBuf)> = files.iter().map(|(name, text)| (*name, write(dir.path(), name, text))).collect();
    let inputs: Vec<_> = paths.iter().map(|(name, path)| ("log", *name, path.as_path())).collect();
    run(&kind(), with, &inputs, &["events/"], threads)
}

#[test]
fn a_small_log_is_parsed_as_by_hand() {
    let run = parse(&[("HDFS.log", LOG.as_bytes())], &json!({}), 1).unwrap();
    let events = run.path("events");
    let parts = read_parts(&events).unwrap();
    let summary = summary_of(&parts);
    assert_eq!((summary.lines, summary.parsed, summary.rejected), (6, 4, 1));
    let file = &summary.files[0];
    assert_eq!((file.blank, file.sessions, file.templates), (1, 2, 4));
    assert_eq!(
        (file.first.as_deref(), file.last.as_deref()),
        (Some("2008-11-09T20:35:30Z"), Some("2008-11-09T20:35:32Z"))
    );
    assert_eq!((file.rejected_samples[0].line, file.rejected_samples[0].text.as_str()), (4, "not a line of this log"));
    // One of five lines is malformed: more than five percent.
    assert_eq!(file.warnings.len(), 1);
    assert!(
        run.warnings[0].contains("HDFS.log: 1 of 6 lines (20.0 %) are malformed, the first in line 4"),
        "{:?}",
        run.warnings
    );

    let frame = read_parquet(&events.join(ROWS), None).unwrap();
    let line: Vec<u64> = frame.column("line").unwrap().u64().unwrap().into_no_null_iter().collect();
    assert_eq!(line, [1, 2, 5, 6]);
    let offset: Vec<u64> = frame.column("offset").unwrap().u64().unwrap().into_no_null_iter().collect();
    for (line, offset) in line.iter().zip(offset) {
        assert!(LOG[offset as usize..].starts_with(LOG.split('\n').nth(*line as usize - 1).unwrap()));
    }
    let template: Vec<u32> = frame.column("template").unwrap().u32().unwrap().into_no_null_iter().collect();
    assert_eq!(template, [0, 1, 2, 3]);
    let level: Vec<&str> = frame.column("level").unwrap().str().unwrap().iter().flatten().collect();
    assert_eq!(level, ["INFO", "WARN", "INFO", "INFO"]);
    let time = frame.column("timestamp").unwrap().cast(&DataType::Int64).unwrap();
    let time: Vec<i64> = time.i64().unwrap().into_no_null_iter().map(|t| t / 1_000_000 - 1_226_262_930).collect();
    assert_eq!(time, [0, 1, 2, 2]);
    let (ends, sessions) = lists::<polars::prelude::UInt32Type>(&frame, "sessions").unwrap();
    assert_eq!((ends, sessions), (vec![0, 1, 2, 4, 4], vec![0, 1, 0, 1]));
    let parameters = frame.column("parameters").unwrap().as_materialized_series().list().unwrap().clone();
    let first = parameters.get_as_series(2).unwrap();
    let first: Vec<&str> = first.str().unwrap().iter().flatten().collect();
    assert_eq!(first, ["10.0.0.1:5", "blk_1 blk_-2 blk_1"]);

    let keys = read_parquet(&events.join(SESSIONS), None).unwrap();
    let keys: Vec<&str> = keys.column("session_id").unwrap().str().unwrap().iter().flatten().collect();
    assert_eq!(keys, ["blk_1", "blk_-2"]);
    let templates = std::fs::read_to_string(events.join(TEMPLATES)).unwrap();
    assert_eq!(
        templates,
        "template,count,first_line,text,name\n\
         0,1,1,Receiving block <id> src: /<ip> dest: /<ip>,\n\
         1,1,2,writeBlock <id> received exception java.io.IOException: x,\n\
         2,1,5,BLOCK* ask <ip> to delete <id>,\n\
         3,1,6,Verification started,\n"
    );
}

fn big_log(lines: usize) -> Vec<u8> {
    let mut text = String::new();
    for i in 0..lines {
        let (h, m, s) = (i / 3600 % 24, i / 60 % 60, i % 60);
        let id = (i * 7919) % 5003;
        text += &format!(
            "081109 {h:02}{m:02}{s:02} {} INFO dfs.Part{}: event {} of blk_{id} took {i} ms\n",
            i % 99,
            i % 3,
            i % 11
        );
    }
    text.into_bytes()
}

#[test]
fn threads_and_compression_change_no_byte() {
    // Three chunks and more, so that merging has work to do.
    let log = big_log(300_000);
    assert!(log.len() > 2 * crate::logs::read::CHUNK);
    let one = parse(&[("a.log", &log)], &json!({}), 1).unwrap();
    let two = parse(&[("a.log", &log)], &json!({}), 2).unwrap();
    let three = parse(&[("a.log", &log)], &json!({}), 3).unwrap();
    assert_eq!(one.bytes(), two.bytes());
    assert_eq!(one.bytes(), three.bytes());
    let packed = zstd::encode_all(&log[..], 1).unwrap();
    let packed = parse(&[("a.log.zst", &packed)], &json!({}), 2).unwrap();
    let rows = |run: &Run| std::fs::read(run.path("events").join(ROWS)).unwrap();
    assert_eq!(rows(&one), rows(&packed));
}

#[test]
fn rotated_logs_are_read_oldest_first() {
    let mut names = ["b.log", "a.log", "a.log.1", "a.log.10.gz", "a.log.2", "a.log-20081110", "a.log-20081109"];
    names.sort_by_cached_key(|n| reading_order(n));
    assert_eq!(names, ["a.log.10.gz", "a.log.2", "a.log.1", "a.log-20081109", "a.log-20081110", "a.log", "b.log"]);
}

#[test]
fn every_file_has_a_folder_that_depends_on_it_alone() {
    let logs: [(&str, &[u8]); 3] =
        [("raw:d/a.log.1", LOG.as_bytes()), ("raw:d/e/b.log", &LOG.as_bytes()[..105]), ("raw:d/a.log", b"")];
    let places = ["0", "1", "2"];
    let dir = tempfile::tempdir().unwrap();
    let inputs: Vec<_> = logs.iter().zip(places).map(|((l, text), at)| (*l, write(dir.path(), at, text))).collect();
    let inputs: Vec<_> = inputs.iter().map(|(logical, path)| ("log", *logical, path.as_path())).collect();
    let all = run(&kind(), &json!({}), &inputs, &["events/"], 2).unwrap();
    let events = all.path("events");
    let parts = read_parts(&events).unwrap();
    let order: Vec<&str> = parts.iter().map(|p| p.file.as_str()).collect();
    assert_eq!(order, ["raw:d/a.log.1", "raw:d/a.log", "raw:d/e/b.log"]);
    for (input, folder) in inputs.iter().zip(["a.log.1", "e/b.log", "a.log"]) {
        let alone = run(&kind(), &json!({}), std::slice::from_ref(input), &["events/"], 1).unwrap();
        for file in [ROWS, SESSIONS, TEMPLATES, "parse.json"] {
            let bytes = std::fs::read(events.join(folder).join(file)).unwrap();
            assert!(bytes == std::fs::read(alone.path("events").join(file)).unwrap(), "{folder}/{file}");
        }
    }
    let folders = |names: &[&str]| {
        let files: Vec<(&str, &Path)> = names.iter().map(|n| (*n, Path::new(""))).collect();
        folders(&files).map(|f| f.iter().map(|f| f.to_string_lossy().into_owned()).collect::<Vec<_>>())
    };
    assert_eq!(folders(&["a:x/1", "b:x/1"]).unwrap(), ["a/x/1", "b/x/1"]);
    assert!(folders(&["a:1", "a/1"]).unwrap_err().to_string().contains("a/1"));
    assert_eq!(
        (whole_of("r:a.log:70-150"), whole_of("r:a.log"), whole_of("a:b-1")),
        (("r:a.log", 70), ("r:a.log", 0), ("a:b-1", 0))
    );
}

#[test]
fn faults_of_files_are_told_not_fatal() {
    let line = b"081109 203530 1 INFO a: b blk_1\n".repeat(2000);
    let mut packed = zstd::encode_all(&line[..], 1).unwrap();
    packed.truncate(packed.len() / 2);
    let files: [(&str, &[u8]); 3] = [("a.log", &line), ("b.log", b""), ("c.log.zst", &packed)];
    let run = parse(&files, &json!({}), 1).unwrap();
    let files = summary_of(&read_parts(&run.path("events")).unwrap()).files;
    assert_eq!(files.len(), 3);
    assert!(files[2].truncated && !files[0].truncated);
    assert!(files[1].warnings[0].contains("b.log is empty") && files[2].warnings[0].contains("c.log.zst is truncated"));
    assert_eq!(run.warnings.len(), 2, "{:?}", run.warnings);
}

#[test]
fn a_log_of_nothing_fails_with_a_hint_where_all_files_are_seen() {
    let error = |text: &[u8]| {
        let parsed = parse(&[("a.log", text)], &json!({}), 1).unwrap();
        let events = parsed.path("events");
        let inputs = [("events", "events", events.as_path())];
        let merged = run(&crate::templates::kind(), &json!({}), &inputs, &["templates", "map"], 1);
        format!("{:#}", merged.err().unwrap())
    };
    assert!(error(b"").contains("the log is empty: a.log (hint"));
    assert!(error(b"\n \n").contains("the log is empty"));
    let nothing = error(b"2008-11-09 word\n");
    assert!(nothing.contains("none of the 1 lines") && nothing.contains("line 1 `2008-11-09 word`"), "{nothing}");
    let twice = parse(&[("a.log", LOG.as_bytes()), ("a.log.gz", b"")], &json!({}), 1).unwrap();
    assert!(twice.warnings.iter().any(|w| w.contains("a.log and a.log.gz look like one log")), "{:?}", twice.warnings);
}

#[test]
fn a_regex_format_with_own_masks_and_without_parameters() {
    let log = b"Nov  9 20:35:30 host sshd[7]: opened for user \xff by id=a1 12\nnoise\n";
    let with = json!({
        "format": "regex",
        "regex": r"^(?P<timestamp>\w{3} +\d+ [\d:]{8}) \S+ (?P<component>\w+)\[\d+\]: (?P<content>.*)$",
        "timestamp_format": "%b %d %H:%M:%S",
        "year": 2008,
        "session": r"id=(\w+)",
        "parameters": false,
        "masks": {"custom": [{"name": "user", "regex": "user (.) by"}]},
    });
    let run = parse(&[("auth.log", log)], &with, 1).unwrap();
    let events = run.path("events");
    let frame = read_parquet(&events.join(ROWS), None).unwrap();
    assert!(frame.column("parameters").is_err());
    let templates = std::fs::read_to_string(events.join(TEMPLATES)).unwrap();
    assert!(templates.contains("opened for user <user> by id=a<num> <num>"), "{templates}");
    assert_eq!(read_parts(&events).unwrap()[0].about.first.as_deref(), Some("2008-11-09T20:35:30Z"));
}

#[test]
fn stack_traces_are_continued_or_malformed() {
    let log = b"2008-11-09 20:35:30 a: failed blk_1\njava.io.IOException: x\n\tat y\n2008-11-09 20:35:32 b: fine\n";
    let summary = |multiline: serde_json::Value| {
        let with = json!({
            "format": "<Date> <Time> <Component>: <Content>",
            "timestamp_format": "%Y-%m-%d %H:%M:%S",
            "multiline": multiline,
        });
        let run = parse(&[("a.log", log)], &with, 1).unwrap();
        let summary = summary_of(&read_parts(&run.path("events")).unwrap());
        (summary.parsed, summary.rejected, summary.continued)
    };
    assert_eq!(summary(json!(null)), (2, 0, 2));
    assert_eq!(summary(json!(true)), (2, 0, 2));
    assert_eq!(summary(json!(false)), (2, 2, 0));
    assert_eq!(summary(json!({"start": "^[2j]"})), (2, 2, 0));
    assert_eq!(summary(json!({"start": "^2"})), (2, 0, 2));
}

#[test]
fn sessions_by_field_or_none() {
    let keys = |log: &str, with: serde_json::Value| -> (Vec<String>, Vec<u32>) {
        let run = parse(&[("a.log", log.as_bytes())], &with, 1).unwrap();
        let keys = read_parquet(&run.path("events").join(SESSIONS), None).unwrap();
        let keys = keys.column("session_id").unwrap().str().unwrap().iter().flatten().map(str::to_owned).collect();
        let frame = read_parquet(&run.path("events").join(ROWS), None).unwrap();
        (keys, lists::<polars::prelude::UInt32Type>(&frame, "sessions").unwrap().1)
    };
    let of = |names: &[&str], rows: &[u32]| (names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>(), rows.to_vec());
    let threads = "2008-11-09 [main] a\n2008-11-09 [x y] b\n2008-11-09 [main] c\n";
    let header = |session: serde_json::Value| json!({"format": "<Date> [<Thread>] <Content>", "timestamp_format": "%F", "session": session});
    assert_eq!(keys(threads, header(json!({"field": "thread"}))), of(&["main", "x y"], &[0, 1, 0]));
    assert_eq!(keys(threads, header(json!("none"))), of(&["all"], &[0, 0, 0]));
    assert_eq!(keys(threads, header(json!({"all": true}))), of(&["all"], &[0, 0, 0]));
    assert_eq!(keys(LOG, json!({"session": {"field": "level"}})), of(&["INFO", "WARN"], &[0, 1, 0, 0]));
    let objects = "{\"msg\":\"a\",\"req\":{\"id\":7}}\n{\"msg\":\"b\"}\n{\"req\":{\"id\":\"7\"},\"msg\":\"c\"}\n";
    let json = json!({"format": "json", "session": {"field": "req.id"}});
    assert_eq!(keys(objects, json), of(&["7"], &[0, 0]));
    let named = json!({"format": "regex", "regex": r"(?P<content>(?P<who>\w+)@\w+)", "session": {"field": "who"}});
    assert_eq!(keys("ann@a\nbob@b\nann@c", named), of(&["ann", "bob"], &[0, 1, 0]));
}

#[test]
fn what_may_continue_an_entry_of_the_file_before_is_kept_apart() {
    let log = b" blk_1, blk_2\n\n at \"x, blk_1\n2008-11-09 20:35:30 a: failed blk_3\n at blk_4\n";
    let with = json!({"format": "<Date> <Time> <Component>: <Content>", "timestamp_format": "%Y-%m-%d %H:%M:%S"});
    let run = parse(&[("a.log", log)], &with, 1).unwrap();
    let leading = std::fs::read_to_string(run.path("events").join(LEADING)).unwrap();
    assert_eq!(leading, "line,end,session_id\n1,13,blk_1\n1,13,blk_2\n3,28,blk_1\n");
    let about = &read_parts(&run.path("events")).unwrap()[0].about;
    assert_eq!((about.lines, about.parsed, about.rejected, about.continued, about.blank), (5, 1, 2, 1, 1));
    assert_eq!(about.ends, Some(Ends { bytes: log.len() as u64, leading: 2, starts: true, last: Some(29) }));
    // Not malformed before it is known what stands before; but so is a file of nothing else.
    assert_eq!(run.warnings, [""; 0]);
    let nothing = |name: &str| parse(&[(name, b"a\nb\n".as_slice())], &with, 1).unwrap().warnings;
    assert!(nothing("a.log")[0].contains("2 of 2 lines (100.0 %) are malformed, the first in line 1"));
    assert_eq!(nothing("a.log:70-74"), [""; 0]);
    let run = parse(&[("a.log", LOG.as_bytes())], &json!({}), 1).unwrap();
    assert!(!run.path("events").join(LEADING).exists());
    assert_eq!(read_parts(&run.path("events")).unwrap()[0].about.ends, None);
}

/// The rows of a run: seconds since START (of `a_small_log_...`) or none, level, component, and the template's text.
fn rows(run: &Run, folder: &str) -> Vec<(Option<i64>, String, String, String)> {
    let events = run.path("events").join(folder);
    let frame = read_parquet(&events.join(ROWS), None).unwrap();
    let mut templates = csv::Reader::from_path(events.join(TEMPLATES)).unwrap();
    let texts: Vec<String> = templates.records().map(|r| r.unwrap()[3].to_owned()).collect();
    let time = frame.column("timestamp").unwrap().cast(&DataType::Int64).unwrap();
    let text = |name: &str| -> Vec<String> {
        frame.column(name).unwrap().str().unwrap().iter().map(|t| t.unwrap().to_owned()).collect()
    };
    let template: Vec<u32> = frame.column("template").unwrap().u32().unwrap().into_no_null_iter().collect();
    let time: Vec<Option<i64>> = time.i64().unwrap().iter().map(|t| t.map(|t| t / 1_000_000 - 1_226_262_930)).collect();
    (0..frame.height())
        .map(|i| (time[i], text("level")[i].clone(), text("component")[i].clone(), texts[template[i] as usize].clone()))
        .collect()
}

fn row(time: i64, level: &str, component: &str, text: &str) -> (Option<i64>, String, String, String) {
    (Some(time), level.to_owned(), component.to_owned(), text.to_owned())
}

#[test]
fn the_formats_read_the_same_from_the_same_log() {
    let expected = [row(0, "INFO", "a.B", "got <id>"), row(2, "WARN", "c", "lost <num> blocks")];
    for (log, with) in [
        ("081109 203530 7 INFO a.B: got blk_1\n081109 203532 7 WARN c: lost 2 blocks\n", json!({})),
        (
            "2008-11-09 20:35:30,000 INFO [main] a.B: got blk_1\n2008-11-09 20:35:32,999 WARN [x y] c: lost 2 blocks\n",
            json!({"format": "<Date> <Time> <Level> [<Thread>] <Component>: <Content>", "timestamp_format": "%Y-%m-%d %H:%M:%S,%3f"}),
        ),
        (
            "{\"ts\":1226262930,\"lvl\":\"INFO\",\"logger\":\"a.B\",\"msg\":\"got blk_1\"}\n{\"ts\":\"2008-11-09T21:35:32+01:00\",\"lvl\":\"WARN\",\"logger\":\"c\",\"msg\":\"lost 2 blocks\"}\n",
            json!({"format": "json", "json": {"level": "lvl"}}),
        ),
    ] {
        let run = parse(&[("a.log", log.as_bytes())], &with, 1).unwrap();
        assert_eq!(rows(&run, ""), expected, "{with}");
    }
}

#[test]
fn dates_without_a_year_are_of_the_year_0() {
    let old = b"Nov  9 20:35:30 host sshd[7]: one\nDec 31 23:59:59 host sshd[7]: two\n";
    let new =
        b"<12>Jan  1 00:00:00 host kernel: three\nJan  1 00:00:01 host kernel: four\nDec 31 23:59:59 host x: late\n";
    let with = json!({"format": "syslog", "year": 2008});
    let run = parse(&[("messages", new), ("messages.1", old)], &with, 2).unwrap();
    let dates = |folder: &str| -> Vec<String> {
        let frame = read_parquet(&run.path("events").join(folder).join(ROWS), None).unwrap();
        let time = frame.column("timestamp").unwrap().cast(&DataType::Int64).unwrap();
        time.i64().unwrap().into_no_null_iter().map(rfc3339).collect()
    };
    // Which year it is only the files before tell, and those who read all.
    assert_eq!(dates("messages.1"), ["0000-11-09T20:35:30Z", "0000-12-31T23:59:59Z"]);
    assert_eq!(dates("messages"), ["0000-01-01T00:00:00Z", "0000-01-01T00:00:01Z", "0000-12-31T23:59:59Z"]);
    let summary = summary_of(&read_parts(&run.path("events")).unwrap());
    assert_eq!(
        summary.files.iter().map(|f| (f.year, f.steps_back)).collect::<Vec<_>>(),
        [(Some(2008), 0), (Some(2008), 1)]
    );
    assert_eq!(summary.files[0].last.as_deref(), Some("2008-12-31T23:59:59Z"));
    let dated = parse(&[("a.log", b"2008-11-09T20:35:30Z host x: y\n")], &with, 1).unwrap();
    assert_eq!(read_parts(&dated.path("events")).unwrap()[0].about.year, None);
}

#[test]
fn wrong_parameters_are_all_named() {
    let paths = |with: serde_json::Value| -> Vec<String> {
        let errors = (kind().make)(&with).err().unwrap_or_default();
        errors.into_iter().map(|e| e.path).collect()
    };
    assert_eq!(
        paths(json!({"session": "(", "masks": {"custom": [{"name": "X", "regex": "a"}]}})),
        ["session", "masks.custom.0"]
    );
    assert_eq!(paths(json!({"multiline": {"start": "("}})), ["multiline.start"]);
    assert_eq!(paths(json!({"multiline": {"start": "x?"}})), ["multiline.start"]);
    assert_eq!(paths(json!({"multiline": "yes"})), ["multiline"]);
    assert_eq!(paths(json!({"session": {"field": "pid"}})), ["session.field"]);
    assert_eq!(paths(json!({"session": {"feild": "component"}}))[0], "session.feild");
    assert_eq!(paths(json!({"session": {}})), ["session"]);
    assert_eq!(paths(json!({"session": {"all": false}})), ["session"]);
    assert_eq!(paths(json!({"session": 3})), ["session"]);
    assert_eq!(paths(json!({"session": {"field": "component"}})), [""; 0]);
    assert_eq!(paths(json!({"format": "regex"})), ["regex"]);
    assert_eq!(paths(json!({"regex": "(?P<content>.*)"})), ["regex"]);
    assert_eq!(paths(json!({"format": "regex", "regex": "(?P<timestamp>.)(?P<content>.*)"})), ["timestamp_format"]);
    assert_eq!(
        paths(json!({"format": "regex", "regex": "(?P<content>.*)", "timestamp_format": "%b"})),
        ["timestamp_format"]
    );
    assert_eq!(paths(json!({"format": "xml"})), ["format"]);
    assert_eq!(paths(json!({"format": "<Date> <Component>: x"})), ["format"]);
    assert_eq!(paths(json!({"format": "<Date> <Content>"})), ["timestamp_format"]);
    assert_eq!(paths(json!({"format": "<Host> <Content>", "timestamp_format": "%F"})), ["timestamp_format"]);
    assert_eq!(paths(json!({"format": "json", "json": {"level": "l", "time": "t"}})), ["json.time"]);
    assert_eq!(paths(json!({"json": {"level": "l"}})), ["json"]);
    assert_eq!(paths(json!({"format": "hdfs", "year": 2008})), ["year"]);
    assert_eq!(paths(json!({"format": "syslog", "year": 2008})), [""; 0]);
    assert_eq!(paths(json!({"sesion": "x"})), ["sesion"]);
}
