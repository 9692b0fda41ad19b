"""Do forecasts of the same thing differ as much as independent samples must, and no more?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

TAIL = 0.01
"""Samples beyond this quantile of a point, and beyond the opposite one, count as if they were there: Student-Ts have
tails so heavy that a few samples would decide."""
_Z = 3.29
"""Normal quantile of the bounds: right samples are outside them once in a thousand times."""


@dataclass(frozen=True)
class Sampling:
    """How much forecasts differ from run to run.

    Attributes:
        ratio: standard deviation of the samples' mean between runs over sample std / sqrt(samples).
        bounds: between which it lies with independent samples, 999 times of 1,000.
        verdict: ``as expected``, ``too wide`` or ``too narrow``.
        reason: what that means, in words; empty as expected.
    """

    ratio: float
    bounds: tuple[float, float]
    verdict: str
    reason: str


def judge_sampling(runs: npt.NDArray[np.float64]) -> Sampling:
    """Judges forecasts of shape (runs, samples, points), at least two runs of two samples."""
    import numpy as np

    low, high = np.quantile(runs, [TAIL, 1 - TAIL], axis=(0, 1))
    held = np.clip(runs, low, high)
    # Between runs and within them, each point in its own scale so that none outweighs the others.
    within = held.var(axis=1, ddof=1).mean(axis=0)
    between = held.mean(axis=1).var(axis=0, ddof=1)
    drawn = within > 0
    if not drawn.any():
        ratio = 0.0 if not between.any() else math.inf
    else:
        ratio = math.sqrt(float((between[drawn] / within[drawn]).mean()) * runs.shape[1])
    bounds = _bounds(len(runs) - 1)
    if ratio > bounds[1]:
        why = (
            f"forecasts differ between runs {ratio:.1f} times as much as their samples explain: draws repeat within a "
        )
        return Sampling(ratio, bounds, "too wide", why + "run, or something else than the draws changes")
    if ratio < bounds[0] or ratio == 0:
        why = (
            f"forecasts differ between runs only {ratio:.2f} times as much as their samples must: draws repeat between "
        )
        return Sampling(ratio, bounds, "too narrow", why + "runs")
    return Sampling(ratio, bounds, "as expected", "")


def _bounds(freedom: int) -> tuple[float, float]:
    """Of the root of a chi-square over its degrees of freedom (Wilson and Hilferty), as if all points moved as one."""
    step = 2 / (9 * freedom)
    low, high = (max(0.0, 1 - step + sign * _Z * math.sqrt(step)) ** 1.5 for sign in (-1, 1))
    return low, high
