"""Step 1: the trees differ where they should, and each ran by itself. Also which promises a tree makes."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath

from toto_patcher.equivalence.children import Outcome
from toto_patcher.equivalence.report import Check
from toto_patcher.errors import RefusedError
from toto_patcher.patching.change import fingerprint
from toto_patcher.patching.checkout import Checkout
from toto_patcher.patching.syntax import class_statements
from toto_patcher.supported import install_hint

Outcomes = Mapping[str, Outcome]
COUNT = "count"
DECODER, ATTENTION = "StaticDecoder", "BaseMultiheadAttention"
FORECASTER, SAMPLER = "TotoForecaster", "sampler"


def has_decoder(root: Path) -> bool:
    """Whether a tree has a decoder of its own, from its sources alone."""
    return bool(Checkout.open(root).definitions(DECODER))


def has_sampler(root: Path) -> bool:
    """Whether a tree's forecaster can draw with random numbers of its own, from its sources alone."""
    return any(
        isinstance(item, ast.FunctionDef) and item.name == SAMPLER
        for node in _definitions(root, FORECASTER)
        for item in node.body
    )


def promises_no_recompilation(original_root: Path, patched_root: Path) -> bool:
    """Whether anything in the patched tree is meant to keep the compiler still: its attention, or a decoder.

    Upstream compiles again and again. A tree with upstream's attention does so too, whatever its cache, and is right.
    """
    original, patched = (
        {ast.dump(node) for node in _definitions(root, ATTENTION)} for root in (original_root, patched_root)
    )
    return has_decoder(patched_root) or original != patched


def _definitions(root: Path, name: str) -> Iterator[ast.ClassDef]:
    """The classes of that name in a tree, wherever they are."""
    checkout = Checkout.open(root)
    for place in checkout.definitions(name):
        for node in class_statements(checkout.read(place.path), place.path):
            if node.name == name:
                yield node


def require_original(outcome: Outcome) -> None:
    """Raises ``RefusedError`` where the original tree did not run."""
    failure = outcome.failure
    if outcome.facts and outcome.facts["errors"]:
        case, failure = next(iter(outcome.facts["errors"].items()))
        failure = f"{case}: {failure}"
    if failure:
        last = failure.strip().splitlines()[-1]
        raise RefusedError(
            f"the original tree does not run, so there is nothing to compare with: {last}",
            hint=f"Install what it needs, {install_hint('runtime')}; then try a forecast.",
        )


def same_files(original_root: Path, patched_root: Path) -> frozenset[str]:
    """The files, relative to the roots, that are to the byte what they were."""
    original, patched = _hashes(original_root), _hashes(patched_root)
    return frozenset(path.as_posix() for path, digest in patched.items() if original.get(path) == digest)


def _hashes(root: Path) -> dict[PurePosixPath, str]:
    checkout = Checkout.open(root)
    return {path: fingerprint(checkout.read(path)) for path in checkout.sources}


def trees(original_root: Path, patched_root: Path, expected: Collection[PurePosixPath] | None) -> Check:
    """The trees differ where they should, and only there."""
    original, patched = _hashes(original_root), _hashes(patched_root)
    differing = {path for path in {*original, *patched} if original.get(path) != patched.get(path)}
    wrong = set() if expected is None else differing ^ set(expected)
    listed = ", ".join(map(str, sorted(differing))) or "no file"
    detail = f"differ in {listed}"
    if wrong:
        detail += f"; not as planned: {', '.join(map(str, sorted(wrong)))}"
    first = str(min(wrong)) if wrong else ""
    return Check("trees", 1, len({*original, *patched}), len(wrong), 0, COUNT, first, not wrong, detail)


def processes(roots: Mapping[str, Path], by_shape: Mapping[str, Outcomes]) -> Check:
    """Each child imported the tree it was meant to, from files as they are on disk, in a process of its own."""
    faults: list[str] = []
    imported = 0
    for outcomes in by_shape.values():
        alive = {role: outcome.facts for role, outcome in outcomes.items() if outcome.facts}
        for role, facts in alive.items():
            root = roots[role].resolve()
            if Path(facts["root"]) != root:
                faults.append(f"{role} ran {facts['root']}")
            for path, digest in facts["imported"].items():
                imported += 1
                if fingerprint((root / path).read_bytes()) != digest:
                    faults.append(f"{role} imported other bytes of {path}")
            if facts["checkpoint"] != outcomes["original"].facts["checkpoint"]:
                faults.append(f"{role} loaded other weights")
        if len({facts["pid"] for facts in alive.values()}) != len(alive):
            faults.append("two trees shared a process")
    detail = "; ".join(faults) or "each tree ran in its own process, from the files on disk, on the same weights"
    return Check("processes", 1, imported, len(faults), 0, COUNT, faults[0] if faults else "", not faults, detail)
