"""What a long command is doing, on stderr: a bar on a terminal, elsewhere lines that never stay away for long."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from toto_patcher.terminal import shown

Progress = Callable[[str, int, int], None]
"""Called with (what begins or was done, steps done, steps in all); 0 in all where nobody knows."""

SILENCE = 10.0
"""Seconds after which a line says that the work goes on."""


@contextmanager
def progress(*, enabled: bool, lines: bool = False, silence: float = SILENCE) -> Iterator[Progress]:
    """Shows the steps of a command.

    Args:
        enabled: else nothing is shown.
        lines: where there is no terminal, a line for each step too, for work of few and long ones.
        silence: seconds between two lines at most, where there is no terminal.
    """
    if not enabled or sys.stderr is None:
        yield lambda what, done, total: None
    elif sys.stderr.isatty():
        with ExitStack() as stack:
            update: Progress | None = None

            def show(what: str, done: int, total: int) -> None:
                nonlocal update  # most commands end before there is anything to show: rich is imported at the first
                update = update or stack.enter_context(_bar())
                update(what, done, total)

            yield show
    else:
        told = _Lines(each=lines, silence=silence)
        try:
            yield told
        finally:
            told.stop()


class _Lines:
    """Lines of plain text, from the caller's steps and, in between, from a thread that begins with the first step."""

    def __init__(self, *, each: bool, silence: float) -> None:
        self._each, self._silence = each, silence
        self._start = self._since = self._said = time.monotonic()
        self._now = ("", 0, 0)
        self._lock, self._end = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        with self._lock:
            self._now, self._since = (what, done, total), time.monotonic()
            if self._each:
                self._say("")
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Says no more."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(max(0.01, self._said + self._silence - time.monotonic())):
            with self._lock:
                now = time.monotonic()
                if now - self._said >= self._silence:
                    self._say(f" ({now - self._since:.0f} s, and going on)")

    def _say(self, more: str) -> None:
        what, done, total = self._now
        self._said = time.monotonic()
        count = f"{done}/{total} " if total else ""
        with suppress(OSError, ValueError, AttributeError):  # the work goes on where nobody can read of it
            sys.stderr.write(f"[{self._said - self._start:7.1f} s] {count}{shown(what)}{more}\n")
            sys.stderr.flush()


@contextmanager
def _bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def update(what: str, done: int, total: int) -> None:
            bar.update(task, description=shown(what), completed=done, total=total or None)

        yield update
