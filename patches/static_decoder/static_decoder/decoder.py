"""Forecasts with a backbone's weights: reads the context once, then draws patch after patch for all samples at once."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from . import steps
from .copies import Copies
from .proof import Proof
from .session import Session, Shape
from .statistics import Scaling
from .weights import read

SIZES = tuple(sorted({base << shift for shift in range(12) for base in (1, 3)} | {5}))
"""Declared buckets, for patches of context, steps and samples: 1, 2, 3, 4, 5, 6, 8, 12, 16, 24, ..."""
ROWS = 2048
"""Samples times series that are decoded at once; more go in several rounds. Larger batches are no faster."""
MEMORY = {"cpu": 8 << 20, "cuda": 1 << 30}
"""Bytes for the steps' keys and values; more only where upstream takes more for ``samples_per_batch`` samples."""
SESSIONS = 4
"""Shapes whose buffers, compiled code and recorded graphs are kept; the least recently used goes first."""

FILLED = 16
"""Rows for which a CPU takes about as long as for one, for it waits for the weights."""
FOLDING = 0.5
"""How many uses of the head, not folded, take as long as folding it: for each component of the mixture."""


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
    """Decodes for one backbone, one call at a time: whoever holds it sees to that.

    It keeps the backbone's modules, but not the backbone, so that it goes when that goes.

    Attributes:
        sessions: buffers and programs, by shape; the one used last comes last.
        checked: prove before each forecast; a benchmark takes this away to see what that costs.

    Args:
        proof: that the backbone is still what it is now.
        compiler: keyword arguments of ``torch.compile``, or ``None``.
    """

    def __init__(self, backbone: Any, proof: Proof, compiler: dict[str, Any] | None = None) -> None:
        scaler, embedding = backbone.scaler, backbone.transformer.rotary_emb
        exponent = float(scaler.scale_factor_exponent) if scaler.stabilize_with_global else None
        self._model = steps.Model(
            weights=read(backbone, views=compiler is not None),
            heads=backbone.transformer.layers[0].attention.num_heads,
            patch=backbone.patch_embed.patch_size,
            components=backbone.output_distribution.df.weight.shape[0],
            scaling=Scaling(float(scaler.minimum_scale), bool(scaler.use_bessel_correction), exponent),
        )
        self._proof, self._compiler = proof, compiler
        self._device = self._model.weights.embed[0].device
        self._early = self._device.type == "cpu"
        self._head, copied = self._model.weights.head, [embedding.freqs, embedding.scale]
        if not self._early:
            self._head.fold()
            copied += self._head.sources
        self._copies = Copies(copied)
        self._folded: Copies | None = None
        self.sessions: OrderedDict[Any, Session] = OrderedDict()
        self.checked = True

    @property
    def patch(self) -> int:
        """Points of a patch."""
        return self._model.patch

    def mismatch(self, request: Request) -> str | None:
        """Why a request cannot be answered with these weights, or ``None``.

        Raises:
            ChangedError: perhaps because they are not the backbone's any more.
        """
        series, weight, reason = request.series, self._model.weights.embed[0], None
        if series.device != weight.device:
            reason = f"the series is on {series.device}, the model on {weight.device}"
        elif series.dtype != weight.dtype and not torch.is_autocast_enabled(series.device.type):
            reason = f"the series is {series.dtype}, the model {weight.dtype}"
        if reason is not None and not self._proof.holds():
            raise ChangedError
        return reason

    def proves(self) -> bool:
        """Whether the backbone is what it was, but for the values of its weights."""
        return not self.checked or self._proof.holds()

    def compares(self) -> torch.Tensor:
        """Whether the weights are what copies were made of; the answer may not be there yet."""
        return self._copies.same() if self._folded is None else self._folded.same()

    def forecast(self, request: Request, backbone: Any) -> Answer:
        """Decodes.

        A GPU is asked for the proof while it works, and what came out is thrown away where that fails: whatever was
        read in between is still there, for the proof keeps it.

        Raises:
            ChangedError: the backbone changed; make a new decoder.
        """
        with torch.inference_mode(False), torch.no_grad(), _on(request.series.device):
            if self._early and not self.proves():
                raise ChangedError
            for _ in range(2):
                answer = self._decoded(request, backbone)
                if answer is not None:
                    return answer
                self._reread()
        raise ChangedError

    def _decoded(self, request: Request, backbone: Any) -> Answer | None:
        """The answer, or ``None`` where the weights are not what copies were made of."""
        session: Session | None = None
        try:
            samples = self._samples_at_once(request)
            self._renew_copies(request, samples)
            session = self._session(self._model, request, backbone, samples)
            session.load(request, backbone)
            values, sound = session.run(request.patches, request.samples)
            if not (self._early or self.proves()):
                raise ChangedError
            whole, finite, same = sound.tolist()
            if not finite:
                session.distrust()  # what is masked is still multiplied by zero
            return Answer(values, whole, finite) if same else None
        except BaseException as error:
            if session is not None:  # a signal may have come: nothing half set is left
                session.distrust()
            if isinstance(error, Exception) and not self.proves():
                raise ChangedError from None
            raise

    def _renew_copies(self, request: Request, samples: int) -> None:
        """Sees to it that what was copied from the weights is what they hold; on a GPU, as far as it shows at once.

        On a CPU, comparing the folded head with the weights takes as long as using these once, and folding them as
        long as many uses. So it is folded where the forecast at hand gains by that: what was forecast before must not
        change a forecast, not even by rounding.
        """
        if not self._early:
            if self._copies.seen():
                self._reread()
            return
        if not self._unchanged(self._copies):
            self._reread()
        rows = request.series.shape[0] * request.series.shape[1]
        rounds = 1 if request.samples is None else -(-request.samples // samples)
        uses = max(1.0, rows / FILLED) + rounds * (request.patches - 1) * max(1.0, samples * rows / FILLED)
        self._head.apart = uses < 2 + FOLDING * self._model.components
        if self._head.apart:
            return
        if self._folded is None:
            self._head.fold()
            self._folded = Copies(self._head.sources)
        elif not self._unchanged(self._folded):
            self._head.fold()
            self._folded.renew()

    def _unchanged(self, copies: Copies) -> bool:
        return not self.checked or copies.unchanged()

    def _reread(self) -> None:
        """Computes anew what was copied from the weights, at the same addresses."""
        self._copies.renew()
        for session in self.sessions.values():
            session.distrust()
        if not self._early:
            self._head.fold()

    def _samples_at_once(self, request: Request) -> int:
        if request.samples is None:
            return 1
        if request.exact:
            return request.samples_per_batch
        batch, variates, _ = request.series.shape
        rounds = -(-request.samples * batch * variates // ROWS)
        if request.patches > 1:
            rounds = max(rounds, -(-request.samples // self._samples_that_fit(request)))
        return bucket(-(-request.samples // rounds))

    def _samples_that_fit(self, request: Request) -> int:
        """Samples of which the steps' keys and values take no more than ``MEMORY`` says."""
        batch, variates, points = request.series.shape
        weights, steps_held = self._model.weights, bucket(request.patches - 1)
        token = batch * variates * weights.embed[0].shape[0] * 2 * sum(weights.is_time) * request.series.element_size()
        upstream = request.samples_per_batch * (bucket(-(-points // self._model.patch)) + steps_held) * token
        fewest = max(1, FILLED // (batch * variates)) if self._early else 1
        return max(fewest, max(MEMORY[self._device.type], upstream) // (steps_held * token))

    def _session(self, model: steps.Model, request: Request, backbone: Any, samples: int) -> Session:
        batch, variates, length = request.series.shape
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
            labels=getattr(backbone, "fusion", None) is not None,
            dtype=request.series.dtype,
            ids=torch.float64 if request.groups.is_floating_point() else torch.int64,
            device=device,
            compute=compute,
            settings=(*_settings(), self.checked),
        )
        needed = request.patches - 1
        session = self.sessions.get(shape)
        if session is None or session.capacity < needed:
            self.sessions.pop(shape, None)
            while len(self.sessions) >= SESSIONS:
                self.sessions.popitem(last=False)
            capacity = bucket(needed) if needed else 0
            compiler = None if shape.exact else self._compiler
            copies = self._copies if self.checked and not self._early else None
            session = Session(backbone, model, shape, capacity, compiler, copies)
            self.sessions[shape] = session
        self.sessions.move_to_end(shape)
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
