"""Runs the quick ladder on many trees against one original, a few processes for all of them.

Each planted fault runs the case that tells of it. Which one that is stands in caught.json; a fault that does not stand
there runs all cases of the sweep. ``FAULTS_ON_ALL_CASES=1 pytest tests/equivalence/test_faults.py`` (or
test_decoder_faults.py, test_eager_faults.py) runs all on every fault and writes the file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.equivalence.mutations import Fault
from toto_patcher.equivalence import verdicts
from toto_patcher.equivalence.cases import Case, select
from toto_patcher.equivalence.children import Child, Outcome
from toto_patcher.equivalence.ladder import seeds
from toto_patcher.equivalence.report import LadderReport
from toto_patcher.equivalence.worker import Job

QUICK = select(quick=True)
CAUGHT = Path(__file__).with_name("caught.json")
ALL_CASES = "FAULTS_ON_ALL_CASES" in os.environ


@dataclass(frozen=True)
class Sweep:
    """What runs on every tree.

    Attributes:
        eager: cases.
        compiled: cases for trees that run compiled.
        decoder: the trees have a decoder.
        kinds: for trees that need not run everything, the kinds of case to run.
        told_by: tree -> the case that is enough.
        surgery: operations; one that is enough is told by the number in it.
    """

    eager: Sequence[Case] = QUICK
    compiled: Sequence[Case] = tuple(case for case in QUICK if case.compiled)
    decoder: bool = False
    kinds: Mapping[str, Collection[str]] = field(default_factory=dict)
    told_by: Mapping[str, str] = field(default_factory=dict)
    surgery: Sequence[int] = ()

    def operations(self, name: str) -> list[int]:
        """The operations on a tree."""
        enough = re.match(r"operation (\d+),", self.told_by.get(name, ""))
        return [int(enough[1])] if enough else list(self.surgery)

    def of(self, name: str, compiled: bool) -> Sequence[Case]:
        """The cases of a tree."""
        kinds, enough = self.kinds.get(name), self.told_by.get(name)
        return [
            case
            for case in (self.compiled if compiled else self.eager)
            if (kinds is None or case.kind in kinds) and enough in (None, case.name)
        ]


def told_by(group: str) -> dict[str, str]:
    """Fault -> the case that tells of it, for a group of faults; empty where all cases are to run."""
    found: dict[str, dict[str, str]] = json.loads(CAUGHT.read_text()) if CAUGHT.is_file() else {}
    return {} if ALL_CASES else found.get(group, {})


def note(group: str, faults: Sequence[Fault], reports: Mapping[str, LadderReport]) -> None:
    """Writes which case told of each fault, where all of them ran."""
    if not ALL_CASES:
        return
    found = json.loads(CAUGHT.read_text()) if CAUGHT.is_file() else {}
    told = {
        fault.name: check.worst_case
        for fault in faults
        for check in reversed(reports[fault.name].failures)
        if check.name.startswith(f"{fault.caught_by}/") and check.worst_case
    }
    CAUGHT.write_text(json.dumps(found | {group: told}, indent=1, sort_keys=True) + "\n")


def sweep(
    original: Path,
    trees: Mapping[str, Path],
    compiled: Collection[str],
    folder: Path,
    processes: int = 2,
    what: Sweep = Sweep(),
) -> dict[str, LadderReport]:
    """The quick report of every tree; those named in ``compiled`` run compiled only, each in a process of its own."""
    alone = [[name] for name in trees if name in compiled]  # a process compiles for one tree only
    together = [name for name in trees if name not in compiled]
    shares = [share for start in range(processes) if (share := together[start::processes])]

    def run(number: int, jobs: Sequence[Job]) -> list[Outcome]:
        home = folder / f"process-{number}"
        home.mkdir()
        child = Child(jobs, home, print)
        try:
            return child.wait()
        finally:
            child.stop()

    with ThreadPoolExecutor(processes + 1) as pool:
        reference = pool.submit(run, 0, [_original(folder, original, what)])
        asked_of = {
            pool.submit(
                run, number, [_faulty(folder, name, trees[name], name in compiled, what) for name in names]
            ): names
            for number, names in enumerate([*alone, *shares], 1)
        }
        (first,) = reference.result()
        found = {
            name: outcome
            for future, names in asked_of.items()
            for name, outcome in zip(names, future.result(), strict=True)
        }
    reports = {}
    for name, tree in trees.items():
        role = verdicts.COMPILED if name in compiled else verdicts.PATCHED
        asked = {case.name for case in what.of(name, name in compiled)}
        kept = {key: array for key, array in first.arrays.items() if key.split("|")[1] in asked}
        kept |= {key: array for key, array in first.arrays.items() if key.startswith("surgery|")}
        operated = [fact for fact in first.facts["surgery"] if fact["operation"] in what.operations(name)]
        facts = {**first.facts, "surgery": operated}
        outcomes = {verdicts.ORIGINAL: replace(first, arrays=kept, facts=facts), role: found[name]}
        checks, facts = verdicts.judge(original, tree, {"tiny": outcomes}, None, {})
        reports[name] = LadderReport(tuple(checks), True, facts)
    return reports


def _original(folder: Path, root: Path, what: Sweep) -> Job:
    cases = {case.name: case for case in (*what.eager, *what.compiled)}
    return Job(
        **_where(folder, "original", root),
        eager=list(cases),
        reference=[name for name, case in cases.items() if case.kind in ("teacher", "point")],
        seeds=seeds(original=True, decoder=what.decoder),
        surgery=list(what.surgery),
    )


def _faulty(folder: Path, name: str, root: Path, compiled: bool, what: Sweep) -> Job:
    names = {"compiled" if compiled else "eager": [case.name for case in what.of(name, compiled)]}
    return Job(
        **_where(folder, name, root),
        **names,
        backend="eager",
        seeds=seeds(original=False, decoder=what.decoder),
        surgery=[] if compiled else what.operations(name),
    )


def _where(folder: Path, name: str, root: Path) -> dict[str, str]:
    out = folder / "out" / name
    out.mkdir(parents=True)
    return {"root": str(root.resolve()), "out": str(out), "shape": "tiny"}
