//! Random pipelines under random edits: what an incremental run leaves is what a clean run gives, a second run does
//! nothing, nothing starts before what it needs, tokens are never exceeded, and `-j` changes no byte.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use logweir_engine::engine::RunOptions;
use logweir_engine::event::{Decision, Event};
use proptest::prelude::*;

use crate::support::{Lab, Ran};

/// A stage of a random pipeline: earlier stages and sources it reads, its suffix, whether it is a shell stage, threads.
#[derive(Clone, Debug)]
struct Node {
    reads: Vec<prop::sample::Index>,
    sources: Vec<u8>,
    suffix: u8,
    shell: bool,
    threads: usize,
}

#[derive(Clone, Debug)]
enum Edit {
    Source(u8, u8),
    Suffix(prop::sample::Index, u8),
    Delete(prop::sample::Index),
    Tamper(prop::sample::Index),
    Touch(u8),
    DropObjects,
    DropIndex,
    CutLog(u8),
    DropMemo,
}

fn node() -> impl Strategy<Value = Node> {
    let reads = prop::collection::vec(any::<prop::sample::Index>(), 0..3);
    let sources = prop::collection::vec(0u8..3, 0..3);
    (reads, sources, 0u8..3, prop::bool::weighted(0.15), 1usize..4)
        .prop_map(|(reads, sources, suffix, shell, threads)| Node { reads, sources, suffix, shell, threads })
}

fn edit() -> impl Strategy<Value = Edit> {
    let any = || any::<prop::sample::Index>();
    prop_oneof![
        4 => (0u8..3, 0u8..3).prop_map(|(source, text)| Edit::Source(source, text)),
        4 => (any(), 0u8..3).prop_map(|(stage, suffix)| Edit::Suffix(stage, suffix)),
        2 => any().prop_map(Edit::Delete),
        2 => any().prop_map(Edit::Tamper),
        1 => (0u8..3).prop_map(Edit::Touch),
        1 => Just(Edit::DropObjects),
        1 => Just(Edit::DropIndex),
        1 => (1u8..200).prop_map(Edit::CutLog),
        1 => Just(Edit::DropMemo),
    ]
}

/// Numbers of the stages a stage reads.
fn upstream(nodes: &[Node], number: usize) -> BTreeSet<usize> {
    if number == 0 { BTreeSet::new() } else { nodes[number].reads.iter().map(|index| index.index(number)).collect() }
}

fn yaml(nodes: &[Node]) -> String {
    let mut yaml = "stages:\n".to_owned();
    for (number, node) in nodes.iter().enumerate() {
        let mut reads: Vec<String> = upstream(nodes, number).iter().map(|n| format!("out/{n}")).collect();
        reads.extend(node.sources.iter().map(|source| format!("src/{source}")));
        if reads.is_empty() {
            reads.push("src/0".to_owned());
        }
        let reads = reads.join(", ");
        let (suffix, threads) = (node.suffix, node.threads);
        let action = match node.shell {
            true => format!("run: 'cat ${{in.in}} > ${{out.out}}; printf {suffix} >> ${{out.out}}'"),
            false => format!("uses: concat, with: {{ suffix: '{suffix}' }}"),
        };
        let _ = writeln!(
            yaml,
            "  s{number}: {{ {action}, in: {{ in: [{reads}] }}, out: {{ out: out/{number} }}, threads: {threads} }}"
        );
    }
    yaml
}

/// What a clean run gives, computed here.
fn expected(nodes: &[Node], sources: &[u8; 3]) -> Vec<String> {
    let mut outputs: Vec<String> = Vec::new();
    for (number, node) in nodes.iter().enumerate() {
        let mut parts: BTreeMap<String, String> =
            upstream(nodes, number).iter().map(|n| (format!("out/{n}"), outputs[*n].clone())).collect();
        parts.extend(node.sources.iter().map(|s| (format!("src/{s}"), sources[*s as usize].to_string())));
        if parts.is_empty() {
            parts.insert("src/0".to_owned(), sources[0].to_string());
        }
        outputs.push(parts.into_values().collect::<String>() + &node.suffix.to_string());
    }
    outputs
}

fn apply(edit: &Edit, lab: &Lab, nodes: &mut [Node], sources: &mut [u8; 3]) {
    match edit {
        Edit::Source(source, text) => sources[*source as usize] = *text,
        Edit::Suffix(stage, suffix) => nodes[stage.index(nodes.len())].suffix = *suffix,
        Edit::Delete(stage) => {
            let _ = fs::remove_file(lab.path(&format!("out/{}", stage.index(nodes.len()))));
        }
        Edit::Tamper(stage) => lab.write(&format!("out/{}", stage.index(nodes.len())), "tampered"),
        Edit::Touch(source) => lab.write(&format!("src/{source}"), &sources[*source as usize].to_string()),
        Edit::DropObjects => {
            let _ = fs::remove_dir_all(lab.path("cache/objects"));
        }
        Edit::DropIndex => {
            let _ = fs::remove_file(lab.path("cache/index"));
        }
        Edit::CutLog(bytes) => {
            // A torn tail: the run line, or part of it, is gone, and the index was not written.
            if let Ok(log) = fs::read(lab.path("cache/runlog.jsonl")) {
                let _ = fs::remove_file(lab.path("cache/index"));
                let _ = fs::remove_file(lab.path("cache/head"));
                fs::write(lab.path("cache/runlog.jsonl"), &log[..log.len().saturating_sub(*bytes as usize)]).unwrap();
            }
        }
        Edit::DropMemo => {
            let _ = fs::remove_file(lab.path("cache/stat"));
        }
    }
    for (number, text) in sources.iter().enumerate() {
        if fs::read_to_string(lab.path(&format!("src/{number}"))).ok() != Some(text.to_string()) {
            lab.write(&format!("src/{number}"), &text.to_string());
        }
    }
}

/// Nothing starts before what it needs has finished, and tokens are never exceeded.
fn in_order(ran: &Ran, nodes: &[Node], jobs: usize) {
    let mut finished = BTreeSet::new();
    let mut running: BTreeMap<String, usize> = BTreeMap::new();
    for event in &ran.events {
        match event {
            Event::StageStarted { stage, threads, .. } => {
                let number: usize = stage[1..].parse().unwrap();
                for needed in upstream(nodes, number) {
                    assert!(finished.contains(&format!("s{needed}")), "{stage} started before s{needed} had finished");
                }
                running.insert(stage.clone(), *threads);
                assert!(running.values().sum::<usize>() <= jobs, "{running:?}");
            }
            Event::StageFinished { stage, .. } => {
                running.remove(stage);
                finished.insert(stage.clone());
            }
            _ => {}
        }
    }
    assert_eq!(finished.len(), nodes.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn an_incremental_run_is_a_clean_run(
        mut nodes in prop::collection::vec(node(), 1..9),
        edits in prop::collection::vec(edit(), 1..6),
        jobs in 1usize..4,
    ) {
        let lab = Lab::new(&yaml(&nodes));
        let mut sources = [0u8, 1, 2];
        apply(&Edit::DropMemo, &lab, &mut nodes, &mut sources);
        let options = RunOptions { jobs, ..RunOptions::default() };
        for step in 0..=edits.len() {
            if step > 0 {
                apply(&edits[step - 1], &lab, &mut nodes, &mut sources);
                lab.pipeline(&yaml(&nodes));
            }
            let planned = lab.planned();
            let ran = lab.run_with(&options);
            prop_assert_eq!(ran.summary.exit_code(), 0, "{}", ran.errors());
            in_order(&ran, &nodes, jobs);
            for (number, wanted) in expected(&nodes, &sources).iter().enumerate() {
                prop_assert_eq!(&lab.read(&format!("out/{number}")), wanted, "stage {}, step {}", number, step);
            }
            // The plan was honest: what it called fresh was, what it called run ran (or was shared by equal work).
            for row in &planned {
                let (name, rest) = row.split_once(": ").unwrap();
                let decision = rest.split(' ').next().unwrap();
                match decision {
                    "fresh" => prop_assert!(ran.with(Decision::Fresh).contains(&name), "{}", row),
                    "restore" => prop_assert!(!ran.with(Decision::Fresh).contains(&name), "{}", row),
                    "run" => prop_assert!(!ran.with(Decision::Fresh).contains(&name), "{}", row),
                    _ => {}
                }
            }
            let again = lab.run_with(&options);
            prop_assert_eq!(again.counts(), [0, 0, nodes.len(), 0, 0]);
        }
    }
}

#[test]
fn the_number_of_jobs_changes_no_byte() {
    let lock = |jobs| {
        let lab = Lab::new(
            "
stages:
  a: { uses: concat, in: { in: src/0 }, out: { out: out/a } }
  b: { uses: spread, in: { in: src/0 }, out: { out: out/b/ }, threads: all }
  c: { run: 'cat ${in.in} > ${out.out}', in: { in: [out/a, 'out/b/**/*.txt'] }, out: { out: out/c } }
",
        );
        lab.write("src/0", "x\ny\n");
        lab.run_with(&RunOptions { jobs, ..RunOptions::default() });
        let lock = lab.read("pipeline.lock");
        lock.lines()
            .filter(|line| !line.starts_with("log =") && !line.starts_with("head ="))
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_eq!(lock(1), lock(2));
}
