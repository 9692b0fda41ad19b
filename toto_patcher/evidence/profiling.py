"""Where one forecast's time goes, by stage of upstream's decoding loop and by kind of kernel.

Stages are cut by hooks around what the loop calls (the model, the last sampling helper), so no source is changed and
the same hooks fit every tree. Three passes: host time with the device running freely, wall time with the device drained
at each boundary, and one pass under ``torch.profiler`` that assigns every kernel to the stage that launched it.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toto_patcher.evidence.benchmark_worker import Worker

SETUP = "repeat context, allocate cache"
MODEL = "model forward"
SAMPLE = "distribution and sampling of the whole context"
APPEND = "append, timestamp loop, cache reset"
STAGES = (SETUP, MODEL, SAMPLE, APPEND)

_ATTENTION = re.compile(r"fmha|flash|attention|sdpa", re.I)
_MATMUL = re.compile(r"gemm|gemv|cutlass|cublas|nvjet|triton_tem|sm\d\d_xmma|splitk", re.I)
_COPY = re.compile(r"memcpy|copy|cat", re.I)
_FILL = re.compile(r"memset|fill", re.I)


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
def _hooks(worker: Worker, stages: Stages) -> Iterator[None]:
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


def _run(worker: Worker, stages: Stages) -> dict[str, float]:
    worker.synchronize()
    with _hooks(worker, stages):
        stages.enter(SETUP)
        worker.forecast()
        stages.enter(None)
    return {name: stages.seconds[name] * 1e3 for name in STAGES}


def _median_of(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: sorted(run[name] for run in runs)[len(runs) // 2] for name in STAGES}


def profile(worker: Worker, repetitions: int = 3) -> dict[str, Any]:
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


def _trace(worker: Worker) -> dict[str, Any]:
    from torch.profiler import ProfilerActivity, record_function
    from torch.profiler import profile as torch_profile

    activities = [ProfilerActivity.CPU]
    if worker.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with torch_profile(activities=activities) as trace:
        _run(worker, Stages(lambda: None, record_function))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        trace.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
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
    return {**summarize(events), "host_operations": host}


def summarize(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Device time and launches of a Chrome trace, by stage and by kind of kernel."""
    spans = sorted(
        (event["ts"], event["ts"] + event["dur"], event["name"][len("stage:") :], index)
        for index, event in enumerate(events)
        if event.get("ph") == "X" and event.get("cat") == "user_annotation" and event["name"].startswith("stage:")
    )
    launched = {
        event["args"]["correlation"]: event["ts"]
        for event in events
        if event.get("cat") in ("cuda_runtime", "cuda_driver") and "correlation" in event.get("args", {})
    }
    device = [event for event in events if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
    calls: dict[int, list[dict[str, Any]]] = defaultdict(list)
    names: dict[int, str] = {}
    for event in device:
        at = launched.get(event.get("args", {}).get("correlation"))
        span = next((span for span in spans if at is not None and span[0] <= at <= span[1]), None)
        key = span[3] if span else -1
        calls[key].append(event)
        names[key] = span[2] if span else "outside"
    stages: defaultdict[str, float] = defaultdict(float)
    kinds: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for key, kernels in calls.items():
        stage = names[key]
        for kernel, kind in zip(kernels, classify(kernels, stage), strict=True):
            stages[stage] += kernel["dur"] / 1e3
            kinds[stage][kind] += kernel["dur"] / 1e3
    heavy: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0, 0.0])
    for key, kernels in calls.items():
        for kernel in kernels:
            row = heavy[names[key], kernel["name"][:140]]
            row[0] += 1
            row[1] += kernel["dur"] / 1e3
    runtime = Counter(event["name"] for event in events if event.get("cat") in ("cuda_runtime", "cuda_driver"))
    regions = Counter(
        "compiled regions" if event["name"].startswith("Torch-Compiled Region") else event["name"]
        for event in events
        if event.get("ph") == "X"
        and (event["name"].startswith(("Torch-Compiled Region", "TorchDynamo Cache Lookup", "CUDAGraph")))
    )
    top = sorted(heavy.items(), key=lambda item: -item[1][1])[:25]
    return {
        "device_ms": dict(stages),
        "device_ms_by_kind": {stage: dict(values) for stage, values in kinds.items()},
        "device_kernels": len(device),
        "runtime_calls": dict(runtime.most_common(12)),
        "host_regions": dict(regions),
        "kernels": [{"stage": s, "name": n, "count": int(c), "ms": ms} for (s, n), (c, ms) in top],
    }


def classify(kernels: list[dict[str, Any]], stage: str) -> list[str]:
    """The kind of each kernel of one stage, in the order given.

    Kernel names tell matrix products, attention, copies and fills. Inside the model the un-embedding and the
    distribution head are what runs after the last layer: after its attention come the output projection and two
    matrix products of the feed-forward block, then the un-embedding.
    """
    kinds = [_kind(kernel["name"]) for kernel in kernels]
    if stage != MODEL:
        return kinds
    order = sorted(range(len(kernels)), key=lambda index: kernels[index]["ts"])
    attention = [place for place, index in enumerate(order) if kinds[index] == "attention"]
    if not attention:
        return kinds
    products = [
        place
        for place, index in enumerate(order)
        if place > attention[-1] and kinds[index] == "matmul" and "splitk" not in kernels[index]["name"].lower()
    ]
    if len(products) < 4:
        return kinds
    for place in range(products[3], len(order)):
        kinds[order[place]] = "un-embedding and head"
    return kinds


def _kind(name: str) -> str:
    for pattern, kind in ((_ATTENTION, "attention"), (_MATMUL, "matmul"), (_COPY, "copy"), (_FILL, "fill")):
        if pattern.search(name):
            return kind
    return "elementwise"
