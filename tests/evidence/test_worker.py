"""The worker on the real source, uncompiled: the hooks and the forecasts fit what Toto really has."""

from collections.abc import Callable
from pathlib import Path

import pytest

from toto_patcher.evidence.benchmark_child import Child
from toto_patcher.evidence.benchmark_plan import Job, Tree
from toto_patcher.evidence.benchmark_settings import Settings
from toto_patcher.evidence.stages import STAGES

SETTINGS = Settings(device="cpu", shape="tiny", threads=1)


def test_the_worker_forecasts_profiles_and_compares_on_a_real_release(
    toto_release: Callable[[str], Path], tmp_path: Path
) -> None:
    job = Job(Tree("upstream", toto_release("0.2.0")), "smoke", None)
    child = Child(job, SETTINGS.worker(), {}, tmp_path / "log")
    try:
        assert child.ask("hello")["software"]["parameters"] > 200_000
        assert len(child.ask("repeat", repetitions=2, untimed=1)["ms"]) == 2
        rows = child.ask("variations")["rows"]
        assert [row["what"] for row in rows] == ["horizon 8", "horizon 17", "horizon 40", "another series"]
        assert not any(row["recompilations"] or row["graphs"] for row in rows)
        profile = child.ask("profile")
        assert profile["forwards"] == 2 * 3 and all(profile["wall_ms"][stage] > 0 for stage in STAGES)
        assert "aten::addmm" in {operation["name"] for operation in profile["host_operations"]}
        child.ask("save_outputs", path=str(tmp_path / "reference.pt"))
        same = child.ask("compare_outputs", path=str(tmp_path / "reference.pt"))
        assert (same["point"], same["samples"], same["samples_close"]) == (0.0, 0.0, 1.0)
    finally:
        child.close()
    assert child.failure is None, (tmp_path / "log").read_text()


def test_a_package_toto_from_elsewhere_is_not_measured_by_mistake(
    tmp_path: Path, toto_release: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(toto_release("0.2.0")))
    child = Child(Job(Tree("upstream", tmp_path / "empty"), "smoke", None), SETTINGS.worker(), {}, tmp_path / "log")
    try:
        assert child.ask("hello") == {} and "shadows the tree under test" in (child.failure or "")
    finally:
        child.close()
