//! Session keys: every distinct match of a regular expression in a line, in order.

use regex::bytes::Regex;

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

    /// Returns whether the keys are what [`super::shape::block`] finds: `blk_-?\d+`.
    pub fn finds_blocks(&self) -> bool {
        matches!(&self.how, How::Digits { prefix, sign: true, .. } if prefix.needle() == b"blk_")
    }

    /// Calls `found` with each match of the line, in order, repeats included.
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
