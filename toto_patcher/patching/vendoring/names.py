"""Which files a vendored tree has: those of the package ``toto/`` and its licences, under names that are plain."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from toto_patcher.errors import UnsafePathError
from toto_patcher.patching.record_rules import CODE_WITHOUT_SOURCE, is_vendored

MAX_FILES = 5000
"""A release has 45."""


def fault(names: Iterable[str]) -> tuple[str, str] | None:
    """The first name that no vendored file may have, and why; ``None`` where all are right.

    Args:
        names: paths below the tree's root, with forward slashes, each as it was spelled where it was read.
    """
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for number, name in enumerate(names):
        why = _fault_of(name)
        if number >= MAX_FILES:
            why = f"comes after {MAX_FILES} others, which is more than a package of Toto has"
        folded = name.casefold()
        if why is None and folded in seen:
            why = f"is the same name as {seen[folded]!r} where upper and lower case are one"
        if why is not None:
            return name, why
        seen[folded] = name
        for parent in PurePosixPath(folded).parents:
            folders.setdefault(str(parent), name)
    both = next((folded for folded in seen if folded in folders), None)
    return None if both is None else (seen[both], f"is a file, and a folder in {folders[both]!r}")


def refuse_faults(files: Mapping[PurePosixPath, object], where: str) -> None:
    """Refuses files that are not those of a package.

    Raises:
        UnsafePathError: with the first name that is wrong, and why.
    """
    found = fault(path.as_posix() for path in files)
    if found is not None:
        raise UnsafePathError(f"the entry {found[0]!r} {found[1]}", path=where, hint="vendor takes plain names only")


def is_git(part: str) -> bool:
    """Whether some file system takes a name for ``.git``: HFS drops characters that do not show, NTFS what trails.

    NTFS also knows a file by a short name, and by the name of its stream after a colon.
    """
    seen = "".join(letter for letter in part if unicodedata.category(letter) not in ("Cf", "Cc"))
    return seen.casefold().partition(":")[0].rstrip(". ") in (".git", "git~1")


def _fault_of(name: str) -> str | None:
    path = PurePosixPath(name)
    if str(path) != name or path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
        return "is not a plain relative path"
    if not name.isprintable():
        return "has a character that no terminal shows"
    if not path.parts or not is_vendored(path):
        return "is neither of the package toto/ nor a licence"
    if any(is_git(part) for part in path.parts):
        return "would be a git repository of its own"
    if any(part.startswith(".") or part == "__pycache__" for part in path.parts):
        return "is hidden, and so no part of a package"
    if path.suffix.lower() in CODE_WITHOUT_SOURCE:
        return "is code that Python runs without its source"
    if any(len(part.encode()) > 200 for part in path.parts) or len(name.encode()) > 1000:
        return "is longer than a file system takes"
    return None
