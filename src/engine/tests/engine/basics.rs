//! Skip, restore, cut off; what each kind of change makes run, and why.

use std::fs;

use logweir_engine::engine::RunOptions;
use logweir_engine::event::{Decision, Event};

use crate::support::Lab;

const CHAIN: &str = "
stages:
  a: { uses: concat, in: { in: src/a.txt }, out: { out: out/a.txt } }
  b: { uses: concat, in: { in: out/a.txt, more?: src/more.txt }, out: { out: out/b.txt }, with: { suffix: '!' } }
  c: { run: 'cat ${in.in} > ${out.out}', in: { in: [out/b.txt, src/c.txt] }, out: { out: 'out/c c.txt' } }
";

fn chain() -> Lab {
    let lab = Lab::new(CHAIN);
    lab.write("src/a.txt", "a");
    lab.write("src/c.txt", "c");
    let ran = lab.run();
    assert_eq!(ran.counts(), [3, 0, 0, 0, 0]);
    assert_eq!(lab.read("out/c c.txt"), "a!c");
    lab.settled();
    lab
}

#[test]
fn a_first_plan_says_new_and_waits_and_a_later_one_fresh() {
    let lab = Lab::new(CHAIN);
    lab.write("src/a.txt", "a");
    lab.write("src/c.txt", "c");
    assert_eq!(lab.planned(), ["a: run new a", "b: waits upstream a", "c: waits upstream b"]);
    assert!(!lab.path("cache/lock").exists() && !lab.path("out").exists(), "a plan does nothing");
    lab.run();
    assert_eq!(lab.planned(), ["a: fresh", "b: fresh", "c: fresh"]);
    assert_eq!(lab.plan().seconds, Some(0.0));
}

#[test]
fn a_changed_input_runs_what_follows_and_reverting_it_restores() {
    let lab = chain();
    lab.write("src/a.txt", "A");
    assert_eq!(lab.planned(), ["a: run input in: src/a.txt", "b: waits upstream a", "c: waits upstream b"]);
    assert_eq!(lab.run().executed(), ["a", "b", "c"]);
    assert_eq!(lab.read("out/c c.txt"), "A!c");
    lab.settled();
    lab.write("src/a.txt", "a");
    let ran = lab.run();
    assert_eq!(ran.counts(), [0, 3, 0, 0, 0], "an earlier config executes nothing");
    assert_eq!(lab.read("out/c c.txt"), "a!c");
    lab.settled();
}

#[test]
fn a_touched_input_runs_nothing_and_nothing_is_rewritten() {
    let lab = chain();
    let before = fs::metadata(lab.path("out/b.txt")).unwrap().modified().unwrap();
    lab.write("src/a.txt", "a");
    lab.settled();
    assert_eq!(fs::metadata(lab.path("out/b.txt")).unwrap().modified().unwrap(), before);
}

#[test]
fn a_changed_parameter_is_named_with_both_values() {
    let lab = chain();
    lab.pipeline(&CHAIN.replace("'!'", "'?'"));
    let plan = lab.plan();
    let reason = &plan.stages[1].reasons[0];
    assert_eq!((reason.subject.as_str(), reason.old.as_str(), reason.new.as_str()), ("suffix", Some("!"), Some("?")));
    assert_eq!(lab.run().executed(), ["b", "c"]);
    lab.settled();
}

#[test]
fn the_same_bytes_stop_there() {
    let lab = chain();
    lab.pipeline(&CHAIN.replace("'!'", "'!', sleep: 1"));
    let ran = lab.run();
    assert_eq!(ran.executed(), ["b"]);
    let cutoff = |event: &Event| matches!(event, Event::StageFinished { stage, cutoff: true, .. } if stage == "b");
    assert!(ran.events.iter().any(cutoff));
    lab.settled();
}

#[test]
fn a_raised_version_and_a_changed_command_run() {
    let mut lab = chain();
    lab.version = 2;
    assert_eq!(lab.planned()[0], "a: run code version");
    assert_eq!(lab.run().executed(), ["a", "b"], "the bytes are the same, so c is fresh");
    lab.settled();
    lab.pipeline(&CHAIN.replace("'cat ${in.in} >", "'cat  ${in.in} >"));
    assert_eq!(lab.planned()[2], "c: run command run");
    assert_eq!(lab.run().executed(), ["c"]);
    lab.settled();
}

#[test]
fn an_optional_input_may_come_and_go() {
    let lab = chain();
    lab.write("src/more.txt", "+");
    assert_eq!(lab.planned()[1], "b: run input more (absent), input more: src/more.txt");
    assert_eq!(lab.run().executed(), ["b", "c"]);
    assert_eq!(lab.read("out/b.txt"), "a+!");
    lab.settled();
    fs::remove_file(lab.path("src/more.txt")).unwrap();
    assert_eq!(lab.run().counts(), [0, 2, 1, 0, 0]);
    lab.settled();
}

#[test]
fn a_lost_or_edited_output_is_restored_and_without_store_made_again() {
    let lab = chain();
    fs::remove_file(lab.path("out/a.txt")).unwrap();
    lab.write("out/c c.txt", "edited");
    assert_eq!(lab.planned(), ["a: restore output out/a.txt", "b: fresh", "c: restore output out/c c.txt"]);
    assert_eq!(lab.run().counts(), [0, 2, 1, 0, 0]);
    assert_eq!(lab.read("out/c c.txt"), "a!c");
    lab.settled();
    fs::remove_dir_all(lab.path("cache/objects")).unwrap();
    fs::remove_file(lab.path("out/b.txt")).unwrap();
    assert_eq!(lab.planned()[1], "b: run output out/b.txt");
    assert_eq!(lab.run().executed(), ["b"]);
    lab.settled();
}

#[test]
fn a_corrupt_object_is_not_restored_but_made_again() {
    let lab = chain();
    for object in crate::support::walk(&lab.path("cache/objects")) {
        if fs::read(&object).unwrap() == b"a!" {
            fs::remove_file(&object).unwrap();
            fs::write(&object, "b!").unwrap();
        }
    }
    fs::remove_file(lab.path("out/b.txt")).unwrap();
    let ran = lab.run();
    assert_eq!(ran.executed(), ["b"]);
    assert_eq!(lab.read("out/b.txt"), "a!");
    lab.settled();
}

#[test]
fn deleting_the_cache_loses_no_result() {
    let lab = chain();
    fs::remove_dir_all(lab.path("cache")).unwrap();
    assert_eq!(lab.run().executed(), ["a", "b", "c"]);
    lab.settled();
    fs::remove_file(lab.path("cache/runlog.jsonl")).unwrap();
    let ran = lab.run();
    assert_eq!(ran.counts(), [3, 0, 0, 0, 0], "history is lost, so all is new");
    lab.settled();
}

#[test]
fn force_runs_a_stage_and_its_equal_bytes_cut_off() {
    let lab = chain();
    let ran = lab.run_with(&RunOptions { force: vec!["a".into()], ..RunOptions::default() });
    assert_eq!(ran.executed(), ["a"]);
    lab.settled();
    let unknown = lab.try_run(&RunOptions { force: vec!["aa".into()], ..RunOptions::default() });
    assert_eq!(unknown.err().map(|e| e.exit_code()), Some(2));
}

#[test]
fn targets_select_a_stage_or_an_artifact_with_all_upstream() {
    let lab = Lab::new(CHAIN);
    lab.write("src/a.txt", "a");
    lab.write("src/c.txt", "c");
    let target = |t: &str| RunOptions { targets: vec![t.to_owned()], ..RunOptions::default() };
    assert_eq!(lab.run_with(&target("a")).executed(), ["a"]);
    assert_eq!(lab.run_with(&target("out/b.txt")).counts(), [1, 0, 1, 0, 0]);
    assert_eq!(lab.try_run(&target("out/x.txt")).err().map(|e| e.exit_code()), Some(2));
    assert_eq!(lab.run().counts(), [1, 0, 2, 0, 0]);
    lab.settled();
}

#[test]
fn always_runs_at_every_run_and_nondeterminism_shows_in_what_follows() {
    let lab = Lab::new(
        "
stages:
  n: { uses: nondet, out: { out: out/n }, always: true }
  m: { uses: concat, in: { in: out/n }, out: { out: out/m } }
",
    );
    lab.run();
    assert_eq!(lab.planned(), ["n: run forced always: true", "m: waits upstream n"]);
    let ran = lab.run();
    assert_eq!(ran.executed(), ["m", "n"]);
    assert_eq!(lab.read("out/n"), lab.read("out/m"));
}

#[test]
fn directories_are_inputs_and_outputs_and_a_changed_file_in_one_is_named() {
    let lab = Lab::new(
        "
stages:
  s: { uses: spread, in: { in: src/lines }, out: { out: out/parts/ } }
  all: { run: 'find ${in.in} -type f | sort | xargs cat > ${out.out}', in: { in: out/parts/ }, out: { out: out/all } }
  one: { uses: concat, in: { in: out/parts/first.txt }, out: { out: out/one } }
  some: { uses: concat, in: { in: 'out/parts/sub/*.txt' }, out: { out: out/some } }
  tree: { run: 'find ${in.in} -type f | sort | xargs cat > ${out.out}', in: { in: src/tree/ }, out: { out: out/tree } }
",
    );
    lab.write("src/lines", "x\ny\nz\n");
    lab.write("src/tree/p", "p");
    lab.write("src/tree/q/r", "r");
    lab.run();
    assert_eq!(lab.read("out/all"), "x\ny\nz\n");
    assert_eq!(lab.read("out/some"), "y\nz\n");
    assert_eq!(lab.read("out/tree"), "pr");
    lab.settled();
    lab.write("src/lines", "x\ny\nZ\n");
    lab.write("src/tree/q/r", "R");
    assert_eq!(lab.planned()[4], "tree: run input in: src/tree/q/r");
    assert_eq!(lab.run().executed(), ["all", "s", "some", "tree"]);
    lab.settled();
    // A stale file in an output directory is no input and is removed with the next exchange.
    lab.write("out/parts/sub/9.txt", "stale");
    assert_eq!(lab.planned()[0], "s: restore output out/parts/");
    assert_eq!(lab.run().counts(), [0, 1, 4, 0, 0]);
    assert!(!lab.path("out/parts/sub/9.txt").exists());
    lab.settled();
    fs::remove_dir_all(lab.path("out/parts")).unwrap();
    assert_eq!(lab.run().counts(), [0, 1, 4, 0, 0]);
    assert_eq!(lab.read("out/parts/sub/2.txt"), "Z\n");
    lab.settled();
}

#[test]
fn a_glob_over_sources_sees_files_come_and_go() {
    let lab = Lab::new(
        "
roots: { raw: elsewhere }
stages:
  g: { uses: concat, in: { in: 'raw:*.log' }, out: { out: out/g } }
",
    );
    lab.write("elsewhere/1.log", "1");
    lab.run();
    lab.write("elsewhere/2.log", "2");
    assert_eq!(lab.planned(), ["g: run input in: raw:2.log"]);
    assert_eq!(lab.run().executed(), ["g"]);
    assert_eq!(lab.read("out/g"), "12");
    fs::remove_file(lab.path("elsewhere/2.log")).unwrap();
    assert_eq!(lab.run().counts(), [0, 1, 0, 0, 0]);
    lab.settled();
}

#[test]
fn a_root_inside_the_project_may_be_made_by_a_stage() {
    let lab = Lab::new(
        "
roots: { raw: made }
stages:
  read: { uses: concat, in: { in: 'raw:*.txt' }, out: { out: out/read } }
  sub: { uses: concat, in: { in: raw:sub/1.txt }, out: { out: out/sub } }
  make: { uses: spread, in: { in: src/lines }, out: { out: made/ } }
",
    );
    lab.write("src/lines", "x\ny\n");
    let ran = lab.run();
    assert_eq!(ran.executed(), ["make", "read", "sub"]);
    assert_eq!((lab.read("out/read"), lab.read("out/sub")), ("x\n".to_owned(), "y\n".to_owned()));
    lab.settled();
    let document = lab.engine().lineage("raw:sub/1.txt", None).unwrap();
    assert_eq!(document.nodes.last().unwrap().path.as_deref(), Some("raw:sub/1.txt"));
    let document = lab.engine().lineage("out/sub", None).unwrap();
    assert_eq!(document.nodes[0].path.as_deref(), Some("src/lines"), "through the root to what made it");
    lab.write("src/lines", "X\ny\n");
    assert_eq!(lab.run().executed(), ["make", "read"]);
    lab.settled();
}

#[test]
fn a_renamed_project_keeps_its_results_and_a_renamed_stage_too() {
    let lab = chain();
    lab.pipeline(&CHAIN.replace("  b: {", "  bee: {"));
    let ran = lab.run();
    assert_eq!(ran.with(Decision::Fresh), ["a", "bee", "c"]);
    assert_eq!(lab.engine().why("bee").unwrap().leaves.len(), 9);
    let other = tempfile::tempdir().unwrap();
    fs::rename(lab.dir.path(), other.path().join("moved")).unwrap();
    let mut moved = Lab::new("stages: {}");
    moved.dir = {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().to_path_buf();
        fs::remove_dir(&to).unwrap();
        fs::rename(other.path().join("moved"), &to).unwrap();
        dir
    };
    moved.settled();
    fs::create_dir_all(lab.dir.path()).unwrap();
}

#[test]
fn equal_work_is_shared_between_stages_of_different_names_and_paths() {
    let lab = Lab::new(
        "
stages:
  one: { uses: concat, in: { in: src/a.txt }, out: { out: out/one } }
  two: { uses: concat, in: { in: src/a.txt }, out: { out: out/two } , needs: [one] }
",
    );
    lab.write("src/a.txt", "a");
    let ran = lab.run();
    assert_eq!(ran.counts(), [1, 1, 0, 0, 0]);
    assert_eq!(lab.read("out/two"), "a");
    lab.settled();
    let document = lab.engine().lineage("out/two", None).unwrap();
    let paths: Vec<&str> = document.nodes.iter().filter_map(|n| n.path.as_deref()).collect();
    assert_eq!(paths, ["src/a.txt", "out/two"]);
}

#[test]
fn other_bytes_under_the_same_key_draw_a_warning() {
    let lab = Lab::new("stages:\n  n: { uses: nondet, out: { out: out/n } }\n");
    assert!(lab.run().warnings().is_empty());
    let ran = lab.run_with(&RunOptions { force: vec!["n".into()], ..RunOptions::default() });
    assert!(ran.warnings()[0].contains("not reproducible"), "{:?}", ran.warnings());
    lab.settled();
}
