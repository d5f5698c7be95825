//! Sessions that are open: found by key, and in the order in which they were last active.

use std::hash::{BuildHasherDefault, Hasher};

use indexmap::IndexMap;

use crate::logs::intern::hash;

const NONE: u32 = u32::MAX;

/// A fast hash of keys; no order that anybody sees depends on it.
#[derive(Default)]
pub(super) struct Fast(u64);

impl Hasher for Fast {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = self.0.rotate_left(29) ^ hash(bytes);
    }
}

/// What a session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    /// To be idle.
    Open,
    /// To be silent for a moment: an event has closed it.
    Closing,
}

/// An event: its time, and the code of its form.
pub(super) type Event = (i64, u32);

/// A session.
#[derive(Clone, Debug, Default)]
pub(super) struct Session {
    /// Its key as it stands in the log.
    pub(super) key: Vec<u8>,
    /// Its events in the order of the log.
    pub(super) events: Vec<Event>,
    /// What the clock of the log said at its last event.
    pub(super) active: i64,
    /// Its number among all sessions of the stream.
    pub(super) instance: u64,
    /// Whether an event has closed it.
    pub(super) closing: bool,
    /// Whether it has been told of as an alert.
    pub(super) alerted: bool,
    /// Which session of its slot it is, and its neighbours in its queue.
    pub(super) generation: u32,
    pub(super) before: u32,
    pub(super) after: u32,
}

#[derive(Clone, Copy)]
struct List {
    first: u32,
    last: u32,
}

/// A session in its place; it is another one once the place was given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    slot: u32,
    generation: u32,
}

impl Place {
    pub(super) const NOWHERE: Self = Self { slot: NONE, generation: 0 };
}

/// All open sessions.
pub(super) struct OpenSessions {
    index: IndexMap<Box<[u8]>, u32, BuildHasherDefault<Fast>>,
    slots: Vec<Session>,
    free: Vec<u32>,
    lists: [List; 2],
    events: usize,
}

impl Default for OpenSessions {
    fn default() -> Self {
        let none = List { first: NONE, last: NONE };
        Self { index: IndexMap::default(), slots: Vec::new(), free: Vec::new(), lists: [none; 2], events: 0 }
    }
}

impl OpenSessions {
    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Returns how many events they have together.
    pub(super) fn events(&self) -> usize {
        self.events
    }

    /// Returns whether a place still holds the session that was found there.
    #[inline]
    pub(super) fn holds(&self, place: Place) -> bool {
        self.slots.get(place.slot as usize).is_some_and(|s| s.generation == place.generation)
    }

    /// Returns the session at a place that holds it.
    #[inline]
    pub(super) fn at(&self, place: Place) -> &Session {
        &self.slots[place.slot as usize]
    }

    /// As [`OpenSessions::at`].
    #[inline]
    pub(super) fn at_mut(&mut self, place: Place) -> &mut Session {
        &mut self.slots[place.slot as usize]
    }

    /// Finds the session of a key.
    pub(super) fn find(&self, key: &[u8]) -> Option<Place> {
        let &slot = self.index.get(key)?;
        Some(Place { slot, generation: self.slots[slot as usize].generation })
    }

    /// Adds a session, whose key has none.
    pub(super) fn add(&mut self, session: Session) -> Place {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Session { before: NONE, after: NONE, ..Session::default() });
            (self.slots.len() - 1) as u32
        });
        let generation = self.slots[slot as usize].generation;
        self.events += session.events.len();
        self.index.insert(session.key.clone().into_boxed_slice(), slot);
        self.slots[slot as usize] = Session { generation, before: NONE, after: NONE, ..session };
        self.link(slot);
        Place { slot, generation }
    }

    /// Adds an event to a session, which is the last to be active then.
    #[inline]
    pub(super) fn push(&mut self, place: Place, event: Event, active: i64, closes: bool) {
        self.events += 1;
        let session = &mut self.slots[place.slot as usize];
        session.events.push(event);
        if session.active == active && session.after == NONE && !closes {
            return;
        }
        self.unlink(place.slot);
        let session = &mut self.slots[place.slot as usize];
        session.active = active;
        session.closing |= closes;
        self.link(place.slot);
    }

    /// Leaves a session with these events.
    pub(super) fn keep(&mut self, place: Place, events: Vec<Event>) {
        let session = &mut self.slots[place.slot as usize];
        self.events = self.events + events.len() - session.events.len();
        session.events = events;
    }

    /// Takes a session out.
    pub(super) fn remove(&mut self, place: Place) -> Session {
        self.unlink(place.slot);
        let slot = &mut self.slots[place.slot as usize];
        let generation = slot.generation.wrapping_add(1);
        let session = std::mem::replace(slot, Session { generation, before: NONE, after: NONE, ..Session::default() });
        self.events -= session.events.len();
        self.index.swap_remove(session.key.as_slice());
        self.free.push(place.slot);
        session
    }

    /// Returns the session of a queue that was not active for longest.
    #[inline]
    pub(super) fn oldest(&self, queue: Queue) -> Option<Place> {
        let slot = self.lists[queue as usize].first;
        (slot != NONE).then(|| Place { slot, generation: self.slots[slot as usize].generation })
    }

    /// Returns all sessions of a queue, in its order.
    pub(super) fn all(&self, queue: Queue) -> impl Iterator<Item = Place> {
        let mut next = self.lists[queue as usize].first;
        std::iter::from_fn(move || {
            let slot = next;
            let session = self.slots.get(slot as usize)?;
            next = session.after;
            Some(Place { slot, generation: session.generation })
        })
    }

    /// Says of all that they were active at this time.
    pub(super) fn rebase(&mut self, active: i64) {
        for session in &mut self.slots {
            session.active = active;
        }
    }

    fn queue(&self, slot: u32) -> usize {
        (if self.slots[slot as usize].closing { Queue::Closing } else { Queue::Open }) as usize
    }

    fn link(&mut self, slot: u32) {
        let queue = self.queue(slot);
        let last = self.lists[queue].last;
        let session = &mut self.slots[slot as usize];
        (session.before, session.after) = (last, NONE);
        match self.slots.get_mut(last as usize) {
            Some(before) => before.after = slot,
            None => self.lists[queue].first = slot,
        }
        self.lists[queue].last = slot;
    }

    fn unlink(&mut self, slot: u32) {
        let queue = self.queue(slot);
        let Session { before, after, .. } = self.slots[slot as usize];
        match self.slots.get_mut(before as usize) {
            Some(session) => session.after = after,
            None => self.lists[queue].first = after,
        }
        match self.slots.get_mut(after as usize) {
            Some(session) => session.before = before,
            None => self.lists[queue].last = before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn session(key: u8, active: i64) -> Session {
        Session { key: vec![key], active, events: vec![(active, 0)], ..Session::default() }
    }

    proptest! {
        /// Against a list that is searched from its beginning.
        #[test]
        fn sessions_are_found_and_kept_in_order(steps in prop::collection::vec((0u8..6, 0u8..4), 0..80)) {
            let mut open = OpenSessions::default();
            let mut model: Vec<(u8, bool, usize)> = Vec::new();
            for (now, (key, what)) in steps.into_iter().enumerate() {
                let at = model.iter().position(|m| m.0 == key);
                match (open.find(&[key]), what) {
                    (None, _) => {
                        prop_assert!(at.is_none());
                        open.add(session(key, now as i64));
                        model.push((key, false, 1));
                    }
                    (Some(place), 0) => {
                        let (_, _, events) = model.remove(at.unwrap());
                        prop_assert_eq!(open.remove(place).events.len(), events);
                        prop_assert!(!open.holds(place));
                    }
                    (Some(place), what) => {
                        let (_, closing, events) = model.remove(at.unwrap());
                        open.push(place, (now as i64, 1), now as i64, what == 3);
                        model.push((key, closing || what == 3, events + 1));
                    }
                }
                prop_assert_eq!(open.len(), model.len());
                prop_assert_eq!(open.events(), model.iter().map(|m| m.2).sum::<usize>());
                for (queue, closing) in [(Queue::Open, false), (Queue::Closing, true)] {
                    let keys: Vec<u8> = open.all(queue).map(|place| open.at(place).key[0]).collect();
                    let wanted: Vec<u8> = model.iter().filter(|m| m.1 == closing).map(|m| m.0).collect();
                    prop_assert_eq!(open.oldest(queue).map(|p| open.at(p).key[0]), wanted.first().copied());
                    prop_assert_eq!(keys, wanted);
                }
            }
        }
    }
}
