//! What ties stages together: the names in `needs`, and the places of what the graph finds wrong.

use std::collections::BTreeMap;

use indexmap::IndexSet;

use super::error::{Place, Problem};
use super::source::{Part, Sources};
use super::spans::join;
use super::{Spec, StageSpec};
use crate::graph::{Fault, Via};
use crate::suggest::did_you_mean;

/// Turns names in `needs` into full names: a stage with a matrix stands for all its combinations.
pub(super) fn resolve_needs(checked: &mut [StageSpec], sources: &mut Sources) {
    if checked.iter().all(|stage| stage.needs.is_empty()) {
        return;
    }
    let mut by_name: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for stage in checked.iter() {
        by_name.entry(stage.base.clone()).or_default().push(stage.name.clone());
        if stage.name != stage.base {
            by_name.insert(stage.name.clone(), vec![stage.name.clone()]);
        }
    }
    for stage in checked.iter_mut().filter(|stage| !stage.needs.is_empty()) {
        let mut full: IndexSet<&String> = IndexSet::new();
        for name in &stage.needs {
            match by_name.get(name) {
                Some(names) => full.extend(names),
                // The stage is there, or it was reported; a combination of it may not be.
                None => {
                    let base = name.split('[').next().unwrap_or(name);
                    let Some(combinations) = by_name.get(base).filter(|_| name != base) else { continue };
                    let known: Vec<&str> = combinations.iter().map(String::as_str).collect();
                    let at = join(&join("/stages", &stage.base), "needs");
                    sources.fail(&at, Part::Value, name, Problem::UnknownStage(name.clone())).help =
                        Some(did_you_mean(name, &known));
                }
            }
        }
        let full = full.into_iter().cloned().collect();
        stage.needs = full;
    }
}

/// Reports what the graph found wrong, at the places in the text.
pub(super) fn place_faults(spec: &Spec, faults: &[Fault], sources: &mut Sources) {
    for fault in faults {
        let problem = fault.problem(spec);
        match fault {
            Fault::SameOutput { first, second, .. } => {
                let place = |sources: &Sources, (stage, slot): &(usize, String)| {
                    let out = join(&join("/stages", &spec.stages[*stage].base), "out");
                    sources.locate(&join(&out, slot), Part::Value)
                };
                let (at, other) = (place(sources, second), place(sources, first));
                let same_place = at.span == other.span;
                let matrix = spec.stages[second.0].name != spec.stages[second.0].base;
                let error = sources.fail_at(Some(at), problem);
                if same_place && matrix {
                    error.help = Some("put the axes in the path: `${matrix.NAME}`".to_owned());
                } else {
                    error.related = vec![(other, "first written here".to_owned())];
                    error.help = Some("a path is owned by one stage: give one of them another".to_owned());
                }
            }
            Fault::Cycle(edges) => {
                let mut places: Vec<(Place, String)> = edges
                    .iter()
                    .map(|edge| {
                        let to = &spec.stages[edge.to];
                        let stage = join("/stages", &to.base);
                        let pointer = match &edge.via {
                            Via::Input { slot } => {
                                let optional = join(&join(&stage, "in"), &format!("{slot}?"));
                                let plain = join(&join(&stage, "in"), slot);
                                if sources.spans().get(&optional).is_some() { optional } else { plain }
                            }
                            Via::Needs => join(&stage, "needs"),
                        };
                        let note = match &edge.via {
                            Via::Input { .. } => {
                                format!("`{}` reads what `{}` writes", to.name, spec.stages[edge.from].name)
                            }
                            Via::Needs => format!("`{}` needs `{}`", to.name, spec.stages[edge.from].name),
                        };
                        (sources.locate(&pointer, Part::Value), note)
                    })
                    .collect();
                // A long circle is told by its first and last steps.
                if places.len() > 6 {
                    places.drain(3..places.len() - 3);
                }
                let (place, label) = places.remove(0);
                let error = sources.fail_at(Some(place), problem);
                error.label = label;
                error.related = places;
            }
        }
    }
}
