//! What a target may be, past runs, keys carried by reports, bundles, and what each document says.

use std::fs;
use std::path::Path;

use logweir_engine::bundle::Bundle;
use logweir_engine::engine::RunOptions;
use logweir_engine::event::Decision;
use logweir_engine::lineage::{Details, Lineage, Node, NodeType};

use crate::support::Lab;

const PIPE: &str = "
roots: { raw: elsewhere }
stages:
  parts: { uses: spread, in: { in: raw:lines }, out: { out: out/parts/ } }
  one: { uses: concat, in: { in: out/parts/first.txt }, out: { out: out/one }, with: { suffix: '1' } }
  page:
    run: 'printf \"{\\\"n\\\": %s, \\\"provenance\\\": {\\\"key\\\": \\\"x\\\"}}\" $N > ${out.o}; cat ${in.i} >/dev/null'
    in: { i: out/one }
    out: { o: out/m.json }
    env: [N]
    secrets: [TOKEN]
    tools: ['echo tool 1']
  side: { uses: concat, in: { in: src/side }, out: { out: out/side } }
";

fn pipe() -> Lab {
    let mut lab = Lab::new(PIPE);
    lab.env.insert("N".to_owned(), "5".to_owned());
    lab.env.insert("TOKEN".to_owned(), "hush".to_owned());
    lab.write("elsewhere/lines", "x\ny\n");
    lab.write("src/side", "s");
    lab.run();
    lab
}

fn action<'d>(document: &'d Lineage, stage: &str) -> &'d Node {
    document.nodes.iter().find(|node| node.stage.as_deref() == Some(stage)).unwrap()
}

fn details<'d>(document: &'d Lineage, stage: &str) -> &'d Details {
    action(document, stage).details.as_deref().unwrap()
}

fn stages(document: &Lineage) -> Vec<&str> {
    document.nodes.iter().filter_map(|node| node.stage.as_deref()).collect()
}

fn why_not(lab: &Lab, target: &str) -> String {
    lab.engine().lineage(target, None).err().unwrap().help().unwrap()
}

/// The node a document found its target to be.
fn target(document: &Lineage) -> &Node {
    document.nodes.iter().find(|node| Some(&node.id) == document.found.as_ref()).unwrap()
}

#[test]
fn an_action_says_what_where_and_when_and_what_the_run_decided() {
    let lab = pipe();
    let first = lab.engine().runs().unwrap()[0].run.clone();
    let document = lab.engine().lineage("out/m.json", None).unwrap();
    assert_eq!(document.as_of.as_deref(), Some(first.as_str()));
    let page = details(&document, "page");
    assert!(page.command.as_deref().unwrap().starts_with("printf") && page.kind.is_none() && page.code.is_none());
    assert_eq!(page.env["N"].as_deref(), Some("5"));
    assert_eq!(page.tools["echo tool 1"].trim(), "tool 1");
    assert_eq!(page.secrets, ["TOKEN"]);
    let one = details(&document, "one");
    assert_eq!((one.kind.as_deref(), one.version, one.code.is_some()), (Some("concat"), Some(1), true));
    assert!(one.threads == 1 && !one.host.is_empty() && one.started.ends_with('Z') && one.pipeline == "pipeline.yaml");
    assert_eq!(one.decision, Some(Decision::Run));
    assert!(!serde_json::to_string(&document).unwrap().contains("hush"), "secrets are named, never told");

    // The same actions, as the next run saw them.
    lab.run();
    let document = lab.engine().lineage("out/m.json", None).unwrap();
    assert_eq!(details(&document, "one").decision, Some(Decision::Fresh));
    assert_eq!(action(&document, "one").run.as_deref(), Some(first.as_str()));
    lab.write("out/one", "lost");
    lab.run();
    let document = lab.engine().lineage("out/m.json", None).unwrap();
    assert_eq!(details(&document, "one").decision, Some(Decision::Restore));
    let then = lab.engine().lineage("out/m.json", Some(&first)).unwrap();
    assert_eq!(details(&then, "one").decision, Some(Decision::Run));
    // A document survives its text.
    let text = serde_json::to_string(&then).unwrap();
    assert_eq!(serde_json::from_str::<Lineage>(&text).unwrap(), then);
}

#[test]
fn a_target_is_a_path_digits_a_key_or_a_copy_of_an_output_or_a_source() {
    let lab = pipe();
    let engine = lab.engine();
    let whole = engine.lineage("out/one", None).unwrap();
    let (digest, key) = (target(&whole).digest.unwrap().to_string(), action(&whole, "one").key.unwrap().to_string());
    for name in [digest.as_str(), &digest[..12], &digest[..12].to_uppercase(), &key, &key[..10], "./out/one"] {
        let found = engine.lineage(name, None).unwrap();
        assert_eq!((&found.nodes, &found.edges), (&whole.nodes, &whole.edges), "{name}");
        assert_eq!(found.notes.len(), usize::from(key.starts_with(name)), "a key is no content: that is said");
    }
    assert!(why_not(&lab, "0123456789").contains("begins with these digits"));
    fs::copy(lab.path("elsewhere/lines"), lab.path("copied")).unwrap();
    let source = engine.lineage("copied", None).unwrap();
    assert_eq!((source.nodes.len(), target(&source).path.as_deref()), (1, Some("raw:lines")));
    // Of several files with the same content the one of the same name is meant.
    lab.write("out of here/first.txt", "x\n");
    let found = engine.lineage("out of here/first.txt", None).unwrap();
    assert_eq!(target(&found).path.as_deref(), Some("out/parts/first.txt"));
    assert_eq!(stages(&found), ["parts"]);
    // In a folder an action wrote, and a file of it.
    assert_eq!(stages(&engine.lineage("out/parts", None).unwrap()), ["parts"]);
    assert_eq!(stages(&engine.lineage("out/parts/sub/1.txt", None).unwrap()), ["parts"]);
    // Nearly a path.
    assert!(why_not(&lab, "out/on").ends_with("did you mean `out/one`?"), "{}", why_not(&lab, "out/on"));
    assert!(why_not(&lab, "m.json").ends_with("did you mean `out/m.json`?"));
    assert!(why_not(&lab, "nothing like it at all").contains("no such file"));
}

#[test]
fn a_past_run_answers_after_its_outputs_were_overwritten_and_after_gc() {
    let mut lab = pipe();
    let first = lab.engine().runs().unwrap()[0].run.clone();
    let before = lab.engine().lineage("out/m.json#/n", None).unwrap();
    assert_eq!((&before.value, before.notes.len()), (&5.into(), 0));
    fs::copy(lab.path("out/m.json"), lab.path("kept.json")).unwrap();
    lab.env.insert("N".to_owned(), "6".to_owned());
    lab.run();
    assert_eq!(lab.engine().lineage("out/m.json#/n", None).unwrap().value, 6);
    let then = lab.engine().lineage("out/m.json#/n", Some(&first)).unwrap();
    assert_eq!((&then.value, &then.nodes), (&before.value, &before.nodes));
    // What lies there has that run's place, not its content.
    assert_eq!(lab.engine().lineage("out/m.json#/n", Some(&first[..first.len() - 1])).unwrap().value, 5);
    let object = target(&then).digest.unwrap().to_string();
    fs::remove_file(lab.path("cache/objects").join(&object[..2]).join(&object[2..])).unwrap();
    let gone = lab.engine().lineage("out/m.json#/n", Some(&first)).unwrap();
    assert!(gone.value.is_null() && gone.notes[0].contains("no longer stored"), "{:?}", gone.notes);
    assert_eq!(gone.nodes, before.nodes, "the records are all there");
    // A copy has the value itself.
    let copy = lab.engine().lineage("kept.json#/n", None).unwrap();
    assert_eq!((&copy.value, copy.notes.len()), (&5.into(), 0));
    assert_eq!(details(&copy, "page").env["N"].as_deref(), Some("5"));
}

#[test]
fn a_report_whose_bytes_were_changed_is_known_by_its_key_and_that_is_said() {
    let lab = pipe();
    let key = action(&lab.engine().lineage("out/m.json", None).unwrap(), "page").key.unwrap();
    lab.write("mail/edited.json", &format!("{{\"n\": 7, \"provenance\": {{\"key\": \"{key}\"}}}}"));
    let found = lab.engine().lineage("mail/edited.json#/n", None).unwrap();
    assert_eq!(target(&found).path.as_deref(), Some("out/m.json"));
    assert_eq!(found.value, 5, "the recorded value, not the edited one");
    assert!(found.notes[0].contains("is not what was recorded") && found.notes[0].contains("`page`"));
    assert!(found.notes[1].contains("the file says 7"), "{:?}", found.notes);
    let unknown = logweir_engine::digest::Digest::of_bytes(b"of another project");
    lab.write("mail/foreign.html", &format!("<meta name=\"logweir-key\" content=\"{unknown}\">"));
    assert!(why_not(&lab, "mail/foreign.html").contains("no recorded action"));
}

#[test]
fn the_tables_are_derived_and_what_they_say_is_what_the_log_says() {
    let lab = pipe();
    for n in 0..30 {
        lab.write("src/side", &format!("s{n}"));
        lab.run();
    }
    let ask = |target: &str| lab.engine().lineage(target, None).unwrap();
    let targets = ["out/side", "out/m.json", "raw:lines", "out/parts/sub/1.txt"];
    let with = targets.map(ask);
    let file = lab.path("cache/origins");
    let old = lab.engine().lineage("out/side", Some("last~20")).unwrap();
    let old_digest = target(&old).digest.unwrap().to_string();
    assert_eq!(stages(&ask(&old_digest)), ["side"]);
    if file.exists() {
        fs::write(&file, "nonsense").unwrap();
        assert_eq!(targets.map(ask), with);
        fs::remove_file(&file).unwrap();
    }
    assert_eq!(targets.map(ask), with);
    assert_eq!(lab.engine().lineage("out/side", Some("last~20")).unwrap(), old);
}

#[test]
fn impact_takes_what_lineage_takes_and_any_run() {
    let lab = pipe();
    let first = lab.engine().runs().unwrap()[0].run.clone();
    let engine = lab.engine();
    let old = target(&engine.lineage("out/one", None).unwrap()).digest.unwrap().to_string();
    fs::copy(lab.path("elsewhere/lines"), lab.path("copy of lines")).unwrap();
    for name in ["raw:lines", "copy of lines"] {
        assert_eq!(stages(&engine.impact(name, None).unwrap()), ["parts", "one", "page"], "{name}");
    }
    assert_eq!(stages(&engine.impact(&old, None).unwrap()), ["page"]);
    lab.pipeline(
        &PIPE.replace("  side:", "  more: { uses: concat, in: { in: out/one }, out: { out: out/more } }\n  side:"),
    );
    lab.write("elsewhere/lines", "changed\n");
    lab.run();
    let engine = lab.engine();
    assert_eq!(stages(&engine.impact("out/one", None).unwrap()), ["more", "page"]);
    assert_eq!(stages(&engine.impact("out/one", Some(&first)).unwrap()), ["page"]);
    let past = engine.impact(&old, None).unwrap();
    assert_eq!(stages(&past), ["page"], "what was derived from that content");
    assert!(past.notes[0].contains(&first), "{:?}", past.notes);
    assert!(engine.impact("out/more", Some(&first)).is_err());
}

#[test]
fn a_bundle_answers_as_the_project_does() {
    let lab = pipe();
    lab.run();
    let engine = lab.engine();
    let elsewhere = tempfile::tempdir().unwrap();
    let here = elsewhere.path();
    fs::create_dir(here.join("crate")).unwrap();
    let text = serde_json::to_string(&engine.bundle("last").unwrap()).unwrap();
    fs::write(here.join("crate/lineage.json"), &text).unwrap();
    fs::write(here.join("own.json"), "{\"n\": 1}").unwrap();
    assert!(Bundle::at(&here.join("crate")) && Bundle::at(&here.join("crate/lineage.json")));
    assert!(!Bundle::at(&here.join("own.json")) && !Bundle::at(&here.join("none")));
    assert!(Bundle::read(&here.join("own.json")).is_err());
    let bundle = Bundle::read(&here.join("crate")).unwrap();
    for name in ["out/m.json", "out/one", "out/parts/", "out/parts/first.txt", "out/parts/sub/1.txt", "raw:lines"] {
        let there = bundle.lineage(name, here).unwrap();
        assert_eq!(there, engine.lineage(name, None).unwrap(), "{name}");
        let digest = target(&there).digest.unwrap().to_string();
        assert_eq!(bundle.lineage(&digest, here).unwrap(), engine.lineage(&digest, None).unwrap(), "{name} by digest");
    }
    // Also a folder, what is in one, and what nothing was made of: the project looks them up, the bundle goes through all.
    for name in
        ["raw:lines", "out/one", "src/side", "out/parts/", "out/parts/first.txt", "out/parts/sub/1.txt", "out/m.json"]
    {
        assert_eq!(
            bundle.impact(name, here).unwrap(),
            Lineage { as_of: Some(lab.engine().runs().unwrap()[1].run.clone()), ..engine.impact(name, None).unwrap() }
        );
    }
    // The value is the file's: as recorded by content, or said to be another.
    fs::copy(lab.path("out/m.json"), here.join("mailed.json")).unwrap();
    let mailed = bundle.lineage("mailed.json#/n", here).unwrap();
    assert_eq!((&mailed.value, mailed.notes.len()), (&5.into(), 0));
    let without = bundle.lineage("out/m.json#/n", here).unwrap();
    assert!(without.value.is_null() && !without.notes.is_empty());
    assert!(bundle.lineage("own.json", here).is_err());
    assert!(bundle.lineage("out/nothing", Path::new("/nowhere")).is_err());
}

#[test]
fn items_of_a_map_a_second_pipeline_and_lineage_inputs_are_seen_through_in_project_and_bundle() {
    let mut lab = Lab::new(
        "
stages:
  up: { run: 'cat ${in.f} > ${out.o}; echo up >> ${out.o}', in: { f: 'src/*.txt' }, out: { o: out/up/ }, map: f }
  all: { uses: concat, in: { in: 'out/up/*' }, out: { out: out/all } }
  note: { run: 'cp ${in.o} ${out.o}', in: { o: 'lineage:out/all' }, out: { o: out/note } }
",
    );
    lab.write("src/a.txt", "a\n");
    lab.write("src/b.txt", "b\n");
    lab.run();
    lab.file = "second.yaml".to_owned();
    lab.pipeline("\nstages:\n  other: { uses: concat, in: { in: out/note }, out: { out: out/other } }\n");
    lab.run();
    let (second, bundle) = (lab.engine(), lab.engine().bundle("last").unwrap());
    let nowhere = tempfile::tempdir().unwrap();
    for document in [second.lineage("out/other", None).unwrap(), bundle.lineage("out/other", nowhere.path()).unwrap()] {
        let found = stages(&document);
        for stage in ["other", "note"] {
            assert!(found.contains(&stage), "{stage} in {found:?}");
        }
        assert_eq!(details(&document, "other").pipeline, "second.yaml");
        assert_eq!(details(&document, "other").decision, Some(Decision::Run));
        assert_eq!(details(&document, "note").decision, None, "of another pipeline");
    }
    lab.file = "pipeline.yaml".to_owned();
    let first = lab.engine();
    let document = first.lineage("out/note", None).unwrap();
    assert_eq!(stages(&document), ["up[a.txt]", "up[b.txt]", "all", "note"]);
    assert_eq!(stages(&first.lineage("out/up", None).unwrap()), ["up[a.txt]", "up[b.txt]", "up"], "and the map itself");
    let sources: Vec<&str> = document
        .nodes
        .iter()
        .filter(|node| node.kind == NodeType::Artifact && !document.edges.iter().any(|(_, to)| *to == node.id))
        .filter_map(|node| node.path.as_deref())
        .collect();
    assert_eq!(sources, ["src/a.txt", "src/b.txt"]);
    assert_eq!(stages(&first.lineage("out/up/b.txt", None).unwrap()), ["up[b.txt]"]);
    assert_eq!(first.bundle("last~1").unwrap().lineage("out/note", nowhere.path()).unwrap(), document);
    // The canonical document, which is in a key, knows nothing of times, places and decisions.
    let canonical = lab.read("out/note");
    for word in ["started", "host", "decision", "found", "as_of", "notes", "\"run\""] {
        assert!(!canonical.contains(word), "{word}");
    }
}

#[test]
fn what_was_touched_without_declaring_it_is_in_the_document() {
    let lab = Lab::new(
        "
sandbox: warn
stages:
  sneaky: { run: 'cat src/hidden > ${out.o}', in: { i: src/open }, out: { o: out/o } }
",
    );
    lab.write("src/hidden", "h");
    lab.write("src/open", "o");
    lab.run_with(&RunOptions::default());
    let document = lab.engine().lineage("out/o", None).unwrap();
    let details = details(&document, "sneaky");
    if details.warnings > 0 {
        assert!(details.undeclared.read.contains("src/hidden"), "{:?}", details.undeclared);
        assert!(serde_json::to_value(&document).unwrap()["nodes"][1]["undeclared"]["read"][0] == "src/hidden");
    } else {
        assert!(details.undeclared.is_empty(), "where nothing watches nothing is claimed");
    }
}

#[test]
fn a_picture_marks_the_target_and_tells_sources_from_what_was_made() {
    let lab = pipe();
    let picture = lab.engine().lineage("out/m.json#/n", None).unwrap().picture();
    let class = |label: &str| {
        let node = picture.nodes.iter().find(|node| node.label.starts_with(label)).unwrap();
        (node.class.as_str(), node.label.as_str())
    };
    assert_eq!(class("raw:lines").0, "source");
    assert_eq!(class("out/one").0, "artifact");
    assert_eq!(class("one"), ("stage", "one\nconcat"));
    assert!(class("out/m.json").0 == "target" && class("out/m.json").1.ends_with("/n = 5"));
    assert!(picture.svg().contains("class=\"target\"") && picture.mermaid().contains("classDef target"));
}
