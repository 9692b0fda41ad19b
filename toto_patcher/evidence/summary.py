"""The terminal's summary of a benchmark document."""

from __future__ import annotations

from typing import Any

from toto_patcher.evidence.benchmark_plan import BASELINES
from toto_patcher.evidence.benchmark_rows import best_upstream, later_graphs, measured, ratios, times_faster, title
from toto_patcher.evidence.spread import Ratio, summarize

HEAD = ("workload", "tree, mode", "ms", "quartiles", "x eager", "x best", "anew", "skips", "MiB", "first s", "again s")


def short_table(document: dict[str, Any]) -> str:
    """A line per row: milliseconds, times faster than upstream eager and than the best compiled upstream (for the trees
    of ``graph-breaks``: than upstream in the same mode), graphs compiled after the warm-up, skipped CUDA graphs, peak
    memory, and seconds of the first call and of a second process's start."""
    rows = measured(document)
    lines = [HEAD]
    for row in rows:
        spread = summarize(row["ms"])
        eager, twin = ratios(rows, row)
        best = twin if row["tree"] in BASELINES else times_faster(best_upstream(rows, row), row)
        cells = (row["workload"], title(row), f"{spread.median:.1f}", f"{spread.low:.1f}-{spread.high:.1f}")
        ratio_cells = (_ratio(eager), _ratio(best), _count(later_graphs(row)))
        skips = row.get("totals", {}).get("now", {}).get("cudagraph_skips")
        memory = row.get("memory", {}).get("peak_allocated_mib")
        first = row["warm_up"]["ms"][0] / 1e3
        lines.append(
            (*cells, *ratio_cells, _count(skips), _count(memory), f"{first:.1f}", _count(row.get("warm_start_s"), 1))
        )
    widths = [max(len(line[place]) for line in lines) for place in range(len(HEAD))]
    text = ["  ".join(_aligned(line, widths)).rstrip() for line in lines]
    for row in document["rows"]:
        if row.get("failure"):
            text.append(f"failed: {row['workload']} {title(row)}: {row['failure'].strip().splitlines()[-1]}")
    text += [f"left out: {label}" for label in document["left_out"]]
    return "\n".join(text)


def complete(document: dict[str, Any]) -> bool:
    """Whether every row was measured."""
    return not document["left_out"] and not any(row.get("failure") for row in document["rows"])


def _aligned(line: tuple[str, ...], widths: list[int]) -> list[str]:
    return [
        cell.ljust(width) if place < 2 else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]


def _ratio(ratio: Ratio | None) -> str:
    return "-" if ratio is None else f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"


def _count(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
