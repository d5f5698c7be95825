//! What the page says of an alert, from the table of alerts.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use super::shown::{Document, Form, Piece, of_row, plain};
use crate::explain::{Alert, read_alerts};

/// Lines, contributions and residuals that the page lists of an alert.
const LISTED: usize = 5;

/// Signatures that the page lists.
const SIGNATURES: usize = 40;

/// The table of alerts.
pub(super) struct Explained {
    path: String,
    /// Row and alert by session.
    alerts: BTreeMap<String, (usize, Alert)>,
}

/// Why a session is an alert.
#[derive(Clone, Default, Serialize)]
pub(super) struct Why {
    reason: Piece,
    signature: Option<Piece>,
    /// Lines that stand out, by file.
    files: Vec<Lines>,
    /// How many more there are.
    more: Option<Piece>,
    /// Each model's part in the decision.
    shares: Vec<(&'static str, Piece)>,
    contributions: Vec<Piece>,
    residuals: Vec<Piece>,
}

#[derive(Clone, Serialize)]
struct Lines {
    file: String,
    lines: Vec<Piece>,
}

impl Why {
    /// Where nothing but a reason is known.
    pub(super) fn only(reason: Piece) -> Self {
        Self { reason, ..Self::default() }
    }

    /// What it has in common with alike alerts; `None` where it does not come from the table of alerts.
    pub(super) fn signature(&self) -> Option<&str> {
        self.signature.as_ref().map(|piece| piece.text.as_str())
    }
}

impl Explained {
    /// Reads the table, which pipeline.yaml calls `logical`.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn read(path: &Path, logical: &str) -> anyhow::Result<Self> {
        let rows = read_alerts(path)?.into_iter().enumerate();
        let alerts = rows.map(|(row, alert)| (alert.session_id.clone(), (row, alert))).collect();
        Ok(Self { path: logical.to_owned(), alerts })
    }

    /// What is said of a session: all, or reason and signature alone.
    ///
    /// # Errors
    /// It is not in the table.
    pub(super) fn of(&self, session: &str, detailed: bool) -> anyhow::Result<Why> {
        let (row, alert) = self.alerts.get(session).with_context(|| {
            format!("session {session} is an alert that {} does not have: both must come from one run", self.path)
        })?;
        let why = &alert.explanation;
        let value = |column: &str, text: &str, exact: &str| of_row(&self.path, *row, column, text, exact);
        let number = |column: &str, text: &str, exact: f64| value(column, text, &exact.to_string());
        let reason = value("reason", &why.reason, &why.reason);
        let signature = Some(value("signature", &why.signature, &why.signature));
        if !detailed {
            return Ok(Why { reason, signature, ..Why::default() });
        }
        let mut files: Vec<Lines> = Vec::new();
        let mut listed = 0;
        for place in why.odd.iter().filter_map(|odd| odd.place.as_ref()).take(LISTED) {
            listed += 1;
            let line = place.line.to_string();
            let line = value("odd_lines", &line, &line);
            match files.last_mut().filter(|last| last.file == place.file) {
                Some(last) => last.lines.push(line),
                None => files.push(Lines { file: place.file.clone(), lines: vec![line] }),
            }
        }
        let more = (listed > 0 && why.odd_total > listed).then(|| {
            let total = why.odd_total.to_string();
            value("odd_total", &total, &total)
        });
        let percent = |share: f64| format!("{:.0} %", 100.0 * share);
        let shares = [
            ("LightGBM", "share_lgbm", why.shares.lgbm),
            ("autoencoder", "share_ae", why.shares.ae),
            ("profile", "share_profile", why.shares.profile),
        ];
        let error: f64 = alert.ae.unwrap_or(0.0);
        let contributions = why.contributions.iter().take(LISTED).map(|c| {
            let text = format!("{} = {}: {:+.2}", c.feature, short(c.value), c.contribution);
            number("contributions", &text, c.contribution)
        });
        let residuals = why.residuals.iter().take(LISTED).map(|r| {
            let text = format!("{}: {}", r.feature, percent(if error > 0.0 { r.residual / error } else { 0.0 }));
            number("residuals", &text, r.residual)
        });
        Ok(Why {
            reason,
            signature,
            files,
            more,
            shares: shares
                .into_iter()
                .filter_map(|(name, column, share)| Some((name, number(column, &percent(share?), share?))))
                .collect(),
            contributions: contributions.collect(),
            residuals: residuals.collect(),
        })
    }
}

/// Whole numbers as such, others with two decimals.
fn short(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value}") } else { format!("{value:.2}") }
}

/// Alike alerts.
#[derive(Serialize)]
pub(super) struct SignatureRow {
    signature: Piece,
    reason: Piece,
    /// Alerts in all, in the test fold; labelled anomalous, normal.
    counts: Vec<Piece>,
    times: Vec<Piece>,
    examples: Vec<Piece>,
}

/// The most frequent signatures, and how many there are in all.
pub(super) fn signatures(d: Document<'_>) -> (Vec<SignatureRow>, usize) {
    let all = d.json["signatures"].as_array().map_or(0, Vec::len);
    let row = |i: usize| {
        let at = |member: &str, form: Form| d.at(&format!("/signatures/{i}/{member}"), form);
        let examples = d.json["signatures"][i]["examples"].as_array().map_or(0, Vec::len);
        let mut counts = vec![at("alerts", Form::Count)];
        for member in ["folds/test", "labels/anomalous", "labels/normal"] {
            let value = at(member, Form::Count);
            counts.push(if value.origin.is_empty() { plain("") } else { value });
        }
        SignatureRow {
            signature: at("signature", Form::Plain),
            reason: at("reason", Form::Plain),
            counts,
            times: vec![at("first", Form::Time), at("last", Form::Time)],
            examples: (0..examples).map(|e| at(&format!("examples/{e}/session_id"), Form::Plain)).collect(),
        }
    };
    ((0..all.min(SIGNATURES)).map(row).collect(), all)
}
