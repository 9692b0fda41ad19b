"""Finishes or undoes an interrupted transaction, by what is on disk and never by what was meant to be there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from toto_patcher.errors import BackupError, DriftError, RefusedError, UnsafePathError, refuse_all
from toto_patcher.patching.files import journal
from toto_patcher.patching.files.layout import BACKUPS, FOLDER, PHASES, SET_ASIDE, STATE
from toto_patcher.patching.files.safe_files import Tree

if TYPE_CHECKING:
    from toto_patcher.patching.state import Entry, Journal, State

_HALF_BACKUP = re.compile(r"[0-9a-f]{64}\.tmp")

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


def _is_ready(tree: Tree, entry: Entry, *, forward: bool) -> bool:
    have, want = (entry.before, entry.after) if forward else (entry.after, entry.before)
    disk = journal.look(tree, PurePosixPath(entry.path))
    if disk == want:
        return True
    if disk != have:
        return False
    return want is None or any(
        journal.look(tree, name) == want for name in (*journal.temporaries(entry), BACKUPS / want)
    )


def _is_foreign(tree: Tree, entry: Entry) -> bool:
    return journal.look(tree, PurePosixPath(entry.path)) not in (entry.before, entry.after)


def _was_moved(tree: Tree, entry: Entry) -> bool | None:
    """Whether a file had its new bytes before somebody edited it; ``None`` where nothing tells any more."""
    held = {journal.look(tree, name) for name in journal.temporaries(entry)}
    if entry.before is None:
        return entry.after not in held
    if entry.before in held:
        return True
    return False if entry.after in held else None


def standing(tree: Tree, moves: Journal) -> Literal["old", "new", "mixed"]:
    """Where the files of a transaction are, by what is on disk: all old, all new, or some of each."""
    looks = [(entry, journal.look(tree, PurePosixPath(entry.path))) for entry in moves.entries]
    if all(look == entry.before for entry, look in looks):
        return "old"
    return "new" if all(look == entry.after for entry, look in looks) else "mixed"


def _loses_an_original(tree: Tree, moves: Journal, *, forward: bool) -> bool:
    """Whether going this way drops the record, and with it the original of a file that was edited when patched."""
    state = next((entry for entry in moves.entries if entry.path == str(STATE)), None)
    if state is None or (state.after if forward else state.before) is not None:
        return False
    edited = [entry for entry in moves.entries if entry is not state and _is_foreign(tree, entry)]
    return any(_was_moved(tree, entry) is not forward for entry in edited)


def _needed_backups(tree: Tree, moves: Journal, *, forward: bool) -> set[str]:
    """Originals of files that were edited when patched; the last copy of such a one stays, whatever else is dropped."""
    needed = set()
    for entry in moves.entries:
        if entry.path != str(STATE) and _is_foreign(tree, entry) and _was_moved(tree, entry) is not forward:
            needed |= {digest for digest in (entry.before, entry.after) if digest is not None}
    return needed


def _put_displaced_edits_back(tree: Tree, moves: Journal) -> None:
    """An edit that was displaced by a move, whose process was killed before it could look, goes back to its place."""
    for entry in moves.entries:
        path = PurePosixPath(entry.path)
        if journal.look(tree, path) != entry.after:
            continue
        names = journal.temporaries(entry)
        for name in names:
            if journal.look(tree, name) in (None, journal.NOT_PLAIN, entry.before, entry.after):
                continue
            other = names[1] if name == names[0] else names[0]
            if entry.after is None:
                tree.move_new(name, path)
            elif journal.look(tree, other) is None or tree.remove(other):
                tree.exchange(name, path, other)
            break


def settle(tree: Tree) -> Recovery | None:
    """Finishes or undoes whatever an earlier process left. Needs the lock. Safe to be killed in, and to repeat.

    Raises:
        RefusedGroup, BackupError: there are files that can go neither way; the journal stays.
    """
    if tree.status(journal.PREPARE_NEW) is not None:
        tree.remove(journal.PREPARE_NEW)
    found = journal.find(tree)
    if found is None:
        return None
    phase, moves = found
    if phase == journal.PREPARE:
        clear(tree, phase, moves, forward=False)
        return Recovery("cleared", moves.files)
    if phase == journal.DONE:
        return Recovery("forward", moves.files, kept=clear(tree, phase, moves, forward=True))
    if phase == journal.MOVE:
        refuse_all(_contradictions(tree, moves))
        _put_displaced_edits_back(tree, moves)
        own = [entry for entry in moves.entries if not _is_foreign(tree, entry)]
        sources = [entry for entry in own if entry.path != str(STATE)]
        can_finish = all(_is_ready(tree, entry, forward=True) for entry in own)
        moved = all(journal.look(tree, PurePosixPath(entry.path)) == entry.after for entry in sources)
        can_undo = all(_is_ready(tree, entry, forward=False) for entry in own)
        # With a foreign edit in the way the tree cannot become all new; go on only if the rest is already.
        prefer_new = len(own) == len(moves.entries) or moved or not can_undo
        if _loses_an_original(tree, moves, forward=prefer_new):
            prefer_new = not prefer_new
        if can_finish and (prefer_new or not can_undo):
            return go_forward(tree, phase, moves)
        if not can_undo:
            refuse_all([_stuck(entry) for entry in own if not _is_ready(tree, entry, forward=False)])
    return go_back(tree, phase, moves)


def _contradictions(tree: Tree, moves: Journal) -> list[RefusedError]:
    """Where a journal names another end for a file than the record that it carries: no run wrote both."""
    entry = next((entry for entry in moves.entries if entry.path == str(STATE)), None)
    new, old = (None, None) if entry is None else (_state(tree, entry, entry.after), _state(tree, entry, entry.before))
    found: list[RefusedError] = []
    for move in moves.entries if new is not None else ():
        assert new is not None
        then, now = new.file(move.path), old.file(move.path) if old is not None else None
        wanted = then.patched if then is not None else now.pristine if now is not None else move.after
        if move.after != wanted:
            message = "the journal of an interrupted run names another end for it than the record does"
            hint = f"this record is not of one run: delete {journal.MOVE} and run `toto-patch status`"
            found.append(BackupError(message, path=move.path, hint=hint))
    return found


def _state(tree: Tree, entry: Entry, digest: str | None) -> State | None:
    """The record with that fingerprint, from where a transaction keeps it; ``None`` where it is not, or is damaged."""
    from toto_patcher.patching.state import State, from_bytes

    for name in (STATE, *journal.temporaries(entry)):
        if digest is not None and journal.look(tree, name) == digest:
            with suppress(BackupError):
                return from_bytes(State, tree.read(name) or b"", name, hint="")
    return None


def _stuck(entry: Entry) -> RefusedError:
    message = "an interrupted command replaced it, and the bytes it had are gone"
    hint = f"put the original back by hand (from git or the release), delete {journal.MOVE} and run `toto-patch status`"
    return BackupError(message, path=entry.path, hint=hint)


def set_aside(tree: Tree) -> None:
    """Takes a journal that allows no recovery out of the way, for a transaction that replaces all that it is about."""
    for phase in PHASES:
        if tree.status(phase) is not None:
            tree.rename(phase, SET_ASIDE)
    tree.sync_folder(FOLDER)


def go_forward(tree: Tree, phase: PurePosixPath, moves: Journal) -> Recovery:
    """Moves every file that is not foreign to its new bytes."""
    foreign = _move_all(tree, moves.entries, forward=True)
    journal.sync_folders(tree, moves)
    journal.advance(tree, phase, journal.DONE)
    return Recovery("forward", moves.files, foreign, clear(tree, journal.DONE, moves, forward=True))


def go_back(tree: Tree, phase: PurePosixPath, moves: Journal) -> Recovery:
    """Moves every file that is not foreign back to its old bytes."""
    if phase != journal.UNDO:
        # Best effort: without the mark a killed roll-back may be finished forward, which is whole as well.
        with suppress(OSError):
            journal.advance(tree, phase, journal.UNDO)
            phase = journal.UNDO
        phase = journal.UNDO if tree.status(journal.UNDO) else phase
    foreign = _move_all(tree, moves.entries[::-1], forward=False)
    journal.sync_folders(tree, moves)
    return Recovery("back", moves.files, foreign, clear(tree, phase, moves, forward=False))


def _move_all(tree: Tree, entries: Sequence[Entry], *, forward: bool) -> tuple[PurePosixPath, ...]:
    """Moves what can be moved; returns the files that are foreign, also those edited just now."""
    foreign = []
    for entry in entries:
        try:
            journal.move(tree, entry, forward=forward)
        except DriftError:
            foreign.append(PurePosixPath(entry.path))
    return tuple(foreign)


def clear(tree: Tree, phase: PurePosixPath, moves: Journal, *, forward: bool) -> tuple[PurePosixPath, ...]:
    """Removes what the transaction leaves behind and, last of all, its journal.

    Returns:
        Temporaries that hold bytes which are neither old nor new; they are somebody's edit and stay.
    """
    kept = []
    # Before the first move every file is as it was, so an edit was made of the original.
    needed = set() if phase == journal.PREPARE else _needed_backups(tree, moves, forward=forward)
    for entry in moves.entries:
        tree.remove(journal.part(entry))
        for name in journal.temporaries(entry):
            # Before the first move a temporary may be half written, and nothing in it can be an edit.
            if phase == journal.PREPARE or journal.look(tree, name) in (entry.before, entry.after):
                tree.remove(name)
            elif tree.status(name) is not None:
                kept.append(name)
    if forward:
        for path in moves.bytecode:
            remove_bytecode(tree, PurePosixPath(path))
        tree.remove(SET_ASIDE)
    for digest in moves.old_backups if forward else moves.new_backups:
        if digest not in needed:
            tree.remove(BACKUPS / digest)
    for backup in tree.names(BACKUPS):
        if _HALF_BACKUP.fullmatch(backup):
            tree.remove(BACKUPS / backup)
    if not tree.remove_folder(BACKUPS) and tree.status(BACKUPS) is not None:
        tree.sync_folder(BACKUPS)
    for folder in reversed(moves.old_folders if forward else moves.new_folders):
        tree.remove_folder(PurePosixPath(folder))
    with suppress(OSError):
        journal.sync_folders(tree, moves)
    tree.remove(phase)
    # All is done. A journal that a power cut brings back is settled once more, to the same end.
    with suppress(OSError):
        tree.sync_folder(FOLDER)
    return tuple(kept)


def remove_bytecode(tree: Tree, source: PurePosixPath) -> None:
    """Removes the compiled copies of one source file, and their folder if nothing else is in it."""
    if source.suffix != ".py":
        return
    cache = source.parent / "__pycache__"
    # A cache that lies elsewhere or belongs to somebody else is not ours to touch; Python checks it against the source.
    with suppress(UnsafePathError, OSError):
        stale = [name for name in tree.names(cache) if name.startswith(f"{source.stem}.") and name.endswith(".pyc")]
        for name in stale:
            tree.remove(cache / name)
        if stale:
            tree.remove_folder(cache)
