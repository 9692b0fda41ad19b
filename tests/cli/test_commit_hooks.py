"""``apply --commit`` with hooks that fail, edit files or are interrupted: nothing is hidden, nothing half done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_driver import ATTENTION, UTIL, Run, document, environment, git


def hook(root: Path, script: str, name: str = "pre-commit") -> None:
    path = root / ".git" / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_hook_that_edits_and_fails_loses_nothing_and_is_told(committed: Path, toto_patch: Run) -> None:
    original = (committed / ATTENTION).read_bytes()
    hook(committed, f"echo '# formatted' >> {UTIL}; echo style police; exit 1")
    done = toto_patch("apply", "--commit", "--root", committed)
    assert done.returncode == 3
    assert "style police" in done.stderr and "nothing was written" not in done.stderr
    assert f"edited {UTIL}" in done.stderr and f"put back to the original: {ATTENTION}" in done.stderr
    assert (committed / ATTENTION).read_bytes() == original
    assert (committed / UTIL).read_bytes().endswith(b"# formatted\n")
    assert git(committed, "diff", "--cached", "--name-only") == ""
    assert document(toto_patch("status", "--json", "--root", committed))["verdict"] == "drifted"
    git(committed, "checkout", "--", UTIL)  # what the hint says
    assert toto_patch("revert", "--root", committed).returncode == 0
    assert git(committed, "status", "--short") == "" and not (committed / ".toto-patch").exists()


def test_a_hook_that_edits_and_fails_over_an_earlier_selection(committed: Path, toto_patch: Run) -> None:
    assert toto_patch("apply", "--patch", "kv-cache-tensor-index", "--root", committed).returncode == 0
    hook(committed, f"echo '# formatted' >> {UTIL}; exit 1")
    done = toto_patch("apply", "--profile", "graph-breaks", "--commit", "--root", committed)
    assert done.returncode == 3 and f"patched and not committed: {ATTENTION}" in done.stderr
    states = {f["path"]: f["state"] for f in document(toto_patch("status", "--json", "--root", committed))["files"]}
    assert states == {UTIL: "drifted", ATTENTION: "patched"}


def test_a_hook_that_fails_over_an_earlier_selection_gives_that_back(committed: Path, toto_patch: Run) -> None:
    assert toto_patch("apply", "--patch", "kv-cache-tensor-index", "--root", committed).returncode == 0
    before = {path: (committed / path).read_bytes() for path in (UTIL, ATTENTION)}
    hook(committed, "exit 1")
    assert toto_patch("apply", "--profile", "graph-breaks", "--commit", "--root", committed).returncode == 4
    assert {path: (committed / path).read_bytes() for path in (UTIL, ATTENTION)} == before
    found = document(toto_patch("verify-only", "--json", "--root", committed))
    assert (found["verdict"], found["patches"]) == ("patched", ["kv-cache-tensor-index"])


@pytest.mark.parametrize("add", ["", f"; git add {UTIL}"], ids=["left", "committed"])
def test_a_hook_that_edits_and_passes_is_drift(add: str, committed: Path, toto_patch: Run) -> None:
    hook(committed, f"echo '# formatted' >> {UTIL}{add}")
    done = toto_patch("apply", "--commit", "--root", committed)
    head = git(committed, "rev-parse", "HEAD").strip()
    assert done.returncode == 3
    assert f"committed as {head[:12]}" in done.stderr and UTIL in done.stderr
    assert "nothing was written" not in done.stderr


@pytest.mark.parametrize("to_group", [True, False])
def test_an_interrupted_commit_takes_everything_back(to_group: bool, committed: Path, toto_patch: Run) -> None:
    started = committed.parent / "started"
    os.mkfifo(started)
    hook(committed, f"echo > {started}; exec sleep 60")
    process = subprocess.Popen(
        [sys.executable, "-m", "toto_patcher", "apply", "--commit", "--root", str(committed)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    started.read_text()  # returns when the hook runs
    (os.killpg if to_group else os.kill)(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=50)
    assert process.returncode == 130 and "nterrupted" in said and "Traceback" not in said
    assert git(committed, "status", "--short") == ""
    assert not (committed / ".git" / "index.lock").exists() and not (committed / ".toto-patch").exists()
    assert toto_patch("verify-only", "--root", committed).returncode == 1
