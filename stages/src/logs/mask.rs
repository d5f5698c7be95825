//! Typed masks: turns a log message into its *form*, the text with every variable part replaced by a typed wildcard.
//!
//! | wildcard | stands for |
//! |---|---|
//! | `<ip>` | an IPv4 address, with `:port` |
//! | `<id>` | `blk_…`, a UUID, a word that mixes letters and digits without a plain pattern |
//! | `<hex>` | `0x…`, seven and more hexadecimal digits, a hardware address |
//! | `<path>` | an absolute path, a URL, a relative path of three parts and more |
//! | `<time>` | a date in the manner of C: `Thu Jun 9 06:07:05 2005` |
//! | `<num>` | a number, also inside a word (`attempt_<num>_<num>`) |
//! | `<NAME>` | a match of the user's own mask NAME; these come first |
//!
//! White space is one space, and a list of equal wildcards is one wildcard, so that lines which differ only in how many
//! things they list have one form. The built-in masks are a single pass over bytes, without a regular expression and
//! without an allocation per line; a form never depends on other lines, hence not on threads or on how a file was cut.
//!
//! Known hole: text that holds a wildcard literally (`<num>`) has the form of a line with a number there.

use std::collections::BTreeSet;

use regex::bytes::Regex;

use super::byte_regex;

/// What a byte may be part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// White space: separates tokens.
    Space,
    /// Punctuation that separates words and is kept.
    Mark,
    /// A letter, `_`, `$` or a byte outside ASCII.
    Letter,
    /// A decimal digit.
    Digit,
    /// `.`, `-`, `/`, `:`, `+`, `@`: part of a word, but not its last byte.
    Soft,
}

const fn classes() -> [Class; 256] {
    let mut table = [Class::Mark; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        table[i] = match b {
            b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c => Class::Space,
            b'0'..=b'9' => Class::Digit,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$' | 128.. => Class::Letter,
            b'.' | b'-' | b'/' | b':' | b'+' | b'@' => Class::Soft,
            _ => Class::Mark,
        };
        i += 1;
    }
    table
}

static CLASS: [Class; 256] = classes();

pub(super) fn class(b: u8) -> Class {
    CLASS[usize::from(b)]
}

const IP: usize = 0;
const ID: usize = 1;
const HEX: usize = 2;
const PATH: usize = 3;
const TIME: usize = 4;
const NUMBER: usize = 5;
const BUILT_IN: [&str; 6] = ["<ip>", "<id>", "<hex>", "<path>", "<time>", "<num>"];

/// Which wildcards are used, and which words are never masked.
#[derive(Clone, Debug)]
pub struct Masks {
    /// `<ip>`.
    pub ip: bool,
    /// `<id>`.
    pub id: bool,
    /// `<hex>`.
    pub hex: bool,
    /// `<path>`.
    pub path: bool,
    /// `<time>`.
    pub time: bool,
    /// `<num>`.
    pub number: bool,
    /// Words kept as they are: those that given templates spell out.
    pub keep: BTreeSet<Vec<u8>>,
    pub(crate) custom: Vec<(Regex, String)>,
}

impl Default for Masks {
    fn default() -> Self {
        let (keep, custom) = (BTreeSet::new(), Vec::new());
        Self { ip: true, id: true, hex: true, path: true, time: true, number: true, keep, custom }
    }
}

/// The form of one message and the values of its wildcards; buffers are reused from line to line.
#[derive(Default)]
pub struct Form {
    /// The form.
    pub text: Vec<u8>,
    /// Start and end of each wildcard's value in the message, in order.
    pub values: Vec<(u32, u32)>,
    /// Where the last wildcard ends in `text` and which it is, to join lists.
    last: Option<(usize, usize)>,
    /// Matches of the user's masks: start, end, number of the mask.
    spans: Vec<(usize, usize, usize)>,
}

impl Form {
    /// Writes a wildcard for `start..end` of the message, or widens the last one if only separators lie between. Only
    /// `whole` words are members of a list, not the digits of `12ms`.
    fn wildcard(&mut self, kind: usize, name: &str, start: usize, end: usize, whole: bool) {
        if whole
            && let Some((at, last)) = self.last
            && last == kind
            && is_separator(&self.text[at..])
            && let Some(value) = self.values.last_mut()
        {
            self.text.truncate(at);
            value.1 = end as u32;
            return;
        }
        self.text.extend_from_slice(name.as_bytes());
        self.last = whole.then_some((self.text.len(), kind));
        self.values.push((start as u32, end as u32));
    }
}

/// Between the members of a list: a space, a comma and a space, a space and a slash (`/10.0.0.1 /10.0.0.2`).
fn is_separator(text: &[u8]) -> bool {
    matches!(text, b" " | b", " | b"," | b" /")
}

impl Masks {
    /// Adds a mask of the user's; the first group is masked if there is one, else the whole match.
    ///
    /// # Errors
    /// The pattern is no regular expression or matches the empty text, or the name is not of lower-case letters.
    pub fn add(&mut self, name: &str, pattern: &str) -> Result<(), String> {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            return Err(format!("the name `{name}` is not of lower-case letters"));
        }
        let regex = byte_regex(pattern)?;
        if regex.is_match(b"") {
            return Err("matches the empty text".to_owned());
        }
        self.custom.push((regex, format!("<{name}>")));
        Ok(())
    }

    /// Returns whether masks beyond the built-in ones are set.
    pub fn has_custom(&self) -> bool {
        !self.custom.is_empty()
    }

    /// Writes the form of `message` into `form`.
    pub fn apply(&self, message: &[u8], form: &mut Form) {
        form.text.clear();
        form.values.clear();
        form.last = None;
        if self.custom.is_empty() {
            self.scan(message, 0, message.len(), form);
        } else {
            self.custom_spans(message, &mut form.spans);
            let mut at = 0;
            for i in 0..form.spans.len() {
                let (start, end, mask) = form.spans[i];
                self.scan(message, at, start, form);
                form.wildcard(BUILT_IN.len() + mask, &self.custom[mask].1, start, end, true);
                at = end;
            }
            self.scan(message, at, message.len(), form);
        }
        if form.text.last() == Some(&b' ') {
            form.text.pop();
        }
    }

    /// Finds what the user's masks cover; where two overlap the earlier in the list wins.
    fn custom_spans(&self, message: &[u8], spans: &mut Vec<(usize, usize, usize)>) {
        spans.clear();
        for (mask, (regex, _)) in self.custom.iter().enumerate() {
            for found in regex.captures_iter(message) {
                let Some(hit) = found.get(1).or_else(|| found.get(0)) else { continue };
                let free = spans.iter().all(|&(start, end, _)| hit.end() <= start || end <= hit.start());
                if free && !hit.is_empty() {
                    spans.push((hit.start(), hit.end(), mask));
                }
            }
        }
        spans.sort_unstable();
    }

    /// Writes the form of `message[from..to]`.
    fn scan(&self, message: &[u8], from: usize, to: usize, form: &mut Form) {
        let message = &message[..to];
        let mut at = from;
        while at < to {
            match class(message[at]) {
                Class::Space => {
                    if form.text.last().is_some_and(|&b| b != b' ') {
                        form.text.push(b' ');
                    }
                    at += 1;
                }
                Class::Mark => {
                    form.text.push(message[at]);
                    at += 1;
                }
                _ => at = self.word(message, at, form),
            }
        }
    }

    /// Writes the word that starts at `start` and returns where it ends.
    fn word(&self, message: &[u8], start: usize, form: &mut Form) -> usize {
        let mut end = start;
        let (mut digits, mut slashes) = (false, 0);
        while end < message.len() {
            let b = message[end];
            match class(b) {
                Class::Letter => {}
                Class::Digit => digits = true,
                Class::Soft => slashes += usize::from(b == b'/'),
                Class::Space | Class::Mark => break,
            }
            end += 1;
        }
        if !digits && slashes == 0 {
            if self.time
                && end - start == 3
                && let Some(length) = date_of_c(&message[start..])
            {
                form.wildcard(TIME, BUILT_IN[TIME], start, start + length, true);
                return start + length;
            }
            form.text.extend_from_slice(&message[start..end]);
            return end;
        }
        let (first, last) = trim(message, start, end);
        form.text.extend_from_slice(&message[start..first]);
        if first < last {
            self.variable(message, first, last, form);
        }
        form.text.extend_from_slice(&message[last..end]);
        end
    }

    /// Writes a word that has a digit or a slash.
    fn variable(&self, message: &[u8], start: usize, end: usize, form: &mut Form) {
        let word = &message[start..end];
        if !self.keep.is_empty() && self.keep.contains(word) {
            form.text.extend_from_slice(word);
            return;
        }
        let slash = usize::from(word[0] == b'/');
        if self.ip
            && let Some(length) = address(&word[slash..])
        {
            form.text.extend_from_slice(&word[..slash]);
            let mut at = start + slash + length;
            form.wildcard(IP, BUILT_IN[IP], start + slash, at, true);
            // `10.0.0.1:50010:Got exception`: the word goes on after the address.
            while at < end && class(message[at]) == Class::Soft {
                form.text.push(message[at]);
                at += 1;
            }
            if message[at..end].iter().any(|&b| b == b'/' || b.is_ascii_digit()) {
                self.variable(message, at, end, form);
            } else {
                form.text.extend_from_slice(&message[at..end]);
            }
            return;
        }
        if self.id && (is_block(word) || is_uuid(word)) {
            form.wildcard(ID, BUILT_IN[ID], start, end, true);
            return;
        }
        if self.hex && is_hardware_address(word) {
            form.wildcard(HEX, BUILT_IN[HEX], start, end, true);
            return;
        }
        if self.path && is_path(word) {
            form.wildcard(PATH, BUILT_IN[PATH], start, end, true);
            return;
        }
        if self.number && is_number(word) && !(self.hex && is_hex(word)) {
            form.wildcard(NUMBER, BUILT_IN[NUMBER], start, end, true);
            return;
        }
        // Parts between soft marks, each on its own: `node-12`, `Total:7`, `4c35a9e/x`.
        let mut at = start;
        while at < end {
            if class(message[at]) == Class::Soft {
                let sign = matches!(message[at], b'-' | b'+')
                    && (at == start || class(message[at - 1]) == Class::Soft)
                    && message.get(at + 1).is_some_and(u8::is_ascii_digit);
                let stop = part_end(message, at + 1, end);
                if sign && self.number && message[at + 1..stop].iter().all(u8::is_ascii_digit) {
                    form.wildcard(NUMBER, BUILT_IN[NUMBER], at, stop, false);
                    at = stop;
                    continue;
                }
                form.text.push(message[at]);
                at += 1;
                continue;
            }
            let stop = part_end(message, at, end);
            self.part(message, (at, stop), (at, stop) == (start, end), form);
            at = stop;
        }
    }

    /// Writes a run of letters and digits; `whole` if it is all of a word.
    fn part(&self, message: &[u8], (start, end): (usize, usize), whole: bool, form: &mut Form) {
        let part = &message[start..end];
        if !part.iter().any(u8::is_ascii_digit) {
            form.text.extend_from_slice(part);
            return;
        }
        if self.hex && is_hex(part) {
            form.wildcard(HEX, BUILT_IN[HEX], start, end, whole);
            return;
        }
        // Runs of digits; `_` joins words, so each of its parts may be plain on its own.
        let runs = part.split(|&b| b == b'_').map(digit_runs).max().unwrap_or(0);
        if self.id && runs > 2 {
            form.wildcard(ID, BUILT_IN[ID], start, end, whole);
            return;
        }
        let mut at = start;
        while at < end {
            let digit = message[at].is_ascii_digit();
            let stop = (at..end).find(|&i| message[i].is_ascii_digit() != digit).unwrap_or(end);
            if digit && self.number {
                form.wildcard(NUMBER, BUILT_IN[NUMBER], at, stop, false);
            } else {
                form.text.extend_from_slice(&message[at..stop]);
            }
            at = stop;
        }
    }
}

/// A full stop, colon or hyphen at the end belongs to the sentence, dots before a value to a leader line.
pub(super) fn trim(message: &[u8], start: usize, end: usize) -> (usize, usize) {
    let (mut first, mut last) = (start, end);
    while last > start && class(message[last - 1]) == Class::Soft {
        last -= 1;
    }
    while first < last && matches!(message[first], b'.' | b':' | b'@') {
        first += 1;
    }
    (first, last)
}

/// Calls `found` with the words of a template's piece that masks would hide. A piece is `cut` where a wildcard follows
/// or precedes it: the word there is not whole.
pub fn whole_words(piece: &[u8], cut_left: bool, cut_right: bool, mut found: impl FnMut(&[u8])) {
    let is_word = |b: u8| !matches!(class(b), Class::Space | Class::Mark);
    let mut at = 0;
    while at < piece.len() {
        if !is_word(piece[at]) {
            at += 1;
            continue;
        }
        let end = (at..piece.len()).find(|&i| !is_word(piece[i])).unwrap_or(piece.len());
        let whole = !(cut_left && at == 0 || cut_right && end == piece.len());
        let (first, last) = trim(piece, at, end);
        let word = &piece[first..last];
        if whole && word.iter().any(|&b| b == b'/' || b.is_ascii_digit()) {
            found(word);
        }
        at = end;
    }
}

fn part_end(message: &[u8], from: usize, end: usize) -> usize {
    (from..end).find(|&i| class(message[i]) == Class::Soft).unwrap_or(end)
}

fn digit_runs(part: &[u8]) -> usize {
    let mut runs = 0;
    let mut before = false;
    for b in part {
        let digit = b.is_ascii_digit();
        runs += usize::from(digit && !before);
        before = digit;
    }
    runs
}

/// Returns the length of `10.251.73.220` or `10.251.73.220:50010` at the start of a word.
fn address(word: &[u8]) -> Option<usize> {
    let digits = |from: usize| word[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut at = 0;
    for octet in 0..4 {
        if octet > 0 {
            if word.get(at) != Some(&b'.') {
                return None;
            }
            at += 1;
        }
        let length = digits(at);
        if length == 0 || length > 3 {
            return None;
        }
        at += length;
    }
    if word.get(at) == Some(&b':') {
        let port = digits(at + 1);
        if port > 0 {
            at += 1 + port;
        }
    }
    match word.get(at) {
        None | Some(b':' | b'/' | b'-') => Some(at),
        Some(_) => None,
    }
}

/// `blk_` and a whole number.
pub(super) fn is_block(word: &[u8]) -> bool {
    let Some(rest) = word.strip_prefix(b"blk_") else { return false };
    let digits = rest.strip_prefix(b"-").unwrap_or(rest);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

fn is_uuid(word: &[u8]) -> bool {
    word.len() == 36
        && word.iter().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

/// `/a/b`, `scheme://…`, `a/b/c` and longer; neither `/` alone nor `read/write`.
fn is_path(word: &[u8]) -> bool {
    let parts = word.split(|&b| b == b'/').filter(|p| !p.is_empty()).count();
    if word[0] == b'/' {
        return parts >= 1;
    }
    parts >= 3 || (parts >= 2 && word.windows(3).any(|w| w == b"://"))
}

/// Digits, with `.`, `,`, `:`, `-` or `/` between groups and a sign before: counts, times, dates, fractions.
fn is_number(word: &[u8]) -> bool {
    let digits = word.strip_prefix(b"-").or_else(|| word.strip_prefix(b"+")).unwrap_or(word);
    digits.first().is_some_and(u8::is_ascii_digit)
        && digits.iter().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b':' | b'-' | b'/'))
}

/// Four and more pairs of hexadecimal digits: `00:1b:44:11:3a:b7`; a letter among them, else it is a time or the like.
fn is_hardware_address(word: &[u8]) -> bool {
    word.len() >= 11
        && word.len() % 3 == 2
        && word.iter().enumerate().all(|(i, b)| if i % 3 == 2 { *b == b':' } else { b.is_ascii_hexdigit() })
        && word.iter().any(u8::is_ascii_alphabetic)
}

/// `0x…`, or at least seven hexadecimal digits, with a letter among them.
fn is_hex(word: &[u8]) -> bool {
    if let Some(rest) = word.strip_prefix(b"0x").or_else(|| word.strip_prefix(b"0X")) {
        return !rest.is_empty() && rest.iter().all(u8::is_ascii_hexdigit);
    }
    word.len() >= 7
        && word.iter().all(u8::is_ascii_hexdigit)
        && word.iter().any(u8::is_ascii_digit)
        && word.iter().any(u8::is_ascii_alphabetic)
}

/// Returns the length of `Thu Jun  9 06:07:05 2005` at the start of a text; the year, and a zone before it, may lack.
fn date_of_c(text: &[u8]) -> Option<usize> {
    const DAYS: &[u8] = b"MonTueWedThuFriSatSun";
    const MONTHS: &[u8] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let named = |at: usize, names: &[u8]| text.get(at..at + 3).is_some_and(|t| names.chunks(3).any(|n| n == t));
    let digits = |from: usize| text[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    if !named(0, DAYS) || text.get(3) != Some(&b' ') || !named(4, MONTHS) || text.get(7) != Some(&b' ') {
        return None;
    }
    let mut at = 8 + usize::from(text.get(8) == Some(&b' '));
    let day = digits(at.min(text.len()));
    at += day;
    let clock = text.get(at..at + 9)?;
    let is_clock = clock.iter().enumerate().all(|(i, b)| match i {
        0 => *b == b' ',
        3 | 6 => *b == b':',
        _ => b.is_ascii_digit(),
    });
    if day == 0 || day > 2 || !is_clock {
        return None;
    }
    at += 9;
    let zone = text[at..].iter().skip(1).take_while(|b| b.is_ascii_uppercase()).count();
    let zoned = if text.get(at) == Some(&b' ') && (3..=4).contains(&zone) { at + 1 + zone } else { at };
    for end in [zoned, at] {
        if text.get(end) == Some(&b' ') && digits(end + 1) == 4 {
            return Some(end + 5);
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn form(message: &str) -> String {
        with(&Masks::default(), message).0
    }

    fn with(masks: &Masks, message: &str) -> (String, Vec<String>) {
        let mut form = Form::default();
        masks.apply(message.as_bytes(), &mut form);
        let value = |&(a, b): &(u32, u32)| message[a as usize..b as usize].to_owned();
        (String::from_utf8(form.text.clone()).unwrap(), form.values.iter().map(value).collect())
    }

    #[test]
    fn variables_become_typed_wildcards() {
        for (message, expected) in [
            (
                "Receiving block blk_-16 src: /10.250.18.114:43996 dest: /10.0.0.1:50010",
                "Receiving block <id> src: /<ip> dest: /<ip>",
            ),
            (
                "BLOCK* NameSystem.allocateBlock: /user/root/_task_2_m_8/part-00081. blk_43",
                "BLOCK* NameSystem.allocateBlock: <path>. <id>",
            ),
            (
                "10.0.0.1:5:Got exception while serving blk_1 to /10.0.0.2:",
                "<ip>:Got exception while serving <id> to /<ip>:",
            ),
            ("PacketResponder 0 for block blk_4 terminating", "PacketResponder <num> for block <id> terminating"),
            ("size -67108864, 12ms, 99.5%, +3", "size <num>, <num>ms, <num>%, <num>"),
            (
                "attempt_1445_0020_m_000001 of R02-M1-N0-C:J12-U11",
                "attempt_<num>_<num>_m_<num> of R<num>-M<num>-N<num>-C:J<num>-U<num>",
            ),
            (
                "req-38101a0b-2096-447d-96ea-a692162415ae x 38101a0b-2096-447d-96ea-a692162415ae",
                "req-<hex>-<num>-<num>d-<num>ea-<hex> x <id>",
            ),
            ("mask 0x1F addr 0000000b7ff2e0 code a1b2c3", "mask <hex> addr <hex> code <id>"),
            ("chip FF:F2:9F:16:E0:01 at 15:16:01", "chip <hex> at <num>"),
            ("read/write and I/O of a/b/c via http://h/x", "read/write and I/O of <path> via <path>"),
            ("at Thu Jun  9 06:07:05 2005 or Thu Jun 9 06:07:05 EDT 2005, Sun up", "at <time> or <time>, Sun up"),
            ("enable............0 done. OK", "enable............<num> done. OK"),
            ("  many   spaces\tand a tab ", "many spaces and a tab"),
        ] {
            assert_eq!(form(message), expected, "{message}");
        }
    }

    #[test]
    fn a_list_is_one_wildcard_with_one_value() {
        let (text, values) = with(&Masks::default(), "ask 10.0.0.1:5 to delete blk_1 blk_-2 blk_3 now");
        assert_eq!(text, "ask <ip> to delete <id> now");
        assert_eq!(values, ["10.0.0.1:5", "blk_1 blk_-2 blk_3"]);
    }

    #[test]
    fn own_masks_come_first_and_kept_words_stay() {
        let mut masks = Masks::default();
        masks.add("user", r"for user (\w+)").unwrap();
        masks.keep.insert(b"404".to_vec());
        let (text, values) = with(&masks, "opened for user root 7 404");
        assert_eq!(
            (text.as_str(), values),
            ("opened for user <user> <num> 404", vec!["root".to_owned(), "7".to_owned()])
        );
        assert!(masks.add("Bad", "x").is_err() && masks.add("x", "(").is_err() && masks.add("x", "y*").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_form_and_values_lie_in_the_message(message: Vec<u8>, text in "[ -~]{0,60}") {
            for message in [&message[..], text.as_bytes()] {
                let mut form = Form::default();
                Masks::default().apply(message, &mut form);
                let mut at = 0;
                for &(start, end) in &form.values {
                    prop_assert!(at <= start && start < end && end as usize <= message.len());
                    at = end;
                }
            }
        }
    }
}
