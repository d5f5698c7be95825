//! The model: a random pipeline, what it reads, and what a clean run of it leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::sample::Index;

/// How a stage works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Glues files together.
    Concat,
    /// Makes a directory with a file for each line.
    Spread,
    /// A command that writes `${out.out}`.
    Shell,
    /// A command that writes its declared path itself.
    Own,
    /// A command that writes a directory.
    Folder,
}

/// A stage.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Names its output; never used again.
    pub(super) id: usize,
    /// How often it was renamed.
    renamed: usize,
    /// Outputs and sources it reads.
    reads: BTreeSet<usize>,
    sources: BTreeSet<u8>,
    suffix: u8,
    action: Action,
    threads: usize,
    /// The declared variable is in its key, and in the output of commands.
    env: bool,
    /// A tool is in its key.
    tool: bool,
}

/// A stage before it is put into a pipeline.
#[derive(Clone, Debug)]
pub(super) struct Seed {
    reads: Vec<Index>,
    sources: Vec<u8>,
    suffix: u8,
    action: Action,
    threads: usize,
    env: bool,
    tool: bool,
}

pub(super) fn seed() -> impl Strategy<Value = Seed> {
    let action = prop_oneof![
        20 => Just(Action::Concat),
        4 => Just(Action::Spread),
        2 => Just(Action::Shell),
        1 => Just(Action::Own),
        1 => Just(Action::Folder),
    ];
    let reads = prop::collection::vec(any::<Index>(), 0..3);
    let sources = prop::collection::vec(0u8..3, 0..3);
    let rarely = prop::bool::weighted;
    (reads, sources, 0u8..3, action, 1usize..4, rarely(0.2), rarely(0.03)).prop_map(
        |(reads, sources, suffix, action, threads, env, tool)| Seed {
            reads,
            sources,
            suffix,
            action,
            threads,
            env,
            tool,
        },
    )
}

impl Node {
    pub(super) fn name(&self) -> String {
        format!("s{}{}", self.id, "x".repeat(self.renamed))
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self.action, Action::Spread | Action::Folder)
    }

    pub(super) fn writes_itself(&self) -> bool {
        self.action == Action::Own
    }

    /// The declared output path.
    pub(super) fn output(&self) -> String {
        format!("out/{}{}", self.id, if self.is_directory() { "/" } else { "" })
    }
}

/// Everything that decides what a clean run leaves.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    pub(super) sources: [u8; 3],
    pub(super) flag: Option<u8>,
    pub(super) tool: u8,
    next: usize,
}

impl World {
    pub(super) fn new(seeds: &[Seed]) -> Self {
        let mut world = Self { nodes: Vec::new(), sources: [0, 1, 2], flag: None, tool: 0, next: 0 };
        for seed in seeds {
            world.add(seed);
        }
        world
    }

    pub(super) fn add(&mut self, seed: &Seed) {
        let id = self.next;
        self.next += 1;
        let count = self.nodes.len();
        let mut reads: BTreeSet<usize> =
            seed.reads.iter().filter(|_| count > 0).map(|index| self.nodes[index.index(count)].id).collect();
        let mut sources: BTreeSet<u8> = seed.sources.iter().copied().collect();
        if seed.action == Action::Spread {
            // It takes one file.
            reads.clear();
            sources = BTreeSet::from([sources.first().copied().unwrap_or(0)]);
        }
        if reads.is_empty() && sources.is_empty() {
            sources.insert(0);
        }
        let shell = matches!(seed.action, Action::Shell | Action::Own | Action::Folder);
        let Seed { suffix, action, threads, env, tool, .. } = *seed;
        self.nodes.push(Node { id, renamed: 0, reads, sources, suffix, action, threads, env, tool: tool && shell });
    }

    pub(super) fn remove(&mut self, which: &Index) {
        if self.nodes.len() > 1 {
            let gone = self.nodes.remove(which.index(self.nodes.len())).id;
            for node in &mut self.nodes {
                node.reads.remove(&gone);
                if node.reads.is_empty() && node.sources.is_empty() {
                    node.sources.insert(0);
                }
            }
        }
    }

    pub(super) fn rename(&mut self, which: &Index) {
        let count = self.nodes.len();
        self.nodes[which.index(count)].renamed += 1;
    }

    pub(super) fn set_suffix(&mut self, which: &Index, suffix: u8) {
        let count = self.nodes.len();
        self.nodes[which.index(count)].suffix = suffix;
    }

    /// Returns the names of the stages a stage reads.
    pub(super) fn upstream(&self, name: &str) -> Vec<String> {
        let Some(node) = self.nodes.iter().find(|node| node.name() == name) else { return Vec::new() };
        self.nodes.iter().filter(|other| node.reads.contains(&other.id)).map(Node::name).collect()
    }

    pub(super) fn source_text(&self, source: usize) -> String {
        format!("{0}\nline {0}\n", self.sources[source])
    }

    pub(super) fn yaml(&self) -> String {
        let mut yaml = "stages:\n".to_owned();
        for node in &self.nodes {
            let reads = self.nodes.iter().filter(|other| node.reads.contains(&other.id)).map(|other| {
                if other.is_directory() { format!("'{}**/*.txt'", other.output()) } else { other.output() }
            });
            let reads: Vec<String> = reads.chain(node.sources.iter().map(|source| format!("src/{source}"))).collect();
            let (reads, suffix, output) = (reads.join(", "), node.suffix, node.output());
            let flag = if node.env { "; printf \"$${FLAG-}\"" } else { "" };
            let action = match node.action {
                Action::Concat => format!("uses: concat, with: {{ suffix: '{suffix}' }}"),
                Action::Spread => "uses: spread".to_owned(),
                Action::Shell => format!("run: '(cat ${{in.in}}; printf {suffix}{flag}) > ${{out.out}}'"),
                Action::Own => format!("run: '(cat ${{in.in}}; printf {suffix}{flag}) > {output}'"),
                Action::Folder => format!(
                    "run: '(cat ${{in.in}}; printf {suffix}{flag}) > ${{out.out}}/a.txt; mkdir ${{out.out}}/sub; echo {suffix} > ${{out.out}}/sub/b.txt'"
                ),
            };
            let env = if node.env { ", env: [FLAG]" } else { "" };
            let tools = if node.tool { ", tools: ['cat src/tool']" } else { "" };
            let threads = node.threads;
            let _ = writeln!(
                yaml,
                "  {}: {{ {action}, in: {{ in: [{reads}] }}, out: {{ out: {output} }}, threads: {threads}{env}{tools} }}",
                node.name()
            );
        }
        yaml
    }

    /// Returns every file a clean run leaves, computed here.
    pub(super) fn expected(&self) -> BTreeMap<String, String> {
        let mut files: BTreeMap<String, String> = BTreeMap::new();
        for node in &self.nodes {
            // The files of a slot in the order of their paths.
            let mut parts: BTreeMap<String, String> = BTreeMap::new();
            for other in self.nodes.iter().filter(|other| node.reads.contains(&other.id)) {
                let output = other.output();
                let made = files.iter().filter(|(path, _)| {
                    if other.is_directory() { path.starts_with(&output) } else { **path == output }
                });
                parts.extend(made.map(|(path, text)| (path.clone(), text.clone())));
            }
            parts.extend(node.sources.iter().map(|s| (format!("src/{s}"), self.source_text(usize::from(*s)))));
            let text: String = parts.into_values().collect();
            let flag = self.flag.filter(|_| node.env).map(|flag| flag.to_string()).unwrap_or_default();
            let output = node.output();
            match node.action {
                Action::Concat => drop(files.insert(output, format!("{text}{}", node.suffix))),
                Action::Shell | Action::Own => drop(files.insert(output, format!("{text}{}{flag}", node.suffix))),
                Action::Spread => {
                    for (number, line) in text.lines().enumerate() {
                        let name = if number == 0 { "first.txt".to_owned() } else { format!("sub/{number}.txt") };
                        files.insert(format!("{output}{name}"), format!("{line}\n"));
                    }
                }
                Action::Folder => {
                    files.insert(format!("{output}a.txt"), format!("{text}{}{flag}", node.suffix));
                    files.insert(format!("{output}sub/b.txt"), format!("{}\n", node.suffix));
                }
            }
        }
        files
    }
}
