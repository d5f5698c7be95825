//! How each input reference is met: by which output of which stage, or by a source file. Pure, linear in the size of the
//! pipeline, without recursion.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Component;

use globset::{GlobBuilder, GlobMatcher};

use crate::error::EngineError;
use crate::fast::FastMap;
use crate::spec::{InputRef, ProjectPath, Spec, StageSpec};

/// An output: stage and slot number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutputId {
    /// Index of the stage in the spec.
    pub stage: usize,
    /// Index of the slot among the stage's outputs.
    pub slot: usize,
}

/// How a reference is met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// It is an output.
    Output(OutputId),
    /// It lies in an output directory, at this relative path.
    Inside(OutputId, String),
    /// It is a file on disk that no stage makes.
    SourceFile,
    /// It is a directory on disk; outputs in it are listed.
    SourceDirectory(Vec<OutputId>),
    /// It is a pattern; outputs that match it, and output directories that may hold matches, are listed.
    Pattern {
        /// Output files that match.
        matching: Vec<OutputId>,
        /// Output directories to look into.
        within: Vec<OutputId>,
    },
}

/// One reference of an input slot and how it is met.
#[derive(Clone, Debug)]
pub struct Wire {
    /// Index of the slot among the stage's inputs.
    pub slot: usize,
    /// Index of the reference in the slot.
    pub reference: usize,
    /// How it is met.
    pub link: Link,
}

/// All wires of a pipeline and the order they give.
#[derive(Clone, Debug)]
pub struct Wiring {
    /// Wires of each stage, by slot and reference.
    pub wires: Vec<Vec<Wire>>,
    /// Stages each stage takes outputs of, ascending.
    pub data: Vec<Vec<usize>>,
    /// Stages each stage waits for (data and `needs`), ascending.
    pub before: Vec<Vec<usize>>,
    /// Stages that wait for each stage, ascending.
    pub after: Vec<Vec<usize>>,
    /// A topological order: the first in the order written whose predecessors are all done.
    pub order: Vec<usize>,
    /// Output by declared path (directories without slash).
    outputs: BTreeMap<String, OutputId>,
}

impl Wiring {
    /// Wires a pipeline.
    ///
    /// # Errors
    /// A pattern is none, a needed stage is unknown, or the stages form a circle (the spec's checks name these with
    /// positions before it comes to this).
    pub fn new(spec: &Spec) -> Result<Self, EngineError> {
        let mut outputs = BTreeMap::new();
        let mut lookup: FastMap<&str, OutputId> = FastMap::default();
        let mut names: FastMap<&str, usize> = FastMap::default();
        for (stage, s) in spec.stages.iter().enumerate() {
            names.insert(&s.name, stage);
            for (slot, output) in s.outputs.values().enumerate() {
                outputs.insert(output.path.path.clone(), OutputId { stage, slot });
                lookup.insert(&output.path.path, OutputId { stage, slot });
            }
        }
        let finder = Finder { spec, outputs: &outputs, lookup: &lookup };
        let count = spec.stages.len();
        let (mut wires, mut data, mut before, mut after) =
            (Vec::with_capacity(count), Vec::with_capacity(count), Vec::with_capacity(count), vec![Vec::new(); count]);
        for (stage, s) in spec.stages.iter().enumerate() {
            let (wired, mut from) = finder.stage(s)?;
            from.remove(&stage);
            data.push(from.iter().copied().collect());
            for need in &s.needs {
                let needed =
                    names.get(need.as_str()).ok_or_else(|| EngineError::Pipeline(format!("unknown stage `{need}`")))?;
                from.insert(*needed);
            }
            for earlier in &from {
                after[*earlier].push(stage);
            }
            before.push(from.into_iter().collect());
            wires.push(wired);
        }
        let order =
            order(&before, &after).ok_or_else(|| EngineError::Pipeline("the stages form a circle".to_owned()))?;
        Ok(Self { wires, data, before, after, order, outputs })
    }

    /// Returns the output that is, or the output directory that holds, a project path; with the relative path in it.
    pub fn producer(&self, spec: &Spec, path: &str) -> Option<(OutputId, Option<String>)> {
        let given = ProjectPath::try_from(path.trim_end_matches('/').to_owned()).ok()?;
        let path = &*local(spec, &given)?;
        if let Some(output) = self.outputs.get(path) {
            return Some((*output, None));
        }
        ancestors(path).find_map(|(parent, rest)| {
            let output = self.outputs.get(parent)?;
            is_directory(spec, *output).then(|| (*output, Some(rest.to_owned())))
        })
    }

    /// Returns the stages and all they wait for, as a mask.
    pub fn with_upstream(&self, stages: &[usize]) -> Vec<bool> {
        let mut wanted = vec![false; self.before.len()];
        let mut pending = stages.to_vec();
        while let Some(stage) = pending.pop() {
            if !std::mem::replace(&mut wanted[stage], true) {
                pending.extend(&self.before[stage]);
            }
        }
        wanted
    }
}

/// Returns where below the project a path is. A named root whose place is written relative to the project is seen
/// through, so that one stage may write what another reads by the root's name; `None` for other roots.
pub fn local<'p>(spec: &Spec, path: &'p ProjectPath) -> Option<Cow<'p, str>> {
    let Some(root) = &path.root else { return Some(Cow::Borrowed(&path.path)) };
    let place = local_root(spec, root)?;
    Some(Cow::Owned(if place.is_empty() { path.path.clone() } else { format!("{place}/{}", path.path) }))
}

/// Returns the place of a named root relative to the project, without slash at the end; `None` if it lies elsewhere.
pub fn local_root(spec: &Spec, root: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in spec.roots.get(root)?.components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(parts.join("/"))
}

fn is_directory(spec: &Spec, output: OutputId) -> bool {
    spec.stages[output.stage].outputs[output.slot].directory
}

/// Splits a path at each `/`, longest parent first.
fn ancestors(path: &str) -> impl Iterator<Item = (&str, &str)> {
    path.rmatch_indices('/').map(|(at, _)| (&path[..at], &path[at + 1..]))
}

/// Kahn's algorithm; among the ready ones the first written goes first.
fn order(before: &[Vec<usize>], after: &[Vec<usize>]) -> Option<Vec<usize>> {
    let mut left: Vec<usize> = before.iter().map(Vec::len).collect();
    let mut ready: BTreeSet<usize> = (0..left.len()).filter(|i| left[*i] == 0).collect();
    let mut order = Vec::with_capacity(left.len());
    while let Some(stage) = ready.pop_first() {
        order.push(stage);
        for next in &after[stage] {
            left[*next] -= 1;
            if left[*next] == 0 {
                ready.insert(*next);
            }
        }
    }
    (order.len() == before.len()).then_some(order)
}

struct Finder<'a> {
    spec: &'a Spec,
    outputs: &'a BTreeMap<String, OutputId>,
    lookup: &'a FastMap<&'a str, OutputId>,
}

impl Finder<'_> {
    fn stage(&self, stage: &StageSpec) -> Result<(Vec<Wire>, BTreeSet<usize>), EngineError> {
        let (mut wires, mut from) = (Vec::new(), BTreeSet::new());
        for (slot, input) in stage.inputs.values().enumerate() {
            for (reference, what) in input.refs.iter().enumerate() {
                let link = self.link(what)?;
                match &link {
                    Link::Output(output) | Link::Inside(output, _) => {
                        from.insert(output.stage);
                    }
                    Link::SourceFile => {}
                    Link::SourceDirectory(outputs) => from.extend(outputs.iter().map(|o| o.stage)),
                    Link::Pattern { matching, within } => from.extend(matching.iter().chain(within).map(|o| o.stage)),
                }
                wires.push(Wire { slot, reference, link });
            }
        }
        Ok((wires, from))
    }

    fn link(&self, what: &InputRef) -> Result<Link, EngineError> {
        let (InputRef::File(path) | InputRef::Directory(path) | InputRef::Glob(path) | InputRef::Lineage(path)) = what;
        let Some(path) = local(self.spec, path) else {
            return Ok(match what {
                InputRef::Directory(_) => Link::SourceDirectory(Vec::new()),
                InputRef::Glob(_) => Link::Pattern { matching: Vec::new(), within: Vec::new() },
                _ => Link::SourceFile,
            });
        };
        if let InputRef::Glob(_) = what {
            return self.pattern(&path);
        }
        if let Some(output) = self.lookup.get(&*path) {
            return Ok(Link::Output(*output));
        }
        let holder = ancestors(&path).find_map(|(parent, rest)| {
            let output = self.lookup.get(parent)?;
            is_directory(self.spec, *output).then(|| Link::Inside(*output, rest.to_owned()))
        });
        Ok(match (holder, what) {
            (Some(link), _) => link,
            (None, InputRef::Directory(_)) => Link::SourceDirectory(self.below(&format!("{path}/")).collect()),
            (None, _) => Link::SourceFile,
        })
    }

    fn pattern(&self, path: &str) -> Result<Link, EngineError> {
        let matcher = matcher(path)?;
        let literal = literal_prefix(path);
        let (mut matching, mut within) = (Vec::new(), Vec::new());
        for output in self.below(literal) {
            let declared = &self.spec.stages[output.stage].outputs[output.slot].path.path;
            if is_directory(self.spec, output) {
                within.push(output);
            } else if matcher.is_match(declared) {
                matching.push(output);
            }
        }
        for (parent, _) in ancestors(literal) {
            within.extend(self.lookup.get(parent).filter(|o| is_directory(self.spec, **o)));
        }
        within.sort_unstable();
        within.dedup();
        Ok(Link::Pattern { matching, within })
    }

    /// Outputs whose declared path begins with `prefix`.
    fn below<'s>(&'s self, prefix: &'s str) -> impl Iterator<Item = OutputId> + 's {
        self.outputs.range(prefix.to_owned()..).take_while(move |(path, _)| path.starts_with(prefix)).map(|(_, o)| *o)
    }
}

/// Compiles a pattern: `*` and `?` stay within a folder, `**` crosses folders.
///
/// # Errors
/// It is no pattern.
pub fn matcher(pattern: &str) -> Result<GlobMatcher, EngineError> {
    GlobBuilder::new(pattern)
        .literal_separator(true)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|e| EngineError::Pipeline(format!("`{pattern}` is no pattern: {}", e.kind())))
}

/// Returns the beginning of a pattern that holds no special character.
pub fn literal_prefix(pattern: &str) -> &str {
    &pattern[..pattern.find(['*', '?', '[', '{', '\\']).unwrap_or(pattern.len())]
}
