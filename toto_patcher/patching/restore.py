"""Where the original bytes come from when patches are taken back: the backup, else git, else the pinned release."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from toto_patcher.errors import BackupError, DriftError, RefusedError, TotoPatchError, UnsafePathError, refuse_all
from toto_patcher.patching import version_control
from toto_patcher.patching.change import FileChange, Plan, fingerprint
from toto_patcher.patching.files.layout import BACKUPS
from toto_patcher.patching.files.safe_files import Tree
from toto_patcher.patching.files.system_errors import storage_error
from toto_patcher.patching.notice import ADDED_MARK
from toto_patcher.patching.store import Store

if TYPE_CHECKING:
    from toto_patcher.patching.state import FileState, State

ReleaseBytes = Callable[[str], Mapping[PurePosixPath, bytes]]
"""Takes a release of toto-ts and returns its files; may download. Raises ``TotoPatchError`` if it cannot."""

# How far back a file's history is searched where the recorded commit does not have the original.
_HISTORY = 50
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


@dataclass(frozen=True)
class Original:
    """The original of one file.

    Attributes:
        path: relative to the root.
        data: its bytes, equal to the recorded fingerprint.
        source: where they came from: ``disk``, ``backup``, ``git commit <id>`` or ``release <version>``.
    """

    path: PurePosixPath
    data: bytes
    source: str


@dataclass(frozen=True)
class RevertPlan(Plan):
    """A plan that takes every patch back.

    Attributes:
        originals: for each file that is restored, where its bytes came from.
    """

    originals: tuple[Original, ...] = ()


def plan_revert(root: Path, state: State, *, release_bytes: ReleaseBytes | None = None) -> RevertPlan:
    """Plans the way back to the original bytes. Writes nothing.

    Args:
        root: the checkout.
        state: what is in force, from ``Store(root).state()``.
        release_bytes: gives the files of a release; asked only if neither a backup nor git has a file.

    Raises:
        DriftError: a file was edited after it was patched; the edit is never overwritten.
        BackupError: no source has a file's original bytes.
        RefusedGroup: several of these, each with its file and what to do.
    """
    disk, refusals = _read_all(root, state)
    drifted = {str(refusal.path) for refusal in refusals}
    originals, more = _find_originals(root, state, disk, release_bytes, skip=drifted)
    refuse_all([*refusals, *more])
    changes = []
    for file in state.files:
        path = PurePosixPath(file.path)
        original = originals.get(path)
        data = original.data if original else None
        changes.append(FileChange(path=path, pristine=data, before=disk[path], after=data))
    return RevertPlan(
        root=root,
        changes=tuple(sorted(changes, key=lambda change: str(change.path))),
        patches=(),
        originals=tuple(originals[path] for path in sorted(originals)),
    )


def originals(
    root: Path, state: State, *, release_bytes: ReleaseBytes | None = None
) -> Mapping[PurePosixPath, Original]:
    """The originals of all patched files, wherever they can be had; for planning another selection.

    Raises:
        BackupError, RefusedGroup: no source has a file's original bytes.
    """
    found, refusals = _find_originals(root, state, {}, release_bytes, skip=set())
    refuse_all(refusals)
    return found


def _read_all(root: Path, state: State) -> tuple[dict[PurePosixPath, bytes | None], list[RefusedError]]:
    disk: dict[PurePosixPath, bytes | None] = {}
    refusals: list[RefusedError] = []
    try:
        with Tree(root) as tree:
            for file in state.files:
                path = PurePosixPath(file.path)
                try:
                    data = disk[path] = tree.read(path)
                except UnsafePathError as error:
                    refusals.append(error)
                    continue
                digest = None if data is None else fingerprint(data)
                if digest not in (file.patched, file.pristine):
                    refusals.append(_drift(file, gone=data is None))
                elif data is not None and file.pristine is not None and data.startswith(ADDED_MARK.encode()):
                    refusals.append(added_with_original(path))
    except OSError as error:
        raise storage_error(error) from error
    return disk, refusals


def added_with_original(path: PurePosixPath) -> BackupError:
    """The refusal of a record that gives an original to a file that a patch added: somebody changed the record."""
    hint = "put .toto-patch back from git or a copy; or delete it and run `toto-patch adopt`"
    return BackupError("was added by a patch, but the record says that it had an original", path=path, hint=hint)


def _drift(file: FileState, *, gone: bool) -> DriftError:
    message = "is gone, though it was patched" if gone else "was edited after it was patched"
    name = shlex.quote(file.path)
    if file.pristine is None:
        hint = (
            "this file did not exist before: move it away if you want to keep your edit, then run `toto-patch revert`"
        )
    elif file.backup:
        backup = BACKUPS / file.pristine
        hint = f"keep your edit elsewhere, `cp {backup} {name}` in the root, then run `toto-patch revert`"
    else:
        hint = f"keep your edit elsewhere, put the original back (`git checkout -- {name}`), then run it again"
    return DriftError(message, path=file.path, hint=hint)


def _find_originals(
    root: Path,
    state: State,
    disk: Mapping[PurePosixPath, bytes | None],
    release_bytes: ReleaseBytes | None,
    skip: set[str],
) -> tuple[dict[PurePosixPath, Original], list[RefusedError]]:
    found: dict[PurePosixPath, Original] = {}
    refusals: list[RefusedError] = []
    for file in state.files:
        if file.pristine is None or file.path in skip:
            continue
        path = PurePosixPath(file.path)
        present = disk.get(path)
        if present is not None and fingerprint(present) == file.pristine:
            found[path] = Original(path, present, "disk")
            continue
        damage: BackupError | None = None
        if file.backup:
            try:
                found[path] = Original(path, Store(root).backup(file.pristine), "backup")
                continue
            except BackupError as error:
                damage = error
        original = _from_git(root, file, state.git_commit)
        if original is None and release_bytes:
            original = _from_release(file, state.release, release_bytes)
        if original is None:
            refusals.append(_lost(file, damage))
        else:
            found[path] = original
    return found, refusals


def _from_release(file: FileState, recorded: str | None, release_bytes: ReleaseBytes) -> Original | None:
    """Looks in the recorded release and in every pinned one that has the file.

    By fingerprint, not by name: a package may be renamed, and a record may name any release.
    """
    from toto_patcher.patching.vendoring.releases import pinned_releases

    for version, release in reversed(list(pinned_releases().items())):
        if version == recorded or file.pristine in release.files.values():
            for data in release_bytes(version).values():
                if fingerprint(data) == file.pristine:
                    return Original(PurePosixPath(file.path), data, f"release {version}")
    return None


def _lost(file: FileState, damage: BackupError | None) -> BackupError:
    tried = [
        str(damage) if damage else "it was patched without a backup",
        "no git commit has its original bytes",
        "no pinned release has them",
    ]
    hint = f"put the original (sha256 {file.pristine}) back by hand, then run `toto-patch revert` again"
    return BackupError("cannot be restored: " + "; ".join(tried), path=file.path, hint=hint)


def _from_git(root: Path, file: FileState, commit: str | None) -> Original | None:
    """Looks in the recorded commit, then in the last commits that touched the file, and their parents."""
    path = PurePosixPath(file.path)
    for candidate, blob in _candidates(root, path, commit):
        # git may keep LF where the checkout has CRLF.
        for data in (blob, blob.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")):
            if fingerprint(data) == file.pristine:
                return Original(path, data, f"git commit {candidate}")
    return None


def _candidates(root: Path, path: PurePosixPath, recorded: str | None) -> Iterator[tuple[str, bytes]]:
    if recorded and _COMMIT.fullmatch(recorded):
        with suppress(TotoPatchError):  # a shallow clone, or a record from elsewhere: git does not have it
            for blob in version_control.blobs(root, recorded, [path]).values():
                yield recorded, blob
    for commit, found in version_control.history(root, [path], _HISTORY):
        for blob in found.values():
            yield commit, blob
