"""The embedded model and how it is made: reproducible training, what was written, and that it has learned something."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toto_patcher.equivalence.models import BASE
from toto_patcher.evidence.training import artefact, batches, families, heldout
from toto_patcher.runtime.checkpoints import EMBEDDED

DRIVER = Path(__file__).with_name("training_driver.py")
REPOSITORY = Path(__file__).resolve().parents[2]
RECORD = json.loads((EMBEDDED / artefact.RECORD_FILE).read_text())


def in_child(tree: Path, *series: str) -> Any:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, DRIVER, tree, *series]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_seed_makes_the_same_weights_again_and_another_makes_others(toto_release: Callable[[str], Path]) -> None:
    (first, losses), (again, _), (other, _) = in_child(toto_release("0.2.0"))
    assert first == again != other
    assert np.mean(losses[-8:]) < np.mean(losses[:4]), "and the loss falls"


@pytest.mark.parametrize(("version", "series"), [("0.1.3", "elnino"), ("0.1.4", "elnino"), ("0.2.0", "taylor elnino")])
def test_every_release_loads_the_model_and_its_forecasts_beat_the_naive_ones(
    toto_release: Callable[[str], Path], version: str, series: str
) -> None:
    for name, score in in_child(toto_release(version), *series.split()).items():
        assert score["mase"] < 0.95 * min(score["mase_naive"], score["mase_seasonal"]), name
        assert score["crps"] < 0.9 * min(score["crps_naive"], score["crps_seasonal"]), name
        assert 0.6 < score["covered"] < 0.95, name


def test_the_configuration_is_spelt_as_the_published_one() -> None:
    config = json.loads((EMBEDDED / "config.json").read_text())
    published = BASE.config()
    assert config.keys() == published.keys()
    for name in ("scaler_cls", "output_distribution_classes", "stabilize_with_global", "scale_factor_exponent"):
        assert config[name] == published[name]
    assert config["spacewise_every_n_layers"] == config["num_layers"] and not config["spacewise_first"]
    assert config == artefact.config() == RECORD["config"]


def test_the_weights_are_small_enough_to_travel() -> None:
    size = (EMBEDDED / "model.safetensors").stat().st_size
    assert 4 * RECORD["parameters"] < size < artefact.LARGEST


def test_the_card_says_what_the_record_says() -> None:
    assert (EMBEDDED / artefact.CARD_FILE).read_text() == artefact.card(RECORD)


def test_a_block_of_batches_depends_on_its_number_and_seed_alone() -> None:
    layouts = (batches.Layout(0.5, 4, 1, 128), batches.Layout(0.5, 4, 4, 96))
    seen = set()
    for seed, number in ((0, 0), (0, 1), (0, 2), (1, 0)):
        made, again = (batches.block(seed, number, 32, layouts) for _ in range(2))
        assert len(made) == batches.BLOCK
        for one, same in zip(made, again, strict=True):
            assert np.isfinite(one.series).all() and not one.series[~one.known].any()
            assert one.known[..., -64:].all(), "what is asked for is known"
            assert (one.series == same.series).all() and (one.group == same.group).all()
            seen.add(one.series.tobytes())
    assert len(seen) == 4 * batches.BLOCK


@pytest.mark.parametrize("family", [make for _, make in families.FAMILIES], ids=lambda make: make.__name__)
def test_every_family_is_finite_and_not_all_the_same(family: Callable[..., np.ndarray]) -> None:
    made = family(np.random.default_rng(0), 64, 200)
    assert made.shape == (64, 200) and np.isfinite(made).all()
    assert np.unique(made.std(axis=1).round(6)).size > 20


def test_the_seasonal_baseline_repeats_a_season_and_spreads_by_its_past_errors() -> None:
    history = np.tile(np.array([1, 2, 3], dtype=np.float32), 20)
    point, samples = heldout.baseline(history, 3, 5)
    assert point.tolist() == [1, 2, 3, 1, 2]
    assert (samples == point).all(), "it was never wrong"
    point, samples = heldout.baseline(history, 1, 2)
    assert point.tolist() == [3, 3] and {tuple(row) for row in samples} == {(4, 5), (4, 2), (1, 2)}
