"""Promises 11 to 13: an edit is never overwritten, looking writes nothing, and all drift is reported first.

Faults are real: strace kills or fails calls. The tests need strace and fail without it.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import pytest
from file_trees import SELECTIONS, plan_for, snapshot, sources, sources_on_disk
from promise_checks import STEPS, lay
from traced import Driver

from toto_patcher.errors import DriftError, RefusedError
from toto_patcher.patching import restore, transaction
from toto_patcher.patching.files import renames, safe_files
from toto_patcher.patching.store import Store

EDIT = b"# my own work\n"


@pytest.mark.parametrize("action", ["second", "revert"])
@pytest.mark.parametrize("name", ["toto/model/attention.py", "toto/model/util.py", "toto/extra/added.py"])
def test_promise_11_an_edit_after_the_apply_is_never_overwritten(root: Path, action: str, name: str) -> None:
    lay(root, "first")
    (root / name).write_bytes(EDIT)
    untouched = snapshot(root)
    with pytest.raises(DriftError, match="edited after it was patched") as caught:
        if action == "revert":
            transaction.commit(restore.plan_revert(root, Store(root).state()), backup=True)
        else:
            # planned AFTER the edit, so that the plan's bytes are those on disk
            transaction.commit(plan_for(root, "second"), backup=True)
    assert caught.value.path == name and caught.value.hint
    assert snapshot(root) == untouched


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("way", ["in place", "by renaming a new file over it"])
@pytest.mark.parametrize("moves", [0, 1, 2])
def test_promise_11_an_edit_saved_in_the_very_moment_before_the_exchange_survives(
    root: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool, way: str, moves: int
) -> None:
    if not exchange:
        monkeypatch.setattr(renames, "rename_at", lambda *arguments: False)
    lay(root, "first")
    plan = plan_for(root, "second")
    target = [change.path for change in plan.pending if change.before and change.after][moves % 3]
    real = safe_files.Tree.exchange
    count = []

    def edited_just_before(tree: safe_files.Tree, *paths: PurePosixPath) -> PurePosixPath:
        if paths[1] == target and not count:
            count.append(paths)
            if way == "in place":
                (root / target).write_bytes(EDIT)
            else:
                (root / "saved").write_bytes(EDIT)
                (root / "saved").replace(root / target)
        return real(tree, *paths)

    monkeypatch.setattr(safe_files.Tree, "exchange", edited_just_before)
    with pytest.raises(DriftError) as caught:
        transaction.commit(plan, backup=True)
    assert caught.value.path == str(target)
    assert sources_on_disk(root) == {**sources("first"), str(target): EDIT}
    assert transaction.pending(root) is None


def test_promise_11_recovery_puts_an_edit_back_that_was_displaced_before_a_kill(driver: Driver, root: Path) -> None:
    lay(root, "first")
    ending = driver.inject("second", root, "renameat2", "signal=SIGKILL", "2")
    assert ending.killed
    # as if the user had saved between the last look and the first exchange: the displaced bytes are an edit
    displaced = next(path for path in (root / "toto").rglob(".toto-patch-*.tmp") if b"True" in path.read_bytes())
    displaced.write_bytes(EDIT)
    found = transaction.recover(root)
    assert found.action == "back" and found.foreign == (PurePosixPath("toto/model/attention.py"),)
    assert sources_on_disk(root) == {**sources("first"), "toto/model/attention.py": EDIT}


def test_promise_11_recovery_does_not_touch_a_file_that_is_neither_old_nor_new(driver: Driver, root: Path) -> None:
    for name in sorted({*SELECTIONS["first"], *SELECTIONS["second"]}):
        lay(root, "first")
        assert driver.inject("second", root, "renameat2", "signal=SIGKILL", "3").killed
        (root / name).write_bytes(EDIT)
        found = transaction.recover(root)
        assert found.foreign == (PurePosixPath(name),)
        disk = sources_on_disk(root)
        assert disk.pop(name) == EDIT
        expected = sources("first" if found.action == "back" else "second")
        expected.pop(name, None)
        assert disk == expected
        assert transaction.pending(root) is None


def test_promise_12_reading_writes_nothing_under_the_tree(driver: Driver, root: Path, workspace: Path) -> None:
    lay(root, "second")
    untouched = {path: (path.lstat().st_mtime_ns, path.lstat().st_ctime_ns) for path in [root, *root.rglob("*")]}
    lines = driver.log("read", root, "%file,%desc,fchmod,fchown", workspace / "log")
    opened = [line for line in lines if line.startswith("openat")]
    assert any("state.json" in line for line in opened)
    assert not [line for line in opened if re.search("O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", line)]
    changing = re.compile(
        r"(rename|unlink|mkdir|rmdir|link|chmod|fchmod|chown|fchown|write|fsync|truncate|utime|symlink)"
    )
    assert not [line for line in lines if changing.match(line)]
    assert {
        path: (path.lstat().st_mtime_ns, path.lstat().st_ctime_ns) for path in [root, *root.rglob("*")]
    } == untouched


@pytest.mark.parametrize("action", ["first", "revert"])
def test_promise_12_a_change_that_changes_nothing_writes_nothing(
    driver: Driver, root: Path, workspace: Path, action: str
) -> None:
    lay(root, "first" if action == "first" else "none")
    untouched = {path: path.lstat().st_mtime_ns for path in [root, *root.rglob("*")]}
    assert driver.run(action, root).status == 0
    assert {path: path.lstat().st_mtime_ns for path in [root, *root.rglob("*")]} == untouched


@pytest.mark.parametrize("action", STEPS)
def test_promise_13_all_drift_is_reported_before_anything_is_written(root: Path, action: str) -> None:
    lay(root, STEPS[action][0])
    plan = plan_for(root, STEPS[action][1])
    edited = [change.path for change in plan.changes if change.before is not None]
    for path in edited[:-1]:
        (root / path).write_bytes(EDIT)
    (root / edited[-1]).unlink()
    untouched = snapshot(root)
    with pytest.raises(RefusedError) as caught:
        transaction.commit(plan, backup=True, adopted=action == "adopt")
    refusals = getattr(caught.value, "refusals", [caught.value])
    assert all(isinstance(refusal, DriftError) and refusal.hint for refusal in refusals)
    assert {refusal.path for refusal in refusals} == {str(path) for path in edited}
    assert snapshot(root) == untouched


def test_promise_13_a_file_that_appeared_where_one_is_to_be_added_is_drift(root: Path) -> None:
    plan = plan_for(root, "first")
    (root / "toto/extra").mkdir()
    (root / "toto/extra/added.py").write_bytes(EDIT)
    with pytest.raises(DriftError, match="exists already"):
        transaction.commit(plan, backup=True)
    assert (root / "toto/extra/added.py").read_bytes() == EDIT
