"""What a command may do beside its imports: counted in calls and modules, so that no busy machine decides."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_driver import environment

COUNT = """
import cProfile, json, pstats, sys
def imports():
    import libcst, click
def command():
    from toto_patcher.cli import main
    main()
profile = cProfile.Profile()
try:
    profile.runcall(command if sys.argv[1:] else imports)
except SystemExit as end:
    assert not end.code, end.code
finally:
    calls = sum(found[0] for place, found in pstats.Stats(profile).stats.items() if place[0] != '~')
    modules = sorted({name.partition(".")[0] for name in sys.modules})
    print(json.dumps({"calls": calls, "modules": modules}), file=sys.stderr)
"""
HEAVY = {"torch", "numpy", "pandas", "gluonts", "git", "rich", "ssl", "asyncio"}
"""What no everyday command needs, and what takes longer to import than its own work."""
BUDGET = 8
"""Times the calls of ``import libcst, click``, which builds classes more than it calls: a plan takes half its time."""


def work(folder: Path, *arguments: str | Path) -> dict[str, Any]:
    command = [sys.executable, "-c", COUNT, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stderr.splitlines()[-1])
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("profile", ["graph-breaks", "full-graph"])
def test_no_command_does_more_work_than_its_budget(profile: str, patched: Path, tmp_path: Path) -> None:
    """Issue 2 promises every command but the one that downloads in twice the time of ``import libcst, click``."""
    # In this order each finds the tree as it needs it: revert leaves it for diff and apply.
    commands: list[tuple[str | Path, ...]] = [
        ("status", "--root", patched),
        ("recover", "--root", patched),
        ("list",),
        ("show", "kv-cache-tensor-index"),
        ("verify-only", "--root", patched),
        ("revert", "--root", patched),
        ("diff", "--profile", profile, "--root", patched),
        ("apply", "--backup", "--profile", profile, "--root", patched),
        ("verify-only", "--root", patched),
    ]
    found = {str(arguments[0]): work(tmp_path, *arguments) for arguments in commands}
    base = work(tmp_path)["calls"]
    ratios = {name: round(done["calls"] / base, 2) for name, done in found.items()}
    assert {name: ratio for name, ratio in ratios.items() if ratio > BUDGET} == {}, ratios
    heavy = {name: sorted(HEAVY & set(done["modules"])) for name, done in found.items()}
    assert {name: modules for name, modules in heavy.items() if modules} == {}
    assert "libcst" not in {*found["status"]["modules"], *found["recover"]["modules"]}, "they only look"
