//! What was found by random edits of the cache folder, one test each.

use std::fs;

use logweir_engine::engine::VerifyOptions;
use logweir_engine::event::Quiet;
use logweir_engine::verify::{FindingKind, VerifyReport};

use crate::support::{Lab, walk};

const YAML: &str = "
stages:
  a: { uses: concat, in: { in: src/a.txt }, out: { out: out/a } }
  d: { uses: spread, in: { in: src/a.txt }, out: { out: out/d/ } }
";

fn lab() -> Lab {
    let lab = Lab::new(YAML);
    lab.write("src/a.txt", "1\n2\n");
    lab.run();
    lab
}

fn verify(lab: &Lab, repair: bool) -> VerifyReport {
    lab.engine().verify(&VerifyOptions { repair, ..VerifyOptions::default() }, &Quiet).unwrap()
}

fn kinds(report: &VerifyReport) -> Vec<FindingKind> {
    report.findings.iter().map(|finding| finding.kind).collect()
}

#[test]
fn a_directory_that_lost_its_list_and_its_files_is_repaired_at_once() {
    let lab = lab();
    for object in walk(&lab.path("cache/objects")) {
        // The map of the run stays; it is told by its shape.
        if !fs::read(&object).unwrap().starts_with(b"{") {
            fs::remove_file(object).unwrap();
        }
    }
    assert_eq!(kinds(&verify(&lab, false)), [FindingKind::ObjectMissing; 2]);
    let repaired = verify(&lab, true);
    assert_eq!((repaired.findings.len(), repaired.repaired.len()), (0, 2));
    fs::remove_dir_all(lab.path("out")).unwrap();
    assert_eq!(lab.run().counts(), [0, 2, 0, 0, 0]);
    assert!(!lab.path("cache/tmp/repair").exists());
}

#[test]
fn verify_names_a_lost_stage_map_and_still_compares_every_output() {
    let lab = lab();
    fs::remove_dir_all(lab.path("cache/objects")).unwrap();
    lab.write("out/a", "tampered");
    let report = verify(&lab, false);
    assert!(report.findings.iter().any(|f| f.detail.contains("the stage map of the last run")), "{report:?}");
    assert!(report.findings.iter().any(|f| f.kind == FindingKind::OutputChanged && f.path == "out/a"), "{report:?}");
    assert_eq!(report.outputs, 2);
    // A run with nothing to do in between would name a map that is not there.
    let lab = self::lab();
    lab.run();
    fs::remove_dir_all(lab.path("cache/objects")).unwrap();
    lab.settled();
    verify(&lab, true);
    // What the runs before did can no longer be shown, which stays a finding.
    assert!(kinds(&verify(&lab, false)).iter().all(|kind| *kind == FindingKind::RecordMissing));
}

#[test]
fn verify_names_a_broken_entry_of_the_log_and_still_compares_every_output() {
    let lab = lab();
    let log = lab.read("cache/runlog.jsonl");
    lab.write("cache/runlog.jsonl", &log.replacen("\"stage\":", "\"stage\";", 1));
    lab.write("out/a", "tampered");
    let report = verify(&lab, false);
    assert!(kinds(&report).contains(&FindingKind::LogBroken), "{report:?}");
    assert!(report.findings.iter().any(|f| f.kind == FindingKind::OutputChanged && f.path == "out/a"), "{report:?}");
    lab.run();
    assert_eq!(lab.read("out/a"), "1\n2\n");
}

#[test]
fn a_flipped_byte_in_the_noted_head_of_the_log_is_no_evidence_of_a_cut() {
    let lab = lab();
    let head = fs::read(lab.path("cache/head")).unwrap();
    for at in (0..head.len()).step_by(5) {
        let mut flipped = head.clone();
        flipped[at] ^= 1;
        fs::write(lab.path("cache/head"), flipped).unwrap();
        let (_, damage) = logweir_engine::index::Index::open(&lab.path("cache")).unwrap();
        assert!(damage.is_empty(), "byte {at}: {damage:?}");
    }
    lab.settled();
    assert_eq!(verify(&lab, false).findings, []);
}
