"""env: what it writes into .env.compile, what it keeps, and how it explains it. Its file is sourced by a real shell."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest
from cli_driver import REPOSITORY, Run, document, environment
from json_page import COMMON, differences, documented

from toto_patcher.supported import install_hint

NAMES = ("TOTO_DISABLE_COMPILE", "TOTO_COMPILE", "TOTO_COMPILE_MODE")


def sourced(file: Path, **before: str) -> dict[str, str]:
    """The three variables of a shell that has sourced the file."""
    shown = "; ".join(f'echo "${{{name}-unset}}"' for name in NAMES)
    command = ["bash", "-euc", f'. "$1"; {shown}', "bash", str(file)]
    done = subprocess.run(command, env=environment(**before), capture_output=True, text=True, check=True)
    return dict(zip(NAMES, done.stdout.splitlines(), strict=True))


def test_what_it_writes_is_what_a_shell_takes_over(toto_patch: Run, tmp_path: Path) -> None:
    file = tmp_path / ".env.compile"
    assert toto_patch("env", "disable").returncode == 0
    assert sourced(file) == {"TOTO_DISABLE_COMPILE": "1", "TOTO_COMPILE": "0", "TOTO_COMPILE_MODE": "unset"}
    assert toto_patch("env", "mode", "max-autotune").returncode == toto_patch("env", "enable").returncode == 0
    on = {"TOTO_DISABLE_COMPILE": "0", "TOTO_COMPILE": "1", "TOTO_COMPILE_MODE": "max-autotune"}
    assert sourced(file, TOTO_DISABLE_COMPILE="1") == on, "enable undoes what was sourced before"
    content, written = file.read_bytes(), file.stat().st_mtime_ns
    again = toto_patch("env", "enable")
    assert "nothing was written" in again.stdout and (file.read_bytes(), file.stat().st_mtime_ns) == (content, written)
    assert [path.name for path in tmp_path.iterdir()] == [".env.compile"]


THEIRS = """\
# ours, don't touch
export CUDA_VISIBLE_DEVICES=0
if [ -n "${CI-}" ]; then
  export TOTO_COMPILE=0
fi
export TOTO_COMPILE=0 # for now
NOTE="two
TOTO_COMPILE=0
lines"
export TOTO_COMPILE_MODE="default"
export CACHE=$HOME/x"""


def test_other_lines_and_the_mode_of_the_file_stay(toto_patch: Run, tmp_path: Path) -> None:
    real, link = tmp_path / "real file", tmp_path / "link"
    real.write_bytes(THEIRS.encode() + b" # \xff")
    real.chmod(0o600)
    link.symlink_to(real)
    for _ in range(2):
        assert toto_patch("env", "enable", "--file", "link").returncode == 0
    found = {"TOTO_DISABLE_COMPILE": "0", "TOTO_COMPILE": "1", "TOTO_COMPILE_MODE": "default"}
    assert sourced(real) == sourced(real, CI="1") == found
    kept = [line for line in THEIRS.splitlines() if line not in (THEIRS.splitlines()[5], THEIRS.splitlines()[9])]
    lines = real.read_bytes().splitlines()
    assert lines[: len(kept)] == [*(line.encode() for line in kept[:-1]), kept[-1].encode() + b" # \xff"]
    assert link.is_symlink() and stat.S_IMODE(real.stat().st_mode) == 0o600 and len(lines) == len(kept) + 4


def test_status_explains_every_variable_and_writes_nothing(toto_patch: Run, tmp_path: Path) -> None:
    fresh = toto_patch("env", "status")
    assert fresh.returncode == 0 and "There is no .env.compile" in fresh.stdout and not list(tmp_path.iterdir())
    toto_patch("env", "disable")
    told = toto_patch("env", "status", env={"TOTO_COMPILE": "1", "TORCHDYNAMO_CACHE_SIZE_LIMIT": "9"})
    assert "Here: a pipeline compiles: mode reduce-overhead" in told.stdout
    assert "After `source .env.compile`: nothing is compiled: TOTO_DISABLE_COMPILE=1." in told.stdout
    assert "TOTO_COMPILE: 1 (environment; .env.compile says 0)" in told.stdout
    assert "problem: TORCHDYNAMO_CACHE_SIZE_LIMIT is set, but torch.compile does not read it" in told.stdout
    broken = toto_patch("env", "status", env={"TOTO_COMPILE_MODE": "fastest"})
    assert broken.returncode == 2 and "problem: TOTO_COMPILE_MODE is 'fastest', expected default" in broken.stdout


@pytest.mark.parametrize("command", [("enable",), ("disable",), ("mode", "default"), ("status",)])
def test_each_answers_with_one_document(command: tuple[str, ...], toto_patch: Run) -> None:
    for arguments in (("env", *command, "--json"), ("--json", "env", *command)):
        found = document(toto_patch(*arguments))
        pages = documented()
        assert differences(found, pages[COMMON] | pages["env"]) == []
        assert differences(found["document"], pages["What env says"]) == []


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("mode", "fastest"), 2, "'fastest' is not one of"),
        (("mode",), 2, "Missing argument"),
        ((), 2, ""),
        (("enable", "--file", "."), 2, "is not a file"),
        (("enable", "--file", "open"), 2, "quotation"),
        (("enable", "--file", "nowhere/.env"), 4, "ENOENT"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_said(
    arguments: tuple[str, ...], status: int, told: str, toto_patch: Run, tmp_path: Path
) -> None:
    (tmp_path / "open").write_text("A='x\n")
    done = toto_patch("env", *arguments)
    assert done.returncode == status and told in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["open"]


def test_only_its_test_needs_torch(toto_patch: Run, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')\n")
    without = {"PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}
    for command in (("enable",), ("status",)):
        assert toto_patch("env", *command, env=without).returncode == 0
    refused = toto_patch("env", "test", env=without)
    assert refused.returncode == 2 and install_hint("runtime") in refused.stderr
    toto_patch("env", "disable")
    assert "nothing to test" in toto_patch("env", "test", env=without).stdout


def test_its_test_compiles_as_the_file_says(toto_patch: Run, tmp_path: Path) -> None:
    (tmp_path / ".env.compile").write_text("export TOTO_COMPILE_BACKEND=eager\n")
    done = toto_patch("env", "test", "--json")
    found = document(done)["document"]
    assert done.returncode == 0 and found["compiled"] and (found["backend"], found["mode"]) == ("eager", None)
    assert differences(found, documented()["What env test says"]) == []


def test_its_test_is_not_satisfied_where_torch_compiles_nothing(toto_patch: Run) -> None:
    off = {"TORCH_COMPILE_DISABLE": "1", "TOTO_COMPILE_BACKEND": "eager"}
    done = toto_patch("env", "test", env=off)
    assert done.returncode == 1 and "FAILED: mode of the backend, backend eager" in done.stdout
    assert "note: TORCH_COMPILE_DISABLE=1: torch compiles nothing" in done.stdout and "Warning" not in done.stderr
