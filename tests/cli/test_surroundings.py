"""Odd surroundings: configuration of the wrong type, variables in paths, deep nesting, a deleted current folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cli_driver import UTIL, Run, document, environment, git, snapshot


@pytest.mark.parametrize(
    "text",
    [
        b"tool = 3\n",
        b'[tool]\ntoto-patch = "x"\n',
        b"[tool.toto-patch]\nroot = 3\n",
        b'[tool.toto-patch]\nroot = ["a"]\n',
        b'[tool.toto-patch]\nroot = ""\n',
        b'[tool.toto-patch]\nroot = "a\\u0000b"\n',
        b'name = "\xff"\n',
        b"[tool\n",
    ],
)
@pytest.mark.parametrize("command", ["status", "vendor"])
def test_a_configuration_of_the_wrong_type_is_2_and_named(
    command: str, text: bytes, tmp_path: Path, toto_patch: Run
) -> None:
    (tmp_path / "pyproject.toml").write_bytes(text)
    done = toto_patch(command)
    assert done.returncode == 2 and str(tmp_path / "pyproject.toml") in done.stderr and "next: " in done.stderr


def test_a_variable_in_the_name_of_a_root_is_not_expanded(committed: Path, toto_patch: Run) -> None:
    root = committed.rename(committed.parent / "$HOME-${USER}")
    env = {"HOME": "/nonexistent", "USER": "nobody"}
    assert document(toto_patch("status", "--json", "--root", root, env=env))["git"] is not None
    done = toto_patch("apply", "--no-backup", "--commit", "--root", root, env=env)
    assert done.returncode == 0, done.stderr
    before = git(root, "show", f"HEAD~:{UTIL}")
    assert toto_patch("revert", "--root", root, env=env).returncode == 0
    assert (root / UTIL).read_text() == before


@pytest.mark.parametrize(
    "deep",
    ["deep = " + "+".join(["1"] * 3000), "deep = " + "-" * 5000 + "1", "deep = a" + ".a" * 3000],
    ids=["sum", "sign", "attribute"],
)
@pytest.mark.parametrize("command", ["apply", "diff", "verify-only"])
def test_source_that_is_nested_too_deeply_is_refused(command: str, deep: str, toto: Path, toto_patch: Run) -> None:
    with (toto / UTIL).open("a") as stream:
        stream.write(f"\n{deep}\n")
    before = snapshot(toto)
    done = toto_patch(command, "--root", toto)
    assert done.returncode == 3, done.stderr
    assert UTIL in done.stderr and "nested too deeply" in done.stderr
    assert snapshot(toto) == before


def in_deleted_folder(arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    line = f"cd {folder} && rmdir {folder} && exec {sys.executable} -m toto_patcher {arguments}"
    return subprocess.run(["sh", "-c", line], env=environment(), capture_output=True, text=True, check=False)


def test_a_deleted_current_folder_matters_only_without_an_absolute_root(committed: Path, tmp_path: Path) -> None:
    for command in ("status", "diff", "apply", "status", "verify-only", "revert", "recover"):
        done = in_deleted_folder(f"{command} --root {committed}", tmp_path / "gone")
        assert (done.returncode, done.stderr) == (0, ""), command
    assert in_deleted_folder(f"apply --commit --root {committed}", tmp_path / "gone").returncode == 0
    assert in_deleted_folder("list", tmp_path / "gone").returncode == 0
    for arguments in ("status", "vendor", "status --root vendor/toto"):
        done = in_deleted_folder(arguments, tmp_path / "gone")
        assert done.returncode == 2 and "current folder no longer exists" in done.stderr


def test_the_repository_of_a_surrounding_git_hook_is_not_taken_for_the_checkouts(
    committed: Path, tmp_path: Path, toto_patch: Run
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    git(other, "commit", "--quiet", "--allow-empty", "--message", "Other")
    env = {"GIT_DIR": str(other / ".git"), "GIT_WORK_TREE": str(other), "GIT_INDEX_FILE": str(other / ".git" / "index")}
    head = git(committed, "rev-parse", "HEAD").strip()
    assert toto_patch("apply", "--root", committed, env=env).returncode == 0
    assert f'"git_commit": "{head}"' in (committed / ".toto-patch" / "state.json").read_text()
    assert document(toto_patch("status", "--json", "--root", committed, env=env))["git"]["commit"] == head


def test_optimised_python_keeps_the_reasons(tmp_path: Path, toto_patch: Run) -> None:
    plain = toto_patch("list", "--markdown").stdout
    assert toto_patch("list", "--markdown", env={"PYTHONOPTIMIZE": "2"}).stdout == plain
