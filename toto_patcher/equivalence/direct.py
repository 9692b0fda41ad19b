"""Drives the public methods of ``KVCache`` and a single attention layer without the model around them.

Only for child processes. Users call these too, and a fault here can hide behind the model's own order of calls.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from toto_patcher.equivalence.case import Case

Arrays = dict[str, npt.NDArray[Any]]
_ROOM = 7
_MASK_VALUE = float("-inf")


class _Log:
    """Collects what happened, in order, to be compared to the bit."""

    def __init__(self) -> None:
        self.arrays: Arrays = {}

    def add(self, label: str, value: Any, scoring: str = "exact") -> None:
        """Stores a tensor, numbers or a text under a numbered label."""
        if isinstance(value, torch.Tensor):
            value = value.detach().to("cpu", torch.float32, copy=True).numpy()
        self.arrays[f"{scoring}|{len(self.arrays):02d} {label}"] = np.asarray(value)

    def attempt(self, label: str, call: Callable[[], object]) -> None:
        """Stores whether a call worked or which kind of error it raised."""
        try:
            call()
        except Exception as error:  # whatever it is, the other tree must raise the same
            self.add(label, type(error).__name__)
        else:
            self.add(label, "worked")


def _allocate(case: Case, model: Any, dtype: torch.dtype) -> Any:
    steps = _ROOM * model.patch_embed.stride
    return model.allocate_kv_cache(case.batch, case.variates, steps, model.device, dtype)


def _pair(case: Case, model: Any, length: int, salt: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    heads = model.transformer.layers[0].num_heads
    rows, dim = case.batch * case.variates, model.embed_dim // heads
    shape = (rows, length, heads, dim) if case.layout == "sequence-first" else (rows, heads, length, dim)
    generator = torch.Generator().manual_seed(salt)
    keys, values = (torch.randn(shape, generator=generator).to(model.device, dtype) for _ in range(2))
    return keys, values


def _time_layers(model: Any) -> list[int]:
    return [i for i, layer in enumerate(model.transformer.layers) if layer.attention_axis.name == "TIME"]


def drive_cache(case: Case, model: Any, dtype: torch.dtype) -> Arrays:
    """Lengths and contents after every kind of call: single layers, refill, overflow, wrong shapes, reset."""
    cache, log = _allocate(case, model, dtype), _Log()
    time_layers = _time_layers(model)

    def observe(label: str) -> None:
        log.add(f"{label}: seq_len", [int(cache.seq_len(layer)) for layer in range(model.num_layers)])
        log.add(f"{label}: current_len", [int(cache.current_len(index)) for index in range(len(time_layers))])
        for layer in range(model.num_layers):
            for name, tensor in zip(("keys", "values"), cache[layer], strict=True):
                log.add(f"{label}: {name} {layer}", tensor)

    def append(layer: int, length: int, salt: int) -> None:
        keys, values = _pair(case, model, length, salt, dtype)
        cache.append(layer, (keys, values))
        keys.fill_(1e3)  # what the caller does with its tensors afterwards must not reach the cache
        values.fill_(1e3)

    observe("empty")
    append(time_layers[-1], 2, 1)
    observe("only the last layer")
    append(time_layers[0], 3, 2)
    append(time_layers[-1], 1, 3)
    observe("uneven lengths")
    log.attempt("overflow by one", lambda: append(time_layers[0], _ROOM - 2, 4))
    log.attempt("keys and values differ", lambda: cache.append(time_layers[0], _unequal(case, model, dtype)))
    log.attempt("wrong batch", lambda: cache.append(time_layers[0], _cut(_pair(case, model, 1, 5, dtype), 0)))
    for axis in (1, 2, 3):
        cut = _cut(_pair(case, model, _ROOM + 1, 6, dtype), axis)
        log.attempt(f"shape short on axis {axis}", partial(cache.append, time_layers[0], cut))
    observe("after refusals")
    append(time_layers[0], _ROOM - 3, 7)
    observe("full")
    log.attempt("overflow of a full layer", lambda: append(time_layers[0], 1, 8))
    cache.reset()
    observe("reset")
    for layer in time_layers:
        append(layer, 2, 9 + layer)
    observe("after reset")
    twin = copy.copy(cache)
    twin.append(time_layers[0], _pair(case, model, 1, 19, dtype))
    observe("after an append to a shallow copy")
    twin.reset()
    observe("after a reset of the shallow copy")
    wide = _pair(case, model, 1, 20, torch.float64)
    log.attempt("another dtype", lambda: cache.append(time_layers[-1], wide))
    observe("after another dtype")
    log.add("dtype", str(cache[time_layers[0]][0].dtype))
    return log.arrays


def _cut(pair: tuple[torch.Tensor, torch.Tensor], axis: int) -> tuple[torch.Tensor, torch.Tensor]:
    keys, values = pair
    return keys.narrow(axis, 0, keys.shape[axis] - 1), values.narrow(axis, 0, values.shape[axis] - 1)


def _unequal(case: Case, model: Any, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    return _pair(case, model, 2, 5, dtype)[0], _pair(case, model, 1, 5, dtype)[1]


def drive_attention(case: Case, model: Any, dtype: torch.dtype) -> Arrays:
    """Two time-wise layers fed unevenly: without a mask, with one, with another cache dtype, without rotary."""
    log = _Log()
    first, last = _time_layers(model)[0], _time_layers(model)[-1]
    other = torch.float32 if dtype == torch.bfloat16 else torch.bfloat16
    embedding = model.transformer.layers[last].attention.rotary_emb
    model.transformer.train(case.training)
    try:
        for label, cache_dtype, masked, rotary in (
            ("plain", dtype, False, True),
            ("masked", dtype, True, True),
            ("another cache dtype", other, False, True),
            ("no rotary embedding", dtype, False, False),
        ):
            for layer in (first, last):
                model.transformer.layers[layer].attention.rotary_emb = embedding if rotary else None
            cache = _allocate(case, model, cache_dtype)
            mask = _mask(case, model) if masked else None
            for number, (layer, length) in enumerate(
                ((last, 3), (first, 2), (last, 1), (first, 1), (last, 2), (last, 1))
            ):
                generator = torch.Generator().manual_seed(number)
                shape = (case.batch, case.variates, length, model.embed_dim)
                hidden = torch.randn(shape, generator=generator).to(model.device, dtype)
                torch.manual_seed(number)
                output = model.transformer.layers[layer].attention(layer, hidden, mask, cache)
                log.add(f"{label}: output {number}", output, "direct")
                log.add(f"{label}: lengths {number}", [int(cache.seq_len(i)) for i in range(model.num_layers)])
    finally:
        for layer in (first, last):
            model.transformer.layers[layer].attention.rotary_emb = embedding
        model.transformer.eval()
    _with_gradients(case, model, dtype, log)
    _space_leaves_cache_alone(case, model, dtype, log)
    return log.arrays


def _with_gradients(case: Case, model: Any, dtype: torch.dtype, log: _Log) -> None:
    """Two steps, then back through both: what the first has read must not have been overwritten by the second."""
    layer = _time_layers(model)[0]
    with torch.enable_grad():
        cache = _allocate(case, model, dtype)
        generator = torch.Generator().manual_seed(5)
        shape = (case.batch, case.variates, 2, model.embed_dim)
        chunks = [torch.randn(shape, generator=generator).to(model.device, dtype).requires_grad_() for _ in range(2)]
        outputs = [model.transformer.layers[layer].attention(layer, chunk, None, cache) for chunk in chunks]
        log.attempt("gradients", lambda: torch.autograd.backward([output.square().mean() for output in outputs]))
    for number, chunk in enumerate(chunks):
        log.add(f"gradient {number}", torch.zeros(()) if chunk.grad is None else chunk.grad, "direct")
    model.zero_grad(set_to_none=True)


def _mask(case: Case, model: Any) -> torch.Tensor:
    """Causal with some earlier positions hidden; never a whole row."""
    heads = model.transformer.layers[0].num_heads
    shape = (case.batch * case.variates, heads, _ROOM, _ROOM)
    random = torch.rand(shape, generator=torch.Generator().manual_seed(3)) > 0.3
    allowed = (random | torch.eye(_ROOM, dtype=torch.bool)).tril().to(model.device)
    if case.layout == "heads-first":
        return allowed
    return torch.zeros(shape, device=model.device).masked_fill(~allowed, _MASK_VALUE)


def _space_leaves_cache_alone(case: Case, model: Any, dtype: torch.dtype, log: _Log) -> None:
    space = next(i for i in range(model.num_layers) if i not in _time_layers(model))
    cache = _allocate(case, model, dtype)
    shape = (case.batch, case.variates, 2, model.embed_dim)
    hidden = torch.randn(shape, generator=torch.Generator().manual_seed(4)).to(model.device, dtype)
    log.add("space: output", model.transformer.layers[space].attention(space, hidden, None, cache), "direct")
    log.add("space: lengths", [int(cache.seq_len(i)) for i in range(model.num_layers)])
