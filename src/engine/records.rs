//! Reads what was recorded: runs, their maps, their actions; and answers lineage questions from them.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use crate::digest::Digest;
use crate::error::EngineError;
use crate::fast::FastMap;
use crate::history::{RunDetail, RunInfo, StageOutcome};
use crate::index::Index;
use crate::lineage::{ActionView, Records};
use crate::manifest::Manifest;
use crate::map::COLLECTOR;
use crate::runlog::{self, ActionEntry, RunEntry};
use crate::runmap::{self, RunMap};
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
}

impl History {
    /// Opens the records of a project; takes no lock.
    ///
    /// # Errors
    /// The run log cannot be read.
    pub fn open(root: &Path, cache: &Path) -> Result<Self, EngineError> {
        let (index, _) = Index::open(cache)?;
        let store = Store::new(cache, &cache.join("tmp"), Link::Auto);
        Ok(Self { root: root.to_path_buf(), cache: cache.to_path_buf(), store, index })
    }

    /// Returns all runs, oldest first.
    ///
    /// # Errors
    /// The run log cannot be read.
    pub fn runs(&self) -> Result<Vec<RunEntry>, EngineError> {
        self.index.runs().iter().map(|at| runlog::run_at(&self.cache, *at)).collect()
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
            return runlog::run_at(&self.cache, at);
        }
        let mut found: Vec<RunEntry> =
            self.runs()?.into_iter().filter(|entry| entry.info.run.starts_with(run)).collect();
        if let Some(exact) = found.iter().position(|entry| entry.info.run == run) {
            return Ok(found.swap_remove(exact));
        }
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err(unknown("see `logweir runs`, or say `last` or `last~1`".to_owned())),
            n => Err(unknown(format!("{n} runs begin with it: give more of the id"))),
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
            let action = entry.at.map(|at| runlog::action_at(&self.cache, at)).transpose()?;
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
        self.index.last_run(pipeline).map(|last| runlog::run_at(&self.cache, last.at)).transpose()
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
                let view = ActionView::from(runlog::action_at(&self.cache, at)?);
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

/// Where content was found among all recorded outputs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    at: u64,
    slot: String,
    inside: Option<String>,
}

/// The state a run left, as records; what it does not know is looked for in the whole log.
pub struct RunRecords<'h> {
    history: &'h History,
    actions: Vec<Rc<ActionView>>,
    /// Output path → action and slot.
    outputs: BTreeMap<String, (usize, String)>,
    roots: BTreeMap<String, String>,
    contents: OnceCell<FastMap<Digest, Vec<Found>>>,
}

impl<'h> RunRecords<'h> {
    /// Reads the state a run left; an empty state without a run.
    ///
    /// # Errors
    /// Records cannot be read.
    pub fn of(history: &'h History, run: Option<&RunEntry>) -> Result<Self, EngineError> {
        let actions = run.map(|run| history.actions(run)).transpose()?.unwrap_or_default();
        let mut outputs = BTreeMap::new();
        for (number, action) in actions.iter().enumerate() {
            for (slot, output) in &action.outputs {
                outputs.insert(output.path.clone(), (number, slot.clone()));
            }
        }
        let roots = run.map(|run| run.roots.clone()).unwrap_or_default();
        let actions = actions.into_iter().map(Rc::new).collect();
        Ok(Self { history, actions, outputs, roots, contents: OnceCell::new() })
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

    /// Returns the output that is, or the output directory that holds, a path: action, slot, relative path in it.
    fn output_at(&self, path: &str) -> Option<(usize, &str, Option<String>)> {
        let path = self.local(path);
        let bare = path.trim_end_matches('/');
        if let Some((number, slot)) = self.outputs.get(bare).or_else(|| self.outputs.get(&format!("{bare}/"))) {
            return Some((*number, slot, None));
        }
        // The innermost: what an item of a map makes lies in the directory of its stage.
        bare.rmatch_indices('/').find_map(|(at, _)| {
            let (number, slot) = self.outputs.get(&bare[..=at])?;
            Some((*number, slot.as_str(), Some(bare[at + 1..].to_owned())))
        })
    }

    /// Returns the path as it is recorded (a directory with its slash) and the content it had in this state.
    ///
    /// # Errors
    /// Records cannot be read.
    pub fn recorded(&self, path: &str) -> Result<Option<(String, Digest)>, EngineError> {
        let Some((number, slot, inside)) = self.output_at(path) else { return Ok(None) };
        let output = &self.actions[number].outputs[slot];
        // A path in a root stays as it is written.
        let written = |directory: bool| match path.contains(':') {
            true => format!("{}{}", path.trim_end_matches('/'), if directory { "/" } else { "" }),
            false => output.path.clone(),
        };
        let Some(inside) = inside else { return Ok(Some((written(output.is_directory()), output.digest))) };
        let Ok(manifest) = self.history.store.manifest(&output.digest) else { return Ok(None) };
        if let Some(fact) = manifest.files.get(&inside) {
            return Ok(Some((path.trim_end_matches('/').to_owned(), fact.digest)));
        }
        let part = manifest.below(&inside);
        Ok((!part.files.is_empty()).then(|| (format!("{}/", path.trim_end_matches('/')), part.digest())))
    }

    /// Returns the content of an input of some action of this state, for sources: path as recorded, and digest.
    pub fn read_by_some(&self, path: &str) -> Option<(String, Digest)> {
        let bare = path.trim_end_matches('/');
        let folder = format!("{bare}/");
        self.actions.iter().find_map(|action| {
            let inputs = action.record.inputs.values().flatten();
            inputs.into_iter().find_map(|files| {
                [bare, folder.as_str()].into_iter().find_map(|path| files.get(path).map(|d| (path.to_owned(), *d)))
            })
        })
    }

    /// Returns the named roots of this state.
    pub fn roots(&self) -> &BTreeMap<String, String> {
        &self.roots
    }

    /// Returns the recorded path of the latest output, anywhere in the log, with this content.
    ///
    /// # Errors
    /// Records cannot be read.
    pub fn path_of(&self, digest: &Digest) -> Result<Option<String>, EngineError> {
        let here = self.actions.iter().flat_map(|a| a.outputs.values()).find(|o| o.digest == *digest);
        if let Some(output) = here {
            return Ok(Some(output.path.clone()));
        }
        let Some(found) = self.contents().get(digest).and_then(|all| all.iter().max()) else { return Ok(None) };
        let action = runlog::action_at(&self.history.cache, found.at)?;
        let output = &action.outputs[&found.slot];
        Ok(Some(match &found.inside {
            Some(inside) => format!("{}{inside}", output.path),
            None => output.path.clone(),
        }))
    }

    /// Returns everything any recorded action ever gave, by content.
    fn contents(&self) -> &FastMap<Digest, Vec<Found>> {
        self.contents.get_or_init(|| {
            let mut contents: FastMap<Digest, Vec<Found>> = FastMap::default();
            for (_, result) in self.history.index.results() {
                for (slot, output) in result.outputs {
                    let at = result.at;
                    if output.directory
                        && let Ok(manifest) = self.history.store.manifest(&output.fact.digest)
                    {
                        for (inside, fact) in manifest.files {
                            let found = Found { at, slot: slot.clone(), inside: Some(inside) };
                            contents.entry(fact.digest).or_default().push(found);
                        }
                    }
                    contents.entry(output.fact.digest).or_default().push(Found { at, slot, inside: None });
                }
            }
            contents
        })
    }

    /// Looks in the whole log for the latest action that gave `path` this content: where it is, and what it is.
    fn elsewhere(&self, path: &str, digest: &Digest) -> Result<Option<(u64, ActionEntry)>, EngineError> {
        let path = self.local(path);
        let mut all: Vec<&Found> = self.contents().get(digest).into_iter().flatten().collect();
        all.sort_by_key(|found| std::cmp::Reverse(found.at));
        for found in all {
            let action = runlog::action_at(&self.history.cache, found.at)?;
            let Some(output) = action.outputs.get(&found.slot) else { continue };
            if found.inside.is_some() && action.record.kind.as_deref() == Some(COLLECTOR) {
                continue;
            }
            let place = match &found.inside {
                Some(inside) => format!("{}{inside}", output.path),
                None => output.path.clone(),
            };
            if place == path {
                return Ok(Some((found.at, action)));
            }
        }
        Ok(None)
    }

    /// Returns where in the run log the action is that gave `path` this content, if it is none of this state.
    ///
    /// # Errors
    /// Records cannot be read.
    pub(crate) fn made_at(&self, path: &str, digest: &Digest) -> Result<Option<u64>, EngineError> {
        if self.recorded(path)?.is_some_and(|(_, recorded)| recorded == *digest) {
            return Ok(None);
        }
        Ok(self.elsewhere(path, digest)?.map(|(at, _)| at))
    }
}

impl Records for RunRecords<'_> {
    fn files(&self, _path: &str, digest: &Digest) -> Result<Option<Arc<Manifest>>, EngineError> {
        Ok(self.history.store.manifest(digest).ok().map(Arc::new))
    }

    fn maker(&self, path: &str, digest: &Digest) -> Result<Option<Rc<ActionView>>, EngineError> {
        if self.recorded(path)?.is_some_and(|(_, recorded)| recorded == *digest)
            && let Some((number, _, _)) = self.output_at(path)
        {
            return Ok(Some(Rc::clone(&self.actions[number])));
        }
        Ok(self.elsewhere(path, digest)?.map(|(_, action)| Rc::new(ActionView::from(action))))
    }

    fn digest_of(&self, path: &str) -> Result<Option<Digest>, EngineError> {
        Ok(self.recorded(path)?.map(|(_, digest)| digest).or_else(|| self.read_by_some(path).map(|(_, digest)| digest)))
    }
}
