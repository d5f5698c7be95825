//! Shapes: messages of a known form are recognised without building the form again.
//!
//! When a message has been masked ([`super::mask`]), its *shape* is kept if it is simple: literal bytes, and between
//! them whole words that are addresses, blocks, paths or plain numbers. Another message is of the shape if the literal
//! bytes are the same and each word between is of its kind; then it has the form of the shape, and its values are those
//! words. Whatever is not certain is no match, and masked as ever: a shape only says what masking would say.

use std::collections::BTreeSet;

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

/// Literal bytes, with the first eight and the last eight as numbers.
#[derive(Clone, Debug, Default)]
struct Literal {
    bytes: Vec<u8>,
    first: u64,
    mask: u64,
    last: u64,
}

#[derive(Clone, Debug)]
struct Shape {
    form: u32,
    /// Literal bytes and the word behind them.
    steps: Vec<(Literal, Wild)>,
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

/// Stands for "no block" in [`Found::of_block`].
pub const NO_BLOCK: u32 = u32::MAX;

/// What was found in a message: places in the bytes it lies in.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Start and end of each wildcard's value.
    pub values: Vec<(usize, usize)>,
    /// For each of them: which block it is, or [`NO_BLOCK`].
    pub of_block: Vec<u32>,
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
            found.of_block.clear();
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
    fn of(bytes: Vec<u8>) -> Self {
        let mask = if bytes.len() >= 8 { u64::MAX } else { (1 << (8 * bytes.len())) - 1 };
        Self { first: load(&bytes, 0), mask, last: load(&bytes, bytes.len().saturating_sub(8)), bytes }
    }

    #[inline]
    fn is_at(&self, bytes: &[u8], at: usize) -> bool {
        if (load(bytes, at) ^ self.first) & self.mask != 0 {
            return false;
        }
        let length = self.bytes.len();
        length <= 8
            || load(bytes, at + length - 8) == self.last
                && (length <= 16 || bytes.get(at + 8..at + length - 8) == self.bytes.get(8..length - 8))
    }
}

impl Shape {
    /// Returns the shape of a message, if it is simple.
    fn of(message: &[u8], form: u32, keep: &BTreeSet<Vec<u8>>) -> Option<Self> {
        let mut steps: Vec<(Literal, Wild)> = Vec::new();
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
                steps.push((Literal::of(std::mem::take(&mut literal)), wild));
            } else if separates {
                literal.clear();
            } else if literal.iter().all(|&b| b == b',' || b == b'/' || class(b) == Class::Space) {
                // White space that masking takes for one space.
                return None;
            } else {
                steps.push((Literal::of(std::mem::take(&mut literal)), wild));
            }
            last = Some(wild);
            literal.extend_from_slice(&message[stop..end]);
            at = end;
        }
        Some(Self { form, steps, end: Literal::of(literal) })
    }

    fn matches(&self, bytes: &[u8], from: usize, to: usize, found: &mut Found) -> bool {
        let mut at = from;
        for (literal, wild) in &self.steps {
            if !literal.is_at(bytes, at) {
                return false;
            }
            let start = at + literal.bytes.len();
            let Some(mut end) = wild.end(bytes, start, to, found) else { return false };
            let mut block = if *wild == Wild::Block { found.blocks.len() as u32 - 1 } else { NO_BLOCK };
            found.odd |= *wild == Wild::Path;
            // Further members of a list, if what follows is one.
            while let Some(next) = wild.next(bytes, end, to) {
                let Some(stop) = wild.end(bytes, next, to, found) else { break };
                if !is_boundary(bytes, stop, to) {
                    return false;
                }
                (end, block) = (stop, NO_BLOCK);
            }
            found.values.push((start, end));
            found.of_block.push(block);
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

/// Returns eight bytes as a number, the first one lowest; behind the end are zeros.
#[inline]
pub fn load(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        Some(eight) => u64::from_le_bytes(*eight),
        None => {
            let mut eight = [0; 8];
            let rest = bytes.get(at..).unwrap_or_default();
            eight[..rest.len()].copy_from_slice(rest);
            u64::from_le_bytes(eight)
        }
    }
}

const ZEROS: u64 = 0x3030_3030_3030_3030;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Returns how many of eight bytes are digits, from the first on.
#[inline]
pub fn leading_digits(eight: u64) -> u32 {
    let values = eight ^ ZEROS;
    let others = (values.wrapping_add(0x7676_7676_7676_7676) | values) & HIGH;
    others.trailing_zeros() / 8
}

/// Returns the number that eight digits are.
#[inline]
fn eight_digits(eight: u64) -> u64 {
    let pairs = (eight & 0x0f0f_0f0f_0f0f_0f0f).wrapping_mul(10 * 256 + 1) >> 8;
    let fours = (pairs & 0x00ff_00ff_00ff_00ff).wrapping_mul(100 * 65_536 + 1) >> 16;
    (fours & 0x0000_ffff_0000_ffff).wrapping_mul(10_000 * (1 << 32) + 1) >> 32
}

const POWERS: [u64; 8] = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000];

/// Returns where a run of digits ends.
#[inline]
fn digits_end(bytes: &[u8], mut at: usize) -> usize {
    loop {
        let count = leading_digits(load(bytes, at));
        at += count as usize;
        if count < 8 {
            return at;
        }
    }
}

/// Reads a block, `blk_` and a whole number.
#[inline]
pub fn block(bytes: &[u8], start: usize) -> Option<Block> {
    let first = load(bytes, start);
    if first & 0xffff_ffff != u64::from(u32::from_le_bytes(*b"blk_")) {
        return None;
    }
    let negative = (first >> 32) as u8 == b'-';
    let digits = start + 4 + usize::from(negative);
    let (mut at, mut value) = (digits, 0u64);
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
        at += count as usize;
        break;
    }
    if at == digits {
        return None;
    }
    let length = at - digits;
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
    Some(Block { start, end: at, number })
}

/// Returns a bit for each of eight bytes whose highest bit is set.
#[inline]
fn bits(eight: u64) -> u32 {
    ((eight & HIGH).wrapping_mul(0x0002_0408_1020_4081) >> 56) as u32
}

/// Returns where `10.251.73.220` or `10.251.73.220:50010` ends.
#[inline]
fn address(bytes: &[u8], at: usize) -> Option<usize> {
    let (mut others, mut dots) = (0u32, 0u32);
    for part in 0..3 {
        let eight = load(bytes, at + 8 * part);
        let values = eight ^ ZEROS;
        // Without a carry from byte to byte: the highest bits are added apart.
        let over = ((values & !HIGH) + 0x7676_7676_7676_7676) | values;
        let dot = eight ^ 0x2e2e_2e2e_2e2e_2e2e;
        let no_dot = ((dot & !HIGH) + !HIGH) | dot;
        others |= bits(over) << (8 * part);
        dots |= bits(!no_dot) << (8 * part);
    }
    let mut end = 0;
    for octet in 0..4 {
        let stop = others.trailing_zeros();
        if stop >= 24 || stop == end || stop > end + 3 {
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
    let mut end = at + end as usize;
    if bytes.get(end) == Some(&b':') {
        let port = digits_end(bytes, end + 1);
        if port > end + 1 {
            end = port;
        }
    }
    Some(end)
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
                prop_assert_eq!(&found.values, &values);
                let mut keys = Vec::new();
                finder.each(text.as_bytes(), |key| keys.push(String::from_utf8_lossy(key).into_owned()));
                let blocks: Vec<_> = found.blocks.iter().map(|b| bytes[b.start..b.end].to_owned()).collect();
                prop_assert_eq!(blocks, keys);
            }
        }
    }
}
