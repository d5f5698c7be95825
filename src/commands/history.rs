//! `runs`, `show` and `restore`: what was done before.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use logweir_engine::engine::Engine;
use logweir_engine::event::Decision;
use logweir_engine::history::{RunDetail, RunInfo, StageOutcome};
use serde_json::json;

use crate::cli::{RestoreArgs, RunsArgs, ShowArgs};
use crate::commands::Outcome;
use crate::render::table::Table;
use crate::render::{Paint, Screen, text};

pub(super) fn runs(engine: &Engine, args: &RunsArgs, screen: &Screen) -> Outcome {
    let mut runs = engine.runs()?;
    runs.reverse();
    let hidden = runs.len().saturating_sub(args.limit);
    runs.truncate(args.limit);
    if screen.json {
        screen.json(&json!({"runs": runs}))?;
        return Ok(0);
    }
    let mut table = Table::default();
    let head = ["run", "started", "took", "result", "executed", "restored", "fresh", "options"];
    table.row(head.map(|cell| screen.out.dim(cell)));
    for run in &runs {
        table.row([
            run.run.clone(),
            run.started.clone(),
            text::seconds(run.seconds),
            result(run, screen.out),
            run.executed.to_string(),
            run.restored.to_string(),
            run.fresh.to_string(),
            options(run),
        ]);
    }
    screen.data(&table.render(0))?;
    if runs.is_empty() {
        screen.note("no runs yet: logweir run");
    } else if hidden > 0 {
        screen.note(&format!("{} before these: logweir runs -n {}", text::plural(hidden, "run"), hidden + runs.len()));
    }
    Ok(0)
}

fn result(run: &RunInfo, paint: Paint) -> String {
    match run {
        run if run.interrupted => paint.yellow("interrupted"),
        run if run.failed > 0 => paint.red(&format!("{} failed", run.failed)),
        _ => paint.green("ok"),
    }
}

/// What was special about a run, as it was typed.
fn options(run: &RunInfo) -> String {
    let mut parts = Vec::new();
    if run.pipeline != "pipeline.yaml" {
        parts.push(format!("-f {}", run.pipeline));
    }
    parts.extend(run.profile.iter().map(|profile| format!("--profile {profile}")));
    parts.extend(run.overrides.iter().map(|set| format!("--set {set}")));
    parts.extend(run.forced.iter().map(|stage| format!("--force {stage}")));
    parts.extend(run.targets.iter().cloned());
    parts.join(" ")
}

pub(super) fn show(engine: &Engine, args: &ShowArgs, screen: &Screen) -> Outcome {
    let mut detail = engine.show(&args.run)?;
    // As the pipeline is written; stages it no longer has come last.
    let position: BTreeMap<&str, usize> =
        engine.spec().stages.iter().enumerate().map(|(i, stage)| (stage.name.as_str(), i)).collect();
    detail.stages.sort_by_key(|stage| position.get(stage.stage.as_str()).copied().unwrap_or(usize::MAX));
    if screen.json {
        screen.json(&detail)?;
    } else {
        screen.data(&page(&detail, screen))?;
    }
    Ok(0)
}

fn page(detail: &RunDetail, screen: &Screen) -> String {
    let paint = screen.out;
    let info = &detail.info;
    let mut out = format!(
        "{} {}  {}, {}\n",
        paint.bold(&info.run),
        result(info, paint),
        info.started,
        text::seconds(info.seconds)
    );
    let mut about = Table::default();
    about.row(["pipeline", info.pipeline.as_str()]);
    let options = options(info);
    if !options.is_empty() {
        about.row(["options", options.as_str()]);
    }
    about.row(["host", detail.host.as_str()]);
    for (name, place) in &detail.roots {
        about.row([format!("root {name}"), place.clone()]);
    }
    out.push_str(&about.render(2));
    let mut table = Table::default();
    for stage in &detail.stages {
        table.row([
            decision(stage, paint),
            stage.stage.clone(),
            stage.seconds.map(text::seconds).unwrap_or_default(),
            stage.peak_memory.map(text::bytes).unwrap_or_default(),
            paint.dim(
                &stage.key.map_or_else(String::new, |key| text::digest(&key.to_string(), screen.verbose).to_owned()),
            ),
            paint.dim(&text::reasons(&stage.reasons, screen.verbose)),
        ]);
    }
    out.push_str(&table.render(0));
    for stage in &detail.stages {
        // The first of them are among the warnings.
        for (did, paths) in [("read", &stage.undeclared.read), ("wrote", &stage.undeclared.written)] {
            if !paths.is_empty() {
                let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
                let _ = writeln!(out, "{} {did} undeclared: {}", stage.stage, paths.join(", "));
            }
        }
        for warning in &stage.warnings {
            let _ = writeln!(out, "{} {}: {warning}", paint.yellow("warning:"), stage.stage);
        }
        if screen.verbose {
            for (slot, output) in &stage.outputs {
                let _ = writeln!(
                    out,
                    "  {} {slot} = {}  {}  {}",
                    stage.stage,
                    output.path,
                    text::bytes(output.size),
                    paint.dim(&output.digest.to_string())
                );
            }
        }
    }
    out
}

fn decision(stage: &StageOutcome, paint: Paint) -> String {
    let name = stage.decision.name();
    match stage.decision {
        Decision::Run => paint.yellow(name),
        Decision::Restore => paint.cyan(name),
        Decision::Failed => paint.red(name),
        Decision::Fresh => paint.green(name),
        _ => paint.dim(name),
    }
}

pub(super) fn restore(engine: &Engine, args: &RestoreArgs, screen: &Screen) -> Outcome {
    let paths = engine.restore_run(&args.run)?;
    if screen.json {
        screen.json(&json!({"run": args.run, "restored": paths}))?;
        return Ok(0);
    }
    let mut out = String::new();
    for path in &paths {
        let _ = writeln!(out, "{path}");
    }
    screen.data(&out)?;
    screen.note(&match paths.len() {
        0 => "every artifact was in place".to_owned(),
        n => format!("{} put back", text::plural(n, "artifact")),
    });
    Ok(0)
}
