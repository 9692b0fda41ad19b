"""The yardstick of a stress run: the original's own samples."""

from __future__ import annotations

import math

import numpy as np
import pytest

from toto_patcher.evidence.stress_accuracy import Delta, deltas, overall_spread

SERIES = ("a", "a", "b", "b")
MEANS = np.array([1.0, 2.0, 100.0, 300.0])


def errors(seed: int, seeds: int = 4, scale: float = 1.0, noise: float = 0.05) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    return {"mae": scale * MEANS[:, None] * (1 + noise * draw.standard_normal((4, seeds)))}


def overall(found: list[Delta]) -> Delta:
    return next(one for one in found if one.scope == "overall")


def test_deltas_are_shares_of_the_originals_error_and_series_count_alike() -> None:
    found = deltas(errors(1, noise=0), {"mae": MEANS[:, None] * np.array([[1.5], [1.5], [1.0], [1.0]])}, SERIES)
    assert [(one.scope, round(one.delta, 9)) for one in found] == [("a", 0.5), ("b", 0.0), ("overall", 0.25)]
    assert found[0].upstream == 1.5 and found[0].measured == 2.25 and math.isnan(found[2].upstream)


def test_the_original_against_itself_is_within_its_spread_nearly_always() -> None:
    scores = []
    for seed in range(500):
        found = deltas(errors(2 * seed), errors(2 * seed + 1), SERIES)
        scores += [abs(one.delta) / one.spread for one in found]
    assert np.mean(np.array(scores) > 1) < 0.01
    assert np.std(scores[2::3]) > 0.1, "nor is the spread so wide that nothing could be outside"


def test_a_loss_is_outside_and_more_seeds_make_the_spread_smaller() -> None:
    found = overall(deltas(errors(1), errors(2, scale=1.2), SERIES))
    assert found.delta == pytest.approx(0.2, abs=0.07) and found.delta > found.spread
    few, many = (overall_spread(errors(3, seeds), "mae", SERIES) for seeds in (4, 64))
    assert many == pytest.approx(few / 4, rel=0.4)


def test_the_rows_own_spread_is_no_excuse_and_seeds_that_agree_by_chance_are_no_proof() -> None:
    wild = errors(2, noise=5.0)
    assert overall(deltas(errors(1), wild, SERIES)).spread == overall(deltas(errors(1), errors(2), SERIES)).spread
    calm = errors(1)
    calm["mae"][0] = 1.0
    assert deltas(calm, calm, SERIES)[0].spread > 0.02


def test_an_error_of_nothing_is_no_division_by_zero() -> None:
    nothing, some = {"mae": np.zeros((4, 3))}, {"mae": np.ones((4, 3))}
    assert overall(deltas(nothing, nothing, SERIES)).delta == 0.0
    assert overall(deltas(nothing, some, SERIES)).delta == math.inf
