"""Every planted fault is caught, by the check that is meant to catch it."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.equivalence.conftest import Pair, copy_model, planted
from tests.equivalence.faults import FAULTS
from tests.equivalence.mutations import Edit, Fault, NoMatchError, plant
from tests.equivalence.pool import Sweep, note, sweep, told_by
from tests.equivalence.variants import REORDERED
from toto_patcher.equivalence.report import LadderReport

RELEASE = "0.2.0"
KINDS = {
    "cache-methods": ("cache", "attention"),
    "teacher-forced": ("teacher",),
    "cached-keys": ("teacher",),
    "attention-layer": ("attention",),
}
"""Check -> the kinds of case that it rests on; a fault runs those of the check that is to catch it."""
UNCHANGED, ORIGINAL, NOISY = "(no fault)", "(original)", "(another order)"


@pytest.fixture(scope="module")
def reports(pair: Callable[[str], Pair], tmp_path_factory: pytest.TempPathFactory) -> dict[str, LadderReport]:
    """The quick report of each fault, and of what is right; made once."""
    found = _sweep(pair(RELEASE), tmp_path_factory.mktemp("faults"))
    note("faults", FAULTS, found)
    return found


def _sweep(pair: Pair, folder: Path) -> dict[str, LadderReport]:
    original, patched = pair
    faulty = {fault.name: planted(fault, patched, folder / "trees" / fault.name) for fault in FAULTS}
    noisy = copy_model(patched, folder / "noisy")
    with (noisy / "toto/model/attention.py").open("a") as stream:
        stream.write(REORDERED)
    compiled = {fault.name for fault in FAULTS if fault.compiled}
    kinds = {fault.name: KINDS[fault.caught_by] for fault in FAULTS if not fault.compiled}
    trees = {UNCHANGED: patched, ORIGINAL: original, NOISY: noisy, **faulty}
    return sweep(original, trees, compiled, folder, what=Sweep(kinds=kinds, told_by=told_by("faults")))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_is_caught_by_name(reports: dict[str, LadderReport], fault: Fault) -> None:
    failed = [check.name for check in reports[fault.name].failures]
    assert any(name.startswith(f"{fault.caught_by}/") for name in failed), failed


@pytest.mark.parametrize("name", [UNCHANGED, ORIGINAL, NOISY])
def test_what_is_right_passes_the_same_sweep(reports: dict[str, LadderReport], name: str) -> None:
    assert reports[name].failures == ()
    assert reports[name].passed


def test_the_noisy_variant_is_noisier(reports: dict[str, LadderReport]) -> None:
    assert any(check.worst_error > 0 for check in reports[NOISY].checks if check.name.startswith("attention-layer"))


def test_there_are_enough_faults_and_no_name_twice() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names) >= 40


SOURCE = """
class Cache:
    def read(self, i):
        return self.k[: self.n[i]]

    def write(self, i):
        self.n[i] = 0
"""


def test_planting_changes_only_the_named_method() -> None:
    fault = Fault("x", "Cache", "read", (Edit("self.n[i]", "self.n[0]"),), "any")
    expected = SOURCE.replace("[: self.n[i]]", "[: self.n[0]]")
    assert ast.dump(ast.parse(plant(fault, SOURCE))) == ast.dump(ast.parse(expected))


@pytest.mark.parametrize(
    "fault",
    [
        Fault("x", "Cache", "read", (Edit("self.m[i]", "0"),), "any"),
        Fault("x", "Cache", "read", (Edit("self.n[i]", "self.n[0]"), Edit("gone", "0")), "any"),
        Fault("x", "Cache", "reset", (Edit("self.n[i]", "0"),), "any"),
        Fault("x", "Other", "read", (Edit("self.n[i]", "0"),), "any"),
        Fault("x", "Cache", "read", (Edit("self.n[i]", "self.n[i]"),), "any"),
    ],
    ids=["expression gone", "second expression gone", "method gone", "class gone", "no change"],
)
def test_a_fault_that_no_longer_fits_the_code_is_an_error(fault: Fault) -> None:
    with pytest.raises(NoMatchError):
        plant(fault, SOURCE)
