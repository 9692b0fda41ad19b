"""Runs the command again and again without importing it again: each run is a fork of a process that has imported it.

A run has a process of its own, with its arguments, folder, environment and streams, and ends as the interpreter ends.
What it does not have is an interpreter that starts: tests about that (the current folder on ``sys.path``, what is
imported, encodings) run ``cli_driver.run``.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "TZ")
"""Variables of these names steer the interpreter's start: with other values a run is no fork."""
PRELOADED = (
    "libcst",
    *(f"toto_patcher.{name}" for name in ("commands", "inspection", "renderers", "report", "results", "workspace")),
    *(f"toto_patcher.patching.{name}" for name in ("plan", "restore", "series", "transaction")),
)
"""What most commands import."""
_alone = threading.Lock()


class ForkServer:
    """Holds the process that is forked; it starts with the first run.

    Args:
        env: its environment.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = dict(env)
        self._process: subprocess.Popen[str] | None = None

    def takes(self, env: Mapping[str, str]) -> bool:
        """Whether a run with this environment may be a fork."""
        differing = {name for name in {*env, *self._env} if env.get(name) != self._env.get(name)}
        return not any(name.startswith(READ_AT_START) for name in differing)

    def run(self, arguments: list[str], cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Runs the command to its end."""
        with _alone, tempfile.TemporaryDirectory() as folder:
            if self._process is None:
                command = [sys.executable, "-B", __file__]
                self._process = subprocess.Popen(
                    command, env=self._env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            assert self._process.stdin and self._process.stdout
            request = {"arguments": arguments, "cwd": str(cwd), "env": dict(env), "streams": folder}
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            code = int(self._process.stdout.readline())
            out, err = (Path(folder, name).read_text(encoding="utf-8") for name in ("out", "err"))
        return subprocess.CompletedProcess(["toto-patch", *arguments], code, out, err)

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.communicate()


def _serve() -> None:
    """Forks for every request; a child returns, and becomes the command."""
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    for line in requests:
        request = json.loads(line)
        child = os.fork()
        if not child:
            _become(request)
            return
        answers.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        answers.flush()
    os._exit(0)


def _become(request: dict[str, object]) -> None:
    os.environ.clear()
    os.environ.update(request["env"])  # type: ignore[call-overload]
    time.tzset()
    os.chdir(str(request["cwd"]))
    streams = str(request["streams"])
    for number, (name, flags) in enumerate(
        (
            (os.devnull, os.O_RDONLY),
            (f"{streams}/out", os.O_WRONLY | os.O_CREAT),
            (f"{streams}/err", os.O_WRONLY | os.O_CREAT),
        )
    ):
        descriptor = os.open(name, flags, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.closerange(3, 256)
    sys.argv = ["toto-patch", *request["arguments"]]  # type: ignore[misc]


if __name__ == "__main__":
    del sys.path[0]
    from toto_patcher import cli

    for name in PRELOADED:
        importlib.import_module(name)
    with contextlib.suppress(BrokenPipeError):
        _serve()
    sys.exit(cli.main())
