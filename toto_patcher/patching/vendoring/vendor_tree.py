"""Puts a vendored tree and its lock in place in one step, and looks at what lies there before.

Nothing outside the tree, its lock and a temporary folder beside them is touched. The temporary folder holds the new
tree while it is built and the old one until the lock is written; a killed run's folder is cleared by the next run.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from toto_patcher.errors import LockedError
from toto_patcher.patching.change import fingerprint
from toto_patcher.patching.vendoring import vendor_lock

STATE_FOLDER = ".toto-patch"


@dataclass(frozen=True)
class Found:
    """What lies in the destination.

    Attributes:
        files: path -> sha256, or a word in angle brackets for what is no plain file. Bytecode and the state folder are
            left out.
        patched: patches are in force.
        interrupted: a transaction was cut short and awaits recovery.
    """

    files: Mapping[PurePosixPath, str]
    patched: bool = False
    interrupted: bool = False


def inspect(root: Path) -> Found:
    """Fingerprints a tree; a missing folder has no files. Follows no links and writes nothing."""
    files: dict[PurePosixPath, str] = {}
    for current, folders, names in os.walk(root):
        here = Path(current)
        links = [name for name in folders if (here / name).is_symlink()]
        folders[:] = [name for name in folders if name != "__pycache__" and name not in links]
        if here == root and STATE_FOLDER in folders:
            folders.remove(STATE_FOLDER)
        for name in [*names, *links]:
            path = here / name
            if not name.endswith((".pyc", ".pyo")):
                plain = stat.S_ISREG(path.lstat().st_mode)
                relative = PurePosixPath(path.relative_to(root).as_posix())
                files[relative] = fingerprint(path.read_bytes()) if plain else "<not a plain file>"
    state = root / STATE_FOLDER
    return Found(dict(sorted(files.items())), (state / "state.json").exists(), (state / "journal.json").exists())


@contextlib.contextmanager
def exclusive(root: Path, lock_path: Path) -> Iterator[None]:
    """Lets one run at a time vendor there, and finishes or takes back what a killed one left.

    The lock is the kernel's (flock on the folder): it leaves no file behind and dies with its holder.

    Raises:
        LockedError: another run is vendoring there.
    """
    handle = os.open(root.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockedError("another toto-patch vendor is running", path=root.parent, hint="wait for it") from error
        _recover(root, lock_path)
        yield
    finally:
        os.close(handle)


def _recover(root: Path, lock_path: Path) -> None:
    for work in sorted(root.parent.glob(f"{_prefix(root)}*")):
        if (work / "old").exists() and not root.exists():
            # Killed between the two renames of a file system that cannot exchange: the old tree goes back.
            (work / "old").rename(root)
        elif (work / "lock").exists():
            # Killed between tree and lock: the lock of the tree that is there now follows it.
            lock = vendor_lock.parse((work / "lock").read_bytes())
            if lock is not None and root.exists() and lock.files == inspect(root).files:
                (work / "lock").replace(lock_path)
        shutil.rmtree(work)


def _prefix(root: Path) -> str:
    return f".{root.name}.vendor-"


def replace(root: Path, files: Mapping[PurePosixPath, bytes], lock_path: Path, lock: bytes, expected: Found) -> None:
    """Swaps in the new tree and then the lock; any failure on the way leaves both as they were.

    Args:
        root: the destination; its parent exists.
        files: the new tree.
        lock_path: the lock file, outside the tree.
        lock: its new bytes.
        expected: what was found in the destination when it was decided to replace it.

    Raises:
        LockedError: the tree has changed since.
        OSError: the operating system refused; nothing was changed.
    """
    work = Path(tempfile.mkdtemp(prefix=_prefix(root), dir=root.parent))
    old = work / "old"
    try:
        for path, data in files.items():
            _write(work / "new" / path, data)
        _write(work / "lock", lock)
        _sync_folders(work)
        if inspect(root) != expected:
            raise LockedError("the tree changed while the new one was prepared", path=root, hint="run vendor again")
        undo = _swap_in(work / "new", root, old)
        try:
            (work / "lock").replace(lock_path)
        except BaseException:
            undo()
            raise
        _sync(root.parent)
        _sync(lock_path.parent)
    finally:
        if root.exists() or not old.exists():  # never the only copy of what was there
            shutil.rmtree(work, ignore_errors=True)


def write_lock(lock_path: Path, lock: bytes) -> None:
    """Replaces the lock alone, in one step."""
    work = Path(tempfile.mkdtemp(prefix=f".{lock_path.name}.", dir=lock_path.parent))
    try:
        _write(work / "lock", lock)
        (work / "lock").replace(lock_path)
        _sync(lock_path.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _swap_in(new: Path, root: Path, old: Path) -> Callable[[], object]:
    """Puts a folder in the place of another, or of nothing; returns what takes it back."""
    if not root.exists():
        new.rename(root)
        return functools.partial(_rename, root, new)
    if _exchange(new, root):
        return functools.partial(_exchange, new, root)
    root.rename(old)
    try:
        new.rename(root)
    except BaseException:
        old.rename(root)
        raise
    return functools.partial(_rename, root, new, old, root)


def _rename(*pairs: Path) -> None:
    """Renames each first path to the second that follows it."""
    for source, target in zip(pairs[::2], pairs[1::2], strict=True):
        source.rename(target)


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges two folders in one system call; False where the system or the file system cannot (nothing happened)."""
    at_cwd, rename_exchange = -100, 2
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    if renameat2(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), rename_exchange) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(other))


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folders(top: Path) -> None:
    for folder, _, _ in os.walk(top):
        _sync(Path(folder))


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
