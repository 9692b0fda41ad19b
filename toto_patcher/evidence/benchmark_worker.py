"""One tree, one workload, one compile mode, in a process of its own, driven by JSON lines on standard input.

The parent sends ``{"do": NAME, ...}`` and reads one JSON line back. Nothing else is written to the reply stream:
standard output is pointed at standard error, so that a library's print cannot corrupt it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

from toto_patcher.equivalence.models import SHAPES
from toto_patcher.evidence import benchmark_model
from toto_patcher.evidence.workloads import WORKLOADS, Workload

CHECK_TURNS = 11
"""Forecasts with the decoder's checks and without; of each the first does not count."""


class Worker:
    """Holds one forecaster and answers the parent's requests."""

    def __init__(self, spec: dict[str, Any]) -> None:
        import torch

        tree = Path(spec["tree"]).resolve()
        precision: str = spec.get("precision", "tf32")
        torch.set_num_threads(spec.get("threads", 1))
        torch.set_float32_matmul_precision(benchmark_model.MATMUL_PRECISION[precision])
        self.torch = torch
        self.device = torch.device(spec["device"])
        self.workload: Workload = WORKLOADS[spec["workload"]]
        self.shape = SHAPES[spec["shape"]]
        self.release: bool = spec.get("release", False)

        from toto_patcher.evidence.compile_log import CompileLog

        self.log = CompileLog.install(hide=str(tree) + "/")
        mode: str | None = spec.get("mode")
        if mode is not None:  # for all trees alike: a decoder's compile() does, and torch's own at its first call
            import_module("torch._inductor.compile_fx")
        self.setup = benchmark_model.build(tree, self.shape, mode, self.device, precision, spec.get("seed", 0))
        self.forecaster, self.decodes = self.setup.forecaster, self.setup.decodes
        self.inputs, self.other_inputs = (
            benchmark_model.series(self.setup, self.workload, self.device, precision, seed) for seed in (1, 2)
        )

    def synchronize(self) -> None:
        """Waits until the device has done all it was given."""
        if self.device.type == "cuda":
            self.torch.cuda.synchronize()

    def forecast(
        self, horizon: int | None = None, samples: tuple[int, int] | None = None, inputs: Any | None = None
    ) -> Any:
        """One whole forecast, device work included; the workload's own where nothing else is asked for."""
        work = self.workload
        count, per_batch = samples or (work.samples, work.per_batch)
        with self.manner():
            if work.manner == "new-forecaster":
                self.forecaster = self.setup.renewed()
            result = self.forecaster.forecast(
                self.inputs if inputs is None else inputs,
                prediction_length=horizon or work.horizon,
                num_samples=count or None,
                samples_per_batch=per_batch,
            )
        self.synchronize()
        return result

    def manner(self) -> AbstractContextManager[Any]:
        """Around every forecast: what the workload's manner asks for."""
        if self.workload.manner == "autocast":
            return self.torch.autocast(self.device.type, self.torch.bfloat16)
        return nullcontext()

    def prepare(self) -> None:
        """Before a timed forecast, and not timed."""
        if self.workload.manner == "weight-changed":
            with self.torch.no_grad():
                self.setup.model.unembed.weight.mul_(1.0)

    def timed(self, **other: Any) -> float:
        """Milliseconds of one forecast from an idle device to an idle device."""
        self.prepare()
        self.synchronize()
        start = time.perf_counter()
        self.forecast(**other)
        return (time.perf_counter() - start) * 1e3

    # -- requests ------------------------------------------------------------------------------------------------

    def warm_up(self, forecasts: int = 2) -> dict[str, Any]:
        """The first calls, each timed apart; compiling happens here."""
        times = [self.timed() for _ in range(forecasts)]
        if self.workload.manner == "after-nan":
            with suppress(ValueError):  # upstream's own, where it validates what it is given
                self.forecast(inputs=self.inputs._replace(series=self.inputs.series * float("nan")))
        return {"ms": times, "after": self.log.snapshot(), **self.log.details()}

    def repeat(self, repetitions: int = 1, untimed: int = 0) -> dict[str, Any]:
        """Timed forecasts after some that are not timed."""
        for _ in range(untimed):
            self.forecast()
        return {"ms": [self.timed() for _ in range(repetitions)]}

    def variations(self) -> dict[str, Any]:
        """Other horizons, another series, another number of samples: what is compiled anew, and what the call costs."""
        work = self.workload
        cases: list[tuple[str, dict[str, Any]]] = [
            (f"horizon {length}", {"horizon": length}) for length in work.later_horizons
        ]
        cases.append(("another series", {"inputs": self.other_inputs}))
        # Another batch is another shape, but to a decoder.
        if work.samples and (self.decodes or work.later_samples[1] == work.per_batch):
            cases.append((f"{work.later_samples[0]} samples", {"samples": work.later_samples}))
        rows = []
        for what, other in cases:
            before = self.log.snapshot()
            took = self.timed(**other)
            after = self.log.snapshot()
            rows.append({"what": what, "ms": took, **{key: after[key] - before[key] for key in after}})
        return {"rows": rows, **self.log.details()}

    def memory(self) -> dict[str, Any]:
        """Peak device memory of one forecast in MiB, allocated and reserved, and what the model's weights take of it.

        What earlier forecasts left in the allocator's cache goes first. CUDA graphs' pools stay reserved.
        """
        cuda = self.torch.cuda
        if self.device.type != "cuda":
            return {"peak_allocated_mib": None, "peak_reserved_mib": None, "weights_mib": self.setup.weights_mib}
        cuda.empty_cache()
        cuda.reset_peak_memory_stats()
        self.forecast()
        return {
            "peak_allocated_mib": cuda.max_memory_allocated() / 2**20,
            "peak_reserved_mib": cuda.max_memory_reserved() / 2**20,
            "weights_mib": self.setup.weights_mib,
        }

    def save_outputs(self, path: str, draws: int = 1) -> dict[str, Any]:
        """Keeps this process's outputs for the others to compare with."""
        from toto_patcher.evidence.benchmark_outputs import collect

        self.torch.save(collect(self, draws), path)
        return {}

    def compare_outputs(self, path: str) -> dict[str, Any]:
        """How far this process's outputs are from those saved."""
        from toto_patcher.evidence.benchmark_outputs import collect, compare

        return compare(self.torch.load(path), collect(self, 1), decodes=self.decodes)

    def counters(self) -> dict[str, Any]:
        """Totals of this process so far."""
        return {"now": self.log.snapshot(), **self.log.details()}

    def checks(self) -> dict[str, Any]:
        """What the decoder's checks before each forecast cost.

        Forecasts with and without them take turns; and each half of them is timed by itself, in microseconds.
        """
        decoding = getattr(self.forecaster, "_decoding", None)
        decoder = decoding().decoder if decoding is not None else None
        if decoder is None:  # another tree's own way to compile, or the workload is left to upstream's path
            return {}
        times: dict[bool, list[float]] = {True: [], False: []}
        for turn in range(CHECK_TURNS):
            for checked in (True, False):
                decoder.checked = checked
                took = self.timed()
                times[checked] += [took] if turn else []  # the first of each may make buffers
        decoder.checked = True
        halves = (decoder.proves, decoder.compares)
        host, device = (min(_microseconds(half, self.synchronize) for _ in range(5)) for half in halves)
        with_ms, without_ms = (median(times[checked]) for checked in (True, False))
        return {"with_ms": with_ms, "without_ms": without_ms, "host_us": host, "device_us": device}

    def profile(self) -> dict[str, Any]:
        """Where one warm forecast's time goes."""
        from toto_patcher.evidence.profiling import profile

        return profile(self)

    def start_tracing(self) -> dict[str, Any]:
        """Lets the profiler initialise itself, which takes seconds; several processes can do that at the same time."""
        from toto_patcher.evidence.profiling import rehearse

        rehearse(self.device)
        return {}

    def kernels(self) -> dict[str, Any]:
        """What one warm forecast starts on the device and waits for, and how long the device works for it."""
        from toto_patcher.evidence.profiling import count_kernels

        return count_kernels(self)

    def hello(self) -> dict[str, Any]:
        """What this process runs, and on what."""
        torch = self.torch
        from torch._dynamo import config

        limits = {name: getattr(config, name) for name in ("recompile_limit", "accumulated_recompile_limit")}
        software: dict[str, Any] = {"torch": torch.__version__, "parameters": self.setup.parameters}
        if self.device.type == "cuda":
            software |= {
                "gpu": torch.cuda.get_device_name(),
                "gpu_memory_gib": round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1),
                "cuda": torch.version.cuda,
                "triton": import_module("triton").__version__,
            }
        return {"software": software, "limits": limits, "decodes": self.decodes}

    def answer(self, action: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Carries out one request; a worker that shares the device's memory then gives back what it only caches."""
        result: dict[str, Any] = getattr(self, action)(**arguments)
        if self.release and self.device.type == "cuda":
            self.torch.cuda.empty_cache()
        return result


def _microseconds(work: Callable[[], Any], wait: Callable[[], None], repetitions: int = 20) -> float:
    wait()
    start = time.perf_counter()
    for _ in range(repetitions):
        work()
    wait()
    return (time.perf_counter() - start) / repetitions * 1e6


def serve(make: Callable[[dict[str, Any]], Any]) -> None:
    """Makes the worker that the command line describes, and answers requests until standard input ends."""
    reply = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = make(json.loads(sys.argv[1]))
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"ok": True, **worker.answer(request.pop("do"), request)}
        except Exception as error:  # whatever it was: the parent reports it; a traceback goes to the log
            import traceback

            traceback.print_exc()
            told = f"{type(error).__name__}: {error}"[:2000]
            answer = {"ok": False, "error": told, "kind": getattr(error, "kind", None)}
        reply.write(json.dumps(answer) + "\n")
        reply.flush()


if __name__ == "__main__":
    serve(Worker)
