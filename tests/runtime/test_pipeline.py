"""The pipeline on real Toto 0.2.0, unpatched and with both profiles: a process for each tree, a test for each check."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from .conftest import python
from .pipeline_checks import CHECKS, ON

TREES = {"unpatched": None, "graph-breaks": "graph-breaks", "full-graph": "full-graph"}
CASES = [
    pytest.param(tree, name, marks=pytest.mark.xdist_group(f"pipeline-{tree}"))
    for tree in TREES
    for name in ("", *CHECKS)
    if tree in ON.get(name, TREES)
]


@pytest.fixture(scope="session")
def outcomes(
    patched: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[[str], Any]:
    """What each check found on a tree; run once, also where several workers ask."""
    parallel = hasattr(request.config, "workerinput")
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if parallel else base

    def of(tree: str) -> Any:
        stored = shared / f"pipeline-{tree}.json"
        with FileLock(stored.with_suffix(".lock")):
            if not stored.exists():
                folder = tmp_path_factory.mktemp("work")
                arguments = ("-m", "tests.runtime.pipeline_checks", tree, patched(TREES[tree]), folder)
                found = python(*arguments, cwd=folder, TORCHINDUCTOR_CACHE_DIR=str(folder / "cache"))
                stored.write_text(json.dumps(found))
        return json.loads(stored.read_text())

    return of


@pytest.mark.parametrize(("tree", "name"), CASES)
def test_pipeline(outcomes: Callable[[str], Any], tree: str, name: str) -> None:
    found = outcomes(tree)
    if not name:
        assert found["profile"] == TREES[tree]
    else:
        assert found["outcomes"][name] is None, found["outcomes"][name]
