//! Makes the key of a stage and decides: fresh, restore or run, with every leaf that says why.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Gathered, Lack, Survey, Verdict, declared};
use crate::digest::Digest;
use crate::error::EngineError;
use crate::event::{Decision, Reason, ReasonKind};
use crate::index::{ActionResult, ResultOutput};
use crate::key::{self, KeyRecord};
use crate::manifest::{FileFact, Manifest};
use crate::plan::{self, Changes, EffectState, Facts};
use crate::runlog::{self, ActionEntry};
use crate::shell;
use crate::snapshot::{Rests, State};
use crate::spec::StageSpec;

/// How many files a changed directory lists as reasons.
const MOST_FILE_REASONS: usize = 20;

impl Survey<'_> {
    /// Decides about a stage all of whose upstream stages are known.
    ///
    /// # Errors
    /// Inputs are missing or unreadable; a tool fails; an effect is configured wrongly.
    pub fn decide(&mut self, index: usize) -> Result<Verdict, Lack> {
        let stage = self.stage(index);
        if stage.policy.frozen {
            return self.decide_frozen(index);
        }
        let mut inputs = self.gather(index)?;
        let parent = self.parent(index).unwrap_or(index);
        let mut record = self.prepared[parent].record(stage);
        record.inputs.clone_from(&inputs.slots);
        record.env = stage.env.iter().map(|name| (name.clone(), self.env.get(name).cloned())).collect();
        for tool in &stage.tools {
            record.tools.insert(tool.clone(), self.tool(tool, &stage.name)?);
        }
        let effect = self.made(index).and_then(|made| made.stage.effect());
        if let Some(effect) = effect {
            let wrong = |e: anyhow::Error| EngineError::Effect { stage: stage.name.clone(), why: format!("{e:#}") };
            record.effect = Some(effect.target(self.env).map_err(wrong)?);
        }
        let key = record.key();
        let result = self.index.get(&key).filter(|result| fits(result, stage));
        let mut manifests = BTreeMap::new();
        let misplaced = match &result {
            Some(result) => self.misplaced(index, &result.outputs, &mut manifests, &mut inputs.places)?,
            None => stage
                .outputs
                .values()
                .map(|o| Reason::plain(ReasonKind::Output, declared(&o.path, o.directory)))
                .collect(),
        };
        let forced = self.forced[index];
        if forced.is_none() && effect.is_none() && result.is_some() && misplaced.is_empty() {
            let record = Arc::new(record);
            let (decision, reasons) = (Decision::Fresh, Vec::new());
            return Ok(Verdict { decision, reasons, key, record, inputs, result, manifests, before: None });
        }
        let last = self.last_action(&stage.name);
        let facts = Facts {
            forced,
            executed: result.is_some(),
            misplaced,
            stored: result.as_ref().is_some_and(|result| self.holds(&result.outputs)),
            effect: effect.map(|effect| match effect.is_current(&key, self.env) {
                Ok(true) => EffectState::Current,
                Ok(false) => EffectState::Other,
                Err(e) => EffectState::Unreachable(format!("{e:#}")),
            }),
            changes: match &last {
                Some(last) => Changes::Leaves(self.leaves(&last.record, &record, &inputs)),
                None => Changes::Never,
            },
        };
        let (decision, reasons) = plan::decide(facts, &stage.name);
        let before = last.map(|last| last.outputs.into_iter().map(|(slot, o)| (slot, o.digest)).collect());
        Ok(Verdict { decision, reasons, key, record: Arc::new(record), inputs, result, manifests, before })
    }

    /// A frozen stage is never run: its outputs are what the lock file says, or come from the store.
    fn decide_frozen(&mut self, index: usize) -> Result<Verdict, Lack> {
        let spec = self.spec;
        let stage = &spec.stages[index];
        let frozen = |why: String| Lack::Other(EngineError::Frozen { stage: stage.name.clone(), why });
        let Some(locked) = self.lock.stages.get(&stage.name).cloned() else {
            return Err(frozen("the lock file has no entry for it".to_owned()));
        };
        let output = |o: &crate::history::OutputRecord| ResultOutput {
            fact: FileFact { digest: o.digest, size: o.size, executable: o.executable },
            directory: o.is_directory(),
        };
        let outputs: BTreeMap<String, ResultOutput> =
            locked.outputs.iter().map(|(s, o)| (s.clone(), output(o))).collect();
        let known = self.index.action_of(&self.pipeline, &stage.name, &locked.key);
        let action = known.and_then(|at| runlog::action_at(&self.cache, at).ok());
        let record = action.map_or_else(|| self.prepared[index].record(stage), |action| action.record);
        let result = ActionResult { at: known.unwrap_or(u64::MAX), seconds: 0.0, outputs };
        if !fits(&result, stage) {
            return Err(frozen("its output slots are not those of the lock file".to_owned()));
        }
        let mut manifests = BTreeMap::new();
        let mut inputs = Gathered::default();
        let reasons = self.misplaced(index, &result.outputs, &mut manifests, &mut inputs.places)?;
        let decision = match reasons.first() {
            None => Decision::Fresh,
            Some(_) if self.holds(&result.outputs) => Decision::Restore,
            Some(reason) => return Err(frozen(format!("`{}` is not what the lock file says", reason.subject))),
        };
        let (key, record) = (locked.key, Arc::new(record));
        Ok(Verdict { decision, reasons, key, record, inputs, result: Some(result), manifests, before: None })
    }

    /// Returns a reason for each output that is not on disk as `outputs` says.
    fn misplaced(
        &mut self,
        index: usize,
        outputs: &BTreeMap<String, ResultOutput>,
        manifests: &mut BTreeMap<String, Arc<Manifest>>,
        listed: &mut Rests,
    ) -> Result<Vec<Reason>, EngineError> {
        let mut reasons = Vec::new();
        for (slot, output) in &self.stage(index).outputs {
            let wanted = &outputs[slot];
            let (matches, now) = if output.directory {
                let folder = self.places.directory(&mut self.memo, &output.path.path)?;
                let digest = folder.as_ref().map(|folder| folder.manifest.digest());
                if let Some(folder) = folder.filter(|_| digest == Some(wanted.fact.digest)) {
                    manifests.insert(slot.clone(), Arc::new(folder.manifest));
                    listed.push((output.path.path.clone(), State::Tree(folder.listing)));
                }
                (digest == Some(wanted.fact.digest), digest)
            } else {
                let fact = self.places.file(&mut self.memo, &output.path.path)?;
                (fact == Some(wanted.fact), fact.map(|fact| fact.digest))
            };
            if !matches {
                let new = now.map_or(serde_json::Value::Null, |digest| digest.to_string().into());
                let subject = declared(&output.path, output.directory);
                let old = wanted.fact.digest.to_string().into();
                reasons.push(Reason { kind: ReasonKind::Output, subject, old, new });
            }
        }
        Ok(reasons)
    }

    fn holds(&self, outputs: &BTreeMap<String, ResultOutput>) -> bool {
        outputs.values().all(|output| match output.directory {
            true => self.store.holds_directory(&output.fact.digest),
            false => self.store.holds(&output.fact.digest, output.fact.size),
        })
    }

    /// Returns the last executed action of a stage.
    pub fn last_action(&self, stage: &str) -> Option<ActionEntry> {
        let at = self.index.last_action(&self.pipeline, stage)?;
        runlog::action_at(&self.cache, at).ok()
    }

    /// Compares records; a changed directory is told file by file where its old manifest is still stored.
    fn leaves(&self, old: &KeyRecord, new: &KeyRecord, inputs: &Gathered) -> Vec<Reason> {
        let mut reasons = Vec::new();
        for reason in key::reasons(old, new) {
            let files = (reason.kind == ReasonKind::Input && reason.subject.ends_with('/'))
                .then(|| self.file_reasons(&reason, inputs))
                .flatten();
            match files {
                Some(files) => reasons.extend(files),
                None => reasons.push(reason),
            }
        }
        reasons
    }

    fn file_reasons(&self, reason: &Reason, inputs: &Gathered) -> Option<Vec<Reason>> {
        let digest = |value: &serde_json::Value| value.as_str().and_then(|text| text.parse::<Digest>().ok());
        let (old, new) = (digest(&reason.old)?, digest(&reason.new)?);
        let old = self.store.manifest(&old).ok()?;
        let gathered = inputs.manifests.iter().find(|m| m.digest() == new).cloned();
        let new = gathered.or_else(|| {
            let known = self.known.iter().flatten().flat_map(|known| known.manifests.values());
            known.into_iter().find(|m| m.digest() == new).map(|m| Manifest::clone(m))
        });
        let new = match new {
            Some(new) => new,
            None => self.store.manifest(&digest(&reason.new)?).ok()?,
        };
        let differences = old.differences(&new);
        let more = differences.len().saturating_sub(MOST_FILE_REASONS);
        let value = |digest: Option<Digest>| digest.map_or(serde_json::Value::Null, |d| d.to_string().into());
        let mut reasons: Vec<Reason> = differences
            .into_iter()
            .take(MOST_FILE_REASONS)
            .map(|(path, old, new)| Reason {
                kind: ReasonKind::Input,
                subject: format!("{}{path}", reason.subject),
                old: value(old),
                new: value(new),
            })
            .collect();
        if more > 0 {
            reasons.push(Reason::plain(ReasonKind::Input, format!("{} and {more} more files", reason.subject)));
        }
        (!reasons.is_empty()).then_some(reasons)
    }

    fn tool(&mut self, tool: &str, stage: &str) -> Result<String, EngineError> {
        if let Some(output) = self.tools.get(tool) {
            return Ok(output.clone());
        }
        let path = self.env.get("PATH").map(String::as_str);
        let output = shell::output_of(tool, self.places.root(), self.places.root(), path)
            .map_err(|why| EngineError::Tool { tool: tool.to_owned(), stage: stage.to_owned(), why })?;
        self.tools.insert(tool.to_owned(), output.clone());
        Ok(output)
    }
}

/// Returns whether a result has just the output slots of a stage, of the same sort.
pub(super) fn fits(result: &ActionResult, stage: &StageSpec) -> bool {
    result.outputs.len() == stage.outputs.len()
        && stage.outputs.iter().all(|(slot, o)| result.outputs.get(slot).is_some_and(|r| r.directory == o.directory))
}
