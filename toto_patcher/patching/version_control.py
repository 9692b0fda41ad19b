"""Where a checkout stands in git, what its history holds, and committing exactly the files of a plan."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from toto_patcher.errors import RefusedError, StorageError, TotoPatchError, UsageError, refuse_all
from toto_patcher.patching import git_work_tree
from toto_patcher.patching.change import FileChange, Plan
from toto_patcher.patching.git_program import NoGitError, NotARepositoryError, act, ask, read_blobs

_LARGEST = 16 * 1024 * 1024
"""Bytes of a blob that is read: the sources of a package are far smaller."""


@dataclass(frozen=True)
class GitState:
    """A checkout in a git work tree.

    Attributes:
        commit: HEAD's hash; empty before the first commit, and where git does not say.
        branch: the branch's name; ``None`` when HEAD is detached.
        ignored: the repository ignores the checkout's folder.
        modified: tracked files of the checkout that differ from HEAD, relative to the repository.
        problem: why git does not say all of this, ``None`` where it does.
    """

    commit: str
    branch: str | None
    ignored: bool
    modified: tuple[str, ...]
    problem: str | None = None


def git_state(root: Path) -> GitState | None:
    """What git knows of a checkout; ``None`` outside a repository. Nothing is written, and nothing of its is run."""
    try:
        status, branch = ask(root, "symbolic-ref", "--quiet", "HEAD", fine=(0, 1))
        commit = _head(root)
        modified, untold = git_work_tree.modified(root, commit)
        return GitState(
            commit or "",
            _text(branch).strip().removeprefix("refs/heads/") if status == 0 else None,
            _ignores(root, PurePosixPath()),
            modified,
            _untold(untold),
        )
    except (NotARepositoryError, NoGitError) as error:
        return _unknown(error.message) if _has_git_entry(root) else None
    except TotoPatchError as error:
        return _unknown(error.message)


def head_commit(root: Path) -> str | None:
    """HEAD's hash; ``None`` outside a repository, before the first commit, and where git does not say."""
    if not _has_git_entry(root):
        return None
    try:
        return _head(root)
    except TotoPatchError:
        return None


def require_committable(plan: Plan) -> None:
    """Refuses a commit that could hold anything but this plan's changes, every reason at once.

    Raises:
        UsageError: git is missing, or the checkout is in no repository.
        StorageError: another git holds the index.
        RefusedError: git refuses to work there, a merge is under way, something is staged, or a file is untracked,
            ignored or edited.
    """
    root = plan.root
    folder = _git_folder(root)
    if (folder / "index.lock").exists():
        hint = "Another git works here, or one was killed: wait for it, or remove the file; then run it again."
        raise StorageError("git's index is locked", path=folder / "index.lock", hint=hint)
    commit = _head(root)
    refusals = []
    if (folder / "MERGE_HEAD").exists():
        refusals.append(RefusedError("a merge is under way", path=str(folder), hint="Conclude it first."))
    staged = git_work_tree.staged(root, commit, everywhere=True)
    if staged:
        hint = "Commit or unstage them first (git restore --staged), or apply without --commit."
        refusals.append(RefusedError("already staged for the next commit", path=staged[0], hint=hint))
    for change in plan.changes:
        why = _why_not(root, change)
        if why:
            refusals.append(RefusedError(why, path=change.path, hint="Apply without --commit, or settle this first."))
    refuse_all(refusals)


def commit_files(root: Path, paths: Sequence[PurePosixPath], message: str) -> str | None:
    """Commits these files as they are on disk and returns the hash; ``None`` when they equal HEAD already.

    This is the user's own commit: their hooks run, and their settings hold, as in `git commit`.

    Raises:
        StorageError: git refused (a hook, no identity, a locked index); the index is as it was.
        KeyboardInterrupt: the index is as it was, unless the commit had been made already.
    """
    head = head_commit(root)
    tracked = [str(path) for path in paths if _tracks(root, path)]
    new = [str(path) for path in paths if str(path) not in tracked and _is_new(root, path)]
    try:
        if tracked:  # also those that a pattern would ignore
            act(root, "add", "--update", "--", *tracked)
        if new:
            act(root, "add", "--", *new)
        if not git_work_tree.staged(root, head, everywhere=True):
            return None
        act(root, "commit", "--quiet", "--message", message)
    except BaseException as error:
        why = error.message if isinstance(error, TotoPatchError) else ""
        if head_commit(root) == head and (tracked or new):
            try:
                act(root, "reset", "--quiet", "--", *tracked, *new)
            except TotoPatchError as left:
                why += f"; the index keeps what was added to it: {left.message}"
        if isinstance(error, TotoPatchError):
            raise StorageError(f"git could not commit: {why}", path=root) from error
        raise
    return head_commit(root)


def is_committed(root: Path, paths: Sequence[PurePosixPath]) -> bool:
    """Whether HEAD has these files as they are on disk; not where git does not say."""
    try:
        found = blobs(root, "HEAD", paths)
    except TotoPatchError:
        return False
    return all(git_work_tree.is_same(found.get(path), _on_disk(root / path)) for path in paths)


def history(root: Path, paths: Sequence[PurePosixPath], most: int) -> Iterator[tuple[str, dict[PurePosixPath, bytes]]]:
    """What the last commits that touched these files, and their parents, had in their place; newest first.

    Args:
        root: the checkout.
        paths: its files.
        most: how many commits are looked into.

    Yields:
        The commit's hash, and the bytes of the files that it has. Nothing where git does not say.
    """
    try:
        _, listed = ask(root, "rev-list", f"--max-count={most}", "HEAD", "--", *map(str, paths))
        for commit in _text(listed).split():
            status, parents = ask(root, "rev-parse", "--quiet", f"{commit}^@", fine=(0, 1, 128))
            for candidate in (commit, *(_text(parents).split() if status == 0 else ())):
                yield candidate, blobs(root, candidate, paths)
    except TotoPatchError:
        return  # no git, no repository, a shallow clone, a damaged one: git does not have it


def blobs(root: Path, revision: str, paths: Sequence[PurePosixPath]) -> dict[PurePosixPath, bytes]:
    """What a revision has in the place of these files; without those that it lacks or that are too big for a source.

    Raises:
        TotoPatchError: git does not say.
    """
    names = [path for path in paths if "\n" not in str(path)]
    asked = "".join(f"{revision}:./{path}\n" for path in names).encode(errors="surrogateescape")
    _, told = ask(root, "cat-file", "--batch-check=%(objecttype) %(objectsize) %(objectname)", given=asked)
    wanted = {}
    for path, line in zip(names, told.split(b"\n"), strict=False):
        kind, _, rest = line.partition(b" ")
        size, _, identity = rest.partition(b" ")
        if kind == b"blob" and int(size) <= _LARGEST:
            wanted[path] = identity.decode("ascii")
    found = read_blobs(root, list(wanted.values()))
    return {path: found[identity] for path, identity in wanted.items()}


def _head(root: Path) -> str | None:
    """HEAD's hash; ``None`` before the first commit."""
    status, told = ask(root, "rev-parse", "--verify", "--quiet", "HEAD", fine=(0, 1))
    if status == 1:
        ask(root, "symbolic-ref", "--quiet", "HEAD", fine=(0, 1))  # which refuses where the branch is damaged
    return _text(told).strip() if status == 0 else None


def _git_folder(root: Path) -> Path:
    """The repository's own folder, of a work tree.

    Raises:
        UsageError: there is no git program or no repository; GitRefusedError for a bare one.
    """
    try:
        ask(root, "rev-parse", "--show-toplevel")
        return Path(os.fsdecode(ask(root, "rev-parse", "--absolute-git-dir")[1].rstrip(b"\n")))
    except NoGitError as error:
        raise UsageError("--commit needs the git program", hint="Install git, or apply without --commit.") from error
    except NotARepositoryError as error:
        if _has_git_entry(root):
            raise
        hint = "Apply without --commit."
        raise UsageError("--commit needs a checkout that is in a git repository", path=root, hint=hint) from error


def _why_not(root: Path, change: FileChange) -> str | None:
    if _ignores(root, change.path):
        return "ignored by git"
    if change.pristine is None:
        return None
    if not _tracks(root, change.path):
        return "not tracked by git"
    committed = blobs(root, "HEAD", [change.path]).get(change.path)
    if not any(git_work_tree.is_same(committed, data) for data in (change.before, change.pristine)):
        return "has changes that are not committed"
    return None


def _is_new(root: Path, path: PurePosixPath) -> bool:
    """Whether a file is to be added; the record stays out where the repository ignores it."""
    return (root / path).exists() and not _ignores(root, path)


def _tracks(root: Path, path: PurePosixPath) -> bool:
    return bool(ask(root, "ls-files", "-z", "--", str(path))[1])


def _ignores(root: Path, path: PurePosixPath) -> bool:
    return ask(root, "check-ignore", "--quiet", "--", f"./{path}", fine=(0, 1))[0] == 0


def _on_disk(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _has_git_entry(root: Path) -> bool:
    return any((folder / ".git").exists() for folder in (root, *root.parents))


def _untold(count: int) -> str | None:
    files = "1 file" if count == 1 else f"{count} files"
    return f"{files} not compared: rewritten by a git filter, which is not run, or too big" if count else None


def _unknown(why: str) -> GitState:
    return GitState("", None, False, (), why)


def _text(told: bytes) -> str:
    return told.decode(errors="surrogateescape")
