//! Values of wildcards, each text once as far as that is cheap.

use super::lanes::load;

/// Strings one after the other, each with its length before it: as a dictionary of Parquet has them. Most are in there
/// once: those seen not long ago are found again.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// Length (four bytes, the lowest first) and bytes of each.
    pub bytes: Vec<u8>,
    /// How many there are.
    pub count: u32,
    /// Whether some may be other than ASCII.
    pub odd: bool,
    /// The last text with this hash.
    recent: Vec<Recent>,
    /// By session number: which text its key is, if it is one.
    of_session: Vec<u32>,
}

/// A text that may come again.
#[derive(Clone, Copy, Debug)]
struct Recent {
    /// Its first eight bytes, with zeros behind a shorter one, and its last eight; no bytes of one of less than eight.
    first: u64,
    last: u64,
    length: u32,
    number: u32,
    /// Where its bytes are.
    at: u32,
}

const NOTHING: Recent = Recent { first: 0, last: 0, length: u32::MAX, number: 0, at: 0 };

/// Texts that are remembered to be found again; a power of two.
const RECENT: usize = 4096;

impl Texts {
    /// Adds `bytes[start..end]` without looking whether it is there.
    #[inline]
    fn push(&mut self, bytes: &[u8], start: usize, end: usize) -> u32 {
        let length = end - start;
        let before = (length as u32).to_le_bytes();
        // Short ones by one copy of a fixed size.
        match bytes.get(start..).and_then(<[u8]>::first_chunk::<32>) {
            Some(block) if length <= 32 => {
                let mut item = [0; 36];
                item[..4].copy_from_slice(&before);
                item[4..].copy_from_slice(block);
                let end = self.bytes.len() + 4 + length;
                self.bytes.extend_from_slice(&item);
                self.bytes.truncate(end);
            }
            _ => {
                self.bytes.extend_from_slice(&before);
                self.bytes.extend_from_slice(&bytes[start..end]);
            }
        }
        self.count += 1;
        self.count - 1
    }

    /// Adds `bytes[start..end]`, the key of a session, or finds it.
    #[inline]
    pub(super) fn number_of_session(&mut self, session: u32, bytes: &[u8], start: usize, end: usize) -> u32 {
        let session = session as usize;
        if self.of_session.len() <= session {
            self.of_session.resize(session + 1, u32::MAX);
        }
        if self.of_session[session] == u32::MAX {
            self.of_session[session] = self.push(bytes, start, end);
        }
        self.of_session[session]
    }

    /// Adds `bytes[start..end]`, or finds it if it was there not long ago.
    #[inline]
    pub(super) fn number(&mut self, bytes: &[u8], start: usize, end: usize) -> u32 {
        if self.recent.is_empty() {
            self.recent = vec![NOTHING; RECENT];
        }
        let length = (end - start) as u32;
        let (first, last) = match length {
            0 => (0, 0),
            1..8 => (load(bytes, start) & (u64::MAX >> (64 - 8 * length)), 0),
            _ => (load(bytes, start), load(bytes, end - 8)),
        };
        let hash = (first ^ last.rotate_left(23) ^ u64::from(length)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52;
        let known = self.recent[hash as usize % RECENT];
        if known.first == first && known.last == last && known.length == length {
            let at = known.at as usize;
            let same = match length {
                0..=16 => true,
                17..=24 => load(&self.bytes, at + 8) == load(bytes, start + 8),
                _ => self.bytes.get(at..at + length as usize) == bytes.get(start..end),
            };
            if same {
                return known.number;
            }
        }
        let at = self.bytes.len() as u32 + 4;
        let number = self.push(bytes, start, end);
        self.recent[hash as usize % RECENT] = Recent { first, last, length, number, at };
        number
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        (self.count, self.odd) = (0, false);
        self.recent.fill(NOTHING);
        self.of_session.clear();
    }

    /// Calls `each` with every text.
    pub fn each<'a>(&'a self, mut each: impl FnMut(&'a [u8])) {
        let mut rest = &self.bytes[..];
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let (text, after) = after.split_at(u32::from_le_bytes(*length) as usize);
            each(text);
            rest = after;
        }
    }
}
