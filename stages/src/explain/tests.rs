//! The kind on a toy log with all models, with some, with none.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;
use crate::sessionize::Sessions;
use crate::support::table::read_parquet;
use crate::testing::run;

const TEMPLATES: [&str; 6] = ["open <*>", "write <*>", "stored <*>", "close <*>", "retry <*>", "exception <*>"];

/// Artifacts of a toy log below a folder.
struct Toy {
    dir: tempfile::TempDir,
}

impl Toy {
    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a kind with inputs as (slot, artifact) and keeps its outputs, given as (slot, artifact).
    fn run(&self, kind: &StageKind, with: &Value, inputs: &[(&str, &str)], outputs: &[(&str, &str)]) {
        let places: Vec<(&str, PathBuf)> = inputs.iter().map(|(slot, name)| (*slot, self.at(name))).collect();
        let inputs: Vec<(&str, &str, &Path)> =
            places.iter().map(|(slot, path)| (*slot, *slot, path.as_path())).collect();
        let directory = |slot: &str| {
            kind.outputs.iter().any(|o| o.name == slot && o.arity == logweir_engine::stage::Arity::Directory)
        };
        let slots: Vec<String> = outputs
            .iter()
            .map(|(slot, _)| if directory(slot) { format!("{slot}/") } else { (*slot).to_owned() })
            .collect();
        let slots: Vec<&str> = slots.iter().map(String::as_str).collect();
        let made = run(kind, with, &inputs, &slots, 2).unwrap();
        for (slot, name) in outputs {
            std::fs::rename(made.path(slot), self.at(name)).unwrap();
        }
    }

    /// Explains with the models named; the alerts and the summary.
    fn explain(&self, models: &[&str], with: &Value) -> (Vec<Alert>, Summary) {
        let mut inputs =
            vec![("scores", "scores.parquet"), ("ensemble", "ensemble.csv"), ("sessions", "sessions.parquet")];
        inputs.extend([("templates", "templates.csv"), ("summary", "sessions.json"), ("types", "types.csv")]);
        inputs.extend(models.iter().map(|model| (*model, *model)));
        self.run(&kind(), with, &inputs, &[("alerts", "alerts.parquet"), ("summary", "alerts.json")]);
        let summary = std::fs::read(self.at("alerts.json")).unwrap();
        (read_alerts(&self.at("alerts.parquet")).unwrap(), serde_json::from_slice(&summary).unwrap())
    }

    /// Makes exactly these sessions alerts.
    fn flag(&self, wanted: impl Fn(&str) -> bool) {
        let text = std::fs::read_to_string(self.at("ensemble.csv")).unwrap();
        let line = |line: &str| {
            let mut cells: Vec<&str> = line.split(',').collect();
            if cells[0] != "session_id" {
                cells[5] = if wanted(cells[0]) { "1" } else { "0" };
            }
            cells.join(",")
        };
        let lines: Vec<String> = text.lines().map(line).collect();
        std::fs::write(self.at("ensemble.csv"), lines.join("\n") + "\n").unwrap();
    }
}

/// 600 sessions, the lines of each in a block of ten of two files: open, writes, as many stored, close. Every
/// seventeenth is anomalous: an exception before it closes, or a write that is not stored. Some normal ones retry.
fn toy(labels: bool) -> Toy {
    let toy = Toy { dir: tempfile::tempdir().unwrap() };
    let mut sessions = Sessions { offsets: vec![0], ..Sessions::default() };
    let (mut csv, mut types) = (String::from("session_id,label,timestamp\n"), String::from("session_id,type\n"));
    for i in 0..600usize {
        let anomalous = i % 17 == 3;
        let writes = 1 + (i * 7) % 3;
        let mut events = vec![0u32];
        events.extend(vec![1; writes]);
        if !anomalous && i % 5 == 0 {
            events.push(4);
        }
        events.extend(vec![2; if anomalous && i % 2 == 0 { writes - 1 } else { writes }]);
        if anomalous && i % 2 == 1 {
            events.push(5);
        }
        events.push(3);
        let gaps: Vec<i64> = (0..events.len() as i64).map(|k| k.min(1) * 1000).collect();
        sessions.ids.push(format!("s{i:04}"));
        sessions.start.push(i as i64 * 60_000_000);
        sessions.end.push(i as i64 * 60_000_000 + gaps.iter().sum::<i64>() * 1000);
        sessions.censored.push(false);
        sessions.lines.extend((0..events.len() as u64).map(|k| 1 + 10 * i as u64 + k));
        sessions.events.extend(events);
        sessions.gaps.extend(gaps);
        sessions.offsets.push(sessions.events.len());
        let label = if !labels {
            ""
        } else if anomalous {
            "1"
        } else {
            "0"
        };
        csv += &format!("s{i:04},{label},1970-01-01T00:00:00Z\n");
        if anomalous {
            types += &format!("s{i:04},{}\n", if i % 2 == 1 { "exception" } else { "lost" });
        }
    }
    sessions.write(&toy.at("sessions.parquet")).unwrap();
    let mut templates = String::from("event_id,number,count,text,source\n");
    for (n, text) in TEMPLATES.iter().enumerate() {
        templates += &format!("T{},{n},1,{text},mined\n", n + 1);
    }
    let files = json!([{"path": "raw:a.log.1", "first_line": 1}, {"path": "raw:a.log", "first_line": 3001}]);
    let about = SessionSummary { simulated: true, ..SessionSummary::default() };
    let mut about = serde_json::to_value(about).unwrap();
    about["files"] = files;
    for (name, text) in
        [("templates.csv", templates), ("labels.csv", csv), ("types.csv", types), ("sessions.json", about.to_string())]
    {
        std::fs::write(toy.at(name), text).unwrap();
    }
    let (sessions, labelled) = (("sessions", "sessions.parquet"), ("labels", "labels.csv"));
    let (templates, split, features) =
        (("templates", "templates.csv"), ("split", "split.parquet"), ("features", "features"));
    let with = json!({"method": "chronological", "train": 0.6, "validation": 0.2});
    toy.run(&crate::split::kind(), &with, &[sessions, labelled], &[("split", "split.parquet")]);
    let kind = crate::featurize::kind();
    toy.run(&kind, &json!({}), &[sessions, templates, split], &[("features", "features")]);
    let with = json!({"min_rounds": 30, "rounds": 40, "patience": 5, "min_leaf": 1});
    let all = [features, labelled, split, sessions, templates];
    toy.run(&crate::lightgbm::kind(), &with, &all, &[("model", "lgbm"), ("report", "lgbm.json")]);
    let with = json!({"epochs": 12, "hidden": [16], "bottleneck": 8});
    toy.run(&crate::autoencoder::kind(), &with, &all, &[("model", "ae"), ("report", "ae.json")]);
    let kind = crate::profile::kind();
    toy.run(&kind, &json!({}), &[sessions, templates, labelled, split], &[("model", "profile")]);
    let models = [sessions, labelled, split, ("lgbm", "lgbm"), ("ae", "ae"), ("profile", "profile")];
    toy.run(&crate::fusion::kind(), &json!({}), &models, &[("model", "fusion"), ("scores", "scores.parquet")]);
    let reports = ["metrics", "roc", "pr", "cm"].map(|slot| (slot, slot));
    let outputs = [&reports[..], &[("ensemble", "ensemble.csv")]].concat();
    let inputs = [("scores", "scores.parquet"), sessions, ("summary", "sessions.json")];
    toy.run(&crate::evaluate::kind(), &json!({"resamples": 20}), &inputs, &outputs);
    toy
}

const ALL: [&str; 5] = ["features", "lgbm", "ae", "profile", "fusion"];

fn anomalous(id: &str) -> bool {
    id[1..].parse::<usize>().unwrap() % 17 == 3
}

fn ids(deviants: &[Deviant]) -> Vec<&str> {
    deviants.iter().map(|d| d.event_id.as_str()).collect()
}

#[test]
fn every_alert_says_why_and_where() {
    let toy = toy(true);
    toy.flag(anomalous);
    let (alerts, summary) = toy.explain(&ALL, &json!({}));
    let found: BTreeSet<&str> = alerts.iter().map(|a| a.session_id.as_str()).collect();
    assert_eq!((alerts.len(), found.len()), (36, 36));
    assert_eq!((summary.sessions, summary.alerts, summary.with_reason, summary.with_lines), (600, 36, 36, 36));
    assert_eq!(summary.simulated, Some(true));
    for alert in &alerts {
        let why = &alert.explanation;
        let i: usize = alert.session_id[1..].parse().unwrap();
        // Ten lines a session, 3000 lines in the first file.
        let place = |at: u32| {
            let line = 10 * i as u64 + u64::from(at) + 1;
            let (file, line) = if line <= 3000 { ("raw:a.log.1", line) } else { ("raw:a.log", line - 3000) };
            Some(LineRef { file: file.to_owned(), line })
        };
        assert!(!why.odd.is_empty() && why.odd.iter().all(|odd| odd.place == place(odd.event)), "{why:?}");
        assert_eq!((&why.first, &why.last), (&place(0), &place(why.events - 1)));
        if i % 2 == 1 {
            assert_eq!(ids(&why.unseen), ["T6"], "{why:?}");
            assert!(why.signature.starts_with("unseen T6") && why.reason.contains("`exception <*>`"), "{why:?}");
            // The exception is the last line but one.
            let marked: Vec<u32> = why.odd.iter().filter(|o| o.why == Odd::Unseen).map(|o| o.event).collect();
            assert_eq!(marked, [why.events - 2]);
            assert_eq!(alert.kind.as_deref(), Some("exception"));
        } else {
            assert!(why.unseen.is_empty() && !(why.extra.is_empty() && why.missing.is_empty()), "{why:?}");
        }
        assert!(!why.contributions.is_empty() && !why.residuals.is_empty() && why.nearest.is_some());
        let shares = why.shares;
        let sum: f64 = [shares.lgbm, shares.ae, shares.profile].iter().map(|share| share.unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{shares:?}");
    }
    // Alike ones are together: exceptions, and lost writes.
    let counts: u64 = summary.signatures.iter().map(|s| s.alerts).sum();
    assert!(counts == 36 && summary.signatures.len() <= 5, "{:?}", summary.signatures);
    let exceptions: Vec<&Signature> = summary.signatures.iter().filter(|s| s.signature.contains("T6")).collect();
    assert_eq!(exceptions.iter().map(|s| s.alerts).sum::<u64>(), 18);
    for signature in &summary.signatures {
        assert!(!signature.reason.is_empty() && !signature.examples.is_empty());
        assert!(signature.examples.len() <= 3 && signature.examples.iter().all(|e| !e.lines.is_empty()));
        assert!(signature.first <= signature.last && signature.templates.values().all(|text| !text.is_empty()));
    }
    assert_eq!(exceptions[0].templates["T6"], "exception <*>");
    assert_eq!(exceptions[0].types.keys().collect::<Vec<_>>(), ["exception"]);
}

#[test]
fn what_is_said_of_an_alert_does_not_depend_on_the_others() {
    let toy = toy(true);
    toy.flag(anomalous);
    let all: BTreeMap<String, Alert> =
        toy.explain(&ALL, &json!({})).0.into_iter().map(|a| (a.session_id.clone(), a)).collect();
    for wanted in ["s0003", "s0020", "s0598"] {
        toy.flag(|id| id == wanted);
        let (alone, summary) = toy.explain(&ALL, &json!({}));
        assert_eq!(alone.len(), 1);
        assert_eq!(alone[0], all[wanted]);
        assert_eq!(summary.signatures[0].id, alone[0].explanation.signature_id);
    }
    toy.flag(|_| false);
    let (none, summary) = toy.explain(&ALL, &json!({}));
    assert!(none.is_empty() && summary.signatures.is_empty());
    // Ordinary sessions have something to say as well.
    toy.flag(|_| true);
    let (everyone, summary) =
        toy.explain(&ALL, &json!({"lines": 2, "contributions": 1, "residuals": 0, "examples": 1}));
    assert_eq!((everyone.len(), summary.with_reason, summary.with_lines), (600, 600, 600));
    assert!(everyone.iter().all(|a| a.explanation.odd.len() <= 2 && a.explanation.contributions.len() <= 1));
    assert!(everyone.iter().all(|a| a.explanation.residuals.is_empty()));
}

#[test]
fn any_model_may_be_missing() {
    let toy = toy(true);
    toy.flag(anomalous);
    for models in [
        &["profile"][..],
        &["features", "lgbm"],
        &["features", "ae", "fusion"],
        &["features", "lgbm", "ae", "fusion"],
        &["profile", "fusion"],
        &[],
    ] {
        let (alerts, summary) = toy.explain(models, &json!({}));
        assert_eq!((summary.alerts, summary.with_reason, summary.with_lines), (36, 36, 36), "{models:?}");
        let has = |model: &str| models.contains(&model);
        assert!(alerts.iter().all(|a| a.explanation.contributions.is_empty() != has("lgbm")), "{models:?}");
        assert!(alerts.iter().all(|a| a.explanation.residuals.is_empty() != has("ae")), "{models:?}");
        assert!(alerts.iter().all(|a| a.explanation.nearest.is_some() == has("profile")), "{models:?}");
        let signature = match models {
            [] => "scores alone",
            ["features", "lgbm", ..] => "contribution ",
            ["features", "ae", ..] => "residual ",
            _ => "",
        };
        assert!(alerts.iter().all(|a| a.explanation.signature.starts_with(signature)), "{models:?}");
    }
}

#[test]
fn without_labels_alerts_say_why() {
    let toy = toy(false);
    toy.flag(anomalous);
    let (alerts, summary) = toy.explain(&ALL, &json!({}));
    assert!(!alerts.is_empty());
    assert_eq!((summary.with_reason, summary.with_lines), (summary.alerts, summary.alerts));
    assert!(alerts.iter().all(|a| a.label.is_none() && a.explanation.contributions.is_empty()));
    assert!(alerts.iter().all(|a| a.explanation.shares.lgbm.is_none() && a.explanation.shares.ae.is_some()));
}

#[test]
fn models_of_another_run_and_other_sessions_are_told() {
    let toy = toy(true);
    toy.flag(anomalous);
    let inputs = |scores: &'static str, sessions: &'static str| {
        [("scores", scores), ("ensemble", "ensemble.csv"), ("sessions", sessions), ("templates", "templates.csv")]
    };
    let fails = |inputs: &[(&str, &str)]| {
        let places: Vec<(&str, PathBuf)> = inputs.iter().map(|(slot, name)| (*slot, toy.at(name))).collect();
        let inputs: Vec<(&str, &str, &Path)> = places.iter().map(|(s, path)| (*s, *s, path.as_path())).collect();
        let error = run(&kind(), &json!({}), &inputs, &["alerts", "summary"], 1).err().expect("an error");
        format!("{error:#}")
    };
    let mut frame = read_parquet(&toy.at("scores.parquet"), None).unwrap();
    let more: Vec<f64> = frame.column("profile").unwrap().f64().unwrap().iter().map(|d| d.unwrap() + 1.0).collect();
    frame.with_column(polars::prelude::Column::new("profile".into(), more)).unwrap();
    write_parquet(&toy.at("other.parquet"), &mut frame).unwrap();
    let mut all = inputs("other.parquet", "sessions.parquet").to_vec();
    all.push(("profile", "profile"));
    let error = fails(&all);
    assert!(error.contains("`profile`") && error.contains("different runs"), "{error}");
    let mut frame = read_parquet(&toy.at("scores.parquet"), None).unwrap().slice(0, 599);
    write_parquet(&toy.at("short.parquet"), &mut frame).unwrap();
    let error = fails(&inputs("short.parquet", "sessions.parquet"));
    assert!(error.contains("another one there"), "{error}");
    let mut all = inputs("scores.parquet", "sessions.parquet").to_vec();
    all.push(("lgbm", "lgbm"));
    let error = fails(&all);
    assert!(error.contains("need the slot `features`"), "{error}");
    assert_eq!((kind().make)(&json!({"lines": 0})).err().unwrap()[0].path, "lines");
}
