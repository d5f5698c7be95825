//! Random pipelines under random edits, kills and disk trouble. After every step: what an incremental run leaves is what
//! a clean run leaves, the plan was honest, a second run executes nothing, `verify` is clean; nothing starts before what
//! it needs, tokens are never exceeded, and `-j` changes no byte.

mod edits;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use logweir_engine::digest::Digest;
use logweir_engine::engine::{RunOptions, VerifyOptions};
use logweir_engine::event::{Decision, Event, Quiet};
use logweir_engine::verify::{Finding, FindingKind, VerifyReport};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use self::edits::edit;
use self::world::{World, seed};
use crate::disk::Disk;
use crate::support::{Lab, Ran, quick_folder, walk};

/// Two stages in a pipeline file of their own, in the same project: one does the same work as stages of the first may.
const SECOND: &str = "
stages:
  a: { uses: concat, with: { suffix: '1' }, in: { in: src/0 }, out: { out: second/a } }
  b: { uses: concat, in: { in: [second/a, src/1] }, out: { out: second/b } }
";

/// A project under test.
struct Trial<'d> {
    lab: Lab,
    world: World,
    options: RunOptions,
    disk: Option<&'d Disk>,
    /// Whole lines of the log were lost or changed: evidence of that stays.
    tampered: bool,
    /// Objects were damaged since the last repair.
    store_damaged: bool,
    /// Objects of earlier results went, by harm and not by `gc`.
    objects_lost: bool,
    /// How long the log was when the last run of this pipeline finished.
    log_len: usize,
    /// What was done last, for people.
    done: Vec<String>,
}

impl Trial<'_> {
    fn write_project(&self) {
        self.lab.pipeline(&self.world.yaml());
        let texts = (0..3).map(|number| (format!("src/{number}"), self.world.source_text(number)));
        for (path, text) in texts.chain([("src/tool".to_owned(), self.world.tool.to_string())]) {
            if fs::read_to_string(self.lab.path(&path)).ok().as_ref() != Some(&text) {
                self.lab.write(&path, &text);
            }
        }
    }

    /// Returns what is at the declared paths of the pipeline.
    fn outputs(&self) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        for node in &self.world.nodes {
            let path = node.output();
            let place = self.lab.path(path.trim_end_matches('/'));
            let found = if place.is_dir() { walk(&place) } else { vec![place] };
            for file in found {
                let Ok(text) = fs::read_to_string(&file) else { continue };
                let relative = file.strip_prefix(self.lab.path("")).unwrap().to_string_lossy().into_owned();
                files.insert(relative, text);
            }
        }
        files
    }

    /// After a kill or a full disk: each declared path is as it was, or as a clean run leaves it.
    fn nothing_half(&self, before: &BTreeMap<String, String>, killed: bool) {
        let (now, after) = (self.outputs(), self.world.expected());
        for node in self.world.nodes.iter().filter(|node| !(killed && node.writes_itself())) {
            let output = node.output();
            let of = |files: &BTreeMap<String, String>| -> BTreeMap<String, String> {
                let here = |path: &str| path == output || (node.is_directory() && path.starts_with(&output));
                files.iter().filter(|(path, _)| here(path)).map(|(path, text)| (path.clone(), text.clone())).collect()
            };
            let found = of(&now);
            assert!(found == of(before) || found == of(&after), "`{output}` is {found:?}");
        }
    }

    /// Returns what there is of the log that the last finished run vouches for.
    fn vouched(&self) -> Vec<u8> {
        let mut log = fs::read(self.lab.path("cache/runlog.jsonl")).unwrap_or_default();
        log.truncate(self.log_len);
        log
    }

    /// Returns the stages that would not be touched by a run.
    fn fresh(&self) -> Vec<String> {
        let planned = self.lab.planned();
        planned.iter().filter_map(|row| row.strip_suffix(": fresh").map(str::to_owned)).collect()
    }

    fn verify(&self) -> VerifyReport {
        self.lab.engine().verify(&VerifyOptions::default(), &Quiet).unwrap()
    }

    fn check(&mut self) {
        let planned = self.lab.planned();
        let ran = self.lab.run_with(&self.options);
        assert_eq!(ran.summary.exit_code(), 0, "{}", ran.errors());
        self.in_order(&ran);
        assert_eq!(self.outputs(), self.world.expected());
        // The plan was honest: what it called fresh was, what it called run ran (or was shared by equal work).
        let (fresh, restored) = (ran.with(Decision::Fresh), ran.with(Decision::Restore));
        let finished = |event: &Event| match event {
            Event::StageFinished { stage, key, decision, .. } => Some((stage.clone(), (*key, *decision))),
            _ => None,
        };
        let keys: BTreeMap<String, (Digest, Decision)> = ran.events.iter().filter_map(finished).collect();
        let executed: BTreeSet<Digest> =
            keys.values().filter(|(_, decision)| *decision == Decision::Run).map(|(key, _)| *key).collect();
        for row in &planned {
            let (name, rest) = row.split_once(": ").unwrap();
            match rest.split(' ').next().unwrap() {
                "fresh" => assert!(fresh.contains(&name), "{row} after {:?}", self.done),
                "restore" => {
                    assert!(restored.contains(&name) || self.store_damaged, "{row} after {:?}", self.done);
                }
                "run" => {
                    let shared = executed.contains(&keys[name].0);
                    // A run that finds nothing changed does not look into a log that somebody changed; a plan does.
                    let honest = !fresh.contains(&name) || shared || self.tampered;
                    assert!(honest, "{row} after {:?}: {planned:?} {:?}", self.done, ran.executed());
                }
                "waits" => {}
                other => panic!("{other}"),
            }
        }
        let again = self.lab.run_with(&self.options);
        assert_eq!(again.counts(), [0, 0, self.world.nodes.len(), 0, 0], "{planned:?}");
        if self.store_damaged {
            self.repair();
        }
        // A run with nothing to do does not open the index, and what is lost of the records of earlier runs stays lost.
        let of_now = |report: VerifyReport| -> Vec<Finding> {
            let before = |f: &Finding| matches!(f.kind, FindingKind::IndexMismatch | FindingKind::RecordMissing);
            report.findings.into_iter().filter(|finding| !before(finding)).collect()
        };
        let mut findings = of_now(self.verify());
        // A lost index brings back from the log a result whose objects `gc` removed, and harm may have removed those of
        // any earlier result; when a killed command had just written that very content to its own path, the stage is
        // fresh, and only the store lacks it.
        let gone = self.objects_lost || self.lab.path("cache/collected").exists();
        if gone && !findings.is_empty() && findings.iter().all(|f| f.kind == FindingKind::ObjectMissing) {
            self.repair();
            findings = of_now(self.verify());
        }
        if !self.tampered {
            assert_eq!((findings, self.verify().notes), (vec![], vec![]));
        }
        self.log_len = fs::read(self.lab.path("cache/runlog.jsonl")).unwrap().len();
    }

    /// Damaged objects are named, and put right from what is in place.
    fn repair(&mut self) {
        let repair = VerifyOptions { repair: true, ..VerifyOptions::default() };
        let left = self.lab.engine().verify(&repair, &Quiet).unwrap();
        // What cannot be made from outputs is the record of what other runs did; it is there after the next one.
        let history = |kind: FindingKind| matches!(kind, FindingKind::ObjectMissing | FindingKind::RecordMissing);
        assert!(self.tampered || left.findings.iter().all(|f| history(f.kind) && f.stage.is_none()), "{left:?}");
        self.second();
        let counts = self.lab.run_with(&self.options).counts();
        // A repair makes the index anew from the log: a result whose entry somebody changed is not believed any more.
        assert!(self.tampered || counts == [0, 0, self.world.nodes.len(), 0, 0], "{counts:?}");
        assert_eq!(counts[3..], [0, 0]);
        self.store_damaged = false;
    }

    /// Runs the other pipeline of the project.
    fn second(&mut self) {
        self.lab.file = "second.yaml".to_owned();
        self.lab.pipeline(SECOND);
        let ran = self.lab.run_with(&self.options);
        assert_eq!(ran.summary.exit_code(), 0, "{}", ran.errors());
        let first = self.world.source_text(0) + "1";
        assert_eq!(self.lab.read("second/b"), first + &self.world.source_text(1));
        assert_eq!(self.lab.run_with(&self.options).counts(), [0, 0, 2, 0, 0]);
        self.lab.file = "pipeline.yaml".to_owned();
    }

    /// Nothing starts before what it needs has finished, and tokens are never exceeded.
    fn in_order(&self, ran: &Ran) {
        let mut finished = BTreeSet::new();
        let mut running: BTreeMap<String, usize> = BTreeMap::new();
        for event in &ran.events {
            match event {
                Event::StageStarted { stage, threads, .. } => {
                    for needed in self.world.upstream(stage) {
                        assert!(finished.contains(&needed), "{stage} started before {needed} had finished");
                    }
                    running.insert(stage.clone(), *threads);
                    assert!(running.values().sum::<usize>() <= self.options.jobs, "{running:?}");
                }
                Event::StageFinished { stage, .. } => {
                    running.remove(stage);
                    finished.insert(stage.clone());
                }
                _ => {}
            }
        }
        assert_eq!(finished.len(), self.world.nodes.len());
    }
}

/// How many steps a test does: an optimized build does what continuous integration asks for, another one some.
const STEPS: usize = if cfg!(debug_assertions) { 300 } else { 5_200 };
const EDITS: usize = 12;

/// Does many steps in a folder; returns how many of each kind.
#[expect(clippy::print_stdout, reason = "how many steps were done is asked for")]
fn random_edits(folder: &Path, disk: Option<&Disk>) {
    let cases = u32::try_from(STEPS.div_ceil(EDITS + 1)).unwrap();
    let config = Config { cases, max_shrink_iters: 200, failure_persistence: None, ..Config::default() };
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    let counts = std::cell::RefCell::new(&mut kinds);
    let case = (
        prop::collection::vec(seed(), 1..7),
        prop::collection::vec(prop::collection::vec(edit(), 1..4), EDITS),
        1usize..4,
    );
    let result = TestRunner::new(config).run(&case, |(seeds, edits, jobs)| {
        let lab = Lab::new_in(folder, "stages: {}\n");
        let options = RunOptions { jobs, ..RunOptions::default() };
        let world = World::new(&seeds);
        let mut trial = Trial {
            lab,
            world,
            options,
            disk,
            tampered: false,
            store_damaged: false,
            objects_lost: false,
            log_len: 0,
            done: Vec::new(),
        };
        trial.write_project();
        trial.check();
        let count = |kind: String| *counts.borrow_mut().entry(kind).or_default() += 1;
        count("steps".to_owned());
        for edits in &edits {
            trial.done.push(format!("{edits:?}"));
            for edit in edits {
                edit.apply(&mut trial);
                count(edit.name());
            }
            trial.check();
            count("steps".to_owned());
        }
        Ok::<(), TestCaseError>(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let steps = kinds.remove("steps").unwrap_or_default();
    println!("{steps} steps with {} edits: {kinds:?}", kinds.values().sum::<usize>());
    assert!(steps >= STEPS, "{steps} of {STEPS}");
}

#[test]
fn an_incremental_run_is_a_clean_run() {
    random_edits(&quick_folder(), None);
}

/// The same on a small disk of its own, which is filled up at some steps.
#[test]
fn an_incremental_run_is_a_clean_run_on_a_disk_that_may_be_full() {
    let disk = Disk::new();
    match &disk {
        Some(disk) => random_edits(disk.folder(), Some(disk)),
        None => {
            println!("no small disk can be mounted here (root on Linux can): steps with a full disk are left out");
            random_edits(&quick_folder(), None);
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
