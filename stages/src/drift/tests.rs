//! The kind on small tables: sessions of one population, and of another from the test fold on.

use std::path::PathBuf;

use polars::prelude::{Column, DataFrame};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::*;
use crate::sessionize::Sessions;
use crate::support::scoretable::tests::frame;
use crate::support::table::write_parquet;
use crate::testing::{Run, run};

const N: usize = 500;

/// What sessions from the test fold on are like.
#[derive(Clone, Copy, Default)]
struct Change {
    /// Probability of a template that no session before has.
    new_template: f64,
    /// Added to the score.
    score: f64,
    /// Further events.
    longer: usize,
}

/// Sessions `s0`, `s1`, …, one second apart; the last fifth is test.
fn write(dir: &Path, seed: u64, change: Change) -> Vec<(&'static str, PathBuf)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut sessions = Sessions { offsets: vec![0], ..Sessions::default() };
    let (mut folds, mut scores) = (Vec::new(), Vec::new());
    for i in 0..N {
        let fold = ["train", "train", "train", "validation", "test"][i * 5 / N];
        let change = if fold == "test" { change } else { Change::default() };
        sessions.ids.push(format!("s{i}"));
        sessions.start.push(1_226_262_918_000_000 + i as i64 * 1_000_000);
        sessions.end.push(1_226_262_919_000_000 + i as i64 * 1_000_000);
        sessions.censored.push(false);
        let length = rng.random_range(3..9) + change.longer;
        for _ in 0..length {
            let other = rng.random::<f64>() < change.new_template;
            sessions.events.push(if other { 3 } else { rng.random_range(0..3) });
        }
        sessions.offsets.push(sessions.events.len());
        folds.push(fold);
        scores.push((fold, None, 0.1 * rng.random::<f64>() + change.score));
    }
    sessions.gaps = vec![0; sessions.events.len()];
    sessions.lines = (1..=sessions.events.len() as u64).collect();
    let at = |name: &str| dir.join(name);
    sessions.write(&at("sessions.parquet")).unwrap();
    std::fs::write(at("sessions.json"), r#"{"simulated": true}"#).unwrap();
    let rows = "T1,0,1,open <id>\nT2,1,1,read <id>\nT3,2,1,close <id>\nT4,3,1,crash of <id>\n";
    std::fs::write(at("templates.csv"), format!("event_id,number,count,text\n{rows}")).unwrap();
    write_parquet(&at("scores.parquet"), &mut frame(&scores)).unwrap();
    let mut split = DataFrame::new_infer_height(vec![
        Column::new("session_id".into(), &sessions.ids),
        Column::new("fold".into(), folds),
        Column::new("block".into(), vec![0u32; N]),
    ]);
    write_parquet(&at("split.parquet"), split.as_mut().unwrap()).unwrap();
    [
        ("sessions", "sessions.parquet"),
        ("templates", "templates.csv"),
        ("summary", "sessions.json"),
        ("split", "split.parquet"),
        ("scores", "scores.parquet"),
    ]
    .map(|(slot, file)| (slot, at(file)))
    .to_vec()
}

fn drift_of(inputs: &[(&'static str, PathBuf)], with: &Value) -> anyhow::Result<(Value, Run)> {
    let slots: Vec<(&str, &str, &Path)> = inputs.iter().map(|(slot, path)| (*slot, *slot, path.as_path())).collect();
    let made = run(&kind(), with, &slots, &["drift", "plot"], 2)?;
    Ok((serde_json::from_str(&made.text("drift"))?, made))
}

fn drift(seed: u64, change: Change) -> Value {
    let dir = tempfile::tempdir().unwrap();
    drift_of(&write(dir.path(), seed, change), &json!({})).unwrap().0
}

fn measure<'a>(drift: &'a Value, name: &str) -> &'a Value {
    let measures = drift["measures"].as_array().unwrap();
    measures.iter().find(|m| m["name"] == name).unwrap_or_else(|| panic!("no measure {name}: {drift}"))
}

#[test]
fn sessions_of_one_population_are_stable() {
    for seed in 0..5 {
        let drift = drift(seed, Change::default());
        assert_eq!(drift["verdict"], "stable", "{}", drift["reason"]);
        assert_eq!(drift["measures"].as_array().unwrap().len(), 6);
        assert_eq!((&drift["reference"]["sessions"], &drift["reference"]["scored"]), (&400.into(), &100.into()));
        assert!(drift["new_templates"].as_array().unwrap().is_empty());
    }
}

#[test]
fn a_new_template_is_a_reason_to_refit_and_named() {
    let drift = drift(1, Change { new_template: 0.2, ..Change::default() });
    assert_eq!(drift["verdict"], "refit");
    assert_eq!(measure(&drift, "templates")["verdict"], "refit");
    assert_eq!(measure(&drift, "fusion")["verdict"], "stable");
    let new = &drift["new_templates"][0];
    assert_eq!(
        (&new["event_id"], &new["text"], &new["reference"]),
        (&"T4".into(), &"crash of <id>".into(), &0.0.into())
    );
    assert!((0.15..0.25).contains(&new["new"].as_f64().unwrap()), "{new}");
    let reason = drift["reason"].as_str().unwrap();
    assert!(reason.contains("shares of templates") && reason.contains("T4 `crash of <id>`"), "{reason}");
}

#[test]
fn scores_and_lengths_have_verdicts_of_their_own() {
    let higher = drift(2, Change { score: 0.08, ..Change::default() });
    assert_eq!(
        (&measure(&higher, "fusion")["verdict"], &measure(&higher, "templates")["verdict"]),
        (&"refit".into(), &"stable".into())
    );
    assert!(higher["reason"].as_str().unwrap().contains("the score of"), "{}", higher["reason"]);
    let longer = drift(3, Change { longer: 4, ..Change::default() });
    assert_eq!(
        (&measure(&longer, "length")["verdict"], &measure(&longer, "fusion")["verdict"]),
        (&"refit".into(), &"stable".into())
    );
}

#[test]
fn what_the_reference_does_itself_is_only_worth_watching() {
    // Templates alternate between two mixtures: test is like the second stretch of the reference, not like all of it.
    let dir = tempfile::tempdir().unwrap();
    let inputs = write(dir.path(), 4, Change::default());
    let mut sessions = Sessions { offsets: vec![0], ..Sessions::default() };
    for i in 0..N {
        sessions.ids.push(format!("s{i}"));
        sessions.start.push(i as i64 * 1_000_000);
        sessions.end.push(i as i64 * 1_000_000);
        sessions.censored.push(false);
        let second = matches!(i * 5 / N, 1 | 4);
        sessions.events.extend(if second { [0, 0, 0, 1] } else { [0, 1, 1, 2] });
        sessions.offsets.push(sessions.events.len());
    }
    sessions.gaps = vec![0; sessions.events.len()];
    sessions.lines = vec![1; sessions.events.len()];
    sessions.write(&dir.path().join("sessions.parquet")).unwrap();
    let (drift, _) = drift_of(&inputs, &json!({})).unwrap();
    assert_eq!(measure(&drift, "templates")["verdict"], "watch", "{}", drift["reason"]);
    assert_eq!(drift["verdict"], "watch");
}

#[test]
fn where_sessions_are_still_open_all_are_followed_for_the_same_time() {
    // Sessions one second apart with an event every ten seconds; the log ends at second 500 and cuts the last ones short.
    let dir = tempfile::tempdir().unwrap();
    let inputs = write(dir.path(), 4, Change::default());
    let mut sessions = Sessions { offsets: vec![0], ..Sessions::default() };
    for i in 0..N as i64 {
        let events = ((N as i64 - i) / 10 + 1).min(4);
        sessions.ids.push(format!("s{i}"));
        sessions.start.push(i * 1_000_000);
        sessions.end.push((i + (events - 1) * 10).min(N as i64) * 1_000_000);
        sessions.censored.push(events < 4);
        sessions.events.extend(0..events as u32);
        sessions.gaps.extend((0..events).map(|k| if k == 0 { 0 } else { 10_000 }));
        sessions.offsets.push(sessions.events.len());
    }
    sessions.lines = vec![1; sessions.events.len()];
    sessions.write(&dir.path().join("sessions.parquet")).unwrap();
    let (drift, _) = drift_of(&inputs, &json!({})).unwrap();
    assert_eq!((&measure(&drift, "templates")["divergence"], &drift["verdict"]), (&0.0.into(), &"stable".into()));
    // The last event is at second 499: 80 of 100 sessions were seen for 20 s or more.
    let seconds = drift["followed_seconds"].as_f64().unwrap();
    assert!((18.0..=21.0).contains(&seconds), "{seconds}");
    assert_eq!(drift["new"]["sessions"].as_u64().unwrap() + drift["new"]["left_out"].as_u64().unwrap(), 100);
    let (whole, _) = drift_of(&inputs, &json!({"followed": 1.0})).unwrap();
    assert_eq!((&whole["followed_seconds"], &measure(&whole, "length")["verdict"]), (&Value::Null, &"refit".into()));
}

#[test]
fn without_new_sessions_there_is_no_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = write(dir.path(), 1, Change::default());
    let mut split = DataFrame::new_infer_height(vec![
        Column::new("session_id".into(), (0..N).map(|i| format!("s{i}")).collect::<Vec<_>>()),
        Column::new("fold".into(), vec!["train"; N]),
        Column::new("block".into(), vec![0u32; N]),
    ]);
    write_parquet(&dir.path().join("split.parquet"), split.as_mut().unwrap()).unwrap();
    let (none, _) = drift_of(&inputs, &json!({})).unwrap();
    assert_eq!((&none["verdict"], &none["reason"]), (&Value::Null, &"the new data has no sessions to compare".into()));
}

#[test]
fn another_table_is_compared_by_the_texts_of_its_templates() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut inputs: Vec<_> = write(old.path(), 1, Change::default());
    inputs.retain(|(slot, _)| *slot != "split");
    let others = write(new.path(), 2, Change::default());
    // The same texts in another order, so that numbers mean something else.
    let rows = "A,0,1,crash of <id>\nB,1,1,close <id>\nC,2,1,read <id>\nD,3,1,halt\n";
    std::fs::write(new.path().join("templates.csv"), format!("event_id,number,count,text\n{rows}")).unwrap();
    for (slot, from) in [("new_sessions", "sessions"), ("new_scores", "scores")] {
        inputs.push((slot, others.iter().find(|(slot, _)| *slot == from).unwrap().1.clone()));
    }
    assert_eq!(drift_of(&inputs, &json!({})).unwrap().0["verdict"], "stable");
    inputs.push(("new_templates", new.path().join("templates.csv")));
    let (drift, _) = drift_of(&inputs, &json!({})).unwrap();
    assert_eq!(drift["verdict"], "refit");
    let ids = |list: &str| -> Vec<String> {
        drift[list].as_array().unwrap().iter().map(|t| t["event_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((ids("new_templates"), ids("vanished_templates")), (vec!["T4".to_owned()], vec!["T1".to_owned()]));
    assert_eq!(drift["reference"]["of"], "all sessions");
}

#[test]
fn slots_that_do_not_fit_together_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = write(dir.path(), 1, Change::default());
    let error = |inputs: &[(&'static str, PathBuf)]| format!("{:#}", drift_of(inputs, &json!({})).err().unwrap());
    assert!(error(&inputs[..3]).contains("give `split`"));
    let with = |slot, path: &PathBuf| [inputs.clone(), vec![(slot, path.clone())]].concat();
    assert!(error(&with("new_scores", &inputs[4].1)).contains("belong to `new_sessions`"));
    assert!(error(&with("new_sessions", &inputs[0].1)).contains("leave `split` out"));
    let errors = (kind().make)(&json!({"level": 0.001, "tolerance": 0.5, "most_sessions": 1})).err().unwrap();
    let paths: Vec<&str> = errors.iter().map(|e| e.path.as_str()).collect();
    assert_eq!(paths, ["tolerance", "permutations", "most_sessions"]);
}

#[test]
fn equal_inputs_give_equal_bytes_on_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = write(dir.path(), 1, Change { new_template: 0.05, ..Change::default() });
    let slots: Vec<(&str, &str, &Path)> = inputs.iter().map(|(slot, path)| (*slot, *slot, path.as_path())).collect();
    let bytes = |threads| run(&kind(), &json!({}), &slots, &["drift", "plot"], threads).unwrap().bytes();
    assert!(bytes(1) == bytes(3));
}

/// Where the committed schema is.
fn schema_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/drift.schema.json")
}

#[test]
fn reports_follow_the_committed_schema_and_it_follows_the_types() {
    let committed: Value = serde_json::from_slice(&std::fs::read(schema_file()).unwrap()).unwrap();
    assert_eq!(committed, document::schema(), "run `cargo test -p logweir-stages -- --ignored write_drift_schema`");
    let validator = jsonschema::validator_for(&committed).unwrap();
    for change in [Change::default(), Change { new_template: 0.3, ..Change::default() }] {
        let errors: Vec<String> = validator.iter_errors(&drift(1, change)).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
    }
    assert!(!validator.is_valid(&json!({"verdict": "fine"})));
}

#[test]
#[ignore = "writes docs/drift.schema.json"]
fn write_drift_schema() {
    std::fs::write(schema_file(), serde_json::to_string_pretty(&document::schema()).unwrap() + "\n").unwrap();
}
