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
from toto_patcher.patching import vendor_lock, vendor_tree
from toto_patcher.patching.change import fingerprint
from toto_patcher.patching.releases import pinned_release
from toto_patcher.patching.vendor import vendor_release

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


@pytest.mark.parametrize("exchanges", [True, False], ids=["exchange", "two-renames"])
@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (vendor_tree, "_write", 1),
        (vendor_tree, "_write", 20),
        (vendor_tree, "_write", len(pinned_release(NEW).files) + 1),
        (vendor_tree, "_sync", 1),
        (vendor_tree, "_swap_in", 1),
        (Path, "rename", 1),
        (Path, "rename", 2),
        (Path, "replace", 1),
    ],
)
def test_an_error_at_any_step_leaves_tree_and_lock_as_they_were(
    dest: Path, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, call: int, exchanges: bool
) -> None:
    if exchanges and name == "rename":
        pytest.param  # an exchange renames nothing: covered by the other half of the matrix
    if not exchanges:
        monkeypatch.setattr(vendor_tree, "_exchange", lambda one, other: False)
    lock = (dest.parent / "toto.lock.toml").read_bytes()
    monkeypatch.setattr(owner, name, failing(getattr(owner, name), call, disk_full))
    with pytest.raises(StorageError, match="No space left on device; nothing was changed"):
        vendor_release(NEW, dest)
    monkeypatch.undo()
    assert release_on_disk(dest) == OLD
    assert (dest.parent / "toto.lock.toml").read_bytes() == lock
    assert names(dest.parent) == {"toto", "toto.lock.toml"}
