//! The `fusion` kind: one score per session from the supervised model, the autoencoder and the benign profile.
//!
//! Inputs are bounded (an unbounded one can drag the fusion below its best member): the squashed margin, and error and
//! distance on a logarithmic scale up to where they are clearly unusual. Weights are fitted by logistic regression on train sessions with
//! out-of-fold scores, and anomalies once more with scores of models that never saw their type, so that the fusion does
//! not learn to trust the supervised model alone. What it calls anomalous is then ordered by the supervised margin as well
//! (`surplus`): bounded inputs cannot tell sure sessions apart. The autoencoder, which says much of what the profile says and is
//! misled by more healthy sessions, enters only where validation ranks clearly better with it (`ae_gain`): so where sessions are
//! judged before they are over and their counts still look healthy. With too few labelled anomalies the score is the mean of the inputs
//! instead, error and distance then being squashed conformal surprises against benign validation. The raw scores enter, not calibrated ones: the order of sessions survives.

mod regression;

use std::path::Path;

use anyhow::{Context as _, ensure};
use logweir_engine::stage::{ParamError, Params, Slot, Stage, StageContext, StageKind, make, schema_of};
use polars::prelude::{Column, DataFrame, DataType, TimeUnit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::support::conformal::Conformal;
use crate::support::learning::{ScoreTable, read_json, write_json};
use crate::support::metrics::{average_precision_of, steps};
use crate::support::table::write_parquet;
use crate::support::traces::{Fold, Split, Traces, read_labels, read_split, read_types};

/// The `fusion` kind.
pub fn kind() -> StageKind {
    StageKind {
        name: "fusion",
        about: "one score per session: logistic regression over bounded model scores, or their mean without labels",
        version: 2,
        code: crate::code("fusion"),
        inputs: const {
            &[
                Slot::file("sessions", "sessions.parquet"),
                Slot::file("labels", "sessions.csv"),
                Slot::file("split", "split.parquet"),
                Slot::file("types", "types.csv: named on the card").optional(),
                Slot::directory("lgbm", "model directory of `lightgbm`").optional(),
                Slot::directory("ae", "model directory of `autoencoder`").optional(),
                Slot::directory("profile", "model directory of `profile`").optional(),
            ]
        },
        outputs: const {
            &[
                Slot::directory("model", "fusion.json, card.json"),
                Slot::file("scores", "scores.parquet: every score of every session"),
            ]
        },
        schema: schema_of::<FusionParams>,
        make: make::<FusionParams, Fusion>,
    }
}

/// Parameters of `fusion`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FusionParams {
    /// Fewest labelled train anomalies for fitted weights; with fewer the score is the mean of conformal inputs.
    pub min_anomalies: u32,
    /// L2 regularisation of the weights.
    pub alpha: f64,
    /// Margin of the supervised model, in log-odds, at which its input is 0.73 (0.5 at margin 0); larger is flatter.
    pub margin_scale: f64,
    /// Error of the autoencoder that is clearly unusual. Its inputs are standardised: at 1 it does no better than the
    /// benign mean. Raised to the 99 % quantile of benign validation where that is higher.
    pub ae_scale: f64,
    /// Distance to the benign profile that is clearly unusual. At 1 about one event of a common template is missing or
    /// added. Raised to the 99 % quantile of benign validation where that is higher.
    pub profile_scale: f64,
    /// At this multiple of its scale a model is as sure as it can be; beyond, only ties are broken.
    pub cap: f64,
    /// Without fitted weights: surprise (`-ln p` against benign validation) at which an input is 0.5.
    pub surprise_scale: f64,
    /// Fit on scores of models that never saw an anomaly's type, too.
    pub leave_type_out: bool,
    /// Where fitted weights call a session anomalous, its log-odds grow by this many times the positive part of the margin
    /// of the supervised model: bounded inputs cannot tell sure sessions apart, the margin can. 0 for none.
    pub surplus: f64,
    /// Fitted weights use the autoencoder only if it raises the average precision on validation by more than this; below 0:
    /// always. Where validation lacks a class, it is used.
    pub ae_gain: f64,
}

impl Default for FusionParams {
    fn default() -> Self {
        Self {
            min_anomalies: 10,
            alpha: 1.0,
            margin_scale: 2.0,
            ae_scale: 1.0,
            profile_scale: 1.0,
            cap: 3.0,
            surprise_scale: 5.0,
            leave_type_out: true,
            surplus: 2.0,
            ae_gain: 0.005,
        }
    }
}

impl Params for FusionParams {
    fn check(&self) -> Vec<ParamError> {
        let mut errors = Vec::new();
        for (path, value) in [
            ("margin_scale", self.margin_scale),
            ("surprise_scale", self.surprise_scale),
            ("ae_scale", self.ae_scale),
            ("profile_scale", self.profile_scale),
            ("cap", self.cap),
        ] {
            if !(value > 0.0 && value.is_finite()) {
                errors.push(ParamError::new(path, "must be above 0"));
            }
        }
        for (path, value) in [("alpha", self.alpha), ("surplus", self.surplus)] {
            if !(value >= 0.0 && value.is_finite()) {
                errors.push(ParamError::new(path, "must be at least 0"));
            }
        }
        if !(-1.0..=1.0).contains(&self.ae_gain) {
            errors.push(ParamError::new("ae_gain", "must be in [-1, 1]"));
        }
        errors
    }
}

/// Most normal train sessions that weights are fitted on.
const MOST_NORMALS: usize = 40_000;

/// The stage.
pub struct Fusion(FusionParams);

impl From<FusionParams> for Fusion {
    fn from(params: FusionParams) -> Self {
        Self(params)
    }
}

/// How a model's raw score becomes a bounded input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Squash {
    /// `1 / (1 + exp(-margin / scale))`.
    Margin {
        /// Log-odds.
        scale: f64,
    },
    /// `s / (s + scale)` of the surprise `s = -ln p` against a benign reference.
    Surprise {
        /// Surprise at 0.5.
        scale: f64,
        /// Benign validation scores.
        reference: Conformal,
    },
    /// `r = ln(1 + score / scale) / ln(1 + cap)`; beyond 1 it goes on to 1.001 without reaching it.
    Ratio {
        /// A clearly unusual score.
        scale: f64,
        /// Multiple of `scale` from which on only ties are broken.
        cap: f64,
    },
}

impl Squash {
    /// Returns the bounded input, in [0, 1.001), strictly growing with the score up to the precision of f64.
    pub fn at(&self, score: f64) -> f64 {
        match self {
            Self::Margin { scale } => 1.0 / (1.0 + (-score / scale).exp()),
            Self::Surprise { scale, reference } => {
                let s = reference.surprise(score).max(0.0);
                s / (s + scale)
            }
            Self::Ratio { scale, cap } => {
                let r = (score.max(0.0) / scale).ln_1p() / cap.ln_1p();
                if r <= 1.0 { r } else { 1.0 + 1e-3 * (1.0 - 1.0 / r) }
            }
        }
    }
}

/// One input of the fusion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// `lgbm`, `ae` or `profile`.
    pub name: String,
    /// How its raw score is bounded.
    pub squash: Squash,
    /// Weight; never negative.
    pub weight: f64,
}

impl Input {
    /// The positive part of a margin, smooth, so that the score never falls where a margin grows; `None` for other inputs.
    fn positive(&self, margin: f64) -> Option<f64> {
        matches!(self.squash, Squash::Margin { .. }).then(|| margin.max(0.0) + (-margin.abs()).exp().ln_1p())
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Which rule made the score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Logistic regression.
    Logistic,
    /// Mean of the bounded inputs: too few labelled anomalies.
    Mean,
}

/// The fusion as stored and applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// The rule.
    pub rule: Rule,
    /// Why this rule.
    pub why: String,
    /// Inputs in order.
    pub inputs: Vec<Input>,
    /// Intercept of the logistic regression.
    pub intercept: f64,
    /// What the positive part of the supervised margin adds where the regression is sure; see [`FusionParams`].
    #[serde(default)]
    pub surplus: f64,
}

impl Model {
    /// Loads `fusion.json` of a model directory.
    ///
    /// # Errors
    /// The file is missing or malformed.
    pub fn load(directory: &Path) -> anyhow::Result<Self> {
        read_json(&directory.join("fusion.json"))
    }

    /// Returns the score in [0, 1] from the raw scores, in the order of the inputs.
    ///
    /// # Panics
    /// Another number of scores than inputs.
    pub fn score(&self, raw: &[f64]) -> f64 {
        let sum: f64 = self.weighted(raw).sum();
        match self.rule {
            Rule::Logistic => {
                let odds = sum + self.intercept;
                let positive: f64 = self.inputs.iter().zip(raw).filter_map(|(input, &r)| input.positive(r)).sum();
                sigmoid(odds + self.surplus * sigmoid(odds) * positive)
            }
            Rule::Mean => sum,
        }
    }

    /// What each input adds before any surplus.
    fn weighted(&self, raw: &[f64]) -> impl Iterator<Item = f64> {
        assert_eq!(raw.len(), self.inputs.len(), "one raw score for each input");
        self.inputs.iter().zip(raw).map(|(input, &r)| input.weight * input.squash.at(r))
    }

    /// Returns what each input adds to the log-odds of the score above the intercept (`mean`: to the score itself), in the
    /// order of the inputs; none is negative. What the supervised margin adds where the regression is sure counts as that
    /// model's.
    ///
    /// # Panics
    /// Another number of scores than inputs.
    pub fn parts(&self, raw: &[f64]) -> Vec<f64> {
        let mut parts: Vec<f64> = self.weighted(raw).collect();
        if self.rule == Rule::Logistic {
            let sure = sigmoid(parts.iter().sum::<f64>() + self.intercept);
            for (part, (input, &margin)) in parts.iter_mut().zip(self.inputs.iter().zip(raw)) {
                *part += self.surplus * sure * input.positive(margin).unwrap_or(0.0);
            }
        }
        parts
    }

    /// Says what speaks for an anomaly where the profile has nothing to say.
    pub fn reason(&self, raw: &[f64], reason: &str) -> String {
        if !reason.is_empty() {
            return reason.to_owned();
        }
        let strongest = self
            .inputs
            .iter()
            .zip(raw)
            .map(|(input, &r)| (input, input.squash.at(r), r))
            .filter(|(input, x, _)| input.weight > 0.0 && *x > 0.5)
            .max_by(|a, b| (a.0.weight * a.1).total_cmp(&(b.0.weight * b.1)));
        match strongest {
            Some((input, _, r)) if input.name == "lgbm" => {
                format!(
                    "counts are those of a benign session; order and positions resemble known anomalies (margin {r:.2})"
                )
            }
            Some((input, x, r)) => format!("unusual combination of event counts ({} {r:.4}, rank {x:.3})", input.name),
            None => String::new(),
        }
    }
}

/// Raw scores of one model, by session.
struct Member {
    name: &'static str,
    /// For fitted weights.
    squash: Squash,
    /// For the mean of inputs.
    conformal: Squash,
    raw: Vec<f64>,
    /// Scores that did not see the session's block.
    oof: Vec<f64>,
    /// Scores that did not see the session's anomaly type.
    lto: Vec<f64>,
}

/// A model's raw scores and its other columns; `None` where there is no model.
type Read<T> = anyhow::Result<Option<(Member, T)>>;

/// Columns of `scores.parquet`, all optional numbers, by session.
pub struct Columns {
    /// Raw margin, calibrated probability.
    pub lgbm: Option<(Vec<f64>, Vec<f64>)>,
    /// Error, z-score, rank.
    pub ae: Option<(Vec<f64>, Vec<f64>, Vec<f64>)>,
    /// Distance, rank.
    pub profile: Option<(Vec<f64>, Vec<f64>)>,
    /// Fused score.
    pub fusion: Vec<f64>,
    /// The fused score, and each model's raw one, from models that had not seen the session (train: its block;
    /// validation: all of it); only the pipeline has them.
    pub unseen: Option<Vec<(String, Vec<f64>)>>,
    /// Reason.
    pub reason: Vec<String>,
}

impl Columns {
    /// The score columns as a frame, in the order of `scores.parquet`.
    ///
    /// # Panics
    /// Columns differ in length.
    pub fn into_columns(self) -> Vec<Column> {
        let n = self.fusion.len();
        let column = |name: &str, values: Option<Vec<f64>>| match values {
            Some(values) => Column::new(name.into(), values),
            None => Column::new(name.into(), vec![None::<f64>; n]),
        };
        let (lgbm, p) = self.lgbm.unzip();
        let (ae, z, rank) = match self.ae {
            Some((ae, z, rank)) => (Some(ae), Some(z), Some(rank)),
            None => (None, None, None),
        };
        let (profile, profile_rank) = self.profile.unzip();
        let mut columns = vec![
            column("lgbm", lgbm),
            column("p_lgbm", p),
            column("ae", ae),
            column("z_ae", z),
            column("ae_bounded", rank),
            column("profile", profile),
            column("profile_bounded", profile_rank),
            Column::new("fusion".into(), self.fusion),
            Column::new("reason".into(), self.reason),
        ];
        for (name, values) in self.unseen.into_iter().flatten() {
            columns.push(Column::new(name.into(), values));
        }
        columns
    }
}

/// Times in microseconds as a datetime column.
///
/// # Errors
/// Never for valid times; the cast is checked by the library.
pub fn time_column(name: &str, micros: &[i64]) -> anyhow::Result<Column> {
    Ok(Column::new(name.into(), micros).cast(&DataType::Datetime(TimeUnit::Microseconds, None))?)
}

impl Stage for Fusion {
    fn run(&self, cx: &StageContext<'_>) -> anyhow::Result<()> {
        let traces = cx.in_pool(|| Traces::read_some(cx.input("sessions")?, None))??;
        let labels = read_labels(cx.input("labels")?, &traces.ids)?;
        let split = read_split(cx.input("split")?, &traces.ids)?;
        let types = cx.optional("types").map(read_types).transpose()?.unwrap_or_default();
        let mut columns = Columns {
            lgbm: None,
            ae: None,
            profile: None,
            fusion: Vec::with_capacity(traces.len()),
            unseen: None,
            reason: vec![String::new(); traces.len()],
        };
        let mut members = Vec::new();
        if let Some((member, p)) = self.lgbm(cx.optional("lgbm"), &traces)? {
            columns.lgbm = Some((member.raw.clone(), p));
            members.push(member);
        }
        if let Some((member, (z, rank))) = self.ae(cx.optional("ae"), &traces)? {
            columns.ae = Some((member.raw.clone(), z, rank));
            members.push(member);
        }
        if let Some((member, (rank, reason))) = self.profile(cx.optional("profile"), &traces)? {
            columns.profile = Some((member.raw.clone(), rank));
            columns.reason = reason;
            members.push(member);
        }
        ensure!(
            !members.is_empty(),
            "no model was trained, so there is nothing to fuse: check the cards in the model directories"
        );
        let (model, training) = self.fit(&members, &labels, &split, &traces.weights)?;
        if model.rule == Rule::Mean {
            cx.info(format!("fusion is the mean of its inputs: {}", model.why));
        }
        for s in 0..traces.len() {
            let raw: Vec<f64> = members.iter().map(|m| m.raw[s]).collect();
            let score = model.score(&raw);
            ensure!(score.is_finite(), "the fused score of session `{}` is {score}", traces.ids[s]);
            columns.fusion.push(score);
            columns.reason[s] = model.reason(&raw, &columns.reason[s]);
        }
        let unseen = |s: usize| model.score(&members.iter().map(|m| m.oof[s]).collect::<Vec<_>>());
        let mut oof = vec![("fusion_oof".to_owned(), (0..traces.len()).map(unseen).collect())];
        oof.extend(members.iter().map(|m| (format!("{}_oof", m.name), m.oof.clone())));
        columns.unseen = Some(oof);
        let out = cx.output("model")?;
        write_json(&out.join("fusion.json"), &model)?;
        let mut kinds: Vec<&String> = types.values().collect();
        kinds.sort_unstable();
        kinds.dedup();
        let weights: serde_json::Map<String, Value> =
            model.inputs.iter().map(|i| (i.name.clone(), json!(i.weight))).collect();
        let card = json!({
            "trained": true, "parameters": self.0, "training": training, "rule": model.rule, "why": model.why,
            "weights": weights, "intercept": model.intercept, "anomaly_types": kinds,
        });
        write_json(&out.join("card.json"), &card)?;
        let mut all = vec![
            Column::new("session_id".into(), &traces.ids),
            time_column("timestamp", &traces.starts)?,
            time_column("end", &traces.ends)?,
            Column::new("fold".into(), split.folds.iter().map(|f| f.name()).collect::<Vec<_>>()),
            Column::new("label".into(), labels.iter().map(|l| l.map(i32::from)).collect::<Vec<_>>()),
            Column::new("censored".into(), &traces.censored),
        ];
        all.extend(columns.into_columns());
        if !traces.weights.is_empty() {
            all.push(Column::new("weight".into(), &traces.weights));
        }
        write_parquet(cx.output("scores")?, &mut DataFrame::new_infer_height(all)?)
    }
}

/// The scores of a model directory for exactly these sessions; `None` where there is no directory or no model.
fn table(directory: Option<&Path>, columns: &[&str], traces: &Traces) -> anyhow::Result<Option<(ScoreTable, Value)>> {
    let Some(directory) = directory else { return Ok(None) };
    let card: Value = read_json(&directory.join("card.json"))?;
    if card["trained"] != true {
        return Ok(None);
    }
    let table = ScoreTable::read(&directory.join("scores.parquet"), columns)?;
    ensure!(table.ids == traces.ids, "{} scored other sessions than the sessions table has", directory.display());
    Ok(Some((table, card)))
}

/// Takes a column by session that must not have nulls.
fn complete(table: &ScoreTable, column: &str) -> anyhow::Result<Vec<f64>> {
    let values = table.session_max(column)?;
    values
        .into_iter()
        .enumerate()
        .map(|(s, v)| v.with_context(|| format!("session `{}` has no `{column}`", table.ids[s])))
        .collect()
}

impl Fusion {
    /// How an error or a distance is bounded: for fitted weights, and for the mean of inputs.
    fn bounds(&self, reference: Conformal, scale: f64) -> (Squash, Squash) {
        let ratio = Squash::Ratio { scale: reference.quantile(0.99).max(scale), cap: self.0.cap };
        (ratio, Squash::Surprise { scale: self.0.surprise_scale, reference })
    }

    fn lgbm(&self, directory: Option<&Path>, traces: &Traces) -> Read<Vec<f64>> {
        let Some((table, _)) = table(directory, &["raw", "p", "raw_oof", "raw_lto"], traces)? else { return Ok(None) };
        let squash = Squash::Margin { scale: self.0.margin_scale };
        let member = Member {
            name: "lgbm",
            conformal: squash.clone(),
            squash,
            raw: complete(&table, "raw")?,
            oof: complete(&table, "raw_oof")?,
            lto: complete(&table, "raw_lto")?,
        };
        Ok(Some((member, complete(&table, "p")?)))
    }

    fn ae(&self, directory: Option<&Path>, traces: &Traces) -> Read<(Vec<f64>, Vec<f64>)> {
        let Some((table, _)) = table(directory, &["error", "z", "bounded"], traces)? else { return Ok(None) };
        let directory = directory.context("a table has a directory")?;
        let scaler: crate::autoencoder::Scaler = read_json(&directory.join("scaler.json"))?;
        let raw = complete(&table, "error")?;
        let (squash, conformal) = self.bounds(scaler.reference, self.0.ae_scale);
        let member = Member { name: "ae", squash, conformal, oof: raw.clone(), lto: raw.clone(), raw };
        Ok(Some((member, (complete(&table, "z")?, complete(&table, "bounded")?))))
    }

    fn profile(&self, directory: Option<&Path>, traces: &Traces) -> Read<(Vec<f64>, Vec<String>)> {
        let Some((table, _)) = table(directory, &["distance", "bounded", "distance_oof", "reason"], traces)? else {
            return Ok(None);
        };
        let directory = directory.context("a table has a directory")?;
        let oof = complete(&table, "distance_oof")?;
        let (squash, conformal) = self.bounds(crate::profile::reference(directory)?, self.0.profile_scale);
        let member =
            Member { name: "profile", squash, conformal, raw: complete(&table, "distance")?, lto: oof.clone(), oof };
        Ok(Some((member, (complete(&table, "bounded")?, table.text_at_max("distance", "reason")?))))
    }

    /// Chooses the rule and fits the weights. `represents`: how many sessions each stands for; empty: one.
    fn fit(
        &self,
        members: &[Member],
        labels: &[Option<bool>],
        split: &Split,
        represents: &[f64],
    ) -> anyhow::Result<(Model, Value)> {
        let known = labelled(labels, split, Fold::Train);
        let anomalies = known.iter().filter(|k| k.1).count();
        let normals = known.len() - anomalies;
        let training = json!({"sessions": known.len(), "anomalies": anomalies, "rows": known.len()});
        let needed = self.0.min_anomalies.max(1) as usize;
        if anomalies < needed || normals == 0 {
            let why = format!(
                "{anomalies} labelled anomalies and {normals} labelled normal sessions in train; fitted weights need \
                 {needed} and 1"
            );
            return Ok((mean(members, why), training));
        }
        let data = self.training_rows(members, &known);
        let why = format!("{anomalies} labelled anomalies and {normals} labelled normal sessions in train");
        let all: Vec<usize> = (0..members.len()).collect();
        let others: Vec<usize> = all.iter().copied().filter(|&m| members[m].name != "ae").collect();
        let Some(full) = self.regress(members, &data, &all, why.clone())? else {
            return Ok((mean(members, "no input tells train anomalies from normal sessions".to_owned()), training));
        };
        if others.len() == all.len() || others.is_empty() || self.0.ae_gain < 0.0 {
            return Ok((full, training));
        }
        let Some(without) = self.regress(members, &data, &others, why.clone())? else { return Ok((full, training)) };
        let precision = |model: &Model| {
            let validation = labelled(labels, split, Fold::Validation);
            let score = |s: usize| model.score(&members.iter().map(|m| m.oof[s]).collect::<Vec<_>>());
            let scores: Vec<f64> = validation.iter().map(|&(s, _)| score(s)).collect();
            let truth: Vec<bool> = validation.iter().map(|v| v.1).collect();
            let weight = |&(s, _): &(usize, bool)| represents.get(s).copied().unwrap_or(1.0);
            let points = steps(&scores, &truth, &validation.iter().map(weight).collect::<Vec<_>>());
            average_precision_of(&points).filter(|_| truth.contains(&false))
        };
        let (Some(with_ae), Some(without_ae)) = (precision(&full), precision(&without)) else {
            return Ok((full, training));
        };
        let why = format!(
            "{why}; average precision on validation is {with_ae:.4} with the autoencoder, {without_ae:.4} without"
        );
        let chosen = if with_ae > without_ae + self.0.ae_gain { full } else { without };
        Ok((Model { why, ..chosen }, training))
    }

    /// What weights are fitted on: every n-th normal session, which is enough; anomalies all, and once more as never seen
    /// before.
    fn training_rows(&self, members: &[Member], known: &[(usize, bool)]) -> TrainingRows {
        let mut data = TrainingRows { rows: Vec::new(), targets: Vec::new(), shift: 0.0 };
        let mut add = |scores: fn(&Member) -> &[f64], s: usize, label: bool| {
            data.rows.push(members.iter().map(|m| m.squash.at(scores(m)[s])).collect::<Vec<_>>());
            data.targets.push(label);
        };
        let normals = known.iter().filter(|k| !k.1).count();
        let every = normals.div_ceil(MOST_NORMALS).max(1);
        let mut kept = 0;
        for (i, &(s, _)) in known.iter().filter(|k| !k.1).enumerate() {
            if i % every == 0 {
                add(|m| &m.oof, s, false);
                kept += 1;
            }
        }
        for &(s, _) in known.iter().filter(|k| k.1) {
            add(|m| &m.oof, s, true);
            if self.0.leave_type_out {
                add(|m| &m.lto, s, true);
            }
        }
        let copies = if self.0.leave_type_out { 2.0 } else { 1.0 };
        data.shift = (f64::from(kept) / normals as f64 / copies).ln();
        data
    }

    /// Fits the weights of the members `of`; the others keep weight 0. `None` if no input tells anomalies from normal sessions.
    fn regress(
        &self,
        members: &[Member],
        data: &TrainingRows,
        of: &[usize],
        why: String,
    ) -> anyhow::Result<Option<Model>> {
        let rows: Vec<Vec<f64>> = data.rows.iter().map(|row| of.iter().map(|&m| row[m]).collect()).collect();
        let Some((fitted, intercept)) = regression::fit(&rows, &data.targets, self.0.alpha)? else { return Ok(None) };
        let mut inputs: Vec<Input> = members.iter().map(|m| input(m, &m.squash, 0.0)).collect();
        for (&m, weight) in of.iter().zip(fitted) {
            inputs[m].weight = weight;
        }
        let intercept = intercept + data.shift;
        Ok(Some(Model { rule: Rule::Logistic, why, inputs, intercept, surplus: self.0.surplus }))
    }
}

/// Bounded inputs of sessions and what they are.
struct TrainingRows {
    rows: Vec<Vec<f64>>,
    targets: Vec<bool>,
    /// What the intercept lacks because normal sessions were left out and anomalies came twice (case-control sampling,
    /// Prentice and Pyke 1979).
    shift: f64,
}

/// The sessions of a fold that have a label.
fn labelled(labels: &[Option<bool>], split: &Split, fold: Fold) -> Vec<(usize, bool)> {
    (0..labels.len()).filter(|&s| split.folds[s] == fold).filter_map(|s| Some((s, labels[s]?))).collect()
}

fn input(member: &Member, squash: &Squash, weight: f64) -> Input {
    Input { name: member.name.to_owned(), squash: squash.clone(), weight }
}

/// The rule without fitted weights.
fn mean(members: &[Member], why: String) -> Model {
    let inputs = members.iter().map(|m| input(m, &m.conformal, 1.0 / members.len() as f64)).collect();
    Model { rule: Rule::Mean, why, inputs, intercept: 0.0, surplus: 0.0 }
}

#[cfg(test)]
mod tests;
