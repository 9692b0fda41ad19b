"""Pictures of benchmark documents (needs matplotlib, the ``plot`` extra)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from toto_patcher.evidence.benchmark_rows import NAMES, measured
from toto_patcher.evidence.spread import summarize
from toto_patcher.evidence.workloads import WORKLOADS

_COLOURS = {"upstream": "#8a8f98", "patched": "#2563eb", "list-index": "#c2410c", "list-index-patched": "#0f766e"}
_OTHERS = ("#2563eb", "#0f766e", "#c2410c", "#7c3aed", "#a16207", "#be185d")


def draw(document: dict[str, Any], target: Path, *, logarithmic: bool = False) -> None:
    """One panel per workload: a bar per tree and mode, median with quartiles, into a PNG file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = measured(document)
    others = [name for name in document["trees"] if name not in _COLOURS]
    colours = {name: _OTHERS[place % len(_OTHERS)] for place, name in enumerate(others)} | _COLOURS
    workloads = [name for name in WORKLOADS if any(row["workload"] == name for row in rows)]
    figure, axes = pyplot.subplots(
        1, max(1, len(workloads)), figsize=(5.2 * max(1, len(workloads)), 4.6), squeeze=False
    )
    for axis, workload in zip(axes[0], workloads, strict=False):
        here = _one_eager([row for row in rows if row["workload"] == workload])
        for place, row in enumerate(here):
            spread = summarize(row["ms"])
            error = [[spread.median - spread.low], [spread.high - spread.median]]
            axis.barh(place, spread.median, xerr=error, color=colours[row["tree"]], capsize=2)
        axis.set_yticks(range(len(here)), [f"{NAMES.get(row['tree'], row['tree'])}\n{row['mode']}" for row in here])
        axis.tick_params(axis="y", labelsize=7)
        axis.invert_yaxis()
        if logarithmic:
            axis.set_xscale("log")
        axis.set_title(workload)
        axis.set_xlabel("milliseconds per forecast, median and quartiles")
    figure.suptitle(f"{document['machine'].get('gpu', 'CPU')}, torch {document['machine'].get('torch', '?')}")
    figure.tight_layout()
    figure.savefig(target, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _one_eager(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drops repeated eager rows of later groups, and sorts by mode so that trees stand side by side."""
    seen: set[tuple[str, str]] = set()
    kept = []
    for row in rows:
        key = (row["tree"], row["mode"])
        if key not in seen:
            seen.add(key)
            kept.append(row)
    order = {mode: place for place, mode in enumerate(("eager", "default", "reduce-overhead", "max-autotune"))}
    return sorted(kept, key=lambda row: order.get(row["mode"], 9))
