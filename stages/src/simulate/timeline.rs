//! What is still to happen, by the second, and the log it turns into.
//!
//! The collector of the reference cluster merged the nodes' logs by sorting whole lines as text, in a collation that
//! looks at letters and digits alone: within a second, lines stand in the order of thread number *as text*, then level,
//! component and message. The order of events of a session depends on it, so it is reproduced here.

use super::dice::Dice;
use super::wording::Message;

/// A line to write, or a step to take, at a known second.
#[derive(Clone, Copy)]
pub(super) enum Due {
    /// A line about a block.
    Line(Line),
    /// The writer of a task asks for its next block.
    Next {
        task: u32,
    },
    /// Reader `wave` of the block's job accesses a block.
    Read {
        block: u32,
        wave: u8,
    },
    /// The name node has a block copied; `without` is a node that is silent.
    Replicate {
        block: u32,
        without: u16,
        plan: Copying,
    },
    /// A job's leftovers, then its data set, are deleted.
    Cleanup {
        job: u16,
    },
    Delete {
        job: u16,
    },
    /// An outage of the schedule begins.
    Outage {
        index: u16,
    },
}

/// What becomes of a replication.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Copying {
    /// The copy makes three replicas and one of them too many later: the surplus is removed.
    Surplus,
    /// As above, but a fourth replica stays.
    Fourth,
    /// A node came back meanwhile: see the outage.
    Outage,
    /// The copy is lost and asked for again once it timed out.
    Lost,
    /// The third replica of a recovered write.
    Repair,
}

/// A line to write; see [`super::wording::Words`]. Small, as hundreds of thousands of them wait.
#[derive(Clone, Copy)]
pub(super) struct Line {
    pub(super) message: Message,
    /// Thread number; 0 = the next one of `node` when the line is due.
    pub(super) thread: u32,
    pub(super) block: u32,
    pub(super) node: u16,
    pub(super) other: u16,
    pub(super) number: u32,
}

/// Seconds to come and what is due in them, in the order it was added. What lies beyond the end is dropped: the log ends
/// while sessions are open.
pub(super) struct Agenda {
    seconds: Vec<Vec<Due>>,
    present: usize,
}

impl Agenda {
    /// An empty agenda of this many seconds.
    pub(super) fn new(seconds: usize) -> Self {
        Self { seconds: (0..seconds).map(|_| Vec::new()).collect(), present: 0 }
    }

    /// Adds something at a time in seconds; times that are over count as the present.
    pub(super) fn add(&mut self, at: f64, due: Due) {
        if let Some(second) = self.seconds.get_mut((at.max(0.0) as usize).max(self.present)) {
            second.push(due);
        }
    }

    /// Takes the `index`-th entry of a second; entries may be added to that second meanwhile.
    pub(super) fn get(&self, second: usize, index: usize) -> Option<Due> {
        self.seconds[second].get(index).copied()
    }

    /// Frees a second that is over.
    pub(super) fn close(&mut self, second: usize) {
        self.seconds[second] = Vec::new();
        self.present = second + 1;
    }
}

/// Collects the lines of one second and writes them in the collector's order.
#[derive(Default)]
pub(super) struct Second {
    text: Vec<u8>,
    keys: Vec<u8>,
    /// End of text and of key of each line.
    ends: Vec<(usize, usize)>,
    order: Vec<u32>,
}

impl Second {
    /// Adds a line: `fill` appends all that follows the time.
    pub(super) fn line(&mut self, time: &[u8], fill: impl FnOnce(&mut Vec<u8>)) {
        self.text.extend_from_slice(time);
        let start = self.text.len();
        fill(&mut self.text);
        let message = &self.text[start..];
        self.keys.extend(message.iter().filter(|b| b.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase));
        self.text.push(b'\n');
        self.ends.push((self.text.len(), self.keys.len()));
    }

    /// Hands the lines over in order and forgets them.
    pub(super) fn flush(&mut self, mut each: impl FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<()> {
        let Self { text, keys, ends, order } = self;
        let span = |i: u32, of: fn(&(usize, usize)) -> usize| {
            let end = of(&ends[i as usize]);
            let start = if i == 0 { 0 } else { of(&ends[i as usize - 1]) };
            start..end
        };
        order.clear();
        order.extend(0..ends.len() as u32);
        order.sort_unstable_by(|&a, &b| {
            let (left, right) = (&keys[span(a, |e| e.1)], &keys[span(b, |e| e.1)]);
            left.cmp(right).then_with(|| text[span(a, |e| e.0)].cmp(&text[span(b, |e| e.0)]))
        });
        for &i in order.iter() {
            each(&text[span(i, |e| e.0)])?;
        }
        text.clear();
        keys.clear();
        ends.clear();
        Ok(())
    }
}

/// A data node: its address, clock and threads.
pub(super) struct Node {
    pub(super) address: String,
    /// Thread that talks to the name node.
    pub(super) service: u32,
    /// How far its clock is off, seconds.
    pub(super) skew: f64,
    /// Its threads as a multiple of those of the average node.
    busy: f64,
    last: u32,
}

impl Node {
    /// A node of this address just after its start.
    pub(super) fn new(address: String, dice: &mut Dice) -> Self {
        let service = if dice.chance(0.1) { 18 } else { 19 };
        let busy = if dice.chance(0.03) { dice.between(0.82, 0.95) } else { 1.0 + 0.01 * dice.normal() };
        Self { address, service, skew: 0.03 * dice.normal(), busy, last: 140 }
    }

    /// Returns the number of a new thread, where the average node has had `threads`.
    pub(super) fn thread(&mut self, threads: f64) -> u32 {
        self.last = (self.last + 1).max((threads * self.busy) as u32);
        self.last
    }
}
