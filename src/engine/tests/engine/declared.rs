//! What a stage declares beside its command and files: each of it does what it says, and nothing else makes it run.

use std::fs;

use logweir_engine::engine::RunOptions;
use logweir_engine::event::{Decision, Event};
use logweir_engine::gc::GcOptions;

use crate::support::Lab;

#[test]
fn variables_keep_their_type_and_overrides_are_recorded() {
    let mut lab = Lab::new(
        "
vars: { n: 10, mark: '!', list: [src/a, src/b] }
stages:
  s: { uses: concat, in: { in: '${vars.list}' }, out: { out: out/s }, with: { sleep: '${vars.n}', suffix: '$${vars.mark} ${vars.mark}' } }
",
    );
    lab.write("src/a", "a");
    lab.write("src/b", "b");
    lab.run();
    assert_eq!(lab.read("out/s"), "ab${vars.mark} !");
    assert_eq!(lab.engine().spec().stages[0].params["sleep"], 10, "a number stays one");
    lab.settled();
    lab.sets = vec!["vars.mark=x".to_owned()];
    assert_eq!(lab.run().executed(), ["s"]);
    assert_eq!(lab.read("out/s"), "ab${vars.mark} x");
    assert_eq!(lab.engine().runs().unwrap().last().unwrap().overrides, ["vars.mark=x"]);
    lab.sets.clear();
    assert_eq!(lab.run().counts(), [0, 1, 0, 0, 0]);
    lab.settled();
}

#[test]
fn a_value_added_to_a_matrix_runs_its_combination_alone() {
    let yaml = "
stages:
  m: { run: 'echo ${matrix.n}-${with.x} > ${out.o}', out: { o: 'out/${matrix.n}' }, with: { x: '${matrix.n}' }, matrix: { n: [1, 2] } }
  all: { run: 'cat ${in.i} > ${out.o}', in: { i: 'out/*' }, out: { o: all } }
";
    let lab = Lab::new(yaml);
    lab.run();
    assert_eq!(lab.read("all"), "1-1\n2-2\n");
    lab.settled();
    lab.pipeline(&yaml.replace("[1, 2]", "[1, 2, 3]"));
    assert_eq!(lab.run().executed(), ["all", "m[n=3]"]);
    lab.settled();
    assert_eq!(
        lab.run_with(&RunOptions { targets: vec!["m[n=2]".into()], ..RunOptions::default() }).counts(),
        [0, 0, 1, 0, 0]
    );
}

#[test]
fn needs_is_order_alone() {
    let yaml = "
stages:
  late: { run: 'date +%s%N > ${out.o}', out: { o: out/late }, needs: [early] }
  early: { run: 'sleep 0.1; cat ${in.i} > ${out.o}', in: { i: src }, out: { o: out/early } }
";
    let lab = Lab::new(yaml);
    lab.write("src", "1");
    let ran = lab.run();
    let finished = ran.events.iter().filter_map(|event| match event {
        Event::StageFinished { stage, .. } => Some(stage.as_str()),
        _ => None,
    });
    assert_eq!(finished.collect::<Vec<_>>(), ["early", "late"]);
    lab.settled();
    lab.write("src", "2");
    assert_eq!(lab.run().executed(), ["early"], "what is only needed is no input");
    lab.settled();
    lab.pipeline(&yaml.replace(", needs: [early]", ", threads: 2, memory: 1M, retries: 1, timeout: 1m, about: x"));
    assert_eq!(lab.run().executed(), [""; 0], "none of this changes a byte");
    lab.settled();
}

#[test]
fn a_root_may_move_and_its_files_keep_their_names() {
    let lab = Lab::new("roots: { raw: one }\nstages:\n  s: { uses: concat, in: { in: raw:a }, out: { out: out/s } }\n");
    lab.write("one/a", "a");
    lab.write("two/a", "a");
    lab.run();
    lab.pipeline("roots: { raw: two }\nstages:\n  s: { uses: concat, in: { in: raw:a }, out: { out: out/s } }\n");
    assert_eq!(lab.planned(), ["s: fresh"]);
    lab.settled();
    lab.write("two/a", "b");
    assert_eq!(lab.run().executed(), ["s"]);
    lab.settled();
}

#[test]
fn garbage_collection_keeps_what_items_of_a_map_made() {
    let lab = Lab::new("stages:\n  m: { run: 'cp ${in.f} ${out.o}', in: { f: src/ }, out: { o: out/m/ }, map: f }\n");
    lab.write("src/a", "one");
    lab.write("src/b", "two");
    lab.run();
    lab.write("src/a", "other");
    lab.run();
    lab.engine().gc(&GcOptions { keep_runs: 1, delete: true }).unwrap();
    fs::remove_dir_all(lab.path("out")).unwrap();
    let ran = lab.run();
    assert_eq!(ran.with(Decision::Restore), ["m[a]", "m[b]"]);
    lab.settled();
}
