"""Where the events come from: a log, a folder of TORCH_TRACE, or a command that is run here with both."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from toto_patcher.errors import InputError, UsageError
from toto_patcher.evidence import compile_trace, recompilations
from toto_patcher.evidence.compile_text import TextLog
from toto_patcher.evidence.compile_trace import Trace
from toto_patcher.evidence.recompilations import Group
from toto_patcher.results import RecompilationsResult

_HOW = "Run it with TORCH_TRACE=DIR, then: toto-patch recompilations --trace DIR"
_PATIENCE = 10.0
"""Seconds that a command has after Ctrl-C, which it received as well, before it is ended."""


def require_folder(file: Path | None) -> None:
    """Raises ``UsageError`` where the document could not be written afterwards."""
    if file is not None and not file.absolute().parent.is_dir():
        raise UsageError(f"there is no folder for {file}", hint="Make it first, or name another file.")


def keep(result: RecompilationsResult, file: Path | None) -> RecompilationsResult:
    """Writes the document into a file, if there is one."""
    if file is None:
        return result
    file.write_text(json.dumps(result.document, indent=1) + "\n", encoding="utf-8")
    return replace(result, files=(str(file),))


def analyse_log(path: Path) -> RecompilationsResult:
    """A text log of TORCH_LOGS; also one file or a folder of TORCH_TRACE, which is told by its content.

    Raises:
        InputError: there is no such file, it is empty, binary, or torch has written no line of it.
    """
    if path.is_dir():
        return analyse_trace(path)
    if not path.is_file():
        raise InputError("there is no such log", path=path, hint=_HOW)
    with path.open("rb") as stream:
        head = stream.read(1 << 16)
    if not head.strip():
        raise InputError("the log is empty", path=path, hint=f"torch logs to stderr: 2> LOG. {_HOW}")
    if b"\0" in head:
        raise InputError("the log is no text: it holds zero bytes", path=path, hint=_HOW)
    if _begins_with_a_record(path):
        trace = Trace()
        compile_trace.read_file(path, trace)
        return _result(recompilations.group(trace.events), _of_trace(trace, path))
    log = TextLog()
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            log.add(line)
    if not log.from_torch:
        raise InputError(
            f"torch wrote none of the {log.lines} lines, so that nothing can be said of what was compiled",
            path=path,
            hint="Was TORCH_LOGS=recompiles,graph_breaks set? A trace also shows that nothing happened: "
            "toto-patch recompilations --run -- CMD",
        )
    source = {"kind": "log", "path": str(path), "torch": None, "lines": log.lines}
    return _result(recompilations.group(log.end()), source | _NO_TIMES)


def analyse_trace(folder: Path) -> RecompilationsResult:
    """A folder of TORCH_TRACE.

    Raises:
        InputError: it is not there, or no process has left a trace in it.
    """
    if not folder.is_dir():
        raise InputError("there is no such folder", path=folder, hint=_HOW)
    trace = compile_trace.read_folder(folder)
    if not trace.records:
        raise InputError(
            f"no trace is in this folder: {compile_trace.FILES}",
            path=folder,
            hint="torch writes one when the first function is compiled, with TORCH_TRACE set before torch is imported.",
        )
    return _result(recompilations.group(trace.events), _of_trace(trace, folder))


def run(command: Sequence[str], *, stdout_free: bool) -> RecompilationsResult:
    """Runs a command with TORCH_TRACE, passes its output through, and analyses what it left.

    Args:
        command: the program and its arguments.
        stdout_free: its stdout goes to stderr, because stdout is for the one JSON document.

    Raises:
        UsageError: it cannot be started, or it compiled nothing.
    """
    with tempfile.TemporaryDirectory(prefix="toto-recompilations-") as name:
        folder = Path(name)
        log, status = _pass_through(command, {**os.environ, "TORCH_TRACE": name}, stdout_free)
        trace = compile_trace.read_folder(folder)
    told = {"command": shlex.join(command), "exit_status": status}
    if not trace.records and not log.events:
        raise UsageError(
            f"the command ended with {status} and compiled nothing: {told['command']}",
            hint="Is torch.compile reached, and TOTO_DISABLE_COMPILE or TORCHDYNAMO_DISABLE not set?",
        )
    events = recompilations.merge(trace.events, log.events) if trace.records else log.events
    return _result(recompilations.group(events), _of_trace(trace, None), told)


def _pass_through(command: Sequence[str], environment: dict[str, str], stdout_free: bool) -> tuple[TextLog, int]:
    """Runs it; its stderr is written on as it comes, and read."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    try:
        process = subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, stdout=sys.stderr if stdout_free else None
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"the command cannot be started: {command[0]}: {reason}", hint="What follows --run is run as it stands."
        ) from error
    log = TextLog()
    assert process.stderr is not None
    reader = threading.Thread(target=_tee, args=(process.stderr, log), daemon=True)
    reader.start()
    try:
        status = process.wait()
    except KeyboardInterrupt:
        try:
            process.wait(_PATIENCE)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.kill()
        raise
    reader.join(_PATIENCE)  # a process that it left behind may hold stderr open
    log.end()
    return log, status if status >= 0 else 128 - status


def _tee(stream: IO[bytes], log: TextLog) -> None:
    gone = sys.stderr is None
    for line in stream:
        if not gone:
            try:
                sys.stderr.buffer.write(line)
                sys.stderr.flush()
            except (OSError, ValueError):
                gone = True  # nobody reads it any more; the command must not block
        log.add(line.decode("utf-8", "replace"))


def _begins_with_a_record(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="replace") as lines:
        return compile_trace.is_trace(lines.readline())


_NO_TIMES: dict[str, Any] = {"compilations": None, "compile_seconds": None, "autotune_seconds": None}


def _of_trace(trace: Trace, path: Path | None) -> dict[str, Any]:
    return {
        "kind": "trace" if path else "run",
        "path": str(path) if path else None,
        "torch": trace.torch,
        "lines": trace.records,
        "compilations": trace.compilations,
        "compile_seconds": round(trace.seconds, 3),
        "autotune_seconds": round(trace.autotune_seconds, 3),
    }


def _result(groups: list[Group], source: dict[str, Any], command: dict[str, Any] | None = None) -> RecompilationsResult:
    document = recompilations.document(groups, source, command)
    failed = command is not None and command["exit_status"] != 0
    return RecompilationsResult(
        root=None,
        files=(),
        document=document,
        summary=tuple(recompilations.summary(document)),
        exit_code=1 if failed or recompilations.in_trouble(groups) else 0,
    )
