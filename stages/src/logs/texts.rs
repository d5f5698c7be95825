//! Values of wildcards, each text once as far as that is cheap.

use super::shape::load;

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
    /// Number and place of the last text with this hash.
    recent: Vec<(u32, u32)>,
    /// By session number: which text its key is, if it is one.
    of_session: Vec<u32>,
}

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
            self.recent = vec![(u32::MAX, 0); RECENT];
        }
        let length = end - start;
        let (first, last) = if length < 8 {
            (load(bytes, start) & !(u64::MAX << (8 * length)), 0)
        } else {
            (load(bytes, start), load(bytes, end - 8))
        };
        let hash = (first ^ last.rotate_left(23) ^ length as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52;
        let (number, at) = self.recent[hash as usize];
        if number != u32::MAX {
            let at = at as usize + 4;
            let known = self.bytes.get(at - 4..).and_then(<[u8]>::first_chunk::<4>);
            let same = known == Some(&(length as u32).to_le_bytes())
                && match length {
                    0..8 => load(&self.bytes, at) & !(u64::MAX << (8 * length)) == first,
                    8..=16 => load(&self.bytes, at) == first && load(&self.bytes, at + length - 8) == last,
                    _ => self.bytes[at..at + length] == bytes[start..end],
                };
            if same {
                return number;
            }
        }
        let at = self.bytes.len() as u32;
        let number = self.push(bytes, start, end);
        self.recent[hash as usize] = (number, at);
        number
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        (self.count, self.odd) = (0, false);
        self.recent.fill((u32::MAX, 0));
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
