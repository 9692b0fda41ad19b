"""Series whose level is too high, or too large, for the numbers that the model computes in.

At 1.7e9 float32 has steps of 128: a series of 1.7e9 +- 50 would be a constant to the model, and its forecast too. The
model sees every series less its running mean, so the level can be taken off in float64 and put back onto the samples:
in exact arithmetic that is the same forecast. What stands for "no value" (upstream fills with 0 at the left) is moved
along with it. A power of two does the same for magnitudes at which samples would leave float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from toto_patcher.runtime.numbers import KEPT, Array

EPSILON = 2.0**-24
"""Half of float32's step at 1."""
LEAST_VARIANCE = 0.1
"""What upstream's scaler adds to the variance: less spread than its root is no spread to the model."""
HUGE, REDUCED = 2.0**60, 40
"""Magnitudes from here on are divided by a power of two, which leaves them below 2**41. What upstream adds to the
variance then counts for more, by 1e-12 of the magnitude."""


@dataclass(frozen=True)
class Level:
    """What is taken off a series, and by what the rest is divided: (variates, 1) each."""

    off: Array
    unit: Array

    def down(self, values: Array, start: int = 0) -> Array:
        """Values (variates, steps) as the model gets them; ``start``: the first variate that they hold."""
        return (values - self.off[start:]) / self.unit[start:]

    def up(self, samples: Array) -> Array:
        """Samples (num_samples, variates, steps) in the series' own units."""
        return samples * self.unit[: samples.shape[1]] + self.off[: samples.shape[1]]


def of(values: Array, known: npt.NDArray[np.bool_]) -> Level | None:
    """The level to take off a series (variates, steps), ``None`` where float32 holds it well."""
    counted = np.where(known, values, 0.0)
    count = known.sum(axis=1, keepdims=True)
    size = np.abs(counted).max(axis=1, keepdims=True)
    huge = size > HUGE
    unit = np.where(huge, np.exp2(np.floor(np.log2(np.where(huge, size, 1.0))) - REDUCED), 1.0)
    mean = (counted / unit / count).sum(axis=1, keepdims=True)
    deviation = np.where(known, values / unit - mean, 0.0)
    spread = np.sqrt((deviation**2).sum(axis=1, keepdims=True) / count + LEAST_VARIANCE)
    off = huge | (size / unit * EPSILON > KEPT * spread)
    return Level(np.where(off, mean * unit, 0.0), unit) if off.any() else None
