//! Artifacts of a past run: back in place, or to somewhere else.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::gc;
use crate::history::OutputRecord;
use crate::manifest::FileFact;
use crate::project::{ProjectLock, new_temp};
use crate::publish::Placer;
use crate::records::History;
use crate::spec::Link;
use crate::store::{Store, Take};

impl Engine {
    /// Places the outputs of every stage of a run (same forms as [`Engine::show`]) as they were then; takes the lock.
    /// Returns the paths that were written. Nothing is written unless all of it can be.
    ///
    /// # Errors
    /// Unknown run; an object is missing from the store.
    pub fn restore_run(&self, run: &str) -> Result<Vec<String>, EngineError> {
        let (root, cache) = (self.project().root(), self.project().cache());
        let _lock = ProjectLock::take(&cache)?;
        let history = History::open(root, &cache)?;
        let run = history.find(run)?;
        let actions = history.actions(&run)?;
        let outputs = || actions.iter().flat_map(|action| action.outputs.values());
        for record in outputs() {
            if let Some(digest) = missing(&history.store, record) {
                return Err(why_missing(&cache, digest, Some((&run.info.run, &record.path))));
            }
        }
        let temp = new_temp(&cache, "restore")?;
        let store = Store::new(&cache, &temp, self.spec().link);
        let placer = Placer { store: &store, root, temp: &temp, take: Take::Shared };
        let mut written = Vec::new();
        for record in outputs() {
            if placer.place(record, None)? {
                written.push(record.path.clone());
            }
        }
        let _ = fs::remove_dir_all(&temp);
        Ok(written)
    }

    /// Writes the content of an object (a file, or a directory by the digest of its manifest) to `to`, which must not
    /// exist. For commands that use artifacts of a past run without touching the project's files.
    ///
    /// # Errors
    /// The object is missing or corrupt.
    pub fn materialise(&self, digest: &Digest, directory: bool, to: &Path) -> Result<(), EngineError> {
        let cache = self.project().cache();
        let store = Store::new(&cache, &cache.join("tmp"), Link::Auto);
        let taken = if directory {
            store.manifest(digest).and_then(|manifest| store.take_out_directory(&manifest, to, Take::Copy))
        } else {
            let size = fs::metadata(store.path(digest)).map_or(0, |meta| meta.len());
            store.take_out(&FileFact { digest: *digest, size, executable: false }, to, Take::Copy)
        };
        taken.map_err(|error| match EngineError::from(error) {
            EngineError::MissingObject(digest) => why_missing(&cache, digest, None),
            error => error,
        })
    }

    /// Returns where the content of an object lies in the store, for commands that read a little of large artifacts: of
    /// a file under the empty name, of a directory under the paths in it. Nothing may be written there; what is read is
    /// not compared with its digest.
    ///
    /// # Errors
    /// A file is missing, or has another size than recorded; or the manifest of a directory is corrupt.
    pub fn stored(&self, output: &OutputRecord) -> Result<BTreeMap<String, PathBuf>, EngineError> {
        let cache = self.project().cache();
        let store = Store::new(&cache, &cache.join("tmp"), Link::Auto);
        if let Some(digest) = missing(&store, output) {
            return Err(why_missing(&cache, digest, None));
        }
        if !output.is_directory() {
            return Ok(BTreeMap::from([(String::new(), store.path(&output.digest))]));
        }
        let manifest = store.manifest(&output.digest).map_err(EngineError::from)?;
        Ok(manifest.files.iter().map(|(path, fact)| (path.clone(), store.path(&fact.digest))).collect())
    }
}

/// Returns an object of an output that is not in the store.
fn missing(store: &Store, record: &OutputRecord) -> Option<Digest> {
    if !record.is_directory() {
        return (!store.holds(&record.digest, record.size)).then_some(record.digest);
    }
    let Ok(manifest) = store.manifest(&record.digest) else { return Some(record.digest) };
    manifest.files.values().find(|fact| !store.holds(&fact.digest, fact.size)).map(|fact| fact.digest)
}

/// Says whether it was `gc` that removed an object.
fn why_missing(cache: &Path, digest: Digest, of: Option<(&str, &str)>) -> EngineError {
    match gc::collected(cache, &digest) {
        Some(when) => EngineError::Collected {
            digest,
            when,
            run: of.map(|(run, _)| run.to_owned()),
            path: of.map(|(_, path)| path.to_owned()),
        },
        None => EngineError::MissingObject(digest),
    }
}
