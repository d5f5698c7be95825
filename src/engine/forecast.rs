//! How long what is left of a run will take, from what stages took before. Values in, values out: no file, no clock.

use std::collections::BTreeMap;

use crate::critical::{CriticalPath, Step, if_free, length, longest_chain};
use crate::fast::FastMap;
use crate::schedule::{Budget, Demand, predict};
use crate::spec::Spec;
use crate::wiring::Wiring;

/// After so many stages of a run their mean says something of the others.
const ENOUGH: usize = 50;

/// Stages that may still run, and what each is expected to take.
#[derive(Clone, Debug)]
pub struct Forecast {
    names: Vec<String>,
    bases: Vec<String>,
    index: FastMap<String, usize>,
    order: Vec<usize>,
    after: Vec<Vec<usize>>,
    demand: Vec<Demand>,
    budget: Budget,
    /// Seconds by stage; `None` where there is no history.
    expected: Vec<Option<f64>>,
    /// Which stages may still run.
    left: Vec<bool>,
    /// Seconds and number of the stages that ran.
    ran: (f64, usize),
}

/// What is left.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Left {
    /// Predicted wall-clock seconds with the thread tokens there are. A lower bound if stages are `unknown`.
    pub seconds: f64,
    /// Stages that may run and have no history.
    pub unknown: usize,
    /// The longest chain of what may run.
    pub path: Vec<String>,
    /// Its length in seconds.
    pub path_seconds: f64,
}

impl Forecast {
    /// Makes a forecast of the stages in `left`; `expected` has seconds by stage.
    pub fn new(spec: &Spec, wiring: &Wiring, budget: Budget, left: Vec<bool>, expected: Vec<Option<f64>>) -> Self {
        let names: Vec<String> = spec.stages.iter().map(|stage| stage.name.clone()).collect();
        let index = names.iter().enumerate().map(|(index, name)| (name.clone(), index)).collect();
        Self {
            bases: spec.stages.iter().map(|stage| stage.base.clone()).collect(),
            names,
            index,
            order: wiring.order.clone(),
            after: wiring.after.clone(),
            demand: spec.stages.iter().map(|stage| Demand::from(&stage.policy)).collect(),
            budget,
            expected,
            left,
            ran: (0.0, 0),
        }
    }

    /// A stage ended: it is not expected any more. What it took (if it ran) is what actions of the same stage without
    /// history are expected to take, and once many have run their mean is what any stage without history is.
    pub fn settle(&mut self, stage: &str, seconds: Option<f64>) {
        let Some(&index) = self.index.get(stage) else { return };
        self.left[index] = false;
        if let Some(seconds) = seconds {
            self.expected[index] = Some(seconds);
            self.ran = (self.ran.0 + seconds, self.ran.1 + 1);
        }
    }

    /// Returns what is left; `elapsed` are seconds running stages have run for, by name.
    pub fn left(&self, elapsed: &BTreeMap<String, f64>) -> Left {
        let known = self.by_base();
        let mean = (self.ran.1 >= ENOUGH).then(|| self.ran.0 / self.ran.1 as f64);
        let mut unknown = 0;
        let mut weight = vec![0.0; self.names.len()];
        for (stage, weight) in weight.iter_mut().enumerate().filter(|(stage, _)| self.left[*stage]) {
            let expected = self.expected[stage].or_else(|| known.get(self.bases[stage].as_str()).copied()).or(mean);
            unknown += usize::from(expected.is_none());
            let gone = elapsed.get(&self.names[stage]).copied().unwrap_or(0.0);
            *weight = (expected.unwrap_or(0.0) - gone).max(0.0);
        }
        let chain = longest_chain(&self.order, &self.after, &weight, &self.left);
        let seconds = if weight.iter().all(|weight| *weight == 0.0) {
            0.0
        } else {
            predict(self.budget.clone(), &self.order, &self.after, &weight, &self.demand)
        };
        Left {
            seconds,
            unknown,
            path_seconds: length(&chain, &weight),
            path: chain.into_iter().map(|stage| self.names[stage].clone()).collect(),
        }
    }

    /// Mean seconds of the actions of a stage that has several.
    fn by_base(&self) -> FastMap<&str, f64> {
        let mut sums: FastMap<&str, (f64, f64)> = FastMap::default();
        for (base, expected) in self.bases.iter().zip(&self.expected) {
            if let Some(seconds) = expected {
                let sum = sums.entry(base).or_default();
                *sum = (sum.0 + seconds, sum.1 + 1.0);
            }
        }
        sums.into_iter().map(|(base, (sum, count))| (base, sum / count)).collect()
    }
}

/// Returns the critical path of what was done: `took` has seconds by action, and only stages in it count. A mapped stage
/// counts as its slowest item, which is what it would take with enough threads.
pub fn critical_path(spec: &Spec, wiring: &Wiring, took: &BTreeMap<String, f64>) -> CriticalPath {
    let slowest = |stage: &str| {
        let first = format!("{stage}[");
        let items = took.range(first.clone()..).take_while(|(name, _)| name.starts_with(&first));
        items.map(|(_, seconds)| *seconds).max_by(f64::total_cmp)
    };
    let of = |stage: &str| took.get(stage).copied().or_else(|| slowest(stage));
    let seconds: Vec<Option<f64>> = spec.stages.iter().map(|stage| of(&stage.name)).collect();
    let part: Vec<bool> = seconds.iter().map(Option::is_some).collect();
    let weight: Vec<f64> = seconds.iter().map(|seconds| seconds.unwrap_or(0.0)).collect();
    let chain = longest_chain(&wiring.order, &wiring.after, &weight, &part);
    let free = if_free(&wiring.order, &wiring.after, &weight, &chain);
    let step = |(stage, if_free): (&usize, f64)| Step {
        stage: spec.stages[*stage].name.clone(),
        seconds: weight[*stage],
        if_free,
    };
    CriticalPath { seconds: length(&chain, &weight), stages: chain.iter().zip(free).map(step).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{self, LoadOptions, SourceText};
    use crate::stage::Registry;

    fn pipeline() -> (Spec, Wiring) {
        let text = "version: 1\nname: t\nstages:\n  a: { run: x, out: { o: a } }\n  \
                    m: { run: x, in: { i: a }, out: { o: \"m-${matrix.n}\" }, matrix: { n: [1, 2, 3] } }\n  \
                    z: { run: x, in: { i: \"m-*\" }, out: { o: z } }\n";
        let source = SourceText { name: "pipeline.yaml".into(), text: text.into() };
        let options = LoadOptions { profile: None, sets: Vec::new(), env: &|_| None };
        let spec = spec::load(&source, &Registry::default(), &options).unwrap();
        let wiring = Wiring::new(&spec).unwrap();
        (spec, wiring)
    }

    fn budget(threads: usize) -> Budget {
        Budget { threads, memory: 1, pools: BTreeMap::new() }
    }

    #[test]
    fn what_is_left_shrinks_as_stages_run_and_end() {
        let (spec, wiring) = pipeline();
        let expected = vec![Some(1.0), Some(2.0), Some(2.0), Some(2.0), Some(1.0)];
        let mut forecast = Forecast::new(&spec, &wiring, budget(3), vec![true; 5], expected);
        let left = forecast.left(&BTreeMap::new());
        assert_eq!((left.seconds, left.unknown, left.path_seconds), (4.0, 0, 4.0));
        assert_eq!(left.path, ["a", "m[n=1]", "z"]);
        let elapsed = BTreeMap::from([("a".to_owned(), 0.5)]);
        assert_eq!(forecast.left(&elapsed).seconds, 3.5);
        forecast.settle("a", Some(9.0));
        forecast.settle("m[n=2]", None);
        forecast.settle("nobody", None);
        assert_eq!(forecast.left(&BTreeMap::new()).seconds, 3.0);
    }

    #[test]
    fn one_thread_takes_the_sum_and_many_the_critical_path() {
        let (spec, wiring) = pipeline();
        let expected = vec![Some(1.0), Some(2.0), Some(2.0), Some(2.0), Some(1.0)];
        let left = |threads| {
            let forecast = Forecast::new(&spec, &wiring, budget(threads), vec![true; 5], expected.clone());
            forecast.left(&BTreeMap::new()).seconds
        };
        assert_eq!((left(1), left(2), left(3)), (8.0, 6.0, 4.0));
    }

    #[test]
    fn actions_without_history_are_taken_to_last_as_long_as_their_siblings() {
        let (spec, wiring) = pipeline();
        let mut forecast = Forecast::new(&spec, &wiring, budget(1), vec![true; 5], vec![None; 5]);
        assert_eq!(forecast.left(&BTreeMap::new()).unknown, 5);
        forecast.settle("m[n=1]", Some(2.0));
        let left = forecast.left(&BTreeMap::new());
        assert_eq!((left.unknown, left.seconds), (2, 4.0), "a and z are still unknown");
    }

    #[test]
    fn after_many_stages_their_mean_stands_for_those_without_history() {
        let stage = |n| format!("  s{n}: {{ run: x, out: {{ o: f{n} }} }}\n");
        let text = format!("version: 1\nname: t\nstages:\n{}", (0..=ENOUGH).map(stage).collect::<String>());
        let source = SourceText { name: "pipeline.yaml".into(), text };
        let options = LoadOptions { profile: None, sets: Vec::new(), env: &|_| None };
        let spec = spec::load(&source, &Registry::default(), &options).unwrap();
        let wiring = Wiring::new(&spec).unwrap();
        let count = ENOUGH + 1;
        let mut forecast = Forecast::new(&spec, &wiring, budget(1), vec![true; count], vec![None; count]);
        (0..ENOUGH - 1).for_each(|n| forecast.settle(&format!("s{n}"), Some(3.0)));
        assert_eq!(forecast.left(&BTreeMap::new()).unknown, 2, "too few yet");
        forecast.settle(&format!("s{}", ENOUGH - 1), Some(3.0));
        let left = forecast.left(&BTreeMap::new());
        assert_eq!((left.unknown, left.seconds), (0, 3.0));
    }

    #[test]
    fn the_critical_path_of_a_run_has_only_what_ran() {
        let (spec, wiring) = pipeline();
        let items = BTreeMap::from([("a[x]".into(), 3.0), ("a[y]".into(), 4.0), ("ab".into(), 9.0), ("z".into(), 1.0)]);
        let path = critical_path(&spec, &wiring, &items);
        assert_eq!(path.stages.first().map(|step| (step.stage.as_str(), step.seconds)), Some(("a", 4.0)));
        let took = BTreeMap::from([("m[n=1]".into(), 2.0), ("m[n=3]".into(), 5.0), ("z".into(), 1.0)]);
        let path = critical_path(&spec, &wiring, &took);
        let stages: Vec<&str> = path.stages.iter().map(|step| step.stage.as_str()).collect();
        assert_eq!((path.seconds, stages), (6.0, vec!["m[n=3]", "z"]));
        assert_eq!((path.stages[0].if_free, path.stages[1].if_free), (3.0, 5.0));
        assert_eq!(critical_path(&spec, &wiring, &BTreeMap::new()), CriticalPath::default());
    }
}
