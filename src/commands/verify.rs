//! `verify`: compares what is there with what was recorded.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use logweir_engine::engine::VerifyOptions;
use logweir_engine::event::Event;
use logweir_engine::rerun::{RerunEvent, RerunOptions, RerunOutcome, RerunReport};
use logweir_engine::verify::{Finding, FindingKind, VerifyReport};
use logweir_stages::compare::Tables;
use serde_json::Value;

use crate::cli::{Global, VerifyArgs};
use crate::commands::{Outcome, limit_polars, open, stop_on_signal};
use crate::render::diagnostic::Failure;
use crate::render::progress::Work;
use crate::render::table::Table;
use crate::render::{Screen, line, text, to_stderr};

pub(super) fn verify(global: &Global, args: &VerifyArgs, screen: &Screen) -> Outcome {
    // As the user means it, before the project is entered.
    let key = args.key.as_ref().map(std::path::absolute).transpose().map_err(Failure::environment)?;
    if args.rerun {
        return rerun(global, args, screen);
    }
    let engine = open(global)?;
    let options = VerifyOptions { targets: args.targets.clone(), repair: args.repair, key };
    let warnings = |event: &Event| {
        if let Some(line) = line::of(event, screen.err, screen.verbose).filter(|_| !screen.json) {
            to_stderr(&format!("{line}\n"));
        }
    };
    let report = engine.verify(&options, &warnings)?;
    if screen.json {
        screen.json(&report)?;
    } else {
        screen.data(&page(&report, screen))?;
    }
    Ok(report.exit_code())
}

/// Executes stages again and shows what became of them.
fn rerun(global: &Global, args: &VerifyArgs, screen: &Screen) -> Outcome {
    limit_polars(args.jobs);
    let jobs = args.jobs.map_or(0, std::num::NonZero::get);
    let options = RerunOptions { targets: args.targets.clone(), jobs };
    let engine = open(global)?;
    let work = Arc::new(Work::new("verify --rerun", screen));
    let (json, shown) = (screen.json, Arc::clone(&work));
    let cancel = stop_on_signal(move || {
        if !json {
            shown.say("\nstopping (again to stop at once)\n");
        }
    })?;
    let progress = Mutex::new(Progress::default());
    let told = |event: RerunEvent<'_>| {
        let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.take(event);
        progress.show(&work);
        // Where no bar is shown, as in a log file, each stage is said as it ends.
        if let RerunEvent::Ended(stage) = event
            && !screen.bars
        {
            screen.note(&format!("{} {}", outcome(stage.outcome), stage.stage));
        }
    };
    let report = engine.rerun(&options, &Tables, &told, &cancel);
    // The signal handler keeps it.
    work.end();
    let report = report?;
    if screen.json {
        screen.json(&report)?;
    } else {
        screen.data(&rerun_page(&report, screen))?;
    }
    Ok(report.exit_code())
}

/// How far stages executed again have come.
#[derive(Default)]
struct Progress {
    done: usize,
    stages: usize,
    running: Vec<String>,
}

impl Progress {
    fn take(&mut self, event: RerunEvent<'_>) {
        match event {
            RerunEvent::Planned(stages) => self.stages = stages,
            RerunEvent::Started(stage) => self.running.push(stage.to_owned()),
            RerunEvent::Ended(stage) if self.stages > 0 => {
                self.done += 1;
                self.running.retain(|running| *running != stage.stage);
            }
            // Skipped before it was known what is to be executed.
            RerunEvent::Ended(_) => {}
        }
    }

    fn show(&self, work: &Work) {
        if self.stages > 0 {
            let running =
                if self.running.is_empty() { String::new() } else { format!(": {}", self.running.join(", ")) };
            work.set(self.done as u64, self.stages as u64, &format!("actions{running}"));
        }
    }
}

fn outcome(outcome: RerunOutcome) -> &'static str {
    match outcome {
        RerunOutcome::Same => "same",
        RerunOutcome::Different => "different",
        RerunOutcome::Failed => "failed",
        RerunOutcome::Skipped => "skipped",
    }
}

fn rerun_page(report: &RerunReport, screen: &Screen) -> String {
    let paint = screen.out;
    let mut table = Table::default();
    for stage in &report.stages {
        let word = match stage.outcome {
            RerunOutcome::Same => paint.green("same"),
            RerunOutcome::Skipped => paint.yellow("skipped"),
            other => paint.red(outcome(other)),
        };
        let why = stage.why.as_deref().map(|why| why.lines().collect::<Vec<_>>().join(" · "));
        let mut notes: Vec<String> = why.into_iter().collect();
        if !stage.from_store.is_empty() {
            let files = stage.from_store.join(", ");
            notes.push(format!("not in place as recorded, so taken from the store: {files}"));
        }
        table.row([word.clone(), stage.stage.clone(), notes.join("; ")]);
        for difference in &stage.differences {
            table.row([String::new(), difference.path.clone(), difference.first.clone()]);
        }
    }
    let mut out = table.render(0);
    let again = report.stages.len() - report.count(RerunOutcome::Skipped);
    let bad = report.count(RerunOutcome::Different) + report.count(RerunOutcome::Failed);
    let verdict = match bad {
        0 if report.interrupted => paint.yellow("interrupted"),
        0 if again == 0 => paint.yellow("nothing compared"),
        0 => paint.green("all as recorded"),
        n => paint.red(&format!("{} not reproduced", text::plural(n, "action"))),
    };
    let skipped = report.count(RerunOutcome::Skipped);
    let _ = writeln!(out, "{verdict}: {} executed again, {skipped} skipped", text::plural(again, "action"));
    out
}

/// Says what repairs the findings, and what cannot be repaired.
fn remedy(report: &VerifyReport) -> Option<&'static str> {
    use FindingKind as Kind;
    let any = |kinds: &[Kind]| report.findings.iter().any(|finding| kinds.contains(&finding.kind));
    let repairable =
        any(&[Kind::OutputMissing, Kind::OutputChanged, Kind::ObjectCorrupt, Kind::ObjectMissing, Kind::IndexMismatch]);
    let evidence = any(&[
        Kind::LogBroken,
        Kind::LogCut,
        Kind::LockMismatch,
        Kind::LockStageMissing,
        Kind::RecordMissing,
        Kind::Unsigned,
        Kind::SignatureWrong,
    ]);
    match (repairable, evidence) {
        (true, false) => {
            Some("`logweir verify --repair` puts right what store or disk allow; `logweir run` makes the rest")
        }
        (true, true) => Some(
            "`logweir verify --repair` puts right outputs, objects and index; what was done to records is not repaired: \
             it stays as evidence",
        ),
        (false, true) => Some("records are not repaired: what was done to them stays as evidence"),
        (false, false) => None,
    }
}

fn page(report: &VerifyReport, screen: &Screen) -> String {
    let paint = screen.out;
    let mut table = Table::default();
    for finding in &report.findings {
        table.row([paint.red(&kind(finding)), finding.path.clone(), finding.detail.clone()]);
    }
    for note in &report.notes {
        table.row([paint.yellow(&kind(note)), note.path.clone(), note.detail.clone()]);
    }
    for stage in &report.not_reproducible {
        let contents = format!("of `{}`: {} different contents under one key", stage.stage, stage.contents.len());
        table.row([paint.yellow("not reproducible"), stage.path.clone(), contents]);
    }
    for finding in &report.repaired {
        table.row([paint.green("repaired"), finding.path.clone(), finding.detail.clone()]);
    }
    let mut out = table.render(0);
    let looked = format!(
        "{}, {} ({}), {} compared",
        text::plural(report.outputs, "output"),
        text::plural(report.objects, "object"),
        text::bytes(report.bytes),
        match report.log_entries {
            1 => "1 log entry".to_owned(),
            n => format!("{} log entries", text::count(n as u64)),
        }
    );
    let verdict = match report.findings.len() {
        0 => paint.green("all as recorded"),
        n => paint.red(&text::plural(n, "difference")),
    };
    let _ = writeln!(out, "{verdict}: {looked}");
    if let (Some(signed), Some(after)) = (report.signed, report.after_signed) {
        let signed = text::plural(signed, "run");
        let _ = writeln!(out, "{signed} with a good signature; {after} log entries after the last of them");
    }
    if let Some(remedy) = remedy(report) {
        let _ = writeln!(out, "{remedy}");
    }
    out
}

/// The kind's name as in JSON, with spaces.
fn kind(finding: &Finding) -> String {
    match serde_json::to_value(finding.kind) {
        Ok(Value::String(name)) => name.replace('_', " "),
        _ => String::new(),
    }
}
