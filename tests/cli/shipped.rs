//! The shipped pipeline, whole: on a simulated log, and on real ones where they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Counts, Project, Said, real_logs, said};

const PIPELINE: &str = include_str!("../../pipeline.yaml");
const STAGES: u64 = 16;

/// Runs a command in a project that has its logs in a folder.
fn logweir(project: &Project, logs: &Path, arguments: &[&str]) -> Said {
    said(&project.command(arguments).env("LOGWEIR_HDFS", logs).output().unwrap())
}

/// A project with simulated logs beside it.
fn simulated(sessions: &str) -> (Project, PathBuf) {
    let project = Project::new(PIPELINE);
    project.logweir(&["simulate", "--sessions", sessions, "--out", "raw"]).ok();
    let logs = project.path("raw");
    (project, logs)
}

/// Checks that every alert says why and names a line; returns how many there are.
fn explained(project: &Project) -> u64 {
    let summary: serde_json::Value = serde_json::from_str(&project.read("reports/alerts.json")).unwrap();
    let count = |name: &str| summary[name].as_u64().unwrap();
    let alerts = project
        .read("reports/ensemble_sessions.csv")
        .lines()
        .skip(1)
        .filter(|l| l.split(',').nth(5) == Some("1"))
        .count();
    assert_eq!(count("alerts"), alerts as u64);
    assert_eq!((count("with_reason"), count("with_lines")), (count("alerts"), count("alerts")), "{summary}");
    let signatures = summary["signatures"].as_array().unwrap();
    assert_eq!(signatures.iter().map(|s| s["alerts"].as_u64().unwrap()).sum::<u64>(), count("alerts"));
    count("alerts")
}

fn files(project: &Project, folders: &[&str]) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|f| project.path(f)).collect();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(project.root()).unwrap().display().to_string();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn a_simulated_log_goes_all_the_way_and_only_changes_run_again() {
    let (project, logs) = simulated("4000");
    let first = logweir(&project, &logs, &["run", "--json", "-j", "2"]).ok();
    assert_eq!(first.counts(), Counts { executed: STAGES, ..Counts::default() });
    let again = logweir(&project, &logs, &["run", "--json"]).ok();
    assert_eq!(again.counts(), Counts { fresh: STAGES, ..Counts::default() });

    let metrics: serde_json::Value = serde_json::from_str(&project.read("reports/metrics.json")).unwrap();
    assert_eq!(metrics["dataset"]["source"], "simulated");
    assert!(metrics["fusion"]["average_precision"].as_f64().unwrap() > 0.8, "{}", metrics["fusion"]);
    let page = project.read("reports/index.html");
    assert!(page.to_lowercase().contains("simulated"));
    assert!(page.contains("data-origin=\"data&#x2f;processed&#x2f;alerts.parquet#row=") && page.len() < 2_000_000);
    assert!(explained(&project) > 50);
    let header = project.read("reports/ensemble_sessions.csv");
    assert_eq!(header.lines().next(), Some("session_id,timestamp,p_lgbm,z_ae,fusion_score,is_alert,label"));

    // A threshold reruns evaluate and what follows it.
    let set = ["run", "--json", "--set", "stages.evaluate.with.threshold.beta=3"];
    let mut ran = logweir(&project, &logs, &set).ok().executed();
    ran.sort();
    assert_eq!(ran, ["evaluate", "export", "report"], "the same alerts need no new explanations");
    // Going back executes effects at most.
    let back = logweir(&project, &logs, &["run", "--json"]).ok();
    assert!(back.executed().iter().all(|stage| stage == "export"), "{:?}", back.executed());
    // Features are swapped without parsing again.
    let plan = ["plan", "--json", "--set", "stages.featurize.with.groups=[count,first,last]"];
    let plan = logweir(&project, &logs, &plan).ok().json();
    let fresh =
        |name: &str| plan["stages"].as_array().unwrap().iter().any(|s| s["name"] == name && s["decision"] == "fresh");
    assert!(fresh("parse") && fresh("sessionize") && !fresh("featurize"), "{plan}");

    let lineage =
        logweir(&project, &logs, &["lineage", "reports/metrics.json#/fusion/average_precision", "--json"]).ok();
    let lineage = lineage.json();
    assert_eq!(lineage["value"], metrics["fusion"]["average_precision"]);
    // Reports carry the key of the action that made them.
    for (report, stage) in [("metrics", "evaluate"), ("lgbm_val", "train_lgbm"), ("ae_val", "train_ae")] {
        let report: serde_json::Value = serde_json::from_str(&project.read(&format!("reports/{report}.json"))).unwrap();
        let made_by = lineage["nodes"].as_array().unwrap().iter().find(|n| n["stage"] == stage).unwrap();
        assert_eq!(report["provenance"]["key"], made_by["key"], "{stage}");
        assert_eq!(report["provenance"]["stage"], made_by["action"], "{stage}");
    }
    let source = lineage["nodes"].as_array().unwrap().iter().find(|n| n["path"] == "raw:HDFS.log").unwrap();
    assert_eq!(source["file"], logs.canonicalize().unwrap().join("HDFS.log").display().to_string());
    logweir(&project, &logs, &["verify"]).ok();
}

#[test]
fn threads_do_not_change_a_byte() {
    let (one, logs) = simulated("1500");
    logweir(&one, &logs, &["run", "-q", "-j", "1", "fuse", "evaluate"]).ok();
    let two = Project::new(PIPELINE);
    logweir(&two, &logs, &["run", "-q", "-j", "3", "fuse", "evaluate"]).ok();
    let (a, b) = (files(&one, &["data", "reports"]), files(&two, &["data", "reports"]));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, bytes) in &a {
        assert!(b[name] == *bytes, "{name} differs between -j 1 and -j 3");
    }
}

#[test]
fn another_machines_environment_does_not_change_a_byte_and_all_kinds_are_reproducible() {
    let (one, logs) = simulated("1500");
    logweir(&one, &logs, &["run", "-q", "-j", "1"]).ok();
    let two = Project::new(PIPELINE);
    let deeper = two.path("another folder");
    fs::create_dir_all(&deeper).unwrap();
    fs::copy(two.path("pipeline.yaml"), deeper.join("pipeline.yaml")).unwrap();
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", "umask 077 && exec \"$0\" run -q -j 2", env!("CARGO_BIN_EXE_logweir")])
        .current_dir(&deeper)
        .env_clear();
    shell.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("LOGWEIR_HDFS", logs.canonicalize().unwrap());
    shell.envs([
        ("TZ", "Pacific/Auckland"),
        ("LANG", "tr_TR.UTF-8"),
        ("LC_ALL", "tr_TR.UTF-8"),
        ("HOME", "/nonexistent"),
    ]);
    said(&shell.output().unwrap()).ok();
    let blocks = |text: &str| text.split_once("[[stage]]").map(|(_, blocks)| blocks.to_owned());
    let other = fs::read_to_string(deeper.join("pipeline.lock")).unwrap();
    assert_eq!(blocks(&one.read("pipeline.lock")), blocks(&other));
    let log = one.read("cache/runlog.jsonl");
    for jobs in ["1", "2"] {
        let report = logweir(&one, &logs, &["verify", "--rerun", "--json", "-j", jobs]).ok().json();
        let with = |outcome: &str| -> Vec<String> {
            let stages = report["stages"].as_array().unwrap().iter().filter(|stage| stage["outcome"] == outcome);
            stages.map(|stage| stage["stage"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!((with("same").len(), with("skipped")), (STAGES as usize - 1, vec!["export".to_owned()]), "{report}");
    }
    assert_eq!(one.read("cache/runlog.jsonl"), log);
}

#[test]
fn scoring_the_training_log_gives_the_scores_of_the_pipeline() {
    let (project, logs) = simulated("1500");
    logweir(&project, &logs, &["run", "-q"]).ok();
    let log = logs.join("HDFS.log");
    let log = log.to_str().unwrap();
    let answer = logweir(&project, &logs, &["score", log, "--out", "new.csv", "--json"]).ok().json();
    assert_eq!(answer["new_templates"], 0);
    let cut = |text: &str| {
        text.lines().skip(1).map(|l| l.split(',').take(6).collect::<Vec<_>>().join(",")).collect::<Vec<_>>()
    };
    let (scored, trained) = (cut(&project.read("new.csv")), cut(&project.read("reports/ensemble_sessions.csv")));
    assert!(!scored.is_empty());
    assert_eq!(scored, trained);
    logweir(&project, &logs, &["score", log, "--out", "new.jsonl"]).ok();
    let line: serde_json::Value = serde_json::from_str(project.read("new.jsonl").lines().next().unwrap()).unwrap();
    assert!(line["fusion_score"].is_f64());
    // Files that cannot be scored.
    logweir(&project, &logs, &["score", "nothing.log", "--out", "x.csv"]).exits(3);
    logweir(&project, &logs, &["score", log, "--out", "x.pdf"]).exits(2);
    project.write("other.log", "no such format\n");
    logweir(&project, &logs, &["score", "other.log", "--out", "x.csv"]).exits(1);
    assert!(!project.path("x.csv").exists());
}

#[test]
fn scoring_without_a_run_says_what_to_do() {
    let project = Project::new(PIPELINE);
    project.write("a.log", "x\n");
    let said = project.logweir(&["score", "a.log", "--out", "x.csv"]);
    assert!(said.code == 2 || said.code == 3, "{} {}", said.code, said.err);
    assert!(said.err.contains("help:"), "{}", said.err);
}

#[test]
fn without_logs_the_message_says_where_they_were_looked_for() {
    let project = Project::new(PIPELINE);
    let said = project.logweir(&["run"]).exits(3);
    assert!(said.err.contains("data/raw/HDFS_v1"), "{}", said.err);
}

#[test]
fn without_labels_the_rest_works() {
    let (project, logs) = simulated("1500");
    fs::remove_file(logs.join("anomaly_label.csv")).unwrap();
    let run = logweir(&project, &logs, &["run", "--json"]).ok();
    assert_eq!(run.counts().executed, STAGES);
    let ensemble = project.read("reports/ensemble_sessions.csv");
    let row: Vec<&str> = ensemble.lines().nth(1).unwrap().split(',').collect();
    assert_eq!((row[2], row[6]), ("", ""), "no calibrated probability, no label: {row:?}");
    assert!(explained(&project) > 0);
    assert!(row[4].parse::<f64>().unwrap().is_finite());
}

#[test]
fn the_demo_profile_simulates_its_own_log() {
    let project = Project::new(PIPELINE);
    let arguments = ["--profile", "demo", "run", "--json", "--set", "stages.simulate.with.sessions=1500"];
    let first = project.logweir(&arguments).ok();
    assert_eq!(first.counts().executed, STAGES + 1);
    assert_eq!(project.logweir(&arguments).ok().counts().executed, 0);
}

#[test]
fn real_logs_are_scored_well() {
    let Some(logs) = real_logs() else {
        eprintln!("SKIPPED: no folder of real logs ($LOGWEIR_SHARED/data/hdfs or ../shared/data/hdfs)");
        return;
    };
    let project = Project::new(PIPELINE);
    let first = logweir(&project, &logs, &["run", "--json"]).ok();
    assert_eq!(first.counts().executed, STAGES);
    assert_eq!(logweir(&project, &logs, &["run", "--json"]).ok().counts().fresh, STAGES);
    let metrics: serde_json::Value = serde_json::from_str(&project.read("reports/metrics.json")).unwrap();
    assert_eq!(metrics["dataset"]["source"], "real");
    assert_eq!(metrics["dataset"]["sessions"], 8104);
    assert_eq!(metrics["dataset"]["lines"], 156_711);
    assert!(explained(&project) > 200);
    assert!(metrics["fusion"]["average_precision"].as_f64().unwrap() >= 0.99, "{}", metrics["fusion"]);
}

#[test]
fn an_unreachable_database_is_a_fault_of_the_environment_and_the_rest_is_kept() {
    let (project, logs) = simulated("1500");
    let mut command = project.command(&["run", "--json"]);
    let nobody = "postgres://someone@127.0.0.1:1/nowhere";
    let failed = said(&command.env("LOGWEIR_HDFS", &logs).env("LOGWEIR_POSTGRES", nobody).output().unwrap()).exits(3);
    assert_eq!(failed.counts().failed, 1);
    assert!(failed.out.contains("cannot reach postgresql://127.0.0.1:1/nowhere"), "{}", failed.out);
    let then = logweir(&project, &logs, &["run", "--json"]).ok();
    assert_eq!(then.executed(), ["export"]);
}

#[test]
fn a_password_is_in_no_key_record_log_or_message() {
    const SECRET: &str = "never-to-be-seen-4711";
    let (project, logs) = simulated("300");
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("password");
    std::fs::write(&file, SECRET).unwrap();
    let address = format!("postgres://someone:{SECRET}@127.0.0.1:1/nowhere");
    let plain = "host=127.0.0.1 port=1 user=someone dbname=nowhere".to_owned();
    let path = file.display().to_string();
    let ways = [
        vec![("LOGWEIR_POSTGRES", address)],
        vec![("LOGWEIR_POSTGRES", plain.clone()), ("PGPASSWORD", SECRET.to_owned())],
        vec![("LOGWEIR_POSTGRES", plain.clone()), ("LOGWEIR_POSTGRES_PASSWORD", SECRET.to_owned())],
        vec![("LOGWEIR_POSTGRES", plain), ("LOGWEIR_POSTGRES_PASSWORD_FILE", path)],
    ];
    let mut keys = std::collections::BTreeSet::new();
    for way in ways {
        for arguments in [
            &["run", "--json"][..],
            &["plan", "--json"],
            &["why", "export"],
            &["lineage", "reports/metrics.json", "--json"],
        ] {
            let mut command = project.command(arguments);
            command.env("LOGWEIR_HDFS", &logs).envs(way.iter().cloned());
            let out = command.output().unwrap();
            let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
            assert!(!text.contains(SECRET), "{arguments:?}: {text}");
            keys.extend(text.lines().filter(|line| line.contains("\"stage\":\"export\"")).filter_map(|line| {
                let event: serde_json::Value = serde_json::from_str(line).ok()?;
                Some(event["key"].as_str()?.to_owned())
            }));
        }
    }
    assert!(keys.len() <= 1, "the password changes the key: {keys:?}");
    let mut pending = vec![project.root().to_path_buf()];
    let mut seen = 0;
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.is_file() {
                let bytes = std::fs::read(&path).unwrap();
                assert!(!bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()), "{}", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 20, "only {seen} files were looked at");
}
