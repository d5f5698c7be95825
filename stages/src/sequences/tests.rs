//! Small files of sequences.

use serde_json::json;

use super::*;
use crate::support::traces::{Templates, Traces};
use crate::testing::{Run, run};

fn made(with: &serde_json::Value, a: &str, b: &str, without: Option<&Path>) -> anyhow::Result<Run> {
    let dir = tempfile::tempdir()?;
    let (first, second, templates) =
        (dir.path().join("a.csv"), dir.path().join("b.csv.zst"), dir.path().join("templates.csv"));
    std::fs::write(&first, a)?;
    std::fs::write(&second, zstd::encode_all(b.as_bytes(), 1)?)?;
    std::fs::write(&templates, "EventId,EventTemplate\nE1,opened [*]\nE2,closed [*]\n")?;
    let mut inputs = vec![
        ("sequences", "a.csv", first.as_path()),
        ("sequences", "b.csv.zst", second.as_path()),
        ("templates", "templates.csv", templates.as_path()),
    ];
    inputs.extend(without.map(|path| ("without", "sessions.parquet", path)));
    run(&kind(), with, &inputs, &["sessions", "templates", "labels", "summary"], 1)
}

const A: &str = "BlockId,Label,Events\nx,Anomaly,E1 E1\n";
const B: &str = "BlockId,Label,Source,Events\nc,Normal,web,E1 E2\nb,Normal,web,E1 E2 E2\na,Normal,web,E2\n";

#[test]
fn sessions_are_in_order_of_their_keys_and_weigh_as_many_as_they_stand_for() {
    let done = made(&json!({"population": {"normal": 60, "anomaly": 2}}), A, B, None).unwrap();
    let traces = Traces::read(&done.path("sessions")).unwrap();
    assert_eq!(traces.ids, ["a", "b", "c", "x"]);
    assert_eq!(traces.events, [1, 0, 1, 1, 0, 1, 0, 0]);
    assert_eq!(traces.weights, [20.0, 20.0, 20.0, 2.0]);
    // Over for good: no beginning of another session has ever been silent for so long.
    assert_eq!(traces.trace(0, traces.horizon().unwrap()).silence, OVER / 1000);
    assert_eq!(done.text("labels"), "session_id,label\na,Normal\nb,Normal\nc,Normal\nx,Anomaly\n");
    let templates = Templates::read(&done.path("templates")).unwrap();
    assert_eq!(templates.event_ids, ["E1", "E2"]);
    let plain = made(&json!({}), A, B, None).unwrap();
    assert!(Traces::read(&plain.path("sessions")).unwrap().weights.is_empty());
    // Sessions that another table has are left out, and what is left stands for all.
    let rest = made(
        &json!({"population": {"Normal": 60, "Anomaly": 2}}),
        "BlockId,Label,Events\nb,Normal,E1\n",
        "BlockId,Label,Events\nq,Normal,E1\nx,Anomaly,E2\n",
        Some(&done.path("sessions")),
    )
    .unwrap();
    let rest = Traces::read(&rest.path("sessions")).unwrap();
    assert_eq!((rest.ids, rest.weights), (vec!["q".to_owned()], vec![60.0]));
}

#[test]
fn faults_are_named_with_their_place() {
    let fault = |with: serde_json::Value, a: &str| format!("{:#}", made(&with, a, B, None).err().unwrap());
    assert!(fault(json!({}), "BlockId,Label,Events\nx,Anomaly,E1 E9\n").contains("line 2: event `E9` is not among"));
    assert!(fault(json!({}), "BlockId,Label,Events\na,Anomaly,E1\n").contains("session `a` is given twice"));
    assert!(fault(json!({}), "BlockId,Events\na,E1\n").contains("no column `Label`, only `BlockId,Events`"));
    assert!(fault(json!({"population": {"normal": 60}}), A).contains("`Anomaly` is not in `population`"));
    assert!(fault(json!({"population": {"normal": 0}}), A).contains("must be above 0"));
}
