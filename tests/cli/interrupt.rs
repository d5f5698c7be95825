//! Ctrl-C: once stops cleanly, and the next run just works. A killed run likewise.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{Project, said};

const SLOW: &str = r#"version: 1
name: slow
stages:
  quick: { run: "echo 1 > ${out.o}", out: { o: out/quick.txt } }
  slow:
    run: "echo half > ${out.o}; touch ${in.quick}.began; sleep ${with.seconds}; echo whole > ${out.o}"
    in: { quick: out/quick.txt }
    out: { o: out/slow.txt }
    with: { seconds: "${env.SECONDS_TO_SLEEP:-0}" }
  after: { run: "cp ${in.o} ${out.o}", in: { o: out/slow.txt }, out: { o: out/after.txt } }
"#;

fn signalled(signal: &str, times: usize) -> (Project, crate::support::Said) {
    let project = Project::new(SLOW);
    let mut command = project.command(&["run", "--json"]);
    command.env("SECONDS_TO_SLEEP", "60").stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    while !project.path("out/quick.txt.began").exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    for _ in 0..times {
        let pid = child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        std::thread::sleep(Duration::from_millis(50));
    }
    let said = said(&child.wait_with_output().unwrap());
    (project, said)
}

#[track_caller]
fn recovers(project: &Project) {
    assert!(!project.path("out/slow.txt").exists(), "no half-written output");
    let next = project.run(&[]).ok();
    assert_eq!(next.executed(), ["slow", "after"]);
    assert_eq!(project.read("out/after.txt"), "whole\n");
    assert_eq!(project.run(&[]).ok().counts().executed, 0);
}

#[test]
fn ctrl_c_stops_cleanly() {
    for signal in ["-INT", "-TERM"] {
        let (project, said) = signalled(signal, 1);
        let said = said.exits(130);
        let counts = said.counts();
        assert_eq!((counts.executed, counts.failed), (1, 0));
        assert_eq!(project.logweir(&["runs", "--json"]).ok().json()["runs"][0]["interrupted"], true);
        recovers(&project);
    }
}

#[test]
fn a_killed_run_leaves_a_project_that_just_works() {
    let (project, _) = signalled("-KILL", 1);
    recovers(&project);
}
