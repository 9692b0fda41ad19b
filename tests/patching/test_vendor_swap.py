"""The swap of a vendored tree: an error or a kill at any point leaves it wholly old or wholly new, never in between."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from toto_patcher.errors import LockedError, StorageError
from toto_patcher.patching.change import fingerprint
from toto_patcher.patching.vendor import vendor_release
from toto_patcher.patching.vendoring import vendor_lock, vendor_tree
from toto_patcher.patching.vendoring.releases import pinned_release

OLD, NEW = "0.1.3", "0.2.0"


def release_on_disk(dest: Path) -> str | None:
    """The release whose files, all of them and no others, lie there."""
    if not dest.exists():
        return None
    found = {
        path.relative_to(dest).as_posix(): fingerprint(path.read_bytes()) for path in dest.rglob("*") if path.is_file()
    }
    for version in (OLD, NEW):
        if found == {path.as_posix(): digest for path, digest in pinned_release(version).files.items()}:
            return version
    raise AssertionError(f"half a tree: {sorted(found)}")


def release_in_lock(dest: Path) -> str | None:
    lock = vendor_lock.parse((dest.parent / "toto.lock.toml").read_bytes())
    assert lock is not None
    return lock.release


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return vendor_release(OLD, tmp_path / "vendor" / "toto").root


def failing(function: Callable[..., object], on_call: int, act: Callable[[], object]) -> Callable[..., object]:
    """The function, but for one call, which does something else first."""
    calls = 0

    def wrapper(*arguments: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls == on_call:
            act()
        return function(*arguments, **options)

    return wrapper


def disk_full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


STEPS = [
    (vendor_tree, "_write", 1),
    (vendor_tree, "_write", 20),
    (vendor_tree, "_write", len(pinned_release(NEW).files) + 1),
    (vendor_tree, "_sync", 1),
    (vendor_tree, "_swap_in", 1),
    (Path, "replace", 1),
]


@pytest.mark.parametrize(
    ("exchanges", "owner", "name", "call"),
    [
        *((True, *step) for step in STEPS),
        *((False, *step) for step in STEPS),
        (True, vendor_tree, "_exchange", 1),
        (False, Path, "rename", 1),
        (False, Path, "rename", 2),
    ],
)
def test_an_error_at_any_step_leaves_tree_and_lock_as_they_were(
    dest: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool, owner: object, name: str, call: int
) -> None:
    before = (dest.parent / "toto.lock.toml").read_bytes()
    if not exchanges:
        monkeypatch.setattr(vendor_tree, "_exchange", lambda one, other: False)
    monkeypatch.setattr(owner, name, failing(getattr(owner, name), call, disk_full))
    with pytest.raises(StorageError, match="No space left on device; nothing was changed"):
        vendor_release(NEW, dest)
    assert release_on_disk(dest) == OLD
    assert (dest.parent / "toto.lock.toml").read_bytes() == before
    assert names(dest.parent) == {"toto", "toto.lock.toml"}


def test_an_error_while_filling_an_empty_place_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dest = tmp_path / "vendor" / "toto"
    vendor_release(OLD, tmp_path / "warm" / "toto")  # so that the only replace() left is the lock's
    monkeypatch.setattr(Path, "replace", failing(Path.replace, 1, disk_full))
    with pytest.raises(StorageError):
        vendor_release(NEW, dest)
    assert names(dest.parent) == set()


@pytest.mark.parametrize("exchanges", [True, False], ids=["exchange", "two-renames"])
@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        ("vendor_tree", "_write", 20),
        ("vendor_tree", "_swap_in", 1),
        ("Path", "rename", 1),
        ("Path", "rename", 2),
        ("Path", "replace", 1),
        ("vendor_tree.shutil", "rmtree", 1),
    ],
)
def test_a_kill_at_any_step_is_made_whole_by_the_next_run(
    dest: Path, exchanges: bool, owner: str, name: str, call: int
) -> None:
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from test_vendor_swap import failing\n"
        "from toto_patcher.patching import vendor\nfrom toto_patcher.patching.vendoring import vendor_tree\n"
        f"if not {exchanges}: vendor_tree._exchange = lambda one, other: False\n"
        "def die(): os.kill(os.getpid(), signal.SIGKILL)\n"
        f"{owner}.{name} = failing({owner}.{name}, {call}, die)\n"
        f"vendor.vendor_release({NEW!r}, Path(sys.argv[1]))\n"
    )
    here = Path(__file__).resolve().parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parents[1])])}
    done = subprocess.run([sys.executable, "-c", code, dest], env=environment, capture_output=True, check=False)
    if exchanges and name == "rename":
        assert done.returncode == 0, "an exchange renames nothing, so nobody was killed"
    else:
        assert done.returncode == -signal.SIGKILL, done.stderr
    after = release_on_disk(dest)
    between_two_renames = not exchanges and name == "rename" and call == 2
    assert after in ((None,) if between_two_renames else (OLD, NEW))

    # The next run is told the same thing as before the kill or the other one: both end whole, with no leftovers.
    with vendor_tree.exclusive(dest, dest.parent / "toto.lock.toml"):
        pass
    assert release_on_disk(dest) == (OLD if after is None else after)
    assert release_in_lock(dest) == release_on_disk(dest)
    assert names(dest.parent) == {"toto", "toto.lock.toml"}
    assert vendor_release(OLD, dest).release == release_on_disk(dest) == release_in_lock(dest) == OLD


def test_a_tree_that_changes_while_the_new_one_is_built_is_kept(dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def edit() -> None:
        (dest / "toto" / "mine.py").write_text("just now")

    monkeypatch.setattr(vendor_tree, "_write", failing(vendor_tree._write, 5, edit))
    with pytest.raises(LockedError, match="changed while"):
        vendor_release(NEW, dest)
    assert (dest / "toto" / "mine.py").read_text() == "just now"
    assert names(dest.parent) == {"toto", "toto.lock.toml"}


def test_nothing_but_tree_and_lock_is_touched(dest: Path) -> None:
    beside = dest.parent / "toto2"
    beside.mkdir()
    (beside / "keep.py").write_text("keep")
    (dest.parent / ".toto.vendors").write_text("keep")
    vendor_release(NEW, dest)
    assert (beside / "keep.py").read_text() == (dest.parent / ".toto.vendors").read_text() == "keep"
    assert names(dest.parent) == {"toto", "toto.lock.toml", "toto2", ".toto.vendors"}
