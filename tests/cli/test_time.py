"""What a command may take: the promise is measured, as a ratio, and never in seconds."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cli_driver
import pytest
from cli_driver import Run

BASE = [sys.executable, "-c", "import libcst, click"]
TURNS = 8
LIMIT = 2.0


@pytest.mark.parametrize("profile", ["graph-breaks", "full-graph"])
def test_no_command_takes_twice_the_time_of_its_imports(
    profile: str, patched: Path, toto_patch: Run, tmp_path: Path
) -> None:
    """Issue 2 promises it of every command but the one that downloads: less than twice ``import libcst, click``.

    The other timings of this project are reported and not asserted, since a busy machine would decide. What is asserted
    here is a ratio of processor time, which waiting for other processes does not count into, between processes that
    take turns; the least of some turns is what the work takes when nothing disturbs it. Both sides find their
    bytecode compiled, as that of an installed package is.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPATH": str(cli_driver.REPOSITORY), "PYTHONPYCACHEPREFIX": str(tmp_path / "bytecode")}

    def processor_time(command: Sequence[str | Path]) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, env=environment, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # In this order each finds the tree as it needs it: revert leaves it for diff and apply.
    commands = [
        ("list",),
        ("show", "kv-cache-tensor-index"),
        ("verify-only", "--root", patched),
        ("status", "--root", patched),
        ("recover", "--root", patched),
        ("revert", "--root", patched),
        ("diff", "--profile", profile, "--root", patched),
        ("apply", "--backup", "--profile", profile, "--root", patched),
    ]
    base: list[float] = []
    spent: dict[str, list[float]] = {arguments[0]: [] for arguments in commands}
    for _ in range(1 + TURNS):  # the first writes the bytecode
        base.append(processor_time(BASE))
        for arguments in commands:
            spent[arguments[0]].append(processor_time([sys.executable, "-m", "toto_patcher", *arguments]))
    ratios = {name: round(min(times[1:]) / min(base[1:]), 2) for name, times in spent.items()}
    slow = {name: ratio for name, ratio in ratios.items() if ratio >= LIMIT}
    assert not slow, ratios
