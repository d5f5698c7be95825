//! How sessions end, and what of their events is scored then.

use std::ops::Range;

use super::open::{Event, Place, Queue, Session};
use super::{Done, Stream, Why};
use crate::logs::format::NO_TIME;
use crate::logs::rows::text;
use crate::sessionize::Cut;
use crate::support::time::compact;

/// A session cut from the events of a key.
pub(super) struct Piece {
    range: Range<usize>,
    start: i64,
    id: String,
}

impl Stream {
    /// Ends sessions that are idle.
    #[inline]
    pub(super) fn expire(&mut self) {
        let (clock, idle) = (self.clocks.active(), self.ending.idle.unwrap_or(i64::MAX));
        if let Some(Cut::Window { step, .. }) = self.cut {
            let boundary = clock.div_euclid(step) * step;
            if boundary > self.clocks.swept {
                self.clocks.swept = boundary;
                self.sweep(clock);
            }
            return;
        }
        let linger = self.ending.linger.min(idle);
        for (queue, span, why) in [(Queue::Open, idle, Why::Idle), (Queue::Closing, linger, Why::Closed)] {
            while let Some(place) = self.open.oldest(queue)
                && clock.saturating_sub(self.open.at(place).active) > span
            {
                self.close(place, why, None);
            }
        }
    }

    /// Ends windows that are over.
    #[cold]
    fn sweep(&mut self, clock: i64) {
        let Some(Cut::Window { length, step }) = self.cut else { return };
        let open_from = ((clock - length).div_euclid(step) + 1) * step;
        // Of the windows that are over, the last one ends here.
        let over = open_from - step + length;
        let mut due: Vec<(Vec<u8>, Place)> = Vec::new();
        for place in self.open.all(Queue::Open).chain(self.open.all(Queue::Closing)) {
            let session = self.open.at(place);
            if session.events.iter().any(|(time, _)| *time < over) {
                due.push((session.key.clone(), place));
            }
        }
        due.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut done = Vec::new();
        for (key, place) in due {
            let session = self.open.at(place);
            let (instance, alerted) = (session.instance, session.alerted);
            let events = self.settled(session.events.clone());
            let pieces = self.pieces(&key, &events, |start| start + length <= clock);
            for piece in pieces {
                done.push(self.done(piece, &events, Why::Idle, instance, alerted, None));
            }
            let rest: Vec<Event> = events.into_iter().filter(|(time, _)| *time >= open_from).collect();
            if rest.is_empty() {
                self.open.remove(place);
            } else {
                self.open.keep(place, rest);
            }
        }
        self.clocks.open_from = open_from;
        done.sort_by(|a, b| (a.events[0].0, &a.id).cmp(&(b.events[0].0, &b.id)));
        self.pending.extend(done);
    }

    /// Ends the session that was not active for longest.
    #[cold]
    pub(super) fn make_room(&mut self) {
        let queues = [Queue::Open, Queue::Closing];
        let oldest = queues.into_iter().filter_map(|queue| self.open.oldest(queue));
        if let Some(place) = oldest.min_by_key(|place| self.open.at(*place).active) {
            self.counts.full += 1;
            self.close(place, Why::Full, None);
        }
    }

    /// Ends a session.
    pub(super) fn close(&mut self, place: Place, why: Why, silent: Option<i64>) {
        let session = self.open.remove(place);
        self.end_of(session, why, silent);
    }

    fn end_of(&mut self, session: Session, why: Why, silent: Option<i64>) {
        let events = self.settled(session.events);
        for piece in self.pieces(&session.key, &events, |_| true) {
            let done = self.done(piece, &events, why, session.instance, session.alerted, silent);
            self.pending.push_back(done);
        }
    }

    /// Puts events in order of time; those before the first time of the log have that.
    pub(super) fn settled(&self, mut events: Vec<Event>) -> Vec<Event> {
        let first = if self.clocks.first == NO_TIME { 0 } else { self.clocks.first };
        if events.first().is_some_and(|(time, _)| *time == NO_TIME) {
            events.iter_mut().filter(|(time, _)| *time == NO_TIME).for_each(|event| event.0 = first);
        }
        if !events.is_sorted_by_key(|(time, _)| *time) {
            events.sort_by_key(|(time, _)| *time);
        }
        events
    }

    /// Cuts the events of a key into sessions with names; those that `wanted` wants by their starts, and that are long
    /// enough.
    pub(super) fn pieces(&mut self, key: &[u8], events: &[Event], wanted: impl Fn(i64) -> bool) -> Vec<Piece> {
        let whole = text(key);
        let Some(cut) = &self.cut else {
            if events.len() < self.min_events {
                self.counts.short_sessions += 1;
                return Vec::new();
            }
            return vec![Piece { range: 0..events.len(), start: events[0].0, id: whole.into_owned() }];
        };
        let key = if self.keyless { "" } else { &*whole };
        let mut pieces = Vec::new();
        for (range, start) in cut.pieces(events) {
            // A window that is over was scored, and has no events left but those it shares.
            if !wanted(start) || start < self.clocks.open_from {
                continue;
            }
            if range.len() < self.min_events {
                self.counts.short_sessions += 1;
            } else {
                pieces.push(Piece { range, start, id: format!("{key}@{}", compact(start)) });
            }
        }
        pieces
    }

    pub(super) fn done(
        &self,
        Piece { range, start, id }: Piece,
        events: &[Event],
        why: Why,
        instance: u64,
        alerted: bool,
        silent: Option<i64>,
    ) -> Done {
        let clocks = &self.clocks;
        let known = |time: i64| if time == NO_TIME { 0 } else { time };
        let events = events[range].to_vec();
        let last = events.last().map_or(0, |(time, _)| *time);
        let log_end = known(clocks.last).max(silent.unwrap_or(i64::MIN));
        let open = match &self.cut {
            None => log_end - last < self.over,
            Some(cut) => cut.is_open(start, last, log_end),
        };
        let until = known(clocks.horizon).max(silent.unwrap_or(i64::MIN));
        Done { id, events, why, until, open, new: self.forms.new_forms(), instance, alerted, place: Place::NOWHERE }
    }

    /// Ends all sessions of a log that has said nothing for as long as sessions may be idle: they were silent for that
    /// long. Call it when so much time has passed on the wall.
    pub fn silent(&mut self) {
        let Some(idle) = self.ending.idle else { return };
        for (queue, why) in [(Queue::Open, Why::Idle), (Queue::Closing, Why::Closed)] {
            while let Some(place) = self.open.oldest(queue) {
                let last = self.open.at(place).events.iter().map(|(time, _)| *time).max();
                let silent = last.filter(|last| *last != NO_TIME).map(|last| last + idle);
                self.close(place, why, silent);
            }
        }
    }

    /// Ends all sessions, in order of start and key: the log is over.
    pub fn finish(&mut self) {
        let first = if self.clocks.first == NO_TIME { 0 } else { self.clocks.first };
        let all = self.open.all(Queue::Open).chain(self.open.all(Queue::Closing));
        let mut all: Vec<(i64, String, Place)> = all
            .map(|place| {
                let session = self.open.at(place);
                let times = session.events.iter().map(|(time, _)| if *time == NO_TIME { first } else { *time });
                (times.min().unwrap_or(first), text(&session.key).into_owned(), place)
            })
            .collect();
        all.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        if self.cut.is_none() && self.counts.sessions == 0 && self.pending.is_empty() {
            // Sessions that are left out are none that a horizon is made of.
            let kept = all.iter().filter(|(_, _, place)| self.open.at(*place).events.len() >= self.min_events);
            let ends = kept.filter_map(|(_, _, place)| self.open.at(*place).events.iter().map(|e| e.0).max());
            self.clocks.horizon = ends.max().unwrap_or(NO_TIME);
        }
        let before = self.pending.len();
        for (_, _, place) in all {
            self.close(place, Why::End, None);
        }
        if self.cut.is_some() {
            self.pending.make_contiguous()[before..]
                .sort_by(|a, b| (a.events[0].0, &a.id).cmp(&(b.events[0].0, &b.id)));
        }
    }
}
