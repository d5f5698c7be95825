//! Scores of sessions of a stream, by the models of a run.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use polars::prelude::DataFrame;
use serde::Serialize;

use super::forms::{Numbered, is_new};
use super::{Done, Stream, Why};
use crate::explain::Chosen;
use crate::score::Bundle;
use crate::support::time::rfc3339;
use crate::support::traces::{Templates, Traces};

/// Sessions that are scored together, at most: what is held of a log that ended does not double.
pub const TOGETHER: usize = 1 << 13;

/// A scored session.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreRow {
    /// The session.
    pub session_id: String,
    /// Time of its first event, microseconds since 1970.
    pub start: i64,
    /// Calibrated probability of the supervised model, if there is one.
    pub p_lgbm: Option<f64>,
    /// Standardised error of the autoencoder, if there is one.
    pub z_ae: Option<f64>,
    /// The fused score.
    pub fusion_score: f64,
    /// Whether it is at or above the threshold.
    pub is_alert: bool,
    /// Events.
    pub events: usize,
    /// Whether the session may go on.
    pub censored: bool,
    /// What speaks for an anomaly.
    pub reason: String,
    /// Why it is scored now.
    pub state: Why,
}

/// A row as it is written.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    pub(super) session_id: &'a str,
    pub(super) timestamp: String,
    pub(super) p_lgbm: Option<f64>,
    pub(super) z_ae: Option<f64>,
    pub(super) fusion_score: f64,
    pub(super) is_alert: bool,
    pub(super) events: usize,
    pub(super) censored: bool,
    pub(super) reason: &'a str,
    pub(super) state: Why,
}

impl ScoreRow {
    pub(super) fn line(&self) -> Line<'_> {
        Line {
            session_id: &self.session_id,
            timestamp: rfc3339(self.start),
            p_lgbm: self.p_lgbm,
            z_ae: self.z_ae,
            fusion_score: self.fusion_score,
            is_alert: self.is_alert,
            events: self.events,
            censored: self.censored,
            reason: &self.reason,
            state: self.state,
        }
    }

    /// Takes the rows of a frame of scores (see [`Bundle::score`]) whose sessions have so many events.
    ///
    /// # Errors
    /// A column is missing or has nulls.
    pub(crate) fn of_frame(frame: &DataFrame, events: &[usize], threshold: f64) -> anyhow::Result<Vec<Self>> {
        let times = frame.column("timestamp")?.cast(&polars::prelude::DataType::Int64)?;
        let (ids, times) = (frame.column("session_id")?.str()?, times.i64()?);
        let (p_lgbm, z_ae) = (frame.column("p_lgbm")?.f64()?, frame.column("z_ae")?.f64()?);
        let (fusion, reasons) = (frame.column("fusion")?.f64()?, frame.column("reason")?.str()?);
        let censored = frame.column("censored")?.bool()?;
        let row = |(row, &events): (usize, &usize)| {
            let fusion_score = fusion.get(row).context("a session has no score")?;
            Ok(Self {
                session_id: ids.get(row).context("a session has no id")?.to_owned(),
                start: times.get(row).context("a session has no start")?,
                p_lgbm: p_lgbm.get(row),
                z_ae: z_ae.get(row),
                fusion_score,
                is_alert: fusion_score >= threshold,
                events,
                censored: censored.get(row).unwrap_or_default(),
                reason: reasons.get(row).unwrap_or_default().to_owned(),
                state: Why::End,
            })
        };
        events.iter().enumerate().map(row).collect()
    }
}

/// A session that became an alert, with what is needed to say why.
#[derive(Clone)]
pub struct Alert {
    /// Its score.
    pub row: ScoreRow,
    /// Its events.
    pub session: Chosen,
    templates: Arc<Numbered>,
}

impl Alert {
    /// Returns the templates that its events are of.
    pub fn templates(&self) -> &Templates {
        &self.templates.templates
    }

    /// Returns whether another one's events are of the same templates.
    pub fn same_templates(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.templates, &other.templates)
    }
}

/// What came of scoring.
#[derive(Default)]
pub struct Judged {
    /// Rows to write, in order.
    pub rows: Vec<ScoreRow>,
    /// Sessions that are alerts and were not told of before; only where they are asked for.
    pub alerts: Vec<Alert>,
}

impl Stream {
    /// Scores some of the sessions that wait; call it until none does. `alerts`: whether those are wanted.
    ///
    /// # Errors
    /// As [`Bundle::score`].
    pub fn judge(&mut self, bundle: &Bundle, threshold: f64, alerts: bool) -> anyhow::Result<Judged> {
        // Templates of new forms depend on how many there were: sessions that have some go with their like.
        let mut need = None;
        let mut take = 0;
        for done in self.pending.iter().take(TOGETHER) {
            if done.events.iter().any(|(_, code)| is_new(*code)) {
                if need.is_some_and(|need| need != done.new) {
                    break;
                }
                need = Some(done.new);
            }
            take += 1;
        }
        let done: Vec<Done> = self.pending.drain(..take).collect();
        if done.is_empty() {
            return Ok(Judged::default());
        }
        let numbered = self.forms.numbered(need)?;
        let traces = traces(&done, &numbered, self.keyless);
        let frame = bundle.score_traces(&traces, &numbered.templates)?;
        let events: Vec<usize> = done.iter().map(|done| done.events.len()).collect();
        let scored = ScoreRow::of_frame(&frame, &events, threshold)?;
        ensure!(scored.len() == done.len(), "a session was not scored (a bug)");
        let mut told = BTreeSet::new();
        let mut judged = Judged::default();
        for (number, (mut row, done)) in scored.into_iter().zip(done).enumerate() {
            let before = done.alerted || told.contains(&done.instance);
            if done.why == Why::Early {
                if !row.is_alert || before {
                    continue;
                }
                told.insert(done.instance);
                self.tell(&done);
                self.counts.early += 1;
            } else {
                self.counts.sessions += 1;
                self.counts.alerts += u64::from(row.is_alert);
            }
            row.session_id = done.id;
            row.state = done.why;
            if alerts && row.is_alert && !before {
                let session = Chosen { traces: one(&traces, number, &row.session_id), ..Chosen::default() };
                judged.alerts.push(Alert { row: row.clone(), session, templates: Arc::clone(&numbered) });
            }
            judged.rows.push(row);
        }
        Ok(judged)
    }
}

impl Stream {
    /// Takes note that a session was told of as an alert: in the session if it is still open, and in those that wait.
    fn tell(&mut self, done: &Done) {
        for waiting in self.pending.iter_mut().filter(|waiting| waiting.instance == done.instance) {
            waiting.alerted = true;
        }
        if self.open.holds(done.place) {
            self.open.at_mut(done.place).alerted = true;
        }
    }
}

/// Puts sessions into columns. They are named by number: an id may be there twice.
pub(super) fn traces(done: &[Done], numbered: &Numbered, keyless: bool) -> Traces {
    let mut traces = Traces { offsets: vec![0], ..Traces::default() };
    for (number, done) in done.iter().enumerate() {
        let mut closed = false;
        let mut before = done.events[0].0;
        traces.ids.push(number.to_string());
        traces.starts.push(before);
        for &(time, code) in &done.events {
            let template = numbered.number(code);
            closed |= numbered.closing.get(template as usize).copied().unwrap_or(false);
            traces.events.push(template);
            traces.gaps.push((time - before) / 1000);
            before = time;
        }
        traces.ends.push(before);
        traces.offsets.push(traces.events.len());
        traces.censored.push(done.open && (keyless || !closed));
        traces.until.push(done.until);
    }
    traces
}

/// One of the sessions, under its name.
fn one(traces: &Traces, row: usize, id: &str) -> Traces {
    let events = traces.offsets[row]..traces.offsets[row + 1];
    Traces {
        ids: vec![id.to_owned()],
        starts: vec![traces.starts[row]],
        ends: vec![traces.ends[row]],
        offsets: vec![0, events.len()],
        events: traces.events[events.clone()].to_vec(),
        gaps: traces.gaps[events].to_vec(),
        censored: vec![traces.censored[row]],
        until: vec![traces.until[row]],
        weights: Vec::new(),
        values: crate::support::traces::Values::default(),
    }
}
