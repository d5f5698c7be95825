//! The conformal p-value of a session: how often a benign session would have a fused score at least as high.
//!
//! The reference are the benign sessions of the validation fold with scores of models that had not seen them (`fusion_oof`);
//! where nothing is labelled, all of that fold, which can only make p-values larger. Of n equally weighted reference sessions, k
//! of them at or above a score, p = (k + 1) / (n + 1) (Vovk et al. 2005, ties against the session): if a benign session
//! and the reference are exchangeable, p <= a has a probability of at most a. Where sessions stand for many, each counts by its weight,
//! and the session itself as the heaviest of the reference (Tibshirani et al. 2019; its own weight is not known before its
//! label is). A session of the reference is compared with the others.
//!
//! Drift breaks exchangeability; `/conformal/at` of the metrics tells nominal from realised rates on the test fold.

use std::path::Path;

use polars::prelude::{Column, DataFrame};

use super::document::{Conformal, RealisedRate};
use crate::support::scoretable::{Fold, ScoreTable};
use crate::support::table::write_parquet;

/// Weighted reference scores.
#[derive(Clone, Debug, PartialEq)]
struct Reference {
    /// Distinct scores, ascending.
    scores: Vec<f64>,
    /// Weight of all reference scores that are at least each of `scores`.
    at_least: Vec<f64>,
    /// Weight of the heaviest.
    heaviest: f64,
}

impl Reference {
    /// Takes scores with their weights; `None` if there are none.
    fn of(mut scores: Vec<(f64, f64)>) -> Option<Self> {
        scores.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let heaviest = scores.iter().map(|s| s.1).max_by(f64::total_cmp)?;
        let (mut distinct, mut at_least, mut sum) = (Vec::<f64>::new(), Vec::new(), 0.0);
        for &(score, weight) in scores.iter().rev() {
            sum += weight;
            if distinct.last() == Some(&score) {
                *at_least.last_mut().expect("as long as the scores") = sum;
            } else {
                distinct.push(score);
                at_least.push(sum);
            }
        }
        distinct.reverse();
        at_least.reverse();
        Some(Self { scores: distinct, at_least, heaviest })
    }

    fn total(&self) -> f64 {
        self.at_least[0]
    }

    fn at_least(&self, score: f64) -> f64 {
        self.at_least.get(self.scores.partition_point(|&s| s < score)).copied().unwrap_or(0.0)
    }

    /// The p-value of a session that is not in the reference.
    fn of_new(&self, score: f64) -> f64 {
        (self.heaviest + self.at_least(score)) / (self.heaviest + self.total())
    }

    /// The p-value of a session of the reference, against the others.
    fn of_member(&self, score: f64) -> f64 {
        self.at_least(score) / self.total()
    }
}

/// The p-values of all sessions of a table.
pub(super) struct PValues {
    /// By row.
    pub(super) p: Vec<f64>,
    /// Sessions of the reference.
    reference: u64,
    /// Of these, without a label.
    unlabelled: u64,
    /// The smallest p-value there can be.
    smallest: f64,
}

impl PValues {
    /// Of scores to judge by ([`ScoreTable::unseen`]); `None` where the validation fold has no session that may be benign.
    pub(super) fn of(scores: &ScoreTable) -> Option<Self> {
        let fused = scores.fusion()?;
        let weight = |row: usize| scores.weight.get(row).copied().unwrap_or(1.0);
        let validation = scores.rows_of(Fold::Validation);
        let benign: Vec<usize> = validation.iter().copied().filter(|&row| scores.label[row] == Some(false)).collect();
        let unlabelled = || validation.iter().copied().filter(|&row| scores.label[row].is_none()).collect();
        let rows: Vec<usize> = if benign.is_empty() { unlabelled() } else { benign };
        let reference = Reference::of(rows.iter().map(|&row| (fused[row], weight(row))).collect())?;
        let mut p: Vec<f64> = fused.iter().map(|&score| reference.of_new(score)).collect();
        for &row in &rows {
            p[row] = reference.of_member(fused[row]);
        }
        Some(Self {
            p,
            reference: rows.len() as u64,
            unlabelled: rows.iter().filter(|&&row| scores.label[row].is_none()).count() as u64,
            smallest: reference.of_new(f64::INFINITY),
        })
    }

    /// What the metrics say of them: nominal rates against realised ones of benign test sessions.
    pub(super) fn document(&self, scores: &ScoreTable, nominal: &[f64]) -> Conformal {
        let benign: Vec<usize> =
            scores.rows_of(Fold::Test).into_iter().filter(|&row| scores.label[row] == Some(false)).collect();
        let weight = |rows: &mut dyn Iterator<Item = usize>| -> f64 {
            // A sum of nothing is -0.
            rows.map(|row| scores.weight.get(row).copied().unwrap_or(1.0)).sum::<f64>() + 0.0
        };
        let all = weight(&mut benign.iter().copied());
        let at = nominal.iter().map(|&nominal| {
            let below = weight(&mut benign.iter().copied().filter(|&row| self.p[row] <= nominal));
            RealisedRate { nominal, realised: (all > 0.0).then(|| below / all) }
        });
        Conformal { reference: self.reference, unlabelled: self.unlabelled, smallest: self.smallest, at: at.collect() }
    }
}

/// Writes a table: session, fold, the score that was judged, its p-value; null where there are none.
pub(super) fn write(path: &Path, scores: &ScoreTable, values: Option<&PValues>) -> anyhow::Result<()> {
    let p: Vec<Option<f64>> = (0..scores.len()).map(|row| values.map(|values| values.p[row])).collect();
    let columns = vec![
        Column::new("session_id".into(), &scores.ids),
        Column::new("fold".into(), scores.fold.iter().map(|f| f.name()).collect::<Vec<_>>()),
        Column::new("score".into(), scores.fusion().unwrap_or_default()),
        Column::new("p_value".into(), p),
    ];
    write_parquet(path, &mut DataFrame::new_infer_height(columns)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::scoretable::tests::frame;
    use proptest::prelude::*;
    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn p_values_are_as_computed_by_hand() {
        let rows = [
            ("train", Some(0), 0.3),
            ("validation", Some(0), 0.1),
            ("validation", Some(0), 0.2),
            ("validation", Some(0), 0.2),
            ("validation", Some(1), 0.9),
            ("validation", None, 0.9),
            ("test", Some(0), 0.2),
            ("test", Some(1), 0.5),
        ];
        let scores = ScoreTable::from_frame(&frame(&rows)).unwrap();
        let values = PValues::of(&scores).unwrap();
        // Three in the reference. New: (1 + how many are at least as high) / 4; members: without themselves, of 2.
        let expected = [0.25, 1.0, 2.0 / 3.0, 2.0 / 3.0, 0.25, 0.25, 0.75, 0.25];
        assert!(values.p.iter().zip(expected).all(|(p, e)| (p - e).abs() < 1e-12), "{:?}", values.p);
        let said = values.document(&scores, &[0.05, 0.75]);
        assert_eq!((said.reference, said.unlabelled, said.smallest), (3, 0, 0.25));
        assert_eq!(said.at.iter().map(|a| a.realised).collect::<Vec<_>>(), [Some(0.0), Some(1.0)]);
    }

    #[test]
    fn without_labels_the_whole_validation_fold_is_the_reference() {
        let rows = [("train", None, 0.3), ("validation", None, 0.1), ("validation", None, 0.2), ("test", None, 0.4)];
        let scores = ScoreTable::from_frame(&frame(&rows)).unwrap();
        let values = PValues::of(&scores).unwrap();
        assert_eq!((values.reference, values.unlabelled), (2, 2));
        assert_eq!(values.document(&scores, &[0.1]).at[0].realised, None);
        let anomalies = [("validation", Some(1), 0.9), ("test", Some(0), 0.1)];
        assert!(PValues::of(&ScoreTable::from_frame(&frame(&anomalies)).unwrap()).is_none());
    }

    #[test]
    fn a_session_counts_as_the_heaviest_of_the_reference() {
        let reference = Reference::of(vec![(1.0, 42.0), (2.0, 42.0), (3.0, 42.0)]).unwrap();
        assert!((reference.of_new(2.5) - 0.5).abs() < 1e-12);
        let mixed = Reference::of(vec![(1.0, 6.0), (2.0, 2.0)]).unwrap();
        assert!((mixed.of_new(1.5) - 8.0 / 14.0).abs() < 1e-12);
        assert_eq!(Reference::of(Vec::new()), None);
    }

    /// The share of new benign sessions with a p-value of at most `level`, over many references.
    fn realised(level: f64, mut draw: impl FnMut(&mut ChaCha8Rng) -> (Vec<(f64, f64)>, Vec<f64>)) -> f64 {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let (mut below, mut all) = (0.0, 0.0);
        for _ in 0..600 {
            let (reference, new) = draw(&mut rng);
            let reference = Reference::of(reference).unwrap();
            below += new.iter().filter(|&&score| reference.of_new(score) <= level).count() as f64;
            all += new.len() as f64;
        }
        below / all
    }

    #[test]
    fn on_exchangeable_sessions_the_realised_rate_is_at_most_the_nominal_one() {
        for (n, level) in [(20, 0.05), (20, 0.5), (99, 0.01), (99, 0.1), (150, 0.02)] {
            // Scores with ties, as those of equal sequences.
            let rate = realised(level, |rng| {
                let mut score = || (rng.random::<f64>() * 30.0).floor() / 30.0 + f64::from(rng.random_range(0..3u8));
                ((0..n).map(|_| (score(), 1.0)).collect(), (0..60).map(|_| score()).collect())
            });
            // Three standard errors: both the references and the new sessions are drawn.
            let error = 3.0 * (level * (1.0 - level) * (1.0 / n as f64 + 1.0 / 60.0) / 600.0).sqrt();
            assert!(rate <= level + error, "n = {n}: {rate} at a nominal {level}");
            assert!(level < 0.5 || rate > 0.4, "n = {n}: {rate} at a nominal {level}");
        }
    }

    #[test]
    fn where_sessions_stand_for_many_the_rate_holds_for_what_they_stand_for() {
        // Nine in ten sessions are of a kind with low scores; the sample has as many of the other kind.
        let score = |rng: &mut ChaCha8Rng, common: bool| rng.random::<f64>() + if common { 0.0 } else { 0.5 };
        let draw = |weighted: bool| {
            move |rng: &mut ChaCha8Rng| {
                let reference = (0..200).map(|i| {
                    let common = i % 2 == 0;
                    (score(rng, common), if common && weighted { 9.0 } else { 1.0 })
                });
                let reference = reference.collect();
                let new = (0..60).map(|_| {
                    let common = rng.random::<f64>() < 0.9;
                    score(rng, common)
                });
                (reference, new.collect())
            }
        };
        let (weighted, plain) = (realised(0.1, draw(true)), realised(0.1, draw(false)));
        assert!((0.06..=0.102).contains(&weighted), "{weighted}");
        assert!(plain < weighted, "{plain} {weighted}");
    }

    proptest! {
        #[test]
        fn a_higher_score_never_has_a_larger_p_value(
            scores in prop::collection::vec((0u8..20, 1u8..5), 1..40), a in 0u8..25, b in 0u8..25,
        ) {
            let reference: Vec<(f64, f64)> = scores.iter().map(|&(s, w)| (f64::from(s), f64::from(w))).collect();
            let reference = Reference::of(reference).unwrap();
            let (low, high) = (f64::from(a.min(b)), f64::from(a.max(b)));
            prop_assert!(reference.of_new(low) >= reference.of_new(high));
            prop_assert!(reference.of_new(high) > 0.0 && reference.of_new(low) <= 1.0);
        }
    }
}
