"""Reads ``.toto-patch/``: what is in force and the originals, checked by fingerprint on every read. Writes nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from toto_patcher.errors import BackupError
from toto_patcher.patching.change import fingerprint
from toto_patcher.patching.files.layout import BACKUPS, FOLDER, MAX_RECORD_BYTES, PHASES, STATE
from toto_patcher.patching.files.lock import OURS
from toto_patcher.patching.files.safe_files import Tree
from toto_patcher.patching.files.system_errors import storage_error

if TYPE_CHECKING:  # an unpatched checkout never needs it
    from toto_patcher.patching.state import State

_DIGEST = re.compile("[0-9a-f]{64}")
_BY_HAND = f"restore it from a copy, or put the originals in {BACKUPS} back by hand and then delete {FOLDER}"


def recorded_files(root: Path) -> tuple[PurePosixPath, ...]:
    """The files of the record that belong into git with the patched ones: it travels with them."""
    try:
        with Tree(root) as tree:
            names = [*OURS, STATE, *(BACKUPS / name for name in tree.names(BACKUPS) if _DIGEST.fullmatch(name))]
            return tuple(path for path in names if tree.status(path) is not None)
    except OSError as error:
        raise storage_error(error) from error


def former_backups(state: State) -> tuple[PurePosixPath, ...]:
    """The originals that a record kept: the next one may need some of them no longer."""
    return tuple(BACKUPS / file.pristine for file in state.files if file.backup and file.pristine)


class Store:
    """The memory of one checkout."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def state(self) -> State | None:
        """What is in force; ``None`` for a checkout that is not patched.

        Raises:
            BackupError: the state file is damaged, of an unknown version, or gone while backups are still there.
            UnsafePathError: ``.toto-patch`` or the state file is a symbolic link.
            StorageError: the operating system refused to read it.
        """
        try:
            with Tree(self.root) as tree:
                data = tree.read(STATE, MAX_RECORD_BYTES)
                if data is None:
                    pending = any(tree.status(path) for path in PHASES)
                    if not pending and any(_DIGEST.fullmatch(name) for name in tree.names(BACKUPS)):
                        raise BackupError(
                            "is missing, but backups of original files are still there",
                            path=STATE,
                            hint=_BY_HAND,
                        )
                    return None
        except OSError as error:
            raise storage_error(error) from error
        from toto_patcher.patching.state import State, from_bytes

        return from_bytes(State, data, STATE, hint=_BY_HAND)

    def backup(self, digest: str) -> bytes:
        """The original with this fingerprint.

        Raises:
            BackupError: there is no such backup, or its bytes are not those that were saved.
            StorageError: the operating system refused to read it.
        """
        path = BACKUPS / digest
        try:
            with Tree(self.root) as tree:
                data = tree.read(path)
        except OSError as error:
            raise storage_error(error) from error
        if data is None:
            raise BackupError("backup is missing", path=path, hint="restore it from a copy of the checkout")
        if fingerprint(data) != digest:
            message = f"backup is damaged: its sha256 is {fingerprint(data)}"
            raise BackupError(message, path=path, hint="restore it from a copy of the checkout")
        return data

    def pristine_sources(self, state: State) -> Mapping[PurePosixPath, bytes]:
        """The originals of all files that patches changed, from the backups alone.

        ``restore.originals`` also knows the git commit and the pinned release; use that where there may be no backup.

        Raises:
            BackupError: a file has no backup, or its backup is missing or damaged.
        """
        sources: dict[PurePosixPath, bytes] = {}
        for file in state.files:
            if file.pristine is None:
                continue
            if not file.backup:
                raise BackupError("was patched with --no-backup", path=file.path)
            sources[PurePosixPath(file.path)] = self.backup(file.pristine)
        return sources
