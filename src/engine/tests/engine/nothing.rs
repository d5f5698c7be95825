//! Runs with nothing to do, found out from the snapshot of the last run: they must see whatever a whole run would see.

use std::fs;
use std::time::Duration;

use logweir_engine::event::Decision;
use logweir_engine::quick::{self, Quick};

use crate::support::{Lab, Ran};

const YAML: &str = "
stages:
  a: { run: 'cat ${in.one} ${in.many} ${in.all}/sub/* > ${out.o}', in: { one: src/one, many: 'src/m/*.txt', all: src/d/, maybe?: src/maybe }, out: { o: out/a }, env: [FLAG] }
  b: { uses: spread, in: { in: out/a }, out: { out: out/b/ } }
  c: { run: 'cat ${in.i}/*.txt > ${out.o}', in: { i: out/b/ }, out: { o: out/c }, tools: ['cat src/version'] }
";

fn lab() -> Lab {
    let lab = Lab::new(YAML);
    for (path, text) in [
        ("src/one", "1\n"),
        ("src/m/x.txt", "x\n"),
        ("src/m/w.txt", "w\n"),
        ("src/d/sub/y", "y\n"),
        ("src/version", "v1"),
    ] {
        lab.write(path, text);
    }
    lab.run();
    lab
}

/// Reads nothing but the snapshot: the pipeline cannot be understood any more, but its digest is known.
fn quickly(lab: &Lab) -> Option<Ran> {
    let events = std::cell::RefCell::new(Vec::new());
    let sink = |event: &logweir_engine::event::Event| events.borrow_mut().push(event.clone());
    let options = logweir_engine::engine::RunOptions::default();
    let done =
        lab.read_with(|reading| match quick::run(&quick::snapshot_of(reading), reading, &options, &sink).unwrap() {
            Quick::Done(summary) => Some(summary),
            Quick::Whole(_) => None,
        });
    done.map(|summary| Ran { summary: *summary, events: events.into_inner() })
}

#[test]
fn a_run_with_nothing_to_do_says_what_a_whole_run_says() {
    let lab = lab();
    let ran = quickly(&lab).expect("nothing changed");
    assert_eq!(ran.counts(), [0, 0, 3, 0, 0]);
    assert_eq!(ran.with(Decision::Fresh), ["a", "b", "c"]);
    let whole = lab.engine().run(&Default::default(), &|_: &_| {}, &Default::default()).unwrap();
    assert_eq!(whole.info.fresh, 3);
    let (quick, whole) = (lab.engine().show("last~1").unwrap(), lab.engine().show("last").unwrap());
    assert_eq!(quick.stages, whole.stages);
    assert_eq!(quick.info.run, ran.summary.info.run);
    let report = lab.engine().verify(&Default::default(), &|_: &_| {}).unwrap();
    assert_eq!((report.findings, report.log_entries), (vec![], 6));
}

#[test]
fn every_change_that_makes_a_stage_run_is_seen_without_reading_the_pipeline() {
    type Change = (&'static str, fn(&mut Lab));
    let changes: [Change; 14] = [
        ("a file", |lab| lab.write("src/one", "2\n")),
        ("a matched file", |lab| lab.write("src/m/x.txt", "z\n")),
        ("another match", |lab| lab.write("src/m/new.txt", "new\n")),
        ("a lost match", |lab| fs::rename(lab.path("src/m/x.txt"), lab.path("src/m/x.no")).unwrap()),
        ("a file in a folder", |lab| lab.write("src/d/sub/y", "z\n")),
        ("another file in a folder", |lab| lab.write("src/d/sub/z", "z\n")),
        ("an optional file", |lab| lab.write("src/maybe", "now\n")),
        ("a variable", |lab| drop(lab.env.insert("FLAG".to_owned(), "1".to_owned()))),
        ("a tool", |lab| lab.write("src/version", "v2")),
        ("the pipeline", |lab| lab.pipeline(&YAML.replace("cat ${in.one}", "cat ${in.one} "))),
        ("an output", |lab| lab.write("out/a", "tampered")),
        ("a lost output", |lab| fs::remove_file(lab.path("out/c")).unwrap()),
        ("a file in an output folder", |lab| lab.write("out/b/sub/1.txt", "tampered")),
        ("a stranger in an output folder", |lab| lab.write("out/b/stranger", "")),
    ];
    for (what, change) in changes {
        let mut lab = lab();
        assert!(quickly(&lab).is_some(), "before {what}");
        change(&mut lab);
        assert!(quickly(&lab).is_none(), "{what}");
        let ran = lab.run();
        assert!(ran.counts()[0] + ran.counts()[1] > 0, "{what}");
        lab.settled();
    }
}

#[test]
fn a_touch_is_nothing_to_do() {
    let lab = lab();
    lab.write("src/one", "1\n");
    lab.write("src/d/sub/y", "y\n");
    assert_eq!(quickly(&lab).expect("same content").counts(), [0, 0, 3, 0, 0]);
}

#[test]
fn forced_stages_targets_and_a_log_or_lock_file_that_is_not_as_it_was_are_left_to_a_whole_run() {
    let lab = lab();
    let asks = |options: logweir_engine::engine::RunOptions| {
        lab.read_with(|reading| {
            let snapshot = quick::snapshot_of(reading);
            let done = quick::run(&snapshot, reading, &options, &|_: &_| {}).unwrap();
            matches!(done, Quick::Done(_))
        })
    };
    let options = logweir_engine::engine::RunOptions::default;
    assert!(asks(options()));
    assert!(!asks(logweir_engine::engine::RunOptions { force: vec!["a".to_owned()], ..options() }));
    assert!(!asks(logweir_engine::engine::RunOptions { targets: vec!["a".to_owned()], ..options() }));
    assert!(!asks(logweir_engine::engine::RunOptions { rehash: true, ..options() }));
    let lock = lab.read("pipeline.lock");
    lab.write("pipeline.lock", &lock.replace("name = \"b\"", "name = \"bb\""));
    assert!(!asks(options()), "a block of the lock file");
    lab.write("pipeline.lock", &lock);
    assert!(asks(options()));
    lab.write("cache/tmp/dead/half", "half");
    assert!(!asks(options()), "leftovers");
    fs::remove_dir_all(lab.path("cache/tmp/dead")).unwrap();
    let log = fs::read(lab.path("cache/runlog.jsonl")).unwrap();
    fs::write(lab.path("cache/runlog.jsonl"), &log[..log.len() - 1]).unwrap();
    assert!(!asks(options()), "a torn end");
}

#[test]
fn what_changes_while_a_run_goes_on_is_seen_by_the_next() {
    // The command changes a source that another stage has read before, after the clock has moved on.
    let lab = Lab::new(
        "
stages:
  a: { run: 'cat ${in.i}/* > ${out.o}', in: { i: src/d/ }, out: { o: out/a } }
  b: { run: 'echo late > src/d/late; cp ${in.i} ${out.o}', in: { i: out/a }, out: { o: out/b } }
",
    );
    lab.write("src/d/early", "early\n");
    std::thread::sleep(Duration::from_millis(20));
    lab.run();
    assert!(quickly(&lab).is_none());
    let ran = lab.run();
    assert_eq!(ran.executed(), ["a", "b"]);
    assert_eq!(lab.read("out/b"), "early\nlate\n");
    lab.settled();
}
