"""One exception for each kind of refusal, each with its exit code and a hint: what, where, why, what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath


class TotoPatchError(Exception):
    """A failure that a user can understand and act on.

    Args:
        message: what is wrong and why, one sentence, no final newline.
        path: the file it is about, relative to the checkout's root where there is one.
        line: the 1-based line in that file.
        hint: what to do next, one sentence.
    """

    exit_code: int = 3
    kind: str = "error"

    def __init__(
        self, message: str, *, path: PurePath | str | None = None, line: int | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.path = None if path is None else str(path)
        self.line = line
        self.hint = hint

    @property
    def where(self) -> str:
        """``file:line`` as editors understand it, or an empty string."""
        if self.path is None:
            return ""
        return self.path if self.line is None else f"{self.path}:{self.line}"

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class UsageError(TotoPatchError):
    """The command line or the configuration is wrong (exit 2)."""

    exit_code = 2
    kind = "usage"


class NoCheckoutError(UsageError):
    """No checkout was named, and none lies where it is expected (exit 2)."""


class InputError(UsageError, ValueError):
    """What a caller of the runtime passed cannot be forecast, or set (exit 2)."""

    kind = "input"


class CheckpointError(UsageError):
    """A checkpoint is missing, incomplete, or of another shape than the tree's model (exit 2)."""

    kind = "checkpoint"


class WarmUpError(TotoPatchError):
    """A forecast of a warm-up failed, or is not what was asked for; its cause is the original (exit 5)."""

    exit_code = 5
    kind = "warm-up"


class RefusedError(TotoPatchError):
    """The checkout cannot be changed safely; nothing was written (exit 3)."""

    exit_code = 3
    kind = "refused"


class UnknownSourceError(RefusedError):
    """A precondition of a patch is not met: this source is not the Toto that the patch was written for."""

    kind = "unknown-source"


class DriftError(RefusedError):
    """A file is neither the original nor what was written: somebody edited it."""

    kind = "drift"


class ConflictError(RefusedError):
    """The selected patches cannot be applied together or do not exist."""

    kind = "conflict"


class UnsafePathError(RefusedError):
    """A path leaves the root, or is not a plain file: symbolic link, hard link, FIFO, device."""

    kind = "unsafe-path"


class BackupError(RefusedError):
    """A backup or the state file is missing or damaged."""

    kind = "backup"


class RefusedGroup(RefusedError):  # noqa: N818 - it is a group of errors, as in ExceptionGroup
    """Every refusal found, reported at once."""

    kind = "refused"

    def __init__(self, refusals: Sequence[RefusedError]) -> None:
        super().__init__(f"{len(refusals)} refusals; nothing was written")
        self.refusals = tuple(refusals)


class StorageError(TotoPatchError):
    """The operating system refused a read or a write; nothing was changed (exit 4)."""

    exit_code = 4
    kind = "io"


class UnfinishedError(TotoPatchError):
    """A change was stopped in the middle: the tree is mixed, or leftovers lie in it, until ``recover`` (exit 6)."""

    exit_code = 6
    kind = "unfinished"


class LockedError(StorageError):
    """Another process is writing to this checkout (exit 4)."""

    kind = "locked"


def refuse_all(refusals: Sequence[RefusedError]) -> None:
    """Raises nothing, the one refusal, or all of them together."""
    if len(refusals) == 1:
        raise refusals[0]
    if refusals:
        raise RefusedGroup(refusals)
