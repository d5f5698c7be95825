#!/usr/bin/env bash
# LightGBM and the autoencoder beside the Python packages: same rows, same parameters, same run, one thread each.
# SESSIONS says how many sessions are simulated (default 100000). PYTHON names an interpreter with lightgbm, numpy, scipy and
# torch (or keras); without it a virtual environment is made.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh
sessions=${1:-100000}
logweir=$(realpath "$logweir")
project=$(mktemp -d)
trap 'rm -rf "$project"' EXIT
cp pipeline.yaml "$project/"
say "simulating $sessions sessions and making features"
"$logweir" -C "$project" --profile demo --set "stages.simulate.with.sessions=$sessions" -q run featurize label split
python=${PYTHON:-}
if [ -z "$python" ]; then
  say "making a Python environment with lightgbm and torch (set PYTHON to use one that has them)"
  python3 -m venv "$project/venv"
  "$project/venv/bin/pip" install -q lightgbm numpy scipy torch
  python="$project/venv/bin/python"
fi
export OMP_NUM_THREADS=1 RAYON_NUM_THREADS=1
say "training here"
cargo bench --locked --package logweir-stages --bench models -- \
  "$project/data/features" "$project/data/sessions.csv" "$project/data/processed/split.parquet" "$project/bench"
say "training in Python"
"$python" scripts/bench-models.py "$project/bench"
