"""Medians, quartiles and ratios with an interval, from the raw repetitions of interleaved runs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles


@dataclass(frozen=True)
class Spread:
    """Summary of repetitions, in the unit they came in."""

    count: int
    median: float
    low: float
    high: float
    minimum: float
    maximum: float

    @property
    def iqr(self) -> float:
        """Distance between the quartiles."""
        return self.high - self.low


@dataclass(frozen=True)
class Ratio:
    """How many times faster than a baseline: above 1 is faster. ``low`` and ``high`` hold 95 % of the resamples."""

    value: float
    low: float
    high: float

    @property
    def slower(self) -> bool:
        """True when even the interval's upper end is below 1: slower, beyond the spread."""
        return self.high < 1.0

    @property
    def faster(self) -> bool:
        """True when even the interval's lower end is above 1."""
        return self.low > 1.0


def summarize(values: Sequence[float]) -> Spread:
    """Summarises at least two repetitions.

    Raises:
        ValueError: fewer than two values.
    """
    if len(values) < 2:
        raise ValueError("a spread needs at least two repetitions")
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return Spread(len(values), middle, low, high, min(values), max(values))


def speedup(baseline: Sequence[float], measured: Sequence[float], *, resamples: int = 1000, seed: int = 0) -> Ratio:
    """Ratio of medians, baseline over measured, with a 95 % percentile-bootstrap interval.

    Repetitions of interleaved runs share the machine's state turn by turn, so equal indices are drawn together.

    Raises:
        ValueError: the runs have different lengths, or fewer than two repetitions.
    """
    if len(baseline) != len(measured):
        raise ValueError(f"runs of {len(baseline)} and {len(measured)} repetitions were not interleaved")
    if len(baseline) < 2:
        raise ValueError("a ratio needs at least two repetitions")
    draw = random.Random(seed)
    ratios = []
    for _ in range(resamples):
        picks = [int(draw.random() * len(baseline)) for _ in baseline]
        ratios.append(median(baseline[i] for i in picks) / median(measured[i] for i in picks))
    ratios.sort()
    edge = int(0.025 * resamples)
    return Ratio(median(baseline) / median(measured), ratios[edge], ratios[-1 - edge])


def paired(baseline: Sequence[float], per_turn: int, measured: Sequence[float], measured_per_turn: int) -> Ratio | None:
    """``speedup`` of rows that took the same turns, with one value per turn where their repetitions differ.

    Args:
        per_turn: repetitions that the baseline made in a turn.
        measured_per_turn: and the other row.

    Returns:
        ``None`` where a row has fewer than two repetitions or other turns.
    """
    if len(baseline) != len(measured):
        baseline, measured = (
            [median(values[i : i + step]) for i in range(0, len(values), step)]
            for values, step in ((baseline, per_turn), (measured, measured_per_turn))
        )
    if len(baseline) != len(measured) or len(baseline) < 2:
        return None
    return speedup(baseline, measured)
