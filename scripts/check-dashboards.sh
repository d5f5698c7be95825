#!/usr/bin/env bash
# The dashboards are what scripts/make-dashboards.py writes, and of the types that Grafana publishes (npm @grafana/schema).
# Exit 77 where npm is missing or cannot fetch them: nothing was checked then.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh

scripts/make-dashboards.py --check
command -v npm >/dev/null && command -v node >/dev/null || { say "check-dashboards: npm and node are needed: skipped"; exit 77; }
folder=.tools/dashboards
mkdir -p "$folder"
# The version of Grafana in docker-compose.yml, and the last TypeScript that is written in itself: versions here, not ranges.
grafana=$(sed -n 's/.*image: grafana\/grafana:\([0-9.]*\).*/\1/p' docker-compose.yml)
printf '{ "private": true, "dependencies": { "@grafana/schema": "%s", "typescript": "5.9.3" } }\n' "$grafana" >"$folder/package.json"
if ! npm --prefix "$folder" install --no-audit --no-fund --ignore-scripts --silent >"$folder/npm.log" 2>&1; then
  tail -n 3 "$folder/npm.log" >&2
  say "check-dashboards: npm could not fetch @grafana/schema: skipped"
  exit 77
fi
node scripts/check-dashboards.mjs "$folder"
