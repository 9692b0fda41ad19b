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

# What TOTO_PATCH_TORCH asks for, as requirements of pip, one a line: a version, or "cpu" for the small build of the
# version that CI runs too. PyTorch has an index of its own for those; TOTO_PATCH_TORCH_INDEX names another one.
torch_requirements() {
  local torch=${TOTO_PATCH_TORCH:-}
  if [ "$torch" = cpu ]; then torch=$(sed -n 's/^BETWEEN = "\(.*\)"$/\1/p' toto_patcher/supported.py)+cpu; fi
  case $torch in
    "") return ;;
    *+cpu) printf '%s\n' --extra-index-url "${TOTO_PATCH_TORCH_INDEX:-https://download.pytorch.org/whl/cpu}" ;;
  esac
  printf '%s\n' "torch==$torch"
}

# Says what is about to be downloaded, and ends where the disk has too little room for it. Sizes: Linux on x86-64, 2026.
announce() { # announce FOLDER
  local needed=9 free
  case ${TOTO_PATCH_TORCH:-} in
    cpu | *+cpu)
      needed=2
      say "this takes about 1 GB in $1, with the build of torch for CPUs"
      ;;
    *)
      say "this takes about 6 GB in $1, most of it torch's libraries for GPUs, and downloads about 3 GB of them once"
      say "without a GPU: TOTO_PATCH_TORCH=cpu $0 takes about 1 GB"
      ;;
  esac
  free=$(($(df -Pk "$(dirname "$1")" | awk 'END { print $4 }') / 1000000))
  [ "$free" -ge "$needed" ] ||
    die 4 "too little room: $free GB are free here, and $1 with what is downloaded for it needs $needed GB"
}

# A virtual environment in a folder, with pip; makes it if it is not there, or is damaged.
make_venv() { # make_venv FOLDER
  local python
  if [ -x "$1/bin/python" ] && "$1/bin/python" -m pip --version >/dev/null 2>&1; then return; fi
  python=$(find_python)
  announce "$1"
  say "making $1 with $("$python" --version)"
  "$python" -m venv --clear "$1" ||
    die 2 "$python cannot make virtual environments (Debian, Ubuntu: apt-get install python3-venv)"
}

# ensure_venv EXTRA: .venv with this project, editable, and the extra's requirements. Does nothing the second time: a
# stamp records what pyproject.toml was when it was installed. TOTO_PATCH_TORCH=2.13.0 pins torch; unset, pip chooses.
ensure_venv() {
  local extra=$1 wanted stamp requirements
  # The folder is part of it: a checkout that was moved or copied has a .venv that points elsewhere.
  wanted=$({ cat pyproject.toml && printf '%s\n' "$PWD" "${TOTO_PATCH_TORCH:-any}"; } | sha256sum | cut -d ' ' -f 1)
  # Each of these extras holds the ones before it: demo, test, dev.
  for stamp in ".venv/.installed-$extra" $([ "$extra" != demo ] || echo .venv/.installed-test) .venv/.installed-dev; do
    if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null || true)" = "$wanted" ]; then
      say ".venv is up to date (extra: $extra)"
      return
    fi
  done
  make_venv .venv
  mapfile -t requirements < <(torch_requirements)
  requirements=(--editable ".[$extra]" "${requirements[@]}")
  say "installing ${requirements[*]} into .venv (the first time this downloads torch and takes minutes)"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile "${requirements[@]}"
  # On all cores, where pip takes one. Packages hold files for other versions of Python, which are no failure here.
  .venv/bin/python -m compileall -qq -j 0 .venv/lib || true
  printf '%s\n' "$wanted" >".venv/.installed-$extra"
}
