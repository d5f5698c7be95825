//! The run log: `cache/runlog.jsonl`, append-only for ever, one JSON object a line, each carrying the digest of the line
//! before (`prev`). Two kinds of entries: an `action` for every executed action (its whole key record, outputs, times,
//! place), and a `run` for every run (counts, overrides, and the digest of its stage → action map, see `runmap`).
//!
//! Only the coordinator of a run, which holds the project's lock, appends. A last line without its newline is a torn
//! write: readers do not see it, the next writer keeps it aside as `cache/torn-…` and goes on. Anything else that does
//! not fit the chain was done by somebody else and is never repaired silently.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::EngineError;
use crate::event::Reason;
use crate::failpoint;
use crate::history::{OutputRecord, RunInfo};
use crate::index::Covered;
use crate::key::KeyRecord;
use crate::sandbox::Undeclared;
use crate::sign::{Signature, Signer};

/// An executed action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActionEntry {
    /// The action key.
    pub key: Digest,
    /// What the key is made of.
    pub record: KeyRecord,
    /// Outputs by slot, as placed.
    pub outputs: BTreeMap<String, OutputRecord>,
    /// The stage's full name.
    pub stage: String,
    /// The run it was executed in.
    pub run: String,
    /// The pipeline file, relative to the project root.
    pub pipeline: String,
    /// Why it was executed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// When it started (RFC 3339, UTC).
    pub started: String,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Thread tokens it had.
    pub threads: usize,
    /// Most memory, in bytes: of a shell stage's processes together; of the whole program while a built-in stage ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<u64>,
    /// What the stage warned of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What it touched without declaring it, where that was watched.
    #[serde(default, skip_serializing_if = "Undeclared::is_empty")]
    pub undeclared: Undeclared,
    /// Named roots its inputs lie in: where each was.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub roots: BTreeMap<String, String>,
    /// Names (never values) of the secrets it was given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// The run that found these outputs to be what another stage or pipeline needs, if it was not executed for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reused_by: Option<String>,
    /// The machine.
    pub host: String,
    /// Operating system and architecture.
    pub platform: String,
    /// Version of the program.
    pub program: String,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunEntry {
    /// What is shown of it.
    #[serde(flatten)]
    pub info: RunInfo,
    /// Root object of its stage → action map.
    pub map: Digest,
    /// Named roots: where each was.
    #[serde(default)]
    pub roots: BTreeMap<String, String>,
    /// The machine, operating system and architecture.
    pub host: String,
    /// What was wrong with the log when the run began; evidence that stays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damage: Vec<String>,
    /// Over the rest of its line; added where the line is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
}

/// An entry of the run log.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum Entry {
    /// An executed action.
    Action(Box<ActionEntry>),
    /// A run.
    Run(Box<RunEntry>),
}

#[derive(Deserialize)]
struct Head {
    prev: Digest,
    entry: Kind,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Action,
    Run,
}

impl Entry {
    /// Reads a line (without its newline): the digest of the line before, and the entry.
    ///
    /// # Errors
    /// It is no entry.
    pub fn parse(line: &[u8]) -> Result<(Digest, Self), serde_json::Error> {
        let head: Head = serde_json::from_slice(line)?;
        let entry = match head.entry {
            Kind::Action => Self::Action(serde_json::from_slice(line)?),
            Kind::Run => Self::Run(serde_json::from_slice(line)?),
        };
        Ok((head.prev, entry))
    }

    fn line(&self, prev: &Digest) -> String {
        let entry = serde_json::to_string(self).expect("entries have string keys and finite numbers only");
        format!("{{\"prev\":\"{prev}\",{}\n", &entry[1..])
    }
}

/// Returns what the first line carries as `prev`.
pub fn genesis() -> Digest {
    Digest::of_bytes(b"logweir run log v1")
}

/// Returns where the run log of a cache folder is.
pub fn path_in(cache: &Path) -> PathBuf {
    cache.join("runlog.jsonl")
}

/// A whole line of the log.
pub struct Line {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Its bytes, without the newline.
    pub bytes: Vec<u8>,
}

impl Line {
    /// Returns the digest the next line carries.
    pub fn digest(&self) -> Digest {
        Digest::of_bytes(&self.bytes)
    }
}

/// Reads whole lines from `offset` on; a torn last line is not seen.
///
/// # Errors
/// The log exists but cannot be read.
pub fn lines(cache: &Path, offset: u64) -> Result<impl Iterator<Item = io::Result<Line>>, EngineError> {
    let path = path_in(cache);
    let reader = match File::open(&path) {
        Ok(mut file) => {
            file.seek(SeekFrom::Start(offset)).map_err(EngineError::io("read", &path))?;
            Some(BufReader::with_capacity(1 << 16, file))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(EngineError::io("read", &path)(e)),
    };
    let mut at = offset;
    Ok(reader.into_iter().flat_map(move |mut reader| {
        std::iter::from_fn(move || {
            let mut bytes = Vec::new();
            match reader.read_until(b'\n', &mut bytes) {
                Ok(_) if bytes.last() == Some(&b'\n') => {
                    let offset = at;
                    at += bytes.len() as u64;
                    bytes.pop();
                    Some(Ok(Line { offset, bytes }))
                }
                Ok(_) => None,
                Err(e) => Some(Err(e)),
            }
        })
    }))
}

/// Reads the line that begins at `offset`.
///
/// # Errors
/// There is no whole line.
pub fn line_at(cache: &Path, offset: u64) -> Result<Line, EngineError> {
    let missing = || io::Error::new(io::ErrorKind::UnexpectedEof, format!("no entry at byte {offset}"));
    let path = path_in(cache);
    let line = lines(cache, offset)?.next().unwrap_or_else(|| Err(missing()));
    line.map_err(EngineError::io("read", &path))
}

/// Returns whether a line that was read before is still where it was.
pub fn ends_with(cache: &Path, covered: &Covered) -> bool {
    line_at(cache, covered.last)
        .is_ok_and(|line| line.digest() == covered.head && line.offset + line.bytes.len() as u64 + 1 == covered.len)
}

/// Returns the digest that a line carries of the line before; `None` if it is no entry.
pub fn prev_of(line: &[u8]) -> Option<Digest> {
    serde_json::from_slice::<Head>(line).ok().map(|head| head.prev)
}

/// Reads the action that begins at `offset`.
///
/// # Errors
/// There is none.
pub fn action_at(cache: &Path, offset: u64) -> Result<ActionEntry, EngineError> {
    let path = path_in(cache);
    let wrong = |why: String| EngineError::io("read", &path)(io::Error::new(io::ErrorKind::InvalidData, why));
    match Entry::parse(&line_at(cache, offset)?.bytes) {
        Ok((_, Entry::Action(action))) => Ok(*action),
        Ok(_) => Err(wrong(format!("the entry at byte {offset} is no action"))),
        Err(e) => Err(wrong(format!("the entry at byte {offset}: {e}"))),
    }
}

/// Reads the run that begins at `offset`.
///
/// # Errors
/// There is none.
pub fn run_at(cache: &Path, offset: u64) -> Result<RunEntry, EngineError> {
    let path = path_in(cache);
    let wrong = |why: String| EngineError::io("read", &path)(io::Error::new(io::ErrorKind::InvalidData, why));
    match Entry::parse(&line_at(cache, offset)?.bytes) {
        Ok((_, Entry::Run(run))) => Ok(*run),
        Ok(_) => Err(wrong(format!("the entry at byte {offset} is no run"))),
        Err(e) => Err(wrong(format!("the entry at byte {offset}: {e}"))),
    }
}

/// The log, open for appending.
pub struct Writer {
    file: File,
    path: PathBuf,
    len: u64,
    head: Digest,
    signer: Option<Signer>,
}

impl Writer {
    /// Opens the log; a torn last line is moved to `cache/torn-OFFSET` and returned. `head` is the digest of the last
    /// whole line.
    ///
    /// # Errors
    /// The log is not writable.
    pub fn open(cache: &Path, head: Digest, len: u64) -> Result<(Self, Option<PathBuf>), EngineError> {
        let path = path_in(cache);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(EngineError::io("open", &path))?;
        let real = file.metadata().map_err(EngineError::io("look at", &path))?.len();
        let mut torn = None;
        if real > len {
            let mut tail = Vec::new();
            file.seek(SeekFrom::Start(len)).map_err(EngineError::io("read", &path))?;
            file.read_to_end(&mut tail).map_err(EngineError::io("read", &path))?;
            let aside = cache.join(format!("torn-{len}-{}", Digest::of_bytes(&tail).short()));
            failpoint::write("torn_half", &aside, &tail).map_err(EngineError::io("write", &aside))?;
            failpoint::hit("torn_kept");
            file.set_len(len).map_err(EngineError::io("write", &path))?;
            failpoint::hit("torn_cut");
            torn = Some(aside);
        }
        file.seek(SeekFrom::Start(len)).map_err(EngineError::io("write", &path))?;
        Ok((Self { file, path, len, head, signer: None }, torn))
    }

    /// Signs the runs that are appended from now on.
    pub fn sign_with(&mut self, signer: Option<Signer>) {
        self.signer = signer;
    }

    /// Appends an entry with one write; returns where it begins. It is durable after the next sync of the file.
    ///
    /// # Errors
    /// The disk is full or the log not writable; nothing of the entry is left then.
    pub fn append(&mut self, entry: &Entry) -> Result<u64, EngineError> {
        let mut line = entry.line(&self.head);
        if let (Entry::Run(_), Some(signer)) = (entry, &self.signer) {
            line = signer.signed(line.trim_end()) + "\n";
        }
        let offset = self.len;
        let action = matches!(entry, Entry::Action(_));
        failpoint::hit(if action { "action_before" } else { "run_before" });
        failpoint::torn(if action { "action_half" } else { "run_half" }, line.as_bytes(), |h| self.file.write_all(h));
        if let Err(e) = self.file.write_all(line.as_bytes()) {
            let _ = self.file.set_len(offset);
            let _ = self.file.seek(SeekFrom::Start(offset));
            return Err(EngineError::io("write", &self.path)(e));
        }
        self.len += line.len() as u64;
        self.head = Digest::of_bytes(&line.as_bytes()[..line.len() - 1]);
        failpoint::hit(if action { "action_after" } else { "run_after" });
        Ok(offset)
    }

    /// Makes everything appended durable.
    ///
    /// # Errors
    /// The disk did not take it.
    pub fn sync(&self) -> Result<(), EngineError> {
        self.file.sync_data().map_err(EngineError::io("sync", &self.path))
    }

    /// Returns the digest of the last line.
    pub fn head(&self) -> Digest {
        self.head
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns whether the log has no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns another handle, for syncing from another thread.
    ///
    /// # Errors
    /// The system has no handle left.
    pub fn handle(&self) -> Result<File, EngineError> {
        self.file.try_clone().map_err(EngineError::io("open", &self.path))
    }
}

/// Something in the log that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Line number, 1 for the first.
    pub line: u64,
    /// What does not fit.
    pub what: String,
}

/// A line of the log that was looked at.
pub struct Checked {
    /// Line number, 1 for the first.
    pub number: u64,
    /// The line.
    pub line: Line,
    /// Its digest.
    pub digest: Digest,
    /// The entry, if it is one.
    pub entry: Option<Entry>,
}

/// Checks the whole chain; hands every line to `take`, also one that is no entry.
///
/// # Errors
/// The log exists but cannot be read.
pub fn check(cache: &Path, mut take: impl FnMut(Checked)) -> Result<Vec<Damage>, EngineError> {
    let path = path_in(cache);
    let (mut head, mut number, mut damage) = (genesis(), 0, Vec::new());
    for line in lines(cache, 0)? {
        let line = line.map_err(EngineError::io("read", &path))?;
        number += 1;
        let digest = line.digest();
        let entry = match Entry::parse(&line.bytes) {
            Ok((prev, entry)) => {
                if prev != head {
                    let what =
                        format!("it follows a line with digest {}, the line before has {}", prev.short(), head.short());
                    damage.push(Damage { line: number, what });
                }
                Some(entry)
            }
            Err(e) => {
                damage.push(Damage { line: number, what: format!("it is no entry: {e}") });
                None
            }
        };
        take(Checked { number, line, digest, entry });
        head = digest;
    }
    Ok(damage)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use super::*;
    use crate::key::SCHEMA;

    /// An action of a stage with one parameter and one output.
    pub(crate) fn action(stage: &str, n: u64) -> ActionEntry {
        let record = KeyRecord {
            code: None,
            command: Some("make".to_owned()),
            effect: None,
            env: BTreeMap::new(),
            inputs: BTreeMap::new(),
            kind: None,
            outputs: BTreeMap::from([("o".to_owned(), Some(format!("out/{stage}")))]),
            params: serde_json::json!({ "n": n }),
            schema: SCHEMA,
            tools: BTreeMap::new(),
            version: None,
        };
        let output = OutputRecord {
            path: format!("out/{stage}"),
            digest: Digest::of_bytes(stage.as_bytes()),
            size: n,
            executable: false,
        };
        ActionEntry {
            key: record.key(),
            record,
            outputs: BTreeMap::from([("o".to_owned(), output)]),
            stage: stage.to_owned(),
            run: "r1".to_owned(),
            pipeline: "pipeline.yaml".to_owned(),
            reasons: Vec::new(),
            started: "2000-01-01T00:00:00Z".to_owned(),
            seconds: 0.5,
            threads: 1,
            peak_memory: None,
            undeclared: Undeclared::default(),
            warnings: vec!["quoted \" and\nbroken".to_owned()],
            roots: BTreeMap::new(),
            secrets: Vec::new(),
            reused_by: None,
            host: "here".to_owned(),
            platform: "linux-x86_64".to_owned(),
            program: "0".to_owned(),
        }
    }

    fn log_of(cache: &Path, count: u64) -> Vec<u8> {
        let (mut writer, torn) = Writer::open(cache, genesis(), 0).unwrap();
        assert!(torn.is_none());
        for n in 0..count {
            writer.append(&Entry::Action(Box::new(action(&format!("s{n}"), n)))).unwrap();
        }
        fs::read(path_in(cache)).unwrap()
    }

    #[test]
    fn entries_survive_and_the_chain_holds() {
        let dir = tempfile::tempdir().unwrap();
        log_of(dir.path(), 3);
        let mut seen = Vec::new();
        let damage = check(dir.path(), |line| seen.push((line.line.offset, line.entry))).unwrap();
        assert_eq!((seen.len(), damage), (3, vec![]));
        assert_eq!(action_at(dir.path(), seen[2].0).unwrap(), action("s2", 2));
        assert!(run_at(dir.path(), seen[2].0).is_err());
        assert!(action_at(dir.path(), seen[2].0 + 1).is_err());
    }

    #[test]
    fn a_log_cut_at_any_byte_loses_only_the_last_line_and_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let whole = log_of(dir.path(), 2);
        let first = whole.iter().position(|b| *b == b'\n').unwrap() + 1;
        for cut in 0..whole.len() {
            fs::write(path_in(dir.path()), &whole[..cut]).unwrap();
            let mut count = 0;
            let damage = check(dir.path(), |_| count += 1).unwrap();
            assert_eq!((count, damage.len()), (u64::from(cut >= first), 0), "cut at {cut}");
            let (len, head) =
                if cut >= first { (first, Digest::of_bytes(&whole[..first - 1])) } else { (0, genesis()) };
            let (mut writer, torn) = Writer::open(dir.path(), head, len as u64).unwrap();
            assert_eq!(torn.is_some(), cut != len);
            if let Some(torn) = torn {
                assert_eq!(fs::read(&torn).unwrap(), &whole[len..cut]);
                fs::remove_file(torn).unwrap();
            }
            writer.append(&Entry::Action(Box::new(action("next", 9)))).unwrap();
            let damage = check(dir.path(), |_| {}).unwrap();
            assert_eq!(damage, vec![]);
        }
    }

    #[test]
    fn a_flipped_byte_in_a_whole_line_is_always_found() {
        let dir = tempfile::tempdir().unwrap();
        let whole = log_of(dir.path(), 3);
        let last = whole[..whole.len() - 1].iter().rposition(|b| *b == b'\n').unwrap() + 1;
        // The last line has no successor that vouches for it: its head is kept in the index and the lock file.
        for at in (0..last).step_by(7) {
            let mut broken = whole.clone();
            broken[at] ^= 4;
            fs::write(path_in(dir.path()), &broken).unwrap();
            let damage = check(dir.path(), |_| {}).unwrap();
            assert!(!damage.is_empty(), "byte {at}");
        }
    }
}
