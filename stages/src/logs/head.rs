//! The beginnings of lines of the format `hdfs`, recognised by what the lines before began with.

use super::lanes::{leading_digits, load};
use super::shape::Literal;

/// Most ends of beginnings (level and component) that are remembered.
const TAILS: usize = 32;

/// What stands before a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Microseconds since 1970.
    pub time: i64,
    /// Number of the level.
    pub level: u32,
    /// Number of the component.
    pub component: u32,
    /// Number of the session that a field names, or that all lines belong to.
    pub session: Option<u32>,
    /// Where the message starts.
    pub message: usize,
    /// Whether what stands before it may name a block.
    pub blocks: bool,
}

/// What lines began with.
#[derive(Clone, Debug, Default)]
pub struct Heads {
    /// Bytes 0..8 and 6..14 of the last line, and its time.
    last: Option<(u64, u64, i64)>,
    /// Microseconds since 1970 when its day began.
    day: i64,
    tails: Vec<Tail>,
}

/// `INFO dfs.DataNode$DataXceiver: `
#[derive(Clone, Debug)]
struct Tail {
    text: Literal,
    level: u32,
    component: u32,
    session: Option<u32>,
    blocks: bool,
}

const DATE: u64 = 0x00ff_ffff_ffff_ffff;

impl Heads {
    /// Returns the head of the line at `start..stop`, if it is like one that was remembered.
    #[inline]
    pub fn find(&mut self, bytes: &[u8], start: usize, stop: usize) -> Option<Head> {
        let (date, clock) = (load(bytes, start), load(bytes, start + 6));
        let (last_date, last_clock, last_time) = self.last?;
        let time = if date == last_date && clock == last_clock {
            last_time
        } else {
            if (date ^ last_date) & DATE != 0 || leading_digits(clock >> 8) != 6 || clock >> 56 != u64::from(b' ') {
                return None;
            }
            let two = |at: u32| {
                let digit = |at: u32| i64::from((clock >> (8 * at)) as u8 - b'0');
                digit(at) * 10 + digit(at + 1)
            };
            let (h, m, s) = (two(1), two(3), two(5));
            if h > 23 || m > 59 || s > 60 {
                return None;
            }
            let time = self.day + (h * 3600 + m * 60 + s) * 1_000_000;
            self.last = Some((date, clock, time));
            time
        };
        let process = leading_digits(load(bytes, start + 14)) as usize;
        let tail = start + 14 + process + 1;
        if process == 0 || process > 7 || bytes.get(tail - 1) != Some(&b' ') {
            return None;
        }
        for known in &self.tails {
            if known.text.is_at(bytes, tail) {
                let message = tail + known.text.bytes().len();
                let Tail { level, component, session, blocks, .. } = *known;
                return (message <= stop).then_some(Head { time, level, component, session, message, blocks });
            }
        }
        None
    }

    /// Remembers the beginning of a line that was read.
    pub fn learn(&mut self, line: &[u8], head: Head) {
        let second =
            line[7..13].chunks(2).fold(0, |all, two| all * 60 + i64::from((two[0] - b'0') * 10 + two[1] - b'0'));
        self.last = Some((load(line, 0), load(line, 6), head.time));
        self.day = head.time - second * 1_000_000;
        let process = line[14..].iter().take_while(|b| b.is_ascii_digit()).count();
        let Some(text) = line.get(14 + process + 1..head.message) else { return };
        if self.tails.len() < TAILS && text.ends_with(b": ") && self.tails.iter().all(|t| t.text.bytes() != text) {
            let Head { level, component, session, blocks, .. } = head;
            self.tails.push(Tail { text: Literal::of(text.to_vec()), level, component, session, blocks });
        }
    }
}
