//! `lineage` and `impact`: where an artifact or a number comes from, and what comes from it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use logweir_engine::engine::Engine;
use logweir_engine::lineage::{Lineage, Node, NodeType};
use serde_json::Value;

use crate::cli::{Global, ImpactArgs, LineageArgs};
use crate::commands::{Outcome, open};
use crate::render::{Screen, text};

pub(super) fn lineage(global: &Global, args: &LineageArgs, screen: &Screen) -> Outcome {
    let here = std::env::current_dir().unwrap_or_default();
    let engine = open(global)?;
    let document = engine.lineage(&place(&args.target, &here, &engine), args.run.as_deref())?;
    show(&document, Direction::Up, screen)
}

pub(super) fn impact(global: &Global, args: &ImpactArgs, screen: &Screen) -> Outcome {
    let here = std::env::current_dir().unwrap_or_default();
    let engine = open(global)?;
    let document = engine.impact(&place(&args.target, &here, &engine))?;
    show(&document, Direction::Down, screen)
}

/// Paths are the project's; but a file that is only there from where the user stands is that one.
fn place(target: &str, here: &Path, engine: &Engine) -> String {
    let (path, pointer) = target.split_once('#').map_or((target, None), |(path, rest)| (path, Some(rest)));
    let other = here.join(path);
    if path.is_empty() || engine.project().root().join(path).exists() || !other.exists() {
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

fn show(document: &Lineage, direction: Direction, screen: &Screen) -> Outcome {
    if screen.json {
        screen.json(document)?;
    } else {
        screen.data(&Tree::new(document, direction, screen).render())?;
    }
    Ok(0)
}

/// A lineage document as an indented tree; what was shown before is only named again.
struct Tree<'a> {
    document: &'a Lineage,
    direction: Direction,
    screen: &'a Screen,
    nodes: BTreeMap<&'a str, &'a Node>,
    next: BTreeMap<&'a str, Vec<&'a str>>,
}

impl<'a> Tree<'a> {
    fn new(document: &'a Lineage, direction: Direction, screen: &'a Screen) -> Self {
        let mut next: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (from, to) in &document.edges {
            let (here, there) = if direction == Direction::Up { (to, from) } else { (from, to) };
            next.entry(here).or_default().push(there);
        }
        let nodes = document.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
        Self { document, direction, screen, nodes, next }
    }

    /// The nodes nothing leads to: the target, or all of several.
    fn roots(&self) -> Vec<&'a str> {
        let reached: BTreeSet<&str> = self.next.values().flatten().copied().collect();
        self.document.nodes.iter().map(|node| node.id.as_str()).filter(|id| !reached.contains(id)).collect()
    }

    fn render(&self) -> String {
        let paint = self.screen.out;
        let mut out = String::new();
        if !self.document.value.is_null() {
            let value = match &self.document.value {
                Value::String(s) => s.clone(),
                other => other.to_string(),
            };
            let _ = writeln!(out, "{} = {}", self.document.target, paint.bold(&value));
        }
        let mut seen = BTreeSet::new();
        // (node, depth): a stack of its own, for chains of any length.
        let mut open: Vec<(&str, usize)> = self.roots().into_iter().rev().map(|id| (id, 0)).collect();
        while let Some((id, depth)) = open.pop() {
            let Some(node) = self.nodes.get(id) else { continue };
            let first = seen.insert(id);
            let children = self.next.get(id).map_or(&[][..], Vec::as_slice);
            let again = if first || children.is_empty() { String::new() } else { paint.dim(" (above)") };
            let _ = writeln!(out, "{}{}{again}", "  ".repeat(depth), self.line(node));
            if first {
                open.extend(children.iter().rev().map(|child| (*child, depth + 1)));
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

    fn line(&self, node: &Node) -> String {
        let paint = self.screen.out;
        let verbose = self.screen.verbose;
        match node.kind {
            NodeType::Artifact => {
                let digest = node.digest.map(|d| d.to_string()).unwrap_or_default();
                let mut line = node.path.clone().unwrap_or_else(|| node.id.clone());
                if let Some(file) = &node.file {
                    line.push_str(&paint.dim(&format!(" ({file})")));
                }
                format!("{line}  {}", paint.dim(text::digest(&digest, verbose)))
            }
            NodeType::Action => {
                let stage = node.stage.as_deref().unwrap_or_default();
                let key = node.key.map(|key| key.to_string()).unwrap_or_default();
                let run = node.run.as_deref().map(|run| format!(" in run {run}")).unwrap_or_default();
                let params = node.params.as_ref().filter(|p| p.as_object().is_none_or(|o| !o.is_empty()));
                let params = params.map(|p| format!("  {}", text::value(p, verbose))).unwrap_or_default();
                let arrow = if self.direction == Direction::Up { '←' } else { '→' };
                format!(
                    "{} {}{params}",
                    paint.cyan(&format!("{arrow} {stage}")),
                    paint.dim(&format!("key {}{run}", text::digest(&key, verbose)))
                )
            }
        }
    }
}
