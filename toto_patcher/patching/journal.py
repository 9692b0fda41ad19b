"""Finishes or undoes an interrupted transaction, by what is on disk and never by what was meant to be there.

The journal's name is its phase, so that going from one phase to the next is one rename:

- ``prepare.json``: backups and temporaries are being written, no file has been moved; undone by clearing up;
- ``journal.json``: files are being moved; finished if all new bytes are there, else undone;
- ``undo.json``: the moves are being taken back;
- ``done.json``: every file and the state are new; clearing up is left.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from toto_patcher.errors import BackupError, DriftError, RefusedError, UnsafePathError, refuse_all
from toto_patcher.patching.change import fingerprint
from toto_patcher.patching.safe_files import Tree
from toto_patcher.patching.store import BACKUPS, FOLDER, PHASES, STATE

if TYPE_CHECKING:
    from toto_patcher.patching.state import Entry, Journal

DONE, UNDO, MOVE, PREPARE = PHASES
PREPARE_NEW = PurePosixPath(f"{PREPARE}.tmp")
HALF_BACKUP = re.compile(r"[0-9a-f]{64}\.tmp")
_NOT_PLAIN = "not a plain file"

Action = Literal["nothing", "forward", "back", "cleared"]


@dataclass(frozen=True)
class Recovery:
    """What recovery found and did.

    Attributes:
        action: ``forward`` finished the transaction, ``back`` undid it, ``cleared`` removed leftovers of one that had
            moved no file yet, ``nothing`` was there to do.
        files: the source files that the transaction was about.
        foreign: those that were neither old nor new, because somebody edited them; left as they are.
        kept: temporaries left in place because they hold bytes that are neither old nor new.
    """

    action: Action
    files: tuple[PurePosixPath, ...] = ()
    foreign: tuple[PurePosixPath, ...] = ()
    kept: tuple[PurePosixPath, ...] = ()


def find(tree: Tree) -> tuple[PurePosixPath, Journal] | None:
    """The pending journal and its phase, or ``None``.

    Raises:
        BackupError: the journal is damaged.
    """
    for phase in PHASES:
        data = tree.read(phase)
        if data is not None:
            from toto_patcher.patching.state import Journal, from_bytes

            hint = "delete it, then run `toto-patch status`: it names the files that are neither original nor patched"
            return phase, from_bytes(Journal, data, phase, hint=hint)
    return None


def advance(tree: Tree, phase: PurePosixPath, to: PurePosixPath) -> None:
    """Enters the next phase and waits until the disk knows."""
    tree.rename(phase, to)
    tree.sync_folder(FOLDER)


def look(tree: Tree, path: PurePosixPath) -> str | None:
    """The fingerprint of what is there, ``None`` for nothing, and a word that equals no fingerprint for a link."""
    try:
        data = tree.read(path)
    except UnsafePathError:
        return _NOT_PLAIN
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
    part, name = _part(entry), _free(tree, entry, ())
    tree.remove(part)  # of a recovery that was killed
    tree.write_new(part, tree.read(BACKUPS / want) or b"", status)
    tree.move_new(part, name)
    return name


def _part(entry: Entry) -> PurePosixPath:
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


def _is_ready(tree: Tree, entry: Entry, *, forward: bool) -> bool:
    have, want = (entry.before, entry.after) if forward else (entry.after, entry.before)
    disk = look(tree, PurePosixPath(entry.path))
    if disk == want:
        return True
    if disk != have:
        return False
    return want is None or any(look(tree, name) == want for name in (*temporaries(entry), BACKUPS / want))


def _is_foreign(tree: Tree, entry: Entry) -> bool:
    return look(tree, PurePosixPath(entry.path)) not in (entry.before, entry.after)


def _put_displaced_edits_back(tree: Tree, journal: Journal) -> None:
    """An edit that was displaced by a move, whose process was killed before it could look, goes back to its place."""
    for entry in journal.entries:
        path = PurePosixPath(entry.path)
        if look(tree, path) != entry.after:
            continue
        names = temporaries(entry)
        for name in names:
            if look(tree, name) in (None, _NOT_PLAIN, entry.before, entry.after):
                continue
            other = names[1] if name == names[0] else names[0]
            if entry.after is None:
                tree.move_new(name, path)
            elif look(tree, other) is None or tree.remove(other):
                tree.exchange(name, path, other)
            break


def settle(tree: Tree) -> Recovery | None:
    """Finishes or undoes whatever an earlier process left. Needs the lock. Safe to be killed in, and to repeat.

    Raises:
        RefusedGroup, BackupError: there are files that can go neither way; the journal stays.
    """
    if tree.status(PREPARE_NEW) is not None:
        tree.remove(PREPARE_NEW)
    found = find(tree)
    if found is None:
        return None
    phase, journal = found
    if phase == PREPARE:
        clear(tree, phase, journal, forward=False)
        return Recovery("cleared", journal.files)
    if phase == DONE:
        return Recovery("forward", journal.files, kept=clear(tree, phase, journal, forward=True))
    if phase == MOVE:
        _put_displaced_edits_back(tree, journal)
        own = [entry for entry in journal.entries if not _is_foreign(tree, entry)]
        sources = [entry for entry in own if entry.path != str(STATE)]
        can_finish = all(_is_ready(tree, entry, forward=True) for entry in own)
        moved = all(look(tree, PurePosixPath(entry.path)) == entry.after for entry in sources)
        can_undo = all(_is_ready(tree, entry, forward=False) for entry in own)
        # With a foreign edit in the way the tree cannot become all new; go on only if the rest is already.
        if can_finish and (len(own) == len(journal.entries) or moved or not can_undo):
            return go_forward(tree, phase, journal)
        if not can_undo:
            refuse_all([_stuck(entry) for entry in own if not _is_ready(tree, entry, forward=False)])
    return go_back(tree, phase, journal)


def _stuck(entry: Entry) -> RefusedError:
    message = "an interrupted command replaced it, and the bytes it had are gone"
    hint = f"put the original back by hand (from git or the release), delete {MOVE} and run `toto-patch status`"
    return BackupError(message, path=entry.path, hint=hint)


def go_forward(tree: Tree, phase: PurePosixPath, journal: Journal) -> Recovery:
    """Moves every file that is not foreign to its new bytes."""
    foreign = _move_all(tree, journal.entries, forward=True)
    sync_folders(tree, journal)
    advance(tree, phase, DONE)
    return Recovery("forward", journal.files, foreign, clear(tree, DONE, journal, forward=True))


def go_back(tree: Tree, phase: PurePosixPath, journal: Journal) -> Recovery:
    """Moves every file that is not foreign back to its old bytes."""
    if phase != UNDO:
        # Best effort: without the mark a killed roll-back may be finished forward, which is whole as well.
        with suppress(OSError):
            advance(tree, phase, UNDO)
            phase = UNDO
        phase = UNDO if tree.status(UNDO) else phase
    foreign = _move_all(tree, journal.entries[::-1], forward=False)
    sync_folders(tree, journal)
    return Recovery("back", journal.files, foreign, clear(tree, phase, journal, forward=False))


def _move_all(tree: Tree, entries: Sequence[Entry], *, forward: bool) -> tuple[PurePosixPath, ...]:
    """Moves what can be moved; returns the files that are foreign, also those edited just now."""
    foreign = []
    for entry in entries:
        try:
            move(tree, entry, forward=forward)
        except DriftError:
            foreign.append(PurePosixPath(entry.path))
    return tuple(foreign)


def sync_folders(tree: Tree, journal: Journal) -> None:
    """Waits until the disk has the names of every folder that a move touched."""
    for folder in sorted({PurePosixPath(entry.path).parent for entry in journal.entries}):
        with suppress(FileNotFoundError, UnsafePathError):
            tree.sync_folder(folder)


def clear(tree: Tree, phase: PurePosixPath, journal: Journal, *, forward: bool) -> tuple[PurePosixPath, ...]:
    """Removes what the transaction leaves behind and, last of all, its journal.

    Returns:
        Temporaries that hold bytes which are neither old nor new; they are somebody's edit and stay.
    """
    kept = []
    for entry in journal.entries:
        tree.remove(_part(entry))
        for name in temporaries(entry):
            # Before the first move a temporary may be half written, and nothing in it can be an edit.
            if phase == PREPARE or look(tree, name) in (entry.before, entry.after):
                tree.remove(name)
            elif tree.status(name) is not None:
                kept.append(name)
    if forward:
        for path in journal.bytecode:
            remove_bytecode(tree, PurePosixPath(path))
    for digest in journal.old_backups if forward else journal.new_backups:
        tree.remove(BACKUPS / digest)
    for backup in tree.names(BACKUPS):
        if HALF_BACKUP.fullmatch(backup):
            tree.remove(BACKUPS / backup)
    tree.remove_folder(BACKUPS)
    for folder in reversed(journal.old_folders if forward else journal.new_folders):
        tree.remove_folder(PurePosixPath(folder))
    with suppress(OSError):
        sync_folders(tree, journal)
    tree.remove(phase)
    tree.sync_folder(FOLDER)
    return tuple(kept)


def remove_bytecode(tree: Tree, source: PurePosixPath) -> None:
    """Removes the compiled copies of one source file, and their folder if nothing else is in it."""
    if source.suffix != ".py":
        return
    cache = source.parent / "__pycache__"
    with suppress(UnsafePathError):  # a cache that lies elsewhere is not ours to touch
        stale = [name for name in tree.names(cache) if name.startswith(f"{source.stem}.") and name.endswith(".pyc")]
        for name in stale:
            tree.remove(cache / name)
        if stale:
            tree.remove_folder(cache)
