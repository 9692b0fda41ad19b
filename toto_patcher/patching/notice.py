"""What marks a file as changed or added by toto-patch. Without libcst, so that commands that only look know it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from toto_patcher.errors import UnknownSourceError
from toto_patcher.patching.declarations import inserted_methods

NOTICE_MARK = "# Changed by toto-patch ("
ADDED_MARK = "# Added by toto-patch ("
_NOTICE = re.compile(rb"^# (Changed|Added) by toto-patch \(([a-z0-9, -]*)\)", re.MULTILINE)


@dataclass(frozen=True)
class Trace:
    """A sign in a file that toto-patch wrote it.

    Attributes:
        path: the file.
        line: where the sign is, 1-based.
        patches: ids of the patches that it names, or whose code is in the file.
        added: the whole file is from a patch.
        noticed: by the notice at its top; else by the code itself.
    """

    path: PurePosixPath
    line: int
    patches: tuple[str, ...]
    added: bool = False
    noticed: bool = True


def trace(source: bytes, path: PurePosixPath) -> Trace | None:
    """The sign that toto-patch wrote a file: its notice or, where that was taken out, the code of a patch."""
    if b"toto-patch (" in source and (found := _NOTICE.search(source)):
        ids = tuple(part.strip() for part in found[2].decode().split(",") if part.strip())
        return Trace(path, 1 + source.count(b"\n", 0, found.start()), ids, added=found[1] == b"Added")
    for patch_id, names in inserted_methods().items():
        if all(name in source for name in names):
            lines = [re.search(rb"^[ \t]*def " + name + rb"\(", source, re.MULTILINE) for name in names]
            if all(lines):
                at = min(match.start() for match in lines if match)
                return Trace(path, 1 + source.count(b"\n", 0, at), (patch_id,), noticed=False)
    return None


def unrecorded(found: Trace) -> UnknownSourceError:
    """The refusal of a file that toto-patch wrote and that no record speaks of."""
    what = "added" if found.added else "changed"
    return UnknownSourceError(
        f"the file was {what} by toto-patch ({', '.join(found.patches)}), but there is no record of "
        f"{'it' if found.added else 'its original'}",
        path=found.path,
        line=found.line,
        hint="`toto-patch adopt` makes the record again if the bytes are its own. Else put the originals back (git "
        "checkout, or toto-patch vendor --force), then apply again.",
    )
