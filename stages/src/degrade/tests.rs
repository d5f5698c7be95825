//! Labels and beginnings by hand.

use serde_json::json;

use super::*;
use crate::sessionize::Sessions;
use crate::support::traces::Traces;
use crate::testing::run;

#[test]
fn few_labels_are_spread_over_the_folds_and_test_keeps_all() {
    let folds: Vec<Fold> =
        (0..100).map(|i| [Fold::Train, Fold::Train, Fold::Train, Fold::Validation, Fold::Test][i % 5]).collect();
    let labels: Vec<Option<bool>> = (0..100).map(|i| Some(i < 50)).collect();
    let params = DegradeParams { anomalies: Some(8), ..DegradeParams::default() };
    let out = params.labels(&labels, &folds);
    let count = |fold: Fold, label| (0..100).filter(|&i| folds[i] == fold && out[i] == label).count();
    assert_eq!(
        [count(Fold::Train, Some(true)), count(Fold::Validation, Some(true)), count(Fold::Test, Some(true))],
        [6, 2, 10]
    );
    assert_eq!(
        [count(Fold::Train, Some(false)), count(Fold::Validation, Some(false)), count(Fold::Train, None)],
        [30, 10, 24]
    );
    assert_ne!(out, DegradeParams { seed: 7, ..params }.labels(&labels, &folds));
}

#[test]
fn flipped_labels_are_a_share_of_each_class_outside_test() {
    let folds: Vec<Fold> = (0..300).map(|i| [Fold::Train, Fold::Validation, Fold::Test][i % 3]).collect();
    let labels: Vec<Option<bool>> = (0..300).map(|i| Some(i < 150)).collect();
    let out = DegradeParams { flipped: 0.1, ..DegradeParams::default() }.labels(&labels, &folds);
    for fold in [Fold::Train, Fold::Validation, Fold::Test] {
        for class in [true, false] {
            let turned = (0..300).filter(|&i| folds[i] == fold && labels[i] == Some(class) && out[i] != labels[i]);
            assert_eq!(turned.count(), if fold == Fold::Test { 0 } else { 5 });
        }
    }
}

#[test]
fn a_beginning_is_looked_at_in_the_moment_of_its_last_event() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let second = 1_000_000;
    let sessions = Sessions {
        ids: ["a", "b", "c"].map(str::to_owned).to_vec(),
        start: vec![0, second, 2 * second],
        end: vec![9 * second, 3 * second, 2 * second],
        censored: vec![false; 3],
        offsets: vec![0, 3, 5, 6],
        events: vec![0, 1, 2, 0, 1, 0],
        gaps: vec![0, 4000, 5000, 0, 2000, 0],
        lines: (1..=6).collect(),
    };
    sessions.write(&at("s")).unwrap();
    std::fs::write(at("l"), "session_id,label,timestamp\na,1,t\nb,0,t\nc,0,t\n").unwrap();
    let mut split = DataFrame::new_infer_height(vec![
        Column::new("session_id".into(), ["a", "b", "c"]),
        Column::new("fold".into(), ["test", "train", "test"]),
        Column::new("block".into(), [0u32; 3]),
    ])
    .unwrap();
    write_parquet(&at("p"), &mut split).unwrap();
    let (s, l, p) = (at("s"), at("l"), at("p"));
    let inputs = [("sessions", "s", s.as_path()), ("labels", "l", l.as_path()), ("split", "p", p.as_path())];
    let with = json!({"seen": 0.5, "cut": ["test"]});
    let done = run(&kind(), &with, &inputs, &["sessions", "labels"], 1).unwrap();
    let traces = Traces::read(&done.path("sessions")).unwrap();
    let horizon = traces.horizon().unwrap();
    let trace = |row| traces.trace(row, horizon);
    assert_eq!((trace(0).events, trace(0).censored, trace(0).silence), (&[0, 1][..], true, 0));
    assert_eq!((trace(1).events.len(), trace(1).censored, trace(1).silence), (2, false, 6000));
    assert_eq!((trace(2).events.len(), trace(2).censored, trace(2).silence), (1, true, 0));
    assert_eq!(done.text("labels"), std::fs::read_to_string(&l).unwrap());
    let whole = run(&kind(), &json!({}), &inputs, &["sessions", "labels"], 1).unwrap();
    assert_eq!(Traces::read(&whole.path("sessions")).unwrap(), Traces::read(&s).unwrap());
    assert_eq!((kind().make)(&json!({"seen": 0, "flipped": 1})).err().unwrap().len(), 2);
}
