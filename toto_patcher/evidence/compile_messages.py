"""What torch.compile says when something goes wrong, recognised: the one place for torch's wordings, of 2.7 to 2.13.

The same messages come from its log (``compile_log``, ``compile_text``) and from its trace (``compile_trace``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["recompilation", "limit", "skip", "sizes", "break"]
"""Compiled anew, hit a limit and runs eagerly, runs without a CUDA graph, one CUDA graph per size, graph break."""

LONGEST = 400
"""Characters of a guard or a reason that are kept."""

_RECOMPILED = re.compile(r"Recompiling function (\S+) in (\S+?\.\w+|<[^>]+>)(?::(\d+))?(?=\s|$)")
_LIMIT = re.compile(r"hit config\.((?:accumulated_)?(?:recompile_limit|cache_size_limit))\b(?: \((\d+)\))?")
_LIMITED = re.compile(r"function: '?([^\s']+)'? \((.+?)(?::(\d+))?\)")
_LAST_REASON = re.compile(r"last reason: (.*)", re.DOTALL)
_SKIP = re.compile(r"skipping cudagraphs? due to ", re.IGNORECASE)
_SIZES = re.compile(r"CUDAGraph supports dynamic shapes by recording a new graph")
_BREAK = re.compile(r"Graph break(?: \(user stack suppressed[^)]*\))? in user code at (.+?):(\d+)(?=\s|$)")
_SKIPPED = re.compile(r"torch\.compile will skip tracing the frame (\S+) \((.+?) line (\d+)\)")
_REASON = re.compile(r"^(?:Graph Break )?Reason: (.*?)(?=^User code traceback:|\Z)", re.MULTILINE | re.DOTALL)
# Sentences that torch puts before the reason itself.
_PREAMBLE = re.compile(
    r"^(?:Encountered graph break when attempting to trace [^\n]*|"
    r"Failed to handle graph break gracefully\.[^\n]*|Unsupported: *)\s*"
)
_HINT = re.compile(r"^\s*Hint: (.*)", re.MULTILINE)
_ENTRY = re.compile(r"^(?:- )?(?:\[?!?[\d/_]+\]?: )", re.MULTILINE)
_GUARD_LINE = re.compile(r"^\s*(?:- )+(?!\s|User stack trace|File \")(.*\S)", re.MULTILINE)
# ECMA-48: a control sequence; a string (OSC, DCS, …) up to its terminator, on its line; any other short escape.
_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|"
    r"(?:\x1b[\]PX^_]|[\x9d\x90])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)|"
    r"\x1b[ -/]*[0-~]"
)
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')
_LIMIT_FAILURE = re.compile(r"recompile_?limit|cache_?(?:size_?)?limit", re.IGNORECASE)


@dataclass(frozen=True)
class Event:
    """One thing that torch.compile reported.

    Attributes:
        kind: what happened.
        text: the guard that failed, or the reason of the break, limit or skip, as torch puts it, on one line.
        function: where, as torch names it; ``torch_dynamo_resume_in_f_at_7`` is ``f`` from line 7 on.
        context: what else torch says of it: lines of source, the user's stack. It helps to tell the cause.
        others: the guards of older compilations of the function, which failed as well.
        limit: the name of the limit that was hit.
        hint: torch's own advice.
        skipped: the whole frame was left to Python because of a break that may have been reported by itself.
        seconds: what compiling took, where the trace says it.
    """

    kind: Kind
    text: str
    function: str | None = None
    file: str | None = None
    line: int | None = None
    context: str = ""
    others: tuple[str, ...] = ()
    limit: str | None = None
    hint: str | None = None
    skipped: bool = False
    seconds: float | None = None


def plain(text: str) -> str:
    """Text without the sequences that colour it, move the cursor or name a link or a title on a terminal."""
    return _ESCAPE.sub("", text)


def read(message: str) -> Event | None:
    """The event that a message of torch's log reports; ``None`` if it reports none. It may span lines."""
    message = plain(message)
    if found := _RECOMPILED.search(message):
        rest = message[found.end() :].partition("failure(s):")[2]
        lines = _GUARD_LINE.findall(rest)
        reasons = [line for line in lines if _ENTRY.match(line)] or lines[:1]
        return recompilation(reasons, found[1], found[2], int(found[3]) if found[3] else None)
    if found := _LIMIT.search(message):
        where, last = _LIMITED.search(message), _LAST_REASON.search(message)
        return limit_hit(
            last[1] if last else "",
            where[1] if where else None,
            where[2] if where else None,
            int(where[3]) if where and where[3] else None,
            name=found[1],
        )
    if found := _SKIP.search(message):
        return skip(message[found.start() :])
    if _SIZES.search(message):
        return Event("sizes", one_line(message.partition("Please consider")[0]))
    return _break(message)


def recompilation(
    reasons: Sequence[str],
    function: str | None,
    file: str | None = None,
    line: int | None = None,
    seconds: float | None = None,
) -> Event:
    """A recompilation, from the reason of each compilation that was there; torch names the latest one first."""
    first, *others = [guard(reason) for reason in reasons] or [""]
    context = _source(reasons[0]) if reasons else ""
    return Event("recompilation", first, function, file, line, context, tuple(others), seconds=seconds)


def limit_hit(
    reason: str, function: str | None, file: str | None = None, line: int | None = None, name: str = "recompile_limit"
) -> Event:
    """A function that ran into a limit; ``reason`` is why it would have been compiled once more."""
    return Event("limit", guard(reason), function, file, line, _source(reason), limit=name)


def skip(message: str) -> Event:
    """A graph that runs without a CUDA graph."""
    reason, _, stack = message.partition("Found from")
    while found := _SKIP.match(reason):
        reason = reason[found.end() :]
    file, line, function = (_FRAME.findall(stack) or [(None, None, None)])[-1]
    return Event("skip", one_line(reason).rstrip(" ."), function, file, line and int(line), reason + _innermost(stack))


def is_limit(failure: str) -> bool:
    """Whether the failure of a compilation, as compilation metrics name it, is that of a limit."""
    return bool(_LIMIT_FAILURE.search(failure))


def guard(reason: str) -> str:
    """The guard of a reason: without the compilation it belongs to, the line of source and the user's stack."""
    text = re.split(r"\s+#\s|\n?\s*(?:- )?User stack trace:|\nTo log all recompilation|\nTo diagnose", reason)[0]
    return one_line(_ENTRY.sub("", text.strip(), count=1))


def one_line(text: str) -> str:
    """Text without line breaks and runs of spaces, cut to ``LONGEST``."""
    return " ".join(text.split())[:LONGEST]


def _source(reason: str) -> str:
    """A guard with the line of source behind it, without the user's stack."""
    return reason.partition("User stack trace:")[0]


def _innermost(stack: str) -> str:
    """The last frame of a stack and its source: outer frames are about the callers."""
    start = stack.rfind('File "')
    return stack[start:] if start >= 0 else ""


def _break(message: str) -> Event | None:
    message = message.partition("\nTraceback (most recent call last)")[0]
    stack = _FRAME.findall(message)
    function = stack[-1][2] if stack else None
    if found := _BREAK.search(message):
        body = reason[1] if (reason := _REASON.search(message)) else ""
        while preamble := _PREAMBLE.match(body):
            body = body[preamble.end() :]
        hint = _HINT.search(body)
        return Event(
            "break",
            one_line(body.partition("\n")[0]),
            function,
            found[1],
            int(found[2]),
            body + _innermost(message),
            hint=one_line(hint[1]) if hint else None,
        )
    if found := _SKIPPED.search(message):
        line = int(stack[-1][1]) if stack else int(found[3])
        file = stack[-1][0] if stack else found[2]
        return Event("break", "the frame was left to Python", found[1], file, line, _innermost(message), skipped=True)
    return None
