"""Wheels are read entry by entry against their RECORD, and a hostile one is refused before anything is used."""

from __future__ import annotations

import base64
import hashlib
import io
import stat
import zipfile
from collections.abc import Mapping
from pathlib import PurePosixPath

import pytest

from toto_patcher.errors import RefusedError, UnsafePathError
from toto_patcher.patching.vendoring import wheel
from toto_patcher.patching.vendoring.wheel import read_wheel

INFO = "toto_ts-9.dist-info"


def record_line(name: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}\n"


def make_wheel(
    files: Mapping[str, bytes], *, record: str | None = None, extra: Mapping[str | zipfile.ZipInfo, bytes] | None = None
) -> bytes:
    """A wheel with these files and their RECORD (or the given one), and extra entries that RECORD does not list."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        for entry, data in (extra or {}).items():
            archive.writestr(entry, data)
        lines = "".join(record_line(name, data) for name, data in files.items())
        archive.writestr(f"{INFO}/RECORD", lines if record is None else record)
    return buffer.getvalue()


def test_only_the_package_and_its_licences_are_kept() -> None:
    files = {
        "toto/a.py": b"1\n",
        "boom/b.py": b"2\n",
        "totology/c.py": b"3\n",
        f"{INFO}/licenses/LICENSE": b"L",
        f"{INFO}/NOTICE": b"N",
        f"{INFO}/METADATA": b"M",
    }
    assert read_wheel(make_wheel(files), "w.whl") == {
        PurePosixPath("LICENSE"): b"L",
        PurePosixPath("NOTICE"): b"N",
        PurePosixPath("toto/a.py"): b"1\n",
    }


@pytest.mark.parametrize(
    "name",
    ["../evil.py", "toto/../../evil.py", "/etc/evil", "toto//a.py", "toto\\..\\evil.py", "C:/evil.py", "toto/./a.py"],
)
def test_an_entry_that_leaves_the_folder_refuses_the_whole_wheel(name: str) -> None:
    with pytest.raises(UnsafePathError, match="would leave the folder"):
        read_wheel(make_wheel({"toto/a.py": b""}, extra={name: b"evil"}), "w.whl")


def test_a_symbolic_link_in_the_wheel_is_refused() -> None:
    link = zipfile.ZipInfo("toto/link.py")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(UnsafePathError, match="link or a device"):
        read_wheel(make_wheel({"toto/a.py": b""}, extra={link: b"/etc/passwd"}), "w.whl")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_entry_that_occurs_twice_is_refused() -> None:
    with pytest.raises(UnsafePathError, match="twice"):
        read_wheel(make_wheel({"toto/a.py": b"1"}, extra={"toto/a.py": b"2"}), "w.whl")


def test_a_file_that_differs_from_record_is_refused_by_name() -> None:
    data = make_wheel({"toto/a.py": b"edited"}, record=record_line("toto/a.py", b"origin"))
    with pytest.raises(RefusedError, match=r"toto/a\.py differs from the wheel's RECORD"):
        read_wheel(data, "w.whl")


def test_a_file_that_record_does_not_list_is_refused_by_name() -> None:
    with pytest.raises(RefusedError, match=r"toto/b\.py is not in the wheel's RECORD"):
        read_wheel(make_wheel({"toto/a.py": b""}, extra={"toto/b.py": b""}), "w.whl")


def test_a_wheel_that_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel, "MAX_UNPACKED_BYTES", 100)
    with pytest.raises(RefusedError, match="unpacks to more than 100 bytes"):
        read_wheel(make_wheel({"toto/a.py": b"x" * 101}), "w.whl")


@pytest.mark.parametrize("data", [b"", b"not a zip", b"PK\x05\x06" + b"\0" * 18])
def test_what_is_no_wheel_is_refused(data: bytes) -> None:
    with pytest.raises(RefusedError, match=r"not a wheel|one RECORD"):
        read_wheel(data, "w.whl")


def test_a_damaged_entry_is_refused() -> None:
    data = make_wheel({"toto/a.py": b"unmistakable"})
    with pytest.raises(RefusedError, match="damaged wheel"):
        read_wheel(data.replace(b"unmistakable", b"unmistakeable"[:12], 1), "w.whl")


@pytest.mark.parametrize(
    "name",
    ["toto/.git/config", "toto/a\x1b[31m.py", "toto/a\nb.py", "toto/__pycache__/a.pyc", "toto/A.PY", "toto/a.py/b.py"],
)
def test_an_entry_that_is_no_plain_file_of_a_package_refuses_the_whole_wheel(name: str) -> None:
    with pytest.raises(UnsafePathError):
        read_wheel(make_wheel({"toto/a.py": b"", name: b"evil"}), "w.whl")


def test_a_licence_that_occurs_in_both_its_places_is_refused() -> None:
    with pytest.raises(UnsafePathError, match="twice"):
        read_wheel(make_wheel({f"{INFO}/LICENSE": b"1", f"{INFO}/licenses/LICENSE": b"2"}), "w.whl")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_compression_is_refused(method: int) -> None:
    entry = zipfile.ZipInfo("toto/b.py")
    entry.compress_type = method
    with pytest.raises(RefusedError, match="packed in no usual way"):
        read_wheel(make_wheel({"toto/a.py": b""}, extra={entry: b"x" * 1000}), "w.whl")


def test_deflated_bytes_that_cannot_be_inflated_are_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("toto/a.py", b"abc" * 1000)
        archive.writestr(f"{INFO}/RECORD", record_line("toto/a.py", b"abc" * 1000))
    data = bytearray(buffer.getvalue())
    at = data.index(b"toto/a.py") + len("toto/a.py")
    data[at : at + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(RefusedError, match="damaged wheel"):
        read_wheel(bytes(data), "w.whl")


def test_a_wheel_that_is_too_large_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel, "MAX_WHEEL_BYTES", 100)
    with pytest.raises(RefusedError, match="larger than 100 bytes"):
        read_wheel(make_wheel({"toto/a.py": b"x" * 101}), "w.whl")
