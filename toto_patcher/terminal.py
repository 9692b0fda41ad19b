"""Two surfaces to write on: plain text, and rich for a terminal that wants colour. Used by ``report`` only."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import TYPE_CHECKING, Literal, Protocol, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console

Row = Sequence[tuple[str, str]]
"""Cells of a table: (text, style)."""


def shown(text: str) -> str:
    """Text as it may go to a terminal: control and other invisible characters are written as escapes.

    File names, records and logs may come from a stranger. In them a line feed would forge a line of ours, an escape
    sequence would command the terminal, and a bidirectional mark would show other text than there is.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == " " else c.encode("unicode_escape").decode("ascii") for c in text)


class Surface(Protocol):
    """What renderers write on. A style is a rich style name (``green``, ``bold``, ``dim``, empty)."""

    def line(self, text: str = "", style: str = "") -> None:
        """Writes one line; a line feed in it is shown as an escape."""

    def table(self, rows: Sequence[Row]) -> None:
        """Writes rows with their columns aligned, indented by two spaces."""

    def diff(self, text: str) -> None:
        """Writes a unified diff, byte for byte when this is not a terminal."""


def wants_colour(stream: TextIO) -> bool:
    """Colour goes to terminals only, and not to one whose user set NO_COLOR (https://no-color.org) or TERM=dumb."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def surface(stream: TextIO) -> Surface:
    """The surface that suits a stream; rich is imported only where it is of use."""
    return RichSurface(stream) if wants_colour(stream) else PlainSurface(stream)


class PlainSurface:
    """Text without any escape sequence."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def line(self, text: str = "", style: str = "") -> None:
        """See Surface."""
        self._stream.write(shown(text) + "\n")

    def table(self, rows: Sequence[Row]) -> None:
        """See Surface."""
        if not rows:
            return
        rows = _shown_rows(rows)
        widths = [max(len(row[i][0]) for row in rows if i < len(row)) for i in range(max(map(len, rows)))]
        for row in rows:
            cells = (text.ljust(width) for (text, _), width in zip(row, widths, strict=False))
            self.line(("  " + "  ".join(cells)).rstrip())

    def diff(self, text: str) -> None:
        """See Surface."""
        if self._stream.isatty():
            for line in text.split("\n"):
                self.line(line)
            return
        self._stream.flush()
        binary = cast(TextIOWrapper, self._stream).buffer
        binary.write(text.encode("utf-8", errors="surrogateescape"))  # as it is in the files
        binary.flush()


class RichSurface:
    """The same text with colour; long lines are left to the terminal to wrap, so that paths stay copyable."""

    _DIFF_STYLES = (("+++", "bold"), ("---", "bold"), ("@@", "cyan"), ("diff ", "bold"), ("+", "green"), ("-", "red"))

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console

        self._console: Console = Console(file=stream, highlight=False, soft_wrap=True)

    def line(self, text: str = "", style: str = "") -> None:
        """See Surface."""
        self._console.print(shown(text), style=style or None, markup=False)

    def table(self, rows: Sequence[Row]) -> None:
        """See Surface."""
        from rich.text import Text

        rows = _shown_rows(rows)
        widths = [max(len(row[i][0]) for row in rows if i < len(row)) for i in range(max(map(len, rows), default=0))]
        for row in rows:
            line = Text("  ")
            for (text, style), width in zip(row, widths, strict=False):
                line.append(text.ljust(width), style=style or None).append("  ")
            line.rstrip()
            self._console.print(line)

    def diff(self, text: str) -> None:
        """See Surface."""
        for line in text.splitlines():
            style = next((style for prefix, style in self._DIFF_STYLES if line.startswith(prefix)), "")
            self.line(line, style)


def block(out: Surface, text: str, style: str = "") -> None:
    """Writes text of several lines, each as one."""
    for line in text.split("\n"):
        out.line(line, style)


def _shown_rows(rows: Sequence[Row]) -> list[Row]:
    return [[(shown(text), style) for text, style in row] for row in rows]


def tolerate_any_character(*streams: TextIO) -> None:
    """Lets a stream that cannot encode a character of somebody's path write its escape instead of failing."""
    for stream in streams:
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def hold_standard_streams() -> None:
    """Keeps a closed stdin, stdout or stderr from being the number of the next file that is opened, a source say."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one


def silence(*names: Literal["stdout", "stderr"]) -> None:
    """Where a stream leads nowhere any more: nothing more is written, and the interpreter's last flush stays quiet."""
    for name in names:
        devnull = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(devnull, getattr(sys, name).fileno())
        except (AttributeError, OSError, ValueError):
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123  # lives on
        finally:
            os.close(devnull)


def flush_or_silence() -> None:
    """Flushes what is left in both streams; a failure of that would otherwise be the interpreter's last word."""
    for name in ("stdout", "stderr"):
        try:
            if getattr(sys, name) is not None:
                getattr(sys, name).flush()
        except (OSError, ValueError):
            silence(name)
