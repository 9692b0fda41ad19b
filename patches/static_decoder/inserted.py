"""What the patch adds to ``TotoForecaster``. The codemod takes the methods from here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

    from .static_decoder import Decoding


class DecodingForecaster:
    """The methods that the patch adds to ``TotoForecaster``."""

    def _decoding(self) -> Decoding:
        kept = self.__dict__.get("_kept_decoding")
        if kept is None:
            from .static_decoder import Decoding

            # In one step, so that of two threads that come first both get the same.
            kept = self.__dict__.setdefault("_kept_decoding", Decoding())
        return kept

    def compile(self, mode: str | None = "reduce-overhead", **options: Any) -> Self:
        """Compiles decoding with ``torch.compile`` from the next forecast on, and returns the forecaster.

        This call imports the compiler, which takes seconds. The first forecast of each shape takes the time to compile;
        those after it reuse the code, also for other horizons and numbers of samples within the decoder's buckets.

        Args:
            mode: of ``torch.compile``. "reduce-overhead" and "max-autotune" record CUDA graphs on a GPU.
            options: ``backend`` and ``options`` of ``torch.compile``. With ``options`` give ``mode=None``.
        """
        self._decoding().compile(mode=mode, **options)
        return self

    def release(self) -> None:
        """Frees the buffers, the compiled code and the recorded CUDA graphs of earlier forecasts.

        The next forecast makes them anew.
        """
        self._decoding().release()

    @property
    def sampler(self) -> str:
        """How samples are drawn: "fast", or "seed-exact".

        "fast" draws from the same distribution with other random numbers. "seed-exact" gives the samples that the
        original gives for the same seed; it is for proofs, and takes most of the original's time and memory.
        """
        return self._decoding().sampler

    @sampler.setter
    def sampler(self, sampler: str) -> None:
        if sampler not in ("fast", "seed-exact"):
            raise ValueError(f'the sampler is "fast" or "seed-exact", not {sampler!r}')
        self._decoding().sampler = sampler
