//! Sparse rows (CSR), and rows of which many are equal: what the features are in memory. `matrix` has what they are in a file.

use anyhow::ensure;

use super::repeats::{Distinct, mix};

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
    pub fn pairs(&self, row: usize) -> impl Iterator<Item = (u32, f32)> + Clone {
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
        let hash = |row: usize| {
            let (indices, values) = self.row(row);
            indices.iter().zip(values).fold(indices.len() as u64, |all, (&index, value)| {
                mix(all, u64::from(index) << 32 | u64::from(value.to_bits()))
            })
        };
        let hashes: Vec<u64> = (0..self.len()).map(hash).collect();
        Distinct::by(&hashes, |a, b| self.equal(a, self, b))
    }

    /// Whether a row is, to the bit, a row of some other rows.
    fn equal(&self, row: usize, other: &Self, of_other: usize) -> bool {
        let ((a, x), (b, y)) = (self.row(row), other.row(of_other));
        a == b && x.iter().zip(y).all(|(x, y)| x.to_bits() == y.to_bits())
    }

    /// Appends the rows of another matrix of as many columns.
    pub fn append(&mut self, other: &Self) {
        debug_assert_eq!(self.columns, other.columns, "one width");
        let base = self.indices.len();
        self.offsets.extend(other.offsets[1..].iter().map(|o| base + o));
        self.indices.extend_from_slice(&other.indices);
        self.values.extend_from_slice(&other.values);
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

/// Rows of which many are equal: each distinct one once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Repeated {
    /// The distinct rows, in the order of their first occurrence.
    pub distinct: Csr,
    /// Which of them each row is.
    pub of: Vec<u32>,
}

impl Repeated {
    /// Finds what is equal among rows.
    pub fn of_rows(rows: &Csr) -> Self {
        let Distinct { first, groups } = rows.distinct();
        Self { distinct: rows.select(&first), of: groups }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.of.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.distinct.columns
    }

    /// Returns the given rows, in the given order.
    pub fn select(&self, rows: impl IntoIterator<Item = usize>) -> Self {
        const NEW: u32 = u32::MAX;
        let mut numbers = vec![NEW; self.distinct.len()];
        let (mut kept, mut of) = (Vec::new(), Vec::new());
        for row in rows {
            let number = &mut numbers[self.of[row] as usize];
            if *number == NEW {
                *number = kept.len() as u32;
                kept.push(self.of[row] as usize);
            }
            of.push(*number);
        }
        Self { distinct: self.distinct.select(&kept), of }
    }

    /// Keeps only some columns, as [`Csr::project`].
    #[must_use]
    pub fn project(&self, keep: &[Option<u32>], columns: usize) -> Self {
        let fewer = Self::of_rows(&self.distinct.project(keep, columns));
        Self { distinct: fewer.distinct, of: self.of.iter().map(|&row| fewer.of[row as usize]).collect() }
    }

    /// Appends rows of as many columns.
    pub fn append(&mut self, other: &Self) {
        let mine = self.distinct.len();
        self.distinct.append(&other.distinct);
        // Rows that were distinct keep their numbers.
        let all = Self::of_rows(&self.distinct);
        self.of.extend(other.of.iter().map(|&row| all.of[mine + row as usize]));
        self.distinct = all.distinct;
    }

    /// How often each distinct row occurs.
    pub fn counts(&self) -> Vec<f64> {
        let mut counts = vec![0.0; self.distinct.len()];
        self.of.iter().for_each(|&row| counts[row as usize] += 1.0);
        counts
    }

    /// Gives each row what its distinct one has.
    ///
    /// # Panics
    /// Fewer values than distinct rows.
    pub fn spread<T: Clone>(&self, values: &[T]) -> Vec<T> {
        self.of.iter().map(|&row| values[row as usize].clone()).collect()
    }

    /// All rows, each by itself.
    pub fn rows(&self) -> Csr {
        let all: Vec<usize> = self.of.iter().map(|&row| row as usize).collect();
        self.distinct.select(&all)
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
    fn repeated_rows_are_those_they_stand_for() {
        let repeated = Repeated::of_rows(&sample());
        assert_eq!((repeated.len(), repeated.distinct.len(), repeated.counts()), (3, 2, vec![2.0, 1.0]));
        assert_eq!(repeated.rows(), sample());
        let some = repeated.select([1, 2, 1]);
        assert_eq!((some.of.clone(), some.rows()), (vec![0, 1, 0], sample().select(&[1, 2, 1])));
        // Without column 0 and 3 all are equal.
        assert_eq!(repeated.project(&[None, None, Some(0), None], 1).of, [0, 0, 0]);
        let mut both = repeated.clone();
        let mut other = Csr::new(4);
        other.push([(1, 5.0)]);
        other.push([]);
        both.append(&Repeated::of_rows(&other));
        assert_eq!((both.of, both.distinct.len()), (vec![0, 1, 0, 2, 1], 3));
        assert_eq!(both.distinct.row(2), (&[1][..], &[5.0][..]));
    }
}
