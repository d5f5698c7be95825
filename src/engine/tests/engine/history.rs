//! Effects, frozen stages, lineage, impact, runs, why, plans, locks of two pipelines.

use std::fs;
use std::sync::Arc;

use logweir_engine::engine::{PlanOptions, RunOptions};
use logweir_engine::error::EngineError;
use logweir_engine::event::Decision;
use logweir_engine::lineage::{Lineage, Node};

use crate::support::Lab;

fn arrows(document: &Lineage) -> Vec<String> {
    let name = |id: &str| {
        let node = document.nodes.iter().find(|n| n.id == id).unwrap();
        node.path.clone().or_else(|| node.stage.clone().map(|s| format!("[{s}]"))).unwrap()
    };
    let mut arrows: Vec<String> = document.edges.iter().map(|(a, b)| format!("{} > {}", name(a), name(b))).collect();
    arrows.sort();
    arrows
}

/// Nodes without what the run asked about decided: the actions of another run are none of its.
fn undecided(mut nodes: Vec<Node>) -> Vec<Node> {
    nodes
        .iter_mut()
        .filter_map(|node| node.details.as_mut())
        .for_each(|details| Arc::make_mut(&mut details.0).decision = None);
    nodes
}

const PIPE: &str = "
roots: { raw: elsewhere }
stages:
  parts: { uses: spread, in: { in: raw:lines }, out: { out: out/parts/ } }
  one: { uses: concat, in: { in: out/parts/first.txt }, out: { out: out/one }, with: { suffix: '1' } }
  json: { run: 'echo \"{\\\"a\\\":{\\\"b\\\":0.5}}\" > ${out.o}; cat ${in.i} >/dev/null', in: { i: out/one }, out: { o: out/m.json } }
  side: { uses: concat, in: { in: src/side }, out: { out: out/side } }
";

fn pipe() -> Lab {
    let lab = Lab::new(PIPE);
    lab.write("elsewhere/lines", "x\ny\n");
    lab.write("src/side", "s");
    lab.run();
    lab
}

#[test]
fn lineage_goes_back_to_the_sources_with_params_value_and_place() {
    let lab = pipe();
    let document = lab.engine().lineage("out/m.json#/a/b", None).unwrap();
    assert_eq!(document.value, 0.5);
    assert_eq!(
        arrows(&document),
        [
            "[json] > out/m.json",
            "[one] > out/one",
            "[parts] > out/parts/first.txt",
            "out/one > [json]",
            "out/parts/first.txt > [one]",
            "raw:lines > [parts]",
        ]
    );
    let source = &document.nodes[0];
    assert_eq!(source.path.as_deref(), Some("raw:lines"));
    assert!(source.file.as_deref().unwrap().ends_with("/elsewhere/lines"));
    let one = document.nodes.iter().find(|n| n.stage.as_deref() == Some("one")).unwrap();
    assert_eq!(one.params.as_ref().unwrap()["suffix"], "1");
    assert!(one.run.is_some());
    let wrong = lab.engine().lineage("out/m.json#/a/c", None).err().unwrap();
    assert_eq!(wrong.help().unwrap(), "`/a` has no `c`; did you mean `b`?");
}

#[test]
fn a_copy_a_digest_and_an_earlier_run_have_a_lineage() {
    let lab = pipe();
    let before = lab.engine().lineage("out/one", None).unwrap();
    fs::copy(lab.path("out/one"), lab.path("copy.txt")).unwrap();
    let first = lab.engine().runs().unwrap()[0].run.clone();
    lab.write("elsewhere/lines", "changed\ny\n");
    lab.run();
    let copy = lab.engine().lineage("copy.txt", None).unwrap();
    assert_eq!(undecided(copy.nodes), undecided(before.nodes.clone()));
    assert_eq!(copy.edges, before.edges);
    let past = lab.engine().lineage("out/one", Some(&first)).unwrap();
    assert_eq!(past.nodes, before.nodes);
    let digest = before.nodes.last().unwrap().digest.unwrap().to_string();
    let found = lab.engine().lineage(&digest, None).unwrap();
    assert_eq!(undecided(found.nodes), undecided(before.nodes.clone()));
    assert_ne!(lab.engine().lineage("out/one", None).unwrap().nodes, before.nodes);
    lab.write("out/one", "edited");
    let error = lab.engine().lineage("out/one", None).err().unwrap();
    assert_eq!(error.exit_code(), 2);
    assert!(error.help().unwrap().contains("changed since"), "{:?}", error.help());
    assert!(lab.engine().lineage("nothing", None).is_err());
    assert_eq!(lab.engine().lineage("src/side", None).unwrap().nodes.len(), 1);
}

#[test]
fn after_an_early_cutoff_lineage_names_the_action_that_is_current() {
    let lab = pipe();
    lab.pipeline(&PIPE.replace("suffix: '1'", "suffix: '1', sleep: 10"));
    assert_eq!(lab.run().executed(), ["one"]);
    let document = lab.engine().lineage("out/m.json", None).unwrap();
    let one = document.nodes.iter().find(|n| n.stage.as_deref() == Some("one")).unwrap();
    assert_eq!(one.params.as_ref().unwrap()["sleep"], 10);
}

#[test]
fn impact_is_everything_derived() {
    let lab = pipe();
    let stages = |target: &str| -> Vec<String> {
        let document = lab.engine().impact(target, None).unwrap();
        document.nodes.iter().filter_map(|n| n.stage.clone()).collect()
    };
    assert_eq!(stages("raw:lines"), ["parts", "one", "json"]);
    assert_eq!(stages("out/parts/"), ["one", "json"]);
    assert_eq!(stages("out/parts"), ["one", "json"]);
    assert_eq!(stages("src/side"), ["side"]);
    assert_eq!(stages("out/m.json"), [""; 0]);
    assert!(lab.engine().impact("nothing", None).is_err());
}

#[test]
fn a_lineage_document_is_an_input_and_speaks_of_no_run() {
    let lab = Lab::new(
        "
stages:
  a: { uses: concat, in: { in: src/a.txt }, out: { out: out/a } }
  page: { run: 'cp ${in.origin} ${out.o}', in: { origin: 'lineage:out/a' }, out: { o: out/page.json } }
",
    );
    lab.write("src/a.txt", "a");
    lab.run();
    lab.settled();
    let text = lab.read("out/page.json");
    let document: Lineage = serde_json::from_str(&text).unwrap();
    assert_eq!(arrows(&document), ["[a] > out/a", "src/a.txt > [a]"]);
    assert!(!text.contains("\"run\"") && !text.contains("\"file\""));
    // Equal bytes of another origin: the document, and so the page, is not the old one.
    lab.pipeline(
        &lab.read("pipeline.yaml")
            .replace("out: { out: out/a }", "out: { out: out/a }, with: { sleep: 10 }")
            .replace("version: 1\nname: lab\n", ""),
    );
    assert_eq!(lab.run().executed(), ["a", "page"]);
    lab.settled();
    let whole = lab.engine().lineage("out/page.json", None).unwrap();
    assert!(arrows(&whole).contains(&"out/a > lineage:out/a".to_owned()), "{:?}", arrows(&whole));
}

#[test]
fn an_effect_is_asked_and_goes_back_by_running() {
    let lab = Lab::new("stages:\n  e: { uses: export, in: { in: src/a.txt }, with: { target: TARGET } }\n");
    let target = lab.path("db/target");
    let yaml = format!(
        "stages:\n  e: {{ uses: export, in: {{ in: src/a.txt }}, with: {{ target: '{}' }} }}\n",
        target.display()
    );
    lab.pipeline(&yaml);
    lab.write("src/a.txt", "a");
    let plan = lab.plan();
    assert_eq!(plan.stages[0].reasons[0].kind.name(), "effect", "the folder is not there: unreachable");
    assert_eq!(lab.run_with(&RunOptions::default()).counts(), [0, 0, 0, 1, 0]);
    fs::create_dir_all(lab.path("db")).unwrap();
    lab.run();
    lab.settled();
    lab.write("src/a.txt", "b");
    assert_eq!(lab.run().executed(), ["e"]);
    lab.write("src/a.txt", "a");
    assert_eq!(lab.planned(), ["e: run input in: src/a.txt"]);
    assert_eq!(lab.run().executed(), ["e"], "going back runs effects");
    lab.settled();
    fs::write(&target, "somebody else").unwrap();
    assert_eq!(lab.planned(), ["e: run effect the target does not hold this key"]);
    lab.run();
    lab.settled();
}

#[test]
fn a_frozen_stage_never_runs() {
    let lab = Lab::new(PIPE);
    lab.write("elsewhere/lines", "x\ny\n");
    lab.write("src/side", "s");
    let frozen = PIPE.replace("suffix: '1' }", "suffix: '1' }, frozen: true");
    lab.pipeline(&frozen);
    let ran = lab.run_with(&RunOptions { keep_going: true, ..RunOptions::default() });
    assert_eq!(ran.counts(), [2, 0, 0, 1, 1]);
    assert!(ran.errors().contains("the lock file has no entry"), "{}", ran.errors());
    lab.pipeline(PIPE);
    lab.run();
    lab.pipeline(&frozen);
    lab.write("elsewhere/lines", "changed\ny\n");
    assert_eq!(lab.run().executed(), ["parts"]);
    assert_eq!(lab.read("out/one"), "x\n1");
    fs::remove_file(lab.path("out/one")).unwrap();
    assert_eq!(lab.run().with(Decision::Restore), ["one"]);
    lab.settled();
    fs::remove_file(lab.path("out/one")).unwrap();
    fs::remove_dir_all(lab.path("cache/objects")).unwrap();
    let ran = lab.run_with(&RunOptions::default());
    assert!(ran.errors().contains("is frozen, but `out/one` is not what the lock file says"), "{}", ran.errors());
    assert_eq!(ran.summary.exit_code(), 3);
}

#[test]
fn runs_show_and_why_tell_what_was_done() {
    let mut lab = pipe();
    lab.sets = vec!["stages.one.with.suffix=two".to_owned()];
    let lock = lab.read("pipeline.lock");
    lab.run();
    assert_eq!(lab.read("pipeline.lock"), lock, "not rewritten under --set");
    lab.sets.clear();
    let why = lab.engine().why("one").unwrap();
    assert_eq!(why.last.unwrap().decision, Decision::Run);
    assert_eq!(why.executed.unwrap().reasons[0].subject, "suffix");
    assert_eq!(why.now.decision, Decision::Restore);
    assert!(why.leaves.iter().any(|leaf| leaf.subject == "suffix" && leaf.value == "two"));
    lab.run();
    let engine = lab.engine();
    let runs = engine.runs().unwrap();
    assert_eq!(runs.iter().map(|r| r.executed).collect::<Vec<_>>(), [4, 2, 0]);
    assert_eq!(runs[1].overrides, ["stages.one.with.suffix=two"]);
    let detail = engine.show("last~1").unwrap();
    assert_eq!(detail.info, runs[1]);
    let one = detail.stages.iter().find(|s| s.stage == "one").unwrap();
    assert_eq!((one.params["suffix"].as_str(), one.decision), (Some("two"), Decision::Run));
    assert_eq!(one.inputs["in"].keys().collect::<Vec<_>>(), ["out/parts/first.txt"]);
    let to = lab.path("taken");
    engine.materialise(&one.outputs["out"].digest, false, &to).unwrap();
    assert_eq!(lab.read("taken"), "x\ntwo");
    let parts = detail.stages.iter().find(|s| s.stage == "parts").unwrap();
    engine.materialise(&parts.outputs["out"].digest, true, &lab.path("taken parts")).unwrap();
    assert_eq!(lab.read("taken parts/sub/1.txt"), "y\n");
    assert_eq!(engine.restore_run(&runs[1].run).unwrap(), ["out/one"], "only what differs is written");
    assert_eq!(lab.read("out/one"), "x\ntwo");
    assert!(matches!(engine.show("nope"), Err(EngineError::UnknownRun { .. })));
    assert!(matches!(engine.show("2"), Err(EngineError::UnknownRun { .. })), "not unique");
    assert!(engine.why("onne").err().unwrap().help().unwrap().contains("did you mean `one`"));
}

#[test]
fn a_saved_plan_is_executed_exactly_or_refused() {
    let lab = pipe();
    lab.write("src/side", "t");
    let plan = lab.engine().plan(&PlanOptions::default()).unwrap();
    lab.write("plan.json", &serde_json::to_string(&plan).unwrap());
    let options = RunOptions { plan_file: Some(lab.path("plan.json")), ..RunOptions::default() };
    lab.write("src/side", "u");
    let error = lab.try_run(&options).err().unwrap();
    assert_eq!(error.to_string(), "the saved plan no longer holds: `side` has another key");
    assert_eq!(lab.read("out/side"), "s");
    lab.write("src/side", "t");
    assert_eq!(lab.run_with(&options).executed(), ["side"]);
    lab.write("plan.json", "{}");
    assert_eq!(lab.try_run(&options).err().unwrap().exit_code(), 2);
}

#[test]
fn two_pipelines_share_a_cache_but_not_a_path() {
    let mut lab = pipe();
    lab.file = "pipelines/study.yaml".to_owned();
    lab.pipeline("stages:\n  mine: { uses: concat, in: { in: out/one }, out: { out: out/mine } }\n");
    assert_eq!(lab.run().counts(), [1, 0, 0, 0, 0]);
    assert!(lab.path("pipelines/study.lock").exists());
    let document = lab.engine().lineage("out/mine", None).unwrap();
    assert!(arrows(&document).contains(&"raw:lines > [parts]".to_owned()), "through the other pipeline");
    lab.pipeline("stages:\n  mine: { uses: concat, in: { in: src/side }, out: { out: out/one } }\n");
    let error = lab.try_run(&RunOptions::default()).err().unwrap();
    assert_eq!(error.to_string(), "`out/one` of stage `mine` is written by stage `one` of `pipeline.yaml` already");
}

#[test]
fn a_partial_run_keeps_what_was_known_of_the_rest() {
    let lab = pipe();
    let options = RunOptions { targets: vec!["side".into()], ..RunOptions::default() };
    lab.run_with(&options);
    let detail = lab.engine().show("last").unwrap();
    let decisions: Vec<(&str, Decision)> = detail.stages.iter().map(|s| (s.stage.as_str(), s.decision)).collect();
    let kept = Decision::Kept;
    assert_eq!(decisions, [("json", kept), ("one", kept), ("parts", kept), ("side", Decision::Fresh)]);
    assert_eq!(arrows(&lab.engine().lineage("out/m.json", None).unwrap()).len(), 6);
}
