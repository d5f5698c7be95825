//! What users of such engines have complained about for longest, each with our answer as a test of that name.
//! `docs/complaints.md` is the table.

use std::fs;
use std::process::Command;
use std::time::Duration;

use logweir_engine::engine::{RunOptions, VerifyOptions};
use logweir_engine::error::EngineError;
use logweir_engine::event::{Decision, Quiet, ReasonKind};
use logweir_engine::gc::GcOptions;
use logweir_engine::spec::{LoadOptions, SourceText, load};

use crate::crash::{Order, was_killed};
use crate::support::{Lab, registry};

const PIPE: &str = "
stages:
  a: { uses: concat, in: { in: src/a.txt }, out: { out: out/a } }
  b: { uses: concat, in: { in: [out/a, src/b.txt] }, out: { out: out/b }, with: { suffix: '!' } }
  c: { run: 'cat ${in.i} > ${out.o}', in: { i: out/b }, out: { o: out/c } }
";

fn pipe() -> Lab {
    let lab = Lab::new(PIPE);
    lab.write("src/a.txt", "a");
    lab.write("src/b.txt", "b");
    lab.run();
    lab
}

/// Stages that do not need each other run at once: each of these waits until the other is there.
#[test]
fn one_stage_at_a_time() {
    let lab = Lab::new(
        "
stages:
  left: { run: 'touch l; until [ -f r ]; do sleep 0.01; done; echo l > ${out.o}', out: { o: out/l }, timeout: 60s }
  right: { run: 'touch r; until [ -f l ]; do sleep 0.01; done; echo r > ${out.o}', out: { o: out/r }, timeout: 60s }
",
    );
    assert_eq!(lab.run_with(&RunOptions { jobs: 2, ..RunOptions::default() }).counts(), [2, 0, 0, 0, 0]);
    lab.settled();
}

/// Each file of a directory is an action of its own, so a new one is all that runs, among however many.
#[test]
fn one_new_file_in_a_directory_reruns_everything() {
    let lab = Lab::new("stages:\n  m: { uses: concat, in: { in: src/ }, out: { out: out/m/ }, map: in }\n");
    (0..500).for_each(|n| lab.write(&format!("src/{n}"), &n.to_string()));
    assert_eq!(lab.run().summary.info.executed, 500);
    lab.write("src/new", "new");
    let ran = lab.run();
    assert_eq!((ran.executed(), ran.counts()), (vec!["m[new]"], [1, 0, 500, 0, 0]));
    fs::remove_file(lab.path("src/7")).unwrap();
    assert_eq!(lab.run().counts(), [0, 0, 500, 0, 0]);
    assert!(!lab.path("out/m/7").exists());
    lab.settled();
}

/// An unchanged input is not read again, however large; a touched one is read once, and nothing runs.
#[test]
fn no_op_is_slow_because_big_inputs_are_hashed() {
    let lab = Lab::new("stages:\n  s: { uses: concat, in: { in: src/big }, out: { out: out/s } }\n");
    lab.write("src/big", &"0123456789abcdef".repeat(1 << 17));
    lab.run();
    // A file is trusted once it was at rest for two seconds when it was hashed.
    std::thread::sleep(Duration::from_millis(2100));
    lab.settled();
    let hashed = || {
        let mut order = Order::of(&lab);
        order.count_hashed = true;
        assert!(!was_killed(order.start(None)));
        lab.read("hashed").parse::<u64>().unwrap()
    };
    assert_eq!(hashed(), 0, "of 2 MiB in, 2 MiB out and what is stored, nothing is read");
    let big = fs::OpenOptions::new().append(true).open(lab.path("src/big")).unwrap();
    big.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    assert_eq!(hashed(), 1, "the touched file alone");
    lab.settled();
}

/// A lock goes with its process, whatever way it ended; there is no command to unlock.
#[test]
fn lock_trouble_after_a_kill() {
    let lab = Lab::new(
        "stages:\n  s: { run: 'touch started; [ -f go ] || sleep 60; echo x > ${out.o}', out: { o: out/s } }\n",
    );
    let mut child = Order::of(&lab).start(None);
    while !lab.path("started").exists() {
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(matches!(lab.try_run(&RunOptions::default()), Err(EngineError::Locked { pid: Some(_), .. })));
    child.kill().unwrap();
    assert!(was_killed(child));
    assert!(lab.path("cache/lock").exists(), "the file is still there, but nobody holds it");
    lab.write("go", "");
    lab.run();
    lab.settled();
}

/// Every leaf of a key is recorded, so the answer names the leaf, with both values.
#[test]
fn why_did_it_rerun() {
    let mut lab = Lab::new(
        "
stages:
  s: { run: 'cat ${in.d}/* > ${out.o}', in: { d: src/d/ }, out: { o: out/s }, env: [LEVEL], tools: ['cat src/tool'], with: { n: 1 } }
",
    );
    for path in ["src/d/one", "src/d/two", "src/tool"] {
        lab.write(path, "1");
    }
    lab.run();
    lab.write("src/d/two", "2");
    lab.write("src/tool", "2");
    lab.env.insert("LEVEL".to_owned(), "high".to_owned());
    lab.sets = vec!["stages.s.with.n=2".to_owned()];
    lab.run();
    let why = lab.engine().why("s").unwrap().last.unwrap();
    assert_eq!(why.decision, Decision::Run);
    let mut told: Vec<(&str, &str)> = why.reasons.iter().map(|r| (r.kind.name(), &*r.subject)).collect();
    told.sort_unstable();
    let leaves = [("env", "LEVEL"), ("input", "d: src/d/two"), ("param", "n"), ("tool", "cat src/tool")];
    assert_eq!(told, leaves, "the changed file, not only its directory");
    let param = why.reasons.iter().find(|r| r.kind == ReasonKind::Param).unwrap();
    assert_eq!((&param.old, &param.new), (&1.into(), &2.into()));
}

/// Comments, layout, order, names, times, places: nothing of it decides about bytes.
#[test]
fn surprise_reruns_on_cosmetic_change() {
    let lab = pipe();
    lab.pipeline(
        "
# A comment, another layout, another order, another name.
stages:
  renamed:
    about: the last one
    run: 'cat ${in.i} > ${out.o}'
    in: { i: out/b }
    out: { o: out/c }
    threads: 2
  b:
    uses: concat
    in: { in: [src/b.txt, out/a] }
    with: { suffix: \"!\" }
    out: { out: out/b }
  a: { uses: concat, in: { in: src/a.txt }, out: { out: out/a }, with: { suffix: '' } }
",
    );
    lab.write("src/a.txt", "a");
    assert_eq!(lab.run().counts(), [0, 0, 3, 0, 0]);
    // A change of the code that gives the same bytes stops there.
    let lab = Lab { version: 2, ..pipe() };
    let ran = lab.run();
    assert_eq!((ran.executed(), ran.with(Decision::Fresh)), (vec!["a", "b"], vec!["c"]));
    lab.settled();
}

/// Whatever a stage was made of is in its key, also what is no longer there.
#[test]
fn silent_stale_results() {
    let lab = pipe();
    lab.pipeline(&PIPE.replace(", with: { suffix: '!' }", ""));
    assert_eq!(lab.run().executed(), ["b", "c"], "a dropped parameter");
    lab.pipeline(&PIPE.replace("[out/a, src/b.txt]", "out/a"));
    assert_eq!(lab.run().executed(), ["b", "c"], "a dropped input");
    assert_eq!(lab.read("out/c"), "a!");
    lab.pipeline(&PIPE.replace("cat ${in.i} >", "cat ${in.i} ${in.i} >"));
    assert_eq!(lab.run().executed(), ["c"], "another command");
    assert_eq!(lab.read("out/c"), "ab!ab!");
    lab.write("out/c", "edited by hand");
    assert_eq!(lab.planned()[2], "c: restore output out/c");
    lab.run();
    assert_eq!(lab.read("out/c"), "ab!ab!");
    lab.settled();
}

/// Thousands of stages in a row or side by side are planned at once, and a plan that was looked at is executed as it is.
#[test]
fn building_the_graph_does_not_scale() {
    let mut yaml = "stages:\n".to_owned();
    for n in 0..3000 {
        let input = if n == 0 { "src/a.txt".to_owned() } else { format!("out/{}", n - 1) };
        yaml.push_str(&format!("  s{n}: {{ uses: concat, in: {{ in: {input} }}, out: {{ out: out/{n} }} }}\n"));
        yaml.push_str(&format!("  w{n}: {{ uses: concat, in: {{ in: src/a.txt }}, out: {{ out: wide/{n} }} }}\n"));
    }
    let lab = Lab::new(&yaml);
    lab.write("src/a.txt", "a");
    let plan = lab.plan();
    let waits = plan.stages.iter().filter(|row| row.decision == Decision::Waits).count();
    assert_eq!((plan.stages.len(), waits), (6000, 2999));

    let lab = Lab::new(PIPE);
    lab.write("src/a.txt", "a");
    lab.write("src/b.txt", "b");
    lab.write("plan.json", &serde_json::to_string(&lab.plan()).unwrap());
    let saved = RunOptions { plan_file: Some(lab.path("plan.json")), ..RunOptions::default() };
    assert_eq!(lab.run_with(&saved).counts(), [3, 0, 0, 0, 0]);
    assert!(matches!(lab.try_run(&saved), Err(EngineError::PlanChanged { .. })), "it was executed, and is no plan now");
}

/// A file that a command reads and does not declare is named with the line to add; every declared one is in the lineage.
#[test]
fn undeclared_inputs_go_unnoticed() {
    let lab = Lab::new(
        "stages:\n  s: { run: 'cat ${in.i} src/other.txt > ${out.o}', in: { i: src/a.txt }, out: { o: out/s } }\n",
    );
    lab.write("src/a.txt", "a");
    lab.write("src/other.txt", "o");
    let ran = lab.run();
    assert!(ran.warnings().iter().any(|text| text.contains("`src/other.txt`") && text.contains("add `")));
    let lineage = lab.engine().lineage("out/s", None).unwrap();
    let source = lineage.nodes.iter().find(|node| node.path.as_deref() == Some("src/a.txt")).unwrap();
    assert_eq!(source.digest.as_ref().unwrap().to_string(), blake3_of("a"));
}

fn blake3_of(text: &str) -> String {
    logweir_engine::digest::Digest::of_bytes(text.as_bytes()).to_string()
}

/// Declared variables and what declared tools print are leaves of the key like any other.
#[test]
fn the_environment_is_not_in_the_key() {
    let mut lab = Lab::new(
        "stages:\n  s: { run: 'echo $MODE > ${out.o}', out: { o: out/s }, env: [MODE], tools: ['cat src/version'] }\n",
    );
    lab.write("src/version", "1.0");
    lab.env.insert("MODE".to_owned(), "fast".to_owned());
    lab.run();
    lab.env.insert("OTHER".to_owned(), "x".to_owned());
    lab.settled();
    lab.env.insert("MODE".to_owned(), "slow".to_owned());
    assert_eq!(lab.run().executed(), ["s"]);
    assert_eq!(lab.read("out/s"), "slow\n");
    lab.write("src/version", "2.0");
    assert_eq!(lab.planned(), ["s: run tool cat src/version"]);
    lab.run();
    lab.env.insert("MODE".to_owned(), "fast".to_owned());
    lab.write("src/version", "1.0");
    assert_eq!(lab.run().counts(), [0, 1, 0, 0, 0], "the old environment has its old result");
}

/// Records point to digests and collection goes by reachability: a result that is not reproducible, a shared content and
/// a collected one are all told apart.
#[test]
fn run_cache_corner_cases() {
    let lab = Lab::new(
        "
stages:
  n: { uses: nondet, in: { in: src/a.txt }, out: { out: out/n } }
  after: { uses: concat, in: { in: out/n }, out: { out: out/after } }
  same: { uses: concat, in: { in: src/a.txt }, out: { out: out/same } }
  also: { uses: concat, in: { in: src/a.txt }, out: { out: out/also } }
",
    );
    lab.write("src/a.txt", "a");
    lab.run();
    assert_eq!(lab.read("out/also"), "a");
    let force = RunOptions { force: vec!["n".to_owned()], ..RunOptions::default() };
    let first = lab.read("out/n");
    let ran = lab.run_with(&force);
    assert!(ran.warnings().iter().any(|text| text.contains("not reproducible")));
    let second = lab.read("out/n");
    assert_ne!(first, second);
    // What is collected is what nothing reaches: the artifacts of the last run stay, shared or not.
    let gone = lab.engine().gc(&GcOptions { keep_runs: 1, delete: true }).unwrap();
    assert_eq!(gone.runs.len(), 1);
    fs::remove_dir_all(lab.path("out")).unwrap();
    assert_eq!(lab.run().counts(), [0, 4, 0, 0, 0]);
    assert_eq!(
        (lab.read("out/n"), lab.read("out/after"), lab.read("out/same")),
        (second.clone(), second, "a".to_owned())
    );
    assert!(matches!(lab.engine().restore_run(&gone.runs[0]), Err(EngineError::Collected { .. })));
    let report = lab.engine().verify(&VerifyOptions::default(), &Quiet).unwrap();
    assert_eq!((report.findings.len(), report.not_reproducible[0].stage.as_str()), (0, "n"));
    lab.settled();
}

/// The bytes that were hashed into a key are what lineage stores, and a stage that was fresh or restored is recorded too.
#[test]
fn lineage_that_disagrees_with_reality() {
    let lab = pipe();
    lab.run();
    fs::remove_file(lab.path("out/b")).unwrap();
    assert_eq!(lab.run().with(Decision::Restore), ["b"]);
    let engine = lab.engine();
    let shown = engine.show("last").unwrap();
    let decisions: Vec<&str> = shown.stages.iter().map(|stage| stage.decision.name()).collect();
    assert_eq!(decisions, ["fresh", "restore", "fresh"], "hits are recorded");
    let lineage = engine.lineage("out/c", None).unwrap();
    for (path, text) in [("src/a.txt", "a"), ("src/b.txt", "b"), ("out/a", "a"), ("out/b", "ab!"), ("out/c", "ab!")] {
        let node = lineage.nodes.iter().find(|node| node.path.as_deref() == Some(path)).unwrap();
        assert_eq!(node.digest.as_ref().unwrap().to_string(), blake3_of(text), "{path}");
    }
    // What lies there now was made by nobody: no lineage is made up for it.
    lab.write("out/c", "edited");
    assert!(matches!(engine.lineage("out/c", None), Err(EngineError::NoRecord { .. })));
    let report = engine.verify(&VerifyOptions::default(), &Quiet).unwrap();
    assert_eq!(report.findings.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["out/c"]);
}

/// Two branches that each add a stage merge block by block; only the head of the local log can differ, and a file left in
/// conflict is written anew by the next run, which executes nothing.
#[test]
fn lock_file_merge_conflicts() {
    let lab = pipe();
    let base = lab.read("pipeline.lock");
    let stage =
        |name: &str| format!("  {name}: {{ uses: concat, in: {{ in: src/a.txt }}, out: {{ out: out/{name} }} }}\n");
    lab.pipeline(&format!("{PIPE}{}", stage("aa")));
    lab.run();
    let ours = lab.read("pipeline.lock");
    lab.write("pipeline.lock", &base);
    lab.pipeline(&format!("{PIPE}{}", stage("bb")));
    lab.run();
    let theirs = lab.read("pipeline.lock");
    lab.pipeline(&format!("{PIPE}{}{}", stage("aa"), stage("bb")));
    for (name, text) in [("base", &base), ("ours", &ours), ("theirs", &theirs)] {
        lab.write(name, text);
    }
    let git =
        Command::new("git").args(["merge-file", "-p", "ours", "base", "theirs"]).current_dir(lab.path("")).output();
    let Ok(merged) = git else {
        println!("there is no git here: left out");
        return;
    };
    let merged = String::from_utf8(merged.stdout).unwrap();
    let (top, blocks) = merged.split_at(merged.find("[[stage]]").unwrap());
    assert_eq!((top.matches("<<<<<<<").count(), blocks.matches("<<<<<<<").count()), (1, 0), "{merged}");
    for name in ["aa", "bb"] {
        assert!(blocks.contains(&format!("name = \"{name}\"")), "{merged}");
    }
    lab.write("pipeline.lock", &merged);
    let ran = lab.run();
    assert_eq!(ran.executed(), [""; 0]);
    assert!(ran.warnings().iter().any(|text| text.contains("written anew")), "{:?}", ran.warnings());
    lab.settled();
    assert_eq!(lab.engine().verify(&VerifyOptions::default(), &Quiet).unwrap().findings, []);
}

/// A value keeps its type, a list becomes many, and an error says where, shows the line and guesses what was meant.
#[test]
fn yaml_templating_limits_and_errors() {
    let lab = Lab::new(
        "
vars: { files: [src/a.txt, src/b.txt], times: { sleep: 10 }, end: '!' }
stages:
  s: { uses: concat, in: { in: \"${vars.files}\" }, out: { out: out/s }, with: { sleep: \"${vars.times.sleep}\", suffix: \"x${vars.end}\" } }
",
    );
    lab.write("src/a.txt", "a");
    lab.write("src/b.txt", "b");
    lab.run();
    assert_eq!(lab.read("out/s"), "abx!");
    let text = "version: 1\nname: x\nvars: { threshold: 3 }\nstages:\n  s: { uses: concat, in: { in: a }, out: { out: b }, with: { suffix: '${vars.treshold}' } }\n";
    let source = SourceText { name: "pipeline.yaml".to_owned(), text: text.to_owned() };
    let options = LoadOptions { profile: None, sets: Vec::new(), env: &|_| None };
    let Err(errors) = load(&source, &registry(1), &options) else { panic!("an unknown variable") };
    let error = &errors.errors[0];
    assert_eq!(error.place.as_ref().unwrap().line_column().0, 5);
    let shown = format!("{:?}", miette::Report::new(error.clone()));
    for part in ["pipeline.yaml:5:", "${vars.treshold}", "did you mean `threshold`"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}
