"""The cases for trees whose forecaster decodes by itself: what its buckets, buffers and rounds could get wrong."""

from __future__ import annotations

from toto_patcher.equivalence.case import Case, Length, Turn

_BELOW, _AT, _ABOVE = Length(0, 5), Length(1), Length(1, 3)
_THREE, _FIVE, _SIX = Length(3), Length(5), Length(6, -2)
# Sizes of context that are buckets and that are not, whole and ragged, up and down, down to a single patch.
_CONTEXTS = (
    Turn(_THREE, Length(5)), Turn(_ABOVE, Length(7)), Turn(_THREE, Length(8), salt="other"), Turn(_THREE, Length(7)),
    Turn(_ABOVE, Length(9, 3)), Turn(_ABOVE, Length(13, -5)), Turn(_BELOW, Length(1)), Turn(_ABOVE, Length(0, 3)),
    Turn(_ABOVE, Length(5)),
)  # fmt: skip
# A longer horizon makes the buffers grow; a shorter one after it must not see what they hold.
_HORIZONS = tuple(map(Turn, (_BELOW, _ABOVE, _SIX, Length(9), _THREE, _AT, _SIX)))
_BATCHES = (Turn(_THREE, batch=1), Turn(_THREE, batch=3), Turn(_ABOVE, batch=2), Turn(_THREE, batch=3, salt="other"))
_VARIATES = (Turn(_THREE, variates=2), Turn(_THREE, variates=9), Turn(_THREE, variates=2, salt="other"))
# A head is folded for long horizons, and once more after it changed.
_WEIGHTS = (
    Turn(_THREE), Turn(_THREE, reweighted=True), Turn(_SIX), Turn(_THREE, reweighted=True), Turn(_SIX), Turn(_ABOVE),
)  # fmt: skip
_SERIES = (Turn(_THREE), Turn(_THREE, salt="other"), Turn(_THREE))
_SAMPLES = (Turn(_THREE, samples=6), Turn(_ABOVE, samples=4), Turn(_THREE, Length(7), samples=6, salt="other"))
# Within the buckets of the first: nothing may be compiled again.
_IN_BUCKET = (
    Turn(Length(8), Length(7)), Turn(_BELOW, Length(8), salt="other"), Turn(_AT, Length(7, 3)), Turn(_SIX, Length(8)),
    Turn(_THREE, Length(7), salt="other"),
)  # fmt: skip
_IN_BUCKET_SAMPLED = (
    Turn(_THREE, Length(7), samples=768), Turn(_BELOW, Length(8), samples=640), Turn(_ABOVE, Length(7), samples=704),
)  # fmt: skip


def _point(name: str, batch: int, variates: int, *turns: Turn, **more: object) -> Case:
    return Case(name, "point", batch, variates, turns=turns, decoder=True, **more)  # type: ignore[arg-type]


def _draws(name: str, batch: int, variates: int, horizon: Length, samples: int, **more: object) -> Case:
    return Case(
        name, "draws", batch, variates, horizons=(horizon,), samples=samples, samples_per_batch=samples, decoder=True,
        **more,  # type: ignore[arg-type]
    )  # fmt: skip


DECODER_CASES: tuple[Case, ...] = (
    _point("decoder-contexts", 2, 4, *_CONTEXTS, gaps=True, groups=True, quick=True, base=True),
    _point("decoder-horizons", 1, 4, *_HORIZONS, groups=True, quick=True, base=True),
    _point("decoder-batches", 1, 3, *_BATCHES, gaps=True, quick=True),
    _point("decoder-variates", 1, 3, *_VARIATES, groups=True, quick=True),
    _point("decoder-real-ids", 2, 4, *_CONTEXTS[:3], groups=True, real_ids=True, quick=True),
    _point("decoder-series", 2, 1, *_SERIES, quick=True),
    _point("decoder-weights", 1, 2, *_WEIGHTS, quick=True),
    _point("decoder-blank-start", 2, 3, Turn(_THREE, Length(6, 5)), blank=Length(3, 2), gaps=True, quick=True),
    _point("decoder-steep", 1, 3, Turn(_THREE, Length(6)), steep=True, quick=True),
    _point(
        "decoder-scale-bound", 1, 3, Turn(_THREE, Length(6)), Turn(Length(5), Length(4)), scale_exponent=0.02,
        quick=True,
    ),
    _point("decoder-space-first", 2, 4, *_CONTEXTS[:4], space_first=True, groups=True, quick=True),
    _point("decoder-sequence-first", 2, 3, *_CONTEXTS, layout="sequence-first", gaps=True, groups=True),
    _point("decoder-exogenous", 2, 4, *_HORIZONS[:5], exogenous=2, gaps=True, quick=True),
    _point("decoder-exogenous-groups", 1, 4, *_CONTEXTS, exogenous=1, groups=True),
    _point("decoder-labels", 2, 3, *_CONTEXTS, exogenous=1, labels=True, quick=True),
    _point("decoder-bfloat16", 2, 4, *_CONTEXTS, precision="bfloat16", groups=True, quick=True),
    _point("decoder-bfloat16-labels", 1, 3, *_HORIZONS, precision="bfloat16", exogenous=1, labels=True),
    _point("decoder-autocast", 1, 4, *_CONTEXTS, precision="autocast", groups=True, quick=True),
    Case(
        "decoder-samples", "samples", 2, 3, turns=_SAMPLES, groups=True, gaps=True, decoder=True, quick=True,
        base=True, samples_per_batch=2,
    ),
    Case(
        "decoder-samples-beyond-range", "samples", horizons=(_AT,), samples=64, samples_per_batch=32, level=6e37,
        decoder=True, quick=True,
    ),
    Case("decoder-samples-contexts", "samples", 1, 2, turns=_CONTEXTS, decoder=True),
    Case("decoder-samples-horizons", "samples", 2, 2, turns=_HORIZONS, exogenous=1, decoder=True),
    _draws("draws-below-patch", 1, 1, _BELOW, 1000),
    _draws("draws-at-patch", 1, 2, _AT, 1000, context=Length(4, 7)),
    _draws("draws-groups", 2, 4, Length(2, 3), 499, groups=True, gaps=True, quick=True),
    _draws("draws-many", 2, 4, Length(4, 3), 1999, gaps=True),
    _draws("draws-exogenous", 1, 3, Length(2, 5), 1000, exogenous=1, context=Length(5), quick=True),
    _draws("draws-labels", 1, 3, _ABOVE, 1000, exogenous=1, labels=True),
    _draws("draws-rounds", 2, 2, Length(2), 1023, rows=700, context=Length(3), quick=True),
    Case(
        "draws-beyond-range", "draws", turns=(Turn(_AT), Turn(_ABOVE)), samples=1000, samples_per_batch=1000,
        level=3e37, decoder=True, quick=True,
    ),
    _draws("draws-large", 1, 2, _ABOVE, 256, base=True, context=Length(3)),
    _draws("draws-bfloat16", 1, 2, Length(2), 1000, precision="bfloat16"),
    _draws("draws-autocast", 1, 2, Length(2), 1000, precision="autocast"),
    _point("decoder-compiled", 2, 4, *_IN_BUCKET, gaps=True, groups=True, compiled=True, quick=True, base=True),
    _point("decoder-compiled-bfloat16", 1, 3, *_IN_BUCKET, precision="bfloat16", compiled=True),
    Case(
        "draws-compiled", "draws", 1, 2, turns=_IN_BUCKET_SAMPLED, exogenous=1, samples=768, samples_per_batch=64,
        decoder=True, compiled=True,
    ),
)  # fmt: skip
