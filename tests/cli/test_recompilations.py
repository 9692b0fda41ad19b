"""The command ``recompilations``: where it reads, what it answers, and real Toto trees before and after patching."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_driver import REPOSITORY, Run, document, environment, run
from json_page import COMMON, differences, documented

from tests.variations.base import REGISTRY

TREES = (sys.executable, "-m", "tests.evidence.compiled_trees")
LOG = """\
V1121 12:30:44.700000 29 torch/_dynamo/g.py:5] [1/1] [__recompiles] Recompiling function f in /srv/serve.py:8
V1121 12:30:44.700000 29 torch/_dynamo/g.py:5] [1/1] [__recompiles]     triggered by the following guard failure(s):
V1121 12:30:44.700000 29 torch/_dynamo/g.py:5] [1/1] [__recompiles]     - 1/0: n == 3  # x * n  # serve.py:8 in f
"""
CLEAN = "I1121 12:30:44.700000 29733 torch/_dynamo/utils.py:1] [0/0] Step 1: torchdynamo start tracing f\n"
BREAK = """\
V1121 12:37:54.530000 32 torch/_dynamo/x.py:5] [0/0] [__graph_breaks] Graph break in user code at /p.py:3
V1121 12:37:54.530000 32 torch/_dynamo/x.py:5] [0/0] [__graph_breaks] Graph Break Reason: Data-dependent branching
"""


@pytest.mark.parametrize(
    ("text", "status", "told"),
    [
        (LOG, 1, "n == 3"),
        (CLEAN, 0, "Nothing was compiled again"),
        (BREAK, 0, "1 graph break"),
        ("W1121 12:30:44.700000 2 torch/_inductor/x.py:3] skipping cudagraphs due to mutated inputs\n", 1, "mutated"),
    ],
)
def test_a_log_and_its_exit_status(text: str, status: int, told: str, toto_patch: Run, tmp_path: Path) -> None:
    (tmp_path / "compile.log").write_text(text)
    done = toto_patch("recompilations", "compile.log")
    assert done.returncode == status and told in done.stdout and done.stderr == ""


def test_json_is_one_document_with_the_documented_keys_and_goes_to_a_file_too(toto_patch: Run, tmp_path: Path) -> None:
    (tmp_path / "compile.log").write_text(LOG)
    pages = documented()
    done = toto_patch("recompilations", "compile.log", "--json")
    found = document(done)
    assert done.returncode == 1 and differences(found, pages[COMMON] | pages["recompilations"]) == []
    [group] = found["document"]["groups"]
    assert (group["function"], group["guard"], group["cause"], group["count"]) == ("f", "n == 3", "value", 1)
    assert found["document"]["causes"]["value"]["command"] is None
    done = toto_patch("recompilations", "compile.log", "--json", "found.json")
    assert done.returncode == 1 and "Written: found.json" in done.stdout
    assert json.loads((tmp_path / "found.json").read_text()) == found["document"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "no such log"),
        (b"", "empty"),
        (b" \n\n", "empty"),
        (b"\x7fELF\0\0\1", "no text"),
        (b"loss 0.3\nRecompiling the program\n", "none of the 2 lines"),
        (b"V1121 12:30:44.700000 29733 serve/main.py:1] started\n", "none of the 1 lines"),
    ],
)
def test_a_log_that_is_none_is_a_typed_error(content: bytes | None, told: str, toto_patch: Run, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "some.log").write_bytes(content)
    done = toto_patch("recompilations", "some.log", "--json")
    found = document(done)
    assert done.returncode == 2 and told in found["error"]["message"] and found["error"]["hint"]
    assert found["error"]["kind"] == "input" and found["error"]["path"] == "some.log"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "Give one of"),
        (("a.log", "b.log"), "Give one of"),
        (("a.log", "--trace", "."), "Give one of"),
        (("--json", "a.log"), "put the LOG first"),
        (("--run",), "needs a command"),
        (("--run", "--", "no-such-program-at-all"), "cannot be started"),
        (("--run", "--", "sh", "-c", "exit 3"), "ended with 3 and compiled nothing"),
        (("--trace", "."), "no trace is in this folder"),
        (("--trace", "nowhere"), "no such folder"),
        (("a.log", "--json", "no/where.json"), "no folder"),
    ],
)
def test_what_cannot_be_analysed_is_2_and_says_why(arguments: tuple[str, ...], told: str, toto_patch: Run) -> None:
    done = toto_patch("recompilations", *arguments)
    assert done.returncode == 2 and told in done.stderr and "Traceback" not in done.stderr
    assert not Path("a.log").exists()


SPEAKS = "import sys; print('to stdout'); sys.stderr.write('skipping cudagraphs due to mutated inputs\\n'); sys.exit(7)"


def test_the_output_of_a_command_is_passed_through_and_its_status_is_kept(toto_patch: Run) -> None:
    done = toto_patch("recompilations", "--run", "--", sys.executable, "-c", SPEAKS)
    assert done.returncode == 1 and done.stdout.startswith("to stdout\n") and "The command ended with 7" in done.stdout
    assert done.stderr == "skipping cudagraphs due to mutated inputs\n"
    done = toto_patch("recompilations", "--json", "--run", "--", sys.executable, "-c", SPEAKS)
    found = document(done)["document"]
    assert found["run"]["exit_status"] == 7 and found["totals"]["cudagraph_skips"] == 1
    assert "to stdout\n" in done.stderr


LEAVES = """\
printf 'V1121 12:30:44.6 1 torch/x.py:1] {"compilation_metrics": {"co_name": "f", "recompile_reason": null}}\\n' \
  > "$TORCH_TRACE/dedicated_log_torch_trace_1.log"
"""


@pytest.mark.parametrize(("status", "expected"), [(0, 0), (3, 1)])
def test_a_command_that_fails_is_1_even_if_nothing_was_compiled_again(
    status: int, expected: int, toto_patch: Run
) -> None:
    done = toto_patch("recompilations", "--run", "--", "sh", "-c", f"{LEAVES}exit {status}")
    assert done.returncode == expected and "1 compilation in 0.0 s" in done.stdout and done.stderr == ""
    assert (f"The command ended with {status}" in done.stdout) == bool(status)


def test_ctrl_c_ends_the_command_too_and_is_130(tmp_path: Path) -> None:
    waits = "import time; print('ready', flush=True); time.sleep(60)"
    started = subprocess.Popen(
        [sys.executable, "-m", "toto_patcher", "recompilations", "--run", "--", sys.executable, "-c", waits],
        cwd=tmp_path,
        env=environment(TMPDIR=str(tmp_path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Continuous integration may have been started with the signal ignored, which children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert started.stdout is not None and started.stdout.readline() == "ready\n"
    os.killpg(started.pid, signal.SIGINT)
    _, told = started.communicate(timeout=30)
    assert started.returncode == 130 and "Interrupted" in told
    assert not list(tmp_path.iterdir())


def test_options_after_the_dashes_are_the_commands_own(toto_patch: Run) -> None:
    done = toto_patch("recompilations", "--run", "--", sys.executable, "-c", SPEAKS, "--json", "--trace")
    assert done.returncode == 1 and done.stdout.startswith("to stdout\n") and "1 CUDA graph skipped" in done.stdout


def compiled_trees(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Real Toto, run by the command, with the document on stdout."""
    return run("recompilations", "--json", "--run", "--", *TREES, *arguments, cwd=REPOSITORY)


def test_unpatched_toto_is_recompiled_and_the_cure_is_its_patch(
    fresh_toto: Callable[[str, Path], Path], tmp_path: Path
) -> None:
    tree = fresh_toto("0.2.0", tmp_path)
    REGISTRY["index_as_list"].apply(tree)
    done = compiled_trees(f"steps={tree}", f"forecast={tree}")
    found = document(done)["document"]
    assert done.returncode == 1 and found["run"]["exit_status"] == 0 and found["source"]["compilations"] > 20
    [limit] = [group for group in found["groups"] if group["kind"] == "limit"]
    assert limit["cause"] == "cache-length" and "_current_idx" in limit["guard"]
    cause = found["causes"]["cache-length"]
    assert cause["patches"] == ["kv-cache-tensor-index"]
    assert cause["command"] == "toto-patch apply --profile graph-breaks"
    reads = [group for group in found["groups"] if group["cause"] == "cache-read"]
    assert {group["function"] for group in reads} >= {"seq_len", "append"}
    assert "kv-cache-tensor-index" in found["causes"]["cache-read"]["patches"]
    again = [group for group in found["groups"] if group["kind"] == "recompilation"]
    assert len({group["function"] for group in again}) > 5 and all(group["cause"] != "unknown" for group in again)


def test_patched_toto_is_not(fresh_toto: Callable[[str, Path], Path], tmp_path: Path) -> None:
    """The full-graph profile over growing horizons, and more steps into the cache than the limit with graph-breaks."""
    fast, plain = (fresh_toto("0.2.0", tmp_path / name) for name in ("fast", "plain"))
    REGISTRY["index_as_list"].apply(plain)
    for tree, profile in ((fast, "full-graph"), (plain, "graph-breaks")):
        assert run("apply", "--root", tree, "--profile", profile, cwd=tmp_path).returncode == 0
    done = compiled_trees(f"steps={plain}", f"forecast={fast}")
    found = document(done)["document"]
    assert done.returncode == 0, found["groups"]
    assert found["source"]["compilations"] > 5 and set(found["causes"]) <= {"break-on-purpose"}
