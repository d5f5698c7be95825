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
    let of = |hit: f64, miss: f64| -> Vec<f64> { labels.iter().map(|l| if l == &Some(true) { hit } else { miss }).collect() };
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
