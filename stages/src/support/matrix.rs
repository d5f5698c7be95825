//! The feature matrix: one row a session or window; what many rows share is kept once. Owns `matrix.parquet`.
//!
//! The file has all rows in full, so that any reader of Parquet gets them. Its lists are plain numbers under LZ4: rows
//! repeat in large parts, which such a compression finds, and which packing of bits would hide from it.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};

use super::parquet::{Field, Kind, Lists, Page, Table, TableWriter};
use super::sparse::{Csr, Repeated};
use super::turns::in_order;

/// Rows of a row group.
const GROUP: usize = 1 << 16;

/// The columns of `matrix.parquet`.
const COLUMNS: [Field; 4] = [
    Field::one("session_id", Kind::Text),
    Field::one("window", Kind::U32),
    Field::list("indices", Kind::U32),
    Field::list("values", Kind::F32),
];

/// Which session and window each row stands for; the windows of a session follow each other, the first is 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// Session ids in order.
    pub ids: Vec<String>,
    /// Number of the session of each row.
    pub session: Vec<u32>,
    /// Window within the session, from 0.
    pub windows: Vec<u32>,
}

impl Origins {
    /// Rows that are sessions.
    pub fn of_sessions(ids: Vec<String>) -> Self {
        let n = ids.len();
        Self { session: (0..n as u32).collect(), windows: vec![0; n], ids }
    }

    /// Adds a row.
    pub fn push(&mut self, id: impl Into<String>, window: u32) {
        if window == 0 || self.ids.is_empty() {
            self.ids.push(id.into());
        }
        self.session.push(self.ids.len() as u32 - 1);
        self.windows.push(window);
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.session.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.session.is_empty()
    }

    /// Id of the session of a row.
    pub fn id(&self, row: usize) -> &str {
        &self.ids[self.session[row] as usize]
    }

    /// Session id of each row.
    pub fn row_ids(&self) -> impl Iterator<Item = &str> {
        self.session.iter().map(|&session| self.ids[session as usize].as_str())
    }

    /// Returns the largest value of each session over its windows.
    pub fn session_max(&self, values: &[f64]) -> Vec<f64> {
        debug_assert_eq!(self.len(), values.len(), "one value for each row");
        let mut out = vec![f64::NEG_INFINITY; self.ids.len()];
        for (&session, &value) in self.session.iter().zip(values) {
            let slot = &mut out[session as usize];
            *slot = slot.max(value);
        }
        out
    }
}

/// A feature matrix. The first columns follow from events alone and are the same in many rows, which share them; the others
/// every row has by itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matrix {
    /// What each row stands for.
    pub origins: Origins,
    /// The first columns.
    pub shared: Repeated,
    /// The other columns: `[rows][columns - shared columns]`.
    pub own: Vec<f32>,
    /// Number of all columns.
    pub columns: usize,
}

impl Matrix {
    /// A matrix of rows as they are, for which nothing is known to be shared.
    pub fn of_rows(origins: Origins, rows: &Csr) -> Self {
        Self { origins, columns: rows.columns, shared: Repeated::of_rows(rows), own: Vec::new() }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.shared.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the columns that row has by itself.
    fn own(&self, row: usize) -> &[f32] {
        let width = self.columns - self.shared.columns();
        &self.own[row * width..(row + 1) * width]
    }

    /// Returns the (column, value) pairs of a row, columns ascending, zeros left out.
    pub fn pairs(&self, row: usize) -> impl Iterator<Item = (u32, f32)> {
        let own = (self.shared.columns() as u32..).zip(self.own(row).iter().copied());
        self.shared.distinct.pairs(self.shared.of[row] as usize).chain(own.filter(|(_, value)| *value != 0.0))
    }

    /// Number of values that are not zero.
    pub fn values(&self) -> usize {
        let counts = self.shared.of.iter().map(|&row| self.shared.distinct.row(row as usize).0.len());
        counts.sum::<usize>() + self.own.iter().filter(|value| **value != 0.0).count()
    }

    /// Keeps some columns and renumbers them: `keep[old] = Some(new)`, ascending.
    pub fn project(&self, keep: &[Option<u32>], columns: usize) -> Repeated {
        let (shared, own) = keep.split_at(self.shared.columns());
        if own.iter().all(Option::is_none) {
            return self.shared.project(shared, columns);
        }
        let mut rows = Csr::new(columns);
        for row in 0..self.len() {
            rows.push(self.pairs(row).filter_map(|(index, value)| Some((keep[index as usize]?, value))));
        }
        Repeated::of_rows(&rows)
    }

    /// Returns some rows in full, in the given order.
    pub fn select(&self, rows: &[usize]) -> Csr {
        let mut out = Csr::new(self.columns);
        rows.iter().for_each(|&row| out.push(self.pairs(row)));
        out
    }

    /// Returns all rows in full.
    pub fn rows(&self) -> Csr {
        self.select(&(0..self.len()).collect::<Vec<_>>())
    }

    /// Checks that every value is finite.
    ///
    /// # Errors
    /// Names the first row and column that is not.
    pub fn check_finite(&self, name: impl Fn(usize, u32) -> String) -> anyhow::Result<()> {
        let shared = self.shared.distinct.values.iter();
        if shared.chain(&self.own).all(|value| value.is_finite()) {
            return Ok(());
        }
        for row in 0..self.len() {
            for (index, value) in self.pairs(row) {
                ensure!(value.is_finite(), "{} is {value}: features must be finite numbers", name(row, index));
            }
        }
        Ok(())
    }

    /// Writes `matrix.parquet`. Works on the rayon pool it is called from.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut out = TableWriter::create(path, &COLUMNS)?;
        let rows = |group: usize| group * GROUP..((group + 1) * GROUP).min(self.len());
        in_order(
            self.len().div_ceil(GROUP),
            |group| self.encoded(rows(group)),
            |group, pages| out.write(rows(group).len(), pages),
        )?;
        out.finish()
    }

    fn encoded(&self, rows: Range<usize>) -> anyhow::Result<Vec<Page>> {
        let mut lists = Lists::default();
        let (mut indices, mut values) = (Vec::new(), Vec::new());
        let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(rows.len()));
        for row in rows.clone() {
            let before = indices.len();
            for (index, value) in self.pairs(row) {
                indices.push(index);
                values.push(value.to_bits());
            }
            lists.push(indices.len() - before);
            bytes.extend_from_slice(self.origins.id(row).as_bytes());
            ends.push(u32::try_from(bytes.len()).context("session keys of more than 4 GB")?);
        }
        let windows = &self.origins.windows[rows];
        let numbers: Vec<u32> = (0..=windows.iter().copied().max().unwrap_or(0)).collect();
        Ok(vec![
            Page::of_texts(None, &ends, &bytes),
            Page::of_dictionary(None, windows, numbers.len()).with_numbers(&numbers),
            Page::of_plain(Some(&lists), &indices)?,
            Page::of_plain(Some(&lists), &values)?,
        ])
    }
}

/// Reads some columns of `matrix.parquet`, `keep[column] = Some(new number)`, ascending. Works on the rayon pool it is called from.
///
/// # Errors
/// The file is missing or malformed, an index is out of range, or a value is not finite.
pub fn read_columns(path: &Path, keep: &[Option<u32>], columns: usize) -> anyhow::Result<(Origins, Repeated)> {
    let table = Table::open(path)?;
    let place = || format!("{} is not a feature matrix", path.display());
    let column = |name: &str| table.column(name).with_context(place);
    let (id, window) = (column("session_id")?, column("window")?);
    let (indices, values) = (column("indices")?, column("values")?);
    let mut origins = Origins::default();
    let mut rows = Repeated { distinct: Csr::new(columns), of: Vec::new() };
    let read = |group: usize| {
        let mut part = Origins::default();
        let windows = table.read(group, window)?.changed(Ok)?;
        let mut at = windows.iter();
        table.read(group, id)?.texts(|text| {
            part.push(String::from_utf8_lossy(text), at.next().copied().unwrap_or(0));
        })?;
        let (ends, indices) = table.read(group, indices)?.plain_lists()?;
        let (value_ends, values) = table.read(group, values)?.plain_lists()?;
        ensure!(ends == value_ends, "{}: indices and values differ in length", path.display());
        ensure!(ends.len() == part.len() && windows.len() == part.len(), "{} is damaged", path.display());
        let mut kept = Csr::new(columns);
        let mut from = 0;
        for (row, &end) in ends.iter().enumerate() {
            let all = from..end as usize;
            for (&index, &bits) in indices[all.clone()].iter().zip(&values[all.clone()]) {
                if index as usize >= keep.len() {
                    bail!("{}: column {index}, but there are only {} features", path.display(), keep.len());
                }
                if !f32::from_bits(bits).is_finite() {
                    bail!(
                        "{}: feature {index} of session `{}` is {}: features must be finite numbers",
                        path.display(),
                        part.id(row),
                        f32::from_bits(bits)
                    );
                }
            }
            let pairs = indices[all.clone()].iter().zip(&values[all]);
            kept.push(pairs.filter_map(|(&index, &bits)| Some((keep[index as usize]?, f32::from_bits(bits)))));
            from = end as usize;
        }
        Ok((part, Repeated::of_rows(&kept)))
    };
    in_order(table.groups(), read, |_, (part, some): (Origins, Repeated)| {
        // A session whose windows go on in the next group is still one.
        for row in 0..part.len() {
            origins.push(part.id(row), part.windows[row]);
        }
        rows.append(&some);
        Ok(())
    })
    .with_context(place)?;
    Ok((origins, rows))
}

#[cfg(test)]
mod tests {
    use polars::prelude::{Float32Type, UInt32Type};

    use super::*;
    use crate::support::table::{lists, read_parquet};

    fn sample() -> Matrix {
        let mut origins = Origins::default();
        [("a", 0), ("b", 0), ("b", 1)].into_iter().for_each(|(id, window)| origins.push(id, window));
        let mut shared = Csr::new(4);
        shared.push([(0, 1.0), (3, 2.0)]);
        shared.push([]);
        let shared = Repeated { distinct: shared, of: vec![0, 1, 0] };
        Matrix { origins, shared, own: vec![0.5, 0.0, 0.0, -2.0, 0.5, 0.0], columns: 6 }
    }

    #[test]
    fn some_columns_of_a_matrix_survive_its_file_which_any_reader_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("matrix.parquet");
        let matrix = sample();
        matrix.write(&path).unwrap();
        let all: Vec<Option<u32>> = (0..6).map(Some).collect();
        let (origins, rows) = read_columns(&path, &all, 6).unwrap();
        assert_eq!((&origins, rows.rows()), (&matrix.origins, matrix.rows()));
        assert_eq!((origins.ids.as_slice(), &origins.session), (&["a".to_owned(), "b".to_owned()][..], &vec![0, 1, 1]));
        for keep in [[Some(0), None, None, Some(1), None, None], [None, None, None, Some(0), Some(1), None]] {
            let (_, rows) = read_columns(&path, &keep, 2).unwrap();
            assert_eq!(rows, matrix.project(&keep, 2));
            assert_eq!((rows.of.clone(), rows.distinct.len()), (vec![0, 1, 0], 2));
        }
        let frame = read_parquet(&path, None).unwrap();
        assert_eq!(lists::<UInt32Type>(&frame, "indices").unwrap(), (vec![0, 3, 4, 7], vec![0, 3, 4, 5, 0, 3, 4]));
        let values = lists::<Float32Type>(&frame, "values").unwrap().1;
        assert_eq!(values, [1.0, 2.0, 0.5, -2.0, 1.0, 2.0, 0.5]);
        assert_eq!(frame.column("window").unwrap().u32().unwrap().get(2), Some(1));
    }

    #[test]
    fn a_nan_and_a_column_too_many_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("matrix.parquet");
        let mut matrix = sample();
        matrix.shared.distinct.values[1] = f32::NAN;
        matrix.write(&path).unwrap();
        let all: Vec<Option<u32>> = (0..6).map(Some).collect();
        let error = format!("{:#}", read_columns(&path, &all, 6).unwrap_err());
        assert!(error.contains("feature 3 of session `a`"), "{error}");
        let error = matrix.check_finite(|row, column| format!("{column} of {row}")).unwrap_err().to_string();
        assert!(error.starts_with("3 of 0 is NaN"), "{error}");
        let error = format!("{:#}", read_columns(&path, &all[..3], 3).unwrap_err());
        assert!(error.contains("column 3"), "{error}");
    }

    #[test]
    fn many_rows_are_the_same_bytes_at_any_number_of_threads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("matrix.parquet");
        let n = 2 * GROUP + 7;
        let (mut origins, mut rows) = (Origins::default(), Csr::new(3));
        for i in 0..n {
            // Every third session has two windows, also across the groups of the file.
            origins.push(format!("s{}", i - usize::from(i % 3 == 2)), u32::from(i % 3 == 2));
            rows.push([(0, (i % 5) as f32), (2, 1.0)]);
        }
        let matrix = Matrix::of_rows(origins, &rows);
        let at = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                matrix.write(&path).unwrap();
                (std::fs::read(&path).unwrap(), read_columns(&path, &[Some(0), None, Some(1)], 2).unwrap())
            })
        };
        let (one, three) = (at(1), at(3));
        assert!(one == three);
        let (origins, some) = one.1;
        assert!(origins == matrix.origins && some.distinct.len() == 5 && some.len() == n);
    }
}
