"""Trees whose record does not fit: patched but cloned without ``.toto-patch``, half put back, another release."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_driver import ATTENTION, UTIL, Run, document, snapshot


@pytest.fixture
def cloned(patched: Path) -> Path:
    """A patched tree without its record, as a clone has it where ``.toto-patch`` is ignored."""
    shutil.rmtree(patched / ".toto-patch")
    return patched


def test_status_says_that_the_record_is_missing(cloned: Path, toto_patch: Run) -> None:
    done = toto_patch("status", "--root", cloned)
    assert done.returncode == 0
    assert "changed by toto-patch, but there is no record of its original" in done.stdout
    assert "not patched" not in done.stdout and "toto-patch apply" not in done.stdout
    assert "toto-patch vendor --force" in done.stdout
    assert document(toto_patch("status", "--json", "--root", cloned))["verdict"] == "unrecorded"


def test_revert_refuses_as_apply_does(cloned: Path, toto_patch: Run) -> None:
    before = snapshot(cloned)
    said = {command: toto_patch(command, "--root", cloned) for command in ("apply", "revert")}
    assert [done.returncode for done in said.values()] == [3, 3]
    for done in said.values():
        for path in (UTIL, ATTENTION):
            assert f"{path}:" in done.stderr
        assert "there is no record of its original" in done.stderr and "toto-patch vendor --force" in done.stderr
    assert snapshot(cloned) == before


def test_status_of_a_half_patched_tree_has_a_next_step(
    patched: Path, toto_release: Callable[[str], Path], toto_patch: Run
) -> None:
    shutil.copy(toto_release("0.2.0") / UTIL, patched / UTIL)
    done = toto_patch("status", "--root", patched)
    assert "half-patched" in done.stdout and "toto-patch revert" in done.stdout


@pytest.mark.parametrize("command", ["apply", "revert", "status", "verify-only"])
def test_another_release_copied_over_a_patched_tree_hints_at_vendor_force(
    command: str, patched: Path, toto_release: Callable[[str], Path], toto_patch: Run
) -> None:
    for path in (UTIL, ATTENTION):
        (patched / path).write_bytes((toto_release("0.2.0") / path).read_bytes() + b"# of another release\n")
    done = toto_patch(command, "--root", patched)
    assert "toto-patch vendor --force" in done.stdout + done.stderr
