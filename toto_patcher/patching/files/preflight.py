"""Looks at everything before anything is written: is the plan still true, is every path safe, can it be written?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from toto_patcher import __version__
from toto_patcher.errors import BackupError, DriftError, RefusedError, UnsafePathError, refuse_all
from toto_patcher.patching.change import FileChange, Plan, fingerprint
from toto_patcher.patching.files.layout import BACKUPS
from toto_patcher.patching.files.safe_files import Tree

if TYPE_CHECKING:
    from toto_patcher.patching.state import State

NEW_FILE_MODE = 0o644


def check_plan(tree: Tree, plan: Plan, state: State | None, *, adopted: bool = False) -> None:
    """Checks that the checkout is what the plan was made for, and that every file to write is a plain one.

    Raises:
        RefusedError, RefusedGroup: with every file that drifted, is unsafe or does not match the state.
        OSError: a file or its folder is read-only.
    """
    refuse_all(refusals(tree, plan, state, adopted=adopted))
    _check_writable(tree, plan)


def check_files(tree: Tree, plan: Plan) -> None:
    """As ``check_plan``, for a plan that no record speaks of."""
    refuse_all([found for change in plan.changes if (found := refusal(tree, change)) is not None])
    _check_writable(tree, plan)


def _check_writable(tree: Tree, plan: Plan) -> None:
    for change in plan.pending:
        if change.before is not None:
            tree.check_writable(change.path)
        tree.check_writable(_nearest_folder(tree, change.path.parent))


def refusals(tree: Tree, plan: Plan, state: State | None, *, adopted: bool = False) -> list[RefusedError]:
    """Every reason not to write this plan but for what the file system allows, so that a dry run knows them too."""
    refusals = [found for change in plan.changes if (found := refusal(tree, change)) is not None]
    paths = [change.path for change in plan.changes]
    if len(set(paths)) != len(paths):
        refusals.append(RefusedError("the plan names a file twice"))
    refusals.extend(_contradictions(plan, state, adopted))
    return refusals


def refusal(tree: Tree, change: FileChange) -> RefusedError | None:
    """Why this one file must not be written: an unsafe path, or other bytes than the plan expects."""
    from toto_patcher.patching.record_rules import check_package_path

    try:
        check_package_path(str(change.path))
        status = tree.status(change.path)
        disk = None if status is None else tree.read(change.path)
    except ValueError as error:
        return UnsafePathError(str(error))
    except RefusedError as error:
        return error
    if status is not None and status.st_nlink > 1:
        hint = "replace it with a copy of its own: the other names would keep the old bytes"
        return UnsafePathError(f"is a hard link: the file has {status.st_nlink} names", path=change.path, hint=hint)
    if disk == change.before:
        return None
    if disk is None:
        message = "is gone"
    elif change.before is None:
        message = "exists already and is not from toto-patch"
    else:
        message = "was edited after the plan was made, or is neither the original nor what toto-patch wrote"
    hint = "nothing was written; keep your edit elsewhere or put the expected bytes back, then run the command again"
    return DriftError(message, path=change.path, hint=hint)


def _contradictions(plan: Plan, state: State | None, adopted: bool) -> list[RefusedError]:
    """A plan that forgets a patched file, or takes other bytes for its original, would lose that original.

    And a plan made after an edit takes the edited bytes for those on disk; it must not replace them either.
    """
    planned = {str(change.path): change for change in plan.changes}
    refusals: list[RefusedError] = []
    for file in state.files if state else ():
        change = planned.pop(file.path, None)
        if change is None:
            refusals.append(RefusedError("is patched, but the plan does not mention it", path=file.path))
        elif (None if change.pristine is None else fingerprint(change.pristine)) != file.pristine:
            refusals.append(BackupError("the plan's original is not the recorded one", path=file.path))
        elif (None if change.before is None else fingerprint(change.before)) not in (file.patched, file.pristine):
            hint = "keep your edit elsewhere and put back what toto-patch wrote, or the original, then try again"
            refusals.append(DriftError("was edited after it was patched", path=file.path, hint=hint))
    for path, change in planned.items():
        if change.before != change.pristine and not (adopted and change.is_noop):
            message = "is not patched, and is not the original that the plan was made from either"
            refusals.append(DriftError(message, path=path, hint="run the command again: it plans from what is there"))
    return refusals


def _nearest_folder(tree: Tree, folder: PurePosixPath) -> PurePosixPath:
    while folder.parts and tree.status(folder) is None:
        folder = folder.parent
    return folder


def missing_folders(tree: Tree, plan: Plan) -> tuple[PurePosixPath, ...]:
    """The folders that the plan's new files need and that do not exist, parents first."""
    wanted = {folder for change in plan.pending if change.after is not None for folder in change.path.parents}
    return tuple(sorted(folder for folder in wanted if folder.parts and tree.status(folder) is None))


def added_folders(tree: Tree, plan: Plan) -> tuple[PurePosixPath, ...]:
    """The folders that hold nothing but the files that a plan adds, which it must have made; parents first."""
    own = {change.path for change in plan.changes if change.pristine is None}
    parents = {folder for path in own for folder in path.parents if folder.parts}
    for folder in sorted(parents, key=lambda folder: len(folder.parts), reverse=True):
        if all(name == "__pycache__" or folder / name in own for name in tree.names(folder)):
            own.add(folder)
    return tuple(sorted(own & parents))


def missing_backups(tree: Tree, state: State | None, pristine: Mapping[str, bytes]) -> dict[str, bytes]:
    """The backups that a state asks for and that are not on disk with the right bytes, by fingerprint."""
    wanted = (
        {file.pristine: pristine[file.pristine] for file in state.files if file.backup and file.pristine}
        if state
        else {}
    )
    return {digest: data for digest, data in sorted(wanted.items()) if tree.read(BACKUPS / digest) != data}


def next_state(
    plan: Plan,
    old: State | None,
    *,
    backup: bool,
    created: str,
    modes: Mapping[PurePosixPath, int],
    new_folders: tuple[PurePosixPath, ...] = (),
    release: str | None = None,
    git_commit: str | None = None,
    package: Mapping[str, str] | None = None,
) -> State | None:
    """What will be in force once the plan is done; ``None`` when nothing is.

    Args:
        plan: the change.
        old: what is in force now. What it knows of the checkout's origin and its backups is kept.
        backup: whether files get a backup.
        created: the time to record, ISO 8601 in UTC.
        modes: the permission bits of the files that exist.
        new_folders: folders that are made for the plan.
        release: the toto-ts release, if known.
        git_commit: the commit the checkout was at, if known.
        package: fingerprints of the package's other files; those recorded before if not given.
    """
    if not plan.patches:
        strays = [change for change in plan.changes if change.after != change.pristine]
        refuse_all([RefusedError("the plan reverts, but not to the original", path=change.path) for change in strays])
        return None
    from toto_patcher.patching.state import FileState, State

    files = []
    for change in sorted(plan.changes, key=lambda change: str(change.path)):
        if change.after == change.pristine:
            continue
        known = old.file(change.path) if old else None
        files.append(
            FileState(
                path=str(change.path),
                pristine=None if change.pristine is None else fingerprint(change.pristine),
                patched=None if change.after is None else fingerprint(change.after),
                mode=known.mode if known else modes.get(change.path, NEW_FILE_MODE) & 0o777,
                backup=change.pristine is not None and (backup or (known is not None and known.backup)),
                patches=change.patches,
            )
        )
    folders = {*(old.folders if old else ()), *map(str, new_folders)}
    used = {str(parent) for file in files for parent in PurePosixPath(file.path).parents}
    return State(
        tool_version=__version__,
        created=created,
        release=release or (old.release if old else None),
        git_commit=git_commit if old is None else old.git_commit,
        profile=plan.profile,
        patches=plan.patches,
        files=tuple(files),
        folders=tuple(sorted(folders & used)),
        package=package if package is not None else (old.package if old else None),
    )
