//! Session keys: every match of a regular expression in a line, a field of the line, or one key for all lines.

use regex::bytes::Regex;

use super::format::Parts;

/// Finds session keys in a line.
#[derive(Clone, Debug)]
pub struct SessionFinder {
    how: How,
}

#[derive(Clone, Debug)]
enum How {
    /// A fixed prefix, an optional minus sign where allowed, digits: `blk_-?\d+` without the regex engine.
    Digits { prefix: Box<memchr::memmem::Finder<'static>>, length: usize, sign: bool },
    /// Anything else; the first group if there is one, else the whole match.
    Pattern(Regex),
    /// A field; a line where it is empty has no session.
    Field(Field),
    /// The whole log is one session, [`ALL`].
    All,
}

/// The key of the session that holds all lines.
pub const ALL: &[u8] = b"all";

/// A field that names a line's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The component.
    Component,
    /// The level.
    Level,
    /// The field that the format was told of.
    Chosen,
}

impl SessionFinder {
    /// Makes a finder.
    ///
    /// # Errors
    /// The pattern is no regular expression, or matches the empty text.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let regex = super::byte_regex(pattern)?;
        if regex.is_match(b"") {
            return Err("matches the empty text, so every line would have an empty session key".to_owned());
        }
        let rest = pattern.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
        let prefix = &pattern[..pattern.len() - rest.len()];
        let how = match rest {
            r"-?\d+" | r"\d+" | "-?[0-9]+" | "[0-9]+" if prefix.ends_with('_') => How::Digits {
                prefix: Box::new(memchr::memmem::Finder::new(prefix.as_bytes()).into_owned()),
                length: prefix.len(),
                sign: rest.starts_with("-?"),
            },
            _ => How::Pattern(regex),
        };
        Ok(Self { how })
    }

    /// Makes a finder of a field's value.
    pub fn of_field(field: Field) -> Self {
        Self { how: How::Field(field) }
    }

    /// Makes a finder that gives every line the key [`ALL`].
    pub fn all() -> Self {
        Self { how: How::All }
    }

    /// Returns whether the keys are what [`super::shape::block`] finds: `blk_-?\d+`.
    pub fn finds_blocks(&self) -> bool {
        matches!(&self.how, How::Digits { prefix, sign: true, .. } if prefix.needle() == b"blk_")
    }

    /// Returns the session key of a line that has these parts, where it is not looked for in its text.
    pub fn of_parts<'a>(&self, parts: &Parts<'a>) -> Option<&'a [u8]> {
        let key = match &self.how {
            How::Digits { .. } | How::Pattern(_) => return None,
            How::Field(Field::Component) => parts.component,
            How::Field(Field::Level) => parts.level,
            How::Field(Field::Chosen) => parts.session,
            How::All => ALL,
        };
        Some(key).filter(|key| !key.is_empty())
    }

    /// Calls `found` with each match in a text, in order, repeats included. A field is in no text.
    pub fn each<'a>(&self, line: &'a [u8], mut found: impl FnMut(&'a [u8])) {
        match &self.how {
            How::Digits { prefix, length, sign } => {
                let mut from = 0;
                while let Some(at) = prefix.find(&line[from..]) {
                    let start = from + at;
                    let mut end = start + length;
                    if *sign && line.get(end) == Some(&b'-') {
                        end += 1;
                    }
                    let digits = end;
                    while end < line.len() && line[end].is_ascii_digit() {
                        end += 1;
                    }
                    if end > digits {
                        found(&line[start..end]);
                        from = end;
                    } else {
                        from = start + 1;
                    }
                }
            }
            How::Pattern(regex) if regex.captures_len() > 1 => {
                for groups in regex.captures_iter(line) {
                    if let Some(key) = groups.get(1)
                        && !key.is_empty()
                    {
                        found(key.as_bytes());
                    }
                }
            }
            How::Pattern(regex) => regex.find_iter(line).filter(|m| !m.is_empty()).for_each(|m| found(m.as_bytes())),
            How::Field(_) | How::All => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(pattern: &str, line: &str) -> Vec<String> {
        let mut keys = Vec::new();
        SessionFinder::new(pattern)
            .unwrap()
            .each(line.as_bytes(), |k| keys.push(String::from_utf8_lossy(k).into_owned()));
        keys
    }

    #[test]
    fn finds_every_key_and_the_first_group_where_there_is_one() {
        assert_eq!(all(r"blk_-?\d+", "blk_1 of blk_-22, blk_- and blk_x /a/blk_3"), ["blk_1", "blk_-22", "blk_3"]);
        assert_eq!(all(r"request id=(\w+)", "request id=a7 and request id=b"), ["a7", "b"]);
        assert_eq!(all("job-[a-z]+", "job-x job-"), ["job-x"]);
    }

    #[test]
    fn a_field_or_all_lines() {
        let parts = Parts { time: 0, level: b"INFO", component: b"", message: b"m 7", session: b"t-1" };
        let keys = |finder: &SessionFinder| {
            let mut keys = Vec::new();
            let mut add = |key: &[u8]| keys.push(String::from_utf8_lossy(key).into_owned());
            finder.of_parts(&parts).into_iter().for_each(&mut add);
            finder.each(b"line 7", &mut add);
            finder.each(b"more 8", &mut add);
            keys
        };
        assert_eq!(keys(&SessionFinder::of_field(Field::Level)), ["INFO"]);
        assert_eq!(keys(&SessionFinder::of_field(Field::Chosen)), ["t-1"]);
        assert_eq!(keys(&SessionFinder::of_field(Field::Component)), [""; 0]);
        assert_eq!(keys(&SessionFinder::all()), ["all"]);
        assert_eq!(keys(&SessionFinder::new(r"\d").unwrap()), ["7", "8"]);
    }

    #[test]
    fn refuses_patterns_that_are_none() {
        assert!(SessionFinder::new("(").is_err());
        assert!(SessionFinder::new(r"\d*").unwrap_err().contains("empty"));
    }

    proptest! {
        #[test]
        fn the_quick_way_agrees_with_the_regex_engine(line in r"(blk_|-|[0-9]|b| |_|blk_-?[0-9]{1,3}){0,12}") {
            let regex = Regex::new(r"blk_-?[0-9]+").unwrap();
            let expected: Vec<String> =
                regex.find_iter(line.as_bytes()).map(|m| String::from_utf8_lossy(m.as_bytes()).into_owned()).collect();
            prop_assert_eq!(all(r"blk_-?\d+", &line), expected);
        }
    }
}
