#!/usr/bin/env bash
# Makes .venv with what the tests need and runs the whole test suite. Arguments go to pytest: scripts/test.sh -k vendor
#   scripts/test.sh --short     a few minutes: a tree is patched, proved, compiled, forecast with and reverted
# .venv takes about 6 GB, and about 1 GB with TOTO_PATCH_TORCH=cpu, torch's build without GPUs; a version pins torch.
# Needs Python 3.10+, git, a C compiler and strace. Environment: PYTHON, TOTO_PATCH_TORCH.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/_venv.sh
. scripts/_venv.sh

if [ "${1:-}" = --short ]; then
  shift
  set -- tests/test_short.py "$@"
fi
command -v strace >/dev/null ||
  die 2 "the tests of the promises about files kill the program with strace, which is missing: apt-get install strace"
command -v git >/dev/null || die 2 "the tests need git: apt-get install git"
command -v cc >/dev/null || command -v gcc >/dev/null || command -v clang >/dev/null ||
  die 2 "torch.compile needs a C compiler: apt-get install g++"
ensure_venv test
# Triton's interpreter runs the GPU's kernels. Aside, where torch does not see it: the other tests run as without.
if [ "$(uname -s)" = Linux ] && ! [ -d .venv/triton ]; then
  say "installing Triton into .venv/triton"
  rm -rf .venv/triton.part # of an installation that was interrupted
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --target .venv/triton.part 'triton>=3.6,<4'
  mv .venv/triton.part .venv/triton
fi

# What the tests start must find the tools of .venv, and nobody's settings: without bytecode all of it starts slowly.
PATH="$PWD/.venv/bin:$PATH"
export PATH
unset TOTO_PATCH_ROOT PYTHONPATH PYTHONDONTWRITEBYTECODE
# Two workers; tests/conftest.py keeps those that share expensive fixtures on one of them.
say "pytest -n 2 $*"
exec .venv/bin/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder "$@"
