"""The command ``accuracy``: forecasts real series with upstream and with the tree as it is, and judges. Needs torch.

The checkout is only read. Upstream's original sources are laid down in a temporary folder, and runs eagerly; the tree
runs where it is. Each has a process of its own, and both the same contexts and seeds.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toto_patcher import results as r
from toto_patcher import roots
from toto_patcher import workspace as ws
from toto_patcher.errors import InputError, UsageError
from toto_patcher.supported import install_hint, missing

if TYPE_CHECKING:
    from toto_patcher.evidence.accuracy_windows import Window
    from toto_patcher.progress import Progress

SCHEMA = 1
EAGER = "eager"
QUICK_SERIES = ("taylor", "msft", "co2")
"""A load, a price and a climate."""


@dataclass(frozen=True)
class Request:
    """What to compare; the names are those of the command's options. ``None`` stands for ``Sizes`` of the run.

    Attributes:
        series: names; empty for all that are installed.
        csv: a file in place of them, and its ``column``.
        checkpoint: a folder, ``embedded``, or a model's id.
        compile_mode: of the candidate; ``eager`` to compile nothing.
        file: where the raw document is written.
    """

    series: tuple[str, ...] = ()
    csv: Path | None = None
    column: str = "close"
    season: int = 1
    checkpoint: str = "embedded"
    horizon: int | None = None
    context: int | None = None
    samples: int | None = None
    origins: int | None = None
    seeds: int | None = None
    compile_mode: str | None = None
    device: str = "cpu"
    quick: bool = False
    file: Path | None = None

    def command(self) -> str:
        """The command line that asks for this. Folders are cut to their last name: it names no path of a machine."""
        parts = ["toto-patch accuracy"]
        for field in fields(self):
            value = getattr(self, field.name)
            if value == field.default:
                continue
            option = "--json" if field.name == "file" else "--" + field.name.replace("_", "-")
            if isinstance(value, tuple):
                parts += [f"{option} {one}" for one in value]
            elif isinstance(value, bool):
                parts.append(option)
            else:
                is_path = isinstance(value, Path) or (field.name == "checkpoint" and Path(value).exists())
                parts.append(f"{option} {Path(value).name if is_path else value}")
        return " ".join(parts)

    def sizes(self) -> Sizes:
        """The sizes of this run: those asked for, else those of a quick or a whole run."""
        usual = Sizes(horizon=48, context=256) if self.quick else Sizes()
        asked = {field.name: getattr(self, field.name) for field in fields(Sizes)}
        return Sizes(**{name: getattr(usual, name) if value is None else value for name, value in asked.items()})


@dataclass(frozen=True)
class Sizes:
    """How much is forecast. ``samples`` are drawn for each window under each of ``seeds`` seeds.

    Horizons are longer than a patch, of the embedded model always and of the published one in a whole run, or decoding
    would never read what it cached.
    """

    horizon: int = 96
    context: int = 512
    samples: int = 64
    origins: int = 4
    seeds: int = 8


def accuracy(root: Path | None, request: Request, progress: Progress) -> r.AccuracyResult:
    """Forecasts, judges, and writes the raw document where one was asked for.

    Raises:
        UsageError: torch, a series, the checkpoint or the device is not there, or nothing can be made of the request.
        RefusedError: an interrupted run left the tree half written, an original is lost, or upstream does not run.
    """
    started = time.monotonic()
    if request.file is not None and not request.file.absolute().parent.is_dir():
        raise UsageError(f"there is no folder for {request.file}", hint="Make it first, or name another file.")
    workspace = ws.look(roots.find(root))
    workspace.refuse_if_interrupted()
    if workspace.state is None:
        return _not_patched(workspace, request)
    _require_torch(request.device)
    from toto_patcher.equivalence.models import checkpoint_fingerprints
    from toto_patcher.evidence import accuracy_document, accuracy_run
    from toto_patcher.runtime import checkpoints

    sizes, mode = request.sizes(), request.compile_mode or _usual_mode(request, workspace.state.profile)
    checkpoint = checkpoints.find(request.checkpoint).resolve()
    windows, left_out = _windows(request)
    seeds = list(range(1, sizes.seeds + 1))
    with tempfile.TemporaryDirectory(prefix="toto-accuracy-") as name:
        outcomes = accuracy_run.forecast(
            workspace,
            windows,
            Path(name),
            progress,
            checkpoint=checkpoint,
            samples=sizes.samples,
            seeds=seeds,
            device=request.device,
            mode=mode,
        )
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": request.command(),
        "machine": accuracy_document.machine(outcomes),
        "tree": accuracy_document.tree(workspace, outcomes),
        "settings": {
            **asdict(sizes),
            "seeds": seeds,
            "device": request.device,
            "compile_mode": mode,
            "checkpoint": {"name": checkpoint.name, **checkpoint_fingerprints(checkpoint)},
        },
        "series": accuracy_document.series(windows),
        "left_out": left_out,
        **accuracy_document.judged(windows, outcomes),
        "seconds": round(time.monotonic() - started, 1),
    }
    return _result(workspace, request, document)


def _result(workspace: ws.Workspace, request: Request, document: dict[str, Any]) -> r.AccuracyResult:
    from toto_patcher.evidence.accuracy_text import summary

    codes = {"inside": 0, "not-patched": 1}
    if request.file is not None:
        request.file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return r.AccuracyResult(
        root=str(workspace.root),
        files=() if request.file is None else (str(request.file),),
        document=document,
        summary=tuple(summary(document)),
        exit_code=codes.get(document["verdict"], 5),
    )


def _not_patched(workspace: ws.Workspace, request: Request) -> r.AccuracyResult:
    """As for verify-only: refuses what is not Toto or has no record; an original tree has nothing to be judged."""
    profile, selection = ws.select(None, ())
    ws.plan(workspace, selection, profile)
    return _result(workspace, request, {"schema": SCHEMA, "command": request.command(), "verdict": "not-patched"})


def _require_torch(device: str) -> None:
    if absent := missing("torch", "numpy"):
        raise UsageError(f"comparing forecasts needs {' and '.join(absent)}", hint=install_hint("runtime"))
    if device == "cuda":
        # Another process: this one is not to hold a piece of the device.
        code = "import torch, sys; sys.exit(not torch.cuda.is_available())"
        if subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, cwd="/").returncode:
            raise UsageError("torch sees no CUDA device", hint="On a machine without a GPU: --device cpu")


def _windows(request: Request) -> tuple[list[Window], list[dict[str, str]]]:
    """The windows of every series, and which series are left out of those that nobody asked for by name.

    Raises:
        UsageError: a series that was asked for is not there or too short, or none is left.
    """
    from toto_patcher.evidence import accuracy_windows, series
    from toto_patcher.evidence.accuracy_judgement import LEVEL, can_tell

    sizes, left_out = request.sizes(), []
    if request.csv is not None:
        loaded = [series.from_csv(request.csv, request.column, season=request.season)]
    elif request.series:
        loaded = series.load(list(dict.fromkeys(request.series)))
    else:
        wanted = QUICK_SERIES if request.quick else series.NAMES
        there = series.available()
        left_out += [
            {"name": name, "why": f"{name} comes with {series.packages()[name]}, which is not installed"}
            for name in wanted
            if not there[name]
        ]
        loaded = series.load([name for name in wanted if there[name]])
    found: list[Window] = []
    for one in loaded:
        try:
            found += accuracy_windows.cut(one, sizes.horizon, sizes.context, sizes.origins)
        except InputError as error:
            if request.csv is not None or request.series:
                raise
            left_out.append({"name": one.name, "why": error.message})
    if not can_tell(len(found), sizes.seeds):
        raise UsageError(
            f"{len(found)} windows under {sizes.seeds} seeds are too few to tell a loss from chance at {LEVEL:g}",
            hint="Ask for more --origins, --seeds or --series.",
        )
    return found, left_out


def _usual_mode(request: Request, profile: str | None) -> str:
    """How the candidate runs where nothing is said: as in production; a quick run on a CPU does without compiling."""
    if profile == EAGER or (request.quick and request.device == "cpu"):
        return EAGER
    return "default" if request.device == "cpu" else "reduce-overhead"
