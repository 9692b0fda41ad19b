"""The verdict of the check ``surgery``: each forecast after each change is upstream's answer. Knows numpy, no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from toto_patcher.equivalence.children import Outcome
from toto_patcher.equivalence.report import Check
from toto_patcher.equivalence.scoring import SEEDED

STEP = 8
# Relative to the largest value of the answer. In 16 bits one rounding is 0.4 %, and a forecast is fed to the next.
ALLOWED = {False: SEEDED, True: 16 * 2.0**-8}
SEEN = 10.0
"""A change shows where it moves upstream's own forecast by so many times what is allowed."""
OF_ALLOWED = "of the rounding allowed"

Array = npt.NDArray[Any]
Fact = Mapping[str, Any]


@dataclass(frozen=True)
class _Difference:
    value: float
    detail: str


def check(shape: str, original: Outcome, patched: Outcome) -> Check | None:
    """The check, or nothing where the original performed no operation."""
    expected: Sequence[Fact] = original.facts.get("surgery", [])
    if not expected:
        return None
    found: dict[str, Fact] = {fact["number"]: fact for fact in patched.facts.get("surgery", [])}
    scores = [
        _compared(fact, found[fact["number"]], original, patched)
        if fact["number"] in found
        else _Difference(math.inf, "missing")
        for fact in expected
    ]
    wrong = [number for number, score in enumerate(scores) if not score.value <= 1.0]
    worst = max(scores, key=lambda score: math.inf if math.isnan(score.value) else score.value)
    detail = _performed(original, scores)
    if wrong:
        first = wrong[0]
        detail = f"{_case(expected[first])}: {scores[first].detail}; {len(wrong)} of {len(scores)} differ"
    name = _case(expected[wrong[0]]) if wrong else ""
    return Check(
        f"surgery/{shape}", STEP, len(scores), worst.value, 1.0, OF_ALLOWED, name, not wrong, detail
    )  # fmt: skip


def effects(outcome: Outcome) -> dict[str, tuple[str, float]]:
    """For each record of the usual series after a change: its kind, and how far the change moved the forecast.

    In multiples of what is allowed; infinite where a forecast became an error or the other way round.
    """
    found: dict[str, tuple[str, float]] = {}
    before: Fact | None = None
    for fact in outcome.facts["surgery"]:
        if not fact["usual"]:
            continue
        if before is not None and before["operation"] == fact["operation"]:
            then, now = _answer(outcome, before), _answer(outcome, fact)
            if then is None or now is None or then.shape != now.shape:
                effect = 0.0 if then is now else math.inf
            else:
                effect = _relative(then, now) / ALLOWED[False]
            found[fact["number"]] = fact["kind"], effect
        before = fact
    return found


def _case(fact: Fact) -> str:
    return f"operation {fact['operation']}, {fact['changes']}: {fact['what']}"


def _answer(outcome: Outcome, fact: Fact) -> Array | None:
    found: Array | None = outcome.arrays.get(f"surgery|{fact['number']}|direct|answer")
    return found


def _compared(expected: Fact, found: Fact, original: Outcome, patched: Outcome) -> _Difference:
    if expected["error"] != found["error"]:
        ends = [
            f"raised {fact['error']} ({fact['message']})" if fact["error"] else "answered" for fact in (found, expected)
        ]
        return _Difference(math.inf, f"{ends[0]} where the original {ends[1]}")
    if expected["changes"] != found["changes"] or expected["what"] != found["what"]:
        return _Difference(math.inf, f"another operation: {_case(found)}")
    if expected["dtype"] != found["dtype"]:
        return _Difference(math.inf, f"in {found['dtype']} where the original's is in {expected['dtype']}")
    first, second = _answer(original, expected), _answer(patched, found)
    if first is None or second is None:
        return _Difference(0.0 if first is second else math.inf, "missing")
    if first.shape != second.shape:
        return _Difference(math.inf, f"shape {second.shape} where {first.shape} is expected")
    relative = _relative(first, second)
    left = f", left to upstream's code: {found['left']}" if found["left"] else ""
    detail = f"differs by {relative:.2e} of the largest value{left}"
    return _Difference(relative / ALLOWED["16" in expected["dtype"]], detail)


def _relative(first: Array, second: Array) -> float:
    """The largest difference over the largest value; infinite where only one of them is a number."""
    lost = ~np.isfinite(first)
    if not np.array_equal(first[lost], second[lost], equal_nan=True) or not np.isfinite(second[~lost]).all():
        return math.inf
    if lost.all():
        return 0.0
    error, size = (float(np.abs(array[~lost]).max()) for array in (second - np.where(lost, 0.0, first), first))
    return error / size if size else (math.inf if error else 0.0)


def _performed(original: Outcome, scores: Sequence[_Difference]) -> str:
    facts = original.facts["surgery"]
    moved = effects(original)
    shown = [kind for kind, effect in moved.values() if effect >= SEEN]
    operations = len({fact["operation"] for fact in facts})
    errors = sum(bool(fact["error"]) for fact in facts)
    equal = "all to the bit" if all(score.value == 0 for score in scores) else "to rounding"
    return (
        f"{len(moved)} changes of a forecast in {operations} operations, {len(shown)} of which move upstream's by more "
        f"than {SEEN * ALLOWED[False]:.1e}; {len(facts)} answers are the original's, {errors} of them errors, {equal}"
    )
