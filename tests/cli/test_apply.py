"""What apply and revert promise beyond the exit status: selections, backups, git, the proof before the write."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_driver import ATTENTION, UTIL, Run, document, edit, git, snapshot
from click.testing import CliRunner, Result

from toto_patcher.cli import cli
from toto_patcher.equivalence import ladder
from toto_patcher.equivalence.report import Check, LadderReport


def ignore(root: Path) -> None:
    (root / ".gitignore").write_text("toto/\n")
    git(root, "commit", "--quiet", "--allow-empty", "--message", "Ignored")


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="toto-patch")


def test_another_selection_replaces_the_one_in_force(patched: Path, toto: Path, toto_patch: Run) -> None:
    done = document(toto_patch("apply", "--patch", "kv-cache-tensor-index", "--root", patched, "--json"))
    assert done["written"] and done["previous"] == ["kv-cache-tensor-index", "positional-embedding-break"]
    assert [file["path"] for file in done["files"]] == [ATTENTION]
    status = document(toto_patch("status", "--root", patched, "--json"))
    assert status["patches"] == ["kv-cache-tensor-index"] and status["profile"] is None
    assert status["verdict"] == "patched"


def test_a_patch_brings_what_it_requires(toto: Path, toto_patch: Run) -> None:
    done = document(toto_patch("apply", "--patch", "positional-embedding-break", "--root", toto, "--json"))
    assert done["patches"] == ["kv-cache-tensor-index", "positional-embedding-break"]


def test_without_a_backup_revert_takes_the_original_from_the_release(toto: Path, toto_patch: Run) -> None:
    before = snapshot(toto)
    assert toto_patch("apply", "--no-backup", "--root", toto).returncode == 0
    assert not (toto / ".toto-patch" / "backups").exists()
    done = toto_patch("revert", "--root", toto)
    assert done.returncode == 0 and "from release 0.2.0" in done.stdout
    assert snapshot(toto) == before


def test_without_a_backup_revert_takes_the_original_from_git(committed: Path, toto_patch: Run) -> None:
    edit(committed, UTIL, "import torch", "import torch  # ours")
    git(committed, "commit", "--quiet", "--all", "--message", "Ours")
    before = (committed / UTIL).read_bytes()
    assert toto_patch("apply", "--no-backup", "--root", committed).returncode == 0
    done = toto_patch("revert", "--root", committed)
    assert done.returncode == 0 and "from git commit" in done.stdout, done.stderr
    assert (committed / UTIL).read_bytes() == before


def test_a_backup_can_be_added_later(toto: Path, toto_patch: Run) -> None:
    assert toto_patch("apply", "--no-backup", "--root", toto).returncode == 0
    assert toto_patch("apply", "--backup", "--root", toto).returncode == 0
    assert document(toto_patch("status", "--root", toto, "--json"))["files"][0]["backup"] is True


def test_dry_run_shows_the_diff(toto: Path, toto_patch: Run) -> None:
    done = toto_patch("apply", "--dry-run", "--root", toto)
    assert done.returncode == 0
    assert toto_patch("diff", "--root", toto).stdout in done.stdout
    assert "nothing was written" in done.stdout


def test_the_root_comes_from_the_environment_the_configuration_or_vendor_toto(toto: Path, toto_patch: Run) -> None:
    by_option = toto_patch("status", "--json", "--root", toto).stdout
    assert toto_patch("status", "--json", env={"TOTO_PATCH_ROOT": str(toto)}).stdout == by_option
    project = toto.parent / "project"
    (project / "deep").mkdir(parents=True)
    (project / "pyproject.toml").write_text('[tool.toto-patch]\nroot = "../toto-0.2.0"\n')
    assert document(toto_patch("status", "--json", cwd=project / "deep"))["files"] == []
    other = toto.parent / "other"
    (other / "vendor").mkdir(parents=True)
    toto.rename(other / "vendor" / "toto")
    assert document(toto_patch("status", "--json", cwd=other / "vendor"))["root"] == str(other / "vendor" / "toto")


def test_commit_commits_exactly_the_changed_files(committed: Path, toto_patch: Run) -> None:
    (committed / "notes.txt").write_text("mine\n")
    edit(committed, "toto/model/rope.py", "import torch", "import torch  # mine")
    done = toto_patch("apply", "--commit", "--root", committed, "--json")
    assert done.returncode == 0, done.stdout
    head = git(committed, "rev-parse", "HEAD").strip()
    assert document(done)["git_commit"] == head
    shown = git(committed, "show", "--name-only", "--format=", "HEAD").split()
    record = [name for name in shown if name.startswith(".toto-patch/")]
    assert [name for name in shown if name not in record] == [ATTENTION, UTIL]
    assert {name.split("/")[1] for name in record} == {".gitattributes", ".gitignore", "backups", "state.json"}
    message = git(committed, "log", "-1", "--format=%B")
    assert "graph-breaks" in message and "kv-cache-tensor-index" in message and "toto-patch revert" in message
    assert "M toto/model/rope.py" in git(committed, "status", "--short")
    assert document(toto_patch("apply", "--commit", "--root", committed, "--json"))["git_commit"] is None


def test_commit_takes_tracked_files_that_a_pattern_ignores(committed: Path, toto_patch: Run) -> None:
    ignore(committed)
    assert toto_patch("apply", "--commit", "--root", committed).returncode == 0
    assert git(committed, "show", "--name-only", "--format=", "HEAD", "--", "toto").split() == [ATTENTION, UTIL]


@pytest.mark.parametrize(
    ("obstacle", "reason"),
    [
        (lambda root: edit(root, UTIL, "import torch", "import torch  # mine"), "not committed"),
        (lambda root: ((root / "new.txt").write_text("x"), git(root, "add", "new.txt")), "already staged"),
        (lambda root: (git(root, "rm", "--quiet", "--cached", UTIL), git(root, "commit", "-qm", "x")), "not tracked"),
        (lambda root: (git(root, "rm", "-rq", "--cached", "toto"), ignore(root)), "ignored"),
    ],
    ids=["edited", "staged", "untracked", "ignored"],
)
def test_commit_refuses_what_it_cannot_keep_apart(
    obstacle: Callable[[Path], Any], reason: str, committed: Path, toto_patch: Run
) -> None:
    obstacle(committed)
    files = {name: data for name, data in snapshot(committed).items() if not name.startswith(".git/")}
    head = git(committed, "rev-parse", "HEAD")
    done = toto_patch("apply", "--commit", "--root", committed)
    assert done.returncode == 3 and reason in done.stderr
    assert {n: data for n, data in snapshot(committed).items() if not n.startswith(".git/")} == files
    assert git(committed, "rev-parse", "HEAD") == head


def test_commit_outside_a_repository_is_a_usage_error(toto: Path, toto_patch: Run) -> None:
    before = snapshot(toto)
    done = toto_patch("apply", "--commit", "--root", toto, env={"GIT_CEILING_DIRECTORIES": str(toto.parent)})
    assert done.returncode == 2 and "git repository" in done.stderr
    assert snapshot(toto) == before


def test_a_commit_that_git_refuses_takes_the_patches_back(committed: Path, toto_patch: Run) -> None:
    hook = committed / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho no such thing today >&2\nexit 1\n")
    hook.chmod(0o755)
    done = toto_patch("apply", "--commit", "--root", committed)
    assert done.returncode == 4 and "no such thing today" in done.stderr
    assert git(committed, "status", "--short") == ""
    assert toto_patch("verify-only", "--root", committed).returncode == 1


@pytest.mark.parametrize("backup", ["--backup", "--no-backup"])
def test_a_commit_leaves_nothing_of_the_record_behind(committed: Path, toto_patch: Run, backup: str) -> None:
    before = snapshot(committed / "toto")
    assert toto_patch("apply", backup, "--commit", "--root", committed).returncode == 0
    assert (committed / ".toto-patch" / "state.json").is_file()
    assert git(committed, "status", "--short", "--untracked-files=all") == ""
    assert toto_patch("revert", "--root", committed).returncode == 0
    assert not (committed / ".toto-patch").exists()
    assert snapshot(committed / "toto") == before


def test_what_somebody_lets_git_see_of_the_store_is_left_alone(committed: Path, toto_patch: Run) -> None:
    own = committed / ".toto-patch" / ".gitignore"
    own.parent.mkdir()
    own.write_text("lock\n")
    assert [toto_patch(c, "--root", committed).returncode for c in ("apply", "revert")] == [0, 0]
    assert own.read_text() == "lock\n"


@pytest.mark.parametrize("half", ["", "*", "*\n", "# Written by toto-pat"])
def test_the_half_of_a_list_that_a_killed_command_left_is_made_whole(toto: Path, toto_patch: Run, half: str) -> None:
    before = snapshot(toto)
    own = toto / ".toto-patch" / ".gitignore"
    own.parent.mkdir()
    own.write_text(half)
    assert toto_patch("apply", "--root", toto).returncode == 0
    assert own.read_text().endswith("/backups/*.tmp\n")
    assert toto_patch("revert", "--root", toto).returncode == 0
    assert snapshot(toto) == before


def test_status_knows_where_git_stands(committed: Path, toto_patch: Run) -> None:
    edit(committed, UTIL, "import torch", "import torch  # mine")
    os.utime(committed / ATTENTION, (1, 1))  # git would note in its index that only the time changed
    index = (committed / ".git" / "index").read_bytes()
    state = document(toto_patch("status", "--root", committed, "--json"))["git"]
    assert state["modified"] == [UTIL] and state["commit"] == git(committed, "rev-parse", "HEAD").strip()
    assert (committed / ".git" / "index").read_bytes() == index


@pytest.fixture
def fake_ladder(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, bytes, bytes]]]:
    """A ladder that fails when the trees differ in a way it was told of; records what it was given."""
    calls: list[tuple[str, bytes, bytes]] = []

    def run(original: Path, patched: Path, **options: Any) -> LadderReport:
        options["progress"](1, 1, "case")
        calls.append((str(original), (original / UTIL).read_bytes(), (patched / UTIL).read_bytes()))
        good = not options["quick"]
        return LadderReport((Check("point-forecasts/tiny", 3, 8, 9.0, 2.0, "ratio", "case", good),), quick=not good)

    monkeypatch.setattr(ladder, "run", run)
    yield calls


def test_numerics_compare_the_original_with_the_patched_bytes(
    patched: Path, toto_release: Callable[[str], Path], fake_ladder: list[tuple[str, bytes, bytes]]
) -> None:
    done = invoke("verify-only", "--verbose", "--numerics", "--root", patched)
    assert done.exit_code == 0 and "point-forecasts/tiny" in done.output
    [(folder, original, other)] = fake_ladder
    assert original == (toto_release("0.2.0") / UTIL).read_bytes()
    assert other == (patched / UTIL).read_bytes()
    assert not Path(folder).exists() and not Path(folder).is_relative_to(patched)


def test_outputs_that_differ_are_5_and_name_the_failing_check(patched: Path, fake_ladder: Any) -> None:
    before = snapshot(patched)
    done = invoke("verify-only", "--numerics", "--quick", "--root", patched)
    assert done.exit_code == 5
    assert "point-forecasts/tiny" in done.output and "FAIL" in done.output
    assert snapshot(patched) == before


def test_apply_verify_that_fails_is_5_and_leaves_the_tree(toto: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(original: Path, patched: Path, **options: Any) -> LadderReport:
        return LadderReport((Check("same-seed/tiny", 4, 3, float("inf"), 1.0, "ratio", "case", False),), quick=False)

    monkeypatch.setattr(ladder, "run", run)
    before = snapshot(toto)
    done = invoke("apply", "--verify", "--root", toto)
    assert done.exit_code == 5 and "same-seed/tiny" in done.output and "nothing was written" in done.output
    assert invoke("apply", "--verify", "--json", "--root", toto).exit_code == 5
    assert snapshot(toto) == before


def test_apply_verify_that_passes_writes(toto: Path, fake_ladder: Any) -> None:
    done = invoke("apply", "--verify", "--root", toto)
    assert done.exit_code == 0 and len(fake_ladder) == 1
    assert invoke("verify-only", "--root", toto).exit_code == 0


def test_numerics_without_torch_say_what_to_install(patched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else find(name, *rest))
    done = invoke("verify-only", "--numerics", "--root", patched)
    assert done.exit_code == 2 and ".[runtime]" in done.output


def test_vendor_force_names_what_it_discards_and_leaves_the_rest(
    tmp_path: Path, toto_release: Any, toto_patch: Run
) -> None:
    assert toto_patch("--root", "third_party", "vendor", "--from-path", toto_release("0.1.4")).returncode == 0
    root = tmp_path / "third_party"
    for name in ("toto/mine.py", "ours/work.py"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("only copy\n")
    command = ("--root", "third_party", "vendor", "--from-path", toto_release("0.2.0"))
    refused = toto_patch(*command)
    assert refused.returncode == 3 and "toto/mine.py (added)" in refused.stderr and "ours" not in refused.stderr
    forced = toto_patch(*command, "--force", "--json")
    assert document(forced)["discarded"] == ["toto/mine.py"]
    assert (root / "ours/work.py").read_text() == "only copy\n" and not (root / "toto/mine.py").exists()
    (root / "toto/mine.py").write_text("only copy\n")
    assert "toto/mine.py was discarded" in toto_patch(*command, "--force").stdout


def test_vendor_then_apply_then_revert_in_an_empty_folder(tmp_path: Path, toto_release: Any, toto_patch: Run) -> None:
    source = toto_release("0.1.4")
    done = toto_patch("vendor", "--from-path", source)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "vendor" / "toto.lock.toml").is_file()
    before = snapshot(tmp_path / "vendor")
    assert "nothing to do" in toto_patch("vendor", "--from-path", source).stdout
    assert toto_patch("apply").returncode == 0
    refused = toto_patch("vendor", "--version", "0.2.0")
    assert refused.returncode == 3 and "patched" in refused.stderr
    assert toto_patch("revert").returncode == 0
    assert snapshot(tmp_path / "vendor") == before
