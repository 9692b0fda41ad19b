"""Which limits a stress run broke, and the verdict in words, which is made of the same list. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from toto_patcher.evidence.stress_accuracy import OVERALL
from toto_patcher.evidence.stress_limits import Limits

Row = Mapping[str, Any]
UPSTREAM, EAGER = "upstream", "eager"


@dataclass(frozen=True)
class Broken:
    """One limit that one row broke.

    Attributes:
        limit: a key of ``[tool.toto-patch.stress]``, or ``runs``, ``finite``, ``compiled``, which cannot be configured.
        row: the row's name.
        value: what was measured; ``None`` where nothing was.
        allowed: what the limit allows.
        told: both in words.
    """

    limit: str
    row: str
    value: float | None
    allowed: float
    told: str


def judge(rows: Sequence[Row], limits: Limits) -> list[Broken]:
    """Every limit that is broken, row by row. What was not measured is broken too: nothing passes unseen."""
    found = [broken for row in rows for broken in _judge(row, limits)]
    if not any(row["tree"] != UPSTREAM for row in rows):
        found.append(Broken("runs", "patched", 0, 1, "no patched row was measured"))
    return found


def sentence(broken: Sequence[Broken], rows: Sequence[Row]) -> str:
    """The verdict."""
    if not broken:
        names = "; ".join(row["name"] for row in rows if row["tree"] != UPSTREAM)
        return f"PASSED: no limit is broken ({names})."
    names = ", ".join(dict.fromkeys(one.limit for one in broken))
    return f"FAILED: {len(broken)} broken {'limit' if len(broken) == 1 else 'limits'} ({names})."


def _judge(row: Row, limits: Limits) -> Iterator[Broken]:
    name, compiled = row["name"], row["mode"] != EAGER

    def over(limit: str, value: float | None, allowed: float, what: str) -> Iterator[Broken]:
        if value is None or not value <= allowed:
            yield Broken(limit, name, value, allowed, f"{_number(value)} {what}, and {allowed:g} allowed")

    if row["failure"]:
        yield Broken("runs", name, None, 0, f"it does not run: {row['failure']}")
        return
    yield from over("finite", row["bad_values"], 0, "values are NaN or infinite")
    if row["tree"] == UPSTREAM:
        return
    if compiled and not (row["compiled"] and row["compiler"]["graphs"]):
        yield Broken("compiled", name, 0, 1, "it runs eagerly, though it was asked to compile")
    if not row["bad_values"]:
        yield from _accuracy(row, limits)
    if compiled:
        compiler = row["compiler"]
        yield from over(
            "recompilations", row["recompilations"], limits.recompilations, "compilations after the warm-up"
        )
        yield from over(
            "recompile_limit_hits", compiler["limit_hits"], limits.recompile_limit_hits, "hits of torch's own limit"
        )
        if row["device"] == "cuda":
            skips, allowed = compiler["cudagraph_skips"], limits.cudagraph_skips
            yield from over("cudagraph_skips", skips, allowed, "CUDA graphs skipped")
    yield from _speed(row, "min_speedup" if compiled else "min_speedup_eager", limits)


def _accuracy(row: Row, limits: Limits) -> Iterator[Broken]:
    found = [one for one in row["accuracy"] if one["measure"] == "mae"]
    allowed, name = limits.mae_delta, row["name"]
    if not any(one["scope"] == OVERALL for one in found):
        yield Broken("mae_delta", name, None, allowed, "the error was not compared with the original's")
        return
    for one in found:
        where, delta, spread = one["scope"], one["delta"], one["spread"]
        own = f"where the original's samples alone give up to {spread:.1%}"
        if not abs(delta) <= max(allowed, spread):
            told = f"the error is off the original's by {delta:+.1%} ({where}), and {allowed:.1%} allowed, {own}"
            yield Broken("mae_delta", name, delta if math.isfinite(delta) else None, allowed, told)
        elif where == OVERALL and not spread <= allowed:
            told = f"nothing is known about {allowed:.1%}, {own}: more iterations are needed"
            yield Broken("mae_delta", name, None, allowed, told)


def _speed(row: Row, limit: str, limits: Limits) -> Iterator[Broken]:
    allowed, ratio = getattr(limits, limit), row["speedup"]
    if ratio is None:
        yield Broken(limit, row["name"], None, allowed, "its speed was not compared with the original's")
    elif not ratio["high"] >= allowed:
        interval = f"[{ratio['low']:.2f}, {ratio['high']:.2f}]"
        told = f"{ratio['value']:.2f} {interval} times the original's speed in eager mode, and {allowed:g} is the least"
        yield Broken(limit, row["name"], ratio["value"], allowed, told)


def _number(value: float | None) -> str:
    return "an unknown number of" if value is None else f"{value:g}"
