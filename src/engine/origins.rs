//! Where in the run log to look: for a path, the actions that wrote or read it; for content, the actions that gave or
//! read it; for a key, its actions. Derived from the log and rebuildable at any time; brought up to it by the first
//! question after a run, so that a run writes nothing more than before.
//!
//! File `cache/origins`, sealed: a magic, how much of the log is covered, and six tables of rows (first eight bytes of
//! a digest, place in the log), sorted. What a row says is checked against the entry it leads to, so rows are short.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::compiled::{unsealed, write_sealed};
use crate::digest::Digest;
use crate::error::EngineError;
use crate::index::Covered;
use crate::map::{COLLECTOR, whole_of};
use crate::runlog;
use crate::store::Store;

const MAGIC: &[u8; 8] = b"LWORIG2\n";
/// Reading fewer bytes of the log than this at every question is cheaper than writing the file.
const REWRITE_FROM: u64 = 64 << 10;

type Row = (u64, u64);

/// The tables.
#[derive(Default)]
pub(crate) struct Origins {
    /// Path → actions that wrote it.
    made: Vec<Row>,
    /// Path → actions that read it.
    read: Vec<Row>,
    /// Folder → actions that wrote something in it.
    made_in: Vec<Row>,
    /// File, piece or folder → actions that read it, a piece of it, its lineage, or something in it; and by another word
    /// those that read a folder as a whole.
    read_in: Vec<Row>,
    /// Content of outputs, of files in output folders, and of inputs → actions.
    contents: Vec<Row>,
    /// Key → actions.
    keys: Vec<Row>,
}

/// What the tables need of an action.
#[derive(Deserialize)]
struct Action {
    key: Digest,
    record: Record,
    outputs: BTreeMap<String, Output>,
}

#[derive(Deserialize)]
struct Record {
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    inputs: BTreeMap<String, Option<BTreeMap<String, Digest>>>,
}

#[derive(Deserialize)]
struct Output {
    path: String,
    digest: Digest,
}

impl Origins {
    /// Reads the tables and brings them up to the log.
    ///
    /// # Errors
    /// The log exists but cannot be read.
    pub(crate) fn open(cache: &Path, store: &Store) -> Result<Self, EngineError> {
        let file = cache.join("origins");
        let kept = fs::read(&file).ok().and_then(|bytes| Self::decode(unsealed(&bytes)?));
        let kept = kept.filter(|(covered, _)| runlog::ends_with(cache, covered));
        let (mut covered, mut origins) = match kept {
            Some((covered, origins)) => (Some(covered), origins),
            None => (None, Self::default()),
        };
        let from = covered.map_or(0, |covered| covered.len);
        let mut last = None;
        for line in runlog::lines(cache, from)? {
            let line = line.map_err(EngineError::io("read", &runlog::path_in(cache)))?;
            // A run is no action; what is neither, `verify` names.
            let head = &line.bytes[..line.bytes.len().min(128)];
            if head.windows(16).any(|word| word == b"\"entry\":\"action\"")
                && let Ok(action) = serde_json::from_slice::<Action>(&line.bytes)
            {
                origins.add(line.offset, &action, store);
            }
            last = Some(line);
        }
        if let Some(line) = last {
            let len = line.offset + line.bytes.len() as u64 + 1;
            for table in origins.tables_mut() {
                table.sort_unstable();
                table.dedup();
            }
            if len - from >= REWRITE_FROM {
                covered = Some(Covered { len, lines: 0, last: line.offset, head: line.digest() });
                // A folder that cannot be written to costs time at every question, nothing else.
                let _ = covered.map(|covered| write_sealed(&file, origins.encode(&covered)));
            }
        }
        Ok(origins)
    }

    fn tables(&self) -> [&Vec<Row>; 6] {
        [&self.made, &self.read, &self.made_in, &self.read_in, &self.contents, &self.keys]
    }

    fn tables_mut(&mut self) -> [&mut Vec<Row>; 6] {
        let Self { made, read, made_in, read_in, contents, keys } = self;
        [made, read, made_in, read_in, contents, keys]
    }

    fn add(&mut self, at: u64, action: &Action, store: &Store) {
        self.keys.push((word(&action.key), at));
        // Its items say what is in the folder of a mapped stage.
        let collector = action.record.kind.as_deref() == Some(COLLECTOR);
        for output in action.outputs.values() {
            self.made.push((path_word(&output.path), at));
            self.made_in.extend(folders(&output.path).map(|folder| (path_word(folder), at)));
            self.contents.push((word(&output.digest), at));
            if output.path.ends_with('/')
                && !collector
                && let Ok(manifest) = store.manifest(&output.digest)
            {
                self.contents.extend(manifest.files.values().map(|fact| (word(&fact.digest), at)));
            }
        }
        for (path, digest) in action.record.inputs.values().flatten().flatten() {
            let of = path.trim_start_matches("lineage:");
            let file = whole_of(of);
            let parts = std::iter::once(of).chain(file).chain(folders(file.unwrap_or(of)));
            self.read_in.extend(parts.map(|part| (path_word(part), at)));
            self.read_in.extend(of.ends_with('/').then(|| (whole_word(of), at)));
            if !collector {
                self.read.push((path_word(path), at));
                self.contents.push((word(digest), at));
            }
        }
    }

    fn encode(&self, covered: &Covered) -> Vec<u8> {
        let tables = self.tables();
        let mut bytes = Vec::with_capacity(128 + tables.iter().map(|table| table.len() * 16).sum::<usize>());
        bytes.extend_from_slice(MAGIC);
        for number in [covered.len, covered.lines, covered.last] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(covered.head.as_bytes());
        for table in tables {
            bytes.extend_from_slice(&(table.len() as u64).to_le_bytes());
        }
        for (word, at) in tables.into_iter().flatten() {
            bytes.extend_from_slice(&word.to_le_bytes());
            bytes.extend_from_slice(&at.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<(Covered, Self)> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (numbers, rest) = rest.split_at_checked(24)?;
        let number = |bytes: &[u8], n: usize| Some(u64::from_le_bytes(*bytes.get(n * 8..)?.first_chunk()?));
        let (head, rest) = rest.split_first_chunk::<32>()?;
        let covered = Covered {
            len: number(numbers, 0)?,
            lines: number(numbers, 1)?,
            last: number(numbers, 2)?,
            head: Digest::from(*head),
        };
        let (counts, mut rest) = rest.split_at_checked(48)?;
        let mut table = |n: usize| {
            let (rows, after) = rest.split_at_checked(usize::try_from(number(counts, n)?).ok()?.checked_mul(16)?)?;
            rest = after;
            let (rows, _): (&[[u8; 16]], _) = rows.as_chunks();
            let half = |row: &[u8; 16], n: usize| number(row, n).unwrap_or_default();
            Some(rows.iter().map(|row| (half(row, 0), half(row, 1))).collect::<Vec<Row>>())
        };
        let mut origins = Self::default();
        for (n, place) in origins.tables_mut().into_iter().enumerate() {
            *place = table(n)?;
        }
        Some((covered, origins))
    }

    /// Returns where the actions are that may have written a path, in the order of the log.
    pub(crate) fn made(&self, path: &str) -> Vec<u64> {
        find(&self.made, path_word(path))
    }

    /// Returns where the actions are that may have read a path.
    pub(crate) fn read(&self, path: &str) -> Vec<u64> {
        find(&self.read, path_word(path))
    }

    /// Returns where the actions are that may have written something in a folder.
    pub(crate) fn made_in(&self, folder: &str) -> Vec<u64> {
        find(&self.made_in, path_word(folder))
    }

    /// Returns where the actions are that may have read a file or a folder, part of it, its lineage, or a folder around it.
    pub(crate) fn readers(&self, path: &str) -> Vec<u64> {
        let mut places = find(&self.read_in, path_word(path));
        folders(path).for_each(|folder| places.append(&mut find(&self.read_in, whole_word(folder))));
        places
    }

    /// Returns where the actions are that may have given or read this content.
    pub(crate) fn content(&self, digest: &Digest) -> Vec<u64> {
        find(&self.contents, word(digest))
    }

    /// Returns where the actions of a key may be.
    pub(crate) fn key(&self, key: &Digest) -> Vec<u64> {
        find(&self.keys, word(key))
    }

    /// Returns where actions may be whose key or content begins with these hexadecimal digits, the latest of each.
    pub(crate) fn beginning(&self, digits: &str) -> Vec<u64> {
        let digits = &digits[..digits.len().min(16)];
        let bound = |fill: &str| u64::from_str_radix(&format!("{digits}{}", fill.repeat(16 - digits.len())), 16);
        let (Ok(low), Ok(high)) = (bound("0"), bound("f")) else { return Vec::new() };
        let mut latest = BTreeMap::new();
        for table in [&self.contents, &self.keys] {
            let from = table.partition_point(|row| row.0 < low);
            latest.extend(table[from..].iter().take_while(|row| row.0 <= high).copied());
        }
        latest.into_values().collect()
    }
}

/// Returns the folders around a path, each with its slash, the outermost first.
pub(crate) fn folders(path: &str) -> impl Iterator<Item = &str> {
    path.trim_end_matches('/').match_indices('/').map(|(at, _)| &path[..=at])
}

fn find(table: &[Row], word: u64) -> Vec<u64> {
    let from = table.partition_point(|row| row.0 < word);
    table[from..].iter().take_while(|row| row.0 == word).map(|row| row.1).collect()
}

fn word(digest: &Digest) -> u64 {
    u64::from_be_bytes(*digest.as_bytes().first_chunk().expect("a digest has 32 bytes"))
}

fn path_word(path: &str) -> u64 {
    word(&Digest::of_bytes(path.as_bytes()))
}

/// The word of a folder where it is read as a whole.
fn whole_word(folder: &str) -> u64 {
    path_word(&format!("{folder}\0"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runlog::tests::action;
    use crate::runlog::{Entry, Writer};
    use crate::spec::Link;

    #[test]
    fn what_the_file_says_is_what_the_log_says_and_a_broken_file_is_built_again() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, store) = (dir.path(), Store::new(dir.path(), dir.path(), Link::Auto));
        let (mut writer, _) = Writer::open(cache, runlog::genesis(), 0).unwrap();
        let places: Vec<u64> =
            (0..200).map(|n| writer.append(&Entry::Action(Box::new(action(&format!("s{n}"), n)))).unwrap()).collect();
        let file = cache.join("origins");
        let check = || {
            let origins = Origins::open(cache, &store).unwrap();
            for (n, at) in places.iter().enumerate() {
                let entry = action(&format!("s{n}"), n as u64);
                assert_eq!(origins.made(&format!("out/s{n}")), [*at]);
                assert_eq!(origins.key(&entry.key), [*at]);
                assert_eq!(origins.made_in("out/"), places);
                assert_eq!(origins.content(&entry.outputs["o"].digest), [*at]);
                assert_eq!(origins.beginning(&entry.key.to_string()[..14]), [*at]);
            }
            assert_eq!(origins.made("out/none"), [0; 0]);
        };
        check();
        let bytes = fs::read(&file).unwrap();
        check();
        for at in (0..bytes.len()).step_by(bytes.len() / 7) {
            let mut broken = bytes.clone();
            broken[at] ^= 1;
            fs::write(&file, broken).unwrap();
            check();
            assert_eq!(fs::read(&file).unwrap(), bytes, "written anew");
        }
        // Of another log: not believed.
        let mut other = fs::read(runlog::path_in(cache)).unwrap();
        let end = other.len() - 2;
        other[end] = b' ';
        fs::write(runlog::path_in(cache), other).unwrap();
        assert!(Origins::open(cache, &store).unwrap().key(&action("s199", 199).key).is_empty());
    }
}
