#!/usr/bin/env bash
# What a deployment runs before it starts: is the vendored Toto patched and whole, and if asked, are its outputs unchanged?
#   scripts/pre_deploy.sh [--numerics] [--quick] [--checkpoint DIR] [--root DIR]
# Exits 0 when ready; otherwise with toto-patch's status (1 not patched, 2 usage, 3 drift, 4 I/O, 5 outputs differ) and
# the reason. Writes nothing into the tree. --checkpoint and --quick imply --numerics, which needs torch.
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

usage() {
  echo "usage: $0 [--numerics] [--quick] [--checkpoint DIR] [--root DIR]" >&2
  exit 2
}

root=() numerics=() ladder=()
while [ $# -gt 0 ]; do
  case $1 in
    --numerics) numerics=(--numerics) ;;
    --quick) numerics=(--numerics) ladder+=(--quick) ;;
    --checkpoint | --root)
      [ $# -ge 2 ] || usage
      if [ "$1" = --root ]; then root=(--root "$2"); else numerics=(--numerics) ladder+=(--checkpoint "$2"); fi
      shift
      ;;
    *) usage ;;
  esac
  shift
done

# The project's own .venv if this is its repository, else what is installed.
if [ -x "$repository/.venv/bin/toto-patch" ]; then
  toto_patch=$repository/.venv/bin/toto-patch
elif command -v toto-patch >/dev/null; then
  toto_patch=toto-patch
else
  echo "pre-deploy: NOT READY: toto-patch is not installed (run scripts/quickstart.sh, or pip install . in a clone)" >&2
  exit 2
fi

status=0
"$toto_patch" ${root[@]+"${root[@]}"} verify-only ${numerics[@]+"${numerics[@]}"} ${ladder[@]+"${ladder[@]}"} || status=$?
case $status in
  0) echo "pre-deploy: ready" ;;
  1) echo "pre-deploy: NOT READY: the tree is not patched (toto-patch apply --backup)" >&2 ;;
  2) echo "pre-deploy: NOT READY: usage or configuration, see above" >&2 ;;
  3) echo "pre-deploy: NOT READY: the tree is not what toto-patch wrote, see above" >&2 ;;
  4) echo "pre-deploy: NOT READY: the tree cannot be read or is being written, see above" >&2 ;;
  5) echo "pre-deploy: NOT READY: the patched outputs differ from the original's, see above" >&2 ;;
  *) echo "pre-deploy: NOT READY: toto-patch ended with status $status" >&2 ;;
esac
exit "$status"
