//! Where two Parquet files differ first, for `verify --rerun`.

use std::fs::File;
use std::path::Path;

use logweir_engine::difference::Compare;
use polars::prelude::{DataFrame, ParquetReader, SerReader as _};

/// Knows the tables that the built-in kinds write.
pub struct Tables;

impl Compare for Tables {
    fn first_difference(&self, path: &str, then: &Path, now: &Path) -> Option<String> {
        if !path.ends_with(".parquet") {
            return None;
        }
        let read = |path: &Path| ParquetReader::new(File::open(path).ok()?).finish().ok();
        Some(of(&read(then)?, &read(now)?))
    }
}

/// Returns where two tables differ first: a column that is another one, or the first row and in it the first column.
fn of(then: &DataFrame, now: &DataFrame) -> String {
    let columns = |table: &DataFrame| -> Vec<String> {
        table.columns().iter().map(|column| format!("{} ({})", column.name(), column.dtype())).collect()
    };
    let (before, after) = (columns(then), columns(now));
    if before != after {
        let at = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
        let shown = |all: &[String]| all.get(at).cloned().unwrap_or_else(|| "none".to_owned());
        return format!("column {}: recorded {}, now {}", at + 1, shown(&before), shown(&after));
    }
    let rows = then.height().min(now.height());
    let mut first: Option<(usize, String)> = None;
    for (a, b) in then.columns().iter().zip(now.columns()) {
        let end = first.as_ref().map_or(rows, |(row, _)| *row);
        let differs = |row: &usize| match (a.get(*row), b.get(*row)) {
            (Ok(x), Ok(y)) => x != y && format!("{x:?}") != format!("{y:?}"),
            _ => false,
        };
        if let Some(row) = (0..end).find(differs) {
            let shown = |value: polars::prelude::PolarsResult<polars::prelude::AnyValue<'_>>| {
                value.map_or_else(|error| error.to_string(), |value| value.to_string())
            };
            let (then, now) = (shown(a.get(row)), shown(b.get(row)));
            first = Some((row, format!("row {}, column `{}`: recorded {then}, now {now}", row + 1, a.name())));
        }
    }
    match first {
        Some((_, text)) => text,
        None if then.height() != now.height() => {
            format!("row {}: recorded {} rows, now {}", rows + 1, then.height(), now.height())
        }
        None => "the same rows, written with other bytes".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use polars::prelude::{Column, ParquetWriter};

    use super::*;

    #[test]
    fn the_first_row_and_column_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let table = |scores: &[f64], words: &[&str]| {
            DataFrame::new(scores.len(), vec![Column::new("score".into(), scores), Column::new("word".into(), words)])
                .unwrap()
        };
        let of = |mut then: DataFrame, mut now: DataFrame| {
            let (a, b) = (dir.path().join("a"), dir.path().join("b"));
            ParquetWriter::new(File::create(&a).unwrap()).finish(&mut then).unwrap();
            ParquetWriter::new(File::create(&b).unwrap()).finish(&mut now).unwrap();
            Tables.first_difference("t.parquet", &a, &b).unwrap()
        };
        let words = ["a", "b", "c"];
        let then = || table(&[1.0, f64::NAN, 3.0], &words);
        assert_eq!(of(then(), table(&[1.0, f64::NAN, 4.0], &words)), "row 3, column `score`: recorded 3.0, now 4.0");
        let both = table(&[1.0, f64::NAN, 4.0], &["a", "x", "c"]);
        assert_eq!(of(then(), both), "row 2, column `word`: recorded \"b\", now \"x\"");
        assert_eq!(of(then(), table(&[1.0], &["a"])), "row 2: recorded 3 rows, now 1");
        assert_eq!(of(then(), then()), "the same rows, written with other bytes");
        assert!(Tables.first_difference("t.csv", dir.path(), dir.path()).is_none());
    }
}
