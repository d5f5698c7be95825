//! Alerts of a run: sorted, filtered, by signature, some at a time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use chrono::{DateTime, SecondsFormat};
use logweir_engine::digest::Digest;
use logweir_stages::explain::{Alert, read_alerts};
use serde::Deserialize;
use serde_json::{Value, json};

use super::data::Data;
use crate::commands::score::only;
use crate::render::diagnostic::Failure;

/// Most alerts of one answer.
const MOST: usize = 500;
/// Most signatures of one answer.
const SIGNATURES: usize = 200;

/// The table of alerts that was read last, by its content.
#[derive(Default)]
pub(super) struct Table(Mutex<Option<(Digest, Arc<Vec<Alert>>)>>);

/// What is asked of them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Question {
    run: Option<String>,
    /// Words that must occur in session, signature, reason, type or label.
    q: String,
    /// Id of a signature.
    signature: Option<String>,
    fold: Option<String>,
    /// `score` (default), `start`, `session`, `signature`.
    sort: Option<String>,
    /// The lowest first.
    up: bool,
    offset: usize,
    limit: Option<usize>,
}

impl Data {
    /// Alerts as a page lists them.
    pub(super) fn list_alerts(&self, question: &Question) -> Result<Value, Failure> {
        let engine = self.engine();
        let detail = self.detail(&engine, question.run.as_deref())?;
        let nothing = |error: anyhow::Error| {
            Failure::environment(error.context(format!("run {} has no alerts", detail.info.run)))
                .help("a stage of kind `explain` writes them: see docs/artifacts.md")
        };
        let explain = only(&detail, "explain").map_err(nothing)?;
        let output = explain.outputs.get("alerts").context("it wrote none").map_err(nothing)?;
        let alerts = self.alerts.read(output.digest, || {
            let path = engine.stored(output)?.remove("").ok_or_else(|| Failure::bug("a file has no place"))?;
            read_alerts(&path).map_err(Failure::environment)
        })?;
        Ok(answer(&detail.info.run, &output.path, &alerts, question))
    }
}

impl Table {
    fn read(
        &self,
        digest: Digest,
        read: impl FnOnce() -> Result<Vec<Alert>, Failure>,
    ) -> Result<Arc<Vec<Alert>>, Failure> {
        let mut kept = self.0.lock().map_err(|_| Failure::bug("a reader of alerts panicked"))?;
        if let Some((known, alerts)) = &*kept
            && *known == digest
        {
            return Ok(Arc::clone(alerts));
        }
        let alerts = Arc::new(read()?);
        *kept = Some((digest, Arc::clone(&alerts)));
        Ok(alerts)
    }
}

fn label(alert: &Alert) -> &'static str {
    match alert.label {
        Some(true) => "anomalous",
        Some(false) => "normal",
        None => "unknown",
    }
}

fn time(micros: Option<i64>) -> Option<String> {
    let time = DateTime::from_timestamp_micros(micros?)?;
    Some(time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

fn answer(run: &str, path: &str, alerts: &[Alert], question: &Question) -> Value {
    let words: Vec<String> = question.q.split_whitespace().map(str::to_lowercase).collect();
    let fits = |alert: &&Alert| {
        let why = &alert.explanation;
        let texts = [&alert.session_id, &why.signature, &why.reason];
        let has = |word: &String| {
            texts.iter().any(|text| text.to_lowercase().contains(word))
                || label(alert).contains(word.as_str())
                || alert.kind.as_ref().is_some_and(|kind| kind.to_lowercase().contains(word))
        };
        words.iter().all(has) && question.fold.as_ref().is_none_or(|fold| fold.is_empty() || alert.fold == *fold)
    };
    let fitting: Vec<&Alert> = alerts.iter().filter(fits).collect();
    let signatures = signatures(&fitting);
    let of_one = |alert: &&Alert| question.signature.as_ref().is_none_or(|id| alert.explanation.signature_id == *id);
    let mut chosen: Vec<&Alert> = fitting.into_iter().filter(of_one).collect();
    chosen.sort_by(|a, b| {
        let order = match question.sort.as_deref() {
            Some("start") => a.start.cmp(&b.start),
            Some("session") => a.session_id.cmp(&b.session_id),
            Some("signature") => a.explanation.signature.cmp(&b.explanation.signature),
            _ => a.score.total_cmp(&b.score),
        };
        let order = if question.up { order } else { order.reverse() };
        order.then_with(|| b.score.total_cmp(&a.score)).then_with(|| a.session_id.cmp(&b.session_id))
    });
    let found = chosen.len();
    let some = chosen.into_iter().skip(question.offset).take(question.limit.unwrap_or(100).min(MOST));
    let rows = some.map(|alert| {
        let mut row = serde_json::to_value(alert).unwrap_or_default();
        (row["start"], row["end"]) = (json!(time(alert.start)), json!(time(alert.end)));
        row["label"] = label(alert).into();
        row
    });
    json!({
        "run": run,
        "path": path,
        "total": alerts.len(),
        "found": found,
        "offset": question.offset,
        "signatures": signatures.iter().take(SIGNATURES).collect::<Vec<_>>(),
        "all_signatures": signatures.len(),
        "alerts": rows.collect::<Vec<_>>(),
    })
}

/// Alike alerts together, the most frequent first.
fn signatures(alerts: &[&Alert]) -> Vec<Value> {
    // Count, anomalous, normal, and the one with the highest score.
    let mut groups: BTreeMap<&str, (usize, usize, usize, &Alert)> = BTreeMap::new();
    for &alert in alerts {
        let group = groups.entry(&alert.explanation.signature_id).or_insert((0, 0, 0, alert));
        group.0 += 1;
        group.1 += usize::from(alert.label == Some(true));
        group.2 += usize::from(alert.label == Some(false));
        if alert.score > group.3.score {
            group.3 = alert;
        }
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by(|a, b| b.1.0.cmp(&a.1.0).then_with(|| a.0.cmp(b.0)));
    let row = |(id, (count, anomalous, normal, best)): (&str, (usize, usize, usize, &Alert))| {
        json!({
            "id": id,
            "signature": best.explanation.signature,
            "alerts": count,
            "anomalous": anomalous,
            "normal": normal,
            "highest_score": best.score,
            "reason": best.explanation.reason,
        })
    };
    groups.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use logweir_stages::explain::Explanation;

    use super::*;

    fn alert(session: &str, score: f64, signature: &str, anomalous: bool) -> Alert {
        let (signature, signature_id) = (signature.to_owned(), format!("id-{signature}"));
        let explanation =
            Explanation { reason: format!("because {session}"), signature, signature_id, ..Explanation::default() };
        Alert {
            session_id: session.to_owned(),
            start: Some(1_226_262_930_000_000),
            fold: "test".to_owned(),
            label: Some(anomalous),
            score,
            explanation,
            ..Alert::default()
        }
    }

    fn ids(answer: &Value) -> Vec<&str> {
        answer["alerts"].as_array().unwrap().iter().map(|alert| alert["session_id"].as_str().unwrap()).collect()
    }

    #[test]
    fn alerts_are_sorted_filtered_and_counted_by_signature() {
        let alerts = [alert("b", 0.5, "x", true), alert("a", 0.9, "y", false), alert("c", 0.5, "x", true)];
        let ask = |question: Question| answer("r", "p", &alerts, &question);
        let all = ask(Question::default());
        assert_eq!(ids(&all), ["a", "b", "c"]);
        assert_eq!((&all["total"], &all["found"]), (&json!(3), &json!(3)));
        assert_eq!(all["alerts"][0]["start"], "2008-11-09T20:35:30Z");
        assert_eq!((&all["signatures"][0]["id"], &all["signatures"][0]["alerts"]), (&json!("id-x"), &json!(2)));
        let of_x = ask(Question { signature: Some("id-x".to_owned()), ..Question::default() });
        assert_eq!((ids(&of_x), &of_x["all_signatures"]), (vec!["b", "c"], &json!(2)));
        assert_eq!(ids(&ask(Question { q: "NORMAL because".to_owned(), ..Question::default() })), ["a"]);
        assert_eq!(ids(&ask(Question { sort: Some("session".to_owned()), ..Question::default() })), ["c", "b", "a"]);
        assert_eq!(ids(&ask(Question { up: true, limit: Some(1), offset: 1, ..Question::default() })), ["c"]);
        assert!(ids(&ask(Question { fold: Some("train".to_owned()), ..Question::default() })).is_empty());
    }
}
