//! Training with burn: Adam on the weighted squared error of distinct benign rows, early stopping on benign validation.
//!
//! Initial weights, order and noise come from one seeded generator, not from the library's global one, so that stages
//! that train at the same time cannot disturb each other.

use std::collections::BTreeSet;
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
use super::{AutoencoderParams, Scaler, sessions_of};
use crate::support::conformal::Conformal;
use crate::support::learning::{Rows, censored_rows, cut_shares};
use crate::support::sparse::Csr;
use crate::support::traces::{Fold, Templates, Traces};

/// What training yields.
pub(super) struct Trained {
    pub(super) weights: Weights,
    pub(super) scaler: Scaler,
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
    pub fn new(rows: &Csr) -> Self {
        let distinct = rows.distinct();
        let mut counts = vec![0.0f64; distinct.first.len()];
        for &group in &distinct.groups {
            counts[group as usize] += 1.0;
        }
        Self { rows: rows.select(&distinct.first), weights: counts.iter().map(|n| 1.0 + n.ln()).collect() }
    }
}

fn rows_of(rows: &Rows, fold: Fold, benign: Option<bool>) -> Csr {
    let selected: Vec<usize> = rows.of(fold).into_iter().filter(|&row| rows.label(row) == benign).collect();
    rows.matrix.rows.select(&selected)
}

/// Mean and standard deviation of each column over all rows, absent values being 0.
pub fn scaler(params: &AutoencoderParams, rows: &Csr) -> Scaler {
    let n = rows.len().max(1) as f64;
    let (mut sum, mut squares) = (vec![0.0; rows.columns], vec![0.0; rows.columns]);
    for (&index, &value) in rows.indices.iter().zip(&rows.values) {
        sum[index as usize] += f64::from(value);
        squares[index as usize] += f64::from(value).powi(2);
    }
    let centre: Vec<f32> = sum.iter().map(|s| (s / n) as f32).collect();
    let deviation = |i: usize| (squares[i] / n - (sum[i] / n).powi(2)).max(0.0).sqrt();
    let scale = (0..rows.columns).map(|i| deviation(i).max(params.scale_floor) as f32).collect();
    let reference = Conformal::fit(&[0.0]).expect("one finite score");
    Scaler { names: Vec::new(), centre, scale, clip: params.clip as f32, reference }
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
    traces: Option<&(Traces, Templates)>,
) -> anyhow::Result<Trained> {
    let mut all = rows_of(rows, Fold::Train, benign);
    let scaler = scaler(params, &all);
    let mut copies = 0;
    if let Some((traces, templates)) = traces {
        anyhow::ensure!(traces.ids == rows.ids, "the sessions table and the features hold different sessions");
        let mut seen = BTreeSet::new();
        let sessions: Vec<usize> = sessions_of(rows, Fold::Train, benign)
            .into_iter()
            .filter(|&s| !traces.censored[s])
            .filter(|&s| seen.insert(&traces.events[traces.offsets[s]..traces.offsets[s + 1]]))
            .collect();
        let (columns, shares) = (rows.matrix.rows.columns, cut_shares(params.censored_copies));
        let (cut, _) =
            cx.in_pool(|| censored_rows(features, &rows.keep, columns, traces, templates, &sessions, &shares))??;
        copies = cut.len();
        for row in 0..cut.len() {
            all.push(cut.pairs(row));
        }
    }
    let train = Benign::new(&all);
    let validation = Benign::new(&rows_of(rows, Fold::Validation, benign));
    let stop_on = if validation.weights.is_empty() { &train } else { &validation };

    let total = u64::from(params.epochs);
    let fitted = optimise(
        params,
        &scaler,
        &train,
        stop_on,
        || cx.check_cancelled(),
        |epoch| {
            cx.progress(epoch as u64, total, "epochs");
        },
    )?;
    let Fitted { weights, curve, best } = fitted;
    Ok(Trained { weights, scaler, curve, best, distinct: train.weights.len(), copies })
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
