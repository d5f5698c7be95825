#!/usr/bin/env bash
# Exports the lineage of several kinds of runs in every standard format and has outside validators judge each document:
# OpenLineage events against the specification and every facet against its own schema, PROV-JSON by the `prov` package with
# warnings as errors, RO-Crates by `rocrate-validator`. A broken copy of each must be refused, so that the check is known
# to bite. The validators come from PyPI; the OpenLineage schemas and the RO-Crate context, which no package ships, from
# LOGWEIR_SHARED/validate (../shared/validate by default). What cannot be checked without them is said.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh

python=.tools/validate/bin/python
if ! "$python" -c 'import jsonschema, prov, rocrate, rocrate_validator, openlineage.client' 2>/dev/null; then
  say "fetching the validators into .tools/validate"
  if ! { python3 -m venv .tools/validate &&
    .tools/validate/bin/pip install --quiet --disable-pip-version-check \
      'jsonschema[format]' 'prov==3.2.3' rocrate 'roc-validator==0.13.0' openlineage-python; } >&2; then
    say "no validators: PyPI cannot be reached or Python has no venv; lineage documents were NOT validated"
    exit 0
  fi
fi
python=$(realpath -s "$python")
logweir=$(realpath "$logweir")
validate="${LOGWEIR_SHARED:-../shared}/validate"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -d "$validate" ]; then
  cp -rL "$validate" "$work/validate"
  validate="$work/validate"
else
  say "no $validate: OpenLineage is checked by openlineage-python alone, RO-Crates only for their structure"
  validate=
fi

project="$work/project"
mkdir -p "$project/reports"
cp pipeline.yaml "$project/"
cat >"$project/fails.yaml" <<'YAML'
version: 1
name: fails
stages:
  good: { run: "echo 1 > ${out.n}", out: { n: data/n.txt } }
  bad: { run: "cat ${in.n}; echo no such luck >&2; exit 3", in: { n: data/n.txt }, out: { m: data/m.txt } }
  after: { run: "cp ${in.m} ${out.o}", in: { m: data/m.txt }, out: { o: data/o.txt } }
YAML
run() { "$logweir" -C "$project" --quiet "$@" >/dev/null; }
run --profile demo run                                                     # everything executed
run --profile demo run                                                     # nothing to do
run --profile demo run --set stages.evaluate.with.threshold.beta=2         # a parameter edit
run --profile demo run                                                     # and back: restored
if run -f fails.yaml run 2>/dev/null; then say "the failing pipeline did not fail"; exit 1; fi

failed=0
judge() { # WHAT COMMAND…
  local what=$1 out
  shift
  if out=$("$@" 2>&1); then say "  valid    $what: $(tail -n 1 <<<"$out" | cut -c1-120)"; else
    say "  INVALID  $what"; printf '%s\n' "$out" | head -n 40 >&2; failed=1
  fi
}
refuse() { # WHAT COMMAND…
  local what=$1
  shift
  if "$@" >/dev/null 2>&1; then say "  NOT REFUSED  $what"; failed=1; else say "  refused  $what"; fi
}
prov() { "$python" -W error "$work/check_prov.py" "$1"; }
cat >"$work/check_prov.py" <<'PY'
"""Parses PROV-JSON strictly, takes it through PROV-N's model and back, and follows every reference."""
import sys
import prov.model as model

document = model.ProvDocument.deserialize(sys.argv[1], format="json")
document.unified()
again = model.ProvDocument.deserialize(content=document.serialize(format="json"), format="json")
assert document == again, "does not survive a round trip"
known = {record.identifier for record in document.get_records(model.ProvElement)}
dangling = [
    (record, value)
    for record in document.get_records(model.ProvRelation)
    for _, value in record.formal_attributes
    if hasattr(value, "uri") and value not in known
]
assert not dangling, f"dangling references: {dangling[:3]}"
print(f"{len(document.get_records())} records, no dangling reference")
PY
cat >"$work/check_events.py" <<'PY'
"""Reads every event with the client's own classes, which refuse a bad run id, time or state."""
import json, sys
from datetime import datetime
import jsonschema
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState

events = [json.loads(line) for line in open(sys.argv[1])]
for e in events:
    datetime.fromisoformat(e["eventTime"])
    RunEvent(
        eventType=RunState[e["eventType"]], eventTime=e["eventTime"], producer=e["producer"],
        run=Run(runId=e["run"]["runId"]), job=Job(namespace=e["job"]["namespace"], name=e["job"]["name"]),
        inputs=[InputDataset(d["namespace"], d["name"]) for d in e.get("inputs", [])],
        outputs=[OutputDataset(d["namespace"], d["name"]) for d in e.get("outputs", [])],
    )
    for name, facet in e["run"]["facets"].items():
        if name.startswith("logweir_"):
            schema = json.load(open("docs/openlineage-facets.schema.json"))
            definition = schema["$defs"][facet["_schemaURL"].rsplit("/", 1)[1]]
            jsonschema.Draft202012Validator(definition).validate(facet)
print(f"{len(events)} events read by openlineage-python, own facets as their schemas say")
PY
openlineage() {
  "$python" "$work/check_events.py" "$1" || return 1
  [ -z "$validate" ] || "$python" "$validate/validate_openlineage.py" "$validate/openlineage_spec" "$1"
}
crate() { # FOLDER SEVERITY
  [ -n "$validate" ] || { "$python" -c 'import sys, rocrate.rocrate as r; r.ROCrate(sys.argv[1])' "$1"; return; }
  "$python" "$validate/validate_rocrate.py" "$1" process-run-crate "$2"
}
recommended() {
  local issues
  issues=$(crate "$1" RECOMMENDED | grep -E '^(REQUIRED|RECOMMENDED)' || true)
  [ -z "$issues" ] || { printf '%s\n' "$issues"; return 1; }
  echo "no recommendation missed"
}

number=0
for id in $("$logweir" -C "$project" runs --json | "$python" -c 'import json, sys; print(*[r["run"] for r in reversed(json.load(sys.stdin)["runs"])])'); do
  number=$((number + 1))
  say "run $number ($id)"
  out="$work/run$number"
  mkdir "$out"
  "$logweir" -C "$project" -q export-lineage --format openlineage --out "$out/events.jsonl" --run "$id"
  "$logweir" -C "$project" -q export-lineage --format prov --out "$out/prov.json" --run "$id"
  "$logweir" -C "$project" -q export-lineage --format ro-crate --out "$out/crate" --run "$id"
  judge "OpenLineage" openlineage "$out/events.jsonl"
  judge "PROV-JSON" prov "$out/prov.json"
  judge "Process Run Crate, REQUIRED" crate "$out/crate" REQUIRED
  judge "Process Run Crate, RECOMMENDED" recommended "$out/crate"
done

say "broken copies"
broken="$work/broken"
mkdir "$broken"
"$python" - "$work/run1" "$broken" <<'PY'
import json, pathlib, shutil, sys

source, target = map(pathlib.Path, sys.argv[1:])
events = [json.loads(line) for line in (source / "events.jsonl").read_text().splitlines()]
write = lambda name, events: (target / name).write_text("".join(json.dumps(e) + "\n" for e in events))
events[0]["run"]["runId"] = "not-a-uuid"
write("id.jsonl", events)
events = [json.loads(line) for line in (source / "events.jsonl").read_text().splitlines()]
write("state.jsonl", [e for e in events if e["eventType"] != "START"])
for e in events:
    for d in e.get("outputs", []):
        if "version" in d.get("facets", {}): del d["facets"]["version"]["datasetVersion"]
write("facet.jsonl", events)
prov = json.loads((source / "prov.json").read_text())
prov["entity"].pop(next(iter(prov["wasGeneratedBy"].values()))["prov:entity"])
(target / "prov.json").write_text(json.dumps(prov))
shutil.copytree(source / "crate", target / "crate")
meta = target / "crate/ro-crate-metadata.json"
crate = json.loads(meta.read_text())
crate["@graph"] = [e for e in crate["@graph"] if e["@id"] != "ro-crate-metadata.json"]
meta.write_text(json.dumps(crate))
PY
refuse "OpenLineage, a run id that is none" openlineage "$broken/id.jsonl"
if [ -n "$validate" ]; then
  refuse "OpenLineage, runs without a start" openlineage "$broken/state.jsonl"
  refuse "OpenLineage, a facet without its required member" openlineage "$broken/facet.jsonl"
fi
refuse "PROV-JSON, an entity is missing" prov "$broken/prov.json"
refuse "RO-Crate without its descriptor" crate "$broken/crate" REQUIRED
exit "$failed"
