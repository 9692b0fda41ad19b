"""Starts worker processes, follows their progress, and reads back what they wrote."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from toto_patcher.equivalence import python
from toto_patcher.equivalence.worker import CHECKPOINT_FILE, FAILURE_FILE

WORKER = "toto_patcher.equivalence.worker"


class Job(Protocol):
    """What a worker is asked to do: it is saved to a file, and its results are in the folder ``out``."""

    @property
    def out(self) -> str:
        """An existing folder."""

    def save(self) -> Path:
        """Writes the job into that folder and returns the file."""


@dataclass(frozen=True)
class Outcome:
    """What one job of a child left behind.

    Attributes:
        facts: its ``facts.json``; empty when it ended before writing it.
        arrays: its ``arrays.npz``.
        failure: the end of what it wrote to stderr, when it ended early.
        unusable_checkpoint: why the checkpoint could not be loaded, when that is why it ended early.
    """

    facts: Mapping[str, Any]
    arrays: Mapping[str, Any]
    failure: str = ""
    unusable_checkpoint: str = ""


class Child:
    """One worker process that runs jobs in order.

    Args:
        jobs: what it runs; it reads them from their files.
        folder: for what it writes to stderr.
        on_line: called with each line of progress, from another thread.
        worker: the module that it runs.
    """

    def __init__(
        self, jobs: Sequence[Job], folder: Path, on_line: Callable[[dict[str, str]], None], worker: str = WORKER
    ) -> None:
        self.jobs = tuple(jobs)
        self._stderr = (folder / "stderr.txt").open("w+")
        own = {"PYTHONDONTWRITEBYTECODE": "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
        self._process = subprocess.Popen(
            python.command(worker, *(str(job.save()) for job in jobs)),
            cwd=folder,
            env=python.environment(**own),
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, args=(on_line,), daemon=True)
        self._reader.start()

    def _read(self, on_line: Callable[[dict[str, str]], None]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith('{"kind"'):
                on_line(json.loads(line))

    def wait(self) -> list[Outcome]:
        """Waits for the end and reads the results of each job."""
        self._process.wait()
        self._reader.join()
        self._stderr.seek(0)
        failure = self._stderr.read()[-2000:].strip() or f"exit status {self._process.returncode}"
        self._stderr.close()
        return [_read_outcome(Path(job.out), failure) for job in self.jobs]

    def stop(self) -> None:
        """Ends the process if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._stderr.close()


def _read_outcome(out: Path, failure: str) -> Outcome:
    import numpy as np

    if not (out / "facts.json").is_file():
        own, checkpoint = (
            path.read_text() if path.is_file() else "" for path in (out / FAILURE_FILE, out / CHECKPOINT_FILE)
        )
        return Outcome({}, {}, own or failure, checkpoint)
    facts = json.loads((out / "facts.json").read_text())
    with np.load(out / "arrays.npz", allow_pickle=False) as stored:
        return Outcome(facts, {key: stored[key] for key in stored.files})
