"""What ``.toto-patch/`` remembers: the records, their checks and their bytes on disk. Reads and writes no file."""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError, model_validator

from toto_patcher.errors import BackupError
from toto_patcher.patching.store import FOLDER, STATE

SCHEMA_VERSION = 1
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


RelativePath = Annotated[str, AfterValidator(check_relative)]
Sha256 = Annotated[str, StringConstraints(pattern=r"\A[0-9a-f]{64}\z")]
Mode = Annotated[int, "permission bits, at most 0o7777"]
Record = TypeVar("Record", bound=BaseModel)


class FileState(BaseModel):
    """One file that patches changed, added or removed.

    Attributes:
        path: relative to the root, with forward slashes.
        pristine: fingerprint of the original; ``None`` for a file that patches added.
        patched: fingerprint of what was written; ``None`` for a file that patches removed.
        mode: permission bits of the original (of the added file, where there was none).
        backup: whether ``backups/<pristine>`` was written.
        patches: ids of the patches that touch it, in order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: RelativePath
    pristine: Sha256 | None
    patched: Sha256 | None
    mode: Mode
    backup: bool
    patches: tuple[str, ...]


class State(BaseModel):
    """What is in force in a checkout. The same plan gives the same bytes, but for ``created``.

    Attributes:
        schema_version: of this file's format.
        tool_version: of the toto-patch that wrote it.
        created: when, ISO 8601 in UTC.
        release: the toto-ts release that was vendored, if known.
        git_commit: the commit the checkout was at when it was first patched, if it was one.
        profile: the profile that was named, if one was.
        patches: ids in force, in order.
        files: what they did, sorted by path.
        folders: folders that did not exist before, parents first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    tool_version: str
    created: str
    release: str | None = None
    git_commit: str | None = None
    profile: str | None = None
    patches: tuple[str, ...]
    files: tuple[FileState, ...]
    folders: tuple[RelativePath, ...] = ()

    @model_validator(mode="after")
    def _each_file_once(self) -> State:
        paths = [file.path for file in self.files]
        if len(set(paths)) != len(paths):
            raise ValueError("a file is listed twice")
        return self

    def file(self, path: PurePosixPath | str) -> FileState | None:
        """The record of one file, or ``None`` if patches did not touch it."""
        return next((file for file in self.files if file.path == str(path)), None)

    def says_the_same_as(self, other: State | None) -> bool:
        """Whether two states differ in nothing but when and by which version they were written."""
        ignored = {"created", "tool_version"}
        return other is not None and self.model_dump(exclude=ignored) == other.model_dump(exclude=ignored)


class Entry(BaseModel):
    """One move of a transaction: from the bytes ``before`` to the bytes ``after``.

    ``temporary`` lies in the file's own folder. It holds the new bytes until the move and the old ones after it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    before: Sha256 | None
    after: Sha256 | None
    temporary: Annotated[str, StringConstraints(pattern=rf"\A{TEMPORARY.pattern}\z")]

    @model_validator(mode="after")
    def _stays_inside(self) -> Entry:
        if self.path != str(STATE):
            check_relative(self.path)
        return self


class Journal(BaseModel):
    """Everything recovery needs to finish or undo one transaction.

    Attributes:
        entries: the moves, in order; the state file's comes last.
        bytecode: source files whose compiled copies are stale.
        new_backups: backups that this transaction writes; dropped again if it is undone.
        old_backups: backups that nothing needs once it is done.
        new_folders, old_folders: folders that it makes, and that are removed with it if empty; parents first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    entries: tuple[Entry, ...]
    bytecode: tuple[RelativePath, ...] = ()
    new_backups: tuple[Sha256, ...] = ()
    old_backups: tuple[Sha256, ...] = ()
    new_folders: tuple[RelativePath, ...] = ()
    old_folders: tuple[RelativePath, ...] = ()

    @property
    def files(self) -> tuple[PurePosixPath, ...]:
        """The source files it moves, without the state file."""
        return tuple(PurePosixPath(entry.path) for entry in self.entries if entry.path != str(STATE))


def to_bytes(record: BaseModel) -> bytes:
    """The record as JSON: sorted keys, two spaces, one final newline, so equal records are equal bytes."""
    text = json.dumps(record.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False)
    return text.encode() + b"\n"


def from_bytes(kind: type[Record], data: bytes, path: PurePosixPath) -> Record:
    """Reads a record back.

    Raises:
        BackupError: it is not JSON, not of a schema version known here, or says something impossible.
    """
    hint = "restore the file from version control or a copy, or put the originals back by hand and delete .toto-patch"
    try:
        content: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else None
        raise BackupError(f"is damaged: not JSON ({error})", path=path, line=line, hint=hint) from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version != SCHEMA_VERSION:
        message = f"has schema version {version}, this toto-patch knows version {SCHEMA_VERSION}"
        raise BackupError(message, path=path, hint="use the toto-patch that wrote it, or a newer one")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BackupError(f"is damaged: {where or 'the document'}: {first['msg']}", path=path, hint=hint) from error
