"""The command ``bench``: what it makes of a checkout, what it prints, and how it refuses. No time is judged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_driver import REPOSITORY, Run, document, snapshot
from json_page import COMMON, differences, documented

from tests.evidence.stub_tree import write_stub_tree
from toto_patcher.benchmarking import Request
from toto_patcher.command_line import bench as bench_options
from toto_patcher.evidence import workloads
from toto_patcher.patching import series
from toto_patcher.supported import install_hint

TINY = ("--device", "cpu", "--shape", "tiny", "--workload", "smoke", "--threads", 1, "--turns", 2, "--timed", 1)
UNCOMPILED = (*TINY, "--baseline", "eager", "--mode", "eager")


def test_the_checkout_gives_the_trees_and_is_only_read(toto: Path, toto_patch: Run, tmp_path: Path) -> None:
    before = snapshot(toto)
    done = toto_patch("bench", *UNCOMPILED, "--ablation", "--root", toto, "--json", tmp_path / "raw.json")
    assert done.returncode == 0, done.stderr
    assert snapshot(toto) == before
    raw = json.loads((tmp_path / "raw.json").read_text())
    assert list(raw["trees"])[:2] == ["upstream", "full-graph"] and "only-static-decoder" in raw["trees"]
    assert raw["trees"]["full-graph"]["patches"] == [patch.id for patch in series.load().select("full-graph")]
    assert [row["tree"] for row in raw["rows"]] == list(raw["trees"])
    assert all(len(row["ms"]) == 2 and row["failure"] is None for row in raw["rows"])
    fast = raw["rows"][1]
    assert fast["outputs"]["quantiles"] < 4 * max(fast["outputs"]["quantiles_null"])
    assert str(tmp_path) not in json.dumps(raw) and raw["command"].startswith("toto-patch bench --workload smoke")
    assert "full-graph, eager" in done.stdout and "raw.json" in done.stdout


def test_progress_is_plain_lines_where_there_is_no_terminal_and_json_is_one_document(
    toto_patch: Run, tmp_path: Path
) -> None:
    tree = write_stub_tree(tmp_path / "tree")
    ready = ("bench", *UNCOMPILED, "--tree", f"upstream={tree}", "--tree", f"mine={tree}")
    told = toto_patch(*ready)
    steps = [line for line in told.stderr.splitlines() if "warmed up smoke/mine/eager" in line]
    assert len(steps) == 1 and " 2/" in steps[0]
    for arguments in ((*ready, "--json"), ("--json", *ready)):
        printed = toto_patch(*arguments)
        assert printed.returncode == 0 and printed.stderr == ""
        pages = documented()
        assert differences(document(printed), pages[COMMON] | pages["bench"]) == []


def test_a_row_that_fails_is_said_and_is_1(toto_patch: Run, tmp_path: Path) -> None:
    good, bad = write_stub_tree(tmp_path / "good"), write_stub_tree(tmp_path / "bad")
    (bad / "toto" / "model" / "backbone.py").write_text("raise ImportError('no such thing')\n")
    done = toto_patch("bench", *UNCOMPILED, "--tree", f"upstream={good}", "--tree", f"bad={bad}")
    assert done.returncode == 1 and "failed: smoke bad, eager: ImportError: no such thing" in done.stdout


def test_a_forecaster_with_a_compile_of_its_own_is_compiled_by_it_and_started_a_second_time(
    toto_patch: Run, tmp_path: Path
) -> None:
    plain, own = write_stub_tree(tmp_path / "plain"), write_stub_tree(tmp_path / "own")
    forecaster = own / "toto" / "inference" / "forecaster.py"
    method = "\n    def compile(self, mode):\n        self.model = lambda x: x.mean(-1, keepdim=True) * 0 + len(mode)\n"
    forecaster.write_text(forecaster.read_text() + method)
    raw = tmp_path / "raw.json"
    ready = ("--tree", f"upstream={plain}", "--tree", f"own={own}")
    done = toto_patch("bench", *TINY, *ready, "--baseline", "eager", "--mode", "reduce-overhead", "--json", raw)
    assert done.returncode == 0, done.stderr
    upstream, compiled = json.loads(raw.read_text())["rows"]
    assert (compiled["tree"], compiled["mode"]) == ("own", "reduce-overhead")
    assert compiled["outputs"]["point"] > 1.0 and "quantiles" in compiled["outputs"]
    assert compiled["warm_start_s"] > 0 and "warm_start_s" not in upstream
    assert [item["what"] for item in compiled["variations"]["rows"]][-2:] == ["another series", "10 samples"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--device", "cuda"), "--device cpu"),
        (("--device", "cpu", "--precision", "bf16"), "gamma"),
        (("--device", "cpu", "--profile", "fast"), "no profile fast"),
        (("--device", "cpu", "--json", "nowhere/raw.json"), "no folder"),
        (("--device", "cpu", "--tree", "mine=DIR"), "no tree is named upstream"),
        (("--device", "cpu", "--tree", "upstream=."), "forecaster.py"),
        (("--device", "cpu", "--workload", "trades"), "trades"),
    ],
)
def test_what_cannot_be_measured_is_a_usage_error_with_a_hint(
    arguments: tuple[str, ...], told: str, toto: Path, toto_patch: Run
) -> None:
    import torch

    if arguments == ("--device", "cuda") and torch.cuda.is_available():
        return  # then it can be measured
    done = toto_patch("bench", *arguments, "--root", toto)
    assert done.returncode == 2 and told in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert "next:" in done.stderr or "hint" in done.stdout


def test_without_torch_it_says_what_to_install(toto: Path, toto_patch: Run, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')\n")
    done = toto_patch("bench", "--device", "cpu", "--root", toto, env={"PYTHONPATH": f"{tmp_path}:{REPOSITORY}"})
    assert done.returncode == 2 and install_hint("runtime") in done.stderr


def test_the_options_offer_what_there_is() -> None:
    assert tuple(workloads.WORKLOADS) == bench_options.WORKLOADS
    assert bench_options.MODES[1:] == workloads.MODES


def test_the_command_that_is_recorded_names_no_folder_and_no_default() -> None:
    request = Request(tree=("upstream=/home/me/a",), turns=5, ablation=True, kernels=False, file=Path("/var/raw.json"))
    assert request.command() == "toto-patch bench --tree upstream=a --ablation --no-kernels --json raw.json"
