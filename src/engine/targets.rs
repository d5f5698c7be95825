//! What the names on a command line mean: stages, artifacts, and items of mapped stages.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::EngineError;
use crate::graph::Dag;
use crate::map::{is_collector, label_in};
use crate::spec::{Spec, StageSpec};
use crate::suggest::did_you_mean;
use crate::survey::{Asked, Wanted};
use crate::wiring::Wiring;

/// What is selected and forced.
pub(crate) struct Chosen {
    /// By stage: whether it is selected.
    pub(crate) selected: Vec<bool>,
    /// By stage: what it is forced by.
    pub(crate) forced: Vec<Option<&'static str>>,
    /// What was said about single items.
    pub(crate) asked: Asked,
}

/// Finds out what targets and forced names mean.
///
/// # Errors
/// A name that is neither a stage nor an artifact nor could be an item.
pub(crate) fn choose(
    spec: &Spec,
    wiring: &Wiring,
    targets: &[String],
    force: &[String],
) -> Result<Chosen, EngineError> {
    let (selected, only) = select(spec, wiring, targets)?;
    let (forced, force) = forced(spec, force)?;
    Ok(Chosen { selected, forced, asked: Asked { only, force } })
}

type Selected = (Vec<bool>, BTreeMap<usize, BTreeSet<Wanted>>);

/// Returns the stages of some targets and all they wait for, and the maps of which only some items are wanted.
pub(crate) fn select(spec: &Spec, wiring: &Wiring, targets: &[String]) -> Result<Selected, EngineError> {
    if targets.is_empty() {
        return Ok((vec![true; spec.stages.len()], BTreeMap::new()));
    }
    let mut only: BTreeMap<usize, BTreeSet<Wanted>> = BTreeMap::new();
    let mut whole = Vec::new();
    for target in targets {
        match item_of(spec, target).or_else(|| inside_map(spec, wiring, target)) {
            Some((stage, wanted)) => {
                only.entry(stage).or_default().insert(wanted);
            }
            None => whole.push(target.clone()),
        }
    }
    let mut selected = vec![false; spec.stages.len()];
    if !whole.is_empty() {
        let dag = Dag::build(spec).map_err(|e| EngineError::Pipeline(e.to_string()))?;
        let chosen = dag.select(&whole).map_err(|unknown| EngineError::UnknownTarget {
            target: targets.join(" "),
            help: format!("{unknown}; {}", unknown.help),
        })?;
        selected = wiring.with_upstream(&chosen);
    }
    // What is upstream of a map that is wanted in part is wanted whole, were it another map.
    let parts: Vec<usize> = only.keys().copied().collect();
    for stage in parts {
        let upstream = wiring.with_upstream(&wiring.before[stage]);
        selected.iter_mut().zip(upstream).for_each(|(selected, upstream)| *selected |= upstream);
    }
    only.retain(|stage, _| !selected[*stage]);
    only.keys().for_each(|stage| selected[*stage] = true);
    Ok((selected, only))
}

type Forced = (Vec<Option<&'static str>>, BTreeMap<usize, BTreeSet<String>>);

fn forced(spec: &Spec, force: &[String]) -> Result<Forced, EngineError> {
    let mut items: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    let known = |given: &str| spec.stages.iter().any(|stage| stage.name == given || stage.base == given);
    for given in force.iter().filter(|given| !known(given)) {
        match item_of(spec, given) {
            Some((stage, Wanted::Item(name))) => {
                items.entry(stage).or_default().insert(name);
            }
            _ => {
                let names: Vec<&str> = spec.stages.iter().flat_map(|s| [s.name.as_str(), s.base.as_str()]).collect();
                return Err(EngineError::UnknownTarget { target: given.clone(), help: did_you_mean(given, &names) });
            }
        }
    }
    let by = |stage: &StageSpec| match (force.iter().any(|f| *f == stage.name || *f == stage.base), stage.policy.always)
    {
        (true, _) => Some("--force"),
        (false, true) => Some("always: true"),
        (false, false) => None,
    };
    Ok((spec.stages.iter().map(by).collect(), items))
}

/// Returns the mapped stage of which a name is an item, unless it is a stage itself.
pub(crate) fn item_of(spec: &Spec, name: &str) -> Option<(usize, Wanted)> {
    if !name.ends_with(']') || spec.stages.iter().any(|stage| stage.name == name) {
        return None;
    }
    let mut stages = spec.stages.iter().enumerate().filter(|(_, stage)| is_collector(stage));
    let (stage, _) = stages.find(|(_, stage)| label_in(&stage.name, name).is_some())?;
    Some((stage, Wanted::Item(name.to_owned())))
}

/// Returns the mapped stage in whose directory an artifact is.
fn inside_map(spec: &Spec, wiring: &Wiring, target: &str) -> Option<(usize, Wanted)> {
    if spec.stages.iter().any(|stage| stage.name == target || stage.base == target) {
        return None;
    }
    let (output, inside) = wiring.producer(spec, target)?;
    let stage = &spec.stages[output.stage];
    let path = format!("{}/{}", stage.outputs[output.slot].path.path, inside?);
    is_collector(stage).then_some((output.stage, Wanted::Path(path)))
}
