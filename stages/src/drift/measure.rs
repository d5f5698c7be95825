//! How far two groups of sessions are apart, and how far chance alone would put them.
//!
//! A group is a distribution over categories: templates, weighted by how often a session has them, or bins of a number.
//! The distance is the Jensen-Shannon divergence in bits (Lin 1991): 0 for equal distributions, 1 for disjoint ones, finite
//! also where a category is new or gone. Whole sessions are permuted between the groups, since events of one session depend on
//! each other; what the reference shows between stretches of its own time is measured the same way.

use rand::SeedableRng as _;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::support::repeats::{Distinct, mix};

/// Sessions as counts of categories.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Counts {
    /// Session i has `items[offsets[i]..offsets[i + 1]]`.
    offsets: Vec<usize>,
    /// Category and how often.
    items: Vec<(u32, f64)>,
    /// How many categories there are.
    categories: usize,
}

impl Counts {
    /// No sessions over some categories.
    pub(super) fn over(categories: usize) -> Self {
        Self { offsets: vec![0], items: Vec::new(), categories }
    }

    /// Adds a session.
    pub(super) fn push(&mut self, items: impl IntoIterator<Item = (u32, f64)>) {
        self.items.extend(items);
        self.offsets.push(self.items.len());
    }

    /// Sessions with one number each, as bins between quantiles of them all: tenths, and both ends at 5 % and 1 %.
    pub(super) fn of_numbers(numbers: &[f64]) -> Self {
        let mut sorted = numbers.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| sorted[((share * sorted.len() as f64) as usize).min(sorted.len() - 1)];
        let shares = [0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99];
        let mut cuts: Vec<f64> = if sorted.is_empty() { Vec::new() } else { shares.map(at).to_vec() };
        cuts.dedup();
        let mut counts = Self::over(cuts.len() + 1);
        for &number in numbers {
            counts.push([(cuts.partition_point(|&cut| cut < number) as u32, 1.0)]);
        }
        counts
    }

    /// Sessions with one number of 0 to 1 each, as ten bins of equal width. Where two models gave the numbers, quantiles
    /// would tell apart what is nearly equal: sessions alike have one score, and that of another model is a little off.
    pub(super) fn of_shares(numbers: &[f64]) -> Self {
        let mut counts = Self::over(10);
        for &number in numbers {
            counts.push([(((number.clamp(0.0, 1.0) * 10.0) as u32).min(9), 1.0)]);
        }
        counts
    }

    /// How many sessions there are.
    pub(super) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The categories of a session, and how often it has them.
    fn of(&self, row: usize) -> &[(u32, f64)] {
        &self.items[self.offsets[row]..self.offsets[row + 1]]
    }

    /// Sums over some sessions, by category.
    pub(super) fn sums(&self, rows: impl IntoIterator<Item = usize>) -> Vec<f64> {
        let mut sums = vec![0.0; self.categories];
        for row in rows {
            for &(category, count) in self.of(row) {
                sums[category as usize] += count;
            }
        }
        sums
    }

    /// How many of some sessions have each category.
    pub(super) fn sessions_with(&self, rows: impl IntoIterator<Item = usize>) -> Vec<u64> {
        let mut with = vec![0; self.categories];
        for row in rows {
            self.of(row).iter().for_each(|&(category, _)| with[category as usize] += 1);
        }
        with
    }
}

/// Sums as shares; zeros where there is nothing.
pub(super) fn shares(sums: &[f64]) -> Vec<f64> {
    let total: f64 = sums.iter().sum();
    sums.iter().map(|sum| if total > 0.0 { sum / total } else { 0.0 }).collect()
}

/// What each category adds to the Jensen-Shannon divergence of two distributions, bits.
pub(super) fn bits(a: &[f64], b: &[f64]) -> Vec<f64> {
    let term = |x: f64, middle: f64| if x > 0.0 { x * (x / middle).log2() } else { 0.0 };
    a.iter()
        .zip(b)
        .map(|(&a, &b)| {
            let middle = f64::midpoint(a, b);
            f64::midpoint(term(a, middle), term(b, middle)).max(0.0)
        })
        .collect()
}

/// The Jensen-Shannon divergence of two groups, given by sums.
fn divergence(a: &[f64], b: &[f64]) -> f64 {
    bits(&shares(a), &shares(b)).iter().sum()
}

/// The population stability index of two groups, given by sums: the symmetric Kullback-Leibler divergence in nats, half an item
/// added to each category so that new ones do not make it infinite.
fn stability_index(a: &[f64], b: &[f64]) -> f64 {
    let smooth = |sums: &[f64]| -> Vec<f64> { shares(&sums.iter().map(|sum| sum + 0.5).collect::<Vec<_>>()) };
    smooth(a).iter().zip(smooth(b)).map(|(a, b)| (a - b) * (a / b).ln()).sum()
}

/// Two groups against each other.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shift {
    /// Jensen-Shannon divergence, bits.
    pub(super) divergence: f64,
    /// Population stability index.
    pub(super) psi: f64,
    /// Divergence that permuted sessions exceed with a probability of `level`.
    pub(super) chance: f64,
    /// How often permuted sessions are at least as far apart.
    pub(super) p: f64,
    /// The largest divergence between a stretch of the reference and the rest of it.
    pub(super) history: f64,
    /// By category: how often its share moves at least as far under permutation.
    pub(super) category_p: Vec<f64>,
}

/// How groups are held against each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Method {
    pub(super) permutations: u32,
    pub(super) level: f64,
    pub(super) seed: u64,
}

/// Holds the first `reference` sessions, which are in order of time, against the others, by several counts of the same sessions.
/// Works on the rayon pool it is called from.
///
/// # Panics
/// The counts are of different numbers of sessions.
pub(super) fn shifts(all: &[&Counts], reference: usize, method: Method) -> Vec<Shift> {
    let Some(sessions) = all.first().map(|counts| counts.len()) else { return Vec::new() };
    assert!(all.iter().all(|counts| counts.len() == sessions), "counts of the same sessions");
    let compared: Vec<Compared> = all.iter().map(|counts| Compared::of(counts, reference)).collect();
    let smaller = reference.min(sessions - reference);
    // The sessions that are drawn are the same for all counts.
    let one = |permutation: u32| {
        let mut rng = ChaCha8Rng::seed_from_u64(method.seed);
        rng.set_stream(u64::from(permutation) + 1);
        let drawn = index::sample(&mut rng, sessions, smaller);
        compared.iter().map(|compared| compared.permuted(&drawn)).collect::<Vec<_>>()
    };
    let permuted: Vec<Vec<(f64, Vec<bool>)>> = (0..method.permutations).into_par_iter().map(one).collect();
    let of =
        |(i, compared): (usize, &Compared<'_>)| compared.shift(permuted.iter().map(|all| &all[i]), reference, method);
    compared.iter().enumerate().map(of).collect()
}

/// Counts of two groups.
struct Compared<'a> {
    counts: &'a Counts,
    /// Sessions of equal counts.
    alike: Distinct,
    /// Sums of the reference, of the new sessions, of all.
    sums: [Vec<f64>; 3],
    /// How far the share of each category moved.
    far: Vec<f64>,
}

/// Sums differ in the last digits by the order they were made in.
fn reaches(value: f64, bound: f64) -> bool {
    value >= bound - 1e-12
}

fn moved(a: &[f64], b: &[f64]) -> Vec<f64> {
    shares(a).iter().zip(shares(b)).map(|(a, b)| (a - b).abs()).collect()
}

impl<'a> Compared<'a> {
    fn of(counts: &'a Counts, reference: usize) -> Self {
        let (a, b) = (counts.sums(0..reference), counts.sums(reference..counts.len()));
        let whole: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        let word = |all: u64, &(category, count): &(u32, f64)| mix(mix(all, u64::from(category)), count.to_bits());
        let hashes: Vec<u64> = (0..counts.len()).map(|row| counts.of(row).iter().fold(0, word)).collect();
        let alike = Distinct::by(&hashes, |a, b| counts.of(a) == counts.of(b));
        Self { counts, alike, far: moved(&a, &b), sums: [a, b, whole] }
    }

    /// How far drawn sessions are from the others, and which categories move at least as far as they did.
    fn permuted(&self, drawn: &index::IndexVec) -> (f64, Vec<bool>) {
        let mut times = vec![0u32; self.alike.first.len()];
        drawn.iter().for_each(|row| times[self.alike.groups[row] as usize] += 1);
        let mut some = vec![0.0; self.counts.categories];
        for (&first, &times) in self.alike.first.iter().zip(&times).filter(|(_, times)| **times > 0) {
            for &(category, count) in self.counts.of(first) {
                some[category as usize] += f64::from(times) * count;
            }
        }
        let rest: Vec<f64> = self.sums[2].iter().zip(&some).map(|(whole, some)| (whole - some).max(0.0)).collect();
        let far_here = moved(&some, &rest).iter().zip(&self.far).map(|(&here, &far)| reaches(here, far)).collect();
        (divergence(&some, &rest), far_here)
    }

    fn shift<'p>(
        &self,
        permuted: impl Iterator<Item = &'p (f64, Vec<bool>)>,
        reference: usize,
        method: Method,
    ) -> Shift {
        let [a, b, _] = &self.sums;
        let observed = divergence(a, b);
        let mut exceeded = vec![0u32; self.counts.categories];
        let mut distances = Vec::with_capacity(method.permutations as usize);
        for (distance, far_here) in permuted {
            distances.push(*distance);
            exceeded.iter_mut().zip(far_here).for_each(|(sum, here)| *sum += u32::from(*here));
        }
        let p = |times: u32| (f64::from(times) + 1.0) / (f64::from(method.permutations) + 1.0);
        distances.sort_unstable_by(f64::total_cmp);
        let above = distances.iter().filter(|&&distance| reaches(distance, observed)).count() as u32;
        let bound = ((1.0 - method.level) * distances.len() as f64).ceil() as usize;
        Shift {
            divergence: observed,
            psi: stability_index(a, b),
            chance: distances.get(bound.max(1) - 1).copied().unwrap_or(0.0),
            p: p(above),
            history: history(self.counts, reference, self.counts.len() - reference, a),
            category_p: exceeded.into_iter().map(p).collect(),
        }
    }
}

/// The largest divergence between a stretch of the reference and the rest of it. Stretches are as long as the new data are, as
/// far as there are two to ten of them: shorter ones differ more by chance.
fn history(counts: &Counts, reference: usize, new: usize, whole: &[f64]) -> f64 {
    let stretches = (reference / new.max(1)).clamp(2, 10).min(reference);
    let against_rest = |stretch: usize| {
        let part = counts.sums(reference * stretch / stretches..reference * (stretch + 1) / stretches);
        let rest: Vec<f64> = whole.iter().zip(&part).map(|(whole, part)| (whole - part).max(0.0)).collect();
        divergence(&part, &rest)
    };
    (0..stretches).map(against_rest).fold(0.0, f64::max)
}

/// Adjusts p-values of several tests (Holm 1979), in their order: that any of them is at most a level by chance has a
/// probability of at most that level.
pub(super) fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let (mut adjusted, mut least) = (vec![1.0; p.len()], 0.0_f64);
    for (rank, &test) in order.iter().enumerate() {
        least = least.max((p[test] * (p.len() - rank) as f64).min(1.0));
        adjusted[test] = least;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng as _;

    const METHOD: Method = Method { permutations: 199, level: 0.05, seed: 1 };

    fn shift(counts: &Counts, reference: usize, method: Method) -> Shift {
        shifts(&[counts], reference, method).remove(0)
    }

    #[test]
    fn several_counts_of_the_same_sessions_are_compared_as_each_alone() {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let numbers: Vec<f64> = (0..90).map(|_| rng.random::<f64>()).collect();
        let mut templates = Counts::over(5);
        numbers.iter().for_each(|n| templates.push([((n * 3.0) as u32, 2.0), (4, (n * 9.0).floor())]));
        let bins = Counts::of_numbers(&numbers);
        let both = shifts(&[&templates, &bins], 60, METHOD);
        assert_eq!(both, [shift(&templates, 60, METHOD), shift(&bins, 60, METHOD)]);
        assert_eq!(shifts(&[], 60, METHOD), []);
    }

    #[test]
    fn divergence_is_as_computed_by_hand() {
        assert!((divergence(&[1.0, 0.0], &[0.0, 7.0]) - 1.0).abs() < 1e-12);
        assert!(divergence(&[2.0, 6.0], &[1.0, 3.0]).abs() < 1e-12);
        // Halves against quarters: middle 3/8, 5/8.
        let term = |x: f64, m: f64| x * (x / m).log2();
        let expected = (term(0.5, 0.375) + term(0.5, 0.625) + term(0.25, 0.375) + term(0.75, 0.625)) / 2.0;
        assert!((divergence(&[1.0, 1.0], &[1.0, 3.0]) - expected).abs() < 1e-12);
        assert_eq!(divergence(&[0.0], &[0.0]), 0.0);
        // Shares with half an item added: .75, .25 and .25, .75.
        assert!((stability_index(&[1.0, 0.0], &[0.0, 1.0]) - 3.0_f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn holm_is_as_in_the_textbook() {
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.005]);
        let expected = [0.03, 0.06, 0.06, 0.02];
        assert!(adjusted.iter().zip(expected).all(|(a, e)| (a - e).abs() < 1e-12), "{adjusted:?}");
        assert_eq!(holm(&[0.6, 0.7]), [1.0, 1.0]);
    }

    #[test]
    fn bins_hold_equal_shares_and_ties_stay_together() {
        let numbers: Vec<f64> = (0..1000).map(f64::from).collect();
        let counts = Counts::of_numbers(&numbers);
        assert_eq!(counts.categories, 14);
        assert_eq!(counts.sums(0..1000)[..4], [11.0, 40.0, 50.0, 100.0]);
        assert_eq!(Counts::of_numbers(&[3.0; 40]).sums(0..40), [40.0, 0.0]);
        assert_eq!(Counts::of_numbers(&[]).len(), 0);
        assert_eq!(
            Counts::of_shares(&[0.0, 0.05, 0.95, 1.0]).sums(0..4),
            [2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0]
        );
    }

    #[test]
    fn sessions_of_one_population_are_rarely_called_apart_and_others_are() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut significant = 0;
        for round in 0..100 {
            let numbers: Vec<f64> = (0..150).map(|_| rng.random::<f64>()).collect();
            let found = shift(&Counts::of_numbers(&numbers), 100, Method { seed: round, ..METHOD });
            significant += u32::from(found.p <= 0.05);
            assert_eq!(found.p <= 0.05, found.divergence > found.chance + 1e-12);
        }
        // Binomial(100, .05) is above 12 once in a thousand times.
        assert!(significant <= 12, "{significant}");
        let moved: Vec<f64> = (0..150).map(|i| rng.random::<f64>() + if i < 100 { 0.0 } else { 0.5 }).collect();
        let found = shift(&Counts::of_numbers(&moved), 100, METHOD);
        assert!(found.p < 0.01 && found.divergence > 2.0 * found.history && found.psi > 0.25, "{found:?}");
    }

    #[test]
    fn whole_sessions_are_permuted_because_their_events_depend_on_each_other() {
        // Sessions of one template, a hundred times each: by events the groups would seem to differ.
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut significant = 0;
        for round in 0..60 {
            let mut counts = Counts::over(2);
            (0..60).for_each(|_| counts.push([(u32::from(rng.random::<bool>()), 100.0)]));
            significant += u32::from(shift(&counts, 30, Method { seed: round, ..METHOD }).p <= 0.05);
        }
        assert!(significant <= 9, "{significant}");
    }
}
