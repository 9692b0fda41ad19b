"""Markdown tables of benchmark documents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from toto_patcher.evidence.benchmark_plan import BASELINES, UPSTREAM
from toto_patcher.evidence.benchmark_rows import NAMES, Row, baseline, later_recompilations, ratios, title
from toto_patcher.evidence.spread import Ratio, summarize
from toto_patcher.evidence.stages import STAGES


def ratio_text(ratio: Ratio | None) -> str:
    """A ratio with its interval."""
    if ratio is None:
        return "-"
    mark = " (slower)" if ratio.slower else ""
    return f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]{mark}"


def table(head: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join([" --- "] + [" ---: "] * (len(head) - 1)) + "|"]
    return lines + ["| " + " | ".join(row) + " |" for row in body] + [""]


def number_text(value: Any, digits: int = 0) -> str:
    """A number with separators; a dash for none."""
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
        numbers = [f"{spread.median:.1f}", quartiles, extremes, ratio_text(eager), ratio_text(twin), f"{first:.1f}"]
        body.append([title(row), *numbers])
    head = [
        "tree, mode",
        "median ms",
        "quartiles",
        "min-max",
        "x upstream eager",
        "x same mode unpatched",
        "first call s",
    ]
    return table(head, body)


def compile_table(rows: Sequence[Row]) -> list[str]:
    """Graphs, breaks, recompilations, limit hits, CUDA graphs and memory of one workload."""
    body = []
    for row in rows:
        after, totals, memory = row["warm_up"].get("after", {}), row.get("totals", {}), row.get("memory", {})
        now = totals.get("now", {})
        body.append(
            [
                title(row),
                number_text(after.get("graphs")),
                number_text(after.get("graph_breaks")),
                number_text(after.get("recompilations")),
                number_text(later_recompilations(row)),
                number_text(now.get("limit_hits")),
                number_text(now.get("cudagraph_skips")),
                number_text(memory.get("peak_allocated_mib")),
                number_text(memory.get("peak_reserved_mib")),
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
    return table(head, body)


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
            body.append([title(row), *numbers, f"{found['median_samples']:.1e}"])
    return table(head, body) if body else []


def profile_table(rows: Sequence[Row]) -> list[str]:
    """Where the time of one forecast goes: wall time per stage with the device drained, and device time."""
    profiled = [row for row in rows if row.get("profile")]
    if not profiled:
        return []
    head = ["stage (wall / device ms)", *(title(row) for row in profiled)]
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
    whole = []
    for row in profiled:
        wall, device = sum(row["profile"]["wall_ms"].values()), sum(row["profile"]["device_ms"].values())
        whole.append(f"{wall:.1f} / {device:.1f}")
    body.append(["all", *whole])
    for name, key in (("backbone calls", "forwards"), ("kernels, copies and fills on the device", "device_kernels")):
        body.append([name, *(number_text(row["profile"].get(key)) for row in profiled)])
    for name, call in (
        ("kernel launches", "cudaLaunchKernel"),
        ("CUDA-graph replays", "cudaGraphLaunch"),
        ("waits for the device", "cudaStreamSynchronize"),
    ):
        body.append([name, *(number_text(row["profile"]["runtime_calls"].get(call, 0)) for row in profiled)])
    regions = [number_text(row["profile"]["host_regions"].get("compiled regions", 0)) for row in profiled]
    body.append(["compiled regions entered", *regions])
    return table(head, body)


def tree_table(document: dict[str, Any]) -> list[str]:
    """Fingerprints of the trees that were measured."""
    body = []
    for name, tree in document["trees"].items():
        parts = ", ".join(f"`{Path(file).name}` {digest[:12]}" for file, digest in tree["patched_files"].items())
        body.append([NAMES.get(name, name), f"`{tree['fingerprint'][:16]}`", parts])
    return table(["tree", "sha256 of all sources", "the two files"], body)


def headline_table(rows: Sequence[Row]) -> list[str]:
    """One line per workload and compile mode: milliseconds before and after, and the cure for recompilation."""
    head = [
        "workload, compile mode",
        "upstream eager ms",
        "before ms",
        "after ms",
        "times faster",
        "recompilations",
        "limit hits",
    ]
    body = []
    for row in rows:
        twin = baseline(rows, row, BASELINES[row["tree"]], row["mode"]) if row["tree"] in BASELINES else None
        if twin is None or row["mode"] == "eager":
            continue
        eager = baseline(rows, row, UPSTREAM, "eager")
        name = row["workload"] if twin["tree"] == UPSTREAM else f"{row['workload']}, {NAMES[twin['tree']]}"
        ratio = ratios(rows, row)[1]
        hits = [item.get("totals", {}).get("now", {}).get("limit_hits") for item in (twin, row)]
        later = [later_recompilations(item) for item in (twin, row)]
        body.append(
            [
                f"{name}, {row['mode']}",
                f"{summarize(eager['ms']).median:.1f}" if eager else "-",
                f"{summarize(twin['ms']).median:.1f}",
                f"{summarize(row['ms']).median:.1f}",
                ratio_text(ratio),
                " → ".join(number_text(value) for value in later),
                " → ".join(number_text(value) for value in hits),
            ]
        )
    return table(head, body)
