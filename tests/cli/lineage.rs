//! Where a number comes from: the tree, the formats, and the answer where the project is not.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Project, Said, said};

/// Runs the program in a folder that is no project.
fn outside(project: &Project, folder: &Path, arguments: &[&str]) -> Said {
    said(&project.command(arguments).current_dir(folder).output().unwrap())
}

/// The last run with everything about it, as an exported bundle; made from the records by way of the engine.
fn export(project: &Project, to: &Path) {
    let found = logweir_engine::engine::Project::find(project.root(), None, None).expect("a project");
    let bundle = found.bundle("last").expect("a bundle");
    fs::write(to, serde_json::to_string(&bundle).unwrap()).unwrap();
}

#[test]
fn the_tree_tells_of_every_action_and_shows_shared_parts_once() {
    let project = Project::toy();
    project.run(&[]).ok();
    project.run(&[]).ok();
    let text = project.logweir(&["lineage", "out/count.json#/lines"]).ok().out;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "out/count.json#/lines = 3");
    assert!(lines[1].starts_with("out/count.json  ") && lines[2].starts_with("← count key "), "{text}");
    assert!(lines[2].contains(" executed in run ") && lines[2].contains(", fresh in "), "{text}");
    assert!(
        lines[3].starts_with("  $ printf") && lines[4].contains(" thread") && lines[4].contains("logweir "),
        "{text}"
    );
    assert!(text.contains("{\"n\":3}") && text.contains("4 artifacts and 3 actions come from"), "{text}");
    let whole = project.logweir(&["lineage", "-v", "out/count.json"]).ok().out;
    let key = whole.split_once("key ").unwrap().1.split_whitespace().next().unwrap();
    assert_eq!(key.len(), 64);
    // The key and its first digits are targets too, and so is an action's output by its digest.
    assert!(project.logweir(&["lineage", &key[..12]]).ok().out.contains("note: this is the key of stage `count`"));
    let down = project.logweir(&["impact", "src/text.txt"]).ok().out;
    assert!(down.contains("→ copy") && down.contains("4 artifacts and 3 actions lead to"), "{down}");
    let missing = project.logweir(&["lineage", "out/cuont.json"]).exits(2);
    assert!(missing.err.contains("did you mean `out/count.json`?"), "{}", missing.err);
}

#[test]
fn lineage_is_drawn_and_the_pipeline_file_need_not_be_right() {
    let project = Project::toy();
    project.run(&[]).ok();
    project.write("pipeline.yaml", "no pipeline: [");
    let svg = project.logweir(&["lineage", "out/head.txt", "--format", "svg"]).ok().out;
    assert!(svg.starts_with("<svg") && svg.matches("class=\"target\"").count() == 1, "{svg}");
    let mermaid = project.logweir(&["impact", "src/text.txt", "--format", "mermaid"]).ok().out;
    assert!(mermaid.starts_with("flowchart") && mermaid.contains("classDef target"), "{mermaid}");
    assert!(project.logweir(&["lineage", "out/head.txt", "--format", "dot"]).ok().out.starts_with("digraph"));
    let json = project.logweir(&["lineage", "out/head.txt", "--format", "json"]).ok().json();
    let actions: Vec<&Value> = json["nodes"].as_array().unwrap().iter().filter(|n| n["type"] == "action").collect();
    for field in ["command", "started", "seconds", "threads", "host", "platform", "program", "warnings", "pipeline"] {
        assert!(actions.iter().all(|action| !action[field].is_null()), "{field}: {json}");
    }
    assert!(actions.iter().all(|action| action["decision"] == "run"));
}

#[test]
fn a_mailed_report_is_audited_with_nothing_but_the_exported_lineage() {
    let project = Project::toy();
    project.run(&[]).ok();
    project.run(&[]).ok();
    let away = tempfile::tempdir().unwrap();
    let here = away.path();
    fs::copy(project.path("out/count.json"), here.join("mailed.json")).unwrap();
    let alone = outside(&project, here, &["lineage", "mailed.json"]).exits(2);
    assert!(alone.err.contains("--bundle"), "{}", alone.err);

    fs::create_dir(here.join("crate")).unwrap();
    export(&project, &here.join("crate/lineage.json"));
    let there = project.logweir(&["lineage", "out/count.json#/lines", "--json"]).ok().json();
    for arguments in [
        &["lineage", "mailed.json#/lines", "--json"][..],
        &["lineage", "mailed.json#/lines", "--json", "--bundle", "crate"],
        &["lineage", "mailed.json#/lines", "--json", "--bundle", "crate/lineage.json"],
    ] {
        let away = outside(&project, here, arguments).ok().json();
        for part in ["nodes", "edges", "value", "found", "as_of"] {
            assert_eq!(away[part], there[part], "{part} of {arguments:?}");
        }
    }
    let down = outside(&project, here, &["impact", "src/text.txt", "--json"]).ok().json();
    assert_eq!(down["nodes"].as_array().unwrap().len(), 7);
    fs::write(here.join("other.json"), "{}").unwrap();
    outside(&project, here, &["lineage", "other.json"]).exits(2);
    outside(&project, here, &["lineage", "mailed.json", "--bundle", "other.json"]).exits(3);
    outside(&project, here, &["lineage", "mailed.json", "--bundle", "crate", "--run", "last"]).exits(2);
}
