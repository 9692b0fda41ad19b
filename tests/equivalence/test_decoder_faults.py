"""Every fault planted in the decoder is caught, by the check that is meant to catch it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.equivalence.conftest import Pair, planted
from tests.equivalence.decoder_faults import DECODER_FAULTS
from tests.equivalence.mutations import Fault
from tests.equivalence.pool import Sweep, note, sweep, told_by
from toto_patcher.equivalence.cases import by_name, select
from toto_patcher.equivalence.report import LadderReport

RELEASE = "0.2.0"
RIGHT, RIGHT_COMPILED = "(no fault)", "(no fault, compiled)"
FORECASTS = ("point", "samples", "draws")
KINDS = {
    "point-forecasts": ("point",), "same-seed": ("samples",), "fast-sampler": ("draws",), "decoded": FORECASTS,
    "compiled": ("point",), "recompilations": ("point", "draws"), "compiled-sampler": ("draws",),
}  # fmt: skip
SWEEP = Sweep(
    eager=[case for case in select(quick=True, decoder=True) if case.kind in FORECASTS and case.decoder],
    compiled=by_name(["decoder-compiled", "draws-compiled"]),
    decoder=True,
    kinds={fault.name: KINDS[fault.caught_by] for fault in DECODER_FAULTS},
    told_by=told_by("decoder"),
)


@pytest.fixture(scope="module")
def reports(pair: Callable[..., Pair], tmp_path_factory: pytest.TempPathFactory) -> dict[str, LadderReport]:
    """The report on each fault, and on what is right; made once."""
    found = _sweep(pair(RELEASE, "full-graph"), tmp_path_factory.mktemp("faults"))
    note("decoder", DECODER_FAULTS, found)
    return found


def _sweep(trees: Pair, folder: Path) -> dict[str, LadderReport]:
    original, patched = trees
    faulty = {fault.name: planted(fault, patched, folder / "trees" / fault.name) for fault in DECODER_FAULTS}
    compiled = {RIGHT_COMPILED, *(fault.name for fault in DECODER_FAULTS if fault.compiled)}
    return sweep(original, {RIGHT: patched, RIGHT_COMPILED: patched, **faulty}, compiled, folder, what=SWEEP)


@pytest.mark.parametrize("fault", DECODER_FAULTS, ids=lambda fault: fault.name)
def test_fault_is_caught_by_name(reports: dict[str, LadderReport], fault: Fault) -> None:
    failed = [check.name for check in reports[fault.name].failures]
    assert any(name.startswith(f"{fault.caught_by}/") for name in failed), failed


@pytest.mark.parametrize("name", [fault.name for fault in DECODER_FAULTS if fault.caught_by == "recompilations"])
def test_a_fault_of_compilations_alone_changes_nothing_else(reports: dict[str, LadderReport], name: str) -> None:
    """What is caught since torch stopped with an error would be caught without the fault too."""
    assert {check.name.split("/")[0] for check in reports[name].failures} == {"recompilations"}


@pytest.mark.parametrize("name", ["length-off-by-one-when-compiled", "sampler-too-wide-when-compiled"])
def test_a_fault_of_compiled_code_is_told_by_its_numbers(reports: dict[str, LadderReport], name: str) -> None:
    assert all(math.isfinite(check.worst_error) for check in reports[name].failures), reports[name].failures


@pytest.mark.parametrize("name", [RIGHT, RIGHT_COMPILED])
def test_the_decoder_without_a_fault_passes_the_same_sweep(reports: dict[str, LadderReport], name: str) -> None:
    assert reports[name].failures == ()


def test_there_are_enough_faults_and_no_name_twice() -> None:
    names = [fault.name for fault in DECODER_FAULTS]
    assert len(set(names)) == len(names) >= 40
