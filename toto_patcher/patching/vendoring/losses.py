"""What a new tree would take away that nobody could fetch again: refused, or named when ``--force`` discards it.

Bytes are safe when a pinned release has them, or when the folder or the repository they came from was asked just now
and still has them. What the lock says of itself proves nothing: it is as old as the tree.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath

from toto_patcher.errors import DriftError, RefusedError, TotoPatchError, refuse_all
from toto_patcher.patching.change import Plan, fingerprint
from toto_patcher.patching.vendoring import vendor_tree
from toto_patcher.patching.vendoring.releases import pinned_releases
from toto_patcher.patching.vendoring.vendor_lock import Lock
from toto_patcher.patching.vendoring.vendor_tree import Files, Found, package

Fetch = Callable[[Lock], Files | None]
"""Asks the source of a lock for its files now; ``None`` where it does not answer."""


def refuse(
    root: Path, found: Found, previous: Lock | None, wanted: Files, *, force: bool, fetch_again: Fetch
) -> list[Files]:
    """Refuses to replace what could not be fetched again.

    Args:
        root: the destination.
        found: what lies there.
        previous: what the lock says was laid there, if there is one.
        wanted: the new tree.
        force: the user accepts losses inside the package. Beside it nothing is ever lost.
        fetch_again: asked only if it matters.

    Returns:
        The trees whose bytes are safe.

    Raises:
        RefusedError, RefusedGroup: with each file and the reason.
    """
    if found.repository is not None:
        raise RefusedError(
            "is a git checkout of its own, which vendor does not replace",
            path=root if found.repository == PurePosixPath(".git") else root / found.repository.parent,
            hint=f"patch it where it is (toto-patch --root {root} apply), or vendor into another folder",
        )
    originals = [release.files for release in pinned_releases().values()]
    cause = ""
    if previous is not None:
        try:
            again = _proven(found, previous, wanted, originals, fetch_again)
            originals += [] if again is None else [again]
        except TotoPatchError as error:
            cause = str(error)
    written = [*originals, *([previous.files] if previous else [])]
    refuse_all([_foreign(path) for path in _licences(found, wanted) if not _in(written, path, found.files[path])])
    if force:
        return originals
    if found.patched:
        raise RefusedError(
            "the tree is patched",
            path=root,
            hint="run toto-patch revert first, or vendor --force to discard the patches",
        )
    if not found.package and previous is None and found.others:
        raise DriftError(
            "holds files that vendor did not put there",
            path=root / found.others[0],
            hint="vendor into a folder of its own, or put toto/ beside them with vendor --force: they stay",
        )
    if found.package and not any(found.package == package(original) for original in [*originals, wanted]):
        if previous is not None and found.package == package(previous.files):
            raise _only_copy(previous, root, cause)
        raise _edited(found.package, [package(original) for original in written], root)
    return originals


def discarded(root: Path, found: Found, plan: Plan, originals: list[Files]) -> tuple[PurePosixPath, ...]:
    """The files of a plan whose bytes are nowhere else, or are the only trace of an original that is nowhere else."""
    record = vendor_tree.recorded(root) if found.patched else {}

    def is_safe(path: PurePosixPath, digest: str) -> bool:
        pristine, patched = record.get(path, (None, None))
        ours = patched == digest and (pristine is None or _in(originals, path, pristine))
        return ours or _in(originals, path, digest)

    odd = vendor_tree.odd_files(found)
    lost = [c.path for c in plan.pending if c.before is not None and not is_safe(c.path, fingerprint(c.before))]
    return tuple(sorted({*odd, *lost}))


def _proven(found: Found, previous: Lock, wanted: Files, originals: list[Files], fetch_again: Fetch) -> Files | None:
    if found.package != package(previous.files) or any(
        found.package == package(original) for original in [*originals, wanted]
    ):
        return None
    again = fetch_again(previous)
    return again if again is not None and package(again) == found.package else None


def _licences(found: Found, wanted: Files) -> list[PurePosixPath]:
    """Licence files that would be replaced."""
    return [path for path, digest in found.files.items() if len(path.parts) == 1 and wanted.get(path, digest) != digest]


def _in(trees: list[Files], path: PurePosixPath, digest: str) -> bool:
    return any(tree.get(path) == digest for tree in trees)


def _foreign(path: PurePosixPath) -> RefusedError:
    hint = "move it away, or vendor into a folder of its own; --force discards nothing beside the package toto/"
    return DriftError("is not the licence file that vendor wrote, and has its name", path=path, hint=hint)


def _only_copy(previous: Lock, root: Path, cause: str) -> RefusedError:
    details, why = previous.source.details, f"does not give these bytes again ({cause})"
    if previous.source.kind == "path":
        origin = f"the folder {details.get('path')}"
        why = why if cause else "has other bytes now"
    else:
        origin = f"{details.get('url')} at {details.get('commit')}"
        why = why if cause else "was not asked whether it still has them"
    return DriftError(
        f"came from {origin}, which {why}: this may be the only copy",
        path=root,
        hint="keep a copy of it, then discard it with vendor --force",
    )


def _edited(found: Files, originals: list[dict[PurePosixPath, str]], root: Path) -> RefusedError:
    """Names the files that differ from the original that the tree is closest to."""
    closest = max(originals, key=lambda original: len(found.items() & original.items()))
    differing = sorted(path for path in found.keys() | closest.keys() if found.get(path) != closest.get(path))
    hint = "move them out of the tree, or vendor --force to discard them"
    if not found.items() & closest.items():
        return DriftError("holds files that vendor did not put there", path=root / min(found), hint=hint)
    kinds = {path: "added" if path not in closest else "edited" if path in found else "missing" for path in differing}
    names = ", ".join(f"{path} ({kind})" for path, kind in kinds.items())
    return DriftError(f"the tree was edited: {names}", path=root, hint=hint)
