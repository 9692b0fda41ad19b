"""Transactions, locks and recovery as their callers see them. The promises about faults are in test_promises_*.py."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from file_trees import OLD, SELECTIONS, build, plan_for, snapshot, sources, sources_on_disk
from traced import Driver

from toto_patcher.errors import BackupError, DriftError, LockedError, RefusedError, UnsafePathError
from toto_patcher.patching import restore, transaction
from toto_patcher.patching.change import FileChange, Plan, fingerprint
from toto_patcher.patching.files import journal, lock, safe_files
from toto_patcher.patching.store import Store

FILES = tuple(PurePosixPath(name) for name in sorted({*SELECTIONS["first"], *SELECTIONS["second"]}))


def test_apply_and_revert_leave_no_trace(root: Path) -> None:
    before = snapshot(root)
    state = transaction.commit(plan_for(root, "first"), backup=True)
    assert sources_on_disk(root) == sources("first") and Store(root).state() == state
    assert transaction.commit(plan_for(root, "none"), backup=True) is None
    assert snapshot(root) == before


def test_moving_between_selections_is_the_same_as_applying_the_last_one(workspace: Path) -> None:
    direct, detour = build(workspace / "direct"), build(workspace / "detour")
    transaction.commit(plan_for(direct, "second"), backup=True)
    transaction.commit(plan_for(detour, "first"), backup=True)
    transaction.commit(plan_for(detour, "second"), backup=True)
    assert sources_on_disk(detour) == sources_on_disk(direct) == sources("second")
    assert Store(detour).state().says_the_same_as(Store(direct).state())
    names = [sorted(p.name for p in (tree / ".toto-patch/backups").iterdir()) for tree in (direct, detour)]
    assert names[0] == names[1]


def test_a_no_op_returns_the_state_in_force_with_its_date(root: Path) -> None:
    first = transaction.commit(plan_for(root, "first"), backup=True)
    assert transaction.commit(plan_for(root, "first"), backup=True) == first


def test_a_backup_asked_for_later_is_written_later(root: Path) -> None:
    transaction.commit(plan_for(root, "first"), backup=False)
    state = transaction.commit(plan_for(root, "first"), backup=True)
    assert len(Store(root).pristine_sources(state)) == 2


@pytest.mark.parametrize("fails", [False, True])
def test_a_backup_that_was_lost_is_repaired_and_stays(root: Path, driver: Driver, fails: bool) -> None:
    transaction.commit(plan_for(root, "first"), backup=True)
    digest = fingerprint(OLD["toto/model/attention.py"][0])
    (root / ".toto-patch/backups" / digest).unlink()
    ending = driver.inject("second", root, "renameat2", "error=EIO", "2" if fails else "99")
    assert ending.status == (4 if fails else 0)
    assert Store(root).backup(digest) == OLD["toto/model/attention.py"][0]


def test_a_file_that_patches_remove_comes_back_with_its_mode(root: Path) -> None:
    before = snapshot(root)
    util = OLD["toto/model/util.py"][0]
    change = FileChange(PurePosixPath("toto/model/util.py"), util, util, None, ("p",))
    state = transaction.commit(Plan(root, (change,), ("p",)), backup=True)
    assert not (root / "toto/model/util.py").exists()
    transaction.commit(restore.plan_revert(root, state), backup=True)
    assert snapshot(root) == before


def test_a_mode_that_the_user_changed_after_the_apply_stays(root: Path) -> None:
    transaction.commit(plan_for(root, "first"), backup=True)
    (root / "toto/model/util.py").chmod(0o700)
    transaction.commit(plan_for(root, "none"), backup=True)
    assert (root / "toto/model/util.py").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_patches_made_stays_if_the_user_put_something_into_it(root: Path) -> None:
    transaction.commit(plan_for(root, "first"), backup=True)
    (root / "toto/extra/mine.py").write_bytes(b"mine")
    transaction.commit(plan_for(root, "none"), backup=True)
    assert [path.name for path in (root / "toto/extra").iterdir()] == ["mine.py"]
    assert not (root / ".toto-patch").exists()


def test_a_foreign_file_in_our_folder_stays(root: Path) -> None:
    transaction.commit(plan_for(root, "first"), backup=True)
    (root / ".toto-patch/notes.txt").write_bytes(b"mine")
    transaction.commit(plan_for(root, "none"), backup=True)
    assert (root / ".toto-patch/notes.txt").read_bytes() == b"mine"
    assert Store(root).state() is None


def test_bytecode_that_cannot_be_removed_is_no_reason_to_fail(root: Path) -> None:
    stubborn = root / "toto/model/__pycache__/util.cpython-311.pyc"
    stubborn.mkdir(parents=True)
    for selection in ("first", "none"):
        transaction.commit(plan_for(root, selection), backup=True)
        assert transaction.pending(root) is None and sources_on_disk(root) == sources(selection)
    assert stubborn.exists()


def test_extended_attributes_survive(root: Path) -> None:
    path = root / "toto/model/util.py"
    os.setxattr(path, "user.origin", b"mirror")
    transaction.commit(plan_for(root, "first"), backup=True)
    assert os.getxattr(path, "user.origin") == b"mirror"


@pytest.mark.parametrize("name", ["é.py", "中文.py", "e\u0301.py", "-rf.py", "a b.py", "n" * 252 + ".py"])
def test_any_file_name_can_be_patched_and_reverted(root: Path, name: str) -> None:
    (root / name).write_bytes(b"old")
    before = snapshot(root)
    state = transaction.commit(
        Plan(root, (FileChange(PurePosixPath(name), b"old", b"old", b"new"),), ("p",)), backup=True
    )
    assert (root / name).read_bytes() == b"new"
    transaction.commit(restore.plan_revert(root, state), backup=True)
    assert snapshot(root) == before


@pytest.mark.parametrize("name", ["a\nb.py", "a\x1b[2Jb.py", "a\u202eb.py", ".hidden.py", "__pycache__/a.py"])
def test_a_name_that_no_source_of_a_package_has_is_refused(root: Path, name: str) -> None:
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_bytes(b"old")
    before = snapshot(root)
    with pytest.raises(UnsafePathError) as caught:
        transaction.commit(Plan(root, (FileChange(PurePosixPath(name), b"old", b"old", b"new"),), ("p",)), backup=True)
    assert str(caught.value).isprintable() and snapshot(root) == before


def test_a_name_that_is_not_utf8_is_refused_in_words_that_can_be_printed(root: Path) -> None:
    name = os.fsdecode(b"caf\xe9.py")
    (root / name).write_bytes(b"old")
    with pytest.raises(UnsafePathError) as caught:
        transaction.commit(Plan(root, (FileChange(PurePosixPath(name), b"old", b"old", b"new"),), ("p",)), backup=True)
    assert "caf\\udce9.py" in str(caught.value).encode().decode()


def test_a_root_behind_a_link_is_the_folder_it_points_to(root: Path) -> None:
    link = root.with_name("link")
    link.symlink_to(root)
    with transaction.exclusive(link):
        transaction.commit(plan_for(root, "first"), backup=True)
    assert sources_on_disk(root) == sources("first")


def test_a_plan_that_names_a_file_twice_is_refused(root: Path) -> None:
    plan = plan_for(root, "first")
    with pytest.raises(RefusedError, match="twice"):
        transaction.commit(Plan(root, plan.changes + plan.changes[:1], ("first",)), backup=True)


def test_a_plan_that_forgets_a_patched_file_is_refused(root: Path) -> None:
    transaction.commit(plan_for(root, "first"), backup=True)
    plan = plan_for(root, "none")
    untouched = snapshot(root)
    with pytest.raises(RefusedError, match="does not mention it"):
        transaction.commit(Plan(root, plan.changes[1:], ()), backup=True)
    assert snapshot(root) == untouched


def test_a_plan_that_takes_patched_bytes_for_the_original_is_refused(root: Path) -> None:
    transaction.commit(plan_for(root, "first"), backup=True)
    data = (root / "toto/model/util.py").read_bytes()
    changes = [
        FileChange(c.path, data, c.before, b"new") if c.path.name == "util.py" else c
        for c in plan_for(root, "second").changes
    ]
    with pytest.raises(BackupError, match="not the recorded one"):
        transaction.commit(Plan(root, tuple(changes), ("second",)), backup=True)


def test_a_file_edited_before_its_first_patch_is_only_changed_by_a_plan_made_from_the_edit(root: Path) -> None:
    (root / "toto/model/util.py").write_bytes(b"# edited\n")
    with pytest.raises(DriftError, match="is not the original that the plan was made from"):
        transaction.commit(plan_for(root, "first"), backup=True)
    assert sources_on_disk(root) == {**sources("none"), "toto/model/util.py": b"# edited\n"}


def test_a_revert_to_something_else_than_the_original_is_refused(root: Path) -> None:
    change = FileChange(PurePosixPath("LICENSE"), b"licence\n", b"licence\n", b"other")
    with pytest.raises(RefusedError, match="not to the original"):
        transaction.commit(Plan(root, (change,), ()), backup=True)


def test_a_refused_plan_leaves_no_folder_behind(root: Path) -> None:
    before = snapshot(root)
    with pytest.raises(DriftError), transaction.exclusive(root):
        transaction.commit(Plan(root, (FileChange(PurePosixPath("x.py"), b"a", b"a", b"b"),), ("p",)), backup=True)
    assert snapshot(root) == before


def test_the_lock_is_shared_inside_the_block_and_free_after_it(root: Path) -> None:
    with transaction.exclusive(root) as found:
        assert found is None
        transaction.commit(plan_for(root, "first"), backup=True)
        with transaction.exclusive(root):
            transaction.commit(plan_for(root, "none"), backup=True)
        assert (root / ".toto-patch/lock").exists(), "the lock is held until the outer block ends"
    assert not (root / ".toto-patch").exists()
    with transaction.exclusive(root):
        pass


def test_another_thread_of_the_same_process_is_another_writer(root: Path) -> None:
    caught: list[BaseException] = []

    def write() -> None:
        try:
            transaction.commit(plan_for(root, "first"), backup=True)
        except LockedError as error:
            caught.append(error)

    with transaction.exclusive(root):
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    assert len(caught) == 1 and sources_on_disk(root) == sources("none")


def test_a_lock_that_is_a_fifo_is_refused_without_waiting(root: Path) -> None:
    (root / ".toto-patch").mkdir()
    os.mkfifo(root / ".toto-patch/lock")
    with pytest.raises(UnsafePathError), transaction.exclusive(root):
        pass


def test_our_folder_being_removed_again_and_again_is_given_up_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock.fcntl, "flock", lambda *arguments: shutil.rmtree(root / ".toto-patch"))
    with pytest.raises(Exception, match="keeps changing"), transaction.exclusive(root):
        pass


def test_pending_and_recover_tell_what_was_interrupted(driver: Driver, root: Path) -> None:
    assert transaction.pending(root) is None
    assert transaction.recover(root) == transaction.Recovery("nothing")
    assert not (root / ".toto-patch").exists()
    transaction.commit(plan_for(root, "first"), backup=True)
    driver.inject("second", root, "renameat2", "signal=SIGKILL", "2")
    assert transaction.pending(root) == transaction.Pending("journal", FILES)
    assert transaction.recover(root) == transaction.Recovery("forward", FILES)
    assert transaction.pending(root) is None
    assert transaction.recover(root) == transaction.Recovery("nothing")


def test_the_next_command_recovers_first_and_says_so(driver: Driver, root: Path) -> None:
    transaction.commit(plan_for(root, "first"), backup=True)
    driver.inject("second", root, "renameat2", "signal=SIGKILL", "2")
    with transaction.exclusive(root) as found:
        assert found == transaction.Recovery("forward", FILES)
        assert sources_on_disk(root) == sources("second")


def test_an_interrupted_preparation_is_cleared(driver: Driver, root: Path) -> None:
    driver.inject("first", root, "write", "signal=SIGKILL", "4")
    assert transaction.recover(root).action == "cleared"
    assert snapshot(root) == snapshot(build(root.with_name("fresh")))


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"schema_version": 9}', b"\xff"])
def test_a_damaged_journal_is_refused_and_nothing_is_touched(root: Path, data: bytes) -> None:
    transaction.commit(plan_for(root, "first"), backup=True)
    (root / ".toto-patch/journal.json").write_bytes(data)
    untouched = snapshot(root)
    for ask in (transaction.pending, transaction.recover):
        with pytest.raises(BackupError) as caught:
            ask(root)
        assert caught.value.path == ".toto-patch/journal.json" and caught.value.hint
    assert snapshot(root) == untouched


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Where the suite runs in the background, SIGINT is ignored from the start."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_while_files_are_moved_takes_all_of_them_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    untouched = snapshot(root)
    real = safe_files.Tree.exchange

    def pressed(tree: safe_files.Tree, *paths: PurePosixPath) -> PurePosixPath:
        found = real(tree, *paths)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)  # people press it twice
        return found

    monkeypatch.setattr(safe_files.Tree, "exchange", pressed)
    with pytest.raises(KeyboardInterrupt):
        transaction.commit(plan_for(root, "first"), backup=True)
    assert snapshot(root) == untouched
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_edit_during_the_roll_back_survives_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transaction.commit(plan_for(root, "first"), backup=True)
    real, edited = journal.move, root / "toto/model/attention.py"

    def failing(tree: safe_files.Tree, entry: object, *, forward: bool) -> None:
        if forward and entry.path.endswith("util.py"):
            raise OSError(5, "the disk")
        if not forward and entry.path.endswith("attention.py"):
            edited.write_bytes(b"edited")
        real(tree, entry, forward=forward)

    monkeypatch.setattr(journal, "move", failing)
    with pytest.raises(Exception, match="EIO"):
        transaction.commit(plan_for(root, "second"), backup=True)
    assert sources_on_disk(root) == {**sources("first"), "toto/model/attention.py": b"edited"}


def test_an_edit_saved_into_the_replaced_file_while_we_finish_is_kept_and_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = journal.advance

    with (root / "toto/model/util.py").open("r+b") as editor:

        def late(tree: safe_files.Tree, phase: PurePosixPath, to: PurePosixPath) -> None:
            real(tree, phase, to)
            if to == journal.DONE:
                editor.write(b"# late edit\n")
                editor.flush()

        monkeypatch.setattr(journal, "advance", late)
        with pytest.raises(DriftError, match="your edit is in") as caught:
            transaction.commit(plan_for(root, "first"), backup=True)
    kept = next(root.rglob(".toto-patch-*"))
    assert kept.read_bytes().startswith(b"# late edit\n") and str(kept.relative_to(root)) in str(caught.value)
    assert (root / "toto/model/util.py").read_bytes() == SELECTIONS["first"]["toto/model/util.py"]


def test_a_root_that_is_renamed_is_finished_where_it_went(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, elsewhere = journal.move, root.with_name("elsewhere")

    def renamed(tree: safe_files.Tree, entry: object, *, forward: bool) -> None:
        if root.exists():
            root.rename(elsewhere)
        real(tree, entry, forward=forward)

    monkeypatch.setattr(journal, "move", renamed)
    transaction.commit(plan_for(root, "first"), backup=True)
    assert sources_on_disk(elsewhere) == sources("first") and not root.exists()
    assert Store(elsewhere).state().patches == ("first",)
