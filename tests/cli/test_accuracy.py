"""The command ``accuracy`` with real trees, real series and small forecasts, each tree in a process of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_driver import Run, document, run, snapshot
from json_page import COMMON, differences, documented

from toto_patcher.command_line import accuracy as options
from toto_patcher.evidence import benchmark_run
from toto_patcher.evidence.accuracy_windows import MEASURES
from toto_patcher.evidence.series import NAMES

ATTENTION, FORECASTER = "toto/model/attention.py", "toto/inference/forecaster.py"
SMALL = ("--horizon", 8, "--context", 96, "--samples", 32, "--origins", 3, "--seeds", 6)
BIAS = """

_unbiased = TotoForecaster.forecast

def _biased(self, *arguments, **options):
    found = _unbiased(self, *arguments, **options)
    spread = found.samples.std(dim=-1, keepdim=True)
    return type(found)(mean=found.mean, samples=found.samples + 1.5 * spread)

TotoForecaster.forecast = _biased
"""
DAMPED = """

_undamped = TimeWiseMultiheadAttention.forward

def _damped(self, *arguments, **options):
    return _undamped(self, *arguments, **options) * 0.5

TimeWiseMultiheadAttention.forward = _damped
"""


def plant(file: Path, fault: str) -> None:
    """A fault in a file that the patches changed; the others are upstream's as well."""
    file.write_text(file.read_text() + fault)


def test_graph_breaks_is_inside_and_a_loss_planted_in_it_is_5_and_named(
    patched: Path, toto_patch: Run, checkpoint: Path, tmp_path: Path
) -> None:
    before = snapshot(patched)
    ask = ("accuracy", *SMALL, "--series", "co2", "--series", "elnino", "--checkpoint", checkpoint, "--quick")
    done = toto_patch(*ask, "--json", tmp_path / "raw.json", "--root", patched)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "as accurate as upstream is with itself" in done.stdout
    assert "100.0% are equal" in done.stdout and "Written: raw.json" in done.stdout
    raw = json.loads((tmp_path / "raw.json").read_text())
    assert raw["verdict"] == "inside" and raw["failures"] == [] and raw["tree"]["profile"] == "graph-breaks"
    assert [one["name"] for one in raw["series"]] == ["co2", "elnino"] and len(raw["errors"]) == 6
    assert max(same["largest"] for same in raw["same_seed"]) < 1e-3
    assert raw["settings"]["checkpoint"]["name"] == checkpoint.name and raw["tree"]["edited"] == []
    assert str(tmp_path) not in json.dumps(raw) and str(checkpoint.parent) not in json.dumps(raw)
    assert snapshot(patched) == before

    plant(patched / ATTENTION, DAMPED)
    printed = toto_patch(*ask, "--json", "--root", patched)
    assert printed.returncode == 5, printed.stderr
    found = document(printed)
    pages = documented()
    assert differences(found, pages[COMMON] | pages["accuracy"]) == []
    lost = found["document"]
    assert differences(lost, pages["The raw document of accuracy"]) == []
    assert lost["verdict"] == "outside" and lost["p_value"] <= 1e-4
    assert lost["tree"]["edited"] == [ATTENTION] and any("overall" in failure for failure in lost["failures"])


def test_full_graph_is_inside_on_a_csv_until_its_samples_are_biased(
    toto: Path, toto_patch: Run, checkpoint: Path, tmp_path: Path
) -> None:
    assert toto_patch("apply", "--profile", "full-graph", "--root", toto).returncode == 0
    steps = [f"{day},{100 + day % 7 + day / 50:.3f}" for day in range(400)]
    (tmp_path / "prices.csv").write_text("\n".join(["Day,Price", *steps]))
    ask = ("--csv", "prices.csv", "--column", "price", "--season", 7, "--compile-mode", "eager")
    done = toto_patch("accuracy", *SMALL, *ask, "--checkpoint", checkpoint, "--root", toto, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = document(done)["document"]
    assert found["verdict"] == "inside" and found["tree"]["compiled"] is False
    assert found["same_seed"][0]["equal"] < 0.5
    assert [(one["source"], one["season"]) for one in found["series"]] == [("prices.csv, column price", 7)]
    assert {one["measure"] for one in found["findings"]} == set(MEASURES)

    plant(toto / FORECASTER, BIAS)
    done = toto_patch("accuracy", *SMALL, *ask, "--checkpoint", checkpoint, "--root", toto)
    assert done.returncode == 5, done.stdout + done.stderr
    assert "FAIL mae of prices: " in done.stdout and "outside (mean" in done.stdout
    assert f"Edited since it was patched: {FORECASTER}." in done.stdout


def test_a_tree_that_is_not_patched_is_1_with_advice(toto: Path, toto_patch: Run) -> None:
    done = toto_patch("accuracy", "--root", toto)
    assert done.returncode == 1 and "toto-patch apply" in done.stdout
    assert document(toto_patch("accuracy", "--root", toto, "--json"))["document"]["verdict"] == "not-patched"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--csv", "none.csv"), "none.csv: the CSV file cannot be read"),
        (("--csv", "a.csv"), "there is no column close; there are: day, price"),
        (("--csv", "a.csv", "--column", "price"), "a has 2 values: too short"),
        (("--csv", "a.csv", "--series", "nile"), "exclude each other"),
        (("--series", "nile"), "nile has 100 values: too short"),
        (("--series", "gold"), "gold"),
        (("--series", "co2", "--origins", 1, "--seeds", 3), "1 windows under 3 seeds are too few"),
        (("--checkpoint", "nowhere"), "there is no folder nowhere"),
        (("--checkpoint", "."), "config.json: is missing"),
        (("--json", "nowhere/raw.json"), "no folder"),
        (("--horizon", 0), "--horizon"),
        (("--device", "cuda"), "--device cpu"),
    ],
)
def test_what_cannot_be_compared_is_a_usage_error_with_a_hint(
    arguments: tuple[object, ...], told: str, patched_once: Path, tmp_path: Path, checkpoint: Path
) -> None:
    import torch

    if "cuda" in arguments and torch.cuda.is_available():
        return  # then it can be compared
    (tmp_path / "a.csv").write_text("day,price\n1,2\n2,3\n")
    given = () if "--checkpoint" in arguments else ("--checkpoint", checkpoint)
    done = run("accuracy", *arguments, *given, "--root", patched_once, cwd=tmp_path)
    assert done.returncode == 2 and told in done.stderr and "next:" in done.stderr and "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def patched_once(fresh_toto: Callable[[str, Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One patched tree for the tests that stop before they forecast."""
    root = fresh_toto("0.2.0", tmp_path_factory.mktemp("tree"))
    assert run("apply", "--root", root, cwd=root).returncode == 0
    return root


def test_the_options_offer_what_there_is_and_runs_are_recorded_like_benchmarks() -> None:
    assert options.SERIES == NAMES
    assert "system" in benchmark_run.machine()
