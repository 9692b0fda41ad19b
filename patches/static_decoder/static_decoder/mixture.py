"""Samples and means of a mixture of Student-T distributions, from the raw outputs of the head."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it


class Mixture(NamedTuple):
    """Parameters of K components per point, each of shape (..., K), in float32 or wider.

    Attributes:
        df: degrees of freedom, above 2.
        loc: where components lie.
        scale: how wide they are.
        weights: how much each counts; they sum to 1.
    """

    df: torch.Tensor
    loc: torch.Tensor
    scale: torch.Tensor
    weights: torch.Tensor


def wide(dtype: torch.dtype) -> torch.dtype:
    """What to compute in where 16 bits are too few: float32, or float64 as given."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def of_head(raw: torch.Tensor) -> Mixture:
    """The mixture that the head's outputs of shape (..., 4, K) stand for."""
    eps = torch.finfo(raw.dtype).eps
    df, loc, scale, logits = raw.to(wide(raw.dtype)).unbind(-2)
    return Mixture(2.0 + F.softplus(df).clamp_min(eps), loc, F.softplus(scale).clamp_min(eps), logits.softmax(-1))


def mean(mixture: Mixture) -> torch.Tensor:
    """The mean, shape (...): every component has one, for its degrees of freedom are above 2."""
    return (mixture.weights * mixture.loc).sum(-1)


def draw(mixture: Mixture, draws: int) -> torch.Tensor:
    """Independent samples, shape (draws, ...).

    A component is drawn by its weight, then one Student-T variate from two uniform numbers: with u and v uniform,
    sqrt(df (u^(-2/df) - 1)) cos(2 pi v) follows Student's t (Bailey 1994, "Polar generation of random variates with the
    t-distribution", Mathematics of Computation 62). There is no rejection and no gamma variate, so it is the same few
    operations for every point.
    """
    shape = (draws, *mixture.df.shape[:-1])
    uniform = torch.rand((3, *shape), device=mixture.df.device, dtype=mixture.df.dtype)
    edges = mixture.weights.cumsum(-1)
    chosen = (uniform[0] * edges[..., -1]).unsqueeze(-1) >= edges[..., :-1]
    index = chosen.sum(-1, keepdim=True)
    df, loc, scale = (
        part.expand(*shape, part.shape[-1]).gather(-1, index).squeeze(-1)
        for part in (mixture.df, mixture.loc, mixture.scale)
    )
    radius = (df * torch.expm1(-2.0 / df * torch.log1p(-uniform[1]))).sqrt()
    return loc + scale * radius * torch.cos(2.0 * math.pi * uniform[2])


def replace_extreme(values: torch.Tensor) -> torch.Tensor:
    """Zero in place of what is not finite or beyond half of the dtype's range, as upstream does it."""
    usual = values.abs() < torch.finfo(values.dtype).max / 2  # false for NaN too
    return torch.where(usual, values, torch.zeros((), dtype=values.dtype, device=values.device))
