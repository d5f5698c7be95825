//! Bootstrap intervals by session.
//!
//! A resample draws as many sessions as there are, with replacement, each with the scores of all models, so that
//! differences between models are paired. Between two scores that some anomaly has, only the number of normal sessions
//! matters to every metric here; such runs are merged into one cell before sampling, and sessions with the same cells in all models
//! are of one sort, so a resample costs one random number and one count per session, and no sorting. Method: percentile interval (Efron & Tibshirani 1993,
//! chapter 13) with thresholds held fixed. Resample number b has a random stream of its own: results do not depend on
//! threads.

use rand::Rng as _;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::support::repeats::{Distinct, hash, mix};

/// The metrics of one model on one set of sessions; a metric is absent where a class is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    pub roc_auc: Option<f64>,
    pub average_precision: Option<f64>,
    pub f1: Option<f64>,
    pub f_beta: Option<f64>,
    pub precision: Option<f64>,
    pub recall: Option<f64>,
    pub fpr: Option<f64>,
}

/// One model's sessions as cells of equal consequence.
struct Cells {
    /// Cell of each session: 2 x group, plus 1 for an anomaly; groups from the highest score down.
    of: Vec<u32>,
    /// Number of groups.
    groups: usize,
    /// Number of groups that are flagged.
    flagged: usize,
}

impl Cells {
    fn new(scores: &[f64], labels: &[bool], threshold: f64) -> Self {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_unstable_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
        let mut of = vec![0u32; scores.len()];
        let (mut groups, mut flagged) = (0usize, 0usize);
        // Whether the last group holds normal sessions only, and whether it is flagged.
        let mut open: Option<bool> = None;
        for tie in order.chunk_by(|&a, &b| scores[a] == scores[b]) {
            let is_flagged = scores[tie[0]] >= threshold;
            let mixed = tie.iter().any(|&i| labels[i]);
            if mixed || open != Some(is_flagged) {
                groups += 1;
                flagged += usize::from(is_flagged);
            }
            open = (!mixed).then_some(is_flagged);
            for &i in tie {
                of[i] = u32::try_from(2 * (groups - 1)).expect("fewer than 2^31 sessions") + u32::from(labels[i]);
            }
        }
        Self { of, groups, flagged }
    }

    /// Metrics of given counts per cell (sums of weights: whole numbers, and exact, where every session counts once).
    fn metrics(&self, counts: &[f64], beta: f64) -> Sample {
        let (mut tp, mut fp, mut precisions, mut area) = (0.0, 0.0, 0.0, 0.0);
        let mut at = (0.0, 0.0);
        for (group, cell) in counts.chunks_exact(2).enumerate() {
            let (normal, anomalous) = (cell[0], cell[1]);
            area += normal * (tp + anomalous / 2.0);
            tp += anomalous;
            fp += normal;
            if anomalous > 0.0 {
                precisions += anomalous * tp / (tp + fp);
            }
            if group + 1 == self.flagged {
                at = (tp, fp);
            }
        }
        let (hits, alarms) = at;
        let (positives, negatives) = (tp, fp);
        let share = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
        let f = |beta: f64| {
            let b = beta * beta;
            share((1.0 + b) * hits, (1.0 + b) * hits + b * (positives - hits) + alarms).filter(|_| positives > 0.0)
        };
        Sample {
            roc_auc: share(area, positives * negatives),
            average_precision: share(precisions, positives),
            f1: f(1.0),
            f_beta: f(beta),
            // Nothing flagged: no false alarm, and no hit either; the usual convention is 0.
            precision: (positives > 0.0).then(|| share(hits, hits + alarms).unwrap_or(0.0)),
            recall: share(hits, positives),
            fpr: share(alarms, negatives),
        }
    }
}

/// What a model needs to be resampled: one score per session, and its threshold.
pub(crate) struct Member<'a> {
    pub scores: &'a [f64],
    pub threshold: f64,
}

/// The metrics on the sessions as they are, and on each resample.
pub(crate) struct Resampled {
    /// Per model: the metrics of all sessions.
    pub whole: Vec<Sample>,
    /// Per resample, per model.
    pub samples: Vec<Vec<Sample>>,
}

/// Computes the metrics of every model on the sessions and on `resamples` resamples of them; a session counts `weights`
/// times (empty: once) and is drawn as one. Call it inside the pool of the stage.
///
/// # Panics
/// Scores and labels differ in length.
pub(crate) fn resample(
    members: &[Member<'_>],
    labels: &[bool],
    weights: &[f64],
    beta: f64,
    resamples: u32,
    seed: u64,
) -> Resampled {
    let weight = |i: usize| weights.get(i).copied().unwrap_or(1.0);
    let cells: Vec<Cells> = members
        .iter()
        .map(|member| {
            assert_eq!(member.scores.len(), labels.len(), "one label for each score");
            Cells::new(member.scores, labels, member.threshold)
        })
        .collect();
    let whole = cells
        .iter()
        .map(|cells| {
            let mut counts = vec![0.0; 2 * cells.groups];
            cells.of.iter().enumerate().for_each(|(i, &cell)| counts[cell as usize] += weight(i));
            cells.metrics(&counts, beta)
        })
        .collect();
    // All models of a session side by side, each model's cells at an offset of its own. Most sessions have the same cells as
    // others: a resample counts how often it draws each sort.
    let width = cells.len();
    let mut starts = vec![0usize];
    for cells in &cells {
        starts.push(starts[starts.len() - 1] + 2 * cells.groups);
    }
    let mut table = vec![0u32; width * labels.len()];
    for (m, cells) in cells.iter().enumerate() {
        let start = u32::try_from(starts[m]).expect("fewer than 2^31 cells");
        cells.of.iter().enumerate().for_each(|(i, &cell)| table[i * width + m] = start + cell);
    }
    let cells_of = |i: usize| &table[i * width..(i + 1) * width];
    let hashes: Vec<u64> = (0..labels.len()).map(|i| mix(hash(cells_of(i)), weight(i).to_bits())).collect();
    let alike = |a: usize, b: usize| cells_of(a) == cells_of(b) && weight(a).to_bits() == weight(b).to_bits();
    let sorts = Distinct::by(&hashes, alike);
    let n = u32::try_from(labels.len()).expect("fewer than 2^32 sessions");
    let samples = if n == 0 || width == 0 {
        Vec::new()
    } else {
        (0..resamples)
            .into_par_iter()
            .map_init(
                || (vec![0u32; sorts.first.len()], vec![0.0; starts[width]]),
                |(drawn, counts), number| {
                    let mut random = ChaCha8Rng::seed_from_u64(seed);
                    random.set_stream(u64::from(number));
                    drawn.fill(0);
                    for _ in 0..n {
                        let row = random.random_range(0..n) as usize;
                        drawn[sorts.groups[row] as usize] += 1;
                    }
                    counts.fill(0.0);
                    for (&first, &times) in sorts.first.iter().zip(drawn.iter()) {
                        for &cell in cells_of(first) {
                            counts[cell as usize] += f64::from(times) * weight(first);
                        }
                    }
                    (0..width).map(|m| cells[m].metrics(&counts[starts[m]..starts[m + 1]], beta)).collect()
                },
            )
            .collect()
    };
    Resampled { whole, samples }
}

/// The central 95 % of values by linear interpolation between order statistics. `None` for fewer than 20 values.
pub(crate) fn interval(mut values: Vec<f64>) -> Option<[f64; 2]> {
    if values.len() < 20 {
        return None;
    }
    values.sort_unstable_by(f64::total_cmp);
    let at = |q: f64| {
        let place = q * (values.len() - 1) as f64;
        let (below, rest) = (place.floor() as usize, place.fract());
        let above = (below + 1).min(values.len() - 1);
        values[below] + rest * (values[above] - values[below])
    };
    Some([at(0.025), at(0.975)])
}

/// The 95 % score interval of a share of `hits` in `n` (Wilson 1927). `None` for `n` = 0.
pub(crate) fn wilson(hits: u64, n: u64) -> Option<[f64; 2]> {
    if n == 0 {
        return None;
    }
    const Z: f64 = 1.959_963_984_540_054;
    let (n, p) = (n as f64, hits as f64 / n as f64);
    let centre = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    Some([(centre - half).max(0.0), (centre + half).min(1.0)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::metrics::{Confusion, average_precision, roc_auc};
    use proptest::prelude::*;

    proptest! {
        /// Merging runs into cells changes no metric.
        #[test]
        fn cells_agree_with_the_plain_definitions(
            rows in prop::collection::vec((0u8..12, any::<bool>()), 1..60), cut in 0u8..14,
        ) {
            let scores: Vec<f64> = rows.iter().map(|r| f64::from(r.0)).collect();
            let labels: Vec<bool> = rows.iter().map(|r| r.1).collect();
            let threshold = f64::from(cut) - 0.5;
            let got = resample(&[Member { scores: &scores, threshold }], &labels, &[], 1.5, 0, 1).whole[0];
            let close = |a: Option<f64>, b: Option<f64>| match (a, b) {
                (Some(a), Some(b)) => (a - b).abs() < 1e-12,
                (a, b) => a == b,
            };
            prop_assert!(close(got.roc_auc, roc_auc(&scores, &labels)));
            prop_assert!(close(got.average_precision, average_precision(&scores, &labels)));
            if labels.contains(&true) {
                let c = Confusion::at(&scores, &labels, threshold);
                prop_assert!(close(got.f1, Some(c.f_beta(1.0))));
                prop_assert!(close(got.f_beta, Some(c.f_beta(1.5))));
                prop_assert!(close(got.precision, Some(c.precision())));
                prop_assert!(close(got.recall, Some(c.recall())));
            }
        }
    }

    #[test]
    fn a_weight_counts_as_many_equal_sessions() {
        let (scores, labels) = ([0.9, 0.8, 0.7, 0.1], [true, false, true, false]);
        let one = |scores: &[f64], labels: &[bool], weights: &[f64]| {
            resample(&[Member { scores, threshold: 0.5 }], labels, weights, 1.5, 0, 1).whole[0]
        };
        let repeated = one(
            &[0.9, 0.8, 0.8, 0.8, 0.7, 0.1, 0.1, 0.1],
            &[true, false, false, false, true, false, false, false],
            &[],
        );
        assert_eq!(one(&scores, &labels, &[1.0, 3.0, 1.0, 3.0]), repeated);
    }

    fn toy() -> (Vec<f64>, Vec<bool>) {
        let scores: Vec<f64> = (0..400).map(|i| f64::from(i * 37 % 100)).collect();
        let labels = scores.iter().enumerate().map(|(i, &s)| s > 80.0 && i % 3 > 0).collect();
        (scores, labels)
    }

    #[test]
    fn the_same_at_any_number_of_threads() {
        let (scores, labels) = toy();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| resample(&[Member { scores: &scores, threshold: 85.0 }], &labels, &[], 1.5, 64, 42).samples)
        };
        assert_eq!(run(1), run(2));
    }

    #[test]
    fn an_interval_holds_the_value_and_has_about_the_right_width() {
        let (scores, labels) = toy();
        let out = resample(&[Member { scores: &scores, threshold: 85.0 }], &labels, &[], 1.5, 1000, 42);
        let recall = out.whole[0].recall.unwrap();
        let [low, high] = interval(out.samples.iter().filter_map(|s| s[0].recall).collect()).unwrap();
        assert!(low < recall && recall < high);
        // The normal approximation of a share's interval, within a quarter.
        let n = labels.iter().filter(|&&l| l).count() as f64;
        let wald = 2.0 * 1.96 * (recall * (1.0 - recall) / n).sqrt();
        assert!(((high - low) / wald - 1.0).abs() < 0.25, "{low} {recall} {high}, expected a width of {wald}");
    }

    #[test]
    fn percentiles_and_wilson_by_hand() {
        let [low, high] = interval((0..=100).map(f64::from).collect()).unwrap();
        assert!((low - 2.5).abs() < 1e-12 && (high - 97.5).abs() < 1e-12);
        assert_eq!(interval(vec![1.0; 5]), None);
        // 8 of 10: textbook value .4902 to .9433.
        let [low, high] = wilson(8, 10).unwrap();
        assert!((low - 0.4902).abs() < 1e-4 && (high - 0.9433).abs() < 1e-4, "{low} {high}");
        assert_eq!(wilson(0, 0), None);
    }
}
