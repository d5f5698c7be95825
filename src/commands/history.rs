//! `runs`, `show` and `restore`: what was done before.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use logweir_engine::critical::critical_path;
use logweir_engine::engine::Engine;
use logweir_engine::event::Decision;
use logweir_engine::history::{RunDetail, RunInfo, StageOutcome};
use serde_json::{Value, json};

use crate::cli::{Global, RestoreArgs, RunsArgs, ShowArgs};
use crate::commands::{Outcome, metrics, open};
use crate::render::diagnostic::Failure;
use crate::render::table::Table;
use crate::render::{self, Paint, Screen, text};

pub(super) fn runs(global: &Global, args: &RunsArgs, screen: &Screen) -> Outcome {
    let engine = open(global)?;
    let metric = args.metric.as_deref();
    let values = metric.map(|metric| metrics::column(global, &engine, metric, args.limit)).transpose()?;
    let (runs, hidden) = latest(&engine, args.limit)?;
    if screen.json {
        let mut document = json!({"runs": runs});
        for run in document["runs"].as_array_mut().into_iter().flatten() {
            if let Some(values) = &values {
                run["metric"] = run["run"].as_str().and_then(|id| values.get(id)).cloned().unwrap_or_default();
            }
        }
        screen.json(&document)?;
        return Ok(0);
    }
    let mut table = Table::default();
    let head = ["run", "started", "took", "result", "executed", "restored", "fresh", "options"];
    let head = head[..7].iter().copied().chain(metric).chain(head.last().copied());
    table.row(head.map(|cell| screen.out.dim(cell)));
    for run in &runs {
        let mut cells = vec![
            run.run.clone(),
            run.started.clone(),
            text::seconds(run.seconds),
            result(run, screen.out),
            run.executed.to_string(),
            run.restored.to_string(),
            run.fresh.to_string(),
        ];
        if let Some(values) = &values {
            cells.push(values.get(&run.run).map(metrics::number).unwrap_or_default());
        }
        cells.push(options(run));
        table.row(cells);
    }
    screen.data(&table.render(0))?;
    if runs.is_empty() {
        screen.note("no runs yet: logweir run");
    } else if hidden > 0 {
        screen.note(&format!("{} before these: logweir runs -n {}", text::plural(hidden, "run"), hidden + runs.len()));
    }
    Ok(0)
}

/// The latest runs, newest first, and how many there are before them.
fn latest(engine: &Engine, limit: usize) -> Result<(Vec<RunInfo>, usize), Failure> {
    let mut runs = engine.runs()?;
    runs.reverse();
    let hidden = runs.len().saturating_sub(limit);
    runs.truncate(limit);
    Ok((runs, hidden))
}

/// What `runs --json` says, and how many runs there are before these.
pub(crate) fn runs_document(engine: &Engine, limit: usize) -> Result<Value, Failure> {
    let (runs, hidden) = latest(engine, limit)?;
    Ok(json!({"runs": runs, "before": hidden}))
}

fn result(run: &RunInfo, paint: Paint) -> String {
    match run {
        run if run.interrupted => paint.yellow("interrupted"),
        run if run.failed > 0 => paint.red(&format!("{} failed", run.failed)),
        _ => paint.green("ok"),
    }
}

/// What was special about a run, as it was typed.
pub(super) fn options(run: &RunInfo) -> String {
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
    let detail = in_order(engine, &args.run)?;
    if screen.json {
        screen.json(&document(&detail)?)?;
    } else {
        screen.data(&page(&detail, screen))?;
    }
    Ok(0)
}

/// A run with its stages as the pipeline is written; those it no longer has come last.
pub(crate) fn in_order(engine: &Engine, run: &str) -> Result<RunDetail, Failure> {
    let mut detail = engine.show(run)?;
    let position: BTreeMap<&str, usize> =
        engine.spec().stages.iter().enumerate().map(|(i, stage)| (stage.name.as_str(), i)).collect();
    detail.stages.sort_by_key(|stage| position.get(stage.stage.as_str()).copied().unwrap_or(usize::MAX));
    Ok(detail)
}

/// What `show --json` says.
pub(crate) fn document(detail: &RunDetail) -> Result<Value, Failure> {
    let bug = |e: serde_json::Error| Failure::bug(e.to_string());
    let mut document = serde_json::to_value(detail).map_err(bug)?;
    document["critical_path"] = serde_json::to_value(critical_path(detail)).map_err(bug)?;
    document["peak_memory"] = peak(detail).map_or(Value::Null, Value::from);
    Ok(document)
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
    if let Some(peak) = peak(detail) {
        about.row(["memory", format!("at most {}", text::bytes(peak)).as_str()]);
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
    out.push_str(&critical(detail, screen));
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

/// The most memory that an action executed in the run had.
fn peak(detail: &RunDetail) -> Option<u64> {
    detail.stages.iter().filter(|stage| stage.decision == Decision::Run).filter_map(|stage| stage.peak_memory).max()
}

/// The longest chain of stages that the run executed.
fn critical(detail: &RunDetail, screen: &Screen) -> String {
    let path = critical_path(detail);
    if path.stages.len() < 2 {
        return String::new();
    }
    let names: Vec<&str> = path.stages.iter().map(|step| step.stage.as_str()).collect();
    let columns = if screen.verbose { usize::MAX / 2 } else { render::size().1.max(40) - 20 };
    let mut out = format!("critical path {}: {}\n", text::seconds(path.seconds), text::chain(&names, columns));
    if let Some(step) = path.dearest() {
        let gain = text::seconds(path.seconds - step.if_free);
        let _ = writeln!(out, "  {}", screen.out.dim(&format!("without `{}` it would be {gain} shorter", step.stage)));
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
