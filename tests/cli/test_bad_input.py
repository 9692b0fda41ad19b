"""Bad input gets a clear error with file and line, the right exit status, and nothing written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_driver import ATTENTION, UTIL, Run, document, edit, snapshot

WRITING = ("apply", "diff", "verify-only")


def refused(root: Path, toto_patch: Run, *command: str, where: str, env: dict[str, str] | None = None) -> str:
    """Runs a command that must be refused with this place, changing nothing; returns what it said."""
    before = snapshot(root)
    done = toto_patch(*command, "--root", root, env=env)
    assert done.returncode == 3, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert where in said
    assert "next: " in said
    assert "Traceback" not in said
    assert snapshot(root) == before
    return said


@pytest.mark.parametrize("command", WRITING)
def test_a_root_without_toto(command: str, tmp_path: Path, toto_patch: Run) -> None:
    root = tmp_path / "other"
    root.mkdir()
    (root / "module.py").write_text("x = 1\n")
    said = refused(root, toto_patch, command, where=str(root))
    assert "KVCache" in said and "BaseMultiheadAttention" in said  # both refusals at once


@pytest.mark.parametrize("command", WRITING)
def test_a_toto_of_unknown_shape(command: str, toto: Path, toto_patch: Run) -> None:
    edit(toto, UTIL, "def append(self", "def push(self")
    refused(toto, toto_patch, command, where=f"{UTIL}:")


def test_every_refusal_is_reported_at_once(toto: Path, toto_patch: Run) -> None:
    edit(toto, UTIL, "def append(self", "def push(self")
    edit(toto, ATTENTION, "def rearrange_output(", "def arrange_output(")
    said = refused(toto, toto_patch, "apply", where=f"{UTIL}:")
    assert f"{ATTENTION}:" in said
    found = document(toto_patch("apply", "--json", "--root", toto))
    assert [refusal["path"] for refusal in found["refusals"]] == [UTIL, ATTENTION]
    assert all(refusal["line"] for refusal in found["refusals"])


@pytest.mark.parametrize("command", WRITING)
def test_a_syntax_error(command: str, toto: Path, toto_patch: Run) -> None:
    line = edit(toto, UTIL, "class KVCache:", "class KVCache(:")
    refused(toto, toto_patch, command, where=f"{UTIL}:{line}")


@pytest.mark.parametrize("command", WRITING)
def test_undecodable_bytes(command: str, toto: Path, toto_patch: Run) -> None:
    source = (toto / UTIL).read_bytes()
    (toto / UTIL).write_bytes(source + b"# caf\xe9\n")
    refused(toto, toto_patch, command, where=f"{UTIL}:")


def test_a_half_patched_tree(patched: Path, toto_release: Callable[[str], Path], toto_patch: Run) -> None:
    (patched / UTIL).write_bytes((toto_release("0.2.0") / UTIL).read_bytes())
    refused(patched, toto_patch, "verify-only", where=UTIL)
    assert document(toto_patch("verify-only", "--json", "--root", patched))["verdict"] == "half-patched"
    assert toto_patch("apply", "--root", patched).returncode == 0
    assert toto_patch("verify-only", "--root", patched).returncode == 0


def test_a_patched_tree_without_its_record(patched: Path, toto_patch: Run) -> None:
    for path in sorted((patched / ".toto-patch").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (patched / ".toto-patch").rmdir()
    for command in WRITING:
        refused(patched, toto_patch, command, where=f"{UTIL}:")


@pytest.mark.parametrize("command", ["apply", "diff", "verify-only", "revert"])
def test_a_foreign_edit(command: str, patched: Path, toto_patch: Run) -> None:
    line = edit(patched, ATTENTION, "class BaseMultiheadAttention", "# mine\nclass BaseMultiheadAttention")
    refused(patched, toto_patch, command, where=f"{ATTENTION}:{line}")


@pytest.mark.parametrize("command", ["apply", "diff", "verify-only", "revert"])
def test_a_file_that_is_gone(command: str, patched: Path, toto_patch: Run) -> None:
    (patched / ATTENTION).unlink()
    refused(patched, toto_patch, command, where=ATTENTION)


@pytest.mark.parametrize("damage", ["missing", "corrupt"])
def test_a_lost_backup_with_no_other_source(damage: str, toto: Path, toto_patch: Run) -> None:
    edit(toto, UTIL, "import torch", "import torch  # ours")
    assert toto_patch("apply", "--root", toto).returncode == 0
    for backup in (toto / ".toto-patch" / "backups").iterdir():
        backup.unlink() if damage == "missing" else backup.write_bytes(b"other")
    said = refused(toto, toto_patch, "revert", where=UTIL)
    assert "cannot be restored" in said


def test_a_lost_backup_of_a_release_comes_from_the_release(patched: Path, toto_release, toto_patch: Run) -> None:
    for backup in (patched / ".toto-patch" / "backups").iterdir():
        backup.unlink()
    done = toto_patch("revert", "--root", patched)
    assert done.returncode == 0, done.stderr
    assert "from release 0.2.0" in done.stdout
    assert (patched / UTIL).read_bytes() == (toto_release("0.2.0") / UTIL).read_bytes()


@pytest.mark.parametrize("command", ["apply", "diff", "verify-only", "revert", "status"])
def test_a_damaged_state_file(command: str, patched: Path, toto_patch: Run) -> None:
    (patched / ".toto-patch" / "state.json").write_text('{\n  "schema_version": 1,\n  oops\n}\n')
    refused(patched, toto_patch, command, where=".toto-patch/state.json:3")


def test_a_state_file_that_points_outside(patched: Path, toto_patch: Run) -> None:
    state = patched / ".toto-patch" / "state.json"
    content = json.loads(state.read_text())
    content["files"][0]["path"] = "../outside.py"
    state.write_text(json.dumps(content))
    refused(patched, toto_patch, "revert", where=".toto-patch/state.json")


@pytest.mark.parametrize("command", ["apply", "diff", "verify-only", "revert", "status"])
def test_a_missing_state_file_with_backups(command: str, patched: Path, toto_patch: Run) -> None:
    (patched / ".toto-patch" / "state.json").unlink()
    refused(patched, toto_patch, command, where=".toto-patch/state.json")


@pytest.mark.parametrize("options", [[], ["--dry-run"], ["--check"]], ids=" ".join)
def test_a_symlinked_target(options: list[str], toto: Path, tmp_path: Path, toto_patch: Run) -> None:
    outside = tmp_path / "outside.py"
    outside.write_bytes((toto / UTIL).read_bytes())
    (toto / UTIL).unlink()
    (toto / UTIL).symlink_to(outside)
    before = outside.read_bytes()
    refused(toto, toto_patch, "apply", *options, where=UTIL)
    assert outside.read_bytes() == before


def test_a_read_only_tree(toto: Path, toto_patch: Run) -> None:
    before = snapshot(toto)
    for folder in [toto, *(path for path in toto.rglob("*") if path.is_dir())]:
        folder.chmod(0o555)
    try:
        done = toto_patch("apply", "--root", toto)
        looked = toto_patch("diff", "--root", toto)
    finally:
        for folder in [toto, *(path for path in toto.rglob("*") if path.is_dir())]:
            folder.chmod(0o755)
    assert looked.returncode == 0
    assert done.returncode == 4, done.stderr
    assert snapshot(toto) == before


def test_a_pyproject_that_is_not_toml(tmp_path: Path, toto_patch: Run) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.toto-patch\nroot = 1\n")
    done = toto_patch("status")
    assert done.returncode == 2 and "pyproject.toml" in done.stderr
