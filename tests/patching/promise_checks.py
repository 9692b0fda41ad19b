"""What the tests of the promises share: the steps between selections, and what must hold after each."""

from __future__ import annotations

import shutil
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath

from file_trees import build, plan_for, snapshot, sources, sources_on_disk

from toto_patcher.patching import restore, transaction
from toto_patcher.patching.store import Store

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


# action -> (selection before, selection after)
STEPS = {
    "first": ("none", "first"),
    "second": ("first", "second"),
    "revert": ("second", "none"),
    "adopt": ("first without record", "first"),
}
UNRECORDED = " without record"


NOBODY = 65534


def lay(root: Path, selection: str) -> None:
    """A fresh checkout with a selection in force."""
    if root.exists():
        shutil.rmtree(root)
    build(root)
    if selection == "second":
        transaction.commit(plan_for(root, "first"), backup=True)
    if selection != "none":
        transaction.commit(plan_for(root, selection.removesuffix(UNRECORDED)), backup=True)
    if selection.endswith(UNRECORDED):
        shutil.rmtree(root / ".toto-patch")


def selection_in_force(root: Path) -> str:
    """Which selection the whole tree has; fails if it is a mixture or has anything left over."""
    state = Store(root).state()
    selection = state.patches[0] if state else "none"
    if state is None and (root / "toto/extra/added.py").exists():
        selection = f"first{UNRECORDED}"
    assert sources_on_disk(root) == sources(selection.removesuffix(UNRECORDED))
    assert transaction.pending(root) is None
    kept = {path.name for path in (root / ".toto-patch").glob("*")}
    assert kept <= ({"state.json", "backups", "lock", ".gitignore", ".gitattributes"} if state else set()), kept
    if state:
        expected = {file.pristine for file in state.files if file.backup}
        assert {path.name for path in (root / ".toto-patch" / "backups").iterdir()} == expected
        assert sorted(Store(root).pristine_sources(state)) == sorted(
            PurePosixPath(file.path) for file in state.files if file.pristine
        )
    return selection


def assert_each_file_is_whole(root: Path, before: str, after: str) -> None:
    old, new = (sources(selection.removesuffix(UNRECORDED)) for selection in (before, after))
    disk = sources_on_disk(root)
    for name in {*old, *new, *disk} - {name for name in disk if ".toto-patch-" in name}:
        assert disk.get(name) in (old.get(name), new.get(name)), name


def assert_reverts_to(root: Path, original: object) -> None:
    if selection_in_force(root).endswith(UNRECORDED):
        transaction.commit(plan_for(root, "first"), backup=True, adopted=True)
    state = Store(root).state()
    if state is not None:
        transaction.commit(restore.plan_revert(root, state), backup=True)
    assert snapshot(root) == original
