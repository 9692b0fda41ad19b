#!/usr/bin/env bash
# What a deployment runs before it starts: is the vendored Toto patched and whole, and if asked, are its outputs
# unchanged, its forecasts as accurate, its latency and compilations within the limits?
#   scripts/pre_deploy.sh [--numerics] [--quick] [--accuracy] [--stress MODE] [--compile-mode M] [--checkpoint DIR]
#                         [--device D] [--root DIR]          (installed: toto-patch-pre-deploy)
# Exits 0 when ready; otherwise with toto-patch's status (1 not patched, 2 usage, 3 drift, 4 I/O, 5 outside the limits) and
# the reason. Writes nothing into the tree. --numerics is the equivalence ladder; --quick shortens it and implies it, as
# does --checkpoint without --accuracy or --stress. --device (cpu) is where all of them run. MODE is quick, full or
# production-check; its report is written to compile_stress/ in the current folder. All but the first check need torch.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
  echo "usage: $0 [--numerics] [--quick] [--accuracy] [--stress MODE] [--compile-mode M] [--checkpoint DIR]" \
    "[--device D] [--root DIR]" >&2
  exit 2
}

root=() numerics="" quick=() accuracy="" stress="" checkpoint=() device=cpu forecasts=()
while [ $# -gt 0 ]; do
  case $1 in
    --numerics) numerics=yes ;;
    --quick) quick=(--quick) ;;
    --accuracy) accuracy=yes ;;
    --stress | --compile-mode | --checkpoint | --device | --root)
      [ $# -ge 2 ] || usage
      case $1 in
        --stress) stress=$2 ;;
        --checkpoint) checkpoint=(--checkpoint "$2") ;;
        --device) device=$2 ;;
        --compile-mode) forecasts=("$1" "$2") ;;
        --root) root=(--root "$2") ;;
      esac
      shift
      ;;
    *) usage ;;
  esac
  shift
done
if [ -z "$accuracy$stress" ] && [ $((${#quick[@]} + ${#checkpoint[@]})) -gt 0 ]; then numerics=yes; fi
forecasts+=(--device "$device")

# The project's own .venv if this is its repository, the command beside this one if it is installed, else the PATH's.
toto_patch=$(dirname "$here")/.venv/bin/toto-patch
[ -x "$toto_patch" ] || toto_patch=$here/toto-patch
[ -x "$toto_patch" ] || toto_patch=$(command -v toto-patch) || {
  echo "pre-deploy: NOT READY: toto-patch is not installed (run scripts/quickstart.sh; or in a clone of toto-patch: pip install .)" >&2
  exit 2
}

# check REASON COMMAND...: ends with the command's status and the reason, unless it is 0; REASON is for status 5.
check() {
  local outside=$1 status=0
  shift
  "$toto_patch" ${root[@]+"${root[@]}"} "$@" || status=$?
  case $status in
    0) return ;;
    1) echo "pre-deploy: NOT READY: the tree is not patched (toto-patch apply --backup)" >&2 ;;
    2) echo "pre-deploy: NOT READY: usage or configuration, see above" >&2 ;;
    3) echo "pre-deploy: NOT READY: the tree is not what toto-patch wrote, see above" >&2 ;;
    4) echo "pre-deploy: NOT READY: the tree cannot be read or is being written, see above" >&2 ;;
    5) echo "pre-deploy: NOT READY: $outside, see above" >&2 ;;
    *) echo "pre-deploy: NOT READY: toto-patch ended with status $status" >&2 ;;
  esac
  exit "$status"
}

ladder=()
if [ -n "$numerics" ]; then ladder=(--numerics --device "$device" ${quick[@]+"${quick[@]}"} ${checkpoint[@]+"${checkpoint[@]}"}); fi
check "the patched outputs differ from the original's" verify-only ${ladder[@]+"${ladder[@]}"}
if [ -n "$accuracy" ]; then
  check "the patched forecasts are not as accurate as the original's" accuracy "${forecasts[@]}" ${quick[@]+"${quick[@]}"} \
    ${checkpoint[@]+"${checkpoint[@]}"}
fi
if [ -n "$stress" ]; then
  check "a limit of the stress test is broken" stress --mode "$stress" "${forecasts[@]}" ${checkpoint[@]+"${checkpoint[@]}"}
fi
echo "pre-deploy: ready"
