//! The commands: one file each, from checked arguments to an exit code. They decide what to ask the engine for and what
//! to show; the engine decides everything else.

mod cancel;
pub(crate) mod diff;
pub(crate) mod explain;
mod export_lineage;
mod follow;
mod gc;
mod graph;
pub(crate) mod history;
mod init;
mod lineage;
mod lines;
mod man;
pub(crate) mod metrics;
mod plan;
mod run;
pub(crate) mod score;
mod serve;
mod simulate;
mod stages;
mod verify;
mod watch;
mod why;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use clap::CommandFactory as _;
use logweir_engine::compiled::Reading;
use logweir_engine::engine::{Engine, Project};
use logweir_engine::graph::Dag;
use logweir_engine::spec::{self, LoadOptions, SourceText};
use logweir_engine::stage::Registry;

use crate::cli::{Cli, Command, Global};
use crate::render::Screen;
use crate::render::diagnostic::Failure;

/// An exit code, or what ended the command early.
pub(crate) type Outcome = Result<u8, Failure>;

/// Runs the command.
pub(crate) fn execute(cli: &Cli, screen: &Screen) -> Outcome {
    let global = &cli.global;
    match &cli.command {
        Command::Run(args) => run::run(global, args, screen),
        Command::Plan(args) => plan::plan(global, args, screen),
        Command::Why(args) => why::why(&open(global)?, args, screen),
        Command::Graph(args) => graph::graph(global, args, screen),
        Command::Lineage(args) => lineage::lineage(global, args, screen),
        Command::Impact(args) => lineage::impact(global, args, screen),
        Command::Runs(args) => history::runs(global, args, screen),
        Command::Show(args) => history::show(&open(global)?, args, screen),
        Command::Diff(args) => diff::diff(global, args, screen),
        Command::Metrics(args) => metrics::metrics(global, args, screen),
        Command::Restore(args) => history::restore(&open(global)?, args, screen),
        Command::Verify(args) => verify::verify(global, args, screen),
        Command::Gc(args) => gc::gc(&open(global)?, args, screen),
        Command::ExportLineage(args) => export_lineage::export(global, args, screen),
        Command::Simulate(args) => simulate::simulate(args, screen),
        Command::Score(args) => score::score(global, args, screen),
        Command::Explain(args) => explain::explain(global, args, screen),
        Command::Lines(args) => lines::lines(global, args, screen),
        Command::Serve(args) => serve::serve(global, args, screen),
        Command::Stages(args) => stages::stages(args, screen),
        Command::Schema => stages::schema(screen),
        Command::Init(args) => init::init(global, args, screen),
        Command::Man(args) => man::man(args, screen),
        Command::Cancel => cancel::cancel(global, screen),
        Command::Completions(args) => {
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut Cli::command(), "logweir", &mut script);
            screen.data(&String::from_utf8_lossy(&script))?;
            Ok(0)
        }
    }
}

/// The kinds every pipeline may use.
fn registry() -> Registry {
    logweir_stages::registry()
}

/// The process environment. What is no Unicode cannot be named in a pipeline.
fn environment() -> BTreeMap<String, String> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

/// Finds the project and reads its pipeline and the graph.
fn load(global: &Global) -> Result<(spec::Spec, Dag), Failure> {
    with_reading(global, |reading| {
        let source = SourceText { name: reading.project.file_name(), text: reading.text.to_owned() };
        let env = |name: &str| reading.env.get(name).cloned();
        let options = LoadOptions { profile: global.profile.clone(), sets: global.sets.clone(), env: &env };
        Ok(spec::load_with_dag(&source, reading.registry, &options)?)
    })
}

/// Makes the engine of the project.
pub(crate) fn open(global: &Global) -> Result<Engine, Failure> {
    with_reading(global, |reading| Ok(Engine::open(reading)?))
}

/// Finds the project.
fn find(global: &Global) -> Result<Project, Failure> {
    let cwd = std::env::current_dir()
        .context("the current directory is gone")
        .map_err(|error| Failure::environment(error).help("enter a folder that exists"))?;
    Ok(Project::find(&cwd, global.directory.as_deref(), global.file.as_deref())?)
}

/// Finds the project, enters it, and hands over everything that decides what its pipeline means.
fn with_reading<T>(global: &Global, act: impl FnOnce(&Reading<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
    let project = find(global)?;
    let (text, registry, env) = (project.text()?, registry(), environment());
    // Effects name files relative to the project, and shell stages run there.
    std::env::set_current_dir(project.root()).context("cannot enter the project").map_err(Failure::environment)?;
    let (project, text, env, registry) = (&project, &*text, &env, &registry);
    act(&Reading { project, text, profile: global.profile.as_deref(), sets: &global.sets, registry, env })
}

/// Ctrl-C (or a termination signal) once stops cleanly: what is returned is set, and `say` says so. Twice stops at once.
pub(crate) fn stop_on_signal(say: impl Fn() + Send + 'static) -> Result<Arc<AtomicBool>, Failure> {
    let cancel = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&cancel);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            #[expect(clippy::disallowed_methods, reason = "asked for twice: not even destructors are waited for")]
            std::process::exit(130);
        }
        say();
    })
    .map_err(|e| Failure::environment(anyhow::Error::new(e).context("cannot catch signals")))?;
    Ok(cancel)
}

/// Sets the size of polars' process-wide pool before its first use; a value given by the user stays.
fn limit_polars(jobs: Option<NonZeroUsize>) {
    const NAME: &str = "POLARS_MAX_THREADS";
    if std::env::var_os(NAME).is_some() {
        return;
    }
    let threads = jobs.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    #[expect(unsafe_code, reason = "polars reads its pool size from the environment and nowhere else")]
    // SAFETY: called at the start of a command, before any other thread of the process exists.
    unsafe {
        std::env::set_var(NAME, threads.to_string());
    }
}
