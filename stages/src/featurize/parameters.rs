//! Values of wildcards as features: how large, how many different ones, from where.
//!
//! A *source* is a wildcard of a template: the n-th of its type in the form that a line has. Values are read from what `parse`
//! keeps of the lines of sessions, and stored beside the features (`parameters.parquet`), since copies of sessions that are cut
//! off, and explanations, need them once more. Numbers enter with their sign and `ln(1 + |x|)`; of what is no number a hash of
//! where it belongs is kept, not the text: of an address its host, of a path its folder.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, ensure};
use logweir_engine::stage::ParamError;
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::parse::read_parts;
use crate::support::parquet::{Field, Kind, Lists, Page, Table, TableWriter};
use crate::support::repeats::mix;
use crate::support::traces::{Traces, Value, Values};
use crate::templates::read_local;

/// The file of values in a features directory.
pub const FILE: &str = "parameters.parquet";

/// Rows of a row group.
const GROUP: usize = 1 << 16;

/// Values of a wildcard that make columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ParameterParams {
    /// Regular expression over texts of templates; each template that it matches has columns of its own.
    pub template: String,
    /// Type of the wildcard: `num`, `ip`, `path`, `id`, `hex`, `time`, or one of your own.
    pub wildcard: String,
    /// Which of the wildcards of that type, from 1.
    pub place: u32,
    /// What it is called in the names of columns; absent: its type, and its place from the second on.
    pub name: Option<String>,
    /// What is made of the values in a session: of numbers `last`, `max`, `min`, `sum`; of others `distinct`, `hash`.
    pub make: Vec<Made>,
    /// For `hash`: how many columns.
    pub buckets: u32,
}

impl Default for ParameterParams {
    fn default() -> Self {
        Self {
            template: String::new(),
            wildcard: "num".to_owned(),
            place: 1,
            name: None,
            make: vec![Made::Max],
            buckets: 8,
        }
    }
}

/// What is made of the values of a source in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Made {
    /// The last number.
    Last,
    /// The largest number.
    Max,
    /// The least number.
    Min,
    /// The sum of all numbers.
    Sum,
    /// How many different ones there are, as `ln(1 + n)`.
    Distinct,
    /// How many fall into each of some buckets by their hash, as `ln(1 + n)`.
    Hash,
}

impl Made {
    fn name(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Max => "max",
            Self::Min => "min",
            Self::Sum => "sum",
            Self::Distinct => "distinct",
            Self::Hash => "hash",
        }
    }

    fn of_numbers(self) -> bool {
        matches!(self, Self::Last | Self::Max | Self::Min | Self::Sum)
    }
}

/// Returns what is wrong with parameters.
pub(super) fn check(all: &[ParameterParams]) -> Vec<ParamError> {
    let mut errors = Vec::new();
    for (i, one) in all.iter().enumerate() {
        let mut error = |name: &str, text: String| errors.push(ParamError::new(format!("parameters.{i}.{name}"), text));
        if let Err(wrong) = Regex::new(&one.template) {
            error("template", wrong.to_string());
        } else if one.template.is_empty() {
            error("template", "is missing: a regular expression over texts of templates".to_owned());
        }
        if one.wildcard.is_empty() || !one.wildcard.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            error("wildcard", "must be the name of a wildcard, such as `num`, `ip` or `path`".to_owned());
        }
        if one.place == 0 {
            error("place", "counts from 1".to_owned());
        }
        if !(1..=4096).contains(&one.buckets) {
            error("buckets", "must be between 1 and 4096".to_owned());
        }
        let numbers = one.make.iter().filter(|made| made.of_numbers()).count();
        if one.make.is_empty() {
            error("make", "name at least one of last, max, min, sum, distinct, hash".to_owned());
        } else if numbers > 0 && numbers < one.make.len() {
            error(
                "make",
                "is of numbers (last, max, min, sum) or of others (distinct, hash), not both: make two entries"
                    .to_owned(),
            );
        }
        for (k, made) in one.make.iter().enumerate() {
            if one.make[..k].contains(made) {
                error("make", format!("`{}` is named twice", made.name()));
            }
        }
    }
    errors
}

/// A wildcard of a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Which of the parameters names it.
    pub of: u32,
    /// Its template, a number among those that the vectoriser knows.
    pub template: u32,
}

/// A column that is made of a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// The source.
    pub source: u32,
    /// What is made of its values.
    pub made: Made,
    /// For `hash`: the bucket.
    pub bucket: u32,
    /// What is taken off.
    pub centre: f64,
    /// What it is then divided by.
    pub scale: f64,
}

/// The sources of parameters among templates, in the order of both: of those that an expression matches the ones that have such a
/// wildcard.
///
/// # Errors
/// An expression is none; checked ones are.
pub fn sources(params: &[ParameterParams], templates: &[String]) -> anyhow::Result<Vec<Source>> {
    let mut found = Vec::new();
    for (of, one) in params.iter().enumerate() {
        let regex = Regex::new(&one.template)?;
        let has =
            |text: &str| wildcards(text).iter().filter(|name| **name == one.wildcard).count() >= one.place as usize;
        let matching = templates.iter().enumerate().filter(|(_, text)| regex.is_match(text) && has(text));
        found.extend(matching.map(|(template, _)| Source { of: of as u32, template: template as u32 }));
    }
    Ok(found)
}

/// The columns of sources, not yet scaled.
pub(super) fn columns(params: &[ParameterParams], sources: &[Source]) -> Vec<Column> {
    let mut all = Vec::new();
    for (source, Source { of, .. }) in sources.iter().enumerate() {
        let one = &params[*of as usize];
        for &made in &one.make {
            let buckets = if made == Made::Hash { one.buckets } else { 1 };
            let column = |bucket| Column { source: source as u32, made, bucket, centre: 0.0, scale: 1.0 };
            all.extend((0..buckets).map(column));
        }
    }
    all
}

/// The name of a column, after that of its group.
pub(super) fn name(params: &[ParameterParams], sources: &[Source], event_ids: &[String], column: &Column) -> String {
    let Source { of, template } = &sources[column.source as usize];
    let one = &params[*of as usize];
    let what = match (&one.name, one.place) {
        (Some(name), _) => name.clone(),
        (None, 1) => one.wildcard.clone(),
        (None, place) => format!("{} {place}", one.wildcard),
    };
    let bucket = if column.made == Made::Hash { format!(" {}", column.bucket) } else { String::new() };
    format!("{what} of {} {}{bucket}", event_ids[*template as usize], column.made.name())
}

/// What a column is in a session with these values; `None` where it has none.
pub(super) fn made(column: &Column, buckets: u32, values: &[Value]) -> Option<f64> {
    let own = || values.iter().filter(|value| value.source == column.source);
    let numbers = || own().map(|value| f64::from(f32::from_bits(value.bits)));
    let logarithm = |x: f64| x.signum() * x.abs().ln_1p();
    match column.made {
        Made::Last => numbers().next_back().map(logarithm),
        Made::Max => numbers().max_by(f64::total_cmp).map(logarithm),
        Made::Min => numbers().min_by(f64::total_cmp).map(logarithm),
        Made::Sum => own().next().map(|_| logarithm(numbers().sum())),
        Made::Distinct => {
            let mut all: Vec<u32> = own().map(|value| value.bits).collect();
            all.sort_unstable();
            all.dedup();
            (!all.is_empty()).then(|| (all.len() as f64).ln_1p())
        }
        Made::Hash => {
            let count = own().filter(|value| value.bits % buckets == column.bucket).count();
            (count > 0).then(|| (count as f64).ln_1p())
        }
    }
}

/// Types of the wildcards of a form, in order.
fn wildcards(form: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = form;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let Some(end) = rest.find('>') else { break };
        let name = &rest[..end];
        if !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            found.push(name);
            rest = &rest[end + 1..];
        }
    }
    found
}

/// What is kept of a value; `None` where it is no number but should be one.
fn bits_of(text: &str, numbers: bool) -> Option<u32> {
    if numbers {
        let number: f32 = text.parse().ok()?;
        return number.is_finite().then_some(number.to_bits());
    }
    let place = text.trim_start_matches('/');
    // Of `10.0.0.1:50010` the host, of `/data/1/part` the folder.
    let belongs = match (place.split_once(':'), place.rsplit_once('/')) {
        (Some((host, port)), _) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        (_, Some((folder, _))) => folder,
        _ => place,
    };
    let hash = belongs.bytes().fold(belongs.len() as u64, |all, byte| mix(all, u64::from(byte)));
    Some((hash >> 32) as u32)
}

/// What is looked for in the lines of a template.
#[derive(Clone, Debug)]
struct Wanted<'a> {
    source: u32,
    wildcard: &'a str,
    place: usize,
    numbers: bool,
}

/// Reads the values of sources in the lines of sessions, from the directory of `parse`. `numbers` has the number of each template of
/// the table among those of the sources; `lines` are those of the events.
///
/// # Errors
/// A file is missing or malformed, has no parameters, or lacks a line.
pub fn read(
    events: &Path,
    params: &[ParameterParams],
    sources: &[Source],
    numbers: &[Option<u32>],
    traces: &Traces,
    lines: &[u64],
) -> anyhow::Result<Values> {
    ensure!(lines.len() == traces.events.len(), "events and lines of the sessions differ in length");
    let mut by_template: BTreeMap<u32, Vec<Wanted<'_>>> = BTreeMap::new();
    for (source, Source { of, template }) in sources.iter().enumerate() {
        let one = &params[*of as usize];
        let (place, numbers) = (one.place as usize - 1, one.make.iter().all(|made| made.of_numbers()));
        let wanted = Wanted { source: source as u32, wildcard: &one.wildcard, place, numbers };
        by_template.entry(*template).or_default().push(wanted);
    }
    // (line, session, event in it, template among those of the sources), by line.
    let mut wanted: Vec<(u64, u32, u32, u32)> = Vec::new();
    for session in 0..traces.len() {
        let span = traces.offsets[session]..traces.offsets[session + 1];
        for (number, (&event, &line)) in (0..).zip(traces.events[span.clone()].iter().zip(&lines[span])) {
            let template = numbers.get(event as usize).copied().flatten();
            if let Some(template) = template.filter(|template| by_template.contains_key(template)) {
                wanted.push((line, session as u32, number, template));
            }
        }
    }
    wanted.sort_unstable();
    let mut found: Vec<(u32, Value)> = Vec::with_capacity(wanted.len());
    let (mut before, mut rest) = (0, wanted.as_slice());
    for part in read_parts(events)? {
        let forms = read_local(std::slice::from_ref(&part))?.remove(0);
        let types: Vec<Vec<&str>> = forms.iter().map(|form| wildcards(&form.text)).collect();
        let table = Table::open(&part.rows())?;
        let place = || format!("{} is damaged", part.rows().display());
        let (line, template) = (table.column("line")?, table.column("template")?);
        let parameters = table.column("parameters").with_context(
            || "the stage `parse` keeps no parameters: set its `parameters: true`, or leave out the group `parameter`",
        )?;
        for group in 0..table.groups() {
            let (_, last) = table.span(group, line).with_context(place)?;
            let end = rest.partition_point(|w| w.0 <= before + last as u64);
            let (mut here, later) = rest.split_at(end);
            rest = later;
            if here.is_empty() {
                continue;
            }
            let mut of_rows = Vec::with_capacity(table.rows(group));
            table.read(group, line)?.numbers(|number| of_rows.push(before + number as u64))?;
            let of_forms = table.read(group, template)?.changed(Ok)?;
            let values = table.read(group, parameters)?;
            let (ends, places, texts) = values.text_lists()?;
            for (row, line) in of_rows.into_iter().enumerate() {
                let start = if row == 0 { 0 } else { ends[row - 1] as usize };
                let of_row = &places[start..ends[row] as usize];
                while let Some(((_, session, event, template), others)) = here.split_first().filter(|w| w.0.0 == line) {
                    here = others;
                    let types = types.get(of_forms[row] as usize).with_context(place)?;
                    // A line that has a wildcard literally has more of them than values.
                    if types.len() != of_row.len() {
                        continue;
                    }
                    for one in &by_template[template] {
                        let mut alike = types.iter().zip(of_row).filter(|(name, _)| **name == one.wildcard);
                        let Some((_, &text)) = alike.nth(one.place) else { continue };
                        let text = String::from_utf8_lossy(texts[text as usize]);
                        if let Some(bits) = bits_of(&text, one.numbers) {
                            found.push((*session, Value { event: *event, source: one.source, bits }));
                        }
                    }
                }
            }
            ensure!(here.is_empty(), "line {} is not among the parsed lines of {}", here[0].0, events.display());
        }
        before += part.about.lines;
    }
    ensure!(rest.is_empty(), "{} has no line {}", events.display(), rest.first().map_or(0, |w| w.0));
    found.sort_unstable_by_key(|(session, value)| (*session, value.event, value.source));
    let mut values = Values::default();
    let mut next = found.into_iter().peekable();
    for session in 0..traces.len() as u32 {
        let mut own = Vec::new();
        while let Some((_, value)) = next.next_if(|(of, _)| *of == session) {
            own.push(value);
        }
        values.push(&own);
    }
    Ok(values)
}

/// The columns of `parameters.parquet`.
const COLUMNS: [Field; 4] = [
    Field::one("session_id", Kind::Text),
    Field::list("events", Kind::U32),
    Field::list("sources", Kind::U32),
    Field::list("values", Kind::U32),
];

/// Writes the values of sessions into a features directory.
///
/// # Errors
/// The file cannot be written.
pub fn write(directory: &Path, ids: &[String], values: &Values) -> anyhow::Result<()> {
    let mut out = TableWriter::create(&directory.join(FILE), &COLUMNS)?;
    for first in (0..ids.len()).step_by(GROUP) {
        let rows = first..(first + GROUP).min(ids.len());
        let (mut bytes, mut ends, mut lists) = (Vec::new(), Vec::new(), Lists::default());
        let (mut events, mut sources, mut bits) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows.clone() {
            bytes.extend_from_slice(ids[row].as_bytes());
            ends.push(u32::try_from(bytes.len()).context("session keys of more than 4 GB")?);
            let own = values.of(row);
            lists.push(own.len());
            for value in own {
                events.push(value.event);
                sources.push(value.source);
                bits.push(value.bits);
            }
        }
        let list = |words: &[u32]| Page::of_plain(Some(&lists), words);
        let pages = vec![Page::of_texts(None, &ends, &bytes), list(&events)?, list(&sources)?, list(&bits)?];
        out.write(rows.len(), pages)?;
    }
    out.finish()
}

/// Reads the values of sessions out of a features directory, in the order of `ids`, which may be fewer sessions than are there;
/// `None` where the features have no parameters.
///
/// # Errors
/// The file is malformed, or lacks a session.
pub fn read_stored(directory: &Path, ids: &[String]) -> anyhow::Result<Option<Values>> {
    let path = directory.join(FILE);
    if !path.exists() {
        return Ok(None);
    }
    let table = Table::open(&path)?;
    let (id, events) = (table.column("session_id")?, table.column("events")?);
    let (sources, bits) = (table.column("sources")?, table.column("values")?);
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (row, id) in ids.iter().enumerate() {
        places.entry(id).or_default().push(row);
    }
    let mut own: Vec<Option<Vec<Value>>> = vec![None; ids.len()];
    for group in 0..table.groups() {
        let (mut rows, mut row) = (Vec::new(), 0);
        table.read(group, id)?.texts(|text| {
            if let Some(places) = std::str::from_utf8(text).ok().and_then(|id| places.get(id)) {
                rows.push((row, places));
            }
            row += 1;
        })?;
        if rows.is_empty() {
            continue;
        }
        let (ends, events) = table.read(group, events)?.plain_lists()?;
        let (_, sources) = table.read(group, sources)?.plain_lists()?;
        let (_, bits) = table.read(group, bits)?.plain_lists()?;
        ensure!(events.len() == sources.len() && events.len() == bits.len(), "{} is damaged", path.display());
        for (row, places) in rows {
            let start = if row == 0 { 0 } else { ends[row - 1] as usize };
            let all =
                (start..ends[row] as usize).map(|i| Value { event: events[i], source: sources[i], bits: bits[i] });
            let all: Vec<Value> = all.collect();
            places.iter().for_each(|&place| own[place] = Some(all.clone()));
        }
    }
    let mut values = Values::default();
    for (id, own) in ids.iter().zip(own) {
        values.push(&own.with_context(|| format!("{} has no session `{id}`", path.display()))?);
    }
    Ok(Some(values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_of_a_form_are_told_by_type() {
        assert_eq!(wildcards("Received block <id> of size <num> from <ip>"), ["id", "num", "ip"]);
        assert_eq!(wildcards("a < b, <*> <Num> blk_<num>/<num>"), ["num", "num"]);
        assert_eq!(wildcards("open <"), Vec::<&str>::new());
    }

    #[test]
    fn of_values_numbers_or_where_they_belong_are_kept() {
        assert_eq!(bits_of("67108864", true), Some(67_108_864f32.to_bits()));
        assert_eq!(
            (bits_of("-1.5", true), bits_of("12x", true), bits_of("inf", true)),
            (Some((-1.5f32).to_bits()), None, None)
        );
        let of = |text| bits_of(text, false);
        assert_eq!(of("/10.0.0.1:50010"), of("10.0.0.1:7"));
        assert_ne!(of("10.0.0.1:50010"), of("10.0.0.2:50010"));
        assert_eq!(of("/data/1/part-3"), of("/data/1/part-4"));
        assert_ne!(of("/data/1/part-3"), of("/data/2/part-3"));
    }

    #[test]
    fn columns_are_as_computed_by_hand() {
        let value = |source, x: f32| Value { event: 0, source, bits: x.to_bits() };
        let values = [value(0, 3.0), value(1, 9.0), value(0, 7.0), value(0, -1.0)];
        let column = |made, bucket| Column { source: 0, made, bucket, centre: 0.0, scale: 1.0 };
        let of = |made| made_of(&column(made, 0), &values);
        fn made_of(column: &Column, values: &[Value]) -> Option<f64> {
            made(column, 2, values)
        }
        assert_eq!(of(Made::Last), Some(-(2f64.ln())));
        assert_eq!((of(Made::Max), of(Made::Min)), (Some(7f64.ln_1p()), Some(-(1f64.ln_1p()))));
        assert_eq!((of(Made::Sum), of(Made::Distinct)), (Some(9f64.ln_1p()), Some(3f64.ln_1p())));
        let hashes = [0, 1].map(|bucket| made_of(&column(Made::Hash, bucket), &values));
        let counts = [0, 1].map(|b| values.iter().filter(|v| v.source == 0 && v.bits % 2 == b).count() as f64);
        assert_eq!(hashes.map(|h| h.unwrap_or(0.0)), counts.map(f64::ln_1p));
        assert_eq!(made_of(&Column { source: 2, ..column(Made::Sum, 0) }, &values), None);
    }
}
