//! Ctrl-C: once stops cleanly, and the next run just works. A killed run likewise. What executes again stops so too.

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

#[test]
fn ctrl_c_stops_what_is_executed_again() {
    // How long it takes and where it says that it began is no part of its key.
    let project = Project::new(
        r#"version: 1
name: slow
stages:
  quick: { run: "echo 1 > ${out.o}", out: { o: out/quick.txt } }
  slow: { run: "cp ${in.o} ${out.o}; echo $$$$ > \"$BEGAN\"; sleep \"$NAP\"", in: { o: out/quick.txt }, secrets: [BEGAN, NAP], out: { o: out/slow.txt } }
"#,
    );
    let began = project.path("began");
    let command = |arguments: &[&str], nap: &str| {
        let mut command = project.command(arguments);
        command.env("BEGAN", &began).env("NAP", nap).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    said(&command(&["run"], "0").output().unwrap()).ok();
    let whole = said(&command(&["verify", "--rerun"], "0").output().unwrap()).ok();
    assert!(whole.out.contains("all as recorded: 2 actions executed again"), "{}", whole.out);
    let before = project.read("cache/runlog.jsonl");
    for (json, signal) in [(false, "-INT"), (true, "-TERM")] {
        std::fs::remove_file(&began).unwrap();
        let arguments: &[&str] =
            if json { &["verify", "--rerun", "--json", "-j1"] } else { &["verify", "--rerun", "-j1"] };
        let child = command(arguments, "60").spawn().unwrap();
        let pid = loop {
            match std::fs::read_to_string(&began) {
                Ok(text) if text.ends_with('\n') => break text.trim().to_owned(),
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let stopped = said(&child.wait_with_output().unwrap()).exits(130);
        if json {
            let report = stopped.json();
            assert_eq!(report["interrupted"], true);
            let outcomes: Vec<&str> =
                report["stages"].as_array().unwrap().iter().map(|s| s["outcome"].as_str().unwrap()).collect();
            assert_eq!(outcomes, ["same", "skipped"]);
        } else {
            assert!(stopped.err.contains("stopping (again to stop at once)"), "{}", stopped.err);
            assert!(stopped.out.contains("interrupted: 1 action executed again, 1 skipped"), "{}", stopped.out);
        }
        assert!(!std::path::Path::new("/proc").join(&pid).exists(), "the command was ended");
        assert_eq!(std::fs::read_dir(project.path("cache/tmp")).unwrap().count(), 0, "no scratch is left");
    }
    assert_eq!(project.read("cache/runlog.jsonl"), before);
    project.logweir(&["verify"]).ok();
}
