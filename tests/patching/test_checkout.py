"""Finding the tree, its sources, and the file that defines a class."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path, PurePosixPath

import pytest

from toto_patcher.errors import UnknownSourceError, UnsafePathError, UsageError
from toto_patcher.patching.checkout import Checkout


def write(root: Path, name: str, text: str) -> PurePosixPath:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return PurePosixPath(name)


def test_sources_are_python_files_outside_of_tests_and_hidden_folders(tmp_path: Path) -> None:
    for name in ("b/model.py", "a.py", "toto/test/x.py", ".toto-patch/y.py", "a/__pycache__/z.py", "notes.md"):
        write(tmp_path, name, "")
    assert Checkout.open(tmp_path).sources == (PurePosixPath("a.py"), PurePosixPath("b/model.py"))


def test_a_missing_root_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        Checkout.open(tmp_path / "absent")


def test_definitions_name_file_and_line_of_every_class_statement(tmp_path: Path) -> None:
    write(tmp_path, "one.py", "import x\n\nclass KVCache:\n    pass\n")
    write(tmp_path, "two.py", "if True:\n    class KVCache(dict): ...\n")
    write(tmp_path, "three.py", "# class KVCache:\nfrom one import KVCache\nclass KVCacheView: ...\n")
    found = [(str(place.path), place.line) for place in Checkout.open(tmp_path).definitions("KVCache")]
    assert found == [("one.py", 3), ("two.py", 2)]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"class KVCache:\n    def broken(:\n", "syntax error"),
        (b"class KVCache:\n    name = '\xff'\n", "syntax error|cannot be decoded"),
        (b"# -*- coding: no-such-codec -*-\nclass KVCache: ...\n", "syntax error|cannot be decoded"),
    ],
)
def test_a_file_that_does_not_parse_is_refused_by_name(tmp_path: Path, source: bytes, message: str) -> None:
    (tmp_path / "util.py").write_bytes(source)
    with pytest.raises(UnknownSourceError, match=message) as refusal:
        Checkout.open(tmp_path).definitions("KVCache")
    assert refusal.value.path == "util.py"
    assert refusal.value.line is not None


def test_overrides_are_read_in_place_of_the_disk(tmp_path: Path) -> None:
    path = write(tmp_path, "util.py", "patched = True\n")
    assert Checkout.open(tmp_path).with_sources({path: b"class KVCache: ...\n"}).definitions("KVCache")[0].path == path


@pytest.mark.parametrize("kind", ["fifo", "device", "socket"])
def test_what_is_not_a_plain_file_is_refused_and_never_waited_for(tmp_path: Path, kind: str) -> None:
    trap = tmp_path / "util.py"
    listener = socket.socket(socket.AF_UNIX)
    if kind == "fifo":
        os.mkfifo(trap)
    elif kind == "device":
        trap.symlink_to("/dev/zero")
    else:
        folder = os.open(tmp_path, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{folder}/util.py")  # the path itself may be too long for a socket
        os.close(folder)
    with listener, pytest.raises(UnsafePathError, match="not a plain file") as refusal:
        Checkout.open(tmp_path).definitions("KVCache")
    assert refusal.value.path == "util.py"


def test_the_lock_files_of_editors_are_no_sources(tmp_path: Path) -> None:
    (tmp_path / ".#util.py").symlink_to("somebody@somewhere")
    (tmp_path / "gone.py").symlink_to("nowhere.py")
    assert Checkout.open(tmp_path).sources == ()


@pytest.mark.parametrize(
    "filler",
    ["\n", "\r\n", "\r", " \n", "\t", "\f\n", "class \n", "class\tKVCach\n", "\n class "],
    ids=repr,
)
def test_the_search_for_a_class_is_linear(filler: str, tmp_path: Path) -> None:
    def seconds(count: int) -> float:
        write(tmp_path, "long.py", "# KVCache\n" + filler * count)
        tree = Checkout.open(tmp_path)
        begin = time.perf_counter()
        assert tree.definitions("KVCache") == []
        return time.perf_counter() - begin

    assert seconds(40_000) < 40 * seconds(4_000) + 1  # ten times as long, or a hundred times where it is quadratic


@pytest.mark.parametrize("before", ["", "\n", " \f\n", "\n\n\t\n", "x = 1\n\f", "if 1:\n \t", "#\r", "\\\n"], ids=repr)
def test_white_space_before_a_class_hides_it_from_nobody(before: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(f"{before}class \t KVCache: ...\n".encode())
    assert len(Checkout.open(tmp_path).definitions("KVCache")) == 1
