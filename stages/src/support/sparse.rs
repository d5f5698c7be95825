//! Sparse rows (CSR): what the feature matrix is in memory and in `matrix.parquet`.

use std::path::Path;

use anyhow::{Context, ensure};
use indexmap::IndexMap;
use polars::prelude::{Column, DataFrame, Float32Type, UInt32Type};

use super::table::{list_column, lists, read_parquet, write_parquet};
use super::traces::strings;

/// Sparse rows over `columns` columns; indices ascend within a row, zeros are left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Csr {
    /// Number of columns.
    pub columns: usize,
    /// Row i lies at `offsets[i]..offsets[i + 1]`.
    pub offsets: Vec<usize>,
    /// Column of each value.
    pub indices: Vec<u32>,
    /// Values, none of them zero.
    pub values: Vec<f32>,
}

impl Csr {
    /// No rows yet.
    pub fn new(columns: usize) -> Self {
        Self { columns, offsets: vec![0], indices: Vec::new(), values: Vec::new() }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a row of (column, value) pairs in ascending order of columns; zeros are dropped.
    pub fn push(&mut self, row: impl IntoIterator<Item = (u32, f32)>) {
        for (index, value) in row {
            debug_assert!((index as usize) < self.columns, "column {index} of {}", self.columns);
            if value != 0.0 {
                self.indices.push(index);
                self.values.push(value);
            }
        }
        self.offsets.push(self.indices.len());
    }

    /// Returns the columns and values of a row.
    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let range = self.offsets[row]..self.offsets[row + 1];
        (&self.indices[range.clone()], &self.values[range])
    }

    /// Returns the (column, value) pairs of a row.
    pub fn pairs(&self, row: usize) -> impl Iterator<Item = (u32, f32)> {
        let (indices, values) = self.row(row);
        indices.iter().copied().zip(values.iter().copied())
    }

    /// Returns the given rows, in the given order.
    pub fn select(&self, rows: &[usize]) -> Self {
        let mut out = Self::new(self.columns);
        for &row in rows {
            out.push(self.pairs(row));
        }
        out
    }

    /// Keeps only some columns and renumbers them: `keep[old] = Some(new)`, ascending.
    pub fn project(&self, keep: &[Option<u32>], columns: usize) -> Self {
        let mut out = Self::new(columns);
        for row in 0..self.len() {
            out.push(self.pairs(row).filter_map(|(index, value)| Some((keep[index as usize]?, value))));
        }
        out
    }

    /// Finds equal rows.
    pub fn distinct(&self) -> Distinct {
        let mut seen: IndexMap<Vec<u8>, u32> = IndexMap::new();
        let mut first = Vec::new();
        let mut key = Vec::new();
        let groups = (0..self.len())
            .map(|row| {
                key.clear();
                for (index, value) in self.pairs(row) {
                    key.extend_from_slice(&index.to_le_bytes());
                    key.extend_from_slice(&value.to_bits().to_le_bytes());
                }
                if let Some(&group) = seen.get(&key) {
                    return group;
                }
                let group = first.len() as u32;
                seen.insert(key.clone(), group);
                first.push(row);
                group
            })
            .collect();
        Distinct { first, groups }
    }

    /// Checks that every value is finite.
    ///
    /// # Errors
    /// Names the first row and column that is not.
    pub fn check_finite(&self, name: impl Fn(usize, u32) -> String) -> anyhow::Result<()> {
        if self.values.iter().all(|v| v.is_finite()) {
            return Ok(());
        }
        for row in 0..self.len() {
            for (index, value) in self.pairs(row) {
                ensure!(value.is_finite(), "{} is {value}: features must be finite numbers", name(row, index));
            }
        }
        Ok(())
    }
}

/// Equal rows found by [`Csr::distinct`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distinct {
    /// The first row of each group.
    pub first: Vec<usize>,
    /// The group of each row.
    pub groups: Vec<u32>,
}

/// A feature matrix with the session and window that each row stands for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matrix {
    /// Session id of each row.
    pub session_ids: Vec<String>,
    /// Window within the session, from 0.
    pub windows: Vec<u32>,
    /// The features.
    pub rows: Csr,
}

impl Matrix {
    /// Writes `matrix.parquet`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut frame = DataFrame::new_infer_height(vec![
            Column::new("session_id".into(), &self.session_ids),
            Column::new("window".into(), &self.windows),
            list_column::<UInt32Type>("indices", &self.rows.offsets, &self.rows.indices),
            list_column::<Float32Type>("values", &self.rows.offsets, &self.rows.values),
        ])?;
        write_parquet(path, &mut frame)
    }

    /// Reads `matrix.parquet`.
    ///
    /// # Errors
    /// The file is missing or malformed, an index is out of range, or a value is not finite.
    pub fn read(path: &Path, columns: usize) -> anyhow::Result<Self> {
        let frame = read_parquet(path, None)?;
        let place = || format!("{} is not a feature matrix", path.display());
        let (offsets, indices) = lists::<UInt32Type>(&frame, "indices").with_context(place)?;
        let (value_offsets, values) = lists::<Float32Type>(&frame, "values").with_context(place)?;
        ensure!(offsets == value_offsets, "{}: indices and values differ in length", path.display());
        if let Some(&index) = indices.iter().find(|&&i| i as usize >= columns) {
            anyhow::bail!("{}: column {index}, but there are only {columns} features", path.display());
        }
        let session_ids = strings(&frame, "session_id").with_context(place)?;
        let windows = frame.column("window")?.u32()?.iter().map(|w| w.unwrap_or(0)).collect();
        let matrix = Self { session_ids, windows, rows: Csr { columns, offsets, indices, values } };
        matrix
            .rows
            .check_finite(|row, index| {
                format!("{}: feature {index} of session `{}`", path.display(), matrix.session_ids[row])
            })
            .map(|()| matrix)
    }

    /// Returns the session ids in order and the number of the session that each row belongs to; the windows of a
    /// session follow each other, the first is 0.
    pub fn sessions(&self) -> (Vec<String>, Vec<usize>) {
        let mut ids: Vec<String> = Vec::new();
        let mut rows = Vec::with_capacity(self.windows.len());
        for (id, &window) in self.session_ids.iter().zip(&self.windows) {
            if window == 0 || ids.is_empty() {
                ids.push(id.clone());
            }
            rows.push(ids.len() - 1);
        }
        (ids, rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Csr {
        let mut csr = Csr::new(4);
        csr.push([(0, 1.0), (2, 0.0), (3, 2.0)]);
        csr.push([]);
        csr.push([(0, 1.0), (3, 2.0)]);
        csr
    }

    #[test]
    fn zeros_are_dropped_and_equal_rows_found() {
        let csr = sample();
        assert_eq!(csr.row(0), (&[0, 3][..], &[1.0, 2.0][..]));
        assert_eq!(csr.distinct(), Distinct { first: vec![0, 1], groups: vec![0, 1, 0] });
        assert_eq!(csr.project(&[None, None, None, Some(0)], 1).values, [2.0, 2.0]);
        assert_eq!(csr.select(&[1, 2]).row(1), csr.row(2));
    }

    #[test]
    fn a_matrix_survives_its_file_and_a_nan_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("matrix.parquet");
        let ids = vec!["a".to_owned(), "b".to_owned(), "b".to_owned()];
        let mut matrix = Matrix { session_ids: ids, windows: vec![0, 0, 1], rows: sample() };
        matrix.write(&path).unwrap();
        assert_eq!(Matrix::read(&path, 4).unwrap(), matrix);
        assert_eq!(matrix.sessions(), (vec!["a".to_owned(), "b".to_owned()], vec![0, 1, 1]));
        matrix.rows.values[1] = f32::NAN;
        matrix.write(&path).unwrap();
        let error = Matrix::read(&path, 4).unwrap_err().to_string();
        assert!(error.contains("feature 3 of session `a`"), "{error}");
        assert!(Matrix::read(&path, 3).unwrap_err().to_string().contains("column 3"));
    }
}
