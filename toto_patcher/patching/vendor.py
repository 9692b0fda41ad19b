"""Puts a Toto 1.0 into ``vendor/toto``: a pinned release by hash, a git revision, or a folder of one's own.

All three end the same way: exactly the package ``toto/`` and its licence files lie in the destination, and
``<destination>.lock.toml`` beside it says where they came from and the sha256 of each. A tree that somebody edited or
patched is never overwritten unasked; a tree that is already as wanted is left alone; what else lies in the destination
is nobody's business here. The files are written by the same transaction as those of ``apply``, with its promises.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit, urlunsplit

from toto_patcher.errors import BackupError, RefusedError, UnsafePathError, UsageError
from toto_patcher.patching import transaction
from toto_patcher.patching.change import fingerprint
from toto_patcher.patching.files.safe_files import Tree, give_to_owner_of
from toto_patcher.patching.files.system_errors import storage_error
from toto_patcher.patching.vendoring import losses, vendor_tree
from toto_patcher.patching.vendoring.lock_file import LockFile
from toto_patcher.patching.vendoring.names import refuse_faults
from toto_patcher.patching.vendoring.releases import (
    DEFAULT_RELEASE,
    known_release,
    pinned_release,
    pinned_releases,
    release_bytes,
)
from toto_patcher.patching.vendoring.vendor_lock import Lock, Source, render
from toto_patcher.patching.vendoring.vendor_sources import check_is_toto, collect_git, collect_path

__all__ = [
    "DEFAULT_DESTINATION",
    "DEFAULT_RELEASE",
    "Vendored",
    "known_release",
    "release_bytes",
    "vendor_git",
    "vendor_path",
    "vendor_release",
]

DEFAULT_DESTINATION = Path("vendor/toto")
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Vendored:
    """What lies in the destination now.

    Attributes:
        root: the folder that holds ``toto/``, absolute: the checkout's root.
        lock_path: the lock file.
        source: where the files came from.
        release: the pinned release that they are identical to, if any.
        files: path below the root -> sha256, sorted.
        changed: False when everything was already so and nothing was written.
        discarded: files that ``force`` gave up although their bytes could be fetched from nowhere.
    """

    root: Path
    lock_path: Path
    source: Source
    release: str | None
    files: Mapping[PurePosixPath, str]
    changed: bool
    discarded: tuple[PurePosixPath, ...] = ()


def vendor_release(
    version: str = DEFAULT_RELEASE,
    dest: Path = DEFAULT_DESTINATION,
    *,
    force: bool = False,
    progress: Progress = lambda step: None,
) -> Vendored:
    """Vendors a pinned release, fetched with pip by sha256 or taken from the cache.

    Args:
        version: one of the pinned releases.
        dest: the folder that holds the package ``toto/``; created if missing. The lock is ``<dest>.lock.toml``.
        force: replace the package even if it is patched, edited, or the only copy. Nothing beside it is ever replaced.
        progress: told each step that may take longer than a second.

    Raises:
        UsageError: unknown version, no pip, or an impossible destination.
        RefusedError: another file than the pinned one, or a destination that must not be overwritten.
        LockedError: another process is writing there; nothing was changed.
        StorageError: network or disk; nothing was changed, unless it says that ``recover`` is needed.
    """
    release = pinned_release(version)
    source = Source("release", {"version": version, "wheel": release.wheel, "sha256": release.sha256})

    def files() -> Mapping[PurePosixPath, bytes]:
        progress(f"fetching {release.wheel}")
        return release_bytes(version)

    target = _Target.of(dest, force)
    return _lay_down(source, release.files, files, target, lambda previous: _asked_again(previous, target.root))


def vendor_git(
    url: str,
    rev: str,
    dest: Path = DEFAULT_DESTINATION,
    *,
    force: bool = False,
    progress: Progress = lambda step: None,
) -> Vendored:
    """Vendors one revision of a git repository (branch, tag, or commit); the lock records the full commit id.

    Args and errors are those of ``vendor_release``, and ``UsageError`` for an unknown revision or a missing git.
    """
    target = _Target.of(dest, force)
    files, commit = collect_git(url, rev, progress)
    address = _without_credentials(url)
    source = Source("git", {"url": address, "rev": rev, "commit": commit})

    def asked_again(previous: Lock) -> Mapping[PurePosixPath, str] | None:
        # Only the address that the user names is asked: the one in a lock may be a stranger's.
        if previous.source.kind != "git" or previous.source.details.get("url") != address:
            return _asked_again(previous, target.root)
        return _fingerprints(collect_git(url, previous.source.details.get("commit", ""), progress)[0])

    return _lay_down(source, _fingerprints(files), lambda: files, target, asked_again)


def vendor_path(folder: Path, dest: Path = DEFAULT_DESTINATION, *, force: bool = False) -> Vendored:
    """Vendors the package ``toto/`` found in a folder. Args and errors are those of ``vendor_release``."""
    target = _Target.of(dest, force)
    if folder.resolve().is_relative_to(target.root):
        raise UsageError("the folder to vendor from lies in the destination", path=folder, hint="vendor elsewhere")
    files = collect_path(folder)
    # A relative path in a file means: from that file on.
    told = folder if folder.is_absolute() else Path(os.path.relpath(folder.absolute(), target.root.parent))
    source = Source("path", {"path": told.as_posix()})

    def asked_again(previous: Lock) -> Mapping[PurePosixPath, str] | None:
        # The same folder once more: it is there, and what it holds now is what the user wants instead.
        return previous.files if previous.source == source else _asked_again(previous, target.root)

    return _lay_down(source, _fingerprints(files), lambda: files, target, asked_again)


@dataclass(frozen=True)
class _Target:
    root: Path
    force: bool

    @classmethod
    def of(cls, dest: Path, force: bool) -> _Target:
        root = _absolute(dest)
        if root == root.parent:
            raise UsageError("not a folder to vendor into", path=dest, hint="name a folder of its own: vendor/toto")
        lock = LockFile(root).path
        for path, is_right, what in ((root, root.is_dir, "folder"), (lock, lock.is_file, "file")):
            if path.is_symlink() or (path.exists() and not is_right()):
                raise UnsafePathError(f"is in the way and no plain {what}", path=path, hint="move it away first")
        return cls(root, force)


def _asked_again(previous: Lock, root: Path) -> Mapping[PurePosixPath, str] | None:
    """What the folder that a lock names holds now. A repository is not asked: that takes the network."""
    if previous.source.kind != "path":
        return None
    return _fingerprints(collect_path(root.parent / previous.source.details.get("path", "")))


def _lay_down(
    source: Source,
    wanted: Mapping[PurePosixPath, str],
    files: Callable[[], Mapping[PurePosixPath, bytes]],
    target: _Target,
    asked_again: losses.Fetch,
) -> Vendored:
    """Makes the destination hold the wanted files and the lock say so; calls ``files`` only when it has to write."""
    release = next((name for name, known in pinned_releases().items() if known.files == wanted), None)
    lock = Lock(source, release, wanted)
    root, lock_file = target.root, LockFile(target.root, render(lock))
    where = source.details.get("wheel") or source.details.get("url") or str(root)
    refuse_faults(wanted, where)

    def done(changed: bool, discarded: tuple[PurePosixPath, ...] = ()) -> Vendored:
        return Vendored(root, lock_file.path, source, release, wanted, changed, discarded)

    def look() -> tuple[vendor_tree.Found, Lock | None, list[Mapping[PurePosixPath, str]] | None]:
        """What is there, what its lock says, and the trees that are safe; ``None`` where nothing is to be replaced."""
        found, previous = vendor_tree.look(root), lock_file.read()
        if vendor_tree.is_wanted(found, wanted, previous.files if previous else {}):
            return found, previous, None
        safe = losses.refuse(root, found, previous, wanted, force=target.force, fetch_again=asked_again)
        return found, previous, safe

    with _named_errors():
        # A tree that nobody is writing can be refused, or left alone, without a trace.
        if not root.exists() or (transaction.is_quiet(root) and not lock_file.next.exists()):
            _, previous, safe = look()
            if safe is None and previous == lock:
                return done(changed=False)
        elif not target.force:
            _refuse_if_stuck(root)
        content = files()
        check_is_toto(content, where)
        with _made(root), transaction.exclusive(root, force=target.force):
            found, previous, safe = look()
            if safe is None:
                if previous != lock:
                    lock_file.replace()
                return done(changed=previous != lock)
            plan = vendor_tree.plan(root, found, content, previous.files if previous else {})
            lost = losses.discarded(root, found, plan, safe)
            emptied = vendor_tree.emptied_folders(found, content)
            transaction.lay(plan, tuple(filter(vendor_tree.may_be_written, emptied)), lock_file)
            vendor_tree.remove_odd(root, found, emptied)
            return done(changed=True, discarded=lost)


def _refuse_if_stuck(root: Path) -> None:
    try:
        transaction.pending(root)
    except BackupError as error:
        raise RefusedError(
            f"a command was interrupted here, and its journal is unusable: {error.message}",
            path=root,
            hint="toto-patch recover says more; vendor --force starts afresh",
        ) from error


@contextmanager
def _made(root: Path) -> Iterator[None]:
    """Makes the destination and the folders above it, like their parents' owner; takes them back if the block fails."""
    made: list[Path] = []
    try:
        for folder in reversed([root, *root.parents]):
            with suppress(FileExistsError):
                folder.mkdir(0o755)
                made.append(folder)
                with Tree(folder.parent) as above:
                    give_to_owner_of(above.folder(PurePosixPath()), above.folder(PurePosixPath(folder.name)))
                    above.sync_folder(PurePosixPath())
        yield
    except BaseException:
        with suppress(OSError):  # somebody else put something in
            for folder in reversed(made):
                folder.rmdir()
        raise


@contextmanager
def _named_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(error) from error


def _absolute(path: Path) -> Path:
    """Resolves the parents only: whether the path itself is a link still shows."""
    return path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name


def _fingerprints(files: Mapping[PurePosixPath, bytes]) -> dict[PurePosixPath, str]:
    return {path: fingerprint(data) for path, data in files.items()}


def _without_credentials(url: str) -> str:
    """The address without user name and password: the lock is committed."""
    parts = urlsplit(url)
    if not parts.scheme.startswith("http"):
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
