"""The equivalence ladder: runs original and patched in their own processes and checks that the outputs are the same.

Steps 1 to 4 and 6 of the design: the trees, teacher-forced distribution parameters, point forecasts, samples under a
seed, and the compiled model. Importing this module imports neither torch nor numpy.
"""

from __future__ import annotations

import importlib.util
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path, PurePosixPath

from toto_patcher.equivalence.cases import Case, select
from toto_patcher.equivalence.children import Child
from toto_patcher.equivalence.report import Check, LadderReport
from toto_patcher.equivalence.worker import Job
from toto_patcher.errors import UsageError

__all__ = ["Check", "LadderReport", "Progress", "run"]

Progress = Callable[[int, int, str], None]
"""Called with the runs done, the runs in all, and the name of the one that ended; from another thread."""

CHECKPOINT = "checkpoint"


def run(
    original_root: Path,
    patched_root: Path,
    *,
    quick: bool = False,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    expected: Collection[PurePosixPath] | None = None,
    compiled: bool = True,
    mode: str = "default",
    backend: str | None = None,
    device: str = "cpu",
) -> LadderReport:
    """Compares two trees.

    Args:
        original_root: a tree with the original bytes.
        patched_root: the tree to prove; it may be the same source, which must pass.
        quick: a subset of the cases on the tiny shape that still has a case for every risk.
        checkpoint: a folder with config.json and model.safetensors to use instead of our own weights.
        progress: called after each run of a case.
        expected: the files in which the trees must differ; without it any difference is accepted and listed.
        compiled: whether to run the compiled model too.
        mode: of ``torch.compile``, for Inductor.
        backend: of ``torch.compile``. By default Inductor; the quick run captures the same graphs and counts the same
            recompilations, but runs the graphs as they are, for generating their code takes longer than all the rest.
        device: where to run.

    Raises:
        UsageError: torch is not installed, or the checkpoint is not there.
        RefusedError: the original itself does not run, so there is nothing to compare with.
    """
    _require_runtime(checkpoint)
    from toto_patcher.equivalence import verdicts

    started = time.monotonic()
    shapes = [CHECKPOINT] if checkpoint else ["tiny"] if quick else ["tiny", "base"]
    with tempfile.TemporaryDirectory(prefix="toto-patch-ladder-") as name:
        folder = Path(name)
        plan = _Plan(folder, shapes, quick, checkpoint, (backend or ("eager" if quick else "inductor"), mode), device)
        roles = {
            verdicts.ORIGINAL: plan.jobs(verdicts.ORIGINAL, original_root, eager=True, reference=True),
            verdicts.PATCHED: plan.jobs(verdicts.PATCHED, patched_root, eager=True),
        }
        if compiled:
            roles[verdicts.COMPILED] = plan.jobs(verdicts.COMPILED, patched_root, compiled=True)
        counter = _Counter(progress, roles.values())
        children: dict[str, Child] = {}
        try:
            for role, jobs in roles.items():
                (folder / role).mkdir(exist_ok=True)
                children[role] = Child(jobs, folder / role, counter)
            outcomes = {role: child.wait() for role, child in children.items()}
        finally:
            for child in children.values():
                child.stop()
        by_shape = {shape: {role: outcomes[role][number] for role in roles} for number, shape in enumerate(shapes)}
        checks, facts = verdicts.judge(original_root, patched_root, by_shape, expected)
    return LadderReport(tuple(checks), quick, facts, time.monotonic() - started)


def _require_runtime(checkpoint: Path | None) -> None:
    for package in ("torch", "numpy"):
        if importlib.util.find_spec(package) is None:
            raise UsageError(
                f"the numerical checks need {package}, which is not installed",
                hint="Install the extra `runtime`: pip install '.[runtime]' in a clone of toto-patch",
            )
    if checkpoint is not None:
        for name in ("config.json", "model.safetensors"):
            if not (checkpoint / name).is_file():
                raise UsageError(
                    f"the checkpoint has no {name}",
                    path=checkpoint,
                    hint="Give the folder that holds config.json and model.safetensors.",
                )


class _Plan:
    """Which cases each child runs, per shape."""

    def __init__(
        self,
        folder: Path,
        shapes: Sequence[str],
        quick: bool,
        checkpoint: Path | None,
        compiler: tuple[str, str],
        device: str,
    ) -> None:
        self._folder, self._shapes, self._quick = folder, shapes, quick
        self._checkpoint, (self._backend, self._mode), self._device = checkpoint, compiler, device

    def jobs(
        self, role: str, root: Path, *, eager: bool = False, reference: bool = False, compiled: bool = False
    ) -> list[Job]:
        """One job per shape."""
        found = []
        for shape in self._shapes:
            out = self._folder / role / shape
            out.mkdir(parents=True)
            cases = select(quick=self._quick, base=shape != "tiny")
            found.append(
                Job(
                    root=str(root.resolve()),
                    out=str(out),
                    shape="" if self._checkpoint else shape,
                    checkpoint=str(self._checkpoint.resolve()) if self._checkpoint else "",
                    eager=_names(cases) if eager else [],
                    reference=_names(c for c in cases if c.kind in ("teacher", "point")) if reference else [],
                    compiled=_names(c for c in cases if c.compiled) if compiled else [],
                    mode=self._mode,
                    backend=self._backend,
                    device=self._device,
                )
            )
        return found


def _names(cases: Iterable[Case]) -> list[str]:
    return [case.name for case in cases]


class _Counter:
    """Adds up the progress of several children."""

    def __init__(self, progress: Progress | None, roles: Collection[Sequence[Job]]) -> None:
        self._progress = progress
        self._total = sum(len(job.eager) + len(job.reference) + len(job.compiled) for jobs in roles for job in jobs)
        self._done = 0
        self._lock = threading.Lock()

    def __call__(self, line: dict[str, str]) -> None:
        with self._lock:
            self._done += 1
            if self._progress:
                self._progress(self._done, self._total, line["case"])
