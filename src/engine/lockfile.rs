//! `<stem>.lock` beside the pipeline file: key and output digests of every stage, to commit with the pipeline, and the
//! head of the run log, so that a cut end of the log shows.
//!
//! Plain text made to merge: one block per stage, sorted by name, one output a line. The head is two lines at the top:
//! which log it speaks of (the digest of its first line) and the digest of its last line.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::error::EngineError;
use crate::failpoint;
use crate::fast::FastMap;
use crate::history::OutputRecord;

const FIRST_BLOCK: &str = "\n[[stage]]\n";

/// Returns the digest of the stages' blocks of a lock file, without the lines above them.
pub fn blocks_on_disk(path: &Path) -> Digest {
    fs::read_to_string(path).map_or_else(|_| Digest::of_bytes(b""), |text| blocks_of(&text))
}

/// Returns the digest of the stages' blocks of a lock file's text.
pub fn blocks_of(text: &str) -> Digest {
    Digest::of_bytes(split(text).1.as_bytes())
}

fn split(text: &str) -> (&str, &str) {
    text.split_at(text.find(FIRST_BLOCK).unwrap_or(text.len()))
}

/// The lines above the blocks, to be changed without touching the rest.
pub struct Top {
    /// Digest of the first line of the run log, and of its last.
    pub log: Option<(Digest, Digest)>,
    /// Digest of the blocks.
    pub blocks: Digest,
    /// Where the digest of the last line stands.
    head_at: Option<u64>,
}

impl Top {
    /// Reads the top of a lock file; `None` if it cannot be understood.
    pub fn read(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let (top, blocks) = split(&text);
        let marker = "\nhead = \"";
        let head_at = top.find(marker).map(|at| (at + marker.len()) as u64);
        Some(Self { log: LockFile::parse(top).ok()?.log, blocks: Digest::of_bytes(blocks.as_bytes()), head_at })
    }

    /// Puts another last line in the place of the old one, in one small write that a kill does not tear.
    ///
    /// # Errors
    /// The file is not writable.
    pub fn set_head(&self, path: &Path, head: &Digest) -> Result<(), EngineError> {
        use std::os::unix::fs::FileExt as _;
        let Some(at) = self.head_at else { return Ok(()) };
        let write = || fs::OpenOptions::new().write(true).open(path)?.write_all_at(head.to_string().as_bytes(), at);
        write().map_err(EngineError::io("write", path))
    }
}

/// What is locked of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedStage {
    /// The action key.
    pub key: Digest,
    /// Outputs by slot.
    pub outputs: BTreeMap<String, OutputRecord>,
}

impl LockedStage {
    fn write(&self, name: &str, text: &mut String) {
        text.push_str(&format!("{FIRST_BLOCK}name = {}\nkey = \"{}\"\n", quoted(name), self.key));
        for (slot, output) in &self.outputs {
            let mode = if output.executable { "x" } else { "-" };
            text.push_str(&format!(
                "output = [{}, \"{}\", {}, \"{mode}\", {}]\n",
                quoted(slot),
                output.digest,
                output.size,
                quoted(&output.path)
            ));
        }
    }
}

/// The content of a lock file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockFile {
    /// Digest of the first line of the run log, and of its last.
    pub log: Option<(Digest, Digest)>,
    /// Stages by full name.
    pub stages: BTreeMap<String, LockedStage>,
}

impl LockFile {
    /// Returns where the lock file of a pipeline file is.
    pub fn path_for(pipeline: &Path) -> PathBuf {
        pipeline.with_extension("lock")
    }

    /// Reads a lock file; an absent one is empty.
    ///
    /// # Errors
    /// It cannot be read or understood (for instance after a merge with conflicts).
    pub fn read(path: &Path) -> Result<Self, EngineError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
                return Err(EngineError::LockFile { path: path.to_path_buf(), why: "it is no text".to_owned() });
            }
            Err(e) => return Err(EngineError::io("read", path)(e)),
        };
        Self::parse(&text).map_err(|why| EngineError::LockFile { path: path.to_path_buf(), why })
    }
}

/// Writes the text of a lock file whole, if it changes.
///
/// # Errors
/// The folder is not writable.
pub fn write_text(text: &str, path: &Path) -> Result<(), EngineError> {
    let same_length = fs::metadata(path).is_ok_and(|meta| meta.len() == text.len() as u64);
    if same_length && fs::read(path).is_ok_and(|now| now == text.as_bytes()) {
        return Ok(());
    }
    let temp = path.with_extension(format!("lock.{}.tmp", std::process::id()));
    failpoint::write("lock_file_half", &temp, text.as_bytes()).map_err(EngineError::io("write", &temp))?;
    failpoint::hit("lock_file_written");
    fs::rename(&temp, path).map_err(EngineError::io("write", path))?;
    failpoint::hit("lock_file_placed");
    Ok(())
}

impl LockFile {
    /// Returns the text of a lock file with the blocks of these stages, and the top, replaced; the other blocks are not
    /// read but for their names. `None` if it does not have a block for each of them.
    pub fn spliced(&self, old: &str) -> Option<String> {
        let mut new: FastMap<String, String> = FastMap::default();
        for (name, stage) in &self.stages {
            let mut block = String::new();
            stage.write(name, &mut block);
            new.insert(quoted(name), block);
        }
        let mut text = String::with_capacity(old.len() + 1024);
        self.write_top(&mut text);
        let mut rest = split(old).1;
        while let Some(body) = rest.strip_prefix(FIRST_BLOCK) {
            let end = body.find(FIRST_BLOCK).unwrap_or(body.len());
            let (block, after) = rest.split_at(FIRST_BLOCK.len() + end);
            let name = body.strip_prefix("name = ")?.lines().next()?;
            match new.is_empty() {
                true => text.push_str(block),
                false => text.push_str(new.remove(name).as_deref().unwrap_or(block)),
            }
            rest = after;
        }
        (rest.is_empty() && new.is_empty()).then_some(text)
    }

    /// Whether the file has just the lines a run writes, in any order, for a merge may have moved blocks.
    pub(crate) fn is_as_written(&self, path: &Path) -> bool {
        let sorted = |text: &str| {
            let told = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
            let mut lines: Vec<String> = told.map(str::to_owned).collect();
            lines.sort_unstable();
            lines
        };
        fs::read_to_string(path).map_or(true, |text| sorted(&text) == sorted(&self.text()))
    }

    fn write_top(&self, text: &mut String) {
        text.push_str("# Written by logweir: keys and output digests of the last run. Commit it with the pipeline.\n");
        text.push_str("version = 1\n");
        if let Some((log, head)) = &self.log {
            text.push_str(&format!("log = \"{log}\"\nhead = \"{head}\"\n"));
        }
    }

    /// Returns the text.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(256 + self.stages.len() * 256);
        self.write_top(&mut text);
        self.stages.iter().for_each(|(name, stage)| stage.write(name, &mut text));
        text
    }

    /// Reads a text made by [`LockFile::text`].
    ///
    /// # Errors
    /// A line that is none of it, with its number.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lock = Self::default();
        let (mut log, mut head) = (None, None);
        let mut current: Option<Block> = None;
        let finish = |lock: &mut Self, block: Option<Block>| match block {
            Some((Some(name), Some(key), outputs)) => {
                lock.stages.insert(name, LockedStage { key, outputs });
                true
            }
            Some(_) => false,
            None => true,
        };
        for (number, line) in text.lines().enumerate() {
            let wrong = || format!("line {}: `{line}`", number + 1);
            let digest = |value: &str| value.trim_matches('"').parse::<Digest>().map_err(|_| wrong());
            match (line.split_once(" = "), &mut current) {
                _ if line.is_empty() || line.starts_with('#') => {}
                _ if line == "[[stage]]" => {
                    if !finish(&mut lock, current.take()) {
                        return Err(wrong());
                    }
                    current = Some((None, None, BTreeMap::new()));
                }
                (Some(("version", "1")), None) => {}
                (Some(("log", value)), None) => log = Some(digest(value)?),
                (Some(("head", value)), None) => head = Some(digest(value)?),
                (Some(("name", value)), Some(block)) => {
                    block.0 = Some(serde_json::from_str(value).map_err(|_| wrong())?);
                }
                (Some(("key", value)), Some(block)) => block.1 = Some(digest(value)?),
                (Some(("output", value)), Some(block)) => {
                    let (slot, digest, size, mode, path): (String, Digest, u64, String, String) =
                        serde_json::from_str(value).map_err(|_| wrong())?;
                    block.2.insert(slot, OutputRecord { path, digest, size, executable: mode == "x" });
                }
                _ => return Err(wrong()),
            }
        }
        if !finish(&mut lock, current.take()) {
            return Err("the last block has no name or no key".to_owned());
        }
        lock.log = log.zip(head);
        Ok(lock)
    }
}

/// A block that is being read: name, key, outputs.
type Block = (Option<String>, Option<Digest>, BTreeMap<String, OutputRecord>);

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_file_survives_its_text_and_a_conflict_is_named() {
        let output = |path: &str| OutputRecord {
            path: path.into(),
            digest: Digest::of_bytes(b"o"),
            size: 7,
            executable: path == "b",
        };
        let stage = |paths: &[&str]| LockedStage {
            key: Digest::of_bytes(paths.concat().as_bytes()),
            outputs: paths.iter().map(|p| ((*p).to_owned(), output(p))).collect(),
        };
        let lock = LockFile {
            log: Some((Digest::of_bytes(b"1"), Digest::of_bytes(b"2"))),
            stages: BTreeMap::from([("x[n=3]".into(), stage(&["a/", "b"])), ("\"y".into(), stage(&[]))]),
        };
        assert_eq!(LockFile::parse(&lock.text()).unwrap(), lock);
        assert_eq!(LockFile::parse("").unwrap(), LockFile::default());
        let new = LockFile { log: None, stages: BTreeMap::from([("x[n=3]".into(), stage(&["c"]))]) };
        let wanted =
            LockFile { log: None, stages: lock.stages.clone().into_iter().chain(new.stages.clone()).collect() };
        assert_eq!(new.spliced(&lock.text()).unwrap(), wanted.text());
        let unknown = LockFile { log: None, stages: BTreeMap::from([("m".into(), stage(&["c"]))]) };
        assert_eq!(unknown.spliced(&lock.text()), None);
        assert_eq!(new.spliced("\n[[stage]]\nkey = 1\n"), None);
        let conflict = lock.text().replace("version = 1", "<<<<<<< ours");
        assert_eq!(LockFile::parse(&conflict).unwrap_err(), "line 2: `<<<<<<< ours`");
    }
}
