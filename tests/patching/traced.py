"""Runs a file operation in a child process under strace, which can kill it or make any of its system calls fail."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# Every call that changes something below the root, or makes a change last.
CALLS = ("openat", "write", "fsync", "mkdirat", "renameat", "renameat2", "linkat", "unlinkat", "fchmod", "flock")


@dataclass(frozen=True)
class Ending:
    """How a child ended: its exit status, or minus the signal that killed it, and what it had to say."""

    status: int
    line: str

    @property
    def killed(self) -> bool:
        return self.status == -signal.SIGKILL


class Driver:
    """The client of ``file_driver.py``."""

    def __init__(self) -> None:
        if shutil.which("strace") is None:
            pytest.fail("strace is needed: apt-get install strace")
        here = Path(__file__).parent
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parent.parent), str(here)])}
        self._server = subprocess.Popen(
            [sys.executable, str(here / "file_driver.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def close(self) -> None:
        self._server.stdin.close()
        self._server.wait()

    def run(self, action: str, root: Path, *options: str, log: Path | None = None, **request: Any) -> Ending:
        """Does one action; ``options`` are strace's (nothing is traced without any)."""
        self._server.stdin.write(json.dumps({"action": action, "root": str(root), **request}) + "\n")
        self._server.stdin.flush()
        pid = int(self._server.stdout.readline())
        tracer = None
        if options:
            output = os.devnull if log is None else str(log)
            tracer = subprocess.Popen(
                ["strace", "-p", str(pid), "-o", output, *options], stderr=subprocess.PIPE, text=True
            )
            first = tracer.stderr.readline()
            if "attached" not in first:
                os.kill(pid, signal.SIGKILL)
                pytest.fail(f"strace cannot attach to a child process: {first}")
        os.kill(pid, signal.SIGCONT)
        ending = json.loads(self._server.stdout.readline())
        if tracer is not None:
            tracer.communicate()
        return Ending(**ending)

    def inject(self, action: str, root: Path, call: str, what: str, when: str, **request: Any) -> Ending:
        """Does one action with a fault at the ``when``-th time it enters ``call``."""
        options = ("-e", f"trace={call}", "-e", f"inject={call}:{what}:when={when}")
        return self.run(action, root, *options, **request)

    def log(self, action: str, root: Path, calls: str, log: Path, **request: Any) -> list[str]:
        """The calls that an action makes, with descriptors shown as paths."""
        ending = self.run(action, root, "-y", "-s", "0", "-e", f"trace={calls}", log=log, **request)
        assert ending.status == 0, ending
        return [line for line in log.read_text().splitlines() if re.match(r"\w+\(", line)]

    def counts(self, action: str, root: Path, log: Path, **request: Any) -> dict[str, int]:
        """How often an action makes each of ``CALLS``."""
        lines = self.log(action, root, ",".join(CALLS), log, **request)
        names = [match[1] for line in lines if (match := re.match(r"(\w+)\(", line))]
        return {call: names.count(call) for call in CALLS if call in names}


def driver() -> Iterator[Driver]:
    """For a session-scoped fixture."""
    found = Driver()
    yield found
    found.close()
