"""The lock file beside a vendored tree, on disk: it changes together with the tree, or follows it after a crash.

The next lock is written, whole and synced, under a second name beside it before the first file of the tree moves, and
takes the lock's place when the last one has moved. Whoever finds that second name after a crash looks at the tree, and
keeps the one of the two that tells of it. Nothing of this is taken from inside the tree, which may be a stranger's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from toto_patcher.errors import RefusedError, UnsafePathError
from toto_patcher.patching.change import fingerprint
from toto_patcher.patching.files.safe_files import Tree

if TYPE_CHECKING:
    from toto_patcher.patching.vendoring.vendor_lock import Lock

MAX_BYTES = 1024 * 1024
"""A lock of Toto has 5 KB; what is larger is none and is not read."""

_AWAY = "move it away first"
_NONE = b"# Written by `toto-patch vendor`: there was no lock file before.\n"


class LockFile:
    """The lock of one tree.

    Args:
        root: the tree.
        data: what the lock is to say when the tree has changed.
    """

    def __init__(self, root: Path, data: bytes = b"") -> None:
        self.root, self.data = root, data
        self.path = root.parent / f"{root.name}.lock.toml"
        self.next = root.parent / f".{root.name}.lock.toml.toto-patch"
        self._name, self._next = PurePosixPath(self.path.name), PurePosixPath(self.next.name)
        self._before: bytes | None = None
        self._prepared = False

    def read(self) -> Lock | None:
        """What the lock says; ``None`` where there is none, or none that can be read as one."""
        return _parsed(_bytes(self.path))

    def replace(self) -> None:
        """Writes the lock alone, in one step. Raises as ``prepare``."""
        try:
            self.prepare()
            self.publish()
        except BaseException:
            self.announce_undo()
            self.undo()
            raise

    def prepare(self) -> None:
        """Writes the next lock beside the present one and waits until the disk has it.

        Raises:
            UnsafePathError: something that is not ours has its name.
            OSError: as the operating system says; nothing is left behind.
        """
        with self._folder() as folder:
            folder.check_writable(PurePosixPath())
            status = folder.status(self._name)
            if status is not None and status.st_size > MAX_BYTES:
                raise UnsafePathError("is no lock file of toto-patch: too large", path=self.path, hint=_AWAY)
            self._before = folder.read(self._name)
            self._write_next(folder, self.data)
            self._prepared = True

    def publish(self) -> None:
        """Puts the prepared lock in place, in one step, and waits until the disk has it."""
        with self._folder() as folder:
            folder.rename(self._next, self._name)
            folder.sync_folder(PurePosixPath())

    def announce_undo(self) -> None:
        """Keeps the lock that there was at hand while the tree goes back; the first half of taking ``publish`` back."""
        with self._folder() as folder:
            if self._prepared and folder.status(self._next) is None and folder.read(self._name) != self._before:
                self._write_next(folder, _NONE if self._before is None else self._before)

    def undo(self) -> None:
        """Leaves what there was before ``prepare``, once the tree is as it was."""
        if not self._prepared:
            return
        with self._folder() as folder:
            if folder.read(self._name) == self._before:
                folder.remove(self._next)
            elif self._before is None:
                folder.remove(self._name)
                folder.remove(self._next)
            elif folder.status(self._next) is not None:
                folder.rename(self._next, self._name)
            folder.sync_folder(PurePosixPath())

    def settle(self) -> None:
        """Finishes or undoes what a killed process left, by what lies in the tree. Needs the tree's lock.

        Raises:
            OSError: as the operating system says.
        """
        if not self.next.exists() or self.next.is_symlink():
            return
        data = _bytes(self.next)
        if data is None or not _is_ours(data):
            return
        with self._folder() as folder:
            before, after = _share(self.root, self.read()), _share(self.root, _parsed(data))
            if data == _NONE and before < 0.5:
                folder.remove(self._name)
            elif after > max(before, 0.5):
                folder.rename(self._next, self._name)
            folder.remove(self._next)
            folder.sync_folder(PurePosixPath())

    def _write_next(self, folder: Tree, data: bytes) -> None:
        if folder.status(self._next) is not None:
            if not _is_ours(_bytes(self.next)):
                raise UnsafePathError("is in the way and not from toto-patch", path=self.next, hint=_AWAY)
            folder.remove(self._next)
        present = folder.status(self._name)
        try:
            folder.write_new(self._next, data, 0o644 if present is None else present)
            folder.sync_folder(PurePosixPath())
        except BaseException:
            folder.remove(self._next)
            raise

    @contextmanager
    def _folder(self) -> Iterator[Tree]:
        """The folder that the lock lies in; an error of the system names the lock by its whole path."""
        try:
            with Tree(self.root.parent) as folder:
                yield folder
        except OSError as error:
            error.filename = str(self.path)
            raise


def _bytes(path: Path) -> bytes | None:
    """The bytes of a plain file of a lock's size; ``None`` for anything else."""
    if not path.parent.is_dir():
        return None
    with Tree(path.parent) as folder:
        name = PurePosixPath(path.name)
        status = folder.status(name)
        if status is None or status.st_size > MAX_BYTES:
            return None
        try:
            return folder.read(name)
        except RefusedError:
            return None


def _parsed(data: bytes | None) -> Lock | None:
    from toto_patcher.patching.vendoring import vendor_lock

    return None if data is None else vendor_lock.parse(data)


def _is_ours(data: bytes | None) -> bool:
    """Whether these are the bytes of a lock, or the first half of one that a killed process was writing."""
    from toto_patcher.patching.vendoring.vendor_lock import HEADER

    start = HEADER.encode()
    return data is not None and (data == _NONE or data.startswith(start) or start.startswith(data))


def _share(root: Path, lock: Lock | None) -> float:
    """Of the files that a lock tells of, the share that lies in the tree with these bytes."""
    if lock is None or not lock.files:
        return 0.0
    found = 0
    with Tree(root) as tree:
        for path, digest in lock.files.items():
            try:
                data = tree.read(path)
            except RefusedError:
                continue
            found += data is not None and fingerprint(data) == digest
    return found / len(lock.files)
