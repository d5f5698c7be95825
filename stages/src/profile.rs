//! The `profile` kind: how far a session's event counts are from the nearest benign session.
//!
//! Distance: sum over templates of idf times the difference of `ln(1 + count)`, against every distinct benign count
//! vector. A session may also match the beginning of a benign one, if at that point a benign session has once been
//! silent for as long as this one is before the log ends; so a block written a minute ago is not called unusual for its
//! missing deletion, and one that stopped in the middle of its write hours ago is. The silence says all there is to
//! know: whether a session was called censored, which depends on a cut-off in hours, does not matter here.

mod difference;
mod index;

use std::path::Path;

use anyhow::Context as _;
use logweir_engine::stage::{ParamError, Params, Slot, Stage, StageContext, StageKind, make, schema_of};
use polars::prelude::Column;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::lightgbm::forget_mislabelled;
use crate::support::conformal::{Conformal, quantile};
use crate::support::learning::{nulls, numbers, read_json, write_json, write_scores};
use crate::support::matrix::Origins;
use crate::support::repeats::{Distinct, mix};
use crate::support::traces::{Fold, Templates, Trace, Traces, read_labels, read_split};
use difference::Names;
pub use difference::{Deviation, Difference, Differences};
use index::{Counts, Index, Query, Site};

/// The `profile` kind.
pub fn kind() -> StageKind {
    StageKind {
        name: "profile",
        about: "idf-weighted distance to the nearest benign count vector, aware of sessions still open",
        version: 1,
        code: crate::code("profile"),
        inputs: const {
            &[
                Slot::file("sessions", "sessions.parquet"),
                Slot::file("templates", "templates.csv"),
                Slot::file("labels", "sessions.csv; without any label all train sessions count as benign"),
                Slot::file("split", "split.parquet"),
                Slot::directory(
                    "lgbm",
                    "model directory of `lightgbm`: normal sessions that it takes for mislabelled are left out",
                )
                .optional(),
            ]
        },
        outputs: const { &[Slot::directory("model", "profile.parquet, profile.json, card.json, scores.parquet")] },
        schema: schema_of::<ProfileParams>,
        make: make::<ProfileParams, Profile>,
    }
}

/// Parameters of `profile`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProfileParams {
    /// Let sessions that may go on after the end of the log match beginnings of benign sessions.
    pub prefixes: bool,
    /// A beginning matches if the session has been silent for at most this many times the longest silence that a
    /// benign session had there.
    pub slack: f64,
    /// Silence that any beginning is granted, seconds.
    pub grace: f64,
    /// Gather benign sessions of validation, too. Validation sessions keep a distance to those of train only
    /// (`distance_oof`), which the reference is made of.
    pub refit: bool,
    /// Threshold on the card: this quantile of benign validation distances.
    pub threshold: f64,
    /// Reasons are given for sessions whose rank against benign validation is at least this.
    pub explain: f64,
}

impl Default for ProfileParams {
    fn default() -> Self {
        Self { prefixes: true, slack: 2.0, grace: 60.0, refit: true, threshold: 0.995, explain: 0.9 }
    }
}

impl Params for ProfileParams {
    fn check(&self) -> Vec<ParamError> {
        let mut errors = Vec::new();
        if !(self.slack >= 1.0 && self.slack.is_finite()) {
            errors.push(ParamError::new("slack", "must be at least 1"));
        }
        if !(self.grace >= 0.0 && self.grace.is_finite()) {
            errors.push(ParamError::new("grace", "must be at least 0 seconds"));
        }
        if !(self.threshold > 0.5 && self.threshold < 1.0) {
            errors.push(ParamError::new("threshold", "must be a quantile in (0.5, 1)"));
        }
        if !(0.0..=1.0).contains(&self.explain) {
            errors.push(ParamError::new("explain", "must be a rank in [0, 1]"));
        }
        errors
    }
}

/// The stage.
pub struct Profile(ProfileParams);

impl From<ProfileParams> for Profile {
    fn from(params: ProfileParams) -> Self {
        Self(params)
    }
}

impl Stage for Profile {
    fn run(&self, cx: &StageContext<'_>) -> anyhow::Result<()> {
        let traces = cx.in_pool(|| Traces::read(cx.input("sessions")?))??;
        let templates = Templates::read(cx.input("templates")?)?;
        let mut labels = read_labels(cx.input("labels")?, &traces.ids)?;
        let split = read_split(cx.input("split")?, &traces.ids)?;
        let doubted = forget_mislabelled(cx.optional("lgbm"), &traces.ids, &mut labels, &split)?;
        let out = cx.output("model")?;
        let of = |fold: Fold, label: Option<bool>| -> Vec<usize> {
            (0..traces.len()).filter(|&s| split.folds[s] == fold && labels[s] == label).collect()
        };
        let whole = Origins::of_sessions(traces.ids.clone());
        let Some(benign) = [Some(false), None].into_iter().find(|&label| !of(Fold::Train, label).is_empty()) else {
            let why = "no train session is labelled normal, and none is unlabelled";
            cx.warn(format!("the benign profile is not trained: {why}"));
            let mut columns = ["distance", "bounded", "distance_oof"].map(|name| nulls(name, traces.len())).to_vec();
            columns.push(Column::new("reason".into(), vec![""; traces.len()]));
            write_scores(&out.join("scores.parquet"), &whole, columns)?;
            return write_json(
                &out.join("card.json"),
                &json!({"trained": false, "why_not": why, "parameters": self.0}),
            );
        };
        let train = of(Fold::Train, benign);
        cx.progress(0, 2, "steps");
        let mut fitted = train.clone();
        if self.0.refit {
            fitted.extend(of(Fold::Validation, benign));
        }
        let blocks: Vec<u32> =
            (0..traces.len()).map(|s| if split.folds[s] == Fold::Train { split.blocks[s] } else { HELD }).collect();
        let index = Index::fit(&traces, &templates, &fitted, &blocks, self.0.prefixes);
        index.write(&out.join("profile.parquet"))?;
        // What is scored is what was stored, but for the blocks, which only cross-fitting needs.
        let mut index = index;
        cx.check_cancelled()?;
        cx.progress(1, 2, "steps");
        let local = index.bind(&templates);
        let queries = index.queries(&self.0, &traces, &local);
        let found = cx.in_pool(|| index.nearest_all(&queries.distinct))?;
        let distance: Vec<f64> = queries.of.iter().map(|&q| found[q as usize].0).collect();
        let held: Vec<usize> =
            (0..traces.len()).filter(|&s| matches!(split.folds[s], Fold::Train | Fold::Validation)).collect();
        let distance_oof = cx.in_pool(|| cross_fitted(&index, &queries, &distance, &held, &blocks))?;

        let mut reference: Vec<f64> = of(Fold::Validation, benign).iter().map(|&s| distance_oof[s]).collect();
        let mut reference_fold = Fold::Validation;
        if reference.is_empty() {
            cx.warn("validation holds no benign session: the distance is referred to cross-fitted train sessions");
            reference = train.iter().map(|&s| distance_oof[s]).collect();
            reference_fold = Fold::Train;
        }
        reference.sort_unstable_by(f64::total_cmp);
        let conformal = Conformal::fit(&reference).context("a distance is not finite")?;
        let threshold = quantile(&reference, self.0.threshold);
        index.forget_blocks();
        let model = Model {
            about: About {
                params: self.0.clone(),
                templates: index.templates.clone(),
                event_ids: index.event_ids.clone(),
                idf: index.idf.clone(),
                unseen: index.unseen,
                reference: conformal,
            },
            index,
        };
        write_json(&out.join("profile.json"), &model.about)?;
        let scores = model.scores(&templates, &queries, &found);
        let columns = vec![
            numbers("distance", &scores.distance),
            numbers("bounded", &scores.bounded),
            numbers("distance_oof", &distance_oof),
            Column::new("reason".into(), &scores.reason),
        ];
        write_scores(&out.join("scores.parquet"), &whole, columns)?;
        cx.progress(2, 2, "steps");
        let card = json!({
            "trained": true,
            "parameters": self.0,
            "training": {"rows": fitted.len(), "sessions": fitted.len(), "anomalies": 0,
                "labels": if benign.is_some() { "only sessions labelled normal" } else { "none: all train sessions" }},
            "complete_vectors": model.index.complete.len(),
            "prefix_vectors": model.index.prefixes.len(),
            "distinct_queries": queries.distinct.len(),
            "threshold": threshold,
            "reference_fold": reference_fold.name(),
            "left_out_as_mislabelled": doubted,
        });
        write_json(&out.join("card.json"), &card)
    }
}

/// Block of sessions outside train: validation is one block, held out as a whole.
const HELD: u32 = 31;

/// Distance of each of the sessions `held` to those of other blocks; other sessions keep theirs.
fn cross_fitted(index: &Index, queries: &Queries, distance: &[f64], held: &[usize], blocks: &[u32]) -> Vec<f64> {
    // Queries of one block that are equal have one answer.
    let mut keys: Vec<(u32, u32)> = held.iter().map(|&s| (queries.of[s], blocks[s])).collect();
    keys.sort_unstable();
    keys.dedup();
    let found: Vec<f64> = keys
        .par_iter()
        .map(|&(query, block)| index.nearest(&queries.distinct[query as usize], Some(block)).0)
        .collect();
    let mut out = distance.to_vec();
    for &s in held {
        let at = keys.binary_search(&(queries.of[s], blocks[s])).expect("every key was collected");
        out[s] = found[at];
    }
    out
}

/// Distinct count vectors to look up.
struct Queries {
    distinct: Vec<Query>,
    /// The query of each session.
    of: Vec<u32>,
}

impl Index {
    fn queries(&self, params: &ProfileParams, traces: &Traces, local: &[u32]) -> Queries {
        let horizon = traces.horizon().unwrap_or(0);
        // Sessions of equal events have equal counts: those are counted once.
        let sequences = Distinct::of_slices(&traces.offsets, &traces.events);
        let counted: Vec<Counts> =
            sequences.first.iter().map(|&s| self.counts(&traces.trace(s, horizon), local)).collect();
        let hashes: Vec<u64> = counted
            .iter()
            .map(|counts| counts.iter().fold(0, |all, &(t, n)| mix(all, u64::from(t) << 32 | u64::from(n))))
            .collect();
        let alike = Distinct::by(&hashes, |a, b| counted[a] == counted[b]);
        let keys: Vec<(u32, Option<i64>)> = (0..traces.len())
            .map(|s| {
                let counts = alike.groups[sequences.groups[s] as usize];
                (counts, self.silence(params, &traces.trace(s, horizon)))
            })
            .collect();
        let hashes: Vec<u64> = keys
            .iter()
            .map(|&(counts, silence)| mix(u64::from(counts), silence.map_or(u64::MAX, |s| s as u64)))
            .collect();
        let found = Distinct::by(&hashes, |a, b| keys[a] == keys[b]);
        let query = |&s: &usize| {
            let (counts, silence) = keys[s];
            self.query(counted[alike.first[counts as usize]].clone(), silence)
        };
        Queries { distinct: found.first.iter().map(query).collect(), of: found.groups }
    }

    /// The least silence, in milliseconds, that a benign beginning must have had to match; `None` where beginnings do
    /// not match at all. In powers of two, so that sessions of equal counts rarely differ.
    fn silence(&self, params: &ProfileParams, trace: &Trace<'_>) -> Option<i64> {
        if !params.prefixes {
            return None;
        }
        if trace.silence as f64 <= params.grace * 1000.0 {
            return Some(0);
        }
        let needed = trace.silence as f64 / params.slack;
        Some(2f64.powf((needed.log2() * 4.0).floor() / 4.0) as i64)
    }

    fn nearest_all(&self, queries: &[Query]) -> Vec<(f64, Option<Site>)> {
        queries.par_iter().map(|query| self.nearest(query, None)).collect()
    }
}

/// What is stored beside the vectors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct About {
    params: ProfileParams,
    /// Texts of the templates of benign train sessions.
    templates: Vec<String>,
    /// Event ids for people, in the same order.
    event_ids: Vec<String>,
    /// Inverse document frequency of each.
    idf: Vec<f64>,
    /// Weight of a template that no benign train session has.
    unseen: f64,
    /// Distances of benign validation sessions.
    reference: Conformal,
}

/// Scores of the profile, by session.
pub struct Scores {
    /// Distance to the nearest benign vector.
    pub distance: Vec<f64>,
    /// Conformal rank in [0, 1].
    pub bounded: Vec<f64>,
    /// What differs from the nearest benign session; empty where the distance is ordinary.
    pub reason: Vec<String>,
}

/// A profile as `score` uses it.
pub struct Model {
    about: About,
    index: Index,
}

impl Model {
    /// Loads a model directory; `None` if it was not trained.
    ///
    /// # Errors
    /// A file is missing or malformed.
    pub fn load(directory: &Path) -> anyhow::Result<Option<Self>> {
        let card: serde_json::Value = read_json(&directory.join("card.json"))?;
        if card["trained"] != true {
            return Ok(None);
        }
        let about: About = read_json(&directory.join("profile.json"))?;
        let index = Index::read(
            &directory.join("profile.parquet"),
            about.templates.clone(),
            about.event_ids.clone(),
            about.idf.clone(),
            about.unseen,
        )?;
        Ok(Some(Self { about, index }))
    }

    /// Distances of benign validation sessions.
    pub fn reference(&self) -> &Conformal {
        &self.about.reference
    }

    /// Scores sessions on the current rayon pool.
    pub fn score(&self, traces: &Traces, templates: &Templates) -> Scores {
        let local = self.index.bind(templates);
        let queries = self.index.queries(&self.about.params, traces, &local);
        let found = self.index.nearest_all(&queries.distinct);
        self.scores(templates, &queries, &found)
    }

    fn scores(&self, templates: &Templates, queries: &Queries, found: &[(f64, Option<Site>)]) -> Scores {
        let names = Names::new(&self.index, templates);
        let reasons: Vec<String> = queries
            .distinct
            .iter()
            .zip(found)
            .map(|(query, &(distance, site))| {
                if distance > 0.0 && self.about.reference.rank(distance) >= self.about.params.explain {
                    Difference::of(&names, query, (distance, site)).sentence()
                } else {
                    String::new()
                }
            })
            .collect();
        let distance: Vec<f64> = queries.of.iter().map(|&q| found[q as usize].0).collect();
        let bounded = distance.iter().map(|&d| self.about.reference.rank(d)).collect();
        let reason = queries.of.iter().map(|&q| reasons[q as usize].clone()).collect();
        Scores { distance, bounded, reason }
    }

    /// Returns how sessions differ from their nearest benign ones, on the current rayon pool.
    pub fn differences(&self, traces: &Traces, templates: &Templates) -> Differences {
        let local = self.index.bind(templates);
        let queries = self.index.queries(&self.about.params, traces, &local);
        let found = self.index.nearest_all(&queries.distinct);
        let names = Names::new(&self.index, templates);
        let distinct = queries.distinct.iter().zip(found);
        Differences { distinct: distinct.map(|(q, found)| Difference::of(&names, q, found)).collect(), of: queries.of }
    }
}

/// Reads the benign validation distances of a model directory.
///
/// # Errors
/// The file is missing or malformed.
pub fn reference(directory: &Path) -> anyhow::Result<Conformal> {
    let about: About = read_json(&directory.join("profile.json"))?;
    Ok(about.reference)
}

#[cfg(test)]
mod tests;
