//! The content-addressed store: `cache/objects/ab/cdef…`, read-only files named by the digest of their content. A
//! directory is stored as its manifest and its files.
//!
//! Nothing is trusted because it exists: an object of the wrong length counts as missing, and whatever leaves the store
//! is hashed on the way. Making objects durable is the caller's part (`execute` syncs in groups).

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::digest::Digest;
use crate::error::EngineError;
use crate::failpoint;
use crate::manifest::{FileFact, Manifest};
use crate::spec::Link;

/// Why an object cannot be taken out of the store.
#[derive(Debug)]
pub enum TakeError {
    /// It is not there, or of the wrong length.
    Missing(Digest),
    /// Its content is not what its name says; it was removed.
    Corrupt(Digest),
    /// Another problem.
    Other(EngineError),
}

/// How content leaves the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// As a copy of its own.
    Copy,
    /// As a copy, or as a hard link where the store is to link so.
    Shared,
    /// As [`Take::Shared`], of an object that was written and hashed a moment ago by this process: the copy is not hashed
    /// again.
    Made,
}

impl From<TakeError> for EngineError {
    fn from(error: TakeError) -> Self {
        match error {
            TakeError::Missing(digest) | TakeError::Corrupt(digest) => Self::MissingObject(digest),
            TakeError::Other(error) => error,
        }
    }
}

/// The store of a project.
#[derive(Clone, Debug)]
pub struct Store {
    objects: PathBuf,
    temp: PathBuf,
    link: Link,
    /// Set once the file system was found to share no blocks.
    no_reflinks: Arc<AtomicBool>,
}

/// How much a plain copy reads at once.
const BUFFER: usize = 256 << 10;

static TEMPS: AtomicU64 = AtomicU64::new(0);

impl Store {
    /// Makes a store in a cache folder, with `temp` on the same disk for files in the making.
    pub fn new(cache: &Path, temp: &Path, link: Link) -> Self {
        Self { objects: cache.join("objects"), temp: temp.to_path_buf(), link, no_reflinks: Arc::default() }
    }

    /// Returns the folder of all objects.
    pub fn folder(&self) -> &Path {
        &self.objects
    }

    /// Returns where an object is or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.objects.join(&name[..2]).join(&name[2..])
    }

    /// Returns whether an object of this length is there.
    pub fn holds(&self, digest: &Digest, size: u64) -> bool {
        fs::metadata(self.path(digest)).is_ok_and(|meta| meta.is_file() && meta.len() == size)
    }

    /// Returns whether a whole directory is there.
    pub fn holds_directory(&self, digest: &Digest) -> bool {
        self.manifest(digest).is_ok_and(|m| m.files.values().all(|f| self.holds(&f.digest, f.size)))
    }

    /// Moves a finished file into the store; returns the object's path. An object that is there already is replaced:
    /// it costs no more than to remove the file, and heals one that was corrupted and kept its length.
    ///
    /// # Errors
    /// The store is not writable.
    pub fn take_in(&self, file: &Path, fact: &FileFact) -> Result<PathBuf, EngineError> {
        fs::set_permissions(file, fs::Permissions::from_mode(0o444)).map_err(EngineError::io("set mode of", file))?;
        let object = self.path(&fact.digest);
        match fs::rename(file, &object) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let parent = object.parent().expect("objects lie in folders");
                fs::create_dir_all(parent).map_err(EngineError::io("make", parent))?;
                fs::rename(file, &object).map_err(EngineError::io("write", &object))?;
            }
            Err(e) => return Err(EngineError::io("write", &object)(e)),
        }
        failpoint::hit("object_stored");
        Ok(object)
    }

    /// Copies a file that must stay where it is into the store; returns the object's path if it is new.
    ///
    /// # Errors
    /// The store is not writable, or the file changed since it was hashed.
    pub fn copy_in(&self, file: &Path, fact: &FileFact) -> Result<Option<PathBuf>, EngineError> {
        let object = self.path(&fact.digest);
        if self.holds(&fact.digest, fact.size) && Digest::of_file(&object).is_ok_and(|digest| digest == fact.digest) {
            return Ok(None);
        }
        let temp = self.temp_path();
        let copied = self.copy(file, &temp).map_err(EngineError::io("copy", file)).and_then(|()| {
            let digest = Digest::of_file(&temp).map_err(EngineError::io("read", &temp))?;
            if digest == fact.digest { Ok(()) } else { Err(EngineError::Changing(file.to_path_buf())) }
        });
        if let Err(error) = copied {
            let _ = fs::remove_file(&temp);
            return Err(error);
        }
        self.take_in(&temp, fact).map(Some)
    }

    /// Stores bytes; returns their digest, and the object's path if it is new.
    ///
    /// # Errors
    /// The store is not writable.
    pub fn put(&self, bytes: &[u8]) -> Result<(Digest, Option<PathBuf>), EngineError> {
        let digest = Digest::of_bytes(bytes);
        let fact = FileFact { digest, size: bytes.len() as u64, executable: false };
        // Compared, not only looked for: one that was corrupted and kept its length is written anew.
        if fs::read(self.path(&digest)).is_ok_and(|there| there == bytes) {
            return Ok((digest, None));
        }
        let temp = self.temp_path();
        if let Err(e) = failpoint::write("object_half", &temp, bytes) {
            let _ = fs::remove_file(&temp);
            return Err(EngineError::io("write", &temp)(e));
        }
        failpoint::hit("object_written");
        Ok((digest, Some(self.take_in(&temp, &fact)?)))
    }

    /// Reads a small object.
    ///
    /// # Errors
    /// It is missing or corrupt.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>, TakeError> {
        let path = self.path(digest);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(TakeError::Missing(*digest)),
            Err(e) => return Err(TakeError::Other(EngineError::io("read", &path)(e))),
        };
        if Digest::of_bytes(&bytes) == *digest { Ok(bytes) } else { Err(TakeError::Corrupt(*digest)) }
    }

    /// Reads the manifest of a directory.
    ///
    /// # Errors
    /// It is missing or corrupt.
    pub fn manifest(&self, digest: &Digest) -> Result<Manifest, TakeError> {
        let bytes = self.read(digest)?;
        let manifest = std::str::from_utf8(&bytes).ok().and_then(Manifest::parse);
        manifest.ok_or(TakeError::Corrupt(*digest))
    }

    /// Writes the content of an object to `to`, which must not exist, and checks it unless it was just [`Take::Made`].
    ///
    /// # Errors
    /// The object is missing or corrupt; `to` is not writable.
    pub fn take_out(&self, fact: &FileFact, to: &Path, take: Take) -> Result<(), TakeError> {
        let object = self.path(&fact.digest);
        if !self.holds(&fact.digest, fact.size) {
            return Err(TakeError::Missing(fact.digest));
        }
        let hard = self.link == Link::Hard && take != Take::Copy && !fact.executable;
        let linked = hard && fs::hard_link(&object, to).is_ok();
        if !linked && let Err(e) = self.copy(&object, to) {
            let _ = fs::remove_file(to);
            return Err(TakeError::Other(EngineError::io("write", to)(e)));
        }
        if take != Take::Made {
            let digest = Digest::of_file(to).map_err(|e| TakeError::Other(EngineError::io("read", to)(e)))?;
            if digest != fact.digest {
                let _ = fs::remove_file(to);
                let _ = fs::remove_file(&object);
                return Err(TakeError::Corrupt(fact.digest));
            }
        }
        if !linked {
            let mode = if fact.executable { 0o755 } else { 0o644 };
            fs::set_permissions(to, fs::Permissions::from_mode(mode))
                .map_err(|e| TakeError::Other(EngineError::io("set mode of", to)(e)))?;
        }
        Ok(())
    }

    /// Writes a directory to `to`, which must not exist.
    ///
    /// # Errors
    /// As [`Store::take_out`].
    pub fn take_out_directory(&self, manifest: &Manifest, to: &Path, take: Take) -> Result<(), TakeError> {
        let make = |dir: &Path| fs::create_dir_all(dir).map_err(|e| TakeError::Other(EngineError::io("make", dir)(e)));
        make(to)?;
        let mut made = to.to_path_buf();
        for (path, fact) in &manifest.files {
            let file = to.join(path);
            let parent = file.parent().expect("a file lies in a folder");
            if parent != made {
                make(parent)?;
                made = parent.to_path_buf();
            }
            self.take_out(fact, &file, take)?;
        }
        Ok(())
    }

    /// Copies a file, sharing its blocks where that is wanted and the file system can. That it cannot is asked once: asking
    /// makes and removes a file.
    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.link != Link::Copy {
            if !self.no_reflinks.load(Ordering::Relaxed) {
                match reflink_copy::reflink(from, to) {
                    Ok(()) => return Ok(()),
                    // Another error may be one of this file alone: the copy tells.
                    Err(e) if e.kind() == io::ErrorKind::Unsupported => self.no_reflinks.store(true, Ordering::Relaxed),
                    Err(_) => {}
                }
            }
            return fs::copy(from, to).map(drop);
        }
        // By hand: the system's ways of copying may share blocks.
        let (mut source, mut target) = (fs::File::open(from)?, fs::File::create(to)?);
        let mut buffer = vec![0; BUFFER];
        loop {
            match source.read(&mut buffer)? {
                0 => return Ok(()),
                read => target.write_all(&buffer[..read])?,
            }
        }
    }

    /// Returns a new path for a file in the making.
    pub fn temp_path(&self) -> PathBuf {
        self.temp.join(format!("o{}-{}.tmp", std::process::id(), TEMPS.fetch_add(1, Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_the_store_is_what_entered_and_a_corrupt_object_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path(), dir.path(), Link::Auto);
        let (digest, new) = store.put(b"hello").unwrap();
        let object = new.unwrap();
        assert_eq!(store.put(b"hello").unwrap(), (digest, None));
        assert_eq!(fs::metadata(&object).unwrap().permissions().mode() & 0o777, 0o444);
        let fact = FileFact { digest, size: 5, executable: true };
        let out = dir.path().join("out");
        store.take_out(&fact, &out, Take::Shared).unwrap();
        assert_eq!(fs::read(&out).unwrap(), b"hello");
        assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o755);

        fs::set_permissions(&object, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&object, b"jello").unwrap();
        let again = dir.path().join("again");
        assert!(matches!(store.take_out(&fact, &again, Take::Shared), Err(TakeError::Corrupt(d)) if d == digest));
        assert!(!again.exists() && !object.exists());
        assert!(matches!(store.take_out(&fact, &again, Take::Shared), Err(TakeError::Missing(_))));
    }

    #[test]
    fn an_object_of_the_wrong_length_counts_as_missing_and_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path(), dir.path(), Link::Auto);
        let digest = Digest::of_bytes(b"hello");
        let object = store.path(&digest);
        fs::create_dir_all(object.parent().unwrap()).unwrap();
        fs::write(&object, b"").unwrap();
        assert!(!store.holds(&digest, 5));
        store.put(b"hello").unwrap();
        assert_eq!(store.read(&digest).unwrap(), b"hello");
    }
}
