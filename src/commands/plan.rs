//! `plan`: what a run would do, and why.

use std::fs;

use anyhow::Context as _;
use logweir_engine::engine::PlanOptions;
use logweir_engine::event::Decision;
use logweir_engine::plan::{Plan, PlanRow};

use crate::cli::{Global, PlanArgs};
use crate::commands::{Outcome, open};
use crate::render::diagnostic::Failure;
use crate::render::table::Table;
use crate::render::{Paint, Screen, text};

pub(super) fn plan(global: &Global, args: &PlanArgs, screen: &Screen) -> Outcome {
    // The project becomes the working directory; the file is meant from where the user stands.
    let out = args.out.as_ref().map(std::path::absolute).transpose().map_err(Failure::environment)?;
    let engine = open(global)?;
    let plan = engine.plan(&PlanOptions { targets: args.targets.clone(), ..PlanOptions::default() })?;
    if let Some(file) = &out {
        let text = serde_json::to_string_pretty(&plan).map_err(|e| Failure::bug(e.to_string()))?;
        fs::write(file, text + "\n")
            .with_context(|| format!("cannot write the plan to `{}`", file.display()))
            .map_err(Failure::environment)?;
        screen.note(&format!("saved to {}; execute it with: logweir run --plan {0}", file.display()));
    }
    show(&plan, screen)
}

/// Shows a plan: JSON, or a table with a last line that sums it up.
pub(super) fn show(plan: &Plan, screen: &Screen) -> Outcome {
    if screen.json {
        screen.json(plan)?;
        return Ok(0);
    }
    let mut table = Table::default();
    for row in &plan.stages {
        if row.decision != Decision::Fresh || screen.verbose {
            let expected = row.seconds.filter(|_| row.decision != Decision::Fresh).map(text::seconds);
            let why = screen.out.dim(&text::reasons(&row.reasons, screen.verbose));
            table.row([decision(row, screen.out), row.name.clone(), expected.unwrap_or_default(), why]);
        }
    }
    screen.data(&format!("{}{}\n", table.render(0), total(plan, screen)))?;
    Ok(0)
}

/// The decision of a row, coloured.
pub(super) fn decision(row: &PlanRow, paint: Paint) -> String {
    let name = row.decision.name();
    match row.decision {
        Decision::Run => paint.yellow(name),
        Decision::Restore => paint.cyan(name),
        Decision::Waits => paint.dim(name),
        _ => paint.green(name),
    }
}

fn total(plan: &Plan, screen: &Screen) -> String {
    let count = |decision| plan.count(decision);
    if count(Decision::Fresh) == plan.stages.len() {
        return screen.out.green(&format!("up to date: {}", text::plural(plan.stages.len(), "stage")));
    }
    let mut parts = Vec::new();
    for (decision, words) in [
        (Decision::Run, "to run"),
        (Decision::Waits, "waiting for one of those"),
        (Decision::Restore, "to restore"),
        (Decision::Fresh, "fresh"),
    ] {
        if count(decision) > 0 {
            parts.push(format!("{} {words}", count(decision)));
        }
    }
    let time = match plan.seconds {
        Some(seconds) => format!("; at most about {}", text::seconds(seconds)),
        None => String::new(),
    };
    screen.out.bold(&format!("{}{time}", parts.join(", ")))
}
