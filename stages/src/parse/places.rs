//! From a line's number over all files, as sessions have it, to its place in its file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::{ABOUT, Part, ROWS, read_part, read_parts, reading_order, sort_parts};
use crate::support::parquet::Table;

/// Where a line is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinePlace {
    /// Logical path of the file.
    pub file: String,
    /// 1-based number of the line in the file.
    pub line: u64,
    /// Byte offset of its start in the decompressed file.
    pub offset: u64,
    /// How many lines there are up to the next parsed one of the log, which may belong to it; 1 where an entry is a line.
    pub lines: u64,
    /// Those of them that are the first lines of files behind it, in a rotated log: the files and how many.
    pub more: Vec<(String, u64)>,
}

/// Finds lines of the logs that an events directory was made of. A look-up reads the row groups that hold the lines, two
/// columns of each.
pub struct Places {
    parts: Vec<Rows>,
}

struct Rows {
    part: Part,
    /// The log that the file is of.
    log: String,
    table: Table,
    /// Lines of all files before the part, of its file before it.
    before: u64,
    before_in_file: u64,
}

impl Rows {
    /// Returns the first parsed line of a row group, if there is such a one.
    fn first_line(&self, group: usize) -> anyhow::Result<Option<u64>> {
        if group >= self.table.groups() {
            return Ok(None);
        }
        let span = self.table.span(group, self.table.column("line")?);
        let (first, _) = span.with_context(|| format!("{} is damaged", self.table.path().display()))?;
        Ok(Some(first as u64))
    }
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
            let log = reading_order(&part.file).0;
            parts.push(Rows { table: Table::open(&rows)?, part, log, before, before_in_file });
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
            let mut place = LinePlace {
                lines: 1,
                file: rows.part.file.clone(),
                line: rows.before_in_file + local,
                offset: rows.part.start + offsets.get(at).with_context(missing)?,
                more: Vec::new(),
            };
            if rows.part.about.ends.is_some() {
                match numbers.get(at + 1).copied().or(rows.first_line(group + 1)?) {
                    Some(next) => place.lines = next - local,
                    None => {
                        place.lines = rows.part.about.lines + 1 - local;
                        self.read_on(number, &mut place)?;
                    }
                }
            }
            places[i] = Some(place);
        }
        places.into_iter().map(|place| place.context("a line has no place (a bug)")).collect()
    }

    /// Adds the lines of the parts behind a part, up to the next parsed one of the log.
    fn read_on(&self, number: usize, place: &mut LinePlace) -> anyhow::Result<()> {
        let log = &self.parts[number].log;
        for rows in self.parts[number + 1..].iter().take_while(|rows| rows.log == *log) {
            let first = rows.first_line(0)?;
            let lines = first.map_or(rows.part.about.lines, |first| first - 1);
            match place.more.last_mut() {
                _ if lines == 0 => {}
                None if rows.part.file == place.file => place.lines += lines,
                Some((file, before)) if *file == rows.part.file => *before += lines,
                _ => place.more.push((rows.part.file.clone(), lines)),
            }
            if first.is_some() {
                break;
            }
        }
        Ok(())
    }
}
