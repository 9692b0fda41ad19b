"""Runs cases compiled and counts what the compiler did. Only for child processes."""

from __future__ import annotations

import contextlib
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch._dynamo
from torch._dynamo.utils import counters, get_compilation_metrics, set_compilation_metrics_limit

from toto_patcher.equivalence.case import Case, Length, Turn
from toto_patcher.equivalence.decoders import has_decoder
from toto_patcher.equivalence.runs import Arrays, Runner

WARM_UP_FORECASTS = 2
# The prompt and two decoding steps: what every longer horizon repeats.
WARM_UP_HORIZON = Length(3)


@dataclass
class Counts:
    """What the compiler did for one case.

    Attributes:
        graphs: graphs compiled in all.
        breaks: graph breaks in all.
        recompilations: compilations after the warm-up; each is a stall in production.
        cudagraph_skips: times that a graph could not run as a CUDA graph.
        limit_hits: times that a frame ran into the recompile limit and fell back to eager.
        recompiled: of the recompilations, how many are of each function, ``path:function``, the path as in the tree.
        limited: the same of the times that the limit was hit.
    """

    graphs: int = 0
    breaks: int = 0
    recompilations: int = 0
    cudagraph_skips: int = 0
    limit_hits: int = 0
    recompiled: dict[str, int] = field(default_factory=dict)
    limited: dict[str, int] = field(default_factory=dict)


class _LimitWatch(logging.Handler):
    """Counts the compiler's warnings about the recompile limit: it keeps no counter of its own."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.hits = 0
        self.functions: list[tuple[str, str]] = []  # (file, function) of those that say which

    def emit(self, record: logging.LogRecord) -> None:
        """Counts a record that names the limit by one of its two names."""
        text = record.getMessage()
        if "recompile_limit" in text or "cache_size_limit" in text:
            self.hits += 1
            self.functions += [(file, name) for name, file in re.findall(r"function: '([^']+)' \((.+):[0-9]+\)", text)]


@contextlib.contextmanager
def _watching() -> Iterator[_LimitWatch]:
    watch = _LimitWatch()
    logger = logging.getLogger("torch._dynamo.convert_frame")
    logger.addHandler(watch)
    try:
        yield watch
    finally:
        logger.removeHandler(watch)


def _compiling_forecaster(runner: Runner, case: Case, backend: str, mode: str) -> Any:
    """A forecaster that compiles, in the way the tree offers: its own, the model's, or torch's."""
    options = {"mode": mode} if backend == "inductor" else {"mode": None, "backend": backend}
    model = runner.model(case)
    if has_decoder(runner.tree):
        return runner.tree.forecaster(model).compile(**options)
    if "compile" in vars(runner.tree.model):
        # As Toto holds its backbone; a Toto of its own would load the weights once more.
        runner.tree.model.compile(SimpleNamespace(model=model), **options)
        return runner.tree.forecaster(model)
    return runner.tree.forecaster(torch.compile(model, **options))


def _warm_up(case: Case, decoder: bool) -> Turn:
    """A forecast after which nothing may be compiled again: a decoder compiles for capacities, not for horizons."""
    if not decoder:
        return Turn(WARM_UP_HORIZON)
    return max(case.forecasts, key=lambda turn: (turn.horizon.patches, turn.horizon.points))


def _frames() -> list[Any]:
    """The frames compiled so far. The metrics also record events of the runtime, as a CUDA graph being recorded."""
    return [metrics for metrics in get_compilation_metrics() if not metrics.is_runtime]


def _compilations() -> int:
    """How many frames were compiled so far."""
    return max(len(_frames()), counters["stats"]["unique_graphs"])


def run(runner: Runner, case: Case, backend: str, mode: str, counts: dict[str, dict[str, Any]]) -> Arrays:
    """Forecasts of a case by the compiled model, after a warm-up.

    Args:
        runner: the tree and the checkpoint.
        case: of kind ``point`` or ``draws``.
        backend: of ``torch.compile``: ``inductor``, or ``eager`` to capture graphs and run them as they are.
        mode: of ``torch.compile``; Inductor's alone.
        counts: gets the case's ``Counts``, also where a forecast after the warm-up fails: a compiler that gives up
            there has tried to compile.

    Raises:
        RuntimeError: nothing was compiled during the warm-up.
        Exception: whatever a forecast raises.
    """
    torch._dynamo.reset()
    set_compilation_metrics_limit(100_000)
    counters.clear()
    before = _compilations()
    seed = next(iter(runner.seeds.get(case.kind, ())), None)
    with (
        runner.layout(case), runner.checks(case), runner.arithmetic(case), runner.watch.case(case), _watching() as watch
    ):  # fmt: skip
        forecaster = _compiling_forecaster(runner, case, backend, mode)
        dtype, warm_up = runner.dtype(case), _warm_up(case, has_decoder(runner.tree))
        for _ in range(WARM_UP_FORECASTS):
            runner.one_forecast(case, warm_up, forecaster, dtype, seed)
        warm, frames = _compilations(), len(_frames())
        if warm <= before:
            raise RuntimeError("nothing was compiled during the warm-up")
        try:
            made = runner.forecasts(case, forecaster, dtype, seed)
        finally:
            counts[case.name] = asdict(_counted(warm, frames, watch, runner.tree.root))
    return {f"{case.name}|{name}": array for name, array in made.items()}


def _functions(found: Iterable[tuple[str, str]], root: Path) -> dict[str, int]:
    """How often each function is among some; what comes after a graph break is part of it."""
    named: Counter[str] = Counter()
    for file, name in found:
        inside = Path(file).relative_to(root).as_posix() if Path(file).is_relative_to(root) else file
        function = re.sub(r"^torch_dynamo_resume_in_(.*)_at_[0-9]+$", r"\1", name)
        named[f"{inside}:{function}"] += 1
    return dict(sorted(named.items()))


def _frame_of(metrics: Any) -> str:
    """Which frame was compiled; an attempt that ends at the limit has no name, but the number of those before it."""
    return str(metrics.compile_id).rpartition("/")[0]


def _counted(warm: int, frames: int, watch: _LimitWatch, root: Path) -> Counts:
    """What the compiler did up to now, ``warm`` compilations of it in the warm-up, of ``frames`` frames."""
    names = {_frame_of(metrics): (metrics.co_filename, metrics.co_name) for metrics in _frames() if metrics.co_name}
    made = [names.get(_frame_of(metrics), ("", "")) for metrics in _frames()[frames:]]
    return Counts(
        graphs=counters["stats"]["unique_graphs"],
        breaks=sum(counters["graph_break"].values()),
        recompilations=_compilations() - warm,
        cudagraph_skips=counters["inductor"]["cudagraph_skips"],
        limit_hits=watch.hits,
        recompiled=_functions(made, root),
        limited=_functions(watch.functions, root),
    )
