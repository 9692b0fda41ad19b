"""What a case of the ladder is: frozen data, readable without torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["teacher", "point", "samples", "draws", "cache", "attention"]
Precision = Literal["float32", "bfloat16", "autocast"]
Layout = Literal["heads-first", "sequence-first"]

EXOGENOUS = "exogenous"
VARIATE_LABELS = "variate-labels"
# Upstream draws samples in the dtype of the model, and torch draws Gamma variates in 16 bits on some devices only.
SIXTEEN_BIT_SAMPLES = "16-bit-samples"
# The attention layout of xformers: a tree without the branches that call it has the other alone.
SEQUENCE_FIRST = "sequence-first"
ABILITIES = (EXOGENOUS, VARIATE_LABELS, SIXTEEN_BIT_SAMPLES, SEQUENCE_FIRST)


@dataclass(frozen=True)
class Length:
    """A number of time steps, as patches of the model at hand plus single points (which may be negative)."""

    patches: int = 0
    points: int = 0

    def steps(self, patch_size: int) -> int:
        """The number of time steps for a patch size."""
        return self.patches * patch_size + self.points


@dataclass(frozen=True)
class Turn:
    """One forecast of a case that makes several with one forecaster; what is not given is as in the case.

    Attributes:
        horizon: to forecast.
        context: history.
        batch: series in a batch.
        variates: variates of a series.
        samples: drawn per series.
        salt: another one gives other data of the same form.
        reweighted: the model's weights are changed in place before.
    """

    horizon: Length
    context: Length | None = None
    batch: int = 0
    variates: int = 0
    samples: int = 0
    salt: str = ""
    reweighted: bool = False


@dataclass(frozen=True)
class Case:
    """One run whose outputs are compared.

    Attributes:
        name: unique; what reports name.
        kind: ``teacher``: distribution parameters of every patch while known data is fed. ``point``: mean forecasts.
            ``samples``: sampled forecasts under a seed. ``draws``: many samples, whose distribution is compared.
            ``cache``: the public methods of ``KVCache``. ``attention``: one time-wise attention layer driven alone
            with a cache.
        batch: series in a batch.
        variates: variates of a series.
        context: history; where it is no multiple of the patch it gets padded at the left.
        horizons: forecasts made one after the other by the same forecaster; for ``teacher``, patches fed after the
            context.
        turns: forecasts in place of ``horizons``, where more than the horizon changes between them.
        gaps: the padding mask hides stretches inside the context.
        blank: the padding mask hides so much at the beginning.
        steep: the first variate grows a million times over its length, the second shrinks as much.
        level: multiplies the series.
        scale_exponent: the scaler's bound on how far a patch's scale may be from the context's, if not the model's own.
        groups: the id mask has several groups of variates.
        real_ids: the id mask is of real numbers, as in upstream's README, and its groups differ in fractions.
        exogenous: known future variables, the last so many variates.
        labels: variate labels are enabled.
        use_cache: with or without the KV cache.
        reuse: the cache is first filled with other data and reset.
        precision: of weights and inputs; ``autocast`` keeps both in float32 and computes in bfloat16.
        layout: of attention; ``sequence-first`` is what xformers uses.
        space_first: space-wise and time-wise layers alternate, beginning with space.
        samples: drawn per series (``samples``, ``draws``).
        samples_per_batch: of which so many at once.
        rows: samples times series that a decoder takes at once, if not its own bound.
        decoder: only for trees whose forecaster has a decoder of its own.
        training: the layer is in training mode, so dropout acts (``attention``).
        quick: part of the quick run.
        base: also run on the base shape and on real checkpoints.
        compiled: also run compiled.
    """

    name: str
    kind: Kind
    batch: int = 1
    variates: int = 1
    context: Length = Length(4)
    horizons: tuple[Length, ...] = (Length(3),)
    turns: tuple[Turn, ...] = ()
    gaps: bool = False
    blank: Length = Length()
    steep: bool = False
    level: float = 1.0
    scale_exponent: float = 0.0
    groups: bool = False
    real_ids: bool = False
    exogenous: int = 0
    labels: bool = False
    use_cache: bool = True
    reuse: bool = False
    precision: Precision = "float32"
    layout: Layout = "heads-first"
    space_first: bool = False
    samples: int = 8
    samples_per_batch: int = 4
    rows: int = 0
    decoder: bool = False
    training: bool = False
    quick: bool = False
    base: bool = False
    compiled: bool = False

    @property
    def needs(self) -> frozenset[str]:
        """What the tree and the device must be able to do, of ``ABILITIES``."""
        wanted = (
            (EXOGENOUS, self.exogenous > 0),
            (VARIATE_LABELS, self.labels),
            (SEQUENCE_FIRST, self.layout == "sequence-first"),
            (SIXTEEN_BIT_SAMPLES, self.kind in ("samples", "draws") and self.sixteen_bit),
        )
        return frozenset(name for name, needed in wanted if needed)

    @property
    def sixteen_bit(self) -> bool:
        """Whether the arithmetic is in bfloat16."""
        return self.precision != "float32"

    @property
    def forecasts(self) -> tuple[Turn, ...]:
        """The forecasts to make, one after the other."""
        return self.turns or tuple(map(Turn, self.horizons))

    def at(self, turn: Turn) -> Case:
        """The case as it is for one of its forecasts."""
        return replace(
            self,
            context=turn.context or self.context,
            batch=turn.batch or self.batch,
            variates=turn.variates or self.variates,
            samples=turn.samples or self.samples,
        )
