"""Warm-up, judgement and monitor on real Toto, compiled, with both profiles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import python


@pytest.mark.parametrize("profile", ["graph-breaks", "full-graph"])
def test_a_service_warms_up_serves_and_notices(patched: Callable[..., Path], profile: str, tmp_path: Path) -> None:
    found = python("-m", "tests.runtime.serving", patched(profile), tmp_path, cwd=tmp_path)
    effect, health = found["effect"], found["health"]
    assert found["seconds"] > 0 and effect["recompilations"] == 0 and effect["sampling_verdict"] == "as expected"
    assert effect["effective"] and effect["num_runs"] == 5 and effect["mae_mean"] > 0
    assert health["healthy"] and health["recompilations"] == 0 and health["num_records"] == 6
    cold = found["cold"]
    assert cold["recompilations"] > 0 and not cold["healthy"] and "after the warm-up" in cold["reasons"][-1]
    assert found["broken"][0].startswith("warm-up run 1 of 1 failed (the given context -> 24, 32 samples)")
