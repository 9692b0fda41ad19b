"""What a record may say. ``.toto-patch/`` may come with somebody else's tree, so nothing in it is believed unchecked.

Everything that is read from there passes through these rules once, when it is parsed (``state.py``). A record can name
files of the vendored package and nothing else: no hidden folder (``.git/hooks``), no bytecode, no way out of the root.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from toto_patcher.patching.files.layout import FOLDER, LICENCE_FILES, PACKAGE

SHA256 = re.compile(r"[0-9a-f]{64}")
TEMPORARY = re.compile(r"\.toto-patch-[0-9a-f]{16}-[0-9]{1,6}\.tmp")
_PATCH_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_COMMIT = re.compile(r"[0-9a-f]{4,64}")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,15}(Z|[+-][0-9]{2}:[0-9]{2})|")

_LONGEST, _DEEPEST = 1000, 64
"""No path of a package has as many characters or folders; one that has costs more than its reader can spend."""

_MODE_BITS = 0o777
CODE_WITHOUT_SOURCE = frozenset({".pyc", ".pyo", ".so", ".pyd", ".pth", ".dll", ".dylib"})
_NO_SOURCES = frozenset({"__pycache__", "site-packages"})
"""Folders in which no source of a checkout lies."""


def must(holds: bool, name: str, fault: str) -> None:
    """Raises ``ValueError`` with the field's name where something does not hold."""
    if not holds:
        raise ValueError(f"{name}: {fault}")


def check_relative(path: str) -> str:
    """Returns a path that stays below the root and out of ``.toto-patch``, in its one normal spelling.

    Raises:
        ValueError: it is absolute, climbs with ``..``, has a second spelling, cannot be written as UTF-8, or is longer
            or deeper than any path of a package.
    """
    if len(path) >= _LONGEST or path.count("/") >= _DEEPEST:
        raise ValueError(f"{path[:40]!r}... is longer than any path of a package")
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts:
        raise ValueError(f"{path!r} leaves the root")
    if not pure.parts or str(pure) != path or "\0" in path:
        raise ValueError(f"{path!r} is not a plain relative path")
    if pure.parts[0] == FOLDER.name:
        raise ValueError(f"{path!r} lies in the folder that toto-patch keeps for itself")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{path!r} is not valid UTF-8") from None
    return path


def check_package_path(path: str) -> str:
    """Returns a path that a file of a package, or a folder, may have.

    Raises:
        ValueError: as ``check_relative``; also where a part of it is hidden, holds bytecode, has a character that no
            terminal shows, or where the file is code that Python runs without its source.
    """
    parts = PurePosixPath(check_relative(path)).parts
    if not path.isprintable():
        raise ValueError(f"{path!r} has a character that no terminal shows")
    if any(part.startswith(".") for part in parts):
        raise ValueError(f"{path!r} is hidden, so it belongs to no package")
    if any(part in _NO_SOURCES for part in parts):
        raise ValueError(f"{path!r} lies where no source of the package lies")
    if PurePosixPath(path).suffix.lower() in CODE_WITHOUT_SOURCE:
        raise ValueError(f"{path!r} is no source file")
    return path


def compared_path(path: str) -> bool:
    """Whether a file of this name is recorded for comparison; it is never written."""
    try:
        return check_relative(path).isprintable() and "/." not in f"/{path}"
    except ValueError:
        return False


def package_path(name: str, value: object) -> None:
    """A path of a file or a folder of the package."""
    must(type(value) is str, name, "not a text")
    try:
        check_package_path(str(value))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def source_path(name: str, value: object) -> None:
    """A path of a Python source, which is all that patches change."""
    package_path(name, value)
    must(str(value).endswith(".py"), name, f"{value!r} is no Python source")


def moved_path(name: str, value: object) -> None:
    """A path of a file that a transaction moves: a Python source, or what vendor writes."""
    package_path(name, value)
    path = PurePosixPath(str(value))
    must(path.suffix == ".py" or is_vendored(path), name, f"{value!r} is neither a Python source nor of the package")


def is_vendored(path: PurePosixPath) -> bool:
    """Whether this is the place of a file that vendor writes: in the package, or a licence beside it."""
    return (path.parts[0] == PACKAGE and len(path.parts) > 1) or str(path) in LICENCE_FILES


def sha256(name: str, value: object, *, optional: bool = True) -> None:
    """A fingerprint, or nothing."""
    if value is not None or not optional:
        must(type(value) is str and SHA256.fullmatch(str(value)) is not None, name, "not a sha256")


def mode(name: str, value: object) -> None:
    """Permission bits; no set-user-id, set-group-id or sticky bit."""
    must(type(value) is int, name, "not permission bits")
    assert isinstance(value, int)
    must(0 <= value <= _MODE_BITS, name, "has bits that no source file needs")


def texts(name: str, value: object) -> tuple[str, ...]:
    """A tuple of texts."""
    must(isinstance(value, tuple) and all(type(each) is str for each in value), name, "not a list of texts")
    assert isinstance(value, tuple)
    return value


def patch_ids(name: str, value: object) -> None:
    """Ids of patches, each once."""
    ids = texts(name, value)
    must(all(_PATCH_ID.fullmatch(each) and len(each) < 100 for each in ids), name, "not the id of a patch")
    must(len(set(ids)) == len(ids), name, "a patch is listed twice")


def label(name: str, value: object) -> None:
    """A version or the name of a profile, or nothing."""
    must(value is None or (type(value) is str and _LABEL.fullmatch(value) is not None), name, "not a plain name")


def commit(name: str, value: object) -> None:
    """A git commit's full id, or nothing."""
    must(value is None or (type(value) is str and _COMMIT.fullmatch(value) is not None), name, "not a commit's id")


def moment(name: str, value: object) -> None:
    """A time, ISO 8601 with its zone; empty where it is not known."""
    must(type(value) is str and _MOMENT.fullmatch(value) is not None, name, "not a time")
