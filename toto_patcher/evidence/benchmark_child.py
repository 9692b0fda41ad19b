"""The parent's end of one worker process."""

from __future__ import annotations

import json
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from toto_patcher.equivalence import python
from toto_patcher.evidence.benchmark_plan import Job


class Child:
    """Starts a worker and exchanges JSON lines with it.

    Attributes:
        failure: why the child answers no more; ``None`` while it does.
        kind: of the failure, where it is one of ``errors``.

    Args:
        job: what the worker runs.
        settings: worker settings shared by all children (device, shape, seed, threads, matmul precision).
        environment: variables added to this process's environment.
        log: file that takes the worker's standard error.
        module: the worker, which answers by ``benchmark_worker.serve``.
    """

    def __init__(
        self,
        job: Job,
        settings: Mapping[str, Any],
        environment: Mapping[str, str],
        log: Path,
        module: str = "toto_patcher.evidence.benchmark_worker",
    ) -> None:
        self.job = job
        self.failure: str | None = None
        self.kind: str | None = None
        self._log_path = log
        self._log = log.open("w")
        spec = {**settings, "tree": str(job.tree.path.resolve()), "workload": job.workload, "mode": job.mode}
        self._process = subprocess.Popen(
            python.command(module, json.dumps(spec)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=python.environment(**environment),
        )

    def send(self, action: str, **arguments: Any) -> None:
        """Asks for something without waiting; nothing is sent to a child that failed."""
        if self.failure is None and self._process.stdin is not None:
            try:
                self._process.stdin.write(json.dumps({"do": action, **arguments}) + "\n")
                self._process.stdin.flush()
            except OSError as error:
                self.failure = f"worker is gone: {error}"

    def receive(self, patience: float | None = None) -> dict[str, Any]:
        """Waits for the answer; an empty one if the child failed, with ``failure`` set.

        Args:
            patience: seconds after which a silent child is ended; ``None`` waits for ever.
        """
        if self.failure is not None or self._process.stdout is None:
            return {}
        # One answer per request, so nothing can be waiting in the stream's buffer here.
        if patience is not None and not select.select([self._process.stdout], [], [], max(patience, 0.0))[0]:
            self.failure = "ended: no answer within the time allowed"
            self._process.kill()
            return {}
        line = self._process.stdout.readline()
        if not line:
            self._log.flush()
            tail = self._log_path.read_text(errors="replace")[-600:]
            self.failure = f"worker ended with {self._process.wait()}: {tail}"
            return {}
        answer: dict[str, Any] = json.loads(line)
        if not answer.pop("ok"):
            self.failure, self.kind = answer["error"], answer.get("kind")
            return {}
        return answer

    def ask(self, action: str, **arguments: Any) -> dict[str, Any]:
        """Sends and waits."""
        self.send(action, **arguments)
        return self.receive()

    def close(self) -> None:
        """Ends the worker."""
        try:
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process.wait(timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._log.close()


def ask_all(
    children: Sequence[Child], action: str, *, until: float | None = None, **arguments: Any
) -> list[dict[str, Any]]:
    """Sends to every child at once, then collects the answers in order.

    Args:
        until: ``time.monotonic`` after which silent children are ended; ``None`` waits for ever.
    """
    for child in children:
        child.send(action, **arguments)
    return [child.receive(None if until is None else until - time.monotonic()) for child in children]
