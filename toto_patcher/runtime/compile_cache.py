"""Whether torch's compiler has a folder to write into.

Torch finds that out while it is being imported or in the middle of a forecast, and what it then says is often about
something else: the second import of a module that failed the first time names neither the folder nor the reason.
"""

from __future__ import annotations

import getpass
import os
import re
import tempfile
from pathlib import Path

from toto_patcher.runtime import environment


def trouble() -> str | None:
    """Why compiled code cannot be kept, with the folder and a way out; ``None`` where it can. Makes the folder."""
    name = environment.CACHE.name
    given = os.environ.get(name)
    try:
        folder = Path(given) if given else _default()
    except OSError as error:
        return f"there is no folder for temporary files ({error.strerror or error}): set {name} or TMPDIR"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"x")
    except OSError as error:
        where = f"{name}={given}" if given else f"{folder}, where torch keeps compiled code,"
        return f"{where} cannot be written: {type(error).__name__}: {error}" + ("" if given else f"; set {name}")
    return None


def _default() -> Path:
    """As torch chooses it; OSError where there is no folder for temporary files."""
    try:
        user = getpass.getuser()
    except (KeyError, ImportError, OSError):  # a user id without a name
        user = f"uid_{os.getuid()}" if hasattr(os, "getuid") else "unknown_user"
    return Path(tempfile.gettempdir(), "torchinductor_" + re.sub(r'[\\/:*?"<>|]', "_", user))
