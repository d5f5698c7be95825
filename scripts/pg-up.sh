#!/usr/bin/env bash
# Starts a throwaway PostgreSQL for tests and demonstrations, and prints how to reach it as a libpq string.
#   scripts/pg-up.sh DIR [PORT]      data, log and socket go to DIR; with PORT it also listens on 127.0.0.1:PORT
#   scripts/pg-up.sh --stop DIR      stops it (the folder stays)
# Needs the server's programs: Debian and Ubuntu `postgresql` (or `postgresql-NN`), Homebrew `postgresql@NN`, or PGBIN=folder.
# Exit 77: there is no PostgreSQL on this machine. Not for real data: no password, no fsync.
set -euo pipefail

find_programs() {
  local folder
  for folder in "${PGBIN:-}" "$(dirname "$(command -v initdb || true)")" /usr/lib/postgresql/*/bin \
    /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin; do
    if [ -n "$folder" ] && [ -x "$folder/initdb" ] && [ -x "$folder/pg_ctl" ]; then
      printf '%s\n' "$folder"
      return
    fi
  done
  echo "no PostgreSQL server programs found (initdb, pg_ctl): install the package postgresql, or set PGBIN" >&2
  exit 77
}

# The server refuses to run as root: there, the user postgres (or nobody) runs it.
as_server() {
  if [ "$(id -u)" = 0 ]; then
    (cd / && runuser -u "$owner" -- "$@")
  else
    "$@"
  fi
}

stop=no
if [ "${1:-}" = --stop ]; then
  stop=yes
  shift
fi
dir=${1:?usage: scripts/pg-up.sh [--stop] DIR [PORT]}
port=${2:-}
programs=$(find_programs)
owner=postgres
id -u "$owner" >/dev/null 2>&1 || owner=nobody

if [ "$stop" = yes ]; then
  as_server "$programs/pg_ctl" -D "$dir/data" -m immediate -s -w stop
  exit
fi

mkdir -p "$dir/sock"
dir=$(cd "$dir" && pwd -P)
if [ "$(id -u)" = 0 ]; then
  chown -R "$owner" "$dir"
  chmod 711 "$dir"
fi
if ! as_server test -w "$dir"; then
  echo "the user $owner, who runs the server, cannot reach $dir: choose a folder directly below /tmp" >&2
  exit 1
fi
if [ ! -s "$dir/data/PG_VERSION" ]; then
  as_server "$programs/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$dir/initdb.log" 2>&1 ||
    { cat "$dir/initdb.log" >&2; exit 1; }
fi
addresses=
[ -n "$port" ] && addresses=127.0.0.1
as_server "$programs/pg_ctl" -D "$dir/data" -w -s -t 60 -l "$dir/log" \
  -o "-c listen_addresses='$addresses' -p ${port:-5432} -k $dir/sock -c fsync=off -c synchronous_commit=off -c full_page_writes=off" \
  start >&2
echo "host=$dir/sock port=${port:-5432} user=postgres dbname=postgres"
