"""The command ``bench``: makes the trees it compares, measures them, and leaves the raw document. Needs torch.

The checkout is only read. Trees live in a temporary folder and run in processes of their own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toto_patcher import results as r
from toto_patcher import roots
from toto_patcher.errors import UsageError
from toto_patcher.supported import install_hint

if TYPE_CHECKING:
    from toto_patcher.evidence.benchmark_plan import Tree
    from toto_patcher.evidence.benchmark_settings import Settings, WarmStarts
    from toto_patcher.progress import Progress

EAGER = "eager"
FAST_PROFILE = "full-graph"
CPU_BUDGET = 60.0
"""Seconds of timing per row on a CPU, where upstream's forecasts take from seconds to minutes."""


@dataclass(frozen=True)
class Request:
    """What to measure; the names are those of the command's options.

    Attributes:
        workload: names; empty for all three.
        profile: candidates; empty for the one that is applied, else ``full-graph``.
        patch: patches that are measured together as one more candidate.
        tree: ready trees, ``NAME=FOLDER``, in place of those made from the checkout.
        baseline: compile modes of upstream; eager is always among them.
        mode: compile modes of the candidates.
        precision: ``fp32``, ``tf32``, ``bf16``; ``None``: ``tf32`` on a GPU, ``fp32`` on a CPU.
        budget: seconds per row; ``None``: no limit on a GPU, a minute on a CPU.
        file: where the raw document is written.
    """

    workload: tuple[str, ...] = ()
    profile: tuple[str, ...] = ()
    patch: tuple[str, ...] = ()
    tree: tuple[str, ...] = ()
    ablation: bool = False
    baseline: tuple[str, ...] = ()
    mode: tuple[str, ...] = ()
    precision: str | None = None
    device: str = "cuda"
    shape: str = "base"
    turns: int = 5
    timed: int = 3
    threads: int = 2
    compile_threads: int = 4
    budget: float | None = None
    time_limit: float | None = None
    warm_start: WarmStarts = "candidates"
    kernels: bool = True
    file: Path | None = None

    def command(self) -> str:
        """The command line that asks for this. Folders are cut to their last name: it names no path of a machine."""
        parts = ["toto-patch bench"]
        for field in fields(self):
            value, option = getattr(self, field.name), "--" + field.name.replace("_", "-")
            if value == field.default:
                continue
            if field.name == "tree":
                parts += [f"--tree {text.partition('=')[0]}={Path(text.partition('=')[2]).name}" for text in value]
            elif field.name == "file":
                parts.append(f"--json {value.name}")
            elif isinstance(value, tuple):
                parts += [f"{option} {one}" for one in value]
            else:
                parts.append(
                    (option if value else f"--no-{field.name}") if isinstance(value, bool) else f"{option} {value}"
                )
        return " ".join(parts)


def bench(root: Path | None, request: Request, progress: Progress) -> r.BenchResult:
    """Measures, and writes the raw document after each group of rows.

    Raises:
        UsageError: torch or the device is not there, or nothing can be made of the request.
        RefusedError: a candidate cannot be applied to the checkout.
    """
    from toto_patcher.evidence import benchmark_run
    from toto_patcher.evidence.summary import complete
    from toto_patcher.evidence.workloads import EVERYDAY, MEASURED

    if request.file is not None and not request.file.absolute().parent.is_dir():
        raise UsageError(f"there is no folder for {request.file}", hint="Make it first, or name another file.")
    settings = _settings(request)
    plain = ("default",) if request.device == "cpu" else ("default", "reduce-overhead")
    baselines, modes = ((asked or (EAGER, *plain)) for asked in (request.baseline, request.mode))
    with ExitStack() as stack:
        if request.tree:
            trees, place = _ready(request.tree), None
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="toto-bench-trees-"))
            place, trees = _made(root, request, Path(folder))
        _require(settings)

        def keep(document: dict[str, Any]) -> None:
            document["command"] = request.command()
            if request.file is not None:
                request.file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

        document = benchmark_run.run(
            [_with_modes(tree, baselines, modes) for tree in trees],
            request.workload or (MEASURED + EVERYDAY if request.device == "cpu" else MEASURED),
            [mode for mode in dict.fromkeys((*baselines, *modes)) if mode != EAGER],
            settings,
            progress=progress,
            keep=keep,
        )
        keep(document)
    return r.BenchResult(
        root=place,
        trees={tree.name: tree.patches for tree in trees},
        file=None if request.file is None else str(request.file),
        document=document,
        exit_code=0 if complete(document) else 1,
    )


def _settings(request: Request) -> Settings:
    from toto_patcher.evidence.benchmark_settings import Settings

    on_cpu = request.device == "cpu"
    precision = request.precision or ("fp32" if on_cpu else "tf32")
    if on_cpu and precision != "fp32":
        why = "torch has no TF32" if precision == "tf32" else "torch draws no gamma variates in bfloat16"
        raise UsageError(f"{why} on a CPU", hint="Leave --precision out, or use --device cuda.")
    return Settings(
        device=request.device,
        shape=request.shape,
        precision=precision,
        turns=request.turns,
        timed=request.timed,
        threads=request.threads,
        compile_threads=request.compile_threads,
        kernels=request.kernels,
        profile=False,
        draws=2 if on_cpu else 3,
        warm_starts=request.warm_start,
        budget=CPU_BUDGET if request.budget is None and on_cpu else request.budget,
        time_limit=request.time_limit,
    )


def _require(settings: Settings) -> None:
    """Asks another process, for this one is to hold neither torch nor a piece of the device.

    Raises:
        UsageError: torch cannot be imported, or the device is not there.
    """
    code = "import torch, sys; sys.exit(0 if sys.argv[1] == 'cpu' or torch.cuda.is_available() else 9)"
    done = subprocess.run(
        [sys.executable, "-c", code, settings.device], capture_output=True, text=True, check=False, cwd="/"
    )
    if done.returncode == 9:
        raise UsageError("torch sees no CUDA device", hint="On a machine without a GPU: --device cpu")
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UsageError(f"the benchmark needs torch, which cannot be imported: {reason}", hint=install_hint("runtime"))


def _ready(texts: Sequence[str]) -> list[Tree]:
    from toto_patcher.evidence.benchmark_plan import UPSTREAM, Tree

    try:
        trees = [Tree.parse(text) for text in texts]
    except ValueError as error:
        raise UsageError(str(error), hint="For example: --tree upstream=trees/upstream") from error
    if UPSTREAM not in [tree.name for tree in trees]:
        raise UsageError("no tree is named upstream, and ratios are to it", hint="Add --tree upstream=FOLDER.")
    for tree in trees:
        _require_package(tree.path)
    return trees


def _made(root: Path | None, request: Request, folder: Path) -> tuple[str, list[Tree]]:
    from toto_patcher import workspace as ws
    from toto_patcher.evidence import trees
    from toto_patcher.patching import series

    workspace = ws.look(roots.find(root))
    workspace.refuse_if_interrupted()
    _require_package(workspace.root)
    applied = workspace.state.profile if workspace.state else None
    profiles = request.profile or (() if request.patch else (applied or FAST_PROFILE,))
    loaded = series.load()
    measured = trees.candidates(loaded, profiles, request.patch)
    if request.ablation:
        measured |= trees.ablation(loaded, measured)
    return str(workspace.root), trees.lay_down(workspace, measured, folder)


def _require_package(root: Path) -> None:
    if not (root / "toto" / "inference" / "forecaster.py").is_file():
        raise UsageError(
            "the benchmark imports the package by its own name, and there is no toto/inference/forecaster.py here",
            path=root,
            hint="Name a folder that holds the package toto, with --root or --tree.",
        )


def _with_modes(tree: Tree, baselines: Sequence[str], modes: Sequence[str]) -> Tree:
    """The tree with the modes it runs in. Upstream always runs eagerly: ratios and outputs are compared with it."""
    from toto_patcher.evidence.benchmark_plan import UPSTREAM

    asked = baselines if tree.name == UPSTREAM else modes
    eager = EAGER in asked or tree.name == UPSTREAM
    return replace(tree, eager=eager, modes=tuple(mode for mode in asked if mode != EAGER))
