//! The network as stored and applied: dense layers, ReLU between them, none after the last.

use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::support::safetensors::{self, Tensors};

/// One dense layer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layer {
    /// Inputs.
    pub(super) inputs: usize,
    /// Outputs.
    pub(super) outputs: usize,
    /// Row-major `[inputs, outputs]`.
    pub(super) weight: Vec<f32>,
    /// `[outputs]`.
    pub(super) bias: Vec<f32>,
}

/// All layers in order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Weights(pub(super) Vec<Layer>);

/// Activations reused from row to row.
#[derive(Default)]
pub(super) struct Buffers {
    now: Vec<f32>,
    next: Vec<f32>,
}

impl Weights {
    /// Number of inputs, and of outputs.
    pub(super) fn columns(&self) -> usize {
        self.0.first().map_or(0, |l| l.inputs)
    }

    /// Sizes of all layers from input to output.
    pub(super) fn shape(&self) -> Vec<usize> {
        std::iter::once(self.columns()).chain(self.0.iter().map(|l| l.outputs)).collect()
    }

    /// Mean squared difference between a row and its reconstruction. Sums run in a fixed order.
    pub(super) fn error(&self, input: &[f32], buffers: &mut Buffers) -> f64 {
        self.reconstruct(input, buffers);
        let squares: f64 = input.iter().zip(&buffers.now).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        squares / input.len().max(1) as f64
    }

    /// What each column adds to [`Weights::error`]; their sum is that up to rounding.
    pub(super) fn residuals(&self, input: &[f32], buffers: &mut Buffers) -> Vec<f64> {
        self.reconstruct(input, buffers);
        let columns = input.len().max(1) as f64;
        input.iter().zip(&buffers.now).map(|(a, b)| f64::from(a - b).powi(2) / columns).collect()
    }

    /// What becomes of a row.
    pub(super) fn output<'b>(&self, input: &[f32], buffers: &'b mut Buffers) -> &'b [f32] {
        self.reconstruct(input, buffers);
        &buffers.now
    }

    /// Leaves the reconstruction of a row in `buffers.now`.
    fn reconstruct(&self, input: &[f32], buffers: &mut Buffers) {
        buffers.now.clear();
        buffers.now.extend_from_slice(input);
        for (i, layer) in self.0.iter().enumerate() {
            buffers.next.clear();
            buffers.next.extend_from_slice(&layer.bias);
            for (&x, weights) in buffers.now.iter().zip(layer.weight.chunks_exact(layer.outputs)) {
                if x != 0.0 {
                    for (out, w) in buffers.next.iter_mut().zip(weights) {
                        *out += x * w;
                    }
                }
            }
            if i + 1 < self.0.len() {
                for x in &mut buffers.next {
                    *x = x.max(0.0);
                }
            }
            std::mem::swap(&mut buffers.now, &mut buffers.next);
        }
    }

    /// Writes `model.safetensors`: `layers.N.weight` and `layers.N.bias`.
    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut tensors = Tensors::new();
        for (i, layer) in self.0.iter().enumerate() {
            tensors.insert(format!("layers.{i}.weight"), (vec![layer.inputs, layer.outputs], layer.weight.clone()));
            tensors.insert(format!("layers.{i}.bias"), (vec![layer.outputs], layer.bias.clone()));
        }
        safetensors::write(path, &tensors)
    }

    /// Reads what [`Weights::write`] wrote.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let mut tensors = safetensors::read(path)?;
        let mut layers: Vec<Layer> = Vec::new();
        while let Some((shape, weight)) = tensors.remove(&format!("layers.{}.weight", layers.len())) {
            let (bias_shape, bias) = tensors
                .remove(&format!("layers.{}.bias", layers.len()))
                .with_context(|| format!("{}: layer {} has no bias", path.display(), layers.len()))?;
            let &[inputs, outputs] = shape.as_slice() else {
                anyhow::bail!("{}: layer {} is no matrix", path.display(), layers.len())
            };
            ensure!(
                bias_shape == [outputs] && layers.last().is_none_or(|l| l.outputs == inputs),
                "{}: layer {} does not fit the one before it",
                path.display(),
                layers.len()
            );
            layers.push(Layer { inputs, outputs, weight, bias });
        }
        ensure!(!layers.is_empty(), "{} holds no layers", path.display());
        let weights = Self(layers);
        ensure!(weights.columns() == weights.0[weights.0.len() - 1].outputs, "{} is no autoencoder", path.display());
        Ok(weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_as_computed_by_hand() {
        // Hidden: relu([1*1 + 2*(-1) + 0.5, 1 + 2]) = [0, 3]; out: [0 + 3, 0 + 6] + [0, 1] = [3, 7].
        let weights = Weights(vec![
            Layer { inputs: 2, outputs: 2, weight: vec![1.0, 1.0, -1.0, 1.0], bias: vec![0.5, 0.0] },
            Layer { inputs: 2, outputs: 2, weight: vec![9.0, 9.0, 1.0, 2.0], bias: vec![0.0, 1.0] },
        ]);
        let mut buffers = Buffers::default();
        assert_eq!(weights.error(&[1.0, 2.0], &mut buffers), (4.0 + 25.0) / 2.0);
        assert_eq!(weights.residuals(&[1.0, 2.0], &mut buffers), [2.0, 12.5]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.safetensors");
        weights.write(&path).unwrap();
        assert_eq!(Weights::read(&path).unwrap(), weights);
        Weights(weights.0[..1].to_vec()).write(&path).unwrap();
        assert_eq!(Weights::read(&path).unwrap().shape(), [2, 2]);
    }
}
