"""Running mean and scale of a series, patch by patch: what upstream's causal scaler computes over the whole series.

Upstream accumulates Welford's statistics point by point in float64 and keeps the last of each patch. Here each patch is
summed up by itself and merged into what came before (Chan, Golub, LeVeque 1979, "Updating formulae and a pairwise
algorithm for computing sample variances"), which is the same number in exact arithmetic and needs nothing of the past
but count, mean and sum of squares.
"""

from __future__ import annotations

from typing import NamedTuple

import torch


class Scaling(NamedTuple):
    """Constants of the model's scaler.

    Attributes:
        minimum: added to the variance, and the least scale.
        bessel: divide by n - 1.
        exponent: the scale stays within 10**exponent of the context's, or ``None`` for no such bound.
    """

    minimum: float
    bessel: bool
    exponent: float | None


class Running(NamedTuple):
    """Statistics up to a patch, all float64, one entry per series.

    Attributes:
        points: how many count.
        mean: their mean.
        squares: their summed squared deviations from the mean.
        low: least scale allowed.
        high: greatest scale allowed.
    """

    points: torch.Tensor
    mean: torch.Tensor
    squares: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor


def of_context(
    series: torch.Tensor, valid: torch.Tensor, patch: int, scaling: Scaling
) -> tuple[torch.Tensor, torch.Tensor, Running]:
    """Mean and scale of every patch of the context, shape (..., patches), and the statistics up to its end.

    Args:
        series: shape (..., patches * patch).
        valid: what counts; same shape, boolean.
    """
    values = series.double().unflatten(-1, (-1, patch))
    weights = valid.double().unflatten(-1, (-1, patch))
    counts, sums = weights.sum(-1), (weights * values).sum(-1)
    means = sums / counts.clamp_min(1.0)
    squares = (weights * (values - means.unsqueeze(-1)) ** 2).sum(-1)
    count, total = counts.cumsum(-1), sums.cumsum(-1)
    mean = total / count.clamp_min(1.0)
    before, mean_before = count - counts, torch.nn.functional.pad(mean[..., :-1], (1, 0))
    between = (means - mean_before) ** 2 * before * counts / count.clamp_min(1.0)
    squares = (squares + between).cumsum(-1)
    low, high = _bounds(count[..., -1], squares[..., -1], scaling)
    running = Running(count[..., -1], mean[..., -1], squares[..., -1], low, high)
    scale = _scale(count, squares, low.unsqueeze(-1), high.unsqueeze(-1), scaling)
    return mean.to(series.dtype), scale.to(series.dtype), running


def after_patch(running: Running, values: torch.Tensor, scaling: Scaling) -> tuple[torch.Tensor, torch.Tensor, Running]:
    """Mean and scale after one more patch in which every point counts, and the new statistics.

    Args:
        values: shape (..., patch).
    """
    wide = values.double()
    added = wide.shape[-1]
    mean_added = wide.mean(-1)
    squares_added = ((wide - mean_added.unsqueeze(-1)) ** 2).sum(-1)
    count = running.points + added
    distance = mean_added - running.mean
    mean = running.mean + distance * added / count
    squares = running.squares + squares_added + distance**2 * running.points * added / count
    scale = _scale(count, squares, running.low, running.high, scaling)
    return mean.to(values.dtype), scale.to(values.dtype), Running(count, mean, squares, running.low, running.high)


def _scale(
    count: torch.Tensor, squares: torch.Tensor, low: torch.Tensor, high: torch.Tensor, scaling: Scaling
) -> torch.Tensor:
    denominator = count.clamp_min(1.0)
    if scaling.bessel:
        denominator = (denominator - 1.0).clamp_min(1.0)
    scale = (squares / denominator + scaling.minimum).sqrt()
    return scale if scaling.exponent is None else torch.minimum(torch.maximum(scale, low), high)


def _bounds(count: torch.Tensor, squares: torch.Tensor, scaling: Scaling) -> tuple[torch.Tensor, torch.Tensor]:
    if scaling.exponent is None:
        return torch.zeros_like(squares), torch.full_like(squares, float("inf"))
    whole = (squares / count.clamp_min(1.0) + scaling.minimum).sqrt()
    low = (whole * 10.0**-scaling.exponent).clamp_min(scaling.minimum)
    return low, whole * 10.0**scaling.exponent
