//! Failing, interrupted and killed stages; locks, missing files and other trouble.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use logweir_engine::engine::{PlanOptions, RunOptions, VerifyOptions};
use logweir_engine::error::EngineError;
use logweir_engine::event::{Event, Quiet};
use logweir_engine::verify::FindingKind;

use crate::support::Lab;

const BROKEN: &str = "
stages:
  bad: { uses: fail, in: { in: src/a.txt }, out: { out: out/bad } }
  after: { uses: concat, in: { in: out/bad }, out: { out: out/after } }
  later: { uses: concat, in: { in: out/after }, out: { out: out/later } }
  other: { uses: concat, in: { in: src/a.txt }, out: { out: out/other }, with: { suffix: o } }
";

#[test]
fn a_failure_keeps_old_outputs_skips_what_needs_it_and_is_no_result() {
    let lab = Lab::new(BROKEN);
    lab.write("src/a.txt", "a");
    lab.write("out/bad", "from before");
    let ran = lab.run_with(&RunOptions { keep_going: true, ..RunOptions::default() });
    assert_eq!(ran.counts(), [1, 0, 0, 1, 2]);
    assert_eq!(ran.summary.exit_code(), 1);
    assert_eq!(lab.read("out/bad"), "from before");
    assert!(ran.errors().contains("told to fail"));
    let skipped: Vec<(String, Option<String>)> = ran
        .events
        .iter()
        .filter_map(|event| match event {
            Event::StageSkipped { stage, needs } => Some((stage.clone(), needs.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(skipped, [("after".into(), Some("bad".into())), ("later".into(), Some("after".into()))]);
    let again = lab.run_with(&RunOptions { keep_going: true, ..RunOptions::default() });
    assert_eq!(again.counts(), [0, 0, 1, 1, 2], "a failure is tried again");
    assert_eq!(fs::read_dir(lab.path("cache/tmp")).unwrap().count(), 0);
}

#[test]
fn without_keep_going_nothing_new_starts_after_a_failure() {
    let lab = Lab::new(BROKEN);
    lab.write("src/a.txt", "a");
    let ran = lab.run_with(&RunOptions { jobs: 1, ..RunOptions::default() });
    assert_eq!(ran.counts(), [0, 0, 0, 1, 3]);
}

#[test]
fn a_panic_is_an_internal_error_and_a_missing_output_a_failure() {
    let lab = Lab::new("stages:\n  p: { uses: fail, out: { out: out/p }, with: { panic: true } }\n");
    let ran = lab.run_with(&RunOptions::default());
    assert_eq!(ran.summary.exit_code(), 70);
    assert!(ran.errors().contains("told to panic"));
    lab.pipeline("stages:\n  p: { uses: fail, out: { out: out/p }, with: { silent: true } }\n");
    let ran = lab.run_with(&RunOptions::default());
    assert_eq!(ran.summary.exit_code(), 1);
    assert!(ran.errors().contains("without writing its output `out` (out/p)"), "{}", ran.errors());
    lab.pipeline("stages:\n  p: { uses: fail, out: { out: out/p }, with: { environment: true } }\n");
    assert_eq!(lab.run_with(&RunOptions::default()).summary.exit_code(), 3);
}

#[test]
fn a_retried_stage_may_succeed() {
    let lab = Lab::new("stages:\n  p: { uses: fail, out: { out: out/p }, with: { times: 2 }, retries: 2 }\n");
    let ran = lab.run();
    let retries = ran.events.iter().filter(|e| matches!(e, Event::StageFailed { retry: true, .. })).count();
    assert_eq!((retries, lab.read("out/p").as_str()), (2, "at last"));
    assert!(ran.summary.info.seconds >= 3.0, "one second and then two are waited");
    lab.settled();
}

#[test]
fn missing_sources_are_all_named_before_anything_runs() {
    let lab = Lab::new(
        "
roots: { raw: nowhere }
stages:
  ok: { uses: concat, in: { in: src/a.txt }, out: { out: out/ok } }
  one: { uses: concat, in: { in: src/none.txt }, out: { out: out/one } }
  two: { uses: concat, in: { in: 'raw:*.log' }, out: { out: out/two } }
",
    );
    lab.write("src/a.txt", "a");
    let error = lab.try_run(&RunOptions::default()).err().unwrap();
    assert_eq!(error.exit_code(), 3);
    let EngineError::MissingInputs(missing) = &error else { panic!("{error}") };
    let names: Vec<(&str, &str, &str)> = missing.iter().map(|m| (&*m.stage, &*m.slot, &*m.path)).collect();
    assert_eq!(names, [("one", "in", "src/none.txt"), ("two", "in", "raw:*.log")]);
    assert!(missing[1].help.contains("root `raw` is set to"), "{}", missing[1].help);
    assert!(!lab.path("out").exists());
    assert_eq!(lab.engine().plan(&PlanOptions::default()).err().unwrap().exit_code(), 3);
    let ok = RunOptions { targets: vec!["ok".into()], ..RunOptions::default() };
    assert_eq!(lab.run_with(&ok).counts(), [1, 0, 0, 0, 0]);
}

#[test]
fn an_interrupted_run_ends_soon_and_the_next_one_works() {
    let lab = Lab::new(
        "
stages:
  quick: { uses: concat, in: { in: src/a.txt }, out: { out: out/quick } }
  slow: { uses: concat, in: { in: out/quick }, out: { out: out/slow }, with: { sleep: 30000 } }
  shell: { run: 'sleep 30; touch ${out.o}', in: { i: out/quick }, out: { o: out/shell } }
  last: { uses: concat, in: { in: out/slow }, out: { out: out/last } }
",
    );
    lab.write("src/a.txt", "a");
    let cancel = AtomicBool::new(false);
    let look = |event: &Event| {
        if matches!(event, Event::StageStarted { stage, .. } if stage == "shell") {
            cancel.store(true, Ordering::SeqCst);
        }
    };
    let ran = lab.run_until(&RunOptions { jobs: 2, ..RunOptions::default() }, &cancel, look).unwrap();
    assert_eq!(ran.summary.exit_code(), 130);
    assert_eq!(ran.counts(), [1, 0, 0, 0, 3]);
    assert!(ran.summary.info.seconds < 10.0);
    assert_eq!(fs::read_dir(lab.path("cache/tmp")).unwrap().count(), 0);
    assert!(!lab.path("out/slow").exists() && !lab.path("out/shell").exists());
    let plan = lab.planned();
    assert_eq!(plan[0], "quick: fresh");
    assert_eq!(plan[1], "slow: run new slow");
}

#[test]
fn a_second_run_names_the_process_that_holds_the_lock() {
    let lab = Lab::new("stages:\n  s: { uses: concat, in: { in: src/a.txt }, out: { out: out/s } }\n");
    lab.write("src/a.txt", "a");
    lab.run();
    let file = fs::OpenOptions::new().read(true).write(true).open(lab.path("cache/lock")).unwrap();
    file.try_lock().unwrap();
    let error = lab.try_run(&RunOptions::default()).err().unwrap();
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains(&format!("pid {}", std::process::id())), "{error}");
    assert_eq!(lab.planned(), ["s: fresh"], "readers never lock");
    // Closing alone is not enough: a child just forked by another test holds the file until it executes.
    file.unlock().unwrap();
    lab.settled();
}

#[test]
fn a_read_only_project_is_an_error_of_the_environment() {
    let lab = Lab::new("stages:\n  s: { uses: concat, in: { in: src/a.txt }, out: { out: out/s } }\n");
    lab.write("src/a.txt", "a");
    fs::write(lab.path("cache"), "in the way").unwrap();
    let error = lab.try_run(&RunOptions::default()).err().unwrap();
    assert_eq!(error.exit_code(), 3, "{error}");
    fs::remove_file(lab.path("cache")).unwrap();
    lab.write("out", "a file where a folder must be");
    let ran = lab.run_with(&RunOptions::default());
    assert_eq!(ran.summary.exit_code(), 3, "{}", ran.errors());
    assert_eq!(lab.read("out"), "a file where a folder must be");
    fs::remove_file(lab.path("out")).unwrap();
    lab.run();
    lab.settled();
}

#[test]
fn a_killed_run_leaves_nothing_that_lies() {
    let lab = Lab::new(BROKEN.replace("uses: fail", "uses: concat").as_str());
    lab.write("src/a.txt", "a");
    lab.run();
    let log = fs::read(lab.path("cache/runlog.jsonl")).unwrap();
    let ends: Vec<usize> = log.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i + 1).collect();
    assert_eq!(ends.len(), 5, "four actions and a run");
    // As after kill -9: scratch is left, the log ends anywhere, the index was not written.
    for cut in [0, 1, ends[0], ends[0] + 10, ends[1], ends[3] - 1, ends[3], ends[4] - 1] {
        fs::write(lab.path("cache/runlog.jsonl"), &log[..cut]).unwrap();
        let _ = fs::remove_file(lab.path("cache/index"));
        let _ = fs::remove_file(lab.path("cache/head"));
        let _ = fs::remove_file(lab.path("pipeline.lock"));
        lab.write("cache/tmp/20200101-dead/0/out/half", "half");
        lab.write("out/after", "half written");
        let whole = ends.iter().filter(|end| **end <= cut).count().min(4);
        let ran = lab.run();
        assert_eq!(ran.counts()[0], 4 - whole, "cut at {cut}");
        let torn = ran.warnings().iter().any(|w| w.contains("was incomplete"));
        assert_eq!(torn, cut != 0 && !ends.contains(&cut), "cut at {cut}: {:?}", ran.warnings());
        assert_eq!(lab.read("out/later"), "a");
        lab.settled();
        let report = lab.engine().verify(&VerifyOptions::default(), &Quiet).unwrap();
        assert_eq!(report.findings, [], "cut at {cut}");
    }
}

#[test]
fn an_input_that_changes_while_it_is_read_gives_no_result() {
    let lab = Lab::new(
        "stages:\n  s: { run: 'cat ${in.i} > ${out.o}; echo more >> ${in.i}', in: { i: src/a.txt }, out: { o: out/s } }\n",
    );
    lab.write("src/a.txt", "a");
    let ran = lab.run_with(&RunOptions::default());
    assert_eq!(ran.counts(), [0, 0, 0, 1, 0]);
    assert!(ran.errors().contains("input `src/a.txt` changed while"), "{}", ran.errors());
    assert!(!lab.path("out/s").exists());
}

#[test]
fn a_cut_or_changed_log_is_found_and_named() {
    let lab = Lab::new("stages:\n  s: { uses: concat, in: { in: src/a.txt }, out: { out: out/s } }\n");
    lab.write("src/a.txt", "a");
    lab.run();
    lab.run();
    let verify = || lab.engine().verify(&VerifyOptions::default(), &Quiet).unwrap();
    assert_eq!((verify().findings.len(), verify().log_entries), (0, 3));
    let log = fs::read(lab.path("cache/runlog.jsonl")).unwrap();
    let last = log[..log.len() - 1].iter().rposition(|b| *b == b'\n').unwrap() + 1;
    fs::write(lab.path("cache/runlog.jsonl"), &log[..last]).unwrap();
    let found = verify();
    assert!(found.findings.iter().any(|f| f.kind == FindingKind::LogCut && f.path == "pipeline.lock"), "{found:?}");
    assert_eq!(found.exit_code(), 1);
    // The run says so once and records it; the evidence stays.
    let ran = lab.run();
    assert!(ran.warnings()[0].contains("the run log was cut or changed"), "{:?}", ran.warnings());
    let noted = |f: &logweir_engine::verify::Finding| f.detail.contains("found: the run log was cut");
    assert!(verify().findings.iter().any(noted));
    assert!(lab.run().warnings().is_empty());
    let text = String::from_utf8(log.clone()).unwrap().replacen("\"seconds\":", "\"seconds\":1", 1);
    fs::write(lab.path("cache/runlog.jsonl"), text).unwrap();
    let found = verify();
    assert!(
        found.findings.iter().any(|f| f.kind == FindingKind::LogBroken && f.path == "cache/runlog.jsonl:2"),
        "{found:?}"
    );
}

#[test]
fn verify_names_each_difference_and_repairs_what_it_can() {
    let lab = Lab::new(
        "
stages:
  s: { uses: spread, in: { in: src/lines }, out: { out: out/parts/ } }
  t: { uses: concat, in: { in: src/lines }, out: { out: out/t } }
  u: { uses: concat, in: { in: [src/lines, out/t] }, out: { out: out/u } }
",
    );
    lab.write("src/lines", "x\ny\nz\n");
    lab.run();
    lab.write("out/parts/first.txt", "tampered");
    fs::remove_file(lab.path("out/parts/sub/2.txt")).unwrap();
    lab.write("out/parts/extra", "extra");
    fs::remove_file(lab.path("out/t")).unwrap();
    for object in crate::support::walk(&lab.path("cache/objects")) {
        let content = fs::read(&object).unwrap();
        if content == b"y\n" || content == b"x\ny\nz\nx\ny\nz\n" {
            fs::set_permissions(&object, fs::Permissions::from_mode(0o644)).unwrap();
            fs::write(&object, "evil").unwrap();
        }
    }
    let report = lab.engine().verify(&VerifyOptions::default(), &Quiet).unwrap();
    let mut found: Vec<(FindingKind, &str)> = report.findings.iter().map(|f| (f.kind, f.path.as_str())).collect();
    let objects: Vec<&str> = found.iter().filter(|f| f.1.len() == 65).map(|f| f.1).collect();
    assert_eq!(objects.len(), 4, "two corrupt objects, each also missing by its length: {found:?}");
    found.retain(|f| f.1.len() != 65);
    assert_eq!(
        found,
        [
            (FindingKind::OutputMissing, "out/parts/sub/2.txt"),
            (FindingKind::OutputMissing, "out/t"),
            (FindingKind::OutputChanged, "out/parts/extra"),
            (FindingKind::OutputChanged, "out/parts/first.txt"),
        ]
    );
    let repaired = lab.engine().verify(&VerifyOptions { repair: true, ..VerifyOptions::default() }, &Quiet).unwrap();
    assert_eq!(repaired.findings, []);
    assert_eq!(repaired.repaired.len(), 8);
    assert_eq!(lab.read("out/parts/first.txt"), "x\n");
    lab.settled();
}
