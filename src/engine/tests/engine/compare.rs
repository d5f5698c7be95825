//! Two runs compared: what differs, and which differences can have moved which number.

use std::collections::{BTreeMap, BTreeSet};

use logweir_engine::compare::{Comparison, Difference, StageChange};
use logweir_engine::engine::RunOptions;
use logweir_engine::metrics::Declared;
use proptest::prelude::*;

use crate::support::{Lab, quick_folder};

const PIPE: &str = "
stages:
  a: { uses: concat, in: { in: src/a }, out: { out: out/a }, with: { suffix: '1' } }
  b: { uses: concat, in: { in: src/b }, out: { out: out/b }, with: { suffix: '' } }
  mid: { uses: concat, in: { in: out/a }, out: { out: out/mid }, with: { suffix: '' } }
  m: { uses: concat, in: { in: out/mid }, out: { out: out/m.json }, metrics: [out] }
  n: { uses: concat, in: { in: out/b }, out: { out: out/n.json }, metrics: [out] }
";

fn pipe() -> Lab {
    let lab = Lab::new(PIPE);
    lab.write("src/a", "1");
    lab.write("src/b", "2");
    lab.run();
    lab
}

fn compare(lab: &Lab, from: &str, to: &str) -> Comparison {
    let engine = lab.engine();
    let mut declared = Declared::default();
    declared.add(engine.spec());
    engine.compare(from, to, &declared).unwrap()
}

fn short(differences: &[Difference]) -> Vec<String> {
    let of = |d: &Difference| format!("{} {} {}", d.stage, d.kind.name(), d.subject).trim_end().to_owned();
    let mut all: Vec<String> = differences.iter().map(of).collect();
    all.sort();
    all
}

/// `metric: old new | causes | not causes`.
fn moved(comparison: &Comparison) -> Vec<String> {
    let of = |m: &logweir_engine::compare::MetricDifference| {
        format!(
            "{}: {} {} | {} | {}",
            m.metric,
            m.old,
            m.new,
            short(&m.causes).join(", "),
            short(&m.not_causes).join(", ")
        )
    };
    comparison.metrics.iter().map(of).collect()
}

#[test]
fn a_parameter_upstream_is_the_cause_and_one_elsewhere_is_not() {
    let lab = pipe();
    lab.pipeline(&PIPE.replace("suffix: '1'", "suffix: '3'").replace("src/b }", "[src/b, src/a] }"));
    lab.run();
    let found = compare(&lab, "last~1", "last");
    assert_eq!(
        moved(&found),
        [
            "out/m.json#: 11 13 | a param suffix | b input in: src/a",
            "out/n.json#: 2 12 | b input in: src/a | a param suffix",
        ]
    );
    assert_eq!(found.metrics[0].delta, Some(2.0));
    let stages: Vec<&str> = found.stages.iter().map(|s| s.stage.as_str()).collect();
    assert_eq!(stages, ["a", "b", "m", "mid", "n"]);
    let leaf = &found.stages[2].leaves[0];
    assert_eq!((leaf.subject.as_str(), leaf.root), ("in: out/mid", false), "a consequence");
    assert_eq!((found.stages[0].leaves[0].root, &found.stages[0].leaves[0].new), (true, &"3".into()));
    let paths: Vec<&str> = found.artifacts.iter().map(|a| a.path.as_str()).collect();
    assert_eq!(paths, ["out/a", "out/b", "out/m.json", "out/mid", "out/n.json"]);
    let back = compare(&lab, "last", "last~1");
    assert_eq!(back.metrics[0].delta, Some(-2.0));
    assert!(compare(&lab, "last", "last").stages.is_empty());
}

#[test]
fn a_change_that_gave_the_same_bytes_is_no_cause() {
    let lab = pipe();
    // `a` changes but gives what it gave; `mid` changes what it gives.
    let yaml = PIPE.replace("suffix: '1' }", "suffix: '1', sleep: 10 }");
    lab.pipeline(&yaml.replace("out/mid }, with: { suffix: '' }", "out/mid }, with: { suffix: '7' }"));
    lab.run();
    let found = compare(&lab, "last~1", "last");
    assert_eq!(moved(&found), ["out/m.json#: 11 117 | mid param suffix | a param sleep"]);
    // Nothing but that.
    lab.pipeline(PIPE);
    lab.run();
    lab.pipeline(&yaml);
    lab.run();
    let found = compare(&lab, "last~1", "last");
    assert_eq!((found.metrics.len(), found.compared, found.stages.len()), (0, 2, 1));
}

#[test]
fn a_source_and_a_version_are_causes_down_to_the_last_stage() {
    let mut lab = pipe();
    lab.write("src/a", "5");
    lab.run();
    let found = compare(&lab, "last~1", "last");
    assert_eq!(moved(&found), ["out/m.json#: 11 51 | a input in: src/a | "]);
    // Another version of the kind: it is a cause where it changed bytes, and here only the source did.
    lab.version = 2;
    lab.write("src/b", "6");
    lab.run();
    let found = compare(&lab, "last~1", "last");
    let not = "a code version, m code version, mid code version";
    assert_eq!(
        moved(&found),
        [format!("out/n.json#: 2 6 | b code version, b input in: src/b, n code version | {not}")]
    );
}

#[test]
fn stages_that_come_and_go_are_told_of_and_can_be_causes() {
    let lab = pipe();
    let new = "  extra: { uses: concat, in: { in: src/b }, out: { out: out/extra }, with: { suffix: '4' } }\n";
    lab.pipeline(&format!("{}{new}", PIPE.replace("{ in: out/mid }", "{ in: [out/mid, out/extra] }")));
    lab.run();
    let found = compare(&lab, "last~1", "last");
    assert_eq!(moved(&found), ["out/m.json#: 11 2411 | extra added | "]);
    let change = |c: &Comparison| c.stages.iter().find(|s| s.stage == "extra").unwrap().change;
    assert_eq!(change(&found), StageChange::Added);
    let back = compare(&lab, "last", "last~1");
    assert_eq!(
        (change(&back), moved(&back)[0].as_str()),
        (StageChange::Removed, "out/m.json#: 2411 11 | extra removed | ")
    );
    // A metric that only one of the runs has.
    lab.pipeline(&PIPE.replace("  n: ", "  other: ").replace("out/n.json", "out/o.json"));
    lab.run();
    let found = compare(&lab, "last~1", "last");
    let came = moved(&found).into_iter().find(|m| m.starts_with("out/o.json#: null 2 |"));
    assert_eq!(came.as_deref(), Some("out/o.json#: null 2 | other added | extra removed, n removed"));
}

#[test]
fn a_failed_stage_is_told_of_as_not_finished() {
    let lab = pipe();
    lab.pipeline(&PIPE.replace(
        "mid: { uses: concat, in: { in: out/a }, out: { out: out/mid }, with: { suffix: '' } }",
        "mid: { uses: fail, in: { in: out/a }, out: { out: out/mid } }",
    ));
    lab.run_with(&RunOptions { keep_going: true, ..RunOptions::default() });
    let found = compare(&lab, "last~1", "last");
    let stages: Vec<(&str, StageChange)> = found.stages.iter().map(|s| (s.stage.as_str(), s.change)).collect();
    assert_eq!(stages, [("m", StageChange::Unfinished), ("mid", StageChange::Unfinished)]);
    assert!(found.notes[0].contains("m, mid"), "{:?}", found.notes);
    assert!(found.metrics.is_empty(), "what the run before made is in place: {:?}", found.metrics);
}

#[test]
fn other_bytes_for_the_same_key_are_a_cause_of_their_own() {
    let yaml = "
stages:
  dice: { uses: nondet, in: { in: src/a }, out: { out: out/dice } }
  m: { uses: concat, in: { in: out/dice }, out: { out: out/m.json }, metrics: [out] }
";
    let lab = Lab::new(yaml);
    lab.write("src/a", "1");
    lab.write("src/b", "2");
    lab.run();
    lab.run_with(&RunOptions { force: vec!["dice".into()], ..RunOptions::default() });
    let found = compare(&lab, "last~1", "last");
    assert_eq!(short(&found.metrics[0].causes), ["dice nondeterminism out/dice"]);
    assert_eq!(found.stages[0].change, StageChange::Nondeterminism);
}

#[test]
fn causes_go_through_directories_maps_and_matrices() {
    let yaml = "
stages:
  parts: { uses: spread, in: { in: src/lines }, out: { out: out/parts/ } }
  each: { run: 'tr a-z 0-9 < ${in.in} > ${out.out}', in: { in: 'out/parts/sub/*' }, out: { out: out/each/ }, map: in }
  'x': { uses: concat, in: { in: src/b }, out: { out: 'out/x-${matrix.k}' }, with: { suffix: '${matrix.k}${vars.v}' }, matrix: { k: ['1', '2'] } }
  m: { run: '(echo v; cat $(find ${in.in} -type f | sort)) > ${out.out}', in: { in: out/each/ }, out: { out: out/m.csv }, metrics: [out] }
  n: { uses: concat, in: { in: 'out/x-*' }, out: { out: out/n.json }, metrics: [out] }
vars: { v: '' }
";
    let mut lab = Lab::new(yaml);
    lab.write("src/lines", "n\na\nb\n");
    lab.write("src/b", "2");
    lab.run();
    lab.write("src/lines", "n\na\nc\nd\n");
    lab.sets = vec!["vars.v=7".to_owned()];
    lab.run();
    let found = compare(&lab, "last~1", "last");
    let lines = "parts input in: src/lines";
    let sets = "x[k=1] param suffix, x[k=2] param suffix";
    assert_eq!(found.metrics.len(), 3, "{:?}", moved(&found));
    for metric in &found.metrics {
        let (causes, not) = if metric.path == "out/m.csv" { (lines, sets) } else { (sets, lines) };
        assert_eq!(
            (short(&metric.causes).join(", "), short(&metric.not_causes).join(", ")),
            (causes.into(), not.into()),
            "{metric:?}"
        );
    }
}

#[test]
fn a_lineage_document_passes_on_what_gave_the_same_bytes() {
    let yaml = "
stages:
  a: { uses: concat, in: { in: src/a }, out: { out: out/a } }
  far: { uses: concat, in: { in: src/b }, out: { out: out/far } }
  page: { run: 'wc -c < ${in.origin} > ${out.o}; cat ${in.origin} | tr -dc 0-9 | cut -c -9 >> ${out.o}', in: { origin: 'lineage:out/a' }, out: { o: out/page } }
  m: { run: 'echo $(cksum < ${in.p} | cut -d \" \" -f 1) > ${out.o}', in: { p: out/page }, out: { o: out/m.json }, metrics: [o] }
";
    let lab = Lab::new(yaml);
    lab.write("src/a", "1");
    lab.write("src/b", "1");
    lab.run();
    lab.pipeline(&yaml.replace("out/a }", "out/a }, with: { sleep: 10 }"));
    lab.write("src/b", "2");
    lab.run();
    let found = compare(&lab, "last~1", "last");
    assert_eq!(short(&found.metrics[0].causes), ["a param sleep"]);
    assert_eq!(short(&found.metrics[0].not_causes), ["far input in: src/b"]);
}

#[test]
fn values_that_are_no_longer_stored_are_said_so() {
    let lab = pipe();
    lab.write("src/a", "5");
    lab.run();
    let found = compare(&lab, "last~1", "last");
    let old = found.artifacts.iter().find(|a| a.path == "out/m.json").unwrap().old.unwrap().to_string();
    std::fs::remove_file(lab.path(&format!("cache/objects/{}/{}", &old[..2], &old[2..])))
        .or_else(|_| std::fs::remove_file(lab.path(&format!("cache/objects/{}/{old}", &old[..2]))))
        .unwrap();
    let found = compare(&lab, "last~1", "last");
    assert!(found.metrics.is_empty());
    assert!(found.notes.iter().any(|n| n.contains("no longer stored")), "{:?}", found.notes);
}

#[test]
fn numbers_of_many_runs_are_read_once_each() {
    let lab = pipe();
    lab.write("src/a", "5");
    lab.run();
    lab.run();
    let engine = lab.engine();
    let mut declared = Declared::default();
    declared.add(engine.spec());
    let all = engine.metrics(None, &declared, |_| false).unwrap();
    let shown: Vec<(bool, String)> = all.iter().map(|run| (run.idle, run.values["out/m.json#"].to_string())).collect();
    assert_eq!(shown, [(false, "11".into()), (false, "51".into()), (true, "51".into())]);
    assert!(std::rc::Rc::ptr_eq(&all[1].values, &all[2].values), "shared");
    assert_eq!(engine.metrics(Some("last~1"), &declared, |_| true).unwrap()[0].run, all[1].run);
}

/// A random DAG: for each stage the stages before it that it reads.
fn dag() -> impl Strategy<Value = (Vec<BTreeSet<usize>>, Vec<u8>)> {
    let reads = |n: usize| {
        let inputs: Vec<_> = (0..n).map(|i| prop::collection::btree_set(0..i.max(1), 0..3)).collect();
        (inputs, prop::collection::vec(0..3u8, n))
    };
    (2..9usize).prop_flat_map(reads)
}

fn yaml_of(reads: &[BTreeSet<usize>], change: &[u8], applied: bool) -> String {
    let mut yaml = "stages:\n".to_owned();
    for (i, inputs) in reads.iter().enumerate() {
        let inputs: Vec<String> = std::iter::once("src/a".to_owned())
            .chain(inputs.iter().filter(|j| **j < i).map(|j| format!("out/{j}.csv")))
            .collect();
        // 0: nothing, 1: other bytes, 2: another parameter that gives the same bytes.
        let suffix = if applied && change[i] == 1 { "2" } else { "1" };
        let sleep = u8::from(applied && change[i] == 2);
        yaml += &format!(
            "  s{i}: {{ uses: concat, in: {{ in: [{}] }}, out: {{ out: out/{i}.csv }}, with: {{ suffix: \"{suffix}\\n\", sleep: {sleep} }}, metrics: [out] }}\n",
            inputs.join(", ")
        );
    }
    yaml
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// The causes are exactly the changed roots from which changed artifacts lead to the number.
    #[test]
    fn causes_are_the_changes_that_lead_to_the_number((reads, change) in dag()) {
        let lab = Lab::new_in(&quick_folder(), &yaml_of(&reads, &change, false));
        lab.write("src/a", "v\n");
        lab.run();
        lab.pipeline(&yaml_of(&reads, &change, true));
        lab.run();
        let found = compare(&lab, "last~1", "last");
        let mut up: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
        let mut all = BTreeSet::new();
        for i in 0..reads.len() {
            let mut causes: BTreeSet<String> =
                reads[i].iter().filter(|j| **j < i).flat_map(|j| up[j].clone()).collect();
            let own = match change[i] { 1 => Some(format!("s{i} param suffix")), 2 => Some(format!("s{i} param sleep")), _ => None };
            all.extend(own.clone());
            // Its bytes change only by its suffix or by what it reads.
            let differs = change[i] == 1 || !causes.is_empty();
            causes.extend(own);
            up.insert(i, if differs { causes } else { BTreeSet::new() });
        }
        let wanted: BTreeSet<String> =
            (0..reads.len()).filter(|i| !up[i].is_empty()).map(|i| format!("out/{i}.csv")).collect();
        let moved: BTreeSet<String> = found.metrics.iter().map(|m| m.path.clone()).collect();
        prop_assert_eq!(moved, wanted);
        for metric in &found.metrics {
            let i: usize = metric.stage[1..].parse().unwrap();
            let causes: BTreeSet<String> = short(&metric.causes).into_iter().collect();
            prop_assert_eq!(&causes, &up[&i]);
            let not: BTreeSet<String> = short(&metric.not_causes).into_iter().collect();
            prop_assert_eq!(not, all.difference(&causes).cloned().collect::<BTreeSet<_>>());
        }
    }
}
