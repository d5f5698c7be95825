//! What the pictures of an evaluation show.

use logweir_engine::stage::StageContext;

use super::document::{Metrics, Source};
use super::{Evaluation, bootstrap, pick, weights};
use crate::plots;
use crate::support::metrics::{Confusion, Step, steps};
use crate::support::scoretable::Fold;

impl Evaluation<'_> {
    /// Draws them; `test` are the labelled rows of the test fold.
    pub(super) fn draw(&self, cx: &StageContext<'_>, metrics: &Metrics, test: &[usize]) -> anyhow::Result<()> {
        let scores = self.scores;
        let anomalies = test.iter().filter(|&&row| scores.label[row] == Some(true)).count();
        let caption = plots::Caption {
            dataset: metrics.dataset.name.clone(),
            simulated: metrics.dataset.source == Source::Simulated,
            scope: plots::Caption::test_fold(&metrics.split.method, test.len() as u64, anomalies as u64),
            stage: metrics.provenance.stage.clone(),
        };
        let documents = [&metrics.lgbm, &metrics.ae, &metrics.profile, &metrics.fusion];
        let curves: Vec<plots::Curve> = self
            .usable()
            .map(|(m, values, cut)| {
                let (values, labels) = pick(scores, values, test);
                let weights = weights(scores, test);
                let c = Confusion::weighted(&values, &labels, &weights, cut.value);
                plots::Curve {
                    name: scores.models[m].name,
                    title: scores.models[m].title,
                    steps: steps(&values, &labels, &weights),
                    operating: Step { threshold: cut.value, tp: c.tp, fp: c.fp },
                    roc_auc: documents[m].roc_auc.map(|v| (v, documents[m].ci95.roc_auc)),
                    average_precision: documents[m].average_precision.map(|v| (v, documents[m].ci95.average_precision)),
                }
            })
            .collect();
        let key = &metrics.key;
        plots::roc(cx.output("roc")?, &caption, &curves, key)?;
        plots::precision_recall(cx.output("pr")?, &caption, &curves, key)?;
        plots::confusion(cx.output("cm")?, &caption, metrics.confusion.as_ref(), metrics.threshold.value, key)?;
        if let Some(path) = cx.optional_output("histogram") {
            let rows = scores.rows_of(Fold::Test);
            let of_model = |(m, values, cut): (usize, &[f64], super::Threshold)| plots::Scores {
                name: scores.models[m].name,
                title: scores.models[m].title,
                values: rows.iter().map(|&row| (values[row], scores.label[row])).collect(),
                threshold: cut.value,
            };
            let caption = plots::Caption {
                scope: match test.len() {
                    0 => format!("{} split, test fold · n = {} sessions, no labels", metrics.split.method, rows.len()),
                    _ => plots::Caption::test_fold(&metrics.split.method, rows.len() as u64, anomalies as u64),
                },
                ..caption.clone()
            };
            plots::histogram(path, &caption, &self.usable().map(of_model).collect::<Vec<_>>(), key)?;
        }
        if let Some(path) = cx.optional_output("calibration") {
            let labelled = |&row: &usize| Some((scores.p_lgbm[row]?, scores.label[row]?));
            let probabilities: Vec<(f64, bool)> = test.iter().filter_map(labelled).collect();
            plots::calibration(path, &caption, &probabilities, bootstrap::wilson, key)?;
        }
        if let Some(path) = cx.optional_output("recall_by_type") {
            plots::recall_by_type(path, &caption, &metrics.by_anomaly_type, key)?;
        }
        Ok(())
    }
}
