"""Rotary tables: the factors that the model's own positional embedding multiplies queries and keys by."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from .mixture import wide


class Rotary(NamedTuple):
    """Factors for rotation, each of shape (positions, head_dim), float32 or wider.

    Attributes:
        q_cos: for queries.
        q_sin: for queries turned by a quarter.
        k_cos: for keys.
        k_sin: for keys turned by a quarter.
    """

    q_cos: torch.Tensor
    q_sin: torch.Tensor
    k_cos: torch.Tensor
    k_sin: torch.Tensor


def of_context(embedding: Any, length: int, dtype: torch.dtype) -> Rotary:
    """The tables for a context of ``length`` tokens that is processed in one call.

    xPos centres its scale on the middle of the call, so the tables depend on the true length.
    """
    positions = embedding.get_seq_pos(length, dtype=dtype, device=embedding.freqs.device)
    return _table(embedding, positions.unsqueeze(0), dtype)


def of_steps(embedding: Any, first: int, count: int, dtype: torch.dtype) -> Rotary:
    """The tables for tokens that are processed one call each, at positions ``first``, ``first + 1``, ..."""
    start = embedding.get_seq_pos(1, dtype=dtype, device=embedding.freqs.device)
    positions = torch.stack([start + offset for offset in range(first, first + count)])
    return _table(embedding, positions, dtype)


def _table(embedding: Any, calls: torch.Tensor, dtype: torch.dtype) -> Rotary:
    """Positions of shape (calls, tokens of a call) -> tables with a row per token."""
    angles = embedding.forward(calls.reshape(-1))
    scale = torch.cat([embedding.get_scale(call).to(dtype) for call in calls])
    cos, sin, scale, inverse = (part.to(wide(dtype)) for part in (angles.cos(), angles.sin(), scale, scale**-1))
    return Rotary(cos * scale, sin * scale, cos * inverse, sin * inverse)


def rotated(values: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotates neighbouring pairs of the last dimension by the factors of a table."""
    first, second = values.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((-second, first), -1).flatten(-2)
    return (values * cos + turned * sin).to(values.dtype)
