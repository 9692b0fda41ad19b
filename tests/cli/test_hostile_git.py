"""git is asked in repositories that nobody vouches for: none of their programs runs; what git refuses is a refusal."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_driver import ATTENTION, UTIL, Run, document, git, snapshot
from click.testing import CliRunner

from toto_patcher.cli import cli
from toto_patcher.patching import git_program, version_control

Plant = Callable[[Path, str], None]


def setting(*names: str) -> Plant:
    """Sets each of these to the command."""

    def plant(root: Path, command: str) -> None:
        for name in names:
            git(root, "config", name, command)

    return plant


def attribute(text: str, *names: str) -> Plant:
    """Gives every source an attribute, whose driver is the command; and changes one without changing its size."""

    def plant(root: Path, command: str) -> None:
        (root / ".gitattributes").write_text(f"*.py {text}\n")
        git(root, "add", ".gitattributes")
        git(root, "commit", "--quiet", "--message", "Attributes")
        setting(*names)(root, command)
        source = root / UTIL
        source.write_bytes(source.read_bytes().replace(b"import torch", b"import troch", 1))

    return plant


def hook(name: str) -> Plant:
    def plant(root: Path, command: str) -> None:
        path = root / ".git" / "hooks" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{command}\n")
        path.chmod(0o755)
        os.utime(root / UTIL, (1, 1))  # so that git has something to write to its index

    return plant


def missing_object(*names: str) -> Plant:
    """Makes the repository a partial clone that lacks the file's blob: git fetches such a one when it is asked for."""

    def plant(root: Path, command: str) -> None:
        blob = git(root, "rev-parse", f"HEAD:{UTIL}").strip()
        (root / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
        git(root, "config", "core.repositoryFormatVersion", "1")
        git(root, "config", "extensions.partialClone", "origin")
        git(root, "config", "remote.origin.promisor", "true")
        setting(*names)(root, command)

    return plant


def missing_over_ssh(root: Path, command: str) -> None:
    missing_object("core.sshCommand")(root, command)
    git(root, "config", "remote.origin.url", "ssh://nowhere.invalid/x")
    git(root, "config", "protocol.allow", "always")


def missing_by_helper(root: Path, command: str) -> None:
    missing_object()(root, command)
    git(root, "config", "remote.origin.url", f"ext::sh -c {command.replace(' ', '% ')}")
    git(root, "config", "protocol.ext.allow", "always")


def program(root: Path, command: str) -> str:
    """The command as a file, for what git starts without a shell."""
    path = root.parent / "program"
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(0o755)
    return str(path)


def signing(root: Path, command: str) -> None:
    setting("gpg.program")(root, program(root, command))
    git(root, "config", "log.showSignature", "true")


def missing_by_proxy(root: Path, command: str) -> None:
    missing_object("core.gitProxy")(root, program(root, command))
    git(root, "config", "remote.origin.url", "git://nowhere.invalid/x")


def missing_by_upload(root: Path, command: str) -> None:
    missing_object("remote.origin.uploadpack")(root, command)
    git(root, "config", "remote.origin.url", str(root))


def included(root: Path, command: str) -> None:
    (root / "more").write_text(f'[core]\n\tfsmonitor = "{command}"\n')
    git(root, "config", "include.path", "../more")


def of_the_work_tree(root: Path, command: str) -> None:
    git(root, "config", "extensions.worktreeConfig", "true")
    (root / ".git" / "config.worktree").write_text(f'[core]\n\tfsmonitor = "{command}"\n')


def elsewhere(root: Path, command: str) -> None:
    """The .git is a file that names a folder, as in a work tree or a submodule."""
    setting("core.fsmonitor")(root, command)
    (root / ".git").rename(root / "inside")
    (root / ".git").write_text("gitdir: inside\n")


SHOW = ("cat-file", "-p", f"HEAD:{UTIL}")
# What is planted, and a command that shows that git runs it.
PLANTS: dict[str, tuple[Plant, tuple[str, ...]]] = {
    "fsmonitor": (setting("core.fsmonitor"), ("status",)),
    "fsmonitor, included": (included, ("status",)),
    "fsmonitor, worktreeConfig": (of_the_work_tree, ("status",)),
    "fsmonitor, a .git that is a file": (elsewhere, ("status",)),
    "clean filter": (attribute("filter=x", "filter.x.clean"), ("status",)),
    "process filter": (attribute("filter=x", "filter.x.process"), ("status",)),
    "smudge filter": (attribute("filter=x", "filter.x.smudge"), ("checkout", "--", UTIL)),
    "external diff": (setting("diff.external"), ("diff", "HEAD~", "HEAD")),
    "diff driver": (attribute("diff=x", "diff.x.command"), ("diff",)),
    "textconv": (attribute("diff=x", "diff.x.textconv"), ("diff",)),
    "post-index-change": (hook("post-index-change"), ("update-index", "--refresh")),
    "reference-transaction": (hook("reference-transaction"), ("update-ref", "refs/x", "HEAD")),
    "ssh": (missing_over_ssh, SHOW),
    "ext": (missing_by_helper, SHOW),
    "proxy": (missing_by_proxy, SHOW),
    "upload-pack": (missing_by_upload, SHOW),
    "gpg": (signing, ("commit", "--gpg-sign", "--allow-empty", "--message", "x")),
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whose own settings play no part."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_EDITOR", "true")


def planted(name: str, committed: Path) -> Path:
    """Lays a trap; returns the file that it writes."""
    mark = committed.parent / "PWNED"
    git(committed, "commit", "--quiet", "--allow-empty", "--message", "Second")
    (committed / "notes").write_text("1\n")
    git(committed, "add", "notes")
    git(committed, "commit", "--quiet", "--message", "Third")
    PLANTS[name][0](committed, f"touch {mark}; false")
    mark.unlink(missing_ok=True)
    return mark


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("name", PLANTS)
def test_no_program_that_a_repository_names_is_run(name: str, committed: Path) -> None:
    mark = planted(name, committed)
    modified = committed / UTIL
    original = modified.read_bytes().replace(b"import troch", b"import torch", 1)
    for command in (("status",), ("verify-only",), ("diff",)):
        done = CliRunner().invoke(cli, [*command, "--root", str(committed)])
        assert done.exit_code in (0, 1, 3), done.output
        assert not mark.exists(), command
    modified.write_bytes(original)
    for command in (("apply", "--no-backup"), ("status",), ("verify-only",), ("revert",), ("adopt",)):
        done = CliRunner().invoke(cli, [*command, "--root", str(committed)])
        assert done.exit_code in (0, 1, 2, 3, 4), done.output
        assert not mark.exists(), command


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("name", PLANTS)
def test_git_itself_runs_what_is_planted(name: str, committed: Path) -> None:
    """Else the test above would say nothing."""
    mark = planted(name, committed)
    if name == "post-index-change":
        os.utime(committed / ATTENTION, (1, 1))
    subprocess.run(["git", "-C", str(committed), *PLANTS[name][1]], capture_output=True, timeout=60, check=False)
    assert mark.exists()


def test_a_relative_entry_of_path_does_not_mean_the_checkout(
    committed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (committed / "git").write_text(f"#!/bin/sh\ntouch {tmp_path}/PWNED\n")
    (committed / "git").chmod(0o755)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("PATH", f".{os.pathsep}{os.environ['PATH']}")
    state = version_control.git_state(committed)
    assert state and state.commit and not (tmp_path / "PWNED").exists()


def test_a_fifo_that_git_would_wait_for_does_not_hold_us(committed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(committed / "fifo")
    git(committed, "config", "core.excludesFile", str(committed / "fifo"))
    monkeypatch.setattr(git_program, "_PATIENCE", 1.0)
    state = version_control.git_state(committed)
    assert state and state.problem and "did not answer" in state.problem


def of_somebody_else(root: Path) -> dict[str, str]:
    return {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}


def damaged_index(root: Path) -> dict[str, str]:
    (root / ".git" / "index").write_bytes(b"junk")
    return {}


def damaged_head(root: Path) -> dict[str, str]:
    (root / ".git" / "HEAD").write_text("nonsense\n")
    return {}


def damaged_branch(root: Path) -> dict[str, str]:
    (root / ".git" / git(root, "symbolic-ref", "HEAD").strip()).write_text("nonsense\n")
    return {}


def lost_commit(root: Path) -> dict[str, str]:
    name = git(root, "rev-parse", "HEAD").strip()
    (root / ".git" / "objects" / name[:2] / name[2:]).unlink()
    return {}


def damaged_settings(root: Path) -> dict[str, str]:
    with (root / ".git" / "config").open("a") as config:
        config.write("[broken\n")
    return {}


def unborn(root: Path) -> dict[str, str]:
    git(root, "update-ref", "-d", "HEAD")
    return {}


def bare(root: Path) -> dict[str, str]:
    git(root, "config", "core.bare", "true")
    return {}


def bare_around(root: Path) -> dict[str, str]:
    shutil.rmtree(root / ".git")
    git(root, "init", "--quiet", "--bare")
    return {}


def locked(root: Path) -> dict[str, str]:
    (root / ".git" / "index.lock").touch()
    return {}


def no_git(root: Path) -> dict[str, str]:
    return {"PATH": str(root / "none")}


@pytest.mark.parametrize(
    ("harm", "status", "told"),
    [
        (of_somebody_else, 3, "dubious ownership"),
        (damaged_index, 3, "index"),
        (damaged_head, 3, "not a git repository"),
        (damaged_branch, 3, "HEAD"),
        (lost_commit, 3, "fatal"),
        (damaged_settings, 3, "bad config line"),
        (unborn, 3, "already staged"),
        (bare, 3, "work tree"),
        (bare_around, 3, "work tree"),
        (locked, 4, "index.lock"),
        (no_git, 2, "Install git"),
    ],
)
def test_what_git_refuses_is_a_refusal_with_gits_reason(
    harm: Callable[[Path], dict[str, str]], status: int, told: str, committed: Path, toto_patch: Run
) -> None:
    env = harm(committed)
    before = snapshot(committed)
    looked = toto_patch("status", "--root", committed, env=env)
    assert looked.returncode == 0, looked.stderr
    fine = harm in (unborn, locked)
    assert ("unknown (" in looked.stdout) != fine
    done = toto_patch("apply", "--commit", "--root", committed, env=env)
    assert done.returncode == status and told in done.stderr and "next: " in done.stderr, done.stderr
    assert snapshot(committed) == before
    if not fine and harm is not no_git:
        problem = document(toto_patch("status", "--json", "--root", committed, env=env))["git"]["problem"]
        assert told in problem


def test_a_lock_that_comes_between_is_no_bug(committed: Path, toto_patch: Run) -> None:
    git(committed, "config", "core.hooksPath", str(committed.parent))
    hook_ = committed.parent / "pre-commit"
    hook_.write_text(f"#!/bin/sh\ntouch {committed}/.git/index.lock; exit 1\n")
    hook_.chmod(0o755)
    original = (committed / UTIL).read_bytes()
    done = toto_patch("apply", "--commit", "--root", committed)
    assert done.returncode == 4 and "index.lock" in done.stderr, done.stderr
    assert (committed / UTIL).read_bytes() == original


def test_the_users_own_commit_runs_their_hooks(committed: Path, toto_patch: Run) -> None:
    hook("pre-commit")(committed, f"touch {committed.parent}/ran")
    assert toto_patch("apply", "--commit", "--root", committed).returncode == 0
    assert (committed.parent / "ran").exists()


def test_what_differs_from_head_is_told_as_git_tells_it(committed: Path) -> None:
    (committed / "link").symlink_to(UTIL)
    (committed / "a b").write_text("1\n")
    git(committed, "add", "--all")
    git(committed, "commit", "--quiet", "--message", "More")
    (committed / UTIL).write_bytes((committed / UTIL).read_bytes().replace(b"\n", b"\r\n"))
    (committed / "link").unlink()
    (committed / "link").symlink_to(ATTENTION)
    (committed / "a b").chmod(0o755)
    (committed / "LICENSE").unlink()
    git(committed, "rm", "--quiet", "--cached", "toto/__init__.py")
    (committed / "new").touch()
    git(committed, "add", "new")
    state = version_control.git_state(committed)
    expected = git(committed, "status", "--porcelain", "--no-renames", "--untracked-files=no", "-z")
    assert state and sorted(state.modified) == sorted(line[3:] for line in expected.split("\0") if line)


def test_files_that_a_filter_rewrites_are_said_not_to_be_compared(committed: Path) -> None:
    attribute("filter=x")(committed, "")
    state = version_control.git_state(committed)
    assert state and not state.modified and state.problem and "1 file not compared" in state.problem


@pytest.mark.parametrize("how", ["core.autocrlf=true", "core.autocrlf=input", "eol"])
def test_line_endings_that_git_makes_itself_are_no_change(how: str, committed: Path) -> None:
    if how == "eol":
        (committed / ".gitattributes").write_text("*.py text eol=crlf\n")
        git(committed, "add", ".gitattributes")
        git(committed, "commit", "--quiet", "--message", "Attributes")
    else:
        git(committed, "config", *how.split("="))
    (committed / UTIL).write_bytes((committed / UTIL).read_bytes().replace(b"\n", b"\r\n"))
    state = version_control.git_state(committed)
    assert state and state.modified == () and state.problem is None
