"""Kinds of series, each put together from components by a rule of its own, and what befalls all of them.

Nothing here is taken from a real series: the rules are written down from what loads, prices, counts, climate and
machines look like.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from toto_patcher.evidence.training import components as parts
from toto_patcher.evidence.training.components import Draws, Rows

FLOOR = 0.003
"""Noise added to every series, as a share of its deviation: or the densities of flat stretches would be infinite."""


def structural(draws: Draws, count: int, length: int) -> Rows:
    """A trend, up to three seasons and noise, added or multiplied."""
    made = parts.trends(draws, count, length) * parts.gate(draws, count, 0.6) * parts.log_column(draws, count, 0.1, 4.0)
    made = made + parts.seasons(draws, count, length) * parts.gate(draws, count, 0.9)
    for share in (0.4, 0.15):
        strength = parts.gate(draws, count, share) * parts.log_column(draws, count, 0.15, 1.5)
        slowly = 1 + 0.5 * parts.coloured(draws, count, length, 2.0, 3.5) * parts.gate(draws, count, 0.3)
        made = made + strength * slowly * parts.seasons(draws, count, length)
    made = made + parts.noises(draws, count, length) * parts.log_column(draws, count, 0.02, 1.0)
    multiplied = np.exp(parts.column(draws, count, 0.1, 0.8) * parts.unit(made))
    return np.where(parts.gate(draws, count, 0.2) > 0, multiplied, made)


def loads(draws: Draws, count: int, length: int) -> Rows:
    """Days and weeks, with a slow drift."""
    made = parts.weeks(draws, count, length)
    made = made + parts.coloured(draws, count, length, 1.0, 3.0) * parts.log_column(draws, count, 0.02, 0.6)
    return made + parts.noises(draws, count, length) * parts.log_column(draws, count, 0.01, 0.3)


def prices(draws: Draws, count: int, length: int) -> Rows:
    """Random walks: of prices, of their logarithms, pulled back to a mean, or seen through noise."""
    walk = parts.walks(draws, count, length)
    growth = np.exp(np.clip(parts.log_column(draws, count, 0.001, 0.05) * walk, -8, 8))
    pulled = walk - parts.column(draws, count, 0.9, 1.0) * np.concatenate([walk[:, :1], walk[:, :-1]], axis=1)
    seen = parts.unit(walk) + parts.noises(draws, count, length) * parts.log_column(draws, count, 0.01, 0.3)
    return parts.pick(draws, [walk, growth, growth, np.cumsum(pulled, axis=1) * 0.1 + pulled, seen])


def cycles(draws: Draws, count: int, length: int) -> Rows:
    """Autoregressions and cycles that drift out of phase, some on top of a season."""
    both = [parts.autoregressive(draws, count, length), parts.narrow_band(draws, count, length)]
    made = parts.pick(draws, both)
    made = made + parts.seasons(draws, count, length) * parts.gate(draws, count, 0.3)
    return made + parts.noises(draws, count, length) * parts.log_column(draws, count, 0.01, 0.5)


def climate(draws: Draws, count: int, length: int) -> Rows:
    """One clean season of few harmonics with slow anomalies, and sometimes a trend: temperatures, gases."""
    usual = draws.choice(np.array([7, 12, 12, 12, 24, 24, 48, 52, 52, 144]), (count, 1)).astype(np.float64)
    made = parts.seasons(draws, count, length, usual, harmonics=3)
    made = made + parts.coloured(draws, count, length, 0.8, 2.2) * parts.log_column(draws, count, 0.05, 1.0)
    made = made + parts.trends(draws, count, length) * parts.gate(draws, count, 0.4) * parts.log_column(
        draws, count, 0.1, 8
    )
    return made + parts.noises(draws, count, length) * parts.log_column(draws, count, 0.01, 0.3)


def kernels(draws: Draws, count: int, length: int) -> Rows:
    """Sums and products of two random processes with different spectra."""

    def one() -> Rows:
        smooth = parts.coloured(draws, count, length, 0.0, 4.0)
        return parts.pick(draws, [smooth, parts.narrow_band(draws, count, length), parts.seasons(draws, count, length)])

    first, second = one(), one()
    sums = first + parts.log_column(draws, count, 0.1, 1.0) * second
    return parts.pick(draws, [sums, first * (1 + 0.5 * second)])


def counts(draws: Draws, count: int, length: int) -> Rows:
    """Counts around a rate with seasons; some of them zero most of the time."""
    made = parts.pick(draws, [parts.seasons(draws, count, length), parts.weeks(draws, count, length)])
    made = made + 0.5 * parts.trends(draws, count, length) * parts.gate(draws, count, 0.3)
    rate = parts.log_column(draws, count, 0.1, 100) * np.exp(
        parts.column(draws, count, 0.1, 0.9) * np.clip(made, -4, 4)
    )
    spread = parts.log_column(draws, count, 0.5, 50)
    scattered = rate * draws.gamma(np.broadcast_to(spread, rate.shape), 1 / spread)
    return draws.poisson(parts.pick(draws, [rate, scattered])).astype(np.float64)


def machines(draws: Draws, count: int, length: int) -> Rows:
    """Levels that jump, pulses, and bursts that fade: what monitoring sees."""
    jumps = parts.steps(draws, count, length)
    bursts = (draws.random((count, length)) < parts.log_column(draws, count, 0.002, 0.05)) * draws.exponential(
        1.0, (count, length)
    )
    keep = parts.column(draws, count, 0.0, 0.95)[:, 0]
    fading = np.zeros((length, count))
    for at in range(1, length):
        fading[at] = keep * fading[at - 1] + bursts[:, at]
    made = parts.pick(draws, [jumps, parts.shapes(draws, count, length), fading.T])
    made = made + parts.shapes(draws, count, length) * parts.gate(draws, count, 0.3)
    return parts.unit(made) + parts.noises(draws, count, length) * parts.log_column(draws, count, 0.005, 0.5)


FAMILIES: tuple[tuple[float, Callable[[Draws, int, int], Rows]], ...] = (
    (0.25, structural),
    (0.15, loads),
    (0.15, prices),
    (0.12, cycles),
    (0.13, climate),
    (0.08, kernels),
    (0.06, counts),
    (0.06, machines),
)
"""Share of each kind."""


def draw(draws: Draws, count: int, length: int) -> Rows:
    """Series of all kinds in random order, with mean 0 and deviation 1, shape (count, length)."""
    shares = np.array([share for share, _ in FAMILIES])
    numbers = draws.multinomial(count, shares / shares.sum())
    made = [make(draws, number, length) for number, (_, make) in zip(numbers, FAMILIES, strict=True) if number]
    rows = parts.unit(np.concatenate(made))
    return _befall(draws, draws.permutation(rows))


def _befall(draws: Draws, rows: Rows) -> Rows:
    """Mixing two, turning upside down or around, spikes, rounding, limits."""
    count, length = rows.shape
    share = parts.column(draws, count, 0.3, 1.0) * parts.gate(draws, count, 0.1)
    rows = (1 - share) * rows + share * rows[draws.permutation(count)]
    rows = np.where(draws.random((count, 1)) < 0.25, -rows, rows)
    rows = np.where(draws.random((count, 1)) < 0.15, rows[:, ::-1], rows)
    spiky = (draws.random((count, length)) < 0.01) & (draws.random((count, 1)) < 0.06)
    rows = rows + spiky * draws.exponential(3.0, (count, length))
    grain = parts.log_column(draws, count, 0.01, 0.5)
    rows = np.where(draws.random((count, 1)) < 0.08, np.round(rows / grain) * grain, rows)
    limit = parts.column(draws, count, 0.3, 2.0)
    rows = np.where(draws.random((count, 1)) < 0.03, np.minimum(rows, limit), rows)
    return parts.unit(rows) + FLOOR * draws.standard_normal((count, length))
