"""Runs cases compiled and counts what the compiler did. Only for child processes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch._dynamo
from torch._dynamo.utils import counters, get_compilation_metrics, set_compilation_metrics_limit

from toto_patcher.equivalence.cases import Case, Length
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
    """

    graphs: int = 0
    breaks: int = 0
    recompilations: int = 0
    cudagraph_skips: int = 0
    limit_hits: int = 0


class _LimitWatch(logging.Handler):
    """Counts the compiler's warnings about the recompile limit: it keeps no counter of its own."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.hits = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Counts a record that names the limit by one of its two names."""
        text = str(record.msg)
        self.hits += "recompile_limit" in text or "cache_size_limit" in text


@contextlib.contextmanager
def _watching() -> Iterator[_LimitWatch]:
    watch = _LimitWatch()
    logger = logging.getLogger("torch._dynamo.convert_frame")
    logger.addHandler(watch)
    try:
        yield watch
    finally:
        logger.removeHandler(watch)


def _compile(model: Any, backend: str, mode: str) -> Any:
    return torch.compile(model, mode=mode) if backend == "inductor" else torch.compile(model, backend=backend)


def _compilations() -> int:
    """Frames compiled so far. The metrics also record events of the runtime, such as a CUDA graph being recorded."""
    frames = sum(not metrics.is_runtime for metrics in get_compilation_metrics())
    return max(frames, counters["stats"]["unique_graphs"])


def run(runner: Runner, case: Case, backend: str, mode: str) -> tuple[Arrays, dict[str, int]]:
    """Forecasts of a case by the compiled model, after a warm-up, and the counts of ``Counts``.

    Args:
        runner: the tree and the checkpoint.
        case: of kind ``point`` or ``samples``.
        backend: of ``torch.compile``: ``inductor``, or ``eager`` to capture graphs and run them as they are.
        mode: of ``torch.compile``; Inductor's alone.
    """
    torch._dynamo.reset()
    set_compilation_metrics_limit(100_000)
    counters.clear()
    before = _compilations()
    with runner.layout(case), runner.checks(case), runner.arithmetic(case), _watching() as watch:
        model = runner.model(case)
        forecaster = runner.tree.forecaster(_compile(model, backend, mode))
        dtype = runner.dtype(case)
        for _ in range(WARM_UP_FORECASTS):
            runner.one_forecast(case, forecaster, WARM_UP_HORIZON, dtype)
        warm = _compilations()
        arrays = {
            f"{case.name}|{name}": array
            for number, horizon in enumerate(case.horizons)
            for name, array in runner.one_forecast(case, forecaster, horizon, dtype, str(number)).items()
        }
    counts = Counts(
        graphs=counters["stats"]["unique_graphs"],
        breaks=sum(counters["graph_break"].values()),
        recompilations=_compilations() - warm,
        cudagraph_skips=counters["inductor"]["cudagraph_skips"],
        limit_hits=watch.hits,
    )
    if warm <= before:
        raise RuntimeError("nothing was compiled during the warm-up")
    return arrays, asdict(counts)
