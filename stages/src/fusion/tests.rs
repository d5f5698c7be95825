use super::*;

fn member(name: &'static str, raw: Vec<f64>, lto: Vec<f64>) -> Member {
    let squash = Squash::Margin { scale: 1.0 };
    Member { name, conformal: squash.clone(), squash, oof: raw.clone(), raw, lto }
}

fn split(n: usize) -> Split {
    Split { folds: vec![Fold::Train; n], blocks: vec![0; n] }
}

#[test]
fn too_few_anomalies_give_the_mean_and_say_so() {
    let fusion = Fusion(FusionParams::default());
    let members = [member("lgbm", vec![0.0, 2.0], vec![0.0, 2.0]), member("ae", vec![0.0, -2.0], vec![0.0, -2.0])];
    let (model, _) = fusion.fit(&members, &[Some(true), None], &split(2)).unwrap();
    assert_eq!(model.rule, Rule::Mean);
    assert!(model.why.contains("1 labelled anomalies"), "{}", model.why);
    assert!((model.score(&[0.0, 0.0]) - 0.5).abs() < 1e-12);
    assert!((model.score(&[2.0, -2.0]) - 0.5).abs() < 1e-12);
}

#[test]
fn scores_of_types_never_seen_move_weight_to_the_models_that_hold_up() {
    // The supervised model is perfect on types it knows and blind to others; the profile is good at both.
    let n = 400;
    let labels: Vec<Option<bool>> = (0..n).map(|i| Some(i % 8 == 0)).collect();
    let of = |hit: f64, miss: f64| -> Vec<f64> {
        labels.iter().map(|l| if l == &Some(true) { hit } else { miss }).collect()
    };
    let noise = |i: usize| ((i * 7919) % 100) as f64 / 100.0;
    let profile: Vec<f64> = of(3.0, -3.0).into_iter().enumerate().map(|(i, v)| v + 6.0 * (noise(i) - 0.5)).collect();
    let members = [member("lgbm", of(5.0, -5.0), of(-4.0, -5.0)), member("profile", profile.clone(), profile)];
    let weight = |leave_type_out| {
        let fusion = Fusion(FusionParams { leave_type_out, ..FusionParams::default() });
        let (model, _) = fusion.fit(&members, &labels, &split(n)).unwrap();
        assert_eq!(model.rule, Rule::Logistic);
        model.inputs[1].weight / model.inputs[0].weight.max(1e-9)
    };
    assert!(weight(true) > 2.0 * weight(false), "{} {}", weight(true), weight(false));
}

#[test]
fn squashed_scores_are_bounded_and_keep_the_order() {
    let reference = Conformal::fit(&(0..50).map(f64::from).collect::<Vec<_>>()).unwrap();
    for squash in [Squash::Surprise { scale: 5.0, reference }, Squash::Ratio { scale: 2.0, cap: 3.0 }] {
        let values: Vec<f64> = [0.0, 5.0, 6.0, 7.0, 49.0, 50.0, 60.0, 1e6].iter().map(|&s| squash.at(s)).collect();
        assert!(values.windows(2).all(|w| w[0] < w[1]), "{values:?}");
        assert!(values[0] >= 0.0 && values[7] < 1.001, "{values:?}");
    }
    // ln(1 + 6/2) = ln(1 + 3).
    assert_eq!(Squash::Ratio { scale: 2.0, cap: 3.0 }.at(6.0), 1.0);
}

#[test]
fn the_margin_orders_what_the_regression_is_sure_of_and_nothing_else() {
    let input = |name: &str, squash, weight| Input { name: name.to_owned(), squash, weight };
    let inputs = vec![
        input("lgbm", Squash::Margin { scale: 2.0 }, 1.0),
        input("profile", Squash::Ratio { scale: 1.0, cap: 3.0 }, 12.0),
    ];
    let model =
        |surplus| Model { rule: Rule::Logistic, why: String::new(), inputs: inputs.clone(), intercept: -6.0, surplus };
    let (plain, with) = (model(0.0), model(2.0));
    // Two sure sessions: the profile thinks a hair more of the one, the margin much more of the other.
    let (far, near) = ([3.0, 2.9], [7.0, 2.8]);
    assert!(plain.score(&far) > plain.score(&near) && with.score(&far) < with.score(&near));
    // A margin alone is no surplus where nothing else speaks for an anomaly, and none below 0 takes anything away.
    assert!((with.score(&[1.0, 0.0]) - plain.score(&[1.0, 0.0])).abs() < 0.05);
    assert!((with.score(&[-7.0, 2.9]) - plain.score(&[-7.0, 2.9])).abs() < 1e-3);
    let scores: Vec<f64> = (-80..80).map(|i| with.score(&[f64::from(i) / 10.0, 1.0])).collect();
    assert!(scores.is_sorted(), "a higher margin never lowers the score");
}
