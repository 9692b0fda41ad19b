"""Run in a process of its own on one tree: what a service does, and what it finds, as JSON on stdout.

python -m tests.runtime.serving ROOT FOLDER
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


def main(root: str, folder: str) -> None:
    import torch

    from tests.runtime.pipeline_checks import Bench
    from toto_patcher.compat.toto_warmup_helper import standard_warmup, verify_warmup_effectiveness
    from toto_patcher.errors import WarmUpError
    from toto_patcher.runtime import TotoMonitor
    from toto_patcher.runtime.warmup import quick_warmup

    bench = Bench(Path(root), Path(folder))
    monitor = TotoMonitor(alert_threshold_cv=0.20)
    pipeline = bench.pipeline(torch_compile=True, compile_backend="eager")
    context = np.sin(np.arange(256) / 5) + 3
    size: dict[str, Any] = {"prediction_length": 24, "num_samples": 32, "samples_per_batch": 32}
    found: dict[str, Any] = {"seconds": standard_warmup(pipeline, context, **size)}
    found["effect"] = verify_warmup_effectiveness(pipeline, context, num_runs=5, **size)
    # A decoder compiles for a capacity, the model for one step: a shorter horizon is warm with both.
    for seed in range(6):
        start = time.perf_counter()
        forecast = pipeline.predict(context, 8, num_samples=32, samples_per_batch=32, seed=seed)
        monitor.record(forecast, (time.perf_counter() - start) * 1e3)
    found["health"] = monitor.check_health()
    if pipeline.profile == "full-graph":  # more samples at once are another shape
        monitor.record(pipeline.predict(context, 24, num_samples=96, samples_per_batch=96), 1.0)
    else:  # to the model too, but that compiles for half a minute
        torch.compile(lambda x: x + 1, backend="eager")(torch.zeros(1))
    found["cold"] = monitor.check_health()
    with torch.no_grad():
        for parameter in pipeline.model.model.parameters():
            parameter.fill_(float("nan"))
    try:
        quick_warmup(pipeline, context, **size)
    except WarmUpError as error:
        found["broken"] = [error.message, type(error.__cause__).__name__]
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
