//! `gc`: what goes, what stays, and that a kill in the middle harms nothing.

use std::collections::BTreeSet;
use std::fs;

use logweir_engine::engine::{RunOptions, VerifyOptions};
use logweir_engine::error::EngineError;
use logweir_engine::event::Quiet;
use logweir_engine::failpoint;
use logweir_engine::gc::{GcOptions, GcReport};

use crate::crash::{Order, was_killed};
use crate::support::{Lab, quick_folder, walk};

const YAML: &str = "
stages:
  a: { uses: concat, in: { in: src/a.txt }, out: { out: out/a } }
  parts: { uses: spread, in: { in: src/a.txt }, out: { out: out/parts/ } }
  c: { run: 'cat ${in.i} > ${out.o}; echo done', in: { i: [out/a, 'out/parts/**/*.txt'] }, out: { o: out/c } }
";

fn text(n: usize) -> String {
    format!("{n}\nline {n}\n")
}

/// A project after `runs` runs, each with another text of its source.
fn lab(runs: usize) -> Lab {
    let lab = Lab::new_in(&quick_folder(), YAML);
    for n in 0..runs {
        lab.write("src/a.txt", &text(n));
        lab.run();
    }
    lab
}

fn gc(lab: &Lab, keep_runs: usize, delete: bool) -> GcReport {
    lab.engine().gc(&GcOptions { keep_runs, delete }).unwrap()
}

fn objects(lab: &Lab) -> BTreeSet<std::path::PathBuf> {
    walk(&lab.path("cache/objects")).into_iter().collect()
}

fn nothing_is_wrong(lab: &Lab) {
    lab.settled();
    assert_eq!(lab.engine().verify(&VerifyOptions::default(), &Quiet).unwrap().findings, []);
}

fn index_results(lab: &Lab) -> usize {
    logweir_engine::index::Index::open(&lab.path("cache")).unwrap().0.results().len()
}

#[test]
fn without_the_word_nothing_is_removed_and_what_would_go_is_what_goes() {
    let lab = lab(5);
    let before = objects(&lab);
    let would = gc(&lab, 2, false);
    assert!(would.dry_run && would.objects > 0 && would.bytes > 0 && would.kept > 0, "{would:?}");
    assert_eq!(objects(&lab), before);
    let did = gc(&lab, 2, true);
    assert_eq!(GcReport { dry_run: true, ..did.clone() }, would);
    assert_eq!(before.len() - objects(&lab).len(), did.objects);
    assert_eq!(objects(&lab).len(), did.kept);
    let runs: Vec<String> = lab.engine().runs().unwrap().into_iter().map(|run| run.run).collect();
    assert_eq!(did.runs, runs[..3], "the three oldest of five");
    assert_eq!(did.results, 9);
    assert_eq!(index_results(&lab), 6);
    let again = gc(&lab, 2, true);
    assert_eq!((again.objects, again.results, again.runs.len()), (0, 0, 0));
    nothing_is_wrong(&lab);
}

#[test]
fn kept_runs_are_restored_and_history_is_complete() {
    let lab = lab(5);
    gc(&lab, 2, true);
    nothing_is_wrong(&lab);
    // Runs that did nothing do not count.
    for _ in 0..5 {
        lab.run();
    }
    assert_eq!(gc(&lab, 2, true).objects, 0);
    let engine = lab.engine();
    let runs = engine.runs().unwrap();
    let written = engine.restore_run(&runs[3].run).unwrap();
    assert_eq!(written, ["out/a", "out/c", "out/parts/"]);
    assert_eq!((lab.read("out/a"), lab.read("out/parts/sub/1.txt")), (text(3), "line 3\n".to_owned()));
    assert!(!lab.path("cache/tmp/restore").exists());
    // What is in place stays, whatever run it is of.
    assert_eq!(gc(&lab, 1, true).objects, 0);
    lab.run();
    for run in &runs {
        assert_eq!(engine.show(&run.run).unwrap().stages.len(), 3);
        assert!(!engine.lineage("out/parts/first.txt", Some(&run.run)).unwrap().nodes.is_empty());
    }
}

#[test]
fn restoring_a_dropped_run_says_that_gc_removed_it_and_writes_nothing() {
    let lab = lab(4);
    gc(&lab, 1, true);
    let engine = lab.engine();
    let first = engine.runs().unwrap()[0].run.clone();
    let error = engine.restore_run(&first).unwrap_err();
    assert!(matches!(&error, EngineError::Collected { run: Some(run), .. } if *run == first), "{error}");
    let told = error.to_string();
    assert!(told.contains("`out/a` of run") && told.contains("`logweir gc` removed it at 2"), "{told}");
    assert!(error.help().unwrap().contains(&format!("logweir show {first}")), "{error:?}");
    assert_eq!(error.exit_code(), 3);
    assert_eq!(lab.read("out/a"), text(3));
    // The old text again: made again, and then it can be restored.
    lab.write("src/a.txt", &text(0));
    assert_eq!(lab.run().counts(), [3, 0, 0, 0, 0]);
    lab.write("src/a.txt", &text(3));
    assert_eq!(lab.run().counts(), [0, 3, 0, 0, 0]);
    assert_eq!(engine.restore_run(&first).unwrap().len(), 3);
    assert_eq!(lab.read("out/a"), text(0));
}

#[test]
fn lock_files_of_all_pipelines_are_kept() {
    let mut lab = lab(1);
    lab.file = "other.yaml".to_owned();
    lab.pipeline("stages:\n  z: { uses: concat, in: { in: src/a.txt }, out: { out: other/z }, with: { suffix: z } }\n");
    lab.run();
    lab.file = "pipeline.yaml".to_owned();
    fs::remove_file(lab.path("other/z")).unwrap();
    lab.write("src/a.txt", &text(1));
    lab.run();
    gc(&lab, 0, true);
    lab.file = "other.yaml".to_owned();
    lab.write("src/a.txt", &text(0));
    assert_eq!(lab.run().counts(), [0, 1, 0, 0, 0], "its artifact was lost, but is locked");
    lab.write("other.lock", "<<<<<<< a conflict\n");
    let error = lab.engine().gc(&GcOptions::default()).unwrap_err();
    assert!(matches!(error, EngineError::LockFile { .. }), "what it locks is not known: {error}");
}

#[test]
fn of_a_stage_that_is_not_reproducible_the_kept_result_stays_known() {
    let lab =
        Lab::new_in(&quick_folder(), "stages:\n  n: { uses: nondet, in: { in: src/a.txt }, out: { out: out/n } }\n");
    lab.write("src/a.txt", "a");
    lab.run();
    let first = lab.read("out/n");
    let force = RunOptions { force: vec!["n".to_owned()], ..RunOptions::default() };
    let ran = lab.run_with(&force);
    assert!(ran.warnings().iter().any(|text| text.contains("not reproducible")), "{:?}", ran.warnings());
    let second = lab.read("out/n");
    assert_ne!(first, second);
    // The first result is put back: it is in place, so it stays; the second is locked.
    let engine = lab.engine();
    engine.restore_run(&engine.runs().unwrap()[0].run).unwrap();
    gc(&lab, 0, true);
    for (run, text) in [(1, second), (0, first)] {
        fs::remove_file(lab.path("out/n")).unwrap();
        engine.restore_run(&engine.runs().unwrap()[run].run).unwrap();
        assert_eq!(lab.read("out/n"), text);
    }
    lab.run_with(&force);
    gc(&lab, 1, true);
    let third = lab.read("out/n");
    nothing_is_wrong(&lab);
    fs::remove_file(lab.path("out/n")).unwrap();
    assert_eq!(lab.run().counts(), [0, 1, 0, 0, 0]);
    assert_eq!(lab.read("out/n"), third);
}

#[test]
fn logs_of_dropped_runs_and_what_killed_runs_left_go_too() {
    let lab = lab(3);
    lab.write("cache/tmp/20200101-dead/0/out/half", "half");
    lab.write("cache/torn-5-abc", "{\"prev");
    let logs = || fs::read_dir(lab.path("cache/logs")).unwrap().count();
    assert_eq!(logs(), 3);
    let report = gc(&lab, 1, true);
    assert_eq!((report.logs, report.leftovers, logs()), (2, 2, 1));
    assert!(!lab.path("cache/torn-5-abc").exists());
    nothing_is_wrong(&lab);
}

#[test]
fn it_waits_for_no_lock_to_look_and_refuses_to_remove_while_another_run_goes_on() {
    let lab = lab(3);
    let file = fs::OpenOptions::new().read(true).write(true).open(lab.path("cache/lock")).unwrap();
    file.try_lock().unwrap();
    assert!(gc(&lab, 1, false).objects > 0);
    let error = lab.engine().gc(&GcOptions { keep_runs: 1, delete: true }).unwrap_err();
    assert!(matches!(error, EngineError::Locked { .. }), "{error}");
    assert_eq!(error.exit_code(), 3);
    file.unlock().unwrap();
    gc(&lab, 1, true);
}

#[test]
fn killed_anywhere_it_leaves_what_the_next_one_removes() {
    for name in failpoint::NAMES.iter().filter(|name| name.starts_with("gc_") || name.starts_with("index_")) {
        let lab = lab(4);
        let mut order = Order::of(&lab);
        order.gc = Some(1);
        assert!(was_killed(order.start(Some(name))), "`{name}` was not reached");
        nothing_is_wrong(&lab);
        let engine = lab.engine();
        engine.restore_run(&engine.runs().unwrap()[3].run).unwrap();
        // An index made anew from the log knows of results whose objects are gone: they are made again when needed.
        fs::remove_file(lab.path("cache/index")).unwrap();
        lab.write("src/a.txt", &text(1));
        assert_eq!(lab.run().summary.exit_code(), 0);
        assert_eq!(lab.read("out/a"), text(1));
        lab.write("src/a.txt", &text(3));
        lab.run();
        gc(&lab, 1, true);
        assert_eq!(gc(&lab, 1, true).objects, 0);
        nothing_is_wrong(&lab);
    }
}
