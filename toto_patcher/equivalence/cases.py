"""The named cases that the ladder runs on every tree: frozen data, readable without torch."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from toto_patcher.equivalence.case import ABILITIES, EXOGENOUS, SIXTEEN_BIT_SAMPLES, VARIATE_LABELS, Case, Length, Turn
from toto_patcher.equivalence.decoder_cases import DECODER_CASES

__all__ = [
    "ABILITIES", "ALL", "BY_NAME", "CASES", "EXOGENOUS", "SIXTEEN_BIT_SAMPLES", "VARIATE_LABELS", "Case", "Length",
    "Turn", "by_name", "select",
]  # fmt: skip

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
    Case("samples-batch-gaps", "samples", 3, 3, _RAGGED, (Length(2),), gaps=True, quick=True),
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

ALL = (*CASES, *DECODER_CASES)
BY_NAME = {case.name: case for case in ALL}


def select(
    *,
    quick: bool = False,
    base: bool = False,
    able: Collection[str] = ABILITIES,
    decoder: bool = False,
    sampler: bool = False,
) -> tuple[Case, ...]:
    """The cases of a run.

    Args:
        quick: only those of the quick run.
        base: only those that also run on large models.
        able: what the tree can do; cases that need more are left out.
        decoder: the tree's forecaster has a decoder of its own.
        sampler: it draws with random numbers of its own, so that only the distributions can be compared.
    """
    return tuple(
        case
        for case in ALL
        if (case.quick or not quick) and (case.base or not base) and case.needs <= frozenset(able)
        if decoder or not case.decoder or (sampler and case.kind == "draws" and not (case.compiled or case.rows))
    )


def by_name(names: Iterable[str]) -> tuple[Case, ...]:
    """The cases of these names, in the given order. Raises ``KeyError`` for an unknown one."""
    return tuple(BY_NAME[name] for name in names)
