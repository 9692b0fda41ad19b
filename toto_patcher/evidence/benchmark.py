"""Compares trees on the workloads: one run, one device, interleaved, each tree in its own process.

    python -m toto_patcher.evidence.benchmark --tree upstream=DIR --tree patched=DIR \\
        --variation list-index=DIR@long-horizon --variation list-index-patched=DIR@long-horizon --out run.json

Children compile side by side, sharing Inductor's cache folder; while anything is timed, every other child sleeps. The
limits of torch._dynamo stay at their defaults in every child: hitting them or not is part of the comparison.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from toto_patcher.equivalence.models import SHAPES
from toto_patcher.evidence.benchmark_child import Child, ask_all
from toto_patcher.evidence.benchmark_plan import UPSTREAM, Group, Job, Tree, plan_groups
from toto_patcher.evidence.workloads import MEASURED, MODES, WORKLOADS
from toto_patcher.patching.change import fingerprint

SCHEMA = 1
PROFILED_MODE = "reduce-overhead"
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        device: a torch device.
        shape: name of the model shape.
        turns: rounds over the children; in each, a child makes ``untimed`` and then ``timed`` forecasts.
        warm_up: forecasts before anything counts.
        threads: intra-op threads of torch in each child.
        compile_threads: processes Inductor compiles with, in each child.
        profile: profile upstream eager, and both trees in ``PROFILED_MODE``.
        time_limit: seconds after which no further group is started; ``None`` for no limit.
        warm_up_limit: seconds after which children of a group that still warm up are ended; ``None`` for no limit.
    """

    device: str = "cuda"
    shape: str = "base"
    turns: int = 5
    timed: int = 3
    untimed: int = 1
    warm_up: int = 2
    threads: int = 2
    compile_threads: int = 4
    matmul_precision: str = "high"
    seed: int = 0
    profile: bool = True
    time_limit: float | None = None
    warm_up_limit: float | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def worker(self) -> dict[str, Any]:
        """What every worker is told."""
        names = ("device", "shape", "threads", "matmul_precision", "seed")
        return {name: getattr(self, name) for name in names}


def run(
    trees: Sequence[Tree],
    workloads: Sequence[str],
    modes: Sequence[str],
    settings: Settings,
    *,
    progress: Progress = lambda _: None,
    keep: Callable[[dict[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
    """Measures every tree on every workload in every mode.

    Args:
        keep: called with the document after each group, so that a run cut short leaves what it has.

    Returns:
        The raw document that tables and plots are generated from.
    """
    started = time.monotonic()
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "settings": {
            **settings.worker(),
            "turns": settings.turns,
            "timed_per_turn": settings.timed,
            "untimed_per_turn": settings.untimed,
            "warm_up_forecasts": settings.warm_up,
            "dynamo_limits": "defaults",
        },
        "trees": {tree.name: tree_record(tree.path) for tree in trees},
        "rows": [],
        "left_out": [],
    }
    with tempfile.TemporaryDirectory(prefix="toto-bench-") as scratch:
        caches = {"TORCHINDUCTOR_CACHE_DIR": str(Path(scratch) / "inductor"), **settings.environment}
        caches.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(settings.compile_threads))
        for number, group in enumerate(plan_groups(trees, workloads, modes)):
            if settings.time_limit is not None and time.monotonic() - started > settings.time_limit:
                document["left_out"] += [job.label for job in group.jobs]
                continue
            folder = Path(scratch) / f"group-{number}"
            folder.mkdir()
            _measure(group, settings, caches, folder, number, document, progress)
            document["seconds"] = round(time.monotonic() - started, 1)
            keep(document)
    return document


def _measure(
    group: Group,
    settings: Settings,
    environment: dict[str, str],
    folder: Path,
    number: int,
    document: dict[str, Any],
    progress: Progress,
) -> None:
    children = [
        Child(job, {**settings.worker(), "release": group.release}, environment, folder / f"{index}.log")
        for index, job in enumerate(group.jobs)
    ]
    rows = {id(child): _row(child.job, number) for child in children}
    try:
        for answer in ask_all(children, "hello"):
            document["machine"].update(answer.get("software", {}))
            document["settings"].update(answer.get("limits", {}))
        until = None if settings.warm_up_limit is None else time.monotonic() + settings.warm_up_limit
        for wave in group.waves:
            members = [child for child in children if child.job in wave]
            start = time.monotonic()
            answers = ask_all(members, "warm_up", until=until, forecasts=settings.warm_up)
            for child, answer in zip(members, answers, strict=True):
                waited = round(time.monotonic() - start, 1)
                rows[id(child)].update(warm_up=answer, compiled_beside=len(members) - 1, waited_s=waited)
                progress(f"warm   {child.job.label}: {answer.get('ms') or child.failure}")
        for workload in dict.fromkeys(child.job.workload for child in children):
            _take_turns([child for child in children if child.job.workload == workload], rows, settings)
            progress(f"timed  {workload}")
        for child in children:
            _look(child, rows[id(child)], _profiled(child.job, group) if settings.profile else False)
            progress(f"looked {child.job.label}: {child.failure or 'ok'}")
        _compare_outputs(children, rows, folder)
        for child in children:
            rows[id(child)]["failure"] = child.failure
    finally:
        for child in children:
            child.close()
    document["rows"] += [rows[id(child)] for child in children]


def _look(child: Child, row: dict[str, Any], profiled: bool) -> None:
    """What is not timed: memory, later horizons, a profile, and what was compiled up to here."""
    row["memory"] = child.ask("memory")
    row["horizons"] = child.ask("horizons", lengths=list(WORKLOADS[child.job.workload].later_horizons))
    if profiled:
        row["profile"] = child.ask("profile")
    row["totals"] = child.ask("counters")


def _profiled(job: Job, group: Group) -> bool:
    """One mode tells where the time goes; upstream eager is profiled beside it."""
    if job.mode is None:
        return job.tree.name == UPSTREAM and any(other.mode == PROFILED_MODE for other in group.jobs)
    return job.mode == PROFILED_MODE and job.tree.eager


def _compare_outputs(children: Sequence[Child], rows: dict[int, dict[str, Any]], folder: Path) -> None:
    """Compares every child's outputs with those of the first of its workload, which is upstream eager."""
    for workload in dict.fromkeys(child.job.workload for child in children):
        members = [child for child in children if child.job.workload == workload]
        reference = folder / f"{workload}.pt"
        members[0].ask("save_outputs", path=str(reference))
        if reference.exists():
            for child in members[1:]:
                rows[id(child)]["outputs"] = child.ask("compare_outputs", path=str(reference))


def _take_turns(children: Sequence[Child], rows: dict[int, dict[str, Any]], settings: Settings) -> None:
    for _ in range(settings.turns):
        for child in children:
            answer = child.ask("repeat", repetitions=settings.timed, untimed=settings.untimed)
            rows[id(child)]["ms"] += answer.get("ms", [])


def _row(job: Job, group: int) -> dict[str, Any]:
    return {"workload": job.workload, "tree": job.tree.name, "mode": job.mode or "eager", "group": group, "ms": []}


def tree_record(path: Path) -> dict[str, Any]:
    """Fingerprints of a tree: one for all its Python files, and one for each of the two that patches change."""
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


def command_line(arguments: Sequence[str]) -> str:
    """The command as given, with folders cut to their last name: the document names no path of a machine."""
    import re

    shown = [re.sub(r"(^|=)[^@=]*/([^/@]+)", r"\1\2", argument) for argument in arguments]
    return " ".join(["python -m toto_patcher.evidence.benchmark", *shown])


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code: 0 when every row was measured."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="benchmark", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tree", action="append", default=[], metavar="NAME=DIR", help="also runs uncompiled")
    parser.add_argument("--variation", action="append", default=[], metavar="NAME=DIR@WORKLOAD", help="compiled only")
    parser.add_argument(
        "--workload", action="append", choices=sorted(WORKLOADS), help=f"default: {', '.join(MEASURED)}"
    )
    parser.add_argument("--mode", action="append", choices=MODES, help="default: all three")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="base")
    parser.add_argument("--device", default="cuda")
    for name in ("turns", "timed", "untimed", "threads", "compile_threads"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(Settings, name))
    parser.add_argument("--time-limit", type=float, default=None, metavar="SECONDS", help="start no group after this")
    parser.add_argument("--warm-up-limit", type=float, default=None, metavar="SECONDS", help="end slower children")
    parser.add_argument("--no-profile", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(given)
    try:
        trees = [Tree.parse(text) for text in options.tree] + [Tree.parse(t, eager=False) for t in options.variation]
    except ValueError as error:
        parser.error(str(error))
    missing = [tree.name for tree in trees if not (tree.path / "toto").is_dir()]
    if not trees or missing:
        parser.error(f"no package toto in: {', '.join(missing)}" if missing else "give at least one --tree")
    names = (
        "device",
        "shape",
        "turns",
        "timed",
        "untimed",
        "threads",
        "compile_threads",
        "time_limit",
        "warm_up_limit",
    )
    settings = Settings(**{name: getattr(options, name) for name in names}, profile=not options.no_profile)

    def keep(document: dict[str, Any]) -> None:
        document["command"] = command_line(given)
        options.out.write_text(json.dumps(document, indent=1) + "\n")

    clock = time.monotonic()
    document = run(
        trees,
        options.workload or MEASURED,
        options.mode or MODES,
        settings,
        progress=lambda text: print(f"[{time.monotonic() - clock:6.1f}] {text}", flush=True),
        keep=keep,
    )
    keep(document)
    from toto_patcher.evidence.tables import short_table

    print(short_table(document))
    return 1 if document["left_out"] or any(row.get("failure") for row in document["rows"]) else 0


if __name__ == "__main__":
    sys.exit(main())
