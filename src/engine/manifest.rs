//! The content of a directory: a sorted list of files. Its digest is the digest of its text, so a manifest is itself
//! an object of the store and a directory digest leads to every file.
//!
//! One line a file, sorted by path: `DIGEST SIZE x|- "path"` (the path as a JSON string). Links are followed; empty
//! directories are not kept.

use std::collections::BTreeMap;

use crate::digest::Digest;

/// What a file is: content, length and whether somebody may execute it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileFact {
    /// Content digest.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Has an execute bit.
    pub executable: bool,
}

/// Files of a directory by relative path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Relative path (`/`-separated) → file.
    pub files: BTreeMap<String, FileFact>,
}

impl Manifest {
    /// Returns the canonical text.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(self.files.len() * 96);
        for (path, file) in &self.files {
            let mode = if file.executable { 'x' } else { '-' };
            let path = serde_json::Value::from(path.as_str());
            text.push_str(&format!("{} {} {mode} {path}\n", file.digest, file.size));
        }
        text
    }

    /// Reads a text made by [`Manifest::text`]; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut files = BTreeMap::new();
        for line in text.lines() {
            let mut parts = line.splitn(4, ' ');
            let digest = parts.next()?.parse().ok()?;
            let size = parts.next()?.parse().ok()?;
            let executable = match parts.next()? {
                "x" => true,
                "-" => false,
                _ => return None,
            };
            let path: String = serde_json::from_str(parts.next()?).ok()?;
            files.insert(path, FileFact { digest, size, executable });
        }
        Some(Self { files })
    }

    /// Returns the directory's digest.
    pub fn digest(&self) -> Digest {
        Digest::of_bytes(self.text().as_bytes())
    }

    /// Returns the bytes of all files together.
    pub fn size(&self) -> u64 {
        self.files.values().map(|f| f.size).sum()
    }

    /// Returns the manifest of a directory inside this one.
    pub fn below(&self, prefix: &str) -> Self {
        let prefix = format!("{prefix}/");
        let inside = self.files.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
        Self { files: inside.map(|(path, file)| (path[prefix.len()..].to_owned(), *file)).collect() }
    }

    /// Returns relative paths that differ: (path, digest here, digest there).
    pub fn differences(&self, there: &Self) -> Vec<(String, Option<Digest>, Option<Digest>)> {
        let paths: std::collections::BTreeSet<&String> = self.files.keys().chain(there.files.keys()).collect();
        let of = |m: &Self, path: &str| m.files.get(path).map(|f| f.digest);
        paths
            .into_iter()
            .map(|path| (path.clone(), of(self, path), of(there, path)))
            .filter(|(_, here, there)| here != there)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(files: &[(&str, &str)]) -> Manifest {
        let fact = |text: &str| FileFact {
            digest: Digest::of_bytes(text.as_bytes()),
            size: text.len() as u64,
            executable: false,
        };
        Manifest { files: files.iter().map(|(path, text)| ((*path).to_owned(), fact(text))).collect() }
    }

    #[test]
    fn a_manifest_survives_its_text_with_any_path() {
        let mut m = manifest(&[("a b", "1"), ("x/\n\"é", "22"), ("x/y", "")]);
        m.files.get_mut("a b").unwrap().executable = true;
        assert_eq!(Manifest::parse(&m.text()).unwrap(), m);
        assert_eq!(m.size(), 3);
        assert!(Manifest::parse("nonsense\n").is_none());
    }

    #[test]
    fn a_part_and_the_differences() {
        let m = manifest(&[("a", "1"), ("d/x", "2"), ("d/y", "3"), ("da", "4")]);
        assert_eq!(m.below("d"), manifest(&[("x", "2"), ("y", "3")]));
        let changed = manifest(&[("a", "1"), ("d/x", "other"), ("da", "4"), ("new", "5")]);
        let names: Vec<String> = m.differences(&changed).into_iter().map(|d| d.0).collect();
        assert_eq!(names, ["d/x", "d/y", "new"]);
    }
}
