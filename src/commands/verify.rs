//! `verify`: compares what is there with what was recorded.

use std::fmt::Write as _;

use logweir_engine::engine::{Engine, VerifyOptions};
use logweir_engine::event::Event;
use logweir_engine::verify::{Finding, VerifyReport};
use serde_json::Value;

use crate::cli::VerifyArgs;
use crate::commands::Outcome;
use crate::render::table::Table;
use crate::render::{Screen, line, text, to_stderr};

pub(super) fn verify(engine: &Engine, args: &VerifyArgs, screen: &Screen) -> Outcome {
    let options = VerifyOptions { targets: args.targets.clone(), repair: args.repair };
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

fn page(report: &VerifyReport, screen: &Screen) -> String {
    let paint = screen.out;
    let mut table = Table::default();
    for finding in &report.findings {
        table.row([paint.red(&kind(finding)), finding.path.clone(), finding.detail.clone()]);
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
    out
}

/// The kind's name as in JSON, with spaces.
fn kind(finding: &Finding) -> String {
    match serde_json::to_value(finding.kind) {
        Ok(Value::String(name)) => name.replace('_', " "),
        _ => String::new(),
    }
}
