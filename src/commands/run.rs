//! `run`: brings stages up to date and shows it happening.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use logweir_engine::engine::{Engine, PlanOptions, Project, RunOptions};
use logweir_engine::event::{Event, Sink};
use logweir_engine::quick::{self, Quick};
use logweir_engine::records::History;

use crate::cli::{Global, RunArgs};
use crate::commands::{Outcome, limit_polars, open, plan, with_reading};
use crate::render::diagnostic::Failure;
use crate::render::json::JsonLines;
use crate::render::progress::{Bars, Lines};
use crate::render::summary::{self, Counts};
use crate::render::{Screen, to_stderr};

/// The page people look at first, when a pipeline makes one.
const FRONT_PAGE: &str = "reports/index.html";

pub(super) fn run(global: &Global, args: &RunArgs, screen: &Screen) -> Outcome {
    limit_polars(args.jobs);
    let jobs = args.jobs.map_or(0, std::num::NonZero::get);
    let plan_file = args.plan.as_ref().map(std::path::absolute).transpose().map_err(Failure::environment)?;
    if args.dry_run {
        let (targets, force) = (args.targets.clone(), args.force.clone());
        let planning = PlanOptions { targets, force, rehash: args.rehash, jobs };
        return plan::show(&open(global)?.plan(&planning)?, screen);
    }
    let options = RunOptions {
        targets: args.targets.clone(),
        force: args.force.clone(),
        rehash: args.rehash,
        jobs,
        keep_going: args.keep_going,
        plan_file,
    };
    let cancel = stop_on_signal(*screen)?;
    let (summary, page) = with_reading(global, |reading| {
        let watcher = Watcher::new(reading.project, screen);
        // Nothing to do is found out without the pipeline.
        let snapshot = quick::snapshot_of(reading);
        let glance = match quick::run(&snapshot, reading, &options, &watcher)? {
            Quick::Done(summary) => return Ok((*summary, None)),
            Quick::Whole(glance) => glance,
        };
        let engine = Engine::open(reading)?;
        let summary = engine.run_after(glance, &options, &watcher, &cancel)?;
        let page = front_page(&engine);
        // The process is about to end: ten thousand stages need not be taken apart first.
        std::mem::forget(engine);
        Ok((summary, page))
    })?;
    let info = &summary.info;
    let counts = Counts {
        executed: info.executed,
        restored: info.restored,
        fresh: info.fresh,
        failed: info.failed,
        skipped: info.skipped,
        seconds: info.seconds,
    };
    screen.note(&summary::of(&counts, &info.run, info.interrupted, screen.err));
    if summary.exit_code() == 0
        && let Some(page) = page
    {
        screen.note(&format!("look at {}", screen.err.bold(&page)));
    }
    Ok(summary.exit_code())
}

/// The front page, if a stage of this pipeline writes it and it is there.
fn front_page(engine: &Engine) -> Option<String> {
    let written = engine.spec().stages.iter().any(|s| s.outputs.values().any(|o| o.path.to_string() == FRONT_PAGE));
    let page = engine.project().root().join(Path::new(FRONT_PAGE));
    (written && page.is_file()).then(|| page.display().to_string())
}

/// Ctrl-C (or a termination signal) once stops cleanly, twice at once.
fn stop_on_signal(screen: Screen) -> Result<Arc<AtomicBool>, Failure> {
    let cancel = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&cancel);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            #[expect(clippy::disallowed_methods, reason = "asked for twice: not even destructors are waited for")]
            std::process::exit(130);
        }
        if !screen.json {
            to_stderr("\nstopping; what is finished is kept (again to stop at once)\n");
        }
    })
    .map_err(|e| Failure::environment(anyhow::Error::new(e).context("cannot catch signals")))?;
    Ok(cancel)
}

/// Chooses how a run is shown once it begins: a run that is refused shows nothing but the refusal.
struct Watcher<'a> {
    project: &'a Project,
    screen: &'a Screen,
    shown: RefCell<Option<Box<dyn Sink + 'a>>>,
}

impl<'a> Watcher<'a> {
    fn new(project: &'a Project, screen: &'a Screen) -> Self {
        Self { project, screen, shown: RefCell::new(None) }
    }

    fn begin(&self) -> Box<dyn Sink + 'a> {
        match self.screen {
            screen if screen.json => Box::new(JsonLines::default()),
            screen if screen.bars => {
                let project = self.project;
                Box::new(Bars::new(*screen, Box::new(move || predicted(project))))
            }
            screen => Box::new(Lines::new(*screen)),
        }
    }
}

impl Sink for Watcher<'_> {
    fn event(&self, event: &Event) {
        let mut shown = self.shown.borrow_mut();
        shown.get_or_insert_with(|| self.begin()).event(event);
    }
}

/// What each stage took when it was executed last, by name.
fn predicted(project: &Project) -> Vec<(String, f64)> {
    let last = || {
        let history = History::open(project.root(), &project.cache())?;
        history.find("last").and_then(|run| history.detail(run))
    };
    let stages = last().map(|detail| detail.stages).unwrap_or_default();
    stages.into_iter().filter_map(|stage| Some((stage.stage, stage.seconds?))).collect()
}
