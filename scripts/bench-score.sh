#!/usr/bin/env bash
# Scores a simulated log of about LINES lines (default 1,000,000) in batch, on one core, and follows it as it is written.
# Prints lines a second, and what a line costs in the program: from its bytes to its session (parsing, matching, what ends
# because of it), and to the rows that it led to (with scoring and writing). Reading the file is in the batch only.
# Usage: bench-score.sh [LINES]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh

lines=${1:-1000000}
logweir=$(realpath "$logweir")
work=$(mktemp -d "${TMPDIR:-/tmp}/bench-score.XXXXXX")
trap 'rm -rf "$work"' EXIT

mkdir "$work/project"
cp pipeline.yaml "$work/project/"
cd "$work/project"
# The models are of another log of the same cluster.
"$logweir" simulate --sessions 10000 --out "$work/train" >/dev/null 2>&1
LOGWEIR_HDFS="$work/train" "$logweir" run -q
"$logweir" simulate --sessions $((lines * 10 / 194)) --out "$work/new" --seed 7 >/dev/null 2>&1
log="$work/new/HDFS.log"
cat "$log" >/dev/null
export LOGWEIR_HDFS="$work/train"

show() { # NAME SECONDS, and what the program told
  python3 -c '
import json, sys
told, name, seconds = json.load(sys.stdin), sys.argv[1], float(sys.argv[2])
lines, sessions = told["lines"], told["sessions"]
print(f"{name:34} {lines:>9,} lines {sessions:>7,} sessions {seconds:6.2f} s {lines / seconds:>11,.0f} lines/s")
for what in ("line", "row"):
    times = told.get(what + "_microseconds")
    if times:
        shown = "  ".join(f"{name} {value:.2f}" for name, value in times.items())
        print(f"  {what}: {shown} microseconds")
' "$@"
}

timed() { # NAME ARGUMENTS…
  local name=$1 start end
  shift
  start=$(date +%s.%N)
  "$logweir" --json score "$@" >"$work/told.json"
  end=$(date +%s.%N)
  show "$name" "$(echo "$end $start" | awk '{ print $1 - $2 }')" <"$work/told.json"
}

timed "batch, one core" "$log" -j 1 --out "$work/a.csv"
timed "batch, one core, --idle 10m" "$log" -j 1 --idle 10m --out "$work/b.csv"
timed "batch, all cores" "$log" --out "$work/c.csv"
head -n 100000 "$log" >"$work/some.log"
# The wait for silence is not in the time of a line.
timed "followed" "$work/some.log" --follow --until-silent 300ms --out "$work/d.csv"
timed "followed, state, a line at a time" "$work/some.log" --follow --read-at-most 100 --state "$work/state" --until-silent 300ms --out "$work/e.csv"
