//! What is known while planning or running: files looked at, results of the index, and the outputs of every stage
//! decided so far. Gathers the inputs of a stage, makes its key record and decides.

mod gather;
mod map;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::digest::Digest;
use crate::error::{EngineError, MissingInput};
use crate::event::{Decision, Reason, ReasonKind};
use crate::index::{ActionResult, Index, ResultOutput};
use crate::key::{self, KeyRecord, SCHEMA, SlotRecord};
use crate::lockfile::LockFile;
use crate::manifest::{FileFact, Manifest};
use crate::map::{Expansions, Item, Piece, is_collector};
use crate::plan::{self, Changes, EffectState, Facts, PlanRow};
use crate::runlog::{self, ActionEntry};
use crate::shell;
use crate::snapshot::{Listing, Rests, Snapshot, State, Unit};
use crate::sources::Places;
use crate::spec::{Action, InputRef, ProjectPath, Spec, StageSpec};
use crate::stage::Made;
use crate::statcache::{Stat, StatCache};
use crate::store::Store;
use crate::wiring::{Link, Wiring};

/// How many files a changed directory lists as reasons.
const MOST_FILE_REASONS: usize = 20;

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

    /// Decides about a stage all of whose upstream stages are known.
    ///
    /// # Errors
    /// Inputs are missing or unreadable; a tool fails; an effect is configured wrongly.
    pub fn decide(&mut self, index: usize) -> Result<Verdict, Lack> {
        let stage = self.stage(index);
        if stage.policy.frozen {
            return self.decide_frozen(index);
        }
        let mut inputs = self.gather(index)?;
        let parent = self.parent(index).unwrap_or(index);
        let mut record = self.prepared[parent].record(stage);
        record.inputs.clone_from(&inputs.slots);
        record.env = stage.env.iter().map(|name| (name.clone(), self.env.get(name).cloned())).collect();
        for tool in &stage.tools {
            record.tools.insert(tool.clone(), self.tool(tool, &stage.name)?);
        }
        let effect = self.made(index).and_then(|made| made.stage.effect());
        if let Some(effect) = effect {
            let wrong = |e: anyhow::Error| EngineError::Effect { stage: stage.name.clone(), why: format!("{e:#}") };
            record.effect = Some(effect.target(self.env).map_err(wrong)?);
        }
        let key = record.key();
        let result = self.index.get(&key).filter(|result| fits(result, stage));
        let mut manifests = BTreeMap::new();
        let misplaced = match &result {
            Some(result) => self.misplaced(index, &result.outputs, &mut manifests, &mut inputs.places)?,
            None => stage
                .outputs
                .values()
                .map(|o| Reason::plain(ReasonKind::Output, declared(&o.path, o.directory)))
                .collect(),
        };
        let forced = self.forced[index];
        if forced.is_none() && effect.is_none() && result.is_some() && misplaced.is_empty() {
            let record = Arc::new(record);
            let (decision, reasons) = (Decision::Fresh, Vec::new());
            return Ok(Verdict { decision, reasons, key, record, inputs, result, manifests, before: None });
        }
        let last = self.last_action(&stage.name);
        let facts = Facts {
            forced,
            executed: result.is_some(),
            misplaced,
            stored: result.as_ref().is_some_and(|result| self.holds(&result.outputs)),
            effect: effect.map(|effect| match effect.is_current(&key, self.env) {
                Ok(true) => EffectState::Current,
                Ok(false) => EffectState::Other,
                Err(e) => EffectState::Unreachable(format!("{e:#}")),
            }),
            changes: match &last {
                Some(last) => Changes::Leaves(self.leaves(&last.record, &record, &inputs)),
                None => Changes::Never,
            },
        };
        let (decision, reasons) = plan::decide(facts, &stage.name);
        let before = last.map(|last| last.outputs.into_iter().map(|(slot, o)| (slot, o.digest)).collect());
        Ok(Verdict { decision, reasons, key, record: Arc::new(record), inputs, result, manifests, before })
    }

    /// A frozen stage is never run: its outputs are what the lock file says, or come from the store.
    fn decide_frozen(&mut self, index: usize) -> Result<Verdict, Lack> {
        let spec = self.spec;
        let stage = &spec.stages[index];
        let frozen = |why: String| Lack::Other(EngineError::Frozen { stage: stage.name.clone(), why });
        let Some(locked) = self.lock.stages.get(&stage.name).cloned() else {
            return Err(frozen("the lock file has no entry for it".to_owned()));
        };
        let output = |o: &crate::history::OutputRecord| ResultOutput {
            fact: FileFact { digest: o.digest, size: o.size, executable: o.executable },
            directory: o.is_directory(),
        };
        let outputs: BTreeMap<String, ResultOutput> =
            locked.outputs.iter().map(|(s, o)| (s.clone(), output(o))).collect();
        let known = self.index.action_of(&self.pipeline, &stage.name, &locked.key);
        let action = known.and_then(|at| runlog::action_at(&self.cache, at).ok());
        let record = action.map_or_else(|| self.prepared[index].record(stage), |action| action.record);
        let result = ActionResult { at: known.unwrap_or(u64::MAX), seconds: 0.0, outputs };
        if !fits(&result, stage) {
            return Err(frozen("its output slots are not those of the lock file".to_owned()));
        }
        let mut manifests = BTreeMap::new();
        let mut inputs = Gathered::default();
        let reasons = self.misplaced(index, &result.outputs, &mut manifests, &mut inputs.places)?;
        let decision = match reasons.first() {
            None => Decision::Fresh,
            Some(_) if self.holds(&result.outputs) => Decision::Restore,
            Some(reason) => return Err(frozen(format!("`{}` is not what the lock file says", reason.subject))),
        };
        let (key, record) = (locked.key, Arc::new(record));
        Ok(Verdict { decision, reasons, key, record, inputs, result: Some(result), manifests, before: None })
    }

    /// Returns a reason for each output that is not on disk as `outputs` says.
    fn misplaced(
        &mut self,
        index: usize,
        outputs: &BTreeMap<String, ResultOutput>,
        manifests: &mut BTreeMap<String, Arc<Manifest>>,
        listed: &mut Rests,
    ) -> Result<Vec<Reason>, EngineError> {
        let mut reasons = Vec::new();
        for (slot, output) in &self.stage(index).outputs {
            let wanted = &outputs[slot];
            let (matches, now) = if output.directory {
                let folder = self.places.directory(&mut self.memo, &output.path.path)?;
                let digest = folder.as_ref().map(|folder| folder.manifest.digest());
                if let Some(folder) = folder.filter(|_| digest == Some(wanted.fact.digest)) {
                    manifests.insert(slot.clone(), Arc::new(folder.manifest));
                    listed.push((output.path.path.clone(), State::Tree(folder.listing)));
                }
                (digest == Some(wanted.fact.digest), digest)
            } else {
                let fact = self.places.file(&mut self.memo, &output.path.path)?;
                (fact == Some(wanted.fact), fact.map(|fact| fact.digest))
            };
            if !matches {
                let new = now.map_or(serde_json::Value::Null, |digest| digest.to_string().into());
                let subject = declared(&output.path, output.directory);
                let old = wanted.fact.digest.to_string().into();
                reasons.push(Reason { kind: ReasonKind::Output, subject, old, new });
            }
        }
        Ok(reasons)
    }

    fn holds(&self, outputs: &BTreeMap<String, ResultOutput>) -> bool {
        outputs.values().all(|output| match output.directory {
            true => self.store.holds_directory(&output.fact.digest),
            false => self.store.holds(&output.fact.digest, output.fact.size),
        })
    }

    /// Returns the last executed action of a stage.
    pub fn last_action(&self, stage: &str) -> Option<ActionEntry> {
        let at = self.index.last_action(&self.pipeline, stage)?;
        runlog::action_at(&self.cache, at).ok()
    }

    /// Compares records; a changed directory is told file by file where its old manifest is still stored.
    fn leaves(&self, old: &KeyRecord, new: &KeyRecord, inputs: &Gathered) -> Vec<Reason> {
        let mut reasons = Vec::new();
        for reason in key::reasons(old, new) {
            let files = (reason.kind == ReasonKind::Input && reason.subject.ends_with('/'))
                .then(|| self.file_reasons(&reason, inputs))
                .flatten();
            match files {
                Some(files) => reasons.extend(files),
                None => reasons.push(reason),
            }
        }
        reasons
    }

    fn file_reasons(&self, reason: &Reason, inputs: &Gathered) -> Option<Vec<Reason>> {
        let digest = |value: &serde_json::Value| value.as_str().and_then(|text| text.parse::<Digest>().ok());
        let (old, new) = (digest(&reason.old)?, digest(&reason.new)?);
        let old = self.store.manifest(&old).ok()?;
        let gathered = inputs.manifests.iter().find(|m| m.digest() == new).cloned();
        let new = gathered.or_else(|| {
            let known = self.known.iter().flatten().flat_map(|known| known.manifests.values());
            known.into_iter().find(|m| m.digest() == new).map(|m| Manifest::clone(m))
        });
        let new = match new {
            Some(new) => new,
            None => self.store.manifest(&digest(&reason.new)?).ok()?,
        };
        let differences = old.differences(&new);
        let more = differences.len().saturating_sub(MOST_FILE_REASONS);
        let value = |digest: Option<Digest>| digest.map_or(serde_json::Value::Null, |d| d.to_string().into());
        let mut reasons: Vec<Reason> = differences
            .into_iter()
            .take(MOST_FILE_REASONS)
            .map(|(path, old, new)| Reason {
                kind: ReasonKind::Input,
                subject: format!("{}{path}", reason.subject),
                old: value(old),
                new: value(new),
            })
            .collect();
        if more > 0 {
            reasons.push(Reason::plain(ReasonKind::Input, format!("{} and {more} more files", reason.subject)));
        }
        (!reasons.is_empty()).then_some(reasons)
    }

    fn tool(&mut self, tool: &str, stage: &str) -> Result<String, EngineError> {
        if let Some(output) = self.tools.get(tool) {
            return Ok(output.clone());
        }
        let path = self.env.get("PATH").map(String::as_str);
        let output = shell::output_of(tool, self.places.root(), self.places.root(), path)
            .map_err(|why| EngineError::Tool { tool: tool.to_owned(), stage: stage.to_owned(), why })?;
        self.tools.insert(tool.to_owned(), output.clone());
        Ok(output)
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

    /// Says what would happen to the selected stages, in an order it could happen in.
    ///
    /// # Errors
    /// As [`Survey::decide`].
    pub fn plan(&mut self, selected: &[bool]) -> Result<Vec<PlanRow>, EngineError> {
        let (spec, wiring) = (self.spec, self.wiring);
        let mut rows = Vec::new();
        for &index in wiring.order.iter().filter(|index| selected[**index]) {
            let stage = &spec.stages[index];
            if let Some(unit) = self.fresh_unit(index) {
                let items = self.fresh_items(index);
                let actions = if is_collector(stage) { items } else { vec![unit] };
                rows.extend(actions.into_iter().map(|unit| PlanRow {
                    name: unit.name.to_owned(),
                    decision: Decision::Fresh,
                    reasons: Vec::new(),
                    key: Some(Digest::from(unit.key)),
                    seconds: None,
                }));
                continue;
            }
            let seconds = self.index.last_seconds(&self.pipeline, &stage.name);
            let waits: Vec<Reason> = wiring.data[index]
                .iter()
                .filter(|upstream| self.known[**upstream].is_none() && !self.is_fresh(**upstream))
                .map(|upstream| Reason::plain(ReasonKind::Upstream, &*spec.stages[*upstream].name))
                .collect();
            if !waits.is_empty() && !stage.policy.frozen {
                let forced = self.forced[index].map(|by| Reason::plain(ReasonKind::Forced, by));
                let decision = if forced.is_some() { Decision::Run } else { Decision::Waits };
                let reasons = forced.into_iter().chain(waits).collect();
                rows.push(PlanRow { name: stage.name.clone(), decision, reasons, key: None, seconds });
                continue;
            }
            if is_collector(stage) {
                self.plan_items(index, &mut rows)?;
                continue;
            }
            rows.push(self.plan_one(index)?);
        }
        Ok(rows)
    }

    /// Decides about a stage or item, takes its outputs as known if they are, and says what would happen to it.
    fn plan_one(&mut self, index: usize) -> Result<PlanRow, EngineError> {
        let name = &self.stage(index).name;
        let seconds = self.index.last_seconds(&self.pipeline, name);
        let verdict = self.decide(index)?;
        let row = PlanRow {
            name: name.clone(),
            decision: verdict.decision,
            reasons: verdict.reasons,
            key: Some(verdict.key),
            seconds: verdict.result.as_ref().map(|result| result.seconds).or(seconds),
        };
        if let (Decision::Fresh | Decision::Restore, Some(result)) = (verdict.decision, verdict.result) {
            self.settle(index, verdict.key, verdict.record, result.outputs, verdict.manifests);
        } else if verdict.decision == Decision::Fresh {
            // An effect whose target holds the key though this cache never ran it: it has no stored outputs.
            self.settle(index, verdict.key, verdict.record, BTreeMap::new(), BTreeMap::new());
        }
        Ok(row)
    }
}

/// Returns whether a result has just the output slots of a stage, of the same sort.
fn fits(result: &ActionResult, stage: &StageSpec) -> bool {
    result.outputs.len() == stage.outputs.len()
        && stage.outputs.iter().all(|(slot, o)| result.outputs.get(slot).is_some_and(|r| r.directory == o.directory))
}
