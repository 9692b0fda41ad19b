"""How far a row's errors are from the original's, and how far the original's own samples put them. Knows numpy alone.

Both forecast the same windows, so nothing but the samples drawn makes their errors differ. How much that is, is read
off the original's own seeds: a difference counts when it is beyond the limit, and the comparison counts when the
original's spread against itself is within it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

OVERALL = "overall"
Z = 3.3
"""Spreads are this many standard deviations wide: a thousand comparisons of the original with itself, one outside."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Delta:
    """One measure of one series, or of all.

    Attributes:
        scope: name of the series, or ``overall``: the mean over series, each as a share of the original's error.
        upstream: mean error of the original; NaN overall, where units differ.
        measured: of the row.
        delta: measured less upstream, as a share of upstream.
        spread: what ``delta`` is at most, to either side, where both draw from the same distribution.
    """

    scope: str
    measure: str
    upstream: float
    measured: float
    delta: float
    spread: float


def deltas(upstream: Mapping[str, Array], measured: Mapping[str, Array], series: Sequence[str]) -> list[Delta]:
    """Compares errors.

    Args:
        upstream: measure -> errors (windows, seeds) of the original, at least two seeds.
        measured: of the row, the same measures and windows.
        series: the series of each window.
    """
    return [found for name in upstream for found in _measure(name, upstream[name], measured[name], series)]


def overall_spread(upstream: Mapping[str, Array], measure: str, series: Sequence[str]) -> float:
    """The spread that ``deltas`` gives to ``overall``: what can be told apart at all."""
    return _measure(measure, upstream[measure], upstream[measure], series)[-1].spread


def _measure(measure: str, upstream: Array, measured: Array, series: Sequence[str]) -> list[Delta]:
    ours, theirs = upstream.mean(axis=1), measured.mean(axis=1)
    # Few seeds can agree by chance: no window is taken to vary less, for its size, than all do on average.
    own = upstream.var(axis=1, ddof=1)
    sizes = np.where(ours > 0, ours, 1.0)
    variances = np.maximum(own, (own / sizes**2).mean() * ours**2) * (1 / upstream.shape[1] + 1 / measured.shape[1])
    found = []
    for name in dict.fromkeys(series):
        here = np.array([one == name for one in series])
        before, after = float(ours[here].mean()), float(theirs[here].mean())
        delta = (after - before) / before if before else (0.0 if after == before else math.inf)
        spread = Z * math.sqrt(float(variances[here].sum())) / (int(here.sum()) * (before or 1.0))
        found.append(Delta(name, measure, before, after, delta, spread))
    delta = sum(one.delta for one in found) / len(found)
    spread = math.sqrt(sum(one.spread**2 for one in found)) / len(found)
    return [*found, Delta(OVERALL, measure, math.nan, math.nan, delta, spread)]
