"""The GPU's kernels do what the plain code says, run by Triton's interpreter, which needs no GPU."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.equivalence.conftest import Pair, copy_model
from tests.equivalence.kernels.faults import KERNEL_FAULTS
from tests.equivalence.mutations import Fault, plant
from tests.equivalence.pool import Sweep, sweep
from toto_patcher.equivalence.cases import by_name

REPOSITORY = Path(__file__).resolve().parents[3]
PACKAGE = "static_decoder"
BOUND = 4.0
"""Times the error of the plain code. Seen: up to 1.4; with a fault planted, thousands."""
SMALLEST = 99 * 1024
"""Bytes of shared memory that a program gets on GPUs of compute capability 8.6, 8.9 and 12.0; others have more."""
FORECASTS = Sweep(eager=by_name(["point-at-patch", "decoder-series"]), compiled=(), decoder=True)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there are no wheels of Triton for it")


@pytest.fixture(scope="module", autouse=True)
def interpreter() -> object:
    """Environment of child processes in which kernels run on CPU tensors."""
    paths = [str(REPOSITORY)]
    if importlib.util.find_spec("triton") is None:
        found = REPOSITORY / ".venv" / "triton"
        assert found.is_dir(), "Triton is missing: scripts/test.sh puts it into .venv/triton"
        paths.append(str(found))
    paths += filter(None, [os.environ.get("PYTHONPATH")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        yield


@pytest.fixture(scope="module")
def ratios(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float | None]]:
    """Of the kernels as they are, under the empty name, and of each faulty copy: case -> error."""
    source, right = REPOSITORY / "patches" / PACKAGE / PACKAGE, tmp_path_factory.mktemp("right")
    shutil.copytree(source, right / PACKAGE)
    folders, asked = {"": right}, [f"{right}=linear,context,step,digest"]
    for fault in KERNEL_FAULTS:
        folders[fault.name] = folder = tmp_path_factory.mktemp(fault.name)
        file = shutil.copytree(source, folder / PACKAGE) / fault.file
        file.write_text(plant(fault, file.read_text()))
        asked.append(f"{folder}={fault.caught_by.split()[0]}")
    command = [sys.executable, "-m", "tests.equivalence.kernels.compare", *asked]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    return {name: found[str(folder)] for name, folder in folders.items()}


def _wrong(cases: dict[str, float | None]) -> list[str]:
    return [name for name, ratio in cases.items() if ratio is None or ratio > BOUND]


def test_kernels_compute_what_the_plain_code_says(ratios: dict[str, dict[str, float | None]]) -> None:
    assert _wrong(ratios[""]) == []


@pytest.mark.parametrize("fault", KERNEL_FAULTS, ids=lambda fault: fault.name)
def test_a_fault_in_a_kernel_is_caught(ratios: dict[str, dict[str, float | None]], fault: Fault) -> None:
    wrong = _wrong(ratios[fault.name])
    assert any(name.startswith(fault.caught_by) for name in wrong), ratios[fault.name]


def test_contexts_of_more_than_one_tile_fit_into_the_memory_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET")
    command = [sys.executable, "-m", "tests.equivalence.kernels.fitting", str(REPOSITORY / "patches" / PACKAGE)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stderr
    shared = json.loads(done.stdout.splitlines()[-1])
    assert all(0 < size <= SMALLEST for size in shared.values()), shared


def test_forecasts_of_one_variate_through_the_kernels_are_upstreams(pair: Callable[..., Pair], tmp_path: Path) -> None:
    original, patched = pair("0.2.0", "full-graph")
    tree = copy_model(patched, tmp_path / "tree")
    programs = tree / "toto" / "inference" / PACKAGE / "programs.py"
    on_gpus_alone = 'device.type != "cuda" or '
    assert programs.read_text().count(on_gpus_alone) == 1
    programs.write_text(programs.read_text().replace(on_gpus_alone, ""))
    report = sweep(original, {"kernels": tree}, (), tmp_path, processes=1, what=FORECASTS)["kernels"]
    assert report.failures == ()
    assert "point-forecasts/tiny/float32" in {check.name for check in report.checks}
