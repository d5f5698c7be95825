//! From a line's number over all files, as sessions have it, to its place in its file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::{ABOUT, Part, ROWS, read_part, read_parts, sort_parts};
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
    /// How many lines there are up to the next parsed one, which may belong to it; 1 where no line of the file (or of
    /// its piece) continues another.
    pub lines: u64,
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
        Self::of(read_parts(events)?.into_iter().map(|part| (part.rows(), part)).collect())
    }

    /// Opens an events directory whose files lie elsewhere: `files` has their places by their paths in it.
    ///
    /// # Errors
    /// As [`Places::open`].
    pub fn of_files(files: &BTreeMap<String, PathBuf>) -> anyhow::Result<Self> {
        let mut parts = Vec::new();
        for (path, about) in files {
            if path != ABOUT && !path.ends_with(&format!("/{ABOUT}")) {
                continue;
            }
            let folder = path.strip_suffix(ABOUT).unwrap_or_default();
            parts.push(read_part(Path::new(folder), about)?);
        }
        if parts.is_empty() {
            bail!("there is no parsed log");
        }
        sort_parts(&mut parts);
        let rows = |part: Part| {
            let path = part.folder.join(ROWS);
            let rows = files.get(&*path.to_string_lossy()).with_context(|| format!("{} is missing", path.display()))?;
            Ok((rows.clone(), part))
        };
        Self::of(parts.into_iter().map(rows).collect::<anyhow::Result<_>>()?)
    }

    fn of(all: Vec<(PathBuf, Part)>) -> anyhow::Result<Self> {
        let mut parts: Vec<Rows> = Vec::new();
        let (mut before, mut before_in_file) = (0, 0);
        for (rows, part) in all {
            if parts.last().is_none_or(|last| last.part.file != part.file) {
                before_in_file = 0;
            }
            let lines = part.about.lines;
            parts.push(Rows { table: Table::open(&rows)?, part, before, before_in_file });
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
            let lines = match numbers.get(at + 1) {
                _ if rows.part.about.continued == 0 => 1,
                Some(next) => next - local,
                None => {
                    let next = (group + 1 < rows.table.groups()).then(|| rows.table.span(group + 1, column)).flatten();
                    next.map_or(rows.part.about.lines + 1, |(first, _)| first as u64) - local
                }
            };
            places[i] = Some(LinePlace {
                lines,
                file: rows.part.file.clone(),
                line: rows.before_in_file + local,
                offset: rows.part.start + offsets.get(at).with_context(missing)?,
            });
        }
        places.into_iter().map(|place| place.context("a line has no place (a bug)")).collect()
    }
}
