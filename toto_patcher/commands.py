"""The commands that write: apply, revert, recover, vendor. Each plans in memory and refuses before its first write."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from toto_patcher import results as r
from toto_patcher import workspace as ws
from toto_patcher.errors import DriftError, TotoPatchError
from toto_patcher.patching import checkout as checkouts
from toto_patcher.patching.change import Plan

if TYPE_CHECKING:
    from toto_patcher.patching.store import State
    from toto_patcher.patching.transaction import Recovery
    from toto_patcher.report import Progress


def apply(
    root: Path | None,
    *,
    profile: str | None,
    ids: Sequence[str],
    backup: bool,
    dry_run: bool,
    check: bool,
    verify: bool,
    commit: bool,
    progress: Progress,
) -> r.ApplyResult:
    """Patches the tree, all or nothing; with ``dry_run`` or ``check`` says what it would do.

    The plan is made and, with ``verify``, proved before anything is written, so that a refusal leaves no trace. It is
    made again under the lock if another process wrote in between.

    Raises:
        TotoPatchError: refused, or the operating system refused; the tree is as it was.
    """
    profile, selection = ws.select(profile, ids)
    workspace = ws.look(ws.find(root))
    recovered = None
    if workspace.interrupted:
        if dry_run or check:
            workspace.refuse_if_interrupted()
        recovered = recover(root).message
        workspace = ws.look(workspace.root)
    plan = ws.plan(workspace, selection, profile)
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
        recovered=recovered,
    )
    if verify:
        from toto_patcher.inspection import prove

        result = replace(result, ladder=prove(plan, None, False, progress))
        if not result.ladder["passed"]:
            return replace(result, exit_code=5)
    if dry_run or check:
        return replace(result, exit_code=1 if check and plan.pending else 0)
    if plan.pending:
        from toto_patcher.patching import transaction

        with transaction.exclusive(workspace.root):
            if ws.look(plan.root).state != workspace.state:
                _require_same(plan, ws.plan(ws.look(plan.root), selection, profile))
            transaction.commit(plan, backup=backup)
        result = replace(result, written=True)
    return replace(result, git_commit=_commit(plan, workspace.state)) if commit else result


def revert(root: Path | None) -> r.RevertResult:
    """Puts every original back and drops the record; nothing to do on a tree that is not patched."""
    place = ws.find(root)
    before = ws.look(place)
    if before.state is None and not before.interrupted:
        return r.RevertResult(root=str(place), previous=(), files=())
    from toto_patcher.patching import restore, transaction

    with transaction.exclusive(place) as recovery:
        workspace = ws.look(place)
        recovered = _told(recovery)
        if workspace.state is None:
            return r.RevertResult(root=str(place), previous=(), files=(), recovered=recovered)
        plan = restore.plan_revert(place, workspace.state)
        transaction.commit(plan, backup=False)
    files = ws.changed_files(plan.pending)
    return r.RevertResult(root=str(place), previous=workspace.state.patches, files=files, recovered=recovered)


def recover(root: Path | None) -> r.RecoverResult:
    """Finishes or undoes what an interrupted run left."""
    place = ws.find(root)
    if not ws.look(place).interrupted:
        return r.RecoverResult(root=str(place), direction="none", files=(), message="No interrupted run; nothing to do.")
    from toto_patcher.patching import transaction

    recovery = transaction.recover(place)
    return r.RecoverResult(
        root=str(place),
        direction=recovery.direction,
        files=tuple(str(path) for path in recovery.files),
        message=_told(recovery) or "Nothing to do.",
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

    place = checkouts.wanted_root(root, os.environ, Path.cwd())

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
    """Commits the plan's files; when git refuses, the tree goes back to what it was."""
    from toto_patcher.patching import transaction
    from toto_patcher.patching.version_control import commit_files

    names = ", ".join(plan.patches)
    title = f"Apply toto-patch profile {plan.profile}" if plan.profile else f"Apply toto-patch {names}"
    message = f"{title}\n\nPatches: {names}.\n`toto-patch revert` puts the originals back.\n"
    try:
        return commit_files(plan.root, [change.path for change in plan.changes], message)
    except TotoPatchError:
        back = tuple(replace(change, before=change.after, after=change.before) for change in plan.pending)
        if back:
            undo = Plan(plan.root, back, previous.patches if previous else (), previous.profile if previous else None)
            with transaction.exclusive(plan.root):
                transaction.commit(undo, backup=True)
        raise


def _told(recovery: Recovery | None) -> str | None:
    """What a recovery did, in one sentence."""
    return None if recovery is None else recovery.message
