"""A transformer layer as functions of tensors.

Tokens are rows. The residual stream travels as a pair (stream, update), so that adding the update and normalising the
sum is one pass over memory. An update, and projected queries, keys and values, may come in parts that are still to be
added up, (parts, rows, width): kernels that split a long sum leave its end to whoever reads it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it

from .mixture import wide
from .rotary import Rotary, rotated

FEW_VARIATES = 8


def merged(values: torch.Tensor) -> torch.Tensor:
    """What may come in parts, in one piece."""
    return values if values.ndim == 2 else values.sum(0)


def added(stream: torch.Tensor, update: torch.Tensor) -> torch.Tensor:
    """Stream and update, (rows, D)."""
    return stream + merged(update).to(stream.dtype)


def normed(
    stream: torch.Tensor, update: torch.Tensor | None, scale: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Adds the update: the stream, and its root-mean-square norm times ``scale``, each (rows, D)."""
    if update is not None:
        stream = added(stream, update)
    return stream, stream / torch.sqrt(torch.mean(stream * stream, dim=-1, keepdim=True) + eps) * scale


def gated(values: torch.Tensor) -> torch.Tensor:
    """SwiGLU: the first half of the last dimension gates the second."""
    gate, inner = merged(values).chunk(2, dim=-1)
    return F.silu(gate) * inner


def linear(values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """A linear map: (rows, outputs), or its parts."""
    return F.linear(values, weight, bias)


def project(values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, heads_count: int) -> torch.Tensor:
    """Queries, keys and values: (rows, 3, heads, head_dim), or its parts. The model itself keeps heads innermost."""
    return linear(values, weight, bias).unflatten(-1, (3, -1, heads_count)).transpose(-1, -2).contiguous()


def attend_context(qkv: torch.Tensor, rotary: Rotary, series: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Causal attention over the context of every series.

    Args:
        qkv: (series * tokens, 3, heads, head_dim).
        rotary: tables with a row per token.

    Returns:
        What was attended, (series * tokens, D), and keys and values of shape (series, heads, tokens, head_dim).
    """
    query, key, value = qkv.unflatten(0, (series, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    query = rotated(query, rotary.q_cos, rotary.q_sin)
    key = rotated(key, rotary.k_cos, rotary.k_sin)
    attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    return attended.transpose(1, 2).flatten(2).flatten(0, 1), key.contiguous(), value.contiguous()


def attend_variates(qkv: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Attention over the variates of one time step: (groups * variates, 3, heads, head_dim) -> the same rows, D wide.

    Args:
        mask: shape (groups or 1, 1, variates, variates), true where one variate may look at another.
    """
    if qkv.ndim == 5:
        qkv = qkv.sum(0)
    variates = mask.shape[-1]
    if variates == 1:  # attention to oneself alone gives one's value
        return qkv[:, 2].flatten(1)
    query, key, value = qkv.unflatten(0, (-1, variates)).permute(2, 0, 3, 1, 4).unbind(0)
    if variates <= FEW_VARIATES:  # too little for attention kernels: they take longer than the sums written out
        scores = (query.unsqueeze(3) * key.unsqueeze(2)).sum(-1).to(wide(query.dtype)) * query.shape[-1] ** -0.5
        weights = scores.masked_fill(~mask, float("-inf")).softmax(-1).to(value.dtype)
        attended = (weights.unsqueeze(-1) * value.unsqueeze(2)).sum(3)
    else:
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return attended.transpose(1, 2).flatten(2).flatten(0, 1)


def attend_step(
    qkv: torch.Tensor,
    rotary: Rotary,
    context: tuple[torch.Tensor, torch.Tensor],
    length: torch.Tensor,
    past: tuple[torch.Tensor, torch.Tensor],
    slot: torch.Tensor,
) -> torch.Tensor:
    """Attention of one new token per sample over its series' context and its own past.

    Args:
        qkv: shape (samples * series, 3, heads, head_dim).
        rotary: tables with a row per step.
        context: keys and values (series, heads, tokens, head_dim), shared by all samples of a series.
        length: how many of these tokens are real; shape (1,).
        past: buffers for keys and values (steps, samples, series, heads, head_dim); the new token is written to them.
        slot: index of the new token among the steps; shape (1,).

    Returns:
        What was attended, shape (samples * series, D).
    """
    keys, values = context
    own_keys, own_values = past
    series, _, tokens, width = keys.shape
    query, key, value = qkv.unflatten(0, (-1, series)).unbind(2)
    row = Rotary(*(table.index_select(0, slot) for table in rotary))
    query = rotated(query, row.q_cos, row.q_sin)
    own_keys.index_copy_(0, slot, rotated(key, row.k_cos, row.k_sin).unsqueeze(0))
    own_values.index_copy_(0, slot, value.unsqueeze(0))
    by_head = query.permute(1, 2, 0, 3)  # (series, heads, samples, head_dim)
    far = by_head @ keys.transpose(-1, -2)
    far = far.masked_fill(torch.arange(tokens, device=far.device) >= length, float("-inf"))
    near = (query * own_keys).sum(-1).permute(2, 3, 1, 0)  # (series, heads, samples, steps)
    near = near.masked_fill(torch.arange(near.shape[-1], device=near.device) > slot, float("-inf"))
    weights = (torch.cat((far, near), -1).to(wide(qkv.dtype)) * width**-0.5).softmax(-1).to(qkv.dtype)
    attended = weights[..., :tokens] @ values
    recent = weights[..., tokens:].permute(3, 2, 0, 1).unsqueeze(-1) * own_values
    return (attended.permute(2, 0, 1, 3) + recent.sum(0)).flatten(2).flatten(0, 1)
