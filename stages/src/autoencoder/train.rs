//! Training with burn: Adam on the weighted squared error of distinct benign rows, early stopping on benign validation.
//!
//! Initial weights, order and noise come from one seeded generator, not from the library's global one, so that stages
//! that train at the same time cannot disturb each other.

use std::path::Path;

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use logweir_engine::stage::StageContext;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::network::{Buffers, Layer, Weights};
use super::subspace::{Fit, Subspace};
use super::{AutoencoderParams, Input, Moments, Scaler, sessions_of};
use crate::support::conformal::Conformal;
use crate::support::learning::{Rows, censored_rows, cut_shares};
use crate::support::repeats::Distinct;
use crate::support::sparse::{Csr, Repeated};
use crate::support::traces::{Fold, Templates, Traces};

/// What training yields.
pub(super) struct Trained {
    pub(super) weights: Weights,
    pub(super) scaler: Scaler,
    /// What the network sees instead of the columns, if it does.
    pub(super) svd: Option<Fit>,
    /// Error on benign validation after each epoch.
    pub(super) curve: Vec<f64>,
    /// Epoch of the weights kept, from 1.
    pub(super) best: usize,
    /// Distinct train rows, copies included.
    pub(super) distinct: usize,
    /// Censored copies.
    pub(super) copies: usize,
}

#[derive(Module, Debug)]
struct Network {
    layers: Vec<Linear>,
}

impl Network {
    fn new(weights: &Weights, device: &Device) -> Self {
        let layer = |l: &Layer| Linear {
            weight: Param::from_data(TensorData::new(l.weight.clone(), [l.inputs, l.outputs]), device),
            bias: Some(Param::from_data(TensorData::new(l.bias.clone(), [l.outputs]), device)),
        };
        Self { layers: weights.0.iter().map(layer).collect() }
    }

    fn forward(&self, mut x: Tensor<2>) -> Tensor<2> {
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(x);
            if i + 1 < self.layers.len() {
                x = relu(x);
            }
        }
        x
    }

    fn weights(&self) -> anyhow::Result<Weights> {
        let vector = |data: TensorData| data.try_to_vec::<f32>().map_err(|e| anyhow::anyhow!("burn: {e:?}"));
        let layer = |l: &Linear| {
            let weight = l.weight.val();
            let [inputs, outputs] = weight.dims();
            let bias = l.bias.as_ref().map(|b| vector(b.val().into_data())).transpose()?;
            Ok(Layer {
                inputs,
                outputs,
                weight: vector(weight.into_data())?,
                bias: bias.unwrap_or_else(|| vec![0.0; outputs]),
            })
        };
        self.layers.iter().map(layer).collect::<anyhow::Result<_>>().map(Weights)
    }
}

/// Rows of a fold, each distinct one once, with a weight that grows with the logarithm of its multiplicity.
pub struct Benign {
    /// The distinct rows.
    pub rows: Csr,
    /// Weight of each in the loss.
    pub weights: Vec<f64>,
}

impl Benign {
    /// Takes rows as they come.
    pub fn new(rows: &Repeated) -> Self {
        Self { rows: rows.distinct.clone(), weights: rows.counts().iter().map(|n| 1.0 + n.ln()).collect() }
    }
}

fn rows_of(rows: &Rows, fold: Fold, benign: Option<bool>) -> Repeated {
    rows.rows.select(rows.of(fold).into_iter().filter(|&row| rows.label(row) == benign))
}

/// Mean and standard deviation of each column over all rows, absent values being 0; no deviation is less than `scale_floor`.
pub fn scaler(params: &AutoencoderParams, rows: &Repeated) -> Scaler {
    let (centre, mut scale) = moments(rows);
    scale.iter_mut().for_each(|s| *s = s.max(params.scale_floor as f32));
    let reference = Conformal::fit(&[0.0]).expect("one finite score");
    Scaler { names: Vec::new(), centre, scale, clip: params.clip as f32, components: None, reference }
}

/// As [`scaler`], for how far rows reach along singular vectors. The floor is relative to the largest deviation: those of later
/// vectors are small.
fn scaler_of_components(params: &AutoencoderParams, rows: &Repeated) -> Scaler {
    let (_, scale) = moments(rows);
    let largest = f64::from(scale.iter().copied().fold(0.0, f32::max));
    let scale_floor = if largest > 0.0 { params.scale_floor.min(1.0) * largest } else { 1.0 };
    scaler(&AutoencoderParams { scale_floor, ..params.clone() }, rows)
}

/// Mean and standard deviation of each column.
fn moments(rows: &Repeated) -> (Vec<f32>, Vec<f32>) {
    let n = rows.len().max(1) as f64;
    let (mut sum, mut squares) = (vec![0.0; rows.columns()], vec![0.0; rows.columns()]);
    for &row in &rows.of {
        for (index, value) in rows.distinct.pairs(row as usize) {
            sum[index as usize] += f64::from(value);
            squares[index as usize] += f64::from(value).powi(2);
        }
    }
    let centre: Vec<f32> = sum.iter().map(|s| (s / n) as f32).collect();
    let deviation = |i: usize| (squares[i] / n - (sum[i] / n).powi(2)).max(0.0).sqrt() as f32;
    (centre, (0..rows.columns()).map(deviation).collect())
}

/// He initialisation, drawn in a fixed order.
fn initial(shape: &[usize], random: &mut ChaCha8Rng) -> Weights {
    let layer = |pair: &[usize]| {
        let bound = (6.0 / pair[0] as f32).sqrt();
        let weight = (0..pair[0] * pair[1]).map(|_| random.random_range(-bound..bound)).collect();
        Layer { inputs: pair[0], outputs: pair[1], weight, bias: vec![0.0; pair[1]] }
    };
    Weights(shape.windows(2).map(layer).collect())
}

fn mean_error(weights: &Weights, scaler: &Scaler, benign: &Benign) -> f64 {
    let (mut input, mut buffers) = (vec![0.0; benign.rows.columns], Buffers::default());
    let (mut sum, mut total) = (0.0, 0.0);
    for (row, weight) in benign.weights.iter().enumerate() {
        scaler.input(benign.rows.pairs(row), &mut input);
        sum += weight * weights.error(&input, &mut buffers);
        total += weight;
    }
    sum / total
}

/// Trains on the sessions of label `benign`.
pub(super) fn train(
    cx: &StageContext<'_>,
    params: &AutoencoderParams,
    features: &Path,
    rows: &Rows,
    benign: Option<bool>,
    traces: Option<(Traces, Templates)>,
) -> anyhow::Result<Trained> {
    let benign_rows = rows_of(rows, Fold::Train, benign);
    let mut all = benign_rows.clone();
    let mut scaler = scaler(params, &benign_rows);
    let mut copies = 0;
    if let Some((traces, templates)) = traces {
        anyhow::ensure!(traces.ids == rows.ids(), "the sessions table and the features hold different sessions");
        let distinct = Distinct::of_slices(&traces.offsets, &traces.events);
        let mut seen = vec![false; distinct.first.len()];
        let sessions: Vec<usize> = sessions_of(rows, Fold::Train, benign)
            .into_iter()
            .filter(|&s| !traces.censored[s])
            .filter(|&s| !std::mem::replace(&mut seen[distinct.groups[s] as usize], true))
            .collect();
        let (columns, shares) = (rows.rows.columns(), cut_shares(params.censored_copies));
        let (cut, _) =
            cx.in_pool(|| censored_rows(features, &rows.keep, columns, &traces, &templates, &sessions, &shares))??;
        copies = cut.len();
        all.append(&cut);
    }
    let mut validation = rows_of(rows, Fold::Validation, benign);
    let mut of_inputs = scaler.clone();
    let svd = match params.input {
        Input::Columns => None,
        Input::Svd => {
            let Benign { rows: distinct, weights } = Benign::new(&all);
            let fit = Subspace::fit(&distinct, &weights, params.components as usize, params.seed)?;
            let along = |rows: &Repeated| Repeated { distinct: fit.subspace.rows(&rows.distinct), of: rows.of.clone() };
            of_inputs = scaler_of_components(params, &along(&benign_rows));
            scaler.components = Some(Moments { centre: of_inputs.centre.clone(), scale: of_inputs.scale.clone() });
            (all, validation) = (along(&all), along(&validation));
            Some(fit)
        }
    };
    let (train, validation) = (Benign::new(&all), Benign::new(&validation));
    let stop_on = if validation.weights.is_empty() { &train } else { &validation };

    let total = u64::from(params.epochs);
    let fitted = optimise(
        params,
        &of_inputs,
        &train,
        stop_on,
        || cx.check_cancelled(),
        |epoch| {
            cx.progress(epoch as u64, total, "epochs");
        },
    )?;
    let Fitted { weights, curve, best } = fitted;
    Ok(Trained { weights, scaler, svd, curve, best, distinct: train.weights.len(), copies })
}

/// What optimisation yields.
pub struct Fitted {
    /// Weights with the lowest error.
    pub(super) weights: Weights,
    /// Weighted mean error on `stop_on` after each epoch.
    pub curve: Vec<f64>,
    /// Epoch of the weights kept, from 1.
    pub best: usize,
}

/// Trains a network on scaled rows by Adam, until the error on `stop_on` has not improved for `patience` epochs. `check` runs
/// before each batch and ends it by an error, `done` after each epoch (from 1).
///
/// # Errors
/// `check` fails, or training diverges.
pub fn optimise(
    params: &AutoencoderParams,
    scaler: &Scaler,
    train: &Benign,
    stop_on: &Benign,
    check: impl Fn() -> anyhow::Result<()>,
    done: impl Fn(usize),
) -> anyhow::Result<Fitted> {
    let columns = train.rows.columns;
    let mut shape = vec![columns];
    shape.extend(params.hidden.iter().map(|&h| h as usize));
    shape.push(params.bottleneck as usize);
    shape.extend(params.hidden.iter().rev().map(|&h| h as usize));
    shape.push(columns);
    let mut random = ChaCha8Rng::seed_from_u64(params.seed);
    let mut kept = initial(&shape, &mut random);
    let device = device().autodiff();
    let mut network = Network::new(&kept, &device);
    let mut adam = AdamConfig::new().init();
    let mut order: Vec<usize> = (0..train.weights.len()).collect();
    let (mut curve, mut best) = (Vec::new(), (0, f64::INFINITY));
    for epoch in 1..=params.epochs as usize {
        let batches = order.len().div_ceil(params.batch as usize);
        for pass in 0..(params.min_batches as usize).div_ceil(batches) * batches {
            if pass % batches == 0 {
                order.shuffle(&mut random);
            }
            let from = pass % batches * params.batch as usize;
            let batch = &order[from..(from + params.batch as usize).min(order.len())];
            check()?;
            let total: f64 = batch.iter().map(|&row| train.weights[row]).sum();
            let mut clean = vec![0.0; batch.len() * columns];
            let mut weights = Vec::with_capacity(batch.len());
            for (&row, out) in batch.iter().zip(clean.chunks_exact_mut(columns)) {
                scaler.input(train.rows.pairs(row), out);
                weights.push((train.weights[row] / total) as f32);
            }
            let mut noisy = clean.clone();
            if params.noise > 0.0 {
                for x in noisy.iter_mut().filter(|x| **x != 0.0) {
                    if random.random_bool(params.noise) {
                        *x = 0.0;
                    }
                }
            }
            let tensor = |data, width| Tensor::<2>::from_data(TensorData::new(data, [batch.len(), width]), &device);
            let output = network.forward(tensor(noisy, columns));
            let squares = (output - tensor(clean, columns)).powi_scalar(2).mean_dim(1);
            let loss = (squares * tensor(weights, 1)).sum();
            let gradients = GradientsParams::from_grads(loss.backward(), &network);
            network = adam.step(params.learning_rate, network, gradients);
        }
        let weights = network.weights()?;
        let error = mean_error(&weights, scaler, stop_on);
        anyhow::ensure!(error.is_finite(), "training diverged in epoch {epoch}: lower `learning_rate`");
        curve.push(error);
        done(epoch);
        if error < best.1 {
            best = (epoch, error);
            kept = weights;
        } else if epoch >= best.0 + params.patience as usize {
            break;
        }
    }
    Ok(Fitted { weights: kept, curve, best: best.0 })
}

/// Where the network is trained: on the processor, or by the backend that a cargo feature names. Scores come from this
/// program's own kernel whatever trained the weights.
fn device() -> Device {
    #[cfg(feature = "wgpu")]
    return Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
    #[cfg(all(feature = "ndarray", not(feature = "wgpu")))]
    return Device::ndarray();
    #[cfg(not(any(feature = "ndarray", feature = "wgpu")))]
    Device::flex()
}
