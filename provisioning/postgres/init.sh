#!/bin/bash
# Makes the two roles: one that loads, one that reads. Run by the PostgreSQL container on an empty data folder, and by `make dashboards`
# each time, so that passwords of .env and roles of a newer version take effect.
set -euo pipefail
as_owner() { psql -q --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" "$@"; }
as_owner -v password="$LOGWEIR_DB_PASSWORD" -f /logweir/writer_role.sql
as_owner -v password="$GRAFANA_DB_PASSWORD" -v writer=logweir_writer -f /logweir/grafana_role.sql
