use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use logweir_engine::digest::Digest;
use logweir_engine::stage::InputFile;
use polars::prelude::UInt32Type;
use serde_json::{Value, json};

use super::*;
use crate::support::scoretable::tests::frame;
use crate::support::table::{list_column, read_parquet, write_parquet};
use polars::prelude::*;

type Row = (&'static str, Option<i8>, f64);

/// Runs the stage on a small table; session i has the event sequence `[i / 2]`, anomalies have the type `odd`.
struct Run {
    dir: tempfile::TempDir,
    metrics: Value,
}

fn run(rows: &[Row], params: &Value) -> anyhow::Result<Run> {
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name);
    write_parquet(&at("scores.parquet"), &mut frame(rows))?;
    let n = rows.len();
    let mut sessions = DataFrame::new_infer_height(vec![
        Column::new("session_id".into(), (0..n).map(|i| format!("s{i}")).collect::<Vec<_>>()),
        list_column::<UInt32Type>(
            "events",
            &(0..=n).collect::<Vec<_>>(),
            &(0..n).map(|i| i as u32 / 2).collect::<Vec<_>>(),
        ),
    ])?;
    write_parquet(&at("sessions.parquet"), &mut sessions)?;
    std::fs::write(at("sessions.json"), r#"{"simulated": true, "lines": 90, "rejected": 1, "sessions": 9}"#)?;
    let mut types = String::from("session_id,type\n");
    for (i, row) in rows.iter().enumerate().filter(|(_, row)| row.1 == Some(1)) {
        types.push_str(&format!("s{i},{}\n", if row.2 > 0.5 { "loud" } else { "quiet" }));
    }
    std::fs::write(at("types.csv"), types)?;

    let input = |name: &str| vec![InputFile { logical: name.to_owned(), path: at(name) }];
    let inputs = [
        ("scores", "scores.parquet"),
        ("sessions", "sessions.parquet"),
        ("summary", "sessions.json"),
        ("types", "types.csv"),
    ]
    .map(|(slot, file)| (slot.to_owned(), input(file)));
    let outputs = ["metrics", "roc", "pr", "cm", "ensemble", "histogram", "pvalues", "calibration", "recall_by_type"];
    let outputs: BTreeMap<String, PathBuf> = outputs.iter().map(|s| ((*s).to_owned(), at(s))).collect();
    let cx = StageContext {
        inputs: inputs.into(),
        outputs,
        scratch: dir.path().to_path_buf(),
        env: BTreeMap::new(),
        threads: 2,
        key: Digest::of_bytes(b"key"),
        messages: &|_| {},
        cancelled: &AtomicBool::new(false),
    };
    let made = (kind().make)(params).unwrap();
    made.stage.run(&cx)?;
    let metrics = serde_json::from_slice(&std::fs::read(at("metrics"))?)?;
    Ok(Run { dir, metrics })
}

impl Run {
    fn number(&self, pointer: &str) -> f64 {
        self.metrics.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no number at {pointer}"))
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap()
    }
}

/// Validation: anomalies at .9 and .8, normal at .2 and .1, so the threshold is .5.
/// Test: anomalies .95 .6 .3, normal .7 .2 .1 .05: tp 2, fp 1, fn 1, tn 3.
const TEN: [Row; 13] = [
    ("train", Some(0), 0.1),
    ("train", Some(1), 0.9),
    ("validation", Some(1), 0.9),
    ("validation", Some(1), 0.8),
    ("validation", Some(0), 0.2),
    ("validation", Some(0), 0.1),
    ("test", Some(1), 0.95),
    ("test", Some(1), 0.6),
    ("test", Some(1), 0.3),
    ("test", Some(0), 0.7),
    ("test", Some(0), 0.2),
    ("test", Some(0), 0.1),
    ("test", Some(0), 0.05),
];

#[test]
fn reports_the_test_fold_at_the_threshold_of_the_validation_fold() {
    let run = run(&TEN, &json!({})).unwrap();
    assert!((run.number("/threshold/value") - 0.5).abs() < 1e-12);
    assert_eq!(run.metrics["threshold"]["objective"], "f_beta");
    assert_eq!(run.metrics["confusion"], json!({"tp": 2, "fp": 1, "fn": 1, "tn": 3}));
    assert!((run.number("/fusion/precision") - 2.0 / 3.0).abs() < 1e-12);
    assert!((run.number("/fusion/recall") - 2.0 / 3.0).abs() < 1e-12);
    assert!((run.number("/fusion/f1") - 2.0 / 3.0).abs() < 1e-12);
    // Ranking + - + + - - -: precisions 1, 2/3, 3/4; 2 of 12 pairs are in the wrong order.
    assert!((run.number("/fusion/average_precision") - (1.0 + 2.0 / 3.0 + 0.75) / 3.0).abs() < 1e-12);
    assert!((run.number("/fusion/roc_auc") - 10.0 / 12.0).abs() < 1e-12);
    // Another scale, the same ranking: the same metrics at a threshold of its own.
    assert!((run.number("/lgbm/threshold/value") - 5.0).abs() < 1e-12);
    assert_eq!(run.number("/lgbm/f1"), run.number("/fusion/f1"));
    assert_eq!(run.number("/fusion_gain/average_precision"), 0.0);
    assert_eq!(run.number("/false_positive_rate/intended"), 0.0);
    assert_eq!(run.number("/false_positive_rate/realised"), 0.25);
    assert_eq!(run.metrics["dataset"]["source"], "simulated");
    assert_eq!(run.metrics["split"]["method"], "chronological");
    assert_eq!(run.metrics["key"], Digest::of_bytes(b"key").to_string());
    assert_eq!(run.metrics["provenance"]["key"], run.metrics["key"]);
    assert_eq!(run.metrics["provenance"]["stage"], "evaluate");
    assert_eq!(run.metrics["provenance"]["inputs"]["scores"], json!(["scores.parquet"]));
    let low = run.number("/fusion/ci95/recall/0");
    assert!(low < 2.0 / 3.0 && run.number("/fusion/ci95/recall/1") > 2.0 / 3.0);
}

#[test]
fn subsets_and_types_of_the_test_fold() {
    let run = run(&TEN, &json!({})).unwrap();
    // Sequences are i / 2: training has only 0, so all test sessions are unseen; (6,7), (8,9), (10,11) share one, and
    // of these (8,9) have different labels.
    assert_eq!(run.number("/unseen_sequences/count"), 7.0);
    assert_eq!(run.number("/deduplicated/count"), 5.0);
    assert_eq!(run.number("/by_anomaly_type/loud/recall"), 1.0);
    assert_eq!(run.number("/by_anomaly_type/quiet/recall"), 0.0);
    assert_eq!(run.number("/by_anomaly_type/quiet/models/lgbm"), 0.0);
    // Seven sessions in six seconds, three alerts.
    assert!((run.number("/alerts/alerts_per_day") - 3.0 * 86_400.0 / 6.0).abs() < 1e-6);
}

#[test]
fn the_ensemble_has_seven_columns_and_every_session() {
    let run = run(&TEN, &json!({})).unwrap();
    let text = run.read("ensemble");
    let mut lines = text.lines();
    assert_eq!(lines.next().unwrap(), "session_id,timestamp,p_lgbm,z_ae,fusion_score,is_alert,label");
    assert_eq!(lines.next().unwrap(), "s0,2008-11-09T20:35:18Z,0.1,0.5,0.1,0,0");
    assert_eq!(lines.count(), 12);
}

#[test]
fn without_labels_a_budget_decides_and_metrics_are_null() {
    let rows: Vec<Row> = TEN.iter().map(|&(fold, _, score)| (fold, None, score)).collect();
    let run = run(&rows, &json!({"threshold": {"alert_share": 0.25}})).unwrap();
    assert_eq!(run.metrics["threshold"]["objective"], "alert_budget");
    assert_eq!(run.metrics["threshold"]["requested"], "f_beta");
    assert!(run.metrics["threshold"]["why"].as_str().unwrap().contains("no validation session has a label"));
    // One of four validation sessions may be flagged: between .8 and .9.
    assert!((run.number("/threshold/value") - 0.85).abs() < 1e-12);
    assert_eq!(run.number("/alerts/test"), 1.0);
    for pointer in
        ["/confusion", "/fusion/f1", "/fusion/roc_auc", "/fusion/ci95/f1", "/fusion_gain", "/false_positive_rate"]
    {
        assert_eq!(run.metrics.pointer(pointer), Some(&Value::Null), "{pointer}");
    }
    assert!(run.read("ensemble").lines().all(|line| line.ends_with(',') || line.ends_with("label")));
}

#[test]
fn objectives_are_parameters() {
    let per_day = run(&TEN, &json!({"threshold": {"objective": "alert_budget", "alerts_per_day": 86_400.0}})).unwrap();
    // Validation spans three seconds, a budget of one a second: three alerts.
    assert_eq!(per_day.number("/threshold/alerts_allowed"), 3.0);
    assert_eq!(per_day.number("/threshold/above"), 0.2);
    let tpr = run(&TEN, &json!({"threshold": {"objective": "fpr_at_tpr", "tpr": 0.5}})).unwrap();
    assert_eq!(tpr.number("/threshold/above"), 0.8);
}

#[test]
fn the_same_bytes_again() {
    let (a, b) = (run(&TEN, &json!({})).unwrap(), run(&TEN, &json!({})).unwrap());
    for name in ["metrics", "roc", "pr", "cm", "ensemble", "histogram"] {
        let read = |run: &Run| std::fs::read(run.dir.path().join(name)).unwrap();
        assert_eq!(read(&a), read(&b), "{name}");
    }
}

#[test]
fn wrong_parameters_are_all_named() {
    let errors = (kind().make)(&json!({"threshold": {"beta": 0, "tpr": 2}, "nominal_fpr": [0.0]})).err().unwrap();
    let paths: Vec<&str> = errors.iter().map(|e| e.path.as_str()).collect();
    assert_eq!(paths, ["threshold.beta", "threshold.tpr", "nominal_fpr.0"]);
}

#[test]
fn every_session_has_a_p_value_against_benign_validation_sessions() {
    let some = run(&TEN, &json!({"nominal_fpr": [0.4]})).unwrap();
    let p = |run: &Run| -> Vec<Option<f64>> {
        let table = read_parquet(&run.dir.path().join("pvalues"), Some(&["p_value"])).unwrap();
        table.column("p_value").unwrap().cast(&DataType::Float64).unwrap().f64().unwrap().iter().collect()
    };
    // Two benign validation sessions, .2 and .1: p is 1/3 above both, 2/3 above one; of themselves 1/2 and 1.
    let third = |n: f64| Some(n / 3.0);
    let (one, two, three) = (third(1.0), third(2.0), third(3.0));
    let expected = [three, one, one, one, Some(0.5), Some(1.0), one, one, one, one, two, three, three];
    let close = |(a, b): (&Option<f64>, &Option<f64>)| a.zip(*b).is_some_and(|(a, b)| (a - b).abs() < 1e-12);
    // A score of .1 ties with the lowest of the reference: both are at least as high.
    assert!(p(&some).iter().zip(&expected).all(close), "{:?}", p(&some));
    assert_eq!(some.number("/conformal/at/0/realised"), 0.25);
    assert_eq!(some.number("/conformal/reference"), 2.0);

    let anomalous: Vec<Row> = TEN
        .iter()
        .map(|&(fold, label, score)| (fold, if fold == "validation" { Some(1) } else { label }, score))
        .collect();
    let none = run(&anomalous, &json!({})).unwrap();
    assert!(p(&none).iter().all(Option::is_none));
    assert_eq!(none.metrics["conformal"], Value::Null);
}

#[test]
fn no_validation_sessions_is_a_clear_error() {
    let error = run(&[("train", Some(0), 0.1), ("test", Some(1), 0.9)], &json!({})).err().unwrap();
    assert!(error.to_string().contains("validation fold has no sessions"), "{error}");
}

/// Where the committed schema is.
fn schema_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.schema.json")
}

#[test]
fn metrics_follow_the_committed_schema_and_it_follows_the_types() {
    let committed: Value = serde_json::from_slice(&std::fs::read(schema_file()).unwrap()).unwrap();
    assert_eq!(committed, document::schema(), "run `cargo test -p logweir-stages -- --ignored write_metrics_schema`");
    let validator = jsonschema::validator_for(&committed).unwrap();
    let unlabelled: Vec<Row> = TEN.iter().map(|&(fold, _, score)| (fold, None, score)).collect();
    for rows in [&TEN[..], &unlabelled] {
        let run = run(rows, &json!({})).unwrap();
        let errors: Vec<String> = validator.iter_errors(&run.metrics).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
    }
    assert!(!validator.is_valid(&json!({"fusion": {"f1": "high"}})));
}

#[test]
#[ignore = "writes docs/metrics.schema.json"]
fn write_metrics_schema() {
    std::fs::write(schema_file(), serde_json::to_string_pretty(&document::schema()).unwrap() + "\n").unwrap();
}
