# shellcheck shell=bash
# Sourced by the other scripts, after `cd` to the repository: makes .venv and installs this project into it.

say() { printf '==> %s\n' "$*"; }

die() { # die STATUS MESSAGE...
  local status=$1
  shift
  printf 'error: %s\n' "$*" >&2
  exit "$status"
}

# The Python to make .venv with: $PYTHON, or the first of the usual names that is 3.10 or newer.
find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do
    if command -v "$candidate" >/dev/null 2>&1 &&
      "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  die 2 "no Python 3.10 or newer found (set PYTHON=/path/to/python3)"
}

# ensure_venv EXTRA: .venv with this project, editable, and the extra's requirements. Does nothing the second time: a
# stamp records what pyproject.toml was when it was installed. TOTO_PATCH_TORCH=2.13.0 pins torch; unset, pip chooses.
ensure_venv() {
  local extra=$1 python wanted stamp requirements
  # The folder is part of it: a checkout that was moved or copied has a .venv that points elsewhere.
  wanted=$({ cat pyproject.toml && printf '%s\n' "$PWD" "${TOTO_PATCH_TORCH:-any}"; } | sha256sum | cut -d ' ' -f 1)
  # Each of these extras holds the ones before it: demo, test, dev.
  for stamp in ".venv/.installed-$extra" $([ "$extra" != demo ] || echo .venv/.installed-test) .venv/.installed-dev; do
    if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null || true)" = "$wanted" ]; then
      say ".venv is up to date (extra: $extra)"
      return
    fi
  done
  if ! [ -x .venv/bin/python ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    say "making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv ||
      die 2 "$python cannot make virtual environments (Debian, Ubuntu: apt-get install python3-venv)"
  fi
  requirements=(--editable ".[$extra]")
  if [ -n "${TOTO_PATCH_TORCH:-}" ]; then requirements+=("torch==$TOTO_PATCH_TORCH"); fi
  say "installing ${requirements[*]} into .venv (the first time this downloads torch and takes minutes)"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile "${requirements[@]}"
  # On all cores, where pip takes one. Packages hold files for other versions of Python, which are no failure here.
  .venv/bin/python -m compileall -qq -j 0 .venv/lib || true
  printf '%s\n' "$wanted" >".venv/.installed-$extra"
}
