"""Turns results into text for a terminal, JSON or Markdown. Nobody else prints.

A result says what was done; its text adds where, and what to do next. Errors and progress go to stderr, results to
stdout, and with ``--json`` stdout holds exactly one document (docs/json.md).
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, TextIO

from toto_patcher import results as r
from toto_patcher.errors import NoCheckoutError, RefusedGroup, TotoPatchError, UnfinishedError, UsageError
from toto_patcher.renderers import RENDERERS, VERBOSE, render_error
from toto_patcher.terminal import block, flush_or_silence, silence, surface

SCHEMA = 1
INTERNAL_ERROR = 70  # EX_SOFTWARE of sysexits.h
LOST_OUTPUT = 4  # the answer of a command that only answers could not be written
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def failure(error: BaseException, *, command: str, verbose: bool = False) -> r.ErrorResult:
    """Maps any exception to what the user is told and to the exit code."""
    text = None
    if verbose:
        import traceback

        text = "".join(traceback.format_exception(error))
    if isinstance(error, RefusedGroup):
        refusals = tuple(_told(each) for each in error.refusals)
        return r.ErrorResult(command, error.exit_code, _told(error), refusals, text)
    if isinstance(error, TotoPatchError):
        return r.ErrorResult(command, error.exit_code, _told(error), (_told(error),), text)
    if isinstance(error, OSError):
        name = errno.errorcode.get(error.errno or 0, type(error).__name__)
        path = error.filename if isinstance(error.filename, str) else None
        told = r.Failure("io", f"{error.strerror or error} ({name})", path, None, "Repair the cause and run it again.")
        return r.ErrorResult(command, 4, told, (told,), text)
    if isinstance(error, ModuleNotFoundError) and (hint := _hint_for(error.name or "")):
        told = r.Failure("usage", f"{command} needs {error.name}, which is not installed", hint=hint)
        return r.ErrorResult(command, UsageError.exit_code, told, (told,), text)
    told = r.Failure(
        "bug",
        f"{type(error).__name__}: {error}",
        hint="This is a bug in toto-patch. Please report it with the output of the same command under --verbose.",
    )
    return r.ErrorResult(command, INTERNAL_ERROR, told, (told,), text)


def _hint_for(module: str) -> str | None:
    from toto_patcher.supported import hint_for  # it reads the metadata of packages, which takes long to import

    return hint_for(module)


def usage_failure(message: str, *, command: str, hint: str | None) -> r.ErrorResult:
    """A command line that click refused."""
    told = r.Failure("usage", message, hint=hint)
    return r.ErrorResult(command, 2, told, (told,))


def interrupted(command: str, root: Path | None) -> r.ErrorResult:
    """Ctrl-C: looks whether the tree is whole before it says so.

    Args:
        command: the command that was interrupted.
        root: the tree as it was named on the command line.
    """
    from toto_patcher import roots
    from toto_patcher.patching.transaction import mixed_files

    code, kind, message = INTERRUPTED, "interrupted", "Interrupted; the tree is whole."
    hint: str | None = "`toto-patch status` shows where it stands."
    try:
        mixed = mixed_files(roots.find(root))
    except NoCheckoutError:
        message, hint, mixed = "Interrupted; there is no tree.", None, ()
    except TotoPatchError as error:
        message, mixed = f"Interrupted; where the tree stands cannot be told: {error}", ()
    if mixed:
        code, kind = UnfinishedError.exit_code, UnfinishedError.kind
        message = f"Interrupted in the middle; some of these files are old and some new: {', '.join(map(str, mixed))}"
        hint = "`toto-patch recover` finishes or undoes the change."
    told = r.Failure(kind, message, hint=hint)
    return r.ErrorResult(command, code, told, (told,))


def _told(error: TotoPatchError) -> r.Failure:
    return r.Failure(error.kind, error.message, error.path, error.line, error.hint or _NEXT.get(error.kind))


_NEXT = {
    "usage": "`toto-patch --help` lists what there is.",
    "refused": "`toto-patch status` shows where the tree stands.",
    "unknown-source": "Undo the change that is named here, or vendor a supported release: toto-patch vendor.",
    "drift": "Keep your edit elsewhere, put the file back, then run it again.",
    "conflict": "`toto-patch list` shows which patches go together.",
    "unsafe-path": "Put a plain file or folder of its own in its place, then run it again.",
    "backup": "Restore `.toto-patch` from a copy, or put the originals back by hand.",
    "unfinished": "`toto-patch recover` finishes or undoes it.",
    "io": "Repair the cause and run it again.",
    "locked": "Wait until the other process has finished, then run it again.",
}
"""What to do next where the refusal itself does not say."""


def emit(result: r.Result | r.ErrorResult, *, as_json: bool, verbose: bool = False) -> int:
    """Writes one result: JSON and answers on stdout, errors in words on stderr. A reader that left is no error.

    Returns:
        The exit status: the result's own, also where the report could not be written, since it says what happened to
        the tree. Only a command whose whole purpose was its answer fails with it.
    """
    lost = _lost(lambda: _write(result, as_json, verbose))
    if lost and result.exit_code == 0 and isinstance(result, _ANSWERS):
        return LOST_OUTPUT
    return result.exit_code


_ANSWERS = (r.ListResult, r.ShowResult, r.DiffResult, r.StatusResult, r.BenchResult, r.ReportResult)


def _write(result: r.Result | r.ErrorResult, as_json: bool, verbose: bool) -> None:
    if as_json:
        _stream("stdout").write(to_json(result) + "\n")
        if isinstance(result, r.ErrorResult) and result.traceback and sys.stderr is not None:
            block(surface(sys.stderr), result.traceback.rstrip())
    elif isinstance(result, r.ErrorResult):
        render_error(result, surface(_stream("stderr")))
    else:
        known = VERBOSE if verbose else RENDERERS
        renderer = next(known[kind] for kind in type(result).__mro__ if kind in known)
        renderer(result, surface(_stream("stdout")))


def _stream(name: Literal["stdout", "stderr"]) -> TextIO:
    """A standard stream, which Python leaves out where it was closed from the start."""
    stream: TextIO | None = getattr(sys, name)
    if stream is None:
        raise OSError(errno.EBADF, f"{name} is closed")
    return stream


def _lost(write: Callable[[], object]) -> bool:
    """Writes a report; where that fails, says so on stderr if it can, and lets nothing more be written."""
    try:
        write()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except BrokenPipeError:
        silence("stdout", "stderr")
        return False
    except (OSError, ValueError) as error:  # ValueError: the stream was closed by somebody else in this process
        silence("stdout")
        number = getattr(error, "errno", None) or 0
        name = f" ({errno.errorcode[number]})" if number in errno.errorcode else ""
        with suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(f"error: the report could not be written: {getattr(error, 'strerror', error)}{name}\n")
        flush_or_silence()
        return True
    return False


def to_json(result: r.Result | r.ErrorResult) -> str:
    """The one document of ``--json``."""
    import json

    body = asdict(result)
    head = {"schema": SCHEMA, "command": result.command, "ok": result.exit_code == 0}
    body.pop("traceback", None)
    body.pop("summary", None)
    document = _finite({**head, "exit_code": body.pop("exit_code"), **body})
    return json.dumps(document, indent=2, allow_nan=False, default=str)


def _finite(value: Any) -> Any:
    """The value with ``null`` for infinities and NaN, which JSON does not have."""
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def patches_markdown(catalogue: r.ListResult) -> str:
    """docs/patches.md: every patch from its docstring. ``toto-patch list --markdown > docs/patches.md`` writes it."""
    lines = [
        "# The patches",
        "",
        "Generated from the patches' docstrings by `toto-patch list --markdown > docs/patches.md`; do not edit.",
        "",
        "| profile | patches, in the order they are applied |",
        "|---|---|",
        *(f"| `{name}` | {', '.join(f'[{i}](#{i})' for i in ids)} |" for name, ids in catalogue.profiles.items()),
    ]
    for patch in catalogue.patches:
        facts = {
            "Changes": _code((*patch.classes, *patch.files)),
            "Profiles": _code(patch.profiles),
            "Requires": _code(patch.requires),
            "Comes after": _code(patch.after),
            "Conflicts with": _code(patch.conflicts),
            "Tested on": ", ".join(patch.tested_on),
        }
        lines += ["", f"## {patch.id}", "", f"**{patch.title}.**", ""]
        lines += [f"- {name}: {value}" for name, value in facts.items() if value]
        lines += ["", patch.why]
    return "\n".join(lines) + "\n"


def _code(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def write(text: str) -> int:
    """Writes a document to stdout as it is; returns the exit status."""
    return LOST_OUTPUT if _lost(lambda: _stream("stdout").write(text)) else 0
