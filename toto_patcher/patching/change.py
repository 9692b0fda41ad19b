"""What a selection would do to a checkout: plain, frozen data that planner, transaction and reports share."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


def fingerprint(data: bytes) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class FileChange:
    """One file of a plan.

    Attributes:
        path: relative to the checkout's root, with forward slashes.
        pristine: the original bytes; ``None`` for a file that patches add.
        before: the bytes on disk now; ``None`` where there is no file.
        after: the bytes to write; ``None`` to remove the file.
        patches: ids of the patches that touch the file in the new selection, in order; empty when it goes back.
    """

    path: PurePosixPath
    pristine: bytes | None
    before: bytes | None
    after: bytes | None
    patches: tuple[str, ...] = ()

    @property
    def is_noop(self) -> bool:
        """True when the bytes on disk are already those to write."""
        return self.before == self.after


@dataclass(frozen=True)
class Plan:
    """What a selection would do to a checkout, file by file. Computing one writes nothing.

    Attributes:
        root: the checkout's folder, absolute.
        changes: every file that differs from its original now or afterwards, sorted by path.
        patches: ids of the patches in force afterwards, in order; empty for a revert.
        profile: the profile they came from, if a profile was named.
        notes: what was left as it is, and why: look-alikes, and patches that have nothing to change here.
    """

    root: Path
    changes: tuple[FileChange, ...]
    patches: tuple[str, ...]
    profile: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def pending(self) -> tuple[FileChange, ...]:
        """The changes that would write something."""
        return tuple(change for change in self.changes if not change.is_noop)
