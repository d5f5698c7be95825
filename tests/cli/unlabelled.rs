//! Without a label file: the unsupervised members, their fusion, an alert budget; judged afterwards by labels that the
//! pipeline never had.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Project, real_logs, said};

const PIPELINE: &str = include_str!("../../pipeline.yaml");
/// Alerts a day that someone can look at.
const BUDGET: f64 = 60.0;

/// Runs the pipeline on logs without labels.
fn run(logs: &Path) -> (Project, Value) {
    let project = Project::new(PIPELINE);
    let budget = format!("stages.evaluate.with.threshold.alerts_per_day={BUDGET}");
    let said = said(&project.command(&["run", "--set", &budget]).env("LOGWEIR_HDFS", logs).output().unwrap()).ok();
    assert!(said.err.contains("no label file: all labels are empty"), "{}", said.err);
    let metrics = serde_json::from_str(&project.read("reports/metrics.json")).unwrap();
    (project, metrics)
}

/// What holds for any log without labels.
fn check(project: &Project, metrics: &Value) {
    assert_eq!(metrics["dataset"]["unlabelled"], metrics["dataset"]["sessions"]);
    let trained = |model: &str| metrics[model]["trained"].as_bool().unwrap();
    assert_eq!((trained("lgbm"), trained("ae"), trained("profile"), trained("fusion")), (false, true, true, true));
    assert_eq!(metrics["fusion"]["average_precision"], Value::Null);
    let fusion: Value = serde_json::from_str(&project.read("data/models/fusion/card.json")).unwrap();
    assert_eq!(fusion["rule"], "mean");
    // The budget is kept on validation, where the threshold was chosen.
    let threshold = &metrics["threshold"];
    assert_eq!(threshold["objective"], "alert_budget");
    let allowed = threshold["alerts_allowed"].as_f64().unwrap();
    let cut = threshold["value"].as_f64().unwrap();
    let validation = &metrics["split"]["validation"];
    let of_validation =
        |time: &str| (validation["first"].as_str().unwrap()..=validation["last"].as_str().unwrap()).contains(&time);
    let ensemble = project.read("reports/ensemble_sessions.csv");
    let alerts = ensemble.lines().skip(1).filter(|row| {
        let cells: Vec<&str> = row.split(',').collect();
        assert_eq!((cells[2], cells[6]), ("", ""), "no probability, no label: {row}");
        of_validation(cells[1]) && cells[4].parse::<f64>().unwrap() >= cut
    });
    assert!(alerts.count() as f64 <= allowed.ceil() + 1.0, "allowed {allowed}");
    let page = project.read("reports/index.html");
    assert!(page.contains("No labels"), "the page says so");
}

/// Labels by session.
fn labels(text: &str) -> BTreeMap<String, bool> {
    let rows = text.lines().skip(1).filter_map(|row| row.split_once(','));
    rows.map(|(id, label)| (id.to_owned(), matches!(label.trim(), "Anomaly" | "1"))).collect()
}

/// Average precision of the fused score, ties as one step; of all sessions that start at `from` or later.
fn average_precision(project: &Project, labels: &BTreeMap<String, bool>, from: &str) -> f64 {
    let ensemble = project.read("reports/ensemble_sessions.csv");
    let mut rows: Vec<(f64, bool)> = Vec::new();
    for row in ensemble.lines().skip(1) {
        let cells: Vec<&str> = row.split(',').collect();
        if cells[1] >= from {
            rows.push((cells[4].parse().unwrap(), labels[cells[0]]));
        }
    }
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let all = rows.iter().filter(|row| row.1).count() as f64;
    let (mut found, mut seen, mut sum) = (0.0, 0.0, 0.0);
    for step in rows.chunk_by(|a, b| a.0 == b.0) {
        let here = step.iter().filter(|row| row.1).count() as f64;
        found += here;
        seen += step.len() as f64;
        sum += here * found / seen;
    }
    sum / all
}

#[test]
fn a_simulated_log_without_labels_is_ranked_far_better_than_by_chance() {
    let logs = Project::toy();
    logs.logweir(&["simulate", "--sessions", "4000", "--out", "raw"]).ok();
    let withheld = labels(&logs.read("raw/anomaly_label.csv"));
    fs::remove_file(logs.path("raw/anomaly_label.csv")).unwrap();
    let (project, metrics) = run(&logs.path("raw"));
    check(&project, &metrics);
    let prevalence = withheld.values().filter(|l| **l).count() as f64 / withheld.len() as f64;
    let all = average_precision(&project, &withheld, "");
    let test = average_precision(&project, &withheld, metrics["split"]["test"]["first"].as_str().unwrap());
    eprintln!("simulated, unlabelled: average precision {all:.3} of all sessions, {test:.3} of test");
    assert!(all > 10.0 * prevalence && test > 5.0 * prevalence, "{all} {test} {prevalence}");
}

#[test]
fn the_real_sample_without_labels_is_ranked_far_better_than_by_chance() {
    let Some(logs) = real_logs() else {
        eprintln!("SKIPPED: no folder of real logs");
        return;
    };
    let folder = Project::toy();
    fs::create_dir(folder.path("raw")).unwrap();
    let name = "HDFS_sample.log.zst";
    fs::copy(logs.join(name), folder.path("raw").join(name)).unwrap();
    let (project, metrics) = run(&folder.path("raw"));
    check(&project, &metrics);
    let withheld = labels(&fs::read_to_string(logs.join("anomaly_label.csv")).unwrap());
    let all = average_precision(&project, &withheld, "");
    let test = average_precision(&project, &withheld, metrics["split"]["test"]["first"].as_str().unwrap());
    eprintln!("real, unlabelled: average precision {all:.3} of all sessions, {test:.3} of test");
    // 3 % of all sessions, 1.3 % of test are anomalous.
    assert!(all > 0.3 && test > 0.06, "{all} {test}");
}
