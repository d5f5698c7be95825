//! What a feature row is: fitted on train sessions, stored in `vectorizer.json`, applied alike in training and scoring.
//!
//! Templates are known by their texts, so that a later run whose miner numbers them differently gets the same rows.

use std::path::Path;

use anyhow::{Context as _, ensure};
use indexmap::IndexMap;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{FeaturizeParams, Group, Numeric, Scaling, TextVectorizer};
use crate::support::conformal::quantile;
use crate::support::sparse::{Csr, Matrix};
use crate::support::traces::{Templates, Trace, Traces};

/// Number of a template that did not occur in train.
const UNSEEN: u32 = u32::MAX;

/// Sessions worked on by one task.
const CHUNK: usize = 4096;

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
        let mut seen = vec![false; templates.len()];
        for &row in train {
            for &event in &traces.events[traces.offsets[row]..traces.offsets[row + 1]] {
                *seen.get_mut(event as usize).with_context(|| {
                    format!(
                        "session `{}` has event {event}, but there are {} templates",
                        traces.ids[row],
                        templates.len()
                    )
                })? = true;
            }
        }
        let numbers: Vec<usize> = (0..templates.len()).filter(|&n| seen[n]).collect();
        let mut fitted = Self {
            params: params.clone(),
            templates: numbers.iter().map(|&n| templates.texts[n].clone()).collect(),
            event_ids: numbers.iter().map(|&n| templates.event_ids[n].clone()).collect(),
            terms: Vec::new(),
            idf: Vec::new(),
            centre: vec![0.0; params.numerics.len()],
            scale: vec![1.0; params.numerics.len()],
        };
        let bound = fitted.bind(templates);
        let horizon = traces.horizon().unwrap_or(0);
        let has_text = matches!(params.vectorizer, TextVectorizer::Tfidf | TextVectorizer::Both);
        let has_numerics = params.groups.contains(&Group::Numeric);
        let chunks: Vec<Gathered> = train
            .par_chunks(CHUNK)
            .map(|rows| {
                let mut document_counts = IndexMap::new();
                let mut documents = 0;
                let mut numerics = vec![Vec::new(); if has_numerics { params.numerics.len() } else { 0 }];
                let mut scratch = Scratch::default();
                for &row in rows {
                    let trace = traces.trace(row, horizon);
                    for (from, to) in fitted.windows(trace.events.len()) {
                        let part = trace.part(from, to);
                        bound.locals(part.events, &mut scratch);
                        documents += 1;
                        if has_text {
                            scratch.count_terms(params.ngrams);
                            for term in scratch.terms.keys().filter(|t| !t.contains(&UNSEEN)) {
                                if let Some(count) = document_counts.get_mut(term) {
                                    *count += 1;
                                } else {
                                    document_counts.insert(term.clone(), 1);
                                }
                            }
                        }
                        for (values, &column) in numerics.iter_mut().zip(&params.numerics) {
                            values.push(numeric(column, &part, &scratch.locals, params.head as usize));
                        }
                    }
                }
                Gathered { document_counts, documents, numerics }
            })
            .collect();
        let mut frequencies: IndexMap<Vec<u32>, u64> = IndexMap::new();
        let mut documents = 0;
        let mut columns = vec![Vec::new(); if has_numerics { params.numerics.len() } else { 0 }];
        for chunk in chunks {
            for (term, count) in chunk.document_counts {
                *frequencies.entry(term).or_insert(0) += count;
            }
            documents += chunk.documents;
            for (all, part) in columns.iter_mut().zip(chunk.numerics) {
                all.extend(part);
            }
        }
        let mut terms: Vec<(Vec<u32>, u64)> =
            frequencies.into_iter().filter(|(_, df)| *df >= u64::from(params.min_df)).collect();
        terms.sort_by(|a, b| a.0.len().cmp(&b.0.len()).then_with(|| a.0.cmp(&b.0)));
        // Smoothed as in scikit-learn: one imaginary document holds every term.
        fitted.idf = terms.iter().map(|(_, df)| ((1.0 + documents as f64) / (1.0 + *df as f64)).ln() + 1.0).collect();
        fitted.terms = terms.into_iter().map(|(term, _)| term).collect();
        for (i, values) in columns.iter_mut().enumerate() {
            ensure!(
                values.iter().all(|v| v.is_finite()),
                "numeric column `{:?}` is not finite in train",
                params.numerics[i]
            );
            (fitted.centre[i], fitted.scale[i]) = centre_and_scale(values, params.scaling);
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
            layout.push((group, if group == Group::Numeric { p.numerics.len() } else { templates }));
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
                    _ => self.event_ids[i].clone(),
                };
                names.push((format!("{} {what}", group.name()), group));
            }
        }
        names
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

    /// Turns sessions into feature rows, one a session or one a window. Works on the current rayon pool; the result
    /// does not depend on its size.
    ///
    /// # Errors
    /// An event has no template, or a feature is not finite.
    pub fn transform(&self, traces: &Traces, templates: &Templates) -> anyhow::Result<Matrix> {
        if let Some(&event) = traces.events.iter().find(|&&e| e as usize >= templates.len()) {
            anyhow::bail!("event {event} occurs, but there are only {} templates", templates.len());
        }
        let bound = self.bind(templates);
        let horizon = traces.horizon().unwrap_or(0);
        let columns = self.columns();
        let chunks: Vec<Matrix> = (0..traces.len().div_ceil(CHUNK))
            .into_par_iter()
            .map(|chunk| {
                let mut out = Matrix { rows: Csr::new(columns), ..Matrix::default() };
                let mut scratch = Scratch::default();
                let mut row = Vec::new();
                for session in chunk * CHUNK..((chunk + 1) * CHUNK).min(traces.len()) {
                    let trace = traces.trace(session, horizon);
                    for (window, (from, to)) in self.windows(trace.events.len()).into_iter().enumerate() {
                        bound.row(&trace.part(from, to), &mut scratch, &mut row);
                        out.rows.push(row.iter().copied());
                        out.session_ids.push(traces.ids[session].clone());
                        out.windows.push(window as u32);
                    }
                }
                out
            })
            .collect();
        let mut matrix = Matrix { rows: Csr::new(columns), ..Matrix::default() };
        let values = chunks.iter().map(|c| c.rows.values.len()).sum();
        matrix.rows.indices.reserve(values);
        matrix.rows.values.reserve(values);
        for chunk in chunks {
            let base = matrix.rows.indices.len();
            matrix.rows.offsets.extend(chunk.rows.offsets[1..].iter().map(|o| base + o));
            matrix.rows.indices.extend(chunk.rows.indices);
            matrix.rows.values.extend(chunk.rows.values);
            matrix.session_ids.extend(chunk.session_ids);
            matrix.windows.extend(chunk.windows);
        }
        let names = self.names();
        matrix.rows.check_finite(|row, index| {
            format!("feature `{}` of session `{}`", names[index as usize].0, matrix.session_ids[row])
        })?;
        Ok(matrix)
    }
}

/// What one task learns from its train sessions.
struct Gathered {
    /// How many rows hold each term.
    document_counts: IndexMap<Vec<u32>, u64>,
    /// Rows.
    documents: u64,
    /// Values of each numeric column.
    numerics: Vec<Vec<f64>>,
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
        row.clear();
        let p = &self.vectorizer.params;
        self.locals(trace.events, scratch);
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
                    scratch.locals.extend_from_slice(trace.events);
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
                    self.locals(trace.events, scratch);
                }
                Group::Count => row.extend(scratch.templates.iter().map(|t| (start + t.0, t.1 as f32))),
                Group::Logcount => {
                    row.extend(scratch.templates.iter().map(|t| (start + t.0, f64::from(t.1).ln_1p() as f32)));
                }
                Group::First => row.extend(scratch.templates.iter().map(|t| (start + t.0, t.2 as f32))),
                Group::Last => row.extend(scratch.templates.iter().map(|t| (start + t.0, t.3 as f32))),
                Group::Numeric => {
                    for (i, &column) in p.numerics.iter().enumerate() {
                        let value = numeric(column, trace, &scratch.locals, p.head as usize);
                        let scaled = (value - self.vectorizer.centre[i]) / self.vectorizer.scale[i];
                        row.push((start + i as u32, scaled as f32));
                    }
                }
            }
        }
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
