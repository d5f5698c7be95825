//! Decides what a run would do with each stage, and why. Values in, values out: no file is touched here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;
use crate::event::{Decision, Reason, ReasonKind};

/// What would happen to one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanRow {
    /// The stage's full name.
    pub name: String,
    /// `fresh`, `restore`, `run` or `waits`.
    pub decision: Decision,
    /// Why; empty for `fresh`.
    pub reasons: Vec<Reason>,
    /// The action key; unknown while an upstream stage has to execute first.
    pub key: Option<Digest>,
    /// Seconds the last execution took; unknown for a stage never executed.
    pub seconds: Option<f64>,
}

impl PlanRow {
    /// Returns whether the stage may execute: it runs, or waits for one that does.
    pub fn may_run(&self) -> bool {
        matches!(self.decision, Decision::Run | Decision::Waits)
    }
}

/// What a run would do, in an order it could be done in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The pipeline file, relative to the project root.
    pub pipeline: String,
    /// `--profile` and `--set` as given.
    pub overrides: Vec<String>,
    /// One row per selected stage.
    pub stages: Vec<PlanRow>,
    /// Predicted wall-clock seconds with the given thread tokens, should every waiting stage run: a lower bound if
    /// stages are `unknown`, `None` when all that may run are.
    pub seconds: Option<f64>,
    /// How many stages that may run have no history.
    #[serde(default)]
    pub unknown: usize,
    /// The longest chain of stages that may run, first to last.
    #[serde(default)]
    pub critical_path: Vec<String>,
    /// Its length in seconds, without stages that have no history.
    #[serde(default)]
    pub critical_seconds: f64,
}

impl Plan {
    /// Returns how many stages have this decision.
    pub fn count(&self, decision: Decision) -> usize {
        self.stages.iter().filter(|row| row.decision == decision).count()
    }
}

/// What an effect's target says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EffectState {
    /// It holds the key.
    Current,
    /// It holds another key or none.
    Other,
    /// It cannot be asked.
    Unreachable(String),
}

/// How the key's record differs from the stage's last one.
#[derive(Clone, Debug, PartialEq)]
pub enum Changes {
    /// The stage was never executed.
    Never,
    /// These leaves differ; none when the records are equal.
    Leaves(Vec<Reason>),
}

/// Everything a decision about a stage with known inputs depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// What the user forced it by.
    pub forced: Option<&'static str>,
    /// Whether the key was executed before.
    pub executed: bool,
    /// Outputs that are not in place as that execution left them.
    pub misplaced: Vec<Reason>,
    /// Whether the store holds all of them.
    pub stored: bool,
    /// What the effect's target says, for a stage with an effect.
    pub effect: Option<EffectState>,
    /// How the record differs from the stage's last one.
    pub changes: Changes,
}

/// Decides about a stage whose inputs are known.
pub fn decide(facts: Facts, stage: &str) -> (Decision, Vec<Reason>) {
    let changed = match facts.changes {
        Changes::Never => vec![Reason::plain(ReasonKind::New, stage)],
        Changes::Leaves(leaves) => leaves,
    };
    if let Some(by) = facts.forced {
        let mut reasons = vec![Reason::plain(ReasonKind::Forced, by)];
        reasons.extend(changed);
        return (Decision::Run, reasons);
    }
    match facts.effect {
        Some(EffectState::Current) if facts.misplaced.is_empty() => return (Decision::Fresh, Vec::new()),
        Some(EffectState::Current) => return (Decision::Run, facts.misplaced),
        Some(EffectState::Other) => {
            let target = Reason::plain(ReasonKind::Effect, "the target does not hold this key");
            return (Decision::Run, if changed.is_empty() { vec![target] } else { changed });
        }
        Some(EffectState::Unreachable(why)) => {
            let reason = Reason {
                kind: ReasonKind::Effect,
                subject: "the target cannot be asked".to_owned(),
                old: Value::Null,
                new: why.into(),
            };
            return (Decision::Run, vec![reason]);
        }
        None => {}
    }
    let why = |misplaced: Vec<Reason>| if changed.is_empty() { misplaced } else { changed.clone() };
    match (facts.executed, facts.misplaced.is_empty(), facts.stored) {
        (true, true, _) => (Decision::Fresh, Vec::new()),
        (true, false, true) => (Decision::Restore, why(facts.misplaced)),
        (true, false, false) => (Decision::Run, facts.misplaced),
        (false, _, _) if changed.is_empty() => (Decision::Run, vec![Reason::plain(ReasonKind::New, stage)]),
        (false, _, _) => (Decision::Run, changed),
    }
}

/// Compares a saved plan with what would happen now; one line per difference.
pub fn differences(saved: &Plan, now: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    if saved.pipeline != now.pipeline {
        lines.push(format!("it is of `{}`, not of `{}`", saved.pipeline, now.pipeline));
    }
    if saved.overrides != now.overrides {
        lines.push(format!("it was made with {:?}, not with {:?}", saved.overrides, now.overrides));
    }
    let rows = |plan: &Plan| -> BTreeMap<String, PlanRow> {
        plan.stages.iter().map(|r| (r.name.clone(), r.clone())).collect()
    };
    let (before, mut after) = (rows(saved), rows(now));
    for (name, old) in before {
        match after.remove(&name) {
            None => lines.push(format!("`{name}` is not selected any more")),
            Some(new) if new.decision != old.decision => {
                lines.push(format!("`{name}`: {} is now {}", old.decision.name(), new.decision.name()));
            }
            Some(new) if new.key != old.key => lines.push(format!("`{name}` has another key")),
            Some(_) => {}
        }
    }
    lines.extend(after.into_keys().map(|name| format!("`{name}` is new")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            forced: None,
            executed: true,
            misplaced: vec![],
            stored: true,
            effect: None,
            changes: Changes::Leaves(vec![]),
        }
    }

    fn kinds(facts: Facts) -> (Decision, Vec<ReasonKind>) {
        let (decision, reasons) = decide(facts, "s");
        (decision, reasons.into_iter().map(|r| r.kind).collect())
    }

    #[test]
    fn a_plan_saved_by_an_older_version_still_loads() {
        let old = r#"{"pipeline": "pipeline.yaml", "overrides": [], "stages": [], "seconds": null}"#;
        let plan: Plan = serde_json::from_str(old).unwrap();
        assert_eq!((plan.unknown, plan.critical_path.len()), (0, 0));
        assert_eq!(differences(&plan, &plan), [""; 0]);
    }

    #[test]
    fn each_combination_of_facts_has_its_decision_and_reason() {
        use ReasonKind::{Effect, Forced, New, Output, Param};
        let param = || Changes::Leaves(vec![Reason::plain(Param, "p")]);
        let missing = || vec![Reason::plain(Output, "o")];
        assert_eq!(kinds(facts()), (Decision::Fresh, vec![]));
        assert_eq!(kinds(Facts { forced: Some("--force"), ..facts() }), (Decision::Run, vec![Forced]));
        assert_eq!(kinds(Facts { misplaced: missing(), ..facts() }), (Decision::Restore, vec![Output]));
        assert_eq!(
            kinds(Facts { misplaced: missing(), changes: param(), ..facts() }),
            (Decision::Restore, vec![Param])
        );
        assert_eq!(kinds(Facts { misplaced: missing(), stored: false, ..facts() }), (Decision::Run, vec![Output]));
        assert_eq!(
            kinds(Facts { changes: param(), ..facts() }),
            (Decision::Fresh, vec![]),
            "equal work of another config"
        );
        assert_eq!(kinds(Facts { executed: false, changes: param(), ..facts() }), (Decision::Run, vec![Param]));
        assert_eq!(kinds(Facts { executed: false, changes: Changes::Never, ..facts() }), (Decision::Run, vec![New]));
        let effect = |state| Facts { executed: false, effect: Some(state), ..facts() };
        assert_eq!(kinds(effect(EffectState::Current)), (Decision::Fresh, vec![]));
        assert_eq!(kinds(effect(EffectState::Other)), (Decision::Run, vec![Effect]));
        assert_eq!(kinds(Facts { changes: param(), ..effect(EffectState::Other) }), (Decision::Run, vec![Param]));
        assert_eq!(kinds(effect(EffectState::Unreachable("no route".into()))), (Decision::Run, vec![Effect]));
    }
}
