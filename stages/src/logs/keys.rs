//! Numbers for session keys in order of first appearance. Keys such as `blk_-1608999687919862906` are kept as the number
//! they end in: eight bytes instead of twenty-four, found by one multiplication.

use super::intern::Interner;
use super::shape::{NO_NUMBER, block};

/// Gives equal keys equal numbers, from 0 in order of first appearance.
///
/// A key whose number is written another way than numbers are (`blk_007`) or that begins with another text than the
/// first one is kept as text.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    prefix: Option<Vec<u8>>,
    /// By number: the value, of a text its place in `texts`.
    items: Vec<i64>,
    texts: Interner,
    /// The numbers that texts have, ascending.
    text_numbers: Vec<u32>,
    /// Number + 1 of the value in each slot, 0 for a free one; a power of two long, at most half full.
    slots: Vec<u32>,
}

impl Keys {
    /// Returns how many different keys there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns whether nothing was numbered yet.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Returns the number of `key`, a new one if it was not seen before.
    ///
    /// # Panics
    /// There are more than 4 billion different keys.
    pub fn number(&mut self, key: &[u8]) -> u32 {
        if let Some(block) = block(key, 0).filter(|block| block.end == key.len()) {
            return self.number_of_block(key, block.number);
        }
        match split(key) {
            Some((prefix, value)) if self.is_prefix(prefix) => self.number_of(value),
            _ => self.number_of_text(key),
        }
    }

    /// As [`Keys::number`], of a block whose number is known.
    ///
    /// # Panics
    /// As [`Keys::number`].
    #[inline]
    pub fn number_of_block(&mut self, key: &[u8], value: i64) -> u32 {
        if value != NO_NUMBER && self.is_prefix(b"blk_") { self.number_of(value) } else { self.number_of_text(key) }
    }

    #[inline]
    fn is_prefix(&mut self, prefix: &[u8]) -> bool {
        self.prefix.get_or_insert_with(|| prefix.to_vec()) == prefix
    }

    fn number_of_text(&mut self, key: &[u8]) -> u32 {
        let text = self.texts.number(key);
        if let Some(&number) = self.text_numbers.get(text as usize) {
            return number;
        }
        let number = self.next();
        self.items.push(i64::from(text));
        self.text_numbers.push(number);
        number
    }

    fn next(&self) -> u32 {
        u32::try_from(self.items.len()).ok().filter(|n| *n < u32::MAX).expect("fewer than 4 billion different keys")
    }

    #[inline]
    fn number_of(&mut self, value: i64) -> u32 {
        if self.slots.len() < 2 * (self.items.len() + 1) {
            self.grow();
        }
        let mut slot = self.slot(value);
        loop {
            match self.slots[slot] {
                0 => break,
                // Texts are in no slot.
                number if self.items[number as usize - 1] == value => return number - 1,
                _ => slot = (slot + 1) & (self.slots.len() - 1),
            }
        }
        let number = self.next();
        self.items.push(value);
        self.slots[slot] = number + 1;
        number
    }

    /// As [`Keys::number_of`], of many values: what memory holds of some is asked for at once, not one after the other.
    fn numbers_of(&mut self, values: &[i64]) -> Vec<u32> {
        const SOME: usize = 32;
        let mut numbers = Vec::with_capacity(values.len());
        for values in values.chunks(SOME) {
            let (mut guesses, mut found) = ([0; SOME], [0; SOME]);
            for (guess, &value) in guesses.iter_mut().zip(values) {
                *guess = self.slots.get(self.slot(value)).copied().unwrap_or(0);
            }
            for (found, guess) in found.iter_mut().zip(guesses) {
                *found = self.items.get((guess as usize).wrapping_sub(1)).copied().unwrap_or(0);
            }
            for ((&value, guess), found) in values.iter().zip(guesses).zip(found) {
                numbers.push(if guess > 0 && found == value { guess - 1 } else { self.number_of(value) });
            }
        }
        numbers
    }

    #[inline]
    fn slot(&self, value: i64) -> usize {
        let mixed = (value as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> (64 - self.slots.len().trailing_zeros())) as usize
    }

    fn grow(&mut self) {
        let before = std::mem::take(&mut self.slots);
        self.slots = vec![0; (before.len() * 2).max(16)];
        let mask = self.slots.len() - 1;
        for number in before.into_iter().filter(|number| *number > 0) {
            let mut slot = self.slot(self.items[number as usize - 1]);
            while self.slots[slot] != 0 {
                slot = (slot + 1) & mask;
            }
            self.slots[slot] = number;
        }
    }

    /// Appends the key of this number to `out`.
    ///
    /// # Panics
    /// No such number was given.
    pub fn write(&self, number: u32, out: &mut Vec<u8>) {
        let item = self.items[number as usize];
        if self.is_text(number) {
            out.extend_from_slice(self.texts.get(item as u32));
            return;
        }
        out.extend_from_slice(self.prefix.as_deref().unwrap_or_default());
        if item < 0 {
            out.push(b'-');
        }
        out.extend_from_slice(itoa::Buffer::new().format(item.unsigned_abs()).as_bytes());
    }

    fn is_text(&self, number: u32) -> bool {
        !self.text_numbers.is_empty() && self.text_numbers.binary_search(&number).is_ok()
    }

    /// Forgets all keys and keeps the memory.
    pub fn clear(&mut self) {
        self.prefix = None;
        self.items.clear();
        self.texts.clear();
        self.text_numbers.clear();
        self.slots.fill(0);
    }

    /// Forgets how keys are found: those that are there keep their numbers, and no more are added.
    pub fn freeze(&mut self) {
        self.slots = Vec::new();
        self.items.shrink_to_fit();
    }

    /// Returns the key of this number.
    ///
    /// # Panics
    /// No such number was given.
    pub fn get(&self, number: u32) -> Vec<u8> {
        let mut key = Vec::with_capacity(32);
        self.write(number, &mut key);
        key
    }

    /// Takes over all keys of `from` and returns the numbers they have here, by their numbers there.
    ///
    /// # Panics
    /// As [`Keys::number`].
    pub fn merge(&mut self, from: &Self) -> Vec<u32> {
        let alike = match &from.prefix {
            Some(prefix) => self.is_prefix(prefix),
            None => false,
        };
        if alike && from.text_numbers.is_empty() {
            return self.numbers_of(&from.items);
        }
        let number = |n: u32| {
            if alike && !from.is_text(n) { self.number_of(from.items[n as usize]) } else { self.number(&from.get(n)) }
        };
        (0..from.len() as u32).map(number).collect()
    }
}

/// Splits a key into a text and the number that it ends in, if that is written as numbers are.
fn split(key: &[u8]) -> Option<(&[u8], i64)> {
    let digits = key.iter().rev().take(20).take_while(|b| b.is_ascii_digit()).count();
    let (head, digits) = key.split_at(key.len() - digits);
    let negative = head.last() == Some(&b'-');
    let prefix = head.strip_suffix(b"-").unwrap_or(head);
    if digits.is_empty() || digits.len() > 19 || (digits[0] == b'0' && (digits.len() > 1 || negative)) {
        return None;
    }
    let value = digits.iter().fold(0u64, |value, b| value * 10 + u64::from(b - b'0'));
    let value = i64::try_from(value).ok()?;
    Some((prefix, if negative { -value } else { value }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_are_numbered_as_texts_are(
            keys in prop::collection::vec("(blk_-?[0-9]{1,20}|blk_-?0?[0-3]|x[0-9]?|[0-9]|-[0-9])", 0..60),
            cut in 0usize..60,
            blocks: bool,
        ) {
            let mut texts = Interner::default();
            let mut all = Keys::default();
            let mut halves = [Keys::default(), Keys::default()];
            for (i, key) in keys.iter().enumerate() {
                let key = key.as_bytes();
                let number = texts.number(key);
                let got = match block(key, 0).filter(|b| blocks && b.end == key.len()) {
                    Some(block) => all.number_of_block(key, block.number),
                    None => all.number(key),
                };
                prop_assert_eq!(got, number);
                halves[usize::from(i >= cut)].number(key);
            }
            let mut merged = Keys::default();
            let numbers = halves.each_ref().map(|half| merged.merge(half));
            prop_assert_eq!(merged.len(), texts.len());
            for n in 0..texts.len() as u32 {
                prop_assert_eq!(all.get(n), texts.get(n));
                prop_assert_eq!(merged.get(n), texts.get(n));
            }
            for (half, numbers) in halves.iter().zip(numbers) {
                for (n, &there) in numbers.iter().enumerate() {
                    prop_assert_eq!(half.get(n as u32), merged.get(there));
                }
            }
        }
    }
}
