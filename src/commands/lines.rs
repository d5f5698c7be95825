//! `lines`: the raw log lines of sessions.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use logweir_engine::engine::Engine;
use logweir_engine::history::{RunDetail, StageOutcome};
use logweir_stages::parse::places::Places;
use logweir_stages::parse::whole_of;
use logweir_stages::session_lines::{RawLine, find_session, raw_lines, similar_sessions};
use logweir_stages::templates::{Template, read_templates};
use serde_json::json;

use crate::cli::{Global, LinesArgs};
use crate::commands::score::{only, producer};
use crate::commands::{Outcome, open};
use crate::render::Screen;
use crate::render::diagnostic::Failure;

/// Most sessions proposed for one that is not there.
const PROPOSED: usize = 3;

pub(super) fn lines(global: &Global, args: &LinesArgs, screen: &Screen) -> Outcome {
    let engine = open(global)?;
    let detail = engine.show(args.run.as_deref().unwrap_or("last"))?;
    let artifacts = Artifacts::of(&engine, &detail)?;
    let mut found = Vec::with_capacity(args.sessions.len());
    for id in &args.sessions {
        found.push((id, artifacts.lines(id, &detail)?));
    }
    if screen.json {
        let session =
            |(id, lines): &(&String, Vec<RawLine>)| json!({"session_id": id, "lines": artifacts.named(lines)});
        let sessions: Vec<serde_json::Value> = found.iter().map(session).collect();
        screen.json(&json!({"run": detail.info.run, "sessions": sessions}))?;
        return Ok(0);
    }
    for (number, (id, lines)) in found.iter().enumerate() {
        let title = (found.len() > 1).then_some(id.as_str());
        screen.data(&shown(title, number > 0, lines))?;
    }
    Ok(0)
}

/// What a run recorded of its sessions.
pub(super) struct Artifacts {
    pub(super) sessions: PathBuf,
    places: Places,
    pub(super) templates: Vec<Template>,
    logs: BTreeMap<String, PathBuf>,
}

impl Artifacts {
    pub(super) fn of(engine: &Engine, detail: &RunDetail) -> Result<Self, Failure> {
        let nothing = |error: anyhow::Error| {
            Failure::environment(error.context(format!("run {} has no sessions", detail.info.run)))
                .help("run the pipeline first, or name a run that made sessions: logweir runs")
        };
        let sessionize = only(detail, "sessionize").map_err(nothing)?;
        let output = sessionize.outputs.get("sessions").context("it wrote none").map_err(nothing)?;
        let (_, templates) = producer(detail, sessionize, "templates").map_err(nothing)?;
        let file = |output| -> Result<PathBuf, Failure> {
            let mut files = engine.stored(output)?;
            files.remove("").ok_or_else(|| Failure::bug("a file has no place"))
        };
        let mut files = BTreeMap::new();
        let mut makers = Vec::new();
        let events = sessionize.inputs.get("events").and_then(|files| files.keys().next());
        let events = events.context("it read no events").map_err(nothing)?.trim_end_matches('/');
        for stage in &detail.stages {
            for output in stage.outputs.values().filter(|output| output.is_directory()) {
                // The whole directory, or the part of it that one item of a mapped stage made.
                let own = output.path.trim_end_matches('/');
                let Some(below) = own.strip_prefix(events) else { continue };
                let prefix = match below.strip_prefix('/') {
                    _ if below.is_empty() => String::new(),
                    Some(inside) => format!("{inside}/"),
                    None => continue,
                };
                makers.push(stage);
                files.extend(engine.stored(output)?.into_iter().map(|(path, place)| (prefix.clone() + &path, place)));
            }
        }
        Ok(Self {
            sessions: file(output)?,
            places: Places::of_files(&files).map_err(nothing)?,
            templates: read_templates(&file(templates)?).map_err(Failure::environment)?,
            logs: logs_of(engine, detail, &makers),
        })
    }

    /// The raw lines of a session.
    pub(super) fn lines(&self, id: &str, detail: &RunDetail) -> Result<Vec<RawLine>, Failure> {
        let Some(session) = find_session(&self.sessions, id).map_err(Failure::environment)? else {
            return Err(self.missing(id, detail)?);
        };
        raw_lines(&session, &self.places, &self.logs).map_err(|error| {
            Failure::environment(error.context(format!("cannot show the lines of `{id}`")))
                .help("the log must lie where the run read it, with the bytes it had then")
        })
    }

    /// Says that there is no such session, and which ones are called alike.
    pub(super) fn missing(&self, id: &str, detail: &RunDetail) -> Result<Failure, Failure> {
        let like = similar_sessions(&self.sessions, id, PROPOSED).map_err(Failure::environment)?;
        let help = if like.is_empty() {
            "data/sessions.csv lists all, or what the stage `label` of your pipeline writes".to_owned()
        } else {
            let like: Vec<String> = like.iter().map(|id| format!("`{id}`")).collect();
            format!("did you mean {}?", like.join(" or "))
        };
        Ok(Failure::usage(anyhow!("run {} has no session `{id}`", detail.info.run)).help(help))
    }

    /// The lines with the ids of their templates.
    pub(super) fn named(&self, lines: &[RawLine]) -> serde_json::Value {
        let one = |line: &RawLine| {
            let mut value = json!(line);
            let template = self.templates.get(line.template as usize);
            value["event_id"] = template.map(|t| t.event_id.as_str()).into();
            value
        };
        lines.iter().map(one).collect()
    }
}

/// Where the logs are that the stages read, by logical path.
fn logs_of(engine: &Engine, detail: &RunDetail, makers: &[&StageOutcome]) -> BTreeMap<String, PathBuf> {
    let place = |logical: &String| {
        // A mapped stage may have read a piece.
        let (logical, _) = whole_of(logical);
        let path = match logical.split_once(':') {
            Some((root, rest)) if detail.roots.contains_key(root) => PathBuf::from(&detail.roots[root]).join(rest),
            _ => PathBuf::from(logical),
        };
        (logical.to_owned(), engine.project().root().join(path))
    };
    makers.iter().filter_map(|stage| stage.inputs.get("log")).flat_map(|files| files.keys().map(place)).collect()
}

/// `FILE:LINE: TEXT`, as grep writes it; further lines of an entry are indented.
fn shown(title: Option<&str>, gap: bool, lines: &[RawLine]) -> String {
    let mut out = String::new();
    if let Some(title) = title {
        let _ = writeln!(out, "{}{title}", if gap { "\n" } else { "" });
    }
    for line in lines {
        let _ = writeln!(out, "{}:{}: {}", line.file, line.line, line.text.replace('\n', "\n    "));
    }
    out
}
