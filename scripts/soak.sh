#!/usr/bin/env bash
# Kills a real `logweir run` with SIGKILL at random instants, N times, on a generated pipeline of shell stages with random
# edits in between. After each kill the next run must complete and leave what a clean run leaves; now and then, and at the
# end, a further run must execute nothing and `verify` must find nothing.
# Usage: soak.sh [N] [BINARY]    (default: 1000 kills of the release binary; SEED=n repeats a soak's choices)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh

kills=${1:-1000}
binary=$(realpath "${2:-$logweir}")
[ -x "$binary" ] || { say "there is no binary at $binary: make build"; exit 3; }
folder=$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")
work=$(mktemp -d "$folder/logweir-soak.XXXXXX")
trap 'rm -rf "$work"' EXIT

python3 - "$kills" "$binary" "$work" "${SEED:-}" <<'PY'
import json, os, pathlib, random, shutil, signal, subprocess, sys, time

wanted, binary, root = int(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
seed = int(sys.argv[4]) if sys.argv[4] else random.SystemRandom().randrange(1 << 32)
print(f"seed {seed}: {wanted} kills of {binary}", flush=True)
dice = random.Random(seed)
has_gc = subprocess.run([binary, "gc", "--help"], capture_output=True).returncode == 0

SOURCES, STAGES = 4, 10
sources = [0] * SOURCES
stages = []
for i in range(STAGES):
    reads = sorted(dice.sample(range(i), min(i, dice.randrange(3))))
    kind = dice.choice(["file", "file", "file", "own", "folder"])
    stages.append({"reads": reads, "source": dice.randrange(SOURCES), "kind": kind, "suffix": 0})

def output(i):
    return f"out/{i}/" if stages[i]["kind"] == "folder" else f"out/{i}"

def pipeline():
    lines = ["version: 1", "name: soak", "stages:"]
    for i, stage in enumerate(stages):
        parts = [f"'{output(r)}**/*.txt'" if stages[r]["kind"] == "folder" else output(r) for r in stage["reads"]]
        inputs = ", ".join([f"src/{stage['source']}", *parts])
        text = f"cat ${{in.i}}; sleep 0.00{i % 5}; echo {i}-{stage['suffix']}"
        run = {
            "file": f"({text}) > ${{out.o}}",
            "own": f"({text}) > {output(i)}",
            "folder": f"({text}) > ${{out.o}}/a.txt; mkdir ${{out.o}}/sub; echo {stage['suffix']} > ${{out.o}}/sub/b.txt",
        }[stage["kind"]]
        lines.append(f"  s{i}: {{ run: '{run}', in: {{ i: [{inputs}] }}, out: {{ o: {output(i)} }} }}")
    return "\n".join(lines) + "\n"

def source_text(s):
    return f"source {s} is {sources[s]}\n" * 50

def expected():
    files = {}
    for i, stage in enumerate(stages):
        # The files of a slot in the order of their paths.
        parts = {f"src/{stage['source']}": source_text(stage["source"])}
        for r in stage["reads"]:
            parts.update({path: text for path, text in files.items() if path == output(r) or (output(r).endswith("/") and path.startswith(output(r)))})
        text = "".join(parts[path] for path in sorted(parts)) + f"{i}-{stage['suffix']}\n"
        if stage["kind"] == "folder":
            files[f"out/{i}/a.txt"] = text
            files[f"out/{i}/sub/b.txt"] = f"{stage['suffix']}\n"
        else:
            files[output(i)] = text
    return files

def found():
    return {str(p.relative_to(root)): p.read_text() for p in (root / "out").rglob("*") if p.is_file()}

def write():
    (root / "src").mkdir(exist_ok=True)
    for path, text in [("pipeline.yaml", pipeline()), *((f"src/{s}", source_text(s)) for s in range(SOURCES))]:
        file = root / path
        if not file.exists() or file.read_text() != text:
            file.write_text(text)

def edit():
    what = dice.choice(["source", "source", "suffix", "suffix", "delete", "tamper", "touch", "objects", "index"])
    i = dice.randrange(STAGES)
    place = root / output(i)
    if what == "source":
        sources[dice.randrange(SOURCES)] = dice.randrange(1000)
    elif what == "suffix":
        stages[i]["suffix"] = dice.randrange(3)
    elif what == "delete":
        shutil.rmtree(place, ignore_errors=True) if place.is_dir() else place.unlink(missing_ok=True)
    elif what == "tamper":
        target = place / "a.txt" if place.is_dir() else place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("tampered\n")
    elif what == "touch":
        (root / f"src/{i % SOURCES}").touch()
    elif what == "objects" and dice.random() < 0.1:
        shutil.rmtree(root / "cache/objects", ignore_errors=True)
        lost.append(True)
    elif what == "index":
        (root / "cache/index").unlink(missing_ok=True)
    write()

def logweir(*arguments):
    return [binary, "-C", str(root), *arguments]

lost = []

def complete(context):
    done = subprocess.run(logweir("run", "-j", "2", "--json"), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{context}: the next run ended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    now, then = found(), expected()
    if now != then:
        wrong = sorted(path for path in now.keys() | then.keys() if now.get(path) != then.get(path))
        sys.exit(f"{context}: not what a clean run leaves: {wrong}")
    return json.loads(done.stdout.splitlines()[-1])

def settled(context):
    again = complete(context)
    if again["executed"] or again["restored"]:
        sys.exit(f"{context}: a further run did something: {again}")
    # Objects that were lost are put back first.
    subprocess.run(logweir("verify", "--repair", "-q"), capture_output=True)
    report = subprocess.run(logweir("verify", "--json"), capture_output=True, text=True)
    # What was recorded of earlier runs in a store that was removed is lost, and `verify` has to say so.
    kinds = {finding["kind"] for finding in json.loads(report.stdout)["findings"]} if report.stdout else {"nothing"}
    if report.returncode != 0 and not (lost and kinds == {"record_missing"}):
        sys.exit(f"{context}: verify: {report.stdout[-3000:]}{report.stderr[-2000:]}")

write()
began = time.monotonic()
first = complete("first run")
span = max(first["seconds"], 0.05)
killed = attempts = executed = collections = 0
while killed < wanted:
    attempts += 1
    if attempts > 20 * wanted + 100:
        sys.exit(f"only {killed} of {attempts} attempts hit a running process")
    edit()
    collects = has_gc and dice.random() < 0.1
    command = logweir("gc", "--yes", "--keep-runs", "2", "-q") if collects else logweir("run", "-j", "2", "-q")
    wait = dice.random() * (0.03 if collects else span)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(wait)
    process.send_signal(signal.SIGKILL)
    if process.wait() == -signal.SIGKILL:
        killed += 1
        collections += collects
        span = min(span * 1.01, 2.0)
    else:
        # It was over already: sooner next time.
        span = max(span * 0.98, 0.01)
    executed += complete(f"kill {killed} (attempt {attempts}, after {wait:.4f} s)")["executed"]
    if killed % 50 == 0:
        settled(f"kill {killed}")
    if killed % 100 == 0 and killed:
        print(f"{killed} kills in {time.monotonic() - began:.0f} s", flush=True)
settled("at the end")
log = (root / "cache/runlog.jsonl").read_text().count("\n")
print(f"{killed} runs killed ({collections} of them gc) in {attempts} attempts, {executed} stages executed by the runs after them,")
print(f"{log} entries in the run log; every run after a kill completed with the right outputs; verify is clean, a further run executes 0")
PY
