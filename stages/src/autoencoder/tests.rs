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
    Model {
        weights: Weights(vec![layer(3, 2), layer(2, 2), layer(2, 3)]),
        scaler: Scaler {
            names: ["a", "b", "c"].map(str::to_owned).to_vec(),
            centre: vec![0.5, 1.0, 0.0],
            scale: vec![1.0, 0.1, 2.0],
            clip: 20.0,
            reference,
        },
        keep: vec![Some(0), None, Some(1), Some(2)],
    }
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
    let (model, rows) = (model(), rows());
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
    let (model, rows) = (model(), rows());
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
