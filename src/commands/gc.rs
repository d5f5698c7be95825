//! `gc`: what nothing needs any more in the store is shown first and removed when told to.

use std::fmt::Write as _;

use logweir_engine::engine::Engine;
use logweir_engine::gc::{GcOptions, GcReport};

use crate::cli::GcArgs;
use crate::commands::Outcome;
use crate::render::{Screen, text};

pub(super) fn gc(engine: &Engine, args: &GcArgs, screen: &Screen) -> Outcome {
    let report = engine.gc(&GcOptions { keep_runs: args.keep_runs, delete: args.yes && !args.dry_run })?;
    if screen.json {
        screen.json(&report)?;
        return Ok(0);
    }
    screen.data(&page(&report, screen.verbose))?;
    if report.dry_run && report.objects + report.logs + report.leftovers > 0 {
        let keep = if args.keep_runs == GcOptions::default().keep_runs {
            String::new()
        } else {
            format!(" --keep-runs {}", args.keep_runs)
        };
        screen.note(&format!("nothing was removed; to do it: logweir gc{keep} --yes"));
    }
    Ok(0)
}

fn page(report: &GcReport, verbose: bool) -> String {
    let done = if report.dry_run { "would remove" } else { "removed" };
    let mut out = format!("{done} {} ({})", text::plural(report.objects, "object"), text::bytes(report.bytes));
    for (count, noun) in [(report.logs, "folder of command logs"), (report.leftovers, "leftover of a killed run")] {
        if count > 0 {
            let noun = if count == 1 { noun.to_owned() } else { noun.replacen(' ', "s ", 1) };
            let _ = write!(out, ", {} {noun}", text::count(count as u64));
        }
    }
    let _ = writeln!(out, "; {} ({}) stay", text::plural(report.kept, "object"), text::bytes(report.kept_bytes));
    if !report.runs.is_empty() {
        let cannot = if report.dry_run { "could not be restored any more" } else { "cannot be restored any more" };
        let _ = writeln!(out, "{} {cannot}; their history stays", text::plural(report.runs.len(), "run"));
        if verbose {
            for run in &report.runs {
                let _ = writeln!(out, "  {run}");
            }
        }
    }
    out
}
