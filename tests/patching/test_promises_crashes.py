"""Promises 1, 2, 3 and 15: whatever kills or interrupts the program, files are whole, and then the tree is.

Faults are real: strace kills or fails calls. The tests need strace and fail without it.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from file_trees import SELECTIONS, snapshot, sources, sources_on_disk
from promise_checks import STEPS, assert_each_file_is_whole, assert_reverts_to, lay, selection_in_force
from traced import CALLS, Driver

from toto_patcher.errors import RefusedGroup
from toto_patcher.patching import transaction


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
        assert ending.status == 6 and "recover" in ending.line and "mixed" in ending.line, ending
    elif kind == "while clearing up":
        driver.inject(after, root, "unlinkat", "signal=SIGKILL", "5")
    elif kind == "while preparing":
        driver.inject(after, root, "write", "signal=SIGKILL", "4")
    assert transaction.pending(root) is not None
    return before, after


def standing(root: Path) -> str:
    """The selection that sources and record agree on; anything else is mixed."""
    found = {name: data for name, data in sources_on_disk(root).items() if ".toto-patch-" not in name}
    record = root / ".toto-patch" / "state.json"
    selection = json.loads(record.read_bytes())["patches"][0] if record.exists() else "none"
    return selection if found == sources(selection) else "mixed"


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


@pytest.mark.parametrize("call", [call for call in CALLS if call != "flock"])
@pytest.mark.parametrize("kind", CRASHES)
def test_promise_03_and_04_an_error_at_any_call_of_recovery_is_told_as_it_is_and_the_next_one_ends_it(
    driver: Driver, root: Path, kind: str, call: str
) -> None:
    before, after = crashed(driver, root, kind)
    crash, log = root.with_name("crash"), root.with_name("log")
    shutil.copytree(root, crash, symlinks=True)
    number = 0
    while True:
        number += 1
        shutil.rmtree(root)
        shutil.copytree(crash, root, symlinks=True)
        options = ("-e", f"trace={call}", "-e", f"inject={call}:error=EIO:when={number}")
        ending = driver.run("recover", root, *options, log=log)
        assert ending.status in (0, 4, 6), (number, ending)
        if ending.status:
            assert "EIO: Input/output error" in ending.line, (number, ending)
        assert_each_file_is_whole(root, before, after)
        if ending.status == 6:
            assert (standing(root) in (before, after)) == ("mixed" not in ending.line), (number, ending)
            assert "every file is changed as asked" not in ending.line or standing(root) == after, (number, ending)
        elif ending.status == 4:  # recovery did not begin, or it ended with every file as it was
            whole = before if "every file is as it was" in ending.line else standing(crash)
            assert standing(root) == whole, (number, ending)
        transaction.recover(root)
        assert selection_in_force(root) in (before, after), number
        if "(INJECTED)" not in log.read_text():
            assert ending.status == 0 and selection_in_force(root) == CRASHES[kind], ending
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
    # adopt moves nothing but the state into place
    assert interrupted > ((action, call) != ("adopt", "renameat2"))
