"""The store reads what is in force, and says clearly when that cannot be trusted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from file_trees import OLD, plan_for

from toto_patcher.errors import BackupError, StorageError, UnsafePathError
from toto_patcher.patching import transaction
from toto_patcher.patching.change import fingerprint
from toto_patcher.patching.files.layout import STATE
from toto_patcher.patching.record_rules import check_relative
from toto_patcher.patching.state import Journal, State, from_bytes, to_bytes
from toto_patcher.patching.store import Store

NOW = datetime(2026, 1, 2, 5, 4, 5, tzinfo=timezone(timedelta(hours=2)))


@pytest.fixture
def patched(root: Path) -> Path:
    transaction.commit(plan_for(root, "first"), backup=True, now=NOW, release="0.2.0", git_commit="c0ffee")
    return root


def state_file(root: Path) -> Path:
    return root / ".toto-patch/state.json"


def test_an_unpatched_checkout_has_no_state(root: Path) -> None:
    assert Store(root).state() is None


def test_the_state_says_what_is_in_force(patched: Path) -> None:
    state = Store(patched).state()
    assert state is not None
    assert (state.schema_version, state.created) == (2, "2026-01-02T03:04:05+00:00")
    assert (state.release, state.git_commit) == ("0.2.0", "c0ffee")
    assert (state.patches, state.profile, state.folders) == (("first",), "profile-first", ("toto/extra",))
    added, attention, util = state.files
    assert (added.path, added.pristine, added.backup) == ("toto/extra/added.py", None, False)
    assert attention.pristine == fingerprint(OLD["toto/model/attention.py"][0]) and attention.backup
    assert attention.patched == fingerprint((patched / "toto/model/attention.py").read_bytes())
    assert (attention.mode, util.mode, util.patches) == (0o640, 0o755, ("first",))


def test_another_selection_keeps_what_is_known_of_the_origin(patched: Path) -> None:
    state = transaction.commit(plan_for(patched, "second"), backup=False, now=NOW)
    assert (state.release, state.git_commit) == ("0.2.0", "c0ffee")
    assert state.file("toto/model/attention.py").backup, "a backup that exists stays"
    assert not state.file("toto/model/rope.py").backup
    assert state.file("toto/model/util.py") is None and state.folders == ()


def test_a_state_survives_a_round_trip_and_equal_states_are_equal_bytes(patched: Path) -> None:
    data = state_file(patched).read_bytes()
    state = Store(patched).state()
    assert to_bytes(state) == data and data.endswith(b"}\n")
    assert from_bytes(State, data, STATE, hint="") == state


def test_pristine_sources_are_the_originals_without_added_files(patched: Path) -> None:
    sources = Store(patched).pristine_sources(Store(patched).state())
    names = ("toto/model/attention.py", "toto/model/util.py")
    assert sources == {PurePosixPath(name): OLD[name][0] for name in names}


def test_pristine_sources_without_a_backup_say_so(root: Path) -> None:
    state = transaction.commit(plan_for(root, "first"), backup=False)
    assert not (root / ".toto-patch/backups").exists()
    with pytest.raises(BackupError, match="--no-backup") as caught:
        Store(root).pristine_sources(state)
    assert caught.value.path == "toto/model/attention.py"


@pytest.mark.parametrize("damage", ["missing", "changed", "empty", "link"])
def test_a_backup_that_is_not_what_was_saved_is_refused(patched: Path, damage: str) -> None:
    digest = fingerprint(OLD["toto/model/util.py"][0])
    backup = patched / ".toto-patch/backups" / digest
    if damage in {"missing", "link"}:
        backup.rename(patched / "elsewhere")
    if damage == "link":
        backup.symlink_to(patched / "elsewhere")
    if damage in {"changed", "empty"}:
        backup.write_bytes(b"" if damage == "empty" else backup.read_bytes() + b"#")
    with pytest.raises((BackupError, UnsafePathError)) as caught:
        Store(patched).pristine_sources(Store(patched).state())
    assert digest in caught.value.path and caught.value.exit_code == 3


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def edit(data: bytes) -> bytes:
        content = json.loads(data)
        change(content)
        return json.dumps(content).encode()

    return edit


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "not JSON"),
        (lambda data: data[: len(data) // 2], "not JSON"),
        (lambda data: b"\xff\xfe" + data, "not JSON"),
        (lambda data: b"[" * 100_000, "not JSON"),
        (lambda data: b"[]", "is damaged"),
        (lambda data: b"null", "is damaged"),
        (edited(lambda state: state.update(schema_version=3)), "schema version 3, this toto-patch knows version 2"),
        (edited(lambda state: state.update(schema_version="1")), "schema_version"),
        (edited(lambda state: state.update(schema_version=True)), "schema_version"),
        (edited(lambda state: state.pop("schema_version")), "schema_version"),
        (edited(lambda state: state.pop("patches")), "patches"),
        (edited(lambda state: state.update(files={})), "files"),
        (edited(lambda state: state["files"].append(7)), "files.3"),
        (edited(lambda state: state["files"][0].update(mode=-1)), "mode"),
        (edited(lambda state: state["files"][0].update(backup="yes")), "backup"),
        (edited(lambda state: state["files"][0].update(patches=[1])), "patches"),
        (edited(lambda state: state.update(surprise=1)), "surprise"),
        (edited(lambda state: state["files"].append(state["files"][0])), "listed twice"),
        (edited(lambda state: state["files"][0].update(path="../outside.py")), "leaves the root"),
        (edited(lambda state: state["files"][0].update(path="/etc/passwd")), "leaves the root"),
        (edited(lambda state: state["files"][0].update(path="toto/../../x")), "leaves the root"),
        (edited(lambda state: state["files"][0].update(path=".toto-patch/lock")), "for itself"),
        (edited(lambda state: state["files"][0].update(path="a\0b")), "plain relative path"),
        (edited(lambda state: state["files"][0].update(path="x/" * 400 + "a.py")), "longer than any path"),
        (edited(lambda state: state["files"][0].update(path="x" * 100_000 + ".py")), "longer than any path"),
        (edited(lambda state: state["files"][0].update(path=".git/hooks/post-checkout")), "hidden"),
        (edited(lambda state: state["files"][0].update(path="toto/.GIT/config.py")), "hidden"),
        (edited(lambda state: state["files"][0].update(path="toto/__pycache__/a.py")), "no source of the package"),
        (edited(lambda state: state["files"][0].update(path="toto/model/util.so")), "no source file"),
        (edited(lambda state: state["files"][0].update(path="Makefile")), "no Python source"),
        (edited(lambda state: state["files"][0].update(path="a\nb.py")), "no terminal shows"),
        (edited(lambda state: state["files"][0].update(path="a\u202eb.py")), "no terminal shows"),
        (edited(lambda state: state["files"][0].update(path="\ud800.py")), "not valid UTF-8"),
        (edited(lambda state: state["files"][0].update(mode=0o4755)), "mode"),
        (edited(lambda state: state["files"][0].update(patches=["../x"])), "id of a patch"),
        (edited(lambda state: state.update(patches=["a", "a"])), "listed twice"),
        (edited(lambda state: state.update(profile="graph-breaks\x1b[2J")), "profile"),
        (edited(lambda state: state.update(profile="a\n  ok  outputs  proved equal")), "profile"),
        (edited(lambda state: state.update(release="\ud800")), "release"),
        (edited(lambda state: state.update(tool_version=None)), "tool_version"),
        (edited(lambda state: state.update(created="yesterday")), "created"),
        (edited(lambda state: state.update(git_commit="--output=stolen")), "git_commit"),
        (edited(lambda state: state.update(git_commit="HEAD:")), "git_commit"),
        (edited(lambda state: state.update(folders=["toto/.hidden"])), "hidden"),
        (edited(lambda state: state.update(package={".git/config": "0" * 64})), "hidden"),
        (edited(lambda state: state.update(package={"toto/a.py": None})), "package"),
        (edited(lambda state: state.update(package=[])), "package"),
        (lambda data: data.replace(b'"files"', b'"created": "", "files"', 1), "stands twice"),
        (edited(lambda state: state.update(folders=[".."])), "leaves the root"),
        (edited(lambda state: state["files"][1].update(pristine="../../x")), "pristine"),
        (edited(lambda state: state["files"][1].update(pristine="F" * 64)), "pristine"),
    ],
)
def test_a_damaged_state_file_is_refused_with_the_reason(
    patched: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    path = state_file(patched)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BackupError, match=message) as caught:
        Store(patched).state()
    assert caught.value.path == ".toto-patch/state.json" and caught.value.hint
    assert caught.value.exit_code == 3


def test_a_state_file_that_is_gone_while_backups_remain_is_refused(patched: Path) -> None:
    state_file(patched).unlink()
    with pytest.raises(BackupError, match="backups of original files are still there"):
        Store(patched).state()
    with pytest.raises(BackupError):
        transaction.commit(plan_for(patched, "first"), backup=True)
    assert list((patched / ".toto-patch/backups").iterdir()), "they may be the last copies"


def test_a_state_file_that_cannot_be_read_is_an_io_error(patched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*arguments: object, **options: object) -> int:
        raise OSError(5, "unused")

    monkeypatch.setattr("os.open", failing)
    with pytest.raises(StorageError, match="EIO: Input/output error"):
        Store(patched).state()


@pytest.mark.parametrize("path", ["a", "a/b.py", "é/中.py", "..a", "a/...", " ", "a\nb"])
def test_a_plain_relative_path_is_accepted(path: str) -> None:
    assert check_relative(path) == path


@pytest.mark.parametrize(
    "path", ["", ".", "..", "/", "/a", "a/../b", "./a", "a/", "a//b", "a/./b", ".toto-patch", "\udc80"]
)
def test_any_other_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"root|plain|itself|UTF-8"):
        check_relative(path)


@pytest.mark.parametrize(
    "temporary", ["../x.tmp", "util.py", ".toto-patch-0-0.tmp", ".toto-patch-" + "0" * 16 + "-1.tmp\n"]
)
def test_a_journal_cannot_name_a_file_that_is_not_a_temporary(temporary: str) -> None:
    entry = {"path": "toto/a.py", "before": None, "after": None, "temporary": temporary}
    data = json.dumps({"schema_version": 1, "entries": [entry]}).encode()
    with pytest.raises(BackupError, match="temporary"):
        from_bytes(Journal, data, PurePosixPath("journal.json"), hint="")


def test_asking_an_unpatched_checkout_does_not_import_pydantic_or_git(root: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from toto_patcher.patching import restore, store, transaction\n"
        "root = Path(sys.argv[1])\n"
        "assert store.Store(root).state() is None and transaction.pending(root) is None\n"
        "slow = {'pydantic', 'git', 'torch', 'libcst', 'asyncio'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    subprocess.run([sys.executable, "-c", code, str(root)], check=True)
