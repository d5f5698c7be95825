//! From a line's number over all files, as sessions have it, to its place in its file.

use std::path::Path;

use anyhow::Context as _;

use super::{Part, read_parts};
use crate::support::parquet::Table;

/// Where a line is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinePlace {
    /// Logical path of the file.
    pub file: String,
    /// 1-based number of the line in the file.
    pub line: u64,
    /// Byte offset of its start in the decompressed file.
    pub offset: u64,
}

/// Finds lines of the logs that an events directory was made of. A look-up reads the row groups that hold the lines, two
/// columns of each.
pub struct Places {
    parts: Vec<Rows>,
}

struct Rows {
    part: Part,
    table: Table,
    /// Lines of all files before the part, of its file before it.
    before: u64,
    before_in_file: u64,
}

impl Places {
    /// Opens an events directory.
    ///
    /// # Errors
    /// A file is missing or malformed.
    pub fn open(events: &Path) -> anyhow::Result<Self> {
        let mut parts: Vec<Rows> = Vec::new();
        let (mut before, mut before_in_file) = (0, 0);
        for part in read_parts(events)? {
            if parts.last().is_none_or(|last| last.part.file != part.file) {
                before_in_file = 0;
            }
            let lines = part.about.lines;
            parts.push(Rows { table: Table::open(&part.rows())?, part, before, before_in_file });
            before += lines;
            before_in_file += lines;
        }
        Ok(Self { parts })
    }

    /// Returns the places of lines, given by their 1-based numbers over all files, in the order given.
    ///
    /// # Errors
    /// There is no such line, or it was not parsed; or a file is damaged.
    pub fn find(&self, lines: &[u64]) -> anyhow::Result<Vec<LinePlace>> {
        let mut order: Vec<usize> = (0..lines.len()).collect();
        order.sort_by_key(|&i| lines[i]);
        let mut places = vec![None; lines.len()];
        let mut known: Option<(usize, usize, Vec<u64>, Vec<u64>)> = None;
        for i in order {
            let line = lines[i];
            let missing = || format!("line {line} is not among the parsed lines");
            let number = self.parts.partition_point(|p| p.before < line).checked_sub(1).with_context(missing)?;
            let rows = &self.parts[number];
            let local = line - rows.before;
            let column = rows.table.column("line")?;
            let last = |group: usize| rows.table.span(group, column).map_or(0, |(_, last)| last as u64);
            let group = (0..rows.table.groups()).collect::<Vec<_>>().partition_point(|&group| last(group) < local);
            if group == rows.table.groups() {
                anyhow::bail!(missing());
            }
            if known.as_ref().is_none_or(|(n, g, ..)| (*n, *g) != (number, group)) {
                let read = |name: &str| -> anyhow::Result<Vec<u64>> {
                    let mut values = Vec::with_capacity(rows.table.rows(group));
                    rows.table.read(group, rows.table.column(name)?)?.numbers(|v| values.push(v as u64))?;
                    Ok(values)
                };
                known = Some((number, group, read("line")?, read("offset")?));
            }
            let Some((_, _, numbers, offsets)) = &known else { continue };
            let at = numbers.binary_search(&local).ok().with_context(missing)?;
            places[i] = Some(LinePlace {
                file: rows.part.file.clone(),
                line: rows.before_in_file + local,
                offset: rows.part.start + offsets.get(at).with_context(missing)?,
            });
        }
        places.into_iter().map(|place| place.context("a line has no place (a bug)")).collect()
    }
}
