//! Batch scoring: the trained artifacts of a run applied to new sessions.
//!
//! Uses the very functions of the stages, on what they stored: a session of the training log scores the same here, to
//! the bit, as in the pipeline's `scores.parquet`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use polars::prelude::{Column, DataFrame};

use crate::featurize::Features;
use crate::featurize::vectorizer::Vectorizer;
use crate::fusion::{self, Columns, time_column};
use crate::support::traces::{Templates, Traces};
use crate::{autoencoder, lightgbm, profile};

/// Where the trained artifacts are.
#[derive(Clone, Debug, Default)]
pub struct Directories {
    /// `data/features/`.
    pub features: PathBuf,
    /// `data/models/lgbm/`, if the pipeline has one.
    pub lgbm: Option<PathBuf>,
    /// `data/models/ae/`, if the pipeline has one.
    pub ae: Option<PathBuf>,
    /// `data/models/profile/`, if the pipeline has one.
    pub profile: Option<PathBuf>,
    /// `data/models/fusion/`.
    pub fusion: PathBuf,
}

impl Directories {
    /// The places of the shipped pipeline below a project directory.
    pub fn of_project(root: &Path) -> Self {
        let models = root.join("data/models");
        Self {
            features: root.join("data/features"),
            lgbm: Some(models.join("lgbm")),
            ae: Some(models.join("ae")),
            profile: Some(models.join("profile")),
            fusion: models.join("fusion"),
        }
    }
}

/// Everything needed to score sessions.
pub struct Bundle {
    vectorizer: Vectorizer,
    lgbm: Option<lightgbm::Model>,
    ae: Option<autoencoder::Model>,
    profile: Option<profile::Model>,
    fusion: fusion::Model,
}

impl Bundle {
    /// Loads trained artifacts.
    ///
    /// # Errors
    /// A file is missing or malformed, or the fusion uses a model that is not there.
    pub fn load(directories: &Directories) -> anyhow::Result<Self> {
        let features = Features::read(&directories.features)?;
        let lgbm = directories.lgbm.as_deref().map(|d| lightgbm::Model::load(d, &features)).transpose()?.flatten();
        let ae = directories.ae.as_deref().map(|d| autoencoder::Model::load(d, &features)).transpose()?.flatten();
        let profile = directories.profile.as_deref().map(profile::Model::load).transpose()?.flatten();
        let fusion = fusion::Model::load(&directories.fusion)?;
        for input in &fusion.inputs {
            let loaded = match input.name.as_str() {
                "lgbm" => lgbm.is_some(),
                "ae" => ae.is_some(),
                "profile" => profile.is_some(),
                _ => false,
            };
            ensure!(loaded, "the fusion uses the model `{}`, which is not there: restore its directory", input.name);
        }
        let vectorizer = Vectorizer::read(&directories.features)?;
        ensure!(
            vectorizer.parameters.is_empty(),
            "the features have the group `parameter`, and values of wildcards are not read from new logs yet: leave the \
             group out of the featurize stage to score new logs"
        );
        Ok(Self { vectorizer, lgbm, ae, profile, fusion })
    }

    /// Texts of the templates that the features know: give them to the template miner, so that new logs get the same
    /// templates.
    pub fn templates(&self) -> &[String] {
        &self.vectorizer.templates
    }

    /// Scores sessions in the format of `sessions.parquet`, whose template numbers are those of `templates`. Returns,
    /// in the same order, the columns of `scores.parquet` without `fold` and `label`. Works on the current rayon pool.
    ///
    /// # Errors
    /// The frame lacks a column, an event has no template, or a score is not finite.
    pub fn score(&self, sessions: &DataFrame, templates: &Templates) -> anyhow::Result<DataFrame> {
        let traces = Traces::from_frame(sessions).context("the sessions to score")?;
        self.score_traces(&traces, templates)
    }

    /// As [`Bundle::score`], for sessions already read.
    ///
    /// # Errors
    /// As [`Bundle::score`].
    pub fn score_traces(&self, traces: &Traces, templates: &Templates) -> anyhow::Result<DataFrame> {
        let matrix = self.vectorizer.transform(traces, templates)?;
        let max = |values: &[f64]| matrix.origins.session_max(values);
        let lgbm = match &self.lgbm {
            Some(model) => {
                let (raw, p) = model.score_matrix(&matrix)?;
                Some((max(&raw), max(&p)))
            }
            None => None,
        };
        let ae = self.ae.as_ref().map(|model| {
            let scores = model.score_matrix(&matrix);
            (max(&scores.error), max(&scores.z), max(&scores.bounded))
        });
        let profile = self.profile.as_ref().map(|model| model.score(traces, templates));
        let mut columns = Columns {
            lgbm,
            ae,
            fusion: Vec::with_capacity(traces.len()),
            unseen: None,
            reason: profile.as_ref().map_or_else(|| vec![String::new(); traces.len()], |p| p.reason.clone()),
            profile: profile.map(|p| (p.distance, p.bounded)),
        };
        for s in 0..traces.len() {
            let raw: Vec<f64> = self
                .fusion
                .inputs
                .iter()
                .map(|input| match input.name.as_str() {
                    "lgbm" => columns.lgbm.as_ref().map(|c| c.0[s]),
                    "ae" => columns.ae.as_ref().map(|c| c.0[s]),
                    _ => columns.profile.as_ref().map(|c| c.0[s]),
                })
                .collect::<Option<_>>()
                .context("a model of the fusion is not loaded")?;
            let score = self.fusion.score(&raw);
            ensure!(score.is_finite(), "the score of session `{}` is {score}", traces.ids[s]);
            columns.reason[s] = self.fusion.reason(&raw, &columns.reason[s]);
            columns.fusion.push(score);
        }
        let mut all = vec![
            Column::new("session_id".into(), &traces.ids),
            time_column("timestamp", &traces.starts)?,
            time_column("end", &traces.ends)?,
            Column::new("censored".into(), &traces.censored),
        ];
        all.extend(columns.into_columns());
        Ok(DataFrame::new_infer_height(all)?)
    }
}

#[cfg(test)]
mod tests;
