//! Where lines come from: what `parse` wrote, or logs directly, without files in between.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};

use super::build::{Batch, Lines, Rules, Sources, group};
use super::{SessionSummary, SessionizeParams, Sessions};
use crate::logs::entries::Leading;
use crate::logs::format::NO_TIME;
use crate::logs::format::time::Years;
use crate::logs::keys::Keys;
use crate::logs::rows::{FileTables, Rows, text};
use crate::logs::scan::scan_log;
use crate::parse::{Carry, FileSummary, ParseParams, ParseSummary, Part, reading_order, refuse_nothing};
use crate::support::parquet::Table;
use crate::support::turns::in_order;
use crate::templates::{LocalTemplate, Template, TemplatesParams, given_from_known, globalize, name_alike};

/// The rows of an events directory: a row group is a batch.
pub(super) struct Events<'a> {
    parts: Vec<Rest>,
    groups: Vec<Group>,
    tails: Tails,
    check: &'a (dyn Fn() -> anyhow::Result<()> + Sync),
}

/// Sessions that the first lines of a part name for the last line of a batch before it, whose entry they continue; by
/// batch, as global numbers.
#[derive(Default)]
struct Tails(BTreeMap<usize, Vec<u32>>);

impl Tails {
    /// Adds the sessions of lines to those of the last line of the `batches` before them.
    fn add(&mut self, batches: usize, lines: &[Leading], keys: &mut Keys) {
        let sessions = lines.iter().flat_map(|line| &line.sessions);
        if let Some(last) = batches.checked_sub(1).filter(|_| !lines.is_empty()) {
            self.0.entry(last).or_default().extend(sessions.map(|key| keys.number(text(key).as_bytes())));
        }
    }

    fn extend(&self, number: usize, batch: &mut Batch) {
        if let Some(sessions) = self.0.get(&number) {
            batch.extend_last(sessions);
        }
    }
}

/// A batch.
struct Group {
    part: usize,
    /// Its row group there.
    number: usize,
    /// The year in which it starts, where dates lack it.
    years: Option<Years>,
}

/// What is to be known to read a part.
struct Rest {
    rows: Table,
    /// Lines of the parts before.
    before: u64,
    /// Global numbers of local templates, of local session keys.
    templates: Vec<u32>,
    sessions: Vec<u32>,
}

impl<'a> Events<'a> {
    /// Opens the parts and reads their session keys. `map` has the global numbers of the local templates of each.
    pub(super) fn open(
        parts: &[Part],
        map: Vec<Vec<u32>>,
        templates: &[Template],
        check: &'a (dyn Fn() -> anyhow::Result<()> + Sync),
    ) -> anyhow::Result<(Self, Sources)> {
        let mut sources = Sources::default();
        let mut map = map.into_iter();
        let (mut rest, mut groups, mut tails) = (Vec::new(), Vec::new(), Tails::default());
        for part in parts {
            check()?;
            let map = map.next().unwrap_or_default();
            if let Some(wrong) = map.iter().find(|n| **n as usize >= templates.len()) {
                bail!("the template map names template {wrong}, but there are {}", templates.len());
            }
            let keys = Table::open(&part.sessions())?;
            let column = keys.column("session_id")?;
            let mut sessions = Vec::new();
            for group in 0..keys.groups() {
                keys.read(group, column)?.texts(|key| sessions.push(sources.keys.number(key)))?;
            }
            tails.add(groups.len(), &part.continued, &mut sources.keys);
            let before = sources.add(&part.file, part.about.lines);
            let rows = Table::open(&part.rows())?;
            groups.extend((0..rows.groups()).map(|number| Group { part: rest.len(), number, years: None }));
            rest.push(Rest { rows, before, templates: map, sessions });
        }
        sources.keys.freeze();
        let mut events = Self { parts: rest, groups, tails, check };
        events.find_years(parts)?;
        Ok((events, sources))
    }

    /// Finds the years that dates lack. Only the lines before tell them, so all times are read once in the order of the
    /// log, and the year that each batch starts in is kept: a shift by whole years would be wrong for 29 February, and for
    /// late lines of December.
    fn find_years(&mut self, parts: &[Part]) -> anyhow::Result<()> {
        let year = |group: &Group| parts[group.part].about.year;
        let yearless: Vec<usize> = (0..self.groups.len()).filter(|&i| year(&self.groups[i]).is_some()).collect();
        let mut carry = Carry::default();
        let mut starts = Vec::with_capacity(yearless.len());
        let times = |i: usize| {
            (self.check)()?;
            let Group { part, number, .. } = self.groups[yearless[i]];
            self.parts[part].times(number)
        };
        in_order(yearless.len(), times, |i, times| {
            let part = &parts[self.groups[yearless[i]].part];
            carry.enter(&part.file);
            if let Some(year) = part.about.year {
                let years = carry.years.get_or_insert(Years::new(year));
                starts.push(*years);
                years.pass(&times);
            }
            Ok(())
        })?;
        for (group, years) in yearless.into_iter().zip(starts) {
            self.groups[group].years = Some(years);
        }
        Ok(())
    }
}

impl Rest {
    /// Reads the times of a row group, as lines have them.
    fn times(&self, group: usize) -> anyhow::Result<Vec<i64>> {
        self.rows.read(group, self.rows.column("timestamp")?)?.optional(NO_TIME)
    }

    /// Reads a row group.
    fn batch(&self, group: &Group, whole: bool) -> anyhow::Result<Batch> {
        let mut years = group.years;
        let group = group.number;
        let read = |name: &str| self.rows.read(group, self.rows.column(name)?);
        let known = |numbers: &[u32], n: u32, what: &str| {
            let number = numbers.get(n as usize).copied();
            number.with_context(|| format!("{}: {what} {n} is not there", self.rows.path().display()))
        };
        let mut time = self.times(group)?;
        if let Some(years) = &mut years {
            years.settle(&mut time);
        }
        let (ends, sessions, numbers) = read("sessions")?.lists()?;
        let numbers = numbers.into_iter().map(|n| known(&self.sessions, n, "session"));
        let known_sessions = numbers.collect::<anyhow::Result<Vec<u32>>>()?;
        let mut batch = Batch { time, sessions, ends, known: known_sessions, ..Batch::default() };
        ensure!(batch.ends.len() == batch.time.len(), "{} is damaged", self.rows.path().display());
        if whole {
            batch.template = read("template")?.changed(|n| known(&self.templates, n, "template"))?;
            batch.line.reserve(batch.time.len());
            read("line")?.numbers(|line| batch.line.push(self.before + line as u64))?;
            let rows = [batch.template.len(), batch.line.len()];
            ensure!(rows == [batch.time.len(); 2], "{} is damaged", self.rows.path().display());
            ensure!(batch.line.is_sorted(), "{} is damaged", self.rows.path().display());
        }
        Ok(batch)
    }
}

impl Lines for Events<'_> {
    fn batches(&self) -> usize {
        self.groups.len()
    }

    fn batch(&self, number: usize, whole: bool) -> anyhow::Result<Batch> {
        (self.check)()?;
        let group = &self.groups[number];
        let mut batch = self.parts[group.part].batch(group, whole)?;
        self.tails.extend(number, &mut batch);
        Ok(batch)
    }
}

/// Lines as if all were of one session, also those that name none.
pub(super) struct WholeLog<'a>(pub(super) &'a dyn Lines);

impl WholeLog<'_> {
    /// Replaces the session keys by the one.
    pub(super) fn sources(sources: Sources) -> Sources {
        let mut keys = Keys::default();
        keys.number(b"all");
        Sources { keys, ..sources }
    }
}

impl Lines for WholeLog<'_> {
    fn batches(&self) -> usize {
        self.0.batches()
    }

    fn batch(&self, number: usize, whole: bool) -> anyhow::Result<Batch> {
        let batch = self.0.batch(number, whole)?;
        let lines = batch.time.len();
        Ok(Batch { sessions: vec![0; lines], ends: (1..=lines as u32).collect(), known: vec![0], ..batch })
    }
}

/// Rows of logs that are held in memory: those of a chunk are a batch.
struct Held {
    files: Vec<HeldFile>,
    /// File and rows of each batch; none is empty.
    rows: Vec<(usize, Rows)>,
    tails: Tails,
}

struct HeldFile {
    /// Lines of the files before.
    before: u64,
    /// Global numbers of local templates, of local session keys.
    templates: Vec<u32>,
    sessions: Vec<u32>,
}

impl Lines for Held {
    fn batches(&self) -> usize {
        self.rows.len()
    }

    fn batch(&self, number: usize, _whole: bool) -> anyhow::Result<Batch> {
        let (file, rows) = &self.rows[number];
        let HeldFile { before, templates, sessions } = &self.files[*file];
        let form = |f: &u32| templates[rows.numbers.form[*f as usize] as usize];
        let mut batch = Batch {
            line: rows.line.iter().map(|&l| before + rows.lines_before + u64::from(l)).collect(),
            time: rows.time.clone(),
            template: rows.form.iter().map(form).collect(),
            sessions: rows.sessions.clone(),
            ends: rows.session_ends.clone(),
            known: rows.numbers.session.iter().map(|&s| sessions[s as usize]).collect(),
        };
        self.tails.extend(number, &mut batch);
        Ok(batch)
    }
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
/// its number, others get new numbers above, or are of the template `unseen` if `templates` are frozen. Works on the rayon
/// pool it is called from.
///
/// # Errors
/// A log cannot be read, nothing can be parsed, or no line has a session key.
pub fn sessions_from_logs(
    paths: &[&Path],
    parse: &ParseParams,
    known: &[Template],
    templates: &TemplatesParams,
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
        continued: Vec<Leading>,
    }
    let mut files: Vec<Scanned> = Vec::new();
    let mut about = ParseSummary::default();
    let (mut carry, first) = (Carry::default(), parser.entries.years);
    for (logical, path) in &paths {
        let mut kept = Vec::new();
        carry.enter(logical);
        parser.entries.years = carry.years.or(first);
        let (mut tables, end) = scan_log(path, &parser, |mut rows, _| {
            rows.offset = Vec::new();
            rows.level = Vec::new();
            rows.component = Vec::new();
            if !rows.is_empty() {
                kept.push(rows);
            }
            Ok(())
        })
        .with_context(|| format!("cannot parse {logical}"))?;
        carry.years = tables.order.years;
        let mut file = FileSummary::new(logical, false, &tables, &end);
        let continued = carry.join(tables.ends, std::mem::take(&mut tables.leading));
        file.continue_with(&continued);
        about.add(file);
        files.push(Scanned { rows: kept, tables, continued });
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
    let global = globalize(&local, known, templates.drain.limits(), templates.growth_when_scoring())?;
    drop(local);

    let mut sources = Sources::default();
    let mut held = Held { files: Vec::new(), rows: Vec::new(), tails: Tails::default() };
    for ((file, map), described) in files.into_iter().zip(global.map).zip(&about.files) {
        let keys = &file.tables.names.sessions;
        let mut numbers = Vec::with_capacity(keys.len());
        for number in 0..keys.len() as u32 {
            numbers.push(sources.keys.number(text(&keys.get(number)).as_bytes()));
        }
        held.tails.add(held.rows.len(), &file.continued, &mut sources.keys);
        let before = sources.add(&described.path, described.lines);
        held.rows.extend(file.rows.into_iter().map(|rows| (held.files.len(), rows)));
        held.files.push(HeldFile { before, templates: map, sessions: numbers });
    }
    // All in memory already, so no file is needed.
    let rules = Rules { events: usize::MAX, ..sessionize.rules(&global.templates)? };
    let whole = WholeLog(&held);
    let (lines, sources): (&dyn Lines, _) =
        if rules.keyless { (&whole, WholeLog::sources(sources)) } else { (&held, sources) };
    let mut sessions = Sessions::default();
    let mut summary = group(lines, &sources, &rules, Path::new(""), Ok, |some| {
        sessions.append(some);
        Ok(())
    })?;
    summary.rejected = about.rejected;
    summary.refuse_nothing()?;
    Ok(LogSessions { sessions, templates: global.templates, parse: about, summary })
}
