"""The pipeline on real Toto 0.2.0, unpatched and with both profiles: a process for each tree, a test for each check."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from .conftest import python
from .pipeline_checks import CHECKS, ON

TREES = {"unpatched": None, "graph-breaks": "graph-breaks", "full-graph": "full-graph"}
CASES = [(tree, name) for tree in TREES for name in ("", *CHECKS) if tree in ON.get(name, TREES)]


@pytest.fixture(scope="module")
def outcomes(patched: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """What each check found on a tree; run once."""

    @cache
    def of(tree: str) -> Any:
        folder = tmp_path_factory.mktemp("work")
        arguments = ("-m", "tests.runtime.pipeline_checks", tree, patched(TREES[tree]), folder)
        return python(*arguments, cwd=folder, TORCHINDUCTOR_CACHE_DIR=str(folder / "cache"))

    return of


@pytest.mark.parametrize(("tree", "name"), CASES)
def test_pipeline(outcomes: Callable[[str], Any], tree: str, name: str) -> None:
    found = outcomes(tree)
    if not name:
        assert found["profile"] == TREES[tree]
    else:
        assert found["outcomes"][name] is None, found["outcomes"][name]
