//! The longest chain of stages, and what each stage on it costs: how long the longest chain would be if that stage took
//! no time. Only work on such a chain makes a run shorter once thread tokens suffice. Pure, linear in stages and edges
//! but for one sort, without recursion.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use petgraph::algo::toposort;
use petgraph::graph::{DiGraph, NodeIndex};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::event::Decision;
use crate::history::{RunDetail, StageOutcome};
use crate::map::COLLECTOR;

/// The longest chain of stages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CriticalPath {
    /// Its length in seconds.
    pub seconds: f64,
    /// Its stages, first to last.
    pub stages: Vec<Step>,
}

/// A stage of the longest chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The stage's full name.
    pub stage: String,
    /// Seconds it takes.
    pub seconds: f64,
    /// Length of the longest chain, in seconds, if this stage took no time.
    pub if_free: f64,
}

impl CriticalPath {
    /// Returns the stage whose disappearance would shorten the longest chain most, if any would.
    pub fn dearest(&self) -> Option<&Step> {
        let gain = |step: &Step| self.seconds - step.if_free;
        let best = self.stages.iter().reduce(|best, step| if gain(step) > gain(best) { step } else { best })?;
        (gain(best) > 0.0).then_some(best)
    }
}

/// One or more stages in a row, each waiting for the one before: the longest such chain, with its length. `order` is
/// topological, `after` lists dependents; stages whose `part` is false do not count, but order is kept through them. Of
/// chains of one length the one with most stages is taken.
pub fn longest_chain(order: &[usize], after: &[Vec<usize>], weight: &[f64], part: &[bool]) -> Vec<usize> {
    // Length and number of stages from a stage to the end.
    let mut length = vec![(0.0, 0usize); weight.len()];
    let mut next = vec![usize::MAX; weight.len()];
    let longer = |a: (f64, usize), b: (f64, usize)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).is_gt();
    let mut start = usize::MAX;
    let mut best = (0.0, 0);
    for &stage in order.iter().rev() {
        let mut longest = (0.0, 0);
        for &following in &after[stage] {
            if longer(length[following], longest) {
                (longest, next[stage]) = (length[following], following);
            }
        }
        let own = if part[stage] { (weight[stage], 1) } else { (0.0, 0) };
        length[stage] = (longest.0 + own.0, longest.1 + own.1);
        if !longer(best, length[stage]) {
            (best, start) = (length[stage], stage);
        }
    }
    std::iter::successors(Some(start), |stage| next.get(*stage).copied())
        .take_while(|stage| *stage != usize::MAX)
        .filter(|stage| part[*stage])
        .collect()
}

/// Returns which stages of a recorded run come before which, as numbers of `detail.stages`, by the files they made and
/// read.
pub fn dependencies(detail: &RunDetail) -> BTreeSet<(usize, usize)> {
    let stages = &detail.stages;
    let mut makers: BTreeMap<&str, usize> = BTreeMap::new();
    for (number, stage) in stages.iter().enumerate() {
        makers.extend(stage.outputs.values().map(|output| (output.path.as_str(), number)));
    }
    // A root may lead back into the project: what is read there is known by its name and content.
    let mut contents: BTreeMap<(&str, Digest), usize> = BTreeMap::new();
    for (number, stage) in stages.iter().enumerate() {
        contents.extend(stage.outputs.values().map(|output| ((file_name(&output.path), output.digest), number)));
    }
    let maker = |(path, digest): (&String, &Digest)| -> Option<usize> {
        let path = path.strip_prefix("lineage:").unwrap_or(path);
        let folders = path.rmatch_indices('/').map(|(at, _)| &path[..=at]);
        let by_path = std::iter::once(path).chain(folders).find_map(|path| makers.get(path));
        by_path.or_else(|| contents.get(&(file_name(path.split_once(':')?.1), *digest))).copied()
    };
    let mut edges = BTreeSet::new();
    for (number, stage) in stages.iter().enumerate() {
        let made = stage.inputs.values().flatten().filter_map(maker);
        edges.extend(made.filter(|made| *made != number).map(|made| (made, number)));
        // What a map gathers was made by its items.
        let items = stage.outputs.values().filter(|_| stage.action.as_deref() == Some(COLLECTOR));
        for output in items {
            let inside = stages.iter().enumerate().filter(|(_, item)| {
                item.outputs.values().any(|made| made.path != output.path && made.path.starts_with(&output.path))
            });
            edges.extend(inside.map(|(item, _)| (item, number)));
        }
    }
    edges
}

/// Returns the critical path of a recorded run: of the stages it executed, by the files they made and read.
pub fn critical_path(detail: &RunDetail) -> CriticalPath {
    let stages = &detail.stages;
    let ran = |stage: &StageOutcome| stage.decision == Decision::Run;
    let mut graph: DiGraph<usize, ()> = DiGraph::new();
    for number in 0..stages.len() {
        graph.add_node(number);
    }
    let mut after = vec![Vec::new(); stages.len()];
    for (from, to) in dependencies(detail) {
        graph.add_edge(NodeIndex::new(from), NodeIndex::new(to), ());
        after[from].push(to);
    }
    let Ok(order) = toposort(&graph, None) else { return CriticalPath::default() };
    let order: Vec<usize> = order.into_iter().map(NodeIndex::index).collect();
    let took = |stage: &StageOutcome| if ran(stage) { stage.seconds.unwrap_or(0.0) } else { 0.0 };
    let weight: Vec<f64> = stages.iter().map(took).collect();
    let part: Vec<bool> = stages.iter().map(ran).collect();
    let chain = longest_chain(&order, &after, &weight, &part);
    let free = if_free(&order, &after, &weight, &chain);
    let step = |(stage, if_free): (&usize, f64)| Step {
        stage: stages[*stage].stage.clone(),
        seconds: weight[*stage],
        if_free,
    };
    let seconds = length(&chain, &weight);
    CriticalPath { seconds, stages: chain.iter().zip(free).map(step).collect() }
}

/// Returns the length of a chain; 0 for none, where `sum` says -0.
pub fn length(chain: &[usize], weight: &[f64]) -> f64 {
    chain.iter().fold(0.0, |length, stage| length + weight[*stage])
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Returns for each stage of a longest chain the length of the longest chain if that stage took no time.
///
/// A chain that avoids a stage jumps over its place in the order: by an edge, by beginning after it or by ending before
/// it. Each jump is worth the longest chain through it, and serves every stage it jumps over.
pub fn if_free(order: &[usize], after: &[Vec<usize>], weight: &[f64], chain: &[usize]) -> Vec<f64> {
    let mut position = vec![0; order.len()];
    for (at, stage) in order.iter().enumerate() {
        position[*stage] = at;
    }
    // Longest chain that ends with a stage, and that begins with it.
    let mut until = weight.to_vec();
    for stage in order {
        for following in &after[*stage] {
            until[*following] = until[*following].max(until[*stage] + weight[*following]);
        }
    }
    let from = crate::schedule::remaining(order, after, weight);
    let places: Vec<usize> = chain.iter().map(|stage| position[*stage]).collect();
    // Jumps over places of the chain: first place jumped over, first not, worth.
    let mut jumps: Vec<(usize, usize, f64)> = Vec::new();
    let mut jump = |after: Option<usize>, before: Option<usize>, worth: f64| {
        let first = after.map_or(0, |at| places.partition_point(|place| *place <= at));
        let end = before.map_or(places.len(), |at| places.partition_point(|place| *place < at));
        if first < end {
            jumps.push((first, end, worth));
        }
    };
    for stage in order {
        jump(None, Some(position[*stage]), from[*stage]);
        jump(Some(position[*stage]), None, until[*stage]);
        for following in &after[*stage] {
            jump(Some(position[*stage]), Some(position[*following]), until[*stage] + from[*following]);
        }
    }
    jumps.sort_by_key(|(first, ..)| *first);
    let mut jumps = jumps.into_iter().peekable();
    let mut open: BinaryHeap<Jump> = BinaryHeap::new();
    let total = from.iter().copied().fold(0.0, f64::max);
    let mut lengths = Vec::with_capacity(chain.len());
    for (at, stage) in chain.iter().enumerate() {
        while let Some((_, end, worth)) = jumps.next_if(|(first, ..)| *first <= at) {
            open.push(Jump { worth, end });
        }
        while open.peek().is_some_and(|jump| jump.end <= at) {
            open.pop();
        }
        let around = open.peek().map_or(0.0, |jump| jump.worth);
        lengths.push(around.max(total - weight[*stage]));
    }
    lengths
}

#[derive(PartialEq)]
struct Jump {
    worth: f64,
    end: usize,
}

impl Eq for Jump {}

impl Ord for Jump {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.worth.total_cmp(&other.worth).then(self.end.cmp(&other.end))
    }
}

impl PartialOrd for Jump {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn longest(order: &[usize], after: &[Vec<usize>], weight: &[f64]) -> f64 {
        crate::schedule::remaining(order, after, weight).into_iter().fold(0.0, f64::max)
    }

    #[test]
    fn the_longest_chain_is_found_and_each_of_its_stages_is_valued() {
        // 0 -> 1 -> 3 -> 4, 0 -> 2 -> 3; 5 alone
        let after = vec![vec![1, 2], vec![3], vec![3], vec![4], vec![], vec![]];
        let (order, weight) = ([0, 1, 2, 3, 4, 5], [1.0, 2.0, 5.0, 1.0, 1.0, 6.0]);
        let chain = longest_chain(&order, &after, &weight, &[true; 6]);
        assert_eq!(chain, [0, 2, 3, 4]);
        // Without stage 2 the way through 1 is left, shorter by three; stage 5 bounds nothing here.
        assert_eq!(if_free(&order, &after, &weight, &chain), [7.0, 6.0, 7.0, 7.0]);
    }

    #[test]
    fn stages_that_take_no_part_are_left_out_and_ties_go_to_more_stages() {
        let after = vec![vec![1], vec![2], vec![], vec![]];
        let chain = longest_chain(&[0, 1, 2, 3], &after, &[0.0; 4], &[true, false, true, true]);
        assert_eq!(chain, [0, 2]);
        assert_eq!(longest_chain(&[0], &[vec![]], &[1.0], &[false]), [0usize; 0]);
        assert_eq!(longest_chain(&[], &[], &[], &[]), [0usize; 0]);
    }

    #[test]
    fn the_dearest_stage_is_the_one_that_shortens_most() {
        let step = |stage: &str, if_free| Step { stage: stage.into(), seconds: 1.0, if_free };
        let path = CriticalPath { seconds: 9.0, stages: vec![step("a", 8.0), step("b", 5.0), step("c", 5.0)] };
        assert_eq!(path.dearest().unwrap().stage, "b");
        assert_eq!(CriticalPath { seconds: 0.0, stages: vec![step("a", 0.0)] }.dearest(), None);
    }

    #[test]
    fn a_chain_of_100_000_does_not_recurse() {
        let count = 100_000;
        let order: Vec<usize> = (0..count).collect();
        let after: Vec<Vec<usize>> = (0..count).map(|i| if i + 1 < count { vec![i + 1] } else { vec![] }).collect();
        let weight = vec![1.0; count];
        let chain = longest_chain(&order, &after, &weight, &vec![true; count]);
        assert_eq!(chain.len(), count);
        assert!(if_free(&order, &after, &weight, &chain).iter().all(|length| *length == 99_999.0));
    }

    proptest! {
        /// Against the definition: take the stage's weight away and measure again.
        #[test]
        fn what_a_free_stage_saves_is_what_measuring_again_says(
            count in 1usize..12,
            edges in prop::collection::vec((0usize..12, 0usize..12), 0..40),
            weights in prop::collection::vec(0u8..9, 12),
        ) {
            let mut after = vec![Vec::new(); count];
            for (a, b) in edges.into_iter().map(|(a, b)| (a % count, b % count)).filter(|(a, b)| a < b) {
                if !after[a].contains(&b) {
                    after[a].push(b);
                }
            }
            let order: Vec<usize> = (0..count).collect();
            let weight: Vec<f64> = weights[..count].iter().map(|w| f64::from(*w)).collect();
            let chain = longest_chain(&order, &after, &weight, &vec![true; count]);
            let length = length(&chain, &weight);
            prop_assert_eq!(length, longest(&order, &after, &weight));
            for (stage, found) in chain.iter().zip(if_free(&order, &after, &weight, &chain)) {
                let mut without = weight.clone();
                without[*stage] = 0.0;
                prop_assert_eq!(found, longest(&order, &after, &without), "stage {}", stage);
            }
        }
    }
}
