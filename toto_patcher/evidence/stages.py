"""The stages of a forecast, and the device time of a trace by stage and by kind of kernel. Knows no torch."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import Any

SETUP = "repeat context, allocate cache"
MODEL = "model forward"
SAMPLE = "distribution and sampling of the whole context"
APPEND = "append, timestamp loop, cache reset"
STAGES = (SETUP, MODEL, SAMPLE, APPEND)
FORECAST = "forecast"
"""The only stage of a forecaster that decodes by itself."""

_FUSED = re.compile(r"^triton_(poi|red|per)_", re.I)
_ATTENTION = re.compile(r"fmha|flash|attention|sdpa|^_(context|step)_kernel", re.I)
_MATMUL = re.compile(r"gemm|gemv|cutlass|cublas|nvjet|triton_tem|sm\d\d_xmma|splitk|^_kernel$", re.I)
_RANDOM = re.compile(r"gamma|distribution_|normal_|uniform|multinomial|exponential|philox", re.I)
_COPY = re.compile(r"memcpy|copy|cat", re.I)
_FILL = re.compile(r"memset|fill", re.I)
_KINDS = (
    (_FUSED, "fused elementwise"),
    (_ATTENTION, "attention"),
    (_MATMUL, "matmul"),
    (_COPY, "copy"),
    (_FILL, "fill"),
    (_RANDOM, "random numbers"),
)


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
    for pattern, kind in _KINDS:
        if pattern.search(name):
            return kind
    return "elementwise"
