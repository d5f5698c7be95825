//! Whether new sessions are still like those that models were fitted on: `drift.json`, as far as dashboards show it.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

use super::ensemble::time;

/// The verdict with what it rests on.
#[derive(Clone, Debug, Default)]
pub(super) struct DriftRow {
    pub verdict: Option<String>,
    pub reason: String,
    pub reference: Side,
    pub new: Side,
    pub measures: Vec<Measure>,
    pub templates: Vec<TemplateRow>,
}

/// A group of sessions.
#[derive(Clone, Debug, Default)]
pub(super) struct Side {
    pub of: String,
    pub sessions: i64,
    pub first: Option<i64>,
    pub last: Option<i64>,
}

/// One comparison.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Measure {
    pub name: String,
    pub title: String,
    pub verdict: String,
    pub divergence: f64,
    pub chance: f64,
    pub p: f64,
    pub p_adjusted: f64,
    pub history: f64,
    pub psi: f64,
}

/// A template that came, went or moved.
#[derive(Clone, Debug)]
pub(super) struct TemplateRow {
    /// `new`, `vanished` or `moved`.
    pub change: &'static str,
    pub event_id: String,
    pub text: String,
    pub reference: f64,
    pub new: f64,
    pub bits: f64,
    pub p: f64,
}

#[derive(Deserialize)]
struct Document {
    verdict: Option<String>,
    reason: String,
    reference: Group,
    new: Group,
    measures: Vec<Measure>,
    new_templates: Vec<Shift>,
    vanished_templates: Vec<Shift>,
    shifts: Vec<Shift>,
}

#[derive(Deserialize)]
struct Group {
    of: String,
    sessions: i64,
    first: Option<String>,
    last: Option<String>,
}

#[derive(Deserialize)]
struct Shift {
    event_id: String,
    text: String,
    reference: f64,
    new: f64,
    bits: f64,
    p: f64,
}

/// Reads `drift.json`.
///
/// # Errors
/// The file cannot be read or is none.
pub(super) fn read(path: &Path) -> anyhow::Result<DriftRow> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let document: Document = serde_json::from_reader(BufReader::new(file))
        .with_context(|| format!("{} is no drift.json", path.display()))?;
    let side = |group: Group| -> anyhow::Result<Side> {
        let at = |text: Option<String>| text.map_or(Ok(None), |text| time(&text));
        Ok(Side { of: group.of, sessions: group.sessions, first: at(group.first)?, last: at(group.last)? })
    };
    let mut templates: Vec<TemplateRow> = Vec::new();
    let lists =
        [("new", document.new_templates), ("vanished", document.vanished_templates), ("moved", document.shifts)];
    for (change, list) in lists {
        for shift in list {
            let Shift { event_id, text, reference, new, bits, p } = shift;
            // What is new or vanished has moved too; it is told once. Ids of two tables may meet: one row for each text.
            if !templates.iter().any(|t| t.event_id == event_id && (change == "moved" || t.change == change)) {
                templates.push(TemplateRow { change, event_id, text, reference, new, bits, p });
            }
        }
    }
    Ok(DriftRow {
        verdict: document.verdict,
        reason: document.reason,
        reference: side(document.reference)?,
        new: side(document.new)?,
        measures: document.measures,
        templates,
    })
}
