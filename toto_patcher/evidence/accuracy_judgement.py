"""Is a candidate as accurate as upstream is with itself? A permutation test over windows and seeds. Knows numpy alone.

Each window (a series and an origin) was forecast under several seeds by upstream and by the candidate. If both draw
from the same distribution, the errors of a window may change places between them without anything changing: what the
differences look like after such exchanges is the yardstick, and it needs no assumption about their distribution. The
windows are exchanged independently of each other, the measures of a window together.

Two statistics are formed for each measure, for each series and overall:

- ``mean``: the candidate's mean error less upstream's, as a share of upstream's. Sees a loss that is alike everywhere.
- ``windows``: the sum over windows of the squared difference over its variance. Sees errors that grow in one window and
  shrink in another, as those of forecasts that are shifted, and which a mean would cancel.

Each is brought to the scale of a standard normal deviate; the candidate is outside when the largest of all is beyond
what chance reaches once in ``1 / LEVEL`` runs. That limit is found with the same exchanges, so it holds for all the
measures, series and statistics together, which depend on each other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from toto_patcher.errors import InputError

Array = npt.NDArray[np.float64]
Statistic = Literal["mean", "windows"]

LEVEL = 1e-4
"""How often a run ends outside though nothing differs."""
EXCHANGES = 100_000
OVERALL = "overall"
_ARRANGEMENTS = 20_000
"""Most ways to share out a window's forecasts that are looked at; up to 8 seeds these are all."""
_RESAMPLES = 2_000


@dataclass(frozen=True)
class Interval:
    """A value, and the interval that holds 95 % of its bootstrap resamples over windows and seeds."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Finding:
    """One measure of one series, or of all.

    Attributes:
        scope: name of the series, or ``overall``: the mean over series, each as a share of upstream's.
        upstream: mean over windows and seeds; ``None`` overall, where units differ.
        delta: candidate less upstream, as a share of upstream.
        spread: standard deviation of such a delta between two sets of upstream's own seeds, from these seeds alone.
        bound: what ``delta`` may be on either side of zero.
        scores: of each statistic, on the scale of a standard normal deviate.
        outside: the statistics that are beyond the limit.
    """

    scope: str
    measure: str
    windows: int
    upstream: Interval | None
    candidate: Interval | None
    delta: Interval
    spread: float
    bound: float
    scores: Mapping[Statistic, float]
    outside: tuple[Statistic, ...]


@dataclass(frozen=True)
class Judgement:
    """All findings, and the one limit that they were held against.

    Attributes:
        limit: of every score.
        p_value: how often chance gives a largest score like this one, over all findings.
    """

    findings: tuple[Finding, ...]
    limit: float
    p_value: float

    @property
    def passed(self) -> bool:
        """Whether no statistic is beyond the limit."""
        return not any(finding.outside for finding in self.findings)


def can_tell(windows: int, seeds: int, level: float = LEVEL) -> bool:
    """Whether so few forecasts could be found outside at all: their most extreme arrangement must be rare enough."""
    return math.log(2.0) - windows * math.log(math.comb(2 * seeds, seeds)) <= math.log(level / 100)


def judge(
    upstream: Mapping[str, npt.ArrayLike],
    candidate: Mapping[str, npt.ArrayLike],
    series: Sequence[str],
    *,
    level: float = LEVEL,
    seed: int = 0,
) -> Judgement:
    """Compares errors.

    Args:
        upstream: measure -> errors of shape (windows, seeds); NaN throughout a series where it is not defined.
        candidate: the same measures and shape.
        series: the series of each window.
        seed: of the exchanges and resamples.

    Raises:
        InputError: shapes do not fit, or there are too few windows and seeds to tell anything.
    """
    names = list(dict.fromkeys(series))
    members = {name: np.array([one == name for one in series]) for name in names}
    pairs = {measure: _pair(upstream[measure], candidate[measure], len(series)) for measure in upstream}
    seeds = next(iter(pairs.values())).shape[1] // 2
    if not can_tell(len(series), seeds, level):
        raise InputError(
            f"{len(series)} windows under {seeds} seeds are too few to tell a difference from chance at {level:g}",
            hint="Ask for more origins, seeds or series.",
        )
    draw = np.random.default_rng(seed)
    arrangements = _arrangements(seeds, draw)
    picks = draw.integers(len(arrangements), size=(EXCHANGES, len(series)))
    largest = np.zeros(EXCHANGES)
    observed: dict[tuple[str, str], dict[Statistic, float]] = {}
    deviations: dict[tuple[str, str], float] = {}
    for measure, values in pairs.items():
        tests = _Tests(values, members)
        scores = tests.scores(tests.exchanged(arrangements, picks))
        found = tests.scores(tests.differences()[None])
        for scope in scores:
            observed[measure, scope] = {name: float(found[scope][name][0]) for name in ("mean", "windows")}
            deviations[measure, scope] = tests.deviation(scope)
            for each in scores[scope].values():
                np.maximum(largest, each, out=largest)
    limit = float(np.quantile(largest, 1.0 - level))
    top = max(score for scores in observed.values() for score in scores.values())
    findings = [
        _finding(pairs[measure], members, scope, measure, observed[measure, scope], deviations[measure, scope], limit)
        for scope in (*names, OVERALL)
        for measure in pairs
        if (measure, scope) in observed
    ]
    return Judgement(tuple(findings), limit, float((1 + (largest >= top).sum()) / (1 + EXCHANGES)))


class _Tests:
    """The statistics of one measure.

    Args:
        values: (windows, 2 x seeds): upstream's seeds, then the candidate's.
        members: name of a series -> which windows are its own.
    """

    def __init__(self, values: Array, members: Mapping[str, npt.NDArray[np.bool_]]) -> None:
        self._values = values
        seeds = values.shape[1] // 2
        # Variance of the difference of two means when the values are shared out at random.
        self.variances = values.var(axis=1, ddof=1) * 2.0 / seeds
        own = {name: mask & ~np.isnan(values[:, 0]) for name, mask in members.items()}
        own = {name: mask for name, mask in own.items() if mask.any()}
        totals = {name: values[mask].mean(axis=1).sum() for name, mask in own.items()}
        self._weights = {name: np.where(mask, 1.0 / (totals[name] or 1.0), 0.0) for name, mask in own.items()}
        if own:
            self._weights[OVERALL] = np.mean(list(self._weights.values()), axis=0)

    def differences(self) -> Array:
        """Candidate's mean less upstream's in each window, (windows,)."""
        seeds = self._values.shape[1] // 2
        return np.asarray(self._values[:, seeds:].mean(axis=1) - self._values[:, :seeds].mean(axis=1))

    def exchanged(self, arrangements: Array, picks: npt.NDArray[np.int64]) -> Array:
        """The same after exchanges, (exchanges, windows)."""
        table = arrangements @ self._values.T
        return np.asarray(np.take_along_axis(table, picks, axis=0))

    def deviation(self, scope: str) -> float:
        """Standard deviation of the relative difference of a scope under exchanges."""
        weights = self._weights[scope]
        return float(np.sqrt((weights[weights != 0] ** 2 * self.variances[weights != 0]).sum()))

    def scores(self, differences: Array) -> dict[str, dict[Statistic, Array]]:
        """Scope -> statistic -> (exchanges,), each as a standard normal deviate; windows without any spread are left
        out of ``windows``."""
        found: dict[str, dict[Statistic, Array]] = {}
        for scope, weights in self._weights.items():
            inside = weights != 0
            mean = np.abs(differences[:, inside] @ weights[inside])
            spread = inside & (self.variances > 0)
            count = int(spread.sum())
            squares = differences[:, spread] ** 2 @ (1.0 / self.variances[spread])
            found[scope] = {
                "mean": mean / (self.deviation(scope) or 1.0),
                "windows": _normal(squares, count) if count else np.zeros(len(mean)),
            }
        return found


def _normal(squares: Array, count: int) -> Array:
    """A sum of ``count`` squared deviates as one standard normal deviate (Wilson and Hilferty, 1931)."""
    width = 2.0 / (9.0 * count)
    return np.asarray((np.cbrt(squares / count) - (1.0 - width)) / math.sqrt(width))


def _arrangements(seeds: int, draw: np.random.Generator) -> Array:
    """Ways to share 2 x seeds values out between two, as weights whose product is the difference of means."""
    total = math.comb(2 * seeds, seeds)
    if total <= _ARRANGEMENTS:
        chosen = np.array(list(itertools.combinations(range(2 * seeds), seeds)))
    else:
        chosen = np.argsort(draw.random((_ARRANGEMENTS, 2 * seeds)), axis=1)[:, :seeds]
    weights = np.full((len(chosen), 2 * seeds), -1.0 / seeds)
    np.put_along_axis(weights, chosen, 1.0 / seeds, axis=1)
    return weights


def _pair(upstream: npt.ArrayLike, candidate: npt.ArrayLike, windows: int) -> Array:
    first, second = np.asarray(upstream, dtype=np.float64), np.asarray(candidate, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 2 or len(first) != windows or first.shape[1] < 2:
        raise InputError(
            f"errors of shape {first.shape} and {second.shape} for {windows} windows of at least two seeds"
        )
    return np.concatenate([first, second], axis=1)


def _finding(
    values: Array,
    members: Mapping[str, npt.NDArray[np.bool_]],
    scope: str,
    measure: str,
    scores: dict[Statistic, float],
    deviation: float,
    limit: float,
) -> Finding:
    seeds = values.shape[1] // 2
    defined = ~np.isnan(values[:, 0])
    parts = [values[mask & defined] for name, mask in members.items() if scope in (name, OVERALL)]
    parts = [part for part in parts if len(part)]
    sides = [(part[:, :seeds].mean(axis=1), part[:, seeds:].mean(axis=1)) for part in parts]
    draw = np.random.default_rng(0)
    resampled = [_resampled(part, draw) for part in parts]
    deltas = [b / a - 1 for a, b in resampled]
    own = [part[:, :seeds].var(axis=1, ddof=1) * 2.0 / seeds for part in parts]
    shares = [math.sqrt(var.sum()) / a.sum() for var, (a, _) in zip(own, sides, strict=True)]
    single = scope != OVERALL
    return Finding(
        scope=scope,
        measure=measure,
        windows=sum(map(len, parts)),
        upstream=_interval(float(sides[0][0].mean()), resampled[0][0]) if single else None,
        candidate=_interval(float(sides[0][1].mean()), resampled[0][1]) if single else None,
        delta=_interval(float(np.mean([b.mean() / a.mean() - 1 for a, b in sides])), np.mean(deltas, axis=0)),
        spread=math.sqrt(sum(share**2 for share in shares)) / len(shares),
        bound=limit * deviation,
        scores=scores,
        outside=tuple(name for name, score in scores.items() if score > limit),
    )


def _resampled(part: Array, draw: np.random.Generator) -> tuple[Array, Array]:
    """Bootstrap resamples of the two means, (resamples,) each: of windows, and in each window of pairs of seeds.

    Seeds stay paired: where both sides draw the same samples from the same seed, their difference has no spread.
    """
    windows, seeds = len(part), part.shape[1] // 2
    shares = draw.multinomial(windows, [1 / windows] * windows, size=_RESAMPLES) / windows
    weights = draw.multinomial(seeds, [1 / seeds] * seeds, size=(_RESAMPLES, windows)) / seeds * shares[:, :, None]
    first, second = (np.einsum("rwk,wk->r", weights, side) for side in (part[:, :seeds], part[:, seeds:]))
    return np.asarray(first), np.asarray(second)


def _interval(value: float, resamples: Array) -> Interval:
    low, high = np.quantile(resamples, [0.025, 0.975])
    return Interval(value, float(low), float(high))
