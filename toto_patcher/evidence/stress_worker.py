"""The child process of ``toto-patch stress``: one tree in one compile mode, through ``TotoPipeline`` as in production.

Speaks the benchmark's language: JSON lines, by ``benchmark_worker.serve``.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from typing import Any

from toto_patcher.evidence.benchmark_worker import serve

MEASURES = ("mae", "rmse", "crps")
WARM_UP = 2


class Worker:
    """Holds one pipeline and the windows to forecast."""

    def __init__(self, spec: dict[str, Any]) -> None:
        # What is compiled is the parent's to say, not that of a shell in which compilation happens to be switched off.
        for name in [name for name in os.environ if name.startswith("TOTO_")]:
            del os.environ[name]
        self.spec = spec
        self.bad = 0

    def load(self) -> dict[str, Any]:
        """Imports the tree and loads the checkpoint."""
        start = time.perf_counter()
        import numpy as np
        import torch

        from toto_patcher.evidence.compile_log import CompileLog
        from toto_patcher.runtime import compilations
        from toto_patcher.runtime.pipeline import TotoPipeline

        spec = self.spec
        # Half the cores: threads that wait for a core that another process has make forecasts slow by turns.
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // 2))
        compilations.total()
        self.log = CompileLog.install(hide=spec["tree"] + "/")
        mode = spec["mode"]
        self.pipeline = TotoPipeline.from_pretrained(
            spec["checkpoint"],
            root=spec["tree"],
            device_map=spec["device"],
            torch_compile=mode is not None,
            compile_mode=mode,
            compile_backend=spec["backend"],
        )
        if self.pipeline.device.type == "cuda":
            torch.set_float32_matmul_precision("high")
        with np.load(spec["windows"]) as stored:
            self.contexts, self.actuals = stored["contexts"], stored["actuals"]
        gpu = torch.cuda.get_device_name(self.pipeline.device) if self.pipeline.device.type == "cuda" else None
        software = {"python": sys.version.split()[0], "torch": torch.__version__, "numpy": np.__version__, "gpu": gpu}
        return {
            "load_s": time.perf_counter() - start,
            "software": {**software, "threads": torch.get_num_threads()},
            "device": self.pipeline.device.type,
            "profile": self.pipeline.profile,
        }

    def forecast(self, window: int, seed: int, horizon: int | None = None) -> tuple[float, Any]:
        """Milliseconds of one forecast until its samples are on the host, and the samples."""
        spec = self.spec
        start = time.perf_counter()
        (forecast,) = self.pipeline.predict(
            self.contexts[window],
            horizon or spec["horizon"],
            num_samples=spec["samples"],
            samples_per_batch=spec["per_batch"],
            seed=seed,
            progress=False,
        )
        return (time.perf_counter() - start) * 1e3, forecast.numpy()

    def warm_up(self, forecasts: int = WARM_UP) -> dict[str, Any]:
        """The first forecasts, each timed; compiling happens here. The first of them is the cold one."""
        from toto_patcher.runtime import compilations

        times = [self.forecast(0, seed)[0] for seed in range(forecasts)]
        self.warm = compilations.mark_warm()
        return {"ms": times, "compiler": self.log.snapshot()}

    def iterate(self, seed: int) -> dict[str, Any]:
        """Every window once: how long each took, and its errors; none where the forecast is not finite."""
        import numpy as np

        from toto_patcher.evidence import metrics

        times, errors = [], []
        for window, actual in enumerate(self.actuals):
            ms, samples = self.forecast(window, seed * len(self.actuals) + window)
            times.append(ms)
            bad = int((~np.isfinite(samples)).sum())
            self.bad += bad
            errors.append(None if bad else [getattr(metrics, name)(actual, samples) for name in MEASURES])
        return {"ms": times, "errors": errors}

    def finish(self) -> dict[str, Any]:
        """Shorter horizons than that of the warm-up, which must compile nothing; then all that was counted."""
        from toto_patcher.runtime import compilations

        horizon = self.spec["horizon"]
        for shorter in sorted({1, horizon // 2, horizon - 1} - {0}):
            self.forecast(0, 0, shorter)
        return {
            "bad_values": self.bad,
            "compiled": self.pipeline.compiled,
            "recompilations": compilations.total() - self.warm,
            "compiler": self.log.snapshot(),
            "details": self.log.details(),
            "memory": self.memory(),
        }

    def memory(self) -> dict[str, float | None]:
        """Peak device memory of one more forecast, and of this process since it started, in MiB."""
        found: dict[str, float | None] = {
            "peak_allocated_mib": None,
            "peak_reserved_mib": None,
            "peak_process_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        if self.pipeline.device.type == "cuda":
            import torch

            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self.forecast(0, 0)
            found["peak_allocated_mib"] = torch.cuda.max_memory_allocated() / 2**20
            found["peak_reserved_mib"] = torch.cuda.max_memory_reserved() / 2**20
        return found

    def answer(self, action: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Carries out one request."""
        found: dict[str, Any] = getattr(self, action)(**arguments)
        return found


if __name__ == "__main__":
    serve(Worker)
