//! Remembers the digest of a file by its stat identity, so that an unchanged file is not read again.
//!
//! An entry is `{ size, mtime, ctime, inode, digest, seen }`. `seen` is the file system's own clock (the time of a file
//! just touched in `cache/`) at the start of the process that hashed the file. An entry is trusted only if the whole
//! identity is equal *and* the file was at rest for two seconds when it was hashed: `max(mtime, ctime) + 2 s <= seen`.
//! Without the second condition this sequence goes wrong on disks with coarse stamps: write A, hash A, write B of equal
//! length within the same tick; the stat is equal, the content is not.
//!
//! Known hole: a writer that sets times back and keeps inode, length and ctime (only possible on disks without ctime)
//! is not seen; `--rehash` ignores the memo.
//!
//! Files: `cache/stat` and, with a few entries that are newer, `cache/stat.new`: magic, then entries sorted by path. The
//! large one is read when a file has to be looked at that the snapshot of the last run says nothing of. Losing them costs
//! a rehash, nothing else.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::EngineError;
use crate::failpoint;
use crate::fast::{FastMap, FastSet};
use crate::manifest::FileFact;
use crate::snapshot::State;

const MAGIC: &[u8; 8] = b"LWSTAT1\n";
/// How long a file must have been at rest before its stat identity is trusted.
const RACY_NS: i64 = 2_000_000_000;
/// Up to so many new entries are written beside the large file instead of writing that again.
const MOST_RECENT: usize = 1000;
/// How often a file that changes while it is read is tried again.
const ATTEMPTS: usize = 3;

/// What a file's stat says about its identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    size: u64,
    mtime: i64,
    ctime: i64,
    inode: u64,
    executable: bool,
}

impl Stat {
    /// Reads the identity of a regular file; `None` if there is none.
    ///
    /// # Errors
    /// The file cannot be looked at, or is neither file nor directory.
    pub fn of(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(meta) if meta.is_file() => Ok(Some(Self::from(&meta))),
            Ok(meta) if meta.is_dir() => Ok(None),
            Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a file nor a directory")),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Reads the identity of whatever regular file or folder is at a path relative to an open folder: shorter paths are
    /// found sooner, and ten thousand of them at that. `None` if there is nothing, or something else.
    pub fn at(folder: BorrowedFd<'_>, path: &str) -> Option<(Self, bool)> {
        use rustix::fs::{AtFlags, FileType, statat};
        let stat = statat(folder, path, AtFlags::empty()).ok()?;
        let is_folder = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => false,
            FileType::Directory => true,
            _ => return None,
        };
        let ns = |seconds: i64, ns: i64| seconds.saturating_mul(1_000_000_000).saturating_add(ns);
        #[allow(clippy::unnecessary_cast, clippy::cast_lossless, reason = "the fields' types differ between systems")]
        let found = Self {
            size: stat.st_size as u64,
            mtime: ns(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            ctime: ns(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
            inode: stat.st_ino as u64,
            executable: stat.st_mode as u32 & 0o111 != 0,
        };
        Some((found, is_folder))
    }

    /// Reads the identity of a folder; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn of_folder(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => Ok(Some(Self::from(&meta))),
            Ok(_) => Ok(None),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether it had not changed for a while when it was looked at by the clock `seen`: only then an equal identity
    /// means equal content.
    pub fn at_rest(&self, seen: i64) -> bool {
        self.newest().saturating_add(RACY_NS) <= seen
    }

    /// Whether the content could be the same: equal length and mode.
    pub fn is_like(&self, other: &Self) -> bool {
        self.size == other.size && self.executable == other.executable
    }

    /// Returns the length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    fn newest(&self) -> i64 {
        self.mtime.max(self.ctime)
    }
}

impl From<&fs::Metadata> for Stat {
    fn from(meta: &fs::Metadata) -> Self {
        let ns = |seconds: i64, ns: i64| seconds.saturating_mul(1_000_000_000).saturating_add(ns);
        Self {
            size: meta.len(),
            mtime: ns(meta.mtime(), meta.mtime_nsec()),
            ctime: ns(meta.ctime(), meta.ctime_nsec()),
            inode: meta.ino(),
            executable: meta.mode() & 0o111 != 0,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    stat: Stat,
    digest: Digest,
    seen: i64,
}

impl Entry {
    fn trusted_for(&self, stat: &Stat) -> bool {
        self.stat == *stat && stat.at_rest(self.seen)
    }

    fn fact(&self) -> FileFact {
        FileFact { digest: self.digest, size: self.stat.size, executable: self.stat.executable }
    }
}

/// The memo of one process.
pub struct StatCache {
    file: PathBuf,
    /// Entries of the large file; read when first needed.
    entries: OnceLock<FastMap<Box<str>, Entry>>,
    /// Entries that are newer than those, or new.
    recent: FastMap<Box<str>, Option<Entry>>,
    /// Files that are known not to be what any entry says.
    changed: FastSet<Box<str>>,
    /// Files looked at by this process; `None` for those that are not there.
    looked: FastMap<Box<str>, Option<Entry>>,
    seen: i64,
    rehash: bool,
    dirty: bool,
}

impl StatCache {
    /// Opens the memo of a cache folder; a damaged or missing one is empty. With `rehash` no entry is trusted.
    pub fn open(cache: &Path, rehash: bool) -> Self {
        let file = cache.join("stat");
        let recent = read(&file.with_extension("new")).into_iter().map(|(name, entry)| (name, Some(entry))).collect();
        Self {
            seen: clock(cache).unwrap_or(0),
            file,
            entries: OnceLock::new(),
            recent,
            changed: FastSet::default(),
            looked: FastMap::default(),
            rehash,
            dirty: false,
        }
    }

    /// Takes what a snapshot says of a file that was just found to be as it says; or that it is not. A file that was only
    /// touched is looked at again, for its new identity.
    pub fn hint(&mut self, name: &str, place: &Path, state: Option<&State>) {
        match state {
            Some(State::File { stat, digest, seen }) if Stat::of(place).is_ok_and(|now| now.as_ref() == Some(stat)) => {
                let entry = Entry { stat: *stat, digest: Digest::from(*digest), seen: *seen };
                self.looked.insert(name.into(), Some(entry));
            }
            Some(State::File { .. }) | None => drop(self.changed.insert(name.into())),
            Some(_) => {}
        }
    }

    fn known(&self, name: &str) -> Option<&Entry> {
        match self.recent.get(name) {
            Some(entry) => entry.as_ref(),
            None if self.changed.contains(name) => None,
            None => self.entries.get_or_init(|| read(&self.file)).get(name),
        }
    }

    /// Returns what the file at `place` is, hashing it unless the memo knows it; `None` if there is no file. `name`
    /// identifies the file in the memo. Each file is looked at once in the life of the memo.
    ///
    /// # Errors
    /// The file cannot be read, or keeps changing while it is read.
    pub fn fact(&mut self, name: &str, place: &Path) -> Result<Option<FileFact>, EngineError> {
        if let Some(known) = self.looked.get(name) {
            return Ok(known.map(|e| e.fact()));
        }
        let found = self.look(name, place)?;
        self.remember(name, found);
        Ok(found.map(|e| e.fact()))
    }

    /// Looks at many files at once, on all cores.
    ///
    /// # Errors
    /// As [`StatCache::fact`].
    pub fn look_at_all(&mut self, files: &[(&str, PathBuf)]) -> Result<(), EngineError> {
        let todo: Vec<&(&str, PathBuf)> = files.iter().filter(|(name, _)| !self.looked.contains_key(*name)).collect();
        let found: Vec<Option<Entry>> =
            todo.par_iter().map(|(name, place)| self.look(name, place)).collect::<Result<_, _>>()?;
        self.looked.reserve(todo.len());
        for ((name, _), entry) in todo.into_iter().zip(found) {
            self.remember(name, entry);
        }
        Ok(())
    }

    /// Takes note of a file just placed with known content.
    pub fn note(&mut self, name: &str, place: &Path, fact: &FileFact) {
        match Stat::of(place) {
            Ok(Some(stat)) if stat.size == fact.size => {
                self.remember(name, Some(Entry { stat, digest: fact.digest, seen: self.seen }));
            }
            _ => {
                self.looked.remove(name);
            }
        }
    }

    /// Forgets that a file was looked at.
    pub fn look_again(&mut self, name: &str) {
        self.looked.remove(name);
    }

    /// Returns the stat of a file looked at before, as it was when its content was hashed.
    pub fn stat(&self, name: &str) -> Option<Stat> {
        self.looked.get(name).copied().flatten().map(|entry| entry.stat)
    }

    /// Returns what is known of a file looked at before, as a snapshot keeps it; nothing for one never looked at.
    pub fn state(&self, name: &str) -> Option<State> {
        let file = |entry: &Entry| State::File { stat: entry.stat, digest: *entry.digest.as_bytes(), seen: entry.seen };
        Some(self.looked.get(name)?.as_ref().map_or(State::Absent, file))
    }

    /// Returns the clock that entries made now carry.
    pub fn seen(&self) -> i64 {
        self.seen
    }

    /// Writes the memo if it changed.
    ///
    /// # Errors
    /// The cache folder is not writable.
    pub fn save(&mut self) -> io::Result<()> {
        if !self.dirty {
            return Ok(());
        }
        let recent = self.file.with_extension("new");
        if self.entries.get().is_none() && self.recent.len() <= MOST_RECENT {
            write(&recent, self.recent.iter().filter_map(|(name, entry)| Some((&**name, entry.as_ref()?))))?;
        } else {
            self.entries.get_or_init(|| read(&self.file));
            let entries = self.entries.get_mut().expect("read just now");
            for (name, entry) in self.recent.drain() {
                match entry {
                    Some(entry) => drop(entries.insert(name, entry)),
                    None => drop(entries.remove(&name)),
                }
            }
            write(&self.file, entries.iter().map(|(name, entry)| (&**name, entry)))?;
            match fs::remove_file(&recent) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        self.dirty = false;
        Ok(())
    }

    fn look(&self, name: &str, place: &Path) -> Result<Option<Entry>, EngineError> {
        let Some(mut before) = Stat::of(place).map_err(EngineError::io("look at", place))? else { return Ok(None) };
        if !self.rehash
            && let Some(known) = self.known(name)
            && known.trusted_for(&before)
        {
            return Ok(Some(*known));
        }
        for _ in 0..ATTEMPTS {
            let digest = Digest::of_file(place).map_err(EngineError::io("read", place))?;
            let after = Stat::of(place).map_err(EngineError::io("look at", place))?;
            match after {
                Some(after) if after == before => return Ok(Some(Entry { stat: after, digest, seen: self.seen })),
                Some(after) => before = after,
                None => return Ok(None),
            }
        }
        Err(EngineError::Changing(place.to_path_buf()))
    }

    fn remember(&mut self, name: &str, found: Option<Entry>) {
        // The large file is not read for this: an entry too many costs less.
        let recent = self.recent.get(name).map(Option::as_ref);
        let known = recent.or_else(|| self.entries.get().map(|entries| entries.get(name)));
        let same = match (known.flatten(), &found) {
            (Some(old), Some(entry)) => {
                old.stat == entry.stat
                    && old.digest == entry.digest
                    && (old.seen == entry.seen || old.trusted_for(&entry.stat))
            }
            (None, None) => known.is_some(),
            _ => false,
        };
        if !same {
            self.recent.insert(name.into(), found);
            self.dirty = true;
        }
        self.looked.insert(name.into(), found);
    }
}

fn read(file: &Path) -> FastMap<Box<str>, Entry> {
    fs::read(file).ok().and_then(|bytes| decode(&bytes)).unwrap_or_default()
}

fn write<'e>(file: &Path, entries: impl Iterator<Item = (&'e str, &'e Entry)>) -> io::Result<()> {
    let temp = file.with_extension(format!("{}.tmp", std::process::id()));
    failpoint::write("memo_half", &temp, &encode(entries.collect()))?;
    failpoint::hit("memo_written");
    fs::rename(&temp, file)?;
    failpoint::hit("memo_saved");
    Ok(())
}

/// Returns the file system's clock: the time of a file just written in `cache`.
pub(crate) fn clock(cache: &Path) -> io::Result<i64> {
    let path = cache.join(format!("clock.{}.tmp", std::process::id()));
    fs::write(&path, b"")?;
    let meta = fs::metadata(&path);
    let _ = fs::remove_file(&path);
    Ok(Stat::from(&meta?).mtime)
}

fn encode(mut entries: Vec<(&str, &Entry)>) -> Vec<u8> {
    entries.sort_unstable_by_key(|(name, _)| *name);
    let mut bytes = Vec::with_capacity(16 + entries.len() * 128);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&(entries.len() as u64).to_le_bytes());
    for (name, Entry { stat, digest, seen }) in entries {
        bytes.extend_from_slice(&(name.len() as u32).to_le_bytes());
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(&stat.size.to_le_bytes());
        bytes.extend_from_slice(&stat.mtime.to_le_bytes());
        bytes.extend_from_slice(&stat.ctime.to_le_bytes());
        bytes.extend_from_slice(&stat.inode.to_le_bytes());
        bytes.extend_from_slice(&seen.to_le_bytes());
        bytes.push(u8::from(stat.executable));
        bytes.extend_from_slice(digest.as_bytes());
    }
    let check = Digest::of_bytes(&bytes);
    bytes.extend_from_slice(check.as_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<FastMap<Box<str>, Entry>> {
    let (body, check) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    if Digest::of_bytes(body).as_bytes() != check {
        return None;
    }
    let mut rest = body.strip_prefix(MAGIC)?;
    let count = u64::from_le_bytes(take(&mut rest)?) as usize;
    let mut entries = FastMap::with_capacity_and_hasher(count.min(1 << 22), Default::default());
    for _ in 0..count {
        let len = u32::from_le_bytes(take(&mut rest)?) as usize;
        let (name, after) = rest.split_at_checked(len)?;
        rest = after;
        let stat = Stat {
            size: u64::from_le_bytes(take(&mut rest)?),
            mtime: i64::from_le_bytes(take(&mut rest)?),
            ctime: i64::from_le_bytes(take(&mut rest)?),
            inode: u64::from_le_bytes(take(&mut rest)?),
            executable: false,
        };
        let seen = i64::from_le_bytes(take(&mut rest)?);
        let [executable] = take(&mut rest)?;
        let digest = Digest::from(take::<32>(&mut rest)?);
        let stat = Stat { executable: executable != 0, ..stat };
        entries.insert(std::str::from_utf8(name).ok()?.into(), Entry { stat, digest, seen });
    }
    Some(entries)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(mtime: i64) -> Stat {
        Stat { size: 3, mtime, ctime: mtime, inode: 7, executable: false }
    }

    #[test]
    fn a_file_hashed_within_two_seconds_of_its_change_is_not_trusted() {
        let entry = |seen| Entry { stat: stat(10_000_000_000), digest: Digest::of_bytes(b"x"), seen };
        assert!(entry(12_000_000_000).trusted_for(&stat(10_000_000_000)));
        assert!(!entry(11_999_999_999).trusted_for(&stat(10_000_000_000)));
        assert!(!entry(20_000_000_000).trusted_for(&stat(10_000_000_001)));
    }

    #[test]
    fn entries_survive_the_file_and_a_flipped_byte_empties_the_memo() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "abc").unwrap();
        let mut memo = StatCache::open(dir.path(), false);
        let fact = memo.fact("f", &file).unwrap().unwrap();
        assert_eq!(fact.digest, Digest::of_bytes(b"abc"));
        let folder = std::fs::File::open(dir.path()).unwrap();
        let at = |name: &str| Stat::at(std::os::fd::AsFd::as_fd(&folder), name);
        assert_eq!(at("f"), Stat::of(&file).unwrap().map(|stat| (stat, false)));
        assert_eq!(at(""), None);
        assert_eq!(at("."), Stat::of_folder(dir.path()).unwrap().map(|stat| (stat, true)));
        assert_eq!(memo.fact("none", &dir.path().join("none")).unwrap(), None);
        memo.save().unwrap();
        assert!(StatCache::open(dir.path(), false).known("f").is_some());

        let bytes = std::fs::read(dir.path().join("stat")).unwrap();
        let entries = decode(&bytes).unwrap();
        assert_eq!(entries["f"].digest, fact.digest);
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 1;
            assert!(decode(&broken).is_none(), "byte {at}");
        }
    }

    #[test]
    fn a_file_is_hashed_again_after_a_change_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "abc").unwrap();
        let mut memo = StatCache::open(dir.path(), false);
        memo.fact("f", &file).unwrap();
        assert_eq!(memo.stat("f"), Stat::of(&file).unwrap());
        std::fs::write(&file, "abcd").unwrap();
        assert_ne!(memo.stat("f"), Stat::of(&file).unwrap());
        assert_eq!(memo.fact("f", &file).unwrap().unwrap().size, 3, "looked at once");
        memo.look_again("f");
        assert_eq!(memo.fact("f", &file).unwrap().unwrap().size, 4);
    }
}
