//! What about a file hints at a parameter that does not suit it.

use super::{FileSummary, MaskParams, whole_of};
use crate::logs::entries::Leading;
use crate::logs::read::End;
use crate::logs::rows::FileTables;

/// Share of rejected lines from which on a file is suspicious.
const SUSPICIOUS: f64 = 0.05;

/// Lines from which on masks are judged.
const LINES: u64 = 1_000;

impl FileSummary {
    /// Returns what is suspicious about the file. Lines that may be `leading` count where there is no other reason for them.
    pub(super) fn suspicions(&self, end: &End, leading: &[Leading]) -> Vec<String> {
        let mut warnings = Vec::new();
        let path = &self.path;
        if let Some(why) = &end.truncated {
            warnings.push(format!("{path} is truncated: {why}; the {} lines before are used", self.lines));
        }
        if end.grew {
            warnings.push(format!("{path} grew while it was read; it was read up to the size it had at first"));
        }
        if self.lines == 0 && end.truncated.is_none() {
            warnings.push(format!("{path} is empty"));
        }
        let leading = if self.parsed > 0 || whole_of(path).1 > 0 { leading } else { &[] };
        let rejected = self.rejected - leading.len() as u64;
        let share = rejected as f64 / (self.parsed + rejected).max(1) as f64;
        if share > SUSPICIOUS {
            let first = self.rejected_samples.iter().find(|s| leading.iter().all(|l| l.line != s.line));
            let first = first.map(|s| format!(", the first in line {} ({})", s.line, s.why)).unwrap_or_default();
            warnings.push(format!(
                "{path}: {} of {} lines ({:.1} %) are malformed{first}; is `format` right?",
                rejected,
                self.lines,
                100.0 * share
            ));
        }
        if self.continued > 9 * self.parsed {
            warnings.push(format!(
                "{path}: {} of {} lines start no entry and count as parts of the {} that do; are `format` and `multiline` right?",
                self.continued, self.lines, self.parsed
            ));
        }
        if self.parsed > 0 && self.sessions == 0 {
            warnings.push(format!("{path}: no line has a session key; is `session` right?"));
        }
        if self.parsed > 0 && self.first.is_none() {
            warnings.push(format!("{path}: no line has a time that can be read; is `timestamp_format` right?"));
        }
        warnings
    }

    /// Adds warnings of masks that hide all that messages say, and of masks of the user's that hide nothing.
    pub(super) fn suspect_masks(&mut self, masks: &MaskParams, tables: &FileTables) {
        if self.parsed < LINES {
            return;
        }
        let path = &self.path;
        let forms = || tables.names.forms.iter().zip(&tables.names.uses);
        let blank: u64 = forms().filter(|(form, _)| is_blank(form)).map(|(_, used)| used.count).sum();
        if blank * 2 > self.parsed {
            self.warnings.push(format!(
                "{path}: {blank} of {} messages ({:.1} %) are nothing but what masks hide; narrow those of `masks.custom`, or set some of the others to false",
                self.parsed,
                100.0 * blank as f64 / self.parsed as f64
            ));
        }
        for (number, mask) in masks.custom.iter().enumerate() {
            let wildcard = format!("<{}>", mask.name);
            if !forms().any(|(form, _)| memchr::memmem::find(form, wildcard.as_bytes()).is_some()) {
                self.warnings.push(format!(
                    "{path}: `masks.custom.{number}` matches in no message that masks before it leave: `{wildcard}` is never written; is its expression right, for the message alone, without time and component?"
                ));
            }
        }
    }
}

/// Whether a form has letters only in wildcards, but has wildcards.
fn is_blank(form: &[u8]) -> bool {
    let (mut inside, mut wildcards) = (false, false);
    for &byte in form {
        match byte {
            b'<' => inside = true,
            b'>' if inside => (inside, wildcards) = (false, true),
            _ if !inside && (byte.is_ascii_alphabetic() || byte >= 0x80) => return false,
            _ => {}
        }
    }
    wildcards
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::run;

    #[test]
    fn messages_without_letters_are_blank() {
        assert!(is_blank(b"<num> <ip>, <*>"));
        assert!(!is_blank(b"got <num>") && !is_blank(b"--") && !is_blank("\u{fc} <num>".as_bytes()));
    }

    #[test]
    fn masks_that_hide_all_or_nothing_are_warned_of() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let lines: String = (0..LINES).map(|i| format!("081109 203530 1 INFO a: user {i} in\n")).collect();
        std::fs::write(&path, lines).unwrap();
        let warnings = |masks: Value| {
            let with = json!({"session": r"user (\d+)", "masks": {"custom": masks}});
            run(&crate::parse::kind(), &with, &[("log", "a.log", &path)], &["events/"], 2).unwrap().warnings
        };
        assert_eq!(warnings(json!([{"name": "user", "regex": r"user (\d+)"}])), [""; 0]);
        let all = warnings(json!([{"name": "all", "regex": ".+"}]));
        assert!(all.len() == 1 && all[0].contains("1000 of 1000 messages (100.0 %) are nothing but"), "{all:?}");
        let none = warnings(json!([{"name": "user", "regex": r"user (\d+)"}, {"name": "host", "regex": "host=(.+)"}]));
        assert!(none.len() == 1 && none[0].contains("`masks.custom.1` matches in no message"), "{none:?}");
    }
}
