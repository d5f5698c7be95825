//! The `evaluate` kind: thresholds chosen on the validation fold, everything reported on the test fold.
//!
//! Owns: the decision rule, metrics with their intervals, `metrics.json`, `ensemble_sessions.csv` and what the plots
//! show. Rankings are made on raw scores only (calibrated ones have ties). Does not own: drawing (`plots`), scores
//! (`fusion`).
//!
//! Without labels, or with one class only in validation, the objective falls back to the alert budget, metrics are
//! null, and the document says why.

mod bootstrap;
pub mod document;
mod draw;
mod ensemble;
mod pvalues;
mod sequences;
mod threshold;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::path::Path;

use anyhow::{Context as _, ensure};
use logweir_engine::stage::{ParamError, Params, Slot, Stage, StageContext, StageKind, make, schema_of};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::support::metrics::{Confusion, Step, steps};
use crate::support::provenance::Provenance;
use crate::support::scoretable::{Fold, ScoreTable};
use crate::support::time::rfc3339;
use bootstrap::{Member, Resampled, Sample, interval, resample, wilson};
use document::{
    Alerts, Calibration, Cut, Dataset, FoldCounts, Gain, Intervals, Method, Metrics, ModelMetrics, Rates, Source,
    Split, Subset, ThresholdChoice, TypeRecall,
};
use pvalues::PValues;
use sequences::{Sequences, read_types};
pub use threshold::Objective;
use threshold::Threshold;

/// Returns the kind.
pub fn kind() -> StageKind {
    const INPUTS: &[Slot] = &[
        Slot::file("scores", "the table of scores (fusion)"),
        Slot::file("sessions", "event sequences, for unseen and repeated ones (sessionize)"),
        Slot::file("summary", "where the lines come from (sessionize)"),
        Slot::file("types", "types of anomalous sessions (label)").optional(),
    ];
    const OUTPUTS: &[Slot] = &[
        Slot::file("metrics", "metrics.json"),
        Slot::file("roc", "ROC curves, PNG"),
        Slot::file("pr", "precision-recall curves, PNG"),
        Slot::file("cm", "confusion matrix, PNG"),
        Slot::file("ensemble", "score and decision of every session, CSV"),
        Slot::file("histogram", "distribution of all scores, PNG").optional(),
        Slot::file("calibration", "reliability of the supervised probability, PNG").optional(),
        Slot::file("recall_by_type", "recall of each type of anomaly by model, PNG").optional(),
        Slot::file("pvalues", "conformal p-value of the fused score of every session, Parquet").optional(),
    ];
    StageKind {
        name: "evaluate",
        about: "threshold chosen on validation; metrics with intervals, plots and alerts on test",
        version: 1,
        code: crate::code("evaluate"),
        inputs: INPUTS,
        outputs: OUTPUTS,
        schema: schema_of::<EvaluateParams>,
        make: make::<EvaluateParams, Evaluate>,
    }
}

/// Parameters of `evaluate`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluateParams {
    /// How the threshold is chosen.
    pub threshold: ThresholdParams,
    /// Bootstrap resamples for the 95 % intervals.
    pub resamples: u32,
    /// Seed of the bootstrap.
    pub seed: u64,
    /// Nominal false-positive rates (shares) to check against the realised ones.
    pub nominal_fpr: Vec<f64>,
    /// Name of the data for reports; by default it says only whether the log is real or simulated.
    pub dataset: Option<String>,
}

impl Default for EvaluateParams {
    fn default() -> Self {
        Self {
            threshold: ThresholdParams::default(),
            resamples: 1000,
            seed: 42,
            nominal_fpr: vec![0.001, 0.01, 0.05],
            dataset: None,
        }
    }
}

/// How the threshold is chosen, on the validation fold, for the fusion and for each model on its own.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ThresholdParams {
    /// `f_beta`, `fpr_at_tpr` or `alert_budget`. Without labels `alert_budget` is used.
    pub objective: Objective,
    /// Weight of recall against precision in F-beta; above 1 favours recall.
    pub beta: f64,
    /// Recall (share) to reach with `fpr_at_tpr`.
    pub tpr: f64,
    /// Alerts a day that people can look at, with `alert_budget`; unset: `alert_share` of the sessions.
    pub alerts_per_day: Option<f64>,
    /// Share of sessions that may be alerts, with `alert_budget`, where `alerts_per_day` is unset.
    pub alert_share: f64,
}

impl Default for ThresholdParams {
    fn default() -> Self {
        Self { objective: Objective::FBeta, beta: 1.5, tpr: 0.95, alerts_per_day: None, alert_share: 0.01 }
    }
}

impl Params for EvaluateParams {
    fn check(&self) -> Vec<ParamError> {
        let mut errors = Vec::new();
        let mut need = |ok: bool, path: &str, message: &str| {
            if !ok {
                errors.push(ParamError::new(path, message));
            }
        };
        let t = &self.threshold;
        let share = |x: f64| x > 0.0 && x <= 1.0;
        need(t.beta > 0.0 && t.beta.is_finite(), "threshold.beta", "must be above 0");
        need(share(t.tpr), "threshold.tpr", "must be above 0 and at most 1");
        need(share(t.alert_share), "threshold.alert_share", "must be above 0 and at most 1");
        let budget = t.alerts_per_day.is_none_or(|a| a > 0.0 && a.is_finite());
        need(budget, "threshold.alerts_per_day", "must be above 0");
        for (i, &rate) in self.nominal_fpr.iter().enumerate() {
            need(share(rate), &format!("nominal_fpr.{i}"), "must be above 0 and at most 1");
        }
        need(self.resamples <= 100_000, "resamples", "must be at most 100000");
        errors
    }
}

/// The stage.
pub struct Evaluate(EvaluateParams);

impl From<EvaluateParams> for Evaluate {
    fn from(params: EvaluateParams) -> Self {
        Self(params)
    }
}

impl Stage for Evaluate {
    fn run(&self, cx: &StageContext<'_>) -> anyhow::Result<()> {
        let scores = ScoreTable::read(cx.input("scores")?)?;
        let stored = scores.fusion().unwrap_or_default().to_vec();
        ensure!(!scores.is_empty(), "there are no sessions to evaluate");
        let summary = read_summary(cx.input("summary")?)?;
        let sequences = match cx.optional("sessions") {
            Some(path) => Some(cx.in_pool(|| Sequences::read(path, &scores))??),
            None => None,
        };
        let types = cx.optional("types").map(read_types).transpose()?;
        cx.check_cancelled()?;

        let judged = scores.unseen();
        let decided = Decided::on_validation(&judged, &self.0.threshold)?;
        if let Some(why) = &decided.why {
            cx.warn(why.clone());
        }
        let p_values = PValues::of(&judged);
        let evaluation =
            Evaluation { params: &self.0, scores: &judged, decided: &decided, p_values: p_values.as_ref() };
        let (metrics, test) = cx.in_pool(|| {
            evaluation.metrics(&summary, sequences.as_ref(), types.as_ref(), Provenance::of(cx, "evaluate"))
        })?;
        cx.check_cancelled()?;

        let file = File::create(cx.output("metrics")?).context("cannot create metrics.json")?;
        let mut file = BufWriter::new(file);
        serde_json::to_writer_pretty(&mut file, &metrics)?;
        writeln!(file)?;
        file.flush()?;
        ensemble::write(cx.output("ensemble")?, &judged, &stored, decided.fusion().value)?;
        if let Some(path) = cx.optional_output("pvalues") {
            if p_values.is_none() {
                cx.warn("there are no p-values: no validation session may be benign");
            }
            pvalues::write(path, &judged, p_values.as_ref())?;
        }
        evaluation.draw(cx, &metrics, &test)
    }
}

/// What `sessions.json` says about the input.
#[derive(Debug, Deserialize)]
struct Summary {
    simulated: bool,
    lines: Option<u64>,
    rejected: Option<u64>,
}

fn read_summary(path: &Path) -> anyhow::Result<Summary> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    serde_json::from_reader(BufReader::new(file)).with_context(|| format!("{} is no session summary", path.display()))
}

/// The thresholds and how they came about.
struct Decided {
    /// One per model, in the order of the table; `None` for a model without scores.
    cuts: Vec<Option<Threshold>>,
    objective: Objective,
    why: Option<String>,
    alerts_allowed: Option<f64>,
}

impl Decided {
    fn on_validation(scores: &ScoreTable, params: &ThresholdParams) -> anyhow::Result<Self> {
        let rows = scores.rows_of(Fold::Validation);
        ensure!(
            !rows.is_empty(),
            "the validation fold has no sessions to choose a threshold on: give it a larger share in the split stage"
        );
        let labelled: Vec<usize> = rows.iter().copied().filter(|&row| scores.label[row].is_some()).collect();
        let anomalies = labelled.iter().filter(|&&row| scores.label[row] == Some(true)).count();
        let why = if params.objective == Objective::AlertBudget {
            None
        } else if labelled.is_empty() {
            Some("no validation session has a label: the threshold follows the alert budget instead".to_owned())
        } else if anomalies == 0 || anomalies == labelled.len() {
            let class = if anomalies == 0 { "normal" } else { "anomalous" };
            Some(format!(
                "all labelled validation sessions are {class}: the threshold follows the alert budget instead"
            ))
        } else {
            None
        };
        let objective = if why.is_some() { Objective::AlertBudget } else { params.objective };
        let alerts_allowed = match (objective, params.alerts_per_day) {
            (Objective::AlertBudget, Some(per_day)) => {
                let days = days(scores, &rows).context(
                    "an alert budget a day needs validation sessions at different times: set threshold.alert_share instead",
                )?;
                Some(per_day * days)
            }
            (Objective::AlertBudget, None) => Some(params.alert_share * total(scores, &rows)),
            _ => None,
        };
        let cut = |values: &[f64]| {
            let over = |rows: &[usize]| {
                let (values, labels) = pick(scores, values, rows);
                steps(&values, &labels, &weights(scores, rows))
            };
            match (objective, alerts_allowed) {
                (Objective::FBeta, _) => threshold::by_f_beta(&over(&labelled), params.beta),
                (Objective::FprAtTpr, _) => threshold::by_fpr_at_tpr(&over(&labelled), params.tpr),
                (Objective::AlertBudget, allowed) => {
                    Some(threshold::by_alerts(&over(&rows), allowed.unwrap_or_default()))
                }
            }
        };
        let cuts = scores.models.iter().map(|model| model.scores.as_deref().and_then(cut)).collect();
        Ok(Self { cuts, objective, why, alerts_allowed })
    }

    /// The threshold of the fusion, the last model of the table.
    fn fusion(&self) -> Threshold {
        self.cuts.last().copied().flatten().expect("the table has fused scores, and both classes were checked")
    }
}

/// Scores and labels of some rows (an unknown label counts as normal).
fn pick(scores: &ScoreTable, values: &[f64], rows: &[usize]) -> (Vec<f64>, Vec<bool>) {
    (rows.iter().map(|&row| values[row]).collect(), rows.iter().map(|&row| scores.label[row] == Some(true)).collect())
}

/// How many sessions each of some rows stands for; empty: one each.
fn weights(scores: &ScoreTable, rows: &[usize]) -> Vec<f64> {
    if scores.weight.is_empty() { Vec::new() } else { rows.iter().map(|&row| scores.weight[row]).collect() }
}

/// How many sessions some rows stand for.
fn total(scores: &ScoreTable, rows: &[usize]) -> f64 {
    if scores.weight.is_empty() { rows.len() as f64 } else { weights(scores, rows).iter().sum() }
}

/// Days between the first and the last start among some rows; `None` when there is no span.
fn days(scores: &ScoreTable, rows: &[usize]) -> Option<f64> {
    let times = || rows.iter().filter_map(|&row| scores.start[row]);
    let span = times().max()? - times().min()?;
    (span > 0).then(|| span as f64 / 86_400e6)
}

/// How many sessions are flagged among some labelled rows, by what they stand for.
fn confusion(scores: &ScoreTable, values: &[f64], rows: &[usize], cut: f64) -> Confusion {
    let (values, labels) = pick(scores, values, rows);
    Confusion::weighted(&values, &labels, &weights(scores, rows), cut)
}

struct Evaluation<'a> {
    params: &'a EvaluateParams,
    scores: &'a ScoreTable,
    decided: &'a Decided,
    p_values: Option<&'a PValues>,
}

impl Evaluation<'_> {
    /// All metrics, and the labelled rows of the test fold that they speak of.
    fn metrics(
        &self,
        summary: &Summary,
        sequences: Option<&Sequences>,
        types: Option<&BTreeMap<String, String>>,
        provenance: Provenance,
    ) -> (Metrics, Vec<usize>) {
        let scores = self.scores;
        let all: Vec<usize> = (0..scores.len()).collect();
        let labelled = |fold: Fold| -> Vec<usize> {
            scores.rows_of(fold).into_iter().filter(|&row| scores.label[row].is_some()).collect()
        };
        let (validation, test) = (labelled(Fold::Validation), labelled(Fold::Test));
        let on_test = self.resampled(&test, self.params.resamples);
        let on_validation = self.resampled(&validation, 0);
        let mut models = self.models(&on_test, &on_validation, &validation, &test, types).into_iter();
        let mut next = || models.next().expect("the table has four models");
        let (lgbm, ae, profile, fusion) = (next(), next(), next(), next());

        let cut = self.decided.fusion();
        let fused = scores.fusion().unwrap_or_default();
        let has_both = |rows: &[usize]| {
            let anomalies = rows.iter().filter(|&&row| scores.label[row] == Some(true)).count();
            anomalies > 0 && anomalies < rows.len()
        };
        let confusion = (!test.is_empty()).then(|| {
            let (values, labels) = pick(scores, fused, &test);
            let c = Confusion::at(&values, &labels, cut.value);
            document::Confusion { tp: c.tp as u64, fp: c.fp as u64, fn_: c.fn_ as u64, tn: c.tn as u64 }
        });
        let all_counts = self.counts(&all);
        let source = if summary.simulated { Source::Simulated } else { Source::Real };
        let t = &self.params.threshold;
        let metrics = Metrics {
            dataset: Dataset {
                name: self.params.dataset.clone().unwrap_or_else(|| format!("{} log", source.name())),
                source,
                lines: summary.lines,
                rejected: summary.rejected,
                sessions: all_counts.sessions,
                censored: all_counts.censored,
                anomalies: all_counts.anomalies,
                unlabelled: all_counts.unlabelled,
                first: all_counts.first,
                last: all_counts.last,
                population: (!scores.weight.is_empty()).then(|| total(scores, &all)),
            },
            split: self.split(),
            fusion_gain: has_both(&test).then(|| gain(scores, &on_test)).flatten(),
            lgbm,
            ae,
            profile,
            fusion,
            threshold: ThresholdChoice {
                objective: self.decided.objective,
                value: cut.value,
                below: cut.low,
                above: cut.high,
                requested: t.objective,
                why: self.decided.why.clone(),
                beta: t.beta,
                tpr: t.tpr,
                alerts_allowed: self.decided.alerts_allowed,
                chosen_on: "validation".to_owned(),
                ties: "the middle of the widest gap between scores".to_owned(),
            },
            false_positive_rate: self.calibration(fused, &validation, &test, cut.value),
            conformal: self.p_values.map(|p| p.document(scores, &self.params.nominal_fpr)),
            confusion,
            alerts: self.alerts(fused, cut.value, &test),
            unseen_sequences: sequences.map(|s| self.subset(&s.unseen(scores, &test))),
            deduplicated: sequences.map(|s| self.subset(&s.distinct(scores, &test))),
            censored: self.subset(&test.iter().copied().filter(|&row| scores.censored[row]).collect::<Vec<_>>()),
            by_anomaly_type: self.by_type(&test, types),
            method: Method {
                resamples: self.params.resamples,
                seed: self.params.seed,
                ranking: "raw scores; equal scores are one step".to_owned(),
            },
            key: provenance.key.clone(),
            provenance,
        };
        (metrics, test)
    }

    /// The models that have scores and a threshold: index in the table, scores, threshold.
    fn usable(&self) -> impl Iterator<Item = (usize, &[f64], Threshold)> {
        let models = self.scores.models.iter().zip(&self.decided.cuts).enumerate();
        models.filter_map(|(m, (model, cut))| Some((m, model.scores.as_deref()?, (*cut)?)))
    }

    /// Metrics and resamples of all models on some labelled rows; models without scores have empty samples.
    fn resampled(&self, rows: &[usize], resamples: u32) -> Resampled {
        let labels: Vec<bool> = rows.iter().map(|&row| self.scores.label[row] == Some(true)).collect();
        let usable: Vec<(usize, Vec<f64>, f64)> =
            self.usable().map(|(m, values, cut)| (m, pick(self.scores, values, rows).0, cut.value)).collect();
        let members: Vec<Member<'_>> =
            usable.iter().map(|(_, scores, threshold)| Member { scores, threshold: *threshold }).collect();
        let some = resample(
            &members,
            &labels,
            &weights(self.scores, rows),
            self.params.threshold.beta,
            resamples,
            self.params.seed,
        );
        let spread = |samples: &[Sample]| {
            let mut all = vec![Sample::default(); self.scores.models.len()];
            usable.iter().zip(samples).for_each(|((m, ..), sample)| all[*m] = *sample);
            all
        };
        Resampled { whole: spread(&some.whole), samples: some.samples.iter().map(|s| spread(s)).collect() }
    }

    fn models(
        &self,
        on_test: &Resampled,
        on_validation: &Resampled,
        validation: &[usize],
        test: &[usize],
        types: Option<&BTreeMap<String, String>>,
    ) -> Vec<ModelMetrics> {
        let one = |m: usize| {
            let rates = Rates::from(on_test.whole[m]);
            let between = |of: fn(&Sample) -> Option<f64>| {
                interval(on_test.samples.iter().filter_map(|sample| of(&sample[m])).collect())
            };
            let values = self.scores.models[m].scores.as_deref();
            ModelMetrics {
                trained: values.is_some(),
                roc_auc: rates.roc_auc,
                average_precision: rates.average_precision,
                f1: rates.f1,
                f_beta: rates.f_beta,
                precision: rates.precision,
                recall: rates.recall,
                fpr: rates.fpr,
                ci95: Intervals {
                    roc_auc: between(|s| s.roc_auc),
                    average_precision: between(|s| s.average_precision),
                    f1: between(|s| s.f1),
                    f_beta: between(|s| s.f_beta),
                    precision: between(|s| s.precision),
                    recall: between(|s| s.recall),
                    fpr: between(|s| s.fpr),
                },
                threshold: self.decided.cuts[m].map(|cut| Cut { value: cut.value, below: cut.low, above: cut.high }),
                validation: Rates::from(on_validation.whole[m]),
                fpr_calibration: values.map_or_else(Vec::new, |values| self.nominal(values, validation, test, types)),
            }
        };
        (0..self.scores.models.len()).map(one).collect()
    }

    /// Realised false-positive rates for the nominal ones of the parameters.
    fn nominal(
        &self,
        values: &[f64],
        validation: &[usize],
        test: &[usize],
        types: Option<&BTreeMap<String, String>>,
    ) -> Vec<Calibration> {
        let benign: Vec<usize> =
            validation.iter().copied().filter(|&row| self.scores.label[row] == Some(false)).collect();
        let (scores, labels) = pick(self.scores, values, &benign);
        let points: Vec<Step> = steps(&scores, &labels, &weights(self.scores, &benign));
        let by_type = self.rows_by_type(test, types);
        let at = |&rate: &f64| {
            let cut = threshold::by_fpr(&points, rate)?;
            let realised = self.fpr(values, test, cut.value);
            let ratio = realised.map(|r| r / rate);
            let recall = |rows: &[usize]| {
                let c = confusion(self.scores, values, rows, cut.value);
                (c.tp + c.fn_ > 0.0).then(|| c.recall())
            };
            let of_types = by_type.iter().filter_map(|(name, rows)| Some(((*name).to_owned(), recall(rows)?)));
            Some(Calibration {
                intended: rate,
                threshold: cut.value,
                realised,
                ratio,
                recall: recall(test),
                recall_by_type: of_types.collect(),
            })
        };
        self.params.nominal_fpr.iter().filter_map(at).collect()
    }

    fn fpr(&self, values: &[f64], rows: &[usize], cut: f64) -> Option<f64> {
        let c = confusion(self.scores, values, rows, cut);
        (c.fp + c.tn > 0.0).then(|| c.fpr())
    }

    fn calibration(&self, values: &[f64], validation: &[usize], test: &[usize], cut: f64) -> Option<Calibration> {
        let intended = self.fpr(values, validation, cut)?;
        let realised = self.fpr(values, test, cut);
        let ratio = realised.filter(|_| intended > 0.0).map(|r| r / intended);
        let c = confusion(self.scores, values, test, cut);
        let recall = (c.tp + c.fn_ > 0.0).then(|| c.recall());
        Some(Calibration { intended, threshold: cut, realised, ratio, recall, recall_by_type: BTreeMap::new() })
    }

    fn alerts(&self, fused: &[f64], cut: f64, labelled_test: &[usize]) -> Alerts {
        let test = self.scores.rows_of(Fold::Test);
        let flagged = |rows: &[usize]| rows.iter().filter(|&&row| fused[row] >= cut).count() as u64;
        let test_days = days(self.scores, &test);
        let (values, labels) = pick(self.scores, fused, labelled_test);
        let false_alerts = Confusion::at(&values, &labels, cut).fp;
        Alerts {
            all: fused.iter().filter(|&&score| score >= cut).count() as u64,
            test: flagged(&test),
            test_days,
            alerts_per_day: test_days.map(|d| flagged(&test) as f64 / d),
            false_alerts_per_day: test_days.filter(|_| !labelled_test.is_empty()).map(|d| false_alerts / d),
        }
    }

    /// The fused score, and each model, on some labelled rows.
    fn subset(&self, rows: &[usize]) -> Subset {
        let samples = self.resampled(rows, 0).whole;
        let Some((fusion, members)) = samples.split_last() else { return Subset::default() };
        let cut = self.decided.fusion().value;
        let fused = self.scores.fusion().unwrap_or_default();
        Subset {
            count: rows.len() as u64,
            anomalies: rows.iter().filter(|&&row| self.scores.label[row] == Some(true)).count() as u64,
            alerts: rows.iter().filter(|&&row| fused[row] >= cut).count() as u64,
            recall: fusion.recall,
            fpr: fusion.fpr,
            average_precision: fusion.average_precision,
            roc_auc: fusion.roc_auc,
            f1: fusion.f1,
            models: (self.scores.models.iter().zip(members))
                .filter(|(model, _)| model.scores.is_some())
                .map(|(model, sample)| (model.name.to_owned(), Rates::from(*sample)))
                .collect(),
        }
    }

    /// Anomalous rows by their type.
    fn rows_by_type<'t>(
        &self,
        test: &[usize],
        types: Option<&'t BTreeMap<String, String>>,
    ) -> BTreeMap<&'t str, Vec<usize>> {
        let mut rows: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for &row in test.iter().filter(|&&row| self.scores.label[row] == Some(true)) {
            let name = types.and_then(|t| t.get(&self.scores.ids[row])).map_or("untyped", String::as_str);
            rows.entry(name).or_default().push(row);
        }
        rows
    }

    fn by_type(&self, test: &[usize], types: Option<&BTreeMap<String, String>>) -> BTreeMap<String, TypeRecall> {
        let rows = self.rows_by_type(test, types);
        let recall_of = |(name, rows): (&str, Vec<usize>)| {
            let hits = |values: &[f64], cut: f64| rows.iter().filter(|&&row| values[row] >= cut).count() as u64;
            let n = rows.len() as u64;
            let flagged = hits(self.scores.fusion().unwrap_or_default(), self.decided.fusion().value);
            let models = (self.usable())
                .map(|(m, values, cut)| {
                    (self.scores.models[m].name.to_owned(), hits(values, cut.value) as f64 / n as f64)
                })
                .filter(|(name, _)| name != "fusion")
                .collect();
            let recall = flagged as f64 / n as f64;
            (name.to_owned(), TypeRecall { count: n, flagged, recall, ci95: wilson(flagged, n), models })
        };
        rows.into_iter().map(recall_of).collect()
    }

    fn counts(&self, rows: &[usize]) -> FoldCounts {
        let count = |is: &dyn Fn(usize) -> bool| rows.iter().filter(|&&row| is(row)).count() as u64;
        let times = || rows.iter().filter_map(|&row| self.scores.start[row]);
        FoldCounts {
            sessions: rows.len() as u64,
            anomalies: count(&|row| self.scores.label[row] == Some(true)),
            normal: count(&|row| self.scores.label[row] == Some(false)),
            unlabelled: count(&|row| self.scores.label[row].is_none()),
            censored: count(&|row| self.scores.censored[row]),
            first: times().min().map(rfc3339),
            last: times().max().map(rfc3339),
        }
    }

    fn split(&self) -> Split {
        let rows = [Fold::Train, Fold::Validation, Fold::Test, Fold::Unused].map(|fold| self.scores.rows_of(fold));
        let range = |rows: &[usize]| {
            let times = || rows.iter().filter_map(|&row| self.scores.start[row]);
            times().min().zip(times().max())
        };
        let ranges: Vec<(i64, i64)> = rows[..3].iter().filter_map(|rows| range(rows)).collect();
        let in_order = ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0);
        let method = match (in_order && !ranges.is_empty(), rows[3].is_empty()) {
            (true, true) => "chronological",
            (true, false) => "rolling origin",
            (false, _) => "random",
        };
        let [train, validation, test, unused] = rows;
        Split {
            method: method.to_owned(),
            train: self.counts(&train),
            validation: self.counts(&validation),
            test: self.counts(&test),
            unused: unused.len() as u64,
        }
    }
}

/// Fusion against its best member by average precision on test, paired by session.
fn gain(scores: &ScoreTable, on_test: &Resampled) -> Option<Gain> {
    let (fusion, members) = on_test.whole.split_last()?;
    let (best, precision) = members
        .iter()
        .enumerate()
        .filter_map(|(m, sample)| Some((m, sample.average_precision?)))
        .max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))?;
    let difference = |s: &Vec<Sample>| Some(s.last()?.average_precision? - s[best].average_precision?);
    Some(Gain {
        best_member: scores.models[best].name.to_owned(),
        average_precision: fusion.average_precision? - precision,
        ci95: interval(on_test.samples.iter().filter_map(difference).collect()),
    })
}

#[cfg(test)]
mod tests;
