#!/bin/bash
# Run once by the PostgreSQL container, on an empty data folder.
set -euo pipefail
psql -v password="$GRAFANA_DB_PASSWORD" --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" -f /logweir/grafana_role.sql
