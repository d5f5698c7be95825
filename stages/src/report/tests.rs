use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use logweir_engine::digest::Digest;
use logweir_engine::stage::InputFile;
use serde_json::json;

use super::*;
use crate::explain;
use crate::support::scoretable::tests::frame;
use crate::support::table::{list_column, write_parquet};
use polars::prelude::*;

/// Evaluates a small table and makes its page.
fn page(simulated: bool, labelled: bool, params: &serde_json::Value) -> anyhow::Result<String> {
    Ok(made(simulated, labelled, params)?.page)
}

/// A page and what it speaks of.
struct Made {
    page: String,
    metrics: Value,
    ensemble: Vec<Vec<String>>,
    /// The lineage document.
    origin: String,
}

fn made(simulated: bool, labelled: bool, params: &serde_json::Value) -> anyhow::Result<Made> {
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
        {"id": "x1", "type": "action", "stage": "evaluate", "action": "evaluate", "key": digest("x1"), "params": {"seed": 42, "only": ["^Receiving </script> <"]}},
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
                .map(|(slot, path)| {
                    let logical = match slot.as_str() {
                        "metrics" => "reports/metrics.json".to_owned(),
                        "ensemble" => "reports/ensemble_sessions.csv".to_owned(),
                        "scores" => "data/processed/scores.parquet".to_owned(),
                        "alerts" => "data/processed/alerts.parquet".to_owned(),
                        "signatures" => "reports/alerts.json".to_owned(),
                        other => format!("reports/{other}"),
                    };
                    (slot, vec![InputFile { logical, path }])
                })
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
    // Only pages of labelled logs have what `explain` says.
    if labelled {
        crate::explain::write_alerts(&at("alerts"), &(0..60).map(alert).collect::<Vec<_>>());
        std::fs::write(at("signatures"), signatures().to_string())?;
    }
    run(kind(), params, "report")?;
    let mut rows = csv::ReaderBuilder::new().has_headers(false).from_path(at("ensemble"))?;
    let ensemble =
        rows.records().map(|row| Ok(row?.iter().map(str::to_owned).collect())).collect::<csv::Result<_>>()?;
    Ok(Made {
        page: std::fs::read_to_string(at("page"))?,
        metrics: serde_json::from_slice(&std::fs::read(at("metrics"))?)?,
        ensemble,
        origin: origin.to_string(),
    })
}

/// What `explain` says of session `s{i}`.
fn alert(i: usize) -> explain::Alert {
    let place = |line| Some(explain::LineRef { file: "raw:HDFS.log".to_owned(), line });
    let odd =
        |line| explain::OddLine { event: 0, event_id: "T3".to_owned(), why: explain::Odd::Extra, place: place(line) };
    explain::Alert {
        session_id: format!("s{i}"),
        fold: "test".to_owned(),
        ae: Some(4.0),
        explanation: explain::Explanation {
            reason: "extra: <script>alert(1)</script> & T3".to_owned(),
            signature: "extra T3".to_owned(),
            contributions: vec![explain::Contribution {
                feature: "last T3".to_owned(),
                value: 7.0,
                contribution: 1.2345,
            }],
            residuals: vec![explain::Residual { feature: "logcount T3".to_owned(), residual: 3.0 }],
            shares: explain::Shares { lgbm: Some(0.25), ae: Some(0.75), profile: None },
            odd: (0..7).map(|k| odd(100 * i as u64 + k)).collect(),
            odd_total: 30,
            ..explain::Explanation::default()
        },
        ..explain::Alert::default()
    }
}

/// What `explain` says of alike alerts: 41 signatures, one more than the page shows.
fn signatures() -> Value {
    let one = |i: usize| {
        json!({"signature": format!("extra T{i}"), "alerts": 100 - i, "folds": {"test": 1}, "labels": {"anomalous": 2},
            "first": "2008-11-09T20:35:30Z", "last": "2008-11-10T20:35:30Z", "reason": "extra: T3 & <b>",
            "examples": [{"session_id": "s42"}, {"session_id": "s49"}]})
    };
    json!({"signatures": (0..41).map(one).collect::<Vec<_>>()})
}

fn unescaped(html: &str) -> String {
    let pairs = [("&#x2f;", "/"), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#x27;", "'"), ("&amp;", "&")];
    pairs.iter().fold(html.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// A value of the page that says where it comes from.
#[derive(Debug)]
struct Shown {
    origin: String,
    plus: Option<String>,
    exact: String,
    text: String,
}

fn shown(page: &str) -> Vec<Shown> {
    let button = regex::Regex::new(
        r#"(?s)<button type="button" class="o" data-origin="([^"]*)"(?: data-plus="([^"]*)")? data-exact="([^"]*)"[^>]*>(.*?)</button>"#,
    )
    .unwrap();
    let values = button.captures_iter(page).map(|found| {
        let text = |i: usize| found.get(i).map(|m| unescaped(m.as_str()));
        Shown { origin: text(1).unwrap(), plus: text(2), exact: text(3).unwrap(), text: text(4).unwrap() }
    });
    values.collect()
}

/// Whether a text is a rounding of a number: within half a unit of its last digit.
fn says(text: &str, value: f64) -> bool {
    let percent = text.ends_with(" %");
    let digits = text.trim_end_matches(" %").replace(',', "");
    let Ok(said) = digits.parse::<f64>() else { return false };
    let value = if percent { value * 100.0 } else { value };
    let (mantissa, exponent) = digits.split_once('e').unwrap_or((&digits, "0"));
    let decimals = mantissa.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    let unit = 10f64.powi(exponent.parse::<i32>().unwrap() - i32::try_from(decimals).unwrap());
    (said - value).abs() <= 0.5 * unit + 1e-9 * value.abs()
}

#[test]
fn every_number_leads_to_the_member_or_cell_that_holds_it() {
    for labelled in [true, false] {
        let made = made(false, labelled, &json!({})).unwrap();
        let values = shown(&made.page);
        let mut kinds = BTreeMap::new();
        for value in &values {
            let (file, place) = value.origin.split_once('#').unwrap();
            *kinds.entry(file.to_owned()).or_insert(0) += 1;
            match file {
                "reports/metrics.json" => {
                    let at = |origin: &str| {
                        let pointer = origin.strip_prefix("reports/metrics.json#").unwrap();
                        made.metrics.pointer(pointer).unwrap_or_else(|| panic!("nothing at {origin}")).clone()
                    };
                    let found = at(&value.origin);
                    if let Some(plus) = &value.plus {
                        let sum = found.as_u64().unwrap() + at(plus).as_u64().unwrap();
                        assert!(says(&value.text, sum as f64), "{value:?}");
                        assert_eq!(value.exact, format!("{found} + {}", at(plus)));
                    } else if let Some(number) = found.as_f64() {
                        assert!(says(&value.text, number), "{value:?}");
                        assert_eq!(value.exact, found.to_string());
                    } else {
                        let text = found.as_str().unwrap();
                        assert_eq!(value.exact, text);
                        assert_eq!(value.text, text.replace('T', " ").replace('Z', ""));
                    }
                }
                "reports/ensemble_sessions.csv" => {
                    let (row, column) = place.strip_prefix("cell=").unwrap().split_once(',').unwrap();
                    let at = |text: &str| text.parse::<usize>().unwrap() - 1;
                    let cell = &made.ensemble[at(row)][at(column)];
                    assert_eq!(&value.exact, cell);
                    match made.ensemble[0][at(column)].as_str() {
                        "session_id" => assert_eq!(&value.text, cell),
                        "timestamp" => assert_eq!(value.text, cell.replace('T', " ").replace('Z', "")),
                        "label" => assert_eq!(value.text, ["normal", "anomalous"][at(cell) + 1]),
                        _ => assert!(says(&value.text, cell.parse().unwrap()), "{value:?}"),
                    }
                }
                "reports/alerts.json" => {
                    let found = signatures();
                    let found = found.pointer(place).unwrap_or_else(|| panic!("nothing at {}", value.origin));
                    assert_eq!(value.exact, found.as_str().map_or_else(|| found.to_string(), str::to_owned));
                }
                "data/processed/alerts.parquet" => {
                    let (row, column) = place.strip_prefix("row=").unwrap().split_once(";column=").unwrap();
                    let alert = alert(row.parse::<usize>().unwrap() - 1);
                    let why = &alert.explanation;
                    match column {
                        "reason" => assert_eq!((&value.text, &value.exact), (&why.reason, &why.reason)),
                        "signature" => assert_eq!((&value.text, &value.exact), (&why.signature, &why.signature)),
                        "odd_lines" => {
                            assert!(why.odd.iter().any(|o| o.place.as_ref().unwrap().line.to_string() == value.text));
                        }
                        "odd_total" => assert_eq!(value.text, "30"),
                        "share_lgbm" => assert!(says(&value.text, 0.25), "{value:?}"),
                        "share_ae" => assert!(says(&value.text, 0.75), "{value:?}"),
                        "contributions" => {
                            assert_eq!((value.text.as_str(), value.exact.as_str()), ("last T3 = 7: +1.23", "1.2345"));
                        }
                        "residuals" => {
                            assert_eq!((value.text.as_str(), value.exact.as_str()), ("logcount T3: 75 %", "3"));
                        }
                        other => panic!("a value from column {other}"),
                    }
                }
                "data/processed/scores.parquet" => assert!(place.starts_with("row="), "{value:?}"),
                other => panic!("a value from {other}"),
            }
        }
        assert!(kinds["reports/metrics.json"] > if labelled { 100 } else { 20 }, "{kinds:?}");
        assert!(kinds["reports/ensemble_sessions.csv"] >= 3, "{kinds:?}");
        assert_eq!(kinds.contains_key("data/processed/alerts.parquet"), labelled, "{kinds:?}");
    }
}

#[test]
fn no_number_stands_in_a_table_or_in_a_headline_without_its_origin() {
    let page = page(false, true, &json!({})).unwrap();
    let button = regex::Regex::new(r"(?s)<button[^>]*>.*?</button>").unwrap();
    let tag = regex::Regex::new(r"<[^>]*>").unwrap();
    let places = regex::Regex::new(r#"(?s)<td class="n[^>]*>.*?</td>|<div class="tile">.*?</div>"#).unwrap();
    let mut looked = 0;
    for place in places.find_iter(&page) {
        looked += 1;
        let rest = tag.replace_all(&button.replace_all(place.as_str(), ""), "").replace("F1", "");
        assert!(!rest.contains(|c: char| c.is_ascii_digit()), "{} in {}", rest, place.as_str());
    }
    assert!(looked > 60, "{looked}");
    let lead = regex::Regex::new(r#"(?s)<p class="lead">.*?</p>"#).unwrap().find(&page).unwrap();
    assert!(!tag.replace_all(&button.replace_all(lead.as_str(), ""), "").contains(|c: char| c.is_ascii_digit()));
}

#[test]
fn programs_find_the_origin_in_the_page_byte_for_byte() {
    let made = made(false, true, &json!({})).unwrap();
    let block = |mark: &str| {
        let from = made.page.find(mark).unwrap();
        let from = from + made.page[from..].find('>').unwrap() + 1;
        made.page[from..from + made.page[from..].find("</script>").unwrap()].to_owned()
    };
    let lineage = block("id=\"logweir-lineage\"");
    assert_eq!(lineage.replace("\\u003c", "<"), made.origin, "a parameter may hold what ends a script");
    assert_eq!(serde_json::from_str::<Value>(&lineage).unwrap(), serde_json::from_str::<Value>(&made.origin).unwrap());
    assert!(made.page.contains(&format!("data-digest=\"{}\"", Digest::of_bytes(made.origin.as_bytes()))));
    let own: Value = serde_json::from_str(&block("id=\"logweir-provenance\"")).unwrap();
    assert_eq!(own["key"], Digest::of_bytes(b"report").to_string());
    assert_eq!(own["stage"], "report");
    assert_eq!(own["inputs"]["metrics"], json!(["reports/metrics.json"]));
}

#[test]
fn the_page_lets_its_own_script_run_and_no_other() {
    let page = page(false, true, &json!({})).unwrap();
    let hash = base64::encode(&Sha256::digest(SCRIPT.as_bytes()));
    assert!(page.contains("default-src 'none'"));
    assert!(page.contains(&format!("script-src 'sha256-{hash}'")));
    assert!(page.contains(&format!("<script>{SCRIPT}</script>")), "what is hashed is what is in the page");
    let handler = regex::Regex::new(r"<[^>]*\son[a-z]+=").unwrap();
    assert!(handler.find(&page).is_none(), "an inline handler");
}

#[test]
fn the_page_shows_numbers_their_origin_alerts_and_its_key() {
    // The template engine escapes `/` too.
    let page = page(false, true, &json!({})).unwrap().replace("&#x2f;", "/");
    for text in [
        "reports/metrics.json#/fusion/average_precision",
        "raw:HDFS.log",
        "<svg",
        "s42",
        "<title id=\"roc-title\">ROC: anomalies found against false alarms</title>",
        "aria-labelledby=\"cm-title\" aria-describedby=\"cm-desc\"",
        "of 3 anomalous sessions 3 are flagged",
        &Digest::of_bytes(b"report").to_string(),
        &Digest::of_bytes(b"evaluate").to_string(),
        &Digest::of_bytes(b"metrics").to_string(),
    ] {
        assert!(page.contains(text), "no `{text}` in the page");
    }
    let text = regex::Regex::new("<[^>]*>").unwrap().replace_all(&page, "").into_owned();
    // The test fold holds s42, s49 and s56; validation separates perfectly.
    let said = "flagged 3 of 3 anomalies and raised 0 false alerts among 17 normal sessions";
    assert!(text.contains(said) && text.contains("1,234, 0 rejected"), "{text}");
    assert!(!page.contains("Simulated data"));
    assert!(!page.contains("<script>alert"), "a reason must be escaped");
    assert!(page.contains("&lt;script&gt;"));
    for outside in ["http://", "https://"] {
        let links: Vec<&str> =
            page.match_indices(outside).map(|(at, _)| &page[at..(at + 40).min(page.len())]).collect();
        // The name space of SVG is no link.
        assert!(links.iter().all(|l| l.starts_with("http://www.w3.org/")), "{links:?}");
    }
}

#[test]
fn alerts_say_why_and_where_and_alike_ones_are_together() {
    let explained = page(false, true, &json!({})).unwrap();
    let text = regex::Regex::new("<[^>]*>").unwrap().replace_all(&explained, "").into_owned();
    assert!(text.contains("raw:HDFS.log lines 4200, 4201, 4202, 4203, 4204 … 30 in all"), "{text}");
    assert!(text.contains("part in the decision: LightGBM 25 %, autoencoder 75 %"), "{text}");
    assert!(
        text.contains("The 40 most frequent of 41 signatures, over all folds; all are in reports&#x2f;alerts.json"),
        "{text}"
    );
    assert!(!explained.contains("<b>&"), "a reason must be escaped");
    let plain = page(false, false, &json!({})).unwrap();
    assert!(!plain.contains("most frequent of") && !plain.contains("what the models say"));
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
    let page = regex::Regex::new("<[^>]*>").unwrap().replace_all(&page, "").into_owned();
    assert!(page.contains("How many of them are right cannot be said"));
    assert!(page.contains("follows the alert budget instead"));
}

#[test]
fn the_number_of_listed_alerts_is_a_parameter_and_the_bytes_are_reproducible() {
    let few = |n: usize| page(false, true, &json!({"alerts": n})).unwrap();
    assert_eq!(few(2).matches("class=\"id\"").count(), 2);
    let text = regex::Regex::new("<[^>]*>").unwrap().replace_all(&few(2), "").into_owned();
    assert!(text.contains("The 2 highest of 3 alerts in the test fold"));
    assert_eq!(few(3), few(3));
    assert_eq!((kind().make)(&json!({"alerts": 5000})).err().unwrap()[0].path, "alerts");
}
