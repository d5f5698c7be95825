//! Numbers for byte strings in order of first appearance: a small open-addressing table over one arena.

/// Gives equal byte strings equal numbers, from 0 in order of first appearance.
#[derive(Clone, Debug, Default)]
pub struct Interner {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    hashes: Vec<u64>,
    /// Number + 1 of the entry in each slot, 0 for a free one; a power of two long, at most half full.
    slots: Vec<u32>,
}

impl Interner {
    /// Returns the number of `item`, a new one if it was not seen before.
    ///
    /// # Panics
    /// There are more than 4 billion different items.
    pub fn number(&mut self, item: &[u8]) -> u32 {
        self.number_hashed(item, hash(item))
    }

    /// As [`Interner::number`], with the item's [`hash`] known.
    ///
    /// # Panics
    /// There are more than 4 billion different items.
    pub fn number_hashed(&mut self, item: &[u8], hash: u64) -> u32 {
        if self.slots.len() < 2 * (self.ends.len() + 1) {
            self.grow();
        }
        let mask = self.slots.len() - 1;
        let mut slot = hash as usize & mask;
        loop {
            match self.slots[slot] {
                0 => break,
                entry => {
                    let number = entry - 1;
                    if self.hashes[number as usize] == hash && self.get(number) == item {
                        return number;
                    }
                }
            }
            slot = (slot + 1) & mask;
        }
        let number = u32::try_from(self.ends.len()).expect("fewer than 4 billion different items");
        self.bytes.extend_from_slice(item);
        self.ends.push(self.bytes.len());
        self.hashes.push(hash);
        self.slots[slot] = number + 1;
        number
    }

    /// Returns the item of this number.
    ///
    /// # Panics
    /// No such number was given.
    pub fn get(&self, number: u32) -> &[u8] {
        let i = number as usize;
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.bytes[start..self.ends[i]]
    }

    /// Returns the hash of the item of this number.
    pub fn hash_of(&self, number: u32) -> u64 {
        self.hashes[number as usize]
    }

    /// Returns how many different items there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns whether nothing was numbered yet.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns all items in order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len() as u32).map(|n| self.get(n))
    }

    /// Forgets all items and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.hashes.clear();
        self.slots.fill(0);
    }

    fn grow(&mut self) {
        let size = (self.slots.len() * 2).max(16);
        self.slots.clear();
        self.slots.resize(size, 0);
        for (i, &hash) in self.hashes.iter().enumerate() {
            let mut slot = hash as usize & (size - 1);
            while self.slots[slot] != 0 {
                slot = (slot + 1) & (size - 1);
            }
            self.slots[slot] = i as u32 + 1;
        }
    }
}

/// A fast hash of a byte string: eight bytes a multiplication, folded (the scheme of wyhash and rapidhash).
///
/// Only tables in memory use it; numbers are given in order of appearance, so that nothing stored depends on it.
pub fn hash(item: &[u8]) -> u64 {
    const A: u64 = 0xa076_1d64_78bd_642f;
    const B: u64 = 0xe703_7ed1_a0b4_28db;
    let mut state = A ^ item.len() as u64;
    let mut words = item.chunks_exact(8);
    for word in words.by_ref() {
        let word = u64::from_le_bytes(word.try_into().expect("chunks of eight"));
        state = fold(state ^ word, B);
    }
    let mut tail = [0; 8];
    let rest = words.remainder();
    tail[..rest.len()].copy_from_slice(rest);
    fold(fold(state ^ u64::from_le_bytes(tail), B), A)
}

fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    (wide as u64) ^ ((wide >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_follow_first_appearance() {
        let mut names = Interner::default();
        assert!(names.is_empty());
        let numbers: Vec<u32> = [&b"b"[..], b"a", b"", b"b", b"a\0", b"a"].iter().map(|i| names.number(i)).collect();
        assert_eq!(numbers, [0, 1, 2, 0, 3, 1]);
        assert_eq!(names.iter().collect::<Vec<_>>(), [&b"b"[..], b"a", b"", b"a\0"]);
    }

    proptest! {
        #[test]
        fn equal_items_and_only_those_share_a_number(items: Vec<Vec<u8>>) {
            let mut names = Interner::default();
            let mut seen: Vec<Vec<u8>> = Vec::new();
            for item in items.iter().chain(&items) {
                let number = names.number(item) as usize;
                let expected = seen.iter().position(|s| s == item).unwrap_or(seen.len());
                prop_assert_eq!(number, expected);
                if expected == seen.len() {
                    seen.push(item.clone());
                }
            }
            prop_assert_eq!(names.len(), seen.len());
        }
    }
}
