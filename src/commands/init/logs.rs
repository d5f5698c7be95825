//! The logs that `init --from` names: files, folders, patterns, and what their beginnings look like.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use chrono::{DateTime, Datelike as _, Utc};
use logweir_stages::detect::{Guess, detect, read_head};

use crate::render::diagnostic::Failure;

/// Most files that are looked into, and most bytes of all of them.
const FILES: usize = 8;
const BYTES: usize = 8 << 20;

/// Logs and where they are.
pub(super) struct Logs {
    /// The folder that holds them all.
    pub(super) root: String,
    /// How the pipeline names them.
    pub(super) slots: Vec<String>,
    /// The files.
    pub(super) files: Vec<PathBuf>,
}

impl Logs {
    /// Finds the logs behind paths and patterns.
    pub(super) fn find(paths: &[PathBuf]) -> Result<Self, Failure> {
        // A file, or the folder of a pattern with the pattern.
        let mut named: Vec<(PathBuf, Option<String>)> = Vec::new();
        let mut files = Vec::new();
        for path in paths {
            if path.is_dir() {
                let folder = canonical(path)?;
                let all = entries(&folder)?;
                let logs: Vec<PathBuf> = all.iter().filter(|f| looks_like_a_log(f)).cloned().collect();
                let chosen = if logs.is_empty() { all.clone() } else { logs };
                if chosen.is_empty() {
                    return Err(Failure::environment(anyhow!("the folder `{}` has no file", path.display())));
                }
                if chosen.len() == all.len() {
                    named.push((folder, Some("*".to_owned())));
                } else {
                    named.extend(chosen.iter().map(|file| (file.clone(), None)));
                }
                files.extend(chosen);
            } else if let Some((folder, pattern)) = pattern_of(path) {
                let folder = canonical(folder)?;
                let chosen: Vec<PathBuf> =
                    entries(&folder)?.into_iter().filter(|f| name_of(f).is_some_and(|n| fits(&pattern, n))).collect();
                if chosen.is_empty() {
                    return Err(Failure::environment(anyhow!("no file matches `{}`", path.display()))
                        .help("check the pattern, relative to where you stand"));
                }
                named.push((folder, Some(pattern)));
                files.extend(chosen);
            } else {
                let file = canonical(path)?;
                if !file.is_file() {
                    return Err(Failure::usage(anyhow!("`{}` is no file", path.display())));
                }
                named.push((file.clone(), None));
                files.push(file);
            }
        }
        files.sort();
        files.dedup();
        let folder = |(place, pattern): &(PathBuf, Option<String>)| match pattern {
            Some(_) => Some(place.clone()),
            None => place.parent().map(Path::to_owned),
        };
        let mut root = named.first().and_then(folder).unwrap_or_default();
        for place in named.iter().filter_map(folder) {
            while !place.starts_with(&root) {
                root.pop();
            }
        }
        let unicode = |path: &Path| {
            path.to_str().map(str::to_owned).ok_or_else(|| {
                let failure = Failure::usage(anyhow!("`{}` is no log file with a Unicode name", path.display()));
                failure.help("rename it: pipelines name their files")
            })
        };
        let mut slots = Vec::new();
        for (place, pattern) in &named {
            let inside = escape_glob(&unicode(place.strip_prefix(&root).unwrap_or(place))?);
            slots.push(match pattern {
                Some(pattern) if inside.is_empty() => format!("raw:{pattern}"),
                Some(pattern) => format!("raw:{inside}/{pattern}"),
                None => format!("raw:{inside}"),
            });
        }
        Ok(Self { root: unicode(&root)?, slots, files })
    }

    /// Guesses how their lines are written.
    pub(super) fn look(&self) -> Result<Guess, Failure> {
        let looked = &self.files[..self.files.len().min(FILES)];
        let mut head = Vec::new();
        for file in looked {
            let mut bytes = read_head(file).map_err(|e| Failure::environment(e).help("check that you may read it"))?;
            if let Some(cut) = bytes.get(..BYTES / looked.len()) {
                let end = cut.iter().rposition(|b| *b == b'\n').map_or(cut.len(), |at| at + 1);
                bytes.truncate(end);
            }
            if !bytes.is_empty() && !bytes.ends_with(b"\n") {
                bytes.push(b'\n');
            }
            head.extend(bytes);
        }
        // A log without years was last written in the year of its file; it began before.
        let written = looked.first().and_then(|file| fs::metadata(file).and_then(|m| m.modified()).ok());
        let written: DateTime<Utc> = written.unwrap_or(std::time::UNIX_EPOCH).into();
        let guess = detect(&head, written.year());
        let begins = guess.rows.iter().find_map(|row| row.time.clone());
        if guess.params.year.is_some() && begins.is_some_and(|time| time > written.to_rfc3339()) {
            return Ok(detect(&head, written.year() - 1));
        }
        Ok(guess)
    }
}

fn canonical(path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize().with_context(|| format!("cannot find the log `{}`", path.display())).map_err(|error| {
        Failure::environment(error)
            .help("check the path, relative to where you stand; the folder of the project comes before `--from`")
    })
}

/// The files in a folder, hidden ones left out, by name.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let list = || -> std::io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_file() && name_of(&path).is_some_and(|name| !name.starts_with('.')) {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    };
    list().with_context(|| format!("cannot list the folder `{}`", folder.display())).map_err(Failure::environment)
}

fn name_of(path: &Path) -> Option<&str> {
    path.file_name().and_then(|name| name.to_str())
}

/// `app.log`, `app.log.3`, `app-20240115.gz`, `syslog`, `events.jsonl`.
fn looks_like_a_log(path: &Path) -> bool {
    let Some(name) = name_of(path) else { return false };
    let name = name.to_ascii_lowercase();
    let name = [".gz", ".zst", ".zstd"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    let base = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    ["log", ".jsonl", ".out", ".err", "messages"].iter().any(|end| base.ends_with(end)) || name.contains(".log")
}

/// The folder and the pattern of a path whose last part has `*` or `?` and which is no file.
fn pattern_of(path: &Path) -> Option<(&Path, String)> {
    let name = name_of(path)?;
    if path.exists() || !name.contains(['*', '?']) {
        return None;
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Some((folder, name.to_owned()))
}

/// Whether a name fits a pattern of `*`, `?` and characters that are themselves.
fn fits(pattern: &str, name: &str) -> bool {
    let mut rest = pattern.chars();
    match rest.next() {
        None => name.is_empty(),
        Some('*') => (0..=name.len()).any(|at| name.is_char_boundary(at) && fits(rest.as_str(), &name[at..])),
        Some(c) => {
            let mut others = name.chars();
            others.next().is_some_and(|n| (c == '?' || c == n) && fits(rest.as_str(), others.as_str()))
        }
    }
}

/// Characters that would make a name a pattern match themselves only.
fn escape_glob(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        match c {
            '*' | '?' | '[' | ']' | '{' | '}' => out.extend(['[', c, ']']),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_folders_and_patterns_share_a_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for name in ["a/x.log", "a/x.log.1", "a/notes.txt", "a/.hidden.log", "b/y.log.gz", "b/z-1.log"] {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "2024-01-15 10:00:00 x\n").unwrap();
        }
        let find = |paths: &[&str]| {
            let paths: Vec<PathBuf> = paths.iter().map(|p| root.join(p)).collect();
            Logs::find(&paths).map(|logs| (logs.root, logs.slots, logs.files.len()))
        };
        let expected = |folder: &str, slots: &[&str], files: usize| {
            let slots: Vec<String> = slots.iter().map(|s| (*s).to_owned()).collect();
            (root.join(folder).to_str().unwrap().trim_end_matches('/').to_owned(), slots, files)
        };
        assert_eq!(find(&["a/x.log"]).unwrap(), expected("a", &["raw:x.log"], 1));
        assert_eq!(find(&["a"]).unwrap(), expected("a", &["raw:x.log", "raw:x.log.1"], 2));
        assert_eq!(find(&["b"]).unwrap(), expected("b", &["raw:*"], 2));
        assert_eq!(find(&["a/x.log*", "b/y.log.gz"]).unwrap(), expected("", &["raw:a/x.log*", "raw:b/y.log.gz"], 3));
        assert!(find(&["c.log"]).is_err() && find(&["a/*.csv"]).is_err());
    }
}
