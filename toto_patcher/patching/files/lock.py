"""One writer at a time: the lock of a checkout, and interrupts that wait for a good moment."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath
from types import FrameType

from toto_patcher.errors import LockedError, StorageError, UnsafePathError
from toto_patcher.patching.files.layout import FOLDER
from toto_patcher.patching.files.safe_files import Tree, give_to_owner_of
from toto_patcher.patching.files.system_errors import about

LOCK = FOLDER / "lock"
OURS = {
    FOLDER / ".gitignore": b"""\
# Written by toto-patch. The record (state.json and backups/) is to be committed with the patched files.
/lock
/*.tmp
/done.json
/undo.json
/journal.json
/prepare.json
/backups/*.tmp
""",
    FOLDER / ".gitattributes": b"# Written by toto-patch: git keeps every byte of the record.\n* -text\n",
}
"""What git is told about the record: that it travels, whole, without what is of the moment."""
_EARLIER = {FOLDER / ".gitignore": b"*\n"}
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ATTEMPTS = 1000


def acquire(tree: Tree) -> int:
    """Takes the lock, without waiting. It is the kernel's and dies with its process, so none is ever left behind.

    Returns:
        The descriptor that holds it.

    Raises:
        LockedError: another process has it.
        UnsafePathError: ``.toto-patch`` or the lock is a link.
        OSError: as the operating system says; ``EACCES`` or ``EROFS`` for a read-only root.
    """
    for _ in range(_ATTEMPTS):
        tree.forget(FOLDER)
        made = False
        if tree.status(FOLDER) is None:
            tree.check_writable(FOLDER.parent)
            made = tree.make_folder(FOLDER)
        try:
            with about(LOCK):
                descriptor = os.open(LOCK.name, _FLAGS, 0o644, dir_fd=tree.folder(FOLDER))
        except FileNotFoundError:
            continue  # the holder has just removed the folder, as a revert does
        except OSError as error:
            if made:
                with suppress(OSError):
                    tree.remove_folder(FOLDER)
            if error.errno is not None and stat.S_ISLNK(getattr(tree.status(LOCK), "st_mode", 0)):
                raise UnsafePathError("is a symbolic link", path=LOCK) from error
            raise
        try:
            mine = os.fstat(descriptor)
            if not stat.S_ISREG(mine.st_mode):
                raise UnsafePathError("is not a plain file", path=LOCK)
            with about(LOCK):
                give_to_owner_of(tree.folder(FOLDER), descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The former holder may have removed the file between our open and our lock. Then the lock guards nothing:
            # a third process may hold a new file of this name. The folder is walked anew for the same reason.
            tree.forget(FOLDER)
            named = tree.status(LOCK)
            if named is not None and (named.st_dev, named.st_ino) == (mine.st_dev, mine.st_ino):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            hint = "wait until it has finished and run the command again"
            raise LockedError("another process is writing to this checkout", path=LOCK, hint=hint) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise StorageError("cannot get hold of the lock: the folder keeps changing", path=LOCK)


def describe_to_git(tree: Tree) -> None:
    """Says what of ``.toto-patch`` belongs into git, unless somebody has said it differently. Needs the lock."""
    for path, data in OURS.items():
        if _is_ours(tree, path) and tree.read(path) != data:
            tree.remove(path)
            try:
                tree.write_new(path, data, 0o644)
            except FileExistsError:
                return  # somebody's own, just now
            except BaseException:
                with suppress(OSError):
                    tree.remove(path)  # whatever bytes of it there are, nobody else wrote them
                raise


def _is_ours(tree: Tree, path: PurePosixPath) -> bool:
    """Whether a file for git is not there, ours, of an earlier version, or the half that a killed command left."""
    present = tree.read(path) or b""
    return OURS[path].startswith(present) or _EARLIER.get(path, b"").startswith(present)


def release(tree: Tree, descriptor: int) -> None:
    """Gives the lock back, and removes ``.toto-patch`` if nothing else is in it."""
    try:
        with suppress(OSError, UnsafePathError):
            names = {LOCK.name, *(path.name for path in OURS)}
            if set(tree.names(FOLDER)) <= names and all(_is_ours(tree, path) for path in OURS):
                for path in OURS:
                    tree.remove(path)
                tree.remove(LOCK)
                tree.remove_folder(FOLDER)
    finally:
        os.close(descriptor)


class Interrupts:
    """Remembers that the user pressed Ctrl-C until somebody asks."""

    def __init__(self) -> None:
        self.pending = False

    def remember(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        self.pending = True

    def check(self) -> None:
        """Raises ``KeyboardInterrupt`` if one came."""
        if self.pending:
            self.pending = False
            raise KeyboardInterrupt


@contextmanager
def deferred_interrupts() -> Iterator[Interrupts]:
    """Holds SIGINT back inside the block, so that it cannot cut a roll-back in two; raised when the block ends."""
    interrupts = Interrupts()
    former = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(former):
        yield interrupts  # Python delivers interrupts to the main thread only, and none where they are ignored
        return
    signal.signal(signal.SIGINT, interrupts.remember)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, former)
    interrupts.check()
