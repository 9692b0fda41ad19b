"""What a forecaster asks: a fast forecast, or the reason why upstream's own path has to be taken."""

from __future__ import annotations

import contextlib
import importlib
import logging
import weakref
from typing import Any

import torch

from .calls import NOT_FINITE, Call, Generator, UnsupportedError, backbone_of
from .decoder import Answer, ChangedError, StaticDecoder
from .origin import ReplacedError
from .proof import Proof
from .sharing import SHARED, Compiler, Place
from .support import unsupported

log = logging.getLogger(__name__)


class Decoding:
    """How one forecaster decodes. The decoder itself it shares with the other forecasters of its backbone.

    Attributes:
        sampler: ``fast``, or ``seed-exact``: the same seed gives upstream's samples. The second draws what upstream
            draws, in its order, and is for proofs: it takes most of upstream's time and memory.
    """

    def __init__(self) -> None:
        self.sampler = "fast"
        self._compiler: dict[str, Any] | None = None
        self._place: Place | None = None
        self._backbone: Any = None
        self._uncompilable = False
        self._told: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        """A copy has the same settings."""
        return {"sampler": self.sampler, "_compiler": self._compiler}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]
        self.__dict__.update(state)

    @property
    def decoder(self) -> StaticDecoder | None:
        """What the last forecast decoded with, if it is still kept."""
        return None if self._place is None else self._place.decoder

    def compile(self, **options: Any) -> None:
        """From now on compiles with these options of ``torch.compile``, and imports Inductor, which takes seconds."""
        unknown = set(options) - {"mode", "backend", "options"}
        if unknown:
            raise TypeError(f"compile() takes mode, backend and options, not {', '.join(sorted(unknown))}")
        if options.get("backend") in (None, "inductor"):  # here, so that the first forecast need not
            with contextlib.suppress(Exception):  # which the forecast will meet again, and say
                importlib.import_module("torch._inductor.compile_fx")
        self._compiler = {name: value for name, value in options.items() if value is not None}

    def release(self) -> None:
        """Frees buffers, compiled code and recorded graphs of the backbone; the next forecast makes them anew."""
        backbone = None if self._backbone is None else self._backbone()
        if backbone is not None:
            SHARED.release(backbone)

    def forecast(
        self,
        defined: type,
        forecaster: Any,
        inputs: Any,
        prediction_length: int,
        num_samples: int | None,
        samples_per_batch: int,
        use_kv_cache: bool,
        future: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor | None] | None:
        """Mean and samples as ``TotoForecaster.forecast`` gives them, or ``None``: take upstream's path.

        Args:
            defined: the class whose ``forecast`` this stands in for.

        Raises:
            RuntimeError: samples are asked for on a GPU, and the distribution is not finite. (Elsewhere upstream's own
                error says so; on a GPU its sampler would leave the process without a usable device.)
        """
        try:
            backbone, compiler = backbone_of(forecaster, defined)
            exact = self.sampler == "seed-exact"
            call = Call(inputs, prediction_length, num_samples, samples_per_batch, use_kv_cache, future, exact)
            generator = Generator(inputs.series.device if num_samples is not None else None)
            try:
                answer = self._decode(backbone, compiler, defined, generator, call)
                if not (answer.finite or num_samples is None) and inputs.series.is_cuda:
                    raise RuntimeError(f"{NOT_FINITE}; on a GPU, the original stops at a device-side assert there")
                if not (answer.finite and answer.whole):
                    raise UnsupportedError(NOT_FINITE if answer.whole else "a patch is of two groups")
            except BaseException:
                generator.give_back()
                raise
        except (UnsupportedError, ReplacedError) as error:
            if str(error) not in self._told:
                self._told.add(str(error))
                log.warning("forecasting on upstream's path: %s", error)
            return None
        values = answer.values[:, :, : call.horizon]
        return (values, None) if num_samples is None else (values.mean(dim=-1), values)

    def _decode(self, backbone: Any, compiler: Compiler, *rest: Any) -> Answer:
        """Compiled as the forecaster says, else as the model says, which upstream answers without a compiler too."""
        if self._compiler is None and compiler is not None and not self._uncompilable:
            try:
                return self._decode_by(backbone, compiler, *rest)
            except Exception as error:
                if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor", "triton")):
                    raise
                self._uncompilable = True
                log.warning("decoding without torch.compile, which failed: %s: %s", type(error).__name__, error)
        return self._decode_by(backbone, self._compiler, *rest)

    def _decode_by(self, backbone: Any, compiler: Compiler, defined: type, generator: Generator, call: Call) -> Answer:
        place = SHARED.place(backbone, compiler)
        self._place, self._backbone = place, weakref.ref(backbone)
        # What a decoder keeps must be of no graph, and not bound to the caller's mode.
        with place.lock, torch.inference_mode(False), torch.no_grad():
            for _ in range(3):
                if place.decoder is None:
                    classes = SHARED.classes(defined)
                    reason = unsupported(backbone, classes)
                    if reason is not None:
                        raise UnsupportedError(reason)
                    place.decoder = StaticDecoder(backbone, Proof(backbone, classes.origin), compiler)
                try:
                    request = call.request(place.decoder.patch)
                    reason = place.decoder.mismatch(request)
                    if reason is not None:
                        raise UnsupportedError(reason)
                    return place.decoder.forecast(request, backbone)
                except ChangedError:
                    place.decoder = None
                    generator.give_back()
        raise UnsupportedError("the model changes while it forecasts")
