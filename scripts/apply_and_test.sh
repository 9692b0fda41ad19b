#!/usr/bin/env bash
# Patches a vendored Toto, tests it, and puts the originals back if a test fails.
#   scripts/apply_and_test.sh [--quick] [--profile P] [--root DIR] [--checkpoint DIR] [--device D] [--report DIR]
# (installed: toto-patch-apply-and-test)
# In order: apply with a backup, the equivalence ladder, accuracy on real series, a short benchmark. What each said stands
# in REPORT/report.md (default: apply_and_test/), the raw documents beside it. Exits 0, or with the status of the first
# step that failed, after `toto-patch revert`. Needs the extra `demo` (scripts/quickstart.sh installs it).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
  echo "usage: $0 [--quick] [--profile P] [--root DIR] [--checkpoint DIR] [--device D] [--report DIR]" >&2
  exit 2
}

quick=() profile=() root=() checkpoint=() device=cpu report=apply_and_test
while [ $# -gt 0 ]; do
  case $1 in
    --quick) quick=(--quick) ;;
    --profile | --root | --checkpoint | --device | --report)
      [ $# -ge 2 ] || usage
      case $1 in
        --profile) profile=(--profile "$2") ;;
        --root) root=(--root "$2") ;;
        --checkpoint) checkpoint=(--checkpoint "$2") ;;
        --device) device=$2 ;;
        --report) report=$2 ;;
      esac
      shift
      ;;
    *) usage ;;
  esac
  shift
done
# The project's own .venv if this is its repository, the command beside this one if it is installed, else the PATH's.
toto_patch=$(dirname "$here")/.venv/bin/toto-patch
[ -x "$toto_patch" ] || toto_patch=$here/toto-patch
[ -x "$toto_patch" ] || toto_patch=$(command -v toto-patch) || {
  echo "error: toto-patch is not installed (run scripts/quickstart.sh; or in a clone of toto-patch: pip install .)" >&2
  exit 2
}
mkdir -p "$report"
page=$report/report.md
printf '# apply_and_test, %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >"$page"

toto() { "$toto_patch" ${root[@]+"${root[@]}"} "$@"; }

# step NAME COMMAND...: runs it, shows and keeps what it says; gives its status.
step() {
  local name=$1 status=0
  shift
  printf '==> %s\n' "$name"
  printf '\n## %s\n\n```\n' "$name" >>"$page"
  "$@" 2>&1 | tee -a "$page" || status=$?
  printf '```\n\nexit status %s\n' "$status" >>"$page"
  return "$status"
}

failed() { # failed STATUS NAME: puts the originals back, says whether that worked, and ends
  local outcome="the originals are back"
  step "revert, since \"$2\" failed with status $1" toto revert ||
    outcome="and revert did not work, see above: THE TREE IS STILL PATCHED"
  printf '\n**FAILED: %s (status %s)**; %s.\n' "$2" "$1" "$outcome" >>"$page"
  echo "apply-and-test: FAILED: $2 (status $1); $outcome; report: $page" >&2
  exit "$1"
}

# Nothing was written if this fails.
step "apply" toto apply --backup ${profile[@]+"${profile[@]}"} || {
  status=$?
  echo "apply-and-test: FAILED: apply (status $status); nothing was written" >&2
  exit "$status"
}
trap 'failed 130 "interrupted"' INT TERM

if [ "$device" = cpu ]; then short=(--workload smoke --shape tiny --turns 3); else short=(--workload trading); fi
if [ ${#quick[@]} -gt 0 ]; then short+=(--baseline eager --mode eager); fi
name="equivalence ladder"
step "$name" toto verify-only --numerics ${quick[@]+"${quick[@]}"} ${checkpoint[@]+"${checkpoint[@]}"} || failed $? "$name"
name="accuracy on real series"
step "$name" toto accuracy --device "$device" --json "$report/accuracy.json" ${quick[@]+"${quick[@]}"} \
  ${checkpoint[@]+"${checkpoint[@]}"} || failed $? "$name"
name="short benchmark"
step "$name" toto bench --device "$device" "${short[@]}" --warm-start none --json "$report/benchmark.json" || failed $? "$name"

printf "\n**Passed.** The tree is patched; \`toto-patch revert\` puts back every byte.\n" >>"$page"
echo "apply-and-test: passed; the tree is patched; report: $page"
