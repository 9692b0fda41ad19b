"""Reads a file that a shell sources without running it: which assignments surely hold at its end, and which may not."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

# One assignment that a shell makes; of a text in which it expands nothing, the value is known.
_ASSIGNMENT = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_]\w*)=([^;&|<>()`\r\n]*?)[ \t]*\n?")
_HERE = re.compile(r"<<(-?)[ \t]*(?=[^\s<])")
_WORD = re.compile(r"(?:'[^'\n]*'|\"[^\"\n]*\"|\\.|[^\s;&|<>()])+")
# What may end the file before its last line, or keep a later line from setting a variable.
_LEAVES = re.compile(
    r"(?<![\w$./-])(?:return|exit|exec|logout|set[ \t]+-\w*[enu]\w*|set[ \t]+-o[ \t]+(?:errexit|noexec|nounset)|"
    r"(?:function|alias)[ \t]+export|export[ \t]*\(\)|(?:readonly|(?:declare|typeset)[ \t]+-\w*r)\b[^\n;]*TOTO_\w+)"
    r"(?![\w.-])|\$\{\w+:?\?"
)

Kind = Literal["nothing", "assignment", "code"]


@dataclass(frozen=True)
class Statement:
    """Lines that belong together: one line, or those that a quotation, an operator or a here-document joins.

    Attributes:
        text: as it stands in the file.
        line: the 1-based number of its first line.
        kind: ``nothing`` is blank or a comment; ``assignment`` sets one variable; whatever else is ``code``.
        name: of the variable that an assignment sets.
        value: what it sets; ``None`` where the shell expands something.
        leaves: it may end the file early, or keep a later line from having its effect.
    """

    text: str
    line: int
    kind: Kind
    name: str = ""
    value: str | None = None
    leaves: bool = False


def statements(text: str) -> list[Statement]:
    """The statements of a file, in order; together they are its text."""
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    found: list[Statement] = []
    at = 0
    while at < len(lines):
        first, begun = at, ""
        while at < len(lines):
            begun += lines[at]
            at += 1
            masked, open_ = _masked(begun)
            if not open_ and not masked.rstrip().endswith(("|", "&&")):
                break
        for delimiter, dash in _here_documents(begun, masked):
            while at < len(lines):
                begun += lines[at]
                at += 1
                last = lines[at - 1].rstrip("\n")
                if (last.lstrip("\t") if dash else last) == delimiter:
                    break
        found.append(_statement(begun, masked, first + 1))
    return found


def tail(found: list[Statement]) -> int:
    """Where the end of a file begins that holds assignments only: nothing there stands in an ``if`` or a function."""
    return next((i + 1 for i in range(len(found) - 1, -1, -1) if found[i].kind == "code"), 0)


def settled(found: list[Statement]) -> tuple[dict[str, str], dict[str, int]]:
    """What holds after a shell has sourced a file, as far as that can be told without running it.

    Returns:
        Variables with their values, and those whose value is not known with the line that decides it. Where the file
        may end early, that is every variable.
    """
    known: dict[str, str] = {}
    unknown: dict[str, int] = {}
    start = tail(found)
    for number, statement in enumerate(found):
        if number < start:
            # Names are looked for in the text itself: code may set one in any way there is.
            for name in re.findall(r"[A-Za-z_]\w*", statement.text if statement.kind != "nothing" else ""):
                unknown[name] = statement.line
        elif statement.kind == "assignment":
            known.pop(statement.name, None)
            unknown.pop(statement.name, None)
            if statement.value is None:
                unknown[statement.name] = statement.line
            else:
                known[statement.name] = statement.value
    leaving = next((statement.line for statement in found if statement.leaves), None)
    if leaving is not None:
        unknown |= dict.fromkeys(known, leaving)
        known = {}
    return known, unknown


def fault(text: str) -> str | None:
    """Why a shell would not read a file to its end, in the shell's words; ``None`` if it would, or there is no shell.

    Nothing of it is run.
    """
    shell = shutil.which("bash") or shutil.which("sh")
    if shell is None:
        return None
    given = text.encode(errors="surrogateescape")
    environment = {"LC_ALL": "C", "PATH": "/usr/bin:/bin"}
    try:
        done = subprocess.run([shell, "-n"], input=given, env=environment, capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    said = done.stderr.decode(errors="replace").strip().splitlines()  # also a warning: of a here-document without end
    if not said:
        return None
    return re.sub(r"^\S*(?:sh|dash): ", "", said[0])


def is_open(text: str) -> bool:
    """Whether a quotation is not closed, or a line goes on, at the end of a text."""
    return _masked(text)[1]


def _statement(text: str, masked: str, line: int) -> Statement:
    if not masked.strip():
        return Statement(text, line, "nothing")
    leaves = bool(_LEAVES.search(masked))
    match = _ASSIGNMENT.fullmatch(masked)
    if match is None or re.search(r"\s", match[2]):
        return Statement(text, line, "code", leaves=leaves)
    raw = text[match.start(2) : match.end(2)]
    return Statement(text, line, "assignment", match[1], _value(raw), leaves)


def _value(raw: str) -> str | None:
    """What a shell makes of a word; ``None`` where it expands something."""
    if raw.startswith("~") or ":~" in raw or "\n" in raw or "\\" in raw:
        return None
    if re.search(r"[$`]", re.sub(r"'[^']*'", "", raw)):
        return None
    return "".join(shlex.split(raw, comments=False))


def _masked(text: str) -> tuple[str, bool]:
    """A text of the same length in which quoted characters are ``q`` and comments blank; and whether it goes on."""
    out: list[str] = []
    quote, at, open_ = "", 0, False
    while at < len(text):
        letter = text[at]
        pair = text[at : at + 2]
        if quote:
            if letter == "\\" and quote != "'" and len(pair) == 2:
                out.append("qq")
                at += 2
                continue
            quote = "" if letter == quote[-1] else quote
            out.append("q")
        elif letter == "\\":
            out.append("q" * len(pair))
            open_ = pair == "\\\n" and at + 2 == len(text)
            at += 2
            continue
        elif letter in "'\"":
            quote = "$'" if letter == "'" and text[at - 1 : at] == "$" else letter
            out.append("q")
        elif letter == "#" and (at == 0 or text[at - 1] in " \t\n;&|()"):
            end = text.find("\n", at)
            end = len(text) if end < 0 else end
            out.append(" " * (end - at))
            at = end
            continue
        else:
            out.append(letter)
        at += 1
    return "".join(out), open_ or bool(quote)


def _here_documents(text: str, masked: str) -> Iterator[tuple[str, bool]]:
    """The delimiters of the here-documents that a statement begins, and whether tabs may stand before them."""
    at = 0
    while found := _HERE.search(masked, at):
        at = found.end()
        if masked[max(found.start() - 1, 0)] != "<" and (word := _WORD.match(text, at)):
            yield re.sub(r"['\"\\]", "", word[0]), bool(found[1])
