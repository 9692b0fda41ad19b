"""What marks a file as changed or added by toto-patch. Without libcst, so that commands that only look know it."""

from __future__ import annotations

from pathlib import PurePosixPath

from toto_patcher.errors import UnknownSourceError

NOTICE_MARK = "# Changed by toto-patch ("
ADDED_MARK = "# Added by toto-patch ("


def unrecorded(source: bytes, path: PurePosixPath) -> UnknownSourceError | None:
    """The refusal of a file that carries the notice though it is taken for an original; ``None`` without notice."""
    at = source.find(NOTICE_MARK.encode())
    if at < 0:
        if not source.startswith(ADDED_MARK.encode()):
            return None
        message, hint = "the file was added by toto-patch, but there is no record of it", "Remove it, then apply again."
        return UnknownSourceError(message, path=path, line=1, hint=hint)
    return UnknownSourceError(
        "the file was changed by toto-patch, but there is no record of its original",
        path=path,
        line=1 + source.count(b"\n", 0, at),
        hint="Put the original back (git checkout, or toto-patch vendor --force), then apply again.",
    )
