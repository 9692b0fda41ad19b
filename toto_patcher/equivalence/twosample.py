"""Two-sample tests on forecasts: do two sets of trajectories follow the same joint distribution? Knows numpy alone.

A set has the shape (rows, steps, samples): a row is a variate of a series, a sample one trajectory of all of them.
Every point is replaced by its rank among both sets, so neither scale nor heavy tails matter, and under the null
hypothesis the sets are exchangeable whatever the distribution is. What is compared:

- every point's distribution, by Kolmogorov and Smirnov's distance;
- means over the samples of functions of a trajectory: its level, spread and tails, and products that tell whether
  points, variates, series and patches hang together as they should. A decoder that mixes up samples between two patches
  keeps every single point's distribution and is found here;
- within the second set alone: samples must not repeat nor depend on each other.

Each test gives its statistic as a multiple of the critical value at ``LEVEL``, corrected for the number of tests.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
LEVEL = 1e-7
"""Chance that sets from one distribution fail any of the tests."""
TAIL = 0.98
# Spreads below this, in ranks, are points that are known and do not vary.
_CONSTANT = 1e-9


@dataclass(frozen=True)
class Finding:
    """The worst of all tests.

    Attributes:
        value: statistic over critical value; above 1 the sets differ.
        test: which.
    """

    value: float
    test: str


def compare(first: Array, second: Array, patch: int) -> Finding:
    """The worst of all tests between two sets (rows, steps, samples).

    Args:
        first: what is right.
        second: what is to be proved.
        patch: steps in a patch.
    """
    if first.shape[:2] != second.shape[:2]:
        return Finding(math.inf, f"shape {second.shape} where {first.shape} is expected")
    if not np.isfinite(second).all():
        return Finding(math.inf, "values that are not finite")
    known = np.ptp(first, -1) == 0
    if not np.allclose(second[known], first[known][:, :1], rtol=1e-6, atol=0):
        return Finding(math.inf, "points that are known")
    repeats = _repeats(second) - _repeats(first)
    if repeats > 0.01:
        return Finding(math.inf, f"{repeats:.0%} of the samples are drawn twice")
    split = first.shape[-1]
    scores = _ranks(np.concatenate((first, second), -1))
    found = [_of_points(first, second), *_of_trajectories(scores, split, patch), _of_samples(scores[..., split:])]
    return max(found, key=lambda finding: finding.value)


def _repeats(values: Array) -> float:
    """How many samples equal an earlier one, as a fraction."""
    samples = values.reshape(-1, values.shape[-1]).T
    return 1 - len(np.unique(samples, axis=0)) / len(samples)


def _ranks(values: Array) -> Array:
    """Rank of each value among its point's, between -1 and 1; equal values share their mean rank."""
    count = values.shape[-1]
    ranks = np.empty(values.shape)
    for place in np.ndindex(values.shape[:-1]):
        ordered = np.sort(values[place])
        sides = [np.searchsorted(ordered, values[place], side) for side in ("left", "right")]
        ranks[place] = (sides[0] + sides[1]) / count - 1
    return ranks


def _of_points(first: Array, second: Array) -> Finding:
    rows = first.reshape(-1, first.shape[-1]), second.reshape(-1, second.shape[-1])
    distances = [ks(a, b) for a, b in zip(*rows, strict=True)]
    size = math.sqrt(1 / first.shape[-1] + 1 / second.shape[-1])
    critical = math.sqrt(-math.log(LEVEL / len(distances) / 2) / 2) * size
    worst = int(np.argmax(distances))
    return Finding(distances[worst] / critical, f"distribution of step {worst % first.shape[1]}")


def ks(first: Array, second: Array) -> float:
    """Kolmogorov and Smirnov's distance of two samples, each of shape (samples,)."""
    first, second = np.sort(first), np.sort(second)
    points = np.concatenate([first, second])
    below = [np.searchsorted(side, points, side="right") / len(side) for side in (first, second)]
    return float(np.abs(below[0] - below[1]).max())


def _of_trajectories(scores: Array, split: int, patch: int) -> Iterator[Finding]:
    """Differences of means, against what exchanging trajectories between the sets would give."""
    functions = dict(_functions(scores, patch))
    columns = sum(len(values) for values in functions.values())
    critical = NormalDist().inv_cdf(1 - LEVEL / columns / 2)
    size = math.sqrt(1 / split + 1 / (scores.shape[-1] - split))
    for name, values in functions.items():
        spread = values.std(-1)
        gap = np.abs(values[:, split:].mean(-1) - values[:, :split].mean(-1))
        ratios = np.where(spread > _CONSTANT, gap / np.maximum(spread, _CONSTANT) / size, 0)
        yield Finding(float(ratios.max()) / critical, name)


def _functions(scores: Array, patch: int) -> Iterator[tuple[str, Array]]:
    """Functions of a trajectory, as (how many of a kind, samples), from ranks (rows, steps, samples)."""
    rows, steps, samples = scores.shape
    wide = np.abs(scores) - 0.5
    yield "level", scores.mean(1)
    yield "level of all", scores.mean((0, 1))[None]
    yield "spread", wide.mean(1)
    yield "spread of all", wide.mean((0, 1))[None]
    yield "tails", (np.abs(scores) > TAIL).mean((0, 1))[None]
    for lag in (1, 2):
        if steps > lag:
            yield f"steps {lag} apart", (scores[:, lag:] * scores[:, :-lag]).mean(1)
            yield f"spread of steps {lag} apart", (wide[:, lag:] * wide[:, :-lag]).mean(1)
    if rows > 1:
        yield "variates", (scores * np.roll(scores, 1, 0)).mean(1)
        yield "spread of variates", (wide * np.roll(wide, 1, 0)).mean(1)
    whole = steps // patch
    if whole < 2:
        return
    by_patch = scores[:, : whole * patch].reshape(rows, whole, patch, samples)
    wide = wide[:, : whole * patch].reshape(by_patch.shape)
    before, after, moved = by_patch[:, :-1], by_patch[:, 1:], wide[:, :-1]
    level, spread = after.mean(2), wide[:, 1:].mean(2)
    products = {
        "same step of the next patch": (before * after).mean(2),
        "level of the next patch": before.mean(2) * level,
        "spread of the next patch": moved.mean(2) * spread,
        "last step and next patch": before[:, :, -1] * level,
        "last step's size and next patch's spread": moved[:, :, -1] * spread,
        "first step and next patch": before[:, :, 0] * level,
    }
    if rows > 1:
        products["another variate's next patch"] = before.mean(2) * np.roll(level, 1, 0)
        products["spread of another variate's next patch"] = moved.mean(2) * np.roll(spread, 1, 0)
    for name, values in products.items():
        yield name, values.reshape(-1, samples)


def _of_samples(scores: Array) -> Finding:
    """Whether samples a fixed distance apart resemble each other, for every distance."""
    count = scores.shape[-1]
    points = scores.reshape(-1, count)
    products = points.T @ points / len(points)
    apart = ~np.eye(count, dtype=bool)
    spread = float(products[apart].std())
    if spread < _CONSTANT:
        return Finding(0.0, "samples apart")
    index = np.arange(count)
    distance = (index[None] - index[:, None]) % count
    means = np.bincount(distance.ravel(), products.ravel()) / count
    pairs = np.where(2 * np.arange(count) == count, count / 2, count)
    ratios = np.abs(means - products[apart].mean())[1:] / spread * np.sqrt(pairs[1:])
    worst = int(np.argmax(ratios))
    critical = NormalDist().inv_cdf(1 - LEVEL / count / 2)
    return Finding(float(ratios[worst]) / critical, f"samples {worst + 1} apart")
