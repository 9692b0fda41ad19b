"""A whole run: its groups one after the other, and the raw document that tables and plots are made from."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from toto_patcher.evidence.benchmark_group import GroupRun, steps
from toto_patcher.evidence.benchmark_plan import Tree, plan_groups
from toto_patcher.evidence.benchmark_settings import Settings
from toto_patcher.patching.change import fingerprint

SCHEMA = 2
CACHE = "TORCHINDUCTOR_CACHE_DIR"
Progress = Callable[[str, int, int], None]
"""Called with (what was done, steps done, steps in all)."""


def run(
    trees: Sequence[Tree],
    workloads: Sequence[str],
    modes: Sequence[str],
    settings: Settings,
    *,
    progress: Progress = lambda what, done, total: None,
    keep: Callable[[dict[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
    """Measures every tree on every workload in every mode.

    Args:
        progress: called after each step.
        keep: called with the document after each group, so that a run cut short leaves what it has.

    Returns:
        The raw document that tables and plots are generated from.
    """
    started = time.monotonic()
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "settings": settings.record(),
        "trees": {tree.name: {**tree_record(tree.path), "patches": list(tree.patches)} for tree in trees},
        "rows": [],
        "left_out": [],
    }
    groups = plan_groups(trees, workloads, modes, serial=settings.device == "cpu")
    total, done = sum(steps(group, settings) for group in groups), 0

    def begin(what: str) -> None:
        progress(what, done, total)

    with tempfile.TemporaryDirectory(prefix="toto-bench-") as scratch:
        caches = {CACHE: os.environ.get(CACHE) or str(Path(scratch) / "inductor"), **settings.environment}
        caches.setdefault("TRITON_CACHE_DIR", str(Path(caches[CACHE]) / "triton"))
        caches.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(settings.compile_threads))
        for number, group in enumerate(groups):
            first = done
            if settings.time_limit is not None and time.monotonic() - started > settings.time_limit:
                document["left_out"] += [job.label for job in group.jobs]
                continue
            folder = Path(scratch) / f"group-{number}"
            folder.mkdir()

            def step(what: str) -> None:
                nonlocal done
                done += 1
                progress(what, done, total)

            GroupRun(group, settings, caches, folder, number, document, step, begin).measure()
            done = first + steps(group, settings)  # slow rows take fewer turns than were planned
            document["seconds"] = round(time.monotonic() - started, 1)
            keep(document)
    return document


def tree_record(path: Path) -> dict[str, Any]:
    """Fingerprints of a tree: one for all its Python files, and one for each that ``graph-breaks`` changes."""
    files = {item.relative_to(path).as_posix(): fingerprint(item.read_bytes()) for item in path.rglob("toto/**/*.py")}
    listing = "\n".join(f"{name} {digest}" for name, digest in sorted(files.items()))
    named = {name: digest for name, digest in files.items() if name.endswith(("model/util.py", "model/attention.py"))}
    return {"fingerprint": fingerprint(listing.encode()), "files": len(files), "patched_files": named}


def machine() -> dict[str, Any]:
    """The host and its driver; workers add what torch knows."""
    found: dict[str, Any] = {
        "system": platform.system(),
        "cpu_cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    command = shutil.which("nvidia-smi")
    if command:
        query = [command, "--query-gpu=driver_version", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True, check=False)
        found["driver"] = answer.stdout.strip().splitlines()[0] if answer.stdout.strip() else None
    return found
