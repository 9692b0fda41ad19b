"""The ladder passes equal trees, patched trees and other correct arithmetic; it fails, by name, what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from tests.equivalence.conftest import Pair, copy_model, planted
from tests.equivalence.faults import FAULTS
from toto_patcher.equivalence import ladder
from toto_patcher.errors import RefusedError, UsageError

CHANGED = {PurePosixPath("toto/model/attention.py"), PurePosixPath("toto/model/util.py")}


def test_importing_the_ladder_imports_neither_torch_nor_numpy() -> None:
    code = "import sys; from toto_patcher.equivalence import ladder; print({'torch', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.parametrize("version", ["0.1.3", "0.1.4", "0.2.0"])
def test_patched_release_passes_compiled_too(pair: Callable[[str], Pair], version: str) -> None:
    seen: list[tuple[int, int, str]] = []
    report = ladder.run(*pair(version), quick=True, progress=lambda *step: seen.append(step), expected=CHANGED)
    assert report.failures == ()
    assert report.passed
    assert {check.step for check in report.checks} == {1, 2, 3, 4, 6, 8}
    assert report.facts["compiler"]["tiny"]["compiled-single"]["recompilations"] == 0
    assert seen and [done for done, _, _ in seen] == list(range(1, len(seen) + 1)) and seen[-1][0] <= seen[-1][1]
    # This profile runs the same operations in the same order when nothing is compiled.
    direct = [
        check for check in report.checks if check.name.split("/")[0] in ("same-seed", "cached-keys", "attention-layer")
    ]
    assert direct
    assert all(check.worst_error == 0 for check in direct)


@pytest.mark.parametrize("version", ["0.1.3", "0.1.4", "0.2.0"])
def test_the_profile_full_graph_passes_with_every_step(pair: Callable[..., Pair], version: str) -> None:
    report = ladder.run(*pair(version, "full-graph"), quick=True)
    assert report.failures == ()
    assert {check.step for check in report.checks} == {1, 2, 3, 4, 5, 6, 8}
    found = {check.name: check for check in report.checks}
    assert found["decoded/tiny"].cases > 15
    drawn = found["fast-sampler/tiny/float32"]
    assert 0 < drawn.worst_error < drawn.bound == 1 and "upstream against itself" in drawn.detail
    counts = report.facts["compiler"]["tiny"]["decoder-compiled"]
    assert counts["graphs"] > 0
    assert (counts["breaks"], counts["recompilations"], counts["limit_hits"]) == (0, 0, 0)


def test_the_decoder_alone_passes(pair: Callable[..., Pair]) -> None:
    report = ladder.run(*pair("0.2.0", "", ("static-decoder",)), quick=True)
    assert report.failures == ()


def test_the_cache_alone_passes_and_is_held_to_no_promise_of_the_attention(pair: Callable[..., Pair]) -> None:
    report = ladder.run(*pair("0.2.0", "", ("kv-cache-tensor-index",)), quick=True)
    assert report.failures == ()
    names = {check.name.split("/")[0] for check in report.checks}
    assert "compiled" in names and "recompilations" not in names


def test_effective_compile_alone_passes_and_is_held_to_no_promise_of_others(pair: Callable[..., Pair]) -> None:
    """It compiles what upstream compiles: that is compared, and that it compiles over and over is upstream's."""
    report = ladder.run(*pair("0.2.0", "", ("effective-compile",)), quick=True)
    assert report.failures == ()
    names = {check.name.split("/")[0] for check in report.checks}
    assert "compiled" in names and not {"recompilations", "fast-sampler", "decoded"} & names
    assert report.facts["compiler"]["tiny"]["compiled-single"]["graphs"] > 0


def test_the_patched_tree_compiled_by_inductor_passes(pair: Callable[[str], Pair]) -> None:
    report = ladder.run(*pair("0.2.0"), quick=True, backend="inductor")
    assert report.failures == ()
    assert report.facts["backend"] == "inductor"


def test_a_fault_gives_a_failed_report_and_the_name_of_the_check(pair: Callable[[str], Pair], tmp_path: Path) -> None:
    original, patched = pair("0.2.0")
    fault = next(fault for fault in FAULTS if fault.name == "position-one-less")
    report = ladder.run(original, planted(fault, patched, tmp_path / "faulty"), quick=True, compiled=False)
    written = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert written["passed"] is False
    failed = next(check for check in written["checks"] if check["name"] == "cached-keys/tiny/float32")
    assert failed["verdict"] == "FAIL" and failed["worst_error"] > failed["bound"] and failed["worst_case"]


def test_a_tree_that_does_not_import_fails_as_the_patched_one(pair: Callable[[str], Pair], tmp_path: Path) -> None:
    original, patched = pair("0.2.0")
    broken = copy_model(patched, tmp_path / "broken")
    (broken / "toto/model/util.py").write_text("import no_such_module\n\n\nclass KVCache: ...\n")
    report = ladder.run(original, broken, quick=True, compiled=False)
    (crash,) = [check for check in report.failures if check.name.startswith("runs/patched")]
    assert "no_such_module" in crash.detail


def test_an_original_that_does_not_import_is_refused(pair: Callable[[str], Pair], tmp_path: Path) -> None:
    original, patched = pair("0.2.0")
    broken = copy_model(original, tmp_path / "broken")
    (broken / "toto/model/util.py").write_text("import no_such_module\n")
    with pytest.raises(RefusedError, match="no_such_module"):
        ladder.run(broken, patched, quick=True, compiled=False)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_an_incomplete_checkpoint_is_a_usage_error(tmp_path: Path, missing: str) -> None:
    for name in {"config.json", "model.safetensors"} - {missing}:
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=missing):
        ladder.run(tmp_path, tmp_path, checkpoint=tmp_path)


def test_the_full_ladder_passes_on_the_tiny_and_the_base_shape(pair: Callable[[str], Pair]) -> None:
    report = ladder.run(*pair("0.2.0"), compiled=False, expected=CHANGED)
    assert report.failures == ()
    assert {check.name.split("/")[1] for check in report.checks if "/" in check.name} == {"tiny", "base"}
