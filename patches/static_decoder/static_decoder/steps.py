"""The three programs of a forecast: encode the context, begin a batch of samples, make one more step of it.

Each is a function of tensors alone and calls its parts through ``Parts``, which may be compiled. Shapes: B series of V
variates, S samples at once, patches of length L, K mixture components.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it

from . import layers, mixture, statistics
from .rotary import Rotary
from .statistics import Running, Scaling
from .weights import Layer, Weights

KeysValues = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Model:
    """What never changes between forecasts.

    Attributes:
        weights: all parameters.
        heads: attention heads.
        patch: L.
        components: K.
        scaling: constants of the scaler.
    """

    weights: Weights
    heads: int
    patch: int
    components: int
    scaling: Scaling


class Context(NamedTuple):
    """A context that was read.

    Attributes:
        keys_values: of every time-wise layer.
        raw: the head's outputs for the patch to come, (B, V, L * 4 * K).
        loc: of that patch, (B, V).
        scale: likewise.
        running: statistics up to the end, (B, V) each.
        hidden: output of the transformer for every token of a patch, (B, V, patches, D), if that was asked for.
    """

    keys_values: tuple[KeysValues, ...]
    raw: torch.Tensor
    loc: torch.Tensor
    scale: torch.Tensor
    running: Running
    hidden: torch.Tensor


class Future(NamedTuple):
    """What is known of the future.

    Attributes:
        values: (steps, B, V, L); only those of known variates count.
        known: which variates, (V,).
    """

    values: torch.Tensor
    known: torch.Tensor


def embed_context(
    series: torch.Tensor, valid: torch.Tensor, label: torch.Tensor | None, model: Model
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Running]:
    """Scales and embeds the context: tokens (B V tokens, D), mean and scale of every patch, statistics."""
    mean, scale, running = statistics.of_context(series, valid, model.patch, model.scaling)
    scaled = (series.unflatten(-1, (-1, model.patch)) - mean.unsqueeze(-1)) / scale.unsqueeze(-1)
    tokens = F.linear(scaled, *model.weights.embed)
    if label is not None:
        tokens = torch.cat((label.to(tokens.dtype), tokens), dim=-2)
    return tokens.flatten(0, -2), mean, scale, running


def embed_step(
    patch: torch.Tensor, running: Running, model: Model
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Running]:
    """Scales and embeds one more patch per sample: tokens (S B V, D), mean, scale and statistics after it."""
    mean, scale, running = statistics.after_patch(running, patch, model.scaling)
    scaled = (patch - mean.unsqueeze(-1)) / scale.unsqueeze(-1)
    return F.linear(scaled, *model.weights.embed).flatten(0, -2), mean, scale, running


def next_patch(
    raw: torch.Tensor, loc: torch.Tensor, scale: torch.Tensor, future: Future | None, draws: int | None, components: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples, or the mean where ``draws`` is ``None``: (draws or 1, *batch, L) from raw (*batch, L * 4 * K).

    Args:
        future: values (B, V, L) of the step at hand in place of all steps.

    Returns:
        The values, and whether all of ``raw`` is finite.
    """
    parameters = mixture.of_head(raw.unflatten(-1, (-1, 4, components)))
    values = mixture.mean(parameters).unsqueeze(0) if draws is None else mixture.draw(parameters, draws)
    values = mixture.replace_extreme((values * scale.unsqueeze(-1) + loc.unsqueeze(-1)).to(loc.dtype))
    return _with_known(values, future), raw.isfinite().all()


def groups(
    ids: torch.Tensor, last: torch.Tensor, patch: int, label: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the group of each variate at each point, (B, V, points), means for tokens.

    Args:
        last: index of the last real token; shape (1,).
        label: a token stands before the first patch.

    Returns:
        The group of each variate in each token, (B, tokens, V); which variates see each other after the context,
        (B, 1, V, V); and whether no patch is of two groups.
    """
    by_point = ids.unflatten(-1, (-1, patch))
    by_token = by_point[..., 0]
    whole = (by_point == by_token.unsqueeze(-1)).all()
    if label:
        by_token = torch.cat((by_token[..., :1], by_token), -1)
    by_token = by_token.transpose(1, 2)
    newest = by_token.index_select(1, last).squeeze(1)
    return by_token, (newest.unsqueeze(-1) == newest.unsqueeze(-2)).unsqueeze(1), whole


def last_rows(
    stream: torch.Tensor, update: torch.Tensor, last: torch.Tensor, series: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Stream and update of the last real token of every series: from (series * tokens, D) to (series, D) each."""
    stream, update = (
        part.unflatten(0, (series, -1)).index_select(1, last).squeeze(1)
        for part in (stream, layers.merged(update).to(stream.dtype))
    )
    return stream, update


def of_patch(mean: torch.Tensor, scale: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and scale of one patch, from (B, V, patches) to (B, V) each."""
    return mean.index_select(-1, index).squeeze(-1), scale.index_select(-1, index).squeeze(-1)


def _with_known(values: torch.Tensor, future: Future | None) -> torch.Tensor:
    return values if future is None else torch.where(future.known.unsqueeze(-1), future.values, values)


@dataclass(frozen=True)
class Parts:
    """The functions that programs call, compiled or not."""

    normed: Callable[..., Any] = layers.normed
    added: Callable[..., Any] = layers.added
    gated: Callable[..., Any] = layers.gated
    linear: Callable[..., Any] = layers.linear
    project: Callable[..., Any] = layers.project
    attend_context: Callable[..., Any] = layers.attend_context
    attend_variates: Callable[..., Any] = layers.attend_variates
    attend_step: Callable[..., Any] = layers.attend_step
    embed_context: Callable[..., Any] = embed_context
    embed_step: Callable[..., Any] = embed_step
    last_rows: Callable[..., Any] = last_rows
    of_patch: Callable[..., Any] = of_patch
    groups: Callable[..., Any] = groups
    next_patch: Callable[..., Any] = next_patch


def _finish(
    parts: Parts, stream: torch.Tensor, attended: torch.Tensor, layer: Layer, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output projection and MLP of a layer: the stream and the update to it."""
    stream, inner = parts.normed(stream, parts.linear(attended, *layer.out), layer.norm2, eps)
    return stream, parts.linear(parts.gated(parts.linear(inner, *layer.up)), *layer.down)


def encode(
    parts: Parts,
    model: Model,
    series: torch.Tensor,
    valid: torch.Tensor,
    by_token: torch.Tensor,
    last: torch.Tensor,
    rotary: Rotary,
    label: torch.Tensor | None,
    every_token: bool = False,
) -> Context:
    """Reads the context once.

    Args:
        series: (B, V, patches * L), filled up at the right where ``last`` is not the last patch.
        valid: which points count; same shape.
        by_token: group of each variate in each token, (B, tokens, V).
        last: index of the last real token; shape (1,).
        rotary: tables with a row per token.
        label: a token to put before the others, (B, V, 1, D).
        every_token: give the output for every token that stands for a real patch, not for the last alone.
    """
    batch, _, variates = by_token.shape
    stream, mean, scale, running = parts.embed_context(series, valid, label, model)
    update: torch.Tensor | None = None
    kept: list[KeysValues] = []
    final = max(index for index, is_time in enumerate(model.weights.is_time) if is_time)
    for index, (layer, is_time) in enumerate(zip(model.weights.layers, model.weights.is_time, strict=True)):
        stream, inner = parts.normed(stream, update, layer.norm1, model.weights.eps)
        qkv = parts.project(inner, *layer.qkv, model.heads)
        if is_time:
            attended, *keys_values = parts.attend_context(qkv, rotary, batch * variates)
            kept.append(tuple(keys_values))
        else:
            attended = _over_variates(parts, qkv, by_token)
        stream, update = _finish(parts, stream, attended, layer, model.weights.eps)
        if index == final and not every_token:  # later layers look at nothing but their own token
            stream, update = parts.last_rows(stream, update, last, batch * variates)
            by_token = by_token.index_select(1, last)
    assert update is not None
    hidden = stream
    if every_token:
        whole = layers.added(stream, update).unflatten(0, (batch, variates, -1))
        hidden = whole[:, :, 0 if label is None else 1 : int(last) + 1]
        stream, update = last_rows(stream, update, last, batch * variates)
    raw = model.weights.head(parts.linear, parts.added(stream, update))
    loc, scale = parts.of_patch(mean, scale, last - (0 if label is None else 1))
    return Context(tuple(kept), raw.unflatten(0, (batch, variates)), loc, scale, running, hidden)


def _over_variates(parts: Parts, qkv: torch.Tensor, by_token: torch.Tensor) -> torch.Tensor:
    """Rows are (batch, variates, tokens); attention wants variates innermost."""
    batch, tokens, variates = by_token.shape
    mask = (by_token.unsqueeze(-1) == by_token.unsqueeze(-2)).flatten(0, 1).unsqueeze(1)
    if tokens == 1 or variates == 1:
        return parts.attend_variates(qkv, mask)
    qkv = qkv.sum(0) if qkv.ndim == 5 else qkv
    rows = qkv.unflatten(0, (batch, variates, tokens)).transpose(1, 2).flatten(0, 2)
    attended = parts.attend_variates(rows, mask)
    return attended.unflatten(0, (batch, tokens, variates)).transpose(1, 2).flatten(0, 2)


def begin(
    parts: Parts, model: Model, context: Context, future: Future | None, draws: int | None,
    drawn: torch.Tensor | None = None,
) -> tuple[torch.Tensor, Running, torch.Tensor]:  # fmt: skip
    """The first patch of a batch of samples, (S, B, V, L), statistics for each of them, whether all was finite.

    Args:
        draws: S, or ``None`` for the mean.
        drawn: samples (S, B, V, L) that were drawn elsewhere.
    """
    now = None if future is None else future._replace(values=future.values[0])
    if drawn is not None:
        values, healthy = _with_known(drawn, now), context.raw.isfinite().all()
    else:
        values, healthy = parts.next_patch(context.raw, context.loc, context.scale, now, draws, model.components)
    return values, Running(*(part.expand(values.shape[:-1]) for part in context.running)), healthy


def step(
    parts: Parts,
    model: Model,
    patch: torch.Tensor,
    running: Running,
    context: Context,
    mask: torch.Tensor,
    length: torch.Tensor,
    past: tuple[KeysValues, ...],
    slot: torch.Tensor,
    rotary: Rotary,
    future: Future | None,
    sample: bool,
    draw: Callable[..., torch.Tensor] | None = None,
) -> tuple[torch.Tensor, Running, torch.Tensor]:
    """One more patch per sample.

    Args:
        patch: the patch before, (S, B, V, L).
        running: statistics before that patch.
        mask: which variates see each other, (S B, 1, V, V).
        length: tokens of the context that are real; shape (1,).
        past: buffers of keys and values of every time-wise layer.
        slot: index of the step; shape (1,).
        rotary: tables with a row per step.
        sample: draw a sample, else take the mean.
        draw: draws (S B V, L) from the transformer's output (S B V, D), loc and scale (S, B, V) in place of the head.

    Returns:
        The new patch, the statistics, and whether the head's outputs are finite.
    """
    shape = patch.shape[:-1]
    stream, mean, scale, running = parts.embed_step(patch, running, model)
    update: torch.Tensor | None = None
    cached = iter(zip(context.keys_values, past, strict=True))
    for layer, is_time in zip(model.weights.layers, model.weights.is_time, strict=True):
        stream, inner = parts.normed(stream, update, layer.norm1, model.weights.eps)
        qkv = parts.project(inner, *layer.qkv, model.heads)
        if is_time:
            far, near = next(cached)
            attended = parts.attend_step(qkv, rotary, far, length, near, slot)
        else:
            attended = parts.attend_variates(qkv, mask)
        stream, update = _finish(parts, stream, attended, layer, model.weights.eps)
    assert update is not None
    hidden = parts.added(stream, update)
    raw = model.weights.head(parts.linear, hidden).unflatten(0, shape)
    now = None if future is None else future._replace(values=future.values.index_select(0, slot + 1).squeeze(0))
    if draw is not None:
        return _with_known(draw(hidden, mean, scale), now), running, raw.isfinite().all()
    values, healthy = parts.next_patch(raw, mean, scale, now, 1 if sample else None, model.components)
    return values.squeeze(0), running, healthy
