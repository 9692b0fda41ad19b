"""Deterministic input series for the cases: numpy only, the same bytes in every process."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from toto_patcher.equivalence.case import Case

INTERVAL_SECONDS = 60


@dataclass(frozen=True)
class Inputs:
    """One batch of series.

    Attributes:
        series: values, shape (batch, variates, steps); 0 where hidden.
        padding_mask: True where the value is real; same shape.
        id_mask: group of each variate; same shape.
    """

    series: npt.NDArray[np.float64]
    padding_mask: npt.NDArray[np.bool_]
    id_mask: npt.NDArray[np.int32 | np.float32]

    @property
    def steps(self) -> int:
        """Length in time steps."""
        return int(self.series.shape[-1])

    def slice(self, start: int, stop: int) -> Inputs:
        """The part from one time step up to another."""
        part = (..., slice(start, stop))
        return Inputs(self.series[part], self.padding_mask[part], self.id_mask[part])

    def left_padded(self, patch_size: int) -> Inputs:
        """Filled up at the left with hidden zeros to a multiple of the patch, as the forecaster does it."""
        missing = -self.steps % patch_size
        width = ((0, 0), (0, 0), (missing, 0))
        return Inputs(
            np.pad(self.series, width), np.pad(self.padding_mask, width), np.pad(self.id_mask, width, mode="edge")
        )


def make(case: Case, steps: int, context: int, salt: str = "", blank: int = 0) -> Inputs:
    """The series of a case: waves of several periods on a random walk, each variate on its own level and scale.

    Args:
        case: gives batch, variates, gaps, slope and groups.
        steps: length.
        context: gaps stay inside the first so many steps.
        blank: so many steps at the beginning are hidden.
        salt: another one gives other data of the same form.
    """
    random = np.random.default_rng(zlib.crc32(f"{case.name}/{salt}".encode()))
    shape = (case.batch, case.variates, 1)
    time = np.arange(steps, dtype=np.float64)
    waves = sum(
        random.uniform(0.3, 1.0, shape) * np.sin(2 * np.pi * (time / period + random.uniform(0, 1, shape)))
        for period in (7.0, 24.0, 61.0)
    )
    walk = 0.2 * random.standard_normal((case.batch, case.variates, steps)).cumsum(-1)
    series = random.uniform(-3, 3, shape) + random.uniform(0.5, 4.0, shape) * (waves + walk)
    if case.steep:
        powers = np.zeros(case.variates)
        powers[:2] = [6.0, -6.0][: case.variates]
        series *= 10.0 ** (powers[None, :, None] * time / steps)
    series *= case.level
    mask = np.ones(series.shape, dtype=np.bool_)
    if case.gaps:
        mask &= random.uniform(size=series.shape) > 0.1
        start = context // 3
        mask[-1, -1, start : start + max(1, context // 4)] = False
        mask[..., context:] = True
    mask[..., :blank] = False
    groups = (np.arange(case.variates) * 3 // max(case.variates, 3)) if case.groups else np.zeros(case.variates)
    numbers = (groups / 4).astype(np.float32) if case.real_ids else groups.astype(np.int32)
    ids = np.broadcast_to(numbers[None, :, None], series.shape).copy()
    return Inputs(np.where(mask, series, 0.0), mask, ids)
