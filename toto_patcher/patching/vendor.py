"""Puts a Toto 1.0 into ``vendor/toto``: a pinned release by hash, a git revision, or a folder of one's own.

All three end the same way: exactly the package ``toto/`` and its licence files lie in the destination, and
``<destination>.lock.toml`` beside it says where they came from and the sha256 of each. A tree that somebody edited or
patched is never overwritten unasked; a tree that is already as wanted is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit, urlunsplit

from toto_patcher.errors import DriftError, RefusedError, StorageError, UnsafePathError, UsageError
from toto_patcher.patching.change import fingerprint
from toto_patcher.patching.vendoring import vendor_lock, vendor_tree
from toto_patcher.patching.vendoring.releases import (
    DEFAULT_RELEASE,
    known_release,
    pinned_release,
    pinned_releases,
    release_bytes,
)
from toto_patcher.patching.vendoring.vendor_lock import Lock, Source
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
    """

    root: Path
    lock_path: Path
    source: Source
    release: str | None
    files: Mapping[PurePosixPath, str]
    changed: bool


def vendor_release(
    version: str = DEFAULT_RELEASE,
    dest: Path = DEFAULT_DESTINATION,
    lock_path: Path | None = None,
    *,
    force: bool = False,
    progress: Progress = lambda step: None,
) -> Vendored:
    """Vendors a pinned release, fetched with pip by sha256 or taken from the cache.

    Args:
        version: one of the pinned releases.
        dest: the folder to fill; created if missing.
        lock_path: by default ``<dest>.lock.toml``.
        force: replace a tree even if it is patched or edited.
        progress: told each step that may take longer than a second.

    Raises:
        UsageError: unknown version, no pip, or an impossible destination.
        RefusedError: another file than the pinned one, or a destination that must not be overwritten.
        StorageError: network or disk; nothing was changed.
    """
    release = pinned_release(version)
    source = Source("release", {"version": version, "wheel": release.wheel, "sha256": release.sha256})

    def files() -> Mapping[PurePosixPath, bytes]:
        progress(f"fetching {release.wheel}")
        return release_bytes(version)

    return _lay_down(source, release.files, files, _Target.of(dest, lock_path, force))


def vendor_git(
    url: str,
    rev: str,
    dest: Path = DEFAULT_DESTINATION,
    lock_path: Path | None = None,
    *,
    force: bool = False,
    progress: Progress = lambda step: None,
) -> Vendored:
    """Vendors one revision of a git repository (branch, tag, or commit); the lock records the full commit id.

    Args and errors are those of ``vendor_release``, and ``UsageError`` for an unknown revision or a missing git.
    """
    target = _Target.of(dest, lock_path, force)
    files, commit = collect_git(url, rev, progress)
    source = Source("git", {"url": _without_credentials(url), "rev": rev, "commit": commit})
    return _lay_down(source, _fingerprints(files), lambda: files, target)


def vendor_path(
    folder: Path,
    dest: Path = DEFAULT_DESTINATION,
    lock_path: Path | None = None,
    *,
    force: bool = False,
) -> Vendored:
    """Vendors the package ``toto/`` found in a folder. Args and errors are those of ``vendor_release``."""
    target = _Target.of(dest, lock_path, force)
    if folder.resolve().is_relative_to(target.root):
        raise UsageError("the folder to vendor from lies in the destination", path=folder, hint="vendor elsewhere")
    files = collect_path(folder)
    return _lay_down(Source("path", {"path": folder.as_posix()}), _fingerprints(files), lambda: files, target)


@dataclass(frozen=True)
class _Target:
    root: Path
    lock_path: Path
    force: bool

    @classmethod
    def of(cls, dest: Path, lock_path: Path | None, force: bool) -> _Target:
        root = _absolute(dest)
        lock = root.parent / f"{root.name}.lock.toml" if lock_path is None else _absolute(lock_path)
        if root == root.parent or lock.is_relative_to(root):
            raise UsageError("not a folder to vendor into", path=dest, hint="name a folder of its own: vendor/toto")
        for path, is_right, what in ((root, root.is_dir, "folder"), (lock, lock.is_file, "file")):
            if path.is_symlink() or (path.exists() and not is_right()):
                raise UnsafePathError(f"is in the way and no plain {what}", path=path, hint="move it away first")
        return cls(root, lock, force)


def _lay_down(
    source: Source,
    wanted: Mapping[PurePosixPath, str],
    files: Callable[[], Mapping[PurePosixPath, bytes]],
    target: _Target,
) -> Vendored:
    """Makes the destination hold the wanted files and the lock say so; calls ``files`` only when it has to write."""
    release = next((name for name, known in pinned_releases().items() if known.files == wanted), None)
    lock = Lock(source, release, wanted)
    root, lock_path = target.root, target.lock_path
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        lock_path.parent.mkdir(parents=True, exist_ok=True)
        with vendor_tree.exclusive(root, lock_path):
            previous = vendor_lock.parse(lock_path.read_bytes()) if lock_path.exists() else None
            found = vendor_tree.inspect(root)
            same = found.files == wanted and not (found.patched or found.interrupted)
            if not same:
                _refuse_to_lose(found, previous, target)
                content = files()
                check_is_toto(content, source.details.get("wheel") or source.details.get("url") or str(root))
                vendor_tree.replace(root, content, lock_path, vendor_lock.render(lock), found)
            elif previous != lock:
                vendor_tree.write_lock(lock_path, vendor_lock.render(lock))
    except OSError as error:
        where = error.filename or root
        raise StorageError(f"{error.strerror or error}; nothing was changed", path=where) from error
    return Vendored(root, lock_path, source, release, wanted, changed=not same or previous != lock)


def _refuse_to_lose(found: vendor_tree.Found, previous: Lock | None, target: _Target) -> None:
    """Refuses to replace work that could not be fetched again."""
    root = target.root
    if any(path.parts[0] == ".git" for path in found.files):
        raise RefusedError(
            "is a git checkout of its own, which vendor does not replace",
            path=root,
            hint=f"patch it where it is (toto-patch --root {root} apply), or vendor into another folder",
        )
    if Path.cwd().is_relative_to(root):
        raise UsageError("the current folder lies in the tree to replace", path=root, hint="run vendor from outside")
    if target.force:
        return
    if found.interrupted:
        raise RefusedError("an apply or revert was interrupted here", path=root, hint="run toto-patch recover first")
    if found.patched:
        raise RefusedError(
            "the tree is patched",
            path=root,
            hint="run toto-patch revert first, or vendor --force to discard the patches",
        )
    originals = [previous.files] if previous is not None else []
    originals += [release.files for release in pinned_releases().values()]
    if found.files and found.files not in originals:
        raise _edited(found.files, originals, root)


def _edited(
    found: Mapping[PurePosixPath, str], originals: list[Mapping[PurePosixPath, str]], root: Path
) -> RefusedError:
    """Names the files that differ from the original that the tree is closest to."""
    closest = max(originals, key=lambda original: len(found.items() & original.items()))
    differing = sorted(path for path in found.keys() | closest.keys() if found.get(path) != closest.get(path))
    hint = "move them out of the tree, or vendor --force to discard them"
    if not found.items() & closest.items():
        return DriftError("holds files that vendor did not put there", path=root / min(found), hint=hint)
    kinds = {path: "added" if path not in closest else "edited" if path in found else "missing" for path in differing}
    names = ", ".join(f"{path} ({kind})" for path, kind in kinds.items())
    return DriftError(f"the tree was edited: {names}", path=root, hint=hint)


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
