"""Where a checkout stands in git, and committing exactly the files of a plan. GitPython is imported on first use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from toto_patcher.errors import RefusedError, StorageError, UsageError, refuse_all
from toto_patcher.patching.change import FileChange, Plan

if TYPE_CHECKING:
    from git import Repo


@dataclass(frozen=True)
class GitState:
    """A checkout in a git work tree.

    Attributes:
        commit: HEAD's hash; empty before the first commit.
        branch: the branch's name; ``None`` when HEAD is detached.
        ignored: the repository ignores the checkout's folder.
        modified: tracked files of the checkout that differ from HEAD, relative to the repository.
    """

    commit: str
    branch: str | None
    ignored: bool
    modified: tuple[str, ...]


def git_state(root: Path) -> GitState | None:
    """What git knows of a checkout; ``None`` outside a repository or without git. Not even the index is written."""
    from git.exc import GitCommandError

    try:
        repo = _open(root)
        # `git diff` would write to the index what it learns on the way; `git status` can be told not to.
        tracked = ("--porcelain", "--no-renames", "--untracked-files=no", "-z", "--", _literally(root))
        modified = tuple(line[3:] for line in _lines(repo.git.status(*tracked)))
        commit = repo.head.commit.hexsha if repo.head.is_valid() else ""
        return GitState(
            commit, None if repo.head.is_detached else repo.active_branch.name, _ignores(repo, root), modified
        )
    except (RefusedError, UsageError, GitCommandError, ValueError, OSError):
        return None


def head_commit(root: Path) -> str | None:
    """HEAD's hash; ``None`` outside a repository. Asks git itself, since GitPython takes far longer to import."""
    if not any((folder / ".git").exists() for folder in (root, *root.parents)):
        return None
    import subprocess

    command = ["git", "-C", str(root), "rev-parse", "--verify", "--quiet", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


def require_committable(plan: Plan) -> None:
    """Refuses a commit that could hold anything but this plan's changes, every reason at once.

    Raises:
        UsageError: git is missing, or the checkout is in no repository.
        RefusedError: a merge is under way, something is staged, or a file is untracked, ignored or edited.
    """
    repo = _open(plan.root)
    refusals = []
    if (Path(repo.git_dir) / "MERGE_HEAD").exists():
        refusals.append(RefusedError("a merge is under way", path=str(repo.git_dir), hint="Conclude it first."))
    staged = _lines(repo.git.diff("--cached", "--name-only", "-z"))
    if staged:
        hint = "Commit or unstage them first (git restore --staged), or apply without --commit."
        refusals.append(RefusedError("already staged for the next commit", path=staged[0], hint=hint))
    for change in plan.changes:
        reason = _why_not(repo, plan.root, change)
        if reason:
            refusals.append(
                RefusedError(reason, path=change.path, hint="Apply without --commit, or settle this first.")
            )
    refuse_all(refusals)


def commit_files(root: Path, paths: Sequence[PurePosixPath], message: str) -> str | None:
    """Commits these files as they are on disk and returns the hash; ``None`` when they equal HEAD already.

    Raises:
        StorageError: git refused (a hook, no identity, a locked index); the index is as it was.
        KeyboardInterrupt: the index is as it was, unless the commit had been made already.
    """
    from git.exc import GitCommandError

    repo = _open(root)
    head = head_commit(root)
    tracked = [path for path in paths if _tracks(repo, root / path)]
    new = [_literally(root / path) for path in paths if _is_new(repo, root / path, path in tracked)]
    names = [*(_literally(root / path) for path in tracked), *new]
    try:
        if tracked:  # also those that a pattern would ignore
            repo.git.add("--update", "--", *names[: len(tracked)])
        if new:
            repo.git.add("--", *new)
        if not repo.git.diff("--cached", "--name-only"):
            return None
        _run_commit(Path(repo.working_dir), message)
    except BaseException as error:
        # Not asked through GitPython: Ctrl-C has ended the process that it reads objects from.
        if head_commit(root) == head:
            repo.git.reset("--quiet", "--", *names)
        if isinstance(error, GitCommandError):
            message = f"git could not commit: {_reason(error.stderr)}"
            raise StorageError(message, path=str(repo.working_dir)) from error
        raise
    return str(repo.head.commit.hexsha)


def _is_new(repo: Repo, path: Path, tracked: bool) -> bool:
    """Whether a file is to be added; the record stays out where the repository ignores it."""
    return not tracked and path.exists() and not _ignores(repo, path)


def is_committed(root: Path, paths: Sequence[PurePosixPath]) -> bool:
    """Whether HEAD has these files as they are on disk."""
    repo = _open(root)
    return not repo.git.diff("--name-only", "HEAD", "--", *(_literally(root / path) for path in paths))


def _run_commit(folder: Path, message: str) -> None:
    """Runs `git commit`, and when it is interrupted waits until git has ended and let go of its locks."""
    import subprocess

    command = ["git", "commit", "--quiet", "--message", message]
    with subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            said, _ = process.communicate()
        except BaseException:
            process.terminate()  # it may have had no signal of its own; unlike a kill, this lets it clean up
            process.wait()
            raise
    if process.returncode:
        raise StorageError(f"git could not commit: {_reason(said)}", path=folder)


def _open(root: Path) -> Repo:
    try:
        from git import Repo
        from git.exc import InvalidGitRepositoryError, NoSuchPathError
    except ImportError as error:  # GitPython's way of saying that there is no git program
        raise UsageError("--commit needs the git program", hint="Install git, or apply without --commit.") from error
    try:
        repo = Repo(root, search_parent_directories=True, expand_vars=False)
    except (InvalidGitRepositoryError, NoSuchPathError) as error:
        hint = "Apply without --commit."
        raise UsageError("--commit needs a checkout that is in a git repository", path=root, hint=hint) from error
    without_expansion(repo)
    # Reading commands would refresh the index, which may lie under the checkout.
    repo.git.update_environment(GIT_OPTIONAL_LOCKS="0")
    return repo


def without_expansion(repo: Repo) -> None:
    """Takes the repository's folder by its name: GitPython's commands would still replace a ``$VARIABLE`` in it."""
    repo.git._working_dir = str(repo.working_dir)


def _why_not(repo: Repo, root: Path, change: FileChange) -> str | None:
    name = _literally(root / change.path)
    if _ignores(repo, root / change.path):
        return "ignored by git"
    if change.pristine is None:
        return None
    if not _tracks(repo, root / change.path):
        return "not tracked by git"
    if repo.git.diff("--name-only", "HEAD", "--", name) and _committed(repo, name) != change.pristine:
        return "has changes that are not committed"
    return None


def _committed(repo: Repo, name: str) -> bytes | None:
    blob = repo.git.ls_files("--stage", "--", name).split()
    return repo.odb.stream(bytes.fromhex(blob[1])).read() if len(blob) > 1 else None


def _literally(path: Path) -> str:
    """A pathspec in which no character is a pattern."""
    return f":(literal){path}"


def _tracks(repo: Repo, path: Path) -> bool:
    return bool(repo.git.ls_files("--", _literally(path)))


def _ignores(repo: Repo, path: Path) -> bool:
    status, _, _ = repo.git.check_ignore("--quiet", str(path), with_extended_output=True, with_exceptions=False)
    return bool(status == 0)


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line for line in text.split("\0") if line)


def _reason(stderr: str) -> str:
    """What git or a hook said, without GitPython's wrapping and git's hints."""
    lines = [line.strip() for line in stderr.strip().removeprefix("stderr: '").removesuffix("'").splitlines()]
    return " ".join(line for line in lines if line and not line.startswith("hint:")) or "no message"
