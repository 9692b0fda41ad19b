"""Pictures of benchmark documents (needs matplotlib, the ``plot`` extra)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toto_patcher.evidence.benchmark_rows import NAMES, measured
from toto_patcher.evidence.spread import summarize
from toto_patcher.evidence.workloads import WORKLOADS

_COLOURS = {"upstream": "#8a8f98", "patched": "#2563eb", "list-index": "#c2410c", "list-index-patched": "#0f766e"}
_OTHERS = ("#2563eb", "#0f766e", "#c2410c", "#7c3aed", "#a16207", "#be185d")


def draw(document: dict[str, Any], target: Path, *, logarithmic: bool = False) -> None:
    """One panel per workload: a bar, or on a logarithmic axis a point, per tree and mode; into a PNG file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.patches import Patch

    rows = measured(document)
    others = [name for name in document["trees"] if name not in _COLOURS]
    colours = {name: _OTHERS[place % len(_OTHERS)] for place, name in enumerate(others)} | _COLOURS
    workloads = [name for name in WORKLOADS if any(row["workload"] == name for row in rows)]
    most = max((len(_one_eager([row for row in rows if row["workload"] == name])) for name in workloads), default=1)
    figure, axes = pyplot.subplots(
        1,
        max(1, len(workloads)),
        figsize=(5.2 * max(1, len(workloads)), 1.6 + 0.5 * most),
        squeeze=False,
        layout="constrained",
    )
    for axis, workload in zip(axes[0], workloads, strict=False):
        here = _one_eager([row for row in rows if row["workload"] == workload])
        for place, row in enumerate(here):
            spread = summarize(row["ms"])
            error = [[spread.median - spread.low], [spread.high - spread.median]]
            colour = colours[row["tree"]]
            if logarithmic:  # a bar has a length, and where there is no zero a length says nothing
                axis.errorbar(spread.median, place, xerr=error, color=colour, marker="o", capsize=3)
            else:
                axis.barh(place, spread.median, xerr=error, color=colour, capsize=2)
        axis.set_yticks(range(len(here)), [f"{NAMES.get(row['tree'], row['tree'])}\n{row['mode']}" for row in here])
        axis.tick_params(axis="y", labelsize=7)
        axis.set_ylim(len(here) - 0.5, -0.5)
        if logarithmic:
            whole_decades(axis, [time for row in here for time in row["ms"]])
        axis.set_title(workload)
        axis.set_xlabel("milliseconds per forecast, median and quartiles")
    figure.suptitle(f"{document['machine'].get('gpu', 'CPU')}, torch {document['machine'].get('torch', '?')}")
    shown = [name for name in document["trees"] if any(row["tree"] == name for row in rows)]
    handles = [Patch(color=colours[name], label=NAMES.get(name, name)) for name in shown]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)), frameon=False)
    figure.savefig(target, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def whole_decades(axis: Any, values: Sequence[float]) -> None:
    """A logarithmic axis from a power of ten to a power of ten, with plain numbers at these and nowhere else."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_xscale("log")
    if values:
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        axis.set_xlim(10.0**low, 10.0 ** max(high, low + 1))
    axis.xaxis.set_major_locator(LogLocator(base=10.0))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.grid(axis="x", which="both", color="#e2e8f0", linewidth=0.6)
    axis.set_axisbelow(True)


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
