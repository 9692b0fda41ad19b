"""Turns committed benchmark documents into Markdown: ``python -m toto_patcher.evidence.tables docs/benchmarks``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from toto_patcher.evidence.benchmark_plan import BASELINES, LIST_INDEX, LIST_INDEX_PATCHED, PATCHED, UPSTREAM
from toto_patcher.evidence.profiling import STAGES
from toto_patcher.evidence.spread import Ratio, speedup, summarize
from toto_patcher.evidence.workloads import WORKLOADS

Row = dict[str, Any]
NAMES = {
    UPSTREAM: "upstream",
    PATCHED: "patched",
    LIST_INDEX: "list index",
    LIST_INDEX_PATCHED: "list index, patched",
}
TARGET = "graph-breaks"


def measured(document: dict[str, Any]) -> list[Row]:
    """The rows that have repetitions to summarise."""
    return [row for row in document["rows"] if len(row["ms"]) >= 2]


def baseline(rows: Iterable[Row], row: Row, tree: str, mode: str) -> Row | None:
    """The row of another tree or mode on the same workload in the same group, if it was measured."""
    for other in rows:
        if (other["workload"], other["group"]) == (row["workload"], row["group"]) and len(other["ms"]) == len(
            row["ms"]
        ):
            if (other["tree"], other["mode"]) == (tree, mode) and other is not row:
                return other
    return None


def ratios(rows: Sequence[Row], row: Row) -> tuple[Ratio | None, Ratio | None]:
    """How many times faster than upstream eager, and than the tree's own baseline in the same mode."""
    eager = baseline(rows, row, UPSTREAM, "eager")
    twin = baseline(rows, row, BASELINES[row["tree"]], row["mode"]) if row["tree"] in BASELINES else None
    return (
        speedup(eager["ms"], row["ms"]) if eager else None,
        speedup(twin["ms"], row["ms"]) if twin else None,
    )


def later_recompilations(row: Row) -> int | None:
    """Recompilations after the warm-up: in the timed forecasts, at every later horizon, and under the profiler."""
    try:
        return int(row["totals"]["now"]["recompilations"] - row["warm_up"]["after"]["recompilations"])
    except KeyError:
        return None


def slower_rows(document: dict[str, Any]) -> list[Row]:
    """Patched rows that are slower than their baseline in the same mode, beyond the spread."""
    rows = measured(document)
    return [row for row in rows if (twin := ratios(rows, row)[1]) is not None and twin.slower]


def _ratio(ratio: Ratio | None) -> str:
    if ratio is None:
        return "-"
    mark = " (slower)" if ratio.slower else ""
    return f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]{mark}"


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join([" --- "] + [" ---: "] * (len(head) - 1)) + "|"]
    return lines + ["| " + " | ".join(row) + " |" for row in body] + [""]


def _name(row: Row) -> str:
    return f"{NAMES.get(row['tree'], row['tree'])}, {row['mode']}"


def _number(value: Any, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def speed_table(rows: Sequence[Row]) -> list[str]:
    """Times and ratios of one workload."""
    body = []
    for row in rows:
        spread = summarize(row["ms"])
        eager, twin = ratios(rows, row)
        first = row["warm_up"]["ms"][0] / 1e3
        quartiles = f"{spread.low:.1f}-{spread.high:.1f}"
        extremes = f"{spread.minimum:.1f}-{spread.maximum:.1f}"
        numbers = [f"{spread.median:.1f}", quartiles, extremes, _ratio(eager), _ratio(twin), f"{first:.1f}"]
        body.append([_name(row), *numbers])
    head = [
        "tree, mode",
        "median ms",
        "quartiles",
        "min-max",
        "x upstream eager",
        "x same mode unpatched",
        "first call s",
    ]
    return _table(head, body)


def compile_table(rows: Sequence[Row]) -> list[str]:
    """Graphs, breaks, recompilations, limit hits, CUDA graphs and memory of one workload."""
    body = []
    for row in rows:
        after, totals, memory = row["warm_up"].get("after", {}), row.get("totals", {}), row.get("memory", {})
        now = totals.get("now", {})
        body.append(
            [
                _name(row),
                _number(after.get("graphs")),
                _number(after.get("graph_breaks")),
                _number(after.get("recompilations")),
                _number(later_recompilations(row)),
                _number(now.get("limit_hits")),
                _number(now.get("cudagraph_skips")),
                _number(memory.get("peak_allocated_mib")),
                _number(memory.get("peak_reserved_mib")),
            ]
        )
    head = [
        "tree, mode",
        "graphs",
        "breaks",
        "recompilations in warm-up",
        "after warm-up",
        "limit hits",
        "CUDA-graph skips",
        "allocated MiB",
        "reserved MiB",
    ]
    return _table(head, body)


def difference_table(rows: Sequence[Row]) -> list[str]:
    """How far the outputs are from upstream eager's on the same device."""
    head = [
        "tree, mode",
        "point forecast, largest difference",
        "same-seed samples, largest",
        "samples within 1e-3",
        "median of the samples, largest",
    ]
    body = []
    for row in rows:
        if found := row.get("outputs"):
            numbers = [f"{found['point']:.1e}", f"{found['samples']:.1e}", f"{found['samples_close']:.3%}"]
            body.append([_name(row), *numbers, f"{found['median_samples']:.1e}"])
    return _table(head, body) if body else []


def profile_table(rows: Sequence[Row]) -> list[str]:
    """Where the time of one forecast goes: wall time per stage with the device drained, and device time."""
    profiled = [row for row in rows if row.get("profile")]
    if not profiled:
        return []
    head = ["stage (wall / device ms)", *(_name(row) for row in profiled)]
    body = []
    for stage in STAGES:
        cells = []
        for row in profiled:
            profile = row["profile"]
            device = profile["device_ms"].get(stage, 0.0)
            cells.append(f"{profile['wall_ms'][stage]:.1f} / {device:.1f}")
        body.append([stage, *cells])
        kinds = sorted({kind for row in profiled for kind in row["profile"]["device_ms_by_kind"].get(stage, {})})
        for kind in kinds:
            parts = [row["profile"]["device_ms_by_kind"].get(stage, {}).get(kind, 0.0) for row in profiled]
            if max(parts) >= 1.0:
                body.append([f"- {kind}", *(f"{part:.1f}" for part in parts)])
    for title, key in (("backbone calls", "forwards"), ("kernels, copies and fills on the device", "device_kernels")):
        body.append([title, *(_number(row["profile"].get(key)) for row in profiled)])
    for title, name in (
        ("kernel launches", "cudaLaunchKernel"),
        ("CUDA-graph replays", "cudaGraphLaunch"),
        ("waits for the device", "cudaStreamSynchronize"),
    ):
        body.append([title, *(_number(row["profile"]["runtime_calls"].get(name, 0)) for row in profiled)])
    regions = [_number(row["profile"]["host_regions"].get("compiled regions", 0)) for row in profiled]
    body.append(["compiled regions entered", *regions])
    return _table(head, body)


def _about(document: dict[str, Any]) -> list[str]:
    machine, settings = document["machine"], document["settings"]
    gpu = machine.get("gpu", "no GPU")
    limits = f"{settings.get('recompile_limit')} and {settings.get('accumulated_recompile_limit')}"
    return [
        f"- Machine: {gpu}, driver {machine.get('driver', '-')}, {machine.get('cpu_cores')} CPU cores, "
        f"Python {machine['python']}, torch {machine.get('torch', '-')}, Triton {machine.get('triton', '-')}.",
        f"- Date: {document['date']}. Model: `{settings['shape']}`, {machine.get('parameters', 0):,} random "
        f"parameters, seed {settings['seed']}. float32, matmul precision `{settings['matmul_precision']}` (TF32 on the "
        "GPU) for every row.",
        f"- {settings['warm_up_forecasts']} forecasts of warm-up, then {settings['turns']} turns of "
        f"{settings['untimed_per_turn']} untimed and {settings['timed_per_turn']} timed forecasts, round-robin between "
        "live processes; all others sleep while one is timed.",
        f"- torch._dynamo's limits are its defaults in every row ({limits}).",
        "- First calls compile side by side and share Inductor's cache: they say what order of time compiling takes, "
        "not which tree compiles faster.",
        f"- Command: `{document['command']}`",
        "",
    ]


def _fingerprints(document: dict[str, Any]) -> list[str]:
    body = []
    for name, tree in document["trees"].items():
        parts = ", ".join(f"`{Path(file).name}` {digest[:12]}" for file, digest in tree["patched_files"].items())
        body.append([NAMES.get(name, name), f"`{tree['fingerprint'][:16]}`", parts])
    return _table(["tree", "sha256 of all sources", "the two files"], body)


def render(documents: dict[str, dict[str, Any]], plots: Sequence[str] = ()) -> str:
    """The whole page, from documents by file name. Same documents, same text."""
    lines = [
        "# The `graph-breaks` profile on a GPU",
        "",
        "Generated from the JSON beside this page by `python -m toto_patcher.evidence.tables docs/benchmarks`;",
        "do not edit.",
        "Ratios are medians, baseline over row: above 1 is faster; in brackets 95 % of the bootstrap resamples.",
        "",
    ]
    lines += [line for plot in plots for line in (f"![{plot}]({plot})", "")]
    for name, document in documents.items():
        rows = measured(document)
        lines += [f"## {name}", "", *_about(document)]
        slow = slower_rows(document)
        verdict = ", ".join(f"{row['workload']} {_name(row)}" for row in slow) if slow else "none"
        lines += [f"Rows slower than the same mode unpatched, beyond the spread: {verdict}.", ""]
        for workload in dict.fromkeys(row["workload"] for row in rows):
            shape = WORKLOADS[workload]
            here = [row for row in rows if row["workload"] == workload]
            lines += [
                f"### {workload}",
                "",
                f"{shape.context} x {shape.variates} context, horizon {shape.horizon}, {shape.samples} samples in "
                f"batches of {shape.per_batch}; later horizons {', '.join(map(str, shape.later_horizons))}.",
                "",
                *speed_table(here),
                *compile_table(here),
                *difference_table(here),
                *profile_table(here),
            ]
        failed = [row for row in document["rows"] if row.get("failure")]
        lines += [
            f"- failed: {row['workload']} {_name(row)}: {row['failure'].splitlines()[-1][:160]}" for row in failed
        ]
        lines += [f"- left out: {label}" for label in document["left_out"]]
        lines += ["### Trees", "", *_fingerprints(document)]
    return "\n".join(lines).rstrip() + "\n"


def short_table(document: dict[str, Any]) -> str:
    """A few columns for the terminal."""
    rows = measured(document)
    lines = [
        f"{'workload':14}{'tree, mode':38}{'median':>8}{'low':>8}{'high':>8}  {'vs eager':19}{'vs same mode':18} rec lim skip"
    ]
    for row in rows:
        spread = summarize(row["ms"])
        eager, twin = ratios(rows, row)
        now = row.get("totals", {}).get("now", {})
        tail = f"{later_recompilations(row)!s:>4} {now.get('limit_hits')!s:>3} {now.get('cudagraph_skips')!s:>3}"
        times = f"{spread.median:8.1f}{spread.low:8.1f}{spread.high:8.1f}"
        lines.append(f"{row['workload']:14}{_name(row):38}{times}  {_ratio(eager):18} {_ratio(twin):18}{tail}")
    lines += [
        f"failed: {row['workload']} {_name(row)}: {row['failure']}" for row in document["rows"] if row.get("failure")
    ]
    return "\n".join(lines)


def load(folder: Path) -> dict[str, dict[str, Any]]:
    """The benchmark documents of a folder by file name, in order."""
    return {path.name: json.loads(path.read_text()) for path in sorted(folder.glob(f"{TARGET}*.json"))}


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the page and, where matplotlib is installed, the plots; with ``--check`` compares the page instead."""
    parser = argparse.ArgumentParser(prog="tables", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true", help="exit 1 if the page is not what the documents give")
    parser.add_argument("--no-plots", action="store_true")
    options = parser.parse_args(arguments)
    documents = load(options.folder)
    page = options.folder / f"{TARGET}.md"
    plots = [f"{Path(name).stem}.png" for name in documents]
    text = render(documents, plots)
    if options.check:
        same = page.is_file() and page.read_text() == text
        print("same" if same else f"{page} is stale")
        return 0 if same else 1
    page.write_text(text)
    if not options.no_plots:
        from toto_patcher.evidence.plots import draw

        for name, plot in zip(documents, plots, strict=True):
            draw(documents[name], options.folder / plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
