"""Promise 8: one writer at a time, and a dead one never blocks.

Faults are real: strace kills or fails calls. The tests need strace and fail without it.
"""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from file_trees import snapshot
from promise_checks import STEPS, lay, selection_in_force
from traced import Driver

from toto_patcher.patching import transaction


def test_promise_08_a_second_writer_is_refused_at_once(driver: Driver, root: Path) -> None:
    with transaction.exclusive(root):
        held = snapshot(root)
        ending = driver.run("first", root)
        assert ending.status == 4 and "LockedError" in ending.line
        assert snapshot(root) == held
        assert "another process is writing" in ending.line and "wait until it has finished" in ending.line
    assert driver.run("first", root).status == 0


def test_promise_08_of_two_processes_at_once_one_writes_and_one_is_refused(driver: Driver, root: Path) -> None:
    other = Driver()
    try:
        for _ in range(10):
            lay(root, "none")
            with ThreadPoolExecutor(2) as pool:
                statuses = list(pool.map(lambda one: one.run("first", root).status, (driver, other)))
            # 3: the second came when the first was done, with a plan that is no longer true
            assert 0 in statuses and set(statuses) <= {0, 3, 4}, statuses
            assert selection_in_force(root) == "first"
    finally:
        other.close()


@pytest.mark.parametrize("action", STEPS)
def test_promise_08_a_dead_holder_never_blocks(driver: Driver, root: Path, action: str) -> None:
    before, after = STEPS[action]
    lay(root, before)
    assert driver.inject(action, root, "fsync", "signal=SIGKILL", "3").killed
    assert driver.run(action, root).status == 0
    assert selection_in_force(root) == after


def test_promise_08_a_lock_that_was_removed_while_we_waited_is_not_ours(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toto_patcher.patching.files import lock

    flock, calls = lock.fcntl.flock, []

    def removed_meanwhile(descriptor: int, operation: int) -> None:
        if not calls:
            shutil.rmtree(root / ".toto-patch")  # as a revert that has just finished does
        calls.append(os.fstat(descriptor).st_ino)
        flock(descriptor, operation)

    monkeypatch.setattr(lock.fcntl, "flock", removed_meanwhile)
    with transaction.exclusive(root):
        assert len(calls) == 2 and calls[-1] == (root / ".toto-patch/lock").stat().st_ino
