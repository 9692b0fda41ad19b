"""Every planted fault of the profile eager is caught, by the check that is meant to catch it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from tests.equivalence.conftest import copy_model, planted
from tests.equivalence.eager_faults import EAGER_FAULTS
from tests.equivalence.mutations import Fault
from toto_patcher.equivalence import ladder, verdicts
from toto_patcher.equivalence.cases import BY_NAME
from toto_patcher.equivalence.children import Child, Outcome
from toto_patcher.equivalence.report import LadderReport
from toto_patcher.equivalence.worker import Job
from toto_patcher.patching import plan, series
from toto_patcher.patching.checkout import Checkout

UNCHANGED, ORIGINAL = "(no fault)", "(original)"
PROCESSES = 2
CASES = (
    "teacher-batch-gaps",
    "teacher-uncached",
    "teacher-labels",
    "point-above-patch",
    "samples-two-batches",
    "samples-batch-gaps",
    "samples-groups",
    "samples-two-horizons",
    "samples-uncached",
    "samples-sequence-first",
    "samples-exogenous",
    "samples-labels",
)


@pytest.fixture(scope="module")
def reports(toto_release: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, LadderReport]:
    """The report of each fault, and of what is right; made once."""
    return _sweep(toto_release("0.2.0"), tmp_path_factory.mktemp("eager"))


def _sweep(original: Path, folder: Path) -> dict[str, LadderReport]:
    patched = copy_model(original, folder / "patched")
    for change in plan.plan_selection(
        Checkout.open(patched), series.load().select(profile="eager"), pristine={}
    ).changes:
        assert change.after is not None
        (patched / change.path).write_bytes(change.after)
    trees = {fault.name: planted(fault, patched, folder / "trees" / fault.name) for fault in EAGER_FAULTS}
    trees |= {UNCHANGED: patched, ORIGINAL: original}
    reference = [name for name in CASES if BY_NAME[name].kind in ("teacher", "point")]
    (first,) = _run(folder / "reference", {"reference": original}, reference).values()
    found: dict[str, Outcome] = _run(folder / "faults", trees, [])
    reports = {}
    for name, tree in trees.items():
        outcomes = {"tiny": {verdicts.ORIGINAL: first, verdicts.PATCHED: found[name]}}
        checks, facts = verdicts.judge(original, tree, outcomes, None)
        reports[name] = LadderReport(tuple(checks), True, facts)
    return reports


def _run(folder: Path, trees: Mapping[str, Path], reference: Sequence[str]) -> dict[str, Outcome]:
    names, children = list(trees), []
    shares = [share for start in range(PROCESSES) if (share := names[start::PROCESSES])]
    for number, share in enumerate(shares):
        home = folder / f"process-{number}"
        home.mkdir(parents=True)
        children.append(Child([_job(folder / name, trees[name], reference) for name in share], home, print))
    try:
        return {
            name: outcome
            for share, child in zip(shares, children, strict=True)
            for name, outcome in zip(share, child.wait(), strict=True)
        }
    finally:
        for child in children:
            child.stop()


def _job(out: Path, root: Path, reference: Sequence[str]) -> Job:
    out.mkdir(parents=True)
    seeds = ladder.seeds(original=False, decoder=False)
    return Job(str(root.resolve()), str(out), "tiny", eager=[*CASES], reference=[*reference], seeds=seeds)


@pytest.mark.parametrize("fault", EAGER_FAULTS, ids=lambda fault: fault.name)
def test_fault_is_caught_by_name(reports: dict[str, LadderReport], fault: Fault) -> None:
    failed = [check.name for check in reports[fault.name].failures]
    assert any(name.startswith(f"{fault.caught_by}/") for name in failed), failed


@pytest.mark.parametrize("name", [UNCHANGED, ORIGINAL])
def test_what_is_right_passes_the_same_sweep(reports: dict[str, LadderReport], name: str) -> None:
    assert reports[name].failures == ()


def test_no_name_twice() -> None:
    names = [fault.name for fault in EAGER_FAULTS]
    assert len(set(names)) == len(names) >= 10
