//! What a shell command may touch, and how it is watched. On Linux a tracer (seccomp user notification) sees every path
//! that the command and whatever it starts opens, starts, makes, renames or removes; under `strict`, Landlock holds the
//! command to its rules besides. Elsewhere there is neither.
//!
//! A path is looked at when the call is made, so what a call is about can in theory be exchanged behind the tracer's
//! back. The tracer's word is for people; what `strict` keeps out, Landlock keeps out.

#![cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "nothing is watched elsewhere"))]

#[cfg(target_os = "linux")]
mod calls;
#[cfg(target_os = "linux")]
mod fence;
#[cfg(target_os = "linux")]
mod kernel;
#[cfg(target_os = "linux")]
mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

#[cfg(target_os = "linux")]
pub(crate) use trace::{Tracing, begin};

/// Folders of the system: programs, libraries, settings, devices. `/tmp`, `/home` and the like are none.
const SYSTEM: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc",
    "/opt",
    "/proc",
    "/dev",
    "/sys",
    "/run",
    "/var/lib",
    "/var/cache",
    "/nix",
    "/snap",
    "/gnu",
];
/// System folders that may be written to as well (`/dev/null`, a process's own settings).
const DEVICES: &[&str] = &["/dev", "/proc"];

/// What is done to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Access {
    /// A file is read or started.
    Read,
    /// The names in a folder are read.
    List,
    /// Something is made, changed or removed.
    Write,
}

/// Paths that a stage touched and did not declare; relative to the project, or absolute outside.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Undeclared {
    /// Files read and folders listed (with a slash at the end).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub read: BTreeSet<String>,
    /// What was made, changed or removed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub written: BTreeSet<String>,
}

impl Undeclared {
    /// Returns whether everything was declared.
    pub fn is_empty(&self) -> bool {
        self.read.is_empty() && self.written.is_empty()
    }

    /// Says for each path what was done and which line declares it.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let read = |path: &String| match path.as_str() {
            "./" => "the command lists the project's folder; name the files it takes under `in`".to_owned(),
            path if path.starts_with('/') => {
                let folder = Path::new(path).parent().unwrap_or(Path::new("/")).display();
                let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
                let slash = if path.ends_with('/') { "/" } else { "" };
                format!(
                    "the command reads `{path}`, outside the project: a change of it will not be seen; \
                     add `outside: {folder}` under `roots` and `{}: \"outside:{name}{slash}\"` under `in`",
                    slot_for(path)
                )
            }
            path => {
                let verb = if path.ends_with('/') { "lists" } else { "reads" };
                format!(
                    "the command {verb} `{path}`, which is no input: a change of it will not be seen; \
                     add `{}: {path}` under `in`",
                    slot_for(path)
                )
            }
        };
        let written = |path: &String| match path.starts_with('/') {
            true => format!(
                "the command writes `{path}`, outside the project; let it write to an output or below `$TMPDIR`"
            ),
            false => format!(
                "the command writes `{path}`, which is no output; add `{}: {path}` under `out`, or let it write below `$TMPDIR`",
                slot_for(path)
            ),
        };
        self.read.iter().map(read).chain(self.written.iter().map(written)).collect()
    }
}

/// Returns a slot name for a path: its stem, what cannot be in a name replaced.
pub(crate) fn slot_for(path: &str) -> String {
    let stem = Path::new(path).file_stem().unwrap_or_default().to_string_lossy();
    stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// What a stage may touch. All paths are absolute and without links.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    root: PathBuf,
    /// Input files and folders, whole.
    inputs: Vec<PathBuf>,
    /// Outputs and scratch: anything goes at and below them.
    outputs: Vec<PathBuf>,
    /// Folders of tools and libraries.
    system: Vec<PathBuf>,
    /// Folders whose names may be read: those that hold a declared file.
    listed: BTreeSet<PathBuf>,
}

impl Rules {
    /// Makes the rules of a stage. A PATH folder outside the project is one of tools; if it is called `bin`, so is its
    /// parent (`…/bin/python3` needs `…/lib`), unless that is `home` or holds the project.
    pub(crate) fn new(
        root: &Path,
        inputs: impl IntoIterator<Item = PathBuf>,
        outputs: impl IntoIterator<Item = PathBuf>,
        path: &str,
        home: Option<&str>,
    ) -> Self {
        let real = |path: PathBuf| path.canonicalize().unwrap_or(path);
        let mut system: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
        for folder in path.split(':').filter(|folder| folder.starts_with('/')) {
            let Ok(folder) = Path::new(folder).canonicalize() else { continue };
            let whole =
                |folder: &Path| folder.parent().is_some() && !root.starts_with(folder) && !folder.starts_with(root);
            let parent = folder.parent().filter(|parent| {
                (folder.ends_with("bin") || folder.ends_with("shims"))
                    && parent.parent().is_some()
                    && Some(*parent) != home.map(Path::new)
                    && whole(parent)
            });
            let tools = parent.unwrap_or(&folder);
            if whole(tools) && !system.iter().any(|known| tools.starts_with(known)) {
                system.push(tools.to_path_buf());
            }
        }
        let mut rules = Self { root: root.to_path_buf(), system, ..Self::default() };
        for input in inputs {
            let there = real(input.clone());
            if !there.is_dir() {
                rules.listed.extend(input.parent().into_iter().chain(there.parent()).map(Path::to_path_buf));
            }
            rules.inputs.extend([input, there]);
        }
        for output in outputs {
            rules.listed.extend(output.parent().map(Path::to_path_buf));
            rules.outputs.push(output);
        }
        rules.inputs.sort();
        rules.inputs.dedup();
        rules
    }

    /// Returns whether a path without links may be accessed so.
    pub(crate) fn allow(&self, path: &Path, access: Access) -> bool {
        let below = |folders: &[PathBuf]| folders.iter().any(|folder| path.starts_with(folder));
        if below(&self.outputs) {
            return true;
        }
        match access {
            Access::Write => DEVICES.iter().any(|device| path.starts_with(device)),
            _ if below(&self.inputs) || self.is_system(path) => true,
            Access::List => self.listed.contains(path),
            Access::Read => false,
        }
    }

    /// Returns whether a path is one of the system's or a tool's; nothing inside the project is.
    pub(crate) fn is_system(&self, path: &Path) -> bool {
        !path.starts_with(&self.root) && self.system.iter().any(|folder| path.starts_with(folder))
    }

    /// Sorts what was seen, each path as the user would write it.
    pub(crate) fn name(&self, seen: &BTreeMap<PathBuf, BTreeSet<Access>>) -> Undeclared {
        let mut undeclared = Undeclared::default();
        for (path, accesses) in seen {
            let mut name = match path.strip_prefix(&self.root) {
                Ok(inside) if inside.as_os_str().is_empty() => ".".to_owned(),
                Ok(inside) => inside.to_string_lossy().into_owned(),
                Err(_) => path.to_string_lossy().into_owned(),
            };
            // What the command made itself it may read.
            if accesses.contains(&Access::Write) {
                undeclared.written.insert(name);
                continue;
            }
            if accesses.contains(&Access::List) && !name.ends_with('/') {
                name.push('/');
            }
            undeclared.read.insert(name);
        }
        undeclared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_paths_are_allowed_and_nothing_else_in_the_project() {
        let rules = Rules::new(
            Path::new("/p"),
            [PathBuf::from("/p/src/a.txt"), PathBuf::from("/p/in/all"), PathBuf::from("/raw/x.log")],
            [PathBuf::from("/p/cache/tmp/1/0"), PathBuf::from("/p/out/o")],
            "/usr/bin:relative:/",
            None,
        );
        let allow = |path: &str, access| rules.allow(Path::new(path), access);
        for path in ["/p/src/a.txt", "/p/in/all/b/c", "/raw/x.log", "/usr/lib/x.so", "/p/out/o", "/etc/passwd"] {
            assert!(allow(path, Access::Read), "{path}");
        }
        for path in [
            "/p/src/b.txt",
            "/p/src/a.txt2",
            "/raw/y.log",
            "/home/u/x",
            "/tmp/x",
            "/p/pipeline.yaml",
            "/p/cache/objects/x",
        ] {
            assert!(!allow(path, Access::Read), "{path}");
        }
        assert!(allow("/p/src", Access::List) && allow("/p/in/all/b", Access::List));
        assert!(!allow("/p", Access::List) && !allow("/p/src/sub", Access::List) && !allow("/home", Access::List));
        for path in ["/p/out/o", "/p/cache/tmp/1/0/tmp/x", "/dev/null"] {
            assert!(allow(path, Access::Write), "{path}");
        }
        for path in ["/p/src/a.txt", "/p/in/all/new", "/usr/bin/x", "/p/out/other", "/tmp/x"] {
            assert!(!allow(path, Access::Write), "{path}");
        }
    }

    #[test]
    fn each_path_comes_with_the_line_that_declares_it() {
        let rules = Rules::new(Path::new("/p"), [], [], "", None);
        let seen = BTreeMap::from([
            (PathBuf::from("/p"), BTreeSet::from([Access::List])),
            (PathBuf::from("/p/tools/x.py"), BTreeSet::from([Access::Read])),
            (PathBuf::from("/p/src"), BTreeSet::from([Access::List])),
            (PathBuf::from("/home/u/b.csv"), BTreeSet::from([Access::Read])),
            (PathBuf::from("/p/new"), BTreeSet::from([Access::Read, Access::Write])),
        ]);
        let undeclared = rules.name(&seen);
        assert_eq!(undeclared.read.iter().collect::<Vec<_>>(), ["./", "/home/u/b.csv", "src/", "tools/x.py"]);
        assert_eq!(undeclared.written.iter().collect::<Vec<_>>(), ["new"]);
        let text = undeclared.sentences().join("\n");
        for line in [
            "add `x: tools/x.py` under `in`",
            "add `src: src/` under `in`",
            "add `outside: /home/u` under `roots` and `b: \"outside:b.csv\"` under `in`",
            "add `new: new` under `out`",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
