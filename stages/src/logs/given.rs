//! Templates that the user brings: `EventId,EventTemplate`, with `<*>` or `[*]` for anything.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, bail};

use super::mask;

/// A template with a name of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenTemplate {
    /// The name (`E5`).
    pub id: String,
    /// The text, white space collapsed, every gap written `<*>`.
    pub text: String,
}

impl GivenTemplate {
    /// Makes a template; `[*]` and `<*>` both stand for any text, also none.
    pub fn new(id: &str, text: &str) -> Self {
        let text = text.replace("[*]", "<*>");
        Self { id: id.to_owned(), text: text.split_whitespace().collect::<Vec<_>>().join(" ") }
    }

    fn pieces(&self) -> Vec<&str> {
        self.text.split("<*>").collect()
    }

    /// Returns whether the whole message (white space collapsed) is of this template.
    pub fn matches(&self, message: &str) -> bool {
        let pieces = self.pieces();
        let [first, middle @ .., last] = pieces.as_slice() else { return message == self.text };
        let Some(mut rest) = message.strip_prefix(first) else { return false };
        for piece in middle {
            let Some(at) = rest.find(piece) else { return false };
            rest = &rest[at + piece.len()..];
        }
        rest.ends_with(last)
    }

    /// Returns the number of characters that are spelt out: of two matching templates the more specific has more.
    pub fn specificity(&self) -> usize {
        self.pieces().iter().map(|p| p.chars().count()).sum()
    }
}

/// Finds the template of a message among given ones: the most specific match, the first of equals.
#[derive(Clone, Debug, Default)]
pub struct GivenTemplates {
    /// In the order of their file.
    pub all: Vec<GivenTemplate>,
    by_specificity: Vec<usize>,
}

impl GivenTemplates {
    /// Takes templates in order.
    pub fn new(all: Vec<GivenTemplate>) -> Self {
        let mut by_specificity: Vec<usize> = (0..all.len()).collect();
        by_specificity.sort_by_key(|&i| std::cmp::Reverse(all[i].specificity()));
        Self { all, by_specificity }
    }

    /// Reads `EventId,EventTemplate`.
    ///
    /// # Errors
    /// The file is unreadable, lacks a column, names a template twice or has an empty one.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let mut reader =
            csv::Reader::from_path(path).with_context(|| format!("cannot read templates {}", path.display()))?;
        let headers = reader.headers().with_context(|| format!("cannot read templates {}", path.display()))?.clone();
        let column = |names: &[&str]| {
            headers.iter().position(|h| names.iter().any(|n| h.trim().eq_ignore_ascii_case(n))).with_context(|| {
                format!(
                    "{} has no column `{}`, only {:?}",
                    path.display(),
                    names[0],
                    headers.iter().collect::<Vec<_>>()
                )
            })
        };
        let (id, text) = (column(&["EventId", "event_id"])?, column(&["EventTemplate", "text"])?);
        let mut all = Vec::new();
        let mut seen = BTreeSet::new();
        for record in reader.records() {
            let record = record.with_context(|| format!("cannot read templates {}", path.display()))?;
            let line = record.position().map_or(0, csv::Position::line);
            let template = GivenTemplate::new(record[id].trim(), &record[text]);
            if template.text.is_empty() || template.id.is_empty() {
                bail!("{} line {line}: a template needs an id and a text", path.display());
            }
            if !seen.insert(template.id.clone()) {
                bail!("{} line {line}: template `{}` is given twice", path.display(), template.id);
            }
            all.push(template);
        }
        Ok(Self::new(all))
    }

    /// Returns the number of the template of a message.
    pub fn find(&self, message: &[u8]) -> Option<usize> {
        if self.all.is_empty() {
            return None;
        }
        let message = super::rows::text(message);
        let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        self.by_specificity.iter().copied().find(|&i| self.all[i].matches(&message))
    }

    /// Returns the words that templates spell out and masks would hide (`404`, `HTTP/1.1`): they are not variable.
    pub fn spelt_out(&self) -> BTreeSet<Vec<u8>> {
        let mut words = BTreeSet::new();
        for template in &self.all {
            let pieces = template.pieces();
            for (i, piece) in pieces.iter().enumerate() {
                mask::whole_words(piece.as_bytes(), i > 0, i + 1 < pieces.len(), |word| {
                    words.insert(word.to_vec());
                });
            }
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(texts: &[&str]) -> GivenTemplates {
        GivenTemplates::new(texts.iter().enumerate().map(|(i, t)| GivenTemplate::new(&format!("E{i}"), t)).collect())
    }

    #[test]
    fn the_most_specific_match_wins() {
        let all = given(&[
            "[*]Received block[*]of size[*]from[*]",
            "[*]Received block[*]src:[*]dest:[*]of size[*]",
            "<*>block<*>",
        ]);
        assert_eq!(all.find(b"Received block blk_1 of size 5 from /10.0.0.1"), Some(0));
        assert_eq!(all.find(b"Received block blk_1 src: a dest: b of size 5"), Some(1));
        assert_eq!(all.find(b"a  block"), Some(2));
        assert_eq!(all.find(b"nothing"), None);
    }

    #[test]
    fn a_template_covers_the_whole_message() {
        let template = GivenTemplate::new("E", "ab<*>ab");
        assert!(template.matches("abab") && template.matches("ab x ab"));
        assert!(!template.matches("ab") && !template.matches("xabab") && !template.matches("ababx"));
        assert!(GivenTemplate::new("E", "exactly").matches("exactly"));
        assert!(!GivenTemplate::new("E", "exactly").matches("exactly so"));
    }

    #[test]
    fn words_that_templates_spell_out_are_known() {
        let words = given(&["status: 404 of blk_<*> HTTP/1.1", "code <*>7 8"]).spelt_out();
        let words: Vec<_> = words.iter().map(|w| String::from_utf8_lossy(w).into_owned()).collect();
        assert_eq!(words, ["404", "8", "HTTP/1.1"]);
    }

    #[test]
    fn a_file_with_a_fault_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        let fault = |text: &str| {
            std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), text.as_bytes()).unwrap();
            format!("{:#}", GivenTemplates::read(&path).unwrap_err())
        };
        assert!(fault("EventId,Words\nE1,a\n").contains("no column `EventTemplate`"));
        assert!(fault("EventId,EventTemplate\nE1,a\nE1,b\n").contains("line 3: template `E1` is given twice"));
        assert!(fault("EventId,EventTemplate\nE1,\n").contains("line 2"));
    }
}
