"""The profile that adds files: applied, moved to and from, drifted, committed, reverted, killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_driver import ATTENTION, REPOSITORY, UTIL, Run, document, edit, environment, git, snapshot

FORECASTER = "toto/inference/forecaster.py"
MODEL = "toto/model/toto.py"
FOLDER = "toto/inference/static_decoder"
NAMES = sorted(path.name for path in (REPOSITORY / "patches/static_decoder/static_decoder").glob("*.py"))
ADDED = [f"{FOLDER}/{name}" for name in NAMES]
FULL = ("--profile", "full-graph")
GRAPH_BREAKS = ("--profile", "graph-breaks")


@pytest.fixture
def full(toto: Path, toto_patch: Run) -> Path:
    """0.2.0 with the profile, and a backup."""
    done = toto_patch("apply", *FULL, "--backup", "--root", toto)
    assert done.returncode == 0, done.stderr
    return toto


@pytest.mark.parametrize("version", ["0.1.3", "0.1.4", "0.2.0"])
def test_apply_verify_and_revert(
    fresh_toto: Callable[[str, Path], Path], tmp_path: Path, toto_patch: Run, version: str
) -> None:
    root = fresh_toto(version, tmp_path)
    before = snapshot(root)
    done = document(toto_patch("apply", *FULL, "--root", root, "--json"))
    assert {file["path"]: file["change"] for file in done["files"]} == {
        FORECASTER: "modified",
        MODEL: "modified",
        **dict.fromkeys(ADDED, "added"),
    }
    assert done["patches"] == ["static-decoder", "effective-compile"]
    verified = toto_patch("verify-only", "--root", root)
    assert verified.returncode == 0, verified.stdout
    applied = snapshot(root)
    again = document(toto_patch("apply", *FULL, "--root", root, "--json"))
    assert not again["written"] and snapshot(root) == applied
    status = document(toto_patch("status", "--root", root, "--json"))
    assert status["verdict"] == "patched" and status["release"] == version
    assert [file["path"] for file in status["files"] if file["added"]] == ADDED
    assert toto_patch("revert", "--root", root).returncode == 0
    assert snapshot(root) == before


def test_an_added_file_is_the_patches_own_below_two_lines(full: Path) -> None:
    for name in NAMES:
        head, undo, rest = (full / FOLDER / name).read_bytes().split(b"\n", 2)
        assert head == b"# Added by toto-patch (static-decoder)."
        assert b"toto-patch revert" in undo
        assert rest == (REPOSITORY / "patches/static_decoder/static_decoder" / name).read_bytes()


def test_without_a_backup_it_is_reverted_too(toto: Path, toto_patch: Run) -> None:
    before = snapshot(toto)
    assert toto_patch("apply", *FULL, "--no-backup", "--root", toto).returncode == 0
    assert toto_patch("revert", "--root", toto).returncode == 0
    assert snapshot(toto) == before


def test_from_one_profile_to_the_other_and_back_in_one_transaction_each(toto: Path, toto_patch: Run) -> None:
    before = snapshot(toto)
    assert toto_patch("apply", "--root", toto).returncode == 0
    graph_breaks = source_files(toto)
    there = document(toto_patch("apply", *FULL, "--root", toto, "--json"))
    assert {file["path"]: file["change"] for file in there["files"]} == {
        **dict.fromkeys((FORECASTER, MODEL, ATTENTION, UTIL), "modified"),
        **dict.fromkeys(ADDED, "added"),
    }
    assert toto_patch("verify-only", "--root", toto).returncode == 0
    assert document(toto_patch("apply", "--root", toto, "--json"))["written"] is False  # what is in force stays
    back = document(toto_patch("apply", *GRAPH_BREAKS, "--root", toto, "--json"))
    assert {file["path"]: file["change"] for file in back["files"] if file["change"] != "modified"} == dict.fromkeys(
        ADDED, "removed"
    )
    assert source_files(toto) == graph_breaks and not (toto / FOLDER).exists()
    assert toto_patch("verify-only", "--root", toto).returncode == 0
    assert toto_patch("revert", "--root", toto).returncode == 0
    assert snapshot(toto) == before


def source_files(root: Path) -> dict[str, tuple[int, bytes | str]]:
    return {name: data for name, data in snapshot(root).items() if not name.startswith(".toto-patch")}


def test_all_patches_of_both_profiles_go_together(toto: Path, toto_patch: Run) -> None:
    before = snapshot(toto)
    ids = ("effective-compile", "positional-embedding-break", "static-decoder")
    chosen = [argument for name in ids for argument in ("--patch", name)]
    done = document(toto_patch("apply", *chosen, "--root", toto, "--json"))
    assert len(done["patches"]) == 4 and done["written"]
    assert toto_patch("verify-only", "--root", toto).returncode == 0
    assert toto_patch("revert", "--root", toto).returncode == 0
    assert snapshot(toto) == before


def test_each_patch_goes_alone(toto: Path, toto_patch: Run) -> None:
    for name, files in (("effective-compile", [MODEL]), ("static-decoder", [FORECASTER, *ADDED])):
        assert toto_patch("apply", "--patch", name, "--root", toto).returncode == 0
        status = document(toto_patch("status", "--root", toto, "--json"))
        assert [file["path"] for file in status["files"]] == files and status["verdict"] == "patched"


def test_stale_bytecode_and_the_folder_go_with_the_files(full: Path, toto_patch: Run) -> None:
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(full / FOLDER)], check=True)
    assert (full / FOLDER / "__pycache__").is_dir()
    assert toto_patch("revert", "--root", full).returncode == 0
    assert not (full / FOLDER).exists()


def test_what_somebody_put_into_the_folder_stays(full: Path, toto_patch: Run) -> None:
    (full / FOLDER / "notes.txt").write_text("mine\n")
    done = toto_patch("verify-only", "--root", full)
    assert done.returncode == 3 and f"{FOLDER}/notes.txt: added since the apply" in done.stdout
    assert toto_patch("apply", *FULL, "--root", full).returncode == 0
    assert toto_patch("verify-only", "--root", full).returncode == 0
    assert toto_patch("revert", "--root", full).returncode == 0
    assert [path.name for path in (full / FOLDER).iterdir()] == ["notes.txt"]
    done = toto_patch("apply", *FULL, "--root", full)
    assert done.returncode == 3 and FOLDER in done.stderr and "notes.txt" in done.stderr


@pytest.mark.parametrize("command", [("revert",), ("apply",), ("apply", *FULL), ("diff",)])
def test_an_edited_added_file_is_never_overwritten(full: Path, toto_patch: Run, command: tuple[str, ...]) -> None:
    line = edit(full, f"{FOLDER}/steps.py", "import torch", "import torch  # mine")
    before = snapshot(full)
    done = toto_patch(*command, "--root", full)
    assert done.returncode == 3 and f"{FOLDER}/steps.py:{line}" in done.stderr and "delete it" in done.stderr
    assert snapshot(full) == before
    verified = toto_patch("verify-only", "--root", full)
    assert verified.returncode == 3 and f"{FOLDER}/steps.py:{line}" in verified.stdout


def test_an_added_file_that_was_deleted_comes_back_with_apply_and_does_not_hinder_revert(
    full: Path, toto_patch: Run
) -> None:
    applied = source_files(full)
    (full / FOLDER / "steps.py").unlink()
    verified = toto_patch("verify-only", "--root", full)
    assert verified.returncode == 3 and "half-patched" in verified.stdout and "gone" in verified.stdout
    assert toto_patch("apply", *FULL, "--root", full).returncode == 0
    assert source_files(full) == applied
    shutil.rmtree(full / FOLDER)
    assert toto_patch("revert", "--root", full).returncode == 0
    assert not (full / FOLDER).exists() and not (full / ".toto-patch").exists()


def test_the_diff_is_one_that_git_apply_accepts(toto: Path, toto_patch: Run) -> None:
    diff = toto_patch("diff", *FULL, "--root", toto).stdout
    copy = toto.with_name("copy")
    shutil.copytree(toto, copy)
    git(copy, "init", "--quiet")
    subprocess.run(["git", "-C", copy, "apply", "-"], input=diff, text=True, check=True)
    shutil.rmtree(copy / ".git")
    assert toto_patch("apply", *FULL, "--root", toto).returncode == 0
    assert source_files(copy) == source_files(toto)
    back = toto_patch("diff", "--patch", "effective-compile", "--root", toto).stdout
    git(copy, "init", "--quiet")
    subprocess.run(["git", "-C", copy, "apply", "-"], input=back, text=True, check=True)
    assert not (copy / FOLDER).exists()


def test_commands_that_look_write_nothing(toto: Path, toto_patch: Run) -> None:
    before = snapshot(toto)
    for command in (("diff", *FULL), ("apply", *FULL, "--dry-run"), ("apply", *FULL, "--check"), ("status",)):
        toto_patch(*command, "--root", toto)
        assert snapshot(toto) == before


def test_commit_commits_added_and_removed_files(committed: Path, toto_patch: Run) -> None:
    done = toto_patch("apply", *FULL, "--commit", "--root", committed)
    assert done.returncode == 0, done.stderr
    shown = git(committed, "show", "--name-status", "--format=", "HEAD", "--", "toto").splitlines()
    assert shown == [f"M\t{FORECASTER}", *(f"A\t{name}" for name in ADDED), f"M\t{MODEL}"]
    done = toto_patch("apply", *GRAPH_BREAKS, "--commit", "--root", committed)
    assert done.returncode == 0, done.stderr
    assert not git(committed, "status", "--short", "--untracked-files=all")
    shown = git(committed, "show", "--name-status", "--no-renames", "--format=", "HEAD", "--", "toto").splitlines()
    assert [line for line in shown if line.startswith("D")] == [f"D\t{name}" for name in ADDED]
    assert not git(committed, "status", "--short", "--", "toto")


def test_commit_after_an_apply_that_was_not_committed(committed: Path, toto_patch: Run) -> None:
    assert toto_patch("apply", *FULL, "--root", committed).returncode == 0
    done = toto_patch("apply", *GRAPH_BREAKS, "--commit", "--root", committed)
    assert done.returncode == 0, done.stderr
    assert git(committed, "show", "--name-only", "--format=", "HEAD", "--", "toto").split() == [ATTENTION, UTIL]
    assert not git(committed, "status", "--short", "--", "toto")


def test_a_commit_that_a_hook_refuses_leaves_no_added_file(committed: Path, toto_patch: Run) -> None:
    hook = committed / ".git/hooks/pre-commit"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    before = source_files(committed)
    done = toto_patch("apply", *FULL, "--commit", "--root", committed)
    assert done.returncode == 4, done.stderr
    after = source_files(committed)
    assert {name: data for name, data in after.items() if not name.startswith(".git/")} == {
        name: data for name, data in before.items() if not name.startswith(".git/")
    }
    assert not git(committed, "status", "--short")


def test_commit_refuses_added_files_that_git_ignores(committed: Path, toto_patch: Run) -> None:
    (committed / ".gitignore").write_text("static_decoder/\n")
    git(committed, "add", ".gitignore")
    git(committed, "commit", "--quiet", "--message", "Ignored")
    done = toto_patch("apply", *FULL, "--commit", "--root", committed)
    assert done.returncode == 3 and "ignored by git" in done.stderr and not (committed / FOLDER).exists()


def test_a_read_only_folder_is_named_and_nothing_is_written(toto: Path, toto_patch: Run) -> None:
    folder = toto / "toto/inference"
    folder.chmod(0o555)
    before = snapshot(toto)
    try:
        done = toto_patch("apply", *FULL, "--root", toto)
        assert done.returncode == 4 and "toto/inference" in done.stderr and "EACCES" in done.stderr
        assert snapshot(toto) == before
    finally:
        folder.chmod(0o755)


@pytest.mark.parametrize("content", ["empty", "full", "dangling"])
def test_a_link_in_the_place_of_the_new_folder_is_refused(
    toto: Path, toto_patch: Run, tmp_path: Path, content: str
) -> None:
    outside = tmp_path / "outside"
    if content != "dangling":
        outside.mkdir()
    if content == "full":
        (outside / "__init__.py").write_text("mine = 1\n")
    (toto / FOLDER).symlink_to(outside)
    before = snapshot(tmp_path)
    for command in (("apply", *FULL), ("apply", *FULL, "--dry-run")):
        done = toto_patch(*command, "--root", toto)
        assert done.returncode == 3 and FOLDER in done.stderr and "symbolic link" in done.stderr
    assert snapshot(tmp_path) == before


def test_a_link_that_took_the_place_of_the_folder_is_refused(full: Path, toto_patch: Run, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (full / FOLDER).rename(outside)
    (full / FOLDER).symlink_to(outside)
    before = snapshot(tmp_path)
    for command in (("apply",), ("revert",)):
        done = toto_patch(*command, "--root", full)
        assert done.returncode == 3 and FOLDER in done.stderr and "symbolic link" in done.stderr
    assert snapshot(tmp_path) == before


def test_a_file_in_the_place_of_the_folder_is_refused(toto: Path, toto_patch: Run) -> None:
    (toto / FOLDER).write_text("mine\n")
    before = snapshot(toto)
    done = toto_patch("apply", *FULL, "--root", toto)
    assert done.returncode == 3 and FOLDER in done.stderr
    assert snapshot(toto) == before


def test_an_empty_folder_that_was_there_stays_there(toto: Path, toto_patch: Run) -> None:
    (toto / FOLDER).mkdir()
    before = snapshot(toto)
    assert toto_patch("apply", *FULL, "--root", toto).returncode == 0
    assert toto_patch("revert", "--root", toto).returncode == 0
    assert snapshot(toto) == before


def test_without_its_record_an_applied_profile_is_refused(full: Path, toto_patch: Run) -> None:
    shutil.rmtree(full / ".toto-patch")
    before = snapshot(full)
    status = document(toto_patch("status", "--root", full, "--json"))
    assert status["verdict"] == "unrecorded"
    for command in (("apply", *FULL), ("revert",)):
        done = toto_patch(*command, "--root", full)
        assert done.returncode == 3 and "no record" in done.stderr and FOLDER in done.stderr
    assert snapshot(full) == before


def kill(root: Path, call: str, number: int, *arguments: str) -> int:
    """Runs the command and kills it at one of its calls."""
    command = ["strace", "-f", "-qq", "-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={number}"]
    command += ["-o", os.devnull, sys.executable, "-m", "toto_patcher", *arguments, "--root", str(root)]
    return subprocess.run(command, env=environment(), capture_output=True, check=False).returncode


@pytest.mark.parametrize(
    ("before", "call", "number"),
    [
        *(("none", call, number) for call, number in (("renameat2", 1), ("renameat2", 8), ("renameat2", 17))),
        *(("graph-breaks", call, number) for call, number in (("fsync", 20), ("renameat2", 9), ("renameat2", 18))),
        # Here files are removed: renamed out of the way.
        *(("full-graph", call, number) for call, number in (("renameat2", 2), ("renameat", 9), ("unlinkat", 12))),
    ],
)
def test_killed_in_the_middle_it_is_whole_after_the_next_command(
    toto: Path, toto_patch: Run, before: str, call: str, number: int
) -> None:
    original = snapshot(toto)
    if before != "none":
        assert toto_patch("apply", "--profile", before, "--root", toto).returncode == 0
    started = source_files(toto)
    arguments = ("apply", *(FULL if before != "full-graph" else GRAPH_BREAKS))
    assert kill(toto, call, number, *arguments) != 0
    assert toto_patch("status", "--root", toto).returncode in (0, 1, 3)
    assert toto_patch("recover", "--root", toto).returncode == 0
    status = document(toto_patch("status", "--root", toto, "--json"))
    assert status["pending"] is None and status["verdict"] in ("patched", "not-patched")
    profile = {None: "none"}.get(status["profile"], status["profile"])
    if profile == before:
        assert source_files(toto) == started
    else:
        assert (profile == "full-graph") == (toto / FOLDER).is_dir()
    assert toto_patch("verify-only", "--root", toto).returncode == (1 if profile == "none" else 0)
    assert toto_patch("revert", "--root", toto).returncode == 0
    assert snapshot(toto) == original
