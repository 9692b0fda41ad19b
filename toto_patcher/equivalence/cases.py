"""The named cases that the ladder runs: frozen data, readable without torch."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["teacher", "point", "samples", "cache", "attention"]
Precision = Literal["float32", "bfloat16", "autocast"]
Layout = Literal["heads-first", "sequence-first"]

EXOGENOUS = "exogenous"
VARIATE_LABELS = "variate-labels"
# Upstream draws samples in the dtype of the model, and torch draws Gamma variates in 16 bits on some devices only.
SIXTEEN_BIT_SAMPLES = "16-bit-samples"
ABILITIES = (EXOGENOUS, VARIATE_LABELS, SIXTEEN_BIT_SAMPLES)


@dataclass(frozen=True)
class Length:
    """A number of time steps, as patches of the model at hand plus single points (which may be negative)."""

    patches: int = 0
    points: int = 0

    def steps(self, patch_size: int) -> int:
        """The number of time steps for a patch size."""
        return self.patches * patch_size + self.points


@dataclass(frozen=True)
class Case:
    """One run whose outputs are compared.

    Attributes:
        name: unique; what reports name.
        kind: ``teacher``: distribution parameters of every patch while known data is fed. ``point``: mean forecasts.
            ``samples``: sampled forecasts under a seed. ``cache``: the public methods of ``KVCache``. ``attention``:
            one time-wise attention layer driven alone with a cache.
        batch: series in a batch.
        variates: variates of a series.
        context: history; where it is no multiple of the patch it gets padded at the left.
        horizons: forecasts made one after the other by the same forecaster; for ``teacher``, patches fed after the
            context.
        gaps: the padding mask hides stretches inside the context.
        groups: the id mask has several groups of variates.
        exogenous: known future variables, the last so many variates.
        labels: variate labels are enabled.
        use_cache: with or without the KV cache.
        reuse: the cache is first filled with other data and reset.
        precision: of weights and inputs; ``autocast`` keeps both in float32 and computes in bfloat16.
        layout: of attention; ``sequence-first`` is what xformers uses.
        space_first: space-wise and time-wise layers alternate, beginning with space.
        samples: drawn per series (``samples``).
        samples_per_batch: of which so many at once.
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
    gaps: bool = False
    groups: bool = False
    exogenous: int = 0
    labels: bool = False
    use_cache: bool = True
    reuse: bool = False
    precision: Precision = "float32"
    layout: Layout = "heads-first"
    space_first: bool = False
    samples: int = 8
    samples_per_batch: int = 4
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
            (SIXTEEN_BIT_SAMPLES, self.kind == "samples" and self.sixteen_bit),
        )
        return frozenset(name for name, needed in wanted if needed)

    @property
    def sixteen_bit(self) -> bool:
        """Whether the arithmetic is in bfloat16."""
        return self.precision != "float32"


_BELOW, _AT, _ABOVE, _MANY = Length(0, 5), Length(1), Length(1, 3), Length(6)
_RAGGED = Length(4, 7)
# bfloat16 holds integers exactly up to 256: positions behind that are rounded.
_LONG = Length(300)

CASES: tuple[Case, ...] = (
    Case("teacher-single", "teacher", quick=True, base=True),
    Case("teacher-batch-gaps", "teacher", 3, 3, _RAGGED, gaps=True, quick=True, base=True),
    Case("teacher-groups", "teacher", 1, 7, gaps=True, groups=True, horizons=(Length(4),), base=True),
    Case("teacher-uncached", "teacher", 3, 3, _RAGGED, gaps=True, use_cache=False, quick=True, base=True),
    Case("teacher-after-reset", "teacher", 2, 3, reuse=True, quick=True, base=True),
    Case("teacher-one-patch-context", "teacher", 1, 3, Length(0, 9), quick=True),
    Case("teacher-space-first", "teacher", 2, 3, space_first=True, groups=True, quick=True),
    Case(
        "teacher-sequence-first", "teacher", 2, 7, _RAGGED, groups=True, layout="sequence-first", quick=True, base=True
    ),
    Case("teacher-bfloat16", "teacher", 2, 3, precision="bfloat16", quick=True, base=True),
    Case("teacher-autocast", "teacher", 2, 3, precision="autocast", quick=True, base=True),
    Case("teacher-bfloat16-long", "teacher", 1, 1, _LONG, (Length(4),), precision="bfloat16", quick=True),
    Case("teacher-bfloat16-sequence-first", "teacher", 1, 3, precision="bfloat16", layout="sequence-first", gaps=True),
    Case("teacher-exogenous", "teacher", 2, 3, exogenous=1, base=True),
    Case("teacher-labels", "teacher", 2, 3, exogenous=1, labels=True, quick=True, base=True),
    Case("teacher-long", "teacher", 1, 1, _LONG, (Length(4),), quick=True),
    Case("point-below-patch", "point", horizons=(_BELOW,), base=True),
    Case("point-at-patch", "point", horizons=(_AT,), quick=True),
    Case("point-above-patch", "point", 3, 3, _RAGGED, (_ABOVE,), gaps=True, base=True, quick=True),
    Case("point-many", "point", 1, 7, Length(3, 1), (_MANY,), groups=True, quick=True, base=True),
    Case("point-many-single", "point", 1, 1, Length(8), (Length(12),)),
    Case("point-batch", "point", 3, 1, Length(5), (_MANY,)),
    Case("point-short-context", "point", 1, 3, Length(0, 5), (_ABOVE,)),
    Case("point-two-horizons", "point", 1, 3, horizons=(_ABOVE, _MANY, _BELOW), quick=True, base=True),
    Case("point-uncached", "point", 2, 3, _RAGGED, (_ABOVE,), use_cache=False, gaps=True, quick=True, base=True),
    Case("point-space-first", "point", 2, 3, horizons=(_MANY,), space_first=True, groups=True),
    Case("point-sequence-first", "point", 2, 3, horizons=(_ABOVE,), layout="sequence-first", gaps=True, quick=True),
    Case("point-bfloat16", "point", 2, 3, horizons=(_ABOVE,), precision="bfloat16", base=True),
    Case("point-autocast", "point", 1, 7, horizons=(_ABOVE,), precision="autocast", groups=True),
    Case("point-exogenous", "point", 2, 3, _RAGGED, (Length(2, 3),), exogenous=2, quick=True, base=True),
    Case("point-labels", "point", 1, 3, horizons=(Length(3),), exogenous=1, labels=True, base=True),
    Case("samples-two-batches", "samples", horizons=(_ABOVE,), quick=True, base=True),
    Case("samples-batch-gaps", "samples", 3, 3, _RAGGED, (Length(2),), gaps=True),
    Case("samples-groups", "samples", 1, 7, horizons=(_ABOVE,), groups=True, quick=True),
    Case("samples-two-horizons", "samples", 1, 3, horizons=(_MANY, _BELOW), base=True),
    Case("samples-uncached", "samples", 1, 3, horizons=(_ABOVE,), use_cache=False),
    Case("samples-sequence-first", "samples", 1, 3, horizons=(_ABOVE,), layout="sequence-first"),
    Case("samples-exogenous", "samples", 1, 3, horizons=(_ABOVE,), exogenous=1),
    Case("samples-labels", "samples", 1, 3, horizons=(_ABOVE,), exogenous=1, labels=True, quick=True),
    Case("samples-bfloat16", "samples", horizons=(_ABOVE,), precision="bfloat16", samples=64, samples_per_batch=32),
    Case("cache-heads-first", "cache", 2, 3, quick=True, base=True),
    Case("cache-sequence-first", "cache", 2, 3, layout="sequence-first", quick=True),
    Case("cache-space-first", "cache", 1, 3, space_first=True, quick=True),
    Case("cache-bfloat16", "cache", 1, 3, precision="bfloat16", quick=True),
    Case("attention-heads-first", "attention", 2, 3, quick=True, base=True),
    Case("attention-sequence-first", "attention", 2, 3, layout="sequence-first", quick=True),
    Case("attention-space-first", "attention", 1, 3, space_first=True, quick=True),
    Case("attention-training", "attention", 1, 3, training=True, quick=True),
    Case("attention-bfloat16", "attention", 1, 1, precision="bfloat16", quick=True),
    Case(
        "compiled-single", "point", 1, 1, horizons=(_BELOW, _AT, _ABOVE, _MANY, Length(11)), quick=True, compiled=True
    ),
    Case("compiled-batch-gaps", "point", 3, 3, _RAGGED, (_ABOVE, _MANY, _BELOW), gaps=True, compiled=True, base=True),
    Case("compiled-groups", "point", 1, 7, horizons=(_BELOW, _MANY), groups=True, space_first=True, compiled=True),
    Case("compiled-bfloat16", "point", 1, 3, horizons=(_MANY, _AT), precision="bfloat16", compiled=True),
    Case("compiled-labels", "point", 1, 3, horizons=(_MANY, _AT), exogenous=1, labels=True, compiled=True),
)

BY_NAME = {case.name: case for case in CASES}


def select(*, quick: bool = False, base: bool = False, able: Collection[str] = ABILITIES) -> tuple[Case, ...]:
    """The cases of a run.

    Args:
        quick: only those of the quick run.
        base: only those that also run on large models.
        able: what the tree can do; cases that need more are left out.
    """
    return tuple(
        case
        for case in CASES
        if (case.quick or not quick) and (case.base or not base) and case.needs <= frozenset(able)
    )


def by_name(names: Iterable[str]) -> tuple[Case, ...]:
    """The cases of these names, in the given order. Raises ``KeyError`` for an unknown one."""
    return tuple(BY_NAME[name] for name in names)
