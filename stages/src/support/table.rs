//! Parquet and CSV tables: one way to write them (equal frames give equal bytes), one way to read them.

use std::fs::File;
use std::path::Path;

use anyhow::Context;
use polars::prelude::{
    Column, DataFrame, ListBuilderTrait, ListPrimitiveChunkedBuilder, ParquetCompression, ParquetReader, ParquetWriter,
    PolarsNumericType, SerReader,
};
use polars::series::IntoSeries;

/// Writes a frame as Parquet (zstd, statistics, fixed row groups); equal frames give equal bytes.
///
/// # Errors
/// The file cannot be created or written.
pub fn write_parquet(path: &Path, frame: &mut DataFrame) -> anyhow::Result<()> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    ParquetWriter::new(file)
        .with_compression(ParquetCompression::Zstd(None))
        .with_row_group_size(Some(1 << 18))
        .set_parallel(false)
        .finish(frame)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}

/// Reads a Parquet file, all columns or those named, as one chunk.
///
/// # Errors
/// The file is missing, is not Parquet, or lacks a column.
pub fn read_parquet(path: &Path, columns: Option<&[&str]>) -> anyhow::Result<DataFrame> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut reader = ParquetReader::new(file);
    if let Some(columns) = columns {
        reader = reader.with_columns(Some(columns.iter().map(|c| (*c).to_owned()).collect()));
    }
    let mut frame = reader.finish().with_context(|| format!("cannot read {}", path.display()))?;
    frame.rechunk_mut();
    Ok(frame)
}

/// Returns which of some columns a Parquet file has, in the order given.
///
/// # Errors
/// The file is missing or is not Parquet.
pub fn present<'a>(path: &Path, columns: &[&'a str]) -> anyhow::Result<Vec<&'a str>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let schema = ParquetReader::new(file).schema().with_context(|| format!("cannot read {}", path.display()))?;
    Ok(columns.iter().copied().filter(|name| schema.get(name).is_some()).collect())
}

/// Returns the values of a list column as (offsets, flat values): row i is `values[offsets[i]..offsets[i + 1]]`.
///
/// # Errors
/// The column is not a list of `T`.
pub fn lists<T: PolarsNumericType>(frame: &DataFrame, column: &str) -> anyhow::Result<(Vec<usize>, Vec<T::Native>)> {
    let series = frame.column(column)?.as_materialized_series().rechunk();
    let list = series.list().with_context(|| format!("column `{column}` is no list"))?;
    let mut offsets = vec![0];
    for array in list.downcast_iter() {
        let start = offsets[offsets.len() - 1];
        let first = array.offsets().as_slice()[0];
        offsets.extend(array.offsets().as_slice()[1..].iter().map(|&o| start + (o - first) as usize));
    }
    // A slice of a frame keeps the values of the whole; its offsets then do not begin at 0.
    let start = list.downcast_iter().next().map_or(0, |array| array.offsets().as_slice()[0]);
    let inner = list.get_inner().slice(start, offsets[offsets.len() - 1]);
    let inner = inner.unpack::<T>().with_context(|| format!("column `{column}` holds another type"))?;
    anyhow::ensure!(inner.null_count() == 0, "null inside a list");
    let mut values = Vec::with_capacity(inner.len());
    inner.downcast_iter().for_each(|part| values.extend_from_slice(part.values()));
    Ok((offsets, values))
}

/// Makes a list column from (offsets, flat values), the inverse of [`lists`].
///
/// # Panics
/// The offsets do not fit the values.
pub fn list_column<T: PolarsNumericType>(name: &str, offsets: &[usize], values: &[T::Native]) -> Column {
    let mut builder = ListPrimitiveChunkedBuilder::<T>::new(
        name.into(),
        offsets.len().saturating_sub(1),
        values.len(),
        T::get_static_dtype(),
    );
    for pair in offsets.windows(2) {
        builder.append_slice(&values[pair[0]..pair[1]]);
    }
    builder.finish().into_series().into()
}

#[cfg(test)]
mod tests {
    use polars::prelude::UInt32Type;

    use super::*;

    #[test]
    fn lists_survive_parquet_and_equal_frames_give_equal_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let (offsets, values) = (vec![0, 2, 2, 5], vec![1u32, 2, 3, 4, 5]);
        let frame = || {
            DataFrame::new_infer_height(vec![
                list_column::<UInt32Type>("events", &offsets, &values),
                Column::new("id".into(), ["a", "b", "c"]),
            ])
            .unwrap()
        };
        let (a, b) = (dir.path().join("a.parquet"), dir.path().join("b.parquet"));
        write_parquet(&a, &mut frame()).unwrap();
        write_parquet(&b, &mut frame()).unwrap();
        assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
        let back = read_parquet(&a, Some(&["events"])).unwrap();
        assert_eq!(lists::<UInt32Type>(&back, "events").unwrap(), (offsets, values));
    }

    #[test]
    fn a_slice_of_a_frame_has_its_own_values() {
        let column = list_column::<UInt32Type>("events", &[0, 2, 2, 5], &[1, 2, 3, 4, 5]);
        let frame = DataFrame::new_infer_height(vec![column]).unwrap();
        let (offsets, values) = lists::<UInt32Type>(&frame.slice(1, 2), "events").unwrap();
        assert_eq!((offsets, values), (vec![0, 0, 3], vec![3, 4, 5]));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read_parquet(Path::new("no/such.parquet"), None).unwrap_err();
        assert!(error.to_string().contains("no/such.parquet"), "{error}");
    }
}
