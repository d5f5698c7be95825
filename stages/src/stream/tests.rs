//! Sessions of a stream against those of the log as it was when they were scored, whatever the pieces it came in.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::state::{Identity, Progress, State, StateFile};
use super::*;
use crate::logs::read::Chunk;
use crate::parse::ParseParams;
use crate::sessionize::sessions_from_logs;
use crate::support::traces::Traces;
use crate::templates::{Source, Template, TemplatesParams};

const KNOWN: [&str; 3] = ["open <id>", "look at <id>", "Deleting block <id>"];

fn known() -> Vec<Template> {
    let template = |(number, text): (usize, &&str)| Template {
        event_id: format!("T{}", number + 1),
        number: number as u32,
        count: 0,
        text: (*text).to_owned(),
        source: Source::Mined,
    };
    KNOWN.iter().enumerate().map(template).collect()
}

fn params(with: &Value) -> SessionizeParams {
    logweir_engine::stage::read_params(with).unwrap()
}

fn stream(with: &Value, ending: &Ending) -> (LineParser, Stream) {
    let params = params(with);
    let forms = Forms::new(known(), &TemplatesParams::default(), &params).unwrap();
    let mut parser = ParseParams::default().parser(&forms.given).unwrap();
    parser.parameters = false;
    let stream = Stream::new(forms, &parser, &params, ending.clone()).unwrap();
    (parser, stream)
}

fn feed(parser: &LineParser, stream: &mut Stream, offset: usize, text: &str) {
    let chunk = Chunk { offset: offset as u64, bytes: text.as_bytes().to_vec() };
    stream.take(&mut parser.parse(&chunk)).unwrap();
}

/// A session as it is scored.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    id: String,
    why: Why,
    start: i64,
    events: Vec<u32>,
    gaps: Vec<i64>,
    censored: bool,
    until: i64,
}

fn drain(stream: &mut Stream) -> Vec<Seen> {
    let mut seen = Vec::new();
    while let Some(done) = stream.pending.pop_front() {
        let numbered = stream.forms.numbered(Some(done.new)).unwrap();
        let (id, why) = (done.id.clone(), done.why);
        let traces: Traces = judge::traces(&[done], &numbered, stream.keyless);
        seen.push(Seen {
            id,
            why,
            start: traces.starts[0],
            events: traces.events,
            gaps: traces.gaps,
            censored: traces.censored[0],
            until: traces.until[0],
        });
    }
    seen
}

/// What the pipeline makes of a log that ends so.
fn whole(log: &str, with: &Value, dir: &Path) -> Vec<Seen> {
    let path = dir.join("a.log");
    std::fs::write(&path, log).unwrap();
    let found = sessions_from_logs(
        &[path.as_path()],
        &ParseParams::default(),
        &known(),
        &TemplatesParams::default(),
        &params(with),
    );
    let sessions = found.unwrap().sessions;
    let until = sessions.end.iter().copied().max().unwrap_or(0);
    let row = |row: usize| {
        let events = sessions.offsets[row]..sessions.offsets[row + 1];
        Seen {
            id: sessions.ids[row].clone(),
            why: Why::End,
            start: sessions.start[row],
            events: sessions.events[events.clone()].to_vec(),
            gaps: sessions.gaps[events].to_vec(),
            censored: sessions.censored[row],
            until,
        }
    };
    (0..sessions.len()).map(row).collect()
}

const MESSAGES: [&str; 6] = ["open", "look at", "Deleting block", "never seen 7 of", "new word of", "new thing of"];

/// Lines: seconds since the line before (some go back), keys, message.
fn log() -> impl Strategy<Value = Vec<String>> {
    let line = (prop_oneof![6 => 0i64..8, 1 => 8i64..40, 1 => -3i64..0], 0u8..5, 0usize..6, prop::bool::weighted(0.2));
    prop::collection::vec(line, 1..40).prop_map(|lines| {
        let mut now = 3600i64;
        let line = |(step, key, message, two): (i64, u8, usize, bool)| {
            now += step;
            let (h, m, s) = (now / 3600, now / 60 % 60, now % 60);
            let other = if two { format!(" and blk_{}", (key + 1) % 5) } else { String::new() };
            format!("081109 {h:02}{m:02}{s:02} 1 INFO a: {} blk_{key}{other}\n", MESSAGES[message])
        };
        lines.into_iter().map(line).collect()
    })
}

fn ending(early: bool) -> Ending {
    Ending { idle: Some(15_000_000), linger: 5_000_000, early, ..Ending::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// The promise of the module: what ends or is looked at is as if the log ended there.
    #[test]
    fn a_session_is_as_if_the_log_ended_with_the_line(mut lines in log(), gap: bool) {
        if gap {
            // A late line would go on with a session that was cut there.
            lines.sort();
        }
        let dir = tempfile::tempdir().unwrap();
        let with = if gap { json!({"gap": "15s", "idle": 0.01}) } else { json!({"idle": 0.01}) };
        let (parser, mut stream) = stream(&with, &ending(true));
        let (mut text, mut keys) = (String::new(), BTreeSet::new());
        for line in &lines {
            feed(&parser, &mut stream, text.len(), line);
            text += line;
            let expected = whole(&text, &with, dir.path());
            for seen in drain(&mut stream) {
                // The rest of a session that was taken for over is none of the pipeline's.
                let by_its_line = seen.why != Why::Early && line.contains(&seen.id);
                let again = !gap && (keys.contains(&seen.id) || by_its_line);
                if !gap && seen.why != Why::Early {
                    keys.insert(seen.id.clone());
                }
                if again {
                    continue;
                }
                let same = expected.iter().find(|other| other.id == seen.id).unwrap();
                prop_assert_eq!(same, &Seen { why: Why::End, ..seen });
            }
        }
    }

    #[test]
    fn without_idleness_all_sessions_are_those_of_the_pipeline(lines in log(), cut in 0usize..4, piece in 1usize..9) {
        let with = [json!({}), json!({"gap": "9s"}), json!({"window": "20s", "step": "5s"}), json!({"within": "log", "gap": "9s"})];
        let (with, dir) = (&with[cut], tempfile::tempdir().unwrap());
        let (parser, mut stream) = stream(with, &Ending::default());
        for some in lines.chunks(piece) {
            feed(&parser, &mut stream, 1, &some.concat());
        }
        stream.finish();
        let seen = drain(&mut stream);
        prop_assert_eq!(seen, whole(&lines.concat(), with, dir.path()));
    }

    #[test]
    fn windows_that_are_over_are_those_of_the_pipeline(mut lines in log(), piece in 1usize..9) {
        // A late line of a window that is over would be another session of it.
        lines.sort();
        let (with, dir) = (json!({"window": "20s", "step": "10s"}), tempfile::tempdir().unwrap());
        let (parser, mut stream) = stream(&with, &ending(false));
        for some in lines.chunks(piece) {
            feed(&parser, &mut stream, 1, &some.concat());
        }
        let mut seen: Vec<Seen> = drain(&mut stream);
        prop_assert!(seen.iter().all(|seen| seen.why == Why::Idle));
        stream.finish();
        seen.extend(drain(&mut stream));
        let name = |seen: &Seen| (seen.start, seen.id.clone(), seen.events.clone(), seen.gaps.clone());
        let mut names: Vec<_> = seen.iter().map(name).collect();
        names.sort();
        let mut wanted: Vec<_> = whole(&lines.concat(), &with, dir.path()).iter().map(name).collect();
        wanted.sort();
        // New forms are mined as of the time that a window is over.
        let known = |all: Vec<(i64, String, Vec<u32>, Vec<i64>)>| -> Vec<_> {
            all.into_iter().map(|(start, id, events, gaps)| (start, id, events.len(), gaps)).collect()
        };
        prop_assert_eq!(known(names), known(wanted));
    }

    #[test]
    fn neither_pieces_nor_restarts_change_what_comes_out(lines in log(), piece in 1usize..9, gap: bool) {
        let with = if gap { json!({"gap": "15s"}) } else { json!({}) };
        let (parser, mut one) = stream(&with, &ending(true));
        let mut wanted = Vec::new();
        for line in &lines {
            feed(&parser, &mut one, 1, line);
            wanted.extend(drain(&mut one));
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let none = String::new();
        let identity =
            Identity { run: none.clone(), models: none.clone(), log: none.clone(), out: none.clone(), stream: none };
        let file = StateFile::new(&path, identity);
        let (_, mut other) = stream(&with, &ending(true));
        let mut got = Vec::new();
        for some in lines.chunks(piece) {
            feed(&parser, &mut other, 1, &some.concat());
            got.extend(drain(&mut other));
            file.save(&other, &Progress::default()).unwrap();
            let (_, mut next) = stream(&with, &ending(true));
            State::read(&path).unwrap().unwrap().resume(&mut next).unwrap();
            prop_assert_eq!(next.counts(), other.counts());
            other = next;
        }
        prop_assert_eq!(&got, &wanted);
        one.silent();
        other.silent();
        prop_assert_eq!(drain(&mut other), drain(&mut one));
        prop_assert_eq!(other.open_sessions(), 0);
    }
}

#[test]
fn sessions_end_by_silence_by_an_event_and_for_lack_of_room() {
    let (parser, mut stream) = stream(&json!({}), &Ending { sessions: 2, ..ending(false) });
    feed(&parser, &mut stream, 0, "081109 200000 1 INFO a: open blk_1\n081109 200001 1 INFO a: Deleting block blk_2\n");
    feed(&parser, &mut stream, 1, "081109 200006 1 INFO a: open blk_1\n081109 200007 1 INFO a: open blk_3\n");
    feed(&parser, &mut stream, 1, "081109 200008 1 INFO a: open blk_4\n081109 200024 1 INFO a: nobody\n");
    let ended: Vec<(String, Why, usize)> =
        drain(&mut stream).into_iter().map(|seen| (seen.id, seen.why, seen.events.len())).collect();
    let expected =
        [("blk_2", Why::Closed, 1), ("blk_1", Why::Full, 2), ("blk_3", Why::Idle, 1), ("blk_4", Why::Idle, 1)];
    assert_eq!(ended, expected.map(|(id, why, events)| (id.to_owned(), why, events)));
    assert_eq!((stream.counts().full, stream.open_sessions(), stream.counts().without_session), (1, 0, 1));
}

#[test]
fn new_forms_are_mined_together_as_far_as_they_were_seen() {
    let (parser, mut stream) = stream(&json!({}), &Ending::default());
    let line = |s: usize, user: usize| {
        format!("081109 2000{s:02} 1 INFO a: left behind by user u{} was blk_{s}\n", "x".repeat(user))
    };
    for s in 0..20 {
        feed(&parser, &mut stream, 1, &line(s, s));
    }
    stream.finish();
    let templates: BTreeSet<u32> = drain(&mut stream).into_iter().flat_map(|seen| seen.events).collect();
    assert_eq!((templates, stream.new_templates().unwrap()), (BTreeSet::from([3]), 1));
}
