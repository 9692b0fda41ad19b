"""The command ``stress``: the tree as it is against its original, and a verdict by limits. Needs torch.

The checkout is only read. What runs is the source on disk at the root, since that is what production imports, drifted
or not; the original is laid down in a temporary folder from the backups, and runs eagerly.
"""

from __future__ import annotations

import json
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toto_patcher import results as r
from toto_patcher import roots
from toto_patcher import workspace as ws
from toto_patcher.errors import CheckpointError, InputError, RefusedError, UsageError
from toto_patcher.supported import install_hint, missing

if TYPE_CHECKING:
    from toto_patcher.evidence.accuracy_windows import Window
    from toto_patcher.evidence.benchmark_child import Child
    from toto_patcher.evidence.stress_run import Settings
    from toto_patcher.progress import Progress

SCHEMA = 1
ITERATIONS = {"quick": 3, "full": 10, "production-check": 20}
REPORT, RESULTS = "compile_stress_report.md", "compile_stress_results.json"


@dataclass(frozen=True)
class Request:
    """What to run; the names are those of the command's options.

    Attributes:
        compile_mode: how the patched tree runs; empty for ``eager``, ``default`` and, on a GPU, ``reduce-overhead``;
            with the profile ``eager`` for that alone.
        device: empty: a GPU where there is one.
        checkpoint: a folder, ``embedded``, or a model's id.
        output: the folder for report, raw document and plots; it is made where it does not exist.
        windows: forecasts in a round at most, two of each series; no option of the command.
    """

    mode: str = "quick"
    compile_mode: tuple[str, ...] = ()
    backend: str = "inductor"
    device: str = ""
    checkpoint: str = "embedded"
    output: Path = Path("compile_stress")
    windows: int = 8

    def command(self) -> str:
        """The command line that asks for this. Folders are cut to their last name: it names no path of a machine."""
        parts = ["toto-patch stress"]
        for field in fields(self):
            value, option = getattr(self, field.name), "--" + field.name.replace("_", "-")
            if value == field.default or field.name == "windows":
                continue
            if isinstance(value, tuple):
                parts += [f"{option} {one}" for one in value]
            else:
                is_path = isinstance(value, Path) or (field.name == "checkpoint" and Path(value).exists())
                parts.append(f"{option} {Path(value).name if is_path else value}")
        return " ".join(parts)


def stress(root: Path | None, request: Request, progress: Progress) -> r.StressResult:
    """Measures, judges, and writes the report, the raw document and, with matplotlib, plots.

    Raises:
        UsageError: torch, the series, the checkpoint, the device or the folder is not there, or a limit is none.
        RefusedError: an interrupted run left the tree half written, an original is lost, or the original does not run.
    """
    if absent := missing("torch", "numpy"):
        raise UsageError(f"the stress test needs {' and '.join(absent)}", hint=install_hint("runtime"))
    from toto_patcher.evidence import stress_limits, stress_report

    started = time.monotonic()
    limits = stress_limits.configured(Path.cwd())
    workspace = ws.look(roots.find(root))
    workspace.refuse_if_interrupted()
    if workspace.state is None:
        return _not_patched(workspace, request)
    try:
        request.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"there is no folder {request.output}, and none can be made: {error.strerror}") from error
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": request.command(),
        "limits": asdict(limits),
        **_measured(workspace, request, limits.mae_delta, progress),
    }
    document |= _judged(document, limits)
    document["seconds"] = round(time.monotonic() - started, 1)
    progress("writing the report and drawing", 0, 0)
    files = stress_report.write(document, request.output, REPORT, RESULTS)
    return r.StressResult(
        root=str(workspace.root),
        files=tuple(map(str, files)),
        document=document,
        summary=tuple(stress_report.summary(document)),
        exit_code=0 if document["passed"] else 5,
    )


def _judged(document: dict[str, Any], limits: Any) -> dict[str, Any]:
    from toto_patcher.evidence import stress_verdict

    broken = stress_verdict.judge(document["rows"], limits)
    return {
        "passed": not broken,
        "verdict": stress_verdict.sentence(broken, document["rows"]),
        "broken": [asdict(one) for one in broken],
    }


def _not_patched(workspace: ws.Workspace, request: Request) -> r.StressResult:
    """As for verify-only: refuses what is not Toto or has no record; an original tree has nothing to be judged."""
    profile, selection = ws.select(None, ())
    ws.plan(workspace, selection, profile)
    told = "This tree is not patched: there is nothing to compare its original with."
    document = {"schema": SCHEMA, "command": request.command(), "passed": False, "verdict": told}
    lines = (told, "  next: toto-patch apply --backup")
    return r.StressResult(root=str(workspace.root), files=(), document=document, summary=lines, exit_code=1)


def _measured(workspace: ws.Workspace, request: Request, mae_delta: float, progress: Progress) -> dict[str, Any]:
    from toto_patcher.equivalence.device import best as best_device
    from toto_patcher.equivalence.models import checkpoint_fingerprints
    from toto_patcher.evidence import accuracy_document, benchmark_run, stress_run, stress_verdict
    from toto_patcher.patching.checkout import Checkout
    from toto_patcher.runtime import checkpoints

    progress("reading the checkpoint and the series", 0, 0)
    checkpoint = checkpoints.find(request.checkpoint).resolve()
    device = request.device or best_device()
    settings = _settings(request, checkpoint, device, mae_delta)
    windows = _windows(settings, request.windows)
    modes = tuple(dict.fromkeys(request.compile_mode)) or _usual_modes(workspace, device)
    total, done = stress_run.Run.steps(len(modes) + 1, settings), 0

    def step(what: str) -> None:
        nonlocal done
        done += 1
        progress(what, done, total)

    def begin(what: str) -> None:
        progress(what, done, total)

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="toto-stress-")))
        ws.lay_down(Checkout.open(workspace.root), workspace.originals(), folder / "original")
        trees = {stress_verdict.UPSTREAM: folder / "original", stress_run.PATCHED: workspace.root}
        run = stress_run.Run(trees, modes, checkpoint, windows, settings, folder, step, begin)
        children: list[Child] = []
        try:
            rows = run.measure(children)
        finally:
            for child in children:
                child.close()
    _require_upstream(children[0], rows[0])
    kept = {key: value for key, value in asdict(settings).items() if key != "mae_delta"}
    name = {"name": checkpoint.name, **checkpoint_fingerprints(checkpoint)}
    return {
        "machine": {**benchmark_run.machine(), **run.software},
        "settings": {"mode": request.mode, **kept, "checkpoint": name},
        "tree": _tree(workspace),
        "series": accuracy_document.series(windows),
        "rows": rows,
    }


def _require_upstream(child: Child, row: dict[str, Any]) -> None:
    """Without the original there is nothing to compare with; why it does not run is mostly the caller's to change."""
    if row["failure"] is None:
        return
    told = row["failure"].strip().splitlines()[-1]
    kinds = {"usage": UsageError, "input": InputError, "checkpoint": CheckpointError}
    raise kinds.get(child.kind or "", RefusedError)(f"the original tree does not run: {told}")


def _usual_modes(workspace: ws.Workspace, device: str) -> tuple[str, ...]:
    """How the patched tree runs where nothing is said: as in production."""
    if workspace.state is not None and workspace.state.profile == "eager":
        return ("eager",)
    return ("eager", "default", *(("reduce-overhead",) if device == "cuda" else ()))


def _settings(request: Request, checkpoint: Path, device: str, mae_delta: float) -> Settings:
    from toto_patcher.evidence.stress_run import Settings

    try:
        patch = int(json.loads((checkpoint / "config.json").read_bytes())["patch_size"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError("is not a model's configuration", path=checkpoint / "config.json") from error
    small = Settings(
        iterations=ITERATIONS[request.mode],
        again=request.mode != "quick",
        horizon=patch + patch // 2,
        context=256,
        samples=128,
        per_batch=128,
        device=device,
        backend=request.backend,
        mae_delta=mae_delta,
    )
    return small if device == "cpu" else replace(small, context=512, samples=1024)


def _windows(settings: Settings, most: int) -> list[Window]:
    """Two windows of each series that is installed and long enough, of different kinds first."""
    from toto_patcher.evidence import accuracy_windows, series

    found: list[Window] = []
    loaded = series.load()
    kinds: dict[str, int] = {}
    ranks = {}
    for one in loaded:
        ranks[one.name] = kinds[one.kind] = kinds.get(one.kind, -1) + 1
    for one in sorted(loaded, key=lambda one: ranks[one.name]):
        try:
            windows = accuracy_windows.cut(one, settings.horizon, settings.context, 2)
        except InputError:
            continue
        if len(windows[0].context) == settings.context and len(found) < most:
            found += windows
    if not found:
        raise UsageError(
            f"no series that is installed has {settings.context + 2 * settings.horizon} values",
            hint=install_hint("series"),
        )
    return found[:most]


def _tree(workspace: ws.Workspace) -> dict[str, Any]:
    from toto_patcher.evidence.benchmark_run import tree_record

    assert workspace.state is not None
    return {
        "profile": workspace.state.profile,
        "patches": list(workspace.state.patches),
        "release": workspace.state.release,
        "fingerprint": tree_record(workspace.root)["fingerprint"],
        "drifted": [file.path for file in workspace.files() if file.state != "patched"],
        "edited": _edited(workspace),
    }


def _edited(workspace: ws.Workspace) -> list[str]:
    """Sources of the release that no patch changed and that are not the release's: they are in both trees."""
    from toto_patcher.patching.change import fingerprint
    from toto_patcher.patching.vendoring.releases import pinned_releases

    assert workspace.state is not None
    release = pinned_releases().get(workspace.state.release or "")
    recorded = {file.path for file in workspace.state.files}
    sources = {str(path): digest for path, digest in (release.files if release else {}).items()}
    return [
        name
        for name, digest in sources.items()
        if name.endswith(".py") and name not in recorded and (workspace.root / name).is_file()
        and fingerprint((workspace.root / name).read_bytes()) != digest
    ]  # fmt: skip
