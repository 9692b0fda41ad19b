"""Every planted fault of the profile eager is caught, by the check that is meant to catch it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.equivalence.conftest import Pair, planted
from tests.equivalence.eager_faults import EAGER_FAULTS
from tests.equivalence.mutations import Fault
from tests.equivalence.pool import Sweep, note, sweep, told_by
from toto_patcher.equivalence.cases import by_name
from toto_patcher.equivalence.report import LadderReport

RELEASE = "0.2.0"
UNCHANGED, ORIGINAL = "(no fault)", "(original)"
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
def reports(pair: Callable[..., Pair], tmp_path_factory: pytest.TempPathFactory) -> dict[str, LadderReport]:
    """The report of each fault, and of what is right; made once."""
    (original, patched), folder = pair(RELEASE, "eager"), tmp_path_factory.mktemp("faults")
    faulty = {fault.name: planted(fault, patched, folder / "trees" / fault.name) for fault in EAGER_FAULTS}
    what = Sweep(eager=by_name(CASES), told_by=told_by("eager"))
    found = sweep(original, {UNCHANGED: patched, ORIGINAL: original, **faulty}, (), folder, what=what)
    note("eager", EAGER_FAULTS, found)
    return found


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
