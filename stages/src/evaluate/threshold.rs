//! Choosing a threshold on the validation fold.
//!
//! A set of scores has one operating point per distinct score, and every threshold in the gap between that score and
//! the next lower one realises it. Where several operating points are equally good by the objective, the one with the
//! widest gap below wins (then the one with the higher score), and the threshold is the middle of its gap: what
//! later sessions score is least likely to fall on the wrong side of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::support::metrics::Step;

/// What the threshold is chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// The highest F-beta.
    FBeta,
    /// The lowest false-positive rate among thresholds that reach a given recall.
    FprAtTpr,
    /// As many alerts a day as people can look at. Needs no labels.
    AlertBudget,
}

/// A chosen threshold: a session is flagged when its score is at least `value`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Threshold {
    /// Flag at and above this score.
    pub value: f64,
    /// Ends of the gap in which every threshold decides alike on validation: above `low`, up to `high`.
    pub low: Option<f64>,
    /// See `low`.
    pub high: Option<f64>,
}

/// The threshold that realises flagging the first `flagged` of `steps` (0 = flags none).
fn at(steps: &[Step], flagged: usize) -> Threshold {
    let high = flagged.checked_sub(1).map(|last| steps[last].threshold);
    let low = steps.get(flagged).map(|next| next.threshold);
    let value = match (low, high) {
        (Some(low), Some(high)) => {
            let middle = low + (high - low) / 2.0;
            if middle > low { middle } else { high }
        }
        (None, Some(high)) => high,
        (Some(low), None) => low.next_up(),
        (None, None) => 0.0,
    };
    Threshold { value, low, high }
}

/// The width of the gap below the `flagged`-th step; an open gap (nothing below) is the narrowest.
fn gap(steps: &[Step], flagged: usize) -> f64 {
    let threshold = at(steps, flagged);
    threshold.high.zip(threshold.low).map_or(0.0, |(high, low)| high - low)
}

/// Returns the best of the operating points by `merit` (higher is better), ties to the widest gap, then the higher score.
fn best(steps: &[Step], candidates: impl Iterator<Item = usize>, merit: impl Fn(&Step) -> (f64, f64)) -> Option<usize> {
    let mut best: Option<(usize, (f64, f64), f64)> = None;
    for flagged in candidates {
        let (merit, gap) = (merit(&steps[flagged - 1]), gap(steps, flagged));
        let better = best.is_none_or(|(_, m, g)| {
            merit.0.total_cmp(&m.0).then(merit.1.total_cmp(&m.1)).then(gap.total_cmp(&g)).is_gt()
        });
        if better {
            best = Some((flagged, merit, gap));
        }
    }
    best.map(|(flagged, ..)| flagged)
}

/// The threshold with the highest F-beta. `None` unless both classes are there.
pub(crate) fn by_f_beta(steps: &[Step], beta: f64) -> Option<Threshold> {
    let last = both_classes(steps)?;
    let b = beta * beta;
    let merit = |s: &Step| ((1.0 + b) * s.tp / ((1.0 + b) * s.tp + b * (last.tp - s.tp) + s.fp), 0.0);
    best(steps, 1..=steps.len(), merit).map(|flagged| at(steps, flagged))
}

/// The threshold with the fewest false positives among those with a recall of at least `tpr`, then the most true
/// positives. `None` unless both classes are there.
pub(crate) fn by_fpr_at_tpr(steps: &[Step], tpr: f64) -> Option<Threshold> {
    let last = both_classes(steps)?;
    let reaches = |&flagged: &usize| steps[flagged - 1].tp >= tpr * last.tp - 1e-9;
    best(steps, (1..=steps.len()).filter(reaches), |s| (-s.fp, s.tp)).map(|flagged| at(steps, flagged))
}

/// The lowest threshold that flags at most `alerts` sessions, whatever their labels. Flags none when even the
/// highest score is shared by more.
pub(crate) fn by_alerts(steps: &[Step], alerts: f64) -> Threshold {
    let flagged = steps.iter().take_while(|s| s.tp + s.fp <= alerts + 1e-9).count();
    at(steps, flagged)
}

/// The lowest threshold at which at most `rate` of the benign scores are flagged: what a nominal rate of false
/// positives means. It lies just above the score that would be one too many, not in the middle of the gap: benign scores are
/// sparse there, and half a gap would spend less than what is granted. `None` without benign scores.
pub(crate) fn by_fpr(benign: &[Step], rate: f64) -> Option<Threshold> {
    let last = benign.last()?;
    let threshold = by_alerts(benign, rate * (last.tp + last.fp));
    Some(Threshold { value: threshold.low.map_or(threshold.value, f64::next_up), ..threshold })
}

fn both_classes(steps: &[Step]) -> Option<&Step> {
    steps.last().filter(|last| last.tp > 0.0 && last.fp > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::metrics::steps;
    use proptest::prelude::*;

    fn points(rows: &[(f64, bool)]) -> Vec<Step> {
        let scores: Vec<f64> = rows.iter().map(|r| r.0).collect();
        let labels: Vec<bool> = rows.iter().map(|r| r.1).collect();
        steps(&scores, &labels, &[])
    }

    #[test]
    fn a_clean_separation_is_cut_in_the_middle_of_its_gap() {
        let chosen = by_f_beta(&points(&[(0.9, true), (0.8, true), (0.2, false), (0.1, false)]), 1.5).unwrap();
        assert_eq!((chosen.low, chosen.high), (Some(0.2), Some(0.8)));
        assert!((chosen.value - 0.5).abs() < 1e-12);
    }

    #[test]
    fn beta_decides_between_recall_and_precision() {
        // Flag 1: P 1, R .5.  Flag 4: P .5, R 1.
        let rows = points(&[(0.9, true), (0.7, false), (0.6, false), (0.5, true), (0.1, false)]);
        assert_eq!(by_f_beta(&rows, 2.0).unwrap().high, Some(0.5));
        assert_eq!(by_f_beta(&rows, 0.5).unwrap().high, Some(0.9));
    }

    #[test]
    fn equally_good_points_are_told_apart_by_their_gaps() {
        // F1 of flagging 1 = 2/3 and of flagging 4 = 2/3; the gap below 0.9 is 0.2, below 0.5 it is 0.4.
        let rows = points(&[(0.9, true), (0.7, false), (0.6, false), (0.5, true), (0.1, false)]);
        assert_eq!(by_f_beta(&rows, 1.0).unwrap().high, Some(0.5));
    }

    #[test]
    fn the_lowest_fpr_at_a_recall_takes_the_free_true_positives_too() {
        let rows = points(&[(0.9, true), (0.8, true), (0.7, true), (0.6, false), (0.5, true), (0.1, false)]);
        assert_eq!(by_fpr_at_tpr(&rows, 0.5).unwrap().high, Some(0.7));
        assert_eq!(by_fpr_at_tpr(&rows, 1.0).unwrap().high, Some(0.5));
    }

    #[test]
    fn a_budget_never_spends_more_and_flags_none_rather_than_a_tie() {
        let rows = points(&[(0.9, false), (0.9, false), (0.5, false), (0.1, false)]);
        assert_eq!(by_alerts(&rows, 3.0).high, Some(0.5));
        assert_eq!(by_alerts(&rows, 2.5).high, Some(0.9));
        let none = by_alerts(&rows, 1.0);
        assert!(none.high.is_none() && none.value > 0.9);
    }

    #[test]
    fn one_class_has_no_threshold() {
        assert_eq!(by_f_beta(&points(&[(0.9, true)]), 1.0), None);
        assert_eq!(by_fpr_at_tpr(&points(&[(0.9, false)]), 0.9), None);
        assert_eq!(by_fpr(&[], 0.01), None);
    }

    #[test]
    fn a_nominal_rate_is_spent_up_to_the_score_that_would_be_too_many() {
        let rows: Vec<(f64, bool)> = (0..100).map(|i| (f64::from(i), false)).collect();
        let chosen = by_fpr(&points(&rows), 0.05).unwrap();
        assert!(chosen.value > 94.0 && chosen.value < 94.001, "{chosen:?}");
        assert!(by_fpr(&points(&rows), 0.0).unwrap().value > 99.0);
    }

    proptest! {
        #[test]
        fn no_threshold_among_the_scores_is_better(rows in prop::collection::vec((0u8..20, any::<bool>()), 2..40), beta in 0.3f64..3.0) {
            let rows: Vec<(f64, bool)> = rows.iter().map(|&(s, l)| (f64::from(s) / 7.0, l)).collect();
            if let Some(chosen) = by_f_beta(&points(&rows), beta) {
                let scores: Vec<f64> = rows.iter().map(|r| r.0).collect();
                let labels: Vec<bool> = rows.iter().map(|r| r.1).collect();
                let value = |t| crate::support::metrics::Confusion::at(&scores, &labels, t).f_beta(beta);
                let top = scores.iter().map(|&t| value(t)).fold(0.0, f64::max);
                prop_assert!((value(chosen.value) - top).abs() < 1e-12);
            }
        }
    }
}
