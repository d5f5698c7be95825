//! What the tables of the pipeline are, for exported lineage: columns, rows, missing and different values, and from which
//! columns of which input a column is made. Nothing here changes what a stage computes.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use logweir_engine::export::{ColumnFacts, Describe, TableFacts};
use logweir_engine::runlog::ActionEntry;
use polars::prelude::{CsvReader, DataFrame, DataType, ParquetReader, SerReader};

/// Tables up to this size (bytes) are read for the counts of their columns; of larger ones the schema and the rows are told.
const READ_UP_TO: u64 = 32 << 20;

/// Knows Parquet and CSV tables.
pub struct Tables;

impl Describe for Tables {
    fn table(&self, path: &str, file: &Path) -> Option<TableFacts> {
        let size = file.metadata().ok()?.len();
        match path.rsplit_once('.')?.1 {
            "parquet" if size > READ_UP_TO => schema_only(file),
            "parquet" => Some(facts(&ParquetReader::new(File::open(file).ok()?).finish().ok()?)),
            "csv" if size <= READ_UP_TO => Some(facts(&CsvReader::new(File::open(file).ok()?).finish().ok()?)),
            _ => None,
        }
    }

    /// Known is what every stage of the pipeline keeps to: a column that has the name and the type of one column of
    /// exactly one input table is that column, taken over. Others are not told.
    fn columns(
        &self,
        action: &ActionEntry,
        slot: &str,
        tables: &BTreeMap<String, TableFacts>,
    ) -> BTreeMap<String, Vec<(String, String, bool)>> {
        let known = ["sessionize", "label", "split", "fusion", "evaluate"];
        let mut found = BTreeMap::new();
        if action.record.kind.as_deref().is_none_or(|kind| !known.contains(&kind)) {
            return found;
        }
        let Some(made) = action.outputs.get(slot).and_then(|output| tables.get(&output.path)) else { return found };
        for column in &made.columns {
            let mut from = Vec::new();
            for path in action.record.inputs.values().flatten().flat_map(BTreeMap::keys) {
                let same = |theirs: &&ColumnFacts| theirs.name == column.name && theirs.kind == column.kind;
                if tables.get(path).is_some_and(|table| table.columns.iter().any(|theirs| same(&theirs))) {
                    from.push((path.clone(), column.name.clone(), true));
                }
            }
            from.dedup();
            if let [_] = from.as_slice() {
                found.insert(column.name.clone(), from);
            }
        }
        found
    }
}

/// Schema and rows from the footer of a Parquet file.
fn schema_only(file: &Path) -> Option<TableFacts> {
    let mut reader = ParquetReader::new(File::open(file).ok()?);
    let schema = reader.schema().ok()?;
    let column = |field: &polars::prelude::ArrowField| ColumnFacts {
        name: field.name.to_string(),
        kind: format!("{:?}", field.dtype),
        ..ColumnFacts::default()
    };
    let columns = schema.iter_values().map(column).collect();
    Some(TableFacts { rows: reader.num_rows().ok()? as u64, columns })
}

fn facts(frame: &DataFrame) -> TableFacts {
    let column = |column: &polars::prelude::Column| {
        let (min, max) = match column.dtype().is_numeric() {
            true => (number(column.min_reduce()), number(column.max_reduce())),
            false => (None, None),
        };
        let simple = !matches!(column.dtype(), DataType::List(_));
        ColumnFacts {
            name: column.name().to_string(),
            kind: column.dtype().to_string(),
            nulls: Some(column.null_count() as u64),
            distinct: if simple { column.n_unique().ok().map(|n| n as u64) } else { None },
            min,
            max,
        }
    };
    TableFacts { rows: frame.height() as u64, columns: frame.columns().iter().map(column).collect() }
}

fn number(scalar: polars::prelude::PolarsResult<polars::prelude::Scalar>) -> Option<f64> {
    scalar.ok()?.value().extract::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars::prelude::Column;

    #[test]
    fn a_table_is_told_with_its_rows_types_and_counts() {
        let dir = tempfile::tempdir().unwrap();
        let numbers = Column::new("n".into(), [Some(1.5f64), None, Some(4.0)]);
        let names = Column::new("name".into(), ["a", "b", "a"]);
        let mut frame = DataFrame::new(3, vec![numbers, names]).unwrap();
        let file = dir.path().join("t.parquet");
        crate::support::table::write_parquet(&file, &mut frame).unwrap();
        let facts = Tables.table("data/t.parquet", &file).unwrap();
        assert_eq!(facts.rows, 3);
        let n = &facts.columns[0];
        assert_eq!((n.name.as_str(), n.kind.as_str(), n.nulls), ("n", "f64", Some(1)));
        assert_eq!((n.min, n.max), (Some(1.5), Some(4.0)));
        assert_eq!((facts.columns[1].distinct, facts.columns[1].min), (Some(2), None));
        let large = schema_only(&file).unwrap();
        assert_eq!((large.rows, large.columns[1].name.as_str()), (3, "name"));

        let csv = dir.path().join("t.csv");
        std::fs::write(&csv, "x,y\n1,a\n2,b\n").unwrap();
        let facts = Tables.table("t.csv", &csv).unwrap();
        assert_eq!((facts.rows, facts.columns[0].max), (2, Some(2.0)));
        assert_eq!(Tables.table("t.json", &csv), None);
        assert_eq!(Tables.table("t.parquet", &csv), None, "no table, whatever its name");
    }
}
