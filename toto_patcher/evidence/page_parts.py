"""What the pages have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from toto_patcher.evidence.benchmark_rows import title

Documents = dict[str, dict[str, Any]]


def opening(heading: str, *notes: str) -> list[str]:
    """Title, where the page comes from, and notes on how to read it."""
    origin = "Generated from the JSON beside this page by `python -m toto_patcher.evidence.page docs/benchmarks`;"
    return [f"# {heading}", "", origin, "do not edit.", *notes, ""]


def pictures(plots: Sequence[str]) -> list[str]:
    """The plots, one paragraph each."""
    return [line for plot in plots for line in (f"![{plot}]({plot})", "")]


def rounds(settings: dict[str, Any]) -> str:
    """How often a row was repeated."""
    return (
        f"- {settings['warm_up_forecasts']} forecasts of warm-up, then {settings['turns']} turns of "
        f"{settings['untimed_per_turn']} untimed and {settings['timed_per_turn']} timed forecasts, round-robin between "
        "live processes; all others sleep while one is timed."
    )


def gaps(document: dict[str, Any]) -> list[str]:
    """Rows that failed or were left out."""
    failed = [row for row in document["rows"] if row.get("failure")]
    lines = [f"- failed: {row['workload']} {title(row)}: {row['failure'].splitlines()[-1][:160]}" for row in failed]
    return lines + [f"- left out: {label}" for label in document["left_out"]]
