//! Runs the `pipeline.yaml` of the current directory with two thread tokens and no kind of stage but shell commands:
//! the least a program needs to use the engine. Prints one line at the end, and failures.

#![expect(clippy::print_stderr, reason = "a program that says what it did")]

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use logweir_engine::engine::{Engine, Project, RunOptions};
use logweir_engine::event::Event;
use logweir_engine::spec::{LoadOptions, SourceText, load};
use logweir_engine::stage::Registry;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let project = Project::find(&std::env::current_dir()?, Some(Path::new(".")), None)?;
    let environment: std::collections::BTreeMap<String, String> = std::env::vars().collect();
    let lookup = |name: &str| environment.get(name).cloned();
    let options = LoadOptions { profile: None, sets: Vec::new(), env: &lookup };
    let source = SourceText { name: project.file_name(), text: project.text()? };
    let spec = load(&source, &Registry::default(), &options).map_err(|errors| format!("{errors:?}"))?;
    let engine = Engine::new(project, spec, environment.clone())?;
    let sink = |event: &Event| {
        if let Event::StageFailed { stage, error, .. } = event {
            eprintln!("{stage}: {error}");
        }
    };
    let run = RunOptions { jobs: 2, ..RunOptions::default() };
    let summary = engine.run(&run, &sink, &AtomicBool::new(false))?;
    let counts = &summary.info;
    eprintln!(
        "{} executed, {} fresh, {} failed in {:.3} s",
        counts.executed, counts.fresh, counts.failed, counts.seconds
    );
    Ok(ExitCode::from(summary.exit_code()))
}
