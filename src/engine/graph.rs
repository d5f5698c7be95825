//! The DAG of a pipeline: stages, and edges derived from the paths they write and read.
//!
//! Pure and linear: paths are looked up in sorted tables, patterns once each however many stages share them, and nothing
//! recurses, so ten thousand stages or a chain of a hundred thousand are no matter.
//!
//! An input depends on the stage that writes it: a file on the stage that writes that file or a directory around it; a
//! directory also on all that write inside it; a pattern on every output it can match. A root whose place is inside the
//! project is seen through, so that a stage may write what another reads as `raw:...`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::ops::Bound;

use indexmap::{IndexMap, IndexSet};
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;

use crate::spec::paths;
use crate::spec::{InputRef, Problem, ProjectPath, Spec, SpecError, SpecErrors};
use crate::suggest::did_you_mean;

/// Why one stage waits for another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// It reads what the other writes, in this input slot.
    Input {
        /// The slot.
        slot: String,
    },
    /// It says so in `needs`.
    Needs,
}

/// One step of a circle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The stage that must be first.
    pub from: usize,
    /// The stage that waits for it.
    pub to: usize,
    /// Why.
    pub via: Via,
}

/// What keeps stages from being a DAG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Two outputs are one path, or one lies in the other.
    SameOutput {
        /// Stage and slot of the output listed first.
        first: (usize, String),
        /// Stage and slot of the other one.
        second: (usize, String),
    },
    /// Stages that wait for each other, in a circle.
    Cycle(Vec<Step>),
}

impl Fault {
    /// Says what is wrong.
    pub fn problem(&self, spec: &Spec) -> Problem {
        match self {
            Self::SameOutput { first, second } => {
                let output = |(stage, slot): &(usize, String)| {
                    let output = &spec.stages[*stage].outputs[slot];
                    format!("{}{}", output.path, if output.directory { "/" } else { "" })
                };
                let (a, b) = (output(first), output(second));
                let names = (&spec.stages[first.0].name, &spec.stages[second.0].name);
                Problem::DuplicateOutput(match (a == b, first.0 == second.0) {
                    (true, true) => format!("stage `{}` writes `{b}` twice", names.1),
                    (true, false) => format!("stages `{}` and `{}` both write `{b}`", names.0, names.1),
                    (false, true) => format!("stage `{}` writes `{a}` and `{b}`, one inside the other", names.1),
                    (false, false) => {
                        format!("stage `{}` writes `{b}`, which conflicts with `{a}` of `{}`", names.1, names.0)
                    }
                })
            }
            Self::Cycle(steps) => {
                let mut names: Vec<&str> = steps.iter().map(|step| spec.stages[step.from].name.as_str()).collect();
                if names.len() > 10 {
                    names.splice(4..names.len() - 4, ["..."]);
                }
                names.extend(steps.first().map(|step| spec.stages[step.from].name.as_str()));
                Problem::Cycle(names.join(" → "))
            }
        }
    }
}

/// A name on the command line that is neither a stage nor an artifact.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct UnknownTarget {
    /// What is wrong.
    pub message: String,
    /// What was perhaps meant.
    pub help: String,
}

#[derive(Clone, Copy, Debug)]
enum Link {
    /// By the input slot of this number.
    Input(u32),
    Needs,
}

/// An output in the table of all outputs.
#[derive(Clone, Copy, Debug)]
struct Producer {
    stage: usize,
    slot: usize,
    directory: bool,
}

/// Stages by index, as in [`Spec::stages`], and who waits for whom.
#[derive(Clone, Debug)]
pub struct Dag {
    graph: DiGraph<(), Link, u32>,
    dependencies: Vec<Box<[usize]>>,
    dependents: Vec<Box<[usize]>>,
    order: Vec<usize>,
    outputs: Outputs,
    /// Stage names, and base names of matrix stages → stages.
    names: IndexMap<String, Vec<usize>>,
}

impl Dag {
    /// Derives the edges of a checked pipeline.
    ///
    /// # Errors
    /// Every path with two writers, and every circle. Without places in the text: [`crate::spec::load`] has reported the
    /// same with places, so this fails only for a [`Spec`] made by hand.
    pub fn build(spec: &Spec) -> Result<Self, SpecErrors> {
        link(spec).map_err(|faults| SpecErrors {
            errors: faults.iter().map(|fault| SpecError::new(fault.problem(spec))).collect(),
            file: spec.name.clone(),
        })
    }

    /// Returns how many stages there are.
    pub fn len(&self) -> usize {
        self.dependencies.len()
    }

    /// Whether there are no stages.
    pub fn is_empty(&self) -> bool {
        self.dependencies.is_empty()
    }

    /// Returns the stages that must finish before stage `i`, ascending.
    pub fn dependencies(&self, i: usize) -> &[usize] {
        &self.dependencies[i]
    }

    /// Returns the stages that wait for stage `i`, ascending.
    pub fn dependents(&self, i: usize) -> &[usize] {
        &self.dependents[i]
    }

    /// Returns all stages, each after those it depends on; otherwise in the order written.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// Returns every edge as (before, after, whether it comes from `needs` alone), in order.
    pub fn edges(&self) -> Vec<(usize, usize, bool)> {
        let mut edges: Vec<(usize, usize, bool)> = self
            .graph
            .edge_references()
            .map(|edge| (edge.source().index(), edge.target().index(), matches!(edge.weight(), Link::Needs)))
            .collect();
        edges.sort_unstable();
        edges
    }

    /// Returns the stage that writes a path of the project: the path itself or a directory around it. `None` for
    /// sources. A trailing slash does not matter; `root:path` is seen through where the root lies in the project.
    pub fn producer_of(&self, path: &str) -> Option<usize> {
        let path = self.outputs.logical(path)?;
        self.outputs.around(&path).map(|producer| producer.stage)
    }

    /// Returns the outputs an input reads, as (stage, number of its output slot), ascending; none for sources.
    pub fn written(&self, input: &InputRef) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        let mut finder = Finder { outputs: &self.outputs, shared: IndexMap::new() };
        finder.producers(input, &mut |producer| found.push((producer.stage, producer.slot)));
        found
    }

    /// Returns the stages of some targets and all they depend on, ascending; all stages where no target is given.
    ///
    /// A target is the name of a stage (`train`, `train[n=3]`, or `train` for all of its combinations) or the path of
    /// an artifact, or of a folder that holds artifacts.
    ///
    /// # Errors
    /// The first target that is neither.
    pub fn select(&self, targets: &[String]) -> Result<Vec<usize>, UnknownTarget> {
        if targets.is_empty() {
            return Ok((0..self.len()).collect());
        }
        let mut wanted = vec![false; self.len()];
        let mut open = Vec::new();
        for target in targets {
            open.extend(self.targets_of(target)?);
        }
        while let Some(stage) = open.pop() {
            if !std::mem::replace(&mut wanted[stage], true) {
                open.extend(self.dependencies(stage).iter().filter(|before| !wanted[**before]));
            }
        }
        Ok((0..self.len()).filter(|stage| wanted[*stage]).collect())
    }

    /// Returns the stages one target names, without what they depend on.
    ///
    /// # Errors
    /// It names none.
    pub fn targets_of(&self, target: &str) -> Result<Vec<usize>, UnknownTarget> {
        if let Some(stages) = self.names.get(target) {
            return Ok(stages.clone());
        }
        if let Some(path) = self.outputs.logical(target) {
            if let Some(producer) = self.outputs.around(&path) {
                return Ok(vec![producer.stage]);
            }
            let mut inside: Vec<usize> =
                self.outputs.inside(&path).iter().map(|(_, producer)| producer.stage).collect();
            inside.sort_unstable();
            inside.dedup();
            if !inside.is_empty() {
                return Ok(inside);
            }
        }
        // Names are compared with names and paths with paths, else a short path looks like many a short name.
        let known: Vec<&str> = if target.contains(['/', '.']) {
            self.outputs.table.keys().map(String::as_str).collect()
        } else {
            self.names.keys().map(String::as_str).collect()
        };
        let (help, what) = (did_you_mean(target.trim_end_matches('/'), &known), "no stage or artifact");
        Err(UnknownTarget { message: format!("{what} is named `{target}`"), help })
    }
}

/// Builds the graph, or returns everything that keeps it from being one.
pub(crate) fn link(spec: &Spec) -> Result<Dag, Vec<Fault>> {
    let mut faults = Vec::new();
    let outputs = Outputs::of(spec, &mut faults);
    let mut names: IndexMap<String, Vec<usize>> = IndexMap::with_capacity(spec.stages.len());
    for (index, stage) in spec.stages.iter().enumerate() {
        names.entry(stage.name.clone()).or_default().push(index);
        if stage.base != stage.name {
            names.entry(stage.base.clone()).or_default().push(index);
        }
    }

    let mut graph: DiGraph<(), Link, u32> = DiGraph::with_capacity(spec.stages.len(), spec.stages.len() * 2);
    for _ in &spec.stages {
        graph.add_node(());
    }
    let mut finder = Finder { outputs: &outputs, shared: IndexMap::new() };
    // The stage that an edge from this one was last drawn to: keeps edges single without a table of pairs.
    let mut drawn_to: Vec<usize> = vec![usize::MAX; spec.stages.len()];
    let node = |stage: usize| NodeIndex::new(stage);
    for (index, stage) in spec.stages.iter().enumerate() {
        let mut draw = |graph: &mut DiGraph<(), Link, u32>, from: usize, link: Link| {
            if std::mem::replace(&mut drawn_to[from], index) != index {
                graph.add_edge(node(from), node(index), link);
            }
        };
        for (slot, input) in stage.inputs.values().enumerate() {
            for reference in &input.refs {
                finder.producers(reference, &mut |from| draw(&mut graph, from.stage, Link::Input(slot as u32)));
            }
        }
        for need in &stage.needs {
            for from in names.get(need).into_iter().flatten() {
                draw(&mut graph, *from, Link::Needs);
            }
        }
    }

    let order = order(&graph);
    if order.len() < spec.stages.len() {
        faults.extend(cycles(spec, &graph, &order));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let neighbours = |direction| -> Vec<Box<[usize]>> {
        graph
            .node_indices()
            .map(|at| {
                let mut list: Vec<usize> = graph.neighbors_directed(at, direction).map(NodeIndex::index).collect();
                list.sort_unstable();
                list.into_boxed_slice()
            })
            .collect()
    };
    let (dependencies, dependents) = (neighbours(petgraph::Incoming), neighbours(petgraph::Outgoing));
    Ok(Dag { dependencies, dependents, order, outputs, names, graph })
}

/// Kahn's algorithm, the first written of the ready ones first. Shorter than the graph where there is a circle.
fn order(graph: &DiGraph<(), Link, u32>) -> Vec<usize> {
    let mut waiting: Vec<usize> =
        graph.node_indices().map(|at| graph.neighbors_directed(at, petgraph::Incoming).count()).collect();
    let mut ready: BinaryHeap<Reverse<usize>> =
        waiting.iter().enumerate().filter(|(_, count)| **count == 0).map(|(stage, _)| Reverse(stage)).collect();
    let mut order = Vec::with_capacity(waiting.len());
    while let Some(Reverse(stage)) = ready.pop() {
        order.push(stage);
        for after in graph.neighbors(NodeIndex::new(stage)) {
            waiting[after.index()] -= 1;
            if waiting[after.index()] == 0 {
                ready.push(Reverse(after.index()));
            }
        }
    }
    order
}

/// Returns a shortest circle of every knot of stages that wait for each other.
fn cycles(spec: &Spec, graph: &DiGraph<(), Link, u32>, ordered: &[usize]) -> Vec<Fault> {
    let mut in_order = vec![false; graph.node_count()];
    for stage in ordered {
        in_order[*stage] = true;
    }
    // Not tarjan_scc, which recurses.
    let mut knots: Vec<Vec<usize>> = petgraph::algo::kosaraju_scc(graph)
        .into_iter()
        .map(|knot| knot.into_iter().map(NodeIndex::index).collect::<Vec<usize>>())
        .filter(|knot| knot.iter().any(|stage| !in_order[*stage]))
        .collect();
    for knot in &mut knots {
        knot.sort_unstable();
    }
    knots.sort();
    let mut faults = Vec::new();
    for knot in knots {
        let start = NodeIndex::new(knot[0]);
        // Breadth first from the first stage, within the knot, until an edge leads back to it.
        let mut came_by = BTreeMap::new();
        let mut queue = VecDeque::from([start]);
        let mut last = None;
        'search: while let Some(at) = queue.pop_front() {
            let mut edges: Vec<_> = graph.edges(at).collect();
            edges.sort_by_key(|edge| edge.target());
            for edge in edges {
                if edge.target() == start {
                    last = Some(edge.id());
                    break 'search;
                }
                if knot.binary_search(&edge.target().index()).is_ok() && !came_by.contains_key(&edge.target()) {
                    came_by.insert(edge.target(), edge.id());
                    queue.push_back(edge.target());
                }
            }
        }
        // A stage downstream of a circle is unordered too, but in no circle itself.
        let Some(mut edge) = last else { continue };
        let mut steps = Vec::new();
        loop {
            let (from, to) = graph.edge_endpoints(edge).expect("the edge was just found");
            let via = match graph[edge] {
                Link::Input(slot) => {
                    let (slot, _) =
                        spec.stages[to.index()].inputs.get_index(slot as usize).expect("slots are numbered");
                    Via::Input { slot: slot.clone() }
                }
                Link::Needs => Via::Needs,
            };
            steps.push(Step { from: from.index(), to: to.index(), via });
            match came_by.get(&from) {
                Some(before) if from != start => edge = *before,
                _ => break,
            }
        }
        steps.reverse();
        faults.push(Fault::Cycle(steps));
    }
    faults
}

/// All outputs by path, and roots that lie in the project.
#[derive(Clone, Debug)]
struct Outputs {
    table: BTreeMap<String, Producer>,
    /// Root → its place in the project, without a trailing slash; empty for the project itself.
    inner_roots: IndexMap<String, String>,
    roots: IndexSet<String>,
}

impl Outputs {
    fn of(spec: &Spec, faults: &mut Vec<Fault>) -> Self {
        let mut table: BTreeMap<String, Producer> = BTreeMap::new();
        let slot_of = |producer: Producer| {
            let (slot, _) = spec.stages[producer.stage].outputs.get_index(producer.slot).expect("slots are numbered");
            (producer.stage, slot.clone())
        };
        let mut clash = |a: Producer, b: Producer| {
            let (first, second) = if (a.stage, a.slot) <= (b.stage, b.slot) { (a, b) } else { (b, a) };
            faults.push(Fault::SameOutput { first: slot_of(first), second: slot_of(second) });
        };
        for (stage, written) in spec.stages.iter().enumerate() {
            for (slot, output) in written.outputs.values().enumerate() {
                let producer = Producer { stage, slot, directory: output.directory };
                if let Some(other) = table.get(&output.path.path) {
                    clash(*other, producer);
                } else {
                    table.insert(output.path.path.clone(), producer);
                }
            }
        }
        // Whatever lies inside an output follows it directly in path order, but for names such as `a-b` between `a`
        // and `a/b`: so the outputs around each path are looked up instead.
        for (path, producer) in &table {
            if let Some(outer) = parents(path).find_map(|parent| table.get(parent)) {
                clash(*outer, *producer);
            }
        }
        let inner_roots =
            spec.roots.iter().filter_map(|(name, place)| Some((name.clone(), in_project(place.to_str()?)?))).collect();
        Self { table, inner_roots, roots: spec.roots.keys().cloned().collect() }
    }

    /// Returns a path as one of the project, without a trailing slash; `None` where it lies outside.
    fn logical(&self, text: &str) -> Option<String> {
        if let Some((root, path)) = text.split_once(':')
            && self.roots.contains(root)
        {
            return self.in_root(root, path.trim_end_matches('/'));
        }
        in_project(text).filter(|path| !path.is_empty())
    }

    fn in_root(&self, root: &str, path: &str) -> Option<String> {
        let place = self.inner_roots.get(root)?;
        Some(if place.is_empty() { path.to_owned() } else { format!("{place}/{path}") })
    }

    fn of_reference(&self, path: &ProjectPath) -> Option<std::borrow::Cow<'_, str>> {
        match &path.root {
            None => Some(path.path.clone().into()),
            Some(root) => self.in_root(root, &path.path).map(Into::into),
        }
    }

    /// Returns the output that is this path or a directory around it.
    fn around(&self, path: &str) -> Option<Producer> {
        let outer = || parents(path).find_map(|parent| self.table.get(parent)).filter(|producer| producer.directory);
        self.table.get(path).or_else(outer).copied()
    }

    /// Returns the outputs inside a directory.
    fn inside(&self, directory: &str) -> Vec<(&str, Producer)> {
        self.beginning_with(&format!("{directory}/"))
    }

    /// Returns the outputs whose path begins with a text.
    fn beginning_with(&self, prefix: &str) -> Vec<(&str, Producer)> {
        self.table
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(path, _)| path.starts_with(prefix))
            .map(|(path, producer)| (path.as_str(), *producer))
            .collect()
    }
}

/// Returns a relative path without `.`, `..` and extra slashes; `None` where it leads out or is absolute.
fn in_project(text: &str) -> Option<String> {
    if text.starts_with('/') || text.contains('\\') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Returns the directories around a path, innermost first.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.rmatch_indices('/').map(|(at, _)| &path[..at])
}

/// Finds who writes an input; answers about directories and patterns are kept, for many stages share them.
struct Finder<'a> {
    outputs: &'a Outputs,
    shared: IndexMap<(bool, String), Vec<Producer>>,
}

impl Finder<'_> {
    fn producers(&mut self, reference: &InputRef, found: &mut dyn FnMut(Producer)) {
        let (path, pattern) = match reference {
            InputRef::File(path) | InputRef::Lineage(path) => {
                // Nothing is allocated for what most inputs are.
                let producer = match &path.root {
                    None => self.outputs.around(&path.path),
                    Some(_) => self.outputs.of_reference(path).and_then(|path| self.outputs.around(&path)),
                };
                producer.into_iter().for_each(found);
                return;
            }
            InputRef::Directory(path) => (path, false),
            InputRef::Glob(path) => (path, true),
        };
        let Some(path) = self.outputs.of_reference(path) else { return };
        let outputs = self.outputs;
        let producers = self.shared.entry((pattern, path.clone().into_owned())).or_insert_with(|| {
            let mut found = if pattern { matching(outputs, &path) } else { under(outputs, &path) };
            found.sort_unstable_by_key(|producer| (producer.stage, producer.slot));
            found
        });
        producers.iter().for_each(|producer| found(*producer));
    }
}

fn under(outputs: &Outputs, directory: &str) -> Vec<Producer> {
    let around = outputs.around(directory).into_iter();
    around.chain(outputs.inside(directory).into_iter().map(|(_, producer)| producer)).collect()
}

fn matching(outputs: &Outputs, pattern: &str) -> Vec<Producer> {
    // The check has compiled it before.
    let Ok(matcher) = paths::glob(pattern) else { return Vec::new() };
    let literal = &pattern[..pattern.find(['*', '?', '[', '{']).unwrap_or(pattern.len())];
    let folder = literal.rfind('/').map_or("", |at| &literal[..at]);
    let around = if folder.is_empty() { None } else { outputs.around(folder) };
    let inside = outputs
        .beginning_with(literal)
        .into_iter()
        .filter(|(path, producer)| matcher.is_match(path) || (producer.directory && may_match_inside(pattern, path)));
    around.into_iter().chain(inside.map(|(_, producer)| producer)).collect()
}

/// Whether a pattern can match some path inside a directory: its leading parts match those of the directory, and more
/// follow.
fn may_match_inside(pattern: &str, directory: &str) -> bool {
    alternatives(pattern).iter().any(|pattern| {
        let mut wanted = pattern.split('/');
        for part in directory.split('/') {
            match wanted.next() {
                None => return false,
                Some(any) if any.contains("**") => return true,
                Some(one) if !paths::glob(one).is_ok_and(|glob| glob.is_match(part)) => return false,
                Some(_) => {}
            }
        }
        wanted.next().is_some()
    })
}

/// Writes out `{a,b/c}`, which may hold slashes: a pattern for each choice.
fn alternatives(pattern: &str) -> Vec<String> {
    let mut done = Vec::new();
    let mut open = vec![pattern.to_owned()];
    while let Some(pattern) = open.pop() {
        let mut depth = 0usize;
        let mut marks = Vec::new();
        for (at, c) in pattern.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            match (c, depth) {
                ('{', 1) | (',', 1) => marks.push(at),
                ('}', 0) if !marks.is_empty() => {
                    marks.push(at);
                    break;
                }
                _ => {}
            }
        }
        let [first, .., last] = marks[..] else {
            done.push(pattern);
            continue;
        };
        let choices = marks.windows(2).map(|pair| &pattern[pair[0] + 1..pair[1]]);
        open.extend(choices.map(|choice| format!("{}{choice}{}", &pattern[..first], &pattern[last + 1..])));
    }
    done
}

#[cfg(test)]
#[path = "graph_tests.rs"]
mod tests;
