//! Where two files differ first: a JSON pointer, a line of text, a byte. Of tables the crate of the stages knows more.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// Longest piece of a value that is shown, in characters.
const SHOWN: usize = 60;

/// Knows formats that the engine does not.
pub trait Compare: Sync {
    /// Returns where two files of a format it knows differ first; `None` for other formats and files that cannot be read.
    fn first_difference(&self, path: &str, then: &Path, now: &Path) -> Option<String>;
}

/// Knows no further format.
pub struct Plain;

impl Compare for Plain {
    fn first_difference(&self, _path: &str, _then: &Path, _now: &Path) -> Option<String> {
        None
    }
}

/// Returns where two files differ first, as `PLACE: recorded X, now Y`. `path` names the format.
pub fn first_difference(compare: &dyn Compare, path: &str, then: &Path, now: &Path) -> String {
    if let Some(found) = compare.first_difference(path, then, now) {
        return found;
    }
    let (then, now) = match (fs::read(then), fs::read(now)) {
        (Ok(then), Ok(now)) => (then, now),
        (Err(error), _) | (_, Err(error)) => return format!("cannot be compared: {error}"),
    };
    let texts = std::str::from_utf8(&then).ok().zip(std::str::from_utf8(&now).ok());
    let found = texts.filter(|_| path.ends_with(".json")).and_then(|(then, now)| json(then, now));
    found.or_else(|| texts.and_then(|(then, now)| lines(then, now))).unwrap_or_else(|| bytes(&then, &now))
}

fn json(then: &str, now: &str) -> Option<String> {
    let (then, now): (Value, Value) = (serde_json::from_str(then).ok()?, serde_json::from_str(now).ok()?);
    pointer("", Some(&then), Some(&now))
}

fn pointer(at: &str, then: Option<&Value>, now: Option<&Value>) -> Option<String> {
    let escaped = |key: &str| format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
    match (then, now) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            keys.into_iter().find_map(|key| pointer(&escaped(key), a.get(key), b.get(key)))
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            (0..a.len().max(b.len())).find_map(|n| pointer(&format!("{at}/{n}"), a.get(n), b.get(n)))
        }
        (then, now) if then == now => None,
        (then, now) => {
            let shown = |value: Option<&Value>| value.map_or("absent".to_owned(), |v| short(&v.to_string()));
            let at = if at.is_empty() { "the whole" } else { at };
            Some(format!("{at}: recorded {}, now {}", shown(then), shown(now)))
        }
    }
}

fn lines(then: &str, now: &str) -> Option<String> {
    let (mut a, mut b) = (then.split('\n'), now.split('\n'));
    for line in 1_usize.. {
        match (a.next(), b.next()) {
            (None, None) => return None,
            (x, y) if x == y => {}
            (x, y) => {
                let shown = |text: Option<&str>| text.map_or("nothing".to_owned(), short);
                return Some(format!("line {line}: recorded {}, now {}", shown(x), shown(y)));
            }
        }
    }
    None
}

fn bytes(then: &[u8], now: &[u8]) -> String {
    let at = then.iter().zip(now).take_while(|(a, b)| a == b).count();
    let shown = |bytes: &[u8]| bytes.get(at).map_or("nothing".to_owned(), |byte| format!("{byte:#04x}"));
    format!("byte {at}: recorded {}, now {}", shown(then), shown(now))
}

/// Returns a value as it is shown: the beginning of a long one.
pub fn short(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None if text.is_empty() => "nothing".to_owned(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named_by_the_format() {
        let dir = tempfile::tempdir().unwrap();
        let of = |name: &str, then: &[u8], now: &[u8]| {
            let (a, b) = (dir.path().join("a"), dir.path().join("b"));
            fs::write(&a, then).unwrap();
            fs::write(&b, now).unwrap();
            first_difference(&Plain, name, &a, &b)
        };
        assert_eq!(of("m.json", br#"{"a":{"b/c":[1,2]}}"#, br#"{"a":{"b/c":[1,3]}}"#), "/a/b~1c/1: recorded 2, now 3");
        assert_eq!(of("m.json", br#"{"a":1}"#, br#"{"a":1,"b":2}"#), "/b: recorded absent, now 2");
        assert_eq!(of("t.txt", b"a\nb\n", b"a\nc\n"), "line 2: recorded b, now c");
        assert_eq!(of("t.bin", b"\xff\x00\x01", b"\xff\x00\x02"), "byte 2: recorded 0x01, now 0x02");
        // The same content, written otherwise.
        assert_eq!(of("m.json", b"{\"a\": 1}", b"{\"a\":1}"), "line 1: recorded {\"a\": 1}, now {\"a\":1}");
    }
}
