//! The shipped study: every cell is its own chain of actions, and the table gathers those that there are.

use serde_json::Value;

use crate::support::{Project, real_logs, said};

const PIPELINE: &str = include_str!("../../pipeline.yaml");
const STUDY: &str = include_str!("../../pipelines/study.yaml");

fn project() -> Project {
    let project = Project::new(PIPELINE);
    project.write("pipelines/study.yaml", STUDY);
    project
}

fn cells(study: &Value) -> Vec<&str> {
    let rows = study["cells"].as_array().unwrap().iter().filter(|row| row["model"] == "fusion");
    rows.map(|row| row["cell"].as_str().unwrap()).collect()
}

#[test]
fn cells_of_a_simulated_log_become_one_table_and_a_new_cell_runs_alone() {
    let project = project();
    let arguments = |cells: &str| {
        let cells = format!("vars.sample_cells={cells}");
        let set = ["--set", "stages.simulate.with.sessions=1500", "--set", &cells];
        let run = ["-f", "pipelines/study.yaml", "--profile", "demo", "run", "--json", "-j", "2"];
        run.iter().chain(&set).map(|s| (*s).to_owned()).collect::<Vec<_>>()
    };
    let run = |cells: &str| {
        let arguments = arguments(cells);
        project.logweir(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).ok()
    };
    run("[chronological, rolling/0, few/5]");
    let study: Value = serde_json::from_str(&project.read("reports/study.json")).unwrap();
    assert_eq!(study["simulated"], true);
    assert_eq!(cells(&study), ["sample/chronological", "sample/few/5", "sample/rolling/0"]);
    assert_eq!(run("[chronological, rolling/0, few/5]").counts().executed, 0);
    let ran = run("[chronological, rolling/0, few/5, seen/50]").executed();
    assert!(ran.iter().all(|s| s == "study" || s.contains("seen/50")), "{ran:?}");
    let study: Value = serde_json::from_str(&project.read("reports/study.json")).unwrap();
    assert_eq!(cells(&study).len(), 4);
    let targets = study["targets"].as_array().unwrap();
    let of = |name: &str| targets.iter().find(|t| t["name"].as_str().unwrap().starts_with(name)).unwrap();
    assert!(of("chronological: AP")["reached"].is_boolean() && of("random: F1")["reached"].is_null());
    assert!(project.read("reports/study.html").contains("Simulated data"));
}

#[test]
fn real_sequences_count_as_many_sessions_as_they_stand_for() {
    let Some(logs) = real_logs() else {
        eprintln!("SKIPPED: no folder of real logs ($LOGWEIR_SHARED/data/hdfs or ../shared/data/hdfs)");
        return;
    };
    let project = project();
    let set = ["--set", "vars.sample_cells=[chronological]", "--set", "vars.sequence_cells=[zero_day/write_exception]"];
    let mut arguments = vec!["-f", "pipelines/study.yaml", "run", "-q", "-j", "2"];
    arguments.extend(set);
    said(&project.command(&arguments).env("LOGWEIR_HDFS", logs).output().unwrap()).ok();
    let path = "reports/study/sequences/zero_day/write_exception/metrics.json";
    let metrics: Value = serde_json::from_str(&project.read(path)).unwrap();
    let population = metrics["dataset"]["population"].as_f64().unwrap();
    assert!((population - (558_223.0 + 16_838.0)).abs() < 1e-3, "{population}");
    // The type is unknown to train and validation, and yet found.
    let recall = metrics["by_anomaly_type"]["write_exception"]["recall"].as_f64().unwrap();
    assert!(recall > 0.95 && metrics["split"]["unused"].as_u64().unwrap() > 1000, "{recall}");
    assert!(metrics["fusion"]["average_precision"].as_f64().unwrap() > 0.98, "{}", metrics["fusion"]);
}
