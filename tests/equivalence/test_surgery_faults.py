"""What a profile could fail to see of a change between forecasts is caught by the check surgery, by name."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.equivalence.conftest import Pair, planted
from tests.equivalence.mutations import Fault
from tests.equivalence.pool import ALL_CASES, Sweep, note, sweep, told_by
from tests.equivalence.surgery_faults import SURGERY_FAULTS
from toto_patcher.equivalence.ladder import operations
from toto_patcher.equivalence.report import LadderReport

RELEASE = "0.2.0"
ALL = [(profile, fault) for profile, faults in SURGERY_FAULTS.items() for fault in faults]
Reports = Callable[[str], dict[str, LadderReport]]


@pytest.fixture(scope="module")
def reports(pair: Callable[..., Pair], tmp_path_factory: pytest.TempPathFactory) -> dict[str, LadderReport]:
    """The report on each fault, and on each profile without one; made once."""
    folder = tmp_path_factory.mktemp("faults")
    told, trees = told_by("surgery"), {}
    for profile, faults in SURGERY_FAULTS.items():
        original, patched = pair(RELEASE, profile)
        trees[profile] = patched
        trees |= {fault.name: planted(fault, patched, folder / "trees" / fault.name) for fault in faults}
    needed = {int(found[1]) for case in told.values() if (found := re.match(r"operation (\d+),", case))}
    numbers = operations(quick=False) if ALL_CASES else sorted(needed)
    found = sweep(original, trees, (), folder, what=Sweep(eager=(), compiled=(), told_by=told, surgery=numbers))
    note("surgery", [fault for _, fault in ALL], found)
    return found


@pytest.mark.parametrize("fault", [fault for _, fault in ALL], ids=lambda fault: fault.name)
def test_fault_is_caught_by_name(reports: dict[str, LadderReport], fault: Fault) -> None:
    (check,) = [check for check in reports[fault.name].checks if check.name == "surgery/tiny"]
    assert not check.passed and check.worst_error > 1
    assert re.match(r"operation \d+, .+: ", check.worst_case) and check.detail.startswith(check.worst_case)


@pytest.mark.parametrize("profile", SURGERY_FAULTS)
def test_each_profile_without_a_fault_passes_the_same_operations(
    reports: dict[str, LadderReport], profile: str
) -> None:
    assert reports[profile].failures == ()
    (check,) = [check for check in reports[profile].checks if check.name == "surgery/tiny"]
    assert check.cases > 20 and "of which move upstream's" in check.detail
