"""Which folder is the checkout: what somebody named, or what lies where it is expected. Reads only; knows no Toto."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toto_patcher.errors import NoCheckoutError, StorageError, UsageError


def find(explicit: Path | None) -> Path:
    """The checkout's folder as this process sees it: the argument, the environment, the configuration, where it runs.

    Raises:
        UsageError: there is none, or the one that is named is no folder.
    """
    return find_root(explicit, os.environ, starting_folder(explicit, os.environ))


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


def find_root(explicit: Path | None, environ: Mapping[str, str], cwd: Path) -> Path:
    """The checkout's folder: ``--root``, ``TOTO_PATCH_ROOT``, ``[tool.toto-patch] root`` of the nearest
    pyproject.toml, or ``vendor/toto`` at or above ``cwd``; the first that is given wins.

    Raises:
        UsageError: the one given is no folder.
        NoCheckoutError: none is given or found.
    """
    named = _named_root(explicit, environ, cwd)
    if named is not None:
        return _existing(*named)
    for folder in (cwd, *cwd.parents):
        if (folder / "vendor" / "toto").is_dir():
            return folder / "vendor" / "toto"
    raise NoCheckoutError(
        "no Toto checkout found",
        hint="Give it with --root DIR or TOTO_PATCH_ROOT, or fetch one with: toto-patch vendor",
    )


def wanted_root(explicit: Path | None, environ: Mapping[str, str], cwd: Path) -> Path:
    """Where a checkout is to be put: the folder that ``find_root`` would find, or else ``vendor/toto`` below ``cwd``.

    Raises:
        UsageError: the configuration cannot be read.
    """
    named = _named_root(explicit, environ, cwd)
    if named is not None:
        return Path(os.path.abspath(named[0]))  # noqa: PTH100 - resolve() would follow a symbolic link out of the root
    try:
        return find_root(None, {}, cwd)
    except UsageError:
        return cwd / "vendor" / "toto"


def _named_root(explicit: Path | None, environ: Mapping[str, str], cwd: Path) -> tuple[Path, str] | None:
    """The folder that somebody named, and where."""
    if explicit is not None:
        return explicit, "--root"
    if environ.get("TOTO_PATCH_ROOT"):
        return Path(environ["TOTO_PATCH_ROOT"]), "TOTO_PATCH_ROOT"
    config = _nearest(cwd)
    configured = None if config is None else _configured_root(config)
    return None if config is None or configured is None else (config.parent / configured, f"{_ROOT} in {config}")


_ROOT = "[tool.toto-patch] root"


def _nearest(cwd: Path) -> Path | None:
    files = (folder / "pyproject.toml" for folder in (cwd, *cwd.parents))
    return next((file for file in files if file.is_file()), None)


def table(name: str, cwd: Path) -> tuple[Path | None, dict[str, Any]]:
    """The nearest pyproject.toml, and what it says under ``[tool.toto-patch.NAME]``; empty where it says nothing.

    Raises:
        UsageError: it cannot be read, or that is no table.
    """
    config = _nearest(cwd)
    return config, ({} if config is None else _tables(config, ("tool", "toto-patch", name)))


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
