//! What of a run scoring needs, and what is recorded of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use logweir_engine::digest::Digest;
use logweir_engine::engine::Engine;
use logweir_engine::history::{OutputRecord, RunDetail, StageOutcome};
use logweir_stages::explain;
use logweir_stages::score::Directories;
use logweir_stages::score_logs::Scorer;
use serde_json::{Value, json};

use super::{only, producer};
use crate::render::diagnostic::Failure;

/// The stages of a run that scoring needs, found by following the artifacts back from `evaluate`.
pub(super) struct Parts<'a> {
    parse: &'a StageOutcome,
    templates: &'a StageOutcome,
    sessionize: &'a StageOutcome,
    known: &'a OutputRecord,
    features: &'a OutputRecord,
    models: [Option<&'a OutputRecord>; 3],
    fusion: &'a OutputRecord,
    metrics: &'a OutputRecord,
}

/// The input slots of `fusion` that name models, in the order of [`Parts::models`].
const MODELS: [&str; 3] = ["lgbm", "ae", "profile"];

impl<'a> Parts<'a> {
    pub(super) fn of(detail: &'a RunDetail) -> anyhow::Result<Self> {
        let evaluate = only(detail, "evaluate")?;
        let (fusion, _) = producer(detail, evaluate, "scores")?;
        let mut models = [None; 3];
        let mut features = None;
        for (model, slot) in models.iter_mut().zip(MODELS) {
            if fusion.inputs.get(slot).is_some_and(|files| !files.is_empty()) {
                let (stage, output) = producer(detail, fusion, slot)?;
                *model = Some(output);
                if stage.inputs.contains_key("features") {
                    features = Some(producer(detail, stage, "features")?);
                }
            }
        }
        let (featurize, features) = features.context("no model of the fusion reads features")?;
        let (templates, known) = producer(detail, featurize, "templates")?;
        let (sessionize, _) = producer(detail, featurize, "sessions")?;
        let (parse, _) = producer(detail, sessionize, "events")?;
        let output = |stage: &'a StageOutcome, slot: &str| {
            stage.outputs.get(slot).with_context(|| format!("stage `{}` has no output `{slot}`", stage.stage))
        };
        Ok(Self {
            parse,
            templates,
            sessionize,
            known,
            features,
            models,
            fusion: output(fusion, "model")?,
            metrics: output(evaluate, "metrics")?,
        })
    }

    /// Writes the artifacts below a folder.
    pub(super) fn materialise(&self, engine: &Engine, folder: &Path) -> Result<Scorer, Failure> {
        let place = |name: &str, output: &OutputRecord| -> Result<PathBuf, Failure> {
            let to = folder.join(name);
            engine.materialise(&output.digest, output.is_directory(), &to)?;
            Ok(to)
        };
        let model = |i: usize| self.models[i].map(|output| place(MODELS[i], output)).transpose();
        Ok(Scorer {
            parse: self.parse.params.clone(),
            templates: self.templates.params.clone(),
            sessionize: self.sessionize.params.clone(),
            known: place("templates.csv", self.known)?,
            models: Directories {
                features: place("features", self.features)?,
                lgbm: model(0)?,
                ae: model(1)?,
                profile: model(2)?,
                fusion: place("fusion", self.fusion)?,
            },
            metrics: place("metrics.json", self.metrics)?,
        })
    }

    /// Returns the artifacts by slot: path and content.
    pub(super) fn inputs(&self) -> BTreeMap<String, BTreeMap<String, Digest>> {
        let named = [
            ("templates", Some(self.known)),
            ("features", Some(self.features)),
            ("fusion", Some(self.fusion)),
            ("metrics", Some(self.metrics)),
        ];
        let models = MODELS.into_iter().zip(self.models);
        let of = |(slot, output): (&str, Option<&OutputRecord>)| {
            let output = output?;
            Some((slot.to_owned(), BTreeMap::from([(output.path.clone(), output.digest)])))
        };
        named.into_iter().chain(models).filter_map(of).collect()
    }

    /// Returns what decides how lines become sessions.
    pub(super) fn params(&self) -> Value {
        json!({
            "parse": self.parse.params, "templates": self.templates.params, "sessionize": self.sessionize.params,
        })
    }

    /// Returns a digest of all that decides scores.
    pub(super) fn identity(&self) -> String {
        let inputs: BTreeMap<String, Vec<String>> = self
            .inputs()
            .into_iter()
            .map(|(slot, files)| (slot, files.values().map(ToString::to_string).collect()))
            .collect();
        let all = json!({ "inputs": inputs, "params": self.params() });
        Digest::of_json("logweir score models v1", &all).to_string()
    }
}

/// The models, for those that explain.
pub(super) fn speakers(models: &Directories) -> explain::Directories {
    let Directories { features, lgbm, ae, profile, fusion } = models.clone();
    explain::Directories { features: Some(features), lgbm, ae, profile, fusion: Some(fusion) }
}

/// A path as lineage has it: relative to the project where it lies in it.
pub(super) fn recorded(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned()
}
