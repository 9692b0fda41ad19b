"""Measures the rows of a stress run: each a child process, all alive together, taking turns; returns the raw rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toto_patcher.evidence import stress_accuracy
from toto_patcher.evidence.benchmark_child import Child, ask_all
from toto_patcher.evidence.benchmark_plan import Job, Tree
from toto_patcher.evidence.spread import speedup
from toto_patcher.evidence.stress_verdict import EAGER, UPSTREAM
from toto_patcher.evidence.stress_worker import MEASURES

if TYPE_CHECKING:
    from toto_patcher.evidence.accuracy_windows import Window

WORKER = "toto_patcher.evidence.stress_worker"
PATCHED = "patched"
MORE_ROUNDS = 5
"""Rounds at most, as a multiple of the iterations, until the original's spread is small enough to judge by."""


@dataclass(frozen=True)
class Settings:
    """What is forecast, and how.

    Attributes:
        iterations: rounds in which every row forecasts every window once.
        again: start every compiled row a second time, on the caches of the first, which then began with none.
        horizon: steps ahead.
        context: steps known.
        samples: of each forecast, ``per_batch`` at once.
        device: ``cpu`` or ``cuda``.
        backend: of torch.compile.
        mae_delta: the limit that the original's spread must be small enough to judge.
    """

    iterations: int
    again: bool
    horizon: int
    context: int
    samples: int
    per_batch: int
    device: str
    backend: str
    mae_delta: float


class Run:
    """One stress run.

    Args:
        trees: ``upstream`` and ``patched`` -> folder.
        modes: of the patched tree; upstream runs eagerly.
        checkpoint: a folder.
        windows: what is forecast, all with contexts of one length.
        folder: an empty one for all that is written.
        step: called after each step of the work with what was done.
        begin: called before each with what begins.
    """

    def __init__(
        self,
        trees: Mapping[str, Path],
        modes: Sequence[str],
        checkpoint: Path,
        windows: Sequence[Window],
        settings: Settings,
        folder: Path,
        step: Callable[[str], None],
        begin: Callable[[str], None],
    ) -> None:
        self._settings, self._folder, self._step, self._begin = settings, folder, step, begin
        self._windows = [window.series.name for window in windows]
        np.savez(
            folder / "windows.npz",
            contexts=np.stack([window.context for window in windows]),
            actuals=np.stack([window.actual for window in windows]),
        )
        self._worker = {
            "checkpoint": str(checkpoint),
            "windows": str(folder / "windows.npz"),
            **{name: getattr(settings, name) for name in ("horizon", "samples", "per_batch", "device", "backend")},
        }
        self._environment = {"PYTHONDONTWRITEBYTECODE": "1"}
        if settings.again:
            caches = folder / "inductor"
            self._environment |= {"TORCHINDUCTOR_CACHE_DIR": str(caches), "TRITON_CACHE_DIR": str(caches / "triton")}
        jobs = [(UPSTREAM, EAGER), *((PATCHED, mode) for mode in modes)]
        self._jobs = [Job(Tree(tree, trees[tree]), "stress", None if mode == EAGER else mode) for tree, mode in jobs]
        self._names = {job: f"{job.tree.name}, {job.mode or EAGER}" for job in self._jobs}
        self._hidden = [str(path) + os.sep for path in (*trees.values(), folder)]
        self.software: dict[str, Any] = {}

    @staticmethod
    def steps(rows: int, settings: Settings) -> int:
        """Steps of progress of a run with so many rows of which one is upstream's."""
        return 3 * rows + settings.iterations + (rows - 1 if settings.again else 0)

    def measure(self, children: list[Child]) -> list[dict[str, Any]]:
        """The rows, upstream's first. Children are added to ``children``, for whoever has to end them.

        A child that fails leaves a row that says so.
        """
        rows = [self._row(job) for job in self._jobs]
        children += [self._start(job, "log") for job in self._jobs]
        self._begin("loading the model in each row")
        for row, child, answer in zip(rows, children, ask_all(children, "load"), strict=True):
            row.update(answer)
            self._step(f"loaded {row['name']}: {child.failure or 'ok'}")
        self.software = rows[0].get("software", {})
        for row, child in zip(rows, children, strict=True):
            self._begin(f"warming up {row['name']}")
            row["warm_up"] = child.ask("warm_up")
            self._step(f"warmed up {row['name']}: {_told(child, row['warm_up'].get('ms', []))}")
            if children[0].failure:  # the original: nothing can be compared with it
                row["failure"] = self._failure(child)
                return rows
        self._iterate(rows, children)
        for row, child in zip(rows, children, strict=True):
            self._begin(f"counting what {row['name']} compiles for other horizons")
            row.update(child.ask("finish"))
            row["failure"] = self._failure(child)
            self._step(f"counted {row['name']}: {child.failure or 'ok'}")
        for child in children:
            child.close()
        if self._settings.again:
            self._start_again(rows, children)
        self._compare(rows)
        return rows

    def _row(self, job: Job) -> dict[str, Any]:
        empty = dict.fromkeys(("recompilations", "speedup", "profile", "load_s", "memory", "first_again_ms"))
        return {
            "name": self._names[job],
            "tree": job.tree.name,
            "mode": job.mode or EAGER,
            "failure": None,
            "device": self._settings.device,
            "compiled": False,
            "bad_values": None,
            "compiler": {},
            "details": {},
            "warm_up": {},
            "ms": [],
            "errors": [],
            "accuracy": [],
            **empty,
        }

    def _start(self, job: Job, suffix: str) -> Child:
        log = self._folder / f"{self._jobs.index(job)}.{suffix}"
        return Child(job, self._worker, self._environment, log, WORKER)

    def _iterate(self, rows: list[dict[str, Any]], children: Sequence[Child]) -> None:
        settings = self._settings
        for seed in range(settings.iterations):
            for row, child in zip(rows, children, strict=True):
                self._begin(f"iteration {seed + 1} of {settings.iterations}: {row['name']}")
                answer = child.ask("iterate", seed=seed)
                row["ms"] += answer.get("ms", [])
                row["errors"] += [answer["errors"]] if "errors" in answer else []
            self._step(f"iteration {seed + 1} of {settings.iterations}")
        seed = settings.iterations
        while seed < settings.iterations * MORE_ROUNDS and self._blurred(rows[0]):
            self._begin(f"round {seed + 1}, not timed: the original's samples still differ too much to judge by")
            # Not timed: the machine may be in another state than it was for the rounds that are compared.
            for row, child in zip(rows, children, strict=True):
                answer = child.ask("iterate", seed=seed)
                row["errors"] += [answer["errors"]] if "errors" in answer else []
            seed += 1

    def _blurred(self, upstream: Mapping[str, Any]) -> bool:
        """Whether the original's own samples differ too much to judge others by."""
        errors = _by_measure(upstream)
        if errors is None:
            return False
        return stress_accuracy.overall_spread(errors, "mae", self._windows) > self._settings.mae_delta

    def _start_again(self, rows: list[dict[str, Any]], children: list[Child]) -> None:
        for job, row in zip(self._jobs, rows, strict=True):
            if job.mode is None:
                continue
            if row["failure"] is None:
                self._begin(f"starting {row['name']} again")
                child = self._start(job, "again.log")
                children.append(child)
                child.ask("load")
                row["first_again_ms"] = next(iter(child.ask("warm_up", forecasts=1).get("ms", [])), None)
                child.close()
            self._step(f"started {row['name']} again")

    def _compare(self, rows: list[dict[str, Any]]) -> None:
        upstream, errors = rows[0], _by_measure(rows[0])
        for row in rows[1:]:
            if len(row["ms"]) == len(upstream["ms"]) >= 2:
                row["speedup"] = asdict(speedup(upstream["ms"], row["ms"]))
            found = _by_measure(row)
            if errors is not None and found is not None:
                row["accuracy"] = [asdict(one) for one in stress_accuracy.deltas(errors, found, self._windows)]

    def _failure(self, child: Child) -> str | None:
        told = child.failure
        for path in self._hidden if told else ():
            told = (told or "").replace(path, "")
        return told


def _by_measure(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Measure -> errors (windows, rounds); ``None`` where one is missing, or there are fewer than two rounds."""
    if len(row["errors"]) < 2 or any(one is None for errors in row["errors"] for one in errors):
        return None
    table = np.asarray(row["errors"], dtype=np.float64)  # (rounds, windows, measures)
    return {name: table[:, :, place].T for place, name in enumerate(MEASURES)}


def _told(child: Child, times: Sequence[float]) -> str:
    return child.failure or " then ".join(f"{ms:.0f} ms" for ms in times)
