"""What vendor takes away: nothing beside the package, and in it nothing that cannot be fetched again, unasked."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from file_trees import snapshot
from vendor_trees import BESIDE, NEW, OLD, UTIL, lay, own, tree_in_force, write

from toto_patcher.errors import DriftError, RefusedError, UnsafePathError
from toto_patcher.patching import transaction
from toto_patcher.patching.vendor import vendor_git, vendor_path, vendor_release
from toto_patcher.patching.vendoring import vendor_lock
from toto_patcher.patching.vendoring.lock_file import LockFile


@pytest.fixture
def place(workspace: Path) -> Path:
    return workspace / "place"


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main")
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True, env=environment
    )
    return done.stdout.strip()


def refused(place: Path, match: str, **options: bool) -> RefusedError:
    """Vendoring the new tree is refused, and nothing has changed anywhere."""
    before = snapshot(place)
    with pytest.raises(RefusedError, match=match) as caught:
        vendor_path(place / "from-new", place / "t", **options)
    assert snapshot(place) == before
    return caught.value


@pytest.mark.parametrize("tree", ["old", "patched"])
def test_what_lies_beside_the_package_stays_also_with_force(place: Path, tree: str) -> None:
    root = lay(place, tree)
    (root / "data").mkdir()
    (root / "link").symlink_to("/etc")
    write(root, {".github/x.yml": b"", "toto2/mine.py": b"", "pkg/__pycache__/m.cpython-311.pyc": b"x"})
    beside = {name: entry for name, entry in snapshot(root, ours=False).items() if name.split("/")[0] != "toto"}
    vendor_path(place / "from-new", root, force=True)
    after = {name: entry for name, entry in snapshot(root, ours=False).items() if name.split("/")[0] != "toto"}
    licences = {"LICENSE", "NOTICE"}
    assert {k: v for k, v in after.items() if k not in licences} == {
        k: v for k, v in beside.items() if k not in licences
    }
    assert not (root / ".toto-patch").exists()


@pytest.mark.parametrize("force", [False, True])
def test_a_licence_that_vendor_did_not_write_is_never_replaced(place: Path, force: bool) -> None:
    root = lay(place, "old")
    (root / "LICENSE").write_bytes(b"our company's own\n")
    error = refused(place, "not the licence file that vendor wrote", force=force)
    assert error.path == "LICENSE"


def test_a_licence_that_the_new_tree_lacks_goes_only_if_vendor_wrote_it(place: Path) -> None:
    root = lay(place, "old")
    (root / "NOTICE").write_bytes(b"our own notice\n")
    vendor_path(place / "from-new", root)
    assert (root / "NOTICE").read_bytes() == b"our own notice\n"


def test_a_folder_of_ours_gets_the_package_beside_the_rest_when_asked(place: Path) -> None:
    lay(place, "none")
    root = write(place / "t", BESIDE)
    error = refused(place, "holds files that vendor did not put there")
    assert "they stay" in str(error.hint)
    vendor_path(place / "from-new", root, force=True)
    assert own(root) == NEW


@pytest.mark.parametrize(
    "lose",
    [
        lambda source: shutil.rmtree(source),
        lambda source: (source / "toto/model/util.py").write_bytes(UTIL + b"# moved on\n"),
        lambda source: (source / "toto/gone/old.py").unlink(),
        lambda source: source.chmod(0) if os.geteuid() else shutil.rmtree(source / "toto"),
    ],
    ids=["gone", "edited", "a file less", "unreadable"],
)
def test_a_tree_from_a_folder_that_no_longer_has_it_is_not_replaced_unasked(place: Path, lose: object) -> None:
    root = lay(place, "old")
    lose(place / "from-old")
    error = refused(place, "this may be the only copy")
    assert "from-old" in str(error) and "--force" in str(error.hint)
    with pytest.raises(DriftError, match="only copy"):
        vendor_release("0.2.0", root)
    done = vendor_path(place / "from-new", root, force=True)
    # each file whose bytes are gone for good is named
    assert [str(path) for path in done.discarded] == ["LICENSE", "NOTICE", "toto/gone/old.py", "toto/model/util.py"]


def test_the_same_folder_once_more_is_an_update(place: Path) -> None:
    root = lay(place, "old")
    (place / "from-old/toto/model/util.py").write_bytes(UTIL + b"# moved on\n")
    assert vendor_path(place / "from-old", root).changed


def test_a_relative_folder_is_found_again_from_the_lock(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(place, "none")
    monkeypatch.chdir(place)
    done = vendor_path(Path("from-old"), Path("deep/t"))
    assert done.source.details == {"path": "../from-old"}
    monkeypatch.chdir("/")
    assert vendor_path(place / "from-new", place / "deep/t").changed


def test_a_tree_from_a_repository_is_replaced_only_if_that_still_has_the_commit(place: Path) -> None:
    lay(place, "none")
    root, origin = place / "t", place / "from-old"
    git(origin, "init", "-q")
    git(origin, "add", "-A")
    git(origin, "commit", "-q", "-m", "1")
    vendor_git(str(origin), "main", root)
    refused(place, "was not asked whether it still has them")
    # another revision of the repository it came from: that one is asked
    (origin / "toto/model/util.py").write_bytes(UTIL + b"# next\n")
    git(origin, "commit", "-q", "-a", "-m", "2")
    assert vendor_git(str(origin), "main", root).changed
    # its history was rewritten, and the commit is gone
    shutil.rmtree(origin / ".git")
    (origin / "toto/model/util.py").write_bytes(UTIL + b"# other\n")
    git(origin, "init", "-q")
    git(origin, "add", "-A")
    git(origin, "commit", "-q", "-m", "3")
    with pytest.raises(DriftError, match="does not give these bytes again"):
        vendor_git(str(origin), "main", root)
    assert vendor_git(str(origin), "main", root, force=True).discarded


def test_force_names_the_files_that_nobody_else_has(place: Path) -> None:
    root = lay(place, "old")
    write(root, {"toto/mine.py": b"mine\n", "toto/own/deep.bin": bytes(range(256)), "toto/.DS_Store": b"x"})
    (root / "toto/to-etc").symlink_to("/etc")
    (root / "toto/model/util.py").write_bytes(UTIL + b"# mine\n")
    error = refused(place, "the tree was edited")
    for name in ("toto/mine.py (added)", "toto/own/deep.bin (added)", "toto/to-etc (added)"):
        assert name in str(error)
    done = vendor_path(place / "from-new", root, force=True)
    assert {"toto/.DS_Store", "toto/mine.py", "toto/own/deep.bin", "toto/to-etc", "toto/model/util.py"} <= set(
        map(str, done.discarded)
    )
    assert tree_in_force(root) == "new" and not (root / "toto/own").exists()
    assert not (root / "toto/to-etc").is_symlink() and Path("/etc/passwd").exists()


def test_force_over_patches_names_the_original_that_only_the_backup_had(place: Path) -> None:
    root = lay(place, "patched")
    shutil.rmtree(place / "from-old")
    done = vendor_path(place / "from-new", root, force=True)
    assert "toto/model/util.py" in map(str, done.discarded) and "toto/extra/added.py" not in map(str, done.discarded)


@pytest.mark.parametrize("record", ["{}", "not json", '{"schema_version": 99}'])
@pytest.mark.parametrize("name", ["state.json", "journal.json", "prepare.json", "undo.json", "done.json"])
def test_force_gets_past_any_damaged_record(place: Path, name: str, record: str) -> None:
    root = lay(place, "patched")
    (root / ".toto-patch" / name).write_text(record)
    refused(place, "")
    vendor_path(place / "from-new", root, force=True)
    assert tree_in_force(root) == "new" and not (root / ".toto-patch").exists()


@pytest.mark.parametrize("where", [".git", "toto/.git", "toto/model/.git"])
@pytest.mark.parametrize("force", [False, True])
def test_a_repository_in_the_tree_is_never_replaced(place: Path, where: str, force: bool) -> None:
    root = lay(place, "old")
    write(root / where, {"config": b"[core]\n"})
    refused(place, "git checkout of its own", force=force)


@pytest.mark.parametrize("name", ["toto", "toto/model", "toto/model/util.py", "LICENSE", "t.lock.toml"])
@pytest.mark.parametrize("force", [False, True])
def test_nothing_is_written_through_a_link(place: Path, name: str, force: bool) -> None:
    root = lay(place, "old")
    target = place / name if name == "t.lock.toml" else root / name
    elsewhere = place / "elsewhere"
    target.rename(elsewhere)
    target.symlink_to(elsewhere)
    refused(place, "", force=force)


def test_what_looks_like_a_leftover_is_left_alone_and_the_name_of_the_root_is_no_pattern(place: Path) -> None:
    lay(place, "none")
    kept = write(place, {".t.vendor-mine/f": b"1", ".other.vendor-x/f": b"2", ".t.lock.toml.x/f": b"3"})
    before = {name: entry for name, entry in snapshot(kept).items() if name.startswith(".")}
    for name in ("t", "*", "[a-z]", "?"):
        vendor_path(place / "from-old", place / name)
        vendor_path(place / "from-new", place / name)
    assert {name: entry for name, entry in snapshot(kept).items() if name.startswith(".")} == before


def test_bytecode_of_replaced_modules_goes_and_other_bytecode_stays(place: Path) -> None:
    root = lay(place, "old")
    caches = {
        "toto/model/__pycache__/util.cpython-311.pyc": b"stale",
        "toto/gone/__pycache__/old.cpython-311.pyc": b"stale",
        "toto/__pycache__/__init__.cpython-311.pyc": b"fresh",
    }
    write(root, caches)
    vendor_path(place / "from-new", root)
    assert [path.name for path in root.rglob("*.pyc")] == ["__init__.cpython-311.pyc"]
    assert not (root / "toto/gone").exists() and not (root / "toto/model/__pycache__").exists()


def test_modes_of_files_that_are_replaced_stay(place: Path) -> None:
    root = lay(place, "old")
    (root / "toto/model/util.py").chmod(0o640)
    vendor_path(place / "from-new", root)
    assert (root / "toto/model/util.py").stat().st_mode & 0o7777 == 0o640
    assert (root / "toto/fresh/deep/new.json").stat().st_mode & 0o7777 == 0o644


def test_an_interrupted_vendor_is_finished_or_undone_by_the_next_command(place: Path) -> None:
    """The pending lock follows the tree, wherever it stopped; something of that name that is not ours stays."""
    root = lay(place, "old")
    old, pending = (place / "t.lock.toml").read_bytes(), LockFile(root).next
    vendor_path(place / "from-new", root)
    new = (place / "t.lock.toml").read_bytes()
    for stale, other, expected in ((old, new, new), (new, old, new), (old, b"", old), (new, new[:40], new)):
        (place / "t.lock.toml").write_bytes(stale)
        pending.write_bytes(other)
        with transaction.exclusive(root):
            pass
        assert (place / "t.lock.toml").read_bytes() == expected and not pending.exists()
    pending.write_bytes(b"somebody's")
    with transaction.exclusive(root):
        pass
    assert pending.read_bytes() == b"somebody's"
    before = snapshot(place)
    with pytest.raises(UnsafePathError, match="in the way"):
        vendor_path(place / "from-old", root)
    assert snapshot(place) == before


HEAD = vendor_lock.HEADER.encode()


@pytest.mark.parametrize(
    "lock",
    [
        b'lock-version = 1\n[source]\nkind = "path"\npath = "../from-old"\n[files]\n"../../etc/passwd" = "%s"\n'
        % (b"0" * 64),
        b'lock-version = 1\n[source]\nkind = "path"\npath = "../from-old"\n[files]\n"toto/.git/config" = "%s"\n'
        % (b"0" * 64),
        b'lock-version = 1\n[source]\nkind = "path"\npath = "/"\n[files]\n"toto/a.py" = "zero"\n',
        b'lock-version = 1\n[source]\nkind = "path"\npath = "a\\u001b[31m"\n[files]\n',
        b'lock-version = 1\n[source]\nkind = "path"\npath = 1\n[files]\n',
        b'lock-version = 1\n[source]\nkind = "path"\n[files]\n"toto/a.py" = "%s"\n"TOTO/A.py" = "%s"\n'
        % (b"0" * 64, b"1" * 64),
        HEAD + b"\nx = " + b"[" * 50_000,
        HEAD + b"\n" + b"a." * 400_000 + b"b = 1\n",
        HEAD + b"\nx = '" + b"x" * 2_000_000,
        b"\xff\xfe",
    ],
    ids=["climbs", "git", "digest", "escape", "number", "case", "deep", "dotted", "huge", "bytes"],
)
@pytest.mark.parametrize("tree", ["old", "none"])
def test_a_lock_from_a_stranger_is_ignored_or_refused(place: Path, lock: bytes, tree: str) -> None:
    root = lay(place, tree)
    (place / "t.lock.toml").write_bytes(lock)
    before = snapshot(place)
    assert LockFile(root).read() is None
    try:
        vendor_path(place / "from-new", root)
    except RefusedError:
        assert snapshot(place) == before
    else:
        assert tree == "none" and own(root) == NEW and OLD != NEW
