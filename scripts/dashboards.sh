#!/usr/bin/env bash
# Starts PostgreSQL and Grafana (docker compose), loads the scores of the pipeline into PostgreSQL, says where to look.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh

command -v docker >/dev/null && docker compose version >/dev/null 2>&1 || {
  say "dashboards: docker with the compose plugin is needed."
  say "            With a PostgreSQL of your own: LOGWEIR_POSTGRES=postgres://user@host/db make run,"
  say "            and point Grafana at provisioning/."
  exit 3
}
if [ ! -f .env ]; then
  say "dashboards: writing .env with fresh passwords (from .env.example)"
  (umask 077
   while IFS= read -r line; do
     case $line in
       *PASSWORD=*) printf '%s=%s\n' "${line%%=*}" "$(head -c 18 /dev/urandom | od -An -tx1 | tr -d ' \n')" ;;
       *) printf '%s\n' "$line" ;;
     esac
   done <.env.example >.env)
fi
set -a; . ./.env; set +a
if [ -z "${LOGWEIR_DB_PASSWORD:-}" ]; then
  # A .env of a version that had no role for loading.
  say "dashboards: adding LOGWEIR_DB_PASSWORD to .env"
  LOGWEIR_DB_PASSWORD=$(head -c 18 /dev/urandom | od -An -tx1 | tr -d ' \n')
  printf 'LOGWEIR_DB_PASSWORD=%s\n' "$LOGWEIR_DB_PASSWORD" >>.env
  export LOGWEIR_DB_PASSWORD
fi
docker compose up -d --wait
docker compose exec -T postgres bash /docker-entrypoint-initdb.d/init.sh
export PGPASSWORD="$LOGWEIR_DB_PASSWORD"
export LOGWEIR_POSTGRES="postgres://logweir_writer@127.0.0.1:${POSTGRES_PORT:-5432}/${POSTGRES_DB:-logweir}"
scripts/run.sh
# Links carry the range too: the first dashboard may be opened before its file is read again.
range=$(docker compose exec -T postgres psql -U "${POSTGRES_USER:-logweir}" -d "${POSTGRES_DB:-logweir}" -At -c \
  "SELECT 'from=' || (extract(epoch FROM first_start) * 1000)::bigint || '&to=' || (extract(epoch FROM last_start) * 1000)::bigint FROM runs WHERE is_current = 1" || true)
say "dashboards: http://127.0.0.1:${GRAFANA_PORT:-3000}/d/logweir?$range  (user ${GRAFANA_USER:-admin}, password in .env)"
