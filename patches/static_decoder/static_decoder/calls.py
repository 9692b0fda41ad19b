"""One call of ``forecast``: what about it only upstream's own code may answer, often with an error."""

from __future__ import annotations

import math
import operator
import sys
from typing import Any

import torch
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from .decoder import Request
from .support import FORECASTER

NOT_FINITE = "the model's outputs are not finite: the context may hold NaN, or infinite or enormous values"

REDUCED = {"mode": "reduce-overhead"}


class UnsupportedError(Exception):
    """Upstream's path has to be taken, and why."""


class Call:
    """What ``forecast`` was called with.

    Attributes:
        horizon: steps to forecast.

    Raises:
        UnsupportedError: only upstream's code may answer.
    """

    def __init__(
        self,
        inputs: Any,
        prediction_length: Any,
        num_samples: int | None,
        samples_per_batch: int,
        use_kv_cache: bool,
        future: torch.Tensor | None,
        exact: bool,
    ) -> None:
        try:
            self.horizon = operator.index(prediction_length)
        except TypeError:
            self.horizon = 0
        try:
            reason = _unusual(inputs, self.horizon, num_samples, samples_per_batch, future)
        except Exception as error:
            reason = f"the inputs are not as expected: {type(error).__name__}: {error}"
        if reason is None and not use_kv_cache:
            reason = "the cache is switched off, and without it forecasts differ"
        if reason is not None:
            raise UnsupportedError(reason)
        self._inputs, self._future, self._exact = inputs, future, exact
        self._samples, self._samples_per_batch = num_samples, samples_per_batch

    def request(self, patch: int) -> Request:
        """The same for a decoder whose patches have that length."""
        inputs = self._inputs
        series = _batched(inputs.series)
        return Request(
            series=series,
            valid=_batched(inputs.padding_mask),
            groups=torch.zeros_like(series, dtype=torch.int64) if inputs.id_mask is None else _batched(inputs.id_mask),
            patches=math.ceil(self.horizon / patch),
            samples=self._samples,
            samples_per_batch=self._samples_per_batch,
            future=None if self._future is None else _batched(self._future),
            exogenous=int(getattr(inputs, "num_exogenous_variables", 0)),
            exact=self._exact,
        )


def _batched(values: torch.Tensor) -> torch.Tensor:
    return values if values.ndim == 3 else values.unsqueeze(0)


def _unusual(
    inputs: Any, horizon: int, num_samples: int | None, samples_per_batch: int, future: torch.Tensor | None
) -> str | None:
    series = inputs.series
    if not isinstance(series, torch.Tensor) or series.ndim not in (2, 3) or not series.is_floating_point():
        return "the series is not a tensor of two or three dimensions"
    if torch.compiler.is_compiling():
        return "the caller is being compiled"
    if torch._C._get_tracing_state() is not None or torch._C._functorch.peek_interpreter_stack() is not None:
        return "the caller is being traced or transformed"
    if any(type(mode) is not DeviceContext for mode in _get_current_function_mode_stack()):
        return "the caller changes what torch's functions do"
    if _get_current_dispatch_mode_stack():
        return "the caller changes what torch's operators do"
    if not isinstance(inputs.padding_mask, torch.Tensor) or inputs.padding_mask.dtype != torch.bool:
        return "the padding mask is not boolean"
    if 0 in series.shape or inputs.padding_mask.shape != series.shape:
        return "the padding mask is not of the series' shape"
    if inputs.id_mask is not None and (inputs.id_mask.shape != series.shape or inputs.id_mask.is_complex()):
        return "the id mask is not of the series' shape, or not of real numbers"
    if series.device.type not in ("cpu", "cuda"):
        return f"the series is on {series.device}"
    if horizon < 1:
        return "the horizon is not a positive number of steps"
    if num_samples is not None and (num_samples < 1 or num_samples % samples_per_batch):
        return "the number of samples is no multiple of samples_per_batch"
    if future is not None:
        known = int(getattr(inputs, "num_exogenous_variables", 0))
        expected = (*series.shape[:-2], known, horizon)
        if known < 1 or tuple(future.shape[-len(expected) :]) != expected or future.ndim > 3:
            return "the known future is not of the forecast's shape"
    if series.device.type == "cpu":  # where it takes no wait; upstream stops at once, too
        return None if bool(series.isfinite().all()) else NOT_FINITE
    if torch.cuda.is_current_stream_capturing():
        return "the caller is recording a CUDA graph"
    if torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled():
        return "deterministic algorithms are demanded"
    return None


class Generator:
    """Random numbers drawn in vain are given back, so that a seed's samples do not depend on what was tried.

    Args:
        device: whose generator it is, or ``None``: nothing is drawn.
    """

    def __init__(self, device: torch.device | None) -> None:
        self._generator: torch.Generator | None = None
        if device is None or device.type not in ("cpu", "cuda"):
            return
        if device.type == "cpu":
            self._generator = torch.default_generator
            self._state: Any = self._generator.get_state()
        elif torch.cuda.is_initialized():
            index = torch.cuda.current_device() if device.index is None else device.index
            self._generator = torch.cuda.default_generators[index]
            if not torch.cuda.is_current_stream_capturing():
                self._state = self._generator.get_offset()  # the whole state would be copied each time

    def give_back(self) -> None:
        """Sets the generator to where it was."""
        if self._generator is None:
            return
        if self._generator.device.type == "cpu":
            self._generator.set_state(self._state)
        elif not torch.cuda.is_current_stream_capturing():
            self._generator.set_offset(self._state)


def backbone_of(forecaster: Any, defined: type) -> tuple[Any, dict[str, Any] | None]:
    """The backbone of a forecaster, and how to compile where its model was compiled, or ``None``.

    Raises:
        UnsupportedError: a subclass or the instance replaces a method whose work the decoder takes over.
    """
    above = type(forecaster).__mro__
    if defined not in above:
        raise UnsupportedError(f"the forecaster is {type(forecaster).__name__}")
    for owner in ([vars(forecaster)] if hasattr(forecaster, "__dict__") else []) + [
        vars(cls) for cls in above[: above.index(defined)]
    ]:
        for name in (*FORECASTER, "__getattribute__"):
            if name in owner:
                raise UnsupportedError(f"{defined.__name__}.{name} was replaced")
    model, compiled = forecaster.model, sys.modules.get("torch._dynamo.eval_frame")
    if compiled is not None and type(model) is compiled.OptimizedModule:
        if model._forward_hooks or model._forward_pre_hooks:
            raise UnsupportedError("the compiled model has a hook")
        return model._orig_mod, _compiled_by(model.dynamo_ctx)
    if getattr(model, "_compiled_call_impl", None) is None:
        return model, None
    return model, getattr(model, "_decoding_options", REDUCED)


def _compiled_by(context: Any) -> dict[str, Any]:
    """A backend other than Inductor is kept."""
    backend = getattr(context, "callback", None)
    while backend is not None and not hasattr(backend, "compiler_fn"):
        inner = getattr(backend, "_torchdynamo_orig_backend", None)
        backend = getattr(backend, "_torchdynamo_orig_callable", None) if inner is None else inner
    return REDUCED if backend is None else {"backend": backend.compiler_fn}
