#!/usr/bin/env bash
# The full-graph benchmark on one GPU, from ready trees (scripts/benchmark_trees.py): rows, then the ablation.
#
#   scripts/benchmark_gpu.sh TREES OUT [SECONDS]
#
# Writes OUT/full-graph-NAME.json, OUT/full-graph-NAME-ablation.json and OUT/benchmark.log. Both documents are written
# after each group of rows. SECONDS (280): the ablation starts no group of rows later than this after the start.
# Environment: PYTHON (python3), NAME (h200), PRECISION (tf32), DEVICE (cuda), TORCHINDUCTOR_CACHE_DIR (a fresh folder),
# EXTRA (more options of `toto-patch bench`, for both parts).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
trees=${1:?the folder of the trees} out=${2:?the folder for the documents} limit=${3:-280}
python=${PYTHON:-python3} name=${NAME:-h200} precision=${PRECISION:-tf32}
[[ -f $trees/order.txt ]] || { echo "no order.txt in $trees: scripts/benchmark_trees.py makes it" >&2; exit 2; }
TORCHINDUCTOR_CACHE_DIR=${TORCHINDUCTOR_CACHE_DIR:-$(mktemp -d)}
export TORCHINDUCTOR_CACHE_DIR PYTHONUNBUFFERED=1

measured=() ablation=()
while read -r tree; do
  case $tree in
    upstream) measured+=(--tree "$tree=$trees/$tree") ablation+=(--tree "$tree=$trees/$tree") ;;
    only-* | upto-*) ablation+=(--tree "$tree=$trees/$tree") ;;
    *) measured+=(--tree "$tree=$trees/$tree") ablation+=(--tree "$tree=$trees/$tree") ;;
  esac
done <"$trees/order.txt"

bench() {
  # shellcheck disable=SC2086  # EXTRA is several words
  "$python" -m toto_patcher bench --device "${DEVICE:-cuda}" --precision "$precision" "$@" ${EXTRA:-} 2>&1 |
    tee -a "$out/benchmark.log"
}

status=0
mkdir -p "$out"
bench "${measured[@]}" --turns 4 --timed 3 --json "$out/full-graph-$name.json" || status=$?
bench "${ablation[@]}" --turns 6 --timed 2 --baseline eager --mode eager --no-kernels --warm-start none \
  --time-limit "$((limit > SECONDS ? limit - SECONDS : 0))" --json "$out/full-graph-$name-ablation.json" || status=$?
exit "$status"
