//! Which ready stage starts next: the one with the longest remaining path, as far as thread tokens, memory and pools
//! allow. Pure: no threads, no clock.
//!
//! A stage that wants more tokens than there are takes all of them. While the first stage in line lacks tokens nothing
//! behind it starts (else many narrow stages would starve a wide one); a stage that lacks a pool's place or memory is
//! passed by.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::spec::Policy;

/// What a stage takes while it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Thread tokens; 0 = all.
    pub threads: usize,
    /// Bytes of memory.
    pub memory: u64,
    /// A place in this pool.
    pub pool: Option<String>,
}

impl From<&Policy> for Demand {
    fn from(policy: &Policy) -> Self {
        Self { threads: policy.threads, memory: policy.memory.unwrap_or(0), pool: policy.pool.clone() }
    }
}

/// What there is to take.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Thread tokens.
    pub threads: usize,
    /// Bytes of memory.
    pub memory: u64,
    /// Places by pool.
    pub pools: BTreeMap<String, usize>,
}

/// What a started stage was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The stage.
    pub stage: usize,
    /// Thread tokens, at least one.
    pub threads: usize,
    memory: u64,
    pool: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Place {
    priority: f64,
    stage: usize,
}

impl Eq for Place {}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        // The longest path first; of equal ones the stage written first.
        other.priority.total_cmp(&self.priority).then(self.stage.cmp(&other.stage))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Ready and running stages.
#[derive(Clone, Debug)]
pub struct Schedule {
    total: Budget,
    free: Budget,
    ready: BTreeMap<Place, Demand>,
    running: usize,
}

impl Schedule {
    /// Makes an empty schedule.
    pub fn new(mut budget: Budget) -> Self {
        budget.threads = budget.threads.max(1);
        Self { free: budget.clone(), total: budget, ready: BTreeMap::new(), running: 0 }
    }

    /// Adds a stage all of whose predecessors are done.
    pub fn add(&mut self, stage: usize, priority: f64, demand: Demand) {
        self.ready.insert(Place { priority, stage }, demand);
    }

    /// Takes out the stage that starts now, if one can.
    pub fn start(&mut self) -> Option<Grant> {
        let mut chosen = None;
        for (place, demand) in &self.ready {
            let threads = if demand.threads == 0 { self.total.threads } else { demand.threads.min(self.total.threads) };
            if threads > self.free.threads {
                break;
            }
            let memory = demand.memory.min(self.total.memory);
            let pool_is_full = demand.pool.as_ref().is_some_and(|pool| self.free.pools.get(pool) == Some(&0));
            if memory <= self.free.memory && !pool_is_full {
                chosen = Some((*place, Grant { stage: place.stage, threads, memory, pool: demand.pool.clone() }));
                break;
            }
        }
        let (place, grant) = chosen?;
        self.ready.remove(&place);
        self.free.threads -= grant.threads;
        self.free.memory -= grant.memory;
        if let Some(places) = grant.pool.as_ref().and_then(|pool| self.free.pools.get_mut(pool)) {
            *places -= 1;
        }
        self.running += 1;
        Some(grant)
    }

    /// Gives back what a stage had.
    pub fn finish(&mut self, grant: &Grant) {
        self.free.threads += grant.threads;
        self.free.memory += grant.memory;
        if let Some(places) = grant.pool.as_ref().and_then(|pool| self.free.pools.get_mut(pool)) {
            *places += 1;
        }
        self.running -= 1;
    }

    /// Takes out the stages that have not started, but for some.
    pub fn retain(&mut self, stays: impl Fn(usize) -> bool) {
        self.ready.retain(|place, _| stays(place.stage));
    }

    /// Takes out all stages that have not started.
    pub fn give_up(&mut self) -> Vec<usize> {
        let mut stages: Vec<usize> = std::mem::take(&mut self.ready).into_keys().map(|place| place.stage).collect();
        stages.sort_unstable();
        stages
    }

    /// Returns how many stages run.
    pub fn running(&self) -> usize {
        self.running
    }

    /// Returns how many stages are ready and not started.
    pub fn waiting(&self) -> usize {
        self.ready.len()
    }
}

/// Returns for each stage the length of the longest path from its start to the end of everything that waits for it.
/// `order` is topological, `after` lists dependents.
pub fn remaining(order: &[usize], after: &[Vec<usize>], weight: &[f64]) -> Vec<f64> {
    let mut length = weight.to_vec();
    for stage in order.iter().rev() {
        let longest = after[*stage].iter().map(|next| length[*next]).fold(0.0, f64::max);
        length[*stage] = weight[*stage] + longest;
    }
    length
}

/// Returns how long a pipeline takes when each stage takes its weight, by playing the schedule with a clock of its own.
pub fn predict(budget: Budget, order: &[usize], after: &[Vec<usize>], weight: &[f64], demand: &[Demand]) -> f64 {
    let priority = remaining(order, after, weight);
    let mut left = vec![0usize; weight.len()];
    for next in after.iter().flatten() {
        left[*next] += 1;
    }
    let mut schedule = Schedule::new(budget);
    for stage in order.iter().filter(|stage| left[**stage] == 0) {
        schedule.add(*stage, priority[*stage], demand[*stage].clone());
    }
    let (mut now, mut running) = (0.0, Vec::<(f64, Grant)>::new());
    loop {
        while let Some(grant) = schedule.start() {
            running.push((now + weight[grant.stage], grant));
        }
        let Some(next) = (0..running.len()).min_by(|a, b| running[*a].0.total_cmp(&running[*b].0)) else { return now };
        let (end, grant) = running.swap_remove(next);
        now = end;
        schedule.finish(&grant);
        for next in &after[grant.stage] {
            left[*next] -= 1;
            if left[*next] == 0 {
                schedule.add(*next, priority[*next], demand[*next].clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn budget(threads: usize) -> Budget {
        Budget { threads, memory: 100, pools: BTreeMap::from([("db".to_owned(), 1)]) }
    }

    fn threads(n: usize) -> Demand {
        Demand { threads: n, ..Demand::default() }
    }

    #[test]
    fn the_longest_path_goes_first_and_a_wide_stage_is_not_starved() {
        let mut schedule = Schedule::new(budget(2));
        schedule.add(0, 1.0, threads(1));
        schedule.add(1, 5.0, threads(1));
        schedule.add(2, 3.0, threads(8));
        let first = schedule.start().unwrap();
        assert_eq!((first.stage, first.threads), (1, 1));
        assert_eq!(schedule.start(), None, "stage 2 waits for both tokens, stage 0 behind it");
        schedule.finish(&first);
        let second = schedule.start().unwrap();
        assert_eq!((second.stage, second.threads), (2, 2));
        schedule.finish(&second);
        assert_eq!(schedule.start().unwrap().stage, 0);
    }

    #[test]
    fn pools_and_memory_hold_back_only_those_that_want_them() {
        let mut schedule = Schedule::new(budget(4));
        let db = Demand { threads: 1, memory: 0, pool: Some("db".to_owned()) };
        schedule.add(0, 9.0, db.clone());
        schedule.add(1, 8.0, db);
        schedule.add(2, 7.0, Demand { threads: 1, memory: 80, pool: None });
        schedule.add(3, 6.0, Demand { threads: 1, memory: 30, pool: None });
        schedule.add(4, 5.0, threads(1));
        let started: Vec<usize> = std::iter::from_fn(|| schedule.start()).map(|g| g.stage).collect();
        assert_eq!(started, [0, 2, 4]);
        assert_eq!(schedule.give_up(), [1, 3]);
    }

    #[test]
    fn a_prediction_is_the_critical_path_when_tokens_suffice_and_the_sum_when_there_is_one() {
        // 0 -> 1 -> 3, 0 -> 2 -> 3
        let after = vec![vec![1, 2], vec![3], vec![3], vec![]];
        let (order, weight, demand) = ([0, 1, 2, 3], [1.0, 2.0, 5.0, 1.0], vec![threads(1); 4]);
        assert_eq!(remaining(&order, &after, &weight), [7.0, 3.0, 6.0, 1.0]);
        assert!((predict(budget(2), &order, &after, &weight, &demand) - 7.0).abs() < 1e-9);
        assert!((predict(budget(1), &order, &after, &weight, &demand) - 9.0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn tokens_are_never_exceeded_and_everything_starts(
            total in 1usize..5,
            wants in prop::collection::vec((0usize..7, 0u64..150, any::<bool>()), 1..30),
        ) {
            let mut schedule = Schedule::new(budget(total));
            for (stage, (threads, memory, pool)) in wants.iter().enumerate() {
                let demand = Demand { threads: *threads, memory: *memory, pool: pool.then(|| "db".to_owned()) };
                schedule.add(stage, stage as f64 % 3.0, demand);
            }
            let mut running: Vec<Grant> = Vec::new();
            let mut done = 0;
            while done < wants.len() {
                running.extend(std::iter::from_fn(|| schedule.start()));
                prop_assert!(!running.is_empty(), "something always runs");
                prop_assert!(running.iter().map(|g| g.threads).sum::<usize>() <= total);
                prop_assert!(running.iter().map(|g| g.memory).sum::<u64>() <= 100);
                prop_assert!(running.iter().filter(|g| g.pool.is_some()).count() <= 1);
                schedule.finish(&running.remove(0));
                done += 1;
            }
        }
    }
}
