//! What a new user meets: `init`, plans, reasons, manual pages.

use std::fs;

use serde_json::Value;

use crate::support::{Project, real_logs};

#[test]
fn init_writes_a_project_that_runs_at_once_and_then_has_nothing_to_do() {
    let empty = tempfile::tempdir().unwrap();
    let project = Project::toy();
    let folder = empty.path().join("new");
    let folder = folder.to_str().unwrap();
    project.logweir(&["init", folder]).ok();
    // Nothing but bash and coreutils is asked for: no other program is on the path.
    let tools = empty.path().join("bin");
    fs::create_dir(&tools).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    for tool in ["bash", "cut", "sort", "uniq", "head", "tail", "wc"] {
        let found = std::env::split_paths(&path).map(|folder| folder.join(tool)).find(|program| program.exists());
        std::os::unix::fs::symlink(found.unwrap(), tools.join(tool)).unwrap();
    }
    let run = |arguments: &[&str]| {
        let all = [&["-C", folder, "run", "--json"], arguments].concat();
        let output = project.command(&all).env("PATH", &tools).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        serde_json::from_str::<Value>(text.lines().last().unwrap()).unwrap()
    };
    assert_eq!(run(&[])["executed"], 5);
    assert_eq!(run(&[])["executed"], 0);
    let seeded = run(&["--set", "vars.seed=7"]);
    assert!(seeded["executed"].as_u64().unwrap() >= 3, "{seeded}");
    assert_eq!(run(&[])["executed"], 0);
    let traced = project.logweir(&["-C", folder, "lineage", "reports/metrics.json#/requests", "--json"]).ok().json();
    assert_eq!(traced["value"], 500);
    assert!(fs::read_to_string(format!("{folder}/.gitignore")).unwrap().contains("/cache/"));
    // Nothing is ever overwritten.
    let again = project.logweir(&["init", folder]).exits(2);
    assert!(again.err.contains("exists already") && again.err.contains("help:"), "{}", again.err);
}

#[test]
fn init_from_a_log_guesses_a_pipeline_that_runs() {
    let project = Project::toy();
    let log: String = (0..60)
        .map(|i| {
            let (second, thread) = (i % 60, i / 6);
            let trace = if i % 10 == 0 { "java.io.IOException: x\n\tat a.B(C.java:7)\n" } else { "" };
            format!("2024-01-15 10:00:{second:02},123 INFO [worker-{thread}] shop.Order: took {i} ms\n{trace}")
        })
        .collect();
    project.write("logs/shop.log", &log);
    let said = project.logweir(&["init", "own", "--from", "logs"]).ok();
    assert!(
        said.err.contains("of the first 72 lines 60 fit, 12 continue the one before, 0 do not fit"),
        "{}",
        said.err
    );
    assert!(said.err.contains("2024-01-15T10:00:00.123Z  INFO   shop.Order  worker-0  took <num> ms"), "{}", said.err);
    let pipeline = project.read("own/pipeline.yaml");
    for line in [
        "      format: '<Date> <Time> <Level> [<Thread>] <Component>: <Content>'\n",
        "      timestamp_format: '%Y-%m-%d %H:%M:%S,%f'\n",
        "      session: { field: 'Thread' }\n",
    ] {
        assert!(pipeline.contains(line), "{pipeline}");
    }
    project.logweir(&["-C", "own", "run", "sessionize"]).ok();
    let parsed: Value = serde_json::from_str(&project.read("own/data/processed/events/parse.json")).unwrap();
    assert_eq!((&parsed["parsed"], &parsed["continued"], &parsed["rejected"]), (&60.into(), &12.into(), &0.into()));
    let sessions: Value = serde_json::from_str(&project.read("own/data/processed/sessions.json")).unwrap();
    assert_eq!(sessions["sessions"], 10);
    let guessed = project.logweir(&["init", "other", "--from", "logs/shop.log", "--json"]).ok().json();
    assert_eq!(guessed["detected"]["parameters"]["session"], serde_json::json!({"field": "Thread"}));
    assert_eq!(guessed["detected"]["rows"].as_array().unwrap().len(), 10);
    project.logweir(&["init", "more", "--from", "none.log"]).exits(3);
}

#[test]
fn init_from_each_real_log_gives_a_pipeline_that_makes_sessions() {
    let Some(logs) = real_logs() else {
        eprintln!("SKIPPED: no folder of real logs");
        return;
    };
    let project = Project::toy();
    for set in ["HDFS", "BGL", "Hadoop", "Linux", "OpenStack"] {
        let log = logs.join(format!("../loghub2k/{set}_2k.log"));
        project.logweir(&["init", set, "--from", log.to_str().unwrap()]).ok();
        project.logweir(&["-C", set, "plan"]).ok();
        project.logweir(&["-C", set, "run", "sessionize"]).ok();
        let parsed: Value =
            serde_json::from_str(&project.read(&format!("{set}/data/processed/events/parse.json"))).unwrap();
        assert_eq!((&parsed["parsed"], &parsed["rejected"]), (&2000.into(), &0.into()), "{set}");
        let sessions: Value =
            serde_json::from_str(&project.read(&format!("{set}/data/processed/sessions.json"))).unwrap();
        assert!(sessions["sessions"].as_u64().unwrap() > 50, "{set}: {sessions}");
    }
}

#[test]
fn a_plan_names_its_critical_path_and_a_run_what_would_have_shortened_it() {
    let project = Project::toy();
    let plan = project.logweir(&["plan", "--json"]).ok().json();
    assert_eq!(plan["critical_path"], serde_json::json!(["copy", "head", "count"]));
    assert_eq!((&plan["seconds"], &plan["unknown"]), (&Value::Null, &Value::from(3)));
    let ran = project.run(&[]).ok();
    let last = ran.lines().pop().unwrap();
    let path = &last["critical_path"];
    assert_eq!(path["stages"][0]["stage"], "copy");
    let number = |value: &Value| value.as_f64().unwrap();
    let first = &path["stages"][0];
    let rest = number(&path["seconds"]) - number(&first["seconds"]);
    assert!((number(&first["if_free"]) - rest).abs() < 1e-9, "{path}");
    assert_eq!(project.logweir(&["plan", "--json"]).ok().json()["critical_path"], serde_json::json!([]));
    let forced = project.logweir(&["plan", "--force", "head", "--json"]).ok().json();
    assert_eq!(forced["critical_path"], serde_json::json!(["head", "count"]));
    assert_eq!(forced["unknown"], 0);
}

#[test]
fn why_tells_each_leaf_from_what_to_what_and_since_when_a_stage_is_fresh() {
    let project = Project::toy();
    project.run(&[]).ok();
    let first = project.logweir(&["show", "--json"]).ok().json()["run"].as_str().unwrap().to_owned();
    project.run(&["--set", "vars.n=5"]).ok();
    project.run(&[]).ok();
    let fresh = project.logweir(&["why", "head", "--json"]).ok().json();
    assert_eq!(fresh["now"]["decision"], "fresh");
    assert_eq!(fresh["since"]["run"], first.as_str(), "not the last execution: the one whose outputs are in place");
    let page = project.logweir(&["why", "head"]).ok().out;
    assert!(page.contains(&format!("fresh since it was executed ({first})")), "{page}");
    let changed = project.logweir(&["why", "head", "--set", "vars.n=7"]).ok().out;
    assert!(changed.contains("param n: 5 → 7"), "{changed}");
}

#[test]
fn there_is_a_manual_page_for_each_command() {
    let project = Project::toy();
    let main = project.logweir(&["man"]).ok().out;
    assert!(main.contains(".TH logweir 1"), "{main}");
    project.logweir(&["man", "--out", "man1"]).ok();
    for page in ["logweir.1", "logweir-run.1", "logweir-lineage.1"] {
        assert!(project.read(&format!("man1/{page}")).contains(".SH"), "{page}");
    }
}

#[test]
fn every_command_shows_examples() {
    let project = Project::toy();
    let help = project.logweir(&["--help"]).ok().out;
    let commands = help.lines().skip_while(|l| *l != "Commands:").skip(1).take_while(|l| l.starts_with("  "));
    let mut count = 0;
    for command in commands.filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next()) {
        if command.starts_with('[') {
            continue;
        }
        let help = project.logweir(&[command, "--help"]).ok().out;
        assert!(help.contains("Examples:") || help.contains("Like Ctrl-C"), "{command}:\n{help}");
        count += 1;
    }
    assert!(count >= 16, "{help}");
}
