//! The `drift` kind: whether new sessions are still like those that models were fitted on.
//!
//! Compares the shares of templates, the lengths of sessions and the scores of the models between a reference (train and
//! validation, or a whole sessions table) and new sessions (test, or another table). Labels are not needed and not looked at.
//! Scores are compared with those of validation by models that had not seen it, since models score what they were fitted
//! on lower. Margins of LightGBM are compared as probabilities, and those and the fused score in tenths: another model gave
//! the scores of test.
//!
//! Sessions that were still open when the log ended are short because it ended. Where new sessions are, all are compared by
//! their first events only, as long as most new ones could be followed, and those that could not are left out (a common
//! follow-up, as in the analysis of survival times); their scores are compared where they were over.
//!
//! | verdict | a measure |
//! |---|---|
//! | `stable` | is not further from the reference than permuted sessions would be (level `level`, Holm-adjusted over all measures) |
//! | `watch` | is, but by no more than `tolerance` times what chance, or stretches of the reference against the rest of it, reach |
//! | `refit` | is, and by more than that |
//!
//! The verdict is that of the measure that says most. Chance bounds a false alarm, the reference's own history says what is
//! usual for this log: there is no limit that fits all logs. Every session counts once, whatever it stands for.

pub mod document;
mod measure;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use logweir_engine::stage::{ParamError, Params, Slot, Stage, StageContext, StageKind, make, schema_of};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plots;
use crate::support::provenance::Provenance;
use crate::support::scoretable::{Fold, ScoreTable};
use crate::support::time::rfc3339;
use crate::support::traces::{Templates, Traces, read_split};
use document::{Drift, Group, Measure, MethodUsed, TemplateShift, Verdict};
use measure::{Counts, Method, Shift, bits, holm, shares, shifts};

/// Returns the kind.
pub fn kind() -> StageKind {
    const INPUTS: &[Slot] = &[
        Slot::file("sessions", "sessions.parquet: the reference, and with `split` the new sessions too"),
        Slot::file("templates", "templates.csv"),
        Slot::file("summary", "sessions.json: whether the data are real").optional(),
        Slot::file("split", "split.parquet: train and validation against test").optional(),
        Slot::file("scores", "scores.parquet, to compare scores").optional(),
        Slot::file("new_sessions", "sessions.parquet of new data, instead of the test fold").optional(),
        Slot::file("new_templates", "templates.csv of `new_sessions`, where its numbers are others").optional(),
        Slot::file("new_scores", "scores.parquet of `new_sessions`").optional(),
    ];
    const OUTPUTS: &[Slot] =
        &[Slot::file("drift", "drift.json: verdict, measures, templates"), Slot::file("plot", "PNG").optional()];
    StageKind {
        name: "drift",
        about: "population shift of templates, session lengths and scores, with a verdict: refit, watch or stable",
        version: 1,
        code: crate::code("drift"),
        inputs: INPUTS,
        outputs: OUTPUTS,
        schema: schema_of::<DriftParams>,
        make: make::<DriftParams, DriftStage>,
    }
}

/// Parameters of `drift`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DriftParams {
    /// Probability of another verdict than `stable` where only chance is at work.
    pub level: f64,
    /// How many times the divergence that chance and the history of the reference reach one must be for `refit`.
    pub tolerance: f64,
    /// Permutations of sessions; at least 10 / `level`, or nothing could be significant.
    pub permutations: u32,
    /// Share of new sessions that are compared where some were still open when the log ended: all are cut to the time
    /// that this share could be followed. 1 compares whole sessions, open or not.
    pub followed: f64,
    /// Most sessions of a group that are compared, evenly spread over its time.
    pub most_sessions: usize,
    /// Most templates that each list has.
    pub top: usize,
    /// Seed of the permutations.
    pub seed: u64,
    /// Name of the data for reports.
    pub dataset: Option<String>,
}

impl Default for DriftParams {
    fn default() -> Self {
        Self {
            level: 0.01,
            tolerance: 2.0,
            permutations: 999,
            followed: 0.8,
            most_sessions: 20_000,
            top: 20,
            seed: 42,
            dataset: None,
        }
    }
}

impl Params for DriftParams {
    fn check(&self) -> Vec<ParamError> {
        let mut errors = Vec::new();
        let mut need = |ok: bool, path: &str, message: &str| {
            if !ok {
                errors.push(ParamError::new(path, message));
            }
        };
        let level = self.level > 0.0 && self.level < 1.0;
        need(level, "level", "must be above 0 and below 1");
        need(self.tolerance >= 1.0 && self.tolerance.is_finite(), "tolerance", "must be at least 1");
        let enough = f64::from(self.permutations) + 1.0 >= 10.0 / self.level || !level;
        need(enough, "permutations", "must be at least 10 / `level`, or nothing could be significant");
        need(self.permutations <= 100_000, "permutations", "must be at most 100000");
        need(self.followed > 0.0 && self.followed <= 1.0, "followed", "must be above 0 and at most 1");
        need(self.most_sessions >= 2, "most_sessions", "must be at least 2");
        errors
    }
}

/// The stage.
struct DriftStage(DriftParams);

impl From<DriftParams> for DriftStage {
    fn from(params: DriftParams) -> Self {
        Self(params)
    }
}

impl Stage for DriftStage {
    fn run(&self, cx: &StageContext<'_>) -> anyhow::Result<()> {
        let data = Data::read(cx)?;
        cx.check_cancelled()?;
        let drift = cx.in_pool(|| self.compare(&data, Provenance::of(cx, "drift")))??;
        if drift.verdict == Some(Verdict::Refit) {
            cx.warn(format!("refit: {}", drift.reason));
        } else {
            cx.info(format!("{}: {}", drift.verdict.map_or("nothing to compare", Verdict::name), drift.reason));
        }
        let file = File::create(cx.output("drift")?).context("cannot create drift.json")?;
        let mut file = BufWriter::new(file);
        serde_json::to_writer_pretty(&mut file, &drift)?;
        writeln!(file)?;
        file.flush()?;
        if let Some(path) = cx.optional_output("plot") {
            let source = if data.simulated { "simulated" } else { "real" };
            let caption = plots::Caption {
                dataset: self.0.dataset.clone().unwrap_or_else(|| format!("{source} log")),
                simulated: data.simulated,
                scope: format!(
                    "reference: {} ({} sessions), new: {} ({})",
                    drift.reference.of,
                    plots::grouped(drift.reference.sessions),
                    drift.new.of,
                    plots::grouped(drift.new.sessions)
                ),
                stage: "drift".to_owned(),
            };
            plots::drift(path, &caption, &drift, &drift.key)?;
        }
        Ok(())
    }
}

/// Sessions of both groups, as they were read.
struct Data {
    reference: Side,
    new: Side,
    /// Texts and ids of templates: those of the reference, then those that only the new table has.
    templates: Templates,
    simulated: bool,
}

/// A group: rows of a table.
struct Side {
    of: String,
    traces: Arc<Traces>,
    /// Rows by time.
    rows: Vec<usize>,
    /// Number of each template of the table in [`Data::templates`].
    numbers: Vec<u32>,
    /// Scores to compare: by model, of rows that models were not fitted on.
    scores: Vec<Scored>,
}

/// The scores of a model.
struct Scored {
    name: &'static str,
    title: &'static str,
    /// Row and score, by time.
    rows: Vec<(usize, f64)>,
}

/// The scores of some rows of a table.
fn scored(table: &ScoreTable, rows: &[usize]) -> Vec<Scored> {
    let models = table.models.iter().filter_map(|model| {
        let scores = model.scores.as_ref()?;
        let rows = rows.iter().map(|&row| (row, scores[row])).collect();
        Some(Scored { name: model.name, title: model.title, rows })
    });
    models.collect()
}

impl Data {
    fn read(cx: &StageContext<'_>) -> anyhow::Result<Self> {
        let traces = Arc::new(cx.in_pool(|| Traces::read(cx.input("sessions")?))??);
        let mut templates = Templates::read(cx.input("templates")?)?;
        let own: Vec<u32> = (0..templates.texts.len() as u32).collect();
        let scores = cx.optional("scores").map(|path| read_scores(path, &traces)).transpose()?;
        let simulated = match cx.optional("summary") {
            Some(path) => {
                let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
                let summary: serde_json::Value =
                    serde_json::from_str(&text).with_context(|| format!("{} is no session summary", path.display()))?;
                summary["simulated"] == true
            }
            None => false,
        };
        let by_time = |traces: &Traces, keep: &dyn Fn(usize) -> bool| -> Vec<usize> {
            let mut rows: Vec<usize> = (0..traces.len()).filter(|&row| keep(row)).collect();
            rows.sort_by_key(|&row| (traces.starts[row], row));
            rows
        };
        let Some(new_path) = cx.optional("new_sessions") else {
            ensure!(
                cx.optional("new_scores").is_none() && cx.optional("new_templates").is_none(),
                "`new_scores` and `new_templates` belong to `new_sessions`, which is not given"
            );
            let Some(split) = cx.optional("split") else {
                bail!("there are no new sessions: give `split` (train and validation against test) or `new_sessions`")
            };
            let folds = read_split(split, &traces.ids)?.folds;
            use crate::support::traces::Fold as Of;
            let rows = |some: &[Of]| by_time(&traces, &|row| some.contains(&folds[row]));
            let of = |some: &[Of]| scores.as_ref().map(|table| scored(table, &rows(some))).unwrap_or_default();
            let (old, new) = ([Of::Train, Of::Validation], [Of::Test]);
            let side = |name: &str, rows, scores| Side {
                of: name.to_owned(),
                traces: Arc::clone(&traces),
                rows,
                numbers: own.clone(),
                scores,
            };
            return Ok(Self {
                reference: side("train and validation", rows(&old), of(&[Of::Validation])),
                new: side("test", rows(&new), of(&new)),
                templates,
                simulated,
            });
        };
        ensure!(
            cx.optional("split").is_none(),
            "with `new_sessions` all of `sessions` is the reference: leave `split` out"
        );
        let new = Arc::new(cx.in_pool(|| Traces::read(new_path))??);
        let numbers = match cx.optional("new_templates") {
            Some(path) => merge(&mut templates, &Templates::read(path)?),
            None => own.clone(),
        };
        let new_scores = cx.optional("new_scores").map(|path| read_scores(path, &new)).transpose()?;
        let unfitted =
            |table: &ScoreTable| scored(table, &by_time(&traces, &|row| !matches!(table.fold[row], Fold::Train)));
        let rows = by_time(&new, &|_| true);
        let scores_of_new = new_scores.as_ref().map(|table| scored(table, &rows)).unwrap_or_default();
        let reference = Side {
            of: "all sessions".to_owned(),
            rows: by_time(&traces, &|_| true),
            scores: scores.as_ref().map(unfitted).unwrap_or_default(),
            numbers: own,
            traces,
        };
        let new = Side { of: "new sessions".to_owned(), rows, scores: scores_of_new, numbers, traces: new };
        Ok(Self { reference, new, templates, simulated })
    }
}

/// Reads scores to judge by, in the order of the sessions.
fn read_scores(path: &Path, traces: &Traces) -> anyhow::Result<ScoreTable> {
    let table = ScoreTable::read(path)?.unseen();
    ensure!(table.ids == traces.ids, "{} scores other sessions than the sessions table has", path.display());
    Ok(table)
}

/// Adds templates that are not there yet, and returns the number of each; a template is known by its text.
fn merge(templates: &mut Templates, other: &Templates) -> Vec<u32> {
    let mut known: BTreeMap<String, u32> = templates.texts.iter().cloned().zip(0..).collect();
    let mut numbers = Vec::with_capacity(other.texts.len());
    for (id, text) in other.event_ids.iter().zip(&other.texts) {
        let next = templates.texts.len() as u32;
        let number = *known.entry(text.clone()).or_insert(next);
        if number == next {
            templates.event_ids.push(id.clone());
            templates.texts.push(text.clone());
        }
        numbers.push(number);
    }
    numbers
}

/// At most `most` of some rows, evenly spread.
fn thinned<T: Copy>(rows: &[T], most: usize) -> Vec<T> {
    let kept = rows.len().min(most);
    (0..kept).map(|i| rows[i * rows.len() / kept]).collect()
}

impl Side {
    /// How long a session could be followed, microseconds.
    fn seen(&self, row: usize, end: i64) -> i64 {
        self.traces.until.get(row).copied().unwrap_or(end) - self.traces.starts[row]
    }

    /// Rows that could be followed for so long, at most `most` of them.
    fn followed(&self, long: Option<i64>, most: usize) -> Vec<usize> {
        let end = self.traces.horizon().unwrap_or(0);
        let rows = self.rows.iter().copied().filter(|&row| long.is_none_or(|long| self.seen(row, end) >= long));
        thinned(&rows.collect::<Vec<_>>(), most)
    }

    /// How long a share of the sessions could be followed, where some were still open when the log ended.
    fn follow(&self, share: f64) -> Option<i64> {
        let open = self.rows.iter().any(|&row| self.traces.censored[row]);
        let end = self.traces.horizon()?;
        let mut seen: Vec<i64> = self.rows.iter().map(|&row| self.seen(row, end)).collect();
        seen.sort_unstable();
        (open && share < 1.0).then(|| seen[(((1.0 - share) * seen.len() as f64) as usize).min(seen.len() - 1)])
    }

    /// How long the longest session took, microseconds.
    fn longest(&self) -> i64 {
        self.rows.iter().map(|&row| self.traces.ends[row] - self.traces.starts[row]).max().unwrap_or(0)
    }

    /// The events of a session within so long after its start.
    fn events_of(&self, row: usize, long: Option<i64>) -> &[u32] {
        let range = self.traces.offsets[row]..self.traces.offsets[row + 1];
        let mut at = 0;
        let within = |gap: &&i64| {
            at += **gap * 1000;
            long.is_none_or(|long| at <= long)
        };
        let count = self.traces.gaps[range.clone()].iter().take_while(within).count();
        &self.traces.events[range][..count]
    }

    /// The template counts of a session.
    fn counts_of(&self, row: usize, long: Option<i64>) -> anyhow::Result<BTreeMap<u32, f64>> {
        let mut counts = BTreeMap::new();
        for &event in self.events_of(row, long) {
            let number = self.numbers.get(event as usize).copied();
            let number = number.with_context(|| format!("template {event} is not in templates.csv"))?;
            *counts.entry(number).or_insert(0.0) += 1.0;
        }
        Ok(counts)
    }

    /// The scores of a model that are compared: of sessions that were over.
    fn scores_of(&self, model: &Scored, params: &DriftParams) -> Vec<f64> {
        let over = model.rows.iter().filter(|(row, _)| params.followed >= 1.0 || !self.traces.censored[*row]);
        thinned(&over.map(|(_, score)| *score).collect::<Vec<_>>(), params.most_sessions)
    }

    fn group(&self, rows: &[usize], long: Option<i64>, params: &DriftParams) -> Group {
        let time = |row: Option<&usize>| row.map(|&row| rfc3339(self.traces.starts[row]));
        Group {
            of: self.of.clone(),
            sessions: rows.len() as u64,
            events: rows.iter().map(|&row| self.events_of(row, long).len() as u64).sum(),
            scored: self.scores.first().map_or(0, |model| self.scores_of(model, params).len() as u64),
            left_out: (self.rows.len() - rows.len()) as u64,
            censored: rows.iter().filter(|&&row| self.traces.censored[row]).count() as u64,
            first: time(rows.first()),
            last: time(rows.last()),
        }
    }
}

impl DriftStage {
    fn compare(&self, data: &Data, provenance: Provenance) -> anyhow::Result<Drift> {
        let params = &self.0;
        // No session is followed for longer than the longest one took, windows of time for no longer than a window.
        let longest = data.reference.longest().max(data.new.longest());
        let long = data.new.follow(params.followed).map(|long| long.min(longest));
        let [old, new] = [&data.reference, &data.new].map(|side| side.followed(long, params.most_sessions));
        let method = Method { permutations: params.permutations, level: params.level, seed: params.seed };
        let mut drift = Drift {
            verdict: None,
            reason: String::new(),
            reference: data.reference.group(&old, long, params),
            new: data.new.group(&new, long, params),
            followed_seconds: long.map(|micros| micros as f64 / 1e6),
            measures: Vec::new(),
            new_templates: Vec::new(),
            vanished_templates: Vec::new(),
            shifts: Vec::new(),
            method: MethodUsed {
                permutations: params.permutations,
                level: params.level,
                tolerance: params.tolerance,
                seed: params.seed,
                rule: "stable: no further apart than permuted sessions (Holm-adjusted); refit: further than \
                       `tolerance` times that, and than `tolerance` times the largest divergence between a stretch \
                       of the reference and the rest of it; watch: between the two"
                    .to_owned(),
            },
            key: provenance.key.clone(),
            provenance,
        };
        if old.is_empty() || new.is_empty() {
            let which = if old.is_empty() { "reference" } else { "new data" };
            drift.reason = format!("the {which} has no sessions to compare");
            return Ok(drift);
        }

        let mut counts = Counts::over(data.templates.texts.len());
        for (side, rows) in [(&data.reference, &old), (&data.new, &new)] {
            for &row in rows {
                counts.push(side.counts_of(row, long)?);
            }
        }
        let lengths = |side: &Side, rows: &[usize]| -> Vec<f64> {
            rows.iter().map(|&row| side.events_of(row, long).len() as f64).collect()
        };
        let both = [lengths(&data.reference, &old), lengths(&data.new, &new)].concat();
        let of_lengths = Counts::of_numbers(&both);
        let mut found = shifts(&[&counts, &of_lengths], old.len(), method).into_iter();
        let mut next = || found.next().expect("as many as were asked for");
        let (of_templates, of_lengths) = (next(), next());
        let all = old.len() + new.len();
        let groups = Groups { counts: &counts, reference: old.len(), all };
        self.templates(&mut drift, data, &groups, &of_templates);

        let mut measured =
            vec![("templates", "Shares of templates", of_templates), ("length", "Events of a session", of_lengths)];
        // All models scored the same sessions. The fused score first: it decides about alerts.
        let (mut names, mut scores, mut reference) = (Vec::new(), Vec::new(), 0);
        for model in data.reference.scores.iter().rev() {
            let Some(other) = data.new.scores.iter().find(|other| other.name == model.name) else { continue };
            let (a, b) = (data.reference.scores_of(model, params), data.new.scores_of(other, params));
            if !a.is_empty() && !b.is_empty() {
                let numbers = [a.as_slice(), &b].concat();
                names.push((model.name, model.title));
                scores.push(match model.name {
                    "lgbm" => Counts::of_shares(&numbers.iter().map(|m| 1.0 / (1.0 + (-m).exp())).collect::<Vec<_>>()),
                    "fusion" => Counts::of_shares(&numbers),
                    _ => Counts::of_numbers(&numbers),
                });
                reference = a.len();
            }
        }
        let of_scores = shifts(&scores.iter().collect::<Vec<_>>(), reference, method);
        measured.extend(names.into_iter().zip(of_scores).map(|((name, title), shift)| (name, title, shift)));
        self.judge(&mut drift, measured);
        Ok(drift)
    }

    /// Fills the lists of templates.
    fn templates(&self, drift: &mut Drift, data: &Data, groups: &Groups<'_>, found: &Shift) {
        let (old, new) = (0..groups.reference, groups.reference..groups.all);
        let (a, b) = (groups.counts.sums(old.clone()), groups.counts.sums(new.clone()));
        let with = (groups.counts.sessions_with(old.clone()), groups.counts.sessions_with(new.clone()));
        let (share_a, share_b) = (shares(&a), shares(&b));
        let bits = bits(&share_a, &share_b);
        let one = |n: usize| TemplateShift {
            event_id: data.templates.event_ids[n].clone(),
            text: data.templates.texts[n].clone(),
            reference: share_a[n],
            new: share_b[n],
            reference_sessions: with.0[n] as f64 / old.len() as f64,
            new_sessions: with.1[n] as f64 / new.len() as f64,
            bits: bits[n],
            p: found.category_p[n],
        };
        let list = |keep: &dyn Fn(usize) -> bool, by: &dyn Fn(usize) -> f64| {
            let mut some: Vec<usize> = (0..a.len()).filter(|&n| keep(n)).collect();
            some.sort_by(|&x, &y| by(y).total_cmp(&by(x)).then(x.cmp(&y)));
            some.truncate(self.0.top);
            some.into_iter().map(one).collect::<Vec<_>>()
        };
        drift.new_templates = list(&|n| a[n] == 0.0 && b[n] > 0.0, &|n| b[n]);
        drift.vanished_templates = list(&|n| a[n] > 0.0 && b[n] == 0.0, &|n| a[n]);
        drift.shifts = list(&|n| bits[n] > 0.0, &|n| bits[n]);
    }

    /// Fills measures, verdict and reason.
    fn judge(&self, drift: &mut Drift, shifts: Vec<(&str, &str, Shift)>) {
        let adjusted = holm(&shifts.iter().map(|(.., shift)| shift.p).collect::<Vec<_>>());
        for ((name, title, shift), p_adjusted) in shifts.into_iter().zip(adjusted) {
            let verdict = if p_adjusted > self.0.level {
                Verdict::Stable
            } else if shift.divergence > self.0.tolerance * shift.history.max(shift.chance) {
                Verdict::Refit
            } else {
                Verdict::Watch
            };
            drift.measures.push(Measure {
                name: name.to_owned(),
                title: title.to_owned(),
                verdict,
                divergence: shift.divergence,
                chance: shift.chance,
                p: shift.p,
                p_adjusted,
                history: shift.history,
                psi: shift.psi,
            });
        }
        let verdict = drift.measures.iter().map(|m| m.verdict).max().unwrap_or(Verdict::Stable);
        drift.verdict = Some(verdict);
        drift.reason = reason(drift, verdict);
    }
}

/// Both groups as one.
struct Groups<'a> {
    counts: &'a Counts,
    reference: usize,
    all: usize,
}

/// Says in one sentence why a verdict was given.
fn reason(drift: &Drift, verdict: Verdict) -> String {
    // Of those that say so, the one that is furthest beyond what is usual.
    let excess = |m: &Measure| m.divergence / m.history.max(m.chance).max(1e-9);
    let speaks = drift.measures.iter().filter(|m| m.verdict == verdict);
    let Some(most) = speaks.max_by(|a, b| excess(a).total_cmp(&excess(b))) else { return String::new() };
    let what = match most.name.as_str() {
        "templates" => "the shares of templates".to_owned(),
        "length" => "the number of events of a session".to_owned(),
        _ => format!("the score of {}", most.title),
    };
    let numbers = format!(
        "{:.4} bits from the reference; chance reaches {:.4}, stretches of the reference {:.4}",
        most.divergence, most.chance, most.history
    );
    let mut text = match verdict {
        Verdict::Stable => {
            return format!(
                "nothing is further from the reference than chance explains; closest to it is {what}, {numbers}"
            );
        }
        Verdict::Watch => format!("{what} moved, but not much further than within the reference: {numbers}"),
        Verdict::Refit => format!("{what} moved further than ever within the reference: {numbers}"),
    };
    if let ("templates", Some(top)) = (most.name.as_str(), drift.shifts.first()) {
        let percent = |share: f64| format!("{:.2} %", 100.0 * share);
        text.push_str(&format!(
            "; most of it is {} `{}`, from {} to {} of the events",
            top.event_id,
            top.text,
            percent(top.reference),
            percent(top.new)
        ));
    }
    text
}

#[cfg(test)]
mod tests;
