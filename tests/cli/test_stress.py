"""The command ``stress`` with real trees and real series: what it writes, and that planted faults fail by name."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_driver import Run, document, run, snapshot
from json_page import COMMON, differences, documented

from tests.conftest import copy_tree
from toto_patcher.command_line import stress as options
from toto_patcher.evidence import stress as stress_test
from toto_patcher.evidence.stress import REPORT, RESULTS, Request

FORECASTER = "toto/inference/forecaster.py"
PLANT = """

_sound = TotoForecaster.forecast
_calls = []

def _planted(self, *arguments, **options):
    import torch
    _calls.append(0)
    found = _sound(self, *arguments, **options)
    {fault}
    return found

TotoForecaster.forecast = _planted
"""
SLOW = "__import__('time').sleep(1)"
RECOMPILED = "torch.compile(lambda x: x + 1, backend='eager', dynamic=False)(torch.zeros(len(_calls)))"
BIASED = "found = type(found)(mean=found.mean, samples=found.samples + found.samples.std(dim=-1, keepdim=True))"
NOT_FINITE = "found.samples[..., 0] = float('nan')"


@pytest.fixture(scope="module")
def full_graph(toto_release: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """0.2.0 with the profile full-graph and its backups. Read-only."""
    root = copy_tree(toto_release("0.2.0"), tmp_path_factory.mktemp("stress") / "toto")
    done = run("apply", "--backup", "--profile", "full-graph", "--root", root, cwd=root.parent)
    assert done.returncode == 0, done.stderr
    return root


def test_a_sound_tree_passes_with_report_plots_and_raw_document(
    full_graph: Path, checkpoint: Path, toto_patch: Run, tmp_path: Path
) -> None:
    before = snapshot(full_graph)
    ask = ("stress", "--compile-mode", "default", "--backend", "eager", "--device", "cpu", "--checkpoint", checkpoint)
    done = toto_patch(*ask, "--output", "out", "--root", full_graph, "--json")
    found = document(done)
    assert done.returncode == 0, (found.get("verdict"), found, done.stderr)
    pages = documented()
    assert differences(found, pages[COMMON] | pages["stress"]) == [] and snapshot(full_graph) == before
    raw = json.loads((tmp_path / "out" / RESULTS).read_text())
    assert differences(raw, pages["The raw document of stress"]) == []
    assert [row["name"] for row in raw["rows"]] == ["upstream, eager", "patched, default"]
    upstream, patched = raw["rows"]
    assert len(upstream["ms"]) == len(patched["ms"]) == 3 * sum(len(one["origins"]) for one in raw["series"])
    assert patched["compiled"] and patched["compiler"]["graphs"] > 0 and patched["recompilations"] == 0
    assert raw["passed"] and raw["broken"] == [] and raw["tree"]["profile"] == patched["profile"] == "full-graph"
    assert raw["command"] == (
        f"toto-patch stress --compile-mode default --backend eager --device cpu --checkpoint {checkpoint.name} "
        "--output out"
    )
    page = (tmp_path / "out" / REPORT).read_text()
    assert page.startswith("# Stress test") and "**PASSED" in page and "WARNING" not in page
    assert str(tmp_path) not in page + json.dumps(raw) and str(full_graph.parent) not in page + json.dumps(raw)
    assert {Path(file).name for file in found["files"]} == {path.name for path in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize(
    ("fault", "mode", "limit"),
    [
        (SLOW, "eager", "min_speedup_eager"),
        (RECOMPILED, "default", "recompilations"),
        (BIASED, "eager", "mae_delta"),
        (NOT_FINITE, "eager", "finite"),
    ],
    ids=["slow", "recompiled", "biased", "not-finite"],
)
def test_a_planted_fault_fails_with_its_limit_named(
    fault: str,
    mode: str,
    limit: str,
    full_graph: Path,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = tmp_path / "toto"
    subprocess.run(["cp", "-r", str(full_graph), str(root)], check=True)
    source = root / FORECASTER
    source.write_text(source.read_text() + PLANT.format(fault=fault))
    monkeypatch.chdir(tmp_path)
    if fault != BIASED:  # two windows tell little about errors, and more rounds would be made to know
        (tmp_path / "pyproject.toml").write_text("[tool.toto-patch.stress]\nmae_delta = 0.5\n")
    request = Request(
        compile_mode=(mode,), backend="eager", device="cpu", checkpoint=str(checkpoint), output=Path("out"), windows=2
    )
    result = stress_test.stress(root, request, lambda what, done, total: None)
    found = {one["limit"] for one in result.document["broken"]}
    # Who compiles at every call runs into torch's limit as well, and takes long.
    expected = found if fault == RECOMPILED else {limit}
    assert result.exit_code == 5 and limit in found and found == expected, result.document["broken"]
    assert result.summary[-1].startswith("FAILED") and limit in result.summary[-1]
    assert result.document["tree"]["drifted"] == [FORECASTER] and result.summary[0].startswith("WARNING")


def test_a_tree_that_does_not_run_fails_by_name_and_a_limit_can_be_configured(
    full_graph: Path, checkpoint: Path, tmp_path: Path
) -> None:
    root = tmp_path / "toto"
    subprocess.run(["cp", "-r", str(full_graph), str(root)], check=True)
    source = root / FORECASTER
    source.write_text(source.read_text() + PLANT.format(fault="raise RuntimeError('no such luck')"))
    ask = ("stress", "--compile-mode", "eager", "--device", "cpu", "--checkpoint", checkpoint, "--root", root)
    unpatched = root / "toto" / "model" / "rope.py"
    unpatched.write_text(unpatched.read_text() + "# in both trees\n")
    done = run(*ask, cwd=tmp_path)
    assert "WARNING: toto/model/rope.py is not the release's" in done.stdout
    assert done.returncode == 5 and "BROKEN runs: patched, eager" in done.stdout and "no such luck" in done.stdout
    (tmp_path / "pyproject.toml").write_text("[tool.toto-patch.stress]\nmae = 1\n")
    refused = run(*ask, cwd=tmp_path)
    assert refused.returncode == 2 and "no limit 'mae'" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--checkpoint", "nowhere"), "there is no folder nowhere"),
        (("--mode", "slow"), "slow"),
        (("--compile-mode", "fast"), "fast"),
        (("--output", "file/below"), "none can be made"),
    ],
)
def test_what_cannot_be_run_is_a_usage_error(
    arguments: tuple[str, ...], told: str, full_graph: Path, toto_patch: Run, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    done = toto_patch("stress", "--device", "cpu", *arguments, "--root", full_graph)
    assert done.returncode == 2 and told in done.stderr


def test_an_unpatched_tree_is_1_and_another_source_is_refused(toto: Path, toto_patch: Run, tmp_path: Path) -> None:
    done = toto_patch("stress", "--root", toto)
    assert done.returncode == 1 and "not patched" in done.stdout and "toto-patch apply" in done.stdout
    (tmp_path / "empty").mkdir()
    assert toto_patch("stress", "--root", tmp_path / "empty").returncode == 3


def test_the_modes_offered_are_those_that_exist() -> None:
    assert tuple(stress_test.ITERATIONS) == options.MODES
