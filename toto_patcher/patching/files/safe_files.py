"""The raw file operations below one folder: by descriptor, never through a link, synced, and never half.

Every path is walked from a descriptor of the root, one component at a time and without following symbolic links, so
nothing outside the root can be reached even while somebody moves folders about.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path, PurePosixPath
from types import TracebackType

from toto_patcher.errors import UnsafePathError
from toto_patcher.patching.files import renames
from toto_patcher.patching.files.layout import MAX_FILE_BYTES
from toto_patcher.patching.files.system_errors import UNSUPPORTED, about, storage_error

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def give_to_owner_of(folder: int, made: int) -> None:
    """Gives what root made in a folder to the folder's owner, who could not change or remove it otherwise.

    Args:
        folder: a descriptor of the folder.
        made: a descriptor of what was made in it.
    """
    if os.geteuid() != 0:
        return
    owner, mine = os.fstat(folder), os.fstat(made)
    if (mine.st_uid, mine.st_gid) != (owner.st_uid, owner.st_gid):
        os.fchown(made, owner.st_uid, owner.st_gid)


class Tree:
    """The files below one root. Use as a context manager; it holds descriptors of the folders it has entered."""

    def __init__(self, root: Path) -> None:
        try:
            self._folders = {PurePosixPath(): os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)}
        except OSError as error:
            raise storage_error(error) from error

    def __enter__(self) -> Tree:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the folders' descriptors."""
        while self._folders:
            os.close(self._folders.popitem()[1])

    def folder(self, path: PurePosixPath) -> int:
        """A descriptor of a folder below the root, valid until ``close``.

        Raises:
            FileNotFoundError: there is none.
            UnsafePathError: it, or a folder above it, is a symbolic link or no folder at all.
        """
        if path not in self._folders:
            if ".." in path.parts or path.is_absolute():
                raise UnsafePathError("leaves the root", path=path)
            parent = self.folder(path.parent)
            try:
                with about(path):
                    self._folders[path] = os.open(path.name, _FOLDER_FLAGS, dir_fd=parent)
            except OSError as error:
                if error.errno not in {errno.ELOOP, errno.ENOTDIR}:
                    raise
                hint = "replace it with a real folder; nothing outside the root is ever written"
                raise UnsafePathError("is a symbolic link or not a folder", path=path, hint=hint) from error
        return self._folders[path]

    def forget(self, path: PurePosixPath) -> None:
        """Lets go of a folder's descriptor, before the folder is removed."""
        if path in self._folders:
            os.close(self._folders.pop(path))

    def status(self, path: PurePosixPath) -> os.stat_result | None:
        """The file's own status, links not followed; ``None`` where there is nothing."""
        try:
            with about(path):
                return os.stat(path.name, dir_fd=self.folder(path.parent), follow_symlinks=False)
        except FileNotFoundError:
            return None

    def read(self, path: PurePosixPath, limit: int = MAX_FILE_BYTES) -> bytes | None:
        """The bytes of a plain file; ``None`` where there is nothing.

        Raises:
            UnsafePathError: it is a symbolic link, FIFO, device, socket or folder, or has more bytes than ``limit``.
        """
        status = self.status(path)
        if status is not None and not stat.S_ISREG(status.st_mode):
            raise UnsafePathError("is not a plain file", path=path)  # before opening it: a device may notice
        try:
            with about(path):
                descriptor = os.open(path.name, _READ_FLAGS, dir_fd=self.folder(path.parent))
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in {errno.ELOOP, errno.ENXIO, errno.ENODEV}:
                raise
            raise UnsafePathError("is not a plain file", path=path) from error
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UnsafePathError("is not a plain file", path=path)
            with about(path), os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(limit + 1)  # never all of a file that somebody made to be too large
            if len(data) > limit:
                raise UnsafePathError(f"is larger than {limit // 1024} KiB, which none of its kind is", path=path)
            return data
        finally:
            os.close(descriptor)

    def write_new(self, path: PurePosixPath, data: bytes, like: os.stat_result | int) -> None:
        """Writes a file that does not exist yet and waits until the disk has it.

        Args:
            path: where.
            data: what.
            like: the permission bits, or the status of a file whose owner and permission bits it takes over. Without
                such a file the owner is the folder's: root does not leave files of its own in somebody's tree.

        Raises:
            OSError: also when the file cannot be read back as written; whatever was written is left behind.
        """
        with about(path):
            descriptor = os.open(path.name, _NEW_FLAGS, 0o600, dir_fd=self.folder(path.parent))
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                if isinstance(like, int):
                    give_to_owner_of(self.folder(path.parent), descriptor)
                else:
                    mine = os.fstat(descriptor)
                    if (mine.st_uid, mine.st_gid) != (like.st_uid, like.st_gid):
                        os.fchown(descriptor, like.st_uid, like.st_gid)
                # After the owner: changing that clears the set-user-id bits.
                os.fchmod(descriptor, like if isinstance(like, int) else stat.S_IMODE(like.st_mode))
                os.fsync(descriptor)
                if os.fstat(descriptor).st_size != len(data) or os.pread(descriptor, len(data) + 1, 0) != data:
                    raise OSError(errno.EIO, "the file system did not keep what was written")
            finally:
                os.close(descriptor)

    def copy_attributes(self, source: PurePosixPath, target: PurePosixPath) -> None:
        """Carries extended attributes (access lists, labels) over, as far as the file system lets us."""
        if not hasattr(os, "listxattr"):
            return
        with suppress(OSError):
            old = os.open(source.name, _READ_FLAGS, dir_fd=self.folder(source.parent))
            try:
                new = os.open(target.name, _READ_FLAGS, dir_fd=self.folder(target.parent))
                try:
                    for name in os.listxattr(old):
                        with suppress(OSError):
                            os.setxattr(new, name, os.getxattr(old, name))
                finally:
                    os.close(new)
            finally:
                os.close(old)

    def exchange(self, source: PurePosixPath, target: PurePosixPath, spare: PurePosixPath) -> PurePosixPath:
        """Puts ``source`` in ``target``'s place and keeps what was there; there is a whole file at every moment.

        Args:
            source: the bytes to publish; a name in the same folder.
            target: the name they get.
            spare: a free name in the same folder, used where the file system cannot exchange two names at once.

        Returns:
            The name under which the former ``target`` lies now: ``source`` or ``spare``.
        """
        folder = self.folder(target.parent)
        with about(target):
            if renames.rename_at(folder, source.name, target.name, renames.EXCHANGE):
                return source
            os.link(target.name, spare.name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
            os.replace(source.name, target.name, src_dir_fd=folder, dst_dir_fd=folder)
            return spare

    def move_new(self, source: PurePosixPath, target: PurePosixPath) -> None:
        """Renames within a folder; ``FileExistsError`` where there is a ``target`` already."""
        folder = self.folder(target.parent)
        with about(target):
            if not renames.rename_at(folder, source.name, target.name, renames.NOREPLACE):
                os.link(source.name, target.name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
                os.unlink(source.name, dir_fd=folder)

    def rename(self, source: PurePosixPath, target: PurePosixPath) -> None:
        """Renames within a folder, over whatever is at ``target``."""
        folder = self.folder(target.parent)
        with about(target):
            os.replace(source.name, target.name, src_dir_fd=folder, dst_dir_fd=folder)

    def remove(self, path: PurePosixPath) -> bool:
        """Removes a file (a link itself, not what it points to). False where there was none."""
        try:
            with about(path):
                os.unlink(path.name, dir_fd=self.folder(path.parent))
        except FileNotFoundError:
            return False
        return True

    def make_folder(self, path: PurePosixPath) -> bool:
        """Makes a folder in an existing one, for the owner of that, and waits until the disk has its name.

        False where there was one.
        """
        try:
            with about(path):
                os.mkdir(path.name, 0o755, dir_fd=self.folder(path.parent))
        except FileExistsError:
            return False
        try:
            with about(path):
                give_to_owner_of(self.folder(path.parent), self.folder(path))
            self.sync_folder(path.parent)
        except BaseException:
            with suppress(OSError):
                self.remove_folder(path)
            raise
        return True

    def remove_folder(self, path: PurePosixPath) -> bool:
        """Removes a folder if it is empty. False where it is not, or is not there."""
        self.forget(path)
        try:
            with about(path):
                os.rmdir(path.name, dir_fd=self.folder(path.parent))
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
                raise
            return False
        return True

    def names(self, path: PurePosixPath) -> list[str]:
        """The sorted names in a folder; empty where there is no folder."""
        try:
            with about(path):
                return sorted(entry.name for entry in os.scandir(self.folder(path)))
        except FileNotFoundError:
            return []

    def sync_folder(self, path: PurePosixPath) -> None:
        """Waits until the disk has a folder's names."""
        folder = self.folder(path)
        try:
            with about(path):
                os.fsync(folder)
        except OSError as error:
            if error.errno not in UNSUPPORTED:  # some network file systems sync names by themselves
                raise

    def check_writable(self, path: PurePosixPath) -> None:
        """Refuses a file or folder that is marked read-only, also for root, whom the kernel would let pass.

        Raises:
            OSError: ``EROFS`` or ``EACCES``.
        """
        with about(path):
            parent = self.folder(path.parent)
            name = path.name or "."
            if os.fstatvfs(parent).f_flag & os.ST_RDONLY:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
            effective = os.access in os.supports_effective_ids
            if not mode & 0o222 or not os.access(name, os.W_OK, dir_fd=parent, effective_ids=effective):
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
