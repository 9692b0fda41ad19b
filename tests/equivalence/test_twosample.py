"""The two-sample tests on their own: what they let through and what they do not, on made trajectories."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from toto_patcher.equivalence import twosample
from toto_patcher.equivalence.twosample import Array

PATCH, ROWS, PATCHES, SAMPLES = 8, 2, 3, 400


def drawn(seed: int, samples: int = SAMPLES) -> Array:
    """Heavy-tailed trajectories (rows, steps, samples) whose patches begin where the last one ended."""
    random = np.random.default_rng(seed)
    noise = random.standard_t(4, (PATCHES, ROWS, PATCH, samples))
    patches: list[Array] = []
    for step in noise:
        patches.append(step + (0.8 * patches[-1].mean(1, keepdims=True) * 3 if patches else 0))
    return np.concatenate(patches, 1) * np.array([1.0, 1e6])[:, None, None]


def mixed_up(values: Array) -> Array:
    """Every patch from another sample than the one before: each point is right, no trajectory is."""
    parts = np.split(values, PATCHES, 1)
    return np.concatenate([part.copy() if i == 0 else np.roll(part, i, -1) for i, part in enumerate(parts)], 1)


def of_one_variate(values: Array) -> Array:
    return np.stack([values[0], values[0] * 1e6])


def repeated(values: Array) -> Array:
    return np.concatenate([values[..., : SAMPLES // 2]] * 2, -1)


def with_a_repeated_patch(values: Array) -> Array:
    values[:, :PATCH, SAMPLES // 2 :] = values[:, :PATCH, : SAMPLES // 2]
    return values


WRONG: dict[str, Callable[[Array], Array]] = {
    "shifted": lambda values: values + 0.5 * np.array([1, 1e6])[:, None, None],
    "wider": lambda values: values * 1.2,
    "no tails": lambda values: np.clip(values, -2.5 * np.array([1, 1e6])[:, None, None], np.inf),
    "one point": lambda values: np.where(np.arange(values.shape[1])[None, :, None] == 5, values * 3, values),
    "samples mixed up": mixed_up,
    "variates alike": of_one_variate,
    "samples repeated": repeated,
    "first patch repeated": with_a_repeated_patch,
    "not finite": lambda values: np.where(values > np.quantile(values, 0.999), np.nan, values),
}


@pytest.mark.parametrize("seed", range(20))
def test_samples_of_one_distribution_pass(seed: int) -> None:
    first = np.concatenate((drawn(3 * seed + 100), drawn(3 * seed + 101)), -1)
    assert 0 < twosample.compare(first, drawn(3 * seed + 102), PATCH).value < 1


@pytest.mark.parametrize("wrong", WRONG)
def test_samples_of_another_distribution_fail(wrong: str) -> None:
    first = np.concatenate((drawn(1), drawn(2)), -1)
    assert twosample.compare(first, WRONG[wrong](drawn(3)), PATCH).value > 1


def test_samples_mixed_up_keep_every_points_distribution_and_are_found_by_the_next_patch() -> None:
    first = np.concatenate((drawn(1), drawn(2)), -1)
    right, wrong = drawn(3), mixed_up(drawn(3))
    assert np.array_equal(np.sort(right, -1), np.sort(wrong, -1))
    assert "next patch" in twosample.compare(first, wrong, PATCH).test


def test_known_points_must_be_equal() -> None:
    first, second = drawn(1), drawn(2)
    first[0], second[0] = 3.0, 3.0
    assert twosample.compare(first, second, PATCH).value < 1
    second[0, 4] = 3.1
    assert twosample.compare(first, second, PATCH).value == np.inf


def test_other_horizons_fail() -> None:
    assert twosample.compare(drawn(1), drawn(2)[:, 1:], PATCH).value == np.inf
