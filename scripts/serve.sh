#!/usr/bin/env bash
# Shows the project in a browser (logweir serve). PORT chooses the port; ADDR another address than this machine's own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh

exec "$logweir" serve --addr "${ADDR:-127.0.0.1:${PORT:-8787}}" "$@"
