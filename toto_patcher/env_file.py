"""``.env.compile``, lines of ``export NAME=value`` for a shell to source: reads, changes and explains it. No torch."""

from __future__ import annotations

import os
import re
import shlex
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from toto_patcher.errors import InputError
from toto_patcher.results import EnvResult
from toto_patcher.runtime import environment
from toto_patcher.supported import report

_NOTE = "# Written by `toto-patch env`; take it over with: source "
# One assignment that a shell makes whatever else the file says (an indented line may stand in an `if`), of a text in
# which it expands nothing.
_ASSIGNMENT = re.compile(r"(?:export[ \t]+)?([A-Za-z_]\w*)=((?!~)[^$`;&|<>()\\\r\n]*)\n?")


def change(file: Path, values: Mapping[str, str]) -> EnvResult:
    """Sets variables in the file, which is made if need be; the user's other lines stay.

    The assignments stand at its end, where they win over what the lines before them say.

    Raises:
        InputError: the path is something other than a file.
        OSError: it cannot be read or written; then it is what it was.
    """
    old = _text(file)
    ours = {name: value for name, value in assignments(old).items() if name in _OWN}
    kept = [line for line in _statements(old) if not line.startswith(_NOTE) and _assigned(line)[0] not in _OWN]
    if kept and not kept[-1].endswith("\n"):
        kept[-1] += "\n"
    ours = {name: {**ours, **values}[name] for name in _OWN if name in {**ours, **values}}
    block = [f"{_NOTE}{file.name}\n", *(f"export {name}={shlex.quote(value)}\n" for name, value in ours.items())]
    new = "".join([*kept, *block])
    if new != old:
        _write(file, new)
    return _result(file, new, written=new != old)


def status(file: Path) -> EnvResult:
    """What holds in this process, what the file says, and what each variable does; writes nothing.

    Raises:
        InputError: the path is something other than a file.
    """
    return _result(file, _text(file), written=None)


def sourced(file: Path) -> dict[str, str]:
    """The environment of this process as it would be after sourcing the file."""
    return {**os.environ, **assignments(_text(file))}


def assignments(text: str) -> dict[str, str]:
    """The plain assignments of a file; the last one of a name wins, as in a shell."""
    return {name: value for name, value in map(_assigned, _statements(text)) if name}


_OWN = tuple(variable.name for variable in (environment.DISABLE, environment.ENABLE, environment.MODE))
"""What the commands set, in the order in which it is written."""


def _statements(text: str) -> list[str]:
    """The lines of a file; those that one quotation runs through are one."""
    found, begun = [], ""
    for line in re.findall(r"[^\n]*\n|[^\n]+", text):
        begun += line
        with suppress(ValueError):  # the quotation goes on
            shlex.split(begun, comments=True)
            found.append(begun)
            begun = ""
    return [*found, begun] if begun else found


def _assigned(statement: str) -> tuple[str, str]:
    """The name and the value of a statement that is one plain assignment, else two empty strings."""
    match = _ASSIGNMENT.fullmatch(statement)
    words = [] if match is None else shlex.split(match[2], comments=True)
    return ("", "") if match is None or len(words) > 1 else (match[1], "".join(words))


def _text(file: Path) -> str:
    """The file's text, byte for byte, whose quotations all end; empty where there is no file."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise InputError("is not a file", path=file, hint="Name a file with --file.")
    except FileNotFoundError:
        return ""
    text = file.read_bytes().decode(errors="surrogateescape")
    try:
        shlex.split(next(reversed(_statements(text)), ""), comments=True)
    except ValueError:
        raise InputError(
            "holds a quotation that does not end", path=file, hint="Close it; a shell refuses it too."
        ) from None
    return text


def _write(file: Path, text: str) -> None:
    """Puts a text in the file's place in one step; a link keeps pointing where it does, a file keeps its mode."""
    target = file.resolve()
    number, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(number, "wb") as stream:
            stream.write(text.encode(errors="surrogateescape"))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o644)
        temporary.replace(target)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _result(file: Path, text: str, written: bool | None) -> EnvResult:
    """The report; ``written`` is ``None`` for a command that only looks."""
    there = assignments(text)
    variables = [_explained(variable, there) for variable in environment.VARIABLES]
    problems = [item["problem"] for item in variables if item["problem"]]
    problems += [
        f"{name} is set, but torch.compile does not read it: {instead}"
        for name, instead in environment.IGNORED.items()
        if name in os.environ or name in there
    ]
    document = {
        "file": str(file),
        "exists": bool(text) or file.exists(),
        "written": bool(written),
        "now": _compiling(os.environ),
        "sourced": _compiling({**os.environ, **there}),
        "variables": variables,
        "problems": problems,
        **report(),
    }
    broken = any(item["problem"] for item in variables)
    files = (str(file.absolute()),) if written else ()
    return EnvResult(None, files, document, _summary(document, written), exit_code=2 if broken else 0)


def _explained(variable: environment.Variable, there: Mapping[str, str]) -> dict[str, Any]:
    """One variable: what it is in this process, what the file says, and what it does."""
    here = os.environ.get(variable.name) or None
    problem = None
    for text in (here, there.get(variable.name)):
        try:
            environment.read(variable, {variable.name: text or ""})
        except InputError as error:
            problem = error.message
    return {
        "name": variable.name,
        "value": here if here is not None else variable.default,
        "origin": "default" if here is None else "environment",
        "in_file": there.get(variable.name),
        "effect": variable.effect,
        "reader": variable.reader,
        "problem": problem,
    }


def _compiling(environ: Mapping[str, str]) -> str:
    """What a pipeline does that is not told otherwise, in words."""
    try:
        if environment.disabled(environ):
            return f"nothing is compiled: {environment.DISABLE.name}={environ[environment.DISABLE.name]}"
        if environment.read(environment.ENABLE, environ) is None:
            return "a pipeline compiles after toto_compile_config.apply(), or if it is told to"
        choice = environment.choose(environ=environ)
    except InputError as error:
        return f"a pipeline refuses to load: {error.message}"
    if not choice.enabled:
        return (
            f"a pipeline compiles only if it is told to: {environment.ENABLE.name}={environ[environment.ENABLE.name]}"
        )
    return f"a pipeline compiles: mode {choice.mode or 'of the backend'}, backend {choice.backend}"


def _summary(document: Mapping[str, Any], written: bool | None) -> tuple[str, ...]:
    """The report in words."""
    file, lines = document["file"], []
    if written is False:
        lines.append(f"{file} says so already; nothing was written.")
    if document["now"] == document["sourced"]:
        lines.append(f"Here, and with {file}: {document['now']}.")
    else:
        lines.append(f"Here: {document['now']}.")
        lines.append(f"After `source {shlex.quote(file)}`: {document['sourced']}.")
    if written is None:
        if not document["exists"]:
            lines.append(f"There is no {file}; `toto-patch env enable` or `disable` makes it.")
        for item in document["variables"]:
            said = "" if item["in_file"] is None else f"; {file} says {item['in_file']}"
            lines += ["", f"{item['name']}: {item['value']} ({item['origin']}{said})", f"  {item['effect']}"]
        lines.append("")
        lines.append(", ".join(f"{name} {version or '-'}" for name, version in document["versions"].items()))
        lines += [f"note: {concern}" for concern in document["concerns"]]
    lines += [f"problem: {problem}" for problem in document["problems"]]
    return tuple(lines)
