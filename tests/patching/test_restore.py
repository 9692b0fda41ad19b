"""Where the original bytes come from when patches are taken back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import git
import pytest
from file_trees import OLD, SELECTIONS, build, plan_for, snapshot

from toto_patcher.errors import BackupError, DriftError, RefusedGroup
from toto_patcher.patching import restore, transaction
from toto_patcher.patching.change import fingerprint
from toto_patcher.patching.store import Store

ATTENTION, UTIL, ADDED = "toto/model/attention.py", "toto/model/util.py", "toto/extra/added.py"


def patch(root: Path, *, backup: bool, release: str | None = None, commit: str | None = None) -> None:
    transaction.commit(plan_for(root, "first"), backup=backup, release=release, git_commit=commit)


def plan(root: Path, release_bytes: restore.ReleaseBytes | None = None) -> restore.RevertPlan:
    state = Store(root).state()
    assert state is not None
    return restore.plan_revert(root, state, release_bytes=release_bytes)


def sources(found: restore.RevertPlan) -> dict[str, str]:
    return {str(original.path): original.source for original in found.originals}


def repository(folder: Path) -> git.Repo:
    repo = git.Repo.init(folder)
    with repo.config_writer() as config:
        config.set_value("user", "name", "Tester").set_value("user", "email", "tester@example.org")
        config.set_value("core", "autocrlf", "false")
    repo.git.add("--all")
    repo.git.commit("-m", "original")
    return repo


def remove_backups(root: Path) -> None:
    for path in (root / ".toto-patch/backups").iterdir():
        path.unlink()


def test_the_backup_comes_first(root: Path) -> None:
    before = snapshot(root)
    patch(root, backup=True)
    found = plan(root, lambda release: pytest.fail("the release is not needed"))
    assert sources(found) == {ATTENTION: "backup", UTIL: "backup"}
    transaction.commit(found, backup=True)
    assert snapshot(root) == before


def test_files_that_are_original_already_are_said_to_be(root: Path) -> None:
    before = snapshot(root)
    patch(root, backup=True)
    (root / UTIL).write_bytes(OLD[UTIL][0])
    (root / ADDED).unlink()
    found = plan(root)
    assert sources(found) == {ATTENTION: "backup", UTIL: "disk"}
    transaction.commit(found, backup=True)
    assert snapshot(root) == before


@pytest.mark.parametrize("where", ["", "third_party/toto"])
@pytest.mark.parametrize("how", ["without a backup", "with a lost backup", "with a damaged backup"])
def test_without_a_backup_git_has_the_original(workspace: Path, where: str, how: str) -> None:
    root = build(workspace / "repo" / where)
    repo = repository(workspace / "repo")
    before = snapshot(root)
    patch(root, backup=how != "without a backup", commit=repo.head.commit.hexsha)
    if how == "with a lost backup":
        remove_backups(root)
    elif how == "with a damaged backup":
        for path in (root / ".toto-patch/backups").iterdir():
            path.write_bytes(b"damaged")
    found = plan(root)
    assert set(sources(found).values()) == {f"git commit {repo.head.commit.hexsha}"}
    transaction.commit(found, backup=True)
    if how != "with a damaged backup":
        assert snapshot(root) == before
    assert snapshot(root, ours=False) == {name: what for name, what in before.items() if ".toto-patch" not in name}


def test_the_recorded_commit_is_used_after_the_patched_files_were_committed(root: Path) -> None:
    repo = repository(root)
    original = repo.head.commit.hexsha
    patch(root, backup=False, commit=original)
    repo.git.add("toto")
    repo.git.commit("-m", "patched")
    assert set(sources(plan(root)).values()) == {f"git commit {original}"}


def test_an_unrecorded_commit_is_found_in_the_history_of_the_file(root: Path) -> None:
    repo = repository(root)
    original = repo.head.commit.hexsha
    patch(root, backup=False)
    repo.git.add("toto")
    repo.git.commit("-m", "patched")
    (root / "LICENSE").write_bytes(b"other licence")
    repo.git.commit("-am", "something else")
    assert set(sources(plan(root)).values()) == {f"git commit {original}"}


@pytest.mark.parametrize("commit", ["0" * 40, "beef"])
def test_a_recorded_commit_that_does_not_exist_falls_back_to_head(root: Path, commit: str) -> None:
    repo = repository(root)
    patch(root, backup=False, commit=commit)
    assert set(sources(plan(root)).values()) == {f"git commit {repo.head.commit.hexsha}"}


def test_git_that_keeps_lf_restores_the_crlf_of_the_checkout(root: Path) -> None:
    checkout = {name: (root / name).read_bytes() for name in (ATTENTION, UTIL)}
    (root / ATTENTION).write_bytes(checkout[ATTENTION].replace(b"\r\n", b"\n"))
    repository(root)
    (root / ATTENTION).write_bytes(checkout[ATTENTION])
    patch(root, backup=False)
    transaction.commit(plan(root), backup=True)
    assert (root / ATTENTION).read_bytes() == checkout[ATTENTION]


def test_a_git_folder_that_is_broken_is_no_reason_to_fail(root: Path) -> None:
    patch(root, backup=False)
    (root / ".git").mkdir()
    (root / ".git/HEAD").write_bytes(b"nonsense")
    with pytest.raises(RefusedGroup):
        plan(root)


def release(asked: list[str], files: Mapping[str, bytes]) -> restore.ReleaseBytes:
    def give(version: str) -> Mapping[PurePosixPath, bytes]:
        asked.append(version)
        return {PurePosixPath(name): data for name, data in files.items()}

    return give


@pytest.mark.parametrize("rename", [str, lambda name: name.replace("toto/", "other/")])
def test_without_backup_and_git_the_pinned_release_has_the_original(root: Path, rename: object) -> None:
    before = snapshot(root)
    patch(root, backup=False, release="0.2.0")
    asked: list[str] = []
    found = plan(root, release(asked, {rename(name): data for name, (data, _) in OLD.items()}))
    assert sources(found) == {ATTENTION: "release 0.2.0", UTIL: "release 0.2.0"} and set(asked) == {"0.2.0"}
    transaction.commit(found, backup=True)
    assert snapshot(root) == before


def test_a_release_with_other_bytes_is_not_used(root: Path) -> None:
    patch(root, backup=False, release="0.2.0")
    with pytest.raises(BackupError, match="no pinned release has them") as caught:
        plan(root, release([], {ATTENTION: OLD[ATTENTION][0], UTIL: b"other"}))
    assert caught.value.path == UTIL and fingerprint(OLD[UTIL][0]) in caught.value.hint


def test_where_nothing_has_the_original_every_file_is_named_with_what_was_tried(root: Path) -> None:
    patch(root, backup=True)
    remove_backups(root)
    untouched = snapshot(root)
    with pytest.raises(RefusedGroup) as caught:
        plan(root)
    assert {refusal.path for refusal in caught.value.refusals} == {ATTENTION, UTIL}
    for refusal in caught.value.refusals:
        assert "backup is missing" in str(refusal) and "git" in str(refusal) and "release" in str(refusal)
        assert isinstance(refusal, BackupError) and refusal.hint
    assert snapshot(root) == untouched


def test_edits_and_lost_originals_are_reported_together(root: Path) -> None:
    patch(root, backup=False)
    (root / UTIL).write_bytes(b"edited")
    (root / ADDED).write_bytes(b"edited")
    with pytest.raises(RefusedGroup) as caught:
        plan(root)
    kinds = {refusal.path: type(refusal) for refusal in caught.value.refusals}
    assert kinds == {ATTENTION: BackupError, UTIL: DriftError, ADDED: DriftError}


def test_the_hint_for_an_edited_file_works(root: Path) -> None:
    before = snapshot(root)
    patch(root, backup=True)
    (root / UTIL).write_bytes(b"edited")
    with pytest.raises(DriftError) as caught:
        plan(root)
    source, target = caught.value.hint.split("`cp ")[1].split("`")[0].split(" ")
    (root / target).write_bytes((root / source).read_bytes())
    transaction.commit(plan(root), backup=True)
    assert snapshot(root) == before


def test_a_patched_file_that_was_deleted_is_drift(root: Path) -> None:
    patch(root, backup=True)
    (root / UTIL).unlink()
    with pytest.raises(DriftError, match="is gone, though it was patched"):
        plan(root)


def test_an_edit_between_planning_and_reverting_survives(root: Path) -> None:
    patch(root, backup=True)
    found = plan(root)
    (root / UTIL).write_bytes(b"edited")
    with pytest.raises(DriftError):
        transaction.commit(found, backup=True)
    assert (root / UTIL).read_bytes() == b"edited"


def test_originals_for_another_selection_come_from_the_same_places(root: Path) -> None:
    repo = repository(root)
    patch(root, backup=False, commit=repo.head.commit.hexsha)
    found = restore.originals(root, Store(root).state())
    assert {str(path): original.data for path, original in found.items()} == {
        name: OLD[name][0] for name in (ATTENTION, UTIL)
    }
    assert SELECTIONS["first"][UTIL] == (root / UTIL).read_bytes()
