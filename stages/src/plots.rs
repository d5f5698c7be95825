//! The pictures of a report: ROC, precision-recall, confusion matrix, distribution of scores, calibration, recall by type,
//! learning curves, drift.
//!
//! Owns: what a picture shows. `canvas` owns pixels, fonts and PNG files; `vector` owns SVG; `frame` owns axes. Every picture says which
//! data it speaks of (real or simulated), the split and the number of sessions, in the picture and in its PNG text
//! chunks, which also carry the key of the action that drew it and the picture as SVG, with its words (`vector`); it holds
//! no time. Equal data give equal bytes: the fonts are embedded, and text is laid out without help of the system.

mod calibration;
mod canvas;
mod confusion;
mod curves;
mod drift;
mod frame;
mod histogram;
mod history;
mod learning;
mod types;
mod vector;

pub use calibration::calibration;
pub use confusion::confusion;
pub use curves::{precision_recall, roc};
pub use drift::drift;
pub use histogram::{Scores, histogram};
pub use history::{Line, history};
pub use learning::{Learning, learning};
pub use types::recall_by_type;

pub(crate) use canvas::{grouped, key_of_png, svg_of_png};

use crate::support::metrics::Step;

/// What a picture says about its data.
#[derive(Clone, Debug)]
pub struct Caption {
    /// Name of the data.
    pub dataset: String,
    /// Whether a simulated system wrote the log.
    pub simulated: bool,
    /// Which sessions are shown, and how many.
    pub scope: String,
    /// Kind of the stage that draws.
    pub stage: String,
}

impl Caption {
    /// One line: the data, the split and the numbers.
    fn line(&self) -> String {
        let data = if self.dataset.contains(self.source()) {
            self.dataset.clone()
        } else {
            format!("{} ({} data)", self.dataset, self.source())
        };
        format!("{data} · {}", self.scope)
    }

    /// The scope of what shows the test fold of a split.
    pub fn test_fold(split: &str, sessions: u64, anomalies: u64) -> String {
        let (sessions, anomalies) = (grouped(sessions), grouped(anomalies));
        format!("{split} split, test fold · n = {sessions} sessions, {anomalies} anomalous")
    }

    fn source(&self) -> &'static str {
        if self.simulated { "simulated" } else { "real" }
    }
}

/// One model's ranking of the test fold.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Short name, decides the colour.
    pub name: &'static str,
    /// Name for people.
    pub title: &'static str,
    /// Distinct operating points from the highest score down.
    pub steps: Vec<Step>,
    /// The point that the chosen threshold gives.
    pub operating: Step,
    /// Area under the ROC curve and its 95 % interval.
    pub roc_auc: Option<(f64, Option<[f64; 2]>)>,
    /// Average precision and its 95 % interval.
    pub average_precision: Option<(f64, Option<[f64; 2]>)>,
}

#[cfg(test)]
mod tests;
