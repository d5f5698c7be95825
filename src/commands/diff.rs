//! `diff`: what differs between two runs, and which differences can have moved which metric.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use logweir_engine::compare::{Comparison, Difference, DifferenceKind, MetricDifference, StageChange};
use logweir_engine::engine::Engine;
use logweir_engine::event::Reason;
use logweir_engine::history::RunInfo;
use serde_json::Value;

use crate::cli::{DiffArgs, Global};
use crate::commands::history::options;
use crate::commands::metrics::{declared, delta, headline, number};
use crate::commands::{Outcome, open};
use crate::render::diagnostic::Failure;
use crate::render::table::Table;
use crate::render::{Screen, text};

/// Most artifacts, and most metrics of one artifact, shown without `-v`.
const SHOWN: usize = 12;

pub(super) fn diff(global: &Global, args: &DiffArgs, screen: &Screen) -> Outcome {
    let found = compared(global, &open(global)?, &args.from, &args.to)?;
    if screen.json {
        screen.json(&found)?;
    } else {
        screen.data(&page(&found, screen))?;
    }
    Ok(0)
}

/// What differs between two runs.
pub(crate) fn compared(global: &Global, engine: &Engine, from: &str, to: &str) -> Result<Comparison, Failure> {
    let runs = engine.runs()?;
    Ok(engine.compare(from, to, &declared(global, engine, &runs))?)
}

fn page(found: &Comparison, screen: &Screen) -> String {
    let paint = screen.out;
    let mut head = Table::default();
    for (sign, run) in [("-", &found.from), ("+", &found.to)] {
        let sign = if sign == "-" { paint.red(sign) } else { paint.green(sign) };
        head.row([sign, paint.bold(&run.run), when(run), options(run)]);
    }
    let mut out = head.render(0);
    for note in &found.notes {
        let _ = writeln!(out, "{} {note}", paint.yellow("note:"));
    }
    if found.stages.is_empty() && found.artifacts.is_empty() && found.metrics.is_empty() {
        out.push_str("nothing differs\n");
        return out;
    }
    out.push_str(&stages(found, screen));
    out.push_str(&artifacts(found, screen));
    out.push_str(&metrics(found, screen));
    out
}

fn when(run: &RunInfo) -> String {
    format!("{} UTC", run.started.split('.').next().unwrap_or_default().replace('T', " "))
}

/// Stages with what of them differs by itself; those that only follow from others share a line.
fn stages(found: &Comparison, screen: &Screen) -> String {
    let paint = screen.out;
    let mut out = format!("{}\n", paint.bold("stages"));
    let mut followed = Vec::new();
    for stage in &found.stages {
        let what = match stage.change {
            StageChange::Added => paint.green("added"),
            StageChange::Removed => paint.red("removed"),
            StageChange::Nondeterminism => paint.yellow("gave other bytes for the same key"),
            StageChange::Unfinished => paint.yellow("not finished in one of the runs"),
            StageChange::Changed => String::new(),
        };
        if stage.change == StageChange::Changed && !screen.verbose && !stage.leaves.iter().any(|leaf| leaf.root) {
            followed.push(stage.stage.as_str());
            continue;
        }
        let _ = writeln!(out, "  {}  {what}", stage.stage);
        for leaf in stage.leaves.iter().filter(|leaf| leaf.root || screen.verbose) {
            let (kind, subject) = (leaf.kind, leaf.subject.clone());
            let reason = Reason { kind, subject, old: leaf.old.clone(), new: leaf.new.clone() };
            let line = text::reason(&reason, screen.verbose);
            let _ = writeln!(out, "    {}", if leaf.root { line } else { paint.dim(&line) });
        }
    }
    out = out.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    if !followed.is_empty() {
        let line = format!("{}: {}", text::plural(followed.len(), "stage"), listed(&followed));
        let _ = writeln!(out, "  {}", paint.dim(&format!("and only through these {line}")));
    }
    if found.stages.is_empty() {
        out.push_str("  no stage has another key\n");
    }
    out
}

fn listed(names: &[&str]) -> String {
    let shown: Vec<&str> = names.iter().take(SHOWN).copied().collect();
    let more = names.len() - shown.len();
    let more = if more > 0 { format!(" and {more} more (-v shows all)") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

fn artifacts(found: &Comparison, screen: &Screen) -> String {
    let paint = screen.out;
    if found.artifacts.is_empty() {
        return format!("{}\n  all have the same content\n", paint.bold("artifacts"));
    }
    let shown = if screen.verbose { found.artifacts.len() } else { SHOWN };
    let mut table = Table::default();
    for artifact in found.artifacts.iter().take(shown) {
        let digest = |digest: Option<logweir_engine::digest::Digest>| {
            digest.map_or("none".to_owned(), |digest| text::digest(&digest.to_string(), screen.verbose).to_owned())
        };
        let change = format!("{} → {}", digest(artifact.old), digest(artifact.new));
        table.row([artifact.path.clone(), paint.dim(&change), paint.dim(&artifact.stage)]);
    }
    let mut out = format!("{}\n{}", paint.bold("artifacts"), table.render(2));
    if found.artifacts.len() > shown {
        let _ = writeln!(out, "  {}", paint.dim(&format!("{} more (-v)", found.artifacts.len() - shown)));
    }
    out
}

/// Metrics that moved; those of one artifact have their causes in common.
fn metrics(found: &Comparison, screen: &Screen) -> String {
    let paint = screen.out;
    let mut out = format!("{}\n", paint.bold("metrics"));
    if found.metrics.is_empty() {
        let what = match found.compared {
            0 => "none: no stage declares `metrics:` that both runs have values of".to_owned(),
            n => format!("none moved: {} the same to the last digit", text::plural(n, "number")),
        };
        let _ = writeln!(out, "  {what}");
        return out;
    }
    for of_one in found.metrics.chunk_by(|a, b| a.path == b.path) {
        let mut order: Vec<&MetricDifference> = of_one.iter().collect();
        order.sort_by_key(|metric| !headline(&metric.pointer));
        let first: Vec<&&MetricDifference> = order.iter().filter(|metric| headline(&metric.pointer)).collect();
        let shown = match first.len() {
            _ if screen.verbose => order.len(),
            0 => order.len().min(SHOWN),
            n => n.min(2 * SHOWN),
        };
        let mut table = Table::default();
        for metric in &order[..shown] {
            let moved = format!("{} → {}", number(&metric.old), number(&metric.new));
            table.row([metric.metric.clone(), moved, delta(metric.delta, screen.out)]);
        }
        out.push_str(&table.render(2));
        if order.len() > shown {
            let _ = writeln!(out, "  {}", paint.dim(&format!("{} more of this artifact (-v)", order.len() - shown)));
        }
        let metric = order[0];
        out.push_str(&roots("can have caused it", &metric.causes, screen));
        out.push_str(&roots("cannot: nothing that differs leads from it", &metric.not_causes, screen));
    }
    out
}

fn roots(what: &str, differences: &[Difference], screen: &Screen) -> String {
    if differences.is_empty() {
        return String::new();
    }
    let mut out = format!("    {}\n", screen.out.dim(what));
    let mut seen = BTreeSet::new();
    let mut lines: Vec<String> = differences.iter().map(|difference| line(difference, screen)).collect();
    lines.retain(|line| seen.insert(line.clone()));
    let shown = if screen.verbose { lines.len() } else { SHOWN };
    for line in lines.iter().take(shown) {
        let _ = writeln!(out, "      {line}");
    }
    if lines.len() > shown {
        let _ = writeln!(out, "      {}", screen.out.dim(&format!("{} more (-v)", lines.len() - shown)));
    }
    out
}

fn line(difference: &Difference, screen: &Screen) -> String {
    let stage = &difference.stage;
    match difference.kind {
        DifferenceKind::Added => format!("{stage}: the stage was added"),
        DifferenceKind::Removed => format!("{stage}: the stage was removed"),
        DifferenceKind::Nondeterminism => {
            format!("{stage}: gave other bytes of `{}` for the same key", difference.subject)
        }
        DifferenceKind::Leaf(kind) => {
            let (old, new): (Value, Value) = (difference.old.clone(), difference.new.clone());
            let reason = Reason { kind, subject: difference.subject.clone(), old, new };
            format!("{stage}: {}", text::reason(&reason, screen.verbose))
        }
    }
}
