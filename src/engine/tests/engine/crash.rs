//! Processes killed at every failpoint and at random instants. The test binary runs itself as the process that is
//! killed; afterwards the next run just works, loses at most the stages that were running, and leaves what a clean run
//! leaves.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use logweir_engine::engine::{Engine, RunOptions, VerifyOptions};
use logweir_engine::error::EngineError;
use logweir_engine::event::Quiet;
use logweir_engine::failpoint;
use logweir_engine::gc::GcOptions;
use logweir_engine::quick::{self, Quick};
use serde::{Deserialize, Serialize};

use crate::support::{Lab, Ran, quick_folder, read_at, walk};

const ORDER: &str = "LOGWEIR_TEST_PROCESS";
const SIGKILL: i32 = 9;

/// What the other process does.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    root: String,
    file: String,
    version: u32,
    sets: Vec<String>,
    env: BTreeMap<String, String>,
    /// Collects, keeping so many runs, instead of running.
    pub(crate) gc: Option<usize>,
    /// Writes to `hashed` in the project how many files were hashed.
    pub(crate) count_hashed: bool,
}

impl Order {
    pub(crate) fn of(lab: &Lab) -> Self {
        Self {
            root: lab.path("").to_string_lossy().into_owned(),
            file: lab.file.clone(),
            version: lab.version,
            sets: lab.sets.clone(),
            env: lab.env.clone(),
            gc: None,
            count_hashed: false,
        }
    }

    /// Starts it; with a failpoint it ends itself there.
    pub(crate) fn start(&self, failpoint: Option<&str>) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "crash::another_process", "--nocapture", "--test-threads", "1"]);
        command.env(ORDER, serde_json::to_string(self).unwrap()).env_remove(failpoint::VARIABLE);
        if let Some(name) = failpoint {
            command.env(failpoint::VARIABLE, name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

/// Waits for the other process; returns whether it was killed. It must not fail in another way.
pub(crate) fn was_killed(mut child: Child) -> bool {
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    let status = child.wait().unwrap();
    assert!(status.success() || status.signal() == Some(SIGKILL), "{status}: {text}");
    !status.success()
}

/// Waits until no command of a killed run still works in a project: it may write its own output a moment later. (Without
/// `/proc` this cannot be told.)
pub(crate) fn commands_ended(root: &Path) {
    let works_here = |process: fs::DirEntry| fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == root);
    while fs::read_dir("/proc").is_ok_and(|mut all| all.any(|process| process.is_ok_and(works_here))) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Not a test of its own: the body of the process that other tests start and kill.
#[test]
fn another_process() {
    let Some(order) = std::env::var_os(ORDER) else { return };
    let order: Order = serde_json::from_str(order.to_str().unwrap()).unwrap();
    let options = RunOptions { jobs: 2, keep_going: true, ..RunOptions::default() };
    read_at(Path::new(&order.root), &order.file, order.version, &order.sets, &order.env, |reading| {
        if let Some(keep_runs) = order.gc {
            Engine::open(reading).unwrap().gc(&GcOptions { keep_runs, delete: true }).unwrap();
        } else if let Quick::Whole(glance) =
            quick::run(&quick::snapshot_of(reading), reading, &options, &Quiet).unwrap()
        {
            let engine = Engine::open(reading).unwrap();
            engine.run_after(glance, &options, &Quiet, &AtomicBool::new(false)).unwrap();
        }
    });
    if order.count_hashed {
        fs::write(Path::new(&order.root).join("hashed"), logweir_engine::digest::files_hashed().to_string()).unwrap();
    }
}

/// Every way an output comes to its place: file, directory, shell in scratch, shell at the declared path itself.
const ALL: &str = "
stages:
  file: { uses: concat, in: { in: src/a.txt }, out: { out: out/file } }
  parts: { uses: spread, in: { in: src/a.txt }, out: { out: out/parts/ } }
  shell: { run: 'cat ${in.i} > ${out.o}', in: { i: out/file }, out: { o: out/shell } }
  own: { run: 'printf own: > out/own; cat ${in.i} >> out/own', in: { i: src/a.txt }, out: { o: out/own } }
  last: { uses: concat, in: { in: ['out/parts/**/*.txt', out/shell, out/own] }, out: { out: out/last } }
";
const STAGES: usize = 5;

/// What a clean run leaves for a text of the source.
fn clean(text: &str) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut parts = String::new();
    for (number, line) in text.lines().enumerate() {
        let name = if number == 0 { "first.txt".to_owned() } else { format!("sub/{number}.txt") };
        parts.push_str(&format!("{line}\n"));
        files.insert(format!("out/parts/{name}"), format!("{line}\n"));
    }
    files.insert("out/file".to_owned(), text.to_owned());
    files.insert("out/shell".to_owned(), text.to_owned());
    files.insert("out/own".to_owned(), format!("own:{text}"));
    // Files of a slot come in the order of their paths.
    files.insert("out/last".to_owned(), format!("own:{text}{parts}{text}"));
    files
}

fn outputs(lab: &Lab) -> BTreeMap<String, String> {
    let name = |path: &Path| path.strip_prefix(lab.path("")).unwrap().to_string_lossy().into_owned();
    let files = if lab.path("out").is_dir() { walk(&lab.path("out")) } else { Vec::new() };
    files.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

fn recorded(lab: &Lab) -> usize {
    let log = fs::read_to_string(lab.path("cache/runlog.jsonl")).unwrap_or_default();
    log.split_inclusive('\n').filter(|line| line.contains("\"entry\":\"action\"") && line.ends_with('\n')).count()
}

/// Nothing but whole files: each is what one of two clean runs leaves.
fn whole(lab: &Lab, before: &BTreeMap<String, String>, after: &BTreeMap<String, String>, own_writes: bool) {
    for (path, text) in outputs(lab) {
        let known = before.get(&path) == Some(&text) || after.get(&path) == Some(&text);
        // Only `${out.o}` is promised atomic: a command that writes its path itself may leave half.
        assert!(known || (own_writes && path == "out/own"), "`{path}` holds {text:?}");
    }
    let parts = |files: &BTreeMap<String, String>| -> Vec<String> {
        files.keys().filter(|path| path.starts_with("out/parts/")).cloned().collect()
    };
    let now = parts(&outputs(lab));
    assert!(now == parts(before) || now == parts(after), "a directory is exchanged whole: {now:?}");
}

/// Readers work whatever a killed process left.
fn readers_work(lab: &Lab) {
    let engine = lab.engine();
    lab.plan();
    let runs = engine.runs().unwrap();
    if let Some(run) = runs.last() {
        engine.show(&run.run).unwrap();
        // Placed, but not recorded yet: it says so.
        let lineage = engine.lineage("out/last", None);
        assert!(matches!(lineage, Ok(_) | Err(EngineError::NoRecord { .. })));
    }
}

/// The next run completes what the killed one began.
fn recovers(lab: &Lab, text: &str, recorded_before: usize) {
    let kept = recorded(lab) - recorded_before;
    let ran = lab.run();
    assert_eq!(outputs(lab), clean(text));
    assert!(ran.counts()[0] <= STAGES - kept, "{:?} executed though {kept} were recorded", ran.executed());
    lab.settled();
    let report = lab.engine().verify(&VerifyOptions::default(), &Quiet).unwrap();
    assert_eq!(report.findings, []);
    let left: Vec<_> = walk(&lab.path("")).into_iter().filter(|p| p.extension().is_some_and(|e| e == "tmp")).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn started(text: &str) -> Lab {
    let lab = Lab::new_in(&quick_folder(), ALL);
    lab.write("src/a.txt", text);
    lab.run();
    assert_eq!(outputs(&lab), clean(text));
    lab
}

#[test]
fn a_run_killed_at_any_failpoint_is_completed_by_the_next() {
    let (old, new) = ("1\n2\n3\n", "1\nzwei\n3\n4\n");
    for name in failpoint::NAMES.iter().filter(|name| !name.starts_with("gc_")) {
        let mut hits = 0;
        for hit in [1, 2, 4] {
            let lab = started(old);
            // With nothing to do another way is taken, of three steps.
            let (nothing, text) = (name.starts_with("quick"), if name.starts_with("quick") { old } else { new });
            if nothing {
                lab.run();
            }
            lab.write("src/a.txt", text);
            if name.starts_with("torn") {
                let log = fs::read_to_string(lab.path("cache/runlog.jsonl")).unwrap();
                lab.write("cache/runlog.jsonl", &format!("{log}{{\"prev\":"));
            }
            let before = recorded(&lab);
            if !was_killed(Order::of(&lab).start(Some(&format!("{name}:{hit}")))) {
                break;
            }
            hits += 1;
            whole(&lab, &clean(old), &clean(new), true);
            readers_work(&lab);
            recovers(&lab, text, before);
        }
        assert!(hits > 0, "failpoint `{name}` was never reached");
    }
}

#[test]
fn a_first_run_killed_at_any_failpoint_is_completed_by_the_next() {
    for name in failpoint::NAMES.iter().filter(|name| !name.starts_with("torn")) {
        let lab = Lab::new_in(&quick_folder(), ALL);
        lab.write("src/a.txt", "x\ny\n");
        // Some are only reached when something is replaced.
        was_killed(Order::of(&lab).start(Some(name)));
        whole(&lab, &BTreeMap::new(), &clean("x\ny\n"), true);
        readers_work(&lab);
        recovers(&lab, "x\ny\n", 0);
    }
}

#[test]
fn a_run_killed_at_random_instants_is_completed_by_the_next() {
    let lab = started("0\n");
    let mut text = "0\n".to_owned();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut killed = 0;
    for round in 0..30 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let old = text;
        text = format!("{round}\n{seed}\n");
        lab.write("src/a.txt", &text);
        let before = recorded(&lab);
        let mut child = Order::of(&lab).start(None);
        std::thread::sleep(Duration::from_micros(seed >> 49));
        child.kill().unwrap();
        killed += usize::from(was_killed(child));
        whole(&lab, &clean(&old), &clean(&text), true);
        readers_work(&lab);
        recovers(&lab, &text, before);
    }
    println!("{killed} of 30 runs were killed");
}

#[test]
fn what_a_killed_command_wrote_at_its_own_path_is_not_trusted() {
    let lab = Lab::new_in(
        &quick_folder(),
        "
stages:
  slow: { run: 'printf half > out/slow; touch started; [ -f go ] || sleep 60; printf whole > out/slow', in: { i: src/a.txt }, out: { o: out/slow } }
",
    );
    lab.write("src/a.txt", "a");
    let mut child = Order::of(&lab).start(None);
    while !lab.path("started").exists() {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    assert!(was_killed(child));
    assert_eq!(lab.read("out/slow"), "half");
    assert_eq!(lab.planned(), ["slow: run new slow"]);
    lab.write("go", "");
    assert_eq!(lab.run().executed(), ["slow"]);
    assert_eq!(lab.read("out/slow"), "whole");
    lab.settled();
}

/// A command that goes on after its run was killed must not write into what the next run makes.
#[cfg(target_os = "linux")]
#[test]
fn a_command_that_outlives_a_killed_run_is_ended_by_the_next() {
    let lab = Lab::new_in(
        &quick_folder(),
        "
stages:
  slow: { run: 'touch started; if [ ! -f go ]; then sleep 1; printf late > out/slow; sleep 60; fi; printf right > out/slow', in: { i: src/a.txt }, out: { o: out/slow } }
",
    );
    lab.write("src/a.txt", "a");
    let mut child = Order::of(&lab).start(None);
    while !lab.path("started").exists() {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    assert!(was_killed(child));
    lab.write("go", "");
    lab.run();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(lab.read("out/slow"), "right");
    lab.settled();
}

const SLOW: &str = "
stages:
  quick: { uses: concat, in: { in: src/a.txt }, out: { out: out/quick } }
  slow: { run: 'touch started; while [ ! -f go ]; do sleep 0.01; done; cat ${in.i} > ${out.o}', in: { i: out/quick }, out: { o: out/slow } }
";

/// A command forked at the moment of the kill holds the lock until it executes.
#[test]
fn a_lock_that_outlives_its_process_for_a_moment_is_waited_for() {
    let lab = started("1\n");
    let mut dead = Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    let file = fs::OpenOptions::new().read(true).write(true).open(lab.path("cache/lock")).unwrap();
    file.try_lock().unwrap();
    lab.write("cache/lock", &dead.id().to_string());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            file.unlock().unwrap();
        });
        lab.settled();
    });
}

#[test]
fn a_lock_is_free_when_its_process_is_dead_and_readers_never_wait_for_it() {
    let lab = Lab::new_in(&quick_folder(), SLOW);
    lab.write("src/a.txt", "a");
    let mut child = Order::of(&lab).start(None);
    while !lab.path("started").exists() {
        std::thread::sleep(Duration::from_millis(2));
    }
    let error = lab.try_run(&RunOptions::default()).err().unwrap();
    assert!(matches!(error, EngineError::Locked { pid: Some(pid), .. } if pid == child.id()), "{error}");
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains(&format!("pid {}", child.id())), "{error}");
    assert!(error.help().unwrap().contains("nothing to unlock"));
    // Readers do not wait, and see what is finished.
    assert_eq!(lab.planned(), ["quick: fresh", "slow: run new slow"]);
    assert_eq!(lab.engine().runs().unwrap().len(), 0);
    assert!(!lab.engine().lineage("out/quick", None).unwrap().nodes.is_empty());
    child.kill().unwrap();
    assert!(was_killed(child));
    lab.write("go", "");
    let ran: Ran = lab.run();
    assert_eq!(ran.executed(), ["slow"], "`quick` was recorded before the kill");
    lab.settled();
}
