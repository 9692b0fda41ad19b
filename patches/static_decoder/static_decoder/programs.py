"""Runs a session's programs: as they are, compiled, or recorded as CUDA graphs."""

from __future__ import annotations

import functools
import importlib.util
import types
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch

from .steps import Parts

GRAPHED = {"reduce-overhead": "default", "max-autotune": "max-autotune-no-cudagraphs"}
"""Modes of torch.compile that mean CUDA graphs. The parts are compiled without; each whole program is recorded once."""
WARM_UP = 2


class Programs:
    """The programs of one shape.

    Args:
        device: where they run.
        dtype: of the transformer.
        width: of an attention head.
        compiler: keyword arguments of ``torch.compile``, or ``None`` to run as they are.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, width: int, compiler: dict[str, Any] | None) -> None:
        self._records = False
        self._graphs: dict[str, torch.cuda.CUDAGraph] = {}
        self._pool: Any = None
        if compiler is None:
            self.parts = _with_kernels(Parts(), device, dtype, width)
            return
        options = dict(compiler)
        mode = options.pop("mode", None) or "default"
        inductor = options.get("backend", "inductor") == "inductor"
        self._records = mode in GRAPHED and device.type == "cuda" and inductor
        if inductor and "options" not in options:
            options["mode"] = GRAPHED.get(mode, mode)
        plain = () if mode.startswith("max-autotune") else ("linear",)  # a library call gains nothing from less
        compiled = {
            field.name: _PerShape(getattr(Parts, field.name), options)
            for field in fields(Parts)
            if field.name not in plain
        }
        self.parts = _with_kernels(Parts(**compiled), device, dtype, width)

    def prepare(self, programs: dict[str, Callable[[], None]]) -> None:
        """Records programs, in order; nothing where they are not recorded, or were before.

        Recording runs each program a few times, so it must not depend on how often it ran. Random numbers drawn
        meanwhile do not count: the same seed gives the same samples whether or not anything was recorded.
        """
        if not self._records or programs.keys() <= self._graphs.keys():
            return
        state = torch.cuda.get_rng_state()
        for name, program in programs.items():
            if name not in self._graphs:
                self._graphs[name] = self._record(program)
            self._graphs[name].replay()
        torch.cuda.set_rng_state(state)

    def run(self, name: str, program: Callable[[], None]) -> None:
        """Runs a program; recorded, that is one launch."""
        if self._records:
            self._graphs[name].replay()
        else:
            program()

    def aside(self, work: Callable[[], None]) -> Callable[[], None]:
        """Does some work beside what follows, where programs are recorded, else at once; call the result to wait."""
        if not self._records:
            work()
            return lambda: None
        main, beside = torch.cuda.current_stream(), _side_stream(torch.cuda.current_device())
        beside.wait_stream(main)
        with torch.cuda.stream(beside):
            work()
        return lambda: main.wait_stream(beside)

    def _record(self, program: Callable[[], None]) -> torch.cuda.CUDAGraph:
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        stream = _recording_stream(torch.cuda.current_device())
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):  # compiles, and lets libraries take their workspaces
                program()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=stream):
            program()
        return graph


@functools.cache
def _recording_stream(device: int) -> torch.cuda.Stream:
    """One stream for all recordings: libraries keep a workspace for every stream they ever saw."""
    return torch.cuda.Stream(device)


@functools.cache
def _side_stream(device: int) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def _with_kernels(parts: Parts, device: torch.device, dtype: torch.dtype, width: int) -> Parts:
    """The parts with kernels of our own where they can run; as they are where Triton is missing."""
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return parts
    from . import kernels, products

    if not kernels.usable(dtype, width):
        return parts

    def linear(values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return (products if products.usable(values, weight) else parts).linear(values, weight, bias)

    def project(values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, heads_count: int) -> torch.Tensor:
        return (products if products.usable(values, weight) else parts).project(values, weight, bias, heads_count)

    return replace(
        parts,
        linear=linear,
        project=project,
        attend_context=kernels.attend_context,
        attend_step=kernels.attend_step,
    )


class _PerShape:
    """A function compiled once for every combination of shapes that it is called with.

    Layers and programs share functions, but each use has fixed shapes. Torch counts recompilations per code object and
    gives up after eight; here every use has a code object of its own.
    """

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        assert isinstance(function, types.FunctionType)
        self._function = function
        self._options = options
        self._compiled: dict[Any, Callable[..., Any]] = {}

    def __call__(self, *args: Any) -> Any:
        key = tuple(arg.shape if isinstance(arg, torch.Tensor) else arg is None for arg in args)
        compiled = self._compiled.get(key)
        if compiled is None:
            function = self._function
            own = types.FunctionType(function.__code__.replace(), function.__globals__, function.__name__)
            own.__defaults__ = function.__defaults__
            compiled = torch.compile(own, fullgraph=True, dynamic=False, **self._options)
            self._compiled[key] = compiled
        return compiled(*args)
