//! Past runs, and whether all is still as recorded.

use std::fs;

use crate::support::Project;

#[test]
fn runs_are_listed_shown_and_restored() {
    let project = Project::toy();
    project.run(&[]).ok();
    project.run(&["--set", "vars.n=5"]).ok();
    let runs = project.logweir(&["runs", "--json"]).ok().json();
    let runs = runs["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2);
    assert_eq!(runs[0]["overrides"][0], "vars.n=5", "newest first");
    let first = runs[1]["run"].as_str().unwrap();
    let shown = project.logweir(&["show", first, "--json"]).ok().json();
    assert_eq!(shown["executed"], 3);
    assert_eq!(shown["stages"][1]["params"]["n"], 3);
    assert_eq!(project.logweir(&["show", "last", "--json"]).ok().json()["executed"], 2);
    project.logweir(&["show", "nosuch"]).exits(2);

    project.logweir(&["restore", first]).ok();
    assert_eq!(project.read("out/count.json"), r#"{"lines": 3}"#);
    assert_eq!(project.run(&[]).ok().counts().executed, 0);
}

#[test]
fn verify_names_a_changed_output_and_repairs_it() {
    let project = Project::toy();
    project.run(&[]).ok();
    project.logweir(&["verify"]).ok();
    fs::remove_file(project.path("out/head.txt")).unwrap();
    project.write("out/head.txt", "tampered\n");
    let report = project.logweir(&["verify", "--json"]).exits(1).json();
    let findings = report["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{report}");
    assert_eq!(findings[0]["path"], "out/head.txt");
    assert_eq!(findings[0]["kind"], "output_changed");
    project.logweir(&["verify", "--repair"]).ok();
    assert_eq!(project.read("out/head.txt"), "1\n2\n3\n");
    project.logweir(&["verify"]).ok();
}

#[test]
fn verify_notices_an_edited_run_log() {
    let project = Project::toy();
    project.run(&[]).ok();
    let log = project.path("cache/runlog.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    let first = text.find("\"n\":3").expect("the parameter is in the log");
    let mut bytes = text.into_bytes();
    bytes[first + 4] = b'4';
    fs::write(&log, bytes).unwrap();
    let said = project.logweir(&["verify"]);
    assert_ne!(said.code, 0, "{}{}", said.out, said.err);
    assert!(format!("{}{}", said.out, said.err).contains("runlog"), "{}{}", said.out, said.err);
}

#[test]
fn a_project_is_found_from_below_and_by_directory() {
    let project = Project::toy();
    project.run(&[]).ok();
    fs::create_dir_all(project.path("deep/er")).unwrap();
    let below = project.command(&["plan", "--json"]).current_dir(project.path("deep/er")).output().unwrap();
    assert!(below.status.success());
    let root = project.root().to_str().unwrap().to_owned();
    let other = tempfile::tempdir().unwrap();
    let from = project.command(&["-C", &root, "run", "--json"]).current_dir(other.path()).output().unwrap();
    assert!(String::from_utf8_lossy(&from.stdout).contains("\"executed\":0"));
}

#[test]
fn init_starts_a_project_once() {
    let project = Project::toy();
    project.logweir(&["init", "fresh", "--template", "anomalies"]).ok();
    project.logweir(&["-C", "fresh", "--profile", "demo", "plan"]).ok();
    project.logweir(&["init", "fresh"]).exits(2);
    project.write("my logs/app.log", "081109 203518 143 INFO dfs.DataNode$X: Receiving block blk_1 src: /1 dest: /2\n");
    project.logweir(&["init", "own", "--from", "my logs/app.log"]).ok();
    let plan = project.logweir(&["-C", "own", "plan", "--json"]).ok().json();
    assert_eq!(plan["stages"][0]["name"], "parse");
}
