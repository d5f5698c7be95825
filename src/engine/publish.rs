//! From scratch to store to declared path. A file appears at its declared path whole (temporary file, rename); a
//! directory is built beside and exchanged. What has the right content already is not touched, so its times stay.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::error::EngineError;
use crate::failpoint;
use crate::history::OutputRecord;
use crate::manifest::{FileFact, Manifest};
use crate::statcache::Stat;
use crate::store::{Store, Take, TakeError};

/// Lists all regular files below a directory as (relative path, path), sorted. Links are followed.
///
/// # Errors
/// Something cannot be read, a link leads nowhere or in a circle, a name is not UTF-8, or an entry is neither file nor
/// directory.
pub fn files_below(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    Ok(tree_below(dir)?.0)
}

/// Files as from [`files_below`], and every folder with the identity it had before it was looked into.
pub type Tree = (Vec<(String, PathBuf)>, Vec<(PathBuf, Stat)>);

/// Lists all regular files below a directory, and the folders that were looked into for it.
///
/// # Errors
/// As [`files_below`].
pub fn tree_below(dir: &Path) -> io::Result<Tree> {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in walkdir::WalkDir::new(dir).follow_links(true) {
        let entry = entry?;
        if entry.file_type().is_dir() {
            let path = entry.into_path();
            // The iterator reads a folder only after it has given it out.
            folders.extend(Stat::of_folder(&path)?.map(|stat| (path, stat)));
            continue;
        }
        let path = entry.into_path();
        let problem = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("`{}` {what}", path.display()));
        if Stat::of(&path)?.is_none() {
            return Err(problem("vanished while the folder was listed"));
        }
        let relative = path.strip_prefix(dir).map_err(|_| problem("lies outside the folder"))?;
        let relative = relative.to_str().ok_or_else(|| problem("has a name that is not UTF-8"))?.to_owned();
        files.push((relative, path));
    }
    files.sort();
    Ok((files, folders))
}

/// Hashes a directory without any memo.
///
/// # Errors
/// As [`files_below`].
pub fn hash_directory(dir: &Path) -> io::Result<Manifest> {
    let mut manifest = Manifest::default();
    for (relative, path) in files_below(dir)? {
        manifest.files.insert(relative, hash_file(&path)?);
    }
    Ok(manifest)
}

/// Hashes a file without any memo.
///
/// # Errors
/// It is not there or cannot be read.
pub fn hash_file(path: &Path) -> io::Result<FileFact> {
    let digest = Digest::of_file(path)?;
    let meta = fs::metadata(path)?;
    Ok(FileFact { digest, size: meta.len(), executable: meta.mode() & 0o111 != 0 })
}

/// An output that is stored and in place.
#[derive(Clone, Debug)]
pub struct Published {
    /// As it enters the record.
    pub record: OutputRecord,
    /// Files of a directory.
    pub manifest: Option<Manifest>,
    /// Whether the declared path had to be written.
    pub written: bool,
}

/// Places stored content at declared paths.
pub struct Placer<'a> {
    /// Where content comes from.
    pub store: &'a Store,
    /// The project root.
    pub root: &'a Path,
    /// A private folder in the cache.
    pub temp: &'a Path,
    /// How it comes out of the store.
    pub take: Take,
}

impl Placer<'_> {
    /// Brings a recorded output to its declared path; returns whether anything had to be written.
    ///
    /// # Errors
    /// An object is missing or corrupt; the place is not writable.
    pub fn place(&self, record: &OutputRecord, manifest: Option<&Manifest>) -> Result<bool, TakeError> {
        if record.is_directory() {
            match manifest {
                Some(manifest) => self.place_directory(&record.path, manifest),
                None => self.place_directory(&record.path, &self.store.manifest(&record.digest)?),
            }
        } else {
            let fact = FileFact { digest: record.digest, size: record.size, executable: record.executable };
            self.place_file(&record.path, &fact)
        }
    }

    fn place_file(&self, path: &str, fact: &FileFact) -> Result<bool, TakeError> {
        let dest = self.root.join(path);
        let other = |what| EngineError::io(what, &dest);
        match Stat::of(&dest) {
            Ok(Some(_)) => {
                let size = fs::metadata(&dest).map_err(other("look at")).map_err(TakeError::Other)?.len();
                if size == fact.size && hash_file(&dest).is_ok_and(|now| now == *fact) {
                    return Ok(false);
                }
            }
            Ok(None) if dest.is_dir() => {
                let taken = io::Error::new(io::ErrorKind::IsADirectory, "a folder is in the place of an output file");
                return Err(TakeError::Other(other("replace")(taken)));
            }
            _ => {}
        }
        let temp = self.beside(&dest)?;
        self.store.take_out(fact, &temp, self.take)?;
        failpoint::hit("copy_made");
        fs::rename(&temp, &dest).map_err(|e| {
            let _ = fs::remove_file(&temp);
            TakeError::Other(other("write")(e))
        })?;
        failpoint::hit("file_placed");
        Ok(true)
    }

    fn place_directory(&self, path: &str, manifest: &Manifest) -> Result<bool, TakeError> {
        let dest = self.root.join(path.trim_end_matches('/'));
        let other = |what| EngineError::io(what, &dest);
        if dest.is_dir() && same_directory(&dest, manifest) {
            return Ok(false);
        }
        if dest.is_file() {
            let taken = io::Error::new(io::ErrorKind::NotADirectory, "a file is in the place of an output folder");
            return Err(TakeError::Other(other("replace")(taken)));
        }
        let temp = self.beside(&dest)?;
        let built = self.store.take_out_directory(manifest, &temp, self.take);
        failpoint::hit("directory_built");
        let placed = built.and_then(|()| swap(&temp, &dest).map_err(|e| TakeError::Other(other("write")(e))));
        failpoint::hit("directory_placed");
        // After the swap this holds the old content.
        let _ = fs::remove_dir_all(&temp);
        placed.map(|()| true)
    }

    /// Returns a temporary path from which `dest` can be reached by a rename, and makes the parent folder.
    fn beside(&self, dest: &Path) -> Result<PathBuf, TakeError> {
        let parent = dest.parent().expect("an output lies below the project root");
        fs::create_dir_all(parent).map_err(|e| TakeError::Other(EngineError::io("make", parent)(e)))?;
        let device = |path: &Path| fs::metadata(path).map(|m| m.dev()).ok();
        let temp = self.store.temp_path();
        let name = temp.file_name().expect("made of a folder and a name");
        if device(parent) == device(self.temp) {
            Ok(self.temp.join(name))
        } else {
            Ok(parent.join(format!(".{}", name.to_string_lossy())))
        }
    }
}

fn same_directory(dir: &Path, manifest: &Manifest) -> bool {
    let Ok(files) = files_below(dir) else { return false };
    files.len() == manifest.files.len()
        && files.iter().all(|(relative, path)| {
            let size = fs::metadata(path).map(|m| m.len()).ok();
            manifest.files.get(relative).is_some_and(|fact| Some(fact.size) == size)
        })
        && files.iter().all(|(relative, path)| hash_file(path).is_ok_and(|now| now == manifest.files[relative]))
}

/// Puts the new directory in the place of the old one, which ends up at `new`.
fn swap(new: &Path, dest: &Path) -> io::Result<()> {
    if !dest.exists() {
        return fs::rename(new, dest);
    }
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        if renameat_with(CWD, new, CWD, dest, RenameFlags::EXCHANGE).is_ok() {
            return Ok(());
        }
    }
    let aside = new.with_extension("old");
    fs::rename(dest, &aside)?;
    if let Err(e) = fs::rename(new, dest) {
        fs::rename(&aside, dest)?;
        return Err(e);
    }
    fs::remove_dir_all(&aside)
}

/// A file or folder that a stage left as one of its outputs.
pub enum Made<'a> {
    /// In scratch: moved into the store.
    Scratch(&'a Path),
    /// At the declared path itself (a shell command that writes there): copied into the store.
    InPlace(&'a Path),
}

/// Stores one output and lists the new objects, which are to be made durable.
///
/// # Errors
/// The output is not readable, of the wrong sort, or the store is not writable.
pub fn store_output(
    store: &Store,
    made: &Made<'_>,
    path: &str,
    new_objects: &mut Vec<PathBuf>,
) -> Result<(OutputRecord, Option<Manifest>), EngineError> {
    let (Made::Scratch(at) | Made::InPlace(at)) = *made;
    let enter = |file: &Path, fact: &FileFact| match made {
        Made::Scratch(_) => store.take_in(file, fact).map(Some),
        Made::InPlace(_) => store.copy_in(file, fact),
    };
    if path.ends_with('/') {
        let manifest = hash_directory(at).map_err(EngineError::io("read", at))?;
        for (relative, fact) in &manifest.files {
            // A link to a file outside must not be moved into the store: the content is copied.
            let file = at.join(relative);
            let linked = fs::symlink_metadata(&file).is_ok_and(|m| m.file_type().is_symlink());
            new_objects.extend(if linked { store.copy_in(&file, fact)? } else { enter(&file, fact)? });
        }
        let (digest, new) = store.put(manifest.text().as_bytes())?;
        new_objects.extend(new);
        let record = OutputRecord { path: path.to_owned(), digest, size: manifest.size(), executable: false };
        Ok((record, Some(manifest)))
    } else {
        let fact = hash_file(at).map_err(EngineError::io("read", at))?;
        let linked = fs::symlink_metadata(at).is_ok_and(|m| m.file_type().is_symlink());
        new_objects.extend(if linked { store.copy_in(at, &fact)? } else { enter(at, &fact)? });
        let FileFact { digest, size, executable } = fact;
        Ok((OutputRecord { path: path.to_owned(), digest, size, executable }, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Link;

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn outputs_go_through_the_store_to_their_place_and_equal_content_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let temp = root.join("cache/tmp");
        fs::create_dir_all(temp.join("out/sub")).unwrap();
        let store = Store::new(&root.join("cache"), &temp, Link::Auto);
        let placer = Placer { store: &store, root, temp: &temp, take: Take::Shared };
        fs::write(temp.join("out/a"), "one").unwrap();
        fs::write(temp.join("out/sub/b"), "two").unwrap();
        let mut new = Vec::new();
        let (record, manifest) = store_output(&store, &Made::Scratch(&temp.join("out")), "data/d/", &mut new).unwrap();
        assert_eq!((new.len(), record.size), (3, 6));

        fs::create_dir_all(root.join("data/d")).unwrap();
        fs::write(root.join("data/d/stale"), "old").unwrap();
        assert!(placer.place(&record, manifest.as_ref()).unwrap());
        assert_eq!(text(&root.join("data/d/sub/b")), "two");
        assert!(!root.join("data/d/stale").exists(), "a directory output is exchanged whole");
        let before = fs::metadata(root.join("data/d/a")).unwrap();
        assert!(!placer.place(&record, None).unwrap());
        let after = fs::metadata(root.join("data/d/a")).unwrap();
        assert_eq!((before.mtime_nsec(), before.ino()), (after.mtime_nsec(), after.ino()));
        assert_eq!(fs::read_dir(&temp).unwrap().filter(|e| e.as_ref().unwrap().path().is_file()).count(), 0);

        fs::write(temp.join("f"), "file").unwrap();
        let (record, _) = store_output(&store, &Made::Scratch(&temp.join("f")), "data/f", &mut new).unwrap();
        assert!(placer.place(&record, None).unwrap());
        assert!(!placer.place(&record, None).unwrap());
        fs::write(root.join("data/f"), "fiel").unwrap();
        assert!(placer.place(&record, None).unwrap(), "same length, other content");
        assert_eq!(text(&root.join("data/f")), "file");
    }

    #[test]
    fn a_linked_file_is_copied_and_a_circle_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let out = root.join("out");
        fs::create_dir_all(&out).unwrap();
        fs::write(root.join("outside"), "precious").unwrap();
        std::os::unix::fs::symlink(root.join("outside"), out.join("link")).unwrap();
        let store = Store::new(root, root, Link::Auto);
        store_output(&store, &Made::Scratch(&out), "d/", &mut Vec::new()).unwrap();
        assert_eq!(text(&root.join("outside")), "precious");
        std::os::unix::fs::symlink(&out, out.join("circle")).unwrap();
        assert!(files_below(&out).is_err());
    }
}
