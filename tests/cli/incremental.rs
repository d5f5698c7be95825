//! What runs again after which change. Every test ends by running once more: nothing executes.

use std::fs;

use crate::support::{Counts, Project, TOY};

const FRESH: Counts = Counts { executed: 0, restored: 0, fresh: 3, failed: 0, skipped: 0 };

#[track_caller]
fn settled(project: &Project) {
    assert_eq!(project.run(&[]).ok().counts(), FRESH);
}

#[test]
fn a_second_run_executes_nothing() {
    let project = Project::toy();
    let first = project.run(&[]).ok();
    assert_eq!(first.executed(), ["copy", "head", "count"]);
    assert_eq!(project.read("out/count.json"), r#"{"lines": 3}"#);
    settled(&project);
}

#[test]
fn a_changed_parameter_runs_its_stage_and_what_follows_and_going_back_executes_nothing() {
    let project = Project::toy();
    project.run(&[]).ok();
    let changed = project.run(&["--set", "vars.n=5"]).ok();
    assert_eq!(changed.executed(), ["head", "count"]);
    assert_eq!(project.read("out/count.json"), r#"{"lines": 5}"#);
    let back = project.run(&[]).ok().counts();
    assert_eq!((back.executed, back.restored, back.fresh), (0, 2, 1));
    assert_eq!(project.read("out/count.json"), r#"{"lines": 3}"#);
    settled(&project);
}

#[test]
fn a_rerun_with_the_same_bytes_stops_there() {
    let project = Project::toy();
    project.run(&[]).ok();
    // The fourth line is not among the first three.
    project.write("src/text.txt", "1\n2\n3\nchanged\n");
    let run = project.run(&[]).ok();
    assert_eq!(run.executed(), ["copy", "head"]);
    let head = run.lines().into_iter().find(|e| e["event"] == "stage_finished" && e["stage"] == "head").unwrap();
    assert_eq!(head["cutoff"], true);
    settled(&project);
}

#[test]
fn touching_a_source_runs_nothing() {
    let project = Project::toy();
    project.run(&[]).ok();
    let text = project.read("src/text.txt");
    fs::remove_file(project.path("src/text.txt")).unwrap();
    project.write("src/text.txt", &text);
    settled(&project);
}

#[test]
fn a_deleted_or_edited_output_comes_back_without_executing() {
    let project = Project::toy();
    project.run(&[]).ok();
    fs::remove_file(project.path("out/head.txt")).unwrap();
    fs::remove_file(project.path("out/count.json")).unwrap();
    project.write("out/count.json", "edited");
    let run = project.run(&[]).ok().counts();
    assert_eq!((run.executed, run.restored), (0, 2));
    assert_eq!(project.read("out/count.json"), r#"{"lines": 3}"#);
    settled(&project);
}

#[test]
fn an_edited_command_runs_its_stage() {
    let project = Project::toy();
    project.run(&[]).ok();
    project.write("pipeline.yaml", &TOY.replace("head -n ${with.n} ${in.copy}", "cat ${in.copy} | head -n ${with.n}"));
    assert_eq!(project.run(&[]).ok().executed(), ["head"]);
    settled(&project);
}

#[test]
fn targets_and_force_choose_stages() {
    let project = Project::toy();
    assert_eq!(project.run(&["head"]).ok().executed(), ["copy", "head"]);
    assert_eq!(project.run(&["out/count.json"]).ok().executed(), ["count"]);
    assert_eq!(project.run(&["--force", "head"]).ok().executed(), ["head"]);
    settled(&project);
}

#[test]
fn without_its_cache_a_project_runs_again_to_the_same_bytes() {
    let project = Project::toy();
    project.run(&[]).ok();
    let before = project.read("out/count.json");
    let lock = project.read("pipeline.lock");
    fs::remove_dir_all(project.path("cache")).unwrap();
    project.run(&[]).ok();
    assert_eq!(project.read("out/count.json"), before);
    let outputs = |lock: &str| lock.lines().filter(|l| l.contains("out/")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(outputs(&project.read("pipeline.lock")), outputs(&lock));
    settled(&project);
}

#[test]
fn a_saved_plan_is_executed_exactly_or_refused() {
    let project = Project::toy();
    project.logweir(&["plan", "--out", "p.json"]).ok();
    assert_eq!(project.run(&["--plan", "p.json"]).ok().executed(), ["copy", "head", "count"]);
    let refused = project.run(&["--plan", "p.json"]).exits(3);
    assert!(refused.err.contains("no longer holds"), "{}", refused.err);
    settled(&project);
}

#[test]
fn a_failing_stage_leaves_nothing_and_stops_what_needs_it() {
    let project = Project::toy();
    let broken =
        TOY.replace("head -n ${with.n} ${in.copy} > ${out.head}", "echo half > ${out.head}; echo why >&2; exit 7");
    project.write("pipeline.yaml", &broken);
    let run = project.run(&[]).exits(1);
    assert_eq!(run.counts(), Counts { executed: 1, failed: 1, skipped: 1, ..Counts::default() });
    assert!(!project.path("out/head.txt").exists());
    let failed = run.lines().into_iter().find(|e| e["event"] == "stage_failed").unwrap();
    assert!(failed["error"].as_str().unwrap().contains('7'), "{failed}");
    assert_eq!(failed["log"][0], "why");
    project.write("pipeline.yaml", TOY);
    assert_eq!(project.run(&[]).ok().executed(), ["head", "count"]);
    settled(&project);
}
