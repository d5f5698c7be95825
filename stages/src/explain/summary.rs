//! Alike alerts together: `reports/alerts.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::alert::Alert;
use super::chosen::LineRef;
use crate::support::provenance::Provenance;
use crate::support::time::rfc3339;

/// The document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Whether the log is simulated; `None` if that is not known.
    pub simulated: Option<bool>,
    /// Sessions that were judged.
    pub sessions: u64,
    /// Alerts among them.
    pub alerts: u64,
    /// Alerts that say why.
    pub with_reason: u64,
    /// Alerts that name a line that stands out.
    pub with_lines: u64,
    /// Alike alerts, the most frequent first.
    pub signatures: Vec<Signature>,
    /// Where the document comes from.
    pub provenance: Provenance,
}

/// Alerts that are alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signature {
    /// What they share, for people.
    pub signature: String,
    /// The same by texts of templates: equal in every run.
    pub id: String,
    /// How many there are.
    pub alerts: u64,
    /// How many in each fold.
    pub folds: BTreeMap<String, u64>,
    /// How many of each label: `anomalous`, `normal`, `unknown`.
    pub labels: BTreeMap<String, u64>,
    /// How many of each type of anomaly, where types are known.
    pub types: BTreeMap<String, u64>,
    /// When the first began, RFC 3339.
    pub first: Option<String>,
    /// When the last began, RFC 3339.
    pub last: Option<String>,
    /// The highest fused score.
    pub highest_score: f64,
    /// Why the one with that score is an alert.
    pub reason: String,
    /// The templates that the signature names.
    pub templates: BTreeMap<String, String>,
    /// Those with the highest scores.
    pub examples: Vec<Example>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// The session.
    pub session_id: String,
    /// When it began, RFC 3339.
    pub timestamp: Option<String>,
    /// Its fused score.
    pub score: f64,
    /// Its first lines that stand out.
    pub lines: Vec<LineRef>,
}

/// Lines that an example names.
const LINES: usize = 3;

/// Gathers alerts by signature.
#[derive(Default)]
pub(super) struct Gatherer {
    alerts: u64,
    with_reason: u64,
    with_lines: u64,
    by_signature: BTreeMap<String, Gathered>,
}

/// Alerts of one signature so far.
struct Gathered {
    about: Signature,
    first: Option<i64>,
    last: Option<i64>,
}

impl Gatherer {
    /// Adds an alert; `examples` is how many are named, `text` gives the texts of templates.
    pub(super) fn add<'t>(&mut self, alert: &Alert, examples: usize, text: impl Fn(&str) -> Option<&'t str>) {
        let why = &alert.explanation;
        self.alerts += 1;
        self.with_reason += u64::from(!why.reason.is_empty());
        self.with_lines += u64::from(why.odd.iter().any(|odd| odd.place.is_some()));
        let fresh = || Gathered {
            about: Signature {
                signature: why.signature.clone(),
                id: why.signature_id.clone(),
                alerts: 0,
                folds: BTreeMap::new(),
                labels: BTreeMap::new(),
                types: BTreeMap::new(),
                first: None,
                last: None,
                highest_score: f64::NEG_INFINITY,
                reason: String::new(),
                templates: BTreeMap::new(),
                examples: Vec::new(),
            },
            first: None,
            last: None,
        };
        let of = self.by_signature.entry(why.signature.clone()).or_insert_with(fresh);
        let about = &mut of.about;
        about.alerts += 1;
        *about.folds.entry(alert.fold.clone()).or_default() += 1;
        let label = match alert.label {
            Some(true) => "anomalous",
            Some(false) => "normal",
            None => "unknown",
        };
        *about.labels.entry(label.to_owned()).or_default() += 1;
        if let Some(kind) = &alert.kind {
            *about.types.entry(kind.clone()).or_default() += 1;
        }
        of.first = [of.first, alert.start].into_iter().flatten().min();
        of.last = of.last.max(alert.start);
        if about.templates.is_empty() {
            let named = why.unseen.iter().chain(&why.extra).chain(&why.missing);
            about.templates = named.filter_map(|d| Some((d.event_id.clone(), text(&d.event_id)?.to_owned()))).collect();
        }
        // Of equal scores the first session's.
        if alert.score > about.highest_score {
            about.highest_score = alert.score;
            about.reason.clone_from(&why.reason);
        }
        let at = about.examples.partition_point(|example| example.score >= alert.score);
        if at < examples {
            let example = Example {
                session_id: alert.session_id.clone(),
                timestamp: alert.start.map(rfc3339),
                score: alert.score,
                lines: why.odd.iter().filter_map(|odd| odd.place.clone()).take(LINES).collect(),
            };
            about.examples.insert(at, example);
            about.examples.truncate(examples);
        }
    }

    /// Returns the document.
    pub(super) fn summary(self, simulated: Option<bool>, sessions: u64, provenance: Provenance) -> Summary {
        let Self { alerts, with_reason, with_lines, by_signature } = self;
        let done = |Gathered { about, first, last }: Gathered| Signature {
            first: first.map(rfc3339),
            last: last.map(rfc3339),
            ..about
        };
        let mut signatures: Vec<Signature> = by_signature.into_values().map(done).collect();
        signatures.sort_by(|a, b| b.alerts.cmp(&a.alerts).then_with(|| a.signature.cmp(&b.signature)));
        Summary { simulated, sessions, alerts, with_reason, with_lines, signatures, provenance }
    }
}
