#!/usr/bin/env bash
# Times lineage questions and exports and prints a Markdown table: question, stages, runs, milliseconds (median; exports
# and the first question are asked once).
# Two projects: wide (every stage has its own source: small lineages) and chain (the last stage comes from all others).
# Usage: bench-lineage.sh [STAGES] [RUNS]     LOGWEIR=BINARY  REPS=n  SHAPES="wide chain"
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh

stages=${1:-10000} runs=${2:-1000}
logweir=$(realpath "${LOGWEIR:-$logweir}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

exec python3 - "$logweir" "$work" "$stages" "$runs" "${REPS:-11}" ${SHAPES:-wide chain} <<'PY'
import json, pathlib, shutil, statistics, subprocess, sys, time

logweir, work, stages, runs, reps, *shapes = sys.argv[1:]
stages, runs, reps = int(stages), int(runs), int(reps)

def call(folder, *words):
    return subprocess.run([logweir, *words], cwd=folder, check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL).stdout

def timed(folder, *words):
    took = []
    for _ in range(reps):
        started = time.perf_counter()
        call(folder, *words)
        took.append(time.perf_counter() - started)
    return statistics.median(took) * 1000

print("| shape | question | stages | runs | ms |\n|---|---|---|---|---|", flush=True)
for shape in shapes:
    folder = pathlib.Path(work) / shape
    (folder / "src").mkdir(parents=True)
    lines = ["version: 1", f"name: {shape}", "stages:"]
    for n in range(stages):
        source = f"src/{n}.txt" if shape == "wide" or n == 0 else f"out/{n - 1}.txt"
        if source.startswith("src"):
            (folder / source).write_text(f"source {n}\n")
        lines += [f"  s{n}:", '    run: "cp ${in.i} ${out.o}"', f"    in: {{ i: {source} }}", f"    out: {{ o: out/{n}.txt }}"]
    # One report with a number in it, of a source of its own.
    lines += ["  report:", "    run: \"printf '{%sa%s: {%sb%s: %d}}' '\\\"' '\\\"' '\\\"' '\\\"' $(cat ${in.i}) > ${out.o}\"",
              "    in: { i: src/number.txt }", "    out: { o: out/report.json }"]
    (folder / "src/number.txt").write_text("0\n")
    (folder / "pipeline.yaml").write_text("\n".join(lines) + "\n")
    call(folder, "run", "-q")
    shutil.copy(folder / "out/report.json", folder / "old copy.json")
    first = json.loads(call(folder, "runs", "--json"))["runs"][0]["run"]
    for n in range(1, runs):
        if n % 20 == 0:  # some runs change something
            (folder / "src/number.txt").write_text(f"{n}\n")
        call(folder, "run", "-q")
    shutil.copy(folder / "out/report.json", folder / "copy.json")
    digest = json.loads(call(folder, "lineage", "out/report.json", "--json"))["nodes"][-1]["digest"]
    last = stages - 1
    questions = [
        ("path", ["lineage", "out/report.json"]),
        ("pointer", ["lineage", "out/report.json#/a/b"]),
        ("digest", ["lineage", digest]),
        ("copy", ["lineage", "copy.json"]),
        ("copy of the first run's", ["lineage", "old copy.json"]),
        ("path as of the first run", ["lineage", "out/report.json", "--run", first]),
        ("impact of a source", ["impact", "src/number.txt"]),
        ("no-op run", ["run", "-q"]),
    ]
    if shape == "chain":
        questions += [("path, from all stages, text", ["lineage", f"out/{last}.txt"]),
                      ("path, from all stages, JSON", ["lineage", f"out/{last}.txt", "--json"])]
    (folder / "cache/origins").unlink(missing_ok=True)
    started = time.perf_counter()
    call(folder, *questions[0][1])
    rows = [("first question, no cache/origins", (time.perf_counter() - started) * 1000)]
    rows += [(name, timed(folder, *words)) for name, words in questions]
    for format in ["bundle", "openlineage", "prov", "ro-crate"]:
        started = time.perf_counter()
        call(folder, "export-lineage", "-q", "--format", format, "--out", f"run.{format}")
        rows.append((f"export, {format}", (time.perf_counter() - started) * 1000))
    for name, took in rows:
        print(f"| {shape} | {name} | {stages + 1:,} | {runs:,} | {took:.0f} |", flush=True)
    shutil.rmtree(folder)
PY
