//! What each model has in a fused score.

use crate::fusion::{Model, Rule, Squash};

/// Returns what each input adds to the log-odds of the score above the intercept (`mean`: to the score itself), in the
/// order of the inputs; none is negative. What the supervised margin adds where the regression is sure counts as that
/// model's.
///
/// # Panics
/// Another number of scores than inputs.
pub(super) fn parts(model: &Model, raw: &[f64]) -> Vec<f64> {
    assert_eq!(raw.len(), model.inputs.len(), "one raw score for each input");
    let inputs = || model.inputs.iter().zip(raw);
    let mut parts: Vec<f64> = inputs().map(|(input, &score)| input.weight * input.squash.at(score)).collect();
    if model.rule == Rule::Logistic {
        let odds = parts.iter().sum::<f64>() + model.intercept;
        let sure = 1.0 / (1.0 + (-odds).exp());
        for (part, (input, &margin)) in parts.iter_mut().zip(inputs()) {
            if matches!(input.squash, Squash::Margin { .. }) {
                *part += model.surplus * sure * (margin.max(0.0) + (-margin.abs()).exp().ln_1p());
            }
        }
    }
    parts
}

/// Returns the share of each part in all of them; all 0 where there is nothing to share.
pub(super) fn shares(parts: &[f64]) -> Vec<f64> {
    let sum: f64 = parts.iter().sum();
    parts.iter().map(|part| if sum > 0.0 { part / sum } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fusion::Input;

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
            let sum = parts(&logistic, &raw).iter().sum::<f64>() + logistic.intercept;
            assert!((sum - (score / (1.0 - score)).ln()).abs() < 1e-9, "{raw:?}: {sum} {score}");
            let mean = model(Rule::Mean);
            assert!((parts(&mean, &raw).iter().sum::<f64>() - mean.score(&raw)).abs() < 1e-12);
            let shares = shares(&parts(&logistic, &raw));
            assert!(shares.iter().all(|s| *s >= 0.0) && (shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
        assert_eq!(shares(&[0.0, 0.0]), [0.0, 0.0]);
    }
}
