"""The installed command as its users run it: a process of its own, and the bytes of a tree before and after."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fork_server import ForkServer

REPOSITORY = Path(__file__).parents[2]
UTIL = "toto/model/util.py"
ATTENTION = "toto/model/attention.py"

Run = Callable[..., subprocess.CompletedProcess[str]]


def run(*arguments: object, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs ``toto-patch`` with these arguments."""
    command = [sys.executable, "-m", "toto_patcher", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment(**(env or {})), capture_output=True, text=True, check=False)


def run_forked(
    server: ForkServer, *arguments: object, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The same without the time that Python takes to start; with it, where the environment steers how it starts."""
    wanted = environment(**(env or {}))
    if not server.takes(wanted):
        return run(*arguments, cwd=cwd, env=env)
    return server.run(list(map(str, arguments)), cwd, wanted)


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without what would steer the command."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TOTO_") and name != "NO_COLOR"}
    path = os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**kept, "PYTHONPATH": path, **changes}


def snapshot(root: Path) -> dict[str, tuple[int, bytes | str]]:
    """Every name below a folder: mode, and bytes or the link's target."""
    found: dict[str, tuple[int, bytes | str]] = {}
    for path in sorted(root.rglob("*")):
        content = str(path.readlink()) if path.is_symlink() else b"" if path.is_dir() else path.read_bytes()
        found[str(path.relative_to(root))] = (path.lstat().st_mode, content)
    return found


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON document on stdout."""
    loaded = json.loads(done.stdout)
    assert isinstance(loaded, dict)
    return loaded


def edit(root: Path, path: str, old: str, new: str) -> int:
    """Replaces a text that occurs in a file; returns the 1-based line it starts on."""
    text = (root / path).read_text(encoding="utf-8")
    assert old in text
    (root / path).write_text(text.replace(old, new, 1), encoding="utf-8")
    return text[: text.index(old)].count("\n") + 1


def git(folder: Path, *arguments: str) -> str:
    """What git prints, run in a folder as somebody whose settings play no part."""
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
