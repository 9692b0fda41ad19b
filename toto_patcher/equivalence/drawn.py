"""Step 5: samples of a fast sampler against upstream's, and upstream's under another seed against themselves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from toto_patcher.equivalence import twosample
from toto_patcher.equivalence.cases import BY_NAME, Case
from toto_patcher.equivalence.children import Outcome
from toto_patcher.equivalence.report import Check
from toto_patcher.equivalence.scoring import Array, Score, pick

OF_CRITICAL = "of the critical value"
SEED = " seed "


def check(
    name: str,
    step: int,
    original: Outcome,
    other: Outcome,
    kind: str,
    sixteen: bool,
    errors: Mapping[str, str],
) -> Check | None:
    """The two-sample tests over these cases, or nothing where there is none.

    Upstream is drawn from under two seeds. The null, one against the other, has to pass the very tests that the patched
    samples face, or they would prove nothing; its worst value is reported beside.
    """
    if errors:
        broken, error = next(iter(errors.items()))
        last = error.strip().splitlines()[-1]
        return Check(name, step, len(errors), math.inf, 1, OF_CRITICAL, broken, False, f"{broken}: {last}")
    scores, nulls = [], []
    for case, tensor, first, second in _pairs(original, kind, other, sixteen):
        found = other.arrays.get(f"{kind}|{case.name}|drawn|{tensor}" + ("" if kind == "compiled" else f"{SEED}0"))
        patch = original.facts["patch"]
        null = twosample.compare(first, second, patch)
        nulls.append(Score(case.name, tensor, null.value, null.test))
        if found is None:
            scores.append(Score(case.name, tensor, math.inf, f"{tensor}: missing"))
            continue
        if found.size != first.size:
            scores.append(Score(case.name, tensor, math.inf, f"{tensor}: {found.shape[-1]} samples"))
            continue
        worst = twosample.compare(np.concatenate((first, second), -1), _rows(found), patch)
        scores.append(Score(case.name, tensor, worst.value, f"{tensor}: {worst.test}"))
    if not scores:
        return None
    top, null_top = (max(part, key=lambda score: score.value) for part in (scores, nulls))
    detail = f"{top.detail}; upstream against itself {null_top.value:.2f}"
    if null_top.value > 1:
        detail = f"upstream fails against itself, so this proves nothing: {null_top.case}, {null_top.detail}"
    passed = top.value <= 1 and null_top.value <= 1
    return Check(name, step, len({s.case for s in scores}), top.value, 1, OF_CRITICAL, top.case, passed, detail)


def _pairs(original: Outcome, kind: str, other: Outcome, sixteen: bool) -> Iterator[tuple[Case, str, Array, Array]]:
    """Case, tensor and upstream's samples under the two seeds, (rows, steps, samples) each."""
    for case, tensor, array in pick(original.arrays, "eager", "drawn"):
        name, _, seed = tensor.rpartition(SEED)
        if seed == "0" and case.sixteen_bit == sixteen and (kind == "eager" or case.name in other.facts["compiler"]):
            second = original.arrays[f"eager|{case.name}|drawn|{name}{SEED}1"]
            yield BY_NAME[case.name], name, _rows(array), _rows(second)


def _rows(samples: Array) -> Array:
    """From (batch, variates, steps, samples) to (rows, steps, samples)."""
    return samples.reshape(-1, *samples.shape[2:]).astype(np.float64)
