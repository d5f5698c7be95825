//! What each model has in a fused score: shares of what `fusion` says they add.

/// Returns the share of each part in all of them; all 0 where there is nothing to share.
pub(super) fn shares(parts: &[f64]) -> Vec<f64> {
    let sum: f64 = parts.iter().sum();
    parts.iter().map(|part| if sum > 0.0 { part / sum } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fusion::{Input, Model, Rule, Squash};

    fn model(rule: Rule) -> Model {
        let input = |name: &str, squash, weight| Input { name: name.to_owned(), squash, weight };
        Model {
            rule,
            why: String::new(),
            inputs: vec![
                input("lgbm", Squash::Margin { scale: 2.0 }, 0.3),
                input("ae", Squash::Ratio { scale: 1.0, cap: 3.0 }, 0.5),
                input("profile", Squash::Ratio { scale: 1.0, cap: 3.0 }, 0.2),
            ],
            intercept: -0.4,
            surplus: 2.0,
        }
    }

    #[test]
    fn the_parts_make_the_score() {
        for raw in [[-3.0, 0.1, 0.0], [1.5, 2.0, 7.0], [4.0, 0.0, 0.3]] {
            let logistic = model(Rule::Logistic);
            let score = logistic.score(&raw);
            let sum = logistic.parts(&raw).iter().sum::<f64>() + logistic.intercept;
            assert!((sum - (score / (1.0 - score)).ln()).abs() < 1e-9, "{raw:?}: {sum} {score}");
            let mean = model(Rule::Mean);
            assert!((mean.parts(&raw).iter().sum::<f64>() - mean.score(&raw)).abs() < 1e-12);
            let shares = shares(&logistic.parts(&raw));
            assert!(shares.iter().all(|s| *s >= 0.0) && (shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
        assert_eq!(shares(&[0.0, 0.0]), [0.0, 0.0]);
    }
}
