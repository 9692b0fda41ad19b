"""Pictures of a stress document (needs matplotlib, the ``plot`` extra)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toto_patcher.evidence import plots

LATENCY, ACCURACY = "compile_stress_latency.png", "compile_stress_accuracy.png"


def draw(document: Mapping[str, Any], folder: Path) -> list[Path]:
    """Latencies of every row; differences of errors as points, the original's own spread grey. Returns the files."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    files = []
    timed = [row for row in document["rows"] if row["ms"]]
    if timed:
        figure, axis = pyplot.subplots(figsize=(8, 1.2 + 0.7 * len(timed)), layout="constrained")
        axis.boxplot(
            [row["ms"] for row in timed],
            orientation="horizontal",
            whis=(5, 95),
            flierprops={"marker": ".", "markersize": 3},
            medianprops={"color": "#c2410c"},
        )
        plots.whole_decades(axis, [time for row in timed for time in row["ms"]])
        axis.set_yticks(range(1, len(timed) + 1), [row["name"] for row in timed])
        axis.set(xlabel="milliseconds per forecast\nline: median, box: quartiles, whiskers: 5 and 95 %, dots: the rest")
        axis.invert_yaxis()
        files.append(folder / LATENCY)
        figure.savefig(files[-1], dpi=110, metadata={"Software": None})
        pyplot.close(figure)
    judged = [row for row in document["rows"] if row["accuracy"]]
    if judged:
        figure, axes = pyplot.subplots(
            1, len(judged), figsize=(4.2 * len(judged), 3.8), squeeze=False, sharex=True, layout="constrained"
        )
        for axis, row in zip(axes[0], judged, strict=True):
            found = [one for one in row["accuracy"] if one["measure"] == "mae"]
            places, spreads = range(len(found)), [100 * one["spread"] for one in found]
            wide, left = [2 * spread for spread in spreads], [-spread for spread in spreads]
            axis.barh(places, wide, left=left, color="#cbd5e1", label="what the original's own samples explain")
            shown = [(100 * one["delta"], place) for place, one in enumerate(found) if math.isfinite(one["delta"])]
            if shown:
                axis.plot(*zip(*shown, strict=True), "o", color="#2563eb", label="patched")
            axis.set_yticks(places, [one["scope"] for one in found])
            for side in (-1, 1):
                limit = side * 100 * document["limits"]["mae_delta"]
                axis.axvline(limit, color="#c2410c", linestyle="--", linewidth=1, label="limit" if side > 0 else None)
            axis.set(title=row["name"], xlabel="mean absolute error against the original's, %")
            axis.invert_yaxis()
        figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        files.append(folder / ACCURACY)
        figure.savefig(files[-1], dpi=110, metadata={"Software": None})
        pyplot.close(figure)
    return files
