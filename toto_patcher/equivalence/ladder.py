"""The equivalence ladder: runs original and patched in their own processes and checks that the outputs are the same.

Steps 1 to 6 and 8 of the design: the trees, teacher-forced distribution parameters, point forecasts, samples under a
seed, samples as distributions, the compiled model, and changes of the model between forecasts. Importing this module
imports neither torch nor numpy.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from toto_patcher.equivalence.cases import Case, select
from toto_patcher.equivalence.children import Child
from toto_patcher.equivalence.device import best as best_device
from toto_patcher.equivalence.report import Check, LadderReport
from toto_patcher.equivalence.worker import Job
from toto_patcher.errors import UsageError
from toto_patcher.supported import install_hint

__all__ = ["Check", "LadderReport", "Progress", "run"]

Progress = Callable[[int, int, str], None]
"""Called with the runs done, the runs in all, and the name of the one that ended; from another thread."""

CHECKPOINT, UNPATCHED = "checkpoint", "unpatched"
SHORT = (12, 16, 19, 20, 26, 33, 38, 45, 104, 109, 196, 264)
"""Operations of the check ``surgery`` in the quick run: weights, settings, code, hooks, modules, dtype, data."""
LONG = 108
"""Operations of the whole run: some for each kind of change."""


def run(
    original_root: Path,
    patched_root: Path,
    *,
    quick: bool = False,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    expected: Collection[PurePosixPath] | None = None,
    compiled: bool = True,
    mode: str | None = None,
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
        mode: of ``torch.compile``, for Inductor; by default ``reduce-overhead`` on a GPU, ``default`` elsewhere.
        backend: of ``torch.compile``. By default Inductor; the quick run on a CPU captures the same graphs and counts
            the same recompilations, but runs them as they are: generating their code takes longer than all the rest.
        device: ``cpu`` or ``cuda``.

    Raises:
        UsageError: torch is not installed, there is no such device, or the checkpoint is not there or cannot be loaded.
        RefusedError: the original itself does not run, so there is nothing to compare with.
    """
    _require_runtime(checkpoint, device)
    from toto_patcher.equivalence import origins, verdicts

    started = time.monotonic()
    shapes = [CHECKPOINT] if checkpoint else ["tiny"] if quick else ["tiny", "base"]
    with tempfile.TemporaryDirectory(prefix="toto-patch-ladder-") as name:
        folder = Path(name)
        usual = "eager" if quick and device == "cpu" else "inductor"
        compiler = (backend or usual, mode or ("default" if device == "cpu" else "reduce-overhead"))
        plan = _Plan(
            folder,
            shapes,
            quick,
            checkpoint,
            compiler,
            device,
            origins.has_decoder(patched_root),
            origins.has_sampler(patched_root),
        )
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
        if checkpoint and (failure := outcomes[verdicts.ORIGINAL][0].unusable_checkpoint):
            raise UsageError(f"the checkpoint cannot be loaded: {failure}", path=checkpoint, hint=_FITTING)
        unpatched: dict[str, verdicts.Counted] = {}
        if compiled:
            again = {
                shape: verdicts.noisy_cases(original_root, patched_root, outcomes[verdicts.COMPILED])
                for shape, outcomes in by_shape.items()
            }
            unpatched = _compiled_unpatched(plan.again(original_root, again), folder)
        checks, facts = verdicts.judge(original_root, patched_root, by_shape, expected, unpatched)
    facts["checkpoint"] = str(checkpoint.resolve()) if checkpoint else None
    return LadderReport(tuple(checks), quick, facts, time.monotonic() - started)


def _compiled_unpatched(jobs: Mapping[str, Job], folder: Path) -> dict[str, Mapping[str, Mapping[str, Any]]]:
    """What the compiler does with the original, per shape and case: only asked where the patched tree is not still."""
    if not jobs:
        return {}
    child = Child(list(jobs.values()), folder / UNPATCHED, lambda line: None)
    try:
        outcomes = child.wait()
    finally:
        child.stop()
    return {shape: outcome.facts.get("compiler", {}) for shape, outcome in zip(jobs, outcomes, strict=True)}


_FITTING = "Give a checkpoint of Toto 1.0 that this release of Toto loads, complete and as it was saved."


def _require_runtime(checkpoint: Path | None, device: str) -> None:
    for package in ("torch", "numpy"):
        if importlib.util.find_spec(package) is None:
            raise UsageError(
                f"the numerical checks need {package}, which is not installed",
                hint=install_hint("runtime"),
            )
    if device != "cpu" and best_device() == "cpu":
        raise UsageError("torch finds no GPU", hint="Without --device the checks run on the CPU.")
    if checkpoint is not None:
        for name in ("config.json", "model.safetensors"):
            if not (checkpoint / name).is_file():
                raise UsageError(
                    f"the checkpoint has no {name}",
                    path=checkpoint,
                    hint="Give the folder that holds config.json and model.safetensors.",
                )
        _require_configuration(checkpoint / "config.json")


def _require_configuration(path: Path) -> None:
    try:
        if not isinstance(json.loads(path.read_bytes()), dict):
            raise UsageError("is not a configuration: there is no JSON object in it", path=path, hint=_FITTING)
    except json.JSONDecodeError as error:
        raise UsageError(f"is not JSON: {error.msg}", path=path, line=error.lineno, hint=_FITTING) from error
    except UnicodeDecodeError as error:
        raise UsageError("is not JSON: it is not text", path=path, hint=_FITTING) from error


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
        decoder: bool,
        sampler: bool,
    ) -> None:
        self._sampler = sampler
        self._decoder = decoder
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
            cases = select(quick=self._quick, base=shape != "tiny", decoder=self._decoder, sampler=self._sampler)
            found.append(
                Job(
                    root=str(root.resolve()),
                    out=str(out),
                    shape="" if self._checkpoint else shape,
                    checkpoint=str(self._checkpoint.resolve()) if self._checkpoint else "",
                    eager=_names(cases) if eager else [],
                    reference=_names(c for c in cases if c.kind in ("teacher", "point")) if reference else [],
                    compiled=_names(filter(self._is_compiled, cases)) if compiled else [],
                    seeds=seeds(original=reference, decoder=self._decoder),
                    surgery=operations(self._quick) if eager and shape == "tiny" else [],
                    mode=self._mode,
                    backend=self._backend,
                    device=self._device,
                )
            )
        return found

    def again(self, root: Path, cases: Mapping[str, Sequence[str]]) -> dict[str, Job]:
        """The jobs, per shape, that compile some cases once more, with another tree."""
        return {
            shape: replace(job, compiled=list(cases[shape]))
            for job, shape in zip(self.jobs(UNPATCHED, root), self._shapes, strict=True)
            if cases[shape]
        }

    def _is_compiled(self, case: Case) -> bool:
        """In the quick run a decoder is compiled once, for its own case: compiling takes longest."""
        return case.compiled and (case.decoder or not (self._quick and self._decoder))


def operations(quick: bool) -> list[int]:
    """The numbers of the operations of the check ``surgery``; the generator makes the same ones of them in any tree."""
    return list(SHORT) if quick else sorted({*range(LONG), *SHORT})


def seeds(*, original: bool, decoder: bool) -> dict[str, list[int]]:
    """What a child samples under: both trees the same for samples that must agree, others for those that must not."""
    return {"samples": [7, 8] if decoder else [7], "draws": [11, 12] if original else [13]}


def _names(cases: Iterable[Case]) -> list[str]:
    return [case.name for case in cases]


class _Counter:
    """Adds up the progress of several children."""

    def __init__(self, progress: Progress | None, roles: Collection[Sequence[Job]]) -> None:
        self._progress = progress
        asked = [job for jobs in roles for job in jobs]
        self._total = sum(len(job.eager + job.reference + job.compiled) + len(job.surgery) for job in asked)
        self._done = 0
        self._lock = threading.Lock()

    def __call__(self, line: dict[str, str]) -> None:
        with self._lock:
            self._done += 1
            if self._progress:
                self._progress(self._done, self._total, line["case"])
