"""Runs the quick ladder on many trees against one original, a few processes for all of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from toto_patcher.equivalence import verdicts
from toto_patcher.equivalence.cases import select
from toto_patcher.equivalence.children import Child, Outcome
from toto_patcher.equivalence.report import LadderReport
from toto_patcher.equivalence.worker import Job

QUICK = select(quick=True)
EAGER = [case.name for case in QUICK]
REFERENCE = [case.name for case in QUICK if case.kind in ("teacher", "point")]
COMPILED = [case.name for case in QUICK if case.compiled]


def sweep(
    original: Path, trees: Mapping[str, Path], compiled: Collection[str], folder: Path, processes: int = 2
) -> dict[str, LadderReport]:
    """The quick report of every tree; those named in ``compiled`` run compiled only."""
    reference = Child([_job(folder, "original", original, EAGER, REFERENCE)], folder, print)
    names = list(trees)
    shares: list[Sequence[str]] = [names[start::processes] for start in range(processes)]
    children = []
    for number, share in enumerate(shares):
        home = folder / f"process-{number}"
        home.mkdir()
        jobs = [_faulty(folder, name, trees[name], name in compiled) for name in share]
        children.append(Child(jobs, home, print))
    try:
        (first,) = reference.wait()
        found: dict[str, Outcome] = {}
        for share, child in zip(shares, children, strict=True):
            found |= dict(zip(share, child.wait(), strict=True))
    finally:
        for child in (reference, *children):
            child.stop()
    reports = {}
    for name, tree in trees.items():
        role = verdicts.COMPILED if name in compiled else verdicts.PATCHED
        checks, facts = verdicts.judge(original, tree, {"tiny": {verdicts.ORIGINAL: first, role: found[name]}}, None)
        reports[name] = LadderReport(tuple(checks), True, facts)
    return reports


def _job(folder: Path, name: str, root: Path, eager: list[str], reference: list[str]) -> Job:
    out = folder / "out" / name
    out.mkdir(parents=True)
    return Job(root=str(root.resolve()), out=str(out), shape="tiny", eager=eager, reference=reference)


def _faulty(folder: Path, name: str, root: Path, compiled: bool) -> Job:
    out = folder / "out" / name
    out.mkdir(parents=True)
    where = {"root": str(root.resolve()), "out": str(out), "shape": "tiny"}
    return Job(**where, compiled=COMPILED) if compiled else Job(**where, eager=EAGER)
