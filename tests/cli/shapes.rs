//! The JSON other programs rely on.

use serde_json::{Value, json};

use crate::support::Project;

#[track_caller]
fn has(value: &Value, members: &[&str]) {
    for member in members {
        assert!(value.get(member).is_some(), "no `{member}` in {value}");
    }
}

#[test]
fn run_ends_with_its_counts() {
    let project = Project::toy();
    let lines = project.run(&[]).ok().lines();
    assert_eq!(lines[0]["event"], "run_started");
    let last = lines.last().unwrap();
    assert_eq!(last["event"], "run_finished");
    has(last, &["run", "executed", "restored", "fresh", "failed", "skipped", "seconds"]);
    assert_eq!(last["run"], lines[0]["run"]);
}

#[test]
fn plan_names_decisions_and_typed_reasons() {
    let project = Project::toy();
    let plan = project.logweir(&["plan", "--json"]).ok().json();
    let decisions: Vec<&str> =
        plan["stages"].as_array().unwrap().iter().map(|s| s["decision"].as_str().unwrap()).collect();
    assert_eq!(decisions, ["run", "waits", "waits"]);
    assert_eq!(plan["stages"][0]["reasons"][0]["kind"], "new");
    project.run(&[]).ok();
    let plan = project.logweir(&["plan", "--json", "--set", "vars.n=4"]).ok().json();
    let head = &plan["stages"][1];
    assert_eq!((&head["name"], &head["decision"]), (&json!("head"), &json!("run")));
    let reason = head["reasons"].as_array().unwrap().iter().find(|r| r["kind"] == "param").unwrap();
    assert_eq!((&reason["subject"], &reason["old"], &reason["new"]), (&json!("n"), &json!(3), &json!(4)));
    assert_eq!(plan["stages"][2]["decision"], "waits");
    assert_eq!(plan["stages"][0]["decision"], "fresh");
    // A dry run is a plan.
    assert_eq!(project.run(&["--dry-run", "--set", "vars.n=4"]).ok().json(), plan);
}

#[test]
fn lineage_leads_from_a_number_to_the_source() {
    let project = Project::toy();
    project.run(&[]).ok();
    let document = project.logweir(&["lineage", "out/count.json#/lines", "--json"]).ok().json();
    assert_eq!(document["target"], "out/count.json#/lines");
    assert_eq!(document["value"], 3);
    let nodes = document["nodes"].as_array().unwrap();
    let of = |kind: &str| nodes.iter().filter(|n| n["type"] == kind).cloned().collect::<Vec<_>>();
    let paths: Vec<Value> = of("artifact").iter().map(|n| n["path"].clone()).collect();
    for path in ["src/text.txt", "out/copy.txt", "out/head.txt", "out/count.json"] {
        assert!(paths.contains(&json!(path)), "{path} in {paths:?}");
    }
    let actions = of("action");
    assert_eq!(actions.len(), 3);
    for action in &actions {
        has(action, &["id", "stage", "key", "run", "params"]);
    }
    let head = actions.iter().find(|a| a["stage"] == "head").unwrap();
    assert_eq!(head["params"], json!({"n": 3}));
    let ids: Vec<&Value> = nodes.iter().map(|n| &n["id"]).collect();
    for edge in document["edges"].as_array().unwrap() {
        assert!(ids.contains(&&edge[0]) && ids.contains(&&edge[1]), "{edge}");
    }
    // A copy anywhere has the lineage of what it is a copy of.
    std::fs::copy(project.path("out/head.txt"), project.path("renamed.bin")).unwrap();
    let copy = project.logweir(&["lineage", "renamed.bin", "--json"]).ok().json();
    assert!(copy["nodes"].as_array().unwrap().iter().any(|n| n["stage"] == "head"));
    let impact = project.logweir(&["impact", "src/text.txt", "--json"]).ok().json();
    assert!(impact["nodes"].as_array().unwrap().iter().any(|n| n["path"] == "out/count.json"));
    project.logweir(&["lineage", "out/nothing.txt"]).exits(2);
}

#[test]
fn why_names_the_leaf_that_changed() {
    let project = Project::toy();
    project.run(&[]).ok();
    project.run(&["--set", "vars.n=5"]).ok();
    let why = project.logweir(&["why", "head", "--json", "--set", "vars.n=5"]).ok().json();
    let reasons = why["last"]["reasons"].as_array().unwrap();
    assert!(reasons.iter().any(|r| r["kind"] == "param" && r["old"] == 3 && r["new"] == 5), "{why}");
    assert_eq!(why["now"]["decision"], "fresh");
    let text = project.logweir(&["why", "head"]).ok().out;
    assert!(text.contains("param n: 3 → 5"), "{text}");
}

#[test]
fn graph_comes_in_four_formats() {
    let project = Project::toy();
    let graph = |format: &str| project.logweir(&["graph", "--format", format]).ok().out;
    assert!(graph("mermaid").starts_with("flowchart"));
    assert!(graph("dot").starts_with("digraph"));
    assert!(graph("svg").contains("<svg"));
    let json: Value = serde_json::from_str(&graph("json")).unwrap();
    assert_eq!(json["nodes"].as_array().unwrap().len(), 3);
    assert_eq!(json["edges"].as_array().unwrap().len(), 2);
}

#[test]
fn every_kind_is_listed_with_its_parameters_and_the_schema_accepts_the_shipped_pipeline() {
    let project = Project::toy();
    let kinds = project.logweir(&["stages", "--json"]).ok().json();
    let names: Vec<&str> = kinds["kinds"].as_array().unwrap().iter().map(|k| k["kind"].as_str().unwrap()).collect();
    for name in
        ["parse", "sessionize", "featurize", "lightgbm", "autoencoder", "profile", "fusion", "evaluate", "report"]
    {
        assert!(names.contains(&name), "{name} in {names:?}");
        let page = project.logweir(&["stages", name]).ok().out;
        assert!(page.starts_with(&format!("{name}: ")), "{page}");
    }
    let unknown = project.logweir(&["stages", "lightbgm"]).exits(2);
    assert!(unknown.err.contains("did you mean `lightgbm`?"), "{}", unknown.err);
    let schema = project.logweir(&["schema"]).ok().json();
    assert!(schema["$schema"].as_str().unwrap().contains("json-schema.org"));
    let kept: serde_json::Value = serde_json::from_str(include_str!("../../docs/pipeline.schema.json")).unwrap();
    assert!(kept == schema, "editors read an old schema: logweir schema > docs/pipeline.schema.json");
}

#[test]
fn completions_and_version_print() {
    let project = Project::toy();
    assert!(project.logweir(&["completions", "bash"]).ok().out.contains("_logweir"));
    assert!(project.logweir(&["--version"]).ok().out.starts_with("logweir "));
    assert!(project.logweir(&["--help"]).ok().out.contains("Exit codes"));
}
