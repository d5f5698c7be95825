//! Writes row groups of encoded pages.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use polars_parquet::parquet::error::{ParquetError, ParquetResult};
use polars_parquet::parquet::fallible_streaming_iterator::convert;
use polars_parquet::parquet::metadata::SchemaDescriptor;
use polars_parquet::parquet::page::CompressedPage;
use polars_parquet::parquet::write::{DynIter, DynStreamingIterator, FileWriter, Version, WriteOptions};

use super::{Field, Page};

/// What the files say they were written by.
pub(super) const CREATED_BY: &str = "logweir";

/// Writes a table.
pub struct TableWriter {
    out: FileWriter<BufWriter<File>>,
    path: PathBuf,
}

impl TableWriter {
    /// Creates the file.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn create(path: &Path, fields: &[Field]) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        let columns = fields.iter().map(|field| field.column()).collect::<ParquetResult<_>>()?;
        let schema = SchemaDescriptor::new("root".into(), columns);
        // Spans are told of row groups; an index of pages would say the same of the one page that each column has.
        let options = WriteOptions { write_statistics: false, version: Version::V2 };
        let file = BufWriter::with_capacity(1 << 16, file);
        Ok(Self { out: FileWriter::new(file, schema, options, Some(CREATED_BY.to_owned())), path: path.to_owned() })
    }

    /// Writes a row group: a page for each column.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self, rows: usize, pages: Vec<Page>) -> anyhow::Result<()> {
        let columns = self.out.schema().columns();
        assert_eq!(pages.len(), columns.len(), "a page for each column");
        let described = pages.into_iter().zip(columns);
        let columns: Vec<Vec<CompressedPage>> =
            described.map(|(page, column)| page.described(&column.descriptor, rows)).collect();
        let group = columns.iter().map(|pages| Ok(DynStreamingIterator::new(convert(pages.iter().map(Ok)))));
        let written = self.out.write::<ParquetError>(rows as u64, DynIter::new(group));
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Completes the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(mut self) -> anyhow::Result<()> {
        self.out.end(None).with_context(|| format!("cannot write {}", self.path.display()))?;
        Ok(())
    }
}
