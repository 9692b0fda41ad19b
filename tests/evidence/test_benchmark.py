"""The whole path from the command line to the document, with child processes; no time is judged."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.evidence.stub_tree import write_stub_tree
from toto_patcher.evidence import benchmark_group, page_graph_breaks
from toto_patcher.evidence.benchmark import command_line, main
from toto_patcher.evidence.stages import STAGES

COMMON = ["--device", "cpu", "--shape", "tiny", "--workload", "smoke", "--threads", "1", "--compile-threads", "1"]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("benchmark")
    before = write_stub_tree(folder / "before")
    after = write_stub_tree(folder / "after", bias=0.5)
    out = folder / "graph-breaks-stub.json"
    trees = ["--tree", f"upstream={before}", "--tree", f"patched={after}"]
    code = main([*trees, *COMMON, "--mode", "reduce-overhead", "--turns", "2", "--timed", "2", "--out", str(out)])
    assert code == 0
    found: dict[str, Any] = json.loads(out.read_text())
    found["text"] = out.read_text()
    found["folder"] = str(folder)
    return found


def row(document: dict[str, Any], tree: str, mode: str) -> dict[str, Any]:
    (found,) = [row for row in document["rows"] if (row["tree"], row["mode"]) == (tree, mode)]
    return found


def test_every_tree_runs_eagerly_and_compiled_with_all_repetitions(document: dict[str, Any]) -> None:
    assert [(item["tree"], item["mode"], len(item["ms"])) for item in document["rows"]] == [
        ("upstream", "eager", 4),
        ("patched", "eager", 4),
        ("upstream", "reduce-overhead", 4),
        ("patched", "reduce-overhead", 4),
    ]


def test_compilation_is_counted_apart_from_warm_up(document: dict[str, Any]) -> None:
    compiled = row(document, "upstream", "reduce-overhead")
    assert compiled["warm_up"]["after"]["graphs"] >= 1 and len(compiled["warm_up"]["ms"]) == 2
    varied = [item["what"] for item in compiled["variations"]["rows"]]
    assert varied == ["horizon 8", "horizon 17", "horizon 40", "another series"]
    assert row(document, "upstream", "eager")["totals"]["now"]["graphs"] == 0


def test_outputs_are_compared_with_upstream_eager(document: dict[str, Any]) -> None:
    assert row(document, "upstream", "reduce-overhead")["outputs"]["point"] < 1e-5
    assert row(document, "patched", "eager")["outputs"]["point"] > 1e-3  # the stub's bias
    assert "outputs" not in row(document, "upstream", "eager")


def test_the_profile_covers_every_stage(document: dict[str, Any]) -> None:
    profile = row(document, "patched", "reduce-overhead")["profile"]
    assert set(profile["wall_ms"]) == set(STAGES)


def test_the_document_says_what_ran_and_names_no_folder(document: dict[str, Any]) -> None:
    assert document["settings"]["recompile_limit"] == 8 and document["settings"]["precision"] == "tf32"
    assert document["machine"]["torch"] and document["machine"]["python"]
    trees = document["trees"]
    assert trees["upstream"]["fingerprint"] != trees["patched"]["fingerprint"]
    assert document["folder"] not in document["text"] and "--tree upstream=before" in document["command"]


def test_a_page_is_made_of_it(document: dict[str, Any]) -> None:
    text = page_graph_breaks.render({"graph-breaks-stub.json": document})
    assert "### smoke" in text and "| patched, reduce-overhead |" in text
    assert "| smoke, reduce-overhead |" in page_graph_breaks.headline({"graph-breaks-stub.json": document})


def test_folders_are_cut_from_the_command() -> None:
    shown = command_line(["--tree", "a=/home/me/x/tree@trading,smoke", "--out", "/var/out.json", "--turns", "3"])
    assert shown.endswith("benchmark --tree a=tree@trading,smoke --out out.json --turns 3")


def test_a_tree_that_does_not_import_is_a_failed_row_and_exit_1(tmp_path: Path) -> None:
    broken = write_stub_tree(tmp_path / "broken")
    (broken / "toto/model/backbone.py").write_text("raise ImportError('no such thing')\n")
    out = tmp_path / "out.json"
    code = main(["--tree", f"upstream={broken}", *COMMON, "--mode", "default", "--out", str(out)])
    failures = [item["failure"] for item in json.loads(out.read_text())["rows"]]
    assert code == 1 and all("no such thing" in failure for failure in failures)


def test_a_child_that_warms_up_for_too_long_is_ended_and_said(tmp_path: Path) -> None:
    slow = write_stub_tree(tmp_path / "slow")
    code = (slow / "toto/inference/forecaster.py").read_text().replace("steps = []", "import time; time.sleep(3600)")
    (slow / "toto/inference/forecaster.py").write_text(code)
    out = tmp_path / "out.json"
    arguments = ["--tree", f"upstream={slow}", *COMMON, "--mode", "default", "--warm-up-limit", "1"]
    assert main([*arguments, "--out", str(out)]) == 1
    failures = [item["failure"] for item in json.loads(out.read_text())["rows"]]
    assert failures == ["ended: no answer within the time allowed"] * 2


def test_groups_after_the_time_limit_are_listed_as_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = write_stub_tree(tmp_path / "tree")
    monkeypatch.setattr(benchmark_group.GroupRun, "measure", lambda _: None)
    out = tmp_path / "out.json"
    arguments = ["--tree", f"upstream={tree}", *COMMON, "--mode", "default", "--time-limit", "-1"]
    assert main([*arguments, "--out", str(out)]) == 1
    assert json.loads(out.read_text())["left_out"] == ["smoke/upstream/eager", "smoke/upstream/default"]


@pytest.mark.parametrize("tree", ["upstream=nowhere", "nonsense"])
def test_a_wrong_tree_is_a_usage_error(tree: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--tree", tree, *COMMON, "--out", str(tmp_path / "out.json")])
    assert ended.value.code == 2 and ("no package toto" in capsys.readouterr().err or tree == "nonsense")
