"""What a forecast of one series gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from toto_patcher.errors import InputError

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""The quantiles that are given where nobody says which."""


@dataclass(frozen=True)
class Forecast:
    """Samples of one series' future, in the series' own units.

    They are on the CPU, whatever the model ran on: they are small beside the model, they outlive its buffers, and
    having them means that the forecast is done. float32; float64 where float32 does not hold the series' level.

    Attributes:
        samples: (num_samples, prediction_length); of a multivariate series (num_samples, variates, prediction_length).
    """

    samples: torch.Tensor

    def numpy(self) -> npt.NDArray[np.float32] | npt.NDArray[np.float64]:
        """The samples as an array of the same shape; it shares their memory."""
        array: npt.NDArray[np.float32] | npt.NDArray[np.float64] = self.samples.numpy()
        return array

    @property
    def mean(self) -> torch.Tensor:
        """Mean of the samples at each step, (prediction_length,) or (variates, prediction_length)."""
        return self.samples.mean(dim=0)

    @property
    def median(self) -> torch.Tensor:
        """Median of the samples at each step; same shape as the mean."""
        return self.quantile(0.5)

    @property
    def std(self) -> torch.Tensor:
        """Standard deviation of the samples at each step; NaN where there is one sample only."""
        return self.samples.std(dim=0) if len(self.samples) > 1 else torch.full_like(self.samples[0], torch.nan)

    def quantile(self, q: float | Sequence[float]) -> torch.Tensor:
        """Quantiles at each step, interpolated linearly between samples.

        Args:
            q: a level from 0 to 1, or several; then the result has one more dimension, the first, for them.

        Raises:
            InputError: a level is outside 0 to 1.
        """
        levels = check_levels([q] if isinstance(q, (int, float)) else q)
        # Not torch.quantile, which refuses more than 16 million numbers.
        samples = self.numpy()
        found = torch.from_numpy(np.quantile(samples, levels, axis=0).astype(samples.dtype, copy=False))
        return found[0] if isinstance(q, (int, float)) else found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        array = np.array(self.samples.numpy(), dtype=dtype) if copy else self.numpy()
        return array if dtype is None else array.astype(dtype, copy=False)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.samples)


def check_levels(levels: Sequence[float]) -> list[float]:
    """The levels of quantiles as floats.

    Raises:
        InputError: there is none, or one is not a number from 0 to 1.
    """
    try:
        checked = [float(level) for level in levels]
    except (TypeError, ValueError) as error:
        raise InputError(f"levels of quantiles are numbers from 0 to 1, not {levels!r}") from error
    if not checked or not all(0 <= level <= 1 for level in checked):
        raise InputError(f"levels of quantiles are from 0 to 1, not {checked}")
    return checked
