//! Shapes: messages of a known form are recognised without building the form again.
//!
//! When a message has been masked ([`super::mask`]), its *shape* is kept if it is simple: literal bytes, and between
//! them whole words that are addresses, blocks, paths or plain numbers. Another message is of the shape if the literal
//! bytes are the same and each word between is of its kind; then it has the form of the shape, and its values are those
//! words. Whatever is not certain is no match, and masked as ever: a shape only says what masking would say.

use std::collections::BTreeSet;

use super::lanes::{Lanes, digits_end, eight_digits, leading_digits, load};
use super::mask::{Class, Masks, class, is_block, trim};
use super::session::SessionFinder;

/// Most shapes that are tried for one message.
const TRIES: usize = 16;

/// Lists of shapes by component and first bytes.
const LISTS: usize = 256;

/// Stands for "no number": a block whose digits are no canonical number.
pub const NO_NUMBER: i64 = i64::MIN;

/// What a word between literals is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wild {
    Address,
    Block,
    Path,
    Number,
}

/// Literal bytes, with the first sixteen and the last sixteen as numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Literal {
    bytes: Vec<u8>,
    first: [u64; 2],
    /// Which bits of `first[0]` count.
    mask: u64,
    last: [u64; 2],
}

/// Literal bytes and the word behind them.
#[derive(Clone, Debug)]
struct Step {
    literal: Literal,
    wild: Wild,
    /// Whether the literal bytes that follow tell that no list goes on there.
    alone: bool,
}

#[derive(Clone, Debug)]
struct Shape {
    form: u32,
    steps: Vec<Step>,
    end: Literal,
}

/// A block that a message names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Where it is.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// Its number, or [`NO_NUMBER`].
    pub number: i64,
}

/// The value of a wildcard: places in the bytes it lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// Where it is.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// Which of [`Found::blocks`] it is, or [`NO_BLOCK`].
    pub block: u32,
}

/// Stands for "no block" in [`Value::block`].
pub const NO_BLOCK: u32 = u32::MAX;

/// What was found in a message: places in the bytes it lies in.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The value of each wildcard.
    pub values: Vec<Value>,
    /// Whether one of them may be other than ASCII.
    pub odd: bool,
    /// The blocks, in order, repeats included.
    pub blocks: Vec<Block>,
}

/// The shapes of the messages so far.
#[derive(Clone, Debug)]
pub struct Shapes {
    lists: Vec<Vec<Shape>>,
    enabled: bool,
    /// Whether the session keys of a line are its blocks.
    pub blocks_are_keys: bool,
}

impl Shapes {
    /// Starts without any. Shapes know the built-in masks only, all of them, and no kept word that one would hide.
    pub fn new(masks: &Masks, sessions: &SessionFinder) -> Self {
        let all = masks.ip && masks.id && masks.hex && masks.path && masks.time && masks.number;
        let simple = |word: &Vec<u8>| {
            word[0] == b'/' || is_block(word) || is_number(word) || word.iter().filter(|&&b| b == b'.').count() >= 3
        };
        let enabled = all && !masks.has_custom() && !masks.keep.iter().any(simple);
        Self { lists: vec![Vec::new(); LISTS], enabled, blocks_are_keys: sessions.finds_blocks() }
    }

    /// Finds the form of the message at `from..to` of `bytes`, and what is in it.
    pub fn find(&mut self, bytes: &[u8], (from, to): (usize, usize), component: u32, found: &mut Found) -> Option<u32> {
        // A message that ends within a word is masked as if the word ended there.
        if bytes.get(to).is_some_and(|&b| class(b) != Class::Space) {
            return None;
        }
        let list = &mut self.lists[list(bytes, from, component)];
        for at in 0..list.len() {
            found.values.clear();
            found.blocks.clear();
            found.odd = false;
            if list[at].matches(bytes, from, to, found) {
                let form = list[at].form;
                if at > 0 {
                    list.swap(at, at - 1);
                }
                return Some(form);
            }
        }
        None
    }

    /// Keeps the shape of a message whose form is known, if it is simple. `keys` finds session keys.
    pub fn learn(
        &mut self,
        bytes: &[u8],
        (from, to): (usize, usize),
        component: u32,
        form: u32,
        masks: &Masks,
        keys: &SessionFinder,
    ) {
        if !self.enabled {
            return;
        }
        let blocks_are_keys = self.blocks_are_keys;
        let list = &mut self.lists[list(bytes, from, component)];
        if list.len() >= TRIES {
            return;
        }
        let Some(shape) = Shape::of(&bytes[from..to], form, &masks.keep) else { return };
        let mut found = Found::default();
        if !shape.matches(bytes, from, to, &mut found) {
            return;
        }
        // Literal bytes might hold keys too; then the shape would miss them.
        let mut blocks = found.blocks.iter().map(|b| &bytes[b.start..b.end]);
        let mut same = true;
        keys.each(&bytes[from..to], |key| same &= blocks.next() == Some(key));
        if !blocks_are_keys || same && blocks.next().is_none() {
            list.push(shape);
        }
    }
}

fn list(bytes: &[u8], from: usize, component: u32) -> usize {
    let first = load(bytes, from) & 0xffff_ffff;
    // A message that begins with a value is found by its component.
    let letters = first & 0x4040_4040 == 0x4040_4040;
    let key = if letters { first << 8 | u64::from(component) } else { u64::from(component) };
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize
}

impl Literal {
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        let mask = if bytes.len() >= 8 { u64::MAX } else { (1 << (8 * bytes.len())) - 1 };
        let behind = |count: usize| load(&bytes, bytes.len().saturating_sub(count));
        Self { first: [load(&bytes, 0), load(&bytes, 8)], mask, last: [behind(16), behind(8)], bytes }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns whether these bytes are there.
    #[inline(always)]
    pub(super) fn is_at(&self, bytes: &[u8], at: usize) -> bool {
        if (load(bytes, at) ^ self.first[0]) & self.mask != 0 {
            return false;
        }
        let length = self.bytes.len();
        match length {
            0..=8 => true,
            9..=16 => load(bytes, at + length - 8) == self.last[1],
            _ => {
                let ends = load(bytes, at + 8) == self.first[1]
                    && load(bytes, at + length - 16) == self.last[0]
                    && load(bytes, at + length - 8) == self.last[1];
                ends && (length <= 32 || bytes.get(at + 16..at + length - 16) == self.bytes.get(16..length - 16))
            }
        }
    }
}

impl Shape {
    /// Returns the shape of a message, if it is simple.
    fn of(message: &[u8], form: u32, keep: &BTreeSet<Vec<u8>>) -> Option<Self> {
        let mut steps: Vec<Step> = Vec::new();
        let mut step = |literal: &mut Vec<u8>, wild| {
            steps.push(Step { literal: Literal::of(std::mem::take(literal)), wild, alone: false });
        };
        let mut literal = Vec::new();
        let mut last: Option<Wild> = None;
        let mut at = 0;
        while at < message.len() {
            match class(message[at]) {
                Class::Space | Class::Mark => {
                    literal.push(message[at]);
                    at += 1;
                    continue;
                }
                _ => {}
            }
            let end = (at..message.len())
                .find(|&i| matches!(class(message[i]), Class::Space | Class::Mark))
                .unwrap_or(message.len());
            let word = &message[at..end];
            if !word.iter().any(|&b| b == b'/' || b.is_ascii_digit()) {
                // The day of a date speaks of the words behind it.
                if word.len() == 3
                    && [b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"].iter().any(|d| *d == word)
                {
                    return None;
                }
                literal.extend_from_slice(word);
                at = end;
                continue;
            }
            let (mut first, stop) = trim(message, at, end);
            let core = &message[first..stop];
            if core.is_empty() || keep.contains(core) {
                literal.extend_from_slice(word);
                at = end;
                continue;
            }
            let slash = core[0] == b'/' && core.get(1).is_some_and(u8::is_ascii_digit);
            first += usize::from(slash);
            let (wild, stop) = match address(message, first) {
                Some(address) if address == stop => (Wild::Address, stop),
                // `10.0.0.1:50010:Got exception`: the word goes on behind the address, in letters.
                Some(address)
                    if matches!(message[address], b':' | b'-')
                        && !message[address..stop].iter().any(|&b| b == b'/' || b.is_ascii_digit()) =>
                {
                    (Wild::Address, address)
                }
                Some(_) => return None,
                None if slash => return None,
                None if is_block(core) => (Wild::Block, stop),
                None if core[0] == b'/' => (Wild::Path, stop),
                None if is_number(core) => (Wild::Number, stop),
                None => return None,
            };
            literal.extend_from_slice(&message[at..first]);
            let separates = match literal.as_slice() {
                b" " | b", " | b"," => true,
                b" /" => wild == Wild::Address,
                _ => false,
            };
            if last != Some(wild) {
                step(&mut literal, wild);
            } else if separates {
                literal.clear();
            } else if literal.iter().all(|&b| b == b',' || b == b'/' || class(b) == Class::Space) {
                // White space that masking takes for one space.
                return None;
            } else {
                step(&mut literal, wild);
            }
            last = Some(wild);
            literal.extend_from_slice(&message[stop..end]);
            at = end;
        }
        let end = Literal::of(literal);
        for at in 0..steps.len() {
            let follows = steps.get(at + 1).map_or(&end, |next| &next.literal);
            steps[at].alone = follows.bytes.len() > 5 && steps[at].wild.next(&follows.bytes, 0, usize::MAX).is_none();
        }
        Some(Self { form, steps, end })
    }

    fn matches(&self, bytes: &[u8], from: usize, to: usize, found: &mut Found) -> bool {
        let mut at = from;
        // Whether the literal bytes of the next step are there, if that is known.
        let mut known = false;
        for (number, Step { literal, wild, alone }) in self.steps.iter().enumerate() {
            if !known && !literal.is_at(bytes, at) {
                return false;
            }
            let start = at + literal.bytes.len();
            let Some(mut end) = wild.end(bytes, start, to, found) else { return false };
            let mut block = if *wild == Wild::Block { found.blocks.len() as u32 - 1 } else { NO_BLOCK };
            found.odd |= *wild == Wild::Path;
            let follows = self.steps.get(number + 1).map_or(&self.end, |next| &next.literal);
            known = *alone && follows.is_at(bytes, end);
            if !known {
                // Further members of a list, if what follows is one.
                while let Some(next) = wild.next(bytes, end, to) {
                    let Some(stop) = wild.end(bytes, next, to, found) else { break };
                    if !is_boundary(bytes, stop, to) {
                        return false;
                    }
                    (end, block) = (stop, NO_BLOCK);
                }
            }
            found.values.push(Value { start, end, block });
            at = end;
        }
        at + self.end.bytes.len() == to && self.end.is_at(bytes, at)
    }
}

impl Wild {
    /// Returns where the word that starts at `at` ends.
    #[inline]
    fn end(self, bytes: &[u8], at: usize, to: usize, found: &mut Found) -> Option<usize> {
        let end = match self {
            Self::Address => address(bytes, at)?,
            Self::Block => {
                let block = block(bytes, at)?;
                found.blocks.push(block);
                block.end
            }
            Self::Path => path(bytes, at, to, found)?,
            Self::Number => {
                let start = at + usize::from(bytes.get(at) == Some(&b'-'));
                let end = digits_end(bytes, start);
                if end == start {
                    return None;
                }
                end
            }
        };
        (end <= to).then_some(end)
    }

    /// Returns where the next member of a list may start.
    #[inline]
    fn next(self, bytes: &[u8], end: usize, to: usize) -> Option<usize> {
        let next = match (bytes.get(end)?, bytes.get(end + 1)?) {
            (b' ', b'/') if self == Self::Address => end + 2,
            (b',', b' ') => end + 2,
            (b' ' | b',', _) => end + 1,
            _ => return None,
        };
        let begins = match self {
            Self::Address => bytes.get(next)?.is_ascii_digit(),
            Self::Block => bytes.get(next..next + 4)? == b"blk_",
            Self::Path => *bytes.get(next)? == b'/',
            Self::Number => bytes.get(next)?.is_ascii_digit() || *bytes.get(next)? == b'-',
        };
        (next < to && begins).then_some(next)
    }
}

/// Returns whether a word ends at `at`: white space, punctuation or the end follows, maybe behind a full stop or the like.
fn is_boundary(bytes: &[u8], at: usize, to: usize) -> bool {
    let rest = bytes[at..to].iter().find(|&&b| class(b) != Class::Soft);
    rest.is_none_or(|&b| matches!(class(b), Class::Space | Class::Mark))
}

const POWERS: [u64; 8] = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000];

/// Reads a block, `blk_` and a whole number.
#[inline]
pub fn block(bytes: &[u8], start: usize) -> Option<Block> {
    let begins = load(bytes, start);
    if begins as u32 != u32::from_le_bytes(*b"blk_") {
        return None;
    }
    let negative = (begins >> 32) as u8 == b'-';
    let first = 4 + u32::from(negative);
    let length = (!Lanes::of(bytes, start).digits() >> first).trailing_zeros();
    let digits = start + first as usize;
    let (end, value) = match length {
        0 => return None,
        16..=19 => {
            let end = digits + length as usize;
            let (upper, middle, lower) = (load(bytes, digits), load(bytes, end - 16), load(bytes, end - 8));
            // Up to three digits before the sixteen.
            let upper = eight_digits(upper.unbounded_shl(64 - 8 * (length - 16)));
            let lower = eight_digits(middle) * 100_000_000 + eight_digits(lower);
            (end, upper * 10_000_000_000_000_000 + lower)
        }
        _ => number(bytes, digits),
    };
    let length = end - digits;
    // Nineteen digits do not overflow 64 bits without sign. What has zeros before it, or is `-0`, is not what its number
    // is written as.
    let canonical = length <= 19 && value <= i64::MAX as u64 && (bytes[digits] != b'0' || length == 1 && !negative);
    let number = if !canonical {
        NO_NUMBER
    } else if negative {
        -(value as i64)
    } else {
        value as i64
    };
    Some(Block { start, end, number })
}

/// Reads digits: where they end, and their number, if it is one of 64 bits.
fn number(bytes: &[u8], mut at: usize) -> (usize, u64) {
    let mut value = 0u64;
    loop {
        let eight = load(bytes, at);
        let count = leading_digits(eight);
        if count == 8 {
            value = value.wrapping_mul(100_000_000).wrapping_add(eight_digits(eight));
            at += 8;
            continue;
        }
        if count > 0 {
            let last = eight_digits(eight << (64 - 8 * count));
            value = value.wrapping_mul(POWERS[count as usize]).wrapping_add(last);
        }
        return (at + count as usize, value);
    }
}

/// Returns where `10.251.73.220` or `10.251.73.220:50010` ends.
#[inline]
fn address(bytes: &[u8], at: usize) -> Option<usize> {
    let lanes = Lanes::of(bytes, at);
    let (mut others, dots, colons) = (!lanes.digits(), lanes.equal(b'.'), lanes.equal(b':'));
    let mut end = 0;
    for octet in 0..4 {
        let stop = others.trailing_zeros();
        if stop == end || stop > end + 3 {
            return None;
        }
        if octet == 3 {
            end = stop;
            break;
        }
        if dots >> stop & 1 == 0 {
            return None;
        }
        others &= others - 1;
        end = stop + 1;
    }
    // Fifteen bytes at most.
    if colons >> end & 1 == 0 {
        return Some(at + end as usize);
    }
    let port = (others & (others - 1)).trailing_zeros();
    Some(match port {
        _ if port == end + 1 => at + end as usize,
        32 => digits_end(bytes, at + 32),
        _ => at + port as usize,
    })
}

/// Returns where an absolute path ends that holds no address at its start, and notes the blocks in it.
fn path(bytes: &[u8], start: usize, to: usize, found: &mut Found) -> Option<usize> {
    if bytes.get(start) != Some(&b'/') || bytes.get(start + 1).is_none_or(u8::is_ascii_digit) {
        return None;
    }
    let word = &bytes[start..to];
    let length = word.iter().position(|&b| matches!(class(b), Class::Space | Class::Mark)).unwrap_or(word.len());
    let length = word[..length].iter().rposition(|&b| class(b) != Class::Soft)? + 1;
    for at in memchr::memchr_iter(b'b', &word[..length]) {
        // Not the middle of a block: that has no letter.
        if let Some(block) = block(bytes, start + at) {
            found.blocks.push(block);
        }
    }
    Some(start + length)
}

fn is_number(word: &[u8]) -> bool {
    let digits = word.strip_prefix(b"-").unwrap_or(word);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::super::mask::Form;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blocks_have_their_number_where_it_is_written_as_it_is() {
        let of = |text: &str| block(text.as_bytes(), 0).map(|b| (b.end, b.number));
        assert_eq!(of("blk_0"), Some((5, 0)));
        assert_eq!(of("blk_-1608999687919862906 x"), Some((24, -1_608_999_687_919_862_906)));
        assert_eq!(of("blk_12345678"), Some((12, 12_345_678)));
        assert_eq!(of("blk_9223372036854775807"), Some((23, i64::MAX)));
        assert_eq!(of("blk_123456789"), Some((13, 123_456_789)));
        for odd in ["blk_9223372036854775808", "blk_01", "blk_-0", "blk_00", "blk_99999999999999999999999"] {
            assert_eq!(of(odd), Some((odd.len(), NO_NUMBER)), "{odd}");
        }
        assert_eq!((of("blk_"), of("blk_-"), of("blk5"), of("x")), (None, None, None, None));
    }

    #[test]
    fn addresses_end_where_they_should() {
        let of = |text: &str| address(text.as_bytes(), 0);
        assert_eq!(of("10.251.73.220:50010 x"), Some(19));
        assert_eq!(of("1.2.3.4"), Some(7));
        assert_eq!(of("1.2.3.4:"), Some(7));
        assert_eq!(of("255.255.255.255:655350000000"), Some(28));
        assert_eq!(
            (of("1.2.3"), of("1..2.3.4"), of("1234.1.1.1"), of("1.2.3.4444"), of("")),
            (None, None, None, None, None)
        );
    }

    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("got block blk_7 from /10.0.0.1:5".to_owned()),
            Just(" blk_1 blk_-2, blk_3,blk_4 and".to_owned()),
            Just(" /10.0.0.1 /10.0.0.2:7 10.0.0.3".to_owned()),
            Just("10.0.0.1:50010:Got exception while serving blk_-5  blk_6 to /10.0.0.2:".to_owned()),
            Just("ask 10.0.0.1:7 to delete  blk_4 blk_5 ".to_owned()),
            Just("/user/root/part-00081. blk_43".to_owned()),
            Just("/a/blk_7/blk_-08.meta".to_owned()),
            Just(" size 67108864, -5 404".to_owned()),
            Just("Thu Jun 9 06:07:05 2005".to_owned()),
            "[ .:/,\t-]{1,2}",
            "[a-z0-9]{1,4}",
            "(blk_-?[0-9]{1,20}|[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,4}(:[0-9]{0,6})?|/[a-z0-9_./-]{0,9}|-?[0-9]{1,9})",
        ];
        prop::collection::vec(piece, 0..6).prop_map(|p| p.concat())
    }

    /// A message as another might follow it: numbers changed here and there, or a byte.
    fn mutated(message: &str, seed: &[u8], insert: Option<(usize, char)>) -> String {
        let mut seed = seed.iter().cycle();
        let digits = |c: char| if c.is_ascii_digit() { char::from(b'0' + seed.next().unwrap_or(&0) % 10) } else { c };
        let mut text: String = message.chars().map(digits).collect();
        if let Some((at, c)) = insert {
            text.insert(at % (text.len() + 1), c);
        }
        text
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn a_shape_says_what_masking_says(
            message in pieces(),
            other in pieces(),
            seed in prop::collection::vec(any::<u8>(), 1..9),
            insert in prop::option::of((any::<usize>(), prop_oneof![Just(' '), Just('.'), Just('/'), Just('5'), Just(','), Just('-'), Just('x')])),
            keep: bool,
            tail in "[0-9a-z \n]{0,9}",
        ) {
            let mut masks = Masks::default();
            if keep {
                masks.keep.insert(b"a1".to_vec());
                masks.keep.insert(b"HTTP/1.1".to_vec());
            }
            let finder = SessionFinder::new(r"blk_-?\d+").unwrap();
            let mut shapes = Shapes::new(&masks, &finder);
            prop_assert!(shapes.enabled && shapes.blocks_are_keys);
            let (mut form, mut found) = (Form::default(), Found::default());
            shapes.learn(message.as_bytes(), (0, message.len()), 1, 5, &masks, &finder);
            masks.apply(message.as_bytes(), &mut form);
            let learnt = form.text.clone();
            for text in [message.clone(), mutated(&message, &seed, None), mutated(&message, &seed, insert), other] {
                // More bytes before and behind: the message is part of a line.
                let bytes = format!("ab{text}{tail}");
                let place = (2, 2 + text.len());
                let Some(number) = shapes.find(bytes.as_bytes(), place, 1, &mut found) else { continue };
                prop_assert_eq!(number, 5);
                masks.apply(text.as_bytes(), &mut form);
                prop_assert_eq!(String::from_utf8_lossy(&form.text), String::from_utf8_lossy(&learnt), "{}", text);
                let values: Vec<_> = form.values.iter().map(|&(a, b)| (a as usize + 2, b as usize + 2)).collect();
                prop_assert_eq!(found.values.iter().map(|v| (v.start, v.end)).collect::<Vec<_>>(), values);
                let mut keys = Vec::new();
                finder.each(text.as_bytes(), |key| keys.push(String::from_utf8_lossy(key).into_owned()));
                let blocks: Vec<_> = found.blocks.iter().map(|b| bytes[b.start..b.end].to_owned()).collect();
                prop_assert_eq!(blocks, keys);
            }
        }
    }
}
