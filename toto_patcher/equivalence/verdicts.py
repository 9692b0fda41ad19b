"""From what the children wrote to the checks of the ladder."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from toto_patcher.equivalence import drawn, origins, scoring
from toto_patcher.equivalence.cases import BY_NAME, Case
from toto_patcher.equivalence.children import Outcome
from toto_patcher.equivalence.origins import COUNT, Outcomes
from toto_patcher.equivalence.report import Check
from toto_patcher.equivalence.scoring import Score
from toto_patcher.equivalence.surgery import verdict as surgery

ORIGINAL, PATCHED, COMPILED = "original", "patched", "compiled"

RATIO = "times the original's error"
OF_ALLOWED = "of the rounding allowed"
COUNTERS = {
    "breaks": "graph breaks",
    "recompilations": "compilations after a warm-up of two forecasts",
    "cudagraph_skips": "graphs that could not run as CUDA graphs",
    "limit_hits": "frames that hit the recompile limit",
}
# Counters that a tree may have raised before it was patched -> where they say which functions did it.
BY_FUNCTION = {"recompilations": "recompiled", "limit_hits": "limited"}
Counted = Mapping[str, Mapping[str, Any]]
"""What the compiler did for each case."""


def noisy_cases(original_root: Path, patched_root: Path, compiled: Outcome) -> list[str]:
    """Cases in which the compiler did what it should not, so that the original has to be looked at too."""
    if not compiled.facts or not origins.promises_no_recompilation(original_root, patched_root):
        return []
    counts: Counted = compiled.facts["compiler"]
    return [case for case, values in counts.items() if any(values[counter] for counter in BY_FUNCTION)]


def beyond(counter: str, patched: Mapping[str, Any], original: Mapping[str, Any] | None, same: Collection[str]) -> int:
    """What a counter says of the patched tree, without what the tree did by itself before.

    That is what functions of files that stayed as they were do, as often as they did it in the original.
    """
    if original is None or counter not in BY_FUNCTION:
        return int(patched[counter])
    own, found = original[BY_FUNCTION[counter]], patched[BY_FUNCTION[counter]]
    excused = sum(min(n, own.get(name, 0)) for name, n in found.items() if name.rpartition(":")[0] in same)
    return int(patched[counter] - excused)


def judge(
    original_root: Path,
    patched_root: Path,
    by_shape: Mapping[str, Outcomes],
    expected: Collection[PurePosixPath] | None,
    unpatched: Mapping[str, Counted],
) -> tuple[list[Check], dict[str, Any]]:
    """All checks in the ladder's order, and the facts worth reporting.

    Args:
        original_root: the tree before.
        patched_root: the tree after.
        by_shape: what each child found, per shape.
        expected: the files in which the trees must differ.
        unpatched: per shape, what the compiler did with the original in the ``noisy_cases``.

    Raises:
        RefusedError: the original did not run.
    """
    for outcomes in by_shape.values():
        origins.require_original(outcomes[ORIGINAL])
    roots = {ORIGINAL: original_root, PATCHED: patched_root, COMPILED: patched_root}
    checks = [origins.trees(original_root, patched_root, expected), origins.processes(roots, by_shape)]
    counted = origins.promises_no_recompilation(original_root, patched_root)
    same = origins.same_files(original_root, patched_root)
    for shape, outcomes in by_shape.items():
        broken = [role for role, outcome in outcomes.items() if not outcome.facts]
        checks += [_crashed(role, shape, outcomes[role]) for role in broken]
        if PATCHED in outcomes and PATCHED not in broken:
            checks += _eager(shape, outcomes[ORIGINAL], outcomes[PATCHED])
            checks += filter(None, [surgery.check(shape, outcomes[ORIGINAL], outcomes[PATCHED])])
        if COMPILED in outcomes and COMPILED not in broken:
            checks += _compiled(shape, outcomes[ORIGINAL], outcomes[COMPILED], counted, unpatched.get(shape, {}), same)
    return sorted(checks, key=lambda check: check.step), _facts(by_shape)


def _crashed(role: str, shape: str, outcome: Outcome) -> Check:
    last = outcome.failure.splitlines()[-1] if outcome.failure else "no message"
    return Check(f"runs/{role}/{shape}", 1, 0, math.inf, 0, COUNT, role, False, f"the {role} tree did not run: {last}")


def _split(arrays: Mapping[str, Any], kind: str, scored_by: str, case_kind: str, sixteen: bool) -> Iterator[Any]:
    for case, tensor, array in scoring.pick(arrays, kind, scored_by):
        if case.kind == case_kind and case.sixteen_bit == sixteen:
            yield case, tensor, array, f"{case.name}|{scored_by}|{tensor}"


def _errors(outcome: Outcome, kind: str, case_kinds: Collection[str], sixteen: bool | None = None) -> dict[str, str]:
    found = {}
    for key, text in outcome.facts["errors"].items():
        found_kind, name = key.split("|", 1)
        case: Case = BY_NAME[name]
        if found_kind == kind and case.kind in case_kinds and sixteen in (None, case.sixteen_bit):
            found[name] = text
    return found


def _missing(case: Case, tensor: str) -> Score:
    return Score(case.name, tensor, math.inf, f"{tensor}: missing")


def _against_reference(
    original: Outcome, other: Outcome, kind: str, case_kind: str, sixteen: bool, only: Collection[str] | None = None
) -> list[Score]:
    scores = []
    for case, tensor, reference, key in _split(original.arrays, "reference", "scored", case_kind, sixteen):
        if (only is not None and case.name not in only) or case.name in _errors(other, kind, (case_kind,)):
            continue
        patched = other.arrays.get(f"{kind}|{key}")
        eager = original.arrays[f"eager|{key}"]
        scores.append(
            _missing(case, tensor) if patched is None else scoring.scored(case, tensor, reference, eager, patched)
        )
    return scores


def _against_original(
    original: Outcome, patched: Outcome, scored_by: str, case_kind: str, sixteen: bool
) -> list[Score]:
    compare = {"direct": scoring.direct, "exact": scoring.exact, "seeded": scoring.seeded}[scored_by]
    scores = []
    for case, tensor, array, key in _split(original.arrays, "eager", scored_by, case_kind, sixteen):
        if case.name in _errors(patched, "eager", (case_kind,)):
            continue
        found = patched.arrays.get(f"eager|{key}")
        scores.append(_missing(case, tensor) if found is None else compare(case, tensor, array, found))
    return scores


def _eager(shape: str, original: Outcome, patched: Outcome) -> list[Check]:
    """Steps 2, 3 and 4."""
    checks = []
    for sixteen, name in ((False, "float32"), (True, "bfloat16")):
        bound = scoring.FACTOR[sixteen]
        for step, kind, title in ((2, "teacher", "teacher-forced"), (3, "point", "point-forecasts")):
            errors = _errors(patched, "eager", (kind,), sixteen)
            scores = _against_reference(original, patched, "eager", kind, sixteen)
            if scores or errors:
                checks.append(scoring.worst(f"{title}/{shape}/{name}", step, scores, bound, RATIO, errors))
        for step, kind, scored_by, title in (
            (2, "teacher", "direct", "cached-keys"),
            (2, "attention", "direct", "attention-layer"),
            (4, "samples", "seeded", "same-seed"),
        ):
            errors = _errors(patched, "eager", (kind,), sixteen)
            scores = _against_original(original, patched, scored_by, kind, sixteen)
            if scored_by == "seeded" and patched.facts["decoder"]:
                scores = scoring.best_of_seeds(scores)
            if scores or errors:
                checks.append(scoring.worst(f"{title}/{shape}/{name}", step, scores, 1.0, OF_ALLOWED, errors))
    scores = [
        score
        for kind in ("cache", "teacher", "attention")
        for sixteen in (False, True)
        for score in _against_original(original, patched, "exact", kind, sixteen)
    ]
    errors = _errors(patched, "eager", ("cache",))
    if scores or errors:
        checks.append(scoring.worst(f"cache-methods/{shape}", 2, scores, 0.0, "equal to the bit", errors))
    return [*checks, *_decoded(shape, patched), *_drawn(shape, original, patched, "eager", 5, "fast-sampler")]


def _drawn(shape: str, original: Outcome, other: Outcome, kind: str, step: int, title: str) -> Iterator[Check]:
    """The two-sample tests, for the precisions that have cases."""
    for sixteen, name in ((False, "float32"), (True, "bfloat16")):
        errors = _errors(other, kind, ("draws",), sixteen)
        found = drawn.check(f"{title}/{shape}/{name}", step, original, other, kind, sixteen, errors)
        if found:
            yield found


def _decoded(shape: str, outcome: Outcome) -> Iterator[Check]:
    """A decoder answered what it was asked, and left to upstream's code only what has to be left to it."""
    if not outcome.facts["decoder"]:
        return
    left = outcome.facts["left_to_upstream"]
    wrong = {name: reasons for name, reasons in left.items() if BY_NAME[name].use_cache == bool(reasons)}
    first = next(iter(wrong), "")
    detail = "each forecast was made by the decoder, without a cache by upstream's code"
    if wrong:
        detail = f"{first}: {'; '.join(wrong[first]) or 'decoded without a cache'}"
    yield Check(f"decoded/{shape}", 3, len(left), len(wrong), 0, COUNT, first, not wrong, detail)


def _compiled(
    shape: str, original: Outcome, compiled: Outcome, counted: bool, unpatched: Counted, same: Collection[str]
) -> list[Check]:
    """Step 6; what the compiler did counts where the tree promises something about it."""
    checks = []
    counts: Counted = compiled.facts["compiler"]
    for sixteen, name in ((False, "float32"), (True, "bfloat16")):
        errors = _errors(compiled, "compiled", ("point",), sixteen)
        scores = _against_reference(original, compiled, "compiled", "point", sixteen, only=counts)
        if scores or errors:
            bound = scoring.FACTOR[sixteen]
            checks.append(scoring.worst(f"compiled/{shape}/{name}", 6, scores, bound, RATIO, errors))
    checks += _drawn(shape, original, compiled, "compiled", 6, "compiled-sampler")
    has_cuda_graphs = compiled.facts["device"].startswith("cuda") and compiled.facts["backend"] == "inductor"
    for counter, meaning in COUNTERS.items():
        if counter == "cudagraph_skips" and not has_cuda_graphs:
            continue  # could not fail here, so it would prove nothing
        if not counted or (counter == "breaks" and not compiled.facts["decoder"]):
            continue
        found = {case: beyond(counter, values, unpatched.get(case), same) for case, values in counts.items()}
        if found:
            case = max(found, key=lambda name: found[name])
            worst = found[case]
            title = f"{counter.replace('_', '-')}/{shape}"
            before = sum(counts[case][counter] - beyond_own for case, beyond_own in found.items())
            told = f"{worst} {meaning}" + (f"; {before} more that the original has too" if before else "")
            checks.append(Check(title, 6, len(found), worst, 0, COUNT, case if worst else "", worst == 0, told))
    return checks


def _facts(by_shape: Mapping[str, Outcomes]) -> dict[str, Any]:
    first = next(iter(by_shape.values()))[ORIGINAL].facts
    compiler = {
        shape: dict(outcomes[COMPILED].facts.get("compiler", {}))
        for shape, outcomes in by_shape.items()
        if COMPILED in outcomes
    }
    return {name: first[name] for name in ("python", "torch", "abilities", "backend", "device")} | {
        "compiler": compiler
    }
