#!/usr/bin/env bash
# Runs the shipped pipeline: on real logs where they are, else on a simulated one (and says so). Arguments go to `logweir run`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh

if have_real_data; then
  say "logweir: real logs from $(real_data)"
  exec "$logweir" run "$@"
fi
say "logweir: no HDFS*.log in $(real_data), so the demo profile runs on a SIMULATED log"
say "         (LOGWEIR_HDFS=/folder/with/logs make run uses yours; make data fetches the public HDFS_v1 set)"
exec "$logweir" --profile demo run "$@"
