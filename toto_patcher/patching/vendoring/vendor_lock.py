"""The lock file beside a vendored tree: where the tree came from and the sha256 of each of its files. Pure text."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from toto_patcher import __version__
from toto_patcher.patching.vendoring.names import fault

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]  # only installed where it is needed

LOCK_VERSION = 1
HEADER = "# Written by `toto-patch vendor`: what lies in the folder of the same name. Do not edit."
_TEXT = r'"(?:[^"\\]|\\.)*"'
# The only lines there are. What else TOML allows is not asked for, and can take its reader minutes.
_LINE = re.compile(rf"\s*(?:#.*|\[[a-z]+\]|(?:{_TEXT}|[\w-]+)\s*=\s*(?:{_TEXT}|\d{{1,9}})\s*)?")
_DIGEST = re.compile(r"[0-9a-f]{64}")
SourceKind = Literal["release", "git", "path"]


@dataclass(frozen=True)
class Source:
    """Where a vendored tree came from.

    Attributes:
        kind: a pinned release, a git revision, or a folder.
        details: what identifies it, in the order in which it is written: ``version, wheel, sha256`` for a release,
            ``url, rev, commit`` for git (rev as asked for, commit in full), ``path`` for a folder.
    """

    kind: SourceKind
    details: Mapping[str, str]


@dataclass(frozen=True)
class Lock:
    """The content of ``<dest>.lock.toml``.

    Attributes:
        source: where the tree came from.
        release: the pinned release that the files are identical to, if any.
        files: path below the tree's root -> sha256.
    """

    source: Source
    release: str | None
    files: Mapping[PurePosixPath, str]


def render(lock: Lock) -> bytes:
    """The lock as TOML. The same lock gives the same bytes."""
    lines = [
        HEADER,
        f"lock-version = {LOCK_VERSION}",
        f"tool = {_string(f'toto-patch {__version__}')}",
    ]
    if lock.release is not None:
        lines.append(f"release = {_string(lock.release)}")
    lines += ["", "[source]", f"kind = {_string(lock.source.kind)}"]
    lines += [f"{key} = {_string(value)}" for key, value in lock.source.details.items()]
    lines += ["", "[files]"]
    lines += [f"{_string(path.as_posix())} = {_string(digest)}" for path, digest in sorted(lock.files.items())]
    return ("\n".join(lines) + "\n").encode("utf-8")


def parse(data: bytes) -> Lock | None:
    """The lock in these bytes, or None where they are not one: damaged, of another format version, or a stranger's.

    A lock is cloned with a repository. It names files of the package and its licences only, and nothing but texts.
    """
    try:
        text = data.decode("utf-8")
        if not all(_LINE.fullmatch(line) for line in text.splitlines()):
            return None
        document = tomllib.loads(text)
        if document["lock-version"] != LOCK_VERSION or document["source"]["kind"] not in ("release", "git", "path"):
            return None
        details = {key: _text(value) for key, value in document["source"].items() if key != "kind"}
        files = {PurePosixPath(path): _digest(digest) for path, digest in document["files"].items()}
        if fault(document["files"]) is not None:
            return None
        release = document.get("release")
        return Lock(Source(document["source"]["kind"], details), None if release is None else _text(release), files)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError("not a plain text")
    return value


def _digest(value: object) -> str:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise ValueError("not a sha256")
    return value


def _string(text: str) -> str:
    # A JSON string is a TOML basic string, but for DEL, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
