"""Without torch, numpy and the other extras: every command answers, or says in one refusal what to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cli_driver import environment

from toto_patcher.supported import EXTRAS, hint_for, install_hint

BASE = """
import contextlib, importlib.machinery, io, sys
absent, real = set(sys.argv[1].split(",")), importlib.machinery.PathFinder.find_spec
def find(name, path=None, target=None):
    return None if name.partition(".")[0] in absent else real(name, path, target)
importlib.machinery.PathFinder.find_spec = find
from toto_patcher.cli import cli
for line in sys.argv[2:]:
    told = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
        try:
            cli(line.split(), prog_name="toto-patch")
        except SystemExit as end:
            code = end.code
    print(code, repr((told.flush(), told.buffer.getvalue().decode())[1]), flush=True)
"""
NEED = ("stress", "accuracy", "accuracy --csv prices.csv", "verify-only --numerics", "apply --verify", "env test")
OTHERS = ("list", "show static-decoder", "status", "verify-only", "diff", "apply", "env status", "adopt", "recover")
LOGS = ("recompilations compile.log", "recompilations --run -- true", "recompilations --trace .")


def test_every_command_answers_in_the_base_install(patched: Path, tmp_path: Path) -> None:
    names = ",".join(name for brings in EXTRAS.values() for name in brings)
    (tmp_path / "compile.log").write_text("nothing of torch\n")
    lines = [f"--root {patched} {line}" for line in (*NEED, *OTHERS, *LOGS)]
    done = subprocess.run(
        [sys.executable, "-c", BASE, names, *lines], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    answers = dict(zip((*NEED, *OTHERS, *LOGS), done.stdout.splitlines(), strict=True))
    for line in NEED:
        code, _, told = answers[line].partition(" ")
        assert code == "2" and install_hint("runtime") in told.replace("\\'", "'"), answers[line]
    assert {line: answers[line] for line in OTHERS if not answers[line].startswith("0 ")} == {}
    assert {line: answers[line] for line in LOGS if not answers[line].startswith("2 ")} == {}


@pytest.mark.parametrize("module", ["toto_patcher.nowhere", "zlib", ""])
def test_a_module_that_no_extra_brings_stays_a_bug(module: str) -> None:
    assert hint_for(module) is None
