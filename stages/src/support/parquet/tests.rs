//! Tables read back as they were written.

use polars::prelude::{DataType, UInt32Type, UInt64Type};

use super::*;
use crate::support::table::{lists, read_parquet};

#[test]
fn any_reader_reads_what_is_written_and_so_does_this_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let fields = [
        Field::one("line", Kind::U64),
        Field { name: "time", kind: Kind::Micros, shape: Shape::Optional },
        Field::one("level", Kind::Text),
        Field::one("template", Kind::U32),
        Field::list("sessions", Kind::U32),
        Field::list("parameters", Kind::Text),
        Field::one("flag", Kind::Flag),
        Field::list("gaps", Kind::I64),
        Field::list("lines", Kind::U64),
    ];
    let rows = 3000usize;
    let ends = |count: &dyn Fn(usize) -> usize| -> Vec<u32> {
        (0..rows)
            .scan(0, |end, i| {
                *end += count(i) as u32;
                Some(*end)
            })
            .collect()
    };
    let mut writer = TableWriter::create(&path, &fields).unwrap();
    for group in 0..2u64 {
        let line: Vec<i64> = (0..rows as i64).map(|i| i * i + group as i64).collect();
        let time: Vec<i64> =
            (0..rows as i64).map(|i| if i % 7 == 3 { i64::MIN } else { 1_226_262_930_000_000 - i }).collect();
        let level: Vec<u32> = (0..rows as u32).map(|i| u32::from(i > 5)).collect();
        let session_ends = ends(&|i| if group == 0 { 1 } else { [0, 1, 2, 40][i % 4] });
        let sessions: Vec<u32> = (0..session_ends[rows - 1]).map(|i| i % 900).collect();
        let value_ends = ends(&|i| i % 4);
        let texts: Vec<String> = (0..value_ends[rows - 1]).map(|i| "v".repeat(i as usize % 40)).collect();
        let text_ends: Vec<u32> = texts
            .iter()
            .scan(0, |end, t| {
                *end += t.len() as u32;
                Some(*end)
            })
            .collect();
        let lists = Lists::of_ends(&session_ends);
        let gaps: Vec<i64> = sessions.iter().map(|&s| i64::from(s) * 1000 - 5).collect();
        let dictionary: Vec<u32> = (0..900).map(|i| i * 3).collect();
        let flags: Vec<bool> = (0..rows).map(|i| i % 3 == 0).collect();
        let pages = vec![
            Page::of_numbers(None, line.iter().copied()),
            Page::of_optional(&time, i64::MIN),
            Page::of_dictionary(None, &level, 2).with_texts(["INFO", "WARN"]),
            Page::of_dictionary(None, &level, 2).with_numbers(&[7, 9]),
            Page::of_dictionary(Some(&lists), &sessions, 900).with_numbers(&dictionary),
            Page::of_texts(Some(&Lists::of_ends(&value_ends)), &text_ends, texts.concat().as_bytes())
                .compressed()
                .unwrap(),
            Page::of_flags(&flags),
            Page::of_numbers(Some(&lists), gaps.iter().copied()),
            Page::of_numbers(Some(&lists), sessions.iter().map(|&s| i64::from(s) + 1)),
        ];
        writer.write(rows, pages).unwrap();
    }
    writer.finish().unwrap();

    let frame = read_parquet(&path, None).unwrap();
    assert_eq!(frame.height(), 2 * rows);
    let column = |name: &str| frame.column(name).unwrap().clone();
    assert_eq!(column("line").u64().unwrap().get(rows + 9), Some(82));
    let time = column("time").cast(&DataType::Int64).unwrap();
    assert_eq!((time.i64().unwrap().get(3), time.i64().unwrap().get(4)), (None, Some(1_226_262_929_999_996)));
    assert_eq!(
        (column("level").str().unwrap().get(5), column("level").str().unwrap().get(6)),
        (Some("INFO"), Some("WARN"))
    );
    assert_eq!(column("template").u32().unwrap().get(6), Some(9));
    let (offsets, values) = lists::<UInt32Type>(&frame, "sessions").unwrap();
    assert_eq!(offsets[rows..rows + 5], [0, 0, 1, 3, 43].map(|o| o + rows));
    assert_eq!(values[rows + 2], 6);
    let texts = column("parameters");
    let texts = texts.as_materialized_series().list().unwrap().clone();
    assert_eq!(texts.get_as_series(3).unwrap().str().unwrap().get(2), Some("vvvvv"));
    assert_eq!(texts.get_as_series(4).unwrap().len(), 0);
    assert_eq!(column("flag").bool().unwrap().get(9), Some(true));
    assert_eq!(lists::<UInt64Type>(&frame, "lines").unwrap().1[rows + 2], 3);

    let table = Table::open(&path).unwrap();
    assert_eq!((table.groups(), table.rows(1)), (2, rows));
    let at = |name| table.column(name).unwrap();
    assert_eq!(table.span(1, at("line")), Some((1, 2999 * 2999 + 1)));
    let mut line = Vec::new();
    table.read(1, at("line")).unwrap().numbers(|v| line.push(v)).unwrap();
    assert_eq!((line.len(), line[9]), (rows, 82));
    assert_eq!(
        table.read(0, at("time")).unwrap().optional(-1).unwrap()[2..5],
        [1_226_262_929_999_998, -1, 1_226_262_929_999_996]
    );
    let (ends, sessions, dictionary) = table.read(1, at("sessions")).unwrap().lists().unwrap();
    assert_eq!((&ends[..5], sessions[2], dictionary[2]), (&[0, 1, 3, 43, 43][..], 2, 6));
    assert_eq!(table.read(0, at("sessions")).unwrap().lists().unwrap().0[..2], [1, 2]);
    assert_eq!(table.read(0, at("template")).unwrap().changed(Ok).unwrap()[5..7], [7, 9]);
    assert!(table.column("nope").is_err());
}
