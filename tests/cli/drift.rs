//! Drift: stable logs are called stable, and a new release of the software is a reason to refit.

use std::path::Path;

use serde_json::Value;

use crate::support::{Project, real_logs, said};

const PIPELINE: &str = include_str!("../../pipeline.yaml");
fn project() -> Project {
    Project::new(PIPELINE)
}

fn drift_of(project: &Project, logs: &Path, set: &[&str]) -> Value {
    let arguments = [&["run", "-q", "drift"], set].concat();
    let run = project.command(&arguments).env("LOGWEIR_HDFS", logs).output().unwrap();
    said(&run).ok();
    assert!(project.path("reports/drift.png").is_file());
    serde_json::from_str(&project.read("reports/drift.json")).unwrap()
}

fn simulated(with: &[&str]) -> Project {
    let project = project();
    let arguments = [&["simulate", "--sessions", "3000", "--out", "raw"], with].concat();
    project.logweir(&arguments).ok();
    project
}

#[test]
fn a_log_that_goes_on_as_before_is_no_reason_to_refit() {
    let project = simulated(&[]);
    let logs = project.path("raw");
    let random = drift_of(&project, &logs, &["--set", "stages.split.with.method=random"]);
    assert_eq!(random["verdict"], "stable", "{}", random["reason"]);
    // By time sessions are no random sample: files are deleted together, now and then.
    let drift = drift_of(&project, &logs, &[]);
    assert_ne!(drift["verdict"], "refit", "{}", drift["reason"]);
    assert!(drift["followed_seconds"].as_f64().unwrap() > 0.0, "some sessions are still open at the end");
}

#[test]
fn messages_in_other_words_are_a_reason_to_refit() {
    let project = simulated(&["--with", "change.reword.since=0.9", "--with", "change.reword.messages=4"]);
    let drift = drift_of(&project, &project.path("raw"), &[]);
    assert_eq!(drift["verdict"], "refit", "{}", drift["reason"]);
    assert!(drift["shifts"].as_array().unwrap().len() >= 4, "{drift}");
    let templates = drift["measures"].as_array().unwrap().iter().find(|m| m["name"] == "templates").unwrap();
    assert_eq!(templates["verdict"], "refit");
    assert!(drift["reason"].as_str().unwrap().contains(" bits from the reference"));
}

#[test]
fn the_real_sample_by_time_has_a_verdict() {
    let Some(logs) = real_logs() else {
        eprintln!("SKIPPED: no folder of real logs");
        return;
    };
    let drift = drift_of(&project(), &logs, &[]);
    assert!(drift["verdict"].is_string(), "{drift}");
    assert_eq!(drift["measures"].as_array().unwrap().len(), 6);
}
