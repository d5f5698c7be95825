//! Logistic regression with weights that are not negative.

use anyhow::Context as _;
use linfa::Dataset;
use linfa::traits::Fit as _;
use linfa_logistic::LogisticRegression;
use ndarray::{Array1, Array2};

/// Fits `P(target) = sigmoid(weights . row + intercept)`; inputs whose weight would be negative are left out (weight 0),
/// worst first, as a higher score of any model must never make a session look healthier. `None` if all are left out.
///
/// # Errors
/// A value is not finite, a class is missing, or the solver fails.
pub(super) fn fit(rows: &[Vec<f64>], targets: &[bool], alpha: f64) -> anyhow::Result<Option<(Vec<f64>, f64)>> {
    let width = rows.first().map_or(0, Vec::len);
    let mut used: Vec<usize> = (0..width).collect();
    while !used.is_empty() {
        let values = rows.iter().flat_map(|row| used.iter().map(|&i| row[i])).collect();
        let records = Array2::from_shape_vec((rows.len(), used.len()), values)?;
        let dataset = Dataset::new(records, Array1::from_iter(targets.iter().copied()));
        let fitted = LogisticRegression::default()
            .alpha(alpha)
            .max_iterations(300)
            // The library's loss is a sum over rows: so is its gradient.
            .gradient_tolerance(1e-7 * rows.len().max(1000) as f64)
            .fit(&dataset)
            .context("the logistic regression of the fusion does not converge")?;
        // The library calls the more frequent class positive: turn the sign where that is the normal one.
        let sign = if fitted.labels().pos.class { 1.0 } else { -1.0 };
        let weights: Vec<f64> = fitted.params().iter().map(|w| sign * w).collect();
        let worst = (0..used.len()).min_by(|&a, &b| weights[a].total_cmp(&weights[b])).context("inputs remain")?;
        if weights[worst] < 0.0 {
            used.remove(worst);
            continue;
        }
        let mut all = vec![0.0; width];
        for (&i, &w) in used.iter().zip(&weights) {
            all[i] = w;
        }
        return Ok(Some((all, sign * fitted.intercept())));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anomalies_score_high_whichever_class_is_frequent() {
        for share in [5, 95] {
            let targets: Vec<bool> = (0..100).map(|i| i < share).collect();
            let rows: Vec<Vec<f64>> =
                targets.iter().enumerate().map(|(i, &t)| vec![f64::from(u8::from(t != (i % 10 == 0))), 0.5]).collect();
            let (weights, _) = fit(&rows, &targets, 0.1).unwrap().unwrap();
            assert!(weights[0] > 1.0, "{weights:?}");
        }
    }

    #[test]
    fn an_input_that_speaks_the_wrong_way_is_left_out() {
        let targets: Vec<bool> = (0..60).map(|i| i % 3 == 0).collect();
        let rows: Vec<Vec<f64>> = targets
            .iter()
            .enumerate()
            .map(|(i, &t)| {
                let t = f64::from(u8::from(t));
                vec![1.0 - t, 0.8 * t + 0.2 * f64::from(u8::from(i % 4 == 0))]
            })
            .collect();
        let (weights, _) = fit(&rows, &targets, 0.1).unwrap().unwrap();
        assert!(weights[0] == 0.0 && weights[1] > 0.0, "{weights:?}");
        let wrong: Vec<Vec<f64>> = rows.iter().map(|r| vec![r[0]]).collect();
        assert_eq!(fit(&wrong, &targets, 0.1).unwrap(), None);
    }
}
