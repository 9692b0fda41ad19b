"""What made-up series are put together from: trends, seasons, noises, walks. Knows numpy alone.

Every function takes a generator, a number of series and a length, and returns an array of shape (count, length). All of
them are vectorised over the series: each row draws its own kind, periods and roughness.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float64]
Draws = np.random.Generator

PERIODS = (4, 5, 6, 7, 8, 10, 12, 14, 20, 24, 28, 30, 36, 48, 52, 60, 72, 84, 96, 120, 144, 168, 288, 336)
"""Steps after which series tend to repeat: hours, half-hours and minutes in a day, days and hours in a week, …"""

DAYS = (6, 8, 12, 24, 24, 48, 48, 96)
"""Steps in a day for series that have both a day and a week."""


def column(draws: Draws, count: int, low: float, high: float) -> Rows:
    """Uniform values, shape (count, 1)."""
    return draws.uniform(low, high, (count, 1))


def log_column(draws: Draws, count: int, low: float, high: float) -> Rows:
    """Values whose logarithm is uniform, shape (count, 1)."""
    return np.asarray(np.exp(column(draws, count, np.log(low), np.log(high))))


def gate(draws: Draws, count: int, share: float) -> Rows:
    """1 for about this share of the rows, else 0; shape (count, 1)."""
    return (draws.random((count, 1)) < share).astype(np.float64)


def unit(rows: Rows) -> Rows:
    """The same rows with mean 0 and standard deviation 1; a constant row becomes 0."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    deviation = centred.std(axis=1, keepdims=True)
    return np.asarray(centred / np.where(deviation > 1e-9, deviation, np.inf))


def pick(draws: Draws, choices: Sequence[Rows]) -> Rows:
    """For each row one of several arrays of the same shape."""
    chosen = draws.integers(len(choices), size=len(choices[0]))
    return np.asarray(np.stack(choices)[chosen, np.arange(len(choices[0]))])


def coloured(draws: Draws, count: int, length: int, low: float = 0.0, high: float = 3.0) -> Rows:
    """Noise whose power falls with frequency by an exponent of low to high: 0 is white, 2 wanders, 3 is smooth."""
    size = 2 * length  # so that the end does not run into the beginning
    frequencies = np.fft.rfftfreq(size)[1:]
    power = frequencies ** (-column(draws, count, low, high) / 2)
    waves = draws.standard_normal((2, count, frequencies.size))
    spectrum = np.zeros((count, frequencies.size + 1), dtype=np.complex128)
    spectrum[:, 1:] = power * (waves[0] + 1j * waves[1])
    return unit(np.fft.irfft(spectrum, size)[:, :length])


def narrow_band(draws: Draws, count: int, length: int) -> Rows:
    """Cycles that keep their period roughly and lose their phase over time, as sunspots do."""
    size = 2 * length
    frequencies = np.fft.rfftfreq(size)
    centre = 1.0 / log_column(draws, count, 4.0, length / 3)
    width = centre * log_column(draws, count, 0.01, 0.4)
    spectrum = np.exp(-0.5 * ((frequencies - centre) / width) ** 2) + 0j
    waves = draws.standard_normal((2, count, frequencies.size))
    cycles = unit(np.fft.irfft(spectrum * (waves[0] + 1j * waves[1]), size)[:, :length])
    skewed = unit(np.exp(column(draws, count, 0.2, 1.0) * cycles))
    return pick(draws, [cycles, skewed, unit(np.abs(cycles))])


def periods(draws: Draws, count: int, length: int) -> Rows:
    """Periods in steps, shape (count, 1): two in three of the usual ones, the others any."""
    usual = draws.choice(np.array([period for period in PERIODS if period <= length / 1.5]), (count, 1))
    return np.where(draws.random((count, 1)) < 0.67, usual, log_column(draws, count, 3.0, length / 2))


def seasons(draws: Draws, count: int, length: int, period: Rows | None = None, harmonics: int = 8) -> Rows:
    """A wave of any shape that repeats exactly: harmonics whose strength falls slowly or fast."""
    period = periods(draws, count, length) if period is None else period
    orders = np.arange(1, harmonics + 1)[:, None]
    strength = orders ** -draws.uniform(0.3, 3.0, (count, 1, 1))
    strength = strength * ((orders <= draws.integers(1, harmonics + 1, (count, 1, 1))) & (orders < period[:, None] / 2))
    strength[:, 0] = np.maximum(strength[:, 0], 0.05)
    phase = draws.uniform(0, 2 * np.pi, (count, harmonics, 1))
    strength = strength * draws.standard_normal((count, harmonics, 1))
    # exp(i k w t) as powers of exp(i w t): one sine and cosine for all harmonics.
    turn = np.exp(2j * np.pi * np.arange(length) / period)
    wave, power = np.zeros((count, length)), np.ones_like(turn)
    factors = strength * np.exp(1j * phase)
    for order in range(harmonics):
        power = power * turn
        wave += (factors[:, order] * power).real
    return unit(wave)


def shapes(draws: Draws, count: int, length: int) -> Rows:
    """Square waves, saw teeth, triangles and pulses that repeat exactly."""
    where = (np.arange(length) / periods(draws, count, length) + draws.random((count, 1))) % 1.0
    share = column(draws, count, 0.05, 0.6)
    square = (where < share).astype(np.float64)
    decay = np.exp(-where / column(draws, count, 0.05, 0.5))
    return unit(pick(draws, [square, where, np.abs(where - 0.5), decay]))


def weeks(draws: Draws, count: int, length: int) -> Rows:
    """Days of one shape and a week in which some days are lower: demand for electricity, traffic, visitors."""
    day = draws.choice(np.array(DAYS), (count, 1)).astype(np.float64)
    start = draws.integers(0, 7 * 96, (count, 1))
    step = np.arange(length) + start
    level = 1.0 + 0.08 * draws.standard_normal((count, 7))
    level[:, 5:] -= draws.uniform(0.0, 0.6, (count, 2))
    of_day = np.take_along_axis(level, (step // day % 7).astype(np.intp), axis=1)
    profile = seasons(draws, count, length, day, harmonics=5)
    other = seasons(draws, count, length, day, harmonics=5)
    at_weekends = (step // day % 7 >= 5) & (draws.random((count, 1)) < 0.5)
    profile = np.where(at_weekends, 0.6 * profile + 0.4 * other, profile)
    multiplied = (profile + column(draws, count, 0.5, 3.0)) * of_day
    added = profile + column(draws, count, 0.5, 4.0) * of_day
    return unit(pick(draws, [multiplied, added]))


def trends(draws: Draws, count: int, length: int) -> Rows:
    """Straight, bent, saturating, growing ever faster, or wandering slowly."""
    at = np.linspace(0.0, 1.0, length)
    straight = np.broadcast_to(at, (count, length)) * 1.0
    bent = column(draws, count, -1, 1) * at
    for _ in range(3):
        bent = bent + column(draws, count, -2, 2) * np.maximum(at - draws.random((count, 1)), 0)
    logistic = 1 / (1 + np.exp(-column(draws, count, 4, 20) * (at - column(draws, count, 0.1, 0.9))))
    growing = np.exp(column(draws, count, 0.3, 4.0) * at)
    sign = np.where(draws.random((count, 1)) < 0.4, -1.0, 1.0)
    return sign * unit(pick(draws, [straight, bent, logistic, growing, coloured(draws, count, length, 2.0, 3.5)]))


def steps(draws: Draws, count: int, length: int) -> Rows:
    """Levels that jump now and then to a new value, or back and forth between two."""
    jumps = draws.random((count, length)) < log_column(draws, count, 1 / length, 0.03)
    levels = np.cumsum(jumps * draws.standard_normal((count, length)), axis=1)
    return pick(draws, [levels, np.asarray(np.cumsum(jumps, axis=1) % 2, dtype=np.float64)])


def noises(draws: Draws, count: int, length: int) -> Rows:
    """White or coloured; normal or with heavy tails; of one strength or of a changing one. Unit strength."""
    white = draws.standard_normal((count, length))
    tailed = white / np.sqrt(draws.gamma(2.5, 1 / 2.5, (count, length)))
    rough = pick(draws, [white, white, tailed, coloured(draws, count, length, 0.0, 1.2)])
    envelope = np.exp(0.8 * coloured(draws, count, length, 1.5, 3.0) * gate(draws, count, 0.25))
    return unit(rough * envelope)


def walks(draws: Draws, count: int, length: int) -> Rows:
    """Random walks whose steps have heavy tails and a volatility that comes in clusters; unit steps on average."""
    volatility = np.exp(log_column(draws, count, 0.05, 0.8) * coloured(draws, count, length, 0.8, 2.0))
    tailed = draws.standard_normal((count, length)) / np.sqrt(draws.gamma(2.0, 0.5, (count, length)))
    moves = pick(draws, [draws.standard_normal((count, length)), tailed]) * volatility
    drift = 0.05 * draws.standard_normal((count, 1)) * gate(draws, count, 0.5)
    return np.cumsum(moves / moves.std(axis=1, keepdims=True) + drift, axis=1)


def autoregressive(draws: Draws, count: int, length: int) -> Rows:
    """Of order two, stationary, from nearly white to nearly periodic or nearly a walk; some with a moving average."""
    radius = 1 - log_column(draws, count, 0.003, 0.9)
    angle = column(draws, count, 0, np.pi) * gate(draws, count, 0.6) * draws.random((count, 1))
    second = np.where(angle > 0, radius, column(draws, count, -0.5, 0.9))
    first_root, second_root = radius * np.exp(1j * angle), second * np.exp(-1j * angle)
    one, two = (first_root + second_root).real[:, 0], -(first_root * second_root).real[:, 0]
    warm = 200
    shocks = draws.standard_normal((count, warm + length))
    shocks[:, 1:] += column(draws, count, -0.8, 0.8) * gate(draws, count, 0.3) * shocks[:, :-1]
    made = np.zeros((warm + length, count))
    for at in range(2, warm + length):
        made[at] = one * made[at - 1] + two * made[at - 2] + shocks[:, at]
    return unit(made[warm:].T)
