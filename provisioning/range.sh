#!/usr/bin/env bash
# Copies dashboards so that they open on the time range of the data: the start of the first and of the last session of the current
# export. Before there is an export they are copied as they are.
#   provisioning/range.sh FROM TO         once
#   provisioning/range.sh FROM TO 30      for ever, looking every 30 seconds
# The database is named by the variables of psql (PGHOST, PGUSER, PGDATABASE, PGPASSWORD, …). Files are moved into place when complete.
set -euo pipefail
from=${1:?usage: provisioning/range.sh FROM TO [SECONDS]}
to=${2:?usage: provisioning/range.sh FROM TO [SECONDS]}

range() {
  psql -X -q -A -t -F ' ' -c "SELECT to_char(first_start AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), \
    to_char((last_start + interval '1 minute') AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') \
    FROM runs WHERE is_current = 1 AND first_start IS NOT NULL" 2>/dev/null || true
}

copy() {
  local first last file name
  read -r first last < <(range; echo) || true
  for file in "$from"/*.json; do
    name=$(basename "$file")
    if [ -n "${last:-}" ]; then
      sed -E "s/(\"from\": )\"[0-9]{4}-[^\"]*\"/\1\"$first\"/; s/(\"to\": )\"[0-9]{4}-[^\"]*\"/\1\"$last\"/" "$file" >"$to/.$name"
    else
      cp "$file" "$to/.$name"
    fi
    if cmp -s "$to/.$name" "$to/$name"; then
      rm "$to/.$name"
    else
      chmod 644 "$to/.$name"
      mv "$to/.$name" "$to/$name"
    fi
  done
}

trap 'exit 0' TERM INT
mkdir -p "$to"
copy
while [ -n "${3:-}" ]; do
  sleep "$3" &
  wait $!
  copy
done
