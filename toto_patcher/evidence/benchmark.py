"""Compares trees on the workloads: one run, one device, interleaved, each tree in its own process.

    python -m toto_patcher.evidence.benchmark --tree upstream=DIR --tree patched=DIR \\
        --variation list-index=DIR@long-horizon --variation list-index-patched=DIR@long-horizon --out run.json

Children compile side by side, sharing Inductor's cache folder; while anything is timed, every other child sleeps. The
limits of torch._dynamo stay at their defaults in every child: hitting them or not is part of the comparison.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toto_patcher.equivalence.models import SHAPES
from toto_patcher.evidence.benchmark_plan import Tree
from toto_patcher.evidence.benchmark_run import run
from toto_patcher.evidence.benchmark_settings import Settings
from toto_patcher.evidence.summary import complete, short_table
from toto_patcher.evidence.workloads import MEASURED, MODES, WORKLOADS


def command_line(arguments: Sequence[str]) -> str:
    """The command as given, with folders cut to their last name: the document names no path of a machine."""
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
    settings = Settings(
        **{name: getattr(options, name) for name in names},
        kernels=not options.no_profile,
        profile=not options.no_profile,
    )

    def keep(document: dict[str, Any]) -> None:
        document["command"] = command_line(given)
        options.out.write_text(json.dumps(document, indent=1) + "\n")

    clock = time.monotonic()
    document = run(
        trees,
        options.workload or MEASURED,
        options.mode or MODES,
        settings,
        progress=lambda text, *_: print(f"[{time.monotonic() - clock:6.1f}] {text}", flush=True),
        keep=keep,
    )
    keep(document)
    print(short_table(document))
    return 0 if complete(document) else 1


if __name__ == "__main__":
    sys.exit(main())
