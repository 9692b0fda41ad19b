"""Goals against what was measured, in words and as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from toto_patcher.evidence.benchmark_plan import ABLATION, UPSTREAM
from toto_patcher.evidence.benchmark_rows import Row, best_upstream, measured, times_faster
from toto_patcher.evidence.full_graph_tables import PEAKS, eager, share, share_beside_weights
from toto_patcher.evidence.goals import GOALS, WARM_START_S, Goal
from toto_patcher.evidence.spread import Ratio, summarize
from toto_patcher.evidence.tables import ratio_text, table

CANDIDATE = "full-graph"


def judged(document: dict[str, Any]) -> bool:
    """Whether the goals are about a run: base shape, TF32 on a GPU or float32 on a CPU."""
    settings = document["settings"]
    return (settings["shape"], settings["device"], settings["precision"]) in (
        ("base", "cuda", "tf32"),
        ("base", "cpu", "fp32"),
    )


def fastest(rows: Sequence[Row], workload: str, *, compiled: bool) -> Row | None:
    """The candidate's fastest row on a workload, of those that are compiled or of those that are not."""
    mine = [
        row
        for row in rows
        if row["tree"] == CANDIDATE and row["workload"] == workload and (row["mode"] != "eager") is compiled
    ]
    return min(mine, key=lambda row: summarize(row["ms"]).median, default=None)


def goal_table(document: dict[str, Any]) -> list[str]:
    """Every goal of a document's workloads: what was asked, what was measured, reached or not."""
    if not judged(document):
        return []
    rows, body = measured(document), []
    device = document["settings"]["device"]
    for workload in dict.fromkeys(row["workload"] for row in rows):
        goal = GOALS[device].get(workload)
        if goal is None:
            continue
        # On a GPU the goals are the compiled profile's; on a CPU it is to reach them either way.
        chosen = [fastest(rows, workload, compiled=way) for way in ((False, True) if device == "cpu" else (True,))]
        for row in chosen:
            if row is not None:
                body += [[f"{workload}, {row['mode']}", *cells] for cells in _goals(rows, row, goal)]
    return table(["workload, mode", "goal", "asked", "measured", "verdict"], body) if body else []


def _goals(rows: Sequence[Row], row: Row, goal: Goal) -> list[list[str]]:
    cells = [_faster("x upstream eager", goal.eager, times_faster(eager(rows, row), row))]
    if goal.best is not None:
        cells.append(_faster("x upstream's best mode", goal.best, times_faster(best_upstream(rows, row), row)))
    if goal.memory is not None:
        shares = [share(rows, row, peak) for peak in PEAKS]
        beside = [share_beside_weights(rows, row, peak) for peak in PEAKS]
        told = f"{_percents(shares)}; beside the weights {_percents(beside)}"
        known = [each for each in shares if each is not None]
        verdict = _verdict(max(known) <= goal.memory) if known else "not measured"
        cells.append(
            ["peak memory of upstream eager's, allocated and reserved", f"<= {goal.memory:.1%}", told, verdict]
        )
    start = row.get("warm_start_s")
    if start is not None:
        asked = f"<= {WARM_START_S:.0f} s"
        cells.append(["second process, two forecasts", asked, f"{start:.1f} s", _verdict(start <= WARM_START_S)])
    return cells


def _percents(shares: Sequence[float | None]) -> str:
    return ", ".join("-" if each is None else f"{each:.1%}" for each in shares)


def _faster(name: str, wanted: float, ratio: Ratio | None) -> list[str]:
    verdict = "not measured" if ratio is None else _verdict(ratio.value >= wanted)
    return [name, f">= {wanted:g}x", ratio_text(ratio), verdict]


def _verdict(reached: bool) -> str:
    return "reached" if reached else "**not reached**"


def headline_table(documents: dict[str, dict[str, Any]]) -> list[str]:
    """One line per document and workload: milliseconds, ratios, memory, second start."""
    head = [
        "workload",
        "upstream eager ms",
        "upstream's best mode ms",
        "full-graph eager ms",
        "full-graph compiled ms",
        "x upstream eager",
        "x upstream's best mode",
        "peak memory",
        "second process s",
    ]
    body = []
    for document in documents.values():
        rows = [row for row in measured(document) if not row["tree"].startswith(ABLATION)]
        for workload in dict.fromkeys(row["workload"] for row in rows):
            row = fastest(rows, workload, compiled=True)
            reference = None if row is None else eager(rows, row)
            if row is None or reference is None:
                continue
            best, plain = best_upstream(rows, row), fastest(rows, workload, compiled=False)
            used, start = share(rows, row, PEAKS[0]), row.get("warm_start_s")
            place = "" if document["settings"]["device"] == "cuda" else f", {document['settings']['device']}"
            body.append(
                [
                    f"{workload}{place}",
                    _milliseconds(reference),
                    _milliseconds(best, with_mode=True),
                    _milliseconds(plain),
                    _milliseconds(row, with_mode=True),
                    ratio_text(times_faster(reference, row)),
                    ratio_text(times_faster(best, row)),
                    "-" if used is None else f"{used:.1%}",
                    "-" if start is None else f"{start:.1f}",
                ]
            )
    return table(head, body)


def _milliseconds(row: Row | None, *, with_mode: bool = False) -> str:
    if row is None:
        return "-"
    text = f"{summarize(row['ms']).median:,.2f}"
    return f"{text} ({row['mode']})" if with_mode else text


def candidates(rows: Sequence[Row]) -> list[str]:
    """Names of the trees that are neither upstream nor of an ablation, in order."""
    names = dict.fromkeys(row["tree"] for row in rows)
    return [name for name in names if name != UPSTREAM and not name.startswith(ABLATION)]
