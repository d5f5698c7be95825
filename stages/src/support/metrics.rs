//! Ranking metrics over raw scores; ties are handled as one step, so that the order of equal scores cannot matter.

/// One step of the ranking: everything scored at least `threshold` counts as flagged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The lowest flagged score.
    pub threshold: f64,
    /// Anomalous and flagged.
    pub tp: f64,
    /// Normal and flagged.
    pub fp: f64,
}

/// Returns the distinct operating points from the highest score down. Weights may be empty (all one).
///
/// # Panics
/// Scores, labels and non-empty weights differ in length.
pub fn steps(scores: &[f64], labels: &[bool], weights: &[f64]) -> Vec<Step> {
    assert_eq!(scores.len(), labels.len(), "one label for each score");
    assert!(weights.is_empty() || weights.len() == scores.len(), "one weight for each score");
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_unstable_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    let (mut tp, mut fp) = (0.0, 0.0);
    let mut out: Vec<Step> = Vec::new();
    for (rank, &i) in order.iter().enumerate() {
        let weight = weights.get(i).copied().unwrap_or(1.0);
        if labels[i] {
            tp += weight;
        } else {
            fp += weight;
        }
        let last_of_tie = order.get(rank + 1).is_none_or(|&next| scores[next] != scores[i]);
        if last_of_tie {
            out.push(Step { threshold: scores[i], tp, fp });
        }
    }
    out
}

/// Average precision: the sum of precision x gain in recall over the distinct scores. `None` without anomalies.
///
/// Source: the definition of scikit-learn's `average_precision_score` (no interpolation).
pub fn average_precision(scores: &[f64], labels: &[bool]) -> Option<f64> {
    average_precision_of(&steps(scores, labels, &[]))
}

/// Average precision of given operating points; see [`average_precision`].
pub fn average_precision_of(steps: &[Step]) -> Option<f64> {
    let positives = steps.last()?.tp;
    if positives == 0.0 {
        return None;
    }
    let mut before = 0.0;
    let mut sum = 0.0;
    for step in steps {
        sum += (step.tp - before) * step.tp / (step.tp + step.fp);
        before = step.tp;
    }
    Some(sum / positives)
}

/// Area under the ROC curve by the trapezoid rule (ties count half). `None` when a class is missing.
pub fn roc_auc(scores: &[f64], labels: &[bool]) -> Option<f64> {
    roc_auc_of(&steps(scores, labels, &[]))
}

/// Area under the ROC curve of given operating points; see [`roc_auc`].
pub fn roc_auc_of(steps: &[Step]) -> Option<f64> {
    let last = steps.last()?;
    if last.tp == 0.0 || last.fp == 0.0 {
        return None;
    }
    let mut area = 0.0;
    let (mut tp, mut fp) = (0.0, 0.0);
    for step in steps {
        area += (step.fp - fp) * (step.tp + tp) / 2.0;
        (tp, fp) = (step.tp, step.fp);
    }
    Some(area / (last.tp * last.fp))
}

/// Counts of a decision against the truth.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Confusion {
    /// Anomalous and flagged.
    pub tp: f64,
    /// Normal and flagged.
    pub fp: f64,
    /// Normal and not flagged.
    pub tn: f64,
    /// Anomalous and not flagged.
    pub fn_: f64,
}

impl Confusion {
    /// Counts `score >= threshold` against the labels.
    pub fn at(scores: &[f64], labels: &[bool], threshold: f64) -> Self {
        Self::weighted(scores, labels, &[], threshold)
    }

    /// As [`Confusion::at`], each score counted `weights` times (empty: once).
    pub fn weighted(scores: &[f64], labels: &[bool], weights: &[f64], threshold: f64) -> Self {
        let mut c = Self::default();
        for (i, (&score, &label)) in scores.iter().zip(labels).enumerate() {
            let weight = weights.get(i).copied().unwrap_or(1.0);
            match (score >= threshold, label) {
                (true, true) => c.tp += weight,
                (true, false) => c.fp += weight,
                (false, false) => c.tn += weight,
                (false, true) => c.fn_ += weight,
            }
        }
        c
    }

    /// Share of flagged that are anomalous; 0 when nothing is flagged.
    pub fn precision(&self) -> f64 {
        ratio(self.tp, self.tp + self.fp)
    }

    /// Share of anomalous that are flagged; 0 without anomalies.
    pub fn recall(&self) -> f64 {
        ratio(self.tp, self.tp + self.fn_)
    }

    /// Share of normal that are flagged; 0 without normals.
    pub fn fpr(&self) -> f64 {
        ratio(self.fp, self.fp + self.tn)
    }

    /// Weighted harmonic mean of precision and recall; `beta` above 1 favours recall.
    pub fn f_beta(&self, beta: f64) -> f64 {
        let b = beta * beta;
        ratio((1.0 + b) * self.tp, (1.0 + b) * self.tp + b * self.fn_ + self.fp)
    }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_hand_computed_values() {
        // Descending: 0.8 +, 0.4 -, 0.35 +, 0.1 -: the example of scikit-learn's documentation.
        let (scores, labels) = ([0.1, 0.4, 0.35, 0.8], [false, false, true, true]);
        assert!((average_precision(&scores, &labels).unwrap() - 0.833_333_333_333).abs() < 1e-9);
        assert!((roc_auc(&scores, &labels).unwrap() - 0.75).abs() < 1e-12);
    }

    #[test]
    fn ties_are_one_step() {
        let (scores, labels) = ([1.0, 1.0, 0.0], [true, false, false]);
        assert_eq!(steps(&scores, &labels, &[]).len(), 2);
        assert!((average_precision(&scores, &labels).unwrap() - 0.5).abs() < 1e-12);
        assert!((roc_auc(&scores, &labels).unwrap() - 0.75).abs() < 1e-12);
    }

    #[test]
    fn a_missing_class_has_no_value() {
        assert_eq!(average_precision(&[1.0], &[false]), None);
        assert_eq!(roc_auc(&[1.0], &[true]), None);
        assert_eq!(average_precision(&[], &[]), None);
    }

    #[test]
    fn confusion_counts_and_rates() {
        let c = Confusion::at(&[0.9, 0.8, 0.3, 0.1], &[true, false, true, false], 0.5);
        assert_eq!((c.tp, c.fp, c.fn_, c.tn), (1.0, 1.0, 1.0, 1.0));
        assert_eq!((c.precision(), c.recall(), c.fpr(), c.f_beta(1.0)), (0.5, 0.5, 0.5, 0.5));
    }
}
