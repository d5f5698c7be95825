//! Reads tables of [`TableWriter`](super::TableWriter), and nothing but them.

use std::fs::File;
use std::io::Cursor;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use polars_parquet::parquet::metadata::{ColumnChunkMetadata, FileMetadata};
use polars_parquet::parquet::page::{DataPage, DictPage};
use polars_parquet::parquet::read::{BasicDecompressor, PageReader, read_metadata};
use polars_parquet::parquet::statistics::Statistics;

use super::encoding::{Levels, take_deltas, take_levels, take_numbers};

/// Reads a table that [`TableWriter`](super::TableWriter) wrote.
pub struct Table {
    file: File,
    path: PathBuf,
    about: FileMetadata,
}

/// A column of a row group as it lies in the file, decompressed.
#[derive(Debug)]
pub struct Data {
    page: DataPage,
    dictionary: Option<DictPage>,
}

/// Lists of texts: where each row ends, places in the dictionary, and that.
pub type TextLists<'a> = (Vec<u32>, Vec<u32>, Vec<&'a [u8]>);

impl Data {
    /// Calls `value` with each number of a column of one number a row.
    ///
    /// # Errors
    /// The page is damaged.
    pub fn numbers(&self, value: impl FnMut(i64)) -> anyhow::Result<()> {
        take_deltas(self.page.buffer(), value)?;
        Ok(())
    }

    /// Returns the numbers of a column where some lack, which are `none`.
    ///
    /// # Errors
    /// The page is damaged.
    pub fn optional(&self, none: i64) -> anyhow::Result<Vec<i64>> {
        let mut bytes = self.page.buffer();
        let there = take_levels(&mut bytes)?;
        let mut values = Vec::with_capacity(self.count());
        take_deltas(bytes, |v| values.push(v))?;
        if values.len() == self.count() {
            return Ok(values);
        }
        let mut kept = values.into_iter();
        Ok((0..self.count()).map(|i| if there.get(i) { kept.next().unwrap_or(none) } else { none }).collect())
    }

    /// Returns how many values there are, empty lists and nulls included.
    fn count(&self) -> usize {
        self.page.num_values()
    }

    fn dictionary(&self) -> Vec<u32> {
        let bytes = self.dictionary.as_ref().map_or(&[][..], |page| &page.buffer);
        bytes.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect()
    }

    /// Returns the numbers of a column of one number a row, `change`d in the dictionary.
    ///
    /// # Errors
    /// The page is damaged, or `change` fails.
    pub fn changed(&self, change: impl Fn(u32) -> anyhow::Result<u32>) -> anyhow::Result<Vec<u32>> {
        let dictionary = self.dictionary().into_iter().map(change).collect::<anyhow::Result<Vec<u32>>>()?;
        let mut values = Vec::new();
        take_numbers(self.page.buffer(), self.count(), &mut values)?;
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

    /// Returns lists of words of four bytes that have no dictionary: where each row ends, and the words.
    ///
    /// # Errors
    /// The page is damaged.
    pub fn plain_lists(&self) -> anyhow::Result<(Vec<u32>, Vec<u32>)> {
        let (ends, bytes) = self.ends()?;
        let values: Vec<u32> = bytes.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
        anyhow::ensure!(values.len() == ends.last().map_or(0, |&end| end as usize), "a list is cut off");
        Ok((ends, values))
    }

    /// Returns lists of texts of a dictionary: where each row ends, places in the dictionary, and that.
    ///
    /// # Errors
    /// The page is damaged.
    pub fn text_lists(&self) -> anyhow::Result<TextLists<'_>> {
        let (ends, bytes) = self.ends()?;
        let mut numbers = Vec::new();
        take_numbers(bytes, ends.last().map_or(0, |&end| end as usize), &mut numbers)?;
        let mut rest = self.dictionary.as_ref().map_or(&[][..], |page| &page.buffer);
        let mut texts = Vec::new();
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let text = after.split_at_checked(u32::from_le_bytes(*length) as usize).context("a text is cut off")?;
            texts.push(text.0);
            rest = text.1;
        }
        let most = numbers.iter().copied().max().unwrap_or(0) as usize;
        anyhow::ensure!(numbers.is_empty() || most < texts.len(), "a number is not in its dictionary");
        Ok((ends, numbers, texts))
    }

    /// Calls `value` with each truth of a column of one truth a row.
    ///
    /// # Errors
    /// The page is damaged.
    pub fn flags(&self, mut value: impl FnMut(bool)) -> anyhow::Result<()> {
        let bytes = self.page.buffer();
        anyhow::ensure!(8 * bytes.len() >= self.count(), "a truth is cut off");
        (0..self.count()).for_each(|i| value(bytes[i / 8] >> (i % 8) & 1 == 1));
        Ok(())
    }

    /// Returns where the lists of a column end, and the bytes of their values.
    fn ends(&self) -> anyhow::Result<(Vec<u32>, &[u8])> {
        let mut bytes = self.page.buffer();
        let (again, there) = (take_levels(&mut bytes)?, take_levels(&mut bytes)?);
        let mut ends = Vec::with_capacity(self.count());
        let mut values = 0u32;
        if let (Levels::All(false), Levels::All(true)) = (&again, &there) {
            values = self.count() as u32;
            ends.extend(1..=values);
        } else {
            for i in 0..self.count() {
                if i > 0 && !again.get(i) {
                    ends.push(values);
                }
                values += u32::from(there.get(i));
            }
            if self.count() > 0 {
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
        let mut lengths = Vec::with_capacity(self.count());
        let mut rest = take_deltas(self.page.buffer(), |length| lengths.push(length as usize))?;
        for length in lengths.into_iter().take(self.count()) {
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
        let about = read_metadata(&mut &file).with_context(context)?;
        Ok(Self { file, path: path.to_owned(), about })
    }

    /// Returns whether a [`TableWriter`](super::TableWriter) wrote the file.
    pub fn is_own(&self) -> bool {
        self.about.created_by.as_deref() == Some(super::write::CREATED_BY)
    }

    fn place(&self, group: usize, column: usize) -> &ColumnChunkMetadata {
        &self.about.row_groups[group].parquet_columns()[column]
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns how many row groups there are.
    pub fn groups(&self) -> usize {
        self.about.row_groups.len()
    }

    /// Returns how many rows a row group has.
    pub fn rows(&self, group: usize) -> usize {
        self.about.row_groups[group].num_rows()
    }

    /// Returns the least and the greatest number of a column in a row group, if the file says so.
    pub fn span(&self, group: usize, column: usize) -> Option<(i64, i64)> {
        match self.place(group, column).statistics(&self.about.footer_buf)?.ok()? {
            Statistics::Int64(numbers) => numbers.min_value.zip(numbers.max_value),
            _ => None,
        }
    }

    /// Returns which column has a name.
    ///
    /// # Errors
    /// None has.
    pub fn column(&self, name: &str) -> anyhow::Result<usize> {
        let columns = self.about.schema().columns();
        let at = columns.iter().position(|column| column.path_in_schema.first().is_some_and(|n| n == name));
        at.with_context(|| format!("{} has no column `{name}`", self.path.display()))
    }

    /// Reads a column of a row group.
    ///
    /// # Errors
    /// The file cannot be read or is damaged, or the column has several pages.
    pub fn read(&self, group: usize, column: usize) -> anyhow::Result<Data> {
        let context = || format!("cannot read {}", self.path.display());
        let place = self.place(group, column);
        let range = place.byte_range();
        let mut bytes = vec![0; (range.end - range.start) as usize];
        self.file.read_exact_at(&mut bytes, range.start).with_context(context)?;
        Self::pages(bytes, place).with_context(context)
    }

    fn pages(bytes: Vec<u8>, place: &ColumnChunkMetadata) -> anyhow::Result<Data> {
        let reader = PageReader::new(Cursor::new(bytes.into()), place, Vec::new(), usize::MAX);
        let mut pages = BasicDecompressor::new(reader, Vec::new());
        let dictionary = pages.read_dict_page()?;
        let page = pages.next().context("a column without a page")??.decompress(&mut pages)?;
        ensure!(pages.next().is_none(), "a column of several pages");
        Ok(Data { page, dictionary })
    }
}
