//! `explain`: why a session scores as it does.

use std::fs;

use crate::support::{Project, said};

const PIPELINE: &str = include_str!("../../pipeline.yaml");

#[test]
fn a_session_is_explained_as_the_stage_explained_it_and_one_that_is_no_alert_too() {
    let project = Project::new(PIPELINE);
    project.logweir(&["simulate", "--sessions", "1500", "--out", "raw"]).ok();
    let logs = project.path("raw");
    let logweir = |arguments: &[&str]| said(&project.command(arguments).env("LOGWEIR_HDFS", &logs).output().unwrap());
    logweir(&["run", "-q", "explain"]).ok();
    let summary: serde_json::Value = serde_json::from_str(&project.read("reports/alerts.json")).unwrap();
    let rows: Vec<Vec<String>> = project
        .read("reports/ensemble_sessions.csv")
        .lines()
        .skip(1)
        .map(|line| line.split(',').map(str::to_owned).collect())
        .collect();
    let row = |id: &str| rows.iter().find(|row| row[0] == id).unwrap();
    for signature in summary["signatures"].as_array().unwrap().iter().take(3) {
        let example = &signature["examples"][0];
        let id = example["session_id"].as_str().unwrap();
        let told = logweir(&["explain", id, "--json"]).ok().json();
        assert_eq!((&told["signature"], &told["signature_id"]), (&signature["signature"], &signature["id"]));
        assert_eq!(told["reason"], signature["reason"]);
        assert_eq!((&told["is_alert"], &told["session_id"]), (&true.into(), &id.into()));
        // To the bit what the pipeline says.
        assert_eq!(told["fusion_score"], row(id)[4].parse::<f64>().unwrap());
        assert!(told["fusion_score"].as_f64() >= told["threshold"].as_f64());
        let shares: f64 = told["members"].as_array().unwrap().iter().map(|m| m["share"].as_f64().unwrap()).sum();
        assert!((shares - 1.0).abs() < 1e-9 && !told["contributions"].as_array().unwrap().is_empty());
        let lines = told["lines"].as_array().unwrap();
        let marked: Vec<_> = lines.iter().filter(|line| !line["odd"].is_null()).collect();
        assert_eq!(lines.len() as u64, told["events"].as_u64().unwrap());
        assert_eq!(marked.len(), told["odd"].as_array().unwrap().len());
        assert_eq!(marked[0]["line"], example["lines"][0]["line"]);
        assert_eq!(marked[0]["file"], example["lines"][0]["file"]);
        assert!(marked[0]["text"].as_str().unwrap().contains(id));
        let page = logweir(&["explain", id]).ok().out;
        let first = page.lines().next().unwrap();
        assert!(first.contains(id) && first.contains("alert  fused score"), "{page}");
        for text in ["reason", "signature", "score members", "LightGBM", "autoencoder", "\n> raw:HDFS.log:"] {
            assert!(page.contains(text), "no `{text}` in {page}");
        }
    }
    let normal = rows.iter().find(|row| row[5] == "0").unwrap();
    let told = logweir(&["explain", &normal[0], "--json"]).ok().json();
    assert_eq!((&told["is_alert"], told["fusion_score"].as_f64()), (&false.into(), normal[4].parse().ok()));
    assert!(!told["reason"].as_str().unwrap().is_empty() && !told["odd"].as_array().unwrap().is_empty());
    assert!(logweir(&["explain", &normal[0]]).ok().out.contains("no alert"));

    let missing = logweir(&["explain", &normal[0][..normal[0].len() - 1]]).exits(2);
    assert!(missing.err.contains("did you mean"), "{}", missing.err);
    // Without the log all but its lines is said.
    fs::remove_file(logs.join("HDFS.log")).unwrap();
    let told = logweir(&["explain", &normal[0], "--json"]).ok().json();
    assert!(told["lines"].is_null() && told["odd"][0]["place"]["line"].is_u64());
}
