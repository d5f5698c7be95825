//! Encodings of Parquet pages: deltas, runs of packed numbers, levels. Bits are packed by `polars_parquet`, 32 values at a
//! time.
//!
//! Decoders take what the encoders here make; other writers may cut blocks otherwise.

use anyhow::{Context as _, bail};
use polars_parquet::parquet::encoding::bitpacked::Unpackable as _;
use polars_parquet::parquet::encoding::{uleb128, zigzag_leb128};

/// Values a miniblock of deltas holds.
const MINI: usize = 32;
/// Miniblocks a block of deltas holds.
const MINIS: usize = 4;

/// Packs 32 values of `width` bits, at most 32.
fn pack(width: u32, values: &[u32; MINI], out: &mut Vec<u8>) {
    let mut packed = [0; 4 * MINI];
    u32::pack(values, width as usize, &mut packed);
    out.extend_from_slice(&packed[..4 * width as usize]);
}

/// Unpacks 32 values of `width` bits, at most 32.
fn unpack(width: u32, packed: &[u8], values: &mut [u32; MINI]) {
    u32::unpack(packed, width as usize, values);
}

/// Packs 32 values of `width` bits, at most 64.
fn pack_wide(width: u32, values: &[u64; MINI], out: &mut Vec<u8>) {
    let (mut all, mut packed) = ([0; 2 * MINI], [0; 16 * MINI]);
    all[..MINI].copy_from_slice(values);
    u64::pack(&all, width as usize, &mut packed);
    out.extend_from_slice(&packed[..4 * width as usize]);
}

/// Unpacks 32 values of `width` bits, at most 64.
fn unpack_wide(width: u32, packed: &[u8], values: &mut [u64; MINI]) {
    let (mut all, mut padded) = ([0; 2 * MINI], [0; 16 * MINI]);
    padded[..packed.len()].copy_from_slice(packed);
    u64::unpack(&padded, width as usize, &mut all);
    values.copy_from_slice(&all[..MINI]);
}

fn width_of(largest: u64) -> u32 {
    64 - largest.leading_zeros()
}

/// Appends a number in the variable-length form.
fn varint(value: u64, out: &mut Vec<u8>) {
    let mut bytes = [0; 10];
    let length = uleb128::encode(value, &mut bytes);
    out.extend_from_slice(&bytes[..length]);
}

/// As [`varint`], with the sign folded in, so that small numbers of either sign are short.
fn varint_signed(value: i64, out: &mut Vec<u8>) {
    let (bytes, length) = zigzag_leb128::encode(value);
    out.extend_from_slice(&bytes[..length]);
}

/// Takes a number in the variable-length form.
fn take_varint(from: &mut &[u8]) -> anyhow::Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = from.split_first().context("a number is cut off")?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    bail!("a number is too long")
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// `DELTA_BINARY_PACKED` without its beginning: [`delta_start`] is put before it when the first value is known.
pub fn deltas(values: impl ExactSizeIterator<Item = i64>, out: &mut Vec<u8>) {
    let mut values = values;
    let Some(mut before) = values.next() else { return };
    let mut block = [0i64; MINI * MINIS];
    let mut left = values.len();
    while left > 0 {
        let count = left.min(block.len());
        let (mut least, mut most) = (i64::MAX, i64::MIN);
        for (delta, value) in block.iter_mut().zip(values.by_ref().take(count)) {
            *delta = value.wrapping_sub(before);
            least = least.min(*delta);
            most = most.max(*delta);
            before = value;
        }
        left -= count;
        // Padding repeats the least delta: it is 0 bits.
        block[count..].fill(least);
        varint_signed(least, out);
        let at = out.len();
        out.extend_from_slice(&[0; MINIS]);
        if least == most {
            continue;
        }
        for (mini, deltas) in block.as_chunks::<MINI>().0.iter().enumerate() {
            if mini * MINI >= count {
                break;
            }
            let above = deltas.map(|delta| delta.wrapping_sub(least) as u64);
            let width = width_of(above.iter().fold(0, |all, v| all | v));
            out[at + mini] = width as u8;
            if width <= 32 {
                pack(width, &above.map(|v| v as u32), out);
            } else {
                pack_wide(width, &above, out);
            }
        }
    }
}

/// The beginning of `DELTA_BINARY_PACKED`.
pub fn delta_start(count: usize, first: i64, out: &mut Vec<u8>) {
    varint((MINI * MINIS) as u64, out);
    varint(MINIS as u64, out);
    varint(count as u64, out);
    varint_signed(first, out);
}

/// Decodes `DELTA_BINARY_PACKED` and returns what follows it.
///
/// # Errors
/// The bytes end early, or blocks are of another size.
pub fn take_deltas(mut from: &[u8], mut value: impl FnMut(i64)) -> anyhow::Result<&[u8]> {
    let (block, minis, count) = (take_varint(&mut from)?, take_varint(&mut from)?, take_varint(&mut from)?);
    let mut now = unzigzag(take_varint(&mut from)?);
    if block != (MINI * MINIS) as u64 || minis != MINIS as u64 {
        bail!("deltas in blocks of {block}");
    }
    if count == 0 {
        return Ok(from);
    }
    value(now);
    let mut left = count as usize - 1;
    let (mut narrow, mut wide) = ([0u32; MINI], [0u64; MINI]);
    while left > 0 {
        let least = unzigzag(take_varint(&mut from)?);
        let widths = *from.first_chunk::<MINIS>().context("deltas are cut off")?;
        from = &from[MINIS..];
        for width in widths {
            if left == 0 {
                break;
            }
            let width = u32::from(width);
            let (packed, rest) = from.split_at_checked(width as usize * 4).context("deltas are cut off")?;
            from = rest;
            let count = left.min(MINI);
            left -= count;
            match width {
                0 => {
                    for _ in 0..count {
                        now = now.wrapping_add(least);
                        value(now);
                    }
                }
                1..=32 => {
                    unpack(width, packed, &mut narrow);
                    for &delta in &narrow[..count] {
                        now = now.wrapping_add(least).wrapping_add(i64::from(delta));
                        value(now);
                    }
                }
                33..=64 => {
                    unpack_wide(width, packed, &mut wide);
                    for &delta in &wide[..count] {
                        now = now.wrapping_add(least).wrapping_add(delta as i64);
                        value(now);
                    }
                }
                _ => bail!("deltas of {width} bits"),
            }
        }
    }
    Ok(from)
}

/// Numbers of a dictionary with `size` entries, as the data of a page: the width, then one run.
pub fn numbers(values: &[u32], size: usize, out: &mut Vec<u8>) {
    let width = width_of(size.saturating_sub(1) as u64);
    out.push(width as u8);
    let first = values.first().copied().unwrap_or(0);
    if width == 0 || values.iter().all(|&v| v == first) {
        varint((values.len() as u64) << 1, out);
        out.extend_from_slice(&first.to_le_bytes()[..width.div_ceil(8) as usize]);
        return;
    }
    let groups = values.len().div_ceil(8);
    varint((groups as u64) << 1 | 1, out);
    let end = out.len() + groups * width as usize;
    out.reserve(groups.next_multiple_of(4) * width as usize);
    let (whole, rest) = values.as_chunks::<MINI>();
    for values in whole {
        pack(width, values, out);
    }
    if !rest.is_empty() {
        let mut last = [0; MINI];
        last[..rest.len()].copy_from_slice(rest);
        pack(width, &last, out);
    }
    out.truncate(end);
}

/// Decodes `count` [`numbers`] and puts them into `values`, which is empty.
///
/// # Errors
/// The bytes end early.
pub fn take_numbers(from: &[u8], count: usize, values: &mut Vec<u32>) -> anyhow::Result<()> {
    let (&width, mut from) = from.split_first().context("numbers are cut off")?;
    let width = u32::from(width);
    anyhow::ensure!(width <= 32, "numbers of {width} bits");
    let run = take_varint(&mut from)?;
    if run & 1 == 0 {
        let mut first = [0; 4];
        let bytes = from.get(..width.div_ceil(8) as usize).context("numbers are cut off")?;
        first[..bytes.len()].copy_from_slice(bytes);
        values.resize(count, u32::from_le_bytes(first));
        return Ok(());
    }
    values.reserve_exact(count.next_multiple_of(MINI));
    let mut some = [0; MINI];
    let mut last = [0; 4 * MINI];
    let bytes = width as usize * 4;
    for start in (0..count).step_by(MINI) {
        let at = start / MINI * bytes;
        let packed = match from.get(at..at + bytes) {
            Some(packed) => packed,
            None => {
                let rest = from.get(at..).context("numbers are cut off")?;
                last[..rest.len()].copy_from_slice(rest);
                &last[..bytes]
            }
        };
        unpack(width, packed, &mut some);
        values.extend_from_slice(&some);
    }
    values.truncate(count);
    Ok(())
}

/// One bit per value: whether a list goes on, whether a value is there.
#[derive(Clone, Debug, Default)]
pub struct Bits {
    bytes: Vec<u8>,
    last: u64,
    filled: u32,
    count: usize,
    ones: usize,
}

impl Bits {
    /// Returns how many bits there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns how many of them are set.
    pub fn ones(&self) -> usize {
        self.ones
    }

    /// Adds one bit.
    pub fn push(&mut self, bit: bool) {
        self.push_bits(u64::from(bit), 1);
    }

    /// Adds `count` bits, at most 32, the lowest first.
    pub fn push_bits(&mut self, bits: u64, count: u32) {
        self.push_counted(bits, count, bits.count_ones());
    }

    /// As [`Bits::push_bits`], where it is known that `ones` of them are set.
    #[inline(always)]
    pub fn push_counted(&mut self, bits: u64, count: u32, ones: u32) {
        self.last |= bits << self.filled;
        self.filled += count;
        self.count += count as usize;
        self.ones += ones as usize;
        if self.filled >= 64 {
            self.bytes.extend_from_slice(&self.last.to_le_bytes());
            self.filled -= 64;
            self.last = if self.filled == 0 { 0 } else { bits >> (count - self.filled) };
        }
    }

    /// Adds `count` equal bits.
    pub fn push_all(&mut self, bit: bool, count: usize) {
        for from in (0..count).step_by(32) {
            let count = (count - from).min(32) as u32;
            self.push_bits(if bit { (1 << count) - 1 } else { 0 }, count);
        }
    }

    /// Writes the levels of a page (version 1): their length, then one run.
    pub fn write(&self, out: &mut Vec<u8>) {
        let at = out.len();
        out.extend_from_slice(&[0; 4]);
        if self.ones == 0 || self.ones == self.count {
            varint((self.count as u64) << 1, out);
            out.push(u8::from(self.ones > 0));
        } else {
            varint((self.count.div_ceil(8) as u64) << 1 | 1, out);
            out.extend_from_slice(&self.bytes);
            out.extend_from_slice(&self.last.to_le_bytes()[..self.filled.div_ceil(8) as usize]);
        }
        let length = (out.len() - at - 4) as u32;
        out[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }
}

/// Levels of a page: one run of equal bits, or bits.
pub enum Levels<'a> {
    /// All are the same.
    All(bool),
    /// Bit i of byte i / 8.
    Bits(&'a [u8]),
}

impl Levels<'_> {
    /// Returns level `i`.
    pub fn get(&self, i: usize) -> bool {
        match self {
            Self::All(bit) => *bit,
            Self::Bits(bytes) => bytes.get(i / 8).is_some_and(|b| b >> (i % 8) & 1 == 1),
        }
    }
}

/// Takes levels as [`Bits::write`] wrote them.
///
/// # Errors
/// The bytes end early.
pub fn take_levels<'a>(from: &mut &'a [u8]) -> anyhow::Result<Levels<'a>> {
    let length = u32::from_le_bytes(*from.first_chunk::<4>().context("levels are cut off")?);
    let (mut levels, rest) = from[4..].split_at_checked(length as usize).context("levels are cut off")?;
    *from = rest;
    let run = take_varint(&mut levels)?;
    Ok(if run & 1 == 1 { Levels::Bits(levels) } else { Levels::All(levels.first() == Some(&1)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn deltas_come_back(
            values in prop::collection::vec(prop_oneof![any::<i64>(), -5..5i64, Just(7), 1_226_262_930_000_000..1_226_262_939_000_000i64], 0..700),
        ) {
            let mut out = Vec::new();
            delta_start(values.len(), values.first().copied().unwrap_or(0), &mut out);
            deltas(values.iter().copied(), &mut out);
            out.extend_from_slice(b"rest");
            let mut back = Vec::new();
            prop_assert_eq!(take_deltas(&out, |v| back.push(v)).unwrap(), b"rest");
            prop_assert_eq!(back, values);
        }

        #[test]
        fn numbers_come_back(size in 1u32..5000, seeds in prop::collection::vec(any::<u32>(), 0..300), same: bool) {
            let values: Vec<u32> = seeds.iter().map(|s| if same { 0 } else { s % size }).collect();
            let mut out = Vec::new();
            numbers(&values, size as usize, &mut out);
            let mut back = Vec::new();
            take_numbers(&out, values.len(), &mut back).unwrap();
            prop_assert_eq!(back, values);
        }

        #[test]
        fn levels_come_back(bits in prop::collection::vec(any::<bool>(), 0..300), same: bool) {
            let mut written = Bits::default();
            for (i, &b) in bits.iter().enumerate() {
                match i % 40 {
                    0 if bits[i..].len() > 40 => {
                        let some = bits[i..i + 30].iter().rev().fold(0, |all, &b| all << 1 | u64::from(b || same));
                        written.push_bits(some, 30);
                    }
                    1..30 if bits[i - i % 40..].len() > 40 => {}
                    _ => written.push(b || same),
                }
            }
            let mut out = Vec::new();
            written.write(&mut out);
            out.push(9);
            let mut rest = &out[..];
            let levels = take_levels(&mut rest).unwrap();
            prop_assert_eq!(rest, [9]);
            for (i, &bit) in bits.iter().enumerate() {
                prop_assert_eq!(levels.get(i), bit || same);
            }
        }
    }
}
