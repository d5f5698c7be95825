//! Local templates to global ones, and the stage on small logs.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::drain::Limits;
use crate::logs::given::GivenTemplate;
use crate::testing::{Run, run};

fn local(text: &str, count: u64) -> LocalTemplate {
    LocalTemplate { text: text.to_owned(), count, name: None }
}

fn ids(global: &GlobalTemplates) -> Vec<(&str, &str, u64)> {
    global.templates.iter().map(|t| (t.event_id.as_str(), t.text.as_str(), t.count)).collect()
}

#[test]
fn templates_of_two_files_are_numbered_by_first_appearance() {
    let parts =
        [vec![local("got <id>", 3), local("lost <id> for good", 1)], vec![local("sent <id>", 2), local("got <id>", 4)]];
    let global = globalize(&parts, &[], Limits::default(), Growth::Beside).unwrap();
    assert_eq!(ids(&global), [("T1", "got <id>", 7), ("T2", "lost <id> for good", 1), ("T3", "sent <id>", 2)]);
    assert_eq!(global.map, [vec![0, 1], vec![2, 0]]);
}

#[test]
fn the_cut_into_files_changes_no_template() {
    let forms: Vec<LocalTemplate> = (0..12)
        .map(|i| local(&format!("the user name{} logged in", char::from(b'a' + i)), 1))
        .chain([local("bye", 2)])
        .collect();
    let whole = globalize(std::slice::from_ref(&forms), &[], Limits::default(), Growth::Beside).unwrap();
    assert_eq!(ids(&whole), [("T1", "the user <*> logged in", 12), ("T2", "bye", 2)]);
    for cut in 0..forms.len() {
        let (a, b) = forms.split_at(cut);
        let parts = globalize(&[a.to_vec(), b.to_vec()], &[], Limits::default(), Growth::Beside).unwrap();
        assert_eq!(parts.templates, whole.templates);
        assert_eq!(parts.map.concat(), whole.map.concat());
    }
}

#[test]
fn given_templates_come_first_and_known_ones_keep_their_numbers() {
    let given =
        GivenTemplates::new(vec![GivenTemplate::new("E5", "[*]got[*]"), GivenTemplate::new("T3", "[*]never[*]")]);
    let known = known_from_given(&given);
    let named = LocalTemplate { name: Some("E5".to_owned()), ..local("got <id>", 2) };
    let parts = [vec![local("sent <id>", 1), named]];
    let global = globalize(&parts, &known, Limits::default(), Growth::Beside).unwrap();
    assert_eq!(ids(&global), [("E5", "<*>got<*>", 2), ("T3", "<*>never<*>", 0), ("T4", "sent <id>", 1)]);
    assert_eq!(global.map, [vec![2, 0]]);

    // A later log against these: nothing moves, what is new is added.
    let later = globalize(
        &[vec![local("new thing", 1), local("sent <id>", 9)]],
        &global.templates,
        Limits::default(),
        Growth::Beside,
    );
    let later = later.unwrap();
    assert_eq!(later.map, [vec![3, 2]]);
    assert_eq!(ids(&later)[2..], [("T4", "sent <id>", 9), ("T5", "new thing", 1)]);
    assert_eq!(given_from_known(&later.templates).all, given.all);
}

#[test]
fn csv_files_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let (t, m) = (dir.path().join("t.csv"), dir.path().join("m.csv"));
    let parts = [vec![local("a, \"b\" <num>", 3)], vec![], vec![local("c", 1), local("a, \"b\" <num>", 1)]];
    let global = globalize(&parts, &[], Limits::default(), Growth::Beside).unwrap();
    files::write(&global, &t, &m).unwrap();
    assert_eq!(read_templates(&t).unwrap(), global.templates);
    assert_eq!(read_map(&m).unwrap(), global.map);
    files::write(&GlobalTemplates::default(), &t, &m).unwrap();
    assert_eq!(read_templates(&t).unwrap(), []);
}

/// Runs parse and templates over logs of plain messages; `known` is the text of the file in that slot.
fn stage(logs: &[&str], known: Option<&str>, with: &Value) -> anyhow::Result<Run> {
    let dir = tempfile::tempdir()?;
    let paths: Vec<(String, PathBuf)> =
        (0..logs.len()).map(|i| (format!("{i}.log"), dir.path().join(format!("{i}.log")))).collect();
    for ((_, path), text) in paths.iter().zip(logs) {
        std::fs::write(path, text)?;
    }
    let inputs: Vec<_> = paths.iter().map(|(name, path)| ("log", name.as_str(), path.as_path())).collect();
    let parsed = run(&crate::parse::kind(), &json!({"format": "plain", "session": "none"}), &inputs, &["events/"], 1)?;
    let events = parsed.path("events");
    let file = dir.path().join("known.csv");
    let mut inputs: Vec<(&str, &str, &Path)> = vec![("events", "events/", &events)];
    if let Some(text) = known {
        std::fs::write(&file, text)?;
        inputs.push(("known", "known.csv", &file));
    }
    run(&kind(), with, &inputs, &["templates", "map"], 1)
}

const LOADED: &str = "EventId,EventTemplate\nE9,user <*> logged in\nE2,\"disk, [*] full\"\n";

#[test]
fn known_templates_of_other_origin_keep_ids_and_new_ones_follow() {
    let log = "boot\nuser ann of the office logged in\ndisk, 93 % full\nuser 7 logged in\n";
    let got = stage(&[log], Some(LOADED), &json!({})).unwrap();
    assert_eq!(
        got.text("templates"),
        "event_id,number,count,text,source\n\
         E9,0,2,user <*> logged in,loaded\n\
         E2,1,1,\"disk, <*> full\",loaded\n\
         T3,2,1,boot,mined\n"
    );
    assert_eq!(got.warnings, [""; 0]);

    // What came of it, against another log: nothing moves.
    let again = stage(&["halt\nboot\n"], Some(&got.text("templates")), &json!({})).unwrap();
    assert_eq!(
        again.text("templates"),
        "event_id,number,count,text,source\n\
         E9,0,0,user <*> logged in,loaded\n\
         E2,1,0,\"disk, <*> full\",loaded\n\
         T3,2,1,boot,mined\n\
         T4,3,1,halt,mined\n"
    );
}

#[test]
fn frozen_templates_do_not_change_and_what_matches_none_is_unseen() {
    let first = stage(&["now in: user ann\nbye\n"], None, &json!({})).unwrap().text("templates");
    let log = "now in: user bob\nnow in: user ann\nwhat\nnow in: user bob\n";
    let with = json!({"known": "frozen", "drain": {"min_values": 2}});
    let got = stage(&[log], Some(&first), &with).unwrap();
    let frozen = "event_id,number,count,text,source\n\
                  T1,0,1,now in: user ann,mined\n\
                  T2,1,0,bye,mined\n\
                  unseen,2,3,<unseen>,unseen\n";
    assert_eq!(got.text("templates"), frozen);
    assert_eq!(got.text("map"), "part,template,number\n0,0,2\n0,1,0\n0,2,2\n");
    let [warning] = got.warnings.as_slice() else { panic!("{:?}", got.warnings) };
    assert!(
        warning.starts_with("3 of 4 lines (75.0 %) match no known template and are of `unseen`: 2 forms"),
        "{warning}"
    );
    assert!(warning.contains("most often `now in: user bob`; `known: extend`"), "{warning}");

    // The file that came of it is frozen too; extended, the number of `unseen` stays.
    let again = stage(&["bye\n"], Some(frozen), &with).unwrap();
    assert!(again.text("templates").ends_with("T2,1,1,bye,mined\nunseen,2,0,<unseen>,unseen\n"));
    let extended = stage(&[log], Some(frozen), &json!({"drain": {"min_values": 2}})).unwrap();
    let extended = extended.text("templates");
    assert!(extended.contains("T1,0,3,now in: user <*>,mined\n"), "{extended}");
    assert!(extended.ends_with("unseen,2,0,<unseen>,unseen\nT4,3,1,what,mined\n"), "{extended}");
}

#[test]
fn faults_of_known_templates_are_told_with_a_hint() {
    let error = |known: Option<&str>, with: Value| format!("{:#}", stage(&["a\n"], known, &with).err().unwrap());
    assert!(error(None, json!({"known": "frozen"})).contains("no file in the input slot `known` (hint: "));
    let twice = "event_id,number,count,text,source\nT1,0,1,a,mined\nT1,1,1,b,mined\n";
    assert!(error(Some(twice), json!({})).contains("line 3: template `T1` is there twice"));
    assert!(error(Some("event_id,number,count,text\nT1,5,1,a\n"), json!({})).contains("numbers count up from 0"));
    assert!(error(None, json!({"known": "thawed"})).contains("thawed"));

    let given = GivenTemplates::new(vec![GivenTemplate::new("E1", "a [*]")]);
    let known = |text: &str| vec![Template { text: text.to_owned(), ..known_from_given(&given)[0].clone() }];
    assert_eq!(known::join(known("a <*>"), &given, Growth::Frozen).unwrap()[0].source, Source::Given);
    let other = known::join(known("b"), &given, Growth::Extend).unwrap_err().to_string();
    assert!(other.contains("`E1` is `b` in the slot `known`, but `a <*>`"), "{other}");
    let new = known::join(Vec::new(), &given, Growth::Frozen).unwrap_err().to_string();
    assert!(new.contains("`E1` was given to `parse` but is not in the slot `known`"), "{new}");
    let not_given = known::join(known("a <*>"), &GivenTemplates::default(), Growth::Extend).unwrap();
    assert_eq!(not_given[0].source, Source::Loaded);
}

/// Messages in which few words vary.
fn messages() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("(got|lost) [a-f]( (by|of) [a-e]{1,2})?", 1..40)
}

proptest! {
    #[test]
    fn ids_are_stable_and_do_not_depend_on_the_cut(first in messages(), second in messages(), cut in 0usize..40) {
        let locals = |texts: &[String]| -> Vec<LocalTemplate> { texts.iter().map(|t| local(t, 1)).collect() };
        let limits = Limits { min_values: 3, ..Limits::default() };
        let mined = globalize(&[locals(&first)], &[], limits, Growth::Extend).unwrap();
        let extended = globalize(&[locals(&second)], &mined.templates, limits, Growth::Extend).unwrap();
        for (before, now) in mined.templates.iter().zip(&extended.templates) {
            prop_assert_eq!((&before.event_id, before.number), (&now.event_id, now.number));
        }
        // What the first log has keeps its id, and so has what the second has when it comes again.
        for (texts, global) in [(&first, &mined), (&second, &extended)] {
            let again = globalize(&[locals(texts)], &extended.templates, limits, Growth::Extend).unwrap();
            prop_assert_eq!(&again.map, &global.map);
            prop_assert_eq!(again.templates.len(), extended.templates.len());
        }
        let (a, b) = second.split_at(cut.min(second.len()));
        let parts = globalize(&[locals(a), locals(b)], &mined.templates, limits, Growth::Extend).unwrap();
        prop_assert_eq!(&parts.templates, &extended.templates);
        prop_assert_eq!(parts.map.concat(), extended.map.concat());

        let frozen = globalize(&[locals(&second)], &mined.templates, limits, Growth::Frozen).unwrap();
        let (unseen, same) = frozen.templates.split_last().unwrap();
        prop_assert_eq!(unseen.source, Source::Unseen);
        let texts = |all: &[Template]| -> Vec<(String, String)> { all.iter().map(|t| (t.event_id.clone(), t.text.clone())).collect() };
        prop_assert_eq!(texts(same), texts(&mined.templates));
        prop_assert_eq!(frozen.templates.iter().map(|t| t.count).sum::<u64>(), second.len() as u64);
    }
}

#[test]
fn parameters_that_do_not_suit_the_log_are_warned_of() {
    let letters =
        |i: usize| -> String { [i / 676, i / 26 % 26, i % 26].map(|l| char::from(b'a' + l as u8)).iter().collect() };
    let lines = |line: &dyn Fn(usize) -> String| -> String { (0..1200).map(|i| line(i) + "\n").collect() };
    let warning = |log: &str, with: Value| -> String {
        let warnings = stage(&[log], None, &with).unwrap().warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        warnings.into_iter().next().unwrap()
    };
    let users = lines(&|i| format!("user {} logged in at door {}", letters(i), letters(i % 90)))
        + &lines(&|i| format!("disk failed {}", i % 7));
    assert_eq!(stage(&[&users], None, &json!({})).unwrap().warnings, [""; 0]);
    let many = warning(&users, json!({"drain": {"similarity": 0.99}}));
    assert!(many.starts_with("2400 lines of 1201 forms have 1201 templates, so hardly any share one"), "{many}");
    assert!(many.contains("a lower `drain.similarity` than 0.99 (default 0.5)"), "{many}");
    let many = warning(&users, json!({"drain": {"min_values": 5000}}));
    assert!(many.contains("a lower `drain.min_values` than 5000"), "{many}");
    let many = warning(&lines(&letters), json!({"drain": {"min_values": 20, "max_children": 5000}}));
    assert!(many.contains("`masks.custom`"), "{many}");

    let mixed = lines(&|i| format!("{} {} of {}", letters(i), letters(i * 7 % 1000), letters(i * 11 % 1000)))
        + &lines(&|i| format!("disk failed {}", i % 7));
    let few = warning(&mixed, json!({"drain": {"similarity": 0.05, "max_children": 2}}));
    assert!(few.contains(" of 1201 forms of messages with `drain.similarity: 0.05`; try a higher one"), "{few}");
    let hidden = warning(&lines(&|i| format!("request {i} done")), json!({}));
    assert!(hidden.contains("has 1200 of 1200 lines (100.0 %)") && hidden.contains("masks hide"), "{hidden}");
}
