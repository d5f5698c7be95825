//! The five kinds one after the other on a toy log: scores, bytes, missing labels, windows.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use logweir_engine::digest::Digest;
use logweir_engine::stage::{InputFile, StageContext, StageMessage};
use polars::prelude::{Int64Type, UInt32Type};
use serde_json::{Value, json};

use super::*;
use crate::support::learning::read_json;
use crate::support::metrics::average_precision;
use crate::support::table::{list_column, read_parquet, write_parquet};

/// Runs a kind with input and output paths below `root`; directories end in `/`.
fn run(
    root: &Path,
    kind: &str,
    params: &Value,
    outputs: &[(&str, &str)],
    threads: usize,
) -> anyhow::Result<Vec<StageMessage>> {
    let registry = crate::registry();
    let made = (registry.get(kind).expect("a kind").make)(params).map_err(|e| anyhow::anyhow!("{e:?}"))?;
    let messages = Mutex::new(Vec::new());
    let sink = |m: StageMessage| messages.lock().unwrap().push(m);
    let inputs = [
        ("sessions", "sessions.parquet"),
        ("templates", "templates.csv"),
        ("labels", "sessions.csv"),
        ("types", "types.csv"),
        ("split", "split.parquet"),
        ("features", "data/features/"),
        ("lgbm", "data/models/lgbm/"),
        ("ae", "data/models/ae/"),
        ("profile", "data/models/profile/"),
    ];
    let file = |path: &str| {
        let at = root.join(path);
        if at.exists() { vec![InputFile { logical: path.to_owned(), path: at }] } else { vec![] }
    };
    for (_, path) in outputs {
        let at = root.join(path);
        std::fs::create_dir_all(if path.ends_with('/') { &at } else { at.parent().unwrap() })?;
    }
    let cx = StageContext {
        inputs: inputs.iter().map(|(slot, path)| ((*slot).to_owned(), file(path))).collect(),
        outputs: outputs.iter().map(|(slot, path)| ((*slot).to_owned(), root.join(path))).collect(),
        scratch: root.to_path_buf(),
        env: BTreeMap::new(),
        threads,
        key: Digest::of_bytes(b"test"),
        messages: &sink,
        cancelled: &AtomicBool::new(false),
    };
    made.stage.run(&cx)?;
    Ok(messages.into_inner().unwrap())
}

/// All five kinds with small settings; `featurize` holds parameters of that kind.
fn pipeline(root: &Path, featurize: &Value, threads: usize) -> anyhow::Result<()> {
    run(root, "featurize", featurize, &[("features", "data/features/")], threads)?;
    let lgbm = json!({"min_rounds": 30, "rounds": 40, "patience": 5, "min_leaf": 1});
    run(root, "lightgbm", &lgbm, &[("model", "data/models/lgbm/"), ("report", "reports/lgbm_val.json")], threads)?;
    let ae = json!({"epochs": 12, "hidden": [16], "bottleneck": 8, "noise": 0.1});
    run(root, "autoencoder", &ae, &[("model", "data/models/ae/"), ("report", "reports/ae_val.json")], threads)?;
    run(root, "profile", &json!({}), &[("model", "data/models/profile/")], threads)?;
    let outputs = [("model", "data/models/fusion/"), ("scores", "scores.parquet")];
    run(root, "fusion", &json!({}), &outputs, threads)?;
    Ok(())
}

const TEMPLATES: [&str; 6] = ["open <*>", "write <*>", "stored <*>", "close <*>", "retry <*>", "exception <*>"];

/// 600 sessions: open, writes, as many stored, close. Every seventeenth is anomalous: an exception, or a write that is
/// not stored. Some normal ones retry. `label` says what is written for (session, anomalous).
fn toy(root: &Path, label: impl Fn(usize, bool) -> &'static str) -> Vec<bool> {
    let (mut offsets, mut events, mut gaps) = (vec![0], Vec::new(), Vec::new());
    let (mut ids, mut starts, mut ends, mut folds, mut truth) = (vec![], vec![], vec![], vec![], vec![]);
    let mut csv = String::from("session_id,label,timestamp\n");
    let mut types = String::from("session_id,type\n");
    for i in 0..600usize {
        let anomalous = i % 17 == 3;
        let writes = 1 + (i * 7) % 3;
        let mut session = vec![0u32];
        session.extend(vec![1; writes]);
        if !anomalous && i % 5 == 0 {
            session.push(4);
        }
        session.extend(vec![2; if anomalous && i % 2 == 0 { writes - 1 } else { writes }]);
        if anomalous && i % 2 == 1 {
            session.push(5);
        }
        session.push(3);
        ids.push(format!("s{i:04}"));
        starts.push(i as i64 * 60_000_000);
        gaps.extend((0..session.len() as i64).map(|k| if k == 0 { 0 } else { 1000 + (i as i64 * 13 + k) % 5 * 1000 }));
        let length: i64 = gaps[offsets[i]..].iter().sum();
        ends.push(starts[i] + length * 1000);
        events.extend(session);
        offsets.push(events.len());
        folds.push(if i < 360 { "train" } else if i < 480 { "validation" } else { "test" });
        truth.push(anomalous);
        csv += &format!("s{i:04},{},2026-01-01T00:00:00Z\n", label(i, anomalous));
        if anomalous {
            types += &format!("s{i:04},{}\n", if i % 2 == 1 { "exception" } else { "lost" });
        }
    }
    let blocks: Vec<u32> = (0..600u32).map(|i| if i < 360 { (i * 7) % 3 + u32::from(i % 5 == 0) } else { 0 }).collect();
    let mut sessions = DataFrame::new_infer_height(vec![
        Column::new("session_id".into(), &ids),
        time_column("start", &starts).unwrap(),
        time_column("end", &ends).unwrap(),
        list_column::<UInt32Type>("events", &offsets, &events),
        list_column::<Int64Type>("gaps", &offsets, &gaps),
        Column::new("censored".into(), vec![false; 600]),
    ])
    .unwrap();
    write_parquet(&root.join("sessions.parquet"), &mut sessions).unwrap();
    let mut split = DataFrame::new_infer_height(vec![
        Column::new("session_id".into(), &ids),
        Column::new("fold".into(), folds),
        Column::new("block".into(), blocks),
    ])
    .unwrap();
    write_parquet(&root.join("split.parquet"), &mut split).unwrap();
    let mut templates = String::from("event_id,number,count,text\n");
    for (n, text) in TEMPLATES.iter().enumerate() {
        templates += &format!("T{},{n},1,{text}\n", n + 1);
    }
    std::fs::write(root.join("templates.csv"), templates).unwrap();
    std::fs::write(root.join("sessions.csv"), csv).unwrap();
    std::fs::write(root.join("types.csv"), types).unwrap();
    truth
}

fn known(_: usize, anomalous: bool) -> &'static str {
    if anomalous { "1" } else { "0" }
}

fn column(frame: &DataFrame, name: &str) -> Vec<Option<f64>> {
    frame.column(name).unwrap().f64().unwrap().iter().collect()
}

/// Average precision of a column on the test fold.
fn test_ap(frame: &DataFrame, name: &str, truth: &[bool]) -> f64 {
    let scores: Vec<f64> = column(frame, name)[480..].iter().map(|s| s.unwrap()).collect();
    average_precision(&scores, &truth[480..]).unwrap()
}

/// Digest of every file below `root`.
fn bytes(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                let digest = blake3::hash(&std::fs::read(&path).unwrap()).to_string();
                found.insert(path.strip_prefix(root).unwrap().display().to_string(), digest);
            }
        }
    }
    found
}

const SCORES: [&str; 8] =
    ["lgbm", "p_lgbm", "ae", "z_ae", "ae_bounded", "profile", "profile_bounded", "fusion"];

#[test]
fn models_find_the_anomalies_and_scoring_gives_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let truth = toy(root, known);
    pipeline(root, &json!({}), 2).unwrap();
    let scores = read_parquet(&root.join("scores.parquet"), None).unwrap();
    // A ranking by chance has about the prevalence, .06.
    for name in ["lgbm", "ae", "profile", "fusion"] {
        let ap = test_ap(&scores, name, &truth);
        assert!(ap > 0.9, "{name}: {ap}");
    }
    let reasons: Vec<String> = crate::support::traces::strings(&scores, "reason").unwrap();
    assert!(truth.iter().zip(&reasons).all(|(t, r)| !t || !r.is_empty()), "every anomaly has a reason");
    assert!(reasons.iter().any(|r| r.contains("exception")), "{reasons:?}");

    let bundle = Bundle::load(&Directories::of_project(root)).unwrap();
    let sessions = read_parquet(&root.join("sessions.parquet"), None).unwrap();
    let templates = Templates::read(&root.join("templates.csv")).unwrap();
    let again = bundle.score(&sessions, &templates).unwrap();
    for name in SCORES {
        let bits = |frame: &DataFrame| column(frame, name).iter().map(|v| v.unwrap().to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&scores), bits(&again), "{name}");
    }
    assert_eq!(reasons, crate::support::traces::strings(&again, "reason").unwrap());

    // A session alone scores as in the batch, if the log ends when it did then.
    let last = sessions.slice(599, 1);
    let alone = bundle.score(&last, &templates).unwrap();
    assert_eq!(column(&alone, "fusion")[0].unwrap().to_bits(), column(&scores, "fusion")[599].unwrap().to_bits());
}

#[test]
fn the_same_inputs_give_the_same_bytes_at_any_thread_count() {
    let runs: Vec<_> = [1, 2, 2]
        .into_iter()
        .map(|threads| {
            let dir = tempfile::tempdir().unwrap();
            toy(dir.path(), known);
            pipeline(dir.path(), &json!({"vectorizer": "both", "ngrams": [1, 2]}), threads).unwrap();
            bytes(dir.path())
        })
        .collect();
    assert_eq!(runs[0], runs[1]);
    assert_eq!(runs[1], runs[2]);
    assert!(runs[0].len() > 20, "{:?}", runs[0].keys());
}

#[test]
fn without_labels_the_supervised_model_is_left_out_and_the_rest_works() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let truth = toy(root, |_, _| "");
    pipeline(root, &json!({}), 1).unwrap();
    let card: Value = read_json(&root.join("data/models/lgbm/card.json")).unwrap();
    assert_eq!((&card["trained"], &card["why_not"]), (&json!(false), &json!("no train session has a label")));
    let fusion: Value = read_json(&root.join("data/models/fusion/card.json")).unwrap();
    assert_eq!(fusion["rule"], "mean");
    let scores = read_parquet(&root.join("scores.parquet"), None).unwrap();
    assert!(column(&scores, "lgbm").iter().all(Option::is_none));
    assert!(test_ap(&scores, "ae", &truth) > 0.12);
    let bundle = Bundle::load(&Directories::of_project(root)).unwrap();
    let sessions = read_parquet(&root.join("sessions.parquet"), None).unwrap();
    let templates = Templates::read(&root.join("templates.csv")).unwrap();
    let again = bundle.score(&sessions, &templates).unwrap();
    assert_eq!(column(&scores, "fusion"), column(&again, "fusion"));
}

#[test]
fn a_single_class_in_train_is_said_and_survived() {
    for (only, why) in [("0", "no anomaly among"), ("1", "no normal session among")] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        toy(root, move |i, anomalous| if i < 360 { only } else { known(i, anomalous) });
        run(root, "featurize", &json!({}), &[("features", "data/features/")], 1).unwrap();
        let outputs = [("model", "data/models/lgbm/"), ("report", "reports/lgbm_val.json")];
        let messages = run(root, "lightgbm", &json!({}), &outputs, 1).unwrap();
        let warned = messages.iter().any(|m| matches!(m, StageMessage::Warning { text } if text.contains(why)));
        assert!(warned, "{messages:?}");
        run(root, "profile", &json!({}), &[("model", "data/models/profile/")], 1).unwrap();
        let card: Value = read_json(&root.join("data/models/profile/card.json")).unwrap();
        assert_eq!(card["trained"], only == "0");
    }
}

#[test]
fn windows_are_aggregated_by_their_maximum() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let truth = toy(root, known);
    pipeline(root, &json!({"window": {"size": 4, "step": 2}}), 2).unwrap();
    let rows = read_parquet(&root.join("data/models/ae/scores.parquet"), None).unwrap();
    assert!(rows.height() > 600);
    let scores = read_parquet(&root.join("scores.parquet"), None).unwrap();
    let ids = crate::support::traces::strings(&rows, "session_id").unwrap();
    let errors = column(&rows, "error");
    let of_first = ids.iter().zip(&errors).filter(|(id, _)| *id == "s0001").map(|(_, e)| e.unwrap());
    assert_eq!(column(&scores, "ae")[1].unwrap(), of_first.fold(f64::NEG_INFINITY, f64::max));
    assert!(test_ap(&scores, "fusion", &truth) > 0.8);
    let bundle = Bundle::load(&Directories::of_project(root)).unwrap();
    let sessions = read_parquet(&root.join("sessions.parquet"), None).unwrap();
    let templates = Templates::read(&root.join("templates.csv")).unwrap();
    let again = bundle.score(&sessions, &templates).unwrap();
    assert_eq!(column(&scores, "fusion"), column(&again, "fusion"));
}

#[test]
fn no_train_sessions_and_missing_groups_are_errors_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    toy(root, known);
    run(root, "featurize", &json!({"groups": ["count"]}), &[("features", "data/features/")], 1).unwrap();
    let outputs = [("model", "data/models/lgbm/"), ("report", "reports/lgbm_val.json")];
    let error = run(root, "lightgbm", &json!({}), &outputs, 1).unwrap_err().to_string();
    assert!(error.contains("`first`") && error.contains("groups"), "{error}");
    let split = read_parquet(&root.join("split.parquet"), None).unwrap();
    let mut empty = DataFrame::new_infer_height(vec![
        split.column("session_id").unwrap().clone(),
        Column::new("fold".into(), vec!["test"; 600]),
        split.column("block").unwrap().clone(),
    ])
    .unwrap();
    write_parquet(&root.join("split.parquet"), &mut empty).unwrap();
    let error = run(root, "featurize", &json!({}), &[("features", "data/features/")], 1).unwrap_err().to_string();
    assert!(error.contains("no train sessions among 600"), "{error}");
}
