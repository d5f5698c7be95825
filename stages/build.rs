//! Computes a code digest for every top-level module: its own source, the source of every module of this package it
//! uses (transitively), the `Cargo.lock` entries of the libraries those name (transitively), and
//! the backend features of this package where they name burn. The modules are found
//! by reading `crate::` and `super::` paths, so a new use can not be forgotten; comments and unit tests count too,
//! which errs towards running a stage again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=../Cargo.lock");
    println!("cargo::rerun-if-changed=build.rs");

    let modules = read_modules(&root.join("src"));
    let features: BTreeSet<String> =
        env::vars().map(|v| v.0).filter(|name| name.starts_with("CARGO_FEATURE_")).collect();
    let lock = Lock::read(&root.join("../Cargo.lock"));
    let mut text = String::from(
        "/// Digest of each module's code, by module name.\npub const CODE_DIGESTS: &[(&str, [u8; 32])] = &[\n",
    );
    for name in modules.keys() {
        let used = closure(name, &modules);
        let mut hasher = blake3::Hasher::new_derive_key("logweir code digest v1");
        let mut libraries = BTreeSet::new();
        for module in &used {
            for (path, source) in &modules[module].files {
                hasher.update(path.as_bytes()).update(&[0]).update(source.as_bytes()).update(&[0]);
                libraries.extend(lock.named_in(source));
            }
        }
        // The features of this package say with which backend burn computes.
        if libraries.contains("burn") {
            for feature in &features {
                hasher.update(feature.as_bytes()).update(&[0]);
            }
        }
        for entry in lock.with_dependencies(libraries) {
            hasher.update(entry.as_bytes()).update(&[0]);
        }
        writeln!(text, "    ({name:?}, {:?}),", hasher.finalize().as_bytes()).expect("a string takes all");
    }
    text.push_str("];\n");
    fs::write(out.join("code_digests.rs"), text).expect("OUT_DIR is writable");
}

/// A module: `name.rs` and all of `name/`; `support::table` is a module of its own.
struct Module {
    files: BTreeMap<String, String>,
}

fn read_modules(src: &Path) -> BTreeMap<String, Module> {
    let mut modules = BTreeMap::new();
    let mut pending = vec![src.to_path_buf()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).expect("src is readable") {
            let path = entry.expect("src is readable").path();
            if path.is_dir() {
                pending.push(path);
                continue;
            }
            let relative = path.strip_prefix(src).expect("below src").to_string_lossy().replace('\\', "/");
            let mut parts = relative.split('/').map(|p| p.split('.').next().unwrap_or(p));
            let name = match (parts.next(), parts.next()) {
                (Some("lib"), _) => continue,
                (Some("support"), Some("mod")) => continue,
                (Some("support"), Some(inner)) => format!("support::{inner}"),
                (Some(first), _) => first.to_owned(),
                (None, _) => continue,
            };
            let source = fs::read_to_string(&path).expect("source is text");
            modules.entry(name).or_insert_with(|| Module { files: BTreeMap::new() }).files.insert(relative, source);
        }
    }
    modules
}

fn closure(name: &str, modules: &BTreeMap<String, Module>) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut pending = vec![name.to_owned()];
    while let Some(next) = pending.pop() {
        if !modules.contains_key(&next) || !seen.insert(next.clone()) {
            continue;
        }
        for source in modules[&next].files.values() {
            for candidate in modules.keys() {
                let last = candidate.rsplit("::").next().unwrap_or(candidate);
                let direct = source.contains(&format!("crate::{candidate}"));
                let grouped = candidate.starts_with("support::")
                    && (source.contains("support::{") || source.contains("super::"))
                    && contains_word(source, last);
                let sibling = next.starts_with("support::") && source.contains(&format!("super::{last}"));
                if direct || grouped || sibling {
                    pending.push(candidate.clone());
                }
            }
        }
    }
    seen
}

fn contains_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let boundary = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
        boundary(text[..at].chars().next_back()) && boundary(text[at + word.len()..].chars().next())
    })
}

/// The packages of Cargo.lock: name and version with checksum, and what each depends on.
struct Lock {
    packages: BTreeMap<String, Vec<(String, Vec<String>)>>,
}

impl Lock {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_default();
        let mut packages: BTreeMap<String, Vec<(String, Vec<String>)>> = BTreeMap::new();
        for block in text.split("[[package]]").skip(1) {
            let value = |key: &str| {
                let line = block.lines().find_map(|l| l.strip_prefix(&format!("{key} = ")))?;
                Some(line.trim_matches('"').to_owned())
            };
            let Some(name) = value("name") else { continue };
            let entry =
                format!("{name} {} {}", value("version").unwrap_or_default(), value("checksum").unwrap_or_default());
            let dependencies = block
                .split_once("dependencies = [")
                .map(|(_, rest)| rest.split(']').next().unwrap_or_default())
                .unwrap_or_default()
                .lines()
                .filter_map(|l| l.trim().trim_matches(|c| c == '"' || c == ',').split(' ').next().map(str::to_owned))
                .filter(|l| !l.is_empty())
                .collect();
            packages.entry(name).or_default().push((entry, dependencies));
        }
        Self { packages }
    }

    /// Packages whose crate name (with `_` for `-`) is followed by `::` somewhere in the source.
    fn named_in(&self, source: &str) -> Vec<String> {
        let named = |name: &&String| {
            let ident = name.replace('-', "_");
            !ident.starts_with("logweir")
                && source.match_indices(&format!("{ident}::")).any(|(at, _)| {
                    source[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
                })
        };
        self.packages.keys().filter(named).cloned().collect()
    }

    fn with_dependencies(&self, roots: BTreeSet<String>) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        let mut entries = BTreeSet::new();
        let mut pending: Vec<String> = roots.into_iter().collect();
        while let Some(name) = pending.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            for (entry, dependencies) in self.packages.get(&name).into_iter().flatten() {
                entries.insert(entry.clone());
                pending.extend(dependencies.iter().cloned());
            }
        }
        entries
    }
}
