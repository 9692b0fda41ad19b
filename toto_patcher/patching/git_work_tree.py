"""Which files of a checkout differ from a commit, found by comparing hashes: `git status` would run filters for it."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from toto_patcher.errors import UnsafePathError
from toto_patcher.patching.files.safe_files import Tree
from toto_patcher.patching.git_program import ask

_LARGEST = 64 * 1024 * 1024
"""Bytes of a file that is read. A package has no bigger one."""


@dataclass(frozen=True)
class _Entry:
    """A file as git's index has it, relative to the checkout."""

    name: str
    mode: str
    blob: str
    merged: bool
    skipped: bool


def staged(root: Path, commit: str | None, *, everywhere: bool) -> tuple[str, ...]:
    """The files whose entry in the index differs from HEAD's, relative to the repository.

    Args:
        root: the checkout.
        commit: HEAD's hash, ``None`` before the first commit.
        everywhere: in the whole repository, not in the checkout alone.
    """
    where = () if everywhere else ("--", ".")
    if commit is None:
        top = ask(root, "rev-parse", "--show-cdup")[1].decode().strip() if everywhere else ""
        return _names(ask(root / top, "ls-files", "--full-name", "-z")[1])
    options = ("--cached", "--name-only", "-z", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-relative")
    return _names(ask(root, "diff-index", *options, commit, *where)[1])


def modified(root: Path, commit: str | None) -> tuple[tuple[str, ...], int]:
    """The tracked files of a checkout that differ from HEAD, and how many were not compared.

    Those are the files that git rewrites by a filter, which is not run, and those that are too big for a source.

    Returns:
        Paths relative to the repository, sorted; and the count.
    """
    found = set(staged(root, commit, everywhere=False))
    prefix = os.fsdecode(ask(root, "rev-parse", "--show-prefix")[1].rstrip(b"\n"))
    modes = _setting(root, "core.fileMode") != "false"
    with Tree(root) as tree:
        told = {entry.name: _compare(tree, entry, modes) for entry in _entries(root)}
    changed = {name for name, kind in told.items() if kind == "changed"}
    endings = {name for name, kind in told.items() if kind == "endings"}
    if _setting(root, "core.autocrlf") in ("true", "input"):
        endings = set()
    changed |= endings - _with_attribute(root, endings, "text", "eol")
    untold = _with_attribute(root, changed, "filter", "working-tree-encoding", "ident")
    found |= {prefix + name for name in changed - untold}
    return tuple(sorted(found)), len(untold) + sum(kind == "too big" for kind in told.values())


def is_same(blob: bytes | None, data: bytes | None) -> bool:
    """Whether a file's bytes are what git has of it, which may be with LF where the file has CRLF."""
    if blob is None or data is None:
        return blob is data
    return data == blob or data.replace(b"\r\n", b"\n") == blob.replace(b"\r\n", b"\n")


def _entries(root: Path) -> list[_Entry]:
    found = []
    for line in ask(root, "ls-files", "--stage", "-t", "-z", "--", ".")[1].split(b"\0"):
        if line:
            meta, _, name = line.partition(b"\t")
            tag, mode, blob, stage = meta.decode("ascii").split(" ")
            found.append(_Entry(os.fsdecode(name), mode, blob, stage == "0", tag == "S"))
    return found


def _compare(tree: Tree, entry: _Entry, modes: bool) -> Literal["same", "changed", "endings", "too big"]:
    """How a file stands to what the index has of it; ``endings`` is that it is the same but for CRLF."""
    if not entry.merged:
        return "changed"
    if entry.skipped or entry.mode == "160000":  # outside of a sparse checkout; another repository
        return "same"
    path = PurePosixPath(entry.name)
    try:
        status = tree.status(path)
        if status is None:
            return "changed"
        if entry.mode == "120000":
            link = stat.S_ISLNK(status.st_mode)
            return "same" if link and _blob(_target(tree, path), entry) == entry.blob else "changed"
        if not stat.S_ISREG(status.st_mode):
            return "changed"
        if modes and bool(status.st_mode & stat.S_IXUSR) != (entry.mode == "100755"):
            return "changed"
        if status.st_size > _LARGEST:
            return "too big"
        data = tree.read(path) or b""
    except (UnsafePathError, OSError):
        return "changed"  # a link or something else in the place of a folder or a file, or nothing that we may read
    if _blob(data, entry) == entry.blob:
        return "same"
    return "endings" if _blob(data.replace(b"\r\n", b"\n"), entry) == entry.blob else "changed"


def _target(tree: Tree, path: PurePosixPath) -> bytes:
    return os.fsencode(os.readlink(path.name, dir_fd=tree.folder(path.parent)))


def _blob(data: bytes, entry: _Entry) -> str:
    """The hash that git gives these bytes."""
    digest = hashlib.sha256() if len(entry.blob) == 64 else hashlib.sha1(usedforsecurity=False)
    digest.update(b"blob %d\0" % len(data) + data)
    return digest.hexdigest()


def _with_attribute(root: Path, names: set[str], *attributes: str) -> set[str]:
    """Those of these files that have one of these attributes."""
    if not names:
        return set()
    given = b"".join(os.fsencode(name) + b"\0" for name in names)
    told = ask(root, "check-attr", "-z", "--stdin", *attributes, given=given)[1].split(b"\0")
    triples = zip(told[::3], told[1::3], told[2::3], strict=False)
    return {os.fsdecode(name) for name, _, value in triples if value not in (b"unspecified", b"unset")}


def _setting(root: Path, name: str) -> str:
    return ask(root, "config", "--get", name, fine=(0, 1))[1].decode(errors="replace").strip().lower()


def _names(told: bytes) -> tuple[str, ...]:
    return tuple(os.fsdecode(name) for name in told.split(b"\0") if name)
