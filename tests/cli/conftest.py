"""Fixtures: the command, a writable tree, the same tree patched."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_driver import Run, git, run


@pytest.fixture
def toto_patch(tmp_path: Path) -> Run:
    """``toto_patch("apply", "--root", root)``: runs the command in ``tmp_path`` and returns the finished process."""
    return functools.partial(run, cwd=tmp_path)


@pytest.fixture
def toto(fresh_toto: Callable[[str, Path], Path], tmp_path: Path) -> Path:
    """A writable copy of 0.2.0."""
    return fresh_toto("0.2.0", tmp_path)


@pytest.fixture
def patched(toto: Path, toto_patch: Run) -> Path:
    """The same, patched with backup."""
    done = toto_patch("apply", "--backup", "--root", toto)
    assert done.returncode == 0, done.stderr
    return toto


@pytest.fixture
def committed(toto: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tree as a git repository of its own, everything committed."""
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "Test")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "test@example.org")
    git(toto, "init", "--quiet")
    git(toto, "add", "--all")
    git(toto, "commit", "--quiet", "--message", "Original")
    return toto
