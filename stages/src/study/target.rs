//! Targets: a number of each matching cell, made one, against a bound.

use logweir_engine::stage::ParamError;
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Cell;

/// How the numbers of several cells become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Take {
    /// Their mean.
    #[default]
    Mean,
    /// The lowest.
    Min,
    /// The highest.
    Max,
    /// False positives and false negatives of the fusion, summed; `value` is not looked at.
    Errors,
    /// F1 of the fusion over the decisions of all cells together; `value` is not looked at. Cells whose sessions stand for
    /// several count by what was scored.
    PooledF1,
}

/// What is aimed at.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Name for people.
    pub name: String,
    /// Regular expression that the whole name of a cell matches.
    pub cells: String,
    /// JSON pointer to a number in metrics.json; `{1}` is the first group of `cells`.
    #[serde(default)]
    pub value: String,
    /// How the numbers of several cells become one.
    #[serde(default)]
    pub take: Take,
    /// Reached from here on.
    #[serde(default)]
    pub at_least: Option<f64>,
    /// Reached up to here.
    #[serde(default)]
    pub at_most: Option<f64>,
}

/// What became of a target.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) name: String,
    pub(super) at_least: Option<f64>,
    pub(super) at_most: Option<f64>,
    /// The number; null without cells.
    pub(super) value: Option<f64>,
    /// The 95 % interval, where one cell has one.
    pub(super) ci95: Option<[f64; 2]>,
    /// Null without a number.
    pub(super) reached: Option<bool>,
    /// The number of each cell.
    pub(super) cells: Vec<(String, Option<f64>)>,
}

impl Target {
    fn pattern(&self) -> Result<Regex, regex::Error> {
        Regex::new(&format!("^(?:{})$", self.cells))
    }

    pub(super) fn check(&self, path: &str) -> Vec<ParamError> {
        let mut errors = Vec::new();
        if let Err(error) = self.pattern() {
            errors.push(ParamError::new(format!("{path}.cells"), format!("is no regular expression: {error}")));
        }
        let pooled = matches!(self.take, Take::Errors | Take::PooledF1);
        if !pooled && !self.value.starts_with('/') {
            errors.push(ParamError::new(format!("{path}.value"), "must be a JSON pointer such as `/fusion/f1`"));
        }
        if self.at_least.is_none() && self.at_most.is_none() {
            errors.push(ParamError::new(path, "aims at nothing: set `at_least` or `at_most`"));
        }
        errors
    }

    pub(super) fn outcome(&self, cells: &[Cell]) -> Result<Outcome, regex::Error> {
        let pattern = self.pattern()?;
        let mut numbers = Vec::new();
        let (mut tp, mut fp, mut missed) = (0.0, 0.0, 0.0);
        let mut ci95 = None;
        for cell in cells {
            let Some(groups) = pattern.captures(&cell.name) else { continue };
            let group = groups.get(1).map_or("", |g| g.as_str());
            let confusion = cell.metrics.confusion.unwrap_or_default();
            tp += confusion.tp as f64;
            fp += confusion.fp as f64;
            missed += confusion.fn_ as f64;
            let number = match self.take {
                Take::Errors => Some((confusion.fp + confusion.fn_) as f64),
                Take::PooledF1 => cell.metrics.fusion.f1,
                _ => cell.json.pointer(&self.value.replace("{1}", group)).and_then(serde_json::Value::as_f64),
            };
            ci95 = interval(cell, &self.value);
            numbers.push((cell.name.clone(), number));
        }
        let known: Vec<f64> = numbers.iter().filter_map(|(_, number)| *number).collect();
        // A cell without the number leaves the target open: what is not known is not reached.
        let complete = !known.is_empty() && known.len() == numbers.len();
        let value = match self.take {
            _ if known.is_empty() => None,
            Take::Mean => Some(known.iter().sum::<f64>() / known.len() as f64),
            Take::Min => known.iter().copied().reduce(f64::min),
            Take::Max => known.iter().copied().reduce(f64::max),
            Take::Errors => Some(fp + missed),
            Take::PooledF1 => (tp > 0.0).then(|| 2.0 * tp / (2.0 * tp + fp + missed)).or(Some(0.0)),
        };
        let within = |v: f64| self.at_least.is_none_or(|low| v >= low) && self.at_most.is_none_or(|high| v <= high);
        Ok(Outcome {
            name: self.name.clone(),
            at_least: self.at_least,
            at_most: self.at_most,
            value,
            ci95: ci95.filter(|_| numbers.len() == 1),
            reached: value.filter(|_| complete).map(within),
            cells: numbers,
        })
    }
}

/// The interval beside a number: that of `/fusion/f1` is at `/fusion/ci95/f1`.
fn interval(cell: &Cell, pointer: &str) -> Option<[f64; 2]> {
    let (model, metric) = pointer.rsplit_once('/')?;
    serde_json::from_value(cell.json.pointer(&format!("{model}/ci95/{metric}"))?.clone()).ok()
}
