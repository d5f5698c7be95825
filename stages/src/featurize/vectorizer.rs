//! What a feature row is: fitted on train sessions, stored in `vectorizer.json`, applied alike in training and scoring.
//!
//! Templates are known by their texts, so that a later run whose miner numbers them differently gets the same rows.

use std::path::Path;

use anyhow::{Context as _, ensure};
use indexmap::IndexMap;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::parameters::{self, Column, Source};
use super::{FeaturizeParams, Group, Numeric, Scaling, TextVectorizer};
use crate::support::conformal::quantile;
use crate::support::matrix::{Matrix, Origins};
use crate::support::repeats::{Distinct, hash};
use crate::support::sparse::{Csr, Repeated};
use crate::support::traces::{Templates, Trace, Traces, Value};

/// Number of a template that did not occur in train.
const UNSEEN: u32 = u32::MAX;

/// Rows worked on by one task.
const CHUNK: usize = 4096;

/// The rows of sessions: what part of which session each is, and which of them have equal events.
struct Parts {
    /// Session, first event in it, end.
    of: Vec<(u32, u32, u32)>,
    /// Rows of equal events.
    distinct: Distinct,
}

impl Parts {
    fn of(vectorizer: &Vectorizer, traces: &Traces, sessions: impl Iterator<Item = usize>) -> Self {
        let mut of = Vec::new();
        for session in sessions {
            let n = traces.offsets[session + 1] - traces.offsets[session];
            let windows = vectorizer.windows(n).into_iter();
            of.extend(windows.map(|(from, to)| (session as u32, from as u32, to as u32)));
        }
        let mut parts = Self { of, distinct: Distinct::default() };
        let events = |row: usize| parts.events(traces, row);
        let hashes: Vec<u64> = (0..parts.of.len()).into_par_iter().map(|row| hash(events(row))).collect();
        parts.distinct = Distinct::by(&hashes, |a, b| events(a) == events(b));
        parts
    }

    fn events<'a>(&self, traces: &'a Traces, row: usize) -> &'a [u32] {
        let (session, from, to) = self.of[row];
        let start = traces.offsets[session as usize];
        &traces.events[start + from as usize..start + to as usize]
    }

    fn trace<'a>(&self, traces: &'a Traces, horizon: i64, row: usize) -> Trace<'a> {
        let (session, from, to) = self.of[row];
        traces.trace(session as usize, horizon).part(from as usize, to as usize)
    }
}

/// A fitted vectoriser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vectorizer {
    /// Parameters it was fitted with.
    pub params: FeaturizeParams,
    /// Texts of the templates seen in train; their position is the local number.
    pub templates: Vec<String>,
    /// Event ids for people, in the same order.
    pub event_ids: Vec<String>,
    /// TF-IDF terms: n-grams of local numbers.
    pub terms: Vec<Vec<u32>>,
    /// Inverse document frequency of each term.
    pub idf: Vec<f64>,
    /// Centre of each numeric column.
    pub centre: Vec<f64>,
    /// Scale of each numeric column.
    pub scale: Vec<f64>,
    /// Wildcards whose values make columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
    /// What columns are made of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Column>,
}

/// Returns the templates that occur in the given sessions, by number.
///
/// # Errors
/// An event has no template.
pub fn seen(traces: &Traces, templates: &Templates, sessions: &[usize]) -> anyhow::Result<Vec<usize>> {
    let mut seen = vec![false; templates.len()];
    for &row in sessions {
        for &event in &traces.events[traces.offsets[row]..traces.offsets[row + 1]] {
            *seen.get_mut(event as usize).with_context(|| {
                format!("session `{}` has event {event}, but there are {} templates", traces.ids[row], templates.len())
            })? = true;
        }
    }
    Ok((0..templates.len()).filter(|&n| seen[n]).collect())
}

impl Vectorizer {
    /// Fits on the given session rows.
    ///
    /// # Errors
    /// An event has no template, or a numeric column is not finite.
    pub fn fit(
        params: &FeaturizeParams,
        traces: &Traces,
        templates: &Templates,
        train: &[usize],
    ) -> anyhow::Result<Self> {
        let numbers = seen(traces, templates, train)?;
        let mut fitted = Self {
            params: params.clone(),
            templates: numbers.iter().map(|&n| templates.texts[n].clone()).collect(),
            event_ids: numbers.iter().map(|&n| templates.event_ids[n].clone()).collect(),
            terms: Vec::new(),
            idf: Vec::new(),
            centre: vec![0.0; params.numerics.len()],
            scale: vec![1.0; params.numerics.len()],
            sources: Vec::new(),
            parameters: Vec::new(),
        };
        if params.groups.contains(&Group::Parameter) {
            fitted.sources = parameters::sources(&params.parameters, &fitted.templates)?;
            fitted.parameters = parameters::columns(&params.parameters, &fitted.sources);
        }
        let bound = fitted.bind(templates);
        let horizon = traces.horizon().unwrap_or(0);
        let parts = Parts::of(&fitted, traces, train.iter().copied());
        let documents = parts.of.len();
        let mut terms: Vec<(Vec<u32>, u64)> = Vec::new();
        if matches!(params.vectorizer, TextVectorizer::Tfidf | TextVectorizer::Both) {
            let times = parts.distinct.counts();
            let count = |first: &[usize], times: &[u64]| {
                let (mut counts, mut scratch) = (IndexMap::<Vec<u32>, u64>::new(), Scratch::default());
                for (&row, &times) in first.iter().zip(times) {
                    bound.locals(parts.events(traces, row), &mut scratch);
                    scratch.count_terms(params.ngrams);
                    for term in scratch.terms.keys().filter(|t| !t.contains(&UNSEEN)) {
                        if let Some(count) = counts.get_mut(term) {
                            *count += times;
                        } else {
                            counts.insert(term.clone(), times);
                        }
                    }
                }
                counts
            };
            let chunks = parts.distinct.first.par_chunks(CHUNK).zip(times.par_chunks(CHUNK));
            let counted: Vec<_> = chunks.map(|(first, times)| count(first, times)).collect();
            let mut frequencies: IndexMap<Vec<u32>, u64> = IndexMap::new();
            for (term, count) in counted.into_iter().flatten() {
                *frequencies.entry(term).or_insert(0) += count;
            }
            terms = frequencies.into_iter().filter(|(_, df)| *df >= u64::from(params.min_df)).collect();
            terms.sort_by(|a, b| a.0.len().cmp(&b.0.len()).then_with(|| a.0.cmp(&b.0)));
        }
        let mut scales = Vec::new();
        if params.groups.contains(&Group::Numeric) {
            let known = bound.by_events(traces, &parts);
            let scale = |(i, &column): (usize, &Numeric)| -> anyhow::Result<(f64, f64)> {
                let value = |row: usize| match column.of_events() {
                    true => known[parts.distinct.groups[row] as usize * params.numerics.len() + i],
                    false => numeric(column, &parts.trace(traces, horizon, row), &[], params.head as usize),
                };
                let mut values: Vec<f64> = (0..documents).map(value).collect();
                ensure!(values.iter().all(|v| v.is_finite()), "numeric column `{column:?}` is not finite in train");
                Ok(centre_and_scale(&mut values, params.scaling))
            };
            scales = params.numerics.par_iter().enumerate().map(scale).collect::<anyhow::Result<_>>()?;
        }
        let scale_of = |column: &Column| -> (f64, f64) {
            if column.made == parameters::Made::Hash {
                return (0.0, 1.0);
            }
            // Of sessions that have a value: the others keep 0, which is the centre.
            let value = |row| fitted.made(column, parts.trace(traces, horizon, row).values);
            centre_and_scale(&mut (0..documents).filter_map(value).collect::<Vec<f64>>(), params.scaling)
        };
        let scales_of_parameters: Vec<(f64, f64)> = fitted.parameters.par_iter().map(scale_of).collect();
        // Smoothed as in scikit-learn: one imaginary document holds every term.
        let idf = |df: u64| ((1.0 + documents as f64) / (1.0 + df as f64)).ln() + 1.0;
        fitted.idf = terms.iter().map(|&(_, df)| idf(df)).collect();
        fitted.terms = terms.into_iter().map(|(term, _)| term).collect();
        if !scales.is_empty() {
            (fitted.centre, fitted.scale) = scales.into_iter().unzip();
        }
        for (column, scale) in fitted.parameters.iter_mut().zip(scales_of_parameters) {
            (column.centre, column.scale) = scale;
        }
        Ok(fitted)
    }

    /// Reads `vectorizer.json` of a features directory.
    ///
    /// # Errors
    /// The file is missing or malformed.
    pub fn read(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join("vectorizer.json");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot open {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no vectorizer", path.display()))
    }

    /// Writes `vectorizer.json` into a features directory.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, directory: &Path) -> anyhow::Result<()> {
        let path = directory.join("vectorizer.json");
        let text = serde_json::to_string(self)? + "\n";
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Groups of columns in order, with how many each has.
    pub fn layout(&self) -> Vec<(Group, usize)> {
        let p = &self.params;
        let templates = self.templates.len();
        let mut layout = Vec::new();
        if matches!(p.vectorizer, TextVectorizer::Tfidf | TextVectorizer::Both) {
            layout.push((Group::Tfidf, self.terms.len()));
        }
        if matches!(p.vectorizer, TextVectorizer::Hashing | TextVectorizer::Both) {
            layout.push((Group::Hashing, p.hashing.dimension as usize));
        }
        let mut groups = p.groups.clone();
        groups.sort_unstable();
        for group in groups {
            let columns = match group {
                Group::Numeric => p.numerics.len(),
                Group::Parameter => self.parameters.len(),
                _ => templates,
            };
            layout.push((group, columns));
        }
        layout
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.layout().iter().map(|(_, n)| n).sum()
    }

    /// Name and group of each column.
    pub fn names(&self) -> Vec<(String, Group)> {
        let mut names = Vec::new();
        for (group, n) in self.layout() {
            for i in 0..n {
                let what = match group {
                    Group::Tfidf => {
                        self.terms[i].iter().map(|&t| self.event_ids[t as usize].as_str()).collect::<Vec<_>>().join(" ")
                    }
                    Group::Hashing => i.to_string(),
                    Group::Numeric => serde_json::to_value(self.params.numerics[i])
                        .ok()
                        .and_then(|v| v.as_str().map(str::to_owned))
                        .expect("a unit variant is a string"),
                    Group::Parameter => {
                        parameters::name(&self.params.parameters, &self.sources, &self.event_ids, &self.parameters[i])
                    }
                    _ => self.event_ids[i].clone(),
                };
                names.push((format!("{} {what}", group.name()), group));
            }
        }
        names
    }

    /// What a column of a wildcard is in a part with these values, not yet scaled.
    fn made(&self, column: &Column, values: &[Value]) -> Option<f64> {
        let of = self.sources[column.source as usize].of;
        parameters::made(column, self.params.parameters[of as usize].buckets, values)
    }

    /// Ranges of events that make the rows of a session of `n` events.
    pub fn windows(&self, n: usize) -> Vec<(usize, usize)> {
        let Some(window) = &self.params.window else { return vec![(0, n)] };
        let (size, step) = (window.size as usize, window.step as usize);
        let mut out = vec![(0, size.min(n))];
        while let Some(&(from, to)) = out.last().filter(|(_, to)| *to < n) {
            debug_assert!(to > from, "windows move on");
            out.push((from + step, (from + step + size).min(n)));
        }
        out
    }

    /// Ties the vectoriser to the template numbers of a run.
    pub fn bind(&self, templates: &Templates) -> Bound<'_> {
        let by_text: IndexMap<&str, u32> = self.templates.iter().zip(0..).map(|(t, n)| (t.as_str(), n)).collect();
        let local = templates.texts.iter().map(|t| by_text.get(t.as_str()).copied().unwrap_or(UNSEEN)).collect();
        let hashes = templates.texts.iter().map(|t| fnv(self.params.hashing.seed, t.as_bytes())).collect();
        let terms = self.terms.iter().zip(0..).map(|(t, n)| (t.clone(), n)).collect();
        let (mut starts, mut at) = (Vec::new(), 0);
        for (group, n) in self.layout() {
            starts.push((group, at));
            at += n as u32;
        }
        Bound { vectorizer: self, local, hashes, terms, starts }
    }

    /// Turns sessions into feature rows, one a session or one a window; what follows from events alone is found out once
    /// for equal ones. Works on the current rayon pool; the result does not depend on its size.
    ///
    /// # Errors
    /// An event has no template, or a feature is not finite.
    pub fn transform(&self, traces: &Traces, templates: &Templates) -> anyhow::Result<Matrix> {
        if let Some(&event) = traces.events.iter().find(|&&e| e as usize >= templates.len()) {
            anyhow::bail!("event {event} occurs, but there are only {} templates", templates.len());
        }
        let bound = self.bind(templates);
        let horizon = traces.horizon().unwrap_or(0);
        let (columns, numerics) = (self.columns(), bound.numerics().len());
        let own_columns = numerics + self.parameters.len();
        let parts = Parts::of(self, traces, 0..traces.len());
        let chunks: Vec<Csr> = parts
            .distinct
            .first
            .par_chunks(CHUNK)
            .map(|first| {
                let mut rows = Csr::new(columns - own_columns);
                let (mut scratch, mut row) = (Scratch::default(), Vec::new());
                for &part in first {
                    bound.shared_row(parts.events(traces, part), &mut scratch, &mut row);
                    rows.push(row.iter().copied());
                }
                rows
            })
            .collect();
        let mut distinct = Csr::new(columns - own_columns);
        chunks.iter().for_each(|chunk| distinct.append(chunk));
        let known = bound.by_events(traces, &parts);
        let mut own = vec![0.0; parts.of.len() * own_columns];
        if own_columns > 0 {
            own.par_chunks_mut(own_columns).enumerate().for_each(|(row, own)| {
                let trace = parts.trace(traces, horizon, row);
                let known = &known[parts.distinct.groups[row] as usize * numerics..][..numerics];
                bound.own_row(&trace, known, own);
            });
        }
        let mut origins = Origins { ids: traces.ids.clone(), ..Origins::default() };
        for &(session, ..) in &parts.of {
            let again = origins.session.last() == Some(&session);
            origins.windows.push(if again { origins.windows[origins.windows.len() - 1] + 1 } else { 0 });
            origins.session.push(session);
        }
        let matrix = Matrix { origins, shared: Repeated { distinct, of: parts.distinct.groups }, own, columns };
        let names = self.names();
        matrix
            .check_finite(|row, index| {
                format!("feature `{}` of session `{}`", names[index as usize].0, matrix.origins.id(row))
            })
            .map(|()| matrix)
    }
}

/// A vectoriser tied to the template numbers of one run.
pub struct Bound<'a> {
    vectorizer: &'a Vectorizer,
    local: Vec<u32>,
    hashes: Vec<u64>,
    terms: IndexMap<Vec<u32>, u32>,
    starts: Vec<(Group, u32)>,
}

/// Buffers reused from row to row.
#[derive(Default)]
pub struct Scratch {
    locals: Vec<u32>,
    /// Count, first and last position of each local template that occurs, ascending.
    templates: Vec<(u32, u32, u32, u32)>,
    terms: IndexMap<Vec<u32>, u32>,
    weights: Vec<(u32, f64)>,
}

impl Scratch {
    fn count_terms(&mut self, ngrams: [u32; 2]) {
        self.terms.clear();
        for n in ngrams[0]..=ngrams[1] {
            for term in self.locals.windows(n as usize) {
                if let Some(count) = self.terms.get_mut(term) {
                    *count += 1;
                } else {
                    self.terms.insert(term.to_vec(), 1);
                }
            }
        }
    }

    fn count_templates(&mut self) {
        self.templates.clear();
        for (position, &local) in self.locals.iter().enumerate() {
            if local == UNSEEN {
                continue;
            }
            let position = position as u32 + 1;
            match self.templates.iter_mut().find(|t| t.0 == local) {
                Some(entry) => {
                    entry.1 += 1;
                    entry.3 = position;
                }
                None => self.templates.push((local, 1, position, position)),
            }
        }
        self.templates.sort_unstable();
    }

    /// Turns the collected weights into a row of length 1, columns ascending, equal columns summed.
    fn unit_row(&mut self, start: u32, row: &mut Vec<(u32, f32)>) {
        self.weights.sort_by_key(|w| w.0);
        self.weights.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 += next.1;
            }
            same
        });
        let norm = self.weights.iter().map(|w| w.1 * w.1).sum::<f64>().sqrt();
        if norm > 0.0 {
            row.extend(self.weights.iter().map(|&(i, w)| (start + i, (w / norm) as f32)));
        }
    }
}

impl Bound<'_> {
    fn locals(&self, events: &[u32], scratch: &mut Scratch) {
        scratch.locals.clear();
        scratch.locals.extend(events.iter().map(|&e| self.local[e as usize]));
    }

    /// Computes the (column, value) pairs of a session or window, columns ascending.
    ///
    /// # Panics
    /// An event has no template.
    pub fn row(&self, trace: &Trace<'_>, scratch: &mut Scratch, row: &mut Vec<(u32, f32)>) {
        self.shared_row(trace.events, scratch, row);
        let (numerics, parameters) = (self.numerics(), &self.vectorizer.parameters);
        let head = self.vectorizer.params.head as usize;
        let start = (self.vectorizer.columns() - numerics.len() - parameters.len()) as u32;
        let numbers = numerics
            .iter()
            .enumerate()
            .map(|(i, &column)| self.scaled(i, numeric(column, trace, &scratch.locals, head)));
        let made = parameters.iter().map(|column| self.parameter(column, trace));
        row.extend((start..).zip(numbers.chain(made)));
    }

    /// A column of a wildcard; 0 where the part has no value.
    fn parameter(&self, column: &Column, trace: &Trace<'_>) -> f32 {
        let value = self.vectorizer.made(column, trace.values);
        value.map_or(0.0, |value| ((value - column.centre) / column.scale) as f32)
    }

    /// The numeric columns, which follow those that events alone make.
    fn numerics(&self) -> &[Numeric] {
        let p = &self.vectorizer.params;
        if p.groups.contains(&Group::Numeric) { &p.numerics } else { &[] }
    }

    fn scaled(&self, i: usize, value: f64) -> f32 {
        ((value - self.vectorizer.centre[i]) / self.vectorizer.scale[i]) as f32
    }

    /// The numeric columns that follow from events alone, for each distinct part: `[parts][numerics]`, others 0.
    fn by_events(&self, traces: &Traces, parts: &Parts) -> Vec<f64> {
        let numerics = self.numerics();
        let of_part = |scratch: &mut Scratch, &row: &usize| {
            let events = parts.events(traces, row);
            self.locals(events, scratch);
            let trace = Trace { events, gaps: &[], censored: false, silence: 0, values: &[] };
            let of = |&column: &Numeric| match column.of_events() {
                true => numeric(column, &trace, &scratch.locals, 2),
                false => 0.0,
            };
            numerics.iter().map(of).collect::<Vec<_>>()
        };
        let rows: Vec<Vec<f64>> = parts.distinct.first.par_iter().map_init(Scratch::default, of_part).collect();
        rows.concat()
    }

    /// The columns of a part that do not follow from its events alone; some of the numeric ones are `known` by these.
    fn own_row(&self, trace: &Trace<'_>, known: &[f64], own: &mut [f32]) {
        let head = self.vectorizer.params.head as usize;
        for (i, &column) in self.numerics().iter().enumerate() {
            let value = if column.of_events() { known[i] } else { numeric(column, trace, &[], head) };
            own[i] = self.scaled(i, value);
        }
        for (own, column) in own[self.numerics().len()..].iter_mut().zip(&self.vectorizer.parameters) {
            *own = self.parameter(column, trace);
        }
    }

    /// The columns that follow from events alone: all but those of numbers and wildcards.
    fn shared_row(&self, events: &[u32], scratch: &mut Scratch, row: &mut Vec<(u32, f32)>) {
        row.clear();
        let p = &self.vectorizer.params;
        self.locals(events, scratch);
        scratch.count_templates();
        let frequency = |count: u32| if p.sublinear { 1.0 + f64::from(count).ln() } else { f64::from(count) };
        for &(group, start) in &self.starts {
            match group {
                Group::Tfidf => {
                    scratch.count_terms(p.ngrams);
                    scratch.weights.clear();
                    for (term, &count) in &scratch.terms {
                        if let Some(&i) = self.terms.get(term.as_slice()) {
                            scratch.weights.push((i, frequency(count) * self.vectorizer.idf[i as usize]));
                        }
                    }
                    scratch.unit_row(start, row);
                }
                Group::Hashing => {
                    // By global number: unseen templates have texts too.
                    scratch.locals.clear();
                    scratch.locals.extend_from_slice(events);
                    scratch.count_terms(p.ngrams);
                    scratch.weights.clear();
                    for (term, &count) in &scratch.terms {
                        let mut hash = p.hashing.seed;
                        for &event in term {
                            hash = fnv(hash, &self.hashes[event as usize].to_le_bytes());
                        }
                        let sign = if hash >> 63 == 0 { 1.0 } else { -1.0 };
                        let column = (hash % u64::from(p.hashing.dimension)) as u32;
                        scratch.weights.push((column, sign * frequency(count)));
                    }
                    // Summation order must not depend on the order of events.
                    scratch.weights.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
                    scratch.unit_row(start, row);
                    self.locals(events, scratch);
                }
                Group::Count => row.extend(scratch.templates.iter().map(|t| (start + t.0, t.1 as f32))),
                Group::Logcount => {
                    row.extend(scratch.templates.iter().map(|t| (start + t.0, f64::from(t.1).ln_1p() as f32)));
                }
                Group::First => row.extend(scratch.templates.iter().map(|t| (start + t.0, t.2 as f32))),
                Group::Last => row.extend(scratch.templates.iter().map(|t| (start + t.0, t.3 as f32))),
                Group::Numeric | Group::Parameter => {}
            }
        }
    }
}

impl Numeric {
    /// Whether it follows from the events alone, not from their times or from what comes after.
    fn of_events(self) -> bool {
        matches!(self, Self::Events | Self::Distinct | Self::Unseen)
    }
}

fn numeric(column: Numeric, trace: &Trace<'_>, locals: &[u32], head: usize) -> f64 {
    let seconds = |ms: i64| (ms.max(0) as f64 / 1000.0).ln_1p();
    // The gap before a window's first event belongs to what came before.
    let gaps = trace.gaps.get(1..).unwrap_or_default();
    let head = &gaps[..gaps.len().min(head - 1)];
    match column {
        Numeric::Events => (trace.events.len() as f64).ln_1p(),
        Numeric::Distinct => {
            let mut sorted = trace.events.to_vec();
            sorted.sort_unstable();
            sorted.dedup();
            (sorted.len() as f64).ln_1p()
        }
        Numeric::Duration => seconds(gaps.iter().sum()),
        Numeric::MaxGap => seconds(gaps.iter().copied().max().unwrap_or(0)),
        Numeric::HeadDuration => seconds(head.iter().sum()),
        Numeric::HeadMaxGap => seconds(head.iter().copied().max().unwrap_or(0)),
        Numeric::Censored => f64::from(u8::from(trace.censored)),
        Numeric::Unseen => (locals.iter().filter(|&&l| l == UNSEEN).count() as f64).ln_1p(),
    }
}

/// Centre and scale of train values; the scale falls back to the standard deviation, then to 1.
fn centre_and_scale(values: &mut [f64], scaling: Scaling) -> (f64, f64) {
    if values.is_empty() || scaling == Scaling::None {
        return (0.0, 1.0);
    }
    values.sort_unstable_by(f64::total_cmp);
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
    let spread = quantile(values, 0.75) - quantile(values, 0.25);
    let or_one = |s: f64| if s > 1e-9 { s } else { 1.0 };
    match scaling {
        Scaling::Robust if spread > 1e-9 => (quantile(values, 0.5), spread),
        Scaling::Robust => (quantile(values, 0.5), or_one(deviation)),
        _ => (mean, or_one(deviation)),
    }
}

/// FNV-1a, 64 bits, from a seed; the last multiplication is mixed once more so that low bits depend on all input.
fn fnv(seed: u64, bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ seed;
    for &byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^= hash >> 32;
    hash.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
