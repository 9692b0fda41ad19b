"""Samples drawn as upstream draws them: the same random numbers for the same seed, in the same order.

Upstream samples the distribution of every point of every copy of the context, and every component of each, and keeps
the last patch and one component. To get its samples from its seed, all of that has to be drawn.
"""

from __future__ import annotations

from typing import Any

import torch

from .mixture import replace_extreme


def draw(backbone: Any, hidden: torch.Tensor, copies: int, loc: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Samples of the patch after the last token, shape (copies * rows, V, L).

    Args:
        backbone: whose own head and distribution are used.
        hidden: the transformer's output, (rows, V, tokens, D).
        copies: samples of each row.
        loc: of the patch to come, (rows * copies or rows, V).
        scale: likewise.
    """
    patch = backbone.patch_embed.patch_size
    points = backbone.unembed(hidden).unflatten(-1, (patch, -1)).flatten(2, 3)
    distribution = backbone.output_distribution(points)
    weights, components = distribution.mixture_distribution, distribution.component_distribution
    if copies > 1:
        weights = type(weights)(probs=_copied(weights.probs, copies))
        parts = (components.df, components.loc, components.scale)
        components = type(components)(*(_copied(part, copies) for part in parts))
        distribution = type(distribution)(weights, components)
        loc, scale = _copied(loc, copies), _copied(scale, copies)
    sample = distribution.sample()[:, :, -patch:]
    return replace_extreme(loc.unsqueeze(-1) + scale.unsqueeze(-1) * sample)


def _copied(values: torch.Tensor, copies: int) -> torch.Tensor:
    """Copies along the first dimension, one whole batch after the other."""
    return values.repeat(copies, *[1] * (values.ndim - 1))
