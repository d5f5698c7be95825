//! Where two tables, Parquet or CSV, differ first, for `verify --rerun`.

use std::fs::File;
use std::path::Path;

use csv::{ReaderBuilder, StringRecord};
use logweir_engine::difference::{Compare, short};
use polars::prelude::{DataFrame, ParquetReader, SerReader as _};

/// Knows the tables that the built-in kinds write.
pub struct Tables;

impl Compare for Tables {
    fn first_difference(&self, path: &str, then: &Path, now: &Path) -> Option<String> {
        match path.rsplit_once('.')?.1 {
            "parquet" => {
                let read = |path: &Path| ParquetReader::new(File::open(path).ok()?).finish().ok();
                Some(of(&read(then)?, &read(now)?))
            }
            "csv" => csv(then, now),
            _ => None,
        }
    }
}

/// Returns where two CSV files with the same columns differ first; `None` also if they have the same fields.
fn csv(then: &Path, now: &Path) -> Option<String> {
    let open = |path: &Path| ReaderBuilder::new().flexible(true).from_path(path).ok();
    let (mut then, mut now) = (open(then)?, open(now)?);
    let columns = then.headers().ok()?.clone();
    if *now.headers().ok()? != columns {
        return None;
    }
    let (mut before, mut after) = (StringRecord::new(), StringRecord::new());
    for row in 1_u64.. {
        match (then.read_record(&mut before).ok()?, now.read_record(&mut after).ok()?) {
            (false, false) => return None,
            (true, true) if before == after => {}
            (true, true) => {
                let column = (0..before.len().max(after.len())).find(|n| before.get(*n) != after.get(*n))?;
                let name = columns.get(column).map_or_else(|| format!("{}", column + 1), |name| format!("`{name}`"));
                let shown = |row: &StringRecord| row.get(column).map_or_else(|| "absent".to_owned(), field);
                let (then, now) = (shown(&before), shown(&after));
                return Some(format!("row {row}, column {name}: recorded {then}, now {now}"));
            }
            (was, is) => {
                let fields = |row: &StringRecord| short(&row.iter().map(field).collect::<Vec<_>>().join(","));
                let shown = |there: bool, row| if there { fields(row) } else { "none".to_owned() };
                return Some(format!("row {row}: recorded {}, now {}", shown(was, &before), shown(is, &after)));
            }
        }
    }
    None
}

/// A field as it is shown: in quotes where one could not tell where it ends.
fn field(text: &str) -> String {
    let quoted = text.contains([',', '"']) || text.chars().any(char::is_control);
    short(&if quoted { format!("{text:?}") } else { text.to_owned() })
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
        assert!(Tables.first_difference("t.parquet", dir.path(), dir.path()).is_none());
        assert!(Tables.first_difference("t.txt", dir.path(), dir.path()).is_none());
    }

    #[test]
    fn the_first_row_and_column_of_csv_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let of = |then: &str, now: &str| {
            let (a, b) = (dir.path().join("a"), dir.path().join("b"));
            std::fs::write(&a, then).unwrap();
            std::fs::write(&b, now).unwrap();
            Tables.first_difference("t.csv", &a, &b)
        };
        let named = |then: &str, now: &str| of(then, now).unwrap();
        let quoted = named("x,y\n1,\"2,5\"\n3,4\n", "x,y\n1,\"2,6\"\n3,4\n");
        assert_eq!(quoted, "row 1, column `y`: recorded \"2,5\", now \"2,6\"");
        let broken = named("x,y\n\"a\nb\",1\nc,2\n", "x,y\n\"a\nb\",1\nc,3\n");
        assert_eq!(broken, "row 2, column `y`: recorded 2, now 3", "a field may hold a line end");
        assert_eq!(named("x\n1\n", "x\n1\n2\n"), "row 2: recorded none, now 2");
        assert_eq!(named("x,y\n1,2\n", "x,y\n1\n"), "row 1, column `y`: recorded 2, now absent");
        assert_eq!(named("x,y\n1,\n", "x,y\n1,2\n"), "row 1, column `y`: recorded nothing, now 2");
        // Other columns, or the same fields written otherwise, are told as text; other bytes as bytes.
        assert_eq!(of("x\n1\n", "y\n1\n"), None);
        assert_eq!(of("x\n1\n", "x\n\"1\"\n"), None);
        assert!(Tables.first_difference("t.csv", dir.path(), dir.path()).is_none());
    }
}
