//! Folds and blocks against values computed by hand.

use serde_json::json;

use super::*;
use crate::sessionize::Sessions;
use crate::support::table::read_parquet;
use crate::testing::run;

fn count(folds: &[Fold]) -> [usize; 4] {
    [Fold::Train, Fold::Validation, Fold::Test, Fold::Unused].map(|fold| folds.iter().filter(|f| **f == fold).count())
}

fn params(method: Method) -> SplitParams {
    SplitParams { method, ..SplitParams::default() }
}

#[test]
fn chronological_folds_follow_each_other() {
    let folds = params(Method::Chronological).folds(&[None; 10]);
    assert_eq!(count(&folds), [6, 2, 2, 0]);
    assert!(folds.is_sorted());
}

#[test]
fn random_folds_keep_the_share_of_every_class_and_follow_the_seed() {
    let labels: Vec<Option<bool>> =
        (0..150).map(|i| [Some(false), Some(false), None][i % 3].or((i % 30 == 2).then_some(true))).collect();
    let folds = params(Method::Random).folds(&labels);
    for (class, expected) in [(Some(false), [60, 20, 20, 0]), (Some(true), [3, 1, 1, 0]), (None, [27, 9, 9, 0])] {
        let of_class: Vec<Fold> = folds.iter().zip(&labels).filter(|(_, l)| **l == class).map(|(f, _)| *f).collect();
        assert_eq!(count(&of_class), expected, "{class:?}");
    }
    assert_eq!(folds, params(Method::Random).folds(&labels));
    assert_ne!(folds, SplitParams { seed: 7, ..params(Method::Random) }.folds(&labels));
}

#[test]
fn rolling_origins_expand_the_train_window_and_leave_no_test_session_out() {
    // 40 sessions before the first window, then four windows of 15.
    let at = |origin| SplitParams { origin, ..params(Method::Rolling) }.folds(&[None; 100]);
    assert_eq!([0, 1, 2].map(|o| count(&at(o))), [[40, 15, 15, 30], [55, 15, 15, 15], [70, 15, 15, 0]]);
    assert!((0..3).all(|o| at(o).is_sorted()));
}

#[test]
fn a_block_follows_from_the_sequence_alone() {
    assert_eq!(block(&[1, 2, 3]), block(&[1, 2, 3]));
    let blocks: Vec<u32> = (0..500).map(|i| block(&[i, 1])).collect();
    for b in 0..BLOCKS {
        let share = blocks.iter().filter(|x| **x == b).count();
        assert!((60..140).contains(&share), "block {b} has {share} of 500");
    }
}

/// Sessions `s0`, `s1`, … that begin at once.
fn one_event_each(n: usize) -> Sessions {
    Sessions {
        ids: (0..n).map(|i| format!("s{i}")).collect(),
        start: vec![0; n],
        end: vec![0; n],
        censored: vec![false; n],
        offsets: (0..=n).collect(),
        events: vec![3; n],
        gaps: vec![0; n],
        lines: vec![1; n],
    }
}

#[test]
fn the_stage_writes_folds_and_warns_of_missing_classes() {
    let dir = tempfile::tempdir().unwrap();
    let n = 10;
    let sessions = one_event_each(n);
    let (s, l) = (dir.path().join("s.parquet"), dir.path().join("l.csv"));
    sessions.write(&s).unwrap();
    let labels = |anomalous: &[usize]| {
        let rows: String = (0..n).map(|i| format!("s{i},{},t\n", u8::from(anomalous.contains(&i)))).collect();
        std::fs::write(&l, format!("session_id,label,timestamp\n{rows}")).unwrap();
        run(&kind(), &json!({}), &[("sessions", "s", s.as_path()), ("labels", "l", l.as_path())], &["split"], 1)
    };
    let made = labels(&[1, 7, 9]).unwrap();
    assert!(made.warnings.is_empty());
    let frame = read_parquet(&made.path("split"), None).unwrap();
    let folds: Vec<&str> = frame.column("fold").unwrap().str().unwrap().iter().flatten().collect();
    assert_eq!(folds[5..9], ["train", "validation", "validation", "test"]);
    let blocks: Vec<u32> = frame.column("block").unwrap().u32().unwrap().into_no_null_iter().collect();
    assert_eq!(blocks, [[block(&[3]); 6].as_slice(), &[0; 4]].concat());

    assert_eq!(labels(&[7, 9]).unwrap().warnings, ["the train fold has no anomalous session"]);
    std::fs::write(&l, "session_id,label\ns1,0\n").unwrap();
    let inputs = [("sessions", "s", s.as_path()), ("labels", "l", l.as_path())];
    let error = run(&kind(), &json!({}), &inputs, &["split"], 1).err().unwrap();
    assert!(error.to_string().contains("does not follow sessions.parquet"));
    assert!(run(&kind(), &json!({}), &inputs[..1], &["split"], 1).is_ok());
    let error = run(&kind(), &json!({"train": 0.01}), &inputs[..1], &["split"], 1).err().unwrap();
    assert!(error.to_string().contains("the train fold of 10 sessions is empty (hint"));
}

#[test]
fn wrong_parameters_are_named() {
    let with = json!({"train": 0.9, "validation": 0.1, "origins": 2, "origin": 2});
    let errors = (kind().make)(&with).err().unwrap();
    let paths: Vec<&str> = errors.iter().map(|e| e.path.as_str()).collect();
    assert_eq!(paths, ["validation", "origin"]);
}

#[test]
fn a_type_left_out_stays_in_test_only() {
    let dir = tempfile::tempdir().unwrap();
    let n = 10;
    let sessions = one_event_each(n);
    let (s, t) = (dir.path().join("s.parquet"), dir.path().join("t.csv"));
    sessions.write(&s).unwrap();
    std::fs::write(&t, "session_id,type\ns1,odd\ns2,other\ns6,odd\ns9,odd\n").unwrap();
    let inputs = [("sessions", "s", s.as_path()), ("types", "t", t.as_path())];
    let made = run(&kind(), &json!({"without_type": "odd"}), &inputs, &["split"], 1).unwrap();
    let frame = read_parquet(&made.path("split"), None).unwrap();
    let folds: Vec<&str> = frame.column("fold").unwrap().str().unwrap().iter().flatten().collect();
    assert_eq!(folds, ["train", "unused", "train", "train", "train", "train", "unused", "validation", "test", "test"]);
    let unknown = run(&kind(), &json!({"without_type": "new"}), &inputs, &["split"], 1).unwrap();
    assert_eq!(unknown.warnings, ["no session is of type `new`: nothing is left out"]);
    let error = run(&kind(), &json!({"without_type": "odd"}), &inputs[..1], &["split"], 1).err().unwrap();
    assert!(error.to_string().contains("needs the input slot `types`"));
}
