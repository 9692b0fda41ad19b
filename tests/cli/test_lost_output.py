"""Output that cannot be written: never a traceback, and the exit status still says what happened to the tree."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from cli_driver import Run, environment, snapshot


def in_shell(command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs ``toto-patch`` with redirections as a shell understands them."""
    line = f"{shlex.quote(sys.executable)} -m toto_patcher {command}"
    return subprocess.run(["sh", "-c", line], cwd=cwd, env=environment(), capture_output=True, text=True, check=False)


LOST = (">/dev/full", ">&-", ">/dev/full 2>&1", ">&- 2>&-", ">&- 2>/dev/full")


def quiet(done: subprocess.CompletedProcess[str], redirection: str) -> None:
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    if "2>" not in redirection:
        [line] = done.stderr.splitlines()
        assert "could not be written" in line


@pytest.mark.parametrize("redirection", LOST)
@pytest.mark.parametrize("json", ["", "--json"])
def test_apply_that_cannot_report_is_0_and_patched(json: str, redirection: str, toto: Path, toto_patch: Run) -> None:
    done = in_shell(f"--root {toto} apply {json} {redirection}", toto.parent)
    quiet(done, redirection)
    assert done.returncode == 0
    assert toto_patch("verify-only", "--root", toto).returncode == 0


@pytest.mark.parametrize("redirection", LOST)
def test_revert_that_cannot_report_is_0_and_reverted(redirection: str, patched: Path, toto_patch: Run) -> None:
    done = in_shell(f"--root {patched} revert {redirection}", patched.parent)
    quiet(done, redirection)
    assert done.returncode == 0
    assert toto_patch("verify-only", "--root", patched).returncode == 1


@pytest.mark.parametrize("redirection", LOST)
@pytest.mark.parametrize("command", ["status", "--json status", "diff", "list --markdown"])
def test_an_answer_that_cannot_be_given_is_4(command: str, redirection: str, toto: Path) -> None:
    before = snapshot(toto)
    done = in_shell(f"--root {toto} {command} {redirection}", toto.parent)
    assert done.returncode == 4
    quiet(done, redirection)
    assert snapshot(toto) == before


def test_help_on_a_full_disk_is_4(tmp_path: Path) -> None:
    done = in_shell("--help >/dev/full", tmp_path)
    assert done.returncode == 4 and "ENOSPC" in done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


@pytest.mark.parametrize("redirection", LOST)
def test_a_verdict_keeps_its_own_status(redirection: str, toto: Path) -> None:
    for command in ("verify-only", "apply --check"):
        done = in_shell(f"--root {toto} {command} {redirection}", toto.parent)
        quiet(done, redirection)
        assert done.returncode == 1


@pytest.mark.parametrize(
    "command",
    [
        "--json bogus >/dev/full",
        "--json bogus >&-",
        "--root nope status 2>/dev/full",
        "--root nope status 2>&-",
        "--root nope status --verbose 2>&-",
        "2>/dev/full",
        "2>&-",
    ],
)
def test_a_usage_error_that_cannot_be_told_is_2(command: str, tmp_path: Path) -> None:
    done = in_shell(command, tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_closed_stdout_does_not_leak_into_what_is_written(toto: Path, toto_patch: Run) -> None:
    assert in_shell(f"--root {toto} apply <&- >&- 2>&-", toto.parent).returncode == 0
    assert toto_patch("verify-only", "--root", toto).returncode == 0
    assert in_shell(f"--root {toto} revert <&- >&- 2>&-", toto.parent).returncode == 0
