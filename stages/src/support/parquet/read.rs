//! Reads tables of [`TableWriter`](super::TableWriter), and nothing but them.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::encoding::{Levels, take_deltas, take_levels, take_numbers};
use super::thrift::Value;

/// Reads a table that [`TableWriter`](super::TableWriter) wrote.
pub struct Table {
    file: File,
    path: PathBuf,
    names: Vec<String>,
    groups: Vec<Group>,
}

struct Group {
    rows: usize,
    columns: Vec<Place>,
}

#[derive(Clone, Copy, Default)]
struct Place {
    at: u64,
    length: usize,
    values: usize,
    codec: i64,
    span: Option<(i64, i64)>,
}

/// A column of a row group as it lies in the file, decompressed.
#[derive(Debug, Default)]
pub struct Data {
    count: usize,
    bytes: Vec<u8>,
    dictionary: Vec<u8>,
}

impl Data {
    /// Calls `value` with each number of a column of one number a row.
    ///
    /// # Errors
    /// The page is damaged.
    pub fn numbers(&self, value: impl FnMut(i64)) -> anyhow::Result<()> {
        take_deltas(&self.bytes, value)?;
        Ok(())
    }

    /// Returns the numbers of a column where some lack, which are `none`.
    ///
    /// # Errors
    /// The page is damaged.
    pub fn optional(&self, none: i64) -> anyhow::Result<Vec<i64>> {
        let mut bytes = &self.bytes[..];
        let there = take_levels(&mut bytes)?;
        let mut values = Vec::with_capacity(self.count);
        take_deltas(bytes, |v| values.push(v))?;
        if values.len() == self.count {
            return Ok(values);
        }
        let mut kept = values.into_iter();
        Ok((0..self.count).map(|i| if there.get(i) { kept.next().unwrap_or(none) } else { none }).collect())
    }

    fn dictionary(&self) -> Vec<u32> {
        self.dictionary.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect()
    }

    /// Returns the numbers of a column of one number a row, `change`d in the dictionary.
    ///
    /// # Errors
    /// The page is damaged, or `change` fails.
    pub fn changed(&self, change: impl Fn(u32) -> anyhow::Result<u32>) -> anyhow::Result<Vec<u32>> {
        let dictionary = self.dictionary().into_iter().map(change).collect::<anyhow::Result<Vec<u32>>>()?;
        let mut values = Vec::new();
        take_numbers(&self.bytes, self.count, &mut values)?;
        let mut wrong = false;
        for value in &mut values {
            match dictionary.get(*value as usize) {
                Some(&changed) => *value = changed,
                None => wrong = true,
            }
        }
        anyhow::ensure!(!wrong, "a number is not in its dictionary");
        Ok(values)
    }

    /// Returns lists of numbers of a dictionary: where each row ends, places in the dictionary, and that.
    ///
    /// # Errors
    /// The page is damaged.
    pub fn lists(&self) -> anyhow::Result<(Vec<u32>, Vec<u32>, Vec<u32>)> {
        let (ends, bytes) = self.ends()?;
        let values = ends.last().map_or(0, |&end| end as usize);
        let (dictionary, mut numbers) = (self.dictionary(), Vec::new());
        take_numbers(bytes, values, &mut numbers)?;
        let most = numbers.iter().copied().max().unwrap_or(0) as usize;
        anyhow::ensure!(numbers.is_empty() || most < dictionary.len(), "a number is not in its dictionary");
        Ok((ends, numbers, dictionary))
    }

    /// Returns lists of numbers that have no dictionary: where each row ends, and the numbers.
    ///
    /// # Errors
    /// The page is damaged.
    pub fn long_lists(&self) -> anyhow::Result<(Vec<u32>, Vec<i64>)> {
        let (ends, bytes) = self.ends()?;
        let mut values = Vec::with_capacity(ends.last().map_or(0, |&end| end as usize));
        take_deltas(bytes, |v| values.push(v))?;
        anyhow::ensure!(values.len() == ends.last().map_or(0, |&end| end as usize), "a list is cut off");
        Ok((ends, values))
    }

    /// Returns where the lists of a column end, and the bytes of their values.
    fn ends(&self) -> anyhow::Result<(Vec<u32>, &[u8])> {
        let mut bytes = &self.bytes[..];
        let (again, there) = (take_levels(&mut bytes)?, take_levels(&mut bytes)?);
        let mut ends = Vec::with_capacity(self.count);
        let mut values = 0u32;
        if let (Levels::All(false), Levels::All(true)) = (&again, &there) {
            values = self.count as u32;
            ends.extend(1..=values);
        } else {
            for i in 0..self.count {
                if i > 0 && !again.get(i) {
                    ends.push(values);
                }
                values += u32::from(there.get(i));
            }
            if self.count > 0 {
                ends.push(values);
            }
        }
        Ok((ends, bytes))
    }

    /// Calls `value` with each text of a column of one text a row.
    ///
    /// # Errors
    /// The page is damaged.
    pub fn texts(&self, mut value: impl FnMut(&[u8])) -> anyhow::Result<()> {
        let mut lengths = Vec::with_capacity(self.count);
        let mut rest = take_deltas(&self.bytes, |length| lengths.push(length as usize))?;
        for length in lengths.into_iter().take(self.count) {
            let (text, after) = rest.split_at_checked(length).context("a text is cut off")?;
            value(text);
            rest = after;
        }
        Ok(())
    }
}

impl Table {
    /// Opens a table.
    ///
    /// # Errors
    /// The file cannot be read, or is none of a [`TableWriter`](super::TableWriter).
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let context = || format!("cannot read {}", path.display());
        let file = File::open(path).with_context(context)?;
        let (names, groups) = Self::footer(&file).with_context(context)?;
        Ok(Self { file, path: path.to_owned(), names, groups })
    }

    fn footer(file: &File) -> anyhow::Result<(Vec<String>, Vec<Group>)> {
        let size = file.metadata()?.len();
        let mut tail = [0; 8];
        file.read_exact_at(&mut tail, size.checked_sub(8).context("it is too short")?)?;
        let length = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
        if &tail[4..] != b"PAR1" || length + 12 > size {
            bail!("it is no Parquet");
        }
        let mut footer = vec![0; length as usize];
        file.read_exact_at(&mut footer, size - 8 - length)?;
        let meta = Value::take(&mut &footer[..])?;
        let mut names = Vec::new();
        let mut groups = Vec::new();
        for group in meta.list(4) {
            let mut columns = Vec::new();
            names.clear();
            for column in group.list(1) {
                let meta = column.get(3).context("a column is not described")?;
                let name = match meta.list(3).first() {
                    Some(Value::Bytes(name)) => String::from_utf8_lossy(name).into_owned(),
                    _ => bail!("a column has no name"),
                };
                names.push(name);
                let bound = |id| -> Option<i64> { Some(i64::from_le_bytes(meta.get(12)?.bytes(id)?.try_into().ok()?)) };
                columns.push(Place {
                    at: meta.number(11).or(meta.number(9)).context("a column has no place")? as u64,
                    codec: meta.number(4).unwrap_or(0),
                    values: meta.number(5).context("a column has no count")? as usize,
                    length: meta.number(7).context("a column has no length")? as usize,
                    span: bound(6).zip(bound(5)),
                });
            }
            groups.push(Group { rows: group.number(3).context("a row group has no rows")? as usize, columns });
        }
        Ok((names, groups))
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns how many row groups there are.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Returns how many rows a row group has.
    pub fn rows(&self, group: usize) -> usize {
        self.groups[group].rows
    }

    /// Returns how many values a column has in a row group, empty lists and nulls included.
    pub fn values(&self, group: usize, column: usize) -> usize {
        self.groups[group].columns[column].values
    }

    /// Returns the least and the greatest number of a column in a row group, if the file says so.
    pub fn span(&self, group: usize, column: usize) -> Option<(i64, i64)> {
        self.groups[group].columns[column].span
    }

    /// Returns which column has a name.
    ///
    /// # Errors
    /// None has.
    pub fn column(&self, name: &str) -> anyhow::Result<usize> {
        if self.groups.is_empty() {
            return Ok(0);
        }
        let at = self.names.iter().position(|n| n == name);
        at.with_context(|| format!("{} has no column `{name}`", self.path.display()))
    }

    /// Reads a column of a row group.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn read(&self, group: usize, column: usize) -> anyhow::Result<Data> {
        let context = || format!("cannot read {}", self.path.display());
        let place = self.groups[group].columns[column];
        let mut bytes = vec![0; place.length];
        self.file.read_exact_at(&mut bytes, place.at).with_context(context)?;
        Self::pages(&bytes, place.codec).with_context(context)
    }

    fn pages(mut rest: &[u8], codec: i64) -> anyhow::Result<Data> {
        let mut data = Data::default();
        while !rest.is_empty() {
            let head = Value::take(&mut rest)?;
            let [kind, length, packed] = [1, 2, 3].map(|id| head.number(id));
            let (length, packed) = (length.context("no length")? as usize, packed.context("no length")? as usize);
            let (bytes, after) = rest.split_at_checked(packed).context("a page is cut off")?;
            rest = after;
            let bytes = match codec {
                0 => bytes.to_vec(),
                _ => lz4::block::decompress(bytes, Some(length as i32))?,
            };
            match kind {
                Some(2) => data.dictionary = bytes,
                _ => {
                    data.count = head.get(5).and_then(|h| h.number(1)).context("a page without count")? as usize;
                    data.bytes = bytes;
                }
            }
        }
        Ok(data)
    }
}
