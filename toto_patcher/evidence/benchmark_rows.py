"""Reads benchmark documents: which rows compare with which, and what became of their compilation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from toto_patcher.evidence.benchmark_plan import BASELINES, LIST_INDEX, LIST_INDEX_PATCHED, PATCHED, UPSTREAM
from toto_patcher.evidence.spread import Ratio, speedup

Row = dict[str, Any]
NAMES = {
    UPSTREAM: "upstream",
    PATCHED: "patched",
    LIST_INDEX: "list index",
    LIST_INDEX_PATCHED: "list index, patched",
}


def measured(document: dict[str, Any]) -> list[Row]:
    """The rows that have repetitions to summarise."""
    return [row for row in document["rows"] if len(row["ms"]) >= 2]


def baseline(rows: Iterable[Row], row: Row, tree: str, mode: str) -> Row | None:
    """The row of another tree or mode on the same workload in the same group, if it was measured."""
    wanted = (row["workload"], row["group"], tree, mode, len(row["ms"]))
    for other in rows:
        found = (other["workload"], other["group"], other["tree"], other["mode"], len(other["ms"]))
        if found == wanted and other is not row:
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


def title(row: Row) -> str:
    """How tables call a row."""
    return f"{NAMES.get(row['tree'], row['tree'])}, {row['mode']}"
