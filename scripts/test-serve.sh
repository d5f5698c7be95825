#!/usr/bin/env bash
# Opens the pages of `logweir serve` and a report in a real Chromium (Playwright): what they show and do, by mouse and by
# keyboard, accessibility (axe, WCAG AA, light and dark), narrow screens, no request to another host, no error in the
# console. Screenshots go to SHOTS (a temporary folder by default). SESSIONS=n simulated sessions.
# Without node or Chromium it says so and tests nothing; CHROMIUM names the program.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh

chromium=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}
if [ -z "$chromium" ] || ! command -v npm >/dev/null; then
  say "test-serve: skipped: it needs node, npm and Chromium (Debian: apt-get install chromium npm)"
  exit 0
fi
tools=.tools/browser
if ! [ -d "$tools/node_modules/axe-core" ]; then
  mkdir -p "$tools"
  npm install --prefix "$tools" --no-audit --no-fund --silent playwright-core@1.56.1 axe-core@4.11.0
fi

logweir=$(realpath "$logweir")
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$work"' EXIT
project=$work/project
mkdir -p "$project/reports" "${SHOTS:=$work/shots}"
cp pipeline.yaml "$project/"
run() { LOGWEIR_HDFS=/nowhere "$logweir" -C "$project" --profile demo --set "stages.simulate.with.sessions=${SESSIONS:-4000}" "$@"; }
run run -q
run run -q --set stages.evaluate.with.threshold.beta=0.3
run run -q
LOGWEIR_HDFS=/nowhere "$logweir" -C "$project" --profile demo --set "stages.simulate.with.sessions=${SESSIONS:-4000}" serve --addr 127.0.0.1:0 --json >"$work/said" 2>"$work/err" &
for _ in $(seq 100); do grep -q '}' "$work/said" && break; sleep 0.1; done
address=$(sed -n 's/.*"addr": "\(.*\)".*/\1/p' "$work/said")
[ -n "$address" ] || { cat "$work/err" >&2; exit 1; }
PROJECT=$project LOGWEIR=$logweir CHROMIUM=$chromium SHOTS=$SHOTS SESSIONS=${SESSIONS:-4000} TOOLS=$PWD/$tools node scripts/test-serve.mjs "http://$address"
