//! Events as numbers of 64 bits: those of a batch of lines, first in the order of the log, then by row group.
//!
//! A batch spans few lines and little time, so an event takes as many bits as its session or row, its template, its line
//! and its time need there; if these are more than 64, which few logs need, all events of the batch take three numbers.
//! Times are counted in seconds or milliseconds if all of the batch are whole.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::build::{Batch, Order, ROW_GROUP};
use crate::logs::format::NO_TIME;

/// How events are packed: widths in bits, and what lines and times are counted from.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// Whether an event takes three numbers: session or row and template; line; time.
    wide: bool,
    key: u32,
    template: u32,
    line: u32,
    first_line: u64,
    first_time: i64,
    /// Microseconds that times are counted in.
    unit: u64,
}

/// An event as it is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// A session's number in its batch, or a row's in its row group.
    pub(super) key: u32,
    /// Microseconds since 1970.
    pub(super) time: i64,
    /// 1-based line number over all files.
    pub(super) line: u64,
    /// Global template.
    pub(super) template: u32,
}

fn width(most: u64) -> u32 {
    64 - most.leading_zeros()
}

fn mask(width: u32) -> u64 {
    1u64.unbounded_shl(width).wrapping_sub(1)
}

impl Layout {
    /// Finds the layout for a batch; lines before its first time have the time `before`.
    fn of(batch: &Batch, before: i64) -> Self {
        let (mut least, mut most, mut last) = (before, before, before);
        let mut known = batch.time.iter().copied().filter(|t| *t != NO_TIME);
        if batch.time.first() != Some(&NO_TIME)
            && let Some(first) = known.next()
        {
            (least, most, last) = (first, first, first);
        }
        let start = least;
        let (mut seconds, mut milliseconds) = (true, true);
        for time in known {
            if time != last {
                (least, most, last) = (least.min(time), most.max(time), time);
                let since = time.abs_diff(start);
                seconds &= since.is_multiple_of(1_000_000);
                milliseconds &= since.is_multiple_of(1000);
            }
        }
        let unit = match (seconds, milliseconds) {
            (true, _) => 1_000_000,
            (_, true) => 1000,
            _ => 1,
        };
        let (first_line, last_line) = (batch.line.first().unwrap_or(&0), batch.line.last().unwrap_or(&0));
        let mut layout = Self {
            wide: false,
            key: width((batch.known.len().max(ROW_GROUP) - 1) as u64),
            template: width(batch.template.iter().copied().max().unwrap_or(0).into()),
            line: width(last_line.saturating_sub(*first_line)),
            first_line: *first_line,
            first_time: least,
            unit,
        };
        layout.wide = layout.key + layout.template + layout.line + width(most.abs_diff(least) / unit) > 64;
        if layout.wide {
            layout.key = 32;
        }
        layout
    }

    /// Numbers that an event takes.
    fn step(&self) -> usize {
        if self.wide { 3 } else { 1 }
    }

    #[inline]
    fn event(&self, words: &[u64]) -> Event {
        let key = (words[0] & mask(self.key)) as u32;
        if let [first, line, time] = *words {
            return Event { key, time: time as i64, line, template: (first >> 32) as u32 };
        }
        let rest = words[0] >> self.key;
        let template = (rest & mask(self.template)) as u32;
        let rest = rest >> self.template;
        let line = self.first_line + (rest & mask(self.line));
        let time = self.first_time.wrapping_add_unsigned(rest.unbounded_shr(self.line) * self.unit);
        Event { key, time, line, template }
    }
}

/// The events of a batch, in the order of the log.
#[derive(Clone, Debug)]
pub(super) struct Block {
    layout: Layout,
    words: Vec<u64>,
}

impl Block {
    /// Packs the events of a batch; lines before its first time have the time `before`.
    pub(super) fn of(batch: &Batch, before: i64) -> Self {
        let layout = Layout::of(batch, before);
        let mut words = Vec::with_capacity(batch.sessions.len() * layout.step());
        let (mut time, mut since) = (before, before.wrapping_sub(layout.first_time) as u64 / layout.unit);
        let mut start = 0;
        for (i, &end) in batch.ends.iter().enumerate() {
            if batch.time[i] != NO_TIME && batch.time[i] != time {
                time = batch.time[i];
                since = time.wrapping_sub(layout.first_time) as u64 / layout.unit;
            }
            let sessions = &batch.sessions[start..end as usize];
            start = end as usize;
            let template = u64::from(batch.template[i]);
            if layout.wide {
                for &session in sessions {
                    words.extend_from_slice(&[template << 32 | u64::from(session), batch.line[i], time as u64]);
                }
                continue;
            }
            let word = since.unbounded_shl(layout.line) | (batch.line[i] - layout.first_line);
            let word = (word << layout.template | template) << layout.key;
            sessions.iter().for_each(|&session| words.push(word | u64::from(session)));
        }
        Self { layout, words }
    }

    /// Returns how many numbers it holds.
    pub(super) fn len(&self) -> usize {
        self.words.len()
    }

    /// Orders the events by row group, those of a row group as they are in the log, and leaves out those of no row.
    /// `known` are the global numbers of the batch's sessions.
    pub(super) fn sorted(self, known: &[u32], order: &Order) -> Sorted {
        let Self { layout, words } = self;
        let step = layout.step();
        let groups = order.groups();
        // By session: row group and row there. Those that are left out are in a group behind the last.
        let place = |&session: &u32| match order.row[session as usize] {
            u32::MAX => (groups, 0),
            row => (row as usize / ROW_GROUP, (row as usize % ROW_GROUP) as u64),
        };
        let rows: Vec<(usize, u64)> = known.iter().map(place).collect();
        let row = |word: u64| rows[(word & mask(layout.key)) as usize];
        let mut next = vec![0u32; groups + 1];
        for words in words.chunks_exact(step) {
            next[row(words[0]).0] += step as u32;
        }
        let (mut places, mut end) = (Vec::new(), 0);
        for (group, next) in next[..groups].iter_mut().enumerate() {
            let start = end;
            end += std::mem::replace(next, start);
            if end > start {
                places.push((group as u32, start, end));
            }
        }
        let mut out = vec![0; end as usize];
        for words in words.chunks_exact(step) {
            let (group, row) = row(words[0]);
            if group == groups {
                continue;
            }
            let at = next[group] as usize;
            next[group] += step as u32;
            out[at] = words[0] & !mask(layout.key) | row;
            if layout.wide {
                out[at + 1..at + 3].copy_from_slice(&words[1..]);
            }
        }
        Sorted { layout, words: out, places }
    }
}

/// The events of a batch by row group.
pub(super) struct Sorted {
    layout: Layout,
    words: Vec<u64>,
    /// Row group, and where its events start and end.
    places: Vec<(u32, u32, u32)>,
}

/// The events of all batches by row group: in memory, or, from some number on, in a file.
pub(super) struct Store {
    path: PathBuf,
    file: Option<File>,
    written: u64,
    /// Numbers that may be, and are, in memory.
    most: usize,
    held: usize,
    batches: Vec<(Layout, Words)>,
    /// By row group: batch, and where the events start and end there.
    places: Vec<Vec<(u32, u32, u32)>>,
}

enum Words {
    Here(Vec<u64>),
    /// Where they start in the file.
    File(u64),
}

impl Store {
    /// Makes one for so many row groups, which keeps `most` numbers in memory; `scratch` is a folder for others.
    pub(super) fn new(groups: usize, most: usize, scratch: &Path) -> Self {
        let places = vec![Vec::new(); groups];
        Self { path: scratch.join("events"), file: None, written: 0, most, held: 0, batches: Vec::new(), places }
    }

    /// Adds the next batch.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn add(&mut self, sorted: Sorted) -> anyhow::Result<()> {
        let Sorted { layout, words, places } = sorted;
        let batch = u32::try_from(self.batches.len()).context("more than 4 billion batches of lines")?;
        places.iter().for_each(|&(group, start, end)| self.places[group as usize].push((batch, start, end)));
        let words = if self.held.saturating_add(words.len()) <= self.most {
            self.held += words.len();
            Words::Here(words)
        } else {
            let context = || format!("cannot write {}", self.path.display());
            let file = match &mut self.file {
                Some(file) => file,
                None => {
                    let file = File::options().read(true).write(true).create_new(true).open(&self.path);
                    self.file.insert(file.with_context(context)?)
                }
            };
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            file.write_all_at(&bytes, self.written).with_context(context)?;
            self.written += bytes.len() as u64;
            Words::File(self.written - bytes.len() as u64)
        };
        self.batches.push((layout, words));
        Ok(())
    }

    /// Calls `take` with the events of a row group, in the order of the log.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn each(&self, group: usize, mut take: impl FnMut(Event)) -> anyhow::Result<()> {
        let mut read = Vec::new();
        for &(batch, start, end) in &self.places[group] {
            let (layout, words) = &self.batches[batch as usize];
            let words = match words {
                Words::Here(words) => &words[start as usize..end as usize],
                Words::File(at) => {
                    let mut bytes = vec![0; 8 * (end - start) as usize];
                    let file = self.file.as_ref().context("events are in no file (a bug)")?;
                    file.read_exact_at(&mut bytes, at + 8 * u64::from(start))
                        .with_context(|| format!("cannot read {}", self.path.display()))?;
                    read.clear();
                    read.extend(bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)));
                    &read[..]
                }
            };
            if layout.wide {
                words.chunks_exact(3).for_each(|words| take(layout.event(words)));
            } else {
                words.chunks_exact(1).for_each(|words| take(layout.event(words)));
            }
        }
        Ok(())
    }

    /// Removes the file.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        if self.file.is_none() {
            return Ok(());
        }
        std::fs::remove_file(&self.path).with_context(|| format!("cannot remove {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn events_are_what_they_were(
            lines in prop::collection::vec((0u64..9, prop::option::of(0u64..1 << 40), 0u32..300, prop::collection::vec(0u32..5, 0..3)), 1..40),
            unit in prop::sample::select(vec![1u64, 1000, 1_000_000]),
            base in prop::sample::select(vec![0i64, 1_226_262_930_000_000, -5_000_000]),
            far: bool,
            before in -3i64..3,
        ) {
            let mut batch = Batch { known: vec![7, 9, 8, 6, 0], ..Batch::default() };
            let (mut line, mut time, mut expected) = (if far { u64::MAX - 1000 } else { 1 }, before, Vec::new());
            for (skip, at, template, sessions) in lines {
                line += skip + 1;
                let at = at.map(|at| base + ((at >> if far { 0 } else { 30 }) * unit) as i64);
                time = at.unwrap_or(time);
                batch.line.push(line);
                batch.time.push(at.unwrap_or(NO_TIME));
                batch.template.push(template);
                for session in sessions {
                    batch.sessions.push(session);
                    expected.push(Event { key: session, time, line, template });
                }
                batch.ends.push(batch.sessions.len() as u32);
            }
            let block = Block::of(&batch, before);
            let step = block.layout.step();
            let events: Vec<Event> = block.words.chunks(step).map(|words| block.layout.event(words)).collect();
            prop_assert_eq!(events, expected);
        }
    }
}
