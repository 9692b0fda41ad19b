"""Which folder is the checkout: what somebody named, what lies where it is expected, or the only one there is."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from toto_patcher.errors import NoCheckoutError, StorageError, UsageError


def find(explicit: Path | None, *, below: bool = True) -> Path:
    """The checkout's folder as this process sees it: the argument, the environment, the configuration, where it runs.

    Args:
        explicit: the argument.
        below: also search below the current folder; not for who is about to run what is found.

    Raises:
        UsageError: there is none, or the one that is named is no folder.
    """
    return find_root(explicit, os.environ, starting_folder(explicit, os.environ), below=below)


def starting_folder(explicit: Path | None, environ: Mapping[str, str]) -> Path:
    """The current folder; where that was deleted, the file system's root for who is told an absolute folder anyway.

    Raises:
        UsageError: the current folder was deleted, and it is needed.
    """
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        if not (explicit or Path(environ.get("TOTO_PATCH_ROOT", ""))).is_absolute():
            hint = "Change to a folder that exists, or give an absolute one with --root DIR."
            raise UsageError("the current folder no longer exists", hint=hint) from error
    os.chdir(os.sep)
    return Path(os.sep)


def find_root(explicit: Path | None, environ: Mapping[str, str], cwd: Path, *, below: bool = True) -> Path:
    """The checkout's folder: ``--root``, ``TOTO_PATCH_ROOT``, ``[tool.toto-patch] root`` of the nearest
    pyproject.toml that has it, ``vendor/toto`` at or above ``cwd``, or the only vendored Toto below it; the first that
    is given wins.

    Raises:
        UsageError: the one given is no folder.
        NoCheckoutError: none is given or found, or several lie below.
    """
    found = _named_or_usual(explicit, environ, cwd)
    if found is not None:
        return found
    told = "no Toto checkout found: none is named, and there is no vendor/toto at or above this folder"
    if below:
        trees = _below(cwd)
        if trees is not None and len(trees) == 1:
            return trees[0]
        if trees:
            told += f"; below it there are several: {', '.join(str(folder.relative_to(cwd)) for folder in trees)}"
        else:
            told += f", and below it {'are more folders than are searched' if trees is None else 'is none either'}"
    raise NoCheckoutError(told, path=cwd, hint=_WAYS)


# How far below a folder a tree is looked for, and in how many folders: enough for a monorepo, too little for a disk.
_DEPTH = 5
_MOST = 5000
_NOT_SEARCHED = frozenset({"__pycache__", "site-packages", "dist-packages", "node_modules", "build", "dist"})
_SIGNS = frozenset({b"class KVCache", b"class TotoBackbone"})


def _below(cwd: Path) -> list[Path] | None:
    """The folders at or below this one that hold a package ``toto/`` of Toto 1.0; ``None`` if there are too many.

    Hidden folders, virtual environments, installed packages and links are passed over.
    """
    found, rest, seen = [], [(cwd, 0)], 0
    while rest:
        folder, depth = rest.pop(0)
        seen += 1
        if seen > _MOST:
            return None
        inside = _folders(folder)
        if any(one.name == "toto" and _is_toto(one) for one in inside):
            found.append(folder)
        if depth < _DEPTH:
            rest += [(one, depth + 1) for one in inside if not (folder in found and one.name == "toto")]
    return found


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            found = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []  # of somebody else
    plain = [one for one in found if not one.name.startswith(".") and one.name not in _NOT_SEARCHED]
    return sorted(one for one in plain if not (one / "pyvenv.cfg").exists())


def _is_toto(package: Path) -> bool:
    """Whether the sources of a package define the classes of Toto 1.0; only what looks like source is read."""
    missing, rest = set(_SIGNS), [(package, 0)]
    while rest and missing:
        folder, depth = rest.pop()
        for file in folder.glob("*.py"):
            with suppress(OSError):
                status = file.lstat()
                if stat.S_ISREG(status.st_mode) and status.st_size < 1 << 20:
                    data = file.read_bytes()
                    missing = {sign for sign in missing if sign not in data}
        if depth < _DEPTH:
            rest += [(one, depth + 1) for one in _folders(folder)]
    return not missing


_WAYS = (
    "Name the folder that holds the package toto/ with --root DIR, with TOTO_PATCH_ROOT, or in a pyproject.toml here "
    'or above: [tool.toto-patch], and below that: root = "DIR". Or fetch one into vendor/toto with: toto-patch vendor'
)


def _named_or_usual(explicit: Path | None, environ: Mapping[str, str], cwd: Path) -> Path | None:
    named = _named_root(explicit, environ, cwd)
    if named is not None:
        return _existing(*named)
    usual = (folder / "vendor" / "toto" for folder in (cwd, *cwd.parents))
    return next((folder for folder in usual if folder.is_dir()), None)


def wanted_root(explicit: Path | None, environ: Mapping[str, str], cwd: Path) -> Path:
    """Where a checkout is to be put: the folder that somebody named, else ``vendor/toto`` at, above or below ``cwd``.

    A Toto that merely lies below is somebody's; nothing is put in its place unasked.

    Raises:
        UsageError: the configuration cannot be read.
    """
    named = _named_root(explicit, environ, cwd)
    if named is not None:
        return Path(os.path.abspath(named[0]))  # noqa: PTH100 - resolve() would follow a symbolic link out of the root
    return _named_or_usual(None, {}, cwd) or cwd / "vendor" / "toto"


def _named_root(explicit: Path | None, environ: Mapping[str, str], cwd: Path) -> tuple[Path, str] | None:
    """The folder that somebody named, and where."""
    if explicit is not None:
        return explicit, "--root"
    if environ.get("TOTO_PATCH_ROOT"):
        return Path(environ["TOTO_PATCH_ROOT"]), "TOTO_PATCH_ROOT"
    for config in _configurations(cwd):
        configured = _configured_root(config)
        if configured is not None:
            return config.parent / configured, f"{_ROOT} in {config}"
    return None


_ROOT = "[tool.toto-patch] root"


def _configurations(cwd: Path) -> Iterator[Path]:
    """Every pyproject.toml at or above a folder that may hold settings of ours, the nearest first.

    The nearest is always one. In a monorepo a member has its own, and what is said above it holds for it too; of those
    above, the ones that never name us are passed over, so that a broken file of somebody else is no obstacle.
    """
    nearest = True
    for folder in (cwd, *cwd.parents):
        config = folder / "pyproject.toml"
        if config.is_file():
            if nearest or _names_us(config):
                yield config
            nearest = False


def _names_us(config: Path) -> bool:
    try:
        return b"toto-patch" in config.read_bytes()
    except OSError:
        return False


def table(name: str, cwd: Path) -> tuple[Path | None, dict[str, Any]]:
    """The nearest pyproject.toml with ``[tool.toto-patch.NAME]``, and what it says there; ``None`` where there is none.

    Raises:
        UsageError: it cannot be read, or that is no table.
    """
    for config in _configurations(cwd):
        found = _tables(config, ("tool", "toto-patch", name))
        if found:
            return config, found
    return None, {}


def _configured_root(config: Path) -> str | None:
    root = _tables(config, ("tool", "toto-patch")).get("root")
    if root is not None and (not isinstance(root, str) or not root or "\0" in root):
        raise UsageError("`root` of [tool.toto-patch] is not a folder's name", path=config, hint=_CONFIGURATION)
    return root


def _tables(config: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    found: Any = _load_toml(config)
    for key in keys:
        found = found.get(key, {})
        if not isinstance(found, dict):
            raise UsageError(f"`{key}` is not a table", path=config, hint=_CONFIGURATION)
    tables: dict[str, Any] = found
    return tables


_CONFIGURATION = 'It may say: [tool.toto-patch], and below that: root = "a folder, relative to this file".'


def _existing(root: Path, origin: str) -> Path:
    if not root.is_dir():
        raise UsageError(
            f"{origin} names a folder that does not exist: {root}", hint="Fetch one with: toto-patch vendor"
        )
    return Path(os.path.abspath(root))  # noqa: PTH100 - as above


def _load_toml(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        with path.open("rb") as stream:
            loaded: dict[str, Any] = tomllib.load(stream)
            return loaded
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(
            f"is not valid TOML: {error}", path=path, hint="Repair the file, or give --root DIR."
        ) from error
    except OSError as error:
        raise StorageError(f"cannot be read: {error.strerror}", path=path) from error
