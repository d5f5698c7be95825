//! What would happen: a row for each stage and item, in an order it could happen in.

use std::collections::BTreeMap;

use super::Survey;
use crate::digest::Digest;
use crate::error::EngineError;
use crate::event::{Decision, Reason, ReasonKind};
use crate::map::is_collector;
use crate::plan::PlanRow;

impl Survey<'_> {
    /// Says what would happen to the selected stages, in an order it could happen in.
    ///
    /// # Errors
    /// As [`Survey::decide`].
    pub fn plan(&mut self, selected: &[bool]) -> Result<Vec<PlanRow>, EngineError> {
        let (spec, wiring) = (self.spec, self.wiring);
        let mut rows = Vec::new();
        for &index in wiring.order.iter().filter(|index| selected[**index]) {
            let stage = &spec.stages[index];
            if let Some(unit) = self.fresh_unit(index) {
                let items = self.fresh_items(index);
                let actions = if is_collector(stage) { items } else { vec![unit] };
                rows.extend(actions.into_iter().map(|unit| PlanRow {
                    name: unit.name.to_owned(),
                    decision: Decision::Fresh,
                    reasons: Vec::new(),
                    key: Some(Digest::from(unit.key)),
                    seconds: None,
                }));
                continue;
            }
            let seconds = self.index.last_seconds(&self.pipeline, &stage.name);
            let waits: Vec<Reason> = wiring.data[index]
                .iter()
                .filter(|upstream| self.known[**upstream].is_none() && !self.is_fresh(**upstream))
                .map(|upstream| Reason::plain(ReasonKind::Upstream, &*spec.stages[*upstream].name))
                .collect();
            if !waits.is_empty() && !stage.policy.frozen {
                let forced = self.forced[index].map(|by| Reason::plain(ReasonKind::Forced, by));
                let decision = if forced.is_some() { Decision::Run } else { Decision::Waits };
                let reasons = forced.into_iter().chain(waits).collect();
                rows.push(PlanRow { name: stage.name.clone(), decision, reasons, key: None, seconds });
                continue;
            }
            if is_collector(stage) {
                self.plan_items(index, &mut rows)?;
                continue;
            }
            rows.push(self.plan_one(index)?);
        }
        Ok(rows)
    }

    /// Decides about a stage or item, takes its outputs as known if they are, and says what would happen to it.
    pub(super) fn plan_one(&mut self, index: usize) -> Result<PlanRow, EngineError> {
        let name = &self.stage(index).name;
        let seconds = self.index.last_seconds(&self.pipeline, name);
        let verdict = self.decide(index)?;
        let row = PlanRow {
            name: name.clone(),
            decision: verdict.decision,
            reasons: verdict.reasons,
            key: Some(verdict.key),
            seconds: verdict.result.as_ref().map(|result| result.seconds).or(seconds),
        };
        if let (Decision::Fresh | Decision::Restore, Some(result)) = (verdict.decision, verdict.result) {
            self.settle(index, verdict.key, verdict.record, result.outputs, verdict.manifests);
        } else if verdict.decision == Decision::Fresh {
            // An effect whose target holds the key though this cache never ran it: it has no stored outputs.
            self.settle(index, verdict.key, verdict.record, BTreeMap::new(), BTreeMap::new());
        }
        Ok(row)
    }
}
