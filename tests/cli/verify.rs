//! `verify --key` and `verify --rerun`, as typed.

use std::fs;
use std::process::Command;

use crate::support::{Project, said};

#[test]
fn signatures_made_with_a_key_of_openssl_are_checked() {
    let project = Project::toy();
    let openssl = |arguments: &[&str]| {
        Command::new("openssl").args(arguments).current_dir(project.root()).output().is_ok_and(|o| o.status.success())
    };
    if !openssl(&["genpkey", "-algorithm", "ed25519", "-out", "key.pem"]) {
        eprintln!("SKIPPED: no openssl");
        return;
    }
    assert!(openssl(&["pkey", "-in", "key.pem", "-pubout", "-out", "public.pem"]));
    assert!(openssl(&["genpkey", "-algorithm", "ed25519", "-out", "other.pem"]));
    assert!(openssl(&["genpkey", "-algorithm", "ed448", "-out", "448.pem"]));
    let run = |key: &str| said(&project.command(&["run"]).env("LOGWEIR_SIGNING_KEY", key).output().unwrap());
    run("key.pem").ok();
    run("key.pem").ok();
    let report = project.logweir(&["verify", "--key", "public.pem", "--json"]).ok().json();
    assert_eq!((&report["signed"], &report["after_signed"]), (&2.into(), &0.into()));
    fs::create_dir_all(project.path("deep")).unwrap();
    let below = project.command(&["verify", "--key", "../public.pem"]).current_dir(project.path("deep")).output();
    assert!(said(&below.unwrap()).ok().out.contains("2 runs with a good signature"));
    let wrong = project.logweir(&["verify", "--key", "other.pem", "--json"]).exits(1).json();
    assert_eq!(wrong["findings"][0]["kind"], "signature_wrong");
    for (key, code) in [("none.pem", 3), ("448.pem", 2)] {
        let failed = run(key).exits(code);
        assert!(failed.err.contains(key) && failed.err.contains("help:"), "{}", failed.err);
    }
    project.logweir(&["run"]).ok();
    let unsigned = project.logweir(&["verify", "--key", "key.pem"]).exits(1);
    assert!(unsigned.out.contains("unsigned") && unsigned.out.contains("stays as evidence"), "{}", unsigned.out);
}

#[test]
fn what_is_not_reproducible_is_named_with_the_first_difference() {
    let project = Project::toy();
    let text = project.read("pipeline.yaml");
    project.write(
        "pipeline.yaml",
        &format!("{text}  when:\n    run: \"date +%s%N > ${{out.w}}\"\n    out: {{ w: out/when.txt }}\n"),
    );
    project.run(&[]).ok();
    let said = project.logweir(&["verify", "--rerun"]).exits(1);
    assert!(said.out.contains("out/when.txt") && said.out.contains("line 1: recorded"), "{}", said.out);
    assert!(said.err.contains("same head"), "{}", said.err);
    let report = project.logweir(&["verify", "--rerun", "--json", "-j", "2", "head", "count"]).ok().json();
    assert_eq!(report["stages"].as_array().unwrap().len(), 2);
    assert_eq!(report["stages"][0]["outcome"], "same");
    project.logweir(&["verify"]).ok();
    project.write("out/head.txt", "tampered\n");
    let damaged = project.logweir(&["verify"]).exits(1);
    assert!(damaged.out.contains("`logweir verify --repair` puts right"), "{}", damaged.out);
    let again = project.logweir(&["verify", "--rerun", "count"]).ok();
    assert!(again.out.contains("taken from the store: out/head.txt"), "{}", again.out);
}

#[test]
fn a_stage_whose_source_has_changed_is_skipped_with_its_reason() {
    let project = Project::toy();
    project.run(&[]).ok();
    project.write("src/text.txt", "other\n");
    let skipped = project.logweir(&["verify", "--rerun", "copy"]).ok();
    let reason = "was never executed with what it has now (input text: src/text.txt)";
    assert!(skipped.out.contains("skipped  copy") && skipped.out.contains(reason), "{}", skipped.out);
    assert!(skipped.out.contains("nothing compared: 0 actions executed again, 1 skipped"), "{}", skipped.out);
    let report = project.logweir(&["verify", "--rerun", "--json"]).ok().json();
    let rows: Vec<_> = report["stages"].as_array().unwrap().iter().map(|row| (&row["stage"], &row["why"])).collect();
    assert_eq!(rows[0], (&"copy".into(), &reason.into()));
    assert!(report["stages"].as_array().unwrap().iter().all(|row| row["outcome"] == "skipped"), "{report}");
    // It hides nothing of a stage that is executed again.
    let text = project.read("pipeline.yaml");
    project.write(
        "pipeline.yaml",
        &format!("{text}  when:\n    run: \"date +%s%N > ${{out.w}}\"\n    out: {{ w: out/when.txt }}\n"),
    );
    project.run(&["when"]).ok();
    let both = project.logweir(&["verify", "--rerun"]).exits(1);
    assert!(both.out.contains("1 action not reproduced: 1 action executed again, 3 skipped"), "{}", both.out);
}

#[test]
fn on_a_terminal_each_stage_is_told_once() {
    let project = Project::toy();
    project.run(&[]).ok();
    let rerun = format!("'{}' verify --rerun", env!("CARGO_BIN_EXE_logweir"));
    let mut command = Command::new("script");
    command.args(["-qec", &rerun, "/dev/null"]).current_dir(project.root()).env("TERM", "xterm");
    let Ok(output) = command.output() else {
        eprintln!("SKIPPED: no `script`, which gives a terminal");
        return;
    };
    let told = said(&output).ok();
    for stage in ["copy", "head", "count"] {
        let lines = told.out.split(['\r', '\n']).filter(|line| line.contains("same") && line.contains(stage)).count();
        assert_eq!(lines, 1, "{stage}: {}", told.out);
    }
    assert!(told.out.contains("3 actions executed again"), "{}", told.out);
}

#[test]
fn a_lock_file_of_an_older_commit_is_noted_and_a_removed_stage_is_a_difference() {
    let project = Project::toy();
    project.run(&[]).ok();
    let older = project.read("pipeline.lock");
    project.write("src/text.txt", "other\n");
    project.run(&[]).ok();
    let now = project.read("pipeline.lock");
    project.write("pipeline.lock", &older);
    let noted = project.logweir(&["verify"]).ok();
    assert!(noted.out.contains("lock behind") && noted.out.contains("all as recorded"), "{}", noted.out);
    let report = project.logweir(&["verify", "--json"]).ok().json();
    assert_eq!((&report["findings"], &report["notes"][0]["kind"]), (&serde_json::json!([]), &"lock_behind".into()));
    let at = now.find("[[stage]]\nname = \"head\"").unwrap();
    project.write("pipeline.lock", &now[..at]);
    let missing = project.logweir(&["verify"]).exits(1);
    assert!(missing.out.contains("lock stage missing"), "{}", missing.out);
    assert!(missing.out.contains("stays as evidence"), "{}", missing.out);
    let report = project.logweir(&["verify", "--json"]).exits(1).json();
    assert_eq!(
        (&report["findings"][0]["kind"], &report["findings"][0]["stage"]),
        (&"lock_stage_missing".into(), &"head".into())
    );
}
