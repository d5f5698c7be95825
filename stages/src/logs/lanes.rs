//! Bytes looked at side by side: eight as a number, thirty-two or sixty-four as a bit each.

/// Returns eight bytes as a number, the first one lowest; behind the end are zeros.
#[inline(always)]
pub fn load(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        Some(eight) => u64::from_le_bytes(*eight),
        None => u64::from_le_bytes(rest(bytes, at)),
    }
}

/// Returns bytes with zeros behind the end.
#[inline(always)]
fn some<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    match bytes.get(at..).and_then(<[u8]>::first_chunk::<N>) {
        Some(some) => *some,
        None => rest(bytes, at),
    }
}

/// The last bytes, and zeros.
#[cold]
#[inline(never)]
fn rest<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut some = [0; N];
    let rest = bytes.get(at..).unwrap_or_default();
    let length = rest.len().min(N);
    some[..length].copy_from_slice(&rest[..length]);
    some
}

const ZEROS: u64 = 0x3030_3030_3030_3030;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Returns how many of eight bytes are digits, from the first on.
#[inline(always)]
pub fn leading_digits(eight: u64) -> u32 {
    let values = eight ^ ZEROS;
    let others = (values.wrapping_add(0x7676_7676_7676_7676) | values) & HIGH;
    others.trailing_zeros() / 8
}

/// Returns the number that eight digits are; a byte of zero counts as the digit 0.
#[inline(always)]
pub fn eight_digits(eight: u64) -> u64 {
    let pairs = (eight & 0x0f0f_0f0f_0f0f_0f0f).wrapping_mul(10 * 256 + 1) >> 8;
    let fours = (pairs & 0x00ff_00ff_00ff_00ff).wrapping_mul(100 * 65_536 + 1) >> 16;
    (fours & 0x0000_ffff_0000_ffff).wrapping_mul(10_000 * (1 << 32) + 1) >> 32
}

/// Returns where a run of digits ends.
#[inline]
pub fn digits_end(bytes: &[u8], mut at: usize) -> usize {
    loop {
        let count = leading_digits(load(bytes, at));
        at += count as usize;
        if count < 8 {
            return at;
        }
    }
}

/// Thirty-two bytes; behind the end are zeros.
#[derive(Clone, Copy, Debug)]
pub struct Lanes([u8; 32]);

impl Lanes {
    /// Takes the bytes from `at` on.
    #[inline(always)]
    pub fn of(bytes: &[u8], at: usize) -> Self {
        Self(some(bytes, at))
    }

    /// Returns a bit for each byte: whether it is a digit.
    #[inline(always)]
    pub fn digits(&self) -> u32 {
        let (halves, _) = self.0.as_chunks::<16>();
        u32::from(sixteen::digits(halves[0])) | u32::from(sixteen::digits(halves[1])) << 16
    }

    /// Returns a bit for each byte: whether it is this one.
    #[inline(always)]
    pub fn equal(&self, byte: u8) -> u32 {
        let (halves, _) = self.0.as_chunks::<16>();
        u32::from(sixteen::equal(halves[0], byte)) | u32::from(sixteen::equal(halves[1], byte)) << 16
    }
}

/// The places of a byte.
pub struct Places<'a> {
    bytes: &'a [u8],
    byte: u8,
    /// Where the sixty-four bytes begin that are looked at, and those of them that are left.
    from: usize,
    left: u64,
}

/// Finds the places of a byte that is not rare.
pub fn places(bytes: &[u8], byte: u8) -> Places<'_> {
    Places { bytes, byte, from: 0, left: equal_of(bytes, 0, byte) }
}

#[inline(always)]
fn equal_of(bytes: &[u8], from: usize, byte: u8) -> u64 {
    let some: [u8; 64] = some(bytes, from);
    let (parts, _) = some.as_chunks::<16>();
    let all = parts.iter().rev().fold(0, |all, part| all << 16 | u64::from(sixteen::equal(*part, byte)));
    // What is behind the end is no byte.
    let there = bytes.len() - from;
    if there < 64 { all & !(u64::MAX << there) } else { all }
}

impl Iterator for Places<'_> {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        while self.left == 0 {
            self.from += 64;
            if self.from >= self.bytes.len() {
                // Stays so: the next call comes here again.
                self.from = self.bytes.len();
                return None;
            }
            self.left = equal_of(self.bytes, self.from, self.byte);
        }
        let at = self.from + self.left.trailing_zeros() as usize;
        self.left &= self.left - 1;
        Some(at)
    }
}

/// Sixteen bytes at once, by SSE2, which every x86-64 processor has.
#[cfg(target_arch = "x86_64")]
mod sixteen {
    #![expect(
        unsafe_code,
        reason = "functions of the processor; the standard library's own way to use it is not stable"
    )]

    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_set1_epi8, _mm_sub_epi8,
    };

    #[inline(always)]
    fn vector(bytes: [u8; 16]) -> __m128i {
        // SAFETY: there are sixteen bytes, and they need not be aligned.
        unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    pub(super) fn equal(bytes: [u8; 16], byte: u8) -> u16 {
        // SAFETY: SSE2 is there.
        unsafe { _mm_movemask_epi8(_mm_cmpeq_epi8(vector(bytes), _mm_set1_epi8(byte.cast_signed()))) as u16 }
    }

    #[inline(always)]
    pub(super) fn digits(bytes: [u8; 16]) -> u16 {
        // SAFETY: SSE2 is there.
        unsafe {
            let values = _mm_sub_epi8(vector(bytes), _mm_set1_epi8(b'0'.cast_signed()));
            _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(values, _mm_set1_epi8(9)), values)) as u16
        }
    }
}

/// Sixteen bytes, eight at once.
#[cfg(not(target_arch = "x86_64"))]
mod sixteen {
    use super::{HIGH, ZEROS, load};

    /// Returns a bit for each of eight bytes whose highest bit is set.
    #[inline(always)]
    fn bits(eight: u64) -> u16 {
        ((eight & HIGH).wrapping_mul(0x0002_0408_1020_4081) >> 56) as u16
    }

    #[inline(always)]
    fn both(bytes: [u8; 16], of: impl Fn(u64) -> u16) -> u16 {
        of(load(&bytes, 0)) | of(load(&bytes, 8)) << 8
    }

    // Without a carry from byte to byte: the highest bits are added apart.
    pub(super) fn equal(bytes: [u8; 16], byte: u8) -> u16 {
        both(bytes, |eight| {
            let others = eight ^ (u64::from(byte) * 0x0101_0101_0101_0101);
            bits(!(((others & !HIGH) + !HIGH) | others))
        })
    }

    pub(super) fn digits(bytes: [u8; 16]) -> u16 {
        both(bytes, |eight| {
            let values = eight ^ ZEROS;
            bits(!(((values & !HIGH) + 0x7676_7676_7676_7676) | values))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_are_what_each_byte_is(bytes: Vec<u8>, at in 0usize..40, byte: u8) {
            let lanes = Lanes::of(&bytes, at);
            for i in 0..32 {
                let here = bytes.get(at + i as usize).copied().unwrap_or(0);
                prop_assert_eq!(lanes.digits() >> i & 1 == 1, here.is_ascii_digit());
                prop_assert_eq!(lanes.equal(byte) >> i & 1 == 1, here == byte);
            }
        }

        #[test]
        fn places_are_where_the_byte_is(bytes in prop::collection::vec(0u8..4, 0..300), byte in 0u8..5) {
            let expected: Vec<usize> = (0..bytes.len()).filter(|&i| bytes[i] == byte).collect();
            prop_assert_eq!(places(&bytes, byte).take(bytes.len() + 1).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn digits_are_a_number(number in 0u64..100_000_000, more in "[^0-9]{0,3}") {
            let text = format!("{number:08}{more}");
            prop_assert_eq!(eight_digits(load(text.as_bytes(), 0)), number);
            prop_assert_eq!(digits_end(text.as_bytes(), 0), 8);
        }
    }
}
