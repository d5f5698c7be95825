//! OpenLineage over HTTP while a run goes on: told in full to a receiver that listens; slowed and failed by none.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};

use serde_json::Value;

use crate::support::{Counts, Project, TOY};

/// How a receiver answers.
#[derive(Clone, Copy)]
enum Answer {
    Fine,
    Refuses,
    Never,
}

/// Starts a receiver; returns its URL and what it is sent (headers and document).
fn receiver(answer: Answer) -> (String, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/api/v1/lineage", listener.local_addr().unwrap());
    let (sender, received) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let sender = sender.clone();
            std::thread::spawn(move || serve(stream, answer, &sender));
        }
    });
    (url, received)
}

fn serve(stream: TcpStream, answer: Answer, sender: &Sender<(String, Value)>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            head += &line;
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let _ = sender.send((head, serde_json::from_slice(&body).unwrap()));
        match answer {
            Answer::Fine => writer.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").unwrap(),
            Answer::Refuses => {
                let _ = writer.write_all(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n");
            }
            // Held open: the sender's own patience must end it.
            Answer::Never => std::thread::park(),
        }
    }
}

/// The toy project, told to a URL.
fn project(url: &str) -> Project {
    let told = format!("lineage: {{ openlineage: {{ url: '{url}', timeout: 200ms, api_key_env: OL_KEY }} }}\nstages:");
    let project = Project::new(&TOY.replace("stages:", &told));
    project.write("src/text.txt", &(1..=10).map(|i| format!("{i}\n")).collect::<String>());
    project
}

fn told(received: &Receiver<(String, Value)>) -> Vec<String> {
    let event =
        |event: Value| format!("{} {}", event["eventType"].as_str().unwrap(), event["job"]["name"].as_str().unwrap());
    received.try_iter().map(|(_, document)| event(document)).collect()
}

#[test]
fn a_receiver_is_told_of_every_stage_as_it_happens_and_the_key_is_kept_nowhere() {
    let (url, received) = receiver(Answer::Fine);
    let project = project(&url);
    let mut command = project.command(&["run", "--json"]);
    assert!(command.env("OL_KEY", "swordfish-77").output().unwrap().status.success());
    let (heads, events): (Vec<String>, Vec<Value>) = received.try_iter().unzip();
    assert!(heads.iter().all(|head| head.contains("Bearer swordfish-77")), "{heads:?}");
    let names: Vec<String> = events
        .iter()
        .map(|e| format!("{} {}", e["eventType"].as_str().unwrap(), e["job"]["name"].as_str().unwrap()))
        .collect();
    let stages = ["copy", "head", "count"];
    let mut wanted = vec!["START pipeline".to_owned()];
    for stage in stages {
        wanted.extend(["START", "COMPLETE"].map(|state| format!("{state} pipeline.{stage}")));
    }
    wanted.push("COMPLETE pipeline".to_owned());
    assert_eq!(names, wanted);
    // What is sent is what an export of the run says of it.
    project.logweir(&["export-lineage", "--format", "openlineage", "--out", "events.jsonl"]).ok();
    let exported = project.read("events.jsonl");
    let ends = |events: &[Value]| -> Vec<(Value, Value, Value)> {
        let ends = events.iter().filter(|e| e["eventType"] == "COMPLETE" && e["job"]["name"] != "pipeline");
        ends.map(|e| (e["run"]["runId"].clone(), e["outputs"].clone(), e["run"]["facets"].clone())).collect()
    };
    let exported: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(ends(&events), ends(&exported));
    let kept = walk(project.root());
    assert!(kept.iter().all(|bytes| !String::from_utf8_lossy(bytes).contains("swordfish")));

    // Nothing to do: the run alone. A restored stage begins and ends.
    project.run(&[]).ok();
    assert_eq!(told(&received), ["START pipeline", "COMPLETE pipeline"]);
    project.run(&["--set", "vars.n=5"]).ok();
    assert_eq!(told(&received).len(), 6);
    project.run(&[]).ok();
    let back = told(&received);
    assert!(back.contains(&"START pipeline.head".to_owned()), "{back:?}");
    assert!(back.contains(&"COMPLETE pipeline.count".to_owned()), "{back:?}");
}

fn walk(folder: &std::path::Path) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(walk(&path)),
            false => all.extend(std::fs::read(path)),
        }
    }
    all
}

#[test]
fn a_failed_stage_is_told_with_its_error() {
    let (url, received) = receiver(Answer::Fine);
    let project = project(&url);
    let text = project.read("pipeline.yaml").replace("head -n ${with.n}", "echo no such luck >&2; false");
    project.write("pipeline.yaml", &text);
    project.run(&[]).exits(1);
    let events: Vec<Value> = received.try_iter().map(|(_, document)| document).collect();
    let failed: Vec<&Value> = events.iter().filter(|event| event["eventType"] == "FAIL").collect();
    assert_eq!(failed.len(), 2, "{events:?}");
    assert!(failed.iter().all(|event| event["run"]["facets"]["errorMessage"]["message"].is_string()));
    assert!(failed[0]["run"]["facets"]["errorMessage"]["message"].to_string().contains("exit status"), "{failed:?}");
}

#[test]
fn a_receiver_that_fails_is_slow_or_absent_changes_no_run() {
    let absent = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    };
    let (refusing, refused) = receiver(Answer::Refuses);
    let (silent, unanswered) = receiver(Answer::Never);
    for (url, seen) in [(absent, None), (refusing, Some(refused)), (silent, Some(unanswered))] {
        let project = project(&url);
        let said = project.run(&[]).ok();
        assert_eq!(said.counts(), Counts { executed: 3, ..Counts::default() });
        assert_eq!(project.read("out/count.json"), "{\"lines\": 3}");
        let warnings = said.err.lines().filter(|line| line.contains("OpenLineage")).count();
        assert_eq!(warnings, 1, "{}", said.err);
        assert!(said.err.contains("8 events were not delivered to http://127.0.0.1:"), "{}", said.err);
        // It gave up after three, however many there were.
        if let Some(seen) = seen {
            assert_eq!(seen.try_iter().count(), 3);
        }
        assert_eq!(project.run(&[]).ok().counts(), Counts { fresh: 3, ..Counts::default() });
        project.logweir(&["verify"]).ok();
    }
}

#[test]
fn a_wrong_url_is_named_before_anything_runs() {
    for (url, word) in
        [("ftp://host/", "no http URL"), ("http://", "no http URL"), ("http://me:pw@host/", "credentials")]
    {
        let said = project(url).run(&[]).exits(2);
        assert!(said.err.contains(word) && said.err.contains("\"line\":4"), "{}", said.err);
        assert!(!said.err.contains("swordfish"));
    }
}
