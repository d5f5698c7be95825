//! `metrics`: the numbers of a run beside those of the run before, and over many runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use logweir_engine::engine::Engine;
use logweir_engine::history::RunInfo;
use logweir_engine::metrics::{Declared, RunMetrics};
use logweir_stages::plots::{Line, history};
use serde_json::{Value, json};

use crate::cli::{Global, MetricsArgs};
use crate::commands::{Outcome, load, open};
use crate::render::diagnostic::Failure;
use crate::render::table::Table;
use crate::render::{Paint, Screen, text};

/// Most runs that are shown as columns; more are rows.
const COLUMNS: usize = 6;

/// Returns what the pipeline, and the pipelines of the runs, declare as metrics.
pub(crate) fn declared(global: &Global, engine: &Engine, runs: &[RunInfo]) -> Declared {
    let mut declared = Declared::default();
    declared.add(engine.spec());
    let here = engine.project().file_name();
    let others: BTreeSet<&str> = runs.iter().map(|run| run.pipeline.as_str()).filter(|name| *name != here).collect();
    for other in others {
        let global = Global { file: Some(engine.project().root().join(other)), ..global.clone() };
        // One that is gone or does not load declares nothing any more.
        if let Ok((spec, _)) = load(&global) {
            declared.add(&spec);
        }
    }
    declared
}

/// Whether a number is shown without being asked for: at most two names deep, no interval, no table by type, no list.
pub(super) fn headline(pointer: &str) -> bool {
    let names: Vec<&str> = pointer.split('/').skip(1).collect();
    let aside = |name: &&str| *name == "ci95" || name.starts_with("by_") || name.bytes().all(|b| b.is_ascii_digit());
    names.len() <= 2 && !names.iter().any(aside)
}

/// A number as people read it: integers whole, others with up to six significant digits.
pub(super) fn number(value: &Value) -> String {
    match value {
        Value::Number(number) if number.is_f64() => short(number.as_f64().unwrap_or(f64::NAN)),
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    }
}

fn short(x: f64) -> String {
    if x == 0.0 || (1e-4..1e15).contains(&x.abs()) {
        let places = (5 - x.abs().max(1e-4).log10().floor() as i32).clamp(0, 9) as usize;
        let text = format!("{x:.places$}");
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    } else {
        format!("{x:.3e}")
    }
}

/// `+0.0123`; nothing when there are not two numbers.
pub(super) fn delta(delta: Option<f64>, paint: Paint) -> String {
    match delta {
        None => String::new(),
        Some(0.0) => paint.dim("="),
        Some(delta) if delta > 0.0 => paint.cyan(&format!("+{}", short(delta))),
        Some(delta) => paint.yellow(&short(delta)),
    }
}

pub(super) fn metrics(global: &Global, args: &MetricsArgs, screen: &Screen) -> Outcome {
    let here = std::env::current_dir().unwrap_or_default();
    let engine = open(global)?;
    let declared = declared(global, &engine, &engine.runs()?);
    if declared.is_empty() {
        return Err(Failure::usage(anyhow!("no stage of the pipeline declares metrics"))
            .help("name an output slot that holds JSON or CSV under `metrics:` of its stage: `metrics: [SLOT]`"));
    }
    let plot = args.plot.as_ref().map(|file| destination(file.as_deref(), &here, &engine)).transpose()?;
    let since = args.since.as_deref().map(|run| engine.show(run)).transpose()?.map(|detail| detail.info);
    let wanted = args.limit.unwrap_or(if plot.is_some() || since.is_some() { usize::MAX } else { 2 });
    let mut taken = 0;
    let all = engine.metrics(args.run.as_deref(), &declared, |run| {
        taken += usize::from(!run.idle || taken == 0);
        // One more than asked for is the run before.
        taken >= wanted.max(2) || since.as_ref().is_some_and(|since| run.run.started <= since.started)
    })?;
    let Some(last) = all.last().map(|run| run.run.run.clone()) else {
        return Err(Failure::usage(anyhow!("no run of this pipeline is recorded")).help("logweir run"));
    };
    // A run in which nothing was done has the numbers of the one before.
    let idle = all.iter().filter(|run| run.idle && run.run.run != last).count();
    let runs: Vec<&RunMetrics> = all.iter().filter(|run| !run.idle || run.run.run == last).collect();
    let names = chosen(&runs, &args.metrics, screen.verbose)?;
    if names.is_empty() && !args.metrics.is_empty() {
        return Err(Failure::usage(anyhow!("no metric is called `{}`", args.metrics.join("`, `")))
            .help("logweir metrics -v lists all; `*` stands for one name, `**` for any: logweir metrics 'fusion/*'"));
    }
    if let Some(file) = &plot {
        draw(file, &runs, &names)?;
    }
    let many = args.limit.is_some() || since.is_some();
    if screen.json {
        screen.json(&document(&runs, &names, many, idle, plot.as_deref()))?;
    } else if plot.is_none() || many {
        screen.data(&if many { series(&runs, &names, screen) } else { latest(&runs, &names, screen) })?;
    }
    notes(&runs, &names, idle, many, args, screen);
    if let Some(file) = &plot {
        screen.note(&format!("written: {}", file.display()));
    }
    Ok(0)
}

/// What `metrics --json -n RUNS` says of the numbers that fit the patterns (none: the headline ones).
pub(crate) fn series_document(
    global: &Global,
    engine: &Engine,
    runs: usize,
    patterns: &[String],
) -> Result<Value, Failure> {
    let declared = declared(global, engine, &engine.runs()?);
    let mut taken = 0;
    let all = engine.metrics(None, &declared, |run| {
        taken += usize::from(!run.idle || taken == 0);
        taken >= runs.max(2)
    })?;
    let Some(last) = all.last().map(|run| run.run.run.clone()) else {
        return Ok(json!({"run": null, "previous": null, "runs": [], "unchanged": 0, "missing": {}, "metrics": []}));
    };
    let idle = all.iter().filter(|run| run.idle && run.run.run != last).count();
    let runs: Vec<&RunMetrics> = all.iter().filter(|run| !run.idle || run.run.run == last).collect();
    let names = chosen(&runs, patterns, false)?;
    Ok(document(&runs, &names, true, idle, None))
}

fn destination(file: Option<&Path>, here: &Path, engine: &Engine) -> Result<PathBuf, Failure> {
    let Some(file) = file else { return Ok(engine.project().root().join("reports/metrics-history.svg")) };
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("svg" | "png") => Ok(here.join(file)),
        _ => Err(Failure::usage(anyhow!("`{}` is no .svg or .png file", file.display()))
            .help("name metrics before --plot, or write --plot=FILE")),
    }
}

/// Names in the order of the artifacts, headline ones first.
fn chosen<'a>(runs: &[&'a RunMetrics], patterns: &[String], verbose: bool) -> Result<Vec<&'a str>, Failure> {
    let all: BTreeSet<&str> = runs.iter().flat_map(|run| run.values.keys()).map(String::as_str).collect();
    let mut names: Vec<&str> = if patterns.is_empty() {
        let first: Vec<&str> = all.iter().copied().filter(|name| verbose || headline(pointer(name))).collect();
        if first.is_empty() { all.into_iter().collect() } else { first }
    } else {
        let wanted = Names::new(patterns)?;
        all.into_iter().filter(|name| wanted.fit(name)).collect()
    };
    names.sort_by_key(|name| !headline(pointer(name)));
    Ok(names)
}

/// Patterns over names of metrics: `*` is any text without a slash, `**` any text. A name fits as a whole, by its pointer, or by the
/// pointer without its first slash.
struct Names(GlobSet);

impl Names {
    /// # Errors
    /// A pattern is none.
    fn new(patterns: &[String]) -> Result<Self, Failure> {
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            let glob = GlobBuilder::new(pattern).literal_separator(true).build().map_err(|error| {
                Failure::usage(anyhow!("`{pattern}` is no pattern: {}", error.kind()))
                    .help("`*` stands for one name, `**` for any: logweir metrics 'fusion/*'")
            })?;
            set.add(glob);
        }
        set.build().map(Self).map_err(|error| Failure::usage(anyhow!("{error}")))
    }

    fn fit(&self, name: &str) -> bool {
        let pointer = pointer(name);
        [name, pointer, pointer.trim_start_matches('/')].iter().any(|text| self.0.is_match(text))
    }
}

/// The place in its artifact that a metric's name says.
fn pointer(name: &str) -> &str {
    name.split_once('#').map_or("", |(_, pointer)| pointer)
}

fn value(run: &RunMetrics, name: &str) -> Value {
    run.values.get(name).cloned().map_or(Value::Null, Value::Number)
}

fn change(old: &Value, new: &Value) -> Option<f64> {
    old.as_f64().zip(new.as_f64()).map(|(old, new)| new - old)
}

fn document(runs: &[&RunMetrics], names: &[&str], many: bool, idle: usize, plot: Option<&Path>) -> Value {
    let before = runs.len().checked_sub(2).map(|at| runs[at]);
    let last = runs[runs.len() - 1];
    let row = |name: &&str| {
        let new = value(last, name);
        let old = before.map_or(Value::Null, |run| value(run, name));
        let mut row = json!({"metric": name, "value": new, "previous": old, "delta": change(&old, &new)});
        if many {
            row["values"] = runs.iter().map(|run| value(run, name)).collect();
        }
        row
    };
    json!({
        "run": last.run.run,
        "previous": before.map(|run| run.run.run.clone()),
        "runs": runs.iter().map(|run| run.run.run.clone()).collect::<Vec<_>>(),
        "unchanged": idle,
        "missing": last.missing,
        "metrics": names.iter().map(row).collect::<Vec<_>>(),
        "plot": plot,
    })
}

fn latest(runs: &[&RunMetrics], names: &[&str], screen: &Screen) -> String {
    let last = runs[runs.len() - 1];
    let before = runs.len().checked_sub(2).map(|at| runs[at]);
    let mut table = Table::default();
    table.row(["metric", last.run.run.as_str(), before.map_or("", |run| &run.run.run), ""].map(|c| screen.out.dim(c)));
    for name in names {
        let new = value(last, name);
        let old = before.map(|run| value(run, name));
        let moved = old.as_ref().map(|old| delta(change(old, &new), screen.out)).unwrap_or_default();
        table.row([(*name).to_owned(), number(&new), old.as_ref().map(number).unwrap_or_default(), moved]);
    }
    table.render(0)
}

/// A column a run as long as they fit, else a row a run.
fn series(runs: &[&RunMetrics], names: &[&str], screen: &Screen) -> String {
    let mut table = Table::default();
    if runs.len() <= COLUMNS {
        let head = std::iter::once("metric").chain(runs.iter().map(|run| run.run.run.as_str()));
        table.row(head.map(|cell| screen.out.dim(cell)));
        for name in names {
            table.row(std::iter::once((*name).to_owned()).chain(runs.iter().map(|run| number(&value(run, name)))));
        }
    } else {
        table.row(std::iter::once("run").chain(names.iter().copied()).map(|cell| screen.out.dim(cell)));
        for run in runs {
            let cells = names.iter().map(|name| number(&value(run, name)));
            table.row(std::iter::once(run.run.run.clone()).chain(cells));
        }
    }
    table.render(0)
}

fn notes(runs: &[&RunMetrics], names: &[&str], idle: usize, many: bool, args: &MetricsArgs, screen: &Screen) {
    let last = runs[runs.len() - 1];
    for (path, why) in last.missing.iter() {
        screen.note(&format!("`{path}`: {why}"));
    }
    let all = last.values.len();
    if args.metrics.is_empty() && !screen.verbose && all > names.len() {
        screen.note(&format!(
            "{} more: -v shows all, 'GLOB' some, e.g. 'fusion/*'",
            text::plural(all - names.len(), "number")
        ));
    }
    if many && idle > 0 {
        screen.note(&format!("left out: {} that executed and restored nothing", text::plural(idle, "run")));
    }
    if last.run.failed > 0 || last.run.interrupted {
        screen.note("the run did not finish: numbers of stages that failed or did not start are missing");
    }
}

fn draw(file: &Path, runs: &[&RunMetrics], names: &[&str]) -> Result<(), Failure> {
    let times: Vec<String> =
        runs.iter().map(|run| run.run.started.get(..16).unwrap_or(&run.run.started).replace('T', " ")).collect();
    let line = |name: &&str| Line {
        name: (*name).to_owned(),
        values: runs.iter().map(|run| run.values.get(*name).and_then(serde_json::Number::as_f64)).collect(),
    };
    let lines: Vec<Line> = names.iter().map(line).collect();
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))
            .map_err(Failure::environment)?;
    }
    history(file, &times, &lines).map_err(Failure::environment)
}

/// Returns by run one number, for a column.
pub(super) fn column(
    global: &Global,
    engine: &Engine,
    metric: &str,
    most: usize,
) -> Result<BTreeMap<String, Value>, Failure> {
    let declared = declared(global, engine, &engine.runs()?);
    let mut taken = 0;
    let all = engine.metrics(None, &declared, |_| {
        taken += 1;
        taken >= most
    })?;
    let names: BTreeSet<&String> = all.iter().flat_map(|run| run.values.keys()).collect();
    let wanted = Names::new(&[metric.to_owned()])?;
    let Some(name) = names.iter().find(|name| wanted.fit(name)) else {
        return Err(Failure::usage(anyhow!("no metric is called `{metric}`")).help("logweir metrics -v lists all"));
    };
    Ok(all.iter().map(|run| (run.run.run.clone(), value(run, name))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headline_numbers_are_short_named() {
        for name in ["/fusion/f1", "/unseen", ""] {
            assert!(headline(name), "{name}");
        }
        for name in ["/fusion/ci95/f1", "/fusion/ci95", "/by_anomaly_type/3", "/a/b/c", "/roc/0"] {
            assert!(!headline(name), "{name}");
        }
    }

    #[test]
    fn globs_and_numbers() {
        let fit = |pattern: &str, name: &str| Names::new(&[pattern.to_owned()]).unwrap().fit(name);
        assert!(fit("fusion/*", "m.json#/fusion/f1") && fit("fusion/**", "m.json#/fusion/ci95/f1"));
        assert!(fit("*", "m.json#") && fit("m.json#/f?", "m.json#/f1") && fit("**/f1", "m.json#/fusion/f1"));
        assert!(!fit("fusion/*", "m.json#/fusion/ci95/f1") && !fit("fusion", "m.json#/fusion/f1"));
        assert!(Names::new(&["a[".to_owned()]).is_err());
        let shown = [0.0, 0.123_456_789, -1.5, 42.0, 1_234.567_89, 1e-9, 0.9].map(short);
        assert_eq!(shown, ["0", "0.123457", "-1.5", "42", "1234.57", "1.000e-9", "0.9"]);
    }
}
