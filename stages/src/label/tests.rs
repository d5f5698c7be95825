//! Labels and types on small tables, and the types of the real sample where it is there.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;
use crate::sessionize::Sessions;
use crate::templates::Source;
use crate::testing::{Run, run};

fn template(number: u32, text: &str) -> Template {
    Template { event_id: format!("T{}", number + 1), number, count: 1, text: text.to_owned(), source: Source::Mined }
}

fn inputs(dir: &Path) -> (PathBuf, PathBuf) {
    let sessions = Sessions {
        ids: ["a", "b", "c", "d"].map(str::to_owned).to_vec(),
        start: vec![0, 1_500_000, 2_000_000, 3_000_000],
        end: vec![1_000_000, 1_500_000, 2_000_000, 3_000_000],
        censored: vec![false; 4],
        offsets: vec![0, 2, 3, 4, 5],
        events: vec![0, 1, 1, 2, 0],
        gaps: vec![0, 1000, 0, 0, 0],
        lines: vec![1, 4, 4, 2, 5],
    };
    let (s, t) = (dir.join("sessions.parquet"), dir.join("templates.csv"));
    sessions.write(&s).unwrap();
    std::fs::write(&t, "event_id,number,count,text\nT1,0,2,open <id>\nT2,1,2,fail <id>\nT3,2,1,odd <id>\n").unwrap();
    (s, t)
}

fn label(labels: Option<&str>, with: &Value, outputs: &[&str]) -> anyhow::Result<Run> {
    let dir = tempfile::tempdir()?;
    let (sessions, templates) = inputs(dir.path());
    let path = dir.path().join("labels.csv");
    let mut slots = vec![("sessions", "s", sessions.as_path()), ("templates", "t", templates.as_path())];
    if let Some(text) = labels {
        std::fs::write(&path, text)?;
        slots.push(("labels", "l", path.as_path()));
    }
    run(&kind(), with, &slots, outputs, 1)
}

#[test]
fn labels_are_joined_in_the_order_of_sessions() {
    let labels = "BlockId,Label\nc,Anomaly\na,normal\nb,perhaps\nzz,1\n";
    let run = label(Some(labels), &json!({}), &["labels"]).unwrap();
    assert_eq!(
        run.text("labels"),
        "session_id,label,timestamp\n\
         a,0,1970-01-01T00:00:00Z\nb,,1970-01-01T00:00:01.500Z\nc,1,1970-01-01T00:00:02Z\nd,,1970-01-01T00:00:03Z\n"
    );
    assert_eq!(
        run.warnings,
        [
            "label `perhaps` (1 sessions) is neither normal nor anomalous: it counts as unknown",
            "1 of 4 labels are for sessions that the log does not have",
            "1 of 4 sessions have no label",
        ]
    );
}

#[test]
fn without_a_label_file_every_label_is_empty() {
    let run = label(None, &json!({}), &["labels", "types"]).unwrap();
    assert!(run.text("labels").lines().skip(1).all(|l| l.split(',').nth(1) == Some("")));
    assert_eq!(run.text("types"), "session_id,type\n");
    assert!(run.warnings.is_empty());
}

#[test]
fn faulty_label_files_are_named_with_the_line() {
    let error = |text: &str| format!("{:#}", label(Some(text), &json!({}), &["labels"]).err().unwrap());
    let conflict = error("BlockId,Label\na,0\nb,1\na,1\n");
    assert!(conflict.contains("line 4: session `a` is labelled `1`, but otherwise in line 2"), "{conflict}");
    assert!(error("a,0\nb,1\n").contains("no column `Label`"));
    assert!(error("id,label\na\n").contains("line 2"));
    // The same label twice is no conflict.
    assert!(label(Some("label,id\n0,a\nNormal,a\n"), &json!({}), &["labels"]).unwrap().text("labels").contains("a,0,"));
}

#[test]
fn the_first_rule_that_holds_names_the_type() {
    let with = json!({"types": [
        {"name": "both", "all": ["^open", "^fail"]},
        {"name": "fails", "only": ["^fail"], "none": ["^odd"]},
        {"name": "strange", "any": ["^odd", "^even"]},
    ]});
    let labels = "id,label\na,1\nb,1\nc,1\nd,1\n";
    let run = label(Some(labels), &with, &["labels", "types"]).unwrap();
    assert_eq!(run.text("types"), "session_id,type\na,both\nb,fails\nc,strange\nd,other\n");
    let some = label(Some("id,label\na,0\nb,1\n"), &with, &["labels", "types"]).unwrap();
    assert_eq!(some.text("types"), "session_id,type\nb,fails\n");
    // Without rules: clusters, or none of them.
    let clustered = label(Some(labels), &json!({}), &["labels", "types"]).unwrap().text("types");
    let kinds: Vec<&str> = clustered.lines().skip(1).filter_map(|l| l.split(',').nth(1)).collect();
    assert!(kinds.len() == 4 && !kinds.contains(&"other") && kinds[1] != kinds[2], "{clustered}");
    let none = label(Some(labels), &json!({"clusters": 0}), &["labels", "types"]).unwrap();
    assert_eq!(none.text("types"), "session_id,type\na,other\nb,other\nc,other\nd,other\n");
}

#[test]
fn the_trace_has_every_event_by_line() {
    let run = label(None, &json!({}), &["labels", "events"]).unwrap();
    assert_eq!(
        run.text("events"),
        "line,timestamp,session_id,event_id\n\
         1,1970-01-01T00:00:00Z,a,T1\n2,1970-01-01T00:00:02Z,c,T3\n4,1970-01-01T00:00:01Z,a,T2\n\
         4,1970-01-01T00:00:01.500Z,b,T2\n5,1970-01-01T00:00:03Z,d,T1\n"
    );
}

#[test]
fn lines_tell_their_label_where_no_file_does() {
    let dir = tempfile::tempdir().unwrap();
    let (sessions, templates) = inputs(dir.path());
    let (log, file) = (dir.path().join("x.log"), dir.path().join("labels.csv"));
    // Sessions: a has lines 1 and 4, b line 4, c line 2, d line 5.
    std::fs::write(&log, "- open\nODD odd\n- nobody's\nBAD fail\n- open\n").unwrap();
    std::fs::write(&file, "id,label\nc,0\n").unwrap();
    let mut slots =
        vec![("sessions", "s", sessions.as_path()), ("templates", "t", templates.as_path()), ("log", "l", &log)];
    let with = json!({"lines": {"regex": r"^(\S+)"}, "types": [{"name": "opened", "any": ["^open"]}]});
    let made = run(&kind(), &with, &slots, &["labels", "types"], 1).unwrap();
    let labels = |run: &Run| run.text("labels").lines().skip(1).map(|l| l[..3].to_owned()).collect::<Vec<_>>();
    assert_eq!(labels(&made), ["a,1", "b,1", "c,1", "d,0"]);
    assert_eq!(made.text("types"), "session_id,type\na,opened\nb,BAD\nc,ODD\n");
    assert!(made.warnings.is_empty(), "{:?}", made.warnings);

    slots.push(("labels", "f", &file));
    let made = run(&kind(), &with, &slots, &["labels"], 1);
    assert!(format!("{:#}", made.err().unwrap()).contains("`types` needs the output slot"));
    let made = run(&kind(), &with, &slots, &["labels", "types"], 1).unwrap();
    assert_eq!(labels(&made), ["a,1", "b,1", "c,0", "d,0"]);

    let error = |with: Value, slots: &[(&str, &str, &Path)]| {
        format!("{:#}", run(&kind(), &with, slots, &["labels"], 1).err().unwrap())
    };
    assert!(error(json!({"lines": {"regex": "x"}}), &slots[..2]).contains("needs the input slot `log`"));
    assert!(error(json!({}), &slots[..3]).contains("needs `lines`"));
    std::fs::write(&log, "- one line\n").unwrap();
    assert!(error(json!({"lines": {"regex": "x"}}), &slots[..3]).contains("give the slot `log` the files"));
}

#[test]
fn wrong_rules_are_all_named() {
    let with = json!({"types": [{"name": "", "any": ["("]}, {"name": "x"}], "normal": ["Anomaly"], "lines": {}});
    let errors = (kind().make)(&with).err().unwrap();
    let paths: Vec<&str> = errors.iter().map(|e| e.path.as_str()).collect();
    assert_eq!(paths, ["types.0.name", "types.0.any.0", "types.1", "lines.regex", "anomalous"]);
}

#[test]
fn rules_look_at_templates_by_number() {
    let rule = TypeRule { name: "n".to_owned(), any: vec!["x".to_owned(), "q".to_owned()], ..TypeRule::default() };
    let rules = Rules::new(&[rule], &[template(0, "a"), template(1, "x y")]).unwrap();
    assert_eq!((rules.type_of(&[0, 0]), rules.type_of(&[0, 1]), rules.type_of(&[7])), (None, Some("n"), None));
    assert_eq!(rules.without_template(), ["q"]);
}

#[test]
fn sessions_cut_by_time_have_the_label_of_their_key() {
    let known = Known {
        labels: [("blk_1", true), ("a@b", true), ("blk_1@20081109T203530Z", false)]
            .map(|(id, label)| (id.to_owned(), Some(label)))
            .into(),
        ..Known::default()
    };
    let label = |id: &str| known.of(id).copied().flatten();
    assert_eq!(label("blk_1@20081109T203531.5Z"), Some(true));
    assert_eq!(label("blk_1@20081109T203530Z"), Some(false));
    assert_eq!((label("a@b"), label("a@b@20081109T203530Z")), (Some(true), Some(true)));
    assert_eq!((label("a"), label("blk_1@noon"), label("@20081109T203530Z")), (None, None, None));
}
