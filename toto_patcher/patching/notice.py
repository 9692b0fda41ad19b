"""The line that says a file was changed by toto-patch. Without libcst, so that commands that only look can know it."""

from __future__ import annotations

from pathlib import PurePosixPath

from toto_patcher.errors import UnknownSourceError

NOTICE_MARK = "# Changed by toto-patch ("


def unrecorded(source: bytes, path: PurePosixPath) -> UnknownSourceError | None:
    """The refusal of a file that carries the notice though it is taken for an original; ``None`` without notice."""
    at = source.find(NOTICE_MARK.encode())
    if at < 0:
        return None
    return UnknownSourceError(
        "the file was changed by toto-patch, but there is no record of its original",
        path=path,
        line=1 + source.count(b"\n", 0, at),
        hint="Put the original back (git checkout, or toto-patch vendor --force), then apply again.",
    )
