//! One action per file of an input slot: what runs when files come, go and change; names, failures, targets.

use std::collections::BTreeSet;
use std::fs;

use logweir_engine::engine::{PlanOptions, RunOptions};
use logweir_engine::event::{Decision, Event};

use crate::support::Lab;

const UPPER: &str = "
stages:
  up: { run: 'tr a-z A-Z < ${in.text} > ${out.o}', in: { text: src/ }, out: { o: out/up/ }, map: text }
";

fn mapped(yaml: &str, files: &[(&str, &str)]) -> Lab {
    let lab = Lab::new(yaml);
    fs::create_dir_all(lab.path("src")).unwrap();
    for (path, text) in files {
        lab.write(path, text);
    }
    lab
}

fn three() -> Lab {
    let lab = mapped(UPPER, &[("src/a.txt", "a"), ("src/b.txt", "b"), ("src/sub/c.txt", "c")]);
    let ran = lab.run();
    assert_eq!(ran.executed(), ["up[a.txt]", "up[b.txt]", "up[sub/c.txt]"]);
    assert_eq!(ran.counts(), [3, 0, 0, 0, 0]);
    lab.settled();
    lab
}

/// Relative path and content of every file of a folder.
fn content(lab: &Lab, folder: &str) -> Vec<(String, String)> {
    let top = lab.path(folder);
    let mut files: Vec<(String, String)> = crate::support::walk(&top)
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path.strip_prefix(&top).unwrap().to_str().unwrap().to_owned(), text)
        })
        .collect();
    files.sort();
    files
}

fn names(lab: &Lab, folder: &str) -> Vec<String> {
    content(lab, folder).into_iter().map(|(name, _)| name).collect()
}

fn targets(names: &[&str]) -> RunOptions {
    RunOptions { targets: names.iter().map(|name| (*name).to_owned()).collect(), ..RunOptions::default() }
}

#[test]
fn one_new_file_in_a_directory_runs_one_action() {
    let lab = three();
    lab.write("src/d.txt", "d");
    assert_eq!(lab.planned()[2], "up[d.txt]: run new up[d.txt]");
    let ran = lab.run();
    assert_eq!((ran.executed(), ran.counts()), (vec!["up[d.txt]"], [1, 0, 3, 0, 0]));
    assert_eq!(lab.read("out/up/d.txt"), "D");
    lab.settled();
}

#[test]
fn removing_a_file_runs_nothing_and_its_output_disappears() {
    let lab = three();
    fs::remove_file(lab.path("src/sub/c.txt")).unwrap();
    assert_eq!(
        lab.planned(),
        ["up[a.txt]: fresh", "up[b.txt]: fresh", "up: restore output out/up/sub"],
        "a plan says what will go"
    );
    assert_eq!(lab.run().counts(), [0, 0, 2, 0, 0]);
    assert_eq!(names(&lab, "out/up"), ["a.txt", "b.txt"]);
    assert!(!lab.path("out/up/sub").exists());
    assert!(!lab.read("pipeline.lock").contains("up[sub/c.txt]"));
    lab.settled();
    lab.write("src/sub/c.txt", "c");
    assert_eq!(lab.run().counts(), [0, 1, 2, 0, 0], "its result was kept");
    lab.settled();
}

#[test]
fn a_changed_and_a_renamed_file_run_one_action_each() {
    let lab = three();
    lab.write("src/a.txt", "x");
    assert_eq!(lab.planned()[0], "up[a.txt]: run input text: src/a.txt");
    assert_eq!(lab.run().executed(), ["up[a.txt]"]);
    lab.settled();
    fs::rename(lab.path("src/a.txt"), lab.path("src/z.txt")).unwrap();
    assert_eq!(lab.run().executed(), ["up[z.txt]"]);
    assert_eq!(names(&lab, "out/up"), ["b.txt", "sub/c.txt", "z.txt"]);
    lab.settled();
    lab.write("src/b.txt", "b");
    lab.settled();
}

#[test]
fn outputs_lost_edited_or_added_are_put_right() {
    let lab = three();
    lab.write("out/up/a.txt", "edited");
    fs::remove_file(lab.path("out/up/sub/c.txt")).unwrap();
    lab.write("out/up/stray/x", "stray");
    lab.write("out/up/stray.txt", "stray");
    assert_eq!(lab.run().counts(), [0, 2, 1, 0, 0]);
    assert_eq!(names(&lab, "out/up"), ["a.txt", "b.txt", "sub/c.txt"]);
    assert_eq!(lab.read("out/up/a.txt"), "A");
    assert!(!lab.path("out/up/stray").exists());
    lab.settled();
    lab.write("out/up/stray.txt", "stray");
    assert_eq!(lab.run().counts(), [0, 0, 3, 0, 0]);
    assert_eq!(names(&lab, "out/up"), ["a.txt", "b.txt", "sub/c.txt"]);
    lab.settled();
    fs::remove_dir_all(lab.path("out")).unwrap();
    assert_eq!(lab.run().counts(), [0, 3, 0, 0, 0]);
    lab.settled();
    fs::remove_dir_all(lab.path("cache")).unwrap();
    assert_eq!(lab.run().counts(), [3, 0, 0, 0, 0]);
    lab.settled();
}

#[test]
fn a_file_may_become_a_folder_and_a_folder_a_file() {
    let lab = three();
    fs::remove_file(lab.path("src/a.txt")).unwrap();
    lab.write("src/a.txt/deep", "deep");
    fs::remove_dir_all(lab.path("src/sub")).unwrap();
    lab.write("src/sub", "flat");
    assert_eq!(lab.run().executed(), ["up[a.txt/deep]", "up[sub]"]);
    assert_eq!(names(&lab, "out/up"), ["a.txt/deep", "b.txt", "sub"]);
    lab.settled();
}

#[test]
fn what_reads_the_directory_sees_all_of_it_and_is_cut_off() {
    let yaml = format!(
        "{UPPER}  all: {{ uses: concat, in: {{ in: 'out/up/*.txt' }}, out: {{ out: out/all }} }}\n  one: {{ uses: concat, in: {{ in: out/up/b.txt }}, out: {{ out: out/one }} }}\n  tree: {{ run: 'find ${{in.d}} -type f | sort | xargs cat > ${{out.o}}', in: {{ d: out/up/ }}, out: {{ o: out/tree }} }}\n"
    );
    let lab = mapped(&yaml, &[("src/a.txt", "a"), ("src/b.txt", "b"), ("src/sub/c.txt", "c")]);
    assert_eq!(lab.run().counts(), [6, 0, 0, 0, 0]);
    assert_eq!(
        (lab.read("out/all"), lab.read("out/one"), lab.read("out/tree")),
        ("AB".into(), "B".into(), "ABC".into())
    );
    lab.settled();
    lab.write("src/a.txt", "A");
    assert_eq!(lab.run().executed(), ["up[a.txt]"], "the same bytes stop there");
    lab.settled();
    lab.write("src/sub/d.txt", "d");
    assert_eq!(lab.planned().last().unwrap(), "tree: waits upstream up");
    assert_eq!(lab.run().executed(), ["tree", "up[sub/d.txt]"]);
    assert_eq!(lab.read("out/tree"), "ABCD");
    lab.settled();
    let document = lab.engine().lineage("out/tree", None).unwrap();
    let paths: BTreeSet<&str> = document.nodes.iter().filter_map(|node| node.path.as_deref()).collect();
    for path in ["src/a.txt", "src/sub/d.txt", "out/up/a.txt", "out/up/", "out/tree"] {
        assert!(paths.contains(path), "{path} in {paths:?}");
    }
    let stages: Vec<&str> = lab
        .engine()
        .lineage("out/one", None)
        .unwrap()
        .nodes
        .iter()
        .filter_map(|n| n.stage.clone())
        .map(|s| if s == "one" { "one" } else { "item" })
        .collect();
    assert_eq!(stages, ["item", "one"], "one file of a map comes from its item alone");
    let impact = lab.engine().impact("src/b.txt", None).unwrap();
    let paths: BTreeSet<&str> = impact.nodes.iter().filter_map(|node| node.path.as_deref()).collect();
    assert!(["out/up/b.txt", "out/one", "out/all", "out/tree"].iter().all(|path| paths.contains(path)), "{paths:?}");
}

#[test]
fn a_directory_another_stage_makes_is_mapped_as_soon_as_it_is_there() {
    let yaml = "
stages:
  split: { uses: spread, in: { in: lines }, out: { out: out/parts/ } }
  up: { run: 'tr a-z A-Z < ${in.text} > ${out.o}', in: { text: out/parts/ }, out: { o: out/up/ }, map: text }
  twice: { run: 'cat ${in.x} ${in.x} > ${out.o}/${item.stem}.2', in: { x: 'out/up/sub/*.txt' }, out: { o: out/twice/ }, map: x }
  all: { run: 'find ${in.d} -type f | sort | xargs cat > ${out.o}', in: { d: out/twice/ }, out: { o: out/all } }
";
    let lab = mapped(yaml, &[("lines", "x\ny\nz\n")]);
    assert_eq!(
        lab.planned(),
        ["split: run new split", "up: waits upstream split", "twice: waits upstream up", "all: waits upstream twice"]
    );
    let ran = lab.run();
    assert_eq!(ran.counts(), [7, 0, 0, 0, 0]);
    assert_eq!(names(&lab, "out/twice"), ["1.2", "2.2"]);
    assert_eq!(lab.read("out/all"), "Y\nY\nZ\nZ\n");
    lab.settled();
    assert_eq!(lab.planned().len(), 7);
    lab.write("lines", "x\ny\nz\nw\n");
    assert_eq!(lab.run().executed(), ["all", "split", "twice[3.txt]", "up[sub/3.txt]"]);
    lab.settled();
    lab.write("lines", "X\ny\n");
    let ran = lab.run();
    assert_eq!((ran.executed(), ran.counts()), (vec!["all", "split", "up[first.txt]"], [3, 0, 2, 0, 0]));
    assert_eq!(lab.read("out/all"), "Y\nY\n");
    lab.settled();
}

#[test]
fn names_with_spaces_quotes_and_letters_of_any_script_are_quoted() {
    let yaml = "
stages:
  cp: { run: 'cp ${in.f} ${out.o}; echo ${item} > ${out.n}', in: { f: src/ }, out: { o: out/cp/, n: 'out/n/${item}.name' }, map: f }
";
    let files =
        ["it's a file", "tab\there", "zażółć/gęślą jaźń.txt", "$(touch pwned)", "a\"b`c", "-n", "${item}", "a:b", "*"];
    let lab = mapped(yaml, &[]);
    for name in files {
        lab.write(&format!("src/{name}"), name);
    }
    assert_eq!(lab.run().counts(), [files.len(), 0, 0, 0, 0]);
    for name in files {
        assert_eq!(lab.read(&format!("out/cp/{name}")), name);
        if name != "-n" {
            assert_eq!(lab.read(&format!("out/n/{name}.name")), format!("{name}\n"));
        }
    }
    assert!(!lab.path("pwned").exists());
    lab.settled();
    let lock = lab.read("pipeline.lock");
    lab.run();
    assert_eq!(lab.read("pipeline.lock").lines().count(), lock.lines().count(), "the lock file is read back whole");
}

const PICKY: &str = "
stages:
  ok: { run: 'if grep -q bad ${in.f}; then exit 1; fi; cp ${in.f} ${out.o}', in: { f: src/ }, out: { o: out/ok/ }, map: f }
  all: { uses: concat, in: { in: 'out/ok/*' }, out: { out: out/all } }
  other: { run: 'sleep 0.2; echo > ${out.o}', out: { o: out/other } }
";

#[test]
fn a_failed_item_leaves_the_results_of_the_others_and_is_retried_alone() {
    let lab = mapped(PICKY, &[("src/1", "one"), ("src/2", "bad"), ("src/3", "three"), ("src/4", "four")]);
    let ran = lab.run_with(&RunOptions { jobs: 1, ..RunOptions::default() });
    assert_eq!(ran.summary.exit_code(), 1);
    assert_eq!(ran.summary.info.failed, 1);
    let items = ran.executed().into_iter().filter(|name| name.starts_with("ok[")).count();
    assert_eq!(items, 3, "the items beside it have nothing to do with its fault");
    assert_eq!(names(&lab, "out/ok"), ["1", "3", "4"]);
    assert!(!lab.path("out/all").exists());
    let ran = lab.run_with(&RunOptions { keep_going: true, ..RunOptions::default() });
    assert_eq!((ran.summary.info.failed, ran.summary.info.skipped), (1, 1), "it alone is tried; `all` needs it");
    lab.write("src/2", "two");
    assert_eq!(lab.run().executed(), ["all", "ok[2]"]);
    assert_eq!(lab.read("out/all"), "onetwothreefour");
    lab.settled();
    lab.write("src/3", "bad");
    let ran = lab.run_with(&RunOptions { keep_going: true, ..RunOptions::default() });
    assert_eq!(ran.counts(), [0, 0, 4, 1, 1]);
    assert_eq!(lab.read("out/ok/3"), "three", "outputs of a failed item are as they were");
    assert!(lab.engine().verify(&Default::default(), &|_: &Event| {}).unwrap().findings.is_empty());
    lab.write("src/3", "three");
    assert_eq!(lab.run().counts(), [0, 0, 6, 0, 0]);
    lab.settled();
}

#[test]
fn a_map_all_of_whose_items_fail_is_given_up() {
    let lab = mapped(PICKY, &[]);
    (0..40).for_each(|n| lab.write(&format!("src/{n:02}"), "bad"));
    let ran = lab.run_with(&RunOptions { jobs: 1, ..RunOptions::default() });
    assert_eq!(ran.summary.info.failed, 10);
    let ran = lab.run_with(&RunOptions { keep_going: true, ..RunOptions::default() });
    assert_eq!(ran.summary.info.failed, 40);
}

#[test]
fn two_items_with_one_output_are_an_error_that_names_both() {
    let yaml = "
stages:
  m: { run: 'cp ${in.f} ${out.o}', in: { f: src/ }, out: { o: 'out/${item.stem}' }, map: f }
";
    let lab = mapped(yaml, &[("src/a.x", "1"), ("src/a.y", "2")]);
    let error = lab.engine().plan(&PlanOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "stage `m`: items `src/a.x` and `src/a.y` both write `out/a`");
    assert_eq!(error.exit_code(), 2);
    let ran = lab.run_with(&RunOptions::default());
    assert!(ran.errors().contains("hint: put `${item}`"), "{}", ran.errors());
    fs::remove_file(lab.path("src/a.y")).unwrap();
    lab.write("src/a/b.y", "2");
    let error = lab.engine().plan(&PlanOptions::default()).unwrap_err();
    assert!(error.to_string().contains("a folder around it"), "{error}");
}

#[test]
fn no_items_give_an_empty_directory() {
    let yaml = "
stages:
  m: { run: 'cp ${in.f} ${out.o}', in: { f: src/ }, out: { o: out/m/ }, map: f }
  maybe: { run: 'cp ${in.f} ${out.o}', in: { f?: 'none/*' }, out: { o: out/maybe/ }, map: f }
  list: { run: 'find ${in.a} ${in.b} -type f > ${out.o}', in: { a: out/m/, b: out/maybe/ }, out: { o: out/list } }
";
    let lab = mapped(yaml, &[]);
    assert_eq!(lab.run().counts(), [1, 0, 0, 0, 0]);
    assert!(lab.path("out/m").is_dir() && lab.path("out/maybe").is_dir());
    assert_eq!(lab.read("out/list"), "");
    lab.settled();
    lab.write("none/x", "x");
    assert_eq!(lab.run().executed(), ["list", "maybe[x]"]);
    lab.settled();
    fs::remove_dir_all(lab.path("none")).unwrap();
    assert_eq!(lab.run().counts(), [0, 1, 0, 0, 0]);
    assert_eq!(names(&lab, "out/maybe"), [""; 0]);
    lab.settled();
    fs::remove_dir_all(lab.path("src")).unwrap();
    assert_eq!(
        lab.try_run(&RunOptions::default()).err().map(|e| e.exit_code()),
        Some(3),
        "a missing folder is missing"
    );
}

#[test]
fn built_in_kinds_are_mapped_and_share_their_other_inputs() {
    let yaml = "
stages:
  glue: { uses: concat, in: { in: 'src/*.txt', more: extra }, out: { out: out/glue/ }, map: in, with: { suffix: '!' } }
  cut: { uses: spread, in: { in: [src/lines/a, src/lines/b] }, out: { out: out/cut/ }, map: in }
  read: { uses: concat, in: { in: out/cut/a/sub/1.txt }, out: { out: out/read } }
";
    let lab = mapped(yaml, &[("src/1.txt", "1"), ("src/2.txt", "2"), ("extra", "+")]);
    lab.write("src/lines/a", "x\ny\n");
    lab.write("src/lines/b", "z\n");
    assert_eq!(lab.run().counts(), [5, 0, 0, 0, 0]);
    assert_eq!((lab.read("out/glue/1.txt"), lab.read("out/glue/2.txt")), ("1+!".to_owned(), "2+!".to_owned()));
    assert_eq!(names(&lab, "out/cut"), ["a/first.txt", "a/sub/1.txt", "b/first.txt"]);
    lab.settled();
    let stages: Vec<String> =
        lab.engine().lineage("out/read", None).unwrap().nodes.into_iter().filter_map(|n| n.stage).collect();
    assert_eq!(stages, ["cut[a]", "read"]);
    lab.write("extra", "?");
    assert_eq!(lab.run().executed(), ["glue[1.txt]", "glue[2.txt]"], "an input that all share");
    lab.settled();
    lab.write("src/lines/b", "z\nzz\n");
    lab.write("out/cut/a/stray", "stray");
    let ran = lab.run();
    assert_eq!((ran.executed(), ran.with(Decision::Restore)), (vec!["cut[b]"], vec!["cut[a]"]));
    lab.settled();
    lab.pipeline(&yaml.replace("'!'", "'.'"));
    assert_eq!(lab.run().executed(), ["glue[1.txt]", "glue[2.txt]"]);
    lab.settled();
}

#[test]
fn targets_and_force_speak_of_single_items() {
    let yaml = format!("{UPPER}  all: {{ uses: concat, in: {{ in: 'out/up/*.txt' }}, out: {{ out: out/all }} }}\n");
    let lab = mapped(&yaml, &[("src/a.txt", "a"), ("src/b.txt", "b"), ("src/sub/c.txt", "c")]);
    assert_eq!(lab.run_with(&targets(&["up[b.txt]"])).counts(), [1, 0, 0, 0, 0]);
    assert_eq!(lab.run_with(&targets(&["out/up/sub/c.txt", "up[b.txt]"])).counts(), [1, 0, 1, 0, 0]);
    assert_eq!(names(&lab, "out/up"), ["b.txt", "sub/c.txt"]);
    assert_eq!(lab.run_with(&targets(&["out/up/sub"])).counts(), [0, 0, 1, 0, 0]);
    for unknown in ["up[x.txt]", "out/up/x.txt"] {
        let ran = lab.run_with(&targets(&[unknown]));
        assert!(ran.errors().contains(&format!("unknown target `{unknown}`")), "{}", ran.errors());
        let plan = lab.engine().plan(&PlanOptions { targets: vec![unknown.to_owned()], ..PlanOptions::default() });
        assert_eq!(plan.err().map(|e| e.exit_code()), Some(2));
    }
    assert_eq!(lab.run_with(&targets(&["up"])).counts(), [1, 0, 2, 0, 0]);
    assert_eq!(lab.run_with(&targets(&["up[a.txt]", "all"])).counts(), [1, 0, 3, 0, 0], "a whole map has every item");
    lab.settled();
    let force = |name: &str| RunOptions { force: vec![name.to_owned()], ..RunOptions::default() };
    assert_eq!(lab.run_with(&force("up[b.txt]")).executed(), ["up[b.txt]"]);
    assert_eq!(lab.run_with(&force("up")).executed(), ["up[a.txt]", "up[b.txt]", "up[sub/c.txt]"]);
    assert_eq!(lab.try_run(&force("all[x]")).err().map(|e| e.exit_code()), Some(2));
    lab.settled();
    // A run of one item forgets nothing of the others.
    lab.write("src/a.txt", "aa");
    assert_eq!(lab.run_with(&targets(&["up[a.txt]"])).executed(), ["up[a.txt]"]);
    assert!(lab.engine().lineage("out/up/b.txt", None).is_ok());
    assert_eq!(lab.run().executed(), ["all"]);
    lab.settled();
}

#[test]
fn a_matrix_of_maps_runs_every_combination_of_every_file() {
    let yaml = "
stages:
  m: { run: 'echo ${matrix.n} ${item.stem} > ${out.o}', in: { f: 'src/*' }, out: { o: 'out/${matrix.n}/${item.stem}.csv' }, map: f, matrix: { n: [1, 2] } }
";
    let lab = mapped(yaml, &[("src/a.txt", "a"), ("src/b.txt", "b")]);
    assert_eq!(lab.run().executed(), ["m[n=1][a.txt]", "m[n=1][b.txt]", "m[n=2][a.txt]", "m[n=2][b.txt]"]);
    assert_eq!(lab.read("out/2/a.csv"), "2 a\n");
    lab.settled();
    assert_eq!(lab.run_with(&targets(&["m[n=2]"])).counts(), [0, 0, 2, 0, 0]);
    assert_eq!(lab.run_with(&targets(&["m[n=2][a.txt]"])).counts(), [0, 0, 1, 0, 0]);
    lab.write("src/c.txt", "c");
    assert_eq!(lab.run().executed(), ["m[n=1][c.txt]", "m[n=2][c.txt]"]);
    lab.settled();
}

#[test]
fn always_and_frozen_hold_for_the_items() {
    let lab = three();
    lab.pipeline(&UPPER.replace("map: text", "map: text, always: true"));
    assert_eq!(lab.run().counts(), [3, 0, 0, 0, 0]);
    lab.pipeline(&UPPER.replace("map: text", "map: text, frozen: true"));
    lab.write("src/a.txt", "changed");
    lab.write("src/new.txt", "new");
    assert_eq!(lab.planned(), ["up: fresh"]);
    assert_eq!(lab.run().counts(), [0, 0, 1, 0, 0]);
    fs::remove_file(lab.path("out/up/b.txt")).unwrap();
    assert_eq!(lab.run().counts(), [0, 1, 0, 0, 0]);
    assert_eq!(lab.read("out/up/a.txt"), "A");
    lab.settled();
    assert!(
        lab.engine()
            .lineage("out/up/b.txt", None)
            .unwrap()
            .nodes
            .iter()
            .any(|n| n.stage.as_deref() == Some("up[b.txt]"))
    );
    lab.pipeline(UPPER);
    assert_eq!(lab.run().executed(), ["up[a.txt]", "up[new.txt]"]);
    lab.settled();
}

#[test]
fn why_and_history_speak_of_items_and_of_the_map() {
    let lab = three();
    lab.write("src/a.txt", "x");
    let why = lab.engine().why("up[a.txt]").unwrap();
    assert_eq!((why.now.decision, why.now.reasons[0].subject.as_str()), (Decision::Run, "text: src/a.txt"));
    let why = lab.engine().why("up").unwrap();
    assert_eq!((why.now.decision, why.now.reasons[0].subject.as_str()), (Decision::Run, "up[a.txt]"));
    assert!(lab.engine().why("up[x]").is_err());
    lab.run();
    let first = lab.engine().runs().unwrap()[0].run.clone();
    lab.write("src/d.txt", "d");
    lab.run();
    lab.engine().restore_run(&first).unwrap();
    assert_eq!(content(&lab, "out/up").iter().map(|(_, text)| text.as_str()).collect::<String>(), "ABC");
    assert_eq!(lab.run().counts(), [0, 2, 2, 0, 0]);
    lab.settled();
    let report = lab.engine().verify(&Default::default(), &|_: &Event| {}).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    lab.write("out/up/a.txt", "edited");
    let report = lab.engine().verify(&Default::default(), &|_: &Event| {}).unwrap();
    assert_eq!(report.findings.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["out/up/a.txt"]);
}

#[test]
fn a_large_file_is_cut_at_line_ends_and_appending_runs_the_last_piece() {
    let yaml = "
roots: { raw: logs }
stages:
  up: { run: 'tr a-z A-Z < ${in.log} > ${out.o}/${item.stem}.csv', in: { log: 'raw:big.log' }, out: { o: out/up/ }, map: { slot: log, split: 10 } }
  all: { uses: concat, in: { in: 'out/up/*.csv' }, out: { out: out/all } }
";
    let lab = mapped(yaml, &[("logs/big.log", "one two\nthree four five\nsix\nseven\n")]);
    assert_eq!(lab.run().executed(), ["all", "up[big.log:0-24]", "up[big.log:24-34]"]);
    assert_eq!(names(&lab, "out/up"), ["big.000000000000.csv", "big.000000000024.csv"]);
    assert_eq!(lab.read("out/all"), lab.read("logs/big.log").to_uppercase());
    lab.settled();
    lab.write("logs/big.log", "one two\nthree four five\nsix\nseven\neight\n");
    assert_eq!(lab.run().executed(), ["all", "up[big.log:34-40]"]);
    lab.settled();
    lab.write("logs/big.log", "one two\nthree four five\nsix\nseven\neight\nnine\n");
    assert_eq!(lab.run().executed(), ["all", "up[big.log:34-45]"]);
    assert_eq!(lab.read("out/all"), lab.read("logs/big.log").to_uppercase());
    lab.settled();
    let document = lab.engine().lineage("out/all", None).unwrap();
    let files: BTreeSet<&str> = document.nodes.iter().filter_map(|node| node.file.as_deref()).collect();
    assert!(files.iter().all(|file| file.ends_with("logs/big.log")), "{files:?}");
    assert!(
        lab.engine().impact("raw:big.log", None).unwrap().nodes.iter().any(|n| n.path.as_deref() == Some("out/all"))
    );
    fs::remove_dir_all(lab.path("cache/pieces")).unwrap();
    lab.settled();
    lab.write("logs/big.log", "");
    assert_eq!(lab.try_run(&RunOptions::default()).unwrap().summary.info.failed, 1, "nothing matches `all`'s pattern");
    assert_eq!(names(&lab, "out/up"), [""; 0]);
}

#[test]
fn a_file_that_a_stage_makes_is_cut_too() {
    let yaml = "
stages:
  make: { uses: concat, in: { in: text }, out: { out: out/big.log } }
  m: { run: 'wc -l < ${in.log} > ${out.o}', in: { log: out/big.log }, out: { o: out/m/ }, map: { slot: log, split: 3 } }
  note: { run: 'cp ${in.o} ${out.o}', in: { o: 'lineage:out/m/big.000000000002.log' }, out: { o: out/note } }
";
    let lab = mapped(yaml, &[("text", "a\nbb\n")]);
    lab.pipeline(&yaml.replace("split: 3", "split: 2"));
    assert_eq!(lab.run().executed(), ["m[big.log:0-2]", "m[big.log:2-5]", "make", "note"]);
    lab.settled();
    let note = lab.read("out/note");
    assert!(
        note.contains("\"m[big.log:2-5]\"") && note.contains("\"text\"") && !note.contains("m[big.log:0-2]"),
        "{note}"
    );
    lab.write("text", "a\nbb\ncc\n");
    assert_eq!(
        lab.run().executed(),
        ["m[big.log:5-8]", "make", "note"]
            .map(|s| s)
            .to_vec()
            .into_iter()
            .filter(|s| *s != "note" || lab.read("out/note") != note)
            .collect::<Vec<_>>()
    );
    lab.settled();
}

#[test]
fn pools_and_events_count_items() {
    let yaml = "
pools: { one: 1 }
stages:
  m: { run: 'mkdir held; sleep 0.05; rmdir held; cp ${in.f} ${out.o}', in: { f: src/ }, out: { o: out/m/ }, map: f, pool: one }
";
    let lab = mapped(yaml, &[("src/1", "1"), ("src/2", "2"), ("src/3", "3")]);
    let ran = lab.run_with(&RunOptions { jobs: 4, ..RunOptions::default() });
    assert_eq!(ran.counts(), [3, 0, 0, 0, 0], "{}", ran.errors());
    let expanded = |event: &Event| matches!(event, Event::StageExpanded { stage, actions: 3 } if stage == "m");
    assert!(ran.events.iter().any(expanded));
    let finished = ran.events.iter().filter(|event| matches!(event, Event::StageFinished { .. })).count();
    assert_eq!(finished, 3, "the map itself is no action");
    lab.settled();
    lab.write("src/4", "4");
    let plan = lab.path("plan.json");
    fs::write(&plan, serde_json::to_string(&lab.plan()).unwrap()).unwrap();
    let saved = RunOptions { plan_file: Some(plan.clone()), ..RunOptions::default() };
    assert_eq!(lab.run_with(&saved).executed(), ["m[4]"]);
    lab.write("src/5", "5");
    assert!(lab.try_run(&saved).is_err(), "another item is another plan");
    lab.run();
    lab.settled();
}
