//! Conformal ranks: how extreme a score is against a reference of benign scores, in [0, 1].
//!
//! Within the reference the rank is empirical (Vovk et al. 2005): `1 - (1 + #{reference >= score}) / (n + 1)`. Beyond
//! its largest value, where the empirical rank cannot tell scores apart, the tail goes on as an exponential whose scale
//! is the mean excess over the reference's upper decile, so that the order of raw scores is kept.

use serde::{Deserialize, Serialize};

/// A sorted reference of benign scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conformal {
    /// Distinct reference scores, ascending.
    pub scores: Vec<f64>,
    /// How many reference scores are at most each of `scores`.
    pub at_most: Vec<f64>,
    /// Mean excess over the upper decile, the scale of the tail; above 0.
    pub tail: f64,
    /// Mean of the reference.
    pub mean: f64,
    /// Standard deviation of the reference; above 0.
    pub deviation: f64,
}

impl Conformal {
    /// Takes the reference scores. `None` if there are none or one is not finite.
    pub fn fit(reference: &[f64]) -> Option<Self> {
        if reference.is_empty() || reference.iter().any(|s| !s.is_finite()) {
            return None;
        }
        let mut sorted = reference.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let n = sorted.len() as f64;
        let (mut scores, mut at_most): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
        for (i, &score) in sorted.iter().enumerate() {
            if scores.last() == Some(&score) {
                *at_most.last_mut().expect("as long as scores") = (i + 1) as f64;
            } else {
                scores.push(score);
                at_most.push((i + 1) as f64);
            }
        }
        let start = quantile(&sorted, 0.9);
        let excess: Vec<f64> = sorted.iter().map(|s| s - start).filter(|e| *e > 0.0).collect();
        let mean = sorted.iter().sum::<f64>() / n;
        let deviation = (sorted.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / n).sqrt();
        let floor = 1e-6_f64.max(mean.abs() * 1e-3);
        let tail = if excess.is_empty() { floor } else { excess.iter().sum::<f64>() / excess.len() as f64 };
        Some(Self { scores, at_most, tail: tail.max(floor), mean, deviation: deviation.max(1e-9) })
    }

    /// Returns `-ln` of the p-value: 0 for the most ordinary, growing without bound, in the order of the scores.
    pub fn surprise(&self, score: f64) -> f64 {
        let n = self.at_most.last().copied().unwrap_or(0.0);
        let below = self.scores.partition_point(|&s| s < score);
        let less = if below == 0 { 0.0 } else { self.at_most[below - 1] };
        let rank = ((n - less + 1.0) / (n + 1.0)).ln();
        let last = self.scores.last().copied().unwrap_or(0.0);
        if score > last { -rank + (score - last) / self.tail } else { -rank }
    }

    /// Returns the rank in [0, 1]: one minus the p-value. In f64 scores far beyond the reference may tie at 1; rank by
    /// [`Conformal::surprise`] where that matters.
    pub fn rank(&self, score: f64) -> f64 {
        -(-self.surprise(score)).exp_m1()
    }

    /// Returns the lowest reference score that at least a share `q` of the reference does not exceed.
    pub fn quantile(&self, q: f64) -> f64 {
        let needed = q * self.at_most.last().copied().unwrap_or(0.0);
        let at = self.at_most.partition_point(|&n| n < needed);
        self.scores.get(at).or(self.scores.last()).copied().unwrap_or(0.0)
    }

    /// Returns how many standard deviations a score lies above the mean of the reference.
    pub fn z(&self, score: f64) -> f64 {
        (score - self.mean) / self.deviation
    }
}

/// Returns a quantile of sorted values by linear interpolation.
///
/// # Panics
/// There are no values.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    sorted[low] + (sorted[high] - sorted[low]) * (at - low as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranks_as_by_hand() {
        let c = Conformal::fit(&[1.0, 2.0, 2.0, 4.0]).unwrap();
        // At least 0.5: all 4; p = 5/5. At least 2: 3; p = 4/5. At least 3: 1; p = 2/5. Beyond: p < 1/5.
        assert!(c.rank(0.5).abs() < 1e-12);
        assert!((c.rank(2.0) - 0.2).abs() < 1e-12);
        assert!((c.rank(3.0) - 0.6).abs() < 1e-12);
        assert!((c.rank(4.0) - 0.6).abs() < 1e-12);
        // The decile is at 2 + 2 * 0.7 = 3.4, the mean excess 0.6: one scale beyond is a factor e.
        assert!((c.rank(4.6) - (1.0 - 0.2 / std::f64::consts::E)).abs() < 1e-9);
        assert!((c.z(2.25)).abs() < 1e-12);
        assert!(Conformal::fit(&[]).is_none() && Conformal::fit(&[f64::NAN]).is_none());
    }

    #[test]
    fn a_constant_reference_still_orders_what_is_beyond() {
        let c = Conformal::fit(&[0.0; 50]).unwrap();
        assert_eq!(c.rank(0.0), 0.0);
        assert!(c.surprise(2.0) > c.surprise(1.0) && c.rank(1.0) <= 1.0);
    }

    proptest! {
        #[test]
        fn stays_in_bounds_and_keeps_the_order(mut scores in prop::collection::vec(0.0..10.0f64, 1..40), a in 0.0..50.0f64, b in 0.0..50.0f64) {
            let c = Conformal::fit(&scores).unwrap();
            scores.reverse();
            prop_assert_eq!(&Conformal::fit(&scores).unwrap().scores, &c.scores);
            let (low, high) = if a < b { (a, b) } else { (b, a) };
            prop_assert!(c.surprise(low) <= c.surprise(high));
            prop_assert!((0.0..=1.0).contains(&c.rank(high)));
        }
    }
}
