"""The child process: imports one tree, runs cases on it, writes arrays and facts.

    python -m toto_patcher.equivalence.worker JOB.json [JOB.json ...]

Several jobs run one after the other in one process, each with its own tree. Those that compile share one tree, which is
imported once: torch remembers by their names the modules that it compiled, and goes on with those of the tree before
(from 2.14 on it then fails). On stdout each finished run is one line of JSON; ``arrays.npz`` and ``facts.json`` are in
the job's folder ``out``, the facts written last. A job that could not run leaves ``failure.txt`` instead, and one whose
checkpoint cannot be loaded ``checkpoint.txt`` as well.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toto_patcher.equivalence.runs import Runner
    from toto_patcher.equivalence.tree import Tree

FAILURE_FILE = "failure.txt"
CHECKPOINT_FILE = "checkpoint.txt"


@dataclass(frozen=True)
class Job:
    """What a child process is asked to do.

    Attributes:
        root: the tree.
        out: an existing folder for the results.
        shape: name of a model shape whose checkpoint is made here; or empty.
        checkpoint: folder with config.json and model.safetensors, where there is no shape.
        eager: names of the cases to run eagerly.
        reference: those to run in float64 as well.
        compiled: those to run compiled as well.
        mode: of ``torch.compile``, for Inductor.
        backend: of ``torch.compile``.
        device: where to run.
        seeds: for each kind of case that samples, those to sample under.
        surgery: numbers of the operations to perform, after all cases.
    """

    root: str
    out: str
    shape: str = ""
    checkpoint: str = ""
    eager: list[str] = field(default_factory=list)
    reference: list[str] = field(default_factory=list)
    compiled: list[str] = field(default_factory=list)
    mode: str = "default"
    backend: str = "inductor"
    device: str = "cpu"
    seeds: dict[str, list[int]] = field(default_factory=lambda: {"samples": [7], "draws": [11]})
    surgery: list[int] = field(default_factory=list)

    def save(self) -> Path:
        """Writes the job into its own folder and returns the file."""
        path = Path(self.out) / "job.json"
        path.write_text(json.dumps(asdict(self)))
        return path


def _configure() -> None:
    """One thread and full precision: with deterministic algorithms two runs of one tree give the same bits."""
    import torch

    sys.dont_write_bytecode = True
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("highest")


class _Imported:
    """The tree that this process has imported; another one takes its place, unless one of them is compiled."""

    def __init__(self) -> None:
        self._tree: Tree | None = None
        self._compiles = False

    def tree(self, job: Job) -> Tree:
        """The job's tree.

        Raises:
            RuntimeError: the job or one before it compiles, and another tree was imported before.
            TotoPatchError: the tree cannot be found or Python imported another one.
        """
        from toto_patcher.equivalence import tree as trees

        root = Path(job.root).resolve()
        if self._tree is not None and self._tree.root != root:
            if job.compiled or self._compiles:
                raise RuntimeError(f"a process compiles for one tree only, and this one had imported {self._tree.root}")
            self._tree.unload()
            self._tree = None
        if self._tree is None:
            self._tree = trees.load(root)
        self._compiles = self._compiles or bool(job.compiled)
        return self._tree


def execute(job: Job, imported: _Imported) -> None:
    """Runs one job.

    Raises:
        RuntimeError: the process would compile for a second tree.
        TotoPatchError: the tree cannot be found or Python imported another one.
    """
    import torch

    from toto_patcher.equivalence import cases, models
    from toto_patcher.equivalence.decoders import has_decoder
    from toto_patcher.equivalence.runs import Runner

    tree = imported.tree(job)
    # What is loaded now stays: searching it for garbage over and over costs a tenth of the time that compiling takes.
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    folder = Path(job.checkpoint or job.out)
    if job.shape:
        shape = models.SHAPES[job.shape]
        with torch.device("meta"):
            made = tree.model(**shape.config(), use_memory_efficient_attention=False)
        parameters = {name: tuple(value.shape) for name, value in made.state_dict().items()}
        checkpoint = models.write_checkpoint(shape, parameters, folder)
    else:
        checkpoint = models.checkpoint_fingerprints(folder)
    runner = Runner(tree, folder, job.device, job.seeds)
    if job.checkpoint:
        _require_loadable(runner, Path(job.out))
    able = runner.able
    results: dict[str, dict[str, Any]] = {"eager": {}, "reference": {}, "compiled": {}}
    errors: dict[str, str] = {}
    counts: dict[str, dict[str, Any]] = {}
    for kind, names in (("eager", job.eager), ("reference", job.reference), ("compiled", job.compiled)):
        for case in cases.by_name(names):
            if not case.needs <= frozenset(able):
                continue
            try:
                if kind == "compiled":
                    from toto_patcher.equivalence import compiled

                    arrays = compiled.run(runner, case, job.backend, job.mode, counts)
                else:
                    arrays = runner.run(case, reference=kind == "reference")
                results[kind].update(arrays)
            except Exception:  # a case that breaks is a finding about the tree, the others still run
                errors[f"{kind}|{case.name}"] = traceback.format_exc(limit=-4)
            print(json.dumps({"kind": kind, "case": case.name}), flush=True)
    operated: list[dict[str, Any]] = []
    if job.surgery:
        from toto_patcher.equivalence.surgery import operations

        theatre = operations.Theatre(runner)
        for number in theatre.perform(job.surgery):
            print(json.dumps({"kind": "surgery", "case": f"operation {number}"}), flush=True)
        results["surgery"], operated = theatre.arrays, operations.facts(theatre)
    facts = {
        "pid": os.getpid(),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "root": str(tree.root),
        "imported": tree.fingerprints(),
        "abilities": able,
        "checkpoint": checkpoint,
        "errors": errors,
        "compiler": counts,
        "patch": json.loads((folder / models.CONFIG_FILE).read_text())["patch_size"],
        "decoder": has_decoder(tree),
        "left_to_upstream": runner.watch.left,
        "backend": job.backend,
        "device": job.device,
        "surgery": operated,
    }
    _write(Path(job.out), results, facts)


def _require_loadable(runner: Runner, out: Path) -> None:
    """Loads a user's checkpoint once, so that its fault is not taken for one of the tree."""
    from toto_patcher.equivalence.cases import Case

    try:
        runner.model(Case("", "teacher"))
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        (out / CHECKPOINT_FILE).write_text(f"{type(error).__name__}: {lines[-1] if lines else 'no message'}")
        raise


def _write(out: Path, results: dict[str, dict[str, Any]], facts: dict[str, Any]) -> None:
    import numpy as np

    flat = {f"{kind}|{name}": array for kind, arrays in results.items() for name, array in arrays.items()}
    np.savez(out / "arrays.npz", **flat)
    (out / "facts.json").write_text(json.dumps(facts, indent=1))


def main(arguments: Sequence[str]) -> int:
    """Runs the jobs named on the command line."""
    _configure()
    failed = 0
    imported = _Imported()
    jobs = [Job(**json.loads(Path(path).read_text())) for path in arguments]
    if not any(job.compiled for job in jobs):
        # Compiling takes longest; the other processes give way, so that the whole ends sooner on few cores.
        os.nice(3)
    for job in jobs:
        try:
            execute(job, imported)
        except Exception:  # a tree that does not even load is a finding, the jobs after it still run
            (Path(job.out) / FAILURE_FILE).write_text(traceback.format_exc())
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
