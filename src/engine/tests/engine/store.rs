//! How content gets into the store and out of it: links, copies, runs put back, disks that are full.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use logweir_engine::engine::{RunOptions, VerifyOptions};
use logweir_engine::error::EngineError;
use logweir_engine::event::Quiet;
use logweir_engine::verify::FindingKind;

use crate::disk::Disk;
use crate::support::{Lab, walk};

const STAGES: &str = "
stages:
  a: { uses: concat, in: { in: src/a.txt }, out: { out: out/a } }
  d: { uses: spread, in: { in: src/a.txt }, out: { out: out/d/ } }
  x: { run: 'printf \"#!/bin/sh\\n\" > ${out.o}; chmod +x ${out.o}', out: { o: out/x } }
";

fn lab(store: &str) -> Lab {
    let lab = Lab::new(&format!("{store}{STAGES}"));
    lab.write("src/a.txt", "1\n2\n");
    lab.run();
    lab
}

/// Returns the object that has a content.
fn object(lab: &Lab, content: &str) -> PathBuf {
    let holds = |path: &PathBuf| fs::read(path).unwrap() == content.as_bytes();
    walk(&lab.path("cache/objects")).into_iter().find(holds).unwrap()
}

fn inode(path: &std::path::Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[test]
fn outputs_are_hard_links_only_where_that_is_asked_for() {
    for (store, linked) in [("", false), ("store: { link: copy }\n", false), ("store: { link: hard }\n", true)] {
        let lab = lab(store);
        let same = inode(&lab.path("out/a")) == inode(&object(&lab, "1\n2\n"));
        assert_eq!(same, linked, "{store}");
        let same = inode(&lab.path("out/d/sub/1.txt")) == inode(&object(&lab, "2\n"));
        assert_eq!(same, linked, "{store}");
        // An executable file has another mode than its object.
        assert_ne!(inode(&lab.path("out/x")), inode(&object(&lab, "#!/bin/sh\n")), "{store}");
        let writable = fs::metadata(lab.path("out/a")).unwrap().permissions().mode() & 0o200 != 0;
        assert_eq!(writable, !linked, "a linked file is read-only");
        lab.settled();
    }
}

#[test]
fn a_hard_linked_output_that_is_edited_in_place_is_noticed_and_made_again() {
    let lab = lab("store: { link: hard }\n");
    let out = lab.path("out/a");
    fs::set_permissions(&out, fs::Permissions::from_mode(0o644)).unwrap();
    // The same length, through the link: the object changes with it.
    fs::write(&out, "x\ny\n").unwrap();
    let report = lab.engine().verify(&VerifyOptions::default(), &Quiet).unwrap();
    let kinds: Vec<FindingKind> = report.findings.iter().map(|finding| finding.kind).collect();
    assert!(kinds.contains(&FindingKind::OutputChanged) && kinds.contains(&FindingKind::ObjectCorrupt), "{report:?}");
    assert_eq!(lab.run().counts(), [1, 0, 2, 0, 0]);
    assert_eq!(lab.read("out/a"), "1\n2\n");
    lab.settled();
    assert_eq!(lab.engine().verify(&VerifyOptions::default(), &Quiet).unwrap().findings, []);
}

#[test]
fn a_corrupt_object_does_not_make_the_next_result_with_its_content_fail() {
    let lab = lab("");
    let object = object(&lab, "1\n2\n");
    fs::set_permissions(&object, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&object, "x\ny\n").unwrap();
    let force = RunOptions { force: vec!["a".to_owned()], ..RunOptions::default() };
    fs::remove_file(lab.path("out/a")).unwrap();
    assert_eq!(lab.run_with(&force).counts(), [1, 0, 2, 0, 0]);
    assert_eq!(fs::read_to_string(&object).unwrap(), "1\n2\n");
    assert_eq!(lab.engine().verify(&VerifyOptions::default(), &Quiet).unwrap().findings, []);
}

#[test]
fn two_results_under_one_key_are_warned_of_recorded_and_named() {
    let lab = Lab::new(
        "
stages:
  n: { uses: nondet, in: { in: src/a.txt }, out: { out: out/n } }
  now: { uses: nondet, out: { out: out/now }, always: true }
",
    );
    lab.write("src/a.txt", "a");
    lab.run();
    let verify = || lab.engine().verify(&VerifyOptions::default(), &Quiet).unwrap();
    assert_eq!(verify().not_reproducible, []);
    let ran = lab.run_with(&RunOptions { force: vec!["n".to_owned()], ..RunOptions::default() });
    let told = |texts: &[String]| texts.iter().any(|text| text.contains("`out` has other bytes than an earlier"));
    assert!(told(&ran.warnings()), "{:?}", ran.warnings());
    let shown = lab.engine().show("last").unwrap();
    assert!(told(&shown.stages.iter().find(|stage| stage.stage == "n").unwrap().warnings));
    let report = verify();
    let named: Vec<(&str, &str, usize)> =
        report.not_reproducible.iter().map(|n| (&*n.stage, &*n.path, n.contents.len())).collect();
    assert_eq!(named, [("n", "out/n", 2)], "a stage that always runs is not expected to be");
    assert_eq!((report.findings.len(), report.exit_code()), (0, 0));
}

#[test]
fn a_run_is_put_back_with_its_directories_and_without_what_came_later() {
    let lab = lab("");
    lab.write("src/a.txt", "1\n2\n3\n");
    lab.run();
    let engine = lab.engine();
    assert!(lab.path("out/d/sub/2.txt").exists());
    fs::remove_file(lab.path("out/x")).unwrap();
    assert_eq!(engine.restore_run("last~1").unwrap(), ["out/a", "out/d/", "out/x"]);
    assert_eq!(lab.read("out/a"), "1\n2\n");
    assert!(!lab.path("out/d/sub/2.txt").exists(), "a directory is as it was, not more");
    assert!(fs::metadata(lab.path("out/x")).unwrap().permissions().mode() & 0o100 != 0);
    assert_eq!(engine.restore_run("last~1").unwrap(), [""; 0]);
    assert_eq!(lab.run().counts(), [0, 2, 1, 0, 0]);
    // One file of it is lost: all or nothing.
    fs::remove_file(object(&lab, "1\n")).unwrap();
    fs::remove_file(lab.path("out/x")).unwrap();
    let error = engine.restore_run("last~2").unwrap_err();
    assert!(matches!(error, EngineError::MissingObject(_)), "{error}");
    assert!(!lab.path("out/x").exists() && lab.read("out/a") == "1\n2\n3\n");
}

#[test]
fn a_full_disk_leaves_nothing_half_written_and_says_so() {
    let Some(disk) = Disk::new() else {
        println!("no small disk can be mounted here (root on Linux can): left out");
        return;
    };
    let lab = Lab::new_in(
        disk.folder(),
        "
stages:
  a: { uses: concat, in: { in: src/a.txt }, out: { out: out/a } }
  d: { uses: spread, in: { in: src/a.txt }, out: { out: out/d/ } }
",
    );
    let (old, new) = ("old\n".repeat(8192), "new\n".repeat(8192));
    lab.write("src/a.txt", "one\n");
    lab.run();
    lab.write("src/a.txt", &old);
    lab.run_with(&RunOptions { targets: vec!["a".to_owned()], ..RunOptions::default() });
    lab.write("src/a.txt", &new);
    let mut codes = Vec::new();
    for blocks in [0, 2, 6, 10, 14, 20, 30] {
        disk.nearly_full(blocks, || match lab.try_run(&RunOptions { jobs: 1, ..RunOptions::default() }) {
            Ok(ran) => {
                codes.push(ran.summary.exit_code());
                let told = ran.errors();
                assert!(ran.summary.exit_code() == 0 || told.contains("No space left on device"), "{told}");
                assert!(ran.summary.exit_code() == 0 || told.contains("free some space"), "{told}");
            }
            Err(error) => {
                codes.push(error.exit_code());
                assert!(error.to_string().contains("No space left on device"), "{error}");
                assert!(error.help().unwrap().contains("free some space"), "{error:?}");
            }
        });
        let now = lab.read("out/a");
        assert!(now == old || now == new, "{} bytes with {blocks} blocks left", now.len());
        assert_eq!(walk(&lab.path("out/d")).len(), 1, "the old directory, whole");
    }
    assert!(codes.iter().all(|code| *code == 3), "{codes:?}");
    lab.write("src/a.txt", "two\n");
    lab.run();
    assert_eq!(lab.read("out/a"), "two\n");
    lab.settled();
    assert_eq!(lab.engine().verify(&VerifyOptions::default(), &Quiet).unwrap().findings, []);
}
