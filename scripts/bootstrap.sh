#!/usr/bin/env bash
# Makes sure that everything a build needs is there, and installs what is missing: C++ compiler, libclang, CMake >= 3.28
# (LightGBM's sources ask for it) and, for `bootstrap.sh test`, a PostgreSQL server for the tests. Prints nothing when all
# is there. System packages come from apt (Debian, Ubuntu) or brew (macOS); a newer CMake goes into .tools/ of this folder.
# Says which packages to install by hand where it cannot: exit 3.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

want_tests=${1:-}
say() { printf 'bootstrap: %s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

# PostgreSQL's server programs are not on PATH on Debian.
postgres_bin() {
  local found
  if have initdb; then dirname "$(command -v initdb)"; return; fi
  for found in /usr/lib/postgresql/*/bin /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin; do
    if [ -x "$found/initdb" ]; then printf '%s\n' "$found"; return; fi
  done
  return 1
}

# bindgen loads libclang and needs the compiler's own headers. libclang-cpp is another library: it does not do.
have_libclang() {
  local folder
  [ -n "${LIBCLANG_PATH:-}" ] && return 0
  [ "$(uname -s)" = Darwin ] && xcode-select -p >/dev/null 2>&1 && return 0
  for folder in '/usr/lib/llvm-*/lib' '/usr/lib/*' /usr/lib64 '/usr/lib64/llvm*/lib' /usr/local/lib /usr/lib; do
    compgen -G "$folder/libclang.so*" >/dev/null || compgen -G "$folder/libclang-[0-9]*.so*" >/dev/null && return 0
  done
  return 1
}

# Version of a CMake as one number, 3.28.1 → 3028; 0 when it does not run.
cmake_number() {
  local text
  text=$("$1" --version 2>/dev/null | sed -n 's/^cmake version \([0-9]*\)\.\([0-9]*\).*/\1 \2/p') || true
  set -- $text
  printf '%d\n' $(( ${1:-0} * 1000 + ${2:-0} ))
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif have sudo; then sudo "$@"; else return 1; fi
}

by_hand() {
  say "cannot install these here: $*"
  say "install them by hand (with your system's names for them) and run make again"
  exit 3
}

missing=()
have cc && have c++ || missing+=(g++)
have make || missing+=(make)
have_libclang || missing+=(clang libclang-dev)
# cargo fetches over TLS and trusts the system's authorities.
if have apt-get && [ ! -e /etc/ssl/certs/ca-certificates.crt ]; then missing+=(ca-certificates); fi
newest=0
for candidate in "${CMAKE:-}" .tools/cmake/bin/cmake cmake; do
  [ -n "$candidate" ] || continue
  number=$(cmake_number "$candidate")
  [ "$number" -le "$newest" ] || newest=$number
done
own_cmake=no
if [ "$newest" -lt 3028 ]; then
  if have brew; then missing+=(cmake); else own_cmake=yes; fi
fi
if [ "$own_cmake" = yes ] && ! python3 -c 'import venv, ensurepip' >/dev/null 2>&1; then missing+=(python3 python3-venv); fi
if [ "$want_tests" = test ]; then
  have python3 || missing+=(python3)
  if [ "$(uname -s)" = Linux ] && ! postgres_bin >/dev/null; then missing+=(postgresql); fi
fi

if [ ${#missing[@]} -gt 0 ]; then
  if have apt-get; then
    say "installing with apt-get: ${missing[*]}"
    if [ "$(id -u)" != 0 ] && ! have sudo; then by_hand "${missing[@]}"; fi
    # The tests start a server of their own: no cluster is made, none is started.
    clusters=/etc/postgresql-common/createcluster.d/logweir.conf
    case " ${missing[*]} " in
      *" postgresql "*) as_root mkdir -p "$(dirname "$clusters")"
        printf 'create_main_cluster = false\n' | as_root tee "$clusters" >/dev/null ;;
    esac
    as_root apt-get update -q >&2 || say "apt-get update failed; trying with the lists that are there"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >&2 ||
      by_hand "${missing[@]}"
    as_root rm -f "$clusters"
  elif have brew; then
    formulae=()
    for package in "${missing[@]}"; do
      case $package in
        g++ | clang | libclang-dev | make) by_hand "the Xcode command line tools (xcode-select --install)" ;;
        python3-venv) ;;
        *) formulae+=("$package") ;;
      esac
    done
    say "installing with brew: ${formulae[*]}"
    brew install "${formulae[@]}" >&2 || by_hand "${formulae[@]}"
  else
    by_hand "${missing[@]}"
  fi
fi

if [ "$own_cmake" = yes ]; then
  say "CMake here is older than 3.28 or missing; installing one into .tools/cmake (python venv)"
  rm -rf .tools/cmake
  python3 -m venv .tools/cmake >&2 || by_hand "python3-venv"
  .tools/cmake/bin/pip install -q --disable-pip-version-check 'cmake>=3.28' >&2 || by_hand "CMake 3.28 or newer"
fi

if ! have cargo; then
  [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ] || {
    say "no Rust toolchain found: install Rust $(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) or newer from https://rustup.rs and run make again"
    exit 3
  }
fi
