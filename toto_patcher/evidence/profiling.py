"""Where one forecast's time goes, by stage of upstream's decoding loop and by kind of kernel.

Stages are cut by hooks around what the loop calls (the model, the last sampling helper), so no source is changed and
the same hooks fit every tree. A forecaster that decodes by itself is one stage. Three passes: host time with the device
running freely, wall time with the device drained at each boundary, and one pass under ``torch.profiler`` that assigns
every kernel to the stage that launched it.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from toto_patcher.equivalence.models import Shape
from toto_patcher.evidence.stages import APPEND, FORECAST, MODEL, SAMPLE, SETUP, STAGES, summarize
from toto_patcher.evidence.workloads import Workload


class Forecasts(Protocol):
    """What can be profiled: a forecaster at work on a workload.

    Attributes:
        forecaster: upstream's, whose loop is cut into stages.
        device: the torch device.
        shape: of the model.
        decodes: the forecaster never calls the model, so there is no loop to cut.
    """

    forecaster: Any
    device: Any
    workload: Workload
    shape: Shape
    decodes: bool

    def forecast(self) -> Any:
        """One whole forecast, device work included."""

    def synchronize(self) -> None:
        """Waits until the device has done all it was given."""


class Stages:
    """Cuts a forecast into stages and adds up how long each took on the host.

    Args:
        drain: called at each boundary; waits for the device, or does nothing.
        annotate: makes a context manager that marks a stage in a trace, or ``None``.
    """

    def __init__(self, drain: Callable[[], None], annotate: Callable[[str], Any] | None = None) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._drain = drain
        self._annotate = annotate
        self._mark: Any = None
        self._name: str | None = None
        self._since = 0.0

    def enter(self, name: str | None) -> None:
        """Ends the running stage and starts ``name`` (``None``: starts nothing)."""
        self._drain()
        now = time.perf_counter()
        if self._name is not None:
            self.seconds[self._name] += now - self._since
            if self._mark is not None:
                self._mark.__exit__(None, None, None)
                self._mark = None
        self._name, self._since = name, now
        if name is not None and self._annotate is not None:
            self._mark = self._annotate(f"stage:{name}")
            self._mark.__enter__()


class _HookedModel:
    """Stands in for the model inside the forecaster and marks when it runs."""

    def __init__(self, model: Any, stages: Stages) -> None:
        self._model = model
        self._stages = stages

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._stages.enter(MODEL)
        output = self._model(*args, **kwargs)
        self._stages.enter(SAMPLE)
        return output

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


@contextmanager
def _hooks(worker: Forecasts, stages: Stages) -> Iterator[None]:
    import sys

    forecaster = worker.forecaster
    module = sys.modules[type(forecaster).__module__]
    clean = module.replace_extreme_values
    model = forecaster.model

    def cleaned(*args: Any, **kwargs: Any) -> Any:
        result = clean(*args, **kwargs)
        stages.enter(APPEND)
        return result

    forecaster.model = _HookedModel(model, stages)
    module.replace_extreme_values = cleaned  # type: ignore[attr-defined]
    try:
        yield
    finally:
        forecaster.model = model
        module.replace_extreme_values = clean  # type: ignore[attr-defined]


def _run(worker: Forecasts, stages: Stages) -> dict[str, float]:
    worker.synchronize()
    with nullcontext() if worker.decodes else _hooks(worker, stages):
        stages.enter(FORECAST if worker.decodes else SETUP)
        worker.forecast()
        stages.enter(None)
    return {name: stages.seconds[name] * 1e3 for name in ((FORECAST,) if worker.decodes else STAGES)}


def _median_of(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: sorted(run[name] for run in runs)[len(runs) // 2] for name in runs[0]}


def profile(worker: Forecasts, repetitions: int = 3) -> dict[str, Any]:
    """Profiles warm forecasts of one worker.

    Returns:
        ``host_ms`` and ``wall_ms`` per stage (medians), and from one traced forecast ``device_ms`` per stage and kind
        of kernel, launch counts, calls of compiled regions, and the costliest host operations. The trace slows the
        host.
    """
    free = _median_of([_run(worker, Stages(lambda: None)) for _ in range(repetitions)])
    drained = _median_of([_run(worker, Stages(worker.synchronize)) for _ in range(repetitions)])
    return {
        "host_ms": free,
        "wall_ms": drained,
        "forwards": worker.workload.forwards(worker.shape.patch_size),
        **_trace(worker),
    }


def rehearse(device: Any) -> None:
    """Makes a trace of nothing much, for the first one of a process takes long."""
    if device.type == "cuda":
        import torch

        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]):
            torch.zeros(1, device=device).add_(1)
            torch.cuda.synchronize()


def count_kernels(worker: Forecasts) -> dict[str, Any]:
    """What one warm forecast does on the device: kernels, launches, waits, and time by kind of kernel.

    Host operations are not recorded, so that the trace of a forecast with many launches stays small. Nothing on a CPU.
    """
    if worker.device.type != "cuda":
        return {}
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as torch_profile

    with torch_profile(activities=[ProfilerActivity.CUDA]) as trace:
        worker.forecast()
    found = summarize(_events(trace))
    kinds: dict[str, float] = defaultdict(float)
    for by_kind in found["device_ms_by_kind"].values():
        for kind, milliseconds in by_kind.items():
            kinds[kind] += milliseconds
    kernels = [{name: kernel[name] for name in ("name", "count", "ms")} for kernel in found["kernels"][:15]]
    return {
        "device_kernels": found["device_kernels"],
        "device_ms": sum(kinds.values()),
        "device_ms_by_kind": dict(kinds),
        "runtime_calls": found["runtime_calls"],
        "kernels": kernels,
    }


def _events(trace: Any) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        trace.export_chrome_trace(str(path))
        events: list[dict[str, Any]] = json.loads(path.read_text())["traceEvents"]
    return events


def _trace(worker: Forecasts) -> dict[str, Any]:
    from torch.profiler import ProfilerActivity, record_function
    from torch.profiler import profile as torch_profile

    activities = [ProfilerActivity.CPU]
    if worker.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with torch_profile(activities=activities) as trace:
        _run(worker, Stages(lambda: None, record_function))
    averages = sorted(trace.key_averages(), key=lambda row: -row.self_cpu_time_total)
    host = [
        {
            "name": row.key[:120],
            "calls": row.count,
            "self_ms": row.self_cpu_time_total / 1e3,
            "total_ms": row.cpu_time_total / 1e3,
        }
        for row in averages[:25]
    ]
    return {**summarize(_events(trace)), "host_operations": host}
