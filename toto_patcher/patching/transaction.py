"""Writes one plan into a checkout, all of it or nothing. The only way to write into a checkout.

Order: lock, recover what was interrupted, check everything, write and sync backups and temporaries, sync the journal,
rename, sync the folders, the state, drop the journal. A kill or a power cut at any point leaves each file wholly old
or wholly new; the next command makes the tree wholly old or wholly new.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from toto_patcher.errors import DriftError, StorageError, TotoPatchError
from toto_patcher.patching import journal as recovery
from toto_patcher.patching import preflight
from toto_patcher.patching.change import Plan, fingerprint
from toto_patcher.patching.journal import Recovery
from toto_patcher.patching.lock import Interrupts, acquire, deferred_interrupts, release
from toto_patcher.patching.safe_files import Tree, storage_error
from toto_patcher.patching.store import BACKUPS, FOLDER, STATE, Store

if TYPE_CHECKING:
    from datetime import datetime

    from toto_patcher.patching.state import Journal, State

__all__ = ["Pending", "Recovery", "commit", "exclusive", "pending", "recover"]

_held: set[tuple[int, int, int, int]] = set()


@dataclass(frozen=True)
class Pending:
    """A transaction that was interrupted, or that another process is in the middle of.

    Attributes:
        phase: ``prepare``, ``journal``, ``undo`` or ``done``; see ``journal.py``.
        files: the source files it is about.
    """

    phase: str
    files: tuple[PurePosixPath, ...]


def pending(root: Path) -> Pending | None:
    """Whether ``recover`` has something to do. Writes nothing.

    Raises:
        BackupError: the journal is damaged.
        StorageError: the operating system refused to read it.
    """
    with _named_errors(), Tree(root) as tree:
        found = recovery.find(tree)
    return None if found is None else Pending(found[0].stem, found[1].files)


def recover(root: Path) -> Recovery:
    """Finishes or undoes what an interrupted command left; writes nothing where there is nothing to do.

    Raises:
        LockedError: another process is writing.
        RefusedError: files can go neither forward nor back; each is named.
        StorageError: the operating system refused.
    """
    with _named_errors(), Tree(root) as tree:
        if tree.status(FOLDER) is None:
            return Recovery("nothing")
    with exclusive(root) as found:
        return found or Recovery("nothing")


@contextmanager
def exclusive(root: Path) -> Iterator[Recovery | None]:
    """Holds the checkout's lock, after recovering what an interrupted command left.

    Yields:
        What recovery did, or ``None`` where there was nothing to do. ``commit`` inside the block uses the same lock.

    Raises:
        LockedError: another process is writing.
        UnsafePathError: ``.toto-patch`` is a symbolic link.
        StorageError: the operating system refused, for example because the root is read-only.
    """
    with _named_errors():
        tree = Tree(root)
    with tree:
        status = os.fstat(tree.folder(PurePosixPath()))
        holder = (os.getpid(), threading.get_ident(), status.st_dev, status.st_ino)
        if holder in _held:
            yield None
            return
        with _named_errors():
            lock = acquire(tree)
        try:
            _held.add(holder)
            with _named_errors(), deferred_interrupts():
                found = recovery.settle(tree)
            yield found
        finally:
            _held.discard(holder)
            release(tree, lock)


def commit(
    plan: Plan,
    *,
    backup: bool,
    now: datetime | None = None,
    release: str | None = None,
    git_commit: str | None = None,
) -> State | None:
    """Writes a plan, all or nothing. A plan without patches reverts: it also drops state, backups and the folder.

    Args:
        plan: what to write. Nothing is written if it changes nothing.
        backup: keep a copy of every original. Copies that exist already stay until the revert in any case.
        now: the time to record; the current time if not given.
        release: the toto-ts release of the checkout, if known; kept from the first apply if not given.
        git_commit: the commit the checkout is at, if known; recorded by the first apply.

    Returns:
        What is in force now; ``None`` after a revert.

    Raises:
        DriftError, UnsafePathError, RefusedGroup: files are not as the plan expects; nothing was written.
        StorageError: the operating system refused; the tree is as it was.
        LockedError: another process is writing.
        KeyboardInterrupt: the tree is as it was, or wholly new if everything had been written.
    """
    from datetime import datetime, timezone

    created = (now or datetime.now(timezone.utc)).astimezone(timezone.utc).isoformat(timespec="seconds")

    def attempt(tree: Tree, *, write: bool) -> tuple[bool, State | None]:
        old = Store(plan.root).state()
        preflight.check_plan(tree, plan, old)
        folders = preflight.missing_folders(tree, plan)
        status = {change.path: tree.status(change.path) for change in plan.changes}
        modes = {path: stat.S_IMODE(found.st_mode) for path, found in status.items() if found is not None}
        new = preflight.next_state(
            plan,
            old,
            backup=backup,
            created=created,
            modes=modes,
            new_folders=folders,
            release=release,
            git_commit=git_commit,
        )
        pristine = {
            fingerprint(change.pristine): change.pristine for change in plan.changes if change.pristine is not None
        }
        backups = preflight.missing_backups(tree, new, pristine)
        same = new.says_the_same_as(old) if new else old is None
        if same and not plan.pending and not backups:
            return True, old
        if write:
            _Transaction(tree, plan, old, new, backups, folders).run()
        return write, new

    with _named_errors(), Tree(plan.root) as tree:
        if recovery.find(tree) is None:
            done, state = attempt(tree, write=False)
            if done:
                return state
    with exclusive(plan.root), _named_errors(), Tree(plan.root) as tree:
        return attempt(tree, write=True)[1]


@contextmanager
def _named_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(error) from error


class _Transaction:
    """The writing itself; everything has been checked and the lock is held."""

    def __init__(
        self,
        tree: Tree,
        plan: Plan,
        old: State | None,
        new: State | None,
        backups: dict[str, bytes],
        folders: tuple[PurePosixPath, ...],
    ) -> None:
        from toto_patcher.patching.state import Entry, Journal, to_bytes

        self.tree, self.plan, self.old, self.backups = tree, plan, old, backups
        old_bytes = tree.read(STATE)
        new_bytes = to_bytes(new) if new else None
        moves = [(change.path, change.before, change.after) for change in plan.pending]
        moves.append((STATE, old_bytes, new_bytes))
        run = os.urandom(8).hex()
        self.contents = {path: after for path, _, after in moves}
        known = {file.pristine for file in old.files if file.backup and file.pristine} if old else set()
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
            old_folders=tuple(folder for folder in old.folders if not new or folder not in new.folders) if old else (),
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
            # From here on every file is new. What cannot be cleared away now is cleared away by the next command.
            try:
                kept = recovery.clear(self.tree, recovery.DONE, self.journal, forward=True)
            except OSError:
                kept = ()
            if kept:
                names = ", ".join(map(str, kept))
                message = f"was edited while it was being replaced; the change is complete, your edit is in {names}"
                raise DriftError(message, hint="compare it with the file it belongs to and keep what you need")

    def _prepare(self, interrupts: Interrupts) -> None:
        from toto_patcher.patching.state import to_bytes

        tree = self.tree
        tree.remove(recovery.PREPARE_NEW)
        tree.write_new(recovery.PREPARE_NEW, to_bytes(self.journal), 0o644)
        recovery.advance(tree, recovery.PREPARE_NEW, recovery.PREPARE)
        if self.backups:
            tree.make_folder(BACKUPS)
        for digest, data in self.backups.items():
            part = BACKUPS / f"{digest}.tmp"
            tree.remove(part)
            tree.write_new(part, data, 0o644)
            tree.rename(part, BACKUPS / digest)
            interrupts.check()
        if self.backups:
            tree.sync_folder(BACKUPS)
        for folder in self.journal.new_folders:
            tree.make_folder(PurePosixPath(folder))
            tree.sync_folder(PurePosixPath(folder).parent)
        for entry in self.journal.entries:
            path = PurePosixPath(entry.path)
            after = self.contents[path]
            if after is not None:
                self._write_temporary(path, recovery.temporaries(entry)[0], after)
            interrupts.check()
        recovery.sync_folders(tree, self.journal)
        recovery.advance(tree, recovery.PREPARE, recovery.MOVE)

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
                recovery.sync_folders(self.tree, self.journal)
            recovery.move(self.tree, entry, forward=True)
            interrupts.check()
        self.tree.sync_folder(FOLDER)
        recovery.advance(self.tree, recovery.MOVE, recovery.DONE)

    def _take_back(self, error: BaseException) -> None:
        try:
            self.tree.remove(recovery.PREPARE_NEW)
            found = recovery.find(self.tree)
            if found is not None and found[0] == recovery.PREPARE:
                recovery.clear(self.tree, *found, forward=False)
            elif found is not None:
                kept = recovery.go_back(self.tree, *found).kept
                if kept and isinstance(error, TotoPatchError):
                    error.hint = f"{error.hint or ''}; an edit saved meanwhile is in {', '.join(map(str, kept))}"
        except OSError as second:
            named = storage_error(second, hint="run `toto-patch recover` when the disk works again")
            cause = storage_error(error).message if isinstance(error, OSError) else str(error)
            message = f"{named.message}, while taking back a change that had failed ({cause})"
            raise StorageError(message, path=named.path, hint=named.hint) from error
