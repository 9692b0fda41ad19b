"""Linux' ``renameat2``: two names exchanged at once, or a rename that never replaces. Python has no call for it."""

from __future__ import annotations

import os

from toto_patcher.patching.files.system_errors import UNSUPPORTED

NOREPLACE, EXCHANGE = 1, 2


def rename_at(folder: int, old: str, new: str, flags: int) -> bool:
    """Renames within one folder. False where the system or the file system has no such thing."""
    import ctypes  # only those who write pay for it

    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    if call(folder, os.fsencode(old), folder, os.fsencode(new), ctypes.c_uint(flags)) == 0:
        return True
    number = ctypes.get_errno()
    if number in UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), new)
