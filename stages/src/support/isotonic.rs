//! Isotonic regression: the best non-decreasing step function from scores to probabilities.
//!
//! Source: pool adjacent violators (Ayer et al. 1955; Best and Chakravarti 1990).

use serde::{Deserialize, Serialize};

/// A non-decreasing step function: `values[i]` from `bounds[i]` up to the next bound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Isotonic {
    /// Lowest score of each step, ascending.
    pub bounds: Vec<f64>,
    /// Value of each step, ascending.
    pub values: Vec<f64>,
}

impl Isotonic {
    /// Fits weighted scores to targets; scores that are equal share one value. Empty input gives the constant 0.
    ///
    /// # Panics
    /// The slices differ in length or a score is NaN.
    pub fn fit(scores: &[f64], targets: &[f64], weights: &[f64]) -> Self {
        assert!(scores.len() == targets.len() && scores.len() == weights.len(), "one target and weight for each score");
        assert!(scores.iter().all(|s| !s.is_nan()), "scores are numbers");
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]).then(a.cmp(&b)));
        // Blocks of (lowest score, weighted sum of targets, weight); neighbours that violate the order are merged.
        let mut blocks: Vec<(f64, f64, f64)> = Vec::new();
        let mut previous = f64::NAN;
        for i in order {
            let (sum, weight) = (targets[i] * weights[i], weights[i]);
            if scores[i] == previous {
                let last = blocks.last_mut().expect("a score came before");
                last.1 += sum;
                last.2 += weight;
            } else {
                // Settle the last tie before a new score begins; a later merge cannot come from below it.
                settle(&mut blocks);
                blocks.push((scores[i], sum, weight));
            }
            previous = scores[i];
        }
        settle(&mut blocks);
        Self {
            bounds: blocks.iter().map(|b| b.0).collect(),
            values: blocks.iter().map(|b| if b.2 > 0.0 { b.1 / b.2 } else { 0.0 }).collect(),
        }
    }

    /// Returns the value at a score; below the first bound the first value.
    pub fn at(&self, score: f64) -> f64 {
        let above = self.bounds.partition_point(|&b| b <= score);
        self.values.get(above.saturating_sub(1)).copied().unwrap_or(0.0)
    }
}

fn settle(blocks: &mut Vec<(f64, f64, f64)>) {
    while let [.., before, last] = blocks.as_slice() {
        if before.1 * last.2 < last.1 * before.2 {
            break;
        }
        let merged = (before.0, before.1 + last.1, before.2 + last.2);
        blocks.truncate(blocks.len() - 2);
        blocks.push(merged);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pools_violators_as_by_hand() {
        // Targets 1, 0 at scores 1, 2 pool to 1/2; 0, 1 at 3, 4: the 0 pools with the two before to 1/3.
        let fit = Isotonic::fit(&[4.0, 1.0, 2.0, 3.0], &[1.0, 1.0, 0.0, 0.0], &[1.0; 4]);
        assert_eq!(fit, Isotonic { bounds: vec![1.0, 4.0], values: vec![1.0 / 3.0, 1.0] });
        assert_eq!((fit.at(0.0), fit.at(3.9), fit.at(4.0)), (1.0 / 3.0, 1.0 / 3.0, 1.0));
    }

    #[test]
    fn weights_count_as_copies_and_ties_share_a_value() {
        let weighted = Isotonic::fit(&[0.0, 0.0, 1.0], &[0.0, 1.0, 1.0], &[3.0, 1.0, 1.0]);
        let copied = Isotonic::fit(&[0.0, 0.0, 0.0, 0.0, 1.0], &[0.0, 0.0, 0.0, 1.0, 1.0], &[1.0; 5]);
        assert_eq!(weighted, copied);
        assert_eq!(weighted.values, [0.25, 1.0]);
    }

    proptest! {
        #[test]
        fn never_decreases_and_keeps_the_mean(points in prop::collection::vec((-5i32..5, any::<bool>()), 1..60)) {
            let scores: Vec<f64> = points.iter().map(|p| f64::from(p.0)).collect();
            let targets: Vec<f64> = points.iter().map(|p| f64::from(u8::from(p.1))).collect();
            let fit = Isotonic::fit(&scores, &targets, &vec![1.0; scores.len()]);
            prop_assert!(fit.values.is_sorted() && fit.bounds.is_sorted());
            let mean: f64 = scores.iter().map(|&s| fit.at(s)).sum();
            prop_assert!((mean - targets.iter().sum::<f64>()).abs() < 1e-9);
        }
    }
}
