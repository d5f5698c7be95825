//! Grouping accuracy on real logs with known templates (loghub, 2,000 lines a set).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{LocalTemplate, globalize};
use crate::drain::Limits;
use crate::logs::mask::{Form, Masks};
use crate::logs::rows::text;
use crate::testing::real_data;

/// The share of lines whose group of lines is exactly a true one (Zhu et al., *Tools and Benchmarks for Automated Log
/// Parsing*, ICSE 2019). Line formats are those of the data set: the `Content` column is the message.
fn grouping_accuracy(structured: &Path, masks: &Masks) -> f64 {
    let mut reader = csv::Reader::from_path(structured).unwrap();
    let header = reader.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|h| h == name).unwrap();
    let (content, event) = (column("Content"), column("EventId"));
    let mut form = Form::default();
    let mut local: Vec<LocalTemplate> = Vec::new();
    let mut number: BTreeMap<String, usize> = BTreeMap::new();
    let (mut forms, mut truth) = (Vec::new(), Vec::new());
    for record in reader.records() {
        let record = record.unwrap();
        masks.apply(record[content].as_bytes(), &mut form);
        let text = text(&form.text).into_owned();
        let at = *number.entry(text.clone()).or_insert_with(|| {
            local.push(LocalTemplate { text, count: 0, name: None });
            local.len() - 1
        });
        local[at].count += 1;
        forms.push(at);
        truth.push(record[event].to_owned());
    }
    let global = globalize(&[local], &[], Limits::default()).unwrap();
    let mut found: BTreeMap<u32, BTreeSet<usize>> = BTreeMap::new();
    let mut wanted: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for (line, (form, event)) in forms.iter().zip(&truth).enumerate() {
        found.entry(global.map[0][*form]).or_default().insert(line);
        wanted.entry(event).or_default().insert(line);
    }
    let right: usize = found.values().filter(|lines| wanted.values().any(|w| w == *lines)).map(BTreeSet::len).sum();
    right as f64 / truth.len() as f64
}

#[test]
fn grouping_accuracy_on_five_real_logs() {
    let Some(data) = real_data() else { return };
    let mut sum = 0.0;
    for (set, own_masks, least) in [
        ("HDFS", &[][..], 1.0),
        ("BGL", &[], 0.98),
        ("Hadoop", &[], 0.97),
        ("Linux", &[("user", r"session (?:opened|closed) for user (\w+)"), ("host", r"rhost=(\S+)")], 0.95),
        ("OpenStack", &[], 1.0),
    ] {
        let mut masks = Masks::default();
        for (name, pattern) in own_masks {
            masks.add(name, pattern).unwrap();
        }
        let accuracy = grouping_accuracy(&data.join(format!("loghub2k/{set}_2k.log_structured.csv")), &masks);
        eprintln!("{set}: grouping accuracy {accuracy:.4}");
        assert!(accuracy >= least, "{set}: {accuracy}");
        sum += accuracy;
    }
    eprintln!("mean: {:.4}", sum / 5.0);
    assert!(sum / 5.0 > 0.98);
}
