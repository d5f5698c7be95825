//! Receivers of alerts that are as they should be, slow, failing and absent: scores never wait for them.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::score::trained;

/// What a receiver got: headers in lower case, and the document.
type Request = (Vec<String>, Value);

/// A receiver that answers with these status codes, the last one for ever, after a while.
struct Receiver {
    url: String,
    got: Arc<Mutex<Vec<Request>>>,
}

impl Receiver {
    fn start(answers: &'static [u16], wait: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://user:secret@{}", listener.local_addr().unwrap());
        let got = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&got);
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let code = answers[number.min(answers.len() - 1)];
                let request = take(stream.unwrap(), code, wait);
                shared.lock().unwrap().extend(request);
            }
        });
        Self { url, got }
    }

    fn alerts(&self) -> Vec<Value> {
        let got = self.got.lock().unwrap();
        got.iter().flat_map(|(_, document)| document.as_array().unwrap().clone()).collect()
    }
}

/// Takes a request and answers it.
fn take(mut stream: TcpStream, code: u16, wait: Duration) -> Option<Request> {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 || line == "\r\n" {
            break;
        }
        head.push(line.trim().to_owned());
    }
    let length =
        head.iter().find_map(|l| l.to_lowercase().strip_prefix("content-length:").map(|n| n.trim().to_owned()))?;
    let mut body = vec![0; length.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    std::thread::sleep(wait);
    let answer = format!("HTTP/1.1 {code} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let _ = stream.write_all(answer.as_bytes());
    (code == 200).then(|| (head, serde_json::from_slice(&body).unwrap()))
}

/// Scores the log while these receivers are told; returns what the program says, and the scores.
fn score(urls: &[&str], more: &[&str]) -> (Value, String, String) {
    let trained = trained();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.log"), &trained.log).unwrap();
    let mut arguments = vec!["score", "a.log", "--idle", "10m", "--out", "x.csv"];
    urls.iter().for_each(|url| arguments.extend(["--hook", *url]));
    arguments.extend(more);
    let output = trained.command(dir.path(), &arguments).env("LOGWEIR_HOOK_TOKEN", "t0ken").output().unwrap();
    let said = crate::support::said(&output).ok();
    (said.json(), said.out + &said.err, fs::read_to_string(dir.path().join("x.csv")).unwrap())
}

#[test]
fn alerts_are_as_alertmanager_takes_them_and_alike_ones_are_sent_once() {
    let receiver = Receiver::start(&[200], Duration::ZERO);
    let (told, all, scores) = score(&[&receiver.url], &["--hook-rate", "1000", "--hook-link", "http://here/"]);
    let alerts = receiver.alerts();
    assert!(alerts.len() > 2, "{told}");
    let mut signatures = std::collections::BTreeSet::new();
    for alert in &alerts {
        assert_eq!(
            (&alert["labels"]["alertname"], &alert["generatorURL"]),
            (&"LogAnomaly".into(), &"http://here/".into())
        );
        assert!(alert["labels"].as_object().unwrap().values().all(Value::is_string));
        assert!(alert["annotations"].as_object().unwrap().values().all(Value::is_string));
        assert!(alert["startsAt"].as_str().unwrap().ends_with('Z'));
        assert!(!alert["annotations"]["summary"].as_str().unwrap().is_empty());
        // A session that goes on after it was silent is there twice.
        let mut rows = scores.lines().filter(|l| l.starts_with(alert["annotations"]["session"].as_str().unwrap()));
        assert!(rows.any(|row| row.split(',').nth(5) == Some("1")), "{alert}");
        assert!(signatures.insert(alert["labels"]["signature"].to_string()), "{alert} was sent twice");
    }
    let count = |name: &str| told["hooks"][name].as_u64().unwrap();
    assert_eq!(count("alerts"), told["alerts"].as_u64().unwrap());
    assert_eq!(count("repeated") + alerts.len() as u64, count("alerts"));
    let of = &told["hooks"]["hooks"][0];
    assert_eq!((&of["delivered"], &of["lost"]), (&alerts.len().into(), &0.into()));
    let (head, _) = &receiver.got.lock().unwrap()[0];
    assert!(head[0].starts_with("POST /api/v2/alerts "), "{head:?}");
    assert!(head.iter().any(|line| line.eq_ignore_ascii_case("authorization: bearer t0ken")), "{head:?}");
    assert!(!all.contains("t0ken") && !all.contains("secret"), "{all}");
}

#[test]
fn a_receiver_that_fails_is_tried_again_and_what_it_refuses_is_said() {
    let failing = Receiver::start(&[503, 429, 200], Duration::ZERO);
    let refusing = Receiver::start(&[400], Duration::ZERO);
    let (told, _, scores) = score(&[&failing.url, &refusing.url], &[]);
    let hooks = &told["hooks"]["hooks"];
    assert_eq!(hooks[0]["lost"], 0, "{told}");
    assert_eq!(hooks[0]["delivered"], failing.alerts().len());
    assert_eq!((&hooks[1]["delivered"], &hooks[1]["lost"]), (&0.into(), &hooks[0]["delivered"]));
    let warned = |words: &str| told["warnings"].as_array().unwrap().iter().any(|w| w.as_str().unwrap().contains(words));
    assert!(warned("were not delivered to http://127.0.0.1") && warned("status 400"), "{told}");
    assert!(scores.lines().count() > 1000);
}

#[test]
fn absent_and_slow_receivers_cost_no_score_and_what_is_lost_is_said() {
    let absent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", absent.local_addr().unwrap());
    drop(absent);
    let slow = Receiver::start(&[200], Duration::from_secs(30));
    let good = Receiver::start(&[200], Duration::ZERO);
    let (_, _, without) = score(&[], &[]);
    let (told, _, with) = score(&[&url, &slow.url, &good.url], &["--hook-rate", "3"]);
    assert_eq!(with, without);
    let hooks = told["hooks"]["hooks"].as_array().unwrap();
    let sent = good.alerts().len() as u64;
    assert_eq!(sent, 3);
    assert!(told["hooks"]["over_rate"].as_u64().unwrap() > 0, "{told}");
    for hook in &hooks[..2] {
        assert_eq!((&hook["delivered"], &hook["lost"]), (&0.into(), &sent.into()), "{told}");
    }
    assert_eq!(hooks[2]["delivered"], sent);
    let warnings = told["warnings"].to_string();
    assert!(warnings.contains("were not delivered") && warnings.contains("--hook-rate"), "{warnings}");
}
