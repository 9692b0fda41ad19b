"""The commands that write: apply, revert, recover, vendor. Each plans in memory and refuses before its first write."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from toto_patcher import __version__, roots
from toto_patcher import results as r
from toto_patcher import workspace as ws
from toto_patcher.errors import DriftError, RefusedError, TotoPatchError, refuse_all
from toto_patcher.patching import transaction
from toto_patcher.patching.change import Plan, fingerprint
from toto_patcher.patching.checkout import Checkout

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from toto_patcher.patching.state import State
    from toto_patcher.patching.transaction import Recovery
    from toto_patcher.progress import Progress


def apply(
    root: Path | None,
    *,
    profile: str | None,
    ids: Sequence[str],
    backup: bool,
    dry_run: bool,
    check: bool,
    verify: bool,
    quick: bool,
    commit: bool,
    progress: Progress,
) -> r.ApplyResult:
    """Patches the tree, all or nothing; with ``dry_run`` or ``check`` says what it would do.

    The plan is made and, with ``verify``, proved before anything is written, so that a refusal leaves no trace. It is
    made again under the lock if another process wrote in between.

    Raises:
        TotoPatchError: refused, or the operating system refused; the tree is as it was.
    """
    named = profile is not None or bool(ids)
    workspace = ws.look(roots.find(root))
    recovered = None
    if workspace.pending:
        if dry_run or check:
            workspace.refuse_if_interrupted()
        recovered = recover(root).message
        workspace = ws.look(workspace.root)
    if workspace.state and not named and ws.is_newer(workspace.state.tool_version):
        raise RefusedError(
            f"was patched by toto-patch {workspace.state.tool_version}, which is newer than this one ({__version__})",
            path=workspace.root,
            hint="Use that version, or name --profile to put this version's patches in their place.",
        )
    profile, selection = ws.select(profile, ids, workspace.state)
    plan = ws.plan(workspace, selection, profile)
    for note in plan.notes:
        log.info(note)
    taken_over = workspace.other_edits()
    if commit:
        from toto_patcher.patching.version_control import require_committable

        require_committable(plan)
    result = r.ApplyResult(
        root=str(plan.root),
        profile=profile,
        patches=plan.patches,
        previous=workspace.state.patches if workspace.state else (),
        files=ws.changed_files(plan.pending),
        written=False,
        backup=backup,
        dry_run=dry_run,
        diff=_diff(plan) if dry_run else None,
        notes=plan.notes,
        recovered=recovered,
        taken_over=taken_over,
    )
    if verify:
        from toto_patcher.inspection import Proof, prove

        ladder = prove(plan, Proof(quick=quick), progress)
        result = replace(result, ladder=ladder, exit_code=0 if ladder["passed"] else 5)
        if result.exit_code:
            return result
    if dry_run or check:
        return replace(result, exit_code=1 if check and (plan.pending or taken_over) else 0)
    if not plan.pending:
        _commit_records(plan, backup, workspace)
    else:
        with transaction.exclusive(plan.root):
            now = ws.look(plan.root)
            if now.state != workspace.state:
                _require_same(plan, ws.plan(now, selection, profile))
            _commit_records(plan, backup, workspace)
        result = replace(result, written=True)
    shadows = ws.look(plan.root).shadows()
    result = replace(result, shadows=tuple(f"{shadow.path}: {shadow.why}" for shadow in shadows))
    return replace(result, git_commit=_commit(plan, workspace.state)) if commit else result


def _commit_records(plan: Plan, backup: bool, workspace: ws.Workspace) -> None:
    """Writes the plan, with what the package's other files are; the first time also with where it came from."""
    from toto_patcher.patching.package import other_files_after

    package = other_files_after(plan)
    if workspace.state is not None:
        transaction.commit(plan, backup=backup, package=package)
        return
    from toto_patcher.patching.version_control import head_commit

    originals = {c.path: None if c.pristine is None else fingerprint(c.pristine) for c in plan.changes}
    release, head = ws.release_of(plan.root, originals), head_commit(plan.root)
    transaction.commit(plan, backup=backup, release=release, git_commit=head, package=package)


def revert(root: Path | None) -> r.RevertResult:
    """Puts every original back and drops the record; nothing to do on a tree that is not patched."""
    place = roots.find(root)
    before = ws.look(place)
    if before.state is None and before.pending is None:
        return _nothing_to_revert(place, None)
    from toto_patcher.patching.restore import plan_revert

    with transaction.exclusive(place) as recovery:
        workspace = ws.look(place)
        if workspace.state is None:
            return _nothing_to_revert(place, recovery)
        refuse_all([*ws.drift(workspace), *ws.unrecorded(Checkout.open(place), workspace.state)])
        edited = workspace.other_edits()
        plan = plan_revert(place, workspace.state, release_bytes=ws.release_bytes)
        workspace.require_own_originals({change.path: change.after for change in plan.changes})
        transaction.commit(plan, backup=False)
        _require_original(plan)
    sources = {original.path: original.source for original in plan.originals}
    return r.RevertResult(
        root=str(place),
        previous=workspace.state.patches,
        files=ws.changed_files(plan.pending, sources),
        recovered=_told(recovery),
        edited=edited,
    )


def _require_original(plan: Plan) -> None:
    """Reads every file again before it is said that each byte is the original's.

    Raises:
        DriftError: somebody wrote into one of them meanwhile.
    """
    edited = _edited(plan)
    if edited:
        raise DriftError(
            f"was reverted, but something wrote into {', '.join(map(str, edited))} meanwhile",
            path=plan.root,
            hint="Compare these files with their originals.",
        )


def _nothing_to_revert(place: Path, recovery: Recovery | None) -> r.RevertResult:
    refuse_all(ws.unrecorded(Checkout.open(place), None))
    return r.RevertResult(root=str(place), previous=(), files=(), recovered=_told(recovery))


def recover(root: Path | None) -> r.RecoverResult:
    """Finishes or undoes what an interrupted run left."""
    place = roots.find(root)
    recovery = transaction.recover(place)
    return r.RecoverResult(
        root=str(place),
        action=recovery.action,
        files=tuple(map(str, recovery.files)),
        kept=tuple(map(str, (*recovery.foreign, *recovery.kept))),
        message=_told(recovery) or "No interrupted run; nothing to do.",
    )


def vendor(
    root: Path | None,
    *,
    version: str | None,
    from_git: str | None,
    rev: str | None,
    from_path: Path | None,
    force: bool,
    progress: Progress,
) -> r.VendorResult:
    """Puts a pinned release, a git revision or a folder's Toto into the vendor folder."""
    from toto_patcher.patching import vendor as vendoring

    place = roots.wanted_root(root, os.environ, roots.starting_folder(root, os.environ))

    def step(what: str) -> None:
        progress(what, 0, 0)

    if from_git is not None and rev is not None:
        done = vendoring.vendor_git(from_git, rev, place, force=force, progress=step)
    elif from_path is not None:
        done = vendoring.vendor_path(from_path, place, force=force)
    else:
        done = vendoring.vendor_release(version or vendoring.DEFAULT_RELEASE, place, force=force, progress=step)
    return r.VendorResult(
        root=str(done.root),
        lock=str(done.lock_path),
        source={"kind": done.source.kind, **done.source.details},
        release=done.release,
        files=len(done.files),
        changed=done.changed,
        discarded=tuple(map(str, done.discarded)),
    )


def _diff(plan: Plan) -> str:
    from toto_patcher.patching.plan import unified_diff

    return unified_diff(plan)


def _require_same(plan: Plan, again: Plan) -> None:
    """What was shown and proved is what is written, also when another process wrote in between."""
    if plan != again:
        raise DriftError(
            "changed while it was being planned", path=plan.root, hint="Another process writes here; run it again."
        )


def _commit(plan: Plan, previous: State | None) -> str | None:
    """Commits the plan's files; when git refuses or the user interrupts it, the tree goes back to what it was.

    Raises:
        StorageError: git refused; the tree is as it was.
        DriftError: a hook edited files. It says whether the commit was made and how each file was left.
    """
    from toto_patcher.patching.store import former_backups, recorded_files
    from toto_patcher.patching.version_control import commit_files, is_committed

    names = ", ".join(plan.patches)
    title = f"Apply toto-patch profile {plan.profile}" if plan.profile else f"Apply toto-patch {names}"
    message = f"{title}\n\nPatches: {names}.\n`toto-patch revert` puts the originals back.\n"
    paths = [change.path for change in plan.changes]
    record = {*recorded_files(plan.root), *(former_backups(previous) if previous else ())}
    try:
        commit = commit_files(plan.root, [*paths, *sorted(record)], message)
    except BaseException as error:
        if isinstance(error, TotoPatchError) or not is_committed(plan.root, paths):
            _undo(plan, previous, error.message if isinstance(error, TotoPatchError) else "the commit was interrupted")
        raise
    edited = _edited(plan)
    if edited:
        made = f"was committed as {commit[:12]}, but " if commit else ""
        raise DriftError(
            f"{made}a git hook edited {', '.join(map(str, edited))}: no longer what toto-patch wrote",
            path=plan.root,
            hint="Keep the hook from formatting vendored files, `git revert` the commit, `toto-patch status` shows "
            "where the tree stands; then apply again.",
        )
    return commit


def _undo(plan: Plan, previous: State | None, reason: str) -> None:
    """Takes a plan back that was written but not committed; files that a hook edited meanwhile are left to the user.

    Raises:
        DriftError: there are such files.
    """
    from toto_patcher.patching.package import other_files_after

    edited = _edited(plan)
    former = {file.path: file.patches for file in previous.files} if previous else {}
    whole = tuple(
        replace(change, before=change.after, after=change.before, patches=former.get(str(change.path), ()))
        for change in plan.changes
    )
    back = tuple(change for change in whole if not change.is_noop and change.path not in edited)
    if not edited:
        if back:
            undo = Plan(plan.root, whole, previous.patches if previous else (), previous.profile if previous else None)
            kept = previous is not None and any(file.backup for file in previous.files)
            transaction.commit(undo, backup=kept, package=other_files_after(undo))
        return
    left = ", ".join(map(str, edited))
    told = f"{reason}; and a hook edited {left} meanwhile: left as the hook left it, patched and edited, not committed"
    others = ", ".join(str(change.path) for change in back)
    if others and previous is None:
        transaction.put_back(Plan(plan.root, back, plan.patches, plan.profile))
        told += f"; put back to the original: {others}"
    elif others:  # the record knows the new selection only, so that is what these must agree with
        told += f"; patched and not committed: {others}"
    hint = f"Keep the edit elsewhere, `git checkout -- {' '.join(map(str, edited))}` in the root, `toto-patch revert`."
    raise DriftError(told, path=plan.root, hint=hint)


def _edited(plan: Plan) -> list[PurePosixPath]:
    """The files of a plan that no longer are what it wrote."""
    found = []
    for change in plan.changes:
        path = plan.root / change.path
        if (path.read_bytes() if path.is_file() else None) != change.after:
            found.append(change.path)
    return found


def _told(recovery: Recovery | None) -> str | None:
    """What a recovery did, in one sentence."""
    return None if recovery is None else _RECOVERIES[recovery.action]


_RECOVERIES = {
    "forward": "An interrupted run was finished.",
    "back": "An interrupted run was undone.",
    "cleared": "The leftovers of an interrupted run were removed; it had changed no file.",
    "nothing": None,
}
