//! What is known while planning or running: files looked at, results of the index, and the outputs of every stage
//! decided so far. Gathers the inputs of a stage, makes its key record and decides.

mod decide;
mod gather;
mod map;
mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::decide::fits;
use crate::digest::Digest;
use crate::error::{EngineError, MissingInput};
use crate::event::{Decision, Reason};
use crate::index::{ActionResult, Index, ResultOutput};
use crate::key::{self, KeyRecord, SCHEMA, SlotRecord};
use crate::lockfile::LockFile;
use crate::manifest::{FileFact, Manifest};
use crate::map::{Expansions, Item, Piece};
use crate::runlog;
use crate::snapshot::{Listing, Rests, Snapshot, State, Unit};
use crate::sources::Places;
use crate::spec::{Action, InputRef, ProjectPath, Spec, StageSpec};
use crate::stage::Made;
use crate::statcache::{Stat, StatCache};
use crate::store::Store;
use crate::wiring::{Link, Wiring};

/// A stage ready to be decided about and run: what does not change while the pipeline is open.
pub struct Prepared {
    /// The built-in stage; `None` for shell stages.
    pub made: Option<Made>,
}

impl Prepared {
    /// Prepares every stage of a pipeline.
    ///
    /// # Errors
    /// A kind refuses parameters that the pipeline's check has let through: a bug.
    pub fn all(spec: &Spec) -> Result<Vec<Self>, EngineError> {
        spec.stages.iter().map(Self::new).collect()
    }

    fn new(stage: &StageSpec) -> Result<Self, EngineError> {
        let Action::Builtin { kind } = &stage.action else { return Ok(Self { made: None }) };
        let made = (kind.make)(&stage.params).map_err(|errors| {
            let text: Vec<String> = errors.iter().map(|e| format!("{}: {}", e.path, e.message)).collect();
            EngineError::Internal(format!("parameters of `{}`: {}", stage.name, text.join("; ")))
        })?;
        Ok(Self { made: Some(made) })
    }

    /// Returns the stage's key record but for inputs, environment, tools and effect.
    fn record(&self, stage: &StageSpec) -> KeyRecord {
        let mut record = KeyRecord {
            code: None,
            command: None,
            effect: None,
            env: BTreeMap::new(),
            inputs: BTreeMap::new(),
            kind: None,
            outputs: BTreeMap::new(),
            params: key::sorted(self.made.as_ref().map_or(&stage.params, |made| &made.params)),
            schema: SCHEMA,
            tools: BTreeMap::new(),
            version: None,
        };
        match &stage.action {
            Action::Builtin { kind } => {
                record.kind = Some(kind.name.to_owned());
                record.version = Some(kind.version);
                record.code = Some(Digest::from(kind.code));
                record.outputs = stage.outputs.keys().map(|slot| (slot.clone(), None)).collect();
            }
            Action::Shell { command } => {
                record.command = Some(command.clone());
                record.outputs = stage
                    .outputs
                    .iter()
                    .map(|(slot, o)| (slot.clone(), Some(declared(&o.path, o.directory))))
                    .collect();
            }
        }
        record
    }
}

/// Returns a path as records show it: a directory with a slash at the end.
pub fn declared(path: &ProjectPath, directory: bool) -> String {
    if directory { format!("{path}/") } else { path.to_string() }
}

/// A stage whose outputs are known.
#[derive(Clone, Debug)]
pub struct Known {
    /// The action key.
    pub key: Digest,
    /// What it is made of.
    pub record: Arc<KeyRecord>,
    /// Outputs by slot.
    pub outputs: BTreeMap<String, ResultOutput>,
    /// Manifests of output directories, as far as they were needed.
    pub manifests: BTreeMap<String, Arc<Manifest>>,
}

/// The inputs of a stage.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    /// As they enter the key.
    pub slots: BTreeMap<String, SlotRecord>,
    /// Lineage documents to be written for the stage: slot, logical path, text.
    pub documents: Vec<(String, String, String)>,
    /// Logical paths of source files, which must not change while the stage reads them.
    pub watched: Vec<String>,
    /// Manifests of source directories, to be stored with the action.
    pub manifests: Vec<Manifest>,
    /// Folders, patterns and absent files that were looked for.
    pub places: Rests,
    /// The piece of a file that an item of a map reads.
    pub piece: Option<PieceOf>,
}

/// A piece of a file as an input.
#[derive(Clone, Debug)]
pub struct PieceOf {
    /// The input slot.
    pub slot: String,
    /// The path that enters the key.
    pub logical: String,
    /// The file; a source if it has a name in the memo.
    pub file: (PathBuf, Option<String>),
    /// Which part.
    pub piece: Piece,
}

/// Why the inputs of a stage cannot be gathered.
#[derive(Debug)]
pub enum Lack {
    /// Files are missing.
    Missing(MissingInput),
    /// Something else.
    Other(EngineError),
}

impl From<EngineError> for Lack {
    fn from(error: EngineError) -> Self {
        Self::Other(error)
    }
}

impl From<Lack> for EngineError {
    fn from(lack: Lack) -> Self {
        match lack {
            Lack::Missing(missing) => Self::MissingInputs(vec![missing]),
            Lack::Other(error) => error,
        }
    }
}

/// What is decided about a stage whose inputs are known.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// `fresh`, `restore` or `run`.
    pub decision: Decision,
    /// Why.
    pub reasons: Vec<Reason>,
    /// The action key.
    pub key: Digest,
    /// What it is made of.
    pub record: Arc<KeyRecord>,
    /// The inputs.
    pub inputs: Gathered,
    /// What the key gave before, if it was executed.
    pub result: Option<ActionResult>,
    /// Manifests of output directories that are in place.
    pub manifests: BTreeMap<String, Arc<Manifest>>,
    /// Output digests of the stage's last execution, by slot.
    pub before: Option<BTreeMap<String, Digest>>,
}

/// Everything known while planning or running.
pub struct Survey<'a> {
    /// The pipeline.
    pub spec: &'a Spec,
    /// How inputs are met.
    pub wiring: &'a Wiring,
    /// Stages made ready.
    pub prepared: &'a [Prepared],
    /// Where files are.
    pub places: &'a Places,
    /// The environment of the process.
    pub env: &'a BTreeMap<String, String>,
    /// The cache folder.
    pub cache: PathBuf,
    /// The pipeline file, relative to the project root.
    pub pipeline: String,
    /// The store.
    pub store: Store,
    /// Digests by stat identity.
    pub memo: StatCache,
    /// Results by key.
    pub index: Index,
    /// What is locked.
    pub lock: LockFile,
    /// Why the lock file could not be read.
    pub lock_error: Result<(), EngineError>,
    /// By stage and item: what it is forced by.
    pub forced: Vec<Option<&'static str>>,
    /// By stage and item: what is known of it.
    pub known: Vec<Option<Known>>,
    /// What mapped stages are made of, as far as it is known.
    pub mapped: Mapped<'a>,
    /// Outputs of tools run so far.
    pub tools: BTreeMap<String, String>,
    /// What the last run found, and which stages are fresh by it.
    pub before: Option<Before<'a>>,
}

/// The items of mapped stages. They are numbered from where the stages end, so that stages and items are one sequence.
pub struct Mapped<'a> {
    /// Where they live.
    pub expansions: &'a Expansions,
    /// By number, beginning with the first after the stages.
    pub items: Vec<&'a Item>,
    /// Mapped stage → numbers of its items, once they are known.
    pub ranges: BTreeMap<usize, Range<usize>>,
    /// What the user said about items.
    pub asked: Asked,
}

/// What the user said about single items of mapped stages.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Mapped stage → what of it is wanted; a stage that is not named here is wanted whole.
    pub only: BTreeMap<usize, BTreeSet<Wanted>>,
    /// Mapped stage → items to run whatever their key says.
    pub force: BTreeMap<usize, BTreeSet<String>>,
}

/// One or more items of a mapped stage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// The item of this name.
    Item(String),
    /// Those that write this path, or in it.
    Path(String),
}

/// The snapshot of the last run, looked at again.
pub struct Before<'a> {
    /// The snapshot; its units are the stages, in order, then the items of mapped stages.
    pub snapshot: &'a Snapshot<'a>,
    /// By stage: everything it and all it waits for rest on is as it was, so it is fresh.
    pub fresh: Vec<bool>,
}

impl<'a> Survey<'a> {
    /// Returns whether a stage is known to be fresh by the snapshot of the last run.
    pub fn is_fresh(&self, index: usize) -> bool {
        self.before.as_ref().is_some_and(|before| before.fresh[index])
    }

    /// Returns the snapshot's unit of a stage that is fresh by it.
    pub fn fresh_unit(&self, index: usize) -> Option<Unit<'a>> {
        self.before.as_ref().filter(|before| before.fresh[index]).map(|before| before.snapshot.units[index])
    }

    /// Takes a snapshot of this very pipeline, all of whose places were looked at: finds the stages that are fresh by
    /// it. Stages that something else can make run (an effect's target, a tool, being forced) are left to be decided.
    pub fn begin_from(&mut self, snapshot: &'a Snapshot<'a>, same: &[bool]) {
        let (spec, wiring) = (self.spec, self.wiring);
        if snapshot.units.len() < spec.stages.len() {
            return;
        }
        let items_changed = snapshot.changed_items(spec.stages.len(), same);
        let mut fresh = vec![false; spec.stages.len()];
        for &index in &wiring.order {
            let (stage, unit) = (&spec.stages[index], &snapshot.units[index]);
            let effect = self.prepared[index].made.as_ref().is_some_and(|made| made.stage.effect().is_some());
            fresh[index] = unit.settled
                && unit.at.is_some()
                && self.forced[index].is_none()
                && !self.asks_for_items(index)
                && items_changed.binary_search(&index).is_err()
                && !effect
                && stage.tools.is_empty()
                && snapshot.places_of(unit).iter().all(|place| same[*place as usize])
                && wiring.before[index].iter().all(|upstream| fresh[*upstream]);
        }
        self.decide_maps_of_documents(&mut fresh);
        for unit in (0..fresh.len()).filter(|index| !fresh[*index]).map(|index| &snapshot.units[index]) {
            for place in snapshot.places_of(unit).iter().map(|place| *place as usize) {
                let (name, state) = &snapshot.places[place];
                self.memo.hint(name, &self.places.root().join(name), same[place].then_some(state));
            }
        }
        let at_the_edge: BTreeSet<usize> = (0..fresh.len())
            .filter(|index| !fresh[*index])
            .flat_map(|index| wiring.data[index].iter().copied().filter(|upstream| fresh[*upstream]))
            .collect();
        self.before = Some(Before { snapshot, fresh });
        if !at_the_edge.into_iter().all(|index| self.recall(index)) {
            // Records were lost: everything is decided from the files.
            self.before = None;
            self.known.fill(None);
        }
    }

    /// Makes the outputs of a stage known that is fresh by the snapshot; `false` if the records do not have them.
    fn recall(&mut self, index: usize) -> bool {
        if self.known[index].is_some() {
            return true;
        }
        let Some(unit) = self.fresh_unit(index) else { return false };
        let key = Digest::from(unit.key);
        let Some(result) = self.index.get(&key).filter(|result| fits(result, &self.spec.stages[index])) else {
            return false;
        };
        let Some(action) = unit.at.and_then(|at| runlog::action_at(&self.cache, at).ok()) else { return false };
        let mut manifests = BTreeMap::new();
        for (slot, output) in result.outputs.iter().filter(|(_, output)| output.directory) {
            let Ok(manifest) = self.store.manifest(&output.fact.digest) else { return false };
            manifests.insert(slot.clone(), Arc::new(manifest));
        }
        self.settle(index, key, Arc::new(action.record), result.outputs, manifests);
        true
    }

    /// Makes known what is upstream of a stage, for its lineage.
    fn recall_upstream(&mut self, index: usize) -> Result<(), EngineError> {
        let upstream = self.wiring.with_upstream(&[index]);
        for stage in (0..upstream.len()).filter(|stage| upstream[*stage] && *stage != index) {
            if self.is_fresh(stage) && !self.recall(stage) {
                let name = &self.spec.stages[stage].name;
                return Err(EngineError::Internal(format!("the record of `{name}` was lost; run again with --rehash")));
            }
        }
        Ok(())
    }

    /// Looks at every source file and output file of the selected stages that have to be decided, on all cores.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn look_ahead(&mut self, selected: &[bool]) -> Result<(), EngineError> {
        let mut names = Vec::new();
        let wanted = |index: usize| selected[index] && !self.is_fresh(index);
        for (index, stage) in self.spec.stages.iter().enumerate().filter(|(index, _)| wanted(*index)) {
            for wire in &self.wiring.wires[index] {
                let input = &stage.inputs[wire.slot];
                if let (Link::SourceFile, InputRef::File(path)) = (&wire.link, &input.refs[wire.reference]) {
                    let logical = path.to_string();
                    names.push((self.places.memo_name(&logical), self.places.place(path)));
                }
            }
            for output in stage.outputs.values().filter(|o| !o.directory) {
                names.push((output.path.to_string(), self.places.place(&output.path)));
            }
        }
        let files: Vec<(&str, PathBuf)> = names.iter().map(|(name, place)| (name.as_str(), place.clone())).collect();
        self.memo.look_at_all(&files)
    }

    /// Returns all source files of the selected stages that are missing.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn missing_sources(&mut self, selected: &[bool]) -> Result<Vec<MissingInput>, EngineError> {
        let mut missing = Vec::new();
        let spec = self.spec;
        for (index, stage) in spec.stages.iter().enumerate().filter(|(index, _)| selected[*index]) {
            if stage.policy.frozen || self.is_fresh(index) {
                continue;
            }
            for wire in &self.wiring.wires[index] {
                let (slot, input) = stage.inputs.get_index(wire.slot).expect("wires name slots of their stage");
                if input.optional {
                    continue;
                }
                let lacks = match (&wire.link, &input.refs[wire.reference]) {
                    (Link::SourceFile, InputRef::File(path)) => {
                        self.places.file(&mut self.memo, &path.to_string())?.is_none()
                    }
                    (Link::SourceDirectory(outputs), InputRef::Directory(path)) => {
                        outputs.is_empty() && !self.places.place(path).is_dir()
                    }
                    (Link::Pattern { matching, within }, InputRef::Glob(path)) => {
                        matching.is_empty() && within.is_empty() && self.places.matches(path)?.names.is_empty()
                    }
                    _ => false,
                };
                if lacks {
                    missing.push(self.missing(index, slot, &input.refs[wire.reference]));
                }
            }
        }
        Ok(missing)
    }

    /// Takes a stage's outputs as known.
    pub fn settle(
        &mut self,
        index: usize,
        key: Digest,
        record: Arc<KeyRecord>,
        outputs: BTreeMap<String, ResultOutput>,
        manifests: BTreeMap<String, Arc<Manifest>>,
    ) {
        self.known[index] = Some(Known { key, record, outputs, manifests });
    }

    /// Returns what the freshness of a settled stage rests on.
    pub fn rests(&self, index: usize, inputs: &Gathered, manifests: &BTreeMap<String, Arc<Manifest>>) -> Rests {
        // Not looked at, or lost on the way: never found as it was.
        let unknown = || State::File { stat: Stat::default(), digest: [0; 32], seen: 0 };
        let file = |name: String| {
            let state = self.memo.state(&name).unwrap_or_else(unknown);
            (name, state)
        };
        let mut rests = inputs.places.clone();
        rests.extend(inputs.watched.iter().map(|logical| file(self.places.memo_name(logical))));
        rests.extend(inputs.piece.iter().filter_map(|piece| piece.file.1.clone()).map(file));
        for (slot, output) in &self.stage(index).outputs {
            let path = &output.path.path;
            if !output.directory {
                rests.push(file(path.clone()));
                continue;
            }
            let Some(manifest) = manifests.get(slot) else {
                rests.push((path.clone(), unknown()));
                continue;
            };
            if !inputs.places.iter().any(|(name, state)| name == path && matches!(state, State::Tree(_))) {
                let names = manifest.files.keys().map(String::as_str);
                rests.push((path.clone(), State::Tree(Listing::new(names, Vec::new(), 0))));
            }
            rests.extend(manifest.files.keys().map(|relative| file(format!("{path}/{relative}"))));
        }
        rests
    }

    /// Takes note of what is on disk after an output was placed.
    pub fn note_placed(&mut self, path: &str, fact: &FileFact, manifest: Option<&Manifest>) {
        let place = |relative: &str| -> PathBuf { Path::new(self.places.root()).join(relative) };
        match manifest {
            None => self.memo.note(path, &place(path), fact),
            Some(manifest) => {
                for (relative, fact) in &manifest.files {
                    let name = format!("{path}{relative}");
                    self.memo.note(&name, &place(&name), fact);
                }
            }
        }
    }
}
