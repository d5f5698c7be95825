//! Where lines come from: the parts that `parse` wrote, or logs directly, without files in between.

use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, bail};
use polars::prelude::{DataType, ParquetReader, SerReader, UInt32Type};

use super::{Lines, SessionSummary, SessionizeParams, Sessions};
use crate::drain::Limits;
use crate::logs::format::NO_TIME;
use crate::logs::rows::{FileTables, Rows, text};
use crate::logs::scan::scan_log;
use crate::parse::{FileSummary, ParseParams, ParseSummary, Part, reading_order, refuse_nothing};
use crate::support::table::{lists, read_parquet};
use crate::templates::{LocalTemplate, Template, given_from_known, globalize, name_alike};

/// Rows read at a time: what is held of a part stays small.
const SLICE: usize = 1 << 19;

/// Reads the parts of an events directory.
pub(super) fn read_events(
    parts: &[Part],
    map: &[Vec<u32>],
    templates: &[Template],
    mut check: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Lines> {
    let mut lines = Lines::default();
    let none = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        lines.start_file(&part.file);
        let keys = read_parquet(&part.sessions(), None)?;
        let keys = keys.column("session_id")?.str()?;
        lines.add_keys(keys.iter().map(|k| k.unwrap_or_default().as_bytes()));
        let map = map.get(number).unwrap_or(&none);
        if let Some(wrong) = map.iter().find(|n| **n as usize >= templates.len()) {
            bail!("the template map names template {wrong}, but there are {}", templates.len());
        }

        let path = part.rows();
        let context = || format!("cannot read {}", path.display());
        let mut from = 0;
        loop {
            check()?;
            let reader = ParquetReader::new(File::open(&path).with_context(context)?)
                .with_columns(Some(["line", "timestamp", "template", "sessions"].map(str::to_owned).to_vec()))
                .with_slice(Some((from, SLICE)));
            let mut frame = anyhow::Context::with_context(reader.finish(), context)?;
            if frame.height() == 0 {
                break;
            }
            frame.rechunk_mut();
            let line = frame.column("line")?.u64()?;
            let time = frame.column("timestamp")?.cast(&DataType::Int64)?;
            let time = time.i64()?;
            let template = frame.column("template")?.u32()?;
            let (offsets, sessions) = lists::<UInt32Type>(&frame, "sessions")?;
            for (row, ((line, time), template)) in line.iter().zip(time.iter()).zip(template.iter()).enumerate() {
                let template = template.context("a row has no template")?;
                let number = map.get(template as usize);
                let number =
                    number.with_context(|| format!("{}: template {template} is not in the map", path.display()))?;
                let line = line.context("a row has no line number")?;
                lines.add(line, time.unwrap_or(NO_TIME), *number, &sessions[offsets[row]..offsets[row + 1]])?;
            }
            from += frame.height();
        }
        lines.end_file(part.about.lines);
    }
    Ok(lines)
}

/// Sessions of logs that were read directly, and what was learnt on the way.
pub struct LogSessions {
    /// The sessions.
    pub sessions: Sessions,
    /// The known templates with the counts of these logs, then new ones.
    pub templates: Vec<Template>,
    /// What `parse` would say.
    pub parse: ParseSummary,
    /// What `sessionize` would say.
    pub summary: SessionSummary,
}

/// Parses logs and makes sessions in one go, by the very code of the stages `parse`, `templates` and `sessionize`.
///
/// `paths` are read oldest first. `known` are the global templates of a run (`templates.csv`): a line of one of them has
/// its number, others get new numbers above. Works on the rayon pool it is called from.
///
/// # Errors
/// A log cannot be read, nothing can be parsed, or no line has a session key.
pub fn sessions_from_logs(
    paths: &[&Path],
    parse: &ParseParams,
    known: &[Template],
    limits: Limits,
    sessionize: &SessionizeParams,
) -> anyhow::Result<LogSessions> {
    let given = given_from_known(known);
    let mut parser = parse.parser(&given)?;
    parser.parameters = false;
    let mut paths: Vec<(String, &Path)> = paths.iter().map(|p| (p.to_string_lossy().into_owned(), *p)).collect();
    paths.sort_by_cached_key(|(logical, _)| reading_order(logical));

    // Global template numbers are known when all files are read, so rows wait here.
    struct Scanned {
        rows: Vec<Rows>,
        tables: FileTables,
    }
    let mut files: Vec<Scanned> = Vec::new();
    let mut about = ParseSummary::default();
    for (logical, path) in &paths {
        let mut kept = Vec::new();
        let (tables, end) = scan_log(path, &parser, |mut rows, _| {
            rows.offset = Vec::new();
            rows.level = Vec::new();
            rows.component = Vec::new();
            kept.push(rows);
            Ok(())
        })
        .with_context(|| format!("cannot parse {logical}"))?;
        about.add(FileSummary::new(logical, false, &tables, &end));
        files.push(Scanned { rows: kept, tables });
    }
    refuse_nothing(&about)?;

    let mut local: Vec<Vec<LocalTemplate>> = files
        .iter()
        .map(|file| {
            let names = &file.tables.names;
            let local = |(form, used): (&[u8], &crate::logs::rows::FormUse)| LocalTemplate {
                text: text(form).into_owned(),
                count: used.count,
                name: given.find(&used.message).map(|i| given.all[i].id.clone()),
            };
            names.forms.iter().zip(&names.uses).map(local).collect()
        })
        .collect();
    name_alike(&mut local);
    let global = globalize(&local, known, limits)?;
    drop(local);

    let mut lines = Lines::default();
    for ((file, map), described) in files.into_iter().zip(&global.map).zip(&about.files) {
        lines.start_file(&described.path);
        let keys: Vec<String> = file.tables.names.sessions.iter().map(|k| text(k).into_owned()).collect();
        lines.add_keys(keys.iter().map(String::as_bytes));
        for rows in file.rows {
            for row in 0..rows.len() {
                lines.add(rows.line[row], rows.time[row], map[rows.form[row] as usize], rows.sessions_of(row))?;
            }
        }
        lines.end_file(described.lines);
    }
    let closing = sessionize.closing(&global.templates)?;
    let (sessions, mut summary) = lines.group(&closing, sessionize.idle_micros(), sessionize.min_events);
    summary.lines = about.lines;
    summary.rejected = about.rejected;
    summary.refuse_nothing()?;
    Ok(LogSessions { sessions, templates: global.templates, parse: about, summary })
}
