//! Lineage questions as a user asks them: what a target names, where its content comes from, what follows from it.

use std::path::Path;

use serde_json::Value;

use crate::digest::Digest;
use crate::error::EngineError;
use crate::lineage::{self, Lineage};
use crate::publish::{hash_directory, hash_file};
use crate::records::{History, RunRecords};
use crate::runlog::RunEntry;

/// Returns everything that led to a target. With `(run, true)` as that run left it; with `(run, false)` as it is now.
///
/// # Errors
/// Nothing recorded made or read it.
pub(crate) fn lineage(
    history: &History,
    root: &Path,
    target: &str,
    run: Option<(&RunEntry, bool)>,
) -> Result<Lineage, EngineError> {
    let records = RunRecords::of(history, run.map(|(run, _)| run))?;
    let past = run.is_some_and(|(_, past)| past);
    let (name, pointer) = match target.split_once('#') {
        Some((name, pointer)) => (name, Some(pointer)),
        None => (target, None),
    };
    let no_record = |help: String| EngineError::NoRecord { target: target.to_owned(), help };
    let path = relative(root, name);
    let (path, digest) = if let Ok(digest) = name.parse::<Digest>() {
        let path = records.path_of(&digest)?;
        let path = path.ok_or_else(|| no_record("no recorded action gave this content".to_owned()))?;
        (path, digest)
    } else {
        let on_disk = if past { None } else { content(root, &path, &records)? };
        let recorded = records.recorded(&path)?;
        match (on_disk, recorded) {
            (Some(now), Some((path, then))) if now == then => (path, then),
            (None, Some(recorded)) => recorded,
            (Some(now), recorded) => match (records.read_by_some(&path), records.path_of(&now)?) {
                (Some((path, then)), _) if then == now => (path, now),
                // A copy of something produced, or an output of an earlier run.
                (_, Some(produced)) => (produced, now),
                (source, None) => {
                    let known = recorded.is_some() || source.is_some();
                    return Err(no_record(if known {
                        "its content was changed since it was recorded; a run brings it up to date".to_owned()
                    } else {
                        "no recorded action made or read this content".to_owned()
                    }));
                }
            },
            (None, None) => records.read_by_some(&path).ok_or_else(|| {
                no_record("there is no such file, and no recorded action made or read one".to_owned())
            })?,
        }
    };
    let mut document = lineage::upstream(&records, target, &path, &digest)?;
    if let Some(pointer) = pointer {
        document.value = value_at(history, root, &path, &digest, pointer).map_err(no_record)?;
    }
    Ok(document)
}

/// Returns everything that follows from a target, in the state the last runs of all pipelines left.
///
/// # Errors
/// Nothing recorded made or read it.
pub(crate) fn impact(history: &History, root: &Path, target: &str) -> Result<Lineage, EngineError> {
    let mut actions = Vec::new();
    for pipeline in history.index.last_runs().keys() {
        if let Some(run) = history.last_of(pipeline)? {
            actions.extend(history.actions(&run)?);
        }
    }
    let path = relative(root, target);
    let folder = format!("{}/", path.trim_end_matches('/'));
    let found = lineage::downstream(&actions, &path).or_else(|| lineage::downstream(&actions, &folder));
    let mut found = found.ok_or_else(|| EngineError::NoRecord {
        target: target.to_owned(),
        help: "no recorded action made or read it".to_owned(),
    })?;
    target.clone_into(&mut found.target);
    Ok(found)
}

/// Returns a path as records have it: relative to the project, `root:path` as it is.
fn relative(root: &Path, name: &str) -> String {
    let path = Path::new(name);
    let inside = path.strip_prefix(root).map(|path| path.to_string_lossy().into_owned());
    inside.unwrap_or_else(|_| name.trim_start_matches("./").to_owned())
}

/// Returns the content a path has on disk now.
fn content(root: &Path, path: &str, records: &RunRecords<'_>) -> Result<Option<Digest>, EngineError> {
    let place = match path.split_once(':') {
        Some((name, rest)) if records.roots().contains_key(name) => Path::new(&records.roots()[name]).join(rest),
        _ => root.join(path),
    };
    if place.is_dir() {
        return hash_directory(&place).map(|m| Some(m.digest())).map_err(EngineError::io("read", &place));
    }
    if !place.is_file() {
        return Ok(None);
    }
    hash_file(&place).map(|fact| Some(fact.digest)).map_err(EngineError::io("read", &place))
}

/// Reads the value a JSON pointer names in an artifact, from the store or, where it is the same, from disk.
fn value_at(history: &History, root: &Path, path: &str, digest: &Digest, pointer: &str) -> Result<Value, String> {
    let on_disk = || std::fs::read(root.join(path)).ok().filter(|bytes| Digest::of_bytes(bytes) == *digest);
    let bytes = history.store.read(digest).ok().or_else(on_disk).ok_or("its content is no longer stored")?;
    let document: Value = serde_json::from_slice(&bytes).map_err(|e| format!("it is no JSON document: {e}"))?;
    if let Some(value) = document.pointer(pointer) {
        return Ok(value.clone());
    }
    let parent = pointer.rsplit_once('/').map_or("", |(parent, _)| parent);
    Err(match document.pointer(parent) {
        Some(Value::Object(map)) => {
            let names: Vec<&str> = map.keys().map(String::as_str).collect();
            let last = pointer.rsplit('/').next().unwrap_or_default();
            format!("`{parent}` has no `{last}`; {}", crate::suggest::did_you_mean(last, &names))
        }
        _ if !pointer.starts_with('/') => "a JSON pointer begins with `/`".to_owned(),
        _ => format!("it has nothing at `{pointer}`"),
    })
}
