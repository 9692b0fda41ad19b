"""Events from a text log: what a process wrote to stderr under TORCH_LOGS. The last resort: it may be incomplete."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from toto_patcher.evidence import compile_messages
from toto_patcher.evidence.compile_messages import Event

# [rank0]:V1120 12:00:00.000000 123 torch/_dynamo/guards.py:1] [0/1] [__recompiles] ...   (2.7 on)
# [2023-04-13 21:42:54,179] [0/1] torch._dynamo.guards.__recompiles: [DEBUG] ...          (older, and logging's own)
# What collects the lines of several programs puts its own words before that: web-1  | V1120 12:00:00.000000 ...
_PREFIX = re.compile(
    r"(?<!\S)(?P<prefix>(?:\[rank\d+\]:\s*)?(?:"
    r"[VDIWEC]\d{4,8} \d\d:\d\d:\d\d[.\d]* \d+ (?P<file>[^\s\]]+):\d+\](?: \[!?[\d/_]+\])?(?: \[__\w+\])?"
    r"|\[?\d{4}-\d\d-\d\d[ T][\d:,.]+\]? (?:\[!?[\d/_]+\] )?(?P<logger>torch[\w.]*): \[?\w+\]?:?"
    r"|(?:DEBUG|INFO|WARNING|ERROR)[: ](?P<plain>torch[\w.]*)[: ]"
    r"))(?: (?P<body>.*)|\s*)$"
)
_RANK = re.compile(r"^\[rank\d+\]:")
_TIME = re.compile(r"[\d:.,TZ+-]{5,}")
_STARTS = re.compile(
    r"Recompiling function |hit config\.(?:accumulated_)?(?:recompile_limit|cache_size_limit)|"
    r"skipping cudagraphs? due to |CUDAGraph supports dynamic shapes|Graph break(?: \(user stack|:| in user code)"
)
LONGEST_MESSAGE = 400
"""Lines: a message without a prefix has no end that could be seen."""


@dataclass
class _Message:
    """A message whose lines are still coming.

    Attributes:
        process: who writes it, as far as the lines show it.
        outer: what its lines begin with that is not torch's, where torch's own prefix does not show that.
        lines: what it says.
    """

    process: tuple[str, str]
    outer: str
    lines: list[str]

    def go_on(self, body: str) -> None:
        if len(self.lines) < LONGEST_MESSAGE:
            self.lines.append(body.removeprefix(self.outer))


@dataclass
class TextLog:
    """Reads a log line by line.

    Attributes:
        lines: how many were read.
        from_torch: how many of them torch wrote, as far as they show it.
        events: what they report; complete after ``end``.
    """

    lines: int = 0
    from_torch: int = 0
    events: list[Event] = field(default_factory=list)
    _open: dict[str, _Message] = field(default_factory=dict)
    """The message that goes on, for each prefix: the lines of several processes and threads may be mixed."""

    def add(self, line: str) -> None:
        """Takes the next line; colours and what stands before torch's own prefix do not matter."""
        self.lines += 1
        line = compile_messages.plain(line.rstrip("\r\n"))
        found = _PREFIX.search(line)
        if found and "torch" not in (found["file"] or found["logger"] or found["plain"] or ""):
            found = None  # somebody else's
        prefix, body = (found["prefix"], found["body"] or "") if found else ("", line)
        begin = _STARTS.search(body)
        self.from_torch += bool(found or begin)
        if begin:
            outer = line[: found.start() if found else begin.start()]
            process = _TIME.sub("", outer), _rank(prefix)
            self._close(prefix)
            if found:  # another message of the same process has ended by now
                for other in [key for key, message in self._open.items() if key and message.process == process]:
                    self._close(other)
            self._open[prefix] = _Message(process, "" if found else outer, [body])
        elif prefix in self._open:
            self._open[prefix].go_on(body)

    def end(self) -> list[Event]:
        """What all the lines report."""
        for prefix in list(self._open):
            self._close(prefix)
        return self.events

    def _close(self, prefix: str) -> None:
        if message := self._open.pop(prefix, None):
            event = compile_messages.read("\n".join(message.lines))
            if event is not None:
                self.events.append(event)


def _rank(prefix: str) -> str:
    return found[0] if (found := _RANK.match(prefix)) else ""


def read(lines: Iterable[str]) -> TextLog:
    """A whole log."""
    log = TextLog()
    for line in lines:
        log.add(line)
    log.end()
    return log
