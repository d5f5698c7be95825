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
    let (model, _) = fusion.fit(&members, &[Some(true), None], &split(2), &[]).unwrap();
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
        let (model, _) = fusion.fit(&members, &labels, &split(n), &[]).unwrap();
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

#[test]
fn the_autoencoder_enters_where_validation_ranks_better_with_it() {
    let n = 400;
    let labels: Vec<Option<bool>> = (0..n).map(|i| Some(i % 8 == 0)).collect();
    let folds = (0..n).map(|i| if i < 200 { Fold::Train } else { Fold::Validation }).collect();
    let split = Split { folds, blocks: vec![0; n] };
    let noise = |i: usize, seed: usize| ((i * 7919 + seed * 104_729) % 100) as f64 / 100.0 - 0.5;
    let scores = |strength: f64, spread: f64, seed: usize| -> Vec<f64> {
        let value =
            |(i, l): (usize, &Option<bool>)| strength * f64::from(u8::from(*l == Some(true))) + spread * noise(i, seed);
        labels.iter().enumerate().map(value).collect()
    };
    let fit = |lgbm: Vec<f64>, ae: Vec<f64>, ae_gain: f64, represents: &[f64]| {
        let members = [member("lgbm", lgbm.clone(), lgbm), member("ae", ae.clone(), ae)];
        // Both members are margins here: no surplus, which would count them whatever their weight.
        let fusion = Fusion(FusionParams { ae_gain, surplus: 0.0, ..FusionParams::default() });
        fusion.fit(&members, &labels, &split, represents).unwrap().0
    };
    let (sure, vague, useful) = (scores(6.0, 1.0, 1), scores(1.0, 6.0, 2), scores(3.0, 2.0, 3));
    let model = fit(sure.clone(), vague.clone(), 0.005, &[]);
    assert_eq!(model.inputs[1].weight, 0.0, "{}", model.why);
    assert!(model.why.contains("without"), "{}", model.why);
    assert!(fit(vague, useful.clone(), 0.005, &[]).inputs[1].weight > 0.5);
    assert!(fit(sure, useful, -1.0, &[]).inputs[1].weight > 0.0);
    // One healthy validation session that the supervised model takes for an anomaly and the autoencoder does not counts as
    // many as it stands for.
    let (mut lgbm, mut ae) = (scores(6.0, 1.0, 1), scores(6.0, 1.0, 4));
    (lgbm[201], ae[201]) = (8.0, -8.0);
    let mut represents = vec![1.0; n];
    let light = fit(lgbm.clone(), ae.clone(), 0.5, &represents);
    represents[201] = 500.0;
    let heavy = fit(lgbm, ae, 0.5, &represents);
    assert!(light.inputs[1].weight == 0.0 && heavy.inputs[1].weight > 0.0, "{} {}", light.why, heavy.why);
}
