"""The fifteen promises about files (docs: "Safety"), each by name. Faults are real: strace kills or fails calls.

The tests need strace and fail without it.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import stat
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath

import pytest
from file_trees import SELECTIONS, build, plan_for, snapshot, sources, sources_on_disk
from hypothesis import given, settings
from hypothesis import strategies as st
from traced import CALLS, Driver

from toto_patcher.errors import (
    DriftError,
    RefusedError,
    RefusedGroup,
    StorageError,
    UnsafePathError,
)
from toto_patcher.patching import restore, transaction
from toto_patcher.patching.change import FileChange, Plan
from toto_patcher.patching.files import renames, safe_files
from toto_patcher.patching.store import Store

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
# action -> (selection before, selection after)
STEPS = {"first": ("none", "first"), "second": ("first", "second"), "revert": ("second", "none")}
NOBODY = 65534


def lay(root: Path, selection: str) -> None:
    """A fresh checkout with a selection in force."""
    if root.exists():
        shutil.rmtree(root)
    build(root)
    if selection == "second":
        transaction.commit(plan_for(root, "first"), backup=True)
    if selection != "none":
        transaction.commit(plan_for(root, selection), backup=True)


def selection_in_force(root: Path) -> str:
    """Which selection the whole tree has; fails if it is a mixture or has anything left over."""
    state = Store(root).state()
    selection = state.patches[0] if state else "none"
    assert sources_on_disk(root) == sources(selection)
    assert transaction.pending(root) is None
    kept = {path.name for path in (root / ".toto-patch").glob("*")}
    assert kept <= ({"state.json", "backups", "lock"} if state else set()), kept
    if state:
        expected = {file.pristine for file in state.files if file.backup}
        assert {path.name for path in (root / ".toto-patch" / "backups").iterdir()} == expected
        assert sorted(Store(root).pristine_sources(state)) == sorted(
            PurePosixPath(file.path) for file in state.files if file.pristine
        )
    return selection


def assert_each_file_is_whole(root: Path, before: str, after: str) -> None:
    old, new, disk = sources(before), sources(after), sources_on_disk(root)
    for name in {*old, *new, *disk} - {name for name in disk if ".toto-patch-" in name}:
        assert disk.get(name) in (old.get(name), new.get(name)), name


def assert_reverts_to(root: Path, original: object) -> None:
    state = Store(root).state()
    if state is not None:
        transaction.commit(restore.plan_revert(root, state), backup=True)
    assert snapshot(root) == original


def kill_everywhere(driver: Driver, root: Path, action: str, call: str, **request: object) -> int:
    """Kills an action at each of its calls of one kind; returns how many there were."""
    before, after = STEPS[action]
    lay(root, "none")
    original = snapshot(root)
    number = 0
    while True:
        number += 1
        lay(root, before)
        ending = driver.inject(action, root, call, "signal=SIGKILL", str(number), **request)
        assert_each_file_is_whole(root, before, after)
        transaction.recover(root)
        selection = selection_in_force(root)
        assert selection in (before, after), number
        assert_reverts_to(root, original)
        if not ending.killed:
            assert ending.status == 0 and selection == after, ending
            return number - 1


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("action", STEPS)
def test_promise_01_and_02_killed_at_any_call_files_are_whole_and_the_next_command_makes_the_tree_whole(
    driver: Driver, root: Path, action: str, call: str
) -> None:
    kill_everywhere(driver, root, action, call)


def test_promise_01_the_sweep_reaches_every_kind_of_call(driver: Driver, root: Path, workspace: Path) -> None:
    counts = driver.counts("first", root, workspace / "log")
    assert counts["renameat2"] == len(SELECTIONS["first"]) + 1  # and the state
    assert counts["mkdirat"] == 3 and counts["fsync"] > 10 and counts["write"] > 5
    lay(root, "none")
    unknown = driver.log("first", root, "%file,%desc,fchmod,fchown,ftruncate,link,symlink,truncate", workspace / "log")
    names = {match[1] for line in unknown if (match := re.match(r"(\w+)\(", line))}
    reading = {"read", "pread64", "close", "fstat", "newfstatat", "lseek", "getdents64", "fstatfs", "fcntl", "ioctl"}
    reading |= {"faccessat2", "faccessat", "flistxattr", "mmap", "stat", "lstat", "statx", "dup", "poll", "epoll_ctl"}
    assert names - reading <= set(CALLS), names - reading


@pytest.mark.parametrize("call", ["linkat", "renameat", "unlinkat"])
@pytest.mark.parametrize("action", STEPS)
def test_promise_01_also_where_the_file_system_cannot_exchange_names(
    driver: Driver, root: Path, action: str, call: str
) -> None:
    assert kill_everywhere(driver, root, action, call, exchange=False) > 0


def crashed(driver: Driver, root: Path, kind: str) -> tuple[str, str]:
    """Leaves a checkout as a crash of some kind does; returns the selections before and after."""
    before, after = ("none", "first") if kind == "with all temporaries lost" else ("first", "second")
    lay(root, before)
    if kind == "in the middle of the moves":
        driver.inject(after, root, "renameat2", "signal=SIGKILL", "3")
    elif kind == "with the new bytes lost":
        driver.inject(after, root, "renameat2", "signal=SIGKILL", "2")
        for path in (root / "toto").rglob(".toto-patch-*"):
            if path.read_bytes() in SELECTIONS[after].values():
                path.unlink()
    elif kind == "with all temporaries lost":
        driver.inject(after, root, "renameat2", "signal=SIGKILL", "3")
        for path in (root / "toto").rglob(".toto-patch-*"):
            path.unlink()  # as `git clean` would; the backups are left
    elif kind == "while taking back":
        # The disk fails at the third move for good, so the roll-back cannot finish either.
        ending = driver.inject(after, root, "renameat2", "error=EIO", "3+")
        assert ending.status == 4 and "recover" in ending.line, ending
    elif kind == "while clearing up":
        driver.inject(after, root, "unlinkat", "signal=SIGKILL", "5")
    elif kind == "while preparing":
        driver.inject(after, root, "write", "signal=SIGKILL", "4")
    assert transaction.pending(root) is not None
    return before, after


CRASHES = {
    "in the middle of the moves": "second",
    "with the new bytes lost": "first",
    "with all temporaries lost": "none",
    "while taking back": "first",
    "while clearing up": "second",
    "while preparing": "first",
}


@pytest.mark.parametrize("call", [call for call in CALLS if call != "flock"])
@pytest.mark.parametrize("kind", CRASHES)
def test_promise_03_recovery_survives_being_killed_at_any_call(
    driver: Driver, root: Path, kind: str, call: str
) -> None:
    before, after = crashed(driver, root, kind)
    crash = root.with_name("crash")
    shutil.copytree(root, crash, symlinks=True)
    number = 0
    while True:
        number += 1
        shutil.rmtree(root)
        shutil.copytree(crash, root, symlinks=True)
        ending = driver.inject("recover", root, call, "signal=SIGKILL", str(number))
        assert_each_file_is_whole(root, before, after)
        transaction.recover(root)
        assert selection_in_force(root) == CRASHES[kind], number
        assert transaction.recover(root).action == "nothing"
        if not ending.killed:
            break


def test_promise_03_what_can_go_neither_way_is_named_and_left_alone(driver: Driver, root: Path) -> None:
    lay(root, "first")
    driver.inject("second", root, "renameat2", "signal=SIGKILL", "2")
    for path in (root / "toto").rglob(".toto-patch-*"):
        path.unlink()
    untouched = snapshot(root)
    for _ in range(2):
        with pytest.raises(RefusedGroup) as caught:
            transaction.recover(root)
        assert all("the bytes it had are gone" in str(refusal) and refusal.hint for refusal in caught.value.refusals)
        assert {refusal.path for refusal in caught.value.refusals} == {
            "toto/extra/added.py",
            "toto/model/attention.py",
        }
        assert snapshot(root) == untouched


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
                assert sources_on_disk(root).items() >= sources(before).items(), number
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


def link_to_file(path: Path, outside: Path) -> None:
    outside.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(outside)


def link_to_parent(path: Path, outside: Path) -> None:
    shutil.move(path.parent, outside)
    path.parent.symlink_to(outside)


def hard_link(path: Path, outside: Path) -> None:
    os.link(path, outside)


def fifo(path: Path, outside: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path, outside: Path) -> None:
    path.unlink()
    path.mkdir()


def unix_socket(path: Path, outside: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def device(path: Path, outside: Path) -> None:
    path.unlink()
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:  # not every container's root may make one
        os.mkfifo(path)


@pytest.mark.parametrize("trap", [link_to_file, link_to_parent, hard_link, fifo, folder, unix_socket, device])
@pytest.mark.parametrize("action", STEPS)
def test_promise_09_what_is_not_a_plain_file_inside_the_root_is_refused(
    driver: Driver, root: Path, workspace: Path, trap: object, action: str
) -> None:
    lay(root, STEPS[action][0])
    plan = plan_for(root, action if action != "revert" else "none")
    trap(root / "toto/model/attention.py", workspace / "outside")
    untouched = snapshot(workspace)
    with pytest.raises((UnsafePathError, RefusedGroup)) as caught:
        transaction.commit(plan, backup=True)
    refusals = getattr(caught.value, "refusals", [caught.value])
    assert all(isinstance(refusal, UnsafePathError) and refusal.exit_code == 3 for refusal in refusals)
    assert any("attention.py" in refusal.path or refusal.path == "toto/model" for refusal in refusals)
    assert snapshot(workspace) == untouched


@pytest.mark.parametrize("path", ["../outside.py", "toto/../../outside.py", "/outside.py", ".toto-patch/x", "a//b", ""])
def test_promise_09_a_path_that_leaves_the_root_is_refused(root: Path, workspace: Path, path: str) -> None:
    class AnyPath(PurePosixPath):
        def __str__(self) -> str:  # pathlib would tidy it up
            return path

    plan = Plan(root, (FileChange(AnyPath(path), None, None, b"x", ("p",)),), ("p",))
    untouched = snapshot(workspace)
    with pytest.raises(UnsafePathError):
        transaction.commit(plan, backup=True)
    assert snapshot(workspace) == untouched


@pytest.mark.parametrize("name", [".toto-patch", ".toto-patch/lock", ".toto-patch/state.json", ".toto-patch/backups"])
def test_promise_09_links_in_place_of_our_own_files_are_refused(root: Path, workspace: Path, name: str) -> None:
    outside = workspace / "outside"
    if name in {".toto-patch", ".toto-patch/backups"}:
        outside.mkdir()
    else:
        outside.write_bytes(b"precious")
    if name != ".toto-patch":
        (root / ".toto-patch").mkdir()
    (root / name).symlink_to(outside)
    precious = snapshot(outside) if outside.is_dir() else outside.read_bytes()
    original = sources_on_disk(root)
    with pytest.raises(UnsafePathError):
        transaction.commit(plan_for(root, "first"), backup=True)
    assert (snapshot(outside) if outside.is_dir() else outside.read_bytes()) == precious
    assert sources_on_disk(root) == original


def test_promise_09_nothing_outside_the_root_is_opened_for_writing(driver: Driver, root: Path, workspace: Path) -> None:
    for action in STEPS:
        lines = driver.log(action, root, "openat,mkdirat,renameat,renameat2,unlinkat,linkat", workspace / "log")
        changing = [
            line for line in lines if not line.startswith("openat") or re.search("O_WRONLY|O_RDWR|O_CREAT", line)
        ]
        assert changing
        for line in changing:
            assert re.match(rf"\w+\(\d+<{re.escape(str(root))}[</>]", line), line


contents = st.one_of(
    st.binary(max_size=200),
    st.lists(st.sampled_from(["class A:", "    pass", "", "\té", "x = 1"]), max_size=8).flatmap(
        lambda lines: st.tuples(
            st.sampled_from(["\n", "\r\n", "\r"]), st.booleans(), st.sampled_from(["", "\ufeff", "# coding: utf-8\n"])
        ).map(lambda how: (how[2] + how[0].join(lines) + (how[0] if how[1] else "")).encode())
    ),
)
names = st.sampled_from(["a.py", "é中.py", "with space.py", "n" * 250 + ".py", "sub/b.py", "sub/deep/er/c.py", "-rf"])
modes = st.integers(0, 0o777).map(lambda mode: mode | 0o600) | st.sampled_from([0o4755, 0o2711, 0o1644, 0o200, 0o222])


@settings(max_examples=60, deadline=None)
@given(
    files=st.dictionaries(names, st.tuples(st.none() | contents, st.none() | contents, modes), min_size=1),
    bystander=contents,
    backup=st.booleans(),
)
def test_promise_10_revert_restores_bytes_and_modes(
    files: dict[str, tuple[bytes | None, bytes | None, int]], bystander: bytes, backup: bool
) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        root = Path(folder)
        (root / "bystander.py").write_bytes(bystander)
        changes = []
        for name, (old, new, mode) in files.items():
            if old is not None:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_bytes(old)
                (root / name).chmod(mode if os.geteuid() == 0 else mode | 0o400)
            changes.append(FileChange(PurePosixPath(name), old, old, new, ("p",)))
        before = snapshot(root)
        state = transaction.commit(Plan(root, tuple(changes), ("p",)), backup=True, now=NOW)
        for name, (_, new, _) in files.items():
            assert ((root / name).read_bytes() if (root / name).exists() else None) == new
        if not backup:
            back = Plan(root, tuple(FileChange(c.path, c.pristine, c.after, c.pristine) for c in changes), ())
        else:
            back = restore.plan_revert(root, state)
        assert transaction.commit(back, backup=True) is None
        assert snapshot(root) == before


def test_promise_10_stale_bytecode_goes_with_apply_and_with_revert(root: Path) -> None:
    cache = root / "toto/model/__pycache__"
    extra = root / "toto/extra/__pycache__"

    def compile_everything() -> None:
        for folder, names in ((cache, ("util", "attention", "other")), (extra, ("added",))):
            if folder.parent.exists():
                folder.mkdir(exist_ok=True)
                for name in names:
                    (folder / f"{name}.cpython-311.pyc").write_bytes(b"compiled")
                    (folder / f"{name}.cpython-311.opt-1.pyc").write_bytes(b"compiled")

    compile_everything()
    others = {"other.cpython-311.pyc", "other.cpython-311.opt-1.pyc"}
    transaction.commit(plan_for(root, "first"), backup=True)
    assert {path.name for path in cache.iterdir()} == others
    compile_everything()
    transaction.commit(plan_for(root, "none"), backup=True)
    assert {path.name for path in cache.iterdir()} == others
    assert not (root / "toto/extra").exists()


def test_promise_10_a_cache_of_only_stale_bytecode_goes_too(root: Path) -> None:
    before = snapshot(root)
    transaction.commit(plan_for(root, "first"), backup=True)
    (root / "toto/model/__pycache__").mkdir()
    (root / "toto/model/__pycache__/util.cpython-312.pyc").write_bytes(b"compiled")
    transaction.commit(plan_for(root, "none"), backup=True)
    assert snapshot(root) == before


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
    plan = plan_for(root, action if action != "revert" else "none")
    edited = [change.path for change in plan.changes if change.before is not None]
    for path in edited[:-1]:
        (root / path).write_bytes(EDIT)
    (root / edited[-1]).unlink()
    untouched = snapshot(root)
    with pytest.raises(RefusedError) as caught:
        transaction.commit(plan, backup=True)
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


def test_promise_14_the_same_inputs_give_the_same_bytes(workspace: Path) -> None:
    trees = []
    for name in ("one", "two"):
        root = build(workspace / name)
        transaction.commit(plan_for(root, "first"), backup=True, now=NOW, release="0.2.0", git_commit="abc")
        transaction.commit(plan_for(root, "second"), backup=True, now=NOW)
        trees.append(snapshot(root))
    assert trees[0] == trees[1]
    assert ".toto-patch/state.json" in trees[0]


@pytest.mark.parametrize("action", STEPS)
def test_promise_15_everything_is_synced_before_it_is_published_and_folders_after(
    driver: Driver, root: Path, workspace: Path, action: str
) -> None:
    lay(root, STEPS[action][0])
    lines = driver.log(action, root, "fsync,write,renameat,renameat2,unlinkat,mkdirat", workspace / "log")
    own = str(root / ".toto-patch")

    def at(pattern: str, start: int = 0) -> int:
        """The first line from ``start`` on that matches; fails if none does."""
        found = [number for number, line in enumerate(lines) if number >= start and re.search(pattern, line)]
        assert found, f"no {pattern} after line {start} in\n" + "\n".join(lines)
        return found[0]

    moves = [number for number, line in enumerate(lines) if line.startswith("renameat2")]
    renames = [number for number, line in enumerate(lines) if re.match("renameat2?\\(", line)]
    commit = at(r'renameat\(.*"prepare.json".*"journal.json"')
    done = at(r'renameat\(.*"journal.json".*"done.json"')
    # every file that is renamed into place was synced after its last write and before the rename
    for number in renames:
        name = re.search(r'"([^"]+)"', lines[number])[1]
        writes = [i for i, line in enumerate(lines[:number]) if line.startswith("write") and f"/{name}>" in line]
        if writes:
            assert at(rf"^fsync\(\d+</.*/{re.escape(name)}>", writes[-1]) < number, name
    # the journal and every temporary, with their folders, before the first move
    temporaries = {match[1] for line in lines if (match := re.search(r"write\(\d+<(/[^>]*\.tmp)>", line))}
    assert temporaries
    for path in temporaries:
        synced = at(rf"^fsync\(\d+<{re.escape(path)}>")
        folder = path.rpartition("/")[0]
        assert synced < moves[0] and synced < at(rf"^fsync\(\d+<{re.escape(folder)}>", synced) < moves[0]
    assert commit < at(rf"^fsync\(\d+<{re.escape(own)}>", commit) < moves[0]
    # folders after the moves, before the state; the state's before the journal is given up
    state = next(number for number in renames if number > commit and '"state.json"' in lines[number])
    for number in [number for number in renames if commit < number < state]:
        folder = re.search(r"\(\d+<([^>]+)>", lines[number])[1]
        assert number < at(rf"^fsync\(\d+<{re.escape(folder)}>", number) < state
    assert state < at(rf"^fsync\(\d+<{re.escape(own)}>", state) < done
    # a backup is on disk, and its folder too, before any original is replaced
    for number in [i for i in renames if re.search(r'backups>, "[0-9a-f]{64}\.tmp"', lines[i])]:
        assert number < at(rf"^fsync\(\d+<{re.escape(own)}/backups>", number) < commit
    # nothing that recovery needs is removed before the change is marked as done
    removed = [i for i, line in enumerate(lines) if line.startswith("unlinkat") and "= 0" in line]
    assert done < at(rf"^fsync\(\d+<{re.escape(own)}>", done) < min(removed)


@pytest.mark.parametrize("call", ["renameat2", "fsync", "write", "unlinkat"])
@pytest.mark.parametrize("action", STEPS)
def test_an_interrupt_at_any_moment_leaves_the_tree_whole(driver: Driver, root: Path, action: str, call: str) -> None:
    before, after = STEPS[action]
    number, interrupted = 0, 0
    while True:
        number += 1
        lay(root, before)
        log = root.with_name("log")
        options = ("-e", f"trace={call}", "-e", f"inject={call}:signal=SIGINT:when={number}")
        ending = driver.run(action, root, *options, log=log)
        assert ending.status in (0, 130), ending
        interrupted += ending.status == 130
        assert selection_in_force(root) in (before, after), "no recovery is needed"
        if "SIGINT" not in log.read_text():
            break
    assert interrupted > 1


def test_a_root_that_is_not_there_is_named(root: Path) -> None:
    with pytest.raises(StorageError, match="ENOENT: No such file or directory") as caught:
        transaction.commit(Plan(root / "nowhere", (), ("p",)), backup=True)
    assert caught.value.exit_code == 4
