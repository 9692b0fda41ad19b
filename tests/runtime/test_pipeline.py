"""The pipeline on real Toto 0.2.0, unpatched and with both profiles: a process for each tree, a test for each check."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import python
from .pipeline_checks import CHECKS, ONCE

TREES = {"unpatched": None, "graph-breaks": "graph-breaks", "full-graph": "full-graph"}
CASES = [
    pytest.param(tree, name, marks=pytest.mark.xdist_group(f"pipeline-{tree}"))
    for tree in TREES
    for name in ("", *CHECKS)
    if name not in ONCE or tree == "full-graph"
]


@pytest.fixture(scope="session")
def outcomes(patched: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    done: dict[str, Any] = {}

    def of(tree: str) -> Any:
        if tree not in done:
            folder = tmp_path_factory.mktemp("work")
            arguments = ("-m", "tests.runtime.pipeline_checks", patched(TREES[tree]), folder)
            done[tree] = python(*arguments, cwd=folder, TORCHINDUCTOR_CACHE_DIR=str(folder / "cache"))
        return done[tree]

    return of


@pytest.mark.parametrize(("tree", "name"), CASES)
def test_pipeline(outcomes: Callable[[str], Any], tree: str, name: str) -> None:
    found = outcomes(tree)
    if not name:
        assert found["profile"] == TREES[tree]
    else:
        assert found["outcomes"][name] is None, found["outcomes"][name]
