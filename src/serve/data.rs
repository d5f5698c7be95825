//! What is asked of the project.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::anyhow;
use logweir_engine::critical::{critical_path, dependencies};
use logweir_engine::draw::{Edge, Node, Picture};
use logweir_engine::engine::Engine;
use logweir_engine::history::RunDetail;
use serde_json::{Value, json};

use super::alerts::Table;
use super::answer::Answers;
use crate::cli::Global;
use crate::commands::{diff, explain, history, metrics, open};
use crate::render::diagnostic::Failure;
use crate::render::text;

/// Beyond this many boxes a picture is not drawn: nobody could read it.
const DRAWN: usize = 400;

/// A project that is asked.
pub(super) struct Data {
    global: Global,
    root: PathBuf,
    engine: Mutex<Opened>,
    pub(super) answers: Answers,
    pub(super) alerts: Table,
    /// Explanations load models: one at a time.
    explaining: Mutex<()>,
}

/// The pipeline as it was last read.
struct Opened {
    engine: Arc<Engine>,
    file: Option<(SystemTime, u64)>,
    /// What is wrong with the pipeline file now; the one before is used on.
    trouble: Option<String>,
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let meta = path.metadata().ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

impl Data {
    pub(super) fn new(global: Global, engine: Engine) -> Self {
        let root = engine.project().root().to_path_buf();
        let file = stamp(engine.project().file());
        let engine = Mutex::new(Opened { engine: Arc::new(engine), file, trouble: None });
        let (answers, alerts, explaining) = Default::default();
        Self { global, root, engine, answers, alerts, explaining }
    }

    /// The project folder.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The run log.
    pub(super) fn log(&self) -> PathBuf {
        self.root.join("cache/runlog.jsonl")
    }

    /// A number that differs where answers may.
    pub(super) fn state(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        stamp(&self.log()).hash(&mut hasher);
        self.global.file.as_deref().and_then(stamp).hash(&mut hasher);
        hasher.finish()
    }

    /// The engine of the pipeline as it is now, or as it was before it had errors.
    pub(super) fn engine(&self) -> Arc<Engine> {
        let mut opened = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        let file = stamp(opened.engine.project().file());
        if file != opened.file {
            opened.file = file;
            match open(&self.global) {
                Ok(engine) => (opened.engine, opened.trouble) = (Arc::new(engine), None),
                Err(failure) => {
                    let said = failure.to_json().and_then(|said| Some(said["message"].as_str()?.to_owned()));
                    opened.trouble = Some(said.unwrap_or_else(|| "it cannot be read".to_owned()));
                }
            }
        }
        Arc::clone(&opened.engine)
    }

    /// Whether something runs now.
    pub(super) fn is_busy(&self) -> bool {
        self.engine.lock().is_ok_and(|opened| opened.engine.project().is_busy().unwrap_or(false))
    }

    /// The project in short.
    pub(super) fn overview(&self) -> Result<Value, Failure> {
        let engine = self.engine();
        let trouble = self.engine.lock().ok().and_then(|opened| opened.trouble.clone());
        let runs = engine.runs()?;
        Ok(json!({
            "name": engine.spec().name,
            "folder": self.root.file_name().map(|name| name.to_string_lossy()),
            "pipeline": engine.project().file_name(),
            "program": env!("CARGO_PKG_VERSION"),
            "runs": runs.len(),
            "last": runs.last(),
            "busy": self.is_busy(),
            "trouble": trouble,
            "report": self.root.join("reports/index.html").is_file(),
        }))
    }

    pub(super) fn runs(&self, limit: usize) -> Result<Value, Failure> {
        history::runs_document(&self.engine(), limit)
    }

    /// A run by its id, a beginning of it, `last`; without one, the last of this pipeline.
    pub(super) fn detail(&self, engine: &Engine, run: Option<&str>) -> Result<RunDetail, Failure> {
        if let Some(run) = run {
            return history::in_order(engine, run);
        }
        let here = engine.project().file_name();
        let last = engine.runs()?.into_iter().rev().find(|run| run.pipeline == here);
        history::in_order(engine, last.as_ref().map_or("last", |run| &run.run))
    }

    pub(super) fn show(&self, run: &str) -> Result<Value, Failure> {
        let engine = self.engine();
        history::document(&self.detail(&engine, Some(run))?)
    }

    /// The stages of a run as a picture, with their times and the critical path.
    pub(super) fn graph(&self, run: &str) -> Result<Value, Failure> {
        let engine = self.engine();
        let detail = self.detail(&engine, Some(run))?;
        let edges = dependencies(&detail);
        let mut stages: Vec<usize> = (0..detail.stages.len()).collect();
        let mut folded = 0;
        if stages.len() > DRAWN {
            // Actions of a matrix or a map are many alike: their stages are left.
            stages.retain(|stage| !detail.stages[*stage].stage.contains('['));
            folded = detail.stages.len() - stages.len();
        }
        if stages.len() > DRAWN || stages.is_empty() {
            return Ok(json!({"too_large": detail.stages.len()}));
        }
        let name = |stage: usize| detail.stages[stage].stage.clone();
        let node = |stage: &usize| {
            let outcome = &detail.stages[*stage];
            let took = outcome.seconds.map(|seconds| format!("\n{}", text::seconds(seconds))).unwrap_or_default();
            Node {
                id: name(*stage),
                label: format!("{}{took}", name(*stage)),
                class: outcome.decision.name().to_owned(),
            }
        };
        let edge = |(from, to): &(usize, usize)| Edge { from: name(*from), to: name(*to), order_only: false };
        let picture = Picture { nodes: stages.iter().map(node).collect(), edges: edges.iter().map(edge).collect() };
        let mut layout = picture.layout();
        layout["critical"] = json!(critical_path(&detail));
        layout["folded"] = folded.into();
        Ok(layout)
    }

    pub(super) fn metrics(&self, runs: usize, patterns: &[String]) -> Result<Value, Failure> {
        metrics::series_document(&self.global, &self.engine(), runs, patterns)
    }

    pub(super) fn diff(&self, from: &str, to: &str) -> Result<Value, Failure> {
        let found = diff::compared(&self.global, &self.engine(), from, to)?;
        serde_json::to_value(&found).map_err(|e| Failure::bug(e.to_string()))
    }

    /// Everything that produced a target, or with `down` came from it; `layout` says where to draw what.
    pub(super) fn lineage(&self, target: &str, run: Option<&str>, down: bool) -> Result<Value, Failure> {
        let target = self.inside(target)?;
        let engine = self.engine();
        let found = if down { engine.impact(target, run)? } else { engine.lineage(target, run)? };
        let mut document = serde_json::to_value(&found).map_err(|e| Failure::bug(e.to_string()))?;
        if found.nodes.len() <= DRAWN {
            document["layout"] = found.picture().layout();
        }
        Ok(document)
    }

    pub(super) fn session(&self, id: &str, run: Option<&str>) -> Result<Value, Failure> {
        let engine = self.engine();
        let run = self.detail(&engine, run)?.info.run;
        let _one = self.explaining.lock().unwrap_or_else(PoisonError::into_inner);
        explain::document(&engine, Some(&run), id)
    }

    /// A target of lineage that names nothing outside of the project and its roots: a command may look at any file of its
    /// user's, a web page may not.
    fn inside<'t>(&self, target: &'t str) -> Result<&'t str, Failure> {
        let refuse = || {
            Failure::usage(anyhow!("`{target}` lies outside of the project"))
                .help("name a path in the project, `root:path`, a digest or a key")
        };
        let (path, pointer) = target.split_once('#').map_or((target, None), |(path, rest)| (path, Some(rest)));
        let plain = path.trim_start_matches("lineage:");
        let plain = plain.split_once(':').map_or(plain, |(_, rest)| rest);
        if !is_relative(plain) {
            return Err(refuse());
        }
        // What a link leads to outside may be a source; its content is not handed out.
        let real = self.root.join(plain).canonicalize();
        if pointer.is_some() && real.is_ok_and(|real| !real.starts_with(&self.root)) {
            return Err(refuse());
        }
        Ok(target)
    }
}

/// Whether a path goes down only.
pub(super) fn is_relative(path: &str) -> bool {
    !path.contains(['\\', '\0'])
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

#[cfg(test)]
mod tests {
    use super::is_relative;

    #[test]
    fn paths_go_down_only() {
        for good in ["reports/metrics.json", "data/features/", "a", ""] {
            assert!(is_relative(good), "{good}");
        }
        for bad in ["/etc/passwd", "../x", "a/../../x", "a\\..\\x", "a\0b", "//x"] {
            assert!(!is_relative(bad), "{bad}");
        }
    }
}
