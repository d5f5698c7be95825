#!/usr/bin/env bash
# Fetches HDFS_v1 (1.5 GB of log with labels; loghub, free for research) from its public archive into data/raw/HDFS_v1
# and checks it: 11,175,629 lines, 575,061 labelled sessions. An archive already in data/raw/ is used, not fetched again.
# LOGWEIR_HDFS_ARCHIVE names another place: a URL or a file.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh

folder=data/raw/HDFS_v1
archive=data/raw/HDFS_v1.zip
source=${LOGWEIR_HDFS_ARCHIVE:-https://zenodo.org/records/8196385/files/HDFS_v1.zip}
want_lines=${LOGWEIR_HDFS_LINES:-11175629}
want_sessions=${LOGWEIR_HDFS_SESSIONS:-575061}

check() {
  [ -f "$folder/HDFS.log" ] && [ -f "$folder/anomaly_label.csv" ] || return 1
  local lines sessions
  lines=$(wc -l <"$folder/HDFS.log")
  sessions=$(($(wc -l <"$folder/anomaly_label.csv") - 1))
  if [ "$((lines))" -ne "$want_lines" ] || [ "$sessions" -ne "$want_sessions" ]; then
    say "data: $folder holds $((lines)) lines and $sessions labels; expected $want_lines and $want_sessions"
    return 1
  fi
  say "data: $folder is complete: $want_lines lines, $want_sessions labelled sessions"
}

if check; then exit 0; fi
mkdir -p "$folder"
if [ ! -f "$archive" ]; then
  if [ -f "$source" ]; then
    archive=$source
  else
    command -v curl >/dev/null || { say "data: curl is needed to fetch $source"; exit 3; }
    say "data: fetching $source"
    curl -fL --retry 3 -C - -o "$archive.part" "$source" || {
      say "data: could not fetch it; put the archive at $archive by hand and run make data again"
      exit 3
    }
    mv "$archive.part" "$archive"
  fi
fi
say "data: unpacking $archive"
python3 - "$archive" "$folder" <<'PY'
import pathlib, shutil, sys, zipfile

archive, folder = zipfile.ZipFile(sys.argv[1]), pathlib.Path(sys.argv[2])
wanted = {"HDFS.log": "HDFS.log", "anomaly_label.csv": "anomaly_label.csv"}
for entry in archive.infolist():
    name = wanted.pop(pathlib.PurePosixPath(entry.filename).name, None)
    if name:
        with archive.open(entry) as source, open(folder / (name + ".part"), "wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        (folder / (name + ".part")).rename(folder / name)
if wanted:
    sys.exit(f"data: the archive lacks {', '.join(wanted)}")
PY
check || { say "data: the unpacked files are not HDFS_v1 as published"; exit 3; }
