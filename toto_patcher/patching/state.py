"""What ``.toto-patch/`` remembers: the records, their checks and their bytes on disk. Reads and writes no file.

The checks are written out here rather than left to a validation library, whose import alone would cost every command
more than the rest of its work.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import PurePosixPath
from typing import Any, TypeVar, cast

from toto_patcher.errors import BackupError
from toto_patcher.patching import record_rules as rules
from toto_patcher.patching.files.layout import STATE
from toto_patcher.patching.record_rules import SHA256, TEMPORARY, must

__all__ = ["SCHEMA_VERSION", "SHA256", "TEMPORARY", "Entry", "FileState", "Journal", "State", "from_bytes", "to_bytes"]

SCHEMA_VERSION = 2
READABLE = (1, SCHEMA_VERSION)
"""Version 1, of toto-patch 0.1.0, says nothing of the package's other files."""


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
        rules.source_path("path", self.path)
        rules.sha256("pristine", self.pristine)
        rules.sha256("patched", self.patched)
        rules.mode("mode", self.mode)
        must(type(self.backup) is bool, "backup", "not true or false")
        rules.patch_ids("patches", self.patches)


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
        package: fingerprints of the package's files that no patch touches, by path, as they were at the last apply;
            ``None`` where that was not recorded.
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
    package: Mapping[str, str] | None = None
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        """Refuses impossible records."""
        _version(self.schema_version)
        must(self.tool_version is not None, "tool_version", "not a version")
        rules.label("tool_version", self.tool_version)
        rules.moment("created", self.created)
        rules.label("release", self.release)
        rules.label("profile", self.profile)
        rules.commit("git_commit", self.git_commit)
        rules.patch_ids("patches", self.patches)
        for number, folder in enumerate(rules.texts("folders", self.folders)):
            rules.package_path(f"folders.{number}", folder)
        paths = [file.path for file in self.files]
        must(len(set(paths)) == len(paths), "files", "a file is listed twice")
        must(self.package is None or isinstance(self.package, Mapping), "package", "not an object")
        for path, digest in (self.package or {}).items():
            must(rules.compared_path(path), "package", f"{path!r} is hidden, or not a plain relative path")
            rules.sha256(f"package.{path}", digest, optional=False)

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
            rules.moved_path("path", self.path)
        rules.sha256("before", self.before)
        rules.sha256("after", self.after)
        named = type(self.temporary) is str and TEMPORARY.fullmatch(self.temporary) is not None
        must(named, "temporary", "not the name of a temporary file")


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
        paths = [entry.path for entry in self.entries]
        must(len(set(paths)) == len(paths), "entries", "a file is listed twice")
        for name in ("bytecode", "new_folders", "old_folders"):
            for number, path in enumerate(rules.texts(name, getattr(self, name))):
                rules.package_path(f"{name}.{number}", path)
        for name in ("new_backups", "old_backups"):
            for number, digest in enumerate(rules.texts(name, getattr(self, name))):
                rules.sha256(f"{name}.{number}", digest, optional=False)

    @property
    def files(self) -> tuple[PurePosixPath, ...]:
        """The source files it moves, without the state file."""
        return tuple(PurePosixPath(entry.path) for entry in self.entries if entry.path != str(STATE))


Record = TypeVar("Record", State, Journal)
Built = TypeVar("Built", State, Journal, FileState, Entry)


def _version(value: object) -> None:
    must(type(value) is int and value in READABLE, "schema_version", f"not {SCHEMA_VERSION}")


def _each(values: object, name: str) -> list[tuple[object, str]]:
    must(type(values) is tuple, name, "not a list")
    return [(value, f"{name}.{number}") for number, value in enumerate(cast("tuple[object, ...]", values))]


def to_bytes(record: State | Journal) -> bytes:
    """The record as JSON: sorted keys, two spaces, one final newline, so equal records are equal bytes."""
    return json.dumps(asdict(record), indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def from_bytes(kind: type[Record], data: bytes, path: PurePosixPath, *, hint: str) -> Record:
    """Reads a record back.

    Raises:
        BackupError: it is not JSON, not of a schema version known here, or says something impossible.
    """
    try:
        content: Any = json.loads(data, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else None
        raise BackupError(f"is damaged: not JSON ({error})", path=path, line=line, hint=hint) from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if isinstance(content, dict) and type(version) is not int:
        raise BackupError("is damaged: schema_version: not a number", path=path, hint=hint)
    if version is not None and version not in READABLE:
        message = f"has schema version {str(version)[:20]}, this toto-patch knows version {SCHEMA_VERSION}"
        raise BackupError(message, path=path, hint="use the toto-patch that wrote it, or a newer one")
    try:
        return _build(kind, content, "the document")
    except ValueError as error:
        raise BackupError(f"is damaged: {error}", path=path, hint=hint) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object in which no key stands twice: two readers could take it for two different things."""
    content = dict(pairs)
    must(len(content) == len(pairs), "the document", "a key stands twice")
    return content


def _build(kind: type[Built], content: object, name: str) -> Built:
    """A record from parsed JSON: every field known, every required one there, lists as tuples."""
    must(isinstance(content, dict), name, "not an object")
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
