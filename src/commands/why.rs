//! `why`: the last decision about a stage, leaf by leaf, and what would be decided now.

use std::fmt::Write as _;

use logweir_engine::engine::Engine;
use logweir_engine::event::Decision;
use logweir_engine::history::{Why, WhyRun};

use crate::cli::WhyArgs;
use crate::commands::Outcome;
use crate::render::table::Table;
use crate::render::{Screen, text};

pub(super) fn why(engine: &Engine, args: &WhyArgs, screen: &Screen) -> Outcome {
    let why = engine.why(&args.stage)?;
    if screen.json {
        screen.json(&why)?;
    } else {
        screen.data(&page(&why, screen))?;
    }
    Ok(0)
}

fn page(why: &Why, screen: &Screen) -> String {
    let paint = screen.out;
    let mut out = String::new();
    let _ = writeln!(out, "{}", paint.bold(&why.stage));
    match &why.last {
        None => out.push_str("  no run has had this stage yet\n"),
        Some(last) => {
            out.push_str(&decided("last run", last, screen));
            if let Some(executed) = why.executed.as_ref().filter(|executed| executed.run != last.run) {
                out.push_str(&decided("executed", executed, screen));
            }
        }
    }
    let _ = writeln!(out, "  {:<9} {}", "now", why.now.decision.name());
    for reason in &why.now.reasons {
        let _ = writeln!(out, "            {}", text::reason(reason, screen.verbose));
    }
    if !why.leaves.is_empty() {
        let _ = writeln!(out, "  {}", paint.dim("the key of its last decision is made of"));
        let mut table = Table::default();
        for leaf in &why.leaves {
            table.row([paint.dim(leaf.kind.name()), leaf.subject.clone(), text::value(&leaf.value, screen.verbose)]);
        }
        out.push_str(&table.render(4));
    }
    out
}

fn decided(what: &str, run: &WhyRun, screen: &Screen) -> String {
    let took = match (run.decision, run.seconds) {
        (Decision::Run | Decision::Restore | Decision::Failed, Some(s)) => format!(" in {}", text::seconds(s)),
        _ => String::new(),
    };
    let key = run.key.map(|key| key.to_string()).unwrap_or_default();
    let mut out = format!(
        "  {what:<9} {}{took}  {}\n",
        run.decision.name(),
        screen.out.dim(&format!("run {} of {}, key {}", run.run, run.started, text::digest(&key, screen.verbose))),
    );
    for reason in &run.reasons {
        let _ = writeln!(out, "            {}", text::reason(reason, screen.verbose));
    }
    out
}
