//! What is wrong is said before anything runs, with the right exit code.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Project, TOY};

#[test]
fn all_errors_of_a_pipeline_are_reported_with_place_caret_and_suggestion() {
    let project = Project::new(
        "version: 1\nname: bad\nstages:\n  a: { uses: simulte, out: { log: x/1.txt } }\n  \
         b: { run: \"echo > ${out.o}\", out: { o: x/2.txt }, thread: 2 }\n",
    );
    let said = project.logweir(&["run"]).exits(2);
    for expected in
        ["pipeline.yaml:4:14", "did you mean `simulate`?", "pipeline.yaml:5:", "did you mean `threads`?", "───"]
    {
        assert!(said.err.contains(expected), "no {expected} in:\n{}", said.err);
    }
    assert_eq!(said.out, "");
    assert!(!project.path("x").exists());
    let json = project.logweir(&["plan", "--json"]).exits(2);
    let error: serde_json::Value = serde_json::from_str(json.err.trim()).unwrap();
    assert_eq!(error["errors"][0]["line"], 4);
    assert_eq!(error["exit"], 2);
}

#[test]
fn the_command_line_is_checked() {
    let project = Project::toy();
    project.logweir(&["frobnicate"]).exits(2);
    project.logweir(&["run", "-j", "0"]).exits(2);
    let set = project.logweir(&["plan", "--set", "stages.hed.with.n=1"]).exits(2);
    assert!(set.err.contains("did you mean"), "{}", set.err);
    let target = project.logweir(&["run", "cuont"]).exits(2);
    assert!(target.err.contains("did you mean `count`?"), "{}", target.err);
    project.logweir(&["plan", "--profile", "nope"]).exits(2);
    let secret = project.logweir(&["run", "--set", "vars.n=postgres://me:hunter2@host/db"]).exits(2);
    assert!(!secret.err.contains("hunter2"), "{}", secret.err);
}

#[test]
fn missing_data_is_exit_3_and_names_what_is_missing() {
    let project = Project::new(TOY);
    let said = project.logweir(&["run"]).exits(3);
    assert!(said.err.contains("src/text.txt") && said.err.contains("`copy`"), "{}", said.err);
}

#[test]
fn no_project_is_no_crash() {
    let empty = tempfile::tempdir().unwrap();
    let project = Project::toy();
    let folder = empty.path().to_str().unwrap();
    let said = project.logweir(&["-C", folder, "plan"]);
    assert!(said.code == 2 || said.code == 3, "{} {}", said.code, said.err);
    assert!(said.err.contains("pipeline.yaml"), "{}", said.err);
}

#[test]
fn an_unwritable_project_is_exit_3_with_a_hint() {
    let project = Project::toy();
    project.run(&[]).ok();
    let cache = project.path("cache");
    let open = fs::metadata(&cache).unwrap().permissions();
    // Whoever may write everywhere (root) cannot be kept out by a mode: a file in the way does it.
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o500)).unwrap();
    let writable = fs::write(cache.join("probe"), "").is_ok();
    if writable {
        fs::set_permissions(&cache, open.clone()).unwrap();
        fs::rename(&cache, project.path("aside")).unwrap();
        project.write("cache", "a file, not a folder");
    }
    let said = project.logweir(&["run", "--set", "vars.n=4"]).exits(3);
    assert!(said.err.contains("error:") && said.err.contains("cache"), "{}", said.err);
    if writable {
        fs::remove_file(&cache).unwrap();
        fs::rename(project.path("aside"), &cache).unwrap();
    } else {
        fs::set_permissions(&cache, open).unwrap();
    }
    assert_eq!(project.run(&[]).ok().counts().executed, 0);
}

#[test]
fn a_second_run_at_the_same_time_is_refused() {
    let project = Project::new(
        "version: 1\nname: slow\nstages:\n  s: { run: \"touch began; sleep 3; echo 1 > ${out.o}\", out: { o: o.txt } }\n",
    );
    let mut first = project.command(&["run", "-q"]).spawn().unwrap();
    while !project.path("began").exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let second = project.logweir(&["run"]).exits(3);
    assert!(second.err.contains(&format!("pid {}", first.id())), "{}", second.err);
    // Readers take no lock.
    project.logweir(&["plan"]).ok();
    assert!(first.wait().unwrap().success());
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let project = Project::toy();
    let line = format!("{} schema | head -n 1; echo ${{PIPESTATUS[0]}}", env!("CARGO_BIN_EXE_logweir"));
    let output = project.command(&[]).args(["--version"]).output().unwrap();
    assert!(output.status.success());
    let output = std::process::Command::new("bash").args(["-c", &line]).current_dir(project.root()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().last(), Some("0"));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
