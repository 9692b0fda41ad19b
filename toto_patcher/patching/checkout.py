"""Finds a Toto checkout, its Python sources, and the file that defines a class. Reads only."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

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
    """

    root: Path
    sources: tuple[PurePosixPath, ...]
    overrides: Mapping[PurePosixPath, bytes] = field(default_factory=dict)
    seen: dict[PurePosixPath, bytes] = field(default_factory=dict, repr=False, compare=False)

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
        candidate = re.compile(rb"(?:\A|[\r\n])\s*class[ \t]+" + name + rb"\b")
        found = []
        for path in self.sources:
            source = self.read(path)
            if name in source and candidate.search(source):  # the first is by far the faster of the two
                classes = class_statements(source, path)
                found += [Definition(path, node.lineno) for node in classes if node.name == class_name]
        return found


def _python_files(root: Path) -> Iterator[PurePosixPath]:
    for folder, subfolders, files in os.walk(root, onerror=_raise):
        subfolders[:] = sorted(
            name for name in subfolders if name not in SKIPPED_FOLDERS | TEST_FOLDERS and not name.startswith(".")
        )
        for name in files:
            # An editor's lock file is a dangling link with a hidden name.
            if name.endswith(".py") and not name.startswith(".") and (Path(folder) / name).exists():
                yield PurePosixPath((Path(folder) / name).relative_to(root).as_posix())


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


def starting_folder(explicit: Path | None, environ: Mapping[str, str]) -> Path:
    """The current folder; where that was deleted, the file system's root for who is told an absolute folder anyway.

    Raises:
        UsageError: the current folder was deleted, and it is needed.
    """
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        if not (explicit or Path(environ.get("TOTO_PATCH_ROOT", ""))).is_absolute():
            hint = "Change to a folder that exists, or give an absolute one with --root DIR."
            raise UsageError("the current folder no longer exists", hint=hint) from error
    os.chdir(os.sep)
    return Path(os.sep)


def find_root(explicit: Path | None, environ: Mapping[str, str], cwd: Path) -> Path:
    """The checkout's folder: ``--root``, ``TOTO_PATCH_ROOT``, ``[tool.toto-patch] root`` of the nearest
    pyproject.toml, or ``vendor/toto`` at or above ``cwd``; the first that is given wins.

    Raises:
        UsageError: none is given, or the one given is no folder.
    """
    named = _named_root(explicit, environ, cwd)
    if named is not None:
        return _existing(*named)
    for folder in (cwd, *cwd.parents):
        if (folder / "vendor" / "toto").is_dir():
            return folder / "vendor" / "toto"
    raise UsageError(
        "no Toto checkout found",
        hint="Give it with --root DIR or TOTO_PATCH_ROOT, or fetch one with: toto-patch vendor",
    )


def wanted_root(explicit: Path | None, environ: Mapping[str, str], cwd: Path) -> Path:
    """Where a checkout is to be put: the folder that ``find_root`` would find, or else ``vendor/toto`` below ``cwd``.

    Raises:
        UsageError: the configuration cannot be read.
    """
    named = _named_root(explicit, environ, cwd)
    if named is not None:
        return Path(os.path.abspath(named[0]))  # noqa: PTH100 - as in Checkout.open
    try:
        return find_root(None, {}, cwd)
    except UsageError:
        return cwd / "vendor" / "toto"


def _named_root(explicit: Path | None, environ: Mapping[str, str], cwd: Path) -> tuple[Path, str] | None:
    """The folder that somebody named, and where."""
    if explicit is not None:
        return explicit, "--root"
    if environ.get("TOTO_PATCH_ROOT"):
        return Path(environ["TOTO_PATCH_ROOT"]), "TOTO_PATCH_ROOT"
    for folder in (cwd, *cwd.parents):
        config = folder / "pyproject.toml"
        if config.is_file():
            configured = _configured_root(config)
            return None if configured is None else (folder / configured, f"[tool.toto-patch] root in {config}")
    return None


def _configured_root(config: Path) -> str | None:
    found: Any = _load_toml(config)
    for key in ("tool", "toto-patch"):
        found = found.get(key, {})
        if not isinstance(found, dict):
            raise UsageError(f"`{key}` is not a table", path=config, hint=_CONFIGURATION)
    root = found.get("root")
    if root is not None and (not isinstance(root, str) or not root or "\0" in root):
        raise UsageError("`root` of [tool.toto-patch] is not a folder's name", path=config, hint=_CONFIGURATION)
    return root


_CONFIGURATION = 'It may say: [tool.toto-patch], and below that: root = "a folder, relative to this file".'


def _existing(root: Path, origin: str) -> Path:
    if not root.is_dir():
        raise UsageError(
            f"{origin} names a folder that does not exist: {root}", hint="Fetch one with: toto-patch vendor"
        )
    return Path(os.path.abspath(root))  # noqa: PTH100 - as in Checkout.open


def _load_toml(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        with path.open("rb") as stream:
            loaded: dict[str, Any] = tomllib.load(stream)
            return loaded
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(
            f"is not valid TOML: {error}", path=path, hint="Repair the file, or give --root DIR."
        ) from error
    except OSError as error:
        raise StorageError(f"cannot be read: {error.strerror}", path=path) from error
