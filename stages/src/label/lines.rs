//! Labels that stand in the lines of the log itself, such as the alert column of supercomputer logs.
//!
//! The log is read once more, since `parse` keeps no fields but those that every log has; a label must not become a
//! feature by accident. Lines are counted as `parse` counts them, over all files in reading order, so that the line
//! numbers of sessions find them. Only the label of the first line of an entry counts.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, ensure};
use logweir_engine::stage::ParamError;
use regex::bytes::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::logs::byte_regex;
use crate::logs::entries::MARK;
use crate::logs::read::LogReader;
use crate::logs::rows::text;
use crate::parse::reading_order;

/// How the lines of a log tell their own label.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LineLabels {
    /// Regular expression whose first group (without one: its match) is the label of a line, `^(\S+)` for the first word.
    /// A label among `normal` is normal, every other one anomalous; a line that does not match has none.
    pub regex: String,
}

/// Returns what is wrong with it.
pub(super) fn check(lines: Option<&LineLabels>) -> Vec<ParamError> {
    let Some(lines) = lines else { return Vec::new() };
    let wrong = match byte_regex(&lines.regex) {
        Err(error) => error,
        Ok(_) if lines.regex.is_empty() => "is missing".to_owned(),
        Ok(_) => return Vec::new(),
    };
    vec![ParamError::new("lines.regex", wrong).help("such as `^(\\S+)`: the first word of a line is its label")]
}

/// What the lines of a log say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Labelled {
    /// One bit for each line of all files: whether it has a label.
    known: Vec<u64>,
    /// How many lines there are.
    count: u64,
    /// Anomalous lines (1-based over all files), ascending, with numbers in `names`.
    anomalous: Vec<(u64, u32)>,
    /// Labels of anomalous lines by number.
    names: Vec<String>,
}

/// What the lines of a session say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said<'a> {
    /// Some line is anomalous; the most frequent label of such lines, the first of several.
    Anomalous(&'a str),
    /// Some line has a label, and none is anomalous.
    Normal,
    /// No line has a label.
    Nothing,
}

impl Labelled {
    /// Reads logs, given as logical and actual paths in any order.
    ///
    /// # Errors
    /// A log cannot be read.
    pub(super) fn read(
        logs: &[(String, &Path)],
        how: &LineLabels,
        normal: &[String],
        check: impl Fn() -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let regex = byte_regex(&how.regex).map_err(|e| anyhow::anyhow!("`lines.regex`: {e}"))?;
        let mut logs = logs.to_vec();
        logs.sort_by_cached_key(|(logical, _)| reading_order(logical));
        let mut read = Self::default();
        let mut numbers: BTreeMap<Vec<u8>, Option<u32>> = BTreeMap::new();
        for (logical, path) in &logs {
            let mut reader = LogReader::open(path)?;
            let mut buffer = Vec::new();
            while let Some(chunk) = reader.next_chunk(buffer).with_context(|| format!("cannot read {logical}"))? {
                check()?;
                let mut ended = chunk.bytes.strip_suffix(b"\n").unwrap_or(&chunk.bytes);
                if chunk.offset == 0 {
                    ended = ended.strip_prefix(MARK).unwrap_or(ended);
                }
                for line in ended.split(|&b| b == b'\n') {
                    read.add(label_of(&regex, line), normal, &mut numbers);
                }
                buffer = chunk.bytes;
            }
        }
        Ok(read)
    }

    /// Adds the next line.
    fn add(&mut self, label: Option<&[u8]>, normal: &[String], numbers: &mut BTreeMap<Vec<u8>, Option<u32>>) {
        let at = self.count;
        self.count += 1;
        if self.known.len() as u64 * 64 <= at {
            self.known.push(0);
        }
        let Some(label) = label else { return };
        self.known[(at / 64) as usize] |= 1 << (at % 64);
        let number = match numbers.get(label) {
            Some(number) => *number,
            None => {
                let name = text(label).into_owned();
                let number = (!normal.iter().any(|n| n.eq_ignore_ascii_case(&name))).then(|| {
                    self.names.push(name);
                    self.names.len() as u32 - 1
                });
                numbers.insert(label.to_vec(), number);
                number
            }
        };
        if let Some(number) = number {
            self.anomalous.push((at + 1, number));
        }
    }

    /// Returns how many lines are anomalous.
    pub(super) fn anomalies(&self) -> usize {
        self.anomalous.len()
    }

    /// Returns what the lines of a session say, given by their 1-based numbers.
    ///
    /// # Errors
    /// The log has no such line.
    pub(super) fn of(&self, lines: &[u64]) -> anyhow::Result<Said<'_>> {
        let (mut any, mut counts) = (false, BTreeMap::<u32, usize>::new());
        for &line in lines {
            ensure!(
                line > 0 && line <= self.count,
                "a session has line {line}, but the log has {} lines: give the slot `log` the files that `parse` reads",
                self.count
            );
            any |= self.known[((line - 1) / 64) as usize] >> ((line - 1) % 64) & 1 == 1;
            if let Ok(at) = self.anomalous.binary_search_by_key(&line, |(line, _)| *line) {
                *counts.entry(self.anomalous[at].1).or_default() += 1;
            }
        }
        // Of equally frequent labels the one that the log has first, which has the lower number.
        let most = counts.iter().max_by(|a, b| a.1.cmp(b.1).then(b.0.cmp(a.0)));
        Ok(match most {
            Some((&number, _)) => Said::Anomalous(&self.names[number as usize]),
            None if any => Said::Normal,
            None => Said::Nothing,
        })
    }
}

fn label_of<'a>(regex: &Regex, line: &'a [u8]) -> Option<&'a [u8]> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let found = if regex.captures_len() > 1 { regex.captures(line)?.get(1) } else { regex.find(line) };
    Some(found?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_over_files_in_reading_order() {
        let dir = tempfile::tempdir().unwrap();
        let files = [("a.log", "- one\r\nFAIL two\n\n"), ("a.log.1", "- zero\nODD x\n FAIL\n")];
        let paths = files.map(|(name, bytes)| {
            std::fs::write(dir.path().join(name), bytes).unwrap();
            (name.to_owned(), dir.path().join(name))
        });
        let logs: Vec<(String, &Path)> = paths.iter().map(|(name, path)| (name.clone(), path.as_path())).collect();
        let how = LineLabels { regex: r"^(\S+)".to_owned() };
        let read = Labelled::read(&logs, &how, &["-".to_owned()], || Ok(())).unwrap();
        assert_eq!((read.count, read.anomalies()), (6, 2));
        let said = |lines: &[u64]| read.of(lines).unwrap();
        // a.log.1 is older: lines 1 to 3.
        assert_eq!((said(&[1, 4]), said(&[3, 6])), (Said::Normal, Said::Nothing));
        assert_eq!((said(&[1, 2]), said(&[5])), (Said::Anomalous("ODD"), Said::Anomalous("FAIL")));
        assert_eq!((said(&[5, 2]), said(&[2, 5, 5])), (Said::Anomalous("ODD"), Said::Anomalous("FAIL")));
        assert!(read.of(&[7]).unwrap_err().to_string().contains("has line 7, but the log has 6 lines"));
    }

    #[test]
    fn an_expression_without_a_group_is_the_label_itself() {
        let regex = byte_regex("ERROR|WARN").unwrap();
        assert_eq!(label_of(&regex, b"a WARN b ERROR\r"), Some(&b"WARN"[..]));
        assert_eq!(label_of(&regex, b"INFO"), None);
    }
}
