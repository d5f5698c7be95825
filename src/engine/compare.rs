//! What differs between two runs, and which differences can have caused what.
//!
//! A *root* difference is a changed leaf that is no consequence of another one: a parameter, code, a command, a
//! variable, a tool, a source file, a stage that came or went, or an action that gave other bytes for the same key. An
//! input whose producer gave other bytes is a consequence. Going back from an artifact over inputs whose content
//! differs reaches exactly the roots that can have caused its change: where a changed stage gave the same bytes as
//! before, nothing below it could change, and the way ends. A lineage document as an input names keys, so changes that
//! gave the same bytes pass through it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;
use crate::error::EngineError;
use crate::event::{Decision, ReasonKind};
use crate::history::RunInfo;
use crate::key::{KeyRecord, reasons};
use crate::lineage::{ActionView, Records as _};
use crate::map::{COLLECTOR, whole_of};
use crate::metrics::{Declared, Values};
use crate::questions::State as _;
use crate::records::{History, RunRecords};
use crate::runlog::RunEntry;

/// What kind of difference it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DifferenceKind {
    /// The stage is only in the later run.
    Added,
    /// The stage is only in the earlier run.
    Removed,
    /// The same key gave other bytes.
    Nondeterminism,
    /// A leaf of the key.
    #[serde(untagged)]
    Leaf(ReasonKind),
}

impl DifferenceKind {
    /// Returns the name used in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Nondeterminism => "nondeterminism",
            Self::Leaf(kind) => kind.name(),
        }
    }
}

/// A root difference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The stage it belongs to.
    pub stage: String,
    /// What kind.
    pub kind: DifferenceKind,
    /// Which leaf (`slot: path` of an input), or which artifact of an action that is not deterministic.
    pub subject: String,
    /// Value in the earlier run; null when it had none.
    pub old: Value,
    /// Value in the later run; null when it has none.
    pub new: Value,
}

/// A changed leaf of a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangedLeaf {
    /// Which kind of leaf.
    pub kind: ReasonKind,
    /// Which leaf.
    pub subject: String,
    /// Value in the earlier run.
    pub old: Value,
    /// Value in the later run.
    pub new: Value,
    /// Whether it is no consequence of another difference.
    pub root: bool,
}

/// How a stage differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageChange {
    /// Its key differs.
    Changed,
    /// Only the later run has it.
    Added,
    /// Only the earlier run has it.
    Removed,
    /// Its key is the same, its outputs are not.
    Nondeterminism,
    /// In one of the runs it failed or did not start.
    Unfinished,
}

/// A stage that differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageDifference {
    /// The stage's full name.
    pub stage: String,
    /// How.
    pub change: StageChange,
    /// The leaves that differ.
    pub leaves: Vec<ChangedLeaf>,
}

/// An artifact whose content differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArtifactDifference {
    /// The path; a directory ends with `/`.
    pub path: String,
    /// The stage that makes it.
    pub stage: String,
    /// Content in the earlier run; null when it was not made.
    pub old: Option<Digest>,
    /// Content in the later run.
    pub new: Option<Digest>,
}

/// A number that moved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricDifference {
    /// `path#pointer`.
    pub metric: String,
    /// The stage that writes it.
    pub stage: String,
    /// The artifact.
    pub path: String,
    /// Where in it.
    pub pointer: String,
    /// Number in the earlier run; null when it had none.
    pub old: Value,
    /// Number in the later run.
    pub new: Value,
    /// Later minus earlier; null when there are not both.
    pub delta: Option<f64>,
    /// The root differences that can have caused it.
    pub causes: Vec<Difference>,
    /// The root differences that cannot: nothing that differs leads from them to the artifact.
    pub not_causes: Vec<Difference>,
}

/// What differs between two runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The earlier run.
    pub from: RunInfo,
    /// The later run.
    pub to: RunInfo,
    /// What to know before reading the rest: other pipelines, values that are no longer stored.
    pub notes: Vec<String>,
    /// Stages that differ, by name.
    pub stages: Vec<StageDifference>,
    /// Artifacts whose content differs, by path.
    pub artifacts: Vec<ArtifactDifference>,
    /// Numbers that moved, by artifact and place in it.
    pub metrics: Vec<MetricDifference>,
    /// How many numbers were compared.
    pub compared: usize,
}

/// Compares two runs; `declared` says which artifacts hold metrics.
///
/// # Errors
/// Records cannot be read.
pub fn compare(
    history: &History,
    from: &RunEntry,
    to: &RunEntry,
    declared: &Declared,
) -> Result<Comparison, EngineError> {
    let (old, new) = (RunRecords::of(history, Some(from))?, RunRecords::of(history, Some(to))?);
    let state = |run: &RunEntry| -> Result<Vec<Rc<ActionView>>, EngineError> {
        Ok(history.actions(run)?.into_iter().map(Rc::new).collect())
    };
    let actions = [state(from)?, state(to)?];
    let mut walk = Walk::new(&old, &new, &actions);
    let names: BTreeSet<String> = walk.stages.iter().flat_map(|stages| stages.keys().cloned()).collect();
    let mut unfinished = BTreeSet::new();
    for run in [from, to] {
        let unready = |decision| matches!(decision, Decision::Failed | Decision::Skipped);
        let map = history.map(run)?.into_iter();
        unfinished.extend(map.filter(|(_, entry)| unready(entry.decision)).map(|(name, _)| name));
    }
    let mut all = BTreeSet::new();
    let mut stages = Vec::new();
    let mut artifacts: BTreeMap<String, ArtifactDifference> = BTreeMap::new();
    for stage in &names {
        let sides = [walk.stages[0].get(stage).cloned(), walk.stages[1].get(stage).cloned()];
        let [a, b] = &sides;
        for (side, action) in sides.iter().enumerate() {
            for output in action.iter().flat_map(|action| action.outputs.values()) {
                let entry = artifacts.entry(output.path.clone()).or_insert_with(|| ArtifactDifference {
                    path: output.path.clone(),
                    stage: stage.clone(),
                    old: None,
                    new: None,
                });
                *(if side == 0 { &mut entry.old } else { &mut entry.new }) = Some(output.digest);
                if side == 1 {
                    entry.stage.clone_from(stage);
                }
            }
        }
        let change = match (a, b) {
            _ if unfinished.contains(stage) => StageChange::Unfinished,
            (None, _) => StageChange::Added,
            (_, None) => StageChange::Removed,
            (Some(a), Some(b)) if a.key != b.key => StageChange::Changed,
            (Some(a), Some(b)) if differing_output(a, b).is_some() => StageChange::Nondeterminism,
            _ => continue,
        };
        let pair = walk.pair(a.clone(), b.clone(), Mode::Content);
        let step = walk.step(pair)?;
        if change != StageChange::Unfinished {
            all.extend(step.roots.iter().copied());
        }
        let leaves = match (a, b) {
            (Some(a), Some(b)) => walk.leaves(a, b, &step),
            _ => Vec::new(),
        };
        // A collector is no stage of the user's: its items and its artifact are told of.
        let collector = sides.iter().flatten().all(|action| is_collector(action));
        if !collector || change != StageChange::Changed {
            stages.push(StageDifference { stage: stage.clone(), change, leaves });
        }
    }
    artifacts.retain(|_, artifact| artifact.old != artifact.new);
    let mut notes = notes(from, to, &unfinished);
    let (metrics, compared) = moved(history, &mut walk, &actions, declared, all, &mut notes)?;
    Ok(Comparison {
        from: from.info.clone(),
        to: to.info.clone(),
        notes,
        stages,
        artifacts: artifacts.into_values().collect(),
        metrics,
        compared,
    })
}

fn notes(from: &RunEntry, to: &RunEntry, unfinished: &BTreeSet<String>) -> Vec<String> {
    let mut notes = Vec::new();
    let (a, b) = (&from.info, &to.info);
    if a.pipeline != b.pipeline {
        notes.push(format!(
            "the runs are of different pipelines (`{}` and `{}`): stages are matched by name",
            a.pipeline, b.pipeline
        ));
    }
    if a.profile != b.profile {
        let name = |profile: &Option<String>| profile.as_ref().map_or("none".to_owned(), |name| format!("`{name}`"));
        notes.push(format!("the runs have different profiles: {} and {}", name(&a.profile), name(&b.profile)));
    }
    if !unfinished.is_empty() {
        let names: Vec<&str> = unfinished.iter().take(5).map(String::as_str).collect();
        let more = unfinished.len() - names.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        notes.push(format!(
            "failed or not started in one of the runs, where it left what an earlier run made: {}{more}",
            names.join(", ")
        ));
    }
    notes
}

/// Compares the numbers of all artifacts that hold metrics.
fn moved(
    history: &History,
    walk: &mut Walk<'_, '_>,
    actions: &[Vec<Rc<ActionView>>; 2],
    declared: &Declared,
    mut all: BTreeSet<usize>,
    notes: &mut Vec<String>,
) -> Result<(Vec<MetricDifference>, usize), EngineError> {
    let mut values = Values::new(history);
    let mut files: BTreeMap<String, [Option<(Digest, String)>; 2]> = BTreeMap::new();
    for (side, actions) in actions.iter().enumerate() {
        for action in actions.iter().filter(|action| !is_collector(action)) {
            for output in action.outputs.values() {
                for (path, digest) in values.files_of(output, declared) {
                    files.entry(path).or_default()[side] = Some((digest, action.stage.clone()));
                }
            }
        }
    }
    let mut metrics = Vec::new();
    let mut compared = 0;
    let mut causes_of = Vec::new();
    for (path, sides) in files {
        let mut numbers: BTreeMap<String, [Value; 2]> = BTreeMap::new();
        let mut readable = true;
        for (side, file) in sides.iter().enumerate() {
            let Some((digest, _)) = file else { continue };
            match &*values.numbers(&path, digest) {
                Ok(found) => {
                    for (pointer, value) in found {
                        numbers.entry(pointer.clone()).or_default()[side] = Value::Number(value.clone());
                    }
                }
                Err(why) => {
                    readable = false;
                    let run = if side == 0 { "earlier" } else { "later" };
                    notes.push(format!("`{path}` of the {run} run: {why}"));
                }
            }
        }
        if !readable {
            continue;
        }
        compared += numbers.len();
        numbers.retain(|_, [old, new]| !same(old, new));
        if numbers.is_empty() {
            continue;
        }
        let maker = |side: usize| -> Result<_, EngineError> {
            let Some((digest, _)) = &sides[side] else { return Ok(None) };
            walk.records[side].maker(&path, digest)
        };
        let pair = walk.pair(maker(0)?, maker(1)?, Mode::Content);
        let causes = walk.causes(pair)?;
        all.extend(causes.iter().copied());
        let stage = sides.iter().rev().flatten().next().map(|(_, stage)| stage.clone()).unwrap_or_default();
        for (pointer, [old, new]) in numbers {
            let delta = old.as_f64().zip(new.as_f64()).map(|(old, new)| new - old);
            let metric = format!("{path}#{pointer}");
            let (stage, path) = (stage.clone(), path.clone());
            causes_of.push(causes.clone());
            metrics.push(MetricDifference {
                metric,
                stage,
                path,
                pointer,
                old,
                new,
                delta,
                causes: Vec::new(),
                not_causes: Vec::new(),
            });
        }
    }
    // Roots that were met on the way from one metric only are known to all by now.
    for (metric, causes) in metrics.iter_mut().zip(&causes_of) {
        metric.causes = causes.iter().map(|root| walk.roots[*root].clone()).collect();
        metric.not_causes = all.difference(causes).map(|root| walk.roots[*root].clone()).collect();
    }
    Ok((metrics, compared))
}

/// Numbers are the same if they mean the same: 1 and 1.0 are.
pub(crate) fn same(old: &Value, new: &Value) -> bool {
    old == new || old.as_f64().zip(new.as_f64()).is_some_and(|(a, b)| a.total_cmp(&b).is_eq())
}

fn is_collector(action: &ActionView) -> bool {
    action.record.kind.as_deref() == Some(COLLECTOR)
}

/// Returns the first output that both have with other content.
fn differing_output(a: &ActionView, b: &ActionView) -> Option<(String, Digest, Digest)> {
    a.outputs.iter().find_map(|(slot, old)| {
        let new = b.outputs.get(slot)?;
        (old.digest != new.digest).then(|| (new.path.clone(), old.digest, new.digest))
    })
}

/// How a way goes back from an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    /// Over inputs whose content differs.
    Content,
    /// Over all inputs: a lineage document names every key.
    Keys,
}

type Side = Option<Rc<ActionView>>;
type PairKey = (Option<(String, Digest)>, Option<(String, Digest)>, Mode);

/// What a pair of actions has of its own, and the pairs its differing inputs were made by.
#[derive(Default)]
struct Step {
    roots: BTreeSet<usize>,
    follow: BTreeSet<usize>,
}

/// Input files of a record by slot and path.
fn inputs(record: &KeyRecord) -> BTreeMap<(&str, &str), Digest> {
    let files = record.inputs.iter().flat_map(|(slot, files)| files.iter().flatten().map(move |file| (slot, file)));
    files.map(|(slot, (path, digest))| ((slot.as_str(), path.as_str()), *digest)).collect()
}

struct Walk<'r, 'h> {
    records: [&'r RunRecords<'h>; 2],
    stages: [BTreeMap<String, Rc<ActionView>>; 2],
    pairs: Vec<([Side; 2], Mode)>,
    numbers: BTreeMap<PairKey, usize>,
    steps: BTreeMap<usize, Rc<Step>>,
    roots: Vec<Difference>,
    known: BTreeMap<String, usize>,
}

impl<'r, 'h> Walk<'r, 'h> {
    fn new(old: &'r RunRecords<'h>, new: &'r RunRecords<'h>, actions: &[Vec<Rc<ActionView>>; 2]) -> Self {
        let by_name = |actions: &[Rc<ActionView>]| {
            actions.iter().map(|action| (action.stage.clone(), Rc::clone(action))).collect()
        };
        Self {
            records: [old, new],
            stages: [by_name(&actions[0]), by_name(&actions[1])],
            pairs: Vec::new(),
            numbers: BTreeMap::new(),
            steps: BTreeMap::new(),
            roots: Vec::new(),
            known: BTreeMap::new(),
        }
    }

    fn pair(&mut self, old: Side, new: Side, mode: Mode) -> usize {
        let name = |side: &Side| side.as_ref().map(|action| (action.stage.clone(), action.key));
        let key = (name(&old), name(&new), mode);
        *self.numbers.entry(key).or_insert_with(|| {
            self.pairs.push(([old, new], mode));
            self.pairs.len() - 1
        })
    }

    fn root(&mut self, difference: Difference) -> usize {
        let Difference { stage, kind, subject, old, new } = &difference;
        let key = format!("{stage}\0{kind:?}\0{subject}\0{old}\0{new}");
        *self.known.entry(key).or_insert_with(|| {
            self.roots.push(difference);
            self.roots.len() - 1
        })
    }

    /// Returns the roots that a pair of actions can have its difference from.
    fn causes(&mut self, pair: usize) -> Result<BTreeSet<usize>, EngineError> {
        let (mut causes, mut seen, mut open) = (BTreeSet::new(), BTreeSet::from([pair]), vec![pair]);
        while let Some(pair) = open.pop() {
            let step = self.step(pair)?;
            causes.extend(step.roots.iter().copied());
            open.extend(step.follow.iter().copied().filter(|next| seen.insert(*next)));
        }
        Ok(causes)
    }

    fn step(&mut self, pair: usize) -> Result<Rc<Step>, EngineError> {
        if let Some(step) = self.steps.get(&pair) {
            return Ok(Rc::clone(step));
        }
        let (sides, mode) = self.pairs[pair].clone();
        let step = Rc::new(match sides {
            [Some(a), Some(b)] => self.both(&a, &b, mode)?,
            [None, Some(b)] => self.alone(&b, 1, mode)?,
            [Some(a), None] => self.alone(&a, 0, mode)?,
            [None, None] => Step::default(),
        });
        self.steps.insert(pair, Rc::clone(&step));
        Ok(step)
    }

    fn both(&mut self, a: &Rc<ActionView>, b: &Rc<ActionView>, mode: Mode) -> Result<Step, EngineError> {
        let mut step = Step::default();
        if is_collector(a) && is_collector(b) {
            self.collected(a, b, mode, &mut step)?;
            return Ok(step);
        }
        if a.key == b.key {
            if let Some((subject, old, new)) = differing_output(a, b) {
                let (old, new) = (Value::from(old.to_string()), Value::from(new.to_string()));
                let kind = DifferenceKind::Nondeterminism;
                step.roots.insert(self.root(Difference { stage: b.stage.clone(), kind, subject, old, new }));
            }
            if mode == Mode::Content {
                return Ok(step);
            }
        }
        let came = !self.stages[0].contains_key(&b.stage);
        let went = !self.stages[1].contains_key(&a.stage);
        if a.stage != b.stage && (came || went) {
            // Another stage makes it now.
            if went {
                step.roots.insert(self.root(whole(a, DifferenceKind::Removed)));
            }
            if came {
                step.roots.insert(self.root(whole(b, DifferenceKind::Added)));
            }
        } else {
            for reason in reasons(&a.record, &b.record).into_iter().filter(|r| r.kind != ReasonKind::Input) {
                let kind = DifferenceKind::Leaf(reason.kind);
                let (subject, old, new) = (reason.subject, reason.old, reason.new);
                step.roots.insert(self.root(Difference { stage: b.stage.clone(), kind, subject, old, new }));
            }
        }
        let (before, after) = (inputs(&a.record), inputs(&b.record));
        let files: BTreeSet<(&str, &str)> = before.keys().chain(after.keys()).copied().collect();
        for file in files {
            let digests = [before.get(&file).copied(), after.get(&file).copied()];
            if digests[0] != digests[1] || mode == Mode::Keys {
                self.input(&b.stage, file, digests, mode, &mut step)?;
            }
        }
        Ok(step)
    }

    /// Items and what they made.
    fn collected(&mut self, a: &ActionView, b: &ActionView, mode: Mode, step: &mut Step) -> Result<(), EngineError> {
        for (slot, output) in &b.outputs {
            let Some(before) = a.outputs.get(slot) else { continue };
            let old = self.records[0].files(&before.path, &before.digest)?;
            let new = self.records[1].files(&output.path, &output.digest)?;
            let (Some(old), Some(new)) = (old, new) else { continue };
            let files: BTreeSet<&String> = old.files.keys().chain(new.files.keys()).collect();
            for file in files {
                let digests = [old.files.get(file), new.files.get(file)].map(|fact| fact.map(|fact| fact.digest));
                if digests[0] == digests[1] && mode == Mode::Content {
                    continue;
                }
                let path = format!("{}{file}", output.path);
                let makers = self.makers(&path, digests)?;
                let [old, new] = makers;
                step.follow.insert(self.pair(old, new, mode));
            }
        }
        Ok(())
    }

    fn makers(&self, path: &str, digests: [Option<Digest>; 2]) -> Result<[Side; 2], EngineError> {
        let maker = |side: usize| -> Result<Side, EngineError> {
            let Some(digest) = &digests[side] else { return Ok(None) };
            self.records[side].maker(path, digest)
        };
        Ok([maker(0)?, maker(1)?])
    }

    /// An input whose content differs: a root if it is a source or was wired otherwise; else its makers are followed.
    fn input(
        &mut self,
        stage: &str,
        (slot, path): (&str, &str),
        digests: [Option<Digest>; 2],
        mode: Mode,
        step: &mut Step,
    ) -> Result<(), EngineError> {
        let differs = digests[0] != digests[1];
        let (of, mode) = match path.strip_prefix("lineage:") {
            Some(of) => (Some(of), Mode::Keys),
            None => (whole_of(path), mode),
        };
        let (at, wanted) = match of {
            Some(of) => {
                let now = |side: usize| -> Result<Option<Digest>, EngineError> {
                    if digests[side].is_none() { Ok(None) } else { self.records[side].digest_of(of) }
                };
                (of, [now(0)?, now(1)?])
            }
            None => (path, digests),
        };
        let [old, new] = self.makers(at, wanted)?;
        let root = match (&old, &new) {
            (None, None) => differs,
            _ if digests.iter().all(Option::is_some) => {
                step.follow.insert(self.pair(old, new, mode));
                false
            }
            (Some(made), None) | (None, Some(made)) => {
                // Only one of the runs read it.
                let (here, there) = if old.is_some() { (0, 1) } else { (1, 0) };
                let other = self.stages[there].get(&made.stage).cloned();
                let elsewhere = self.records[there].recorded(at)?.map(|(_, digest)| digest);
                let rewired = other.is_some() && elsewhere.is_some();
                if !rewired || elsewhere != wanted[here] {
                    let mut sides = [None, None];
                    sides[here] = Some(Rc::clone(made));
                    sides[there] = other;
                    let [old, new] = sides;
                    step.follow.insert(self.pair(old, new, mode));
                }
                rewired
            }
            (Some(_), Some(_)) => false,
        };
        if root {
            let text = |digest: Option<Digest>| digest.map_or(Value::Null, |digest| Value::from(digest.to_string()));
            step.roots.insert(self.root(Difference {
                stage: stage.to_owned(),
                kind: DifferenceKind::Leaf(ReasonKind::Input),
                subject: format!("{slot}: {path}"),
                old: text(digests[0]),
                new: text(digests[1]),
            }));
        }
        Ok(())
    }

    /// A stage that only one run has. An item of a map over something produced came or went with what was produced.
    fn alone(&mut self, action: &Rc<ActionView>, here: usize, mode: Mode) -> Result<Step, EngineError> {
        let mut step = Step::default();
        let there = 1 - here;
        let collector = action.stage.match_indices('[').map(|(at, _)| &action.stage[..at]).find(|name| {
            [here, there].iter().all(|side| self.stages[*side].get(*name).is_some_and(|action| is_collector(action)))
        });
        if collector.is_some() {
            for (path, digest) in action.record.inputs.values().flatten().flatten() {
                let path = whole_of(path).unwrap_or(path);
                if let Some(made) = self.records[here].maker(path, digest)?
                    && self.records[there].recorded(path)?.is_none()
                {
                    let mut sides = [None, None];
                    sides[there] = self.stages[there].get(&made.stage).cloned();
                    sides[here] = Some(made);
                    let [old, new] = sides;
                    step.follow.insert(self.pair(old, new, mode));
                }
            }
        }
        if step.follow.is_empty() {
            let kind = if here == 0 { DifferenceKind::Removed } else { DifferenceKind::Added };
            step.roots.insert(self.root(whole(action, kind)));
        }
        Ok(step)
    }

    /// Returns every leaf in which two actions of a stage differ.
    fn leaves(&self, a: &ActionView, b: &ActionView, step: &Step) -> Vec<ChangedLeaf> {
        let roots: BTreeSet<(DifferenceKind, &str)> =
            step.roots.iter().map(|root| &self.roots[*root]).map(|root| (root.kind, root.subject.as_str())).collect();
        let leaf = |reason: crate::event::Reason| ChangedLeaf {
            root: roots.contains(&(DifferenceKind::Leaf(reason.kind), reason.subject.as_str())),
            kind: reason.kind,
            subject: reason.subject,
            old: reason.old,
            new: reason.new,
        };
        reasons(&a.record, &b.record).into_iter().map(leaf).collect()
    }
}

fn whole(action: &ActionView, kind: DifferenceKind) -> Difference {
    Difference { stage: action.stage.clone(), kind, subject: String::new(), old: Value::Null, new: Value::Null }
}
