"""Every exit status of DESIGN section 5, from a process of its own."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_driver import ATTENTION, UTIL, Run, document, edit, environment, snapshot


def test_apply_verify_revert_end_with_0_and_the_original_bytes(toto: Path, toto_patch: Run) -> None:
    before = snapshot(toto)
    for command in (["apply", "--backup"], ["verify-only"], ["revert"]):
        done = toto_patch(*command, "--root", toto)
        assert (done.returncode, done.stderr) == (0, "")
    assert snapshot(toto) == before


@pytest.mark.parametrize("version", ["0.1.3", "0.1.4"])
def test_older_releases_apply_and_revert_the_same_way(
    version: str, fresh_toto, tmp_path: Path, toto_patch: Run
) -> None:
    root = fresh_toto(version, tmp_path)
    before = snapshot(root)
    assert [toto_patch(c, "--root", root).returncode for c in ("apply", "verify-only", "revert")] == [0, 0, 0]
    assert snapshot(root) == before


def test_repeating_a_command_is_done_already(patched: Path, toto_patch: Run) -> None:
    before = snapshot(patched)
    done = toto_patch("apply", "--root", patched)
    assert done.returncode == 0 and "nothing to do" in done.stdout
    assert snapshot(patched) == before
    assert toto_patch("revert", "--root", patched).returncode == 0
    again = toto_patch("revert", "--root", patched)
    assert again.returncode == 0 and "nothing to do" in again.stdout


def test_verify_only_of_a_pristine_tree_is_1(toto: Path, toto_patch: Run) -> None:
    done = toto_patch("verify-only", "--root", toto)
    assert done.returncode == 1
    assert "is not patched" in done.stdout and "toto-patch apply" in done.stdout


def test_check_is_1_with_changes_to_make_and_0_without(toto: Path, toto_patch: Run) -> None:
    before = snapshot(toto)
    assert toto_patch("apply", "--check", "--root", toto).returncode == 1
    assert snapshot(toto) == before
    assert toto_patch("apply", "--root", toto).returncode == 0
    assert toto_patch("apply", "--check", "--root", toto).returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["apply", "--no-such-option"],
        ["apply", "--profile", "no-such-profile"],
        ["apply", "--patch", "no-such-patch"],
        ["apply", "--profile", "graph-breaks", "--patch", "kv-cache-tensor-index"],
        ["apply", "--dry-run", "--commit"],
        ["show", "no-such-patch"],
        ["verify-only", "--quick"],
        ["apply", "--quick"],
        ["vendor", "--from-git", "somewhere"],
        ["vendor", "--version", "0.2.0", "--from-path", "somewhere"],
        ["vendor", "--version", "9.9.9"],
        [],
    ],
    ids=" ".join,
)
def test_usage_is_2(arguments: list[str], toto: Path, toto_patch: Run) -> None:
    before = snapshot(toto)
    done = toto_patch("--root", toto, *arguments)
    assert done.returncode == 2
    assert done.stdout == "" and done.stderr != ""
    assert snapshot(toto) == before


@pytest.mark.parametrize("command", ["apply", "diff", "status", "verify-only", "revert", "recover"])
def test_no_checkout_is_2_and_says_how_to_get_one(command: str, tmp_path: Path, toto_patch: Run) -> None:
    done = toto_patch(command)
    assert done.returncode == 2
    assert "--root" in done.stderr and "toto-patch vendor" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_edit_of_a_patched_file_is_3(patched: Path, toto_patch: Run) -> None:
    line = edit(patched, UTIL, "class KVCache", "class  KVCache")
    before = snapshot(patched)
    for command in ("apply", "revert", "verify-only", "diff"):
        done = toto_patch(command, "--root", patched)
        assert done.returncode == 3
        assert f"{UTIL}:{line}" in done.stdout + done.stderr
    assert snapshot(patched) == before


def test_a_lock_held_by_another_process_is_4(patched: Path, toto_patch: Run) -> None:
    before = snapshot(patched)
    with (patched / ".toto-patch" / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = toto_patch("revert", "--root", patched)
    assert done.returncode == 4 and "another process" in done.stderr
    assert {k: v for k, v in snapshot(patched).items() if not k.endswith("lock")} == {
        k: v for k, v in before.items() if not k.endswith("lock")
    }


def test_a_bug_is_70_and_asks_for_a_report(tmp_path: Path) -> None:
    code = (
        "from toto_patcher import inspection, cli\n"
        "def broken(*a): raise ZeroDivisionError('planted')\n"
        "inspection.status = broken\n"
        "cli.main()"
    )
    command = [sys.executable, "-c", code, "status"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 70
    assert "planted" in done.stderr and "bug" in done.stderr and "Traceback" not in done.stderr
    verbose = subprocess.run(
        [*command, "--verbose"], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert verbose.returncode == 70 and "Traceback" in verbose.stderr


def test_an_interrupt_is_130_and_leaves_the_tree_as_it_was(toto: Path) -> None:
    before = snapshot(toto)
    code = (
        "import os, signal\n"
        "from toto_patcher import cli, workspace\n"
        "real = workspace.plan\n"
        "def interrupted(*a): os.kill(os.getpid(), signal.SIGINT); return real(*a)\n"
        "workspace.plan = interrupted\n"
        "cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "apply", "--root", str(toto)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert done.returncode == 130
    assert "nterrupted" in done.stderr and "Traceback" not in done.stderr
    assert snapshot(toto) == before


def test_status_is_0_whatever_it_finds(patched: Path, toto_patch: Run) -> None:
    edit(patched, ATTENTION, "import torch", "import torch  # mine")
    done = toto_patch("status", "--root", patched, "--json")
    assert done.returncode == 0
    assert document(done)["verdict"] == "drifted"
