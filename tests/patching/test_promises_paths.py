"""Promise 9: nothing outside the root is touched, nor anything that is no plain file.

Faults are real: strace kills or fails calls. The tests need strace and fail without it.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
from pathlib import Path, PurePosixPath

import pytest
from file_trees import plan_for, snapshot, sources_on_disk
from promise_checks import STEPS, lay
from traced import Driver

from toto_patcher.errors import RefusedGroup, UnsafePathError
from toto_patcher.patching import transaction
from toto_patcher.patching.change import FileChange, Plan


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
    plan = plan_for(root, STEPS[action][1])
    trap(root / "toto/model/attention.py", workspace / "outside")
    untouched = snapshot(workspace)
    with pytest.raises((UnsafePathError, RefusedGroup)) as caught:
        transaction.commit(plan, backup=True, adopted=action == "adopt")
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
