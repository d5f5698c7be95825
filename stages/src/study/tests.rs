//! Targets over small cells that `evaluate` wrote.

use serde_json::json;

use super::*;
use crate::support::scoretable::tests::frame;
use crate::support::table::write_parquet;
use crate::testing::run;

type Scored = [(&'static str, Option<i8>, f64)];

fn evaluated(dir: &Path, name: &str, rows: &Scored) -> std::path::PathBuf {
    let scores = dir.join("scores.parquet");
    write_parquet(&scores, &mut frame(rows)).unwrap();
    let summary = dir.join("sessions.json");
    std::fs::write(&summary, r#"{"simulated": true, "lines": 9, "rejected": 0}"#).unwrap();
    let inputs = [("scores", "scores", scores.as_path()), ("summary", "summary", summary.as_path())];
    let outputs = ["metrics", "roc", "pr", "cm", "ensemble"];
    let done = run(&crate::evaluate::kind(), &json!({"resamples": 50, "threshold": {"beta": 1}}), &inputs, &outputs, 1)
        .unwrap();
    let path = dir.join(name);
    std::fs::copy(done.path("metrics"), &path).unwrap();
    path
}

#[test]
fn cells_and_targets_in_one_table() {
    let dir = tempfile::tempdir().unwrap();
    let validation = [("train", Some(0), 0.1), ("validation", Some(1), 0.9), ("validation", Some(0), 0.1)];
    let good = [("test", Some(1), 0.9), ("test", Some(0), 0.2), ("test", Some(0), 0.1)];
    let bad = [("test", Some(0), 0.9), ("test", Some(1), 0.8), ("test", Some(1), 0.1)];
    let a = evaluated(dir.path(), "a", &[validation, good].concat());
    let b = evaluated(dir.path(), "b", &[validation, bad].concat());
    let inputs = [
        ("cells", "reports/x/rolling/0/metrics.json", a.as_path()),
        ("cells", "reports/x/rolling/1/metrics.json", b.as_path()),
    ];
    let target = |take: &str, least: f64| json!({"name": take, "cells": "rolling/\\d", "take": take, "value": "/fusion/average_precision", "at_least": least});
    let with = json!({"folder": "reports/x/", "targets": [
        target("mean", 0.75), target("min", 0.6), target("pooled_f1", 0.6),
        {"name": "errors", "cells": ".*", "take": "errors", "at_most": 1},
        {"name": "group", "cells": "rolling/(0)", "value": "/fusion/fpr_calibration/{1}/intended", "at_least": 0},
        {"name": "missing", "cells": "rolling/(1)", "value": "/fusion/nothing", "at_least": 0},
        {"name": "nobody", "cells": "rolling", "value": "/fusion/f1", "at_least": 0},
    ]});
    let done = run(&kind(), &with, &inputs, &["table", "study", "page"], 1).unwrap();
    let study: Value = serde_json::from_str(&done.text("study")).unwrap();
    let of = |name: &str| study["targets"].as_array().unwrap().iter().find(|t| t["name"] == name).unwrap().clone();
    // Average precisions: 1, and (1/2 + 2/3) / 2.
    let mean = (1.0 + 7.0 / 12.0) / 2.0;
    assert!((of("mean")["value"].as_f64().unwrap() - mean).abs() < 1e-12);
    assert_eq!([of("mean")["reached"].clone(), of("min")["reached"].clone()], [json!(true), json!(false)]);
    // Together 2 hits, 1 false alarm, 1 miss.
    assert!((of("pooled_f1")["value"].as_f64().unwrap() - 4.0 / 6.0).abs() < 1e-12);
    assert_eq!((of("errors")["value"].clone(), of("errors")["reached"].clone()), (json!(2.0), json!(false)));
    assert_eq!(of("group")["value"], json!(0.001));
    assert_eq!((of("missing")["reached"].clone(), of("nobody")["reached"].clone()), (Value::Null, Value::Null));
    assert_eq!(done.warnings, ["target `nobody`: no cell is named so"]);
    let table = done.text("table");
    assert!(table.starts_with("cell,model,source,train,test,test_anomalies,average_precision,"), "{table}");
    assert_eq!(table.lines().count(), 1 + 2 * 4);
    assert!(table.contains("\nrolling/0,fusion,simulated,1,3,1,1.0,"), "{table}");
    let page = done.text("page");
    assert!(page.contains("Simulated data") && page.contains("<strong>no</strong>"), "{page}");
    let again = run(&kind(), &with, &inputs, &["table", "study", "page"], 2).unwrap();
    assert_eq!(again.bytes(), done.bytes());
}

#[test]
fn a_session_that_stands_for_many_counts_as_many() {
    let dir = tempfile::tempdir().unwrap();
    let rows = [
        ("train", Some(0), 0.1),
        ("validation", Some(1), 0.9),
        ("validation", Some(0), 0.1),
        ("test", Some(0), 0.95),
        ("test", Some(1), 0.9),
        ("test", Some(0), 0.1),
    ];
    let mut scores = frame(&rows);
    scores.with_column(polars::prelude::Column::new("weight".into(), [9.0, 1.0, 9.0, 9.0, 1.0, 9.0])).unwrap();
    let path = dir.path().join("scores.parquet");
    write_parquet(&path, &mut scores).unwrap();
    let summary = dir.path().join("sessions.json");
    std::fs::write(&summary, r#"{"simulated": false, "lines": null, "rejected": null}"#).unwrap();
    let inputs = [("scores", "scores", path.as_path()), ("summary", "summary", summary.as_path())];
    let outputs = ["metrics", "roc", "pr", "cm", "ensemble"];
    let done = run(&crate::evaluate::kind(), &json!({"resamples": 0}), &inputs, &outputs, 1).unwrap();
    let metrics: Value = serde_json::from_str(&done.text("metrics")).unwrap();
    let fusion = &metrics["fusion"];
    // One hit behind a false alarm that stands for nine; of 18 normal sessions nine are flagged.
    assert!((fusion["average_precision"].as_f64().unwrap() - 0.1).abs() < 1e-12);
    assert!((fusion["precision"].as_f64().unwrap() - 0.1).abs() < 1e-12 && fusion["fpr"] == 0.5);
    assert_eq!((metrics["confusion"]["fp"].clone(), metrics["dataset"]["population"].clone()), (json!(1), json!(38.0)));
}

#[test]
fn targets_that_make_no_sense_are_named() {
    let errors = (kind().make)(&json!({"targets": [{"name": "x", "cells": "(", "value": "f1"}]})).err().unwrap();
    let paths: Vec<&str> = errors.iter().map(|e| e.path.as_str()).collect();
    assert_eq!(paths, ["targets.0.cells", "targets.0.value", "targets.0"]);
}
