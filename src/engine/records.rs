//! Reads what was recorded: runs, their maps, their actions; and answers lineage questions from them.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use crate::backwards::Backwards;
use crate::digest::Digest;
use crate::error::EngineError;
use crate::event::Decision;
use crate::fast::FastMap;
use crate::history::{RunDetail, RunInfo, StageOutcome};
use crate::index::Index;
use crate::lineage::{ActionView, Followers, Records, overlaps, reads};
use crate::logfile::LogFile;
use crate::manifest::Manifest;
use crate::map::COLLECTOR;
use crate::origins::{Origins, folders};
use crate::questions::{Place, State};
use crate::runlog::{ActionEntry, RunEntry};
use crate::runmap::{self, PlacesMap, RunMap};
use crate::sandbox::Undeclared;
use crate::spec::Link;
use crate::store::Store;

/// The records of a project.
pub struct History {
    /// The project root.
    pub root: PathBuf,
    /// The cache folder.
    pub cache: PathBuf,
    /// The store.
    pub store: Store,
    /// The index, up to date with the log.
    pub index: Index,
    /// The log.
    pub log: LogFile,
    origins: OnceLock<Origins>,
}

impl History {
    /// Opens the records of a project; takes no lock.
    ///
    /// # Errors
    /// The run log cannot be read.
    pub fn open(root: &Path, cache: &Path) -> Result<Self, EngineError> {
        let (index, _) = Index::open(cache)?;
        let store = Store::new(cache, &cache.join("tmp"), Link::Auto);
        let log = LogFile::open(cache)?;
        let origins = OnceLock::new();
        Ok(Self { root: root.to_path_buf(), cache: cache.to_path_buf(), store, index, log, origins })
    }

    fn origins(&self) -> Result<&Origins, EngineError> {
        if self.origins.get().is_none() {
            let _ = self.origins.set(Origins::open(&self.cache, &self.store)?);
        }
        Ok(self.origins.get().expect("set just now"))
    }

    /// Returns all runs, oldest first.
    ///
    /// # Errors
    /// The run log cannot be read.
    pub fn runs(&self) -> Result<Vec<RunEntry>, EngineError> {
        self.index.runs().iter().map(|at| self.log.run(*at)).collect()
    }

    /// Finds a run by its id, a unique beginning of it, `last` or `last~N`.
    ///
    /// # Errors
    /// There is none, or several begin like this.
    pub fn find(&self, run: &str) -> Result<RunEntry, EngineError> {
        let unknown = |help: String| EngineError::UnknownRun { run: run.to_owned(), help };
        let ats = self.index.runs();
        let back = match run.strip_prefix("last") {
            Some("") => Some(0),
            Some(rest) => rest.strip_prefix('~').and_then(|n| n.parse::<usize>().ok()),
            None => None,
        };
        if let Some(back) = back {
            let at = ats.len().checked_sub(back + 1).map(|n| ats[n]);
            let at = at.ok_or_else(|| unknown(format!("there are {} runs; see `logweir runs`", ats.len())))?;
            return self.log.run(at);
        }
        let mut found = Vec::new();
        for at in ats {
            let id = self.log.run_id(*at)?;
            if id == run {
                return self.log.run(*at);
            }
            found.extend(id.starts_with(run).then_some(*at));
        }
        match found[..] {
            [at] => self.log.run(at),
            [] => Err(unknown("see `logweir runs`, or say `last` or `last~1`".to_owned())),
            _ => Err(unknown(format!("{} runs begin with it: give more of the id", found.len()))),
        }
    }

    /// Returns the map of a run.
    ///
    /// # Errors
    /// An object of it is missing or corrupt.
    pub fn map(&self, run: &RunEntry) -> Result<RunMap, EngineError> {
        runmap::load(&run.map, &self.store)
    }

    /// Returns a run in detail.
    ///
    /// # Errors
    /// Records cannot be read.
    pub fn detail(&self, run: RunEntry) -> Result<RunDetail, EngineError> {
        let mut stages = Vec::new();
        for (stage, entry) in self.map(&run)? {
            let action = entry.at.map(|at| self.log.action(at)).transpose()?;
            let mut outcome = StageOutcome {
                stage,
                decision: entry.decision,
                key: entry.key,
                reasons: entry.reasons,
                executed_in: None,
                seconds: None,
                peak_memory: None,
                threads: None,
                action: None,
                params: serde_json::Value::Null,
                inputs: BTreeMap::new(),
                outputs: BTreeMap::new(),
                warnings: Vec::new(),
                undeclared: Undeclared::default(),
            };
            if let Some(action) = action {
                outcome.executed_in = Some(action.run);
                outcome.seconds = Some(action.seconds);
                outcome.peak_memory = action.peak_memory;
                outcome.threads = Some(action.threads);
                outcome.action = action.record.action();
                outcome.params = action.record.params;
                outcome.inputs =
                    action.record.inputs.into_iter().map(|(slot, files)| (slot, files.unwrap_or_default())).collect();
                outcome.outputs = action.outputs;
                outcome.warnings = action.warnings;
                outcome.undeclared = action.undeclared;
            }
            stages.push(outcome);
        }
        Ok(RunDetail { info: run.info, roots: run.roots, host: run.host, stages })
    }

    /// Returns the last run of a pipeline.
    ///
    /// # Errors
    /// The run log cannot be read.
    pub fn last_of(&self, pipeline: &str) -> Result<Option<RunEntry>, EngineError> {
        self.index.last_run(pipeline).map(|last| self.log.run(last.at)).transpose()
    }

    /// Returns the actions whose outputs a run left in place.
    ///
    /// # Errors
    /// Records cannot be read.
    pub fn actions(&self, run: &RunEntry) -> Result<Vec<ActionView>, EngineError> {
        let map = self.map(run)?;
        let mut views = Vec::with_capacity(map.len());
        for (stage, entry) in map {
            if let Some(at) = entry.at {
                let view = ActionView::new(self.log.action(at)?, Some(entry.decision));
                views.push(ActionView { stage, ..view });
            }
        }
        Ok(views)
    }

    /// Returns summaries of all runs, oldest first.
    ///
    /// # Errors
    /// The run log cannot be read.
    pub fn summaries(&self) -> Result<Vec<RunInfo>, EngineError> {
        Ok(self.runs()?.into_iter().map(|entry| entry.info).collect())
    }
}

/// The stage → action map of a run, read as far as it is asked.
struct StateMap<'h> {
    history: &'h History,
    chunks: Vec<Digest>,
    read: RefCell<FastMap<usize, Rc<PlacesMap>>>,
    /// Where the actions of the state are → their stages.
    whole: OnceCell<FastMap<u64, String>>,
}

impl StateMap<'_> {
    fn chunk(&self, number: usize) -> Result<Rc<PlacesMap>, EngineError> {
        if let Some(chunk) = self.read.borrow().get(&number) {
            return Ok(Rc::clone(chunk));
        }
        let chunk = Rc::new(runmap::chunk(&self.chunks[number], &self.history.store)?);
        self.read.borrow_mut().insert(number, Rc::clone(&chunk));
        Ok(chunk)
    }

    /// Where the action of a stage is, and what was decided.
    fn entry(&self, stage: &str) -> Result<Option<(u64, Decision)>, EngineError> {
        if self.chunks.is_empty() {
            return Ok(None);
        }
        let chunk = self.chunk(runmap::chunk_of(stage, self.chunks.len()))?;
        Ok(chunk.get(stage).and_then(|entry| Some((entry.at?, entry.decision))))
    }

    fn whole(&self) -> Result<&FastMap<u64, String>, EngineError> {
        if self.whole.get().is_none() {
            let mut whole = FastMap::default();
            for number in 0..self.chunks.len() {
                for (stage, entry) in &*self.chunk(number)? {
                    whole.extend(entry.at.map(|at| (at, stage.clone())));
                }
            }
            let _ = self.whole.set(whole);
        }
        Ok(self.whole.get().expect("set just now"))
    }
}

/// An output that is, or an output directory that holds, a path.
struct OutputAt {
    action: Rc<ActionView>,
    slot: String,
    /// The path inside the directory.
    inside: Option<String>,
}

/// So many candidates are looked at one by one; beyond that the whole map of the run is read at once.
const FEW: usize = 8;
/// So many entries with the same content are looked at to find the one that fits best.
const MANY: usize = 64;

/// After so many entries, each a little before the last, what lies before them is read ahead.
const FOLLOWED: usize = 64;
/// How much of the log lies between them at most.
const NEAR: u64 = 16 << 10;

/// What reads ahead, and what tells whether it should.
#[derive(Default)]
struct Ahead {
    reader: Option<Backwards>,
    /// The entry that was read last.
    last: u64,
    /// So many were read one a little before the other.
    back: usize,
}

/// So many actions are kept at hand: most are asked for once or soon again, and memory that is used anew is cheaper than
/// more of it.
const KEPT: usize = 256;

/// The state a run left, as records; what it does not know is looked for in the whole log. Reads only what a question
/// needs: a few chunks of the run's map and a few entries of the log, found by the tables of `cache/origins`.
pub struct RunRecords<'h> {
    history: &'h History,
    map: StateMap<'h>,
    roots: BTreeMap<String, String>,
    /// By place: the action, and whether it is of this state; at most `KEPT`.
    actions: RefCell<FastMap<u64, (Rc<ActionView>, bool)>>,
    /// What reads ahead, where a long lineage is followed.
    ahead: RefCell<Ahead>,
    manifests: RefCell<FastMap<Digest, Option<Arc<Manifest>>>>,
}

impl<'h> RunRecords<'h> {
    /// Opens the state a run left; an empty state without a run.
    ///
    /// # Errors
    /// The map of the run is gone.
    pub fn of(history: &'h History, run: Option<&RunEntry>) -> Result<Self, EngineError> {
        let chunks = run.map(|run| runmap::objects(&run.map, &history.store)).transpose()?.unwrap_or_default();
        let chunks = chunks.into_iter().skip(1).collect();
        let map = StateMap { history, chunks, read: RefCell::default(), whole: OnceCell::new() };
        Ok(Self {
            history,
            map,
            roots: run.map(|run| run.roots.clone()).unwrap_or_default(),
            actions: RefCell::default(),
            ahead: RefCell::default(),
            manifests: RefCell::default(),
        })
    }

    fn origins(&self) -> Result<&Origins, EngineError> {
        self.history.origins()
    }

    fn action(&self, at: u64) -> Result<Rc<ActionView>, EngineError> {
        Ok(self.known(at)?.0)
    }

    /// Reads an entry of the log.
    fn read(&self, at: u64) -> Result<ActionEntry, EngineError> {
        let log = &self.history.log;
        let mut ahead = self.ahead.borrow_mut();
        ahead.back = if at < ahead.last && ahead.last - at < NEAR { ahead.back + 1 } else { 0 };
        ahead.last = at;
        if ahead.reader.as_ref().is_some_and(|reader| reader.is_far(at)) {
            ahead.reader = None;
        }
        if ahead.reader.is_none() && ahead.back == FOLLOWED {
            ahead.reader = log.actions_before(at);
        }
        match ahead.reader.as_mut().and_then(|reader| reader.take(at)) {
            Some(entry) => Ok(entry),
            None => log.action(at),
        }
    }

    /// Reads an action, once; with what the run asked about did with it. Says whether it is of this state.
    fn known(&self, at: u64) -> Result<(Rc<ActionView>, bool), EngineError> {
        if let Some(known) = self.actions.borrow().get(&at) {
            return Ok(known.clone());
        }
        let entry = self.read(at)?;
        let decision = self.map.entry(&entry.stage)?.filter(|(here, _)| *here == at).map(|(_, decision)| decision);
        let known = (Rc::new(ActionView::new(entry, decision)), decision.is_some());
        let mut actions = self.actions.borrow_mut();
        if actions.len() >= KEPT {
            actions.clear();
        }
        actions.insert(at, known.clone());
        Ok(known)
    }

    fn manifest(&self, digest: &Digest) -> Option<Arc<Manifest>> {
        if let Some(manifest) = self.manifests.borrow().get(digest) {
            return manifest.clone();
        }
        let manifest = self.history.store.manifest(digest).ok().map(Arc::new);
        self.manifests.borrow_mut().insert(*digest, manifest.clone());
        manifest
    }

    /// Returns those places (ascending) whose actions are of this state, the latest first.
    fn in_state(&self, places: &[u64]) -> Result<Vec<u64>, EngineError> {
        if places.is_empty() || self.map.chunks.is_empty() {
            return Ok(Vec::new());
        }
        let latest = places.iter().rev();
        if places.len() > FEW {
            let whole = self.map.whole()?;
            return Ok(latest.copied().filter(|at| whole.contains_key(at)).collect());
        }
        let mut found = Vec::new();
        for at in latest {
            if self.known(*at)?.1 {
                found.push(*at);
            }
        }
        Ok(found)
    }

    /// Returns that of the places (ascending) which is of this state and of the same stage as the latest.
    fn of_same_stage(&self, places: &[u64]) -> Result<Option<u64>, EngineError> {
        let Some(latest) = places.last() else { return Ok(None) };
        let (action, here) = self.known(*latest)?;
        if here {
            return Ok(Some(*latest));
        }
        let entry = self.map.entry(&action.stage)?;
        Ok(entry.map(|(at, _)| at).filter(|at| places.binary_search(at).is_ok()))
    }

    /// Returns the action of this state that wrote exactly this path.
    fn writer(&self, path: &str) -> Result<Option<(Rc<ActionView>, String)>, EngineError> {
        let places = self.origins()?.made(path);
        // Nearly always the stage that wrote it last is the one that wrote it in this state.
        if let Some(at) = self.of_same_stage(&places)?
            && let Some(found) = writes(self.action(at)?, path)
        {
            return Ok(Some(found));
        }
        for at in self.in_state(&places)? {
            if let Some(found) = writes(self.action(at)?, path) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Returns the project path of a logical path: a root that lies in the project is seen through.
    fn local(&self, path: &str) -> String {
        path.split_once(':')
            .and_then(|(root, rest)| {
                let place = Path::new(self.roots.get(root)?).strip_prefix(&self.history.root).ok()?;
                Some(place.join(rest).to_string_lossy().into_owned())
            })
            .unwrap_or_else(|| path.to_owned())
    }

    /// Returns the output that is, or the output directory that holds, a path.
    fn output_at(&self, path: &str) -> Result<Option<OutputAt>, EngineError> {
        let path = self.local(path);
        let bare = path.trim_end_matches('/');
        for whole in [bare, &format!("{bare}/")] {
            if let Some((action, slot)) = self.writer(whole)? {
                return Ok(Some(OutputAt { action, slot, inside: None }));
            }
        }
        // The innermost: what an item of a map makes lies in the directory of its stage.
        for (at, _) in bare.rmatch_indices('/') {
            if let Some((action, slot)) = self.writer(&bare[..=at])? {
                return Ok(Some(OutputAt { action, slot, inside: Some(bare[at + 1..].to_owned()) }));
            }
        }
        Ok(None)
    }

    /// Returns the path as it is recorded and its content, given the output that is or holds it.
    fn content_of(&self, path: &str, OutputAt { action, slot, inside }: &OutputAt) -> Option<(String, Digest)> {
        let output = &action.outputs[slot];
        // A path in a root stays as it is written.
        let written = |directory: bool| match path.contains(':') {
            true => format!("{}{}", path.trim_end_matches('/'), if directory { "/" } else { "" }),
            false => output.path.clone(),
        };
        let Some(inside) = inside else { return Some((written(output.is_directory()), output.digest)) };
        let manifest = self.manifest(&output.digest)?;
        if let Some(fact) = manifest.files.get(inside) {
            return Some((path.trim_end_matches('/').to_owned(), fact.digest));
        }
        let part = manifest.below(inside);
        (!part.files.is_empty()).then(|| (format!("{}/", path.trim_end_matches('/')), part.digest()))
    }

    /// Looks in the whole log for the latest action that gave `path` this content: where it is.
    fn elsewhere(&self, path: &str, digest: &Digest) -> Result<Option<u64>, EngineError> {
        let path = self.local(path);
        let origins = self.origins()?;
        let gave = origins.content(digest);
        let folders = path.trim_end_matches('/').rmatch_indices('/').map(|(at, _)| &path[..=at]);
        let mut found = None;
        for place in std::iter::once(path.as_str()).chain(folders) {
            let made = origins.made(place);
            for at in made.iter().rev().filter(|at| gave.binary_search(at).is_ok()) {
                if found.is_some_and(|found| found > *at) {
                    break;
                }
                let action = self.action(*at)?;
                let whole = place.len() == path.len();
                let collector = action.record.kind.as_deref() == Some(COLLECTOR);
                let gives = action.outputs.values().filter(|output| output.path == place).any(|output| match whole {
                    true => output.digest == *digest,
                    false if collector => false,
                    false => self
                        .manifest(&output.digest)
                        .and_then(|files| files.files.get(&path[place.len()..]).copied())
                        .is_some_and(|fact| fact.digest == *digest),
                });
                if gives {
                    found = Some(*at);
                    break;
                }
            }
        }
        Ok(found)
    }

    /// Returns where in the run log the action is that gave `path` this content, if it is none of this state.
    ///
    /// # Errors
    /// Records cannot be read.
    pub(crate) fn made_at(&self, path: &str, digest: &Digest) -> Result<Option<u64>, EngineError> {
        if self.recorded(path)?.is_some_and(|(_, recorded)| recorded == *digest) {
            return Ok(None);
        }
        self.elsewhere(path, digest)
    }

    /// Returns every place an action gave or read content at.
    fn places_in(&self, action: &ActionView, digest: &Digest) -> Vec<(bool, String)> {
        let collector = action.record.kind.as_deref() == Some(COLLECTOR);
        let mut places = Vec::new();
        for output in action.outputs.values() {
            if output.digest == *digest {
                places.push((true, output.path.clone()));
            }
            if output.is_directory()
                && !collector
                && let Some(manifest) = self.manifest(&output.digest)
            {
                let same = manifest.files.iter().filter(|(_, fact)| fact.digest == *digest);
                places.extend(same.map(|(inside, _)| (true, format!("{}{inside}", output.path))));
            }
        }
        if !collector {
            let read = action.record.inputs.values().flatten().flatten().filter(|(_, read)| *read == digest);
            places.extend(read.map(|(path, _)| (false, path.clone())));
        }
        places
    }
}

/// The states several runs left together: the last of every pipeline. What follows from an artifact may be another's.
pub(crate) struct States<'h>(Vec<RunRecords<'h>>);

impl<'h> States<'h> {
    /// Opens the states that runs left.
    pub(crate) fn of(history: &'h History, runs: &[RunEntry]) -> Result<Self, EngineError> {
        runs.iter().map(|run| RunRecords::of(history, Some(run))).collect::<Result<_, _>>().map(Self)
    }

    /// Returns whether an action made this content as a whole output.
    pub(crate) fn gave(&self, digest: &Digest) -> Result<bool, EngineError> {
        let gives = |action: &ActionView| action.outputs.values().any(|output| output.digest == *digest);
        Ok(self.actions(|origins| origins.content(digest))?.iter().any(|action| gives(action)))
    }

    /// Returns those of the actions at some places that are of a state, in the order of pipelines and stages.
    fn actions(&self, places: impl Fn(&Origins) -> Vec<u64>) -> Result<Vec<Rc<ActionView>>, EngineError> {
        let mut all = Vec::new();
        for records in &self.0 {
            let mut places = places(records.origins()?);
            places.sort_unstable();
            places.dedup();
            let places = records.in_state(&places)?.into_iter();
            let mut actions = places.map(|at| records.action(at)).collect::<Result<Vec<_>, _>>()?;
            actions.sort_by(|a, b| a.stage.cmp(&b.stage));
            all.append(&mut actions);
        }
        Ok(all)
    }
}

impl Followers for States<'_> {
    fn readers(&self, path: &str) -> Result<Vec<Rc<ActionView>>, EngineError> {
        let mut found = self.actions(|origins| origins.readers(path))?;
        found.retain(|action| reads(action, path));
        Ok(found)
    }

    fn made(&self, path: &str) -> Result<Option<(String, Digest)>, EngineError> {
        let found = self.actions(|origins| {
            let mut places = origins.made_in(path);
            folders(path).chain([path]).for_each(|whole| places.append(&mut origins.made(whole)));
            places
        })?;
        let mut outputs = found.iter().flat_map(|action| action.outputs.values());
        Ok(outputs.find(|output| overlaps(&output.path, path)).map(|output| (output.path.clone(), output.digest)))
    }

    fn writes(&self, path: &str) -> Result<bool, EngineError> {
        let found = self.actions(|origins| origins.made(path))?;
        Ok(found.iter().flat_map(|action| action.outputs.values()).any(|output| output.path == path))
    }
}

/// Returns the slot by which an action writes exactly this path.
fn writes(action: Rc<ActionView>, path: &str) -> Option<(Rc<ActionView>, String)> {
    let slot = action.outputs.iter().find(|(_, output)| output.path == path).map(|(slot, _)| slot.clone())?;
    Some((action, slot))
}

impl Records for RunRecords<'_> {
    fn files(&self, _path: &str, digest: &Digest) -> Result<Option<Arc<Manifest>>, EngineError> {
        Ok(self.manifest(digest))
    }

    fn maker(&self, path: &str, digest: &Digest) -> Result<Option<Rc<ActionView>>, EngineError> {
        if let Some(output) = self.output_at(path)?
            && self.content_of(path, &output).is_some_and(|(_, recorded)| recorded == *digest)
        {
            return Ok(Some(output.action));
        }
        self.elsewhere(path, digest)?.map(|at| self.action(at)).transpose()
    }

    fn digest_of(&self, path: &str) -> Result<Option<Digest>, EngineError> {
        let recorded = match self.recorded(path)? {
            None => self.read_by_some(path)?,
            recorded => recorded,
        };
        Ok(recorded.map(|(_, digest)| digest))
    }
}

impl State for RunRecords<'_> {
    fn recorded(&self, path: &str) -> Result<Option<(String, Digest)>, EngineError> {
        Ok(self.output_at(path)?.and_then(|output| self.content_of(path, &output)))
    }

    fn read_by_some(&self, path: &str) -> Result<Option<(String, Digest)>, EngineError> {
        let bare = path.trim_end_matches('/');
        for path in [bare, &format!("{bare}/")] {
            let places = self.origins()?.read(path);
            let found = match self.of_same_stage(&places)? {
                Some(at) => vec![at],
                None => self.in_state(&places)?,
            };
            for at in found {
                let action = self.action(at)?;
                let digest = action.record.inputs.values().flatten().find_map(|files| files.get(path).copied());
                if let Some(digest) = digest {
                    return Ok(Some((path.to_owned(), digest)));
                }
            }
        }
        Ok(None)
    }

    fn made_by_some(&self, path: &str) -> Result<Option<(String, Digest)>, EngineError> {
        let bare = path.trim_end_matches('/');
        for path in [bare, &format!("{bare}/")] {
            for at in self.origins()?.made(path).into_iter().rev().take(FEW) {
                let action = self.action(at)?;
                if let Some(output) = action.outputs.values().find(|output| output.path == path) {
                    return Ok(Some((path.to_owned(), output.digest)));
                }
            }
        }
        Ok(None)
    }

    fn places(&self, digest: &Digest) -> Result<Vec<Place>, EngineError> {
        let places = self.origins()?.content(digest);
        let here = self.in_state(&places)?;
        let is_here: BTreeSet<u64> = here.iter().copied().collect();
        let rest = places.iter().rev().copied().filter(|at| !is_here.contains(at));
        let mut found = Vec::new();
        for at in here.iter().copied().chain(rest).take(MANY) {
            let action = self.action(at)?;
            for (made, path) in self.places_in(&action, digest) {
                found.push(Place { path, made, here: is_here.contains(&at), run: action.run.clone() });
            }
        }
        Ok(found)
    }

    fn of_key(&self, key: &Digest) -> Result<Option<Rc<ActionView>>, EngineError> {
        let places = self.origins()?.key(key);
        let here = self.in_state(&places)?;
        for at in here.into_iter().chain(places.into_iter().rev().take(FEW)) {
            let action = self.action(at)?;
            if action.key == *key {
                return Ok(Some(action));
            }
        }
        Ok(None)
    }

    fn beginning(&self, digits: &str) -> Result<BTreeSet<Digest>, EngineError> {
        let mut found = BTreeSet::new();
        for at in self.origins()?.beginning(digits).into_iter().take(MANY) {
            let action = self.action(at)?;
            found.insert(action.key);
            for output in action.outputs.values() {
                found.insert(output.digest);
                let files = output.is_directory().then(|| self.manifest(&output.digest)).flatten();
                found.extend(files.iter().flat_map(|files| files.files.values().map(|fact| fact.digest)));
            }
            found.extend(action.record.inputs.values().flatten().flatten().map(|(_, digest)| *digest));
        }
        found.retain(|digest| digest.to_string().starts_with(digits));
        Ok(found)
    }

    fn roots(&self) -> &BTreeMap<String, String> {
        &self.roots
    }

    fn paths(&self) -> Result<BTreeSet<String>, EngineError> {
        let mut paths = BTreeSet::new();
        for at in self.map.whole()?.keys() {
            let action = self.action(*at)?;
            paths.extend(action.outputs.values().map(|output| output.path.clone()));
            paths.extend(action.record.inputs.values().flatten().flat_map(BTreeMap::keys).cloned());
        }
        Ok(paths)
    }

    fn bytes(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.history.store.read(digest).ok()
    }
}
