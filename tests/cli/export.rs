//! A run in the words of standards.

use serde_json::Value;

use crate::support::{Project, TOY};

#[test]
fn every_format_is_the_same_bytes_each_time_and_holds_the_bundle() {
    let project = Project::toy();
    project.run(&[]).ok();
    project.run(&["--set", "vars.n=5"]).ok();
    let write = |format: &str, out: &str| {
        let arguments = ["export-lineage", "--format", format, "--out", out, "--run", "last~1"];
        project.logweir(&arguments).ok();
    };
    write("bundle", "bundle.json");
    let bundle: Value = serde_json::from_str(&project.read("bundle.json")).unwrap();
    assert_eq!(bundle["executed"], Value::Null);
    assert_eq!(bundle["run"]["executed"], 3);
    assert_eq!(bundle["actions"].as_array().unwrap().len(), 3);

    write("openlineage", "events.jsonl");
    let events = project.read("events.jsonl");
    let last: Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
    assert_eq!((events.lines().count(), &last["eventType"]), (8, &Value::from("COMPLETE")));
    let inside = last["run"]["facets"]["logweir_bundle"]["document"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(inside).unwrap(), bundle);

    write("prov", "prov.json");
    let prov: Value = serde_json::from_str(&project.read("prov.json")).unwrap();
    let inside = prov["entity"]["logweir:bundle"]["logweir:document"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(inside).unwrap(), bundle);

    write("ro-crate", "crate");
    let inside: Value = serde_json::from_str(&project.read("crate/lineage.json")).unwrap();
    assert_eq!(inside, bundle);

    for (format, first, again) in [
        ("openlineage", "events.jsonl", "again.jsonl"),
        ("prov", "prov.json", "again.json"),
        ("ro-crate", "crate/ro-crate-metadata.json", "crate2"),
    ] {
        write(format, again);
        let again = if format == "ro-crate" { "crate2/ro-crate-metadata.json" } else { again };
        assert!(project.read(first) == project.read(again), "{format}");
    }
}

#[test]
fn a_failed_run_ends_in_fail_and_secrets_stay_out() {
    let project = Project::new(
        &TOY.replace("head -n ${with.n}", "echo $TOKEN >&2; false")
            .replace("    in: { copy: out/copy.txt }", "    in: { copy: out/copy.txt }\n    secrets: [TOKEN]"),
    );
    project.write("src/text.txt", "1\n");
    let mut run = project.command(&["run", "--json"]);
    let status = run.env("TOKEN", "hunter2hunter2").output().unwrap().status;
    assert_eq!(status.code(), Some(1));
    for (format, out) in [("openlineage", "e.jsonl"), ("prov", "p.json"), ("bundle", "b.json")] {
        project.logweir(&["export-lineage", "--format", format, "--out", out]).ok();
        assert!(!project.read(out).contains("hunter2"), "{format}");
    }
    let ends: Vec<String> = project
        .read("e.jsonl")
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["eventType"] != "START")
        .map(|event| format!("{} {}", event["job"]["name"], event["eventType"]))
        .collect();
    let wanted = ["copy\" \"COMPLETE", "count\" \"ABORT", "head\" \"FAIL"].map(|end| format!("\"pipeline.{end}\""));
    assert_eq!(ends.len(), 4, "{ends:?}");
    assert!(wanted.iter().all(|end| ends[..3].contains(end)), "{ends:?}");
    assert_eq!(ends[3], "\"pipeline\" \"FAIL\"");
    let told = project.read("e.jsonl");
    assert!(told.contains("errorMessage") && told.contains("exit status 1"), "{told}");
}

#[test]
fn what_cannot_be_written_is_said() {
    let project = Project::toy();
    project.logweir(&["export-lineage", "--format", "prov", "--out", "p.json"]).exits(2);
    project.run(&[]).ok();
    let said = project.logweir(&["export-lineage", "--format", "prov", "--out", "no/such/p.json"]).exits(3);
    assert!(said.err.contains("cannot write"), "{}", said.err);
    project.logweir(&["export-lineage", "--format", "csv", "--out", "p"]).exits(2);
}
