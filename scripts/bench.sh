#!/usr/bin/env bash
# Times two things and prints seconds and megabytes:
#   engine    a DAG of N trivial stages (default 1000): first run, no-op run, one edited source; ninja and make beside it
#   pipeline  the shipped pipeline on a simulated log of about LINES lines (default 1,000,000): first run and no-op run
# Usage: bench.sh [engine|pipeline|all] [N or LINES]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh

what=${1:-all}
logweir=$(realpath "$logweir")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# timed LABEL COMMAND…: wall seconds, CPU seconds and peak memory of the command (its output is kept aside).
timed() {
  python3 - "$work/log.txt" "$@" <<'PY'
import os, sys, time
log, label, *command = sys.argv[1:]
started = time.perf_counter()
pid = os.fork()
if pid == 0:
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0); os.dup2(out, 1); os.dup2(out, 2)
    os.execvp(command[0], command)
_, status, usage = os.wait4(pid, 0)
wall = time.perf_counter() - started
scale = 1 if sys.platform == "darwin" else 1024
print(f"{label:<34} {wall:9.3f} s wall {usage.ru_utime + usage.ru_stime:9.3f} s cpu {usage.ru_maxrss * scale / 1e6:8.0f} MB", flush=True)
if os.waitstatus_to_exitcode(status):
    sys.stdout.write(open(log, errors="replace").read()[-3000:])
    sys.exit(f"failed: {' '.join(command)}")
PY
}

# The same DAG for each engine: N independent copies, then a concatenation of every tenth.
generate() {
  python3 - "$1" "$2" <<'PY'
import pathlib, sys
root, n = pathlib.Path(sys.argv[1]), int(sys.argv[2])
for engine in ("logweir", "ninja", "make"):
    folder = root / engine
    (folder / "src").mkdir(parents=True); (folder / "out").mkdir()
    for i in range(n):
        (folder / f"src/{i}.txt").write_text(f"source {i}\n")
def joins():
    return range(0, n, 10)
yaml = ["version: 1", "name: bench", "stages:"]
for i in range(n):
    yaml += [f"  s{i}:", '    run: "cp ${in.i} ${out.o}"', f"    in: {{ i: src/{i}.txt }}", f"    out: {{ o: out/{i}.txt }}"]
for i in joins():
    ins = ", ".join(f"out/{k}.txt" for k in range(i, min(i + 10, n)))
    yaml += [f"  j{i}:", '    run: "cat ${in.i} > ${out.o}"', f"    in: {{ i: [{ins}] }}", f"    out: {{ o: out/j{i}.txt }}"]
(root / "logweir/pipeline.yaml").write_text("\n".join(yaml) + "\n")
ninja = ["rule r", "  command = $c", ""]
make = ["MAKEFLAGS += -rR", "all: " + " ".join(f"out/j{i}.txt" for i in joins()), ".PHONY: all"]
for i in range(n):
    ninja += [f"build out/{i}.txt: r src/{i}.txt", f"  c = cp src/{i}.txt out/{i}.txt"]
    make += [f"out/{i}.txt: src/{i}.txt", f"\t@cp src/{i}.txt out/{i}.txt"]
for i in joins():
    ins = " ".join(f"out/{k}.txt" for k in range(i, min(i + 10, n)))
    ninja += [f"build out/j{i}.txt: r {ins}", f"  c = cat {ins} > out/j{i}.txt"]
    make += [f"out/j{i}.txt: {ins}", f"\t@cat {ins} > out/j{i}.txt"]
(root / "ninja/build.ninja").write_text("\n".join(ninja) + "\n")
(root / "make/Makefile").write_text("\n".join(make) + "\n")
PY
}

engine() {
  local n=$1 name
  generate "$work/dag" "$n"
  echo "engine: $n copies and $(((n + 9) / 10)) joins, -j 2"
  for name in logweir ninja make; do
    local command=()
    case $name in
      logweir) command=("$logweir" -C "$work/dag/logweir" -q run -j 2) ;;
      ninja) command -v ninja >/dev/null || { echo "ninja is not installed: left out"; continue; }
        command=(ninja -C "$work/dag/ninja" -j 2 --quiet) ;;
      make) command=(make -C "$work/dag/make" -s -j2) ;;
    esac
    timed "$name, first" "${command[@]}"
    # Files written within two seconds of being looked at are hashed once more: let that pass.
    sleep 3
    [ "$name" != logweir ] || "${command[@]}"
    timed "$name, nothing to do" "${command[@]}"
    timed "$name, nothing to do" "${command[@]}"
    echo edited >"$work/dag/$name/src/0.txt"
    timed "$name, one source edited" "${command[@]}"
  done
}

pipeline() {
  # The simulator writes 19 to 20 lines a session.
  local lines=$1 project="$work/project"
  mkdir -p "$project"
  cp pipeline.yaml "$project/"
  "$logweir" simulate --sessions $((lines * 10 / 194)) --out "$project/data/raw/HDFS_v1"
  echo "pipeline: $(wc -l <"$project/data/raw/HDFS_v1/HDFS.log") simulated lines"
  local run=(env -u LOGWEIR_POSTGRES LOGWEIR_HDFS="$project/data/raw/HDFS_v1" "$logweir" -C "$project" run)
  timed "pipeline, first" "${run[@]}"
  "$logweir" -C "$project" show
  timed "pipeline, nothing to do" "${run[@]}"
}

case $what in
  engine) engine "${2:-1000}" ;;
  pipeline) pipeline "${2:-1000000}" ;;
  all) engine 1000; echo; pipeline 1000000 ;;
  *) say "usage: bench.sh [engine|pipeline|all] [N]"; exit 2 ;;
esac
