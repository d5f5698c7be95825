//! `init`: a project of one's own, in one folder: a small pipeline to begin with, or the shipped one, and where its log is.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};

use crate::cli::{Global, InitArgs, Template};
use crate::commands::Outcome;
use crate::render::Screen;
use crate::render::diagnostic::Failure;

/// A pipeline that shows in one page what a pipeline is.
const SMALL: &str = include_str!("init/small.yaml");
/// The shipped pipeline.
const ANOMALIES: &str = include_str!("../../pipeline.yaml");
/// How the lines begin that `--from` replaces.
const RAW_ROOT: &str = r#"  raw: "${env.LOGWEIR_HDFS"#;
const RAW_LOG: &str = r#"      log: "raw:"#;
/// Results and history are made again from the sources: they stay out of version control.
const IGNORE: &str = "/cache/\n/data/\n/reports/\n";
/// How much of a log is looked at.
const SAMPLE: u64 = 1 << 20;

pub(super) fn init(global: &Global, args: &InitArgs, screen: &Screen) -> Outcome {
    let folder = args.directory.clone().or_else(|| global.directory.clone()).unwrap_or_else(|| PathBuf::from("."));
    let pipeline = folder.join("pipeline.yaml");
    if pipeline.exists() {
        let failure = Failure::usage(anyhow!("`{}` exists already", pipeline.display()));
        return Err(failure.help("choose another folder, or edit that file"));
    }
    let text = match (&args.from, args.template) {
        (Some(_), Some(Template::Small)) => {
            let failure = Failure::usage(anyhow!("the small template reads no log"));
            return Err(failure.help("leave out `--template`, or `--from`"));
        }
        (Some(log), _) => point_at(ANOMALIES, log)?,
        (None, Some(Template::Anomalies)) => ANOMALIES.to_owned(),
        (None, _) => SMALL.to_owned(),
    };
    write(&folder, "pipeline.yaml", &text)?;
    if !folder.join(".gitignore").exists() {
        write(&folder, ".gitignore", IGNORE)?;
    }
    if screen.json {
        screen.json(&json!({"directory": folder, "pipeline": pipeline}))?;
        return Ok(0);
    }
    screen.data(&format!("{}\n", pipeline.display()))?;
    let go = if folder == Path::new(".") { String::new() } else { format!("cd {} && ", folder.display()) };
    match (&args.from, args.template) {
        (None, Some(Template::Anomalies)) => {
            screen.note(&format!("try it on a simulated log: {go}logweir --profile demo run"));
            screen.note("with your own: set `roots.raw` and the session key in pipeline.yaml, then `logweir run`");
        }
        (None, _) => {
            screen.note(&format!("next: {go}logweir run, then read pipeline.yaml, change something and run again"));
            screen.note("for anomalies in logs: logweir init DIR --from LOG, or --template anomalies");
        }
        (Some(log), _) => {
            if !names_blocks(log) {
                screen.note(&format!(
                    "no `blk_…` found at the beginning of {}: set `stages.parse.with.session` (what tells sessions \
                     apart) and `format` in pipeline.yaml; `logweir stages parse` explains both",
                    log.display()
                ));
            }
            screen.note(&format!("next: {go}logweir plan, then logweir run"));
        }
    }
    Ok(0)
}

/// Returns the pipeline with its log replaced.
fn point_at(pipeline: &str, log: &Path) -> Result<String, Failure> {
    let place = log
        .canonicalize()
        .with_context(|| format!("cannot find the log `{}`", log.display()))
        .map_err(|error| Failure::environment(error).help("check the path, relative to where you stand"))?;
    let (Some(parent), Some(name)) =
        (place.parent().and_then(Path::to_str), place.file_name().and_then(|n| n.to_str()))
    else {
        let failure = Failure::usage(anyhow!("`{}` is no log file with a Unicode name", log.display()));
        return Err(failure.help("rename it: pipelines name their files"));
    };
    if !place.is_file() {
        let failure = Failure::usage(anyhow!("`{}` is no file", log.display()));
        return Err(failure.help("name one log file; `in` of the stage `parse` can take more later"));
    }
    let root = format!("  raw: {}", quoted(parent));
    let slot = format!("      log: {}", quoted(&format!("raw:{}", escape_glob(name))));
    let mut text = String::new();
    for line in pipeline.lines() {
        text.push_str(match line {
            line if line.starts_with(RAW_ROOT) => &root,
            line if line.starts_with(RAW_LOG) => &slot,
            line => line,
        });
        text.push('\n');
    }
    Ok(text)
}

/// A YAML string: double-quoted like in JSON, and not read as an interpolation.
fn quoted(text: &str) -> String {
    Value::from(text.replace("${", "$${")).to_string()
}

/// Characters that would make a name a pattern match themselves only.
fn escape_glob(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        match c {
            '*' | '?' | '[' | ']' | '{' | '}' => out.extend(['[', c, ']']),
            c => out.push(c),
        }
    }
    out
}

/// Whether the beginning of a log names blocks, as HDFS logs do; true for compressed files, which are not opened.
fn names_blocks(log: &Path) -> bool {
    let compressed = log.extension().is_some_and(|e| e == "gz" || e == "zst");
    let mut head = Vec::new();
    let read = File::open(log).and_then(|file| file.take(SAMPLE).read_to_end(&mut head));
    compressed || read.is_err() || String::from_utf8_lossy(&head).contains("blk_")
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
        for start in [RAW_ROOT, RAW_LOG] {
            assert_eq!(ANOMALIES.lines().filter(|line| line.starts_with(start)).count(), 1, "{start}");
        }
    }

    #[test]
    fn from_points_root_and_slot_at_one_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("my[1].log");
        fs::write(&log, "x\n").unwrap();
        let text = point_at(ANOMALIES, &log).unwrap();
        let folder = dir.path().canonicalize().unwrap();
        assert!(text.contains(&format!("raw: {:?}", folder.to_str().unwrap())), "{text}");
        assert!(text.contains(r#"log: "raw:my[[]1[]].log""#), "{text}");
        assert!(!names_blocks(&log));
    }
}
