//! `why`: what would be decided about a stage now, and what was decided before, leaf by leaf.

use std::fmt::Write as _;

use logweir_engine::engine::Engine;
use logweir_engine::event::{Decision, Reason};
use logweir_engine::history::{Leaf, Why, WhyRun};
use serde_json::Value;

use crate::cli::WhyArgs;
use crate::commands::Outcome;
use crate::render::table::Table;
use crate::render::{self, Paint, Screen, text};

/// Columns that leaves are indented by.
const INDENT: usize = 4;
/// Columns of what is no terminal.
const USUAL_COLUMNS: usize = 80;

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
    let mut out = format!("{}\n", paint.bold(&why.stage));
    let _ = writeln!(out, "  {:<9} {}", "now", now(why, paint));
    out.push_str(&changes(&why.now.reasons, screen));
    if let Some(last) = &why.last {
        out.push_str(&decided("last run", last, screen));
    }
    let executed = why.executed.as_ref();
    match executed.filter(|executed| why.last.as_ref().is_none_or(|last| last.run != executed.run)) {
        Some(executed) => out.push_str(&decided("executed", executed, screen)),
        None if executed.is_none() => out.push_str("  never executed\n"),
        None => {}
    }
    if !why.leaves.is_empty() {
        let what =
            if screen.verbose { "its last key is made of" } else { "its last key is made of (-v: whole values)" };
        let _ = writeln!(out, "  {}", paint.dim(what));
        out.push_str(&leaves(&why.leaves, screen));
    }
    out
}

fn now(why: &Why, paint: Paint) -> String {
    let since = why.since.as_ref().map(|since| paint.dim(&format!(" ({})", since.run)));
    let about = match (why.now.decision, why.now.seconds) {
        (Decision::Run | Decision::Waits, Some(seconds)) => paint.dim(&format!(", about {}", text::seconds(seconds))),
        _ => String::new(),
    };
    match (why.now.decision, since) {
        (Decision::Fresh, Some(since)) => format!("{} since it was executed{since}", paint.green("fresh")),
        (Decision::Restore, Some(since)) => format!("{} what was executed before{since}", paint.cyan("restore")),
        (Decision::Waits, _) => format!("{}, may yet be fresh{about}", paint.dim("waits")),
        (Decision::Run, _) => format!("{}{about}", paint.yellow("run")),
        (decision, _) => decision.name().to_owned(),
    }
}

fn decided(what: &str, run: &WhyRun, screen: &Screen) -> String {
    let took = match (run.decision, run.seconds) {
        (Decision::Run, Some(s)) => format!(" in {}", text::seconds(s)),
        _ => String::new(),
    };
    let when = run.started.split('.').next().unwrap_or_default().replace('T', " ");
    let mut about = format!("{}, {when} UTC", run.run);
    if screen.verbose
        && let Some(key) = run.key
    {
        let _ = write!(about, ", key {key}");
    }
    format!("  {what:<9} {}{took} {}\n", run.decision.name(), screen.out.dim(&format!("({about})")))
        + &changes(&run.reasons, screen)
}

/// What changed, from what to what; what does not fit a line is shown as two.
fn changes(reasons: &[Reason], screen: &Screen) -> String {
    let paint = screen.out;
    let columns = if screen.out_is_terminal { render::size().1 } else { USUAL_COLUMNS };
    let indent = " ".repeat(INDENT);
    let mut out = String::new();
    for reason in reasons {
        let line = format!("{indent}{}", text::reason(reason, screen.verbose));
        let changed = reason.old != Value::Null && reason.new != Value::Null;
        if !changed || render::width(&line) <= columns {
            out.push_str(&line);
            out.push('\n');
            continue;
        }
        let (old, new) = text::values(&reason.old, &reason.new, screen.verbose);
        let _ = writeln!(out, "{indent}{} {}:", reason.kind.name(), reason.subject);
        let _ = writeln!(out, "{indent}  {}", paint.red(&format!("- {old}")));
        let _ = writeln!(out, "{indent}  {}", paint.green(&format!("+ {new}")));
    }
    out
}

fn leaves(leaves: &[Leaf], screen: &Screen) -> String {
    let mut table = Table::default();
    for leaf in leaves {
        table.row([screen.out.dim(leaf.kind.name()), leaf.subject.clone(), text::value(&leaf.value, screen.verbose)]);
    }
    narrowed(&table, screen)
}

/// The table; on a terminal no line is wider than that unless `-v` asks for all of it.
fn narrowed(table: &Table, screen: &Screen) -> String {
    let text = table.render(INDENT);
    if screen.verbose || !screen.out_is_terminal {
        return text;
    }
    let columns = render::size().1;
    text.lines().map(|line| render::fit(line, columns) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use logweir_engine::event::ReasonKind;
    use logweir_engine::plan::PlanRow;
    use serde_json::json;

    fn run(run: &str, decision: Decision, reasons: Vec<Reason>) -> WhyRun {
        let started = "2026-11-22T17:14:53.123Z".to_owned();
        WhyRun { run: run.into(), started, decision, key: None, reasons, seconds: Some(1.5) }
    }

    fn param(old: Value, new: Value) -> Vec<Reason> {
        vec![Reason { kind: ReasonKind::Param, subject: "threshold.beta".into(), old, new }]
    }

    fn why(decision: Decision, reasons: Vec<Reason>) -> Why {
        let seconds = Some(1.5);
        Why {
            stage: "evaluate".into(),
            last: Some(run("r2", Decision::Fresh, vec![])),
            executed: Some(run("r1", Decision::Run, param(Value::Null, json!(1.5)))),
            since: None,
            leaves: vec![Leaf { kind: ReasonKind::Param, subject: "threshold.beta".into(), value: json!(1.5) }],
            now: PlanRow { name: "evaluate".into(), decision, reasons, key: None, seconds },
        }
    }

    #[test]
    fn a_stage_that_would_run_shows_each_leaf_from_what_to_what() {
        let page = page(&why(Decision::Run, param(json!(1.5), json!(2))), &Screen::PLAIN);
        assert_eq!(
            page,
            "evaluate\n  \
               now       run, about 1.5 s\n    \
                 param threshold.beta: 1.5 → 2\n  \
               last run  fresh (r2, 2026-11-22 17:14:53 UTC)\n  \
               executed  run in 1.5 s (r1, 2026-11-22 17:14:53 UTC)\n    \
                 param threshold.beta: new, 1.5\n  \
               its last key is made of (-v: whole values)\n    \
                 param  threshold.beta  1.5\n"
        );
    }

    #[test]
    fn what_fits_no_line_is_shown_as_two() {
        let (old, new) = (format!("cut {}", "a".repeat(50)), format!("cut {}", "b".repeat(50)));
        let long = Reason { kind: ReasonKind::Command, subject: "run".into(), old: json!(old), new: json!(new) };
        let shown = changes(&[long], &Screen { out_is_terminal: false, ..Screen::PLAIN });
        assert_eq!(shown, format!("    command run:\n      - {old}\n      + {new}\n"));
    }

    #[test]
    fn a_fresh_stage_says_since_which_run() {
        let fresh = Why { since: Some(run("r1", Decision::Run, vec![])), ..why(Decision::Fresh, vec![]) };
        let page = page(&fresh, &Screen::PLAIN);
        assert!(page.starts_with("evaluate\n  now       fresh since it was executed (r1)\n"), "{page}");
    }
}
