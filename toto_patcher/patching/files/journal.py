"""The journal of a transaction and the one move that each file makes, forward or back.

The journal's name is its phase, so that going from one phase to the next is one rename:

- ``prepare.json``: backups and temporaries are being written, no file has been moved; undone by clearing up;
- ``journal.json``: files are being moved; finished if all new bytes are there, else undone;
- ``undo.json``: the moves are being taken back;
- ``done.json``: every file and the state are new; clearing up is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from toto_patcher.errors import BackupError, DriftError, UnsafePathError
from toto_patcher.patching.change import fingerprint
from toto_patcher.patching.files.layout import BACKUPS, FOLDER, MAX_RECORD_BYTES, PHASES
from toto_patcher.patching.files.safe_files import Tree

if TYPE_CHECKING:
    from toto_patcher.patching.state import Entry, Journal

DONE, UNDO, MOVE, PREPARE = PHASES
PREPARE_NEW = PurePosixPath(f"{PREPARE}.tmp")
NOT_PLAIN = "not a plain file"


def find(tree: Tree) -> tuple[PurePosixPath, Journal] | None:
    """The pending journal and its phase, or ``None``.

    Raises:
        BackupError: the journal is damaged.
    """
    for phase in PHASES:
        data = tree.read(phase, MAX_RECORD_BYTES)
        if data is not None:
            from toto_patcher.patching.state import Journal, from_bytes

            hint = "delete it, then run `toto-patch status`: it names the files that are neither original nor patched"
            return phase, from_bytes(Journal, data, phase, hint=hint)
    return None


def advance(tree: Tree, phase: PurePosixPath, to: PurePosixPath) -> None:
    """Enters the next phase and waits until the disk knows."""
    tree.rename(phase, to)
    tree.sync_folder(FOLDER)


def sync_folders(tree: Tree, journal: Journal) -> None:
    """Waits until the disk has the names of every folder that a move touched."""
    for folder in sorted({PurePosixPath(entry.path).parent for entry in journal.entries}):
        with suppress(FileNotFoundError, UnsafePathError):
            tree.sync_folder(folder)


def look(tree: Tree, path: PurePosixPath) -> str | None:
    """The fingerprint of what is there, ``None`` for nothing, and a word that equals no fingerprint for a link."""
    try:
        data = tree.read(path)
    except UnsafePathError:
        return NOT_PLAIN
    return None if data is None else fingerprint(data)


def temporaries(entry: Entry) -> tuple[PurePosixPath, PurePosixPath]:
    """The two names in the file's own folder that its move may use."""
    folder = PurePosixPath(entry.path).parent
    return folder / entry.temporary, folder / f"{entry.temporary}.old"


def move(tree: Tree, entry: Entry, *, forward: bool) -> None:
    """Gives one file its new bytes, or its old ones back; the bytes it had stay under a temporary name.

    Doing it again is harmless. Bytes that are neither are never replaced: what was displaced is looked at once more,
    so an edit saved between check and exchange is noticed and put back.

    Raises:
        DriftError: the file is neither old nor new.
        BackupError: the bytes to publish are gone.
    """
    path = PurePosixPath(entry.path)
    have, want = (entry.before, entry.after) if forward else (entry.after, entry.before)
    disk = look(tree, path)
    if disk == want:
        return
    if disk != have:
        raise _edited(path)
    if want is None:
        kept = _free(tree, entry, (have,))
        tree.rename(path, kept)
        if look(tree, kept) != have:
            tree.move_new(kept, path)
            raise _edited(path)
        return
    source = _source(tree, entry, want)
    if source is None:
        raise BackupError("the bytes to write are gone", path=path)
    if have is None:
        try:
            tree.move_new(source, path)
        except FileExistsError:
            raise _edited(path) from None
        return
    spare = _free(tree, entry, (have, want), but=source)
    kept = tree.exchange(source, path, spare)
    if look(tree, kept) != have:
        tree.exchange(kept, path, spare if kept == source else source)
        raise _edited(path)


def _edited(path: PurePosixPath) -> DriftError:
    hint = "your edit was kept; run the command again when nothing else writes to the checkout"
    return DriftError("was edited while toto-patch was about to write it", path=path, hint=hint)


def _source(tree: Tree, entry: Entry, want: str) -> PurePosixPath | None:
    for name in temporaries(entry):
        if look(tree, name) == want:
            return name
    status = tree.status(PurePosixPath(entry.path))
    if status is None or look(tree, BACKUPS / want) != want:
        return None
    half, name = part(entry), _free(tree, entry, ())
    tree.remove(half)  # of a recovery that was killed
    tree.write_new(half, tree.read(BACKUPS / want) or b"", status)
    tree.move_new(half, name)
    return name


def part(entry: Entry) -> PurePosixPath:
    """The name under which recovery writes bytes that it takes from a backup."""
    return PurePosixPath(entry.path).parent / f"{entry.temporary}.part"


def _free(
    tree: Tree, entry: Entry, expendable: Sequence[str | None], but: PurePosixPath | None = None
) -> PurePosixPath:
    """A temporary name with nothing under it, if need be by removing bytes that are safe elsewhere."""
    names = [name for name in temporaries(entry) if name != but]
    for name in names:
        if look(tree, name) is None:
            return name
    for name in names:
        if look(tree, name) in expendable:
            tree.remove(name)
            return name
    raise BackupError("holds bytes that toto-patch did not write", path=names[0], hint="move it away and try again")
