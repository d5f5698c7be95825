//! Files on disk as inputs: where a logical path is, what it holds, which files a pattern or a directory has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::EngineError;
use crate::manifest::{FileFact, Manifest};
use crate::publish::tree_below;
use crate::snapshot::Listing;
use crate::spec::{ProjectPath, Spec};
use crate::statcache::{Stat, StatCache};
use crate::wiring::{literal_prefix, matcher};

/// The places inputs may lie in.
#[derive(Clone, Debug)]
pub struct Places {
    root: PathBuf,
    roots: BTreeMap<String, PathBuf>,
}

impl Places {
    /// Takes the places of a pipeline in a project folder.
    pub fn new(root: &Path, spec: &Spec) -> Self {
        let roots = spec.roots.iter().map(|(name, place)| (name.clone(), root.join(place))).collect();
        Self::new_in(root, roots)
    }

    /// Takes named places in a project folder.
    pub fn new_in(root: &Path, roots: BTreeMap<String, PathBuf>) -> Self {
        Self { root: root.to_path_buf(), roots }
    }

    /// Returns the project root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns where a named root is.
    pub fn named(&self, name: &str) -> Option<&Path> {
        self.roots.get(name).map(PathBuf::as_path)
    }

    /// Returns all named roots.
    pub fn all_named(&self) -> &BTreeMap<String, PathBuf> {
        &self.roots
    }

    /// Returns where a path is.
    pub fn place(&self, path: &ProjectPath) -> PathBuf {
        match &path.root {
            Some(name) => self.roots.get(name).unwrap_or(&self.root).join(&path.path),
            None => self.root.join(&path.path),
        }
    }

    /// Returns where a logical path as it stands in records (`path` or `root:path`) is.
    pub fn place_of(&self, logical: &str) -> PathBuf {
        match logical.split_once(':') {
            Some((name, path)) if self.roots.contains_key(name) => self.roots[name].join(path),
            _ => self.root.join(logical),
        }
    }

    /// Returns the name of a file in the stat memo: relative to the project, or absolute in a root.
    pub fn memo_name(&self, logical: &str) -> String {
        match logical.split_once(':') {
            Some((name, _)) if self.roots.contains_key(name) => self.place_of(logical).to_string_lossy().into_owned(),
            _ => logical.to_owned(),
        }
    }

    /// Returns what a file is, or `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn file(&self, memo: &mut StatCache, logical: &str) -> Result<Option<FileFact>, EngineError> {
        if logical.contains(':') {
            memo.fact(&self.memo_name(logical), &self.place_of(logical))
        } else {
            memo.fact(logical, &self.root.join(logical))
        }
    }

    /// Returns what a directory holds, or `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn directory(&self, memo: &mut StatCache, logical: &str) -> Result<Option<Folder>, EngineError> {
        let logical = logical.trim_end_matches('/');
        let place = self.place_of(logical);
        if !place.is_dir() {
            return Ok(None);
        }
        let (files, folders) = tree_below(&place).map_err(EngineError::io("read", &place))?;
        let names = files.iter().map(|(relative, _)| relative.as_str());
        let listing = Listing::new(names, self.named_folders(folders), memo.seen());
        let name = self.memo_name(logical);
        let names: Vec<String> = files.iter().map(|(relative, _)| format!("{name}/{relative}")).collect();
        let looked: Vec<(&str, PathBuf)> =
            names.iter().zip(&files).map(|(name, (_, path))| (name.as_str(), path.clone())).collect();
        memo.look_at_all(&looked)?;
        let mut manifest = Manifest::default();
        for (name, (relative, path)) in names.iter().zip(files) {
            if let Some(fact) = memo.fact(name, &path)? {
                manifest.files.insert(relative, fact);
            }
        }
        Ok(Some(Folder { manifest, listing }))
    }

    /// Lists the files of a directory without looking at them; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn listing(&self, memo: &StatCache, logical: &str) -> Result<Option<Listing>, EngineError> {
        let place = self.place_of(logical);
        if !place.is_dir() {
            return Ok(None);
        }
        let (files, folders) = tree_below(&place).map_err(EngineError::io("read", &place))?;
        let names = files.iter().map(|(relative, _)| relative.as_str());
        Ok(Some(Listing::new(names, self.named_folders(folders), memo.seen())))
    }

    /// Returns folders by their names in the memo.
    pub(crate) fn named_folders(&self, folders: Vec<(PathBuf, Stat)>) -> Vec<(String, Stat)> {
        let name = |path: &Path| path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().into_owned();
        folders.into_iter().map(|(path, stat)| (name(&path), stat)).collect()
    }

    /// Returns the logical paths of all files on disk that a pattern matches, sorted.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn matches(&self, pattern: &ProjectPath) -> Result<Matches, EngineError> {
        let matcher = matcher(&pattern.path)?;
        let base = match literal_prefix(&pattern.path).rfind('/') {
            Some(at) => &pattern.path[..at],
            None => "",
        };
        let top = self.place(&ProjectPath { root: pattern.root.clone(), path: base.to_owned() });
        if !top.is_dir() {
            return Ok(Matches::default());
        }
        let below = &pattern.path[if base.is_empty() { 0 } else { base.len() + 1 }..];
        let depth =
            if below.contains("**") || below.contains('{') { usize::MAX } else { below.matches('/').count() + 1 };
        let (mut found, mut folders) = (Vec::new(), Vec::new());
        for entry in walkdir::WalkDir::new(&top).follow_links(true).max_depth(depth) {
            let entry = entry.map_err(|e| EngineError::io("read", &top)(e.into()))?;
            if entry.file_type().is_dir() && entry.depth() < depth {
                let stat = Stat::of_folder(entry.path()).map_err(EngineError::io("look at", entry.path()))?;
                folders.extend(stat.map(|stat| (entry.path().to_path_buf(), stat)));
            }
            if !entry.file_type().is_file() {
                continue;
            }
            let Some(relative) = entry.path().strip_prefix(&top).ok().and_then(Path::to_str) else { continue };
            let path = if base.is_empty() { relative.to_owned() } else { format!("{base}/{relative}") };
            if matcher.is_match(&path) {
                found.push(ProjectPath { root: pattern.root.clone(), path }.to_string());
            }
        }
        found.sort();
        Ok(Matches { names: found, folders: self.named_folders(folders) })
    }
}

/// What a directory holds, and how it was found out.
#[derive(Clone, Debug)]
pub struct Folder {
    /// Its files.
    pub manifest: Manifest,
    /// Their names and the folders looked into.
    pub listing: Listing,
}

/// What a pattern matches, and how it was found out.
#[derive(Clone, Debug, Default)]
pub struct Matches {
    /// Logical paths, sorted.
    pub names: Vec<String>,
    /// Folders looked into, by name in the memo.
    pub folders: Vec<(String, Stat)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn patterns_stay_in_their_folder_and_links_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        };
        for path in ["logs/a.log", "logs/b.log.gz", "logs/sub/c.log", "logs/d.txt", "top.log"] {
            write(path);
        }
        std::os::unix::fs::symlink(dir.path().join("logs/a.log"), dir.path().join("logs/link.log")).unwrap();
        let places = Places {
            root: dir.path().join("elsewhere"),
            roots: BTreeMap::from([("raw".to_owned(), dir.path().to_path_buf())]),
        };
        let find =
            |pattern: &str| places.matches(&ProjectPath::try_from(format!("raw:{pattern}")).unwrap()).unwrap().names;
        assert_eq!(find("logs/*.log"), ["raw:logs/a.log", "raw:logs/link.log"]);
        assert_eq!(find("logs/*.log*"), ["raw:logs/a.log", "raw:logs/b.log.gz", "raw:logs/link.log"]);
        assert_eq!(find("**/*.log").len(), 4);
        assert_eq!(find("*.log"), ["raw:top.log"]);
        assert_eq!(find("none/*.log"), [""; 0]);
        let mut memo = StatCache::open(dir.path(), false);
        let manifest = places.directory(&mut memo, "raw:logs").unwrap().unwrap().manifest;
        assert_eq!(manifest.files.keys().collect::<Vec<_>>(), ["a.log", "b.log.gz", "d.txt", "link.log", "sub/c.log"]);
        assert!(places.directory(&mut memo, "raw:none").unwrap().is_none());
    }
}
