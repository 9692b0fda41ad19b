"""Draws samples with a forecaster: in batches that fit into memory, compiled as long as that works."""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from toto_patcher.errors import InputError
from toto_patcher.runtime import compile_cache
from toto_patcher.runtime.environment import DEFAULT_BACKEND
from toto_patcher.runtime.vendored import Vendored

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Compiler:
    """How to compile.

    Attributes:
        mode: of ``torch.compile``; ``None`` for a backend that has no modes.
        backend: of ``torch.compile``.
    """

    mode: str | None
    backend: str

    def options(self) -> dict[str, Any]:
        """Keyword arguments of ``torch.compile``."""
        return {"mode": self.mode, "backend": self.backend}


@dataclass(frozen=True)
class Request:
    """One batch of series to forecast.

    Attributes:
        inputs: upstream's ``MaskedTimeseries``, on the model's device.
        horizon: steps.
        num_samples: to draw of each series.
        samples_per_batch: of them, to draw at once.
        future: known covariates (series, covariates, horizon), or ``None``.
        seed: of torch's generators, or ``None`` to let them run on.
    """

    inputs: Any
    horizon: int
    num_samples: int
    samples_per_batch: int
    future: torch.Tensor | None = None
    seed: int | None = None


class Drawer:
    """Draws samples for batches of equally long series. One call at a time: the pipeline sees to that.

    Attributes:
        forecaster: upstream's, compiled if a compiler is given and works.
        compiler: what is in force; ``None`` from when compiling failed.
        compile_error: why compiling that was asked for is not in force; ``None`` while it is, or was not asked for.
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
        self._forked = False
        self.samples_limit: int | None = None
        self.asked = compiler
        self.compiler = compiler
        self.compile_error: str | None = None
        if compiler is not None and compiler.backend == DEFAULT_BACKEND and (reason := compile_cache.trouble()):
            self.compiler, self.compile_error = None, reason
            log.warning("torch.compile cannot be used, forecasting without it: %s", reason)
        self.forecaster = self._make()

    def copy(self, backbone: Any) -> Drawer:
        """One for another backbone of the same tree, set up in the same way."""
        return Drawer(self._tree, backbone, self.asked, self._amp_dtype, self._max_oom_retries, self._min_samples)

    def after_fork(self) -> None:
        """In a child that was forked in the middle of a forecast: what the forecaster holds is half of something."""
        self._forked = True

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """Why forecasts took upstream's path instead of the decoder's; empty while none did."""
        return tuple(sorted(getattr(getattr(self.forecaster, "_kept_decoding", None), "_told", ())))

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

    def draw(self, request: Request) -> torch.Tensor:
        """Samples (series, variates, horizon, num_samples), float32 on the CPU.

        Raises:
            InputError: this torch cannot sample in the precision that was asked for.
            torch.OutOfMemoryError: memory ran out, and a smaller batch is not allowed or did not help.
        """
        if self._forked:
            self.forecaster, self._forked = self._make(), False
        # A decoder draws all samples in one call, in rounds of its own; upstream's code draws batch after batch.
        size = request.num_samples if self.decodes else request.samples_per_batch
        retries = 0
        while True:
            size = min(size, self.samples_limit or size)
            try:
                _seed(request.seed, request.inputs.series.device)
                return self._draw(request, size)
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

    def _draw(self, request: Request, size: int) -> torch.Tensor:
        if not self.decodes:
            return self._or_eagerly(request, request.num_samples, size)
        # The last call draws as many as the others, for one shape of buffers and code.
        calls = -(-request.num_samples // size)
        batch = min(request.samples_per_batch, size)
        parts = [self._or_eagerly(request, size, batch) for _ in range(calls)]
        return torch.cat(parts, dim=-1)[..., : request.num_samples]

    def _call(self, request: Request, count: int, batch: int) -> torch.Tensor:
        """One forecast of at least ``count`` samples, of which the first ``count`` are kept.

        Upstream wants whole batches. A batch of the remainder's size would be compiled, or recorded, once more for
        every other number of samples; so whole batches are drawn and the surplus is cut off. Samples are independent
        of each other, so those that stay are distributed as if the others had never been drawn. Eagerly there is
        nothing to compile: there the batches are made equally large, which leaves next to no surplus.
        """
        batches = -(-count // batch)
        if self.compiler is None:
            batch = -(-count // batches)
        more = {} if request.future is None else {"future_exogenous_variables": request.future}
        with self._arithmetic(request.inputs.series.device.type):
            found = self.forecaster.forecast(
                request.inputs, request.horizon, num_samples=batch * batches, samples_per_batch=batch, **more
            )
        samples: torch.Tensor = found.samples
        return samples[..., :count].detach().to("cpu", torch.float32, copy=True)

    def _or_eagerly(self, request: Request, count: int, batch: int) -> torch.Tensor:
        """The same; from then on eagerly, where that works and compiled it does not.

        What the compiler cannot cope with comes out as errors of many kinds, an IndexError in the middle of upstream's
        code among them. So the error is not judged by its looks but by whether it goes away.
        """
        try:
            return self._call(request, count, batch)
        except NotImplementedError as error:
            if "not implemented for" not in str(error):
                raise
            raise InputError(
                f"torch cannot forecast in this precision on {request.inputs.series.device.type}: {error}",
                hint="Use float32, or the profile full-graph, which samples in another way.",
            ) from error
        except Exception as error:
            if self.compiler is None or out_of_memory(error):
                raise
            reason = _cause(error)
        compiled = self.compiler, self.forecaster
        self.free()
        self.compiler = None
        self.forecaster = self._make()
        _seed(request.seed, request.inputs.series.device)
        try:
            drawn = self._call(request, count, batch)
        except Exception:
            self.compiler, self.forecaster = compiled  # nothing is wrong with compiling
            raise
        self.compile_error = reason
        log.warning("torch.compile failed, forecasting without it from now on: %s", reason)
        return drawn

    def free(self) -> None:
        """Gives back what earlier forecasts hold."""
        if hasattr(self.forecaster, "release"):
            self.forecaster.release()
        gc.collect()
        if next(self._backbone.parameters()).is_cuda:
            torch.cuda.empty_cache()

    @contextlib.contextmanager
    def _arithmetic(self, device: str) -> Iterator[None]:
        """Mixed precision where it is asked for, without a check that upstream fails in 16 bits.

        To torch's tolerance, the weights of its mixture do not sum to 1 there. Weights of 16 bits compute in 16 bits;
        the series does not come in them, since it would be rounded before it is scaled.
        """
        weights = next(self._backbone.parameters()).dtype
        dtype = self._amp_dtype or (weights if weights.itemsize == 2 else None)
        if dtype is None:
            yield
            return
        before = torch.distributions.Distribution._validate_args
        torch.distributions.Distribution.set_default_validate_args(False)
        try:
            with torch.autocast(device, dtype=dtype):
                yield
        finally:
            torch.distributions.Distribution.set_default_validate_args(before)


def _cause(error: BaseException) -> str:
    """Its first line, and that of what was behind it where that names a file."""
    told = [_line(error)]
    while (behind := error.__cause__ or error.__context__) is not None:
        error = behind
    if isinstance(error, OSError) and _line(error) not in told[0]:
        told.append(_line(error))
    return ", after ".join(told)


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def _seed(seed: int | None, device: torch.device) -> None:
    """Seeds the generators that a forecast on the device uses, and no others."""
    if seed is not None:
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)


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
