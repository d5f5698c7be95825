#!/usr/bin/env bash
# Times two things and prints seconds and megabytes:
#   engine    DAGs of N trivial stages (default 1000) beside ninja and make; see bench-engine.py for more
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
  engine) scripts/bench-engine.py --logweir "$logweir" --stages "${2:-1000}" ;;
  pipeline) pipeline "${2:-1000000}" ;;
  all) scripts/bench-engine.py --logweir "$logweir" --stages 1000; echo; pipeline 1000000 ;;
  *) say "usage: bench.sh [engine|pipeline|all] [N]"; exit 2 ;;
esac
