"""Finds a Toto checkout, its Python sources, and the file that defines a class. Reads only."""

from __future__ import annotations

import errno
import functools
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from toto_patcher.errors import StorageError, UnsafePathError, UsageError
from toto_patcher.patching.syntax import class_statements

# Folders that hold no code of the checkout itself.
SKIPPED_FOLDERS = frozenset({"__pycache__", "site-packages", "node_modules", "build", "dist"})
# What upstream calls the folders of its own tests: they use the classes but never define them.
TEST_FOLDERS = frozenset({"test", "tests"})


@dataclass(frozen=True)
class Definition:
    """Where a class is defined: the file and the 1-based line of its ``class`` statement."""

    path: PurePosixPath
    line: int


@dataclass(frozen=True)
class Checkout:
    """A vendored Toto source tree: a folder that holds the package, whatever its git state.

    Attributes:
        root: the absolute folder.
        sources: its Python files relative to ``root``, sorted, tests and hidden folders left out.
        overrides: bytes to take instead of those on disk, such as the originals of patched files.
        seen: what was read so far. One look: a file that changes meanwhile is not read twice.
        kept: what was worked out about the tree, by the name of what worked it out.
    """

    root: Path
    sources: tuple[PurePosixPath, ...]
    overrides: Mapping[PurePosixPath, bytes] = field(default_factory=dict)
    seen: dict[PurePosixPath, bytes] = field(default_factory=dict, repr=False, compare=False)
    kept: dict[str, object] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, root: Path) -> Checkout:
        """Lists the sources of the tree at ``root``.

        Raises:
            UsageError: there is no such folder.
            StorageError: the folder cannot be read.
        """
        root = Path(os.path.abspath(root))  # noqa: PTH100 - resolve() would follow a symbolic link out of the root
        if not root.is_dir():
            raise UsageError(
                "there is no such folder", path=root, hint="Give the folder that holds the package toto/ with --root."
            )
        try:
            return cls(root, tuple(sorted(_python_files(root))))
        except OSError as error:
            raise StorageError(f"cannot list the folder: {error.strerror}", path=root) from error

    def with_sources(self, overrides: Mapping[PurePosixPath, bytes | None]) -> Checkout:
        """The same checkout, reading ``overrides`` in place of the files on disk; ``None`` for those it is without."""
        given = {path: data for path, data in overrides.items() if data is not None}
        sources = {*self.sources, *given} - (overrides.keys() - given.keys())
        return Checkout(self.root, tuple(sorted(sources)), given, self.seen)

    def read(self, path: PurePosixPath) -> bytes:
        """The bytes of one source.

        Raises:
            UnsafePathError: it is a FIFO, a device or a socket.
            StorageError: the file cannot be read.
        """
        if path in self.overrides:
            return self.overrides[path]
        try:
            if path not in self.seen:
                self.seen[path] = _read_plain(self.root / path)
            return self.seen[path]
        except _NotPlainError as error:
            hint = "Remove it, or put a plain file in its place."
            raise UnsafePathError("is not a plain file", path=path, hint=hint) from error
        except OSError as error:
            raise StorageError(f"cannot be read: {error.strerror}", path=path) from error

    def definitions(self, class_name: str) -> list[Definition]:
        """Every top-level definition of a class in the tree, in order of path.

        Raises:
            UnknownSourceError: a file that names the class does not parse.
        """
        name = class_name.encode()
        found = []
        for path in self.sources:
            source = self.read(path)
            if name in source and name in _classes_named(source):  # the first is by far the faster of the two
                classes = class_statements(source, path)
                found += [Definition(path, node.lineno) for node in classes if node.name == class_name]
        return found


# No line break in the white space: over many blank lines the search would be quadratic.
_CLASS = re.compile(rb"(?:\A|[\r\n])[ \t\f\v]*class[ \t]+(\w+)")


@functools.lru_cache(maxsize=256)  # each patch asks for several classes of the same files
def _classes_named(source: bytes) -> frozenset[bytes]:
    """The names after ``class`` at the start of a line: a class, or a line of a string that looks like one."""
    return frozenset(_CLASS.findall(source))


def _python_files(root: Path) -> Iterator[PurePosixPath]:
    above = len(os.fspath(root).rstrip(os.sep)) + 1
    for folder, subfolders, files in os.walk(root, onerror=_raise):
        subfolders[:] = sorted(
            name for name in subfolders if name not in SKIPPED_FOLDERS | TEST_FOLDERS and not name.startswith(".")
        )
        for name in files:
            # An editor's lock file is a dangling link with a hidden name.
            if name.endswith(".py") and not name.startswith("."):
                path = os.path.join(folder, name)  # noqa: PTH118  # thousands of them: Path takes ten times as long
                if os.path.exists(path):  # noqa: PTH110
                    yield PurePosixPath(path[above:])


class _NotPlainError(Exception):
    pass


def _read_plain(path: Path) -> bytes:
    """The bytes of a plain file, links followed; never waits on a FIFO and never reads a device."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise _NotPlainError from error
        raise
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _NotPlainError
        return stream.read()


def _raise(error: OSError) -> None:
    raise error
