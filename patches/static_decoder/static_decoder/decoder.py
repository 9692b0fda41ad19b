"""Forecasts with a backbone's weights: reads the context once, then draws patch after patch for all samples at once."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from . import steps
from .session import Session, Shape
from .statistics import Scaling
from .support import Identity
from .weights import read

SIZES = tuple(sorted({base << shift for shift in range(12) for base in (1, 3)} | {5}))
"""Declared buckets, for patches of context, steps and samples: 1, 2, 3, 4, 5, 6, 8, 12, 16, 24, ..."""
ROWS = 2048
"""Samples times series that are decoded at once; more go in several rounds. Larger batches are no faster."""
SESSIONS = 4
"""Shapes whose buffers, compiled code and recorded graphs are kept; the least recently used goes first."""


def bucket(count: int) -> int:
    """The smallest declared size that holds ``count``."""
    return next((size for size in SIZES if size >= count), count)


@dataclass(frozen=True)
class Request:
    """One forecast.

    Attributes:
        series: (B, V, T); its dtype is the result's.
        valid: which points count; same shape, boolean.
        groups: group of each variate at each point; same shape, integers or real numbers.
        patches: how many to forecast.
        samples: how many to draw, or ``None`` for the mean.
        samples_per_batch: how many upstream would draw at once; heeded where ``exact``.
        future: known values (B, known variates, up to patches * L) of the last variates, or ``None``.
        exogenous: how many variates, the last ones, are exogenous (for variate labels).
        exact: draw what upstream draws, in its order.
    """

    series: torch.Tensor
    valid: torch.Tensor
    groups: torch.Tensor
    patches: int
    samples: int | None
    samples_per_batch: int = 1
    future: torch.Tensor | None = None
    exogenous: int = 0
    exact: bool = False


class Answer(NamedTuple):
    """What came out.

    Attributes:
        values: samples (B, V, patches * L, samples), or the mean (B, V, patches * L).
        whole: no patch is of two groups.
        finite: so were all outputs of the head. Otherwise the values are worth nothing.
    """

    values: torch.Tensor
    whole: bool
    finite: bool


class ChangedError(Exception):
    """The backbone is not what it was when the decoder read its weights; what came out is worth nothing."""


class StaticDecoder:
    """Decodes for one backbone, one call at a time: ``Decoding`` sees to that."""

    def __init__(self, backbone: Any, compiler: dict[str, Any] | None = None) -> None:
        self._backbone = backbone
        self._compiler = compiler
        self._sessions: OrderedDict[Any, Session] = OrderedDict()
        self._identity: Identity | None = None
        self._model: steps.Model | None = None

    def holds(self) -> bool:
        """Whether the backbone is as it was when its weights were read."""
        return self._identity is not None and self._identity.holds()

    def _read(self) -> steps.Model:
        if self._model is None:
            backbone, scaler = self._backbone, self._backbone.scaler
            exponent = float(scaler.scale_factor_exponent) if scaler.stabilize_with_global else None
            self._model = steps.Model(
                weights=read(backbone),
                heads=backbone.transformer.layers[0].attention.num_heads,
                patch=backbone.patch_embed.patch_size,
                components=backbone.output_distribution.k_components,
                scaling=Scaling(float(scaler.minimum_scale), bool(scaler.use_bessel_correction), exponent),
            )
            self._identity = Identity(backbone)
        return self._model

    def forecast(self, request: Request) -> Answer:
        """Decodes.

        Raises:
            ChangedError: the backbone changed; make a new decoder.
        """
        with torch.inference_mode(False), torch.no_grad(), _on(request.series.device):
            model = self._read()
            session = self._session(model, request)
            session.load(request)
            values, sound = session.run(request.patches, request.samples)
            # Asked last, while a GPU is still at work. Old weights are kept until then, so nothing read freed memory.
            if not self.holds():
                raise ChangedError
            whole, finite = sound.tolist()
            return Answer(values, whole, finite)

    def _session(self, model: steps.Model, request: Request) -> Session:
        batch, variates, length = request.series.shape
        samples = 1
        if request.exact and request.samples is not None:
            samples = request.samples_per_batch
        elif request.samples is not None:
            rounds = -(-request.samples * batch * variates // ROWS)
            samples = bucket(-(-request.samples // rounds))
        device = request.series.device
        mixed = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
        compute = model.weights.embed[0].dtype
        if mixed is not None and compute != torch.float64:  # autocast leaves float64 as it is
            compute = mixed
        shape = Shape(
            batch=batch,
            variates=variates,
            context=bucket(-(-length // model.patch)),
            samples=samples,
            mean=request.samples is None,
            exact=request.exact and request.samples is not None,
            known=0 if request.future is None else request.future.shape[1],
            labels=getattr(self._backbone, "fusion", None) is not None,
            dtype=request.series.dtype,
            ids=torch.float64 if request.groups.is_floating_point() else torch.int64,
            device=device,
            compute=compute,
            settings=_settings(),
        )
        needed = request.patches - 1
        session = self._sessions.get(shape)
        if session is None or session.capacity < needed:
            self._sessions.pop(shape, None)
            while len(self._sessions) >= SESSIONS:
                self._sessions.popitem(last=False)
            capacity = bucket(needed) if needed else 0
            compiler = None if shape.exact else self._compiler
            session = Session(self._backbone, model, shape, capacity, compiler)
            self._sessions[shape] = session
        self._sessions.move_to_end(shape)
        return session


def _on(device: torch.device) -> AbstractContextManager[Any]:
    """Kernels, graphs and random numbers belong to the current device: make it the request's."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _settings() -> tuple[Any, ...]:
    """What a recorded graph or compiled code depends on beyond shapes."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    cuda, mkldnn = torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None)
    if hasattr(cuda, "fp32_precision"):  # from torch 2.9; where this was set, reading the older settings is an error
        return cuda.fp32_precision, getattr(mkldnn, "fp32_precision", None), deterministic
    return torch.get_float32_matmul_precision(), cuda.allow_tf32, deterministic
