//! What the page says of drift.

use serde::Serialize;

use super::shown::{Document, Form, Piece};

/// Whether new sessions are still like those that models were fitted on.
#[derive(Serialize)]
pub(super) struct Drifted {
    /// `stable`, `watch` or `refit`; empty where there is nothing to compare.
    class: String,
    verdict: Piece,
    reason: Piece,
    measures: Vec<Measure>,
    /// Templates that only new sessions, only the reference have.
    new_templates: usize,
    vanished_templates: usize,
    path: String,
}

#[derive(Serialize)]
struct Measure {
    title: Piece,
    verdict: Piece,
    cells: Vec<Piece>,
}

impl Drifted {
    /// From `drift.json`.
    pub(super) fn of(d: Document<'_>) -> Self {
        let count = |member: &str| d.json[member].as_array().map_or(0, Vec::len);
        let measure = |i: usize| {
            let at = |member: &str, form: Form| d.at(&format!("/measures/{i}/{member}"), form);
            Measure {
                title: at("title", Form::Plain),
                verdict: at("verdict", Form::Plain),
                cells: vec![
                    at("divergence", Form::Short),
                    at("chance", Form::Short),
                    at("history", Form::Short),
                    at("p_adjusted", Form::Short),
                ],
            }
        };
        Self {
            class: d.json["verdict"].as_str().unwrap_or_default().to_owned(),
            verdict: d.at("/verdict", Form::Plain),
            reason: d.at("/reason", Form::Plain),
            measures: (0..count("measures")).map(measure).collect(),
            new_templates: count("new_templates"),
            vanished_templates: count("vanished_templates"),
            path: d.path.to_owned(),
        }
    }
}
