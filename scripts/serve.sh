#!/usr/bin/env bash
# Shows reports/ in a browser: a plain file server of that folder on the loopback interface, nothing more. PORT chooses the port.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh

port=${PORT:-8787}
[ -f reports/index.html ] || { say "serve: no reports/index.html yet: make run first"; exit 3; }
command -v python3 >/dev/null || { say "serve: python3 is needed; or open reports/index.html in a browser"; exit 3; }
say "serve: http://127.0.0.1:$port/index.html  (Ctrl-C stops; files of reports/ only)"
exec python3 -m http.server --bind 127.0.0.1 --directory reports "$port"
