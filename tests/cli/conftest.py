"""Fixtures: the command, a writable tree, the same tree patched."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_driver import Run, environment, git, run, run_forked
from fork_server import ForkServer


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    server = ForkServer(environment())
    yield server
    server.close()


@pytest.fixture
def toto_patch(tmp_path: Path, request: pytest.FixtureRequest, fork_server: ForkServer) -> Run:
    """``toto_patch("apply", "--root", root)``: runs the command in ``tmp_path`` and returns the finished process.

    A module with ``STARTS_PYTHON = True`` gets an interpreter of its own for each run.
    """
    if getattr(request.module, "STARTS_PYTHON", False):
        return functools.partial(run, cwd=tmp_path)
    return functools.partial(run_forked, fork_server, cwd=tmp_path)


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


@pytest.fixture(scope="session")
def checkpoint(toto_release: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the tiny shape, made in a process of its own: it imports a Toto."""
    folder = tmp_path_factory.mktemp("checkpoint")
    code = """
import sys, torch
from pathlib import Path
from toto_patcher.equivalence.models import TINY, write_checkpoint
from toto_patcher.equivalence.tree import load
with torch.device("meta"):
    made = load(Path(sys.argv[1])).model(**TINY.config(), use_memory_efficient_attention=False)
write_checkpoint(TINY, {name: tuple(value.shape) for name, value in made.state_dict().items()}, Path(sys.argv[2]))
"""
    subprocess.run([sys.executable, "-B", "-c", code, str(toto_release("0.2.0")), str(folder)], check=True)
    return folder
