//! `diff` and `metrics`: what differs between runs, and how numbers moved.

use serde_json::{Value, json};

use crate::support::Project;

/// A number that comes from `x` and `y`, one from `y` alone.
const PIPELINE: &str = r#"
version: 1
name: numbers
vars: { x: 1, y: 2 }
stages:
  x: { run: "echo ${with.n} > ${out.o}", out: { o: out/x }, with: { n: "${vars.x}" } }
  y: { run: "echo ${with.n} > ${out.o}", out: { o: out/y }, with: { n: "${vars.y}" } }
  sum:
    run: "echo '{\"model\": {\"sum\":' $(($(cat ${in.x}) + $(cat ${in.y}))) ', \"ci95\": {\"sum\": [0, 9]}}}' > ${out.o}"
    in: { x: out/x, y: out/y }
    out: { o: reports/sum.json }
    metrics: [o]
  table: { run: "(echo name,v; echo y,$(cat ${in.y})) > ${out.o}", in: { y: out/y }, out: { o: reports/t.csv }, metrics: o }
"#;

fn project() -> Project {
    let project = Project::new(PIPELINE);
    for (x, y) in [(1, 2), (5, 2), (5, 7)] {
        project.run(&["--set", &format!("vars.x={x}"), "--set", &format!("vars.y={y}")]).ok();
    }
    project
}

#[test]
fn diff_names_what_moved_a_number_and_what_did_not() {
    let project = project();
    let found = project.logweir(&["diff", "last~2", "last", "--json"]).ok().json();
    let metrics = found["metrics"].as_array().unwrap();
    let names: Vec<&str> = metrics.iter().map(|m| m["metric"].as_str().unwrap()).collect();
    assert_eq!(names, ["reports/sum.json#/model/sum", "reports/t.csv#/y/v"]);
    assert_eq!((&metrics[0]["old"], &metrics[0]["new"], &metrics[0]["delta"]), (&json!(3), &json!(12), &json!(9.0)));
    let x = json!({"stage": "x", "kind": "param", "subject": "n", "old": 1, "new": 5});
    let y = json!({"stage": "y", "kind": "param", "subject": "n", "old": 2, "new": 7});
    // The commands differ too, since they spell the parameter out.
    let params = |of: &Value| -> Vec<Value> {
        of.as_array().unwrap().iter().filter(|cause| cause["kind"] == "param").cloned().collect()
    };
    assert_eq!(params(&metrics[0]["causes"]), [x.clone(), y.clone()]);
    assert_eq!((params(&metrics[1]["causes"]), params(&metrics[1]["not_causes"])), (vec![y], vec![x]));

    let said = project.logweir(&["diff", "last~2", "last"]).ok();
    for words in ["param n: 1 → 5", "reports/t.csv#/y/v  2 → 7  +5", "can have caused it", "cannot"] {
        assert!(said.out.contains(words), "{words}: {}", said.out);
    }
    assert!(project.logweir(&["diff", "last", "last"]).ok().out.contains("nothing differs"));
    assert!(project.logweir(&["diff"]).ok().out.contains("param n: 2 → 7"), "the last two");
    let said = project.logweir(&["diff", "last~9", "last"]).exits(2);
    assert!(said.err.contains("logweir runs"), "{}", said.err);
}

#[test]
fn metrics_are_shown_beside_the_run_before_and_over_many_runs() {
    let project = project();
    project.run(&["--set", "vars.x=5", "--set", "vars.y=7"]).ok();
    let last = project.logweir(&["metrics", "--json"]).ok().json();
    let row = |document: &Value, name: &str| {
        let rows = document["metrics"].as_array().unwrap();
        rows.iter().find(|row| row["metric"] == name).cloned().unwrap_or_else(|| panic!("{name}: {document}"))
    };
    let sum = row(&last, "reports/sum.json#/model/sum");
    assert_eq!((&sum["value"], &sum["previous"], &sum["delta"]), (&json!(12), &json!(12), &json!(0.0)));
    assert!(!last.to_string().contains("ci95"), "intervals are for those who ask");

    let many = project.logweir(&["metrics", "model/*", "-n", "9", "--json"]).ok().json();
    assert_eq!(row(&many, "reports/sum.json#/model/sum")["values"], json!([3, 7, 12, 12]));
    assert_eq!(project.logweir(&["metrics", "model/**", "--json"]).ok().json()["metrics"].as_array().unwrap().len(), 3);
    let first = project.logweir(&["metrics", "**/v", "--run", "last~3"]).ok();
    assert!(first.out.contains("reports/t.csv#/y/v  2"), "{}", first.out);
    let said = project.logweir(&["metrics", "nosuch"]).exits(2);
    assert!(said.err.contains("metrics -v"), "{}", said.err);

    let runs = project.logweir(&["runs", "--metric", "model/sum", "--json"]).ok().json();
    let sums: Vec<&Value> = runs["runs"].as_array().unwrap().iter().map(|run| &run["metric"]).collect();
    assert_eq!(sums, [&json!(12), &json!(12), &json!(7), &json!(3)]);
}

#[test]
fn a_plot_of_the_history_is_a_picture() {
    let project = project();
    project.logweir(&["metrics", "--plot"]).ok();
    let svg = project.read("reports/metrics-history.svg");
    assert!(svg.contains("<svg") && svg.contains("3 runs") && svg.contains("reports/sum.json#/model/sum"));
    project.logweir(&["metrics", "**/sum", "--plot=pictures/sum.png"]).ok();
    assert!(std::fs::read(project.path("pictures/sum.png")).unwrap().starts_with(b"\x89PNG"));
    project.logweir(&["metrics", "--plot=sum.pdf"]).exits(2);
}

#[test]
fn a_run_shows_its_longest_chain() {
    let project = project();
    let shown = project.logweir(&["show", "last~2", "--json"]).ok().json();
    let path: Vec<&str> =
        shown["critical_path"]["stages"].as_array().unwrap().iter().map(|s| s["stage"].as_str().unwrap()).collect();
    assert_eq!(path.len(), 2, "{shown}");
    assert!(["x", "y"].contains(&path[0]) && ["sum", "table"].contains(&path[1]), "{path:?}");
}
