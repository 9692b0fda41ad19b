"""A server that runs one file operation per child process, so that a tracer can be put on exactly that operation.

It reads one JSON request a line, forks, and the child stops itself before it begins: what is traced is the operation
alone, without the interpreter's start. Answers are lines too: the child's id, then how it ended.
"""

from __future__ import annotations

import ctypes
import datetime  # noqa: F401 - like `state` below: an import in the child would be traced with it
import json
import mmap
import os
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from file_trees import SELECTIONS, plan_for

from toto_patcher.errors import RefusedGroup, TotoPatchError
from toto_patcher.patching import restore, transaction
from toto_patcher.patching import state as _preloaded  # noqa: F401
from toto_patcher.patching.change import Plan
from toto_patcher.patching.files import renames
from toto_patcher.patching.store import Store
from toto_patcher.patching.vendor import vendor_path
from toto_patcher.patching.vendoring import releases

releases.pinned_releases()  # read once, before anything is traced

PR_SET_PTRACER, ANY = 0x59616D61, ctypes.c_ulong(-1)


def operate(request: dict[str, Any], plan: Plan | None) -> str:
    """Does what is asked in the child and returns a line about it."""
    root, action = Path(request["root"]), request["action"]
    if action.startswith("vendor-"):
        source = root.parent / ("from-old" if action == "vendor-old" else "from-new")
        return "changed" if vendor_path(source, root, force=action == "vendor-force").changed else "unchanged"
    if action == "recover":
        return transaction.recover(root).action
    if action == "revert":
        state = Store(root).state()
        if state is None:
            return "not patched"
        transaction.commit(restore.plan_revert(root, state), backup=True)
        return "reverted"
    if action == "read":
        transaction.pending(root)
        state = Store(root).state()
        assert state is not None
        restore.plan_revert(root, state)
        Store(root).pristine_sources(state)
        return "read"
    assert plan is not None
    transaction.commit(plan, backup=True, adopted=action == "adopt")
    return "done"


def child(request: dict[str, Any], answer: mmap.mmap) -> int:
    """The child's life; returns its exit status."""
    if request.get("user"):
        os.setgroups([])
        os.setgid(request["user"])
        os.setuid(request["user"])
    if request.get("largest_file"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["largest_file"], resource.RLIM_INFINITY))
    if request.get("exchange") is False:
        renames.rename_at = lambda *arguments: False  # as on a file system that cannot exchange two names
    selection = "first" if request["action"] == "adopt" else request["action"]
    plan = plan_for(Path(request["root"]), selection) if selection in SELECTIONS else None
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, ANY, 0, 0, 0)
    os.kill(os.getpid(), signal.SIGSTOP)
    try:
        line, status = operate(request, plan), 0
    except RefusedGroup as error:
        line, status = " | ".join(map(str, error.refusals)), error.exit_code
    except TotoPatchError as error:
        line, status = f"{type(error).__name__}: {error} ({error.hint})", error.exit_code
    except KeyboardInterrupt:
        line, status = "interrupted", 130
    answer[: len(line.encode())] = line.encode()
    return status


def main() -> None:
    """Serves until the input ends."""
    for text in sys.stdin:
        answer = mmap.mmap(-1, 8192)
        pid = os.fork()
        if pid == 0:
            status = 70
            try:
                status = child(json.loads(text), answer)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        _, status = os.waitpid(pid, os.WUNTRACED)
        print(pid, flush=True)
        if os.WIFSTOPPED(status):
            _, status = os.waitpid(pid, 0)
        line = bytes(answer).rstrip(b"\0").decode()
        print(json.dumps({"status": os.waitstatus_to_exitcode(status), "line": line}), flush=True)


if __name__ == "__main__":
    main()
