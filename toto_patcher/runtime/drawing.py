"""Draws samples with a forecaster: in batches that fit into memory, compiled as long as that works."""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from toto_patcher.runtime.vendored import Vendored

log = logging.getLogger(__name__)

CUDA_GRAPH_BACKEND = "inductor"
"""The one backend that knows the modes of torch.compile."""


@dataclass(frozen=True)
class Compiler:
    """How to compile.

    Attributes:
        mode: of ``torch.compile``; ``None`` for its default.
        backend: of ``torch.compile``.
    """

    mode: str | None
    backend: str

    def options(self) -> dict[str, Any]:
        """Keyword arguments of ``torch.compile``."""
        if self.backend != CUDA_GRAPH_BACKEND:
            return {"mode": None, "backend": self.backend}
        return {"mode": self.mode, "backend": self.backend}


class Drawer:
    """Draws samples for batches of equally long series. One call at a time: the pipeline sees to that.

    Attributes:
        forecaster: upstream's, compiled if a compiler is given and works.
        compiler: what is in force; ``None`` from when compiling failed.
        samples_limit: largest batch of samples that fitted after memory ran out, ``None`` while it never has.
    """

    def __init__(
        self,
        tree: Vendored,
        backbone: Any,
        compiler: Compiler | None,
        amp_dtype: torch.dtype | None,
        max_oom_retries: int,
        min_samples_per_batch: int,
    ) -> None:
        self._tree = tree
        self._backbone = backbone
        self._amp_dtype = amp_dtype
        self._max_oom_retries = max_oom_retries
        self._min_samples = min_samples_per_batch
        self._warned = False
        self.samples_limit: int | None = None
        self.compiler = compiler
        self.forecaster = self._make()

    @property
    def decodes(self) -> bool:
        """Whether the forecaster decodes by itself, and sees to the size of its batches."""
        return self._tree.decodes

    def _make(self) -> Any:
        if self.compiler is None:
            return self._tree.forecaster(self._backbone)
        if self.decodes:
            forecaster = self._tree.forecaster(self._backbone)
            forecaster.compile(**self.compiler.options())
            return forecaster
        # Upstream's Toto.compile() has no effect: its forecaster calls the backbone, never the wrapper.
        return self._tree.forecaster(torch.compile(self._backbone, **self.compiler.options()))

    def draw(
        self, inputs: Any, prediction_length: int, num_samples: int, samples_per_batch: int, future: torch.Tensor | None
    ) -> torch.Tensor:
        """Samples (series, variates, prediction_length, num_samples), float32 on the CPU.

        Raises:
            torch.OutOfMemoryError: memory ran out, and a smaller batch is not allowed or did not help.
        """
        # A decoder draws all samples in one call, in rounds of its own; upstream's code draws batch after batch.
        size = num_samples if self.decodes else min(samples_per_batch, num_samples)
        retries = 0
        while True:
            size = min(size, self.samples_limit or size)
            try:
                return self._draw(inputs, prediction_length, num_samples, size, samples_per_batch, future)
            except Exception as error:
                if not out_of_memory(error):
                    raise
                smaller = max(size // 2, min(self._min_samples, size))
                if smaller == size or retries >= self._max_oom_retries:
                    raise
                reason = type(error).__name__
            # Outside of the handler: the error held the frames, and with them the tensors, of what failed.
            retries += 1
            self.samples_limit = smaller
            self.free()
            if not self._warned:
                self._warned = True
                log.warning("out of memory (%s) with %d samples at once: going on with fewer", reason, size)

    def _draw(
        self, inputs: Any, horizon: int, count: int, size: int, batch: int, future: torch.Tensor | None
    ) -> torch.Tensor:
        if not self.decodes:
            return self._call(inputs, horizon, count, size, future)
        # The last call draws as many as the others, for one shape of buffers and code.
        calls = -(-count // size)
        parts = [self._call(inputs, horizon, size, min(batch, size), future) for _ in range(calls)]
        return torch.cat(parts, dim=-1)[..., :count]

    def _call(self, inputs: Any, horizon: int, count: int, batch: int, future: torch.Tensor | None) -> torch.Tensor:
        """One forecast of at least ``count`` samples, of which the first ``count`` are kept.

        Upstream wants whole batches. A batch of the remainder's size would be compiled, or recorded, once more for
        every other number of samples; so whole batches are drawn and the surplus is cut off. Samples are independent
        of each other, so those that stay are distributed as if the others had never been drawn. Eagerly there is
        nothing to compile: there the batches are made equally large, which leaves next to no surplus.
        """
        batches = -(-count // batch)
        if self.compiler is None:
            batch = -(-count // batches)
        more = {} if future is None else {"future_exogenous_variables": future}

        def forecast(forecaster: Any) -> torch.Tensor:
            with self._arithmetic(inputs.series):
                found = forecaster.forecast(
                    inputs, horizon, num_samples=batch * batches, samples_per_batch=batch, **more
                )
            return found.samples[..., :count].detach().to("cpu", torch.float32, copy=True)

        return self._or_eagerly(forecast)

    def _or_eagerly(self, forecast: Callable[[Any], torch.Tensor]) -> torch.Tensor:
        """Runs it compiled; where compiling fails, from then on eagerly."""
        try:
            return forecast(self.forecaster)
        except Exception as error:
            if self.compiler is None or out_of_memory(error) or not failed_to_compile(error):
                raise
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
        self.compiler = None
        self.free()
        self.forecaster = self._make()
        log.warning("torch.compile failed, forecasting without it from now on: %s", reason)
        return forecast(self.forecaster)

    def free(self) -> None:
        """Gives back what earlier forecasts hold."""
        if hasattr(self.forecaster, "release"):
            self.forecaster.release()
        gc.collect()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    @contextlib.contextmanager
    def _arithmetic(self, series: torch.Tensor) -> Iterator[None]:
        """Mixed precision where it is asked for, without a check that upstream fails in 16 bits.

        To torch's tolerance, the weights of its mixture do not sum to 1 there.
        """
        sixteen_bit = self._amp_dtype is not None or series.dtype == torch.bfloat16
        before = torch.distributions.Distribution._validate_args
        if sixteen_bit:
            torch.distributions.Distribution.set_default_validate_args(False)
        try:
            if self._amp_dtype is None:
                yield
            else:
                with torch.autocast(series.device.type, dtype=self._amp_dtype):
                    yield
        finally:
            torch.distributions.Distribution.set_default_validate_args(before)


def out_of_memory(error: BaseException | None) -> bool:
    """Whether an error says, at any depth, that memory ran out."""
    while error is not None:
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
            return True
        text = str(error).lower()
        if isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text):
            return True
        error = error.__cause__
    return False


def failed_to_compile(error: BaseException | None) -> bool:
    """Whether an error comes from torch.compile rather than from what was compiled."""
    while error is not None:
        module = type(error).__module__
        if module.startswith(("torch._dynamo", "torch._inductor", "torch._functorch", "triton")):
            return True
        error = error.__cause__
    return False
