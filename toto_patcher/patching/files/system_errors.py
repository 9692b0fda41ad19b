"""Errors of the operating system, named so that a user can look them up."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath

from toto_patcher.errors import StorageError

UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}
"""What a system answers that does not know a call, or a file system that cannot do it."""


def storage_error(error: OSError, *, hint: str | None = None) -> StorageError:
    """Names an operating system's error by its symbol: ``ENOSPC: No space left on device``."""
    number = error.errno or 0
    name = errno.errorcode.get(number, f"error {number}")
    default = "free some space and run the command again" if number in {errno.ENOSPC, errno.EDQUOT} else None
    return StorageError(f"{name}: {os.strerror(number)}", path=error.filename, hint=hint or default)


@contextmanager
def about(path: PurePosixPath) -> Iterator[None]:
    """Makes an ``OSError`` name the file it is about, relative to the root."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
