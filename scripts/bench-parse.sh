#!/usr/bin/env bash
# From a raw log to sessions: logweir beside tools that only read the bytes, and beside a parse in Python.
# Simulates a log of about LINES lines (default 2,000,000; HDFS_v1 has 11,175,629) and prints the table of
# docs/benchmarks.md. Drain3 (from PyPI, in .tools/drain3) and the regular expressions parse a prefix and are scaled.
# What is missing is left out, and that is said.
# Usage: bench-parse.sh [LINES]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh

lines=${1:-2000000}
logweir=$(realpath "$logweir")
work=$(mktemp -d "${TMPDIR:-/tmp}/bench-parse.XXXXXX")
trap 'rm -rf "$work"' EXIT

drain=.tools/drain3/bin/python
if ! "$drain" -c 'import drain3' 2>/dev/null; then
  say "fetching Drain3 into .tools/drain3"
  { python3 -m venv .tools/drain3 && .tools/drain3/bin/pip install --quiet --disable-pip-version-check drain3; } >&2 ||
    say "no Drain3: PyPI cannot be reached or Python has no venv"
fi
"$drain" -c 'import drain3' 2>/dev/null || drain=

# The simulator writes 19 to 20 lines a session.
"$logweir" simulate --sessions $((lines * 10 / 194)) --out "$work/raw" >&2
mkdir "$work/project"
cp pipeline.yaml "$work/project/"
python3 scripts/bench-parse.py --logweir "$logweir" --work "$work" --drain "$drain"
