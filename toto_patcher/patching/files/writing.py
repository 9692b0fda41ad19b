"""Writes one checked plan: backups, temporaries, journal, moves. Everything, or everything is taken back."""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Protocol

from toto_patcher.errors import DriftError, StorageError, TotoPatchError, UnfinishedError
from toto_patcher.patching.change import Plan, fingerprint
from toto_patcher.patching.files import journal, preflight, recovery
from toto_patcher.patching.files.layout import BACKUPS, FOLDER, STATE
from toto_patcher.patching.files.lock import Interrupts, deferred_interrupts
from toto_patcher.patching.files.safe_files import Tree
from toto_patcher.patching.files.system_errors import storage_error

if TYPE_CHECKING:
    from toto_patcher.patching.state import Journal, State


class Beside(Protocol):
    """Something outside the tree that changes together with it; the lock file of a vendored tree.

    A process may be killed between any two of these calls: what is then beside the tree must tell by itself whether it
    goes with the old tree or with the new one.
    """

    def prepare(self) -> None:
        """Before the first file moves: writes what is to be, under another name."""

    def publish(self) -> None:
        """When the last file has moved: puts it in place."""

    def announce_undo(self) -> None:
        """Before the files move back."""

    def undo(self) -> None:
        """When the tree is as it was: leaves what there was before ``prepare``."""


class Transaction:
    """The writing itself; everything has been checked and the lock is held."""

    def __init__(
        self,
        tree: Tree,
        plan: Plan,
        old: State | None,
        new: State | None,
        backups: dict[str, bytes],
        folders: tuple[PurePosixPath, ...],
        *,
        emptied: tuple[PurePosixPath, ...] = (),
        beside: Beside | None = None,
    ) -> None:
        from toto_patcher.patching.state import SHA256, Entry, Journal, to_bytes

        self.tree, self.plan, self.old, self.backups, self.beside = tree, plan, old, backups, beside
        old_bytes = tree.read(STATE)
        new_bytes = to_bytes(new) if new else None
        moves = [(change.path, change.before, change.after) for change in plan.pending]
        moves.append((STATE, old_bytes, new_bytes))
        run = os.urandom(8).hex()
        self.contents = {path: after for path, _, after in moves}
        known = {file.pristine for file in old.files if file.backup and file.pristine} if old else set()
        if beside is not None:  # another tree: what lies there is needed by nobody, also if no record names it
            known |= {name for name in tree.names(BACKUPS) if SHA256.fullmatch(name)}
        keep = {file.pristine for file in new.files if file.backup} if new else set()
        self.journal: Journal = Journal(
            entries=tuple(
                Entry(
                    path=str(path),
                    before=None if before is None else fingerprint(before),
                    after=None if after is None else fingerprint(after),
                    temporary=f".toto-patch-{run}-{number}.tmp",
                )
                for number, (path, before, after) in enumerate(moves)
                if before != after
            ),
            bytecode=tuple(str(change.path) for change in plan.pending),
            # One that was missing is repaired for good, even if this transaction is undone.
            new_backups=tuple(digest for digest in backups if digest not in known),
            old_backups=tuple(sorted(known - keep)),
            new_folders=tuple(str(folder) for folder in folders),
            old_folders=tuple(
                sorted(
                    {folder for folder in old.folders if not new or folder not in new.folders}
                    if old
                    else set() | set(map(str, emptied))
                )
            ),
        )

    def run(self) -> None:
        """Writes everything, or takes everything back and raises."""
        with deferred_interrupts() as interrupts:
            try:
                self._prepare(interrupts)
                self._publish(interrupts)
            except BaseException as error:
                self._take_back(error)
                raise
            kept = self._clear_up()
            if kept:
                names = ", ".join(map(str, kept))
                message = f"was edited while it was being replaced; the change is complete, your edit is in {names}"
                raise DriftError(message, hint="compare it with the file it belongs to and keep what you need")

    def _clear_up(self) -> tuple[PurePosixPath, ...]:
        """From here on every file is new; what cannot be cleared away, twice, is left to ``recover``, and said."""
        try:
            return recovery.clear(self.tree, journal.DONE, self.journal, forward=True)
        except OSError:
            try:
                return recovery.clear(self.tree, journal.DONE, self.journal, forward=True)
            except OSError as error:
                named = storage_error(error)
                message = f"every file is changed as asked, but leftovers could not be removed ({named.message})"
                hint = "run `toto-patch recover` when the disk works again"
                raise UnfinishedError(message, path=named.path, hint=hint) from error

    def _prepare(self, interrupts: Interrupts) -> None:
        from toto_patcher.patching.state import to_bytes

        tree = self.tree
        tree.remove(journal.PREPARE_NEW)
        tree.write_new(journal.PREPARE_NEW, to_bytes(self.journal), 0o644)
        journal.advance(tree, journal.PREPARE_NEW, journal.PREPARE)
        if self.backups:
            tree.make_folder(BACKUPS)
        for digest, data in self.backups.items():
            part = BACKUPS / f"{digest}.tmp"
            tree.remove(part)
            tree.write_new(part, data, self._privacy(digest))
            tree.rename(part, BACKUPS / digest)
            interrupts.check()
        if self.backups:
            tree.sync_folder(BACKUPS)
        for folder in self.journal.new_folders:
            tree.make_folder(PurePosixPath(folder))
        for entry in self.journal.entries:
            path = PurePosixPath(entry.path)
            after = self.contents[path]
            if after is not None:
                self._write_temporary(path, journal.temporaries(entry)[0], after)
            interrupts.check()
        journal.sync_folders(tree, self.journal)
        if self.beside is not None:
            self.beside.prepare()
        journal.advance(tree, journal.PREPARE, journal.MOVE)

    def _privacy(self, digest: str) -> os.stat_result | int:
        """A backup belongs to whom its source belongs to and is as private; of several sources, as the most private."""
        sources = [
            change.path for change in self.plan.changes if change.pristine and fingerprint(change.pristine) == digest
        ]
        found = [status for path in sources if (status := self.tree.status(path)) is not None]
        return min(found, key=lambda status: status.st_mode & 0o077) if found else 0o600

    def _write_temporary(self, path: PurePosixPath, temporary: PurePosixPath, data: bytes) -> None:
        status = self.tree.status(path)
        if status is None:
            known = self.old.file(path) if self.old and path != STATE else None
            self.tree.write_new(temporary, data, known.mode if known else preflight.NEW_FILE_MODE)
        else:
            self.tree.write_new(temporary, data, status)
            self.tree.copy_attributes(path, temporary)

    def _publish(self, interrupts: Interrupts) -> None:
        for entry in self.journal.entries:
            if entry.path == str(STATE):
                journal.sync_folders(self.tree, self.journal)
            journal.move(self.tree, entry, forward=True)
            interrupts.check()
        if all(entry.path != str(STATE) for entry in self.journal.entries):
            journal.sync_folders(self.tree, self.journal)
        if self.beside is not None:
            self.beside.publish()
        self.tree.sync_folder(FOLDER)
        journal.advance(self.tree, journal.MOVE, journal.DONE)

    def _take_back(self, error: BaseException) -> None:
        try:
            if self.beside is not None:
                self.beside.announce_undo()
            self.tree.remove(journal.PREPARE_NEW)
            found = journal.find(self.tree)
            if found is not None and found[0] == journal.PREPARE:
                recovery.clear(self.tree, *found, forward=False)
            elif found is not None:
                kept = recovery.go_back(self.tree, *found).kept
                if kept and isinstance(error, TotoPatchError):
                    error.hint = f"{error.hint or ''}; an edit saved meanwhile is in {', '.join(map(str, kept))}"
            if self.beside is not None:
                self.beside.undo()
        except OSError as second:
            named = storage_error(second, hint="run `toto-patch recover` when the disk works again")
            cause = storage_error(error).message if isinstance(error, OSError) else str(error)
            message = f"{named.message}, while taking back a change that had failed ({cause})"
            raise unfinished(self.tree, message, named) from error


def unfinished(tree: Tree, message: str, cause: StorageError) -> TotoPatchError:
    """The error for a change that could be neither finished nor undone, by where its files stand now."""
    try:
        found = journal.find(tree)
        where = "old" if found is None or found[0] == journal.PREPARE else recovery.standing(tree, found[1])
    except (OSError, TotoPatchError):
        found, where = None, "mixed"  # nobody can tell, so nothing is promised
    if where == "old":
        return StorageError(f"{message}; every file is as it was", path=cause.path, hint=cause.hint)
    told = {"new": "every file is changed as asked, but the change is not closed", "mixed": "the tree is mixed"}[where]
    files = f": {', '.join(map(str, found[1].files))}" if found and where == "mixed" else ""
    hint = "run `toto-patch recover` when the disk works again"
    return UnfinishedError(f"{message}; {told}{files}", path=cause.path, hint=hint)
