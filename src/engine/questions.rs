//! Lineage questions as a user asks them: what a target names, where its content comes from, what follows from it. The
//! records are a project's or a bundle's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;

use serde_json::Value;

use crate::carried;
use crate::digest::Digest;
use crate::error::EngineError;
use crate::lineage::{self, ActionView, Followers, Lineage, Records};
use crate::publish::{hash_directory, hash_file};
use crate::suggest::did_you_mean;

/// Where content was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The path as recorded.
    pub(crate) path: String,
    /// An action wrote it there; else one read it.
    pub(crate) made: bool,
    /// It is of the state asked about.
    pub(crate) here: bool,
    /// The run of the action.
    pub(crate) run: Option<String>,
}

/// Records that can find what a target names.
pub(crate) trait State: Records {
    /// Returns the path as it is recorded (a directory with its slash) and the content it had in this state.
    fn recorded(&self, path: &str) -> Result<Option<(String, Digest)>, EngineError>;

    /// Returns the content of an input of some action of this state, for sources: path as recorded, and digest.
    fn read_by_some(&self, path: &str) -> Result<Option<(String, Digest)>, EngineError>;

    /// Returns the content that the latest action of all gave a path.
    fn made_by_some(&self, path: &str) -> Result<Option<(String, Digest)>, EngineError>;

    /// Returns where content was given or read: of this state first, then the latest first.
    fn places(&self, digest: &Digest) -> Result<Vec<Place>, EngineError>;

    /// Returns the action with this key: of this state, else the latest.
    fn of_key(&self, key: &Digest) -> Result<Option<Rc<ActionView>>, EngineError>;

    /// Returns keys and contents whose hexadecimal digits begin like this.
    fn beginning(&self, digits: &str) -> Result<BTreeSet<Digest>, EngineError>;

    /// Returns the named roots of this state.
    fn roots(&self) -> &BTreeMap<String, String>;

    /// Returns every path of this state.
    fn paths(&self) -> Result<BTreeSet<String>, EngineError>;

    /// Returns stored content.
    fn bytes(&self, digest: &Digest) -> Option<Vec<u8>>;
}

/// What a target was found to be.
pub(crate) struct Found {
    /// The path as recorded.
    pub(crate) path: String,
    /// The recorded content.
    pub(crate) digest: Digest,
    /// What the reader must know.
    pub(crate) notes: Vec<String>,
    /// The run that made it, if it is not of the state asked about.
    pub(crate) elsewhere: Option<String>,
}

impl Found {
    fn new((path, digest): (String, Digest)) -> Self {
        Self { path, digest, notes: Vec::new(), elsewhere: None }
    }

    fn at(place: Place, digest: Digest) -> Self {
        let elsewhere = if place.here { None } else { place.run };
        Self { path: place.path, digest, notes: Vec::new(), elsewhere }
    }
}

/// Splits a target into what names the artifact and the JSON pointer.
pub(crate) fn parts(target: &str) -> (&str, Option<&str>) {
    target.split_once('#').map_or((target, None), |(name, pointer)| (name, Some(pointer)))
}

/// Fewest digits of a digest that are taken for one.
const DIGITS: usize = 8;

/// Larger files are no reports, and are not searched for a key.
const LARGEST_REPORT: u64 = 64 << 20;

/// A question to a state; files lie relative to `root`.
pub(crate) struct Question<'a> {
    pub(crate) state: &'a dyn State,
    pub(crate) root: &'a Path,
    /// As the run left it; else as it is now.
    pub(crate) past: bool,
}

impl Question<'_> {
    /// Returns everything that led to a target.
    ///
    /// # Errors
    /// Nothing recorded made or read it.
    pub(crate) fn lineage(&self, target: &str) -> Result<Lineage, EngineError> {
        let (name, pointer) = parts(target);
        let found = self.find(target)?;
        let mut document = lineage::upstream(self.state, target, &found.path, &found.digest)?;
        document.notes = found.notes;
        document.found = Some(lineage::artifact_id(&found.path, &found.digest));
        if let Some(pointer) = pointer {
            match self.value(name, &found.path, &found.digest, pointer) {
                Ok((value, note)) => {
                    document.value = value;
                    document.notes.extend(note);
                }
                Err(Trouble::Gone) => document.notes.push(format!(
                    "the value cannot be shown: content {} is no longer stored, and no file has it",
                    found.digest.short()
                )),
                Err(Trouble::Wrong(help)) => return Err(EngineError::NoRecord { target: target.to_owned(), help }),
            }
        }
        Ok(document)
    }

    /// Returns what a target names.
    ///
    /// # Errors
    /// Nothing recorded made or read it.
    pub(crate) fn find(&self, target: &str) -> Result<Found, EngineError> {
        let name = parts(target).0;
        let no_record = |help: &str| EngineError::NoRecord { target: target.to_owned(), help: help.to_owned() };
        let path = relative(self.root, name);
        let hex = name.len() >= DIGITS && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
        if hex && !self.root.join(name).exists() {
            return self.find_digest(target, &name.to_ascii_lowercase());
        }
        let (state, past) = (self.state, self.past);
        let recorded = state.recorded(&path)?;
        // Of a past run, whatever lies there now.
        if past {
            let read = if recorded.is_none() { state.read_by_some(&path)? } else { None };
            if let Some(known) = recorded.clone().or(read) {
                return Ok(Found::new(known));
            }
        }
        match (self.content(&path)?, recorded) {
            (Some(now), Some((path, then))) if now == then => Ok(Found::new((path, then))),
            (None, Some(recorded)) => Ok(Found::new(recorded)),
            (Some(now), recorded) => {
                let read = state.read_by_some(&path)?;
                if let Some((path, then)) = &read
                    && *then == now
                {
                    return Ok(Found::new((path.clone(), *then)));
                }
                // A copy of something produced, or an output of an earlier run.
                if let Some(place) = best(state.places(&now)?, &path) {
                    return Ok(Found::at(place, now));
                }
                if let Some(found) = self.find_carried(&path, &now)? {
                    return Ok(found);
                }
                Err(no_record(if recorded.is_some() || read.is_some() {
                    "its content was changed since it was recorded; a run brings it up to date"
                } else {
                    "no recorded action made or read this content"
                }))
            }
            (None, None) => {
                if let Some(read) = state.read_by_some(&path)? {
                    return Ok(Found::new(read));
                }
                if !past && let Some(made) = state.made_by_some(&path)? {
                    let mut found = Found::new(made);
                    found.notes.push("it is made by no stage of the last run; this is the latest record".to_owned());
                    return Ok(found);
                }
                let paths = state.paths()?;
                let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
                let file = |path: &str| path.trim_end_matches('/').rsplit('/').next().map(str::to_owned);
                let same =
                    paths.iter().find(|known| file(known) == file(&path)).map(|p| format!("did you mean `{p}`?"));
                let near = || Some(did_you_mean(&path, &paths)).filter(|hint| hint.starts_with("did you mean"));
                let help = if past {
                    "that run neither made nor read it"
                } else {
                    "there is no such file, and no recorded action made or read one"
                };
                Err(no_record(&same.or_else(near).map_or_else(|| help.to_owned(), |hint| format!("{help}; {hint}"))))
            }
        }
    }

    /// What hexadecimal digits name: content, or a key.
    fn find_digest(&self, target: &str, digits: &str) -> Result<Found, EngineError> {
        let no_record = |help: String| EngineError::NoRecord { target: target.to_owned(), help };
        let known = match digits.parse::<Digest>() {
            Ok(digest) => vec![digest],
            Err(_) => self.state.beginning(digits)?.into_iter().collect(),
        };
        match known[..] {
            [digest] => {
                if let Some(place) = best(self.state.places(&digest)?, "") {
                    return Ok(Found::at(place, digest));
                }
                if let Some(action) = self.state.of_key(&digest)?
                    && let Some(output) = action.outputs.values().next()
                {
                    let mut found = Found::new((output.path.clone(), output.digest));
                    found.notes.push(format!("this is the key of stage `{}`; shown is what it made", action.stage));
                    return Ok(found);
                }
                Err(no_record("no recorded action gave or read this content, and none has this key".to_owned()))
            }
            [] => Err(no_record("no recorded content or key begins with these digits".to_owned())),
            _ => Err(no_record(format!("{} contents and keys begin with these digits: give more", known.len()))),
        }
    }

    /// A report whose bytes were changed may still carry its key.
    fn find_carried(&self, path: &str, now: &Digest) -> Result<Option<Found>, EngineError> {
        let place = self.root.join(path);
        if !std::fs::metadata(&place).is_ok_and(|meta| meta.is_file() && meta.len() <= LARGEST_REPORT) {
            return Ok(None);
        }
        let key = std::fs::read(&place).ok().and_then(|bytes| carried::key(&bytes));
        let Some(key) = key else { return Ok(None) };
        let Some(action) = self.state.of_key(&key)? else { return Ok(None) };
        let file = |path: &str| Path::new(path).file_name().map(std::ffi::OsStr::to_owned);
        let kind = |path: &str| Path::new(path).extension().map(std::ffi::OsStr::to_ascii_lowercase);
        let outputs = || action.outputs.values().filter(|output| kind(&output.path) == kind(path));
        let named = outputs().find(|output| file(&output.path) == file(path));
        let Some(output) = named.or_else(|| outputs().next()).or_else(|| action.outputs.values().next()) else {
            return Ok(None);
        };
        let mut found = Found::new((output.path.clone(), output.digest));
        found.notes.push(format!(
            "its content ({}) is not what was recorded ({}): the file was changed after it was made; it carries the key {} of stage `{}`, and this is the lineage of what that key made",
            now.short(),
            output.digest.short(),
            key.short(),
            action.stage
        ));
        if named.is_none() && outputs().nth(1).is_some() {
            found.notes.push(format!(
                "which of the outputs of `{}` it was cannot be told; `{}` is taken",
                action.stage, output.path
            ));
        }
        Ok(Some(found))
    }

    /// Returns the content a path has on disk now.
    fn content(&self, path: &str) -> Result<Option<Digest>, EngineError> {
        let place = match path.split_once(':') {
            Some((name, rest)) if self.state.roots().contains_key(name) => {
                Path::new(&self.state.roots()[name]).join(rest)
            }
            _ => self.root.join(path),
        };
        if place.is_dir() {
            return hash_directory(&place).map(|m| Some(m.digest())).map_err(EngineError::io("read", &place));
        }
        if !place.is_file() {
            return Ok(None);
        }
        hash_file(&place).map(|fact| Some(fact.digest)).map_err(EngineError::io("read", &place))
    }

    /// Reads the value a JSON pointer names in an artifact: from the store, or from a file that is the same. Says so if
    /// the file that was asked about has another.
    fn value(
        &self,
        name: &str,
        path: &str,
        digest: &Digest,
        pointer: &str,
    ) -> Result<(Value, Option<String>), Trouble> {
        let asked = std::fs::read(self.root.join(relative(self.root, name))).ok();
        let same = |bytes: &Vec<u8>| Digest::of_bytes(bytes) == *digest;
        let on_disk = || std::fs::read(self.root.join(path)).ok().filter(same);
        let recorded = self.state.bytes(digest).or_else(|| asked.clone().filter(same)).or_else(on_disk);
        let recorded = recorded.map(|bytes| value_at(&bytes, pointer)).transpose()?;
        let shown = asked.filter(|_| !self.past).and_then(|bytes| value_at(&bytes, pointer).ok());
        match (recorded, shown) {
            (Some(recorded), Some(shown)) if shown != recorded => {
                let note = format!("the file says {shown}, the recorded content says {recorded}");
                Ok((recorded, Some(note)))
            }
            (Some(recorded), _) => Ok((recorded, None)),
            (None, Some(shown)) => {
                let note = "the value is the file's: the recorded content is not stored here".to_owned();
                Ok((shown, Some(note)))
            }
            (None, None) => Err(Trouble::Gone),
        }
    }
}

/// Why there is no value.
enum Trouble {
    /// No content to read it from.
    Gone,
    /// The content has no such value.
    Wrong(String),
}

fn value_at(bytes: &[u8], pointer: &str) -> Result<Value, Trouble> {
    let wrong = |help: String| Trouble::Wrong(help);
    let document: Value = serde_json::from_slice(bytes).map_err(|e| wrong(format!("it is no JSON document: {e}")))?;
    if let Some(value) = document.pointer(pointer) {
        return Ok(value.clone());
    }
    let parent = pointer.rsplit_once('/').map_or("", |(parent, _)| parent);
    Err(wrong(match document.pointer(parent) {
        Some(Value::Object(map)) => {
            let names: Vec<&str> = map.keys().map(String::as_str).collect();
            let last = pointer.rsplit('/').next().unwrap_or_default();
            format!("`{parent}` has no `{last}`; {}", did_you_mean(last, &names))
        }
        _ if !pointer.starts_with('/') => "a JSON pointer begins with `/`".to_owned(),
        _ => format!("it has nothing at `{pointer}`"),
    }))
}

/// Of several places the one to speak of: made rather than read, of this state, with the file name it has now.
fn best(places: Vec<Place>, path: &str) -> Option<Place> {
    let name = |path: &str| path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
    let (wanted, last) = (name(path), places.len());
    let rank = |number: usize, place: &Place| (place.made, place.here, name(&place.path) == wanted, last - number);
    places.into_iter().enumerate().max_by_key(|(number, place)| rank(*number, place)).map(|(_, place)| place)
}

/// Returns everything that follows from a target in a state.
///
/// # Errors
/// No action of it made or read it; records cannot be read.
pub(crate) fn impact(state: &dyn Followers, target: &str, path: &str) -> Result<Lineage, EngineError> {
    let folder = format!("{}/", path.trim_end_matches('/'));
    let found = match lineage::downstream(state, path)? {
        None => lineage::downstream(state, &folder)?,
        found => found,
    };
    let mut found = found.ok_or_else(|| EngineError::NoRecord {
        target: target.to_owned(),
        help: "no recorded action made or read it".to_owned(),
    })?;
    target.clone_into(&mut found.target);
    let at = |node: &&lineage::Node| node.path.as_deref().is_some_and(|at| at == path || at == folder);
    found.found = found.nodes.iter().find(at).map(|node| node.id.clone());
    Ok(found)
}

/// Returns a path as records have it: relative to the project, `root:path` as it is.
pub(crate) fn relative(root: &Path, name: &str) -> String {
    let path = Path::new(name);
    let inside = path.strip_prefix(root).map(|path| path.to_string_lossy().into_owned());
    inside.unwrap_or_else(|_| name.trim_start_matches("./").to_owned())
}
