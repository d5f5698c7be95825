//! Which sessions labelled normal are probably anomalies: confident learning (Northcutt, Jiang and Chuang 2021).
//!
//! A session labelled normal is doubted when its calibrated probability, from a model that had not seen it, is at least the
//! mean probability of the sessions labelled anomalous, and at least one half. With right labels that mean is close to 1;
//! labels turned around at random lower it, and turned anomalies still stand above it. A few healthy sessions look like
//! anomalies in any log: unless those doubted in train are at least one in a hundred of its anomalies, nobody is.

use std::path::Path;

use anyhow::ensure;
use serde_json::Value;

use crate::support::isotonic::Isotonic;
use crate::support::learning::{ScoreTable, read_json};
use crate::support::traces::{Fold, Split};

/// Fewest doubted train sessions, as a share of the train sessions labelled anomalous.
const LEAST: f64 = 0.01;

/// Sets the labels of doubted normal sessions of train and validation to unknown, and returns how many there were. None
/// without a trained model in `directory` (of the `lightgbm` kind).
///
/// # Errors
/// A file of the model is missing or malformed, or scores other sessions.
pub fn forget_mislabelled(
    directory: Option<&Path>,
    ids: &[String],
    labels: &mut [Option<bool>],
    split: &Split,
) -> anyhow::Result<usize> {
    let Some(directory) = directory else { return Ok(0) };
    if read_json::<Value>(&directory.join("card.json"))?["trained"] != true {
        return Ok(0);
    }
    let table = ScoreTable::read(&directory.join("scores.parquet"), &["raw_oof"])?;
    ensure!(table.ids == ids, "{} scored other sessions than there are", directory.display());
    let calibration: Isotonic = read_json(&directory.join("calibration.json"))?;
    let unseen: Vec<Option<f64>> =
        table.session_max("raw_oof")?.into_iter().map(|margin| margin.map(|m| calibration.at(m))).collect();
    let doubted = doubted(&unseen, labels, &split.folds);
    for &s in &doubted {
        labels[s] = None;
    }
    Ok(doubted.len())
}

fn doubted(unseen: &[Option<f64>], labels: &[Option<bool>], folds: &[Fold]) -> Vec<usize> {
    let of = |label: bool| {
        let held = |s: &usize| matches!(folds[*s], Fold::Train | Fold::Validation) && labels[*s] == Some(label);
        (0..labels.len()).filter(held).filter_map(|s| Some((s, unseen[s]?))).collect::<Vec<_>>()
    };
    let anomalies = of(true);
    let mean = anomalies.iter().map(|a| a.1).sum::<f64>() / anomalies.len() as f64;
    let least = mean.max(0.5);
    let doubted: Vec<usize> = of(false).into_iter().filter(|&(_, p)| p >= least).map(|(s, _)| s).collect();
    let in_train = |sessions: &[usize]| sessions.iter().filter(|&&s| folds[s] == Fold::Train).count() as f64;
    let known: Vec<usize> = anomalies.iter().map(|a| a.0).collect();
    if known.is_empty() || in_train(&doubted) < LEAST * in_train(&known) { Vec::new() } else { doubted }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turned_anomalies_are_doubted_and_odd_normal_sessions_are_not() {
        // Ten anomalies, two of them labelled normal; one normal session labelled anomalous; one that is merely odd.
        let (mut unseen, mut labels) = (vec![Some(0.01); 100], vec![Some(false); 100]);
        let mut folds = vec![Fold::Train; 100];
        for s in 0..10 {
            (unseen[s], labels[s]) = (Some(0.95), Some(s >= 2));
        }
        labels[50] = Some(true);
        unseen[60] = Some(0.6);
        assert_eq!(doubted(&unseen, &labels, &folds), [0, 1]);
        folds[0] = Fold::Validation;
        assert_eq!(doubted(&unseen, &labels, &folds), [0, 1]);
        folds[0] = Fold::Test;
        assert_eq!(doubted(&unseen, &labels, &folds), [1]);
        // In validation alone: no sign that labels are wrong.
        (folds[0], folds[1]) = (Fold::Validation, Fold::Validation);
        assert_eq!(doubted(&unseen, &labels, &folds), [0_usize; 0]);
        // Right labels: nobody. No anomaly has a label, or the model tells nothing apart: nobody either.
        folds.fill(Fold::Train);
        (labels[0], labels[1], labels[50]) = (Some(true), Some(true), Some(false));
        assert_eq!(doubted(&unseen, &labels, &folds), [0_usize; 0]);
        assert_eq!(doubted(&unseen, &[Some(false); 100], &folds), [0_usize; 0]);
        assert_eq!(doubted(&[Some(0.1); 100], &labels, &folds), [0_usize; 0]);
    }

    #[test]
    fn a_healthy_session_in_a_hundred_that_looks_anomalous_is_no_noise() {
        let (mut unseen, mut labels) = (vec![Some(0.01); 1000], vec![Some(false); 1000]);
        for s in 0..300 {
            (unseen[s], labels[s]) = (Some(0.99), Some(true));
        }
        unseen[400] = Some(0.999);
        unseen[401] = Some(0.999);
        let folds = vec![Fold::Train; 1000];
        assert_eq!(doubted(&unseen, &labels, &folds), [0_usize; 0]);
        unseen[402] = Some(0.999);
        assert_eq!(doubted(&unseen, &labels, &folds), [400, 401, 402]);
    }
}
