"""Takes over a tree whose code toto-patch wrote but whose record is gone: finds the originals and proves the bytes.

A clone that left ``.toto-patch/`` behind, ``git clean``, a diff applied with ``git apply``: the code says which patches
it holds, and the record is made again when an original is at hand from which these patches give the bytes on disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from toto_patcher import results as r
from toto_patcher import roots
from toto_patcher import workspace as ws
from toto_patcher.errors import RefusedError, TotoPatchError, refuse_all
from toto_patcher.patching import transaction
from toto_patcher.patching.change import Plan, fingerprint
from toto_patcher.patching.checkout import Checkout

if TYPE_CHECKING:
    from toto_patcher.patching.notice import Trace
    from toto_patcher.progress import Progress

Originals = Mapping[PurePosixPath, bytes | None]
_HISTORY = 50
"""Commits of the git history that are looked into."""


@dataclass(frozen=True)
class Origin:
    """Where the bytes on disk come from.

    Attributes:
        plan: the patches, whose result is what lies on disk: nothing in it is pending.
        source: where the originals were found, for people.
    """

    plan: Plan
    source: str


def adopt(root: Path | None, progress: Progress) -> r.AdoptResult:
    """Makes the record of a patched tree again; no source is written.

    Raises:
        RefusedError: no original at hand gives these bytes; each file that toto-patch wrote is named.
    """
    place = roots.find(root)
    with transaction.exclusive(place):
        workspace = ws.look(place)
        found = ws.traces(Checkout.open(place), workspace.state)
        if not found:
            return _nothing_to_adopt(workspace)
        if workspace.state is not None:
            refuse_all(ws.unrecorded(Checkout.open(place), workspace.state))
        progress("looking for the originals", 0, 0)
        origin = find_origin(workspace, download=True)
        if origin is None:
            names = ", ".join(sorted({name for trace in found for name in trace.patches}))
            raise RefusedError(
                f"was written by toto-patch ({names}), but no original at hand (the pinned releases, the git history) "
                "gives these bytes: they were edited, or another version wrote them",
                path=place / found[0].path,
                hint="Put the originals back (git checkout, or toto-patch vendor --force), then apply again.",
            )
        _record(origin.plan)
    return r.AdoptResult(
        root=str(place),
        profile=origin.plan.profile,
        patches=origin.plan.patches,
        files=ws.changed_files([replace(change, before=change.pristine) for change in origin.plan.changes]),
        origin=origin.source,
        written=True,
    )


def _record(plan: Plan) -> None:
    from toto_patcher.patching.package import other_files_after
    from toto_patcher.patching.version_control import head_commit

    originals = {c.path: None if c.pristine is None else fingerprint(c.pristine) for c in plan.changes}
    transaction.commit(
        plan,
        backup=True,
        release=ws.release_of(plan.root, originals),
        git_commit=head_commit(plan.root),
        package=other_files_after(plan),
        adopted=True,
    )


def _nothing_to_adopt(workspace: ws.Workspace) -> r.AdoptResult:
    state = workspace.state
    patches = state.patches if state else ()
    profile = ws.profile_of(state) if state else None
    return r.AdoptResult(
        root=str(workspace.root), profile=profile, patches=patches, files=(), origin=None, written=False
    )


def find_origin(workspace: ws.Workspace, *, download: bool) -> Origin | None:
    """The originals and the patches that give the bytes on disk, or ``None``.

    Args:
        workspace: a tree without a record.
        download: also fetch pinned releases that are not in the cache.
    """
    tree = Checkout.open(workspace.root)
    found = ws.traces(tree, None)
    changed = [trace.path for trace in found if not trace.added]
    added: dict[PurePosixPath, bytes | None] = {trace.path: None for trace in found if trace.added}
    if not changed:
        return None
    for originals, source in _candidates(tree, changed, download):
        for profile, ids in _selections(found):
            plan = _gives(tree, {**originals, **added}, profile, ids)
            if plan is not None:
                return Origin(plan, source)
    return None


def _selections(found: Sequence[Trace]) -> Iterator[tuple[str | None, tuple[str, ...]]]:
    """What may have been applied: the patches that the files name, as a profile or alone; then every profile."""
    from toto_patcher.patching import declarations

    named = tuple(sorted({patch_id for trace in found for patch_id in trace.patches}))
    profile = declarations.profile_of(named)
    yield profile, () if profile else named
    for name in declarations.declared_profiles():
        if name != profile:
            yield name, ()


def _gives(tree: Checkout, originals: Originals, profile: str | None, ids: tuple[str, ...]) -> Plan | None:
    """The plan of this selection if its result is what lies on disk, to the byte."""
    from toto_patcher.patching.plan import plan_selection

    try:
        _, selection = ws.select(profile, ids)
        plan = plan_selection(tree, selection, pristine=originals, profile=profile)
    except TotoPatchError:
        return None
    if {change.path for change in plan.changes} != originals.keys():
        return None
    return None if plan.pending else plan


def _candidates(tree: Checkout, changed: Sequence[PurePosixPath], download: bool) -> Iterator[tuple[Originals, str]]:
    """Originals of these files, from the git history and from the pinned releases, with where each set is from."""
    from toto_patcher.patching.vendoring.releases import cached_release_bytes, pinned_releases, release_bytes
    from toto_patcher.patching.version_control import history

    for commit, blobs in history(tree.root, changed, _HISTORY):
        if len(blobs) == len(changed):
            yield _as_on_disk(tree, blobs), f"git commit {commit}"
    for version in reversed(list(pinned_releases())):
        files = cached_release_bytes(version)
        if files is None and download:
            files = release_bytes(version)
        if files is not None and all(path in files for path in changed):
            yield _as_on_disk(tree, {path: files[path] for path in changed}), f"release {version}"


def _as_on_disk(tree: Checkout, originals: Mapping[PurePosixPath, bytes]) -> Originals:
    """With the line endings that the files on disk have: git may keep others."""
    feeds = {path: data.replace(b"\r\n", b"\n") for path, data in originals.items()}
    return {
        path: feeds[path].replace(b"\n", b"\r\n") if b"\r\n" in tree.read(path) else originals[path]
        for path in originals
    }
