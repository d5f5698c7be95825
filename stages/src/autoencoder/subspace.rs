//! Truncated singular value decomposition of sparse rows: the few directions in which benign rows lie.
//!
//! Source: randomised subspace iteration (Halko, Martinsson and Tropp 2011, algorithm 4.4) on the Gram matrix, which is never
//! formed, then Rayleigh-Ritz. All sums run in a fixed order, and what is random comes from one seed. Rows are not centred, as
//! in latent semantic analysis: that would make them dense.

use std::path::Path;

use anyhow::{Context as _, ensure};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::support::safetensors::{self, Tensors};
use crate::support::sparse::Csr;

/// Directions iterated on beyond those asked for.
const MORE: usize = 8;

/// Passes of the iteration, each of which multiplies by the Gram matrix.
const PASSES: usize = 10;

/// Singular values below this share of the largest are nought.
const NOUGHT: f64 = 1e-6;

/// Orthonormal directions in the space of the columns.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Subspace {
    columns: usize,
    components: usize,
    /// Row-major `[columns, components]`.
    vectors: Vec<f32>,
}

/// What a subspace has of the rows it was fitted on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fit {
    pub(super) subspace: Subspace,
    /// Singular values of its directions, descending.
    pub(super) singular: Vec<f64>,
    /// Share of the squared length of all rows that lies in it.
    pub(super) share: f64,
}

/// Vectors side by side: `[columns][vectors]`.
type Block = Vec<Vec<f64>>;

impl Subspace {
    /// Finds the `components` directions with the largest singular values of weighted rows, or as many as there are.
    ///
    /// # Errors
    /// All rows are nought.
    pub(super) fn fit(rows: &Csr, weights: &[f64], components: usize, seed: u64) -> anyhow::Result<Fit> {
        let width = (components + MORE).min(rows.columns);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut basis: Block =
            (0..rows.columns).map(|_| (0..width).map(|_| random.random_range(-1.0..1.0)).collect()).collect();
        orthonormalise(&mut basis, width);
        for _ in 0..PASSES {
            basis = gram_times(rows, weights, &basis, width);
            orthonormalise(&mut basis, width);
        }
        // In the subspace the Gram matrix is small enough to be taken apart.
        let image = gram_times(rows, weights, &basis, width);
        let mut small = vec![vec![0.0; width]; width];
        for (a, b) in basis.iter().zip(&image) {
            for (row, &x) in small.iter_mut().zip(a) {
                row.iter_mut().zip(b).for_each(|(sum, &y)| *sum += x * y);
            }
        }
        let (values, rotation) = eigen(small);
        let largest = values.first().copied().unwrap_or(0.0);
        ensure!(largest > 0.0, "all benign rows are nought in the columns of the autoencoder: choose other `groups`");
        let kept = values.iter().take(components).take_while(|&&v| v > NOUGHT * NOUGHT * largest).count();
        let mut vectors = vec![0.0f32; rows.columns * kept];
        for component in 0..kept {
            let along = |of: &[f64]| of.iter().zip(&rotation).map(|(x, turned)| x * turned[component]).sum::<f64>();
            let direction: Vec<f64> = basis.iter().map(|of| along(of)).collect();
            // A direction has no sign: its largest part is positive.
            let most = direction.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(1.0);
            for (column, part) in direction.iter().enumerate() {
                vectors[column * kept + component] = (part * most.signum()) as f32;
            }
        }
        let squared = |row: usize| rows.row(row).1.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
        let total: f64 = weights.iter().enumerate().map(|(row, weight)| weight * squared(row)).sum();
        Ok(Fit {
            subspace: Self { columns: rows.columns, components: kept, vectors },
            share: values[..kept].iter().sum::<f64>() / total,
            singular: values[..kept].iter().map(|v| v.sqrt()).collect(),
        })
    }

    /// Number of directions.
    pub(super) fn components(&self) -> usize {
        self.components
    }

    /// Number of columns.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// Writes how far a row reaches along each direction.
    pub(super) fn along(&self, pairs: impl Iterator<Item = (u32, f32)>, out: &mut Vec<f32>) {
        let mut sums = vec![0.0f64; self.components];
        for (index, value) in pairs {
            let at = index as usize * self.components;
            let vectors = &self.vectors[at..at + self.components];
            sums.iter_mut().zip(vectors).for_each(|(sum, &v)| *sum += f64::from(value) * f64::from(v));
        }
        out.clear();
        out.extend(sums.iter().map(|&sum| sum as f32));
    }

    /// Returns rows as they reach along each direction.
    pub(super) fn rows(&self, rows: &Csr) -> Csr {
        let (mut out, mut along) = (Csr::new(self.components), Vec::new());
        for row in 0..rows.len() {
            self.along(rows.pairs(row), &mut along);
            out.push((0..).zip(along.iter().copied()));
        }
        out
    }

    /// Returns the value of a column in a point of the subspace.
    pub(super) fn column(&self, column: usize, point: &[f32]) -> f64 {
        let vectors = &self.vectors[column * self.components..(column + 1) * self.components];
        vectors.iter().zip(point).map(|(&v, &p)| f64::from(v) * f64::from(p)).sum()
    }

    /// Writes `svd.safetensors`: `vectors`, `[columns, components]`.
    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut tensors = Tensors::new();
        tensors.insert("vectors".to_owned(), (vec![self.columns, self.components], self.vectors.clone()));
        safetensors::write(path, &tensors)
    }

    /// Reads what [`Subspace::write`] wrote.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let (shape, vectors) = safetensors::read(path)?
            .remove("vectors")
            .with_context(|| format!("{} holds no `vectors`", path.display()))?;
        let &[columns, components] = shape.as_slice() else {
            anyhow::bail!("{}: `vectors` is no matrix", path.display())
        };
        ensure!(vectors.len() == columns * components, "{} is cut off", path.display());
        Ok(Self { columns, components, vectors })
    }
}

/// The Gram matrix of weighted rows, times a block.
fn gram_times(rows: &Csr, weights: &[f64], block: &Block, width: usize) -> Block {
    let mut out = vec![vec![0.0; width]; rows.columns];
    let mut along = vec![0.0; width];
    for (row, &weight) in weights.iter().enumerate() {
        along.fill(0.0);
        for (index, value) in rows.pairs(row) {
            let of = &block[index as usize];
            along.iter_mut().zip(of).for_each(|(sum, &x)| *sum += f64::from(value) * x);
        }
        for (index, value) in rows.pairs(row) {
            let scale = weight * f64::from(value);
            out[index as usize].iter_mut().zip(&along).for_each(|(sum, &x)| *sum += scale * x);
        }
    }
    out
}

/// Makes vectors orthonormal, one after the other (Gram and Schmidt, twice); those that depend on others become nought.
fn orthonormalise(block: &mut Block, width: usize) {
    for vector in 0..width {
        let length = |block: &Block| block.iter().map(|of| of[vector] * of[vector]).sum::<f64>().sqrt();
        let before = length(block);
        for _ in 0..2 {
            for other in 0..vector {
                let shared: f64 = block.iter().map(|of| of[vector] * of[other]).sum();
                block.iter_mut().for_each(|of| of[vector] -= shared * of[other]);
            }
        }
        let after = length(block);
        let scale = if after > 1e-10 * before && after > 0.0 { 1.0 / after } else { 0.0 };
        block.iter_mut().for_each(|of| of[vector] *= scale);
    }
}

/// Eigenvalues of a symmetric matrix, descending, and its eigenvectors as columns: cyclic Jacobi rotations (Golub and Van Loan
/// 2013, section 8.5).
fn eigen(mut matrix: Vec<Vec<f64>>) -> (Vec<f64>, Vec<Vec<f64>>) {
    let n = matrix.len();
    let mut vectors: Vec<Vec<f64>> = (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    let size: f64 = matrix.iter().flatten().map(|x| x * x).sum();
    for _ in 0..60 {
        let off: f64 = (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| matrix[i][j].powi(2)).sum();
        if off <= 1e-28 * size {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                if matrix[p][q] == 0.0 {
                    continue;
                }
                let theta = (matrix[q][q] - matrix[p][p]) / (2.0 * matrix[p][q]);
                let sign = if theta < 0.0 { -1.0 } else { 1.0 };
                let t = sign / (theta.abs() + (theta * theta + 1.0).sqrt());
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for row in &mut matrix {
                    (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
                }
                let (above, below) = matrix.split_at_mut(q);
                for (x, y) in above[p].iter_mut().zip(&mut below[0]) {
                    (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
                }
                for row in &mut vectors {
                    (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| matrix[b][b].total_cmp(&matrix[a][a]).then(a.cmp(&b)));
    let values = order.iter().map(|&i| matrix[i][i].max(0.0)).collect();
    let sorted = vectors.iter().map(|row| order.iter().map(|&i| row[i]).collect()).collect();
    (values, sorted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows that lie along three directions, and a little beside them.
    fn rows(n: usize, columns: usize, beside: f32) -> Csr {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let mut rows = Csr::new(columns);
        for i in 0..n {
            let (a, b) = (random.random_range(0.5f32..2.0), random.random_range(-1.0f32..1.0));
            let value = |c: usize| match c % 3 {
                0 if i % 2 == 0 => a * (c + 1) as f32 * 0.1,
                1 => b,
                2 if i % 5 == 0 => a - b,
                _ => 0.0,
            };
            let noise: Vec<f32> = (0..columns).map(|_| beside * random.random_range(-1.0f32..1.0)).collect();
            rows.push((0..columns).map(|c| (c as u32, value(c) + noise[c])));
        }
        rows
    }

    #[test]
    fn eigenvalues_are_as_by_hand() {
        let (values, vectors) = eigen(vec![vec![2.0, 1.0], vec![1.0, 2.0]]);
        assert!((values[0] - 3.0).abs() < 1e-12 && (values[1] - 1.0).abs() < 1e-12);
        assert!((vectors[0][0].abs() - 0.5f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn directions_are_those_of_the_whole_gram_matrix() {
        let rows = rows(400, 40, 0.01);
        let weights: Vec<f64> = (0..400).map(|i| 1.0 + f64::from(i % 4)).collect();
        let fit = Subspace::fit(&rows, &weights, 3, 1).unwrap();
        let mut gram = vec![vec![0.0; 40]; 40];
        for (row, weight) in weights.iter().enumerate() {
            for (a, x) in rows.pairs(row) {
                rows.pairs(row).for_each(|(b, y)| gram[a as usize][b as usize] += weight * f64::from(x) * f64::from(y));
            }
        }
        let (values, vectors) = eigen(gram);
        for component in 0..3 {
            assert!((fit.singular[component] / values[component].sqrt() - 1.0).abs() < 1e-6, "{component}");
            let exact: Vec<f64> = vectors.iter().map(|row| row[component]).collect();
            let found = (0..40).map(|c| f64::from(fit.subspace.vectors[c * 3 + component]));
            let cosine: f64 = found.zip(&exact).map(|(a, b)| a * b).sum();
            assert!((cosine.abs() - 1.0).abs() < 1e-6, "{component}: {cosine}");
        }
        let share = values[..3].iter().sum::<f64>() / values.iter().sum::<f64>();
        assert!((fit.share - share).abs() < 1e-6 && share > 0.99);
        assert_eq!(fit, Subspace::fit(&rows, &weights, 3, 1).unwrap());
        let other = Subspace::fit(&rows, &weights, 3, 2).unwrap();
        assert!((other.singular[2] / fit.singular[2] - 1.0).abs() < 1e-6);
    }

    #[test]
    fn rows_within_the_subspace_come_back_and_no_more_directions_are_kept_than_there_are() {
        let rows = rows(300, 30, 0.0);
        let fit = Subspace::fit(&rows, &vec![1.0; 300], 20, 1).unwrap();
        assert_eq!(fit.subspace.components(), 3, "{:?}", fit.singular);
        assert!((fit.share - 1.0).abs() < 1e-9);
        let along = fit.subspace.rows(&rows);
        for row in 0..300 {
            let mut point = vec![0.0; 3];
            along.pairs(row).for_each(|(i, v)| point[i as usize] = v);
            for column in 0..30 {
                let value = rows.pairs(row).find(|p| p.0 == column as u32).map_or(0.0, |p| p.1);
                assert!((fit.subspace.column(column, &point) - f64::from(value)).abs() < 1e-5);
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("svd.safetensors");
        fit.subspace.write(&path).unwrap();
        assert_eq!(Subspace::read(&path).unwrap(), fit.subspace);
        // Fewer columns than directions asked for; nothing at all.
        let mut few = Csr::new(2);
        few.push([(0, 3.0), (1, 4.0)]);
        let fit = Subspace::fit(&few, &[2.0], 5, 1).unwrap();
        assert_eq!((fit.subspace.components(), fit.singular.len()), (1, 1));
        assert!((fit.singular[0] - 50f64.sqrt()).abs() < 1e-9);
        assert!(Subspace::fit(&Csr::new(4), &[], 2, 1).is_err());
    }
}
