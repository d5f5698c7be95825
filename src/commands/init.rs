//! `init`: a project of one's own, in one folder: a small pipeline to begin with, or the shipped one, and where its log is.

mod logs;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use logweir_stages::detect::Guess;
use serde_json::{Value, json};

use crate::cli::{Global, InitArgs, Template};
use crate::commands::Outcome;
use crate::render::Screen;
use crate::render::diagnostic::Failure;
use crate::render::table::Table;
use crate::render::{fit, size};
use logs::Logs;

/// A pipeline that shows in one page what a pipeline is.
const SMALL: &str = include_str!("init/small.yaml");
/// The shipped pipeline.
const ANOMALIES: &str = include_str!("../../pipeline.yaml");
/// How the lines begin that `--from` replaces.
const RAW_ROOT: &str = r#"  raw: "${env.LOGWEIR_HDFS"#;
const RAW_LOG: &str = r#"      log: "raw:"#;
const SESSION: &str = "    with: { session:";
/// Columns of the lines shown where there is no terminal.
const WIDTH: usize = 160;
/// Results and history are made again from the sources: they stay out of version control.
const IGNORE: &str = "/cache/\n/data/\n/reports/\n";
pub(super) fn init(global: &Global, args: &InitArgs, screen: &Screen) -> Outcome {
    let folder = args.directory.clone().or_else(|| global.directory.clone()).unwrap_or_else(|| PathBuf::from("."));
    let pipeline = folder.join("pipeline.yaml");
    if pipeline.exists() {
        let failure = Failure::usage(anyhow!("`{}` exists already", pipeline.display()));
        return Err(failure.help("choose another folder, or edit that file"));
    }
    let mut found = None;
    let text = match args.template {
        Some(Template::Small) if !args.from.is_empty() => {
            let failure = Failure::usage(anyhow!("the small template reads no log"));
            return Err(failure.help("leave out `--template`, or `--from`"));
        }
        _ if !args.from.is_empty() => {
            let logs = Logs::find(&args.from)?;
            let guess = logs.look()?;
            let text = point_at(ANOMALIES, &logs, &guess);
            found = Some((logs, guess));
            text
        }
        Some(Template::Anomalies) => ANOMALIES.to_owned(),
        _ => SMALL.to_owned(),
    };
    write(&folder, "pipeline.yaml", &text)?;
    if !folder.join(".gitignore").exists() {
        write(&folder, ".gitignore", IGNORE)?;
    }
    if screen.json {
        let mut document = json!({"directory": folder, "pipeline": pipeline});
        if let Some((logs, guess)) = &found {
            document["logs"] = json!(logs.files);
            document["detected"] = described(guess)?;
        }
        screen.json(&document)?;
        return Ok(0);
    }
    screen.data(&format!("{}\n", pipeline.display()))?;
    let go = if folder == Path::new(".") { String::new() } else { format!("cd {} && ", folder.display()) };
    match (&found, args.template) {
        (Some((_, guess)), _) => {
            show(guess, screen);
            screen
                .note(&format!("next: correct the stage `parse` of pipeline.yaml where it is wrong, {go}logweir run"));
        }
        (None, Some(Template::Anomalies)) => {
            screen.note(&format!("try it on a simulated log: {go}logweir --profile demo run"));
            screen.note("with your own: set `roots.raw` and the session key in pipeline.yaml, then `logweir run`");
        }
        (None, _) => {
            screen.note(&format!("next: {go}logweir run, then read pipeline.yaml, change something and run again"));
            screen.note("for anomalies in logs: logweir init DIR --from LOG, or --template anomalies");
        }
    }
    Ok(0)
}

/// A guess as JSON, with the parameters it proposes.
fn described(guess: &Guess) -> Result<Value, Failure> {
    let bug = |e: serde_json::Error| Failure::bug(e.to_string());
    let mut value = serde_json::to_value(guess).map_err(bug)?;
    let params = serde_json::to_value(&guess.params).map_err(bug)?;
    for name in ["format", "timestamp_format", "year", "session"] {
        value["parameters"][name] = params[name].clone();
    }
    Ok(value)
}

/// Shows what was guessed, and the first lines as they are parsed.
fn show(guess: &Guess, screen: &Screen) {
    let Guess { what, lines, parsed, continued, rejected, .. } = guess;
    screen.note(&format!(
        "{what}: of the first {lines} lines {parsed} fit, {continued} continue the one before, {rejected} do not fit"
    ));
    match guess.keys.first() {
        Some(key) => screen.note(&format!("sessions by {}", key.about())),
        None => screen.note("nothing was found that tells sessions apart: set `session`"),
    }
    let mut table = Table::default();
    table.row(["time", "level", "component", "session", "message"].map(|name| screen.err.bold(name)));
    for row in &guess.rows {
        let sessions = row.sessions.join(" ");
        let time = row.time.clone().unwrap_or_default();
        table.row([time, row.level.clone(), fit(&row.component, 26), fit(&sessions, 24), row.template.clone()]);
    }
    let columns = if screen.bars { size().1.max(80) } else { WIDTH };
    for line in table.render(2).lines() {
        screen.note(&fit(line, columns));
    }
}

/// Returns the pipeline with its logs replaced, and how to parse them.
fn point_at(pipeline: &str, logs: &Logs, guess: &Guess) -> String {
    let root = format!("  raw: {}", quoted(&logs.root));
    let slots: Vec<String> = logs.slots.iter().map(|slot| quoted(slot)).collect();
    let slot = match slots.as_slice() {
        [one] => format!("      log: {one}"),
        several => format!("      log: [{}]", several.join(", ")),
    };
    let mut text = String::new();
    for line in pipeline.lines() {
        if line.starts_with(SESSION) {
            text.push_str("    with:\n");
            guess.yaml().lines().for_each(|line| text.push_str(&format!("      {line}\n")));
            continue;
        }
        text.push_str(match line {
            line if line.starts_with(RAW_ROOT) => &root,
            line if line.starts_with(RAW_LOG) => &slot,
            line => line,
        });
        text.push('\n');
    }
    text
}

/// A YAML string: double-quoted like in JSON, and not read as an interpolation.
fn quoted(text: &str) -> String {
    Value::from(text.replace("${", "$${")).to_string()
}

fn write(folder: &Path, name: &str, text: &str) -> Result<(), Failure> {
    let path = folder.join(name);
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder `{}`", folder.display()))
        .and_then(|()| fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display())))
        .map_err(|error| Failure::environment(error).help("choose a folder you may write to"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_pipeline_has_what_from_replaces() {
        for start in [RAW_ROOT, RAW_LOG, SESSION] {
            assert_eq!(ANOMALIES.lines().filter(|line| line.starts_with(start)).count(), 1, "{start}");
        }
    }

    #[test]
    fn from_points_root_and_slot_at_the_logs_and_says_how_they_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("my[1].log");
        fs::write(&log, "2024-01-15 10:00:00,123 INFO [main] a.B: ${x}\n".repeat(5)).unwrap();
        let logs = Logs::find(std::slice::from_ref(&log)).unwrap();
        let text = point_at(ANOMALIES, &logs, &logs.look().unwrap());
        let folder = dir.path().canonicalize().unwrap();
        assert!(text.contains(&format!("raw: {:?}", folder.to_str().unwrap())), "{text}");
        assert!(text.contains(r#"log: "raw:my[[]1[]].log""#), "{text}");
        assert!(text.contains("      format: '<Date> <Time> <Level> [<Thread>] <Component>: <Content>'\n"), "{text}");
        assert!(text.contains("      timestamp_format: '%Y-%m-%d %H:%M:%S,%f'\n"), "{text}");
        assert!(!text.contains("blk_-?"), "{text}");
    }
}
