"""Where the original bytes come from when patches are taken back: the backup, else git, else the pinned release."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from toto_patcher.errors import BackupError, DriftError, RefusedError, UnsafePathError, refuse_all
from toto_patcher.patching.change import FileChange, Plan, fingerprint
from toto_patcher.patching.files.layout import BACKUPS
from toto_patcher.patching.files.safe_files import Tree
from toto_patcher.patching.files.system_errors import storage_error
from toto_patcher.patching.store import Store
from toto_patcher.patching.version_control import without_expansion

if TYPE_CHECKING:
    import git

    from toto_patcher.patching.state import FileState, State

ReleaseBytes = Callable[[str], Mapping[PurePosixPath, bytes]]
"""Takes a release of toto-ts and returns its files; may download. Raises ``TotoPatchError`` if it cannot."""

# How far back a file's history is searched where the recorded commit does not have the original.
_HISTORY = 50


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
    except OSError as error:
        raise storage_error(error) from error
    return disk, refusals


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


def history(root: Path, paths: Sequence[PurePosixPath]) -> Iterator[tuple[str, dict[PurePosixPath, bytes]]]:
    """What the last commits that touched these files had in their place, newest first; nothing without git.

    Yields:
        The commit's id, and the bytes of the files that it has.
    """
    try:
        import git
    except ImportError:
        return
    try:
        with git.Repo(root, search_parent_directories=True, expand_vars=False) as repo:
            if repo.working_tree_dir is None:
                return
            without_expansion(repo)
            inside = PurePosixPath(root.resolve().relative_to(Path(repo.working_tree_dir).resolve()).as_posix())
            names = {path: (inside / path).as_posix() for path in paths}
            for commit in repo.iter_commits(paths=list(names.values()), max_count=_HISTORY):
                for candidate in (commit, *commit.parents):
                    yield candidate.hexsha, dict(_blobs(candidate, names))
    except (git.GitError, git.ODBError, ValueError, OSError):
        return  # no repository, a shallow clone, a damaged one: git does not have it


def _blobs(commit: git.Commit, names: Mapping[PurePosixPath, str]) -> Iterator[tuple[PurePosixPath, bytes]]:
    for path, name in names.items():
        with suppress(KeyError):
            yield path, (commit.tree / name).data_stream.read()


def _lost(file: FileState, damage: BackupError | None) -> BackupError:
    tried = [
        str(damage) if damage else "it was patched without a backup",
        "no git commit has its original bytes",
        "no pinned release has them",
    ]
    hint = f"put the original (sha256 {file.pristine}) back by hand, then run `toto-patch revert` again"
    return BackupError("cannot be restored: " + "; ".join(tried), path=file.path, hint=hint)


def _from_git(root: Path, file: FileState, commit: str | None) -> Original | None:
    """Looks in the recorded commit, then in HEAD and the last commits that touched the file."""
    try:
        import git  # slow to import, and it fails where git is not installed
    except ImportError:
        return None
    try:
        with git.Repo(root, search_parent_directories=True, expand_vars=False) as repo:
            if repo.working_tree_dir is None:
                return None
            without_expansion(repo)
            inside = root.resolve().relative_to(Path(repo.working_tree_dir).resolve())
            path = (PurePosixPath(inside.as_posix()) / file.path).as_posix()
            for candidate in _commits(repo, commit, path):
                data = _blob(candidate, path, file.pristine)
                if data is not None:
                    return Original(PurePosixPath(file.path), data, f"git commit {candidate.hexsha}")
    except (git.GitError, git.ODBError, ValueError, OSError):
        pass  # no repository, no such commit, a shallow clone: git does not have it
    return None


def _commits(repo: git.Repo, recorded: str | None, path: str) -> Iterator[git.Commit]:
    import git

    for name in (recorded, "HEAD"):
        if name:
            try:
                commit = repo.commit(name)
                _ = commit.tree  # a commit is read when it is first looked into; a wrong id shows only then
            except (git.GitError, git.ODBError, ValueError):
                continue
            yield commit
    yield from repo.iter_commits(paths=path, max_count=_HISTORY)


def _blob(commit: git.Commit, path: str, digest: str | None) -> bytes | None:
    try:
        data: bytes = (commit.tree / path).data_stream.read()
    except KeyError:
        return None
    # git may keep LF where the checkout has CRLF.
    for candidate in (data, data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")):
        if fingerprint(candidate) == digest:
            return candidate
    return None
