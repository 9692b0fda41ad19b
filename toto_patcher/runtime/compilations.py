"""How often torch.compile compiled something in this process, and how often since the last warm-up.

Compiling after a warm-up is a stall of seconds in the middle of production. The counts are of the whole process: torch
keeps one set of books, whoever called ``torch.compile``. Where torch was never imported they are 0, and it stays so.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from toto_patcher.runtime import forking

log = logging.getLogger(__name__)


class _Books:
    """Adds up what torch's books gained since they were last looked at.

    Torch keeps the records of its last 64 compilations only, and a counter of graphs that anybody may clear, so neither
    is a total. The larger gain of the two counts: a frame that gives no graph is compiled too.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._total = 0
        self._graphs = 0
        self._last: Any = None
        forking.renew(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()

    def total(self) -> int:
        torch_books = sys.modules.get("torch._dynamo.utils")
        if torch_books is None:  # nothing can have been compiled
            return 0
        with self._lock:
            graphs = int(torch_books.counters["stats"].get("unique_graphs", 0))
            records = torch_books.get_compilation_metrics()
            place = next((i for i in reversed(range(len(records))) if records[i] is self._last), -1)
            # Runtime records are of other events, such as the recording of a CUDA graph.
            frames = sum(not getattr(record, "is_runtime", False) for record in records[place + 1 :])
            self._total += max(frames, graphs - self._graphs)
            self._graphs = graphs
            self._last = records[-1] if records else None
            return self._total


_books = _Books()
_warm: int | None = None
_calls = 0


def total() -> int:
    """Frames that torch compiled in this process since it was first asked here, those before included.

    Where more than 64 were compiled between two calls it may be less than the truth, but never nothing.
    """
    return _books.total()


def mark_warm() -> int:
    """Says that what was compiled up to now belongs to a warm-up; returns ``total()``."""
    global _warm
    _warm = total()
    return _warm


@contextlib.contextmanager
def watched(call: Callable[[], str]) -> Iterator[None]:
    """Counts a forecast that compiles something although a warm-up is over, and says so: it stalls for seconds.

    The first one is said, the second, the fourth, and so on.

    Args:
        call: what is forecast, in words.
    """
    global _calls
    before = total()
    yield
    made = total() - before
    if made and _warm is not None and before >= _warm:
        _calls += 1
        if _calls & (_calls - 1) == 0:
            log.warning(
                "compiled %d times in a forecast after the warm-up (%s); such forecasts so far: %d. "
                "Warm up with the shapes that production asks for",
                made,
                call(),
                _calls,
            )


def compiling_calls() -> int:
    """Forecasts of this process's pipelines that compiled something after a warm-up was over."""
    return _calls


def warm_mark() -> int:
    """``total()`` at the end of the last warm-up; 0 where there was none."""
    return _warm or 0
