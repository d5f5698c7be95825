use super::*;
use std::collections::BTreeMap;

use crate::evaluate::document::{Confusion, TypeRecall};
use crate::support::metrics::{average_precision_of, roc_auc_of, steps};

fn caption() -> Caption {
    Caption {
        dataset: "HDFS".into(),
        simulated: false,
        scope: Caption::test_fold("chronological", 60, 6),
        stage: "evaluate".into(),
    }
}

fn curve(name: &'static str, noise: u32) -> Curve {
    let labels: Vec<bool> = (0..60).map(|i| i % 10 == 0).collect();
    let scores: Vec<f64> =
        labels.iter().zip(0u32..).map(|(&l, i)| f64::from(u8::from(l)) * 20.0 + f64::from(i * 7919 % noise)).collect();
    let steps = steps(&scores, &labels, &[]);
    let operating = steps[5];
    Curve {
        name,
        title: name,
        operating,
        roc_auc: roc_auc_of(&steps).map(|v| (v, None)),
        average_precision: average_precision_of(&steps).map(|v| (v, Some([0.1, 0.9]))),
        steps,
    }
}

fn scores(name: &'static str) -> Scores {
    Scores { name, title: name, values: vec![(0.1, Some(false)), (0.9, Some(true)), (0.2, None)], threshold: 0.5 }
}

fn types() -> BTreeMap<String, TypeRecall> {
    let models = [("lgbm".to_owned(), 0.5)].into();
    [("loud_one".to_owned(), TypeRecall { count: 4, flagged: 3, recall: 0.75, ci95: Some([0.3, 0.9]), models })].into()
}

fn learned(values: Vec<f64>) -> Learning {
    Learning { title: "t", steps: "rounds", measured: "error", values, kept: 2, error: true, why_not: None }
}

/// The text chunks and the size of a PNG.
fn chunks(path: &std::path::Path) -> (Vec<(String, String)>, (u32, u32)) {
    let reader = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(path).unwrap())).read_info().unwrap();
    let info = reader.info();
    assert!(info.uncompressed_latin1_text.iter().all(|t| !t.keyword.contains("ime")));
    let mut texts: Vec<_> = info.uncompressed_latin1_text.iter().map(|t| (t.keyword.clone(), t.text.clone())).collect();
    texts.extend(
        info.utf8_text
            .iter()
            .filter(|t| t.keyword != "logweir-svg")
            .map(|t| (t.keyword.clone(), t.get_text().unwrap())),
    );
    (texts, (info.width, info.height))
}

#[test]
fn every_picture_carries_its_key_and_equal_data_give_equal_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let curves = [curve("lgbm", 30), curve("fusion", 22)];
    let counts = Confusion { tp: 5, fp: 1, fn_: 1, tn: 53 };
    let draw = |name: &str| {
        let path = |kind: &str| dir.path().join(format!("{kind}-{name}.png"));
        roc(&path("roc"), &caption(), &curves, "abc").unwrap();
        precision_recall(&path("pr"), &caption(), &curves, "abc").unwrap();
        confusion(&path("cm"), &caption(), Some(&counts), 0.5, "abc").unwrap();
        histogram(&path("h"), &caption(), &[scores("ae"), scores("fusion")], "abc").unwrap();
        calibration(&path("cal"), &caption(), &[(0.1, false), (0.9, true)], |_, _| Some([0.2, 0.7]), "abc").unwrap();
        recall_by_type(&path("types"), &caption(), &types(), "abc").unwrap();
        learning(&path("learning"), &caption(), &learned(vec![0.3, 0.2, 0.1]), "abc").unwrap();
        ["roc", "pr", "cm", "h", "cal", "types", "learning"].map(path)
    };
    for (a, b) in draw("a").iter().zip(draw("b")) {
        let description = "HDFS (real data) · chronological split, test fold · n = 60 sessions, 6 anomalous";
        let texts = [
            ("logweir-key", "abc"),
            ("logweir-stage", "evaluate"),
            ("Software", "logweir"),
            ("Description", description),
        ];
        let texts = texts.map(|(keyword, text)| (keyword.to_owned(), text.to_owned())).to_vec();
        assert_eq!(chunks(a), (texts, (1400, 1040)));
        let bytes = std::fs::read(a).unwrap();
        assert_eq!(key_of_png(&bytes).unwrap().as_deref(), Some("abc"));
        assert_eq!(bytes, std::fs::read(b).unwrap());
        assert!(bytes.len() < 200_000, "{} has {} bytes", a.display(), bytes.len());
        let svg = svg_of_png(&bytes).unwrap().unwrap();
        assert!(svg.len() < 150_000, "{} has {} bytes as SVG", a.display(), svg.len());
        let told = svg.split_once("<title>").unwrap().1.split_once("</title>\n<desc>").unwrap();
        assert!(!told.0.is_empty() && told.1.split("</desc>").next().unwrap().contains(description), "{svg}");
    }
}

#[test]
fn without_labels_pictures_say_so_instead_of_failing() {
    let dir = tempfile::tempdir().unwrap();
    let empty = Curve { steps: Vec::new(), roc_auc: None, average_precision: None, ..curve("fusion", 30) };
    for (name, curves) in [("none", vec![]), ("empty", vec![empty])] {
        roc(&dir.path().join(name), &caption(), &curves, "k").unwrap();
        precision_recall(&dir.path().join(name), &caption(), &curves, "k").unwrap();
    }
    confusion(&dir.path().join("cm"), &caption(), None, 0.5, "k").unwrap();
    histogram(&dir.path().join("h"), &caption(), &[], "k").unwrap();
    calibration(&dir.path().join("c"), &caption(), &[], |_, _| None, "k").unwrap();
    recall_by_type(&dir.path().join("t"), &caption(), &BTreeMap::new(), "k").unwrap();
    learning(&dir.path().join("l"), &caption(), &learned(Vec::new()), "k").unwrap();
    learning(&dir.path().join("l"), &caption(), &learned(vec![0.5]), "k").unwrap();
}

#[test]
fn a_caption_names_the_source_of_the_data_once() {
    let line = caption().line();
    assert_eq!(line, "HDFS (real data) · chronological split, test fold · n = 60 sessions, 6 anomalous");
    let simulated = Caption { dataset: "simulated log".into(), simulated: true, ..caption() };
    assert!(simulated.line().starts_with("simulated log · "));
}
