//! Why a margin is what it is: additive contributions of the columns by TreeSHAP.

use rayon::prelude::*;

use super::sys::Booster;
use crate::support::sparse::Csr;

/// Most numbers that one call of the library writes: it fills a row for all columns, most of them zero.
const NUMBERS: usize = 1 << 20;

/// What each column adds to the margin of each row (TreeSHAP, Lundberg et al. 2020, path-dependent: absent columns are
/// averaged over as the training rows fell). In log-odds; `expected` plus all of a row is its margin up to rounding.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contributions {
    /// Margin of a row that nothing is known of.
    pub expected: f64,
    /// By row: (column, its value, what it adds), columns ascending, without those that add nothing.
    pub rows: Vec<Row>,
}

/// Column, value in the row, contribution; ascending by column.
type Row = Vec<(u32, f32, f64)>;

impl Contributions {
    /// Computes them for rows of the model's own columns, each by itself.
    pub(super) fn of(text: &str, rows: &Csr) -> anyhow::Result<Self> {
        let width = rows.columns + 1;
        let chunk = (NUMBERS / width).clamp(1, 64);
        // A booster is not shared between threads, and is cheap to load against what it then computes.
        let all: Vec<usize> = (0..rows.len()).collect();
        let chunks: Vec<(f64, Vec<Row>)> = all
            .par_chunks(chunk)
            .map_init(
                || Booster::from_text(text),
                |booster, chunk| {
                    let booster = booster.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
                    let some = rows.select(chunk);
                    let values = booster.contributions(&some)?;
                    let expected = values.get(width - 1).copied().unwrap_or(0.0);
                    let of_row = |(row, values): (usize, &[f64])| sparse(&some, row, &values[..width - 1]);
                    Ok((expected, values.chunks_exact(width).enumerate().map(of_row).collect()))
                },
            )
            .collect::<anyhow::Result<_>>()?;
        let expected = chunks.first().map_or(0.0, |chunk| chunk.0);
        Ok(Self { expected, rows: chunks.into_iter().flat_map(|chunk| chunk.1).collect() })
    }
}

/// The columns that add something, with the values that the row has there.
fn sparse(rows: &Csr, row: usize, added: &[f64]) -> Row {
    let (indices, values) = rows.row(row);
    let value = |column: u32| indices.binary_search(&column).map_or(0.0, |at| values[at]);
    let added = added.iter().zip(0..).filter(|(added, _)| **added != 0.0);
    added.map(|(&added, column)| (column, value(column), added)).collect()
}
