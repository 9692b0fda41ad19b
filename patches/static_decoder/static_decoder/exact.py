"""Samples drawn as upstream draws them: the same random numbers for the same seed, in the same order.

Upstream samples the distribution of every point of every copy of the context, and every component of each, and keeps
the last patch and one component. To get its samples from its seed, all of that has to be drawn.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from .mixture import replace_extreme


class Head(NamedTuple):
    """The modules of a backbone that draw.

    Attributes:
        patch: L.
        unembed: from the transformer's output to L vectors of its width.
        distribution: from these to a distribution.
    """

    patch: int
    unembed: Any
    distribution: Any

    @classmethod
    def of(cls, backbone: Any) -> Head:
        """Those of a backbone."""
        return cls(backbone.patch_embed.patch_size, backbone.unembed, backbone.output_distribution)


def draw(head: Head, hidden: torch.Tensor, copies: int, loc: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Samples of the patch after the last token, shape (copies * rows, V, L).

    Args:
        head: the model's own.
        hidden: the transformer's output, (rows, V, tokens, D).
        copies: samples of each row.
        loc: of the patch to come, (rows * copies or rows, V).
        scale: likewise.
    """
    patch = head.patch
    points = head.unembed(hidden).unflatten(-1, (patch, -1)).flatten(2, 3)
    distribution = head.distribution(points)
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
