use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use logweir_engine::digest::Digest;
use logweir_engine::stage::InputFile;
use serde_json::json;

use super::*;
use crate::support::scoretable::tests::frame;
use crate::support::table::{list_column, write_parquet};
use polars::prelude::*;

/// Evaluates a small table and makes its page.
fn page(simulated: bool, labelled: bool, params: &serde_json::Value) -> anyhow::Result<String> {
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name);
    let rows: Vec<(&str, Option<i8>, f64)> = (0..60)
        .map(|i| {
            let anomalous = i % 7 == 0;
            let score = if anomalous { 0.8 } else { 0.1 } + f64::from(i) / 1000.0;
            (["train", "validation", "test"][i as usize / 20], labelled.then_some(i8::from(anomalous)), score)
        })
        .collect();
    let mut scores = frame(&rows);
    let reasons: Vec<&str> =
        rows.iter().map(|r| if r.2 > 0.5 { "extra: <script>alert(1)</script> & T3" } else { "" }).collect();
    scores.with_column(Column::new("reason".into(), reasons))?;
    write_parquet(&at("scores"), &mut scores)?;
    let mut sessions = DataFrame::new_infer_height(vec![
        Column::new("session_id".into(), (0..60).map(|i| format!("s{i}")).collect::<Vec<_>>()),
        list_column::<UInt32Type>("events", &(0..=60).collect::<Vec<_>>(), &(0..60).collect::<Vec<u32>>()),
    ])?;
    write_parquet(&at("sessions"), &mut sessions)?;
    std::fs::write(at("summary"), json!({"simulated": simulated, "lines": 1234, "rejected": 0}).to_string())?;
    let digest = |text: &str| Digest::of_bytes(text.as_bytes()).to_string();
    let origin = json!({"target": "reports/metrics.json", "value": null, "nodes": [
        {"id": "a0", "type": "artifact", "path": "raw:HDFS.log", "digest": digest("log")},
        {"id": "x0", "type": "action", "stage": "fuse", "action": "fusion", "key": digest("x0"), "params": {}},
        {"id": "a1", "type": "artifact", "path": "data/processed/scores.parquet", "digest": digest("scores")},
        {"id": "x1", "type": "action", "stage": "evaluate", "action": "evaluate", "key": digest("x1"), "params": {"seed": 42}},
        {"id": "a2", "type": "artifact", "path": "reports/metrics.json", "digest": digest("metrics")}
    ], "edges": [["a0", "x0"], ["x0", "a1"], ["a1", "x1"], ["x1", "a2"]]});
    std::fs::write(at("origin"), origin.to_string())?;
    let run = |kind: StageKind, params: &serde_json::Value, key: &str| -> anyhow::Result<()> {
        let files = |slots: &[Slot]| -> BTreeMap<String, PathBuf> {
            slots.iter().map(|slot| (slot.name.to_owned(), at(slot.name))).collect()
        };
        let cx = StageContext {
            inputs: files(kind.inputs)
                .into_iter()
                .filter(|(_, path)| path.exists())
                .map(|(slot, path)| (slot.clone(), vec![InputFile { logical: slot, path }]))
                .collect(),
            outputs: files(kind.outputs),
            scratch: dir.path().to_path_buf(),
            env: BTreeMap::new(),
            threads: 1,
            key: Digest::of_bytes(key.as_bytes()),
            messages: &|_| {},
            cancelled: &AtomicBool::new(false),
        };
        (kind.make)(params).unwrap().stage.run(&cx)
    };
    run(crate::evaluate::kind(), &json!({"resamples": 50}), "evaluate")?;
    run(kind(), params, "report")?;
    Ok(std::fs::read_to_string(at("page"))?)
}

#[test]
fn the_page_shows_numbers_their_origin_alerts_and_its_key() {
    let page = page(false, true, &json!({})).unwrap();
    for text in [
        // The test fold holds s42, s49 and s56; validation separates perfectly.
        "flagged 3 of 3 anomalies and raised 0 false alerts among 17 normal sessions",
        "reports/metrics.json#/fusion/average_precision",
        "raw:HDFS.log",
        "<svg",
        "s42",
        "data:image/png;base64,iVBOR",
        "1,234, 0 rejected",
        &Digest::of_bytes(b"report").to_string(),
        &Digest::of_bytes(b"evaluate").to_string(),
        &Digest::of_bytes(b"metrics").to_string(),
    ] {
        assert!(page.contains(text), "no `{text}` in the page");
    }
    assert!(!page.contains("Simulated data"));
    assert!(!page.contains("<script"), "a reason must be escaped, and the page needs no script");
    assert!(page.contains("&lt;script&gt;"));
    for outside in ["http://", "https://"] {
        let links: Vec<&str> =
            page.match_indices(outside).map(|(at, _)| &page[at..(at + 40).min(page.len())]).collect();
        // The name space of SVG is no link.
        assert!(links.iter().all(|l| l.starts_with("http://www.w3.org/")), "{links:?}");
    }
}

#[test]
fn simulated_data_never_pass_for_real() {
    let page = page(true, true, &json!({})).unwrap();
    assert!(page.contains("Simulated data: every number on this page describes a simulated system"));
    assert!(page.contains("(simulated data)</title>"));
}

#[test]
fn without_labels_the_page_says_what_cannot_be_said() {
    let page = page(false, false, &json!({})).unwrap();
    assert!(page.contains("How many of them are right cannot be said"));
    assert!(page.contains("follows the alert budget instead"));
}

#[test]
fn the_number_of_listed_alerts_is_a_parameter_and_the_bytes_are_reproducible() {
    let few = |n: usize| page(false, true, &json!({"alerts": n})).unwrap();
    assert_eq!(few(2).matches("class=\"id\"").count(), 2);
    assert!(few(2).contains("The 2 highest of 3 alerts in the test fold"));
    assert_eq!(few(3), few(3));
    assert_eq!((kind().make)(&json!({"alerts": 5000})).err().unwrap()[0].path, "alerts");
}
