"""One tree, one workload, one compile mode, in a process of its own, driven by JSON lines on standard input.

The parent sends ``{"do": NAME, ...}`` and reads one JSON line back. Nothing else is written to the reply stream:
standard output is pointed at standard error, so that a library's print cannot corrupt it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

from toto_patcher.equivalence.models import SHAPES, weight
from toto_patcher.evidence.workloads import WORKLOADS, Workload


class Worker:
    """Holds one forecaster and answers the parent's requests."""

    def __init__(self, spec: dict[str, Any]) -> None:
        tree = Path(spec["tree"]).resolve()
        sys.path.insert(0, str(tree))
        import torch

        torch.set_num_threads(spec.get("threads", 1))
        torch.set_float32_matmul_precision(spec.get("matmul_precision", "high"))
        self.torch = torch
        self.device = torch.device(spec["device"])
        self.workload: Workload = WORKLOADS[spec["workload"]]
        self.shape = SHAPES[spec["shape"]]
        self.mode: str | None = spec.get("mode")

        self.release: bool = spec.get("release", False)

        from toto_patcher.evidence.compile_log import CompileLog

        self.log = CompileLog.install(hide=str(tree) + "/")
        backbone = import_module("toto.model.backbone")
        if tree not in Path(backbone.__file__ or "").resolve().parents:
            raise RuntimeError("another package named toto shadows the tree under test")
        model = backbone.TotoBackbone(**self.shape.config(), use_memory_efficient_attention=False).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(torch.from_numpy(weight(name, parameter.shape, spec.get("seed", 0))))
        model = model.to(self.device)
        self.parameters = sum(parameter.numel() for parameter in model.parameters())
        self.model = model if self.mode is None else torch.compile(model, mode=self.mode)
        self.forecaster = import_module("toto.inference.forecaster").TotoForecaster(self.model)
        self.inputs = self._inputs(import_module("toto.data.util.dataset").MaskedTimeseries)

    def _inputs(self, series_class: Any) -> Any:
        """A seeded random walk with a daily season, the same in every process."""
        torch, work = self.torch, self.workload
        generator = torch.Generator().manual_seed(1)
        steps = torch.randn(work.variates, work.context, generator=generator).cumsum(-1)
        season = torch.sin(torch.arange(work.context) * (2 * torch.pi / 96))
        ones = torch.ones(work.variates, work.context)
        stamps = torch.arange(work.context).expand(work.variates, -1) * 60
        inputs = series_class(
            series=(steps * 0.3 + 3 * season + 20),
            padding_mask=ones.bool(),
            id_mask=torch.zeros(work.variates, work.context, dtype=torch.int),
            timestamp_seconds=stamps.contiguous(),
            time_interval_seconds=torch.full((work.variates,), 60, dtype=torch.int),
        )
        return inputs.to(self.device)

    def synchronize(self) -> None:
        """Waits until the device has done all it was given."""
        if self.device.type == "cuda":
            self.torch.cuda.synchronize()

    def forecast(self, horizon: int | None = None) -> Any:
        """One whole forecast, device work included."""
        work = self.workload
        result = self.forecaster.forecast(
            self.inputs,
            prediction_length=horizon or work.horizon,
            num_samples=work.samples,
            samples_per_batch=work.per_batch,
        )
        self.synchronize()
        return result

    def timed(self, horizon: int | None = None) -> float:
        """Milliseconds of one forecast from an idle device to an idle device."""
        self.synchronize()
        start = time.perf_counter()
        self.forecast(horizon)
        return (time.perf_counter() - start) * 1e3

    # -- requests ------------------------------------------------------------------------------------------------

    def warm_up(self, forecasts: int = 2) -> dict[str, Any]:
        """The first calls, each timed apart; compiling happens here."""
        times = [self.timed() for _ in range(forecasts)]
        return {"ms": times, "after": self.log.snapshot(), **self.log.details()}

    def repeat(self, repetitions: int = 1, untimed: int = 0) -> dict[str, Any]:
        """Timed forecasts after some that are not timed."""
        for _ in range(untimed):
            self.forecast()
        return {"ms": [self.timed() for _ in range(repetitions)]}

    def horizons(self, lengths: list[int]) -> dict[str, Any]:
        """Forecasts at other horizons after the warm-up: what is compiled anew, and what the call costs."""
        rows = []
        for length in lengths:
            before = self.log.snapshot()
            took = self.timed(length)
            after = self.log.snapshot()
            rows.append({"horizon": length, "ms": took, **{key: after[key] - before[key] for key in after}})
        return {"rows": rows, **self.log.details()}

    def memory(self) -> dict[str, Any]:
        """Peak device memory of one forecast in MiB, allocated and reserved (CUDA graphs' pools are reserved)."""
        cuda = self.torch.cuda
        if self.device.type != "cuda":
            return {"peak_allocated_mib": None, "peak_reserved_mib": None}
        cuda.reset_peak_memory_stats()
        self.forecast()
        return {
            "peak_allocated_mib": cuda.max_memory_allocated() / 2**20,
            "peak_reserved_mib": cuda.max_memory_reserved() / 2**20,
        }

    def outputs(self) -> dict[str, Any]:
        """A point forecast, and samples drawn from one seed.

        The point forecast is made for as many copies of the series as a batch has samples, so that it runs the
        shapes that are compiled already.
        """
        work = self.workload
        copies = {
            name: value.expand(work.per_batch, *value.shape).contiguous()
            for name, value in self.inputs._asdict().items()
            if isinstance(value, self.torch.Tensor)
        }
        # A single series is collated to a batch, which makes a tensor of this count; compiled code is guarded on that.
        copies["num_exogenous_variables"] = self.torch.zeros(1, dtype=self.torch.long)
        point = self.forecaster.forecast(self.inputs._replace(**copies), prediction_length=work.horizon).mean[:1]
        self.torch.manual_seed(7)
        return {"point": point.cpu(), "samples": self.forecast().samples.cpu()}

    def save_outputs(self, path: str) -> dict[str, Any]:
        """Keeps this process's outputs for the others to compare with."""
        self.torch.save(self.outputs(), path)
        return {}

    def compare_outputs(self, path: str) -> dict[str, Any]:
        """Largest differences from saved outputs, as a share of the reference samples' standard deviation."""
        reference, mine = self.torch.load(path), self.outputs()
        scale = float(reference["samples"].std())
        difference = (mine["samples"] - reference["samples"]).abs() / scale
        return {
            "point": float((mine["point"] - reference["point"]).abs().max()) / scale,
            "samples": float(difference.max()),
            "samples_close": float((difference <= 1e-3).double().mean()),
            "median_samples": float(
                (mine["samples"].median(-1).values - reference["samples"].median(-1).values).abs().max() / scale
            ),
        }

    def counters(self) -> dict[str, Any]:
        """Totals of this process so far."""
        return {"now": self.log.snapshot(), **self.log.details()}

    def profile(self) -> dict[str, Any]:
        """Where one warm forecast's time goes."""
        from toto_patcher.evidence.profiling import profile

        return profile(self)

    def hello(self) -> dict[str, Any]:
        """What this process runs, and on what."""
        torch = self.torch
        from torch._dynamo import config

        limits = {name: getattr(config, name) for name in ("recompile_limit", "accumulated_recompile_limit")}
        software: dict[str, Any] = {"torch": torch.__version__, "parameters": self.parameters}
        if self.device.type == "cuda":
            software |= {
                "gpu": torch.cuda.get_device_name(),
                "gpu_memory_gib": round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1),
                "cuda": torch.version.cuda,
                "triton": import_module("triton").__version__,
            }
        return {"software": software, "limits": limits}

    def answer(self, action: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Carries out one request; a worker that shares the device's memory then gives back what it only caches."""
        result: dict[str, Any] = getattr(self, action)(**arguments)
        if self.release and self.device.type == "cuda":
            self.torch.cuda.empty_cache()
        return result


def serve(reply: TextIO) -> None:
    """Answers requests until standard input ends."""
    worker = Worker(json.loads(sys.argv[1]))
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"ok": True, **worker.answer(request.pop("do"), request)}
        except Exception as error:  # whatever it was: the parent reports it; a traceback goes to the log
            import traceback

            traceback.print_exc()
            answer = {"ok": False, "error": f"{type(error).__name__}: {error}"[:2000]}
        reply.write(json.dumps(answer) + "\n")
        reply.flush()


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(answers)
