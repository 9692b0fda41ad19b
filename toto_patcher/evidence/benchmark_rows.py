"""Reads benchmark documents: which rows compare with which, and what became of their compilation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from toto_patcher.evidence.benchmark_plan import BASELINES, LIST_INDEX, LIST_INDEX_PATCHED, PATCHED, UPSTREAM
from toto_patcher.evidence.spread import Ratio, paired, summarize
from toto_patcher.evidence.workloads import MODES

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
    wanted = (row["workload"], row["group"], tree, mode)
    for other in rows:
        found = (other["workload"], other["group"], other["tree"], other["mode"])
        if found == wanted and other is not row and len(other["ms"]) >= 2:
            return other
    return None


def times_faster(reference: Row | None, row: Row) -> Ratio | None:
    """How many times faster a row is than another, if both were measured in the same turns."""
    if reference is None or reference is row:
        return None
    per_turn = (reference.get("timed_per_turn", 1), row.get("timed_per_turn", 1))
    return paired(reference["ms"], per_turn[0], row["ms"], per_turn[1])


def ratios(rows: Sequence[Row], row: Row) -> tuple[Ratio | None, Ratio | None]:
    """How many times faster than upstream eager, and than the tree's own baseline in the same mode."""
    eager = baseline(rows, row, UPSTREAM, "eager")
    twin = baseline(rows, row, BASELINES[row["tree"]], row["mode"]) if row["tree"] in BASELINES else None
    return times_faster(eager, row), times_faster(twin, row)


def best_upstream(rows: Iterable[Row], row: Row) -> Row | None:
    """Upstream in the compile mode that is fastest on this workload, in the same group."""
    compiled = [
        other
        for other in rows
        if (other["workload"], other["group"], other["tree"]) == (row["workload"], row["group"], UPSTREAM)
        and other["mode"] in MODES
        and len(other["ms"]) >= 2
    ]
    return min(compiled, key=lambda other: summarize(other["ms"]).median, default=None)


def later_recompilations(row: Row) -> int | None:
    """Recompilations after the warm-up: in the timed forecasts, at every later horizon, and under the profiler."""
    return _later(row, "recompilations")


def later_graphs(row: Row) -> int | None:
    """Graphs compiled after the warm-up: also those that are new rather than compiled again."""
    return _later(row, "graphs")


def _later(row: Row, counter: str) -> int | None:
    try:
        return int(row["totals"]["now"][counter] - row["warm_up"]["after"][counter])
    except KeyError:
        return None


def slower_rows(document: dict[str, Any]) -> list[Row]:
    """Patched rows that are slower than their baseline in the same mode, beyond the spread."""
    rows = measured(document)
    return [row for row in rows if (twin := ratios(rows, row)[1]) is not None and twin.slower]


def title(row: Row) -> str:
    """How tables call a row."""
    return f"{NAMES.get(row['tree'], row['tree'])}, {row['mode']}"
