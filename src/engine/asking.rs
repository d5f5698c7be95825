//! Lineage questions to a project: its records are enough, the pipeline file is not read.

use crate::bundle::Bundle;
use crate::error::EngineError;
use crate::lineage::Lineage;
use crate::project::Project;
use crate::questions::{self, Question};
use crate::records::{History, RunRecords, States};

impl Project {
    /// As [`crate::engine::Engine::bundle`].
    ///
    /// # Errors
    /// Unknown run; records cannot be read.
    pub fn bundle(&self, run: &str) -> Result<Bundle, EngineError> {
        let history = History::open(&self.root, &self.cache())?;
        let run = history.find(run)?;
        Bundle::of(&history, run)
    }

    /// As [`crate::engine::Engine::lineage`].
    ///
    /// # Errors
    /// Nothing recorded produced it; unknown run.
    pub fn lineage(&self, target: &str, run: Option<&str>) -> Result<Lineage, EngineError> {
        let history = History::open(&self.root, &self.cache())?;
        let entry = match run {
            Some(run) => Some(history.find(run)?),
            None => history.last_of(&self.file_name())?,
        };
        let records = RunRecords::of(&history, entry.as_ref())?;
        let question = Question { state: &records, root: &self.root, past: run.is_some() };
        let mut document = question.lineage(target)?;
        document.as_of = entry.map(|entry| entry.info.run);
        Ok(document)
    }

    /// As [`crate::engine::Engine::impact`].
    ///
    /// # Errors
    /// Nothing recorded read or produced it; unknown run.
    pub fn impact(&self, target: &str, run: Option<&str>) -> Result<Lineage, EngineError> {
        let history = History::open(&self.root, &self.cache())?;
        let mut runs = Vec::new();
        match run {
            Some(run) => runs.push(history.find(run)?),
            None => {
                for pipeline in history.index.last_runs().keys() {
                    runs.extend(history.last_of(pipeline)?);
                }
            }
        }
        let own = self.file_name();
        let state = runs.iter().find(|entry| run.is_some() || entry.info.pipeline == own);
        let records = RunRecords::of(&history, state)?;
        let question = Question { state: &records, root: &self.root, past: run.is_some() };
        let name = questions::relative(&self.root, questions::parts(target).0);
        // A path is that path whatever lies there now; anything else is found by its content.
        let here = States::of(&history, &runs)?;
        match questions::impact(&here, target, &name) {
            Ok(mut document) => {
                document.as_of = run.and(state).map(|entry| entry.info.run.clone());
                return Ok(document);
            }
            Err(EngineError::NoRecord { .. }) => {}
            Err(error) => return Err(error),
        }
        let found = question.find(target)?;
        // What is none of this pipeline's may be another's, as it is now.
        let now = here.gave(&found.digest)?;
        let (there, as_of, note) = match found.elsewhere.as_deref().filter(|_| run.is_none() && !now) {
            Some(run) => {
                let note =
                    format!("its content is not the current one: this is as of run {run}, which made or read it");
                (States::of(&history, &[history.find(run)?])?, Some(run.to_owned()), Some(note))
            }
            None => (here, run.and(state).map(|entry| entry.info.run.clone()), None),
        };
        let mut document = questions::impact(&there, target, &found.path)?;
        document.as_of = as_of;
        document.notes = found.notes.into_iter().chain(note).collect();
        Ok(document)
    }
}
