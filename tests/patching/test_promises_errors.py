"""Promises 4 to 7: an error of the operating system, a full disk, a short write or a read-only tree changes nothing.

Faults are real: strace kills or fails calls. The tests need strace and fail without it.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from file_trees import build, plan_for, snapshot, sources, sources_on_disk
from promise_checks import NOBODY, STEPS, UNRECORDED, lay, selection_in_force
from traced import CALLS, Driver

from toto_patcher.errors import StorageError
from toto_patcher.patching import transaction
from toto_patcher.patching.change import Plan

ERRORS = {
    call: ("EIO", "ENOSPC") if call not in {"fsync", "flock", "unlinkat", "openat"} else ("EIO",) for call in CALLS
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("action", STEPS)
def test_promise_04_any_error_of_the_system_leaves_the_tree_unchanged_and_is_named(
    driver: Driver, root: Path, action: str, call: str
) -> None:
    before, after = STEPS[action]
    refused = 0
    lay(root, before)
    kept = root.with_name("kept")
    shutil.copytree(root, kept)
    for error in ERRORS.get(call, ("EIO",)):
        number = 0
        while True:
            number += 1
            shutil.rmtree(root)
            shutil.copytree(kept, root)
            untouched = snapshot(root)
            log = root.with_name("log")
            options = ("-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={number}")
            ending = driver.run(action, root, *options, log=log)
            reached = "(INJECTED)" in log.read_text()
            if ending.status == 4:
                refused += 1
                assert f"{error}: {os.strerror(getattr(errno, error))}" in ending.line
                assert snapshot(root, ours=False) == {
                    name: entry for name, entry in untouched.items() if not name.startswith(".toto-patch")
                } or transaction.pending(root), (number, ending)
                assert sources_on_disk(root).items() >= sources(before.removesuffix(UNRECORDED)).items(), number
                transaction.recover(root)
                assert snapshot(root) == untouched, number
            else:
                # The call was one that does not matter, or came when everything was written already.
                assert ending.status == 0, (number, ending)
                transaction.recover(root)
                assert selection_in_force(root) == after, number
            if not reached:
                break
    assert refused or call not in {"openat", "write", "fsync", "renameat", "renameat2"}


@pytest.mark.parametrize("action", STEPS)
def test_promise_05_a_disk_that_is_full_from_any_write_on_is_safe(driver: Driver, root: Path, action: str) -> None:
    before, after = STEPS[action]
    number = 0
    while True:
        number += 1
        lay(root, before)
        untouched = snapshot(root)
        ending = driver.inject(action, root, "write", "error=ENOSPC", f"{number}+")
        if ending.status == 0:
            assert selection_in_force(root) == after and number > 1
            break
        assert ending.status == 4 and "ENOSPC: No space left on device" in ending.line
        assert snapshot(root) == untouched, "a full disk needs no recovery: nothing may be left on it"


def test_promise_05_a_really_full_disk_is_safe(driver: Driver, workspace: Path) -> None:
    disk = workspace / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True)
    try:
        root = build(disk / "checkout")
        request = {}
        if mounted.returncode == 0:
            free = os.statvfs(disk)
            room = 4 * 4096  # for a folder, the journal and not much more
            (disk / "ballast").write_bytes(b"\0" * (free.f_bavail * free.f_bsize - room))
        else:
            request = {"largest_file": 20}  # without the right to mount: the kernel's own limit, with short writes
        untouched = snapshot(root)
        ending = driver.run("first", root, **request)
        assert ending.status == 4
        assert re.search("ENOSPC: No space left on device|EFBIG: File too large", ending.line)
        assert snapshot(root) == untouched
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", str(disk)], check=True)


def test_promise_06_a_short_write_is_completed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data)[:3]))
    transaction.commit(plan_for(root, "first"), backup=True)
    monkeypatch.undo()
    assert selection_in_force(root) == "first"


@pytest.mark.parametrize("claimed", [1, 7])
def test_promise_06_bytes_that_the_system_claims_but_does_not_keep_are_never_published(
    driver: Driver, root: Path, claimed: int
) -> None:
    untouched = snapshot(root)
    count = driver.counts("first", root, root.with_name("log"))["write"]
    for number in range(1, count + 1):
        lay(root, "none")
        ending = driver.inject("first", root, "write", f"retval={claimed}", str(number))
        assert ending.status == 4 and "EIO" in ending.line, (number, ending)
        assert snapshot(root) == untouched


def test_promise_06_a_limit_on_the_size_of_files_leaves_the_tree_unchanged(driver: Driver, root: Path) -> None:
    untouched = snapshot(root)
    for limit in (1, 20, 1000):
        ending = driver.run("first", root, largest_file=limit)
        assert ending.status == 4 and "EFBIG: File too large" in ending.line
        assert snapshot(root) == untouched


def take_write_permission_away(root: Path) -> None:
    for folder, _, files in os.walk(root, topdown=False):
        for path in [*(Path(folder, name) for name in files), Path(folder)]:
            path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o222)


@pytest.mark.parametrize("action", STEPS)
@pytest.mark.parametrize("who", ["owner", "another user"])
def test_promise_07_a_read_only_tree_gets_a_clean_refusal(driver: Driver, root: Path, who: str, action: str) -> None:
    lay(root, STEPS[action][0])
    request = {}
    if who == "another user" and os.geteuid() == 0:
        request = {"user": NOBODY}
        for path in root.rglob("*"):
            path.chmod(path.stat().st_mode | 0o444)  # may read everything, owns nothing
    else:
        take_write_permission_away(root)
    untouched = snapshot(root)
    ending = driver.run(action, root, **request)
    assert ending.status == 4 and "EACCES: Permission denied" in ending.line, ending
    assert snapshot(root) == untouched


def test_promise_07_a_user_without_privileges_can_patch_and_revert(driver: Driver, root: Path) -> None:
    original = snapshot(root)
    if os.geteuid() == 0:
        for path in [root, *root.rglob("*")]:
            os.chown(path, NOBODY, NOBODY)
    request = {"user": NOBODY} if os.geteuid() == 0 else {}
    assert driver.run("first", root, **request).status == 0
    assert selection_in_force(root) == "first"
    assert driver.run("revert", root, **request).status == 0
    assert snapshot(root) == original


@pytest.mark.parametrize("name", ["toto/model/util.py", "toto/model"])
def test_promise_07_one_read_only_file_or_folder_is_named(root: Path, name: str) -> None:
    (root / name).chmod(0o555)
    untouched = snapshot(root)
    with pytest.raises(StorageError, match="EACCES") as caught:
        transaction.commit(plan_for(root, "first"), backup=True)
    assert caught.value.path == name and caught.value.exit_code == 4
    assert snapshot(root) == untouched


def test_promise_07_a_read_only_file_system_is_named(driver: Driver, root: Path) -> None:
    untouched = snapshot(root)
    ending = driver.inject("first", root, "mkdirat", "error=EROFS", "1+")
    assert ending.status == 4 and "EROFS: Read-only file system" in ending.line
    assert snapshot(root) == untouched


@pytest.mark.parametrize("owner", ["nobody", "other group"])
def test_promise_07_owner_and_group_of_a_file_survive(root: Path, owner: str) -> None:
    if os.geteuid() != 0:
        groups = [group for group in os.getgroups() if group != os.getegid()]
        target = (os.geteuid(), (groups or [os.getegid()])[0])
    else:
        target = (NOBODY, NOBODY) if owner == "nobody" else (0, NOBODY)
    path = root / "toto/model/util.py"
    os.chown(path, *target)
    path.chmod(0o4755)
    transaction.commit(plan_for(root, "first"), backup=True)
    status = path.stat()
    assert (status.st_uid, status.st_gid) == target and stat.S_IMODE(status.st_mode) == 0o4755


def test_a_root_that_is_not_there_is_named(root: Path) -> None:
    with pytest.raises(StorageError, match="ENOENT: No such file or directory") as caught:
        transaction.commit(Plan(root / "nowhere", (), ("p",)), backup=True)
    assert caught.value.exit_code == 4
