"""Buffers and programs for one shape of forecast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch

from . import exact, rotary, steps
from .copies import Copies
from .mixture import wide
from .programs import Programs
from .rotary import Rotary
from .statistics import Running

if TYPE_CHECKING:
    from .decoder import Request


@dataclass(frozen=True)
class Shape:
    """What buffers, compiled code and recorded graphs are made for.

    Attributes:
        batch: series at once, B.
        variates: of each, V.
        context: patches, filled up to a bucket.
        samples: drawn at once, S.
        mean: the mean in place of samples.
        exact: draws what upstream draws, in its order.
        known: variates whose future is known.
        labels: a variate label stands before the context.
        dtype: of series and forecast.
        ids: dtype of the groups' numbers.
        device: where everything is.
        compute: dtype of the transformer: another one under autocast.
        settings: of torch, that results depend on.
    """

    batch: int
    variates: int
    context: int
    samples: int
    mean: bool
    exact: bool
    known: int
    labels: bool
    dtype: torch.dtype
    ids: torch.dtype
    device: torch.device
    compute: torch.dtype
    settings: tuple[Any, ...]


class Session:
    """Makes forecasts of one shape, again and again at the same addresses.

    Args:
        capacity: steps after the first patch that fit.
        copies: what was copied from the weights, to be compared with them during each forecast; ``None`` where that is
            done before.
    """

    def __init__(
        self,
        backbone: Any,
        model: steps.Model,
        shape: Shape,
        capacity: int,
        compiler: dict[str, Any] | None,
        copies: Copies | None,
    ) -> None:
        self.capacity = capacity
        self._embedding, self._model, self._shape = backbone.transformer.rotary_emb, model, shape
        self._own_head, self._copies = exact.Head.of(backbone), copies
        self._width = model.weights.embed[0].shape[0]
        self._programs = Programs(shape.device, shape.compute, self._width // model.heads, compiler)
        batch, variates, patch = shape.batch, shape.variates, model.patch
        zeros = partial(torch.zeros, device=shape.device)
        series = (batch, variates, shape.context * patch)
        self._series = zeros(series, dtype=shape.dtype)
        self._valid = zeros(series, dtype=torch.bool)
        self._ids = zeros(series, dtype=shape.ids)
        self._last, self._length, self._slot = (zeros(1, dtype=torch.int64) for _ in range(3))
        self._mask = zeros((shape.samples * batch, 1, variates, variates), dtype=torch.bool)
        self._out = zeros((capacity + 1, shape.samples, batch, variates, patch), dtype=shape.dtype)
        self._sound = zeros(3, dtype=torch.bool)
        self._label = zeros((batch, variates, 1, self._width), dtype=shape.compute) if shape.labels else None
        self._future: steps.Future | None = None
        if shape.known:
            values = zeros((capacity + 1, batch, variates, patch), dtype=shape.dtype)
            known = torch.arange(variates, device=shape.device) >= variates - shape.known
            self._future = steps.Future(values, known)
        tables = (shape.context + shape.labels, max(capacity, 1))
        self._context_rotary, self._step_rotary = (
            Rotary(*(zeros((rows, self._width // model.heads), dtype=wide(shape.compute)) for _ in range(4)))
            for rows in tables
        )
        past = (capacity, shape.samples, batch * variates, model.heads, self._width // model.heads)
        self._past: tuple[steps.KeysValues, ...] = tuple(
            (zeros(past, dtype=shape.compute), zeros(past, dtype=shape.compute))
            for is_time in model.weights.is_time
            if is_time and capacity
        )
        self._points, self._unclean = -1, False
        self._context: steps.Context | None = None
        self._state: tuple[torch.Tensor, Running] | None = None

    def distrust(self) -> None:
        """Sets all buffers anew before the next forecast: this one was cut short, or left infinities in them."""
        self._points, self._unclean = -1, True

    def load(self, request: Request, backbone: Any) -> None:
        """Copies a request into the buffers. Contexts that fill no whole patch get hidden points at the left."""
        patch, points = self._model.patch, request.series.shape[-1]
        if points != self._points:
            self._set_points(points)
        start = -points % patch
        here = (..., slice(start, start + points))
        self._series[here].copy_(request.series)
        self._valid[here].copy_(request.valid)
        self._ids[here].copy_(request.groups)
        if start:
            self._ids[..., :start].copy_(request.groups[..., :1])
        if self._future is not None and request.future is not None:
            self._future.values.zero_()
            given = torch.nn.functional.pad(request.future, (0, -request.future.shape[-1] % patch))
            given = given.unflatten(-1, (-1, patch)).permute(2, 0, 1, 3)
            self._future.values[: given.shape[0], :, -self._shape.known :].copy_(given)
        if self._label is not None:
            label = backbone.build_variate_label_embeds(request.exogenous, self._label)
            self._label.copy_(torch.nn.functional.normalize(label, p=2, dim=-1))

    def _set_points(self, points: int) -> None:
        self._points = -1  # until all is set: a signal may come between
        for buffer in (self._series, self._valid, self._ids, *chain.from_iterable(self._past if self._unclean else ())):
            buffer.zero_()
        embedding, compute = self._embedding, self._shape.compute
        tokens = -(-points // self._model.patch) + self._shape.labels
        self._last.fill_(tokens - 1)
        self._length.fill_(tokens)
        tables = [(self._context_rotary, rotary.of_context(embedding, tokens, compute))]
        if self.capacity:
            tables.append((self._step_rotary, rotary.of_steps(embedding, tokens, self.capacity, compute)))
        for buffers, table in tables:
            for buffer, values in zip(buffers, table, strict=True):
                buffer[: len(values)].copy_(values)
        self._points, self._unclean = points, False

    def run(self, patches: int, samples: int | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Forecasts what was loaded.

        Returns:
            The values; and whether no patch is of two groups, all outputs are finite, and what the decoder copied from
            the weights is still in them.
        """
        self._programs.prepare(self._needed(patches, samples))
        wanted = 1 if samples is None else samples
        rounds = []
        for start in range(0, wanted, self._shape.samples):
            if start:
                self._programs.run("begin", self._begin)
            else:
                self._programs.run("start", self._start)
            for _ in range(patches - 1):
                self._programs.run("step", self._step)
            drawn = self._out[:patches, : min(self._shape.samples, wanted - start)]
            rounds.append(drawn.clone())  # the buffer is written again
        # (patches, S, B, V, L) -> (B, V, patches * L, S)
        values = torch.cat(rounds, 1) if len(rounds) > 1 else rounds[0]
        rounds.clear()  # and their memory
        values = values.permute(2, 3, 0, 4, 1).flatten(2, 3)
        return (values.squeeze(-1) if samples is None else values), self._sound

    def _needed(self, patches: int, samples: int | None) -> dict[str, Callable[[], None]]:
        """The programs that such a forecast runs."""
        programs: dict[str, Callable[[], None]] = {"start": self._start}
        if samples is not None and samples > self._shape.samples:
            programs["begin"] = self._begin
        return programs | ({"step": self._step} if patches > 1 else {})

    def _start(self) -> None:
        self._sound.fill_(True)
        wait = self._programs.aside(self._compare)
        parts = self._programs.parts
        by_token, mask, whole = parts.groups(self._ids, self._last, self._model.patch, self._shape.labels)
        self._context = steps.encode(
            parts, self._model, self._series, self._valid, by_token, self._last, self._context_rotary, self._label,
            every_token=self._shape.exact,
        )  # fmt: skip
        if self.capacity:
            self._mask.unflatten(0, (self._shape.samples, -1)).copy_(mask)
        self._sound[0].copy_(whole)
        self._begin()
        wait()

    def _compare(self) -> None:
        if self._copies is not None:
            self._sound[2].copy_(self._copies.same())

    def _begin(self) -> None:
        assert self._context is not None
        drawn = None
        if self._shape.exact:
            loc, scale, hidden = self._context.loc, self._context.scale, self._context.hidden
            drawn = exact.draw(self._own_head, hidden, self._shape.samples, loc, scale)
            drawn = drawn.unflatten(0, (self._shape.samples, -1))
        draws = None if self._shape.mean else self._shape.samples
        values, running, healthy = steps.begin(
            self._programs.parts, self._model, self._context, self._future, draws, drawn
        )
        self._sound[1].logical_and_(healthy)
        self._out[0].copy_(values)
        if self.capacity:
            self._slot.zero_()
            self._keep(values, running)

    def _step(self) -> None:
        assert self._context is not None and self._state is not None
        values, running, healthy = steps.step(
            self._programs.parts, self._model, *self._state, self._context, self._mask, self._length, self._past,
            self._slot, self._step_rotary, self._future, not self._shape.mean,
            self._draw_like_upstream if self._shape.exact else None,
        )  # fmt: skip
        self._out.index_copy_(0, self._slot + 1, values.unsqueeze(0))
        self._slot.copy_((self._slot + 1).clamp_max(self.capacity - 1))  # recording repeats the last step
        self._keep(values, running)
        self._sound[1].logical_and_(healthy)

    def _keep(self, values: torch.Tensor, running: Running) -> None:
        """Puts what the next step starts from where it will look for it."""
        if self._state is None:  # clones: for one sample, what is kept would be the context's own
            self._state = (values.clone(), Running(*(part.clone() for part in running)))
        self._state[0].copy_(values)
        for buffer, new in zip(self._state[1], running, strict=True):
            buffer.copy_(new)

    def _draw_like_upstream(self, hidden: torch.Tensor, loc: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        rows = (self._shape.samples * self._shape.batch, self._shape.variates)
        drawn = exact.draw(self._own_head, hidden.unflatten(0, (*rows, 1)), 1, loc.flatten(0, 1), scale.flatten(0, 1))
        return drawn.unflatten(0, (self._shape.samples, -1))
