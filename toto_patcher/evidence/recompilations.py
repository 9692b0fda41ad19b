"""What was compiled anew, why, and what cures it: events grouped by function and cause, as a document and as text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from toto_patcher.evidence import causes
from toto_patcher.evidence.cause import Cause
from toto_patcher.evidence.compile_messages import Event, Kind

SCHEMA = 1
EXAMPLES = 5
TROUBLE: tuple[Kind, ...] = ("recompilation", "limit", "skip", "sizes")
"""What makes the exit status 1. A graph break costs time in every forecast, but nothing is compiled again for it."""

_ORDER: tuple[Kind, ...] = ("limit", "skip", "sizes", "recompilation", "break")
_NAMES: Mapping[Kind, str] = {
    "recompilation": "recompiled",
    "limit": "limit hit",
    "skip": "no CUDA graph",
    "sizes": "many CUDA graphs",
    "break": "graph break",
}
_TOTALS: Mapping[str, Kind] = {
    "recompilations": "recompilation",
    "limit_hits": "limit",
    "cudagraph_skips": "skip",
    "cudagraph_sizes": "sizes",
    "graph_breaks": "break",
}
_RESUMED = re.compile(r"torch_dynamo_resume_in_(.+)_at_(\d+)$")


@dataclass(frozen=True)
class Group:
    """Events of one kind, in one place, with one cause and the same guard but for its numbers.

    Attributes:
        guard: the first one's guard or reason.
        examples: the different guards, at most ``EXAMPLES``.
        seconds: what compiling took, where that is known.
    """

    kind: Kind
    function: str | None
    file: str | None
    line: int | None
    count: int
    guard: str
    examples: tuple[str, ...]
    cause: Cause
    hint: str | None
    seconds: float | None

    def entry(self) -> dict[str, Any]:
        """As the document has it."""
        return {
            "kind": self.kind,
            "count": self.count,
            "function": self.function,
            "file": self.file,
            "line": self.line,
            "guard": self.guard,
            "examples": list(self.examples),
            "cause": self.cause.id,
            "hint": self.hint,
            "seconds": None if self.seconds is None else round(self.seconds, 3),
        }


def group(events: Iterable[Event]) -> list[Group]:
    """Groups, those that matter most first."""
    found: dict[tuple[Any, ...], list[Event]] = {}
    for event in _without_echoes(list(events)):
        where = event.file, event.line, None if event.kind == "break" else event.function
        found.setdefault((event.kind, *where, re.sub(r"-?\d[\d.]*", "N", event.text)), []).append(event)
    groups = [_group(same) for same in found.values()]
    return sorted(groups, key=lambda one: (_ORDER.index(one.kind), one.cause.expected, -one.count))


def _without_echoes(events: Sequence[Event]) -> list[Event]:
    """Without the second report of a break: that its frame was left to Python."""
    reported = {(event.file, event.line) for event in events if event.kind == "break" and not event.skipped}
    return [event for event in events if not (event.skipped and (event.file, event.line) in reported)]


def _cause(events: Sequence[Event]) -> Cause:
    """Of a duplicate report torch leaves out the stack, so that only one of them may show the cause."""
    every = [causes.cause_of(event) for event in events]
    return min(every, key=lambda cause: (cause is causes.UNKNOWN, not (cause.context or cause.function)))


def _group(events: Sequence[Event]) -> Group:
    first = events[0]
    took = [event.seconds for event in events if event.seconds is not None]
    return Group(
        first.kind,
        next((event.function for event in events if event.function), None),
        first.file,
        first.line,
        len(events),
        first.text,
        tuple(dict.fromkeys(event.text for event in events))[:EXAMPLES],
        _cause(events),
        next((event.hint for event in events if event.hint), None),
        sum(took) if took else None,
    )


def merge(trace: Sequence[Event], text: Sequence[Event]) -> list[Event]:
    """Events of one run from its trace and from its stderr: the trace, and what it does not have.

    Skipped CUDA graphs are in the trace only where they were found out while compiling; limits are in both.
    """
    skips = max(([e for e in events if e.kind == "skip"] for events in (trace, text)), key=len)
    known = {(event.function, event.line) for event in trace if event.kind == "limit"}
    more = [e for e in text if e.kind == "sizes" or (e.kind == "limit" and (e.function, e.line) not in known)]
    return [*(event for event in trace if event.kind != "skip"), *skips, *more]


def document(
    groups: Sequence[Group], source: Mapping[str, Any], run: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The whole analysis.

    Args:
        groups: what was found.
        source: where: ``kind``, ``path`` and what is known of it.
        run: the command that was run, and how it ended.
    """
    counts: Counter[Kind] = Counter()
    for one in groups:
        counts[one.kind] += one.count
    took = [one.seconds for one in groups if one.kind == "recompilation" and one.seconds is not None]
    named = {one.cause.id: one.cause for one in groups}
    return {
        "schema": SCHEMA,
        "source": dict(source),
        "run": None if run is None else dict(run),
        "totals": {name: counts[kind] for name, kind in _TOTALS.items()}
        | {"recompile_seconds": round(sum(took), 3) if took else None},
        "groups": [one.entry() for one in groups],
        "causes": {
            cause.id: {
                "meaning": cause.meaning,
                "cure": cause.cure,
                "patches": list(cause.patches),
                "profile": cause.profile,
                "command": cause.command,
                "setting": cause.setting,
                "expected": cause.expected,
            }
            for cause in named.values()
        },
    }


def in_trouble(groups: Iterable[Group]) -> bool:
    """Whether anything was compiled again, gave up, or ran without its CUDA graph."""
    return any(one.kind in TROUBLE for one in groups)


def summary(document: Mapping[str, Any]) -> list[str]:
    """The document in words, line by line: totals, a table, and each cause once."""
    source, run, totals = document["source"], document["run"], document["totals"]
    lines = [_headline(source, totals)]
    if run is not None and (run["exit_status"] != 0):
        lines.append(f"The command ended with {run['exit_status']}: {run['command']}")
    if not document["groups"]:
        return [*lines, "Nothing was compiled again, and no graph broke."]
    rows = [("count", "what", "function", "where", "guard or reason", "cause")]
    rows += [
        (str(e["count"]), _NAMES[e["kind"]], _function(e["function"]), _place(e), _cut(e["guard"]), e["cause"])
        for e in document["groups"]
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += ["", *table, ""]
    for name, cause in document["causes"].items():
        lines += [f"{name}{' (expected)' if cause['expected'] else ''}: {cause['meaning']}", f"  cure: {cause['cure']}"]
        if cause["command"]:
            lines.append(f"  next: {cause['command']}  ({', '.join(cause['patches'])})")
        if cause["setting"]:
            lines.append(f"  setting: {cause['setting']}")
        lines += [f"  torch: {hint}" for hint in _hints(document, name)]
    if totals["limit_hits"]:
        lines += ["", _LIMIT_NOTE]
    return lines


_LIMIT_NOTE = (
    "A function that hit the limit runs eagerly from then on. Cure the cause; a higher limit "
    "(torch._dynamo.config.recompile_limit, or TORCH_DYNAMO_RECOMPILE_LIMIT with toto_compile_config.apply) only "
    "moves it."
)


def _headline(source: Mapping[str, Any], totals: Mapping[str, Any]) -> str:
    counted = [
        _number(totals["recompilations"], "recompilation"),
        _number(totals["limit_hits"], "limit hit"),
        _number(totals["cudagraph_skips"], "CUDA graph") + " skipped",
        _number(totals["graph_breaks"], "graph break"),
    ]
    text = ", ".join(counted)
    if source.get("compilations") is not None:
        text += f"; {_number(source['compilations'], 'compilation')} in {source['compile_seconds']:.1f} s"
        if totals["recompile_seconds"]:
            text += f", of which recompilations {totals['recompile_seconds']:.1f} s"
        if source["autotune_seconds"]:
            text += f", and autotuning {source['autotune_seconds']:.1f} s"
    return text + (f" (torch {source['torch']})" if source.get("torch") else "")


def _hints(document: Mapping[str, Any], cause: str) -> list[str]:
    """Torch's own advice, where the table has none."""
    if cause != causes.UNKNOWN.id:
        return []
    return list(dict.fromkeys(e["hint"] for e in document["groups"] if e["cause"] == cause and e["hint"]))


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _function(name: str | None) -> str:
    if name and (found := _RESUMED.match(name)):
        return f"{found[1]} (from line {found[2]})"
    return name or "-"


def _place(entry: Mapping[str, Any]) -> str:
    if not entry["file"]:
        return "-"
    short = "/".join(entry["file"].replace("\\", "/").split("/")[-2:])
    return f"{short}:{entry['line']}" if entry["line"] else short


def _cut(text: str, longest: int = 68) -> str:
    text = text or "(torch gives none)"
    return text if len(text) <= longest else text[: longest - 3] + "..."
