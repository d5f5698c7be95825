//! Distinct benign count vectors, searched by norm.
//!
//! The distance is an L1 norm, so the difference of two vectors' norms is a lower bound of their distance: a search goes
//! outwards from its own norm and ends where that bound exceeds the best found.

use std::path::Path;

use anyhow::ensure;
use indexmap::IndexMap;
use polars::prelude::{Column, DataFrame, UInt32Type};

use crate::support::repeats::{Distinct, hash};
use crate::support::table::{list_column, lists, read_parquet, write_parquet};
use crate::support::traces::{Templates, Trace, Traces};

/// (template, count) pairs, templates ascending. Numbers from `templates.len()` on are templates that no benign train
/// session has: that, plus the number in the run's own table.
pub(super) type Counts = Vec<(u32, u32)>;

/// A benign vector.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    counts: Counts,
    norm: f64,
    /// Longest silence after this beginning, milliseconds; complete sessions: 0, not looked at.
    silence: i64,
    /// Cross-fitting blocks (modulo 32) of the sessions behind it, as bits; 0 once forgotten.
    blocks: u32,
    /// Number of sessions behind it.
    sessions: u32,
    /// The first of them, as a number in `ids`; of a beginning, one that begins so. None in models of older versions.
    example: Option<u32>,
}

/// Where an entry lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Site {
    /// In `complete`.
    Complete(u32),
    /// In `prefixes`.
    Prefix(u32),
}

/// A count vector to look up.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Query {
    pub(super) counts: Counts,
    norm: f64,
    /// Beginnings match if their silence is at least this; `None`: they do not match.
    silence: Option<i64>,
}

/// All benign vectors, sorted by norm.
pub(super) struct Index {
    pub(super) templates: Vec<String>,
    pub(super) event_ids: Vec<String>,
    pub(super) idf: Vec<f64>,
    pub(super) unseen: f64,
    /// Ids of sessions that entries name.
    pub(super) ids: Vec<String>,
    pub(super) complete: Vec<Entry>,
    pub(super) prefixes: Vec<Entry>,
}

/// The events of equal sessions, what they have gathered, and the longest silence after each event.
type Sequence<'a> = (&'a [u32], Gathered, Vec<i64>);

/// What one distinct vector has gathered.
#[derive(Clone, Copy)]
struct Gathered {
    silence: i64,
    blocks: u32,
    sessions: u32,
    /// Row of the first session.
    example: usize,
}

impl Index {
    /// Gathers the vectors of the given sessions, and with `prefixes` those of all their beginnings.
    pub(super) fn fit(
        traces: &Traces,
        templates: &Templates,
        sessions: &[usize],
        blocks: &[u32],
        prefixes: bool,
    ) -> Self {
        let alike = {
            let events = |i: usize| &traces.events[traces.offsets[sessions[i]]..traces.offsets[sessions[i] + 1]];
            let hashes: Vec<u64> = (0..sessions.len()).map(|i| hash(events(i))).collect();
            Distinct::by(&hashes, |a, b| events(a) == events(b))
        };
        let mut frequency = vec![0u64; templates.len()];
        let mut last = vec![usize::MAX; templates.len()];
        for (&first, times) in alike.first.iter().zip(alike.counts()) {
            let s = sessions[first];
            for &event in &traces.events[traces.offsets[s]..traces.offsets[s + 1]] {
                if last[event as usize] != s {
                    last[event as usize] = s;
                    frequency[event as usize] += times;
                }
            }
        }
        let numbers: Vec<usize> = (0..templates.len()).filter(|&t| frequency[t] > 0).collect();
        let idf = |df: u64| ((1.0 + sessions.len() as f64) / (1.0 + df as f64)).ln() + 1.0;
        let mut index = Self {
            templates: numbers.iter().map(|&t| templates.texts[t].clone()).collect(),
            event_ids: numbers.iter().map(|&t| templates.event_ids[t].clone()).collect(),
            idf: numbers.iter().map(|&t| idf(frequency[t])).collect(),
            unseen: idf(0),
            ids: Vec::new(),
            complete: Vec::new(),
            prefixes: Vec::new(),
        };
        let local = index.bind(templates);
        let horizon = traces.horizon().unwrap_or(0);

        // Equal sequences have equal beginnings: gather the longest silence at each position once per sequence.
        let mut sequences: Vec<Sequence<'_>> = alike
            .first
            .iter()
            .map(|&first| {
                let events = traces.trace(sessions[first], horizon).events;
                let gathered = Gathered { silence: -1, blocks: 0, sessions: 0, example: sessions[first] };
                (events, gathered, vec![0; events.len()])
            })
            .collect();
        for (&s, &group) in sessions.iter().zip(&alike.groups) {
            let trace = traces.trace(s, horizon);
            let bit = 1u32 << (blocks[s] % 32);
            // The last silence of a session that is still open is a beginning's; that of a closed one is no silence.
            let open = if trace.censored { trace.silence } else { -1 };
            let (_, gathered, silences) = &mut sequences[group as usize];
            gathered.blocks |= bit;
            gathered.sessions += u32::from(!trace.censored);
            gathered.silence = gathered.silence.max(open);
            for (longest, &gap) in silences.iter_mut().zip(trace.gaps.iter().skip(1)) {
                *longest = (*longest).max(gap);
            }
        }
        let mut complete: IndexMap<Counts, Gathered> = IndexMap::new();
        let mut beginnings: IndexMap<Counts, Gathered> = IndexMap::new();
        let add = |map: &mut IndexMap<Counts, Gathered>, counts: &Counts, new: Gathered| {
            if let Some(known) = map.get_mut(counts) {
                known.silence = known.silence.max(new.silence);
                known.blocks |= new.blocks;
                known.sessions += new.sessions;
            } else {
                map.insert(counts.clone(), new);
            }
        };
        for (events, gathered, silences) in &sequences {
            let mut counts = Counts::new();
            for (i, &event) in events.iter().enumerate() {
                let event = local[event as usize];
                match counts.binary_search_by_key(&event, |c| c.0) {
                    Ok(at) => counts[at].1 += 1,
                    Err(at) => counts.insert(at, (event, 1)),
                }
                if prefixes && i + 1 < events.len() {
                    add(&mut beginnings, &counts, Gathered { silence: silences[i], ..*gathered });
                }
            }
            if gathered.sessions > 0 {
                add(&mut complete, &counts, Gathered { silence: 0, ..*gathered });
            }
            if prefixes && gathered.silence >= 0 {
                add(&mut beginnings, &counts, *gathered);
            }
        }
        let mut named: IndexMap<usize, u32> = IndexMap::new();
        index.complete = index.sorted(complete, &mut named);
        index.prefixes = index.sorted(beginnings, &mut named);
        index.ids = named.keys().map(|&row| traces.ids[row].clone()).collect();
        index
    }

    /// Entries by norm; `named` numbers the sessions that they name.
    fn sorted(&self, gathered: IndexMap<Counts, Gathered>, named: &mut IndexMap<usize, u32>) -> Vec<Entry> {
        let mut entries: Vec<Entry> = gathered
            .into_iter()
            .map(|(counts, g)| {
                let number = named.len() as u32;
                Entry {
                    norm: self.norm(&counts),
                    counts,
                    silence: g.silence,
                    blocks: g.blocks,
                    sessions: g.sessions,
                    example: Some(*named.entry(g.example).or_insert(number)),
                }
            })
            .collect();
        entries.sort_by(|a, b| a.norm.total_cmp(&b.norm).then_with(|| a.counts.cmp(&b.counts)));
        entries
    }

    /// Local number of each template of a run.
    pub(super) fn bind(&self, templates: &Templates) -> Vec<u32> {
        let by_text: IndexMap<&str, u32> = self.templates.iter().zip(0..).map(|(t, n)| (t.as_str(), n)).collect();
        let unseen = self.templates.len() as u32;
        let numbers = templates.texts.iter().zip(0..);
        numbers.map(|(text, n)| by_text.get(text.as_str()).copied().unwrap_or(unseen + n)).collect()
    }

    /// Counts a session's templates.
    pub(super) fn counts(&self, trace: &Trace<'_>, local: &[u32]) -> Counts {
        let mut counts = Counts::new();
        for &event in trace.events {
            let event = local[event as usize];
            match counts.iter_mut().find(|c| c.0 == event) {
                Some(entry) => entry.1 += 1,
                None => counts.push((event, 1)),
            }
        }
        counts.sort_unstable();
        counts
    }

    /// Makes a query.
    pub(super) fn query(&self, counts: Counts, silence: Option<i64>) -> Query {
        Query { norm: self.norm(&counts), counts, silence }
    }

    fn weight(&self, local: u32) -> f64 {
        self.idf.get(local as usize).copied().unwrap_or(self.unseen)
    }

    fn norm(&self, counts: &[(u32, u32)]) -> f64 {
        counts.iter().map(|&(t, n)| self.difference(t, n, 0)).sum()
    }

    /// What one template adds to the distance.
    pub(super) fn difference(&self, local: u32, a: u32, b: u32) -> f64 {
        self.weight(local) * (log1p(a) - log1p(b)).abs()
    }

    /// Distance of two vectors; gives up (returning at least `limit`) once it is reached.
    fn distance(&self, a: &[(u32, u32)], b: &[(u32, u32)], limit: f64) -> f64 {
        let (mut i, mut j, mut sum) = (0, 0, 0.0);
        while sum < limit {
            sum += match (a.get(i), b.get(j)) {
                (Some(x), Some(y)) if x.0 == y.0 => {
                    (i, j) = (i + 1, j + 1);
                    if x.1 == y.1 { 0.0 } else { self.difference(x.0, x.1, y.1) }
                }
                (Some(x), y) if y.is_none_or(|y| x.0 < y.0) => {
                    i += 1;
                    self.difference(x.0, x.1, 0)
                }
                (_, Some(y)) => {
                    j += 1;
                    self.difference(y.0, 0, y.1)
                }
                (_, None) => break,
            };
        }
        sum
    }

    /// Returns the distance to the nearest vector and where it is; with `without`, vectors that only that block has do
    /// not count. Without any vector the distance is the norm.
    pub(super) fn nearest(&self, query: &Query, without: Option<u32>) -> (f64, Option<Site>) {
        let allowed = |e: &Entry| without.is_none_or(|b| e.blocks & !(1u32 << (b % 32)) != 0);
        // The order of the search must not decide between equal distances: complete vectors win, then lower norms.
        let mut best = (f64::INFINITY, None);
        self.search(&self.complete, query, allowed, &mut best, Site::Complete);
        if let Some(silence) = query.silence
            && best.0 > 0.0
        {
            self.search(&self.prefixes, query, |e| e.silence >= silence && allowed(e), &mut best, Site::Prefix);
        }
        if best.1.is_none() { (query.norm, None) } else { best }
    }

    fn search(
        &self,
        entries: &[Entry],
        query: &Query,
        allowed: impl Fn(&Entry) -> bool,
        best: &mut (f64, Option<Site>),
        site: impl Fn(u32) -> Site,
    ) {
        let middle = entries.partition_point(|e| e.norm < query.norm);
        let (mut low, mut high) = (middle, middle);
        loop {
            let below = low.checked_sub(1).map(|i| query.norm - entries[i].norm);
            let above = entries.get(high).map(|e| e.norm - query.norm);
            let (at, bound) = match (below, above) {
                (Some(b), Some(a)) if b < a => (low - 1, b),
                (_, Some(a)) => (high, a),
                (Some(b), None) => (low - 1, b),
                (None, None) => break,
            };
            // Norms are sums in another order than distances: leave room for rounding.
            if bound > best.0 + 1e-9 {
                break;
            }
            if at < low {
                low = at;
            } else {
                high = at + 1;
            }
            let entry = &entries[at];
            if !allowed(entry) {
                continue;
            }
            let distance = self.distance(&query.counts, &entry.counts, best.0);
            if distance < best.0 {
                *best = (distance, Some(site(at as u32)));
                if distance == 0.0 {
                    break;
                }
            }
        }
    }

    fn entry(&self, site: Site) -> &Entry {
        match site {
            Site::Complete(i) => &self.complete[i as usize],
            Site::Prefix(i) => &self.prefixes[i as usize],
        }
    }

    /// The counts at a site.
    pub(super) fn at(&self, site: Site) -> &[(u32, u32)] {
        &self.entry(site).counts
    }

    /// Id of a benign session behind a site.
    pub(super) fn example(&self, site: Site) -> Option<&str> {
        self.ids.get(self.entry(site).example? as usize).map(String::as_str)
    }

    /// Drops what only cross-fitting needs and the file does not hold.
    pub(super) fn forget_blocks(&mut self) {
        for entry in self.complete.iter_mut().chain(&mut self.prefixes) {
            entry.blocks = 0;
        }
    }

    /// Writes `profile.parquet`: one row a vector, complete ones first, by norm.
    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let entries = || self.complete.iter().chain(&self.prefixes);
        let (mut offsets, mut templates, mut counts) = (vec![0], Vec::new(), Vec::new());
        for entry in entries() {
            templates.extend(entry.counts.iter().map(|c| c.0));
            counts.extend(entry.counts.iter().map(|c| c.1));
            offsets.push(templates.len());
        }
        let complete: Vec<bool> = (0..entries().count()).map(|i| i < self.complete.len()).collect();
        let examples: Vec<Option<&str>> =
            entries().map(|e| self.ids.get(e.example? as usize).map(String::as_str)).collect();
        let mut frame = DataFrame::new_infer_height(vec![
            Column::new("complete".into(), complete),
            list_column::<UInt32Type>("templates", &offsets, &templates),
            list_column::<UInt32Type>("counts", &offsets, &counts),
            Column::new("silence".into(), entries().map(|e| e.silence).collect::<Vec<_>>()),
            Column::new("sessions".into(), entries().map(|e| e.sessions).collect::<Vec<_>>()),
            Column::new("example".into(), examples),
        ])?;
        write_parquet(path, &mut frame)
    }

    /// Reads `profile.parquet`.
    pub(super) fn read(
        path: &Path,
        templates: Vec<String>,
        event_ids: Vec<String>,
        idf: Vec<f64>,
        unseen: f64,
    ) -> anyhow::Result<Self> {
        let frame = read_parquet(path, None)?;
        let (offsets, locals) = lists::<UInt32Type>(&frame, "templates")?;
        let (_, counts) = lists::<UInt32Type>(&frame, "counts")?;
        ensure!(locals.len() == counts.len(), "{}: templates and counts differ in length", path.display());
        ensure!(
            locals.iter().all(|&t| (t as usize) < idf.len()),
            "{}: a vector has a template that profile.json does not",
            path.display()
        );
        let (ids, complete, prefixes) = (Vec::new(), Vec::new(), Vec::new());
        let mut index = Self { templates, event_ids, idf, unseen, ids, complete, prefixes };
        // Models of older versions do not say where a vector comes from.
        let examples = frame.column("example").ok().map(|column| column.str()).transpose()?;
        let mut named: IndexMap<&str, u32> = IndexMap::new();
        let columns =
            (frame.column("complete")?.bool()?, frame.column("silence")?.i64()?, frame.column("sessions")?.u32()?);
        for (row, pair) in offsets.windows(2).enumerate() {
            let range = pair[0]..pair[1];
            let counts: Counts = locals[range.clone()].iter().copied().zip(counts[range].iter().copied()).collect();
            let number = named.len() as u32;
            let entry = Entry {
                norm: index.norm(&counts),
                counts,
                silence: columns.1.get(row).unwrap_or(0),
                blocks: 0,
                sessions: columns.2.get(row).unwrap_or(0),
                example: examples.and_then(|e| e.get(row)).map(|id| *named.entry(id).or_insert(number)),
            };
            if columns.0.get(row) == Some(true) { index.complete.push(entry) } else { index.prefixes.push(entry) }
        }
        index.ids = named.into_keys().map(str::to_owned).collect();
        Ok(index)
    }
}

fn log1p(count: u32) -> f64 {
    f64::from(count).ln_1p()
}
