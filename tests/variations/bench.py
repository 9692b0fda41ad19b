"""The parent's side: releases, a persistent child that runs trees, and trees made for one variation."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from .base import Variation

REPOSITORY = Path(__file__).resolve().parents[2]


class Child:
    """A process that imports and runs trees; started on first use."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def ask(self, root: Path, variation: Variation, **more: str) -> dict[str, Any]:
        """One request, one answer."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.variations.worker"],
                cwd=REPOSITORY,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        request = {"root": str(root), "package": variation.package, "sys_path": variation.sys_path, **more}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the child ended with {self._process.wait()}"
        return dict(json.loads(line))

    def outputs(self, root: Path, variation: Variation) -> dict[str, str]:
        """Digest of each case's forecast; fails with the child's traceback."""
        answer = self.ask(root, variation)
        assert "error" not in answer, answer["error"]
        return dict(answer["outputs"])

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait()


def make_tree(release: Path, root: Path, variation: Variation) -> Path:
    """A fresh copy of a release's ``toto`` folder under ``root``, with the variation applied."""
    shutil.copytree(release, root / "toto", ignore=shutil.ignore_patterns("__pycache__"))
    variation.apply(root)
    return root
