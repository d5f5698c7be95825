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
fn facets_of_its_own_follow_their_schema() {
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openlineage-facets.schema.json");
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(schema).unwrap()).unwrap();
    assert!(jsonschema::meta::is_valid(&schema));
    let project = Project::toy();
    project.run(&[]).ok();
    project.run(&["--set", "vars.n=5"]).ok();
    project.logweir(&["export-lineage", "--format", "openlineage", "--out", "events.jsonl"]).ok();
    let mut met = std::collections::BTreeSet::new();
    for line in project.read("events.jsonl").lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        for (name, facet) in event["run"]["facets"].as_object().unwrap() {
            if !name.starts_with("logweir_") {
                continue;
            }
            let (document, definition) = facet["_schemaURL"].as_str().unwrap().split_once('#').unwrap();
            assert_eq!(document, schema["$id"]);
            let of = schema.pointer(definition).unwrap();
            let errors: Vec<String> =
                jsonschema::validator_for(of).unwrap().iter_errors(facet).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{name}: {errors:?}");
            met.insert(name.clone());
        }
    }
    assert_eq!(met.into_iter().collect::<Vec<_>>(), ["logweir_action", "logweir_bundle", "logweir_run"]);
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
