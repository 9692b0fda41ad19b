"""The terminal's summary of an accuracy document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

HEAD = ("series", "measure", "upstream", "patched", "difference", "95 % interval", "upstream with itself", "verdict")


def summary(document: Mapping[str, Any]) -> Iterator[str]:
    """The verdict, a table with a line for each measure of each series, and what was compared."""
    if document["verdict"] == "not-patched":
        yield "This tree is not patched: there is nothing to compare upstream with."
        yield "  next: toto-patch apply --backup"
        return
    if document["findings"]:
        yield from _table([HEAD, *(_row(finding) for finding in document["findings"])])
        yield ""
    yield from _said(document)
    yield from (f"FAIL {failure}" for failure in document["failures"])
    if document["verdict"] == "inside":
        chance = document["p_value"]
        yield f"The patched tree is as accurate as upstream is with itself (p = {chance:.2g})."


def _row(finding: Mapping[str, Any]) -> tuple[str, ...]:
    delta = finding["delta"]
    upstream, candidate = (_number(finding["measure"], finding[side]) for side in ("upstream", "candidate"))
    return (
        finding["scope"],
        finding["measure"],
        upstream,
        candidate,
        f"{delta['value']:+.2%}",
        f"[{delta['low']:+.2%}, {delta['high']:+.2%}]",
        f"up to {finding['bound']:.2%}",
        f"outside ({' and '.join(finding['outside'])})" if finding["outside"] else "inside",
    )


def _number(measure: str, interval: Mapping[str, float] | None) -> str:
    if interval is None:
        return ""
    return f"{interval['value']:.2%}" if measure == "mape" else f"{interval['value']:.5g}"


def _said(document: Mapping[str, Any]) -> Iterator[str]:
    settings, tree = document["settings"], document["tree"]
    how = f"compiled ({tree['mode']})" if tree["compiled"] else "eager"
    if settings["compile_mode"] != "eager" and tree["compiled"] is False:
        how = "eager, because compiling failed"
    windows = sum(len(one["origins"]) for one in document["series"])
    yield (
        f"{windows} windows of {len(document['series'])} series, {len(settings['seeds'])} seeds, "
        f"{settings['samples']} samples, horizon {settings['horizon']}; upstream eager, profile "
        f"{tree['profile'] or ', '.join(tree['patches'])} {how}, on {settings['device']}."
    )
    if document["same_seed"]:
        equal = min(one["equal"] for one in document["same_seed"])
        largest = max(one["largest"] for one in document["same_seed"])
        if equal > 0.5:
            yield f"Same seed, same sample: {equal:.1%} are equal; the largest difference is {largest:.2g} deviations."
    if tree["edited"]:
        yield f"Edited since it was patched: {', '.join(tree['edited'])}."
    for one in document["left_out"]:
        yield f"Left out: {one['why']}."


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    for row in rows:
        cells = (
            cell.rjust(width) if 2 <= place <= 6 else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()
