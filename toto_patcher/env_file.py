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

from toto_patcher import shell_file
from toto_patcher.errors import InputError
from toto_patcher.results import EnvResult
from toto_patcher.runtime import environment
from toto_patcher.supported import report

_NOTE = "# Written by `toto-patch env`; take it over with: source "
_LINE = r"export [A-Z_]+=[\w-]*\n"
_BLOCK = re.compile(rf"(?:(?<=\n)|\A){re.escape(_NOTE)}[^\n]*\n(?:{_LINE})*\Z")


def change(file: Path, values: Mapping[str, str]) -> EnvResult:
    """Sets variables in the file, which is made if need be; the user's other lines stay.

    The assignments stand in a block at its end, where they win over what the lines before them say. Other assignments
    of these variables are taken out only where nothing but assignments follows: a line of an ``if`` or of a function
    stays, for without it a shell might not read the file.

    Raises:
        InputError: the path is something other than a file, a shell cannot read it, or it may end before its end.
        OSError: it cannot be read or written; then it is what it was.
    """
    old = _text(file)
    known, _ = _settled(old)
    leaving = next((statement.line for statement in shell_file.statements(old) if statement.leaves), None)
    if leaving is not None:
        raise InputError(
            "may end here, or keep a variable from being set: a block at its end might have no effect",
            path=file,
            line=leaving,
            hint="Name another file with --file, and source it last.",
        )
    found = shell_file.statements(_BLOCK.sub("", old))
    start = shell_file.tail(found)
    kept = "".join(
        statement.text
        for number, statement in enumerate(found)
        if number < start or not (statement.text.startswith(_NOTE) or statement.name in _OWN)
    )
    if kept and (not kept.endswith("\n") or shell_file.is_open(kept)):
        kept += "\n"
    ours = {name: value for name, value in {**known, **values}.items() if name in _OWN}
    name = "".join(
        letter if letter.isprintable() else "?" for letter in file.name
    )  # a line break would end the comment
    block = [f"{_NOTE}{name}\n", *(f"export {name}={shlex.quote(ours[name])}\n" for name in _OWN if name in ours)]
    new = kept + "".join(block)
    _require_readable(file, new)
    if new != old:
        _write(file, new)
    return _result(file, new, written=new != old)


def status(file: Path) -> EnvResult:
    """What holds in this process, what the file says, and what each variable does; writes nothing.

    Raises:
        InputError: the path is something other than a file, or a shell cannot read it.
    """
    return _result(file, _text(file), written=None)


def sourced(file: Path) -> dict[str, str]:
    """The environment of this process as it would be after sourcing the file.

    Raises:
        InputError: shell code in the file decides it, which is not run here.
    """
    known, unknown = _settled(_text(file))
    undecided = _undecided(unknown)
    if undecided:
        hint = "Source it in a shell, and there name a file that does not exist with --file."
        raise InputError(f"{', '.join(undecided)}: {_DECIDES}", path=file, line=min(undecided.values()), hint=hint)
    return {**os.environ, **known}


def assignments(text: str) -> dict[str, str]:
    """What surely holds after sourcing a file; the last assignment of a name wins, as in a shell."""
    return _settled(text)[0]


def _settled(text: str) -> tuple[dict[str, str], dict[str, int]]:
    """As ``shell_file.settled``; the block at the end holds whatever stands before it, if a shell gets there."""
    found = shell_file.statements(text)
    block = _BLOCK.search(text)
    if block is None or any(statement.leaves for statement in found):
        return shell_file.settled(found)
    known, unknown = shell_file.settled(shell_file.statements(text[: block.start()]))
    last, _ = shell_file.settled(shell_file.statements(block[0]))
    return {**known, **last}, {name: line for name, line in unknown.items() if name not in last}


_OWN = tuple(variable.name for variable in (environment.DISABLE, environment.ENABLE, environment.MODE))
"""What the commands set, in the order in which it is written."""
_DECIDES = "shell code decides it, which is not run here"


def _undecided(unknown: Mapping[str, int]) -> dict[str, int]:
    """Those of our variables whose value nobody knows who does not run the file, each with its line."""
    ours = {variable.name for variable in environment.VARIABLES}
    return {name: line for name, line in unknown.items() if name in ours}


def _text(file: Path) -> str:
    """The file's text, byte for byte, that a shell can read to its end; empty where there is no file."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise InputError("is not a file", path=file, hint="Name a file with --file.")
    except FileNotFoundError:
        return ""
    text = file.read_bytes().decode(errors="surrogateescape")
    _require_readable(file, text)
    return text


def _require_readable(file: Path, text: str) -> None:
    why = shell_file.fault(text)
    if why is not None:
        quotation = "holds a quotation that does not end: " if shell_file.is_open(text) else ""
        raise InputError(f"{quotation}a shell cannot read it: {why}", path=file, hint="Repair it first.")


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
    there, unknown = _settled(text)
    undecided = _undecided(unknown)
    variables = [_explained(variable, there) for variable in environment.VARIABLES]
    problems = [item["problem"] for item in variables if item["problem"]]
    problems += [
        f"{name} is set, but torch.compile does not read it: {instead}"
        for name, instead in environment.IGNORED.items()
        if name in os.environ or name in there
    ]
    problems += [f"{name} in {file}, line {line}: {_DECIDES}" for name, line in undecided.items()]
    after = f"not known before it is sourced: {_DECIDES}" if undecided else _compiling({**os.environ, **there})
    document = {
        "file": str(file),
        "exists": bool(text) or file.exists(),
        "written": bool(written),
        "now": _compiling(os.environ),
        "sourced": after,
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
