//! One run from its first event to its last line: chooses how it is shown, keeps what the end has to say, and says it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use logweir_engine::critical::CriticalPath;
use logweir_engine::engine::{Engine, RunOptions, RunSummary};
use logweir_engine::event::{Decision, Event, Sink};
use logweir_engine::history::RunInfo;
use logweir_engine::quick::Glance;
use logweir_engine::spec::OpenLineage;

use crate::commands::{Outcome, environment};
use crate::emit::Emitter;
use crate::render::board::NAME_WIDTH;
use crate::render::json::JsonLines;
use crate::render::live::{Foresee, Live};
use crate::render::progress::Lines;
use crate::render::summary::{self, Counts, Ending};
use crate::render::{self, Screen, to_stderr};
use crate::trail::Trail;

/// The page people look at first, when a pipeline makes one.
const FRONT_PAGE: &str = "reports/index.html";

/// Runs, shows it happening, and says how it ended; returns the exit code. `glance` is what a look at the files alone found.
pub(super) fn carry_out(follower: Follower<'_>, engine: &Arc<Engine>, glance: Option<Box<Glance<'_>>>) -> Outcome {
    follower.engine.replace(Some(Arc::clone(engine)));
    follower.trail.replace(Some(Trail::new(engine.project().root())));
    if let Some(settings) = &engine.spec().openlineage {
        follower.tell(settings, engine.project().root());
    }
    let summary = engine.run_after(glance, follower.options, &follower, follower.cancel)?;
    Ok(follower.conclude(&summary))
}

/// The front page, if a stage of this pipeline writes it and it is there.
fn front_page(engine: &Engine) -> Option<String> {
    let written = engine.spec().stages.iter().any(|s| s.outputs.values().any(|o| o.path.path == FRONT_PAGE));
    let page = engine.project().root().join(Path::new(FRONT_PAGE));
    (written && page.is_file()).then(|| page.display().to_string())
}

/// How a run is shown.
enum Shown {
    Json(JsonLines),
    Live(Live),
    Lines(Lines),
}

/// What the end of a run needs to know of it.
#[derive(Default)]
struct Told {
    /// Seconds of each stage executed or restored.
    took: BTreeMap<String, f64>,
    /// Failed stages and their log files.
    failed: Vec<(String, Option<String>)>,
    jobs: usize,
}

/// Shows a run once it begins: a run that is refused shows nothing but the refusal.
pub(super) struct Follower<'a> {
    /// Not there for a run with nothing to do, which needs none.
    engine: RefCell<Option<Arc<Engine>>>,
    options: &'a RunOptions,
    screen: &'a Screen,
    cancel: &'a Arc<AtomicBool>,
    shown: RefCell<Option<Shown>>,
    told: RefCell<Told>,
    emitter: RefCell<Option<Emitter>>,
    /// Not there for a run with nothing to do.
    trail: RefCell<Option<Trail>>,
}

impl<'a> Follower<'a> {
    pub(super) fn new(options: &'a RunOptions, screen: &'a Screen, cancel: &'a Arc<AtomicBool>) -> Self {
        let (engine, shown, told, emitter, trail) = Default::default();
        Self { engine, options, screen, cancel, shown, told, emitter, trail }
    }

    /// Begins to tell a receiver of what happens.
    fn tell(&self, settings: &OpenLineage, root: &Path) {
        let key = settings.api_key_env.as_ref().and_then(|name| environment().remove(name));
        self.emitter.replace(Some(Emitter::start(settings, key, root)));
    }

    /// Tells a receiver of a run that had nothing to do.
    pub(super) fn tell_of(&self, summary: &RunSummary, settings: &OpenLineage, root: &Path) {
        self.tell(settings, root);
        let RunInfo { run, pipeline, executed, restored, fresh, failed, skipped, seconds, .. } = summary.info.clone();
        let jobs = self.told.borrow().jobs;
        let started = Event::RunStarted { run: run.clone(), pipeline, stages: fresh, jobs };
        let finished = Event::RunFinished { run, executed, restored, fresh, failed, skipped, seconds };
        if let Some(emitter) = &*self.emitter.borrow() {
            emitter.event(&started);
            emitter.event(&finished);
        }
    }

    fn begin(&self) -> Shown {
        match self.screen {
            screen if screen.json => Shown::Json(JsonLines::default()),
            screen if screen.bars => {
                let engine = self.engine.borrow().clone();
                let names = engine.iter().flat_map(|engine| &engine.spec().stages);
                let width = names.map(|stage| stage.name.chars().count()).max().unwrap_or(0).min(NAME_WIDTH);
                let options = self.options.clone();
                let foresee: Foresee = Box::new(move || engine?.forecast(&options.targets, options.jobs).ok());
                Shown::Live(Live::new(*screen, width, foresee, Arc::clone(self.cancel)))
            }
            screen => Shown::Lines(Lines::new(*screen)),
        }
    }

    fn critical_path(&self, took: &BTreeMap<String, f64>) -> CriticalPath {
        self.engine.borrow().as_ref().map(|engine| engine.critical_path(took)).unwrap_or_default()
    }

    /// Says how the run ended; returns the exit code.
    pub(super) fn conclude(self, summary: &RunSummary) -> u8 {
        // What was drawn is removed before anything else is said.
        self.shown.take();
        let Told { took, failed, jobs } = self.told.take();
        let info = &summary.info;
        let counts = Counts {
            executed: info.executed,
            restored: info.restored,
            fresh: info.fresh,
            failed: info.failed,
            skipped: info.skipped,
            seconds: info.seconds,
        };
        let ending = Ending {
            counts,
            run: info.run.clone(),
            interrupted: info.interrupted,
            jobs,
            path: self.critical_path(&took),
            failed,
            page: self.engine.borrow().as_ref().filter(|_| summary.exit_code() == 0).and_then(|e| front_page(e)),
        };
        if let Some(text) = self.emitter.take().and_then(Emitter::finish) {
            to_stderr(&format!("{} {text}\n", self.screen.err.yellow("warning:")));
        }
        if !self.screen.json {
            for line in summary::of(&ending, render::size().1, self.screen.err) {
                self.screen.note(&line);
            }
        }
        summary.exit_code()
    }
}

impl Sink for Follower<'_> {
    fn event(&self, event: &Event) {
        if let Some(emitter) = &*self.emitter.borrow() {
            emitter.event(event);
        }
        if let Some(trail) = &*self.trail.borrow() {
            trail.event(event);
        }
        let mut told = self.told.borrow_mut();
        match event {
            Event::RunStarted { jobs, .. } => told.jobs = *jobs,
            Event::StageFinished { stage, seconds, decision, .. } if *decision != Decision::Fresh => {
                told.took.insert(stage.clone(), *seconds);
            }
            Event::StageFailed { stage, log_file, retry: false, .. } => {
                told.failed.push((stage.clone(), log_file.clone()));
            }
            _ => {}
        }
        match (self.shown.borrow_mut().get_or_insert_with(|| self.begin()), event) {
            (Shown::Json(json), Event::RunFinished { .. }) => {
                json.finish(event, &self.critical_path(&told.took));
            }
            (Shown::Json(json), _) => json.event(event),
            (Shown::Live(live), _) => live.event(event),
            (Shown::Lines(lines), _) => lines.event(event),
        }
    }
}
