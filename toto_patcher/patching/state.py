"""What ``.toto-patch/`` remembers: the records, their checks and their bytes on disk. Reads and writes no file.

The checks are written out here rather than left to a validation library, whose import alone would cost every command
more than the rest of its work.
"""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import PurePosixPath
from typing import Any, TypeVar, cast

from toto_patcher.errors import BackupError
from toto_patcher.patching.files.layout import FOLDER, STATE

SCHEMA_VERSION = 1
SHA256 = re.compile(r"[0-9a-f]{64}")
TEMPORARY = re.compile(r"\.toto-patch-[0-9a-f]{16}-[0-9]+\.tmp")


def check_relative(path: str) -> str:
    """Returns a path that stays below the root and out of ``.toto-patch``, in its one normal spelling.

    Raises:
        ValueError: it is absolute, climbs with ``..``, has a second spelling, or cannot be written as UTF-8.
    """
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts:
        raise ValueError(f"{path!r} leaves the root")
    if not pure.parts or str(pure) != path or "\0" in path:
        raise ValueError(f"{path!r} is not a plain relative path")
    if pure.parts[0] == FOLDER.name:
        raise ValueError(f"{path!r} lies in the folder that toto-patch keeps for itself")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{path!r} is not valid UTF-8") from None
    return path


@dataclass(frozen=True)
class FileState:
    """One file that patches changed, added or removed.

    Attributes:
        path: relative to the root, with forward slashes.
        pristine: fingerprint of the original; ``None`` for a file that patches added.
        patched: fingerprint of what was written; ``None`` for a file that patches removed.
        mode: permission bits of the original (of the added file, where there was none).
        backup: whether ``backups/<pristine>`` was written.
        patches: ids of the patches that touch it, in order.
    """

    path: str
    pristine: str | None
    patched: str | None
    mode: int
    backup: bool
    patches: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuses impossible records."""
        _path("path", self.path)
        _sha256("pristine", self.pristine)
        _sha256("patched", self.patched)
        _must(type(self.mode) is int and 0 <= self.mode <= 0o7777, "mode", "not permission bits")
        _must(type(self.backup) is bool, "backup", "not true or false")
        _texts("patches", self.patches)


@dataclass(frozen=True)
class State:
    """What is in force in a checkout. The same plan gives the same bytes, but for ``created``.

    Attributes:
        tool_version: of the toto-patch that wrote it.
        created: when, ISO 8601 in UTC.
        patches: ids in force, in order.
        files: what they did, sorted by path.
        release: the toto-ts release that was vendored, if known.
        git_commit: the commit the checkout was at when it was first patched, if it was one.
        profile: the profile that was named, if one was.
        folders: folders that did not exist before, parents first.
        schema_version: of this file's format.
    """

    tool_version: str
    created: str
    patches: tuple[str, ...]
    files: tuple[FileState, ...]
    release: str | None = None
    git_commit: str | None = None
    profile: str | None = None
    folders: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        """Refuses impossible records."""
        _version(self.schema_version)
        _texts("tool_version", (self.tool_version,))
        _texts("created", (self.created,))
        for name in ("release", "git_commit", "profile"):
            value = getattr(self, name)
            _must(value is None or type(value) is str, name, "not a text")
        _texts("patches", self.patches)
        _texts("folders", self.folders)
        for number, folder in enumerate(self.folders):
            _path(f"folders.{number}", folder)
        paths = [file.path for file in self.files]
        _must(len(set(paths)) == len(paths), "files", "a file is listed twice")

    def file(self, path: PurePosixPath | str) -> FileState | None:
        """The record of one file, or ``None`` if patches did not touch it."""
        return next((file for file in self.files if file.path == str(path)), None)

    def says_the_same_as(self, other: State | None) -> bool:
        """Whether two states differ in nothing but when and by which version they were written."""
        return other is not None and replace(other, created=self.created, tool_version=self.tool_version) == self


@dataclass(frozen=True)
class Entry:
    """One move of a transaction: from the bytes ``before`` to the bytes ``after``.

    ``temporary`` lies in the file's own folder. It holds the new bytes until the move and the old ones after it.
    """

    path: str
    before: str | None
    after: str | None
    temporary: str

    def __post_init__(self) -> None:
        """Refuses impossible records."""
        if self.path != str(STATE):
            _path("path", self.path)
        _sha256("before", self.before)
        _sha256("after", self.after)
        named = type(self.temporary) is str and TEMPORARY.fullmatch(self.temporary) is not None
        _must(named, "temporary", "not the name of a temporary file")


@dataclass(frozen=True)
class Journal:
    """Everything recovery needs to finish or undo one transaction.

    Attributes:
        entries: the moves, in order; the state file's comes last.
        bytecode: source files whose compiled copies are stale.
        new_backups: backups that this transaction writes; dropped again if it is undone.
        old_backups: backups that nothing needs once it is done.
        new_folders, old_folders: folders that it makes, and that are removed with it if empty; parents first.
        schema_version: of this file's format.
    """

    entries: tuple[Entry, ...]
    bytecode: tuple[str, ...] = ()
    new_backups: tuple[str, ...] = ()
    old_backups: tuple[str, ...] = ()
    new_folders: tuple[str, ...] = ()
    old_folders: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        """Refuses impossible records."""
        _version(self.schema_version)
        for name in ("bytecode", "new_folders", "old_folders"):
            for number, path in enumerate(_texts(name, getattr(self, name))):
                _path(f"{name}.{number}", path)
        for name in ("new_backups", "old_backups"):
            for number, digest in enumerate(_texts(name, getattr(self, name))):
                _sha256(f"{name}.{number}", digest)

    @property
    def files(self) -> tuple[PurePosixPath, ...]:
        """The source files it moves, without the state file."""
        return tuple(PurePosixPath(entry.path) for entry in self.entries if entry.path != str(STATE))


Record = TypeVar("Record", State, Journal)
Built = TypeVar("Built", State, Journal, FileState, Entry)


def _must(holds: bool, name: str, fault: str) -> None:
    if not holds:
        raise ValueError(f"{name}: {fault}")


def _version(value: object) -> None:
    _must(type(value) is int and value == SCHEMA_VERSION, "schema_version", f"not {SCHEMA_VERSION}")


def _path(name: str, value: object) -> None:
    _must(type(value) is str, name, "not a text")
    try:
        check_relative(str(value))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _sha256(name: str, value: object) -> None:
    _must(value is None or (type(value) is str and SHA256.fullmatch(value) is not None), name, "not a sha256")


def _each(values: object, name: str) -> list[tuple[object, str]]:
    _must(type(values) is tuple, name, "not a list")
    return [(value, f"{name}.{number}") for number, value in enumerate(cast("tuple[object, ...]", values))]


def _texts(name: str, values: tuple[str, ...]) -> tuple[str, ...]:
    _must(type(values) is tuple and all(type(value) is str for value in values), name, "not a list of texts")
    return values


def to_bytes(record: State | Journal) -> bytes:
    """The record as JSON: sorted keys, two spaces, one final newline, so equal records are equal bytes."""
    return json.dumps(asdict(record), indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def from_bytes(kind: type[Record], data: bytes, path: PurePosixPath, *, hint: str) -> Record:
    """Reads a record back.

    Raises:
        BackupError: it is not JSON, not of a schema version known here, or says something impossible.
    """
    try:
        content: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else None
        raise BackupError(f"is damaged: not JSON ({error})", path=path, line=line, hint=hint) from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if isinstance(content, dict) and type(version) is not int:
        raise BackupError("is damaged: schema_version: not a number", path=path, hint=hint)
    if version is not None and version != SCHEMA_VERSION:
        message = f"has schema version {version}, this toto-patch knows version {SCHEMA_VERSION}"
        raise BackupError(message, path=path, hint="use the toto-patch that wrote it, or a newer one")
    try:
        return _build(kind, content, "the document")
    except ValueError as error:
        raise BackupError(f"is damaged: {error}", path=path, hint=hint) from error


def _build(kind: type[Built], content: object, name: str) -> Built:
    """A record from parsed JSON: every field known, every required one there, lists as tuples."""
    _must(isinstance(content, dict), name, "not an object")
    given = dict(cast("dict[str, Any]", content))
    known = {item.name: item for item in fields(kind)}
    for key in sorted(given.keys() - known.keys()):
        raise ValueError(f"{name}: unknown field {key!r}")
    values: dict[str, Any] = {}
    for key, item in known.items():
        if key in given:
            values[key] = tuple(given[key]) if isinstance(given[key], list) else given[key]
        elif item.default is MISSING:
            raise ValueError(f"{name}: no field {key!r}")
    if "files" in known:
        values["files"] = tuple(_build(FileState, each, name) for each, name in _each(values["files"], "files"))
    if "entries" in known:
        values["entries"] = tuple(_build(Entry, each, name) for each, name in _each(values["entries"], "entries"))
    return kind(**values)
