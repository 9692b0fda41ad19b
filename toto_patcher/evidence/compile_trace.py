"""Events from the files that torch writes into the folder of TORCH_TRACE: one a process, and nothing is left out.

A record is a line: a prefix as in logs, then a JSON object whose one named key says what it is. Lines that start with a
tab follow as its payload. Newer releases add kinds of records and keys; what is missing here is done without.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from toto_patcher.evidence import compile_messages
from toto_patcher.evidence.compile_messages import Event

FILES = "dedicated_log_torch_trace_*.log"
_WANTED = ("recompile_reasons", "dynamo_graph_break_reason", "torch_version")
"""The artifacts whose payload is kept."""


class Place(NamedTuple):
    """A function, as torch names it."""

    function: str | None = None
    file: str | None = None
    line: int | None = None


@dataclass
class Trace:
    """What the files of a folder report.

    Attributes:
        files: how many there are.
        records: lines of JSON that were understood.
        damaged: lines that look like records and are not; the last one of a process that was killed, say.
        compilations: frames compiled, first ones and recompilations.
        seconds: what they took.
        autotune_seconds: how much of it went into trying kernels.
        torch: the version that wrote it, where it says so.
    """

    files: int = 0
    records: int = 0
    damaged: int = 0
    compilations: int = 0
    seconds: float = 0.0
    autotune_seconds: float = 0.0
    torch: str | None = None
    events: list[Event] = field(default_factory=list)


def is_trace(first_line: str) -> bool:
    """Whether a file that starts like this was written under TORCH_TRACE."""
    return _record(first_line) is not None


def read_folder(folder: Path) -> Trace:
    """Every trace file of a folder; one without any gives a trace without files."""
    trace = Trace()
    for path in sorted(folder.glob(FILES)):
        read_file(path, trace)
    return trace


def read_file(path: Path, trace: Trace) -> None:
    """Adds what one file, that is one process, reports."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        _Process(trace).read(lines)
    trace.files += 1


def _record(line: str) -> dict[str, Any] | None:
    start = line.find("] {")
    if start < 0 or line.startswith("\t"):
        return None
    try:
        loaded = json.loads(line[start + 2 :])
    except ValueError:
        return None
    return loaded if isinstance(loaded, dict) else None


def _records(lines: Iterable[str], trace: Trace) -> Iterator[tuple[dict[str, Any], str]]:
    """Each record with its payload, which is empty where nobody needs it."""
    record: dict[str, Any] | None = None
    payload: list[str] = []
    wanted = False
    for line in lines:
        if line.startswith("\t"):
            if wanted:
                payload.append(line[1:].rstrip("\n"))
            continue
        if record is not None:
            yield record, "\n".join(payload)
        record, payload = _record(line), []
        wanted = record is not None and _artifact(record) in _WANTED
        trace.records += record is not None
        trace.damaged += record is None and bool(line.strip())
    if record is not None:
        yield record, "\n".join(payload)


def _artifact(record: dict[str, Any]) -> str | None:
    found = record.get("artifact")
    return found.get("name") if isinstance(found, dict) else None


class _Process:
    """One file: frames and strings are numbered anew in each."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._strings: dict[int, str] = {}
        self._places: dict[Any, Place] = {}
        self._reasons: dict[tuple[Any, Any], list[str]] = {}

    def read(self, lines: Iterable[str]) -> None:
        for record, payload in _records(lines, self._trace):
            frame = (record.get("frame_id"), record.get("frame_compile_id"))
            if isinstance(text := record.get("str"), list) and len(text) == 2:
                self._strings[text[1]] = str(text[0])
            elif isinstance(start := record.get("dynamo_start"), dict):
                self._start(frame, start)
            elif (name := _artifact(record)) == "recompile_reasons":
                self._reasons[frame] = _reasons(payload)
            elif name == "dynamo_graph_break_reason":
                if (event := compile_messages.read(payload)) is not None:
                    self._trace.events.append(event)
            elif name == "torch_version":
                self._trace.torch = _version(payload)
            for key in ("compilation_metrics", "bwd_compilation_metrics"):
                if isinstance(metrics := record.get(key), dict) and not metrics.get("is_runtime"):
                    self._compiled(frame, metrics)
        for frame, reasons in self._reasons.items():  # of compilations that never ended: the process was killed
            self._recompiled(frame, reasons, None)

    def _start(self, frame: tuple[Any, Any], start: dict[str, Any]) -> None:
        stack = start.get("stack")
        last = stack[-1] if isinstance(stack, list) and stack else None
        if isinstance(last, dict):
            file = self._strings.get(last.get("filename", -1), last.get("filename"))
            self._places[frame[0]] = Place(last.get("name"), file if isinstance(file, str) else None, last.get("line"))

    def _compiled(self, frame: tuple[Any, Any], metrics: dict[str, Any]) -> None:
        trace, took = self._trace, _seconds(metrics)
        if metrics.get("co_name"):
            self._places[frame[0]] = Place(
                metrics["co_name"], metrics.get("co_filename"), metrics.get("co_firstlineno")
            )
        trace.compilations += 1
        trace.seconds += took or 0.0
        trace.autotune_seconds += (metrics.get("compile_time_autotune_time_us") or 0) / 1e6
        if isinstance(skipped := metrics.get("cudagraph_skip_reason"), str) and skipped:
            trace.events.append(compile_messages.skip(skipped))
        reasons = self._reasons.pop(frame, None)
        if reasons is None and isinstance(reason := metrics.get("recompile_reason"), str) and reason:
            reasons = [reason]
        if reasons is None and "recompile_reason" not in metrics and frame[1]:
            reasons = []  # too old to say why
        if reasons is not None:
            self._recompiled(frame, reasons, took)
        failure = f"{metrics.get('fail_type') or ''} {(metrics.get('fail_reason') or '')[:1000]}"
        if compile_messages.is_limit(failure):
            name = "accumulated_recompile_limit" if "accumulated" in failure else "recompile_limit"
            trace.events.append(
                compile_messages.limit_hit((reasons or [""])[0], *self._places.get(frame[0], Place()), name=name)
            )

    def _recompiled(self, frame: tuple[Any, Any], reasons: list[str], took: float | None) -> None:
        place = self._places.get(frame[0], Place())
        self._trace.events.append(compile_messages.recompilation(reasons, *place, seconds=took))


def _seconds(metrics: dict[str, Any]) -> float | None:
    if isinstance(took := metrics.get("entire_frame_compile_time_s"), int | float):
        return float(took)
    took = metrics.get("dynamo_cumulative_compile_time_us") or metrics.get("duration_us")
    return took / 1e6 if isinstance(took, int | float) else None


def _reasons(payload: str) -> list[str]:
    """One reason is written as it is, several as a list."""
    try:
        loaded = json.loads(payload)
    except ValueError:
        return [payload] if payload.strip() else []
    return [str(each) for each in loaded] if isinstance(loaded, list) else [str(loaded)]


def _version(payload: str) -> str | None:
    try:
        return str(json.loads(payload)["pytorch_version"])
    except (ValueError, KeyError, TypeError):
        return None
