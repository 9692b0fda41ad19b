"""What a forecaster asks: a fast forecast, or the reason why upstream's own path has to be taken."""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import threading
from typing import Any

import torch

from .decoder import Answer, ChangedError, Request, StaticDecoder
from .support import unsupported

log = logging.getLogger(__name__)

NOT_FINITE = "the model's outputs are not finite: the context may hold NaN, or infinite or enormous values"
UPSTREAM = ("generate_mean", "generate_samples", "create_affine_transformed")
"""Methods whose work the decoder takes over: where one was replaced, the replacement is used."""
BACKBONE = ("forward", "backbone", "allocate_kv_cache", "build_variate_label_embeds")


class UnsupportedError(Exception):
    """Upstream's path has to be taken, and why."""


class Decoding:
    """The decoder of one forecaster and how it is set up.

    Attributes:
        sampler: ``fast``, or ``seed-exact``: the same seed gives upstream's samples. The second draws what upstream
            draws, in its order, and is for proofs: it takes most of upstream's time and memory.
    """

    def __init__(self) -> None:
        self.sampler = "fast"
        self._compiler: dict[str, Any] | None = None
        self._decoder: StaticDecoder | None = None
        self._made_for: tuple[Any, dict[str, Any] | None] = (None, None)
        self._told: set[str] = set()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """A copy has the same settings, and buffers and compiled code of its own."""
        return {"sampler": self.sampler, "_compiler": self._compiler}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]
        self.__dict__.update(state)

    def compile(self, **options: Any) -> None:
        """From now on compiles with these options of ``torch.compile``, and imports Inductor, which takes seconds."""
        unknown = set(options) - {"mode", "backend", "options"}
        if unknown:
            raise TypeError(f"compile() takes mode, backend and options, not {', '.join(sorted(unknown))}")
        if options.get("backend") in (None, "inductor"):  # here, so that the first forecast need not
            with contextlib.suppress(Exception):  # which the forecast will meet again, and say
                importlib.import_module("torch._inductor.compile_fx")
        with self._lock:
            self._compiler = {name: value for name, value in options.items() if value is not None}
            self._decoder = None

    def release(self) -> None:
        """Frees buffers, compiled code and recorded graphs; the next forecast makes them anew."""
        with self._lock:
            self._decoder = None

    def forecast(
        self,
        forecaster: Any,
        inputs: Any,
        prediction_length: int,
        num_samples: int | None,
        samples_per_batch: int,
        use_kv_cache: bool,
        future: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor | None] | None:
        """Mean and samples as ``TotoForecaster.forecast`` gives them, or ``None``: take upstream's path.

        Raises:
            RuntimeError: samples are asked for on a GPU, and the distribution is not finite. (Elsewhere upstream's own
                error says so; on a GPU its sampler would leave the process without a usable device.)
        """
        compiled = getattr(forecaster.model, "_orig_mod", None)
        backbone = forecaster.model if compiled is None else compiled
        reason = _unusual_call(forecaster, backbone, inputs, prediction_length, num_samples, samples_per_batch, future)
        if reason is None and not use_kv_cache:
            reason = "the cache is switched off, and without it forecasts differ"
        if reason is not None:
            self._tell(reason)
            return None
        series = inputs.series if inputs.series.ndim == 3 else inputs.series.unsqueeze(0)
        patch = backbone.patch_embed.patch_size
        request = Request(
            series=series,
            valid=_batched(inputs.padding_mask),
            groups=torch.zeros_like(series, dtype=torch.int64) if inputs.id_mask is None else _batched(inputs.id_mask),
            patches=math.ceil(prediction_length / patch),
            samples=num_samples,
            samples_per_batch=samples_per_batch,
            future=None if future is None else _batched(future),
            exogenous=int(getattr(inputs, "num_exogenous_variables", 0)),
            exact=self.sampler == "seed-exact",
        )
        state = _generator_state(series.device) if request.exact else None
        try:
            answer = self._decode(backbone, compiled is not None, request)
        except UnsupportedError as error:
            self._tell(str(error))
            return None
        if not answer.finite and num_samples is not None and series.is_cuda:
            raise RuntimeError(f"{NOT_FINITE}; on a GPU, the original stops at a device-side assert there")
        if not (answer.finite and answer.whole):
            self._tell(NOT_FINITE if answer.whole else "a patch is of two groups")
            if state is not None:  # what was drawn in vain must not shift what upstream draws
                _set_generator_state(series.device, state)
            return None
        values = answer.values[:, :, :prediction_length]
        return (values, None) if num_samples is None else (values.mean(dim=-1), values)

    def _decode(self, backbone: Any, wrapped: bool, request: Request) -> Answer:
        compiler = self._compiler
        if compiler is None and (wrapped or getattr(backbone, "_compiled_call_impl", None) is not None):
            compiler = getattr(backbone, "_decoding_options", {"mode": "reduce-overhead"})
        with self._lock:
            for _ in range(2):
                known, options = self._made_for
                if self._decoder is None or known is not backbone or options != compiler:
                    self._decoder = None
                    reason = unsupported(backbone)
                    if reason is not None:
                        raise UnsupportedError(reason)
                    self._decoder, self._made_for = StaticDecoder(backbone, compiler), (backbone, compiler)
                try:
                    return self._decoder.forecast(request)
                except ChangedError:
                    self._decoder = None
        raise UnsupportedError("the model changes while it forecasts")

    def _tell(self, reason: str) -> None:
        if reason not in self._told:
            self._told.add(reason)
            log.warning("forecasting on upstream's path: %s", reason)


def _generator_state(device: torch.device) -> torch.Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_generator_state(device: torch.device, state: torch.Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


def _batched(values: torch.Tensor) -> torch.Tensor:
    return values if values.ndim == 3 else values.unsqueeze(0)


def _unusual_call(
    forecaster: Any,
    backbone: Any,
    inputs: Any,
    prediction_length: int,
    num_samples: int | None,
    samples_per_batch: int,
    future: torch.Tensor | None,
) -> str | None:
    """What about this call only upstream's own code may answer; often with an error."""
    for owner, names in ((forecaster, UPSTREAM), (backbone, BACKBONE)):
        for name in names:
            method = getattr(type(owner), name, None)
            if name in vars(owner) or (method is not None and _replaced(owner, name, method)):
                return f"{type(owner).__name__}.{name} was replaced"
    series = inputs.series
    if not isinstance(series, torch.Tensor) or series.ndim not in (2, 3) or not series.is_floating_point():
        return "the series is not a tensor of two or three dimensions"
    if 0 in series.shape or inputs.padding_mask.shape != series.shape:
        return "the padding mask is not of the series' shape"
    if inputs.padding_mask.dtype != torch.bool:
        return "the padding mask is not boolean"
    if inputs.id_mask is not None and (inputs.id_mask.shape != series.shape or inputs.id_mask.is_complex()):
        return "the id mask is not of the series' shape, or not of real numbers"
    weight = backbone.patch_embed.projection.weight
    if series.device != weight.device or series.device.type not in ("cpu", "cuda"):
        return f"the series is on {series.device}, the model on {weight.device}"
    if series.dtype != weight.dtype and not torch.is_autocast_enabled(series.device.type):
        return f"the series is {series.dtype}, the model {weight.dtype}"
    if not isinstance(prediction_length, int) or prediction_length < 1:
        return "the horizon is not a positive number of steps"
    if num_samples is not None and (num_samples < 1 or num_samples % samples_per_batch):
        return "the number of samples is no multiple of samples_per_batch"
    if future is not None:
        known = int(getattr(inputs, "num_exogenous_variables", 0))
        expected = (*series.shape[:-2], known, prediction_length)
        if known < 1 or tuple(future.shape[-len(expected) :]) != expected or future.ndim > 3:
            return "the known future is not of the forecast's shape"
    if torch.compiler.is_compiling():
        return "the caller is being compiled"
    if series.is_cuda:
        if torch.cuda.is_current_stream_capturing():
            return "the caller is recording a CUDA graph"
        if torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled():
            return "deterministic algorithms are demanded"
    return None


def _replaced(owner: Any, name: str, method: Any) -> bool:
    """Whether a method is not the one of the class as its file defines it."""
    home = next((cls for cls in type(owner).__mro__ if name in vars(cls)), None)
    named = next((cls for cls in type(owner).__mro__ if cls.__name__ in ("TotoForecaster", "TotoBackbone")), None)
    function = getattr(method, "__wrapped__", method)
    return home is not named or function.__module__ != getattr(home, "__module__", None)
