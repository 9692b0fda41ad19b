"""Missing values inside a series: what the model is told of them, and what stands in their places.

Toto 1.0 has a mask that keeps values out of the running mean and scale. They are still looked at, so what stands in
their places matters: it is a straight line between the neighbours, which stays at the level of the series. What is
missing at both ends is not filled at all: at the left the series begins later, and at the right those steps are
forecast as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from toto_patcher.errors import InputError
from toto_patcher.runtime.numbers import Array


@dataclass(frozen=True)
class Cut:
    """A series whose missing values were filled.

    Attributes:
        values: (variates, steps), from the first step to the last at which a target is known.
        known: which of them were given.
        after: values of the covariates, (covariates, late), after the last step.
        start: steps that were left out at the left.
        late: at the right.
        missing: values that were missing.
    """

    values: Array
    known: npt.NDArray[np.bool_]
    after: Array
    start: int
    late: int
    missing: int


def cut(values: Array, targets: int, where: str) -> Cut:
    """Cuts a series (variates, steps) of which the first ``targets`` are to be forecast, and fills its gaps.

    Raises:
        InputError: a variate has no values, or a covariate none where it has to be known.
    """
    known = ~np.isnan(values)
    steps = values.shape[1]
    if known.all():
        return Cut(values, known, values[targets:, steps:], 0, 0, 0)
    empty = ~known.any(axis=1)
    if empty.any():
        number = int(empty.argmax())
        which = f"variate {number}: " if len(values) > 1 else ""
        raise InputError(
            f"{where}: {which}all {steps} values are missing: there is nothing to forecast from",
            hint="Leave it out, or pass a longer context.",
        )
    given = np.flatnonzero(known[:targets].any(axis=0))
    start, stop = int(given[0]), int(given[-1]) + 1
    if not known[targets:, stop:].all():
        raise InputError(
            f"{where}: a covariate is missing after the target's last value, at which it has to be known",
            hint="Cut the series behind the last value of its target, and give the covariates' future from there.",
        )
    inside, counts = values[:, start:stop], known[:, start:stop]
    if not counts.any(axis=1).all():
        raise InputError(f"{where}: a covariate has no values where the target has any")
    filled = np.stack([_filled(row, count) for row, count in zip(inside, counts, strict=True)])
    return Cut(filled, counts, values[targets:, stop:], start, steps - stop, int((~known).sum()))


def _filled(row: Array, known: npt.NDArray[np.bool_]) -> Array:
    """The row with straight lines over its gaps, and its first and last values held beyond."""
    if known.all():
        return row
    steps = np.arange(len(row), dtype=np.float64)
    return np.interp(steps, steps[known], row[known])
