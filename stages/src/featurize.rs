//! The `featurize` kind: sessions to sparse feature rows, fitted on train sessions only.
//!
//! Owns the parameters and the files of `data/features/`; what a feature is lies in [`vectorizer`], which `score` uses
//! alike. Reads the split, never labels.

pub mod parameters;
pub mod vectorizer;

use std::path::Path;

use anyhow::{Context as _, bail};
use logweir_engine::stage::{ParamError, Params, Slot, Stage, StageContext, StageKind, make, schema_of};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::support::traces::{Fold, Templates, Traces, Values, read_lines, read_split};
pub use parameters::ParameterParams;
use vectorizer::Vectorizer;

/// The `featurize` kind.
pub fn kind() -> StageKind {
    StageKind {
        name: "featurize",
        about: "sessions to TF-IDF, hashing, count, position and numeric features, fitted on train sessions",
        version: 1,
        code: crate::code("featurize"),
        inputs: const {
            &[
                Slot::file("sessions", "sessions.parquet"),
                Slot::file("templates", "templates.csv"),
                Slot::file("split", "split.parquet: only train sessions are fitted on"),
                Slot::directory("events", "the directory of `parse`, for the group `parameter`").optional(),
            ]
        },
        outputs: const {
            &[Slot::directory(
                "features",
                "matrix.parquet, features.csv, vectorizer.json; parameters.parquet, if asked for",
            )]
        },
        schema: schema_of::<FeaturizeParams>,
        make: make::<FeaturizeParams, Featurize>,
    }
}

/// Which vectoriser turns n-grams of templates into columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TextVectorizer {
    /// One column per n-gram seen in train, weighted by inverse document frequency.
    Tfidf,
    /// A fixed number of columns; n-grams fall into them by hash of their texts, also those never seen in train.
    Hashing,
    /// Both.
    Both,
    /// Neither.
    None,
}

/// A group of columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Weighted n-grams, rows of length 1.
    Tfidf,
    /// Hashed n-grams, rows of length 1.
    Hashing,
    /// How often each template occurs.
    Count,
    /// `ln(1 + count)`.
    Logcount,
    /// Position of the first occurrence, from 1; 0 where absent.
    First,
    /// Position of the last occurrence, from 1; 0 where absent.
    Last,
    /// The columns of `numerics`.
    Numeric,
    /// The columns of `parameters`: values of wildcards.
    Parameter,
}

impl Group {
    /// The name used in pipeline.yaml and `features.csv`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tfidf => "tfidf",
            Self::Hashing => "hashing",
            Self::Count => "count",
            Self::Logcount => "logcount",
            Self::First => "first",
            Self::Last => "last",
            Self::Numeric => "numeric",
            Self::Parameter => "parameter",
        }
    }
}

/// A numeric column. Times and counts enter as `ln(1 + x)`, times in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Numeric {
    /// Number of events.
    Events,
    /// Number of different templates.
    Distinct,
    /// Seconds from the first to the last event. Drifts for sessions still open at the end of the log.
    Duration,
    /// The longest gap, seconds.
    MaxGap,
    /// Seconds from the first to the `head`-th event: the write phase of a block.
    HeadDuration,
    /// The longest gap within the first `head` events, seconds.
    HeadMaxGap,
    /// 1 where the session was still open at the end of the log.
    Censored,
    /// Number of events whose template does not occur in train.
    Unseen,
}

/// How numeric columns are centred and scaled, fitted on train.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// Median and interquartile range.
    Robust,
    /// Mean and standard deviation.
    Standard,
    /// As they are.
    None,
}

/// Options of the hashing vectoriser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HashingParams {
    /// Number of columns.
    pub dimension: u32,
    /// Seed of the hash.
    pub seed: u64,
}

impl Default for HashingParams {
    fn default() -> Self {
        Self { dimension: 256, seed: 42 }
    }
}

/// Cuts sessions into windows of events; models then score windows and sessions take the maximum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowParams {
    /// Events in a window.
    pub size: u32,
    /// Events from one window's start to the next one's; at most `size`.
    pub step: u32,
}

/// Parameters of `featurize`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FeaturizeParams {
    /// Vectoriser of template n-grams: tfidf, hashing, both or none.
    pub vectorizer: TextVectorizer,
    /// Other groups of columns: count, logcount, first, last, numeric, parameter.
    pub groups: Vec<Group>,
    /// Shortest and longest n-gram, in events.
    pub ngrams: [u32; 2],
    /// An n-gram needs this many train rows to become a TF-IDF column.
    pub min_df: u32,
    /// Use `1 + ln(count)` instead of the count of an n-gram.
    pub sublinear: bool,
    /// Options of the hashing vectoriser.
    pub hashing: HashingParams,
    /// Numeric columns.
    pub numerics: Vec<Numeric>,
    /// How many events from the start `head_duration` and `head_max_gap` look at.
    pub head: u32,
    /// Scaling of numeric columns: robust, standard or none.
    pub scaling: Scaling,
    /// For the group `parameter`: which wildcards of which templates, and what is made of their values. Needs the input `events`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<ParameterParams>,
    /// Cut sessions into windows of events; absent: a row is a session.
    pub window: Option<WindowParams>,
}

impl Default for FeaturizeParams {
    fn default() -> Self {
        Self {
            vectorizer: TextVectorizer::Tfidf,
            groups: vec![Group::Count, Group::Logcount, Group::First, Group::Last, Group::Numeric],
            ngrams: [1, 1],
            min_df: 1,
            sublinear: true,
            hashing: HashingParams::default(),
            numerics: vec![
                Numeric::Events,
                Numeric::Distinct,
                Numeric::HeadDuration,
                Numeric::HeadMaxGap,
                Numeric::Censored,
                Numeric::Unseen,
            ],
            head: 13,
            scaling: Scaling::Robust,
            parameters: Vec::new(),
            window: None,
        }
    }
}

impl Params for FeaturizeParams {
    fn check(&self) -> Vec<ParamError> {
        let mut errors = Vec::new();
        if self.ngrams[0] == 0 || self.ngrams[1] < self.ngrams[0] || self.ngrams[1] > 8 {
            errors.push(ParamError::new("ngrams", "must be [shortest, longest] with 1 <= shortest <= longest <= 8"));
        }
        if self.min_df == 0 {
            errors.push(ParamError::new("min_df", "must be at least 1"));
        }
        if self.hashing.dimension == 0 || self.hashing.dimension > 1 << 24 {
            errors.push(ParamError::new("hashing.dimension", "must be between 1 and 16777216"));
        }
        if self.head < 2 {
            errors.push(ParamError::new("head", "must be at least 2"));
        }
        for (i, group) in self.groups.iter().enumerate() {
            if matches!(group, Group::Tfidf | Group::Hashing) {
                let error = ParamError::new(format!("groups.{i}"), format!("`{}` is no group here", group.name()));
                errors.push(error.help("choose it with `vectorizer: tfidf|hashing|both|none`"));
            } else if self.groups[..i].contains(group) {
                errors.push(ParamError::new(format!("groups.{i}"), format!("`{}` is named twice", group.name())));
            }
        }
        for (i, numeric) in self.numerics.iter().enumerate() {
            if self.numerics[..i].contains(numeric) {
                errors.push(ParamError::new(format!("numerics.{i}"), "is named twice"));
            }
        }
        if self.vectorizer == TextVectorizer::None && self.groups.is_empty() {
            errors.push(ParamError::new("groups", "no features at all: name a group or a vectorizer"));
        }
        if self.groups.contains(&Group::Numeric) && self.numerics.is_empty() {
            errors.push(ParamError::new("numerics", "the group `numeric` is asked for, but no column is named"));
        }
        match (self.groups.contains(&Group::Parameter), self.parameters.is_empty()) {
            (true, true) => {
                errors.push(ParamError::new(
                    "parameters",
                    "the group `parameter` is asked for, but no wildcard is named",
                ));
            }
            (false, false) => {
                errors.push(ParamError::new("groups", "lacks `parameter`, without which `parameters` make no columns"));
            }
            _ => errors.extend(parameters::check(&self.parameters)),
        }
        if let Some(window) = &self.window {
            if window.size == 0 {
                errors.push(ParamError::new("window.size", "must be at least 1"));
            }
            if window.step == 0 || window.step > window.size {
                errors.push(ParamError::new("window.step", "must be between 1 and `size`, or events would be skipped"));
            }
        }
        errors
    }
}

/// The stage.
pub struct Featurize(FeaturizeParams);

impl From<FeaturizeParams> for Featurize {
    fn from(params: FeaturizeParams) -> Self {
        Self(params)
    }
}

impl Stage for Featurize {
    fn run(&self, cx: &StageContext<'_>) -> anyhow::Result<()> {
        let mut traces = cx.in_pool(|| Traces::read(cx.input("sessions")?))??;
        let templates = Templates::read(cx.input("templates")?)?;
        let split = read_split(cx.input("split")?, &traces.ids)?;
        let train: Vec<usize> = (0..traces.len()).filter(|&row| split.folds[row] == Fold::Train).collect();
        if train.is_empty() {
            bail!("no train sessions among {}: nothing to fit features on (check the split stage)", traces.len());
        }
        if self.0.groups.contains(&Group::Parameter) {
            traces.values = self.values(cx, &traces, &templates, &train)?;
        }
        cx.progress(0, 3, "steps");
        let vectorizer = cx.in_pool(|| Vectorizer::fit(&self.0, &traces, &templates, &train))??;
        cx.check_cancelled()?;
        cx.progress(1, 3, "steps");
        let matrix = cx.in_pool(|| vectorizer.transform(&traces, &templates))??;
        cx.check_cancelled()?;
        cx.progress(2, 3, "steps");
        let out = cx.output("features")?;
        write_features(&vectorizer, &out.join("features.csv"))?;
        vectorizer.write(out)?;
        cx.in_pool(|| matrix.write(&out.join("matrix.parquet")))??;
        if !traces.values.is_empty() {
            parameters::write(out, &traces.ids, &traces.values)?;
        }
        cx.progress(3, 3, "steps");
        cx.info(format!(
            "{} rows ({} but for numerics), {} features, {:.1} values a row, fitted on {} train sessions",
            matrix.len(),
            matrix.shared.distinct.len(),
            vectorizer.columns(),
            matrix.values() as f64 / matrix.len().max(1) as f64,
            train.len()
        ));
        Ok(())
    }
}

impl Featurize {
    /// The values of the wildcards that parameters name.
    fn values(
        &self,
        cx: &StageContext<'_>,
        traces: &Traces,
        templates: &Templates,
        train: &[usize],
    ) -> anyhow::Result<Values> {
        let events = cx
            .optional("events")
            .context("the group `parameter` needs the input slot `events`: the directory that `parse` writes")?;
        let known = vectorizer::seen(traces, templates, train)?;
        let texts: Vec<String> = known.iter().map(|&number| templates.texts[number].clone()).collect();
        let sources = parameters::sources(&self.0.parameters, &texts)?;
        for (i, one) in self.0.parameters.iter().enumerate() {
            if !sources.iter().any(|source| source.of as usize == i) {
                cx.warn(format!(
                    "`parameters.{i}`: no template of train sessions matches `{}` and has {} <{}>",
                    one.template, one.place, one.wildcard
                ));
            }
        }
        let mut numbers = vec![None; templates.len()];
        known.iter().zip(0..).for_each(|(&number, local)| numbers[number] = Some(local));
        let lines = read_lines(cx.input("sessions")?)?;
        parameters::read(events, &self.0.parameters, &sources, &numbers, traces, &lines)
    }
}

fn write_features(vectorizer: &Vectorizer, path: &Path) -> anyhow::Result<()> {
    let mut writer = csv::Writer::from_path(path).with_context(|| format!("cannot create {}", path.display()))?;
    writer.write_record(["index", "name", "group"])?;
    for (index, (name, group)) in vectorizer.names().into_iter().enumerate() {
        writer.write_record([index.to_string().as_str(), &name, group.name()])?;
    }
    writer.flush().with_context(|| format!("cannot write {}", path.display()))
}

/// The columns of `features.csv`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Features {
    /// Name of each column.
    pub names: Vec<String>,
    /// Group of each column.
    pub groups: Vec<String>,
}

impl Features {
    /// Reads `features.csv` of a features directory.
    ///
    /// # Errors
    /// The file is missing or malformed.
    pub fn read(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join("features.csv");
        let mut reader = csv::Reader::from_path(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut features = Self::default();
        for record in reader.records() {
            let record = record.with_context(|| format!("cannot read {}", path.display()))?;
            if record.len() < 3 {
                bail!("{}: a line has {} columns instead of index,name,group", path.display(), record.len());
            }
            features.names.push(record[1].to_owned());
            features.groups.push(record[2].to_owned());
        }
        Ok(features)
    }

    /// Chooses the columns of some groups: `keep[old] = Some(new)` and the old numbers in order.
    ///
    /// # Errors
    /// A group has no columns.
    pub fn choose(&self, groups: &[Group]) -> anyhow::Result<(Vec<Option<u32>>, Vec<usize>)> {
        for group in groups {
            if !self.groups.iter().any(|g| g == group.name()) {
                bail!(
                    "the features have no columns of group `{}`: add it to `groups` or `vectorizer` of the featurize \
                     stage, or leave it out here",
                    group.name()
                );
            }
        }
        let mut keep = vec![None; self.names.len()];
        let mut chosen = Vec::new();
        for (old, name) in self.groups.iter().enumerate() {
            if groups.iter().any(|g| g.name() == name) {
                keep[old] = Some(chosen.len() as u32);
                chosen.push(old);
            }
        }
        Ok((keep, chosen))
    }
}
