# Sourced by the other scripts: where things are, whether CARGO_TARGET_DIR is set or not.
# Expects the working directory to be the project root.

if ! command -v cargo >/dev/null 2>&1; then PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"; fi

# LightGBM is built with the CMake of `CMAKE`; bootstrap.sh puts one here when the system's is too old.
if [ -z "${CMAKE:-}" ] && [ -x .tools/cmake/bin/cmake ]; then
  CMAKE="$PWD/.tools/cmake/bin/cmake"
  export CMAKE
fi

target_dir="${CARGO_TARGET_DIR:-target}"
logweir="$target_dir/release/logweir"

say() { printf '%s\n' "$*" >&2; }

# The folder of real logs: LOGWEIR_HDFS, else data/raw/HDFS_v1.
real_data() { printf '%s\n' "${LOGWEIR_HDFS:-data/raw/HDFS_v1}"; }

# Whether that folder holds a log, as the pipeline looks for them.
have_real_data() {
  local end
  for end in log log.gz log.zst 'log.[0-9]*'; do
    if compgen -G "$(real_data)/HDFS*.$end" >/dev/null; then return 0; fi
  done
  return 1
}
