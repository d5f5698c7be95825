//! `lineage` and `impact`: where an artifact or a number comes from, and what comes from it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use logweir_engine::bundle::Bundle;
use logweir_engine::digest::Digest;
use logweir_engine::engine::Project;
use logweir_engine::error::EngineError;
use logweir_engine::lineage::{Details, Lineage, Node, NodeType};
use rayon::prelude::{IndexedParallelIterator as _, IntoParallelRefIterator as _, ParallelIterator as _};
use serde_json::Value;

use crate::cli::{AboutArgs, Global, ImpactArgs, LineageArgs, LineageFormat};
use crate::commands::{Outcome, find};
use crate::render::diagnostic::Failure;
use crate::render::{Screen, text};

pub(super) fn lineage(global: &Global, args: &LineageArgs, screen: &Screen) -> Outcome {
    let document = ask(global, &args.target, &args.about, Direction::Up)?;
    let shown = show(&document, Direction::Up, args.about.format, screen);
    leave(document);
    shown
}

pub(super) fn impact(global: &Global, args: &ImpactArgs, screen: &Screen) -> Outcome {
    let document = ask(global, &args.target, &args.about, Direction::Down)?;
    let shown = show(&document, Direction::Down, args.about.format, screen);
    leave(document);
    shown
}

/// The program ends: to take apart ten thousands of nodes first would take a part of the time the answer took.
fn leave(document: Lineage) {
    std::mem::forget(document);
}

/// Asks the project; the bundle that is named; or, outside any project, the bundles that lie near.
fn ask(global: &Global, target: &str, about: &AboutArgs, direction: Direction) -> Result<Lineage, Failure> {
    let here = std::env::current_dir().unwrap_or_default();
    if let Some(path) = &about.bundle {
        return Ok(of_bundle(&Bundle::read(path)?, target, &here, direction)?);
    }
    let project = match find(global) {
        Ok(project) => project,
        Err(failure) => {
            let elsewhere = global.directory.is_some() || global.file.is_some() || about.run.is_some();
            let bundles = if elsewhere { Vec::new() } else { near(target, &here) };
            let hint = "enter the project or name it with `-C DIR`; or name its exported lineage with `--bundle PATH`";
            return from_any(&bundles, target, &here, direction).unwrap_or_else(|| match failure {
                Failure::Engine(error @ EngineError::NoProject(_)) if !elsewhere => {
                    Err(Failure::usage(error).help(hint))
                }
                other => Err(other),
            });
        }
    };
    let (target, run) = (place(target, &here, &project), about.run.as_deref());
    Ok(match direction {
        Direction::Up => project.lineage(&target, run)?,
        Direction::Down => project.impact(&target, run)?,
    })
}

fn of_bundle(bundle: &Bundle, target: &str, here: &Path, direction: Direction) -> Result<Lineage, EngineError> {
    match direction {
        Direction::Up => bundle.lineage(target, here),
        Direction::Down => bundle.impact(target, here),
    }
}

/// The first answer; else the first refusal; `None` without any bundle.
fn from_any(bundles: &[PathBuf], target: &str, here: &Path, direction: Direction) -> Option<Result<Lineage, Failure>> {
    let mut refused = None;
    for path in bundles {
        let answer = Bundle::read(path).and_then(|bundle| of_bundle(&bundle, target, here, direction));
        match answer {
            Ok(document) => return Some(Ok(document)),
            Err(error) => refused = refused.or(Some(Err(error.into()))),
        }
    }
    refused
}

/// Bundles in the folder of the file asked about and in the current one, and folders there that hold one.
fn near(target: &str, here: &Path) -> Vec<PathBuf> {
    let name = target.split_once('#').map_or(target, |(name, _)| name);
    let beside = here.join(name).parent().map(Path::to_path_buf);
    let mut found = Vec::new();
    for folder in beside.into_iter().chain([here.to_path_buf()]) {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let json = |path: &PathBuf| path.is_dir() || path.extension().is_some_and(|extension| extension == "json");
        let mut bundles: Vec<PathBuf> = entries.filter(json).filter(|path| Bundle::at(path)).collect();
        bundles.sort();
        found.extend(bundles);
    }
    found.dedup();
    found
}

/// Paths are the project's; but a file that is only there from where the user stands is that one.
fn place(target: &str, here: &Path, project: &Project) -> String {
    let (path, pointer) = target.split_once('#').map_or((target, None), |(path, rest)| (path, Some(rest)));
    let other = here.join(path);
    if path.is_empty() || project.root().join(path).exists() || !other.exists() {
        return target.to_owned();
    }
    let other = other.display();
    pointer.map_or_else(|| other.to_string(), |pointer| format!("{other}#{pointer}"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

fn show(document: &Lineage, direction: Direction, format: LineageFormat, screen: &Screen) -> Outcome {
    match format {
        LineageFormat::Json => screen.json(document)?,
        LineageFormat::Text if screen.json => screen.json(document)?,
        LineageFormat::Text => screen.data(&Tree::new(document, direction, screen).render())?,
        LineageFormat::Mermaid => screen.data(&document.picture().mermaid())?,
        LineageFormat::Dot => screen.data(&document.picture().dot())?,
        LineageFormat::Svg => screen.data(&document.picture().svg())?,
    }
    Ok(0)
}

/// Deeper levels are not indented further: their number is written instead.
const DEEPEST: usize = 24;

/// A lineage document as a tree: what has one origin stands over it, what has several is indented; what was shown before
/// is only named again.
struct Tree<'a> {
    document: &'a Lineage,
    direction: Direction,
    screen: &'a Screen,
    /// By place in the document: where its edges lead.
    next: Vec<Vec<usize>>,
}

impl<'a> Tree<'a> {
    fn new(document: &'a Lineage, direction: Direction, screen: &'a Screen) -> Self {
        let mut next = vec![Vec::new(); document.nodes.len()];
        for (from, to) in document.places() {
            let (here, there) = if direction == Direction::Up { (to, from) } else { (from, to) };
            next[here].push(there);
        }
        Self { document, direction, screen, next }
    }

    /// The nodes nothing leads to: the target, or all of several.
    fn roots(&self) -> Vec<usize> {
        let mut reached = vec![false; self.next.len()];
        self.next.iter().flatten().for_each(|node| reached[*node] = true);
        (0..reached.len()).filter(|node| !reached[*node]).collect()
    }

    fn render(&self) -> String {
        let paint = self.screen.out;
        let mut out = String::with_capacity(self.document.nodes.len() * 160);
        if !self.document.value.is_null() {
            let value = match &self.document.value {
                Value::String(s) => s.clone(),
                other => other.to_string(),
            };
            let _ = writeln!(out, "{} = {}", self.document.target, paint.bold(&value));
        }
        for note in &self.document.notes {
            let _ = writeln!(out, "{} {note}", paint.yellow("note:"));
        }
        // What is said of a node where it is shown first depends on it alone.
        let said = |node: &Node| {
            let details = node.details.iter().flat_map(|details| self.details(details)).collect();
            (self.line(node, true), details)
        };
        let said: Vec<(String, Vec<String>)> = self.document.nodes.par_iter().with_min_len(256).map(said).collect();
        let mut seen = vec![false; self.next.len()];
        // (node, depth): a stack of its own, for chains of any length.
        let mut open: Vec<(usize, usize)> = self.roots().into_iter().rev().map(|place| (place, 0)).collect();
        while let Some((place, depth)) = open.pop() {
            let (node, children) = (&self.document.nodes[place], &self.next[place]);
            let first = !std::mem::replace(&mut seen[place], true);
            let shown = first || (children.is_empty() && node.kind == NodeType::Artifact);
            let again = if shown { String::new() } else { paint.dim(" (above)") };
            let indent = match depth {
                0..=DEEPEST => "  ".repeat(depth),
                _ => format!("{}{} ", "  ".repeat(DEEPEST), paint.dim(&format!("[{depth}]"))),
            };
            if !first {
                let _ = writeln!(out, "{indent}{}{again}", self.line(node, false));
            } else {
                let (line, details) = &said[place];
                let _ = writeln!(out, "{indent}{line}{again}");
                for line in details {
                    let _ = writeln!(out, "{indent}  {line}");
                }
                let below = if children.len() > 1 { depth + 1 } else { depth };
                open.extend(children.iter().rev().map(|child| (*child, below)));
            }
        }
        let count = |kind| self.document.nodes.iter().filter(|node| node.kind == kind).count();
        let words = if self.direction == Direction::Up { "come from" } else { "lead to" };
        let _ = writeln!(
            out,
            "{}",
            paint.dim(&format!(
                "{} and {} {words} `{}`",
                text::plural(count(NodeType::Artifact), "artifact"),
                text::plural(count(NodeType::Action), "action"),
                self.document.target
            ))
        );
        out
    }

    /// A digest or key as people see it: 12 digits, all with `-v`.
    fn digest(&self, digest: &Digest) -> String {
        if self.screen.verbose { digest.to_string() } else { digest.short() }
    }

    fn line(&self, node: &Node, first: bool) -> String {
        let paint = self.screen.out;
        let verbose = self.screen.verbose;
        match node.kind {
            NodeType::Artifact => {
                let digest = node.digest.map(|digest| self.digest(&digest)).unwrap_or_default();
                let mut line = node.path.clone().unwrap_or_else(|| node.id.clone());
                if let Some(file) = &node.file {
                    line.push_str(&paint.dim(&format!(" ({file})")));
                }
                format!("{line}  {}", paint.dim(&digest))
            }
            NodeType::Action => {
                let stage = node.stage.as_deref().unwrap_or_default();
                let key = node.key.map(|key| self.digest(&key)).unwrap_or_default();
                let run = node.run.as_deref().map(|run| format!(" executed in run {run}")).unwrap_or_default();
                let decided = |details: &Details| {
                    let then = self.document.as_of.as_ref() == node.run.as_ref();
                    let decision = details.decision.filter(|_| !then)?;
                    Some(format!(", {} in {}", decision.name(), self.document.as_of.as_deref()?))
                };
                let decided = node.details.as_deref().and_then(decided).unwrap_or_default();
                if !first {
                    let arrow = if self.direction == Direction::Up { '←' } else { '→' };
                    return format!("{} {}", paint.cyan(&format!("{arrow} {stage}")), paint.dim(&format!("key {key}")));
                }
                let params = node.params.as_ref().filter(|p| p.as_object().is_none_or(|o| !o.is_empty()));
                let params = params.map(|p| format!("  {}", text::value(p, verbose))).unwrap_or_default();
                let arrow = if self.direction == Direction::Up { '←' } else { '→' };
                format!(
                    "{} {}{params}",
                    paint.cyan(&format!("{arrow} {stage}")),
                    paint.dim(&format!("key {key}{run}{decided}"))
                )
            }
        }
    }

    /// What else is recorded of an action, a line each.
    fn details(&self, details: &Details) -> Vec<String> {
        let (paint, verbose) = (self.screen.out, self.screen.verbose);
        let mut lines = Vec::new();
        if let Some(command) = &details.command {
            let command = text::value(&Value::from(command.trim_end()), verbose);
            lines.push(paint.dim(&format!("$ {command}")));
        }
        let mut words = Vec::new();
        if let Some(kind) = &details.kind {
            let version = details.version.map(|version| format!(" v{version}")).unwrap_or_default();
            let code = details.code.map(|code| format!(", code {}", self.digest(&code))).unwrap_or_default();
            words.push(format!("{kind}{version}{code}"));
        }
        words.push(format!("{} for {}", details.started, text::seconds(details.seconds)));
        words.push(text::plural(details.threads, "thread"));
        words.push(format!("{} ({}), logweir {}", details.host, details.platform, details.program));
        lines.push(paint.dim(&words.join(" · ")));
        let named = |what: &str, text: String| paint.dim(&format!("{what} {text}"));
        for (name, value) in &details.env {
            lines.push(named("env", format!("{name}={}", value.as_deref().unwrap_or("(unset)"))));
        }
        for (tool, output) in &details.tools {
            let output = text::value(&Value::from(output.trim_end()), verbose);
            lines.push(named("tool", format!("`{tool}`: {output}")));
        }
        lines.extend((!details.secrets.is_empty()).then(|| named("secrets", details.secrets.join(", "))));
        lines.extend(details.effect.as_ref().map(|effect| named("acts on", effect.clone())));
        if details.warnings > 0 {
            lines.push(paint.yellow(&text::plural(details.warnings, "warning")));
        }
        for path in &details.undeclared.read {
            lines.push(paint.yellow(&format!("read without declaring it: {path}")));
        }
        for path in &details.undeclared.written {
            lines.push(paint.yellow(&format!("wrote without declaring it: {path}")));
        }
        lines
    }
}
