"""Writes one plan into a checkout, all of it or nothing. The only way to write into a checkout.

Order: lock, recover what was interrupted, check everything, write and sync backups and temporaries, sync the journal,
rename, sync the folders, the state, drop the journal. A kill or a power cut at any point leaves each file wholly old
or wholly new; the next command makes the tree wholly old or wholly new.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from toto_patcher.errors import RefusedError, refuse_all
from toto_patcher.patching.change import Plan, fingerprint
from toto_patcher.patching.files import journal, preflight, recovery
from toto_patcher.patching.files.layout import FOLDER, PHASES
from toto_patcher.patching.files.lock import acquire, deferred_interrupts, describe_to_git, release
from toto_patcher.patching.files.recovery import Recovery
from toto_patcher.patching.files.safe_files import Tree
from toto_patcher.patching.files.system_errors import storage_error
from toto_patcher.patching.files.writing import Beside, Transaction, unfinished
from toto_patcher.patching.store import Store
from toto_patcher.patching.vendoring.lock_file import LockFile

if TYPE_CHECKING:
    from datetime import datetime

    from toto_patcher.patching.state import State

__all__ = ["Pending", "Recovery", "commit", "exclusive", "pending", "put_back", "recover"]

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
        found = journal.find(tree)
    return None if found is None else Pending(found[0].stem, found[1].files)


def is_quiet(root: Path) -> bool:
    """Whether no transaction was interrupted here and none is being written. Writes nothing; believes no journal."""
    with _named_errors(), Tree(root) as tree:
        return all(tree.status(phase) is None for phase in PHASES)


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
def exclusive(root: Path, *, force: bool = False) -> Iterator[Recovery | None]:
    """Holds the checkout's lock, after recovering what an interrupted command left.

    Args:
        root: the checkout's folder.
        force: a journal that allows no recovery is set aside; for who replaces every file of the package anyway.

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
                describe_to_git(tree)
                found = _settle(tree, force=force)
                LockFile(root).settle()
            yield found
        finally:
            _held.discard(holder)
            with deferred_interrupts():
                release(tree, lock)


def commit(
    plan: Plan,
    *,
    backup: bool,
    now: datetime | None = None,
    release: str | None = None,
    git_commit: str | None = None,
    package: Mapping[str, str] | None = None,
    adopted: bool = False,
) -> State | None:
    """Writes a plan, all or nothing. A plan without patches reverts: it also drops state, backups and the folder.

    Args:
        plan: what to write. Nothing is written if it changes nothing.
        backup: keep a copy of every original. Copies that exist already stay until the revert in any case.
        now: the time to record; the current time if not given.
        release: the toto-ts release of the checkout, if known; kept from the first apply if not given.
        git_commit: the commit the checkout is at, if known; recorded by the first apply.
        package: fingerprints of the package's other files; those recorded before if not given.
        adopted: the plan describes what lies there already, and only the record is missing.

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
        preflight.check_plan(tree, plan, old, adopted=adopted)
        folders = preflight.missing_folders(tree, plan)
        made = preflight.added_folders(tree, plan) if adopted else folders
        status = {change.path: tree.status(change.path) for change in plan.changes}
        modes = {path: stat.S_IMODE(found.st_mode) for path, found in status.items() if found is not None}
        new = preflight.next_state(
            plan,
            old,
            backup=backup,
            created=created,
            modes=modes,
            new_folders=made,
            release=release,
            git_commit=git_commit,
            package=package,
        )
        pristine = {
            fingerprint(change.pristine): change.pristine for change in plan.changes if change.pristine is not None
        }
        backups = preflight.missing_backups(tree, new, pristine)
        same = new.says_the_same_as(old) if new else old is None
        if same and not plan.pending and not backups:
            return True, old
        if write:
            Transaction(tree, plan, old, new, backups, folders).run()
        return write, new

    with _named_errors(), Tree(plan.root) as tree:
        if journal.find(tree) is None:
            done, state = attempt(tree, write=False)
            if done:
                return state
    with exclusive(plan.root), _named_errors(), Tree(plan.root) as tree:
        return attempt(tree, write=True)[1]


def put_back(plan: Plan) -> None:
    """Writes the files of a plan and leaves the record as it is; for the part of a change that can be undone.

    Raises:
        DriftError, UnsafePathError, RefusedGroup: files are not as the plan expects; nothing was written.
        StorageError: the operating system refused; the tree is as it was.
    """
    with exclusive(plan.root), _named_errors(), Tree(plan.root) as tree:
        refuse_all([found for change in plan.changes if (found := preflight.refusal(tree, change)) is not None])
        state = Store(plan.root).state()
        Transaction(tree, plan, state, state, {}, ()).run()


def lay(plan: Plan, emptied: tuple[PurePosixPath, ...], beside: Beside) -> None:
    """Writes the files of a plan that makes another tree, and drops the record of what was patched before.

    Args:
        plan: the files.
        emptied: folders that go if nothing is left in them, parents first.
        beside: what changes together with the tree, outside of it.

    Raises:
        DriftError, UnsafePathError, RefusedGroup: files are not as the plan expects; nothing was written.
        StorageError: the operating system refused; the tree is as it was.
        KeyboardInterrupt: the tree is as it was, or wholly new if everything had been written.
    """
    with exclusive(plan.root), _named_errors(), Tree(plan.root) as tree:
        preflight.check_files(tree, plan)
        for folder in emptied:
            if tree.status(folder) is not None:
                tree.check_writable(folder.parent)
        made = preflight.missing_folders(tree, plan)
        Transaction(tree, plan, None, None, {}, made, emptied=emptied, beside=beside).run()


def _settle(tree: Tree, *, force: bool) -> Recovery | None:
    """Recovers what an interrupted command left; a failure says where the tree stands."""
    try:
        return recovery.settle(tree)
    except RefusedError:
        if not force:
            raise
        recovery.set_aside(tree)
        return None
    except OSError as error:
        cause = storage_error(error)
        raise unfinished(tree, f"{cause.message}, while recovering what was interrupted", cause) from error


def mixed_files(root: Path) -> tuple[PurePosixPath, ...]:
    """The files of a change that was stopped in the middle, some old and some new; none where the tree is whole.

    Raises:
        BackupError: the journal is damaged, so that nobody can tell.
        StorageError: the operating system refused to read it.
    """
    with _named_errors(), Tree(root) as tree:
        found = journal.find(tree)
        if found is None or found[0] in (journal.PREPARE, journal.DONE):
            return ()
        return found[1].files if recovery.standing(tree, found[1]) == "mixed" else ()


@contextmanager
def _named_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(error) from error
