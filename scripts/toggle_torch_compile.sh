#!/usr/bin/env bash
# Turns compilation on and off for the services that source .env.compile:
#   scripts/toggle_torch_compile.sh disable|enable|status|mode M|test [--file PATH]
#   (installed: toto-patch-toggle-compile)
#   source .env.compile
# `test` compiles one small function as the file says; it needs torch. Exits with toto-patch's status.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

case ${1:-} in
  disable | enable | status | mode | test) ;;
  *)
    echo "usage: $0 disable|enable|status|mode M|test [--file PATH]" >&2
    exit 2
    ;;
esac

# The project's own .venv if this is its repository, the command beside this one if it is installed, else the PATH's.
toto_patch=$(dirname "$here")/.venv/bin/toto-patch
[ -x "$toto_patch" ] || toto_patch=$here/toto-patch
[ -x "$toto_patch" ] || toto_patch=$(command -v toto-patch) || {
  echo "error: toto-patch is not installed (run scripts/quickstart.sh; or in a clone of toto-patch: pip install .)" >&2
  exit 2
}
exec "$toto_patch" env "$@"
