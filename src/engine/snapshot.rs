//! What the freshness of every stage rests on: the files, folder listings and absent paths a run found, with the stat
//! identity each had, and the key of every stage. A later start that finds them as they were knows that those stages are
//! fresh without making their keys again.
//!
//! File: `cache/pipelines/NAME.fresh`, one per pipeline file and profile, written at the end of a run. It only saves
//! work: it is dropped whenever the pipeline, the program, a variable or the lock file is not what it was, and a place
//! that is not as it was makes the stages that rest on it be decided anew. Losing it costs time, nothing else.
//!
//! Invariant: the state of a place is the one the key was made of, or was trusted for, never a later look; so a file
//! that changes while a run goes on is seen by the next.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;

use indexmap::IndexMap;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::index::Covered;
use crate::publish;
use crate::sources::Places;
use crate::spec::ProjectPath;
use crate::statcache::Stat;

/// Larger files whose stat identity is not trusted are left to the run, which hashes them once.
const MOST_HASHED: u64 = 1 << 20;
/// Fewer places than this are looked at faster by one thread.
const PARALLEL_FROM: usize = 512;

/// What a place was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Nothing was there.
    Absent,
    /// A file: identity, content, and when it was looked at.
    File { stat: Stat, digest: [u8; 32], seen: i64 },
    /// A folder with everything in it.
    Tree(Listing),
    /// What a pattern matched.
    Pattern(Listing),
}

/// The files below a folder, or those that match a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Every folder looked into, with its identity before it was; none where that is not known.
    pub folders: Vec<(String, Stat)>,
    /// Digest of the names found.
    pub names: [u8; 32],
    /// When they were looked at.
    pub seen: i64,
}

impl State {
    /// Whether its identity will do at the next look.
    fn at_rest(&self) -> bool {
        match self {
            Self::Absent => true,
            Self::File { stat, seen, .. } => stat.at_rest(*seen),
            Self::Tree(listing) | Self::Pattern(listing) => {
                !listing.folders.is_empty() && listing.folders.iter().all(|(_, stat)| stat.at_rest(listing.seen))
            }
        }
    }
}

impl Listing {
    /// Makes a listing of sorted names.
    pub fn new<'n>(names: impl Iterator<Item = &'n str>, folders: Vec<(String, Stat)>, seen: i64) -> Self {
        Self { folders, names: names_digest(names), seen }
    }

    fn unchanged(&self, root: BorrowedFd<'_>) -> bool {
        !self.folders.is_empty()
            && self.folders.iter().all(|(name, stat)| {
                // The project root itself has an empty name.
                let name = if name.is_empty() { "." } else { name };
                stat.at_rest(self.seen) && Stat::at(root, name) == Some((*stat, true))
            })
    }
}

fn names_digest<'n>(names: impl Iterator<Item = &'n str>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for name in names {
        hasher.update(name.as_bytes()).update(b"\0");
    }
    *hasher.finalize().as_bytes()
}

/// A stage, or an action that a stage made at run time.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Unit<'a> {
    /// The action's full name.
    pub name: &'a str,
    /// Its key.
    pub key: [u8; 32],
    /// Where in the run log the action is whose outputs are in place.
    pub at: Option<u64>,
    /// It was settled: fresh as long as what it rests on stays.
    pub settled: bool,
    /// A mapped stage, which collects its items and is no action itself.
    pub collects: bool,
    /// The number of the mapped stage it is an item of.
    pub item_of: Option<u32>,
    /// Its places: from, to in [`Snapshot::rests`].
    pub from: u32,
    /// End of that range.
    pub to: u32,
}

/// The file, read in place.
#[derive(Serialize, Deserialize)]
pub struct Snapshot<'a> {
    /// See [`crate::compiled::Reading::identity`].
    pub identity: [u8; 32],
    /// Variables that the text or a key looked up.
    #[serde(borrow)]
    pub lookups: Vec<(&'a str, Option<[u8; 32]>)>,
    /// Tools and what they printed.
    #[serde(borrow)]
    pub tools: Vec<(&'a str, &'a str)>,
    /// How far the run log went: bytes, lines, beginning and digest of the last line.
    pub covered: (u64, u64, u64, [u8; 32]),
    /// The stage → action map of a run in which everything is fresh; `None` unless every stage was settled and can be
    /// found fresh by its places alone.
    pub map: Option<[u8; 32]>,
    /// Digest of the stages' blocks of the lock file.
    pub blocks: [u8; 32],
    /// Named roots and where they were.
    #[serde(borrow)]
    pub roots: Vec<(&'a str, &'a str)>,
    /// The key file that runs are signed with, as the pipeline declares it.
    pub sign: Option<&'a str>,
    /// Where runs are told to, as JSON.
    pub openlineage: Option<&'a str>,
    /// Everything the units rest on.
    #[serde(borrow)]
    pub places: Vec<(&'a str, State)>,
    /// Indices of places, unit by unit.
    pub rests: Vec<u32>,
    /// The stages in the order of the pipeline, then the items of mapped stages.
    #[serde(borrow)]
    pub units: Vec<Unit<'a>>,
    #[serde(skip)]
    renewed: bool,
}

impl<'a> Snapshot<'a> {
    /// Reads the content of the file; `None` if it is none.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let snapshot: Self = postcard::from_bytes(crate::compiled::unsealed(bytes)?).ok()?;
        let (places, rests) = (snapshot.places.len(), snapshot.rests.len());
        let sound = snapshot.rests.iter().all(|place| (*place as usize) < places)
            && snapshot.units.iter().all(|unit| unit.from <= unit.to && unit.to as usize <= rests);
        sound.then_some(snapshot)
    }

    /// Returns the places of a unit.
    pub fn places_of(&self, unit: &Unit<'_>) -> &[u32] {
        &self.rests[unit.from as usize..unit.to as usize]
    }

    /// Returns the items of a mapped stage, given how many units are stages.
    pub fn items_of(&self, stages: usize, stage: usize) -> impl Iterator<Item = &Unit<'a>> + '_ {
        self.units[stages..].iter().filter(move |unit| unit.item_of.is_some_and(|of| of as usize == stage))
    }

    /// Returns the mapped stages with an item that is not known to be fresh, ascending.
    pub fn changed_items(&self, stages: usize, same: &[bool]) -> Vec<usize> {
        let is_fresh = |unit: &Unit<'_>| {
            unit.settled && unit.at.is_some() && self.places_of(unit).iter().all(|at| same[*at as usize])
        };
        let changed = self.units[stages..].iter().filter(|unit| !is_fresh(unit));
        let mut stages: Vec<usize> = changed.filter_map(|unit| unit.item_of).map(|of| of as usize).collect();
        stages.sort_unstable();
        stages.dedup();
        stages
    }

    /// Returns the units that are actions.
    pub fn actions(&self) -> impl Iterator<Item = &Unit<'a>> + '_ {
        self.units.iter().filter(|unit| !unit.collects)
    }

    /// Returns how far the log went.
    pub fn covered(&self) -> Covered {
        let (len, lines, last, head) = self.covered;
        Covered { len, lines, last, head: Digest::from(head) }
    }

    /// Returns where named roots were.
    pub fn roots(&self) -> impl Iterator<Item = (String, PathBuf)> + '_ {
        self.roots.iter().map(|(name, place)| ((*name).to_owned(), PathBuf::from(place)))
    }

    /// Looks at every place and returns which are as they were. A place whose content had to be read takes its identity of
    /// now, as seen at the file system's time `seen`, so that it need not be read again once it is at rest.
    pub fn look(&mut self, places: &Places, seen: i64) -> Vec<bool> {
        let Ok(root) = std::fs::File::open(places.root()) else { return vec![false; self.places.len()] };
        let look = |(name, state): &(&str, State)| look(name, state, places, root.as_fd(), seen);
        let found: Vec<Found> = if self.places.len() < PARALLEL_FROM {
            self.places.iter().map(look).collect()
        } else {
            self.places.par_iter().with_min_len(64).map(look).collect()
        };
        let mut same = Vec::with_capacity(found.len());
        for ((_, state), found) in self.places.iter_mut().zip(found) {
            same.push(!matches!(found, Found::Changed));
            if let Found::Again(now) = found {
                self.renewed |= now.at_rest();
                *state = *now;
            }
        }
        same
    }

    /// Returns whether a look has found identities that spare the next one reading.
    pub fn renewed(&self) -> bool {
        self.renewed
    }

    /// Encodes it again, with what the last look found.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn encoded(&self) -> postcard::Result<Vec<u8>> {
        postcard::to_stdvec(self)
    }
}

/// What a look at a place has found.
enum Found {
    /// It is what it was, by its identity.
    Same,
    /// It has the same content; this is what it is now.
    Again(Box<State>),
    /// It is not what it was, or cannot be looked at.
    Changed,
}

fn look(name: &str, state: &State, places: &Places, folder: BorrowedFd<'_>, seen: i64) -> Found {
    let root = places.root();
    let again = |state: State| Found::Again(Box::new(state));
    // What can be found again only by looking into folders.
    let listed = |listing: &Listing, now: Listing, state: fn(Listing) -> State| match now.names == listing.names {
        true => again(state(now)),
        false => Found::Changed,
    };
    match state {
        State::Absent if root.join(name).exists() => Found::Changed,
        State::Absent => Found::Same,
        State::File { stat, digest, seen: then } => match Stat::at(folder, name) {
            Some((now, false)) if now == *stat && stat.at_rest(*then) => Found::Same,
            Some((now, false)) if now.size() <= MOST_HASHED && now.is_like(stat) => {
                // Its identity was taken before it is read: a change meanwhile shows at the next look.
                match Digest::of_file(&root.join(name)) {
                    Ok(content) if content.as_bytes() == digest => {
                        again(State::File { stat: now, digest: *digest, seen })
                    }
                    _ => Found::Changed,
                }
            }
            _ => Found::Changed,
        },
        State::Tree(listing) | State::Pattern(listing) if listing.unchanged(folder) => Found::Same,
        State::Tree(listing) => match publish::tree_below(&root.join(name)) {
            Ok((files, folders)) => {
                let names = files.iter().map(|(name, _)| name.as_str());
                listed(listing, Listing::new(names, places.named_folders(folders), seen), State::Tree)
            }
            Err(_) => Found::Changed,
        },
        State::Pattern(listing) => {
            let Ok(pattern) = ProjectPath::try_from(name.to_owned());
            match places.matches(&pattern) {
                Ok(found) => {
                    let names = found.names.iter().map(String::as_str);
                    listed(listing, Listing::new(names, found.folders, seen), State::Pattern)
                }
                Err(_) => Found::Changed,
            }
        }
    }
}

/// What one unit rests on: (name, state).
pub type Rests = Vec<(String, State)>;

/// A unit to be written.
pub struct NewUnit<'a> {
    /// The action's full name.
    pub name: &'a str,
    /// A mapped stage.
    pub collects: bool,
    /// The number of the mapped stage it is an item of.
    pub item_of: Option<u32>,
    /// Key, place in the log, and what it rests on, if it was settled.
    pub settled: Option<(Digest, Option<u64>, UnitRests<'a>)>,
}

/// What a unit rests on.
pub enum UnitRests<'a> {
    /// As it was found in this run.
    New(&'a Rests),
    /// As in the snapshot that this run began with: that snapshot, and the number of the unit.
    Old(&'a Snapshot<'a>, usize),
}

/// Collects places, each once.
#[derive(Default)]
struct Table<'a> {
    /// Pattern or not, and name → state.
    places: IndexMap<(bool, &'a str), &'a State>,
    rests: Vec<u32>,
}

impl<'a> Table<'a> {
    fn add(&mut self, name: &'a str, state: &'a State) {
        let (index, _) = self.places.insert_full((matches!(state, State::Pattern(_)), name), state);
        self.rests.push(index as u32);
    }
}

/// Everything of a snapshot but its units.
pub struct Frame<'a> {
    /// See [`Snapshot`].
    pub identity: Digest,
    /// See [`Snapshot`].
    pub lookups: Vec<(&'a str, Option<[u8; 32]>)>,
    /// See [`Snapshot`].
    pub tools: Vec<(&'a str, &'a str)>,
    /// See [`Snapshot`].
    pub covered: Covered,
    /// See [`Snapshot`].
    pub map: Option<Digest>,
    /// See [`Snapshot`].
    pub blocks: Digest,
    /// See [`Snapshot`].
    pub roots: Vec<(&'a str, &'a str)>,
    /// The key file that runs are signed with, as the pipeline declares it.
    pub sign: Option<&'a str>,
    /// Where runs are told to, as JSON.
    pub openlineage: Option<&'a str>,
}

/// Encodes a snapshot.
///
/// # Errors
/// There is no memory for it.
pub fn encode<'a>(frame: Frame<'a>, units: &[NewUnit<'a>]) -> postcard::Result<Vec<u8>> {
    let mut table = Table::default();
    let mut written = Vec::with_capacity(units.len());
    for unit in units {
        let from = table.rests.len() as u32;
        let (name, collects, item_of) = (unit.name, unit.collects, unit.item_of);
        let mut new = Unit { name, key: [0; 32], at: None, settled: false, collects, item_of, from, to: from };
        if let Some((key, at, rests)) = &unit.settled {
            match rests {
                UnitRests::New(rests) => rests.iter().for_each(|(name, state)| table.add(name, state)),
                UnitRests::Old(snapshot, unit) => {
                    for place in snapshot.places_of(&snapshot.units[*unit]) {
                        let (name, state) = &snapshot.places[*place as usize];
                        table.add(name, state);
                    }
                }
            }
            new = Unit { key: *key.as_bytes(), at: *at, settled: true, to: table.rests.len() as u32, ..new };
        }
        written.push(new);
    }
    let Frame { identity, lookups, tools, covered, map, blocks, roots, sign, openlineage } = frame;
    // As `Snapshot` is: its places, but by reference.
    let places: Vec<(&str, &State)> = table.places.iter().map(|((_, name), state)| (*name, *state)).collect();
    let covered = (covered.len, covered.lines, covered.last, *covered.head.as_bytes());
    let mut bytes = postcard::to_stdvec(&(identity.as_bytes(), lookups, tools, covered))?;
    bytes.extend(postcard::to_stdvec(&(map.map(|map| *map.as_bytes()), blocks.as_bytes(), roots, sign, openlineage))?);
    bytes.extend(postcard::to_stdvec(&(places, table.rests, written))?);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;

    const LATER: i64 = i64::MAX;

    fn file(root: &Path, name: &str, seen: i64) -> (String, State) {
        let path = root.join(name);
        let digest = *Digest::of_file(&path).unwrap().as_bytes();
        (name.to_owned(), State::File { stat: Stat::of(&path).unwrap().unwrap(), digest, seen })
    }

    fn snapshot_of(rests: &Rests) -> Vec<u8> {
        let nothing = Digest::of_bytes(b"");
        let frame = Frame {
            identity: nothing,
            lookups: vec![("A", None), ("B", Some([7; 32]))],
            tools: vec![("t", "1.0")],
            covered: Covered { len: 1, lines: 2, last: 3, head: nothing },
            map: None,
            blocks: nothing,
            roots: vec![("raw", "/data")],
            sign: Some("key.pem"),
            openlineage: None,
        };
        let units = [
            NewUnit {
                name: "one",
                collects: false,
                item_of: None,
                settled: Some((nothing, Some(5), UnitRests::New(rests))),
            },
            NewUnit { name: "two", collects: true, item_of: None, settled: None },
        ];
        let mut bytes = encode(frame, &units).unwrap();
        let check = Digest::of_bytes(&bytes);
        bytes.extend_from_slice(check.as_bytes());
        bytes
    }

    #[test]
    fn a_snapshot_survives_its_bytes_and_a_flipped_one_empties_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "a").unwrap();
        let bytes = snapshot_of(&vec![file(dir.path(), "a", LATER), ("b".to_owned(), State::Absent)]);
        let snapshot = Snapshot::parse(&bytes).unwrap();
        assert_eq!((snapshot.places.len(), snapshot.rests.len(), snapshot.units.len()), (2, 2, 2));
        assert_eq!(snapshot.places_of(&snapshot.units[0]), [0, 1]);
        assert!(snapshot.units[0].settled && !snapshot.units[1].settled);
        assert_eq!(snapshot.covered().last, 3);
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 1;
            assert!(Snapshot::parse(&broken).is_none(), "byte {at}");
        }
    }

    #[test]
    fn a_place_is_the_same_only_with_the_same_content_names_or_absence() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let write = |name: &str, text: &str| {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), text).unwrap();
        };
        write("f", "one");
        write("d/x", "x");
        write("d/sub/y", "y");
        let places = Places::new_in(root, BTreeMap::new());
        let listing = |names: &[&str]| Listing::new(names.iter().copied(), Vec::new(), LATER);
        let rests = vec![
            file(root, "f", 0),
            ("none".to_owned(), State::Absent),
            ("d".to_owned(), State::Tree(listing(&["sub/y", "x"]))),
            ("d/*".to_owned(), State::Pattern(listing(&["d/x"]))),
        ];
        let bytes = snapshot_of(&rests);
        let look = || Snapshot::parse(&bytes).unwrap().look(&places, 0);
        assert_eq!(look(), [true; 4]);
        write("f", "one");
        assert_eq!(look(), [true; 4], "touched: the content counts");
        let mut snapshot = Snapshot::parse(&bytes).unwrap();
        assert!(snapshot.look(&places, LATER).iter().all(|same| *same) && snapshot.renewed());
        let mut renewed = snapshot.encoded().unwrap();
        let check = Digest::of_bytes(&renewed);
        renewed.extend_from_slice(check.as_bytes());
        let mut again = Snapshot::parse(&renewed).unwrap();
        assert!(again.look(&places, LATER).iter().all(|same| *same) && !again.renewed(), "nothing is read again");
        write("f", "two");
        write("none", "");
        assert_eq!(look(), [false, false, true, true]);
        write("d/sub/z", "z");
        assert_eq!(look(), [false, false, false, true]);
        write("d/w", "w");
        assert_eq!(look(), [false; 4]);
    }

    #[test]
    fn folders_at_rest_are_not_listed_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        let stat = Stat::of_folder(&dir.path().join("d")).unwrap().unwrap();
        let listing = Listing::new(["claimed"].into_iter(), vec![("d".to_owned(), stat)], LATER);
        let root = fs::File::open(dir.path()).unwrap();
        assert!(listing.unchanged(root.as_fd()));
        assert!(!Listing { seen: 0, ..listing.clone() }.unchanged(root.as_fd()), "looked at while it was young");
        fs::write(dir.path().join("d/new"), "").unwrap();
        assert!(!listing.unchanged(root.as_fd()));
    }
}
