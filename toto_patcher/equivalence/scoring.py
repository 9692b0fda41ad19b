"""The error model: compares the arrays of original and patched. Knows numpy, no torch, no trees.

A forecast has no exact answer in floating point, so an error is measured against the ORIGINAL model run in float64, and
the patched model may be as wrong as the original is, times a small factor. Tensors on which the original happens to be
almost exact get a floor, or the factor would multiply nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from toto_patcher.equivalence.cases import BY_NAME, Case
from toto_patcher.equivalence.report import Check
from toto_patcher.equivalence.twosample import ks

Array = npt.NDArray[Any]
EPSILON = {False: 2.0**-23, True: 2.0**-8}
# Patched error over unpatched error; the second for 16 bits, where single roundings show.
FACTOR = {False: 2.0, True: 3.0}
# Rounding steps, in units of a tensor's largest value, that any order of the same sums may cost.
FLOOR_STEPS = {False: 32, True: 4}
# For tensors that are one projection away from the input, compared with each other.
DIRECT_STEPS = {False: 32, True: 4}
# Same seed, same samples, relative to the largest sample: far below any real difference, above any reordering.
SEEDED = 1e-4
# In 16 bits one rounding can flip a draw and shift the generator for all later ones, so what is left to compare without
# bitwise equality is the distribution of every step: a two-sample Kolmogorov-Smirnov distance at this level.
KS_LEVEL = 1e-3


@dataclass(frozen=True)
class Score:
    """The error of one tensor, in units of what is allowed (``value``), and in its own."""

    case: str
    tensor: str
    value: float
    detail: str


def precision(case: Case) -> str:
    """``float32`` or ``bfloat16``, the latter for mixed precision too."""
    return "bfloat16" if case.sixteen_bit else "float32"


def pick(arrays: Mapping[str, Array], kind: str, scoring: str) -> Iterator[tuple[Case, str, Array]]:
    """Case, tensor's name and array of all entries ``kind|case|scoring|tensor``."""
    for key, array in arrays.items():
        found_kind, case, found_scoring, tensor = key.split("|", 3)
        if (found_kind, found_scoring) == (kind, scoring):
            yield BY_NAME[case], tensor, array


def scored(case: Case, tensor: str, reference: Array, original: Array, patched: Array) -> Score:
    """Error of the patched against the reference, as a multiple of the original's."""
    if not reference.shape == original.shape == patched.shape:
        return Score(case.name, tensor, math.inf, f"{tensor}: shape {patched.shape} where {original.shape} is expected")
    amplitude = _largest(reference)
    error, usual = _largest(patched - reference), _largest(original - reference)
    floor = FLOOR_STEPS[case.sixteen_bit] * EPSILON[case.sixteen_bit] * amplitude
    ratio = _ratio(error, max(usual, floor))
    return Score(
        case.name,
        tensor,
        ratio,
        f"{tensor}: off by {error:.2e}, the original by {usual:.2e}, values to {amplitude:.2e}",
    )


def direct(case: Case, tensor: str, original: Array, patched: Array) -> Score:
    """Difference between the two, as a multiple of some rounding steps of the largest value."""
    if original.shape != patched.shape:
        return Score(case.name, tensor, math.inf, f"{tensor}: shape {patched.shape} where {original.shape} is expected")
    steps = DIRECT_STEPS[case.sixteen_bit] * EPSILON[case.sixteen_bit]
    error, amplitude = _largest(patched.astype(np.float64) - original), _largest(original)
    return Score(
        case.name,
        tensor,
        _ratio(error, steps * amplitude),
        f"{tensor}: differs by {error:.2e}, values to {amplitude:.2e}",
    )


def exact(case: Case, tensor: str, original: Array, patched: Array) -> Score:
    """0 if equal to the bit, else infinite."""
    if (
        original.shape == patched.shape
        and original.dtype.kind == patched.dtype.kind
        and np.array_equal(original, patched)
    ):
        return Score(case.name, tensor, 0.0, "")
    shown = [str(array.tolist())[:60] if array.size < 20 else f"shape {array.shape}" for array in (patched, original)]
    return Score(case.name, tensor, math.inf, f"{tensor}: {shown[0]} where {shown[1]} is expected")


def seeded(case: Case, tensor: str, original: Array, patched: Array) -> Score:
    """Largest difference of samples over what is allowed; in 16 bits a distance of distributions."""
    if original.shape != patched.shape or not np.isfinite(patched).all():
        return Score(case.name, tensor, math.inf, f"{tensor}: shape {patched.shape} or values that are not finite")
    error, amplitude = _largest(patched.astype(np.float64) - original), _largest(original)
    if not case.sixteen_bit or error == 0:
        value = _ratio(error, SEEDED * amplitude)
        return Score(case.name, tensor, value, f"{tensor}: differs by {error:.2e}, values to {amplitude:.2e}")
    count = original.shape[-1]
    tests = original.size // count
    allowed = math.sqrt(-math.log(KS_LEVEL / tests / 2) / 2) * math.sqrt(2 / count)
    distance = _largest_ks(original.reshape(-1, count), patched.reshape(-1, count))
    return Score(case.name, tensor, distance / allowed, f"{tensor}: KS distance {distance:.2f} of {count} samples")


def best_of_seeds(scores: list[Score]) -> list[Score]:
    """For every tensor the better of its two seeds.

    Where a decoder sums up in another order than upstream, a rounding can tip the rejection of one Gamma variate and
    shift all random numbers after it. That is rare, never happens under two seeds at once, and says nothing; what is
    wrong with the samples is wrong under every seed.
    """
    found: dict[tuple[str, str], Score] = {}
    for score in scores:
        key = (score.case, score.tensor.partition(" seed ")[0])
        if key not in found or not found[key].value <= score.value:
            found[key] = score
    return list(found.values())


def worst(name: str, step: int, scores: list[Score], bound: float, unit: str, errors: Mapping[str, str]) -> Check:
    """The check over these scores; a case that raised fails it."""
    ranked = sorted(scores, key=lambda score: (math.isnan(score.value), score.value), reverse=True)
    cases = len({score.case for score in scores} | set(errors))
    if errors:
        case, error = next(iter(errors.items()))
        last = error.strip().splitlines()[-1]
        return Check(name, step, cases, math.inf, bound, unit, case, False, f"{len(errors)} raised; {case}: {last}")
    if not ranked:
        return Check(name, step, 0, math.inf, bound, unit, "", False, "no case produced anything to compare")
    top = ranked[0]
    identical = "" if top.value else "equal to the bit"
    return Check(name, step, cases, top.value, bound, unit, top.case, top.value <= bound, top.detail or identical)


def _largest(array: Array) -> float:
    if array.size == 0:
        return 0.0
    value = float(np.max(np.abs(array.astype(np.float64, copy=False))))
    return math.inf if math.isnan(value) else value


def _ratio(error: float, allowed: float) -> float:
    if error == 0:
        return 0.0
    return error / allowed if allowed > 0 and math.isfinite(error) else math.inf


def _largest_ks(first: Array, second: Array) -> float:
    """The largest two-sample Kolmogorov-Smirnov distance over rows."""
    return max((ks(a, b) for a, b in zip(first, second, strict=True)), default=0.0)
