"""The production guide from end to end: a repository that vendors Toto is patched, committed, cloned and upgraded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_driver import REPOSITORY, Run, document, environment, git, snapshot

ROOT = Path("vendor/toto")
PROFILES = ("full-graph", "graph-breaks")
# What the profiles insert: a method, and a line of a module of its own.
WORDED = {
    "kv_cache_tensor_index/inserted.py": "Number of steps that a layer has cached",
    "last_patch_head/inserted.py": "What is un-embedded of the transformer's output",
    "static_decoder/static_decoder/support.py": "Whether a backbone is one that the decoder computes exactly",
}
Copies = Callable[[Path, Path], None]


def sources(folder: Path) -> dict[str, tuple[int, bytes | str]]:
    """Everything of the vendored tree but the record and what Python compiled."""
    found = snapshot(folder / ROOT)
    return {name: entry for name, entry in found.items() if not {".toto-patch", "__pycache__"} & set(Path(name).parts)}


@pytest.fixture
def downstream(toto: Path, tmp_path: Path) -> Path:
    """A repository that has Toto in vendor/toto beside files of its own, all committed."""
    folder = tmp_path / "downstream"
    (folder / ROOT).parent.mkdir(parents=True)
    toto.rename(folder / ROOT)
    (folder / "service.py").write_text("print('serving')\n")
    (folder / ".gitignore").write_text("__pycache__/\n*.tmp\n")
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Vendor Toto")
    return folder


def patch_and_commit(folder: Path, profile: str, toto_patch: Run) -> None:
    """Section 1 of the guide."""
    assert toto_patch("apply", "--backup", "--profile", profile, "--root", folder / ROOT).returncode == 0
    assert toto_patch("verify-only", "--root", folder / ROOT).returncode == 0
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Patch Toto")
    assert git(folder, "status", "--short") == ""


def clone(source: Path, target: Path) -> None:
    git(source.parent, "clone", "--quiet", str(source), str(target))


def assert_whole(folder: Path, profile: str, toto_patch: Run) -> None:
    found = document(toto_patch("verify-only", "--json", "--root", folder / ROOT))
    assert (found["verdict"], found["profile"]) == ("patched", profile), found


@pytest.fixture
def newer(tmp_path: Path) -> Run:
    """The next version of toto-patch: another number, and what each profile inserts is worded otherwise."""
    tool = tmp_path / "newer"
    for name in ("toto_patcher", "patches"):
        shutil.copytree(REPOSITORY / name, tool / name, ignore=shutil.ignore_patterns("__pycache__"))
    init = tool / "toto_patcher" / "__init__.py"
    init.write_text(init.read_text().replace('__version__ = "', '__version__ = "9.'))
    for name, told in WORDED.items():
        inserted = tool / "patches" / name
        assert told in inserted.read_text()
        inserted.write_text(inserted.read_text().replace(told, f"In other words: {told}"))

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "toto_patcher", *map(str, arguments)]
        settings = environment() | {"PYTHONPATH": str(tool)}
        return subprocess.run(command, cwd=tool, env=settings, capture_output=True, text=True, check=False)

    return run


@pytest.mark.parametrize("profile", PROFILES)
def test_a_clone_of_what_the_guide_commits_is_whole_upgrades_and_reverts(
    profile: str, downstream: Path, newer: Run, toto_patch: Run, tmp_path: Path
) -> None:
    original = sources(downstream)
    patch_and_commit(downstream, profile, toto_patch)
    other = tmp_path / "clone"
    clone(downstream, other)
    assert_whole(other, profile, toto_patch)
    patched = sources(other)
    assert toto_patch("apply", "--check", "--root", other / ROOT).returncode == 0

    old = json.loads((other / ROOT / ".toto-patch" / "state.json").read_bytes())["tool_version"]
    done = newer("verify-only", "--root", other / ROOT)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"ritten by toto-patch {old}" in done.stdout and "apply brings it up to date" in done.stdout
    assert "edited" not in done.stdout
    assert newer("apply", "--check", "--root", other / ROOT).returncode == 1
    assert sources(other) == patched
    assert newer("apply", "--root", other / ROOT).returncode == 0
    assert any(b"In other words: " in data for _, data in sources(other).values() if isinstance(data, bytes))
    assert_whole(other, profile, newer)
    git(other, "add", "--all")
    git(other, "commit", "--quiet", "--message", "Upgrade")

    assert toto_patch("verify-only", "--root", other / ROOT).returncode == 1
    refused = toto_patch("apply", "--root", other / ROOT)
    assert refused.returncode == 3 and f"9.{old}" in refused.stderr and "newer" in refused.stderr

    third = tmp_path / "third"
    clone(other, third)
    assert newer("revert", "--root", third / ROOT).returncode == 0
    assert sources(third) == original
    assert not (third / ROOT / ".toto-patch").exists()


@pytest.mark.parametrize("profile", PROFILES)
def test_apply_commit_commits_the_record(profile: str, downstream: Path, toto_patch: Run, tmp_path: Path) -> None:
    original = sources(downstream)
    done = toto_patch("apply", "--commit", "--profile", profile, "--root", downstream / ROOT)
    assert done.returncode == 0, done.stderr
    assert git(downstream, "status", "--short") == ""
    names = git(downstream, "ls-files", str(ROOT / ".toto-patch")).split()
    assert str(ROOT / ".toto-patch/state.json") in names and any("/backups/" in name for name in names)
    assert not any(name.endswith(("/lock", ".tmp", "journal.json")) for name in names)
    other = tmp_path / "clone"
    clone(downstream, other)
    assert_whole(other, profile, toto_patch)
    assert toto_patch("revert", "--root", other / ROOT).returncode == 0
    assert sources(other) == original


def test_the_hook_passes_in_a_clone_and_stops_an_edit(downstream: Path, toto_patch: Run, tmp_path: Path) -> None:
    """The line of .pre-commit-hooks.yaml, as a hook of git: no network, no other program."""
    patch_and_commit(downstream, "full-graph", toto_patch)
    other = tmp_path / "clone"
    clone(downstream, other)
    lines = (REPOSITORY / ".pre-commit-hooks.yaml").read_text().splitlines()
    entry = next(line.split("entry: ")[1] for line in lines if "entry: " in line)
    settings = environment()
    hook = other / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    command = entry.replace("toto-patch", f'"{sys.executable}" -m toto_patcher', 1)
    hook.write_text(f"#!/bin/sh\nPYTHONPATH='{settings['PYTHONPATH']}' exec {command} --root vendor/toto\n")
    hook.chmod(0o755)
    (other / "service.py").write_text("print('serving more')\n")
    git(other, "commit", "--quiet", "--all", "--message", "Serve more")
    assert git(other, "log", "-1", "--format=%s").strip() == "Serve more"
    scaler = other / ROOT / "toto/data/util/dataset.py"
    scaler.write_text(scaler.read_text() + "# edited\n")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        git(other, "commit", "--quiet", "--all", "--message", "Edit")
    assert "dataset.py" in caught.value.stderr + caught.value.stdout


@pytest.mark.parametrize("flags", ["-fd", "-fdx"])
def test_git_clean_leaves_a_committed_record(flags: str, downstream: Path, toto_patch: Run) -> None:
    original = sources(downstream)
    patch_and_commit(downstream, "full-graph", toto_patch)
    git(downstream, "clean", "--quiet", flags)
    assert_whole(downstream, "full-graph", toto_patch)
    assert toto_patch("revert", "--root", downstream / ROOT).returncode == 0
    assert sources(downstream) == original


@pytest.mark.parametrize("profile", PROFILES)
def test_git_clean_of_a_record_that_was_not_committed_is_seen_and_adopted(
    profile: str, downstream: Path, toto_patch: Run
) -> None:
    original = sources(downstream)
    assert toto_patch("apply", "--profile", profile, "--root", downstream / ROOT).returncode == 0
    git(downstream, "add", "--update")
    git(downstream, "add", str(ROOT / "toto"))
    git(downstream, "commit", "--quiet", "--message", "Sources only")
    git(downstream, "clean", "--quiet", "-fdx")
    assert not (downstream / ROOT / ".toto-patch").exists()
    adopted(downstream, profile, original, toto_patch)


def adopted(folder: Path, profile: str, original: object, toto_patch: Run) -> None:
    """A patched tree without a record: told, refused, adopted, whole, and every byte and folder comes back."""
    before = sources(folder)
    found = document(toto_patch("verify-only", "--json", "--root", folder / ROOT))
    assert found["verdict"] == "unrecorded" and found["exit_code"] == 3
    for command in (["apply"], *(["apply", "--profile", name] for name in PROFILES), ["revert"]):
        refused = toto_patch(*command, "--root", folder / ROOT)
        assert refused.returncode == 3 and "toto-patch adopt" in refused.stderr, command
    assert sources(folder) == before
    done = toto_patch("adopt", "--root", folder / ROOT)
    assert done.returncode == 0, done.stderr
    assert sources(folder) == before
    assert_whole(folder, profile, toto_patch)
    assert toto_patch("revert", "--root", folder / ROOT).returncode == 0
    assert sources(folder) == original


def test_a_stash_takes_the_patches_away_and_brings_them_back(downstream: Path, toto_patch: Run) -> None:
    original = sources(downstream)
    assert toto_patch("apply", "--profile", "full-graph", "--root", downstream / ROOT).returncode == 0
    git(downstream, "stash", "--quiet", "--include-untracked")
    assert document(toto_patch("verify-only", "--json", "--root", downstream / ROOT))["verdict"] == "not-patched"
    git(downstream, "stash", "pop", "--quiet")
    assert_whole(downstream, "full-graph", toto_patch)
    assert toto_patch("revert", "--root", downstream / ROOT).returncode == 0
    assert sources(downstream) == original


def test_a_stash_of_the_tracked_files_alone_is_no_whole_tree(downstream: Path, toto_patch: Run) -> None:
    original = sources(downstream)
    assert toto_patch("apply", "--profile", "full-graph", "--root", downstream / ROOT).returncode == 0
    git(downstream, "stash", "--quiet")
    found = document(toto_patch("verify-only", "--json", "--root", downstream / ROOT))
    assert (found["verdict"], found["exit_code"]) == ("half-patched", 3)
    assert toto_patch("revert", "--root", downstream / ROOT).returncode == 0
    assert sources(downstream) == original


def test_a_checkout_of_the_commit_before_and_back_is_told_as_it_is(downstream: Path, toto_patch: Run) -> None:
    patch_and_commit(downstream, "full-graph", toto_patch)
    git(downstream, "checkout", "--quiet", "HEAD~1")
    assert document(toto_patch("verify-only", "--json", "--root", downstream / ROOT))["verdict"] == "not-patched"
    git(downstream, "checkout", "--quiet", "-")
    assert_whole(downstream, "full-graph", toto_patch)


def copied(source: Path, target: Path) -> None:
    shutil.copytree(source, target)


def copied_by_docker(source: Path, target: Path) -> None:
    """COPY: all files, of another owner, of another day."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(".git"))
    for path in (target, *target.rglob("*")):
        os.utime(path, (0, 0))
        if os.geteuid() == 0:
            os.chown(path, 12345, 12345)


@pytest.mark.parametrize("copy", [copied, copied_by_docker])
def test_a_copy_with_the_record_is_whole_and_reverts(
    copy: Copies, downstream: Path, toto_patch: Run, tmp_path: Path
) -> None:
    original = sources(downstream)
    patch_and_commit(downstream, "full-graph", toto_patch)
    copy(downstream, tmp_path / "copy")
    assert_whole(tmp_path / "copy", "full-graph", toto_patch)
    assert toto_patch("revert", "--root", tmp_path / "copy" / ROOT).returncode == 0
    assert sources(tmp_path / "copy") == original


def test_a_copy_without_hidden_files_says_that_it_has_no_record(
    downstream: Path, toto_patch: Run, tmp_path: Path
) -> None:
    patch_and_commit(downstream, "full-graph", toto_patch)
    copy = tmp_path / "copy"
    shutil.copytree(downstream, copy, ignore=shutil.ignore_patterns(".*"))
    before = sources(copy)
    found = document(toto_patch("verify-only", "--json", "--root", copy / ROOT))
    assert (found["verdict"], found["exit_code"]) == ("unrecorded", 3)
    for command in ("apply", "revert"):
        refused = toto_patch(command, "--root", copy / ROOT)
        assert refused.returncode == 3 and "toto-patch adopt" in refused.stderr
    assert sources(copy) == before
