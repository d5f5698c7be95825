//! The `learning_curves` kind: what LightGBM and the autoencoder measured on validation while they were fitted, as pictures.
//!
//! A kind of its own, not part of fitting: a picture carries the key of its action, and a model directory must not, or
//! nothing behind it could stay fresh when a fit gives the same bytes again.

use std::path::Path;

use logweir_engine::stage::{Params, Slot, Stage, StageContext, StageKind, make, schema_of};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::plots::{Caption, Learning, grouped, learning};
use crate::support::learning::read_json;

/// Returns the kind.
pub fn kind() -> StageKind {
    StageKind {
        name: "learning_curves",
        about: "learning curves of LightGBM and the autoencoder on the validation fold, as pictures",
        version: 1,
        code: crate::code("learning_curves"),
        inputs: const {
            &[
                Slot::directory("lgbm", "model directory of `lightgbm`").optional(),
                Slot::directory("ae", "model directory of `autoencoder`").optional(),
                Slot::file("summary", "where the lines come from (sessionize)"),
            ]
        },
        outputs: const {
            &[
                Slot::file("lgbm", "average precision by round, PNG; needs the input `lgbm`").optional(),
                Slot::file("ae", "reconstruction error by epoch, PNG; needs the input `ae`").optional(),
            ]
        },
        schema: schema_of::<LearningCurvesParams>,
        make: make::<LearningCurvesParams, LearningCurves>,
    }
}

/// Parameters of `learning_curves`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LearningCurvesParams {
    /// Name of the data in the pictures; by default it says only whether the log is real or simulated.
    pub dataset: Option<String>,
}

impl Params for LearningCurvesParams {}

/// The stage.
struct LearningCurves(LearningCurvesParams);

impl From<LearningCurvesParams> for LearningCurves {
    fn from(params: LearningCurvesParams) -> Self {
        Self(params)
    }
}

impl Stage for LearningCurves {
    fn run(&self, cx: &StageContext<'_>) -> anyhow::Result<()> {
        let summary: Value = read_json(cx.input("summary")?)?;
        let simulated = summary["simulated"] == true;
        let key = cx.key.to_string();
        for (slot, curve_of) in [("lgbm", of_lgbm as fn(&Value) -> Learning), ("ae", of_ae)] {
            let Some(path) = cx.optional_output(slot) else { continue };
            let card: Value = read_json(&card_of(cx, slot)?)?;
            let source = if simulated { "simulated" } else { "real" };
            let caption = Caption {
                dataset: self.0.dataset.clone().unwrap_or_else(|| format!("{source} log")),
                simulated,
                scope: fitted_on(&card),
                stage: "learning_curves".to_owned(),
            };
            learning(path, &caption, &curve_of(&card), &key)?;
        }
        Ok(())
    }
}

fn card_of(cx: &StageContext<'_>, slot: &str) -> anyhow::Result<std::path::PathBuf> {
    let missing = || anyhow::anyhow!("the output slot `{slot}` needs the input slot `{slot}`, a model directory");
    Ok(cx.optional(slot).map(Path::to_owned).ok_or_else(missing)?.join("card.json"))
}

/// Which sessions a model was fitted on.
fn fitted_on(card: &Value) -> String {
    let count = |name: &str| grouped(card["training"][name].as_u64().unwrap_or(0));
    format!("fitted on {} sessions, {} anomalous; measured on validation", count("sessions"), count("anomalies"))
}

fn values(card: &Value, name: &str) -> Vec<f64> {
    card[name].as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
}

fn of_lgbm(card: &Value) -> Learning {
    Learning {
        title: "LightGBM",
        steps: "boosting rounds (trees)",
        measured: "average precision",
        values: values(card, "average_precision_by_round"),
        kept: card["rounds"].as_u64().unwrap_or(0) as usize,
        error: false,
        why_not: card["why_not"].as_str().map(str::to_owned),
    }
}

fn of_ae(card: &Value) -> Learning {
    Learning {
        title: "autoencoder",
        steps: "epochs",
        measured: "mean reconstruction error of benign sessions",
        values: values(card, "validation_error_by_epoch"),
        kept: card["best_epoch"].as_u64().unwrap_or(0) as usize,
        error: true,
        why_not: card["why_not"].as_str().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plots::key_of_png;
    use crate::testing::run;

    #[test]
    fn curves_are_drawn_from_the_cards_and_untrained_models_say_why() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("sessions.json"), r#"{"simulated": true}"#).unwrap();
        for (model, card) in [
            ("lgbm", json!({"rounds": 3, "average_precision_by_round": [0.5, 0.8, 0.9, 0.9]})),
            ("ae", json!({"trained": false, "why_not": "no train session is labelled normal"})),
        ] {
            std::fs::create_dir(at(model)).unwrap();
            std::fs::write(at(model).join("card.json"), card.to_string()).unwrap();
        }
        let (summary, lgbm, ae) = (at("sessions.json"), at("lgbm"), at("ae"));
        let inputs = [("summary", "s", summary.as_path()), ("lgbm", "l", &lgbm), ("ae", "a", &ae)];
        let made = run(&kind(), &json!({}), &inputs, &["lgbm", "ae"], 1).unwrap();
        for picture in ["lgbm", "ae"] {
            assert!(key_of_png(&std::fs::read(made.path(picture)).unwrap()).unwrap().is_some());
        }
        let error = run(&kind(), &json!({}), &inputs[..1], &["ae"], 1).err().unwrap();
        assert!(error.to_string().contains("needs the input slot `ae`"), "{error}");
    }
}
