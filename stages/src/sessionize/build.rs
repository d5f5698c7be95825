//! Lines of all files, and the sessions they make.
//!
//! Lines are read once, in batches, on all threads: each batch counts the events of its sessions and finds their first
//! times, and packs the events ([`super::packed`]). All batches together give the order of sessions, and so the row group
//! of each event. Then the events of each batch are put in order of row groups, and row groups are made, again on all
//! threads. If there are more events than fit in memory, the others are in a file meanwhile, and their lines are read
//! twice. Bytes depend neither on that nor on threads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, ensure};
use rayon::prelude::*;

use super::packed::{Block, Store};
use super::sessions::Sessions;
use super::windows::{self, Cut};
use super::{FileStart, SessionSummary};
use crate::logs::format::NO_TIME;
use crate::logs::keys::Keys;
use crate::logs::rows::text;
use crate::support::time::{compact, rfc3339};
use crate::support::turns::{in_order, lock};

/// Sessions a row group holds.
pub(super) const ROW_GROUP: usize = 1 << 15;

/// Events that are kept in memory: eight bytes each, some 400 MB.
pub(super) const EVENTS: usize = 48 << 20;

/// Some lines in order: 1-based numbers over all files, times, global templates, and their sessions.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    /// Line numbers, ascending.
    pub(super) line: Vec<u64>,
    /// Microseconds since 1970 or [`NO_TIME`].
    pub(super) time: Vec<i64>,
    /// Template numbers.
    pub(super) template: Vec<u32>,
    /// Numbers in `known`; line i has `sessions[ends[i - 1]..ends[i]]`.
    pub(super) sessions: Vec<u32>,
    /// See `sessions`.
    pub(super) ends: Vec<u32>,
    /// The global numbers of the batch's sessions.
    pub(super) known: Vec<u32>,
}

impl Batch {
    /// Adds sessions, given by their global numbers, to those of the last line.
    pub(super) fn extend_last(&mut self, sessions: &[u32]) {
        let first = self.ends.iter().rev().nth(1).map_or(0, |&end| end as usize);
        let mut of_line: BTreeSet<u32> = self.sessions[first..].iter().map(|&s| self.known[s as usize]).collect();
        let mut numbers: BTreeMap<u32, u32> = self.known.iter().copied().zip(0..).collect();
        for &session in sessions.iter().filter(|&&session| of_line.insert(session)) {
            let number = numbers.entry(session).or_insert_with(|| {
                self.known.push(session);
                self.known.len() as u32 - 1
            });
            self.sessions.push(*number);
        }
        if let Some(end) = self.ends.last_mut() {
            *end = self.sessions.len() as u32;
        }
    }
}

/// Where lines come from, in batches.
pub(super) trait Lines: Sync {
    /// Returns how many batches there are.
    fn batches(&self) -> usize;

    /// Returns a batch. If not `whole`, it has neither line numbers nor templates.
    ///
    /// # Errors
    /// The lines cannot be read.
    fn batch(&self, number: usize, whole: bool) -> anyhow::Result<Batch>;
}

/// The files that lines come from, and the session keys in them.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// Session keys of all files.
    pub(super) keys: Keys,
    /// The files.
    pub(super) files: Vec<FileStart>,
    /// Lines of all files.
    pub(super) lines: u64,
}

impl Sources {
    /// Adds a file, or the next piece of one, with `lines` lines of every sort; returns how many lines come before it.
    pub(super) fn add(&mut self, path: &str, lines: u64) -> u64 {
        let before = self.lines;
        if self.files.last().is_none_or(|file| file.path != path) {
            self.files.push(FileStart { path: path.to_owned(), first_line: before + 1 });
        }
        self.lines += lines;
        before
    }
}

/// What makes sessions of events.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// By template number: whether it closes its session.
    pub(super) closing: Vec<bool>,
    /// Microseconds of silence after which a session counts as over.
    pub(super) idle: i64,
    /// Sessions with fewer events are left out.
    pub(super) min_events: usize,
    /// Events that are kept in memory.
    pub(super) events: usize,
    /// How the sessions of keys are cut by time.
    pub(super) cut: Option<Cut>,
    /// Whether all lines are of one key, which names nothing and which no event closes.
    pub(super) keyless: bool,
}

/// What a batch says about its sessions.
struct Tally {
    /// By number in the batch: the session's global number, its events, and the time of the first one that has a time.
    known: Vec<u32>,
    events: Vec<u32>,
    first: Vec<i64>,
    /// Sessions of the events before the first time.
    timeless: Vec<u32>,
    without_session: u64,
    steps_back: u64,
    /// The first and the last time, the earliest and the latest.
    ends: Option<(i64, i64)>,
    span: Option<(i64, i64)>,
}

impl Tally {
    fn of(batch: &Batch) -> Self {
        let (mut events, mut first) = (vec![0u32; batch.known.len()], vec![i64::MAX; batch.known.len()]);
        let (mut timeless, mut without_session, mut steps_back) = (Vec::new(), 0, 0);
        let (mut began, mut now, mut least, mut most) = (NO_TIME, NO_TIME, i64::MAX, i64::MIN);
        let mut start = 0;
        for (&time, &end) in batch.time.iter().zip(&batch.ends) {
            if time != now && time != NO_TIME {
                steps_back += u64::from(time < now);
                began = if now == NO_TIME { time } else { began };
                (now, least, most) = (time, least.min(time), most.max(time));
            }
            let end = end as usize;
            without_session += u64::from(start == end);
            for &session in &batch.sessions[start..end] {
                events[session as usize] += 1;
                if now == NO_TIME {
                    timeless.push(session);
                } else {
                    let first = &mut first[session as usize];
                    *first = now.min(*first);
                }
            }
            start = end;
        }
        let timed = now != NO_TIME;
        Self {
            known: batch.known.clone(),
            events,
            first,
            timeless,
            without_session,
            steps_back,
            ends: timed.then_some((began, now)),
            span: timed.then_some((least, most)),
        }
    }
}

/// What all batches say.
#[derive(Default)]
struct Count {
    events: Vec<u32>,
    /// Time of the first event; [`NO_TIME`] stands for the log's first time.
    first: Vec<i64>,
    without_session: u64,
    steps_back: u64,
    /// The last time so far.
    before: Option<i64>,
    span: Option<(i64, i64)>,
}

impl Count {
    fn add(&mut self, tally: &Tally) -> anyhow::Result<()> {
        for ((&session, &events), &first) in tally.known.iter().zip(&tally.events).zip(&tally.first) {
            let session = session as usize;
            self.events[session] =
                self.events[session].checked_add(events).context("a session has 4 billion events")?;
            self.first[session] = self.first[session].min(first);
        }
        let before = self.before.unwrap_or(NO_TIME);
        for &session in &tally.timeless {
            let first = &mut self.first[tally.known[session as usize] as usize];
            *first = before.min(*first);
        }
        self.without_session += tally.without_session;
        self.steps_back += tally.steps_back;
        if let (Some((began, now)), Some((least, most))) = (tally.ends, tally.span) {
            self.steps_back += u64::from(began < before);
            self.before = Some(now);
            let (first, last) = self.span.unwrap_or((least, most));
            self.span = Some((first.min(least), last.max(most)));
        }
        Ok(())
    }
}

/// The order of sessions.
pub(super) struct Order {
    /// Session numbers in the order of the table.
    sessions: Vec<u32>,
    /// Rows by session number; `u32::MAX` for those that are left out.
    pub(super) row: Vec<u32>,
    /// Where the events of each row start in the table, and where the last ends.
    offsets: Vec<usize>,
    start: i64,
    log_end: i64,
}

impl Order {
    fn of(count: &Count, keys: &Keys, min_events: usize) -> Self {
        // Lines before the first time have the first; a log without times starts in 1970.
        let start = count.span.map_or(0, |(first, _)| first);
        let first = |s: u32| Some(count.first[s as usize]).filter(|t| *t != NO_TIME).unwrap_or(start);
        let kept = |s: &u32| count.events[*s as usize] as usize >= min_events.max(1);
        let mut timed: Vec<(i64, u32)> = (0..keys.len() as u32).filter(kept).map(|s| (first(s), s)).collect();
        timed.par_sort_unstable();
        timed
            .par_chunk_by_mut(|(a, _), (b, _)| a == b)
            .for_each(|same| same.sort_by_cached_key(|&(_, session)| keys.get(session)));
        let sessions: Vec<u32> = timed.into_iter().map(|(_, session)| session).collect();
        let mut row = vec![u32::MAX; keys.len()];
        let mut offsets = Vec::with_capacity(sessions.len() + 1);
        let mut total = 0;
        for (at, &session) in sessions.iter().enumerate() {
            row[session as usize] = at as u32;
            offsets.push(total);
            total += count.events[session as usize] as usize;
        }
        offsets.push(total);
        Self { sessions, row, offsets, start, log_end: count.span.map_or(0, |(_, last)| last) }
    }

    /// Returns how many row groups there are.
    pub(super) fn groups(&self) -> usize {
        self.sessions.len().div_ceil(ROW_GROUP)
    }
}

/// Bits of an event's template, above its line.
const TEMPLATE: u32 = 24;

/// The events of a row group, each at its place.
#[derive(Default)]
struct Placed {
    next: Vec<u32>,
    /// Time; line and template.
    events: Vec<(i64, u64)>,
}

impl Placed {
    fn fill(&mut self, store: &Store, order: &Order, group: usize) -> anyhow::Result<()> {
        let from = group * ROW_GROUP;
        let to = (from + ROW_GROUP).min(order.sessions.len());
        let (base, events) = (order.offsets[from], order.offsets[to] - order.offsets[from]);
        u32::try_from(events).context("more than 4 billion events in a row group")?;
        self.next.clear();
        self.next.extend(order.offsets[from..to].iter().map(|o| (o - base) as u32));
        self.events.resize(events, (0, 0));
        store.each(group, |event| {
            let next = &mut self.next[event.key as usize];
            self.events[*next as usize] = (event.time, event.line << TEMPLATE | u64::from(event.template));
            *next += 1;
        })
    }

    /// Makes the sessions, and counts those that have too few events once they are cut.
    fn sessions(&mut self, order: &Order, keys: &Keys, rules: &Rules, group: usize) -> (Sessions, u64) {
        let from = group * ROW_GROUP;
        let to = (from + ROW_GROUP).min(order.sessions.len());
        let mut sessions = Sessions {
            ids: Vec::with_capacity(to - from),
            offsets: Vec::with_capacity(to - from + 1),
            events: Vec::with_capacity(self.events.len()),
            gaps: Vec::with_capacity(self.events.len()),
            lines: Vec::with_capacity(self.events.len()),
            ..Sessions::default()
        };
        sessions.offsets.push(0);
        let (mut key, mut short) = (Vec::new(), 0);
        for row in from..to {
            let base = order.offsets[from];
            let events = &mut self.events[order.offsets[row] - base..order.offsets[row + 1] - base];
            // Log order already; stable, so that ties keep it.
            if !events.is_sorted_by_key(|(time, _)| *time) {
                events.sort_by_key(|(time, _)| *time);
            }
            key.clear();
            keys.write(order.sessions[row], &mut key);
            let Some(cut) = &rules.cut else {
                let closed = add(&mut sessions, events, &rules.closing) && !rules.keyless;
                let last = events.last().map_or(0, |(time, _)| *time);
                sessions.censored.push(order.log_end - last < rules.idle && !closed);
                sessions.ids.push(text(&key).into_owned());
                continue;
            };
            let key = if rules.keyless { "".into() } else { text(&key) };
            for (piece, start) in cut.pieces(events) {
                let events = &events[piece];
                if events.len() < rules.min_events {
                    short += 1;
                    continue;
                }
                let closed = add(&mut sessions, events, &rules.closing) && !rules.keyless;
                let last = events.last().map_or(0, |(time, _)| *time);
                sessions.censored.push(cut.is_open(start, last, order.log_end) && !closed);
                sessions.ids.push(format!("{key}@{}", compact(start)));
            }
        }
        (sessions, short)
    }
}

/// Adds the events of the next session; returns whether one of them closes it.
fn add(sessions: &mut Sessions, events: &[(i64, u64)], closing: &[bool]) -> bool {
    let (mut before, mut closed) = (events[0].0, false);
    sessions.start.push(before);
    for &(time, what) in events {
        let template = (what & ((1 << TEMPLATE) - 1)) as u32;
        sessions.events.push(template);
        sessions.lines.push(what >> TEMPLATE);
        sessions.gaps.push((time - before) / 1000);
        closed |= closing.get(template as usize).copied().unwrap_or(false);
        before = time;
    }
    sessions.end.push(before);
    sessions.offsets.push(sessions.events.len());
    closed
}

/// What is counted of sessions.
#[derive(Default)]
struct Total {
    sessions: u64,
    short: u64,
    events: u64,
    censored: u64,
}

/// Makes the sessions, row group by row group: `make` turns them into something on any thread, and `take` gets that in
/// order. `scratch` is a folder for files.
///
/// # Errors
/// The lines cannot be read, or `make` or `take` fails.
pub(super) fn group<T>(
    lines: &dyn Lines,
    sources: &Sources,
    rules: &Rules,
    scratch: &Path,
    make: impl Fn(Sessions) -> anyhow::Result<T> + Sync,
    mut take: impl FnMut(T) -> anyhow::Result<()> + Send,
) -> anyhow::Result<SessionSummary> {
    ensure!(sources.lines < 1 << (64 - TEMPLATE), "more than a million million lines");
    ensure!(rules.closing.len() <= 1 << TEMPLATE, "more than {} templates", 1 << TEMPLATE);
    let keys = &sources.keys;
    let mut count = Count { events: vec![0; keys.len()], first: vec![i64::MAX; keys.len()], ..Count::default() };
    /// The sessions of a batch, the last time before it, and its events.
    type Counted = (Vec<u32>, Option<i64>, Option<Block>);
    let mut batches: Vec<Counted> = Vec::with_capacity(lines.batches());
    let (full, mut held) = (AtomicBool::new(false), 0);
    let tally = |number: usize| {
        let whole = !full.load(Ordering::Relaxed);
        let batch = lines.batch(number, whole)?;
        let tally = Tally::of(&batch);
        // Without the batches before, nothing is known of the time of lines before the first time.
        let block = (whole && tally.timeless.is_empty()).then(|| Block::of(&batch, NO_TIME));
        Ok((tally, block))
    };
    in_order(lines.batches(), tally, |_, (tally, block)| {
        let before = count.before;
        count.add(&tally)?;
        let block = block.filter(|block| held + block.len() <= rules.events);
        held += block.as_ref().map_or(0, Block::len);
        full.fetch_or(block.is_none() && tally.timeless.is_empty(), Ordering::Relaxed);
        batches.push((tally.known, before, block));
        Ok(())
    })?;
    // Pieces are counted one by one.
    let least = if rules.cut.is_some() { 1 } else { rules.min_events };
    let order = Order::of(&count, keys, least);
    let rows = order.sessions.len();
    let all = count.events.iter().filter(|&&c| c > 0).count();
    (count.events, count.first) = (Vec::new(), Vec::new());

    let mut store = Store::new(order.groups(), rules.events, scratch);
    let batches: Vec<Mutex<Counted>> = batches.into_iter().map(Mutex::new).collect();
    let sort = |number: usize| {
        let (known, before, block) = std::mem::take(&mut *lock(&batches[number]));
        let block = match block {
            Some(block) => block,
            None => Block::of(&lines.batch(number, true)?, before.unwrap_or(order.start)),
        };
        Ok(block.sorted(&known, &order))
    };
    in_order(batches.len(), sort, |_, sorted| store.add(sorted))?;

    let spare = Mutex::new(Vec::<Placed>::new());
    let sessions_of = |group: usize| -> anyhow::Result<(Sessions, u64)> {
        let mut placed = lock(&spare).pop().unwrap_or_default();
        placed.fill(&store, &order, group)?;
        let made = placed.sessions(&order, keys, rules, group);
        lock(&spare).push(placed);
        Ok(made)
    };
    let open = |sessions: &Sessions| sessions.censored.iter().filter(|c| **c).count() as u64;
    let mut total = Total { short: (all - rows) as u64, ..Total::default() };
    if rules.cut.is_none() {
        let made = |group: usize| {
            let (sessions, _) = sessions_of(group)?;
            Ok((open(&sessions), make(sessions)?))
        };
        in_order(order.groups(), made, |_, (open, made)| {
            total.censored += open;
            take(made)
        })?;
        (total.sessions, total.events) = (rows as u64, order.offsets[rows] as u64);
    } else {
        let mut pieces = Vec::with_capacity(order.groups());
        in_order(order.groups(), sessions_of, |_, (sessions, short)| {
            total.short += short;
            total.censored += open(&sessions);
            total.sessions += sessions.len() as u64;
            total.events += sessions.events.len() as u64;
            pieces.push(sessions);
            Ok(())
        })?;
        let ordered = windows::order(&pieces);
        let groups: Vec<_> = ordered.chunks(ROW_GROUP).collect();
        in_order(groups.len(), |group| make(windows::gather(&pieces, groups[group])), |_, made| take(made))?;
    }
    store.finish()?;
    Ok(SessionSummary {
        lines: sources.lines,
        lines_without_session: count.without_session,
        sessions: total.sessions,
        short_sessions: total.short,
        events: total.events,
        censored: total.censored,
        steps_back: count.steps_back,
        first: count.span.map(|(first, _)| rfc3339(first)),
        last: count.span.map(|(_, last)| rfc3339(last)),
        files: sources.files.clone(),
        ..SessionSummary::default()
    })
}
