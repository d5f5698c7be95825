//! `run --watch` follows the editor; `cancel` stops what runs. Everything is waited for by its event.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use serde_json::Value;

use crate::support::{Project, TOY};

/// Nothing here takes long; this only ends a test that hangs.
const BOUND: Duration = Duration::from_secs(120);

const SLOW: &str =
    "version: 1\nname: slow\nstages:\n  s: { run: \"sleep 100; echo 1 > ${out.o}\", out: { o: o.txt } }\n";

/// A program that runs, and what it says.
struct Session {
    child: Child,
    events: Receiver<Value>,
}

impl Session {
    fn start(project: &Project, arguments: &[&str]) -> Self {
        let mut command = project.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, events) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, events }
    }

    /// Waits for an event of this name, and returns it with the names of those before it.
    #[track_caller]
    fn until(&self, name: &str) -> (Value, Vec<String>) {
        let mut before = Vec::new();
        loop {
            let event = self.events.recv_timeout(BOUND).unwrap_or_else(|_| panic!("no {name} after {before:?}"));
            if event["event"] == name {
                return (event, before);
            }
            before.push(event["event"].as_str().unwrap().to_owned());
        }
    }

    fn interrupt(mut self) -> i32 {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A test that failed leaves nothing behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn watching_runs_again_at_each_change_and_outlives_a_broken_pipeline() {
    let project = Project::toy();
    let session = Session::start(&project, &["run", "--watch", "--json"]);
    assert_eq!(session.until("run_finished").0["executed"], 3);
    session.until("watch_waiting");

    project.write("src/text.txt", "1\n2\n");
    assert_eq!(session.until("watch_changed").0["paths"][0], "src/text.txt");
    session.until("run_finished");
    session.until("watch_waiting");
    assert_eq!(project.read("out/count.json"), r#"{"lines": 2}"#);

    project.write("pipeline.yaml", &TOY.replace("uses", "use").replace("in:", "inn:"));
    assert_eq!(session.until("watch_changed").0["paths"][0], "pipeline.yaml");
    let (_, before) = session.until("watch_waiting");
    assert!(!before.contains(&"run_started".to_owned()), "a broken pipeline runs nothing: {before:?}");

    project.write("pipeline.yaml", &TOY.replace("n: 3", "n: 1"));
    session.until("run_finished");
    session.until("watch_waiting");
    assert_eq!(project.read("out/count.json"), r#"{"lines": 1}"#);
    assert_eq!(session.interrupt(), 0, "stopped while it waited");
}

#[test]
fn what_stages_write_among_the_sources_is_no_change() {
    let project = Project::new(
        "version: 1\nname: among\nstages:\n  all: { run: \"cat ${in.parts} > ${out.all}\", in: { parts: \"part-*.txt\" }, \
         out: { all: all.txt } }\n  copy: { run: \"cp ${in.all} ${out.o}\", in: { all: \"all.*\" }, out: { o: o.txt } }\n",
    );
    project.write("part-1.txt", "1\n");
    let session = Session::start(&project, &["run", "--watch", "--json"]);
    session.until("watch_waiting");
    project.write("o.txt", "an output\n");
    project.write("cache/x", "the engine's own\n");
    project.write("part-2.txt", "2\n");
    let (changed, before) = session.until("watch_changed");
    assert_eq!((changed["paths"].clone(), before.len()), (serde_json::json!(["part-2.txt"]), 0));
    session.until("watch_waiting");
    assert_eq!(project.read("o.txt"), "1\n2\n");
    assert_eq!(session.interrupt(), 0);
}

#[test]
fn watching_waits_for_missing_data() {
    let project = Project::new(TOY);
    let session = Session::start(&project, &["run", "--watch", "--json"]);
    session.until("watch_waiting");
    project.write("src/text.txt", "1\n");
    session.until("run_finished");
    assert_eq!(session.interrupt(), 0);
}

#[test]
fn a_run_that_is_stopped_while_watching_is_an_interrupted_run() {
    let project = Project::new(SLOW);
    let session = Session::start(&project, &["run", "--watch", "--json"]);
    session.until("stage_started");
    assert_eq!(session.interrupt(), 130);
}

#[test]
fn cancel_stops_the_run_that_holds_the_lock_and_says_so_when_there_is_none() {
    let project = Project::new(SLOW);
    let nobody = project.logweir(&["cancel"]).ok();
    assert!(nobody.err.contains("nothing runs here"), "{}", nobody.err);
    let mut session = Session::start(&project, &["run", "--json"]);
    session.until("stage_started");
    let asked = project.logweir(&["cancel", "--json"]).ok().json();
    assert_eq!(asked["pid"], session.child.id());
    session.until("run_finished");
    assert_eq!(session.child.wait().unwrap().code(), Some(130));
    assert_eq!(project.logweir(&["cancel", "--json"]).ok().json()["pid"], Value::Null);
}
