"""What an accuracy document says of children that failed or gave nonsense; and how the command is recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toto_patcher.equivalence.children import Outcome
from toto_patcher.errors import CheckpointError, RefusedError
from toto_patcher.evidence import accuracy_document, accuracy_run
from toto_patcher.evidence.accuracy import Request
from toto_patcher.evidence.accuracy_text import summary
from toto_patcher.evidence.accuracy_windows import cut
from toto_patcher.evidence.series import Series

WALK = np.random.default_rng(0).standard_normal(300).cumsum().astype(np.float32) + 50
CUT = cut(Series("walk", WALK, 1, 60, "made here", "other"), 8, 100, 4)
SAMPLES = np.random.default_rng(1).normal(50, 3, size=(4, 6, 16, 8)).astype(np.float32)


def judged(candidate: Outcome) -> dict[str, Any]:
    return accuracy_document.judged(CUT, {"upstream": Outcome({}, {"walk": SAMPLES}), "candidate": candidate})


def test_forecasts_that_are_not_finite_fail_and_are_named() -> None:
    broken = SAMPLES.copy()
    broken[2, 1, 5, 7] = np.nan
    found = judged(Outcome({}, {"walk": broken}))
    assert found["verdict"] == "not-finite" and found["failures"] == ["forecasts that are not finite: walk"]
    assert found["findings"] == []


def test_a_tree_that_cannot_forecast_fails_with_its_error() -> None:
    found = judged(Outcome({}, {}, failure="Traceback ...\nTypeError: no such thing\n"))
    assert found["verdict"] == "failed"
    assert found["failures"] == ["the patched tree cannot forecast: TypeError: no such thing"]


def test_samples_of_the_same_seed_are_compared_with_each_other() -> None:
    moved = SAMPLES.copy()
    moved[0, 0, 0, 0] += SAMPLES[0, :, :, 0].std() / 2
    found = judged(Outcome({}, {"walk": moved}))
    (same,) = found["same_seed"]
    assert same["largest"] == pytest.approx(0.5, rel=1e-3) and same["equal"] == 1 - 1 / SAMPLES.size
    assert found["verdict"] == "inside" and len(found["errors"]) == 4
    assert found["errors"][0]["upstream"]["crps"][1:] == found["errors"][0]["candidate"]["crps"][1:]


def test_a_loss_is_told_with_its_measure_size_and_bound() -> None:
    found = judged(Outcome({}, {"walk": SAMPLES + 4}))
    assert found["verdict"] == "outside"
    (told,) = [failure for failure in found["failures"] if failure.startswith("crps overall")]
    (finding,) = [one for one in found["findings"] if (one["scope"], one["measure"]) == ("overall", "crps")]
    assert f"{finding['delta']['value']:+.2%}" in told or "single windows differ" in told


def test_without_upstream_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    for outcome, kind, message in (
        (Outcome({}, {}, failure="x\nImportError: gluonts"), RefusedError, "cannot forecast.*ImportError: gluonts"),
        (Outcome({}, {}, failure="x", unusable_checkpoint="is damaged"), CheckpointError, "is damaged"),
        (Outcome({}, {"walk": SAMPLES * np.inf}), RefusedError, "walk are not finite"),
    ):
        with pytest.raises(kind, match=message):
            accuracy_run._require_upstream(outcome, tmp_path)


def test_the_summary_says_when_compiling_failed_and_what_was_left_out() -> None:
    document = {
        **judged(Outcome({}, {"walk": SAMPLES})),
        "series": accuracy_document.series(CUT),
        "settings": {"seeds": [1], "samples": 16, "horizon": 8, "device": "cpu", "compile_mode": "default"},
        "tree": {"profile": "full-graph", "compiled": False, "mode": None, "edited": ["toto/model/util.py"]},
        "left_out": [{"name": "nile", "why": "nile has 100 values: too short"}],
    }
    text = "\n".join(summary(document))
    assert "profile full-graph eager, because compiling failed, on cpu" in text
    assert "Same seed, same sample: 100.0% are equal" in text
    assert "Edited since it was patched: toto/model/util.py." in text and "Left out: nile has 100 values" in text
    assert "as accurate as upstream is with itself (p = 1)" in text


def test_the_command_that_is_recorded_names_no_folder_and_no_default(tmp_path: Path) -> None:
    request = Request(
        series=("co2", "nile"),
        csv=Path("/home/me/a.csv"),
        checkpoint=str(tmp_path),
        quick=True,
        file=Path("/var/raw.json"),
    )
    assert request.command() == (
        f"toto-patch accuracy --series co2 --series nile --csv a.csv --checkpoint {tmp_path.name} --quick "
        "--json raw.json"
    )
    assert Request(checkpoint="Datadog/Toto").command() == "toto-patch accuracy --checkpoint Datadog/Toto"
