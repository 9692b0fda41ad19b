"""Reads the part of a Toto wheel that is vendored: the package ``toto/`` and its licence files, each checked twice."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import PurePosixPath

from toto_patcher.errors import RefusedError, UnsafePathError
from toto_patcher.patching.files.layout import LICENCE_FILES, PACKAGE
from toto_patcher.patching.vendoring.names import is_git, refuse_faults

MAX_WHEEL_BYTES = 16 * 1024 * 1024
MAX_ENTRIES = 20_000
MAX_UNPACKED_BYTES = 64 * 1024 * 1024
"""A release unpacks to less than 1 MB; more than this is not Toto's wheel."""


def read_wheel(data: bytes, name: str) -> dict[PurePosixPath, bytes]:
    """The files to vendor from one wheel, sorted by path: ``toto/...`` and the licence files at the top.

    Every entry of the archive is checked before any is used, also those that are not kept: a wheel with one bad path is
    not the wheel that was released.

    Args:
        data: the bytes of the wheel.
        name: the wheel's file name, for messages.

    Raises:
        UnsafePathError: an entry leaves the folder, is a link or a device, occurs twice, or has a name that is no plain
            file's of a package.
        RefusedError: not a readable wheel, or a file differs from what the wheel's RECORD says.
    """
    if len(data) > MAX_WHEEL_BYTES:
        raise RefusedError(f"not Toto's wheel: larger than {MAX_WHEEL_BYTES} bytes", path=name, hint=_FETCH_AGAIN)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _kept(archive, name)
    except _DAMAGE as error:
        raise RefusedError(f"not a wheel, or a damaged wheel: {error}", path=name, hint=_FETCH_AGAIN) from error


def _kept(archive: zipfile.ZipFile, name: str) -> dict[PurePosixPath, bytes]:
    entries = _safe_entries(archive, name)
    dist_info = _dist_info(entries, name)
    targets: dict[PurePosixPath, PurePosixPath] = {}
    for path in entries:
        target = _target(path, dist_info)
        if target in targets:
            raise UnsafePathError(f"the entry {str(path)!r} occurs twice", path=name)
        if target is not None:
            targets[target] = path
    refuse_faults(targets, name)
    record = _record(archive.read(entries[dist_info / "RECORD"]), name)
    kept = {target: archive.read(entries[path]) for target, path in sorted(targets.items())}
    for target, content in kept.items():
        _check_against_record(content, record.get(targets[target]), targets[target], name)
    return kept


# Whatever zipfile and its decompressor raise at bytes that are not a well-formed archive.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    OverflowError,
)
_FETCH_AGAIN = "delete the file and fetch it again from PyPI"


def _safe_entries(archive: zipfile.ZipFile, name: str) -> dict[PurePosixPath, zipfile.ZipInfo]:
    entries: dict[PurePosixPath, zipfile.ZipInfo] = {}
    total = 0
    if len(archive.infolist()) > MAX_ENTRIES:
        raise RefusedError(f"holds more than {MAX_ENTRIES} entries", path=name, hint=_FETCH_AGAIN)
    for info in archive.infolist():
        refuse_unsafe_name(info.orig_filename, name)
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UnsafePathError(f"the entry {info.filename!r} is a link or a device, not a file", path=name)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise RefusedError(f"the entry {info.filename!r} is packed in no usual way", path=name, hint=_FETCH_AGAIN)
        total += info.file_size
        if total > MAX_UNPACKED_BYTES:
            raise RefusedError(f"unpacks to more than {MAX_UNPACKED_BYTES} bytes", path=name, hint=_FETCH_AGAIN)
        if info.is_dir():
            continue
        path = PurePosixPath(info.filename)
        if path in entries:
            raise UnsafePathError(f"the entry {info.filename!r} occurs twice", path=name)
        entries[path] = info
    return entries


def refuse_unsafe_name(entry: str, container: str) -> None:
    """Refuses a path from outside that could be written anywhere but below the folder it is meant for.

    Args:
        entry: the path as the archive or the repository spells it.
        container: where the path was read, for the message.

    Raises:
        UnsafePathError: it is absolute, empty, has ``..``, ``.`` or empty parts, a backslash, a drive or a NUL; it has
            a character that no terminal shows, or none of UTF-8; or a file system may take a part of it for ``.git``.
    """
    parts = entry.removesuffix("/").split("/")
    if "\\" in entry or "\0" in entry or ":" in parts[0] or any(part in ("", ".", "..") for part in parts):
        raise UnsafePathError(f"the entry {entry!r} would leave the folder it is unpacked into", path=container)
    if any(is_git(part) for part in parts):
        raise UnsafePathError(f"the entry {entry!r} would be a git repository of its own", path=container)
    if not entry.isprintable():
        raise UnsafePathError(f"the entry {entry!r} has a character that no terminal shows", path=container)


def _dist_info(entries: Mapping[PurePosixPath, zipfile.ZipInfo], name: str) -> PurePosixPath:
    records = [path for path in entries if len(path.parts) == 2 and path.match("*.dist-info/RECORD")]
    if len(records) != 1:
        raise RefusedError(f"a wheel has one RECORD, this one has {len(records)}", path=name, hint=_FETCH_AGAIN)
    return records[0].parent


def _record(data: bytes, name: str) -> dict[PurePosixPath, tuple[str, str]]:
    try:
        rows = list(csv.reader(io.StringIO(data.decode("utf-8"))))
    except (UnicodeDecodeError, csv.Error) as error:
        raise RefusedError(f"its RECORD cannot be read: {error}", path=name, hint=_FETCH_AGAIN) from error
    return {PurePosixPath(row[0]): (row[1], row[2]) for row in rows if len(row) == 3}


def _target(path: PurePosixPath, dist_info: PurePosixPath) -> PurePosixPath | None:
    """Where an entry is laid down, or None for what is left out (``boom/``, metadata)."""
    if path.parts[0] == PACKAGE and len(path.parts) > 1:
        return path
    if path.parent in (dist_info, dist_info / "licenses") and path.name in LICENCE_FILES:
        return PurePosixPath(path.name)
    return None


def _check_against_record(content: bytes, recorded: tuple[str, str] | None, path: PurePosixPath, name: str) -> None:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode("ascii")
    if recorded != (f"sha256={digest}", str(len(content))):
        why = "is not in the wheel's RECORD" if recorded is None else "differs from the wheel's RECORD"
        raise RefusedError(f"{path} {why}", path=name, hint=_FETCH_AGAIN)
