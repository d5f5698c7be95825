//! `plan`: what a run would do, and why.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Context as _;
use logweir_engine::engine::PlanOptions;
use logweir_engine::event::{Decision, Reason, ReasonKind};
use logweir_engine::plan::{Plan, PlanRow};

use crate::cli::{Global, PlanArgs};
use crate::commands::{Outcome, open};
use crate::render::diagnostic::Failure;
use crate::render::table::Table;
use crate::render::{self, Paint, Screen, text};

/// So many actions of one stage with one decision for one reason share a line.
const FEWEST_GROUPED: usize = 4;
/// Most lines a terminal is given without `-v`.
const MOST_LINES: usize = 100;

pub(super) fn plan(global: &Global, args: &PlanArgs, screen: &Screen) -> Outcome {
    // The project becomes the working directory; the file is meant from where the user stands.
    let out = args.out.as_ref().map(std::path::absolute).transpose().map_err(Failure::environment)?;
    let engine = open(global)?;
    let (targets, force) = (args.targets.clone(), args.force.clone());
    let jobs = args.jobs.map_or(0, std::num::NonZero::get);
    let plan = engine.plan(&PlanOptions { targets, force, rehash: false, jobs })?;
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
    screen.data(&page(plan, screen))?;
    Ok(0)
}

fn page(plan: &Plan, screen: &Screen) -> String {
    let lines = lines(&plan.stages, screen.verbose);
    let most = if screen.out_is_terminal && !screen.verbose { MOST_LINES } else { usize::MAX };
    let mut table = Table::default();
    for line in lines.iter().take(most) {
        let why = screen.out.dim(&line.why);
        table.row([decision(line.decision, screen.out), line.name.clone(), line.seconds.clone(), why]);
    }
    let mut out = table.render(0);
    if lines.len() > most {
        let more = format!("… {} more (-v shows all)", text::count((lines.len() - most) as u64));
        out.push_str(&format!("{}\n", screen.out.dim(&more)));
    }
    out.push_str(&format!("{}\n", total(plan, screen)));
    if plan.critical_path.len() > 1 {
        let columns = if screen.out_is_terminal { render::size().1 } else { usize::MAX };
        let label = match (plan.critical_seconds, plan.unknown) {
            (seconds, 0) => format!("critical path, about {}: ", text::seconds(seconds)),
            (0.0, _) => "critical path: ".to_owned(),
            (seconds, _) => format!("critical path, at least {}: ", text::seconds(seconds)),
        };
        let chain = text::chain(&plan.critical_path, columns.saturating_sub(render::width(&label)));
        out.push_str(&format!("{}{chain}\n", screen.out.dim(&label)));
    }
    out
}

/// A line of the table: one stage, or several actions of one.
#[derive(Debug, PartialEq)]
struct Line {
    decision: Decision,
    name: String,
    seconds: String,
    why: String,
}

/// The lines of all that is not up to date, or of all; many alike are one.
fn lines(rows: &[PlanRow], verbose: bool) -> Vec<Line> {
    let shown = || rows.iter().filter(|row| row.decision != Decision::Fresh || verbose);
    let mut groups: BTreeMap<_, Vec<&PlanRow>> = BTreeMap::new();
    for row in shown().filter(|row| !verbose && row.name.ends_with(']')) {
        groups.entry(alike(row)).or_default().push(row);
    }
    groups.retain(|_, rows| rows.len() >= FEWEST_GROUPED);
    let mut lines = Vec::new();
    for row in shown() {
        match groups.get_mut(&alike(row)) {
            // The first of a group stands for all; the others find it empty.
            Some(group) if !group.is_empty() => lines.push(together(&std::mem::take(group))),
            Some(_) => {}
            None => lines.push(Line {
                decision: row.decision,
                name: row.name.clone(),
                seconds: expected(&[row]),
                why: text::reasons(&row.reasons, verbose),
            }),
        }
    }
    lines
}

/// What actions that share a line have in common.
fn alike(row: &PlanRow) -> (&str, Decision, Vec<(ReasonKind, &str)>) {
    // Of an input the slot: the file differs from action to action.
    let subject = |reason: &Reason| match reason.kind {
        ReasonKind::Input => reason.subject.split(": ").next().unwrap_or_default().len(),
        ReasonKind::New | ReasonKind::Output => 0,
        _ => base(&reason.subject).len(),
    };
    let mut why: Vec<_> = row.reasons.iter().map(|reason| (reason.kind, &reason.subject[..subject(reason)])).collect();
    why.dedup();
    (base(&row.name), row.decision, why)
}

/// The stage of an action: `custom[n=3]` is one of `custom`.
fn base(name: &str) -> &str {
    name.split_once('[').map_or(name, |(base, _)| base)
}

fn together(rows: &[&PlanRow]) -> Line {
    let first = rows[0];
    let texts = |row: &PlanRow| text::reasons(&row.reasons, false);
    let why = if rows.iter().all(|row| texts(row) == texts(first)) {
        texts(first)
    } else {
        let (_, _, why) = alike(first);
        let said = |(kind, subject): &(ReasonKind, &str)| match (kind, *subject) {
            (ReasonKind::Upstream, stage) => format!("`{stage}` runs first"),
            (kind, "") => kind.name().to_owned(),
            (kind, subject) => format!("{} {subject}", kind.name()),
        };
        why.iter().map(said).collect::<Vec<_>>().join("; ")
    };
    Line {
        decision: first.decision,
        name: format!("{}[…] × {}", base(&first.name), text::count(rows.len() as u64)),
        seconds: expected(rows),
        why,
    }
}

/// What stages are expected to take, all together; nothing where one has no history or nothing to do.
fn expected(rows: &[&PlanRow]) -> String {
    let seconds = rows.iter().map(|row| row.seconds.filter(|_| row.decision != Decision::Fresh));
    seconds.sum::<Option<f64>>().map(text::seconds).unwrap_or_default()
}

/// A decision, coloured.
fn decision(decision: Decision, paint: Paint) -> String {
    let name = decision.name();
    match decision {
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
            parts.push(format!("{} {words}", text::count(count(decision) as u64)));
        }
    }
    let have = |n| if n == 1 { "has" } else { "have" };
    let time = match (plan.seconds, plan.unknown) {
        (Some(seconds), 0) => format!("; at most about {}", text::seconds(seconds)),
        (Some(seconds), n) => {
            let unknown = text::plural(n, "stage");
            format!("; at least {} ({unknown} {} no history)", text::seconds(seconds), have(n))
        }
        (None, _) => String::new(),
    };
    screen.out.bold(&format!("{}{time}", parts.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(name: &str, decision: Decision, reasons: Vec<Reason>) -> PlanRow {
        PlanRow { name: name.into(), decision, reasons, key: None, seconds: Some(0.5) }
    }

    fn input(file: &str) -> Vec<Reason> {
        vec![Reason { kind: ReasonKind::Input, subject: format!("log: {file}"), old: json!(null), new: json!("x") }]
    }

    #[test]
    fn actions_of_one_stage_with_one_reason_share_a_line() {
        let mut rows: Vec<PlanRow> =
            (0..300).map(|n| row(&format!("parse[{n}.log]"), Decision::Run, input(&format!("{n}.log")))).collect();
        rows.push(row("parse[x.log]", Decision::Fresh, vec![]));
        rows.push(row("parse[y.log]", Decision::Run, vec![Reason::plain(ReasonKind::Forced, "--force")]));
        let upstream = |n| Reason::plain(ReasonKind::Upstream, format!("parse[{n}.log]"));
        rows.extend((0..4).map(|n| row(&format!("count[{n}]"), Decision::Waits, vec![upstream(n)])));
        rows.push(row("merge", Decision::Waits, vec![upstream(1), upstream(2), upstream(3)]));
        let line = |decision, name: &str, seconds: &str, why: &str| Line {
            decision,
            name: name.into(),
            seconds: seconds.into(),
            why: why.into(),
        };
        assert_eq!(
            lines(&rows, false),
            [
                line(Decision::Run, "parse[…] × 300", "2 min 30 s", "input log"),
                line(Decision::Run, "parse[y.log]", "0.5 s", "forced"),
                line(Decision::Waits, "count[…] × 4", "2.0 s", "`parse` runs first"),
                line(Decision::Waits, "merge", "0.5 s", "`parse[1.log]` runs first; `parse[2.log]` runs first; 1 more"),
            ]
        );
        assert_eq!(lines(&rows, true).len(), 307);
    }
}
