//! Training: distinct rows with weights, rounds by validation, one model per cross-fitting block and left-out type.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use logweir_engine::stage::StageContext;
use rayon::prelude::*;

use super::sys::{Booster, Dataset, Training};
use super::{LightgbmParams, Multiplicity};
use crate::support::isotonic::Isotonic;
use crate::support::learning::{Rows, censored_rows, cut_shares};
use crate::support::repeats::{Distinct, mix};
use crate::support::sparse::{Csr, Repeated};
use crate::support::traces::{Fold, Templates, Traces};

/// Block of validation rows: held out of the model that chooses the rounds.
const VALIDATION: u32 = u32::MAX;

/// What training yields.
pub(super) struct Trained {
    /// The model.
    pub(super) text: String,
    /// Margin to probability.
    pub(super) calibration: Isotonic,
    /// Margin of each row.
    pub(super) raw: Vec<f64>,
    /// Margin of each train row from the model that did not see its block, and of each validation row from the model
    /// that saw train only; elsewhere `raw`.
    pub(super) raw_oof: Vec<f64>,
    /// Margin of each train anomaly from the model that saw neither its type; elsewhere `raw_oof`.
    pub(super) raw_lto: Vec<f64>,
    /// Number of trees.
    pub(super) rounds: usize,
    /// Average precision on validation after each round.
    pub(super) curve: Vec<f64>,
    /// Distinct train rows.
    pub(super) distinct: usize,
    /// Censored copies among them.
    pub(super) copies: usize,
    /// Types for which a model without them was trained.
    pub(super) types: Vec<String>,
    /// Total gain by column.
    pub(super) gains: Vec<f64>,
}

/// Distinct (row, label) pairs with what they stand for.
struct Distilled {
    rows: Csr,
    labels: Vec<bool>,
    /// How many train rows each stands for.
    counts: Vec<f64>,
    /// Cross-fitting block of the first of them; no block for censored copies.
    blocks: Vec<Option<u32>>,
    /// Types of the anomalies among them.
    types: Vec<BTreeSet<String>>,
    /// The distinct pair of each train row given.
    groups: Vec<u32>,
    copies: usize,
}

fn distil(rows: &Rows, of: &[(usize, bool)], types: &BTreeMap<String, String>, copies: Option<&Repeated>) -> Distilled {
    let mut all = rows.rows.select(of.iter().map(|&(row, _)| row));
    let originals = all.len();
    if let Some(copies) = copies {
        all.append(copies);
    }
    // Equal rows of different label stay apart.
    let label = |i: usize| i < originals && of[i].1;
    let keys: Vec<u64> = (0..all.len()).map(|i| u64::from(all.of[i]) << 1 | u64::from(label(i))).collect();
    let hashes: Vec<u64> = keys.iter().map(|&key| mix(0, key)).collect();
    let distinct = Distinct::by(&hashes, |a, b| keys[a] == keys[b]);
    let n = distinct.first.len();
    let mut out = Distilled {
        rows: all.distinct.select(&distinct.first.iter().map(|&i| all.of[i] as usize).collect::<Vec<_>>()),
        labels: distinct.first.iter().map(|&i| label(i)).collect(),
        counts: vec![0.0; n],
        blocks: distinct.first.iter().map(|&i| (i < originals).then(|| block(rows, of[i].0))).collect(),
        types: vec![BTreeSet::new(); n],
        copies: distinct.first.iter().filter(|&&i| i >= originals).count(),
        groups: distinct.groups[..originals].to_vec(),
    };
    for (i, &group) in distinct.groups.iter().enumerate() {
        let group = group as usize;
        // A copy that equals a real row adds nothing; a copy that stands alone counts once.
        if i < originals {
            out.counts[group] += 1.0;
        } else if out.blocks[group].is_none() {
            out.counts[group] = 1.0;
        }
        if label(i)
            && let Some(kind) = types.get(rows.origins.id(of[i].0))
        {
            out.types[group].insert(kind.clone());
        }
    }
    out
}

fn block(rows: &Rows, row: usize) -> u32 {
    if rows.fold(row) == Fold::Validation { VALIDATION } else { rows.split.blocks[rows.session(row)] }
}

impl Distilled {
    /// Training weights of a subset: multiplicity, then both classes brought to the same total, mean 1.
    fn weights(&self, params: &LightgbmParams, subset: &[usize]) -> Vec<f32> {
        let weight = |i: usize| match params.multiplicity {
            Multiplicity::Linear => self.counts[i],
            Multiplicity::Log => 1.0 + self.counts[i].ln(),
            Multiplicity::None => 1.0,
        };
        let total = |label: bool| subset.iter().filter(|&&i| self.labels[i] == label).map(|&i| weight(i)).sum::<f64>();
        let (positive, negative) = (total(true), total(false));
        let sum = positive + negative;
        let factor = |label: bool| match (params.balanced, label) {
            (false, _) => subset.len() as f64 / sum,
            (true, true) => subset.len() as f64 / 2.0 / positive,
            (true, false) => subset.len() as f64 / 2.0 / negative,
        };
        let (positive, negative) = (factor(true), factor(false));
        let weights = subset.iter().map(|&i| weight(i) * if self.labels[i] { positive } else { negative });
        weights.map(|w| w as f32).collect()
    }

    fn dataset(&self, params: &LightgbmParams, subset: &[usize]) -> anyhow::Result<Dataset> {
        let labels: Vec<f32> = subset.iter().map(|&i| f32::from(u8::from(self.labels[i]))).collect();
        Dataset::new(&self.rows.select(subset), &labels, &self.weights(params, subset), &params.library(), None)
    }

    fn two_classes(&self, subset: &[usize]) -> bool {
        subset.iter().any(|&i| self.labels[i]) && subset.iter().any(|&i| !self.labels[i])
    }

    /// Trains on a subset for a fixed number of rounds.
    fn fit(&self, params: &LightgbmParams, subset: &[usize], rounds: usize) -> anyhow::Result<String> {
        let train = self.dataset(params, subset)?;
        let mut training = Training::new(&train, None, &params.library())?;
        for _ in 0..rounds {
            if !training.update()? {
                break;
            }
        }
        training.text(rounds)
    }
}

/// Trains the model, its cross-fitting companions and the calibration.
pub(super) fn train(
    cx: &StageContext<'_>,
    params: &LightgbmParams,
    features: &Path,
    rows: &Rows,
    types: &BTreeMap<String, String>,
    traces: Option<(Traces, Templates)>,
) -> anyhow::Result<Trained> {
    let labelled = |fold: Fold| -> Vec<(usize, bool)> {
        rows.of(fold).into_iter().filter_map(|row| Some((row, rows.label(row)?))).collect()
    };
    let (mut fitted_rows, validation_rows) = (labelled(Fold::Train), labelled(Fold::Validation));
    let copies = match traces {
        // The sessions are needed for their copies alone.
        Some((traces, templates)) => Some(cx.in_pool(|| Copies::of(params, features, rows, &traces, &templates))??),
        None => None,
    };
    let copies = |folds: &[Fold]| copies.as_ref().map(|copies| copies.of_folds(folds));
    let train = distil(rows, &fitted_rows, types, copies(&[Fold::Train]).as_ref());
    let (mut text, rounds, curve) = fit_by_validation(cx, params, &train, rows, &validation_rows)?;
    let train_only = text.clone();
    let refit = params.refit && !validation_rows.is_empty();
    let train = if refit {
        fitted_rows.extend(&validation_rows);
        distil(rows, &fitted_rows, types, copies(&[Fold::Train, Fold::Validation]).as_ref())
    } else {
        train
    };
    let everything: Vec<usize> = (0..train.labels.len()).collect();

    // The stored model, one without each block, and one without each anomaly type; all independent of each other.
    let blocks: BTreeSet<u32> = train.blocks.iter().flatten().copied().filter(|&b| b != VALIDATION).collect();
    let mut by_type: BTreeMap<&String, f64> = BTreeMap::new();
    for (i, kinds) in train.types.iter().enumerate() {
        for kind in kinds {
            *by_type.entry(kind).or_insert(0.0) += train.counts[i];
        }
    }
    let kinds: Vec<&String> =
        by_type.iter().filter(|(_, n)| **n >= f64::from(params.min_type)).map(|(kind, _)| *kind).collect();
    let mut tasks: Vec<(Vec<usize>, Vec<usize>)> = Vec::new();
    for &block in &blocks {
        let (held, rest) = everything.iter().partition(|&&i| train.blocks[i] == Some(block));
        tasks.push((held, rest));
    }
    for &kind in &kinds {
        let (held, rest) = everything.iter().partition(|&&i| train.types[i].contains(kind));
        tasks.push((held, rest));
    }
    let done = std::sync::atomic::AtomicU64::new(0);
    let total = tasks.len() as u64;
    let companion = |(held, rest): &(Vec<usize>, Vec<usize>)| -> anyhow::Result<Option<Vec<f64>>> {
        cx.check_cancelled()?;
        let margins = if train.two_classes(rest) {
            let booster = Booster::from_text(&train.fit(params, rest, rounds)?)?;
            Some(booster.margins(&train.rows.select(held))?)
        } else {
            None
        };
        cx.progress(done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1, total, "companion models");
        Ok(margins)
    };
    let (stored, scored) = cx.in_pool(|| {
        rayon::join(
            || if refit { train.fit(params, &everything, rounds).map(Some) } else { Ok(None) },
            || tasks.par_iter().map(companion).collect::<anyhow::Result<Vec<_>>>(),
        )
    })?;
    let scored = scored?;
    if let Some(stored) = stored? {
        text = stored;
    }

    let held: Vec<usize> = everything.iter().copied().filter(|&i| train.blocks[i] == Some(VALIDATION)).collect();
    let (raw, mut oof, of_held) = cx.in_pool(|| {
        let raw = margins(&text, &rows.rows.distinct)?;
        anyhow::Ok((raw, margins(&text, &train.rows)?, margins(&train_only, &train.rows.select(&held))?))
    })??;
    let raw = rows.rows.spread(&raw);
    for (&i, margin) in held.iter().zip(of_held) {
        oof[i] = margin;
    }
    let mut lto = vec![None::<f64>; train.labels.len()];
    for (task, ((held, _), margins)) in tasks.iter().zip(&scored).enumerate() {
        for (&i, &margin) in held.iter().zip(margins.iter().flatten()) {
            if task < blocks.len() {
                oof[i] = margin;
            } else {
                lto[i] = Some(lto[i].map_or(margin, |m| m.min(margin)));
            }
        }
    }
    let (mut raw_oof, mut raw_lto) = (raw.clone(), raw.clone());
    for (&(row, _), &group) in fitted_rows.iter().zip(&train.groups) {
        raw_oof[row] = oof[group as usize];
        raw_lto[row] = lto[group as usize].unwrap_or(oof[group as usize]);
    }
    let targets: Vec<f64> = train.labels.iter().map(|&y| f64::from(u8::from(y))).collect();
    // Copies stand for no session of the log, and validation has chosen the rounds: neither has a say in how probable
    // an anomaly is.
    let counts = train.counts.iter().zip(&train.blocks);
    let weights: Vec<f64> =
        counts.map(|(&n, block)| if block.is_some_and(|b| b != VALIDATION) { n } else { 0.0 }).collect();
    Ok(Trained {
        calibration: Isotonic::fit(&oof, &targets, &weights),
        gains: Booster::from_text(&text)?.gains(rows.rows.columns())?,
        raw,
        raw_oof,
        raw_lto,
        rounds,
        curve,
        distinct: train.labels.len(),
        copies: train.copies,
        types: kinds.into_iter().cloned().collect(),
        text,
    })
}

/// Trains on all train rows; the number of rounds is where average precision on validation is best, but at least
/// `min_rounds`. Without both classes in validation it is `min_rounds`.
fn fit_by_validation(
    cx: &StageContext<'_>,
    params: &LightgbmParams,
    train: &Distilled,
    rows: &Rows,
    validation_rows: &[(usize, bool)],
) -> anyhow::Result<(String, usize, Vec<f64>)> {
    let everything: Vec<usize> = (0..train.labels.len()).collect();
    let train_set = train.dataset(params, &everything)?;
    let validation = distil(rows, validation_rows, &BTreeMap::new(), None);
    let all: Vec<usize> = (0..validation.labels.len()).collect();
    let validation_set = if validation.two_classes(&all) {
        let labels: Vec<f32> = validation.labels.iter().map(|&y| f32::from(u8::from(y))).collect();
        let weights: Vec<f32> = validation.counts.iter().map(|&n| n as f32).collect();
        Some(Dataset::new(&validation.rows, &labels, &weights, &params.library(), Some(&train_set))?)
    } else {
        cx.info("validation lacks a class: no early stopping, the fewest rounds are used");
        None
    };
    let mut training = Training::new(&train_set, validation_set.as_ref(), &params.library())?;
    let most = if validation_set.is_some() { params.rounds } else { params.min_rounds.max(1) } as usize;
    let (mut curve, mut best) = (Vec::new(), (0, f64::NEG_INFINITY));
    for round in 1..=most {
        cx.check_cancelled()?;
        if !training.update()? {
            break;
        }
        if round % 10 == 0 {
            cx.progress(round as u64, most as u64, "rounds");
        }
        if validation_set.is_none() {
            best.0 = round;
            continue;
        }
        let value = training.evaluate()?;
        curve.push(value);
        if value > best.1 {
            best = (round, value);
        }
        if round >= params.min_rounds as usize && round >= best.0 + params.patience as usize {
            break;
        }
    }
    let trained = curve.len().max(best.0);
    let rounds = best.0.max(params.min_rounds as usize).min(trained).max(1);
    Ok((training.text(rounds)?, rounds, curve))
}

/// Censored copies of benign sessions: of those that are the first of their sequence in train, or in train and validation.
struct Copies {
    rows: Repeated,
    /// The session of each row.
    origin: Vec<usize>,
    /// Sessions copied for train, and for train and validation; ascending.
    first: [Vec<usize>; 2],
}

impl Copies {
    fn of(
        params: &LightgbmParams,
        features: &Path,
        rows: &Rows,
        traces: &Traces,
        templates: &Templates,
    ) -> anyhow::Result<Self> {
        anyhow::ensure!(traces.ids == rows.ids(), "the sessions table and the features hold different sessions");
        let distinct = Distinct::of_slices(&traces.offsets, &traces.events);
        let first = [&[Fold::Train][..], &[Fold::Train, Fold::Validation]].map(|folds| {
            let mut seen = vec![false; distinct.first.len()];
            let benign = |&s: &usize| {
                folds.contains(&rows.split.folds[s]) && rows.labels[s] == Some(false) && !traces.censored[s]
            };
            let new = |&s: &usize| !std::mem::replace(&mut seen[distinct.groups[s] as usize], true);
            (0..traces.len()).filter(benign).filter(new).collect::<Vec<usize>>()
        });
        let all: Vec<usize> = first.concat().into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        let (columns, shares) = (rows.rows.columns(), cut_shares(params.censored_copies));
        let (rows, origin) = censored_rows(features, &rows.keep, columns, traces, templates, &all, &shares)?;
        Ok(Self { rows, origin, first })
    }

    /// Those of some folds.
    fn of_folds(&self, folds: &[Fold]) -> Repeated {
        let sessions = &self.first[usize::from(folds.contains(&Fold::Validation))];
        let wanted = |&copy: &usize| sessions.binary_search(&self.origin[copy]).is_ok();
        self.rows.select((0..self.origin.len()).filter(wanted))
    }
}

/// Returns the margin of each row, on the current rayon pool. A booster stays on one thread, and is cheap to load against what
/// it then computes.
pub(super) fn margins(text: &str, rows: &Csr) -> anyhow::Result<Vec<f64>> {
    let all: Vec<usize> = (0..rows.len()).collect();
    let chunk = rows.len().div_ceil(rayon::current_num_threads()).max(1);
    let chunks: Vec<Vec<f64>> = all
        .par_chunks(chunk)
        .map(|some| Booster::from_text(text)?.margins(&rows.select(some)))
        .collect::<anyhow::Result<_>>()?;
    Ok(chunks.concat())
}
