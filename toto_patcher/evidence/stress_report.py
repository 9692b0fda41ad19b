"""A stress document as a page, as lines for a terminal, and as files."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from toto_patcher.evidence.spread import summarize
from toto_patcher.evidence.stress_accuracy import OVERALL
from toto_patcher.supported import install_hint

Document = Mapping[str, Any]
HEAD = ("row", "median ms", "p95 ms", "spread", "x original", "error", "recompiled", "graphs", "breaks", "skips")
"""Of the table; ``spread`` is the distance between the quartiles as a share of the median."""
NO_PLOTS = f"No plots: they need matplotlib ({install_hint('plot')})."


def write(document: Document, folder: Path, report: str, results: str) -> list[Path]:
    """Writes the page, the raw document and, with matplotlib, plots; returns the files."""
    plots: list[Path] = []
    if importlib.util.find_spec("matplotlib") is not None:
        from toto_patcher.evidence import stress_plots

        plots = stress_plots.draw(document, folder)
    page, raw = folder / report, folder / results
    page.write_text(render(document, [plot.name for plot in plots]), encoding="utf-8")
    raw.write_text(json.dumps(finite(document), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return [page, raw, *plots]


def finite(value: Any) -> Any:
    """The value with ``null`` for NaN and infinities, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


def summary(document: Document) -> Iterator[str]:
    """The table, what is broken, and the verdict; for a terminal."""
    yield from _warnings(document)
    table = [HEAD, *map(_cells, document["rows"])]
    widths = [max(len(row[place]) for row in table) for place in range(len(HEAD))]
    for row in table:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        yield "  ".join(cells)
    yield from (f"BROKEN {one['limit']}: {one['row']}: {one['told']}" for one in document["broken"])
    yield document["verdict"]


def render(document: Document, plots: Sequence[str]) -> str:
    """The page."""
    settings, machine, tree = document["settings"], document["machine"], document["tree"]
    lines = ["# Stress test of the compiled Toto", "", f"**{document['verdict']}**", ""]
    lines += [f"- `{one['limit']}`, {one['row']}: {one['told']}" for one in document["broken"]]
    lines += ["", *(f"**{line}**\n" for line in _warnings(document))]
    lines += _table([HEAD, *map(_cells, document["rows"])])
    where = machine.get("gpu") or f"CPU, {machine.get('threads', '?')} threads"
    lines += [
        "",
        f"Medians of {settings['iterations']} interleaved iterations over {_windows(document)} real windows: "
        f"{settings['context']} steps of context, {settings['horizon']} ahead, {settings['samples']} samples. `x "
        "original`: times as fast as the original in eager mode; in brackets 95 % of the bootstrap resamples. `error`: "
        "mean absolute error against the original's, and what the original's own samples make of it. `recompiled`: "
        "after the warm-up.",
        "",
        f"{where}, torch {machine.get('torch', '?')}, {document['date']}, profile {tree['profile'] or 'of its own'}, "
        f"release {tree['release'] or 'unknown'}, checkpoint {settings['checkpoint']['name']}: `{document['command']}`",
        "",
        "## Starts and memory",
        "",
        *_table(
            [("row", "first ms", "second ms", "first of a second process", "memory"), *map(_start, document["rows"])]
        ),
        "",
        "The first forecast of a process compiles, here "
        + ("on empty caches; that of a second process finds them filled." if settings["again"] else "on any caches."),
        "",
        "## Accuracy",
        "",
        *_table([("row", "measure", "series", "original", "row's", "difference", "spread"), *_accuracy(document)]),
        "",
        "## Limits",
        "",
        *_table([("limit", "value"), *((f"`{name}`", f"{value:g}") for name, value in document["limits"].items())]),
        "",
        "Besides: every row runs, every value is finite, and rows that are to compile do.",
        "",
    ]
    lines += [line for plot in plots for line in (f"![{Path(plot).stem}]({plot})", "")] or [NO_PLOTS, ""]
    return "\n".join(lines)


def _warnings(document: Document) -> Iterator[str]:
    if drifted := document["tree"]["drifted"]:
        yield (
            f"WARNING: {', '.join(drifted)} {'is' if len(drifted) == 1 else 'are'} not what toto-patch wrote. What was "
            "measured is the source on disk; toto-patch verify-only refuses it."
        )
    if edited := document["tree"]["edited"]:
        yield (
            f"WARNING: {', '.join(edited)} {'is' if len(edited) == 1 else 'are'} not the release's. "
            "Such edits are in the original tree too, so what they do is not judged."
        )


def _windows(document: Document) -> int:
    return sum(len(series["origins"]) for series in document["series"])


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    if row["failure"] or len(row["ms"]) < 2:
        return (row["name"], "does not run", *[""] * (len(HEAD) - 2))
    found, compiler, ratio = summarize(row["ms"]), row["compiler"], row["speedup"]
    overall = next((one for one in row["accuracy"] if (one["scope"], one["measure"]) == (OVERALL, "mae")), None)
    error = f"{overall['delta']:+.1%} (±{overall['spread']:.1%})" if overall else ""
    if row["bad_values"]:
        error = f"{row['bad_values']} not finite"
    counts = [row["recompilations"], *(compiler.get(key) for key in ("graphs", "graph_breaks", "cudagraph_skips"))]
    return (
        row["name"],
        f"{found.median:.1f}",
        f"{sorted(row['ms'])[-(len(row['ms']) // 20 + 1)]:.1f}",
        f"{found.iqr / found.median:.0%}",
        f"{ratio['value']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]" if ratio else "",
        error,
        *("?" if count is None else str(count) for count in counts),
    )


def _start(row: Mapping[str, Any]) -> tuple[str, ...]:
    times = [*row["warm_up"].get("ms", []), None, None][:2]
    memory = row["memory"] or {}
    used = [f"{memory[key]:.0f} MiB {what}" for key, what in _MEMORY.items() if memory.get(key) is not None]
    return (row["name"], *(_ms(value) for value in (*times, row["first_again_ms"])), ", ".join(used))


_MEMORY = {
    "peak_allocated_mib": "allocated on the device",
    "peak_reserved_mib": "reserved there",
    "peak_process_mib": "of the process",
}


def _accuracy(document: Document) -> Iterator[tuple[str, ...]]:
    for row in document["rows"]:
        for one in row["accuracy"]:
            whole = one["scope"] == OVERALL
            errors = ("", "") if whole else (f"{one['upstream']:.4g}", f"{one['measured']:.4g}")
            yield (row["name"], one["measure"], one["scope"], *errors, f"{one['delta']:+.2%}", f"±{one['spread']:.2%}")


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return [lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]]
