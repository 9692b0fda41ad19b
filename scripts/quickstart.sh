#!/usr/bin/env bash
# From a fresh clone to a patched, proved Toto 1.0 and a picture: makes .venv, installs, vendors, patches, verifies with
# numbers, and forecasts a real series with the original and the patched code.
#   scripts/quickstart.sh [--checkpoint DIR]      (or TOTO_CHECKPOINT; without one, the embedded model)
# Needs Python 3.10+, git and a C compiler. Running it again is safe. .venv takes about 6 GB, and about 1 GB with
# TOTO_PATCH_TORCH=cpu, torch's build without GPUs; a version pins torch. Environment: PYTHON, TOTO_PATCH_TORCH.
set -euo pipefail
invoked_from=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/_venv.sh
. scripts/_venv.sh

checkpoint=${TOTO_CHECKPOINT:-}
case "${1:-}" in
  "") ;;
  --checkpoint)
    [ $# -eq 2 ] || die 2 "usage: $0 [--checkpoint DIR]"
    checkpoint=$2
    ;;
  *) die 2 "usage: $0 [--checkpoint DIR]" ;;
esac
checkpoint_options=()
if [ -n "$checkpoint" ]; then
  checkpoint=$(cd "$invoked_from" && cd "$checkpoint" && pwd) || die 2 "no such folder: $checkpoint"
  checkpoint_options=(--checkpoint "$checkpoint")
fi

unset TOTO_PATCH_ROOT PYTHONPATH # the tree of this repository, not another one
release=0.2.0
tree=$PWD/vendor/toto
picture=$PWD/quickstart/forecast.png
toto_patch() { .venv/bin/toto-patch "$@"; }

ensure_venv demo

if [ -e "$tree/.toto-patch/state.json" ] || [ -e "$tree/.toto-patch/journal.json" ]; then
  say "vendor/toto is there and patched; bringing the patches up to date"
else
  say "vendoring Toto $release into vendor/toto"
  toto_patch --root "$tree" vendor --version "$release"
  say "patching it, with a backup"
fi
toto_patch --root "$tree" apply --backup

say "proving that the outputs did not change"
toto_patch --root "$tree" verify-only --numerics --quick ${checkpoint_options[@]+"${checkpoint_options[@]}"}

say "forecasting a real series with the original and the patched code"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The original: a copy of the tree, reverted. That works for whatever was vendored, and shows that revert does.
cp -R "$tree" "$work/toto"
toto_patch --root "$work/toto" revert >/dev/null
mkdir -p "$(dirname "$picture")"
.venv/bin/python scripts/forecast_demo.py --original "$work/toto" --patched "$tree" --output "$picture" \
  ${checkpoint_options[@]+"${checkpoint_options[@]}"}

say "done. What there is now:"
cat <<SUMMARY
    .venv                        Python with toto-patch (. .venv/bin/activate)
    vendor/toto                  Toto, patched; vendor/toto.lock.toml says what was vendored
    vendor/toto/.toto-patch      backups and state; toto-patch revert puts back every byte
    quickstart/forecast.png      both forecasts laid over each other
Next: .venv/bin/toto-patch status, scripts/pre_deploy.sh, scripts/test.sh
SUMMARY
