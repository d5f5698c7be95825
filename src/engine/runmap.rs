//! The stage → action map of a run, kept as objects of the store so that runs share what they have in common.
//!
//! Stages are spread over chunks by a hash of their name; the root object lists the chunks' digests. The number of
//! chunks depends only on the number of stages, so a run that changes one stage adds one chunk and one root, and a run
//! that changes nothing adds nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::EngineError;
use crate::event::{Decision, Reason};
use crate::fast::FastMap;
use crate::store::Store;

/// How many stages a chunk holds on average.
const PER_CHUNK: usize = 64;

/// What became of a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MapEntry {
    /// What was done.
    pub decision: Decision,
    /// The action key, if it came that far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Digest>,
    /// Where in the run log the action is whose outputs are in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
    /// Why it was executed or restored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// Why it failed, the first of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How much is kept of an error.
const ERROR_BYTES: usize = 2_000;

impl MapEntry {
    /// An entry of a stage that was up to date.
    pub fn fresh(key: Digest, at: Option<u64>) -> Self {
        Self { at, ..Self::new(Decision::Fresh, Some(key), Vec::new()) }
    }

    /// An entry of a stage that left no outputs.
    pub fn new(decision: Decision, key: Option<Digest>, reasons: Vec<Reason>) -> Self {
        Self { decision, key, at: None, reasons, error: None }
    }

    /// An entry of a stage that failed.
    pub fn failed(key: Option<Digest>, reasons: Vec<Reason>, error: &str) -> Self {
        let error = error[..error.floor_char_boundary(ERROR_BYTES)].to_owned();
        Self { error: Some(error), ..Self::new(Decision::Failed, key, reasons) }
    }
}

/// What became of every stage of a pipeline, by full name.
pub type RunMap = BTreeMap<String, MapEntry>;

/// Where the action of a stage is, and what was decided: what most questions need of an entry.
#[derive(Deserialize)]
pub(crate) struct PlaceEntry {
    pub(crate) decision: Decision,
    #[serde(default)]
    pub(crate) at: Option<u64>,
}

/// Where the actions of stages are, by full name.
pub(crate) type PlacesMap = FastMap<String, PlaceEntry>;

#[derive(Serialize, Deserialize)]
struct Root {
    chunks: Vec<Digest>,
}

/// Returns the number of the chunk that holds a stage, of `count`.
pub(crate) fn chunk_of(stage: &str, count: usize) -> usize {
    let hash = blake3::hash(stage.as_bytes());
    u32::from_le_bytes(*hash.as_bytes().first_chunk().expect("32 bytes have 4")) as usize % count
}

/// Stores a map; returns its root and adds the new objects to `new`. `like` is the root of a map that has the same
/// stages and differs at most in the given ones: only their chunks are written. With `all`, every stage is written with
/// that decision and without reasons.
///
/// # Errors
/// The store is not writable.
pub fn save(
    map: &RunMap,
    like: Option<(&Digest, &[&str])>,
    all: Option<Decision>,
    store: &Store,
    new: &mut Vec<PathBuf>,
) -> Result<Digest, EngineError> {
    let count = (map.len() / PER_CHUNK).next_power_of_two();
    let old = like.and_then(|(root, changed)| {
        let chunks = read::<Root>(root, store).ok()?.chunks;
        let whole = chunks.len() == count && chunks.iter().all(|chunk| store.path(chunk).is_file());
        whole.then_some((chunks, changed))
    });
    let (mut digests, wanted) = match old {
        Some((chunks, changed)) => {
            let mut wanted = vec![false; count];
            changed.iter().for_each(|stage| wanted[chunk_of(stage, count)] = true);
            (chunks, wanted)
        }
        None => (vec![Digest::from([0; 32]); count], vec![true; count]),
    };
    let mut chunks: Vec<BTreeMap<&str, Cow<'_, MapEntry>>> = vec![BTreeMap::new(); count];
    let plain =
        |decision| move |entry: &MapEntry| MapEntry { at: entry.at, ..MapEntry::new(decision, entry.key, Vec::new()) };
    for (stage, entry) in map {
        let number = chunk_of(stage, count);
        if wanted[number] {
            let entry = all.map_or(Cow::Borrowed(entry), |decision| Cow::Owned(plain(decision)(entry)));
            chunks[number].insert(stage, entry);
        }
    }
    let mut put = |text: String| -> Result<Digest, EngineError> {
        let (digest, object) = store.put(text.as_bytes())?;
        new.extend(object);
        Ok(digest)
    };
    for number in (0..count).filter(|number| wanted[*number]) {
        let text = serde_json::to_string(&chunks[number]).expect("a map has string keys and finite numbers only");
        digests[number] = put(text)?;
    }
    let root = serde_json::to_string(&Root { chunks: digests }).expect("digests are strings");
    put(root)
}

/// Returns the objects a map is made of, the root first.
///
/// # Errors
/// The root is missing or corrupt.
pub fn objects(root: &Digest, store: &Store) -> Result<Vec<Digest>, EngineError> {
    let mut all = vec![*root];
    all.extend(read::<Root>(root, store)?.chunks);
    Ok(all)
}

/// Reads where the actions of one chunk are.
///
/// # Errors
/// It is missing or corrupt.
pub(crate) fn chunk(digest: &Digest, store: &Store) -> Result<PlacesMap, EngineError> {
    read(digest, store)
}

/// Reads a map.
///
/// # Errors
/// An object is missing or corrupt.
pub fn load(root: &Digest, store: &Store) -> Result<RunMap, EngineError> {
    let mut map = RunMap::new();
    for chunk in read::<Root>(root, store)?.chunks {
        // Not `append`: it goes through the whole map for every chunk.
        map.extend(read::<RunMap>(&chunk, store)?);
    }
    Ok(map)
}

fn read<T: for<'de> Deserialize<'de>>(digest: &Digest, store: &Store) -> Result<T, EngineError> {
    let bytes = store.read(digest)?;
    serde_json::from_slice(&bytes).map_err(|_| EngineError::MissingObject(*digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_share_what_they_have_in_common() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path(), dir.path(), crate::spec::Link::Auto);
        let entry = |n: u64| MapEntry {
            decision: Decision::Fresh,
            key: Some(Digest::of_bytes(&n.to_le_bytes())),
            at: Some(n),
            reasons: Vec::new(),
            error: None,
        };
        let mut map: RunMap = (0..1000).map(|n| (format!("s{n}"), entry(n))).collect();
        let mut new = Vec::new();
        let first = save(&map, None, None, &store, &mut new).unwrap();
        assert_eq!(new.len(), 17, "16 chunks and the root");
        assert_eq!(load(&first, &store).unwrap(), map);

        new.clear();
        assert_eq!(save(&map, None, None, &store, &mut new).unwrap(), first);
        assert!(new.is_empty());

        map.insert("s7".to_owned(), entry(7000));
        let second = save(&map, None, None, &store, &mut new).unwrap();
        assert_eq!(new.len(), 2, "one chunk and the root");
        assert_eq!(load(&second, &store).unwrap(), map);
        let like_first = |map: &RunMap| save(map, Some((&first, &["s7"])), None, &store, &mut Vec::new()).unwrap();
        assert_eq!(like_first(&map), second);
        let small = RunMap::from([("s7".to_owned(), entry(1))]);
        assert_eq!(load(&like_first(&small), &store).unwrap(), small, "of another size: nothing is taken over");
        assert_eq!(objects(&second, &store).unwrap().len(), 17);
        let empty = save(&RunMap::new(), None, None, &store, &mut new).unwrap();
        assert!(load(&empty, &store).unwrap().is_empty());
    }
}
