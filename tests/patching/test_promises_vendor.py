"""Promises 1 to 8 and 15 for vendor: the tree and the lock file beside it are both old or both new, come what may.

Faults are real: strace kills or fails calls. The tests need strace and fail without it.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from file_trees import snapshot
from traced import CALLS, Driver
from vendor_trees import NEW, OLD, STEPS, assert_each_file_is_whole, everything, lay, own, tree_in_force, write

from toto_patcher.errors import StorageError
from toto_patcher.patching import transaction
from toto_patcher.patching.vendor import vendor_path

VENDOR_CALLS = (*(call for call in CALLS if call != "flock"), "mkdir")
NOBODY = 65534


@pytest.fixture
def place(workspace: Path) -> Path:
    return workspace / "place"


def kill_everywhere(driver: Driver, place: Path, action: str, call: str, **request: object) -> int:
    """Kills an action at each of its calls of one kind; returns how many there were."""
    before, after = STEPS[action]
    kept = place.with_name("kept")
    root = lay(place, before)
    if kept.exists():
        shutil.rmtree(kept)
    shutil.copytree(place, kept)
    number = 0
    while True:
        number += 1
        for next_command in ("recover", action):
            shutil.rmtree(place)
            shutil.copytree(kept, place)
            ending = driver.inject(action, root, call, "signal=SIGKILL", str(number), **request)
            assert_each_file_is_whole(root, before, after)
            if next_command == "recover":
                if root.exists():
                    transaction.recover(root)
                assert tree_in_force(root) in (before, after), number
            else:
                assert driver.run(action, root, **request).status == 0
                assert tree_in_force(root) == after, number
        if not ending.killed:
            assert ending.status == 0, ending
            return number - 1


@pytest.mark.parametrize("call", VENDOR_CALLS)
@pytest.mark.parametrize("action", STEPS)
def test_promise_01_to_03_killed_at_any_call_the_next_command_makes_tree_and_lock_whole(
    driver: Driver, place: Path, action: str, call: str
) -> None:
    kill_everywhere(driver, place, action, call)


@pytest.mark.parametrize("call", ["linkat", "renameat", "unlinkat"])
def test_promise_01_also_where_the_file_system_cannot_exchange_names(driver: Driver, place: Path, call: str) -> None:
    assert kill_everywhere(driver, place, "vendor-upgrade", call, exchange=False) > 0


def test_promise_01_the_sweep_reaches_every_kind_of_call(driver: Driver, place: Path, workspace: Path) -> None:
    for action, (before, _) in STEPS.items():
        root = lay(place, before)
        unknown = driver.log(action, root, "%file,%desc,fchmod,fchown,chown,truncate", workspace / "log")
        names = {match[1] for line in unknown if (match := re.match(r"(\w+)\(", line))}
        reading = {"read", "pread64", "close", "fstat", "newfstatat", "lseek", "getdents64", "fstatfs", "fcntl"}
        reading |= {"faccessat2", "faccessat", "flistxattr", "mmap", "stat", "lstat", "statx", "dup", "ioctl"}
        reading |= {"getcwd", "readlink", "poll", "epoll_ctl", "flock", "munmap"}
        # the owner of a folder that was made just now, before anything is in it
        assert names - reading - {"lchown", "fchownat"} <= set(VENDOR_CALLS), names - reading


@pytest.mark.parametrize("call", VENDOR_CALLS)
@pytest.mark.parametrize("action", STEPS)
def test_promise_04_any_error_of_the_system_leaves_tree_and_lock_unchanged_and_is_named(
    driver: Driver, place: Path, action: str, call: str
) -> None:
    before, after = STEPS[action]
    root = lay(place, before)
    kept = place.with_name("kept")
    shutil.copytree(place, kept)
    untouched = everything(root)
    for error in ("EIO",) if call in {"fsync", "unlinkat", "openat"} else ("EIO", "ENOSPC"):
        number = 0
        while True:
            number += 1
            shutil.rmtree(place)
            shutil.copytree(kept, place)
            log = place.with_name("log")
            options = ("-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={number}")
            ending = driver.run(action, root, *options, log=log)
            if ending.status in (3, 4):  # 3: what would be replaced could not be read again where it came from
                assert f"{error}: {os.strerror(getattr(errno, error))}" in ending.line
                if everything(root) != untouched:  # a journal to finish, or a lock that could not be removed
                    assert (root / ".toto-patch").exists(), (number, ending)
                    transaction.recover(root)
                left = everything(root)
                if before == "none" and own(root) == {}:
                    left.pop("t", None)
                assert left == untouched, (number, ending)
            else:
                assert ending.status == 0, (number, ending)
                transaction.recover(root)
                assert tree_in_force(root) == after, number
            if "(INJECTED)" not in log.read_text():
                break


@pytest.mark.parametrize("action", STEPS)
def test_promise_05_a_disk_that_is_full_from_any_write_on_is_safe(driver: Driver, place: Path, action: str) -> None:
    before, after = STEPS[action]
    number = 0
    while True:
        number += 1
        root = lay(place, before)
        untouched = everything(root)
        ending = driver.inject(action, root, "write", "error=ENOSPC", f"{number}+")
        if ending.status == 0:
            assert tree_in_force(root) == after and number > 1
            break
        assert ending.status == 4 and "ENOSPC: No space left on device" in ending.line
        assert everything(root) == untouched, "a full disk needs no recovery: nothing may be left on it"


@pytest.mark.parametrize("call", ["renameat2", "renameat", "fsync", "write"])
@pytest.mark.parametrize("action", STEPS)
def test_an_interrupt_at_any_moment_leaves_tree_and_lock_whole(
    driver: Driver, place: Path, action: str, call: str
) -> None:
    before, after = STEPS[action]
    number, interrupted = 0, 0
    while True:
        number += 1
        root = lay(place, before)
        log = place.with_name("log")
        options = ("-e", f"trace={call}", "-e", f"inject={call}:signal=SIGINT:when={number}")
        ending = driver.run(action, root, *options, log=log)
        assert ending.status in (0, 130), ending
        interrupted += ending.status == 130
        assert tree_in_force(root) in (before, after), "no recovery is needed"
        if "SIGINT" not in log.read_text():
            break
    assert interrupted > 1


@pytest.mark.parametrize("call", ["renameat", "fsync"])
def test_a_disk_that_fails_for_good_says_that_recover_is_needed(driver: Driver, place: Path, call: str) -> None:
    """Neither the lock nor the way back can be written: the sentence is not that nothing was changed."""
    root = lay(place, "old")
    log = place.with_name("log")
    calls = [
        line for line in driver.log("vendor-upgrade", root, f"{call},renameat2", log) if "tmp" in line or call in line
    ]
    first_move = next(number for number, line in enumerate(calls) if line.startswith("renameat2"))
    after_moves = sum(line.startswith(f"{call}(") for line in calls[:first_move]) + 1
    root = lay(place, "old")
    untouched = everything(root)
    ending = driver.inject("vendor-upgrade", root, call, "error=EIO", f"{after_moves}+")
    assert ending.status == 4, ending
    assert "recover" in ending.line or everything(root) == untouched, ending
    transaction.recover(root)
    assert tree_in_force(root) in ("old", "new")


def test_promise_07_a_read_only_folder_of_the_old_tree_is_refused_before_the_first_write_and_never_blocks(
    driver: Driver, place: Path
) -> None:
    root = lay(place, "old")
    for path in [place, *place.rglob("*")]:
        os.chown(path, NOBODY, NOBODY)
    for folder in ("toto/model", "toto"):  # a file of it is replaced; a folder in it goes
        (root / folder).chmod(0o555)
        untouched = everything(root)
        ending = driver.run("vendor-upgrade", root, user=NOBODY)
        assert ending.status == 4 and "EACCES: Permission denied" in ending.line and folder in ending.line
        assert everything(root) == untouched
        again = driver.run("vendor-old", root, user=NOBODY)
        assert again.status == 0 and again.line == "unchanged", "what lies there already needs no permission"
        (root / folder).chmod(0o755)
    assert driver.run("vendor-upgrade", root, user=NOBODY).status == 0
    assert tree_in_force(root) == "new"


def test_promise_07_a_folder_that_could_not_be_removed_afterwards_is_refused_before(
    driver: Driver, place: Path
) -> None:
    lay(place, "none")
    for name in ("from-old", "from-new"):
        write(place / name, {"toto/kept/same.py": b"", "toto/kept/same/x.py": b""})
    (place / "from-new/toto/kept/same/x.py").unlink()
    root = place / "t"
    vendor_path(place / "from-old", root)
    for path in [place, *place.rglob("*")]:
        os.chown(path, NOBODY, NOBODY)
    (root / "toto/kept").chmod(0o555)
    untouched = everything(root)
    ending = driver.run("vendor-upgrade", root, user=NOBODY)
    assert ending.status == 4 and "toto/kept: EACCES" in ending.line, ending
    assert everything(root) == untouched
    assert driver.run("vendor-old", root, user=NOBODY).line == "unchanged"


def test_promise_07_bytecode_of_another_user_blocks_nothing(driver: Driver, place: Path) -> None:
    root = lay(place, "old")
    for path in [place, *place.rglob("*")]:
        os.chown(path, NOBODY, NOBODY)
    for folder in ("toto/model", "toto/gone"):
        write(root / folder / "__pycache__", {"util.cpython-311.pyc": b"x", "old.cpython-311.pyc": b"x"})
        (root / folder / "__pycache__").chmod(0o555)
    assert driver.run("vendor-upgrade", root, user=NOBODY).status == 0
    assert driver.run("vendor-old", root, user=NOBODY).status == 0
    assert driver.run("vendor-upgrade", root, user=NOBODY).status == 0
    assert {name: data for name, data in own(root).items() if "__pycache__" not in name} == NEW


def test_promise_08_of_vendor_and_another_writer_one_is_refused(driver: Driver, place: Path) -> None:
    root = lay(place, "old")
    for action in ("vendor-upgrade", "vendor-force"):
        with transaction.exclusive(root):
            held = everything(root)
            ending = driver.run(action, root)
            assert ending.status == 4 and "LockedError" in ending.line
            assert everything(root) == held
    assert driver.run("vendor-upgrade", root).status == 0


def test_promise_08_of_two_vendors_at_once_one_writes_also_where_there_is_no_root_yet(place: Path) -> None:
    drivers = (Driver(), Driver())
    try:
        for number in range(10):
            root = lay(place, "none" if number % 2 else "old")
            with ThreadPoolExecutor(2) as pool:
                endings = [pool.submit(one.run, "vendor-upgrade", root) for one in drivers]
                statuses = [ending.result().status for ending in endings]
            assert 0 in statuses and set(statuses) <= {0, 4}, statuses
            assert tree_in_force(root) == "new"
    finally:
        for one in drivers:
            one.close()


def test_promise_11_an_edit_saved_just_before_the_exchange_is_kept(driver: Driver, place: Path) -> None:
    root = lay(place, "old")
    log = place.with_name("log")
    moves = driver.counts("vendor-upgrade", root, log)["renameat2"]
    assert moves == 3  # two files replaced, one added; two are removed by a plain rename
    for number in range(1, moves + 1):
        root = lay(place, "old")
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(driver.inject, "vendor-upgrade", root, "renameat2", "delay_enter=400000", str(number))
            for _ in range(400):
                if (root / ".toto-patch/journal.json").exists():
                    break
                time.sleep(0.005)
            time.sleep(0.1)
            for name in ("toto/model/util.py", "LICENSE"):
                with (root / name).open("ab") as stream:
                    stream.write(b"# hours of work\n")
            ending = running.result()
        assert ending.status in (0, 3), ending
        kept = [path for path in root.rglob("*") if path.is_file() and b"hours of work" in path.read_bytes()]
        assert len(kept) == 2, (number, ending, kept)


def test_promise_15_everything_is_on_disk_before_what_relies_on_it(driver: Driver, place: Path) -> None:
    """The next lock before the first move; the tree before the lock; the lock before the journal is given up."""
    root = lay(place, "old")
    lines = driver.log("vendor-upgrade", root, "fsync,renameat,renameat2,unlinkat", place.with_name("log"))

    def at(pattern: str, start: int = 0) -> int:
        found = [number for number, line in enumerate(lines) if number >= start and re.search(pattern, line)]
        assert found, f"no {pattern} after line {start} in\n" + "\n".join(lines)
        return found[0]

    parent = re.escape(str(place))
    first_move = at("^renameat2")
    last_move = max(number for number, line in enumerate(lines) if line.startswith("renameat2"))
    published = at(r'renameat\(.*"\.t\.lock\.toml\.toto-patch", .*"t\.lock\.toml"')
    done = at(r'renameat\(.*"journal.json".*"done.json"')
    written = at(rf"^fsync\(\d+<{parent}/\.t\.lock\.toml\.toto-patch>")
    assert written < at(rf"^fsync\(\d+<{parent}>", written) < first_move
    for folder in ("toto/model", "toto/gone", "toto/fresh/deep"):
        assert last_move < at(rf"^fsync\(\d+<{parent}/t/{folder}>", last_move) < published
    assert published < at(rf"^fsync\(\d+<{parent}>", published) < done
    assert done < at("^unlinkat.* = 0"), "nothing that recovery needs is removed before the change is marked as done"


@pytest.mark.parametrize("action", STEPS)
def test_it_works_on_a_lower_layer_of_an_overlay(driver: Driver, place: Path, action: str) -> None:
    """As in a Docker image: the files lie in a read-only layer below. Apply, revert and recover meet the same."""
    before, after = STEPS[action]
    lay(place, before)
    base = place.with_name("overlay")
    for name in ("upper", "work", "merged"):
        (base / name).mkdir(parents=True)
    options = f"lowerdir={place},upperdir={base / 'upper'},workdir={base / 'work'}"
    mounted = subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", options, str(base / "merged")], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.fail(f"this test mounts an overlay: {mounted.stderr}") if os.geteuid() == 0 else pytest.skip(
            "needs root"
        )
    try:
        root = base / "merged" / "t"
        if before == "patched":
            assert driver.inject(action, root, "renameat2", "signal=SIGKILL", "2").killed
            transaction.recover(root)
            assert tree_in_force(root) in (before, after)
        assert driver.run(action, root).status == 0
        assert tree_in_force(root) == after
    finally:
        subprocess.run(["umount", str(base / "merged")], check=True)


def test_a_failure_leaves_no_empty_folders_above_the_root(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(place, "none")
    before = snapshot(place)
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(errno.EIO, "")))
    with pytest.raises(StorageError, match="EIO"):
        vendor_path(place / "from-new", place / "deep" / "er" / "t")
    assert snapshot(place) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_is_made_belongs_to_the_owner_of_the_folder_it_is_made_in(place: Path) -> None:
    lay(place, "none")
    os.chown(place, NOBODY, NOBODY)
    vendor_path(place / "from-old", place / "deep" / "t")
    vendor_path(place / "from-new", place / "deep" / "t")
    strangers = [path for path in (place / "deep").rglob("*") if path.stat().st_uid != NOBODY]
    assert strangers == []
    assert own(place / "deep" / "t") == NEW != OLD
