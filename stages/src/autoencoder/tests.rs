use super::*;

/// A model of three columns with one layer before the bottleneck.
fn model() -> Model {
    let weight = |n: usize, salt: usize| (0..n).map(|i| ((i * 7 + salt * 3) % 11) as f32 / 11.0 - 0.4).collect();
    let layer = |inputs: usize, outputs: usize| network::Layer {
        inputs,
        outputs,
        weight: weight(inputs * outputs, inputs),
        bias: weight(outputs, outputs),
    };
    let reference = Conformal::fit(&[0.0, 0.1, 0.2]).unwrap();
    let scaler = Scaler {
        names: ["a", "b", "c"].map(str::to_owned).to_vec(),
        centre: vec![0.5, 1.0, 0.0],
        scale: vec![1.0, 0.1, 2.0],
        clip: 20.0,
        components: None,
        reference,
    };
    let weights = Weights(vec![layer(3, 2), layer(2, 2), layer(2, 3)]);
    Model { judge: Judge { weights, scaler, subspace: None }, keep: vec![Some(0), None, Some(1), Some(2)] }
}

/// The same, whose network sees two singular vectors.
fn model_of_svd() -> Model {
    let mut model = model();
    let rows = rows().project(&model.keep, 3);
    let fit = Subspace::fit(&rows, &vec![1.0; rows.len()], 2, 1).unwrap();
    let layer = |inputs, outputs| network::Layer {
        inputs,
        outputs,
        weight: vec![0.5; inputs * outputs],
        bias: vec![0.1; outputs],
    };
    model.judge.weights = Weights(vec![layer(2, 1), layer(1, 2)]);
    model.judge.scaler.components = Some(Moments { centre: vec![1.0, 0.0], scale: vec![2.0, 1.0] });
    model.judge.subspace = Some(fit.subspace);
    model
}

/// Rows of all four columns of the features, many of them equal.
fn rows() -> Csr {
    let mut rows = Csr::new(4);
    for i in 0..200u32 {
        rows.push([(0, (i % 5) as f32), (1, 7.0), (2, (i % 3) as f32 * 0.1), (3, (i % 7) as f32)]);
    }
    rows
}

#[test]
fn residuals_add_up_to_the_error() {
    for model in [model(), model_of_svd()] {
        residuals_add_up(&model);
    }
}

fn residuals_add_up(model: &Model) {
    let rows = rows();
    let errors = model.score(&rows).error;
    let residuals = model.residuals(&rows);
    assert_eq!((residuals.len(), residuals[0].len()), (200, model.names().len()));
    for (row, (residuals, error)) in residuals.iter().zip(&errors).enumerate() {
        let sum: f64 = residuals.iter().sum();
        assert!((sum - error).abs() <= 1e-12 * error.max(1.0), "row {row}: {sum} {error}");
        assert!(residuals.iter().all(|r| *r >= 0.0));
    }
    assert!(errors.iter().any(|&e| e > 0.1), "{errors:?}");
}

#[test]
fn a_row_scores_the_same_to_the_bit_alone_in_a_batch_and_at_any_thread_count() {
    for model in [model(), model_of_svd()] {
        scores_the_same(&model);
    }
}

fn scores_the_same(model: &Model) {
    let rows = rows();
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let batch = pool(3).install(|| model.score(&rows));
    assert_eq!(bits(&pool(1).install(|| model.score(&rows)).error), bits(&batch.error));
    let residuals = model.residuals(&rows);
    for (row, residuals) in residuals.iter().enumerate() {
        let alone = model.score(&rows.select(&[row]));
        assert_eq!(bits(&alone.error), bits(&batch.error[row..=row]), "row {row}");
        assert_eq!(bits(&alone.z), bits(&batch.z[row..=row]));
        assert_eq!(bits(&alone.bounded), bits(&batch.bounded[row..=row]));
        assert_eq!(bits(&model.residuals(&rows.select(&[row]))[0]), bits(residuals));
    }
}

#[test]
fn the_error_by_svd_is_as_computed_by_hand() {
    // One direction (.6, .8); the network turns what it sees into 2 x + 1 and the input is centred by 1 and halved.
    let mut rows = Csr::new(2);
    rows.push([(0, 3.0), (1, 4.0)]);
    let subspace = Subspace::fit(&rows, &[1.0], 1, 1).unwrap().subspace;
    let layer = network::Layer { inputs: 1, outputs: 1, weight: vec![2.0], bias: vec![1.0] };
    let scaler = Scaler {
        names: Vec::new(),
        centre: vec![0.0; 2],
        scale: vec![1.0, 2.0],
        clip: 20.0,
        components: Some(Moments { centre: vec![1.0], scale: vec![2.0] }),
        reference: Conformal::fit(&[0.0]).unwrap(),
    };
    let judge = Judge { weights: Weights(vec![layer]), scaler, subspace: Some(subspace) };
    // (3, 4) reaches 5: in (5 - 1) / 2 = 2, out 5, back 11: columns (6.6, 8.8), off by 3.6 and 4.8 / 2.
    let mut buffers = Buffers::default();
    let residuals = judge.residuals(rows.pairs(0), &mut buffers);
    let expected = [3.6f64.powi(2) / 2.0, 2.4f64.powi(2) / 2.0];
    assert!(residuals.iter().zip(expected).all(|(r, e)| (r - e).abs() < 1e-4), "{residuals:?}");
    assert!((judge.error(rows.pairs(0), &mut buffers) - expected.iter().sum::<f64>()).abs() < 1e-4);
    // What no benign row has lies outside of the direction, and counts.
    let mut other = Csr::new(2);
    other.push([(0, -4.0), (1, 3.0)]);
    let parts = judge.residuals(other.pairs(0), &mut buffers);
    assert!(parts.iter().sum::<f64>() > 5.0, "{parts:?}");
}
