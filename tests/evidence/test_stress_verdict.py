"""Each limit broken alone fails the run and is named; the sentence is made of the same list."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.evidence.stress_rows import delta, document, row, rows
from toto_patcher.errors import UsageError
from toto_patcher.evidence import stress_limits, stress_report
from toto_patcher.evidence.stress_limits import Limits
from toto_patcher.evidence.stress_verdict import judge, sentence


def test_without_a_broken_limit_it_passes() -> None:
    found = judge(rows(), Limits())
    assert found == [] and sentence(found, rows()) == "PASSED: no limit is broken (patched, eager; patched, default)."


BROKEN: list[tuple[str, dict[str, Any], str]] = [
    ("runs", row(failure="RuntimeError: no"), "RuntimeError: no"),
    ("finite", row(bad_values=3), "3 values are NaN"),
    ("finite", row(bad_values=None), "an unknown number"),
    ("compiled", row(compiled=False), "runs eagerly"),
    ("compiled", row(compiler={"graphs": 0}), "runs eagerly"),
    ("mae_delta", row(accuracy=[delta(delta=0.06)]), "+6.0% (overall)"),
    ("mae_delta", row(accuracy=[delta(delta=-0.06)]), "-6.0%"),
    ("mae_delta", row(accuracy=[delta("co2", delta=0.3), delta()]), "+30.0% (co2)"),
    ("mae_delta", row(accuracy=[delta(delta=math.nan)]), "nan"),
    ("mae_delta", row(accuracy=[delta(delta=math.inf)]), "+inf"),
    ("mae_delta", row(accuracy=[delta(spread=0.06)]), "nothing is known"),
    ("mae_delta", row(accuracy=[]), "was not compared"),
    ("recompilations", row(recompilations=1), "1 compilations after"),
    ("recompilations", row(recompilations=None), "unknown number"),
    ("recompile_limit_hits", row(compiler={"limit_hits": 1}), "torch's own limit"),
    ("cudagraph_skips", row(compiler={"cudagraph_skips": 2}), "2 CUDA graphs"),
    ("min_speedup", row(speedup={"value": 0.9, "low": 0.8, "high": 0.99}), "0.90 [0.80, 0.99]"),
    ("min_speedup", row(speedup=None), "speed was not compared"),
    ("min_speedup_eager", row(mode="eager", speedup={"value": 0.8, "low": 0.7, "high": 0.89}), "0.9 is the least"),
]


@pytest.mark.parametrize(("limit", "planted", "told"), BROKEN)
def test_each_limit_broken_alone_fails_and_is_named(limit: str, planted: dict[str, Any], told: str) -> None:
    found = judge(rows(planted), Limits())
    assert [one.limit for one in found] == [limit] and found[0].row == planted["name"] and told in found[0].told
    assert sentence(found, rows(planted)) == f"FAILED: 1 broken limit ({limit})."


def test_noise_alone_neither_fails_nor_is_slow() -> None:
    noisy = row(
        accuracy=[delta("co2", delta=0.07, spread=0.08), delta(delta=-0.04, spread=0.045)],
        speedup={"value": 0.9, "low": 0.7, "high": 1.01},
    )
    assert judge(rows(noisy), Limits()) == []


def test_upstream_is_judged_by_running_and_by_being_finite_alone() -> None:
    upstream = row("upstream", "eager", bad_values=2, recompilations=5, compiled=False)
    assert [one.limit for one in judge([upstream, row()], Limits())] == ["finite"]
    assert [one.limit for one in judge([row("upstream", "eager")], Limits())] == ["runs"]


def test_skips_are_judged_on_a_gpu_only_and_eager_rows_compile_nothing() -> None:
    assert judge(rows(row(device="cpu", compiler={"cudagraph_skips": 9})), Limits()) == []
    assert judge(rows(row(mode="eager", recompilations=3, compiler={"graphs": 0, "limit_hits": 3})), Limits()) == []


def test_limits_are_read_from_pyproject_and_change_the_verdict(tmp_path: Path) -> None:
    assert stress_limits.configured(tmp_path) == Limits()
    (tmp_path / "pyproject.toml").write_text("[tool.toto-patch.stress]\nrecompilations = 2\nmin_speedup = 5\n")
    (tmp_path / "below").mkdir()
    limits = stress_limits.configured(tmp_path / "below")
    assert limits == Limits(recompilations=2, min_speedup=5)
    assert [one.limit for one in judge(rows(row(recompilations=2)), limits)] == ["min_speedup"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("mae_detla = 0.1\nfoo = 1", "'foo', 'mae_detla'"),
        ('mae_delta = "5%"', "mae_delta of [tool.toto-patch.stress] is '5%'"),
        ("recompilations = 1.5", "must be a whole number"),
        ("recompilations = true", "must be a whole number"),
        ("mae_delta = -1", "at least 0"),
        ("mae_delta = nan", "at least 0"),
    ],
)
def test_limits_that_are_none_are_refused_by_name(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(f"[tool.toto-patch.stress]\n{text}\n")
    with pytest.raises(UsageError) as refusal:
        stress_limits.configured(tmp_path)
    assert told in refusal.value.message and "mae_delta, recompilations" in str(refusal.value.hint)
    (tmp_path / "pyproject.toml").write_text("[tool.toto-patch]\nstress = 1\n")
    with pytest.raises(UsageError, match="`stress` is not a table"):
        stress_limits.configured(tmp_path)


def complete(*patched: dict[str, Any], **changes: Any) -> dict[str, Any]:
    found = document(*patched, **changes)
    broken = judge(found["rows"], Limits())
    told = [{"limit": one.limit, "row": one.row, "told": one.told} for one in broken]
    return {**found, "passed": not broken, "verdict": sentence(broken, found["rows"]), "broken": told}


def test_page_and_terminal_say_the_verdict_and_every_broken_limit(tmp_path: Path) -> None:
    planted = row(recompilations=4, bad_values=1, accuracy=[delta(delta=math.inf)])
    failed = complete(planted)
    files = stress_report.write(failed, tmp_path, "page.md", "raw.json")
    page, lines = files[0].read_text(), list(stress_report.summary(failed))
    for text in (page, "\n".join(lines)):
        assert "FAILED: 2 broken limits (finite, recompilations)" in text and "PASSED" not in text
        assert "4 compilations after the warm-up" in text and "1 values are NaN" in text
    assert json.loads(files[1].read_text())["rows"][1]["accuracy"][0]["delta"] is None
    assert {file.name for file in files[2:]} == {"compile_stress_latency.png", "compile_stress_accuracy.png"}
    assert f"]({files[2].name})" in page and "WARNING" not in page


def test_drift_is_said_aloud_and_rows_that_do_not_run_have_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(stress_report.importlib.util, "find_spec", lambda name: None)
    failed = row(failure="no", ms=[], compiler={}, accuracy=[], memory=None, warm_up={}, speedup=None)
    told = complete(
        failed,
        tree={"profile": None, "release": None, "drifted": ["toto/model/util.py"], "edited": ["toto/model/rope.py"]},
    )
    (page, _) = stress_report.write(told, tmp_path, "page.md", "raw.json")
    assert "WARNING: toto/model/util.py is not what toto-patch wrote" in page.read_text()
    assert "WARNING: toto/model/rope.py is not the release's" in page.read_text()
    assert next(stress_report.summary(told)).startswith("WARNING") and stress_report.NO_PLOTS in page.read_text()
    assert "| patched, default | does not run |" in page.read_text()
