"""Markdown tables and the terminal's summary of benchmark documents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from toto_patcher.evidence.benchmark_plan import BASELINES, UPSTREAM
from toto_patcher.evidence.benchmark_rows import NAMES, Row, baseline, later_recompilations, measured, ratios, title
from toto_patcher.evidence.profiling import STAGES
from toto_patcher.evidence.spread import Ratio, summarize


def _ratio(ratio: Ratio | None) -> str:
    if ratio is None:
        return "-"
    mark = " (slower)" if ratio.slower else ""
    return f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]{mark}"


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join([" --- "] + [" ---: "] * (len(head) - 1)) + "|"]
    return lines + ["| " + " | ".join(row) + " |" for row in body] + [""]


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
    return _table(head, body)


def compile_table(rows: Sequence[Row]) -> list[str]:
    """Graphs, breaks, recompilations, limit hits, CUDA graphs and memory of one workload."""
    body = []
    for row in rows:
        after, totals, memory = row["warm_up"].get("after", {}), row.get("totals", {}), row.get("memory", {})
        now = totals.get("now", {})
        body.append(
            [
                title(row),
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
            body.append([title(row), *numbers, f"{found['median_samples']:.1e}"])
    return _table(head, body) if body else []


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
        body.append([name, *(_number(row["profile"].get(key)) for row in profiled)])
    for name, call in (
        ("kernel launches", "cudaLaunchKernel"),
        ("CUDA-graph replays", "cudaGraphLaunch"),
        ("waits for the device", "cudaStreamSynchronize"),
    ):
        body.append([name, *(_number(row["profile"]["runtime_calls"].get(call, 0)) for row in profiled)])
    regions = [_number(row["profile"]["host_regions"].get("compiled regions", 0)) for row in profiled]
    body.append(["compiled regions entered", *regions])
    return _table(head, body)


def short_table(document: dict[str, Any]) -> str:
    """A few columns for the terminal."""
    rows = measured(document)
    lines = [
        f"{'workload':14}{'tree, mode':38}{'median':>8}{'low':>8}{'high':>8}  "
        f"{'vs eager':19}{'vs same mode':18} rec lim skip"
    ]
    for row in rows:
        spread = summarize(row["ms"])
        eager, twin = ratios(rows, row)
        now = row.get("totals", {}).get("now", {})
        tail = f"{later_recompilations(row)!s:>4} {now.get('limit_hits')!s:>3} {now.get('cudagraph_skips')!s:>3}"
        times = f"{spread.median:8.1f}{spread.low:8.1f}{spread.high:8.1f}"
        lines.append(f"{row['workload']:14}{title(row):38}{times}  {_ratio(eager):18} {_ratio(twin):18}{tail}")
    lines += [
        f"failed: {row['workload']} {title(row)}: {row['failure']}" for row in document["rows"] if row.get("failure")
    ]
    return "\n".join(lines)


def tree_table(document: dict[str, Any]) -> list[str]:
    """Fingerprints of the trees that were measured."""
    body = []
    for name, tree in document["trees"].items():
        parts = ", ".join(f"`{Path(file).name}` {digest[:12]}" for file, digest in tree["patched_files"].items())
        body.append([NAMES.get(name, name), f"`{tree['fingerprint'][:16]}`", parts])
    return _table(["tree", "sha256 of all sources", "the two files"], body)


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
                _ratio(ratio),
                " → ".join(_number(value) for value in later),
                " → ".join(_number(value) for value in hits),
            ]
        )
    return _table(head, body)
